//! What people have agents do, each as the rpc does it that they call.

use std::sync::Arc;

use genesis_storage::EmergencyRecord;

use super::book::RELEASES;
use super::world::{Agent, World};
use crate::error::Result;
use crate::operations::experiments::parameters::Wanted;

/// Who declares emergencies.
const DECLARES: &str = "olga";
/// What only one host may do at a time.
const LOCKS: [&str; 2] = ["certificates/web", "database/orders"];

/// How a call began that declares an emergency.
struct Before {
    own: Option<bool>,
    epoch: u64,
}

impl Before {
    fn of(world: &World, host: usize, agent: &Agent) -> Self {
        let epoch = active(agent).map_or(0, |record| record.epoch);
        Self { own: world.book().declares(host), epoch }
    }

    /// Whose the emergency is in the end. `fleet`: it was declared for the fleet.
    fn end(
        self,
        world: &World,
        (host, agent): (usize, &Agent),
        activated: &Result<(EmergencyRecord, bool)>,
        fleet: Option<bool>,
    ) {
        let mut book = world.book();
        let Ok((record, was_active)) = activated else {
            book.owns(host, None);
            return;
        };
        let same = active(agent).is_some_and(|now| now.epoch == record.epoch);
        if same {
            book.is_durable(host, record.epoch);
        }
        let own = match (was_active, fleet) {
            // It stays what it was, if it is the same.
            (true, _) => self.own.filter(|_| self.epoch == record.epoch),
            (false, None) => Some(true),
            (false, Some(true)) => Some(false),
            (false, Some(false)) => None,
        };
        book.owns(host, own.filter(|_| same));
    }
}

/// The emergency that is in force on a host.
fn active(agent: &Agent) -> Option<EmergencyRecord> {
    agent.emergency.current().filter(EmergencyRecord::active)
}

impl World {
    /// `genesisctl emergency activate`.
    pub(super) fn declare(self: &Arc<Self>, host: usize, number: u64) {
        self.sim.note(&format!("{number}: an emergency is declared on host {host}"));
        self.call(host, move |world, agent| async move {
            let before = Before::of(&world, host, &agent);
            let reason = format!("emergency {number}");
            let activated = agent.emergency.activate(DECLARES, &reason, "").await;
            before.end(&world, (host, &agent), &activated, None);
        });
    }

    /// `genesisctl emergency activate --fleet`.
    pub(super) fn declare_in_fleet(self: &Arc<Self>, host: usize, number: u64) {
        self.sim.note(&format!("{number}: an emergency is declared for the fleet on host {host}"));
        self.call(host, move |world, agent| async move {
            let before = Before::of(&world, host, &agent);
            let reason = format!("emergency {number}");
            let (emergency, fleet) = (&agent.emergency, &agent.fleet);
            let at = world.sim.now();
            world.book().wishes(host, at);
            let only = !emergency.active();
            let (activated, declared) =
                tokio::join!(emergency.activate(DECLARES, &reason, ""), async {
                    tokio::task::yield_now().await;
                    fleet.declare_emergency(only).await
                });
            let done = activated.is_ok() && declared.is_ok();
            world.sim.note(&format!("{number}: declared on host {host}: {done}"));
            world.book().wished(host, at, done);
            before.end(&world, (host, &agent), &activated, Some(done && only));
            if world.sim.chance(25) {
                // Whatever the others say.
                let _ = fleet.reach(true).await;
            }
        });
    }

    /// `genesisctl emergency release`, where it is not refused.
    pub(super) fn release(self: &Arc<Self>, host: usize, number: u64) {
        self.call(host, move |world, agent| async move {
            let Some(record) = active(&agent) else { return };
            if let Some(mark) = record.fleet.filter(|mark| mark.told) {
                let known = agent.fleet.known_emergency();
                let over = |it: &crate::fleet::emergency::FleetEmergency| {
                    !it.active() && it.epoch >= mark.epoch
                };
                if !known.is_ok_and(|known| known.as_ref().is_some_and(over)) {
                    return;
                }
            }
            let Ok(plan) = agent.emergency.plan_release() else { return };
            world.sim.note(&format!("{number}: it is released on host {host}"));
            let reason = format!("release {number}");
            world.book().releases(host, &reason);
            let released = agent.emergency.release(RELEASES, &reason, &plan.hash).await;
            world.book().released(host, released.is_ok());
        });
    }

    /// `genesisctl emergency release --fleet`.
    pub(super) fn release_in_fleet(self: &Arc<Self>, host: usize, number: u64) {
        self.call(host, move |world, agent| async move {
            let Ok(plan) = agent.emergency.plan_release() else { return };
            world.sim.note(&format!("{number}: it is released in the fleet on host {host}"));
            let reason = format!("release {number}");
            world.book().releases(host, &reason);
            let mut released = agent.fleet.release_emergency(RELEASES, &reason).await;
            let told = released.is_ok();
            if told {
                let here = agent.emergency.release(RELEASES, &reason, &plan.hash).await;
                released = here.map(drop);
            }
            world.book().released(host, released.is_ok());
            let (told, here) = (told, released.is_ok());
            world.sim.note(&format!("{number}: released: {told}, on host {host}: {here}"));
        });
    }

    /// Somebody makes the file of an emergency by hand.
    pub(super) fn declare_by_hand(&self, host: usize) {
        self.sim.note(&format!("the file of an emergency is made on host {host}"));
        self.book().declares(host);
        std::fs::write(self.hosts[host].flag(), "prices are wrong").unwrap();
    }

    /// A run that only one host may make, step by step. Some are cut off.
    pub(super) fn work(self: &Arc<Self>, host: usize, number: u64) {
        self.call(host, move |world, agent| async move {
            let sim = &world.sim;
            let name = LOCKS[usize::try_from(sim.within(0, 2)).unwrap()];
            let taken = agent.fleet.take(name, &format!("run {number}")).await;
            let Ok(Some(held)) = taken else { return };
            sim.note(&format!("{number}: host {host} holds {name} by {}", held.token()));
            let held = Arc::new(held);
            world.book().holds(name, host, Arc::downgrade(&held));
            for step in 0..sim.within(1, 8) {
                sim.sleep(sim.millis(10, 2_500)).await;
                if held.step(&format!("step {step} of {number}")).await.is_err() {
                    break;
                }
            }
            let cut_off = sim.chance(30);
            match Arc::into_inner(held) {
                Some(held) if !cut_off => held.give_back().await,
                held => drop(held),
            }
        });
    }

    /// `genesisctl param set --fleet`.
    pub(super) fn set(self: &Arc<Self>, host: usize, number: u64) {
        self.call(host, move |world, agent| async move {
            let name = if world.sim.chance(50) { "size" } else { "threshold" };
            let (strategy, name, value) = ("mm".to_owned(), name.to_owned(), number.to_string());
            let wanted = Wanted { strategy, name, value, expected: 0 };
            let who = ("ada", "a better one");
            let set = agent.experiments.set_in_fleet(&wanted, ("", "set"), who).await;
            let how = set.map_or_else(|error| error.code, |_| "set");
            world.sim.note(&format!("{number}: {} on host {host}: {how}", wanted.name));
        });
    }

    /// A host has calculated a matrix.
    pub(super) fn calculate(self: &Arc<Self>, host: usize, number: u64) {
        self.call(host, move |world, agent| async move {
            let share = f64::from(u32::try_from(number % 1_000).unwrap()) / 1_000.0;
            // It waits for the end of an emergency.
            let made = agent.matrices.put_into_force(share - 0.5).await;
            let version = made.map_or(0, |record| record.version);
            world.sim.note(&format!("{number}: matrix {version} is in force on host {host}"));
        });
    }
}
