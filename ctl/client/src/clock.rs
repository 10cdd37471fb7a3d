//! Time as what works in the background needs it: some 20 ns a look, and no step of the wall clock shows in spans.

use std::time::Duration;

use prost_types::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Since some fixed point.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// On the wall clock.
pub(crate) fn wall() -> Timestamp {
    let now = clock_gettime(ClockId::Realtime);
    Timestamp { seconds: now.tv_sec, nanos: i32::try_from(now.tv_nsec).unwrap_or(0) }
}
