//! The command line of `genesis-agent paper-venue`.

use std::path::PathBuf;

use clap::Args;

/// `genesis-agent paper-venue`.
#[derive(Debug, Args)]
#[command(
    after_help = "It needs no agent and touches none. docs/paper-venue.md has the book and the faults."
)]
pub struct PaperArgs {
    /// Where to listen: 127.0.0.1:PORT (0: any free one) or unix:/path. What it is reached by is printed once it listens
    #[arg(long, value_name = "ADDRESS")]
    pub listen: String,
    /// The file that the book is kept in
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    /// The book to begin with, where that file is not there yet
    #[arg(long, value_name = "FILE")]
    pub book: Option<PathBuf>,
    /// Faults, read anew at every call; the file may come and go
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
}
