//! The look that the agent takes by itself: what is found of each project, which clocks run, what is old in memory; and
//! what it does about it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use genesis_advisories::bounds::Strategy;
use genesis_storage::{
    DependencyReleaseRecord, Intent, UpdateRecord, UpdateState, VulnerabilityClockRecord,
};
use jiff::Timestamp;

use super::clocks::{self, Phase};
use super::config::Project;
use super::plan::DataState;
use super::scan::{ProjectScan, SourceView};
use super::status::{self, InMemory, Truth};
use super::update::{ROLLBACK_STRATEGY, why_unmanaged};
use super::{Dependencies, aside};
use crate::error::Result;

/// It is taken so often.
const EVERY: Duration = Duration::from_secs(300);
/// An exploited vulnerability that could not be mended is tried again after so long.
const AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_hours(6);
/// Who acts here.
const WHO: &str = "system:dependencies";

/// What the last look saw.
#[derive(Debug, Clone, Default)]
pub struct Looked {
    /// When.
    pub at: Option<Timestamp>,
    /// What is found of each project.
    pub scans: BTreeMap<String, ProjectScan>,
    /// What they were held against.
    pub sources: Vec<SourceView>,
    /// Whether what runs is what is installed.
    pub memory: BTreeMap<String, InMemory>,
    /// Why each project can't be updated; empty: it can.
    pub unmanaged: BTreeMap<String, String>,
    /// Why the last look could not be taken, and since when none could; what else is here is older.
    pub failed: Option<(Timestamp, String)>,
    /// Since when what is told of a look has been so, by key.
    pub since: BTreeMap<String, Timestamp>,
}

/// The folders of releases that are not in service.
pub(super) fn others(
    releases: &[DependencyReleaseRecord],
    current: Option<&DependencyReleaseRecord>,
) -> Vec<PathBuf> {
    let number = current.map(|it| it.generation);
    let others = releases.iter().filter(|it| number.is_some() && Some(it.generation) != number);
    others.map(|it| PathBuf::from(&it.folder)).collect()
}

impl Dependencies {
    /// Looks, again and again, and settles what could not be settled.
    pub async fn serve(self: Arc<Self>) {
        loop {
            // What the start, or the end of an update, could not do.
            if let Err(error) = self.settle_open().await {
                tracing::warn!(error = error.chain(), "updates can't be read");
            }
            self.pay_restarts().await;
            self.ask_the_ill().await;
            let failed = self.look().await.err().map(|error| error.chain());
            if let Some(error) = &failed {
                tracing::warn!(error, "dependencies can't be looked at");
            }
            self.note_failed(failed);
            tokio::select! {
                () = self.outside.clock.tick(EVERY) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Notes that a look could not be taken, or could.
    fn note_failed(&self, why: Option<String>) {
        let before = self.looked.load_full();
        if why.is_none() && before.failed.is_none() {
            return;
        }
        let since = before.failed.as_ref().map_or_else(|| self.outside.clock.now(), |(at, _)| *at);
        let failed = why.map(|why| (since, why));
        self.looked.store(Arc::new(Looked { failed, ..Looked::clone(&before) }));
        self.bell.ring();
    }

    /// Has a look taken soon.
    pub(super) fn look_soon(&self) {
        self.wanted.notify_one();
    }

    /// Looks at all projects, and does what is due.
    ///
    /// # Errors
    /// `ADVISORIES_UNAVAILABLE`, `STORAGE_FAILED`.
    pub async fn look(self: &Arc<Self>) -> Result<()> {
        let config = self.config();
        if config.projects.is_empty() {
            let at = Some(self.outside.clock.now());
            self.looked.store(Arc::new(Looked { at, ..Looked::default() }));
            return Ok(());
        }
        let scan = self.scan("", None).await?;
        let (mut memory, mut unmanaged) = (BTreeMap::new(), BTreeMap::new());
        for project in &config.projects {
            unmanaged.insert(project.name.clone(), why_unmanaged(project.clone()).await);
        }
        for project in config.projects.iter().filter(|it| it.managed.deploy.is_some()) {
            if self.is_updating(&project.name)? {
                // What runs and what is locked differ for a while, as they should.
                let before = self.looked.load().memory.get(&project.name).cloned();
                memory.extend(before.map(|it| (project.name.clone(), it)));
                continue;
            }
            memory.insert(project.name.clone(), self.in_memory(project).await);
        }
        self.keep_clocks(&scan.projects, &memory).await?;
        self.metrics.looked(&scan.projects, &scan.sources, self.outside.clock.now());
        let scans = scan.projects.into_iter().map(|it| (it.project.name.clone(), it)).collect();
        let before = self.looked.load_full();
        let mut looked = Looked {
            at: Some(scan.as_of),
            scans,
            sources: scan.sources,
            memory,
            unmanaged,
            failed: None,
            since: BTreeMap::new(),
        };
        let known = |key: &String| before.since.get(key).copied().unwrap_or(scan.as_of);
        let told = super::told::of_look(&looked, scan.as_of);
        looked.since = told.into_iter().map(|it| (it.key.clone(), known(&it.key))).collect();
        self.looked.store(Arc::new(looked));
        self.bell.ring();
        for project in &config.projects {
            self.mend_exploited(project).await;
        }
        Ok(())
    }

    /// Whether an update or a rollback goes on: one whose end is written does not, though its run has still to end.
    fn is_updating(&self, project: &str) -> Result<bool> {
        let Some(run) = self.runs.active_with_key(&super::update::key(project)) else {
            return Ok(false);
        };
        let record = self.state.read(|reading| Ok(reading.dependencies().update(&run)?))?;
        Ok(record.is_none_or(|it| !it.state.ended()))
    }

    async fn in_memory(&self, project: &Project) -> InMemory {
        let project = project.clone();
        let releases = self.releases(&project.name).unwrap_or_default();
        let current = self.current(&project, &releases).ok().flatten();
        let (others, now) = (others(&releases, current.as_ref()), self.outside.clock.now());
        let look = move || Ok(status::look(&project, current.as_ref(), others, now));
        let looked = aside(look).await;
        looked.unwrap_or_else(|error| InMemory::unknown(error.chain()))
    }

    /// Looks at what runs of a project now: whoever asks after an update hears of what came of it.
    pub(super) async fn remember(&self, project: &Project) {
        let memory = self.in_memory(project).await;
        self.looked.rcu(|looked| {
            let mut looked = Looked::clone(looked);
            looked.memory.insert(project.name.clone(), memory.clone());
            looked
        });
    }

    /// Writes what of the clocks has changed, and how long those that run have.
    async fn keep_clocks(
        &self,
        scans: &[ProjectScan],
        memory: &BTreeMap<String, InMemory>,
    ) -> Result<()> {
        let now = self.outside.clock.moment();
        let mut running = false;
        for scan in scans {
            let name = &scan.project.name;
            // What is mended in a lock that nobody installed is not mended.
            let in_service = memory.get(name).is_none_or(|it| it.truth != Truth::Fail);
            let known =
                self.state.read(|reading| Ok(reading.dependencies().clocks(Some(name))?))?;
            running |= known.iter().any(|it| clocks::phase(it) != Phase::Closed);
            for clock in clocks::after_scan(&known, scan, in_service, &now) {
                self.put_clock(clock).await?;
            }
        }
        if running {
            self.state.bookkeep(move |keeping| Ok(keeping.dependencies().counted(&now)?)).await?;
        }
        Ok(())
    }

    async fn put_clock(&self, clock: VulnerabilityClockRecord) -> Result<()> {
        let (action, detail) = match clocks::phase(&clock) {
            Phase::Open => {
                ("dependencies.vulnerable", format!("{}, {}", clock.package, clock.severity))
            }
            _ => ("dependencies.mended", clock.package.clone()),
        };
        let intent = Intent::new(self.outside.clock.now(), WHO, action)
            .target(format!("{}/{}", clock.project, clock.id))
            .detail(detail);
        self.state
            .write(intent, move |writing| {
                let all = writing.dependencies().clocks(Some(&clock.project))?;
                // Somebody may have closed it meanwhile.
                let closed = all.iter().any(|it| {
                    it.name() == clock.name()
                        && it.first_seen_at == clock.first_seen_at
                        && it.closed_at.is_some()
                });
                match closed {
                    true => Ok(()),
                    false => Ok(writing.dependencies().put_clock(&clock)?),
                }
            })
            .await
    }

    /// Starts an update where use is made of a vulnerability that can be mended.
    async fn mend_exploited(self: &Arc<Self>, project: &Project) {
        if !project.managed.mends_exploited || !why_unmanaged(project.clone()).await.is_empty() {
            return;
        }
        let looked = self.looked.load();
        let Some(scan) = looked.scans.get(&project.name) else { return };
        let source = super::update::ecosystem(project).map(|it| it.to_string()).unwrap_or_default();
        let recent =
            looked.sources.iter().any(|it| it.name == source && it.state == DataState::Checked);
        let exploited = scan.findings.iter().filter(|it| {
            it.finding.exploited == Some(true)
                && it.ignored.is_none()
                && it.finding.fixed_in.is_some()
                && clocks::is_urgent(it)
        });
        let now = self.outside.clock.now();
        let own = |it: &UpdateRecord| it.project == project.name;
        let Ok(updates) = self.state.read(|reading| Ok(reading.dependencies().updates(50, own)?))
        else {
            return;
        };
        // Who went back by hand had a reason.
        let newest = updates.iter().find(|it| it.state != UpdateState::Unchanged);
        if newest.is_some_and(|it| {
            it.strategy == ROLLBACK_STRATEGY && it.state == UpdateState::Succeeded
        }) {
            return;
        }
        let tried = |reason: &String| {
            updates.iter().any(|it| {
                let since = now.duration_since(it.started_at);
                it.exploited && it.reason == *reason && !since.is_negative() && since < AGAIN
            })
        };
        let mut reasons = exploited.map(|it| format!("use is made of {}", it.finding.id));
        let Some(reason) = reasons.find(|reason| !tried(reason)).filter(|_| recent) else { return };
        let by = (WHO.to_owned(), reason);
        let started = self.update(&project.name, Some(Strategy::Security), ("", true), by).await;
        match started {
            Ok(started) => tracing::warn!(
                project = project.name,
                run = started.id,
                "use is made of a vulnerability: it is mended now"
            ),
            // An emergency, or somebody is at it: the next look tries again.
            Err(error) => tracing::warn!(
                project = project.name,
                error = error.chain(),
                "use is made of a vulnerability, and it can't be mended now"
            ),
        }
    }
}
