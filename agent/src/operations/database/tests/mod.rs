//! Tables for what is decided.

mod health;
mod indexes;
mod plans;
mod preflight;
mod verify;

use crate::config::{Config, Places};
use crate::operations::database::config::Instance;
use crate::outside::database::facts::{Index, Standing, Table, Who};

/// A database as it is configured without anything said of it, but for these lines.
fn instance(more: &str) -> Instance {
    let text = format!(
        "[[database.instance]]\nname = \"trades\"\nurl = \"postgres:///trades?host=/run/postgresql\"\n{more}\n"
    );
    let config = Config::parse(&text, "", &Places { state: "/s".into(), socket: "/s/a".into() });
    config.config.unwrap_or_else(|| panic!("{:?}", config.problems)).database.instances.remove(0)
}

fn standing() -> Standing {
    Standing {
        version: "15.4".into(),
        version_num: 150_004,
        system: "7".into(),
        database: "trades".into(),
        in_recovery: false,
        busy: Vec::new(),
        pinning: Vec::new(),
        ddl: Vec::new(),
        replicas: Vec::new(),
        invalid: Vec::new(),
        data_dir: "/data".into(),
        local: true,
        maintainable: 3,
        tables: 3,
        connections: 5,
        max_connections: 100,
        sees_all: true,
        now_us: 0,
    }
}

fn who(pid: i32, age_ms: i64) -> Who {
    Who {
        pid,
        user: "trader".into(),
        application: "strategy".into(),
        state: "active".into(),
        age_ms,
    }
}

fn table(oid: u32, dead: i64, bytes: i64) -> Table {
    Table {
        oid,
        schema: "public".into(),
        name: format!("t{oid}"),
        partitioned: false,
        owned: true,
        dead,
        live: 1_000,
        bytes,
        vacuums: 0,
        vacuumed_us: 0,
        analyzed_us: 0,
        changed: 0,
        autovacuumed_us: 0,
    }
}

fn index(oid: u32, bytes: i64, bloat: f64) -> Index {
    Index {
        oid,
        schema: "public".into(),
        name: format!("i{oid}"),
        table_oid: 1,
        table_schema: "public".into(),
        table: "t1".into(),
        owned: true,
        valid: true,
        method: "btree".into(),
        unique: false,
        constraint: false,
        supports_key: false,
        special: false,
        definition: format!("btree {oid}"),
        bytes,
        tablespace: None,
        attached: false,
        scans: 0,
        bloat: Some(bloat),
        measured: None,
    }
}
