//! Whether care may begin, item by item. Pure: what was measured comes in, judgements go out.

use std::time::Duration;

use genesis_storage::VerifiedBackup;

use super::config::Instance;
use super::record::{Item, Truth, size};
use crate::config::units::human;
use crate::outside::database::facts::{Standing, Who};

/// The items that the procedures ask for, and ours, in the order in which they are shown.
pub const ITEMS: [&str; 12] = [
    BACKUP,
    ACTIVE,
    TRADES,
    DISK,
    "not-in-recovery",
    "direct-connection",
    "privileges",
    "no-foreign-ddl",
    "old-snapshots",
    "replication-lag",
    "leftovers",
    "one-at-a-time",
];
/// The names of the procedures' four.
pub const BACKUP: &str = "backup-verified";
/// See [`BACKUP`].
pub const ACTIVE: &str = "active-connections";
/// See [`BACKUP`].
pub const TRADES: &str = "critical-trades";
/// See [`BACKUP`].
pub const DISK: &str = "disk-free";

/// What would be unsafe, or would have no effect, whoever wants it.
pub const NEVER_OVERRIDDEN: [&str; 4] =
    ["not-in-recovery", "direct-connection", "privileges", "one-at-a-time"];

/// Snapshots older than that keep VACUUM from removing anything worth its while.
const OLD: Duration = Duration::from_secs(3_600);
/// So many are named.
const NAMED: usize = 5;

/// Whether trades are in progress that nothing must disturb, as they were told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TradesSeen {
    /// Pass: none.
    pub truth: Truth,
    /// Their number, where it is known.
    pub value: String,
    /// By what it was told, or why it was not.
    pub evidence: String,
}

/// A disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that are free for the server.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// All that the preflight depends on.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// How the server stands.
    pub standing: &'a Standing,
    /// The connection reaches the server itself.
    pub direct: bool,
    /// The verified backup.
    pub backup: &'a VerifiedBackup,
    /// Critical trades.
    pub trades: &'a TradesSeen,
    /// The disk, or why it can't be seen.
    pub disk: Result<Disk, String>,
    /// The largest index that would be rebuilt, in bytes.
    pub largest: u64,
    /// Names of indexes that an earlier run left behind, proven ours.
    pub own_leftovers: &'a [String],
    /// Those of others.
    pub foreign_leftovers: &'a [String],
}

/// Judges each item.
pub fn judge(instance: &Instance, now: &Situation<'_>) -> Vec<Item> {
    let standing = now.standing;
    let mut items = vec![
        backup(instance, now.backup),
        active(instance, &standing.busy),
        Item::new(TRADES, now.trades.truth, &*now.trades.value, "0", &*now.trades.evidence),
        disk(instance, &now.disk, now.largest),
        not(
            "not-in-recovery",
            standing.in_recovery,
            "a replica",
            "the primary",
            "care is for the primary: name it in url",
        ),
        if now.direct { direct() } else { pooled() },
        privileges(standing),
        foreign_ddl(&standing.ddl),
        old_snapshots(&standing.pinning),
        replication(instance, standing),
        leftovers(now),
    ];
    unseen(&mut items, standing.sees_all);
    items
}

/// What is read from what other sessions do is not known to a role that may not see that.
pub fn unseen(items: &mut [Item], sees_all: bool) {
    const OTHERS: [&str; 7] = [
        ACTIVE,
        "no-foreign-ddl",
        "old-snapshots",
        "replication-lag",
        "replication",
        "connection-pool",
        "longest-transaction",
    ];
    for item in items.iter_mut().filter(|item| !sees_all && OTHERS.contains(&item.name.as_str())) {
        item.truth = Truth::Unknown;
        "this role may not see other sessions: grant it pg_monitor".clone_into(&mut item.evidence);
        item.value.clear();
    }
}

/// A reading of the four that are looked at before each step as well: the first that holds it back, in words.
pub fn hold(
    instance: &Instance,
    standing: &Standing,
    trades: &TradesSeen,
    disk_now: &Result<Disk, String>,
    overrides: &[String],
) -> Option<String> {
    let mut items = [
        active(instance, &standing.busy),
        Item::new(TRADES, trades.truth, &*trades.value, "0", &*trades.evidence),
        disk(instance, disk_now, 0),
    ];
    unseen(&mut items, standing.sees_all);
    let held = items.into_iter().find(|item| !item.clear() && !overrides.contains(&item.name))?;
    Some(format!("{} is {} (must be {}): {}", held.name, held.value, held.limit, held.evidence))
}

fn backup(instance: &Instance, verified: &VerifiedBackup) -> Item {
    let limit =
        format!("{}, at most {} old", instance.backup_min_level, human(instance.backup_max_age));
    match verified {
        VerifiedBackup::Yes(record) => Item::new(
            BACKUP,
            Truth::Pass,
            record.level.map_or("", genesis_storage::BackupLevel::name),
            limit,
            format!("backup {} of {}", record.id, record.started_at),
        ),
        VerifiedBackup::No(why) => Item::new(
            BACKUP,
            Truth::Fail,
            "none",
            limit,
            format!("{why}; `genesisctl backup run {}`", instance.target.name),
        ),
        VerifiedBackup::Unknown(why) => Item::new(BACKUP, Truth::Unknown, "", limit, why.as_str()),
    }
}

fn active(instance: &Instance, busy: &[Who]) -> Item {
    let limit = format!("< {}", instance.max_active);
    let few = busy.len() < instance.max_active as usize;
    let truth = if few { Truth::Pass } else { Truth::Fail };
    Item::new(ACTIVE, truth, busy.len().to_string(), limit, named(busy))
}

/// Whether a disk has room for the new copy of an index of so many bytes.
pub fn disk(instance: &Instance, disk: &Result<Disk, String>, largest: u64) -> Item {
    room(instance, disk, (largest as f64 * 1.3) as u64, "1.3 x the largest index to rebuild")
}

/// Whether a disk has more than its share free, and more than these bytes, which are `what`.
pub fn room(instance: &Instance, disk: &Result<Disk, String>, wanted: u64, what: &str) -> Item {
    let percent = instance.min_free * 100.0;
    let limit = match wanted {
        0 => format!("> {percent} %"),
        _ => format!("> {percent} % and {} ({what})", size(wanted)),
    };
    match disk {
        Err(why) => Item::new(DISK, Truth::Unknown, "", limit, why.as_str()),
        Ok(Disk { total: 0, .. }) => {
            Item::new(DISK, Truth::Unknown, "", limit, "the disk says that it has no size")
        }
        Ok(Disk { free, total }) => {
            let enough = *free as f64 > instance.min_free * *total as f64 && *free > wanted;
            let truth = if enough { Truth::Pass } else { Truth::Fail };
            let value = format!("{:.1} %", *free as f64 * 100.0 / *total as f64);
            Item::new(
                DISK,
                truth,
                value,
                limit,
                format!("{} of {} are free", size(*free), size(*total)),
            )
        }
    }
}

fn not(name: &str, bad: bool, what: &str, limit: &str, advice: &str) -> Item {
    match bad {
        true => Item::new(name, Truth::Fail, what, limit, advice),
        false => Item::new(name, Truth::Pass, limit, limit, ""),
    }
}

const SERVER: &str = "the server itself";

fn direct() -> Item {
    Item::new("direct-connection", Truth::Pass, SERVER, SERVER, "")
}

/// A connection that leads through a pool.
pub fn pooled() -> Item {
    let advice = "the url leads through a connection pool, which hands locks to others: give the server's own address";
    Item::new("direct-connection", Truth::Fail, "a pool", SERVER, advice)
}

fn privileges(standing: &Standing) -> Item {
    let value = format!("{} of {} tables", standing.maintainable, standing.tables);
    let (truth, evidence) = match (standing.maintainable, standing.tables) {
        (0, 1..) => (
            Truth::Fail,
            "this role owns no table and is member of no owner: see docs/sql/genesis_role.sql",
        ),
        (some, all) if some < all => (Truth::Pass, "tables of other owners are left out"),
        _ => (Truth::Pass, ""),
    };
    Item::new("privileges", truth, value, "may maintain tables", evidence)
}

fn foreign_ddl(ddl: &[Who]) -> Item {
    let truth = if ddl.is_empty() { Truth::Pass } else { Truth::Fail };
    Item::new("no-foreign-ddl", truth, ddl.len().to_string(), "0", named(ddl))
}

fn old_snapshots(pinning: &[Who]) -> Item {
    let oldest = pinning.iter().map(|who| who.age_ms).max().unwrap_or(0);
    let truth = if u128::try_from(oldest).is_ok_and(|age| age > OLD.as_millis()) {
        Truth::Fail
    } else {
        Truth::Pass
    };
    Item::new(
        "old-snapshots",
        truth,
        human(Duration::from_millis(oldest.unsigned_abs())),
        format!("at most {} old", human(OLD)),
        named(pinning),
    )
}

fn replication(instance: &Instance, standing: &Standing) -> Item {
    let limit = format!("at most {} behind", human(instance.max_lag));
    let most = i64::try_from(instance.max_lag.as_millis()).unwrap_or(i64::MAX);
    let worst = standing.replicas.iter().filter_map(|replica| replica.lag_ms).max().unwrap_or(0);
    let stuck: Vec<&str> = standing
        .replicas
        .iter()
        .filter(|replica| {
            replica.state != "streaming" || replica.lag_ms.is_some_and(|lag| lag > most)
        })
        .map(|replica| replica.name.as_str())
        .collect();
    let truth = if stuck.is_empty() { Truth::Pass } else { Truth::Fail };
    let evidence = match stuck.as_slice() {
        [] => format!("{} replicas", standing.replicas.len()),
        stuck => format!("behind or not streaming: {}", stuck.join(", ")),
    };
    Item::new(
        "replication-lag",
        truth,
        human(Duration::from_millis(worst.unsigned_abs())),
        limit,
        evidence,
    )
}

fn leftovers(now: &Situation<'_>) -> Item {
    let mut evidence = Vec::new();
    if !now.own_leftovers.is_empty() {
        evidence.push(format!("ours, dropped first: {}", now.own_leftovers.join(", ")));
    }
    if !now.foreign_leftovers.is_empty() {
        evidence.push(format!("not ours, left alone: {}", now.foreign_leftovers.join(", ")));
    }
    let value = (now.own_leftovers.len() + now.foreign_leftovers.len()).to_string();
    // They hold nothing back; people should know of them.
    Item::new("leftovers", Truth::Pass, value, "reported", evidence.join("; "))
}

/// The first few, for people.
pub fn named(sessions: &[Who]) -> String {
    let mut words: Vec<String> = sessions.iter().take(NAMED).map(word).collect();
    if sessions.len() > NAMED {
        words.push(format!("and {} more", sessions.len() - NAMED));
    }
    words.join(", ")
}

/// One session, for people.
pub fn word(who: &Who) -> String {
    let age = human(Duration::from_millis(who.age_ms.unsigned_abs()));
    match who.state.as_str() {
        "prepared" => format!("prepared transaction {:?} of {} ({age})", who.application, who.user),
        "slot" => format!("replication slot {:?}", who.application),
        state => {
            let application = match who.application.as_str() {
                "" => String::new(),
                name => format!(" {name:?}"),
            };
            format!("pid {}{application} of {} ({state}, {age})", who.pid, who.user)
        }
    }
}
