//! A batch of trades made ready for the writer, pure: each trade in an arm or none, in the order of time and id, whatever
//! the order in which they came.

use std::collections::BTreeMap;
use std::sync::Arc;

use genesis_storage::ExperimentRecord;

use super::plan;
use super::tally::Arm;

/// The most trades of a batch.
pub const ROWS: usize = 100_000;
/// The most experiments of a batch.
pub const COLUMNS: usize = 1_000;
/// What lies further ahead, in seconds, is in the future.
pub const AHEAD: i64 = 300;
/// The longest id of a trade, in bytes.
pub const ID: usize = 128;
const NANOS: i64 = 1_000_000_000;

/// Trades of one experiment, by column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// Which one.
    pub experiment: String,
    /// What each is named by.
    pub ids: Vec<String>,
    /// When each ended, in nanoseconds since 1970.
    pub times: Vec<i64>,
    /// What each earned.
    pub pnl: Vec<f64>,
    /// Whose each was; or none of them.
    pub units: Vec<String>,
    /// In which arm each was; or none of them.
    pub arms: Vec<Option<Arm>>,
}

/// A batch of a producer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Who sends.
    pub producer: String,
    /// Which of its batches.
    pub sequence: u64,
    /// The trades.
    pub columns: Vec<Column>,
}

/// A trade that may count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// When it ended, in nanoseconds since 1970.
    pub time: i64,
    /// What stands for its id.
    pub id: u128,
    /// What it earned.
    pub pnl: f64,
    /// In which arm.
    pub arm: Arm,
    /// What stands for whose it was, where that is told.
    pub unit: Option<u64>,
}

/// A batch's trades of one experiment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Share {
    /// By time and id.
    pub rows: Vec<Row>,
    /// Those that are too old.
    pub late: Vec<Row>,
    /// Those that are none.
    pub rejected: u32,
}

/// What the writer gets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prepared {
    /// Who sends.
    pub producer: String,
    /// Which of its batches.
    pub sequence: u64,
    /// By experiment.
    pub shares: BTreeMap<u64, Share>,
    /// Trades of experiments that are not known here.
    pub unknown: u32,
}

/// Between which times trades count, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// From here.
    pub oldest: i64,
    /// To here.
    pub newest: i64,
}

impl Horizon {
    /// Of trades whose ids are kept for so long, in seconds, at a time in seconds since 1970.
    pub fn at(now: i64, kept: i64) -> Self {
        let nanos = |seconds: i64| seconds.saturating_mul(NANOS);
        Self { oldest: nanos(now.saturating_sub(kept)), newest: nanos(now.saturating_add(AHEAD)) }
    }
}

/// What is wrong with a batch as a whole.
pub fn wrong(batch: &Batch) -> Option<String> {
    let name = &batch.producer;
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(ok) {
        let shown: String = name.chars().take(64).collect();
        let why = format!("{shown:?} is no producer; use 1 to 64 of a-z, A-Z, 0-9 and -_.:/");
        return Some(why);
    }
    if batch.sequence == 0 {
        return Some("sequences begin with 1".to_owned());
    }
    if batch.columns.len() > COLUMNS {
        return Some(format!("{} columns are more than {COLUMNS}", batch.columns.len()));
    }
    let rows: usize = batch.columns.iter().map(|column| column.ids.len()).sum();
    if rows > ROWS {
        return Some(format!("{rows} trades are more than {ROWS}"));
    }
    batch.columns.iter().find_map(|column| {
        let rows = column.ids.len();
        let wanted = [column.times.len(), column.pnl.len()];
        let may_lack = [column.units.len(), column.arms.len()];
        let even = wanted.iter().all(|it| *it == rows)
            && may_lack.iter().all(|it| *it == rows || *it == 0);
        (!even).then(|| {
            let shown: String = column.experiment.chars().take(64).collect();
            format!("the columns of {shown:?} differ in length")
        })
    })
}

/// Makes a batch ready. `known`: the experiments that are known here, also those that have ended.
pub fn prepare(
    batch: Batch,
    known: &BTreeMap<u64, Arc<ExperimentRecord>>,
    horizon: Horizon,
) -> Prepared {
    let mut prepared =
        Prepared { producer: batch.producer, sequence: batch.sequence, ..Prepared::default() };
    let mut texts: BTreeMap<u64, Vec<(Row, String)>> = BTreeMap::new();
    for column in batch.columns {
        let Some(record) = plan::find(&column.experiment, known) else {
            prepared.unknown += column.ids.len() as u32;
            continue;
        };
        let share = prepared.shares.entry(record.number).or_default();
        let rows = texts.entry(record.number).or_default();
        // Of a trade that is told by the second nobody knows when in that it was.
        let began = record.started_at.as_second().saturating_mul(NANOS);
        for (at, id) in column.ids.into_iter().enumerate() {
            let (time, pnl) = (column.times[at], column.pnl[at]);
            let given = column.arms.get(at).copied().flatten();
            let unit = column.units.get(at).filter(|unit| plan::wrong_unit(unit).is_none());
            let of_unit = || unit.map(|unit| plan::arm(record, unit));
            let usable = (1..=ID).contains(&id.len()) && pnl.is_finite() && time <= horizon.newest;
            let Some(arm) = given.or_else(of_unit).filter(|_| usable) else {
                share.rejected += 1;
                continue;
            };
            let unit = unit.map(|unit| stands_for(unit) as u64);
            let row = Row { time, id: stands_for(&id), pnl, arm, unit };
            if time < horizon.oldest || time < began {
                share.late.push(row);
            } else {
                rows.push((row, id));
            }
        }
    }
    for (number, mut rows) in texts {
        rows.sort_unstable_by(|(one, id), (other, other_id)| {
            (one.time, id).cmp(&(other.time, other_id))
        });
        if let Some(share) = prepared.shares.get_mut(&number) {
            share.rows = rows.into_iter().map(|(row, _)| row).collect();
        }
    }
    prepared
}

/// 128 bits of BLAKE3: of 10^9 ids two have the same with a chance of 10^-21.
pub fn stands_for(id: &str) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}
