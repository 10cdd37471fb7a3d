//! Traces: from the command that somebody types to the entries, the lines and the spans that come of it.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use genesis_tests::clock::{Watch, wait_for, wait_until};
use genesis_tests::otlp::{Collector, attribute};
use genesis_tests::pki::Authority;
use genesis_tests::{Output, Signal, TestAgent, binaries, http, lines, source};
use serde_json::Value;

const SECRET: &str = "s3cret-of-the-collector";

/// A host with a log, whose agent tells spans to `endpoint`; `more` is said of it.
fn host(endpoint: &str, more: &str) -> TestAgent {
    let agent = TestAgent::new(|logs| {
        format!(
            "{}\n[tracing]\notlp_endpoint = {endpoint:?}\n{more}",
            source("trading", &logs.join("trading.log"), "1MiB")
        )
    });
    std::fs::write(agent.log("trading.log"), lines::text(0..500)).unwrap();
    agent
}

/// The entries of a trace, as `oplog list --trace` has them.
fn entries(agent: &TestAgent, trace: &str) -> Vec<Value> {
    let listed = agent.ctl(&["oplog", "list", "--trace", trace, "-o", "json"]).ok().response();
    listed["entries"].as_array().unwrap().clone()
}

fn error(output: &Output) -> Value {
    output.json()[0]["error"].clone()
}

/// How many spans were dropped.
fn dropped(agent: &TestAgent) -> Option<f64> {
    let metrics = http::get(agent.http(), "/metrics").1;
    let line = metrics.lines().find(|it| it.starts_with("genesis_tracing_spans_dropped_total "))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_command_is_followed_into_its_run_the_operation_log_and_the_collector() {
    let collector = Collector::start();
    let mut agent = host(&collector.endpoint(), "");
    agent.start();
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--reason", "traced"]).ok();
    let run = agent.ctl(&["run", "show", "last", "-o", "json"]).ok().response()["run"].clone();
    let trace = run["traceId"].as_str().unwrap().to_owned();
    assert_eq!(trace.len(), 32, "{run}");
    agent.ctl(&["run", "show", "last"]).ok().says(&["trace: ", &trace]);

    let found = entries(&agent, &trace);
    let actions: Vec<_> = found.iter().map(|it| it["action"].as_str().unwrap()).collect();
    for action in ["call /genesis.v1.LogsService/RotateLogs", "run.started", "run.ended"] {
        assert!(actions.contains(&action), "{action} is not in {actions:?}");
    }
    assert!(found.iter().all(|it| it["traceId"] == trace.as_str()));
    agent.ctl(&["oplog", "tail", "-v"]).ok().says(&[&format!("trace={trace}")]);
    agent.ctl(&["oplog", "verify"]).ok();

    let of_trace = |span: &_| {
        let span: &opentelemetry_proto::tonic::trace::v1::Span = span;
        hex::encode(&span.trace_id) == trace
    };
    let call = collector
        .wait_span("the call", |it| of_trace(it) && it.name == "genesis.v1.LogsService/RotateLogs");
    assert!(!call.parent_span_id.is_empty(), "the command's own span is the parent");
    assert_eq!(attribute(&call, "rpc.system").as_deref(), Some("grpc"));
    let of_run = collector.wait_span("the run", |it| of_trace(it) && it.name == "run");
    assert_eq!(of_run.parent_span_id, call.span_id);
    assert_eq!(attribute(&of_run, "kind").as_deref(), Some("logs.rotate"));
    let step = collector.wait_span("a step", |it| of_trace(it) && it.name == "step");
    assert_eq!(step.parent_span_id, of_run.span_id);
    assert!(step.end_time_unix_nano >= step.start_time_unix_nano);
    let resource = collector.told().resource;
    assert!(resource.contains(&("service.name".into(), "genesis-agent".into())), "{resource:?}");

    assert_eq!(attribute(&call, "outcome").as_deref(), Some("ok"));
    assert_eq!(attribute(&of_run, "state").as_deref(), Some("Succeeded"));
    let metrics = http::get(agent.http(), "/metrics").1;
    assert!(metrics.contains("genesis_tracing_spans_told_total"), "{metrics}");
    // The last spans are told before the agent has ended.
    agent.ctl(&["oplog", "note", "the last call"]).ok();
    agent.terminate();
    collector.wait_span("the last call", |it| it.name == "genesis.v1.OplogService/AddNote");
}

#[test]
fn an_error_names_the_trace_that_the_agents_log_has() {
    let agent = TestAgent::started(|_| String::new());
    let failed = error(&agent.ctl(&["run", "cancel", "01AN4Z07BY79KA1307SR9X4MV3", "-o", "json"]));
    let trace = failed["traceId"].as_str().unwrap_or_else(|| panic!("{failed}")).to_owned();
    assert_eq!(trace.len(), 32, "{failed}");
    let found = entries(&agent, &trace);
    assert_eq!(found[0]["outcome"], "NOT_FOUND", "{found:?}");
    agent.ctl(&["-v", "run", "cancel", "01AN4Z07BY79KA1307SR9X4MV3"]).exits(1).says(&["  trace: "]);
    // Each line that was logged in the call has it.
    let log = wait_for("the log", || {
        let log = std::fs::read_to_string(agent.state().join("logs/agent.log")).ok()?;
        log.contains(&trace).then_some(log)
    });
    let line = log.lines().find(|line| line.contains(&trace)).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["span"]["trace_id"], trace.as_str(), "{line}");
    // A page of JSON follows the trace of whoever asks, and says which it was, failed or not.
    let ours = "4bf92f3577b34da6a3ce929d0e0e4736";
    let asked = format!("host: localhost\r\ntraceparent: 00-{ours}-00f067aa0ba902b7-01\r\n");
    for path in ["/api/operations/agent/status", "/api/operations/oplog/entries?limit=99999"] {
        let (head, body) = http::get_with(agent.http(), path, &asked);
        assert!(head.contains(&format!("genesis-trace-id: {ours}")), "{head}");
        assert!(
            head.contains(" 200 ") || body.contains(&format!("\"traceId\":\"{ours}\"")),
            "{body}"
        );
    }
    // What is no trace is said to be none.
    agent.ctl(&["oplog", "list", "--trace", "nonsense"]).exits(2).says(&["TRACE_INVALID"]);
}

#[test]
fn a_collector_that_hangs_holds_nobody_up() {
    // It takes connections and says nothing.
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut agent = host(&format!("http://{}", hung.local_addr().unwrap()), "");
    agent.start();
    let watch = Watch::start();
    for _ in 0..20 {
        agent.ctl(&["status"]).ok();
    }
    assert!(watch.elapsed().as_secs() < 10, "{:?}", watch.elapsed());
    wait_until("spans to be dropped", || dropped(&agent).is_some_and(|count| count > 0.0));
    // The own log is written by threads of its own.
    wait_until("its word of that", || agent.stderr().contains("spans can't be told"));
    let watch = Watch::start();
    agent.signal(Signal::TERM);
    let ended = agent.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(watch.elapsed().as_secs() < 8, "{:?}", watch.elapsed());
}

#[test]
fn the_secret_of_the_collector_is_told_to_it_alone() {
    let collector = Collector::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("headers");
    std::fs::write(&file, format!("Authorization: Bearer {SECRET}\n")).unwrap();
    let more = format!("otlp_headers_file = {:?}\n", file.display().to_string());
    let mut agent = host(&collector.endpoint(), &more);
    // Whom others could read it from.
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let checked = Command::new(binaries::agent()).arg("check-config").arg(agent.config()).output();
    let said = String::from_utf8_lossy(&checked.unwrap().stderr).into_owned();
    assert!(said.contains("otlp_headers_file") && !said.contains(SECRET), "{said}");
    let refused = agent.try_start().unwrap_err();
    assert!(refused.stderr.contains("TRACING_INVALID"), "{refused:?}");
    assert!(!refused.stderr.contains(SECRET), "{refused:?}");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    agent.start();
    agent.ctl(&["status"]).ok();
    wait_until("the header", || collector.told().authorization == format!("Bearer {SECRET}"));
    let shown = agent.ctl(&["config", "show"]).ok().text();
    let log = std::fs::read_to_string(agent.state().join("logs/agent.log")).unwrap();
    for text in [shown, log, agent.stderr(), format!("{:?}", collector.told().spans)] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn over_tls_the_collector_must_be_vouched_for() {
    let (ours, others) = (Authority::new("prod"), Authority::new("other"));
    let collector = Collector::secured(&ours);
    for (authority, vouched) in [(&ours, true), (&others, false)] {
        authority.put("ca-of-collectors.pem", &authority.ca());
        let file = authority.path("ca-of-collectors.pem").display().to_string();
        let mut agent = host(&collector.endpoint(), &format!("otlp_ca_file = {file:?}\n"));
        agent.start();
        agent.ctl(&["oplog", "note", if vouched { "vouched" } else { "not vouched" }]).ok();
        if vouched {
            collector.wait_span("the call", |it| it.name == "genesis.v1.OplogService/AddNote");
        } else {
            let before = collector.told().spans.len();
            wait_until("spans to be dropped", || dropped(&agent).is_some_and(|count| count > 0.0));
            assert_eq!(collector.told().spans.len(), before);
        }
    }
}

#[test]
fn without_a_collector_nothing_is_exported() {
    let agent = TestAgent::started(|_| String::new());
    agent.ctl(&["status"]).ok();
    assert!(!http::get(agent.http(), "/metrics").1.contains("genesis_tracing"));
}
