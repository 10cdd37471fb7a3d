//! What care asks of a PostgreSQL server beside its statements: who waits for us, what of ours is left, what is gone.

use std::time::Duration;

use serde::Deserialize;

use super::Failure;
use super::facts::Who;
use super::postgres::{Session, literal};

/// Of the agent's own sessions, one that others wait for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Waited {
    /// Ours.
    pub ours: i32,
    /// Who waits for it the longest.
    pub waiter: i32,
    /// For so long, in ms.
    pub for_ms: i64,
}

/// Who waits for one of these processes of ours. Autovacuum waits for nobody in a hurry.
///
/// # Errors
/// What the server says.
pub async fn waiting_for(session: &mut Session, ours: &[i32]) -> Result<Vec<Waited>, Failure> {
    if ours.is_empty() {
        return Ok(Vec::new());
    }
    let pids = ours.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    session
        .ask(&format!(
            "SELECT coalesce(json_agg(json_build_object('ours', o.pid, 'waiter', w.pid, 'for_ms', w.for_ms)), '[]')::text FROM \
             unnest(ARRAY[{pids}]) AS o(pid) JOIN LATERAL (SELECT a.pid, (extract(epoch FROM clock_timestamp() - min(l.waitstart)) * 1000)::bigint AS for_ms \
             FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.backend_type = 'client backend' AND a.wait_event_type = 'Lock' \
             AND o.pid = ANY (pg_blocking_pids(a.pid)) GROUP BY a.pid ORDER BY 2 DESC NULLS LAST LIMIT 1) w ON w.for_ms IS NOT NULL"
        ))
        .await
}

/// Cancels what a session of ours runs.
///
/// # Errors
/// What the server says.
pub async fn cancel(session: &mut Session, pid: i32) -> Result<bool, Failure> {
    let sql = format!(
        "SELECT coalesce(bool_or(pg_cancel_backend(pid)), false)::text FROM pg_stat_activity WHERE pid = {pid} AND usename = current_user \
         AND application_name LIKE 'genesis-agent/%'"
    );
    Ok(session.text(&sql).await? == "true")
}

/// Ends a session of an agent that is gone, if it is the same one still, and says whether it is gone.
///
/// # Errors
/// What the server says.
pub async fn end_own(
    session: &mut Session,
    (pid, started_us): (i32, i64),
) -> Result<bool, Failure> {
    let same = format!(
        "FROM pg_stat_activity WHERE pid = {pid} AND (extract(epoch FROM backend_start) * 1000000)::bigint = {started_us} \
         AND application_name LIKE 'genesis-agent/%'"
    );
    session
        .text(&format!(
            "SELECT coalesce(bool_or(pg_terminate_backend(pid, 3000)), true)::text {same}"
        ))
        .await?;
    Ok(session.text(&format!("SELECT count(*)::text {same}")).await? == "0")
}

/// Sessions that a rebuild of an index of this table would wait for: those that may write to it, and those with an old
/// snapshot. Only those that have been at it for longer than `grace`: the others end by themselves.
///
/// # Errors
/// What the server says.
pub async fn in_the_way(
    session: &mut Session,
    table: u32,
    grace: Duration,
) -> Result<Vec<Who>, Failure> {
    let grace = grace.as_millis();
    session
        .ask(&format!(
            "SELECT coalesce(json_agg(json_build_object('pid', a.pid, 'user', coalesce(a.usename, ''), 'application', a.application_name, \
             'state', coalesce(a.state, ''), 'age_ms', (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint)), '[]')::text \
             FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND a.backend_type = 'client backend' \
             AND a.xact_start < clock_timestamp() - interval '{grace} ms' AND a.datname = current_database() AND (a.backend_xmin IS NOT NULL OR EXISTS (\
             SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.relation = {table} AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')))"
        ))
        .await
}

/// An index of a table, as far as a rebuild is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Built {
    /// Its object id.
    pub oid: u32,
    /// Its schema and name.
    pub schema: String,
    /// See there.
    pub name: String,
    /// It serves queries.
    pub valid: bool,
    /// In bytes.
    pub bytes: i64,
}

/// The indexes of a table.
///
/// # Errors
/// What the server says.
pub async fn of_table(session: &mut Session, table: u32) -> Result<Vec<Built>, Failure> {
    session
        .ask(&format!(
            "SELECT coalesce(json_agg(json_build_object('oid', c.oid::int8, 'schema', n.nspname, 'name', c.relname, 'valid', i.indisvalid, \
             'bytes', pg_relation_size(c.oid))), '[]')::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.indrelid = {table}"
        ))
        .await
}

/// Invalid indexes of a table that can only be built by this process: it holds the lock that keeps every other builder
/// away, in the same look.
///
/// # Errors
/// What the server says.
pub async fn built_by(session: &mut Session, table: u32, pid: i32) -> Result<Vec<u32>, Failure> {
    session
        .ask(&format!(
            "SELECT coalesce(json_agg(i.indexrelid::int8), '[]')::text FROM pg_index i WHERE i.indrelid = {table} AND NOT i.indisvalid AND EXISTS (\
             SELECT FROM pg_locks l WHERE l.pid = {pid} AND l.granted AND l.relation = {table} AND l.mode = 'ShareUpdateExclusiveLock')"
        ))
        .await
}

/// Takes the lock of care for this database; false where another agent holds it. It ends with the session.
///
/// # Errors
/// What the server says.
pub async fn take_turn(session: &mut Session) -> Result<bool, Failure> {
    // "genesis" in ASCII would not fit; the number is ours alone.
    Ok(session.text("SELECT pg_try_advisory_lock(1734700403, 1)::text").await? == "true")
}

/// Whether nobody holds the lock of care. It is looked at and not tried: who tries has it for a moment.
///
/// # Errors
/// What the server says.
pub async fn turn_is_free(session: &mut Session) -> Result<bool, Failure> {
    let held = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 1734700403 AND objid = 1 AND objsubid = 2 \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    Ok(session.text(&format!("SELECT (NOT EXISTS ({held}))::text")).await? == "true")
}

/// The rows of a table that are dead, and when it was last vacuumed by hand, read anew.
///
/// # Errors
/// What the server says.
pub async fn bytes_of(session: &mut Session, name: &str) -> Result<u64, Failure> {
    let sql = format!("SELECT coalesce(pg_relation_size(to_regclass({})), 0)::text", literal(name));
    session
        .text(&sql)
        .await?
        .parse()
        .map_err(|_| Failure::Odd("a size that is no number".to_owned()))
}
