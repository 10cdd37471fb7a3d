//! Convert: the reports.

use genesis_proto::v1;

use super::super::report::{Objective, Offender, Pattern, Period, Standing};
use super::super::reports::Reports;
use crate::error::Result;
use crate::server::convert::{duration, time};

fn period(period: &Period) -> v1::ReportPeriod {
    v1::ReportPeriod {
        from: Some(time(period.from)),
        until: Some(time(period.until)),
        data_from: Some(time(period.data_from)),
        data_missing: period.data_missing(),
    }
}

fn count((name, count): (&'static str, u64)) -> v1::ReportCount {
    v1::ReportCount { name: name.to_owned(), count }
}

fn objective(it: Objective) -> v1::ReportObjective {
    let state = match it.standing {
        Standing::Pass => v1::Truth::Pass,
        Standing::Fail => v1::Truth::Fail,
        Standing::Unknown => v1::Truth::Unknown,
    };
    let offender =
        |Offender { name, bad, all, detail }| v1::ReportOffender { name, bad, all, detail };
    v1::ReportObjective {
        name: it.name.to_owned(),
        state: state.into(),
        target: it.target.to_owned(),
        numerator: it.numerator,
        denominator: it.denominator,
        value: (it.denominator > 0).then(|| it.numerator as f64 / it.denominator as f64),
        apart: it.apart.into_iter().map(count).collect(),
        offenders: it.offenders.into_iter().map(offender).collect(),
        note: it.note,
    }
}

fn pattern(it: Pattern) -> v1::RemediationPattern {
    v1::RemediationPattern {
        mean: it.mean().map(duration),
        check: it.check,
        action: it.action,
        episodes: it.episodes,
        escalated: it.escalated,
        attempts: it.attempts,
        succeeded: it.succeeded,
        failed: it.failed,
        not_needed: it.not_needed,
        dry_run: it.dry_run,
        unknown: it.unknown,
        by_hand: it.by_hand,
    }
}

pub(super) fn operations(
    reports: &Reports,
    month: &str,
) -> Result<v1::GetOperationsReportResponse> {
    let report = reports.operations(month)?;
    Ok(v1::GetOperationsReportResponse {
        hostname: report.hostname,
        period: Some(period(&report.period)),
        objectives: report.objectives.into_iter().map(objective).collect(),
    })
}

pub(super) fn remediation(
    reports: &Reports,
    month: &str,
) -> Result<v1::GetRemediationReportResponse> {
    let report = reports.remediation(month)?;
    Ok(v1::GetRemediationReportResponse {
        hostname: report.hostname,
        period: Some(period(&report.period)),
        objective: Some(objective(report.objective)),
        patterns: report.patterns.into_iter().map(pattern).collect(),
        incidents: report.incidents.into_iter().map(count).collect(),
        undocumented: report.undocumented,
        findings: report.findings,
    })
}
