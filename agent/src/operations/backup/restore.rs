//! Restoring: beside where it shall stand, read back there, and only then put in its place. Never over anything.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use genesis_storage::{BackupRecord, BackupState};
use serde_json::json;

use super::act::{self, Hands, Proof, blocking};
use super::make::clear;
use super::plan::{self, Kind, Source, Standing, Tool};
use super::{Backup, RESTORE, scratch, tools};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::outside::{failpoint, files, trees};
use crate::plan::{Plan, PlanStep, demand_reason};
use crate::runs::{Context, Report, Request, SecondCaller, Started};

impl Backup {
    fn restorable(&self, backup: &str, into: &str) -> Result<(BackupRecord, Source, PathBuf)> {
        let records = self.records(None)?;
        let record = plan::find(&records, backup)?;
        plan::readable(record)?;
        // Two ways to write a path are one place.
        let into: PathBuf = Path::new(into).components().collect();
        let source = self.source_of(record);
        plan::target(&record.engine, &into, standing(&into), &self.occupied(&into))?;
        Ok((record.clone(), source, into))
    }

    /// What runs, and what restoring must stay away from.
    fn occupied(&self, into: &Path) -> Vec<(PathBuf, String)> {
        let config = self.config.load();
        let mut live = vec![
            (self.home.clone(), "the agent's own state".to_owned()),
            (config.folder.clone(), "where the backups are".to_owned()),
            (self.hands().scratch(), "where scratch instances are".to_owned()),
        ];
        for source in &config.sources {
            if let Kind::Sqlite(path) = &source.kind {
                for end in ["", "-wal", "-shm", "-journal"] {
                    let path = PathBuf::from(format!("{}{end}", path.display()));
                    live.push((path, format!("database {}", source.name)));
                }
            }
        }
        // A server's folder is told by what is in it, wherever it is and whoever runs it.
        let above = into.ancestors().skip(1).find(|folder| folder.join("PG_VERSION").exists());
        live.extend(above.map(|it| (it.to_owned(), "a folder of PostgreSQL".to_owned())));
        live
    }

    /// What restoring a backup would do.
    ///
    /// # Errors
    /// `BACKUP_NOT_FOUND`, `RESTORE_TARGET_INVALID`.
    pub fn plan_restore(&self, backup: &str, into: &str) -> Result<Plan> {
        let (record, _, into) = self.restorable(backup, into)?;
        let what =
            format!("backup {} of {}, {}", record.id, record.source, plan::size(record.bytes));
        let steps = vec![
            PlanStep::new("copy", record.id, what),
            PlanStep::new("verify", "the copy", "before it stands where it is wanted"),
            PlanStep::new("put", into.display().to_string(), "where nothing is yet"),
        ];
        Ok(Plan::new(RESTORE, &[], steps))
    }

    /// Starts restoring a backup.
    ///
    /// # Errors
    /// Those of [`Backup::plan_restore`], `REASON_MISSING`, `PLAN_CHANGED`, and those of starting a run.
    pub async fn restore(
        self: &Arc<Self>,
        backup: &str,
        into: &str,
        plan_hash: &str,
        (actor, reason): (String, String),
    ) -> Result<Started> {
        demand_reason(&reason, "a backup is restored with a reason")?;
        self.plan_restore(backup, into)?.accept(plan_hash)?;
        let (record, source, into) = self.restorable(backup, into)?;
        let staging = beside(&into, &record.id);
        let request = Request {
            kind: RESTORE,
            actor,
            reason,
            parameters: json!({ "backup": record.id, "into": into, "staging": staging }),
            key: format!("{RESTORE}/{}", into.display()),
            second: SecondCaller::Refuse,
            stance: Stance::GoOn,
        };
        let own = Arc::clone(self);
        let body = move |context: Context| async move {
            let own_copy = AtomicBool::new(false);
            let done = tokio::select! {
                done = own.restore_to(&source, &record, &into, (&staging, &own_copy), &context) => done,
                () = context.cancelled() => Err(Error::cancelled()),
            };
            // What another run has made there is its own.
            if done.is_err() && own_copy.load(Ordering::Acquire) {
                clear(&staging).await;
            }
            done
        };
        self.runs.start(request, body).await
    }

    async fn restore_to(
        &self,
        source: &Source,
        record: &BackupRecord,
        into: &Path,
        (staging, own_copy): (&Path, &AtomicBool),
        context: &Context,
    ) -> Result<Report> {
        let busy = self.busy(&record.source);
        let _reading = busy.read().await;
        let hands = self.hands();
        let above = into.parent().unwrap_or(into).to_owned();
        let free = files::free_bytes(&above)
            .map_err(|error| act::failed("the disk can't be looked at", error))?;
        plan::room(free, plan::wanted_room(Some(record.bytes), None), &above)?;
        let step = context.begin("restore", &staging.display().to_string()).await?;
        let made = staging.to_owned();
        let owner = hands.owner(source)?;
        let (below, at) = (above.clone(), into.to_owned());
        blocking(move || {
            files::create_folders(&below)?;
            match owner.and_then(|owner| trees::barred(&below, owner)) {
                None => Ok(()),
                Some(barred) => Err(std::io::Error::other(format!(
                    "whoever runs a server on {} can't pass through {}: chmod it, or take another place",
                    at.display(),
                    barred.display()
                ))),
            }
        })
        .await?
        .map_err(|error| act::failed("it can't be put there", error))?;
        blocking(move || {
            files::create_folders(&above)?;
            std::fs::DirBuilder::new().mode(0o700).create(&made)
        })
        .await?
        .map_err(|error| act::failed("the copy can't be begun", error))?;
        own_copy.store(true, Ordering::Release);
        let contents = self.copy(&hands, source, record, staging).await?;
        failpoint::hit("backup.restore-copied");
        step.done(plan::size(record.bytes)).await?;
        let step = context.begin("verify", &contents.display().to_string()).await?;
        let how = match read_back(&hands, source, record, (staging, &contents)).await {
            Proof::Sound(how) => how,
            proof @ (Proof::Wrong(_) | Proof::Unknown(_)) => {
                let (Proof::Wrong(why) | Proof::Unknown(why) | Proof::Sound(why)) = &proof;
                step.failed(why.clone()).await?;
                let message = format!("the copy of backup {} is not sound: {why}", record.id);
                if matches!(proof, Proof::Wrong(_)) {
                    self.found_broken(record, why, context).await?;
                }
                return Err(Error::unavailable("BACKUP_BROKEN", message));
            }
        };
        step.done(how.clone()).await?;
        let step = context.begin("put", &into.display().to_string()).await?;
        let (from, to, agent) = (contents, into.to_owned(), source.kind == Kind::Agent);
        let put: std::io::Result<()> = blocking(move || {
            if let Some(owner) = owner {
                trees::give(&from, owner)?;
            }
            trees::sync(&from)?;
            put(&from, &to, agent)
        })
        .await?;
        put.map_err(|error| act::failed(&format!("{} can't be put there", into.display()), error))?;
        failpoint::hit("backup.restored");
        step.done("").await?;
        clear(staging).await;
        let shown = into.display();
        Ok(Report::proven(format!(
            "backup {} of {} of {} stands at {shown}: {how}. {}",
            record.id,
            record.source,
            record.started_at,
            next(source, into)
        )))
    }

    /// Keeps that a backup was found to be wrong, so that nobody relies on it any more.
    async fn found_broken(
        &self,
        record: &BackupRecord,
        why: &str,
        context: &Context,
    ) -> Result<()> {
        let broken = BackupRecord {
            state: BackupState::Broken,
            level: None,
            detail: format!("while it was restored: {why}"),
            ..record.clone()
        };
        let (actor, reason) = (context.actor(), context.reason());
        self.put(&broken, "backup.verified", (&actor, &reason)).await
    }

    pub(super) async fn copy(
        &self,
        hands: &Hands,
        source: &Source,
        record: &BackupRecord,
        staging: &Path,
    ) -> Result<PathBuf> {
        if matches!(source.tool, Tool::PgBackRest | Tool::WalG) {
            let to = staging.join(source.kind.contents());
            hands.handed(source, staging, &to).await?;
            hands.tool(source, tools::restore(source, &record.place, &to)).await?;
            return Ok(to);
        }
        match hands.fetch(source, record, staging).await? {
            Ok(contents) => Ok(contents),
            Err(Proof::Wrong(why) | Proof::Unknown(why) | Proof::Sound(why)) => {
                let message = format!("backup {} can't be copied: {why}", record.id);
                Err(Error::unavailable("BACKUP_BROKEN", message))
            }
        }
    }
}

/// Reads back what was restored, which stands in `staging`.
pub(super) async fn read_back(
    hands: &Hands,
    source: &Source,
    record: &BackupRecord,
    (staging, at): (&Path, &Path),
) -> Proof {
    match (&source.kind, source.tool) {
        (Kind::Agent | Kind::Sqlite(_), tool) => {
            // It says itself what it must be, where it is kept or where the tool has put it.
            let raw = staging.join("restic");
            let place = match tool {
                Tool::Restic => scratch::described(&raw).unwrap_or(raw),
                _ => PathBuf::from(&record.place),
            };
            let described = match act::description(&place) {
                Ok(described) if described.id == record.id => described,
                Ok(described) => return Proof::Wrong(format!("it calls itself {}", described.id)),
                Err(proof) => return proof,
            };
            if let Err(proof) = act::same_hash(at, &described.sha256).await {
                return proof;
            }
            match source.kind {
                Kind::Agent => act::own_state(at.to_owned()).await,
                _ => act::integrity(at).await,
            }
        }
        (Kind::Postgres(_), Tool::Builtin | Tool::Restic) => {
            hands.manifest(source, at, &record.system_identifier).await
        }
        (Kind::Postgres(_), Tool::PgBackRest | Tool::WalG) => {
            let Some(major) = act::major(at) else {
                return Proof::Wrong("there is no file PG_VERSION".to_owned());
            };
            match hands.system(source, at, major).await {
                Ok(Some(system)) if system == record.system_identifier => {
                    Proof::Sound(format!("it is of system {system}"))
                }
                Ok(system) => Proof::Wrong(format!("it is of system {system:?}")),
                Err(error) => Proof::Unknown(error.chain()),
            }
        }
    }
}

/// Puts what was copied in its place; nothing that has come there meanwhile is replaced but an empty folder.
fn put(from: &Path, into: &Path, agent: bool) -> std::io::Result<()> {
    if agent {
        files::create_folders(into)?;
        return files::rename_new(from, &into.join(plan::contents("redb")));
    }
    if standing(into) == Standing::EmptyFolder {
        // Fails where it is not empty any more.
        std::fs::remove_dir(into)?;
    }
    files::rename_new(from, into)
}

/// What stands at a path.
fn standing(path: &Path) -> Standing {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Standing::Nothing,
        Ok(facts) if facts.is_dir() && trees::names(path).is_ok_and(|names| names.is_empty()) => {
            Standing::EmptyFolder
        }
        _ => Standing::Something,
    }
}

/// Where a copy is made until it is proven: on the same disk, so that it can be put in its place at once.
fn beside(into: &Path, id: &str) -> PathBuf {
    let name = into.file_name().unwrap_or_default().to_string_lossy();
    into.with_file_name(format!(".{name}.genesis-restore-{id}"))
}

/// Whether a path is one that [`beside`] makes.
pub(super) fn is_staging(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.is_absolute() && name.starts_with('.') && name.contains(".genesis-restore-")
}

fn next(source: &Source, into: &Path) -> String {
    let shown = into.display();
    match &source.kind {
        Kind::Agent => format!("Next: start an agent on it with --state-dir {shown}"),
        Kind::Sqlite(live) => format!(
            "Next: stop what uses {}, and put {shown} in its place, without the -wal and -shm of the old file",
            live.display()
        ),
        Kind::Postgres(_) => format!(
            "Next: look through postgresql.auto.conf and archive_command in it, then start a server with -D {shown}"
        ),
    }
}
