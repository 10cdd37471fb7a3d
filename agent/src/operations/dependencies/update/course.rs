//! The life of an update, and of a rollback, from its record to its end.

use std::sync::Arc;

use genesis_storage::{DependencyReleaseRecord, Intent, UpdateRecord, UpdateState};

use super::super::Dependencies;
use super::super::config::managed::strategy_name;
use super::plan::At;
use super::prepare::{Prepared, summary, work_of};
use super::releases::{self, remove};
use super::{ROLLBACK_STRATEGY, Target, Wish, digest, failed};
use crate::error::{Error, Result};
use crate::outside::{failpoint, links};
use crate::runs::{Context, Report};

/// So many updates are kept.
const KEPT: usize = 1_000;
/// An error is told up to so many characters.
const TOLD: usize = 4_000;

impl Dependencies {
    /// An entry of the oplog about an update.
    pub(super) fn intent(&self, record: &UpdateRecord, action: &str) -> Intent {
        Intent::new(self.outside.clock.now(), record.actor.as_str(), action)
            .target(record.project.clone())
            .reason(record.reason.clone())
            .correlation_id(record.id.clone())
    }

    /// Writes how far an update is, with its entry in the oplog.
    pub(super) async fn put_update(&self, record: &UpdateRecord) -> Result<()> {
        let state = format!("{:?}", record.state);
        let outcome = match record.error_code.as_str() {
            "" => "ok".to_owned(),
            code => code.to_owned(),
        };
        let intent = self.intent(record, "dependencies.update").outcome(outcome).detail(
            match &record.new_target {
                Some(target) => format!("{state}: {} to {target}", record.strategy),
                None => format!("{state}: {}", record.strategy),
            },
        );
        let record = record.clone();
        self.state
            .write(intent, move |writing| Ok(writing.dependencies().put_update(&record, KEPT)?))
            .await?;
        self.bell.ring();
        Ok(())
    }

    async fn begun(
        &self,
        target: &Target,
        strategy: &str,
        context: &Context,
    ) -> Result<UpdateRecord> {
        let Target { project, deploy, .. } = target;
        let link = links::target(&deploy.link).map_err(|error| failed(&deploy.link, error))?;
        let manifests = releases::manifests(project).await?;
        let manifests = manifests
            .into_iter()
            .map(|(path, text)| (path.display().to_string(), digest(&text)))
            .collect();
        Ok(UpdateRecord {
            id: context.id(),
            project: project.name.clone(),
            strategy: strategy.to_owned(),
            state: UpdateState::Backup,
            old_target: link.map(|it| it.display().to_string()),
            new_target: None,
            from_generation: 0,
            to_generation: 0,
            manifests,
            changes: Vec::new(),
            error_code: String::new(),
            error: String::new(),
            failed_in: None,
            restart_owed: false,
            ill: String::new(),
            test_output: String::new(),
            exploited: false,
            started_at: self.outside.clock.now(),
            ended_at: None,
            actor: context.actor(),
            reason: context.reason(),
        })
    }

    /// Updates a project.
    pub(super) async fn run_update(
        self: Arc<Self>,
        target: Target,
        wish: Wish,
        context: Context,
    ) -> Result<Report> {
        let mut record = self.begun(&target, strategy_name(wish.strategy), &context).await?;
        record.exploited = wish.exploited;
        self.put_update(&record).await?;
        failpoint::hit("dependencies.begun");
        let prepared = tokio::select! {
            prepared = self.prepare(&target, &wish, &mut record, &context) => prepared,
            () = context.cancelled() => Err(Error::cancelled()),
        };
        let done = match prepared {
            Ok(Prepared::Ready(ready)) => match self.bring(&target, &mut record, &context).await {
                Ok(()) => Ok(Prepared::Ready(ready)),
                Err(error) => Err(error),
            },
            other => other,
        };
        let changed = done.as_ref().map(|it| matches!(it, Prepared::Ready(_)));
        let ended = self.end(&target, record, changed).await?;
        self.remember(&target.project).await;
        self.look_soon();
        match done {
            Ok(Prepared::Ready(ready)) => Ok(Report::proven(format!(
                "{} is at generation {} and does well: {}",
                ended.project, ready.generation, ready.summary
            ))),
            Ok(Prepared::Nothing(text)) => Ok(Report::proven(text)),
            Err(error) => Err(error),
        }
    }

    /// The end of an update: its last state, and what is not wanted any more goes. `Ok(false)`: there was nothing to change.
    async fn end(
        &self,
        target: &Target,
        mut record: UpdateRecord,
        done: Result<bool, &Error>,
    ) -> Result<UpdateRecord> {
        let Target { project, deploy, .. } = target;
        let (actor, reason) = (record.actor.clone(), record.reason.clone());
        let who = (actor.as_str(), reason.as_str());
        remove(work_of(deploy, &record.id)).await;
        record.ended_at = Some(self.outside.clock.now());
        match done {
            Ok(true) => self.succeeded(target, &mut record).await?,
            Ok(false) => {
                record.state = UpdateState::Unchanged;
                self.put_update(&record).await?;
            }
            Err(error) => {
                record.failed_in.get_or_insert(record.state);
                record.error_code = error.code.to_owned();
                record.error = error.chain().chars().take(TOLD).collect();
                let reached = record.failed_in.unwrap_or(record.state);
                if reached >= UpdateState::Restart && self.leads(target, &record)? == At::Elsewhere
                {
                    record.state = UpdateState::Held;
                    self.put_update(&record).await?;
                    self.metrics.ended(&record);
                    return Ok(record);
                }
                if self.is_stuck(target, &record)? {
                    // It is taken back as soon as that can be done.
                    record.ended_at = None;
                    self.put_update(&record).await?;
                    return Ok(record);
                }
                record.state = UpdateState::RolledBack;
                self.put_update(&record).await?;
                self.drop_release(target, &record).await?;
            }
        }
        self.metrics.ended(&record);
        if record.state == UpdateState::Succeeded {
            let in_use = [record.from_generation, record.to_generation];
            self.expire(target, &in_use, who).await?;
        }
        tracing::info!(project = project.name, state = ?record.state, "an update has ended");
        Ok(record)
    }

    /// Whether what was to be taken back is still in its place.
    fn is_stuck(&self, target: &Target, record: &UpdateRecord) -> Result<bool> {
        let moved = record.failed_in.is_some_and(|state| state >= UpdateState::Deploy);
        Ok(moved && self.leads(target, record)? == At::New)
    }

    /// The release of an update that came to nothing goes. One that is gone back to stays.
    pub(super) async fn drop_release(&self, target: &Target, record: &UpdateRecord) -> Result<()> {
        // What may still run stays, until it is over as others are.
        let reached = record.failed_in.unwrap_or(record.state);
        let may_run =
            record.restart_owed || (record.old_target.is_none() && reached >= UpdateState::Restart);
        if record.strategy == ROLLBACK_STRATEGY || may_run {
            return Ok(());
        }
        let Target { project, deploy, .. } = target;
        let who = (record.actor.as_str(), record.reason.as_str());
        let own = |it: &&DependencyReleaseRecord| it.update_id == record.id;
        match self.releases(&project.name)?.iter().find(own) {
            Some(release) => self.discard(project, deploy, release, who).await,
            // It had not come to a record of its own.
            None if record.to_generation > 0 => {
                remove(deploy.releases.join(record.to_generation.to_string())).await;
                remove(self.kept(&project.name, record.to_generation)).await;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The release counts as proven, and the update as done, in one transaction.
    pub(super) async fn succeeded(&self, target: &Target, record: &mut UpdateRecord) -> Result<()> {
        record.state = UpdateState::Succeeded;
        let now = self.outside.clock.now();
        record.ended_at.get_or_insert(now);
        let releases = self.releases(&target.project.name)?;
        let release = releases.into_iter().find(|it| it.generation == record.to_generation);
        let release = release.map(|it| DependencyReleaseRecord {
            deployed_at: Some(now),
            proven: true,
            ..it
        });
        let intent = self.intent(record, "dependencies.updated").detail(format!(
            "generation {}: {}",
            record.to_generation,
            summary(record)
        ));
        let record = record.clone();
        self.state
            .write(intent, move |writing| {
                // What an earlier one owed is paid: its service runs this one now.
                let owed = |it: &UpdateRecord| it.restart_owed && it.project == record.project;
                for it in writing.dependencies().updates(usize::MAX, owed)? {
                    let paid = UpdateRecord { restart_owed: false, ..it };
                    writing.dependencies().put_update(&paid, KEPT)?;
                }
                if let Some(release) = release {
                    writing.dependencies().put_release(&release)?;
                }
                Ok(writing.dependencies().put_update(&record, KEPT)?)
            })
            .await?;
        failpoint::hit("dependencies.succeeded");
        self.bell.ring();
        Ok(())
    }

    /// Goes back to an earlier release.
    pub(super) async fn run_rollback(
        self: Arc<Self>,
        target: Target,
        release: DependencyReleaseRecord,
        context: Context,
    ) -> Result<Report> {
        // What was planned may be gone by now.
        let (_, release) = self.way_back(&target, release.generation)?;
        let mut record = self.begun(&target, ROLLBACK_STRATEGY, &context).await?;
        let (actor, reason) = (record.actor.clone(), record.reason.clone());
        record.from_generation = self.register(&target, (&actor, &reason)).await?;
        record.to_generation = release.generation;
        record.new_target = Some(release.folder.clone());
        self.put_update(&record).await?;
        failpoint::hit("dependencies.begun");
        let done = self.bring(&target, &mut record, &context).await;
        let ended = self.end(&target, record, done.as_ref().map(|()| true)).await?;
        self.remember(&target.project).await;
        self.look_soon();
        done.map(|()| {
            Report::proven(format!(
                "{} is at generation {} again and does well",
                ended.project, ended.to_generation
            ))
        })
    }
}
