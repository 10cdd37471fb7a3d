//! Which calls are let in. What is let in is worked on at once; the others are told when to come back.
//!
//! Two things fill an agent: calls that wait for something, which are counted, and calls that keep its threads
//! busy, which show in how much work waits for a thread. What is urgent has places of its own and is never turned
//! away for a backlog: it is few, and the reason to turn the others away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use genesis_proto::MethodPolicy;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;
use crate::outside::Clock;

/// So many calls are worked on at a time; more are shed.
const IN_FLIGHT: usize = 256;
/// Places that only urgent calls and health take.
const URGENT: usize = 32;
/// So many streams flow at a time; more are shed.
const STREAMS: usize = 1_024;
/// So many tasks may wait for a thread before calls are shed. Each takes some 50 microseconds.
const BACKLOG: usize = 128;
/// A pause in which nobody called says little about how it was.
const STALE: Duration = Duration::from_millis(250);
/// When a shed caller may try again: at least, and at most.
const AWAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Health is asked most when there is much to do, and costs nothing.
pub const HEALTH: &str = "/grpc.health.v1.Health/";

/// What a call holds while it is worked on, and a stream while it flows.
pub struct Places {
    _work: OwnedSemaphorePermit,
    /// The stream's.
    pub stream: Option<OwnedSemaphorePermit>,
}

/// The places, and how late the agent is.
pub struct Admission {
    in_flight: Arc<Semaphore>,
    urgent: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    pressure: Pressure,
}

impl Admission {
    /// All places free.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            urgent: Arc::new(Semaphore::new(URGENT)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            pressure: Pressure { clock, load: Mutex::default(), shed: AtomicU32::default() },
        }
    }

    /// A place to work at, while `backlog` tasks wait for a thread.
    ///
    /// # Errors
    /// `OVERLOADED`, with the time after which to try again.
    pub fn enter(
        &self,
        path: &str,
        policies: &BTreeMap<String, MethodPolicy>,
        backlog: usize,
    ) -> Result<Places, Error> {
        let policy = policies.get(path);
        let urgent = policy.is_some_and(|policy| policy.urgent) || path.starts_with(HEALTH);
        let shed = |what: &str| {
            Error::unavailable("OVERLOADED", format!("{what}; try again in a moment"))
                .retry_after(self.pressure.away())
        };
        let behind = self.pressure.is_behind(backlog);
        if behind && !urgent {
            return Err(shed("the agent is behind with its work"));
        }
        let take = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
        let work = match take(&self.in_flight) {
            None if urgent => take(&self.urgent),
            place => place,
        };
        let work =
            work.ok_or_else(|| shed(&format!("{IN_FLIGHT} calls are being worked on already")))?;
        let stream = if policy.is_some_and(|policy| policy.streaming) {
            let place = take(&self.streams);
            Some(place.ok_or_else(|| shed(&format!("{STREAMS} streams are open already")))?)
        } else {
            None
        };
        Ok(Places { _work: work, stream })
    }
}

/// Tasks that wait for a thread of the runtime.
pub fn backlog() -> usize {
    tokio::runtime::Handle::try_current().map_or(0, |handle| handle.metrics().global_queue_depth())
}

/// How the backlog has been.
struct Pressure {
    clock: Arc<dyn Clock>,
    load: Mutex<Load>,
    shed: AtomicU32,
}

impl Pressure {
    /// Whether there is too much to do already; remembers it for how long others stay away.
    fn is_behind(&self, backlog: usize) -> bool {
        let behind = backlog > BACKLOG;
        let now = self.clock.monotonic();
        let mut load = self.load.lock().unwrap_or_else(PoisonError::into_inner);
        *load = load.after(behind, now);
        behind
    }

    /// When the next one who is shed may come back: each at another time, lest all come at once.
    fn away(&self) -> Duration {
        let away = self.load.lock().unwrap_or_else(PoisonError::into_inner).away;
        spread(away, self.shed.fetch_add(1, Ordering::Relaxed))
    }
}

/// The `number`th of times between a half and three halves of `away`, evenly spread however many are taken: the
/// golden-ratio sequence (Knuth, The Art of Computer Programming 3, 6.4).
fn spread(away: Duration, number: u32) -> Duration {
    let share = f64::from(number.wrapping_mul(2_654_435_769)) / f64::from(u32::MAX);
    away.mul_f64(0.5 + share)
}

/// How long those stay away who are shed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Load {
    away: Duration,
    /// In monotonic time.
    at: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self { away: AWAY.0, at: Duration::ZERO }
    }
}

impl Load {
    /// The load at `now`. The time to stay away grows as long as the agent is behind and shrinks at a quarter of
    /// that pace, so that it settles where the agent is behind one fifth of the time however many come back.
    fn after(self, behind: bool, now: Duration) -> Self {
        let elapsed = now.saturating_sub(self.at).min(STALE);
        let away = match behind {
            true => self.away + elapsed,
            false => self.away.saturating_sub(elapsed / 4),
        };
        Self { away: away.clamp(AWAY.0, AWAY.1), at: now.max(self.at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::ManualClock;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_time_away_grows_while_it_is_behind_within_its_bounds() {
        let mut load = Load { at: ms(1_000), ..Load::default() };
        assert_eq!(load.away, AWAY.0);
        load = load.after(true, ms(1_100));
        assert_eq!(load.away, ms(300));
        load = load.after(false, ms(1_300));
        assert_eq!(load.away, ms(250));
        // A pause in which nobody called says little about how it was.
        load = load.after(true, ms(100_000));
        assert_eq!(load.away, ms(250) + STALE);
        // A clock that goes back changes nothing.
        assert_eq!(load.after(true, ms(0)), load);
        for millis in 1..1_000 {
            load = load.after(true, ms(100_000 + 100 * millis));
        }
        assert_eq!(load.away, AWAY.1);
        for millis in 1..1_000 {
            load = load.after(false, ms(200_000 + 100 * millis));
        }
        assert_eq!(load.away, AWAY.0);
    }

    #[test]
    fn a_backlog_turns_away_all_but_what_is_urgent() {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let admission = Admission::new(clock);
        let policies = genesis_proto::method_policies();
        let entered = |path, backlog| admission.enter(path, &policies, backlog).map(drop);
        for (path, policy) in &policies {
            entered(path, BACKLOG).unwrap();
            let outcome = entered(path, BACKLOG + 1);
            assert_eq!(outcome.is_ok(), policy.urgent, "{path}");
            if let Err(error) = outcome {
                assert_eq!(error.code, "OVERLOADED", "{path}");
                assert!(error.retry_after.is_some_and(|after| after >= AWAY.0 / 2), "{path}");
            }
        }
        entered("/grpc.health.v1.Health/Check", usize::MAX).unwrap();
    }

    #[test]
    fn the_backlog_is_what_waits_for_a_thread() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (busy, is_busy) = std::sync::mpsc::channel();
        let (free, until_free) = std::sync::mpsc::channel::<()>();
        runtime.spawn(async move {
            busy.send(()).unwrap();
            until_free.recv().unwrap();
        });
        is_busy.recv().unwrap();
        let tasks: Vec<_> = (0..300).map(|_| runtime.spawn(async {})).collect();
        let waiting = runtime.handle().clone();
        let guard = waiting.enter();
        assert_eq!(backlog(), 300);
        free.send(()).unwrap();
        drop(guard);
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
        assert_eq!(runtime.block_on(async { backlog() }), 0);
    }

    #[test]
    fn those_who_are_shed_together_come_back_one_by_one() {
        let mut times: Vec<_> = (0..100).map(|number| spread(ms(1_000), number)).collect();
        times.sort();
        assert!(times[0] >= ms(500) && times[99] <= ms(1_500));
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max().unwrap() < ms(30));
    }
}
