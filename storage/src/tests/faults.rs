//! Disk faults, by file: failing changes, and a record of all changes for the simulation of
//! crashes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use crate::backend::Operation;

static ERRORS: LazyLock<Mutex<HashMap<PathBuf, i32>>> = LazyLock::new(Mutex::default);
static RECORDS: LazyLock<Mutex<HashMap<PathBuf, Vec<Operation>>>> = LazyLock::new(Mutex::default);

/// Called before each change of a file.
pub(crate) fn before(path: &Path, operation: Operation) -> io::Result<()> {
    if let Some(errno) = ERRORS.lock().unwrap().get(path) {
        return Err(io::Error::from_raw_os_error(*errno));
    }
    if let Some(record) = RECORDS.lock().unwrap().get_mut(path) {
        record.push(operation);
    }
    Ok(())
}

/// From now on every change of the file fails with this system error.
pub(crate) fn fail(path: &Path, errno: i32) {
    ERRORS.lock().unwrap().insert(path.to_owned(), errno);
}

/// Changes succeed again.
pub(crate) fn clear(path: &Path) {
    ERRORS.lock().unwrap().remove(path);
}

/// From now on the file's changes are recorded.
pub(crate) fn record(path: &Path) {
    RECORDS.lock().unwrap().insert(path.to_owned(), Vec::new());
}

/// The changes recorded so far.
pub(crate) fn recorded(path: &Path) -> Vec<Operation> {
    RECORDS.lock().unwrap()[path].clone()
}
