//! Carrying a rollback out: announced, done, read back, and looked after, also when the caller leaves.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{Intent, RollbackOutcome, RollbackRecord};
use tokio::sync::{oneshot, watch};
use tracing::Instrument;

use super::{
    Aftermath, Applied, Dispatcher, Order, Rollback, RollbackPlan, Wish, demands, lock, outcome,
};
use crate::error::{Error, Kind, Result};
use crate::outside::failpoint;
use crate::runs::system_time;

/// Who asked for it is answered after so long, also while it goes on.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 20_000 });

/// A rollback that was made, or goes on.
#[derive(Debug, Clone)]
pub struct RolledBack {
    /// As the ledger has it.
    pub record: RollbackRecord,
    /// As it was planned.
    pub plan: RollbackPlan,
    /// What the read-back showed; empty while it goes on.
    pub seen: String,
    /// What is still to happen; empty: nothing.
    pub pending: String,
    /// The run that carries it out; empty: none.
    pub run: String,
    /// What was found and done afterwards; `None` while it goes on, and where nothing was changed.
    pub aftermath: Option<Aftermath>,
    /// The command that undoes it; empty: there is nothing to undo, or it goes on.
    pub undo: String,
}

fn begun(record: RollbackRecord, plan: RollbackPlan) -> RolledBack {
    RolledBack {
        record,
        plan,
        seen: String::new(),
        pending: String::new(),
        run: String::new(),
        aftermath: None,
        undo: String::new(),
    }
}

/// Lets others roll a component back when it is dropped.
struct Turn {
    dispatcher: Dispatcher,
    component: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.dispatcher.0.held).remove(&self.component);
    }
}

impl Dispatcher {
    fn turn(&self, component: &str) -> Result<Turn> {
        if !lock(&self.0.held).insert(component.to_owned()) {
            let message = format!("{component} is being rolled back already");
            return Err(Error::conflict("ROLLBACK_HELD", message));
        }
        Ok(Turn { dispatcher: self.clone(), component: component.to_owned() })
    }

    fn new_id(&self) -> String {
        let at = system_time(self.0.clock.now());
        let mut ids = lock(&self.0.ids);
        // 2^80 ids in one millisecond; a fresh random one is as good.
        ids.generate_from_datetime(at).unwrap_or_else(|_| ulid::Ulid::from_datetime(at)).to_string()
    }

    /// Carries out a rollback and reads it back. A non-empty `plan_hash` must be the plan's as it is now. What takes
    /// longer than 20 s goes on when this returns.
    ///
    /// # Errors
    /// Those of [`Dispatcher::plan`], `PLAN_CHANGED`, `ROLE_MISSING`, `REASON_MISSING`, `NAME_NOT_CONFIRMED`,
    /// `ROLLBACK_HELD`, and the component's own.
    pub async fn roll_back(&self, wish: &Wish, (by, reason): (&str, &str)) -> Result<RolledBack> {
        let name = wish.component.as_str();
        // Who does not exist is not held.
        let component = self.component(name).await?;
        let turn = self.turn(name)?;
        let plan = self.plan(wish).await?;
        plan.plan.accept(&wish.plan_hash)?;
        if plan.already {
            let record = RollbackRecord { component: name.to_owned(), ..RollbackRecord::default() };
            let seen = format!("{} is in force already; nothing was changed", plan.target.id);
            return Ok(RolledBack { seen, ..begun(record, plan) });
        }
        demands(&plan.care, wish, reason)?;
        let record = RollbackRecord {
            id: self.new_id(),
            component: name.to_owned(),
            from: plan.current.id.clone(),
            from_digest: plan.current.digest.clone(),
            to: plan.target.id.clone(),
            to_digest: plan.target.digest.clone(),
            at: self.0.clock.now(),
            by: by.to_owned(),
            reason: reason.to_owned(),
            owed: true,
            ..RollbackRecord::default()
        };
        self.put(&record, "intent").await?;
        failpoint::hit("rollback.announced");
        let (run, running) = watch::channel(String::new());
        let order = Order {
            id: record.id.clone(),
            by: by.to_owned(),
            reason: reason.to_owned(),
            into: wish.into.clone(),
            run,
        };
        let begun = begun(record, plan);
        let (answer, answered) = oneshot::channel();
        let (own, going_on) = (self.clone(), begun.clone());
        // A task of its own, so that a caller who leaves does not cut it off.
        let carried = async move {
            let _turn = turn;
            let _ = answer.send(own.carry_out(component, begun, order).await);
        };
        tokio::spawn(crate::trace::carry(carried.in_current_span()));
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(Error::internal("CALL_PANICKED", "the rollback hit a defect")),
            Err(_) => {
                let run = running.borrow().clone();
                let how = match run.is_empty() {
                    true => format!("`genesisctl rollback points --component {name}`"),
                    false => format!("`genesisctl run watch {run}`"),
                };
                Ok(RolledBack { pending: format!("it goes on: {how} shows it"), run, ..going_on })
            }
        }
    }

    async fn carry_out(
        &self,
        component: Arc<dyn Rollback>,
        mut done: RolledBack,
        order: Order,
    ) -> Result<RolledBack> {
        let applied = component.apply(&done.plan.target, &order).await;
        done.run = order.run.borrow().clone();
        failpoint::hit("rollback.applied");
        let unproven = applied.as_ref().is_ok_and(|it| !it.unproven.is_empty());
        let (mut kept, mut withdrawn) = (String::new(), false);
        let verified = match applied {
            Ok(Applied { unproven, .. }) if !unproven.is_empty() => {
                Err(Error::new(Kind::Incomplete, "ROLLBACK_UNKNOWN", unproven))
            }
            Ok(applied) => {
                (kept, withdrawn) = (applied.kept, applied.withdrawn);
                done.pending = applied.pending;
                match (done.pending.is_empty(), applied.beside) {
                    (false, beside) => Ok((beside, RollbackOutcome::Staged)),
                    (true, beside) if !beside.is_empty() => Ok((beside, RollbackOutcome::Done)),
                    (true, _) => {
                        let seen = component.verify(&done.plan.target).await;
                        seen.map(|seen| (seen, RollbackOutcome::Done))
                    }
                }
            }
            Err(error) => Err(error),
        };
        let now = component.current().await.ok().flatten();
        let failed = match verified {
            Ok((seen, outcome)) => {
                done.seen = if kept.is_empty() { seen } else { format!("{seen}; {kept}") };
                (done.record.outcome, done.record.detail) = (outcome, done.seen.clone());
                None
            }
            Err(error) => {
                let at = outcome(now.as_ref().map(|it| it.digest.as_str()), &done.record);
                // What was not read back is not done.
                done.record.outcome = match at {
                    _ if unproven => RollbackOutcome::Unknown,
                    RollbackOutcome::Done => RollbackOutcome::Unknown,
                    at => at,
                };
                done.record.detail = format!("{}: {}", error.code, error.chain());
                Some(error)
            }
        };
        let made = now.filter(|it| it.id != done.record.from && it.id != done.record.to);
        done.record.made = made.map(|it| it.id).unwrap_or_default();
        done.record.ended_at = Some(self.0.clock.now());
        // Where nothing was begun there is nothing to look after.
        let refused = failed.as_ref().is_some_and(|error| {
            matches!(error.kind, Kind::Refused | Kind::Invalid | Kind::Conflict | Kind::NotFound)
        });
        let untouched = refused && done.record.outcome == RollbackOutcome::Failed;
        done.record.owed = !untouched && !withdrawn;
        let code = match (&failed, done.record.outcome) {
            (Some(error), _) => error.code,
            // Its end is written down once it has one.
            (None, RollbackOutcome::Staged) => "staged",
            (None, _) => "ok",
        };
        let ended = self.put(&done.record, code).await;
        failpoint::hit("rollback.ended");
        done.undo = self.undo(&done.record).await;
        if done.record.owed {
            let seen = done.seen.clone();
            done.aftermath = Some(self.look_after(&mut done.record, &seen).await);
        }
        match failed {
            Some(mut error) => {
                let incident = done.aftermath.map(|it| it.incident).filter(|it| !it.is_empty());
                if let Some(incident) = incident {
                    let more =
                        format!("; `genesisctl incident show {incident}` has what was found");
                    error.message.push_str(&more);
                }
                Err(error)
            }
            // It is done; that the ledger can't have it is told by the log, and settled at the next start.
            None => {
                if let Err(error) = ended {
                    tracing::error!(error = error.chain(), "the end of a rollback can't be kept");
                }
                Ok(done)
            }
        }
    }

    /// Writes a rollback with its entry in the oplog.
    pub(super) async fn put(&self, record: &RollbackRecord, outcome: &str) -> Result<()> {
        let mut detail = format!("from {} to {}", record.from, record.to);
        if !record.detail.is_empty() {
            detail = format!("{detail}: {}", record.detail);
        }
        let intent = Intent::new(self.0.clock.now(), record.by.clone(), "rollback")
            .target(record.component.clone())
            .reason(record.reason.clone())
            .outcome(outcome)
            .detail(detail)
            .correlation_id(record.id.clone());
        let record = record.clone();
        self.0.state.write(intent, move |writing| Ok(writing.rollbacks().put(&record)?)).await
    }

    /// Adds to a rollback what its entry need not tell again.
    pub(super) async fn keep(&self, record: &RollbackRecord) -> Result<()> {
        let intent = Intent::new(self.0.clock.now(), "system:agent", "rollback.looked-after")
            .target(record.component.clone())
            .outcome(record.health.clone())
            .detail(format!("incident {}", record.incident))
            .correlation_id(record.id.clone());
        let record = record.clone();
        self.0.state.write(intent, move |writing| Ok(writing.rollbacks().put(&record)?)).await
    }
}
