//! Rows of raw columns, pure: what one commit has of several operations, one behind the other.

use genesis_stats::column;

/// A commit is cut into rows of at most about so many bytes, lest one is copied at each page that it grows by.
pub const ROW: usize = 256 << 10;

/// And of about so many observations, lest one that takes hardly any bytes fills the memory of whoever reads it.
pub const ROWS: usize = 200_000;

/// Appends what a commit has of an operation.
pub fn put(row: &mut Vec<u8>, operation: u32, chunks: &[u8]) {
    row.extend_from_slice(&operation.to_le_bytes());
    row.extend_from_slice(&u32::try_from(chunks.len()).unwrap_or(u32::MAX).to_le_bytes());
    row.extend_from_slice(chunks);
}

/// What a row has: operation and chunks. What is cut off is left out.
pub fn parts(mut row: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let (operation, rest) = row.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (chunks, rest) = rest.split_at_checked(length)?;
        row = rest;
        Some((u32::from_le_bytes(*operation), chunks))
    })
}

/// The greatest time of the chunks, in nanoseconds since 1970.
pub fn newest(chunks: &[u8]) -> Option<i64> {
    let spans = column::chunks(chunks).filter_map(|chunk| chunk.ok()?.span());
    spans.map(|(_, max)| max).max()
}

/// All rows of the chunks: times, and durations in nanoseconds. A chunk that can't be read is left out.
pub fn rows(chunks: &[u8], times: &mut Vec<i64>, nanos: &mut Vec<u64>) {
    for chunk in column::chunks(chunks) {
        if chunk.and_then(|chunk| chunk.decode_into(times, nanos)).is_err() {
            return;
        }
    }
}
