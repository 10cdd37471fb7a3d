//! The tour's database: that of a trading system which deletes old orders and never compacts its file, with an index
//! that somebody made twice.

use std::path::Path;

use crate::error::{Error, Result};
use crate::outside::database::sqlite;

/// Its name in the configuration.
pub(super) const NAME: &str = "trading";

/// Six thousand orders, of which the oldest two thirds are gone: more than a fifth of the pages hold nothing.
const SQL: &str = "\
PRAGMA journal_mode = WAL;
CREATE TABLE orders (id INTEGER PRIMARY KEY, symbol TEXT NOT NULL, price INTEGER NOT NULL, state TEXT NOT NULL, note TEXT NOT NULL);
CREATE INDEX orders_by_symbol ON orders (symbol, price);
CREATE INDEX orders_symbol_price ON orders (symbol, price);
WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < 6000)
INSERT INTO orders SELECT i, 'S' || (i % 97), i * 7919 % 10007, 'settled', hex(randomblob(60)) FROM numbers;
DELETE FROM orders WHERE id <= 4000;
";

/// Makes it.
pub(super) fn make(path: &Path) -> Result<()> {
    let failed = || Error::internal("DEMO_FAILED", "can't make a database");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed().caused_by(error))?;
    runtime.block_on(sqlite::make(path, SQL)).map_err(|error| failed().caused_by(error))
}

/// Its part of the configuration.
pub(super) fn configuration(path: &Path) -> String {
    format!(
        "# Databases are cared for on Sundays at 03:00; this one only when somebody says so. A demo's machine may have less room\n\
         # than the 20 % that care asks for.\n\
         [[database.instance]]\nname = \"{NAME}\"\nurl = \"sqlite:{}\"\nschedule = \"never\"\nmin_free = \"1%\"\n\
         trades_probe = {{ sql = \"SELECT count(*) FROM orders WHERE state = 'settling'\" }}\n\n",
        path.display()
    )
}
