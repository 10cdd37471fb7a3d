//! How a matrix is laid out in so many characters: as numbers, as squares, or in places that each are of several series.

use super::square::Square;

/// The widest that names may be.
const LONGEST_NAME: usize = 16;
/// The characters of a number, such as " -0.73".
const NUMBER: usize = 6;
/// A map with more rows scrolls away.
const MOST_SQUARES: usize = 48;
/// Two rows stand in a line.
const MOST_HALVES: usize = 96;

/// How a place of a map is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A number in so many characters, below the name of its column where all names fit, else below its number.
    Numbers { width: usize, named: bool },
    /// Two characters, which are about a square.
    Squares,
    /// Half a character: two rows in a line.
    Halves,
}

/// What is drawn, and how.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grid {
    pub(super) style: Style,
    /// A place is of so many series in each direction.
    pub(super) each: usize,
    /// The characters of a row's number and of its name.
    pub(super) number_width: usize,
    pub(super) name_width: usize,
    pub(super) places: usize,
}

impl Grid {
    /// Of a matrix with these names, in `width` characters.
    pub(super) fn of(names: &[String], width: usize, colour: bool) -> Self {
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        let size = names.len();
        let number_width = size.to_string().len();
        let name_width = longest.min(LONGEST_NAME.min(width / 4)).max(1);
        // Number, name, and a space behind each.
        let room = width.saturating_sub(number_width + name_width + 2).max(2);
        let whole = |style| Self { style, each: 1, number_width, name_width, places: size };
        let named = NUMBER.max(longest + 1);
        if size * named <= room {
            return whole(Style::Numbers { width: named, named: true });
        }
        if size * NUMBER <= room {
            return whole(Style::Numbers { width: NUMBER, named: false });
        }
        if size <= MOST_SQUARES.min(room / 2) {
            return whole(Style::Squares);
        }
        let (style, most) = match colour {
            true => (Style::Halves, MOST_HALVES.min(room)),
            false => (Style::Squares, MOST_SQUARES.min(room / 2)),
        };
        let each = size.div_ceil(most);
        Self { style, each, places: size.div_ceil(each), ..whole(style) }
    }

    /// The first series of a place.
    pub(super) fn first(&self, place: usize) -> usize {
        place * self.each
    }

    /// What a place shows: the mean of its pairs that have a value. Of a series with itself it is 1.
    pub(super) fn value(&self, square: &Square, row: usize, column: usize) -> Option<f64> {
        if self.each == 1 {
            return square.get(row, column);
        }
        let of = |place: usize| {
            let first = self.first(place);
            first..(first + self.each).min(square.size())
        };
        let (mut sum, mut count) = (0.0, 0_u32);
        for i in of(row) {
            for j in of(column).filter(|j| *j != i) {
                if let Some(value) = square.get(i, j) {
                    sum += value;
                    count += 1;
                }
            }
        }
        match count {
            // The last place may be of a single series.
            0 if row == column && of(row).len() == 1 => Some(1.0),
            0 => None,
            count => Some(sum / f64::from(count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize, width: usize) -> Vec<String> {
        (0..count).map(|number| format!("{number:0>width$}")).collect()
    }

    #[test]
    fn what_fits_is_shown_in_the_richest_way() {
        let grid = |count, longest, width, colour| {
            let grid = Grid::of(&names(count, longest), width, colour);
            (grid.style, grid.each, grid.places)
        };
        let numbers = |width, named| Style::Numbers { width, named };
        for (count, longest, width, colour, wanted) in [
            (4, 3, 80, true, (numbers(6, true), 1, 4)),
            (5, 9, 80, true, (numbers(10, true), 1, 5)),
            (10, 9, 80, false, (numbers(6, false), 1, 10)),
            (24, 9, 80, true, (Style::Squares, 1, 24)),
            (24, 9, 80, false, (Style::Squares, 1, 24)),
            (60, 9, 80, true, (Style::Halves, 1, 60)),
            (60, 9, 80, false, (Style::Squares, 2, 30)),
            (500, 9, 80, true, (Style::Halves, 8, 63)),
            (500, 9, 80, false, (Style::Squares, 16, 32)),
            (500, 9, 300, true, (Style::Halves, 6, 84)),
            (500, 64, 20, true, (Style::Halves, 50, 10)),
            (8_192, 64, 80, true, (Style::Halves, 142, 58)),
            (1, 64, 1, false, (Style::Squares, 1, 1)),
            (0, 1, 80, true, (numbers(6, true), 1, 0)),
        ] {
            assert_eq!(
                grid(count, longest, width, colour),
                wanted,
                "{count} {longest} {width} {colour}"
            );
        }
    }

    #[test]
    fn a_place_of_several_series_is_the_mean_of_their_pairs() {
        let names = names(5, 1);
        let value = |i: usize, j: usize| (10 * i + j) as f64 / 100.0;
        let mut upper: Vec<f64> =
            (0..5).flat_map(|i| (i + 1..5).map(move |j| value(i, j))).collect();
        // 2 and 3 have none.
        upper[7] = f64::NAN;
        let square = Square::of(names.clone(), upper).unwrap();
        let grid = Grid { each: 2, places: 3, ..Grid::of(&names, 80, true) };
        // (0, 1), both ways round.
        assert_eq!(grid.value(&square, 0, 0), Some(0.01));
        let mean = (value(0, 2) + value(0, 3) + value(1, 2) + value(1, 3)) / 4.0;
        assert!((grid.value(&square, 0, 1).unwrap() - mean).abs() < 1e-15);
        assert_eq!(grid.value(&square, 1, 0), grid.value(&square, 0, 1));
        assert_eq!(grid.value(&square, 1, 1), None);
        assert_eq!(grid.value(&square, 2, 2), Some(1.0), "a series with itself");
    }
}
