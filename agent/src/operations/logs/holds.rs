//! Holds: what lies within one is not deleted, by retention or by hand, until it is released.

use std::ops::ControlFlow;

use genesis_storage::{HoldRecord, SegmentRecord};

use super::{Logs, plan, timestamp};
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep};

/// The shortest beginning of an id that names a hold.
const PREFIX: usize = 4;

/// A hold with what it keeps.
#[derive(Debug, Clone)]
pub struct HoldView {
    /// The hold.
    pub record: HoldRecord,
    /// How many segments it keeps.
    pub segments: u64,
    /// Their compressed bytes.
    pub compressed_bytes: u64,
}

impl Logs {
    /// The holds in force, oldest first. Costs one walk over the catalogue.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn holds(&self) -> Result<Vec<HoldView>> {
        let records = self.state.read(|reading| Ok(reading.holds().all()?))?;
        self.viewed(records)
    }

    fn viewed(&self, records: Vec<HoldRecord>) -> Result<Vec<HoldView>> {
        let view = |record| HoldView { record, segments: 0, compressed_bytes: 0 };
        let mut views: Vec<HoldView> = records.into_iter().map(view).collect();
        if views.is_empty() {
            return Ok(views);
        }
        self.state.read(|reading| {
            reading.segments().for_each(None, |segment| {
                if segment.is_archived() {
                    let holding =
                        views.iter_mut().filter(|view| plan::holds(&view.record, &segment));
                    for view in holding {
                        view.segments += 1;
                        view.compressed_bytes += segment.compressed_bytes;
                    }
                }
                ControlFlow::Continue(())
            })?;
            Ok(())
        })?;
        Ok(views)
    }

    /// Whether a segment may not be deleted, by its source's configuration or by a hold.
    pub(super) fn held(&self, segment: &SegmentRecord, holds: &[HoldRecord]) -> bool {
        self.retention(&segment.log_type).hold
            || holds.iter().any(|hold| plan::holds(hold, segment))
    }

    /// The hold that a request asks for, not written yet; the one that is in force on the same, if there is.
    fn wanted(&self, log_type: &str, range: &str) -> Result<(HoldRecord, Option<HoldRecord>)> {
        if !log_type.is_empty() {
            self.known_type(log_type)?;
        }
        let range = match range {
            "" => None,
            text => Some(Self::parse_range(text)?),
        };
        let wanted = HoldRecord {
            id: String::new(),
            log_type: log_type.to_owned(),
            from: range.map(|range| timestamp(range.from)),
            until: range.map(|range| timestamp(range.until)),
            by: String::new(),
            reason: String::new(),
            at: self.outside.clock.now(),
        };
        let same = |held: &HoldRecord| {
            (&held.log_type, held.from, held.until) == (&wanted.log_type, wanted.from, wanted.until)
        };
        let known = self.state.read(|reading| Ok(reading.holds().all()?))?;
        Ok((wanted.clone(), known.into_iter().find(same)))
    }

    /// What a hold would keep.
    ///
    /// # Errors
    /// `LOG_TYPE_UNKNOWN`, `RANGE_INVALID`, `STORAGE_FAILED`.
    pub fn plan_hold(&self, log_type: &str, range: &str) -> Result<Plan> {
        let (wanted, known) = self.wanted(log_type, range)?;
        let what = describe(&wanted);
        if let Some(known) = known {
            return Ok(Plan::new("logs.hold", &[&what, &known.id], Vec::new()));
        }
        let views = self.viewed(vec![wanted])?;
        let why = views.first().map_or(String::new(), |view| {
            format!("{} segment(s), {} bytes archived by now", view.segments, view.compressed_bytes)
        });
        Ok(Plan::new("logs.hold", &[], vec![PlanStep::new("hold", what, why)]))
    }

    /// Holds the lines of a type, or of all, within a range, or without end. Nothing within it is deleted from
    /// when this returns. The one in force on the same is returned with `true`.
    ///
    /// # Errors
    /// Those of [`Logs::plan_hold`], `REASON_MISSING`, `PLAN_CHANGED`.
    pub async fn hold(
        &self,
        log_type: &str,
        range: &str,
        plan_hash: &str,
        actor: String,
        reason: String,
    ) -> Result<(HoldView, bool)> {
        demand(&reason, "logs are held with a reason")?;
        // A deletion that is under way ends first; the next one sees the hold.
        let _alone = self.deleting.lock().await;
        if !plan_hash.is_empty() {
            self.plan_hold(log_type, range)?.accept(plan_hash)?;
        }
        let (wanted, known) = self.wanted(log_type, range)?;
        let existed = known.is_some();
        let record = match known {
            Some(known) => known,
            None => {
                let id = ulid::Ulid::generate().to_string();
                let record = HoldRecord { id, by: actor.clone(), reason: reason.clone(), ..wanted };
                let intent = self
                    .intent(&actor, "logs.held", &reason)
                    .target(record.id.clone())
                    .detail(describe(&record));
                let written = record.clone();
                self.state.write(intent, move |writing| Ok(writing.holds().put(&written)?)).await?;
                record
            }
        };
        let mut views = self.viewed(vec![record.clone()])?;
        let view = views.pop().unwrap_or(HoldView { record, segments: 0, compressed_bytes: 0 });
        Ok((view, existed))
    }

    fn hold_named(&self, id: &str) -> Result<HoldRecord> {
        let wanted = id.to_ascii_uppercase();
        let mut found = self.state.read(|reading| Ok(reading.holds().all()?))?;
        found.retain(|hold| wanted.len() >= PREFIX && hold.id.starts_with(&wanted));
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Error::not_found("HOLD_NOT_FOUND", format!("there is no hold {id:?}"))),
            _ => {
                let message = format!("{id} is the beginning of several holds' ids");
                Err(Error::not_found("HOLD_NOT_FOUND", message))
            }
        }
    }

    /// What a release would release.
    ///
    /// # Errors
    /// `HOLD_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn plan_release(&self, id: &str) -> Result<Plan> {
        let hold = self.hold_named(id)?;
        let why = format!("{}, held by {}: {}", describe(&hold), hold.by, hold.reason);
        Ok(Plan::new("logs.release", &[], vec![PlanStep::new("release", hold.id, why)]))
    }

    /// Ends a hold, and returns it.
    ///
    /// # Errors
    /// Those of [`Logs::plan_release`], `REASON_MISSING`, `PLAN_CHANGED`.
    pub async fn release(
        &self,
        id: &str,
        plan_hash: &str,
        actor: String,
        reason: String,
    ) -> Result<HoldView> {
        demand(&reason, "logs are released with a reason")?;
        let _alone = self.deleting.lock().await;
        self.plan_release(id)?.accept(plan_hash)?;
        let record = self.hold_named(id)?;
        let mut views = self.viewed(vec![record.clone()])?;
        let intent = self
            .intent(&actor, "logs.released", &reason)
            .target(record.id.clone())
            .detail(describe(&record));
        let id = record.id.clone();
        self.state.write(intent, move |writing| Ok(writing.holds().remove(&id)?)).await?;
        Ok(views.pop().unwrap_or(HoldView { record, segments: 0, compressed_bytes: 0 }))
    }
}

/// Refuses what must not be done without saying why.
///
/// # Errors
/// `REASON_MISSING`.
pub(super) fn demand(reason: &str, what: &str) -> Result<()> {
    match reason.trim() {
        "" => Err(Error::invalid("REASON_MISSING", format!("{what}: add --reason TEXT"))),
        _ => Ok(()),
    }
}

fn describe(hold: &HoldRecord) -> String {
    let log_type = if hold.log_type.is_empty() { "all types" } else { &hold.log_type };
    let (from, until) = match (hold.from, hold.until) {
        (Some(from), Some(until)) => (format!("{from:.3}"), format!("{until:.3}")),
        _ => return format!("{log_type}, all times"),
    };
    format!("{log_type}, {from}..{until}")
}
