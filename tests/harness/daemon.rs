//! A server of the system in the foreground, with its log in a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::clock::wait_until;

/// The server, until it is dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; what it says is appended to `log`.
    ///
    /// # Panics
    /// When the program is missing (`tests/run` installs it).
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} is needed by this test: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Waits until it is ready; false when it has ended instead, as it does when its port is taken.
    ///
    /// # Panics
    /// When neither happens.
    pub(crate) fn wait_ready(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> bool {
        let mut ended = false;
        wait_until(what, || {
            ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            ended || ready()
        });
        !ended
    }

    /// What it has said so far.
    ///
    /// # Panics
    /// When that can't be read.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).expect("its log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Stops it where it is: its connections stay, and nothing answers.
    ///
    /// # Panics
    /// When it is gone.
    pub(crate) fn pause(&self) {
        freeze(self.pid());
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is gone.
    pub(crate) fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it runs");
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// When it does not.
    pub(crate) fn terminate(mut self) {
        kill_process(self.pid(), Signal::TERM).expect("it runs");
        wait_until("the end of a server", || {
            self.child.try_wait().is_ok_and(|status| status.is_some())
        });
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).expect("a process id")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be gone by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Stops a child of ours where it is. A signal alone takes a moment to reach all of its threads.
///
/// # Panics
/// When it is gone.
pub(crate) fn freeze(pid: Pid) {
    kill_process(pid, Signal::STOP).expect("it runs");
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
    wait_until("a process that stands still", || {
        waitid(WaitId::Pid(pid), options).expect("our child").is_some()
    });
}
