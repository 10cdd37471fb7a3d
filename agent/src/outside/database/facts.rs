//! What a PostgreSQL server says of itself, as plain data: one query that answers one JSON value for each look. Ages are
//! in milliseconds, instants in microseconds since 1970; whole numbers, so that they compare exactly.

use serde::Deserialize;

use super::Failure;
use super::postgres::{Session, literal};

/// A session, or a prepared transaction or slot that acts like one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Who {
    /// Its process; 0 for what has none.
    pub pid: i32,
    /// Its role, or what it is.
    pub user: String,
    /// Its application's name, the prepared transaction's, or the slot's.
    pub application: String,
    /// "active", "idle in transaction", "prepared", "slot".
    pub state: String,
    /// Since its transaction began, in ms.
    pub age_ms: i64,
}

/// An index that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Invalid {
    /// Its object id.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its table's object id.
    pub table: u32,
    /// Somebody builds it just now.
    pub building: bool,
}

/// A replica.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// "streaming" where it follows.
    pub state: String,
    /// How far it is behind in ms; `None`: it has said nothing yet, as an idle one.
    pub lag_ms: Option<i64>,
}

/// What the preflight and each step want to know.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Standing {
    /// The server's version.
    pub version: String,
    /// As a number: 150014.
    pub version_num: i32,
    /// Names the cluster.
    pub system: String,
    /// The database.
    pub database: String,
    /// It is a replica.
    pub in_recovery: bool,
    /// Sessions in a transaction, of others than the agent.
    pub busy: Vec<Who>,
    /// What keeps the server from removing dead rows, the oldest first.
    pub pinning: Vec<Who>,
    /// Sessions of others that change or maintain tables of this database.
    pub ddl: Vec<Who>,
    /// Replicas.
    pub replicas: Vec<Replica>,
    /// Indexes that are not valid.
    pub invalid: Vec<Invalid>,
    /// This role sees what other sessions do; else it knows nothing of them.
    pub sees_all: bool,
    /// The server's data folder; empty: this role may not know.
    pub data_dir: String,
    /// It is reached through a socket or a loopback address.
    pub local: bool,
    /// Tables that this role may maintain, and all.
    pub maintainable: i64,
    /// See there.
    pub tables: i64,
    /// Connections in use, and how many there can be.
    pub connections: i64,
    /// See there.
    pub max_connections: i64,
    /// Milliseconds since 1970, by the server's clock.
    pub now_us: i64,
}

/// Sessions that are not the agent's own, by the same role's `genesis-agent/...`.
const NOT_OURS: &str = "NOT (a.application_name LIKE 'genesis-agent/%' AND a.usesysid = (SELECT oid FROM pg_roles WHERE rolname = current_user))";

/// Of a table alias `a` over pg_stat_activity: a [`Who`].
const WHO: &str = "json_build_object('pid', a.pid, 'user', coalesce(a.usename, a.backend_type), 'application', a.application_name, \
                   'state', coalesce(a.state, ''), 'age_ms', coalesce((extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint, 0))";

/// What an SQL array of JSON is, empty when there is none.
fn list(item: &str, rest: &str) -> String {
    format!("(SELECT coalesce(json_agg({item}), '[]') FROM {rest})")
}

/// How the server stands.
///
/// # Errors
/// What it says.
pub async fn standing(session: &mut Session) -> Result<Standing, Failure> {
    let busy = list(
        WHO,
        &format!(
            "pg_stat_activity a WHERE a.backend_type = 'client backend' AND a.state <> 'idle' AND {NOT_OURS}"
        ),
    );
    let prepared = "json_build_object('pid', 0, 'user', p.owner, 'application', p.gid, 'state', 'prepared', \
                    'age_ms', (extract(epoch FROM clock_timestamp() - p.prepared) * 1000)::bigint)";
    let slot = "json_build_object('pid', coalesce(s.active_pid, 0), 'user', s.slot_type, 'application', s.slot_name, 'state', 'slot', \
                'age_ms', CASE WHEN s.active THEN 0 ELSE 86400000 END)";
    let pinning = format!(
        "(SELECT coalesce(json_agg(w ORDER BY rank DESC), '[]') FROM (\
           SELECT {WHO} AS w, age(a.backend_xmin) AS rank FROM pg_stat_activity a WHERE a.backend_xmin IS NOT NULL \
             AND a.backend_type IN ('client backend', 'walsender') AND {NOT_OURS} \
           UNION ALL SELECT {prepared}, age(p.transaction) FROM pg_prepared_xacts p \
           UNION ALL SELECT {slot}, greatest(age(s.xmin), age(s.catalog_xmin)) FROM pg_replication_slots s \
             WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL) pins)"
    );
    let ddl = list(
        WHO,
        &format!(
            "pg_stat_activity a WHERE a.backend_type = 'client backend' AND {NOT_OURS} AND EXISTS (SELECT FROM pg_locks l \
             JOIN pg_class c ON c.oid = l.relation WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation' \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND c.relkind IN ('r', 'p', 'm', 'i', 't') \
             AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))"
        ),
    );
    let replicas = list(
        "json_build_object('name', r.application_name, 'state', coalesce(r.state, ''), \
         'lag_ms', (extract(epoch FROM r.replay_lag) * 1000)::bigint)",
        "pg_stat_replication r WHERE r.state <> 'backup'",
    );
    let invalid = list(
        "json_build_object('oid', i.indexrelid::int8, 'schema', n.nspname, 'name', c.relname, 'table', i.indrelid::int8, 'building', EXISTS (\
         SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid OR (p.relid = i.indrelid AND p.index_relid <> 0)))",
        "pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND c.relkind = 'i'",
    );
    session
        .ask(&format!(
            "SELECT json_build_object('version', current_setting('server_version'), 'version_num', current_setting('server_version_num')::int, \
             'system', (SELECT system_identifier::text FROM pg_control_system()), 'database', current_database(), \
             'in_recovery', pg_is_in_recovery(), 'busy', {busy}, 'pinning', {pinning}, 'ddl', {ddl}, 'replicas', {replicas}, \
             'invalid', {invalid}, 'data_dir', coalesce((SELECT setting FROM pg_settings WHERE name = 'data_directory'), ''), \
             'sees_all', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR pg_has_role('pg_read_all_stats', 'USAGE'), \
             'local', inet_server_addr() IS NULL OR inet_server_addr() <<= '127.0.0.0/8' OR host(inet_server_addr()) = '::1', \
             'maintainable', (SELECT count(*) FROM {USER_TABLES} AND {OWNED}), 'tables', (SELECT count(*) FROM {USER_TABLES}), \
             'connections', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), \
             'max_connections', current_setting('max_connections')::int, \
             'now_us', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)::text"
        ))
        .await
}

/// The tables that are neither the server's own nor the agents', as `c` in schema `n`.
const USER_TABLES: &str = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' \
                           AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'genesis_fleet') AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp%'";
/// Of `c`: this role may VACUUM and REINDEX it. Up to version 16 that is for owners.
const OWNED: &str = "CASE WHEN current_setting('server_version_num')::int >= 170000 THEN has_table_privilege(c.oid, 'MAINTAIN') \
                     ELSE pg_has_role(c.relowner, 'USAGE') END";

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Table {
    /// Its object id.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Partitioned: it holds nothing itself.
    pub partitioned: bool,
    /// This role may maintain it.
    pub owned: bool,
    /// Rows that are dead, and that live, as the server counts them.
    pub dead: i64,
    /// See there.
    pub live: i64,
    /// Without indexes, in bytes.
    pub bytes: i64,
    /// How often it was vacuumed by hand since the server's statistics began.
    pub vacuums: i64,
    /// When it was last vacuumed by hand, and analysed by anybody; 0: never.
    pub vacuumed_us: i64,
    /// See there.
    pub analyzed_us: i64,
    /// Rows changed since.
    pub changed: i64,
    /// When autovacuum vacuumed it last; 0: never.
    pub autovacuumed_us: i64,
}

/// The relations that somebody holds, or wants, for himself alone: whoever asked for their size would wait.
const TAKEN: &str = "ARRAY(SELECT l.relation FROM pg_locks l WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock')";

/// Whether one of these is among them.
fn taken(parts: &[&str]) -> String {
    let each: Vec<String> = parts.iter().map(|part| format!("{part} = ANY({TAKEN})")).collect();
    format!("({})", each.join(" OR "))
}

/// Of `c`, of which nothing of `parts` may be taken: its size by `function`, else as VACUUM has seen it last.
fn bytes(function: &str, parts: &[&str]) -> String {
    format!(
        "(CASE WHEN {} THEN c.relpages::int8 * current_setting('block_size')::int8 ELSE coalesce({function}(c.oid), 0) END)",
        taken(parts)
    )
}

impl Table {
    /// It was vacuumed since `before`, whatever was done to the server's clock meanwhile.
    pub fn vacuumed_since(&self, before: &Self) -> bool {
        self.vacuums > before.vacuums || self.vacuumed_us > before.vacuumed_us
    }
}

const MICROS: &str = "coalesce((extract(epoch FROM {}) * 1000000)::bigint, 0)";

fn micros(what: &str) -> String {
    MICROS.replace("{}", what)
}

/// The tables; with `only` the one of this object id.
///
/// # Errors
/// What the server says.
pub async fn tables(session: &mut Session, only: Option<u32>) -> Result<Vec<Table>, Failure> {
    let filter = only.map_or_else(String::new, |oid| format!(" AND c.oid = {oid}"));
    let item = format!(
        "json_build_object('oid', c.oid::int8, 'schema', n.nspname, 'name', c.relname, 'partitioned', c.relkind = 'p', 'owned', {OWNED}, \
         'dead', coalesce(pg_stat_get_dead_tuples(c.oid), 0), 'live', coalesce(pg_stat_get_live_tuples(c.oid), 0), \
         'bytes', CASE c.relkind WHEN 'p' THEN 0 ELSE {} END, 'vacuums', coalesce(pg_stat_get_vacuum_count(c.oid), 0), 'vacuumed_us', {}, 'analyzed_us', {}, \
         'changed', coalesce(pg_stat_get_mod_since_analyze(c.oid), 0), 'autovacuumed_us', {})",
        bytes("pg_table_size", &["c.oid", "c.reltoastrelid"]),
        micros("pg_stat_get_last_vacuum_time(c.oid)"),
        micros(
            "greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid))"
        ),
        micros("pg_stat_get_last_autovacuum_time(c.oid)"),
    );
    let query = list(&item, &format!("{USER_TABLES}{filter}"));
    session.ask(&format!("SELECT {query}::text")).await
}

/// An index.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Index {
    /// Its object id.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its table's object id, and its schema and name.
    pub table_oid: u32,
    /// See there.
    pub table_schema: String,
    /// See there.
    pub table: String,
    /// This role may rebuild it.
    pub owned: bool,
    /// It serves queries.
    pub valid: bool,
    /// "btree", "gin" ...
    pub method: String,
    /// It keeps rows apart.
    pub unique: bool,
    /// A constraint needs it.
    pub constraint: bool,
    /// A foreign key of its table begins with its columns, so that deletes elsewhere look rows up by it.
    pub supports_key: bool,
    /// It is on expressions or for some rows only.
    pub special: bool,
    /// What it is on, as the server has it, to tell duplicates.
    pub definition: String,
    /// In bytes.
    pub bytes: i64,
    /// The folder of its tablespace; `None`: it is with the server's data.
    pub tablespace: Option<String>,
    /// It is part of a partitioned index, which needs it.
    pub attached: bool,
    /// How often it was used since the statistics began.
    pub scans: i64,
    /// The share of it that is bloat, 0 to 1, estimated; `None`: it can't be.
    pub bloat: Option<f64>,
    /// The same as measured by pgstattuple; `None`: it was not.
    #[serde(default)]
    pub measured: Option<f64>,
}

/// The indexes. Bloat is estimated as by ioguix (2014): what a B-tree of so many rows of such keys would take at its fill
/// factor, against what it does take.
///
/// # Errors
/// What the server says.
pub async fn indexes(session: &mut Session) -> Result<Vec<Index>, Failure> {
    // 24 bytes of page header, 16 of B-tree's own; 8 for the tuple and 4 for its pointer; keys aligned to 8.
    let keys = "(SELECT sum(s.avg_width * (1 - s.null_frac)) FROM pg_attribute k JOIN pg_stats s ON s.schemaname = tn.nspname AND \
                (s.tablename = t.relname AND s.attname = pg_get_indexdef(i.indexrelid, k.attnum, true) OR \
                 s.tablename = c.relname AND s.attname = k.attname) WHERE k.attrelid = i.indexrelid AND k.attnum > 0)";
    let fill = "coalesce((SELECT substring(o FROM 'fillfactor=([0-9]+)')::float8 FROM unnest(c.reloptions) o WHERE o LIKE 'fillfactor=%'), 90) / 100";
    let parts = ["c.oid", "t.oid"];
    let (bytes, taken) = (bytes("pg_relation_size", &parts), taken(&parts));
    let bloat = format!(
        "CASE WHEN {taken} THEN NULL WHEN m.amname = 'btree' AND c.reltuples >= 0 AND {bytes} > 0 AND t.reltuples > 0 THEN \
         greatest(0, 1 - (1 + ceil(c.reltuples * (12 + ceil({keys} / 8) * 8) / (8152 * {fill}))) * 8192 / {bytes}) END"
    );
    let item = format!(
        "json_build_object('oid', c.oid::int8, 'schema', n.nspname, 'name', c.relname, 'table_oid', t.oid::int8, 'table_schema', tn.nspname, \
         'table', t.relname, 'owned', {OWNED}, 'valid', i.indisvalid, 'method', m.amname, 'unique', i.indisunique, \
         'constraint', EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid), \
         'supports_key', EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = t.oid AND k.conkey[1] = i.indkey[0]), \
         'special', i.indexprs IS NOT NULL OR i.indpred IS NOT NULL, \
         'definition', concat_ws(' ', m.amname, i.indkey, i.indclass, i.indcollation, i.indoption, \
         CASE WHEN {taken} THEN i.indexprs::text ELSE pg_get_expr(i.indexprs, t.oid) END, \
         CASE WHEN {taken} THEN i.indpred::text ELSE pg_get_expr(i.indpred, t.oid) END), \
         'bytes', {bytes}, 'tablespace', (SELECT nullif(pg_tablespace_location(c.reltablespace), '') WHERE c.reltablespace <> 0), \
         'attached', EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid), 'scans', coalesce(pg_stat_get_numscans(c.oid), 0), 'bloat', {bloat})"
    );
    let from = "pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am m ON m.oid = c.relam \
                JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace WHERE c.relkind = 'i' AND t.relkind IN ('r', 'm') \
                AND c.relpersistence <> 't' AND tn.nspname NOT IN ('pg_catalog', 'information_schema', 'genesis_fleet') AND tn.nspname NOT LIKE 'pg\\_toast%' AND tn.nspname NOT LIKE 'pg\\_temp%'";
    session.ask(&format!("SELECT {}::text", list(&item, from))).await
}

/// Whether an extension is there, and the schema that it is in.
///
/// # Errors
/// What the server says.
pub async fn extension(session: &mut Session, name: &str) -> Result<Option<String>, Failure> {
    let sql = format!(
        "SELECT coalesce((SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = {}), '')",
        literal(name)
    );
    Ok(Some(session.text(&sql).await?).filter(|schema| !schema.is_empty()))
}

/// Our own process, and when it began in microseconds since 1970.
///
/// # Errors
/// What the server says.
pub async fn own(session: &mut Session) -> Result<(i32, i64), Failure> {
    let sql = format!(
        "SELECT json_build_array(pid, {})::text FROM pg_stat_activity WHERE pid = pg_backend_pid()",
        micros("backend_start")
    );
    session.ask(&sql).await
}
