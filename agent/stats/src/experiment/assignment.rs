//! Which arm a unit belongs to: GrowthBook's public scheme, so that any of its libraries agrees.

/// FNV-1a of 32 bits (Fowler, Noll and Vo; RFC 9923), over the bytes of UTF-8.
fn fnv1a(parts: &[&str]) -> u32 {
    parts
        .iter()
        .flat_map(|part| part.bytes())
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Where in [0, 1) a unit is, by a version of GrowthBook's hash: 2 is the current one, in steps of 1/10,000; 1 is
/// that of its early libraries, in steps of 1/1,000. `None` for another version.
///
/// 2 is FNV-1a of the decimal text of FNV-1a of seed and unit, without anything between them; the second round is
/// there since one alone leaves the buckets of similar units related. GrowthBook's JavaScript takes UTF-16 units
/// where this takes bytes of UTF-8: of the same text they differ outside ASCII.
pub fn place(seed: &str, unit: &str, version: u32) -> Option<f64> {
    match version {
        1 => Some(f64::from(fnv1a(&[unit, seed]) % 1_000) / 1_000.0),
        2 => Some(f64::from(bucket(seed, unit)) / 10_000.0),
        _ => None,
    }
}

/// Version 2 in whole ten-thousandths.
fn bucket(seed: &str, unit: &str) -> u32 {
    // Decimal text without allocating: ten digits are enough for 32 bits.
    let mut digits = [0_u8; 10];
    let mut rest = fnv1a(&[seed, unit]);
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    // Digits are UTF-8.
    fnv1a(&[std::str::from_utf8(&digits[first..]).unwrap_or_default()]) % 10_000
}

/// The ranges [from, to) of the variations, of which a unit in none is not in the test: GrowthBook's
/// `getBucketRanges`, rounded to nine digits after the point. Places are in steps of 1/10,000, and unrounded the end of
/// a range that should be 0.04 is the double above it, which its published cases round away, too.
///
/// Each begins where the weights before it end and takes a share `coverage` of its own. Weights that are not as
/// many as the variations, or don't add up to 1 within 0.01, count as equal ones.
pub fn bucket_ranges(variations: usize, coverage: f64, weights: Option<&[f64]>) -> Vec<(f64, f64)> {
    let coverage = coverage.clamp(0.0, 1.0);
    let equal = vec![1.0 / variations as f64; variations];
    let sum = |weights: &[f64]| weights.iter().sum::<f64>();
    let weights = weights
        .filter(|weights| weights.len() == variations && (0.99..=1.01).contains(&sum(weights)))
        .unwrap_or(&equal);
    let mut cumulated = 0.0;
    weights
        .iter()
        .map(|weight| {
            let from = cumulated;
            cumulated += weight;
            let rounded = |edge: f64| (edge * 1e9).round() / 1e9;
            (rounded(from), rounded(from + coverage * weight))
        })
        .collect()
}

/// The shares of the arms of a test, the control first.
///
/// An arm's range begins where those before it end: with a control and a variant the variant has the upper end of
/// [0, 1), and a larger share only ever moves units from the control to it, a smaller one only back. Of more arms the
/// same holds for two neighbours whose shares change while the others' stay.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    shares: Vec<f64>,
    /// Where each arm ends; the last ends at 1.
    ends: Vec<f64>,
}

impl Split {
    /// By weights, such as 90 and 10, which need not add up to anything. `None` unless there are at least two, none is
    /// negative or infinite, and one is positive. An arm of weight 0 gets no unit.
    pub fn new(weights: &[f64]) -> Option<Self> {
        let all: f64 = weights.iter().sum();
        let sound = weights.iter().all(|weight| *weight >= 0.0) && all > 0.0 && all.is_finite();
        if weights.len() < 2 || !sound {
            return None;
        }
        let shares: Vec<f64> = weights.iter().map(|weight| weight / all).collect();
        // Of the weights' sums and not of the shares': 70 + 20 is 90, .7 + .2 is not .9.
        let mut cumulated = 0.0;
        let mut ends: Vec<f64> = weights
            .iter()
            .map(|weight| {
                cumulated += weight;
                cumulated / all
            })
            .collect();
        // Nothing is left over, and arms of weight 0 at the end stay empty.
        for end in ends.iter_mut().filter(|end| **end > 0.9999 && **end < 1.0) {
            *end = 1.0;
        }
        Some(Self { shares, ends })
    }

    /// The arms' shares; they add up to 1.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// The arm of a unit: 0 is the control. The seed is the experiment's id.
    pub fn assign(&self, seed: &str, unit: &str) -> usize {
        let at = f64::from(bucket(seed, unit)) / 10_000.0;
        self.ends.partition_point(|end| *end <= at).min(self.ends.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_published_by_fnv() {
        // The test vectors of the reference implementation.
        for (text, expected) in [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            assert_eq!(fnv1a(&[text]), expected, "{text}");
        }
        assert_eq!(fnv1a(&["foo", "bar"]), fnv1a(&["foobar"]));
    }

    #[test]
    fn no_weights_no_split() {
        for bad in
            [&[][..], &[1.0], &[0.0, 0.0], &[1.0, -1.0], &[1.0, f64::NAN], &[1.0, f64::INFINITY]]
        {
            assert_eq!(Split::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_arm_without_weight_gets_no_unit() {
        for (weights, only) in [([100.0, 0.0], 0), ([0.0, 100.0], 1)] {
            let split = Split::new(&weights).unwrap();
            assert!((0..20_000).all(|unit| split.assign("T", &unit.to_string()) == only));
        }
    }

    #[test]
    fn the_shares_are_kept() {
        let split = Split::new(&[70.0, 20.0, 10.0]).unwrap();
        let mut counts = [0_u32; 3];
        for unit in 0..100_000 {
            counts[split.assign("TEST_7", &unit.to_string())] += 1;
        }
        for (count, share) in counts.iter().zip(split.shares()) {
            let expected = share * 1e5;
            assert!((f64::from(*count) - expected).abs() < 5.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn the_edges_of_ranges_are_exact() {
        // 90 of 100 is the double that 9000 of 10000 is.
        let split = Split::new(&[70.0, 20.0, 10.0]).unwrap();
        assert_eq!(split.ends, [0.7, 0.9, 1.0]);
        assert_eq!(Split::new(&[90.0, 10.0]).unwrap().ends, [0.9, 1.0]);
        assert_eq!(Split::new(&[0.1; 10]).unwrap().ends.last(), Some(&1.0));
    }

    proptest! {
        #[test]
        fn a_larger_share_only_adds(unit in "[ -~]{0,12}", a in 0..=100_u32, b in 0..=100_u32) {
            let (small, large) = (f64::from(a.min(b)), f64::from(a.max(b)));
            let arm = |share: f64| Split::new(&[100.0 - share, share]).unwrap().assign("TEST_1", &unit);
            prop_assert!(arm(small) <= arm(large));
        }

        #[test]
        fn it_is_the_arm_of_the_ranges(unit in "[ -~]{0,12}", share in 1..100_u32) {
            let share = f64::from(share) / 100.0;
            let weights = [1.0 - share, share];
            let at = place("TEST_1", &unit, 2).unwrap();
            let ranges = bucket_ranges(2, 1.0, Some(&weights));
            let found = ranges.iter().position(|(from, to)| at >= *from && at < *to);
            // 1 - share may be a trifle off, and then so is the edge.
            if (at - weights[0]).abs() > 1e-9 {
                prop_assert_eq!(Some(Split::new(&weights).unwrap().assign("TEST_1", &unit)), found);
            }
        }

        /// Of three arms: what two neighbours exchange does not touch the third.
        #[test]
        fn the_others_stay(unit in "[ -~]{0,12}", a in 0..80_u32, b in 0..80_u32) {
            let arm = |share: u32| {
                let share = f64::from(share);
                Split::new(&[80.0 - share, share, 20.0]).unwrap().assign("TEST_1", &unit)
            };
            let (small, large) = (arm(a.min(b)), arm(a.max(b)));
            prop_assert!(small <= large && (small == 2) == (large == 2));
        }
    }
}
