//! An experiment as the writer has it in memory, which is what is on the disk: its tally, and ids and units that were
//! there.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use genesis_stats::experiment::Moments;
use genesis_storage::{ExperimentRecord, TradesReading, TradesWriting};

use super::plan;
use super::prepare::{Row, Share};
use super::tally::{Arm, Ended, Tally, day_from_bytes, day_to_bytes, identity};
use super::writer::Answer;
use crate::error::{Error, Result};

/// The code of what can't be read.
pub(super) const UNREADABLE: &str = "STORAGE_RECORD_UNREADABLE";
/// So many late trades of an experiment are kept, in bytes.
const LATE_BYTES: usize = 1 << 20;
/// So many units of an experiment are told apart; how those are split tells how all are.
const UNITS: usize = 100_000;

/// Ids are hashes already.
#[derive(Default)]
pub struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut whole = [0; 8];
            whole[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(whole);
        }
    }

    fn write_u64(&mut self, unit: u64) {
        self.0 = unit;
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
}

/// Ids that were there.
pub type Ids = HashSet<u128, BuildHasherDefault<Same>>;

/// Units that were there.
pub type Units = HashSet<u64, BuildHasherDefault<Same>>;

/// An experiment as the writer has it.
pub(super) struct Kept {
    pub(super) record: Arc<ExperimentRecord>,
    pub(super) tally: Tally,
    pub(super) ids: Ids,
    units: Units,
    /// What is on the disk, if anything, is of another experiment that had its number.
    pub(super) new: bool,
}

/// What a group changes of an experiment on the disk.
#[derive(Default)]
pub(super) struct Changed {
    ids: Vec<u128>,
    /// The time of the newest of them.
    newest: i64,
    days: BTreeMap<u32, [Moments; 2]>,
    late: Vec<u8>,
    units: Vec<(u64, Arm)>,
}

impl Kept {
    /// One that begins.
    ///
    /// # Errors
    /// What is wrong with its definition.
    pub(super) fn begin(record: Arc<ExperimentRecord>) -> Result<Self, String> {
        let tally = Tally::new(&record)?;
        Ok(Self { record, tally, ids: Ids::default(), units: Units::default(), new: true })
    }

    /// What is on the disk of one. `written`: its tally.
    ///
    /// # Errors
    /// `STORAGE_RECORD_UNREADABLE`, `STORAGE_FAILED`.
    pub(super) fn load(
        reading: &TradesReading<'_>,
        record: &Arc<ExperimentRecord>,
        written: Option<&[u8]>,
    ) -> Result<Self> {
        let of = |bytes: &&[u8]| Tally::identity_of(bytes).is_none_or(|of| of == identity(record));
        let mut kept = Self::begin(Arc::clone(record)).map_err(|why| unreadable(&why))?;
        if let Some(bytes) = written.filter(of) {
            kept.tally = Tally::from_bytes(record, bytes).map_err(|why| unreadable(&why))?;
            kept.new = false;
        }
        if record.conclusion.is_some() {
            kept.close();
        } else if !kept.new {
            let number = record.number;
            reading.ids(number, |_, bytes| {
                kept.ids.extend(run_of(bytes).into_iter().flat_map(|(_, ids)| ids));
                Ok::<_, Error>(())
            })?;
            kept.units.extend(reading.units(number)?.into_iter().map(|(unit, _)| unit));
        }
        Ok(kept)
    }

    /// Of what has ended the ids are of no use any more, and its record has the curve.
    pub(super) fn close(&mut self) {
        self.ids = Ids::default();
        self.units = Units::default();
        self.tally.ended.get_or_insert_default();
        self.tally.curve = Vec::new();
    }

    /// Takes a look, at a time in milliseconds since 1970; whether it ends the experiment.
    pub(super) fn look(&mut self, at: i64) -> bool {
        let look = self.tally.look(at);
        let Some(how) = plan::ends(look.decision.verdict) else { return false };
        let line = look.decision.row.number;
        self.tally.end(Ended { line, at, how: how.to_owned() }, &look);
        true
    }

    /// Takes trades in; whether any counts.
    pub(super) fn take(
        &mut self,
        share: &Share,
        changed: &mut Changed,
        answer: &mut Answer,
    ) -> bool {
        self.tally.counts.rejected += u64::from(share.rejected);
        answer.rejected += share.rejected;
        if self.tally.ended.is_some() {
            let all = share.rows.len() + share.late.len();
            self.tally.counts.after_end += all as u64;
            answer.after_end += all as u32;
            return false;
        }
        share.late.iter().for_each(|row| self.late(row, changed, answer));
        let mut counted = 0;
        for row in &share.rows {
            // Its id may have been there, and was forgotten.
            if self.tally.floor.is_some_and(|floor| row.time <= floor) {
                self.late(row, changed, answer);
                continue;
            }
            if !self.ids.insert(row.id) {
                self.tally.counts.duplicate += 1;
                answer.duplicate += 1;
                continue;
            }
            changed.ids.push(row.id);
            changed.newest = changed.newest.max(row.time);
            // A duplicate of what is no use is one too.
            if !self.tally.trial.record(row.arm, row.pnl) {
                self.tally.counts.rejected += 1;
                answer.rejected += 1;
                continue;
            }
            self.unit(row, changed);
            let day = row.time.div_euclid(86_400_000_000_000).clamp(0, i64::from(u32::MAX)) as u32;
            let arms = changed.days.entry(day).or_insert([Moments::new(); 2]);
            arms[row.arm as usize].push(row.pnl);
            self.tally.last_trade = self.tally.last_trade.max(Some(row.time));
            counted += 1;
        }
        answer.counted += counted;
        counted > 0
    }

    fn late(&mut self, row: &Row, changed: &mut Changed, answer: &mut Answer) {
        self.tally.counts.late += 1;
        answer.late += 1;
        if changed.late.len() < LATE_BYTES {
            put_late(&mut changed.late, row);
        }
    }

    fn unit(&mut self, row: &Row, changed: &mut Changed) {
        if self.tally.units().is_none() {
            return;
        }
        match row.unit {
            None => {
                self.tally.without_unit();
                self.units = Units::default();
            }
            Some(unit) => {
                if self.units.len() < UNITS && self.units.insert(unit) {
                    self.tally.new_unit(row.arm);
                    changed.units.push((unit, row.arm));
                }
            }
        }
    }

    /// Writes what a group changed of it.
    pub(super) fn put(&self, writing: &TradesWriting<'_>, changed: &Changed) -> Result<()> {
        let number = self.record.number;
        if self.new {
            writing.forget(number, true)?;
        }
        writing.put_tally(number, &self.tally.to_bytes())?;
        if !changed.ids.is_empty() {
            writing.append_ids(number, &run_to_bytes(changed.newest, &changed.ids))?;
        }
        for (unit, arm) in &changed.units {
            writing.put_unit(number, *unit, *arm as u8)?;
        }
        for (day, arms) in &changed.days {
            let mut of_day = match writing.day(number, *day)? {
                // A day that can't be read is begun again: no decision is taken by it.
                Some(bytes) => day_from_bytes(&bytes).unwrap_or_else(|| {
                    tracing::error!(number, day, "a day of an experiment can't be read");
                    [Moments::new(); 2]
                }),
                None => [Moments::new(); 2],
            };
            of_day.iter_mut().zip(arms).for_each(|(sum, more)| sum.merge(more));
            writing.put_day(number, *day, &day_to_bytes(&of_day))?;
        }
        if changed.late.is_empty() {
            return Ok(());
        }
        let there: usize = writing.late(number)?.iter().map(Vec::len).sum();
        if there + changed.late.len() <= LATE_BYTES {
            writing.append_late(number, &changed.late)?;
        }
        Ok(())
    }
}

fn put_late(bytes: &mut Vec<u8>, row: &Row) {
    bytes.extend_from_slice(&row.id.to_le_bytes());
    bytes.extend_from_slice(&row.time.to_le_bytes());
    bytes.extend_from_slice(&row.pnl.to_bits().to_le_bytes());
    bytes.push(row.arm as u8);
}

/// A sorted run of ids, behind the time of the newest trade of it.
pub(super) fn run_to_bytes(newest: i64, ids: &[u128]) -> Vec<u8> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let mut bytes = Vec::with_capacity(8 + 16 * sorted.len());
    bytes.extend_from_slice(&newest.to_le_bytes());
    sorted.iter().for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()));
    bytes
}

/// What was written; what is cut off is left out.
pub(super) fn run_of(bytes: &[u8]) -> Option<(i64, impl Iterator<Item = u128> + '_)> {
    let (newest, ids) = bytes.split_first_chunk::<8>()?;
    let ids = ids.chunks_exact(16).map(|id| {
        let mut whole = [0; 16];
        whole.copy_from_slice(id);
        u128::from_le_bytes(whole)
    });
    Some((i64::from_le_bytes(*newest), ids))
}

pub(super) fn unreadable(why: &str) -> Error {
    Error::internal(UNREADABLE, format!("a tally of trades can't be read: {why}"))
}
