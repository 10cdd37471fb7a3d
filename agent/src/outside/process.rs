//! Signals to other processes.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A signal that asks a writer to reopen its logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReopenSignal {
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

impl ReopenSignal {
    /// Parses "HUP", "SIGUSR1" and the like.
    ///
    /// # Errors
    /// The names that are known.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim_start_matches("SIG") {
            "HUP" => Ok(Self::Hup),
            "USR1" => Ok(Self::Usr1),
            "USR2" => Ok(Self::Usr2),
            _ => Err(format!("{text:?} is not one of HUP, USR1, USR2")),
        }
    }

    fn signal(self) -> Signal {
        match self {
            Self::Hup => Signal::HUP,
            Self::Usr1 => Signal::USR1,
            Self::Usr2 => Signal::USR2,
        }
    }
}

/// Reads a process id from `pidfile` and makes sure that the process lives.
///
/// # Errors
/// Why there is nobody to signal, in words.
pub fn living(pidfile: &Path) -> Result<Pid, String> {
    let shown = pidfile.display();
    let text = std::fs::read_to_string(pidfile)
        .map_err(|error| format!("can't read the pidfile {shown}: {error}"))?;
    let number: i32 =
        text.trim().parse().map_err(|_| format!("the pidfile {shown} holds no process id"))?;
    // 1 is never a log writer, and a signal to 0 or below would go to whole groups.
    let pid = (number > 1).then(|| Pid::from_raw(number)).flatten();
    let pid = pid.ok_or_else(|| {
        format!("the pidfile {shown} holds {number}, which can't be a log writer")
    })?;
    match test_kill_process(pid) {
        Ok(()) => Ok(pid),
        Err(rustix::io::Errno::PERM) => {
            Err(format!("process {number} of {shown} may not be signalled by this user"))
        }
        Err(_) => Err(format!("process {number} of {shown} is gone")),
    }
}

/// Sends `signal` to the process that `pidfile` names.
///
/// # Errors
/// Why that failed, in words.
pub fn signal(pidfile: &Path, signal: ReopenSignal) -> Result<(), String> {
    let pid = living(pidfile)?;
    kill_process(pid, signal.signal())
        .map_err(|error| format!("can't signal process {pid:?}: {error}"))
}
