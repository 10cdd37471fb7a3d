//! The rollback of the agent's own state where it is cut off, withdrawn, or has nothing to go on with: it is told what it
//! came to, and nothing of what is known gets lost.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use genesis_tests::clock::wait_until;
use genesis_tests::{TestAgent, binaries};
use serde_json::Value;

use crate::rollback::{STATE, back, component, entries_of, said, settled, size, with_backup};

/// Copies that are to take the place, whole or not.
pub(crate) fn copies(agent: &TestAgent) -> Vec<String> {
    let names = std::fs::read_dir(agent.state()).unwrap();
    let names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("restor")).collect()
}

/// Has a backup wait for the next start; the rollback's id.
fn stage(agent: &TestAgent, to: &str) -> String {
    let done = back(agent, "state", &[&["--to", to], &STATE[..]].concat());
    assert!(done["pending"].as_str().unwrap().contains("restart"), "{done}");
    done["id"].as_str().unwrap().to_owned()
}

/// How the last entry about a rollback says that it ended.
fn end(agent: &TestAgent, id: &str) -> String {
    let entries = entries_of(agent, id);
    let last = entries.last().unwrap_or_else(|| panic!("an entry about {id}"));
    last["outcome"].as_str().unwrap().to_owned()
}

fn set(agent: &TestAgent, value: &str) {
    let value = format!("size={value}");
    agent.ctl(&["param", "set", "--strategy", "mm", &value, "--reason", "r"]).ok();
}

fn count(agent: &TestAgent, action: &str) -> usize {
    let list = agent.ctl(&["oplog", "list", "--action", action, "-o", "json"]).ok().response();
    list["entries"].as_array().map_or(0, Vec::len)
}

fn health(agent: &TestAgent) -> Value {
    let list = agent.ctl(&["rollback", "components", "state", "-o", "json"]).ok().response();
    list["components"][0]["health"].clone()
}

#[test]
fn of_two_copies_the_one_takes_the_place_that_was_wanted_when_it_was_cut_off() {
    for (point, expected) in [("state.staged", "10"), ("state.wanted", "20")] {
        let (mut agent, first) = with_backup();
        let (_, second) = agent.backup("agent");
        set(&agent, "30");
        agent.terminate();
        agent.start_with_failpoint(point, 2);
        agent.wait_ready();
        let waited = stage(&agent, &first);
        let again = ["rollback", "--component", "state", "--reason", "r", "--yes"];
        let failed = agent.ctl(&[&again[..], &["--to", &second.id], &STATE[..]].concat());
        assert_ne!(failed.code, 0, "{point}");
        agent.wait_killed();
        agent.start();
        assert_eq!(size(&agent), expected, "{point}");
        let last = component(&agent, "state")["lastRollback"]["id"].clone();
        let last = last.as_str().unwrap();
        assert_ne!(last, waited, "{point}");
        let ends = (end(&agent, &waited), end(&agent, last));
        let expected = match expected {
            "10" => ("ok".to_owned(), "ROLLBACK_CUT_OFF".to_owned()),
            _ => ("withdrawn".to_owned(), "ok".to_owned()),
        };
        assert_eq!(ends, expected, "{point}");
        assert_eq!(copies(&agent), [""; 0], "{point}: nothing is left");
    }
}

#[test]
fn a_withdrawal_that_is_cut_off_is_told_as_what_it_came_to() {
    // The second announcement is the withdrawal's.
    for (point, nth, withdrawn) in [("rollback.announced", 2, false), ("state.withdrawn", 1, true)]
    {
        let (mut agent, backup) = with_backup();
        agent.terminate();
        agent.start_with_failpoint(point, nth);
        agent.wait_ready();
        let waited = stage(&agent, &backup);
        let live = ["rollback", "--component", "state", "--to", "live", "--reason", "r", "--yes"];
        assert_ne!(agent.ctl(&[&live[..], &STATE[..]].concat()).code, 0, "{point}");
        agent.wait_killed();
        agent.start();
        assert_eq!(size(&agent), if withdrawn { "20" } else { "10" }, "{point}");
        settled(&agent, point, "state", withdrawn);
        let expected = if withdrawn { "withdrawn" } else { "ok" };
        assert_eq!(end(&agent, &waited), expected, "{point}");
        // The withdrawal has no incident, and that of what waited is over with it or tells what came of it.
        wait_until("the incident", || {
            let list = agent.ctl(&["incident", "list", "-o", "json"]).response();
            let incidents = list["incidents"].as_array().cloned().unwrap_or_default();
            let title = incidents.first().map(|it| it["title"].to_string()).unwrap_or_default();
            let open = incidents.iter().filter(|it| it["state"] == "INCIDENT_STATE_OPEN").count();
            let told = match withdrawn {
                true => open == 0,
                false => title.contains("was rolled back"),
            };
            incidents.len() == 1 && told
        });
        assert_eq!(copies(&agent), [""; 0], "{point}");
    }
}

#[test]
fn what_could_not_be_staged_is_as_before_or_said_not_to_be_known() {
    for (fault, outcome) in [("state.staging", "failed"), ("state.unsynced", "unknown")] {
        let (mut agent, backup) = with_backup();
        agent.terminate();
        let path = agent.folder().join("fault");
        std::fs::write(&path, "").unwrap();
        agent.environment("GENESIS_FAULT", &format!("{fault}:{}", path.display()));
        agent.start();
        let roll = ["rollback", "--component", "state", "--to", &backup, "--reason", "r", "--yes"];
        let failed = agent.ctl(&[&roll[..], &STATE[..]].concat());
        assert_ne!(failed.code, 0, "{fault}");
        let last = component(&agent, "state")["lastRollback"].clone();
        assert_eq!(last["outcome"], outcome, "{fault}: {last}");
        std::fs::remove_file(&path).unwrap();
        agent.restart();
        // What was told to be as before does not take the place later; what was not known is looked at.
        assert_eq!(size(&agent), "20", "{fault}");
        settled(&agent, fault, "state", false);
        assert_eq!(copies(&agent), [""; 0], "{fault}");
        // And what it has come to is looked after, also where it was not known before.
        wait_until("the incident", || {
            let list = agent.ctl(&["incident", "list", "-o", "json"]).response();
            let title = list["incidents"][0]["title"].as_str().unwrap_or_default().to_owned();
            title.contains("state was not rolled back: it is as before")
        });
    }
}

#[test]
fn a_copy_that_is_gone_has_taken_the_place_only_where_the_state_says_so() {
    let (mut agent, backup) = with_backup();
    let id = stage(&agent, &backup);
    agent.terminate();
    std::fs::remove_file(agent.state().join(format!("state.redb.restoring-{id}"))).unwrap();
    agent.start();
    assert_eq!(size(&agent), "20");
    settled(&agent, "gone", "state", false);
    let last = component(&agent, "state")["lastRollback"].clone();
    assert!(last["detail"].as_str().unwrap().contains("gone"), "{last}");
}

#[test]
fn a_state_that_can_not_be_opened_just_now_is_not_given_up() {
    let (mut agent, backup) = with_backup();
    let id = stage(&agent, &backup);
    agent.terminate();
    let held = File::open(agent.database()).unwrap();
    held.lock().unwrap();
    let ended = agent.try_start().unwrap_err();
    assert!(ended.stderr.contains("STORAGE_IN_USE"), "{ended:?}");
    assert!(agent.state().join(format!("state.redb.restoring-{id}")).exists(), "it still waits");
    drop(held);
    agent.start();
    assert_eq!(size(&agent), "10");
    settled(&agent, "held", "state", true);
    assert_eq!(entries_of(&agent, &id).len(), 3, "announced, staged, done");
    assert_ne!(health(&agent), "COMPONENT_HEALTH_BAD", "nothing was lost");
}

#[test]
fn where_nothing_could_go_forward_it_is_told_whenever_it_is_cut_off() {
    for point in ["", "state.carried", "state.swapped", "state.opened"] {
        for gone in [false, true] {
            let (mut agent, backup) = with_backup();
            let id = stage(&agent, &backup);
            agent.terminate();
            match gone {
                true => std::fs::remove_file(agent.database()).unwrap(),
                false => std::fs::write(agent.database(), vec![7; 8_192]).unwrap(),
            }
            if !point.is_empty() {
                agent.start_with_failpoint(point, 1);
                agent.wait_killed();
            }
            agent.start();
            let what = format!("{point} {gone}");
            assert_eq!(size(&agent), "10", "{what}");
            assert_eq!(health(&agent), "COMPONENT_HEALTH_BAD", "{what}");
            let restored = ["oplog", "list", "--action", "state.restored"];
            agent.ctl(&restored).ok().says(&["STATE_GAP", &backup]);
            wait_until("people are told", || {
                said(&agent.ctl(&["alerts", "list"])).contains("nothing went forward")
            });
            assert_eq!(end(&agent, &id), "ok", "{what}");
            let last = component(&agent, "state")["lastRollback"].clone();
            assert_eq!((&last["id"], &last["outcome"]), (&id.clone().into(), &"done".into()));
            assert_eq!(count(&agent, "state.lost"), 0, "{what}: it is told once");
            let before = agent.state().join(format!("state.redb.before-{id}"));
            assert_eq!(before.exists(), !gone, "{what}: for whoever looks into it");
            agent.ctl(&["oplog", "verify"]).ok();
        }
    }
}

#[test]
fn a_state_that_was_lost_is_told_once_also_by_the_start_after_one_that_was_cut_off() {
    let (mut agent, backup) = with_backup();
    agent.terminate();
    std::fs::remove_file(agent.database()).unwrap();
    agent.start_with_failpoint("state.opened", 1);
    agent.wait_killed();
    agent.start();
    assert_eq!(count(&agent, "state.lost"), 1);
    assert_eq!(health(&agent), "COMPONENT_HEALTH_BAD");
    agent.restart();
    assert_eq!(count(&agent, "state.lost"), 1);
    // Nor is it any less lost while a backup waits.
    stage(&agent, &backup);
    assert_eq!(health(&agent), "COMPONENT_HEALTH_BAD");
    // Nor is it a loss where an agent was cut off in its first start.
    let mut fresh = TestAgent::new(|_| String::new());
    fresh.start_with_failpoint("state.opened", 1);
    fresh.wait_killed();
    fresh.start();
    assert_eq!(count(&fresh, "state.lost"), 0);
}

#[test]
fn every_backup_of_a_state_that_was_lost_is_found_also_later() {
    let (mut agent, first) = with_backup();
    let (_, second) = agent.backup("agent");
    agent.terminate();
    let away = agent.folder().join("away");
    std::fs::rename(&second.place, &away).unwrap();
    std::fs::remove_file(agent.database()).unwrap();
    agent.start();
    let known = |agent: &TestAgent| {
        let mut ids: Vec<String> =
            agent.backups("agent").backups.into_iter().map(|it| it.id).collect();
        ids.sort();
        ids
    };
    assert_eq!(known(&agent), std::slice::from_ref(&first));
    agent.terminate();
    std::fs::rename(&away, &second.place).unwrap();
    agent.start();
    assert_eq!(known(&agent), [first, second.id]);
}

#[test]
fn the_state_before_is_kept_whatever_the_clock_said() {
    let (mut agent, backup) = with_backup();
    // As if they had been made when the clock was years ahead.
    for number in 0..3 {
        let name = format!("state.redb.before-7Z{number}00000000000000000000000");
        std::fs::write(agent.state().join(name), "").unwrap();
    }
    let id = stage(&agent, &backup);
    agent.restart();
    assert_eq!(size(&agent), "10");
    let kept = |id: &str| agent.state().join(format!("state.redb.before-{id}")).exists();
    assert!(kept(&id), "the newest");
    let others = (0..3).filter(|it| kept(&format!("7Z{it}00000000000000000000000"))).count();
    assert_eq!(others, 2, "of more than three the oldest go");
    let undo = format!("before-{id}");
    stage(&agent, &undo);
    agent.restart();
    assert_eq!(size(&agent), "20");
}

/// The agent under strace; what `work` does with it, and the calls that make names and contents durable meanwhile.
fn traced<T>(agent: &TestAgent, work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let calls = agent.folder().join("calls.txt");
    let command = agent.command();
    let kinds = "trace=write,pwrite64,pwritev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat";
    let mut traced = Command::new("strace")
        .args(["-f", "-y", "-qq", "-s", "256", "-e", kinds, "-o"])
        .arg(&calls)
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("strace is needed by this test; tests/run installs it");
    wait_until("the traced agent to answer", || agent.ctl(&["status"]).code == 0);
    let done = work();
    let pid = std::fs::read_to_string(agent.state().join("agent.lock")).unwrap();
    binaries::tool("kill", &["-TERM", pid.trim()]);
    traced.wait().unwrap();
    let text = std::fs::read_to_string(&calls).unwrap();
    let whole = text.lines().filter(|line| !line.contains("resumed>"));
    (done, whole.map(str::to_owned).collect())
}

/// The place of the first call from `from` on that holds all of `words`.
#[track_caller]
fn place(calls: &[String], from: usize, words: &[&str]) -> usize {
    let found =
        calls.iter().skip(from).position(|call| words.iter().all(|word| call.contains(word)));
    from + found.unwrap_or_else(|| panic!("no {words:?} behind {from} of:\n{}", calls.join("\n")))
}

/// The place of the call before `named` that makes a file durable, behind the last that wrote to it.
#[track_caller]
fn flushed(calls: &[String], named: usize, file: &str) -> usize {
    let file = format!("{file}>");
    let writes = |call: &String| call.contains("write") && call.contains(&file);
    let last = calls[..named].iter().rposition(writes).expect("it was written to");
    place(&calls[..named], last, &["sync(", &file])
}

#[test]
fn a_copy_is_durable_before_it_is_wanted_and_wanted_until_its_end_is() {
    let (mut agent, backup) = with_backup();
    agent.terminate();
    let folder = format!("<{}>", agent.state().display());
    let (id, calls) = traced(&agent, || stage(&agent, &backup));
    let copy = format!("state.redb.restoring-{id}");
    let named = place(&calls, 0, &["rename", &format!("{copy}.new\""), &format!("{copy}\"")]);
    flushed(&calls, named, &format!("{copy}.new"));
    let durable = place(&calls, named, &["sync(", &folder]);
    let wanted = place(&calls, durable, &["rename", "state.restore.json\""]);
    place(&calls, wanted, &["sync(", &folder]);
    assert_eq!(place(&calls, 0, &["rename", "state.restore.json\""]), wanted, "not before");
    assert_eq!(place(&calls, 0, &["rename", &format!("{copy}\"")]), named, "not before");

    let ((), calls) = traced(&agent, || assert_eq!(size(&agent), "10"));
    let taken = place(&calls, 0, &["rename", &format!("{copy}\""), "state.redb\""]);
    let kept = place(&calls[..taken], 0, &["link", &format!("state.redb.before-{id}\"")]);
    place(&calls[..taken], kept, &["sync(", &folder]);
    flushed(&calls, taken, &copy);
    let durable = place(&calls, taken, &["sync(", &folder]);
    let told = place(&calls, durable, &["sync(", "state.redb>"]);
    let over = place(&calls, told, &["unlink", "state.restore.json\""]);
    place(&calls, over, &["sync(", &folder]);
    assert_eq!(place(&calls, 0, &["unlink", "state.restore.json\""]), over, "not before");
}
