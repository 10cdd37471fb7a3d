//! The sums of several blocks.

use std::collections::BTreeMap;

use super::block::{Block, Constant};
use super::dd::Dd;
use super::mask;
use super::rebase;
use super::triangle::Triangle;
use super::wide::{Kernel, dispatch};
use super::window::{Part, WindowError};

/// A part with its series among all of them.
pub(super) struct Placed<'a> {
    pub(super) part: Part<'a>,
    /// Where the series of the window are in the block.
    places: Vec<Option<usize>>,
}

impl<'a> Placed<'a> {
    pub(super) fn new(part: &Part<'a>, series: &[String]) -> Result<Self, WindowError> {
        if part.series.len() != part.block.series() {
            let Part { host, span, .. } = *part;
            return Err(WindowError::Names { host: host.to_owned(), span });
        }
        let mut places = vec![None; series.len()];
        for (place, name) in part.series.iter().enumerate() {
            // All names of all parts are there.
            let at = series.binary_search(name).unwrap_or_default();
            if places[at].replace(place).is_some() {
                return Err(WindowError::SeriesTwice { series: name.clone() });
            }
        }
        Ok(Self { part: *part, places })
    }

    /// How far the shift of each series of the window is below the block's.
    fn moves(&self, shifts: &[f64]) -> Vec<Dd> {
        let of = |(place, shift): (&Option<usize>, &f64)| match place {
            Some(place) => Dd::difference(self.part.block.shifts[*place], *shift),
            None => Dd::default(),
        };
        self.places.iter().zip(shifts).map(of).collect()
    }

    /// Where both are in the block.
    #[inline(always)]
    fn pair(&self, i: usize, j: usize) -> Option<(usize, usize)> {
        Some((self.places[i]?, self.places[j]?))
    }
}

/// Which series have the same pattern in each part, numbered as they appear, and the first of each kind.
fn classes(parts: impl Iterator<Item = Vec<Option<u32>>>, series: usize) -> (Vec<u32>, Vec<usize>) {
    let mut classes = vec![0; series];
    let mut firsts = Vec::new();
    let mut refine = |patterns: &dyn Fn(usize) -> Option<u32>| {
        let mut known = BTreeMap::new();
        firsts.clear();
        for (i, class) in classes.iter_mut().enumerate() {
            *class = *known.entry((*class, patterns(i))).or_insert_with(|| {
                firsts.push(i);
                firsts.len() as u32 - 1
            });
        }
    };
    refine(&|_| None);
    parts.for_each(|patterns| refine(&|i| patterns[i]));
    (classes, firsts)
}

/// What values a series has in the rows of a pattern.
#[derive(Clone, Copy)]
enum Values {
    Nothing,
    Only(f64),
    Several,
}

impl Values {
    /// With more rows, in which there may be one value only.
    fn and(self, only: Option<f64>) -> Self {
        match (self, only) {
            (Self::Nothing, Some(value)) => Self::Only(value),
            (Self::Only(old), Some(value)) if old == value => self,
            _ => Self::Several,
        }
    }
}

/// The part of a span that counts for a pair.
#[inline(always)]
fn holder<'a>(span: &'a [Placed<'a>], i: usize, j: usize) -> Option<(usize, (usize, usize))> {
    if let [placed] = span {
        return Some((0, placed.pair(i, j)?));
    }
    let mut best: Option<(usize, (usize, usize), u32)> = None;
    for (part, placed) in span.iter().enumerate() {
        if let Some((a, b)) = placed.pair(i, j) {
            let points = placed.part.block.points(a, b);
            if best.is_none_or(|(.., most)| points > most) {
                best = Some((part, (a, b), points));
            }
        }
    }
    best.map(|(part, pair, _)| (part, pair))
}

/// What spans have together, each of them with its parts in the order of the hosts.
pub(super) fn merge(spans: &[&[Placed<'_>]], rows: u32, series: usize) -> Block {
    let parts = || spans.iter().flat_map(|span| span.iter());
    let patterns = parts().map(|placed| {
        let pattern = |place: usize| placed.part.block.patterns[place];
        placed.places.iter().map(|place| place.map(pattern)).collect()
    });
    let (classes, firsts) = classes(patterns, series);
    // The first shift of each series; the others are the same as a rule.
    let origin = |i: usize| parts().find_map(|it| Some(it.part.block.shifts[it.places[i]?]));
    let origins: Vec<f64> = (0..series).map(|i| origin(i).unwrap_or(0.0)).collect();
    let mut sums = Sums {
        own: vec![0; firsts.len()],
        both: Triangle::new(firsts.len(), 0),
        s: vec![Dd::default(); firsts.len() * series],
        q: vec![Dd::default(); firsts.len() * series],
        c: Triangle::new(series, Dd::default()),
        values: vec![Values::Nothing; firsts.len() * series],
    };
    for span in spans {
        sums.count(span, &firsts);
        let moves = span.iter().map(|placed| placed.moves(&origins)).collect();
        dispatch(Add { span, firsts: &firsts, moves, sums: &mut sums });
    }
    dispatch(Finish { sums, origins, classes, rows })
}

/// About the first shifts, with twice the digits; else as a block has it.
struct Sums {
    own: Vec<u32>,
    both: Triangle<u32>,
    s: Vec<Dd>,
    q: Vec<Dd>,
    c: Triangle<Dd>,
    values: Vec<Values>,
}

impl Sums {
    fn count(&mut self, span: &[Placed<'_>], firsts: &[usize]) {
        for (kind, first) in firsts.iter().enumerate() {
            if let Some((part, (a, _))) = holder(span, *first, *first) {
                self.own[kind] += span[part].part.block.points(a, a);
            }
            for (both, other) in self.both.row_mut(kind).iter_mut().zip(&firsts[kind + 1..]) {
                if let Some((part, (a, b))) = holder(span, *first, *other) {
                    *both += span[part].part.block.points(a, b);
                }
            }
        }
    }
}

struct Add<'a> {
    span: &'a [Placed<'a>],
    firsts: &'a [usize],
    /// For each part.
    moves: Vec<Vec<Dd>>,
    sums: &'a mut Sums,
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { span, firsts, moves, sums } = self;
        let series = sums.c.size();
        let moved = |part: usize, i: usize| moves[part][i];
        for (kind, first) in firsts.iter().enumerate() {
            for i in 0..series {
                let Some((part, (a, b))) = holder(span, *first, i) else { continue };
                let block = span[part].part.block;
                let pattern = block.patterns[a] as usize;
                let points = block.common(pattern, b);
                if points == 0 {
                    continue;
                }
                let (from, to) = (pattern * block.series() + b, kind * series + i);
                let (s, q) = (block.s[from], block.q[from]);
                let (n, d) = (f64::from(points), moved(part, i));
                if d.is_zero() {
                    sums.s[to] = sums.s[to].plus(s);
                    sums.q[to] = sums.q[to].plus(q);
                } else {
                    let (s, q) = (Dd::from(s), Dd::from(q));
                    sums.s[to] = sums.s[to].add(rebase::sum(s, n, d));
                    sums.q[to] = sums.q[to].add(rebase::squares(q, s, n, d));
                }
                sums.values[to] = sums.values[to].and(block.only_value(pattern, b));
            }
        }
        for i in 0..series {
            for (j, sum) in (i + 1..series).zip(sums.c.row_mut(i)) {
                let Some((part, (a, b))) = holder(span, i, j) else { continue };
                let block = span[part].part.block;
                let c = block.c.get(a, b);
                let (di, dj) = (moved(part, i), moved(part, j));
                if di.is_zero() && dj.is_zero() {
                    *sum = sum.plus(c);
                    continue;
                }
                let (left, right) = (block.patterns[a] as usize, block.patterns[b] as usize);
                let n = f64::from(block.in_both(left, right));
                let x = (Dd::from(block.s[right * block.series() + a]), di);
                let y = (Dd::from(block.s[left * block.series() + b]), dj);
                *sum = sum.add(rebase::products(Dd::from(c), x, y, n));
            }
        }
    }
}

struct Finish {
    sums: Sums,
    origins: Vec<f64>,
    classes: Vec<u32>,
    rows: u32,
}

impl Kernel for Finish {
    type Output = Block;

    /// About the means, where nothing is lost when all is rounded.
    #[inline(always)]
    fn run(self) -> Block {
        let Self { sums: Sums { own, both, s, q, c, values }, origins, classes, rows } = self;
        let (series, kinds) = (origins.len(), own.len());
        let mut shifts = origins.clone();
        for (i, shift) in shifts.iter_mut().enumerate() {
            let kind = classes[i] as usize;
            let mean = *shift + s[kind * series + i].value() / f64::from(own[kind]);
            // Without values it is no number.
            if mask::is_there(mean) {
                *shift = mean;
            }
        }
        let moves: Vec<Dd> =
            origins.iter().zip(&shifts).map(|(old, new)| Dd::difference(*old, *new)).collect();
        let points = |i: usize, j: usize| f64::from(if i == j { own[i] } else { both.get(i, j) });
        let mut block = Block {
            rows,
            patterns: classes.clone(),
            s: vec![0.0; kinds * series],
            q: vec![0.0; kinds * series],
            c: Triangle::new(series, 0.0),
            constants: Vec::new(),
            own: own.clone(),
            both: both.clone(),
            shifts,
        };
        for kind in 0..kinds {
            for i in 0..series {
                let (at, n) = (kind * series + i, points(kind, classes[i] as usize));
                if n > 0.0 {
                    block.s[at] = rebase::sum(s[at], n, moves[i]).value();
                    block.q[at] = rebase::squares(q[at], s[at], n, moves[i]).value().max(0.0);
                }
                if let Values::Only(value) = values[at] {
                    let (pattern, series) = (kind as u32, i as u32);
                    block.constants.push(Constant { pattern, series, value });
                }
            }
        }
        for i in 0..series {
            let a = classes[i] as usize;
            for (j, into) in (i + 1..series).zip(block.c.row_mut(i)) {
                let b = classes[j] as usize;
                let (x, y) = (s[b * series + i], s[a * series + j]);
                let sum = c.get(i, j);
                *into = rebase::products(sum, (x, moves[i]), (y, moves[j]), points(a, b)).value();
            }
        }
        block
    }
}
