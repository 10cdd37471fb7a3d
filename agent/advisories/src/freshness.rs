use serde::{Deserialize, Serialize};

/// How far ahead of the clock data may be dated: publishers date by the day.
const AHEAD: i64 = 86_400;

/// What a source of data is worth at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// It was looked at, and is not too old.
    Checked,
    /// It is too old, or dated in the future, so that its age is not known.
    Stale,
    /// There is none.
    NotChecked,
}

/// The state of data of a date, in seconds since 1970, that may be at most `max_age` seconds old.
pub fn freshness(date: Option<i64>, now: i64, max_age: i64) -> Freshness {
    match date {
        None => Freshness::NotChecked,
        Some(date) => {
            let age = now.saturating_sub(date);
            let fresh = age <= max_age && age >= -AHEAD;
            if fresh { Freshness::Checked } else { Freshness::Stale }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Freshness::*, freshness};

    #[test]
    fn states() {
        for (date, expected) in [
            (None, NotChecked),
            (Some(1_000_000), Checked),
            (Some(1_000_000 - 100), Checked),
            (Some(1_000_000 - 101), Stale),
            (Some(1_000_000 + 86_400), Checked),
            (Some(1_000_000 + 86_401), Stale),
            (Some(i64::MIN), Stale),
            (Some(i64::MAX), Stale),
        ] {
            assert_eq!(freshness(date, 1_000_000, 100), expected, "{date:?}");
        }
    }
}
