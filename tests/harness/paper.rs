//! A trading system on paper, as a process of its own: its book says what an emergency has really done.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use genesis_proto::trading::trading_control_client::TradingControlClient;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use crate::binaries;
use crate::clock::wait_for;

/// The venue in its folder; its process ends with this.
pub struct PaperVenue {
    folder: PathBuf,
    process: Option<Child>,
}

impl PaperVenue {
    /// One that begins with this book.
    ///
    /// # Panics
    /// When it does not start.
    #[allow(clippy::needless_pass_by_value)] // So that a test can write the book where it starts it.
    pub fn start(folder: &Path, book: Value) -> Self {
        let first = folder.join("paper-first.json");
        std::fs::write(first, book.to_string()).expect("the first book");
        let mut venue = Self { folder: folder.to_owned(), process: None };
        venue.start_again();
        venue
    }

    /// Starts it on the book that it has kept.
    ///
    /// # Panics
    /// When it runs already, or does not start.
    pub fn start_again(&mut self) {
        self.spawn(None);
    }

    /// [`PaperVenue::start_again`], to die at the `nth` hit of a fail point as if the power failed.
    ///
    /// # Panics
    /// When it runs already, or does not start.
    pub fn start_with_failpoint(&mut self, name: &str, nth: u64) {
        self.spawn(Some(format!("{name}:{nth}")));
    }

    fn spawn(&mut self, failpoint: Option<String>) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = Self::command(&self.folder);
        command.env_remove("GENESIS_FAILPOINT");
        if let Some(failpoint) = failpoint {
            command.env("GENESIS_FAILPOINT", failpoint);
        }
        let log = self.folder.join("paper.log");
        let log = std::fs::File::options().create(true).append(true).open(log).expect("its log");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = child.expect("the agent's program");
        let mut line = String::new();
        let said = child.stdout.take().map(BufReader::new).expect("piped").read_line(&mut line);
        self.process = Some(child);
        said.expect("what it says");
        let log = std::fs::read_to_string(self.folder.join("paper.log")).unwrap_or_default();
        assert_eq!(line.trim_end(), self.target(), "it listens: {log}");
    }

    /// The command that starts one whose files are in `folder`, where [`PaperVenue`] has them.
    pub fn command(folder: &Path) -> Command {
        let mut command = Command::new(binaries::agent());
        command.arg("paper-venue").arg("--listen").arg(target(folder));
        command.arg("--file").arg(folder.join("paper.json"));
        command.arg("--book").arg(folder.join("paper-first.json"));
        command.arg("--faults").arg(folder.join("paper-faults.json"));
        command
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.process.take().expect("it runs");
        child.kill().expect("it lives");
        child.wait().expect("our child");
    }

    /// Waits until its fail point has killed it.
    ///
    /// # Panics
    /// When it ends otherwise, or not.
    pub fn wait_killed(&mut self) {
        let mut child = self.process.take().expect("it runs");
        let status = wait_for("the paper venue's end", || child.try_wait().expect("our child"));
        assert_eq!(status.signal(), Some(9), "its fail point kills it: {status}");
    }

    /// Changes the book behind its back: it is killed, and started again on what `change` has made of it.
    ///
    /// # Panics
    /// When one of both fails.
    pub fn change_book(&mut self, change: impl FnOnce(&mut Value)) {
        self.kill();
        let mut book = self.book();
        change(&mut book);
        std::fs::write(self.file(), book.to_string()).expect("the book");
        self.start_again();
    }

    /// These faults are in force from the next call on, in place of others; their counts begin anew.
    ///
    /// # Panics
    /// When they can't be written.
    #[allow(clippy::needless_pass_by_value)] // As for the book.
    pub fn faults(&self, faults: Value) {
        let new = self.folder.join("paper-faults.new");
        std::fs::write(&new, faults.to_string()).expect("faults");
        std::fs::rename(&new, self.folder.join("paper-faults.json")).expect("their name");
    }

    /// No fault is in force any more.
    ///
    /// # Panics
    /// When that can't be written.
    pub fn no_faults(&self) {
        self.faults(serde_json::json!([]));
    }

    /// The book as it is on disk.
    ///
    /// # Panics
    /// When it can't be read.
    pub fn book(&self) -> Value {
        let text = std::fs::read(self.file()).expect("the book");
        serde_json::from_slice(&text).expect("the book is JSON")
    }

    /// The file of the book.
    pub fn file(&self) -> PathBuf {
        self.folder.join("paper.json")
    }

    /// What is held of a symbol; "0" when there is nothing.
    ///
    /// # Panics
    /// When the book can't be read.
    pub fn position(&self, venue: &str, symbol: &str) -> String {
        let book = self.book();
        let held = book["venues"][venue]["positions"][symbol].as_str();
        held.unwrap_or("0").to_owned()
    }

    /// Whether no venue has a position.
    ///
    /// # Panics
    /// When the book can't be read.
    pub fn is_flat(&self) -> bool {
        let book = self.book();
        let venues = book["venues"].as_object().expect("venues");
        venues
            .values()
            .all(|venue| venue["positions"].as_object().is_none_or(|held| held.is_empty()))
    }

    /// What became of an order; `null` when the venue has never seen it.
    ///
    /// # Panics
    /// When the book can't be read.
    pub fn order(&self, venue: &str, id: &str) -> Value {
        self.book()["venues"][venue]["orders"][id].clone()
    }

    /// The orders about which calls were, by their ids.
    ///
    /// # Panics
    /// When the book can't be read.
    pub fn orders(&self, venue: &str) -> serde_json::Map<String, Value> {
        let book = self.book();
        book["venues"][venue]["orders"].as_object().cloned().unwrap_or_default()
    }

    /// Each quantity that was traded of a symbol, by order and then piece by piece; negative: sold.
    ///
    /// # Panics
    /// When the book can't be read.
    pub fn trades(&self, venue: &str, symbol: &str) -> Vec<String> {
        let orders = self.orders(venue);
        let of_it = orders.values().filter(|order| order["symbol"] == symbol);
        let fills = of_it.flat_map(|order| order["fills"].as_array().cloned().unwrap_or_default());
        fills.map(|fill| fill["quantity"].as_str().expect("a text").to_owned()).collect()
    }

    /// The calls of one kind ("Halt", "ClosePositions"), the newest at the end; all of them for "".
    ///
    /// # Panics
    /// When the book can't be read.
    pub fn calls(&self, kind: &str) -> Vec<Value> {
        let book = self.book();
        let calls = book["calls"].as_array().cloned().unwrap_or_default();
        calls.into_iter().filter(|call| kind.is_empty() || call["call"] == kind).collect()
    }

    /// What it is reached by.
    pub fn target(&self) -> String {
        target(&self.folder)
    }

    /// A client of it, which connects when it is first used, and again when that is lost.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn client(&self) -> TradingControlClient<Channel> {
        let endpoint = Endpoint::from_shared(self.target()).expect("a target");
        TradingControlClient::new(endpoint.connect_lazy())
    }
}

fn target(folder: &Path) -> String {
    format!("unix:{}", folder.join("paper.sock").display())
}

impl Drop for PaperVenue {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            // It may be gone by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
