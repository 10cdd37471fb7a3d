//! What care does, in which order. Pure.

use jiff::Timestamp;

use super::config::Bloat;
use crate::outside::database::facts::{Index, Table};
use crate::outside::database::postgres::quote;

/// A table to vacuum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacuum {
    /// Its object id.
    pub oid: u32,
    /// Its schema and name, quoted.
    pub name: String,
    /// What it was before.
    pub before: Table,
}

/// An index to rebuild.
#[derive(Debug, Clone, PartialEq)]
pub struct Reindex {
    /// It.
    pub index: Index,
    /// Its schema and name, quoted.
    pub name: String,
    /// The share that is bloat, 0 to 1.
    pub bloat: f64,
    /// Whether that was measured, and not estimated.
    pub exact: bool,
}

/// A schema and name as they stand in SQL.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote(schema), quote(name))
}

/// The tables to vacuum: those with the most dead rows first, of those the largest, so that what the window may cut off
/// matters least. Partitioned tables hold nothing themselves.
pub fn vacuums(tables: &[Table]) -> Vec<Vacuum> {
    let mut wanted: Vec<&Table> =
        tables.iter().filter(|table| table.owned && !table.partitioned).collect();
    wanted.sort_by(|a, b| (b.dead, b.bytes, a.oid).cmp(&(a.dead, a.bytes, b.oid)));
    wanted
        .into_iter()
        .map(|table| Vacuum {
            oid: table.oid,
            name: qualified(&table.schema, &table.name),
            before: table.clone(),
        })
        .collect()
}

/// What VACUUM (ANALYZE) has not analysed: partitioned tables, whose statistics over all partitions nobody else renews,
/// and those whose rows have changed since.
pub fn analyzes(tables: &[Table], began_us: i64) -> Vec<String> {
    let stale = |table: &&Table| {
        table.owned
            && (table.partitioned
                || (table.analyzed_us < began_us && table.changed * 10 > table.live))
    };
    tables.iter().filter(stale).map(|table| qualified(&table.schema, &table.name)).collect()
}

/// How bloated an index is: as measured, else as estimated; `None`: nobody knows.
pub fn bloat(index: &Index) -> Option<(f64, bool)> {
    index.measured.map(|share| (share, true)).or_else(|| index.bloat.map(|share| (share, false)))
}

/// The indexes worth a look by pgstattuple, which reads all of them: the most bloated by estimate first, as long as they
/// are together within so many bytes.
pub fn worth_measuring(indexes: &[Index], limits: &Bloat, most: u64) -> Vec<u32> {
    let fits = |index: &&Index| index.method == "btree" && eligible(index, limits);
    let mut worth: Vec<&Index> = indexes.iter().filter(fits).collect();
    // Of which nothing is known comes before all.
    let estimate = |index: &Index| index.bloat.unwrap_or(f64::INFINITY);
    worth.sort_by(|a, b| estimate(b).total_cmp(&estimate(a)).then(a.oid.cmp(&b.oid)));
    within(worth, most)
}

/// Those of them, in their order, that are together within so many bytes.
fn within(mut indexes: Vec<&Index>, most: u64) -> Vec<u32> {
    let mut left = most;
    indexes.retain(|index| match left.checked_sub(index.bytes.unsigned_abs()) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    indexes.iter().map(|index| index.oid).collect()
}

/// The large indexes that nothing is known of, the largest first, as long as they are together within so many bytes.
pub fn worth_asking(indexes: &[Index], limits: &Bloat, most: u64) -> Vec<u32> {
    let unknown = |index: &&Index| index.method == "btree" && bloat(index).is_none();
    let mut unknown: Vec<&Index> = indexes.iter().filter(unknown).collect();
    unknown.retain(|index| index.bytes.unsigned_abs() >= limits.smallest);
    unknown.sort_by_key(|index| (std::cmp::Reverse(index.bytes), index.oid));
    within(unknown, most)
}

fn eligible(index: &Index, limits: &Bloat) -> bool {
    let bytes = index.bytes.unsigned_abs();
    index.owned && index.valid && (limits.smallest..=limits.largest).contains(&bytes)
}

/// The indexes to rebuild, the worst relative bloat first. `recent` are those that were rebuilt, with when.
pub fn reindexes(
    indexes: &[Index],
    limits: &Bloat,
    recent: &[(String, Timestamp)],
    now: Timestamp,
) -> Vec<Reindex> {
    let rests = |name: &str| {
        recent.iter().any(|(rebuilt, at)| {
            let age = now.duration_since(*at);
            rebuilt == name && (age.is_negative() || age.unsigned_abs() < limits.cooldown)
        })
    };
    let mut wanted: Vec<Reindex> = indexes
        .iter()
        .filter(|index| eligible(index, limits))
        .filter_map(|index| {
            let (bloat, exact) = bloat(index).filter(|(share, _)| *share >= limits.least)?;
            let name = qualified(&index.schema, &index.name);
            Some(Reindex { index: index.clone(), name, bloat, exact })
        })
        .filter(|reindex| !rests(&reindex.name))
        .collect();
    wanted.sort_by(|a, b| b.bloat.total_cmp(&a.bloat).then(a.index.oid.cmp(&b.index.oid)));
    wanted.truncate(limits.most);
    wanted
}

/// The largest index that may be rebuilt, in bytes: of those nobody knows better of, all may.
pub fn largest(indexes: &[Index], limits: &Bloat, chosen: &[Reindex]) -> u64 {
    let unknown = indexes.iter().filter(|index| {
        index.method == "btree" && eligible(index, limits) && bloat(index).is_none()
    });
    let all = unknown.chain(chosen.iter().map(|reindex| &reindex.index));
    all.map(|index| index.bytes.unsigned_abs()).max().unwrap_or(0)
}

/// The tenth of the B-trees whose turn it is this week to be checked by amcheck.
pub fn checked_now(indexes: &[Index], now: Timestamp) -> Vec<&Index> {
    let turn = now.as_second().div_euclid(7 * 86_400).rem_euclid(10).unsigned_abs();
    let its = |index: &&Index| {
        index.method == "btree" && index.valid && u64::from(index.oid) % 10 == turn
    };
    indexes.iter().filter(its).collect()
}

/// What an interrupted rebuild can leave: the server's own names for the copy and for what it replaces.
pub fn looks_left_over(name: &str) -> bool {
    ["_ccnew", "_ccold"].iter().any(|mark| {
        name.rfind(mark)
            .is_some_and(|at| name[at + mark.len()..].bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// Tables this small are vacuumed together, as journalling each would take longer than the work.
const SMALL: i64 = 1 << 20;
/// At most so many together.
const TOGETHER: usize = 32;

/// Groups the small ones, in order.
pub fn batches(tables: Vec<Vacuum>) -> Vec<Vec<Vacuum>> {
    let (small, large): (Vec<_>, Vec<_>) =
        tables.into_iter().partition(|table| table.before.bytes < SMALL);
    let mut batches: Vec<Vec<Vacuum>> = large.into_iter().map(|table| vec![table]).collect();
    batches.extend(small.chunks(TOGETHER).map(<[Vacuum]>::to_vec));
    batches
}

/// A group of tables, for people.
pub fn words(batch: &[Vacuum]) -> String {
    match batch {
        [] => String::new(),
        [one] => one.name.clone(),
        [first, .., last] => format!("{} to {} ({} tables)", first.name, last.name, batch.len()),
    }
}
