//! A matrix that is not definite, changed as little as possible, and no more than its noise.

use std::fmt;

use super::candidate::Candidate;
use super::nearest::nearest;

/// How a matrix may be repaired.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RepairRules {
    /// No value may change by more.
    pub most: f64,
    /// No value may change by more than so many standard errors (1 - r^2)/sqrt(n - 1) of its own.
    pub errors: f64,
    /// Steps until it is given up, each some 25 ms for 256 series.
    pub steps: u32,
    /// Whether Anderson's acceleration is used: some 4 times fewer steps.
    pub accelerated: bool,
}

impl Default for RepairRules {
    fn default() -> Self {
        Self { most: 0.05, errors: 2.0, steps: 500, accelerated: true }
    }
}

/// What a repair came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Repaired {
    /// The nearest correlation matrix.
    pub candidate: Candidate,
    /// The largest change of a value, and whose: i < j.
    pub largest: (f64, (usize, usize)),
    /// The root of the sum of all squared changes, of the whole matrix.
    pub frobenius: f64,
    /// How many projections it took.
    pub steps: u32,
}

/// Why there is no repair.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RepairError {
    /// A pair has no value to begin with.
    Unsettled,
    /// It did not converge.
    Steps,
    /// How many rows pairs have in common is not known.
    Points,
    /// Pairs would change by more than their noise.
    TooFar {
        /// The pair whose change is the largest, measured by its limit.
        pair: (usize, usize),
        /// Its change.
        change: f64,
        /// What it might change by.
        limit: f64,
        /// How many pairs change by more than they may.
        pairs: usize,
        /// What it would have come to.
        repaired: Box<Repaired>,
    },
}

impl fmt::Display for RepairError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsettled => write!(to, "a pair has no value"),
            Self::Steps => write!(to, "the projections did not converge"),
            Self::Points => write!(to, "how many points pairs have in common is not known"),
            Self::TooFar { pair: (i, j), change, limit, pairs, .. } => write!(
                to,
                "{pairs} pairs would change by more than their noise, that of series {i} and {j} by {change} \
                 where {limit} is the limit"
            ),
        }
    }
}

impl std::error::Error for RepairError {}

/// The nearest positive semi-definite candidate, if it is near enough by the rules: each change at most `most` and at
/// most `errors` standard errors of the pair changed (a tolerance of 1e-12 aside).
///
/// By Higham's method of 2002: see the rules. The result has 1 on its diagonal, is symmetric to the bit, and definite
/// by [`Candidate::definiteness`]. One that is definite already is returned as it is.
pub fn repair(candidate: &Candidate, rules: &RepairRules) -> Result<Repaired, RepairError> {
    let size = candidate.series().len();
    if candidate.accept().is_err() {
        return Err(RepairError::Unsettled);
    }
    if candidate.definiteness() == super::Definiteness::Definite {
        let largest = (0.0, (0, 1));
        return Ok(Repaired { candidate: candidate.clone(), largest, frobenius: 0.0, steps: 0 });
    }
    let points = candidate.points.as_ref().ok_or(RepairError::Points)?;
    let found = nearest(&candidate.values, size, rules.steps, rules.accelerated);
    let found = found.ok_or(RepairError::Steps)?;
    let (mut largest, mut worst) = ((0.0, (0, 1)), (0.0, (0, 1), 0.0, 0.0));
    let (mut squares, mut beyond) = (0.0, 0);
    for ((i, j), points) in points.iter() {
        let old = candidate.values[i * size + j];
        let change = (found.values[i * size + j] - old).abs();
        let error = (1.0 - old * old) / f64::from(points.saturating_sub(1)).sqrt();
        // No points at all make it infinite, or no number at |r| = 1: `most` is left.
        let limit = rules.most.min(rules.errors * error) + 1e-12;
        squares += 2.0 * change * change;
        beyond += usize::from(change > limit);
        if change > largest.0 {
            largest = (change, (i, j));
        }
        if change / limit > worst.0 {
            worst = (change / limit, (i, j), change, limit);
        }
    }
    let candidate = candidate.with_values(found.values);
    let repaired = Repaired { candidate, largest, frobenius: squares.sqrt(), steps: found.steps };
    if beyond == 0 {
        return Ok(repaired);
    }
    let (_, pair, change, limit) = worst;
    let repaired = Box::new(repaired);
    Err(RepairError::TooFar { pair, change, limit, pairs: beyond, repaired })
}
