//! Verification: how far a backup is proven goes up with what it passes, and to nothing when it is found wrong.

use std::path::Path;
use std::sync::Arc;

use genesis_storage::{BackupLevel, BackupRecord, BackupState};
use serde_json::json;

use super::act::{Hands, Proof};
use super::plan::{self, Source, Tool};
use super::{Backup, VERIFY, tools};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::outside::failpoint;
use crate::plan::{Plan, PlanStep};
use crate::runs::{Context, Report, Request, SecondCaller, Started};

impl Backup {
    fn wanted(
        &self,
        backup: &str,
        level: Option<BackupLevel>,
    ) -> Result<(BackupRecord, Source, BackupLevel)> {
        let records = self.records(None)?;
        let record = plan::find(&records, backup)?;
        plan::readable(record)?;
        let source = self.source_of(record);
        let level = level.unwrap_or_else(|| source.deepest(source.level));
        source.possible(level)?;
        Ok((record.clone(), source, level))
    }

    /// What verifying a backup would do; without a level, as is configured.
    ///
    /// # Errors
    /// `BACKUP_NOT_FOUND`, `LEVEL_NOT_POSSIBLE`.
    pub fn plan_verify(&self, backup: &str, level: Option<BackupLevel>) -> Result<Plan> {
        let (record, _, level) = self.wanted(backup, level)?;
        let why = match level {
            BackupLevel::Recorded => "whether it is still there",
            BackupLevel::Checksums => "every checksum is read",
            BackupLevel::Restored => {
                "every checksum is read, then it is restored into a scratch instance that must answer"
            }
            BackupLevel::Queried => {
                "every checksum is read, then it is restored into a scratch instance and asked"
            }
        };
        let step = PlanStep::new(format!("verify to {level}"), record.id, why);
        Ok(Plan::new(VERIFY, &[], vec![step]))
    }

    /// Starts verifying a backup.
    ///
    /// # Errors
    /// Those of [`Backup::plan_verify`], `PLAN_CHANGED`, and those of starting a run.
    pub async fn verify(
        self: &Arc<Self>,
        backup: &str,
        level: Option<BackupLevel>,
        plan_hash: &str,
        (actor, reason): (String, String),
    ) -> Result<Started> {
        let (record, source, level) = self.wanted(backup, level)?;
        self.plan_verify(backup, Some(level))?.accept(plan_hash)?;
        let request = Request {
            kind: VERIFY,
            actor,
            reason,
            parameters: json!({ "backup": record.id, "level": level.name() }),
            key: format!("{VERIFY}/{}/{level}", record.id),
            second: SecondCaller::Attach,
            stance: Stance::GoOn,
        };
        let own = Arc::clone(self);
        let body = move |context: Context| async move {
            let hands = own.hands();
            let (record, proof) = own.prove(&hands, &source, record, level, &context).await?;
            let id = &record.id;
            match proof {
                Proof::Sound(how) => {
                    Ok(Report::proven(format!("backup {id} passes {level}: {how}")))
                }
                Proof::Unknown(why) => Ok(Report::unknown(format!(
                    "backup {id} could not be verified to {level}: {why}"
                ))),
                Proof::Wrong(why) => Err(Error::unavailable(
                    "BACKUP_BROKEN",
                    format!("backup {id} is broken: {why}"),
                )),
            }
        };
        self.runs.start(request, body).await
    }

    /// Verifies a backup to a level and records what came of it.
    pub(super) async fn prove(
        &self,
        hands: &Hands,
        source: &Source,
        record: BackupRecord,
        level: BackupLevel,
        context: &Context,
    ) -> Result<(BackupRecord, Proof)> {
        let busy = self.busy(&record.source);
        let _reading = busy.read().await;
        let proof = tokio::select! {
            proof = self.climb(hands, source, &record, level, context) => proof?,
            () = context.cancelled() => return Err(Error::cancelled()),
        };
        failpoint::hit("backup.verified");
        let mut after = record;
        match &proof {
            Proof::Sound(how) => {
                after.state = BackupState::Complete;
                after.level = after.level.max(Some(level));
                after.verified_at = Some(self.outside.clock.now());
                after.detail = format!("{level}: {how}");
            }
            Proof::Wrong(why) => {
                after.state = BackupState::Broken;
                after.level = None;
                after.detail = why.clone();
            }
            Proof::Unknown(why) => after.detail = format!("not verified to {level}: {why}"),
        }
        let (actor, reason) = (context.actor(), context.reason());
        self.put(&after, "backup.verified", (&actor, &reason)).await?;
        Ok((after, proof))
    }

    /// The levels up to this one, until something is found wrong or can't be told.
    async fn climb(
        &self,
        hands: &Hands,
        source: &Source,
        record: &BackupRecord,
        level: BackupLevel,
        context: &Context,
    ) -> Result<Proof> {
        let mut proof = Proof::Sound("it is recorded".to_owned());
        if level >= BackupLevel::Checksums {
            let step = context.begin("checksums", &record.place).await?;
            proof = match source.tool {
                Tool::Builtin => {
                    hands.checksums(source, Path::new(&record.place), &record.id).await
                }
                _ => checked_by_tool(hands, source, record).await,
            };
            note(step, &proof).await?;
        } else if let Some(listed) = hands.list(source).await?
            && listed.iter().all(|found| found.place != record.place)
        {
            let why = format!("{} does not list it any more", source.tool.name());
            return Ok(Proof::Wrong(why));
        } else if source.tool == Tool::Builtin && !Path::new(&record.place).exists() {
            return Ok(Proof::Wrong(format!("{} is gone", record.place)));
        }
        if level >= BackupLevel::Restored && matches!(proof, Proof::Sound(_)) {
            let id = self.new_id(self.outside.clock.now());
            let step = context.begin("scratch", &id).await?;
            let clock = self.outside.clock.as_ref();
            let used = hands.used(clock, source, record, (&id, level)).await;
            proof = match (proof, used) {
                (Proof::Sound(read), Proof::Sound(used)) => Proof::Sound(format!("{read}; {used}")),
                (_, used) => used,
            };
            note(step, &proof).await?;
        }
        Ok(proof)
    }
}

async fn note(step: crate::runs::Step, proof: &Proof) -> Result<()> {
    match proof {
        Proof::Sound(how) => step.done(how.clone()).await,
        Proof::Wrong(why) | Proof::Unknown(why) => step.failed(why.clone()).await,
    }
}

/// What a tool's own check says of all that it keeps.
async fn checked_by_tool(hands: &Hands, source: &Source, record: &BackupRecord) -> Proof {
    let Some(command) = tools::check(source) else {
        return Proof::Unknown(format!("{} has no check", source.tool.name()));
    };
    match hands.list(source).await {
        Err(error) => return Proof::Unknown(error.chain()),
        Ok(listed) => {
            if listed.iter().flatten().all(|found| found.place != record.place) {
                return Proof::Wrong(format!("{} does not list it", source.tool.name()));
            }
        }
    }
    match hands.run(source, command).await {
        Err(error) => Proof::Unknown(error.chain()),
        Ok(ran) => {
            tools::checked(source.tool, &record.place, ran.succeeded, &ran.stdout, &ran.said)
        }
    }
}
