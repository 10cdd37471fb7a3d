//! What a host has to do so that it has what its fleet has: tables.

use std::collections::BTreeMap;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use genesis_stats::experiment::Moments;
use genesis_storage::{
    ConclusionRecord, ExperimentRecord, FleetVersion, ParameterRecord, TrialRecord,
};
use jiff::Timestamp;

use crate::bits::bits_of;
use crate::operations::experiments::fleet::plan::{self, Due};
use crate::operations::experiments::fleet::record::{Concluded, Defined, FleetParameter, Share};
use crate::operations::experiments::plan as local;
use crate::operations::experiments::tally::{Arm, Tally};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// An experiment of the fleet that tries a threshold.
fn defined(number: u64) -> Defined {
    let trial = TrialRecord {
        name: "threshold".into(),
        control: "1".into(),
        control_version: 7,
        variant: "2".into(),
    };
    let mut defined = Defined {
        number,
        strategy: "mm".into(),
        trials: vec![trial],
        variant_basis_points: 5_000,
        design: "sequential".into(),
        seed: "s".into(),
        started_at: at(number as i64),
        ..Defined::default()
    };
    defined.rules.least = 500;
    defined.rules.planned = 1_000;
    defined.rules.most = 2_000;
    defined.rules.alpha = 0.05;
    defined.rules.promote_lift = 0.01;
    defined.rules.rollback_lift = -0.01;
    defined.rules.least_effect = 0.2;
    defined.hash = local::hash(&defined.record());
    defined
}

fn concluded(seconds: i64) -> Concluded {
    Concluded {
        at: at(seconds),
        how: local::PROMOTED.into(),
        forced: false,
        by: "x".into(),
        reason: "y".into(),
        line: 1,
        host: "a".into(),
        tally: String::new(),
        set: Vec::new(),
    }
}

fn ended(record: &ExperimentRecord, by_fleet: bool) -> ExperimentRecord {
    let conclusion = ConclusionRecord {
        at: at(99),
        how: local::ROLLED_BACK.into(),
        forced: true,
        by: "x".into(),
        reason: "y".into(),
        line: 0,
        tally: String::new(),
        fleet: by_fleet.then(String::new),
    };
    ExperimentRecord { conclusion: Some(conclusion), ..record.clone() }
}

#[test]
fn what_is_due_about_an_experiment_of_the_fleet() {
    let going = defined(1);
    let over = Defined { conclusion: Some(concluded(50)), ..going.clone() };
    let here = going.record();
    for (defined, record, due) in [
        (&going, None, Due::Begin),
        (&over, None, Due::Nothing),
        (&going, Some(here.clone()), Due::Nothing),
        (&over, Some(here.clone()), Due::End),
        (&going, Some(ended(&here, true)), Due::Tell),
        (&going, Some(ended(&here, false)), Due::Nothing),
        (&over, Some(ended(&here, true)), Due::Nothing),
    ] {
        assert_eq!(plan::due(defined, record.as_ref()), due, "{record:?}");
    }
    let known = [Arc::new(going.clone())];
    assert!(!plan::forsaken(&here, &known));
    assert!(plan::forsaken(&here, &[]), "the fleet does not know it");
    assert!(!plan::forsaken(&ended(&here, true), &[]), "it has ended");
    // The number came again, for another one.
    let mut other = Defined { seed: "t".into(), ..going };
    other.hash = local::hash(&other.record());
    assert!(plan::forsaken(&here, &[Arc::new(other)]));
    let own = ExperimentRecord { fleet: String::new(), ..here };
    assert!(!plan::forsaken(&own, &[]), "a host's own is none of the fleet's");
}

#[test]
fn a_value_of_the_fleet_is_taken_over_once() {
    let of_fleet = |version, seconds| FleetParameter {
        strategy: "mm".into(),
        name: "threshold".into(),
        value: "1".into(),
        version,
        at: at(seconds),
        by: "x".into(),
        reason: "y".into(),
        host: "a".into(),
        cause: "set".into(),
        experiment: String::new(),
        in_test: 0,
    };
    let taken = |version, seconds| ParameterRecord {
        fleet: Some(FleetVersion { version, at: at(seconds) }),
        ..ParameterRecord::default()
    };
    for (parameter, record, takes) in [
        (of_fleet(1, 10), None, true),
        (of_fleet(1, 10), Some(ParameterRecord::default()), true),
        (of_fleet(1, 10), Some(taken(1, 10)), false),
        (of_fleet(2, 20), Some(taken(1, 10)), true),
        // By a host whose clock is behind.
        (of_fleet(2, 5), Some(taken(1, 10)), true),
        // Of a fleet whose count began anew.
        (of_fleet(1, 20), Some(taken(9, 10)), true),
        // Of a fleet that was put back: what was set later stays.
        (of_fleet(1, 10), Some(taken(2, 20)), false),
        // But where somebody has set it since.
        (of_fleet(2, 15), Some(taken(2, 20)), true),
    ] {
        assert_eq!(
            plan::takes_over(&parameter, record.as_ref()),
            takes,
            "{parameter:?} {record:?}"
        );
    }
    let stamp = |version, seconds| FleetVersion { version, at: at(seconds) };
    for (parameter, taken, forgot) in [
        (of_fleet(2, 20), stamp(2, 20), false),
        // It was put back.
        (of_fleet(1, 10), stamp(2, 20), true),
        (of_fleet(1, 20), stamp(2, 20), true),
        // It was put back, and set anew.
        (of_fleet(2, 10), stamp(2, 20), false),
        // It goes on, or its count began anew.
        (of_fleet(3, 10), stamp(2, 20), false),
        (of_fleet(1, 21), stamp(2, 20), false),
    ] {
        assert_eq!(plan::forgot(&parameter, taken), forgot, "{parameter:?} {taken:?}");
        let record = ParameterRecord { fleet: Some(taken), ..ParameterRecord::default() };
        assert!(!(forgot && plan::takes_over(&parameter, Some(&record))), "one or the other");
    }
    let whole = FleetParameter { by: "olga by the fleet from b".into(), ..of_fleet(2, 20) };
    let record = |set_by: String| ParameterRecord {
        strategy: "mm".into(),
        name: "threshold".into(),
        value: "1".into(),
        set_by,
        reason: "y".into(),
        cause: "set".into(),
        fleet: Some(whole.stamp()),
        ..ParameterRecord::default()
    };
    let again = FleetParameter::taken_over(record(whole.who()), whole.stamp());
    assert_eq!(again, Some(whole.clone()));
    assert_eq!(FleetParameter::taken_over(record("olga".into()), whole.stamp()), None);
}

#[test]
fn versions_come_one_after_the_other_whatever_the_clocks_say() {
    assert_eq!(plan::after(None, at(10)), at(10));
    assert_eq!(plan::after(Some(at(9)), at(10)), at(10));
    for now in [at(10), at(-3_600)] {
        assert!(plan::after(Some(at(10)), now) > at(10));
    }
    assert_eq!(plan::after(Some(Timestamp::MAX), at(10)), at(10));
}

#[test]
fn an_experiment_begins_only_where_it_is_the_one_that_was_meant() {
    let defined = defined(3);
    let with = |value: &str| {
        let record = ParameterRecord { value: value.into(), version: 12, ..Default::default() };
        BTreeMap::from([(("mm".to_owned(), "threshold".to_owned()), record)])
    };
    let begin = |defined: &Defined, parameters: &BTreeMap<_, _>, running: &[ExperimentRecord]| {
        plan::begin(defined, parameters, running.iter(), 2)
    };
    let begun = begin(&defined, &with("1"), &[]).unwrap();
    assert_eq!(begun.trials[0].control_version, 12, "this host's own version");
    assert_eq!((begun.fleet.as_str(), begun.owner.as_str()), ("FLEET_3", "fleet:FLEET_3"));
    assert!(defined.is(&begun));
    let refused = |defined: &Defined, parameters: &BTreeMap<_, _>, running: &[ExperimentRecord]| {
        begin(defined, parameters, running).unwrap_err()
    };
    assert!(refused(&defined, &BTreeMap::new(), &[]).contains("has no parameter"));
    assert!(refused(&defined, &with("9"), &[]).contains("is \"9\" here and not \"1\""));
    let other = ExperimentRecord { number: 8, ..begun };
    assert!(refused(&defined, &with("1"), from_ref(&other)).contains("is in TEST_8 here"));
    let elsewhere = ExperimentRecord { strategy: "arb".into(), ..other };
    begin(&defined, &with("1"), from_ref(&elsewhere)).unwrap();
    let many = [elsewhere.clone(), elsewhere];
    assert!(refused(&defined, &with("1"), &many).contains("max_running"));
    // Somebody wrote into etcd.
    let changed = Defined { variant_basis_points: 9_000, ..defined };
    assert!(refused(&changed, &with("1"), &[]).contains("not what its hash names"));
}

#[test]
fn only_shares_of_the_very_experiment_that_has_begun_there_are_added() {
    let record = defined(3).record();
    let mut moments = [Moments::new(); 2];
    for value in [1.0, 2.0, 4.0] {
        moments[0].push(value);
    }
    let share = Share {
        local: "TEST_8".into(),
        arms: [bits_of(&moments[0]), bits_of(&moments[1])],
        ..Share::of("a", &record, &Tally::new(&record).unwrap())
    };
    let other = Share { of: ("another".into(), 5), ..share.clone() };
    let unbegun = Share { local: String::new(), ..share.clone() };
    let all = [other, share, unbegun];
    let (tally, hosts) = plan::together(&record, None, &all).unwrap();
    assert_eq!((tally.trial.moments(Arm::Control).n(), hosts), (3, 1));
}

#[test]
fn hosts_tell_less_often_where_there_are_many_and_old_ends_are_forgotten() {
    for (hosts, seconds) in [(0, 2), (500, 2), (2_000, 2), (2_001, 3), (10_000, 10)] {
        assert_eq!(plan::pace(hosts), Duration::from_secs(seconds), "{hosts}");
    }
    let all: Vec<Arc<Defined>> = (1..=60)
        .map(|number| {
            let conclusion = (number != 30).then(|| concluded(1_000 - number as i64));
            Arc::new(Defined { conclusion, ..defined(number) })
        })
        .collect();
    // The last fifty that ended stay, whatever their numbers, and those that go on.
    let mut forgotten = plan::forgotten(&all);
    forgotten.sort_unstable();
    assert_eq!(forgotten, (52..=60).collect::<Vec<_>>());
    for (id, number) in
        [("FLEET_7", Some(7)), ("FLEET_", None), ("FLEET_+7", None), ("TEST_7", None)]
    {
        assert_eq!(plan::number(id), number, "{id}");
    }
}
