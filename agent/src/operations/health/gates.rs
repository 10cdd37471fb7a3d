//! Whether an action may start: a table of gates, each with its code, over plain data. Every gate that denies is
//! named, so that `health explain` has all the reasons and not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use genesis_storage::Moment;

use super::life::ATTEMPTS;
use crate::trading::Critical;

/// Attempts of one action in an hour and in a day.
pub const ACTION_BUDGET: (usize, usize) = (3, 10);
/// Attempts of all actions in a day.
pub const HOST_BUDGET: usize = 20;
/// One destructive attempt in this time.
pub const DESTRUCTIVE_EVERY: Duration = Duration::from_secs(15 * 60);
/// More attempts than this within [`STORM_WINDOW`] set the brake.
pub const STORM: usize = 5;
/// See [`STORM`].
pub const STORM_WINDOW: Duration = Duration::from_secs(600);
/// A result that is older than so many intervals is no signal to act on.
pub const STALE_INTERVALS: u32 = 2;
/// So many independent issues within [`CASCADE_WINDOW`] are a cascade.
pub const CASCADE: usize = 3;
/// See [`CASCADE`].
pub const CASCADE_WINDOW: Duration = Duration::from_secs(300);
/// The checks are doubted only where there are at least so many.
pub const SUSPECT_LEAST: usize = 6;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What an action is, as far as the gates care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its name, by which budgets count.
    pub action: &'a str,
    /// What it changes can't be had back.
    pub destructive: bool,
    /// It reaches into trading: connections, queries, restarts.
    pub trade_touching: bool,
    /// It is declared to go on during an emergency.
    pub goes_on: bool,
    /// The interval of its check.
    pub interval: Duration,
    /// When its check last had a result that could be told.
    pub signal_at: &'a Moment,
    /// Its check changes too often.
    pub flapping: bool,
    /// When the last attempt ended in vain, and how long the pause after it is.
    pub cooldown: Option<(&'a Moment, Duration)>,
    /// The deepest failing check that its own depends on.
    pub root: Option<&'a str>,
    /// People were called about it, and nobody has taken notice yet.
    pub escalated: bool,
    /// So many attempts were made in vain.
    pub attempts: u32,
}

/// An attempt that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// Its id.
    pub attempt: String,
    /// Of which action.
    pub action: String,
    /// Whether what it changed can't be had back.
    pub destructive: bool,
    /// When.
    pub at: Moment,
}

/// The host at the moment of the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation<'a> {
    /// Now.
    pub now: &'a Moment,
    /// When this agent started.
    pub started: &'a Moment,
    /// When remediation was last allowed again.
    pub resumed: Option<&'a Moment>,
    /// Nothing is done for so long after either.
    pub startup_grace: Duration,
    /// Everything is planned, and nothing done.
    pub dry_run: bool,
    /// Remediation is switched off: by whom, and until when in words.
    pub disabled: Option<&'a str>,
    /// The brake is on: why.
    pub brake: Option<&'a str>,
    /// The checks themselves are doubted: why.
    pub checker_suspect: Option<&'a str>,
    /// An emergency is in force.
    pub emergency: bool,
    /// The action that goes on.
    pub busy: Option<&'a str>,
    /// Attempts of the last day.
    pub spent: &'a [Spent],
    /// Whether critical trades are in progress.
    pub trades: Critical,
    /// By what that is told.
    pub told_by: &'a str,
}

/// A gate that denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Its code.
    pub code: &'static str,
    /// Why, in words.
    pub message: String,
}

/// Denies with the words why, or lets pass.
pub type Gate = fn(&Candidate<'_>, &Situation<'_>) -> Option<String>;

/// Every gate, in the order in which they are told. Each is one line of the table that the tests walk.
pub const GATES: &[(&str, Gate)] = &[
    ("EMERGENCY", |candidate, situation| {
        (situation.emergency && !candidate.goes_on)
            .then(|| "an emergency is in force, and this action is not one that goes on".to_owned())
    }),
    ("CHECKER_SUSPECT", |_, situation| situation.checker_suspect.map(str::to_owned)),
    ("STORM", |_, situation| situation.brake.map(str::to_owned)),
    ("DISABLED", |_, situation| situation.disabled.map(str::to_owned)),
    ("STARTUP_GRACE", |_, situation| {
        let age = situation.now.since(situation.started);
        let resumed = situation.resumed.map(|at| situation.now.since(at));
        let (youngest, what) = match resumed {
            Some(since) if since < age => (since, "remediation was just allowed again"),
            _ => (age, "the agent has just started"),
        };
        let left = situation.startup_grace.saturating_sub(youngest);
        (!left.is_zero()).then(|| format!("{what}; {} s more", left.as_secs()))
    }),
    ("ESCALATED", |candidate, _| {
        candidate.escalated.then(|| {
            "people were called; automation goes on once somebody acknowledges or resumes"
                .to_owned()
        })
    }),
    ("ATTEMPTS_USED", |candidate, _| {
        (candidate.attempts >= ATTEMPTS).then(|| {
            format!("{} attempts were in vain; `health resume` gives new ones", candidate.attempts)
        })
    }),
    ("DEPENDENCY_ROOT", |candidate, _| {
        candidate.root.map(|root| format!("it depends on {root}, which fails itself"))
    }),
    ("FLAPPING", |candidate, _| {
        candidate.flapping.then(|| "the check changes between good and bad too often".to_owned())
    }),
    ("STALE_SIGNAL", |candidate, situation| {
        let age = situation.now.since(candidate.signal_at);
        (age > candidate.interval * STALE_INTERVALS)
            .then(|| format!("the check's last result is {} s old", age.as_secs()))
    }),
    ("COOLDOWN", |candidate, situation| {
        let (since, pause) = candidate.cooldown?;
        let left = pause.saturating_sub(situation.now.since(since));
        (!left.is_zero())
            .then(|| format!("the last attempt did not help; {} s more", left.as_secs()))
    }),
    ("BUDGET", budget),
    ("CONCURRENCY", |_, situation| {
        situation.busy.map(|other| format!("{other} goes on; one action at a time"))
    }),
    ("GUARD", |candidate, situation| match (candidate.trade_touching, situation.trades) {
        (true, Critical::InProgress) => {
            Some(format!("critical trades are in progress: {}", situation.told_by))
        }
        (true, Critical::Unknown) => Some(format!(
            "whether critical trades are in progress can't be told: {}",
            situation.told_by
        )),
        _ => None,
    }),
    (DRY_RUN, |_, situation| {
        situation
            .dry_run
            .then(|| "actions are planned and recorded, and not carried out".to_owned())
    }),
];

/// The gate that lets an action be planned.
pub const DRY_RUN: &str = "DRY_RUN";

fn budget(candidate: &Candidate<'_>, situation: &Situation<'_>) -> Option<String> {
    let within = |window: Duration, what: &dyn Fn(&Spent) -> bool| {
        let recent = |spent: &&Spent| situation.now.since(&spent.at) < window;
        situation.spent.iter().filter(recent).filter(|spent| what(spent)).count()
    };
    let same = |spent: &Spent| spent.action == candidate.action;
    let (hourly, daily) = ACTION_BUDGET;
    if within(HOUR, &same) >= hourly {
        return Some(format!("{hourly} attempts of it within an hour"));
    }
    if within(DAY, &same) >= daily {
        return Some(format!("{daily} attempts of it within a day"));
    }
    if within(DAY, &|_| true) >= HOST_BUDGET {
        return Some(format!("{HOST_BUDGET} attempts on this host within a day"));
    }
    let minutes = DESTRUCTIVE_EVERY.as_secs() / 60;
    (candidate.destructive && within(DESTRUCTIVE_EVERY, &|spent| spent.destructive) > 0)
        .then(|| format!("one attempt that can't be taken back within {minutes} minutes"))
}

/// Every gate that denies; none: it may start.
pub fn denied(candidate: &Candidate<'_>, situation: &Situation<'_>) -> Vec<Denied> {
    let ask = |(code, gate): &(&'static str, Gate)| {
        gate(candidate, situation).map(|message| Denied { code, message })
    };
    GATES.iter().filter_map(ask).collect()
}

/// Whether one more attempt would be a storm.
pub fn storm(spent: &[Spent], now: &Moment) -> bool {
    spent.iter().filter(|spent| now.since(&spent.at) < STORM_WINDOW).count() >= STORM
}

/// What each check depends on.
pub type Dependencies = BTreeMap<String, Vec<String>>;

/// The failing check behind `check`: one that it depends on, through others that may be well, and that has no
/// failing one below itself; `check` excluded. Of several the first by name. Rings of dependencies are refused by the
/// configuration, and end here all the same: on a ring the first by name stands for it.
pub fn root<'a>(
    check: &str,
    dependencies: &'a Dependencies,
    failing: &BTreeSet<&str>,
) -> Option<&'a str> {
    let under = |name: &str| -> BTreeSet<&'a str> {
        let mut found = all_below(name, dependencies);
        found.retain(|other| *other != name && *other != check && failing.contains(*other));
        found
    };
    let candidates = under(check);
    let deepest = candidates.iter().copied().find(|name| under(name).is_empty());
    deepest.or_else(|| candidates.first().copied())
}

/// Everything that a check depends on, through however many others.
pub fn all_below<'a>(check: &str, dependencies: &'a Dependencies) -> BTreeSet<&'a str> {
    let (mut seen, mut open) = (BTreeSet::new(), below(check, dependencies));
    while let Some(name) = open.pop_first() {
        if seen.insert(name) {
            open.extend(below(name, dependencies));
        }
    }
    seen
}

fn below<'a>(check: &str, dependencies: &'a Dependencies) -> BTreeSet<&'a str> {
    dependencies.get(check).into_iter().flatten().map(String::as_str).collect()
}

/// Several issues at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cascade {
    /// The one that the others depend on; `None`: they are independent.
    pub root: Option<String>,
    /// Who is in it, the root included.
    pub members: Vec<String>,
}

/// The cascades among the failing checks (each with the moment when it turned bad): more than one that depends on the
/// same root, and at least [`CASCADE`] independent ones within [`CASCADE_WINDOW`] of each other.
pub fn cascades(failing: &BTreeMap<&str, &Moment>, dependencies: &Dependencies) -> Vec<Cascade> {
    let names: BTreeSet<&str> = failing.keys().copied().collect();
    let mut dependents: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut independent: Vec<(&str, &Moment)> = Vec::new();
    for (name, since) in failing {
        match root(name, dependencies, &names) {
            Some(root) => dependents.entry(root).or_default().push((*name).to_owned()),
            None => independent.push((name, since)),
        }
    }
    let mut found: Vec<Cascade> = dependents
        .into_iter()
        .filter(|(_, members)| members.len() > 1)
        .map(|(root, members)| {
            let members = std::iter::once(root.to_owned()).chain(members).collect();
            Cascade { root: Some(root.to_owned()), members }
        })
        .collect();
    let near = |at: &Moment, other: &Moment| at.since(other).max(other.since(at)) <= CASCADE_WINDOW;
    for (_, since) in &independent {
        // Those at or after this one, so that each window is looked at from its beginning.
        let together: Vec<String> = independent
            .iter()
            .filter(|(_, other)| near(other, since) && since.since(other).is_zero())
            .map(|(name, _)| (*name).to_owned())
            .collect();
        if together.len() >= CASCADE {
            found.push(Cascade { root: None, members: together });
            break;
        }
    }
    found
}

/// A check as it is now, for the question whether the checks themselves are to be doubted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its name.
    pub check: &'a str,
    /// It is bad, or can't be told, since then.
    pub bad_since: Option<&'a Moment>,
}

/// Whether more than half of at least [`SUSPECT_LEAST`] checks turned bad within one `interval`, without a check
/// that all of those depend on or are: then rather the checker is at fault than all of them.
pub fn checker_suspect(
    seen: &[Seen<'_>],
    dependencies: &Dependencies,
    interval: Duration,
    now: &Moment,
) -> bool {
    let bad: Vec<&str> = seen
        .iter()
        .filter(|seen| seen.bad_since.is_some_and(|since| now.since(since) <= interval))
        .map(|seen| seen.check)
        .collect();
    if seen.len() < SUSPECT_LEAST || bad.len() * 2 <= seen.len() {
        return false;
    }
    // One check that is bad itself and stands under all the others explains them.
    let explains = |candidate: &str| {
        bad.iter().all(|name| *name == candidate || reaches(name, candidate, dependencies))
    };
    !seen.iter().filter(|seen| seen.bad_since.is_some()).any(|seen| explains(seen.check))
}

fn reaches(from: &str, to: &str, dependencies: &Dependencies) -> bool {
    all_below(from, dependencies).contains(to)
}

/// A ring of dependencies, if there is one: the checks on it.
pub fn ring(dependencies: &Dependencies) -> Option<Vec<String>> {
    let on_ring: Vec<String> =
        dependencies.keys().filter(|name| reaches(name, name, dependencies)).cloned().collect();
    (!on_ring.is_empty()).then_some(on_ring)
}
