//! What is in an etcd, through etcdctl.

use std::fs::File;
use std::sync::atomic::Ordering;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use super::{CLIENT, Etcd};
use crate::clock::{wait_for, wait_until};

/// What [`Etcd::fill`] fills it with.
const FILLING: &str = "filling";

impl Etcd {
    /// Runs etcdctl on this member, as root where there are logins; what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments).unwrap_or_else(|error| panic!("etcdctl {arguments:?}: {error}"))
    }

    /// As [`Etcd::ctl`]; it may fail, as it does after five seconds where nobody answers.
    ///
    /// # Errors
    /// What it said.
    ///
    /// # Panics
    /// When it is missing (`tests/run` installs it).
    pub fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        self.run(arguments, None)
    }

    fn run(&self, arguments: &[&str], input: Option<File>) -> Result<String, String> {
        let mut command = self.program(CLIENT);
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", self.endpoint());
        if let Some(tls) = &self.tls {
            command.env("ETCDCTL_CACERT", &tls.ca).env("ETCDCTL_CERT", &tls.certificate);
            command.env("ETCDCTL_KEY", &tls.key);
        }
        if let (Some(password), true) = (self.password(), self.demands_logins()) {
            command.env("ETCDCTL_USER", format!("root:{password}"));
        }
        if let Some(input) = input {
            command.stdin(input);
        }
        let output = command.args(arguments).output().expect("etcdctl is needed by this test");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(said(&output.stdout)),
            false => Err(said(&output.stderr)),
        }
    }

    fn password(&self) -> Option<&str> {
        self.options.auth.as_ref().map(|(_, password)| password.as_str())
    }

    fn demands_logins(&self) -> bool {
        self.logins.load(Ordering::SeqCst)
    }

    /// Sets a key.
    ///
    /// # Panics
    /// When it is not taken.
    #[track_caller]
    pub fn put(&self, key: &str, value: &str) {
        self.ctl(&["put", "--", key, value]);
    }

    /// A key's value.
    ///
    /// # Panics
    /// When it can't be read.
    #[track_caller]
    pub fn get(&self, key: &str) -> Option<String> {
        let found = self.found(&["get", "-w", "json", "--", key]);
        found.first().map(|found| decoded(&found["value"]))
    }

    /// The revision that made a key; 0: there is none.
    ///
    /// # Panics
    /// When it can't be read.
    #[track_caller]
    pub fn created(&self, key: &str) -> i64 {
        let found = self.found(&["get", "-w", "json", "--", key]);
        found.first().and_then(|found| found["create_revision"].as_i64()).unwrap_or(0)
    }

    /// Deletes a key; whether there was one.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn delete(&self, key: &str) -> bool {
        self.ctl(&["del", "--", key]).trim() == "1"
    }

    /// The keys with this prefix, in their order.
    ///
    /// # Panics
    /// When they can't be read.
    #[track_caller]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let found = self.found(&["get", "-w", "json", "--prefix", "--keys-only", "--", prefix]);
        found.iter().map(|found| decoded(&found["key"])).collect()
    }

    #[track_caller]
    fn found(&self, arguments: &[&str]) -> Vec<Value> {
        let answer: Value = serde_json::from_str(&self.ctl(arguments)).expect("JSON");
        answer["kvs"].as_array().cloned().unwrap_or_default()
    }

    /// The revision that this member is at.
    ///
    /// # Panics
    /// When it does not say.
    #[track_caller]
    pub fn revision(&self) -> i64 {
        let status = self.status().expect("etcd's status");
        status["header"]["revision"].as_i64().expect("a revision")
    }

    /// What this member says of itself, if it does.
    pub(super) fn status(&self) -> Option<Value> {
        let status = self.try_ctl(&["--command-timeout=2s", "endpoint", "status", "-w", "json"]);
        let mut status: Value = serde_json::from_str(&status.ok()?).ok()?;
        Some(status[0]["Status"].take())
    }

    /// Forgets the history before now. Where nothing was written since the last time, that is no failure.
    ///
    /// # Panics
    /// When it does not.
    pub fn compact(&self) {
        let revision = self.revision().to_string();
        if let Err(error) = self.try_ctl(&["compact", "--physical", &revision]) {
            assert!(error.contains("has been compacted"), "{error}");
        }
    }

    /// Fills it up to its quota: reads and deletes go on, everything else is refused, also grants of leases.
    ///
    /// # Panics
    /// When it was given none, or does not become full.
    pub fn fill(&self) {
        assert!(self.options.quota_bytes.is_some(), "EtcdOptions::quota_bytes");
        let path = self.folder.path().join(FILLING);
        std::fs::write(&path, vec![b'x'; 256 << 10]).expect("a file");
        // The old values count as long as there is a history, but only once it has written them to its file.
        let refused = wait_for("a full etcd", || {
            let piece = File::open(&path).expect("just written");
            self.run(&["put", FILLING], Some(piece)).err()
        });
        assert!(refused.contains("database space exceeded"), "{refused}");
        // It was refused by the size, before the alarm: only that has everything refused.
        wait_until("the alarm of a full etcd", || self.is_full());
    }

    /// Whether its cluster has the alarm of being full.
    ///
    /// # Panics
    /// When it does not say.
    pub fn is_full(&self) -> bool {
        self.ctl(&["alarm", "list"]).contains("NOSPACE")
    }

    /// Takes out what [`Etcd::fill`] put in, and the history with it; then it takes writes again.
    ///
    /// # Panics
    /// When it does not.
    pub fn make_room(&self) {
        self.delete(FILLING);
        self.compact();
        self.ctl(&["defrag", "--cluster"]);
        self.ctl(&["alarm", "disarm"]);
        assert!(!self.is_full(), "the alarm is over");
    }

    /// Demands logins, as the options say.
    pub(super) fn enable_auth(&self) {
        let Some((user, password)) = &self.options.auth else { return };
        self.ctl(&["user", "add", &format!("root:{password}")]);
        self.ctl(&["user", "grant-role", "root", "root"]);
        if user != "root" {
            self.ctl(&["role", "add", user]);
            self.ctl(&[
                "role",
                "grant-permission",
                user,
                "readwrite",
                "--prefix",
                "/genesis/prod/",
            ]);
            self.ctl(&["user", "add", &format!("{user}:{password}")]);
            self.ctl(&["user", "grant-role", user, user]);
        }
        self.ctl(&["auth", "enable"]);
        self.logins.store(true, Ordering::SeqCst);
    }
}

fn decoded(value: &Value) -> String {
    // What is empty is left out.
    let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).expect("base64");
    String::from_utf8(bytes).expect("text")
}
