//! What the applications of this host are built of: their locks are held against advisories that were imported before,
//! so that a scan needs no network, and a scan without recent advisories says that it knows nothing.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use genesis_storage::{Advisories, Intent};
use jiff::Timestamp;

use crate::config::Follower;
use crate::error::{Error, Result};
use crate::events::Bell;
use crate::outside::Outside;
use crate::plan::{Plan, PlanStep};
use crate::runs::Runs;
use crate::state::State;

pub mod clocks;
pub mod config;
mod feed;
mod ignore;
pub mod job;
pub mod locked;
pub mod look;
pub mod metrics;
mod outlook;
pub mod plan;
pub mod rpc;
pub mod scan;
pub mod status;
mod stored;
#[cfg(test)]
mod tests;
mod told;
pub mod update;

pub use config::Config;
use feed::Feed;
#[doc(hidden)]
pub use feed::records_in;
pub use metrics::Metrics;
pub use scan::{ProjectScan, SourceView};
use stored::{recorded, write};

/// Memory for what was read of the file.
const CACHE: usize = 8 << 20;
/// So many uploads wait to be imported.
const UPLOADS: usize = 4;
/// And so long.
const WAITS: Duration = Duration::from_secs(3_600);

/// A file that was sent and is not in use yet.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Where it lies.
    pub path: PathBuf,
    /// What its sender calls it.
    pub file: String,
    /// Its date, in seconds since 1970.
    pub file_at: i64,
    /// When it was sent, on the monotonic clock.
    sent: Duration,
}

/// What became of runs that a crash cut off, by run.
type Settled = Mutex<HashMap<String, (genesis_storage::Verdict, String)>>;

/// The projects of this host, and what is known of what they are built of.
pub struct Dependencies {
    state: State,
    outside: Outside,
    runs: Runs,
    config: ArcSwap<Config>,
    /// The agent's own folder.
    home: PathBuf,
    metrics: Metrics,
    bell: Bell,
    /// What the last look saw.
    looked: ArcSwap<look::Looked>,
    /// Rung by whoever wants a look soon.
    wanted: tokio::sync::Notify,
    settled: Settled,
    /// How often a restart that is owed was tried, by update.
    tried: Mutex<HashMap<String, u32>>,
    /// What was cut off is settled by one at a time.
    settling: tokio::sync::Mutex<()>,
    /// Tools choose versions for one project at a time.
    choosing: tokio::sync::Mutex<()>,
    /// Why there is none, where the file can't be opened.
    file: Result<Arc<Advisories>, String>,
    /// Where uploads lie.
    folder: PathBuf,
    uploads: Mutex<BTreeMap<String, Upload>>,
    /// One import at a time.
    importing: tokio::sync::Mutex<()>,
    /// One feed at a time is read into memory.
    reading: Arc<tokio::sync::Mutex<()>>,
}

/// What people see of a scan.
#[derive(Debug)]
pub struct Scan {
    /// Each project.
    pub projects: Vec<ProjectScan>,
    /// What they were held against.
    pub sources: Vec<SourceView>,
    /// As of when.
    pub as_of: Timestamp,
}

impl Dependencies {
    /// Opens the file at `path`; a file that can't be opened keeps nobody from anything but a scan.
    pub fn open(
        (state, outside, runs): (State, Outside, Runs),
        config: Config,
        (path, home): (&Path, PathBuf),
        (metrics, bell): (Metrics, Bell),
    ) -> Arc<Self> {
        let file = Advisories::open(path, CACHE).map(Arc::new).map_err(|error| {
            tracing::error!(path = %path.display(), %error, "advisories can't be opened");
            format!("{} can't be opened: {error}", path.display())
        });
        let folder = path.with_extension("uploads");
        // What was sent to the agent before this one nobody imports any more.
        let _ = std::fs::remove_dir_all(&folder);
        Arc::new(Self {
            state,
            outside,
            runs,
            config: ArcSwap::from_pointee(config),
            home,
            metrics,
            bell,
            looked: ArcSwap::default(),
            wanted: tokio::sync::Notify::new(),
            settled: Mutex::default(),
            tried: Mutex::default(),
            settling: tokio::sync::Mutex::default(),
            choosing: tokio::sync::Mutex::default(),
            file,
            folder,
            uploads: Mutex::default(),
            importing: tokio::sync::Mutex::default(),
            reading: Arc::default(),
        })
    }

    fn uploads(&self) -> MutexGuard<'_, BTreeMap<String, Upload>> {
        // Each change is complete in itself, so a panic elsewhere does not spoil it.
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of advisories.
    ///
    /// # Errors
    /// `ADVISORIES_UNAVAILABLE`.
    pub fn file(&self) -> Result<Arc<Advisories>> {
        let file = self.file.as_ref().map(Arc::clone);
        file.map_err(|why| Error::unavailable("ADVISORIES_UNAVAILABLE", why.clone()))
    }

    /// As configured.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// The sources as they stand now.
    ///
    /// # Errors
    /// `ADVISORIES_UNAVAILABLE`.
    pub fn sources(&self) -> Result<Vec<SourceView>> {
        let (file, config, now) = (self.file()?, self.config(), self.outside.clock.now());
        file.read(|reading| scan::sources(reading, &config, now))
    }

    /// Scans a project; empty: all.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND`, `ADVISORIES_UNAVAILABLE`.
    pub async fn scan(&self, project: &str, as_of: Option<Timestamp>) -> Result<Scan> {
        let as_of = as_of.unwrap_or_else(|| self.outside.clock.now());
        let config = self.config();
        let named = match project.is_empty() {
            true => config.projects.clone(),
            false => vec![self.project(project, |_| true)?],
        };
        let projects: Vec<config::Project> =
            named.into_iter().map(|it| self.with_ignored(it)).collect::<Result<_>>()?;
        let file = self.file()?;
        aside(move || {
            file.read(|reading| {
                let sources = scan::sources(reading, &config, as_of)?;
                let each =
                    projects.iter().map(|project| scan::scan(reading, project, &sources, as_of));
                Ok(Scan { projects: each.collect::<Result<_>>()?, sources, as_of })
            })
        })
        .await
    }

    /// A place for an upload.
    ///
    /// # Errors
    /// `ADVISORIES_UNAVAILABLE`.
    pub async fn upload(&self) -> Result<(String, PathBuf)> {
        let at = crate::runs::system_time(self.outside.clock.now());
        let id = ulid::Ulid::from_datetime(at).to_string();
        let (folder, path) = (self.folder.clone(), self.folder.join(&id));
        aside(move || {
            crate::outside::files::create_folders(&folder).map_err(|error| no_room(&error))
        })
        .await?;
        Ok((id, path))
    }

    /// Takes an upload that is whole, and says what is in it.
    ///
    /// # Errors
    /// `ADVISORIES_INVALID`, `ADVISORIES_TOO_LARGE`: it is gone.
    pub async fn uploaded(
        &self,
        id: &str,
        path: PathBuf,
        (file, file_at): (String, i64),
    ) -> Result<Vec<SourceView>> {
        let upload = Upload { path, file, file_at, sent: self.outside.clock.monotonic() };
        let read = {
            let (upload, alone) = (upload.clone(), Arc::clone(&self.reading).lock_owned().await);
            aside(move || {
                let _alone = alone;
                read_upload(&upload)
            })
            .await
        };
        let feed = match read {
            Ok(mut feed) => {
                feed.tidy(self.outside.clock.now().as_second());
                feed
            }
            Err(error) => {
                discard(&upload);
                return Err(error);
            }
        };
        self.forget_old();
        let mut uploads = self.uploads();
        while uploads.len() >= UPLOADS {
            if let Some((_, oldest)) = uploads.pop_first() {
                discard(&oldest);
            }
        }
        uploads.insert(id.to_owned(), upload);
        Ok(self.view(feed.sources))
    }

    /// Uploads that waited for too long are gone.
    fn forget_old(&self) {
        let now = self.outside.clock.monotonic();
        self.uploads().retain(|_, it| {
            let waits = now.saturating_sub(it.sent) < WAITS;
            if !waits {
                discard(it);
            }
            waits
        });
    }

    fn view(&self, sources: BTreeMap<String, plan::Source>) -> Vec<SourceView> {
        let (config, now) = (self.config(), self.outside.clock.now());
        let ages = plan::Ages { file: config.max_age, newest: config.max_silence };
        let view = |(name, source): (String, plan::Source)| {
            let (state, why) = plan::judge(Some(&source), ages, now);
            SourceView { name, source: Some(source), state, why }
        };
        sources.into_iter().map(view).collect()
    }

    /// Reads an upload, or the configured files.
    async fn read(&self, id: &str) -> Result<Feed> {
        self.forget_old();
        let alone = Arc::clone(&self.reading).lock_owned().await;
        if !id.is_empty() {
            let upload = self.uploads().get(id).cloned().ok_or_else(|| {
                let message = "there is no such upload, or it waited for too long: send it again";
                Error::not_found("UPLOAD_NOT_FOUND", message)
            })?;
            return aside(move || {
                let _alone = alone;
                read_upload(&upload)
            })
            .await;
        }
        let config = self.config();
        let paths: Vec<PathBuf> =
            config.advisories.iter().chain(&config.kev).chain(&config.epss).cloned().collect();
        if paths.is_empty() {
            let message = "no file is configured in [dependencies]: name some there, or send one with `genesisctl deps import-advisories FILE`";
            return Err(Error::invalid("ADVISORIES_INVALID", message));
        }
        aside(move || {
            let _alone = alone;
            let mut feed = Feed::default();
            for path in &paths {
                feed.read(path, &path.display().to_string(), None)?;
            }
            Ok(feed)
        })
        .await
    }

    /// What an import would do; by itself the agent takes in only what is newer than what it has.
    async fn situation(&self, id: &str, newer: bool) -> Result<(Feed, Plan)> {
        let mut feed = self.read(id).await?;
        feed.tidy(self.outside.clock.now().as_second());
        let file = self.file()?;
        let before = aside(move || file.read(recorded)).await?;
        if newer {
            feed.leave_out(|name, it| before.get(name).is_some_and(|known| !is_newer(it, known)));
        }
        let mut steps = Vec::new();
        for (name, source) in &feed.sources {
            let known = before.get(name);
            plan::accept(name, known, source.records)
                .map_err(|(code, why)| Error::refused(code, why, Vec::new()))?;
            let was = known.map_or_else(
                || "there was none".to_owned(),
                |it| format!("in the place of {}", it.records),
            );
            let (records, file) = (source.records, &source.file);
            steps.push(PlanStep::new(
                "import-advisories",
                format!("{name} of {}", source.digest),
                format!("{records} records of {file}, {was}"),
            ));
        }
        let situation: Vec<&str> = before.values().map(|it| it.digest.as_str()).collect();
        let plan = Plan::new("dependencies.import", &situation, steps);
        Ok((feed, plan))
    }

    /// Plans an import.
    ///
    /// # Errors
    /// Those of [`Self::import`].
    pub async fn plan_import(&self, id: &str) -> Result<Plan> {
        self.situation(id, false).await.map(|(_, plan)| plan)
    }

    /// Puts an upload, or the configured files, in the place of what was there.
    ///
    /// # Errors
    /// `UPLOAD_NOT_FOUND`, `ADVISORIES_INVALID`, `ADVISORIES_FEWER`, `ADVISORIES_TOO_LARGE`, `ADVISORIES_UNAVAILABLE`,
    /// `PLAN_CHANGED`, `STORAGE_FAILED`: what was there stays.
    pub async fn import(&self, id: &str, hash: &str, by: (&str, &str)) -> Result<Vec<SourceView>> {
        let _alone = self.importing.lock().await;
        let (feed, plan) = self.situation(id, false).await?;
        plan.accept(hash)?;
        let sources = self.put(feed, &plan, by).await?;
        self.look_soon();
        if let Some(upload) = self.uploads().remove(id) {
            discard(&upload);
        }
        Ok(sources)
    }

    async fn put(
        &self,
        mut feed: Feed,
        plan: &Plan,
        (actor, reason): (&str, &str),
    ) -> Result<Vec<SourceView>> {
        let now = self.outside.clock.now();
        let told: Vec<String> =
            plan.steps.iter().map(|it| format!("{}: {}", it.target, it.reason)).collect();
        let intent = |outcome: &str| {
            Intent::new(now, actor, "dependencies.import")
                .target(feed.sources.keys().cloned().collect::<Vec<_>>().join(","))
                .reason(reason)
                .outcome(outcome)
                .detail(told.join("; "))
        };
        let (begun, done, failed) = (intent("intent"), intent("ok"), intent("failed"));
        self.state.note(begun).await?;
        crate::outside::failpoint::hit("dependencies.before-import");
        for source in feed.sources.values_mut() {
            source.imported_at = now.as_second();
        }
        let sources = feed.sources.clone();
        let file = self.file()?;
        if let Err(error) = aside(move || write(&file, &feed)).await {
            // The error itself is what counts.
            let _ = self.state.note(failed.detail(error.chain())).await;
            return Err(error);
        }
        crate::outside::failpoint::hit("dependencies.after-import");
        self.state.note(done).await?;
        Ok(self.view(sources))
    }

    /// Whether the configured files are others than those that were imported. Blocking work is done aside.
    ///
    /// # Errors
    /// Those of [`Self::import`].
    pub async fn import_if_changed(&self) -> Result<Option<Vec<SourceView>>> {
        let config = self.config();
        if config.advisories.is_empty() && config.kev.is_none() && config.epss.is_none() {
            return Ok(None);
        }
        let _alone = self.importing.lock().await;
        let (feed, plan) = self.situation("", true).await?;
        if feed.sources.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let by = ("system:dependencies", "the configured files changed");
        let sources = self.put(feed, &plan, by).await?;
        self.look_soon();
        Ok(Some(sources))
    }
}

/// Whether a source is another one than what is known, and none that was there before it.
fn is_newer(source: &plan::Source, known: &plan::Source) -> bool {
    let dates = |it: &plan::Source| (it.newest_at, it.file_at);
    let other = (&source.digest, source.file_at) != (&known.digest, known.file_at);
    other && dates(source) >= dates(known)
}

fn read_upload(upload: &Upload) -> Result<Feed> {
    let mut feed = Feed::default();
    feed.read(&upload.path, &upload.file, Some(upload.file_at))?;
    Ok(feed)
}

/// What can't be removed now is removed when the agent starts.
fn discard(upload: &Upload) {
    let _ = std::fs::remove_file(&upload.path);
}

fn no_room(error: &std::io::Error) -> Error {
    Error::unavailable("ADVISORIES_UNAVAILABLE", format!("an upload can't be kept: {error}"))
}

/// Work on the disk.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let message = "work on the disk broke off";
        Err(Error::internal("ADVISORIES_UNAVAILABLE", message).caused_by(error))
    })
}

#[async_trait]
impl Follower for Dependencies {
    async fn follow(&self, config: &crate::config::Config) {
        self.config.store(Arc::new(config.dependencies.clone()));
        self.look_soon();
    }
}
