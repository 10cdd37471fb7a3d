//! `matrix`: what changes it, what came of that, and hearing of it.

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Status;

use crate::fake::{Fake, Matrices, Script};
use crate::matrix::{DAY, about, four, known, matrix, on, rejected, scripted, served};
use crate::{at, squeezed};

const RUN: &str = "01J0000000000000000000000A";

fn ended(state: RunState, code: &str) -> Vec<Vec<Result<Run, Status>>> {
    let run = Run {
        id: RUN.into(),
        kind: "matrices.update".into(),
        state: state.into(),
        error_code: code.into(),
        summary: "version 8".into(),
        ..Default::default()
    };
    vec![vec![Ok(run)]]
}

#[test]
fn an_update_is_followed_to_its_end() {
    let (_folder, fake) =
        scripted(Script { watches: ended(RunState::Succeeded, ""), ..Default::default() });
    let outcome = on(&fake, &["update", "--carry", "--reason", "r"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.out().contains("SUCCEEDED") && outcome.out().contains("version 8"));
    assert!(outcome.out().contains("`genesisctl matrix rollout status`"), "{}", outcome.out());
    let detached = on(&fake, &["update", "--no-wait"]);
    assert!(detached.out().contains("has started"), "{}", detached.out());
    assert_eq!(
        fake.calls(),
        ["UpdateMatrix carry because r", &format!("WatchRun {RUN} because r"), "UpdateMatrix"]
    );
}

#[test]
fn an_update_that_is_rejected_shows_its_criteria_and_is_a_refusal() {
    for state in [RunState::Failed, RunState::Refused] {
        let known = vec![
            GetMatrixResponse { matrix: None, about: Some(rejected(8)) },
            known(about(7, MatrixState::Active), four()),
            GetMatrixResponse { matrix: None, about: Some(rejected(5)) },
        ];
        let agent = || {
            scripted(Script {
                watches: ended(state, "MATRIX_REJECTED"),
                matrices: Matrices { known: known.clone(), active: 7, ..Default::default() },
                ..Default::default()
            })
        };
        let (_folder, fake) = agent();
        let outcome = on(&fake, &["update"]);
        assert_eq!(outcome.exit, Exit::Refused, "{state:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("error[MATRIX_REJECTED]"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("`genesisctl matrix show --version 8`"));
        let lines = squeezed(outcome.out());
        for wanted in
            ["matrix 8: REJECTED by points, drift", "points FAIL 43 >= 100 what points says"]
        {
            assert!(lines.iter().any(|line| line == wanted), "lacks {wanted:?}: {lines:#?}");
        }
        let (_folder, fake) = agent();
        let json = on(&fake, &["update", "-o", "json"]);
        assert_eq!(json.exit, Exit::Refused);
        assert_eq!(json.json()[0]["error"]["reason"], "MATRIX_REJECTED");
        assert_eq!(json.json()[0]["response"]["run"]["errorCode"], "MATRIX_REJECTED");
    }
    // What fails for another reason has its own code, and no criteria.
    let (_folder, fake) = scripted(Script {
        watches: ended(RunState::Failed, "STORAGE_FAILED"),
        ..Default::default()
    });
    assert_eq!(on(&fake, &["update"]).exit, Exit::Failed);
    assert!(!fake.calls().iter().any(|call| call.starts_with("ListMatrices")));
}

#[test]
fn versions_are_listed_newest_first_with_the_active_and_the_new_one_marked() {
    let mut back = about(5, MatrixState::RolledBack);
    back.ended_at = at(41 * DAY);
    back.ended_reason = "hedges \u{1b}[2J were off".into();
    let all = [
        about(9, MatrixState::Canary),
        rejected(8),
        about(7, MatrixState::Active),
        MatrixVersion { kept: false, ..back },
    ];
    let known = all.map(|about| GetMatrixResponse { matrix: None, about: Some(about) }).into();
    let (_folder, fake) = served(Matrices { known, active: 7, canary: 9, ..Default::default() });
    let history = on(&fake, &["history"]);
    assert_eq!(history.exit, Exit::Ok, "{}", history.stderr);
    let lines = squeezed(history.out());
    assert_eq!(
        lines,
        [
            "VERSION STATE CALCULATED BY SERIES POINTS DRIFT ACTIVE FROM ENDED KEPT WHY",
            "~ 9 CANARY 1970-02-10T00:00:00Z system:matrices 4 8,211 0.0321 1970-02-10T00:01:00Z - yes -",
            "8 REJECTED 1970-02-10T00:00:00Z system:matrices 4 43 0.4321 - - yes failed: points, drift",
            "* 7 ACTIVE 1970-02-10T00:00:00Z system:matrices 4 8,211 0.0321 1970-02-10T00:01:00Z - yes -",
            "5 ROLLED_BACK 1970-02-10T00:00:00Z system:matrices 4 8,211 0.0321 1970-02-10T00:01:00Z \
             1970-02-11T00:00:00Z no hedges \\x1b[2J were off",
            "* version 7 is active",
            "~ version 9 is being rolled out: `genesisctl matrix rollout status`",
            "next calculated at 1970-01-02T00:00:00Z",
        ]
    );
    let one = on(&fake, &["history", "--limit", "1", "-o", "json"]).json();
    assert_eq!(one[0]["response"]["versions"].as_array().unwrap().len(), 1);
    assert_eq!(fake.calls(), ["ListMatrices 50", "ListMatrices 1"]);
    let (_folder, fake) = served(Matrices::default());
    let none = on(&fake, &["history"]);
    assert!(none.stderr.contains("no matrix was calculated yet"), "{}", none.stderr);
}

fn arm(version: u64, outcomes: u64, mean: f64) -> Option<OutcomeArm> {
    Some(OutcomeArm {
        version,
        outcomes,
        consumers: outcomes / 100,
        mean: Some(mean),
        deviation: Some(2.5),
    })
}

fn rollout() -> Rollout {
    let first = RolloutStage {
        percent: 10,
        state: StageState::Passed.into(),
        began_at: at(60),
        ended_at: at(3_600),
        control: arm(7, 9_000, 12.5),
        canary: arm(8, 1_000, 12.25),
        lift: Some(-0.02),
        p_harm: Some(0.4),
        alpha: 0.0125,
        needed: 1_000,
        verdict: "no harm shown".into(),
        ..Default::default()
    };
    let second = RolloutStage {
        percent: 25,
        state: StageState::Waiting.into(),
        began_at: at(3_600),
        control: arm(7, 1_800, 12.5),
        canary: arm(8, 620, 12.0),
        lift: Some(-0.04),
        p_harm: Some(0.081),
        alpha: 0.0125,
        needed: 1_000,
        verdict: "waits for 380 outcomes more".into(),
        late: 3,
        other_version: 12,
        ..Default::default()
    };
    Rollout {
        version: 8,
        control: 7,
        stages: vec![first, second],
        began_at: at(60),
        ..Default::default()
    }
}

fn of_rollout(rollout: Rollout) -> (tempfile::TempDir, Fake) {
    served(Matrices { rollout: Some(rollout), ..Default::default() })
}

#[test]
fn a_rollout_is_shown_stage_by_stage_with_what_consumers_reported() {
    let (_folder, fake) = of_rollout(rollout());
    let shown = on(&fake, &["rollout", "status"]);
    assert_eq!(shown.exit, Exit::Ok, "{}", shown.stderr);
    let lines = squeezed(shown.out());
    assert_eq!(lines[0], "matrix 8 is used by 25 % of the consumers, version 7 by the others");
    for wanted in [
        "STAGE STATE OUTCOMES NEEDED LIFT p_harm ALPHA BEGAN ENDED",
        "10 % PASSED 1,000 1,000 ████████████████████ -2.00 % 0.4000 0.0125 1970-01-01T00:01:00Z 1970-01-01T01:00:00Z",
        "25 % WAITING 620 1,000 ████████████░░░░░░░░ -4.00 % 0.0810 0.0125 1970-01-01T01:00:00Z -",
        "matrix 8: stage that goes on, 25 %",
        "ARM VERSION OUTCOMES CONSUMERS MEAN SD",
        "control 7 1,800 18 12.500 2.5000",
        "canary 8 620 6 12.000 2.5000",
        "lift -4.00 %",
        "p_harm = 0.0810, valid however often it is looked at; harm below 0.0125",
        "outcomes that don't count: 3 from before the stage, 12 of other versions",
        "10 %: no harm shown",
        "25 %: waits for 380 outcomes more",
        "`genesisctl matrix rollout abort --reason ...` ends it, and all consumers use the control",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "lacks {wanted:?}: {}", shown.out());
    }
    let json = on(&fake, &["rollout", "status", "--version", "8", "-o", "json"]).json();
    assert_eq!(json[0]["response"]["rollout"]["stages"][1]["needed"], "1000");
    assert_eq!(fake.calls(), ["GetRollout 0", "GetRollout 8"]);
    let (_folder, fake) = served(Matrices::default());
    let none = on(&fake, &["rollout", "status"]);
    assert_eq!((none.exit, none.out()), (Exit::Ok, ""));
    assert!(none.stderr.contains("there was no rollout yet"), "{}", none.stderr);
}

#[test]
fn a_rollout_that_is_held_is_a_finding_and_how_one_ended_is_told() {
    let with = |state: StageState| {
        let mut rollout = rollout();
        rollout.stages[1].state = state.into();
        rollout
    };
    let (_folder, fake) = of_rollout(with(StageState::Held));
    assert_eq!(on(&fake, &["rollout", "status"]).exit, Exit::Findings);
    let (_folder, fake) = of_rollout(with(StageState::Unspecified));
    assert_eq!(on(&fake, &["rollout", "status"]).exit, Exit::Unknown, "of another version");
    let mut harmful = with(StageState::Harmful);
    harmful.stages[1].p_harm = Some(0.0001);
    harmful.ended_at = at(7_200);
    harmful.outcome = "rolled back".into();
    harmful.reason = "harm".into();
    let (_folder, fake) = of_rollout(harmful.clone());
    let shown = on(&fake, &["rollout", "status"]);
    assert_eq!(shown.exit, Exit::Ok, "it has ended");
    for wanted in [
        "matrix 8 was rolled back at 1970-01-01T02:00:00Z, all consumers use version 7: harm\n",
        "matrix 8: last stage, 25 %\n",
        "1.0e-4",
        "`genesisctl matrix show --version 8`",
    ] {
        assert!(shown.out().contains(wanted), "lacks {wanted:?}: {}", shown.out());
    }
    let mut over = with(StageState::Passed);
    over.stages[1].control_frozen = true;
    over.stages[1].lift = None;
    over.stages[1].p_harm = None;
    over.ended_at = at(7_200);
    over.outcome = "active".into();
    let with_active =
        |active| Matrices { rollout: Some(over.clone()), active, ..Default::default() };
    // Somebody went back since, or to none.
    for (active, now) in [(7, "version 7 is now"), (0, "none is now")] {
        let (_folder, fake) = served(with_active(active));
        let shown = on(&fake, &["rollout", "status"]);
        let wanted = format!("matrix 8 became active at 1970-01-01T02:00:00Z; {now}\n");
        assert!(shown.out().contains(&wanted), "{}", shown.out());
        assert!(!shown.out().contains("goes back to version"), "{}", shown.out());
    }
    let (_folder, fake) = served(with_active(8));
    let shown = on(&fake, &["rollout", "status"]);
    for wanted in [
        "matrix 8 is active since 1970-01-01T02:00:00Z\n",
        "control (as it was)",
        "nobody uses the control any more",
        "lift undefined",
        "nothing to judge by yet",
        "goes back to version 7",
    ] {
        assert!(shown.out().contains(wanted), "lacks {wanted:?}: {}", shown.out());
    }
}

#[test]
fn going_back_and_deciding_by_hand_need_a_reason() {
    let (_folder, fake) = of_rollout(rollout());
    for (command, question) in [
        (&["rollback"][..], "what is wrong with the one that is in use?"),
        (&["rollout", "advance"], "why not wait for more outcomes?"),
        (&["rollout", "abort"], "what is wrong with the new matrix?"),
    ] {
        let outcome = on(&fake, command);
        assert_eq!(outcome.exit, Exit::Usage, "{command:?}");
        assert!(outcome.stderr.contains("needs --reason"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(question), "{}", outcome.stderr);
    }
    assert!(fake.calls().is_empty());
    for (command, told) in [
        (
            &["rollback"][..],
            "all consumers use version 6 of the matrix (ACTIVE), of 24 series and at least 8,211 points a pair\n",
        ),
        (
            &["rollback", "--to", "5"],
            "all consumers use version 5 of the matrix (ACTIVE), of 24 series and at least 8,211 points a pair\n",
        ),
        (
            &["rollout", "advance"],
            "matrix 8 is used by 50 % of the consumers, version 7 by the others\n",
        ),
        (
            &["rollout", "abort"],
            "matrix 8 was rolled back at 1970-01-01T00:01:30Z, all consumers use version 7: as told\n",
        ),
    ] {
        let outcome = on(&fake, &[command, &["--reason", "r", "--plan-hash", "c0ffee"]].concat());
        assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
        assert_eq!(outcome.out(), told);
    }
    assert_eq!(
        fake.calls(),
        [
            "RollbackMatrix c0ffee because r",
            "RollbackMatrix 5 c0ffee because r",
            "AdvanceRollout c0ffee because r",
            "AbortRollout c0ffee because r",
        ]
    );
    // Another plan than the one that was looked at.
    let outcome = on(&fake, &["rollback", "--reason", "r", "--plan-hash", "old"]);
    assert_eq!(outcome.exit, Exit::Conflict, "{}", outcome.stderr);
}

#[test]
fn a_watch_tells_each_change_once_over_a_break() {
    let of = |version, series: Vec<String>, canary| {
        Ok(WatchMatrixResponse { matrix: Some(matrix(version, series)), canary })
    };
    let mut other = four();
    other[0] = "DOT".into();
    let gone = || Err(Status::unavailable("draining"));
    let watches = vec![
        vec![Ok(WatchMatrixResponse::default()), of(7, four(), false), gone()],
        // As it was, then what is new.
        vec![of(7, four(), false), of(8, other.clone(), true), of(8, other, false)],
    ];
    let agent = || served(Matrices { watches: watches.clone(), ..Default::default() });
    let (_folder, fake) = agent();
    let watch = on(&fake, &["watch", "--consumer", "pricing-3"]);
    assert_eq!(watch.exit, Exit::Ok, "{}", watch.stderr);
    assert_eq!(
        squeezed(watch.out()),
        [
            "there is no matrix yet",
            "matrix 7 ACTIVE, 4 series; digest d7",
            "matrix 8 CANARY, 4 series; new: DOT; gone: ADA; digest d8",
            "matrix 8 ACTIVE, 4 series; digest d8",
        ]
    );
    assert_eq!(fake.calls(), ["WatchMatrix pricing-3"; 2]);
    let (_folder, fake) = agent();
    let watch = on(&fake, &["watch", "-o", "jsonl"]);
    let told: Vec<serde_json::Value> =
        watch.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 4, "{}", watch.out());
    assert_eq!(told[2]["response"]["matrix"]["upper"].as_array().unwrap().len(), 6);
    assert_eq!(told[2]["response"]["canary"], true);
}
