//! What the agent shows over HTTP: the page without its script, its JSON, what changes in it, and to whom.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::Command;

use genesis_agent::pki::Role;
use genesis_tests::clock::{Watch, wait_until};
use genesis_tests::pki::Authority;
use genesis_tests::toured::toured;
use genesis_tests::{Signal, TestAgent, http};
use serde_json::{Value, json};

/// Answers that need to be told which.
const NAMED: [(&str, &str); 5] = [
    ("baselines/operation", "operation=orders.place"),
    ("baselines/history", "operation=orders.place"),
    ("baselines/calls", "operation=orders.place&last=90000s"),
    ("experiments/experiment", "id=TEST_1"),
    ("health/issue", "issue=queue"),
];

fn plain() -> TestAgent {
    TestAgent::started(|_| String::new())
}

#[test]
fn every_page_of_json_is_as_the_document_says() {
    let agent = toured("");
    let document: Value =
        serde_json::from_str(&http::get(agent.http(), "/api/openapi.json").1).unwrap();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(page) = path.strip_prefix("/api/operations/") else { continue };
        let named = NAMED.iter().find(|(name, _)| *name == page);
        let query = named.map_or(String::new(), |(_, query)| format!("?{query}"));
        let (status, body) = http::get(agent.http(), &format!("{path}{query}"));
        let answer: Value =
            serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}"));
        // The host of the demo is on its own.
        let (expected, kind) = match page {
            "fleet/members" => (409, &item["get"]["responses"]["default"]),
            _ => (200, &item["get"]["responses"]["200"]),
        };
        assert_eq!(status, expected, "{path}: {body}");
        let schema = &kind["content"]["application/json"]["schema"];
        conforms(&document, schema, &answer, path);
        // One field less or more is noticed.
        let mut more = answer.clone();
        more["unheardOf"] = json!(1);
        if expected == 200 {
            assert!(!validator(&document, schema).is_valid(&more), "{path}");
        }
        seen += 1;
    }
    assert!(seen >= 40, "{seen}");
    // What goes wrong is described as well.
    for (path, status, reason) in [
        ("/api/operations/nope/status", 404, "PAGE_UNKNOWN"),
        ("/api/operations/%ff/x", 404, "PAGE_UNKNOWN"),
        ("/nope", 404, "PAGE_UNKNOWN"),
        ("/assets/nope.js", 404, "PAGE_UNKNOWN"),
        ("/api/operations/oplog/entries?limits=1", 400, "QUERY_INVALID"),
        ("/api/operations/oplog/entries?limit=99999", 400, "LIMIT_INVALID"),
        ("/api/operations/baselines/operation?operation=nope", 404, "OPERATION_NOT_FOUND"),
        ("/api/events", 400, "FOLLOW_INVALID"),
        ("/api/events?follow=nope", 400, "FOLLOW_INVALID"),
    ] {
        let (code, body) = http::get(agent.http(), path);
        let answer: Value =
            serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}"));
        assert_eq!((code, answer["error"]["reason"].as_str()), (status, Some(reason)), "{path}");
        conforms(&document, &json!({ "$ref": "#/components/schemas/Error" }), &answer, path);
    }
}

fn validator(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut whole = schema.clone();
    whole["components"] = document["components"].clone();
    jsonschema::draft202012::new(&whole).unwrap()
}

fn conforms(document: &Value, schema: &Value, answer: &Value, what: &str) {
    let validator = validator(document, schema);
    let errors: Vec<_> =
        validator.iter_errors(answer).map(|it| format!("{}: {it}", it.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{answer:#}");
}

#[test]
fn the_same_is_said_over_http_and_by_genesisctl() {
    let agent = plain();
    for (page, command) in [
        ("certificates/status", &["cert", "list"][..]),
        ("schedule/status", &["schedule", "list"]),
        ("backup/status", &["backup", "list"]),
        ("health/remediation", &["health", "remediation", "status"]),
    ] {
        // Between the two something may have begun.
        wait_until(page, || {
            let over_http = http::get(agent.http(), &format!("/api/operations/{page}")).1;
            let over_http: Value = serde_json::from_str(&over_http).unwrap();
            over_http == agent.ctl(&[command, &["-o", "json"]].concat()).response()
        });
    }
}

#[test]
fn the_first_view_needs_no_script_and_browsers_are_told_to_trust_nobody_else() {
    let agent = plain();
    let host = format!("host: {}\r\n", agent.http());
    let (head, page) = http::get_with(agent.http(), "/", &host);
    let told = head.to_ascii_lowercase();
    for line in [
        "content-type: text/html",
        "content-security-policy: default-src 'none'; script-src 'self'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
    ] {
        assert!(told.contains(line), "{line} is not in {head}");
    }
    for word in ["logs", "health", "source(s)", "/assets/page.css", "/assets/page.js"] {
        assert!(page.contains(word), "{word} is not in {page}");
    }
    // Nothing that such a policy forbids, and nothing from elsewhere.
    for word in [" style=", " onclick=", "<style", "http://", "https://", "//cdn"] {
        assert!(!page.contains(word), "{word} is in {page}");
    }
    let view = http::get(agent.http(), "/overview").1;
    assert!(view.contains("source(s)") && !view.contains("<html"), "{view}");
    // What a browser has of the page's files, it has.
    let (head, style) = http::get_with(agent.http(), "/assets/page.css", &host);
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let known = format!("{host}if-none-match: {tag}\r\n");
    let (again, nothing) = http::get_with(agent.http(), "/assets/page.css", &known);
    assert!(
        again.starts_with("HTTP/1.1 304 ") && nothing.is_empty() && !style.is_empty(),
        "{again}"
    );
    // GET only.
    for path in ["/", "/overview", "/api/events", "/api/operations/agent/status", "/metrics"] {
        assert_eq!(http::request(agent.http(), "POST", path).0, 405, "{path}");
        let (status, body) = http::request(agent.http(), "DELETE", path);
        assert_eq!((status, body.contains("METHOD_NOT_ALLOWED")), (405, true), "{path}: {body}");
    }
}

#[test]
fn a_name_from_elsewhere_that_leads_here_gets_nothing() {
    let agent = plain();
    for path in ["/", "/metrics", "/api/operations/agent/status"] {
        let (head, body) = http::get_with(agent.http(), path, "host: rebound.example:7480\r\n");
        assert!(head.starts_with("HTTP/1.1 421 "), "{head}");
        assert!(body.contains("HOST_FOREIGN") && !body.contains("logs"), "{body}");
        let port = agent.http().port();
        let (head, _) = http::get_with(agent.http(), path, &format!("host: localhost:{port}\r\n"));
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
}

/// What is set anew for each reader is whole for each of them.
#[test]
fn several_who_read_metrics_at_once_each_see_all_of_them() {
    let agent = toured("");
    let address = agent.http();
    let names = move || -> Vec<String> {
        let text = http::get(address, "/metrics").1;
        let series = text.lines().filter(|line| !line.starts_with('#'));
        series.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    // Counters begin with their first event.
    let gone = |before: &[String], now: &[String]| -> Vec<String> {
        before.iter().filter(|name| !now.contains(name)).cloned().collect()
    };
    let whole = names();
    assert!(whole.iter().any(|name| name.starts_with("genesis_baselines_latency_seconds")));
    let readers: Vec<_> = (0..6)
        .map(|_| std::thread::spawn(move || (0..60).map(|_| names()).collect::<Vec<_>>()))
        .collect();
    for reader in readers {
        for seen in reader.join().unwrap() {
            let gone = gone(&whole, &seen);
            assert!(gone.is_empty(), "{gone:?}");
        }
    }
}

/// The JSON of the next event of this name.
fn next(stream: &mut BufReader<TcpStream>, name: &str) -> Value {
    let mut line = String::new();
    let mut ours = false;
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream has ended");
        if let Some(event) = line.strip_prefix("event: ") {
            ours = event.trim_end() == name;
        } else if let Some(data) = line.strip_prefix("data: ").filter(|_| ours) {
            return serde_json::from_str(data).unwrap();
        }
    }
}

#[test]
fn what_changes_is_told_to_whoever_follows() {
    let mut agent = plain();
    let path = "/api/events?follow=oplog%2Fentries%3Flimit%3D1&follow=recovery/status&follow=experiments/experiment%3Fid%3DTEST_9";
    let mut stream = http::follow(agent.http(), path);
    let first = next(&mut stream, "oplog/entries?limit=1");
    let newest =
        |answer: &Value| answer["entries"][0]["sequence"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(newest(&first) > 0, "{first}");
    // What can't be had does not keep the others.
    let failed = next(&mut stream, "error");
    assert_eq!(failed["follow"], "experiments/experiment?id=TEST_9");
    assert_eq!(failed["error"]["reason"], "EXPERIMENT_NOT_FOUND");
    agent.ctl(&["--reason", "somebody looks on", "oplog", "note", "seen at once"]).ok();
    let second = next(&mut stream, "oplog/entries?limit=1");
    assert!(newest(&second) > newest(&first), "{second}");
    // Somebody who looks on does not keep an agent from ending.
    let watch = Watch::start();
    agent.signal(Signal::TERM);
    agent.wait();
    assert!(watch.elapsed().as_secs() < 5, "{:?}", watch.elapsed());
}

#[test]
fn another_sites_page_gets_nothing_done_here() {
    let agent = plain();
    let ask = |more: &str| {
        let host = format!("host: localhost\r\n{more}");
        http::get_with(agent.http(), "/api/operations/agent/status", &host)
    };
    let (head, body) = ask("sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n");
    assert!(head.contains(" 403 ") && body.contains("ORIGIN_FOREIGN"), "{head}\n{body}");
    for of_ours in [
        "sec-fetch-site: same-origin\r\n",
        "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\n",
    ] {
        assert!(ask(of_ours).0.contains(" 200 "), "{of_ours}");
    }
    let (head, _) = http::get_with(agent.http(), "/", "host: localhost\r\nhost: evil.example\r\n");
    assert!(!head.contains(" 200 "), "two names: {head}");
}

#[test]
fn so_many_follow_and_whoever_leaves_makes_room() {
    let agent = plain();
    let path = "/api/events?follow=oplog/status";
    let mut streams: Vec<_> = (0..16).map(|_| http::follow(agent.http(), path)).collect();
    for stream in &mut streams {
        next(stream, "oplog/status");
    }
    let (status, body) = http::get(agent.http(), path);
    assert_eq!((status, body.contains("TOO_MANY_STREAMS")), (503, true), "{body}");
    // Others are answered all the same.
    assert_eq!(http::get(agent.http(), "/api/operations/agent/status").0, 200);
    drop(streams.pop());
    wait_until("a place to be free", || {
        let mut line = String::new();
        let mut stream = http::follow(agent.http(), path);
        stream.read_line(&mut line).is_ok() && line.contains(" 200 ")
    });
}

#[test]
fn over_tls_it_is_for_those_who_have_a_role() {
    let authority = Authority::new("prod");
    let agent = TestAgent::started(|_| {
        authority.config("prod").replace("[listen]\n", "[listen]\nhttps = \"127.0.0.1:0\"\n")
    });
    authority.put("ca-of-server.pem", &authority.ca());
    let asked = |fleet: Option<&Authority>, path: &str, address: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-m", "10", "-o", "-", "-w", "%{http_code}", "--cacert"]);
        curl.arg(authority.path("ca-of-server.pem"));
        if let Some(fleet) = fleet {
            let viewer = fleet.client(Role::Viewer);
            fleet.put("viewer.pem", &viewer.certificate_pem);
            fleet.put("viewer.key", &viewer.key_pem);
            curl.arg("--cert").arg(fleet.path("viewer.pem"));
            curl.arg("--key").arg(fleet.path("viewer.key"));
        }
        let output = curl.arg(format!("https://{address}{path}")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let here = agent.https().to_string();
    for path in ["/", "/api/operations/health/status", "/metrics"] {
        let answer = asked(Some(&authority), path, &here);
        assert!(answer.ends_with("200"), "{path}: {answer}");
    }
    // By whatever name it goes: who shows a certificate is no page from elsewhere.
    let named = asked(Some(&authority), "/", &format!("localhost:{}", agent.https().port()));
    assert!(named.ends_with("200") && named.contains("source(s)"), "{named}");
    for stranger in [None, Some(&Authority::new("other"))] {
        let answer = asked(stranger, "/", &here);
        assert!(!answer.contains("source(s)") && answer.ends_with("000"), "{answer}");
    }
}
