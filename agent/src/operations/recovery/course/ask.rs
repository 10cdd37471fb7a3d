//! What people ask of the course: to close positions, to agree to a release.

use async_trait::async_trait;
use genesis_storage::{
    ApprovalRecord, CloseOrderState, ClosingRecord, CoursePhase, CourseRecord, EmergencyRecord,
    Intent,
};
use jiff::Timestamp;

use super::file::{self, Asked};
use super::keep::on_disk;
use super::{Course, approval, decide, unconfigured};
use crate::error::{Error, Result};
use crate::fleet::Ending;
use crate::outside::failpoint;
use crate::plan::PlanStep;

impl Asked {
    /// As it stands in the record.
    pub(super) fn closing(self, at: Timestamp) -> ClosingRecord {
        ClosingRecord { at, by: self.by, reason: self.reason, ended_at: None }
    }
}

impl Course {
    /// Has positions closed in the emergency that is in force; whether they were being closed already. What can't be
    /// written down is said by [`super::Live::not_durable`], and holds nothing up.
    ///
    /// # Errors
    /// `TRADING_UNCONFIGURED`.
    pub async fn ask_to_close(&self, epoch: u64, by: &str, reason: &str) -> Result<bool> {
        if !self.configured() {
            return Err(unconfigured());
        }
        if self.closing(epoch) {
            return Ok(true);
        }
        let asked = Asked { epoch, by: by.to_owned(), reason: reason.to_owned() };
        let (path, text) = (self.file.to_path_buf(), asked.clone());
        let filed = on_disk(move || file::write(&path, &text)).await;
        if let Err(error) = filed {
            tracing::error!(%error, file = %self.file.display(), "it can't be written");
        }
        failpoint::hit("emergency.close-filed");
        // Nothing is closed in an emergency that was released meanwhile.
        let _alone = self.deciding.lock().await;
        self.in_force(epoch)?;
        let now = self.now();
        let mut began = false;
        self.live.send_modify(|live| {
            live.record = decide::adopted(std::mem::take(&mut live.record), epoch);
            let going_on =
                live.record.closing.as_ref().is_some_and(|closing| closing.ended_at.is_none());
            began = !going_on;
            if began {
                live.record.closing = Some(asked.closing(now));
                // People who look before it has begun must not see how the last one ended.
                live.record.phase = CoursePhase::Closing;
            }
        });
        if !began {
            return Ok(true);
        }
        self.wake.notify_one();
        let intent = Intent::new(now, by, "trading.close-asked");
        self.save_as(intent.target(format!("emergency {epoch}")).reason(reason)).await;
        Ok(false)
    }

    /// Whether this is the emergency in force.
    fn in_force(&self, epoch: u64) -> Result<()> {
        let current = self.emergency.current().filter(EmergencyRecord::active);
        match current.is_some_and(|current| current.epoch == epoch) {
            true => Ok(()),
            false => {
                let message = format!("emergency {epoch} was released meanwhile; nothing was done");
                Err(Error::conflict("NO_EMERGENCY", message))
            }
        }
    }

    /// Ends an emergency: checks and release are one step for whoever wants to close, approve or release meanwhile.
    ///
    /// # Errors
    /// `CLOSING`, `APPROVAL_MISSING`, and those of `end`.
    pub async fn end<T>(
        &self,
        epoch: u64,
        (by, plan): (&str, &str),
        end: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let _alone = self.deciding.lock().await;
        self.in_force(epoch)?;
        self.may_end(epoch)?;
        self.may_release(epoch, by, plan)?;
        end.await
    }

    /// Whether positions are being closed in this emergency.
    pub fn closing(&self, epoch: u64) -> bool {
        let live = self.live.borrow();
        live.record.epoch == epoch
            && live.record.closing.as_ref().is_some_and(|closing| closing.ended_at.is_none())
    }

    /// The steps of closing, with the positions as they were last seen.
    ///
    /// # Errors
    /// `TRADING_UNCONFIGURED`.
    pub fn plan_to_close(&self, epoch: Option<u64>) -> Result<Vec<PlanStep>> {
        if !self.configured() {
            return Err(unconfigured());
        }
        let live = self.live.borrow();
        let mut steps = vec![
            PlanStep::new("halt", "the trading system", "no order leaves any more"),
            PlanStep::new("cancel", "every order at every venue", "protective ones too"),
        ];
        // What another emergency has seen is no news.
        let seen = live.record.venues.iter().filter(|_| Some(live.record.epoch) == epoch);
        for (name, venue) in seen {
            let at = venue.as_of.map_or_else(String::new, |at| format!("as it was {at:.0}"));
            let each = venue.positions.iter().map(|(symbol, quantity)| {
                PlanStep::new("close", format!("{quantity} of {symbol} at {name}"), at.clone())
            });
            steps.extend(each.take(100));
        }
        let within = self.config.close_within.as_secs();
        steps.push(PlanStep::new(
            "close",
            "what the venues have then",
            format!("orders that only reduce; each venue has {within} s"),
        ));
        steps.push(PlanStep::new("prove", "that every venue is empty", "seen twice, 2 s apart"));
        Ok(steps)
    }

    /// What a release depends on, for the hash of its plan: how far the course is and what is left at the venues.
    pub fn situation(&self, epoch: u64) -> Vec<String> {
        let live = self.live.borrow();
        if live.record.epoch != epoch {
            return Vec::new();
        }
        let mut situation = vec![format!("{:?}", live.record.phase)];
        for (name, venue) in &live.record.venues {
            situation.push(format!("{name} {:?} {}", venue.phase, venue.open_orders));
            let each = venue.positions.iter();
            situation.extend(each.map(|(symbol, quantity)| format!("{name} {symbol} {quantity}")));
        }
        situation
    }

    /// The step of a release that is about trading; `None`: there is nothing to be told to.
    pub fn plan_to_resume(&self, epoch: u64) -> Option<PlanStep> {
        if !self.configured() {
            return None;
        }
        let live = self.live.borrow();
        let left = left(&live.record);
        let orders = live.record.venues.values().flat_map(|venue| &venue.orders);
        let open = orders.filter(|order| order.state == CloseOrderState::Open).count();
        if open > 0 {
            let why = format!("{open} orders that close positions can still trade, and {left}");
            return Some(PlanStep::new("resume", "the trading system", why));
        }
        let why = match live.record.phase {
            _ if live.record.epoch != epoch => "it was not told to halt yet".to_owned(),
            CoursePhase::Flat => "every venue is flat".to_owned(),
            CoursePhase::FlatUnproven => format!("FLAT_UNPROVEN, {left}"),
            _ => left,
        };
        Some(PlanStep::new("resume", "the trading system", why))
    }

    /// Refuses a release while positions are being closed.
    ///
    /// # Errors
    /// `CLOSING`.
    pub fn may_end(&self, epoch: u64) -> Result<()> {
        if !self.closing(epoch) {
            return Ok(());
        }
        let within = self.config.close_within.as_secs();
        let message = format!(
            "positions are being closed; that ends within {within} s, and `genesisctl emergency status` shows how"
        );
        Err(Error::conflict("CLOSING", message))
    }

    /// Whether `by` may release by this plan.
    ///
    /// # Errors
    /// `APPROVAL_MISSING`.
    fn may_release(&self, epoch: u64, by: &str, plan: &str) -> Result<()> {
        let approvals = self.approvals(epoch);
        approval::may_release(&approvals, by, plan, self.now(), self.config.approvals)
    }

    fn approvals(&self, epoch: u64) -> Vec<ApprovalRecord> {
        let live = self.live.borrow();
        if live.record.epoch == epoch { live.record.approvals.clone() } else { Vec::new() }
    }

    /// The approvals of this plan that count now.
    pub fn valid_approvals(&self, epoch: u64, plan: &str) -> Vec<ApprovalRecord> {
        let approvals = self.approvals(epoch);
        approval::valid(&approvals, plan, self.now()).into_iter().cloned().collect()
    }

    /// Whether `by` may agree to the release by this plan.
    ///
    /// # Errors
    /// `APPROVALS_NOT_NEEDED`, `ALREADY_APPROVED`.
    pub fn may_approve(&self, epoch: u64, by: &str, plan: &str) -> Result<()> {
        let approvals = self.approvals(epoch);
        approval::may_approve(&approvals, by, plan, self.now(), self.config.approvals)
    }

    /// Keeps somebody's consent to a release; those that count now. One that could not be written down counts until the
    /// agent stops.
    ///
    /// # Errors
    /// Those of [`Course::may_approve`].
    pub async fn approve(
        &self,
        epoch: u64,
        by: &str,
        reason: &str,
        plan: &str,
    ) -> Result<Vec<ApprovalRecord>> {
        // One after the other, so that two of one identity can't both find that there is none yet.
        let _alone = self.deciding.lock().await;
        self.in_force(epoch)?;
        self.may_approve(epoch, by, plan)?;
        let now = self.now();
        let approval = ApprovalRecord {
            by: by.to_owned(),
            at: now,
            plan: plan.to_owned(),
            reason: reason.to_owned(),
        };
        self.live.send_modify(|live| {
            live.record = decide::adopted(std::mem::take(&mut live.record), epoch);
            // The latest of each identity; older ones count no more.
            live.record.approvals.retain(|kept| kept.by != approval.by);
            live.record.approvals.push(approval.clone());
            let excess = live.record.approvals.len().saturating_sub(16);
            live.record.approvals.drain(..excess);
        });
        let intent = Intent::new(now, by, "emergency.release-approved").reason(reason);
        let intent = intent.target(format!("emergency {epoch}")).detail(format!("plan {plan}"));
        self.save_as(intent).await;
        Ok(self.valid_approvals(epoch, plan))
    }
}

/// What is left at the venues, in words: nobody's look is no position's absence.
fn left(record: &CourseRecord) -> String {
    let seen: Vec<_> = record.venues.values().filter(|venue| venue.as_of.is_some()).collect();
    let positions: usize = seen.iter().map(|venue| venue.positions.len()).sum();
    let unseen = record.venues.len() - seen.len();
    match (seen.len(), unseen) {
        (0, _) => "no venue has been looked at".to_owned(),
        (_, 0) => format!("{positions} positions were last seen"),
        (_, unseen) => {
            format!(
                "{positions} positions were last seen, and {unseen} venues have not been looked at"
            )
        }
    }
}

#[async_trait]
impl Ending for Course {
    async fn may_end(&self, epoch: u64) -> Option<Box<dyn Send + '_>> {
        let alone = self.deciding.lock().await;
        (!self.closing(epoch)).then(|| Box::new(alone) as Box<dyn Send + '_>)
    }
}

#[cfg(test)]
mod tests {
    use genesis_storage::VenueRecord;
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_nobody_has_looked_at_is_not_said_to_be_empty() {
        let venue = |seen: bool, positions: usize| VenueRecord {
            as_of: seen.then_some(Timestamp::UNIX_EPOCH),
            positions: vec![("BTC".to_owned(), "1".to_owned()); positions],
            ..VenueRecord::default()
        };
        for (venues, said) in [
            (vec![], "no venue has been looked at"),
            (vec![venue(false, 0)], "no venue has been looked at"),
            (vec![venue(true, 0)], "0 positions were last seen"),
            (vec![venue(true, 2), venue(true, 1)], "3 positions were last seen"),
            (
                vec![venue(true, 2), venue(false, 0)],
                "2 positions were last seen, and 1 venues have not been looked at",
            ),
        ] {
            let venues = venues.into_iter().enumerate().map(|(at, it)| (at.to_string(), it));
            let record = CourseRecord { venues: venues.collect(), ..CourseRecord::default() };
            assert_eq!(left(&record), said);
        }
    }
}
