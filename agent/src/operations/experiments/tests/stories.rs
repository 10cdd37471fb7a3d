//! Stories of whole experiments.

use jiff::SignedDuration;

use super::world::World;
use crate::batches::Stream;
use crate::events::Source;
use crate::operations::experiments::parameters::Wanted;
use crate::operations::experiments::plan::Asked;
use crate::operations::experiments::prepare::Batch;
use crate::operations::experiments::tally::Arm;
use crate::operations::experiments::verbs::State;

#[tokio::test(flavor = "multi_thread")]
async fn a_better_variant_is_promoted_and_everybody_uses_it() {
    let mut world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let (of_control, of_variant) = (world.unit(&id, Arm::Control), world.unit(&id, Arm::Variant));
    assert_eq!(
        (world.value(&of_control), world.value(&of_variant)),
        ("0.002".into(), "0.003".into())
    );
    let mut ended = Vec::new();
    for _ in 0..60 {
        let trades = world.trades(10, 2.0, 2.6);
        ended = world.send(&id, &trades).await.ended;
        if !ended.is_empty() {
            break;
        }
    }
    assert_eq!(ended, [1]);
    assert_eq!(
        (world.value(&of_control), world.value(&of_variant)),
        ("0.003".into(), "0.003".into())
    );
    let view = world.own().get(&id).unwrap();
    let ended = view.record.conclusion.as_ref().unwrap();
    assert_eq!((ended.how.as_str(), ended.line, ended.forced), ("promoted", 3, false));
    assert!(view.look.control.n >= 100 && view.look.variant.n >= 100);
    assert_eq!(view.tally.looked_at, Some(world.own().now().as_millisecond()));
    assert!(view.look.evidence.up < 0.05 && view.look.comparison.unwrap().d > 0.2);
    let (parameters, _) = (world.own().parameters("mm").unwrap(), ());
    let (record, test) = &parameters[0];
    assert_eq!((record.version, record.cause.as_str(), *test), (2, "promoted", None));
    assert_eq!(record.experiment, id);
    assert_eq!(
        world.actions("experiments.concluded"),
        [("promoted".into(), "system:experiments".into())]
    );
    // What comes later is told apart, and changes nothing.
    let trades = world.trades(5, 2.0, 0.0);
    let answer = world.send(&id, &trades).await;
    assert_eq!((answer.counted, answer.after_end), (0, 10));
    let later = world.own().get(&id).unwrap();
    assert_eq!((later.look, later.counts.after_end), (view.look, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_emergency_a_promotion_waits_and_a_loss_does_not() {
    use std::sync::atomic::Ordering;

    for (mean, waits) in [(2.6, true), (-0.5, false)] {
        let mut world = World::new().await;
        let id = world.create(&world.asked()).await.unwrap();
        let of_control = world.unit(&id, Arm::Control);
        world.emergency.store(true, Ordering::Relaxed);
        let decided = |world: &World| world.own().get(&id).unwrap().tally.ended.is_some();
        for _ in 0..60 {
            let trades = world.trades(10, 2.0, mean);
            world.send(&id, &trades).await;
            if decided(&world) {
                break;
            }
        }
        world.own().settle(1).await.unwrap();
        let ended = |world: &World| world.own().get(&id).unwrap().record.conclusion.clone();
        assert_eq!(ended(&world).is_none(), waits, "{mean}");
        assert_eq!(world.value(&of_control), "0.002", "{mean}");
        if !waits {
            continue;
        }
        let by_hand = world.own().conclude(&id, true, "", ("olga", "now")).await;
        assert_eq!(by_hand.unwrap_err().code, "EMERGENCY");
        world.emergency.store(false, Ordering::Relaxed);
        world.own().settle(1).await.unwrap();
        assert_eq!(ended(&world).unwrap().how, "promoted");
        assert_eq!(world.value(&of_control), "0.003");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_of_a_tenth_is_rolled_back_in_the_commit_that_shows_it() {
    for (variant, rolled_back) in [(0.9, true), (0.901, false)] {
        let mut world = World::new().await;
        let id = world.create(&world.asked()).await.unwrap();
        let unit = world.unit(&id, Arm::Variant);
        // With some variance, so that there is a lift, and means that are exact.
        let pairs = |pairs: usize, shift: f64| {
            (0..pairs)
                .flat_map(|at| {
                    let off = if at % 2 == 0 { 0.25 } else { -0.25 };
                    [(Arm::Control, 1.0 + off), (Arm::Variant, shift + off)]
                })
                .collect::<Vec<_>>()
        };
        let answer = world.send(&id, &pairs(98, variant)).await;
        assert_eq!((answer.counted, answer.ended.len()), (196, 0));
        let answer = world.send(&id, &[(Arm::Variant, variant + 0.25), (Arm::Control, 1.25)]).await;
        assert_eq!(answer.ended.len(), 0, "99 in each arm");
        assert_eq!(world.value(&unit), "0.003");
        let answer = world.send(&id, &[(Arm::Variant, variant - 0.25), (Arm::Control, 0.75)]).await;
        assert_eq!(answer.ended.len(), usize::from(rolled_back), "{variant}");
        let wanted = if rolled_back { "0.002" } else { "0.003" };
        assert_eq!(world.value(&unit), wanted);
        if rolled_back {
            let ended = world.own().get(&id).unwrap();
            let conclusion = ended.record.conclusion.as_ref().unwrap();
            assert_eq!((conclusion.how.as_str(), conclusion.line), ("rolled back", 1));
            let told = world.own().conditions().await.unwrap();
            assert!(told[0].title.contains("rolled back by itself"), "{told:?}");
            world.clock.advance(std::time::Duration::from_secs(86_401));
            assert_eq!(world.own().conditions().await.unwrap(), []);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_counts_once_whoever_sends_it_and_in_whatever_order() {
    let mut world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let trades = world.trades(40, 1.0, 1.0);
    let column = world.column(&id, &trades);
    let first = world.send_as(1, vec![column.clone()]).await;
    assert_eq!((first.counted, first.repeated), (80, false));
    let again = world.send_as(1, vec![column.clone()]).await;
    assert!(again.repeated && again.counted == 0, "{again:?}");
    let tally = world.own().get(&id).unwrap().tally.to_bytes();
    let batch = Batch { producer: "q".to_owned(), sequence: 9, columns: vec![column.clone()] };
    let other = world.own().take(batch, &Stream::default()).await.unwrap();
    assert_eq!(other.await.unwrap().unwrap().duplicate, 80);
    // The same from the beginning, turned round.
    let mirror = World::new().await;
    let same = mirror.create(&mirror.asked()).await.unwrap();
    let mut turned = column;
    turned.ids.reverse();
    turned.times.reverse();
    turned.pnl.reverse();
    turned.arms.reverse();
    mirror.send_as(1, vec![turned]).await;
    assert_eq!(mirror.own().get(&same).unwrap().tally.to_bytes(), tally);
    // Over a crash as well.
    world.restart();
    let after = world.own().get(&id).unwrap();
    assert_eq!(after.counts.duplicate, 80);
    assert_eq!((after.look.control.n, after.look.variant.n), (40, 40));
    assert!(world.send_as(1, Vec::new()).await.repeated);
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_change_neither_the_looks_nor_the_decision() {
    let (mut world, mut other) = (World::new().await, World::new().await);
    let id = world.create(&world.asked()).await.unwrap();
    assert_eq!(other.create(&other.asked()).await.unwrap(), id);
    let mut decided = 0;
    for _ in 0..80 {
        let trades = world.trades(9, 1.0, 1.5);
        let one = world.send(&id, &trades).await;
        let two = other.send(&id, &trades).await;
        assert_eq!(one, two);
        world.restart();
        let (here, there) = (world.own().get(&id).unwrap(), other.own().get(&id).unwrap());
        assert_eq!(here.tally.to_bytes(), there.tally.to_bytes());
        assert_eq!(here.state, there.state);
        decided += usize::from(!one.ended.is_empty());
    }
    assert_eq!(decided, 1);
    // By day, for whoever decides it again.
    let days = world.own().store().unwrap().read(|it| it.days(1)).unwrap();
    assert_eq!(days.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_before_a_crash_is_ended_after_it() {
    let mut world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let trades = world.trades(120, 2.0, 0.5);
    assert_eq!(world.send(&id, &trades).await.ended, [1]);
    // As where the agent died between the two commits.
    let mut record = (*world.own().one(&id).unwrap()).clone();
    record.conclusion = None;
    let intent = genesis_storage::Intent::new(world.own().now(), "test", "test");
    world.state.write(intent, move |it| Ok(it.experiments().put(&record)?)).await.unwrap();
    world.restart();
    assert!(world.own().one(&id).unwrap().conclusion.is_none());
    let serving = tokio::spawn(std::sync::Arc::clone(world.own()).serve());
    while world.own().one(&id).unwrap().conclusion.is_none() {
        tokio::task::yield_now().await;
    }
    serving.abort();
    // It is gone when nobody has it any more.
    let _ = serving.await;
    let ended = world.own().get(&id).unwrap();
    assert_eq!(ended.record.conclusion.as_ref().unwrap().how, "rolled back");
    assert_eq!(world.actions("experiments.concluded").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_somebody_ends_is_forced_and_has_its_statistics() {
    let mut world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let trades = world.trades(30, 1.0, 1.0);
    world.send(&id, &trades).await;
    let plan = world.own().plan_conclusion(&id, true).unwrap();
    assert!(plan.steps.iter().any(|step| step.action == "set-parameter"), "{plan:?}");
    assert_eq!(
        world.own().conclude(&id, true, "", ("ada", " ")).await.unwrap_err().code,
        "REASON_MISSING"
    );
    world.conclude(&id, true).await.unwrap();
    let ended = world.own().get(&id).unwrap();
    let conclusion = ended.record.conclusion.as_ref().unwrap();
    assert!(conclusion.forced && conclusion.how == "promoted" && conclusion.by.contains("ada"));
    assert_eq!((ended.look.control.n, ended.look.variant.n, ended.state), (30, 30, State::Ended));
    assert_eq!(world.value("anybody"), "0.003");
    assert_eq!(world.conclude(&id, false).await.unwrap_err().code, "EXPERIMENT_ENDED");
    assert_eq!(world.conclude("TEST_9", false).await.unwrap_err().code, "EXPERIMENT_NOT_FOUND");
    let answer = world.send(&id, &trades).await;
    assert_eq!((answer.counted, answer.after_end), (0, 60));
    // The next one has another number, and may try the same again.
    world.set("threshold", "0.002").await.unwrap();
    assert_eq!(world.create(&world.asked()).await.unwrap(), "TEST_2");
    world.restart();
    assert_eq!(world.own().get("TEST_2").unwrap().state, State::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_are_not_split_hold_it_but_harm_is_rolled_back_all_the_same() {
    let mut world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let mut trades = world.trades(150, 1.0, 1.0);
    let more = world.trades(150, 1.0, 1.0).into_iter().filter(|(arm, _)| *arm == Arm::Control);
    trades.extend(more);
    assert_eq!(world.send(&id, &trades).await.ended, [0_u64; 0]);
    let view = world.own().get(&id).unwrap();
    assert_eq!((view.state, view.look.decision.row.number), (State::Held, 2));
    let told = world.own().conditions().await.unwrap();
    assert!(told[0].title.contains("not split as they should be"), "{told:?}");
    let harm: Vec<_> = (0..150).map(|_| (Arm::Variant, -2.0)).collect();
    // The trades of the variant catch up here, so that only half of them are sent.
    assert_eq!(world.send(&id, &harm[..75]).await.ended, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_trades_are_stored_and_not_used_and_ids_are_forgotten_in_time() {
    let mut world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let trades = world.trades(10, 1.0, 1.0);
    let early = world.column(&id, &trades);
    world.clock.set(world.own().now() + SignedDuration::from_hours(24 * 31));
    let answer = world.send_as(1, vec![early.clone()]).await;
    assert_eq!((answer.late, answer.counted), (20, 0));
    let kept = world.own().store().unwrap().read(|it| it.late(1)).unwrap();
    assert_eq!(kept.concat().len(), 20 * 33);
    let column = world.column(&id, &trades);
    assert_eq!(world.send_as(2, vec![column.clone()]).await.counted, 20);
    assert_eq!(world.runs(1), 1);
    assert_eq!(world.own().keep_small().await.unwrap(), 0);
    world.clock.set(world.own().now() + SignedDuration::from_hours(24 * 31));
    assert_eq!(world.own().keep_small().await.unwrap(), 1);
    assert_eq!(world.runs(1), 0);
    // What would be a duplicate is too old by then.
    assert_eq!(world.send_as(3, vec![column]).await.late, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_have_versions_and_go_back_but_not_under_a_test() {
    let world = World::new().await;
    assert_eq!(world.set("threshold", "0.0025").await.unwrap(), 2);
    let own = world.own();
    let back = own.go_back(("mm", "threshold", 0), "", ("ada", "too narrow")).await.unwrap();
    assert_eq!(
        (back.version, back.value.as_str(), back.cause.as_str()),
        (3, "0.002", "rolled back")
    );
    let versions = own.versions("mm", "threshold", 0).unwrap();
    assert_eq!(versions.iter().map(|it| it.version).collect::<Vec<_>>(), [3, 2, 1]);
    let plan = own.plan_going_back("mm", "threshold", 2).unwrap();
    own.go_back(("mm", "threshold", 2), &plan.hash, ("ada", "")).await.unwrap();
    let stale = own.go_back(("mm", "threshold", 1), &plan.hash, ("ada", "")).await.unwrap_err();
    assert_eq!(stale.code, "PLAN_CHANGED");
    let id = world.create(&world.asked()).await.unwrap();
    assert_eq!(world.set("threshold", "1").await.unwrap_err().code, "PARAMETER_IN_TEST");
    let back = own.go_back(("mm", "threshold", 1), "", ("ada", "")).await.unwrap_err();
    assert_eq!(back.code, "PARAMETER_IN_TEST");
    let again = world.create(&Asked { trials: world.asked().trials, ..world.asked() }).await;
    assert_eq!(again.unwrap_err().code, "PARAMETER_IN_TEST");
    world.conclude(&id, false).await.unwrap();
    assert_eq!(world.set("threshold", "1").await.unwrap(), 5);
    let wanted = |expected| Wanted {
        strategy: "mm".to_owned(),
        name: "threshold".to_owned(),
        value: "7".to_owned(),
        expected,
    };
    let other = own.set(&wanted(4), "", ("ada", "")).await.unwrap_err();
    assert_eq!(other.code, "PARAMETER_CHANGED");
    assert_eq!(own.set(&wanted(5), "", ("ada", "")).await.unwrap().version, 6);
    for (name, value, code) in [
        ("a/b", "1", "PARAMETER_INVALID"),
        ("", "1", "PARAMETER_INVALID"),
        ("threshold", &"x".repeat(1_025)[..], "PARAMETER_INVALID"),
        ("threshold", "\u{7}", "PARAMETER_INVALID"),
    ] {
        assert_eq!(world.set(name, value).await.unwrap_err().code, code, "{name:?}");
    }
    assert_eq!(own.versions("mm", "other", 0).unwrap_err().code, "PARAMETER_NOT_FOUND");
    assert_eq!(own.versions("mm", "threshold", 1_001).unwrap_err().code, "LIMIT_INVALID");
    let missing = own.go_back(("mm", "threshold", 99), "", ("ada", "")).await.unwrap_err();
    assert_eq!(missing.code, "VERSION_NOT_FOUND");
    assert_eq!(own.uses("other", "u").unwrap_err().code, "STRATEGY_NOT_FOUND");
    assert_eq!(own.uses("mm", &"u".repeat(257)).unwrap_err().code, "UNIT_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_own_it_counts_and_takes_no_look() {
    let mut world = World::new().await;
    let asked = Asked { owner: "host-2".to_owned(), ..world.asked() };
    let id = world.create(&asked).await.unwrap();
    let trades = world.trades(200, 2.0, 0.2);
    let answer = world.send(&id, &trades).await;
    assert_eq!((answer.counted, answer.ended.len()), (400, 0));
    let view = world.own().get(&id).unwrap();
    assert_eq!((view.tally.looked_at, view.curve().len()), (None, 0));
    assert_eq!((view.look.control.n, view.state), (200, State::Running));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_commit_left_is_found_and_nothing_behind_it_counts() {
    let mut world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let trades = world.trades(10, 1.0, 1.0);
    let columns = [world.column(&id, &trades), world.column(&id, &trades)];
    let own = world.own();
    own.break_commits(true);
    let stream = Stream::default();
    let take = async |sequence: u64, at: usize, stream: &Stream| {
        let columns = vec![columns[at].clone()];
        let batch = Batch { producer: "p".to_owned(), sequence, columns };
        own.take(batch, stream).await.unwrap().await.unwrap()
    };
    let failed = take(1, 0, &stream).await.unwrap_err();
    assert_eq!(failed.code, "STORAGE_FAILED");
    assert!(own.conditions().await.unwrap()[0].title.contains("not kept"));
    own.break_commits(false);
    assert_eq!(take(2, 1, &stream).await.unwrap_err().code, "STREAM_BROKEN");
    assert!(own.trouble().is_some(), "nothing was kept since then");
    assert_eq!(own.get(&id).unwrap().look.control.n, 0, "nothing of it counts");
    let next = Stream::default();
    assert_eq!(take(1, 0, &next).await.unwrap().counted, 20);
    assert_eq!(own.conditions().await.unwrap(), []);
    assert_eq!(take(2, 1, &next).await.unwrap().counted, 20);
    assert_eq!(own.get(&id).unwrap().look.control.n, 20);
    // Where nobody sends any more the disk is tried after a while.
    own.break_commits(true);
    take(3, 0, &Stream::default()).await.unwrap_err();
    own.break_commits(false);
    world.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(own.conditions().await.unwrap().len(), 1);
    let serving = tokio::spawn(std::sync::Arc::clone(own).serve());
    while own.trouble().is_some() {
        tokio::task::yield_now().await;
    }
    serving.abort();
}
