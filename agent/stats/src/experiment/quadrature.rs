//! Numerical integration.

/// The nodes and weights of Gauss and Legendre on [-1, 1].
#[derive(Debug, Clone)]
pub(super) struct Legendre(Vec<(f64, f64)>);

impl Legendre {
    /// With so many nodes: the roots of the Legendre polynomial by Newton's method (Abramowitz and Stegun, 25.4.29).
    pub(super) fn new(nodes: usize) -> Self {
        let n = nodes as f64;
        let root = |i: usize| {
            let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..100 {
                let (mut value, mut before) = (1.0, 0.0);
                for k in 0..nodes {
                    let k = k as f64;
                    let next = ((2.0 * k + 1.0) * x * value - k * before) / (k + 1.0);
                    (value, before) = (next, value);
                }
                slope = n * (x * value - before) / (x * x - 1.0);
                let step = value / slope;
                x -= step;
                if step.abs() < 1e-15 {
                    break;
                }
            }
            (x, 2.0 / ((1.0 - x * x) * slope * slope))
        };
        Self((0..nodes).map(root).collect())
    }

    /// Nodes and weights for an interval.
    pub(super) fn over(&self, from: f64, to: f64) -> impl Iterator<Item = (f64, f64)> {
        let half = (to - from) / 2.0;
        self.0.iter().map(move |(x, weight)| (from + half * (1.0 + x), weight * half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_integrated_exactly() {
        for nodes in [2, 5, 48] {
            let rule = Legendre::new(nodes);
            for power in 0..2 * nodes as i32 {
                let found: f64 =
                    rule.over(0.0, 1.0).map(|(x, weight)| weight * x.powi(power)).sum();
                assert!((found * f64::from(power + 1) - 1.0).abs() < 1e-12, "{nodes} {power}");
            }
        }
    }
}
