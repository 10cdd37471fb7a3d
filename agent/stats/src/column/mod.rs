//! Columns of raw observations, compressed: when (nanoseconds since 1970) and how long (nanoseconds).
//!
//! A chunk stands for itself and knows its length, so that chunks are appended one behind the other. Times are kept
//! as the differences of successive ones. Durations are divided by the largest power of ten that divides them all, so
//! that those of a clock of microseconds cost no more than microseconds do, after ALP (Afroozeh and Boncz, "ALP:
//! Adaptive Lossless floating-Point Compression", PACMMOD 1, 2023). Both then go into blocks of bits, see `block`.
//!
//! ```text
//! chunk: 0xA0 + the power of ten | rows: varint | bytes that follow: varint | body
//! body:  least time: zigzag varint | greatest - least: varint | first - least: varint
//!        blocks of 512 differences of times, rows - 1 in all | blocks of 512 durations, rows in all
//! ```
//!
//! A chunk without rows has an empty body. There is no checksum: who stores chunks has one.

mod bits;
mod block;
mod decimal;

use std::fmt;

/// The most rows of a chunk. More go into several.
pub const MOST_ROWS: usize = 1 << 20;

/// The high bits of a chunk's first byte: what it is, and its version. The low ones are the power of ten.
const FORMAT: u8 = 0xA0;
/// The bits of the first byte that are [`FORMAT`].
const FORMAT_BITS: u8 = 0xE0;

/// What is wrong with columns, or with bytes that should be chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnError {
    /// There are not as many times as durations.
    Uneven {
        /// How many times.
        times: usize,
        /// How many durations.
        nanos: usize,
    },
    /// More than [`MOST_ROWS`] for one chunk.
    TooLong {
        /// How many.
        rows: usize,
    },
    /// The bytes are no chunk of this version.
    Foreign,
    /// The bytes end before the chunk does.
    Truncated,
    /// The chunk contradicts itself.
    Corrupt,
}

impl fmt::Display for ColumnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uneven { times, nanos } => write!(f, "{times} times for {nanos} durations"),
            Self::TooLong { rows } => write!(f, "{rows} rows, but a chunk has {MOST_ROWS} at most"),
            Self::Foreign => f.write_str("no chunk of columns of this version"),
            Self::Truncated => f.write_str("the chunk is cut off"),
            Self::Corrupt => f.write_str("the chunk contradicts itself"),
        }
    }
}

impl std::error::Error for ColumnError {}

/// Appends one chunk with these rows, in this order; any times and durations come back as they are.
///
/// Fails, and appends nothing, where there are not as many times as durations or more than [`MOST_ROWS`].
pub fn encode(times: &[i64], nanos: &[u64], out: &mut Vec<u8>) -> Result<(), ColumnError> {
    if times.len() != nanos.len() {
        return Err(ColumnError::Uneven { times: times.len(), nanos: nanos.len() });
    }
    if times.len() > MOST_ROWS {
        return Err(ColumnError::TooLong { rows: times.len() });
    }
    let power = decimal::Power::common(nanos);
    let mut body = Vec::with_capacity(times.len() * 7 + 64);
    if let (Some(first), Some(min), Some(max)) =
        (times.first(), times.iter().min(), times.iter().max())
    {
        bits::put(bits::zigzag(*min), &mut body);
        bits::put(max.abs_diff(*min), &mut body);
        bits::put(first.abs_diff(*min), &mut body);
        let mut values = [0; block::ROWS];
        for (from, to) in times.chunks(block::ROWS).zip(times[1..].chunks(block::ROWS)) {
            for ((value, from), to) in values.iter_mut().zip(from).zip(to) {
                *value = to.wrapping_sub(*from);
            }
            block::encode(&values[..to.len()], &mut body);
        }
        for nanos in nanos.chunks(block::ROWS) {
            for (value, nanos) in values.iter_mut().zip(nanos) {
                // As an i64, since that is what blocks are of: the bits are the same.
                *value = power.divide(*nanos) as i64;
            }
            block::encode(&values[..nanos.len()], &mut body);
        }
    }
    out.push(FORMAT | power.exponent());
    bits::put(times.len() as u64, out);
    bits::put(body.len() as u64, out);
    out.extend_from_slice(&body);
    Ok(())
}

/// The chunks of a buffer, one behind the other. After an error there are no more of them.
pub fn chunks(bytes: &[u8]) -> impl Iterator<Item = Result<Chunk<'_>, ColumnError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let chunk = Chunk::take(&mut rest);
        if chunk.is_err() {
            rest = &[];
        }
        Some(chunk)
    })
}

/// A chunk of which only the header has been read.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    rows: usize,
    power: decimal::Power,
    times: Option<Times>,
    blocks: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
struct Times {
    min: i64,
    max: i64,
    first: i64,
}

impl<'a> Chunk<'a> {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Its least and its greatest time, `None` without rows.
    pub fn span(&self) -> Option<(i64, i64)> {
        self.times.map(|times| (times.min, times.max))
    }

    /// Appends its rows to both columns. Where it fails, they are as they were.
    ///
    /// Makes room for at most 512 rows for every 4 bytes of the chunk.
    pub fn decode_into(
        &self,
        times: &mut Vec<i64>,
        nanos: &mut Vec<u64>,
    ) -> Result<(), ColumnError> {
        let before = (times.len(), nanos.len());
        let decoded = self.decode(times, nanos);
        if decoded.is_none() {
            times.truncate(before.0);
            nanos.truncate(before.1);
        }
        decoded.ok_or(ColumnError::Corrupt)
    }

    fn decode(&self, times: &mut Vec<i64>, nanos: &mut Vec<u64>) -> Option<()> {
        let Some(Times { min, max, first }) = self.times else { return Some(()) };
        times.reserve(self.rows);
        nanos.reserve(self.rows);
        let mut blocks = self.blocks;
        let mut above = [0; block::ROWS];
        let mut time = first;
        let (mut least, mut greatest) = (first, first);
        times.push(first);
        for rows in blocks_of(self.rows - 1) {
            let above = &mut above[..rows];
            let reference = block::decode(&mut blocks, above)?;
            times.extend(above.iter().map(|above| {
                time = time.wrapping_add(reference.wrapping_add_unsigned(*above));
                least = least.min(time);
                greatest = greatest.max(time);
                time
            }));
        }
        let mut most = 0;
        for rows in blocks_of(self.rows) {
            let above = &mut above[..rows];
            let reference = block::decode(&mut blocks, above)?;
            nanos.extend(above.iter().map(|above| {
                let value = reference.wrapping_add_unsigned(*above) as u64;
                most = most.max(value);
                self.power.multiply(value)
            }));
        }
        let agrees = (least, greatest) == (min, max) && most <= self.power.most();
        (blocks.is_empty() && agrees).then_some(())
    }

    /// Takes one off the front.
    fn take(bytes: &mut &'a [u8]) -> Result<Self, ColumnError> {
        let (format, rest) = bytes.split_first().ok_or(ColumnError::Truncated)?;
        let power = decimal::Power::new(format & !FORMAT_BITS).ok_or(ColumnError::Foreign)?;
        if format & FORMAT_BITS != FORMAT {
            return Err(ColumnError::Foreign);
        }
        *bytes = rest;
        let rows = bits::take(bytes).ok_or(ColumnError::Truncated)?;
        let length = bits::take(bytes).ok_or(ColumnError::Truncated)?;
        let rows = usize::try_from(rows).ok().filter(|rows| *rows <= MOST_ROWS);
        let rows = rows.ok_or(ColumnError::Corrupt)?;
        let length = usize::try_from(length).map_err(|_| ColumnError::Truncated)?;
        let (mut body, rest) = bytes.split_at_checked(length).ok_or(ColumnError::Truncated)?;
        *bytes = rest;
        let times = if rows == 0 { None } else { Some(Times::take(&mut body)?) };
        let blocks = blocks_of(rows).len() + blocks_of(rows.saturating_sub(1)).len();
        if body.len() < blocks * block::LEAST || (rows == 0 && !body.is_empty()) {
            return Err(ColumnError::Corrupt);
        }
        Ok(Self { rows, power, times, blocks: body })
    }
}

impl Times {
    fn take(bytes: &mut &[u8]) -> Result<Self, ColumnError> {
        let mut next = || bits::take(bytes).ok_or(ColumnError::Corrupt);
        let min = bits::unzigzag(next()?);
        let mut later = || min.checked_add_unsigned(next()?).ok_or(ColumnError::Corrupt);
        Ok(Self { min, max: later()?, first: later()? })
    }
}

/// The lengths of the blocks that so many values have.
fn blocks_of(values: usize) -> impl ExactSizeIterator<Item = usize> {
    (0..values.div_ceil(block::ROWS))
        .map(move |block| (values - block * block::ROWS).min(block::ROWS))
}

/// Seconds in whole nanoseconds, the nearest. What is negative or no number is 0, what is too much is `u64::MAX`.
pub fn nanos_of(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

#[cfg(test)]
mod tests;
