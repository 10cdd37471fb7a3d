//! What could be done about indexes: evidence and SQL, for people. Pure; nothing of it is ever run by itself.

use jiff::Timestamp;

use super::config::Bloat;
use super::plan::{self, looks_left_over, qualified};
use crate::outside::database::facts::{Index, Invalid};

/// Younger statistics don't tell what is used.
const SETTLED_DAYS: i64 = 30;

/// What could be done about one index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// "bloated", "unused", "duplicate", "invalid", "leftover".
    pub kind: &'static str,
    /// Schema and name, quoted.
    pub index: String,
    /// Its table.
    pub table: String,
    /// In bytes.
    pub bytes: u64,
    /// So many less.
    pub saves: u64,
    /// By what it is told.
    pub evidence: String,
    /// What would do it.
    pub sql: String,
    /// Why it is left alone all the same; empty: nothing speaks against it.
    pub caution: String,
}

/// Reads what is known of the indexes. `counted_since` is when the server began to count their use, `replicas` whether
/// others use them, too, and count for themselves.
pub fn advise(
    indexes: &[Index],
    invalid: &[Invalid],
    limits: &Bloat,
    (counted_since, replicas): (Option<Timestamp>, bool),
    now: Timestamp,
) -> Vec<Advice> {
    let mut found = Vec::new();
    for index in indexes {
        if let Some(invalid) = invalid.iter().find(|it| it.oid == index.oid) {
            found.extend(broken(index, invalid.building));
            continue;
        }
        found.extend(bloated(index, limits));
        if let Some(other) = twin(index, indexes) {
            found.push(duplicate(index, other));
        } else {
            found.extend(unused(index, (counted_since, replicas), now));
        }
    }
    found.sort_by(|a, b| b.saves.cmp(&a.saves).then(a.index.cmp(&b.index)));
    found
}

fn advice(kind: &'static str, index: &Index, saves: u64, evidence: String, sql: String) -> Advice {
    Advice {
        kind,
        index: qualified(&index.schema, &index.name),
        table: qualified(&index.table_schema, &index.table),
        bytes: index.bytes.unsigned_abs(),
        saves,
        evidence,
        sql,
        caution: String::new(),
    }
}

fn drop_sql(index: &Index) -> String {
    format!("DROP INDEX CONCURRENTLY {};", qualified(&index.schema, &index.name))
}

fn broken(index: &Index, building: bool) -> Option<Advice> {
    if building {
        return None;
    }
    let bytes = index.bytes.unsigned_abs();
    let left_over = looks_left_over(&index.name);
    let (kind, evidence, sql) = match left_over {
        true => (
            "leftover",
            "what a rebuild left that did not end: it serves no query and is kept up at every write",
            drop_sql(index),
        ),
        false => (
            "invalid",
            "it serves no query and is kept up at every write",
            format!("REINDEX INDEX CONCURRENTLY {};", qualified(&index.schema, &index.name)),
        ),
    };
    let saves = if left_over { bytes } else { 0 };
    Some(advice(kind, index, saves, evidence.to_owned(), sql))
}

fn bloated(index: &Index, limits: &Bloat) -> Option<Advice> {
    let (share, exact) = plan::bloat(index).filter(|(share, _)| *share >= limits.least)?;
    let bytes = index.bytes.unsigned_abs();
    if bytes < limits.smallest {
        return None;
    }
    let saves = (bytes as f64 * share) as u64;
    let how = if exact { "measured by pgstattuple" } else { "an estimate from statistics" };
    let sql = format!("REINDEX INDEX CONCURRENTLY {};", qualified(&index.schema, &index.name));
    let mut told = advice(
        "bloated",
        index,
        saves,
        format!("{:.0} % of it is bloat, {how}", share * 100.0),
        sql,
    );
    if bytes > limits.largest {
        "larger than bloat_largest, so care leaves it to people".clone_into(&mut told.caution);
    }
    Some(told)
}

/// Another index of the same table on the same, of which this one is the one to go: the other keeps rows apart or serves
/// a constraint, is used more, or is the older.
fn twin<'a>(index: &Index, indexes: &'a [Index]) -> Option<&'a Index> {
    let keeps = |it: &Index| (it.constraint, it.unique, it.scans, std::cmp::Reverse(it.oid));
    indexes.iter().find(|other| {
        other.oid != index.oid
            && other.valid
            && other.table_oid == index.table_oid
            && other.definition == index.definition
            && keeps(other) > keeps(index)
    })
}

fn duplicate(index: &Index, other: &Index) -> Advice {
    let evidence = format!("the same as {}", qualified(&other.schema, &other.name));
    let mut told =
        advice("duplicate", index, index.bytes.unsigned_abs(), evidence, drop_sql(index));
    told.caution = keeps_rows(index).unwrap_or_default().to_owned();
    told
}

fn keeps_rows(index: &Index) -> Option<&'static str> {
    match index {
        Index { constraint: true, .. } => Some("a constraint needs it"),
        Index { unique: true, .. } => Some("it keeps rows apart"),
        Index { attached: true, .. } => Some("the index of the partitioned table needs it"),
        _ => None,
    }
}

fn unused(
    index: &Index,
    (counted_since, replicas): (Option<Timestamp>, bool),
    now: Timestamp,
) -> Option<Advice> {
    if index.scans > 0 || keeps_rows(index).is_some() {
        return None;
    }
    let days = counted_since.map(|since| now.duration_since(since).as_hours() / 24);
    let evidence = match days {
        Some(days) => format!("not used in the {days} days that the server has counted"),
        None => "not used since the server counts, and it does not say since when".to_owned(),
    };
    let mut told = advice("unused", index, index.bytes.unsigned_abs(), evidence, drop_sql(index));
    let caution = match days {
        _ if index.supports_key => "a foreign key looks rows up by it",
        _ if replicas => "replicas may use it, which count for themselves",
        Some(days) if days >= SETTLED_DAYS => "",
        _ => "counted for less than 30 days: it may be for the end of a month",
    };
    caution.clone_into(&mut told.caution);
    Some(told)
}
