//! A log histogram of latencies: quantiles within half a percent of the value, in a few hundred bytes.
//!
//! Bucket i holds (gamma^(i-1), gamma^i] seconds, with gamma = 2^(1/64), and stands for 2 gamma^i / (gamma + 1), which
//! is at most alpha = (gamma - 1) / (gamma + 1) = 0.5415 % from each of its values: DDSketch of Masson, Rim and Lee
//! (PVLDB 12, 2019). When too many buckets are populated, all of them are collapsed in pairs, i to ceil(i / 2), so
//! that the guarantee, now with alpha' = 2 alpha / (1 + alpha^2), holds for every quantile: UDDSketch of Epicoco et al.
//! (IEEE Access 8, 2020). A level counts the collapses. The buckets are also those of a Prometheus native histogram of
//! schema 6 - level, with the same index, and of an OTLP exponential histogram of scale 6 - level, with an index one
//! lower.
//!
//! A sketch depends on the values alone, not on their order or on how they were merged: there are only integers that
//! are added up and extremes.

mod codec;
mod estimate;
mod index;
mod parts;
mod source;
mod sum;
#[cfg(test)]
mod tests;

use index::{LEAST, MAX_LEVEL, MOST};
pub use parts::{Parts, SketchError};
use sum::Nanos;

/// What level 10, the coarsest, can have.
const LEAST_LIMIT: usize = 4;
/// How many buckets more than needed are made at a time, so that a tail does not allocate with each value.
const SLACK: i32 = 32;

/// A mergeable summary of latencies in seconds, of known relative error.
///
/// Values from 1 ns to 2^32 s have buckets. Zero and what is below 1 ns have one of their own, which stands for zero.
/// What is negative, larger or no number is rejected, and only counted. Counts and the sum saturate.
#[derive(Debug, Clone)]
pub struct Sketch {
    level: u32,
    limit: usize,
    /// The bucket that `counts` begins with. There may be empty ones at both ends.
    offset: i32,
    counts: Vec<u64>,
    /// How many of `counts` are not zero.
    filled: usize,
    zeros: u64,
    rejected: u64,
    nanos: Nanos,
    /// Infinite when there are no values.
    least: f64,
    /// Zero when there are no values.
    most: f64,
    coarse: f64,
}

impl Default for Sketch {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether they hold the same. How many buckets they may populate does not count.
impl PartialEq for Sketch {
    fn eq(&self, other: &Self) -> bool {
        let scalars = |sketch: &Self| {
            let Self { level, zeros, rejected, nanos, least, most, coarse, .. } = *sketch;
            (level, zeros, rejected, nanos, least, most, coarse)
        };
        scalars(self) == scalars(other) && self.raw() == other.raw()
    }
}

impl Sketch {
    /// More populated buckets than this are collapsed. All the buckets of level 1 are fewer.
    pub const LIMIT: usize = 2_048;

    /// An empty one.
    pub fn new() -> Self {
        Self::with_limit(Self::LIMIT)
    }

    /// An empty one that collapses beyond `limit` populated buckets, from 4 to [`Self::LIMIT`]. Merged, the lower limit
    /// rules; it is not kept in the bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            level: 0,
            limit: limit.clamp(LEAST_LIMIT, Self::LIMIT),
            offset: 0,
            counts: Vec::new(),
            filled: 0,
            zeros: 0,
            rejected: 0,
            nanos: Nanos::default(),
            least: f64::INFINITY,
            most: 0.0,
            coarse: 0.0,
        }
    }

    /// Takes a value in, and says whether it was accepted. Cost: some 4 ns, except for the first value of a bucket.
    #[inline]
    pub fn insert(&mut self, seconds: f64) -> bool {
        if index::is_common(seconds) {
            // A bucket below the first is a huge slot.
            let slot = (index::of(seconds, self.level) - self.offset) as u32 as usize;
            if let Some(count) = self.counts.get_mut(slot) {
                // Neither its first value nor one too many.
                let more = count.wrapping_add(1);
                if more > 1 {
                    *count = more;
                    self.extend(seconds);
                    self.nanos.add(sum::nanos(seconds));
                    return true;
                }
            }
        }
        self.insert_cold(seconds)
    }

    #[cold]
    #[inline(never)]
    fn insert_cold(&mut self, seconds: f64) -> bool {
        self.insert_count(seconds, 1)
    }

    /// Takes many values in.
    pub fn insert_all(&mut self, seconds: &[f64]) {
        let mut rest = seconds;
        while !rest.is_empty() {
            rest = &rest[self.insert_common(rest)..];
            if let Some((first, others)) = rest.split_first() {
                self.insert_cold(*first);
                rest = others;
            }
        }
    }

    /// Takes values in until one has no bucket yet; how many those were. What all of them change stays in registers.
    fn insert_common(&mut self, seconds: &[f64]) -> usize {
        let (level, offset) = (self.level, self.offset);
        let (mut least, mut most, mut sum) = (self.least.to_bits(), self.most.to_bits(), 0_u128);
        let mut taken = 0;
        for value in seconds {
            if !index::is_common(*value) {
                break;
            }
            let slot = (index::of(*value, level) - offset) as u32 as usize;
            let Some(count) = self.counts.get_mut(slot) else { break };
            let more = count.wrapping_add(1);
            if more <= 1 {
                break;
            }
            *count = more;
            let bits = value.to_bits();
            (least, most) = (least.min(bits), most.max(bits));
            sum += u128::from(sum::nanos(*value));
            taken += 1;
        }
        (self.least, self.most) = (f64::from_bits(least), f64::from_bits(most));
        self.nanos.add_many(sum);
        taken
    }

    /// Takes a value in `count` times, and says whether it is an acceptable one.
    pub fn insert_count(&mut self, seconds: f64, count: u64) -> bool {
        if !(0.0..=MOST).contains(&seconds) {
            self.rejected = self.rejected.saturating_add(count);
            return false;
        }
        if count > 0 {
            // There is a negative zero.
            let seconds = seconds.abs();
            match self.place(seconds) {
                Some(index) => self.put(index, count),
                None => self.zeros = self.zeros.saturating_add(count),
            }
            self.extend(seconds);
            // Below 2^63 times 2^64.
            self.nanos.add_many(u128::from(sum::nanos(seconds)) * u128::from(count));
            self.fit();
        }
        true
    }

    /// Takes another's values in. The finer of the two is collapsed to the level of the coarser.
    ///
    /// Commutative and associative, to the bit. Cost: O(buckets of the other).
    pub fn merge(&mut self, other: &Self) {
        self.limit = self.limit.min(other.limit);
        self.collapse_to(other.level);
        let by = self.level - other.level;
        let (offset, counts) = other.raw();
        if !counts.is_empty() {
            let first = index::coarser(offset, by);
            self.cover(first, index::coarser(offset + counts.len() as i32 - 1, by));
            if by == 0 {
                let start = (first - self.offset) as usize;
                for (into, count) in self.counts[start..].iter_mut().zip(counts) {
                    self.filled += add(into, *count);
                }
            } else {
                for (index, count) in (offset..).zip(counts) {
                    let slot = (index::coarser(index, by) - self.offset) as usize;
                    self.filled += add(&mut self.counts[slot], *count);
                }
            }
        }
        self.zeros = self.zeros.saturating_add(other.zeros);
        self.rejected = self.rejected.saturating_add(other.rejected);
        self.nanos.add_many(other.nanos.get());
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
        self.coarse = self.coarse.max(other.coarse);
        self.fit();
    }

    /// Joins the buckets in pairs. Nothing happens at level 10, the coarsest.
    pub fn collapse(&mut self) {
        self.collapse_to(self.level + 1);
    }

    /// Joins the buckets until the level is reached, 10 at most. Nothing happens if it is as coarse already.
    pub fn collapse_to(&mut self, level: u32) {
        let by = level.min(MAX_LEVEL).saturating_sub(self.level);
        if by == 0 {
            return;
        }
        let offset = self.offset;
        self.offset = index::coarser(offset, by);
        let mut end = 0;
        for slot in 0..self.counts.len() {
            // Never behind the slot, so that what is read was not written before.
            let target = (index::coarser(offset + slot as i32, by) - self.offset) as usize;
            let count = std::mem::take(&mut self.counts[slot]);
            self.counts[target] = self.counts[target].saturating_add(count);
            end = target + 1;
        }
        self.counts.truncate(end);
        self.filled = self.counts.iter().filter(|count| **count != 0).count();
        self.level += by;
    }

    /// The bucket of a value from 0 to [`MOST`], `None` for the one of zero, which so is below all.
    fn place(&self, seconds: f64) -> Option<i32> {
        (seconds >= LEAST).then(|| index::of(seconds, self.level))
    }

    /// Notes a value, which is not negative, in the extremes.
    #[inline]
    fn extend(&mut self, seconds: f64) {
        // The bits of such floats are in order too, and need no register of floats.
        if seconds.to_bits() < self.least.to_bits() {
            self.least = seconds;
        }
        if seconds.to_bits() > self.most.to_bits() {
            self.most = seconds;
        }
    }

    /// Counts more in a bucket. The caller sees to it that the limit holds.
    fn put(&mut self, index: i32, count: u64) {
        if count == 0 {
            return;
        }
        self.cover(index, index);
        self.filled += add(&mut self.counts[(index - self.offset) as usize], count);
    }

    /// Makes buckets where there are none yet.
    fn cover(&mut self, first: i32, last: i32) {
        if self.counts.is_empty() {
            self.offset = first;
            self.counts.resize((last - first + 1) as usize, 0);
            return;
        }
        let missing = last - self.offset - self.counts.len() as i32 + 1;
        if missing > 0 {
            self.counts.resize(self.counts.len() + (missing + SLACK) as usize, 0);
        }
        if first < self.offset {
            let missing = self.offset - first + SLACK;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing as usize));
            self.offset -= missing;
        }
    }

    /// Collapses until the limit holds.
    fn fit(&mut self) {
        while self.filled > self.limit && self.level < MAX_LEVEL {
            self.collapse();
        }
    }
}

/// Adds to a count, and says how many buckets more are populated by it: one or none.
#[inline]
fn add(into: &mut u64, count: u64) -> usize {
    let new = *into == 0 && count != 0;
    *into = into.saturating_add(count);
    usize::from(new)
}
