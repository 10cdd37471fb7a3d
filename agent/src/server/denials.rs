//! Calls that were denied are journalled, a flood of them only as a number: nobody without a role fills a disk.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The same denial is journalled this often at most.
const AGAIN: Duration = Duration::from_secs(60);
/// So many different ones are told apart within that time.
const KINDS: usize = 256;

/// The denials of late.
#[derive(Default)]
pub(super) struct Denials {
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    said_at: Duration,
    since: u64,
}

impl Denials {
    /// Whether a denial of this kind is to be journalled at monotonic time `now`, and then how many have not been
    /// since the last one that was.
    pub(super) fn say(&self, kind: String, now: Duration) -> Option<u64> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(&kind) {
            if now.saturating_sub(known.said_at) < AGAIN {
                known.since += 1;
                return None;
            }
            known.said_at = now;
            return Some(std::mem::take(&mut known.since));
        }
        if known.len() >= KINDS {
            known.retain(|_, known| now.saturating_sub(known.said_at) < AGAIN);
            if known.len() >= KINDS {
                return None;
            }
        }
        known.insert(kind, Known { said_at: now, since: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_number() {
        let denials = Denials::default();
        let say = |kind: &str, seconds| denials.say(kind.to_owned(), Duration::from_secs(seconds));
        assert_eq!(say("a", 0), Some(0));
        for _ in 0..1_000 {
            assert_eq!(say("a", 59), None);
        }
        assert_eq!(say("b", 59), Some(0));
        assert_eq!(say("a", 60), Some(1_000));
        assert_eq!(say("a", 61), None);
        assert_eq!(say("a", 120), Some(1));
    }

    #[test]
    fn however_many_kinds_there_are_memory_is_bounded() {
        let denials = Denials::default();
        let said =
            (0..10_000).filter(|kind| denials.say(kind.to_string(), Duration::ZERO).is_some());
        assert_eq!(said.count(), KINDS);
        assert_eq!(denials.say("later".into(), AGAIN), Some(0));
        assert_eq!(denials.known.lock().unwrap().len(), 1);
    }
}
