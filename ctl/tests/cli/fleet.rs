//! `fleet`, and `--all` in a fleet.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Fake, Script};
use crate::{at, ctl, ctl_with, folder};

/// With the contexts in this folder.
fn with_contexts(arguments: &[&str], folder: &std::path::Path) -> crate::Outcome {
    ctl_with(arguments, |console| {
        let folder = folder.to_str().unwrap().to_owned();
        console.env.insert("XDG_CONFIG_HOME".to_owned(), folder);
    })
}

fn member(name: &str, node: &str, own: bool) -> FleetMember {
    FleetMember {
        host_id: format!("id-{name}"),
        hostname: name.into(),
        version: "1.0".into(),
        node: node.into(),
        alive: true,
        self_: own,
        ..FleetMember::default()
    }
}

fn standing(standing: FleetStanding) -> GetFleetStatusResponse {
    GetFleetStatusResponse {
        fleet: "prod".into(),
        standing: standing.into(),
        host_id: "id-a".into(),
        hostname: "a".into(),
        ..GetFleetStatusResponse::default()
    }
}

fn of(fleet: GetFleetStatusResponse) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { fleet, ..Script::default() });
    (folder, fake)
}

#[test]
fn how_a_host_stands_is_told_and_what_is_not_known_is_no_success() {
    let emergency = FleetEmergency {
        active: true,
        epoch: 20_261_128_010_203,
        since: at(60),
        activated_by: "cert:olga".into(),
        reason: "prices are wrong".into(),
        host: "b".into(),
        ..FleetEmergency::default()
    };
    let connected = standing(FleetStanding::Connected);
    let twins = vec!["copy".to_owned()];
    for (status, exit, says) in [
        (connected.clone(), Exit::Ok, "CONNECTED"),
        (standing(FleetStanding::Alone), Exit::Ok, "ALONE"),
        (standing(FleetStanding::Stale), Exit::Unknown, "STALE"),
        (standing(FleetStanding::Lost), Exit::Unknown, "LOST"),
        (
            GetFleetStatusResponse { emergency: Some(emergency), ..connected.clone() },
            Exit::Findings,
            "EMERGENCY 20261128010203 of the fleet",
        ),
        (
            GetFleetStatusResponse { twins, ..connected.clone() },
            Exit::Findings,
            "copy has the identity id-a of a",
        ),
        (
            GetFleetStatusResponse { emergency_untold: true, ..connected },
            Exit::Findings,
            "has not been told",
        ),
    ] {
        let (_folder, fake) = of(status);
        let said = ctl(&["fleet", "status", "-n", &fake.node()]);
        assert_eq!(said.exit, exit, "{said:?}");
        assert!(said.out().contains(says), "{said:?}");
    }
}

#[test]
fn members_and_locks_are_listed() {
    let folder = folder();
    let gone = FleetMember { alive: false, ..member("c", "c:7443", false) };
    let twice = FleetMember {
        twins: vec!["b".into(), "copy".into()],
        emergency: true,
        fleet_epoch: 7,
        ..member("b", "b:7443", false)
    };
    let lock = FleetLock {
        name: "database/orders".into(),
        token: 4_711,
        hostname: "a".into(),
        run: "01RUN".into(),
        since: at(60),
        ..FleetLock::default()
    };
    let script = Script {
        members: vec![member("a", "a:7443", true), twice, gone],
        locks: vec![lock],
        ..Script::default()
    };
    let fake = Fake::start(folder.path(), script);
    let said = ctl(&["fleet", "members", "-n", &fake.node()]);
    assert_eq!(said.exit, Exit::Findings, "{said:?}");
    for text in ["a (this one)", "twice", "gone", "c:7443"] {
        assert!(said.out().contains(text), "{text}: {said:?}");
    }
    let said = ctl(&["fleet", "locks", "-n", &fake.node()]);
    assert_eq!(said.exit, Exit::Ok);
    assert!(said.out().contains("4711") && said.out().contains("01RUN"), "{said:?}");
}

#[test]
fn all_are_called_that_are_members_once_each() {
    let folder = folder();
    let home = |name: &str| {
        let home = folder.path().join(name);
        std::fs::create_dir(&home).unwrap();
        home
    };
    let fleet = || standing(FleetStanding::Connected);
    let b = Fake::start(&home("b"), Script { fleet: fleet(), ..Script::default() });
    // By another name than it is called.
    let own = member("a", "a.inner:7443", true);
    let members = vec![own, member("b", &b.node(), false), member("gone", "unix:/none", false)];
    let script = Script { fleet: fleet(), members, ..Script::default() };
    let a = Fake::start(&home("a"), script);
    let said = ctl(&["fleet", "status", "--all", "-o", "jsonl", "-n", &a.node()]);
    assert_eq!(said.exit, Exit::Usage, "the command line names its nodes: {said:?}");
    let contexts = home("config");
    let run = |arguments: &[&str]| with_contexts(arguments, &contexts);
    assert_eq!(run(&["context", "add", "prod", "--nodes", &a.node()]).exit, Exit::Ok);
    assert_eq!(run(&["context", "use", "prod"]).exit, Exit::Ok);
    let said = run(&["fleet", "status", "--all", "-o", "jsonl"]);
    assert_eq!(said.exit, Exit::SomeFailed, "{said:?}");
    let nodes: Vec<&str> = said.out().lines().collect();
    assert_eq!(nodes.len(), 3, "{said:?}");
    assert!(said.out().contains("unix:/none") && !said.out().contains("a.inner"), "{said:?}");
    // Without --all the context's alone.
    assert_eq!(run(&["fleet", "status", "-o", "jsonl"]).out().lines().count(), 1);
}

#[test]
fn where_the_members_are_not_known_nothing_is_a_success() {
    for (refusal, exit) in [("FLEET_UNREACHABLE", Exit::Unknown), ("FLEET_UNCONFIGURED", Exit::Ok)]
    {
        let folder = folder();
        let fake = Fake::start(
            folder.path(),
            Script {
                fleet_refusal: refusal,
                fleet: standing(FleetStanding::Connected),
                ..Script::default()
            },
        );
        let contexts = folder.path().join("config");
        std::fs::create_dir(&contexts).unwrap();
        let run = |arguments: &[&str]| with_contexts(arguments, &contexts);
        assert_eq!(run(&["context", "add", "prod", "--nodes", &fake.node()]).exit, Exit::Ok);
        assert_eq!(run(&["context", "use", "prod"]).exit, Exit::Ok);
        let said = run(&["fleet", "status", "--all"]);
        assert_eq!(said.exit, exit, "{refusal}: {said:?}");
        assert_eq!(
            said.stderr.contains("the members of the fleet are not known"),
            exit == Exit::Unknown,
            "{said:?}"
        );
    }
}
