//! Sketches against the sorted values.

mod accuracy;
mod bytes;
mod hostile;
mod order;
mod sources;

use super::Sketch;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.share() * limit as f64) as usize
    }

    /// Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.share()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.share()).cos()
    }

    fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }
}

fn of(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::new();
    sketch.insert_all(values);
    sketch
}

/// Latencies of several shapes.
fn samples() -> Vec<(&'static str, Vec<f64>)> {
    let mut random = Random(7);
    let mut draw =
        |draw: &dyn Fn(&mut Random) -> f64| (0..20_000).map(|_| draw(&mut random)).collect();
    vec![
        ("lognormal", draw(&|random| random.lognormal(0.05, 0.75))),
        ("Pareto", draw(&|random| 0.002 * (1.0 - random.share()).powf(-1.0 / 1.5))),
        ("uniform", draw(&|random| 0.001 + random.share())),
        (
            "bimodal",
            draw(&|random| {
                let median = if random.share() < 0.3 { 4.0 } else { 0.003 };
                random.lognormal(median, 0.1)
            }),
        ),
        ("nine decades", draw(&|random| 10_f64.powf(9.0 * random.share() - 6.0))),
    ]
}
