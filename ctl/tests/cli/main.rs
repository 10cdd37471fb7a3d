//! `genesisctl` as its users see it, run in process against a fake agent on a unix socket.

// The helpers of a test crate are not in test functions, and yet a failure in them is a test's failure.
#![allow(clippy::unwrap_used)]

mod alerts;
mod backups;
mod baseline;
mod breaker;
mod cert;
mod cert_changes;
mod contexts;
mod dashboard;
mod databases;
mod databases_changes;
mod deps;
mod deps_changes;
mod deps_check;
mod deps_import;
mod deps_postmortem;
mod deps_sarif;
mod deps_status;
mod drills;
mod emergency;
mod experiments;
mod experiments_fleet;
mod experiments_merged;
mod fake;
mod fanout;
mod fleet;
mod health;
mod health_changes;
mod incidents;
mod logs;
mod matrix;
mod matrix_changes;
mod matrix_merged;
mod nodes;
mod observe;
mod offline;
mod output;
mod parameters;
mod pipes;
mod plans;
mod runs;
mod series;
mod support;
mod trades;
mod yaml;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::rc::Rc;

use genesis_client::v1::*;
use genesisctl::{Console, Exit};

/// What an invocation left behind.
#[derive(Debug)]
struct Outcome {
    exit: Exit,
    stdout: Vec<u8>,
    stderr: String,
}

impl Outcome {
    fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.out()).unwrap()
    }
}

#[derive(Clone, Default)]
struct Buffer(Rc<RefCell<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes nothing, and says why.
struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `genesisctl` with no terminal and an empty environment.
fn ctl(arguments: &[&str]) -> Outcome {
    ctl_with(arguments, |_| {})
}

/// Runs `genesisctl` with a console that `prepare` has changed.
fn ctl_with(arguments: &[&str], prepare: impl FnOnce(&mut Console)) -> Outcome {
    let (stdout, stderr) = (Buffer::default(), Buffer::default());
    let mut console = Console::detached(stdout.clone(), stderr.clone(), BTreeMap::new());
    prepare(&mut console);
    let argv = ["genesisctl"].iter().chain(arguments);
    let exit = genesisctl::run(argv, &mut console);
    let stdout = stdout.0.borrow().clone();
    let stderr = String::from_utf8(stderr.0.borrow().clone()).unwrap();
    Outcome { exit, stdout, stderr }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The lines of a table, each with single spaces.
fn squeezed(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

/// A host that is well.
fn well() -> GetStatusResponse {
    GetStatusResponse {
        host_id: "h1".into(),
        hostname: "web-1".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        now: at(90_061),
        started_at: at(1),
        pid: 7,
        condition: Condition::Ok.into(),
        domains: vec![DomainStatus {
            domain: "logs".into(),
            condition: Condition::Ok.into(),
            summary: "2 sources".into(),
            findings: vec![],
        }],
        resident_bytes: 9_300_000,
        ..Default::default()
    }
}

fn of_condition(condition: Condition) -> GetStatusResponse {
    let mut status = well();
    status.condition = condition.into();
    status.domains[0].condition = condition.into();
    status.domains[0].findings = vec![Finding {
        code: "LOG_STALLED".into(),
        subject: "/var/log/\u{1b}]0;owned\u{7}x.log".into(),
        message: "no space".into(),
    }];
    status
}
