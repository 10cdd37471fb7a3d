//! Lines of bounded length.

use std::io::{self, BufRead};

/// The longest line that is read, in bytes without its end.
pub(super) const LONGEST: usize = 64 << 10;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end.
    Whole,
    /// One that is too long; the rest of it was skipped.
    TooLong,
    /// Nothing: there are no more.
    None,
}

/// Reads the next line into `line`, and how many bytes of the input it took.
pub(super) fn next(input: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<(Line, u64)> {
    line.clear();
    let (mut taken, mut too_long) = (0, false);
    loop {
        let data = match input.fill_buf() {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = data.iter().position(|byte| *byte == b'\n');
        let part = &data[..end.unwrap_or(data.len())];
        // One more may be the first half of a line's end.
        if line.len() + part.len() > LONGEST + 1 {
            too_long = true;
        } else if !too_long {
            line.extend_from_slice(part);
        }
        let (ended, used) =
            (data.is_empty() || end.is_some(), part.len() + usize::from(end.is_some()));
        input.consume(used);
        taken += used as u64;
        if !ended {
            continue;
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let read = match () {
            () if taken == 0 => Line::None,
            () if too_long || line.len() > LONGEST => Line::TooLong,
            () => Line::Whole,
        };
        return Ok((read, taken));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole_or_skipped_whatever_the_reads() {
        let long = "x".repeat(LONGEST);
        let text = format!("a\r\n\n{long}\r\n{long}y\n{long}{long}{long}\nlast");
        for capacity in [1, 7, 4_096, 1 << 20] {
            let mut input = io::BufReader::with_capacity(capacity, text.as_bytes());
            let (mut line, mut found, mut total) = (Vec::new(), Vec::new(), 0);
            loop {
                let (read, taken) = next(&mut input, &mut line).unwrap();
                total += taken;
                match read {
                    Line::Whole => found.push(line.len()),
                    Line::TooLong => found.push(usize::MAX),
                    Line::None => break,
                }
                assert!(line.capacity() < 4 * LONGEST);
            }
            assert_eq!(found, [1, 0, LONGEST, usize::MAX, usize::MAX, 4], "{capacity}");
            assert_eq!(total, text.len() as u64);
        }
    }
}
