//! Looks at each check at its own pace. None waits for another, and one that hangs is not looked at again before it
//! has come to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::CheckRecord;
use tokio::sync::mpsc;

use super::check::{Check, asks_a_service};
use super::{Health, Look};
use crate::error::Error;
use crate::outside::probes::{Measured, Outcome, Probe};

/// What a look at a check found.
type Found = (Arc<Check>, Look);

/// So many results wait to be taken in; more there can't be, since a check is looked at once at a time.
const WAITING: usize = 1_024;
/// The longest sleep of the loop, so that it tells that it lives.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

impl Health {
    /// Looks and takes in, for ever. `alive` is called whenever the loop has gone round, and says how soon it
    /// wants to be called again.
    pub async fn serve(self: Arc<Self>, alive: impl Fn() -> Option<Duration> + Send + 'static) {
        let (found, results) = mpsc::channel(WAITING);
        tokio::join!(self.go_round(found, alive), self.collect(results));
    }

    async fn go_round(
        self: &Arc<Self>,
        found: mpsc::Sender<Found>,
        alive: impl Fn() -> Option<Duration> + Send,
    ) {
        let (over, mut ended) = mpsc::unbounded_channel::<String>();
        let mut due: BTreeMap<String, Duration> = BTreeMap::new();
        let mut looking: BTreeSet<String> = BTreeSet::new();
        let (mut ended_since, mut wanted) = (false, LONGEST_SLEEP);
        loop {
            let clock = &self.outside.clock;
            let (now, checks) = (clock.monotonic(), self.checks());
            due.retain(|id, _| checks.contains_key(id));
            let mut next = now + LONGEST_SLEEP;
            for (id, check) in checks.iter() {
                let at = due.entry(id.clone()).or_insert(now);
                // A shorter interval counts from now on, not after the longer one.
                *at = (*at).min(now + check.policy.interval);
                if *at <= now {
                    // What was missed is skipped; the pace stays the same.
                    let interval = check.policy.interval;
                    let missed = (now - *at).as_nanos() / interval.as_nanos().max(1);
                    let steps = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
                    self.metrics.late(now - *at);
                    *at += interval.saturating_mul(steps);
                    if looking.insert(id.clone()) {
                        self.start_look(check, found.clone(), over.clone());
                    }
                }
                next = next.min(*at);
            }
            // Told by looks that have come to an end, as each does in its time; where none was due, by going round.
            if ended_since || looking.is_empty() {
                wanted = alive().map_or(LONGEST_SLEEP, |wanted| wanted.min(LONGEST_SLEEP));
                ended_since = false;
            }
            let sleep = clock.sleep(next.saturating_sub(now).min(wanted));
            tokio::select! {
                () = sleep => {}
                () = self.changed.notified() => {}
                Some(id) = ended.recv() => ended_since |= looking.remove(&id),
            }
            while let Ok(id) = ended.try_recv() {
                ended_since |= looking.remove(&id);
            }
        }
    }

    fn start_look(
        self: &Arc<Self>,
        check: &Arc<Check>,
        found: mpsc::Sender<Found>,
        over: mpsc::UnboundedSender<String>,
    ) {
        let (health, check) = (Arc::clone(self), Arc::clone(check));
        tokio::spawn(async move {
            let probe = check.probe.clone();
            // A task of its own, so that a defect in a probe ends that look and nothing else.
            let (told, outcome) = tokio::sync::oneshot::channel();
            let prober = Arc::clone(&health);
            let looking = tokio::spawn(async move {
                let outcome = prober.measure(&probe).await;
                let _ = told.send(outcome);
            });
            let look = health.judged(&check, async { outcome.await.ok() }).await;
            // Nobody takes in any more when the agent stops.
            let _ = found.send((Arc::clone(&check), look)).await;
            // What hangs in the kernel goes on aside, and is not begun twice there; whatever else is given up now. Only
            // what was taken in is looked at again, so that nothing piles up while the disk stands still.
            looking.abort();
            let _ = over.send(check.id.clone());
        });
    }

    async fn collect(self: &Arc<Self>, mut results: mpsc::Receiver<Found>) {
        let mut batch = Vec::new();
        // What has come meanwhile is one batch.
        while results.recv_many(&mut batch, WAITING).await > 0 {
            self.take_in(std::mem::take(&mut batch)).await;
        }
    }

    /// Looks at a check now, within its time.
    pub(super) async fn look(&self, check: &Check) -> Look {
        let measured = async { Some(self.measure(&check.probe).await) };
        self.judged(check, measured).await
    }

    async fn judged(
        &self,
        check: &Check,
        measuring: impl Future<Output = Option<Outcome>>,
    ) -> Look {
        let clock = &self.outside.clock;
        let before = clock.monotonic();
        let outcome = tokio::select! {
            outcome = measuring => outcome.unwrap_or_else(|| Err("the look was cut off by a defect".to_owned())),
            () = clock.sleep(check.timeout) => {
                let why = format!("no answer within {:?}", check.timeout);
                // That the database is slow is what its look is about.
                match asks_a_service(&check.probe) || check.probe == Probe::Agent {
                    true => Ok(Measured { value: f64::INFINITY, detail: format!("{}: {why}", check.probe) }),
                    false => Err(why),
                }
            }
        };
        let open = {
            let live = self.live();
            let issue = live.seen.get(&check.id).and_then(super::Seen::open);
            issue.is_some_and(|issue| super::intake::confirmed(issue.state))
        };
        let status = check.judge(&outcome, open);
        let took = clock.monotonic().saturating_sub(before);
        self.metrics.looked(
            &check.id,
            status,
            outcome.as_ref().ok().map(|found| found.value),
            took,
        );
        let (value, detail) = match outcome {
            Ok(measured) => (Some(measured.value), measured.detail),
            Err(why) => (None, why),
        };
        Look { status, value, detail, at: clock.moment(), took }
    }

    async fn measure(&self, probe: &Probe) -> Outcome {
        match probe {
            Probe::Agent => self.measure_agent().await,
            Probe::BackupAge { source, level } => self.measure_backup(source, *level).await,
            Probe::Latency { operation } => self.latencies.degraded(operation),
            probe => self.outside.prober.measure(probe).await,
        }
    }

    /// How long the embedded database takes to make a change durable, in milliseconds.
    async fn measure_agent(&self) -> Outcome {
        let before = self.outside.clock.monotonic();
        // One at a time: two looks at once must not take each other for a disk that hangs. Who waits for longer than the
        // check's timeout has found that it does.
        let one = Arc::clone(&self.committing).lock_owned().await;
        let store = Arc::clone(self.state.store());
        let written = tokio::task::spawn_blocking(move || {
            let mark = CheckRecord { check: ".agent".to_owned(), ..CheckRecord::default() };
            let written = store.bookkeep(|books| books.health().put_check(&mark));
            // Also where nobody waits for it any more.
            drop(one);
            written.map_err(Error::from)
        })
        .await
        .unwrap_or_else(|error| Err(Error::internal("STORAGE_FAILED", error.to_string())));
        let took = self.outside.clock.monotonic().saturating_sub(before).as_secs_f64() * 1e3;
        match written {
            Ok(()) => Ok(Measured {
                value: took,
                detail: format!(
                    "a durable change took {took:.1} ms; the loop of checks goes round"
                ),
            }),
            // It is known, and it is bad.
            Err(error) => Ok(Measured {
                value: f64::INFINITY,
                detail: format!("the embedded database can't be written: {}", error.chain()),
            }),
        }
    }

    /// Looks at these checks at the same time, now. One look by hand goes on at a time; who comes meanwhile shares
    /// the next one, so that a crowd costs no more than two.
    pub async fn look_now(&self, checks: &[Arc<Check>]) -> Vec<Look> {
        let clock = &self.outside.clock;
        let asked_at = clock.monotonic();
        let _one = self.asking.lock().await;
        let begun = clock.monotonic();
        let looks = futures_util::future::join_all(checks.iter().map(|check| async {
            let shared = self.live().asked.get(&check.id).cloned();
            if let Some((_, look)) = shared.filter(|(begun, _)| *begun > asked_at) {
                return look;
            }
            let look = self.look(check).await;
            self.live().asked.insert(check.id.clone(), (begun, look.clone()));
            look
        }));
        looks.await
    }
}
