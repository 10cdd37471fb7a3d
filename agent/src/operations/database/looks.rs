//! What people ask of a database in between: how it is, which indexes could be better, whether it verifies.

use std::time::Duration;

use genesis_storage::VerifiedBackup;
use jiff::Timestamp;

use super::config::Instance;
use super::health::Ways;
use super::indexes::{self, Advice};
use super::record::{Benchmark, Item, Measured, Truth};
use super::{Databases, act, health, measure, plan, verify};
use crate::error::Result;
use crate::outside::database::facts::{self, Index};
use crate::outside::database::postgres::{self, Limits, Session};
use crate::outside::database::vitals::{self, Slow};
use crate::outside::database::{Engine, Failure};

/// Benchmark queries may take so long each when somebody asks.
const BENCH: Duration = Duration::from_secs(60);
/// So many bytes of indexes are read for advice about them.
const ADVISED: u64 = 16 << 30;
/// So many bytes of indexes are read for their bloat where it can't be estimated.
const MEASURED: u64 = 512 << 20;

/// How a database is.
#[derive(Debug)]
pub struct Health {
    /// The server's version.
    pub version: String,
    /// The database's size in bytes.
    pub bytes: u64,
    /// What was judged.
    pub items: Vec<Item>,
    /// The statements that take the most time.
    pub slow: Vec<Slow>,
    /// How long it took.
    pub took: Duration,
}

impl Databases {
    /// The preflight, whatever kind of database it is.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_FAILED`, `STORAGE_FAILED`.
    pub async fn check(&self, instance: &Instance) -> Result<(Vec<Item>, Duration)> {
        match &instance.target.engine {
            Engine::Postgres(target) => self.preflight(instance, target).await,
            Engine::Sqlite(path) => self.preflight_sqlite(instance, path).await,
        }
    }

    /// How it is now.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_FAILED`.
    pub async fn health(&self, instance: &Instance) -> Result<Health> {
        let target = match &instance.target.engine {
            Engine::Postgres(target) => target,
            Engine::Sqlite(path) => return self.health_sqlite(instance, path).await,
        };
        let since = self.outside.clock.monotonic();
        let looking = async {
            let mut session = Session::open(target, "health", Limits::LOOK).await?;
            let standing = facts::standing(&mut session).await?;
            let figures = vitals::figures(&mut session).await?;
            let tables = facts::tables(&mut session, None).await?;
            let mut indexes = facts::indexes(&mut session).await?;
            let unknown = plan::worth_asking(&indexes, &instance.bloat, MEASURED);
            measure_bloat(&mut session, &mut indexes, unknown).await?;
            // It may be there and not loaded, or of a version before: the rest is worth more.
            let slow = match vitals::slow(&mut session).await {
                Err(Failure::Refused { .. } | Failure::Odd(_)) => Vec::new(),
                slow => slow?,
            };
            let ways = Ways {
                direct: session.direct(),
                server: postgres::proof(target),
                pooler: instance.pgbouncer.as_ref().map(postgres::proof),
            };
            session.close().await;
            let items = health::judge(instance, &ways, &standing, &figures, &tables, &indexes);
            Ok::<_, Failure>((standing.version, figures.bytes.unsigned_abs(), items, slow))
        };
        let looked = looking.await.map_err(|failure| failure.about(&instance.target.name));
        let (version, bytes, items, slow) = looked?;
        let took = self.outside.clock.monotonic().saturating_sub(since);
        Ok(Health { version, bytes, items, slow, took })
    }

    /// The statements that take the most time, and how long the sessions at work have been, a line each. No statement is
    /// told with its values.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_FAILED`.
    pub async fn slow(&self, instance: &Instance) -> Result<Vec<String>> {
        let Engine::Postgres(target) = &instance.target.engine else { return Ok(Vec::new()) };
        let looking = async {
            let mut session = Session::open(target, "baselines", Limits::LOOK).await?;
            let at_work: Vec<vitals::AtWork> = vitals::at_work(&mut session).await?;
            let slow = match vitals::slow(&mut session).await {
                Err(Failure::Refused { .. } | Failure::Odd(_)) => Vec::new(),
                slow => slow?,
            };
            session.close().await;
            Ok::<_, Failure>((at_work, slow))
        };
        let looked = looking.await.map_err(|failure| failure.about(&instance.target.name));
        let (at_work, slow) = looked?;
        let mut lines: Vec<String> = at_work.iter().map(vitals::AtWork::line).collect();
        lines.extend(slow.iter().filter(|it| it.calls > 0).take(3).map(|it| {
            format!("{:.1} ms each, {} calls: {}", it.total_ms / it.calls as f64, it.calls, it.text)
        }));
        Ok(lines)
    }

    /// What could be done about its indexes, how many there are, and since when their use is counted.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_FAILED`.
    pub async fn advice(
        &self,
        instance: &Instance,
    ) -> Result<(Vec<Advice>, usize, Option<Timestamp>)> {
        let target = match &instance.target.engine {
            Engine::Postgres(target) => target,
            Engine::Sqlite(path) => return self.advice_sqlite(instance, path).await,
        };
        let looking = async {
            let mut session = Session::open(target, "indexes", Limits::LOOK).await?;
            let standing = facts::standing(&mut session).await?;
            let figures = vitals::figures(&mut session).await?;
            let mut indexes = facts::indexes(&mut session).await?;
            let worth = plan::worth_measuring(&indexes, &instance.bloat, ADVISED);
            measure_bloat(&mut session, &mut indexes, worth).await?;
            session.close().await;
            Ok::<_, Failure>((standing, figures, indexes))
        };
        let looked = looking.await.map_err(|failure| failure.about(&instance.target.name));
        let (standing, figures, indexes) = looked?;
        let since = Some(figures.counted_since_us).filter(|since| *since > 0);
        let since = since.and_then(|since| Timestamp::from_microsecond(since).ok());
        let now = self.outside.clock.now();
        let advice = indexes::advise(
            &indexes,
            &standing.invalid,
            &instance.bloat,
            (since, !standing.replicas.is_empty()),
            now,
        );
        Ok((advice, indexes.len(), since))
    }

    /// Verifies it as after care, against what the last care measured.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_FAILED`, `STORAGE_FAILED`.
    pub async fn verify(&self, instance: &Instance) -> Result<(Vec<Item>, Vec<Benchmark>)> {
        let name = &instance.target.name;
        let target = match &instance.target.engine {
            Engine::Postgres(target) => target,
            Engine::Sqlite(path) => return self.verify_sqlite(instance, path).await,
        };
        let about = |failure: Failure| failure.about(name);
        let limits = Limits { statement: BENCH, ..Limits::LOOK };
        let mut session = Session::open(target, "verify", limits).await.map_err(about)?;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for query in &instance.bench {
            before.push(self.measured_last(name, &query.name)?);
            after.push(measure::measure(self, &mut session, query).await);
        }
        let (clock, by) = (&self.outside.clock, (self, &mut session));
        let (bench, within) = (&instance.bench, verify::AGAIN);
        let benchmarks = measure::compared(clock, bench, before, after, within, by).await?;
        let standing = facts::standing(&mut session).await.map_err(about)?;
        session.close().await;
        let invalid: Vec<_> = standing.invalid.iter().filter(|index| !index.building).collect();
        let names: Vec<&str> = invalid.iter().map(|index| index.name.as_str()).collect();
        let good = if invalid.is_empty() { Truth::Pass } else { Truth::Fail };
        let items = vec![
            verify::queries(&benchmarks),
            Item::new("invalid-indexes", good, invalid.len().to_string(), "0", names.join(", ")),
            verify::pool(&standing),
            self.backup_item(instance, &standing.system)?,
        ];
        Ok((items, benchmarks))
    }

    /// What the last care measured of a query.
    pub(super) fn measured_last(&self, database: &str, query: &str) -> Result<Option<Measured>> {
        let history = self.history(Some(database), 50)?;
        let benchmarks = history.into_iter().flat_map(|(_, report)| report.benchmarks);
        Ok(benchmarks.filter(|it| it.name == query).find_map(|it| it.after))
    }

    /// Whether there is a verified backup.
    pub(super) fn backup_item(&self, instance: &Instance, system: &str) -> Result<Item> {
        let limit = format!("verified to {}", instance.backup_min_level);
        Ok(match self.verified(instance, Some(system))? {
            VerifiedBackup::Yes(record) => {
                let evidence = format!("of {}", record.started_at);
                Item::new("backup-integrity", Truth::Pass, record.id, limit, evidence)
            }
            VerifiedBackup::No(why) => {
                Item::new("backup-integrity", Truth::Fail, "none", limit, why)
            }
            VerifiedBackup::Unknown(why) => {
                Item::new("backup-integrity", Truth::Unknown, "", limit, why)
            }
        })
    }
}

/// Measures the bloat of some indexes, where the server can.
async fn measure_bloat(
    session: &mut Session,
    indexes: &mut [Index],
    which: Vec<u32>,
) -> Result<(), Failure> {
    if which.is_empty() {
        return Ok(());
    }
    let Some(schema) = facts::extension(session, "pgstattuple").await? else { return Ok(()) };
    for oid in which {
        let measured = act::measured_bloat(session, &schema, oid).await.ok();
        let index = indexes.iter_mut().find(|index| index.oid == oid);
        index.into_iter().for_each(|index| index.measured = measured);
    }
    Ok(())
}
