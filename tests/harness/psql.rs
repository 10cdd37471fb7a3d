//! Clients of a PostgreSQL server that stay: each is a psql that is told what to run.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use crate::clock::{LIMIT, wait_until};
use crate::postgres::Postgres;

/// A client. It is gone with its value.
pub struct Psql {
    child: Child,
    said: Receiver<String>,
    /// The process of the server that serves it.
    pub pid: i32,
}

impl Psql {
    /// A client of `server` as this role, which calls itself `application`.
    ///
    /// # Panics
    /// When it gets no connection.
    pub fn connect(server: &Postgres, role: &str, application: &str) -> Self {
        Self::connect_to(server, "postgres", role, application)
    }

    /// The same in a database of its own.
    ///
    /// # Panics
    /// As [`Psql::connect`].
    pub fn connect_to(server: &Postgres, database: &str, role: &str, application: &str) -> Self {
        let mut command = server.client("psql");
        command.args(["-U", role, "-d", database]).env("PGAPPNAME", application);
        Self::spawn(command)
    }

    /// A client by this command line of psql.
    ///
    /// # Panics
    /// When it gets no connection.
    pub fn spawn(mut command: Command) -> Self {
        let mut psql = Self::try_spawn(&mut command);
        psql.tell("SELECT pg_backend_pid()");
        let pid = psql.line();
        psql.pid = pid.parse().unwrap_or_else(|_| panic!("no process id: {pid:?}"));
        psql
    }

    /// A client that may have to wait for its connection.
    ///
    /// # Panics
    /// When there is no psql.
    pub fn try_spawn(command: &mut Command) -> Self {
        command.args(["-X", "-q", "-At"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().expect("psql is there");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Whom it is for may be gone.
                let _ = sender.send(line);
            }
        });
        Self { child, said, pid: 0 }
    }

    /// Tells it what to run, and does not wait for it.
    ///
    /// # Panics
    /// When it is gone.
    pub fn tell(&mut self, sql: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{sql};").expect("psql listens");
        stdin.flush().expect("psql listens");
    }

    /// The next line that it prints.
    ///
    /// # Panics
    /// When there is none.
    pub fn line(&self) -> String {
        self.said.recv_timeout(LIMIT).expect("psql answers")
    }

    /// Runs it, and waits until it is done.
    ///
    /// # Panics
    /// When it fails, or does not come to an end.
    pub fn run(&mut self, sql: &str) {
        self.tell(&format!("{sql};\n\\echo done :ERROR"));
        loop {
            match self.line().as_str() {
                "done false;" => return,
                "done true;" => panic!("{sql} failed"),
                _ => {}
            }
        }
    }

    /// Whether its connection still stands.
    pub fn is_there(&self, server: &Postgres) -> bool {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {}", self.pid);
        server.sql("postgres", &sql) == "1"
    }

    /// Waits until it waits for a lock.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_blocked(&self, server: &Postgres) {
        let sql = format!("SELECT count(*) FROM pg_locks WHERE pid = {} AND NOT granted", self.pid);
        wait_until("a session to wait", || server.sql("postgres", &sql) == "1");
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        // It may be gone by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
