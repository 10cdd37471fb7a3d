//! Hosts of one fleet in this process: locks that were left, emergencies that must not end yet, members that can't be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{Options, Store};
use tokio::sync::watch;

use super::{Ending, Fleet};
use crate::emergency::Emergency;
use crate::outside::coordinator::memory::{Door, Memory};
use crate::outside::{Clock, ManualClock, Outside};
use crate::state::State;

mod simulation;

const LOCK: &str = "/genesis/prod/locks/matrices";
const EMERGENCY: &str = "/genesis/prod/common/emergency";

/// A host.
struct Host {
    fleet: Arc<Fleet>,
    emergency: Emergency,
    door: Arc<Door>,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl Host {
    async fn start(name: &str, memory: &Memory) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
        let store = Store::open(&folder.path().join("state.redb"), Options::default()).unwrap();
        let state = State::new(Arc::new(store), watch::channel(0).1);
        let seam = Arc::clone(&clock) as Arc<dyn Clock>;
        let flag = folder.path().join("emergency");
        let emergency = Emergency::open(state, Arc::clone(&seam), flag).await.unwrap();
        let door = memory.door();
        let outside =
            Outside { clock: seam, coordinator: Arc::clone(&door) as _, ..Outside::real() };
        let fleet = Fleet::member(&outside, emergency.clone(), name);
        tokio::spawn(Arc::clone(&fleet).serve());
        let host = Self { fleet, emergency, door, clock, _folder: folder };
        host.connected().await;
        host
    }

    /// Time passes until it is connected.
    async fn connected(&self) {
        self.passes(|| self.fleet.is_open()).await;
    }

    /// Time passes until something is so.
    async fn passes(&self, so: impl Fn() -> bool) {
        for _ in 0..2_000 {
            if so() {
                return;
            }
            self.clock.advance(Duration::from_millis(50));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("it never is so");
    }

    async fn reconnect(&self) {
        self.door.shut();
        self.passes(|| !self.fleet.is_open()).await;
        self.door.open();
        self.connected().await;
    }

    fn active(&self) -> bool {
        self.emergency.active()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_could_not_be_given_back_is_in_nobodys_way() {
    let memory = Memory::default();
    let (a, b) = (Host::start("a", &memory).await, Host::start("b", &memory).await);
    // While a run holds it nobody else has it, on this host neither.
    let held = a.fleet.take("matrices", "it").await.unwrap().unwrap();
    for host in [&a, &b] {
        assert_eq!(host.fleet.take("matrices", "other").await.err().unwrap().code, "FLEET_HELD");
    }
    let token = held.token();
    // The run ends while nothing gets through.
    a.door.shut();
    a.passes(|| !a.fleet.is_open()).await;
    let giving = tokio::spawn(held.give_back());
    a.passes(|| giving.is_finished()).await;
    assert_eq!(memory.get(LOCK).unwrap().created, token, "it is still there");
    a.door.open();
    a.connected().await;
    assert!(memory.get(LOCK).is_none(), "with the next connection it is given back");
    // Etcd is put back to when it was held.
    let held = a.fleet.take("matrices", "it").await.unwrap().unwrap();
    let then = memory.snapshot();
    held.give_back().await;
    memory.restore(&then);
    assert!(memory.get(LOCK).is_some());
    let again = a.fleet.take("matrices", "again").await.unwrap().unwrap();
    assert!(again.token() > token);
    // One that is held stays over a new connection.
    a.reconnect().await;
    assert_eq!(memory.get(LOCK).unwrap().created, again.token());
    again.check().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_was_put_back_and_came_to_the_same_revision_is_listed_anew() {
    const VALUE: &str = "/genesis/prod/common/parameters/mm/size";
    let memory = Memory::default();
    let a = Host::start("a", &memory).await;
    let known = |value: &str| a.fleet.known(VALUE).is_some_and(|it| it.value == value.as_bytes());
    memory.put("/genesis/prod/common/parameters/mm/edge", "1");
    let then = memory.snapshot();
    memory.put(VALUE, "10");
    a.passes(|| known("10")).await;
    a.door.shut();
    a.passes(|| !a.fleet.is_open()).await;
    let before = memory.get(VALUE).unwrap();
    memory.restore(&then);
    memory.put(VALUE, "20");
    let after = memory.get(VALUE).unwrap();
    assert_eq!((after.created, after.modified), (before.created, before.modified));
    a.door.open();
    a.connected().await;
    a.passes(|| known("20")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_given_again_by_an_etcd_that_was_put_back_lets_nobody_in() {
    let memory = Memory::default();
    let (a, b) = (Host::start("a", &memory).await, Host::start("b", &memory).await);
    let then = memory.snapshot();
    let first = a.fleet.take("matrices", "it").await.unwrap().unwrap();
    memory.restore(&then);
    // a's lease is of before that, so that a believes to hold the lock still.
    let second = b.fleet.take("matrices", "other").await.unwrap().unwrap();
    first.check().unwrap();
    assert_eq!(first.token(), second.token());
    assert_eq!(first.step("on").await.unwrap_err().code, "FENCED");
    assert_eq!(first.change(&[], &[]).await.unwrap(), None);
    second.step("on").await.unwrap();
    assert!(second.change(&[], &[]).await.unwrap().is_some());
    // Nor does it take away what is another's.
    first.give_back().await;
    assert!(memory.get(LOCK).is_some(), "b holds it");
}

/// Closes positions, or does not.
struct Closing(AtomicBool);

#[async_trait]
impl Ending for Closing {
    async fn may_end(&self, _: u64) -> Option<Box<dyn Send + '_>> {
        (!self.0.load(Ordering::SeqCst)).then(|| Box::new(()) as Box<dyn Send + '_>)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_of_the_fleet_cuts_off_no_closing_of_positions() {
    let memory = Memory::default();
    let (a, b) = (Host::start("a", &memory).await, Host::start("b", &memory).await);
    let closing = Arc::new(Closing(AtomicBool::new(true)));
    a.fleet.ends_by(&closing);
    b.emergency.activate("olga", "feed", "").await.unwrap();
    b.fleet.declare_emergency(true).await.unwrap();
    b.passes(|| memory.get(EMERGENCY).is_some()).await;
    a.passes(|| a.active()).await;
    b.fleet.release_emergency("olga", "well").await.unwrap();
    b.passes(|| !b.active()).await;
    // It has heard of it, and looks again and again.
    a.passes(|| a.fleet.known_emergency().unwrap().is_some_and(|it| !it.active())).await;
    for _ in 0..20 {
        a.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(a.active(), "positions are being closed");
    }
    closing.0.store(false, Ordering::SeqCst);
    a.passes(|| !a.active()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_whose_answer_is_lost_or_late_is_found_out() {
    let memory = Memory::default();
    let a = Host::start("a", &memory).await;
    for late in [false, true] {
        a.emergency.activate("olga", "feed", "").await.unwrap();
        a.fleet.declare_emergency(true).await.unwrap();
        a.passes(|| !a.fleet.emergency_untold()).await;
        a.fleet.tell_stand().await;
        match late {
            true => a.door.delay(EMERGENCY),
            false => a.door.lose_answers(1),
        }
        let fleet = Arc::clone(&a.fleet);
        let releasing = tokio::spawn(async move { fleet.release_emergency("olga", "well").await });
        if late {
            // It is given up, made again, and comes in before that.
            a.passes(|| a.door.delayed() == 1).await;
            a.door.shut();
            a.passes(|| !a.fleet.is_open()).await;
            a.door.deliver();
            a.door.open();
        }
        a.passes(|| releasing.is_finished()).await;
        releasing.await.unwrap().unwrap();
        a.passes(|| !a.active()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_of_the_fleet_waits_for_no_answer_of_etcd() {
    let memory = Memory::default();
    let (a, b) = (Host::start("a", &memory).await, Host::start("b", &memory).await);
    // The fleet is told that one is in force on a, and etcd owes the answer.
    a.door.delay("/genesis/prod/members/");
    a.emergency.activate("olga", "feed", "").await.unwrap();
    a.passes(|| a.door.delayed() > 0).await;
    a.emergency.release("olga", "well", "").await.unwrap();
    b.emergency.activate("ada", "prices are wrong", "").await.unwrap();
    b.fleet.declare_emergency(true).await.unwrap();
    b.passes(|| memory.get(EMERGENCY).is_some()).await;
    a.passes(|| a.active()).await;
    assert_eq!(a.door.delayed(), 1, "the answer is still owed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_where_the_fleet_can_not_be_told_is_not_lost_with_an_earlier_one() {
    let memory = Memory::default();
    let (a, b) = (Host::start("a", &memory).await, Host::start("b", &memory).await);
    b.emergency.activate("olga", "feed", "").await.unwrap();
    b.fleet.declare_emergency(true).await.unwrap();
    a.passes(|| a.active() && !a.fleet.emergency_untold()).await;
    // a is cut off; the one that it has is released on the other side.
    a.door.shut();
    a.passes(|| !a.fleet.is_open()).await;
    b.fleet.release_emergency("olga", "well").await.unwrap();
    b.passes(|| !b.active()).await;
    // Somebody declares one there, for the whole fleet, of which it is not known there that none is in force.
    a.emergency.activate("ada", "new trouble", "").await.unwrap();
    a.fleet.declare_emergency(false).await.unwrap();
    assert!(a.fleet.emergency_untold(), "the fleet does not know of this one");
    a.door.open();
    a.connected().await;
    b.passes(|| {
        a.clock.advance(Duration::from_millis(50));
        b.active()
    })
    .await;
    assert!(a.active());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tells_what_can_not_be_read_has_said_nothing() {
    let memory = Memory::default();
    let a = Host::start("a", &memory).await;
    memory.put("/genesis/prod/members/id-of-x/1", "{\"of a later\": \"version\"}");
    let hosts = a.fleet.hosts().await.unwrap();
    let x = hosts.iter().find(|it| it.member.host_id == "id-of-x").unwrap();
    assert_eq!((x.alive, x.member.stand.clone()), (1, None));
    for emergency in [true, false] {
        let fleet = Arc::clone(&a.fleet);
        let reaching = tokio::spawn(async move { fleet.reach(emergency).await });
        a.passes(|| reaching.is_finished()).await;
        let reach = reaching.await.unwrap();
        assert_eq!(reach.members.len(), 2, "it counts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_neither_hides_a_twin_nor_makes_one() {
    let memory = Memory::default();
    let a = Host::start("a", &memory).await;
    let (now, hour) = (a.clock.now(), jiff::SignedDuration::from_hours(1));
    let mut other = a.fleet.hosts().await.unwrap().remove(0).member;
    (other.session, other.since) = ("older".to_owned(), now - hour);
    // It may be the agent that was killed here, for as long as its lease lasts.
    let twins = || a.fleet.twins_among(vec![other.clone()]).len();
    assert_eq!(twins(), 0);
    a.clock.set(now + hour);
    assert_eq!(twins(), 0);
    a.clock.set(now - hour);
    a.clock.advance(a.fleet.config().lease * 2);
    assert_eq!(twins(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_lease_leaves_no_key_that_stays() {
    let memory = Memory::default();
    memory.fill(Some("no space"));
    let a = Host::start("a", &memory).await;
    assert_eq!(memory.keys("/genesis/prod/members/"), Vec::<String>::new());
    memory.fill(None);
    // How it stands has changed, and it is no member yet.
    a.emergency.activate("olga", "feed", "").await.unwrap();
    a.fleet.tell_stand().await;
    let member = "/genesis/prod/members/id-of-a/session-of-a";
    // Where it is one by now, since there is room again, its key goes with it.
    assert!(memory.get(member).is_none_or(|entry| entry.lease != 0));
    a.passes(|| memory.get(member).is_some_and(|entry| entry.lease != 0)).await;
}
