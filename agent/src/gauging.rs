//! Gauges of one kind that are set anew together: whoever reads metrics in the meantime waits for the others of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Held while gauges are cleared and set, and while metrics are read. Two servers of Prometheus that come at one moment
/// would else each miss what the other has just cleared, and an alert that waits for a while would begin anew.
#[derive(Debug, Clone, Default)]
pub struct Gauging(Arc<Mutex<()>>);

impl Gauging {
    /// Until it is dropped nobody else sets or reads.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        // It guards no data of its own.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
