//! One agent for each state folder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};

/// Held as long as the agent runs; the kernel lets go of it however the agent ends.
pub struct Lock {
    _file: File,
}

/// Takes the lock at `path` and writes this process's id into it.
///
/// # Errors
/// `ALREADY_RUNNING` with the other agent's process id, `LOCK_FAILED`.
pub fn take(path: &Path) -> Result<Lock> {
    let failed = || Error::unavailable("LOCK_FAILED", format!("can't lock {}", path.display()));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed().caused_by(error))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        let folder = path.parent().unwrap_or(path);
        let message = format!(
            "another agent (pid {}) works on {}; stop it, or name another folder with --state-dir",
            pid.trim(),
            folder.display()
        );
        return Err(Error::conflict("ALREADY_RUNNING", message));
    }
    let written = (|| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    })();
    written.map_err(|error: std::io::Error| failed().caused_by(error))?;
    Ok(Lock { _file: file })
}
