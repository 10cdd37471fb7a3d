//! By when what is critical or exploited has to be mended, and its post-mortem written. Pure, but for the verbs at the end.

use std::time::Duration;

use genesis_advisories::finding::Kind;
use genesis_advisories::severity::Rating;
use genesis_storage::{Intent, Moment, VulnerabilityClockRecord};

use super::Dependencies;
use super::config::Project;
use super::scan::{Found, ProjectScan};
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep, demand_reason};

/// People hear of a clock again after so much of its time, in percent.
pub const MARKS: [u32; 3] = [50, 80, 100];
/// A note has so many characters at most.
const NOTE: usize = 2_000;

/// How far a clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The vulnerability is there.
    Open,
    /// It is gone, and its post-mortem not written.
    Mended,
    /// That is written.
    Closed,
}

/// How far a clock is.
pub fn phase(clock: &VulnerabilityClockRecord) -> Phase {
    match (clock.closed_at, clock.mended_at) {
        (Some(_), _) => Phase::Closed,
        (None, Some(_)) => Phase::Mended,
        (None, None) => Phase::Open,
    }
}

/// How long a vulnerability has been known. No step of the host's time moves it while the host is up, nor does a restart of
/// the agent.
pub fn elapsed(clock: &VulnerabilityClockRecord, now: &Moment) -> Duration {
    clock.elapsed.saturating_add(now.since(&clock.counted_at))
}

/// Whether a finding has a clock.
pub fn is_urgent(found: &Found) -> bool {
    let it = &found.finding;
    it.kind == Kind::Vulnerability
        && (it.severity.rating == Rating::Critical || it.exploited == Some(true))
}

/// The clocks of a project after a scan; those that are to be written. What a scan does not know is not gone.
pub fn after_scan(
    known: &[VulnerabilityClockRecord],
    scan: &ProjectScan,
    in_service: bool,
    now: &Moment,
) -> Vec<VulnerabilityClockRecord> {
    let urgent: Vec<&Found> = scan.findings.iter().filter(|it| is_urgent(it)).collect();
    let same = |clock: &VulnerabilityClockRecord, found: &Found| {
        clock.package == found.finding.package
            && clock.ids.iter().any(|id| found.finding.ids.contains(id))
    };
    let mut written = Vec::new();
    for clock in known {
        let found = urgent.iter().find(|it| same(clock, it));
        let there = scan.findings.iter().any(|it| same(clock, it));
        let next = match (phase(clock), found) {
            (Phase::Open, Some(found)) => {
                let exploited = clock.exploited || found.finding.exploited == Some(true);
                let severity = severity_name(found.finding.severity.rating).to_owned();
                VulnerabilityClockRecord {
                    ids: found.finding.ids.clone(),
                    exploited,
                    severity,
                    ..clock.clone()
                }
            }
            // It may be another severity by now; it is there all the same.
            (Phase::Open, None) if there || !in_service || hides(scan, &clock.package) => continue,
            (Phase::Open, None) => VulnerabilityClockRecord {
                mended_at: Some(now.wall),
                mended_after: Some(elapsed(clock, now)),
                ..clock.clone()
            },
            // It came back before anybody wrote of it: it was not mended.
            (Phase::Mended, Some(found)) if found.ignored.is_none() => {
                VulnerabilityClockRecord { mended_at: None, mended_after: None, ..clock.clone() }
            }
            (Phase::Closed, Some(found)) if found.ignored.is_none() => {
                opened(&scan.project.name, found, now)
            }
            _ => continue,
        };
        if next != *clock {
            written.push(next);
        }
    }
    for found in urgent {
        let known = known.iter().chain(&written).any(|clock| same(clock, found));
        if !known && found.ignored.is_none() {
            written.push(opened(&scan.project.name, found, now));
        }
    }
    written
}

/// Whether a package may be there, vulnerable, without that a scan can tell.
fn hides(scan: &ProjectScan, package: &str) -> bool {
    scan.judged == 0
        || scan.unjudged.iter().any(|it| {
            // A file, or data, that could not be read; a line that is no requirement; this package without a version.
            it.line == 0
                || it.what.starts_with("line ")
                || genesis_advisories::Ecosystem::PyPI.normalise(&it.what) == package
        })
}

fn opened(project: &str, found: &Found, now: &Moment) -> VulnerabilityClockRecord {
    let it = &found.finding;
    VulnerabilityClockRecord {
        project: project.to_owned(),
        id: it.id.clone(),
        ids: it.ids.clone(),
        package: it.package.clone(),
        severity: severity_name(it.severity.rating).to_owned(),
        exploited: it.exploited == Some(true),
        first_seen_at: now.wall,
        elapsed: Duration::ZERO,
        counted_at: now.clone(),
        mended_at: None,
        mended_after: None,
        closed_at: None,
        closed_by: String::new(),
        note: String::new(),
    }
}

/// The name of a severity.
pub fn severity_name(rating: Rating) -> &'static str {
    match rating {
        Rating::Unknown => "unknown",
        Rating::None => "none",
        Rating::Low => "low",
        Rating::Medium => "medium",
        Rating::High => "high",
        Rating::Critical => "critical",
    }
}

/// The marks that a clock has passed.
pub fn passed(elapsed: Duration, limit: Duration) -> impl Iterator<Item = u32> {
    let percent = 100.0 * elapsed.as_secs_f64() / limit.as_secs_f64().max(0.001);
    MARKS.into_iter().filter(move |mark| percent >= f64::from(*mark))
}

/// A clock with what is said of it now.
#[derive(Debug, Clone)]
pub struct View {
    /// Its record.
    pub record: VulnerabilityClockRecord,
    /// How long it has been known, or was until it was mended and written of.
    pub elapsed: Duration,
    /// It is to be mended within that.
    pub mend_within: Duration,
    /// And its post-mortem written within that.
    pub postmortem_within: Duration,
}

impl Dependencies {
    pub(super) fn clock_of(&self, record: VulnerabilityClockRecord, now: &Moment) -> View {
        let config = self.config();
        let project: Option<&Project> = config.projects.iter().find(|it| it.name == record.project);
        let hours = |number: u64| Duration::from_secs(number * 3_600);
        View {
            elapsed: elapsed(&record, now),
            mend_within: project.map_or(hours(24), |it| it.managed.critical),
            postmortem_within: project.map_or(hours(72), |it| it.managed.postmortem),
            record,
        }
    }

    /// The clocks of a project, or of all; those that are closed too.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn clocks(&self, project: &str, closed_too: bool) -> Result<Vec<View>> {
        let wanted = Some(project).filter(|it| !it.is_empty());
        let now = self.outside.clock.moment();
        let all = self.state.read(|reading| Ok(reading.dependencies().clocks(wanted)?))?;
        if all.is_empty() && !project.is_empty() {
            self.project(project, |_| true)?;
        }
        let mut all: Vec<View> = all
            .into_iter()
            .filter(|it| closed_too || phase(it) != Phase::Closed)
            .map(|it| self.clock_of(it, &now))
            .collect();
        all.sort_by_key(|it| std::cmp::Reverse(it.elapsed));
        Ok(all)
    }

    fn clock_named(&self, project: &str, id: &str) -> Result<VulnerabilityClockRecord> {
        let project = self.project(project, |_| true)?.name;
        let all =
            self.state.read(|reading| Ok(reading.dependencies().clocks(Some(&project))?))?;
        let named = |it: &VulnerabilityClockRecord| {
            it.ids.iter().chain([&it.id]).any(|known| known.eq_ignore_ascii_case(id))
        };
        // One vulnerability may be in several packages: the one whose post-mortem is to be written comes first.
        let order = |it: &VulnerabilityClockRecord| (phase(it) == Phase::Mended, it.first_seen_at);
        let found = all.into_iter().filter(named).max_by_key(order);
        found.ok_or_else(|| {
            let shown: String = id.chars().take(64).collect();
            let message = format!(
                "{project} has no clock of {shown:?}; `genesisctl deps postmortem list` has those there are"
            );
            Error::not_found("CLOCK_NOT_FOUND", message)
        })
    }

    /// What closing a post-mortem would do.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND`, `CLOCK_NOT_FOUND`, `POSTMORTEM_NOT_DUE`.
    pub fn plan_close(&self, project: &str, id: &str, note: &str) -> Result<Plan> {
        demand_reason(note, "say where the post-mortem is, or what it says").map_err(|_| {
            Error::invalid(
                "REASON_MISSING",
                "say where the post-mortem is, or what it says: --note",
            )
        })?;
        let clock = self.clock_named(project, id)?;
        match phase(&clock) {
            Phase::Mended => {}
            Phase::Open => {
                let message =
                    format!("{} is still there in {}: mend it first", clock.id, clock.project);
                return Err(Error::refused("POSTMORTEM_NOT_DUE", message, Vec::new()));
            }
            Phase::Closed => {
                let message =
                    format!("the post-mortem of {} is written already: {}", clock.id, clock.note);
                return Err(Error::refused("POSTMORTEM_NOT_DUE", message, Vec::new()));
            }
        }
        let step = PlanStep::new("close", format!("{}/{}", clock.project, clock.id), note);
        Ok(Plan::new("dependencies.postmortem", &[&clock.first_seen_at.to_string()], vec![step]))
    }

    /// Says that a post-mortem is written.
    ///
    /// # Errors
    /// Those of [`Dependencies::plan_close`], `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn close(
        &self,
        project: &str,
        id: &str,
        (note, hash): (&str, &str),
        (actor, reason): (&str, &str),
    ) -> Result<View> {
        self.plan_close(project, id, note)?.accept(hash)?;
        let clock = self.clock_named(project, id)?;
        let now = self.outside.clock.moment();
        let closed = VulnerabilityClockRecord {
            elapsed: elapsed(&clock, &now),
            counted_at: now.clone(),
            closed_at: Some(now.wall),
            closed_by: actor.to_owned(),
            note: note.chars().take(NOTE).collect(),
            ..clock
        };
        let intent = Intent::new(now.wall, actor, "dependencies.postmortem")
            .target(format!("{}/{}", closed.project, closed.id))
            .reason(reason)
            .detail(closed.note.clone());
        let written = closed.clone();
        self.state
            .write(intent, move |writing| Ok(writing.dependencies().put_clock(&written)?))
            .await?;
        self.bell.ring();
        Ok(self.clock_of(closed, &now))
    }
}

#[cfg(test)]
mod tests;
