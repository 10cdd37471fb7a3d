//! Updates of a real application by real tools: what comes into service, and what does not.

use std::fs;

use genesis_tests::application::{FIRST, Flaw};
use genesis_tests::clock::{Watch, now, wait_until};
use genesis_tests::package_index::Listed;
use genesis_tests::updates::{CRITICAL, Updates, exploited, vulnerable};
use jiff::SignedDuration;

/// What nothing may have changed after an update that came to nothing.
fn untouched(host: &Updates, before: &str) {
    assert_eq!(host.app.text("requirements.txt"), before, "byte for byte");
    assert_eq!(host.app.linked(), FIRST);
    assert_eq!(host.app.releases(), [FIRST], "nothing is left");
    assert_eq!(host.app.running("frames"), "2.0.0");
    assert_eq!(host.app.health(), 200);
}

#[test]
fn a_conservative_update_comes_into_service_and_is_taken_back() {
    let host = Updates::started("", "");
    let before = host.app.text("requirements.txt");
    for (name, version) in
        [("frames", "2.0.3"), ("frames", "2.1.0"), ("ticks", "1.0.2"), ("ticks", "1.1.0")]
    {
        host.publish(name, version, &Flaw::None);
    }
    host.publish_at("frames", "2.0.4", &Flaw::None, now() - SignedDuration::from_hours(24));
    let known =
        vulnerable("CVE-2026-1001", "PyPI", "ticks", "0", "1.0.1", genesis_tests::updates::MEDIUM);
    host.know(&[known]);

    let check = host.agent.ctl(&["deps", "check"]).ok();
    check.says(&["frames", "2.0.3", "1.0.2", "CVE-2026-1001", "2.1.0"]);
    let plan = host.agent.ctl(&["deps", "update", "--plan"]).ok();
    plan.says(&["frames 2.0.0 -> 2.0.3", "ticks 1.0.0 -> 1.0.2", "mends CVE-2026-1001", "pytest"]);
    untouched(&host, &before);

    host.update("conservative").ok().says(&["SUCCEEDED", "frames", "2.0.3"]);
    assert_eq!((host.locked("frames"), host.locked("ticks")), ("2.0.3".into(), "1.0.2".into()));
    assert_eq!(host.app.running("frames"), "2.0.3", "what runs says so itself");
    assert_eq!(host.app.running("ticks"), "1.0.2", "a package that another one brings too");
    let made = host.app.linked();
    let after = host.app.text("requirements.txt");
    assert!(
        after.contains("--hash=sha256:") && after.contains("# via -r requirements.in"),
        "{after}"
    );
    assert!(!after.contains("genesis"), "{after}");
    host.agent.ctl(&["deps", "scan"]).ok();
    let project = host.project();
    assert_eq!(project["current"]["generation"], made, "{project}");
    assert_eq!(project["inMemory"], "TRUTH_PASS", "{project}");
    host.update("conservative").ok().says(&["nothing newer"]);
    assert_eq!(host.newest()["state"], "UPDATE_STATE_UNCHANGED");

    host.agent.ctl(&["deps", "rollback", "--plan"]).ok().says(&["deploy", "generation"]);
    host.agent.ctl(&["deps", "rollback", "--yes", "--reason", "a test"]).ok().says(&["SUCCEEDED"]);
    assert_eq!(host.app.text("requirements.txt"), before, "byte for byte");
    assert_eq!((host.app.linked().as_str(), host.app.running("frames")), (FIRST, "2.0.0".into()));
    // And forth again, to a generation by its number.
    host.agent.ctl(&["deps", "rollback", "--to", &made, "--yes"]).ok();
    assert_eq!(host.app.text("requirements.txt"), after);
    assert_eq!(host.app.running("frames"), "2.0.3");
    host.agent
        .ctl(&["deps", "rollback", "--to", "77", "--yes"])
        .exits(1)
        .says(&["RELEASE_NOT_FOUND"]);
    host.agent.ctl(&["oplog", "list", "--limit", "200"]).ok().says(&["dependencies.updated"]);
    host.agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn an_update_waits_for_the_release_of_an_emergency() {
    let host = Updates::started("", "");
    let before = host.app.text("requirements.txt");
    host.publish("frames", "2.0.3", &Flaw::None);
    host.agent.ctl(&["emergency", "activate", "--reason", "prices are wrong"]).ok();
    host.update("conservative").exits(4).says(&["EMERGENCY", "dependencies.update"]);
    untouched(&host, &before);
    let history = host.agent.ctl(&["deps", "history", "-o", "json"]).ok().response();
    assert_eq!(history["updates"], serde_json::json!([]), "none was begun");
    host.agent.ctl(&["emergency", "release", "--reason", "prices are right again"]).ok();
    host.update("conservative").ok().says(&["SUCCEEDED", "2.0.3"]);
    assert_eq!(host.app.running("frames"), "2.0.3");
}

#[test]
fn what_fails_its_tests_changes_nothing() {
    let host = Updates::started("", "");
    let before = host.app.text("requirements.txt");
    host.publish("frames", "2.0.1", &Flaw::Wrong);
    let failed = host.update("conservative");
    failed.exits(1).says(&["TESTS_FAILED"]);
    untouched(&host, &before);
    let newest = host.newest();
    assert_eq!(
        (&newest["state"], &newest["failedIn"]),
        (&"UPDATE_STATE_ROLLED_BACK".into(), &"UPDATE_STATE_TEST".into())
    );
    assert!(newest["testOutput"].as_str().unwrap().contains("failed"), "{newest}");
    let alerts = || host.agent.ctl(&["alerts", "list"]).text();
    wait_until("people hear of it", || alerts().contains("the update of app failed"));
}

#[test]
fn tests_that_do_not_end_are_ended_and_see_neither_network_nor_secrets() {
    let mut host = Updates::new("", "");
    host.agent.environment("SMTP_PASSWORD", "hunter2");
    host.agent.start();
    host.know(&[]);
    let before = host.app.text("requirements.txt");
    host.publish("frames", "2.0.1", &Flaw::Hangs);
    let watch = Watch::start();
    host.update("conservative").exits(1).says(&["TESTS_FAILED", "killed after 20 s"]);
    assert!(watch.elapsed().as_secs() < 60);
    untouched(&host, &before);
    // What a package does in the sandbox: it looks for the agent's state, the network, and writes beside itself.
    let state = host.agent.state();
    let port = host.app.health_url();
    let code = format!(
        "import os, socket, urllib.request\nassert 'SMTP_PASSWORD' not in os.environ, 'sees secrets'\nassert not os.path.exists({state:?}) or not os.listdir({state:?}), 'sees the state'\n\
         try:\n    urllib.request.urlopen({port:?}, timeout=2)\nexcept OSError:\n    pass\nelse:\n    raise SystemExit('sees the network')\n\
         try:\n    open({:?}, 'w')\nexcept OSError:\n    pass\nelse:\n    raise SystemExit('writes')\n",
        host.app.path("written")
    );
    let looks =
        format!("import sys\nif 'pytest' in sys.modules:\n    {}", code.replace('\n', "\n    "));
    host.publish("frames", "2.0.2", &Flaw::Runs(looks));
    host.update("conservative").ok();
    assert_eq!(host.app.running("frames"), "2.0.2");
    assert!(!host.app.path("written").exists());
}

#[test]
fn what_does_not_do_well_is_taken_back_within_ten_seconds() {
    let host = Updates::started("", "");
    let before = host.app.text("requirements.txt");
    // It starts well, and then does not; it does not do well from the start; it does not start.
    for (version, flaw) in
        [("2.0.1", Flaw::BreaksAfter(2)), ("2.0.2", Flaw::Broken), ("2.0.3", Flaw::Dies)]
    {
        host.publish("frames", version, &flaw);
        let failed = host.update("conservative");
        failed.exits(1).says(&["HEALTH_WINDOW_FAILED"]);
        untouched(&host, &before);
        let newest = host.newest();
        assert_eq!(newest["failedIn"], "UPDATE_STATE_HEALTH", "{newest}");
        assert_eq!(newest["restartOwed"], false, "{newest}");
        let run = host
            .agent
            .ctl(&["run", "show", newest["id"].as_str().unwrap(), "-o", "json"])
            .response();
        let steps = run["run"]["steps"].as_array().unwrap();
        let back = steps.iter().find(|it| it["name"] == "take-back").unwrap();
        let time = |key: &str| back[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let took = time("endedAt").duration_since(time("startedAt"));
        assert!(took.as_secs() < 10, "{version}: {back}");
    }
}

#[test]
fn what_would_do_harm_is_refused_before_anything_is_installed() {
    let host = Updates::started("", "");
    let before = host.app.text("requirements.txt");
    // The new version has a vulnerability that the old one does not have.
    host.publish("frames", "2.0.1", &Flaw::None);
    host.know(&[vulnerable("CVE-2026-1002", "PyPI", "frames", "2.0.1", "2.0.9", CRITICAL)]);
    host.agent
        .ctl(&["deps", "update", "--plan"])
        .exits(4)
        .says(&["UPDATE_VULNERABLE", "CVE-2026-1002"]);
    host.update("conservative").exits(4).says(&["UPDATE_VULNERABLE"]);
    assert_eq!(host.newest()["failedIn"], "UPDATE_STATE_SCAN");
    untouched(&host, &before);

    // An archive that is not what its index says.
    host.know(&[]);
    let lies = Listed { lies: true, ..Listed::at(now() - SignedDuration::from_hours(1_000)) };
    host.index.publish(&genesis_tests::application::library("frames", "2.0.2", &Flaw::None), lies);
    host.update("conservative").exits(1).says(&["BUILD_FAILED", "Hash mismatch"]);
    assert_eq!(host.newest()["failedIn"], "UPDATE_STATE_BUILD");
    untouched(&host, &before);

    // A plan that was made for something else.
    host.publish("frames", "2.0.3", &Flaw::None);
    let plan = host.agent.ctl(&["deps", "update", "--plan", "-o", "json"]).ok().response();
    let hash = plan["plan"]["hash"].as_str().unwrap().to_owned();
    host.publish("frames", "2.0.4", &Flaw::None);
    let changed = host.agent.ctl(&["deps", "update", "--plan-hash", &hash, "--yes"]);
    changed.says(&["PLAN_CHANGED"]);
    untouched(&host, &before);
}

#[test]
fn two_updates_at_once_are_one_and_a_refusal() {
    let host = Updates::started("", "");
    host.publish("frames", "2.0.1", &Flaw::Hangs);
    let mut first = host.agent.ctl_command(&["deps", "update", "--yes"]).spawn().unwrap();
    wait_until("the first one", || host.project()["running"] != "");
    host.update("conservative").exits(9).says(&["RUN_HELD"]);
    host.agent.ctl(&["deps", "rollback", "--to", "1", "--yes"]).exits(9).says(&["RUN_HELD"]);
    let run = host.project()["running"].as_str().unwrap().to_owned();
    host.agent.ctl(&["run", "cancel", &run, "--yes"]);
    let _ = first.wait().unwrap();
    wait_until("its end", || host.project()["running"] == "");
    assert_eq!(host.app.linked(), FIRST);
    wait_until("what is left", || host.app.releases() == [FIRST]);
}

#[test]
fn what_use_is_made_of_is_mended_at_once_and_its_clock_runs() {
    let host = Updates::started("", "min_release_age = \"30d\"\nstrategy = \"conservative\"");
    // Of today, beyond X.Y: only the security strategy takes it, and at once.
    host.publish_at("ticks", "1.1.0", &Flaw::None, now());
    host.publish("ticks", "1.2.0", &Flaw::None);
    let kev = host.agent.folder().join("kev.json");
    exploited(&kev, &["CVE-2026-1003"]);
    host.agent.ctl(&["deps", "import-advisories", kev.to_str().unwrap()]).ok();
    host.know(&[vulnerable("CVE-2026-1003", "PyPI", "ticks", "0", "1.1.0", CRITICAL)]);
    wait_until("the end of it", || host.newest()["state"] == "UPDATE_STATE_SUCCEEDED");
    assert_eq!(host.app.running("ticks"), "1.1.0");
    let newest = host.newest();
    assert_eq!(
        (&newest["exploited"], &newest["strategy"]),
        (&true.into(), &"UPDATE_STRATEGY_SECURITY".into())
    );
    assert_eq!(host.locked("ticks"), "1.1.0", "the smallest that is safe");
    assert_eq!(host.locked("frames"), "2.0.0", "and nothing else");
    let clocks = || host.agent.ctl(&["deps", "postmortem", "list", "-o", "json"]).ok().response();
    wait_until("the clock", || clocks()["clocks"][0]["state"] == "CLOCK_STATE_MENDED");
    let clock = &clocks()["clocks"][0];
    assert_eq!((&clock["exploited"], &clock["inTime"]), (&true.into(), &"TRUTH_PASS".into()));
    let close = [
        "deps",
        "postmortem",
        "close",
        "CVE-2026-1003",
        "--project",
        "app",
        "--note",
        "https://wiki/7",
    ];
    host.agent.ctl(&close).ok();
    host.agent.ctl(&close).exits(4).says(&["POSTMORTEM_NOT_DUE"]);
    assert_eq!(clocks()["clocks"].as_array().unwrap().len(), 0);
}

#[test]
fn a_finding_that_is_ignored_by_hand_is_heard_of_again_at_its_end() {
    let host = Updates::started("", "");
    let mut known = vulnerable("CVE-2026-1004", "PyPI", "frames", "0", "3", CRITICAL);
    known["aliases"] = serde_json::json!(["PYSEC-2026-4"]);
    host.know(&[known]);
    host.agent.ctl(&["deps", "scan"]).exits(3).says(&["CVE-2026-1004"]);
    let alerts = || host.agent.ctl(&["alerts", "list"]).text();
    wait_until("people hear of it", || alerts().contains("critical vulnerability CVE-2026-1004"));
    let until = (now() + SignedDuration::from_secs(4)).to_string();
    let ignore = ["deps", "ignore", "CVE-2026-1004", "--project", "app", "--until", &until];
    host.agent.ctl(&ignore).exits(2);
    host.agent.ctl(&[&ignore[..], &["--reason", "not reached"]].concat()).ok();
    host.agent.ctl(&["deps", "scan"]).ok().says(&["not reached"]);
    wait_until("its end", || host.agent.ctl(&["deps", "scan"]).code == 3);
    let far = [
        "deps",
        "ignore",
        "CVE-2026-1004",
        "--project",
        "app",
        "--until",
        "2027-01-01",
        "--reason",
        "x",
    ];
    host.agent.ctl(&far).ok();
    host.agent.ctl(&["deps", "scan"]).ok();
    host.agent.ctl(&["deps", "unignore", "PYSEC-2026-4", "--project", "app"]).ok();
    host.agent.ctl(&["deps", "scan"]).exits(3);
    assert!(fs::read_dir(host.agent.state()).is_ok());
}

#[test]
fn what_a_package_brings_is_not_run_outside_of_the_sandbox() {
    let host = Updates::started("", "");
    let before = host.app.text("requirements.txt");
    let escaped = host.app.path("escaped");
    let script = format!("#!/bin/sh\necho \"$0\" >>'{}'\nexit 0\n", escaped.display());
    let started = format!(
        "import os; os.path.isdir('{0}') and open('{0}/escaped', 'w')\n",
        host.app.root().display()
    );
    // It fails its tests, so that nothing of it may ever have come into service.
    let mut wheel = genesis_tests::application::library("frames", "2.0.1", &Flaw::Wrong);
    for name in ["setpriv", "bwrap", "sh", "cat", "env", "uv", "git"] {
        wheel = wheel.file(&format!("frames-2.0.1.data/scripts/{name}"), &script);
    }
    wheel = wheel.file("started.pth", &started);
    host.index.publish(&wheel, Listed::at(now() - SignedDuration::from_hours(1_000)));
    host.update("conservative").exits(1).says(&["TESTS_FAILED"]);
    let told = fs::read_to_string(&escaped);
    assert!(told.is_err(), "it ran: {told:?}");
    untouched(&host, &before);
}

#[test]
fn what_an_update_would_lose_is_refused_and_several_lines_of_one_package_stay() {
    let host = Updates::started("", "");
    for name in ["requirements.in", "requirements.txt"] {
        fs::rename(host.app.path(name), host.app.path(&format!("was-{name}"))).unwrap();
    }
    let with = |text: &str| fs::write(host.app.path("requirements.txt"), text).unwrap();
    for (text, why) in [
        ("--index-url https://elsewhere/simple\nframes==2.0.0\n", "--index-url"),
        ("-e .\nframes==2.0.0\n", "of which an update knows too little"),
        ("# uv pip compile pyproject.toml\nframes==2.0.0\n", "pyproject.toml"),
    ] {
        with(text);
        host.agent.ctl(&["deps", "check"]).exits(5).says(&["PROJECT_UNMANAGED", why]);
        host.know(&[]);
        let said = || host.project()["unmanagedWhy"].as_str().unwrap_or_default().to_owned();
        wait_until("the look", || said().contains(why));
        assert_eq!(host.project()["managed"], false);
    }
    // What can't be read is told.
    with("frames>=2\n");
    host.know(&[]);
    let alerts = || host.agent.ctl(&["alerts", "list"]).text();
    wait_until("people hear of it", || alerts().contains("not all that app has locked"));
    host.publish("frames", "2.0.3", &Flaw::None);
    host.publish("ticks", "1.0.5", &Flaw::None);
    fs::write(
        host.app.path("more.txt"),
        "ticks==1.0.0 ; python_version >= '3'\nticks==0.9 ; python_version < '3'\n",
    )
    .unwrap();
    fs::write(host.app.path("bounds.txt"), "frames<2.0.2\n").unwrap();
    with("# ours\nquotes==1.0.0\nframes==2.0.0  # why\n-r ./more.txt\n-c bounds.txt\npytest\n");
    host.publish("frames", "2.0.1", &Flaw::None);
    host.update("conservative").ok();
    let text = host.app.text("requirements.txt");
    assert!(
        text.starts_with("# ours\nquotes==1.0.0\nframes==2.0.1  # why\n-r ./more.txt\n"),
        "{text}"
    );
    assert_eq!(host.app.text("more.txt").lines().count(), 2);
    assert!(host.app.text("more.txt").starts_with("ticks==1.0.0 ;"), "several lines stay");
    assert_eq!(
        (host.app.running("frames"), host.app.running("ticks")),
        ("2.0.1".into(), "1.0.0".into())
    );
    // pytest is locked nowhere, and ticks in several lines: what is installed is what was chosen.
    let made = host.app.linked();
    host.update("conservative").ok().says(&["nothing newer"]);
    assert_eq!(host.app.linked(), made);
}

#[test]
fn the_monthly_job_updates_and_leaves_alone_what_was_taken_back_by_hand() {
    let host = Updates::started("", "");
    host.publish("frames", "2.0.1", &Flaw::None);
    host.agent.ctl(&["schedule", "run", "dependencies.monthly"]).ok();
    assert_eq!(host.app.running("frames"), "2.0.1");
    host.agent.ctl(&["deps", "rollback", "--yes", "--reason", "it is slow"]).ok();
    host.agent.ctl(&["schedule", "run", "dependencies.monthly"]).ok();
    assert_eq!((host.app.linked().as_str(), host.app.running("frames")), (FIRST, "2.0.0".into()));
    // A release that is not whole any more is not gone back to.
    let newest = host.newest();
    let made = newest["fromGeneration"].as_str().unwrap();
    fs::remove_dir_all(host.app.path("releases").join(made).join("lib")).unwrap();
    let refused = host.agent.ctl(&["deps", "rollback", "--to", made, "--yes"]);
    refused.exits(4).says(&["RELEASE_DAMAGED"]);
}
