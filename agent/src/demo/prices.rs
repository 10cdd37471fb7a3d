//! What the tour's feed sends: prices of assets that go together by one factor.

use std::fmt::Write as _;

use genesis_stats::normal_quantile;
use jiff::Timestamp;

/// Seconds of a bucket of matrices.
const BUCKET: i64 = 300;
/// Buckets of a file: more than the 100 that a pair of series needs in common.
const BUCKETS: i64 = 400;
/// The assets, how much of each return is the factor's, and a step through the unit interval for the rest of it: the
/// fractions of square roots, which no sum of the others comes near to (Kronecker's sequence).
const ASSETS: [(&str, f64, f64); 6] = [
    ("BTC-USD", 0.9, 0.414_213_562_373_095),
    ("ETH-USD", 0.85, 0.732_050_807_568_877),
    ("SOL-USD", 0.75, 0.236_067_977_499_790),
    ("XRP-USD", 0.6, 0.645_751_311_064_591),
    ("EUR-USD", 0.2, 0.316_624_790_355_400),
    ("GOLD-USD", -0.3, 0.605_551_275_463_989),
];
/// The step of the factor.
const FACTOR: f64 = 0.618_033_988_749_894_9;

/// A wide file of prices up to now. `upside_down`: those of the second asset go the other way.
pub(super) fn csv(now: Timestamp, upside_down: bool) -> String {
    let names: Vec<&str> = ASSETS.iter().map(|it| it.0).collect();
    let mut text = format!("timestamp,{}\n", names.join(","));
    let last = now.as_second().div_euclid(BUCKET) - 1;
    let mut prices = [100.0_f64; ASSETS.len()];
    for step in 0..=BUCKETS {
        let normal = |by: f64| {
            let place = (0.5 + step as f64 * by).fract();
            normal_quantile(place.clamp(1e-9, 1.0 - 1e-9)).unwrap_or(0.0)
        };
        let factor = normal(FACTOR);
        // Writing into a string does not fail.
        let _ = write!(text, "{}", (last - BUCKETS + step) * BUCKET);
        for (at, (price, (_, loading, by))) in prices.iter_mut().zip(ASSETS).enumerate() {
            let loading = if upside_down && at == 1 { -loading } else { loading };
            let own = (1.0 - loading * loading).sqrt() * normal(by);
            *price *= (0.001 * (loading * factor + own)).exp();
            let _ = write!(text, ",{price:.6}");
        }
        text.push('\n');
    }
    text
}
