//! Stories: from values to a matrix, and from the first stage to the last.

use std::sync::Arc;

use genesis_proto::v1::WatchMatrixRequest;
use genesis_proto::v1::matrix_service_server::MatrixService;
use genesis_stats::experiment::Arm;
use tokio_stream::StreamExt as _;
use tonic::Request;

use super::world::{NANOS, WHO, World, column};
use crate::operations::matrices::prepare::{Batch, Fared, Sent};
use crate::operations::matrices::rpc::Service;
use crate::operations::matrices::stage::Verdict;
use crate::operations::matrices::{Answer, plan};

const NAMES: [&str; 4] = ["BTC", "ETH", "SOL", "XRP"];
const LOADINGS: [f64; 4] = [0.9, 0.8, 0.7, 0.6];
/// Three days, and little consumers.
const SMALL: &str = "[matrices]\nwindow = \"3d\"\n[matrices.rollout]\noutcomes = \"100\"";
const CONSUMERS: usize = 60;

/// Pearson's, plainly.
fn pearson(one: &[f64], other: &[f64]) -> f64 {
    let n = one.len() as f64;
    let mean = |it: &[f64]| it.iter().sum::<f64>() / n;
    let (a, b) = (mean(one), mean(other));
    let products: f64 = one.iter().zip(other).map(|(x, y)| (x - a) * (y - b)).sum();
    let squares = |it: &[f64], mean: f64| it.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    products / (squares(one, a) * squares(other, b)).sqrt()
}

async fn with_a_matrix() -> World {
    let mut world = World::new(SMALL).await;
    world.prices(800, &NAMES, &LOADINGS).await;
    let first = world.update().await.unwrap();
    assert_eq!((first.version, first.state.as_str()), (1, "active"));
    world
}

/// A second version of the same prices is tried.
async fn with_a_canary() -> World {
    let world = with_a_matrix().await;
    let second = world.update().await.unwrap();
    assert_eq!((second.version, second.state.as_str()), (2, "canary"));
    world
}

/// What a consumer hears.
async fn watched(world: &World) -> <Service as MatrixService>::WatchMatrixStream {
    let request = WatchMatrixRequest { consumer: "consumer-1".to_owned() };
    let service = Service(Arc::clone(world.own()));
    service.watch_matrix(Request::new(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_matrix_is_what_the_returns_of_the_prices_say() {
    let mut world = World::new(SMALL).await;
    let returns = world.prices(800, &NAMES, &LOADINGS).await;
    let first = world.update().await.unwrap();
    assert_eq!((first.series, first.fewest_points, first.state.as_str()), (4, 800, "active"));
    let served = world.own().of_consumer("").unwrap();
    assert_eq!(served.matrix.series(), NAMES);
    for i in 0..4 {
        for j in 0..4 {
            let expected = if i == j { 1.0 } else { pearson(&returns[i], &returns[j]) };
            let found = served.matrix.get(i, j).unwrap();
            assert!((found - expected).abs() < 1e-12, "{i} {j}: {found} {expected}");
        }
    }
    // Whatever was summed before is read back, to the bit; one more value is of its day alone.
    let again = world.made().await;
    assert_eq!((again.days, again.fresh), (4, 0));
    assert_eq!(again.record.digest, first.digest);
    let mut late = column("BTC");
    late.times.push((world.now() - 2 * 86_400) * NANOS);
    late.values.push(123.0);
    assert_eq!(world.values(vec![late]).await.unwrap().counted, 1);
    let changed = world.made().await;
    assert_eq!(changed.fresh, 1);
    assert_ne!(changed.record.digest, first.digest);
    // Another bucket changes all of them.
    world.configure(&SMALL.replace("3d\"", "3d\"\nbucket = \"10m\"")).await;
    let coarser = world.made().await;
    assert_eq!((coarser.fresh, coarser.record.fewest_points), (4, 400));
    // After a crash it is served as it was.
    world.restart().await;
    assert_eq!(world.own().of_consumer("").unwrap().matrix, served.matrix);
}

#[tokio::test]
async fn a_changed_price_at_midnight_changes_the_next_day_too() {
    let mut world = World::new(SMALL).await;
    world.prices(800, &NAMES, &LOADINGS).await;
    world.made().await;
    let midnight = world.now().div_euclid(86_400) * 86_400;
    let mut last = column("BTC");
    last.times.push((midnight - 1) * NANOS);
    last.values.push(55.0);
    world.values(vec![last]).await.unwrap();
    assert_eq!(world.made().await.fresh, 2);
}

#[tokio::test]
async fn what_becomes_of_values() {
    let mut world = World::new("[matrices]\nmax_series = \"2\"\nreturns = [\"ret.*\"]").await;
    let now = world.now();
    let mut btc = column("BTC");
    let rows = [
        (now, 1.0),
        (now, 2.0),
        (now - 1, 3.0),
        (now + 301, 1.0),
        (now - 40 * 86_400, 1.0),
        (now, f64::NAN),
        (now, -1.0),
    ];
    for (at, value) in rows {
        btc.times.push(at * NANOS);
        btc.values.push(value);
    }
    let mut ret = column("ret.x");
    ret.times.push(now * NANOS);
    ret.values.push(-0.5);
    let mut third = ret.clone();
    third.series = "third".to_owned();
    third.values[0] = 7.0;
    let answer = world.values(vec![btc.clone(), ret, third]).await.unwrap();
    let expected = Answer {
        sequence: 1,
        counted: 3,
        superseded: 1,
        missing: 1,
        late: 1,
        rejected: 2,
        unknown: 1,
        ..Answer::default()
    };
    assert_eq!(answer, expected);
    // The batch again, by a sender that has heard no answer; also after a crash.
    for _ in 0..2 {
        let sent = Sent::Values(vec![btc.clone()]);
        let batch = Batch { producer: "feed".to_owned(), sequence: 1, sent };
        let answer = world.send(batch).await.unwrap();
        assert_eq!(answer, Answer { sequence: 1, repeated: true, ..Answer::default() });
        world.restart().await;
    }
    let views = world.own().list_series("", 0).unwrap();
    let told: Vec<_> =
        views.iter().map(|it| (it.name.as_str(), it.prices, it.walk.points)).collect();
    assert_eq!(told, [("BTC", true, 1), ("ret.x", false, 1)]);
    assert_eq!(views[0].walk.ends.unwrap().3, 2.0);
    assert_eq!(world.own().list_series("B[", 0).unwrap_err().code, "PATTERN_INVALID");
    assert_eq!(world.own().gaps("nope", 0).unwrap_err().code, "SERIES_NOT_FOUND");
}

#[tokio::test]
async fn a_rollout_goes_from_stage_to_stage_as_long_as_there_is_no_harm() {
    let mut world = with_a_canary().await;
    for percent in [10, 25, 50, 100] {
        let canary = world.own().canary().unwrap();
        assert_eq!(canary.stages.last().unwrap().percent, percent);
        let with_it = (0..CONSUMERS)
            .filter(|at| world.own().of_consumer(&format!("consumer-{at}")).unwrap().version == 2);
        let with_it = with_it.count();
        let expected = CONSUMERS * percent as usize / 100;
        assert!(with_it.abs_diff(expected) <= 9, "{percent} %: {with_it}");
        let mut rounds = 0;
        while world.own().canary().is_some_and(|it| it.stages.last().unwrap().percent == percent) {
            world.outcomes(CONSUMERS, |_, noise| 1.0 + noise).await;
            rounds += 1;
            assert!(rounds < 200, "{percent} % goes on for ever");
            let now = world.own().version(2).unwrap();
            assert_ne!(now.state, "rolled back", "{:?}", now.stages);
            if rounds == 1
                && let Some(canary) = world.own().canary()
            {
                // Nothing that was answered is lost.
                let before = world.own().stage_of(&canary).unwrap();
                world.restart().await;
                let canary = world.own().canary().unwrap();
                assert_eq!(world.own().stage_of(&canary).unwrap(), before);
            }
        }
    }
    assert_eq!((world.state_of(1), world.state_of(2)), ("superseded".into(), "active".into()));
    let rollout = world.own().version(2).unwrap();
    assert!(rollout.stages.iter().all(|it| it.how == plan::PASSED), "{:?}", rollout.stages);
    assert_eq!(world.own().of_consumer("consumer-0").unwrap().version, 2);
}

#[tokio::test]
async fn a_harmful_matrix_is_taken_back_before_its_reporter_has_an_answer() {
    let mut world = with_a_canary().await;
    let mut rounds = 0;
    while world.own().canary().is_some() {
        world
            .outcomes(
                CONSUMERS,
                |version, noise| if version == 2 { noise - 1.0 } else { 1.0 + noise },
            )
            .await;
        rounds += 1;
        assert!(rounds < 60, "harm is not seen");
    }
    let harmful = world.own().version(2).unwrap();
    assert_eq!(
        (harmful.state.as_str(), harmful.ended_by.as_str()),
        ("rolled back", "system:matrices")
    );
    assert_eq!(harmful.stages.len(), 1, "it was seen in the first stage");
    assert_eq!(harmful.stages[0].how, plan::HARMFUL);
    assert_eq!(world.own().of_consumer("consumer-3").unwrap().version, 1);
    assert_eq!(world.told().await, ["matrices/harm/version-2"]);
    world.days(2);
    assert!(world.told().await.is_empty());
    // The next one may be calculated.
    world.days(-2);
    assert_eq!(world.update().await.unwrap().state, "canary");
}

#[tokio::test]
async fn without_outcomes_a_stage_stands_and_people_hear_of_it() {
    let mut world = with_a_canary().await;
    assert_eq!(world.update().await.unwrap_err().code, "ROLLOUT_RUNNING");
    assert_eq!(world.own().plan_update(false).await.unwrap_err().code, "ROLLOUT_RUNNING");
    // Of one arm there is never enough.
    for at in 0..300 {
        let fared = Fared { version: 1, times: vec![world.now() * NANOS], values: vec![1.0] };
        let sent = Sent::Outcomes(vec![fared]);
        world.send(Batch { producer: "one".into(), sequence: at + 1, sent }).await.unwrap();
    }
    assert!(world.told().await.is_empty());
    world.days(1);
    assert_eq!(world.told().await, ["matrices/stalled/version-2"]);
    assert_eq!(world.own().canary().unwrap().stages.len(), 1);
    // Outcomes of before the stage, of other versions, in the future, and that are none.
    let row =
        |version, at: i64, value| Fared { version, times: vec![at * NANOS], values: vec![value] };
    let now = world.now();
    let sent = Sent::Outcomes(vec![
        row(2, now - 2 * 86_400, 1.0),
        row(7, now, 1.0),
        row(2, now + 1_000, 1.0),
        row(2, now, f64::NAN),
        row(2, now, 1.0),
    ]);
    let answer = world.send(Batch { producer: "two".into(), sequence: 1, sent }).await.unwrap();
    assert_eq!((answer.late, answer.other, answer.rejected, answer.counted), (1, 1, 2, 1));
    let stage = world.own().stage_of(&world.own().canary().unwrap()).unwrap();
    assert_eq!((stage.counts.late, stage.counts.other, stage.counts.rejected), (1, 1, 2));
    assert_eq!(stage.consumers, [2, 0], "they count where they are assigned");
    // By hand it goes on, and is told as forced.
    assert_eq!(world.own().advance("", ("ada", " ")).await.unwrap_err().code, "REASON_MISSING");
    let planned = world.own().plan_advance().unwrap();
    assert_eq!(world.own().advance("nope", WHO).await.unwrap_err().code, "PLAN_CHANGED");
    world.own().advance(&planned.hash, WHO).await.unwrap();
    assert_eq!(world.own().advance(&planned.hash, WHO).await.unwrap_err().code, "PLAN_CHANGED");
    let stages = world.own().canary().unwrap().stages.clone();
    assert_eq!((stages[0].how.as_str(), stages[1].percent), (plan::FORCED, 25));
    let fresh = world.own().stage_of(&world.own().canary().unwrap()).unwrap();
    assert_eq!(fresh.view().0.control.n, 0, "each stage begins anew");
    for _ in 0..3 {
        world.own().advance("", WHO).await.unwrap();
    }
    assert_eq!(world.state_of(2), "active");
    assert_eq!(world.own().advance("", WHO).await.unwrap_err().code, "ROLLOUT_NOT_FOUND");
    assert_eq!(world.own().abort("", WHO).await.unwrap_err().code, "ROLLOUT_NOT_FOUND");
}

#[tokio::test]
async fn a_rollback_and_its_undoing() {
    let world = with_a_canary().await;
    // A rollout that goes on is what is taken back.
    let planned = world.own().plan_rollback(0).unwrap();
    assert_eq!(planned.steps[0].action, "end-rollout");
    let active = world.own().rollback(0, &planned.hash, WHO).await.unwrap();
    assert_eq!((active.version, world.state_of(2)), (1, "rolled back".to_owned()));
    assert_eq!(world.own().rollback(0, "", WHO).await.unwrap_err().code, "MATRIX_NOT_FOUND");
    // A version that was tried only can be made active by name.
    assert_eq!(world.own().rollback(2, "", WHO).await.unwrap().version, 2);
    assert_eq!(world.own().of_consumer("x").unwrap().version, 2);
    assert_eq!(world.own().rollback(0, "", ("ada", "")).await.unwrap_err().code, "REASON_MISSING");
    assert_eq!(world.own().rollback(0, "", WHO).await.unwrap().version, 1);
    assert_eq!(world.own().rollback(2, "", WHO).await.unwrap().version, 2);
    assert_eq!(world.own().rollback(2, "", WHO).await.unwrap_err().code, "MATRIX_ACTIVE");
}

#[tokio::test]
async fn what_has_drifted_is_rejected_and_changes_nothing() {
    let mut world = with_a_matrix().await;
    let before = world.own().of_consumer("").unwrap();
    world.days(4);
    world.prices(800, &NAMES, &[0.9, -0.8, 0.7, 0.6]).await;
    let rejected = world.update().await.unwrap();
    assert_eq!((rejected.version, rejected.state.as_str()), (2, "rejected"));
    let drift = rejected.criteria.iter().find(|it| it.name == "drift").unwrap();
    assert_eq!((drift.verdict.as_str(), drift.limit), ("fail", 0.15));
    assert!(drift.value.unwrap() > 1.0 && drift.detail.contains("/ETH"), "{drift:?}");
    assert_eq!(rejected.worst[0].old.signum(), -rejected.worst[0].new.signum());
    assert_eq!(rejected.criteria.len(), 8);
    assert!(!rejected.kept);
    assert_eq!(world.own().of_consumer("").unwrap(), before);
    assert!(world.own().canary().is_none());
    assert_eq!(world.told().await, ["matrices/rejected/update"]);
    assert_eq!(world.own().rollback(2, "", WHO).await.unwrap_err().code, "MATRIX_REJECTED");
    let planned = world.own().plan_update(false).await.unwrap();
    assert_eq!(planned.steps.last().unwrap().action, "reject");
    // Where more is allowed it is tried.
    world.configure(&format!("{SMALL}\n[matrices.drift]\nmax = \"2\"")).await;
    let planned = world.own().plan_update(false).await.unwrap();
    assert_eq!(planned.steps.last().unwrap().action, "begin-stage");
    assert_eq!(world.update().await.unwrap().state, "canary");
    assert!(world.told().await.is_empty());
}

#[tokio::test]
async fn pairs_without_enough_rows_are_named_or_keep_what_was() {
    let mut world = with_a_matrix().await;
    let before = world.own().of_consumer("").unwrap();
    world.days(5);
    world.prices(800, &NAMES[..3], &LOADINGS[..3]).await;
    world.prices(99, &NAMES[3..], &LOADINGS[3..]).await;
    let refused = world.update().await.unwrap();
    assert_eq!(refused.state, "rejected");
    assert_eq!((refused.lacking_total, refused.fewest_points), (3, 99));
    assert_eq!(
        (refused.lacking[0].one.as_str(), refused.lacking[0].other.as_str()),
        ("BTC", "XRP")
    );
    let points = refused.criteria.iter().find(|it| it.name == "points").unwrap();
    assert!(points.verdict == "fail" && points.at_least, "{points:?}");
    world
        .configure(
            &format!("{SMALL}\n[matrices.drift]\nmax = \"1\"")
                .replace("3d\"", "3d\"\ncarry = true"),
        )
        .await;
    let carried = world.update().await.unwrap();
    assert_eq!((carried.state.as_str(), carried.carried), ("canary", 3), "{:?}", carried.criteria);
    let canary = world.own().values_of(&carried).unwrap();
    let place = |it: &genesis_stats::correlation::Correlation| it.get(0, 3).unwrap();
    assert_eq!(place(&canary.matrix), place(&before.matrix));
}

#[tokio::test]
async fn nothing_to_calculate_from() {
    let mut world = World::new(SMALL).await;
    assert_eq!(world.update().await.unwrap_err().code, "SERIES_MISSING");
    world.prices(300, &NAMES[..1], &LOADINGS[..1]).await;
    assert_eq!(world.update().await.unwrap_err().code, "SERIES_MISSING");
    assert_eq!(world.own().of_consumer("").unwrap_err().code, "MATRIX_NOT_FOUND");
    assert_eq!(world.own().of_consumer("a b").unwrap_err().code, "CONSUMER_INVALID");
    assert_eq!(world.own().rollback(0, "", WHO).await.unwrap_err().code, "MATRIX_NOT_FOUND");
    assert_eq!(world.own().history(1_001).unwrap_err().code, "LIMIT_INVALID");
    assert!(world.told().await.is_empty());
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_keeps_nobody_from_the_matrix() {
    let mut world = with_a_canary().await;
    world.spoil().await;
    assert_eq!(world.update().await.unwrap_err().code, "SERIES_UNAVAILABLE");
    assert_eq!(world.own().of_consumer("").unwrap().version, 1);
    assert!(world.told().await.contains(&"matrices/file/values".to_owned()));
    assert_eq!(world.own().abort("", WHO).await.unwrap(), 2);
}

#[tokio::test]
async fn values_of_a_version_that_cannot_be_read_are_told_and_can_be_left() {
    let mut world = with_a_canary().await;
    world.own().abort("", WHO).await.unwrap();
    world.own().rollback(2, "", WHO).await.unwrap();
    world.spoil_values(2).await;
    world.restart().await;
    assert_eq!(world.own().of_consumer("").unwrap_err().code, "STORAGE_RECORD_UNREADABLE");
    assert_eq!(world.told().await, ["matrices/unreadable/version-2"]);
    // "There is none" would take from its consumers the one that they have.
    let error = watched(&world).await.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    assert!(error.message().contains("version 2 can't be read"), "{error}");
    assert_eq!(world.own().rollback(0, "", WHO).await.unwrap().version, 1);
    assert_eq!(world.own().of_consumer("").unwrap().version, 1);
    let now = watched(&world).await.next().await.unwrap().unwrap();
    assert_eq!(now.matrix.unwrap().version, 1);
    // And nobody goes to it.
    assert_eq!(
        world.own().rollback(2, "", WHO).await.unwrap_err().code,
        "STORAGE_RECORD_UNREADABLE"
    );
}

#[tokio::test]
async fn an_old_matrix_is_told() {
    let world = with_a_matrix().await;
    world.days(6);
    assert!(world.told().await.is_empty());
    world.days(1);
    assert_eq!(world.told().await, ["matrices/stale/active"]);
}

#[tokio::test]
async fn what_a_stage_found_before_it_was_ended_is_ended_after_a_crash() {
    let mut world = with_a_canary().await;
    // As it would be where the state took no change: the look is in the file of values alone.
    let canary = world.own().canary().unwrap();
    let mut stage = world.own().stage_of(&canary).unwrap();
    for at in 0..400 {
        let arm = if at % 2 == 0 { Arm::Control } else { Arm::Variant };
        stage.record(arm, if at % 2 == 0 { 1.0 } else { -1.0 } + f64::from(at % 7));
    }
    assert!(stage.look(1));
    assert_eq!(stage.decided.as_ref().unwrap().verdict, Verdict::Harmful);
    let store = std::sync::Arc::clone(world.own().store().unwrap());
    store.write(|it| it.put_stage(2, 10, stage.to_text().as_bytes())).unwrap();
    drop(store);
    world.restart().await;
    assert!(world.own().canary().is_some());
    world.own().settle().await.unwrap();
    assert_eq!(world.state_of(2), "rolled back");
}

#[tokio::test]
async fn the_care_forgets_what_is_older_than_the_window_and_a_clock_that_is_ahead_forgets_nothing()
{
    use crate::operations::matrices::writer::Order;

    let mut world = World::new(SMALL).await;
    world.prices(800, &NAMES, &LOADINGS).await;
    let hours = |world: &World| {
        let mut count = 0;
        let store = std::sync::Arc::clone(world.own().store().unwrap());
        let read = store.read(|it| {
            it.hours(0..=u32::MAX, |_, _, _| {
                count += 1;
                Ok::<_, crate::error::Error>(())
            })
        });
        read.unwrap();
        count
    };
    async fn care(world: &World) -> u64 {
        let oldest = world.own().oldest_kept().unwrap();
        let silent = world.own().silent_since(oldest).unwrap();
        world.own().order(|it| Order::KeepSmall(oldest, silent, it)).await.unwrap()
    }
    let before = hours(&world);
    assert_eq!(care(&world).await, 0);
    // The clock is ten years ahead, and so is what a feed on this host stamps its values with.
    world.days(3_650);
    let mut ahead = column("BTC");
    ahead.times.push(world.now() * NANOS);
    ahead.values.push(1.0);
    assert_eq!(world.values(vec![ahead]).await.unwrap().counted, 1);
    assert_eq!(care(&world).await, 0);
    assert_eq!(hours(&world), before + 1);
    world.days(-3_650);
    // More days of three of them: the fourth is forgotten.
    for _ in 0..3 {
        world.days(3);
        world.prices(800, &NAMES[..3], &LOADINGS[..3]).await;
    }
    assert!(care(&world).await > 100);
    let names: Vec<String> = world.own().names().unwrap().into_iter().map(|it| it.0).collect();
    assert_eq!(names, NAMES[..3]);
}

#[tokio::test]
async fn what_is_told_of_a_matrix_without_all_its_values_is_read_back() {
    let mut world = World::new(SMALL).await;
    world.prices(50, &NAMES[..2], &LOADINGS[..2]).await;
    let rejected = world.update().await.unwrap();
    assert_eq!((rejected.state.as_str(), rejected.lacking_total), ("rejected", 1));
    world.restart().await;
    assert_eq!(*world.own().version(1).unwrap(), *rejected);
}

#[tokio::test]
async fn a_stage_that_cannot_be_read_keeps_no_value_from_being_kept_and_can_be_ended() {
    let mut world = with_a_canary().await;
    world.outcomes(20, |_, noise| noise).await;
    let store = std::sync::Arc::clone(world.own().store().unwrap());
    store.write(|it| it.put_stage(2, 10, b"{}")).unwrap();
    drop(store);
    world.restart().await;
    let mut value = column("BTC");
    value.times.push(world.now() * NANOS);
    value.values.push(100.0);
    assert_eq!(world.values(vec![value]).await.unwrap().counted, 1);
    let fared = Fared { version: 2, times: vec![world.now() * NANOS], values: vec![1.0] };
    let sent = Sent::Outcomes(vec![fared]);
    let answer = world.send(Batch { producer: "x".into(), sequence: 1, sent }).await.unwrap();
    assert_eq!((answer.counted, answer.other), (0, 1), "nothing is made of it");
    assert_eq!(world.told().await, ["matrices/held/version-2"]);
    world.own().abort("", WHO).await.unwrap();
    assert!(world.told().await.is_empty());
    // The next stage is read as it is written.
    assert_eq!(world.update().await.unwrap().state, "canary");
    world.outcomes(5, |_, noise| noise).await;
    assert!(world.told().await.is_empty());
}

#[tokio::test]
async fn a_matrix_is_taken_in_only_where_what_it_was_held_against_is_still_active() {
    let world = with_a_canary().await;
    world.own().abort("", WHO).await.unwrap();
    let made = world.made().await;
    world.own().rollback(2, "", WHO).await.unwrap();
    let refused = world.own().admit(made, "by hand", WHO).await.unwrap_err();
    assert_eq!(refused.code, "PLAN_CHANGED");
    // And what is active must be there to be held against.
    world.spoil_values(2).await;
    let mut world = world;
    world.restart().await;
    assert_eq!(world.update().await.unwrap_err().code, "STORAGE_RECORD_UNREADABLE");
}

#[tokio::test]
async fn series_that_have_nothing_in_common_with_what_is_active_are_a_first_again() {
    let mut world = with_a_matrix().await;
    world.prices(800, &["A", "B", "C"], &[0.9, 0.8, 0.7]).await;
    world.configure(&SMALL.replace("3d\"", "3d\"\nseries = [\"A\", \"B\", \"C\"]")).await;
    let other = world.update().await.unwrap();
    assert_eq!(other.state, "canary", "{:?}", other.criteria);
}

/// A stage whose look is in the file of values alone, as where the state took no change, after a crash.
async fn decided(harm: bool) -> World {
    let mut world = with_a_canary().await;
    let mut stage = world.own().stage_of(&world.own().canary().unwrap()).unwrap();
    for at in 0..800 {
        let (arm, by) = if at % 2 == 0 { (Arm::Control, 0.0) } else { (Arm::Variant, 1.0) };
        stage.record(arm, f64::from(at % 7) - if harm { by } else { 0.0 });
    }
    assert!(stage.look(1));
    let store = std::sync::Arc::clone(world.own().store().unwrap());
    store.write(|it| it.put_stage(2, 10, stage.to_text().as_bytes())).unwrap();
    drop(store);
    world.restart().await;
    world
}

#[tokio::test]
async fn harm_is_in_force_before_the_state_has_noted_it() {
    let world = decided(true).await;
    assert!(world.own().canary().is_some() && world.own().serving().canary().is_none());
    world.own().reread().unwrap();
    assert!(world.own().serving().canary().is_none(), "nor after the next change");
    let told = world.own().stage_of(&world.own().canary().unwrap()).unwrap().view().1;
    assert_eq!(told, Verdict::Harmful);
    assert_eq!(world.told().await, ["matrices/held/version-2"]);
    // Nobody goes on with what was decided otherwise.
    assert_eq!(world.own().advance("", WHO).await.unwrap_err().code, "PLAN_CHANGED");
    world.own().settle().await.unwrap();
    assert_eq!(world.state_of(2), "rolled back");
}

#[tokio::test]
async fn in_an_emergency_nobody_more_gets_a_new_matrix_and_harm_ends_it_all_the_same() {
    for harm in [false, true] {
        let world = decided(harm).await;
        let emergency = world.own().runs.emergency().clone();
        emergency.activate("ada", "prices are wrong", "").await.unwrap();
        world.own().settle().await.unwrap();
        assert_eq!(world.state_of(2), if harm { "rolled back" } else { "canary" });
        if !harm {
            assert_eq!(world.own().canary().unwrap().stages.len(), 1);
            emergency.release("ada", "they are right again", "").await.unwrap();
            world.own().settle().await.unwrap();
            assert_eq!(world.own().canary().unwrap().stages.len(), 2);
        }
    }
}

#[tokio::test]
async fn what_another_version_with_its_number_left_does_not_count() {
    let mut world = with_a_matrix().await;
    let store = std::sync::Arc::clone(world.own().store().unwrap());
    store.write(|it| it.put_consumer((2, 10), 7, 0)).unwrap();
    assert_eq!(world.update().await.unwrap().state, "canary");
    world.outcomes(3, |_, noise| noise).await;
    let there = store.read(|it| it.consumers(2, 10)).unwrap();
    assert_eq!(there.len(), 3, "{there:?}");
}

#[tokio::test]
async fn a_series_that_comes_back_while_the_care_looks_is_not_forgotten() {
    use crate::operations::matrices::writer::Order;

    let mut world = World::new(SMALL).await;
    world.prices(10, &NAMES[..1], &LOADINGS[..1]).await;
    let oldest = world.own().oldest_kept().unwrap();
    let silent = world.own().silent_since(oldest).unwrap();
    assert!(silent.is_empty());
    // As it was seen before its values came.
    world.own().order(|it| Order::KeepSmall(oldest, [0].into(), it)).await.unwrap();
    assert_eq!(world.own().names().unwrap().len(), 1);
}
