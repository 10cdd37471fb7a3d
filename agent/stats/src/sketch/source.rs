//! Histograms of other kinds, taken in as buckets.

use super::index::{self, LEAST, MAX_LEVEL, MOST};
use super::{Sketch, SketchError, sum};

/// The scale of an OTLP exponential histogram that has our buckets.
const SCALE: i32 = 6;
const SCALES: std::ops::RangeInclusive<i32> = SCALE - MAX_LEVEL as i32..=20;
const MAX_COUNTS: usize = 20_000;
/// Fraction bits of a position within a bucket.
const UNIT: u32 = 20;

impl Sketch {
    /// An OTLP exponential histogram of seconds, its positive buckets beginning with that of index `offset`
    /// (OpenTelemetry metrics data model, "ExponentialHistogram").
    ///
    /// A scale above 6 is made coarser, exactly. A lower one gives a sketch of level 6 - scale. Buckets below 1 ns
    /// count as zero, those above 2^32 s as rejected. Extremes that are missing, or do not match the buckets, become
    /// the bounds of the buckets.
    pub fn from_exponential(
        scale: i32,
        zero_count: u64,
        offset: i32,
        counts: &[u64],
        sum: f64,
        min: Option<f64>,
        max: Option<f64>,
    ) -> Result<Self, SketchError> {
        if !SCALES.contains(&scale) {
            return Err(SketchError::Scale(scale));
        }
        if counts.len() > MAX_COUNTS {
            return Err(SketchError::TooManyCounts(counts.len()));
        }
        if !(sum >= 0.0 && sum.is_finite()) {
            return Err(SketchError::Sum);
        }
        // One of the two differences is not negative.
        let level = (SCALE - scale).max(0) as u32;
        let finer = (scale - SCALE).max(0);
        let mut sketch = Self { level, zeros: zero_count, ..Self::new() };
        let (first, last) = index::range(level);
        for (theirs, count) in (i64::from(offset)..).zip(counts) {
            let ours = (theirs >> finer) + 1;
            if ours < first.into() {
                sketch.zeros = sketch.zeros.saturating_add(*count);
            } else if ours > last.into() {
                sketch.rejected = sketch.rejected.saturating_add(*count);
            } else {
                sketch.put(ours as i32, *count);
            }
        }
        if !sketch.is_empty() {
            sketch.nanos = ((sum * 1e9).round() as u128).into();
            let (low, high) = sketch.bounds();
            let min = min.filter(|min| sketch.can_extend(*min, high)).unwrap_or(low);
            let max = max.filter(|max| sketch.can_extend(low, *max)).unwrap_or(high);
            // Within one bucket they can still be the wrong way round.
            (sketch.least, sketch.most) = if min <= max { (min, max) } else { (low, high) };
        }
        sketch.fit();
        Ok(sketch)
    }

    /// Takes in a bucket of a classic histogram: `count` values above `low` and up to `high`, in seconds.
    ///
    /// They are spread evenly over the logarithm. Where `low` is 0 or below 1 ns, over the decade below `high`; where
    /// `high` is infinite or above 2^32 s, all are counted at `low`. What they sum up to and their extremes are taken
    /// from that, so those are estimates. The error that [`Self::alpha`] tells becomes at least half the width of the
    /// bucket relative to its middle, 1 for a bucket that is open at an end. Bounds that are no numbers, not in order,
    /// or of negative or too large values reject the values.
    pub fn add_range(&mut self, low: f64, high: f64, count: u64) {
        if !(low < high && low <= MOST) {
            self.rejected = self.rejected.saturating_add(count);
            return;
        }
        if count == 0 {
            return;
        }
        let open = low < LEAST || high > MOST;
        let low = if low < LEAST { 0.0 } else { low };
        if high < LEAST {
            // Zero, or negative and rejected.
            self.insert_count(high, count);
            return;
        }
        if high > MOST {
            self.insert_count(low, count);
        } else {
            self.merge(&spread(low, high, count));
        }
        self.coarse = self.coarse.max(if open { 1.0 } else { (high - low) / (high + low) });
    }

    /// Between what the buckets say the values are.
    fn bounds(&self) -> (f64, f64) {
        let (first, counts) = self.raw();
        let below_first = index::upper(first - 1, self.level);
        let last = first + counts.len() as i32 - 1;
        (
            if self.zeros > 0 { 0.0 } else { below_first },
            if counts.is_empty() { 0.0 } else { index::upper(last, self.level) },
        )
    }
}

/// Values above `low`, 0 or from [`LEAST`] on, and up to `high`, from [`LEAST`] to [`MOST`].
///
/// The finest level is used, whatever the level of the sketch they are for: collapsed, it is the same as if they had
/// been spread over coarser buckets.
fn spread(low: f64, high: f64, count: u64) -> Sketch {
    let from = if low > 0.0 { low } else { (high / 10.0).max(LEAST) };
    // Next to each other, the two can be one position. Nothing then is up to the end of the first bucket.
    let (start, end) = (position(from), position(high));
    let (first, last) = (index::of(from, 0), index::of(high, 0));
    let mut sketch = Sketch { least: low, most: high, ..Sketch::new() };
    sketch.cover(first, last);
    let mut before = 0;
    for index in first..=last {
        // How many values are up to the end of this bucket, rounded: so nothing is lost, and collapses agree.
        let up_to = match (i64::from(index) << UNIT) - start {
            _ if index == last => count,
            part => rounded(count, part.unsigned_abs(), (end - start).unsigned_abs().max(1)),
        };
        sketch.put(index, up_to - before);
        let middle = 2.0 * index::upper(index, 0) / (index::gamma(0) + 1.0);
        let nanos = u128::from(sum::nanos(middle.max(from).min(high)));
        // Below 2^63 times 2^64.
        sketch.nanos.add_many(nanos * u128::from(up_to - before));
        before = up_to;
    }
    sketch.fit();
    sketch
}

/// Where a value lies on the scale of the buckets, as a fixed-point number: bucket i begins at i - 1 and ends at i.
///
/// Linear within a bucket of one percent, so that no logarithm of some library decides a rounding.
fn position(seconds: f64) -> i64 {
    let index = index::of(seconds, 0);
    let (low, high) = (index::upper(index - 1, 0), index::upper(index, 0));
    let part = (seconds - low) / (high - low) * f64::from(1 << UNIT);
    (i64::from(index - 1) << UNIT) + part.round() as i64
}

/// count part / whole, rounded; `part` is at most `whole`, and so is the result at most the count.
fn rounded(count: u64, part: u64, whole: u64) -> u64 {
    // Below 2^64 times 2^33.
    ((u128::from(count) * u128::from(part) + u128::from(whole) / 2) / u128::from(whole)) as u64
}
