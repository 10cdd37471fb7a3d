//! `health check`: the checks of a level, made now; and how checks are shown anywhere.

use std::fmt;

use genesis_client::v1::{CheckHealthRequest, Condition, HealthCheck, HealthLevel};

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, View};

pub(super) const COLUMNS: &[&str] = &["CHECK", "STATE", "DETAIL", "LIMIT", "TOOK"];

pub(super) async fn check(
    session: &Session<'_>,
    level: HealthLevel,
    checks: &[String],
) -> Result<Exit, Halt> {
    let request = &CheckHealthRequest { level: level.into(), checks: checks.to_owned() };
    session
        .each_in(COLUMNS, |client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.health().check_health(r).await })
                .await?;
            let json = session.json("CheckHealthResponse", &response)?;
            let took = format::proto_duration(response.took.as_ref());
            let checks = worst_first(&response.checks);
            let more = session.global.verbose;
            let view = View {
                lead: vec![format!("{} in {took}", Tally::of(&response.checks))],
                columns: COLUMNS,
                rows: checks.iter().map(|check| row(check)).collect(),
                tail: checks.iter().filter(|_| more).map(|check| circumstances(check)).collect(),
                empty: "there are no checks of this level",
                ..View::default()
            };
            Ok(Answer::new(json, view).exit(exit(&response.checks, response.condition())))
        })
        .await
}

/// By the checks; where there are none, by what the agent makes of that.
pub(super) fn exit(checks: &[HealthCheck], condition: Condition) -> Exit {
    match checks {
        [] => Exit::of_conditions([condition]),
        checks => Exit::of_conditions(checks.iter().map(HealthCheck::condition)),
    }
}

/// How urgently a condition wants to be seen, the most urgent first.
pub(super) fn rank(condition: Condition) -> u8 {
    match condition {
        Condition::Critical => 0,
        Condition::Unknown | Condition::Unspecified => 1,
        Condition::Warn => 2,
        Condition::Ok => 3,
    }
}

pub(super) fn worst_first(checks: &[HealthCheck]) -> Vec<&HealthCheck> {
    let mut sorted: Vec<_> = checks.iter().collect();
    sorted.sort_by(|a, b| (rank(a.condition()), &a.check).cmp(&(rank(b.condition()), &b.check)));
    sorted
}

pub(super) fn row(check: &HealthCheck) -> Vec<Cell> {
    vec![
        Cell::from(check.check.as_str()),
        Cell::condition(check.condition()),
        Cell::from(detail(check)),
        Cell::from(format::or_none(&check.limit)),
        Cell::number(format::proto_duration(check.took.as_ref())),
    ]
}

/// What it found, and what makes that doubtful.
pub(super) fn detail(check: &HealthCheck) -> String {
    let mut detail = format::or_none(&check.detail);
    if check.unknown_streak > 1 {
        detail.push_str(&format!(" (unknown {} times in a row)", check.unknown_streak));
    }
    if check.flapping {
        detail.push_str(" (flapping: nothing is done)");
    }
    detail
}

pub(super) fn circumstances(check: &HealthCheck) -> String {
    let level = format::short_name(check.level().as_str_name(), "HEALTH_LEVEL_");
    let mut text = format!(
        "{}: {}, severity {}, every {}, action {}",
        check.check,
        level.to_lowercase(),
        format::severity(check.severity()),
        format::proto_duration(check.interval.as_ref()),
        format::or_none(&check.action),
    );
    if !check.depends_on.is_empty() {
        text.push_str(&format!(", depends on {}", check.depends_on.join(", ")));
    }
    text
}

/// How many checks are in each condition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) ok: u64,
    pub(super) warn: u64,
    pub(super) critical: u64,
    pub(super) unknown: u64,
}

impl Tally {
    pub(super) fn of(checks: &[HealthCheck]) -> Self {
        checks.iter().fold(Self::default(), |mut tally, check| {
            match check.condition() {
                Condition::Ok => tally.ok += 1,
                Condition::Warn => tally.warn += 1,
                Condition::Critical => tally.critical += 1,
                Condition::Unknown | Condition::Unspecified => tally.unknown += 1,
            }
            tally
        })
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.warn += other.warn;
        self.critical += other.critical;
        self.unknown += other.unknown;
    }

    pub(super) fn all(&self) -> u64 {
        self.ok + self.warn + self.critical + self.unknown
    }

    /// Those that there are, such as "10 OK, 1 CRITICAL".
    pub(super) fn by_condition(&self) -> String {
        let counts = [
            (self.ok, Condition::Ok),
            (self.warn, Condition::Warn),
            (self.critical, Condition::Critical),
            (self.unknown, Condition::Unknown),
        ];
        let there = counts.iter().filter(|(count, _)| *count > 0);
        let shown: Vec<_> = there
            .map(|(count, of)| format!("{} {}", format::count(*count), format::condition(*of)))
            .collect();
        if shown.is_empty() { format::NONE.to_owned() } else { shown.join(", ") }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.all() {
            0 => f.write_str("no checks"),
            all => write!(f, "{}: {}", format::plural(all, "check"), self.by_condition()),
        }
    }
}
