//! The correlations that a block's sums give.

use super::block::Block;
use super::candidate::{Unsettled, Why};
use super::triangle::Triangle;

/// Rounding may make |r| larger than 1 by that much where nothing is lost to the shifts, and Q/v times that otherwise,
const SLACK: f64 = 8.0 * f64::EPSILON;
/// but never by more than that.
const MOST_SLACK: f64 = 1e-9;
/// A variance below this share of the squares about the shift, 2^-33, is lost in their rounding.
const LOST: f64 = 1.0 / (1_u64 << 33) as f64;

/// Pearson's correlation of each pair, over the rows that both have (pairwise complete):
///
/// r_ij = (C_ij - S_ij S_ji / N_ij) / sqrt(v_i|j v_j|i), v_i|j = Q_ij - S_ij^2 / N_ij
///
/// (Pearson 1896 in the form for a computer: Chan, Golub and LeVeque, "Algorithms for Computing the Sample Variance",
/// The American Statistician 37, 1983, equation 1.3 with a shift.) With the shifts near the means the result is within
/// some units of the last place; in general within about eps (Q/v), with the larger Q/v of the two.
///
/// A pair without a value has a reason: see [`Why`].
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// NaN where there is none.
    pub(super) values: Triangle<f64>,
    pub(super) points: Triangle<u32>,
    /// In the order of pairs.
    pub(super) undefined: Vec<Unsettled>,
}

impl Estimate {
    /// Of all pairs of a block's series. Cost: 25 ns a pair.
    pub fn of(block: &Block) -> Self {
        let series = block.series();
        let points = Triangle::from_fn(series, |i, j| block.points(i, j));
        let mut undefined = Vec::new();
        let values = Triangle::from_fn(series, |i, j| match pair(block, i, j) {
            Ok(r) => r,
            Err(why) => {
                undefined.push(Unsettled { pair: (i, j), points: points.get(i, j), why });
                f64::NAN
            }
        });
        Self { values, points, undefined }
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.values.size()
    }

    /// The correlation of two series, from -1 to 1, exactly 1 of a series with itself. `None` where it is undefined, or
    /// there is no such series.
    pub fn get(&self, i: usize, j: usize) -> Option<f64> {
        if i.max(j) >= self.series() {
            return None;
        }
        if i == j { Some(1.0) } else { Some(self.values.get(i, j)).filter(|r| !r.is_nan()) }
    }

    /// In how many rows two different series both have a value. 0 of others.
    pub fn points(&self, i: usize, j: usize) -> u32 {
        if i == j || i.max(j) >= self.series() { 0 } else { self.points.get(i, j) }
    }

    /// The pairs without a value, i < j, row by row.
    pub fn undefined(&self) -> &[Unsettled] {
        &self.undefined
    }

    /// The pairs that have fewer rows in common than `least`, defined or not.
    pub fn insufficient(&self, least: u32) -> Vec<Unsettled> {
        let few = |((i, j), points): ((usize, usize), u32)| {
            (points < least).then_some(Unsettled { pair: (i, j), points, why: Why::Few })
        };
        self.points.iter().filter_map(few).collect()
    }
}

fn pair(block: &Block, i: usize, j: usize) -> Result<f64, Why> {
    let points = block.points(i, j);
    if points < 2 {
        return Err(Why::Few);
    }
    let n = f64::from(points);
    let about = |series: usize, other: usize| {
        let pattern = block.patterns[other] as usize;
        let at = pattern * block.series() + series;
        let (s, q) = (block.s[at], block.q[at]);
        let variance = q - s * s / n;
        if block.only_value(pattern, series).is_some() {
            Err(Why::Constant { series })
        } else if variance > LOST * q {
            Ok((s, variance.sqrt(), q / variance))
        } else {
            Err(Why::Lost { series })
        }
    };
    let ((x, a, left), (y, b, right)) = (about(i, j)?, about(j, i)?);
    bounded((block.c.get(i, j) - x * y / n) / (a * b), left.max(right))
}

/// What is above 1 by no more than rounding is 1. The condition is Q/v.
fn bounded(r: f64, condition: f64) -> Result<f64, Why> {
    let slack = (SLACK * condition.max(1.0)).min(MOST_SLACK);
    // A NaN compares false.
    if r.abs() <= 1.0 + slack { Ok(r.clamp(-1.0, 1.0)) } else { Err(Why::Fault { value: r }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rounding_is_cut_off() {
        let above = |ulps: f64| 1.0 + ulps * f64::EPSILON;
        for (r, condition, known) in [
            (above(8.0), 1.0, Some(1.0)),
            (-above(8.0), 1.0, Some(-1.0)),
            (0.5, 1.0, Some(0.5)),
            (above(9.0), 1.0, None),
            (-above(9.0), 0.0, None),
            // What two means that are 3 standard deviations apart cost.
            (above(80.0), 10.0, Some(1.0)),
            (above(81.0), 10.0, None),
            (1.0 + 0.9e-9, 1e9, Some(1.0)),
            (1.0 + 1.1e-9, 1e9, None),
            (1.15, f64::INFINITY, None),
            (f64::INFINITY, 1.0, None),
        ] {
            assert_eq!(bounded(r, condition), known.ok_or(Why::Fault { value: r }));
        }
        assert!(matches!(bounded(f64::NAN, 1.0), Err(Why::Fault { .. })));
    }
}
