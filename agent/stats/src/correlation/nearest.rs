//! The nearest correlation matrix to one that is none.

use super::definite::{Definiteness, definiteness, tolerance};
use super::eigen::{Eigen, dot, eigen, subtract};
use super::wide::{Kernel, dispatch};

/// Differences that the acceleration looks back on. Higham and Strabic found 2 to 5 the best.
const MEMORY: usize = 5;
/// It has converged when a step changes no value by more than that.
const SETTLED: f64 = 1e-13;

/// The nearest correlation matrix.
pub(super) struct Nearest {
    /// Row by row: exactly symmetric, 1 on the diagonal, within [-1, 1].
    pub(super) values: Vec<f64>,
    pub(super) steps: u32,
}

/// In the Frobenius norm, by alternating projections with Dykstra's correction (Higham, "Computing the Nearest
/// Correlation Matrix", IMA Journal of Numerical Analysis 22, 2002, algorithm 3.3): onto the positive semi-definite
/// matrices, then onto those with a diagonal of ones. That converges linearly; if `accelerated` it is Anderson's
/// acceleration that chooses where to go on from (Higham and Strabic, "Anderson acceleration of the alternating
/// projections method for computing the nearest correlation matrix", Numerical Algorithms 72, 2016).
///
/// `None` where it has not converged after so many steps, or something is no number. What the last projection lacks to
/// a diagonal of ones is made up for by scaling, so that the result is definite by our own check.
pub(super) fn nearest(
    values: &[f64],
    size: usize,
    most: u32,
    accelerated: bool,
) -> Option<Nearest> {
    projections(values, size, most, true, accelerated)
}

/// Without the correction the result is a correlation matrix, too, but not the nearest.
fn projections(
    values: &[f64],
    size: usize,
    most: u32,
    corrected: bool,
    accelerated: bool,
) -> Option<Nearest> {
    let keep = if corrected { 1.0 } else { 0.0 };
    if !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let area = size * size;
    // Y, then the correction.
    let mut state = [values, &vec![0.0; area][..]].concat();
    let mut memory = Memory::default();
    for steps in 1..=most {
        let (y, correction) = state.split_at(area);
        let from: Vec<f64> = y.iter().zip(correction).map(|(y, s)| y - s).collect();
        let projected = project(&from, size)?;
        let mut next = projected.clone();
        (0..size).for_each(|i| next[i * size + i] = 1.0);
        let change = next.iter().zip(y).map(|(next, y)| (next - y).abs()).fold(0.0, f64::max);
        // Outside the diagonal, where next and projected are the same, this is how far the correction moves.
        let off = projected.iter().zip(&next).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        next.extend(projected.iter().zip(&from).map(|(x, r)| keep * (x - r)));
        if change.max(off) <= SETTLED {
            return Some(Nearest { values: scaled(&projected, size)?, steps });
        }
        state = if accelerated { memory.step(&state, next) } else { next };
    }
    None
}

/// The nearest positive semi-definite matrix: without what belongs to negative eigenvalues.
fn project(values: &[f64], size: usize) -> Option<Vec<f64>> {
    struct Rebuild<'a> {
        eigen: Eigen,
        values: &'a [f64],
        size: usize,
    }
    impl Kernel for Rebuild<'_> {
        type Output = Vec<f64>;

        #[inline(always)]
        fn run(self) -> Vec<f64> {
            let Self { eigen: Eigen { values: lambdas, vectors }, values, size } = self;
            let negative = lambdas.iter().filter(|lambda| **lambda < 0.0).count();
            // Of the fewer ones.
            let without = 2 * negative <= size;
            let mut sum = if without { values.to_vec() } else { vec![0.0; size * size] };
            for (lambda, vector) in lambdas.iter().zip(vectors.chunks(size)) {
                if (*lambda < 0.0) == without {
                    for i in 0..size {
                        let row = &mut sum[i * size + i..(i + 1) * size];
                        let factor = lambda * vector[i];
                        subtract(row, if without { factor } else { -factor }, &vector[i..]);
                    }
                }
            }
            for i in 0..size {
                for j in 0..i {
                    sum[i * size + j] = sum[j * size + i];
                }
            }
            sum
        }
    }
    let eigen = eigen(values, size)?;
    Some(dispatch(Rebuild { eigen, values, size }))
}

/// With a diagonal of ones, and definite by our own check: where rounding still shows, a little of the identity.
fn scaled(values: &[f64], size: usize) -> Option<Vec<f64>> {
    let roots: Vec<f64> = (0..size).map(|i| values[i * size + i].sqrt()).collect();
    let mut scaled = values.to_vec();
    for i in 0..size {
        for j in 0..size {
            let value = if i == j { 1.0 } else { values[i * size + j] / (roots[i] * roots[j]) };
            scaled[i * size + j] = value.clamp(-1.0, 1.0);
        }
    }
    let mut share = 1.0 - tolerance(&scaled, size);
    for _ in 0..10 {
        if definiteness(&scaled, size) == Definiteness::Definite {
            return Some(scaled);
        }
        for i in 0..size {
            for j in (0..size).filter(|j| *j != i) {
                scaled[i * size + j] *= share;
            }
        }
        share = 1.0 - 2.0 * (1.0 - share);
    }
    None
}

/// Where states led to.
#[derive(Default)]
struct Memory {
    /// The last state's residual and what it led to.
    last: Option<(Vec<f64>, Vec<f64>)>,
    /// Differences of residuals, and of what states led to.
    differences: Vec<(Vec<f64>, Vec<f64>)>,
}

impl Memory {
    /// Where to go on from, when `state` led to `next`.
    ///
    /// Anderson's method as Walker and Ni, "Anderson Acceleration for Fixed-Point Iterations" (SIAM Journal on Numerical
    /// Analysis 49, 2011), put it in (2.1): g - dG gamma with the gamma that makes |f - dF gamma| least, f = g - x.
    fn step(&mut self, state: &[f64], next: Vec<f64>) -> Vec<f64> {
        let minus = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
        let residual = minus(&next, state);
        if let Some((f, g)) = self.last.take() {
            if self.differences.len() == MEMORY {
                self.differences.remove(0);
            }
            self.differences.push((minus(&residual, &f), minus(&next, &g)));
        }
        let step =
            dispatch(Mix { differences: &self.differences, residual: &residual, next: &next });
        self.last = Some((residual, next));
        step
    }
}

struct Mix<'a> {
    differences: &'a [(Vec<f64>, Vec<f64>)],
    residual: &'a [f64],
    next: &'a [f64],
}

impl Kernel for Mix<'_> {
    type Output = Vec<f64>;

    /// Least squares by Gram and Schmidt's modified method, the newest difference first; each is carried along as what
    /// it does to the result.
    #[inline(always)]
    fn run(self) -> Vec<f64> {
        let (mut rest, mut result) = (self.residual.to_vec(), self.next.to_vec());
        let mut basis: Vec<(Vec<f64>, Vec<f64>)> = Vec::with_capacity(self.differences.len());
        for (f, g) in self.differences.iter().rev() {
            let (mut f, mut g) = (f.clone(), g.clone());
            let before = dot(&f, &f);
            for (unit, effect) in &basis {
                let share = dot(unit, &f);
                subtract(&mut f, share, unit);
                subtract(&mut g, share, effect);
            }
            let after = dot(&f, &f);
            // What is nearly a sum of newer ones would only add rounding.
            if after.is_nan() || after <= 1e-20 * before {
                continue;
            }
            let norm = after.sqrt();
            f.iter_mut().for_each(|value| *value /= norm);
            g.iter_mut().for_each(|value| *value /= norm);
            let share = dot(&f, &rest);
            subtract(&mut rest, share, &f);
            subtract(&mut result, share, &g);
            basis.push((f, g));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// nearPD of R's Matrix with doDykstra = FALSE, in statsmodels' tests (test_corrpsd.py, BSD-3).
    #[test]
    fn the_projections_are_those_of_r() {
        let fixture = include_str!("../../tests/fixtures/correlation.tsv");
        let values = |name: &str| -> Vec<f64> {
            let line = fixture.lines().find(|line| line.split('\t').next() == Some(name)).unwrap();
            line.split('\t').nth(1).unwrap().split(' ').map(|it| it.parse().unwrap()).collect()
        };
        let found = projections(&values("nearpd"), 6, 1_000, false, false).unwrap();
        for (own, known) in found.values.iter().zip(values("nearpd_r")) {
            assert!((own - known).abs() < 1e-6, "{own} {known}");
        }
    }
}
