//! `fleet`, and `--all` in a fleet.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Fake, Script};
use crate::{Outcome, at, ctl, ctl_with, folder, squeezed, well};

/// With the contexts in this folder.
fn with_contexts(arguments: &[&str], folder: &std::path::Path) -> Outcome {
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

/// Agents, the first of which is the only node of the context in use and knows of members.
struct Fleet {
    folder: tempfile::TempDir,
    agents: Vec<Fake>,
}

impl Fleet {
    /// The first knows itself by another name than it is called, the others, and one that is gone.
    fn of(names: &[&str], script: impl Fn(&str) -> Script) -> Self {
        let folder = folder();
        let mut agents = Vec::new();
        let mut members = vec![FleetMember { alive: false, ..member("gone", "unix:/gone", false) }];
        for name in names.iter().rev() {
            let home = folder.path().join(name);
            std::fs::create_dir(&home).unwrap();
            let own = *name == names[0];
            let known = match own {
                true => std::mem::take(&mut members),
                false => Vec::new(),
            };
            let script = script(name);
            let status = GetStatusResponse { hostname: (*name).into(), ..script.status.clone() };
            let mut script = Script { status, fleet: standing(FleetStanding::Connected), ..script };
            if own {
                script.members = known;
                script.members.push(member(name, "inner:7443", true));
            }
            let agent = Fake::start(&home, script);
            members.push(member(name, &agent.node(), false));
            agents.insert(0, agent);
        }
        let fleet = Self { folder, agents };
        let node = fleet.agents[0].node();
        assert_eq!(fleet.ctl(&["context", "add", "prod", "--node", &node, "--use"]).exit, Exit::Ok);
        fleet
    }

    fn ctl(&self, arguments: &[&str]) -> Outcome {
        with_contexts(arguments, self.folder.path())
    }
}

fn plain(_: &str) -> Script {
    Script { status: well(), ..Script::default() }
}

#[test]
fn before_a_change_on_all_members_it_is_said_which_come_from_the_fleet() {
    let fleet = Fleet::of(&["a", "b"], plain);
    let refused = fleet.ctl(&["config", "reload", "--all"]);
    assert_eq!(refused.exit, Exit::Usage);
    let lines: Vec<&str> = refused.stderr.lines().map(str::trim).collect();
    let [a, b] = [0, 1].map(|at: usize| fleet.agents[at].node());
    assert!(lines.contains(&a.as_str()), "{lines:?}");
    assert!(lines.contains(&format!("{b} (b, of the fleet)").as_str()), "{lines:?}");
    assert!(lines.contains(&"unix:/gone (gone, which is gone, of the fleet)"), "{lines:?}");
    assert!(fleet.agents.iter().all(|agent| !agent.calls().contains(&"ReloadConfig".to_owned())));
    let said = fleet.ctl(&["config", "reload", "--all", "--yes"]);
    assert_eq!(said.exit, Exit::SomeFailed, "{said:?}");
    for agent in &fleet.agents {
        let calls = agent.calls();
        assert_eq!(calls.iter().filter(|call| *call == "ReloadConfig").count(), 1, "{calls:?}");
    }
    // A plan is that of one node, also where the others come from the fleet.
    let said = fleet.ctl(&["config", "reload", "--all", "--plan-hash", "x"]);
    assert_eq!(said.exit, Exit::Usage, "{said:?}");
}

#[test]
fn a_change_on_nodes_of_which_some_may_be_missing_is_incomplete() {
    let folder = folder();
    let fleet_refusal = "FLEET_UNREACHABLE";
    let fake = Fake::start(folder.path(), Script { fleet_refusal, ..plain("") });
    let run = |arguments: &[&str]| with_contexts(arguments, folder.path());
    run(&["context", "add", "prod", "--node", &fake.node(), "--use"]);
    let said = run(&["config", "reload", "--all"]);
    assert_eq!(said.exit, Exit::Unknown, "{said:?}");
    assert!(fake.calls().contains(&"ReloadConfig".to_owned()), "what is known is done");
    assert!(said.stderr.contains("etcd is away"), "{said:?}");
}

#[test]
fn a_node_that_has_lost_the_fleet_is_not_waited_for() {
    let folder = folder();
    let trouble = "connection refused".into();
    let fleet = GetFleetStatusResponse { trouble, ..standing(FleetStanding::Lost) };
    let fake = Fake::start(folder.path(), Script { fleet, ..plain("") });
    let run = |arguments: &[&str]| with_contexts(arguments, folder.path());
    run(&["context", "add", "prod", "--node", &fake.node(), "--use"]);
    let said = run(&["status", "--all"]);
    assert_eq!(said.exit, Exit::Unknown, "{said:?}");
    assert!(said.stderr.contains("can't reach etcd: connection refused"), "{said:?}");
    assert!(!fake.calls().contains(&"ListFleetMembers".to_owned()), "{:?}", fake.calls());
}

#[test]
fn all_needs_no_context_where_a_node_knows_the_fleet() {
    let fleet = Fleet::of(&["a", "b"], plain);
    let by = |node: &str, more: &[&str]| {
        ctl_with(&[&["status", "--all"], more].concat(), |console| {
            console.env.insert("GENESISCTL_NODES".into(), node.into());
        })
    };
    let [a, b] = [0, 1].map(|at: usize| fleet.agents[at].node());
    let said = by(&a, &["-o", "jsonl"]);
    assert_eq!(said.exit, Exit::SomeFailed, "one is gone: {said:?}");
    assert!(said.out().contains(&b) && said.out().lines().count() == 3, "{said:?}");
    // The agent of this host.
    let said = ctl_with(&["status", "--all", "-o", "jsonl"], |console| {
        let state = fleet.folder.path().join("state");
        std::fs::create_dir_all(state.join("genesis")).unwrap();
        let socket = a.strip_prefix("unix:").unwrap();
        std::os::unix::fs::symlink(socket, state.join("genesis/agent.sock")).unwrap();
        console.env.insert("XDG_STATE_HOME".into(), state.display().to_string());
    });
    assert!(said.out().contains(&b) && said.out().lines().count() == 3, "{said:?}");
    // Nothing says which nodes are all.
    let folder = folder();
    let fleet_refusal = "FLEET_UNCONFIGURED";
    let alone = Fake::start(folder.path(), Script { fleet_refusal, ..plain("") });
    let said = by(&alone.node(), &[]);
    assert_eq!(said.exit, Exit::Usage, "{said:?}");
    assert!(said.stderr.contains("--context"), "{said:?}");
    assert_eq!(ctl(&["status", "--all"]).exit, Exit::Usage);
}

#[test]
fn nodes_of_no_fleet_are_called_as_ever_also_when_one_is_away() {
    let folder = folder();
    let fleet_refusal = "FLEET_UNCONFIGURED";
    let fake = Fake::start(folder.path(), Script { fleet_refusal, ..plain("") });
    let run = |arguments: &[&str]| with_contexts(arguments, folder.path());
    let nodes = format!("{},unix:/absent", fake.node());
    run(&["context", "add", "prod", "--node", &nodes, "--use"]);
    let said = run(&["status", "--all"]);
    assert_eq!(said.exit, Exit::SomeFailed);
    assert!(!said.stderr.contains("members"), "{said:?}");
}

fn declared() -> Emergency {
    Emergency {
        active: true,
        epoch: 1,
        since: at(60),
        reason: "feed".into(),
        ..Emergency::default()
    }
}

fn in_force(name: &str, emergency: bool) -> FleetMember {
    FleetMember { emergency, fleet_epoch: u64::from(emergency), ..member(name, "n:7443", false) }
}

/// An agent whose emergency gets so far in its fleet.
fn reaching(reach: FleetReach, halted: bool) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let halted_at = if halted { at(61) } else { None };
    let course = EmergencyCourse { configured: true, halted_at, ..EmergencyCourse::default() };
    let emergency = GetEmergencyResponse {
        emergency: Some(declared()),
        course: Some(course),
        ..GetEmergencyResponse::default()
    };
    let fake = Fake::start(folder.path(), Script { emergency, reach, ..plain("") });
    (folder, fake)
}

#[test]
fn an_emergency_of_the_fleet_is_a_success_only_where_all_have_said_so() {
    let all = || vec![in_force("a", true), in_force("b", true)];
    let reach =
        |told, trouble: &str, members| FleetReach { told, trouble: trouble.into(), members };
    for (verb, reach, exit, says) in [
        ("activate", reach(true, "", all()), Exit::Ok, "in force on 2 of 2 members"),
        ("halt", reach(true, "", all()), Exit::Ok, "in force on 2 of 2 members"),
        (
            "activate",
            reach(true, "", [all(), vec![in_force("late", false)]].concat()),
            Exit::Unknown,
            "have not said so: late",
        ),
        (
            "halt",
            reach(true, "", [all(), vec![in_force("late", false)]].concat()),
            Exit::Unknown,
            "have not said so: late",
        ),
        (
            "activate",
            reach(false, "refused", vec![]),
            Exit::Unknown,
            "refused; it is told as soon as",
        ),
        ("release", reach(true, "", all()), Exit::Unknown, "have one still: a, b"),
        ("release", reach(true, "", vec![in_force("a", false)]), Exit::Ok, "over on 1 of 1 member"),
    ] {
        let (_folder, fake) = reaching(reach, true);
        let command = ["emergency", verb, "--fleet", "--reason", "feed", "-n", &fake.node()];
        let said = ctl(&command);
        assert_eq!(said.exit, exit, "{verb}: {said:?}");
        assert!(said.out().contains(says), "{verb}: {said:?}");
        let next = match verb {
            "release" => "emergency release -n NODE",
            _ if says.contains("have not said so") => "emergency activate --all --yes",
            _ => "emergency activate -n NODE,NODE --yes",
        };
        assert_eq!(said.out().contains(next), exit == Exit::Unknown, "{verb}: {said:?}");
        assert!(fake.calls()[0].contains("Emergency fleet because feed"), "{:?}", fake.calls());
        // Who has not said so is on top.
        let lines = squeezed(said.out());
        if let Some(row) = lines.iter().position(|line| line == "MEMBER IN FORCE NODE") {
            let late = says.contains("late");
            assert_eq!(lines[row + 1].starts_with("late no "), late, "{lines:?}");
        }
        let json = ctl(&[&command[..], &["-o", "json"]].concat());
        assert_eq!(json.exit, exit, "{json:?}");
        // What is waited for tells of the node alone.
        if verb == "halt" {
            assert_eq!(json.stderr.contains(says), exit == Exit::Unknown, "{json:?}");
        } else {
            assert!(json.json()[0]["response"]["fleet"]["members"].is_array(), "{json:?}");
        }
    }
}

#[test]
fn trading_that_is_not_halted_here_is_no_success_whatever_the_others_say() {
    let reach = FleetReach { told: true, members: vec![in_force("a", true)], ..Default::default() };
    let (_folder, fake) = reaching(reach, false);
    let said = ctl(&["emergency", "halt", "--fleet", "--no-wait", "-n", &fake.node()]);
    assert_eq!(said.exit, Exit::Ok, "{said:?}");
    let halt = ["emergency", "halt", "--fleet", "--timeout", "500ms", "-n", &fake.node()];
    assert_eq!(ctl(&halt).exit, Exit::Unknown);
}

#[test]
fn one_node_is_asked_for_what_is_then_so_for_all() {
    let fleet = Fleet::of(&["a", "b"], plain);
    for command in [
        &["emergency", "release", "--fleet", "--reason", "well", "--yes"][..],
        &["fleet", "forget", "gone", "--yes"],
    ] {
        let said = fleet.ctl(&[command, &["--all"]].concat());
        assert_eq!(said.exit, Exit::Usage, "{said:?}");
        assert!(said.stderr.contains("one node at a time"), "{said:?}");
    }
}

#[test]
fn whose_the_emergency_is_that_is_in_force() {
    let of = |fleet_epoch, fleet_only, fleet_told| {
        let emergency = Emergency { fleet_epoch, fleet_only, fleet_told, ..declared() };
        let emergency = Some(emergency);
        let folder = folder();
        let emergency = GetEmergencyResponse { emergency, ..GetEmergencyResponse::default() };
        let fake = Fake::start(folder.path(), Script { emergency, ..plain("") });
        (folder, fake)
    };
    for (agent, says, row) in [
        (of(7, true, true), "emergency release --fleet", "EMERGENCY (the fleet's)"),
        (of(7, false, true), "this host's own was in force before", "EMERGENCY (and the fleet's)"),
        (of(7, true, false), "has NOT been told yet", "EMERGENCY (fleet NOT told)"),
    ] {
        let node = agent.1.node();
        let said = ctl(&["emergency", "status", "-n", &node]);
        assert_eq!(said.exit, Exit::Findings, "{said:?}");
        assert!(said.out().contains(says), "{said:?}");
        let both = format!("{node},unix:/absent");
        let said = ctl(&["emergency", "status", "-n", &both]);
        assert!(said.out().contains(row), "{said:?}");
    }
    let (_folder, fake) = of(0, false, false);
    assert!(!ctl(&["emergency", "status", "-n", &fake.node()]).out().contains("fleet"));
}

#[test]
fn skew_asks_every_member_and_tells_in_what_they_differ() {
    let two = |name: &str| {
        let mut script = plain(name);
        if name == "b" {
            script.status.version = "9.9".into();
            script.matrices.active = 7;
            let about = genesis_client::v1::MatrixVersion {
                version: 7,
                digest: "d7".into(),
                ..Default::default()
            };
            let known =
                genesis_client::v1::GetMatrixResponse { about: Some(about), ..Default::default() };
            script.matrices.known.push(known);
        }
        script
    };
    let fleet = Fleet::of(&["a", "b"], two);
    let said = fleet.ctl(&["fleet", "skew"]);
    assert_eq!(said.exit, Exit::SomeFailed, "one is gone: {said:?}");
    let out = squeezed(said.out());
    assert!(out.iter().any(|line| line == "merged: matrix: d7 on b; none on a"), "{out:?}");
    assert!(out.iter().any(|line| line.starts_with("merged: version: ")), "{out:?}");
    assert!(out.iter().any(|line| line == "merged: 1 host could not be asked"), "{out:?}");
    assert!(said.stderr.contains("`genesisctl fleet forget gone`"), "{said:?}");
    assert!(said.out().contains("unix:/gone") && said.stderr.contains("unix:/gone"), "{said:?}");
    // Named, they are asked as well, and nothing is missing.
    let both = format!("{},{}", fleet.agents[1].node(), fleet.agents[1].node());
    let said = ctl(&["fleet", "skew", "-o", "json", "-n", &both]);
    let merged = &said.json()[1]["merged"];
    assert_eq!(merged["differences"].as_array().unwrap().len(), 0, "{said:?}");
    assert_eq!(merged["missing"], 0);
}

/// Agents that are all there, each as `change` makes it.
fn pair(change: impl Fn(&mut Script)) -> (tempfile::TempDir, [Fake; 2]) {
    let folder = folder();
    let fakes = ["a", "b"].map(|name| {
        let home = folder.path().join(name);
        std::fs::create_dir(&home).unwrap();
        let fleet = standing(FleetStanding::Connected);
        let mut script = Script { fleet, ..plain(name) };
        script.status.hostname = name.into();
        if name == "b" {
            change(&mut script);
        }
        Fake::start(&home, script)
    });
    (folder, fakes)
}

#[test]
fn what_differs_is_a_finding_and_what_is_not_known_no_success() {
    type Change = fn(&mut Script);
    let cases: [(Change, Exit, &str); 5] = [
        (|_| {}, Exit::Ok, "2 hosts alike"),
        (|script| script.status.emergency = true, Exit::Findings, "emergency: in force on b"),
        (|script| script.status.now = at(90_061 + 7_200), Exit::Findings, "clock: b is at least 7"),
        (|script| script.status.now = None, Exit::Unknown, "not known: clock of b"),
        (
            |script| {
                let older = tonic::Status::unimplemented("no such method");
                script.failing.insert("GetFleetStatus", older);
            },
            Exit::Unknown,
            "not known: standing to its fleet of b",
        ),
    ];
    for (change, exit, says) in cases {
        let (_folder, fakes) = pair(change);
        let nodes = fakes.each_ref().map(Fake::node).join(",");
        let said = ctl(&["fleet", "skew", "-n", &nodes]);
        assert_eq!(said.exit, exit, "{said:?}");
        assert!(said.out().contains(says), "{says}: {said:?}");
    }
}

#[test]
fn the_dashboard_shows_how_hosts_stand_to_their_fleet() {
    let (_folder, fakes) = pair(|script| {
        let trouble = "connection refused".into();
        script.fleet = GetFleetStatusResponse { trouble, ..standing(FleetStanding::Lost) };
    });
    let [a, b] = fakes.each_ref().map(Fake::node);
    let said = ctl(&["health", "dashboard", "-n", &b]);
    assert!(said.out().contains("fleet prod: LOST: connection refused"), "{said:?}");
    let said = ctl(&["health", "dashboard", "--merge", "-n", &format!("{a},{b}")]);
    assert!(said.out().contains("CONNECTED on 1 of 2, LOST on 1 of 2"), "{said:?}");
}

#[test]
fn identities_are_shown_to_who_asks_for_them() {
    let folder = folder();
    let fake = Fake::start(
        folder.path(),
        Script { members: vec![member("a", "a:7443", true)], ..Script::default() },
    );
    let said = ctl(&["fleet", "members", "-n", &fake.node()]);
    assert!(said.exit == Exit::Ok && !said.out().contains("id-a"), "{said:?}");
    assert!(ctl(&["fleet", "members", "-v", "-n", &fake.node()]).out().contains("id-a"));
    assert_eq!(squeezed(said.out())[0], "HOST NODE VERSION SINCE STATE EMERGENCY", "{said:?}");
}
