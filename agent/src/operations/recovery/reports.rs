//! What the reports are made of, read at one moment.

use std::sync::Arc;

use genesis_storage::{ATTEMPTS_KEPT, ISSUES_KEPT, IncidentState, IssueRecord};

use super::report::{self, Objective, Pattern, Period};
use crate::error::{Error, Result};
use crate::outside::Clock;
use crate::state::State;

/// A rollback by hand is no update that failed.
const ROLLBACK: &str = "rollback";

/// The reports of this host.
pub struct Reports {
    /// Where everything is.
    pub state: State,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The names of the certificates that are configured now.
    pub certificates: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// How the host stands by its objectives.
pub struct OperationsReport {
    /// The host's name.
    pub hostname: String,
    /// Over which time.
    pub period: Period,
    /// The four.
    pub objectives: Vec<Objective>,
}

/// What was done to mend the host.
pub struct RemediationReport {
    /// The host's name.
    pub hostname: String,
    /// Over which time.
    pub period: Period,
    /// The objective.
    pub objective: Objective,
    /// By check and action.
    pub patterns: Vec<Pattern>,
    /// Incidents, by trigger.
    pub incidents: Vec<(&'static str, u64)>,
    /// So many wait for their end to be written down.
    pub undocumented: u64,
    /// What stands out.
    pub findings: Vec<String>,
}

impl Reports {
    fn period(&self, month: &str) -> Result<(String, Period)> {
        let identity = self.state.read(|reading| Ok(reading.identity().get()?))?;
        let identity = identity
            .ok_or_else(|| Error::internal("STORAGE_NOT_FOUND", "the host has no identity"))?;
        let period = report::period(month, self.clock.now(), identity.created_at)?;
        Ok((identity.hostname, period))
    }

    /// What was done, and what limits the knowledge of it.
    fn patterns(&self, period: &Period) -> Result<(Vec<Pattern>, String)> {
        self.state.read(|reading| {
            let health = reading.health();
            let attempts = health.attempts_since(period.from)?;
            let mut cut = attempts.len() as u64 >= ATTEMPTS_KEPT;
            let mut issues: Vec<IssueRecord> = Vec::new();
            for check in health.checks()? {
                let kept = usize::try_from(ISSUES_KEPT).unwrap_or(usize::MAX);
                let of_check = health.issues(&check.check, kept)?;
                let oldest = of_check.last().map(|issue| issue.opened.wall);
                cut |= of_check.len() >= kept && oldest.is_some_and(|at| at > period.from);
                issues.extend(of_check);
            }
            let note = match cut {
                true => "the oldest attempts or issues of that time are not kept any more",
                false => "",
            };
            Ok((report::patterns(&attempts, &issues, period), note.to_owned()))
        })
    }

    /// How the host stands by its objectives, in a month, or in the last thirty days.
    ///
    /// # Errors
    /// `MONTH_INVALID`, `STORAGE_FAILED`.
    pub fn operations(&self, month: &str) -> Result<OperationsReport> {
        let (hostname, period) = self.period(month)?;
        let (patterns, note) = self.patterns(&period)?;
        let configured = (self.certificates)();
        let objectives = self.state.read(|reading| {
            let sums = reading.tallies().sums(period.days.0, period.days.1)?;
            let updates =
                reading.dependencies().updates(usize::MAX, |it| it.strategy != ROLLBACK)?;
            let mut in_service = Vec::new();
            for name in configured {
                let record = reading.certificates().get(&name)?;
                let generation = match record.filter(|it| it.generation > 0) {
                    Some(record) => reading.certificates().generation(&name, record.generation)?,
                    None => None,
                };
                in_service.push((name, generation));
            }
            let remediations = Objective { note, ..report::remediations(&sums, &patterns) };
            Ok(vec![
                report::operations(&sums),
                remediations,
                report::updates(&updates, &period),
                report::certificates(&in_service, self.clock.now()),
            ])
        })?;
        Ok(OperationsReport { hostname, period, objectives })
    }

    /// What was done to mend the host, in a month, or in the last thirty days.
    ///
    /// # Errors
    /// `MONTH_INVALID`, `STORAGE_FAILED`.
    pub fn remediation(&self, month: &str) -> Result<RemediationReport> {
        let (hostname, period) = self.period(month)?;
        let (patterns, note) = self.patterns(&period)?;
        let (sums, all) = self.state.read(|reading| {
            let sums = reading.tallies().sums(period.days.0, period.days.1)?;
            Ok((sums, reading.incidents().list(false, usize::MAX)?))
        })?;
        let over = all.iter().filter(|it| it.state() == IncidentState::Over).count();
        Ok(RemediationReport {
            objective: Objective { note, ..report::remediations(&sums, &patterns) },
            findings: report::findings(&patterns),
            incidents: report::triggers(&all, &period),
            undocumented: over as u64,
            hostname,
            period,
            patterns,
        })
    }
}
