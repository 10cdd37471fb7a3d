//! How far a matrix is from another.

use std::collections::BTreeMap;

use super::candidate::Candidate;
use super::matrix::Correlation;
use super::wide::{Kernel, dispatch};

/// How many pairs are named.
pub(super) const NAMED: usize = 10;

/// What is measured of two matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriftMode {
    /// The largest |new - old| of a pair.
    #[default]
    Absolute,
    /// The largest |new - old| / |old| of a pair. Not the default for a reason: from 0 any change is infinite, and small
    /// correlations are mostly noise. Two estimates of r = 0.05 from 8,640 points each differ by more than 15 % in 62 of
    /// 100 cases, where nothing has changed; 0.9 may fall to 0.77 all the same, which is 30 standard errors.
    Relative,
    /// The Frobenius norm of new - old in that of old, both whole matrices: it says how much has changed in all, and
    /// overlooks a single pair.
    Frobenius,
}

/// A pair that has changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moved {
    /// The places of its series in the new matrix, the lower one first.
    pub pair: (usize, usize),
    /// What it was.
    pub old: f64,
    /// What it is.
    pub new: f64,
    /// Fisher's z of the change, (atanh new - atanh old) / sqrt(1/(n - 3) + 1/(m - 3)): beyond 2 or so it is no noise.
    /// (Fisher, "On the probable error of a coefficient of correlation deduced from a small sample", Metron 1, 1921.)
    /// m is taken as n; where both windows share days it is too small by up to their share. `None` where n is not
    /// known or below 4, or one of the two is 1 or -1.
    pub z: Option<f64>,
}

/// How a matrix differs from an older one on the series that both have.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// What was measured.
    pub mode: DriftMode,
    /// By how much. `None` where no pair can be compared.
    pub value: Option<f64>,
    /// How many pairs were compared.
    pub pairs: usize,
    /// How many of them, each by itself, moved by more than the limit. (By the Frobenius norm: absolutely.)
    pub beyond: usize,
    /// Those that moved most by the mode (by the Frobenius norm: absolutely), the worst first, at most 10.
    pub worst: Vec<Moved>,
    /// The Frobenius norm of new - old in that of old.
    pub frobenius: Option<f64>,
    /// Places in the new matrix of the series that the old one has not.
    pub added: Vec<usize>,
    /// Names of the series that the new matrix has not.
    pub dropped: Vec<String>,
}

/// What is equal to a limit may be above it by rounding: 0.65 - 0.5 is no double.
const TOLERANCE: f64 = 1e-12;

/// Whether a value keeps a limit: inclusive, with a tolerance of 1e-12.
pub(super) fn within(value: f64, limit: f64) -> bool {
    value <= limit + TOLERANCE
}

/// Of a candidate against an older matrix. Pairs that the candidate has no value for are left out.
pub fn drift(new: &Candidate, old: &Correlation, mode: DriftMode, limit: f64) -> Drift {
    let size = new.series().len();
    let places: Vec<Option<usize>> = if new.series() == old.series() {
        (0..size).map(Some).collect()
    } else {
        let known: BTreeMap<&str, usize> =
            old.series().iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        new.series().iter().map(|name| known.get(name.as_str()).copied()).collect()
    };
    let common: Vec<(usize, usize)> =
        places.iter().enumerate().filter_map(|(i, place)| Some((i, (*place)?))).collect();
    let same = common.len() == size && common.iter().all(|(i, place)| i == place);
    let mut worst: Vec<(f64, Moved)> = Vec::with_capacity(NAMED + 1);
    // What is to be beaten to be among the worst.
    let mut least = 0.0;
    let relative = mode == DriftMode::Relative;
    let (mut all, mut beyond) = (Row::default(), 0);
    let (mut news, mut olds) = (Vec::new(), Vec::new());
    for (at, (i, a)) in common.iter().enumerate() {
        let others = &common[at + 1..];
        let (news, olds): (&[f64], &[f64]) = if same {
            // As a rule.
            (&new.values[i * size + i + 1..(i + 1) * size], old.row(*a))
        } else {
            news.clear();
            news.extend(others.iter().map(|(j, _)| new.values[i * size + j]));
            olds.clear();
            olds.extend(others.iter().map(|(_, b)| old.value(*a, *b)));
            (&news, &olds)
        };
        let row = dispatch(Measured { news, olds, relative });
        all.add(&row);
        if row.largest <= least && within(row.largest, limit) {
            continue;
        }
        for ((j, _), (new, old)) in others.iter().zip(news.iter().zip(olds)) {
            let (new, old) = (*new, *old);
            let measure = measure(new, old, relative);
            beyond += usize::from(measure > 0.0 && !within(measure, limit));
            if measure > least {
                let place = worst.partition_point(|known| known.0 >= measure);
                worst.insert(place, (measure, Moved { pair: (*i, *j), old, new, z: None }));
                worst.truncate(NAMED);
                least = worst.get(NAMED - 1).map_or(0.0, |last| last.0);
            }
        }
    }
    let pairs = all.pairs;
    // Each pair is there twice, and the diagonals are ones.
    let (changes, squares) = (2.0 * all.changes, common.len() as f64 + 2.0 * all.squares);
    let frobenius = (pairs > 0).then(|| (changes / squares).sqrt());
    let largest = worst.first().map_or(0.0, |worst| worst.0);
    let value = match mode {
        DriftMode::Frobenius => frobenius,
        _ => (pairs > 0).then_some(largest),
    };
    let mut kept = vec![false; old.series().len()];
    common.iter().for_each(|(_, place)| kept[*place] = true);
    let name = |(name, _): (&String, &bool)| name.clone();
    let named = |(_, moved): (f64, Moved)| Moved { z: fisher(new, &moved), ..moved };
    Drift {
        mode,
        value,
        pairs,
        beyond,
        worst: worst.into_iter().map(named).collect(),
        frobenius,
        added: (0..size).filter(|i| places[*i].is_none()).collect(),
        dropped: old.series().iter().zip(&kept).filter(|(_, kept)| !**kept).map(name).collect(),
    }
}

/// By how much a pair has moved; 0 where there is no new value.
#[inline(always)]
fn measure(new: f64, old: f64, relative: bool) -> f64 {
    let change = (new - old).abs();
    if !change.is_finite() {
        0.0
    } else if relative && change > 0.0 {
        change / old.abs()
    } else {
        change
    }
}

/// Sums over pairs that have a new value.
#[derive(Default)]
struct Row {
    pairs: usize,
    changes: f64,
    squares: f64,
    largest: f64,
}

/// A row of both matrices.
struct Measured<'a> {
    news: &'a [f64],
    olds: &'a [f64],
    relative: bool,
}

impl Kernel for Measured<'_> {
    type Output = Row;

    #[inline(always)]
    fn run(self) -> Row {
        if self.relative { self.row::<true>() } else { self.row::<false>() }
    }
}

impl Measured<'_> {
    #[inline(always)]
    fn row<const RELATIVE: bool>(&self) -> Row {
        // Side by side, so that they needn't wait for one another.
        const LANES: usize = 8;
        let [mut pairs, mut changes, mut squares, mut largest] = [[0.0; LANES]; 4];
        let ((news, rest), (olds, others)) = (self.news.as_chunks(), self.olds.as_chunks());
        let (mut last, mut other) = ([f64::NAN; LANES], [0.0; LANES]);
        last[..rest.len()].copy_from_slice(rest);
        other[..others.len()].copy_from_slice(others);
        for (news, olds) in news.iter().zip(olds).chain([(&last, &other)]) {
            for lane in 0..LANES {
                let (new, old) = (news[lane], olds[lane]);
                let change = (new - old).abs();
                let there = change.is_finite();
                // What is not there counts as no change of 0.
                let (change, old) = if there { (change, old) } else { (0.0, 0.0) };
                pairs[lane] += if there { 1.0 } else { 0.0 };
                changes[lane] += change * change;
                squares[lane] += old * old;
                let divided = change / old.abs();
                let measure = if RELATIVE && change > 0.0 { divided } else { change };
                largest[lane] = if measure > largest[lane] { measure } else { largest[lane] };
            }
        }
        Row {
            pairs: pairs.iter().sum::<f64>() as usize,
            changes: changes.iter().sum(),
            squares: squares.iter().sum(),
            largest: largest.iter().copied().fold(0.0, f64::max),
        }
    }
}

impl Row {
    fn add(&mut self, other: &Self) {
        self.pairs += other.pairs;
        self.changes += other.changes;
        self.squares += other.squares;
        self.largest = self.largest.max(other.largest);
    }
}

fn fisher(new: &Candidate, moved: &Moved) -> Option<f64> {
    let n = f64::from(new.points(moved.pair.0, moved.pair.1)?);
    let z = (moved.new.atanh() - moved.old.atanh()) / (2.0 / (n - 3.0)).sqrt();
    Some(z).filter(|z| z.is_finite() && n > 3.0)
}
