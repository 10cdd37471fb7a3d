//! The sums over rows that a block consists of, panel by panel.
//!
//! C = Z'Z is a matrix product of which one triangle is made, with what is missing as 0: tiles of 3 x 12 sums in
//! registers over rows that lie packed, as in Goto and van de Geijn, "Anatomy of High-Performance Matrix
//! Multiplication" (ACM TOMS 34, 2008). S = Z'M and Q = (Z.Z)'M would be two more, and full ones. Instead the sums of
//! 2, 4, .. 64 consecutive rows are made once, and those of 8 and 16 rows but one, and what a series has values in is
//! put together of these: with 5 % of the values missing that takes some 5 additions where 61 rows of 64 are there.
//! Sums of all rows less those of the gaps would be as few, but a value that a pair does not have in common would take
//! digits from its result.
//!
//! The result for a pair depends on its two series alone, to the bit: not on which others there are, their order, or
//! the CPU.

use std::ops::Range;

use super::mask::{self, Masks, ROWS};
use super::triangle::pairs;
use super::wide::{Kernel, dispatch};

/// Series that are packed together, three registers of AVX2.
pub(super) const WIDE: usize = 12;
/// Of them, the sums of so many are made at a time: 3 x 12 leave registers for what they are made of.
const TALL: usize = 3;
/// The rows, the sums of 2, 4, .. of them, and zeros; then those of 8 and 16 but one.
const NODES: usize = 4 * ROWS;
const ZEROS: u8 = 2 * ROWS as u8 - 1;
/// Products that are added up one after the other. Rounding grows with the root of it.
const CHAIN: usize = 32;
/// Panels that are added up one after the other.
const CHAPTER: usize = 32;

/// A number for each of [`WIDE`] series.
type Lane = [f64; WIDE];

/// What is added up. A strip is [`WIDE`] series that stand side by side, the last one filled up with zeros.
pub(super) struct Sums {
    series: usize,
    strips: usize,
    /// For each pair of strips a <= b: the products of a series of a with all of b.
    c: Vec<[Lane; WIDE]>,
    /// For each strip and pattern: the sums of its series over the rows of the pattern.
    s: Vec<Lane>,
    /// Those of the squares.
    q: Vec<Lane>,
}

impl Sums {
    fn new(series: usize, patterns: usize) -> Self {
        let strips = series.div_ceil(WIDE);
        Self {
            series,
            strips,
            c: vec![[[0.0; WIDE]; WIDE]; strips * (strips + 1) / 2],
            s: vec![[0.0; WIDE]; strips * patterns],
            q: vec![[0.0; WIDE]; strips * patterns],
        }
    }

    /// Of columns less their shifts. Patterns are given by a series that has them.
    pub(super) fn of(columns: &[&[f64]], shifts: &[f64], masks: &Masks, firsts: &[usize]) -> Self {
        let rows = columns.first().map_or(0, |column| column.len());
        let panels = rows.div_ceil(ROWS);
        let mut whole = Self::new(columns.len(), firsts.len());
        let mut rooms = Rooms::new(whole.strips, panels.min(CHAPTER));
        let mut part = (panels > CHAPTER).then(|| Self::new(columns.len(), firsts.len()));
        for from in (0..panels).step_by(CHAPTER) {
            let here = from..panels.min(from + CHAPTER);
            rooms.lists.fill(here.clone(), masks, firsts);
            let into = part.as_mut().unwrap_or(&mut whole);
            let rows = from * ROWS..rows.min(here.end * ROWS);
            dispatch(Chapter { columns, shifts, rows, rooms: &mut rooms, into });
            if let Some(part) = &mut part {
                whole.take(part);
            }
        }
        whole
    }

    /// Adds another's sums, and leaves zeros there.
    fn take(&mut self, other: &mut Self) {
        let c = self.c.as_flattened_mut().iter_mut().zip(other.c.as_flattened_mut());
        let s = self.s.iter_mut().zip(&mut other.s);
        let q = self.q.iter_mut().zip(&mut other.q);
        for (into, from) in c.chain(s).chain(q) {
            for (into, from) in into.iter_mut().zip(from) {
                *into += std::mem::take(from);
            }
        }
    }

    /// Sum z_i z_j over the rows that both have, of the pairs i < j, row by row.
    pub(super) fn products(&self) -> Vec<f64> {
        let mut products = Vec::with_capacity(pairs(self.series));
        for i in 0..self.series {
            let (strip, from) = (i / WIDE, i % WIDE + 1);
            let tiles = &self.c[first_tile(self.strips, strip)..][..self.strips - strip];
            let row = tiles.iter().flat_map(|tile| &tile[i % WIDE]);
            products.extend(row.skip(from).take(self.series - i - 1));
        }
        products
    }

    /// For each pattern: sum z_i over its rows for each series, and sum z_i^2.
    pub(super) fn by_pattern(&self) -> (Vec<f64>, Vec<f64>) {
        let patterns = self.s.len() / self.strips.max(1);
        let by_series = |sums: &[Lane]| {
            let mut all = Vec::with_capacity(patterns * self.series);
            for pattern in 0..patterns {
                for (strip, sums) in sums.chunks(patterns).enumerate() {
                    // The last strip may be wider than there are series.
                    let width = WIDE.min(self.series - strip * WIDE);
                    all.extend_from_slice(&sums[pattern][..width]);
                }
            }
            all
        };
        (by_series(&self.s), by_series(&self.q))
    }
}

/// Where the pairs of strip a begin.
#[inline(always)]
fn first_tile(strips: usize, a: usize) -> usize {
    a * (2 * strips - a + 1) / 2
}

/// The values of a strip in some rows, and their squares.
type Node = [Lane; 2];

/// Room for what a chapter is packed into.
struct Rooms {
    /// For each panel and strip its rows.
    rows: Vec<[Lane; ROWS]>,
    /// Of one strip the rows, and the sums of 2, 4, .. 64 of them.
    nodes: Box<[Node; NODES]>,
    lists: Lists,
}

impl Rooms {
    fn new(strips: usize, panels: usize) -> Self {
        Self {
            rows: vec![[[0.0; WIDE]; ROWS]; strips * panels],
            nodes: Box::new([[[0.0; WIDE]; 2]; NODES]),
            lists: Lists::default(),
        }
    }
}

/// For each panel and pattern the nodes that cover its rows. In each panel the shortest come first: a CPU guesses right
/// how often a loop is run that is run as often as before.
#[derive(Default)]
struct Lists {
    nodes: Vec<u8>,
    /// A pattern, and how many nodes it has.
    items: Vec<(u32, u32)>,
    /// Of one panel, before it is in order.
    covers: Vec<([u8; ROWS], usize)>,
}

impl Lists {
    fn fill(&mut self, panels: Range<usize>, masks: &Masks, firsts: &[usize]) {
        self.nodes.clear();
        self.items.clear();
        self.covers.resize(firsts.len(), ([0; ROWS], 0));
        for panel in panels {
            let mut places = [0_usize; ROWS + 1];
            for ((nodes, length), first) in self.covers.iter_mut().zip(firsts) {
                *length = 0;
                mask::cover(masks.series(*first)[panel], |node| {
                    nodes[*length % ROWS] = node;
                    *length += 1;
                });
                places[*length % ROWS] += 1;
            }
            let start = self.items.len();
            self.items.resize(start + firsts.len(), (0, 0));
            let mut next = start;
            for place in &mut places {
                next += std::mem::replace(place, next);
            }
            for (pattern, (_, length)) in (0..).zip(&self.covers) {
                let place = &mut places[*length];
                self.items[*place] = (pattern, *length as u32);
                *place += 1;
            }
            for (pattern, length) in &self.items[start..] {
                let (nodes, _) = &self.covers[*pattern as usize];
                self.nodes.extend_from_slice(&nodes[..*length as usize]);
            }
        }
    }
}

/// The sums of some rows, at most [`CHAPTER`] panels of them.
struct Chapter<'a> {
    columns: &'a [&'a [f64]],
    shifts: &'a [f64],
    rows: Range<usize>,
    rooms: &'a mut Rooms,
    into: &'a mut Sums,
}

impl Kernel for Chapter<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { columns, shifts, rows: here, rooms, into } = self;
        let (strips, patterns) = (into.strips, into.s.len() / into.strips.max(1));
        let Rooms { rows, nodes, lists } = rooms;
        // One strip after the other, so that its sums stay in the cache.
        for strip in 0..strips {
            let first = strip * WIDE;
            let end = (first + WIDE).min(columns.len());
            let (columns, shifts) = (&columns[first..end], &shifts[first..end]);
            let sums = strip * patterns..(strip + 1) * patterns;
            let (s, q) = (&mut into.s[sums.clone()], &mut into.q[sums]);
            let mut from = 0;
            for (panel, start) in here.clone().step_by(ROWS).enumerate() {
                let rows = &mut rows[panel * strips + strip];
                pack(columns, shifts, start..here.end.min(start + ROWS), rows);
                grow(rows, nodes);
                for (pattern, length) in &lists.items[panel * patterns..(panel + 1) * patterns] {
                    let (at, end) = (*pattern as usize, from + *length as usize);
                    add(nodes, &lists.nodes[from..end], &mut s[at], &mut q[at]);
                    from = end;
                }
            }
        }
        // One panel after the other, so that its rows do.
        for (panel, start) in here.clone().step_by(ROWS).enumerate() {
            let height = ROWS.min(here.end - start);
            let rows = &rows[panel * strips..(panel + 1) * strips];
            for (a, left) in rows.iter().enumerate() {
                let from = first_tile(strips, a);
                for (right, tile) in rows[a..].iter().zip(&mut into.c[from..]) {
                    let (left, right) = (&left[..height], &right[..height]);
                    self::tile(left, right, tile);
                }
            }
        }
    }
}

/// The values `here`, at most [`ROWS`], of a strip less their shifts, 0 where there is none. What is in the rows behind
/// them is of no account: no mask has them, and products stop before.
#[inline(always)]
fn pack(columns: &[&[f64]], shifts: &[f64], here: Range<usize>, rows: &mut [Lane; ROWS]) {
    const SIDE: usize = 4;
    // All bits or none: a branch would be guessed wrong at each gap.
    let packed = |value: f64, shift: f64| {
        let there = u64::from(mask::is_there(value)).wrapping_neg();
        f64::from_bits((value - shift).to_bits() & there)
    };
    let (fours, rest) = columns.as_chunks::<SIDE>();
    let whole = here.len() - here.len() % SIDE;
    for (at, (four, shifts)) in fours.iter().zip(shifts.as_chunks::<SIDE>().0).enumerate() {
        let four = four.map(|column| column[here.clone()].as_chunks::<SIDE>().0);
        for (block, rows) in rows.as_chunks_mut::<SIDE>().0[..whole / SIDE].iter_mut().enumerate() {
            // A square, read by columns and written by rows.
            let square: [[f64; SIDE]; SIDE] =
                std::array::from_fn(|i| four[i][block].map(|value| packed(value, shifts[i])));
            for (row, into) in rows.iter_mut().enumerate() {
                for i in 0..SIDE {
                    into[at * SIDE + i] = square[i][row];
                }
            }
        }
    }
    let narrow = columns.len() - rest.len();
    for (lane, (column, shift)) in columns.iter().zip(shifts).enumerate() {
        let from = if lane < narrow { whole } else { 0 };
        for (row, value) in rows[from..].iter_mut().zip(&column[here.clone()][from..]) {
            row[lane] = packed(*value, *shift);
        }
    }
}

#[inline(always)]
fn grow(rows: &[Lane; ROWS], nodes: &mut [Node; NODES]) {
    for (node, row) in nodes.iter_mut().zip(rows) {
        for lane in 0..WIDE {
            node[0][lane] = row[lane];
            node[1][lane] = row[lane] * row[lane];
        }
    }
    // Node n has below it the two from 2 (n - 64) on: the rows of the first level, and then the level below.
    for node in ROWS..usize::from(ZEROS) {
        let (below, above) = nodes.split_at_mut(node);
        let [left, right] = [below[2 * (node - ROWS)], below[2 * (node - ROWS) + 1]];
        for (above, (left, right)) in above[0].iter_mut().zip(left.iter().zip(&right)) {
            for lane in 0..WIDE {
                above[lane] = left[lane] + right[lane];
            }
        }
    }
    let (known, but) = nodes.split_at_mut(usize::from(mask::BUT_8));
    let (but_8, but_16) = but.split_at_mut(ROWS);
    for (row, (but_8, but_16)) in but_8.iter_mut().zip(but_16).enumerate() {
        // The other one of its two, four, ..
        let beside = |level: usize, first: usize| &known[first + ((row >> level) ^ 1)];
        let (one, two, four, eight) = (beside(0, 0), beside(1, 64), beside(2, 96), beside(3, 112));
        for half in 0..2 {
            for lane in 0..WIDE {
                let eight_but = one[half][lane] + two[half][lane] + four[half][lane];
                but_8[half][lane] = eight_but;
                but_16[half][lane] = eight_but + eight[half][lane];
            }
        }
    }
}

/// Adds up the nodes.
#[inline(always)]
fn add(nodes: &[Node; NODES], list: &[u8], s: &mut Lane, q: &mut Lane) {
    // By twos, so that one addition needn't wait for another.
    let mut sums = [[[0.0; WIDE]; 2]; 2];
    let (pairs, rest) = list.as_chunks::<2>();
    for pair in pairs {
        for (sums, node) in sums.iter_mut().zip(pair) {
            let node = &nodes[usize::from(*node)];
            for lane in 0..WIDE {
                sums[0][lane] += node[0][lane];
                sums[1][lane] += node[1][lane];
            }
        }
    }
    if let [last] = rest {
        let node = &nodes[usize::from(*last)];
        for lane in 0..WIDE {
            sums[0][0][lane] += node[0][lane];
            sums[0][1][lane] += node[1][lane];
        }
    }
    let [first, second] = sums;
    for lane in 0..WIDE {
        s[lane] += first[0][lane] + second[0][lane];
        q[lane] += first[1][lane] + second[1][lane];
    }
}

/// Adds the products of all series of the left with all of the right.
#[inline(always)]
pub(super) fn tile(left: &[[f64; WIDE]], right: &[[f64; WIDE]], tile: &mut [[f64; WIDE]; WIDE]) {
    products::<0>(left, right, tile);
    products::<3>(left, right, tile);
    products::<6>(left, right, tile);
    products::<9>(left, right, tile);
}

/// The products of [`TALL`] series of the left from `FROM` on with those of the right.
#[inline(always)]
fn products<const FROM: usize>(left: &[Lane], right: &[Lane], tile: &mut [Lane; WIDE]) {
    let mut sums = [[0.0; WIDE]; TALL];
    for (left, right) in left.chunks(CHAIN).zip(right.chunks(CHAIN)) {
        let mut chain = [[0.0; WIDE]; TALL];
        for (left, right) in left.iter().zip(right) {
            for i in 0..TALL {
                for j in 0..WIDE {
                    chain[i][j] = left[FROM + i].mul_add(right[j], chain[i][j]);
                }
            }
        }
        for i in 0..TALL {
            for j in 0..WIDE {
                sums[i][j] += chain[i][j];
            }
        }
    }
    for i in 0..TALL {
        for j in 0..WIDE {
            tile[FROM + i][j] += sums[i][j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a CPU without AVX2 and FMA would come to.
    #[test]
    fn the_least_of_cpus_has_the_same_bits() {
        let value = |i: usize, row: usize| ((i * 7_919 + row * 104_729) as f64).sin();
        let gone = |i: usize, row: usize| (i * 31 + row * 17).is_multiple_of(19);
        let of = |i: usize, row: usize| if gone(i, row) { f64::NAN } else { value(i, row) };
        let columns: Vec<Vec<f64>> =
            (0..14).map(|i| (0..150).map(|row| of(i, row)).collect()).collect();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let (shifts, masks) = ([0.1; 14], Masks::of(&columns, 150));
        let (_, firsts) = masks.patterns(14);
        let fast = Sums::of(&columns, &shifts, &masks, &firsts);
        let mut plain = Sums::new(14, firsts.len());
        let mut rooms = Rooms::new(plain.strips, 3);
        rooms.lists.fill(0..3, &masks, &firsts);
        let (columns, shifts, rooms) = (&columns[..], &shifts[..], &mut rooms);
        Chapter { columns, shifts, rows: 0..150, rooms, into: &mut plain }.run();
        assert_eq!(plain.products(), fast.products());
        assert_eq!(plain.by_pattern(), fast.by_pattern());
    }
}
