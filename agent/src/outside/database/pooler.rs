//! PgBouncer, as its console tells it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::postgres::Session;
use super::{Failure, Postgres};

/// Clients that wait for less are no trouble: a burst is what a pool is for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What PgBouncer's pools are doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pools {
    /// One for each database and user that has had a client.
    pub pools: Vec<Pool>,
    /// So many clients there are.
    pub clients: u64,
    /// So many there may be.
    pub max_clients: u64,
}

/// One pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    /// To which database.
    pub database: String,
    /// As whom.
    pub user: String,
    /// So many connections to the server it may have.
    pub size: u64,
    /// So many of them have something to do.
    pub busy: u64,
    /// So many clients wait for one.
    pub waiting: u64,
    /// The longest of them for so long.
    pub longest: Duration,
}

impl Pool {
    /// What of it is free, in percent: none where clients wait and get nothing.
    pub fn free_percent(&self) -> f64 {
        let free = self.size.saturating_sub(self.busy);
        let starving = self.waiting > 0 && (free == 0 || self.longest >= PATIENCE);
        if starving || self.size == 0 { 0.0 } else { free as f64 * 100.0 / self.size as f64 }
    }
}

impl Pools {
    /// Asks a console.
    ///
    /// # Errors
    /// What it says.
    pub async fn ask(console: &Postgres) -> Result<Self, Failure> {
        let mut session = Session::console(console, "pooler").await?;
        let pools = session.table("SHOW POOLS").await?;
        let databases = session.table("SHOW DATABASES").await?;
        let lists = session.table("SHOW LISTS").await?;
        let settings = session.table("SHOW CONFIG").await?;
        session.close().await;
        Self::read(&pools, &databases, &lists, &settings)
    }

    fn read(
        pools: &[Row],
        databases: &[Row],
        lists: &[Row],
        settings: &[Row],
    ) -> Result<Self, Failure> {
        let listed = |rows: &[Row], (name, value): (&str, &str), wanted: &str| {
            let row = rows.iter().find(|row| text(row, name) == wanted);
            row.and_then(|row| text(row, value).parse::<u64>().ok())
        };
        let needed = |found: Option<u64>, what: &str| {
            found.ok_or_else(|| Failure::Odd(format!("PgBouncer does not tell {what}")))
        };
        let usual = listed(settings, ("key", "value"), "default_pool_size");
        let mut found = Self {
            pools: Vec::new(),
            clients: needed(listed(lists, ("list", "items"), "used_clients"), "used_clients")?,
            max_clients: needed(
                listed(settings, ("key", "value"), "max_client_conn"),
                "max_client_conn",
            )?,
        };
        for row in pools {
            let database = text(row, "database");
            // The console itself.
            if database == "pgbouncer" {
                continue;
            }
            let number = |name: &str| text(row, name).parse::<u64>();
            let (Ok(active), Ok(waiting)) = (number("sv_active"), number("cl_waiting")) else {
                return Err(Failure::Odd(
                    "PgBouncer's pools have no sv_active or cl_waiting".to_owned(),
                ));
            };
            let more = ["sv_login", "sv_tested", "sv_active_cancel", "sv_being_canceled"];
            let busy = active + more.iter().filter_map(|name| number(name).ok()).sum::<u64>();
            let size = listed(databases, ("name", "pool_size"), database).filter(|size| *size > 0);
            let micros = number("maxwait").unwrap_or(0).saturating_mul(1_000_000);
            found.pools.push(Pool {
                database: database.to_owned(),
                user: text(row, "user").to_owned(),
                size: needed(size.or(usual), "pool_size")?,
                busy,
                waiting,
                longest: Duration::from_micros(micros + number("maxwait_us").unwrap_or(0)),
            });
        }
        Ok(found)
    }

    /// What is free of the scarcest, in percent: of a pool, or of what clients PgBouncer takes.
    pub fn free_percent(&self) -> f64 {
        let clients = match self.max_clients {
            0 => 0.0,
            max => max.saturating_sub(self.clients) as f64 * 100.0 / max as f64,
        };
        self.pools.iter().map(Pool::free_percent).fold(clients, f64::min)
    }

    /// So many clients wait.
    pub fn waiting(&self) -> u64 {
        self.pools.iter().map(|pool| pool.waiting).sum()
    }

    /// In words: the clients, and the scarcest pool.
    pub fn words(&self) -> String {
        let clients = format!(
            "{} of {} clients, {} of them wait for a connection",
            self.clients,
            self.max_clients,
            self.waiting()
        );
        let scarcest = self.pools.iter().min_by(|a, b| {
            let order = a.free_percent().total_cmp(&b.free_percent());
            order.then(b.waiting.cmp(&a.waiting))
        });
        match scarcest {
            None => format!("{clients}; no pool is in use"),
            Some(pool) => format!(
                "{clients}; of the pool {}/{} {} of {} connections are busy, {} clients wait, the longest for {:.1} s",
                pool.database,
                pool.user,
                pool.busy,
                pool.size,
                pool.waiting,
                pool.longest.as_secs_f64()
            ),
        }
    }
}

type Row = BTreeMap<String, String>;

fn text<'r>(row: &'r Row, name: &str) -> &'r str {
    row.get(name).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[(&str, &str)]) -> Row {
        cells.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_scarcest_counts() {
        let settings = [
            row(&[("key", "default_pool_size"), ("value", "20")]),
            row(&[("key", "max_client_conn"), ("value", "100")]),
        ];
        let lists = [row(&[("list", "used_clients"), ("items", "10")])];
        let databases = [row(&[("name", "small"), ("pool_size", "4")])];
        let pool = |database: &str, active: &str, waiting: &str, longest: &str| {
            row(&[
                ("database", database),
                ("user", "app"),
                ("sv_active", active),
                ("sv_login", "1"),
                ("cl_waiting", waiting),
                ("maxwait", longest),
                ("maxwait_us", "500000"),
            ])
        };
        let read = |pools: &[Row]| Pools::read(pools, &databases, &lists, &settings).unwrap();
        assert_eq!(read(&[pool("pgbouncer", "1", "0", "0")]).free_percent(), 90.0);
        assert_eq!(read(&[pool("large", "4", "0", "0")]).free_percent(), 75.0);
        let small = read(&[pool("large", "4", "0", "0"), pool("small", "1", "0", "0")]);
        assert_eq!(small.free_percent(), 50.0);
        assert!(small.words().contains("small/app 2 of 4"), "{}", small.words());
        // Who waits for less than a second while there is room will have it.
        assert_eq!(read(&[pool("large", "4", "2", "0")]).free_percent(), 75.0);
        assert_eq!(read(&[pool("large", "4", "2", "1")]).free_percent(), 0.0);
        assert_eq!(read(&[pool("small", "3", "1", "0")]).free_percent(), 0.0);
        assert_eq!(read(&[pool("small", "3", "1", "0")]).waiting(), 1);
        let odd = Pools::read(&[row(&[("database", "x")])], &databases, &lists, &settings);
        assert!(matches!(odd, Err(Failure::Odd(_))));
        assert!(matches!(Pools::read(&[], &[], &[], &settings), Err(Failure::Odd(_))));
    }
}
