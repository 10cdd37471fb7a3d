//! What this program makes of what is typed and of the lines of files, without an agent: for tests that give it any
//! bytes. It is meant for nobody else, and may be another thing in any version.

use std::io::BufReader;
use std::time::Duration;

use clap::Parser;
use genesis_client::v1::VerifyOplogResponse;
use jiff::Timestamp;

use super::experiment::parse;
pub use super::send_file::any::Read;
use super::{check_flags, export_file, observe, send_file, series, trades};
use crate::batches::Batches;
use crate::cli::Cli;
use crate::format;

/// What lines are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// `observe`.
    Observations,
    /// `trades push`.
    Trades,
    /// `series push`.
    Values,
}

/// Reads lines in pieces of so many bytes. `named`: there is a name for those that have none; `headed`: they are CSV, and
/// else JSON.
pub fn lines(of: Lines, (named, headed): (bool, bool), bytes: &[u8], piece: usize) -> Read {
    let name = named.then(|| "any".to_owned());
    match of {
        Lines::Observations => send_file::any::read(observe::lines(name), headed, bytes, piece),
        Lines::Trades => send_file::any::read(trades::lines(name), headed, bytes, piece),
        Lines::Values => send_file::any::read(series::lines(name), headed, bytes, piece),
    }
}

/// Whether these words, the program's name first, are a command; what is said where they are not.
///
/// # Errors
/// What is wrong with them.
pub fn command(words: &[String]) -> Result<(), String> {
    let cli = Cli::try_parse_from(words).map_err(|error| error.render().to_string())?;
    check_flags(&cli.command, &cli.global).map_err(|halt| halt.message().unwrap_or_default())
}

/// What a text is as an argument of each kind; nothing where it is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// The variant's share, in hundredths of a percent.
    pub split: Option<u32>,
    /// A parameter, and the value to try.
    pub trial: Option<(String, String)>,
    /// A parameter, and its value.
    pub assignment: Option<(String, String)>,
    /// A lift above 0.
    pub gain: Option<f64>,
    /// A lift below 0.
    pub loss: Option<f64>,
    /// An effect.
    pub effect: Option<f64>,
    /// A significance.
    pub alpha: Option<f64>,
    /// How many of a hundred nodes are called at a time.
    pub batches: Option<Vec<usize>>,
    /// How long something may take.
    pub timeout: Option<Duration>,
    /// When something was.
    pub instant: Option<Timestamp>,
}

/// Reads a text as an argument of each kind.
pub fn argument(text: &str) -> Argument {
    Argument {
        split: parse::split(text).ok().map(|split| split.0),
        trial: parse::trial(text).ok(),
        assignment: parse::assignment(text).ok(),
        gain: parse::gain(text).ok(),
        loss: parse::loss(text).ok(),
        effect: parse::effect(text).ok(),
        alpha: parse::alpha(text).ok(),
        batches: text.parse::<Batches>().ok().map(|batches| batches.sizes(100)),
        timeout: format::parse_timeout(text).ok(),
        instant: format::parse_instant(text).ok(),
    }
}

/// Hundredths of a percent, as people are shown them.
pub fn percent(basis_points: u32) -> String {
    parse::percent(basis_points)
}

/// Verifies an exported operation log, read in pieces of so many bytes; `None`: it can't be read at all.
pub fn exported(bytes: &[u8], piece: usize) -> Option<VerifyOplogResponse> {
    let mut lines = BufReader::with_capacity(piece.max(1), bytes);
    export_file::verify_lines(&mut lines, None).ok()
}
