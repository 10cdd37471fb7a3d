//! What holds actions back: people, trades, a start, another action, a dry run; and that what is held back at the last
//! moment has not happened.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use genesis_tests::clock::wait_until;
use genesis_tests::health::{Check, Patient, config, word};
use genesis_tests::{LoopDisk, TestAgent, binaries};

fn disable(agent: &TestAgent, lasts: &str) {
    agent.ctl(&["health", "remediation", "disable", "--for", lasts, "--reason", "moving it"]).ok();
}

/// An agent that is not started yet, and a patient that its action heals. `more` are lines of `[remediation]`.
fn host(more: &str) -> (TestAgent, Patient) {
    let agent = TestAgent::new(|_| String::new());
    let db = Patient::new(agent.folder(), "db");
    let check = db.check().set("action", db.treatment("echo 0 > value"));
    agent.configure(&config(more, [&check]));
    (agent, db)
}

#[test]
fn switched_off_nothing_is_done_also_after_a_restart_until_it_is_switched_on() {
    let (mut agent, db) = host("");
    agent.start();
    agent.ctl(&["health", "remediation", "disable"]).exits(2).says(&["--reason"]);
    for lasts in ["0s", "8d", "soon"] {
        let disable = ["health", "remediation", "disable", "--for", lasts, "--reason", "x"];
        agent.ctl(&disable).exits(2);
    }
    disable(&agent, "1h");
    db.is(1);
    for _ in 0..2 {
        agent.wait_denial("db", "DISABLED");
        db.wait_for_looks(6);
        assert_eq!((db.treatments().len(), agent.holds()), (0, vec!["DISABLED".to_owned()]));
        agent.ctl(&["health", "remediation", "status"]).says(&["DISABLED", "moving it"]);
        agent.kill();
        agent.start();
    }
    agent.ctl(&["health", "remediation", "enable", "--reason", "moved"]).ok();
    agent.wait_state("db", "RESOLVED");
    assert_eq!((db.treatments(), agent.holds().len()), (vec![1], 0));
    let log = agent.ctl(&["oplog", "list", "--action", "health.remediation"]).ok();
    log.says(&["health.remediation.disabled", "health.remediation.enabled", "moved"]);
}

#[test]
fn switched_off_for_a_while_it_is_on_again_by_itself() {
    let (mut agent, db) = host("");
    agent.start();
    disable(&agent, "2s");
    db.is(1);
    agent.wait_denial("db", "DISABLED");
    // The time goes on while there is no agent.
    agent.kill();
    agent.start();
    agent.wait_state("db", "RESOLVED");
    assert_eq!((db.treatments(), agent.holds().len()), (vec![1], 0));
    let log = agent.ctl(&["oplog", "list", "--action", "health.remediation.enabled"]).ok();
    log.says(&["system:health", "was over"]);
}

#[test]
fn nothing_is_done_right_after_a_start_or_after_it_was_switched_on() {
    let (mut agent, db) = host("");
    let config = std::fs::read_to_string(agent.config()).unwrap();
    let graceful = config.replace("startup_grace = \"0s\"", "startup_grace = \"3s\"");
    std::fs::write(agent.config(), graceful).unwrap();
    db.is(1);
    let watch = genesis_tests::clock::Watch::start();
    agent.start();
    agent.wait_denial("db", "STARTUP_GRACE");
    wait_until("the treatment", || !db.treatments().is_empty());
    assert!(watch.elapsed().as_millis() >= 3_000, "{:?}", watch.elapsed());
    agent.wait_state("db", "RESOLVED");
    disable(&agent, "1h");
    db.is(1);
    agent.wait_denial("db", "DISABLED");
    let watch = genesis_tests::clock::Watch::start();
    agent.ctl(&["health", "remediation", "enable"]).ok();
    agent.wait_denial("db", "STARTUP_GRACE");
    wait_until("the treatment", || db.treatments().len() == 2);
    assert!(watch.elapsed().as_millis() >= 2_900, "{:?}", watch.elapsed());
}

#[test]
fn what_reaches_into_trading_is_held_until_an_admin_gives_a_reason() {
    let mut agent = TestAgent::new(|_| String::new());
    let [pool, free] = ["pool", "free"].map(|id| Patient::new(agent.folder(), id));
    let row = |patient: &Patient| {
        let check = patient.check().text("row", "connection-pool");
        check.set("action", patient.treatment("echo 0 > value"))
    };
    agent.configure(&config("", [&row(&pool), &row(&free).text("trade_touching", "no")]));
    agent.start();
    pool.is(1);
    free.is(1);
    // Where it is declared harmless it is done.
    agent.wait_state("free", "RESOLVED");
    assert_eq!(free.treatments(), [1]);
    agent.wait_denial("pool", "GUARD");
    let run = ["health", "run", "reset-connections", "--check", "pool", "--yes"];
    agent.ctl(&run).exits(4).says(&["ACTION_REFUSED", "GUARD"]);
    agent.ctl(&[&run[..], &["--reason", "in a hurry"]].concat()).exits(4).says(&["GUARD"]);
    agent.ctl(&[&run[..], &["--despite-trades"]].concat()).exits(2).says(&["--reason"]);
    assert!(pool.treatments().is_empty());
    let reason = "desk (Jo) confirms: flat and halted";
    agent.ctl(&[&run[..], &["--despite-trades", "--reason", reason]].concat()).ok();
    assert_eq!(pool.treatments(), [0]);
    agent.wait_state("pool", "RESOLVED");
    assert_eq!(word(&agent.issue("pool"), "resolution"), "by itself or by hand");
    agent.wait_outcomes("pool", &["SUCCEEDED"]);
    assert!(word(&agent.attempts("pool")[0], "actor").starts_with("unix:"));
    agent.ctl(&["oplog", "list", "--action", "health.attempt"]).ok().says(&["by hand"]);
    agent.ctl(&["oplog", "list", "--limit", "200", "-v"]).ok().says(&[reason]);
}

#[test]
fn one_action_goes_on_at_a_time_by_itself_or_by_hand() {
    let mut agent = TestAgent::new(|_| String::new());
    let [slow, other] = ["slow", "other"].map(|id| Patient::new(agent.folder(), id));
    let wait = "i=0; while [ ! -e go ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done";
    let long = slow.treatment(&format!("{wait}; echo 0 > value"));
    let checks = [
        slow.check().set("action", long),
        other.check().set("action", other.treatment("echo 0 > value")),
    ];
    agent.configure(&config("", &checks));
    agent.start();
    slow.is(1);
    wait_until("the first", || slow.treatments() == [1]);
    other.is(1);
    agent.wait_denial("other", "CONCURRENCY");
    let run = ["health", "run", "mend", "--yes", "--check"];
    agent.ctl(&[&run[..], &["other"]].concat()).exits(4).says(&["CONCURRENCY", "mend of slow"]);
    agent
        .ctl(&["health", "run", "mend", "--yes"])
        .exits(2)
        .says(&["ACTION_AMBIGUOUS", "other, slow"]);
    agent.ctl(&["health", "run", "nope", "--yes"]).exits(1).says(&["ACTION_UNKNOWN"]);
    other.wait_for_looks(5);
    assert!(other.treatments().is_empty());
    std::fs::write(slow.file("go"), "").unwrap();
    agent.wait_state("slow", "RESOLVED");
    agent.wait_state("other", "RESOLVED");
    assert_eq!((slow.treatments(), other.treatments()), (vec![1], vec![1]));
}

#[test]
fn what_is_held_back_at_the_last_moment_has_not_happened_and_does_not_count() {
    for (code, hold, release) in [
        (
            "DISABLED",
            &["health", "remediation", "disable", "--reason", "stop"][..],
            &["health", "remediation", "enable"][..],
        ),
        (
            "EMERGENCY",
            &["emergency", "activate", "--reason", "stop"],
            &["emergency", "release", "--reason", "go on"],
        ),
    ] {
        let (mut agent, db) = host("");
        let pause = agent.folder().join("pause");
        std::fs::write(&pause, "").unwrap();
        agent.environment("GENESIS_PAUSE", &format!("health.before-act:{}", pause.display()));
        agent.start();
        db.is(1);
        let reached = agent.folder().join("pause.reached");
        wait_until("its last moment", || reached.exists());
        assert_eq!(agent.issue_state("db"), "REMEDIATING");
        agent.ctl(hold).ok();
        std::fs::remove_file(&pause).unwrap();
        agent.wait_denial("db", code);
        agent.wait_outcomes("db", &["NOT_NEEDED"]);
        db.wait_for_looks(5);
        assert!(db.treatments().is_empty(), "{code}: none begins once it has answered");
        assert_eq!(agent.issue("db")["attempts"].as_u64(), Some(0), "{code}");
        agent.ctl(release).ok();
        agent.wait_state("db", "RESOLVED");
        agent.wait_outcomes("db", &["NOT_NEEDED", "SUCCEEDED"]);
        assert_eq!(db.treatments(), [1]);
    }
}

#[test]
fn a_dry_run_is_planned_once_and_does_nothing() {
    let (mut agent, db) = host("dry_run = true");
    agent.start();
    db.is(1);
    for _ in 0..2 {
        agent.wait_denial("db", "DRY_RUN");
        agent.wait_outcomes("db", &["DRY_RUN"]);
        db.wait_for_looks(6);
        assert_eq!((db.treatments().len(), agent.outcomes("db").len()), (0, 1));
        agent.restart();
    }
    // A person may, and what was planned does not count as an attempt.
    assert_eq!(agent.issue("db")["attempts"].as_u64(), Some(0));
    agent.ctl(&["health", "run", "mend", "--yes", "--reason", "it looks right"]).ok();
    assert_eq!(db.treatments(), [0]);
    let dashboard = agent.ctl(&["health", "dashboard"]).text();
    assert!(dashboard.to_lowercase().contains("dry run"), "{dashboard}");
}

#[test]
fn a_dry_run_makes_no_call_that_could_change_anything() {
    let disk = LoopDisk::ext4(16);
    let agent = TestAgent::new(|_| String::new());
    let hook = Patient::new(agent.folder(), "hook");
    let mut service = Command::new("sleep").arg("600").spawn().unwrap();
    let pidfile = agent.folder().join("service.pid");
    std::fs::write(&pidfile, service.id().to_string()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Bad from the beginning: nothing is named so, and the disk is full.
    let absent = |id: &str| Check::new(id, "process").text("target", "no-such-process");
    let checks = [
        Check::new("disk", "disk-bytes")
            .text("target", disk.path().display())
            .text("action", "make-room"),
        absent("hook").set("action", hook.treatment("echo 0 > value")),
        absent("signal").set("action", format!("{{ signal = \"USR1\", pidfile = {pidfile:?} }}")),
        absent("http").set("action", format!("{{ http = \"http://127.0.0.1:{port}/gc\" }}")),
    ];
    let logs = format!("[logs]\nlocal_dir = {:?}\n", disk.join("sealed"));
    let logs = logs + &genesis_tests::source("trading", &agent.log("t.log"), "1GB");
    agent.configure(&format!("{logs}{}", config("dry_run = true", &checks)));
    std::fs::write(agent.log("t.log"), genesis_tests::lines::text(0..1_000)).unwrap();

    let calls = agent.folder().join("calls.txt");
    let real = agent.command();
    let mut traced = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=execve,unlink,unlinkat,kill,connect", "-o"])
        .arg(&calls)
        .arg(real.get_program())
        .args(real.get_args())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("strace is needed by this test; tests/run installs it");
    wait_until("the traced agent to answer", || agent.ctl(&["status"]).code != 7);
    agent.rotate("trading");
    agent.wait_verified("trading", 1);
    let filler = vec![0; 15 << 20];
    let _ = std::fs::write(disk.join("filler"), filler);
    let ids = ["disk", "hook", "signal", "http"];
    for id in ids {
        agent.wait_denial(id, "DRY_RUN");
        agent.wait_outcomes(id, &["DRY_RUN"]);
    }
    agent.wait_for_looks("disk", 6);
    let plans =
        agent.attempts("").iter().map(|attempt| attempt["plan"].to_string()).collect::<String>();
    for part in ["delete-local-copies", "command sh", "signal Usr1", "POST http://127.0.0.1"] {
        assert!(plans.contains(part), "{part:?} is not in {plans}");
    }
    let pid = std::fs::read_to_string(agent.state().join("agent.lock")).unwrap();
    assert_eq!(agent.attempts("").len(), ids.len());
    binaries::tool("kill", &["-TERM", pid.trim()]);
    traced.wait().unwrap();

    let text = std::fs::read_to_string(&calls).unwrap();
    assert!(text.contains("execve("), "it was traced:\n{text}");
    let (treat, port) = (hook.file("treat").display().to_string(), format!("htons({port})"));
    let sealed = disk.join("sealed").display().to_string();
    for line in text.lines() {
        let forbidden = (line.contains("execve(") && line.contains(&treat))
            || (line.contains("unlink") && line.contains(&sealed) && !line.contains(".sealing"))
            || (line.contains("kill(") && line.contains("SIGUSR1"))
            || (line.contains("connect(") && line.contains(&port));
        assert!(!forbidden, "{line}");
    }
    assert!(listener.accept().is_err() && hook.treatments().is_empty());
    assert!(service.try_wait().unwrap().is_none());
    service.kill().unwrap();
    service.wait().unwrap();
}
