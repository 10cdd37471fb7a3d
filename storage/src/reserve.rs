//! Room on the disk that is set aside for the file, so that a commit goes on where every other
//! writer finds the disk full: the agent must note what it begins before it makes room.
//!
//! The file is longer than what was written of it, and the blocks in between are had only when
//! they are written. A few of them are had beforehand, those that the engine takes next: it fills
//! a file upwards.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

/// How much is set aside, in bytes: some hundred small commits.
pub(crate) const RESERVE_BYTES: u64 = 2 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Reserve {
    /// None where it could not be opened.
    file: Option<File>,
    /// The file system knows no such thing.
    unsupported: AtomicBool,
}

impl Reserve {
    pub(crate) fn of(path: &Path) -> Self {
        let file = File::options().write(true).open(path).ok();
        Self { file, unsupported: AtomicBool::new(false) }
    }

    /// Sets aside again what was used. Where there is no room for it, what was had stays.
    ///
    /// Costs a few system calls, as long as the blocks are there.
    pub(crate) fn fill(&self) {
        let Some(file) = &self.file else { return };
        if self.unsupported.load(Ordering::Relaxed) {
            return;
        }
        if let Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) = set_aside(file) {
            self.unsupported.store(true, Ordering::Relaxed);
        }
    }
}

/// Gives blocks to the first bytes of the file, and behind it, that have none or are unwritten.
fn set_aside(file: &File) -> Result<(), Errno> {
    let bytes = file.metadata().map_err(|error| errno(&error))?.len();
    let (mut at, mut left) = (0, RESERVE_BYTES);
    while left > 0 {
        // The end of the file counts as a hole.
        let hole = match at < bytes {
            true => seek(file, SeekFrom::Hole(at))?,
            false => at,
        };
        let end = match hole < bytes {
            true => match seek(file, SeekFrom::Data(hole)) {
                Err(Errno::NXIO) => hole + left,
                end => end?,
            },
            false => hole + left,
        };
        let length = left.min(end - hole);
        fallocate(file, FallocateFlags::KEEP_SIZE, hole, length)?;
        left -= length;
        at = end;
    }
    Ok(())
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
