//! How far one window is out.

use crate::cusum::{LEAST_EXPECTED, exceedance_z};
use crate::{normal_quantile, quantile, t_upper_tail};

/// Below so many calibration windows nobody knows what is usual, and nothing is a candidate or none.
///
/// With five of them only what is 11 median deviations out would be a candidate; with eight 5.7 are enough, and the
/// median stays among the good ones though three are bad.
const LEAST_KNOWN: usize = 8;
/// What the median deviation is worth: it needs 1 / 0.3675 as many values as a standard deviation for the same
/// precision (Rousseeuw and Croux, Journal of the American Statistical Association 88, 1993), and so its t
/// has that share of the degrees of freedom. With all of them 5.0 % of healthy windows would be candidates at B = 8,
/// not 2.275 %.
const EFFICIENCY: f64 = 0.3675;
/// Makes a median deviation a standard deviation, for normal values.
const MEDIAN_DEVIATION: f64 = 1.4826;
/// So many exceedances where fewer than [`LEAST_EXPECTED`] are expected are no chance: less than 1 in 10^6 (Poisson).
const PLAINLY: u64 = 20;
/// By so much a rise of five percent may seem less than it is: the reference and the window's quantile are read from
/// buckets that are 1.09 % wide.
const DOUBT: f64 = 0.0115;

/// What a quantile's baseline says of a window; the caller picks the hour of the week, the part of the day or all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reference {
    /// The baseline's quantile, in seconds.
    pub x0: f64,
    /// p0: the share of the baseline's calls that are above it.
    pub share: f64,
    /// The baseline's calls.
    pub n: u64,
}

/// A window's calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowCount {
    /// All of them.
    pub n: u64,
    /// Those above the reference's `x0`.
    pub above: u64,
    /// The window's own quantile, in seconds.
    pub value: f64,
}

/// What a past healthy window of the same hour of the week, or of its neighbours, had.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibrated {
    /// Its z, as it was judged then.
    pub z: f32,
    /// The natural logarithm of its quantile in seconds.
    pub log_value: f32,
}

/// From where on a window is a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The largest p of a candidate.
    pub candidate_p: f64,
    /// So much its quantile must exceed the reference at the least, as a share; also to add to the CUSUM, see
    /// [`Judgement::evidence`].
    pub least_rise: f64,
    /// From so many calibration windows on p is taken from their ranks. Its smallest value is 1 / (1 + B), so that with
    /// fewer than `1 / candidate_p - 1` there could be no candidate.
    pub least_calibration: usize,
}

impl Default for Rule {
    /// One-sided two sigma, 5 %, and 43 windows: 1 / 44 is just below 0.02275.
    fn default() -> Self {
        Self { candidate_p: 0.02275, least_rise: 0.05, least_calibration: 43 }
    }
}

/// How p was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By the rank of z among the calibration windows, whatever their distribution (Vovk, Gammerman and Shafer,
    /// "Algorithmic Learning in a Random World", 2005, section 2.2).
    Conformal,
    /// By the logarithm of the quantile, as a t of their median and median deviation.
    StudentT,
}

/// What the calibration windows say of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// How p was found.
    pub method: Method,
    /// The chance that a healthy window is as far out.
    pub p: f64,
    /// The z of a normal variable with this p. For people to read, and to tell when an episode is over: by ranks it
    /// saturates, at 2.49 for 155 calibration windows, however gross the shift is. Alerts come from the CUSUM of z.
    pub z_equivalent: f64,
    /// The window is out by p, and by enough to matter.
    pub candidate: bool,
}

/// What is made of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// (k - n p0) / sqrt(n p0 (1 - p0)).
    pub z: f64,
    /// One standard error of p0 in the same unit, sqrt(n / N): so much z may be out all the time for no other reason
    /// than a young baseline. The CUSUM takes it off, as the breaker's share is taken one standard error too high.
    pub slack: f64,
    /// The window's quantile by the reference, less one.
    pub rise: f64,
    /// So much it must rise at the least to matter, as a share: that of the rule.
    pub least_rise: f64,
    /// `None`: too few calibration windows, or ones without any scatter, to say. Not known is not healthy.
    pub verdict: Option<Verdict>,
}

impl Judgement {
    /// What the CUSUM takes in, given the phi of its hour: z less the slack. Of a window that has not risen by enough to
    /// matter it is at most what leaves the sum as it is, so that many calls alone make no deviation of one percent, and
    /// one of more is not forgotten over a window that happened to be less slow.
    pub fn evidence(&self, phi: f64) -> f64 {
        let root = phi.max(1.0).sqrt();
        let z = self.z - self.slack * root;
        if self.risen() { z } else { z.min(root) }
    }

    /// It has risen by enough to matter, or by so little less that the sketch can't tell.
    fn risen(&self) -> bool {
        self.rise >= self.least_rise - DOUBT
    }

    /// It is not even half as much: an episode may end, whatever z says. Half, so that one of just enough does not end
    /// and begin all the time.
    pub(super) fn is_slight(&self) -> bool {
        self.rise < self.least_rise / 2.0
    }
}

/// Judges a window against its reference and the calibration windows; those that hold no number are left out.
///
/// `None` where it can't be told: no calls, fewer than [`LEAST_EXPECTED`] exceedances expected (the caller then takes
/// windows together), more exceedances than calls, or a reference or a quantile that is no positive number.
///
/// By ranks, healthy windows that are exchangeable with the calibration windows are candidates in at most 2.275 % of
/// cases, whatever their distribution. Cost: two passes over the calibration windows.
pub fn judge(
    window: &WindowCount,
    reference: &Reference,
    calibration: &[Calibrated],
    rule: &Rule,
) -> Option<Judgement> {
    let positive = |value: f64| value > 0.0 && value.is_finite();
    let told = positive(reference.x0) && positive(window.value) && reference.n > 0;
    let rise = window.value / reference.x0 - 1.0;
    // Where values hardly differ, such as those of a clock of milliseconds, next to none is above by right, and a window
    // never has calls enough to expect some; it is out all the same when many are, and by enough to matter.
    let plainly_out = window.above >= PLAINLY && rise >= rule.least_rise;
    if !told || (window.n as f64 * reference.share < LEAST_EXPECTED && !plainly_out) {
        return None;
    }
    let z = exceedance_z(window.above, window.n, reference.share)?;
    let slack = (window.n as f64 / reference.n as f64).sqrt();
    let least_rise = rule.least_rise;
    let known =
        || calibration.iter().filter(|past| past.z.is_finite() && past.log_value.is_finite());
    let count = known().count();
    let (method, p, least) = if count >= rule.least_calibration.max(1) {
        // Compared as they are kept, so that equal ones are equal.
        let as_far = known().filter(|past| past.z >= z as f32).count();
        let least = 1.0 / (1.0 + count as f64);
        (Method::Conformal, (1.0 + as_far as f64) * least, least)
    } else {
        let logs = known().map(|past| f64::from(past.log_value)).collect();
        match by_log_value(window.value.ln(), logs) {
            Some(p) => (Method::StudentT, p, f64::MIN_POSITIVE),
            None => return Some(Judgement { z, slack, rise, least_rise, verdict: None }),
        }
    };
    let out = p <= rule.candidate_p && rise >= rule.least_rise - 1e-12;
    // As far down as up at the most: p = 1 has no z.
    let z_equivalent = match normal_quantile(p.max(least)) {
        Some(z) if p < 1.0 - least => -z,
        _ => normal_quantile(least)?,
    };
    Some(Judgement {
        z,
        slack,
        rise,
        least_rise,
        verdict: Some(Verdict { method, p, z_equivalent, candidate: out }),
    })
}

/// The p of a logarithm among those of past windows: the chance that a t is above (x - median) / (1.4826 MAD), by
/// sqrt(1 + 1/B) since the median is an estimate too.
fn by_log_value(log: f64, mut past: Vec<f64>) -> Option<f64> {
    let count = past.len();
    if count < LEAST_KNOWN {
        return None;
    }
    past.sort_by(f64::total_cmp);
    let median = quantile(&past, 0.5)?;
    past.iter_mut().for_each(|value| *value = (*value - median).abs());
    past.sort_by(f64::total_cmp);
    let deviation = MEDIAN_DEVIATION * quantile(&past, 0.5)?;
    // Kept as f32: what is within its rounding is no scatter.
    if deviation <= 4.0 * f64::from(f32::EPSILON) * median.abs().max(1.0) {
        return None;
    }
    let t = (log - median) / (deviation * (1.0 + 1.0 / count as f64).sqrt());
    Some(t_upper_tail(t, EFFICIENCY * (count - 1) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: Reference = Reference { x0: 0.2, share: 0.05, n: 40_000 };

    fn window(n: u64, above: u64, value: f64) -> WindowCount {
        WindowCount { n, above, value }
    }

    /// So many windows with z = -1, -1 + step, ... and log values around ln 0.2.
    fn past(count: usize, step: f32) -> Vec<Calibrated> {
        let at = |i: usize| Calibrated {
            z: -1.0 + step * i as f32,
            log_value: 0.2_f32.ln() + 0.01 * (i as f32 - (count - 1) as f32 / 2.0),
        };
        (0..count).map(at).collect()
    }

    fn told(window: WindowCount, past: &[Calibrated]) -> Judgement {
        judge(&window, &REFERENCE, past, &Rule::default()).unwrap()
    }

    #[test]
    fn by_ranks() {
        // z = (k - 20) / sqrt(19) of 400 calls. The 99 past windows have z = -1.00, -0.95 ... 3.90.
        let past = past(99, 0.05);
        for (above, value, as_far, z_equivalent, candidate) in [
            (15, 0.2, 99.0, -2.326_347_874, false), // z = -1.147, and p = 1 counts as 0.99.
            (16, 0.2, 97.0, -2.053_748_911, false), // -0.918: all but two.
            (20, 0.2, 79.0, -0.841_621_234, false), // 0, where one is exactly.
            (30, 0.22, 33.0, 0.412_463_129, false), // 2.294: 2.30 ... 3.90.
            (36, 0.22, 5.0, 1.554_773_595, false),  // 3.671: 3.70 ... 3.90.
            (37, 0.22, 0.0, 2.326_347_874, true),   // 3.90008, just above the last.
            (60, 0.9, 0.0, 2.326_347_874, true),
            (60, 0.2099, 0.0, 2.326_347_874, false), // Out, but by less than 5 %.
            (60, 0.21, 0.0, 2.326_347_874, true),
        ] {
            let found = told(window(400, above, value), &past);
            let verdict = found.verdict.unwrap();
            assert_eq!(verdict.method, Method::Conformal);
            assert!((found.z - (above as f64 - 20.0) / 19.0_f64.sqrt()).abs() < 1e-12);
            assert!(
                (found.slack - 0.1).abs() < 1e-12 && (found.rise - value / 0.2 + 1.0).abs() < 1e-9
            );
            assert!((verdict.p - (1.0 + as_far) / 100.0).abs() < 1e-12, "{above}: {verdict:?}");
            assert!((verdict.z_equivalent - z_equivalent).abs() < 1e-8, "{above}: {verdict:?}");
            assert_eq!(verdict.candidate, candidate, "{above} {value}");
        }
    }
    #[test]
    fn equal_ones_are_as_far() {
        // Some of them are rounded down, and some up.
        for above in 31..60 {
            let z = exceedance_z(above, 400, 0.05).unwrap() as f32;
            let past = [Calibrated { z, log_value: 0.0 }; 43];
            assert_eq!(told(window(400, above, 0.3), &past).verdict.unwrap().p, 1.0, "{above}");
            let lower = past.map(|past| Calibrated { z: past.z.next_down(), ..past });
            let verdict = told(window(400, above, 0.3), &lower).verdict.unwrap();
            assert!(verdict.candidate && verdict.p == 1.0 / 44.0);
        }
    }

    #[test]
    fn by_log_values() {
        // Nine log values at 0.01 from each other: MAD 0.02, deviation 0.029652, times sqrt(10/9) = 0.031256, with 2.94
        // degrees of freedom. 0.22 is at t = ln 1.1 / 0.031256 = 3.0493; scipy.stats.t.sf(3.049345, 2.94) = 0.028466.
        let verdict = told(window(400, 60, 0.22), &past(9, 0.1)).verdict.unwrap();
        assert_eq!((verdict.method, verdict.candidate), (Method::StudentT, false));
        assert!((verdict.p - 0.028_466).abs() < 2e-6, "{verdict:?}");
        assert!((normal_quantile(verdict.p).unwrap() + verdict.z_equivalent).abs() < 1e-12);
        assert!(told(window(400, 60, 0.225), &past(9, 0.1)).verdict.unwrap().candidate);
        // At the median p is a half, below it more; neither is one, though much of the window is above x0.
        for (value, z) in [(0.2, 0.0), (0.19, -1.0)] {
            let verdict = told(window(400, 60, value), &past(9, 0.1)).verdict.unwrap();
            assert!(!verdict.candidate && verdict.z_equivalent < z + 1e-4, "{verdict:?}");
        }
        // Up to 42.
        let method =
            |count| told(window(400, 60, 0.22), &past(count, 0.1)).verdict.map(|v| v.method);
        assert_eq!(method(42), Some(Method::StudentT));
        assert_eq!(method(43), Some(Method::Conformal));
    }

    #[test]
    fn what_nobody_can_tell() {
        let gross = window(400, 400, 9.0);
        for unknown in [&[][..], &past(7, 0.1), &[past(1, 0.1)[0]; 30]] {
            let judged = told(gross, unknown);
            assert_eq!(judged.verdict, None);
            assert!(judged.z > 80.0 && judged.rise > 40.0, "{judged:?}");
        }
        assert!(told(gross, &past(8, 0.1)).verdict.unwrap().candidate);
        // What is no number is no window: 8 are left of 9, and then 7.
        let mut torn = past(9, 0.1);
        torn[0].z = f32::NAN;
        assert!(told(gross, &torn).verdict.is_some());
        torn[1].log_value = f32::INFINITY;
        assert_eq!(told(gross, &torn).verdict, None);
    }

    #[test]
    fn what_is_no_window() {
        let past = past(99, 0.05);
        let of = |n, above, value, x0, share, baseline| {
            let reference = Reference { x0, share, n: baseline };
            judge(&window(n, above, value), &reference, &past, &Rule::default()).is_some()
        };
        assert!(of(100, 5, 0.2, 0.2, 0.05, 500));
        for (n, above, value, x0, share, baseline) in [
            (0, 0, 0.2, 0.2, 0.05, 500),
            (99, 5, 0.2, 0.2, 0.05, 500), // 4.95 expected.
            (100, 101, 0.2, 0.2, 0.05, 500),
            (100, 5, f64::NAN, 0.2, 0.05, 500),
            (100, 5, 0.0, 0.2, 0.05, 500),
            (100, 5, 0.2, 0.0, 0.05, 500),
            (100, 5, 0.2, f64::INFINITY, 0.05, 500),
            (100, 5, 0.2, 0.2, 0.0, 500),
            (100, 5, 0.2, 0.2, 1.0, 500),
            (100, 5, 0.2, 0.2, f64::NAN, 500),
            (100, 5, 0.2, 0.2, 0.05, 0),
        ] {
            assert!(!of(n, above, value, x0, share, baseline), "{n} {above} {value} {x0} {share}");
        }
    }

    #[test]
    fn what_has_not_risen_adds_nothing() {
        let judged =
            |z: f64, rise: f64| Judgement { z, slack: 0.5, rise, least_rise: 0.05, verdict: None };
        for (rise, most) in [(0.06, 99.0), (0.04, 99.0), (0.038, 2.0), (0.0, 2.0), (-0.5, 2.0)] {
            assert_eq!(judged(100.0, rise).evidence(4.0), most, "{rise}");
            assert_eq!(judged(2.0, rise).evidence(4.0), 1.0, "{rise}");
            assert_eq!(judged(-7.0, rise).evidence(4.0), -8.0, "{rise}");
        }
        assert_eq!(judged(9.0, 0.0).evidence(0.5), 1.0);
        assert!(judged(f64::NAN, 0.05).evidence(1.0).is_nan());
        // The rule says how much that is.
        let rule = Rule { least_rise: 0.5, ..Rule::default() };
        let of =
            |value| judge(&window(400, 60, value), &REFERENCE, &[], &rule).unwrap().evidence(1.0);
        assert!(of(0.29) == 1.0 && of(0.3) > 9.0);
    }
}
