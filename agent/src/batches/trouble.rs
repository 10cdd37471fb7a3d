//! That batches are not kept: since when, and why, as long as it lasts.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// Why, since when, and when the last time.
#[derive(Debug)]
struct Since {
    since: Timestamp,
    last: Timestamp,
    code: &'static str,
    why: String,
}

/// Whether what comes in is kept.
#[derive(Debug)]
pub struct Trouble {
    what: &'static str,
    now: Mutex<Option<Since>>,
}

impl Trouble {
    /// None. `what`: of what, such as "trades".
    pub fn none(what: &'static str) -> Self {
        Self { what, now: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Since>> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that they can't be kept, or that they can again; whether that is news.
    pub fn note(&self, why: Option<(&'static str, &str)>, at: Timestamp) -> bool {
        let mut now = self.lock();
        let what = self.what;
        match (why, now.take()) {
            (Some((code, why)), before) => {
                let known = before.as_ref().is_some_and(|before| before.why == why);
                let since = before.map_or(at, |before| before.since);
                *now = Some(Since { since, last: at, code, why: why.to_owned() });
                if !known {
                    tracing::error!(error = why, what, "these are not kept");
                }
                !known
            }
            (None, Some(_)) => {
                tracing::warn!(what, "these are kept again");
                true
            }
            (None, None) => false,
        }
    }

    /// The code and the words of what kept them from being kept within so many seconds.
    pub fn within(&self, seconds: i64, now: Timestamp) -> Option<(&'static str, String)> {
        let found = self.lock();
        let lately = found.as_ref().filter(|it| {
            // A clock that was set back is no reason to wait for long.
            (0..seconds).contains(&now.duration_since(it.last).as_secs())
        });
        lately.map(|it| (it.code, it.why.clone()))
    }

    /// Since when, and why.
    pub fn told(&self) -> Option<(Timestamp, String)> {
        self.lock().as_ref().map(|it| (it.since, it.why.clone()))
    }
}
