//! How long the tour's orders took: thirty hours of calls, as a service would have noted them.

use std::fmt::Write as _;

use genesis_stats::normal_quantile;
use jiff::Timestamp;

/// The operation.
pub(super) const OPERATION: &str = "orders.place";
/// Each hour has so many calls.
const CALLS: i64 = 400;
const HOURS: i64 = 30;
/// A step through the unit interval that leaves no gaps: the golden ratio's (Kronecker's sequence).
const STEP: f64 = 0.618_033_988_749_894_9;

/// Lines of CSV for the calls until now: half of them within 20 ms, one in a hundred above 64 ms.
pub(super) fn csv(now: Timestamp) -> String {
    let (mut text, mut at) = ("operation,timestamp,latency_ms\n".to_owned(), 0.5_f64);
    for call in 0..HOURS * CALLS {
        at = (at + STEP).fract();
        let seconds = now.as_second() - (HOURS * CALLS - call) * 3_600 / CALLS;
        let Some(normal) = normal_quantile(at) else { continue };
        let took = 20.0 * (0.5 * normal).exp();
        // Writing into a string does not fail.
        let _ = writeln!(text, "{OPERATION},{seconds},{took:.4}");
    }
    text
}
