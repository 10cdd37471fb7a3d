//! What a diagnostic report tells of the host beyond the checks. All of it may take as long as a disk lets it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

mod disk;

pub use disk::{DISK_TEST_LIMIT, DiskSpeed, disk_speed};

/// How the kernel marks the path of an open file that has none any more.
const DELETED: &str = " (deleted)";

/// A file that was deleted and takes its room on disk until the process lets go of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedFile {
    /// The process that has it open.
    pub pid: u32,
    /// The process's name, as the kernel keeps it.
    pub command: String,
    /// Where it was.
    pub path: PathBuf,
    /// What it takes on disk, in bytes.
    pub bytes: u64,
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// The largest `limit` deleted files that processes have open, each once for each process, the largest first; and how
/// many processes could not be looked into. Files that are only mapped into memory are not seen.
pub fn deleted_but_open(limit: usize) -> (Vec<DeletedFile>, usize) {
    let (mut found, mut hidden) = (Vec::new(), 0);
    let Ok(processes) = procfs::process::all_processes() else { return (found, 1) };
    for process in processes {
        match process {
            Ok(process) => {
                let pid = process.pid.cast_unsigned();
                match deleted_of(pid, limit, &mut found) {
                    Ok(()) => {}
                    Err(error) if gone(&error) => {}
                    Err(_) => hidden += 1,
                }
            }
            Err(procfs::ProcError::NotFound(_)) => {}
            Err(_) => hidden += 1,
        }
    }
    keep_largest(&mut found, limit);
    (found, hidden)
}

/// Whether an error only means that a process or its descriptor is gone by now.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn keep_largest(found: &mut Vec<DeletedFile>, limit: usize) {
    found.sort_by(|one, other| {
        other
            .bytes
            .cmp(&one.bytes)
            .then_with(|| (one.pid, &one.path).cmp(&(other.pid, &other.path)))
    });
    found.truncate(limit);
}

/// Adds what one process has open.
fn deleted_of(pid: u32, limit: usize, found: &mut Vec<DeletedFile>) -> io::Result<()> {
    let mut seen = HashSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?.path();
        let Some(path) = fs::read_link(&entry).ok().and_then(|link| deleted_path(&link)) else {
            continue;
        };
        // A file of another name, or one in memory that never had a name, holds no room that could be had back.
        let Ok(facts) = fs::metadata(&entry) else { continue };
        let (device, inode) = (facts.dev(), facts.ino());
        if !facts.is_file() || facts.nlink() > 0 || !seen.insert((device, inode)) {
            continue;
        }
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let command = command.trim_end().to_owned();
        let bytes = facts.blocks().saturating_mul(512);
        found.push(DeletedFile { pid, command, path, bytes, device, inode });
        // Not more is kept than some times what is asked for, whatever a process has open.
        if found.len() >= limit.saturating_mul(2).max(64) {
            keep_largest(found, limit);
        }
    }
    Ok(())
}

/// The path behind a link of `/proc/PID/fd`, if it says that the file was deleted.
fn deleted_path(link: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    let path = link.as_os_str().as_bytes().strip_suffix(DELETED.as_bytes())?;
    (path.starts_with(b"/") && !path.starts_with(b"/memfd:"))
        .then(|| PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())))
}

/// Open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// Of this process.
    pub used: u64,
    /// How many this process may have; `u64::MAX` for any number.
    pub limit: u64,
    /// Of the whole host.
    pub host_used: u64,
    /// How many the host may have.
    pub host_limit: u64,
}

/// The open files of this process and of the host.
///
/// # Errors
/// Why they can't be told, in words.
pub fn open_files() -> Result<OpenFiles, String> {
    let told = |what: &str, error: io::Error| format!("can't read {what}: {error}");
    let own = fs::read_dir("/proc/self/fd").map_err(|error| told("/proc/self/fd", error))?;
    // The look itself has one open.
    let used = (own.count() as u64).saturating_sub(1);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let host = "/proc/sys/fs/file-nr";
    let text = fs::read_to_string(host).map_err(|error| told(host, error))?;
    let (host_used, host_limit) = of_host(&text).ok_or_else(|| format!("{host} holds {text:?}"))?;
    Ok(OpenFiles { used, limit: limit.current.unwrap_or(u64::MAX), host_used, host_limit })
}

/// In use, and the most; between them are those that are free, which Linux counts as 0 nowadays.
fn of_host(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    let (all, free, most) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((all.saturating_sub(free), most))
}

/// The kernel's name, release and machine.
pub fn kernel() -> String {
    let names = rustix::system::uname();
    let [name, release, machine] =
        [names.sysname(), names.release(), names.machine()].map(|part| part.to_string_lossy());
    format!("{name} {release} {machine}")
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// What this process has open, deleted, in a folder.
    fn own(folder: &Path, limit: usize) -> Vec<DeletedFile> {
        let (mut found, _) = deleted_but_open(limit);
        found.retain(|file| file.pid == std::process::id() && file.path.starts_with(folder));
        found
    }

    #[test]
    fn deleted_files_that_are_open_are_found_once_the_largest_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let make = |name: &str, bytes: usize| {
            fs::write(path(name), vec![1; bytes]).unwrap();
            let file = File::open(path(name)).unwrap();
            file.sync_all().unwrap();
            file
        };
        let (small, large) = (make("small (deleted)", 10_000), make("large", 1_000_000));
        let linked = make("linked", 10);
        let twice = large.try_clone().unwrap();
        assert!(own(folder.path(), usize::MAX).is_empty(), "a name alone is no sign");
        fs::hard_link(path("linked"), path("other")).unwrap();
        for name in ["small (deleted)", "large", "linked"] {
            fs::remove_file(path(name)).unwrap();
        }
        let found = own(folder.path(), usize::MAX);
        let paths: Vec<PathBuf> = found.iter().map(|file| file.path.clone()).collect();
        assert_eq!(paths, [path("large"), path("small (deleted)")]);
        let facts = large.metadata().unwrap();
        assert_eq!((found[0].device, found[0].inode), (facts.dev(), facts.ino()));
        assert!(found[0].bytes >= 900_000, "{found:?}");
        assert!(!found[0].command.is_empty());
        drop((large, twice, small, linked));
        assert!(own(folder.path(), usize::MAX).is_empty());
    }

    #[test]
    fn no_more_are_told_than_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let _held: Vec<File> = (0..100)
            .map(|number| {
                let path = folder.path().join(number.to_string());
                fs::write(&path, vec![1; 5_000]).unwrap();
                let file = File::open(&path).unwrap();
                fs::remove_file(path).unwrap();
                file
            })
            .collect();
        assert_eq!(own(folder.path(), usize::MAX).len(), 100);
        assert_eq!(deleted_but_open(3).0.len(), 3);
        assert!(deleted_but_open(0).0.is_empty());
    }

    #[test]
    fn links_of_deleted_files_are_told_from_others() {
        let of = |link: &str| deleted_path(Path::new(link));
        assert_eq!(of("/a b (deleted)"), Some("/a b".into()));
        assert_eq!(of("/a (deleted) (deleted)"), Some("/a (deleted)".into()));
        for other in ["/a", "/memfd:x (deleted)", "pipe:[1] (deleted)", "(deleted)", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn open_files_are_counted() {
        let before = open_files().unwrap();
        let _held: Vec<File> = (0..50).map(|_| File::open("/dev/null").unwrap()).collect();
        let after = open_files().unwrap();
        // Other tests of this process open and close theirs meanwhile.
        assert!(after.used >= 50 && after.used <= after.limit, "{before:?} {after:?}");
        assert!(after.host_used > 0 && after.host_used <= after.host_limit, "{after:?}");
        assert_eq!(of_host("1024\t24\t9223372036854775807\n"), Some((1_000, i64::MAX as u64)));
        for odd in ["", "1 2", "1 x 3"] {
            assert_eq!(of_host(odd), None);
        }
    }

    #[test]
    fn the_kernel_has_a_name_and_has_been_up() {
        assert!(kernel().starts_with("Linux "), "{}", kernel());
    }
}
