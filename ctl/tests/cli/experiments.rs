//! `experiment`, on one node.

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Status;

use crate::fake::{Experiments, Fake, Script};
use crate::{Outcome, at, ctl, folder, squeezed};

pub(crate) fn definition() -> ExperimentDefinition {
    let trial = ParameterTrial {
        name: "threshold".into(),
        control: "0.002".into(),
        control_version: 4,
        variant: "0.003".into(),
    };
    ExperimentDefinition {
        strategy: "spread_capture".into(),
        parameters: vec![trial],
        variant_basis_points: 2_000,
        design: ExperimentDesign::Sequential.into(),
        seed: "TEST_3".into(),
        owner: "h1".into(),
        hash: "d3adbeef".into(),
        ..Default::default()
    }
}

fn condition(text: &str, holds: bool) -> RuleCondition {
    RuleCondition { text: text.into(), holds }
}

fn look() -> ExperimentLook {
    let decision = Decision {
        line: 6,
        name: "continue".into(),
        text: "nothing is decided yet".into(),
        conditions: vec![condition("lift +12.00 % (at least +10.00 %)", true)],
    };
    ExperimentLook {
        at: at(3_600),
        lift: Some(0.12),
        lift_low: Some(0.03),
        lift_high: Some(0.215),
        difference: Some(1.5),
        difference_low: Some(0.4),
        difference_high: Some(2.6),
        t: Some(2.345),
        nu: Some(211.25),
        p: Some(0.0199),
        d: Some(0.241),
        g: Some(0.2405),
        z_star: Some(2.3),
        p_sequential: 0.081,
        p_sequential_better: 0.0405,
        stage: "looking".into(),
        information: 0.42,
        mismatch: 1.25,
        power: 0.6,
        trades_needed: Some(96),
        decision: Some(decision),
        ..Default::default()
    }
}

pub(crate) fn running() -> Experiment {
    let arm = |n, mean| ArmTally {
        n,
        mean,
        deviation: Some(6.25),
        mean_low: Some(mean - 1.0),
        mean_high: Some(mean + 1.0),
        ..Default::default()
    };
    Experiment {
        id: "TEST_3".into(),
        definition: Some(definition()),
        state: ExperimentState::Running.into(),
        started_at: at(60),
        started_by: "ann".into(),
        reason: "wider \u{1b}[2J spreads".into(),
        control: Some(arm(1_210, 12.5)),
        variant: Some(arm(301, 14.0)),
        look: Some(look()),
        duplicate: 7,
        late: 1,
        rejected: 2,
        last_trade_at: at(3_599),
        ..Default::default()
    }
}

fn ended(id: &str, state: ExperimentState, forced: bool, seconds: i64) -> Experiment {
    let mut look = look();
    look.decision = Some(Decision {
        line: 1,
        name: "rollback".into(),
        text: "it loses too much".into(),
        conditions: vec![condition("lift -12.00 % (at most -10.00 %)", true)],
    });
    look.lift = Some(-0.12);
    look.false_rollback = Some(0.77);
    let conclusion = Conclusion {
        at: at(seconds),
        forced,
        by: if forced { "ann" } else { "system:experiments" }.into(),
        reason: if forced { "as agreed" } else { "" }.into(),
        control: running().control,
        variant: running().variant,
        look: Some(look),
        ..Conclusion::default()
    };
    Experiment { id: id.into(), state: state.into(), conclusion: Some(conclusion), ..running() }
}

fn known(experiment: Experiment) -> GetExperimentResponse {
    let point = |index: u64| LookPoint {
        at: at(60 * index as i64),
        trades: 100 + 20 * index,
        p_sequential: 0.9_f64.powi(4 * index as i32),
        lift: Some(0.1),
    };
    let line = |line, name: &str, ways: Vec<Vec<RuleCondition>>| RuleLine {
        line,
        name: name.into(),
        text: format!("what {name} says"),
        alternatives: ways.into_iter().map(|conditions| RuleAlternative { conditions }).collect(),
    };
    let table = vec![
        line(1, "rollback", vec![vec![condition("lift +12.00 % (at most -10.00 %)", false)]]),
        line(
            2,
            "promote",
            vec![
                vec![condition("one way", true), condition("more of it", false)],
                vec![condition("another", false)],
            ],
        ),
        line(6, "continue", vec![vec![]]),
    ];
    let curve = (0..11).map(point).collect();
    GetExperimentResponse { experiment: Some(experiment), curve, table, fleet: None }
}

fn agent(experiments: Vec<Experiment>) -> (tempfile::TempDir, Fake) {
    let known = experiments.into_iter().map(known).collect();
    served(Experiments { known, ..Default::default() })
}

pub(crate) fn served(experiments: Experiments) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { experiments, ..Default::default() });
    (folder, fake)
}

fn on(fake: &Fake, command: &[&str]) -> Outcome {
    ctl(&[&["experiment"], command, &["-n", &fake.node()]].concat())
}

#[test]
fn what_the_procedures_type_begins_an_experiment() {
    let (_folder, fake) = agent(vec![]);
    let create = ["create", "--strategy", "spread_capture", "--param", "threshold:0.003"];
    let outcome = on(&fake, &[&create[..], &["--split", "80/20"]].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        squeezed(outcome.out()),
        [
            "TEST_9 has begun: threshold 0.002 -> 0.003",
            "20 % of the units get the variant; design sequential",
            "definition hash: d1"
        ]
    );
    // All of it, in JSON.
    let all = [
        "--param",
        "venue:a:b",
        "--split",
        "99.5/0.5",
        "--design",
        "lan-demets",
        "--least",
        "50",
        "--planned",
        "200",
        "--most",
        "400",
        "--promote-lift",
        "5%",
        "--rollback-lift",
        "-5%",
        "--least-effect",
        "0.1",
        "--alpha",
        "0.01",
        "--guarded-rollback",
        "--seed",
        "s",
        "--owner",
        "h2",
        "--reason",
        "r",
        "-o",
        "json",
    ];
    let outcome = on(&fake, &[&create[..], &all].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let json = outcome.json();
    let definition = &json[0]["response"]["experiment"]["definition"];
    assert_eq!(definition["variantBasisPoints"], 50);
    assert_eq!(definition["design"], "EXPERIMENT_DESIGN_LAN_DEMETS");
    assert_eq!(definition["parameters"][1]["variant"], "a:b");
    assert_eq!((&definition["owner"], &definition["seed"]), (&"h2".into(), &"s".into()));
    let rules = &definition["rules"];
    assert_eq!((&rules["leastTrades"], &rules["mostTrades"]), (&"50".into(), &"400".into()));
    assert_eq!((&rules["promoteLift"], &rules["rollbackLift"]), (&0.05.into(), &(-0.05).into()));
    assert_eq!((&rules["alpha"], &rules["guardedRollback"]), (&0.01.into(), &true.into()));
    let standard = on(&fake, &create);
    assert_eq!(standard.exit, Exit::Ok, "{}", standard.stderr);
    assert_eq!(
        fake.calls(),
        [
            "CreateExperiment spread_capture threshold:0.003 2000",
            "CreateExperiment spread_capture threshold:0.003+venue:a:b 50 because r",
            "CreateExperiment spread_capture threshold:0.003 1000",
        ]
    );
}

#[test]
fn what_is_no_experiment_is_refused_before_anything_is_sent() {
    let (_folder, fake) = agent(vec![]);
    let good = ["create", "--strategy", "s", "--param", "a:1"];
    for (flags, told) in [
        (&["--split", "0/100"][..], "without units for the control"),
        (&["--split", "100/0"], "without units for the variant"),
        (&["--split", "120/-20"], "more than all units"),
        (&["--split", "120/20"], "more than all units"),
        (&["--split", "80/30"], "add up to 110 %"),
        (&["--split", "99.999/0.001"], "finer than a hundredth"),
        (&["--split", "80"], "control/variant"),
        (&["--param", "a:2"], "a twice"),
        (&["--param", "b=2"], "NAME:VALUE"),
        (&["--design", "bayes"], "invalid value 'bayes'"),
        (&["--alpha", "1"], "between 0 and 1"),
        (&["--rollback-lift", "5%"], "below 0"),
        (&["--promote-lift", "-5%"], "above 0"),
        (&["--least", "0"], "--least"),
    ] {
        let outcome = on(&fake, &[&good[..], flags].concat());
        assert_eq!(outcome.exit, Exit::Usage, "{flags:?}: {}", outcome.out());
        assert!(outcome.stderr.contains(told), "{flags:?} lacks {told}: {}", outcome.stderr);
    }
    let names: Vec<_> = (0..17).map(|number| format!("p{number}:1")).collect();
    let many: Vec<_> = names.iter().flat_map(|name| ["--param", name]).collect();
    let outcome = on(&fake, &[&["create", "--strategy", "s"], &many[..]].concat());
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("at most 16"), "{}", outcome.stderr);
    for bad in [
        &["create", "--strategy", "s"][..],
        &["create", "--param", "a:1"],
        &["create", "--strategy", "no name", "--param", "a:1"],
        &["conclude", "--test-id", "TEST_3", "--action", "extend"],
        &["conclude", "--action", "promote"],
        &["show", "TEST_3", "--test-id", "TEST_3"],
        &["assign", "--test-id", "TEST_3"],
        &["watch", "-o", "json"],
        &["list", "--limit", "1001"],
    ] {
        assert_eq!(on(&fake, bad).exit, Exit::Usage, "{bad:?}");
    }
    assert!(fake.calls().is_empty());
}

#[test]
fn experiments_are_listed_and_one_that_is_held_is_a_finding() {
    let new = Experiment { id: "TEST_4".into(), look: None, control: None, ..running() };
    let (_folder, fake) = agent(vec![running(), new]);
    let list = on(&fake, &["list"]);
    assert_eq!(list.exit, Exit::Ok, "no look yet is no finding: {}", list.stderr);
    let lines = squeezed(list.out());
    assert_eq!(lines[0], "EXPERIMENT STATE STRATEGY TRIES SPLIT N LIFT p p_seq LINE STARTED");
    assert_eq!(
        lines[1],
        "TEST_3 RUNNING spread_capture threshold 0.002 -> 0.003 80/20 1,210 / 301 +12.00 % 0.0199 0.0810 6 continue \
         1970-01-01T00:01:00Z"
    );
    assert!(lines[2].contains("0 / 301 - - - - 1970"), "{lines:?}");
    assert_eq!(on(&fake, &["list", "--running", "--strategy", "x", "--limit", "9"]).out(), "");
    assert_eq!(fake.calls(), ["ListExperiments false 50", "ListExperiments x true 9"]);

    let held = Experiment { state: ExperimentState::Held.into(), ..running() };
    let (_folder, fake) = agent(vec![held]);
    assert_eq!(on(&fake, &["list"]).exit, Exit::Findings);
    assert_eq!(on(&fake, &["show", "TEST_3"]).exit, Exit::Findings);
    let odd = Experiment { state: 99, ..running() };
    let (_folder, fake) = agent(vec![odd]);
    assert_eq!(on(&fake, &["list"]).exit, Exit::Unknown, "of another version");
}

#[test]
fn an_experiment_is_shown_with_all_that_a_look_found() {
    let (_folder, fake) = agent(vec![running()]);
    let shown = on(&fake, &["show", "TEST_3"]);
    assert_eq!(shown.exit, Exit::Ok, "{}", shown.stderr);
    let lines = squeezed(shown.out());
    for wanted in [
        "state: RUNNING",
        "strategy: spread_capture; 20 % of the units get the variant; design sequential",
        "threshold 0.002 -> 0.003 (in force: version 4)",
        "started at 1970-01-01T00:01:00Z by ann: wider \\x1b[2J spreads",
        "ARM N MEAN SD LOW HIGH",
        "control 1,210 12.500 6.2500 11.500 13.500",
        "variant 301 14.000 6.2500 13.000 15.000",
        "low and high: where the mean lies, 95 % confidence",
        "lift +12.00 %, from +3.00 % to +21.50 % (95 % confidence)",
        "difference 1.5000, from 0.40000 to 2.6000 (95 % confidence)",
        "Welch: t = 2.345, nu = 211.2, p = 0.0199",
        "effect: Cohen's d = 0.241, Hedges' g = 0.240 (more than 0.2 is wanted)",
        "z* = 2.300, safe for skew",
        "power 60 % for the least effect; 80 % takes 96 more in the smaller arm",
        "p_seq = 0.0810 (for the variant alone: 0.0405), valid however often it is looked at; looking, information \
         42 %",
        "evidence of a wrong split: 1.2500 (above 1,000 nothing is decided)",
        "TEST_3: decision: line 6, continue",
        "lift +12.00 % (at least +10.00 %) yes",
        "nothing is decided yet",
        "7 there before, 1 too late, 2 rejected, 0 after its end; the last trade came at 1970-01-01T00:59:59Z",
        "TEST_3: p_seq over the trades",
        "11 points, looks from 1970-01-01T00:00:00Z to 1970-01-01T00:10:00Z",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "lacks {wanted:?}: {lines:#?}");
    }
    assert!(shown.out().contains("alpha 0.0500 │") && shown.out().contains('╌'));
    assert!(!shown.out().contains("decision table") && !shown.out().contains('\u{1b}'));
    let more = on(&fake, &["show", "--test-id", "TEST_3", "-v"]);
    let lines = squeezed(more.out());
    for wanted in [
        "trades: at least 100, planned 500, at most 1,000; alpha 0.05",
        "promoted from +10.00 % and an effect above 0.2 on; rolled back at -10.00 %",
        "looks are taken by: h1; units are assigned by: TEST_3",
        "definition hash: d3adbeef",
        "LINE NAME CONDITION HOLDS",
        "1 rollback lift +12.00 % (at most -10.00 %) no",
        "2 promote one way yes",
        "more of it no",
        "or another no",
        "6 continue otherwise",
        "6 continue: what continue says",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "lacks {wanted:?}: {lines:#?}");
    }
    let json = on(&fake, &["show", "TEST_3", "-o", "json"]).json();
    let response = &json[0]["response"];
    assert_eq!(response["experiment"]["look"]["decision"]["line"], 6);
    assert_eq!(response["curve"].as_array().unwrap().len(), 11);
    let absent = on(&fake, &["show", "TEST_8"]);
    assert_eq!(absent.exit, Exit::Failed);
    assert!(absent.stderr.contains("error[EXPERIMENT_NOT_FOUND]"), "{}", absent.stderr);
}

#[test]
fn what_is_undefined_says_why_and_all_that_go_on_are_shown() {
    let mut undefined = running();
    undefined.look = Some(ExperimentLook {
        lift_undefined: "the control's mean may be 0".into(),
        p_sequential: 1.0,
        p_sequential_better: 1.0,
        mismatch: 2_000.0,
        ..Default::default()
    });
    let new = Experiment { id: "TEST_4".into(), look: None, ..running() };
    let over = ended("TEST_1", ExperimentState::Promoted, true, 90);
    let (_folder, fake) = agent(vec![undefined, new, over]);
    let shown = on(&fake, &["show"]);
    assert_eq!(shown.exit, Exit::Ok, "{}", shown.stderr);
    for wanted in [
        "lift undefined: the control's mean may be 0",
        "no number of trades is enough for 80 %",
        "evidence of a wrong split: 2000.0 (they are not split as they should be",
        "no look was taken yet",
    ] {
        assert!(shown.out().contains(wanted), "lacks {wanted:?}: {}", shown.out());
    }
    assert_eq!(
        fake.calls(),
        ["ListExperiments true 1000", "GetExperiment TEST_3", "GetExperiment TEST_4"]
    );
    let json = on(&fake, &["show", "-o", "json"]).json();
    assert_eq!(json[0]["response"]["experiments"].as_array().unwrap().len(), 2);
    let (_folder, fake) = agent(vec![]);
    let none = on(&fake, &["show"]);
    assert_eq!((none.exit, none.out()), (Exit::Ok, ""));
    assert!(none.stderr.contains("no experiment goes on"), "{}", none.stderr);
}

#[test]
fn how_each_ended_is_listed_newest_first() {
    let all = vec![
        running(),
        ended("TEST_1", ExperimentState::RolledBack, false, 90),
        ended("TEST_2", ExperimentState::Promoted, true, 120),
    ];
    let (_folder, fake) = agent(all);
    let history = on(&fake, &["history", "--strategy", "spread_capture"]);
    assert_eq!(history.exit, Exit::Ok, "{}", history.stderr);
    let lines = squeezed(history.out());
    assert_eq!(lines[0], "EXPERIMENT ENDED STATE HOW STRATEGY TRIES N LIFT p_seq BY REASON");
    assert_eq!(
        lines[1],
        "TEST_2 1970-01-01T00:02:00Z PROMOTED forced spread_capture threshold 0.002 -> 0.003 1,210 / 301 -12.00 % \
         0.0810 ann as agreed"
    );
    assert!(lines[2].starts_with("TEST_1 1970-01-01T00:01:30Z ROLLED_BACK line 1, rollback"));
    assert_eq!(lines.len(), 3);
    let one = on(&fake, &["history", "--limit", "1", "-o", "json"]).json();
    assert_eq!(one[0]["response"]["experiments"].as_array().unwrap().len(), 1);
    assert_eq!(fake.calls()[0], "ListExperiments spread_capture false 50 ended");
    let shown = on(&fake, &["show", "TEST_1"]);
    assert_eq!(shown.exit, Exit::Ok);
    for wanted in [
        "ROLLED_BACK at 1970-01-01T00:01:30Z by system:experiments: line 1, rollback",
        "a variant that is no different would be rolled back with a chance of 77 %",
        "lift -12.00 % (at most -10.00 %)",
    ] {
        assert!(shown.out().contains(wanted), "lacks {wanted:?}: {}", shown.out());
    }
}

#[test]
fn concluding_needs_a_reason_and_says_how_it_ended() {
    let (_folder, fake) = agent(vec![running()]);
    let conclude = ["conclude", "--test-id", "TEST_3", "--action"];
    let outcome = on(&fake, &[&conclude[..], &["promote"]].concat());
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("--reason"), "{}", outcome.stderr);
    let outcome = on(&fake, &[&conclude[..], &["promote", "--reason", "r"]].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(outcome.out(), "TEST_3 PROMOTED at 1970-01-01T00:01:30Z, forced: as agreed\n");
    let outcome =
        on(&fake, &[&conclude[..], &["rollback", "--reason", "r", "-o", "json"]].concat());
    let experiment = &outcome.json()[0]["response"]["experiment"];
    assert_eq!(experiment["state"], "EXPERIMENT_STATE_ROLLED_BACK");
    assert_eq!(
        fake.calls(),
        [
            "ConcludeExperiment TEST_3 PROMOTE because r",
            "ConcludeExperiment TEST_3 ROLLBACK because r"
        ]
    );
}

#[test]
fn the_arm_of_a_unit_is_shown() {
    let (_folder, fake) = agent(vec![running()]);
    let assign = ["assign", "--test-id", "TEST_3", "--unit"];
    let outcome = on(&fake, &[&assign[..], &["account-7"]].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(outcome.out(), "account-7 is in the variant of TEST_3 (bucket 0.1235)\n");
    let json = on(&fake, &[&assign[..], &["b", "-o", "json"]].concat()).json();
    assert_eq!(json[0]["response"]["arm"], "ARM_CONTROL");
    let absent = on(&fake, &["assign", "--test-id", "X", "--unit", "u"]);
    assert_eq!(absent.exit, Exit::Failed);
}

#[test]
fn a_watch_tells_each_change_once_over_a_break_and_ends_with_its_experiment() {
    let mut on_it = running();
    on_it.look.as_mut().unwrap().p_sequential = 0.01;
    let over = ended("TEST_3", ExperimentState::Promoted, true, 90);
    let gone = || Err(Status::unavailable("draining"));
    let watches = vec![
        vec![Ok(running()), gone()],
        // As it was, then what is new.
        vec![Ok(running()), Ok(on_it.clone()), gone()],
        vec![Ok(on_it), Ok(over), Ok(running())],
    ];
    let agent = || served(Experiments { watches: watches.clone(), ..Default::default() });
    let (_folder, fake) = agent();
    let watch = on(&fake, &["watch", "TEST_3"]);
    assert_eq!(watch.exit, Exit::Ok, "{}", watch.stderr);
    assert_eq!(
        squeezed(watch.out()),
        [
            "TEST_3 RUNNING, 1,210 / 301 trades, lift +12.00 %, p_seq 0.0810, line 6, continue",
            "TEST_3 RUNNING, 1,210 / 301 trades, lift +12.00 %, p_seq 0.0100, line 6, continue",
            "TEST_3 PROMOTED at 1970-01-01T00:01:30Z, forced: as agreed",
        ]
    );
    assert_eq!(fake.calls(), ["WatchExperiments TEST_3"; 3]);
    let (_folder, fake) = agent();
    let watch = on(&fake, &["watch", "TEST_3", "-o", "jsonl"]);
    let states: Vec<serde_json::Value> =
        watch.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(states.len(), 3, "{}", watch.out());
    assert_eq!(states[2]["response"]["experiment"]["state"], "EXPERIMENT_STATE_PROMOTED");
    // Of all, it ends when the agent says so. What never began did not break.
    let watches = vec![vec![Ok(running())]];
    let (_folder, fake) = served(Experiments { watches, ..Default::default() });
    assert_eq!(squeezed(on(&fake, &["watch"]).out()).len(), 1);
    let failing = [("WatchExperiments", Status::unavailable("starting"))];
    let folder = folder();
    let script = Script { failing: failing.into(), ..Default::default() };
    let fake = Fake::start(folder.path(), script);
    let outcome = on(&fake, &["watch"]);
    assert_eq!(outcome.exit, Exit::Unreachable, "{}", outcome.stderr);
}
