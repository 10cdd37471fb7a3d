//! What docs/monitoring has for Prometheus, Alertmanager and Grafana holds before their own tools. What it asks of an agent
//! is in `monitoring_live.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The dashboards that were asked for by name; there are more.
const WANTED: [(&str, &str); 5] = [
    ("operations", "Operations Overview"),
    ("logs", "Log Management"),
    ("remediation", "Remediation History"),
    ("performance", "Performance Trends"),
    ("dependencies", "Dependency Status"),
];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The files of docs/monitoring whose names end so, with `tests/` those of the rules' tests.
pub(crate) fn files(ending: &str) -> Vec<PathBuf> {
    let folder = root().join("docs/monitoring");
    let folder = if ending == ".test.yml" { folder.join("tests") } else { folder };
    let all = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let mut found: Vec<PathBuf> = all.filter(|it| it.to_string_lossy().ends_with(ending)).collect();
    found.sort();
    assert!(!found.is_empty(), "no {ending}");
    found
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a tool says, which has to be content.
fn content(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

// Prometheus' rules.

/// What follows a key in a line of YAML, without its quotes.
fn value<'t>(line: &'t str, key: &str) -> Option<&'t str> {
    let line = line.trim_start().trim_start_matches("- ");
    Some(line.strip_prefix(key)?.strip_prefix(": ")?.trim_matches(['"', '\'']))
}

/// Every rule, by its name and, for an alert, its severity.
fn rules() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for path in files(".rules.yml") {
        let mut alert = None;
        for line in read(&path).lines() {
            if let Some(name) = value(line, "record") {
                found.insert((name.to_owned(), String::new()));
            } else if let Some(name) = value(line, "alert") {
                alert = Some(name.to_owned());
            } else if let Some(severity) = value(line, "severity") {
                let name = alert.take().unwrap_or_else(|| panic!("{}: {line}", path.display()));
                found.insert((name, severity.to_owned()));
            }
        }
        assert_eq!(alert, None, "an alert without severity in {}", path.display());
    }
    found
}

/// The rules that tests show to fire, and the names of those that they show to be quiet.
fn tested() -> (BTreeSet<(String, String)>, BTreeSet<String>) {
    let (mut firing, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    for path in files(".test.yml") {
        let mut name = String::new();
        for line in read(&path).lines() {
            if let Some(it) = value(line, "alertname").or(value(line, "expr")) {
                name = it.to_owned();
            } else if value(line, "exp_alerts").or(value(line, "exp_samples")) == Some("[]") {
                quiet.insert(name.clone());
            } else if let Some(severity) = value(line, "severity") {
                firing.insert((name.clone(), severity.to_owned()));
            } else if line.trim() == "exp_samples:" {
                firing.insert((name.clone(), String::new()));
            }
        }
    }
    (firing, quiet)
}

#[test]
fn every_rule_is_shown_to_fire_and_to_be_quiet() {
    let rules = rules();
    assert!(rules.len() > 120, "only {} rules were found", rules.len());
    let (firing, quiet) = tested();
    let unknown: Vec<_> = firing.difference(&rules).collect();
    assert!(unknown.is_empty(), "tests of rules that do not exist: {unknown:?}");
    let untested: Vec<_> = rules.difference(&firing).collect();
    assert!(untested.is_empty(), "no test shows that these fire: {untested:?}");
    let names: BTreeSet<String> = rules.into_iter().map(|it| it.0).collect();
    let loud: Vec<_> = names.difference(&quiet).collect();
    assert!(loud.is_empty(), "no test shows that these are quiet: {loud:?}");
}

#[test]
fn promtool_takes_every_rule_and_its_tests_pass() {
    let checked =
        content(Command::new("promtool").args(["check", "rules"]).args(files(".rules.yml")));
    assert!(!checked.contains("duplicate"), "{checked}");
    // A process for each, so that none waits for the longest.
    let started: Vec<_> = files(".test.yml")
        .into_iter()
        .map(|path| {
            let mut command = Command::new("promtool");
            let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            (piped.args(["test", "rules"]).arg(&path).spawn().unwrap(), path)
        })
        .collect();
    for (child, path) in started {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{}: {said}", path.display());
    }
}

// Alertmanager.

#[test]
fn alertmanager_takes_the_example_and_sends_each_severity_to_its_place() {
    let path = root().join("docs/monitoring/alertmanager.example.yml");
    content(Command::new("amtool").arg("check-config").arg(&path));
    let text = read(&path);
    let routes = [
        ("critical", "pagerduty-and-sms", "pagerduty_configs"),
        ("critical", "pagerduty-and-sms", "webhook_configs"),
        ("high", "slack-ops-critical", "\"#ops-critical\""),
        ("medium", "slack-ops-alerts", "\"#ops-alerts\""),
        ("low", "email-digest", "email_configs"),
    ];
    for (severity, receiver, by) in routes {
        let mut test = Command::new("amtool");
        test.args(["config", "routes", "test", "--verify.receivers", receiver]);
        test.arg(format!("--config.file={}", path.display()));
        test.args([format!("severity={severity}").as_str(), "alertname=GenesisX", "instance=a"]);
        content(&mut test);
        let (_, rest) = text.split_once(&format!("- name: {receiver}\n")).unwrap();
        assert!(rest.split("- name: ").next().unwrap().contains(by), "{receiver}: no {by}");
    }
    let secrets = ["password", "key", "credentials", "token", "api_url", "secret"];
    for line in text.lines().map(str::trim_start).filter(|line| !line.starts_with('#')) {
        let key = line.trim_start_matches("- ").split(':').next().unwrap();
        assert!(!secrets.iter().any(|it| key.ends_with(it)), "a secret that is no file: {line}");
    }
    // What is held back names alerts that exist.
    let alerts: BTreeSet<String> = rules().into_iter().map(|it| it.0).collect();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let named: Vec<&str> =
        words.filter(|word| word.len() > 7 && word.starts_with("Genesis")).collect();
    assert!(named.len() > 10 && named.contains(&"GenesisAgentDown"), "{named:?}");
    for name in named {
        assert!(alerts.contains(name), "there is no alert {name}");
    }
}

#[test]
fn the_page_lists_every_file() {
    let page = read(&root().join("docs/monitoring/README.md"));
    for path in [files(".json"), files(".yml")].concat() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(page.contains(&format!("[{name}]({name})")), "the page lacks {name}");
        let loaded = page.contains(&format!("\n  - {name}\n"));
        assert_eq!(loaded, name.ends_with(".rules.yml"), "rule_files and {name}");
    }
}

// Grafana.

/// Every dashboard by the middle of its name.
pub(crate) fn boards() -> BTreeMap<String, Value> {
    let board = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let name = name.trim_start_matches("genesis-").trim_end_matches(".dashboard.json");
        (name.to_owned(), serde_json::from_str(&read(&path)).unwrap())
    };
    files(".dashboard.json").into_iter().map(board).collect()
}

pub(crate) fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn the_dashboards_are_laid_out_well() {
    let boards = boards();
    for (name, title) in WANTED {
        assert_eq!(boards[name]["title"], title);
    }
    let mut titles = BTreeSet::new();
    for (name, board) in &boards {
        assert!(titles.insert(text(board, "title")), "{name}: the title is there twice");
        assert_eq!(board["uid"], format!("genesis-{name}"));
        assert_eq!(board["schemaVersion"], 41, "{name}");
        assert!(!text(board, "description").is_empty(), "{name}");
        assert!(list(board, "/tags").contains(&"genesis".into()), "{name}");
        assert_eq!(board["links"][0]["tags"][0], "genesis", "{name} leads to the others");
        let variables: Vec<&str> =
            list(board, "/templating/list").iter().map(|it| text(it, "name")).collect();
        assert_eq!(variables[..2], ["datasource", "instance"], "{name}");
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(board, "/panels") {
            let what = format!("{name}: {}", text(panel, "title"));
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{what}: its id is there twice");
            let place = |key| panel["gridPos"][key].as_u64().unwrap();
            for x in place("x")..place("x") + place("w") {
                assert!(x < 24, "{what} is too wide");
                for y in place("y")..place("y") + place("h") {
                    assert!(taken.insert((x, y)), "{what} lies upon another");
                }
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(!text(panel, "description").is_empty(), "{what} has no description");
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(!text(defaults, "unit").is_empty(), "{what} has no unit");
            assert!(panel["type"] != "stat" || defaults["thresholds"].is_object(), "{what}");
            let targets = list(panel, "/targets");
            assert!(!targets.is_empty(), "{what} asks nothing");
            for target in targets {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{what}");
                let named = !text(target, "legendFormat").is_empty() || panel["type"] == "table";
                assert!(named, "{what}: a line without a legend");
            }
        }
        assert!(ids.len() >= 10, "{name}");
    }
}
