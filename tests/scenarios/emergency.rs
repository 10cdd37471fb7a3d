//! The emergency flag: what must not go on refuses, over restarts and crashes, until it is released.

use std::future::Future;

use genesis_client::{Client, Error, Options, v1};
use genesis_tests::clock::wait_until;
use genesis_tests::{Ballast, TestAgent, lines, source};

fn host() -> TestAgent {
    TestAgent::new(|log| source("trading", &log.join("t.log"), "1GB"))
}

/// Calls the agent on its socket, saying why.
fn call<T, F>(agent: &TestAgent, reason: &str, send: impl FnOnce(Client) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let node = agent.node().parse().unwrap();
    let options = Options { reason: reason.into(), ..Options::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { send(Client::connect(&node, options).await?).await })
}

fn activate(agent: &TestAgent, reason: &str) -> Result<v1::ActivateEmergencyResponse, Error> {
    call(agent, reason, |client| async move {
        let request = v1::ActivateEmergencyRequest::default();
        client.call(request, |c, r| async move { c.recovery().activate_emergency(r).await }).await
    })
}

fn release(agent: &TestAgent, reason: &str, plan: &str) -> Result<v1::Emergency, Error> {
    call(agent, reason, |client| async move {
        let request = v1::ReleaseEmergencyRequest { plan_hash: plan.into(), fleet: false };
        let response = client
            .call(request, |c, r| async move { c.recovery().release_emergency(r).await })
            .await?;
        Ok(response.emergency.unwrap())
    })
}

fn status(agent: &TestAgent) -> v1::GetEmergencyResponse {
    call(agent, "", |client| async move {
        let request = v1::GetEmergencyRequest {};
        client.call(request, |c, r| async move { c.recovery().get_emergency(r).await }).await
    })
    .unwrap()
}

fn emergency(agent: &TestAgent) -> v1::Emergency {
    status(agent).emergency.unwrap()
}

#[test]
fn what_may_not_go_on_refuses_until_the_release_also_over_a_crash() {
    let mut agent = host();
    agent.start();
    let flag = agent.state().join("EMERGENCY");
    assert_eq!((emergency(&agent).active, emergency(&agent).epoch), (false, 0));
    let first = activate(&agent, "prices are wrong").unwrap();
    assert!(!first.was_active && flag.exists());
    let first = first.emergency.unwrap();
    let number = first.epoch;
    let declared = first.since.as_ref().unwrap().seconds;
    let declared = jiff::Timestamp::from_second(declared).unwrap();
    assert_eq!(number.to_string(), declared.strftime("%Y%m%d%H%M%S").to_string());
    assert_eq!(first.reason, "prices are wrong");
    let again = activate(&agent, "me too").unwrap();
    assert!(again.was_active);
    assert_eq!(again.emergency.unwrap(), first, "the first one stands");
    for _ in 0..2 {
        agent.ctl(&["schedule", "run", "storage.compact"]).exits(4).says(&["EMERGENCY"]);
        std::fs::write(agent.log("t.log"), lines::text(0..10)).unwrap();
        agent.ctl(&["logs", "rotate", "--log-type", "trading"]).ok();
        agent.ctl(&["status"]).exits(3).says(&[&format!("EMERGENCY {number} is in force")]);
        let now = status(&agent);
        assert_eq!(now.emergency.unwrap(), first);
        let goes_on = |kind: &str| now.stances.iter().find(|s| s.kind == kind).unwrap().goes_on;
        assert!(goes_on("logs.rotate") && goes_on("rollback") && !goes_on("storage.compact"));
        agent.kill();
        agent.start();
    }
    assert_eq!(release(&agent, "", "").unwrap_err().reason, "REASON_MISSING");
    assert_eq!(release(&agent, "over", "0123456789abcdef").unwrap_err().reason, "PLAN_CHANGED");
    assert!(emergency(&agent).active, "nothing was done");
    let over = release(&agent, "prices are right again", "").unwrap();
    assert_eq!(
        (over.active, over.epoch, over.release_reason.as_str()),
        (false, number, "prices are right again")
    );
    assert!(!flag.exists());
    assert_eq!(release(&agent, "again", "").unwrap_err().reason, "NO_EMERGENCY");
    agent.ctl(&["schedule", "run", "storage.compact"]).ok();
    agent.restart();
    assert!(!emergency(&agent).active);
    let second = activate(&agent, "").unwrap().emergency.unwrap().epoch;
    assert!(second > number, "{second} after {number}");
    agent
        .ctl(&["oplog", "list", "--action", "emergency."])
        .ok()
        .says(&["emergency.released", &format!("emergency {second}")]);
}

#[test]
fn killed_in_the_middle_it_is_in_force_and_released_it_stays_released() {
    let mut agent = host();
    agent.start_with_failpoint("emergency.filed", 1);
    agent.wait_ready();
    let cut_off = activate(&agent, "before the record").unwrap_err();
    assert_eq!(cut_off.reason, "OUTCOME_UNKNOWN");
    agent.wait_killed();
    agent.start();
    let found = emergency(&agent);
    let text = std::fs::read_to_string(agent.state().join("EMERGENCY")).unwrap();
    assert!(
        found.active && text.starts_with(&format!("epoch={}\n", found.epoch)),
        "{found:?} {text}"
    );
    let by = found.activated_by.as_str();
    assert_eq!(
        (found.reason.as_str(), by.starts_with("unix:uid=")),
        ("before the record", true),
        "{found:?}"
    );
    agent.kill();
    agent.start_with_failpoint("emergency.release-recorded", 1);
    agent.wait_ready();
    release(&agent, "over", "").unwrap_err();
    agent.wait_killed();
    assert!(agent.state().join("EMERGENCY").exists());
    agent.start();
    assert!(!emergency(&agent).active);
    assert!(!agent.state().join("EMERGENCY").exists());
}

#[test]
fn a_file_made_by_hand_declares_it_and_removing_the_file_does_not_end_it() {
    let mut agent = host();
    agent.start();
    let flag = agent.state().join("EMERGENCY");
    std::fs::write(&flag, "the network is down and I have a shell").unwrap();
    wait_until("the file is noticed", || emergency(&agent).active);
    assert!(emergency(&agent).reason.contains("I have a shell"));
    let declared = emergency(&agent);
    std::fs::remove_file(&flag).unwrap();
    wait_until("the file is back", || flag.exists());
    assert_eq!(emergency(&agent), declared);
    // Made by hand it gets its number, by which it is the same emergency also where the record is lost.
    std::fs::write(&flag, "so it is, still").unwrap();
    let number = format!("epoch={}\n", declared.epoch);
    wait_until("it has its number", || {
        std::fs::read_to_string(&flag).is_ok_and(|text| text.starts_with(&number))
    });
    agent.kill();
    std::fs::remove_file(agent.state().join("state.redb")).unwrap();
    agent.start();
    assert_eq!(emergency(&agent), declared);
}

#[test]
fn a_pipe_in_the_flags_place_hangs_nothing_and_counts_as_one() {
    let mut agent = host();
    agent.start();
    let flag = agent.state().join("EMERGENCY");
    let made = std::process::Command::new("mkfifo").arg(&flag).status().unwrap();
    assert!(made.success());
    wait_until("the pipe is noticed", || emergency(&agent).active);
    let (ended, _) = agent.terminate();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_flag_that_cannot_be_removed_keeps_it_in_force_and_the_agent_starts() {
    let mut agent = host();
    agent.start();
    activate(&agent, "prices are wrong").unwrap();
    let flag = agent.state().join("EMERGENCY");
    std::fs::remove_file(&flag).unwrap();
    std::fs::create_dir_all(flag.join("in-the-way")).unwrap();
    let stuck = release(&agent, "over", "").unwrap_err();
    assert_eq!(stuck.reason, "EMERGENCY_FLAG_STUCK");
    assert!(emergency(&agent).active);
    agent.kill();
    agent.start();
    assert!(emergency(&agent).active);
    let log = agent.ctl(&["oplog", "list", "--limit", "1000"]).ok();
    let text = log.text();
    assert_eq!(text.matches("emergency.activated").count(), 1, "{text}");
    assert!(text.contains("emergency.release-failed"), "{text}");
    std::fs::remove_dir_all(&flag).unwrap();
    release(&agent, "over", "").unwrap();
    assert!(!emergency(&agent).active);
}

#[test]
fn running_out_of_files_is_no_emergency() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};

    let mut agent = host();
    agent.start();
    agent.ctl(&["emergency", "status"]).ok();
    let pid = Pid::from_raw(agent.pid().cast_signed());
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(4), maximum: Some(4_096) });
    let watch = genesis_tests::clock::Watch::start();
    // The flag is looked at every second.
    wait_until("it was looked at", || watch.elapsed().as_millis() > 2_500);
    let now = Rlimit { current: Some(4_096), maximum: Some(4_096) };
    assert!(before.is_ok() && prlimit(pid, Resource::Nofile, now).is_ok());
    assert!(!emergency(&agent).active);
}

#[test]
fn on_a_full_disk_it_is_in_force_at_once_and_durable_as_soon_as_there_is_room() {
    let mut agent = TestAgent::with_small_disk(8, |_| String::new());
    agent.start();
    // A database with room in it gives that back when it is opened anew, as it is after each write in vain.
    agent.ctl(&["schedule", "run", "storage.compact"]).ok();
    let flag = agent.disk().join("EMERGENCY");
    let ballast = Ballast::fill(agent.disk().join("ballast"));
    // What the agent does when it starts may still give some room back.
    let no_room = || agent.ctl(&["oplog", "note", "is there room?"]).code == 7;
    wait_until("the disk is full, and stays so", || (0..20).all(|_| no_room()));
    let activate = ["emergency", "activate", "--reason", "prices are wrong"];
    let noted = || agent.ctl(&["oplog", "list"]).text().contains("emergency.activated");
    // Told as often as it is asked: an emergency that would be forgotten is no success.
    for _ in 0..2 {
        let said = agent.ctl(&activate);
        match said.code {
            // The database has given a page back, and the record has it.
            0 => assert!(flag.exists() || noted(), "{}", said.text()),
            _ => drop(said.exits(7).says(&["EMERGENCY_NOT_DURABLE", "free space"])),
        }
    }
    agent.ctl(&["emergency", "status"]).exits(3).says(&["EMERGENCY 2", "prices are wrong"]);
    agent.ctl(&["schedule", "run", "storage.compact", "--plan"]).exits(4).says(&["EMERGENCY"]);
    ballast.release();
    wait_until("it is in its file and in its record", || flag.exists() && noted());
    agent.ctl(&activate).ok().says(&[" was in force already"]);
    agent.ctl(&["emergency", "release", "--reason", "over"]).ok();
    assert!(!flag.exists());
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
}

#[test]
fn the_operator_declares_looks_and_releases_with_genesisctl() {
    let agent = TestAgent::started(|_| "[contacts]\non_call = \"the night desk\"\n".to_owned());
    agent
        .ctl(&["emergency", "status"])
        .ok()
        .says(&["no emergency is in force", "on call: the night desk"]);
    agent.ctl(&["emergency", "activate", "--plan"]).ok().says(&["raise-flag", "plan hash"]);
    agent.ctl(&["emergency", "status"]).ok();
    let activate = ["emergency", "activate", "--reason", "prices are wrong"];
    agent.ctl(&activate).ok().says(&[" is in force", "prices are wrong"]);
    agent.ctl(&activate).ok().says(&[" was in force already"]);
    let status = agent.ctl(&["emergency", "status"]).exits(3);
    let status = status.says(&[" is in force", "prices are wrong"]);
    status.says(&["waits for the release: ", "storage.compact", "goes on: ", "health.make-room"]);
    agent.ctl(&["emergency", "release"]).exits(2).says(&["--reason"]);
    let stale = ["emergency", "release", "--reason", "over", "--plan-hash", "0123456789abcdef"];
    agent.ctl(&stale).exits(9).says(&["PLAN_CHANGED"]);
    let plan = agent.ctl(&["emergency", "release", "--plan", "-o", "json"]).ok().response();
    let hash = plan["plan"]["hash"].as_str().unwrap();
    let release = ["emergency", "release", "--reason", "over", "--plan-hash", hash];
    agent.ctl(&release).ok().says(&[" is over since"]);
    agent.ctl(&["emergency", "status"]).ok().says(&["the last one, number 2", ": over"]);
    agent.ctl(&["emergency", "release", "--reason", "again"]).exits(9).says(&["NO_EMERGENCY"]);
}
