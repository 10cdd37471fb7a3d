//! Dependencies: what was updated, which releases there are, what is ignored, and by when what has to be mended.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::moment::Moment;
use crate::record::{Record, check_name, decode, encode};
use crate::schema::{
    DEPENDENCY_RELEASES, DEPENDENCY_UPDATES, IGNORED_FINDINGS, VULNERABILITY_CLOCKS,
};
use crate::view::{Sink, Source, View};

/// How far an update is, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// The manifests are being copied.
    Backup,
    /// Versions are being chosen.
    Resolve,
    /// What was chosen is held against the advisories.
    Scan,
    /// The release is being made.
    Build,
    /// It is being tested.
    Test,
    /// The link is being moved.
    Deploy,
    /// The service is being restarted.
    Restart,
    /// It is being watched.
    Health,
    /// It has proven itself; the manifests are being written.
    Commit,
    /// The new release is in service.
    Succeeded,
    /// The old one is.
    RolledBack,
    /// There was nothing to change.
    Unchanged,
    /// It was cut off, and what is in service is not what it should be: somebody has to look.
    Held,
}

impl UpdateState {
    /// Whether it has ended.
    pub fn ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::RolledBack | Self::Unchanged | Self::Held)
    }
}

/// A package that an update changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// Its name.
    pub package: String,
    /// `None`: it was not there.
    pub from: Option<String>,
    /// `None`: it will not be there.
    pub to: Option<String>,
    /// What is mended by it.
    pub fixes: Vec<String>,
}

/// An update, or a rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRecord {
    /// Its run.
    pub id: String,
    /// The project's name.
    pub project: String,
    /// "conservative", "moderate", "aggressive", "security", or "rollback".
    pub strategy: String,
    /// How far it is.
    pub state: UpdateState,
    /// What the link pointed to before; `None`: there was no link.
    pub old_target: Option<String>,
    /// What it is to point to; `None`: that is not known yet.
    pub new_target: Option<String>,
    /// The release that was in service before; 0: none that was known.
    pub from_generation: u64,
    /// The one that it made or went back to; 0: it did not come to that.
    pub to_generation: u64,
    /// The manifests, below the project's root, with the digests of what they held before.
    pub manifests: Vec<(String, String)>,
    /// What changes.
    pub changes: Vec<ChangeRecord>,
    /// What went wrong, as a code; empty: nothing.
    pub error_code: String,
    /// And in words.
    pub error: String,
    /// In which step.
    pub failed_in: Option<UpdateState>,
    /// The service has still to be restarted with what is in service now.
    pub restart_owed: bool,
    /// Why the service does not do well though what was before is in its place again; empty: it does, as far as is known.
    #[serde(default)]
    pub ill: String,
    /// The last lines of what its tests said.
    pub test_output: String,
    /// Of an exploited vulnerability.
    pub exploited: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}

impl UpdateRecord {
    /// How it ended, in a word, by which updates are counted.
    pub fn outcome(&self) -> &'static str {
        match (self.state, self.error_code.as_str()) {
            (UpdateState::Succeeded, _) => "succeeded",
            (UpdateState::Unchanged, _) => "unchanged",
            (UpdateState::Held, _) => "held",
            (_, "CANCELLED") => "cancelled",
            // Nothing was tried: that it was not is what was wanted.
            (_, "UPDATE_VULNERABLE" | "UPDATE_UNJUDGED" | "PLAN_CHANGED" | "PROJECT_UNMANAGED") => {
                "refused"
            }
            _ => "rolled-back",
        }
    }
}

impl Record for UpdateRecord {
    const TABLE: &'static str = "dependency_updates";
    const VERSION: u8 = 1;
}

/// Something that can be in service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyReleaseRecord {
    /// The project's name.
    pub project: String,
    /// Grows with each.
    pub generation: u64,
    /// Its folder.
    pub folder: String,
    /// Names what it locks.
    pub digest: String,
    /// So many packages.
    pub packages: u32,
    /// When it was made, or found.
    pub made_at: Timestamp,
    /// When it last came into service.
    pub deployed_at: Option<Timestamp>,
    /// The run that made it; empty: it was there before.
    pub update_id: String,
    /// It was in service and watched for as long as is configured, or was there before.
    pub proven: bool,
}

impl Record for DependencyReleaseRecord {
    const TABLE: &'static str = "dependency_releases";
    const VERSION: u8 = 1;
}

/// Since when a vulnerability that is critical or exploited is known of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VulnerabilityClockRecord {
    /// The project's name.
    pub project: String,
    /// The finding.
    pub id: String,
    /// All its names.
    pub ids: Vec<String>,
    /// The package.
    pub package: String,
    /// "critical", and the like.
    pub severity: String,
    /// Whether use is made of it.
    pub exploited: bool,
    /// When it was first seen.
    pub first_seen_at: Timestamp,
    /// How long it had been known at `counted_at`.
    pub elapsed: Duration,
    /// When that was counted last.
    pub counted_at: Moment,
    /// When it was gone.
    pub mended_at: Option<Timestamp>,
    /// How long it had been known then.
    pub mended_after: Option<Duration>,
    /// When its post-mortem was written.
    pub closed_at: Option<Timestamp>,
    /// Who said so.
    pub closed_by: String,
    /// Where it is, or what it says.
    pub note: String,
}

impl VulnerabilityClockRecord {
    /// Its name in its project: one vulnerability may be in several packages.
    pub fn name(&self) -> String {
        format!("{}/{}", self.package, self.id)
    }
}

impl Record for VulnerabilityClockRecord {
    const TABLE: &'static str = "vulnerability_clocks";
    const VERSION: u8 = 1;
}

/// A finding that somebody wants not to hear of for some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredFindingRecord {
    /// The project's name.
    pub project: String,
    /// Any of its names.
    pub id: String,
    /// It is heard of again then.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

impl Record for IgnoredFindingRecord {
    const TABLE: &'static str = "ignored_findings";
    const VERSION: u8 = 1;
}

type Pairs<'t> = View<'t, (&'static str, &'static str), &'static [u8]>;

fn pairs<R: Record>(view: &Pairs<'_>, project: Option<&str>) -> Result<Vec<R>, StorageError> {
    let mut found = Vec::new();
    for row in view.range((project.unwrap_or_default(), "")..)? {
        let (key, value) = row?;
        let (of, id) = key.value();
        if project.is_some_and(|project| project != of) {
            break;
        }
        found.push(decode(&format!("{of}/{id}"), value.value())?);
    }
    Ok(found)
}

/// Reads what is known of dependencies.
#[derive(Clone, Copy)]
pub struct DependencyStates<'t> {
    source: Source<'t>,
}

impl<'t> DependencyStates<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The update of this id.
    pub fn update(&self, id: &str) -> Result<Option<UpdateRecord>, StorageError> {
        let view = self.source.view(DEPENDENCY_UPDATES)?;
        let row = view.get(id)?;
        row.map(|row| decode(&id, row.value())).transpose()
    }

    /// At most `limit` updates, newest first, that `wanted` picks.
    pub fn updates(
        &self,
        limit: usize,
        wanted: impl Fn(&UpdateRecord) -> bool,
    ) -> Result<Vec<UpdateRecord>, StorageError> {
        self.source.view(DEPENDENCY_UPDATES)?.last(limit, wanted)
    }

    /// The releases of a project, newest first.
    pub fn releases(&self, project: &str) -> Result<Vec<DependencyReleaseRecord>, StorageError> {
        let view = self.source.view(DEPENDENCY_RELEASES)?;
        let rows = view.range((project, 0)..=(project, u64::MAX))?;
        let read = rows.map(|row| {
            let (key, value) = row?;
            let (project, generation) = key.value();
            decode(&format!("{project}/{generation}"), value.value())
        });
        let mut read = read.collect::<Result<Vec<_>, _>>()?;
        read.reverse();
        Ok(read)
    }

    /// The clocks of a project, or of all.
    pub fn clocks(
        &self,
        project: Option<&str>,
    ) -> Result<Vec<VulnerabilityClockRecord>, StorageError> {
        pairs(&self.source.view(VULNERABILITY_CLOCKS)?, project)
    }

    /// What is ignored of a project, or of all.
    pub fn ignored(
        &self,
        project: Option<&str>,
    ) -> Result<Vec<IgnoredFindingRecord>, StorageError> {
        pairs(&self.source.view(IGNORED_FINDINGS)?, project)
    }
}

/// Writes what is known of dependencies.
#[derive(Clone, Copy)]
pub struct DependencyStatesWriting<'t> {
    reading: DependencyStates<'t>,
    sink: Sink<'t>,
}

reads_as!(DependencyStatesWriting => DependencyStates, reading);

impl<'t> DependencyStatesWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: DependencyStates::new(sink.source()), sink }
    }

    /// Writes or replaces an update; the oldest that have ended go where there are more than `keep`.
    pub fn put_update(&self, record: &UpdateRecord, keep: usize) -> Result<(), StorageError> {
        check_name(UpdateRecord::TABLE, &record.id)?;
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(DEPENDENCY_UPDATES)?.insert(record.id.as_str(), bytes.as_slice())?;
        let all = self.updates(usize::MAX, |_| true)?;
        let mut table = self.sink.edit(DEPENDENCY_UPDATES)?;
        for old in all.iter().skip(keep).filter(|it| it.state.ended() && !it.restart_owed) {
            table.remove(old.id.as_str())?;
        }
        Ok(())
    }

    /// Writes or replaces a release.
    pub fn put_release(&self, record: &DependencyReleaseRecord) -> Result<(), StorageError> {
        check_name(DependencyReleaseRecord::TABLE, &record.project)?;
        let bytes = encode(&format!("{}/{}", record.project, record.generation), record)?;
        let key = (record.project.as_str(), record.generation);
        self.sink.edit(DEPENDENCY_RELEASES)?.insert(key, bytes.as_slice())
    }

    /// Forgets a release.
    pub fn remove_release(&self, project: &str, generation: u64) -> Result<bool, StorageError> {
        self.sink.edit(DEPENDENCY_RELEASES)?.remove((project, generation))
    }

    /// Writes or replaces a clock.
    pub fn put_clock(&self, record: &VulnerabilityClockRecord) -> Result<(), StorageError> {
        check_name(VulnerabilityClockRecord::TABLE, &record.project)?;
        let name = record.name();
        check_name(VulnerabilityClockRecord::TABLE, &name)?;
        let bytes = encode(&format!("{}/{name}", record.project), record)?;
        let key = (record.project.as_str(), name.as_str());
        self.sink.edit(VULNERABILITY_CLOCKS)?.insert(key, bytes.as_slice())
    }

    /// Writes or replaces what is ignored.
    pub fn put_ignored(&self, record: &IgnoredFindingRecord) -> Result<(), StorageError> {
        check_name(IgnoredFindingRecord::TABLE, &record.project)?;
        check_name(IgnoredFindingRecord::TABLE, &record.id)?;
        let bytes = encode(&format!("{}/{}", record.project, record.id), record)?;
        let key = (record.project.as_str(), record.id.as_str());
        self.sink.edit(IGNORED_FINDINGS)?.insert(key, bytes.as_slice())
    }

    /// Ignores it no more; whether it was.
    pub fn remove_ignored(&self, project: &str, id: &str) -> Result<bool, StorageError> {
        self.sink.edit(IGNORED_FINDINGS)?.remove((project, id))
    }
}

/// Notes what needs no entry in the oplog: how long a clock has run.
#[derive(Clone, Copy)]
pub struct DependencyStatesBookkeeping<'t> {
    writing: DependencyStatesWriting<'t>,
}

impl<'t> DependencyStatesBookkeeping<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { writing: DependencyStatesWriting::new(sink) }
    }

    /// How long each clock that is not closed has run until now.
    pub fn counted(&self, at: &Moment) -> Result<(), StorageError> {
        for clock in self.writing.clocks(None)? {
            if clock.closed_at.is_some() {
                continue;
            }
            let elapsed = clock.elapsed.saturating_add(at.since(&clock.counted_at));
            self.writing.put_clock(&VulnerabilityClockRecord {
                elapsed,
                counted_at: at.clone(),
                ..clock
            })?;
        }
        Ok(())
    }
}
