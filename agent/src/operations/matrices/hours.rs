//! The values of one series in one hour, as they are kept: of each bucket the last one, with its time. Pure.

/// An hour in nanoseconds.
pub const HOUR: i64 = 3_600_000_000_000;
/// How the bytes begin.
const VERSION: u8 = 1;
/// Bytes of a value: six of its time since the hour began, in nanoseconds, and eight of the number.
const ENTRY: usize = 14;

/// Values with their times in nanoseconds since the hour began, in the order of those.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hour(Vec<(u64, f64)>);

impl Hour {
    /// What was written; `None` for what was not written so.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, entries) = bytes.split_first()?;
        if *version != VERSION || entries.len() % ENTRY != 0 {
            return None;
        }
        let mut values = Vec::with_capacity(entries.len() / ENTRY);
        for entry in entries.chunks_exact(ENTRY) {
            let (mut time, mut value) = ([0; 8], [0; 8]);
            time[..6].copy_from_slice(&entry[..6]);
            value.copy_from_slice(&entry[6..]);
            let (time, value) = (u64::from_le_bytes(time), f64::from_le_bytes(value));
            let before = values.last().map(|(before, _)| *before);
            let in_order = before.is_none_or(|before| before < time);
            if !in_order || time >= HOUR as u64 || !value.is_finite() {
                return None;
            }
            values.push((time, value));
        }
        Some(Self(values))
    }

    /// As it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + ENTRY * self.0.len());
        bytes.push(VERSION);
        for (time, value) in &self.0 {
            bytes.extend_from_slice(&time.to_le_bytes()[..6]);
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// Takes a value in, whose bucket is so long (nanoseconds); whether it is the last of that by now. One at the same
    /// time as another takes its place, so that what was wrong can be sent again.
    pub fn put(&mut self, time: u64, value: f64, bucket: u64) -> bool {
        let first = time - time % bucket;
        let from = self.0.partition_point(|(at, _)| *at < first);
        let until = self.0.partition_point(|(at, _)| *at < first + bucket);
        if until > from && self.0[until - 1].0 > time {
            return false;
        }
        self.0.splice(from..until, [(time, value)]);
        true
    }

    /// Its values, with their times in nanoseconds since the hour began.
    pub fn values(&self) -> &[(u64, f64)] {
        &self.0
    }
}
