//! The PKI's folder: bounded reads, one writer at a time, and writes that a crash either does or leaves undone.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Kind, Result};
use crate::outside::{files, secret};

/// Files being written begin so; what a crash leaves of them is swept up.
const TEMPORARY: &str = ".pki-";
/// The largest file that is read, in bytes: a register of a hundred thousand certificates.
const READ_LIMIT: u64 = 64 << 20;
/// How long to wait for another command to finish.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look whether it has.
const POLL: Duration = Duration::from_millis(50);

/// The mode of a file that only its owner may read.
pub(super) const PRIVATE: u32 = 0o600;
/// The mode of a file that everybody may read.
pub(super) const PUBLIC: u32 = 0o644;

/// The folder of a PKI.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

/// Held while the folder is changed; the kernel lets go of it however the program ends.
pub(super) struct Lock {
    _folder: File,
}

/// Something could not be done with a file.
pub(super) fn failed(attempt: &str, path: &Path, error: io::Error) -> Error {
    Error::unavailable("PKI_FILE_FAILED", format!("can't {attempt} {}", path.display()))
        .caused_by(error)
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the folder and its parents, mode 0700.
    pub(super) fn create(&self) -> Result<()> {
        create_folders(&self.path)
    }

    /// Takes the folder's mode from everybody but its owner.
    pub(super) fn make_private(&self) -> Result<()> {
        fs::set_permissions(&self.path, Permissions::from_mode(0o700))
            .map_err(|error| failed("set the mode of", &self.path, error))
    }

    /// The names in the folder, sorted, without files that were being written.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> =
            self.entries()?.into_iter().filter(|name| !name.starts_with(TEMPORARY)).collect();
        names.sort();
        Ok(names)
    }

    fn entries(&self) -> Result<Vec<String>> {
        let read = || -> io::Result<Vec<String>> {
            fs::read_dir(&self.path)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        };
        read().map_err(|error| failed("look into", &self.path, error))
    }

    /// Waits until no other command changes the folder, then keeps others out and sweeps up what a crash left.
    pub(super) fn lock(&self) -> Result<Lock> {
        self.lock_within(PATIENCE)
    }

    pub(super) fn lock_within(&self, patience: Duration) -> Result<Lock> {
        let folder = File::open(&self.path).map_err(|error| failed("open", &self.path, error))?;
        let mut waited = Duration::ZERO;
        while let Err(error) = flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK && error != rustix::io::Errno::INTR {
                return Err(failed("lock", &self.path, error.into()));
            }
            if waited >= patience {
                let message = format!(
                    "another command is changing {}; wait for it to end, then try again",
                    self.path.display()
                );
                return Err(Error::conflict("PKI_BUSY", message));
            }
            std::thread::sleep(POLL);
            waited += POLL;
        }
        for name in self.entries()?.iter().filter(|name| name.starts_with(TEMPORARY)) {
            let path = self.file(name);
            files::remove(&path).map_err(|error| failed("remove", &path, error))?;
        }
        Ok(Lock { _folder: folder })
    }

    /// Reads a file; `None` when there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.file(name);
        let read = || -> io::Result<Option<Vec<u8>>> {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let mut bytes = Vec::new();
            file.take(READ_LIMIT + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > READ_LIMIT {
                return Err(io::Error::other(format!("it has over {READ_LIMIT} bytes")));
            }
            Ok(Some(bytes))
        };
        read().map_err(|error| failed("read", &path, error))
    }

    /// Refuses a secret that others than its owner may read.
    pub(super) fn check_private(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        let mode = fs::metadata(&path).map_err(|error| failed("look at", &path, error))?.mode();
        if !secret::is_open(mode) {
            return Ok(());
        }
        let message = format!(
            "{} may be read by others (mode {:04o}); if nobody has, set it with `chmod 600`, \
             else make a new CA",
            path.display(),
            mode & 0o7777
        );
        Err(Error::new(Kind::Refused, "PKI_KEY_EXPOSED", message))
    }

    /// Puts a file in the place of the one of that name, or beside the others. Durable when it returns.
    pub(super) fn put(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        put(&self.file(name), bytes, mode, true)
    }
}

/// Makes a folder and its parents, mode 0700. What root makes belongs to the owner of what it is made in.
///
/// # Errors
/// `PKI_FILE_FAILED`.
pub(super) fn create_folders(path: &Path) -> Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .collect();
    let made = || -> io::Result<()> {
        files::create_folders(path)?;
        let parent = missing.last().and_then(|folder| folder.parent());
        let Some(parent) = parent.filter(|_| rustix::process::geteuid().is_root()) else {
            return Ok(());
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let owner = fs::metadata(parent)?;
        for folder in &missing {
            std::os::unix::fs::lchown(folder, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    };
    made().map_err(|error| failed("make the folder", path, error))
}

/// Writes a file whole, with this mode whatever the umask: to a temporary one beside it, fsync, rename, fsync
/// of the folder. Without `replace` one that is there is never written over. Root's files belong to the folder's owner.
///
/// # Errors
/// `PKI_FILE_EXISTS`, `PKI_FILE_FAILED`.
pub(super) fn put(path: &Path, bytes: &[u8], mode: u32, replace: bool) -> Result<()> {
    #[cfg(test)]
    interrupt::before_write(path)?;
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        // Made with mode 0600, so that a secret is never open to others, not even for a moment.
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
        file.write_all(bytes)?;
        // What root does for the agent's user, that user must be able to read.
        let owner = fs::metadata(folder)?;
        if rustix::process::geteuid().is_root() && owner.uid() != 0 {
            fchown(file.as_file(), Some(owner.uid()), Some(owner.gid()))?;
        }
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        if replace {
            file.persist(path).map_err(|error| error.error)?;
        } else {
            file.persist_noclobber(path).map_err(|error| error.error)?;
        }
        files::sync_folder_of(path)
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => failed("write", path, error),
    })
}

/// The refusal to write over a file.
pub(super) fn exists(path: &Path) -> Error {
    let message = format!(
        "{} is there already; move it away, name another folder with --out, or allow it with --replace",
        path.display()
    );
    Error::new(Kind::Refused, "PKI_FILE_EXISTS", message)
}

/// Ends a command before one of its writes, as a kill would.
#[cfg(test)]
pub(super) mod interrupt {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static WRITES_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Lets this thread write so many files more; `None`: as many as it likes.
    pub(in crate::pki) fn after(writes: Option<usize>) {
        WRITES_LEFT.set(writes);
    }

    pub(super) fn before_write(path: &Path) -> Result<()> {
        match WRITES_LEFT.get() {
            Some(0) => Err(failed("write", path, io::Error::other("interrupted by the test"))),
            Some(left) => {
                WRITES_LEFT.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}
