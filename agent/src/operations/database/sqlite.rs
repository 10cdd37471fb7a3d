//! Care of a file of SQLite: sound before anything is changed, copied before anything is rewritten, sound after.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::VerifiedBackup;
use jiff::Timestamp;

use super::begin::{Begun, Wish, blocked, overriding, request};
use super::config::Instance;
use super::indexes::Advice;
use super::looks::Health;
use super::measure::compared;
use super::preflight::{ACTIVE, BACKUP, TRADES, room};
use super::record::{Benchmark, Item, Report, Truth, micros, size};
use super::sqlite_care::{Care, measure};
use super::survey::one_at_a_time;
use super::{Databases, OPTIMIZE, verify};
use crate::error::{Error, Result};
use crate::lock;
use crate::outside::database::sqlite::{Access, File, Pages};
use crate::outside::database::{Failure, sqlite};
use crate::plan::{Plan, PlanStep};

/// At least such a share of the pages holds nothing before all is rewritten.
const FREE_PAGES: f64 = 0.2;
/// VACUUM writes a copy and the changes: so many times the size must be free.
const ROOM: f64 = 2.2;

/// What a look at a file found.
struct Look {
    items: Vec<Item>,
    pages: Pages,
}

impl Databases {
    async fn open_sqlite(&self, instance: &Instance, path: &Path, access: Access) -> Result<File> {
        let opened = File::open(path, access, instance.lock_timeout).await;
        opened.map_err(|failure| failure.about(&instance.target.name))
    }

    async fn look_sqlite(&self, instance: &Instance, path: &Path, file: &mut File) -> Result<Look> {
        let name = &instance.target.name;
        let about = |failure: Failure| failure.about(name);
        let since = self.outside.clock.monotonic();
        let (pages, trades) = tokio::join!(file.pages(), self.neighbours.trades(name));
        let pages = pages.map_err(about)?;
        let written = file.written_to().await.map_err(about)?;
        let folder = path.parent().unwrap_or(path).to_owned();
        let disk = self.disk_of(instance.data_dir.clone().unwrap_or(folder)).await;
        let wanted = if worth_it(&pages) { (pages.bytes() as f64 * ROOM) as u64 } else { 0 };
        let mut items = vec![
            self.backup_sqlite(instance, path)?,
            self.active_sqlite(instance, path).await,
            Item::new(TRADES, trades.truth, trades.value, "0", trades.evidence),
            room(instance, &disk, wanted, &format!("{ROOM} x the file")),
            match written {
                true => Item::new(
                    "no-writer",
                    Truth::Fail,
                    "a writer",
                    "nobody writes",
                    "somebody holds the right to write; try again later",
                ),
                false => Item::new("no-writer", Truth::Pass, "nobody", "nobody writes", ""),
            },
        ];
        let took = micros(self.outside.clock.monotonic().saturating_sub(since));
        items.iter_mut().for_each(|item| item.took_us = took);
        Ok(Look { items, pages })
    }

    /// A care of SQLite makes its own backup before it changes anything.
    fn backup_sqlite(&self, instance: &Instance, path: &Path) -> Result<Item> {
        let own = "or made first by the care itself";
        let evidence = match self.verified(instance, Some(&system_of(path)))? {
            VerifiedBackup::Yes(record) => format!("backup {} of {}", record.id, record.started_at),
            VerifiedBackup::No(_) | VerifiedBackup::Unknown(_) => {
                "the care copies the file and verifies the copy before it changes anything"
                    .to_owned()
            }
        };
        Ok(Item::new(BACKUP, Truth::Pass, "first step", own, evidence))
    }

    async fn active_sqlite(&self, instance: &Instance, path: &Path) -> Item {
        let limit = format!("< {}", instance.max_active);
        match self.openers(path).await {
            Err(why) => Item::new(ACTIVE, Truth::Unknown, "", limit, why),
            Ok((pids, all)) => {
                // What counts is proven by the right to write; who has the file open only tells how busy it is.
                let few = pids.len() < instance.max_active as usize;
                let truth = if few { Truth::Pass } else { Truth::Fail };
                let hidden = if all { "" } else { ", as far as processes can be seen" };
                let evidence = format!("open in {}{hidden}", words(&pids));
                Item::new(ACTIVE, truth, pids.len().to_string(), limit, evidence)
            }
        }
    }

    /// Who has the file open, and whether these are all.
    pub(super) async fn openers(&self, path: &Path) -> Result<(Vec<u32>, bool), String> {
        let (path, host) = (path.to_owned(), Arc::clone(&self.outside.host));
        let look = tokio::task::spawn_blocking(move || {
            let facts = std::fs::metadata(&path).map_err(|error| error.to_string())?;
            Ok(host.openers(facts.dev(), facts.ino()))
        });
        look.await.map_err(|error| error.to_string())?
    }

    /// The preflight of a file.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_FAILED`.
    pub async fn preflight_sqlite(
        &self,
        instance: &Instance,
        path: &Path,
    ) -> Result<(Vec<Item>, Duration)> {
        let since = self.outside.clock.monotonic();
        let mut file = self.open_sqlite(instance, path, Access::Write).await?;
        let mut look = self.look_sqlite(instance, path, &mut file).await?;
        file.close().await;
        look.items.push(one_at_a_time(lock::take(&lock_path(path)).is_ok()));
        Ok((look.items, self.outside.clock.monotonic().saturating_sub(since)))
    }

    pub(super) async fn plan_sqlite(
        &self,
        instance: &Instance,
        path: &Path,
        wish: &Wish,
    ) -> Result<Plan> {
        let mut file = self.open_sqlite(instance, path, Access::Write).await?;
        let mut look = self.look_sqlite(instance, path, &mut file).await?;
        file.close().await;
        overriding(&mut look.items, &wish.overrides);
        blocked(&instance.target.name, &look.items)?;
        Ok(plan_of(instance, path, &look.pages, wish))
    }

    pub(super) async fn optimize_sqlite(
        self: &Arc<Self>,
        instance: Instance,
        path: PathBuf,
        wish: Wish,
        ends: Duration,
    ) -> Result<Begun> {
        let name = instance.target.name.clone();
        let turn = lock::take(&lock_path(&path)).map_err(|error| match error.code {
            "ALREADY_RUNNING" => {
                let message = format!(
                    "another agent cares for database {name} now; try again when it has ended"
                );
                Error::conflict("DATABASE_HELD", message)
            }
            _ => error,
        })?;
        let mut file = self.open_sqlite(&instance, &path, Access::Write).await?;
        let mut look = self.look_sqlite(&instance, &path, &mut file).await?;
        overriding(&mut look.items, &wish.overrides);
        if blocked(&name, &look.items).is_err() {
            file.close().await;
            return self.refuse(&instance, &wish, look.items).await;
        }
        plan_of(&instance, &path, &look.pages, &wish).accept(&wish.plan_hash)?;
        let databases = Arc::clone(self);
        let started = self.runs.start(request(&instance, &wish), move |context| async move {
            let report = Report { preflight: look.items, ..Report::default() };
            databases.begun(&context, &name, &report).await?;
            let mut care = Care {
                databases: Arc::clone(&databases),
                instance,
                path,
                context: context.clone(),
                ends,
                report,
            };
            let ended = care.run(&mut file).await;
            file.close().await;
            drop(turn);
            databases.ended(&context, &name, care.report, ended).await
        });
        Ok(Begun::Run(started.await?))
    }

    /// How a file is.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_FAILED`.
    pub async fn health_sqlite(&self, instance: &Instance, path: &Path) -> Result<Health> {
        let since = self.outside.clock.monotonic();
        let name = &instance.target.name;
        let about = |failure: Failure| failure.about(name);
        let mut file = self.open_sqlite(instance, path, Access::Read).await?;
        let damage = file.damage(false).await.map_err(about)?;
        let pages = file.pages().await;
        let version =
            file.rows("SELECT sqlite_version()").await.ok().and_then(|mut it| it.pop()?.pop());
        let journal =
            file.rows("PRAGMA journal_mode").await.ok().and_then(|mut it| it.pop()?.pop());
        file.close().await;
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let wal = std::fs::metadata(PathBuf::from(wal)).map_or(0, |facts| facts.len());
        let bytes = pages.as_ref().map_or(0, Pages::bytes);
        let sound = if damage.is_empty() { Truth::Pass } else { Truth::Fail };
        let mut items = vec![Item::new(
            "integrity",
            sound,
            if damage.is_empty() { "ok" } else { "damaged" },
            "ok",
            damage.join("; "),
        )];
        if let Ok(pages) = &pages {
            let share = free_share(pages);
            let good = if share < FREE_PAGES { Truth::Pass } else { Truth::Fail };
            let evidence = format!("{} of {} pages hold nothing", pages.free, pages.count);
            items.push(Item::new(
                "free-pages",
                good,
                format!("{:.1} %", share * 100.0),
                "< 20 %",
                evidence,
            ));
        }
        // Twice the file, or more than a checkpoint every thousand pages leaves.
        let small = if wal <= bytes.max(64 << 20) { Truth::Pass } else { Truth::Fail };
        items.push(Item::new(
            "wal",
            small,
            size(wal),
            "smaller than the file, or 64 MiB",
            journal.unwrap_or_default(),
        ));
        items.push(self.backup_item(instance, &system_of(path))?);
        let took = self.outside.clock.monotonic().saturating_sub(since);
        Ok(Health { version: version.unwrap_or_default(), bytes, items, slow: Vec::new(), took })
    }

    /// Duplicate indexes; SQLite does not count how often each is used.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_FAILED`.
    pub async fn advice_sqlite(
        &self,
        instance: &Instance,
        path: &Path,
    ) -> Result<(Vec<Advice>, usize, Option<Timestamp>)> {
        let mut file = self.open_sqlite(instance, path, Access::Read).await?;
        let indexes = file.indexes().await.map_err(|it| it.about(&instance.target.name))?;
        file.close().await;
        let mut found = Vec::new();
        for (place, index) in indexes.iter().enumerate() {
            let twin = indexes.iter().enumerate().find(|(at, other)| {
                let keeps = (other.constraint, other.unique) > (index.constraint, index.unique)
                    || ((other.constraint, other.unique) == (index.constraint, index.unique)
                        && *at > place);
                *at != place && keeps && other.table == index.table && other.on == index.on
            });
            let Some((_, twin)) = twin else { continue };
            let caution = match (index.constraint, index.unique) {
                (true, _) => "a constraint needs it",
                (false, true) => "it keeps rows apart",
                (false, false) => "",
            };
            found.push(Advice {
                kind: "duplicate",
                index: index.name.clone(),
                table: index.table.clone(),
                bytes: 0,
                saves: 0,
                evidence: format!("the same as {}, on {}", twin.name, index.on),
                sql: format!(
                    "DROP INDEX {};",
                    crate::outside::database::postgres::quote(&index.name)
                ),
                caution: caution.to_owned(),
            });
        }
        Ok((found, indexes.len(), None))
    }

    /// Verifies a file as after care.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_FAILED`.
    pub async fn verify_sqlite(
        &self,
        instance: &Instance,
        path: &Path,
    ) -> Result<(Vec<Item>, Vec<Benchmark>)> {
        let name = &instance.target.name;
        let mut file = self.open_sqlite(instance, path, Access::Read).await?;
        let damage = file.damage(true).await.map_err(|it| it.about(name))?;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for query in &instance.bench {
            before.push(self.measured_last(name, &query.name)?);
            after.push(measure(self, &mut file, query).await);
        }
        let (clock, by) = (&self.outside.clock, (self, &mut file));
        let (bench, within) = (&instance.bench, verify::AGAIN);
        let benchmarks = compared(clock, bench, before, after, within, by).await?;
        file.close().await;
        let items = vec![
            verify::queries(&benchmarks),
            integrity(&damage),
            self.backup_item(instance, &system_of(path))?,
        ];
        Ok((items, benchmarks))
    }
}

/// What tells the file from another one that takes its place; one that is gone is none.
pub(super) fn system_of(path: &Path) -> String {
    sqlite::identity(path).unwrap_or_default()
}

fn lock_path(path: &Path) -> PathBuf {
    let mut lock = path.as_os_str().to_owned();
    lock.push("-genesis.lock");
    lock.into()
}

pub(super) fn words(pids: &[u32]) -> String {
    match pids {
        [] => "no other process".to_owned(),
        pids => {
            format!("processes {}", pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

fn free_share(pages: &Pages) -> f64 {
    if pages.count == 0 { 0.0 } else { pages.free as f64 / pages.count as f64 }
}

/// Whether rewriting all of it gains enough.
pub(super) fn worth_it(pages: &Pages) -> bool {
    free_share(pages) >= FREE_PAGES
}

pub(super) fn integrity(damage: &[String]) -> Item {
    match damage {
        [] => Item::new("integrity", Truth::Pass, "ok", "ok", ""),
        damage => Item::new("integrity", Truth::Fail, "damaged", "ok", damage.join("; ")),
    }
}

fn plan_of(instance: &Instance, path: &Path, pages: &Pages, wish: &Wish) -> Plan {
    let target = path.display().to_string();
    let step = |action: &str, reason: &str| PlanStep::new(action, &target, reason);
    let mut steps = vec![
        step("quick-check", "nothing is changed where the file is damaged"),
        step("checkpoint", "the log of changes goes into the file"),
        step("backup", "a copy, verified, before anything is rewritten"),
    ];
    if worth_it(pages) {
        let reason = format!("{:.0} % of its pages hold nothing", free_share(pages) * 100.0);
        steps.push(PlanStep::new("vacuum", &target, reason));
    }
    steps.push(step("analyze", "statistics for the planner"));
    steps.push(step("verify", "integrity, queries, backup"));
    Plan::new(OPTIMIZE, &[&instance.target.name, &wish.overrides.join(",")], steps)
}
