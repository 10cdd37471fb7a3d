//! Hosts of a fleet that is held together in memory.

use super::world::World;
use crate::operations::experiments::parameters::Wanted;
use crate::operations::experiments::plan::Asked;
use crate::outside::coordinator::memory::Memory;

const WHO: (&str, &str) = ("olga", "the same everywhere");

fn wanted(value: &str) -> Wanted {
    Wanted {
        strategy: "mm".to_owned(),
        name: "threshold".to_owned(),
        value: value.to_owned(),
        expected: 0,
    }
}

/// Its value of the parameter.
fn value(world: &World) -> String {
    world.own().parameters("mm").unwrap()[0].0.value.clone()
}

#[tokio::test]
async fn what_one_host_defines_for_the_fleet_is_so_on_the_other_and_on_who_was_away() {
    let memory = Memory::default();
    let one = World::in_fleet("host-1", &memory).await;
    let other = World::in_fleet("host-2", &memory).await;
    one.own().set_in_fleet(&wanted("0.005"), ("", "set"), WHO).await.unwrap();
    while value(&other) != "0.005" {
        other.own().settle_fleet().await.unwrap();
        tokio::task::yield_now().await;
    }
    // It is everybody's now.
    let refused = other.set("threshold", "9").await.unwrap_err();
    assert_eq!(refused.code, "PARAMETER_OF_FLEET");
    let asked = Asked {
        strategy: "mm".to_owned(),
        trials: vec![("threshold".to_owned(), "0.006".to_owned())],
        variant_basis_points: 5_000,
        ..Asked::default()
    };
    let begun = one.own().create_in_fleet(&asked, "", WHO).await.unwrap();
    let id = begun.record.fleet.clone();
    let late = World::in_fleet("host-3", &memory).await;
    for world in [&other, &late] {
        let here = loop {
            world.own().settle_fleet().await.unwrap();
            let known = world.own().known();
            if let Some(record) = known.values().find(|record| record.fleet == id) {
                break record.clone();
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((&here.seed, &here.hash), (&begun.record.seed, &begun.record.hash));
    }
    // Nobody ends it alone.
    let known = other.own().known();
    let number = known.values().find(|record| record.fleet == id).unwrap().number;
    let local = format!("TEST_{number}");
    let refused = other.own().conclude(&local, false, "", WHO).await.unwrap_err();
    assert_eq!(refused.code, "EXPERIMENT_OF_FLEET");
    // Without a way to the others a value that does harm can be changed here.
    other.door.shut();
    while other.fleet.is_open() {
        other.clock.advance(std::time::Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    other.set("threshold", "0.001").await.unwrap();
}
