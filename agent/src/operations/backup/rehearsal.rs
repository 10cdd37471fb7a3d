//! The drill of a restore: the newest backup of each source is restored into a scratch instance and asked, as far as it
//! can be, by the code that verifies backups. Nothing that is in use is touched.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{BackupLevel, BackupRecord, BackupState, DrillOutcome};

use super::Backup;
use super::act::Proof;
use super::plan::Source;
use crate::error::{Error, Kind, Result};
use crate::plan::PlanStep;
use crate::runs::Context;
use crate::runs::drill::{Rehearsal, Rehearsed};

/// Practises restores.
pub struct RestoreDrill(pub Arc<Backup>);

impl RestoreDrill {
    /// The sources that a drill is about, with the newest backup of each that is whole as far as it is known.
    fn newest(&self, name: &str) -> Result<Vec<(Source, Option<BackupRecord>)>> {
        let config = self.0.config.load();
        let sources = config.sources.iter().filter(|it| name.is_empty() || it.name == name);
        let newest = |source: &Source| {
            let whole = self.0.records(Some(&source.name))?.into_iter();
            let whole = whole.filter(|record| record.state == BackupState::Complete);
            Ok((source.clone(), whole.max_by_key(|record| record.started_at)))
        };
        sources.map(newest).collect()
    }
}

#[async_trait]
impl Rehearsal for RestoreDrill {
    fn kind(&self) -> &'static str {
        "restore"
    }

    fn description(&self) -> &'static str {
        "restore the newest backup of each source into a scratch instance, and ask it"
    }

    async fn has(&self, name: &str) -> Result<(), String> {
        if name.is_empty() || self.0.config.load().source(name).is_some() {
            return Ok(());
        }
        Err(format!("no source of backups is called {name:?}"))
    }

    async fn plan(&self, name: &str) -> Result<Vec<PlanStep>> {
        let step = |(source, newest): (Source, Option<BackupRecord>)| match newest {
            Some(record) => PlanStep::new(
                format!("restore to {}", source.deepest(BackupLevel::Queried)),
                record.id,
                format!("the newest backup of {}, into a scratch instance", source.name),
            ),
            None => PlanStep::new("deviate", source.name, "there is no backup of it"),
        };
        Ok(self.newest(name)?.into_iter().map(step).collect())
    }

    async fn rehearse(&self, name: &str, context: &Context) -> Result<Rehearsed> {
        let mut done = Rehearsed::default();
        let clock = &self.0.outside.clock;
        for (source, newest) in self.newest(name)? {
            context.safe_point()?;
            let shown = format!("restore {}", source.name);
            let Some(record) = newest else {
                let nothing = "there is no backup to restore from";
                done.step(shown, std::time::Duration::ZERO, DrillOutcome::Failed, nothing);
                continue;
            };
            let level = source.deepest(BackupLevel::Queried);
            let step = context.begin("restore", &source.name).await?;
            let began = clock.monotonic();
            let id = record.id.clone();
            let hands = self.0.hands();
            let proven = self.0.prove(&hands, &source, record, level, context).await;
            let took = clock.monotonic().saturating_sub(began);
            let (outcome, detail) = match proven {
                Ok((_, Proof::Sound(how))) => {
                    (DrillOutcome::Passed, format!("backup {id} passes {level}: {how}"))
                }
                Ok((_, Proof::Unknown(why))) => {
                    (DrillOutcome::Unknown, format!("backup {id}: {why}"))
                }
                Ok((_, Proof::Wrong(why))) => {
                    (DrillOutcome::Failed, format!("backup {id} is broken: {why}"))
                }
                Err(error) if error.kind == Kind::Cancelled => return Err(Error::cancelled()),
                Err(error) => (DrillOutcome::Unknown, format!("backup {id}: {}", error.chain())),
            };
            step.done(detail.clone()).await?;
            done.step(shown, took, outcome, detail);
        }
        Ok(done)
    }
}
