//! What a sketch says of the values in it.

use super::Sketch;
use super::index::{self, MOST};

/// The normal quantile of a confidence of 95 %, both sides together.
const Z: f64 = 1.96;

impl Sketch {
    /// How many values were accepted, zeros included. Cost: O(buckets), as for all the estimates.
    pub fn count(&self) -> u64 {
        self.above_zero().saturating_add(self.zeros)
    }

    /// How many of the values are zero or below 1 ns.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// How many values were negative, above 2^32 s or no numbers, and are not in.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Whether no value was accepted.
    pub fn is_empty(&self) -> bool {
        self.filled == 0 && self.zeros == 0
    }

    /// The smallest value in seconds, exactly; of coarser sources, a lower bound.
    pub fn min(&self) -> Option<f64> {
        (!self.is_empty()).then_some(self.least)
    }

    /// The largest value in seconds, exactly; of coarser sources, an upper bound unless their last bucket has none.
    pub fn max(&self) -> Option<f64> {
        (!self.is_empty()).then_some(self.most)
    }

    /// The sum of the values in seconds, each rounded to nanoseconds.
    pub fn sum(&self) -> f64 {
        self.nanos.get() as f64 / 1e9
    }

    /// The sum of the values in nanoseconds, each rounded.
    pub fn sum_nanos(&self) -> u128 {
        self.nanos.get()
    }

    /// The mean in seconds, from the sum.
    pub fn mean(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.sum() / self.total() as f64)
    }

    /// The standard deviation in seconds, with n - 1, of what the buckets stand for; `None` for fewer than two values.
    ///
    /// Good where the values spread over many buckets. A spread below alpha times the mean is not seen.
    pub fn deviation(&self) -> Option<f64> {
        let total = self.total();
        if total < 2 {
            return None;
        }
        let sum: f64 = self.estimates().map(|(value, count)| value * count as f64).sum();
        let mean = sum / total as f64;
        let square = |(value, count): (f64, u64)| (value - mean).powi(2) * count as f64;
        let squares: f64 = self.estimates().map(square).sum();
        Some((squares / (total - 1) as f64).sqrt())
    }

    /// How often the buckets were collapsed: gamma = 2^(2^level / 64).
    pub fn level(&self) -> u32 {
        self.level
    }

    /// The relative error in force: of the buckets at this level, or of the widest coarser bucket that was put in.
    pub fn alpha(&self) -> f64 {
        let gamma = index::gamma(self.level);
        ((gamma - 1.0) / (gamma + 1.0)).max(self.coarse)
    }

    /// The `q`-quantile in seconds, `q` from 0 to 1: what the bucket of the value at the 0-based rank
    /// floor(q (n - 1)) stands for, kept between the smallest and the largest value. `None` for no values.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        self.value_at(rank(q, self.total())?)
    }

    /// Between which two values in seconds the true `q`-quantile lies, with 95 % confidence, if the values are
    /// independent: those at the ranks n q -+ 1.96 sqrt(n q (1 - q)) (Conover, "Practical Nonparametric Statistics",
    /// 1999, section 3.2). The error of the buckets comes on top.
    pub fn interval(&self, q: f64) -> Option<(f64, f64)> {
        let total = self.total();
        let rank = rank(q, total)?;
        let centre = total as f64 * q;
        let half = Z * (centre * (1.0 - q)).sqrt();
        // The value of 0-based rank r is below the quantile if more than r values are. What is negative becomes 0.
        let low = ((centre - half).ceil() - 1.0) as u128;
        let high = (centre + half).floor() as u128;
        Some((self.value_at(low.min(rank))?, self.value_at(high.max(rank).min(total - 1))?))
    }

    /// Whether there are too few values for this quantile: fewer than 500 from 0.99 on, 100 from 0.95 on, or 20.
    pub fn low_n(&self, q: f64) -> bool {
        let wanted = match q {
            q if q >= 0.99 => 500,
            q if q >= 0.95 => 100,
            _ => 20,
        };
        self.count() < wanted
    }

    /// How many values are in buckets above the one that holds `seconds`.
    ///
    /// Sketches of the same level, asked for the same value, so count above the same boundary. The bucket of zero is
    /// above negative values only, and nothing is above what is too large or no number.
    pub fn above(&self, seconds: f64) -> u64 {
        if seconds < 0.0 {
            self.count()
        } else if seconds <= MOST {
            self.place(seconds).map_or(self.above_zero(), |index| self.above_index(index))
        } else {
            0
        }
    }

    /// How many values are in buckets above this one, an index at the sketch's level.
    pub fn above_index(&self, bucket: i32) -> u64 {
        // Both are i32, and their difference may not be.
        let skipped = (i64::from(bucket) + 1 - i64::from(self.offset)).max(0);
        let counts = self.counts.get(skipped as usize..).unwrap_or_default();
        counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The bucket of a value, an index at the sketch's level. `None` where it has none: zero, below 1 ns, rejected.
    pub fn bucket(&self, seconds: f64) -> Option<i32> {
        if seconds <= MOST { self.place(seconds) } else { None }
    }

    /// The populated buckets in ascending order without the one of zero: the lower bound in seconds, which is not in
    /// the bucket, the upper one, which is, and the count.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, f64, u64)> + '_ {
        self.populated().map(|(index, count)| {
            (index::upper(index - 1, self.level), index::upper(index, self.level), count)
        })
    }

    /// The index of the first populated bucket, at the sketch's level, and the counts from it to the last one.
    pub fn raw(&self) -> (i32, &[u64]) {
        let populated = |count: &u64| *count != 0;
        match (self.counts.iter().position(populated), self.counts.iter().rposition(populated)) {
            (Some(first), Some(last)) => (self.offset + first as i32, &self.counts[first..=last]),
            _ => (0, &[]),
        }
    }

    pub(super) fn populated(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        (self.offset..).zip(self.counts.iter().copied()).filter(|(_, count)| *count != 0)
    }

    fn above_zero(&self) -> u64 {
        self.above_index(i32::MIN)
    }

    /// The count, without saturation.
    fn total(&self) -> u128 {
        self.counts.iter().map(|count| u128::from(*count)).sum::<u128>() + u128::from(self.zeros)
    }

    /// What the buckets stand for, and their counts, in ascending order.
    fn estimates(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let share = 2.0 / (index::gamma(self.level) + 1.0);
        let zeros = (self.zeros > 0).then_some((0.0, self.zeros));
        zeros
            .into_iter()
            .chain(
                self.populated()
                    .map(move |(index, count)| (index::upper(index, self.level) * share, count)),
            )
            .map(|(value, count)| (value.max(self.least).min(self.most), count))
    }

    fn value_at(&self, rank: u128) -> Option<f64> {
        let mut below = 0;
        self.estimates().find_map(|(value, count)| {
            below += u128::from(count);
            (below > rank).then_some(value)
        })
    }
}

/// floor(q (n - 1)), at most n - 1 also where a float is not exact.
fn rank(q: f64, total: u128) -> Option<u128> {
    let most = total.checked_sub(1)?;
    (0.0..=1.0).contains(&q).then(|| ((q * most as f64) as u128).min(most))
}
