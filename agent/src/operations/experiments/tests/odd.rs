//! Files that are lost, disks that take nothing, clocks that jump: what is decided then, and what is not.

use genesis_storage::Intent;
use jiff::SignedDuration;

use super::world::{Trade, World};
use crate::batches::Stream;
use crate::events::Source;
use crate::operations::experiments::plan::{self, Asked};
use crate::operations::experiments::prepare::{Batch, Column};
use crate::operations::experiments::tally::{Arm, Ended};
use crate::operations::experiments::verbs::{State, Which};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tallied_of_another_experiment_with_its_number_counts_for_nothing() {
    let mut world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let trades = world.trades(200, 2.0, 3.0);
    let column = world.column(&id, &trades);
    assert_eq!(world.send_as(1, vec![column.clone()]).await.ended, [1]);
    assert_eq!(world.value("anybody"), "0.003");
    // The state is lost, the file of trades is not.
    world.clock.advance(std::time::Duration::from_secs(1));
    world.lose_state().await;
    assert_eq!(world.create(&world.asked()).await.unwrap(), id, "it has the number again");
    let fresh = |world: &World| {
        let view = world.own().get(&id).unwrap();
        assert_eq!((view.look.control.n, view.state), (0, State::Running));
        assert_eq!(view.tally.ended, None);
    };
    fresh(&world);
    world.restart();
    fresh(&world);
    // And its ids are no duplicates. Each of these trades was before it began, but is taken as of now.
    let mut later = column;
    let now = world.own().now().as_nanosecond() as i64;
    later.times.iter_mut().for_each(|time| *time = now);
    later.pnl.iter_mut().for_each(|pnl| *pnl = 1.0);
    let answer = world.send_as(2, vec![later]).await;
    assert_eq!((answer.counted, answer.duplicate), (400, 0));
    let days = world.own().store().unwrap().read(|it| it.days(1)).unwrap();
    assert_eq!(days.len(), 1);
    world.restart();
    assert_eq!(world.own().get(&id).unwrap().look.control.n, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_file_a_variant_can_be_taken_back_and_not_promoted() {
    let mut world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let unit = world.unit(&id, Arm::Variant);
    world.spoil_trades();
    assert_eq!(world.value(&unit), "0.003");
    let told = world.own().conditions().await.unwrap();
    let lines = told[0].details.join(" ");
    assert!(lines.contains("nobody looks") && lines.contains("--test-id TEST_1"), "{told:?}");
    assert_eq!(world.conclude(&id, true).await.unwrap_err().code, "EXPERIMENTS_UNAVAILABLE");
    let plan = world.own().plan_conclusion(&id, true).unwrap_err();
    assert_eq!(plan.code, "EXPERIMENTS_UNAVAILABLE");
    world.own().plan_conclusion(&id, false).unwrap();
    world.conclude(&id, false).await.unwrap();
    assert_eq!(world.value(&unit), "0.002");
    world.set("threshold", "0.004").await.unwrap();
    let told = world.own().conditions().await.unwrap();
    assert!(told[0].details.join(" ").contains("no experiment goes on"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_counts_where_the_state_does_not_have_it_yet() {
    let world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let unit = world.unit(&id, Arm::Variant);
    let decide = |how: &str| {
        let at = world.own().now().as_millisecond();
        let ended = Some(Ended { line: 1, at, how: how.to_owned() });
        world.own().live().tallies.get_mut(&1).unwrap().ended = ended;
    };
    decide(plan::PROMOTED);
    assert_eq!(world.value(&unit), "0.003");
    assert_eq!(world.value(&world.unit(&id, Arm::Control)), "0.002", "not before it is noted");
    decide(plan::ROLLED_BACK);
    assert_eq!(world.value(&unit), "0.002");
    assert_eq!(world.own().conditions().await.unwrap(), [], "it takes a moment");
    world.clock.advance(std::time::Duration::from_secs(10));
    let told = world.own().conditions().await.unwrap();
    assert!(told[0].title.contains("can't be noted"), "{told:?}");
    world.own().settle(1).await.unwrap();
    assert_eq!(world.value(&unit), "0.002");
    assert!(world.own().one(&id).unwrap().conclusion.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_failed_and_is_there_all_the_same_is_found() {
    let world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let own = world.own();
    // As where the disk failed after the commit: the state has what the agent does not know of.
    let mut ended = (*own.one(&id).unwrap()).clone();
    let view = own.get(&id).unwrap();
    ended.conclusion = Some(genesis_storage::ConclusionRecord {
        at: own.now(),
        how: plan::PROMOTED.to_owned(),
        forced: true,
        by: "ada".to_owned(),
        reason: "better".to_owned(),
        line: 7,
        tally: hex::encode(view.tally.to_bytes()),
        fleet: Default::default(),
    });
    let intent = Intent::new(own.now(), "ada", "experiments.concluded");
    let writing = ended.clone();
    let record = own.parameters("mm").unwrap()[0].0.clone();
    let record = genesis_storage::ParameterRecord { value: "0.003".to_owned(), ..record };
    let write = move |it: &mut genesis_storage::Writing| {
        it.experiments().put(&writing)?;
        Ok(it.parameters().put_next(record)?)
    };
    world.state.write(intent, write).await.unwrap();
    own.doubtful.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.conclude(&id, false).await.unwrap_err().code, "EXPERIMENT_ENDED");
    assert_eq!(world.value("anybody"), "0.003");
    assert_eq!(world.set("threshold", "0.004").await.unwrap(), 3);
    assert_eq!(own.get(&id).unwrap().state, State::Ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn units_tell_how_they_are_split_where_each_trade_names_one() {
    let mut world = World::new().await;
    let asked = Asked { variant_basis_points: 1_000, ..world.asked() };
    let id = world.create(&asked).await.unwrap();
    // 20 busy accounts, four of which are in the variant: by trades that is 800 to 200 instead of 900 to 100.
    let units = |world: &World, arm, count: usize| -> Vec<String> {
        let all = (0..).map(|number| format!("account-{number}"));
        let of = all.filter(|unit| world.own().assign(&id, unit).unwrap().0 == arm);
        of.take(count).collect()
    };
    let all = [units(&world, Arm::Control, 16), units(&world, Arm::Variant, 4)].concat();
    let trades: Vec<Trade> = (0..1_000)
        .map(|trade| {
            let arm = if trade % 20 < 16 { Arm::Control } else { Arm::Variant };
            (arm, world.normal(1.0))
        })
        .collect();
    let mut column = world.column(&id, &trades);
    column.arms = Vec::new();
    column.units = (0..1_000).map(|trade| all[trade % 20].clone()).collect();
    let answer = world.send_as(1, vec![column.clone()]).await;
    assert_eq!(answer.counted, 1_000);
    let view = world.own().get(&id).unwrap();
    assert_eq!((view.look.control.n, view.look.variant.n), (800, 200));
    assert_eq!(view.tally.units(), Some([16, 4]));
    assert!(view.look.mismatch < 10.0 && view.state != State::Held, "{:?}", view.look);
    world.restart();
    let again = world.own().get(&id).unwrap();
    assert_eq!((again.tally.units(), again.look.mismatch), (Some([16, 4]), view.look.mismatch));
    // Known ones are not new after a restart; one that names none makes trades stand for all.
    let mut more = world.column(&id, &trades[..20]);
    more.arms = Vec::new();
    more.units = all;
    world.send_as(2, vec![more]).await;
    assert_eq!(world.own().get(&id).unwrap().tally.units(), Some([16, 4]));
    let without = world.column(&id, &[(Arm::Control, 1.0)]);
    world.send_as(3, vec![without]).await;
    let view = world.own().get(&id).unwrap();
    assert_eq!((view.tally.units(), view.state), (None, State::Held), "{:?}", view.look);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_was_forgotten_does_not_count_again_whatever_the_clock_says() {
    let mut world = World::new().await;
    let id = world.create(&world.asked()).await.unwrap();
    let trades = world.trades(10, 1.0, 1.0);
    let column = world.column(&id, &trades);
    assert_eq!(world.send_as(1, vec![column.clone()]).await.counted, 20);
    let before = world.own().now();
    world.clock.set(before + SignedDuration::from_hours(24 * 40));
    assert_eq!(world.own().keep_small().await.unwrap(), 1);
    world.clock.set(before);
    let again = world.send_as(2, vec![column.clone()]).await;
    assert_eq!((again.counted, again.late), (0, 20));
    // New ones do.
    let new = world.column(&id, &trades);
    assert_eq!(world.send_as(3, vec![new]).await.counted, 20);
    world.restart();
    assert_eq!(world.own().get(&id).unwrap().look.control.n, 20);
    let early = world.column(&id, &[(Arm::Control, 1.0)]);
    let early = Column { times: vec![column.times[19]], ..early };
    assert_eq!(world.send_as(4, vec![early]).await.late, 1, "the floor is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_is_forgotten_in_the_order_of_its_end() {
    let mut world = World::new().await;
    world.configure("[experiments]\nhistory = \"1\"\n").await;
    for name in ["a", "b", "c"] {
        world.set(name, "1").await.unwrap();
        let trials = vec![(name.to_owned(), "2".to_owned())];
        world.create(&Asked { trials, ..world.asked() }).await.unwrap();
    }
    let trades = world.trades(5, 1.0, 1.0);
    for (minutes, id) in [(1, "TEST_2"), (2, "TEST_1"), (3, "TEST_3")] {
        world.send(id, &trades).await;
        world.clock.set(world.own().now() + SignedDuration::from_mins(minutes));
        world.conclude(id, false).await.unwrap();
    }
    let ids = |world: &World, which| -> Vec<String> {
        let listed = world.own().list("", which, 0).unwrap();
        listed.iter().map(|view| plan::id(view.record.number)).collect()
    };
    assert_eq!(ids(&world, Which::Ended), ["TEST_3", "TEST_1", "TEST_2"]);
    assert_eq!(ids(&world, Which::Running), [""; 0]);
    assert_eq!(world.own().forget().await.unwrap(), 2);
    assert_eq!(ids(&world, Which::All), ["TEST_3"]);
    let gone = world.own().store().unwrap().read(|it| it.tallies()).unwrap();
    assert_eq!(gone.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3]);
    assert_eq!(world.actions("experiments.forgotten").len(), 2);
    world.restart();
    assert_eq!(ids(&world, Which::All), ["TEST_3"]);
    assert_eq!(world.own().get("TEST_1").unwrap_err().code, "EXPERIMENT_NOT_FOUND");
    // No number comes twice.
    assert_eq!(world.create(&world.asked()).await.unwrap(), "TEST_4");
    assert_eq!(world.own().forget().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_of_no_use_once_it_has_ended_and_have_a_bound_before() {
    let mut world = World::new().await;
    world.configure("[experiments]\nmax_ids = \"500\"\n").await;
    let id = world.create(&world.asked()).await.unwrap();
    let trades = world.trades(250, 1.0, 1.0);
    assert_eq!(world.send(&id, &trades).await.counted, 500);
    let column = world.column(&id, &trades[..2]);
    let send = async |world: &World, sequence: u64| {
        let batch = Batch { producer: "p".to_owned(), sequence, columns: vec![column.clone()] };
        let taken = world.own().take(batch, &Stream::default()).await.unwrap();
        taken.await.unwrap()
    };
    let full = send(&world, 2).await.unwrap_err();
    assert_eq!(full.code, "TOO_MANY_TRADES");
    assert!(full.message.contains("500 of them of TEST_1"), "{}", full.message);
    let told = world.own().conditions().await.unwrap();
    assert!(told[0].title.contains("not kept") && told[0].details[0].contains("max_ids"));
    // No stream is begun in vain meanwhile, since each costs an entry in the operation log.
    let begun = world.own().begin("p", ("ada", "")).await.unwrap_err();
    assert_eq!(begun.code, "TOO_MANY_TRADES");
    assert_eq!(world.actions("experiments.stream").len(), 0);
    assert_eq!(world.runs(1), 1);
    world.conclude(&id, false).await.unwrap();
    assert_eq!(world.runs(1), 0);
    assert_eq!(send(&world, 2).await.unwrap().after_end, 2);
    world.sequence = 2;
    assert_eq!(world.own().conditions().await.unwrap(), []);
    // One that a look ends as well.
    let id = world.create(&world.asked()).await.unwrap();
    let harm: Vec<Trade> = (0..200)
        .map(|at| {
            let off = if at % 4 < 2 { 0.25 } else { -0.25 };
            if at % 2 == 0 { (Arm::Control, 1.0 + off) } else { (Arm::Variant, 0.5 + off) }
        })
        .collect();
    assert_eq!(world.send(&id, &harm).await.ended, [2]);
    assert_eq!(world.runs(2), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_can_not_be_read_keeps_no_other_from_going_on() {
    let mut world = World::new().await;
    world.set("size", "10").await.unwrap();
    let id = world.create(&world.asked()).await.unwrap();
    let trials = vec![("size".to_owned(), "20".to_owned())];
    let other = world.create(&Asked { trials, ..world.asked() }).await.unwrap();
    let trades = world.trades(10, 1.0, 1.0);
    world.send(&id, &trades).await;
    world.send(&other, &trades).await;
    world.own().store().unwrap().write(|it| it.put_tally(1, b"{}")).unwrap();
    world.restart();
    let told = world.own().conditions().await.unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].title.contains("TEST_1 can't be read"), "{told:?}");
    assert_eq!(world.own().get(&id).unwrap().state, State::Held);
    let column = world.column(&id, &trades);
    let batch = Batch { producer: "p".to_owned(), sequence: 8, columns: vec![column] };
    let refused = world.own().take(batch, &Stream::default()).await.unwrap().await.unwrap();
    assert_eq!(refused.unwrap_err().code, "STORAGE_RECORD_UNREADABLE");
    world.sequence = 8;
    assert_eq!(world.send(&other, &trades).await.counted, 20);
    assert_eq!(world.own().get(&other).unwrap().look.control.n, 20);
    // It is ended by hand, as ever.
    world.conclude(&id, false).await.unwrap();
}
