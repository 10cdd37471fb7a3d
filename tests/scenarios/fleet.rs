//! Several hosts, changed by one command.

use genesis_tests::{TestAgent, ctl};

/// So many entries of a reload it has.
fn reloads(agent: &TestAgent) -> usize {
    let list = [
        "oplog",
        "list",
        "--action",
        "call /genesis.v1.AgentService/ReloadConfig",
        "--limit",
        "100",
        "-o",
        "json",
    ];
    let said = agent.ctl(&list).ok().response();
    said["entries"].as_array().map_or(0, Vec::len)
}

#[test]
fn an_agent_that_is_lost_in_the_middle_of_a_batch_is_the_end_of_the_change() {
    let mut agents: Vec<TestAgent> = (0..5).map(|_| TestAgent::new(|_| String::new())).collect();
    for (number, agent) in agents.iter_mut().enumerate() {
        match number {
            2 => {
                agent.start_with_failpoint("request.begun", 1);
                agent.wait_ready();
            }
            _ => agent.start(),
        }
    }
    let nodes: Vec<String> = agents.iter().map(TestAgent::node).collect();
    let list = nodes.join(",");
    let reload = ["config", "reload", "--yes", "--batch", "1,40%,100%", "--gate", "1s"];
    let said = ctl(&[&reload[..], &["--timeout", "5s", "-n", &list]].concat());
    let said = said.exits(8);
    said.says(&["NOT_SENT", "2 nodes were not called", "it does not answer any more", &nodes[2]]);
    agents[2].wait_killed();
    let counts: Vec<usize> = [0, 1, 3, 4].map(|number| reloads(&agents[number])).into();
    assert_eq!(counts, [1, 1, 0, 0]);
    // Mended, the rest is called.
    agents[2].start();
    let again = ctl(&[&reload[..], &["--timeout", "10s", "-n", &list]].concat());
    again.ok();
    assert_eq!(reloads(&agents[4]), 1);
}
