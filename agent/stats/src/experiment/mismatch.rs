//! Whether the arms get the shares they should.

use super::gamma::ln_gamma;

/// What the prior is worth in trades: shares within about 3 percentage points of 90/10, or 5 of 50/50, are what a
/// mismatch is expected to look like. A vaguer prior is slower with small ones, a sharper one slower with gross ones.
const CONCENTRATION: f64 = 100.0;

/// ln of the evidence against the counts coming with these shares: the Bayes factor of a Dirichlet mixture.
///
/// Lindon and Malek, "Anytime-Valid Inference for Multinomial Count Data" (NeurIPS 2022), equation 5, with the prior
/// centred on the shares. In the order the units come in it is a martingale of expectation 1 where the shares are
/// right, so that it ever exceeds e has no more than the probability 1/e, however often one looks (Ville 1939). In
/// closed form from the counts, a few hundred nanoseconds for two arms.
///
/// The units must be independent. Many trades of few units are not: then count units.
/// `None` unless there are as many positive shares as counts, at least two; they need not add up to 1.
pub fn split_evidence(counts: &[u64], shares: &[f64]) -> Option<f64> {
    let all: f64 = shares.iter().sum();
    let usable = shares.iter().all(|share| *share > 0.0) && all.is_finite();
    if counts.len() != shares.len() || counts.len() < 2 || !usable {
        return None;
    }
    let n: f64 = counts.iter().map(|count| *count as f64).sum();
    let mut found = ln_gamma(CONCENTRATION) - ln_gamma(CONCENTRATION + n);
    for (count, share) in counts.iter().zip(shares) {
        let (count, share) = (*count as f64, share / all);
        let prior = CONCENTRATION * share;
        found += ln_gamma(prior + count) - ln_gamma(prior) - count * share.ln();
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_product_of_the_predictions() {
        let shares = [0.7, 0.2, 0.1];
        let mut counts = [0_u64; 3];
        let mut product = 0.0;
        for k in 0..300_usize {
            let arm = [0, 0, 1, 0, 2, 0, 1, 0, 0, 2][k % 10];
            let all: u64 = counts.iter().sum();
            let predicted =
                (CONCENTRATION * shares[arm] + counts[arm] as f64) / (CONCENTRATION + all as f64);
            product += (predicted / shares[arm]).ln();
            counts[arm] += 1;
            let found = split_evidence(&counts, &shares).unwrap();
            assert!((found - product).abs() < 1e-9, "{counts:?}: {found} {product}");
        }
        assert_eq!(split_evidence(&[0, 0], &[0.9, 0.1]), Some(0.0));
    }

    /// Of all orders in which units may come: the expectation at any time is 1.
    #[test]
    fn its_expectation_is_one() {
        for n in [1_u64, 7, 60] {
            let mut sum = 0.0;
            let mut chance = 0.9_f64.powi(n as i32);
            for k in 0..=n {
                sum += chance * split_evidence(&[n - k, k], &[0.9, 0.1]).unwrap().exp();
                chance *= (n - k) as f64 / (k + 1) as f64 * (0.1 / 0.9);
            }
            assert!((sum - 1.0).abs() < 1e-10, "{n}: {sum}");
        }
    }

    #[test]
    fn what_it_takes() {
        let limit = 1_000_f64.ln();
        let ninety = |control, variant| split_evidence(&[control, variant], &[90.0, 10.0]).unwrap();
        assert!(ninety(9_000, 1_000) < 0.0 && ninety(900, 130) < limit);
        assert!(ninety(100, 100) > limit && ninety(0, 30) > limit);
        assert!(ninety(8_800, 1_200) > limit && ninety(880_000, 120_000) > limit);
        // Ten million of each and no mismatch.
        assert!(split_evidence(&[10_000_000, 10_000_000], &[0.5, 0.5]).unwrap() < 0.0);
    }

    #[test]
    fn what_are_no_shares() {
        for shares in [&[1.0][..], &[0.5, 0.5, 0.5], &[1.0, 0.0], &[0.5, f64::NAN], &[-1.0, 2.0]] {
            assert_eq!(split_evidence(&[5, 5], shares), None, "{shares:?}");
        }
        assert_eq!(split_evidence(&[5], &[1.0]), None);
    }
}
