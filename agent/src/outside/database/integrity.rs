//! Whether what is in a PostgreSQL database is whole, as far as a look without a burden tells.

use serde::Deserialize;

use super::Failure;
use super::postgres::Session;

/// So many indexes are looked into at a time.
const SAMPLE: usize = 3;
/// Larger ones are left to the weekly care, in pages of 8 KiB.
const LARGEST: u32 = 8_192;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What is wrong, one line each.
    pub faults: Vec<String>,
    /// So many checksums have failed, which counts as so many faults.
    pub checksum_failures: u64,
    /// What was looked at, and what could not be.
    pub notes: Vec<String>,
    /// Where the next look goes on.
    pub last_index: u32,
}

impl Found {
    /// So many faults.
    pub fn count(&self) -> u64 {
        self.checksum_failures + self.faults.len() as u64
    }
}

#[derive(Deserialize)]
struct Facts {
    checksums: bool,
    failures: u64,
    invalid: Vec<String>,
    amcheck: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    oid: u32,
    name: String,
}

const FACTS: &str = "SELECT json_build_object(\
    'checksums', current_setting('data_checksums') = 'on', \
    'failures', (SELECT coalesce(sum(checksum_failures), 0)::bigint FROM pg_stat_database), \
    'invalid', (SELECT coalesce(json_agg(i.indexrelid::regclass::text), '[]') FROM pg_index i \
      WHERE NOT (i.indisvalid AND i.indisready) \
      AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.datid = (SELECT oid FROM pg_database \
        WHERE datname = current_database()) AND p.relid = i.indrelid)), \
    'amcheck', (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
      WHERE e.extname = 'amcheck'))";

/// Looks: the server's own counts, and with amcheck into a few indexes behind the one with the id `after`.
///
/// # Errors
/// What the server says.
pub async fn look(session: &mut Session, after: u32) -> Result<Found, Failure> {
    let facts: Facts = session.ask(FACTS).await?;
    let mut found = Found { checksum_failures: facts.failures, ..Found::default() };
    match (facts.checksums, facts.failures) {
        (false, _) => found.notes.push("checksums are off".to_owned()),
        (true, 0) => found.notes.push("no checksum has failed".to_owned()),
        (true, failures) => found.notes.push(format!("{failures} checksums have failed")),
    }
    found.faults.extend(facts.invalid.iter().map(|name| format!("index {name} is invalid")));
    match facts.amcheck {
        None => found.notes.push("amcheck is not installed".to_owned()),
        Some(schema) => look_into_some(session, &schema, after, &mut found).await?,
    }
    Ok(found)
}

async fn look_into_some(
    session: &mut Session,
    schema: &str,
    after: u32,
    found: &mut Found,
) -> Result<(), Failure> {
    let sql = format!(
        "SELECT coalesce(json_agg(json_build_object('oid', oid::bigint, 'name', name)), '[]') FROM (\
         SELECT c.oid, c.oid::regclass::text AS name FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid \
         JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' \
         AND i.indisvalid AND i.indisready AND c.relpages <= {LARGEST} AND c.oid > {after}::oid \
         ORDER BY c.oid LIMIT {SAMPLE}) sample"
    );
    let sample: Vec<Index> = session.ask(&sql).await?;
    // After the last one it begins anew.
    let last = sample.last().filter(|_| sample.len() == SAMPLE);
    found.last_index = last.map_or(0, |index| index.oid);
    let mut whole = Vec::new();
    for Index { oid, name } in sample {
        match session.run(&format!("SELECT {schema}.bt_index_check({oid}::oid::regclass)")).await {
            Ok(()) => whole.push(name),
            Err(Failure::Refused { code, message })
                if matches!(code.as_str(), "XX001" | "XX002") =>
            {
                found.faults.push(format!("index {name}: {message}"));
            }
            Err(Failure::Refused { code, .. }) if code == "42501" => {
                found.notes.push("the agent's role may not use amcheck".to_owned());
                break;
            }
            Err(Failure::Refused { message, .. }) => {
                found.notes.push(format!("{name} was not looked into: {message}"));
            }
            Err(failure) => return Err(failure),
        }
    }
    if !whole.is_empty() {
        found.notes.push(format!("{} are whole", whole.join(", ")));
    }
    Ok(())
}
