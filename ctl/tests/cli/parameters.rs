//! `param`.

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Status;

use crate::fake::{Fake, Parameters, Script};
use crate::{Outcome, at, ctl, folder, squeezed};

fn value(name: &str, value: &str, experiment: &str) -> ParameterValue {
    let arm = if experiment.is_empty() { "" } else { "variant" };
    ParameterValue {
        name: name.into(),
        value: value.into(),
        version: 4,
        experiment: experiment.into(),
        arm: arm.into(),
    }
}

fn values(revision: u64, values: Vec<ParameterValue>) -> GetParametersResponse {
    GetParametersResponse { values, revision }
}

fn agent() -> (tempfile::TempDir, Fake) {
    let set = Parameter {
        strategy: "spread_capture".into(),
        name: "threshold".into(),
        value: "0.003\u{1b}[2J".into(),
        version: 4,
        set_at: at(60),
        set_by: "ann".into(),
        reason: "calmer".into(),
        cause: "promoted".into(),
        experiment: "TEST_3".into(),
        in_test: "TEST_4".into(),
        ..Parameter::default()
    };
    let other = Parameter {
        value: "30s".into(),
        cause: "set".into(),
        experiment: String::new(),
        in_test: String::new(),
        ..set.clone()
    };
    let first = values(7, vec![value("threshold", "0.003", "TEST_4"), value("window", "30s", "")]);
    let second = values(8, vec![value("threshold", "0.002", "")]);
    let gone = || Err(Status::unavailable("draining"));
    let watches = vec![vec![Ok(first.clone()), gone()], vec![Ok(first.clone()), Ok(second)]];
    let parameters =
        Parameters { listed: vec![set, other], values: first, watches, ..Default::default() };
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { parameters, ..Default::default() });
    (folder, fake)
}

fn on(fake: &Fake, command: &[&str]) -> Outcome {
    ctl(&[&["param"], command, &["-n", &fake.node()]].concat())
}

#[test]
fn parameters_and_their_past_are_listed() {
    let (_folder, fake) = agent();
    let list = on(&fake, &["list", "--strategy", "spread_capture"]);
    assert_eq!(list.exit, Exit::Ok, "{}", list.stderr);
    let lines = squeezed(list.out());
    assert_eq!(lines[0], "STRATEGY PARAMETER VALUE VERSION SET BY CAUSE IN TEST FLEET");
    assert_eq!(
        lines[1],
        "spread_capture threshold 0.003\\x1b[2J 4 1970-01-01T00:01:00Z ann promoted by TEST_3 TEST_4 -"
    );
    assert!(lines[2].ends_with("ann set - -"), "{lines:?}");
    let history = on(&fake, &["history", "--strategy", "s", "threshold", "--limit", "5"]);
    assert_eq!(squeezed(history.out())[1].split(' ').next_back(), Some("calmer"));
    let json = on(&fake, &["history", "-o", "json"]).json();
    assert_eq!(json[0]["response"]["versions"][0]["version"], "4");
    assert_eq!(
        fake.calls(),
        [
            "ListParameters spread_capture",
            "ListParameterHistory s threshold 5",
            "ListParameterHistory 50"
        ]
    );
    let outcome = on(&fake, &["history", "threshold"]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("--strategy"), "{}", outcome.stderr);
}

#[test]
fn one_value_is_printed_alone_for_scripts() {
    let (_folder, fake) = agent();
    let of = ["get", "--strategy", "spread_capture"];
    let all = on(&fake, &of);
    let lines = squeezed(all.out());
    assert_eq!(lines[0], "PARAMETER VALUE VERSION EXPERIMENT ARM");
    assert_eq!(lines[1..], ["threshold 0.003 4 TEST_4 variant", "window 30s 4 - -"]);
    let one = on(&fake, &[&of[..], &["--unit", "account-7", "threshold"]].concat());
    assert_eq!((one.exit, one.out()), (Exit::Ok, "0.003\n"), "{}", one.stderr);
    let json = on(&fake, &[&of[..], &["window", "-o", "json"]].concat()).json();
    assert_eq!(json[0]["response"]["values"].as_array().unwrap().len(), 1);
    let absent = on(&fake, &[&of[..], &["other"]].concat());
    assert_eq!((absent.exit, absent.out()), (Exit::Failed, ""));
    assert!(absent.stderr.contains("error[PARAMETER_NOT_FOUND]"), "{}", absent.stderr);
    assert_eq!(
        fake.calls()[..2],
        ["GetParameters spread_capture", "GetParameters spread_capture account-7"]
    );
}

#[test]
fn setting_and_taking_back_need_a_reason() {
    let (_folder, fake) = agent();
    for command in [&["set", "--strategy", "s", "a=1"][..], &["rollback", "--strategy", "s", "a"]] {
        let outcome = on(&fake, command);
        assert_eq!(outcome.exit, Exit::Usage, "{command:?}");
        assert!(outcome.stderr.contains("--reason"), "{}", outcome.stderr);
    }
    for bad in [
        &["set", "--strategy", "s", "a", "--reason", "r"][..],
        &["set", "--strategy", "s", "a b=1", "--reason", "r"],
        &["set", "--strategy", "no name", "a=1", "--reason", "r"],
        &["set", "a=1", "--reason", "r"],
        &["set", "--strategy", "s", "a=1", "--expected-version", "0", "--reason", "r"],
        &["set", "--strategy", "s", &format!("a={}", "x".repeat(1_025)), "--reason", "r"],
        &["rollback", "--strategy", "s", "--reason", "r"],
        &["get", "threshold"],
        &["watch"],
    ] {
        assert_eq!(on(&fake, bad).exit, Exit::Usage, "{bad:?}");
    }
    assert!(fake.calls().is_empty());
    let set = ["set", "--strategy", "s", "a=b=c", "--expected-version", "4", "--reason", "r"];
    let outcome = on(&fake, &set);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(outcome.out(), "a of s is b=c (version 5)\n");
    let outcome = on(&fake, &["rollback", "--strategy", "s", "a", "--reason", "r", "-o", "json"]);
    assert_eq!(outcome.json()[0]["response"]["parameter"]["version"], "6");
    assert_eq!(
        fake.calls(),
        ["SetParameter s a b=c v4 because r", "RollbackParameter s a because r"]
    );
}

#[test]
fn a_watch_tells_each_value_that_changes_over_a_break() {
    let (_folder, fake) = agent();
    let watch = on(&fake, &["watch", "--strategy", "spread_capture", "--unit", "account-7"]);
    assert_eq!(watch.exit, Exit::Ok, "{}", watch.stderr);
    assert_eq!(
        squeezed(watch.out()),
        [
            "threshold = 0.003 (version 4, the variant of TEST_4)",
            "window = 30s (version 4)",
            "window is gone",
            "threshold = 0.002 (version 4)",
        ]
    );
    assert_eq!(fake.calls(), ["WatchParameters spread_capture account-7"; 2]);
    let (_folder, fake) = agent();
    let watch = on(&fake, &["watch", "--strategy", "spread_capture", "-o", "jsonl"]);
    let revisions: Vec<_> = watch.out().matches("\"revision\":\"").collect();
    assert_eq!(revisions.len(), 2, "{}", watch.out());
    assert_eq!(on(&fake, &["watch", "--strategy", "s", "-o", "yaml"]).exit, Exit::Usage);
}
