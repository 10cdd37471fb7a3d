//! A baseline calculated from the sketches of its hours, and put in force: the old one or the new one, never a mixture.

use std::sync::Arc;

use genesis_stats::{Sketch, column};
use genesis_storage::{BaselineRecord, EpisodeRecord, Intent, Observations};
use jiff::Timestamp;

use super::episodes::seconds;
use super::plan::{self, HOUR, NANOS, References, hour_of};
use super::{Baselines, current, raw, writer};
use crate::error::{Error, Result};
use crate::outside::failpoint;

/// Episodes that are looked at for hours to leave out.
const EPISODES: usize = 1_000;
/// A baseline has at least so many values.
pub const FEWEST: u64 = 100;

/// Why a baseline is calculated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// "weekly", "first", "by hand", "accepted".
    pub why: &'static str,
    /// Who.
    pub by: String,
    /// In their words.
    pub reason: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Calculated {
    /// This generation is in force.
    Generation(u32),
    /// There are too few values; what was in force stays.
    TooFew(u64),
}

impl Baselines {
    /// Calculates an operation's baseline anew and puts it in force. `since`: nothing before it counts, now and later;
    /// `None`: as it was.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`, `OBSERVATIONS_UNAVAILABLE`, `STORAGE_FAILED`.
    pub async fn calculate(
        self: &Arc<Self>,
        operation: &str,
        since: Option<Timestamp>,
        cause: Cause,
    ) -> Result<Calculated> {
        let number = self.number(operation)?;
        let _calculating = self.calculating.lock().await;
        self.put_in_force(number, operation, since, cause).await
    }

    /// [`Baselines::calculate`] for whoever holds `calculating`.
    pub(super) async fn put_in_force(
        self: &Arc<Self>,
        number: u32,
        operation: &str,
        since: Option<Timestamp>,
        cause: Cause,
    ) -> Result<Calculated> {
        let before = self
            .live()
            .standings
            .get(&number)
            .and_then(|it| it.current.as_ref().and_then(|current| current.record.since));
        let since = since.or(before);
        let (own, name) = (Arc::clone(self), operation.to_owned());
        let accepted = cause.why == "accepted";
        let made = tokio::task::spawn_blocking(move || own.made(&name, number, since, accepted));
        let made = made.await.map_err(|error| {
            Error::internal("CALL_PANICKED", "a calculation hit a defect").caused_by(error)
        })??;
        let count = made.1;
        if count < FEWEST {
            return Ok(Calculated::TooFew(count));
        }
        let record = BaselineRecord {
            cause: cause.why.to_owned(),
            by: cause.by.clone(),
            reason: cause.reason.clone(),
            ..made.0
        };
        let now = self.outside.clock.now();
        let intent = Intent::new(now, cause.by, "baselines.calculated")
            .target(operation)
            .reason(cause.reason)
            .detail(format!("{}: {count} values", cause.why));
        failpoint::hit("baselines.before-generation");
        let put = record.clone();
        let generation =
            self.state.write(intent, move |writing| Ok(writing.baselines().put_next(put)?)).await?;
        failpoint::hit("baselines.after-generation");
        let in_force = current(BaselineRecord { generation, ..record });
        let mut live = self.live();
        if let Some(standing) = live.standings.get_mut(&number) {
            standing.current = in_force;
            standing.pending = Default::default();
        }
        Ok(Calculated::Generation(generation))
    }

    /// The record, and how many values it is of.
    fn made(
        &self,
        operation: &str,
        number: u32,
        since: Option<Timestamp>,
        accepted: bool,
    ) -> Result<(BaselineRecord, u64)> {
        let now = self.outside.clock.now();
        let window = i64::try_from(self.config.load().window.as_secs()).unwrap_or(i64::MAX);
        let (from, until) = plan::hours(now.as_second(), window, since.map(Timestamp::as_second));
        let episodes =
            self.state.read(|it| Ok(it.baselines().episodes(Some(operation), EPISODES)?))?;
        let mut hours: Vec<(u32, Sketch)> = Vec::new();
        let mut left_out = 0;
        self.store()?.read(|reading| {
            reading.hours(number, from, until, |hour, bytes| {
                // What was accepted is what is usual, also where it was an episode.
                if !accepted && is_left_out(hour, &episodes) {
                    left_out += 1;
                } else {
                    hours.push((hour, writer::read(Some(bytes.to_vec()))?));
                }
                Ok::<_, Error>(())
            })
        })?;
        // Of the hour in which it began, only what came since then is what was accepted.
        if let Some(since) = since.filter(|_| accepted) {
            let partial = partial(self.store()?, number, since)?;
            if !partial.is_empty() {
                hours.push((hour_of(since.as_second()), partial));
            }
        }
        let (references, sketch) = References::of(hours.iter().map(|(hour, it)| (*hour, it)));
        let count = sketch.count();
        let record = BaselineRecord {
            operation: operation.to_owned(),
            generation: 0,
            calculated_at: now,
            from: seconds(i64::from(from) * HOUR),
            until: seconds(i64::from(until) * HOUR),
            left_out,
            since,
            sketch: hex::encode(sketch.to_bytes()),
            hours: references.hours,
            parts: references.parts,
            all: references.all,
            ..BaselineRecord::default()
        };
        Ok((record, count))
    }
}

/// What raw rows have of an operation from a time to the end of its hour; nothing where that is a whole hour.
fn partial(store: &Observations, number: u32, since: Timestamp) -> Result<Sketch> {
    let mut sketch = Sketch::new();
    let second = since.as_second();
    if second.rem_euclid(HOUR) == 0 {
        return Ok(sketch);
    }
    let hour = hour_of(second);
    let from = second.saturating_mul(NANOS);
    let until = (i64::from(hour) + 1).saturating_mul(HOUR * NANOS);
    let (mut times, mut nanos) = (Vec::new(), Vec::new());
    let mut take = |chunks: &[u8]| {
        for chunk in column::chunks(chunks).map_while(Result::ok) {
            let reaches = chunk.span().is_some_and(|(min, max)| max >= from && min < until);
            times.clear();
            nanos.clear();
            if !reaches || chunk.decode_into(&mut times, &mut nanos).is_err() {
                continue;
            }
            let each = times.iter().zip(&nanos).filter(|(at, _)| (from..until).contains(*at));
            for (_, nanos) in each {
                sketch.insert(*nanos as f64 / 1e9);
            }
        }
    };
    store.read(|reading| {
        take(&reading.columns(number, hour)?.concat());
        reading.raw(0, |_, row| {
            raw::parts(row).filter(|(id, _)| *id == number).for_each(|(_, chunks)| take(chunks));
            Ok::<_, Error>(true)
        })
    })?;
    Ok(sketch)
}

/// Whether an episode went on in this hour that nobody has accepted: one bad hour would hide the next weeks' same ones.
pub fn is_left_out(hour: u32, episodes: &[EpisodeRecord]) -> bool {
    episodes.iter().any(|episode| {
        let first = hour_of(episode.since.as_second());
        let last = episode.until.map_or(u32::MAX, |until| hour_of(until.as_second() - 1));
        episode.ended != "accepted" && (first..=last).contains(&hour)
    })
}
