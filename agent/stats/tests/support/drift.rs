//! Operations whose windows cling together.

use genesis_stats::{Judgement, Quantile, Reference, WindowCount};

use crate::support::Random;
use crate::traffic::{HOUR, Known, SIGMA, STEADY, WEEK, all, bucket, calibrated};

/// A level that drifts, an autoregression of its logarithm, with one reference for all hours.
#[derive(Clone)]
pub(crate) struct Drift {
    pub(crate) persistence: f64,
    pub(crate) spread: f64,
    pub(crate) calls: u64,
    log: f64,
}

impl Drift {
    pub(crate) fn new(persistence: f64, spread: f64, calls: u64) -> Self {
        Self { persistence, spread, calls, log: 0.0 }
    }

    /// Another stretch of it, somewhere in its course.
    pub(crate) fn anew(&self, random: &mut Random) -> Self {
        Self { log: self.spread * random.normal(), ..self.clone() }
    }

    fn level(&mut self, random: &mut Random) -> f64 {
        let rest = self.spread * (1.0 - self.persistence * self.persistence).sqrt();
        self.log = self.persistence * self.log + rest * random.normal();
        self.log.exp()
    }

    pub(crate) fn references(&self, random: &mut Random) -> [Known; 3] {
        let (mut values, mut drift) = (Vec::new(), self.anew(random));
        for _ in 0..8_640 {
            let level = drift.level(random);
            values.extend((0..20).map(|_| level * 0.02 * (SIGMA * random.normal()).exp()));
        }
        values.sort_by(f64::total_cmp);
        let n = values.len();
        Quantile::ALL.map(|quantile| {
            let (edge, x0) = bucket(values[(quantile.share() * (n - 1) as f64) as usize]);
            let share = (n - values.partition_point(|value| *value <= edge)) as f64 / n as f64;
            // As if each window had had all of its calls in it.
            let reference = Reference { x0, share, n: 8_640 * self.calls };
            Known { reference, edge, past: Vec::new(), phi: 1.0 }
        })
    }

    /// The same with what three hours in each of four weeks had.
    pub(crate) fn learn(&self, random: &mut Random, references: &[Known; 3]) -> [Known; 3] {
        let mut past = [const { Vec::new() }; 3];
        for week in 0..4 {
            let mut drift = self.anew(random);
            for window in 0..3 * HOUR {
                let (judged, counts) = drift.step(random, references, 1.0);
                let at = (week * WEEK * HOUR + window) as i64;
                for i in 0..3 {
                    past[i].push((at, calibrated(&judged[i], &counts[i])));
                }
            }
        }
        [0, 1, 2].map(|i| Known::learn(&past[i], &references[i]))
    }

    /// The next window.
    pub(crate) fn step(
        &mut self,
        random: &mut Random,
        known: &[Known; 3],
        times: f64,
    ) -> ([Judgement; 3], [WindowCount; 3]) {
        let counts = self.window(random, known, times);
        (all(&counts, known).unwrap(), counts)
    }

    /// Its calls alone.
    pub(crate) fn window(
        &mut self,
        random: &mut Random,
        known: &[Known; 3],
        times: f64,
    ) -> [WindowCount; 3] {
        let level = self.level(random) * times;
        STEADY.window(random, self.calls, 0, level, known)
    }
}
