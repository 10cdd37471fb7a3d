//! The blocks of days and hosts put together.

use std::collections::BTreeSet;
use std::fmt;

use super::block::{Block, MOST_SERIES};
use super::merge::{Placed, merge};

/// A block, and what it is of.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Who held the values.
    pub host: &'a str,
    /// The number of the day, or of whatever the blocks are of: spans of different numbers must not overlap in time.
    pub span: i64,
    /// The names of the block's series.
    pub series: &'a [String],
    /// The block.
    pub block: &'a Block,
}

/// Why parts can't be put together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WindowError {
    /// A host has two blocks of a span.
    PartTwice {
        /// The host.
        host: String,
        /// The span.
        span: i64,
    },
    /// A name stands for two series of a block.
    SeriesTwice {
        /// The name.
        series: String,
    },
    /// There are not as many names as the block has series.
    Names {
        /// The block's host.
        host: String,
        /// The block's span.
        span: i64,
    },
    /// There are more than 8,192 series or 2^32 - 1 rows.
    TooMany,
}

impl fmt::Display for WindowError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartTwice { host, span } => write!(to, "{host} has two blocks of span {span}"),
            Self::SeriesTwice { series } => write!(to, "{series} is named twice in a block"),
            Self::Names { host, span } => {
                write!(to, "the block of {host} and span {span} has not as many series as names")
            }
            Self::TooMany => write!(to, "there are more than 8192 series or 2^32 - 1 rows"),
        }
    }
}

impl std::error::Error for WindowError {}

/// What there is in a span of time, on all hosts.
///
/// This is the one way to merge blocks. A part says which host and span it is of, so that nothing is counted twice:
/// the same part again is an error, and of several hosts that hold both series of a pair in a span one gives all that
/// is known of the pair in it, the one with the most rows in common, at a tie the first by name. A pair whose series
/// no host holds together has no rows in common. Days that left the window are left out of the parts; they are never
/// subtracted.
///
/// The order of the parts does not count, to the bit.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    series: Vec<String>,
    block: Block,
}

impl Window {
    /// Of parts in any order, with the series of all of them by name. The block's shifts are the means of the series,
    /// which leave the most digits; sums are made with twice the digits and rounded once.
    pub fn of(parts: &[Part<'_>]) -> Result<Self, WindowError> {
        let mut parts = parts.to_vec();
        parts.sort_by_key(|part| (part.span, part.host));
        for pair in parts.windows(2) {
            if (pair[0].span, pair[0].host) == (pair[1].span, pair[1].host) {
                let Part { host, span, .. } = pair[1];
                return Err(WindowError::PartTwice { host: host.to_owned(), span });
            }
        }
        let names: BTreeSet<&String> = parts.iter().flat_map(|part| part.series).collect();
        let series: Vec<String> = names.into_iter().cloned().collect();
        if series.len() > MOST_SERIES {
            return Err(WindowError::TooMany);
        }
        let placed =
            parts.iter().map(|part| Placed::new(part, &series)).collect::<Result<Vec<_>, _>>()?;
        let spans: Vec<&[Placed<'_>]> =
            placed.chunk_by(|a, b| a.part.span == b.part.span).collect();
        let most = |span: &&[Placed<'_>]| {
            span.iter().map(|placed| u64::from(placed.part.block.rows)).max().unwrap_or(0)
        };
        let rows = u32::try_from(spans.iter().map(most).sum::<u64>());
        let rows = rows.map_err(|_| WindowError::TooMany)?;
        Ok(Self { block: merge(&spans, rows, series.len()), series })
    }

    /// The names of the series, in order.
    pub fn series(&self) -> &[String] {
        &self.series
    }

    /// What is known of them, in the order of the names.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// The names and the block.
    pub fn into_parts(self) -> (Vec<String>, Block) {
        (self.series, self.block)
    }
}
