//! The columns of a day, of which its sums are made: one row for each bucket, one column for each series. Pure.

use super::hours::Hour;

/// A day in seconds.
pub const DAY: u32 = 86_400;
/// An hour in seconds.
const HOUR: u32 = 3_600;

/// The last value of each bucket of a day, of one series. NaN: there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    /// Seconds of a bucket.
    bucket: u32,
    /// The last bucket of the day before, and then those of the day.
    values: Vec<f64>,
}

impl Day {
    /// Before any value. `bucket`: seconds, of which an hour is a multiple.
    pub fn new(bucket: u32) -> Self {
        let bucket = bucket.clamp(1, HOUR);
        Self { bucket, values: vec![f64::NAN; 1 + (DAY / bucket) as usize] }
    }

    /// Takes in an hour of the day, 0 to 23.
    pub fn take(&mut self, of_day: u32, hour: &Hour) {
        let first = 1 + (of_day.min(23) * (HOUR / self.bucket)) as usize;
        let nanos = u64::from(self.bucket) * 1_000_000_000;
        // In the order of time, so that the last one stays.
        for (time, value) in hour.values() {
            let at = first + (time / nanos) as usize;
            if let Some(place) = self.values.get_mut(at) {
                *place = *value;
            }
        }
    }

    /// Takes in the last hour of the day before.
    pub fn take_before(&mut self, hour: &Hour) {
        let begins = u64::from(HOUR - self.bucket) * 1_000_000_000;
        if let Some((_, value)) = hour.values().last().filter(|(time, _)| *time >= begins) {
            self.values[0] = *value;
        }
    }

    /// The values of the day, by bucket.
    pub fn values(&self) -> &[f64] {
        &self.values[1..]
    }

    /// The logarithms of the ratio of each price to the one of the bucket before. Where one of both is missing there is
    /// none: to fill a gap with the last price would make a return of 0 that nobody saw, and one of several buckets.
    pub fn returns(&self) -> Vec<f64> {
        let pairs = self.values.windows(2);
        pairs.map(|pair| log_return(pair[0], pair[1])).collect()
    }
}

fn log_return(before: f64, now: f64) -> f64 {
    // A NaN compares false.
    if before > 0.0 && now > 0.0 { (now / before).ln() } else { f64::NAN }
}
