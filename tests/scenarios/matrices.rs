//! Correlation matrices, from a feed's prices to the programs that hedge by them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use genesis_agent::pki::Role;
use genesis_tests::clock::{now, wait_for, wait_until};
use genesis_tests::pki::Authority;
use genesis_tests::{Laptop, TestAgent, http};
use serde_json::Value;

use crate::experiments::file;

/// Of few days, and with stages that few consumers get through.
pub(crate) const CONFIG: &str = "[health]\ndefaults = false\n[matrices]\nwindow = \"2d\"\n[matrices.rollout]\noutcomes = \"100\"\n\
     # Prices of a day and a half say little.\n[matrices.drift]\nmax = \"0.4\"\n";
const BUCKET: i64 = 300;

/// Prices that a seed makes.
pub(crate) struct Feed(u64);

impl Feed {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn uniform(&mut self) -> f64 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 12;
        (bits as f64 + 0.5) / (1_u64 << 52) as f64
    }

    fn normal(&mut self) -> f64 {
        let (one, other) = (self.uniform(), self.uniform());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
    }

    /// A wide file of so many buckets up to now, whose returns have one factor with these loadings.
    pub(crate) fn csv(&mut self, buckets: i64, series: &[(&str, f64)]) -> String {
        let names: Vec<&str> = series.iter().map(|it| it.0).collect();
        let mut text = format!("timestamp,{}\n", names.join(","));
        let last = now().as_second().div_euclid(BUCKET) - 1;
        let mut prices = vec![100.0_f64; series.len()];
        for at in last - buckets..=last {
            let factor = self.normal();
            let _ = write!(text, "{}", at * BUCKET);
            for (price, (_, loading)) in prices.iter_mut().zip(series) {
                let own = (1.0 - loading * loading).sqrt() * self.normal();
                *price *= (0.001 * (loading * factor + own)).exp();
                let _ = write!(text, ",{price:.9}");
            }
            text.push('\n');
        }
        text
    }
}

/// BTC and ETH go together as the consumers' returns do.
pub(crate) const GOOD: [(&str, f64); 4] = [("BTC", 0.9), ("ETH", 0.8), ("SOL", 0.7), ("XRP", 0.6)];
/// They go against each other.
const WRONG: [(&str, f64); 4] = [("BTC", 0.9), ("ETH", -0.8), ("SOL", 0.7), ("XRP", 0.6)];

pub(crate) fn push(agent: &TestAgent, name: &str, text: &str) {
    let path: PathBuf = file(agent, name, text);
    agent.ctl(&["series", "push", "--again", "--file", path.to_str().unwrap()]).ok();
}

/// An agent with a first matrix of good prices.
pub(crate) fn with_a_matrix(agent: &TestAgent) {
    push(agent, "prices.csv", &Feed::new(1).csv(400, &GOOD));
    agent.ctl(&["matrix", "update", "--reason", "the first"]).ok().says(&["active"]);
}

pub(crate) fn history(agent: &TestAgent) -> Value {
    agent.ctl(&["matrix", "history", "-o", "json"]).response()
}

pub(crate) fn state_of(agent: &TestAgent, version: u64) -> String {
    let history = history(agent);
    let versions = history["versions"].as_array().unwrap();
    let version = version.to_string();
    let found = versions.iter().find(|it| it["version"] == version.as_str()).unwrap();
    found["state"].as_str().unwrap().trim_start_matches("MATRIX_STATE_").to_owned()
}

fn rollout(agent: &TestAgent) -> Value {
    agent.ctl(&["matrix", "rollout", "status", "-o", "json"]).response()["rollout"].clone()
}

/// Runs consumers: what they say at their end.
fn consumers(agent: &TestAgent, count: u32, rounds: u32, until: u64) -> Value {
    let ended = Command::new(env!("CARGO_BIN_EXE_genesis-test-consumer"))
        .args([agent.node(), count.to_string(), rounds.to_string(), until.to_string()])
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    serde_json::from_slice(&ended.stdout).unwrap()
}

#[test]
fn prices_become_a_matrix_that_is_tried_by_few_and_then_used_by_all() {
    let agent = TestAgent::started(|_| CONFIG.to_owned());
    agent.ctl(&["matrix", "show"]).exits(1).says(&["MATRIX_NOT_FOUND", "matrix update"]);
    agent.ctl(&["matrix", "update", "--plan"]).exits(4).says(&["SERIES_MISSING"]);
    push(&agent, "prices.csv", &Feed::new(1).csv(400, &GOOD));
    agent.ctl(&["series", "list"]).ok().says(&["BTC", "XRP", "PRICES"]);
    agent.ctl(&["series", "gaps", "BTC"]).ok();
    agent.ctl(&["series", "gaps", "DOGE"]).exits(1).says(&["SERIES_NOT_FOUND"]);
    agent.ctl(&["matrix", "update", "--plan"]).ok().says(&["drift", "activate", "it is the first"]);
    agent.ctl(&["matrix", "update", "--reason", "the first"]).ok().says(&["version 1", "active"]);
    agent.ctl(&["matrix", "show"]).ok().says(&["BTC", "ETH", "+0.7", "points"]);
    let csv = agent.ctl(&["matrix", "show", "--format", "csv"]).ok();
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert_eq!(csv.lines().count(), 5, "{csv}");

    // The next one is tried by a few.
    push(&agent, "more.csv", &Feed::new(2).csv(400, &GOOD));
    agent.ctl(&["matrix", "update", "--reason", "a new feed"]).ok().says(&["version 2", "10 %"]);
    agent.ctl(&["matrix", "update", "--reason", "again"]).exits(9).says(&["ROLLOUT_RUNNING"]);
    let said = consumers(&agent, 60, 120, 2);
    assert_eq!(state_of(&agent, 2), "ACTIVE", "{said:#} {:#}", rollout(&agent));
    assert_eq!(state_of(&agent, 1), "SUPERSEDED");
    let used = |version: &str| said["used"][version].as_u64().unwrap_or(0);
    assert!(used("1") > used("2") / 8 && used("2") >= 400, "both were used: {said:#}");
    assert_eq!(said["acknowledged"].as_u64(), Some(used("1") + used("2")));
    let stages = rollout(&agent)["stages"].clone();
    let percents: Vec<u64> =
        stages.as_array().unwrap().iter().map(|it| it["percent"].as_u64().unwrap()).collect();
    assert_eq!(percents, [10, 25, 50, 100]);
    for stage in stages.as_array().unwrap() {
        assert_eq!(stage["state"], "STAGE_STATE_PASSED", "{stage:#}");
        let of = |arm: &str| stage[arm]["outcomes"].as_str().unwrap().parse::<u64>().unwrap();
        assert!(of("control") >= 100 && of("canary") >= 100, "{stage:#}");
    }
    agent.ctl(&["matrix", "rollout", "status"]).ok().says(&["PASSED", "100 %"]);
    // What it changed is known to whoever asks what changed.
    agent.ctl(&["oplog", "tail"]).ok().says(&["matrices.advanced"]);
    agent.ctl(&["oplog", "verify"]).ok();
    let metrics = http::get(agent.http(), "/metrics").1;
    for line in [
        "genesis_matrices_active_version 2",
        "genesis_matrices_stages_total{outcome=\"passed\"} 4",
        "genesis_matrices_versions{state=\"superseded\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let page = http::get(agent.http(), "/api/operations/matrices/status").1;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["active"], "2");
    // And back, and forth again.
    agent.ctl(&["matrix", "rollback"]).exits(2).says(&["reason"]);
    agent.ctl(&["matrix", "rollback", "--reason", "hedges are off"]).ok();
    assert_eq!((state_of(&agent, 1), state_of(&agent, 2)), ("ACTIVE".into(), "ROLLED_BACK".into()));
    agent.ctl(&["matrix", "rollback", "--to", "2", "--reason", "they are not"]).ok();
    assert_eq!(state_of(&agent, 2), "ACTIVE");
}

#[test]
fn a_matrix_that_hedges_worse_is_taken_back_by_itself() {
    let config = CONFIG.replace("max = \"0.4\"", "max = \"2\"");
    let agent = TestAgent::started(|_| config);
    with_a_matrix(&agent);
    push(&agent, "wrong.csv", &Feed::new(3).csv(400, &WRONG));
    agent.ctl(&["matrix", "update", "--reason", "a feed that is upside down"]).ok();
    let said = consumers(&agent, 60, 40, 0);
    assert_eq!(state_of(&agent, 2), "ROLLED_BACK", "{said:#} {:#}", rollout(&agent));
    let stages = rollout(&agent)["stages"].clone();
    assert_eq!(stages.as_array().unwrap().len(), 1, "in the first stage: {stages:#}");
    assert_eq!(stages[0]["state"], "STAGE_STATE_HARMFUL");
    let used = said["used"]["2"].as_u64().unwrap();
    assert!((20..200).contains(&used), "few used it, and not for long: {said:#}");
    assert_eq!(state_of(&agent, 1), "ACTIVE");
    wait_for("people to hear of it", || agent.firing("version-2"));
    agent.ctl(&["oplog", "tail"]).ok().says(&["matrices.rolled-back", "system:matrices"]);
}

#[test]
fn what_has_drifted_is_refused_with_its_criteria_and_changes_nothing() {
    let agent = TestAgent::started(|_| CONFIG.to_owned());
    with_a_matrix(&agent);
    let before = agent.ctl(&["matrix", "show", "--format", "csv"]).ok().stdout;
    push(&agent, "wrong.csv", &Feed::new(3).csv(400, &WRONG));
    agent.ctl(&["matrix", "update", "--reason", "upside down"]).exits(4).says(&[
        "MATRIX_REJECTED",
        "drift",
        "ETH",
    ]);
    agent.ctl(&["matrix", "show", "--version", "2"]).exits(3).says(&["REJECTED", "drift", "FAIL"]);
    assert_eq!(agent.ctl(&["matrix", "show", "--format", "csv"]).ok().stdout, before);
    agent.ctl(&["matrix", "rollback", "--to", "2", "--reason", "r"]).says(&["MATRIX_REJECTED"]);
    agent.ctl(&["status"]).exits(3).says(&["MATRIX_REJECTED"]);
    wait_for("people to hear of it", || agent.firing("update"));
    // The right prices, sent again, take the place of the wrong ones.
    push(&agent, "right.csv", &Feed::new(1).csv(400, &GOOD));
    agent.ctl(&["matrix", "update", "--reason", "mended"]).ok().says(&["10 %"]);
    wait_until("it to be over", || agent.firing("update").is_none());
    agent.ctl(&["matrix", "rollout", "abort", "--reason", "enough"]).ok();
    assert_eq!(state_of(&agent, 3), "ROLLED_BACK");
}

#[test]
fn several_hosts_make_one_matrix_of_the_pairs_that_each_holds() {
    let authority = Authority::new("prod");
    let config = |_: &std::path::Path| format!("{}{CONFIG}", authority.config("prod"));
    let (one, mut other) = (TestAgent::started(config), TestAgent::started(config));
    let text = Feed::new(1).csv(300, &GOOD);
    push(&one, "all.csv", &text);
    // The other host holds two of them, of which it has other prices, and one of its own.
    let mut feed = Feed::new(9);
    push(&other, "some.csv", &feed.csv(200, &[("BTC", 0.9), ("DOGE", 0.5)]));
    let nodes = [&one, &other].map(|agent| agent.grpc().to_string());
    let laptop = Laptop::new(&authority, Role::Operator, &nodes);
    let show = ["matrix", "show", "--all", "--merge", "-o", "json"];
    let said = laptop.ctl(&show).json();
    let merged = said.as_array().unwrap().iter().find_map(|it| it.get("merged")).unwrap().clone();
    let series = merged["matrix"]["series"].to_string();
    for name in ["BTC", "DOGE", "ETH", "SOL", "XRP"] {
        assert!(series.contains(name), "{merged:#}");
    }
    assert!(merged.to_string().contains("null"), "nobody holds ETH and DOGE: {merged:#}");
    laptop.ctl(&show[..4]).says(&["DOGE"]);
    let coarser = CONFIG.replace("2d\"", "2d\"\nbucket = \"10m\"");
    other.configure(&format!("{}{coarser}", authority.config("prod")));
    other.restart();
    let nodes = [&one, &other].map(|agent| agent.grpc().to_string());
    let laptop = Laptop::new(&authority, Role::Operator, &nodes);
    laptop.ctl(&show[..4]).exits(9).says(&["BUCKETS_DIFFER"]);
}
