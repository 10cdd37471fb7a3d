//! Carries the care of a file of SQLite out. Each step is read back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::config::{BenchQuery, Instance};
use super::measure::{Measuring, compared};
use super::record::{Found, Measured, Report, StepOutcome, StepReport, micros, size};
use super::sqlite::{integrity, system_of, words, worth_it};
use super::{Databases, verify};
use crate::error::{Error, Result};
use crate::outside::database::Failure;
use crate::outside::database::sqlite::{Access, File, is_busy, is_stopped};
use crate::runs::{Context, Progress};

/// How often it is asked whether a long statement is to go on.
const PACE: Duration = Duration::from_millis(100);

/// One care of a file.
pub(super) struct Care {
    pub(super) databases: Arc<Databases>,
    pub(super) instance: Instance,
    pub(super) path: PathBuf,
    pub(super) context: Context,
    pub(super) ends: Duration,
    pub(super) report: Report,
}

impl Care {
    /// Does all of it. What could not be done is in the report.
    pub(super) async fn run(&mut self, file: &mut File) -> Result<()> {
        let before = self.measure_queries(file).await;
        if !self.is_sound(file).await? {
            return Ok(());
        }
        self.checkpoint(file).await?;
        if self.back_up().await? {
            self.vacuum(file).await?;
            self.step(
                "analyze",
                async |_, file| {
                    file.run("ANALYZE; PRAGMA optimize=0x10002").await?;
                    Ok("analysed".to_owned())
                },
                file,
            )
            .await?;
        }
        // What was cut off ends its session; that the file is sound is proven all the same.
        let opened = File::open(&self.path, Access::Write, self.instance.lock_timeout).await;
        let mut fresh = opened.map_err(|it| self.about(it))?;
        let damage = fresh.damage(true).await.map_err(|it| self.about(it))?;
        let after = self.measure_queries(&mut fresh).await;
        let before = before.into_iter().map(Result::ok).collect();
        let (clock, bench) = (&self.databases.outside.clock, &self.instance.bench);
        let within = verify::AGAIN.min(self.ends.saturating_sub(clock.monotonic()));
        let by = (&*self, &mut fresh);
        let benchmarks = compared(clock, bench, before, after, within, by).await?;
        fresh.close().await;
        let items = vec![
            verify::queries(&benchmarks),
            integrity(&damage),
            self.databases.backup_item(&self.instance, &system_of(&self.path))?,
        ];
        self.report.findings.extend(verify::findings(&items, &benchmarks));
        self.report.notes.extend(verify::notes(&benchmarks));
        if !damage.is_empty() {
            self.report.findings.push(corrupt(&self.path, &damage));
        }
        (self.report.verification, self.report.benchmarks) = (items, benchmarks);
        Ok(())
    }

    fn about(&self, failure: Failure) -> Error {
        failure.about(&self.instance.target.name)
    }

    async fn measure_queries(&self, file: &mut File) -> Vec<Result<Measured, String>> {
        let mut measured = Vec::new();
        for query in &self.instance.bench {
            measured.push(measure(&self.databases, file, query).await);
        }
        measured
    }

    /// Whether the file is sound. If it is not, nothing may be changed: what is left of it may be all there is.
    async fn is_sound(&mut self, file: &mut File) -> Result<bool> {
        let mut damage = None;
        let found = &mut damage;
        self.step(
            "quick-check",
            async |_, file| match found.insert(file.damage(false).await?).as_slice() {
                [] => Ok("sound".to_owned()),
                damage => Err(Failure::Odd(damage.join("; "))),
            },
            file,
        )
        .await?;
        match damage {
            // One that was cut off has proven nothing.
            None => Ok(false),
            Some(damage) if damage.is_empty() => Ok(true),
            Some(damage) => {
                self.report.findings.push(corrupt(&self.path, &damage));
                Ok(false)
            }
        }
    }

    async fn checkpoint(&mut self, file: &mut File) -> Result<()> {
        let mut pinned = false;
        let found = &mut pinned;
        self.step(
            "checkpoint",
            async |_, file| {
                *found = file.checkpoint().await?;
                let said = if *found {
                    "a reader keeps the log of changes"
                } else {
                    "the log of changes is empty"
                };
                Ok(said.to_owned())
            },
            file,
        )
        .await?;
        if pinned {
            let who = match self.databases.openers(&self.path).await {
                Ok((pids, _)) => words(&pids),
                Err(why) => why,
            };
            let message = format!(
                "the log of changes could not be emptied, as somebody still reads from it: {who}"
            );
            let subject = self.path.display().to_string();
            self.report.findings.push(Found::new("WAL_PINNED", subject, message));
        }
        Ok(())
    }

    /// Copies the file and verifies the copy; whether there is one.
    async fn back_up(&mut self) -> Result<bool> {
        self.context.safe_point()?;
        let name = self.instance.target.name.clone();
        let databases = Arc::clone(&self.databases);
        let journal = self.context.begin("backup", &name).await?;
        let since = databases.outside.clock.monotonic();
        let made = databases.neighbours.back_up(&name, &self.context.id()).await;
        let (outcome, detail) = match made {
            Ok(detail) => (StepOutcome::Done, detail),
            Err(why) => (StepOutcome::Failed, why),
        };
        self.keep("backup", outcome, (0, 0), since, detail.clone());
        if outcome == StepOutcome::Done {
            journal.done(detail).await?;
            return Ok(true);
        }
        journal.failed(detail.clone()).await?;
        self.report.findings.push(Found::new(
            "BACKUP_FAILED",
            name,
            format!("so nothing was changed: {detail}"),
        ));
        Ok(false)
    }

    async fn vacuum(&mut self, file: &mut File) -> Result<()> {
        let pages = file.pages().await.map_err(|it| self.about(it))?;
        if !worth_it(&pages) {
            return Ok(());
        }
        self.step(
            "vacuum",
            async |bytes, file| {
                bytes.0 = pages.bytes();
                file.run("VACUUM").await?;
                let after = file.pages().await?;
                bytes.1 = after.bytes();
                match after.free {
                    0 => Ok(format!("{} became {}", size(bytes.0), size(bytes.1))),
                    free => Err(Failure::Odd(format!("{free} pages hold nothing still"))),
                }
            },
            file,
        )
        .await
    }

    /// Carries a step out, journalled before and after, and ended when the window is over or the run cancelled.
    async fn step<F>(&mut self, action: &str, act: F, file: &mut File) -> Result<()>
    where
        F: AsyncFnOnce(&mut (u64, u64), &mut File) -> Result<String, Failure>,
    {
        self.context.safe_point()?;
        let clock = Arc::clone(&self.databases.outside.clock);
        let target = self.path.display().to_string();
        if clock.monotonic() >= self.ends {
            self.keep(
                action,
                StepOutcome::Deferred,
                (0, 0),
                clock.monotonic(),
                "the window is over".to_owned(),
            );
            return Ok(());
        }
        let journal = self.context.begin(action, &target).await?;
        self.context.progress(Progress { message: action.to_owned(), ..Progress::default() });
        let (since, mut bytes, stop) = (clock.monotonic(), (0, 0), file.stop());
        let done = {
            let mut acting = std::pin::pin!(act(&mut bytes, file));
            loop {
                tokio::select! {
                    done = &mut acting => break done,
                    () = clock.sleep(PACE) => {
                        if clock.monotonic() >= self.ends || self.context.safe_point().is_err() {
                            stop.now();
                        }
                    }
                }
            }
        };
        let (outcome, detail) = match done {
            Ok(detail) => (StepOutcome::Done, detail),
            Err(failure) if is_stopped(&failure) => {
                (StepOutcome::Deferred, "its window is over, or it was cancelled".to_owned())
            }
            Err(failure) if is_busy(&failure) => {
                (StepOutcome::Failed, format!("somebody else holds the file: {failure}"))
            }
            Err(failure) => (StepOutcome::Failed, failure.to_string()),
        };
        self.keep(action, outcome, bytes, since, detail.clone());
        match outcome {
            StepOutcome::Done => journal.done(detail).await?,
            _ => journal.failed(detail).await?,
        }
        self.context.safe_point()
    }

    fn keep(
        &mut self,
        action: &str,
        outcome: StepOutcome,
        bytes: (u64, u64),
        since: Duration,
        detail: String,
    ) {
        let took = self.databases.outside.clock.monotonic().saturating_sub(since);
        self.report.step(StepReport {
            action: action.to_owned(),
            target: self.path.display().to_string(),
            outcome,
            bytes_before: bytes.0,
            bytes_after: bytes.1,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            detail,
        });
    }
}

fn corrupt(path: &Path, damage: &[String]) -> Found {
    let message = format!(
        "the file is damaged, and nothing was changed: {}; copy it aside, then restore a backup (genesisctl runbook show database)",
        damage.join("; ")
    );
    Found::new("SQLITE_CORRUPT", path.display().to_string(), message)
}

#[async_trait]
impl Measuring for (&Databases, &mut File) {
    async fn again(&mut self, query: &BenchQuery) -> Result<Result<Measured, String>> {
        Ok(measure(self.0, self.1, query).await)
    }
}

#[async_trait]
impl Measuring for (&Care, &mut File) {
    async fn again(&mut self, query: &BenchQuery) -> Result<Result<Measured, String>> {
        self.0.context.safe_point()?;
        Ok(measure(&self.0.databases, self.1, query).await)
    }
}

/// Runs a query 20 times, and reads its plan.
pub(super) async fn measure(
    databases: &Databases,
    file: &mut File,
    query: &BenchQuery,
) -> Result<Measured, String> {
    let text = |failure: Failure| failure.to_string();
    file.run("PRAGMA query_only = ON").await.map_err(text)?;
    let measuring = async {
        let plan = file.rows(&format!("EXPLAIN QUERY PLAN {}", query.sql)).await.map_err(text)?;
        let shape: Vec<String> = plan.into_iter().filter_map(|mut row| row.pop()).collect();
        let indexes = shape
            .iter()
            .filter_map(|line| Some(line.split_once("INDEX ")?.1.split(' ').next()?.to_owned()))
            .collect();
        let mut times = Vec::with_capacity(verify::TIMES);
        for _ in 0..verify::TIMES {
            let since = databases.outside.clock.monotonic();
            file.rows(&query.sql).await.map_err(text)?;
            times.push(micros(databases.outside.clock.monotonic().saturating_sub(since)));
        }
        let (p50_us, p95_us) = verify::percentiles(times);
        Ok(Measured { name: query.name.clone(), p50_us, p95_us, shape, indexes })
    };
    let measured = measuring.await;
    file.run("PRAGMA query_only = OFF").await.map_err(text)?;
    measured
}
