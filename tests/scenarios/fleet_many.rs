//! A fleet of many, one of which does not answer; and one that falls apart.

use genesis_client::v1;
use genesis_tests::TestAgent;
use genesis_tests::clock::{Watch, wait_until};
use genesis_tests::etcd::{Etcd, EtcdCluster, EtcdOptions};
use genesis_tests::netns::Network;

use crate::fleet_etcd::{declare, emergency, host, release, status, wait_standing};

use v1::FleetStanding::Connected;

fn fleet(count: usize, endpoints: &[String]) -> Vec<TestAgent> {
    let mut agents: Vec<TestAgent> =
        (0..count).map(|number| host(&format!("gw-{number:02}"), endpoints)).collect();
    agents.iter_mut().for_each(TestAgent::start);
    agents.iter().for_each(|agent| wait_standing(agent, Connected));
    agents
}

#[test]
fn an_emergency_reaches_sixteen_of_which_one_stands_still() {
    let etcd = Etcd::start();
    let agents = fleet(16, &etcd.endpoints());
    let frozen = &agents[7];
    frozen.freeze();
    let watch = Watch::start();
    let said = agents[0].ctl(&["emergency", "activate", "--fleet", "--reason", "prices are wrong"]);
    let reported = watch.elapsed();
    // What is not known of one is no success.
    said.exits(5).says(&["on 15 of 16 members", "gw-07", "emergency activate --all"]);
    let others = agents.iter().filter(|agent| agent.pid() != frozen.pid());
    for agent in others.clone() {
        assert!(emergency(agent).active);
    }
    let since = |agent: &TestAgent| {
        let since = emergency(agent).since.unwrap();
        jiff::Timestamp::new(since.seconds, since.nanos).unwrap()
    };
    let (first, last) =
        (others.clone().map(since).min().unwrap(), others.map(since).max().unwrap());
    println!(
        "an emergency was in force on 15 within {:?}, and reported after {reported:?}",
        last.duration_since(first)
    );
    // Whoever wakes up has it.
    frozen.thaw();
    wait_until("the last one", || emergency(frozen).active);
    release(&agents[3], true).unwrap();
    wait_until("its end", || agents.iter().all(|agent| !emergency(agent).active));
}

#[test]
fn all_are_called_that_the_fleet_knows_also_who_is_gone() {
    let etcd = Etcd::start();
    let mut agents = fleet(3, &etcd.endpoints());
    let nodes: Vec<String> = agents.iter().map(TestAgent::node).collect();
    // Only one of them is in the context.
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap();
    let context = |arguments: &[&str]| {
        let contexts = [("XDG_CONFIG_HOME", home), ("GENESISCTL_NODES", "")];
        genesis_tests::ctl_env(arguments, &contexts)
    };
    context(&["context", "add", "prod", "--nodes", &nodes[0]]).ok();
    context(&["context", "use", "prod"]).ok();
    let said = context(&["--all", "whoami", "-o", "jsonl"]).ok().text();
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(nodes.iter().all(|node| said.contains(node.as_str())), "{said}");
    // A change asks first, and names them.
    let said = context(&["--all", "config", "reload"]).exits(2);
    said.says(&[&nodes[0], &nodes[1], &nodes[2]]);
    context(&["fleet", "skew"]).ok().says(&["3 hosts alike"]);
    // One that is gone has a row.
    agents[2].kill();
    let said = context(&["--all", "whoami", "--timeout", "3s"]).exits(8);
    said.says(&[&nodes[2], "AGENT_UNREACHABLE"]);
    // Without etcd it is said who may be missing, and nothing is a success.
    etcd.kill();
    let said = context(&["--all", "whoami"]).exits(5);
    said.says(&["the members of the fleet are not known"]);
}

#[test]
fn what_was_declared_on_either_side_of_a_partition_is_in_force_on_both_when_it_heals() {
    let network = Network::new(&["etcd", "a", "b"]);
    let [store, left, right] = ["etcd", "a", "b"].map(|name| network.host(name));
    let etcd = Etcd::with(EtcdOptions::default().in_namespace(store));
    let started = |name: &str, place| {
        let mut agent = host(name, &etcd.endpoints());
        agent.in_namespace(place);
        agent.start();
        wait_standing(&agent, Connected);
        agent
    };
    let (a, b) = (started("a", left), started("b", right));
    // Declared where the fleet can't be told.
    network.partition("b");
    let reach = declare(&b).fleet.unwrap();
    assert!(!reach.told);
    assert!(emergency(&b).active && !emergency(&a).active);
    heal(&network, "b", || emergency(&a).active);
    assert!(emergency(&a).fleet_only && emergency(&b).fleet_told);
    // Released while one is away: it keeps it until it hears so.
    network.partition("b");
    wait_until("b to notice", || status(&b).standing() != Connected);
    release(&a, true).unwrap();
    assert!(!emergency(&a).active && emergency(&b).active);
    heal(&network, "b", || !emergency(&b).active);
    // Declared on the side of etcd.
    network.partition("b");
    declare(&a);
    assert!(!emergency(&b).active, "it can't know");
    heal(&network, "b", || emergency(&b).active);
    // Released while one is away that has declared its own meanwhile: that is no end of it.
    release(&a, true).unwrap();
    wait_until("its end", || !emergency(&b).active);
    network.partition("b");
    declare(&b);
    declare(&a);
    release(&a, true).unwrap();
    assert!(emergency(&b).active);
    heal(&network, "b", || emergency(&a).active);
    assert!(emergency(&b).active, "never silently back to normal");
}

/// Heals a partition, and waits until both sides agree.
fn heal(network: &Network, name: &str, agree: impl FnMut() -> bool) {
    network.heal(name);
    wait_until("both sides to agree", agree);
}

#[test]
fn a_host_beside_an_etcd_without_most_of_its_cluster_does_not_believe_it() {
    let network = Network::new(&["a", "b", "c"]);
    let places = ["a", "b", "c"].map(|name| network.host(name));
    let cluster = EtcdCluster::across(&places);
    // Each host has one member beside it, and knows all.
    let agents: Vec<TestAgent> = ["a", "b", "c"]
        .iter()
        .zip(places)
        .map(|(name, place)| {
            let mut agent = host(name, &cluster.endpoints());
            agent.in_namespace(place);
            agent.start();
            agent
        })
        .collect();
    agents.iter().for_each(|agent| wait_standing(agent, Connected));
    network.partition("c");
    wait_until("c to notice", || status(&agents[2]).standing() != Connected);
    declare(&agents[0]);
    wait_until("the fleet's emergency", || emergency(&agents[1]).active);
    assert!(!emergency(&agents[2]).active);
    heal(&network, "c", || emergency(&agents[2]).active);
    wait_standing(&agents[2], Connected);
}
