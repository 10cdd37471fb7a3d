//! Looking: at which depth, at what, how a configuration says it, and where it is shown.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use genesis_tests::clock::wait_until;
use genesis_tests::health::{Check, Patient, config, word};
use genesis_tests::{Signal, TestAgent, http};
use serde_json::Value;

/// The checks that a look by hand finds, with how they are.
fn looked_at(agent: &TestAgent, arguments: &[&str]) -> Vec<(String, String)> {
    let all = ["health", "check", "-o", "json"];
    let answer = agent.ctl(&[&all[..], arguments].concat()).response();
    let checks = answer["checks"].as_array().cloned().unwrap_or_default();
    checks.iter().map(|check| (word(check, "check"), word(check, "condition"))).collect()
}

fn ids(looks: &[(String, String)]) -> Vec<&str> {
    looks.iter().map(|(id, _)| id.as_str()).collect()
}

#[test]
fn without_configuration_the_host_and_the_agent_are_looked_at() {
    let agent = TestAgent::started(|_| "[health]\n".to_owned());
    let shallow = looked_at(&agent, &[]);
    for id in ["disk:/", "memory", "load", "agent"] {
        assert!(ids(&shallow).contains(&id), "{shallow:?}");
    }
    let deep = looked_at(&agent, &["--level", "deep"]);
    for id in ["disk:/", "inodes:/", "memory", "load", "agent", "clock", "secrets"] {
        assert!(ids(&deep).contains(&id), "{deep:?}");
    }
    assert!(!ids(&shallow).iter().any(|id| ["inodes:/", "clock", "secrets"].contains(id)));
    // How full or busy this machine is, is its own affair; that it can be told is not.
    let told = |(_, condition): &(String, String)| condition != "UNKNOWN";
    assert!(deep.iter().all(told), "{deep:?}");
    let is = |id: &str| deep.iter().find(|(known, _)| known == id).unwrap().1.as_str();
    assert_eq!((is("agent"), is("secrets")), ("OK", "OK"));
    agent.ctl(&["health", "remediation", "status"]).ok().says(&["make-room", "clear-memory"]);
    // One of the same id takes the place of a built-in one.
    agent.configure(
        "[health]\n[[health.check]]\nid = \"memory\"\nprobe = \"memory-host\"\nlevel = \"deep\"\n",
    );
    agent.ctl(&["config", "reload"]).ok();
    assert!(!ids(&looked_at(&agent, &[])).contains(&"memory"));
}

#[test]
fn each_level_looks_deeper_and_the_exit_code_says_what_was_found() {
    let agent = TestAgent::new(|_| String::new());
    let [near, far] = ["near", "far"].map(|id| Patient::new(agent.folder(), id));
    // Looked at once, at the start.
    let slow = |check: Check| check.text("interval", "5m").text("timeout", "5s");
    let treated = near.check().set("action", near.treatment("exit 0"));
    agent.configure(&config("", [&slow(treated), &slow(far.check()).text("level", "deep")]));
    let mut agent = agent;
    agent.start();
    wait_until("the first looks", || near.looks() == 1 && far.looks() == 1);
    agent.ctl(&["health", "check"]).ok().says(&["near", "OK"]);
    assert_eq!(ids(&looked_at(&agent, &[])), ["near"]);
    assert_eq!(ids(&looked_at(&agent, &["--level", "deep"])), ["far", "near"]);
    far.is(1);
    agent.ctl(&["health", "check"]).ok();
    agent.ctl(&["health", "check", "--level", "deep"]).exits(3).says(&["far", "CRITICAL"]);
    agent.ctl(&["health", "check", "--check", "far"]).exits(3);
    agent.ctl(&["health", "check", "--check", "nope"]).exits(1).says(&["CHECK_UNKNOWN"]);
    std::fs::remove_file(near.file("value")).unwrap();
    agent.ctl(&["health", "check"]).exits(5).says(&["near", "UNKNOWN"]);
    // What is looked at by hand does not count.
    near.is(1);
    for _ in 0..4 {
        agent.ctl(&["health", "check"]).exits(3);
    }
    let dashboard = agent.dashboard();
    assert!(dashboard["issues"].as_array().is_none_or(Vec::is_empty), "{dashboard}");
    assert!(near.treatments().is_empty());

    let report = agent.folder().join("report.md");
    let write = ["health", "check", "--level", "diagnostic", "--format", "markdown", "--out"];
    let write = [&write[..], &[report.to_str().unwrap()]].concat();
    agent.ctl(&write).exits(3);
    let text = std::fs::read_to_string(&report).unwrap();
    for part in ["# ", "| near |", "| far |", "CRITICAL", "onfiguration", "ersion"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    // It is not written over, unless that is said.
    assert_ne!(agent.ctl(&write).code, 3);
    agent.ctl(&[&write[..], &["--yes"]].concat()).exits(3);
    agent.ctl(&["health", "check", "--level", "diagnostic"]).exits(3).says(&["far", "near"]);
}

#[test]
fn each_probe_looks_at_the_real_thing() {
    let listen = "[listen]\nhttp = \"127.0.0.1:0\"\nplaintext_grpc = \"127.0.0.1:0\"\n";
    let agent = TestAgent::started(|_| listen.to_owned());
    let [open, closed] = ["open", "closed"].map(|name| agent.folder().join(name));
    for (path, mode) in [(&open, 0o644), (&closed, 0o600)] {
        std::fs::write(path, "secret").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (own, grpc) = (agent.http(), agent.plaintext());
    let (pidfile, socket) = (agent.state().join("agent.lock"), agent.state().join("agent.sock"));
    let (url, socket) = (format!("http://{own}"), format!("unix:{}", socket.display()));
    let new = |id: &str, probe: &str, target: &str| {
        let check = Check::new(id, probe).text("interval", "10s").text("timeout", "9s");
        if target.is_empty() { check } else { check.text("target", target) }
    };
    let scrape = new("scrape", "queue-scrape", &format!("{url}/metrics"));
    let [command, words] = ["command", "words"].map(|id| new(id, "queue-command", ""));
    let files = |path: &std::path::Path| format!("[{path:?}]");
    let pid = pidfile.to_str().unwrap();
    let checks = [
        (new("tcp", "tcp", &own.to_string()), "OK"),
        (new("tcp-down", "tcp", &nobody.to_string()), "CRITICAL"),
        (new("http", "http", &format!("{url}/metrics")), "OK"),
        (new("http-404", "http", &format!("{url}/nope")), "CRITICAL"),
        (new("http-404-wanted", "http", &format!("{url}/nope")).text("status", "404"), "OK"),
        (new("http-down", "http", &format!("http://{nobody}/")), "CRITICAL"),
        (new("grpc", "grpc-health", &format!("http://{grpc}")), "OK"),
        (new("grpc-unix", "grpc-health", &socket).text("service", "genesis.v1.LogsService"), "OK"),
        (new("grpc-nope", "grpc-health", &socket).text("service", "no.such.Service"), "UNKNOWN"),
        (new("process", "process", pid), "OK"),
        (new("process-name", "process", "genesis-agent"), "OK"),
        (new("process-gone", "process", "no-such-process"), "CRITICAL"),
        (new("memory-process", "memory-process", pid).text("of", "16GiB"), "OK"),
        (new("memory-host", "memory-host", ""), ""),
        (new("load", "load", ""), ""),
        (new("clock", "clock", ""), ""),
        (command.set("command", "[\"echo\", \"7\"]").text("crit", "6"), "CRITICAL"),
        (words.set("command", "[\"echo\", \"many\"]").text("crit", "6"), "UNKNOWN"),
        (scrape.text("metric", "genesis_health_remediation_enabled").text("crit", "1"), "OK"),
        (new("secrets", "secrets", "").set("files", files(&closed)), "OK"),
        (new("secrets-open", "secrets", "").set("files", files(&open)), "WARN"),
        (new("disk", "disk-bytes", "/"), ""),
        (new("inodes", "disk-inodes", "/"), ""),
        (new("agent", "agent", ""), "OK"),
    ];
    agent.configure(&format!("{listen}{}", config("", checks.iter().map(|(check, _)| check))));
    agent.ctl(&["config", "reload"]).ok();
    let answer = agent.ctl(&["health", "check", "-o", "json"]).exits(5).response();
    let found = answer["checks"].as_array().unwrap();
    assert_eq!(found.len(), checks.len());
    let of = |id: &str| found.iter().find(|found| found["check"] == id).unwrap();
    for (check, wanted) in &checks {
        let (seen, condition) = (of(&check.id), word(of(&check.id), "condition"));
        match *wanted {
            // As this host is; but it can be told.
            "" => assert_ne!(condition, "UNKNOWN", "{seen}"),
            wanted => assert_eq!(condition, wanted, "{seen}"),
        }
    }
    let value = |id: &str| of(id)["value"].as_f64().unwrap();
    assert_eq!((value("command"), value("scrape"), value("secrets-open")), (7.0, 1.0, 1.0));
    for id in ["disk", "inodes", "memory-host", "memory-process"] {
        assert!((0.0..=100.0).contains(&value(id)), "{}", of(id));
    }
    assert!(value("agent") > 0.0 && value("process-name") >= 1.0);
    assert!(word(of("secrets-open"), "detail").contains("chmod 600"), "{}", of("secrets-open"));
}

#[test]
fn what_is_wrong_with_checks_is_said_all_at_once_with_its_line() {
    let agent = TestAgent::started(|_| String::new());
    let text = "[listen]\nhttp = \"127.0.0.1:0\"\n[health]\ndefaults = false\n\
        [[health.check]]\nid = \"a b\"\nprobe = \"load\"\n\
        [[health.check]]\nid = \"late\"\nprobe = \"tcp\"\ntarget = \"db:5432\"\ninterval = \"1s\"\ntimeout = \"2s\"\n\
        [[health.check]]\nid = \"secret\"\nprobe = \"http\"\ntarget = \"http://me:pw@db/\"\n\
        [[health.check]]\nid = \"queue\"\nprobe = \"queue-command\"\ncommand = [\"true\"]\n\
        [[health.check]]\nid = \"room\"\nprobe = \"load\"\naction = \"make-room\"\n\
        [[health.check]]\nid = \"room\"\nprobe = \"load\"\n\
        [[health.check]]\nid = \"odd\"\nprobe = \"nonsense\"\ndepth = \"deep\"\n\
        [[health.check]]\nid = \"disk\"\nprobe = \"disk-bytes\"\ntarget = \"/\"\ncrit = \"10\"\nclear = \"5\"\n\
        [[health.check]]\nid = \"one\"\nprobe = \"load\"\ndepends_on = [\"two\"]\n\
        [[health.check]]\nid = \"two\"\nprobe = \"load\"\ndepends_on = [\"one\"]\nrow = \"none at all\"\n";
    agent.configure(text);
    let line = |part: &str| text.lines().position(|line| line == part).unwrap() + 1;
    let reload = agent.ctl(&["config", "reload"]).exits(4).says(&["CONFIG_INVALID"]);
    let said = format!("{}\n{}", reload.text(), reload.stderr);
    for (at, word) in [
        (line("id = \"a b\""), "is no id"),
        (line("timeout = \"2s\""), "must be less than the interval"),
        (line("target = \"http://me:pw@db/\""), "password"),
        (line("action = \"make-room\""), "disk-bytes and disk-inodes"),
        (line("probe = \"nonsense\""), "nonsense"),
        (line("depth = \"deep\""), "depth"),
        (line("clear = \"5\""), "beyond crit"),
        (line("row = \"none at all\""), "none at all"),
    ] {
        let place = format!("agent.toml:{at}:");
        let told = said.lines().any(|line| line.contains(&place) && line.contains(word));
        assert!(told, "{word:?} of line {at} is not in\n{said}");
    }
    for word in ["say beyond what it is critical", "\"room\" is used by another check", "in a ring"]
    {
        assert!(said.contains(word), "{word:?} is not in\n{said}");
    }
    assert!(!said.contains("me:pw"), "a password is never shown:\n{said}");
    // Nothing of it is in force.
    assert!(looked_at(&agent, &["--level", "deep"]).is_empty());
}

#[test]
fn a_reload_adds_and_removes_checks_and_what_is_gone_leaves_nothing_open() {
    let mut agent = TestAgent::new(|_| String::new());
    let [kept, gone, new] = ["kept", "gone", "new"].map(|id| Patient::new(agent.folder(), id));
    let gone_check = gone.check().set("action", gone.treatment("exit 0")).text("settle", "1h");
    agent.configure(&config("", [&kept.check(), &gone_check]));
    agent.start();
    kept.is(1);
    gone.is(1);
    agent.wait_state("gone", "VERIFYING");
    agent.wait_state("kept", "FAILING");
    agent.ctl(&["health", "flag", "gone", "--reason", "look at it"]).ok();
    let metrics = || http::get(agent.http(), "/metrics").1;
    assert!(metrics().contains("genesis_health_check_status{check=\"gone\"} 2"), "{}", metrics());
    agent.ctl(&["run", "list", "--state", "running"]).ok().says(&["health.mend"]);

    agent.configure(&config("", [&kept.check(), &new.check()]));
    agent.ctl(&["config", "reload"]).ok();
    new.wait_for_looks(2);
    agent.ctl(&["health", "explain", "gone"]).exits(1).says(&["CHECK_UNKNOWN", "kept, new"]);
    let issue = agent.issues("gone").pop().unwrap();
    assert_eq!(word(&issue, "state"), "RESOLVED");
    assert!(word(&issue, "resolution").contains("not configured any more"), "{issue}");
    agent.wait_outcomes("gone", &["UNKNOWN"]);
    wait_until("the run's end", || {
        !agent.ctl(&["run", "list", "--state", "running"]).text().contains("health.mend")
    });
    wait_until("the incident's end", || agent.open_incidents().is_empty());
    assert!(!metrics().contains("check=\"gone\""), "{}", metrics());
    // What stays is not disturbed.
    let issue = agent.issue("kept");
    assert_eq!(
        (word(&issue, "state").as_str(), word(&issue, "id").as_str()),
        ("FAILING", "kept#1")
    );

    // And back, by a signal: it is another episode.
    agent.configure(&config("", [&gone.check()]));
    agent.signal(Signal::HUP);
    wait_until("the other issue", || word(&agent.issue("gone"), "id") == "gone#2");
    wait_until("both on record", || agent.issues("gone").len() == 2);
    assert_eq!(word(&agent.issues("kept")[0], "state"), "RESOLVED");
}

#[test]
fn over_http_health_is_what_the_dashboard_says() {
    let mut agent = TestAgent::new(|_| String::new());
    let db = Patient::new(agent.folder(), "db");
    db.is(1);
    agent.configure(&config("", [&db.check().text("interval", "5m").text("timeout", "5s")]));
    agent.start();
    agent.wait_denial("db", "NO_ACTION");
    let (status, body) = http::get(agent.http(), "/api/operations/health/status");
    assert_eq!(status, 200);
    let over_http: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(over_http, agent.dashboard());
    assert_eq!(over_http["issues"][0]["id"], "db#1");
    agent.ctl(&["health", "dashboard"]).exits(3).says(&["db", "CRITICAL", "NO_ACTION"]);
    agent.ctl(&["status"]).exits(3).says(&["health", "CHECK_FAILS"]);
    let metrics = http::get(agent.http(), "/metrics").1;
    for line in [
        "genesis_health_check_status{check=\"db\"} 2",
        "genesis_health_check_value{check=\"db\"} 1",
        "genesis_health_issues{state=\"failing\"} 1",
        "genesis_health_denials_total{code=\"NO_ACTION\"} 1",
        "genesis_health_remediation_enabled 1",
        "genesis_health_brake_set 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

/// What an agent tells a service manager in its first seconds, and at its end.
fn told_to_systemd(watchdog: &[(&str, &str)]) -> Vec<String> {
    let mut agent = TestAgent::new(|_| String::new());
    let path = agent.folder().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(1_500))).unwrap();
    agent.environment("NOTIFY_SOCKET", path.to_str().unwrap());
    for (name, value) in watchdog {
        agent.environment(name, value);
    }
    agent.start();
    let mut told = Vec::new();
    let mut read = |limit: usize| {
        let mut buffer = [0; 4_096];
        while told.len() < limit
            && let Ok(length) = socket.recv(&mut buffer)
        {
            told.push(String::from_utf8(buffer[..length].to_vec()).unwrap().trim().to_owned());
        }
    };
    read(6);
    let (ended, _) = agent.terminate();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    read(100);
    told
}

#[test]
fn systemd_is_told_that_the_checks_go_round_when_it_wants_to_know() {
    let told = told_to_systemd(&[("WATCHDOG_USEC", "400000")]);
    let count = |what: &str| told.iter().filter(|said| *said == what).count();
    assert_eq!((count("READY=1"), count("STOPPING=1")), (1, 1), "{told:?}");
    assert!(count("WATCHDOG=1") >= 4, "{told:?}");
    // It is for somebody else, or not wanted.
    for watchdog in [&[("WATCHDOG_USEC", "400000"), ("WATCHDOG_PID", "1")][..], &[]] {
        assert_eq!(told_to_systemd(watchdog), ["READY=1", "STOPPING=1"]);
    }
}
