//! The agent's own state and the databases as components: what they go back to are backups.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{
    BackupRecord, BackupState, RollbackOutcome, RollbackRecord, RunState, VerifiedBackup,
};
use jiff::Timestamp;

use super::Backup;
use super::act::{Proof, blocking, own_state};
use super::plan::{AGENT, Kind};
use super::turned;
use super::turnover::{self, POINT, Wanted};
use crate::error::{Error, Result};
use crate::outside::trees;
use crate::plan::PlanStep;
use crate::runs::rollback::{
    Applied, Brief, Care, Family, Health, MOST_POINTS, Order, Point, Rollback, Way,
};

/// The component that is the agent's own state.
pub const STATE: &str = "state";
/// The point that is what runs.
pub(super) const LIVE: &str = "live";

/// What runs: it has no content that a backup could be told to equal.
fn live(at: Timestamp, description: &str) -> Point {
    Point {
        id: LIVE.to_owned(),
        at,
        by: String::new(),
        description: description.to_owned(),
        digest: LIVE.to_owned(),
        stays: Vec::new(),
        restores: None,
        unfit: String::new(),
    }
}

fn point(record: &BackupRecord) -> Point {
    // One that was never verified is proven when it is copied.
    let unfit = match record.state {
        BackupState::Complete => String::new(),
        state => format!("it is {}: {}", format!("{state:?}").to_lowercase(), record.detail),
    };
    let level = record.level.map_or_else(|| "not verified".to_owned(), |it| it.to_string());
    Point {
        id: record.id.clone(),
        at: record.started_at,
        by: record.tool.clone(),
        description: format!("{}, {level}", super::plan::size(record.bytes)),
        digest: record.id.clone(),
        stays: Vec::new(),
        restores: None,
        unfit,
    }
}

impl Backup {
    /// The backups of a source that are there, newest first.
    fn points_of(&self, source: &str) -> Result<Vec<Point>> {
        let mut records = self.records(Some(source))?;
        records.retain(|it| matches!(it.state, BackupState::Complete | BackupState::Broken));
        records.sort_by_key(|record| std::cmp::Reverse(record.started_at));
        Ok(records.iter().take(MOST_POINTS).map(point).collect())
    }
}

/// The agent's own state.
pub struct StateComponent(pub Arc<Backup>);

impl StateComponent {
    fn home(&self) -> &Path {
        &self.0.home
    }

    /// The gap, as long as people are told of it.
    fn gap(&self) -> Result<Option<genesis_storage::GapRecord>> {
        let gap = self.0.state.read(|reading| Ok(reading.gaps().get()?))?;
        let now = self.0.outside.clock.now();
        Ok(gap.filter(|it| it.is_told(now)))
    }

    /// What waited to take the place does not any more, and the incidents that said so are over. What can't be written down is settled at the next start.
    async fn give_up(&self, order: &Order, why: &str) {
        if let Err(error) = self.note_given_up(order, why).await {
            tracing::warn!(error = error.chain(), why, "a rollback of the state has no end yet");
        }
    }

    async fn note_given_up(&self, order: &Order, why: &str) -> Result<()> {
        let waits = |it: &RollbackRecord| {
            let waits = match it.outcome {
                RollbackOutcome::Staged => true,
                // What was there could not be told; now it can.
                RollbackOutcome::Unknown => it.to != LIVE,
                _ => false,
            };
            it.component == STATE && waits && it.id != order.id
        };
        let waiting = self.0.state.read(|it| Ok(it.rollbacks().list(MOST_POINTS, waits)?))?;
        for record in waiting {
            let now = self.0.outside.clock.now();
            turned::give_up(&self.0.state, record, (&order.by, &order.reason), why, now).await?;
        }
        Ok(())
    }

    /// What is told where a copy could not be staged: as before only where that is sure.
    async fn not_staged(&self, order: &Order, error: Error) -> Result<Applied> {
        let home = self.home().to_owned();
        let own = match turnover::wanted(&home) {
            Ok(waits) => waits.is_some_and(|it| it.rollback == order.id),
            Err(_) => true,
        };
        if !own {
            return Err(error);
        }
        match blocking(move || turnover::withdraw(&home)).await? {
            Ok(()) => {
                self.give_up(order, "another was to take its place").await;
                Err(error)
            }
            Err(left) => Ok(Applied {
                unproven: format!(
                    "{}; {}: whether it takes the place at the next start can't be told",
                    error.chain(),
                    left.chain()
                ),
                ..Applied::default()
            }),
        }
    }

    /// A proven copy of a point, beside the state.
    async fn copied(&self, to: &Point, order: &Order) -> Result<PathBuf> {
        let (copy, folder) = turnover::beside(self.home(), &order.id);
        let (first, second) = (copy.clone(), folder.clone());
        blocking(move || trees::remove(&first).and_then(|()| trees::remove(&second)))
            .await?
            .map_err(|error| super::act::failed("what was left can't be removed", error))?;
        self.0.proven_state(to, copy, folder).await
    }
}

impl Backup {
    /// A proven copy of a point of the agent's own state at `copy`, made by way of `folder`; neither is there yet. It is
    /// what a rollback and its drill have in common.
    pub(super) async fn proven_state(
        &self,
        to: &Point,
        copy: PathBuf,
        folder: PathBuf,
    ) -> Result<PathBuf> {
        if let Some(id) = to.id.strip_prefix(POINT) {
            let kept = turnover::replaced(&self.home);
            let kept = kept.map_err(|error| super::act::failed("it can't be found", error))?;
            let from = kept.into_iter().find(|it| it.0 == id).map(|it| it.2).ok_or_else(|| {
                let message = format!("the state {} is gone", to.id);
                Error::not_found("POINT_NOT_FOUND", message)
            })?;
            let at = copy.clone();
            blocking(move || std::fs::copy(from, at))
                .await?
                .map_err(|error| super::act::failed("it can't be copied", error))?;
        } else {
            let records = self.records(Some(AGENT))?;
            let record = super::plan::find(&records, &to.id)?;
            super::plan::readable(record)?;
            let source = self.source_of(record);
            let busy = self.busy(AGENT);
            let _reading = busy.read().await;
            let made = folder.clone();
            blocking(move || std::fs::create_dir(made))
                .await?
                .map_err(|error| super::act::failed("the copy can't be begun", error))?;
            let hands = self.hands();
            let contents = self.copy(&hands, &source, record, &folder).await?;
            let proof =
                super::restore::read_back(&hands, &source, record, (&folder, &contents)).await;
            sound(&to.id, proof)?;
            let (from, at) = (contents, copy.clone());
            blocking(move || {
                std::fs::rename(from, at)?;
                trees::remove(&folder)
            })
            .await?
            .map_err(|error| super::act::failed("it can't be put beside the state", error))?;
        }
        sound(&to.id, own_state(copy.clone()).await)?;
        Ok(copy)
    }
}

/// What is to be done about a state that waits, wherever that is told.
fn waits(to: &str) -> String {
    format!(
        "{to} takes effect at the next start: `systemctl restart genesis-agent`; `genesisctl rollback --component {STATE} \
         --to {LIVE} --confirm {STATE} --reason withdrawn` withdraws it"
    )
}

fn sound(id: &str, proof: Proof) -> Result<()> {
    match proof {
        Proof::Sound(_) => Ok(()),
        Proof::Wrong(why) | Proof::Unknown(why) => {
            let message = format!("the copy of {id} is not sound: {why}");
            Err(Error::unavailable("BACKUP_BROKEN", message))
        }
    }
}

#[async_trait]
impl Rollback for StateComponent {
    async fn points(&self) -> Result<Vec<Point>> {
        let mut points = self.0.points_of(AGENT)?;
        let kept = turnover::replaced(self.home());
        let kept = kept.map_err(|error| super::act::failed("states can't be found", error))?;
        points.extend(kept.into_iter().map(|(id, at, _)| Point {
            id: format!("{POINT}{id}"),
            digest: id,
            ..live(at, "the state before a rollback")
        }));
        points.sort_by_key(|point| std::cmp::Reverse(point.at));
        points.extend(self.current().await?);
        points.rotate_right(1);
        Ok(points)
    }

    async fn current(&self) -> Result<Option<Point>> {
        Ok(Some(live(self.0.outside.clock.now(), "the state that runs")))
    }

    async fn brief(&self) -> Result<Brief> {
        let points = self.points().await?.len();
        let staged = turnover::wanted(self.home())?;
        let (health, why) = match (self.gap()?, staged) {
            // What was lost is no less so while something waits.
            (Some(gap), Some(wanted)) => {
                (Health::Bad, format!("{}; {}", gap.detail, waits(&wanted.to)))
            }
            (None, Some(wanted)) => (Health::Unknown, waits(&wanted.to)),
            (Some(gap), None) => (Health::Bad, gap.detail),
            (None, None) => {
                (Health::Good, "each of its pages was verified when the agent started".to_owned())
            }
        };
        let current = self.current().await?;
        Ok(Brief { current, points, health, why, changed: None })
    }

    async fn diff(&self, _: Way<'_>) -> Result<String> {
        Ok(String::new())
    }

    async fn plan(&self, way: Way<'_>) -> Result<Vec<PlanStep>> {
        let file = self.0.state.store().path().display().to_string();
        if way.to.id == LIVE {
            let Some(waits) = turnover::wanted(self.home())? else { return Ok(Vec::new()) };
            return Ok(vec![PlanStep::new("withdraw", waits.to, "it was to take the place")]);
        }
        if !way.to.unfit.is_empty() {
            let message = format!("{} can't be used: {}", way.to.id, way.to.unfit);
            return Err(Error::refused("BACKUP_BROKEN", message, Vec::new()));
        }
        Ok(vec![
            PlanStep::new("copy", way.to.id.clone(), "beside the state, and proven there"),
            PlanStep::new(
                "carry-forward",
                file.clone(),
                "at the next start: the operation log, requests, alerts, certificates, the emergency",
            ),
            PlanStep::new("replace", file, "at the next start; the state before stays a point"),
        ])
    }

    async fn apply(&self, to: &Point, order: &Order) -> Result<Applied> {
        let home = self.home().to_owned();
        if to.id == LIVE {
            blocking(move || turnover::withdraw(&home)).await??;
            self.give_up(order, "it was withdrawn").await;
            let beside = "nothing waits to take its place any more".to_owned();
            return Ok(Applied { beside, withdrawn: true, ..Applied::default() });
        }
        let copied = self.copied(to, order).await;
        if copied.is_err()
            && let Ok(waits) = turnover::wanted(&home)
        {
            turnover::sweep(&home, waits.as_ref().map(|it| it.rollback.as_str()));
        }
        let copy = copied?;
        let wanted = Wanted {
            rollback: order.id.clone(),
            to: to.id.clone(),
            by: order.by.clone(),
            reason: order.reason.clone(),
        };
        if let Err(error) = blocking(move || turnover::stage(&home, &copy, &wanted)).await? {
            return self.not_staged(order, error).await;
        }
        self.give_up(order, "another takes its place").await;
        Ok(Applied {
            pending: waits(&to.id),
            beside: "a proven copy stands beside the state".to_owned(),
            ..Applied::default()
        })
    }

    async fn verify(&self, _: &Point) -> Result<String> {
        Err(Error::internal("ROLLBACK_NOT_PROVEN", "it is proven when the agent starts"))
    }

    fn care(&self) -> Care {
        Care { typed: STATE.to_owned(), admin: true, named: true, reason: true, into: false }
    }

    async fn in_force(&self, to: &Point, _: &Point) -> Result<bool> {
        // What runs is no point to go to but for what waits to take its place.
        Ok(to.id == LIVE && turnover::wanted(self.home())?.is_none())
    }

    fn undone_by(&self, record: &RollbackRecord) -> Option<String> {
        match record.outcome {
            RollbackOutcome::Staged => Some(LIVE.to_owned()),
            RollbackOutcome::Done if record.to != LIVE => Some(format!("{POINT}{}", record.id)),
            _ => None,
        }
    }
}

/// The databases that are backed up.
pub struct DatabaseFamily(pub Arc<Backup>);

#[async_trait]
impl Family for DatabaseFamily {
    fn family(&self) -> &'static str {
        "database"
    }

    async fn names(&self) -> Result<Vec<String>> {
        let config = self.0.config.load();
        let databases = config.sources.iter().filter(|it| it.kind != Kind::Agent);
        Ok(databases.map(|it| it.name.clone()).collect())
    }

    fn member(&self, name: &str) -> Arc<dyn Rollback> {
        Arc::new(DatabaseComponent { backup: Arc::clone(&self.0), name: name.to_owned() })
    }
}

struct DatabaseComponent {
    backup: Arc<Backup>,
    name: String,
}

#[async_trait]
impl Rollback for DatabaseComponent {
    async fn points(&self) -> Result<Vec<Point>> {
        self.backup.points_of(&self.name)
    }

    async fn current(&self) -> Result<Option<Point>> {
        Ok(Some(live(self.backup.outside.clock.now(), "the database that runs")))
    }

    async fn brief(&self) -> Result<Brief> {
        let source = self.backup.named(&self.name)?;
        let view = self.backup.view(&source)?;
        let counts = match view.verified {
            VerifiedBackup::Yes(record) => format!("backup {} counts", record.id),
            VerifiedBackup::No(why) => format!("it has no backup that counts: {why}"),
            VerifiedBackup::Unknown(why) => format!("whether a backup counts is unknown: {why}"),
        };
        Ok(Brief {
            current: self.current().await?,
            points: self.points().await?.len(),
            health: Health::Unknown,
            why: format!("no check looks at it; {counts}"),
            changed: None,
        })
    }

    async fn diff(&self, _: Way<'_>) -> Result<String> {
        Ok(String::new())
    }

    async fn plan(&self, way: Way<'_>) -> Result<Vec<PlanStep>> {
        if way.into.is_empty() {
            let message = format!(
                "a backup of {} is restored beside what runs: name an absolute path with --into",
                self.name
            );
            return Err(Error::invalid("RESTORE_TARGET_INVALID", message));
        }
        let mut steps = self.backup.plan_restore(&way.to.id, way.into)?.steps;
        steps.push(PlanStep::new(
            "by-hand",
            self.name.clone(),
            "the database that runs is not touched: the run says how what was restored takes its place",
        ));
        Ok(steps)
    }

    async fn apply(&self, to: &Point, order: &Order) -> Result<Applied> {
        let who = (order.by.clone(), order.reason.clone());
        let started = self.backup.restore(&to.id, &order.into, "", who).await?;
        order.run.send_replace(started.id.clone());
        let ended = self.backup.wait(&started.id).await?;
        match ended.state {
            RunState::Succeeded => Ok(Applied { beside: ended.summary, ..Applied::default() }),
            _ => {
                let message = format!("run {} {}: {}", ended.id, ended.error_code, ended.summary);
                Err(Error::internal("ROLLBACK_FAILED", message))
            }
        }
    }

    async fn verify(&self, _: &Point) -> Result<String> {
        Err(Error::internal("ROLLBACK_NOT_PROVEN", "the run itself reads back what it restored"))
    }

    fn care(&self) -> Care {
        Care { typed: self.name.clone(), admin: true, named: true, reason: true, into: true }
    }

    fn undone_by(&self, _: &RollbackRecord) -> Option<String> {
        // What runs was not touched.
        None
    }
}
