//! Whatever docs/monitoring asks has an answer of a real agent in which every domain has left something.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use genesis_agent::outside::database::sqlite;
use genesis_tests::clock::{now, wait_until};
use genesis_tests::health::{self, Check, Patient};
use genesis_tests::prometheus::Prometheus;
use genesis_tests::{TestAgent, http, lines, promql, source};
use serde_json::Value;

use crate::experiments::file;
use crate::matrices::{Feed, push, with_a_matrix};
use crate::monitoring::{boards, files, list, read, root, text};

/// Metrics that Prometheus itself makes of a scrape.
const OF_A_SCRAPE: [&str; 2] = ["up", "scrape_duration_seconds"];

/// The names of the samples that a page of metrics has.
fn sample_names(metrics: &str) -> BTreeSet<String> {
    let samples = metrics.lines().filter(|line| line.starts_with("genesis_"));
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// Makes a small database; its part of the configuration.
fn database(path: &Path) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(sqlite::make(path, "CREATE TABLE orders (id INTEGER)")).unwrap();
    format!(
        "[[database.instance]]\nname = \"orders\"\nurl = \"sqlite:{}\"\nschedule = \"never\"\nmin_free = \"0%\"\n\
         trades_probe = \"none\"\n",
        path.display()
    )
}

/// An agent that has something to tell of every domain, and a Prometheus with all rules that scrapes it.
fn monitored() -> (TestAgent, Prometheus) {
    let mut agent = TestAgent::new(|_| String::new());
    // One that an action mends, one that it does not, and one that has none.
    let patients = ["mended", "failed", "left"].map(|id| Patient::new(agent.folder(), id));
    let [mended, failed, left] = &patients;
    let checks = [
        mended.check().set("action", mended.treatment("echo 0 > value")),
        failed.check().set("action", failed.treatment("exit 1")),
        left.check(),
        Check::new("backup:orders", "queue-command")
            .set("command", "[\"echo\", \"0\"]")
            .text("crit", 9),
    ];
    let application = agent.folder().join("application");
    fs::create_dir(&application).unwrap();
    fs::write(application.join("requirements.txt"), "six==1.16.0\n").unwrap();
    let config = format!(
        "{}[alerts.channel.slack-critical]\nkind = \"command\"\ncommand = {{ command = [\"true\"] }}\n{}\
         [[dependencies.project]]\nname = \"app\"\nroot = {application:?}\nmanifests = [\"requirements.txt\"]\n\
         [tracing]\notlp_endpoint = \"http://127.0.0.1:9\"\n[matrices]\nwindow = \"2d\"\n[matrices.drift]\nmax = \"0.4\"\n{}",
        source("app", &agent.log("app.log"), "1MB"),
        database(&agent.folder().join("orders.db")),
        health::config("", &checks),
    );
    agent.configure(&config);
    agent.start();
    let prometheus = Prometheus::with_rules(agent.http(), &files(".rules.yml"));
    // With the self-signed one that comes into service without a CA no check of the certificates is content.
    agent.ctl(&["schedule", "run", "certificates.check"]).ok();
    let certificate =
        "[[certificates.certificate]]\nname = \"gw\"\ndomains = [\"gw.example.test\"]\n";
    agent.configure(&format!("{config}\n{certificate}"));
    agent.ctl(&["config", "reload"]).ok();
    agent.wait_certificate("gw", "DEGRADED_SELF_SIGNED");
    patients.iter().for_each(|patient| patient.is(1));
    agent.ctl(&["breaker", "trip", "orders-api", "--reason", "to be seen"]).ok();
    agent.backup("agent");
    agent.ctl(&["drill", "run", "emergency"]).ok();
    agent.ctl(&["db", "optimize", "--force"]).ok();
    agent.ctl(&["deps", "scan"]).exits(5);
    let set = ["param", "set", "--strategy", "mm", "threshold=1", "--reason", "to be seen"];
    agent.ctl(&set).ok();
    let create = ["experiment", "create", "--strategy", "mm", "--param", "threshold:2"];
    agent.ctl(&[&create[..], &["--split", "50/50", "--reason", "to be seen"]].concat()).ok();
    let (arm, at) = (|i| if i % 2 == 0 { "control" } else { "variant" }, now().as_second() + 60);
    let trades: String =
        (0..40).map(|i| format!("TEST_1,t-{i},{},{},{at}\n", arm(i), 10 + i % 5)).collect();
    let trades =
        file(&agent, "trades.csv", &format!("experiment,trade_id,arm,pnl,timestamp\n{trades}"));
    agent.ctl(&["trades", "push", "--file", trades.to_str().unwrap()]).ok();
    // One matrix in use, and one that has drifted too far.
    with_a_matrix(&agent);
    let wrong = [("BTC", 0.9), ("ETH", -0.8), ("SOL", 0.7), ("XRP", 0.6)];
    push(&agent, "wrong.csv", &Feed::new(3).csv(400, &wrong));
    agent.ctl(&["matrix", "update"]).exits(4);
    let rotate = || {
        fs::write(agent.log("app.log"), lines::text(1..10)).unwrap();
        agent.ctl(&["logs", "rotate", "--log-type", "app"])
    };
    rotate().ok();
    // A file where the archive's folder was makes the next segment fail.
    fs::rename(agent.archive(), agent.folder().join("archive.away")).unwrap();
    fs::write(agent.archive(), "").unwrap();
    rotate().exits(5);
    // A cascade of three, and three attempts in vain.
    agent.wait_outcomes("mended", &["SUCCEEDED"]);
    agent.wait_state("failed", "ESCALATED");
    agent.wait_denial("left", "NO_ACTION");
    agent.ctl(&["emergency", "activate", "--reason", "to be seen"]).ok();
    (agent, prometheus)
}

/// Waits until Prometheus has heard what comes last; the time at which it had.
fn heard(agent: &TestAgent, prometheus: &Prometheus) -> f64 {
    let mut last = 0;
    wait_until("all of it in Prometheus", || {
        // The latest window is one of five minutes, so that it has to be filled as time goes by.
        let now = now().as_second();
        if now > last {
            let calls: String = (0..200)
                .map(|i| format!("orders.place,{},{}\n", now - 4 * i, 20 + i % 7))
                .collect();
            let calls =
                file(agent, "calls.csv", &format!("operation,timestamp,latency_ms\n{calls}"));
            agent.ctl(&["observe", "--file", calls.to_str().unwrap()]).ok();
            if last == 0 {
                agent.ctl(&["baseline", "recalculate"]).ok();
            }
            last = now;
        }
        let rules = prometheus.rules();
        let evaluated = rules.iter().all(|it| it["health"] != "unknown");
        let there = [
            "genesis_baselines_window_latency_seconds",
            "genesis_logs_failures_total > 0",
            "genesis_agent_emergency_active == 1",
            "count_over_time(genesis_experiments_lift[1m]) > 2",
        ];
        evaluated && there.iter().all(|it| prometheus.query(it).is_some())
    });
    prometheus.query("time()").unwrap()
}

/// What stands for Grafana's own variables, the longest names first.
const BUILT_IN: [(&str, &str); 3] =
    [("$__rate_interval", "1m"), ("$__interval", "15s"), ("$__range", "1h")];

/// Asks what one board asks, with its variables as Grafana has them where all is chosen; what is wrong.
fn ask(name: &str, board: &Value, prometheus: &Prometheus, at: f64) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut variables: Vec<(String, String)> =
        BUILT_IN.iter().map(|(name, it)| ((*name).to_owned(), (*it).to_owned())).collect();
    for variable in list(board, "/templating/list").iter().filter(|it| it["type"] == "query") {
        let query = text(&variable["query"], "query");
        let asked = query.strip_prefix("label_values(").and_then(|it| it.strip_suffix(')'));
        let (metric, label) = asked.and_then(|it| it.rsplit_once(", ")).expect("label_values()");
        let found = prometheus.query_at(metric, Some(at)).unwrap();
        let values: BTreeSet<&String> =
            found.iter().filter_map(|it| it.labels.get(label)).collect();
        if values.is_empty() {
            wrong.push(format!("{name}: {query} is empty"));
        }
        let all = values.into_iter().map(String::as_str).collect::<Vec<_>>().join("|");
        variables.push((format!("${}", text(variable, "name")), format!("({all})")));
    }
    let targets = list(board, "/panels").iter().flat_map(|panel| {
        list(panel, "/targets").iter().map(|it| (text(panel, "title"), text(it, "expr")))
    });
    let annotations = list(board, "/annotations/list").iter();
    let annotations = annotations.map(|it| (text(it, "name"), text(it, "expr")));
    for (title, expression) in targets.chain(annotations) {
        let mut asked = expression.to_owned();
        for (variable, value) in &variables {
            asked = asked.replace(variable, value);
        }
        assert!(!asked.contains('$'), "{name}: {title}: {asked}");
        match prometheus.query_at(&asked, Some(at)) {
            Err(error) => wrong.push(format!("{name}: {title}: {error}")),
            Ok(found) if found.is_empty() => wrong.push(format!("{name}: {title}: empty: {asked}")),
            Ok(_) => {}
        }
        // A slip in a label would else hide behind `or vector(0)`.
        for selector in promql::selectors(&asked) {
            if prometheus.query_at(&selector, Some(at)).unwrap().is_empty() {
                wrong.push(format!("{name}: {title}: there is no {selector}"));
            }
        }
    }
    wrong
}

/// What is wrong with what rules ask for.
fn of_rules(
    rules: &[Value],
    exposed: &BTreeSet<String>,
    prometheus: &Prometheus,
    at: f64,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let (recorded, heard) = (recorded(rules), prometheus.metric_names());
    for rule in rules {
        let name = text(rule, "name");
        if rule["health"] != "ok" {
            wrong.push(format!("{name}: {}: {}", rule["health"], rule["lastError"]));
        }
        let selectors = promql::selectors(text(rule, "query"));
        assert!(!selectors.is_empty(), "{name} asks nothing");
        for selector in &selectors {
            let metric = promql::name(selector);
            let exists = exposed.contains(metric)
                || recorded.contains(metric)
                || (OF_A_SCRAPE.contains(&metric) && heard.contains(metric));
            if !exists {
                wrong.push(format!("{name}: there is no {metric}"));
            }
            // A slip in a label would else keep the rule silent for ever.
            let seen = prometheus.query_at(selector, Some(at)).unwrap();
            if seen.is_empty() && !metric.contains(':') {
                wrong.push(format!("{name}: there is no {selector}"));
            }
        }
        if rule["type"] == "alerting" {
            wrong.extend(said_of(rule));
        }
    }
    wrong
}

fn recorded(rules: &[Value]) -> BTreeSet<&str> {
    rules.iter().filter(|it| it["type"] == "recording").map(|it| text(it, "name")).collect()
}

/// What is wrong with the page: it lists what there is.
fn of_page(rules: &[Value], exposed: &BTreeSet<String>) -> Vec<String> {
    let page = read(&root().join("docs/monitoring/README.md"));
    let recorded = recorded(rules);
    let named = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let named: BTreeSet<&str> = named.filter(|it| it.contains("genesis_")).collect();
    let unknown = |it: &&&str| !exposed.contains(**it) && !recorded.contains(**it);
    let unknown = named.iter().filter(unknown).map(|it| format!("the page names {it}"));
    let all = exposed.iter().map(String::as_str).chain(recorded.iter().copied());
    let unlisted = all.filter(|it| !page.contains(&format!("`{it}`")));
    unknown.chain(unlisted.map(|it| format!("the page lacks {it}"))).collect()
}

#[test]
fn every_expression_has_an_answer_of_a_real_agent() {
    let (agent, prometheus) = monitored();
    let mut wrong = Vec::new();
    // A scrape that a loaded machine makes too late ends every series, until the next one.
    for _ in 0..3 {
        let at = heard(&agent, &prometheus);
        let boards = boards();
        wrong = boards.iter().flat_map(|(name, it)| ask(name, it, &prometheus, at)).collect();
        let exposed = http::get(agent.http(), "/metrics").1;
        let names = sample_names(&exposed);
        let rules = prometheus.rules();
        wrong.extend(of_rules(&rules, &names, &prometheus, at));
        wrong.extend(of_page(&rules, &names));
        wrong.extend(of_linter(&exposed));
        if wrong.is_empty() {
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether an alert says all that a person needs, and goes where its severity says; what is wrong.
fn said_of(rule: &Value) -> Vec<String> {
    let (name, annotations) = (text(rule, "name"), &rule["annotations"]);
    let mut wrong = Vec::new();
    let channel = match text(&rule["labels"], "severity") {
        "critical" => "pagerduty",
        "high" => "ops-critical",
        "medium" => "ops-alerts",
        "low" => "digest",
        _ => "",
    };
    if channel.is_empty() || text(&rule["labels"], "channel") != channel {
        wrong.push(format!("{name}: its labels are {}", rule["labels"]));
    }
    if text(annotations, "summary").is_empty() || text(annotations, "action").is_empty() {
        wrong.push(format!("{name}: it says {annotations}"));
    }
    let runbook = text(annotations, "runbook");
    if !runbook.starts_with("docs/runbook/") || !root().join(runbook).is_file() {
        wrong.push(format!("{name}: there is no {runbook:?}"));
    }
    wrong
}

/// What Prometheus' linter has to say of names, kinds and helps.
fn of_linter(exposed: &str) -> Option<String> {
    let mut linter = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    linter.stdin.take().unwrap().write_all(exposed.as_bytes()).unwrap();
    let output = linter.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (!output.status.success() || !said.is_empty())
        .then(|| format!("promtool check metrics: {said}"))
}

#[test]
fn what_an_expression_selects_is_found() {
    let expression = "label_replace(sum by (a, b) (rate(x_total{c=\"}) d\",e=~\"f|g\"}[5m:1m])) / on (h) \
                      group_left (i) (j:k:sum30d offset 1h > bool 1e9) or vector(0), \"l\", \"$1\", \"m\", \"(.*)\") \
                      and n unless max without (o) (p)";
    let found = promql::selectors(expression);
    assert_eq!(found, ["x_total{c=\"}) d\",e=~\"f|g\"}", "j:k:sum30d", "n", "p"]);
    assert_eq!(promql::name(&found[0]), "x_total");
}
