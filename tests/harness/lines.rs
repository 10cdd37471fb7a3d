//! Numbered lines whose content follows from their number, so that what comes back can be compared with
//! what was written without keeping it.

use std::fmt::Write as _;
use std::ops::Range;

use crate::random::mix;

/// A day that holds every numbered line.
pub const DAY: &str = "2024-03-01:2024-03-01";

/// Time between two lines.
const STEP_MICROS: u64 = 20;

/// Appends line `number`, its end included.
pub fn push(text: &mut String, number: u64) {
    let micros = number * STEP_MICROS;
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let noise = mix(number);
    // Longer and shorter ones, so that cuts fall anywhere in a member.
    let width = 8 + (noise % 48) as usize;
    let _ = writeln!(
        text,
        "2024-03-01T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z INFO line={number:010} id={noise:016x} {:->width$}",
        ">"
    );
}

/// The lines of these numbers.
pub fn text(numbers: Range<u64>) -> String {
    let mut text = String::new();
    for number in numbers {
        push(&mut text, number);
    }
    text
}

fn number_of(line: &str) -> Option<u64> {
    line.split_once("line=")?.1.get(..10)?.parse().ok()
}

/// Asserts that `got` is exactly these lines, once each and in order.
///
/// # Panics
/// With what is lost, doubled or out of order.
pub fn assert_exactly(got: &[u8], numbers: Range<u64>) {
    let wanted = text(numbers.clone());
    if got == wanted.as_bytes() {
        return;
    }
    let got = String::from_utf8_lossy(got);
    let mut times = std::collections::BTreeMap::<u64, u32>::new();
    let (mut disorder, mut foreign, mut last) = (Vec::new(), Vec::new(), None);
    for line in got.lines() {
        let mut expected = String::new();
        match number_of(line) {
            Some(number) => {
                push(&mut expected, number);
                if expected.trim_end() != line {
                    foreign.push(line.to_owned());
                }
                if last.is_some_and(|last| number <= last) {
                    disorder.push((last, number));
                }
                last = Some(number);
                *times.entry(number).or_default() += 1;
            }
            None => foreign.push(line.to_owned()),
        }
    }
    let lost: Vec<u64> = numbers.clone().filter(|number| !times.contains_key(number)).collect();
    let doubled: Vec<u64> =
        times.iter().filter(|(_, count)| **count > 1).map(|(number, _)| *number).collect();
    panic!(
        "{} bytes came back instead of {}: of lines {numbers:?} {} are lost (first {:?}), {} doubled \
         (first {:?}), {} out of order (first {:?}), {} are not as written (first {:?})",
        got.len(),
        wanted.len(),
        lost.len(),
        lost.first(),
        doubled.len(),
        doubled.first(),
        disorder.len(),
        disorder.first(),
        foreign.len(),
        foreign.first(),
    );
}
