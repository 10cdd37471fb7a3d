//! What the page's first view shows, from what the rpcs answer.

use std::cmp::Reverse;

use askama::Template;
use genesis_proto::v1;
use jiff::fmt::friendly::{Designator, Spacing, SpanPrinter};
use jiff::{SignedDuration, Timestamp};
use prost_types::Timestamp as Time;

/// So many lines of a kind; the views have the others.
const LINES: usize = 20;

/// The host at a glance: the whole page, and its block "overview" alone.
#[derive(Template)]
#[template(path = "page.html", blocks = ["overview"])]
pub(super) struct Overview {
    pub(super) host: String,
    pub(super) host_id: String,
    pub(super) version: String,
    pub(super) condition: &'static str,
    /// When this was so.
    pub(super) at: String,
    pub(super) up: String,
    pub(super) fleet: String,
    pub(super) emergency: bool,
    pub(super) runs_active: u32,
    pub(super) failed_24h: u32,
    pub(super) domains: Vec<Domain>,
    pub(super) checks: Checks,
    pub(super) issues: Vec<Issue>,
    pub(super) incidents: Vec<Incident>,
    pub(super) alerts: Vec<Alert>,
    pub(super) objectives: Vec<Objective>,
    pub(super) certificates: Vec<Certificate>,
    /// What could not be had, and why: it is not shown, and not well.
    pub(super) missing: Vec<String>,
}

pub(super) struct Domain {
    pub(super) name: String,
    pub(super) condition: &'static str,
    pub(super) summary: String,
}

/// How many checks say what.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) ok: usize,
    pub(super) warn: usize,
    pub(super) critical: usize,
    pub(super) unknown: usize,
}

pub(super) struct Issue {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) severity: String,
    pub(super) since: String,
    pub(super) detail: String,
}

pub(super) struct Incident {
    pub(super) id: String,
    pub(super) severity: String,
    pub(super) title: String,
    pub(super) opened: String,
}

pub(super) struct Alert {
    pub(super) id: String,
    pub(super) severity: String,
    pub(super) state: String,
    pub(super) subject: String,
    pub(super) title: String,
    pub(super) since: String,
}

pub(super) struct Objective {
    pub(super) name: String,
    pub(super) goal: String,
    pub(super) success: String,
    /// "yes", "no", or "unknown" while nothing was counted.
    pub(super) met: &'static str,
    pub(super) counted: u64,
}

pub(super) struct Certificate {
    pub(super) name: String,
    pub(super) days_left: String,
    pub(super) state: String,
}

impl Overview {
    pub(super) fn of(
        agent: &v1::GetStatusResponse,
        health: &v1::GetHealthStatusResponse,
        alerts: &v1::ListAlertsResponse,
        certificates: &v1::ListCertificatesResponse,
    ) -> Self {
        let mut checks = Checks::default();
        for check in &health.checks {
            *match check.condition() {
                v1::Condition::Ok => &mut checks.ok,
                v1::Condition::Warn => &mut checks.warn,
                v1::Condition::Critical => &mut checks.critical,
                v1::Condition::Unknown | v1::Condition::Unspecified => &mut checks.unknown,
            } += 1;
        }
        let mut firing: Vec<_> = alerts.alerts.iter().collect();
        firing.sort_by_key(|alert| Reverse(alert.severity));
        Self {
            host: agent.hostname.clone(),
            host_id: agent.host_id.clone(),
            version: agent.version.clone(),
            condition: condition(agent.condition()),
            at: time(agent.now.as_ref()),
            up: up(agent.started_at.as_ref(), agent.now.as_ref()),
            fleet: agent.fleet.clone(),
            emergency: agent.emergency,
            runs_active: agent.runs_active,
            failed_24h: agent.runs_failed,
            domains: agent.domains.iter().map(Domain::of).collect(),
            checks,
            issues: health.issues.iter().take(LINES).map(Issue::of).collect(),
            incidents: health.incidents.iter().take(LINES).map(Incident::of).collect(),
            alerts: firing.into_iter().take(LINES).map(Alert::of).collect(),
            objectives: health.objectives.iter().map(Objective::of).collect(),
            certificates: certificates.certificates.iter().map(Certificate::of).collect(),
            missing: Vec::new(),
        }
    }
}

impl Domain {
    fn of(it: &v1::DomainStatus) -> Self {
        let condition = condition(it.condition());
        Self { name: it.domain.clone(), condition, summary: it.summary.clone() }
    }
}

impl Issue {
    fn of(it: &v1::Issue) -> Self {
        Self {
            id: it.id.clone(),
            state: word(it.state().as_str_name(), "ISSUE_STATE_"),
            severity: word(it.severity().as_str_name(), "SEVERITY_"),
            since: time(it.since.as_ref()),
            detail: it.detail.clone(),
        }
    }
}

impl Incident {
    fn of(it: &v1::Incident) -> Self {
        Self {
            id: it.id.clone(),
            severity: it.severity.clone(),
            title: it.title.clone(),
            opened: time(it.opened_at.as_ref()),
        }
    }
}

impl Alert {
    fn of(it: &v1::Alert) -> Self {
        Self {
            id: it.id.clone(),
            severity: word(it.severity().as_str_name(), "SEVERITY_"),
            state: word(it.state().as_str_name(), "ALERT_STATE_"),
            subject: it.subject.clone(),
            title: it.title.clone(),
            since: time(it.since.as_ref()),
        }
    }
}

impl Objective {
    fn of(it: &v1::Objective) -> Self {
        let met = match it.success {
            None => "unknown",
            Some(success) if success >= it.goal => "yes",
            Some(_) => "no",
        };
        Self {
            name: it.name.clone(),
            goal: share(it.goal),
            success: it.success.map_or_else(|| "no data".to_owned(), share),
            met,
            counted: it.succeeded.saturating_add(it.failed),
        }
    }
}

impl Certificate {
    fn of(it: &v1::Certificate) -> Self {
        let days = it.left.as_ref().map(|left| left.seconds.div_euclid(86_400).to_string());
        Self {
            name: it.name.clone(),
            days_left: days.unwrap_or_else(|| "unknown".to_owned()),
            state: word(it.state().as_str_name(), "CERTIFICATE_STATE_"),
        }
    }
}

fn condition(condition: v1::Condition) -> &'static str {
    match condition {
        v1::Condition::Ok => "OK",
        v1::Condition::Warn => "WARN",
        v1::Condition::Critical => "CRITICAL",
        v1::Condition::Unknown | v1::Condition::Unspecified => "UNKNOWN",
    }
}

fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_owned()
}

/// Never rounded up to a goal that was not reached.
fn share(share: f64) -> String {
    format!("{:.2} %", (share * 10_000.0).floor() / 100.0)
}

fn moment(time: Option<&Time>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

/// To the second, in UTC.
fn time(time: Option<&Time>) -> String {
    moment(time)
        .and_then(|time| Timestamp::from_second(time.as_second()).ok())
        .map_or_else(|| "-".to_owned(), |time| time.to_string())
}

fn up(started: Option<&Time>, now: Option<&Time>) -> String {
    let Some((started, now)) = moment(started).zip(moment(now)) else { return "-".to_owned() };
    let up = SignedDuration::from_secs(now.duration_since(started).as_secs().max(0));
    let printer = SpanPrinter::new().designator(Designator::Compact).spacing(Spacing::BetweenUnits);
    printer.duration_to_string(&up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_well() {
        let health = v1::GetHealthStatusResponse {
            checks: vec![v1::HealthCheck::default()],
            objectives: vec![v1::Objective { goal: 0.995, ..Default::default() }],
            ..Default::default()
        };
        let certificates = v1::ListCertificatesResponse {
            certificates: vec![v1::Certificate::default()],
            ..Default::default()
        };
        let (agent, alerts) = Default::default();
        let shown = Overview::of(&agent, &health, &alerts, &certificates);
        assert_eq!((shown.condition, shown.checks.unknown), ("UNKNOWN", 1));
        assert_eq!(
            (shown.objectives[0].met, shown.objectives[0].success.as_str()),
            ("unknown", "no data")
        );
        assert_eq!(shown.certificates[0].days_left, "unknown");
        assert_eq!((shown.at.as_str(), shown.up.as_str()), ("-", "-"));
    }

    #[test]
    fn figures_are_not_better_than_they_are() {
        assert_eq!(share(0.994_99), "99.49 %");
        assert_eq!(share(1.0), "100.00 %");
        let left = |seconds| v1::Certificate {
            left: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..Default::default()
        };
        assert_eq!(Certificate::of(&left(7 * 86_400 - 1)).days_left, "6");
        assert_eq!(Certificate::of(&left(-1)).days_left, "-1");
    }

    #[test]
    fn hostile_text_is_text() {
        let agent = v1::GetStatusResponse {
            hostname: "<script>alert(1)</script>\" onload=\"x".to_owned(),
            ..Default::default()
        };
        let (health, alerts, certificates) = Default::default();
        let overview = Overview::of(&agent, &health, &alerts, &certificates);
        let html = overview.render().unwrap();
        assert!(!html.contains("<script>alert"), "{html}");
        assert!(!html.contains("\" onload"), "{html}");
    }
}
