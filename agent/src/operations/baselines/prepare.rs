//! A batch as it came in, made ready to be written, pure: sorted by hour and minute into sketches, and packed.

use std::collections::HashMap;

use genesis_stats::{Sketch, column};

use super::plan::{self, HOUR, NANOS, hour_of};

/// So many observations a batch has at most.
pub const ROWS: usize = 100_000;
/// So many operations.
pub const COLUMNS: usize = 10_000;
/// So far ahead of this host's clock an observation may be, in seconds.
pub const AHEAD: i64 = 300;
const MINUTE: i64 = 60;

/// How long calls of one operation took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// The operation.
    pub operation: String,
    /// When each call ended, in nanoseconds since 1970.
    pub times: Vec<i64>,
    /// How long it took, in seconds.
    pub seconds: Vec<f64>,
}

/// A batch as it came in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Who sends.
    pub producer: String,
    /// Which of its batches.
    pub sequence: u64,
    /// By operation.
    pub columns: Vec<Column>,
}

/// Which observations count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Now, in seconds since 1970.
    pub now: i64,
    /// What is older is late.
    pub oldest: i64,
    /// From here on windows are still open.
    pub open: i64,
}

/// What a batch has of one operation.
#[derive(Debug, Clone, Default)]
pub struct Share {
    /// The operation.
    pub operation: String,
    /// Observations that count.
    pub counted: u32,
    /// Those whose value is none.
    pub rejected: u32,
    /// By hour since 1970.
    pub hours: Vec<(u32, Sketch)>,
    /// By minute since 1970, of those whose window is open.
    pub minutes: Vec<(i64, Sketch)>,
    /// All that count, packed.
    pub raw: Vec<u8>,
}

/// A batch that is ready.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    /// Who sends.
    pub producer: String,
    /// Which of its batches.
    pub sequence: u64,
    /// By operation.
    pub shares: Vec<Share>,
    /// Those that are too old.
    pub late: u32,
    /// Those that lie in the future.
    pub ahead: u32,
}

/// What is wrong with a batch, in words; nothing: `None`.
pub fn wrong(batch: &Batch) -> Option<String> {
    if !plan::is_name(&batch.producer, 64) {
        return Some("its producer is no name: 1 to 64 of a-z, A-Z, 0-9 and -_.:/".to_owned());
    }
    if batch.sequence == 0 {
        return Some("its sequence is 0; the first one is 1".to_owned());
    }
    if batch.columns.len() > COLUMNS {
        return Some(format!("it has {} columns, {COLUMNS} are allowed", batch.columns.len()));
    }
    let mut rows = 0;
    for column in &batch.columns {
        if !plan::is_name(&column.operation, 128) {
            let shown: String = column.operation.chars().take(64).collect();
            return Some(format!("{shown:?} is no operation: 1 to 128 of a-z, A-Z, 0-9 and -_.:/"));
        }
        if column.times.len() != column.seconds.len() {
            let (times, values) = (column.times.len(), column.seconds.len());
            return Some(format!("{} has {times} times for {values} values", column.operation));
        }
        rows += column.times.len();
    }
    (rows > ROWS).then(|| format!("it has {rows} observations, {ROWS} are allowed"))
}

/// Sorts and packs a batch that has nothing wrong.
pub fn prepare(batch: Batch, horizon: &Horizon) -> Prepared {
    let Batch { producer, sequence, columns } = batch;
    let mut prepared = Prepared { producer, sequence, ..Prepared::default() };
    let mut places: HashMap<String, usize> = HashMap::with_capacity(columns.len());
    for column in columns {
        let share = share(column, horizon, &mut prepared);
        match places.get(&share.operation) {
            Some(at) => join(&mut prepared.shares[*at], &share),
            None => {
                places.insert(share.operation.clone(), prepared.shares.len());
                prepared.shares.push(share);
            }
        }
    }
    prepared
}

/// Sketches that others made, each of an operation and a second since 1970, as a batch without raw rows.
pub fn sketches<'a>(
    items: impl Iterator<Item = (&'a str, i64, &'a Sketch)>,
    horizon: &Horizon,
    (producer, sequence): (String, u64),
) -> Prepared {
    let mut prepared = Prepared { producer, sequence, ..Prepared::default() };
    let mut places: HashMap<String, usize> = HashMap::new();
    for (operation, second, sketch) in items {
        let count = u32::try_from(sketch.count()).unwrap_or(u32::MAX);
        if second < horizon.oldest {
            prepared.late = prepared.late.saturating_add(count);
            continue;
        }
        if second > horizon.now.saturating_add(AHEAD) {
            prepared.ahead = prepared.ahead.saturating_add(count);
            continue;
        }
        let at = *places.entry(operation.to_owned()).or_insert_with(|| {
            prepared.shares.push(Share { operation: operation.to_owned(), ..Share::default() });
            prepared.shares.len() - 1
        });
        let share = &mut prepared.shares[at];
        share.counted = share.counted.saturating_add(count);
        merge(&mut share.hours, hour_of(second), sketch);
        if second >= horizon.open {
            merge(&mut share.minutes, second.div_euclid(MINUTE), sketch);
        }
    }
    prepared
}

fn share(column: Column, horizon: &Horizon, prepared: &mut Prepared) -> Share {
    let Column { operation, times, seconds } = column;
    let mut share = Share { operation, ..Share::default() };
    let bound = |seconds: i64| seconds.saturating_mul(NANOS);
    let (oldest, newest) = (bound(horizon.oldest), bound(horizon.now.saturating_add(AHEAD)));
    let open = bound(horizon.open);
    let (mut kept, mut nanos) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
    // Rows are in order but for a few, so the sketch that the last one went to is the next one's as well.
    let (mut from, mut until, mut at) = (0, 0, Slot::Hour(0));
    for (time, value) in times.into_iter().zip(seconds) {
        if time < oldest {
            prepared.late += 1;
            continue;
        }
        if time > newest {
            prepared.ahead += 1;
            continue;
        }
        if time < from || time >= until {
            (from, until, at) = share.slot(time, open);
        }
        if share.sketch(at).insert(value) {
            kept.push(time);
            nanos.push(column::nanos_of(value));
        } else {
            share.rejected += 1;
        }
    }
    share.counted = u32::try_from(kept.len()).unwrap_or(u32::MAX);
    // A batch has fewer rows than a chunk may have, and as many times as values.
    if !kept.is_empty() {
        let _ = column::encode(&kept, &nanos, &mut share.raw);
    }
    // An hour is its minutes and what came late for a window.
    for (minute, sketch) in std::mem::take(&mut share.minutes) {
        let hour = hour_of(minute * MINUTE);
        merge(&mut share.hours, hour, &sketch);
        share.minutes.push((minute, sketch));
    }
    share
}

#[derive(Debug, Clone, Copy)]
enum Slot {
    Hour(usize),
    Minute(usize),
}

impl Share {
    /// Where a row of this time goes, and until when the next ones go there too.
    fn slot(&mut self, time: i64, open: i64) -> (i64, i64, Slot) {
        let seconds = time.div_euclid(NANOS);
        let (length, is_open) = if time >= open { (MINUTE, true) } else { (HOUR, false) };
        let start = seconds - seconds.rem_euclid(length);
        let from = start.saturating_mul(NANOS);
        let mut until = from.saturating_add(length * NANOS);
        let slot = match is_open {
            true => Slot::Minute(place(&mut self.minutes, start / MINUTE)),
            false => {
                until = until.min(open);
                Slot::Hour(place(&mut self.hours, hour_of(start)))
            }
        };
        (from, until, slot)
    }

    fn sketch(&mut self, slot: Slot) -> &mut Sketch {
        match slot {
            Slot::Hour(at) => &mut self.hours[at].1,
            Slot::Minute(at) => &mut self.minutes[at].1,
        }
    }
}

fn place<K: Copy + PartialEq>(sketches: &mut Vec<(K, Sketch)>, key: K) -> usize {
    // The newest are the likeliest.
    sketches.iter().rposition(|(of, _)| *of == key).unwrap_or_else(|| {
        sketches.push((key, Sketch::new()));
        sketches.len() - 1
    })
}

fn merge<K: Copy + PartialEq>(sketches: &mut Vec<(K, Sketch)>, key: K, sketch: &Sketch) {
    let at = place(sketches, key);
    sketches[at].1.merge(sketch);
}

/// Two columns of one operation are one.
fn join(before: &mut Share, share: &Share) {
    before.counted += share.counted;
    before.rejected += share.rejected;
    before.raw.extend_from_slice(&share.raw);
    for (hour, sketch) in &share.hours {
        merge(&mut before.hours, *hour, sketch);
    }
    for (minute, sketch) in &share.minutes {
        merge(&mut before.minutes, *minute, sketch);
    }
}
