//! A real PostgreSQL of its own: a cluster in a temporary folder that listens on a unix socket only, and is gone with
//! its value.

use std::fs::File;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::clock::wait_until;

/// Where Debian puts the server's programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Lost with the cluster anyway: nothing here has to survive the machine.
const FAST: &str = "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\n";

/// A running cluster.
pub struct Postgres {
    child: Child,
    folder: TempDir,
    port: String,
}

impl Postgres {
    /// Starts one; `settings` are lines of postgresql.conf.
    ///
    /// # Panics
    /// When the server is missing (`tests/run` installs it), or does not start.
    pub fn start(settings: &str) -> Self {
        Self::start_below(&std::env::temp_dir(), settings)
    }

    /// Starts one in a folder below this one.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn start_below(parent: &Path, settings: &str) -> Self {
        Self::launch(folder_of_the_owner(parent), Path::new(PROGRAMS), settings)
    }

    /// Starts one of another version: of the programs in `bin` of this folder. Its clients stay those of Debian.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn start_of(version: &Path, settings: &str) -> Self {
        let folder = folder_of_the_owner(&std::env::temp_dir());
        // Where they are, its owner may see nothing.
        let programs = folder.path().join("programs");
        let copied = Command::new("cp").arg("-a").arg(version).arg(&programs).output();
        said(&copied.expect("cp is there"));
        Self::launch(folder, &programs.join("bin"), settings)
    }

    fn launch(folder: TempDir, programs: &Path, settings: &str) -> Self {
        let data = folder.path().join("data");
        let mut initdb = as_owner(&programs.join("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "-N", "--encoding=UTF8"]).arg(&data);
        said(&initdb.output().expect("initdb is there"));
        let config = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&config).expect("initdb wrote it");
        let own = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nlogging_collector = off\n\
             log_statement = 'all'\nlog_line_prefix = '%m [%p] %a: '\n{FAST}{settings}\n",
            folder.path().display()
        );
        std::fs::write(&config, text + &own).expect("its folder is ours");
        let log = File::create(folder.path().join("log")).expect("a log");
        let child = as_owner(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("postgres can be started");
        let port = settings.lines().find_map(|line| line.strip_prefix("port = "));
        let port = port.unwrap_or("5432").trim().to_owned();
        let server = Self { child, folder, port };
        wait_until("PostgreSQL", || {
            let mut ready = Command::new(program("pg_isready"));
            ready
                .args(["-q", "-p", &server.port, "-h"])
                .arg(server.socket())
                .status()
                .is_ok_and(|it| it.success())
        });
        server
    }

    /// The folder of its socket.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// Its address, as the agent's configuration has it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.socket().display())
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it logged: every statement.
    ///
    /// # Panics
    /// When it can't be read.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("its log")
    }

    /// A program of PostgreSQL that talks to it as the superuser.
    pub fn client(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        command.env("PGPORT", &self.port).arg("-h").arg(self.socket());
        command.args(["-U", "postgres"]).stdin(Stdio::null());
        command
    }

    /// Runs SQL in a database; its rows, one a line, columns parted by `|`.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
        said(&psql.output().expect("psql is there")).trim_end().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once: nobody needs what is in it.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

fn folder_of_the_owner(parent: &Path) -> TempDir {
    let folder =
        tempfile::Builder::new().prefix("genesis-pg-").tempdir_in(parent).expect("a folder");
    let (user, group) = owner();
    chown(folder.path(), Some(user), Some(group)).expect("root may give it away");
    folder
}

fn program(name: &str) -> PathBuf {
    Path::new(PROGRAMS).join(name)
}

/// Who owns the cluster: a server does not run as root.
///
/// # Panics
/// When there is no user "postgres".
pub fn owner() -> (u32, u32) {
    let id = |what: &str| {
        let output = Command::new("id").args([what, "postgres"]).output().expect("id is there");
        said(&output).trim().parse().expect("a number")
    };
    (id("-u"), id("-g"))
}

fn as_owner(program: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        let (user, group) = owner();
        command.uid(user).gid(group).current_dir("/");
    }
    command
}

#[track_caller]
fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
