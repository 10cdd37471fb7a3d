//! Updates that are cut off: the old or the new release is in service, whole, and the agent says which.

use std::path::Path;
use std::time::Duration;

use genesis_tests::application::{FIRST, Flaw};
use genesis_tests::clock::{Watch, wait_until};
use genesis_tests::random::Random;
use genesis_tests::updates::Updates;
use genesis_tests::{LoopDisk, TestAgent};
use serde_json::Value;

/// Nothing of an update that was cut off lies about.
fn nothing_lies_about(host: &Updates, what: &str) {
    for folder in [host.app.root(), host.app.path("releases")] {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains("genesis-"), "{what}: {} has {name}", folder.display());
        }
    }
}

/// What is in service answers, is what the link leads to, and what is locked; the agent says so.
fn consistent(host: &Updates, what: &str) -> String {
    wait_until("what is in service", || {
        let newest = host.newest();
        let over = ["SUCCEEDED", "ROLLED_BACK", "UNCHANGED"];
        let state = newest["state"].as_str().unwrap_or_default().to_owned();
        over.iter().any(|it| state.ends_with(it))
            && newest["restartOwed"] == false
            && host.app.runs()
    });
    let linked = host.app.linked();
    wait_until("what runs", || host.app.serves(&linked) && host.app.health() == 200);
    assert_eq!(host.app.running("frames"), host.locked("frames"), "{what}");
    let releases = host.app.releases();
    assert!(releases.contains(&linked), "{what}: {releases:?}");
    nothing_lies_about(host, what);
    linked
}

/// Points at which something may lie half written beside its place.
const LITTERED: [&str; 3] = ["dependencies.build", "dependencies.deploy", "dependencies.commit"];

fn killed_at(host: &mut Updates, point: &str) -> Value {
    host.agent.start_with_failpoint(point, 1);
    host.agent.wait_ready();
    let mut asked = host.agent.ctl_command(&["deps", "update", "--yes"]).spawn().unwrap();
    host.agent.wait_killed();
    if LITTERED.contains(&point) {
        // What may have been begun beside its place.
        std::fs::create_dir(host.app.path("releases/.genesis-work-other")).unwrap();
        std::fs::write(host.app.path(".genesis-new-other"), "half of it").unwrap();
        std::os::unix::fs::symlink("nowhere", host.app.path("current.genesis-new")).unwrap();
    }
    host.agent.start();
    let _ = asked.wait();
    host.newest()
}

/// An agent that is stopped and knows of no vulnerability.
fn stopped() -> Updates {
    let mut host = Updates::started("", "");
    host.agent.terminate();
    host
}

#[test]
fn killed_before_it_has_proven_itself_the_old_one_is_in_service() {
    let mut host = stopped();
    host.publish("frames", "2.0.1", &Flaw::None);
    let before = host.app.text("requirements.txt");
    for point in [
        "dependencies.begun",
        "dependencies.backup",
        "dependencies.resolve",
        "dependencies.scan",
        "dependencies.build",
        "dependencies.built",
        "dependencies.test",
        "dependencies.tested",
        "dependencies.deploy",
        "dependencies.linked",
        "dependencies.restart",
        "dependencies.restarted",
        "dependencies.health",
    ] {
        let newest = killed_at(&mut host, point);
        assert_eq!(newest["state"], "UPDATE_STATE_ROLLED_BACK", "{point}: {newest}");
        assert_eq!(newest["errorCode"], "INTERRUPTED", "{point}: {newest}");
        assert_eq!(consistent(&host, point), FIRST, "{point}");
        assert_eq!(host.app.text("requirements.txt"), before, "{point}");
        wait_until("what was made is gone", || host.app.releases() == [FIRST]);
        let run = host.agent.ctl(&["run", "show", newest["id"].as_str().unwrap()]);
        assert!(run.text().contains("undone: "), "{point}: {}", run.text());
        host.agent.terminate();
    }
    host.agent.start();
    host.update("conservative").ok();
    assert_eq!(host.app.running("frames"), "2.0.1");
}

#[test]
fn killed_after_it_has_proven_itself_the_new_one_is_in_service() {
    let mut host = stopped();
    let points = ["dependencies.commit", "dependencies.written", "dependencies.succeeded"];
    for (number, point) in points.into_iter().enumerate() {
        let version = format!("2.0.{}", number + 1);
        host.publish("frames", &version, &Flaw::None);
        let newest = killed_at(&mut host, point);
        assert_eq!(newest["state"], "UPDATE_STATE_SUCCEEDED", "{point}: {newest}");
        assert_eq!(consistent(&host, point), newest["toGeneration"].as_str().unwrap(), "{point}");
        assert_eq!(host.app.running("frames"), version, "{point}");
        host.agent.terminate();
    }
}

#[test]
fn killed_while_it_is_taken_back_it_is_taken_back_by_the_next_agent() {
    let mut host = stopped();
    host.publish("frames", "2.0.1", &Flaw::BreaksAfter(1));
    let before = host.app.text("requirements.txt");
    for point in ["dependencies.undoing", "dependencies.back", "dependencies.restarted-back"] {
        let newest = killed_at(&mut host, point);
        assert_eq!(newest["errorCode"], "HEALTH_WINDOW_FAILED", "{point}: {newest}");
        assert_eq!(consistent(&host, point), FIRST, "{point}");
        assert_eq!(host.app.text("requirements.txt"), before, "{point}");
        host.agent.terminate();
    }
}

#[test]
fn killed_at_random_moments_there_is_always_one_release_in_service() {
    let mut host = Updates::started("", "");
    let mut random = Random::new(12);
    // `GENESIS_LONG=1` runs many more.
    let long = std::env::var_os("GENESIS_LONG").is_some_and(|value| value == "1");
    for round in 0..if long { 60 } else { 5 } {
        let flaw = if round % 3 == 2 { Flaw::Broken } else { Flaw::None };
        host.publish("frames", &format!("2.0.{}", round + 1), &flaw);
        let mut asked = host.agent.ctl_command(&["deps", "update", "--yes"]).spawn().unwrap();
        let (moment, watch) = (Duration::from_millis(random.within(100, 6_000)), Watch::start());
        wait_until("the moment", || watch.elapsed() >= moment);
        host.agent.kill();
        host.agent.start();
        let _ = asked.wait();
        consistent(&host, &format!("round {round}"));
    }
}

#[test]
fn on_a_full_disk_nothing_is_built_and_nothing_is_lost() {
    let disk = LoopDisk::ext4(24);
    let mut host = Updates::new("", "");
    let text = genesis_tests::updates::configured(&host.app, "", "", disk.path());
    host.agent.configure(&text);
    host.agent.start();
    host.know(&[]);
    let before = host.app.text("requirements.txt");
    // Half of what a release takes.
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![1; 12 << 20]).unwrap();
    host.publish("frames", "2.0.1", &Flaw::None);
    let failed = host.update("conservative");
    failed.exits(1);
    let newest = host.newest();
    assert_eq!(newest["failedIn"], "UPDATE_STATE_BUILD", "{newest}");
    assert_eq!(host.app.text("requirements.txt"), before);
    assert_eq!((host.app.linked().as_str(), host.app.running("frames")), (FIRST, "2.0.0".into()));
    let left = |agent: &TestAgent| {
        let _ = agent;
        let names = std::fs::read_dir(disk.path()).unwrap().flatten().map(|it| it.file_name());
        names.filter(|it| *it != "lost+found" && *it != "ballast").count()
    };
    assert_eq!(left(&host.agent), 0, "what was begun is removed");
    std::fs::remove_file(&ballast).unwrap();
    host.update("conservative").ok();
    assert_eq!(host.app.running("frames"), "2.0.1");
    assert!(
        Path::new(&std::fs::read_link(host.app.path("current")).unwrap()).starts_with(disk.path())
    );
    host.app.stop();
    host.agent.terminate();
}
