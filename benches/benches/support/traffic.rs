//! Latencies as services have them: lognormal, median 20 ms, sigma 0.5, from a seed.

use genesis_stats::{Sketch, normal_quantile};

pub(crate) struct Traffic(u64);

impl Traffic {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Between 0 and 1, never either. splitmix64: Steele, Lea and Flood 2014.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        ((bits >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    /// In seconds.
    pub(crate) fn latency(&mut self) -> f64 {
        // Of what is between 0 and 1 there is one.
        0.02 * (0.5 * normal_quantile(self.uniform()).unwrap_or(0.0)).exp()
    }

    pub(crate) fn latencies(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.latency()).collect()
    }

    pub(crate) fn sketch(&mut self, count: usize) -> Sketch {
        let mut sketch = Sketch::new();
        sketch.insert_all(&self.latencies(count));
        sketch
    }

    /// Calls from a time on, 280 a second, by nanoseconds and seconds.
    pub(crate) fn calls(&mut self, from: i64, count: usize) -> (Vec<i64>, Vec<f64>) {
        let mut at = from;
        let times = (0..count).map(|_| {
            at += (-self.uniform().ln() / 280.0 * 1e9) as i64;
            at
        });
        let times = times.collect();
        (times, self.latencies(count))
    }
}
