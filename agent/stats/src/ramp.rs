//! How a circuit breaker opens for longer and longer, and how it comes back in rounds of probes.

use std::time::Duration;

/// Rounds of 1, 2, 4 ... probes: a round begins when all of the one before went well.
///
/// At any time no more probes are under way than its round has left, so that a service that has just come back is
/// never met by all of its callers at once. A probe that has failed ends it; that is for the owner to see to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ramp {
    rounds: u32,
    round: u32,
    under_way: u32,
    passed: u32,
}

/// What came of a probe that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its round goes on.
    SameRound,
    /// The next round begins, twice as large.
    NextRound,
    /// All rounds went well.
    Done,
}

impl Ramp {
    /// At most so many rounds: the last one has 2^15 probes.
    pub const MOST_ROUNDS: u32 = 16;

    /// The first of `rounds` rounds, at least 1 and at most [`Ramp::MOST_ROUNDS`].
    pub fn new(rounds: u32) -> Self {
        Self { rounds: rounds.clamp(1, Self::MOST_ROUNDS), round: 0, under_way: 0, passed: 0 }
    }

    /// The probes of this round.
    pub fn size(&self) -> u32 {
        1 << self.round
    }

    /// Those of this round that went well.
    pub fn passed(&self) -> u32 {
        self.passed
    }

    /// Those that are under way.
    pub fn under_way(&self) -> u32 {
        self.under_way
    }

    /// Lets as many of `wanted` probes begin as the round has left.
    pub fn grant(&mut self, wanted: u32) -> u32 {
        let granted = wanted.min(self.size() - self.passed - self.under_way);
        self.under_way += granted;
        granted
    }

    /// A probe that was granted has not been made, or nobody knows how it ended: another may take its place.
    pub fn give_back(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// A probe that was granted went well.
    pub fn pass(&mut self) -> Progress {
        if self.under_way == 0 {
            return Progress::SameRound;
        }
        self.under_way -= 1;
        self.passed += 1;
        if self.passed < self.size() {
            return Progress::SameRound;
        }
        if self.round + 1 >= self.rounds {
            return Progress::Done;
        }
        self.round += 1;
        self.passed = 0;
        Progress::NextRound
    }
}

/// How long the breaker stays open: `first`, twice as long after each failure to come back, at most `longest`.
pub fn open_for(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.min(20)).min(longest.max(first))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounds_double() {
        let mut ramp = Ramp::new(3);
        let mut sizes = Vec::new();
        loop {
            sizes.push(ramp.grant(u32::MAX));
            assert_eq!(ramp.grant(1), 0);
            let ends: Vec<Progress> = (0..sizes[sizes.len() - 1]).map(|_| ramp.pass()).collect();
            match ends.last() {
                Some(Progress::NextRound) => {}
                last => {
                    assert_eq!(last, Some(&Progress::Done));
                    break;
                }
            }
        }
        assert_eq!(sizes, [1, 2, 4]);
    }

    #[test]
    fn it_stays_open_for_longer_up_to_a_limit() {
        let seconds = Duration::from_secs;
        let found: Vec<u64> =
            (0..6).map(|n| open_for(seconds(30), seconds(300), n).as_secs()).collect();
        assert_eq!(found, [30, 60, 120, 240, 300, 300]);
        assert_eq!(open_for(seconds(30), seconds(10), 40), seconds(30));
        assert_eq!(open_for(Duration::MAX, Duration::MAX, u32::MAX), Duration::MAX);
    }

    proptest! {
        /// Against a plain list of what every probe came to.
        #[test]
        fn never_more_than_the_round_admits(steps in proptest::collection::vec((0..4_u8, 0..9_u32), 0..400), rounds in 1..6_u32) {
            let mut ramp = Ramp::new(rounds);
            let (mut open, mut passed, mut size) = (0_u32, 0_u32, 1_u32);
            for (what, wanted) in steps {
                match what {
                    0 | 1 => {
                        let granted = ramp.grant(wanted);
                        prop_assert_eq!(granted, wanted.min(size - passed - open));
                        open += granted;
                    }
                    2 => {
                        ramp.give_back();
                        open = open.saturating_sub(1);
                    }
                    _ => {
                        let progress = ramp.pass();
                        if open == 0 {
                            prop_assert_eq!(progress, Progress::SameRound);
                            continue;
                        }
                        open -= 1;
                        passed += 1;
                        if passed == size {
                            prop_assert_eq!(open, 0);
                            if size == 1 << (rounds - 1) {
                                prop_assert_eq!(progress, Progress::Done);
                                break;
                            }
                            prop_assert_eq!(progress, Progress::NextRound);
                            (size, passed) = (size * 2, 0);
                        }
                    }
                }
                prop_assert!(ramp.under_way() + ramp.passed() <= ramp.size());
                prop_assert_eq!((ramp.under_way(), ramp.passed(), ramp.size()), (open, passed, size));
            }
        }
    }
}
