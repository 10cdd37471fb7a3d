//! A moment on two clocks, so that spans survive both a restart and a wrong wall clock.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// When something was, on the wall clock and on the clock that counts from the host's boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Wall-clock time, UTC; it may have been wrong.
    pub wall: Timestamp,
    /// Which boot of the host; empty where that can't be told.
    pub boot: String,
    /// Since that boot, suspension included.
    pub since_boot: Duration,
}

impl Moment {
    /// How long ago `earlier` was. Within one boot no step of the wall clock shows; over a reboot the wall clock
    /// is all there is, and a time that goes backwards counts as none. A time since the boot that went back is
    /// another boot's, whatever its name says.
    pub fn since(&self, earlier: &Self) -> Duration {
        if self.boot == earlier.boot
            && !self.boot.is_empty()
            && let Some(span) = self.since_boot.checked_sub(earlier.since_boot)
        {
            return span;
        }
        Duration::try_from(self.wall.duration_since(earlier.wall)).unwrap_or(Duration::ZERO)
    }

    /// Of a time that another boot wrote down with a clock that was ahead, `now`: nothing would be long ago otherwise
    /// until the clock has caught up with it.
    pub fn settle(&mut self, now: &Self) {
        if self.boot != now.boot && self.wall > now.wall {
            self.clone_from(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall: i64, boot: &str, since_boot: u64) -> Moment {
        Moment {
            wall: Timestamp::from_second(wall).unwrap(),
            boot: boot.to_owned(),
            since_boot: Duration::from_secs(since_boot),
        }
    }

    #[test]
    fn spans_hold_over_restarts_reboots_and_steps_of_the_wall_clock() {
        for (earlier, later, seconds) in [
            (moment(100, "a", 10), moment(160, "a", 70), 60),
            // The wall clock was set a day on, and a day back.
            (moment(100, "a", 10), moment(86_560, "a", 70), 60),
            (moment(86_500, "a", 10), moment(160, "a", 70), 60),
            // A reboot.
            (moment(100, "a", 500), moment(160, "b", 5), 60),
            (moment(200, "a", 500), moment(160, "b", 5), 0),
            // A container that was started anew under the host's boot.
            (moment(100, "a", 500), moment(160, "a", 5), 60),
            // Nobody knows which boot.
            (moment(100, "", 500), moment(160, "", 5), 60),
        ] {
            assert_eq!(
                later.since(&earlier),
                Duration::from_secs(seconds),
                "{earlier:?} {later:?}"
            );
        }
    }
}
