//! Starting, stopping, listening, and who may do what.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use genesis_tests::clock::{Watch, wait_for, wait_until};
use genesis_tests::{Signal, TestAgent, binaries, ctl, http, lines, source};
use serde_json::Value;

fn plain() -> TestAgent {
    TestAgent::started(|log| source("trading", &log.join("t.log"), "1MB"))
}

#[test]
fn it_starts_without_any_configuration_and_says_what_to_try() {
    let folder = tempfile::Builder::new().prefix("genesis-").tempdir().unwrap();
    let mut child = Command::new(binaries::agent())
        .arg("--state-dir")
        .arg(folder.path())
        // Nobody's configuration is read, and the fixed HTTP port may be taken by a real agent: then it says so.
        .env("HOME", folder.path())
        .env_remove("XDG_CONFIG_HOME")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let first = said.next().expect("a first line");
    if first.contains(" ready: socket ") {
        let second = said.next().expect("a second line");
        let command = second.strip_prefix("try: genesisctl ").expect("what to try");
        let words: Vec<&str> = command.split(' ').collect();
        ctl(&words).ok().says(&["logs", "OK"]);
        assert!(first.contains("built-in defaults"), "{first}");
    } else {
        assert!(first.contains("LISTEN_FAILED"), "{first}");
    }
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn a_second_agent_on_the_same_state_is_refused_with_the_first_ones_pid() {
    let agent = plain();
    let second = agent.command().output().unwrap();
    assert_eq!(second.status.code(), Some(9));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("ALREADY_RUNNING"), "{said}");
    assert!(said.contains(&format!("pid {}", agent.pid())), "{said}");
    // The first one goes on undisturbed.
    agent.ctl(&["status"]).ok();
}

#[test]
fn after_kill_9_the_next_one_starts_on_the_same_state() {
    let mut agent = plain();
    agent.kill();
    agent.start();
    agent.ctl(&["status"]).ok();
}

#[test]
fn sigterm_drains_and_exits_0() {
    let mut agent = plain();
    // A follower that would stay for ever is sent home.
    let mut tail = agent
        .ctl_command(&["oplog", "tail", "-f"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut entries = BufReader::new(tail.stdout.take().unwrap()).lines();
    entries.next().expect("it follows").unwrap();
    let (ended, took) = agent.terminate();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    wait_until("the follower's end", || tail.try_wait().unwrap().is_some());
    // And it was no crash: the next start has nothing to reconcile, and the stop is on record.
    agent.start();
    agent.ctl(&["oplog", "list", "--action", "agent."]).ok().says(&["agent.stopped"]);
}

#[test]
fn sigterm_ends_a_rotation_that_waits_for_its_writer() {
    let mut agent = plain();
    let path = agent.log("t.log");
    std::fs::write(&path, lines::text(0..10)).unwrap();
    let held = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    wait_until("the cut", || agent.segments("trading").len() == 1);
    let (ended, took) = agent.terminate();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    drop(held);
    agent.start();
    agent.ctl(&["run", "show", "last"]).ok().says(&["CANCELLED"]);
    agent.wait_verified("trading", 1);
    agent.assert_holds("trading", 10);
}

#[test]
fn a_taken_http_port_is_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut agent = TestAgent::new(|_| format!("[listen]\nhttp = \"{address}\"\n"));
    let ended = agent.try_start().expect_err("the port is taken");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for word in ["LISTEN_FAILED", &address.to_string(), "another program has it", "[listen]"] {
        assert!(ended.stderr.contains(word), "{word:?} is not said: {}", ended.stderr);
    }
}

#[test]
fn http_shows_metrics_and_the_same_status_as_the_client() {
    let agent = plain();
    std::fs::write(agent.log("t.log"), lines::text(0..500)).unwrap();
    agent.rotate("trading");

    let open = "host: localhost\r\naccept: application/openmetrics-text;version=1.0.0\r\n";
    let (_, metrics) = http::get_with(agent.http(), "/metrics", open);
    assert!(metrics.ends_with("# EOF\n"), "OpenMetrics ends so");
    let (status, metrics) = http::get(agent.http(), "/metrics");
    assert_eq!((status, metrics.contains("# EOF")), (200, false), "who does not ask for it");
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        value.parse::<f64>().unwrap_or_else(|_| panic!("{line:?} has no number"));
        assert!(name.starts_with("genesis_"), "{line:?}");
    }
    let sealed = "genesis_logs_sealed_lines_total{log_type=\"trading\"} 500";
    assert!(metrics.contains(sealed), "{metrics}");

    let (status, body) = http::get(agent.http(), "/api/operations/logs/status");
    assert_eq!(status, 200);
    let mut over_http: Value = serde_json::from_str(&body).unwrap();
    let mut over_grpc = agent.ctl(&["logs", "status", "-o", "json"]).ok().response();
    // The agent's own log grows in between.
    for answer in [&mut over_http, &mut over_grpc] {
        answer["sources"][0]["active"] = Value::Null;
    }
    assert_eq!(over_http, over_grpc);

    for domain in ["agent", "schedule", "oplog", "recovery", "fleet"] {
        let (status, body) = http::get(agent.http(), &format!("/api/operations/{domain}/status"));
        assert_eq!(status, 200, "{domain}");
        serde_json::from_str::<Value>(&body).unwrap_or_else(|_| panic!("{domain}: {body}"));
    }
    let (status, body) = http::get(agent.http(), "/api/operations/nope/status");
    assert_eq!((status, body.contains("logs")), (404, true), "{body}");
    // GET only.
    assert_eq!(http::request(agent.http(), "POST", "/api/operations/logs/status").0, 405);
}

#[test]
fn several_nodes_at_once_have_a_row_each_even_with_one_dead() {
    let (first, second) = (plain(), plain());
    let dead = format!("unix:{}", first.folder().join("nobody.sock").display());
    let nodes = [first.node(), second.node(), dead.clone()].join(",");
    let output = ctl(&["-n", &nodes, "status"]).exits(8);
    for node in nodes.split(',') {
        assert!(output.text().contains(node), "{node} has a row:\n{}", output.text());
    }
    output.says(&["unreachable"]);
    let rows = ctl(&["-n", &nodes, "status", "-o", "json"]).exits(8).json();
    let ok = rows.as_array().unwrap().iter().filter(|row| row["ok"] == true).count();
    assert_eq!((rows.as_array().unwrap().len(), ok), (3, 2));
    // All dead: that is its own exit code.
    ctl(&["-n", &dead, "status"]).exits(7);
    // A change on several nodes needs a word first, and nothing is sent without it.
    let both = [first.node(), second.node()].join(",");
    ctl(&["-n", &both, "logs", "rotate"]).exits(2).says(&["--yes"]);
    assert!(first.segments("agent").is_empty());
    ctl(&["-n", &both, "logs", "rotate", "--yes"]).exits(0);
}

#[test]
fn its_own_log_goes_through_its_own_archiver() {
    let agent = plain();
    let path = agent.state().join("logs/agent.log");
    agent.rotate("agent");
    let written = std::fs::read(&path).unwrap_or_default();
    let segments = agent.wait_verified("agent", 1);
    assert!(segments[0].lines > 0);
    let today = genesis_tests::clock::now().strftime("%Y-%m-%d").to_string();
    let yesterday = genesis_tests::clock::now() - jiff::SignedDuration::from_hours(24);
    let range = format!("{}:{today}", yesterday.strftime("%Y-%m-%d"));
    let output = agent.retrieve("agent", &range).ok();
    for line in output.text().lines() {
        let entry: Value = serde_json::from_str(line).expect("its log is JSON lines");
        assert!(entry["timestamp"].is_string(), "{line}");
    }
    assert_eq!(output.text().lines().count() as u64, segments[0].lines);
    // It writes on into a new file.
    agent.ctl(&["logs", "rotate", "--log-type", "trading"]).ok();
    wait_until("its log to grow", || {
        std::fs::read(&path).unwrap_or_default().len() > written.len()
    });
}

#[test]
fn a_cut_or_foreign_database_is_refused_and_left_as_it_is() {
    let mut agent = plain();
    agent.terminate();
    let sound = std::fs::read(agent.database()).unwrap();
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("cut to a half", sound[..sound.len() / 2].to_vec(), "STORAGE_"),
        ("cut to nothing", Vec::new(), "STORAGE_"),
        ("garbage", vec![0x5a; sound.len()], "STORAGE_"),
        ("a text", b"this is not a database\n".repeat(1000), "STORAGE_"),
    ];
    for (what, bytes, code) in cases {
        std::fs::write(agent.database(), &bytes).unwrap();
        let ended = agent.try_start().expect_err(what);
        assert_eq!(ended.code, Some(1), "{what}: {ended:?}");
        assert!(ended.stderr.contains(code), "{what}: {}", ended.stderr);
        assert!(ended.stderr.contains("state.redb"), "{what}: {}", ended.stderr);
        let left = std::fs::read(agent.database()).unwrap();
        assert!(left == bytes, "{what}: the file was changed");
    }
    std::fs::write(agent.database(), &sound).unwrap();
    agent.start();
    agent.ctl(&["oplog", "verify"]).ok();
}

/// Commands run as somebody else.
struct Stranger<'a> {
    agent: &'a TestAgent,
    program: std::path::PathBuf,
    group: u32,
}

impl Stranger<'_> {
    /// genesisctl as uid 65534 with this group; returns its exit code and what it said.
    fn ctl(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new("setpriv")
            .arg("--reuid=65534")
            .arg(format!("--regid={}", self.group))
            .arg("--clear-groups")
            .arg(&self.program)
            .args(["-n", &self.agent.node()])
            .args(arguments)
            .output()
            .expect("setpriv (util-linux) is needed by this test");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }
}

fn group_id(name: &str) -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.starts_with(&format!("{name}:")))?.to_owned();
    line.split(':').nth(2)?.parse().ok()
}

fn open_to_all(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The sets of capabilities of each thread of a process, by their names in /proc.
fn capabilities(pid: u32, set: &str) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_task = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(':'))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    tasks.filter_map(|task| of_task(task.ok()?)).collect()
}

#[test]
fn the_capabilities_of_its_unit_are_the_agents_own() {
    const DAC_OVERRIDE: u64 = 1 << 1;
    const KILL: u64 = 1 << 5;
    if !rustix::process::geteuid().is_root() {
        eprintln!("needs root: left out");
        return;
    }
    let agent = TestAgent::new(|_| String::new());
    let inner = agent.command();
    // As systemd gives them to a unit that is not root's.
    let mut child = Command::new("setpriv")
        .args(["--securebits=+noroot", "--inh-caps=-all,+dac_override,+kill"])
        .arg("--ambient-caps=-all,+dac_override,+kill")
        .arg(inner.get_program())
        .args(inner.get_args())
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv (util-linux) is needed by this test");
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains(" ready: socket ")));
    let (may, hands_on) = (capabilities(child.id(), "CapEff"), capabilities(child.id(), "CapAmb"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(may.len() > 1, "it has threads");
    assert!(may.iter().all(|set| *set == DAC_OVERRIDE | KILL), "{may:x?}");
    // By CAP_KILL hooks have services reload.
    assert!(hands_on.iter().all(|set| *set == KILL), "{hands_on:x?}");
}

#[test]
fn members_of_the_group_operate_and_strangers_do_not() {
    let group = "games";
    let (true, Some(gid)) = (rustix::process::geteuid().is_root(), group_id(group)) else {
        eprintln!("needs root and the group {group}: what follows is left out");
        return;
    };
    let agent = TestAgent::started(|log| {
        format!(
            "[agent]\noperator_group = \"{group}\"\n{}",
            source("trading", &log.join("t.log"), "1MB")
        )
    });
    std::fs::write(agent.log("t.log"), lines::text(0..10)).unwrap();
    // The folders are the host's to open; the socket's mode is the agent's.
    open_to_all(agent.folder(), 0o755);
    open_to_all(&agent.state(), 0o711);
    let program = agent.folder().join("genesisctl");
    std::fs::copy(binaries::client(), &program).unwrap();
    open_to_all(&program, 0o755);

    let operator = Stranger { agent: &agent, program: program.clone(), group: gid };
    let (code, said) = operator.ctl(&["whoami"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("operator") && said.contains("uid=65534"), "{said}");
    let (code, said) = operator.ctl(&["logs", "rotate", "--log-type", "trading"]);
    assert_eq!(code, Some(0), "an operator may rotate: {said}");
    agent.ctl(&["oplog", "list", "--action", "run.started"]).ok().says(&["unix:uid=65534"]);

    let stranger = Stranger { agent: &agent, program, group: 65534 };
    let (code, said) = stranger.ctl(&["status"]);
    assert!(matches!(code, Some(6 | 7)), "the socket's mode keeps a stranger out: {code:?} {said}");
    // Even where somebody has opened the socket by hand.
    open_to_all(&agent.state().join("agent.sock"), 0o666);
    for arguments in [&["status"][..], &["logs", "rotate", "--log-type", "trading"]] {
        let (code, said) = stranger.ctl(arguments);
        assert_eq!(code, Some(6), "{arguments:?}: {said}");
    }
    assert_eq!(agent.segments("trading").len(), 1, "the stranger changed nothing");
}

#[test]
fn over_plaintext_everybody_is_a_viewer() {
    let agent = TestAgent::started(|log| {
        format!(
            "[listen]\nhttp = \"127.0.0.1:0\"\nplaintext_grpc = \"127.0.0.1:0\"\n{}",
            source("trading", &log.join("t.log"), "1MB")
        )
    });
    std::fs::write(agent.log("t.log"), lines::text(0..10)).unwrap();
    let node = agent.plaintext().to_string();
    ctl(&["-n", &node, "status"]).ok();
    ctl(&["-n", &node, "whoami"]).ok().says(&["viewer", "plaintext loopback"]);
    ctl(&["-n", &node, "logs", "rotate"]).exits(6).says(&["ROLE_MISSING", "Operator"]);
    ctl(&["-n", &node, "config", "reload"]).exits(6);
    assert!(agent.segments("trading").is_empty(), "nothing was cut");
    // What was tried is on record.
    agent.ctl(&["oplog", "list", "--actor", "tcp:"]).ok().says(&["RotateLogs"]);
}

#[test]
fn the_schedule_can_be_previewed_and_a_pause_lasts() {
    let mut agent =
        TestAgent::started(|_| "[logs]\nlocal_retention_schedule = \"Mon#1 04:00\"\n".to_owned());
    let job = |agent: &TestAgent, arguments: &[&str]| {
        let list = agent.ctl(&[&["schedule", "list", "-o", "json"], arguments].concat()).ok();
        let jobs = list.response()["jobs"].as_array().cloned().unwrap();
        jobs.into_iter().find(|job| job["name"] == "logs.local-retention").unwrap()
    };
    // The first Mondays of 2024 from the middle of January on, each up to five minutes later on this host.
    let next = job(&agent, &["--at", "2024-01-15", "--next", "3"]);
    let days: Vec<String> = next["nextAt"]
        .as_array()
        .unwrap()
        .iter()
        .map(|at| at.as_str().unwrap()[..13].to_owned())
        .collect();
    assert_eq!(days, ["2024-02-05T04", "2024-03-04T04", "2024-04-01T04"]);
    agent.ctl(&["schedule", "list", "--at", "no date"]).exits(2);

    agent.ctl(&["schedule", "pause", "logs.local-retention", "--reason", "audit"]).ok();
    agent.restart();
    let paused = job(&agent, &[]);
    assert_eq!((&paused["paused"], &paused["pausedReason"]), (&true.into(), &"audit".into()));
    // By hand it may still be run.
    agent.ctl(&["schedule", "run", "logs.local-retention"]).ok();
    agent.ctl(&["schedule", "resume", "logs.local-retention"]).ok();
    agent.kill();
    agent.start();
    assert_eq!(job(&agent, &[])["paused"], false);
    agent.ctl(&["schedule", "run", "no.such"]).exits(1).says(&["JOB_NOT_FOUND", "storage.compact"]);
    agent.ctl(&["schedule", "run", "storage.compact"]).ok();
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn a_bad_file_does_not_replace_the_configuration_in_force() {
    let agent = plain();
    let good = source("trading", &agent.log("t.log"), "1MB");
    let size = |agent: &TestAgent| {
        let status = agent.ctl(&["logs", "status", "-o", "json"]).ok().response();
        let sources = status["sources"].as_array().cloned().unwrap();
        let source = sources.into_iter().find(|source| source["logType"] == "trading");
        source.map(|source| source["rotateBytes"].as_str().unwrap().to_owned())
    };
    agent.configure(&good.replace("rotate_size", "rotat_size"));
    agent.ctl(&["config", "reload"]).exits(4).says(&["CONFIG_INVALID", "rotate_size"]);
    agent.signal(Signal::HUP);
    agent.ctl(&["config", "check"]).exits(3);
    assert_eq!(size(&agent).as_deref(), Some("1000000"));

    agent.configure(&good.replace("1MB", "2MB"));
    agent.ctl(&["config", "reload"]).ok();
    assert_eq!(size(&agent).as_deref(), Some("2000000"));
    // SIGHUP does the same.
    agent.configure(&good.replace("1MB", "3MB"));
    agent.signal(Signal::HUP);
    wait_until("the reload by signal", || size(&agent).as_deref() == Some("3000000"));
    // What can't change while it runs is said, not ignored.
    agent.configure(&format!("[agent]\nlog_level = \"debug\"\n{good}"));
    agent.ctl(&["config", "reload"]).ok().says(&["agent.log_level", "restart"]);
}

#[test]
fn the_configuration_goes_back_to_where_it_was_and_forth_again() {
    let agent = TestAgent::started(|log| {
        let good = source("trading", &log.join("t.log"), "1MB");
        format!("{good}[recovery]\nknown_good_after = \"0s\"\n")
    });
    let good = source("trading", &agent.log("t.log"), "1MB");
    let good = format!("{good}[recovery]\nknown_good_after = \"0s\"\n");
    let show = |agent: &TestAgent| agent.ctl(&["config", "show"]).ok().text();
    let holds = |agent: &TestAgent, text: &str| show(agent).contains(text);
    agent.configure(&good.replace("1MB", "2MB"));
    agent.ctl(&["config", "reload"]).ok();
    assert!(holds(&agent, "2MB"), "{}", show(&agent));
    let file = std::fs::read_to_string(agent.config()).unwrap();

    let plan = agent.ctl(&["rollback", "--component", "config", "--plan", "-o", "json"]).ok();
    let hash = plan.response()["plan"]["hash"].as_str().unwrap().to_owned();
    assert!(plan.response()["diff"].as_str().unwrap().contains("1MB"));
    assert_eq!(std::fs::read_to_string(agent.config()).unwrap(), file, "a plan changes nothing");
    let stale = ["rollback", "--component", "config", "--plan-hash", "0000000000000000", "--yes"];
    agent.ctl(&stale).exits(9).says(&["PLAN_CHANGED"]);
    agent.ctl(&["rollback", "--component", "config", "--plan-hash", &hash, "--yes"]).exits(5);
    assert!(holds(&agent, "1MB"), "{}", show(&agent));
    assert!(std::fs::read_to_string(agent.config()).unwrap().contains("1MB"), "the file, too");
    // And forth again: the state before a rollback is a point itself.
    agent.ctl(&["rollback", "--component", "config", "--to", "2", "--yes"]).exits(5);
    assert!(holds(&agent, "2MB"), "{}", show(&agent));
    agent.ctl(&["rollback", "--component", "nope", "--yes"]).exits(1).says(&["config"]);
    agent.ctl(&["oplog", "list", "--action", "rollback"]).ok().says(&["config"]);
}

#[test]
fn the_client_answers_at_once_and_the_agent_idles_quietly() {
    // Not the bench, which measures release builds: a guard against something that hangs or spins.
    let agent = plain();
    let watch = Watch::start();
    agent.ctl(&["status"]).ok();
    assert!(watch.elapsed() < Duration::from_secs(2), "it took {:?}", watch.elapsed());
    let ticks = |pid: u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let (before, watch) = (ticks(agent.pid()), Watch::start());
    wait_for("two seconds to pass", || (watch.elapsed() > Duration::from_secs(2)).then_some(()));
    let used = ticks(agent.pid()) - before;
    // A debug build, 100 ticks a second: a task that spins would use some 200.
    assert!(used < 40, "{used} ticks in two idle seconds");
}
