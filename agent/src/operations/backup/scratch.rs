//! Backups proven by use: restored into a scratch folder, started there out of everybody's reach, asked, and removed.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use genesis_storage::{BackupLevel, BackupRecord};
use rustix::process::{Pid, Signal, kill_process};

use super::act::{self, Hands, Proof, blocking};
use super::asked;
use super::plan::{self, Kind, Source, Tool};
use super::tools;
use crate::error::{Error, Result};
use crate::outside::database::{Postgres, programs};
use crate::outside::hooks::{self, Ran};
use crate::outside::{Clock, failpoint, files, trees};

/// So long a server may take to stop when it is asked to, and then when it is told to.
const STOP: [(Signal, Duration); 2] =
    [(Signal::INT, Duration::from_secs(10)), (Signal::QUIT, Duration::from_secs(10))];
/// What a socket's path may be long, less its name.
const SOCKET_LIMIT: usize = 107 - ".s.PGSQL.5432".len() - 1;

/// Settings that keep a scratch server to itself: no network, no archive, nobody followed, nothing of the original's
/// configuration read, and little memory. Nothing of it has to survive.
const ALONE: [&str; 22] = [
    "listen_addresses=",
    "port=5432",
    "unix_socket_permissions=0700",
    "unix_socket_group=",
    "ssl=off",
    "archive_mode=off",
    "archive_command=",
    "restore_command=",
    "primary_conninfo=",
    "primary_slot_name=",
    "shared_preload_libraries=",
    "session_preload_libraries=",
    "local_preload_libraries=",
    "max_wal_senders=0",
    "shared_buffers=16MB",
    // In its folder, and not in /dev/shm, where a crash would leave it.
    "dynamic_shared_memory_type=mmap",
    "huge_pages=off",
    "autovacuum=off",
    "fsync=off",
    "logging_collector=off",
    "log_destination=stderr",
    "external_pid_file=",
];

impl Hands {
    /// The folder of scratch instances.
    pub fn scratch(&self) -> PathBuf {
        if let Some(folder) = &self.config.scratch {
            return folder.clone();
        }
        if !rustix::process::geteuid().is_root() {
            // No database has a name like that.
            return self.config.folder.join(".scratch");
        }
        let mut name = self.home.clone().into_os_string();
        name.push("-scratch");
        name.into()
    }

    /// Who a scratch server runs as, and who owns what is restored of PostgreSQL; `None`: the agent's own user.
    ///
    /// # Errors
    /// `BACKUP_FAILED` where there is no such user.
    pub fn owner(&self, source: &Source) -> Result<Option<(u32, u32)>> {
        if !rustix::process::geteuid().is_root() || !matches!(source.kind, Kind::Postgres(_)) {
            return Ok(None);
        }
        let user = &self.config.run_as;
        match crate::outside::host::owner(user) {
            Some((0, _)) | None => {
                let message = format!(
                    "there is no user {user} in /etc/passwd, or it is root, as which PostgreSQL does not run; set [backup] run_as"
                );
                Err(Error::unavailable("BACKUP_FAILED", message))
            }
            owner => Ok(owner),
        }
    }

    /// Restores a backup into a scratch folder of this id, asks it, and removes the folder, whatever came of it. The
    /// folder's name is the ledger: whatever is in the folder of scratch instances when an agent starts is removed.
    pub async fn used(
        &self,
        clock: &dyn Clock,
        source: &Source,
        record: &BackupRecord,
        (id, level): (&str, BackupLevel),
    ) -> Proof {
        let folder = self.scratch().join(id);
        let proof = match self.try_used(clock, source, record, &folder, level).await {
            Ok(proof) => proof,
            Err(error) => Proof::Unknown(error.chain()),
        };
        let gone = folder.clone();
        match blocking(move || trees::remove(&gone)).await {
            Ok(Ok(())) => proof,
            Ok(Err(error)) => {
                tracing::error!(folder = %folder.display(), %error, "a scratch folder can't be removed");
                proof
            }
            Err(_) => proof,
        }
    }

    async fn try_used(
        &self,
        clock: &dyn Clock,
        source: &Source,
        record: &BackupRecord,
        folder: &Path,
        level: BackupLevel,
    ) -> Result<Proof> {
        let owner = self.owner(source)?;
        make_folder(&self.scratch(), folder, owner)?;
        failpoint::hit("backup.scratch-made");
        let room = plan::wanted_room(Some(record.bytes), None);
        let free = files::free_bytes(folder).map_err(|error| failed("no disk", error))?;
        plan::room(free, room, folder)?;
        let contents = match self.fetch(source, record, folder).await? {
            Ok(contents) => contents,
            Err(proof) => return Ok(proof),
        };
        failpoint::hit("backup.scratch-copied");
        let proof = match &source.kind {
            Kind::Postgres(target) => {
                self.server(clock, source, target, &contents, owner, level).await?
            }
            Kind::Sqlite(live) => asked::file(source, &contents, live, level).await,
            Kind::Agent => act::own_state(contents).await,
        };
        Ok(proof)
    }

    /// Copies the contents of a backup into a folder; a copy by itself, since what starts on it writes to it.
    pub async fn fetch(
        &self,
        source: &Source,
        record: &BackupRecord,
        folder: &Path,
    ) -> Result<Result<PathBuf, Proof>> {
        let contents = source.kind.contents();
        let place = match source.tool {
            Tool::PgBackRest => {
                let to = folder.join(contents);
                self.handed(source, folder, &to).await?;
                self.tool(source, tools::restore_alone(source, &record.place, &to)).await?;
                return Ok(Ok(to));
            }
            Tool::Restic => {
                let raw = folder.join("restic");
                self.tool(source, tools::restore(source, &record.place, &raw)).await?;
                match described(&raw) {
                    Some(place) => place,
                    None => return Ok(Err(Proof::Wrong("restic gave back no backup".to_owned()))),
                }
            }
            _ => PathBuf::from(&record.place),
        };
        let from = place.join(contents);
        let look = from.clone();
        match blocking(move || trees::odd(&look)).await? {
            Ok(None) => {}
            Ok(Some(odd)) => {
                let what = format!("{} is neither a file nor a folder", odd.display());
                return Ok(Err(Proof::Unknown(what)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Err(Proof::Wrong(format!("{} is gone", from.display()))));
            }
            Err(error) => return Err(failed("the backup can't be read", error)),
        }
        let to = folder.join(contents);
        let mut command: Vec<String> = ["cp", "-R", "--reflink=auto", "--"].map(Into::into).into();
        command.extend([from, to.clone()].map(|path| path.display().to_string()));
        let ran = self.run(source, command).await?;
        match ran.succeeded {
            true => Ok(Ok(to)),
            false => Err(Error::unavailable("BACKUP_FAILED", ran.said)),
        }
    }

    /// Makes a folder that a tool writes to as the user that owns what is restored.
    pub async fn handed(&self, source: &Source, folder: &Path, to: &Path) -> Result<()> {
        let owner = self.owner(source)?;
        let (folder, to) = (folder.to_owned(), to.to_owned());
        let made = blocking(move || {
            fs::DirBuilder::new().mode(0o700).create(&to)?;
            owner.map_or(Ok(()), |owner| trees::give(&folder, owner))
        });
        made.await?.map_err(|error| failed("the folder to restore to can't be made", error))
    }

    async fn server(
        &self,
        clock: &dyn Clock,
        source: &Source,
        target: &Postgres,
        data: &Path,
        owner: Option<(u32, u32)>,
        level: BackupLevel,
    ) -> Result<Proof> {
        let folder = data.parent().unwrap_or(data).to_owned();
        let Some(major) = act::major(data) else {
            return Ok(Proof::Wrong("it has no file PG_VERSION".to_owned()));
        };
        let control = match self.control(source, data, major).await {
            Ok(control) => control,
            Err(error) => return Ok(act::uncontrolled(data, &error)),
        };
        let (own, at, tool) = (folder.clone(), data.to_owned(), source.tool);
        let settled: std::io::Result<_> = blocking(move || settle(&own, &at, owner, tool)).await?;
        let wal = settled.map_err(|error| failed("the scratch instance can't be set up", error))?;
        let mut command = self.arguments(&folder, data, major, &control);
        command.extend(wal.iter().flat_map(|setting| ["-c".to_owned(), setting.clone()]));
        let mut program = self.program(source, command);
        program.owner = owner;
        // An immediate shutdown, in which it gives back its shared memory.
        program.last_word = "QUIT";
        let running = hooks::spawn_program(&program)?;
        let pid = running.pid();
        let mut serving: Serving = Box::pin(running.end());
        let scratch = programs::at_socket(target, &folder).map_err(|why| {
            Error::unavailable("BACKUP_FAILED", format!("the address of {}: {why}", source.name))
        })?;
        let asked = tokio::select! {
            ended = &mut serving => {
                return Ok(match ended {
                    Err(error) => Proof::Unknown(error.chain()),
                    Ok(ran) if act::could_not_look(&ran.said) => Proof::Unknown(ran.said),
                    Ok(ran) => Proof::Wrong(format!("no server starts on it: {}", ran.said)),
                });
            }
            asked = asked::server(clock, source, target, &scratch, level) => asked,
        };
        stop(pid, serving).await;
        Ok(asked)
    }

    fn arguments(&self, folder: &Path, data: &Path, major: u32, control: &str) -> Vec<String> {
        let own = |name: &str| folder.join(name).display().to_string();
        let mut settings: Vec<String> = ALONE.map(str::to_owned).into();
        settings.push(format!("unix_socket_directories={}", folder.display()));
        settings.push(format!("config_file={}", own("postgresql.conf")));
        settings.push(format!("hba_file={}", own("pg_hba.conf")));
        settings.push(format!("ident_file={}", own("pg_ident.conf")));
        // Recovery stops where these are lower than they were.
        for (setting, key) in [
            ("max_prepared_transactions", "max_prepared_xacts setting"),
            ("max_locks_per_transaction", "max_locks_per_xact setting"),
            ("max_connections", "max_connections setting"),
            ("max_worker_processes", "max_worker_processes setting"),
        ] {
            let value = programs::control(control, key);
            settings.extend(value.map(|value| format!("{setting}={value}")));
        }
        let mut command =
            vec![self.postgres(major, "postgres"), "-D".to_owned(), data.display().to_string()];
        command.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        command
    }
}

type Serving = Pin<Box<dyn Future<Output = Result<Ran>> + Send>>;

/// Makes the folder of one scratch instance, in one where no other user can put anything.
fn make_folder(root: &Path, folder: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    if folder.as_os_str().len() > SOCKET_LIMIT {
        let message =
            format!("{} is too long for a socket; set [backup] scratch", folder.display());
        return Err(Error::unavailable("BACKUP_FAILED", message));
    }
    let make = |path: &Path, mode| fs::DirBuilder::new().mode(mode).create(path);
    let made = || {
        if let Some(above) = root.parent() {
            files::create_folders(above)?;
        }
        // Others pass through, and see nothing.
        let mode = if owner.is_some() { 0o711 } else { 0o700 };
        match make(root, mode) {
            // Whatever the umask is.
            Ok(()) => fs::set_permissions(root, fs::Permissions::from_mode(mode))?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let facts = fs::symlink_metadata(root)?;
        let own = facts.uid() == rustix::process::geteuid().as_raw();
        if !facts.is_dir() || !own || facts.mode() & 0o022 != 0 {
            return Err(std::io::Error::other(
                "is not a folder of the agent's own that nobody else may write to",
            ));
        }
        make(folder, 0o700)
    };
    made().map_err(|error| failed(&format!("the scratch folder {}", root.display()), error))?;
    if let Some(owner) = owner
        && let Some(barred) = trees::barred(root, owner)
    {
        let message = format!(
            "[backup] run_as can't pass through {} to the scratch folder; set [backup] scratch to another place",
            barred.display()
        );
        return Err(Error::unavailable("BACKUP_FAILED", message));
    }
    Ok(())
}

/// Makes a copy of a server's folder one that starts by itself and follows nobody; the settings by which it gets the WAL
/// that its tool keeps elsewhere.
fn settle(
    folder: &Path,
    data: &Path,
    owner: Option<(u32, u32)>,
    tool: Tool,
) -> std::io::Result<Vec<String>> {
    let settings = data.join("postgresql.auto.conf");
    let mut wal = Vec::new();
    if tool == Tool::PgBackRest
        && let Some(command) = tools::restore_command(&fs::read_to_string(&settings)?)
    {
        wal.push(format!("restore_command={command}"));
        // It answers once it is through, and asks for no more slots and senders than it has.
        let own =
            ["recovery_target=immediate", "recovery_target_action=promote", "hot_standby=off"];
        wal.extend(own.map(Into::into));
    } else {
        files::remove(&data.join("recovery.signal"))?;
    }
    for name in ["standby.signal", "recovery.conf", "postmaster.pid"] {
        files::remove(&data.join(name))?;
    }
    // Read whatever the command line says, and after the file that it names.
    fs::write(settings, "")?;
    fs::write(folder.join("postgresql.conf"), "")?;
    fs::write(folder.join("pg_hba.conf"), "local all all trust\n")?;
    fs::write(folder.join("pg_ident.conf"), "")?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))?;
    owner.map_or(Ok(()), |owner| trees::give(folder, owner))?;
    Ok(wal)
}

/// Ends a scratch server: it is asked, then told, then killed by being dropped.
async fn stop(pid: Option<u32>, mut serving: Serving) {
    let pid = pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
    for (signal, patience) in STOP {
        let Some(pid) = pid else { return };
        // It has not been waited for, so the number is still its own.
        let _ = kill_process(pid, signal);
        if tokio::time::timeout(patience, &mut serving).await.is_ok() {
            return;
        }
    }
}

/// The folder of a backup somewhere below `folder`.
pub(super) fn described(folder: &Path) -> Option<PathBuf> {
    let mut found = None;
    files::walk(folder, &mut |path| {
        if path.file_name().is_some_and(|name| name == act::DESCRIPTION) && found.is_none() {
            found = path.parent().map(Path::to_owned);
        }
    })
    .ok()?;
    found
}

fn failed(what: &str, error: std::io::Error) -> Error {
    act::failed(what, error)
}
