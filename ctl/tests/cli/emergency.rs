//! `emergency` and `pki`: what people see, what programs see, and the exit codes.

use std::collections::HashMap;

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::{Code, Status};

use crate::fake::{Fake, Script, refusal};
use crate::{at, ctl, folder, well};

fn agent(script: Script) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), script);
    (folder, fake)
}

fn declared(epoch: u64) -> Emergency {
    Emergency {
        active: true,
        epoch,
        since: at(60),
        activated_by: "genesis://prod/operator/olga".into(),
        reason: "orders are duplicated".into(),
        ..Default::default()
    }
}

fn released() -> Emergency {
    Emergency {
        active: false,
        released_at: at(3660),
        released_by: "unix:uid=0(root)".into(),
        release_reason: "the feed is sound".into(),
        ..declared(4)
    }
}

fn of(emergency: Emergency) -> GetEmergencyResponse {
    let stance = |kind: &str, goes_on| EmergencyStance { kind: kind.into(), goes_on };
    GetEmergencyResponse {
        emergency: Some(emergency),
        stances: vec![
            stance("logs.rotate", true),
            stance("logs.cleanup", false),
            stance("storage.compact", false),
        ],
        contacts: Some(Contacts {
            on_call: "PagerDuty: Trading".into(),
            escalation: "lead@example.com".into(),
            security: "security@example.com".into(),
            non_urgent: String::new(),
        }),
        course: None,
    }
}

fn in_state(emergency: Emergency) -> (tempfile::TempDir, Fake) {
    agent(Script { status: well(), emergency: of(emergency), ..Default::default() })
}

#[test]
fn an_emergency_is_declared_at_once_on_one_node() {
    let (_folder, fake) = in_state(declared(1));
    let node = fake.node();
    let outcome = ctl(&["emergency", "activate", "--reason", "orders are duplicated", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "EMERGENCY 1 is in force: since 1970-01-01T00:01:00Z by genesis://prod/operator/olga: orders are \
         duplicated\nwhat waits and whom to call: `genesisctl emergency status`; it ends with `genesisctl \
         emergency release --reason TEXT`\n"
    );
    assert_eq!(fake.calls(), ["ActivateEmergency because orders are duplicated"]);
    // Nobody has to think of a reason at three in the morning.
    assert_eq!(ctl(&["emergency", "activate", "-n", &node]).exit, Exit::Ok);
    let json = ctl(&["emergency", "activate", "-n", &node, "-o", "json"]).json();
    assert_eq!(json[0]["response"]["wasActive"], false);
    assert_eq!(json[0]["response"]["emergency"]["epoch"], "1");
}

#[test]
fn declared_again_it_says_since_when_it_is_in_force() {
    // The fake has it that all but the first were in force already.
    let (_folder, fake) = in_state(declared(2));
    let outcome = ctl(&["emergency", "activate", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Ok);
    assert!(
        outcome.out().starts_with(
            "EMERGENCY 2 was in force already, nothing was changed: since 1970-01-01T00:01:00Z by \
             genesis://prod/operator/olga"
        ),
        "{}",
        outcome.out()
    );
}

#[test]
fn on_several_nodes_an_emergency_needs_yes() {
    let ((_a, one), (_b, two)) = (in_state(declared(1)), in_state(declared(1)));
    let nodes = format!("{},{}", one.node(), two.node());
    for verb in [&["activate"][..], &["release", "--reason", "x"]] {
        let outcome = ctl(&[&["emergency"], verb, &["-n", &nodes]].concat());
        assert_eq!(outcome.exit, Exit::Usage);
        assert!(outcome.stderr.contains("Nothing was sent"), "{}", outcome.stderr);
    }
    assert!(one.calls().is_empty() && two.calls().is_empty());
    let outcome = ctl(&["emergency", "activate", "--yes", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!((one.calls().len(), two.calls().len()), (1, 1));
}

#[test]
fn a_status_says_what_waits_and_whom_to_call_and_exits_3_in_an_emergency() {
    let (_folder, fake) = in_state(declared(1));
    let outcome = ctl(&["emergency", "status", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Findings);
    assert_eq!(
        outcome.out().lines().collect::<Vec<_>>(),
        [
            "EMERGENCY 1 is in force since 1970-01-01T00:01:00Z by genesis://prod/operator/olga: orders are \
             duplicated",
            "waits for the release: logs.cleanup, storage.compact",
            "goes on: logs.rotate",
            "on call: PagerDuty: Trading",
            "escalation: lead@example.com",
            "security: security@example.com",
        ]
    );
    let json = ctl(&["emergency", "status", "-n", &fake.node(), "-o", "json"]);
    assert_eq!(json.exit, Exit::Findings);
    let json = json.json();
    assert_eq!((&json[0]["ok"], &json[0]["error"]), (&true.into(), &serde_json::Value::Null));
    let response = &json[0]["response"];
    assert_eq!(response["emergency"]["active"], true);
    assert_eq!(response["emergency"]["since"], "1970-01-01T00:01:00Z");
    assert_eq!(response["stances"][1]["goesOn"], false);
    assert_eq!(response["contacts"]["onCall"], "PagerDuty: Trading");

    let (_folder, fake) = in_state(released());
    let outcome = ctl(&["emergency", "status", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Ok);
    let lines: Vec<_> = outcome.out().lines().collect();
    assert_eq!(lines[0], "no emergency is in force");
    assert!(lines[1].starts_with("the last one, number 4, was since 1970-01-01T00:01:00Z"));
    assert_eq!(lines[2], "released 1970-01-01T01:01:00Z by unix:uid=0(root): the feed is sound");
    assert_eq!(lines[3], "would wait in an emergency: logs.cleanup, storage.compact");

    let (_folder, fake) = in_state(Emergency::default());
    let outcome = ctl(&["emergency", "status", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Ok);
    assert!(!outcome.out().contains("the last one"), "there was none: {}", outcome.out());
    // An agent that leaves it out has not said that there is none.
    let (_folder, fake) = agent(Script::default());
    let outcome = ctl(&["emergency", "status", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(outcome.stderr.contains("ANSWER_INCOMPLETE"), "{}", outcome.stderr);
}

#[test]
fn of_several_nodes_each_has_its_line() {
    let ((_a, one), (_b, two)) = (in_state(declared(1)), in_state(Emergency::default()));
    let nodes = format!("{},{},/absent.sock", one.node(), two.node());
    let outcome = ctl(&["emergency", "status", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::SomeFailed);
    let line = |node: &str| outcome.out().lines().find(|line| line.starts_with(node)).unwrap();
    assert!(outcome.out().starts_with("NODE "), "{}", outcome.out());
    let (first, second) = (one.node(), two.node());
    for shown in
        ["EMERGENCY", "olga", "orders are duplicated", "logs.cleanup", "PagerDuty: Trading"]
    {
        assert!(line(&first).contains(shown), "{shown}: {}", outcome.out());
    }
    assert!(line(&second).trim_end().ends_with("none"), "{}", outcome.out());
    assert!(line("unix:/absent.sock").contains("(unreachable)"));

    let nodes = format!("{first},{first}x");
    let outcome = ctl(&["emergency", "status", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::Failed, "a finding and an absent one are different failures");
}

#[test]
fn of_several_nodes_each_says_what_became_of_trading() {
    let course = |phase: CoursePhase, change: fn(&mut EmergencyCourse)| {
        let mut course = EmergencyCourse { configured: true, ..Default::default() };
        course.set_phase(phase);
        change(&mut course);
        course
    };
    use CoursePhase::{Closing, Flat, FlatUnproven, Halted, Halting, Normal};
    for (active, course, said) in [
        (true, course(Halting, |_| {}), "NOT halted"),
        (true, course(Halted, |it| it.halted_at = at(61)), "halted"),
        (true, course(Closing, |it| it.halted_at = at(61)), "halted, CLOSING"),
        (true, course(Flat, |it| it.halted_at = at(61)), "halted, FLAT"),
        (true, course(FlatUnproven, |it| it.halted_at = at(61)), "halted, FLAT_UNPROVEN"),
        (
            true,
            course(Halted, |it| {
                (it.halted_at, it.halt_trouble) = (at(61), "no answer".into());
                (it.sandbox, it.not_durable) = (true, "full".into());
            }),
            "STAGING, NOT halted, NOT DURABLE",
        ),
        (true, course(Normal, |it| it.configured = false), "no trading system"),
        (false, course(Normal, |it| it.resume_trouble = "gone".into()), "NOT told to go on"),
        (false, course(Normal, |it| (it.resumed_at, it.halted_at) = (at(62), at(61))), "none"),
        (false, course(Normal, |it| it.sandbox = true), "STAGING"),
    ] {
        let emergency = if active { declared(1) } else { released() };
        let emergency = GetEmergencyResponse { course: Some(course), ..of(emergency) };
        let (_a, one) = agent(Script { status: well(), emergency, ..Default::default() });
        let (_b, two) = in_state(Emergency::default());
        let outcome =
            ctl(&["emergency", "status", "-n", &format!("{},{}", one.node(), two.node())]);
        let node = one.node();
        let line = outcome.out().lines().find(|line| line.starts_with(&node)).unwrap();
        let cells: Vec<&str> =
            line.split("  ").map(str::trim).filter(|it| !it.is_empty()).collect();
        match active {
            true => assert_eq!(cells[1..3], ["EMERGENCY", said], "{line}"),
            false => assert_eq!(cells.last(), Some(&said), "{line}"),
        }
    }
}

#[test]
fn a_lease_is_renewed_and_given_up() {
    let (_folder, fake) = in_state(released());
    let node = fake.node();
    let outcome = ctl(&["emergency", "renew-lease", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.out().contains("within 10 s"), "{}", outcome.out());
    let outcome = ctl(&["emergency", "renew-lease", "--give-up", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.out().contains("given up"), "{}", outcome.out());
    // A script that runs it beside the trading system hears that no order may leave.
    let (_folder, fake) = in_state(declared(1));
    let outcome = ctl(&["emergency", "renew-lease", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Findings);
    assert!(outcome.out().starts_with("EMERGENCY: no order may leave"), "{}", outcome.out());
}

#[test]
fn a_release_needs_its_reason() {
    let (_folder, fake) = in_state(released());
    let node = fake.node();
    for reason in [&[][..], &["--reason", ""], &["--reason", "  "]] {
        for format in ["table", "json"] {
            let arguments = [&["emergency", "release", "-o", format, "-n", &node], reason].concat();
            let outcome = ctl(&arguments);
            assert_eq!(outcome.exit, Exit::Usage, "{reason:?}");
            assert!(outcome.stderr.contains("--reason"), "{}", outcome.stderr);
            assert!(outcome.stdout.is_empty());
        }
    }
    assert!(fake.calls().is_empty());
    let outcome = ctl(&["emergency", "release", "--reason", "the feed is sound", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(outcome.out(), "emergency 4 is over since 1970-01-01T01:01:00Z, after 1h\n");
    assert_eq!(fake.calls(), ["ReleaseEmergency because the feed is sound"]);
}

#[test]
fn what_the_agent_refuses_in_an_emergency_has_its_exit_code() {
    let refused = refusal(Code::FailedPrecondition, "EMERGENCY_ACTIVE", "an emergency is in force");
    let denied = Status::permission_denied("this takes an admin");
    let failing = HashMap::from([("RotateLogs", refused), ("ReleaseEmergency", denied)]);
    let (_folder, fake) =
        agent(Script { emergency: of(declared(1)), failing, ..Default::default() });
    let node = fake.node();
    let outcome = ctl(&["logs", "rotate", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Refused);
    assert!(outcome.stderr.contains("error[EMERGENCY_ACTIVE]"), "{}", outcome.stderr);
    let outcome = ctl(&["emergency", "release", "--reason", "x", "-n", &node]);
    assert_eq!(outcome.exit, Exit::NotAllowed);
}

#[test]
fn the_status_of_a_host_tells_of_an_emergency() {
    let status = GetStatusResponse { emergency: true, fleet: "prod".into(), ..well() };
    let (_folder, fake) = agent(Script { status, ..Default::default() });
    let node = fake.node();
    let outcome = ctl(&["status", "-v", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Findings, "what is well must still stand still");
    assert!(outcome.out().starts_with("EMERGENCY: "), "{}", outcome.out());
    assert!(outcome.out().contains("fleet prod"), "{}", outcome.out());
    let outcome = ctl(&["status", "-n", &format!("{node},/absent.sock")]);
    let line = outcome.out().lines().find(|line| line.starts_with(&node)).unwrap();
    assert!(line.contains("EMERGENCY"), "{}", outcome.out());
}

// PKI.

const DAY: i64 = 86_400;

fn item(kind: PkiKind, condition: Condition, until: i64) -> PkiItem {
    PkiItem {
        kind: kind.into(),
        path: "/etc/genesis/tls/x.pem".into(),
        subject: "genesis://prod/agent/web-1".into(),
        not_after: at(until),
        sha256: "ab".repeat(32),
        condition: condition.into(),
        revoked: if kind == PkiKind::RevocationList { 2 } else { 0 },
        ..Default::default()
    }
}

/// The agent's clock stands at a day and 61 seconds.
fn pki(conditions: [Condition; 2]) -> GetPkiResponse {
    let issued = |name: &str, until, revoked_at| IssuedCertificate {
        serial: "0a0b".into(),
        name: name.into(),
        role: "operator".into(),
        uri: format!("genesis://prod/operator/{name}"),
        not_after: at(until),
        revoked_at,
        ..Default::default()
    };
    GetPkiResponse {
        listen: "0.0.0.0:7443".into(),
        fleet: "prod".into(),
        items: vec![
            item(PkiKind::ServerCertificate, conditions[0], 90_061 + 20 * DAY),
            item(PkiKind::RevocationList, conditions[1], 90_061 + 90 * DAY),
        ],
        issued: vec![
            issued("olga", 90_061 + 3600, None),
            issued("ada", 90_060, None),
            issued("bob", 90_061 + DAY, at(5)),
        ],
        loaded_at: at(100),
        ..Default::default()
    }
}

fn with_pki(pki: GetPkiResponse) -> (tempfile::TempDir, Fake) {
    agent(Script { status: well(), pki, ..Default::default() })
}

#[test]
fn certificates_are_listed_with_the_time_that_is_left() {
    let (_folder, fake) = with_pki(pki([Condition::Warn, Condition::Ok]));
    let outcome = ctl(&["pki", "list", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Findings);
    let squeezed: Vec<String> = outcome
        .out()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        squeezed,
        [
            "gRPC over TLS on 0.0.0.0:7443, fleet prod, loaded 1970-01-01T00:01:40Z",
            "KIND NAME STATE UNTIL LEFT DETAIL",
            "server certificate genesis://prod/agent/web-1 WARN 1970-01-22T01:01:01Z 20d \
             /etc/genesis/tls/x.pem",
            "revocation list genesis://prod/agent/web-1 OK 1970-04-02T01:01:01Z 90d \
             /etc/genesis/tls/x.pem, revokes 2",
            "issued operator olga issued 1970-01-02T02:01:01Z 1h genesis://prod/operator/olga",
            "issued operator ada expired 1970-01-02T01:01:00Z expired genesis://prod/operator/ada",
            "issued operator bob revoked 1970-01-03T01:01:01Z 1d genesis://prod/operator/bob, revoked \
             1970-01-01T00:00:05Z",
        ]
    );
    let verbose = ctl(&["pki", "list", "-v", "-n", &fake.node()]);
    assert!(verbose.out().contains(&"ab".repeat(32)) && verbose.out().contains("serial 0a0b"));
    let json = ctl(&["pki", "list", "-o", "json", "-n", &fake.node()]);
    assert_eq!(json.exit, Exit::Findings);
    let response = &json.json()[0]["response"];
    assert_eq!(response["items"][0]["condition"], "CONDITION_WARN");
    assert_eq!(response["items"][1]["revoked"], 2);
    assert_eq!(response["issued"][2]["revokedAt"], "1970-01-01T00:00:05Z");
}

#[test]
fn the_worst_certificate_decides_the_exit_code() {
    use Condition as C;
    for (conditions, exit) in [
        ([C::Ok, C::Ok], Exit::Ok),
        ([C::Ok, C::Warn], Exit::Findings),
        ([C::Critical, C::Ok], Exit::Findings),
        ([C::Critical, C::Unknown], Exit::Unknown),
        ([C::Unspecified, C::Ok], Exit::Unknown),
    ] {
        let (_folder, fake) = with_pki(pki(conditions));
        for format in ["table", "json"] {
            let outcome = ctl(&["pki", "list", "-o", format, "-n", &fake.node()]);
            assert_eq!(outcome.exit, exit, "{conditions:?} {format}");
        }
    }
    let found = Finding {
        code: "TLS_FILES_REFUSED".into(),
        subject: "/etc/genesis/tls".into(),
        message: "the key does not fit".into(),
    };
    let (_folder, fake) = with_pki(GetPkiResponse { findings: vec![found], ..pki([C::Ok, C::Ok]) });
    let outcome = ctl(&["pki", "list", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Findings);
    assert!(outcome.out().ends_with("TLS_FILES_REFUSED /etc/genesis/tls: the key does not fit\n"));
    // Without TLS there is nothing to be ill.
    let (_folder, fake) = with_pki(GetPkiResponse::default());
    let outcome = ctl(&["pki", "list", "-n", &fake.node()]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Ok, "gRPC over TLS is off\n"));
    let failing = HashMap::from([("GetPki", Status::permission_denied("this takes an admin"))]);
    let (_folder, fake) = agent(Script { failing, ..Default::default() });
    assert_eq!(ctl(&["pki", "list", "-n", &fake.node()]).exit, Exit::NotAllowed);
}

fn venue(name: &str, state: VenueState, left: &[(&str, &str)], why: &str) -> CourseVenue {
    let position = |(symbol, quantity): &(&str, &str)| VenuePosition {
        symbol: (*symbol).into(),
        quantity: (*quantity).into(),
    };
    CourseVenue {
        name: name.into(),
        state: state.into(),
        why: why.into(),
        positions: left.iter().map(position).collect(),
        as_of: at(65),
        ..Default::default()
    }
}

fn course(phase: CoursePhase, venues: Vec<CourseVenue>) -> EmergencyCourse {
    EmergencyCourse {
        phase: phase.into(),
        configured: true,
        halted_at: at(61),
        closing_since: at(62),
        closing_by: "olga".into(),
        ended_at: at(70),
        venues,
        approvals_needed: 1,
        ..Default::default()
    }
}

fn on_course(course: EmergencyCourse) -> (tempfile::TempDir, Fake) {
    let emergency = GetEmergencyResponse { course: Some(course), ..of(declared(1)) };
    agent(Script { status: well(), emergency, ..Default::default() })
}

#[test]
fn positions_are_closed_with_consent_and_the_exit_code_says_whether_that_is_proven() {
    let flat = course(CoursePhase::Flat, vec![venue("binance", VenueState::Flat, &[], "")]);
    let (_folder, fake) = on_course(flat);
    let node = fake.node();
    let unasked = ctl(&["emergency", "close-positions", "-n", &node]);
    assert_eq!(unasked.exit, Exit::Usage);
    assert!(unasked.stderr.contains("close all positions at every venue"), "{}", unasked.stderr);
    assert!(fake.calls().is_empty(), "nothing was sent");
    let closed = ctl(&["emergency", "close-positions", "--yes", "--reason", "r", "-n", &node]);
    assert_eq!(closed.exit, Exit::Ok, "{}", closed.stderr);
    assert!(closed.out().contains("FLAT: every venue was seen empty twice"), "{}", closed.out());
    assert_eq!(fake.calls(), ["CloseAllPositions because r", "GetEmergency because r"]);

    let unproven = course(
        CoursePhase::FlatUnproven,
        vec![
            venue("binance", VenueState::Flat, &[], ""),
            venue("kraken", VenueState::Unproven, &[("BTC-USD", "-0.5")], "no answer within 5s"),
        ],
    );
    let (_folder, fake) = on_course(unproven);
    let node = fake.node();
    let closed = ctl(&["emergency", "activate", "--close-positions", "--yes", "-n", &node]);
    assert_eq!(closed.exit, Exit::Unknown, "{}", closed.stderr);
    for said in ["FLAT_UNPROVEN", "kraken", "UNPROVEN", "-0.5 BTC-USD", "no answer within 5s"] {
        assert!(closed.out().contains(said), "{said}: {}", closed.out());
    }
    let status = ctl(&["emergency", "status", "-n", &node]);
    assert_eq!(status.exit, Exit::Findings);
    assert!(status.out().contains("FLAT_UNPROVEN"), "{}", status.out());
}

#[test]
fn halting_is_waited_for_and_never_taken_for_granted() {
    let halted = EmergencyCourse { halted_at: at(61), configured: true, ..Default::default() };
    let (_folder, fake) = on_course(halted.clone());
    let outcome = ctl(&["emergency", "halt", "--reason", "r", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let said = "EMERGENCY 1 is in force\ntrading is halted since 1970-01-01T00:01:01Z\n";
    assert_eq!(outcome.out(), said);
    for (course, said) in [
        (EmergencyCourse::default(), "no trading system is configured"),
        (
            EmergencyCourse { halt_trouble: "no answer".into(), ..halted },
            "whether it still is can't be told: no answer",
        ),
    ] {
        let (_folder, fake) = on_course(course);
        let outcome = ctl(&["emergency", "halt", "-n", &fake.node()]);
        assert_eq!(outcome.exit, Exit::Unknown, "{}", outcome.stderr);
        assert!(outcome.out().contains(said), "{}", outcome.out());
    }
}

#[test]
fn an_approval_needs_a_reason_and_says_who_comes_next() {
    let approval = ReleaseApproval { by: "olga".into(), ..Default::default() };
    let (_folder, fake) = on_course(EmergencyCourse {
        configured: true,
        approvals: vec![approval],
        approvals_needed: 2,
        ..Default::default()
    });
    let node = fake.node();
    assert_eq!(ctl(&["emergency", "approve", "-n", &node]).exit, Exit::Usage);
    let outcome = ctl(&["emergency", "approve", "--reason", "r", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.out().contains("approved by olga"), "{}", outcome.out());
    assert!(outcome.out().contains("needs 2 identities"), "{}", outcome.out());
    let status = ctl(&["emergency", "status", "-n", &node]);
    assert!(status.out().contains("the release needs 2 identities; approved by olga"));
}
