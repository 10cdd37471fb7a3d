//! The one-sided CUSUM by which a circuit breaker tells a sustained deviation from noise.

use std::time::Duration;

/// Windows with fewer expected exceedances are taken together before they are judged: below this the binomial is so
/// skewed that no threshold serves both quiet and busy operations.
pub const LEAST_EXPECTED: f64 = 5.0;

/// The threshold for windows of one minute, see [`threshold`].
const THRESHOLD: f64 = 6.5;
/// How fast the run length grows with the threshold, at [`LEAST_EXPECTED`]: E[exp(t (z - 1))] = 1 has the root 1.56
/// for Poisson counts of mean 5. It is 2 for normal ones.
const RATE: f64 = 1.5;

/// Page's one-sided CUSUM: S = max(0, S + z / sqrt(phi) - 1), tripped when S > h.
///
/// Page, "Continuous Inspection Schemes" (Biometrika 41, 1954), section 3, for standardised deviations with the
/// allowance k = 1, that is, tuned to shifts of two standard deviations a window. Overdispersion is divided out by
/// phi, as in quasi-likelihood (Wedderburn, Biometrika 61, 1974, equation 7).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cusum {
    sum: f64,
    scale: f64,
    limit: f64,
}

impl Cusum {
    /// One that starts at zero. `phi` counts as at least 1, a `limit` that is not a positive number as infinite.
    pub fn new(phi: f64, limit: f64) -> Self {
        let limit = if limit > 0.0 { limit } else { f64::INFINITY };
        Self { sum: 0.0, scale: phi.max(1.0).sqrt(), limit }
    }

    /// The same, gone on with at `sum`, where what is usual changes from window to window. No number counts as zero.
    pub fn at(self, sum: f64) -> Self {
        Self { sum: if sum > 0.0 { sum } else { 0.0 }, ..self }
    }

    /// Takes a window's z in and says whether it trips. What is no number says nothing and changes nothing.
    pub fn observe(&mut self, z: f64) -> bool {
        if !z.is_nan() {
            // Bounded, so that one monstrous window can't make the sum useless for the hours after it.
            let step = (z / self.scale - 1.0).min(2.0 * self.limit);
            self.sum = (self.sum + step).max(0.0);
        }
        self.sum > self.limit
    }

    /// S.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// h.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Back to zero.
    pub fn reset(&mut self) {
        self.sum = 0.0;
    }

    /// Half-way to the limit, for the time after a repair that may not have been one: the fast initial response of
    /// Lucas and Crosier (Technometrics 24, 1982).
    pub fn head_start(&mut self) {
        self.sum = if self.limit.is_finite() { self.limit / 2.0 } else { 0.0 };
    }
}

/// The z of a window in which `above` of `calls` exceeded a reference that a share `share` exceeds by right:
/// (k - n p) / sqrt(n p (1 - p)), the score test of a binomial share.
///
/// `None` where it can't be told: no calls, more exceedances than calls, or a share that is not between 0 and 1.
pub fn exceedance_z(above: u64, calls: u64, share: f64) -> Option<f64> {
    if calls == 0 || above > calls || !(share > 0.0 && share < 1.0) {
        return None;
    }
    let (above, calls) = (above as f64, calls as f64);
    Some((above - calls * share) / (calls * share * (1.0 - share)).sqrt())
}

/// What is usual for an operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    /// p: this share exceeds the reference by right.
    pub share: f64,
    /// phi: how much more than binomially the windows scatter, at least 1.
    pub phi: f64,
}

impl Usual {
    /// What healthy windows of (exceedances, calls) say is usual.
    ///
    /// The share is that of all windows together, with half an exceedance added so that it is never zero, plus one
    /// standard error: estimated too low, it would be a constant drift of the CUSUM. phi = max(1, variance of z).
    /// `None` for fewer than two windows with calls, or where every call exceeds.
    pub fn learn(windows: &[(u64, u64)]) -> Option<Self> {
        let valid = || windows.iter().filter(|(above, calls)| *calls > 0 && above <= calls);
        let (above, calls) = valid()
            .fold((0.0, 0.0), |(above, calls), (k, n)| (above + *k as f64, calls + *n as f64));
        let count = valid().count();
        if count < 2 {
            return None;
        }
        let share = (above + 0.5) / (calls + 1.0);
        let zs: Vec<f64> = valid().filter_map(|(k, n)| exceedance_z(*k, *n, share)).collect();
        let mean = zs.iter().sum::<f64>() / count as f64;
        let scatter = zs.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
        let phi = scatter.max(1.0);
        let share = share + (phi * share * (1.0 - share) / calls).sqrt();
        (share < 1.0).then_some(Self { share, phi })
    }
}

/// h for windows of this length, so that on a healthy operation one CUSUM runs for at least 60 days on average
/// before it trips; a breaker has two of them (latency and errors), and so runs for at least 30 days.
///
/// 6.5 for one minute and longer, and for shorter windows as much more as the larger number of windows in 30 days needs
/// (7.7 for 10 s, 9.2 for 1 s). `tests/simulation.rs` holds it against the Markov chain of Brook and Evans (Biometrika
/// 59, 1972) and against simulated windows whose share and phi were learned from 60 windows: the figures stand there.
pub fn threshold(window: Duration) -> f64 {
    limit(window.as_secs_f64().clamp(0.001, 60.0), 2.0)
}

/// h for the alerts on an operation's latency, whose three quantiles have a CUSUM each: by the same rule as
/// [`threshold`], so that all three together run for at least 30 days on average before one of them trips.
///
/// 5.70 for five minutes: longer windows are fewer, three CUSUMs more than two. `tests/simulation.rs` and
/// `tests/deviation.rs` hold it against the Markov chain and against simulated traffic.
pub fn alert_threshold(window: Duration) -> f64 {
    limit(window.as_secs_f64().clamp(0.001, 3_600.0), 3.0)
}

/// h for so many CUSUMs beside each other to run for 30 days, from [`THRESHOLD`], which is for two.
fn limit(window_seconds: f64, beside: f64) -> f64 {
    THRESHOLD + (60.0 / window_seconds * beside / 2.0).ln() / RATE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        // By hand: 12 of 100 above a reference of 5 %: (12 - 5) / sqrt(4.75).
        assert!((exceedance_z(12, 100, 0.05).unwrap() - 7.0 / 4.75_f64.sqrt()).abs() < 1e-12);
        let mut cusum = Cusum::new(4.0, 2.5);
        for (z, sum, trips) in
            [(1.0, 0.0, false), (6.0, 2.0, false), (3.0, 2.5, false), (2.2, 2.6, true)]
        {
            assert_eq!(cusum.observe(z), trips, "{z}");
            assert!((cusum.sum() - sum).abs() < 1e-12, "{z}: {}", cusum.sum());
        }
        cusum.reset();
        assert_eq!(cusum.sum(), 0.0);
        cusum.head_start();
        assert_eq!(cusum.sum(), 1.25);
        assert_eq!(Cusum::new(4.0, 2.5).at(1.5), Cusum { sum: 1.5, scale: 2.0, limit: 2.5 });
        assert_eq!([f64::NAN, -1.0].map(|sum| cusum.at(sum).sum()), [0.0, 0.0]);
    }

    #[test]
    fn what_has_no_z_changes_nothing() {
        for (above, calls, share) in
            [(0, 0, 0.5), (2, 1, 0.5), (1, 2, 0.0), (1, 2, 1.0), (1, 2, f64::NAN), (1, 2, -0.1)]
        {
            assert_eq!(exceedance_z(above, calls, share), None, "{above} of {calls}, {share}");
        }
        let mut cusum = Cusum::new(1.0, 3.0);
        assert!(!cusum.observe(3.0));
        assert!(!cusum.observe(f64::NAN));
        assert_eq!(cusum.sum(), 2.0);
        // A limit that is none never trips.
        assert!(!Cusum::new(1.0, f64::NAN).observe(1e300));
        assert!(Cusum::new(f64::NAN, 3.0).observe(5.0));
        // One window can't blind it for ever.
        assert!(cusum.observe(f64::INFINITY) && cusum.sum() <= 8.0);
    }

    #[test]
    fn what_is_usual_is_learned() {
        let usual = Usual::learn(&[(50, 1_000); 60]).unwrap();
        assert_eq!(usual.phi, 1.0);
        assert!((usual.share - 0.0509).abs() < 0.0002, "{usual:?}");
        // Windows that swing between 2 and 8 %: z = +-4.35.
        let swinging: Vec<_> = (0..60).map(|i| (20 + 60 * (i % 2), 1_000)).collect();
        let usual = Usual::learn(&swinging).unwrap();
        assert!((usual.phi - 19.2).abs() < 0.2, "{usual:?}");
        assert!(Usual::learn(&[(0, 100); 60]).unwrap().share > 0.0);
        for none in [&[][..], &[(1, 10)], &[(0, 0); 9], &[(10, 10); 60], &[(3, 2); 60]] {
            assert_eq!(Usual::learn(none), None, "{none:?}");
        }
    }

    #[test]
    fn shorter_windows_have_higher_thresholds() {
        let of = |seconds: f64| threshold(Duration::from_secs_f64(seconds));
        assert_eq!(of(60.0), THRESHOLD);
        assert_eq!(of(300.0), THRESHOLD);
        assert!((of(10.0) - 7.69).abs() < 0.01 && (of(1.0) - 9.23).abs() < 0.01);
        assert!(of(0.0).is_finite());
        // 6.5 - ln(5) / 1.5 + ln(1.5) / 1.5.
        let of = |seconds: f64| alert_threshold(Duration::from_secs_f64(seconds));
        assert!((of(300.0) - 5.6973).abs() < 0.0001 && (of(60.0) - 6.7703).abs() < 0.0001);
        assert!(of(0.0).is_finite() && of(1e9) > 4.0);
    }

    proptest! {
        /// Against the other form of the CUSUM: the height of the walk above its lowest point so far.
        #[test]
        fn it_is_the_height_above_the_lowest_point(zs in proptest::collection::vec(-6.0..6.0_f64, 1..200), phi in 0.5..9.0_f64, limit in 3.0..12.0_f64) {
            let mut cusum = Cusum::new(phi, limit);
            let (mut walk, mut lowest) = (0.0_f64, 0.0_f64);
            for z in zs {
                walk += z / phi.max(1.0).sqrt() - 1.0;
                lowest = lowest.min(walk);
                let tripped = cusum.observe(z);
                let height = walk - lowest;
                prop_assert!((cusum.sum() - height).abs() < 1e-9, "{} {height}", cusum.sum());
                prop_assert!(tripped == (height > limit) || (height - limit).abs() < 1e-9);
            }
        }

        /// Against integers: z^2 n p (1 - p) = (k - n p)^2 with p = a / 1000, compared without a square root.
        #[test]
        fn z_is_the_score(calls in 1..100_000_u64, above in 0..100_000_u64, a in 1..1_000_u64) {
            let above = above.min(calls);
            let z = exceedance_z(above, calls, a as f64 / 1e3).unwrap();
            let gap = i128::from(above) * 1_000 - i128::from(calls * a);
            let spread = i128::from(calls * a * (1_000 - a));
            let square = (gap * gap) as f64 / spread as f64;
            prop_assert!((z * z - square).abs() <= 1e-9 * (1.0 + square));
            prop_assert!(gap == 0 || z.is_sign_negative() == (gap < 0));
        }
    }
}
