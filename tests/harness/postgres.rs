//! A real PostgreSQL of its own: a cluster in a temporary folder that listens on a unix socket only, and is gone with
//! its value.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

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
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix("genesis-pg-").tempdir_in(parent).expect("a folder");
        let (user, group) = owner();
        chown(folder.path(), Some(user), Some(group)).expect("root may give it away");
        let data = folder.path().join("data");
        let mut initdb = as_owner(&program("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "-N", "--no-instructions"]).arg(&data);
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
        let child = as_owner(&program("postgres"))
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

/// A session that stays until it is dropped.
pub struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Its process in the server.
    pub pid: i32,
}

impl Client {
    /// Runs SQL and waits until it is done.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&mut self, sql: &str) -> String {
        self.send(&format!("{sql}\n\\echo :ERROR done"));
        let mut said = String::new();
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).expect("psql lives");
            match line.trim_end() {
                "false done" => return said.trim_end().to_owned(),
                "true done" | "" => panic!("{sql} failed: {said}"),
                other => said.push_str(&format!("{other}\n")),
            }
        }
    }

    /// Sends SQL and waits for nothing.
    ///
    /// # Panics
    /// When psql has ended.
    pub fn send(&mut self, sql: &str) {
        writeln!(self.input, "{sql}").expect("psql lives");
        self.input.flush().expect("psql lives");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Postgres {
    /// Opens a session under this application's name.
    ///
    /// # Panics
    /// When it can't be opened.
    pub fn session(&self, database: &str, application: &str) -> Client {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-At", "-d", database]).env("PGAPPNAME", application);
        let mut child = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql is there");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut client = Client { child, input, output, pid: 0 };
        client.pid = client.run("SELECT pg_backend_pid();").parse().expect("a number");
        client
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
