//! How p went, look by look, as a small chart.

use genesis_client::v1::LookPoint;

use crate::format::{self, count, p_value};
use crate::render::Part;

/// In characters, each of which has two by four dots.
const WIDTH: usize = 60;
const HEIGHT: usize = 10;
const ACROSS: usize = 2 * WIDTH;
const DOWN: usize = 4 * HEIGHT;
/// What is smaller is drawn at the bottom.
const LEAST: f64 = 1e-12;
/// Of a dot in its character, by column and row.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// p on a logarithmic scale over the trades of the smaller arm, with a line at alpha; nothing without two looks.
pub(super) fn part(title: String, points: &[LookPoint], alpha: f64) -> Option<Part> {
    let (first, last) = (points.first()?, points.last()?);
    let (from, until) = (first.trades, last.trades);
    if points.len() < 2 || until <= from || !(alpha > LEAST && alpha < 1.0) {
        return None;
    }
    let usable = |p: f64| if p.is_finite() { p.clamp(LEAST, 1.0) } else { 1.0 };
    let least = points.iter().map(|point| usable(point.p_sequential)).fold(1.0, f64::min);
    // Room below the lowest, and below the line.
    let bottom = (least.min(alpha).log10() - 0.25).floor().min(-1.0);
    let row = |p: f64| {
        let share = usable(p).log10() / bottom;
        ((share * (DOWN - 1) as f64).round() as usize).min(DOWN - 1)
    };
    let column = |trades: u64| {
        let share = trades.saturating_sub(from) as f64 / (until - from) as f64;
        ((share * (ACROSS - 1) as f64).round() as usize).min(ACROSS - 1)
    };
    let mut dots = [[0_u8; WIDTH]; HEIGHT];
    let mut before: Option<(usize, usize)> = None;
    for point in points {
        let (x, y) = (column(point.trades), row(point.p_sequential));
        let (from_x, from_y) = before.unwrap_or((x, y));
        // As it was until this look, then to where it is.
        for x in from_x.min(x)..x {
            set(&mut dots, x, from_y);
        }
        for y in from_y.min(y)..=from_y.max(y) {
            set(&mut dots, x, y);
        }
        before = Some((x, y));
    }
    let line = row(alpha) / 4;
    let labels = |index: usize| match index {
        0 => "1".to_owned(),
        _ if index == line => format!("alpha {}", p_value(alpha)),
        _ if index == HEIGHT - 1 => format!("1e{bottom}"),
        _ => String::new(),
    };
    let mut lines: Vec<String> = dots
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let cells = row.iter().map(|dots| match *dots {
                0 if index == line => '╌',
                0 => ' ',
                dots => char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' '),
            });
            let drawn: String = cells.collect();
            format!("  {:>12} │{}", labels(index), drawn.trim_end())
        })
        .collect();
    let (left, right) = (count(from), format!("{} trades in the smaller arm", count(until)));
    let room = WIDTH.saturating_sub(left.len() + right.len());
    lines.push(format!("  {:>12} └{left}{}{right}", "", " ".repeat(room.max(1))));
    lines.push(format!(
        "  {} points, looks from {} to {}",
        count(points.len() as u64),
        format::time(first.at.as_ref()),
        format::time(last.at.as_ref())
    ));
    Some(Part { title, lines, ..Part::default() })
}

fn set(dots: &mut [[u8; WIDTH]; HEIGHT], x: usize, y: usize) {
    dots[y / 4][x / 2] |= DOTS[x % 2][y % 4];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(looks: &[(u64, f64)]) -> Vec<LookPoint> {
        let point = |(trades, p_sequential): &(u64, f64)| LookPoint {
            trades: *trades,
            p_sequential: *p_sequential,
            ..LookPoint::default()
        };
        looks.iter().map(point).collect()
    }

    #[test]
    fn a_curve_falls_through_the_line_at_alpha() {
        let looks = points(&[(100, 1.0), (200, 0.4), (300, 0.06), (400, 0.02), (500, 0.001)]);
        let part = part("x".into(), &looks, 0.05).unwrap();
        assert_eq!(part.lines.len(), HEIGHT + 2);
        let line = part.lines.iter().position(|line| line.contains("alpha 0.0500")).unwrap();
        assert!(part.lines[line].contains('╌'), "{:#?}", part.lines);
        assert!(part.lines[0].trim_start().starts_with("1 │⠉"), "{:#?}", part.lines);
        assert!(part.lines[HEIGHT - 1].contains("1e-4 │"), "{:#?}", part.lines);
        assert!(part.lines[HEIGHT].contains("└100") && part.lines[HEIGHT].contains("500 trades"));
        assert!(part.lines.iter().all(|line| line.chars().count() <= 18 + WIDTH));
        for few in [&[][..], &[(100, 0.5)], &[(100, 0.5), (100, 0.4)]] {
            assert!(super::part(String::new(), &points(few), 0.05).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_curve_panics(
            looks in prop::collection::vec((any::<u64>(), any::<f64>()), 0..60),
            alpha in any::<f64>(),
        ) {
            let _ = part(String::new(), &points(&looks), alpha);
            let _ = part(String::new(), &points(&looks), 0.05);
        }
    }
}
