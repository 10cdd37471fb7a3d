//! The figures by which the health of a PostgreSQL database is judged.

use serde::Deserialize;

use super::Failure;
use super::facts;
use super::postgres::{Session, quote};

/// The figures that one query answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Figures {
    /// Size of the database in bytes.
    pub bytes: i64,
    /// Blocks that were read, and that were in memory already, since the statistics began.
    pub read: i64,
    /// See there.
    pub hit: i64,
    /// The age of the oldest transaction id of any database, of 2^31.
    pub xid_age: i64,
    /// The age at which the server begins to freeze whatever it takes.
    pub freeze_max: i64,
    /// Blocks whose checksum was wrong; `None`: checksums are off.
    pub checksum_failures: Option<i64>,
    /// Deadlocks that the server has ended.
    pub deadlocks: i64,
    /// Since when it counts, in microseconds since 1970; 0: not known.
    pub counted_since_us: i64,
    /// Tables over the threshold of autovacuum, which has not come by yet.
    pub overdue: Vec<String>,
    /// Autovacuum is on.
    pub autovacuum: bool,
    /// Sessions that wait for a lock.
    pub waiting: i64,
}

/// Asks for them.
///
/// # Errors
/// What the server says.
pub async fn figures(session: &mut Session) -> Result<Figures, Failure> {
    session
        .ask(
            "SELECT json_build_object('bytes', pg_database_size(current_database()), 'read', d.blks_read, 'hit', d.blks_hit, \
             'xid_age', (SELECT max(age(datfrozenxid)) FROM pg_database), 'freeze_max', current_setting('autovacuum_freeze_max_age')::bigint, \
             'checksum_failures', d.checksum_failures, 'deadlocks', d.deadlocks, \
             'counted_since_us', coalesce((extract(epoch FROM d.stats_reset) * 1000000)::bigint, 0), \
             'autovacuum', current_setting('autovacuum') = 'on', \
             'waiting', (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()), \
             'overdue', (SELECT coalesce(json_agg(quote_ident(schemaname) || '.' || quote_ident(relname)), '[]') FROM pg_stat_user_tables \
               WHERE n_dead_tup > 2 * (current_setting('autovacuum_vacuum_threshold')::float8 + current_setting('autovacuum_vacuum_scale_factor')::float8 * n_live_tup)))::text \
             FROM pg_stat_database d WHERE d.datname = current_database()",
        )
        .await
}

/// A statement that takes much time in all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Slow {
    /// As the server normalises it, without its values.
    pub text: String,
    /// How often it ran.
    pub calls: i64,
    /// In all, in milliseconds.
    pub total_ms: f64,
}

/// A session that works on a statement.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AtWork {
    /// Its process.
    pub pid: i32,
    /// Whose.
    pub role: String,
    /// Of which program.
    pub program: String,
    /// So long, in milliseconds.
    pub took_ms: f64,
    /// What it waits for; empty: it does not.
    pub waits_for: String,
}

impl AtWork {
    /// In a line.
    pub fn line(&self) -> String {
        let Self { pid, role, program, took_ms, waits_for } = self;
        let waits = match waits_for.as_str() {
            "" => String::new(),
            waits_for => format!(", waits for {waits_for}"),
        };
        format!("session {pid} of {role} ({program}) has worked for {:.1} s{waits}", took_ms / 1e3)
    }
}

/// The three sessions that have worked on one statement the longest, beyond a second.
///
/// # Errors
/// What the server says.
pub async fn at_work(session: &mut Session) -> Result<Vec<AtWork>, Failure> {
    let sql = "SELECT coalesce(json_agg(s), '[]')::text FROM (SELECT pid, coalesce(usename, '') AS role, \
               left(application_name, 64) AS program, extract(epoch FROM clock_timestamp() - query_start) * 1000 AS took_ms, \
               coalesce(wait_event_type || ':' || wait_event, '') AS waits_for FROM pg_stat_activity \
               WHERE state = 'active' AND pid <> pg_backend_pid() AND backend_type = 'client backend' \
               AND query_start < clock_timestamp() - interval '1 second' ORDER BY query_start LIMIT 3) s";
    session.ask(sql).await
}

/// The ten statements that take the most time, where pg_stat_statements is there.
///
/// # Errors
/// What the server says.
pub async fn slow(session: &mut Session) -> Result<Vec<Slow>, Failure> {
    let Some(schema) = facts::extension(session, "pg_stat_statements").await? else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "SELECT coalesce(json_agg(s), '[]')::text FROM (SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), 300) AS text, calls, total_exec_time AS total_ms \
         FROM {}.pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         ORDER BY total_exec_time DESC LIMIT 10) s",
        quote(&schema)
    );
    session.ask(&sql).await
}
