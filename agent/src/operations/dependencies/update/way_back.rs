//! Which release one goes back to where nobody names one. Pure.

use std::collections::BTreeSet;

use genesis_storage::{UpdateRecord, UpdateState};

use super::ROLLBACK_STRATEGY;

/// The generation that was in service before one: what an update came from, where that can still be gone back to; else the
/// newest before it that nobody went away from by hand. `updates` are the newest first, `can` says what can be gone back to.
pub(super) fn before(
    current: u64,
    updates: &[UpdateRecord],
    can: &dyn Fn(u64) -> bool,
) -> Option<u64> {
    let done = |it: &&UpdateRecord| it.state == UpdateState::Succeeded;
    let is_rollback = |it: &&UpdateRecord| it.strategy == ROLLBACK_STRATEGY;
    let mut at = current;
    let mut seen = BTreeSet::from([current]);
    loop {
        let mut made = updates.iter().filter(done).filter(|it| !is_rollback(it));
        let Some(from) = made.find(|it| it.to_generation == at).map(|it| it.from_generation) else {
            break;
        };
        if !seen.insert(from) {
            break;
        }
        if can(from) {
            return Some(from);
        }
        at = from;
    }
    let left: BTreeSet<u64> =
        updates.iter().filter(done).filter(is_rollback).map(|it| it.from_generation).collect();
    (1..current).rev().take(10_000).find(|it| can(*it) && !left.contains(it))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// Updates as "from>to", rollbacks as "from<to", failed ones with "!" behind; the oldest first.
    fn history(all: &str) -> Vec<UpdateRecord> {
        let each = all.split_whitespace().map(|text| {
            let (text, failed) = (text.trim_end_matches('!'), text.ends_with('!'));
            let is_rollback = text.contains('<');
            let (from, to) = text.split_once(['<', '>']).unwrap();
            UpdateRecord {
                id: text.to_owned(),
                project: "app".to_owned(),
                strategy: if is_rollback { ROLLBACK_STRATEGY } else { "moderate" }.to_owned(),
                state: if failed { UpdateState::RolledBack } else { UpdateState::Succeeded },
                old_target: None,
                new_target: None,
                from_generation: from.parse().unwrap(),
                to_generation: to.parse().unwrap(),
                manifests: Vec::new(),
                changes: Vec::new(),
                error_code: String::new(),
                error: String::new(),
                failed_in: None,
                restart_owed: false,
                ill: String::new(),
                test_output: String::new(),
                exploited: false,
                started_at: Timestamp::UNIX_EPOCH,
                ended_at: None,
                actor: String::new(),
                reason: String::new(),
            }
        });
        let mut all: Vec<UpdateRecord> = each.collect();
        all.reverse();
        all
    }

    #[test]
    fn one_goes_back_to_what_was_in_service_before_and_not_to_what_was_left_by_hand() {
        for (what, current, there, expected) in [
            ("1>2 2>3", 3, &[1, 2][..], Some(2)),
            // Gone back to: before it was something else than what it was gone back from.
            ("1>2 2>3 3<2", 2, &[1, 3], Some(1)),
            ("1>2 2>3 3<1", 1, &[2, 3], None),
            // 17 and 15 were left; 18 came from 12.
            ("12>15 15>17 17<15 15<12 12>18", 18, &[12, 15, 17], Some(12)),
            // What it came from is not there any more.
            ("1>2 2>3", 3, &[1], Some(1)),
            ("12>15 15<12 12>18", 18, &[11, 15], Some(11)),
            ("12>15 15<12 12>18", 18, &[15], None),
            // What failed was never in service.
            ("1>2 2>3! 2>4", 4, &[1, 2], Some(2)),
            // Nobody knows how it came into service.
            ("", 5, &[3, 4], Some(4)),
            ("", 1, &[], None),
        ] {
            let updates = history(what);
            let found = before(current, &updates, &|it| there.contains(&it));
            assert_eq!(found, expected, "{what}, at {current}, with {there:?}");
        }
    }
}
