//! Performance baselines: observations in by a file, what is usual out, and people told when it is left.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use genesis_tests::alerts::{channel, mode, secret};
use genesis_tests::clock::{now, wait_for, wait_until};
use genesis_tests::health::{Check, config};
use genesis_tests::http_script::{HttpScript, says};
use genesis_tests::postgres::Postgres;
use genesis_tests::{TestAgent, http};
use jiff::SignedDuration;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde_json::Value;

use genesis_tests::wall_clock::WallClock;

/// Calls that a seed makes: lognormal around 20 ms times a scale.
pub(crate) struct Traffic(u64);

impl Traffic {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Between 0 and 1, never either.
    fn uniform(&mut self) -> f64 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 12;
        (bits as f64 + 0.5) / (1_u64 << 52) as f64
    }

    pub(crate) fn milliseconds(&mut self, scale: f64) -> f64 {
        let (one, other) = (self.uniform(), self.uniform());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
        20.0 * scale * (0.5 * normal).exp()
    }

    /// Lines of CSV for calls between two seconds since 1970.
    pub(crate) fn csv(
        &mut self,
        operation: &str,
        from: i64,
        until: i64,
        calls: usize,
        scale: f64,
    ) -> String {
        let mut text = "operation,timestamp,latency_ms\n".to_owned();
        for _ in 0..calls {
            let at = from as f64 + self.uniform() * (until - from) as f64;
            let _ = writeln!(text, "{operation},{at:.6},{:.6}", self.milliseconds(scale));
        }
        text
    }
}

/// Writes a file that is not like any before.
pub(crate) fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

pub(crate) fn observe(agent: &TestAgent, path: &Path, more: &[&str]) -> genesis_tests::Output {
    agent.ctl(&[&["observe", "--file", path.to_str().unwrap()], more].concat())
}

/// Two days of history and the baseline of it.
pub(crate) fn history(agent: &TestAgent, traffic: &mut Traffic, ahead: i64) {
    let now = now().as_second() + ahead;
    let text = traffic.csv("orders.place", now - 48 * 3_600, now - 1_500, 48 * 1_000, 1.0);
    let path = file(agent.folder(), &format!("history-{ahead}.csv"), &text);
    observe(agent, &path, &[]).ok();
    agent.ctl(&["baseline", "recalculate"]).ok();
}

pub(crate) fn shown(agent: &TestAgent) -> Value {
    agent.ctl(&["baseline", "show", "orders.place", "-o", "json"]).response()
}

/// Two windows pass with these calls in each, and are judged.
pub(crate) fn windows(
    agent: &TestAgent,
    clock: &WallClock,
    traffic: &mut Traffic,
    ahead: &mut i64,
    scale: f64,
) {
    let start = windows_pass(agent, clock, traffic, ahead, scale);
    wait_until("both windows to be judged", || {
        let shown = shown(agent);
        let newest = shown["windows"][0]["start"].as_str().map(str::to_owned);
        let newest: Option<jiff::Timestamp> = newest.and_then(|it| it.parse().ok());
        newest.is_some_and(|newest| newest.as_second() >= start + 300)
    });
}

/// Two windows pass with these calls in each; when the first began. On a host that is slow a look may come before the
/// calls do, and find nothing in them.
pub(crate) fn windows_pass(
    agent: &TestAgent,
    clock: &WallClock,
    traffic: &mut Traffic,
    ahead: &mut i64,
    scale: f64,
) -> i64 {
    *ahead += 660;
    let until = now().as_second() + *ahead;
    let start = until - until.rem_euclid(300) - 600;
    clock.ahead(SignedDuration::from_secs(*ahead));
    let text = traffic.csv("orders.place", start, start + 600, 1_200, scale);
    let path = file(agent.folder(), &format!("windows-{ahead}.csv"), &text);
    // What is shown of it is none of this.
    observe(agent, &path, &[]).ok();
    *ahead += 61;
    clock.ahead(SignedDuration::from_secs(*ahead));
    start
}

#[test]
fn observations_of_a_file_become_a_baseline_that_prometheus_understands() {
    let agent = TestAgent::started(|_| String::new());
    let mut traffic = Traffic::new(1);
    let now = now().as_second();
    let mut text = traffic.csv("orders.place", now - 86_400, now - 60, 20_000, 1.0);
    text.push_str("orders.place,yesterday,1\norders.place,1,2,3,4\n\"unfinished\n");
    let path = file(agent.folder(), "day.csv", &text);
    let said = observe(&agent, &path, &[]).exits(5);
    let said = said.says(&["line 20002", "yesterday", "line 20004", "OBSERVATIONS_INCOMPLETE"]);
    assert!(said.text().contains("20,000"), "{}", said.text());
    // The same file again counts nothing; another way of writing the same is another file.
    observe(&agent, &path, &[]).exits(5).says(&["it was there before"]);
    let lines = format!(
        "{{\"operation\":\"orders.cancel\",\"timestamp\":{now},\"latency_s\":0.25}}\n\
         {{\"operation\":\"orders.cancel\",\"timestamp\":\"{}\",\"latency_ms\":-1}}\n",
        genesis_tests::clock::now()
    );
    let path = file(agent.folder(), "more.ndjson", &lines);
    observe(&agent, &path, &[]).exits(5).says(&["line 2", "is not from 0"]);
    agent.ctl(&["baseline", "list"]).ok().says(&["orders.place", "LEARNING", "orders.cancel"]);
    agent
        .ctl(&["baseline", "recalculate"])
        .ok()
        .says(&["too few observations of orders.cancel (1)"]);
    let shown = shown(&agent);
    let baseline = &shown["operation"]["baseline"];
    assert_eq!(baseline["count"], "20000", "{baseline:#}");
    assert!((baseline["alpha"].as_f64().unwrap() - 0.005_415).abs() < 1e-6);
    let p99 = &baseline["quantiles"][2];
    let (low, high) = (p99["lowSeconds"].as_f64().unwrap(), p99["highSeconds"].as_f64().unwrap());
    // 20 ms e^(0.5 2.326).
    assert!(low < 0.064 && 0.064 < high && high / low < 1.15, "{p99:#}");
    // No window could be judged yet.
    let page = agent.ctl(&["baseline", "show", "orders.place"]).exits(5);
    page.says(&["n = 20,000", "relative error of quantiles: at most 0.54 %", "p99", "█"]);

    let out = agent.folder().join("out.prom");
    let export = ["baseline", "export", "--format", "prometheus", "--out", out.to_str().unwrap()];
    agent.ctl(&export).ok();
    let text = std::fs::read_to_string(&out).unwrap();
    promtool(&text);
    // The buckets add up to what was counted, one by one.
    let counts: Vec<u64> = text
        .lines()
        .filter(|line| line.starts_with("genesis_baseline_seconds_bucket"))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(counts.is_sorted() && counts.last() == Some(&20_000), "{counts:?}");
    let sketch = &shown["sketch"];
    let of_sketch: Vec<u64> = sketch["counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap().parse::<u64>().unwrap())
        .filter(|it| *it > 0)
        .collect();
    let mut before = 0;
    let mut steps: Vec<u64> =
        counts.iter().map(|it| it - std::mem::replace(&mut before, *it)).collect();
    steps.retain(|it| *it > 0);
    assert_eq!(steps, of_sketch);
    let metrics = http::get(agent.http(), "/metrics").1;
    for line in [
        "genesis_baselines_latency_seconds{operation=\"orders.place\",percentile=\"99\"}",
        "genesis_baselines_observations_total{outcome=\"counted\"} 20001",
        "genesis_baselines_degraded{operation=\"orders.place\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let page = http::get(agent.http(), "/api/operations/baselines/status").1;
    assert!(page.contains("orders.place"), "{page}");
    let calls = ["baseline", "calls", "orders.place", "-o", "json"];
    let calls = |more: &[&str]| agent.ctl(&[&calls[..], more].concat()).ok().response();
    let slowest = calls(&["--limit", "3"]);
    assert_eq!((&slowest["inRange"], &slowest["matched"]), (&"20000".into(), &"20000".into()));
    let each = slowest["calls"].as_array().unwrap();
    let took: Vec<f64> = each.iter().map(|it| it["seconds"].as_f64().unwrap()).collect();
    assert!(took.len() == 3 && took.is_sorted_by(|one, next| one >= next), "{slowest:#}");
    assert!((took[0] / baseline["maxSeconds"].as_f64().unwrap() - 1.0).abs() < 1e-12);
    let few = calls(&["--last", "2h", "--above", "40ms", "--newest"]);
    assert!(few["matched"].as_str().unwrap().parse::<u32>().unwrap() < 200, "{few:#}");
    agent
        .ctl(&["baseline", "calls", "orders.place", "--limit", "2"])
        .ok()
        .says(&["ENDED", "20,000 calls; kept since"]);
    agent.ctl(&["baseline", "calls", "nobody"]).exits(1).says(&["OPERATION_NOT_FOUND"]);
    let backwards = ["--from", "2024-01-02", "--until", "2024-01-01"];
    agent
        .ctl(&[&["baseline", "calls", "orders.place"][..], &backwards].concat())
        .exits(2)
        .says(&["TIME_INVALID"]);
    agent.ctl(&["baseline", "show", "nobody"]).exits(1).says(&["OPERATION_NOT_FOUND"]);
    agent
        .ctl(&["baseline", "accept", "--operation", "orders.place", "--reason", "x", "--yes"])
        .says(&["EPISODE_NOT_FOUND"]);
}

/// Has Debian's promtool look at a text.
fn promtool(text: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by tests/run");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_doubled_latency_opens_the_breaker_and_calls_people_once_with_what_changed() {
    let page = HttpScript::start([], says(200, ""));
    let server = Postgres::start("shared_preload_libraries = 'pg_stat_statements'\n");
    server.sql("postgres", "CREATE DATABASE trades");
    server.sql("trades", "CREATE EXTENSION pg_stat_statements");
    let mut agent = TestAgent::new(|folder| {
        let key = secret(folder, "hook", "key");
        let lines = format!("url = {:?}\nsecret_file = {key:?}", page.url("/"));
        let database = format!(
            "[[database.instance]]\nname = \"trades\"\nurl = \"{}\"\nschedule = \"never\"\n",
            server.url("trades")
        );
        let acted = folder.join("acted");
        let check = Check::new("latency", "baseline").text("target", "orders.place").set(
            "action",
            format!("{{ command = [\"/usr/bin/touch\", {acted:?}], timeout = \"5s\" }}"),
        );
        format!(
            "[recovery]\nknown_good_after = \"0s\"\n[alerts]\ngroup = \"0s\"\nhigh = [\"hook\"]\n{}{database}{}",
            channel("hook", "webhook", &lines),
            config("", [&check])
        )
    });
    let clock = WallClock::of(&mut agent);
    agent.start();
    let mut traffic = Traffic::new(2);
    let mut ahead = 0;
    history(&agent, &mut traffic, ahead);
    let trip =
        ["breaker", "trip", "orders.place", "--for", "1s", "--reason", "so that it is there"];
    agent.ctl(&trip).ok();
    agent.ctl(&["breaker", "reset", "orders.place", "--reason", "as above"]).ok();
    for _ in 0..5 {
        windows(&agent, &clock, &mut traffic, &mut ahead, 1.0);
    }
    let usual = shown(&agent);
    assert_eq!(usual["operation"]["state"], "BASELINE_STATE_USUAL", "{usual:#}");
    let look = agent.ctl(&["health", "check", "--check", "latency"]);
    look.ok().says(&["OK", "orders.place is as usual"]);
    server.sql("trades", "SELECT pg_sleep(0.5) AS what_the_orders_wait_for");
    assert_eq!(usual["windows"][0]["notJudged"], "", "{:#}", usual["windows"]);
    // Somebody changes something, and it is twice as slow.
    let text = std::fs::read_to_string(agent.config()).unwrap();
    agent.configure(&format!("{text}\n[baselines]\nfirst_after = \"25h\"\n"));
    agent.ctl(&["config", "reload", "--reason", "larger batches"]).ok();
    windows(&agent, &clock, &mut traffic, &mut ahead, 2.0);
    let firing = wait_for("the episode to be told", || agent.firing("orders.place"));
    let left = shown(&agent);
    let episode = &left["operation"]["episode"];
    let worst =
        episode["worstSeconds"].as_f64().unwrap() / episode["usualSeconds"].as_f64().unwrap();
    assert!((1.6..2.6).contains(&worst), "{episode:#}");
    assert!(episode["changes"].to_string().contains("larger batches"), "{episode:#}");
    let surroundings = episode["surroundings"].to_string();
    assert!(surroundings.contains("load ") && surroundings.contains("memory "), "{episode:#}");
    assert!(!firing["details"].as_array().unwrap().is_empty());
    let queries = episode["queries"].to_string();
    assert!(
        queries.contains("trades: ") && queries.contains("what_the_orders_wait_for"),
        "{queries}"
    );
    // The row of the remediation matrix acts by it, and people do not hear of it twice.
    wait_until("the check's action", || agent.folder().join("log/acted").exists());
    let issue = wait_for("the check's issue", || {
        let all = agent.alerts()["firing"].as_array().cloned().unwrap_or_default();
        all.into_iter()
            .find(|it| it["title"].as_str().unwrap().starts_with("latency: orders.place"))
    });
    assert_eq!(issue["runbook"], "api-degradation", "{issue:#}");
    // Once its attempts are used up it is behind the incident that calls people about that.
    let quiet = issue["quiet"].as_str().unwrap();
    let behind = ["behind baselines/episode/orders.place", "behind health/incident/"];
    assert!(behind.iter().any(|it| quiet.starts_with(it)), "{issue:#}");
    agent.ctl(&["baseline", "list", "--degraded"]).exits(3).says(&["orders.place", "DEGRADED"]);
    agent.ctl(&["status"]).exits(3).says(&["LATENCY_DEGRADED"]);
    let breaker = agent.ctl(&["breaker", "show", "orders.place", "-o", "json"]);
    let breaker = breaker.response()["breaker"].clone();
    assert!(breaker["opening"].as_str().unwrap().parse::<u64>().unwrap() >= 2, "{breaker:#}");
    // It lasts, and what changed is offered to be taken back.
    for _ in 0..3 {
        windows(&agent, &clock, &mut traffic, &mut ahead, 2.0);
    }
    let lasting = shown(&agent);
    let rollbacks = lasting["operation"]["episode"]["rollbacks"].to_string();
    assert!(rollbacks.contains("genesisctl rollback --component config --to 1"), "{rollbacks}");
    let anomalies = agent.ctl(&["baseline", "anomalies", "--candidates", "-o", "json"]);
    let anomalies = anomalies.response();
    assert_eq!(anomalies["episodes"].as_array().unwrap().len(), 1, "{anomalies:#}");
    assert!(anomalies["candidates"].as_array().unwrap().len() >= 3, "{anomalies:#}");
    // It is what is usual from now on.
    let accept = ["baseline", "accept", "--operation", "orders.place"];
    agent.ctl(&[&accept[..], &["--plan"]].concat()).ok().says(&["end-episode"]);
    agent.ctl(&accept).exits(2);
    agent.ctl(&[&accept[..], &["--reason", "new venue", "--yes"]].concat()).ok();
    let accepted = shown(&agent);
    assert_eq!(accepted["operation"]["baseline"]["cause"], "accepted");
    assert!(accepted["operation"]["episode"].is_null(), "{accepted:#}");
    agent
        .ctl(&["baseline", "history", "--operation", "orders.place"])
        .ok()
        .says(&["accepted", "new venue"]);
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn the_weekly_calculation_that_was_missed_is_made_up_for_once() {
    let mut agent = TestAgent::new(|_| String::new());
    let clock = WallClock::of(&mut agent);
    agent.start();
    let mut traffic = Traffic::new(3);
    history(&agent, &mut traffic, 0);
    agent.terminate();
    // Two Mondays pass while nobody is there. What was missed is made up for within six days, so never from a Sunday on.
    let then = TimeZone::UTC.to_datetime(now() + SignedDuration::from_hours(15 * 24));
    let days = if then.weekday() == Weekday::Sunday { 17 } else { 15 };
    clock.ahead(SignedDuration::from_hours(days * 24));
    agent.start();
    let runs = |agent: &TestAgent| {
        let runs = agent.ctl(&["run", "list", "--kind", "baselines.recalculate", "-o", "json"]);
        runs.response()["runs"].as_array().unwrap().clone()
    };
    wait_until("the run that was missed", || {
        runs(&agent).iter().filter(|run| run["state"] == "RUN_STATE_SUCCEEDED").count() == 2
    });
    let weekly = shown(&agent)["operation"]["baseline"].clone();
    assert_eq!(
        (&weekly["generation"], &weekly["cause"]),
        (&2.into(), &"weekly".into()),
        "{weekly:#}"
    );
    agent.restart();
    agent.ctl(&["baseline", "list"]).exits(5).says(&["SILENT"]);
    assert_eq!(runs(&agent).len(), 2);
}

#[test]
fn a_damaged_file_of_observations_keeps_the_agent_from_nothing_else() {
    let mut agent = TestAgent::started(|_| String::new());
    let mut traffic = Traffic::new(4);
    history(&agent, &mut traffic, 0);
    agent.terminate();
    let path = agent.state().join("observations.redb");
    let sound = std::fs::read(&path).unwrap();
    std::fs::write(&path, &sound[..sound.len() / 2]).unwrap();
    agent.start();
    agent.ctl(&["status"]).exits(3).says(&["OBSERVATIONS_UNAVAILABLE"]);
    agent.ctl(&["baseline", "list"]).says(&["OBSERVATIONS_UNAVAILABLE"]);
    let text = traffic.csv("orders.place", now().as_second() - 60, now().as_second(), 10, 1.0);
    let some = file(agent.folder(), "some.csv", &text);
    observe(&agent, &some, &[]).says(&["OBSERVATIONS_UNAVAILABLE"]);
    wait_for("people to be told", || agent.firing("observations"));
    agent.terminate();
    // It was not touched.
    assert_eq!(std::fs::read(&path).unwrap(), sound[..sound.len() / 2]);
    std::fs::write(&path, &sound).unwrap();
    agent.start();
    observe(&agent, &some, &[]).ok();
    assert_eq!(shown(&agent)["operation"]["baseline"]["generation"], 1);
}

/// What a service says of its own calls: so many up to 10 ms, and so many up to 20 ms.
fn own_histogram(fast: u64, slow: u64) -> String {
    let all = fast + slow;
    format!(
        "# TYPE http_request_duration_seconds histogram\n\
         http_request_duration_seconds_bucket{{handler=\"place\",le=\"0.01\"}} {fast}\n\
         http_request_duration_seconds_bucket{{handler=\"place\",le=\"0.02\"}} {all}\n\
         http_request_duration_seconds_bucket{{handler=\"place\",le=\"+Inf\"}} {all}\n\
         http_request_duration_seconds_sum{{handler=\"place\"}} {}\n\
         http_request_duration_seconds_count{{handler=\"place\"}} {all}\n",
        0.005 * fast as f64 + 0.015 * slow as f64
    )
}

#[test]
fn a_service_s_own_histogram_is_scraped_and_what_is_native_is_had_as_such() {
    let first = says(200, &own_histogram(1_000, 50));
    let service = HttpScript::start([first], says(200, &own_histogram(1_000, 350)));
    let agent = TestAgent::started(|_| {
        format!(
            "[[baselines.scrape]]\nurl = {:?}\nmetric = \"http_request_duration_seconds\"\noperation = \"orders.{{handler}}\"\n\
             interval = \"1s\"\n",
            service.url("/metrics")
        )
    });
    // The first look tells nothing; by the second one 300 came, and then none.
    service.wait_heard(3);
    wait_until("what was scraped", || {
        let metrics = http::get(agent.http(), "/metrics").1;
        metrics.contains("genesis_baselines_observations_total{outcome=\"counted\"} 300")
    });
    agent.ctl(&["baseline", "recalculate", "--operation", "orders.place"]).ok();
    let shown = agent.ctl(&["baseline", "show", "orders.place", "-o", "json"]).response();
    let baseline = &shown["operation"]["baseline"];
    assert_eq!(baseline["count"], "300", "{baseline:#}");
    let median = baseline["quantiles"][0]["seconds"].as_f64().unwrap();
    assert!((0.01..=0.02).contains(&median), "{baseline:#}");
    // Its bounds are a factor of two apart.
    assert!((baseline["alpha"].as_f64().unwrap() - 1.0 / 3.0).abs() < 0.01, "{baseline:#}");
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=1";
    let native = Command::new("curl")
        .args([
            "-sS",
            "-i",
            "-H",
            &format!("Accept: {accept}"),
            &format!("http://{}/metrics", agent.http()),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&native.stdout).into_owned();
    assert!(said.contains("application/vnd.google.protobuf"), "{said}");
    assert!(said.contains("genesis_baseline_seconds") && said.contains("orders.place"), "{said}");
    // The service goes away: it is counted.
    service.always(says(503, ""));
    wait_until("a failed look", || {
        let metrics = http::get(agent.http(), "/metrics").1;
        !metrics.contains("genesis_baselines_scrapes_total{outcome=\"failed\"} 0")
    });
}

#[test]
fn an_exporter_of_opentelemetry_pushes_with_its_token_and_not_without() {
    let mut agent = TestAgent::started(|_| String::new());
    let now = now().as_nanosecond();
    let body = format!(
        "{{\"resourceMetrics\":[{{\"resource\":{{\"attributes\":[{{\"key\":\"service.name\",\"value\":{{\"stringValue\":\"orders\"}}}}]}},\
         \"scopeMetrics\":[{{\"metrics\":[{{\"name\":\"http.server.request.duration\",\"unit\":\"s\",\"exponentialHistogram\":\
         {{\"aggregationTemporality\":1,\"dataPoints\":[{{\"attributes\":[{{\"key\":\"http.request.method\",\"value\":{{\"stringValue\":\"GET\"}}}},\
         {{\"key\":\"http.route\",\"value\":{{\"stringValue\":\"/place\"}}}}],\"startTimeUnixNano\":\"{}\",\"timeUnixNano\":\"{now}\",\
         \"count\":\"200\",\"sum\":4.0,\"scale\":6,\"zeroCount\":\"0\",\"positive\":{{\"offset\":-370,\"bucketCounts\":[\"50\",\"100\",\"50\"]}},\
         \"min\":0.018,\"max\":0.02}}]}}}}]}}]}}]}}",
        now - 10_000_000_000
    );
    let path = file(agent.folder(), "otlp.json", &body);
    let send = |agent: &TestAgent, token: &str| {
        let output = Command::new("curl")
            .args(["-sS", "-w", "\n%{http_code}", "-H", "Content-Type: application/json"])
            .args(["-H", &format!("Authorization: Bearer {token}"), "--data-binary"])
            .args([&format!("@{}", path.display()), &format!("http://{}/v1/metrics", agent.http())])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let off = send(&agent, "secret");
    assert!(off.contains("OTLP_OFF") && off.ends_with("404"), "{off}");
    let token = secret(agent.folder(), "otlp", "secret");
    let text = std::fs::read_to_string(agent.config()).unwrap();
    // With the built-in checks.
    let text = text.replace("[health]\ndefaults = false\n", "");
    agent.configure(&format!("{text}\n[health]\n[baselines]\notlp_token_file = {token:?}\n"));
    agent.restart();
    // Whoever can read the token can push.
    let looked = || agent.ctl(&["health", "check", "--check", "secrets"]);
    looked().ok().says(&["OK"]);
    mode(&token, 0o644);
    looked().says(&["secrets", "WARN", token.to_str().unwrap()]);
    mode(&token, 0o600);
    let denied = send(&agent, "other");
    assert!(denied.contains("OTLP_DENIED") && denied.ends_with("401"), "{denied}");
    let taken = send(&agent, "secret");
    assert!(taken.ends_with("200"), "{taken}");
    let listed = agent.ctl(&["baseline", "list", "-o", "json"]).response();
    let operation = listed["operations"][0]["operation"].as_str().unwrap().to_owned();
    assert!(operation.contains("place"), "{listed:#}");
    agent.ctl(&["baseline", "recalculate", "--operation", &operation]).ok();
    let shown = agent.ctl(&["baseline", "show", &operation, "-o", "json"]).response();
    let sketch = &shown["sketch"];
    // Bucket for bucket: the index of an upper bound is one more than OTLP's.
    assert_eq!(sketch["counts"], serde_json::json!(["50", "100", "50"]), "{sketch:#}");
    assert_eq!((&sketch["offset"], &sketch["level"]), (&(-369).into(), &0.into()), "{sketch:#}");
    let nonsense = file(agent.folder(), "otlp.json", "{\"resourceMetrics\":7}");
    assert_eq!(nonsense, path);
    let invalid = send(&agent, "secret");
    assert!(invalid.contains("OTLP_INVALID") && invalid.ends_with("400"), "{invalid}");
}
