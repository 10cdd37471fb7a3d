//! The reports: how the host stands by its objectives over a time, and what was done to mend it. Pure: what is counted
//! and the time are arguments, and what nothing tells is never taken for good.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_storage::{
    AttemptOutcome, AttemptRecord, CertificateOrigin, Day, GenerationRecord, IncidentRecord,
    IssueRecord, IssueState, TALLIED_DAYS, UpdateRecord,
};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::error::{Error, Result};

/// Without a month: so many days, today included.
const DAYS: i64 = 30;
const DAY: i64 = 86_400;
/// So many of the worst are named.
const OFFENDERS: usize = 10;
/// A certificate ends no sooner than in so many days, or so many ninetieths of its life where that is less.
const ENDS_IN: i32 = 7;
/// A check that was bad so often is not mended by what is done.
const OFTEN: u64 = 3;
/// So many attempts show that an action does not help.
const IN_VAIN: u64 = 2;

/// The time that a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end, which is not part of it.
    pub until: Timestamp,
    /// Its days, both included.
    pub days: (Day, Day),
    /// Since when what it is made of is kept.
    pub data_from: Timestamp,
}

impl Period {
    /// Whether that does not reach back to the beginning.
    pub fn data_missing(&self) -> bool {
        self.data_from > self.from
    }

    fn has(&self, at: Timestamp) -> bool {
        (self.from..self.until).contains(&at)
    }
}

fn day(at: Timestamp) -> Day {
    Day::try_from(at.as_second().div_euclid(DAY)).unwrap_or_default()
}

fn midnight(day: i64) -> Timestamp {
    Timestamp::from_second(day.saturating_mul(DAY)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The time of a month such as "2026-11", or where none is named of the last thirty days; `born` is when the host's
/// records began.
///
/// # Errors
/// `MONTH_INVALID`.
pub fn period(month: &str, now: Timestamp, born: Timestamp) -> Result<Period> {
    let today = i64::from(day(now));
    let (from, until) = match month {
        "" => (midnight(today - DAYS + 1), now),
        month => {
            let (from, until) = of_month(month).ok_or_else(|| {
                let message = format!("{month:?} is no month such as \"2026-11\"");
                Error::invalid("MONTH_INVALID", message)
            })?;
            if from > now {
                let message = format!("{month} has not begun");
                return Err(Error::invalid("MONTH_INVALID", message));
            }
            (from, until.min(now))
        }
    };
    let last = until.saturating_sub(SignedDuration::from_nanos(1)).unwrap_or(until);
    let kept = midnight(today - i64::from(TALLIED_DAYS) + 1);
    Ok(Period { from, until, days: (day(from), day(last)), data_from: kept.max(born) })
}

fn of_month(month: &str) -> Option<(Timestamp, Timestamp)> {
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let (year, number) = month.split_once('-')?;
    if !digits(year, 4) || !digits(number, 2) {
        return None;
    }
    let first = Date::new(year.parse().ok()?, number.parse().ok()?, 1).ok()?;
    let next = first.checked_add(1.month()).ok()?;
    let at = |date: Date| TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight())).ok();
    Some((at(first)?, at(next)?))
}

/// Whether an objective is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Pass,
    /// It is not.
    Fail,
    /// Nothing tells.
    Unknown,
}

/// What is most to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offender {
    /// A kind of run, a check and its action, a project, a certificate.
    pub name: String,
    /// So many are bad.
    pub bad: u64,
    /// Of so many.
    pub all: u64,
    /// More.
    pub detail: String,
}

/// How an objective stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objective {
    /// "operations", "remediations", "updates" or "certificates".
    pub name: &'static str,
    /// Whether it is reached.
    pub standing: Standing,
    /// What is to be reached, in words.
    pub target: &'static str,
    /// So many.
    pub numerator: u64,
    /// Of so many.
    pub denominator: u64,
    /// What counts neither way.
    pub apart: Vec<(&'static str, u64)>,
    /// The worst.
    pub offenders: Vec<Offender>,
    /// What limits it; may be empty.
    pub note: String,
}

impl Objective {
    fn new(
        (name, target): (&'static str, &'static str),
        (numerator, denominator): (u64, u64),
        reached: bool,
    ) -> Self {
        let standing = match (denominator, reached) {
            (0, _) => Standing::Unknown,
            (_, true) => Standing::Pass,
            (_, false) => Standing::Fail,
        };
        Self {
            name,
            standing,
            target,
            numerator,
            denominator,
            apart: Vec::new(),
            offenders: Vec::new(),
            note: String::new(),
        }
    }

    fn blames(mut self, offenders: impl IntoIterator<Item = Offender>) -> Self {
        let mut found: Vec<_> = offenders.into_iter().filter(|it| it.bad > 0).collect();
        found.sort_by(|a, b| b.bad.cmp(&a.bad).then_with(|| a.name.cmp(&b.name)));
        found.truncate(OFFENDERS);
        self.offenders = found;
        self
    }
}

/// More than `per_mille` of `all`, exactly.
fn over(count: u64, all: u64, per_mille: u64) -> bool {
    u128::from(count) * 1_000 > u128::from(all) * u128::from(per_mille)
}

/// Less than `per_mille` of `all`, exactly.
fn under(count: u64, all: u64, per_mille: u64) -> bool {
    u128::from(count) * 1_000 < u128::from(all) * u128::from(per_mille)
}

/// The tallies of a time.
pub type Sums = BTreeMap<String, u64>;

fn sum(sums: &Sums, of: &str, outcome: &str) -> u64 {
    sums.get(&format!("{of}/{outcome}")).copied().unwrap_or(0)
}

/// Over 99.5 % of what was run succeeds.
pub fn operations(sums: &Sums) -> Objective {
    let count = |outcome| sum(sums, "operation", outcome);
    let (succeeded, failed) = (count("succeeded"), count("failed"));
    let all = succeeded + failed;
    let mut kinds: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (tally, count) in sums {
        let Some((kind, outcome)) =
            tally.strip_prefix("operation-of/").and_then(|rest| rest.rsplit_once('/'))
        else {
            continue;
        };
        kinds.entry(kind).or_default().insert(outcome, *count);
    }
    let offenders: Vec<Offender> = kinds
        .iter()
        .map(|(kind, counts)| {
            let of = |outcome| counts.get(outcome).copied().unwrap_or(0);
            let apart = ["refused", "cancelled", "unknown"].map(|outcome| (outcome, of(outcome)));
            let apart = apart.iter().filter(|(_, count)| *count > 0);
            let apart: Vec<_> =
                apart.map(|(outcome, count)| format!("{count} {outcome}")).collect();
            Offender {
                name: (*kind).to_owned(),
                bad: of("failed"),
                all: of("succeeded") + of("failed"),
                detail: apart.join(", "),
            }
        })
        .collect();
    let named: u64 = offenders.iter().map(|it| it.bad).sum();
    let nameless = failed.saturating_sub(named);
    let note = match nameless {
        0 => String::new(),
        count => format!("of {count} failure(s) the kind was not counted by the agent of then"),
    };
    let names = ("operations", "over 99.5 % of operations succeed");
    Objective {
        apart: ["refused", "cancelled", "unknown"].map(|it| (it, count(it))).to_vec(),
        note,
        ..Objective::new(names, (succeeded, all), over(succeeded, all, 995)).blames(offenders)
    }
}

/// Over 90 % of what is done by itself to mend the host helps.
pub fn remediations(sums: &Sums, patterns: &[Pattern]) -> Objective {
    let count = |outcome| sum(sums, "remediation", outcome);
    let (succeeded, failed) = (count("succeeded"), count("failed"));
    let all = succeeded + failed;
    let offenders = patterns.iter().filter(|it| !it.action.is_empty()).map(|it| Offender {
        name: format!("{} of {}", it.action, it.check),
        bad: it.failed,
        all: it.succeeded + it.failed,
        detail: match it.by_hand {
            0 => String::new(),
            times => format!("{times} by hand"),
        },
    });
    let names = ("remediations", "over 90 % of automatic remediation helps");
    Objective {
        apart: vec![("unknown", count("unknown"))],
        ..Objective::new(names, (succeeded, all), over(succeeded, all, 900)).blames(offenders)
    }
}

/// Less than 5 % of the updates fail. `records` are updates, without rollbacks by hand.
pub fn updates(records: &[UpdateRecord], period: &Period) -> Objective {
    let ended = records.iter().filter(|it| it.ended_at.is_some_and(|at| period.has(at)));
    let ended: Vec<_> = ended.map(|it| (it, it.outcome())).collect();
    let count =
        |wanted: &str| ended.iter().filter(|(_, outcome)| *outcome == wanted).count() as u64;
    let (succeeded, failed, held) = (count("succeeded"), count("rolled-back"), count("held"));
    let all = succeeded + failed + held;
    let mut projects: BTreeMap<&str, Offender> = BTreeMap::new();
    // Newest first, so that the first code is the latest.
    for (record, outcome) in &ended {
        if !["succeeded", "rolled-back", "held"].contains(outcome) {
            continue;
        }
        let entry = projects.entry(&record.project).or_insert_with(|| Offender {
            name: record.project.clone(),
            bad: 0,
            all: 0,
            detail: String::new(),
        });
        entry.all += 1;
        if *outcome == "rolled-back" {
            entry.bad += 1;
            if entry.detail.is_empty() {
                entry.detail = format!("at last {}", record.error_code);
            }
        }
    }
    let names = ("updates", "under 5 % of updates fail");
    let apart = ["held", "unchanged", "refused", "cancelled"];
    Objective {
        apart: apart.map(|it| (it, count(it))).to_vec(),
        ..Objective::new(names, (failed, all), under(failed, all, 50))
            .blames(projects.into_values())
    }
}

/// No certificate in service ends within seven days, as it is now: of each its name and what is in service, if anything.
pub fn certificates(
    in_service: &[(String, Option<GenerationRecord>)],
    now: Timestamp,
) -> Objective {
    let told: Vec<(&str, Result<(), String>)> =
        in_service.iter().map(|(name, it)| (name.as_str(), lasts(it.as_ref(), now))).collect();
    let good = told.iter().filter(|(_, lasts)| lasts.is_ok()).count() as u64;
    let all = told.len() as u64;
    let offenders = told.iter().filter_map(|(name, lasts)| {
        let why = lasts.as_ref().err()?;
        Some(Offender { name: (*name).to_owned(), bad: 1, all: 1, detail: why.clone() })
    });
    let names = ("certificates", "every certificate in service is valid for over 7 days");
    Objective {
        note: "as it is now, whatever the time of the report".to_owned(),
        ..Objective::new(names, (good, all), good == all).blames(offenders)
    }
}

/// Whether a certificate lasts, or why it does not.
fn lasts(in_service: Option<&GenerationRecord>, now: Timestamp) -> Result<(), String> {
    let Some(it) = in_service else { return Err("none is in service".to_owned()) };
    if it.origin == CertificateOrigin::SelfSigned {
        return Err("a self-signed one is in service".to_owned());
    }
    let (life, left) =
        (it.not_after.duration_since(it.not_before), it.not_after.duration_since(now));
    let wanted = SignedDuration::from_hours(24 * i64::from(ENDS_IN)).min(life * ENDS_IN / 90);
    if left > wanted {
        return Ok(());
    }
    match left.is_negative() {
        true => Err(format!("it has ended {:.0}", it.not_after)),
        false => Err(format!("it ends {:.0}", it.not_after)),
    }
}

/// What was done about one check by one action.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pattern {
    /// The check.
    pub check: String,
    /// The action; empty: none.
    pub action: String,
    /// So often the check was bad; counted in its first pattern only.
    pub episodes: u64,
    /// So often people were called about it; the same.
    pub escalated: u64,
    /// So often it was tried.
    pub attempts: u64,
    /// It helped.
    pub succeeded: u64,
    /// It did not.
    pub failed: u64,
    /// The condition was gone.
    pub not_needed: u64,
    /// Planned only.
    pub dry_run: u64,
    /// It is not known, or goes on.
    pub unknown: u64,
    /// Begun by a person.
    pub by_hand: u64,
    /// How long what helped took, all together.
    pub took: Duration,
}

impl Pattern {
    /// How long what helped took on average.
    pub fn mean(&self) -> Option<Duration> {
        let times = u32::try_from(self.succeeded).unwrap_or(u32::MAX);
        (times > 0).then(|| self.took / times)
    }

    fn count(&mut self, attempt: &AttemptRecord) {
        self.attempts += 1;
        self.by_hand += u64::from(!attempt.actor.starts_with("system:"));
        match attempt.outcome {
            AttemptOutcome::Succeeded => {
                self.succeeded += 1;
                let took = attempt.ended_at.map(|end| end.duration_since(attempt.at.wall));
                // A clock that was set back took nothing.
                let took = took.and_then(|took| Duration::try_from(took).ok()).unwrap_or_default();
                self.took = self.took.saturating_add(took);
            }
            AttemptOutcome::Failed => self.failed += 1,
            AttemptOutcome::NotNeeded => self.not_needed += 1,
            AttemptOutcome::DryRun => self.dry_run += 1,
            AttemptOutcome::Intent | AttemptOutcome::Done | AttemptOutcome::Unknown => {
                self.unknown += 1;
            }
        }
    }
}

/// What was done, by check and action, the worst first.
pub fn patterns(
    attempts: &[AttemptRecord],
    issues: &[IssueRecord],
    period: &Period,
) -> Vec<Pattern> {
    let mut found: BTreeMap<(&str, &str), Pattern> = BTreeMap::new();
    for attempt in attempts.iter().filter(|it| period.has(it.at.wall)) {
        let key = (attempt.check.as_str(), attempt.action.as_str());
        found.entry(key).or_default().count(attempt);
    }
    let mut checks: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for issue in issues.iter().filter(|it| it.state != IssueState::Suspect) {
        let (episodes, escalated) = checks.entry(&issue.check).or_default();
        *episodes += u64::from(period.has(issue.opened.wall));
        *escalated += u64::from(issue.escalated.as_ref().is_some_and(|(_, at)| period.has(*at)));
    }
    for (check, (episodes, escalated)) in checks.into_iter().filter(|(_, it)| *it != (0, 0)) {
        let first = found.keys().find(|(of, _)| *of == check).copied();
        let pattern = found.entry(first.unwrap_or((check, ""))).or_default();
        (pattern.episodes, pattern.escalated) = (episodes, escalated);
    }
    let mut patterns: Vec<Pattern> = found
        .into_iter()
        .map(|((check, action), pattern)| Pattern {
            check: check.to_owned(),
            action: action.to_owned(),
            ..pattern
        })
        .collect();
    patterns.sort_by(|a, b| {
        let weight = |it: &Pattern| (it.escalated, it.failed, it.episodes);
        weight(b).cmp(&weight(a))
    });
    patterns
}

/// What stands out, and what might be done about it.
pub fn findings(patterns: &[Pattern]) -> Vec<String> {
    let mut found = Vec::new();
    for it in patterns {
        let Pattern { check, action, .. } = it;
        if it.episodes >= OFTEN {
            found.push(format!(
                "{check} was bad {} times: what is done about it does not mend its cause; look at `genesisctl health \
                 history --check {check}`",
                it.episodes
            ));
        }
        if it.escalated > 0 && action.is_empty() {
            found.push(format!(
                "people were called about {check} {} time(s), and nothing was tried: give it an action",
                it.escalated
            ));
        }
        if it.failed >= IN_VAIN && it.succeeded == 0 {
            found.push(format!(
                "{action} of {check} never helped, {} time(s) in vain: change it, or take it away",
                it.failed
            ));
        }
        if it.by_hand >= IN_VAIN && it.by_hand == it.attempts {
            found.push(format!(
                "{action} of {check} was run by hand {} times and never by itself: make it the check's action",
                it.by_hand
            ));
        }
    }
    found
}

/// The incidents that a time has opened, by trigger.
pub fn triggers(incidents: &[IncidentRecord], period: &Period) -> Vec<(&'static str, u64)> {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for incident in incidents.iter().filter(|it| period.has(it.opened_at)) {
        *counts.entry(incident.trigger.code()).or_default() += 1;
    }
    counts.into_iter().collect()
}
