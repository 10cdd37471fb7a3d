//! What the fake agent knows of backups.

use genesis_client::v1::backup_service_server::BackupService;
use genesis_client::v1::*;
use tonic::{Request, Response};

use super::{Answer, Inner, started};

/// What it answers about backups.
#[derive(Default)]
pub(crate) struct Backups {
    pub(crate) listed: ListBackupsResponse,
    /// The run that makes one goes on already.
    pub(crate) attached: bool,
}

fn run_id() -> String {
    started().map(|run| run.run_id).unwrap_or_default()
}

#[tonic::async_trait]
impl BackupService for Inner {
    async fn list_backups(
        &self,
        request: Request<ListBackupsRequest>,
    ) -> Answer<ListBackupsResponse> {
        let ListBackupsRequest { source, limit, expired_too } = request.get_ref();
        let expired = if *expired_too { " expired" } else { "" };
        self.called("ListBackups", format!("{source} {limit}{expired}").trim(), &request).await?;
        Ok(Response::new(self.script.backups.listed.clone()))
    }

    async fn run_backup(&self, request: Request<RunBackupRequest>) -> Answer<RunBackupResponse> {
        let RunBackupRequest { source, plan_hash } = request.get_ref();
        self.change("RunBackup", &[source, plan_hash], &request).await?;
        let attached = self.script.backups.attached;
        Ok(Response::new(RunBackupResponse { run_id: run_id(), attached }))
    }

    async fn plan_run_backup(&self, request: Request<RunBackupRequest>) -> Answer<PlanResponse> {
        self.planned("PlanRunBackup", &request).await
    }

    async fn verify_backup(
        &self,
        request: Request<VerifyBackupRequest>,
    ) -> Answer<VerifyBackupResponse> {
        let asked = request.get_ref();
        let level = asked.level().as_str_name();
        self.change("VerifyBackup", &[&asked.backup, level, &asked.plan_hash], &request).await?;
        Ok(Response::new(VerifyBackupResponse { run_id: run_id() }))
    }

    async fn plan_verify_backup(
        &self,
        request: Request<VerifyBackupRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanVerifyBackup", &request).await
    }

    async fn restore_backup(
        &self,
        request: Request<RestoreBackupRequest>,
    ) -> Answer<RestoreBackupResponse> {
        let RestoreBackupRequest { backup, into, plan_hash } = request.get_ref();
        self.change("RestoreBackup", &[backup, into, plan_hash], &request).await?;
        Ok(Response::new(RestoreBackupResponse { run_id: run_id() }))
    }

    async fn plan_restore_backup(
        &self,
        request: Request<RestoreBackupRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanRestoreBackup", &request).await
    }
}
