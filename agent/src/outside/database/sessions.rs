//! Who is connected to a PostgreSQL server, who waits for whom, and the end of one of them. Looks say what is so and
//! judge nothing.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::Failure;
use super::postgres::{Session, literal};

/// What keeps the agent, and whoever else respects it, from ending a session. It must stand within the first kilobyte
/// of the statement: the server shows no more of it (track_activity_query_size).
pub const NO_KILL: &str = "/* genesis:no-kill */";
/// How the agent's own sessions call themselves, up to their purpose.
pub const OWN: &str = "genesis-agent/";
/// Of a server's own kinds of processes, the one that serves a client.
const CLIENT: &str = "client backend";

/// A server's sessions at one moment. Times are the server's own, to the microsecond.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Look {
    /// When, by the server's clock.
    pub now: Timestamp,
    /// Most connections that the server takes.
    pub max: u32,
    /// So many of these are only for superusers, or for roles that may use reserved ones.
    pub reserved: u32,
    /// True deadlocks that the server has ended, in all databases, since its statistics began.
    pub deadlocks: u64,
    /// Every process of the server.
    pub backends: Vec<Backend>,
    /// Transactions without a session.
    pub prepared: Vec<Prepared>,
}

/// A process of the server; most serve one client each.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Backend {
    /// Its process.
    pub pid: i32,
    /// When it began.
    pub backend_start: Option<Timestamp>,
    /// When its transaction began; `None`: it is in none.
    pub xact_start: Option<Timestamp>,
    /// Since when it has been in its state.
    pub state_change: Option<Timestamp>,
    /// Whose it is.
    pub user: String,
    /// In which database.
    pub database: String,
    /// What its client calls itself.
    pub application: String,
    /// Where its client is; empty: on this host.
    pub client: String,
    /// Such as "client backend"; empty: the agent's role may not see it.
    pub kind: String,
    /// Such as "active", "idle in transaction".
    pub state: String,
    /// Its latest statement, cut to 300 characters.
    pub query: String,
    /// Its statement holds [`NO_KILL`].
    pub marked: bool,
    /// Its role is one for replication.
    pub replicates: bool,
    /// The server lets the agent's role end it.
    pub may_end: bool,
    /// Whom it waits for; 0 is a prepared transaction.
    pub waits_for: Vec<i32>,
    /// Since when.
    pub waiting_since: Option<Timestamp>,
    /// The prepared transactions that it waits for.
    pub prepared: Vec<String>,
}

/// A transaction that was prepared for a commit in two phases and waits for the second one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Prepared {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// In which database.
    pub database: String,
    /// Since when.
    pub since: Timestamp,
}

/// A session in what it does now. It is another one as soon as it does something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Its process.
    pub pid: i32,
    /// When it began.
    pub backend_start: Timestamp,
    /// When its transaction began; `None`: it is in none.
    pub xact_start: Option<Timestamp>,
    /// It is meant only while it has done nothing since then.
    pub still_since: Option<Timestamp>,
}

/// How to end what a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Its statement, and nothing more.
    Cancel,
    /// The session itself.
    Terminate,
}

impl Look {
    /// Takes one.
    ///
    /// # Errors
    /// What the server says.
    pub async fn take(session: &mut Session) -> Result<Self, Failure> {
        session.ask(&sql()).await
    }

    /// The process of this id.
    pub fn backend(&self, pid: i32) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.pid == pid)
    }

    /// Those that take one of the slots for connections.
    pub fn clients(&self) -> impl Iterator<Item = &Backend> {
        self.backends.iter().filter(|backend| backend.is_client())
    }

    /// So many slots there are for ordinary clients.
    pub fn usable(&self) -> u32 {
        self.max.saturating_sub(self.reserved)
    }

    /// So many slots are taken.
    pub fn used(&self) -> u32 {
        u32::try_from(self.clients().count()).unwrap_or(u32::MAX)
    }

    /// So many are left for ordinary clients.
    pub fn available(&self) -> u32 {
        self.usable().saturating_sub(self.used())
    }

    /// What is left for ordinary clients, in percent; nothing of nothing is nothing.
    pub fn available_percent(&self) -> f64 {
        match self.usable() {
            0 => 0.0,
            usable => f64::from(self.available()) * 100.0 / f64::from(usable),
        }
    }

    /// Since when something has been so, by the server's clock.
    pub fn age(&self, since: Option<Timestamp>) -> Duration {
        let age = since.map(|since| self.now.duration_since(since));
        // The process may have told a moment after the clock was read.
        age.filter(|age| age.is_positive()).map_or(Duration::ZERO, |age| age.unsigned_abs())
    }

    /// How many there are of each state, user and application, the most first.
    pub fn groups(&self) -> Vec<(String, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        for backend in self.clients() {
            let application = match backend.application.as_str() {
                "" => String::new(),
                application => format!(" ({application})"),
            };
            let state = if backend.state.is_empty() { "unseen" } else { &backend.state };
            *counts.entry(format!("{state} {}{application}", backend.user)).or_insert(0) += 1;
        }
        let mut groups: Vec<_> = counts.into_iter().collect();
        groups.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        groups
    }
}

impl Backend {
    /// It takes one of the slots for connections. What can't be seen is taken for a client.
    pub fn is_client(&self) -> bool {
        matches!(self.kind.as_str(), CLIENT | "")
    }

    /// It is one of the agent's own.
    pub fn is_ours(&self) -> bool {
        self.application.starts_with(OWN)
    }

    /// It in what it does now; `None`: the agent's role may not see enough of it.
    pub fn named(&self) -> Option<Named> {
        Some(Named {
            pid: self.pid,
            backend_start: self.backend_start?,
            xact_start: self.xact_start,
            still_since: None,
        })
    }
}

/// Ends what a session does, in one statement with the look whether it still is the one that is meant. Whether it was
/// told to: not that it is over.
///
/// # Errors
/// What the server says.
pub async fn end(session: &mut Session, meant: &Named, way: Way) -> Result<bool, Failure> {
    let call = match way {
        Way::Cancel => "pg_cancel_backend",
        Way::Terminate => "pg_terminate_backend",
    };
    // Of a timestamp's text nothing is lost: six digits, as the server has them.
    let moment = |at: Option<Timestamp>| match at {
        Some(at) => format!("{}::timestamptz", literal(&at.to_string())),
        None => "NULL".to_owned(),
    };
    let still = match meant.still_since {
        Some(since) => format!(" AND state_change = {}", moment(Some(since))),
        None => String::new(),
    };
    let sql = format!(
        "SELECT coalesce((SELECT {call}(pid) FROM pg_stat_activity WHERE pid = {} AND backend_start = {} \
         AND xact_start IS NOT DISTINCT FROM {}{still}), false)::text",
        meant.pid,
        moment(Some(meant.backend_start)),
        moment(meant.xact_start),
    );
    Ok(session.text(&sql).await? == "true")
}

/// Everything in one answer, so that it is of one moment. Who blocks whom is asked only where somebody waits: each
/// question stops the server's locks for a moment.
fn sql() -> String {
    let marked = literal(NO_KILL);
    format!(
        "WITH locks AS MATERIALIZED (SELECT * FROM pg_locks), \
         waits AS (SELECT pid, coalesce(min(waitstart), clock_timestamp()) AS since FROM locks WHERE NOT granted GROUP BY pid), \
         held AS (SELECT DISTINCT l.pid, p.gid FROM locks l \
           JOIN locks h ON h.granted AND h.pid IS NULL \
             AND (h.locktype, h.database, h.relation, h.page, h.tuple, h.virtualxid, h.transactionid, h.classid, h.objid, h.objsubid) \
             IS NOT DISTINCT FROM \
             (l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid, l.objsubid) \
           JOIN locks x ON x.granted AND x.pid IS NULL AND x.locktype = 'transactionid' \
             AND x.virtualtransaction = h.virtualtransaction \
           JOIN pg_prepared_xacts p ON p.transaction = x.transactionid \
           WHERE NOT l.granted) \
         SELECT json_build_object(\
         'now', clock_timestamp(), \
         'max', current_setting('max_connections')::int, \
         'reserved', current_setting('superuser_reserved_connections')::int \
           + coalesce(current_setting('reserved_connections', true)::int, 0), \
         'deadlocks', (SELECT coalesce(sum(deadlocks), 0)::bigint FROM pg_stat_database), \
         'prepared', (SELECT coalesce(json_agg(json_build_object('name', gid, 'owner', owner, 'database', database, \
           'since', prepared) ORDER BY prepared), '[]') FROM pg_prepared_xacts), \
         'backends', (SELECT coalesce(json_agg(json_build_object(\
           'pid', a.pid, 'backend_start', a.backend_start, 'xact_start', a.xact_start, 'state_change', a.state_change, \
           'user', coalesce(a.usename, ''), 'database', coalesce(a.datname, ''), \
           'application', coalesce(a.application_name, ''), 'client', coalesce(host(a.client_addr), ''), \
           'kind', coalesce(a.backend_type, ''), 'state', coalesce(a.state, ''), \
           'query', left(coalesce(a.query, ''), 300), 'marked', coalesce(position({marked} IN a.query) > 0, false), \
           'replicates', coalesce(r.rolreplication AND NOT r.rolsuper, false), \
           'may_end', CASE WHEN current_setting('is_superuser') = 'on' THEN true \
             WHEN r.oid IS NULL OR r.rolsuper THEN false \
             ELSE pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE') END, \
           'waits_for', CASE WHEN w.pid IS NULL THEN '{{}}' ELSE pg_blocking_pids(a.pid) END, \
           'waiting_since', w.since, \
           'prepared', (SELECT coalesce(json_agg(h.gid), '[]') FROM held h WHERE h.pid = a.pid)) \
           ORDER BY a.backend_start, a.pid), '[]') \
           FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid LEFT JOIN waits w ON w.pid = a.pid))"
    )
}
