//! VACUUM of a care: `jobs` tables at a time, each read back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::care::{Care, Done};
use super::plan::{self, Vacuum};
use super::preflight;
use super::record::StepOutcome;
use super::watch::Watching;
use crate::error::{Error, Result};
use crate::outside::database::Failure;
use crate::outside::database::facts::{self, Table};
use crate::outside::database::postgres::Session;
use crate::outside::failpoint;
use tracing::Instrument;

/// Servers up to version 14 tell up to half a second late what was vacuumed: they are asked again so often.
const LATE: (Duration, u32) = (Duration::from_millis(100), 15);
impl Care {
    /// Vacuums tables, `jobs` at a time.
    pub(super) async fn vacuum(self: &Arc<Self>, tables: Vec<plan::Vacuum>) -> Result<()> {
        let batches = plan::batches(tables);
        let total = batches.len();
        let queue: Arc<Mutex<VecDeque<Vec<plan::Vacuum>>>> = Arc::new(Mutex::new(batches.into()));
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..self.instance.jobs.min(u32::try_from(total).unwrap_or(u32::MAX)) {
            let (care, queue) = (Arc::clone(self), Arc::clone(&queue));
            let some = async move { care.vacuum_some(&queue, total).await };
            workers.spawn(crate::trace::carry(some.in_current_span()));
        }
        let mut first = Ok(());
        while let Some(ended) = workers.join_next().await {
            let ended = ended.unwrap_or_else(|_| {
                Err(Error::internal(
                    "RUN_PANICKED",
                    "a worker hit a defect of the agent; see its log",
                ))
            });
            if first.is_ok() {
                first = ended;
            }
        }
        let rest = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let why =
            self.report().steps.iter().rev().find_map(|step| {
                (step.outcome == StepOutcome::Deferred).then(|| step.detail.clone())
            });
        let why = why.unwrap_or_else(|| "the workers ended before".to_owned());
        for table in rest.iter().flatten() {
            self.defer("vacuum", &table.name, &why);
        }
        first
    }

    async fn vacuum_some(
        &self,
        queue: &Mutex<VecDeque<Vec<plan::Vacuum>>>,
        total: usize,
    ) -> Result<()> {
        let mut session = self.open("vacuum").await?;
        let mut pid = facts::own(&mut session).await.map_err(|it| self.failed(it))?.0;
        loop {
            if session.run("SELECT 1").await.is_err() {
                // Somebody has ended it; what it was at is told.
                session = self.open("vacuum").await?;
                pid = facts::own(&mut session).await.map_err(|it| self.failed(it))?.0;
            }
            if let Some(why) = self.may_go_on().await? {
                let next =
                    queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front();
                next.into_iter().flatten().for_each(|left| self.defer("vacuum", &left.name, &why));
                break;
            }
            let (next, left) = {
                let mut queue = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                (queue.pop_front(), queue.len())
            };
            let Some(batch) = next else { break };
            let target = plan::words(&batch);
            self.tell(total - left - 1, total, format!("VACUUM {target}"));
            let watching = self.watched.watch(pid, &target);
            self.step("vacuum", &target, async || {
                self.vacuum_batch(&mut session, &batch, &watching).await
            })
            .await?;
        }
        session.close().await;
        Ok(())
    }

    /// Vacuums and analyses some tables in one statement, and reads back that each was.
    async fn vacuum_batch(
        &self,
        session: &mut Session,
        batch: &[Vacuum],
        watching: &Watching,
    ) -> Done {
        if let Err(failure) = session.limit(self.limits()).await {
            return Done::new(StepOutcome::Failed, failure.to_string());
        }
        let names: Vec<&str> = batch.iter().map(|table| table.name.as_str()).collect();
        let sql = format!("VACUUM (ANALYZE, PARALLEL {}) {}", self.instance.jobs, names.join(", "));
        let mut ran = session.run(&sql).await;
        failpoint::pause("database.after-vacuum");
        // One that was dropped, or is held, fails all of them. Who was told to make way does not come back at once.
        if batch.len() > 1 && ran.as_ref().is_err_and(|failure| !failure.cancelled()) {
            ran = self.one_by_one(session, batch).await;
        }
        let ran = ran.map_err(|failure| self.why(&failure, watching));
        let (mut done, mut bytes) = (0, (0, 0));
        let mut missed = Vec::new();
        let mut looks = LATE.1;
        for table in batch {
            let after = match self.after_vacuum(session, &table.before, &mut looks).await {
                Ok(after) => after,
                Err(failure) => return Done::new(StepOutcome::Failed, failure.to_string()),
            };
            // One that was dropped meanwhile needs no care.
            let Some(after) = after else { continue };
            bytes.0 += table.before.bytes.unsigned_abs();
            bytes.1 += after.bytes.unsigned_abs();
            if !after.vacuumed_since(&table.before) {
                missed.push(table.name.as_str());
                continue;
            }
            done += 1;
            let (was, is) = (table.before.dead, after.dead);
            if is > 0 && (is * 2 >= was || is * 5 >= after.live) {
                self.removed_nothing(session, table, is).await;
            }
        }
        let detail = match (ran, missed.as_slice()) {
            (Ok(()), []) => format!("{done} vacuumed and analysed"),
            (Ok(()), missed) => format!("the server skipped {}", missed.join(", ")),
            (Err(why), []) => why,
            (Err(why), missed) => format!("{why}; not done: {}", missed.join(", ")),
        };
        let outcome = match missed.is_empty() {
            true => StepOutcome::Done,
            false if self.left().is_zero() => StepOutcome::Deferred,
            false => {
                self.find("VACUUM_FAILED", &plan::words(batch), detail.clone());
                StepOutcome::Failed
            }
        };
        Done { outcome, bytes, detail }
    }

    /// What is left of a batch, each by itself; the first failure.
    async fn one_by_one(&self, session: &mut Session, batch: &[Vacuum]) -> Result<(), Failure> {
        let mut first = Ok(());
        for table in batch {
            if self.left().is_zero() || first.as_ref().is_err_and(Failure::cancelled) {
                break;
            }
            let after = facts::tables(session, Some(table.oid)).await?.pop();
            if after.is_none_or(|after| after.vacuumed_since(&table.before)) {
                continue;
            }
            session.limit(self.limits()).await?;
            let ran = session.run(&format!("VACUUM (ANALYZE) {}", table.name)).await;
            if first.is_ok() {
                first = ran;
            }
        }
        first
    }

    /// A table after its vacuum, `None` where it was dropped. It is looked at again, at most `looks` times, until the
    /// server tells of it.
    async fn after_vacuum(
        &self,
        session: &mut Session,
        before: &Table,
        looks: &mut u32,
    ) -> Result<Option<Table>, Failure> {
        loop {
            let after = facts::tables(session, Some(before.oid)).await?.pop();
            match after {
                Some(after) if !after.vacuumed_since(before) && *looks > 0 => {
                    *looks -= 1;
                    self.databases.outside.clock.sleep(LATE.0).await;
                }
                after => return Ok(after),
            }
        }
    }

    /// VACUUM ran and many dead rows are still there: somebody may see them.
    async fn removed_nothing(&self, session: &mut Session, table: &Vacuum, dead: i64) {
        let who = match facts::standing(session).await {
            Ok(standing) if standing.pinning.is_empty() => return,
            Ok(standing) => preflight::named(&standing.pinning),
            Err(failure) => format!("who keeps them can't be told: {failure}"),
        };
        let message =
            format!("{dead} dead rows could not be removed, as somebody may still see them: {who}");
        self.find("SNAPSHOT_OLD", &table.name, message);
    }
}
