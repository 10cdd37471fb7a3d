//! A mutating call is carried out once for each request id, whatever happens in between.

use genesis_client::{Client, Error, Options, v1};
use genesis_tests::{TestAgent, lines, source};

fn host() -> TestAgent {
    TestAgent::new(|log| source("trading", &log.join("t.log"), "1GB"))
}

async fn rotate(node: &str, id: &str, log_type: &str) -> Result<v1::StartedRun, Error> {
    let options = Options { request_id: Some(id.into()), ..Options::default() };
    let client = Client::connect(&node.parse().unwrap(), options).await?;
    let request = v1::RotateLogsRequest { log_type: log_type.into(), ..Default::default() };
    let answer = client.call(request, |c, r| async move { c.logs().rotate_logs(r).await }).await?;
    Ok(answer.run.unwrap())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn fifty_calls_with_one_id_start_one_run_also_after_a_restart() {
    let mut agent = host();
    agent.start();
    std::fs::write(agent.log("t.log"), lines::text(0..10)).unwrap();
    let (node, id) = (agent.node(), ulid::Ulid::generate().to_string());
    let runtime = runtime();
    let at_once = async {
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let (node, id) = (node.clone(), id.clone());
                tokio::task::spawn(async move { rotate(&node, &id, "trading").await })
            })
            .collect();
        let mut runs = Vec::new();
        for call in calls {
            runs.push(call.await.unwrap().unwrap());
        }
        runs
    };
    let runs = runtime.block_on(at_once);
    assert!(runs.iter().all(|run| *run == runs[0]), "{runs:?}");
    agent.wait_verified("trading", 1);
    let repeated = runtime.block_on(rotate(&node, &id, "trading")).unwrap();
    assert_eq!(repeated, runs[0]);
    agent.kill();
    agent.start();
    assert_eq!(runtime.block_on(rotate(&node, &id, "trading")).unwrap(), runs[0]);
    let listed = agent.ctl(&["run", "list", "--kind", "logs.rotate", "-o", "json"]).ok().response();
    assert_eq!(listed["runs"].as_array().unwrap().len(), 1, "{listed}");
    // The same id for something else is a mistake of the caller, and nothing is done.
    let other = runtime.block_on(rotate(&node, &id, "")).unwrap_err();
    assert_eq!(other.reason, "REQUEST_ID_REUSED");
    let fresh = ulid::Ulid::generate().to_string();
    assert_ne!(runtime.block_on(rotate(&node, &fresh, "trading")).unwrap(), runs[0]);
}

#[test]
fn a_refused_call_may_be_tried_again_under_its_id() {
    let mut agent = host();
    agent.start();
    let (node, id) = (agent.node(), ulid::Ulid::generate().to_string());
    let runtime = runtime();
    let unknown = runtime.block_on(rotate(&node, &id, "later")).unwrap_err();
    assert_eq!(unknown.reason, "LOG_TYPE_UNKNOWN");
    let later = source("later", &agent.log("later.log"), "1GB");
    agent.configure(&later);
    agent.ctl(&["config", "reload"]).ok();
    runtime.block_on(rotate(&node, &id, "later")).unwrap();
}

#[test]
fn a_call_that_a_crash_cut_off_is_never_carried_out_twice() {
    for point in ["request.begun", "request.carried-out"] {
        let mut agent = host();
        std::fs::write(agent.log("t.log"), lines::text(0..10)).unwrap();
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        let (node, id) = (agent.node(), ulid::Ulid::generate().to_string());
        let runtime = runtime();
        runtime.block_on(rotate(&node, &id, "trading")).unwrap_err();
        agent.wait_killed();
        agent.start();
        let repeated = runtime.block_on(rotate(&node, &id, "trading")).unwrap_err();
        assert_eq!(repeated.reason, "REQUEST_INTERRUPTED", "{point}");
        let kind = ["run", "list", "--kind", "logs.rotate", "-o", "json"];
        let listed = agent.ctl(&kind).ok().response();
        let begun = usize::from(point == "request.carried-out");
        assert_eq!(listed["runs"].as_array().unwrap().len(), begun, "{point}: {listed}");
    }
}

#[test]
fn genesisctl_sends_the_id_that_it_is_given() {
    let agent = TestAgent::started(|_| String::new());
    let id = ulid::Ulid::generate().to_string();
    let note = ["oplog", "note", "once", "--request-id", &id];
    for _ in 0..3 {
        agent.ctl(&note).ok();
    }
    let listed = agent.ctl(&["oplog", "list", "--action", "note", "-o", "json"]).ok().response();
    let notes = listed["entries"].as_array().unwrap();
    assert_eq!(notes.iter().filter(|entry| entry["action"] == "note").count(), 1, "{listed}");
    agent
        .ctl(&["oplog", "note", "twice", "--request-id", &id])
        .exits(9)
        .says(&["REQUEST_ID_REUSED"]);
    agent.ctl(&["oplog", "note", "x", "--request-id", "soon"]).exits(2).says(&["ULID"]);
}
