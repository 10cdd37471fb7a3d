//! Rollback of every component through one interface: back, undone, twice in a row, and cut off in the middle.

use std::path::Path;

use genesis_client::{Client, Options, v1};
use genesis_tests::backups::{Open, sqlite};
use genesis_tests::clock::{now, wait_until};
use genesis_tests::health::{Patient, config};
use genesis_tests::wall_clock::WallClock;
use genesis_tests::{Output, Signal, TestAgent};
use jiff::SignedDuration;
use serde_json::Value;

use crate::baselines::{self, Traffic};
use crate::matrices::{self, Feed, GOOD};

/// Whatever was in force is known to be good, and there is no check.
pub(crate) const AT_ONCE: &str = "[recovery]\nknown_good_after = \"0s\"\n";

/// Rolls a component back: what the host is like is another matter, so that the deep check may say anything.
pub(crate) fn back(agent: &TestAgent, component: &str, more: &[&str]) -> Value {
    let roll = ["rollback", "--component", component, "--reason", "a test", "--yes", "-o", "json"];
    let output = agent.ctl(&[&roll[..], more].concat());
    assert!(matches!(output.code, 0 | 3 | 5), "{component}: {} {}", output.code, said(&output));
    let done = output.response();
    if done["pending"].as_str().unwrap_or_default().contains("it goes on") {
        wait_until("the rollback's end", || {
            self::component(agent, component)["lastRollback"]["health"]
                != "COMPONENT_HEALTH_UNSPECIFIED"
        });
    }
    done
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", output.text(), output.stderr)
}

/// Refused, since there is no earlier point that is good.
fn no_further(agent: &TestAgent, component: &str) {
    let roll = ["rollback", "--component", component, "--reason", "a test", "--yes"];
    agent.ctl(&roll).exits(4).says(&["NO_EARLIER_POINT"]);
}

pub(crate) fn component(agent: &TestAgent, name: &str) -> Value {
    let list = agent.ctl(&["rollback", "points", "--component", name, "-o", "json"]).response();
    list["components"][0].clone()
}

fn current(agent: &TestAgent, name: &str) -> String {
    component(agent, name)["current"]["id"].as_str().unwrap_or_default().to_owned()
}

/// Back, undone, and back once more: what `read` reads is as it was, each time.
fn there_and_back(agent: &TestAgent, name: &str, read: &dyn Fn() -> Vec<u8>, old: &[u8]) {
    let new = read();
    assert_ne!(new, old, "{name}: there is something to go back to");
    let from = current(agent, name);
    let done = back(agent, name, &[]);
    assert_eq!(done["from"]["id"], from.as_str(), "{done}");
    assert!(!done["verified"].as_str().unwrap().is_empty(), "{done}");
    assert!(read() == old, "{name}: as it was before");
    no_further(agent, name);
    assert!(read() == old, "{name}: two in a row do not go forth again");
    back(agent, name, &["--to", &from]);
    assert!(read() == new, "{name}: undone");
    back(agent, name, &[]);
    assert!(read() == old, "{name}: back once more");
    no_further(agent, name);
    let last = component(agent, name)["lastRollback"].clone();
    assert_eq!((&last["outcome"], &last["reason"]), (&"done".into(), &"a test".into()), "{last}");
}

#[test]
fn the_configuration_is_rolled_back_and_undone_byte_by_byte() {
    let agent = TestAgent::started(|_| format!("{AT_ONCE}[contacts]\non_call = \"one\"\n"));
    let read = || std::fs::read(agent.config()).unwrap();
    let old = read();
    agent.configure(&format!("{AT_ONCE}[contacts]\non_call = \"two\"\n"));
    agent.ctl(&["config", "reload"]).ok();
    there_and_back(&agent, "config", &read, &old);
    agent.ctl(&["rollback", "--component", "confg", "--yes"]).exits(1).says(&[
        "COMPONENT_NOT_FOUND",
        "did you mean config?",
        "matrix",
    ]);
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn a_configuration_behind_a_link_is_replaced_there_and_what_waits_for_a_restart_is_said() {
    let mut agent = TestAgent::new(|_| format!("{AT_ONCE}[contacts]\non_call = \"one\"\n"));
    let real = agent.folder().join("real.toml");
    std::fs::rename(agent.config(), &real).unwrap();
    std::os::unix::fs::symlink(&real, agent.config()).unwrap();
    agent.start();
    let old = std::fs::read(&real).unwrap();
    let text = String::from_utf8(old.clone()).unwrap().replace("\"one\"", "\"two\"");
    std::fs::write(&real, text).unwrap();
    agent.restart();
    let done = back(&agent, "config", &["--to", "1"]);
    assert!(agent.config().symlink_metadata().unwrap().is_symlink());
    assert!(std::fs::read(&real).unwrap() == old);
    let seen = done["verified"].as_str().unwrap();
    assert!(seen.contains("runs without contacts until it is restarted"), "{seen}");
}

#[test]
fn a_point_is_known_to_be_good_once_it_has_stayed() {
    let agent = TestAgent::started(|_| "[contacts]\non_call = \"one\"\n".to_owned());
    agent.configure("[contacts]\non_call = \"two\"\n");
    agent.ctl(&["config", "reload"]).ok();
    let refused = agent.ctl(&["rollback", "--component", "config", "--yes"]);
    refused.exits(4).says(&["NO_EARLIER_POINT", "in force for", "--to"]);
    let points = component(&agent, "config");
    assert_eq!(points["points"][1]["standing"], "POINT_STANDING_UNKNOWN", "{points}");
    // Who knows better names it.
    back(&agent, "config", &["--to", "1"]);
    let points = component(&agent, "config");
    let left = points["points"].as_array().unwrap().iter().find(|it| it["id"] == "2").unwrap();
    assert_eq!(left["standing"], "POINT_STANDING_BAD", "{points}");
    assert!(left["why"].as_str().unwrap().contains("rolled back from"), "{points}");
}

#[test]
fn a_parameter_is_rolled_back_and_undone() {
    let agent = TestAgent::started(|_| AT_ONCE.to_owned());
    let set = |value: &str| {
        let value = format!("size={value}");
        agent.ctl(&["param", "set", "--strategy", "mm", &value, "--reason", "r"]).ok();
    };
    set("10");
    let read = || {
        let get = ["param", "get", "--strategy", "mm", "--unit", "a", "size"];
        agent.ctl(&get).ok().stdout
    };
    let old = read();
    set("20");
    there_and_back(&agent, "parameter:mm.size", &read, &old);
    // What people go back from by the verb of its own counts as well.
    set("30");
    agent.ctl(&["param", "rollback", "--strategy", "mm", "size", "--reason", "r", "--yes"]).ok();
    assert!(read() == old);
    no_further(&agent, "parameter:mm.size");
}

#[test]
fn the_matrix_is_rolled_back_and_undone() {
    let agent = TestAgent::started(|_| {
        let stages = "[matrices.rollout]\nstages = [\"100%\"]\n";
        let rest = matrices::CONFIG.replace("[matrices.rollout]\n", stages);
        format!("{AT_ONCE}{rest}")
    });
    matrices::with_a_matrix(&agent);
    let read = || agent.ctl(&["matrix", "show", "--format", "csv"]).ok().stdout;
    let old = read();
    // Where nothing is to be done there is nothing to give a reason for.
    let there = agent.ctl(&["rollback", "--component", "matrix", "--to", "1", "--yes"]).ok();
    there.says(&["already", "nothing was changed"]);
    matrices::push(&agent, "more.csv", &Feed::new(2).csv(400, &GOOD));
    agent.ctl(&["matrix", "update", "--reason", "the second"]).ok();
    assert_eq!(matrices::state_of(&agent, 2), "ACTIVE");
    agent.ctl(&["rollback", "--component", "matrix", "--yes"]).says(&["REASON_MISSING"]);
    there_and_back(&agent, "matrix", &read, &old);
    agent.ctl(&["matrix", "history"]).ok().says(&["ROLLED_BACK"]);
}

#[test]
fn a_baseline_is_rolled_back_and_undone() {
    let agent = TestAgent::started(|_| AT_ONCE.to_owned());
    let mut traffic = Traffic::new(3);
    baselines::history(&agent, &mut traffic, 0);
    let name = "baseline:orders.place";
    let read = || {
        let shown = baselines::shown(&agent);
        let mut judged_by = shown["operation"]["baseline"].clone();
        if let Some(judged_by) = judged_by.as_object_mut() {
            for of_the_generation in ["generation", "calculatedAt", "cause", "by", "reason"] {
                judged_by.remove(of_the_generation);
            }
        }
        assert!(judged_by.is_object(), "{shown}");
        serde_json::to_vec(&judged_by).unwrap()
    };
    let old = read();
    let at = now().as_second();
    let slower = traffic.csv("orders.place", at - 40 * 3_600, at - 2_000, 20_000, 3.0);
    let path = baselines::file(agent.folder(), "slower.csv", &slower);
    baselines::observe(&agent, &path, &[]).ok();
    agent.ctl(&["baseline", "recalculate"]).ok();
    there_and_back(&agent, name, &read, &old);
}

#[test]
fn a_certificate_is_rolled_back_and_undone() {
    let host = crate::certificates::Host::started(genesis_tests::acme::Pebble::start());
    let agent = &host.agent;
    host.renew();
    let old = std::fs::read(agent.certificate_folder("gw").join("gen-1/fullchain.pem")).unwrap();
    let read = || {
        let current = agent.certificate_folder("gw").join("current/fullchain.pem");
        let copy = std::fs::read(&host.served.fullchain).unwrap();
        assert!(std::fs::read(current).unwrap() == copy, "whoever serves it has the same");
        copy
    };
    let from = current(agent, "certificate:gw");
    back(agent, "certificate:gw", &["--to", "1"]);
    assert!(read() == old);
    assert_eq!(host.shown(), host.generation(1));
    assert_eq!(component(agent, "certificate:gw")["health"], "COMPONENT_HEALTH_GOOD");
    no_further(agent, "certificate:gw");
    back(agent, "certificate:gw", &["--to", &from]);
    assert_eq!(host.shown(), host.generation(2));
    back(agent, "certificate:gw", &["--to", "1"]);
    assert!(read() == old);
}

#[test]
fn a_release_is_rolled_back_and_undone() {
    use genesis_tests::application::{FIRST, Flaw};

    let host = genesis_tests::updates::Updates::started(AT_ONCE, "");
    let agent = &host.agent;
    let old = host.app.text("requirements.txt");
    host.publish("frames", "2.0.3", &Flaw::None);
    host.update("conservative").ok();
    let (made, new) = (host.app.linked(), host.app.text("requirements.txt"));
    let name = component(agent, "dependencies")["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("dependencies:"), "{name}");
    for _ in 0..2 {
        back(agent, &name, &[]);
        assert_eq!(host.app.linked(), FIRST);
        assert_eq!(host.app.text("requirements.txt"), old, "byte for byte");
        no_further(agent, &name);
        back(agent, &name, &["--to", &made]);
        assert_eq!(
            (host.app.linked(), host.app.text("requirements.txt")),
            (made.clone(), new.clone())
        );
    }
    let runs = agent.ctl(&["run", "list", "-o", "json"]).response().to_string();
    assert!(runs.contains("dependencies.rollback"), "by the run that people go back with: {runs}");
}

#[test]
fn a_deep_check_runs_and_an_incident_documents_it() {
    let mut agent = TestAgent::new(|_| String::new());
    let patient = Patient::new(agent.folder(), "pump");
    let check = patient.check().text("level", "deep").text("interval", "1h");
    let with = |on_call: &str| {
        format!("{AT_ONCE}[contacts]\non_call = \"{on_call}\"\n{}", config("", [&check]))
    };
    agent.configure(&with("one"));
    agent.start();
    agent.configure(&with("two"));
    agent.ctl(&["config", "reload"]).ok();
    let before = patient.looks();
    let roll = ["rollback", "--component", "config", "--reason", "wrong desk", "--yes"];
    let done = agent.ctl(&[&roll[..], &["-o", "json"]].concat()).ok().response();
    assert!(patient.looks() > before, "it was looked at though it was not due");
    assert_eq!(done["health"], "COMPONENT_HEALTH_GOOD", "{done}");
    let incident = done["incidentId"].as_str().unwrap().to_owned();
    agent.ctl(&["incident", "show", &incident]).ok().says(&[
        "ROLLBACK",
        "config was rolled back",
        "wrong desk",
        "from 2 to 1",
        "deep check: good",
        "rollback --component config --to 2",
    ]);
    patient.is(1);
    agent.ctl(&["rollback", "--component", "config", "--to", "2", "--yes"]).exits(3).says(&[
        "deep health check: BAD",
        "pump",
        "incident",
    ]);
    // It is undone by nobody but people, and is not over before they say so.
    assert_eq!(current(&agent, "config"), "4");
    agent.restart();
    let open = agent.ctl(&["incident", "list", "-o", "json"]).response();
    let open = open["incidents"].as_array().unwrap().clone();
    assert_eq!(open.len(), 2, "{open:?}");
    // The newest first: what does not do well goes on until somebody says what came of it.
    let states: Vec<_> = open.iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["INCIDENT_STATE_OPEN", "INCIDENT_STATE_OVER"], "{open:?}");
}

/// The command that an incident says it is undone by, as words.
fn undo_of(agent: &TestAgent, incident: &str) -> Vec<String> {
    let shown = agent.ctl(&["incident", "show", incident, "-o", "json"]).ok().response();
    let details = shown["incident"]["details"].as_array().unwrap();
    let lines: Vec<&str> = details
        .iter()
        .filter_map(|line| line.as_str().unwrap().strip_prefix("to undo it: genesisctl "))
        .collect();
    let [line] = lines[..] else { panic!("{details:?}") };
    // Only the reason has spaces, and is the last.
    match line.split_once(" '") {
        Some((words, reason)) => {
            let words = words.split(' ').map(str::to_owned);
            words.chain([reason.trim_end_matches('\'').to_owned()]).collect()
        }
        None => line.split(' ').map(str::to_owned).collect(),
    }
}

fn state_of(agent: &TestAgent, incident: &str) -> String {
    let shown = agent.ctl(&["incident", "show", incident, "-o", "json"]).ok().response();
    shown["incident"]["state"].as_str().unwrap().trim_start_matches("INCIDENT_STATE_").to_owned()
}

#[test]
fn the_incident_of_a_rollback_is_over_once_the_host_does_well() {
    let mut agent = TestAgent::new(|_| String::new());
    let patient = Patient::new(agent.folder(), "pump");
    let with = |on_call: &str| {
        let checks = config("", [&patient.check()]);
        format!("{AT_ONCE}[contacts]\non_call = \"{on_call}\"\n{checks}")
    };
    agent.configure(&with("one"));
    agent.start();
    let old = std::fs::read(agent.config()).unwrap();
    agent.configure(&with("two"));
    agent.ctl(&["config", "reload"]).ok();
    let new = std::fs::read(agent.config()).unwrap();
    patient.is(1);
    let roll = ["rollback", "--component", "config", "--yes", "-o", "json"];
    let id = agent.ctl(&roll).exits(3).response()["incidentId"].as_str().unwrap().to_owned();
    assert_eq!(state_of(&agent, &id), "OPEN");
    agent.kill();
    agent.start();
    assert_eq!(state_of(&agent, &id), "OPEN");
    patient.is(0);
    wait_until("it is over", || state_of(&agent, &id) == "OVER");
    agent.ctl(&["incident", "show", &id]).ok().says(&["the host does well by now"]);
    assert!(std::fs::read(agent.config()).unwrap() == old);
    // It says the command by which it is undone, word by word.
    let undo = undo_of(&agent, &id);
    let undo: Vec<&str> = undo.iter().map(String::as_str).chain(["--yes"]).collect();
    agent.ctl(&undo).ok();
    assert!(std::fs::read(agent.config()).unwrap() == new);
}

#[test]
fn a_clock_that_was_set_back_keeps_no_incident_of_a_rollback_open() {
    let mut agent = TestAgent::new(|_| String::new());
    let patient = Patient::new(agent.folder(), "pump");
    let clock = WallClock::of(&mut agent);
    let with = |on_call: &str| {
        let checks = config("", [&patient.check()]);
        format!("{AT_ONCE}[contacts]\non_call = \"{on_call}\"\n{checks}")
    };
    agent.configure(&with("one"));
    agent.start();
    agent.configure(&with("two"));
    agent.ctl(&["config", "reload"]).ok();
    patient.is(1);
    clock.ahead(SignedDuration::from_hours(1));
    let roll = ["rollback", "--component", "config", "--yes", "-o", "json"];
    let id = agent.ctl(&roll).exits(3).response()["incidentId"].as_str().unwrap().to_owned();
    clock.ahead(SignedDuration::ZERO);
    assert_eq!(state_of(&agent, &id), "OPEN");
    patient.is(0);
    wait_until("it is over", || state_of(&agent, &id) == "OVER");
}

#[test]
fn a_rollback_that_was_cut_off_is_looked_after_at_the_next_start() {
    for point in ["rollback.applied", "rollback.ended"] {
        let mut agent = TestAgent::new(|_| String::new());
        let patient = Patient::new(agent.folder(), "pump");
        let with = |on_call: &str| {
            let checks = config("", [&patient.check().text("interval", "1h")]);
            format!("{AT_ONCE}[contacts]\non_call = \"{on_call}\"\n{checks}")
        };
        agent.configure(&with("one"));
        agent.start();
        agent.configure(&with("two"));
        agent.ctl(&["config", "reload"]).ok();
        cut_off(&mut agent, point, "config", &[]);
        wait_until("the deep check", || {
            component(&agent, "config")["lastRollback"]["health"] == "COMPONENT_HEALTH_GOOD"
        });
        let incidents = agent.incidents();
        assert_eq!(incidents.len(), 1, "{point}: {incidents:?}");
        let last = component(&agent, "config")["lastRollback"].clone();
        assert_eq!(last["incidentId"], incidents[0]["id"], "{point}: {last}");
        agent.ctl(&["incident", "show", "last"]).ok().says(&["config was rolled back", "good"]);
        agent.restart();
        assert_eq!(agent.incidents().len(), 1, "{point}: it is documented once");
    }
}

#[test]
fn the_state_is_looked_after_once_it_has_taken_its_place() {
    let mut agent = TestAgent::new(|_| String::new());
    let patient = Patient::new(agent.folder(), "pump");
    agent.configure(&format!("{AT_ONCE}{}", config("", [&patient.check()])));
    agent.start();
    let (_, backup) = agent.backup("agent");
    let roll = ["rollback", "--component", "state", "--to", &backup.id, "--reason", "r", "--yes"];
    let roll = [&roll[..], &STATE[..], &["-o", "json"]].concat();
    let staged = |agent: &TestAgent| {
        // It is not done, however well the host does.
        let staged = agent.ctl(&roll).exits(5).response();
        assert_eq!(staged["health"], "COMPONENT_HEALTH_UNSPECIFIED", "{staged}");
        let id = staged["incidentId"].as_str().unwrap().to_owned();
        agent.ctl(&["incident", "show", &id]).ok().says(&["is about to be rolled back"]);
        assert_eq!(state_of(agent, &id), "OPEN");
        id
    };
    // Whoever has thought better of it does what the incident says.
    let first = staged(&agent);
    let told = component(&agent, "state")["why"].as_str().unwrap().to_owned();
    assert!(told.contains("takes effect at the next start: `systemctl restart"), "{told}");
    assert!(told.contains("--to live --confirm state"), "{told}");
    let undo = undo_of(&agent, &first);
    let undo: Vec<&str> = undo.iter().map(String::as_str).chain(["--yes"]).collect();
    agent.ctl(&undo).ok().says(&["state stays as it is", "nothing waits"]);
    assert_eq!(state_of(&agent, &first), "OVER");
    assert_eq!(agent.incidents().len(), 1, "to withdraw it is no rollback");
    agent.ctl(&undo).ok().says(&["already", "nothing was changed"]);

    let second = staged(&agent);
    agent.restart();
    wait_until("the deep check", || state_of(&agent, &second) == "OVER");
    agent.ctl(&["incident", "show", &second]).ok().says(&[
        "state was rolled back",
        // It is the one that was opened when it was asked for.
        "it is made when it has taken effect",
        "deep check: good",
        "the operation log went forward",
    ]);
    let last = component(&agent, "state")["lastRollback"].clone();
    assert_eq!(
        (&last["health"], &last["incidentId"]),
        (&"COMPONENT_HEALTH_GOOD".into(), &second.as_str().into())
    );
    // And is undone by what it says.
    let undo = undo_of(&agent, &second);
    assert!(undo.contains(&format!("before-{second}")), "{undo:?}");
    let undo: Vec<&str> = undo.iter().map(String::as_str).chain(["--yes"]).collect();
    agent.ctl(&undo).exits(5);
}

#[test]
fn what_was_not_well_is_not_gone_back_to_by_itself() {
    let agent = TestAgent::started(|_| format!("{AT_ONCE}[contacts]\non_call = \"one\"\n"));
    agent.ctl(&["incident", "open", "--title", "config: orders are lost"]).ok();
    agent.configure(&format!("{AT_ONCE}[contacts]\non_call = \"two\"\n"));
    agent.ctl(&["config", "reload"]).ok();
    let refused = agent.ctl(&["rollback", "--component", "config", "--yes"]);
    refused.exits(4).says(&["NO_EARLIER_POINT", "did not do well", "orders are lost"]);
    let points = component(&agent, "config");
    assert_eq!(points["points"][1]["standing"], "POINT_STANDING_BAD", "{points}");
    // Who knows better names it.
    back(&agent, "config", &["--to", "1"]);
}

#[test]
fn what_is_in_force_already_is_left_alone() {
    let agent = TestAgent::started(|_| AT_ONCE.to_owned());
    let roll = ["rollback", "--component", "config", "--to", "1"];
    agent.ctl(&[&roll[..], &["--yes"]].concat()).ok().says(&["already", "nothing was changed"]);
    agent.ctl(&[&roll[..], &["--plan"]].concat()).ok().says(&["there is nothing to do"]);
    assert!(agent.incidents().is_empty());
    assert!(component(&agent, "config")["lastRollback"].is_null());
    // What a component takes no notice of is refused.
    for more in [["--confirm", "config"], ["--into", "/srv/x"]] {
        let refused = agent.ctl(&[&roll[..], &more, &["--yes"]].concat());
        refused.exits(2).says(&["ARGUMENT_NOT_TAKEN", more[0]]);
    }
}

#[test]
fn a_broken_file_goes_back_to_the_last_good_configuration() {
    let mut agent = TestAgent::new(|_| format!("{AT_ONCE}[contacts]\non_call = \"one\"\n"));
    agent.tell_a_relative_path();
    agent.start();
    let good = std::fs::read(agent.config()).unwrap();
    std::fs::write(agent.config(), "[listen\n").unwrap();
    agent.ctl(&["config", "reload"]).exits(4);
    let done = back(&agent, "config", &[]);
    assert_eq!((&done["from"]["id"], &done["to"]["id"]), (&"file".into(), &"1".into()), "{done}");
    assert!(std::fs::read(agent.config()).unwrap() == good);
    assert_eq!(done["undo"], "", "a file that was never in force is no point");
    let kept = agent.state().join(format!("agent.toml.before-{}", done["id"].as_str().unwrap()));
    assert!(done["verified"].as_str().unwrap().contains(kept.to_str().unwrap()), "{done}");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "[listen\n");
    agent.restart();
    assert_eq!(current(&agent, "config"), "1");
}

#[test]
fn the_components_show_which_one_failed() {
    let agent = TestAgent::started(|_| AT_ONCE.to_owned());
    agent.ctl(&["param", "set", "--strategy", "mm", "size=1", "--reason", "r"]).ok();
    let list = agent.ctl(&["rollback", "components"]).ok();
    list.says(&["config", "GOOD", "state", "matrix", "UNKNOWN", "parameter:mm.size"]);
    std::fs::write(agent.config(), "[listen\n").unwrap();
    let all = agent.ctl(&["rollback", "components", "-o", "json"]).ok().response();
    let config = all["components"].as_array().unwrap().iter().find(|it| it["name"] == "config");
    assert_eq!(config.unwrap()["health"], "COMPONENT_HEALTH_BAD", "{all}");
    agent.ctl(&["rollback", "components", "parameter"]).ok().says(&["parameter:mm.size"]);
    agent.ctl(&["rollback", "components", "parameter:mm.nope"]).exits(1).says(&["mm.size?"]);
}

#[test]
fn in_an_emergency_rollbacks_go_on() {
    let agent = TestAgent::started(|_| format!("{AT_ONCE}[contacts]\non_call = \"one\"\n"));
    agent.configure(&format!("{AT_ONCE}[contacts]\non_call = \"two\"\n"));
    agent.ctl(&["config", "reload"]).ok();
    agent.ctl(&["emergency", "activate", "--reason", "feed"]).ok();
    back(&agent, "config", &[]);
    assert_eq!(current(&agent, "config"), "3");
}

/// Each place in which a rollback may be cut off, and whether it is as after it then.
#[test]
fn a_rollback_that_is_cut_off_is_as_before_or_as_after_and_the_journal_says_which() {
    for (point, after) in [
        ("rollback.announced", false),
        ("config.rollback-written", true),
        ("rollback.applied", true),
        ("rollback.ended", true),
    ] {
        let mut agent = TestAgent::started(|_| format!("{AT_ONCE}[contacts]\non_call = \"one\"\n"));
        let old = std::fs::read(agent.config()).unwrap();
        agent.configure(&format!("{AT_ONCE}[contacts]\non_call = \"two\"\n"));
        agent.ctl(&["config", "reload"]).ok();
        let new = std::fs::read(agent.config()).unwrap();
        cut_off(&mut agent, point, "config", &[]);
        let now = std::fs::read(agent.config()).unwrap();
        assert!(now == if after { &old[..] } else { &new[..] }, "{point}");
        settled(&agent, point, "config", after);
        if after {
            no_further(&agent, "config");
        } else {
            back(&agent, "config", &[]);
            assert!(std::fs::read(agent.config()).unwrap() == old, "{point}");
        }
    }
}

/// Rolls back on an agent that dies at a fail point, and starts the next one.
pub(crate) fn cut_off(agent: &mut TestAgent, point: &str, component: &str, more: &[&str]) {
    agent.terminate();
    agent.start_with_failpoint(point, 1);
    agent.wait_ready();
    let roll = ["rollback", "--component", component, "--reason", "a test", "--yes"];
    let failed = agent.ctl(&[&roll[..], more].concat());
    assert_ne!(failed.code, 0, "{point}");
    agent.wait_killed();
    agent.start();
}

pub(crate) fn settled(agent: &TestAgent, point: &str, name: &str, after: bool) {
    let last = component(agent, name)["lastRollback"].clone();
    let expected = if after { "done" } else { "failed" };
    assert_eq!(last["outcome"], expected, "{point}: {last}");
    let entries = entries_of(agent, last["id"].as_str().unwrap());
    let outcomes: Vec<&str> = entries.iter().map(|it| it["outcome"].as_str().unwrap()).collect();
    // Announced first, and its end written down once, as it was.
    assert_eq!(outcomes.first(), Some(&"intent"), "{point}: {entries:?}");
    let end = outcomes.last().copied().unwrap_or_default();
    match after {
        true => assert_eq!(end, "ok", "{point}: {entries:?}"),
        false => assert!(
            ["ROLLBACK_CUT_OFF", "STATE_ROLLBACK_FAILED", "withdrawn"].contains(&end),
            "{point}: {entries:?}"
        ),
    }
    assert_eq!(outcomes.iter().filter(|it| **it == end).count(), 1, "{point}: {entries:?}");
    assert!(entries.iter().all(|it| it["target"] == name), "{point}: {entries:?}");
    agent.ctl(&["oplog", "verify"]).ok();
}

/// The entries of the operation log about one rollback, the oldest first.
pub(crate) fn entries_of(agent: &TestAgent, id: &str) -> Vec<Value> {
    let list = ["oplog", "list", "--action", "rollback", "--limit", "200", "-o", "json"];
    let list = agent.ctl(&list).ok().response();
    let mut entries = list["entries"].as_array().cloned().unwrap_or_default();
    entries.retain(|it| it["correlationId"] == id && it["action"] == "rollback");
    entries.sort_by_key(|it| it["sequence"].as_str().unwrap_or("0").parse::<u64>().unwrap());
    entries
}

#[test]
fn every_other_component_is_as_before_or_as_after_when_it_is_cut_off() {
    for point in ["rollback.announced", "rollback.applied"] {
        let after = point == "rollback.applied";
        let mut agent = TestAgent::started(|_| AT_ONCE.to_owned());
        for value in ["size=10", "size=20"] {
            agent.ctl(&["param", "set", "--strategy", "mm", value, "--reason", "r"]).ok();
        }
        cut_off(&mut agent, point, "parameter:mm.size", &[]);
        let get = ["param", "get", "--strategy", "mm", "--unit", "a", "size"];
        agent.ctl(&get).ok().says(&[if after { "10" } else { "20" }]);
        settled(&agent, point, "parameter:mm.size", after);
    }
    for (point, after) in [("rollback.announced", false), ("baselines.rolled-back", true)] {
        let mut agent = TestAgent::started(|_| AT_ONCE.to_owned());
        let mut traffic = Traffic::new(3);
        baselines::history(&agent, &mut traffic, 0);
        let at = now().as_second();
        let slower = traffic.csv("orders.place", at - 40 * 3_600, at - 2_000, 20_000, 3.0);
        let path = baselines::file(agent.folder(), "slower.csv", &slower);
        baselines::observe(&agent, &path, &[]).ok();
        agent.ctl(&["baseline", "recalculate"]).ok();
        cut_off(&mut agent, point, "baseline:orders.place", &[]);
        settled(&agent, point, "baseline:orders.place", after);
    }
}

/// An agent with a backup of its state, from when the size was 10; it is 20 now.
pub(crate) fn with_backup() -> (TestAgent, String) {
    let agent = TestAgent::started(|_| AT_ONCE.to_owned());
    agent.ctl(&["param", "set", "--strategy", "mm", "size=10", "--reason", "r"]).ok();
    let (_, backup) = agent.backup("agent");
    agent.ctl(&["param", "set", "--strategy", "mm", "size=20", "--reason", "r"]).ok();
    (agent, backup.id)
}

pub(crate) fn size(agent: &TestAgent) -> String {
    let get = ["param", "get", "--strategy", "mm", "--unit", "a", "size"];
    String::from_utf8(agent.ctl(&get).ok().stdout).unwrap().trim().to_owned()
}

/// Sets the size to 30, unless this request was carried out already.
fn set_once(agent: &TestAgent, id: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = Options { request_id: Some(id.into()), ..Options::default() };
    let request = v1::SetParameterRequest {
        strategy: "mm".into(),
        name: "size".into(),
        value: "30".into(),
        ..Default::default()
    };
    let node = agent.node().parse().unwrap();
    let call = async move {
        let client = Client::connect(&node, options).await?;
        client.call(request, |c, r| async move { c.parameters().set_parameter(r).await }).await
    };
    runtime.block_on(call).unwrap();
}

pub(crate) const STATE: [&str; 2] = ["--confirm", "state"];

#[test]
fn the_state_goes_back_and_what_happened_goes_forward() {
    let (mut agent, backup) = with_backup();
    agent.ctl(&["rollback", "--component", "state", "--reason", "r", "--yes"]).exits(2);
    let named = ["rollback", "--component", "state", "--to", &backup, "--reason", "r", "--yes"];
    agent
        .ctl(&[&named[..], &["--confirm", "else"]].concat())
        .exits(2)
        .says(&["NAME_NOT_CONFIRMED"]);
    agent.ctl(&["emergency", "activate", "--reason", "feed"]).ok();
    agent.ctl(&["emergency", "release", "--reason", "over"]).ok();
    agent.ctl(&["emergency", "activate", "--reason", "feed again"]).ok();
    let emergency = agent.ctl(&["emergency", "status", "-o", "json"]).response();
    let id = ulid::Ulid::generate().to_string();
    set_once(&agent, &id);
    assert_eq!(size(&agent), "30");
    agent.ctl(&["schedule", "pause", "logs.local-retention", "--reason", "audit"]).ok();
    agent.ctl(&["breaker", "trip", "orders-api", "--reason", "wrong prices"]).ok();
    let head = agent.ctl(&["oplog", "verify", "-o", "json"]).ok().response();

    let done = back(&agent, "state", &[&["--to", backup.as_str()], &STATE[..]].concat());
    assert!(done["pending"].as_str().unwrap().contains("restart"), "{done}");
    assert_eq!(size(&agent), "30", "not before the agent starts again");
    agent.ctl(&["rollback", "components", "state"]).ok().says(&["takes effect at the next start"]);
    agent.restart();
    assert_eq!(size(&agent), "10");
    // Forward: the oplog, the emergency with its epoch, the ids of requests.
    let verified = agent.ctl(&["oplog", "verify", "-o", "json"]).ok().response();
    let entries = |it: &Value| it["entries"].as_str().unwrap_or("0").parse::<u64>().unwrap();
    assert!(entries(&verified) > entries(&head), "{head} {verified}");
    agent.ctl(&["oplog", "list", "--action", "state.restored"]).ok().says(&[&backup, "carried"]);
    let now = agent.ctl(&["emergency", "status", "-o", "json"]).response();
    assert_eq!(now["emergency"], emergency["emergency"], "{now}");
    assert_eq!(now["emergency"]["active"], true, "{now}");
    set_once(&agent, &id);
    assert_eq!(size(&agent), "10", "a request that was carried out is not carried out again");
    let last = component(&agent, "state")["lastRollback"].clone();
    assert_eq!(last["outcome"], "done", "{last}");
    // What is stopped is not started by it.
    let breaker = agent.ctl(&["breaker", "show", "orders-api", "-o", "json"]).response();
    assert!(breaker.to_string().contains("STATE_OPEN"), "{breaker}");
    let jobs = agent.ctl(&["schedule", "list", "-o", "json"]).ok().response();
    let job =
        jobs["jobs"].as_array().unwrap().iter().find(|it| it["name"] == "logs.local-retention");
    assert!(job.unwrap().to_string().contains("audit"), "{job:?}");
    // A number is not given twice: 1, 2 and 3 were given before.
    agent.ctl(&["param", "set", "--strategy", "mm", "size=40", "--reason", "r"]).ok();
    let history = ["param", "history", "--strategy", "mm", "size", "-o", "json"];
    let history = agent.ctl(&history).ok().response();
    let versions: Vec<&str> = history["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["version"].as_str().unwrap())
        .collect();
    assert!(versions.contains(&"4") && !versions.contains(&"2"), "{history}");

    // The state before is a point of its own.
    let undo = format!("before-{}", last["id"].as_str().unwrap());
    wait_until("the deep check of it", || {
        let last = component(&agent, "state")["lastRollback"].clone();
        last["health"] != "COMPONENT_HEALTH_UNSPECIFIED"
    });
    back(&agent, "state", &[&["--to", undo.as_str()], &STATE[..]].concat());
    agent.restart();
    assert_eq!(size(&agent), "30");
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn a_state_that_waits_can_be_withdrawn() {
    let (mut agent, backup) = with_backup();
    back(&agent, "state", &[&["--to", backup.as_str()], &STATE[..]].concat());
    back(&agent, "state", &[&["--to", "live"], &STATE[..]].concat());
    agent.restart();
    assert_eq!(size(&agent), "20");
}

#[test]
fn the_state_is_the_one_or_the_other_wherever_its_rollback_is_cut_off() {
    for point in ["rollback.announced", "state.staged"] {
        let (mut agent, backup) = with_backup();
        cut_off(&mut agent, point, "state", &[&["--to", backup.as_str()], &STATE[..]].concat());
        assert_eq!(size(&agent), "20", "{point}");
        settled(&agent, point, "state", false);
    }
    for point in ["state.carried", "state.linked", "state.swapped", "state.told"] {
        let (mut agent, backup) = with_backup();
        back(&agent, "state", &[&["--to", backup.as_str()], &STATE[..]].concat());
        agent.terminate();
        agent.start_with_failpoint(point, 1);
        agent.wait_killed();
        agent.start();
        assert_eq!(size(&agent), "10", "{point}");
        settled(&agent, point, "state", true);
    }
}

#[test]
fn a_copy_that_is_not_sound_leaves_the_state_as_it_is() {
    // Also where the agent that found it so is cut off before it could say so, or while it did.
    for point in ["", "state.opened", "state.withdrawn", "state.told"] {
        let (mut agent, backup) = with_backup();
        let done = back(&agent, "state", &[&["--to", backup.as_str()], &STATE[..]].concat());
        agent.terminate();
        let staged = format!("state.redb.restoring-{}", done["id"].as_str().unwrap());
        let staged = agent.state().join(staged);
        let bytes = std::fs::read(&staged).unwrap();
        std::fs::write(&staged, &bytes[..bytes.len() / 2]).unwrap();
        if !point.is_empty() {
            agent.start_with_failpoint(point, 1);
            agent.wait_killed();
        }
        if point == "state.told" {
            // What was told to have failed does not take the place, whatever becomes of the copy.
            std::fs::write(&staged, &bytes).unwrap();
        }
        agent.start();
        assert_eq!(size(&agent), "20", "{point}");
        settled(&agent, point, "state", false);
        let last = component(&agent, "state")["lastRollback"].clone();
        let why = last["detail"].as_str().unwrap();
        assert!(point == "state.withdrawn" || why.contains("not sound"), "{point}: {last}");
        assert_eq!(crate::rollback_state::copies(&agent), [""; 0], "{point}");
    }
}

#[test]
fn a_state_that_is_lost_is_told_and_can_be_had_back() {
    let (mut agent, backup) = with_backup();
    agent.ctl(&["emergency", "activate", "--reason", "feed"]).ok();
    agent.terminate();
    std::fs::remove_file(agent.database()).unwrap();
    agent.start();
    agent.ctl(&["oplog", "list", "--action", "state.lost"]).ok().says(&["STATE_LOST"]);
    let list = agent.ctl(&["rollback", "components", "state", "-o", "json"]).ok().response();
    assert_eq!(list["components"][0]["health"], "COMPONENT_HEALTH_BAD", "{list}");
    wait_until("people are told", || {
        said(&agent.ctl(&["alerts", "list"])).contains("state was lost")
    });
    let emergency = agent.ctl(&["emergency", "status", "-o", "json"]).response();
    assert_eq!(emergency["emergency"]["active"], true, "{emergency}");
    // Its backups are found again.
    back(&agent, "state", &[&["--to", backup.as_str()], &STATE[..]].concat());
    agent.restart();
    assert_eq!(size(&agent), "10");
    agent.ctl(&["oplog", "list", "--action", "state.lost"]).ok().says(&["STATE_LOST"]);
    agent.ctl(&["oplog", "verify"]).ok();
    // A host on which no agent was before is not one whose state was lost.
    let fresh = TestAgent::started(|_| String::new());
    let none = fresh.ctl(&["oplog", "list", "--action", "state.lost", "-o", "json"]).response();
    assert_eq!(none["entries"].as_array().map_or(0, Vec::len), 0, "{none}");
}

#[test]
fn a_database_is_restored_beside_what_runs_and_only_with_its_name() {
    let open = Open::new();
    let path = open.join("orders.db");
    sqlite(&path, "CREATE TABLE orders(id INTEGER); INSERT INTO orders VALUES (1), (2)");
    let agent = TestAgent::started(|_| {
        format!("[[database.instance]]\nname = \"orders\"\nurl = \"sqlite:{}\"\n", path.display())
    });
    let (_, backup) = agent.backup("orders");
    let name = "database:orders";
    let into = open.join("restored.db");
    let into = into.to_str().unwrap();
    let roll = ["rollback", "--component", name, "--reason", "drill", "--yes"];
    // Nothing is its default.
    agent
        .ctl(&[&roll[..], &["--confirm", "orders", "--into", into]].concat())
        .exits(2)
        .says(&["POINT_NOT_NAMED"]);
    let to = [&roll[..], &["--to", &backup.id]].concat();
    agent.ctl(&[&to[..], &["--confirm", "orders"]].concat()).exits(2).says(&["--into"]);
    let to = [&to[..], &["--into", into]].concat();
    agent.ctl(&to).exits(2).says(&["--confirm"]);
    agent.ctl(&[&to[..], &["--confirm", "order"]].concat()).exits(2).says(&["NAME_NOT_CONFIRMED"]);
    assert!(!Path::new(into).exists());
    let plan = ["rollback", "--component", name, "--to", &backup.id, "--into", into, "--plan"];
    agent.ctl(&plan).ok().says(&["copy", "verify", "put", "by-hand", "--confirm orders"]);
    sqlite(&path, "DELETE FROM orders");
    let done = back(&agent, name, &["--to", &backup.id, "--into", into, "--confirm", "orders"]);
    assert!(done["verified"].as_str().unwrap().contains("Next: stop what uses"), "{done}");
    assert_eq!(done["undo"], "", "what runs was not touched");
    let incident = done["incidentId"].as_str().unwrap();
    agent.ctl(&["incident", "show", incident]).ok().says(&["which is as it was"]);
    assert_eq!(sqlite(Path::new(into), "SELECT count(*) FROM orders").trim(), "2");
    assert_eq!(sqlite(&path, "SELECT count(*) FROM orders").trim(), "0", "what runs is left alone");
    let runs = agent.ctl(&["run", "list", "-o", "json"]).response().to_string();
    assert!(runs.contains("backup.restore"), "{runs}");
    agent.signal(Signal::TERM);
}
