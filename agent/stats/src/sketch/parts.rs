//! A sketch taken apart, and what can be wrong when one is put together.

use std::fmt;

use super::Sketch;
use super::index::{self, MAX_LEVEL, MOST};

/// More counts than this are refused, empty ones included.
const MAX_COUNTS: usize = 4_096;

/// What a sketch consists of, for other representations.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// How often the buckets were collapsed, 0 to 10.
    pub level: u32,
    /// Values that are zero or below 1 ns.
    pub zeros: u64,
    /// Values that were not accepted.
    pub rejected: u64,
    /// The index of the first of `counts`: its bucket ends with gamma^offset seconds.
    pub offset: i32,
    /// Values in each bucket.
    pub counts: Vec<u64>,
    /// The sum of the values in nanoseconds.
    pub sum_nanos: u128,
    /// The smallest value in seconds; there is one unless there are no values.
    pub min: Option<f64>,
    /// The largest value in seconds; there is one unless there are no values.
    pub max: Option<f64>,
    /// The relative error of the widest coarser bucket that was put in, 0 to 1.
    pub coarse: f64,
}

/// Why there is no sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SketchError {
    /// The bytes end too early.
    Truncated,
    /// The bytes are of another version.
    Version(u8),
    /// The bytes are not those that the sketch in them has.
    NotCanonical,
    /// The level is not 0 to 10.
    Level(u32),
    /// The scale is not -4 to 20.
    Scale(i32),
    /// There are more counts than a sketch can have.
    TooManyCounts(usize),
    /// A populated bucket is of values that a sketch does not hold.
    Bucket,
    /// The smallest and the largest value are not those of the buckets.
    Extremes,
    /// The sum is negative or no number, or there is one of no values.
    Sum,
    /// The relative error is not 0 to 1, or there is one of no values.
    Coarse,
}

impl fmt::Display for SketchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "the bytes end too early"),
            Self::Version(version) => write!(f, "version {version} is not known"),
            Self::NotCanonical => write!(f, "the bytes are not canonical"),
            Self::Level(level) => write!(f, "level {level} is not 0 to {MAX_LEVEL}"),
            Self::Scale(scale) => write!(f, "scale {scale} is not -4 to 20"),
            Self::TooManyCounts(count) => write!(f, "{count} counts are too many"),
            Self::Bucket => write!(f, "a bucket is not between 1 ns and 2^32 s"),
            Self::Extremes => write!(f, "the extremes do not match the buckets"),
            Self::Sum => write!(f, "the sum does not match the values"),
            Self::Coarse => write!(f, "the relative error is not 0 to 1"),
        }
    }
}

impl std::error::Error for SketchError {}

impl Sketch {
    /// What it consists of, without empty buckets at the ends.
    pub fn to_parts(&self) -> Parts {
        let (offset, counts) = self.raw();
        Parts {
            level: self.level,
            zeros: self.zeros,
            rejected: self.rejected,
            offset,
            counts: counts.to_vec(),
            sum_nanos: self.nanos.get(),
            min: self.min(),
            max: self.max(),
            coarse: self.coarse,
        }
    }

    /// The sketch of these parts, if there is one. Empty buckets at the ends are let pass.
    pub fn from_parts(parts: Parts) -> Result<Self, SketchError> {
        let Parts { level, zeros, rejected, offset, counts, sum_nanos, min, max, coarse } = parts;
        if level > MAX_LEVEL {
            return Err(SketchError::Level(level));
        }
        let filled = counts.iter().filter(|count| **count != 0).count();
        if counts.len() > MAX_COUNTS || filled > Self::LIMIT {
            return Err(SketchError::TooManyCounts(counts.len()));
        }
        let (first, last) = index::range(level);
        let at = |slot: Option<usize>| slot.map(|slot| i64::from(offset) + slot as i64);
        let lowest = at(counts.iter().position(|count| *count != 0));
        let highest = at(counts.iter().rposition(|count| *count != 0));
        if lowest.is_some_and(|index| index < first.into())
            || highest.is_some_and(|index| index > last.into())
        {
            return Err(SketchError::Bucket);
        }
        let mut sketch =
            Self { level, zeros, rejected, nanos: sum_nanos.into(), coarse, ..Self::new() };
        if filled > 0 {
            // Within the range, as is the difference: the counts are few.
            (sketch.offset, sketch.counts, sketch.filled) = (offset, counts, filled);
        }
        if !(coarse.is_sign_positive() && coarse <= 1.0) || (sketch.is_empty() && coarse != 0.0) {
            return Err(SketchError::Coarse);
        }
        if sketch.is_empty() && sum_nanos != 0 {
            return Err(SketchError::Sum);
        }
        (sketch.least, sketch.most) = match (min, max) {
            (None, None) if sketch.is_empty() => (sketch.least, sketch.most),
            (Some(min), Some(max)) if sketch.can_extend(min, max) => (min, max),
            _ => return Err(SketchError::Extremes),
        };
        Ok(sketch)
    }

    /// Whether these can be the smallest and the largest of the values: what is in the buckets lies between them.
    pub(super) fn can_extend(&self, min: f64, max: f64) -> bool {
        let (first, counts) = self.raw();
        let lowest = (self.zeros == 0).then_some(first);
        let highest = (!counts.is_empty()).then_some(first + counts.len() as i32 - 1);
        !self.is_empty()
            && min.is_sign_positive()
            // Of zeros alone the largest is one too, and there is a negative one.
            && max.is_sign_positive()
            && min <= max
            && max <= MOST
            && self.place(min) <= lowest
            && self.place(max) >= highest
    }
}
