//! Whether critical trades are in progress: the interlock of everything that reaches into trading.
//!
//! Whoever could tell is asked by the `trades_probe` of each configured database. What is not clearly "none" never
//! counts as none: an error, no answer in time, something that is no number, nobody who could be asked.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::outside::Outside;
use crate::outside::database::directory::Known;

/// A reading that is older tells nothing any more.
pub const STALE: Duration = Duration::from_secs(10);

/// Whether critical trades are in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Critical {
    /// Proven: none.
    None,
    /// Some are.
    InProgress,
    /// It could not be told, which never counts as none.
    Unknown,
}

/// What was told of trades.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Whether there are any.
    pub critical: Critical,
    /// By what that is told, in words.
    pub evidence: String,
    /// How long it took to find out.
    pub took: Duration,
}

impl Reading {
    fn unknown(evidence: impl Into<String>) -> Self {
        Self { critical: Critical::Unknown, evidence: evidence.into(), took: Duration::ZERO }
    }
}

/// Asks about trades, and keeps the last answer.
pub struct Trades {
    outside: Outside,
    /// When it was begun to be read, and what was told.
    last: Mutex<Option<(Duration, Reading)>>,
}

impl Trades {
    /// Asks about those of the databases in `outside`.
    pub fn new(outside: Outside) -> Arc<Self> {
        Arc::new(Self { outside, last: Mutex::default() })
    }

    /// What is told of the trades of one database.
    pub async fn look(&self, database: &str) -> Reading {
        match self.outside.databases.get(database) {
            Ok(known) => self.ask(&known).await,
            Err(why) => Reading::unknown(why),
        }
    }

    async fn ask(&self, known: &Known) -> Reading {
        let name = known.name();
        let Some(probe) = &known.entry.trades else {
            return Reading::unknown(format!(
                "{name} has no trades_probe; \"none\" is for a database that no trade needs"
            ));
        };
        let clock = &self.outside.clock;
        let began = clock.monotonic();
        let told = self.outside.market.critical_trades(probe, &known.entry.target).await;
        let took = clock.monotonic().saturating_sub(began);
        let (critical, evidence) = match told {
            Ok(0.0) => (Critical::None, format!("{name}: no critical trade")),
            Ok(count) if count > 0.0 => {
                (Critical::InProgress, format!("{name}: {count} critical trades in progress"))
            }
            Ok(odd) => (Critical::Unknown, format!("{name}: {odd} is no number of trades")),
            Err(why) => (Critical::Unknown, format!("{name}: {why}")),
        };
        Reading { critical, evidence, took }
    }

    /// What is told of the trades of all databases together: any are some; of what can't be told, none are proven.
    pub async fn look_all(&self) -> Reading {
        let clock = &self.outside.clock;
        let began = clock.monotonic();
        let all = self.outside.databases.all();
        let readings =
            futures_util::future::join_all(all.iter().map(|known| self.ask(known))).await;
        let took = clock.monotonic().saturating_sub(began);
        let reading = combine(&readings, took);
        let mut last = self.last();
        // Of two that were under way, what was asked later counts.
        if last.as_ref().is_none_or(|(before, _)| *before <= began) {
            *last = Some((began, reading.clone()));
        }
        reading
    }

    /// The latest reading that was kept; unknown where there is none, or it is stale.
    pub fn latest(&self) -> Reading {
        if self.outside.databases.all().is_empty() {
            return nobody();
        }
        match self.kept() {
            Some((age, reading)) if age <= STALE => reading,
            Some((age, _)) => {
                Reading::unknown(format!("the last answer is {} s old", age.as_secs()))
            }
            None => Reading::unknown("nobody has been asked yet"),
        }
    }

    /// How old the latest reading is; `None`: there is none.
    pub fn age(&self) -> Option<Duration> {
        self.kept().map(|(age, _)| age)
    }

    /// Whether there is anybody to ask.
    pub fn can_ask(&self) -> bool {
        !self.outside.databases.all().is_empty()
    }

    fn kept(&self) -> Option<(Duration, Reading)> {
        let now = self.outside.clock.monotonic();
        let last = self.last();
        last.as_ref().map(|(at, reading)| (now.saturating_sub(*at), reading.clone()))
    }

    fn last(&self) -> MutexGuard<'_, Option<(Duration, Reading)>> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn nobody() -> Reading {
    Reading::unknown("no database is configured whose trades_probe could tell")
}

fn combine(readings: &[Reading], took: Duration) -> Reading {
    if readings.is_empty() {
        return Reading { took, ..nobody() };
    }
    let any = |wanted: Critical| readings.iter().any(|reading| reading.critical == wanted);
    let critical = match () {
        () if any(Critical::InProgress) => Critical::InProgress,
        () if any(Critical::Unknown) => Critical::Unknown,
        () => Critical::None,
    };
    // Only what it is told by.
    let of_it = readings.iter().filter(|reading| reading.critical == critical);
    let evidence: Vec<&str> = of_it.map(|reading| reading.evidence.as_str()).collect();
    Reading { critical, evidence: evidence.join("; "), took }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use async_trait::async_trait;
    use jiff::Timestamp;

    use super::*;
    use crate::outside::database::directory::Entry;
    use crate::outside::database::{Engine, Target};
    use crate::outside::market::{Market, TradesProbe};
    use crate::outside::{Clock, ManualClock};

    /// Answers by the name of the database.
    struct Desk(Mutex<BTreeMap<String, Result<f64, String>>>);

    #[async_trait]
    impl Market for Desk {
        async fn critical_trades(&self, _: &TradesProbe, of: &Target) -> Result<f64, String> {
            let answers = self.0.lock().unwrap();
            answers.get(&of.name).cloned().unwrap_or_else(|| Err("not asked".to_owned()))
        }
    }

    /// Each database with what its probe answers; `None`: it has no probe.
    fn trades(answers: &[(&str, Option<Result<f64, &str>>)]) -> (Arc<Trades>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let told = answers.iter().filter_map(|(name, answer)| {
            Some(((*name).to_owned(), answer.map(|answer| answer.map_err(str::to_owned))?))
        });
        let desk = Desk(Mutex::new(told.collect()));
        let outside = Outside {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            market: Arc::new(desk),
            ..Outside::real()
        };
        let entries = answers.iter().map(|(name, answer)| Entry {
            target: Target { name: (*name).to_owned(), engine: Engine::Sqlite("/x".into()) },
            pooler: None,
            spared_roles: Vec::new(),
            trades: answer.map(|_| TradesProbe::Sql("SELECT 0".to_owned())),
        });
        outside.databases.replace(entries.collect());
        (Trades::new(outside), clock)
    }

    #[tokio::test]
    async fn what_is_not_clearly_none_is_never_none() {
        let none = Some(Ok(0.0));
        for (answers, expected, evidence) in [
            (vec![], Critical::Unknown, "no database is configured"),
            (vec![("a", none)], Critical::None, "a: no critical trade"),
            (vec![("a", none), ("b", none)], Critical::None, "b: no critical trade"),
            (vec![("a", none), ("b", Some(Ok(1.0)))], Critical::InProgress, "b: 1 critical"),
            (vec![("a", Some(Ok(0.5)))], Critical::InProgress, "0.5"),
            (vec![("a", Some(Ok(-1.0)))], Critical::Unknown, "-1 is no number"),
            (vec![("a", Some(Ok(f64::NAN)))], Critical::Unknown, "NaN"),
            (vec![("a", none), ("b", Some(Err("late")))], Critical::Unknown, "b: late"),
            (vec![("a", none), ("b", None)], Critical::Unknown, "b has no trades_probe"),
            (vec![("a", Some(Err("late"))), ("b", Some(Ok(2.0)))], Critical::InProgress, "b: 2"),
        ] {
            let (trades, _) = trades(&answers);
            let reading = trades.look_all().await;
            assert_eq!(reading.critical, expected, "{answers:?}: {reading:?}");
            assert!(reading.evidence.contains(evidence), "{evidence}: {reading:?}");
            assert_eq!(trades.latest().critical, expected);
        }
        let (trades, _) = trades(&[("a", none), ("b", Some(Ok(3.0)))]);
        assert_eq!(trades.look("a").await.critical, Critical::None);
        assert_eq!(trades.look("b").await.critical, Critical::InProgress);
        assert_eq!(trades.look("c").await.critical, Critical::Unknown);
    }

    #[tokio::test]
    async fn a_reading_tells_nothing_for_long() {
        let (trades, clock) = trades(&[("a", Some(Ok(0.0)))]);
        assert_eq!((trades.latest().critical, trades.age()), (Critical::Unknown, None));
        trades.look_all().await;
        clock.advance(STALE);
        assert_eq!((trades.latest().critical, trades.age()), (Critical::None, Some(STALE)));
        clock.advance(Duration::from_millis(1));
        let stale = trades.latest();
        assert_eq!(stale.critical, Critical::Unknown);
        assert!(stale.evidence.contains("10 s old"), "{stale:?}");
    }
}
