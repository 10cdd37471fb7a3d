//! Which calls are let in. What is let in is worked on at once; the others are told when to come back.
//!
//! Two things fill an agent: calls that wait for something, which are counted, and calls that keep its threads
//! busy, which show in how much work waits for a thread. What is urgent has places of its own and is never turned
//! away for a backlog: it is few, and the reason to turn the others away. Nobody takes more than a share of the
//! places, and what declares or ends an emergency has some that a viewer can't take at all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use genesis_proto::MethodPolicy;
use genesis_proto::v1::Role;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;
use crate::outside::Clock;

/// So many calls are worked on at a time; more are shed.
const ORDINARY: u32 = 256;
/// Places for what is urgent and for whoever looks, and for health.
const URGENT: u32 = 64;
/// Places for what is vital.
const VITAL: u32 = 16;
/// So many streams flow at a time; more are shed.
const STREAMS: u32 = 1_024;
/// One caller takes at most this part of any of them.
const SHARE: u32 = 4;
/// So much of messages that are longer than a page is held at a time, in KiB.
const MESSAGES: u32 = 16 << 10;
/// What a message has for nothing, in bytes.
const PAGE: usize = 1 << 10;
/// So many tasks may wait for a thread before calls are shed. Each takes some 50 microseconds.
const BACKLOG: usize = 128;
/// A pause in which nobody called says little about how it was.
const STALE: Duration = Duration::from_millis(250);
/// When a shed caller may try again: at least, and at most.
const AWAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Health is asked most when there is much to do, and costs nothing.
pub const HEALTH: &str = "/grpc.health.v1.Health/";
/// Streams that the contract does not declare.
const FOREIGN_STREAMS: [&str; 2] = ["/grpc.health.v1.Health/Watch", "/ServerReflectionInfo"];

/// What matters of a call before it is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Served also when others are shed.
    pub urgent: bool,
    /// It changes something.
    pub mutating: bool,
    /// Urgent, and nothing that whoever only looks could crowd out: it declares or ends an emergency, or says that trading
    /// is well.
    pub vital: bool,
    /// Its answer is a stream.
    pub streaming: bool,
    /// Its request is one message.
    pub one_message: bool,
}

impl Manner {
    /// How the rpc at `path` goes on.
    pub fn of(path: &str, policy: Option<&MethodPolicy>) -> Self {
        let looks = |policy: &MethodPolicy| policy.role == Some(Role::Viewer);
        Self {
            urgent: policy.is_some_and(|policy| policy.urgent) || path.starts_with(HEALTH),
            mutating: policy.is_some_and(|policy| policy.mutating),
            vital: policy.is_some_and(|policy| policy.urgent && !looks(policy)),
            streaming: policy.is_some_and(|policy| policy.streaming)
                || FOREIGN_STREAMS.iter().any(|stream| path.ends_with(stream)),
            one_message: !policy.is_some_and(|policy| policy.takes_stream)
                && !path.ends_with("/ServerReflectionInfo"),
        }
    }
}

/// Places, of which one caller takes a share at most.
struct Lane {
    places: Arc<Semaphore>,
    share: u32,
    taken: Arc<Mutex<HashMap<String, u32>>>,
}

/// A place that is given back when it is dropped.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    who: String,
    taken: Arc<Mutex<HashMap<String, u32>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.who);
            }
        }
    }
}

impl Lane {
    fn new(places: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places as usize)),
            share: (places / SHARE).max(1),
            taken: Arc::default(),
        }
    }

    fn take(&self, who: &str) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.get(who).is_some_and(|count| *count >= self.share) {
            return None;
        }
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        *taken.entry(who.to_owned()).or_default() += 1;
        Some(Place { _permit: permit, who: who.to_owned(), taken: Arc::clone(&self.taken) })
    }
}

/// What a call holds while it is worked on, and a stream while it flows.
pub struct Places {
    work: Option<Place>,
    _stream: Option<Place>,
    message: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// From here on only a stream flows: the other places are given back.
    pub fn flow(&mut self) {
        (self.work, self.message) = (None, None);
    }
}

/// The places, and how much work waits.
pub struct Admission {
    ordinary: Lane,
    urgent: Lane,
    vital: Lane,
    streams: Lane,
    messages: Arc<Semaphore>,
    pressure: Pressure,
}

impl Admission {
    /// All places free.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            ordinary: Lane::new(ORDINARY),
            urgent: Lane::new(URGENT),
            vital: Lane::new(VITAL),
            streams: Lane::new(STREAMS),
            messages: Arc::new(Semaphore::new(MESSAGES as usize)),
            pressure: Pressure { clock, load: Mutex::default(), shed: AtomicU32::default() },
        }
    }

    fn shed(&self, what: &str) -> Error {
        Error::unavailable("OVERLOADED", format!("{what}; try again in a moment"))
            .retry_after(self.pressure.away())
    }

    /// A place to work at for `who`, while `backlog` tasks wait for a thread.
    ///
    /// # Errors
    /// `OVERLOADED`, with the time after which to try again.
    pub fn enter(&self, manner: Manner, who: &str, backlog: usize) -> Result<Places, Error> {
        let behind = self.pressure.is_behind(backlog);
        if behind && !manner.urgent {
            return Err(self.shed("the agent is behind with its work"));
        }
        let own = match (manner.vital, manner.urgent) {
            (true, _) => self.vital.take(who),
            (false, true) => self.urgent.take(who),
            (false, false) => None,
        };
        let work = own.or_else(|| self.ordinary.take(who)).ok_or_else(|| {
            self.shed(&format!(
                "{ORDINARY} calls are being worked on already, or {} of this caller",
                ORDINARY / SHARE
            ))
        })?;
        let stream = match manner.streaming {
            true => Some(self.streams.take(who).ok_or_else(|| {
                self.shed(&format!(
                    "{STREAMS} streams are open already, or {} of this caller",
                    STREAMS / SHARE
                ))
            })?),
            false => None,
        };
        Ok(Places { work: Some(work), _stream: stream, message: None })
    }

    /// Room for a message that has come to `bytes` by now, kept as long as the places are.
    ///
    /// # Errors
    /// `OVERLOADED`.
    pub fn hold(&self, places: &mut Places, bytes: usize) -> Result<(), Error> {
        let wanted = bytes.saturating_sub(PAGE).div_ceil(1 << 10);
        let held = places.message.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(wanted.saturating_sub(held)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let permit = Arc::clone(&self.messages).try_acquire_many_owned(more).map_err(|_| {
            self.shed(&format!("{} MiB of messages are held already", MESSAGES >> 10))
        })?;
        match &mut places.message {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
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

    fn admission() -> Admission {
        Admission::new(Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)))
    }

    fn manner(path: &str) -> Manner {
        Manner::of(path, genesis_proto::method_policies().get(path))
    }

    #[test]
    fn who_looks_takes_no_place_of_what_is_vital() {
        let admission = admission();
        let vital: Vec<String> = genesis_proto::method_policies()
            .into_iter()
            .filter(|(path, policy)| Manner::of(path, Some(policy)).vital)
            .map(|(path, _)| path.rsplit('/').next().unwrap_or_default().to_owned())
            .collect();
        let mut vital: Vec<&str> = vital.iter().map(String::as_str).collect();
        vital.sort_unstable();
        assert_eq!(
            vital,
            [
                "AckAlert",
                "ActivateEmergency",
                "ApproveRelease",
                "CloseAllPositions",
                "DisableRemediation",
                "ReleaseEmergency",
                "RenewTradingLease",
                "ResetBreaker",
                "TripBreaker"
            ]
        );
        // One caller who holds all the places that looking has still renews the lease of trading.
        let look = manner("/genesis.v1.RecoveryService/GetEmergency");
        let held: Vec<_> = std::iter::from_fn(|| admission.enter(look, "olga", 0).ok()).collect();
        assert!(held.len() >= 64, "{}", held.len());
        let renew = manner("/genesis.v1.RecoveryService/RenewTradingLease");
        admission.enter(renew, "olga", 0).unwrap();
    }

    #[test]
    fn a_backlog_turns_away_all_but_what_is_urgent() {
        let admission = admission();
        for (path, policy) in genesis_proto::method_policies() {
            let entered = |backlog| admission.enter(manner(&path), "olga", backlog).map(drop);
            entered(BACKLOG).unwrap();
            let outcome = entered(BACKLOG + 1);
            assert_eq!(outcome.is_ok(), policy.urgent, "{path}");
            if let Err(error) = outcome {
                assert_eq!(error.code, "OVERLOADED", "{path}");
                assert!(error.retry_after.is_some_and(|after| after >= AWAY.0 / 2), "{path}");
            }
        }
        admission.enter(manner("/grpc.health.v1.Health/Check"), "olga", usize::MAX).unwrap();
    }

    #[test]
    fn nobody_takes_more_than_a_share_and_a_viewer_never_the_place_of_an_emergency() {
        let admission = admission();
        let fill = |path: &str, who: &str| {
            let enter = || admission.enter(manner(path), who, 0).ok();
            std::iter::from_fn(enter).collect::<Vec<_>>()
        };
        let status = "/genesis.v1.AgentService/GetStatus";
        let look = "/genesis.v1.RecoveryService/GetEmergency";
        let declare = "/genesis.v1.RecoveryService/ActivateEmergency";
        let ordinary = fill(status, "viewer");
        assert_eq!(ordinary.len(), 64);
        assert!(admission.enter(manner(status), "olga", 0).is_ok(), "there is room for others");
        let looks = fill(look, "viewer");
        assert_eq!(looks.len(), 16, "its share of the ordinary ones is taken already");
        let crowd: Vec<_> =
            (0..100).flat_map(|number| fill(look, &format!("viewer {number}"))).collect();
        assert_eq!(crowd.len() + looks.len() + ordinary.len(), 256 + 64, "everything is full");
        assert!(admission.enter(manner(status), "olga", 0).is_err());
        assert!(admission.enter(manner(declare), "olga", 0).is_ok());
        drop((ordinary, looks, crowd));
        assert_eq!(fill(status, "viewer").len(), 64, "places are given back");
    }

    #[test]
    fn streams_are_counted_whoever_declares_them() {
        for (path, streaming) in [
            ("/grpc.health.v1.Health/Watch", true),
            ("/grpc.health.v1.Health/Check", false),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", true),
            ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", true),
            ("/genesis.v1.OplogService/TailEntries", true),
            ("/genesis.v1.OplogService/GetHead", false),
        ] {
            assert_eq!(manner(path).streaming, streaming, "{path}");
        }
    }

    #[test]
    fn long_messages_share_a_bounded_room() {
        let admission = admission();
        let path = manner("/genesis.v1.AgentService/CheckConfig");
        let mut held = Vec::new();
        loop {
            let mut places = admission.enter(path, &format!("{}", held.len()), 0).unwrap();
            admission.hold(&mut places, 100).unwrap();
            let grown = admission.hold(&mut places, 2 << 20);
            if grown.and_then(|()| admission.hold(&mut places, 4 << 20)).is_err() {
                break;
            }
            held.push(places);
        }
        assert_eq!(held.len(), 4, "16 MiB");
        let mut small = admission.enter(path, "small", 0).unwrap();
        admission.hold(&mut small, PAGE).unwrap();
        drop(held);
        admission.hold(&mut small, 4 << 20).unwrap();
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
