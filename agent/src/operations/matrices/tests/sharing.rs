//! Stories: one host publishes, others follow.

use std::sync::Arc;
use std::time::Duration;

use super::world::{WHO, World};
use crate::operations::matrices::plan;
use crate::operations::matrices::sharing::acks::{Acked, State};
use crate::outside::coordinator::memory::Memory;

const NAMES: [&str; 4] = ["BTC", "ETH", "SOL", "XRP"];
const LOADINGS: [f64; 4] = [0.9, 0.8, 0.7, 0.6];
/// Three days; what is valid is in force at once.
const PUBLISHES: &str =
    "[matrices]\nwindow = \"3d\"\nfleet = \"publish\"\n[matrices.rollout]\nstages = [\"100%\"]";
const FOLLOWS: &str = "[matrices]\nfleet = \"follow\"\n[matrices.rollout]\noutcomes = \"100\"";
const POINTER: &str = "/genesis/prod/common/matrices/current";

async fn publisher(fleet: &Memory) -> World {
    let mut world = World::member("a", PUBLISHES, fleet).await;
    world.prices(800, &NAMES, &LOADINGS).await;
    put_into_force(&mut world).await;
    world
}

/// The next version, of prices that came since.
async fn put_into_force(world: &mut World) {
    world.days(1);
    world.prices(200, &NAMES, &LOADINGS).await;
    let made = world.update().await.unwrap();
    assert_eq!(made.state, plan::ACTIVE);
    world.own().share_once().await.unwrap();
}

/// It has heard of what is published, and has done its part.
async fn follow(world: &World, fleet: &Memory) {
    let mut changed = world.fleet().follow();
    while world.fleet().known(POINTER) != fleet.get(POINTER) {
        changed.changed().await.unwrap();
    }
    world.own().share_once().await.unwrap();
    // A small fleet waits some milliseconds.
    world.clock.advance(Duration::from_secs(1));
    world.own().share_once().await.unwrap();
}

async fn of(world: &World, name: &str) -> Acked {
    let of_fleet = world.own().of_fleet().await.unwrap();
    of_fleet.hosts.into_iter().find(|it| it.ack.host == name).unwrap()
}

async fn said(world: &World, name: &str) -> (u64, State, u64) {
    let ack = of(world, name).await.ack;
    (ack.number, ack.state, ack.version)
}

async fn digest(world: &World) -> String {
    world.own().of_consumer("").unwrap().digest.clone()
}

#[tokio::test]
async fn what_one_host_puts_into_force_all_take() {
    let fleet = Memory::default();
    let mut a = publisher(&fleet).await;
    let b = World::member("b", FOLLOWS, &fleet).await;
    assert_eq!(b.own().plan_update(false).await.unwrap_err().code, "MATRIX_FOLLOWED");
    // The first is in force at once; as it was calculated, and by whom.
    follow(&b, &fleet).await;
    assert_eq!(digest(&b).await, digest(&a).await);
    let first = b.own().version(1).unwrap();
    assert_eq!((first.cause.as_str(), first.fleet, first.series), ("the fleet", 1, 4));
    assert!(first.by.ends_with("by the fleet from a"), "{}", first.by);
    assert_eq!(first.criteria.len(), 8);
    assert_eq!(first.calculated_at, a.own().version(1).unwrap().calculated_at);
    assert_eq!(said(&a, "a").await, (1, State::InForce, 1));
    assert_eq!(said(&a, "b").await, (1, State::InForce, 1));
    // The next is tried first, by its own consumers, while the publisher has it in force.
    put_into_force(&mut a).await;
    follow(&b, &fleet).await;
    let ack = of(&a, "b").await;
    assert_eq!((ack.ack.state, ack.ack.percent, ack.alive), (State::RollingOut, 10, true));
    // Another one has to wait for that; and only the newest is taken then.
    put_into_force(&mut a).await;
    put_into_force(&mut a).await;
    follow(&b, &fleet).await;
    assert_eq!(said(&a, "b").await, (4, State::Waiting, 0));
    for _ in 0..4 {
        b.own().advance("", WHO).await.unwrap();
    }
    follow(&b, &fleet).await;
    assert_eq!(said(&a, "b").await, (4, State::RollingOut, 3));
    assert_eq!(b.own().version(3).unwrap().fleet, 4);
    assert!(b.told().await.is_empty() && a.told().await.is_empty());
}

#[tokio::test]
async fn a_host_whose_consumers_fail_goes_back_by_itself_and_says_so() {
    let fleet = Memory::default();
    let mut a = publisher(&fleet).await;
    let mut b = World::member("b", FOLLOWS, &fleet).await;
    follow(&b, &fleet).await;
    put_into_force(&mut a).await;
    follow(&b, &fleet).await;
    for _ in 0..40 {
        b.outcomes(60, |version, noise| noise - if version == 2 { 3.0 } else { 0.0 }).await;
        if b.own().canary().is_none() {
            break;
        }
    }
    assert_eq!(b.state_of(2), plan::ROLLED_BACK);
    follow(&b, &fleet).await;
    let ack = of(&a, "b").await.ack;
    assert_eq!((ack.number, ack.state, ack.version), (2, State::RolledBack, 2));
    assert!(ack.why.starts_with("system:matrices: "), "{}", ack.why);
    // It is not taken again, also after a restart.
    b.restart().await;
    let b = reconnected(b).await;
    follow(&b, &fleet).await;
    assert_eq!(b.own().versions().len(), 2);
    assert_eq!(said(&a, "b").await, (2, State::RolledBack, 2));
    // What the publisher goes back to is taken at once. b has it in force already.
    a.own().rollback(0, "", WHO).await.unwrap();
    a.own().share_once().await.unwrap();
    follow(&b, &fleet).await;
    assert_eq!(said(&a, "b").await, (3, State::InForce, 1));
}

async fn reconnected(world: World) -> World {
    let mut changed = world.fleet().follow();
    while !world.fleet().is_open() {
        changed.changed().await.unwrap();
    }
    world
}

#[tokio::test]
async fn the_way_back_of_the_publisher_is_that_of_all_at_once() {
    let fleet = Memory::default();
    let mut a = publisher(&fleet).await;
    let (b, c) =
        (World::member("b", FOLLOWS, &fleet).await, World::member("c", FOLLOWS, &fleet).await);
    follow(&b, &fleet).await;
    put_into_force(&mut a).await;
    // b tries it, c has it in force without ever having had the one before.
    follow(&b, &fleet).await;
    follow(&c, &fleet).await;
    assert_eq!(said(&a, "b").await, (2, State::RollingOut, 2));
    assert_eq!(said(&a, "c").await, (2, State::InForce, 1));
    // Also in an emergency: it keeps nobody from going back.
    let emergency = c.own().runs.emergency().clone();
    emergency.activate("ada", "feed", "").await.unwrap();
    a.own().rollback(0, "", WHO).await.unwrap();
    a.own().share_once().await.unwrap();
    for world in [&b, &c] {
        follow(world, &fleet).await;
        assert_eq!(digest(world).await, digest(&a).await);
        assert!(world.own().canary().is_none());
    }
    assert_eq!(said(&a, "b").await, (3, State::InForce, 1));
    assert_eq!(said(&a, "c").await, (3, State::InForce, 2));
    assert_eq!(c.state_of(1), plan::ROLLED_BACK);
    // A new one has to wait for the end of the emergency.
    put_into_force(&mut a).await;
    follow(&c, &fleet).await;
    let ack = of(&a, "c").await.ack;
    assert_eq!((ack.number, ack.state), (4, State::Waiting));
    assert!(ack.why.contains("emergency"), "{}", ack.why);
    emergency.release("ada", "well", "").await.unwrap();
    follow(&c, &fleet).await;
    assert_eq!(said(&a, "c").await, (4, State::RollingOut, 3));
    // Somebody who goes back on one host is not overruled by what the fleet has.
    c.own().abort("", WHO).await.unwrap();
    follow(&c, &fleet).await;
    assert_eq!(said(&a, "c").await, (4, State::RolledBack, 3));
    assert_eq!(c.own().versions().len(), 3);
}

#[tokio::test]
async fn a_content_that_was_damaged_is_refused_until_it_is_mended() {
    let fleet = Memory::default();
    let mut a = publisher(&fleet).await;
    let b = World::member("b", FOLLOWS, &fleet).await;
    follow(&b, &fleet).await;
    put_into_force(&mut a).await;
    let part = format!("/genesis/prod/matrices/versions/{:020}/0000", 2);
    let sound = fleet.get(&part).unwrap();
    fleet.put(&part, "not what was published");
    follow(&b, &fleet).await;
    let ack = of(&a, "b").await.ack;
    assert_eq!((ack.number, ack.state), (2, State::Refused));
    assert!(ack.why.contains("damaged"), "{}", ack.why);
    assert_eq!(b.told().await, ["matrices/fleet/refused"]);
    assert_eq!(b.own().versions().len(), 1);
    fleet.delete(&part);
    b.clock.advance(Duration::from_secs(61));
    follow(&b, &fleet).await;
    assert!(of(&a, "b").await.ack.why.contains("part 0 of 1 is not there"));
    fleet.put(&part, &sound.value);
    b.clock.advance(Duration::from_secs(61));
    follow(&b, &fleet).await;
    assert_eq!(said(&a, "b").await, (2, State::RollingOut, 2));
    assert!(b.told().await.is_empty());
    // A pointer that nobody can read changes nothing, and the next version mends it.
    fleet.put(POINTER, "{");
    follow(&b, &fleet).await;
    assert_eq!(said_by_key(&fleet, "id-of-b"), "refused");
    a.own().of_fleet().await.unwrap_err();
    put_into_force(&mut a).await;
    assert_eq!(a.own().of_fleet().await.unwrap().versions[0].number, 3);
}

fn said_by_key(fleet: &Memory, host_id: &str) -> String {
    let entry = fleet.get(&format!("/genesis/prod/acks/matrices/{host_id}")).unwrap();
    let ack: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
    ack["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_a_host_said_before_and_comes_in_late_does_not_count() {
    let fleet = Memory::default();
    let a = publisher(&fleet).await;
    let b = World::member("b", FOLLOWS, &fleet).await;
    let mut changed = b.fleet().follow();
    while b.fleet().known(POINTER) != fleet.get(POINTER) {
        changed.changed().await.unwrap();
    }
    // That it waits for its turn is on its way for long.
    b.door().delay("/genesis/prod/acks/");
    let own = Arc::clone(b.own());
    let saying = tokio::spawn(async move { own.share_once().await });
    while b.door().delayed() == 0 {
        tokio::task::yield_now().await;
    }
    b.door().shut();
    assert_eq!(saying.await.unwrap().unwrap_err().code, "FLEET_UNREACHABLE");
    b.door().open();
    while !b.fleet().is_open() {
        b.clock.advance(Duration::from_millis(50));
        tokio::task::yield_now().await;
    }
    follow(&b, &fleet).await;
    assert_eq!(said(&a, "b").await, (1, State::InForce, 1));
    b.door().deliver();
    assert_eq!(said(&a, "b").await, (1, State::InForce, 1));
}

#[tokio::test]
async fn a_publisher_that_lost_its_lock_changes_nothing() {
    let fleet = Memory::default();
    let mut a = publisher(&fleet).await;
    let mut b = World::member("b", PUBLISHES, &fleet).await;
    b.days(2);
    b.prices(800, &NAMES, &LOADINGS).await;
    // a has something new, and is frozen with the lock in its hands.
    a.days(1);
    a.prices(200, &NAMES, &LOADINGS).await;
    a.update().await.unwrap();
    let active = plan::in_state(&a.own().versions(), plan::ACTIVE).cloned().unwrap();
    let held = a.fleet().take("matrices", "a test").await.unwrap().unwrap();
    b.update().await.unwrap();
    assert_eq!(b.own().share_once().await.unwrap_err().code, "FLEET_HELD");
    fleet.end_lease_of("/genesis/prod/locks/matrices");
    let before = fleet.revision();
    let newer = b.fleet().take("matrices", "a test").await.unwrap().unwrap();
    let refused = a.own().publish_under(&held, &active).await;
    assert_eq!(refused.unwrap_err().code, "FENCED");
    assert_eq!(fleet.revision(), before + 1, "nothing but the lock that b took");
    newer.give_back().await;
    // What b publishes is the fleet's then, and a does not take that back when it wakes.
    b.own().share_once().await.unwrap();
    let now = fleet.get(POINTER).unwrap();
    assert_eq!(a.own().publish_under(&held, &active).await.unwrap(), None);
    assert_eq!(fleet.get(POINTER).unwrap(), now);
    let published = b.own().of_fleet().await.unwrap().versions;
    assert_eq!((published[0].number, published[0].host.as_str()), (2, "b"));
    assert_eq!(fleet.keys("/genesis/prod/matrices/versions/").len(), 2);
}

#[tokio::test]
async fn only_the_last_versions_are_kept_and_a_fleet_that_forgot_is_told_anew() {
    let fleet = Memory::default();
    let mut a = publisher(&fleet).await;
    let b = World::member("b", FOLLOWS, &fleet).await;
    follow(&b, &fleet).await;
    for _ in 0..6 {
        put_into_force(&mut a).await;
    }
    let keys = fleet.keys("/genesis/prod/matrices/versions/");
    assert_eq!(keys.len(), 5, "{keys:?}");
    assert!(keys[0].contains(&format!("{:020}", 3)), "{keys:?}");
    assert_eq!(a.own().of_fleet().await.unwrap().versions.len(), 5);
    // etcd has lost everything: what is in force is published anew, under a number that nobody knows yet.
    for key in fleet.keys("/genesis/prod/") {
        if !key.contains("/members/") {
            fleet.delete(&key);
        }
    }
    let mut changed = a.fleet().follow();
    while a.fleet().known(POINTER).is_some() {
        changed.changed().await.unwrap();
    }
    a.own().share_once().await.unwrap();
    assert_eq!(a.own().of_fleet().await.unwrap().versions[0].number, 8);
    follow(&b, &fleet).await;
    assert_eq!(said(&a, "b").await, (8, State::RollingOut, 2));
    // Who has no part in it any more says nothing.
    let mut b = b;
    b.configure("[matrices]").await;
    b.own().share_once().await.unwrap();
    assert_eq!(a.own().of_fleet().await.unwrap().hosts.len(), 1);
    assert!(Arc::strong_count(b.own()) > 0);
}
