//! Time. The only file that reads it; everything else is handed it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use genesis_storage::Moment;
use jiff::{SignedDuration, Timestamp};

/// Where time comes from.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Wall-clock time, UTC. It may jump in both directions.
    fn now(&self) -> Timestamp;
    /// Time since some fixed point; it never goes back.
    fn monotonic(&self) -> Duration;
    /// Now on the wall clock, and on the one that counts from the host's boot.
    fn moment(&self) -> Moment;
    /// Returns after `duration` of monotonic time.
    async fn sleep(&self, duration: Duration);
    /// Returns when monotonic time is a multiple of `period` the next time: for loops that look at something from time to
    /// time. Those of one pace wake together, where each waking costs a host more than most looks do.
    async fn tick(&self, period: Duration) {
        let past = self.monotonic().as_nanos().checked_rem(period.as_nanos()).unwrap_or(0);
        let past = Duration::from_nanos(u64::try_from(past).unwrap_or(0));
        self.sleep(period.saturating_sub(past)).await;
    }
}

/// The host's clock.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
    /// Which boot of the host; empty where that can't be told.
    boot: String,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[allow(clippy::disallowed_methods)] // The one place that may.
    pub fn new() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { origin: Instant::now(), boot: boot.trim().to_owned() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // The one place that may.
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn moment(&self) -> Moment {
        use rustix::time::{ClockId, clock_gettime};

        // Not /proc/uptime: containers have one of their own, beside the host's boot id.
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
        let since_boot = Duration::new(seconds, nanoseconds);
        Moment { wall: self.now(), boot: self.boot.clone(), since_boot }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(Timestamp, Duration)>,
    moved: tokio::sync::watch::Sender<Duration>,
    boots: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: Mutex::new((now, Duration::ZERO)),
            moved: tokio::sync::watch::Sender::new(Duration::ZERO),
            boots: AtomicU64::new(1),
        }
    }

    /// Moves wall and monotonic time on, and wakes whoever slept until then.
    pub fn advance(&self, duration: Duration) {
        let monotonic = {
            let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let step = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
            state.0 = state.0.checked_add(step).unwrap_or(Timestamp::MAX);
            state.1 += duration;
            state.1
        };
        self.moved.send_replace(monotonic);
    }

    /// Sets the wall clock, as an operator or NTP may; monotonic time is not touched.
    pub fn set(&self, now: Timestamp) {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).0 = now;
    }

    /// The host boots anew: only the wall clock tells now how long ago something was.
    pub fn reboot(&self) {
        self.boots.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).0
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).1
    }

    fn moment(&self) -> Moment {
        let (wall, since_boot) =
            *self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Moment { wall, boot: format!("boot {}", self.boots.load(Ordering::Relaxed)), since_boot }
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.monotonic() + duration;
        let mut moved = self.moved.subscribe();
        // The sender lives as long as this clock, so waiting can't fail.
        let _ = moved.wait_for(|monotonic| *monotonic >= until).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn loops_of_one_pace_wake_together() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let (period, moment) = (Duration::from_secs(5), Duration::from_millis(1));
        clock.advance(Duration::from_millis(1_200));
        let mut one = Box::pin(clock.tick(period));
        assert!((&mut one).now_or_never().is_none());
        clock.advance(Duration::from_secs(1));
        let mut other = Box::pin(clock.tick(period));
        clock.advance(Duration::from_secs(5) - clock.monotonic() - moment);
        assert!((&mut one).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        clock.advance(moment);
        assert!(one.now_or_never().is_some() && other.now_or_never().is_some());
        // At the very moment it is the next one.
        let mut next = Box::pin(clock.tick(period));
        clock.advance(period - moment);
        assert!((&mut next).now_or_never().is_none());
        clock.advance(moment);
        assert!(next.now_or_never().is_some());
        assert!(clock.tick(Duration::ZERO).now_or_never().is_some());
    }
}
