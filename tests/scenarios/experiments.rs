//! Strategy A/B tests with the procedures' own commands: promoted, rolled back, ended by hand, added up over hosts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use genesis_agent::pki::Role;
use genesis_tests::clock::{now, wait_for, wait_until};
use genesis_tests::pki::Authority;
use genesis_tests::{Laptop, Output, TestAgent, http};
use serde_json::Value;

/// Profits that a seed makes: normal around a mean, with a standard deviation of 1.
pub(crate) struct Market(u64);

impl Market {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn uniform(&mut self) -> f64 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 12;
        (bits as f64 + 0.5) / (1_u64 << 52) as f64
    }

    fn pnl(&mut self, mean: f64) -> f64 {
        let (one, other) = (self.uniform(), self.uniform());
        mean + (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
    }

    /// Lines of CSV: so many trades, in turn of the control and the variant, with an id each.
    pub(crate) fn csv(
        &mut self,
        test: &str,
        first: usize,
        trades: usize,
        means: [f64; 2],
    ) -> String {
        let mut text = "experiment,trade_id,arm,pnl,timestamp\n".to_owned();
        let from = now().as_second();
        for trade in first..first + trades {
            let arm = ["control", "variant"][trade % 2];
            let pnl = self.pnl(means[trade % 2]);
            let _ = writeln!(text, "{test},fill-{trade},{arm},{pnl:.6},{from}.{trade:06}");
        }
        text
    }
}

pub(crate) fn file(agent: &TestAgent, name: &str, text: &str) -> PathBuf {
    let path = agent.folder().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

pub(crate) fn push(agent: &TestAgent, path: &Path, more: &[&str]) -> Output {
    agent.ctl(&[&["trades", "push", "--file", path.to_str().unwrap()], more].concat())
}

/// An agent on which the strategy mm has a threshold of 0.002, with an experiment that tries 0.003.
pub(crate) fn begun(agent: &TestAgent, split: &str, more: &[&str]) {
    agent
        .ctl(&["param", "set", "--strategy", "mm", "threshold=0.002", "--reason", "as in the code"])
        .ok();
    create(agent, split, more).ok();
}

fn create(agent: &TestAgent, split: &str, more: &[&str]) -> Output {
    let create = [
        "experiment",
        "create",
        "--strategy",
        "mm",
        "--param",
        "threshold:0.003",
        "--split",
        split,
    ];
    agent.ctl(&[&create[..], &["--reason", "wider quotes"], more].concat())
}

pub(crate) fn shown(agent: &TestAgent, id: &str) -> Value {
    agent.ctl(&["experiment", "show", "--test-id", id, "-o", "json"]).response()
}

fn value(agent: &TestAgent, unit: &str) -> String {
    let get = ["param", "get", "--strategy", "mm", "--unit", unit, "threshold"];
    String::from_utf8_lossy(&agent.ctl(&get).ok().stdout).trim().to_owned()
}

/// A unit of this arm.
fn unit(agent: &TestAgent, id: &str, arm: &str) -> String {
    let units = (0..100).map(|number| format!("account-{number}"));
    units
        .into_iter()
        .find(|unit| {
            let assign = ["experiment", "assign", "--test-id", id, "--unit", unit, "-o", "json"];
            agent.ctl(&assign).response()["arm"] == arm
        })
        .unwrap()
}

#[test]
fn the_procedures_own_commands_promote_what_is_better() {
    let agent = TestAgent::started(|_| String::new());
    begun(&agent, "80/20", &[]);
    agent.ctl(&["experiment", "list"]).ok().says(&["TEST_1", "mm", "RUNNING"]);
    let (of_control, of_variant) =
        (unit(&agent, "TEST_1", "ARM_CONTROL"), unit(&agent, "TEST_1", "ARM_VARIANT"));
    assert_eq!(
        (value(&agent, &of_control), value(&agent, &of_variant)),
        ("0.002".into(), "0.003".into())
    );
    // As many of each arm are no 80/20, so it is another one of even halves that is decided.
    let cancel = ["experiment", "conclude", "--test-id", "TEST_1", "--action", "rollback"];
    agent.ctl(&cancel).exits(2).says(&["reason"]);
    agent.ctl(&[&cancel[..], &["--reason", "another split"]].concat()).ok();
    create(&agent, "50/50", &[]).ok();
    let trades = Market::new(1).csv("TEST_2", 0, 900, [2.0, 2.7]);
    let path = file(&agent, "trades.csv", &trades);
    push(&agent, &path, &["--batch-rows", "20"]).exits(5).says(&["of experiments that have ended"]);
    let ended = shown(&agent, "TEST_2");
    let experiment = &ended["experiment"];
    assert_eq!(experiment["state"], "EXPERIMENT_STATE_PROMOTED", "{experiment:#}");
    let conclusion = &experiment["conclusion"];
    assert_eq!(
        (&conclusion["forced"], &conclusion["look"]["decision"]["line"]),
        (&false.into(), &3.into())
    );
    let n = |arm: &str| conclusion[arm]["n"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(n("control") >= 100 && n("variant") >= 100, "{conclusion:#}");
    let look = &conclusion["look"];
    assert!(look["pSequential"].as_f64().unwrap() < 0.05 && look["d"].as_f64().unwrap() > 0.2);
    assert!(look["liftLow"].as_f64().unwrap() < look["lift"].as_f64().unwrap());
    for unit in [&of_control, &of_variant] {
        assert_eq!(value(&agent, unit), "0.003");
    }
    agent
        .ctl(&["experiment", "show", "--test-id", "TEST_2", "-v"])
        .ok()
        .says(&["PROMOTED", "p_seq", "lift", "promote"]);
    agent.ctl(&["experiment", "history"]).ok().says(&[
        "TEST_1",
        "forced",
        "another split",
        "TEST_2",
        "promote",
    ]);
    agent.ctl(&["param", "history", "--strategy", "mm"]).ok().says(&["promoted", "TEST_2"]);
    let page = http::get(agent.http(), "/api/operations/experiments/status").1;
    assert!(page.contains("EXPERIMENT_STATE_PROMOTED"), "{page}");
    let metrics = http::get(agent.http(), "/metrics").1;
    assert!(
        metrics.contains("genesis_experiments_concluded_total{how=\"promoted\"} 1"),
        "{metrics}"
    );
    // Sent again, all of it is after the end, and nothing changes.
    push(&agent, &path, &["--batch-rows", "20"]).says(&["there before"]);
    assert_eq!(shown(&agent, "TEST_2")["experiment"]["conclusion"], *conclusion);
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn what_is_harmful_is_rolled_back_before_its_batch_is_answered() {
    let agent = TestAgent::started(|_| String::new());
    begun(&agent, "50/50", &[]);
    let unit = unit(&agent, "TEST_1", "ARM_VARIANT");
    let mut watch = agent
        .ctl_command(&["param", "watch", "--strategy", "mm", "--unit", &unit, "-o", "jsonl"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().contains("\"0.003\""));
    let trades = Market::new(2).csv("TEST_1", 0, 240, [1.0, 0.2]);
    push(&agent, &file(&agent, "harm.csv", &trades), &[]).ok();
    // It is answered once it is over for everybody.
    assert_eq!(value(&agent, &unit), "0.002");
    assert!(next().contains("\"0.002\""));
    let _ = watch.kill();
    let _ = watch.wait();
    let ended = shown(&agent, "TEST_1");
    assert_eq!(ended["experiment"]["state"], "EXPERIMENT_STATE_ROLLED_BACK", "{ended:#}");
    assert_eq!(ended["experiment"]["conclusion"]["look"]["decision"]["line"], 1);
    wait_for("people to hear of it", || agent.firing("TEST_1"));
}

#[test]
fn what_is_of_no_use_is_refused_with_its_reason_and_what_is_good_counts() {
    let agent = TestAgent::started(|_| String::new());
    let missing = create(&agent, "80/20", &[]);
    missing.exits(1).says(&["STRATEGY_NOT_FOUND", "param set"]);
    begun(&agent, "80/20", &[]);
    for split in ["0/100", "100/0", "120/-20", "50/60", "half", "80"] {
        create(&agent, split, &[]).exits(2);
    }
    create(&agent, "80/20", &[]).exits(9).says(&["PARAMETER_IN_TEST", "TEST_1"]);
    let unknown =
        ["experiment", "create", "--strategy", "mm", "--param", "what:1", "--reason", "r"];
    agent.ctl(&unknown).exits(1).says(&["PARAMETER_NOT_FOUND"]);
    let set = ["param", "set", "--strategy", "mm", "threshold=1", "--reason", "r"];
    agent.ctl(&set).exits(9).says(&["PARAMETER_IN_TEST"]);
    agent
        .ctl(&["experiment", "show", "--test-id", "TEST_9"])
        .exits(1)
        .says(&["EXPERIMENT_NOT_FOUND"]);
    let at = now().as_second();
    let text = format!(
        "experiment,trade_id,unit,arm,pnl,timestamp\n\
         TEST_1,a,account-1,,1.5,{at}\nTEST_1,b,,variant,-0.5,{at}\nTEST_1,a,account-1,,1.5,{at}\n\
         TEST_1,c,,,1,{at}\nTEST_1,d,account-1,,NaN,{at}\nTEST_7,e,account-1,,1,{at}\nTEST_1,f,account-1,,1,yesterday\n"
    );
    let said = push(&agent, &file(&agent, "trades.csv", &text), &[]).exits(5);
    said.says(&["line 8", "yesterday"]);
    let experiment = shown(&agent, "TEST_1")["experiment"].clone();
    let n = |arm: &str| experiment[arm]["n"].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(n("control") + n("variant"), 2, "{experiment:#}");
    assert_eq!(experiment["duplicate"], "1", "{experiment:#}");
}

#[test]
fn what_two_hosts_counted_is_added_up_where_they_try_the_same() {
    let authority = Authority::new("prod");
    let agents = [(); 2].map(|()| TestAgent::started(|_| authority.config("prod")));
    for (agent, seed) in agents.iter().zip([3, 4]) {
        begun(agent, "50/50", &["--seed", "both"]);
        let trades = Market::new(seed).csv("TEST_1", 0, 120, [1.0, 1.1]);
        push(agent, &file(agent, "trades.csv", &trades), &[]).ok();
    }
    let nodes = agents.each_ref().map(|agent| agent.grpc().to_string());
    let laptop = Laptop::new(&authority, Role::Operator, &nodes);
    let show = ["experiment", "show", "TEST_1", "--all", "--merge", "-o", "json"];
    let said = laptop.ctl(&show).json();
    let merged = said.as_array().unwrap().iter().find_map(|it| it.get("merged")).unwrap();
    assert!(merged.to_string().contains("\"n\":\"120\""), "{merged:#}");
    // Another definition under the same id is another experiment.
    let cancel =
        ["experiment", "conclude", "--test-id", "TEST_1", "--action", "rollback", "--reason", "r"];
    agents[1].ctl(&cancel).ok();
    for agent in &agents {
        create(agent, "90/10", &[]);
    }
    let other = ["experiment", "show", "TEST_2", "--all", "--merge"];
    let refused = laptop.ctl(&other);
    assert_ne!(refused.code, 0, "{}", refused.text());
    agents[0].ctl(&cancel).ok();
    create(&agents[0], "70/30", &[]).ok();
    laptop.ctl(&other).exits(9);
}

#[test]
fn what_three_hosts_counted_is_what_one_counts_that_had_all_of_it() {
    let authority = Authority::new("prod");
    let agents = [(); 4].map(|()| TestAgent::started(|_| authority.config("prod")));
    for agent in &agents {
        begun(agent, "50/50", &["--seed", "all", "--owner", "nobody"]);
    }
    // An offset that sums of squares would lose their digits to. Trades older than their experiment would be late.
    let trades = Market::new(11).csv("TEST_1", 0, 960, [1e6, 1e6 + 0.4]);
    let (head, lines) = trades.split_once('\n').unwrap();
    for (at, agent) in agents.iter().enumerate() {
        let own = lines.lines().enumerate().filter(|(line, _)| at == 3 || line / 2 % 3 == at);
        let own: Vec<&str> = own.map(|(_, line)| line).collect();
        let text = format!("{head}\n{}\n", own.join("\n"));
        push(agent, &file(agent, "trades.csv", &text), &[]).ok();
    }
    let nodes: Vec<String> = agents[..3].iter().map(|agent| agent.grpc().to_string()).collect();
    let laptop = Laptop::new(&authority, Role::Operator, &nodes);
    let show = ["experiment", "show", "TEST_1", "--all", "--merge", "-o", "json"];
    let said = laptop.ctl(&show).json();
    let merged = said.as_array().unwrap().iter().find_map(|it| it.get("merged")).unwrap();
    let merged = &merged["experiments"][0];
    let one = shown(&agents[3], "TEST_1")["experiment"].clone();
    for arm in ["control", "variant"] {
        assert_eq!((&merged[arm]["n"], &one[arm]["n"]), (&"480".into(), &"480".into()));
        for number in ["mean", "deviation", "m2", "meanLow", "meanHigh"] {
            let [many, one] = [merged, &one].map(|it| it[arm][number].as_f64().unwrap());
            assert!((many / one - 1.0).abs() < 1e-12, "{arm} {number}: {many} {one}");
        }
    }
}

#[test]
fn a_damaged_file_of_trades_keeps_parameters_and_the_agent_going() {
    let mut agent = TestAgent::started(|_| String::new());
    begun(&agent, "50/50", &[]);
    agent.terminate();
    let path = agent.state().join("trades.redb");
    std::fs::write(&path, "what is this").unwrap();
    agent.start();
    agent.ctl(&["experiment", "list"]).exits(7).says(&["EXPERIMENTS_UNAVAILABLE", "runbook"]);
    agent.ctl(&["param", "get", "--strategy", "mm", "threshold"]).ok().says(&["0.002"]);
    agent.ctl(&["status"]).exits(3).says(&["EXPERIMENTS_UNAVAILABLE"]);
    wait_until("people to hear of it", || agent.firing("trades").is_some());
    assert_eq!(std::fs::read(&path).unwrap(), b"what is this", "it is left as it is");
    agent.terminate();
    std::fs::remove_file(&path).unwrap();
    agent.start();
    agent.ctl(&["experiment", "list"]).ok().says(&["TEST_1"]);
}
