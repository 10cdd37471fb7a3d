//! Where the columns of a table stand, in the room that there is.

use super::looks::width;
use super::section::{Section, TREND, short_time};

/// Between two columns.
const GAP: usize = 2;
/// The narrowest that a text is made by its column's rank: what always stays has room, and what is of little use none
/// that others need.
const NARROW: [usize; 4] = [22, 12, 12, 24];
/// The narrowest where that is not enough.
const NARROWEST: usize = 6;
/// The narrowest that the last column is made while others can make way.
const LAST: usize = 24;

/// A column where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: &'static str,
    /// Of the cells; `None`: the trend.
    pub(super) index: Option<usize>,
    pub(super) at: usize,
    pub(super) width: usize,
    pub(super) right: bool,
}

struct Column {
    name: &'static str,
    index: Option<usize>,
    rank: u8,
    width: usize,
    right: bool,
    /// It says nothing once it is cut: a number, a time.
    firm: bool,
}

impl Column {
    fn bearable(&self) -> usize {
        match self.firm {
            true => self.width,
            false => self.width.min(NARROW[usize::from(self.rank).min(NARROW.len() - 1)]),
        }
    }
}

/// The columns that fit into so many cells: those of the highest rank make way first, then the widest shrinks, and
/// the last one has what is left.
pub(super) fn places(section: &Section, room: usize) -> Vec<Place> {
    let most = if room < 100 { 28 } else { 44 };
    let mut columns: Vec<Column> = section
        .shown
        .iter()
        .filter_map(|(name, rank)| column(section, (name, *rank), (room, most)))
        .collect();
    while needed(&columns) > room {
        let Some(rank) = columns.iter().map(|one| one.rank).max().filter(|rank| *rank > 0) else {
            break;
        };
        // Of several, the rightmost.
        let Some(at) = columns.iter().rposition(|one| one.rank == rank) else { break };
        columns.remove(at);
    }
    shrink(&mut columns, room);
    let mut placed = Vec::with_capacity(columns.len());
    let mut at = 0;
    let last = columns.len().saturating_sub(1);
    for (number, Column { name, index, width, right, .. }) in columns.into_iter().enumerate() {
        if at >= room {
            break;
        }
        let left = room - at;
        let width = if number == last && !right { left } else { width.min(left) };
        placed.push(Place { name, index, at, width, right });
        at += width + GAP;
    }
    placed
}

/// By one cell at a time from the widest, what is still bearable before what is not; the last one first, since it gets
/// what is left.
fn shrink(columns: &mut [Column], room: usize) {
    if let (Some(last), over @ 1..) =
        (columns.len().checked_sub(1), total(columns).saturating_sub(room))
    {
        let last = &mut columns[last];
        if !last.firm {
            last.width = last.width.saturating_sub(over).max(last.width.min(LAST));
        }
    }
    for least in [Column::bearable as fn(&Column) -> usize, |_| NARROWEST] {
        while total(columns) > room {
            let loose = columns.iter_mut().filter(|one| !one.firm && one.width > least(one));
            match loose.max_by_key(|one| one.width) {
                Some(widest) => widest.width -= 1,
                None => break,
            }
        }
    }
}

fn column(
    section: &Section,
    (name, rank): (&'static str, u8),
    (room, most): (usize, usize),
) -> Option<Column> {
    if name == TREND {
        let width = room.div_ceil(5).clamp(12, 32);
        return Some(Column { name, index: None, rank, width, right: false, firm: true });
    }
    let index = section.index(name)?;
    let cells = || section.rows.iter().filter_map(|row| row.cells.get(index));
    let widest = cells().map(|cell| shown(cell.text())).max().unwrap_or(0);
    let right = cells().next().is_some_and(|cell| cell.is_number());
    // Who it is about is told before anything else.
    let named = name == "NODE";
    let most = if named { (room * 3 / 10).max(10) } else { most };
    let width = widest.min(most).max(width(name));
    let firm = named || right || cells().any(|cell| short_time(cell.text()).is_some());
    Some(Column { name, index: Some(index), rank, width, right, firm })
}

/// How wide a cell's text is drawn.
fn shown(text: &str) -> usize {
    short_time(text).map_or_else(|| width(text), |short| short.len())
}

fn total(columns: &[Column]) -> usize {
    let gaps = columns.len().saturating_sub(1) * GAP;
    columns.iter().map(|one| one.width).sum::<usize>() + gaps
}

/// As [`total`], with texts as narrow as is bearable.
fn needed(columns: &[Column]) -> usize {
    let last = columns.len().saturating_sub(1);
    let of = |(number, one): (usize, &Column)| match number == last && !one.firm {
        true => one.width.min(LAST),
        false => one.bearable(),
    };
    columns.iter().enumerate().map(of).sum::<usize>() + last * GAP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::health_dashboard::section::{More, Row};
    use crate::render::Cell;

    fn section() -> Section {
        let row = |check: &str, detail: &str| {
            let cells = vec![Cell::from(check), Cell::from(detail), Cell::number("12ms")];
            Row::new(check, cells, More::Nothing)
        };
        let rows =
            vec![row("disk:/", "7 % free of 20.0 GB, less than it should be"), row("m", "x")];
        let columns = (
            &["CHECK", "DETAIL", "TOOK"][..],
            &[("CHECK", 0), (TREND, 1), ("TOOK", 2), ("DETAIL", 0)][..],
        );
        Section::new("Checks", columns, rows, "none")
    }

    #[test]
    fn columns_make_way_by_rank_and_the_last_takes_the_rest() {
        let names = |room| places(&section(), room).iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(names(120), ["CHECK", "TREND", "TOOK", "DETAIL"]);
        assert_eq!(names(50), ["CHECK", "TREND", "DETAIL"]);
        assert_eq!(names(40), ["CHECK", "DETAIL"]);
        let wide = places(&section(), 120);
        assert!(wide[2].right && !wide[3].right);
        assert_eq!(wide[3].at + wide[3].width, 120);
        assert_eq!((wide[0].width, wide[1].at), (6, 8));
    }

    #[test]
    fn nothing_stands_outside() {
        for room in 0..150 {
            for place in places(&section(), room) {
                assert!(place.at + place.width <= room, "{room}: {place:?}");
            }
        }
    }
}
