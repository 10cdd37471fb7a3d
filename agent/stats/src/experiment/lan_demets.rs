//! A test with few looks, whose times need not be known beforehand.

use super::design::{Evidence, Stage};
use super::quadrature::Legendre;
use crate::{normal_cdf, normal_quantile};

/// Looks are so much information apart at the least, which bounds their number and with it the cost of one.
const APART: f64 = 1.0 / 50.0;
/// The last look comes when it comes, but counts as so much after the one before: narrower steps are more than the
/// quadrature resolves, and to count them as wider is on the safe side.
const LEAST_STEP: f64 = 1.0 / 200.0;
/// A boundary so far out is none.
const BEYOND: f64 = 9.0;
/// No smaller p is told.
const LEAST_P: f64 = 1e-12;
/// A larger p is told as 1: it says nothing, and takes the longest to find.
const LARGEST_P: f64 = 0.5;
const NODES: usize = 48;

/// One look that was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TakenLook {
    /// The information, of which that at the horizon is 1.
    pub information: f64,
    /// z then.
    pub z: f64,
}

/// Alpha spending: Lan and DeMets, "Discrete Sequential Boundaries for Clinical Trials" (Biometrika 70, 1983), with
/// their function alpha_1 for a boundary as O'Brien and Fleming's, alpha/2 to each side:
/// 2 (1 - Phi(z_(alpha/4) / sqrt(t))).
///
/// The boundaries are found at the looks that are taken, by the recursion of Armitage, McPherson and Rowe (1969) with
/// Gauss-Legendre quadrature. p is the smallest alpha at which a look would have crossed: Jennison and Turnbull's
/// repeated p-value ("Group Sequential Methods", 2000, section 9.4).
///
/// Looks are at least 1/50 of the information apart, so that there are at most fifty. The next costs about 0.15 ms for
/// each before it, and fifteen times that where p falls.
#[derive(Debug, Clone, PartialEq)]
pub struct LanDemets {
    /// The looks, in order.
    pub looks: Vec<TakenLook>,
    /// p for the variant being better.
    pub up: f64,
    /// p for the variant being worse.
    pub down: f64,
    /// The last look has been taken.
    pub done: bool,
}

impl Default for LanDemets {
    fn default() -> Self {
        Self { looks: Vec::new(), up: 1.0, down: 1.0, done: false }
    }
}

impl LanDemets {
    /// Takes a look at `z` with `information`, if it is far enough from the one before. The `last` one, and one
    /// with all the information, spends what is left of alpha. Not a number counts as no look.
    pub fn take(&mut self, z: f64, information: f64, last: bool) {
        let last = last || information >= 1.0;
        let before = self.looks.last().map_or(0.0, |look| look.information);
        let room = last || (information >= before + APART && information <= 1.0 - APART);
        if self.done || !(room && z.is_finite() && information > 0.0) {
            return;
        }
        let information = information.min(1.0).max(before + LEAST_STEP);
        self.looks.push(TakenLook { information, z });
        self.done = last;
        let now = if z > 0.0 { self.up } else { self.down };
        let p = self.newest_p(now);
        let side = if z > 0.0 { &mut self.up } else { &mut self.down };
        *side = side.min(p);
    }

    /// What is known by now.
    pub fn evidence(&self) -> Evidence {
        let stage = match self {
            _ if self.done => Stage::Done,
            _ if self.looks.is_empty() => Stage::Waiting,
            _ => Stage::Looking,
        };
        Evidence::new(self.up, self.down, stage)
    }

    /// The smallest alpha at which the newest look crosses, or `most` if that is not below it.
    fn newest_p(&self, most: f64) -> f64 {
        let times: Vec<f64> = self.looks.iter().map(|look| look.information).collect();
        let far = self.looks.last().map_or(0.0, |look| look.z.abs());
        let rule = Legendre::new(NODES);
        // How far short of the boundary it is, at an alpha of e^x.
        let short = |x: f64| {
            let found = boundaries(&rule, x.exp(), &times, self.done);
            found.last().copied().unwrap_or(BEYOND) - far
        };
        let mut high = most.min(LARGEST_P).ln();
        let mut at_high = short(high);
        if at_high > 0.0 {
            return most;
        }
        // p rarely falls by much.
        let mut step = 0.25;
        let (mut low, mut at_low) = loop {
            let low = (high - step).max(LEAST_P.ln());
            let at = short(low);
            if at > 0.0 {
                break (low, at);
            }
            if low <= LEAST_P.ln() {
                return LEAST_P;
            }
            (high, at_high, step) = (low, at, step * 3.0);
        };
        // The Illinois variant of regula falsi (Dowell and Jarratt, BIT 11, 1971); the upper end has always crossed.
        for _ in 0..60 {
            if high - low < 1e-6 || at_high > -1e-7 {
                break;
            }
            let middle = (low * at_high - high * at_low) / (at_high - at_low);
            let at = short(middle);
            if at > 0.0 {
                (low, at_low) = (middle, at);
                at_high /= 2.0;
            } else {
                (high, at_high) = (middle, at);
                at_low /= 2.0;
            }
        }
        high.exp()
    }
}

/// The boundaries of |z| at these informations, of which that at the horizon is 1 and which rise; `last` says that the
/// last of them spends all. A boundary of 9 is as good as none. For alpha between 0 and 1.
pub fn lan_demets_boundaries(alpha: f64, informations: &[f64], last: bool) -> Vec<f64> {
    boundaries(&Legendre::new(NODES), alpha, informations, last)
}

/// How much of alpha may be gone at an information.
fn spent(alpha: f64, information: f64) -> f64 {
    let z = normal_quantile(alpha / 4.0).unwrap_or(f64::NEG_INFINITY);
    4.0 * normal_cdf(z / information.min(1.0).sqrt())
}

fn boundaries(rule: &Legendre, alpha: f64, times: &[f64], last: bool) -> Vec<f64> {
    let mut found = Vec::with_capacity(times.len());
    // The part of |S| = |z| sqrt(t) that has not crossed, as masses at the nodes; all of it is at 0 to begin with.
    let mut masses = vec![(0.0, 1.0)];
    let (mut before, mut gone) = (0.0, 0.0);
    for (k, t) in times.iter().enumerate() {
        let sd = (t - before).sqrt();
        let time = if last && k + 1 == times.len() { 1.0 } else { *t };
        let wanted = spent(alpha, time) - gone;
        // The boundaries of z fall slowly.
        let start = found.last().map_or(BEYOND / 3.0, |before: &f64| before * 0.99) * t.sqrt();
        let edge = crossed_by(&masses, sd, wanted, start, BEYOND * t.sqrt());
        gone += above(&masses, sd, edge).0;
        found.push(edge / t.sqrt());
        // Beyond eight standard deviations there is nothing.
        let nodes = rule.over(0.0, edge.min(8.0 * t.sqrt()));
        masses = nodes.map(|(s, weight)| (s, weight * density(&masses, sd, s))).collect();
        before = *t;
    }
    found
}

/// The edge above which a mass `wanted` is, at most `beyond`: by Newton's steps from `start` for the logarithm of the
/// tail.
fn crossed_by(masses: &[(f64, f64)], sd: f64, wanted: f64, start: f64, beyond: f64) -> f64 {
    if wanted.is_nan() || wanted <= above(masses, sd, beyond).0 {
        return beyond;
    }
    let (mut low, mut high) = (0.0, beyond);
    let mut edge = start;
    for _ in 0..60 {
        let (tail, slope) = above(masses, sd, edge);
        if tail > wanted {
            low = edge
        } else {
            high = edge
        }
        let step = (tail / wanted).ln() * tail / slope;
        // A NaN or a step out of the bracket is replaced by halving it.
        let next = edge + step;
        let next = if next > low && next < high { next } else { f64::midpoint(low, high) };
        if (next - edge).abs() < 1e-10 {
            return next;
        }
        edge = next;
    }
    edge
}

/// The mass above an edge after a step, and its density there.
fn above(masses: &[(f64, f64)], sd: f64, edge: f64) -> (f64, f64) {
    let tail = masses
        .iter()
        .map(|(s, mass)| mass * (normal_cdf((s - edge) / sd) + normal_cdf((-s - edge) / sd)))
        .sum();
    (tail, density(masses, sd, edge))
}

/// The density of |S| after a step.
fn density(masses: &[(f64, f64)], sd: f64, s: f64) -> f64 {
    let bell = |x: f64| (-0.5 * x * x).exp();
    let sum: f64 = masses
        .iter()
        .map(|(from, mass)| mass * (bell((s - from) / sd) + bell((s + from) / sd)))
        .sum();
    sum / (sd * (2.0 * std::f64::consts::PI).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f64], expected: &[f64], most: f64) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < most, "{found:?} {expected:?}");
        }
    }

    /// By tests/fixtures/lan_demets.py, which finds what is published (4.8769, 3.357, 2.6803, 2.2898 and 2.031 for
    /// five looks) with many more nodes.
    #[test]
    fn as_published() {
        for (alpha, times, expected) in [
            (
                0.05,
                &[0.2, 0.4, 0.6, 0.8, 1.0][..],
                &[
                    4.876_884_948_8,
                    3.357_011_921_6,
                    2.680_280_064_5,
                    2.289_816_767_7,
                    2.031_032_043_3,
                ][..],
            ),
            (0.05, &[0.5, 1.0], &[2.962_588_042_7, 1.968_595_640_6]),
            (
                0.05,
                &[0.3, 0.33, 0.9, 1.0],
                &[3.928_572_542_6, 3.767_024_803_3, 2.094_433_221_6, 2.053_295_265_9],
            ),
            (0.05, &[1.0], &[1.959_963_984_5]),
        ] {
            near(&lan_demets_boundaries(alpha, times, true), expected, 1e-6);
        }
        let all: Vec<f64> = (10..=50).map(|k| f64::from(k) / 50.0).collect();
        let found = lan_demets_boundaries(0.05, &all, true);
        near(&found[38..], &[2.208_470_899_9, 2.185_692_211_4, 2.163_604_251_0], 1e-6);
    }

    /// What makes the smallest alpha that crosses a p-value.
    #[test]
    fn a_larger_alpha_has_boundaries_farther_in() {
        let times: Vec<f64> = (10..=50).map(|k| f64::from(k) / 50.0).collect();
        let mut last = vec![f64::INFINITY; times.len()];
        for alpha in [1e-10, 1e-6, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.9] {
            let found = lan_demets_boundaries(alpha, &times, true);
            let inside = found.iter().zip(&last).all(|(a, b)| a < b || *b >= BEYOND - 1e-9);
            assert!(inside, "{alpha}: {found:?}");
            last = found;
        }
    }

    #[test]
    fn p_is_the_alpha_that_just_crosses() {
        let mut looks = LanDemets::default();
        for (z, t) in [(1.0, 0.2), (2.5, 0.4), (-2.0, 0.6), (2.5, 0.8)] {
            looks.take(z, t, false);
        }
        let times = [0.2, 0.4, 0.6, 0.8];
        let at_p = lan_demets_boundaries(looks.up, &times, false);
        assert!((at_p[3] - 2.5).abs() < 1e-5 && looks.up < 0.05, "{looks:?} {at_p:?}");
        let at_p = lan_demets_boundaries(looks.down, &times[..3], false);
        assert!((at_p[2] - 2.0).abs() < 1e-5 && looks.down > 0.05, "{looks:?} {at_p:?}");
    }

    #[test]
    fn looks_too_near_do_not_count_and_the_last_spends_all() {
        let mut looks = LanDemets::default();
        looks.take(1.0, 0.3, false);
        looks.take(8.0, 0.31, false);
        looks.take(8.0, 0.99, false);
        looks.take(f64::NAN, 0.5, false);
        assert_eq!((looks.looks.len(), looks.evidence().stage), (1, Stage::Looking));
        looks.take(-1.97, 0.92, true);
        let evidence = looks.evidence();
        assert_eq!(evidence.stage, Stage::Done);
        assert!(evidence.down < 0.05 && evidence.down > 0.045, "{evidence:?}");
        looks.take(9.0, 1.0, true);
        assert_eq!(looks.evidence(), evidence);
        // Right after another.
        let mut looks = LanDemets::default();
        looks.take(0.5, 0.5, false);
        looks.take(6.0, 0.5001, true);
        assert!(looks.up < 1e-7, "{looks:?}");
        // Counted as a step that the quadrature resolves.
        assert_eq!(looks.looks[1].information, 0.505);
        // What is far from significant has no p.
        let mut looks = LanDemets::default();
        looks.take(0.3, 1.0, true);
        assert_eq!((looks.up, looks.down), (1.0, 1.0));
        looks = LanDemets::default();
        looks.take(-1.0, 1.0, true);
        assert!((looks.down - 0.3173).abs() < 1e-4, "{looks:?}");
    }
}
