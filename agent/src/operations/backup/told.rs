//! What people should hear of backups: that one is broken, could not be made, or that there is none to rely on.

use async_trait::async_trait;
use genesis_storage::{BackupRecord, BackupState, VerifiedBackup, WantedBackup, verified_backup};
use jiff::Timestamp;

use super::plan::Source;
use super::{Backup, lock};
use crate::error::{Error, Result};
use crate::events::{self, Condition, Severity};

#[async_trait]
impl events::Source for Backup {
    fn name(&self) -> &'static str {
        "backup"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let look = self.look();
        let found = self.asked.run(&(), move || look().ok()).await.ok().flatten();
        found.ok_or_else(|| Error::unavailable("STORAGE_FAILED", "the backups can't be read"))
    }
}

impl Backup {
    /// What people should hear of now.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn told(&self) -> Result<Vec<Condition>> {
        self.look()()
    }

    fn look(&self) -> impl FnOnce() -> Result<Vec<Condition>> + use<> {
        let (state, now, since) =
            (self.state.clone(), self.outside.clock.now(), self.host.created_at);
        let config = self.config.load_full();
        let known: Vec<Option<String>> = {
            let seen = lock(&self.seen);
            let system = |source: &Source| seen.get(&source.name)?.system.clone();
            config.sources.iter().map(system).collect()
        };
        move || {
            let records: Vec<BackupRecord> =
                state.read(|reading| Ok(reading.backups().list(None, usize::MAX)?))?;
            let each = config.sources.iter().zip(&known);
            let told = |(source, system): (&Source, &Option<String>)| {
                told(source, &records, system.as_deref(), (now, since))
            };
            Ok(each.flat_map(told).collect())
        }
    }
}

/// What of one source people should hear of. `system` is what the source was last seen to be. Before it was due for the
/// first time on this host, nobody expects a backup.
pub(super) fn told(
    source: &Source,
    records: &[BackupRecord],
    system: Option<&str>,
    (now, since): (Timestamp, Timestamp),
) -> Vec<Condition> {
    let name = &source.name;
    let mut own: Vec<&BackupRecord> = records
        .iter()
        .filter(|record| &record.source == name)
        .filter(|record| !matches!(record.state, BackupState::Running | BackupState::Expired))
        .collect();
    own.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    let sound = |record: &&&BackupRecord| {
        record.state == BackupState::Complete
            && record.level.is_some_and(|level| level >= source.min_level)
    };
    let proven_at = own.iter().find(sound).map(|record| record.started_at);
    let mut found = Vec::new();
    let mut tell =
        |what: &str, severity, title: String, details: Vec<String>, since, behind: &[&str]| {
            found.push(Condition {
                key: format!("backup/{name}/{what}"),
                subject: name.clone(),
                severity,
                title,
                details,
                runbook: "backup".to_owned(),
                since,
                behind: behind.iter().map(|other| format!("backup/{name}/{other}")).collect(),
            });
        };
    let newer = |record: &&&BackupRecord| proven_at.is_none_or(|at| record.started_at > at);
    let broken = own.iter().filter(newer).find(|it| it.state == BackupState::Broken);
    if let Some(record) = broken {
        let title = format!("backup {} of {name} is broken", record.id);
        let details = vec![record.detail.clone(), format!("genesisctl backup list {name}")];
        tell("broken", Severity::Critical, title, details, record.started_at, &[]);
    }
    if let Some(record) = own.first().filter(|record| record.state == BackupState::Failed) {
        let title = format!("the backup of {name} failed");
        let details = vec![record.detail.clone(), format!("genesisctl backup run {name}")];
        tell("failed", Severity::High, title, details, record.started_at, &["broken"]);
    }
    let expected = !own.is_empty()
        || source.schedule.as_ref().is_some_and(|schedule| {
            // The job has until its next look.
            schedule
                .next_after(since)
                .and_then(|due| schedule.next_after(due))
                .is_some_and(|at| at <= now)
        });
    // Which system it is can't be asked while it is down, and then the newest one's word is taken for it.
    let of = own.iter().find(sound).map(|record| record.system_identifier.as_str());
    let wanted = WantedBackup {
        source: name,
        level: source.min_level,
        max_age: source.max_age,
        system_identifier: system.or(of),
    };
    let records: Vec<BackupRecord> = own.iter().map(|record| (*record).clone()).collect();
    if expected && let VerifiedBackup::No(why) = verified_backup(&records, &wanted, now) {
        let title = format!("there is no verified backup of {name}");
        let details = vec![why, format!("genesisctl backup run {name}")];
        tell(
            "unverified",
            Severity::High,
            title,
            details,
            proven_at.unwrap_or(now),
            &["broken", "failed"],
        );
    }
    found
}
