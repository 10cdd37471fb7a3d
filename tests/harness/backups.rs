//! Backups of an agent, over its socket, and what it leaves on the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use genesis_proto::v1;
use genesis_proto::v1::backup_service_client::BackupServiceClient;
use genesis_proto::v1::run_service_client::RunServiceClient;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::TestAgent;
use crate::clock::wait_for;

/// What a call answers: itself, or a code with the message.
pub type Answer<T> = Result<T, String>;

fn open(agent: &TestAgent) -> (tokio::runtime::Runtime, Channel) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let endpoint = Endpoint::from_shared(agent.node()).expect("an address");
    let channel = runtime.block_on(endpoint.connect()).expect("the agent listens");
    (runtime, channel)
}

fn said<T>(answer: Result<Response<T>, Status>) -> Answer<T> {
    answer.map(Response::into_inner).map_err(|status| format!("{status:?}"))
}

fn with_reason<T>(message: T, reason: &str) -> Request<T> {
    let mut request = Request::new(message);
    if !reason.is_empty() {
        request.metadata_mut().insert("genesis-reason", reason.parse().expect("ASCII"));
    }
    request
}

impl TestAgent {
    /// Starts a backup of a source; the answer with the run.
    pub fn begin_backup(&self, source: &str) -> Answer<v1::RunBackupResponse> {
        let (runtime, channel) = open(self);
        let message = v1::RunBackupRequest { source: source.into(), plan_hash: String::new() };
        said(runtime.block_on(BackupServiceClient::new(channel).run_backup(message)))
    }

    /// Starts verifying a backup.
    pub fn begin_verify(&self, backup: &str, level: v1::BackupLevel) -> Answer<String> {
        let (runtime, channel) = open(self);
        let message = v1::VerifyBackupRequest {
            backup: backup.into(),
            level: level.into(),
            plan_hash: String::new(),
        };
        let answer = runtime.block_on(BackupServiceClient::new(channel).verify_backup(message));
        said(answer).map(|it| it.run_id)
    }

    /// Starts restoring a backup.
    pub fn begin_restore(&self, backup: &str, into: &str, reason: &str) -> Answer<String> {
        let (runtime, channel) = open(self);
        let message = v1::RestoreBackupRequest {
            backup: backup.into(),
            into: into.into(),
            plan_hash: String::new(),
        };
        let mut client = BackupServiceClient::new(channel);
        let answer = runtime.block_on(client.restore_backup(with_reason(message, reason)));
        said(answer).map(|it| it.run_id)
    }

    /// What of a plan of a backup would be done.
    pub fn plan_backup(&self, source: &str) -> Answer<v1::Plan> {
        let (runtime, channel) = open(self);
        let message = v1::RunBackupRequest { source: source.into(), plan_hash: String::new() };
        let answer = runtime.block_on(BackupServiceClient::new(channel).plan_run_backup(message));
        said(answer).map(|it| it.plan.unwrap_or_default())
    }

    /// The backups of a source, newest first, those that have expired too.
    ///
    /// # Panics
    /// When they are not listed.
    pub fn backups(&self, source: &str) -> v1::ListBackupsResponse {
        let (runtime, channel) = open(self);
        let message =
            v1::ListBackupsRequest { source: source.into(), limit: 100, expired_too: true };
        let answer = runtime.block_on(BackupServiceClient::new(channel).list_backups(message));
        said(answer).expect("a list")
    }

    /// The newest backup of a source.
    ///
    /// # Panics
    /// When there is none.
    pub fn newest_backup(&self, source: &str) -> v1::Backup {
        self.backups(source).backups.into_iter().next().expect("a backup")
    }

    /// A run, once it has ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended_run(&self, id: &str) -> v1::Run {
        let (runtime, channel) = open(self);
        let mut client = RunServiceClient::new(channel);
        wait_for("the end of a run", || {
            let message = v1::GetRunRequest { id: id.into() };
            let run = said(runtime.block_on(client.get_run(message))).expect("a run").run;
            run.filter(|run| run.state() != v1::RunState::Running)
        })
    }

    /// Makes a backup and waits for the end of its run.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn backup(&self, source: &str) -> (v1::Run, v1::Backup) {
        let run = self.ended_run(&self.begin_backup(source).expect("it starts").run_id);
        (run, self.newest_backup(source))
    }

    /// Verifies a backup and waits for the end of its run.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn verify_backup(&self, backup: &str, level: v1::BackupLevel) -> v1::Run {
        self.ended_run(&self.begin_verify(backup, level).expect("it starts"))
    }

    /// Processes that this agent has started and not ended: those with its mark, and servers at work in its folder of
    /// scratch instances.
    pub fn left_running(&self, scratch: &Path) -> Vec<String> {
        let mark = format!("GENESIS_PROGRAM={}", self.state().display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let process = entry.path();
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            let marked = environment.split(|byte| *byte == 0).any(|it| it == mark.as_bytes());
            let at = fs::read_link(process.join("cwd")).unwrap_or_default();
            if marked || at.starts_with(scratch) {
                let line = fs::read(process.join("cmdline")).unwrap_or_default();
                found.push(format!("{}: {}", process.display(), String::from_utf8_lossy(&line)));
            }
        }
        found
    }

    /// Asserts that no process and no file of a backup in the making is left, nor of a scratch instance.
    ///
    /// # Panics
    /// With what is left.
    #[track_caller]
    pub fn assert_nothing_left(&self, scratch: &Path) {
        assert_eq!(self.left_running(scratch), Vec::<String>::new());
        let inside: Vec<PathBuf> = entries(scratch);
        assert!(inside.is_empty(), "{inside:?}");
        let folders = entries(&self.state().join("backups"));
        let partial: Vec<PathBuf> = folders
            .iter()
            .flat_map(|folder| entries(folder))
            .filter(|path| path.extension().is_some_and(|it| it == "partial"))
            .collect();
        assert!(partial.is_empty(), "{partial:?}");
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// A place that another user than root gets to.
pub struct Open(TempDir);

impl Open {
    /// An empty one.
    ///
    /// # Panics
    /// When there is no temporary folder to be had.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("gs-").tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        Self(folder)
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Default for Open {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs SQL on a file of SQLite; its rows, one a line.
///
/// # Panics
/// When it fails.
pub fn sqlite(path: &Path, sql: &str) -> String {
    let output = std::process::Command::new("sqlite3")
        .arg("-bail")
        .arg(path)
        .arg(sql)
        .output()
        .expect("sqlite3 is installed: tests/run does it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Flips one bit in the middle of a file.
///
/// # Panics
/// When it can't be written.
pub fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).expect("our own file");
}
