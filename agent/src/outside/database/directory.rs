//! The configured databases by name, with what is kept of each between looks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::postgres::{Limits, Session};
use super::{Engine, Failure, Postgres, Target};
use crate::outside::market::TradesProbe;

/// Deadlocks of so long are remembered.
pub const DEADLOCKS_KEPT: Duration = Duration::from_secs(300);

/// What is to be known of a configured database to look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, and where it is.
    pub target: Target,
    /// The console of a PgBouncer before it.
    pub pooler: Option<Postgres>,
    /// Sessions of these roles are never ended.
    pub spared_roles: Vec<String>,
    /// By what critical trades are told; `None`: they can't be.
    pub trades: Option<TradesProbe>,
}

/// A configured database.
#[derive(Debug)]
pub struct Known {
    /// What the configuration says of it.
    pub entry: Entry,
    /// A connection that stays open between looks at the server's slots: once all are taken there is no other way in.
    pub way_in: tokio::sync::Mutex<Option<Session>>,
    /// How the count of deadlocks has changed.
    pub deadlocks: Mutex<Counted>,
    /// The index that was looked at last.
    pub last_index: Mutex<u32>,
}

/// The values of a counter, each with when it was first seen.
#[derive(Debug, Default)]
pub struct Counted(VecDeque<(Duration, u64)>);

impl Counted {
    /// Takes a value in that is seen now; by how much it has grown within `window`. One that has become smaller counts
    /// anew.
    pub fn grown(&mut self, now: Duration, value: u64, window: Duration) -> u64 {
        let Self(seen) = self;
        match seen.back() {
            Some((_, last)) if *last == value => {}
            Some((_, last)) if *last > value => *seen = VecDeque::from([(now, value)]),
            _ => seen.push_back((now, value)),
        }
        // What held when the window began is the last that was seen before.
        while seen.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= window) {
            seen.pop_front();
        }
        seen.front().map_or(0, |(_, first)| value - first)
    }
}

impl Known {
    fn new(entry: Entry) -> Self {
        Self {
            entry,
            way_in: tokio::sync::Mutex::default(),
            deadlocks: Mutex::default(),
            last_index: Mutex::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.entry.target.name
    }

    /// The server, where it is one of PostgreSQL.
    ///
    /// # Errors
    /// That it is none.
    pub fn postgres(&self) -> Result<&Postgres, Failure> {
        match &self.entry.target.engine {
            Engine::Postgres(postgres) => Ok(postgres),
            Engine::Sqlite(_) => Err(Failure::Odd("a file of SQLite has no sessions".to_owned())),
        }
    }

    /// The connection that stays open, for whoever needs it now; a new one where there is none, or the server has closed
    /// it.
    ///
    /// # Errors
    /// What the server says.
    pub async fn enter(&self) -> Result<WayIn<'_>, Failure> {
        let mut kept = self.way_in.lock().await;
        // Taken out, so that one whose answer nobody has waited for is not used again.
        if let Some(mut session) = kept.take()
            && session.run("SELECT 1").await.is_ok()
        {
            return Ok(WayIn { kept, session });
        }
        let session = Session::open(self.postgres()?, "sessions", Limits::LOOK).await?;
        Ok(WayIn { kept, session })
    }
}

/// The use of the connection that stays open. It is closed unless it is given back.
#[derive(Debug)]
pub struct WayIn<'k> {
    kept: tokio::sync::MutexGuard<'k, Option<Session>>,
    /// The connection.
    pub session: Session,
}

impl WayIn<'_> {
    /// Gives it back: every question has had its answer.
    pub fn keep(self) {
        let Self { mut kept, session } = self;
        *kept = Some(session);
    }
}

/// Every configured database.
#[derive(Debug, Default)]
pub struct Databases(ArcSwap<BTreeMap<String, Arc<Known>>>);

impl Databases {
    /// The configured databases are these from now on. What is kept of one that stays the same is kept.
    pub fn replace(&self, entries: Vec<Entry>) {
        let before = self.0.load();
        let known = entries.into_iter().map(|entry| {
            let name = entry.target.name.clone();
            let same = before.get(&name).filter(|known| known.entry == entry).cloned();
            (name, same.unwrap_or_else(|| Arc::new(Known::new(entry))))
        });
        self.0.store(Arc::new(known.collect()));
    }

    /// The one of this name.
    ///
    /// # Errors
    /// That there is none, in words.
    pub fn get(&self, name: &str) -> Result<Arc<Known>, String> {
        let known = self.0.load();
        known.get(name).cloned().ok_or_else(|| format!("no database {name:?} is configured"))
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Known>> {
        self.0.load().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_tells_what_is_new_within_the_window() {
        let mut counted = Counted::default();
        let mut at = |second: u64, value: u64| {
            counted.grown(Duration::from_secs(second), value, Duration::from_secs(300))
        };
        assert_eq!(at(0, 7), 0, "what was before nobody knows when");
        assert_eq!((at(10, 8), at(20, 8), at(30, 10)), (1, 1, 3));
        assert_eq!(at(309, 10), 3);
        assert_eq!(at(310, 10), 2);
        assert_eq!((at(330, 10), at(10_000, 10), at(10_001, 11)), (0, 0, 1));
        // The server's statistics were reset.
        assert_eq!((at(10_002, 0), at(10_003, 2)), (0, 2));
    }

    #[test]
    fn what_is_kept_of_a_database_outlives_a_reload() {
        let entry = |name: &str, url: &str| Entry {
            target: Target {
                name: name.to_owned(),
                engine: Engine::Postgres(Postgres {
                    url: url.to_owned(),
                    password_file: None,
                    fence: None,
                }),
            },
            pooler: None,
            spared_roles: Vec::new(),
            trades: None,
        };
        let databases = Databases::default();
        databases.replace(vec![entry("a", "postgres://x/a"), entry("b", "postgres://x/b")]);
        let (a, b) = (databases.get("a").unwrap(), databases.get("b").unwrap());
        databases.replace(vec![entry("a", "postgres://x/a"), entry("b", "postgres://y/b")]);
        assert!(Arc::ptr_eq(&a, &databases.get("a").unwrap()));
        assert!(!Arc::ptr_eq(&b, &databases.get("b").unwrap()));
        assert!(databases.get("c").unwrap_err().contains("\"c\""));
        assert_eq!(databases.all().len(), 2);
    }
}
