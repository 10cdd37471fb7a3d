//! What comes of lines without an agent, for tests that give them any bytes.

use std::fmt::Debug;
use std::io::BufReader;

use genesis_client::push::Wire;

use super::Rows;
use super::lines::{self, Line};
use super::source::BOM;

/// What came of lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// Why the header can't be used, if there is to be one.
    pub unusable: Option<String>,
    /// How many lines are good.
    pub good: u64,
    /// Those that are not: their numbers, and why.
    pub bad: Vec<(u64, String)>,
    /// The columns that are sent, in words.
    pub columns: Vec<String>,
    /// How many rows they have.
    pub rows: u64,
}

/// Reads `bytes` in pieces of so many, as a file is read: `headed` ones begin with a header.
pub(in crate::commands) fn read<R: Rows>(
    mut rows: R,
    headed: bool,
    bytes: &[u8],
    piece: usize,
) -> Read
where
    <R::Wire as Wire>::Column: Debug,
{
    let mut input = BufReader::with_capacity(piece.max(1), bytes);
    let (mut line, mut found, mut number) = (Vec::new(), Read::default(), 0);
    // What is in memory is always read.
    while let Ok((what, _)) = lines::next(&mut input, &mut line) {
        if number == 0 && line.starts_with(BOM) {
            line.drain(..BOM.len());
        }
        number += 1;
        let text = std::str::from_utf8(&line).map_err(|_| "it is not UTF-8".to_owned());
        let taken = match what {
            Line::None if number == 1 && headed => Err("there is none".to_owned()),
            Line::None => break,
            Line::TooLong => Err("it is too long".to_owned()),
            Line::Whole if number == 1 && headed => text.and_then(|text| rows.header(text)),
            Line::Whole if line.iter().all(u8::is_ascii_whitespace) => continue,
            Line::Whole => text.and_then(|text| rows.take(text)),
        };
        match taken {
            Err(why) if number == 1 && headed => {
                found.unusable = Some(why);
                return found;
            }
            Err(why) => found.bad.push((number, why)),
            Ok(()) if number == 1 && headed => {}
            Ok(()) => found.good += 1,
        }
        if rows.full() {
            send(&mut rows, &mut found);
        }
    }
    send(&mut rows, &mut found);
    found
}

fn send<R: Rows>(rows: &mut R, found: &mut Read)
where
    <R::Wire as Wire>::Column: Debug,
{
    for column in rows.columns() {
        found.rows += <R::Wire as Wire>::rows(&column);
        found.columns.push(format!("{column:?}"));
    }
}
