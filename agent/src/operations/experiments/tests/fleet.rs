//! Experiments and parameters of a whole fleet, over a coordinator in memory.

use std::sync::Arc;
use std::time::Duration;

use genesis_stats::experiment::Moments;

use super::world::{Trade, World, moment};
use crate::error::Result;
use crate::events::Source;
use crate::operations::experiments::fleet::record::FleetParameter;
use crate::operations::experiments::fleet::{Looking, Told, plan};
use crate::operations::experiments::parameters::Wanted;
use crate::operations::experiments::tally::Arm;
use crate::operations::experiments::verbs::{State, Which};
use crate::outside::Clock;
use crate::outside::coordinator::memory::Memory;

const WHO: (&str, &str) = ("unix:uid=1000(ada)", "a test");
const LOCK: &str = "/genesis/prod/locks/experiments/FLEET_1";
const LOOKS: &str = "/genesis/prod/looks/experiments/0000000001";
const DEFINED: &str = "/genesis/prod/common/experiments/0000000001";

/// A host of a fleet, and what its loops hold.
struct Member {
    world: World,
    told: Told,
    looking: Looking,
}

impl std::ops::Deref for Member {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// A fleet of three.
struct Hosts {
    memory: Memory,
    all: Vec<Member>,
}

fn wanted(value: &str) -> Wanted {
    let (strategy, name) = ("mm".to_owned(), "threshold".to_owned());
    Wanted { strategy, name, value: value.to_owned(), expected: 0 }
}

impl Member {
    async fn new(host: &str, memory: &Memory) -> Self {
        let world = World::in_fleet(host, memory).await;
        Self { world, told: Told::default(), looking: Looking::default() }
    }

    async fn set(&self, value: &str) -> Result<u64> {
        let set = self.own().set_in_fleet(&wanted(value), ("", "set"), WHO).await?;
        Ok(set.fleet.unwrap().version)
    }

    /// Does what the fleet says, as far as this host hears of it.
    async fn settles(&self, memory: &Memory) {
        self.hears(memory).await;
        self.own().settle_fleet().await.unwrap();
    }

    /// Tells what it has tallied.
    async fn tells(&mut self) {
        self.world.clock.advance(Duration::from_secs(2));
        self.world.own().tell_once(&mut self.told).await.unwrap();
    }

    /// Takes a look, if it may come to own the experiment.
    async fn looks(&mut self) {
        for _ in 0..5 {
            self.world.clock.advance(Duration::from_secs(1));
            // So that the lease is kept.
            moment().await;
            self.world.own().look_once(&mut self.looking).await;
        }
    }

    /// What the fleet calls FLEET_1.
    fn here(&self) -> String {
        self.own().one("FLEET_1").map_or_else(|_| String::new(), |record| plan_id(record.number))
    }

    fn how(&self) -> Option<String> {
        self.own().one("FLEET_1").ok()?.conclusion.as_ref().map(|ended| ended.how.clone())
    }

    async fn troubles(&self) -> Vec<&'static str> {
        self.own().fleet_troubles().into_iter().map(|it| it.code).collect()
    }
}

fn plan_id(number: u64) -> String {
    crate::operations::experiments::plan::id(number)
}

impl Hosts {
    /// Where the threshold of mm is the fleet's.
    async fn new() -> Self {
        let memory = Memory::default();
        let mut all = Vec::new();
        for host in ["a", "b", "c"] {
            all.push(Member::new(host, &memory).await);
        }
        let hosts = Self { memory, all };
        assert_eq!(hosts.all[0].set("0.002").await.unwrap(), 1);
        hosts.settle().await;
        hosts
    }

    /// With an experiment.
    async fn trying() -> Self {
        let hosts = Self::new().await;
        // Its number is another one on each host.
        for (at, member) in hosts.all.iter().enumerate() {
            for number in 0..at {
                member.world.set("other", &number.to_string()).await.unwrap();
                let trials = vec![("other".to_owned(), "x".to_owned())];
                let id = member.create(&Asked { trials, ..member.asked() }).await.unwrap();
                member.conclude(&id, false).await.unwrap();
            }
        }
        hosts.all[0].own().create_in_fleet(&hosts.all[0].asked(), "", WHO).await.unwrap();
        hosts.settle().await;
        hosts
    }

    async fn settle(&self) {
        for member in &self.all {
            if member.fleet.is_open() {
                member.settles(&self.memory).await;
            }
        }
    }

    /// Each loses its connection, and makes it anew.
    async fn reconnect(&self) {
        for member in &self.all {
            member.door.shut();
            while member.fleet.is_open() {
                moment().await;
            }
            member.door.open();
            member.connected().await;
        }
    }

    async fn tell(&mut self) {
        for member in &mut self.all {
            member.tells().await;
        }
    }

    /// Who has the lock.
    fn owner(&self) -> Option<usize> {
        let entry = self.memory.get(LOCK)?;
        let holder: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
        self.all.iter().position(|it| holder["host"] == it.fleet.me().host.as_str())
    }

    /// Trades go to the hosts in turn.
    async fn send(&mut self, trades: &[Trade]) {
        let count = self.all.len();
        for (at, member) in self.all.iter_mut().enumerate() {
            let own = trades.chunks(2).skip(at).step_by(count).flatten().copied();
            let own: Vec<Trade> = own.collect();
            member.world.send("FLEET_1", &own).await;
        }
    }

    async fn merged(&self) -> crate::operations::experiments::fleet::view::FleetDetails {
        self.all[0].own().get_of_fleet("FLEET_1").await.unwrap()
    }
}

use crate::operations::experiments::plan::Asked;

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_of_the_fleet_is_set_once_on_each_host_also_on_one_that_was_away() {
    let mut hosts = Hosts::new().await;
    for member in &hosts.all {
        let (record, _) = member.own().parameters("mm").unwrap().remove(0);
        assert_eq!((record.value.as_str(), record.version), ("0.002", 2));
        assert!(record.set_by.ends_with("by the fleet from a"), "{}", record.set_by);
        // The same again changes nothing.
        member.own().settle_fleet().await.unwrap();
        assert_eq!(member.own().parameters("mm").unwrap()[0].0.version, 2);
        let refused = member.world.set("threshold", "9").await.unwrap_err();
        assert_eq!(refused.code, "PARAMETER_OF_FLEET");
        let back = member.own().go_back(("mm", "threshold", 1), "", WHO).await.unwrap_err();
        assert_eq!(back.code, "PARAMETER_OF_FLEET");
        member.world.set("own", "1").await.unwrap();
    }
    // One is away, and its people can't wait.
    hosts.all[2].door.shut();
    while hosts.all[2].fleet.is_open() {
        moment().await;
    }
    assert_eq!(hosts.all[2].world.set("threshold", "0.001").await.unwrap(), 3);
    let wrong = Wanted { expected: 7, ..wanted("0.004") };
    let refused = hosts.all[1].own().set_in_fleet(&wrong, ("", "set"), WHO).await.unwrap_err();
    assert_eq!(refused.code, "PARAMETER_CHANGED");
    // Whether it was done is found out, and it is done once.
    hosts.all[1].door.lose_answers(1);
    let setting = hosts.all[1].set("0.004");
    let connecting = hosts.all[1].reconnects();
    let (set, ()) = tokio::join!(setting, connecting);
    assert_eq!(set.unwrap(), 2);
    hosts.settle().await;
    assert_eq!(hosts.all[0].value("u"), "0.004");
    assert_eq!(hosts.all[2].value("u"), "0.001");
    hosts.all[2].world.restart();
    hosts.all[2].door.open();
    hosts.all[2].connected().await;
    hosts.settle().await;
    assert_eq!(hosts.all[2].value("u"), "0.004", "a newer version than that it has taken over");
    assert_eq!(hosts.all[2].own().parameters("mm").unwrap()[1].0.version, 4);
    // What was set here later than the fleet's stays, and people hear of it.
    hosts.all[2].door.shut();
    while hosts.all[2].fleet.is_open() {
        moment().await;
    }
    hosts.all[2].world.set("threshold", "0.001").await.unwrap();
    hosts.all[2].door.open();
    hosts.all[2].connected().await;
    hosts.settle().await;
    assert_eq!(hosts.all[2].value("u"), "0.001");
    assert_eq!(hosts.all[2].troubles().await, ["PARAMETER_DIFFERS"]);
    let told = hosts.all[2].own().conditions().await.unwrap();
    assert_eq!(told[0].key, "experiments/fleet/differs/mm/threshold");
    let back = hosts.all[0].own().go_back_in_fleet(("mm", "threshold", 0), "", WHO).await.unwrap();
    assert_eq!((back.value.as_str(), back.cause.as_str()), ("0.002", "rolled back"));
    hosts.settle().await;
    assert!(hosts.all.iter().all(|member| member.value("u") == "0.002"));
    assert!(hosts.all[2].troubles().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_hosts_try_the_same_and_decide_as_one_that_has_all_trades() {
    let mut hosts = Hosts::trying().await;
    let ids: Vec<String> = hosts.all.iter().map(Member::here).collect();
    assert_eq!(ids, ["TEST_1", "TEST_2", "TEST_3"]);
    for number in 0..50 {
        let unit = format!("account-{number}");
        let arms = hosts.all.iter().map(|it| it.own().assign("FLEET_1", &unit).unwrap().0);
        let arms: Vec<Arm> = arms.collect();
        assert!(arms.iter().all(|arm| *arm == arms[0]), "{unit}");
    }
    let mut alone = World::new().await;
    let seed = hosts.all[0].own().one("FLEET_1").unwrap().seed.clone();
    alone.create(&Asked { seed, ..alone.asked() }).await.unwrap();
    let mut rounds = 0;
    while alone.own().one("TEST_1").unwrap().conclusion.is_none() {
        rounds += 1;
        assert!(rounds < 60, "it is decided");
        let trades = alone.trades(15, 2.0, 2.6);
        hosts.send(&trades).await;
        alone.send("TEST_1", &trades).await;
        hosts.tell().await;
        let owner = hosts.owner().unwrap_or(0);
        hosts.all[owner].looks().await;
        assert_eq!(
            hosts.owner().is_none(),
            alone.own().one("TEST_1").unwrap().conclusion.is_some()
        );
    }
    hosts.settle().await;
    let (of_all, of_one) = (hosts.merged().await, alone.own().get("TEST_1").unwrap());
    let (found, one) = (of_all.of.view.look, of_one.look);
    assert_eq!((found.control.n, found.variant.n), (one.control.n, one.variant.n));
    let close = |one: f64, other: f64| (one / other - 1.0).abs() < 1e-12;
    assert!(
        close(found.control.mean, one.control.mean) && close(found.variant.mean, one.variant.mean)
    );
    assert!(close(found.lift.value().unwrap(), one.lift.value().unwrap()));
    assert!((found.evidence.p / one.evidence.p - 1.0).abs() < 1e-9, "{found:?} {one:?}");
    assert_eq!(of_all.of.view.curve().len(), of_one.curve().len());
    for member in &hosts.all {
        assert_eq!(member.how().as_deref(), Some("promoted"));
        assert_eq!(member.value("anybody"), "0.003");
        let (record, test) = member.own().parameters("mm").unwrap().pop().unwrap();
        assert_eq!((record.experiment.as_str(), test), ("FLEET_1", None));
        assert_eq!(record.fleet.unwrap().version, 2, "it is the fleet's by now");
        // Each has what all had counted, beside its own.
        let view = member.own().get("FLEET_1").unwrap();
        assert_eq!(view.together.unwrap().trial.view().control.n, one.control.n);
        assert_eq!(view.look.control.n, one.control.n / 3);
    }
    // It may be tried again, under another name.
    let again =
        Asked { trials: vec![("threshold".to_owned(), "0.004".to_owned())], ..alone.asked() };
    let view = hosts.all[1].own().create_in_fleet(&again, "", WHO).await.unwrap();
    assert_eq!(view.record.fleet, "FLEET_2");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_frozen_writes_nothing_and_the_next_goes_on_with_the_looks() {
    let mut hosts = Hosts::trying().await;
    let mut source = World::new().await;
    let first = source.trades(60, 2.0, 2.1);
    hosts.send(&first).await;
    hosts.tell().await;
    hosts.all[1].looks().await;
    assert_eq!(hosts.owner(), Some(1));
    // Somebody else does not even try while the owner lives.
    hosts.all[0].hears(&hosts.memory).await;
    hosts.all[0].looks().await;
    assert_eq!(hosts.owner(), Some(1));
    let looked = hosts.memory.get(LOOKS).unwrap();
    // Nothing came in: no look.
    hosts.all[1].looks().await;
    assert_eq!(hosts.memory.get(LOOKS).unwrap(), looked);
    // It is frozen past the end of its lease, in the middle of things.
    hosts.memory.end_lease_of(LOCK);
    hosts.all[0].hears(&hosts.memory).await;
    hosts.all[0].looks().await;
    assert_eq!(hosts.owner(), Some(0));
    assert_eq!(hosts.memory.get(LOOKS).unwrap(), looked, "the same trades are looked at once");
    let second = source.trades(60, 2.0, 2.1);
    hosts.send(&second).await;
    for at in [0, 2] {
        hosts.all[at].tells().await;
    }
    // It wakes up, and believes that it is the owner still.
    let frozen = &mut hosts.all[1];
    frozen.world.own().look_frozen(&mut frozen.looking).await;
    assert_eq!(hosts.memory.get(LOOKS).unwrap(), looked, "it is refused");
    hosts.all[1].tells().await;
    hosts.all[0].looks().await;
    let after = hosts.memory.get(LOOKS).unwrap();
    assert!(after.modified > looked.modified);
    // As if one had taken both looks.
    let mut same = Hosts::trying().await;
    for trades in [&first, &second] {
        same.send(trades).await;
        same.tell().await;
        same.all[2].looks().await;
    }
    let state = |hosts: &crate::operations::experiments::fleet::view::FleetDetails| {
        (hosts.of.view.look.evidence, hosts.of.view.look.information.to_bits())
    };
    assert_eq!(state(&hosts.merged().await), state(&same.merged().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lock_allows_is_refused_by_its_token() {
    let hosts = Hosts::new().await;
    let key = || "x".to_owned();
    let put = |value: &str| crate::outside::coordinator::Act::Put {
        key: key(),
        value: value.as_bytes().to_vec(),
        lease: 0,
    };
    let first = hosts.all[0].fleet.take("test", "it").await.unwrap().unwrap();
    assert!(first.change(&[], &[put("first")]).await.unwrap().is_some());
    // Its lease is its own still, so that nothing but the token tells.
    hosts.memory.delete("/genesis/prod/locks/test");
    let second = hosts.all[1].fleet.take("test", "it").await.unwrap().unwrap();
    assert!(second.token() > first.token());
    assert_eq!(first.change(&[], &[put("late")]).await.unwrap(), None);
    assert_eq!(hosts.memory.get("x").unwrap().value, b"first");
    assert!(second.change(&[], &[put("second")]).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_can_not_begin_it_says_why_and_does_not_count() {
    let mut hosts = Hosts::new().await;
    hosts.all[2].door.shut();
    while hosts.all[2].fleet.is_open() {
        moment().await;
    }
    hosts.all[2].world.set("threshold", "0.009").await.unwrap();
    let plan = hosts.all[0].own().plan_fleet_creation(&hosts.all[0].asked()).await.unwrap();
    assert!(plan.steps[0].reason.contains("every host of fleet prod"), "{plan:?}");
    let asked = hosts.all[0].asked();
    hosts.all[0].own().create_in_fleet(&asked, &plan.hash, WHO).await.unwrap();
    let again = hosts.all[1].own().create_in_fleet(&asked, "", WHO).await.unwrap_err();
    assert_eq!(again.code, "PARAMETER_IN_TEST");
    hosts.all[1].settles(&hosts.memory).await;
    assert_eq!(hosts.all[1].set("7").await.unwrap_err().code, "PARAMETER_IN_TEST");
    hosts.all[2].door.open();
    hosts.all[2].connected().await;
    hosts.settle().await;
    hosts.tell().await;
    assert_eq!(hosts.all[2].here(), "");
    assert_eq!(hosts.all[2].troubles().await, ["EXPERIMENT_NOT_BEGUN", "PARAMETER_DIFFERS"]);
    let shown = hosts.merged().await;
    let rows: Vec<(&str, &str)> =
        shown.hosts.iter().map(|it| (it.host.as_str(), it.trouble())).collect();
    let why = "threshold of mm is \"0.009\" here and not \"0.002\"";
    assert_eq!(rows, [("c", why), ("a", ""), ("b", "")]);
    let listed = hosts.all[2].own().list_fleet("", Which::Running, 0).await.unwrap();
    assert_eq!((listed[0].refused.as_str(), listed[0].here.is_none()), (why, true));
    // Once it can, it does.
    hosts.all[2].door.shut();
    while hosts.all[2].fleet.is_open() {
        moment().await;
    }
    hosts.all[2].world.set("threshold", "0.002").await.unwrap();
    hosts.all[2].door.open();
    hosts.all[2].connected().await;
    hosts.settle().await;
    assert_eq!(hosts.all[2].here(), "TEST_1");
    assert!(hosts.all[2].troubles().await.is_empty());
    for asked in [
        Asked { owner: "fleet:FLEET_9".to_owned(), ..hosts.all[0].asked() },
        Asked { owner: "x".to_owned(), ..hosts.all[0].asked() },
    ] {
        let refused = hosts.all[0].own().create_in_fleet(&asked, "", WHO).await.unwrap_err();
        assert_eq!(refused.code, "EXPERIMENT_INVALID");
    }
    hosts.all[0].world.set("own", "1").await.unwrap();
    let own = Asked { trials: vec![("own".to_owned(), "2".to_owned())], ..asked };
    let refused = hosts.all[0].own().create_in_fleet(&own, "", WHO).await.unwrap_err();
    assert_eq!(refused.code, "PARAMETER_NOT_OF_FLEET");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_emergency_a_promotion_waits_and_a_loss_is_rolled_back_everywhere() {
    use std::sync::atomic::Ordering;

    for (mean, how) in [(2.9, "promoted"), (0.5, "rolled back")] {
        let mut hosts = Hosts::trying().await;
        hosts.all[0].emergency.store(true, Ordering::Relaxed);
        // One is away, and hears of it later.
        hosts.all[2].door.shut();
        let mut source = World::new().await;
        let trades = source.trades(360, 2.0, mean);
        hosts.send(&trades).await;
        for at in [0, 1] {
            hosts.all[at].tells().await;
        }
        hosts.all[0].looks().await;
        hosts.all[1].settles(&hosts.memory).await;
        let waits = how == "promoted";
        assert_eq!(hosts.all[1].how().is_none(), waits, "{how}");
        let by_hand = hosts.all[0].own().conclude_in_fleet("FLEET_1", true, "", WHO).await;
        assert_eq!(by_hand.unwrap_err().code, "EMERGENCY");
        hosts.all[0].emergency.store(false, Ordering::Relaxed);
        hosts.all[0].looks().await;
        hosts.all[1].settles(&hosts.memory).await;
        assert_eq!(hosts.all[1].how().as_deref(), Some(how));
        assert_eq!(hosts.all[2].how(), None);
        hosts.all[2].door.open();
        hosts.all[2].connected().await;
        hosts.settle().await;
        let value = if waits { "0.003" } else { "0.002" };
        for member in &hosts.all {
            assert_eq!((member.how().as_deref(), member.value("u")), (Some(how), value.to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_promotion_slips_behind_an_emergency_of_the_fleet() {
    let mut hosts = Hosts::trying().await;
    let mut source = World::new().await;
    let trades = source.trades(360, 2.0, 2.9);
    hosts.send(&trades).await;
    hosts.tell().await;
    // Declared, and the owner has not heard of it.
    let before = hosts.all[0].own().plan_fleet_conclusion("FLEET_1", true).await;
    before.unwrap();
    let guard = hosts.all[0].fleet.no_emergency().unwrap();
    hosts.memory.put("/genesis/prod/common/emergency", "{}");
    let made = hosts.all[0].fleet.change(&[guard], &[]).await.unwrap();
    assert_eq!(made, None);
    // Once it has, there is nothing that could be guarded, also where it can't be read.
    hosts.all[0].hears(&hosts.memory).await;
    assert!(hosts.all[0].fleet.no_emergency().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn by_hand_it_ends_in_the_whole_fleet_or_on_a_host_that_has_lost_it() {
    let mut hosts = Hosts::trying().await;
    let mut source = World::new().await;
    let trades = source.trades(30, 1.0, 1.0);
    hosts.send(&trades).await;
    hosts.tell().await;
    for promote in [true, false] {
        let alone = hosts.all[1].conclude("FLEET_1", promote).await.unwrap_err();
        assert_eq!(alone.code, "EXPERIMENT_OF_FLEET");
    }
    hosts.all[2].door.shut();
    while hosts.all[2].fleet.is_open() {
        moment().await;
    }
    assert_eq!(
        hosts.all[2].conclude("FLEET_1", true).await.unwrap_err().code,
        "EXPERIMENT_OF_FLEET"
    );
    hosts.all[2].conclude("FLEET_1", false).await.unwrap();
    hosts.all[2].door.open();
    hosts.all[2].connected().await;
    hosts.settle().await;
    hosts.tell().await;
    let shown = hosts.merged().await;
    assert!(shown.hosts.iter().any(|it| it.host == "c" && it.share.as_ref().unwrap().left));
    assert_eq!((shown.of.view.state, shown.of.view.look.control.n), (State::Running, 30));
    let own = hosts.all[1].own();
    let missing = own.conclude_in_fleet("FLEET_1", true, "", ("ada", " ")).await.unwrap_err();
    assert_eq!(missing.code, "REASON_MISSING");
    let plan = own.plan_fleet_conclusion("FLEET_1", true).await.unwrap();
    let ended = own.conclude_in_fleet("FLEET_1", true, &plan.hash, WHO).await.unwrap();
    assert!(ended.view.record.conclusion.as_ref().unwrap().forced);
    hosts.settle().await;
    let ends: Vec<_> = hosts.all.iter().map(Member::how).collect();
    let ends: Vec<&str> = ends.iter().map(|how| how.as_deref().unwrap()).collect();
    assert_eq!(ends, ["promoted", "promoted", "rolled back"]);
    // The value is everybody's all the same.
    assert!(hosts.all.iter().all(|member| member.value("u") == "0.003"));
    let again = hosts.all[0].own().conclude_in_fleet("FLEET_1", false, "", WHO).await.unwrap_err();
    assert_eq!(again.code, "EXPERIMENT_ENDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_forgot_is_told_of_an_end_and_what_it_never_knew_is_taken_back() {
    let hosts = Hosts::new().await;
    let before = hosts.memory.snapshot();
    hosts.all[0].own().create_in_fleet(&hosts.all[0].asked(), "", WHO).await.unwrap();
    hosts.settle().await;
    let running = hosts.memory.snapshot();
    hosts.all[0].own().conclude_in_fleet("FLEET_1", false, "", WHO).await.unwrap();
    hosts.settle().await;
    // Put back to before the end: it has ended all the same.
    hosts.memory.restore(&running);
    hosts.reconnect().await;
    hosts.settle().await;
    let text = String::from_utf8(hosts.memory.get(DEFINED).unwrap().value).unwrap();
    assert!(text.contains("\"how\":\"rolled back\""), "{text}");
    // Another one begins, and the fleet is put back to before all of that: nobody would look at it.
    hosts.all[0].own().create_in_fleet(&hosts.all[0].asked(), "", WHO).await.unwrap();
    hosts.settle().await;
    assert!(hosts.all[1].own().one("FLEET_2").unwrap().conclusion.is_none());
    hosts.memory.restore(&before);
    hosts.reconnect().await;
    hosts.settle().await;
    for member in &hosts.all {
        let record = member.own().one("FLEET_2").unwrap();
        let ended = record.conclusion.as_ref().unwrap();
        assert_eq!((ended.how.as_str(), ended.fleet.is_none()), ("rolled back", true));
        assert!(ended.reason.contains("does not know it"), "{}", ended.reason);
    }
    // No name comes twice.
    let next = hosts.all[2].own().create_in_fleet(&hosts.all[2].asked(), "", WHO).await.unwrap();
    assert_eq!(next.record.fleet, "FLEET_3");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_later_stays_where_the_fleet_forgot_it_whatever_the_clocks_say() {
    let hosts = Hosts::new().await;
    let before = hosts.memory.snapshot();
    // By a host whose clock is behind that of the one before.
    let behind = &hosts.all[1];
    behind.clock.set(behind.clock.now() - jiff::SignedDuration::from_hours(1));
    assert_eq!(behind.set("0.003").await.unwrap(), 2);
    hosts.settle().await;
    hosts.memory.restore(&before);
    hosts.reconnect().await;
    hosts.settle().await;
    for member in &hosts.all {
        assert_eq!(member.value("u"), "0.003");
    }
    // The fleet knows it again, for those that never heard of it.
    let known = || {
        let key = hosts.memory.keys("/genesis/prod/common/parameters/mm/").pop().unwrap();
        let entry = hosts.memory.get(&key).unwrap();
        serde_json::from_slice::<FleetParameter>(&entry.value).unwrap()
    };
    assert_eq!((known().value.as_str(), known().version), ("0.003", 2));
    // Also where it is set anew by a third one, on which the count goes on.
    assert_eq!(hosts.all[2].set("0.004").await.unwrap(), 3);
    hosts.settle().await;
    for member in &hosts.all {
        assert_eq!(member.value("u"), "0.004");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tally_that_comes_in_late_does_not_replace_a_newer_one() {
    let mut hosts = Hosts::trying().await;
    let mut source = World::new().await;
    let trades = source.trades(30, 1.0, 1.0);
    let (early, rest) = trades.split_at(10);
    let member = &mut hosts.all[1];
    member.world.send("FLEET_1", early).await;
    // What it tells is on its way for long.
    member.door.delay("/genesis/prod/tallies/");
    member.world.clock.advance(Duration::from_secs(2));
    let (own, mut told) = (Arc::clone(member.own()), std::mem::take(&mut member.told));
    let telling = tokio::spawn(async move { (own.tell_once(&mut told).await.map(drop), told) });
    while member.door.delayed() == 0 {
        moment().await;
    }
    member.door.shut();
    while !telling.is_finished() {
        member.world.clock.advance(Duration::from_millis(500));
        moment().await;
    }
    let (said, told) = telling.await.unwrap();
    assert_eq!(said.unwrap_err().code, "FLEET_UNREACHABLE");
    member.told = told;
    member.door.open();
    member.connected().await;
    member.world.send("FLEET_1", rest).await;
    member.tells().await;
    let key = hosts.memory.keys("/genesis/prod/tallies/").pop().unwrap();
    let newer = hosts.memory.get(&key).unwrap().value;
    hosts.all[1].door.deliver();
    assert_eq!(hosts.memory.get(&key).unwrap().value, newer);
    // And it goes on from there.
    let more = source.trades(10, 1.0, 1.0);
    hosts.all[1].world.send("FLEET_1", &more).await;
    hosts.all[1].tells().await;
    assert_ne!(hosts.memory.get(&key).unwrap().value, newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_anew_after_the_fleet_forgot_stays_though_who_knows_the_other_comes_back() {
    let hosts = Hosts::new().await;
    let before = hosts.memory.snapshot();
    let [ahead, late] = [&hosts.all[0], &hosts.all[2]];
    late.door.shut();
    while late.fleet.is_open() {
        moment().await;
    }
    ahead.clock.advance(Duration::from_secs(3_600));
    assert_eq!(ahead.set("0.003").await.unwrap(), 2);
    // It is put back, and a host that never heard of that sets another one, by a clock that is behind, while the others are
    // away.
    for member in &hosts.all[..2] {
        member.door.shut();
        while member.fleet.is_open() {
            moment().await;
        }
    }
    hosts.memory.restore(&before);
    late.door.open();
    late.connected().await;
    assert_eq!(late.set("0.005").await.unwrap(), 2);
    for member in &hosts.all[..2] {
        member.door.open();
        member.connected().await;
    }
    hosts.settle().await;
    for member in &hosts.all {
        assert_eq!(member.value("u"), "0.005");
        assert_eq!(member.troubles().await, Vec::<&str>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_fleet_does_not_know_at_all_is_told_to_people() {
    let hosts = Hosts::new().await;
    let key = hosts.memory.keys("/genesis/prod/common/parameters/mm/").pop().unwrap();
    hosts.memory.delete(&key);
    hosts.settle().await;
    for member in &hosts.all {
        assert_eq!(member.troubles().await, ["PARAMETER_DIFFERS"]);
    }
    // What was used is not used again.
    assert_eq!(hosts.all[0].set("0.003").await.unwrap(), 2);
    hosts.settle().await;
    for member in &hosts.all {
        assert_eq!((member.value("u").as_str(), member.troubles().await.len()), ("0.003", 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_the_fleet_forgot_is_told_again_with_its_values() {
    const THRESHOLD: &str = "/genesis/prod/common/parameters/mm/threshold";
    let mut hosts = Hosts::trying().await;
    let mut source = World::new().await;
    let trades = source.trades(30, 1.0, 1.0);
    hosts.send(&trades).await;
    hosts.tell().await;
    hosts.settle().await;
    let running = hosts.memory.snapshot();
    hosts.all[0].own().conclude_in_fleet("FLEET_1", true, "", WHO).await.unwrap();
    hosts.settle().await;
    hosts.memory.restore(&running);
    hosts.reconnect().await;
    hosts.settle().await;
    let kept = |key: &str| String::from_utf8(hosts.memory.get(key).unwrap().value).unwrap();
    assert!(kept(DEFINED).contains("\"how\":\"promoted\""), "{}", kept(DEFINED));
    assert!(kept(THRESHOLD).contains("\"value\":\"0.003\""), "{}", kept(THRESHOLD));
    hosts.settle().await;
    for member in &hosts.all {
        assert_eq!(member.troubles().await, Vec::<&str>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_ended_it_alone_owns_it_no_more() {
    let mut hosts = Hosts::trying().await;
    for member in &mut hosts.all {
        member.looks().await;
    }
    let first = hosts.owner().unwrap();
    hosts.all[first].door.shut();
    while hosts.all[first].fleet.is_open() {
        moment().await;
    }
    hosts.all[first].conclude("FLEET_1", false).await.unwrap();
    hosts.all[first].door.open();
    hosts.all[first].connected().await;
    // Its lease has not ended, and all the same the others take the looks from here on.
    hosts.all[first].looks().await;
    hosts.settle().await;
    let other = (first + 1) % 3;
    hosts.all[other].looks().await;
    hosts.all[other].hears(&hosts.memory).await;
    hosts.all[other].looks().await;
    assert_eq!(hosts.owner(), Some(other));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_promoted_by_hand_behind_an_emergency_of_the_fleet() {
    let mut hosts = Hosts::trying().await;
    let mut source = World::new().await;
    let trades = source.trades(30, 1.0, 1.0);
    hosts.send(&trades).await;
    hosts.tell().await;
    // Whether this host has heard of it or not.
    hosts.memory.put("/genesis/prod/common/emergency", "{}");
    let refused = hosts.all[0].own().conclude_in_fleet("FLEET_1", true, "", WHO).await;
    assert_eq!(refused.err().unwrap().code, "FLEET_CONFLICT");
    assert!(hosts.all.iter().all(|member| member.how().is_none()));
    // Back is always safe.
    hosts.all[0].own().conclude_in_fleet("FLEET_1", false, "", WHO).await.unwrap();
}

#[tokio::test]
async fn a_value_that_another_host_has_set_meanwhile_is_not_overwritten() {
    const THRESHOLD: &str = "/genesis/prod/common/parameters/mm/threshold";
    let hosts = Hosts::new().await;
    let text = String::from_utf8(hosts.memory.get(THRESHOLD).unwrap().value).unwrap();
    let theirs = text.replace("0.002", "0.005").replace("\"version\":1", "\"version\":2");
    assert_ne!(theirs, text);
    hosts.memory.put(THRESHOLD, &theirs);
    // Not heard of yet.
    let refused = hosts.all[0].set("0.004").await.unwrap_err();
    assert_eq!(refused.code, "FLEET_CONFLICT");
    assert_eq!(hosts.memory.get(THRESHOLD).unwrap().value, theirs.as_bytes());
    hosts.settle().await;
    assert_eq!(hosts.all[0].set("0.004").await.unwrap(), 3);
}

#[test]
fn moments_of_many_hosts_are_those_of_one() {
    use proptest::prelude::*;

    let values = prop::collection::vec((-1e6..1e6_f64, 0..7_usize), 2..400);
    proptest!(|(values in values)| {
        let all: Moments = values.iter().map(|(value, _)| *value).collect();
        let mut sum = Moments::new();
        for host in 0..7 {
            let own = values.iter().filter(|(_, of)| *of == host).map(|(value, _)| *value);
            sum.merge(&own.collect());
        }
        let (one, many) = (all.parts(), sum.parts());
        prop_assert_eq!(one.n, many.n);
        let scale = values.iter().map(|(value, _)| value.abs()).fold(1.0, f64::max);
        prop_assert!((all.mean() - sum.mean()).abs() <= 1e-12 * scale);
        prop_assert!((one.m2 - many.m2).abs() <= 1e-12 * one.m2.max(scale * scale * one.n as f64));
        let cubes = scale * scale * scale * one.n as f64;
        prop_assert!((one.m3 - many.m3).abs() <= 1e-12 * cubes);
    });
    assert_eq!(plan::number("FLEET_7"), Some(7));
}
