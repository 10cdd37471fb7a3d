//! Operations whose latencies and calls are known, from what is learned of them to what is made of their windows.

use std::time::Duration;

use genesis_stats::{
    Calibrated, Change, Judgement, OperationEpisode, OperationWatch, Quantile, Reference, Rule,
    WindowCount, alert_threshold, judge, normal_cdf, normal_quantile, phi,
};

use crate::support::{Random, Sample};

pub(crate) const WINDOW: Duration = Duration::from_secs(300);
/// Windows of an hour, and those of one hour of the week in a baseline of 30 days.
pub(crate) const HOUR: usize = 12;
pub(crate) const LEARNED: usize = 52;
pub(crate) const WEEK: usize = 168;

/// How an operation's latencies are distributed, in seconds, and how many calls a window has.
#[derive(Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) name: &'static str,
    /// The latency that a share u is below.
    pub(crate) at: fn(f64) -> f64,
    /// The share that is below a latency: the inverse of `at`.
    pub(crate) below: fn(f64) -> f64,
    /// By the hour of the week.
    pub(crate) calls: fn(&mut Random, usize) -> u64,
    /// A factor of all latencies, by the hour of the week.
    pub(crate) level: fn(usize) -> f64,
}

pub(crate) const SIGMA: f64 = 0.6;

fn lognormal(u: f64) -> f64 {
    0.02 * (SIGMA * normal_quantile(u).unwrap()).exp()
}

fn lognormal_below(x: f64) -> f64 {
    normal_cdf((x / 0.02).ln() / SIGMA)
}

pub(crate) const STEADY: Traffic = Traffic {
    name: "lognormal, 1,000 calls",
    at: lognormal,
    below: lognormal_below,
    calls: |_, _| 1_000,
    level: |_| 1.0,
};

pub(crate) const GENERATORS: [Traffic; 4] = [
    STEADY,
    Traffic {
        name: "Pareto 1.5, 2,000 calls",
        at: |u| 0.005 * (1.0 - u).powf(-1.0 / 1.5),
        below: |x| if x > 0.005 { 1.0 - (0.005 / x).powf(1.5) } else { 0.0 },
        calls: |_, _| 2_000,
        ..STEADY
    },
    // Hits within 1 to 3 ms, and 30 % misses within 20 to 60 ms.
    Traffic {
        name: "hits and misses, 600 calls",
        at: |u| if u < 0.7 { 0.001 + 0.002 * u / 0.7 } else { 0.02 + 0.04 * (u - 0.7) / 0.3 },
        below: |x| {
            let part = |from: f64, to: f64| ((x - from) / (to - from)).clamp(0.0, 1.0);
            0.7 * part(0.001, 0.003) + 0.3 * part(0.02, 0.06)
        },
        calls: |_, _| 600,
        ..STEADY
    },
    // Poisson calls, by the normal approximation, around a rate that is uniform on a logarithmic scale.
    Traffic {
        name: "Weibull 0.7, 200 to 5,000 calls",
        at: |u| 0.01 * (-(1.0 - u).ln()).powf(1.0 / 0.7),
        below: |x| 1.0 - (-(x / 0.01).powf(0.7)).exp(),
        calls: |random, _| {
            let rate = 200.0 * 25.0_f64.powf(random.next());
            (rate + rate.sqrt() * random.normal()).round().max(1.0) as u64
        },
        ..STEADY
    },
];

/// The upper end of a value's bucket in the sketch, and its representative.
pub(crate) fn bucket(value: f64) -> (f64, f64) {
    let gamma = (1.0_f64 / 64.0).exp2();
    let edge = ((value.log2() * 64.0).ceil() / 64.0).exp2();
    (edge, 2.0 * edge / (gamma + 1.0))
}

/// What is known of one quantile in one hour of the week.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) reference: Reference,
    /// Calls above it count as above x0, since they are in higher buckets.
    pub(crate) edge: f64,
    pub(crate) past: Vec<Calibrated>,
    pub(crate) phi: f64,
}

impl Known {
    /// From windows by their number in time.
    pub(crate) fn learn(past: &[(i64, Calibrated)], of: &Self) -> Self {
        let zs: Vec<_> = past.iter().map(|(at, past)| (*at, past.z)).collect();
        let past = past.iter().map(|(_, past)| *past).collect();
        Self { phi: phi(&zs), past, ..of.clone() }
    }
}

impl Traffic {
    /// The references of an hour, from a sample of 30 days.
    pub(crate) fn references(
        &self,
        random: &mut Random,
        hour: usize,
        windows: usize,
    ) -> [Known; 3] {
        let n = (0..windows).map(|_| (self.calls)(random, hour)).sum();
        let (mut sample, level) = (Sample::new(n), (self.level)(hour));
        Quantile::ALL.map(|quantile| {
            let (edge, x0) = bucket((self.at)(sample.quantile(random, quantile.share())) * level);
            let above = sample.above(random, (self.below)(edge / level));
            let reference = Reference { x0, share: above as f64 / n as f64, n };
            Known { reference, edge, past: Vec::new(), phi: 1.0 }
        })
    }

    /// A window of `n` calls whose latencies are `times` the usual ones, by what is known of its hour.
    pub(crate) fn window(
        &self,
        random: &mut Random,
        n: u64,
        hour: usize,
        times: f64,
        known: &[Known; 3],
    ) -> [WindowCount; 3] {
        let (mut sample, level) = (Sample::new(n), (self.level)(hour) * times);
        [0, 1, 2].map(|i| {
            let u = sample.quantile(random, Quantile::ALL[i].share());
            let (_, value) = bucket((self.at)(u) * level);
            let above = sample.above(random, (self.below)(known[i].edge / level));
            WindowCount { n, above, value }
        })
    }

    /// References and calibration of a week, from so many windows of each of its hours. An hour is calibrated by its
    /// own windows and its neighbours', 156 with steady calls, which are others than those the references are from.
    pub(crate) fn learn(&self, random: &mut Random, windows: usize) -> Vec<[Known; 3]> {
        let references: Vec<_> =
            (0..WEEK).map(|hour| self.references(random, hour, windows)).collect();
        let past: Vec<[Vec<(i64, Calibrated)>; 3]> = references
            .iter()
            .enumerate()
            .map(|(hour, known)| {
                let mut found = [const { Vec::new() }; 3];
                let mut pending = 0;
                for window in 0..windows {
                    let at = (window / HOUR * WEEK + hour) * HOUR + window % HOUR;
                    pending += (self.calls)(random, hour);
                    let counts = self.window(random, pending, hour, 1.0, known);
                    if let Some(judged) = all(&counts, known) {
                        pending = 0;
                        for i in 0..3 {
                            found[i].push((at as i64, calibrated(&judged[i], &counts[i])));
                        }
                    }
                }
                found
            })
            .collect();
        (0..WEEK)
            .map(|hour| {
                [0, 1, 2].map(|i| {
                    let near =
                        [hour + WEEK - 1, hour, hour + 1].map(|hour| &past[hour % WEEK][i][..]);
                    Known::learn(&near.concat(), &references[hour][i])
                })
            })
            .collect()
    }
}

pub(crate) fn calibrated(judged: &Judgement, count: &WindowCount) -> Calibrated {
    Calibrated { z: judged.z as f32, log_value: count.value.ln() as f32 }
}

/// The judgements of a window, or `None` where it is too small for one of them and waits for the next.
pub(crate) fn all(counts: &[WindowCount; 3], known: &[Known; 3]) -> Option<[Judgement; 3]> {
    let rule = Rule::default();
    let of = |i: usize| judge(&counts[i], &known[i].reference, &known[i].past, &rule);
    Some([of(0)?, of(1)?, of(2)?])
}

/// An operation on its way through the weeks.
pub(crate) struct Operation<'a> {
    traffic: Traffic,
    week: &'a [[Known; 3]],
    random: Random,
    pub(crate) at: usize,
    pending: u64,
    pub(crate) watch: OperationWatch,
}

impl<'a> Operation<'a> {
    pub(crate) fn new(traffic: &Traffic, week: &'a [[Known; 3]], seed: u64, at: usize) -> Self {
        let watch = OperationWatch::default();
        Self { traffic: *traffic, week, random: Random(seed), at, pending: 0, watch }
    }

    pub(crate) fn hour(&self) -> usize {
        self.at / HOUR % WEEK
    }

    /// The next window: its judgements and counts, and what they change. `None` while it waits for another.
    #[allow(clippy::type_complexity)]
    pub(crate) fn step(
        &mut self,
        times: f64,
        limit: f64,
    ) -> Option<([Judgement; 3], [WindowCount; 3], Change<OperationEpisode>)> {
        let hour = self.hour();
        let known = &self.week[hour];
        self.pending += (self.traffic.calls)(&mut self.random, hour);
        let counts = self.traffic.window(&mut self.random, self.pending, hour, times, known);
        let at = self.at as u64;
        self.at += 1;
        let judged = all(&counts, known)?;
        self.pending = 0;
        let looks = [0, 1, 2].map(|i| Some((&judged[i], known[i].phi)));
        let change = self.watch.observe(at, looks, limit);
        Some((judged, counts, change))
    }

    /// So many windows: which of those that were judged opened an episode.
    pub(crate) fn opened(&mut self, windows: usize, times: f64) -> Vec<usize> {
        let steps: Vec<_> =
            (0..windows).filter_map(|_| self.step(times, alert_threshold(WINDOW))).collect();
        let opens = |i: &usize| matches!(steps[*i].2, Change::Opened(_));
        (0..steps.len()).filter(opens).collect()
    }
}
