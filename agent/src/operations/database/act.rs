//! Carries the steps of a care out. Each is read back: that a statement gave no error proves nothing.

use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{LedgerRecord, VerifiedBackup};

use super::care::{Care, Done};
use super::config::BenchQuery;
use super::measure::{Measuring, compared, measure};
use super::plan::{self, Reindex, qualified};
use super::record::{Item, Measured, StepOutcome, Truth, size};
use super::watch::Watching;
use super::{ledger, preflight, verify};
use crate::error::{Error, Result};
use crate::outside::database::facts::{self, Index, Standing};
use crate::outside::database::postgres::Session;
use crate::outside::database::{Failure, upkeep};
use crate::outside::failpoint;

/// So often it is looked for what a rebuild builds: as long as nothing is seen, and once it is.
const LOOK_PACE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];
/// So often it is looked whether somebody is still in the way of a rebuild.
const WAY_PACE: Duration = Duration::from_millis(200);

/// The share of an index that is bloat, as pgstattuple measures it: what its leaves lack to their fill factor of 90 %,
/// and its deleted pages.
///
/// # Errors
/// What the server says.
pub async fn measured_bloat(session: &mut Session, schema: &str, oid: u32) -> Result<f64, Failure> {
    let schema = crate::outside::database::postgres::quote(schema);
    let sql = format!(
        "SELECT json_build_array(avg_leaf_density, (deleted_pages + empty_pages)::float8 / greatest(1, leaf_pages + deleted_pages + empty_pages))::text \
         FROM {schema}.pgstatindex({oid}::regclass)"
    );
    let (density, deleted): (f64, f64) = session.ask(&sql).await?;
    // An empty index has no density: NaN, which is not bloated.
    let kept = (density / 90.0).clamp(0.0, 1.0) * (1.0 - deleted.clamp(0.0, 1.0));
    Ok(if kept.is_nan() { 0.0 } else { 1.0 - kept })
}

impl Care {
    /// Drops what rebuilds left behind and the ledger proves ours.
    pub(super) async fn clear_leftovers(&self, look: &mut Session) -> Result<()> {
        for entry in self.databases.ledger(&self.instance.target.name)? {
            if entry.system_identifier != self.system {
                continue;
            }
            let target = qualified(&entry.index.0, &entry.index.1);
            self.step("clear-leftovers", &target, async || self.clear(look, &entry).await).await?;
        }
        Ok(())
    }

    /// Tells of invalid indexes that are not ours.
    pub(super) async fn note_foreign(&self, look: &mut Session) -> Result<()> {
        let standing = facts::standing(look).await.map_err(|it| self.failed(it))?;
        let mut report = self.report();
        for index in standing.invalid.iter().filter(|index| !index.building) {
            let name = qualified(&index.schema, &index.name);
            let message = "an invalid index that is not the agent's is there; `genesisctl db indexes` has the SQL";
            report.notes.push(super::record::Found::new("INDEX_INVALID", name, message));
        }
        Ok(())
    }

    /// Clears one entry of the ledger, and takes it out once nothing of it is left.
    async fn clear(&self, session: &mut Session, entry: &LedgerRecord) -> Done {
        match upkeep::end_own(session, entry.session).await {
            Ok(true) => {}
            Ok(false) => {
                return Done::new(StepOutcome::Failed, "the session that builds it has not ended");
            }
            Err(failure) => return Done::new(StepOutcome::Failed, failure.to_string()),
        }
        self.cleared(session, entry).await
    }

    /// See [`ledger::clear`]; settles the entry where nothing is left.
    async fn cleared(&self, session: &mut Session, entry: &LedgerRecord) -> Done {
        let cleared = match ledger::clear(session, entry).await {
            Ok(cleared) => cleared,
            Err(failure) => return Done::new(StepOutcome::Failed, failure.to_string()),
        };
        for name in &cleared.unproven {
            let message = "looks like the remains of a rebuild, and is not proven to be the agent's: it is left alone";
            self.find("LEFTOVER_UNPROVEN", name, message.to_owned());
        }
        if let Some((name, why)) = cleared.kept.first() {
            let message = format!("is left of a rebuild and could not be dropped yet: {why}");
            self.find("LEFTOVER_KEPT", name, message);
            return Done::new(StepOutcome::Failed, format!("{name}: {why}"));
        }
        if let Err(error) = self.databases.settle(entry).await {
            return Done::new(StepOutcome::Failed, error.chain());
        }
        let detail = match cleared.dropped.as_slice() {
            [] => "nothing is left of it".to_owned(),
            dropped => format!("dropped {}", dropped.join(", ")),
        };
        Done::new(StepOutcome::Done, detail)
    }

    /// In words why a statement failed: what we know of it first.
    pub(super) fn why(&self, failure: &Failure, watching: &Watching) -> String {
        match watching.cut() {
            Some(cut) if failure.cancelled() => cut,
            _ if failure.cancelled() && self.left().is_zero() => "its window is over".to_owned(),
            _ if failure.lock_timeout() => {
                format!("the lock was not to be had within {:?}", self.instance.lock_timeout)
            }
            _ => failure.to_string(),
        }
    }

    /// Rebuilds an index while everybody goes on using it.
    pub(super) async fn reindex(&self, reindex: &Reindex) -> Result<()> {
        self.tell(0, 0, format!("REINDEX INDEX CONCURRENTLY {}", reindex.name));
        self.step("reindex", &reindex.name, async || self.rebuild(reindex).await).await?;
        Ok(())
    }

    /// Why an index is not rebuilt: its new copy has no room beside it, or nobody can tell.
    pub(super) async fn lacks_room(&self, reindex: &Reindex) -> Option<String> {
        if self.overrides.iter().any(|item| item == preflight::DISK) {
            return None;
        }
        let index = &reindex.index;
        let disk = match &index.tablespace {
            None => self.databases.disk(&self.instance, &self.standing).await,
            Some(_) if !self.standing.local => Err("its tablespace is on another host".to_owned()),
            Some(place) => self.databases.disk_of(place.into()).await,
        };
        let item = preflight::disk(&self.instance, &disk, index.bytes.unsigned_abs());
        (!item.clear())
            .then(|| format!("{} free (must be {}): {}", item.value, item.limit, item.evidence))
    }

    async fn rebuild(&self, reindex: &Reindex) -> Done {
        match self.try_rebuild(reindex).await {
            Ok(done) => done,
            Err(why) => {
                self.find("REINDEX_FAILED", &reindex.name, why.clone());
                Done::new(StepOutcome::Failed, why)
            }
        }
    }

    async fn try_rebuild(&self, reindex: &Reindex) -> Result<Done, String> {
        let text = |failure: Failure| failure.to_string();
        let (index, name) = (&reindex.index, &reindex.name);
        let mut session = self.open("reindex").await.map_err(|error| error.chain())?;
        let mut look = self.open("reindex-look").await.map_err(|error| error.chain())?;
        self.wait_for_the_way(&mut look, index.table_oid).await?;
        let own = facts::own(&mut session).await.map_err(text)?;
        let there = upkeep::of_table(&mut look, index.table_oid).await.map_err(text)?;
        let mut entry = LedgerRecord {
            key: format!("{}/index/{}", self.instance.target.name, index.oid),
            database: self.instance.target.name.clone(),
            system_identifier: self.system.clone(),
            index: (index.schema.clone(), index.name.clone()),
            table: (index.table_schema.clone(), index.table.clone()),
            index_oid: index.oid,
            table_oid: index.table_oid,
            foreign: there.iter().filter(|it| !it.valid).map(|it| it.oid).collect(),
            built: Vec::new(),
            session: own,
            run_id: self.context.id(),
            at: self.now(),
        };
        self.databases.announce(&entry).await.map_err(|error| error.chain())?;
        failpoint::hit("database.reindex-announced");
        session.limit(self.limits()).await.map_err(text)?;
        let watching = self.watched.watch(own.0, name);
        let sql = format!("REINDEX INDEX CONCURRENTLY {name}");
        let ran = {
            let mut running = std::pin::pin!(session.run(&sql));
            loop {
                tokio::select! {
                    ran = &mut running => break ran,
                    () = self.databases.outside.clock.sleep(LOOK_PACE[usize::from(!entry.built.is_empty())]) => {
                        self.note_what_is_built(&mut look, &mut entry).await?;
                    }
                }
            }
        };
        failpoint::hit("database.reindex-ended");
        let cut = ran.as_ref().err().map(|failure| self.why(failure, &watching));
        drop(watching);
        // What was cut short is cleared up also when the window is over: that is short, and leaving it is not.
        let clearing = crate::outside::database::postgres::Limits {
            lock: self.instance.lock_timeout,
            statement: self.left().max(Duration::from_secs(10)),
        };
        look.limit(clearing).await.map_err(text)?;
        let cleared = self.cleared(&mut look, &entry).await;
        let after = upkeep::of_table(&mut look, index.table_oid).await.map_err(text)?;
        let now = after.iter().find(|it| (&it.schema, &it.name) == (&index.schema, &index.name));
        session.close().await;
        look.close().await;
        let bytes = (index.bytes.unsigned_abs(), now.map_or(0, |it| it.bytes.unsigned_abs()));
        let done = |outcome, detail| Ok(Done { outcome, bytes, detail });
        match (cut, now) {
            (Some(why), _) if self.left().is_zero() => done(StepOutcome::Deferred, why),
            (Some(why), _) => Err(why),
            (None, None) => Err("it is gone".to_owned()),
            (None, Some(it)) if !it.valid || it.oid == index.oid => {
                Err("the server gave no error, and did not rebuild it".to_owned())
            }
            (None, Some(_)) if cleared.outcome != StepOutcome::Done => Err(cleared.detail),
            (None, Some(_)) => {
                let source = if reindex.exact { "measured" } else { "estimated" };
                let detail = format!(
                    "{:.0} % bloat ({source}): {} became {}",
                    reindex.bloat * 100.0,
                    size(bytes.0),
                    size(bytes.1)
                );
                done(StepOutcome::Done, detail)
            }
        }
    }

    /// A rebuild waits for whoever has written to the table or has an old snapshot, with its copy already there, and
    /// leaves that copy when it gives up. So they are waited for before it begins.
    async fn wait_for_the_way(&self, look: &mut Session, table: u32) -> Result<(), String> {
        let since = self.monotonic();
        let grace = (self.instance.lock_timeout / 4).min(Duration::from_millis(500));
        loop {
            let way = upkeep::in_the_way(look, table, grace).await.map_err(|it| it.to_string())?;
            if way.is_empty() {
                return Ok(());
            }
            let waited = self.monotonic().saturating_sub(since);
            if waited >= self.instance.lock_timeout || self.context.safe_point().is_err() {
                let named = preflight::named(&way);
                let limit = self.instance.lock_timeout;
                return Err(format!("after {limit:?} it would still have to wait for {named}"));
            }
            self.databases.outside.clock.sleep(WAY_PACE).await;
        }
    }

    /// Keeps in the ledger what our session builds: so that it can be dropped, whoever finds it.
    async fn note_what_is_built(
        &self,
        look: &mut Session,
        entry: &mut LedgerRecord,
    ) -> Result<(), String> {
        // A look that fails is made again a moment later.
        let built = upkeep::built_by(look, entry.table_oid, entry.session.0).await;
        let known = |oid: &u32| entry.foreign.contains(oid) || entry.built.contains(oid);
        let new: Vec<u32> =
            built.unwrap_or_default().into_iter().filter(|oid| !known(oid)).collect();
        if new.is_empty() {
            return Ok(());
        }
        // What was swapped for the new one is invalid as well by then; it is told by its own id.
        entry.built.extend(new.into_iter().filter(|oid| *oid != entry.index_oid));
        self.databases.announce(entry).await.map_err(|error| error.chain())?;
        failpoint::hit("database.reindex-built");
        failpoint::pause("database.reindex-built");
        Ok(())
    }

    /// Renews statistics that VACUUM has not.
    pub(super) async fn analyze(&self, look: &mut Session, tables: Vec<String>) -> Result<()> {
        let mut left = tables.into_iter();
        while let Some(table) = left.next() {
            if let Some(why) = self.may_go_on().await? {
                // Each would wait as long for the same.
                let rest = std::iter::once(table).chain(left);
                rest.for_each(|table| self.defer("analyze", &table, &why));
                break;
            }
            self.step("analyze", &table, async || {
                let limited = look.limit(self.limits()).await;
                let ran = match limited {
                    Ok(()) => look.run(&format!("ANALYZE {table}")).await,
                    Err(failure) => Err(failure),
                };
                match ran {
                    Ok(()) => Done::new(StepOutcome::Done, "analysed"),
                    Err(failure) => Done::new(StepOutcome::Failed, failure.to_string()),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Reads a tenth of the B-trees for what is out of order, another tenth each week.
    pub(super) async fn amcheck(&self, look: &mut Session) -> Result<()> {
        let Some(schema) = facts::extension(look, "amcheck").await.map_err(|it| self.failed(it))?
        else {
            return Ok(());
        };
        let schema = crate::outside::database::postgres::quote(&schema);
        let indexes = facts::indexes(look).await.map_err(|it| self.failed(it))?;
        let mut held = None;
        for index in plan::checked_now(&indexes, self.now()) {
            let name = qualified(&index.schema, &index.name);
            if held.is_none() {
                held = self.may_go_on().await?;
            }
            // Each would wait as long for the same.
            if let Some(why) = &held {
                self.defer("amcheck", &name, why);
                continue;
            }
            self.step("amcheck", &name, async || {
                let limited = look.limit(self.limits()).await;
                let sql = format!("SELECT {schema}.bt_index_check({}::regclass)", index.oid);
                let ran = match limited {
                    Ok(()) => look.run(&sql).await,
                    Err(failure) => Err(failure),
                };
                match ran {
                    Ok(()) => Done::new(StepOutcome::Done, "in order"),
                    // "index corrupted", "data corrupted".
                    Err(failure) if matches!(failure.code(), "XX001" | "XX002") => {
                        self.find("INDEX_CORRUPT", &name, failure.to_string());
                        Done::new(StepOutcome::Failed, failure.to_string())
                    }
                    Err(failure) => Done::new(StepOutcome::Failed, failure.to_string()),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Measures the benchmark queries.
    pub(super) async fn measure_queries(
        &self,
        look: &mut Session,
        when: &str,
    ) -> Result<Vec<Result<Measured, String>>> {
        let mut measured = Vec::new();
        for query in &self.instance.bench {
            self.context.safe_point()?;
            self.tell(0, 0, format!("measuring {} {when}", query.name));
            measured.push(measure(&self.databases, look, query).await);
        }
        Ok(measured)
    }

    /// Proves what came of it.
    pub(super) async fn verify(
        &self,
        look: &mut Session,
        before: &Standing,
        indexes_before: &[Index],
        measured: Vec<Result<Measured, String>>,
    ) -> Result<()> {
        let limits = crate::outside::database::postgres::Limits::LOOK;
        look.limit(limits).await.map_err(|it| self.failed(it))?;
        let after = self.measure_queries(look, "after").await?;
        let measured = measured.into_iter().map(Result::ok).collect();
        let (clock, by) = (&self.databases.outside.clock, (self, &mut *look));
        let (bench, within) = (&self.instance.bench, verify::AGAIN.min(self.left()));
        let benchmarks = compared(clock, bench, measured, after, within, by).await?;
        let standing = facts::standing(look).await.map_err(|it| self.failed(it))?;
        let indexes = facts::indexes(look).await.map_err(|it| self.failed(it))?;
        let items = vec![
            verify::queries(&benchmarks),
            verify::index_usage(indexes_before, &indexes),
            verify::invalid_indexes(before, &standing),
            verify::pool(&standing),
            self.backup(&standing).await?,
        ];
        let mut report = self.report();
        report.findings.extend(verify::findings(&items, &benchmarks));
        report.notes.extend(verify::notes(&benchmarks));
        (report.verification, report.benchmarks) = (items, benchmarks);
        Ok(())
    }

    /// Whether the backup still verifies.
    async fn backup(&self, standing: &Standing) -> Result<Item> {
        let limit = "verifies";
        let verified = self.databases.verified(&self.instance, Some(&standing.system))?;
        let record = match verified {
            VerifiedBackup::Yes(record) => record,
            VerifiedBackup::No(why) => {
                return Ok(Item::new("backup-integrity", Truth::Fail, "none", limit, why));
            }
            VerifiedBackup::Unknown(why) => {
                return Ok(Item::new("backup-integrity", Truth::Unknown, "", limit, why));
            }
        };
        let verified = tokio::select! {
            verified = self.databases.neighbours.reverify(&record.id) => verified,
            () = self.context.cancelled() => return Err(Error::cancelled()),
        };
        Ok(match verified {
            Ok(detail) => Item::new("backup-integrity", Truth::Pass, record.id, limit, detail),
            Err(why) => Item::new("backup-integrity", Truth::Fail, record.id, limit, why),
        })
    }
}

#[async_trait]
impl Measuring for (&Care, &mut Session) {
    async fn again(&mut self, query: &BenchQuery) -> Result<Result<Measured, String>> {
        let (care, look) = self;
        care.context.safe_point()?;
        care.tell(0, 0, format!("measuring {} again", query.name));
        Ok(measure(&care.databases, look, query).await)
    }
}
