//! What a rebuild may leave behind. Only what the ledger proves to be ours is ever dropped.

use genesis_storage::LedgerRecord;

use super::plan::{looks_left_over, qualified};
use crate::outside::database::Failure;
use crate::outside::database::postgres::Session;
use crate::outside::database::upkeep::{self, Built};

/// What of an entry is left in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Proven ours: built by our session, or what it replaced.
    pub ours: Vec<Built>,
    /// Looks like it, and can't be proven.
    pub unproven: Vec<Built>,
}

/// Tells what is left. Ours is what our session was seen to build while it held the lock that keeps every other builder
/// away, and the index itself once the server has swapped it for the new one and named it `_ccold`.
pub fn left(entry: &LedgerRecord, now: &[Built]) -> Left {
    let mut left = Left::default();
    for index in now.iter().filter(|index| !index.valid && looks_left_over(&index.name)) {
        if entry.foreign.contains(&index.oid) {
            continue;
        }
        let replaced = index.oid == entry.index_oid && index.name.contains("_ccold");
        match replaced || entry.built.contains(&index.oid) {
            true => left.ours.push(index.clone()),
            false => left.unproven.push(index.clone()),
        }
    }
    left
}

/// What clearing up came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Dropped, and read back as gone.
    pub dropped: Vec<String>,
    /// Ours, and still there; with why.
    pub kept: Vec<(String, String)>,
    /// Not proven ours: left alone.
    pub unproven: Vec<String>,
}

impl Cleared {
    /// Nothing of ours is left.
    pub fn done(&self) -> bool {
        self.kept.is_empty()
    }
}

/// Drops what is left of an entry, without ever blocking others, and reads back that it is gone.
///
/// # Errors
/// When the server can't be asked; then nothing is known.
pub async fn clear(session: &mut Session, entry: &LedgerRecord) -> Result<Cleared, Failure> {
    let found = left(entry, &upkeep::of_table(session, entry.table_oid).await?);
    let mut cleared = Cleared {
        unproven: found.unproven.iter().map(|it| qualified(&it.schema, &it.name)).collect(),
        ..Cleared::default()
    };
    let mut refused = Vec::new();
    for index in &found.ours {
        let name = qualified(&index.schema, &index.name);
        if let Err(failure) =
            session.run(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await
        {
            refused.push((index.oid, failure.to_string()));
        }
    }
    let after = match found.ours.is_empty() {
        true => Vec::new(),
        false => upkeep::of_table(session, entry.table_oid).await?,
    };
    for index in found.ours {
        let name = qualified(&index.schema, &index.name);
        if after.iter().any(|it| it.oid == index.oid) {
            let why = refused.iter().find(|(oid, _)| *oid == index.oid);
            let why = why.map_or("it is still there", |(_, why)| why);
            cleared.kept.push((name, why.to_owned()));
        } else {
            cleared.dropped.push(name);
        }
    }
    Ok(cleared)
}
