//! What is taken back, and what is only practised.

use super::{Domain, Fact, Hands, LONG};
use crate::storm::world::digest;

/// The configuration goes back to the text that it had before, and to the other one again.
pub(super) struct Rollbacks;

impl Domain for Rollbacks {
    fn name(&self) -> &'static str {
        "rollback"
    }

    fn step(&mut self, hands: &Hands, number: u64) {
        let (file, digests) = &hands.shared.configuration;
        let there = std::fs::read(file).map(|text| digest(&text)).unwrap_or_default();
        // Where it is, whatever became of the last one.
        let Some(other) = digests.iter().find(|it| **it != there) else { return };
        if !digests.contains(&there) {
            return hands.must_not_be("the configuration is none that was ever in force");
        }
        let list = ["rollback", "points", "--component", "config", "--limit", "100", "-o", "json"];
        let listed = hands.ask(&list);
        if listed.code != 0 {
            return hands.rest(5);
        }
        let component = listed.response()["components"][0].clone();
        let points = component["points"].as_array().cloned().unwrap_or_default();
        let Some(point) = points.iter().find(|point| point["digest"] == other.as_str()) else {
            return hands.is_wrong("there is no point with the other configuration", &listed);
        };
        let id = point["id"].as_str().unwrap_or_default().to_owned();
        let reason = format!("storm rollback {number}");
        let back = ["rollback", "--component", "config", "--to", &id, "--yes", "--reason", &reason];
        hands.note_within(
            LONG,
            Fact::Rollback { reason: reason.clone(), to: other.clone() },
            &back,
        );
        hands.rest(30);
    }
}

/// What one hopes never to need is practised.
pub(super) struct Drills;

impl Domain for Drills {
    fn name(&self) -> &'static str {
        "drills"
    }

    fn step(&mut self, hands: &Hands, number: u64) {
        let drill = ["emergency", "restore:agent", "rollback:config"][number as usize % 3];
        let reason = format!("storm drill {number}");
        let practise = ["drill", "run", drill, "--reason", &reason];
        hands.note_within(LONG, Fact::Drill(reason.clone()), &practise);
        hands.rest(30);
    }
}
