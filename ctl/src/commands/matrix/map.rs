//! A matrix as a picture: numbers where they fit, else a map in colours, or in tenths where there are none.

use super::grid::{Grid, Style};
use super::square::Square;
use crate::connect::Session;
use crate::format::{self, count};
use crate::render::{Cell, Part};

const PAIR_COLUMNS: &[&str] = &["ONE", "OTHER", "CORRELATION"];

/// From nothing to 1 in eighths: white to red, as terminals number their 256 colours.
const TOGETHER: [u8; 9] = [231, 224, 217, 210, 203, 196, 160, 124, 88];
/// From nothing to -1: white to blue, as bright at each step.
const AGAINST: [u8; 9] = [231, 189, 147, 105, 63, 21, 20, 19, 18];
/// A grey that is no step of either.
const NO_VALUE: u8 = 240;
const BLACK: u8 = 16;
const WHITE: u8 = 231;

/// What a picture is drawn on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Canvas {
    pub(super) width: usize,
    pub(super) colour: bool,
}

impl Canvas {
    pub(super) fn of(session: &Session<'_>) -> Self {
        session.console(|console| Self { width: console.width(), colour: console.colour() })
    }
}

/// The picture. `all`: the command that has all values.
pub(super) fn part(title: String, square: &Square, canvas: Canvas, all: &str) -> Part {
    let grid = Grid::of(square.names(), canvas.width, canvas.colour);
    let mut rows = Vec::new();
    rows.push(header(&grid, square));
    match grid.style {
        Style::Numbers { width, .. } => {
            rows.extend((0..grid.places).map(|row| {
                line(&grid, square, row, |column| number(grid.value(square, row, column), width))
            }));
        }
        Style::Squares => {
            rows.extend((0..grid.places).map(|row| {
                line(&grid, square, row, |column| {
                    let value = grid.value(square, row, column);
                    match canvas.colour {
                        true => Cell::shaded("  ", None, Some(shade(value))),
                        false => Cell::from(tenths(value, grid.each == 1 && row == column)),
                    }
                })
            }));
        }
        Style::Halves => {
            rows.extend((0..grid.places).step_by(2).map(|row| {
                line(&grid, square, row, |column| {
                    let of = |row| shade(grid.value(square, row, column));
                    let below = (row + 1 < grid.places).then(|| of(row + 1));
                    Cell::shaded("▀", Some(of(row)), below)
                })
            }));
        }
    }
    if canvas.colour {
        rows.push(legend());
    }
    Part { title, rows, lines: footer(&grid, square, canvas, all), ..Part::default() }
}

/// The pairs furthest from 0.
pub(super) fn pairs(title: String, square: &Square, most: u32) -> Part {
    let strongest = square.strongest();
    let row = |(one, other, value): &(&str, &str, f64)| {
        vec![Cell::from(*one), Cell::from(*other), Cell::number(format!("{value:+.4}"))]
    };
    let mut lines = summary(square);
    if strongest.len() > most as usize {
        let all = count(strongest.len() as u64);
        lines.push(format!("  the first {} of {all} pairs", count(u64::from(most))));
    }
    let rows = strongest.iter().take(most as usize).map(row).collect();
    Part { title, columns: PAIR_COLUMNS, rows, lines }
}

/// Such as "+0.97".
pub(super) fn signed(value: f64) -> String {
    // There is no -0.00.
    format!("{:+.2}", (100.0 * value).round() / 100.0 + 0.0)
}

fn number(value: Option<f64>, width: usize) -> Cell {
    let text = match value {
        Some(value) => format!("{:.2}", (100.0 * value).round() / 100.0 + 0.0),
        None => format::NONE.to_owned(),
    };
    Cell::shaded(format!("{text:>width$}"), Some(ink(value)), Some(shade(value)))
}

/// In two characters, without any colour.
fn tenths(value: Option<f64>, itself: bool) -> String {
    match value {
        _ if itself => " *".to_owned(),
        None => " ?".to_owned(),
        Some(value) => {
            // What is binary must not lose a tenth to rounding down.
            let tenths = (10.0 * value.abs() + 1e-9).min(9.0) as u8;
            match (tenths, value < 0.0) {
                (0, _) => " .".to_owned(),
                (tenths, true) => format!("-{tenths}"),
                (tenths, false) => format!(" {tenths}"),
            }
        }
    }
}

fn eighths(value: f64) -> usize {
    (8.0 * value.abs()).round().min(8.0) as usize
}

fn shade(value: Option<f64>) -> u8 {
    match value {
        None => NO_VALUE,
        Some(value) if value < 0.0 => AGAINST[eighths(value)],
        Some(value) => TOGETHER[eighths(value)],
    }
}

/// What is read well on the shade.
fn ink(value: Option<f64>) -> u8 {
    match value {
        Some(value) if eighths(value) < 4 => BLACK,
        _ => WHITE,
    }
}

/// A row: its number, its name, and a cell for each column.
fn line(grid: &Grid, square: &Square, row: usize, cell: impl Fn(usize) -> Cell) -> Vec<Cell> {
    let first = grid.first(row);
    let name = square.names().get(first).map(|name| format::excerpt(name, grid.name_width));
    let (name, number) = (name.unwrap_or_default(), first + 1);
    let label = format!("{number:>0$} {name:<1$} ", grid.number_width, grid.name_width);
    std::iter::once(Cell::from(label)).chain((0..grid.places).map(cell)).collect()
}

fn gutter(grid: &Grid) -> String {
    " ".repeat(grid.number_width + grid.name_width + 2)
}

/// What stands above the columns: names, or numbers as the rows have them.
fn header(grid: &Grid, square: &Square) -> Vec<Cell> {
    let mut text = gutter(grid);
    match grid.style {
        Style::Numbers { width, named: true } => {
            square.names().iter().for_each(|name| text += &format!("{name:>width$}"));
        }
        Style::Numbers { width, named: false } => {
            (1..=grid.places).for_each(|number| text += &format!("{number:>width$}"));
        }
        Style::Squares | Style::Halves => {
            let (width, step) = if grid.style == Style::Squares { (2, 5) } else { (1, 10) };
            let end = grid.places * width;
            for place in (0..grid.places).step_by(step) {
                let number = (grid.first(place) + 1).to_string();
                if place == 0 || place * width + number.len() <= end {
                    text += &format!("{number:<0$}", step * width);
                }
            }
        }
    }
    vec![Cell::from(text)]
}

fn legend() -> Vec<Cell> {
    let against = AGAINST.iter().skip(1).rev();
    let shades = against.chain(&TOGETHER).map(|shade| Cell::shaded(" ", None, Some(*shade)));
    let mut cells = vec![Cell::from("  -1 ")];
    cells.extend(shades);
    cells.push(Cell::from(" +1   "));
    cells.push(Cell::shaded("  ", None, Some(NO_VALUE)));
    cells.push(Cell::from(" no value"));
    cells
}

fn footer(grid: &Grid, square: &Square, canvas: Canvas, all: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let squares = grid.style == Style::Squares;
    if squares && !canvas.colour {
        lines.push(
            "  tenths: 9 is 0.9 and above, -3 is -0.3 to -0.4, . is within 0.1 of 0,".to_owned(),
        );
        let itself = if grid.each == 1 { "* a series with itself, " } else { "" };
        lines.push(format!("  {itself}? no value"));
    }
    if grid.style == Style::Halves {
        lines.push("  a line is two rows, named by the upper one".to_owned());
    }
    if grid.each > 1 {
        lines.push(format!(
            "  {} series don't fit {} characters: each place is the mean of up to {} x {} pairs,",
            count(square.size() as u64),
            canvas.width,
            grid.each,
            grid.each
        ));
        lines.push("  named by its first series".to_owned());
    }
    lines.extend(summary(square));
    if squares || grid.style == Style::Halves {
        lines.push(format!("  all values: {all}"));
        lines.push("  the strongest pairs: add --pairs".to_owned());
    }
    lines
}

/// What all pairs come to, in a line.
fn summary(square: &Square) -> Vec<String> {
    let pairs: Vec<_> = square.pairs().collect();
    let all = square.upper().len();
    let without = match all - pairs.len() {
        0 => String::new(),
        1 => ", 1 without a value".to_owned(),
        lacking => format!(", {} without a value", count(lacking as u64)),
    };
    let told = format!("  {}{without}", format::plural(all as u64, "pair"));
    let by_value = |a: &&(&str, &str, f64), b: &&(&str, &str, f64)| a.2.total_cmp(&b.2);
    // Of those that tie the first, either way.
    let (least, most) = (pairs.iter().min_by(by_value), pairs.iter().rev().max_by(by_value));
    let (Some(least), Some(most)) = (least, most) else { return vec![told] };
    let mean = pairs.iter().map(|pair| pair.2).sum::<f64>() / pairs.len() as f64;
    let named = |(one, other, value): &(&str, &str, f64)| {
        format!("{} of {one} and {other}", signed(*value))
    };
    vec![
        format!("{told}, {} on average", signed(mean)),
        format!("  from {} to {}", named(least), named(most)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_shade_ink_and_tenth() {
        for (value, back, fore, tenth) in [
            (Some(1.0), 88, WHITE, " 9"),
            (Some(0.9), 124, WHITE, " 9"),
            (Some(0.3), 217, BLACK, " 3"),
            (Some(0.04), 231, BLACK, " ."),
            (Some(-0.0), 231, BLACK, " ."),
            (Some(-0.05), 231, BLACK, " ."),
            (Some(-0.3), 147, BLACK, "-3"),
            (Some(-1.0), 18, WHITE, "-9"),
            (None, NO_VALUE, WHITE, " ?"),
        ] {
            assert_eq!((shade(value), ink(value)), (back, fore), "{value:?}");
            assert_eq!(tenths(value, false), tenth, "{value:?}");
        }
        assert_eq!(tenths(Some(1.0), true), " *");
        assert_eq!([0.971, -0.004, -0.3].map(signed), ["+0.97", "+0.00", "-0.30"]);
    }
}
