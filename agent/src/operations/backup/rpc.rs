//! Parse, call, convert: backups over gRPC.

use std::sync::Arc;

use genesis_proto::v1;
use genesis_proto::v1::backup_service_server::BackupService;
use genesis_storage::{BackupLevel, BackupRecord, BackupState, VerifiedBackup};
use tonic::{Request, Response, Status};

use super::{Backup, View};
use crate::error::{Error, Result};
use crate::plan::limited;
use crate::server::caller::caller;
use crate::server::convert::{duration, maybe, planned, time};
use crate::server::status::to_status;

/// So many backups are listed where nobody says how many.
const USUAL: usize = 50;
/// At most so many are listed.
const LIMIT: u32 = 1_000;

/// The service over the backups.
pub struct Service(pub Arc<Backup>);

fn engine(name: &str) -> i32 {
    let engine = match name {
        "postgres" => v1::Engine::Postgres,
        "sqlite" => v1::Engine::Sqlite,
        // The agent's own.
        _ => v1::Engine::Unspecified,
    };
    engine.into()
}

fn level(level: Option<BackupLevel>) -> i32 {
    let level = match level {
        None => v1::BackupLevel::Unspecified,
        Some(BackupLevel::Recorded) => v1::BackupLevel::Recorded,
        Some(BackupLevel::Checksums) => v1::BackupLevel::Checksums,
        Some(BackupLevel::Restored) => v1::BackupLevel::Restored,
        Some(BackupLevel::Queried) => v1::BackupLevel::Queried,
    };
    level.into()
}

pub(crate) fn wanted_level(number: i32) -> Result<Option<BackupLevel>> {
    match v1::BackupLevel::try_from(number) {
        Ok(v1::BackupLevel::Unspecified) => Ok(None),
        Ok(v1::BackupLevel::Recorded) => Ok(Some(BackupLevel::Recorded)),
        Ok(v1::BackupLevel::Checksums) => Ok(Some(BackupLevel::Checksums)),
        Ok(v1::BackupLevel::Restored) => Ok(Some(BackupLevel::Restored)),
        Ok(v1::BackupLevel::Queried) => Ok(Some(BackupLevel::Queried)),
        Err(_) => Err(Error::invalid("LEVEL_INVALID", format!("there is no level {number}"))),
    }
}

fn backup(record: BackupRecord) -> v1::Backup {
    let state = match record.state {
        BackupState::Running => v1::BackupState::Running,
        BackupState::Complete => v1::BackupState::Complete,
        BackupState::Failed => v1::BackupState::Failed,
        BackupState::Broken => v1::BackupState::Broken,
        BackupState::Expired => v1::BackupState::Expired,
    };
    v1::Backup {
        engine: engine(&record.engine),
        state: state.into(),
        started_at: Some(time(record.started_at)),
        ended_at: maybe(record.ended_at),
        level: level(record.level),
        verified_at: maybe(record.verified_at),
        id: record.id,
        source: record.source,
        tool: record.tool,
        place: record.place,
        bytes: record.bytes,
        system_identifier: record.system_identifier,
        detail: record.detail,
        run_id: record.run_id,
    }
}

fn source(view: View) -> v1::BackupSource {
    let (verified, evidence) = match view.verified {
        VerifiedBackup::Yes(record) => {
            let level = record.level.map_or("", BackupLevel::name);
            (v1::Truth::Pass, format!("backup {} of {}, {level}", record.id, record.started_at))
        }
        VerifiedBackup::No(why) => (v1::Truth::Fail, why),
        VerifiedBackup::Unknown(why) => (v1::Truth::Unknown, why),
    };
    let source = view.source;
    v1::BackupSource {
        engine: engine(source.kind.engine()),
        tool: source.tool.name().to_owned(),
        schedule: source.schedule.map_or_else(|| "never".to_owned(), |it| it.to_string()),
        next_at: maybe(view.next_at),
        newest_verified: view.newest.map(backup),
        verified: verified.into(),
        evidence,
        max_age: Some(duration(source.max_age)),
        min_level: level(Some(source.min_level)),
        name: source.name,
    }
}

fn response(
    backups: &Backup,
    source_name: &str,
    limit: usize,
    expired_too: bool,
) -> Result<v1::ListBackupsResponse> {
    let (views, records) = backups.list(source_name, limit, expired_too)?;
    Ok(v1::ListBackupsResponse {
        sources: views.into_iter().map(source).collect(),
        backups: records.into_iter().map(backup).collect(),
    })
}

/// The answer of ListBackups by what was last seen, for HTTP.
///
/// # Errors
/// `STORAGE_FAILED`.
pub fn status_response(backups: &Backup) -> Result<v1::ListBackupsResponse> {
    response(backups, "", USUAL, false)
}

/// What is wrong with the backups, for the agent's page; `None` where nothing is.
///
/// # Errors
/// `STORAGE_FAILED`.
pub fn domain_status(backups: &Backup) -> Result<Option<v1::DomainStatus>> {
    let findings: Vec<v1::Finding> = backups
        .told()?
        .into_iter()
        .map(|condition| v1::Finding {
            code: match condition.key.rsplit('/').next() {
                Some("broken") => "BACKUP_BROKEN",
                Some("failed") => "BACKUP_FAILED",
                _ => "BACKUP_UNVERIFIED",
            }
            .to_owned(),
            subject: condition.subject,
            message: format!("{}: {}", condition.title, condition.details.join("; ")),
        })
        .collect();
    if findings.is_empty() {
        return Ok(None);
    }
    Ok(Some(v1::DomainStatus {
        domain: "backup".into(),
        condition: v1::Condition::Warn.into(),
        summary: format!("{} thing(s) wrong with the backups", findings.len()),
        findings,
    }))
}

#[tonic::async_trait]
impl BackupService for Service {
    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        let v1::ListBackupsRequest { source, limit, expired_too } = request.into_inner();
        let limit = limited(limit, USUAL, LIMIT).map_err(to_status)?;
        self.0.refresh(&source).await;
        response(&self.0, &source, limit, expired_too).map(Response::new).map_err(to_status)
    }

    async fn run_backup(
        &self,
        request: Request<v1::RunBackupRequest>,
    ) -> Result<Response<v1::RunBackupResponse>, Status> {
        let who = caller(&request)?;
        let v1::RunBackupRequest { source, plan_hash } = request.get_ref();
        let started = self.0.run(source, plan_hash, (who.identity, who.reason)).await;
        let started = started.map_err(to_status)?;
        let answer = v1::RunBackupResponse { run_id: started.id, attached: started.attached };
        Ok(Response::new(answer))
    }

    async fn plan_run_backup(
        &self,
        request: Request<v1::RunBackupRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_run(&request.get_ref().source))
    }

    async fn verify_backup(
        &self,
        request: Request<v1::VerifyBackupRequest>,
    ) -> Result<Response<v1::VerifyBackupResponse>, Status> {
        let who = caller(&request)?;
        let v1::VerifyBackupRequest { backup, level, plan_hash } = request.get_ref();
        let level = wanted_level(*level).map_err(to_status)?;
        let started = self.0.verify(backup, level, plan_hash, (who.identity, who.reason)).await;
        let run_id = started.map_err(to_status)?.id;
        Ok(Response::new(v1::VerifyBackupResponse { run_id }))
    }

    async fn plan_verify_backup(
        &self,
        request: Request<v1::VerifyBackupRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::VerifyBackupRequest { backup, level, .. } = request.get_ref();
        planned(wanted_level(*level).and_then(|level| self.0.plan_verify(backup, level)))
    }

    async fn restore_backup(
        &self,
        request: Request<v1::RestoreBackupRequest>,
    ) -> Result<Response<v1::RestoreBackupResponse>, Status> {
        let who = caller(&request)?;
        let v1::RestoreBackupRequest { backup, into, plan_hash } = request.get_ref();
        let started = self.0.restore(backup, into, plan_hash, (who.identity, who.reason)).await;
        let run_id = started.map_err(to_status)?.id;
        Ok(Response::new(v1::RestoreBackupResponse { run_id }))
    }

    async fn plan_restore_backup(
        &self,
        request: Request<v1::RestoreBackupRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::RestoreBackupRequest { backup, into, .. } = request.get_ref();
        planned(self.0.plan_restore(backup, into))
    }
}
