//! The sums of each day of the window: read back where the day has not changed since, else made of its values.

use std::collections::{BTreeMap, HashMap};

use genesis_stats::correlation::Block;
use genesis_storage::{Values, ValuesReading};

use super::columns::Day;
use super::config::Config;
use super::hours::Hour;
use crate::error::{Error, Result};

/// How the bytes begin.
const VERSION: u8 = 1;
/// The bytes before the names: version, revision, what the configuration says, count of names.
const HEAD: usize = 1 + 8 + 16 + 4;

/// The sums of a day.
#[derive(Debug, Clone, PartialEq)]
pub struct DaySums {
    /// Days since 1970.
    pub day: u32,
    /// The names of its series, sorted.
    pub series: Vec<String>,
    /// Their sums.
    pub block: Block,
    /// It was made of the values, and is not yet kept.
    pub fresh: bool,
    /// Of how many changes of the day it knows.
    revision: u64,
}

/// The sums of a day; `None`: there are no values.
///
/// # Errors
/// `STORAGE_FAILED`, `SERIES_UNAVAILABLE`.
pub fn sums(
    reading: &ValuesReading<'_>,
    day: u32,
    names: &BTreeMap<u32, String>,
    config: &Config,
) -> Result<Option<DaySums>> {
    let revision = reading.revision(day)?;
    if revision == 0 {
        return Ok(None);
    }
    let of = fingerprint(config);
    let kept = reading.block(day)?.and_then(|bytes| read(&bytes, day, revision, of));
    if kept.is_some() {
        return Ok(kept);
    }
    let (first, mut days) = (day.saturating_mul(24), HashMap::<u32, Day>::new());
    reading.hours(first.saturating_sub(1)..=first.saturating_add(23), |hour, series, bytes| {
        let used = names.get(&series).is_some_and(|name| config.uses(name));
        let Some(values) = Hour::from_bytes(bytes).filter(|_| used) else { return Ok(()) };
        let of_day = days.entry(series).or_insert_with(|| Day::new(config.bucket));
        match hour.checked_sub(first) {
            Some(hour) => of_day.take(hour, &values),
            None => of_day.take_before(&values),
        }
        Ok::<_, Error>(())
    })?;
    let mut columns: Vec<(&String, Vec<f64>)> = days
        .iter()
        .filter_map(|(series, of_day)| {
            let name = names.get(series)?;
            let column = match config.has_prices(name) {
                true => of_day.returns(),
                false => of_day.values().to_vec(),
            };
            column.iter().any(|value| value.is_finite()).then_some((name, column))
        })
        .collect();
    if columns.is_empty() {
        return Ok(None);
    }
    columns.sort_unstable_by(|one, other| one.0.cmp(other.0));
    let values: Vec<&[f64]> = columns.iter().map(|(_, column)| column.as_slice()).collect();
    let block = Block::of(&values, &Block::centres(&values)).map_err(|error| {
        Error::internal("SERIES_UNAVAILABLE", format!("the sums of a day can't be made: {error}"))
    })?;
    let series = columns.into_iter().map(|(name, _)| name.clone()).collect();
    Ok(Some(DaySums { day, series, block, fresh: true, revision }))
}

/// Keeps those that are fresh.
///
/// # Errors
/// `STORAGE_FAILED`.
pub fn keep<'a>(
    store: &Values,
    days: impl IntoIterator<Item = &'a DaySums>,
    config: &Config,
) -> Result<()> {
    let fresh: Vec<&DaySums> = days.into_iter().filter(|it| it.fresh).collect();
    if fresh.is_empty() {
        return Ok(());
    }
    let of = fingerprint(config);
    store.write(|writing| {
        for sums in fresh {
            writing.put_block(sums.day, &write(sums, of))?;
        }
        Ok(())
    })
}

/// Names what sums depend on besides the values.
fn fingerprint(config: &Config) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&config.bucket.to_le_bytes());
    for patterns in [&config.returns, &config.series, &config.exclude] {
        for pattern in patterns {
            hasher.update(pattern.as_str().as_bytes());
            hasher.update(&[0]);
        }
        hasher.update(&[1]);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}

fn write(sums: &DaySums, of: [u8; 16]) -> Vec<u8> {
    let block = sums.block.to_bytes();
    let mut bytes = Vec::with_capacity(HEAD + 16 * sums.series.len() + block.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&sums.revision.to_le_bytes());
    bytes.extend_from_slice(&of);
    bytes.extend_from_slice(&(sums.series.len() as u32).to_le_bytes());
    for name in &sums.series {
        // A name has at most 64 bytes.
        bytes.push(name.len().min(255) as u8);
        bytes.extend_from_slice(&name.as_bytes()[..name.len().min(255)]);
    }
    bytes.extend_from_slice(&block);
    bytes
}

/// What was written; `None` for what was not written so, or is of other values.
fn read(bytes: &[u8], day: u32, revision: u64, of: [u8; 16]) -> Option<DaySums> {
    let (head, mut rest) = bytes.split_at_checked(HEAD)?;
    let same = head[0] == VERSION && head[1..9] == revision.to_le_bytes() && head[9..25] == of;
    if !same {
        return None;
    }
    let count = u32::from_le_bytes([head[25], head[26], head[27], head[28]]);
    let mut series = Vec::new();
    for _ in 0..count {
        let (length, behind) = rest.split_first()?;
        let (name, behind) = behind.split_at_checked(usize::from(*length))?;
        series.push(std::str::from_utf8(name).ok()?.to_owned());
        rest = behind;
    }
    let block = Block::from_bytes(rest).ok().filter(|block| block.series() == series.len())?;
    Some(DaySums { day, series, block, fresh: false, revision })
}
