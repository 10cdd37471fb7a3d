//! `experiment` and `param` where they are the whole fleet's.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::experiments::running;
use crate::fake::{Experiments, Fake, Parameters, Script};
use crate::{Outcome, at, ctl, folder, squeezed};

fn share(host: &str, control: u64) -> FleetShare {
    FleetShare {
        host_id: format!("id-of-{host}"),
        hostname: host.into(),
        here: "TEST_2".into(),
        control,
        variant: control / 4,
        last_trade_at: at(3_599),
        ..Default::default()
    }
}

fn of_fleet(hosts: Vec<FleetShare>) -> GetExperimentResponse {
    let count =
        |wanted: fn(&FleetShare) -> bool| hosts.iter().filter(|share| wanted(share)).count() as u32;
    let fleet = FleetExperiment {
        fleet: "prod".into(),
        owner: "gw-1".into(),
        owner_id: "id-of-gw-1".into(),
        token: 41,
        counting: count(|it| !it.here.is_empty()),
        not_begun: count(|it| !it.not_begun.is_empty()),
        silent: count(|it| it.silent),
        hosts,
        more: false,
    };
    let experiment = Experiment {
        id: "FLEET_7".into(),
        fleet_id: "FLEET_7".into(),
        here: "TEST_3".into(),
        ..running()
    };
    GetExperimentResponse { experiment: Some(experiment), fleet: Some(fleet), ..Default::default() }
}

fn agent(known: Vec<GetExperimentResponse>) -> (tempfile::TempDir, Fake) {
    let experiments = Experiments { known, ..Default::default() };
    let parameters = Parameters { knows_fleets: true, ..Default::default() };
    let folder = folder();
    let script = Script { experiments, parameters, ..Default::default() };
    let fake = Fake::start(folder.path(), script);
    (folder, fake)
}

fn on(fake: &Fake, command: &[&str]) -> Outcome {
    ctl(&[command, &["-n", &fake.node()]].concat())
}

#[test]
fn what_an_older_agent_has_set_on_its_host_only_is_no_success() {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script::default());
    let set = ["param", "set", "--fleet", "--strategy", "mm", "threshold=0.002", "--reason", "r"];
    assert_eq!(on(&fake, &set).exit, Exit::Unknown);
    let back = ["param", "rollback", "--fleet", "--strategy", "mm", "threshold", "--reason", "r"];
    assert_eq!(on(&fake, &back).exit, Exit::Unknown);
    assert_eq!(on(&fake, &[&set[..2], &set[3..]].concat()).exit, Exit::Ok);
}

#[test]
fn one_agent_is_told_and_tells_the_fleet() {
    let (_folder, fake) = agent(vec![of_fleet(vec![share("gw-1", 8)])]);
    let create =
        ["experiment", "create", "--fleet", "--strategy", "mm", "--param", "threshold:0.003"];
    let begun = on(&fake, &create);
    assert_eq!(begun.exit, Exit::Ok, "{}", begun.stderr);
    assert!(begun.out().contains("in the whole fleet it is FLEET_7"), "{}", begun.out());
    let conclude = ["experiment", "conclude", "--fleet", "--test-id", "FLEET_7", "--action"];
    let why = ["rollback", "--reason", "no"];
    assert_eq!(on(&fake, &[&conclude[..], &why].concat()).exit, Exit::Ok);
    let set = ["param", "set", "--fleet", "--strategy", "mm", "threshold=0.002"];
    assert_eq!(on(&fake, &[&set[..], &["--reason", "same"]].concat()).exit, Exit::Ok);
    let back = ["param", "rollback", "--fleet", "--strategy", "mm", "threshold", "--reason", "no"];
    assert_eq!(on(&fake, &back).exit, Exit::Ok);
    assert_eq!(
        fake.calls(),
        [
            "CreateExperiment mm threshold:0.003 1000 in-the-fleet",
            "ConcludeExperiment FLEET_7 ROLLBACK in-the-fleet because no",
            "SetParameter mm threshold 0.002 in-the-fleet because same",
            "RollbackParameter mm threshold in-the-fleet because no",
        ]
    );
    // Each of several would do it again.
    let nodes = format!("{},127.0.0.1:1", fake.node());
    for command in [&create[..], &[&conclude[..], &why].concat(), &set, &back] {
        let outcome = ctl(&[command, &["--yes", "-n", &nodes]].concat());
        assert_eq!(outcome.exit, Exit::Usage, "{command:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("one agent"), "{}", outcome.stderr);
    }
    let owner = on(&fake, &[&create[..], &["--owner", "h2"]].concat());
    assert_eq!(owner.exit, Exit::Usage);
    assert_eq!(fake.calls().len(), 4, "nothing more was sent");
}

#[test]
fn a_fleets_experiment_is_shown_with_each_host() {
    let refused = FleetShare {
        here: String::new(),
        not_begun: "threshold of mm is \"0.009\" here".into(),
        ..share("gw-3", 0)
    };
    let silent = FleetShare { here: String::new(), silent: true, ..share("gw-4", 0) };
    for (hosts, exit, wanted) in [
        (vec![share("gw-1", 800)], Exit::Ok, "gw-1 TEST_2 800 200 1970-01-01T00:59:59Z -"),
        (
            vec![refused.clone(), share("gw-1", 800)],
            Exit::Findings,
            "gw-3 - 0 0 1970-01-01T00:59:59Z not begun: threshold of mm is \"0.009\" here",
        ),
        (
            vec![silent, refused, share("gw-1", 800)],
            Exit::Unknown,
            "gw-4 - 0 0 1970-01-01T00:59:59Z has told nothing of it",
        ),
    ] {
        let (_folder, fake) = agent(vec![of_fleet(hosts)]);
        let shown = on(&fake, &["experiment", "show", "FLEET_7"]);
        assert_eq!(shown.exit, exit, "{}", shown.stderr);
        let lines = squeezed(shown.out());
        for wanted in [
            wanted,
            "on this host: TEST_3",
            "FLEET_7: hosts of fleet prod",
            "looks are taken by gw-1 (token 41)",
        ] {
            assert!(lines.iter().any(|line| line == wanted), "{wanted} is not in {lines:#?}");
        }
        // What each host has itself is added up, not what all have.
        on(&fake, &["experiment", "show", "FLEET_7", "--merge", "-o", "json"]);
        assert_eq!(fake.calls(), ["GetExperiment FLEET_7 of the fleet", "GetExperiment FLEET_7"]);
    }
}

#[test]
fn a_fleets_experiments_are_listed_and_one_that_has_not_begun_here_is_a_finding() {
    let (_folder, fake) = agent(vec![of_fleet(vec![])]);
    let listed = on(&fake, &["experiment", "list", "--fleet"]);
    assert_eq!(listed.exit, Exit::Ok, "{}", listed.stderr);
    let lines = squeezed(listed.out());
    assert!(lines[0].ends_with("STARTED HERE") && lines[1].ends_with("Z TEST_3"), "{lines:?}");
    assert_eq!(fake.calls(), ["ListExperiments false 50 of the fleet"]);
    let mut other = of_fleet(vec![]);
    let experiment = other.experiment.as_mut().unwrap();
    (experiment.here, experiment.not_begun) = (String::new(), "it is in TEST_1".into());
    let (_folder, fake) = agent(vec![other]);
    let listed = on(&fake, &["experiment", "list", "--fleet"]);
    assert_eq!(listed.exit, Exit::Findings);
    assert!(listed.out().contains("not begun: it is in TEST_1"), "{}", listed.out());
}

#[test]
fn a_parameter_that_differs_from_the_fleets_is_a_finding() {
    let of = |differs: &str| Parameter {
        strategy: "mm".into(),
        name: "threshold".into(),
        value: "0.002".into(),
        version: 4,
        fleet_version: 3,
        fleet: Some(FleetParameter {
            version: 3,
            value: if differs.is_empty() { "0.002" } else { "0.004" }.into(),
            differs: differs.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    for (differs, exit, shown) in
        [("", Exit::Ok, "- version 3"), ("it is in TEST_1", Exit::Findings, "- version 3 is 0.004")]
    {
        let parameters = Parameters { listed: vec![of(differs)], ..Default::default() };
        let folder = folder();
        let fake = Fake::start(folder.path(), Script { parameters, ..Default::default() });
        let listed = on(&fake, &["param", "list"]);
        assert_eq!(listed.exit, exit, "{}", listed.stderr);
        let lines = squeezed(listed.out());
        assert!(lines[1].ends_with(shown), "{lines:?}");
    }
}
