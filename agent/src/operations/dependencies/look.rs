//! The look that the agent takes by itself: what is found of each project, which clocks run, what is old in memory; and
//! what it does about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use genesis_advisories::bounds::Strategy;
use genesis_storage::{Intent, UpdateRecord, VulnerabilityClockRecord};
use jiff::Timestamp;

use super::clocks::{self, Phase};
use super::config::Project;
use super::plan::DataState;
use super::scan::{ProjectScan, SourceView};
use super::status::{self, InMemory};
use super::update::unmanaged_why;
use super::{Dependencies, aside};
use crate::error::Result;

/// It is taken so often.
const EVERY: Duration = Duration::from_secs(300);
/// An exploited vulnerability that could not be mended is tried again after so long.
const AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_hours(6);
/// Who acts here.
const WHO: &str = "system:dependencies";

/// What the last look saw.
#[derive(Debug, Default)]
pub struct Looked {
    /// When.
    pub at: Option<Timestamp>,
    /// What is found of each project.
    pub scans: BTreeMap<String, ProjectScan>,
    /// What they were held against.
    pub sources: Vec<SourceView>,
    /// Whether what runs is what is installed.
    pub memory: BTreeMap<String, InMemory>,
}

impl Dependencies {
    /// Looks, again and again, and settles what could not be settled.
    pub async fn serve(self: Arc<Self>) {
        self.pay_restarts().await;
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(error = error.chain(), "dependencies can't be looked at");
            }
            tokio::select! {
                () = self.outside.clock.sleep(EVERY) => {}
                () = self.wanted.notified() => {}
            }
        }
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
            self.looked.store(Arc::default());
            return Ok(());
        }
        let scan = self.scan("", None).await?;
        let mut memory = BTreeMap::new();
        for project in config.projects.iter().filter(|it| it.managed.deploy.is_some()) {
            memory.insert(project.name.clone(), self.in_memory(project).await);
        }
        self.keep_clocks(&scan.projects).await?;
        self.metrics.looked(&scan.projects, &scan.sources, self.outside.clock.now());
        let scans = scan.projects.into_iter().map(|it| (it.project.name.clone(), it)).collect();
        let looked = Looked { at: Some(scan.as_of), scans, sources: scan.sources, memory };
        self.looked.store(Arc::new(looked));
        self.bell.ring();
        for project in &config.projects {
            self.mend_exploited(project).await;
        }
        Ok(())
    }

    async fn in_memory(&self, project: &Project) -> InMemory {
        let project = project.clone();
        let releases = self.releases(&project.name).unwrap_or_default();
        let current = self.current(&project, &releases).ok().flatten();
        let looked = aside(move || Ok(status::look(&project, current.as_ref()))).await;
        looked.unwrap_or_else(|error| InMemory::unknown(error.chain()))
    }

    /// Writes what of the clocks has changed, and how long those that run have.
    async fn keep_clocks(&self, scans: &[ProjectScan]) -> Result<()> {
        let now = self.outside.clock.moment();
        for scan in scans {
            let name = &scan.project.name;
            let known =
                self.state.read(|reading| Ok(reading.dependencies().clocks(Some(name))?))?;
            let changed = clocks::after_scan(&known, scan, &now);
            for clock in &known {
                let written = changed.iter().any(|it| it.id == clock.id);
                if !written && clocks::phase(clock) != Phase::Closed {
                    let (name, id, at) = (name.clone(), clock.id.clone(), now.clone());
                    let elapsed = clocks::elapsed(clock, &now);
                    self.state
                        .bookkeep(move |keeping| {
                            Ok(keeping.dependencies().counted(&name, &id, elapsed, &at)?)
                        })
                        .await?;
                }
            }
            for clock in changed {
                self.put_clock(clock).await?;
            }
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
        self.state.write(intent, move |writing| Ok(writing.dependencies().put_clock(&clock)?)).await
    }

    /// Starts an update where use is made of a vulnerability that can be mended.
    async fn mend_exploited(self: &Arc<Self>, project: &Project) {
        if !project.managed.mends_exploited || !unmanaged_why(project).is_empty() {
            return;
        }
        let looked = self.looked.load();
        let Some(scan) = looked.scans.get(&project.name) else { return };
        let source = super::update::ecosystem(project).map(|it| it.to_string()).unwrap_or_default();
        let recent =
            looked.sources.iter().any(|it| it.name == source && it.state == DataState::Checked);
        let mut exploited = scan.findings.iter().filter(|it| {
            it.finding.exploited == Some(true)
                && it.ignored.is_none()
                && it.finding.fixed_in.is_some()
                && clocks::is_urgent(it)
        });
        let Some(found) = exploited.next().filter(|_| recent) else { return };
        let now = self.outside.clock.now();
        let tried = |it: &UpdateRecord| {
            it.project == project.name && it.exploited && now.duration_since(it.started_at) < AGAIN
        };
        match self.state.read(|reading| Ok(reading.dependencies().updates(1, tried)?)) {
            Ok(found) if found.is_empty() => {}
            _ => return,
        }
        let reason = format!("use is made of {}", found.finding.id);
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
