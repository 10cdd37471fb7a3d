//! Who gets a new matrix first.

use crate::experiment::place;

/// Whether a consumer is among the `percent` of all that a new version is given to first. The seed is the version's id.
///
/// By GrowthBook's hash, version 2 ([`place`]), in steps of 1/100 percent: it is the same at each call, on each host and
/// after each restart, a larger share has all of a smaller one, and another seed draws another share.
pub fn in_canary(seed: &str, consumer: &str, percent: u32) -> bool {
    // Both are the doubles nearest to the same decimals, so that an end is not one consumer too far.
    place(seed, consumer, 2).is_some_and(|place| place < f64::from(percent) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_what_it_says_and_inside_the_next() {
        const CONSUMERS: u32 = 1_000_000;
        let (mut tenth, mut quarter) = (0, 0);
        for consumer in 0..CONSUMERS {
            let consumer = format!("consumer-{consumer}");
            let first = in_canary("matrix-42", &consumer, 10);
            let second = in_canary("matrix-42", &consumer, 25);
            assert!(second || !first, "{consumer}");
            tenth += u32::from(first);
            quarter += u32::from(second);
        }
        let share = |count: u32| 100.0 * f64::from(count) / f64::from(CONSUMERS);
        assert!((share(tenth) - 10.0).abs() < 0.1, "{}", share(tenth));
        assert!((share(quarter) - 25.0).abs() < 0.1, "{}", share(quarter));
    }

    #[test]
    fn none_and_all() {
        for consumer in (0..20_000).map(|consumer| consumer.to_string()) {
            assert!(!in_canary("seed", &consumer, 0) && in_canary("seed", &consumer, 100));
            assert!(in_canary("seed", &consumer, 200));
        }
    }

    #[test]
    fn another_version_is_given_to_others() {
        let same = (0..10_000)
            .map(|consumer| consumer.to_string())
            .filter(|it| in_canary("1", it, 10) && in_canary("2", it, 10));
        // A tenth of a tenth: 100, with a standard deviation of 10.
        let same = same.count();
        assert!((60..140).contains(&same), "{same}");
    }
}
