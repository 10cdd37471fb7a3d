//! What the tour's trades earned: a variant that earns more, and one that loses.

use std::fmt::Write as _;

use genesis_stats::normal_quantile;
use jiff::Timestamp;

/// The strategy.
pub(super) const STRATEGY: &str = "market-making";
/// It takes so many until such a difference is decided.
const TRADES: u32 = 216;
/// A step through the unit interval that leaves no gaps: the golden ratio's (Kronecker's sequence).
const STEP: f64 = 0.618_033_988_749_894_9;

/// Lines of CSV for its trades, in turn of the control and the variant, whose means are given; the deviation is 1.
pub(super) fn csv(now: Timestamp, test: &str, means: [f64; 2]) -> String {
    let mut text = "experiment,trade_id,arm,pnl,timestamp\n".to_owned();
    // Each arm goes through all of its distribution, one behind the other.
    let mut places = [0.5_f64, 0.25];
    for trade in 0..TRADES {
        let arm = trade as usize % 2;
        places[arm] = (places[arm] + STEP).fract();
        let Some(normal) = normal_quantile(places[arm]) else { continue };
        let (name, pnl) = (["control", "variant"][arm], means[arm] + normal);
        // Writing into a string does not fail.
        let _ = writeln!(text, "{test},fill-{trade},{name},{pnl:.4},{now}");
    }
    text
}
