//! Experiments and parameters of a whole fleet, on real hosts and a real etcd: begun everywhere, decided once.

use genesis_tests::TestAgent;
use genesis_tests::clock::{wait_for, wait_until};
use genesis_tests::etcd::Etcd;
use serde_json::Value;

use crate::experiments::{Market, begun, file, push, shown};
use crate::fleet_etcd::{host, wait_standing};

use genesis_client::v1::FleetStanding::Connected;

fn fleet(etcd: &Etcd, names: &[&str]) -> Vec<TestAgent> {
    let mut agents: Vec<TestAgent> =
        names.iter().map(|name| host(name, &etcd.endpoints())).collect();
    agents.iter_mut().for_each(TestAgent::start);
    agents.iter().for_each(|agent| wait_standing(agent, Connected));
    agents
}

fn set(agent: &TestAgent, value: &str) {
    let pair = format!("threshold={value}");
    let set = ["param", "set", "--fleet", "--strategy", "mm", &pair, "--reason", "as in the code"];
    agent.ctl(&set).ok();
}

fn value(agent: &TestAgent) -> Option<String> {
    let get = ["param", "get", "--strategy", "mm", "threshold"];
    let said = agent.ctl(&get);
    (said.code == 0).then(|| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// The experiment of the fleet as a host has it.
fn here(agent: &TestAgent) -> Option<Value> {
    let list = agent.ctl(&["experiment", "list", "-o", "json"]);
    let list = (list.code == 0).then(|| list.response())?;
    let mut of_fleet = list["experiments"].as_array()?.iter();
    of_fleet.rfind(|it| it["fleetId"] == "FLEET_1" && it["id"] != "FLEET_1").cloned()
}

fn create(agent: &TestAgent) {
    let create = [
        "experiment",
        "create",
        "--fleet",
        "--strategy",
        "mm",
        "--param",
        "threshold:0.003",
        "--split",
        "50/50",
        "--reason",
        "wider quotes",
    ];
    agent.ctl(&create).ok();
}

/// The host that takes the looks.
fn owner(etcd: &Etcd) -> Option<String> {
    let key = etcd.keys("/genesis/prod/locks/experiments/").pop()?;
    let holder: Value = serde_json::from_str(&etcd.get(&key)?).ok()?;
    Some(holder["host"].as_str()?.to_owned())
}

/// What the last look saw: the trades of the control.
fn seen(agent: &TestAgent) -> u64 {
    let show = agent.ctl(&["experiment", "show", "FLEET_1", "-o", "json"]);
    let shown = show.response();
    shown["experiment"]["control"]["n"].as_str().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[test]
fn a_parameter_that_is_set_for_the_fleet_is_in_force_on_each_also_on_who_was_away() {
    let etcd = Etcd::start();
    let mut agents = fleet(&etcd, &["a", "b", "c"]);
    set(&agents[0], "0.002");
    wait_until("the value", || agents.iter().all(|agent| value(agent).as_deref() == Some("0.002")));
    agents[1]
        .ctl(&["param", "set", "--strategy", "mm", "threshold=9", "--reason", "mine"])
        .exits(9)
        .says(&["PARAMETER_OF_FLEET"]);
    agents[2].kill();
    set(&agents[1], "0.004");
    agents[2].start();
    wait_until("the value", || agents.iter().all(|agent| value(agent).as_deref() == Some("0.004")));
}

#[test]
fn what_an_etcd_that_was_put_back_has_forgotten_is_told_by_who_knows_it() {
    let etcd = Etcd::start();
    let mut agents = fleet(&etcd, &["a", "b"]);
    set(&agents[0], "0.002");
    wait_until("the value", || agents.iter().all(|agent| value(agent).as_deref() == Some("0.002")));
    let before = etcd.snapshot("before");
    agents[1].kill();
    set(&agents[0], "0.004");
    wait_until("the value", || value(&agents[0]).as_deref() == Some("0.004"));
    // Whoever was away would hear of no other value than the one of before.
    etcd.restore(&before);
    agents[1].start();
    wait_until("the value", || agents.iter().all(|agent| value(agent).as_deref() == Some("0.004")));
    agents[0]
        .ctl(&["oplog", "list", "--action", "parameters.told-again"])
        .ok()
        .says(&["mm/threshold", "0.004"]);
    agents.iter().for_each(|agent| drop(agent.ctl(&["oplog", "verify"]).ok()));
}

#[test]
fn an_experiment_is_decided_by_all_trades_and_goes_on_when_its_owner_is_lost() {
    let etcd = Etcd::start();
    let agents = fleet(&etcd, &["a", "b", "c"]);
    set(&agents[0], "0.002");
    wait_until("the value", || agents.iter().all(|agent| value(agent).is_some()));
    create(&agents[0]);
    wait_until("an experiment on each", || agents.iter().all(|agent| here(agent).is_some()));
    // Whoever is asked says the same arm.
    for number in 0..20 {
        let unit = format!("account-{number}");
        let arm = |agent: &TestAgent| {
            let id = here(agent).unwrap()["id"].as_str().unwrap().to_owned();
            let assign = ["experiment", "assign", "--test-id", &id, "--unit", &unit, "-o", "json"];
            agent.ctl(&assign).response()["arm"].clone()
        };
        assert!(arm(&agents[0]) == arm(&agents[1]) && arm(&agents[1]) == arm(&agents[2]), "{unit}");
    }
    let first = wait_for("an owner", || owner(&etcd));
    // A third of the trades each; one host alone gets all of them beside.
    let alone = TestAgent::started(|_| String::new());
    begun(&alone, "50/50", &[]);
    let mut market = Market::new(7);
    let mut sent = 0;
    let mut send = |agents: &[TestAgent], count: usize| {
        for agent in agents {
            let id = here(agent).map(|it| it["id"].as_str().unwrap().to_owned());
            let id = id.expect("begun");
            let text = market.csv("TEST_1", sent, count, [0.0, 0.25]);
            let own = text.replace("TEST_1", &id);
            push(&alone, &file(&alone, "all.csv", &text), &[]).ok();
            push(agent, &file(agent, "own.csv", &own), &[]).ok();
            sent += count;
        }
        sent as u64
    };
    let all = send(&agents, 40);
    wait_until("a look at all of it", || seen(&agents[0]) == all / 2);
    // The owner is lost in the middle: another one goes on with what is stored.
    let lost = agents.iter().position(|agent| first == name(agent)).unwrap();
    agents[lost].freeze();
    let second = wait_for("another owner", || owner(&etcd).filter(|name| *name != first));
    assert_ne!(first, second);
    let others: Vec<usize> = (0..3).filter(|number| *number != lost).collect();
    agents[lost].thaw();
    let all = send(&agents, 700);
    wait_until("the decision", || {
        agents.iter().all(|agent| here(agent).is_some_and(|it| it["conclusion"].is_object()))
    });
    let how = |agent: &TestAgent, id: &str| shown(agent, id)["experiment"]["state"].clone();
    let of_fleet =
        how(&agents[others[0]], here(&agents[others[0]]).unwrap()["id"].as_str().unwrap());
    assert_eq!(of_fleet, how(&alone, "TEST_1"), "{all} trades");
    let values: Vec<Option<String>> = agents.iter().map(value).collect();
    assert!(values.iter().all(|it| *it == values[0]), "{values:?}");
}

#[test]
fn a_host_that_dies_while_it_ends_what_the_fleet_has_ended_does_so_when_it_is_back() {
    let etcd = Etcd::start();
    let mut agents = fleet(&etcd, &["a", "b"]);
    set(&agents[0], "0.002");
    wait_until("the value", || agents.iter().all(|agent| value(agent).is_some()));
    create(&agents[0]);
    wait_until("an experiment on each", || agents.iter().all(|agent| here(agent).is_some()));
    agents[1].terminate();
    agents[1].start_with_failpoint("experiments.fleet-ending", 1);
    agents[1].wait_ready();
    let conclude = ["experiment", "conclude", "--fleet", "--test-id", "FLEET_1"];
    let why = ["--action", "rollback", "--reason", "it loses"];
    agents[0].ctl(&[&conclude[..], &why].concat()).ok();
    agents[1].wait_killed();
    agents[1].start();
    let state = |agent: &TestAgent| {
        here(agent).filter(|it| it["conclusion"].is_object()).map(|it| it["state"].clone())
    };
    wait_until("the end on each", || agents.iter().all(|agent| state(agent).is_some()));
    assert_eq!(state(&agents[0]), state(&agents[1]));
    assert_eq!(value(&agents[1]).as_deref(), Some("0.002"));
}

#[test]
fn an_owner_that_was_frozen_within_a_look_changes_nothing_of_what_others_have_seen_since() {
    let etcd = Etcd::start();
    let mut agents: Vec<TestAgent> =
        ["a", "b"].iter().map(|name| host(name, &etcd.endpoints())).collect();
    for agent in &mut agents {
        let pause = agent.folder().join("pause");
        let pause = format!("experiments.fleet-look:{}", pause.display());
        agent.environment("GENESIS_PAUSE", &pause);
        agent.start();
    }
    agents.iter().for_each(|agent| wait_standing(agent, Connected));
    set(&agents[0], "0.002");
    wait_until("the value", || agents.iter().all(|agent| value(agent).is_some()));
    create(&agents[0]);
    wait_until("an experiment on each", || agents.iter().all(|agent| here(agent).is_some()));
    let first = wait_for("an owner", || owner(&etcd));
    let owned = agents.iter().position(|agent| first == name(agent)).unwrap();
    let (frozen, other) = (&agents[owned], &agents[1 - owned]);
    let mut market = Market::new(7);
    let mut sent = 0;
    let mut send = |agent: &TestAgent, count: usize| {
        let id = here(agent).expect("begun")["id"].as_str().unwrap().to_owned();
        let text = market.csv(&id, sent, count, [0.0, 0.25]);
        push(agent, &file(agent, "own.csv", &text), &[]).ok();
        sent += count;
        sent as u64
    };
    // The owner stands still within a look, with the lock in its hands.
    let pause = frozen.folder().join("pause");
    std::fs::write(&pause, "").unwrap();
    send(frozen, 40);
    wait_until("a pause", || frozen.folder().join("pause.reached").exists());
    frozen.freeze();
    wait_for("another owner", || owner(&etcd).filter(|name| *name != first));
    let all = send(other, 40);
    wait_until("the next owner's look", || seen(other) == all / 2);
    let look = || {
        let key = etcd.keys("/genesis/prod/looks/experiments/").pop()?;
        let look: Value = serde_json::from_str(&etcd.get(&key)?).ok()?;
        Some(look["host"].as_str()?.to_owned())
    };
    let by = look().expect("a look");
    assert_ne!(by, first);
    std::fs::remove_file(&pause).unwrap();
    frozen.thaw();
    wait_standing(frozen, Connected);
    let all = send(frozen, 40);
    wait_until("a look at that as well", || seen(other) == all / 2);
    assert_eq!(look().as_deref(), Some(by.as_str()), "by the owner that there is");
    let conclude = ["experiment", "conclude", "--fleet", "--test-id", "FLEET_1"];
    let why = ["--action", "rollback", "--reason", "enough"];
    frozen.ctl(&[&conclude[..], &why].concat()).ok();
    wait_until("the end on each", || {
        agents.iter().all(|agent| here(agent).is_some_and(|it| it["conclusion"].is_object()))
    });
}

fn name(agent: &TestAgent) -> String {
    agent.ctl(&["status", "-o", "json"]).response()["hostname"].as_str().unwrap().to_owned()
}
