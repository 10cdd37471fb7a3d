//! How a database is. Pure: figures come in, judgements go out.

use std::time::Duration;

use super::config::Instance;
use super::preflight::{self, named, word};
use super::record::{Item, Truth, size};
use super::{plan, verify};
use crate::config::units::human;
use crate::outside::database::facts::{Index, Standing, Table};
use crate::outside::database::postgres::Proof;
use crate::outside::database::vitals::Figures;

/// A transaction open for longer is worth a look.
const LONG: Duration = Duration::from_secs(3_600);
/// Fewer reads say nothing about what is kept in memory.
const READS: i64 = 100_000;
/// So many are named.
const NAMED: usize = 5;

/// How the database is reached.
#[derive(Debug)]
pub struct Ways {
    /// The connection reaches the server itself.
    pub direct: bool,
    /// By what whoever is at its end proves itself, or why that can't be told.
    pub server: Result<Proof, String>,
    /// The same of the console of the PgBouncer before it, where one is configured.
    pub pooler: Option<Result<Proof, String>>,
}

/// Judges each figure.
pub fn judge(
    instance: &Instance,
    ways: &Ways,
    standing: &Standing,
    figures: &Figures,
    tables: &[Table],
    indexes: &[Index],
) -> Vec<Item> {
    let mut items = vec![
        verify::pool(standing),
        cache(figures),
        wraparound(figures),
        longest(standing),
        replication(instance, standing),
        bloat(instance, tables, indexes),
        invalid(standing),
        autovacuum(figures),
        checksums(figures),
        waiting(figures),
        identity(ways),
    ];
    preflight::unseen(&mut items, standing.sees_all);
    items
}

fn item(name: &str, good: bool, value: String, limit: &str, evidence: String) -> Item {
    Item::new(name, if good { Truth::Pass } else { Truth::Fail }, value, limit, evidence)
}

fn cache(figures: &Figures) -> Item {
    let (name, limit) = ("cache-hits", "at least 90 %");
    let all = figures.read + figures.hit;
    if all < READS {
        let evidence = format!("{all} blocks read so far, too few to tell much");
        return Item::new(name, Truth::Pass, "", limit, evidence);
    }
    let share = figures.hit as f64 * 100.0 / all as f64;
    item(name, share >= 90.0, format!("{share:.1} %"), limit, format!("of {all} blocks"))
}

fn wraparound(figures: &Figures) -> Item {
    // Half of what there is: by then autovacuum should have frozen long ago.
    const LIMIT: i64 = 1 << 30;
    let evidence = format!("autovacuum freezes from {} on, whatever it takes", figures.freeze_max);
    let value = format!("{} transactions", figures.xid_age);
    item("wraparound", figures.xid_age < LIMIT, value, "below 2^30 of 2^31", evidence)
}

fn longest(standing: &Standing) -> Item {
    let oldest = standing.busy.iter().chain(&standing.pinning).max_by_key(|who| who.age_ms);
    let age = Duration::from_millis(oldest.map_or(0, |who| who.age_ms.unsigned_abs()));
    let limit = format!("at most {} old", human(LONG));
    item(
        "longest-transaction",
        age <= LONG,
        human(age),
        &limit,
        oldest.map(word).unwrap_or_default(),
    )
}

fn replication(instance: &Instance, standing: &Standing) -> Item {
    let most = i64::try_from(instance.max_lag.as_millis()).unwrap_or(i64::MAX);
    let behind: Vec<&str> = standing
        .replicas
        .iter()
        .filter(|it| it.state != "streaming" || it.lag_ms.is_some_and(|lag| lag > most))
        .map(|it| it.name.as_str())
        .collect();
    let limit = format!("at most {} behind", human(instance.max_lag));
    let value = format!("{} replicas", standing.replicas.len());
    item("replication", behind.is_empty(), value, &limit, behind.join(", "))
}

fn bloat(instance: &Instance, tables: &[Table], indexes: &[Index]) -> Item {
    let dead: i64 = tables.iter().map(|table| table.dead).sum();
    let large = indexes.iter().filter(|it| it.bytes.unsigned_abs() >= instance.bloat.smallest);
    let (mut bloated, mut unknown) = (Vec::new(), Vec::new());
    for index in large {
        let name = format!("{}.{}", index.schema, index.name);
        match plan::bloat(index) {
            Some((share, _)) if share >= 2.0 * instance.bloat.least => {
                bloated.push(format!("{name} {:.0} %", share * 100.0));
            }
            Some(_) => {}
            None if index.method == "btree" => unknown.push(name),
            None => {}
        }
    }
    let limit = format!("no large index over {:.0} %", 200.0 * instance.bloat.least);
    let value = format!("{} indexes, {dead} dead rows", bloated.len());
    if bloated.is_empty() && !unknown.is_empty() {
        let evidence = format!(
            "not known of {}: never analysed, or this role may not see the statistics; with CREATE EXTENSION pgstattuple it is measured",
            some(&unknown)
        );
        return Item::new("bloat", Truth::Unknown, value, limit, evidence);
    }
    item("bloat", bloated.is_empty(), value, &limit, some(&bloated))
}

/// The first of them by name.
fn some(names: &[String]) -> String {
    match names.len().checked_sub(NAMED) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..NAMED].join(", ")),
    }
}

fn invalid(standing: &Standing) -> Item {
    let invalid = standing.invalid.iter().filter(|index| !index.building);
    let names: Vec<String> =
        invalid.map(|index| format!("{}.{}", index.schema, index.name)).collect();
    item("invalid-indexes", names.is_empty(), names.len().to_string(), "0", names.join(", "))
}

fn autovacuum(figures: &Figures) -> Item {
    let good = figures.autovacuum && figures.overdue.is_empty();
    let value = match figures.autovacuum {
        true => format!("{} tables overdue", figures.overdue.len()),
        false => "off".to_owned(),
    };
    let shown: Vec<&str> = figures.overdue.iter().take(10).map(String::as_str).collect();
    item("autovacuum", good, value, "on, no table overdue twice over", shown.join(", "))
}

fn checksums(figures: &Figures) -> Item {
    match figures.checksum_failures {
        None => Item::new(
            "checksums",
            Truth::Fail,
            "off",
            "on, 0 failures",
            "the server keeps no checksums, so that a rotten block is found only when it hurts: pg_checksums --enable",
        ),
        Some(failures) => item(
            "checksums",
            failures == 0,
            format!("{failures} failures"),
            "0 failures",
            String::new(),
        ),
    }
}

fn waiting(figures: &Figures) -> Item {
    let evidence = format!("{} deadlocks so far", figures.deadlocks);
    item("waiting", figures.waiting == 0, figures.waiting.to_string(), "0 wait for locks", evidence)
}

/// Whether it is the server, and not whoever stands in between, that is given the password, and whose answers count.
pub(super) fn identity(ways: &Ways) -> Item {
    let (name, limit) = ("server-identity", "on this host, or verified");
    let both = [("url", Some(&ways.server)), ("pgbouncer", ways.pooler.as_ref())];
    let (mut open, mut proven, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for (key, proof) in both.into_iter().filter_map(|(key, proof)| Some((key, proof?))) {
        match proof {
            Ok(Proof::Here) => proven.push(format!("{key}: this host")),
            Ok(Proof::Certificate(mode)) => proven.push(format!("{key}: {mode}")),
            Ok(Proof::Nothing { host, mode }) => open.push((key, host, mode)),
            Err(why) => unknown.push(format!("{key}: {why}")),
        }
    }
    if !open.is_empty() {
        let value: Vec<_> = open.iter().map(|(key, _, mode)| format!("{key}: {mode}")).collect();
        let whoever: Vec<_> =
            open.iter().map(|(key, host, _)| format!("as {host} ({key})")).collect();
        let evidence = format!(
            "whoever answers {} is believed: set sslmode=verify-full, and sslrootcert where this host does not know its CA",
            whoever.join(" and ")
        );
        return Item::new(name, Truth::Fail, value.join(", "), limit, evidence);
    }
    let value = proven.join(", ");
    if !ways.direct {
        unknown.push("a pool is there, and how it reaches the server can't be seen".to_owned());
    }
    match unknown.is_empty() {
        true => Item::new(name, Truth::Pass, value, limit, ""),
        false => Item::new(name, Truth::Unknown, value, limit, unknown.join("; ")),
    }
}

/// A short line of what a database is.
pub fn about(standing: &Standing, figures: &Figures) -> String {
    format!(
        "PostgreSQL {}, {}, busy: {}",
        standing.version,
        size(figures.bytes.unsigned_abs()),
        named(&standing.busy)
    )
}
