//! How complete a series is: its buckets with and without a value. Pure.

use super::hours::{HOUR, Hour};

/// Buckets in a row without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first of them, in buckets since 1970.
    pub from: i64,
    /// The one behind the last.
    pub until: i64,
}

/// What a walk over the hours of a series finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Walk {
    /// Nanoseconds of a bucket.
    bucket: i64,
    /// So many gaps are named at most.
    most: usize,
    /// The first and the last bucket with a value, and the last of the values with its time in nanoseconds since 1970.
    pub ends: Option<(i64, i64, i64, f64)>,
    /// Buckets with a value.
    pub points: u64,
    /// Buckets without one, between the first and the last.
    pub missing: u64,
    /// Runs of those.
    pub gaps: u64,
    /// The longest of them, the longest first.
    pub longest: Vec<Gap>,
}

impl Walk {
    /// Before the first hour. `bucket`: seconds.
    pub fn new(bucket: u32, most: usize) -> Self {
        Self {
            bucket: i64::from(bucket.max(1)) * 1_000_000_000,
            most,
            ends: None,
            points: 0,
            missing: 0,
            gaps: 0,
            longest: Vec::new(),
        }
    }

    /// The next hour of the series, in hours since 1970.
    pub fn take(&mut self, hour: u32, values: &Hour) {
        let begins = i64::from(hour) * HOUR;
        for (time, value) in values.values() {
            let at = begins + *time as i64;
            let bucket = at.div_euclid(self.bucket);
            let Some((first, last, ..)) = self.ends else {
                self.points = 1;
                self.ends = Some((bucket, bucket, at, *value));
                continue;
            };
            if bucket > last {
                self.points += 1;
                self.gap(Gap { from: last + 1, until: bucket });
            }
            self.ends = Some((first, bucket.max(last), at, *value));
        }
    }

    fn gap(&mut self, gap: Gap) {
        let buckets = gap.until - gap.from;
        if buckets <= 0 {
            return;
        }
        self.gaps += 1;
        self.missing += buckets as u64;
        if self.most == 0 {
            return;
        }
        let length = |it: &Gap| it.until - it.from;
        let place = self.longest.partition_point(|it| length(it) >= buckets);
        self.longest.insert(place, gap);
        self.longest.truncate(self.most);
    }

    /// When a bucket begins, in nanoseconds since 1970.
    pub fn begins(&self, bucket: i64) -> i64 {
        bucket.saturating_mul(self.bucket)
    }
}
