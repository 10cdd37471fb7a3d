//! The wall clock and limits for waiting. The ban on reading time is for the product.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Long enough for anything that happens at all, on a machine that does five times as much beside it.
pub const LIMIT: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// The time now.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within [`LIMIT`]; the message names what was waited for.
pub fn wait_for<T>(what: &str, answer: impl FnMut() -> Option<T>) -> T {
    wait_within(LIMIT, what, answer)
}

fn wait_within<T>(limit: Duration, what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

/// [`wait_until`] for what takes its time even where all is well: an alert is over after half a minute.
///
/// # Panics
/// When it does not hold within `limit`.
pub fn wait_until_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_within(limit, what, || condition().then_some(()));
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within [`LIMIT`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Time that passes.
#[derive(Debug, Clone, Copy)]
pub struct Watch(Instant);

impl Watch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago that was.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
