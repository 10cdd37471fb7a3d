//! Processes that an agent before this one has started and left behind. Only what proves to be its own is ended.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that each program of the agent is started with; its value names the agent by its folder.
pub const MARK: &str = "GENESIS_PROGRAM";

/// A mark for the environment of a program.
pub fn mark(folder: &Path) -> String {
    format!("{MARK}={}", folder.display())
}

/// Ends each process that an agent of this folder has started: the mark is in its environment; or it is a server of
/// PostgreSQL (which writes over its environment) at work in a folder that `is_scratch`, where nobody else's are. Those
/// get `signal`. How many there are.
pub fn end(folder: &Path, is_scratch: &dyn Fn(&Path) -> bool, signal: Signal) -> usize {
    let own = std::process::id();
    let processes = procfs::process::all_processes().into_iter().flatten().filter_map(Result::ok);
    let others = processes.filter(|process| process.pid().cast_unsigned() != own);
    let mut found = 0;
    for process in others {
        let Some(pid) = Pid::from_raw(process.pid()) else { continue };
        // Held from here on, so that no other process can get its number in between.
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if !is_ours(&process, folder, is_scratch) {
            continue;
        }
        found += 1;
        send(&handle, signal);
    }
    found
}

fn send(handle: &OwnedFd, signal: Signal) {
    if let Err(error) = pidfd_send_signal(handle, signal) {
        tracing::warn!(%error, "a process that was left behind can't be ended");
    }
}

fn is_ours(
    process: &procfs::process::Process,
    folder: &Path,
    is_scratch: &dyn Fn(&Path) -> bool,
) -> bool {
    // One that has ended, and that nobody has waited for yet, has nothing left.
    if process.stat().is_ok_and(|stat| stat.state == 'Z') {
        return false;
    }
    let marked = process.environ().is_ok_and(|variables| {
        variables.iter().any(|(name, value)| name == MARK && Path::new(value) == folder)
    });
    let server = || {
        let program = process.exe().ok();
        let named = program.as_deref().and_then(Path::file_name).is_some_and(|name| {
            let name = name.to_string_lossy();
            name.trim_end_matches(" (deleted)") == "postgres"
        });
        named && process.cwd().is_ok_and(|at| is_scratch(&at))
    };
    marked || server()
}
