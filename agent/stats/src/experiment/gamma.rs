//! The logarithm of the gamma function.

/// ln Gamma(x) for positive x, to about 1e-15 of its size: Stirling's series (Abramowitz and Stegun, 6.1.41) from 12
/// on, below it by the recurrence.
pub(super) fn ln_gamma(x: f64) -> f64 {
    const HALF_LN_TWO_PI: f64 = 0.918_938_533_204_672_8;
    let (mut x, mut product) = (x, 1.0);
    while x < 12.0 {
        product *= x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let terms = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0];
    let series = terms.iter().rev().fold(0.0, |sum, term| sum * square + term) / x;
    (x - 0.5) * x.ln() - x + HALF_LN_TWO_PI + series - f64::ln(product)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factorials() {
        let mut sum = 0.0;
        for n in 1..=170 {
            assert!((ln_gamma(f64::from(n)) - sum).abs() <= 2e-14 * (1.0 + sum), "{n}");
            sum += f64::from(n).ln();
        }
        assert!((ln_gamma(0.5) - 0.5 * std::f64::consts::PI.ln()).abs() < 1e-14);
    }
}
