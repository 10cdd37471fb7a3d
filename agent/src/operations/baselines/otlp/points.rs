//! The values of a point: their differences, and the sketches of them.

use genesis_stats::Sketch;

use super::wire::{ExponentialHistogramDataPoint, HistogramDataPoint};
use crate::operations::baselines::source::{Counts, Since, Unit, narrowed, settled};

/// Sketches have buckets of these scales; above 6 they are made coarser.
const SCALES: std::ops::RangeInclusive<i32> = -4..=20;
/// Smaller values count as zero, in seconds.
const LEAST: f64 = 1e-9;

/// The values of a point.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    Explicit(Counts),
    Exponential(Exponential),
}

/// Values in buckets that grow by 2^(2^-scale). Bucket i holds what is above its i-th power and not above the next.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Exponential {
    scale: i32,
    zero_threshold: f64,
    zeros: u64,
    negative: u64,
    offset: i32,
    counts: Vec<u64>,
    sum: Option<f64>,
}

impl Values {
    pub(super) fn of_explicit(point: &HistogramDataPoint) -> Result<Self, &'static str> {
        if point.bucket_counts.is_empty() {
            return Err("it has no buckets");
        }
        Counts::of_buckets(&point.explicit_bounds, &point.bucket_counts, point.sum)
            .filter(|counts| counts.count() == point.count)
            .map(Self::Explicit)
            .ok_or("its buckets are unsound")
    }

    pub(super) fn of_exponential(
        point: &ExponentialHistogramDataPoint,
    ) -> Result<Self, &'static str> {
        if !SCALES.contains(&point.scale) {
            return Err("its scale is not -4 to 20");
        }
        let total = |counts: &[u64]| counts.iter().try_fold(0_u64, |sum, it| sum.checked_add(*it));
        let (offset, counts) =
            point.positive.as_ref().map_or((0, &[][..]), |it| (it.offset, &it.bucket_counts));
        let negative = point.negative.as_ref().map_or(&[][..], |it| &it.bucket_counts);
        let negative = total(negative).ok_or("its buckets are unsound")?;
        let all = total(counts).and_then(|it| it.checked_add(negative));
        if all.and_then(|it| it.checked_add(point.zero_count)) != Some(point.count) {
            return Err("its buckets are unsound");
        }
        let zero_threshold = point.zero_threshold;
        if !(zero_threshold >= 0.0 && zero_threshold.is_finite()) {
            return Err("its bucket of zero is unsound");
        }
        Ok(Self::Exponential(Exponential {
            scale: point.scale,
            zero_threshold,
            zeros: point.zero_count,
            negative,
            offset,
            counts: counts.to_vec(),
            sum: point.sum,
        }))
    }

    /// How many buckets there are.
    pub(super) fn buckets(&self) -> usize {
        match self {
            Self::Explicit(counts) => counts.buckets(),
            Self::Exponential(values) => values.counts.len(),
        }
    }

    pub(super) fn since(&self, former: &Self) -> Since<Self> {
        match (self, former) {
            (Self::Explicit(now), Self::Explicit(then)) => now.since(then).map(Self::Explicit),
            (Self::Exponential(now), Self::Exponential(then)) => {
                now.since(then).map(Self::Exponential)
            }
            _ => Since::Anew,
        }
    }

    /// The values in seconds. `extremes` are the smallest and the largest of them, in their unit.
    pub(super) fn sketch(
        &self,
        unit: Unit,
        extremes: Option<(f64, f64)>,
    ) -> Result<Sketch, &'static str> {
        match self {
            Self::Explicit(counts) => Ok(counts.sketch(unit, extremes)),
            Self::Exponential(values) => values.sketch(unit, extremes),
        }
    }
}

impl Exponential {
    /// The same values in wider buckets.
    fn at(&self, scale: i32) -> Self {
        let by = (self.scale - scale).max(0);
        if by == 0 {
            return self.clone();
        }
        let offset = self.offset >> by;
        let mut counts = Vec::with_capacity(self.counts.len() / 2 + 2);
        for (index, count) in (i64::from(self.offset)..).zip(&self.counts) {
            // Not negative, as the offset is of the first one.
            let place = ((index >> by) - i64::from(offset)) as usize;
            counts.resize(counts.len().max(place + 1), 0);
            // The count of all is within bounds.
            counts[place] += count;
        }
        Self { scale, offset, counts, ..*self }
    }

    /// What became of former ones. A histogram gets a lower scale where its values spread; then the former ones have it
    /// too.
    fn since(&self, former: &Self) -> Since<Self> {
        if self.zero_threshold != former.zero_threshold {
            return Since::Anew;
        }
        let scale = self.scale.min(former.scale);
        let (mut more, then) = (self.at(scale), former.at(scale));
        let zeros = more.zeros.checked_sub(then.zeros);
        let negative = more.negative.checked_sub(then.negative);
        let (Some(zeros), Some(negative)) = (zeros, negative) else { return Since::Reset };
        let shift = i64::from(then.offset) - i64::from(more.offset);
        for (place, count) in (shift..).zip(&then.counts).filter(|(_, count)| **count != 0) {
            let now = usize::try_from(place).ok().and_then(|place| more.counts.get_mut(place));
            match now.and_then(|now| Some((now.checked_sub(*count)?, now))) {
                Some((rest, now)) => *now = rest,
                None => return Since::Reset,
            }
        }
        let sum = self.sum.zip(former.sum).map(|(now, then)| now - then);
        Since::Grown(Self { zeros, negative, sum, ..more })
    }

    fn sketch(&self, unit: Unit, extremes: Option<(f64, f64)>) -> Result<Sketch, &'static str> {
        let known = |sum: &f64| *sum >= 0.0 && sum.is_finite();
        let sum = self.sum.map(|sum| unit.seconds(sum)).filter(known);
        let own = extremes;
        let extremes = extremes.map(|(min, max)| (unit.seconds(min), unit.seconds(max)));
        let threshold = unit.seconds(self.zero_threshold);
        let mut sketch =
            if unit == Unit::Seconds { self.same(sum, extremes)? } else { self.spread(unit, own) };
        if threshold > LEAST {
            sketch.add_range(0.0, threshold, self.zeros);
        } else {
            sketch.insert_count(0.0, self.zeros);
        }
        // Before those that are rejected, with which no sum is believed.
        let mut sketch = settled(sketch, sum, extremes);
        sketch.insert_count(-1.0, self.negative);
        Ok(sketch)
    }

    /// Buckets of seconds are those of a sketch, so that nothing is lost.
    fn same(&self, sum: Option<f64>, extremes: Option<(f64, f64)>) -> Result<Sketch, &'static str> {
        let (min, max) = extremes.unzip();
        let of =
            |sum| Sketch::from_exponential(self.scale, 0, self.offset, &self.counts, sum, min, max);
        let sketch = of(sum.unwrap_or(0.0)).map_err(|_| "it has too many buckets")?;
        if sum.is_some() {
            return Ok(sketch);
        }
        // What the middles of the buckets sum up to.
        let middles = sketch.buckets().map(|(low, high, count)| (low + high) / 2.0 * count as f64);
        let middles = middles.sum();
        Ok(settled(sketch, Some(middles), None))
    }

    /// Buckets of another unit lie across those of a sketch.
    fn spread(&self, unit: Unit, extremes: Option<(f64, f64)>) -> Sketch {
        let width = f64::from(-self.scale).exp2();
        let bound = |index: i64| (index as f64 * width).exp2();
        let mut sketch = Sketch::new();
        let buckets = (i64::from(self.offset)..).zip(&self.counts);
        for (index, count) in buckets.filter(|(_, count)| **count != 0) {
            let (low, high) = narrowed((bound(index), bound(index + 1)), extremes);
            let (low, high) = (unit.seconds(low), unit.seconds(high));
            if high < LEAST {
                sketch.insert_count(0.0, *count);
            } else {
                sketch.add_range(low, high, *count);
            }
        }
        sketch
    }
}
