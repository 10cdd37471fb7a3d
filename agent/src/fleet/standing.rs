//! How this host stands to its fleet.

use std::time::Duration;

/// Without a word for so long, what is known of the fleet is stale.
pub const STALE_AFTER: Duration = Duration::from_secs(4);

/// How this host stands to its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is on its own, as it is configured.
    Alone,
    /// What holds the fleet together answers.
    Connected,
    /// It has not answered for so long.
    Stale(Duration),
    /// It has not answered for so long that what this host held in the fleet has ended.
    Lost(Duration),
}

impl Standing {
    /// Its name, as it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alone => "ALONE",
            Self::Connected => "CONNECTED",
            Self::Stale(_) => "STALE",
            Self::Lost(_) => "LOST",
        }
    }

    /// How old what is known of the fleet is.
    pub fn age(self) -> Option<Duration> {
        match self {
            Self::Alone | Self::Connected => None,
            Self::Stale(age) | Self::Lost(age) => Some(age),
        }
    }
}

/// How a host of a fleet stands: `heard` is when it was last heard of what holds the fleet together, `None` before the
/// first time, and `started` when the agent did. `open`: there is a connection.
pub fn standing(
    open: bool,
    (heard, started): (Option<Duration>, Duration),
    now: Duration,
    lease: Duration,
) -> Standing {
    let age = now.saturating_sub(heard.unwrap_or(started));
    // The next connection is soon made where another member of the cluster answers.
    let changing = !open && heard.is_some() && age < STALE_AFTER / 2;
    match open || changing {
        _ if age >= lease => Standing::Lost(age),
        true if age < STALE_AFTER => Standing::Connected,
        _ => Standing::Stale(age),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_from_absence() {
        let ms = Duration::from_millis;
        let lease = Duration::from_secs(15);
        for (open, age, is) in [
            (true, 0, Standing::Connected),
            (true, 3_999, Standing::Connected),
            (true, 4_000, Standing::Stale(ms(4_000))),
            (false, 1_999, Standing::Connected),
            (false, 2_000, Standing::Stale(ms(2_000))),
            (true, 14_999, Standing::Stale(ms(14_999))),
            (false, 15_000, Standing::Lost(ms(15_000))),
            (true, 15_000, Standing::Lost(ms(15_000))),
        ] {
            let heard = (Some(ms(50)), ms(0));
            assert_eq!(standing(open, heard, ms(50 + age), lease), is, "{open} {age}");
        }
        // What was never heard of is not known to be there.
        let never = (None, ms(50));
        assert_eq!(standing(false, never, ms(50), lease), Standing::Stale(ms(0)));
        assert_eq!(standing(false, never, ms(15_050), lease), Standing::Lost(lease));
        // A lease that is shorter than a stale look.
        let short = Duration::from_secs(2);
        let heard = (Some(ms(0)), ms(0));
        assert_eq!(standing(true, heard, ms(2_000), short), Standing::Lost(ms(2_000)));
        // A clock that does not move never makes it worse.
        assert_eq!(standing(true, (Some(ms(9)), ms(0)), ms(3), lease), Standing::Connected);
    }
}
