//! A wall clock that is set while an agent runs (libfaketime).

use std::path::{Path, PathBuf};

use jiff::SignedDuration;

use crate::TestAgent;

/// The wall clock of an agent, apart from the host's; what it measures durations by stays.
pub struct WallClock(PathBuf);

impl WallClock {
    /// Of an agent that has one.
    pub fn at(agent: &TestAgent) -> Self {
        Self(agent.folder().join("clock"))
    }

    /// Of an agent that is started from now on.
    ///
    /// # Panics
    /// When its file can't be written.
    pub fn of(agent: &mut TestAgent) -> Self {
        let library = format!("/usr/lib/{}-linux-gnu/faketime", std::env::consts::ARCH);
        let library = Path::new(&library).join("libfaketime.so.1");
        let clock = Self(agent.folder().join("clock"));
        agent.environment("LD_PRELOAD", library.to_str().expect("UTF-8"));
        agent.environment("FAKETIME_TIMESTAMP_FILE", clock.0.to_str().expect("UTF-8"));
        agent.environment("FAKETIME_NO_CACHE", "1");
        agent.environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        clock.ahead(SignedDuration::ZERO);
        clock
    }

    /// It is so far ahead from now on.
    ///
    /// # Panics
    /// When its file can't be written.
    pub fn ahead(&self, by: SignedDuration) {
        // At once: half of it would be another time.
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{:+}s", by.as_secs())).expect("the file of the clock");
        std::fs::rename(&new, &self.0).expect("the file of the clock");
    }
}
