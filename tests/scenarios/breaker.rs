//! Circuit breakers: a real program calls a real server behind one, with an agent and without.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use genesis_tests::backend::Backend;
use genesis_tests::clock::{Watch, wait_for, wait_until};
use genesis_tests::{Ballast, TestAgent, binaries, http};
use serde_json::Value;

/// Short times, so that a test sees a whole life.
const CONFIG: &str = "[breaker]\nwindow = \"1s\"\nopen_for = \"1s\"\nopen_for_max = \"4s\"\nrounds = \"3\"\n\
                      probe_timeout = \"2s\"\n";

/// The example program at work.
struct Caller {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Caller {
    fn start(backend: &Backend, arguments: &[&str]) -> Self {
        let target = format!("{}/orders", backend.address());
        let mut child = Command::new(binaries::example("breaker"))
            .args(["orders-api", &target])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (out, into) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    fn followed(backend: &Backend, agent: &TestAgent, more: &[&str]) -> Self {
        Self::start(backend, &[&["--agent", &agent.node(), "--every", "20"], more].concat())
    }

    fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// Waits for a line that begins like this, from the `from`th on; its number.
    #[track_caller]
    fn wait(&self, from: usize, beginning: &str) -> usize {
        wait_for(beginning, || {
            let lines = self.lines.lock().unwrap();
            let found = lines.iter().skip(from).position(|line| line.starts_with(beginning));
            found.map(|at| from + at)
        })
    }

    fn said(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn show(agent: &TestAgent) -> Value {
    agent.ctl(&["breaker", "show", "orders-api", "-o", "json"]).response()["breaker"].clone()
}

/// Waits until the agent has the breaker in this state.
#[track_caller]
fn is(agent: &TestAgent, state: &str) -> Value {
    wait_for(state, || {
        let breaker = show(agent);
        (breaker["state"] == format!("BREAKER_STATE_{state}")).then_some(breaker)
    })
}

/// Waits for `calls` counted calls in the agent's latest window.
fn reported(agent: &TestAgent) {
    wait_until("a window of the agent", || {
        show(agent)["calls"].as_str().is_some_and(|calls| calls.parse::<u64>().unwrap() >= 10)
    });
}

#[test]
fn with_an_agent_it_breaks_and_comes_back_by_probes() {
    let agent = TestAgent::started(|_| CONFIG.to_owned());
    let backend = Backend::start();
    let caller = Caller::followed(&backend, &agent, &[]);
    reported(&agent);
    agent.ctl(&["breaker", "list"]).exits(0).says(&["orders-api", "CLOSED"]);
    agent.ctl(&["breaker", "show", "orders-api"]).exits(0).says(&["unknown", "latency"]);

    backend.answers(503);
    let failed = caller.wait(0, "failed");
    let rejected = caller.wait(failed, "rejected OPEN");
    assert!(caller.said()[rejected].ends_with("agent"), "{:?}", caller.said());
    let breaker = show(&agent);
    assert!(breaker["reason"].as_str().unwrap().contains("calls failed"), "{breaker}");
    agent.ctl(&["breaker", "list", "--open"]).exits(3).says(&["orders-api"]);
    agent.ctl(&["status"]).exits(3).says(&["BREAKER_OPEN"]);
    let metrics = http::get(agent.http(), "/metrics").1;
    assert!(metrics.contains("genesis_breaker_state{breaker=\"orders-api\"}"), "{metrics}");
    let page = http::get(agent.http(), "/api/operations/breaker/status").1;
    assert!(page.contains("orders-api"), "{page}");

    // While it fails on, no more than one probe a second gets through, and it opens for longer.
    let before = backend.asked();
    wait_until("a failed probe", || show(&agent)["failures"].as_u64().unwrap_or(0) >= 2);
    let probes = backend.asked() - before;
    assert!((2..=3).contains(&probes), "{probes} probes: {:?}", caller.said());

    backend.answers(200);
    let from = caller.count();
    let before = backend.asked();
    let closed = caller.wait(from, "ok CLOSED");
    let said = caller.said();
    let probes = said[from..closed].iter().filter(|line| line.starts_with("ok ")).count();
    // 1, 2 and 4: the last of them may see it closed already.
    assert!((6..=7).contains(&probes), "{:?}", &said[from..=closed]);
    assert!(backend.asked() - before >= 7);
    let oplog = agent.ctl(&["oplog", "list", "-o", "json"]).ok().text();
    for action in ["breaker.opened", "breaker.half-opened", "breaker.closed"] {
        assert!(oplog.contains(action), "{oplog}");
    }
    assert!(!oplog.contains("ReportOutcomes") && !oplog.contains("TakeProbes"));
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn more_slow_calls_than_usual_break_it_too() {
    let operation = "[[breaker.operation]]\nname = \"orders-api\"\nslow_after = \"100ms\"\nusual_slow = \"20%\"\n";
    let agent = TestAgent::started(|_| format!("{CONFIG}{operation}"));
    let backend = Backend::start();
    let caller = Caller::followed(&backend, &agent, &["--every", "5"]);
    reported(&agent);
    assert_eq!(show(&agent)["latency"]["known"], true);
    backend.takes(Duration::from_millis(130));
    caller.wait(0, "rejected OPEN");
    let breaker = show(&agent);
    assert!(breaker["reason"].as_str().unwrap().contains("are slow: CUSUM"), "{breaker}");
    backend.takes(Duration::ZERO);
    let from = caller.count();
    caller.wait(from, "ok CLOSED");
}

#[test]
fn without_an_agent_it_breaks_and_comes_back_by_itself() {
    let backend = Backend::start();
    let caller = Caller::start(&backend, &["--every", "10", "--open-for", "500"]);
    caller.wait(0, "ok CLOSED");
    backend.answers(500);
    let failed = caller.wait(0, "failed");
    let rejected = caller.wait(failed, "rejected OPEN");
    let said = caller.said();
    assert_eq!(said[failed..rejected].len(), 5, "five in a row: {said:?}");
    assert!(said[rejected].ends_with("local"));
    backend.answers(200);
    let closed = caller.wait(rejected, "ok CLOSED");
    let said = caller.said();
    let probes = said[rejected..closed].iter().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(probes, 14, "1, 2, 4 and 8, the last of which closes it: {said:?}");
}

#[test]
fn while_the_agent_is_away_it_works_by_itself_and_then_follows_again() {
    let mut agent = TestAgent::started(|_| CONFIG.to_owned());
    let backend = Backend::start();
    let caller = Caller::followed(&backend, &agent, &["--open-for", "500"]);
    reported(&agent);
    agent.kill();
    let from = caller.wait(caller.count(), "ok CLOSED");
    backend.answers(500);
    let rejected = caller.wait(from, "rejected OPEN");
    assert!(caller.said()[rejected].ends_with("local"));
    backend.answers(200);
    caller.wait(caller.count(), "ok CLOSED");
    agent.start();
    wait_until("its reports", || agent.ctl(&["breaker", "show", "orders-api"]).code == 0);
    agent
        .ctl(&["breaker", "trip", "orders-api", "--reason", "wrong prices"])
        .ok()
        .says(&["OPEN", "until it is reset"]);
    let rejected = caller.wait(caller.count(), "rejected OPEN");
    assert!(caller.said()[rejected].ends_with("agent"));
    // By a person until a reset: it stays so while the agent is away.
    agent.kill();
    let from = caller.count() + 20;
    wait_until("more calls", || caller.count() > from);
    assert!(caller.said()[from - 10..].iter().all(|line| line.starts_with("rejected")));
    agent.start();
    is(&agent, "OPEN");
    agent.ctl(&["breaker", "reset", "orders-api", "--reason", "right again"]).ok();
    caller.wait(from, "ok CLOSED");
}

#[test]
fn killed_while_it_is_open_it_stays_open_and_ends_on_time() {
    let mut agent = TestAgent::started(|_| CONFIG.to_owned());
    let trip = ["breaker", "trip", "orders-api", "--for", "3s", "--reason", "maintenance"];
    let watch = Watch::start();
    agent.ctl(&trip).ok();
    agent.kill();
    agent.start();
    let breaker = show(&agent);
    if watch.elapsed() < Duration::from_secs(3) {
        assert_eq!(breaker["state"], "BREAKER_STATE_OPEN", "{breaker}");
        assert_eq!((&breaker["opening"], &breaker["reason"]), (&"1".into(), &"maintenance".into()));
    }
    is(&agent, "HALF_OPEN");
    let took = watch.elapsed();
    assert!(took >= Duration::from_secs(3), "not too early: {took:?}");
    // Killed half-open: nothing is a pass that nobody saw.
    agent.kill();
    agent.start();
    assert_eq!(show(&agent)["state"], "BREAKER_STATE_HALF_OPEN");
    // Time that passes while there is no agent counts.
    agent.ctl(&trip).ok();
    let watch = Watch::start();
    agent.kill();
    wait_until("its end", || watch.elapsed() > Duration::from_secs(3));
    agent.start();
    is(&agent, "HALF_OPEN");
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn people_open_and_close_it_with_a_plan_and_the_hook_hears_of_it() {
    let mut agent = TestAgent::new(|_| String::new());
    let heard = agent.folder().join("heard");
    let hook = format!("cat >> {0}; echo \" $GENESIS_BREAKER_STATE\" >> {0}", heard.display());
    agent.configure(&format!("{CONFIG}on_change = {{ command = [\"sh\", \"-c\", {hook:?}] }}\n"));
    agent.start();
    let trip = ["breaker", "trip", "venue-x", "--for", "10m"];
    agent.ctl(&trip).exits(2).says(&["--reason"]);
    let plan = agent.ctl(&[&trip[..], &["--plan", "-o", "json"]].concat()).ok().response();
    let hash = plan["plan"]["hash"].as_str().unwrap();
    agent.ctl(&["breaker", "list"]).ok().says(&["no breakers"]);
    agent.ctl(&[&trip[..], &["--reason", "r", "--plan-hash", hash]].concat()).ok();
    agent
        .ctl(&[&trip[..], &["--reason", "r", "--plan-hash", hash]].concat())
        .says(&["PLAN_CHANGED"])
        .exits(9);
    agent.ctl(&["breaker", "reset", "venue-y", "--reason", "r"]).says(&["BREAKER_NOT_FOUND"]);
    agent.ctl(&["breaker", "trip", "a b", "--reason", "r"]).says(&["BREAKER_INVALID"]);
    let long = ["breaker", "trip", "venue-x", "--for", "8d", "--reason", "r"];
    agent.ctl(&long).says(&["DURATION_INVALID"]);
    let reset = ["breaker", "reset", "venue-x", "--reason", "well again"];
    agent.ctl(&reset).ok().says(&["venue-x CLOSED"]);
    agent.ctl(&reset).ok().says(&["was closed, nothing was changed"]);
    let heard = wait_for("the hook", || {
        let text = std::fs::read_to_string(&heard).unwrap_or_default();
        (text.lines().count() == 2).then_some(text)
    });
    let lines: Vec<&str> = heard.lines().collect();
    let (first, state) = lines[0].rsplit_once(' ').unwrap();
    let first: Value = serde_json::from_str(first).unwrap();
    assert_eq!(state, "OPEN");
    assert_eq!(
        (&first["breaker"], &first["state"], &first["previous"], &first["reason"]),
        (&"venue-x".into(), &"OPEN".into(), &"CLOSED".into(), &"r".into())
    );
    assert!(lines[1].ends_with("CLOSED") && first["until"].is_string(), "{heard}");
}

#[test]
fn on_a_full_disk_a_breaker_opens_all_the_same_and_is_durable_as_soon_as_there_is_room() {
    let mut agent = TestAgent::with_small_disk(8, |_| CONFIG.to_owned());
    agent.start();
    let ballast = Ballast::fill(agent.disk().join("ballast"));
    wait_until("the disk is full", || agent.ctl(&["oplog", "note", "is there room?"]).code == 7);
    let trip = ["breaker", "trip", "orders-api", "--for", "10m", "--reason", "wrong prices"];
    // In force, and not called done: it would be forgotten.
    agent.ctl(&trip).exits(7).says(&["STORAGE_FAILED", "it is in force"]);
    agent.ctl(&["breaker", "list"]).exits(3).says(&["orders-api", "OPEN", "wrong prices"]);
    ballast.release();
    wait_until("its record", || {
        agent.ctl(&["oplog", "list", "--action", "breaker."]).text().contains("breaker.opened")
    });
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
}
