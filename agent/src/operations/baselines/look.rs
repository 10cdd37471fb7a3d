//! The look at what is over: each minute for breakers, each window of five minutes for episodes. What a window changed is
//! durable before the next one is judged.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use genesis_stats::{Change, OperationEpisode, Sketch};
use genesis_storage::Observations;

use super::calibration::{self, Past};
use super::judge::{self, Feed, Outcome};
use super::plan::{WINDOW, hour_of, hour_of_week};
use super::standing::WatchRecord;
use super::{Baselines, What, windows};
use crate::error::{Error, Result};
use crate::outside::failpoint;

/// How often it is looked, while there is something to look at.
const LOOK: Duration = Duration::from_secs(2);
/// A window is judged so long after its end, in seconds: what services held back has come by then.
pub const GRACE: i64 = 60;
/// The same of minutes.
pub const MINUTE_GRACE: i64 = 15;
const MINUTE: i64 = 60;
/// Nothing came for so long: there is nothing to look at.
const IDLE: i64 = 2 * WINDOW + GRACE;

/// How far the looks are, in seconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub struct Reached {
    /// Windows that began before then are judged.
    pub windows: i64,
    /// The same of minutes.
    pub minutes: i64,
    /// A window that was judged, and is not durable yet: it must not be judged twice.
    pub unfinished: Option<(i64, Vec<Judgement>)>,
}

/// What came of a window of an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The operation's number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl Baselines {
    /// Looks for ever.
    pub async fn serve(self: Arc<Self>) {
        let Ok(store) = self.store.as_ref().map(Arc::clone) else {
            return std::future::pending().await;
        };
        let mut reached = self.reached(&store);
        loop {
            if self.is_idle() {
                self.woken.notified().await;
            }
            let failed = self.look(&store, &mut reached).await.err().map(|error| error.chain());
            self.failing(What::Judging, failed.as_deref());
            self.outside.clock.tick(LOOK).await;
        }
    }

    fn is_idle(&self) -> bool {
        let now = self.outside.clock.now().as_second();
        let live = self.live();
        let last = live.standings.values().filter_map(|standing| standing.last).max();
        last.is_none_or(|last| now - last > IDLE) && live.windows.operations(0, i64::MAX).is_empty()
    }

    /// How far the agent before was; what it left for longer than windows are kept is not judged any more.
    pub(super) fn reached(&self, store: &Observations) -> Reached {
        let now = self.outside.clock.now().as_second();
        let judged = store.read(|it| Ok::<_, Error>(it.judged()?)).ok().flatten();
        let earliest = floor(now - windows::KEPT * MINUTE, WINDOW) + WINDOW;
        // Where the clock was ahead, what was judged then says nothing of now.
        let judged = judged.filter(|judged| *judged <= now).unwrap_or(earliest);
        Reached { windows: judged.max(earliest), minutes: floor(now, MINUTE), unfinished: None }
    }

    /// Judges what is over.
    ///
    /// # Errors
    /// `STORAGE_FAILED`; then it is judged at the next look.
    pub async fn look(
        self: &Arc<Self>,
        store: &Arc<Observations>,
        reached: &mut Reached,
    ) -> Result<()> {
        let now = self.outside.clock.now().as_second();
        // A clock that was set back: what it had reached is yet to come.
        let latest = floor(now, MINUTE) + WINDOW;
        if reached.windows > latest || reached.minutes > latest {
            *reached = Reached {
                windows: floor(now, WINDOW),
                minutes: floor(now, MINUTE),
                unfinished: None,
            };
        }
        // And one that was set ahead, or stood still: what is not kept any more can't be judged.
        let kept = now - windows::KEPT * MINUTE;
        reached.minutes = reached.minutes.max(floor(kept, MINUTE));
        reached.windows = reached.windows.max(floor(kept, WINDOW));
        while reached.minutes + MINUTE + MINUTE_GRACE <= now {
            self.feed(store, reached.minutes).await?;
            reached.minutes += MINUTE;
        }
        while reached.windows + WINDOW + GRACE <= now {
            self.judge(store, reached).await?;
            reached.windows += WINDOW;
        }
        // What is judged is not looked at again.
        let judged = reached.windows.min(reached.minutes).max(kept);
        self.live().windows.expire(judged.div_euclid(MINUTE));
        Ok(())
    }

    /// Tells breakers how a minute was.
    async fn feed(&self, store: &Arc<Observations>, start: i64) -> Result<()> {
        if !self.config.load().breakers {
            return Ok(());
        }
        let minute = start.div_euclid(MINUTE);
        let operations = self.live().windows.operations(minute, minute + 1);
        let pasts = self.pasts(store, &operations, start).await?;
        for number in operations {
            let (name, feed) = {
                let mut live = self.live();
                let Some(values) = live.windows.minute(number, minute).cloned() else { continue };
                let name = name_of(&live.numbers, number);
                let Some(standing) = live.standings.get_mut(&number) else { continue };
                let past = pasts.get(&number).map_or(&[][..], Vec::as_slice);
                (name, judge::minute(standing, start, &values, past))
            };
            let left = match feed {
                Feed::Unknown => continue,
                Feed::Usual => None,
                Feed::Left(sum, limit) => Some(format!(
                    "its latency left what is usual by its baseline: CUSUM {sum:.1} of {limit:.1}"
                )),
            };
            if self.neighbours.minute(&name, left.as_deref()).await {
                self.metrics.opened_breaker();
            }
        }
        Ok(())
    }

    /// Judges a window of every operation that had calls in it.
    async fn judge(
        self: &Arc<Self>,
        store: &Arc<Observations>,
        reached: &mut Reached,
    ) -> Result<()> {
        let _alone = self.judging.lock().await;
        let start = reached.windows;
        let judged = match reached.unfinished.take() {
            Some((at, judged)) if at == start => judged,
            _ => {
                let (from, until) = (start.div_euclid(MINUTE), (start + WINDOW).div_euclid(MINUTE));
                let operations = self.live().windows.operations(from, until);
                let pasts = self.pasts(store, &operations, start).await?;
                let own = Arc::clone(self);
                let judged =
                    tokio::task::spawn_blocking(move || own.outcomes(&operations, start, &pasts));
                judged.await.map_err(|error| {
                    Error::internal("CALL_PANICKED", "a look hit a defect").caused_by(error)
                })?
            }
        };
        let done = self.finish(store, start, judged.clone()).await;
        if done.is_err() {
            reached.unfinished = Some((start, judged));
        }
        done
    }

    /// Makes durable what windows came to.
    async fn finish(
        self: &Arc<Self>,
        store: &Arc<Observations>,
        start: i64,
        judged: Vec<Judgement>,
    ) -> Result<()> {
        // Episodes first: a kill before the sums are written finds them, and goes on with them.
        let mut around = None;
        for one in &judged {
            self.turn(one, &mut around).await?;
        }
        let (own, store) = (Arc::clone(self), Arc::clone(store));
        let kept = tokio::task::spawn_blocking(move || own.keep(&store, start, &judged)).await;
        kept.map_err(|error| {
            Error::internal("CALL_PANICKED", "a look hit a defect").caused_by(error)
        })?
    }

    /// What the windows come to, without anything written. The cost of it is what a look costs.
    pub fn outcomes(
        &self,
        operations: &[u32],
        start: i64,
        pasts: &HashMap<u32, Vec<Past>>,
    ) -> Vec<Judgement> {
        let (from, until) = (start.div_euclid(MINUTE), (start + WINDOW).div_euclid(MINUTE));
        let mut live = self.live();
        let names: HashMap<u32, String> =
            live.numbers.iter().map(|(name, number)| (*number, name.clone())).collect();
        let mut outcomes = Vec::with_capacity(operations.len());
        for number in operations {
            let values: Sketch = live.windows.window(*number, from, until);
            let Some(standing) = live.standings.get_mut(number) else { continue };
            let past = pasts.get(number).map_or(&[][..], Vec::as_slice);
            let outcome = judge::window(standing, start, &values, past);
            let name = names.get(number).cloned().unwrap_or_default();
            outcomes.push(Judgement { number: *number, name, outcome });
        }
        outcomes
    }

    /// What healthy windows of this time of the week had.
    async fn pasts(
        &self,
        store: &Arc<Observations>,
        operations: &[u32],
        start: i64,
    ) -> Result<HashMap<u32, Vec<Past>>> {
        let judged: Vec<u32> = {
            let live = self.live();
            let has = |number: &&u32| {
                live.standings.get(number).is_some_and(|standing| standing.current.is_some())
            };
            operations.iter().filter(has).copied().collect()
        };
        let store = Arc::clone(store);
        let read = tokio::task::spawn_blocking(move || pasts(&store, &judged, start));
        read.await.map_err(|error| {
            Error::internal("CALL_PANICKED", "a look hit a defect").caused_by(error)
        })?
    }

    fn keep(&self, store: &Observations, start: i64, judged: &[Judgement]) -> Result<()> {
        let hour = hour_of_week(hour_of(start));
        let watches: BTreeMap<u32, Vec<u8>> = {
            let live = self.live();
            let each = judged.iter().filter_map(|one| {
                let standing = live.standings.get(&one.number)?;
                let record = WatchRecord::of(&standing.watch, standing.judged_at);
                Some((one.number, serde_json::to_vec(&record).ok()?))
            });
            each.collect()
        };
        failpoint::hit("baselines.before-keep");
        if failpoint::fails("baselines.keep") {
            return Err(Error::unavailable("STORAGE_FAILED", "a test says that the disk fails"));
        }
        store.write(|writing| {
            for Judgement { number, outcome, .. } in judged {
                if let Some(past) = outcome.past {
                    let kept = writing.calibration(*number, hour)?;
                    let mut kept = kept.map_or_else(Vec::new, |it| calibration::decode(&it));
                    calibration::add(&mut kept, past);
                    writing.put_calibration(*number, hour, &calibration::encode(&kept))?;
                }
                if let Change::Opened(episode) = outcome.change {
                    forget_since(writing, *number, start, episode)?;
                }
                for (at, judged) in outcome.window.judged.iter().enumerate() {
                    if judged.candidate {
                        let p = judged.verdict.map_or(0.0, |(p, ..)| p);
                        let bytes =
                            [judged.value, judged.usual.0, p].map(f64::to_le_bytes).concat();
                        let quantile = super::plan::QUANTILES
                            .iter()
                            .position(|it| *it == judged.quantile)
                            .unwrap_or(at);
                        let quantile = u8::try_from(quantile).unwrap_or(0);
                        writing.put_candidate((start, *number, quantile), &bytes)?;
                    }
                }
            }
            for (number, bytes) in &watches {
                writing.put_watch(*number, bytes)?;
            }
            writing.put_judged(start + WINDOW)?;
            Ok::<_, Error>(())
        })?;
        for Judgement { outcome, .. } in judged {
            let candidates = outcome.window.judged.iter().filter(|it| it.candidate).count();
            self.metrics.judged(outcome.window.judged.len(), candidates);
        }
        Ok(())
    }
}

/// What led to an episode is no calibration for others.
fn forget_since(
    writing: &genesis_storage::ObservationsWriting<'_>,
    number: u32,
    start: i64,
    episode: OperationEpisode,
) -> Result<()> {
    let since = super::episodes::since(&episode, start);
    let mut hour = hour_of(since);
    while hour <= hour_of(start) {
        let of_week = hour_of_week(hour);
        if let Some(bytes) = writing.calibration(number, of_week)? {
            let mut kept = calibration::decode(&bytes);
            kept.retain(|past| past.start < since);
            writing.put_calibration(number, of_week, &calibration::encode(&kept))?;
        }
        hour += 1;
    }
    Ok(())
}

fn pasts(store: &Observations, operations: &[u32], start: i64) -> Result<HashMap<u32, Vec<Past>>> {
    let hour = hour_of_week(hour_of(start));
    store.read(|reading| {
        let mut found = HashMap::with_capacity(operations.len());
        for number in operations {
            let mut past = Vec::new();
            let mut take = |hour: u8| {
                let kept = reading.calibration(*number, hour)?;
                past.extend(kept.map_or_else(Vec::new, |it| calibration::decode(&it)));
                Ok::<_, Error>(past.len())
            };
            let mut known = 0;
            for hour in calibration::neighbours(hour) {
                known = take(hour)?;
            }
            let least = genesis_stats::Rule::default().least_calibration;
            if known < least {
                let neighbours = calibration::neighbours(hour);
                for hour in calibration::day_before(hour).filter(|it| !neighbours.contains(it)) {
                    if take(hour)? >= least {
                        break;
                    }
                }
            }
            found.insert(*number, past);
        }
        Ok(found)
    })
}

fn name_of(numbers: &BTreeMap<String, u32>, number: u32) -> String {
    let found = numbers.iter().find(|(_, it)| **it == number);
    found.map(|(name, _)| name.clone()).unwrap_or_default()
}

fn floor(seconds: i64, unit: i64) -> i64 {
    seconds - seconds.rem_euclid(unit)
}
