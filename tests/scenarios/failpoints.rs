//! Every fail point of every state machine is hit by a test: the names are read in the sources, so that a new one without
//! a test fails here. That a test which names a point gets there, it shows itself: it waits for the agent to die of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::architecture::{code, files, is_test, root};

/// Steps whose entry in the journal has a fail point directly beside it, at which the agent is killed; dying on the other
/// side of the entry would show the same, and these runs take long.
const BESIDE: [(&str, &str); 16] = [
    ("health/act", "health.before-act"),
    ("logs/adopt", "logs.batch-adopted"),
    ("dependencies/backup", "dependencies.backup"),
    ("dependencies/build", "dependencies.build"),
    ("backup/expire", "backup.expiring"),
    ("dependencies/deploy", "dependencies.deploy"),
    ("database/reindex", "database.reindex-announced"),
    ("dependencies/resolve", "dependencies.resolve"),
    ("dependencies/restart", "dependencies.restart"),
    ("dependencies/scan", "dependencies.scan"),
    ("backup/scratch", "backup.scratch-made"),
    ("dependencies/take-back", "dependencies.undoing"),
    ("dependencies/test", "dependencies.test"),
    ("backup/tool", "backup.tool-ran"),
    ("dependencies/watch", "dependencies.health"),
    ("dependencies/write", "dependencies.commit"),
];

/// The sources that have fail points, without comments and tests: path to text.
fn sources() -> BTreeMap<String, String> {
    let paths = ["agent/src", "storage/src"].into_iter().flat_map(files);
    paths
        .filter(|path| !is_test(path) && !path.ends_with("outside/failpoint.rs"))
        .map(|path| {
            let lines: Vec<String> = code(&path).into_iter().map(|line| line.text).collect();
            (path, lines.join("\n"))
        })
        .collect()
}

/// The first argument behind an opening bracket.
fn first_argument(rest: &str) -> &str {
    let mut depth = 0;
    for (at, letter) in rest.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return &rest[..at],
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => return &rest[..at],
            _ => {}
        }
    }
    rest
}

/// The texts in quotes in a piece of source.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// The names at which `call`, such as "failpoint::hit(", is made, with where.
fn named(call: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (path, text) in sources() {
        for rest in text.split(call).skip(1) {
            let argument = first_argument(rest).trim();
            // The steps of runs, of which below.
            if argument.starts_with("&format!(\"step.") {
                continue;
            }
            let name = argument.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
            let name = name.unwrap_or_else(|| panic!("{path}: {call}{argument} has no plain name"));
            found.insert(name.to_owned(), path.clone());
        }
    }
    found
}

fn is_step(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|letter| letter.is_ascii_lowercase() || letter == b'-')
}

/// The steps that runs journal, each with its domain before it, with where: "logs/cut". Cares of databases name theirs in
/// `step`, which begins them.
fn steps() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (path, text) in sources() {
        let mut calls = vec![".begin("];
        if path.contains("operations/database/") {
            calls.push(".step(");
        }
        for rest in calls.into_iter().flat_map(|call| text.split(call).skip(1)) {
            let argument = first_argument(rest).trim();
            let constant = format!("const {argument}: &str = ");
            let named = match text.split_once(&constant) {
                Some((_, value)) => value.split(';').next().unwrap_or_default(),
                None => argument,
            };
            for name in literals(named).filter(|name| is_step(name)) {
                found.insert(format!("{}/{name}", domain(&path)), path.clone());
            }
        }
    }
    found
}

/// What a source is about: the part of its path behind that of all operations.
fn domain(path: &str) -> &str {
    let behind = path.split_once("operations/").map_or(path, |(_, behind)| behind);
    behind.split(['/', '.']).next().unwrap_or_default()
}

/// Scenarios that hold one of `means`.
fn scenarios_with(means: &[&str]) -> Vec<String> {
    let others = files("tests/scenarios").into_iter();
    let others = others.filter(|path| !path.ends_with("/failpoints.rs"));
    let texts = others.map(|path| fs::read_to_string(root().join(path)).unwrap());
    texts.filter(|text| means.iter().any(|means| text.contains(means))).collect()
}

/// Those of `points` that no scenario names which uses one of `means`.
fn missing(points: &BTreeMap<String, String>, means: &[&str]) -> Vec<String> {
    let scenarios = scenarios_with(means);
    let is_named = |name: &str| {
        // Alone, or before the file that lets the agent go on.
        let quoted = [format!("\"{name}\""), format!("\"{name}:")];
        scenarios.iter().any(|text| quoted.iter().any(|quoted| text.contains(quoted)))
    };
    let missing = points.iter().filter(|(name, _)| !is_named(name));
    missing.map(|(name, path)| format!("{name} ({path})")).collect()
}

const KILLED: [&str; 2] = ["start_with_failpoint(", "cut_off("];

#[test]
fn at_every_fail_point_a_scenario_kills_the_agent() {
    let points = named("failpoint::hit(");
    assert!(points.len() > 100, "they are found: {points:?}");
    let missing = missing(&points, &KILLED);
    assert!(missing.is_empty(), "no scenario dies at these:\n{}", missing.join("\n"));
}

#[test]
fn in_every_step_of_a_run_a_scenario_kills_the_agent() {
    let steps = steps();
    assert!(steps.len() > 30, "they are found: {steps:?}");
    for (step, point) in BESIDE {
        assert!(steps.contains_key(step), "{step} is no step any more");
        assert!(named("failpoint::hit(").contains_key(point), "{point} is no fail point any more");
    }
    let beside: BTreeSet<&str> = BESIDE.iter().map(|(step, _)| *step).collect();
    let alone: Vec<_> =
        steps.into_iter().filter(|(step, _)| !beside.contains(step.as_str())).collect();
    // Of a name that several domains have, each has a test of its own that speaks of the domain.
    let scenarios = scenarios_with(&KILLED);
    let tests: Vec<&str> = scenarios.iter().flat_map(|text| text.split("#[test]")).collect();
    let is_killed = |step: &str| {
        let (domain, name) = step.split_once('/').unwrap_or(("", step));
        let shared = alone.iter().filter(|(other, _)| other.ends_with(&format!("/{name}"))).count();
        let point = format!("\"step.{name}\"");
        tests.iter().any(|text| text.contains(&point) && (shared == 1 || text.contains(domain)))
    };
    let missing = alone.iter().filter(|(step, _)| !is_killed(step));
    let missing: Vec<String> = missing.map(|(step, path)| format!("{step} ({path})")).collect();
    assert!(missing.is_empty(), "no scenario dies in these:\n{}", missing.join("\n"));
}

#[test]
fn at_every_point_where_the_agent_can_be_held_a_scenario_holds_it() {
    let points = named("failpoint::pause(");
    assert!(points.len() > 5, "they are found: {points:?}");
    let missing = missing(&points, &["GENESIS_PAUSE"]);
    assert!(missing.is_empty(), "no scenario waits at these:\n{}", missing.join("\n"));
}

#[test]
fn every_fault_that_a_disk_can_not_be_made_to_have_is_had_by_a_scenario() {
    let points = named("failpoint::fails(");
    assert!(points.len() > 2, "they are found: {points:?}");
    let missing = missing(&points, &["GENESIS_FAULT"]);
    assert!(missing.is_empty(), "no scenario has these:\n{}", missing.join("\n"));
}
