//! Releases of an application: updates that prove themselves, updates that do not, and the way back.

use std::sync::Arc;

use jiff::SignedDuration;

use super::{Answer, Became, Domain, Fact, Hands, LONG};
use crate::application::{Flaw, library};
use crate::clock::now;
use crate::package_index::{Listed, PackageIndex};
use crate::storm::world::Managed;

/// One thing after the other is done to the application.
pub(super) struct Releases {
    index: Arc<PackageIndex>,
    /// How many versions were published.
    versions: u64,
}

impl Releases {
    pub(super) fn of(managed: &Managed) -> Self {
        Self { index: Arc::clone(&managed.index), versions: 0 }
    }

    /// Publishes the next version of a library. It was uploaded long ago: no age of releases is waited for.
    fn publish(&mut self, flaw: &Flaw) {
        self.versions += 1;
        let wheel = library("frames", &format!("2.0.{}", self.versions), flaw);
        self.index.publish(&wheel, Listed::at(now() - SignedDuration::from_hours(100 * 24)));
    }
}

impl Domain for Releases {
    fn name(&self) -> &'static str {
        "dependencies"
    }

    fn step(&mut self, hands: &Hands, number: u64) {
        let update = ["deps", "update", "--strategy", "conservative", "--yes", "--reason"];
        match number % 4 {
            1 => {
                // Whoever asks what would be done changes nothing, and leaves nothing.
                hands.ask(&["deps", "update", "--plan"]);
                let reason = format!("storm way back {number}");
                let back = ["deps", "rollback", "--yes", "--reason", &reason];
                hands.note_within(LONG, Fact::WayBack(reason.clone()), &back);
            }
            3 => {
                // It fails its tests, or it passes them and does not do well.
                let flaw = if number % 8 == 3 { Flaw::Wrong } else { Flaw::BreaksAfter(1) };
                self.publish(&flaw);
                let reason = format!("storm flawed update {number}");
                match hands.change(LONG, &[&update[..], &[reason.as_str()]].concat()) {
                    Answer::Done => hands.must_not_be("a flawed release came into service"),
                    Answer::Refused => {}
                    // How far it came before that, its record says.
                    Answer::Failed | Answer::Doubtful => {
                        hands.ledger().note(Fact::Flawed(reason), Became::Doubtful);
                    }
                }
            }
            _ => {
                self.publish(&Flaw::None);
                let reason = format!("storm update {number}");
                hands.note_within(
                    LONG,
                    Fact::Update(reason.clone()),
                    &[&update[..], &[reason.as_str()]].concat(),
                );
            }
        }
        hands.rest(20);
    }
}
