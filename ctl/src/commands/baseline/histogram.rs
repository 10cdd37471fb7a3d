//! All calls by latency, as bars.

use genesis_client::v1::Sketch;

use crate::format;
use crate::render::{Cell, Part};

const COLUMNS: &[&str] = &["ABOVE", "UP TO", "CALLS", "SHARE", "", "HOLDS"];
/// So many rows at most.
const ROWS: usize = 24;
/// The width of the longest bar.
const WIDTH: u64 = 40;

/// A row for a few neighbouring buckets of the sketch. `quantiles`: which, and where, to be marked.
pub(super) fn part(title: String, sketch: &Sketch, quantiles: &[(f64, f64)]) -> Part {
    let rows = grouped(sketch);
    let all: u128 = rows.iter().map(|row| u128::from(row.calls)).sum();
    let most = rows.iter().map(|row| row.calls).max().unwrap_or_default();
    let cells = |row: &Row| {
        let held = quantiles.iter().filter(|(_, at)| *at > row.above && *at <= row.up_to);
        let held: Vec<_> = held.map(|(quantile, _)| format::quantile(*quantile)).collect();
        vec![
            Cell::number(format::seconds(row.above)),
            Cell::number(format::seconds(row.up_to)),
            Cell::number(format::count(row.calls)),
            Cell::number(format!("{:.2} %", 100.0 * row.calls as f64 / all.max(1) as f64)),
            Cell::from(bar(row.calls, most)),
            Cell::from(held.join(" ")),
        ]
    };
    Part { title, columns: COLUMNS, rows: rows.iter().map(cells).collect(), lines: Vec::new() }
}

/// Calls between two latencies, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    above: f64,
    up_to: f64,
    calls: u64,
}

/// Neighbouring buckets together, so that the rows are few, and all as wide on a logarithmic scale.
fn grouped(sketch: &Sketch) -> Vec<Row> {
    let zeros = (sketch.zeros > 0).then_some(Row { above: 0.0, up_to: 1e-9, calls: sketch.zeros });
    let populated = |count: &u64| *count != 0;
    let first = sketch.counts.iter().position(populated);
    let last = sketch.counts.iter().rposition(populated);
    let (Some(first), Some(last)) = (first, last) else { return zeros.into_iter().collect() };
    // What an agent sends wrongly is shown wrongly, and nothing worse.
    let exponent = f64::from(sketch.level.min(10)) - 6.0;
    let bound =
        |slot: usize| (((f64::from(sketch.offset) + slot as f64) - 1.0) * exponent.exp2()).exp2();
    let counts = &sketch.counts[first..=last];
    let size = counts.len().div_ceil(ROWS);
    let rows = counts.chunks(size).enumerate().map(|(index, counts)| {
        let from = first + index * size;
        Row {
            above: bound(from),
            up_to: bound(from + counts.len()),
            calls: counts.iter().fold(0, |sum, count| sum.saturating_add(*count)),
        }
    });
    zeros.into_iter().chain(rows).collect()
}

/// A bar in eighths of a character. What is not nothing is seen.
fn bar(calls: u64, most: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if calls == 0 {
        return String::new();
    }
    let eighths = (u128::from(calls) * u128::from(8 * WIDTH) / u128::from(most.max(1))).max(1);
    let (whole, rest) = ((eighths / 8) as usize, (eighths % 8) as usize);
    "█".repeat(whole) + EIGHTHS[rest]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_eighths_and_show_what_there_is() {
        assert_eq!(bar(0, 10), "");
        assert_eq!(bar(1, u64::MAX), "▏");
        assert_eq!(bar(10, 10), "█".repeat(40));
        assert_eq!(bar(3, 80), "█▌");
        assert_eq!(bar(u64::MAX, u64::MAX).chars().count(), 40);
    }

    #[test]
    fn buckets_are_grouped_without_losing_any() {
        let mut counts = vec![0, 0];
        counts.extend((0..100).map(|index| index % 7));
        let sketch = Sketch { offset: -64, zeros: 3, counts, ..Sketch::default() };
        let rows = grouped(&sketch);
        assert!(rows.len() <= ROWS + 1, "{}", rows.len());
        assert_eq!(
            rows.iter().map(|row| row.calls).sum::<u64>(),
            sketch.counts.iter().sum::<u64>() + 3
        );
        assert!(rows[1..].windows(2).all(|pair| pair[0].up_to == pair[1].above));
        // The first populated bucket, slot 3, is -61: up to 2^(-61/64) s.
        assert!((rows[1].above - 2f64.powf(-62.0 / 64.0)).abs() < 1e-12, "{:?}", rows[1]);
        assert_eq!(grouped(&Sketch::default()), []);
        let odd = Sketch {
            level: u32::MAX,
            offset: i32::MIN,
            counts: vec![1, u64::MAX, 1],
            ..Sketch::default()
        };
        assert_eq!(part(String::new(), &odd, &[(0.5, 1.0)]).rows.len(), 3);
    }
}
