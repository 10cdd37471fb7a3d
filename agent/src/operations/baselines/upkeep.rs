//! The care of the file of observations: raw rows of past hours are packed by operation and hour, what is past its time
//! goes, and the quota is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use genesis_stats::column;
use genesis_storage::{Observations, ObservationsWriting};

use super::calculate::Cause;
use super::plan::{NANOS, hour_of};
use super::prepare::AHEAD;
use super::{Baselines, SPARE, raw};
use crate::error::{Error, Result};
use crate::outside::failpoint;
use crate::runs::{Context, Report};

/// So many bytes of raw rows are packed in one commit.
const PACKED: usize = 16 << 20;
/// And so many rows, as what is always the same takes hardly any bytes.
const PACKED_ROWS: usize = 1 << 20;
/// What is there of an hour is packed together with what comes as long as it is no more than so many bytes.
const TOGETHER: u64 = 256 << 10;
/// A piece of a column: with its key it fills the pages of the file that hold it.
const PIECE: usize = (64 << 10) - 512;
/// Raw rows stay as they are for so long after their hour, in seconds, for the windows that are open.
const OPEN: i64 = 1_800;
/// Candidates and episodes are kept so long, in seconds.
const CANDIDATES: i64 = 30 * 86_400;
const EPISODES: i64 = 400 * 86_400;
/// A chunk has so many rows at most.
const CHUNK: usize = 1 << 16;

/// What the care came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Raw rows that were packed.
    pub packed: usize,
    /// Hours of operations whose raw columns went.
    pub dropped: usize,
    /// Sketches of hours that were past their time.
    pub expired: u64,
}

impl Baselines {
    /// One round of care.
    pub(super) async fn upkeep(self: &Arc<Self>, context: &Context) -> Result<Report> {
        let store = Arc::clone(self.store()?);
        let step = context.begin("keep-small", "the file of observations").await?;
        let own = Arc::clone(self);
        let kept = tokio::task::spawn_blocking(move || own.keep_small(&store));
        let kept = kept.await.map_err(|error| {
            Error::internal("CALL_PANICKED", "the care of observations hit a defect")
                .caused_by(error)
        })??;
        step.done(format!("{kept:?}")).await?;
        self.forget_episodes().await?;
        let firsts = self.firsts()?;
        let mut failed = Vec::new();
        for name in &firsts {
            context.safe_point()?;
            let cause = Cause { why: "first", by: context.actor(), reason: String::new() };
            if let Err(error) = self.calculate(name, None, cause).await {
                failed.push(format!("{name}: {}", error.chain()));
            }
        }
        let forgotten = self.forget_silent().await?;
        if let Some(first) = failed.first() {
            let message = format!("{} first baseline(s) failed, such as {first}", failed.len());
            return Err(Error::internal("BASELINES_FAILED", message));
        }
        Ok(Report::proven(format!(
            "{} raw rows packed, {} hours of raw columns let go, {} sketches past their time; {} first baseline(s); {forgotten} operation(s) forgotten",
            kept.packed,
            kept.dropped,
            kept.expired,
            firsts.len()
        )))
    }

    /// Forgets operations of which nothing is left, lest names that nobody uses any more crowd new ones out.
    async fn forget_silent(&self) -> Result<usize> {
        let store = Arc::clone(self.store()?);
        let known: Vec<(String, u32)> =
            self.live().numbers.iter().map(|(name, number)| (name.clone(), *number)).collect();
        let silent = tokio::task::spawn_blocking(move || {
            store.read(|reading| {
                let mut silent = Vec::new();
                for (name, number) in known {
                    if reading.last_hour(number)?.is_none() {
                        silent.push((name, number));
                    }
                }
                Ok::<_, Error>(silent)
            })
        });
        let silent = silent.await.map_err(|error| {
            Error::internal("CALL_PANICKED", "the care of observations hit a defect")
                .caused_by(error)
        })??;
        let count = silent.len();
        for (name, number) in silent {
            let episode = self.live().standings.get(&number).and_then(|it| it.episode.clone());
            if let Some(episode) = episode {
                let now = self.outside.clock.now();
                self.end(number, episode, now, "forgotten", (super::ACTOR, "")).await?;
            }
            self.forget(name, number).await?;
        }
        Ok(count)
    }

    async fn forget_episodes(&self) -> Result<()> {
        let now = self.outside.clock.now();
        let before = super::episodes::seconds(now.as_second() - EPISODES);
        let id =
            ulid::Ulid::from_parts(before.as_millisecond().max(0).unsigned_abs(), 0).to_string();
        let old = self.state.read(|reading| {
            let episodes = reading.baselines().episodes(None, usize::MAX)?;
            Ok(episodes.iter().any(|it| it.until.is_some() && it.id < id))
        })?;
        if !old {
            return Ok(());
        }
        let intent =
            genesis_storage::Intent::new(now, super::ACTOR, "baselines.episodes-forgotten");
        self.state
            .write(intent, move |writing| Ok(writing.baselines().expire_episodes(&id).map(drop)?))
            .await
    }

    /// Operations without a baseline that were observed for long enough.
    fn firsts(&self) -> Result<Vec<String>> {
        let now = self.outside.clock.now().as_second();
        let after = i64::try_from(self.config.load().first_after.as_secs()).unwrap_or(i64::MAX);
        let without: Vec<(String, u32)> = {
            let live = self.live();
            let none = |number: &u32| {
                live.standings.get(number).is_some_and(|standing| standing.current.is_none())
            };
            let each = live.numbers.iter().filter(|(_, number)| none(number));
            each.map(|(name, number)| (name.clone(), *number)).collect()
        };
        let before = hour_of(now.saturating_sub(after));
        let store = self.store()?;
        let mut due = Vec::new();
        for (name, number) in without {
            let mut seen = false;
            store.read(|it| {
                it.hours(number, 0, before.saturating_add(1), |_, _| {
                    seen = true;
                    Ok::<_, Error>(())
                })
            })?;
            if seen {
                due.push(name);
            }
        }
        Ok(due)
    }

    /// Packs, expires, keeps the quota. Blocks.
    ///
    /// # Errors
    /// `STORAGE_FAILED`; what was done until then is done.
    pub fn keep_small(&self, store: &Observations) -> Result<Kept> {
        let config = self.config.load_full();
        let now = self.outside.clock.now().as_second();
        let mut kept = Kept::default();
        loop {
            let packed = pack(store, now)?;
            kept.packed += packed;
            failpoint::hit("baselines.packed");
            if packed == 0 {
                break;
            }
        }
        let retention = i64::try_from(config.raw_retention.as_secs()).unwrap_or(i64::MAX);
        kept.dropped += drop_columns(store, hour_of(now.saturating_sub(retention)))?;
        store.write(|writing| make_room(writing, config.raw_quota))?;
        let window = i64::try_from(config.window.as_secs()).unwrap_or(i64::MAX);
        let before = hour_of(now.saturating_sub(window).saturating_sub(SPARE));
        let numbers: Vec<u32> = self.live().numbers.values().copied().collect();
        kept.expired += store.write(|writing| {
            writing.expire_candidates(now - CANDIDATES)?;
            let mut expired = 0;
            for number in &numbers {
                expired += writing.expire_hours(*number, before)?;
            }
            Ok::<_, Error>(expired)
        })?;
        Ok(kept)
    }
}

type Columns = BTreeMap<(u32, u32), (Vec<i64>, Vec<u64>)>;

/// Packs the oldest raw rows whose windows are over; how many.
fn pack(store: &Observations, now: i64) -> Result<usize> {
    let open = (now - OPEN).saturating_mul(NANOS);
    // What is further ahead came while the clock was, and waits for nothing.
    let ahead = (now + AHEAD).saturating_mul(NANOS);
    let (mut columns, mut bytes, mut rows, mut decoded) = (Columns::new(), 0, 0, 0);
    let mut last = None;
    let (mut times, mut nanos) = (Vec::new(), Vec::new());
    store.read(|reading| {
        reading.raw(0, |sequence, row| {
            let newest = raw::parts(row).filter_map(|(_, chunks)| raw::newest(chunks)).max();
            if newest.is_some_and(|newest| newest >= open && newest <= ahead) {
                return Ok(false);
            }
            for (number, chunks) in raw::parts(row) {
                times.clear();
                nanos.clear();
                raw::rows(chunks, &mut times, &mut nanos);
                decoded += times.len();
                for (time, nanos) in times.iter().zip(&nanos) {
                    let hour = hour_of(time.div_euclid(NANOS));
                    let column = columns.entry((number, hour)).or_default();
                    column.0.push(*time);
                    column.1.push(*nanos);
                }
            }
            last = Some(sequence);
            rows += 1;
            bytes += row.len();
            Ok::<_, Error>(bytes < PACKED && decoded < PACKED_ROWS)
        })
    })?;
    let Some(last) = last else { return Ok(0) };
    store.write(|writing| {
        for ((number, hour), column) in std::mem::take(&mut columns) {
            put_column(writing, number, hour, column)?;
        }
        writing.remove_raw(last)?;
        Ok::<_, Error>(())
    })?;
    Ok(rows)
}

/// Adds rows to an operation's hour.
fn put_column(
    writing: &ObservationsWriting<'_>,
    number: u32,
    hour: u32,
    (times, nanos): (Vec<i64>, Vec<u64>),
) -> Result<()> {
    let mut rows: Vec<(i64, u64)> = times.into_iter().zip(nanos).collect();
    // So little costs less in one chunk with what is there.
    if writing.column_bytes(number, hour)? <= TOGETHER {
        let before = writing.columns(number, hour)?.concat();
        let held: usize =
            column::chunks(&before).filter_map(|chunk| Some(chunk.ok()?.rows())).sum();
        if held <= PACKED_ROWS {
            let (mut times, mut nanos) = (Vec::new(), Vec::new());
            raw::rows(&before, &mut times, &mut nanos);
            rows.extend(times.into_iter().zip(nanos));
            writing.remove_columns(number, hour)?;
        }
    }
    let mut bytes = Vec::new();
    // In order of time, where differences are small; of one time in order of what they are, so that it is always the same.
    rows.sort_unstable();
    for rows in rows.chunks(CHUNK) {
        let (times, nanos): (Vec<i64>, Vec<u64>) = rows.iter().copied().unzip();
        column::encode(&times, &nanos, &mut bytes).map_err(|error| {
            Error::internal("STORAGE_FAILED", format!("raw columns can't be packed: {error}"))
        })?;
    }
    Ok(writing.append_columns(number, hour, bytes.chunks(PIECE))?)
}

/// Lets go of raw columns from before an hour; how many hours of operations.
fn drop_columns(store: &Observations, before: u32) -> Result<usize> {
    let hours = store.read(|it| Ok::<_, Error>(it.column_hours()?))?;
    let old: Vec<_> = hours.into_iter().filter(|(_, hour, _)| *hour < before).collect();
    // So few at a time that batches don't wait for long.
    for some in old.chunks(256) {
        store.write(|writing| {
            for (number, hour, _) in some {
                writing.remove_columns(*number, *hour)?;
            }
            Ok::<_, Error>(())
        })?;
    }
    Ok(old.len())
}

/// Where raw rows and columns take more than the quota, the oldest make room for an eighth of it.
pub fn make_room(writing: &ObservationsWriting<'_>, quota: u64) -> Result<()> {
    let mut bytes = writing.raw_bytes()?;
    if bytes <= quota {
        return Ok(());
    }
    let wanted = quota - quota / 8;
    for (number, hour, of_hour) in writing.column_hours()? {
        if bytes <= wanted {
            return Ok(());
        }
        writing.remove_columns(number, hour)?;
        bytes = bytes.saturating_sub(of_hour);
    }
    let mut last = None;
    writing.raw(0, |sequence, row| {
        if bytes <= wanted {
            return Ok(false);
        }
        bytes = bytes.saturating_sub(row.len() as u64);
        last = Some(sequence);
        Ok::<_, Error>(true)
    })?;
    if let Some(last) = last {
        writing.remove_raw(last)?;
    }
    Ok(())
}
