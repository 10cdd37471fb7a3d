//! Signals to other processes, and what those that the agent starts may do.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustix::thread::{
    CapabilitySet, capability_is_in_ambient_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set,
};

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

/// Keeps the capabilities that a service manager has given to the agent from the programs that it starts, but for that to
/// send signals, by which hooks have services reload. The agent itself keeps them all. It is for this thread and those
/// that it starts later.
///
/// # Errors
/// What the kernel says; then programs may have what they had.
pub fn keep_capabilities() -> std::io::Result<()> {
    let signals = capability_is_in_ambient_set(CapabilitySet::KILL)?;
    clear_ambient_capability_set()?;
    if signals {
        configure_capability_in_ambient_set(CapabilitySet::KILL, true)?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::thread::{
        CapabilitiesSecureBits, CapabilitySets, capabilities, set_capabilities,
        set_capabilities_secure_bits,
    };

    use super::*;

    /// The capabilities of a program that is started now.
    fn of_a_child() -> CapabilitySet {
        let output = Command::new("cat").arg("/proc/self/status").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        CapabilitySet::from_bits_retain(u64::from_str_radix(line.trim(), 16).unwrap())
    }

    #[test]
    fn programs_get_none_of_the_capabilities_but_that_to_signal() {
        let given = CapabilitySet::DAC_OVERRIDE | CapabilitySet::LEASE | CapabilitySet::KILL;
        let before = capabilities(None).unwrap();
        if !before.permitted.contains(given | CapabilitySet::SETPCAP) {
            eprintln!("needs root: left out");
            return;
        }
        for (given, left) in
            [(given, CapabilitySet::KILL), (CapabilitySet::DAC_OVERRIDE, CapabilitySet::empty())]
        {
            // Capabilities are a thread's own.
            let tried = std::thread::spawn(move || {
                // As a service manager gives them to a service that is not root's.
                set_capabilities(None, CapabilitySets { inheritable: given, ..before }).unwrap();
                set_capabilities_secure_bits(CapabilitiesSecureBits::NO_ROOT).unwrap();
                for one in given.iter() {
                    configure_capability_in_ambient_set(one, true).unwrap();
                }
                assert_eq!(of_a_child(), given);
                keep_capabilities().unwrap();
                assert_eq!(of_a_child(), left);
                assert_eq!(capabilities(None).unwrap().effective, before.effective);
            });
            tried.join().unwrap();
        }
    }
}
