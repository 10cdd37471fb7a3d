//! Whether a matrix may be used.

use super::candidate::{Candidate, Unsettled, Why};
use super::definite::{Definiteness, is_symmetric, of_symmetric, tolerance};
use super::drift::{Drift, DriftMode, NAMED, drift, within};
use super::matrix::Correlation;
use super::wide::{Kernel, dispatch};

/// What a matrix has to keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Rows that each pair must have in common, at least.
    pub min_points: u32,
    /// How drift against the active matrix is measured.
    pub drift_mode: DriftMode,
    /// The most it may be, inclusive (with a tolerance of 1e-12).
    pub max_drift: f64,
    /// The most that a pair may have moved, absolutely, against the matrix of 30 days ago; inclusive, too.
    pub max_history: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_points: 100,
            drift_mode: DriftMode::Absolute,
            max_drift: 0.15,
            max_history: 0.30,
        }
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// All values are numbers within [-1, 1], but for those of unsettled pairs. Its value: the largest magnitude.
    Range,
    /// The diagonal is 1. Its value: how far it is from that.
    Diagonal,
    /// The matrix is symmetric. Its value: how far it is from that.
    Symmetric,
    /// Each pair has enough rows in common, but for those that kept an old value. Its value: the fewest.
    Points,
    /// Each pair with enough rows has a value. Its value: how many have none.
    Defined,
    /// The matrix is positive semi-definite. Its value: the smallest eigenvalue, where it had to be found.
    Definite,
    /// It has not moved too far from the active matrix. Its value: the drift.
    Drift,
    /// It has not moved too far from the matrix of 30 days ago. Its value: the largest change of a pair.
    History,
}

impl Check {
    /// All of them, in the order in which they are made.
    pub const ALL: [Self; 8] = [
        Self::Range,
        Self::Diagonal,
        Self::Symmetric,
        Self::Points,
        Self::Defined,
        Self::Definite,
        Self::Drift,
        Self::History,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::Diagonal => "diagonal",
            Self::Symmetric => "symmetric",
            Self::Points => "points",
            Self::Defined => "defined",
            Self::Definite => "definite",
            Self::Drift => "drift",
            Self::History => "history",
        }
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it has to be.
    Pass,
    /// It is not.
    Fail,
    /// That can't be said: see the detail.
    Unknown,
}

/// What there is to say about a check.
#[derive(Debug, Clone, PartialEq)]
pub enum Detail {
    /// Nothing.
    Nothing,
    /// Some of the places that are not as they have to be: row and column, at most 10, and how many there are.
    Places {
        /// The first of them.
        first: Vec<(usize, usize)>,
        /// How many there are.
        count: usize,
    },
    /// All the pairs that lack something.
    Pairs(Vec<Unsettled>),
    /// How definite it is.
    Definiteness(Definiteness),
    /// How it differs.
    Drift(Box<Drift>),
    /// There is no matrix to compare with: it is the first, or the first for 30 days.
    First,
    /// There are no two series, or it is not known how many rows they have in common.
    NoPoints,
}

/// A check that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Criterion {
    /// What was looked at.
    pub check: Check,
    /// What was found; `None` where nothing was to be measured.
    pub value: Option<f64>,
    /// What the value may be: at least that much for [`Check::Points`] and [`Check::Definite`], else at most.
    pub limit: f64,
    /// What came of it.
    pub verdict: Verdict,
    /// What there is to say about it.
    pub detail: Detail,
}

impl Criterion {
    /// The name of the check.
    pub fn name(&self) -> &'static str {
        self.check.as_str()
    }
}

/// All checks, in the order of [`Check::ALL`].
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// One for each check.
    pub criteria: Vec<Criterion>,
}

/// What the criteria come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// All have passed.
    Accepted,
    /// All have passed but those that need an older matrix, which there is not.
    First {
        /// They.
        missing: Vec<Check>,
    },
    /// Some have failed, or could not be decided.
    Refused {
        /// They.
        unmet: Vec<Check>,
    },
}

impl Validation {
    /// What came of a check.
    pub fn of(&self, check: Check) -> Option<&Criterion> {
        self.criteria.iter().find(|criterion| criterion.check == check)
    }

    /// Whether the matrix may be used: a function of the criteria alone. What is unknown counts as failed, but where
    /// there is no older matrix.
    pub fn acceptance(&self) -> Acceptance {
        let which = |wanted: &dyn Fn(&Criterion) -> bool| {
            let found = self.criteria.iter().filter(|criterion| wanted(criterion));
            found.map(|criterion| criterion.check).collect::<Vec<_>>()
        };
        let first = |it: &Criterion| it.verdict == Verdict::Unknown && it.detail == Detail::First;
        let unmet = which(&|it| it.verdict != Verdict::Pass && !first(it));
        let missing = which(&first);
        if !unmet.is_empty() {
            Acceptance::Refused { unmet }
        } else if missing.is_empty() {
            Acceptance::Accepted
        } else {
            Acceptance::First { missing }
        }
    }
}

/// Makes all checks of a candidate, against the active matrix and that of 30 days ago, where there are. Cost: 0.4 ms for
/// 256 series.
pub fn validate(
    candidate: &Candidate,
    active: Option<&Correlation>,
    month_ago: Option<&Correlation>,
    limits: &Limits,
) -> Validation {
    let history = (DriftMode::Absolute, limits.max_history);
    let symmetric = symmetric(candidate);
    let is_symmetric = symmetric.verdict == Verdict::Pass;
    let criteria = vec![
        range(candidate),
        diagonal(candidate),
        symmetric,
        points(candidate, limits.min_points),
        defined(candidate),
        definite(candidate, is_symmetric),
        against(Check::Drift, candidate, active, (limits.drift_mode, limits.max_drift)),
        against(Check::History, candidate, month_ago, history),
    ];
    Validation { criteria }
}

/// The rest of a criterion of places, by how far each is off.
fn places(
    check: Check,
    limit: f64,
    off: impl Iterator<Item = ((usize, usize), f64, bool)>,
) -> Criterion {
    let (mut value, mut first, mut count) = (0.0_f64, Vec::new(), 0);
    for (place, off, good) in off {
        value = value.max(off);
        if !good {
            count += 1;
            if first.len() < NAMED {
                first.push(place);
            }
        }
    }
    let good = count == 0;
    let detail = if good { Detail::Nothing } else { Detail::Places { first, count } };
    let verdict = if good { Verdict::Pass } else { Verdict::Fail };
    Criterion { check, value: Some(value), limit, verdict, detail }
}

/// The largest magnitude, and whether all are within 1. What is the rule, without places.
struct Range<'a>(&'a [f64]);

impl Kernel for Range<'_> {
    type Output = (f64, bool);

    #[inline(always)]
    fn run(self) -> (f64, bool) {
        let mut largest = [0.0_f64; 16];
        let mut good = [true; 16];
        let (chunks, rest) = self.0.as_chunks::<16>();
        let mut last = [0.0; 16];
        last[..rest.len()].copy_from_slice(rest);
        for chunk in chunks.iter().chain([&last]) {
            for lane in 0..16 {
                let value = chunk[lane].abs();
                // A NaN compares false.
                good[lane] &= value <= 1.0;
                largest[lane] = if value > largest[lane] { value } else { largest[lane] };
            }
        }
        (largest.iter().copied().fold(0.0, f64::max), good == [true; 16])
    }
}

fn range(candidate: &Candidate) -> Criterion {
    let size = candidate.series().len();
    let (largest, good) = dispatch(Range(&candidate.values));
    if good {
        return places(Check::Range, 1.0, std::iter::once(((0, 0), largest, true)));
    }
    let mut lacking = vec![false; candidate.values.len()];
    for Unsettled { pair: (i, j), .. } in &candidate.unsettled {
        lacking[i * size + j] = true;
        lacking[j * size + i] = true;
    }
    let values = candidate.values.iter().zip(&lacking).enumerate();
    let off = values.filter(|(_, (_, lacking))| !**lacking).map(|(at, (value, _))| {
        // A NaN compares false.
        let good = value.abs() <= 1.0;
        ((at / size, at % size), value.abs(), good)
    });
    places(Check::Range, 1.0, off)
}

fn diagonal(candidate: &Candidate) -> Criterion {
    let size = candidate.series().len();
    let off = (0..size).map(|i| {
        let value = candidate.values[i * size + i];
        ((i, i), (value - 1.0).abs(), value == 1.0)
    });
    places(Check::Diagonal, 0.0, off)
}

fn symmetric(candidate: &Candidate) -> Criterion {
    let size = candidate.series().len();
    if is_symmetric(&candidate.values, size) {
        return places(Check::Symmetric, 0.0, std::iter::empty());
    }
    let pairs = (0..size).flat_map(|i| (i + 1..size).map(move |j| (i, j)));
    let off = pairs.map(|(i, j)| {
        let (upper, lower) = (candidate.values[i * size + j], candidate.values[j * size + i]);
        // An unsettled pair is no number both ways round.
        let good = upper == lower || (upper.is_nan() && lower.is_nan());
        ((i, j), (upper - lower).abs(), good)
    });
    places(Check::Symmetric, 0.0, off)
}

fn points(candidate: &Candidate, least: u32) -> Criterion {
    let check = Check::Points;
    let limit = f64::from(least);
    let counted = candidate.points.as_ref().filter(|points| points.size() > 1);
    let Some(points) = counted else {
        let (verdict, detail) = (Verdict::Unknown, Detail::NoPoints);
        return Criterion { check, value: None, limit, verdict, detail };
    };
    let fewest = points.items().iter().min().copied().unwrap_or_default();
    if candidate.carried.is_empty() && fewest >= least {
        let (verdict, detail) = (Verdict::Pass, Detail::Nothing);
        return Criterion { check, value: Some(f64::from(fewest)), limit, verdict, detail };
    }
    let mut carried = candidate.carried.iter().copied().peekable();
    let (mut fewest, mut lacking) = (None, Vec::new());
    for (pair, points) in points.iter() {
        if carried.next_if_eq(&pair).is_some() {
            continue;
        }
        fewest = Some(fewest.map_or(points, |fewest: u32| fewest.min(points)));
        if points < least {
            lacking.push(Unsettled { pair, points, why: Why::Few });
        }
    }
    let good = lacking.is_empty();
    let verdict = if good { Verdict::Pass } else { Verdict::Fail };
    let detail = if good { Detail::Nothing } else { Detail::Pairs(lacking) };
    Criterion { check, value: fewest.map(f64::from), limit, verdict, detail }
}

fn defined(candidate: &Candidate) -> Criterion {
    let undefined = candidate.unsettled.iter().filter(|it| it.why != Why::Few);
    let undefined: Vec<Unsettled> = undefined.copied().collect();
    let value = Some(undefined.len() as f64);
    let good = undefined.is_empty();
    let verdict = if good { Verdict::Pass } else { Verdict::Fail };
    let detail = if good { Detail::Nothing } else { Detail::Pairs(undefined) };
    Criterion { check: Check::Defined, value, limit: 0.0, verdict, detail }
}

fn definite(candidate: &Candidate, symmetric: bool) -> Criterion {
    let size = candidate.series().len();
    let tolerance = tolerance(&candidate.values, size);
    let found = if symmetric {
        of_symmetric(&candidate.values, size, tolerance)
    } else {
        Definiteness::Unknown
    };
    let (value, verdict) = match &found {
        Definiteness::Definite => (None, Verdict::Pass),
        Definiteness::Indefinite { smallest, .. } => (Some(*smallest), Verdict::Fail),
        Definiteness::Unknown => (None, Verdict::Unknown),
    };
    let detail = Detail::Definiteness(found);
    Criterion { check: Check::Definite, value, limit: -tolerance, verdict, detail }
}

fn against(
    check: Check,
    candidate: &Candidate,
    old: Option<&Correlation>,
    (mode, limit): (DriftMode, f64),
) -> Criterion {
    let Some(old) = old else {
        let (verdict, detail) = (Verdict::Unknown, Detail::First);
        return Criterion { check, value: None, limit, verdict, detail };
    };
    let drift = drift(candidate, old, mode, limit);
    let value = drift.value;
    let verdict = match value {
        Some(value) if within(value, limit) => Verdict::Pass,
        Some(_) => Verdict::Fail,
        None => Verdict::Unknown,
    };
    // With no pair in common it is the first of its kind: nothing of it could have drifted.
    if drift.pairs == 0 {
        return Criterion { check, value: None, limit, verdict, detail: Detail::First };
    }
    Criterion { check, value, limit, verdict, detail: Detail::Drift(Box::new(drift)) }
}
