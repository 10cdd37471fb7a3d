//! What must hold once a fault is over: each check returns what does not. They are asked again and again until all holds,
//! for the agent may need a while; what is lost or doubled stays so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ledger::{Became, Count, Fact, Ledger};
use super::world::{LOG, World};
use crate::{Segment, lines};

mod application;
mod outside;
mod practice;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// What was acknowledged is not there.
    Lost,
    /// What was to be done once is there more often.
    Doubled,
    /// Something else does not hold, perhaps not yet.
    Broken,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// How bad it is.
    pub wrong: Wrong,
    /// How much of it.
    pub count: u64,
    /// What it is.
    pub what: String,
}

impl Violation {
    pub(super) fn broken(what: impl Into<String>) -> Self {
        Self { wrong: Wrong::Broken, count: 1, what: what.into() }
    }
}

type Found = Result<Vec<Violation>, Violation>;

/// All that does not hold in a world whose load is held.
pub fn all(world: &World, ledger: &Ledger) -> Vec<Violation> {
    let checks: [fn(&World, &Ledger) -> Found; 21] = [
        oplog,
        runs,
        notes,
        observations,
        trades,
        values,
        parameters,
        log,
        backups,
        left,
        outside::database,
        outside::certificates,
        outside::alerts,
        outside::emergency,
        outside::archive,
        outside::fleet,
        practice::rollbacks,
        practice::drills,
        application::updates,
        application::release,
        application::litter,
    ];
    let found = checks.into_iter().map(|check| check(world, ledger).unwrap_or_else(|it| vec![it]));
    found.flatten().collect()
}

/// What a reading command answers.
pub(super) fn ask(world: &World, arguments: &[&str]) -> Result<Value, Violation> {
    let said = world.agent.ctl(&[arguments, &["-o", "json", "--timeout", "20s"]].concat());
    // Findings, and what can't be told, come with an answer.
    let answer = matches!(said.code, 0 | 3 | 5).then(|| said.response()).unwrap_or_default();
    match answer {
        Value::Null => {
            let command = arguments.join(" ");
            Err(Violation::broken(format!("{command} exits {}: {}", said.code, said.stderr)))
        }
        answer => Ok(answer),
    }
}

/// The items of a list in an answer.
pub(super) fn list(answer: &Value, name: &str) -> Vec<Value> {
    answer[name].as_array().cloned().unwrap_or_default()
}

/// A number, which protobuf's JSON writes as text.
pub(super) fn number(value: &Value) -> u64 {
    value.as_str().and_then(|it| it.parse().ok()).or(value.as_u64()).unwrap_or(0)
}

/// What is there against what must and what may be.
pub(super) fn held_against(what: &str, there: u64, count: Count) -> Vec<Violation> {
    let Count { acknowledged, doubtful } = count;
    let (wrong, count) = match there {
        few if few < acknowledged => (Wrong::Lost, acknowledged - few),
        many if many > acknowledged + doubtful => (Wrong::Doubled, many - acknowledged - doubtful),
        _ => return Vec::new(),
    };
    let wanted = format!("{acknowledged} were acknowledged, {doubtful} more may be there");
    vec![Violation { wrong, count, what: format!("{what}: {there} are there, {wanted}") }]
}

fn oplog(world: &World, _: &Ledger) -> Found {
    let said = world.agent.ctl(&["oplog", "verify"]);
    match said.code {
        0 => Ok(Vec::new()),
        _ => Err(Violation::broken(format!("the oplog does not verify: {}", said.text()))),
    }
}

/// Each run has ended, and is reconciled where it was cut off.
fn runs(world: &World, _: &Ledger) -> Found {
    let answer = ask(world, &["run", "list", "--limit", "1000"])?;
    let mut found = Vec::new();
    let mut cut_off = Vec::new();
    for run in list(&answer, "runs") {
        let about = format!("run {} ({})", run["id"], run["kind"]);
        match run["state"].as_str().unwrap_or_default() {
            "RUN_STATE_RUNNING" => found.push(Violation::broken(format!("{about} goes on"))),
            "RUN_STATE_INTERRUPTED" => cut_off.push(run["id"].clone()),
            _ => {}
        }
    }
    // Those that are older were looked at after earlier faults.
    for id in cut_off.iter().take(20).filter_map(Value::as_str) {
        let run = ask(world, &["run", "show", id])?["run"].clone();
        if run["reconciliation"]["detail"].as_str().unwrap_or_default().is_empty() {
            found.push(Violation::broken(format!("run {id} is not reconciled: {run}")));
        }
    }
    Ok(found)
}

/// So many facts of one kind are looked for one by one; older ones were when they were new.
const NEWEST: usize = 40;

/// Each of the newest facts is among `there` once, or not at all where that is doubtful.
fn each_once(
    what: &str,
    facts: Vec<(String, Became)>,
    there: &BTreeMap<String, u64>,
) -> Vec<Violation> {
    let found = facts.into_iter().flat_map(|(fact, became)| {
        let count = match became {
            Became::Acknowledged => Count { acknowledged: 1, doubtful: 0 },
            Became::Doubtful => Count { acknowledged: 0, doubtful: 1 },
        };
        let times = there.get(&fact).copied().unwrap_or(0);
        held_against(&format!("{what} {fact:?}"), times, count)
    });
    found.collect()
}

fn times(texts: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    let mut times = BTreeMap::new();
    for text in texts {
        *times.entry(text).or_default() += 1;
    }
    times
}

fn notes(world: &World, ledger: &Ledger) -> Found {
    let asked = ["oplog", "list", "--action", "note", "--limit", "1000"];
    let entries = list(&ask(world, &asked)?, "entries");
    let noted = entries.iter().filter(|entry| entry["action"] == "note");
    let texts = noted.map(|entry| entry["detail"].as_str().unwrap_or_default().to_owned());
    let facts = ledger.newest(NEWEST, |fact| match fact {
        Fact::Note(text) => Some(text.clone()),
        _ => None,
    });
    Ok(each_once("the note", facts, &times(texts)))
}

fn observations(world: &World, ledger: &Ledger) -> Found {
    let count = ledger.count(|fact| match fact {
        Fact::Observations(count) => Some(*count),
        _ => None,
    });
    if count.acknowledged == 0 {
        return Ok(Vec::new());
    }
    let again = ["baseline", "recalculate", "--operation", "storm.calls"];
    let said = world.agent.ctl(&again);
    if said.code != 0 {
        return Err(Violation::broken(format!("no baseline is calculated: {}", said.stderr)));
    }
    let shown = ask(world, &["baseline", "show", "storm.calls"])?;
    let there = number(&shown["operation"]["baseline"]["count"]);
    Ok(held_against("observations", there, count))
}

fn trades(world: &World, ledger: &Ledger) -> Found {
    let count = ledger.count(|fact| match fact {
        Fact::Trades(count) => Some(*count),
        _ => None,
    });
    let shown = ask(world, &["experiment", "show", "--test-id", "TEST_1"])?;
    let of = |arm: &str| number(&shown["experiment"][arm]["n"]);
    Ok(held_against("trades", of("control") + of("variant"), count))
}

fn values(world: &World, ledger: &Ledger) -> Found {
    let count = ledger.count(|fact| match fact {
        Fact::Values(count) => Some(*count),
        _ => None,
    });
    let listed = ask(world, &["series", "list"])?;
    let there = list(&listed, "series").iter().map(|series| number(&series["points"])).sum();
    Ok(held_against("values of series", there, count))
}

fn parameters(world: &World, ledger: &Ledger) -> Found {
    let asked = ["param", "history", "--strategy", "storm", "--limit", "1000"];
    let versions = list(&ask(world, &asked)?, "versions");
    let values = versions.iter().map(|it| it["value"].as_str().unwrap_or_default().to_owned());
    let facts = ledger.newest(NEWEST, |fact| match fact {
        Fact::Parameter(value) => Some(value.clone()),
        _ => None,
    });
    let mut found = in_force(world, "storm", &facts);
    found.extend(each_once("the value", facts, &times(values)));
    let numbers: BTreeSet<u64> = versions.iter().map(|it| number(&it["version"])).collect();
    if numbers.len() != versions.len() {
        found.push(Violation::broken("a version of a parameter was given twice"));
    }
    Ok(found)
}

/// The value in force is the one that was acknowledged last, or one that is doubtful and came later.
pub(super) fn in_force(
    world: &World,
    strategy: &str,
    newest_first: &[(String, Became)],
) -> Vec<Violation> {
    let last = newest_first.iter().position(|(_, became)| *became == Became::Acknowledged);
    let Some(last) = last else { return Vec::new() };
    let said = world.agent.ctl(&["param", "get", "--strategy", strategy, "size"]).text();
    if newest_first[..=last].iter().any(|(value, _)| value == said.trim()) {
        return Vec::new();
    }
    let what = format!("size of {strategy} is {:?} after {:?}", said.trim(), newest_first[last].0);
    vec![Violation { wrong: Wrong::Lost, count: 1, what }]
}

/// The archive was proven to have it; where the disk was full, nothing else has it any more.
pub(super) fn is_proven(segment: &Segment) -> bool {
    matches!(segment.state.as_str(), "VERIFIED" | "LOCAL_EXPIRED")
}

/// What comes back of the log is what was written, from the first line on, each line once and in order; and at least what
/// is verified.
fn log(world: &World, _: &Ledger) -> Found {
    let before = world.agent.segments(LOG);
    if let Some(waiting) = before.iter().find(|segment| !is_proven(segment)) {
        return Err(Violation::broken(format!("{waiting:?} is not verified")));
    }
    let least: u64 = before.iter().map(|segment| segment.lines).sum();
    let said = world.agent.retrieve(LOG, lines::DAY);
    if !matches!(said.code, 0 | 5) {
        return Err(Violation::broken(format!("the log can't be had: {}", said.stderr)));
    }
    let whole = said.stdout.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let there = &said.stdout[..whole];
    let count = there.iter().filter(|byte| **byte == b'\n').count() as u64;
    if there != lines::text(0..count).as_bytes() {
        let (lost, doubled) = compared(there, count);
        let what = format!("of {count} lines {lost} are missing, {doubled} are there again");
        let wrong = if lost > 0 { Wrong::Lost } else { Wrong::Doubled };
        return Err(Violation { wrong, count: lost.max(doubled).max(1), what });
    }
    // What is not sealed yet may be there as well.
    let wanted = Count { acknowledged: least, doubtful: u64::MAX / 2 };
    Ok(held_against("lines of the log", count, wanted))
}

/// How many of the lines up to the greatest that is there are missing, and how many are there more than once.
fn compared(there: &[u8], count: u64) -> (u64, u64) {
    let text = String::from_utf8_lossy(there);
    let mut seen = BTreeMap::<&str, u64>::new();
    for line in text.lines() {
        *seen.entry(line).or_default() += 1;
    }
    let wanted = lines::text(0..count);
    let missing = wanted.lines().filter(|line| !seen.contains_key(line)).count() as u64;
    (missing, seen.values().filter(|times| **times > 1).count() as u64)
}

/// The newest backup of the state is there, and none is half made.
fn backups(world: &World, ledger: &Ledger) -> Found {
    let listed = ask(world, &["backup", "list", "agent", "--limit", "100", "--expired"])?;
    let (mut found, mut complete) = (Vec::new(), 0);
    for backup in list(&listed, "backups") {
        let place = Path::new(backup["place"].as_str().unwrap_or_default()).exists();
        match backup["state"].as_str().unwrap_or_default() {
            "BACKUP_STATE_COMPLETE" if place => complete += 1,
            "BACKUP_STATE_COMPLETE" => {
                let what = format!("a backup is gone: {backup}");
                found.push(Violation { wrong: Wrong::Lost, count: 1, what });
            }
            "BACKUP_STATE_RUNNING" | "BACKUP_STATE_BROKEN" => {
                found.push(Violation::broken(format!("a backup is half made: {backup}")));
            }
            _ if place => found.push(Violation::broken(format!("it is there still: {backup}"))),
            _ => {}
        }
    }
    if ledger.times(&Fact::Backup).acknowledged > 0 && complete == 0 {
        found.push(Violation { wrong: Wrong::Lost, count: 1, what: "no backup is there".into() });
    }
    Ok(found)
}

/// What is written beside its place before it is put there.
fn is_unfinished(name: &str) -> bool {
    [".new", ".tmp", ".partial", ".sealing", ".half"].iter().any(|end| name.ends_with(end))
        || [".new-", ".creating-", "genesis-new", "genesis-work"].iter().any(|it| name.contains(it))
}

/// No process that an agent has started is left, and no file that was begun beside its place.
fn left(world: &World, _: &Ledger) -> Found {
    let mut found = Vec::new();
    // The patient is looked at now and then: that one is over in a moment.
    for process in world.agent.left_running(&world.agent.state().join("scratch")) {
        found.push(Violation::broken(format!("a process is left: {process}")));
    }
    let mut places = vec![world.agent.state()];
    places.extend(world.s3.as_ref().map(|s3| s3.objects()));
    while let Some(place) = places.pop() {
        for path in entries(&place) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_unfinished(&name) {
                found.push(Violation::broken(format!("{} is left", path.display())));
            }
            if path.is_dir() && !path.is_symlink() && name != "lost+found" {
                places.push(path);
            }
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    // What goes away meanwhile is not left.
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
