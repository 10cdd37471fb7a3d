//! Files of the host: looking at them, renaming and removing them durably.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};

/// What a path is, looked at without following a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// What sort of file.
    pub kind: FileKind,
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Hard links.
    pub links: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// What it takes on disk, in bytes: less than its size where it has holes.
    pub allocated_bytes: u64,
    /// Last modification, nanoseconds since the epoch.
    pub modified_at: i64,
    /// Whether others than owner and group may rename files in its folder.
    pub folder_world_writable: bool,
}

/// The sort of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A folder.
    Folder,
    /// A socket or a device.
    Other,
}

/// Looks at `path` without following a link; `None` when there is nothing.
///
/// # Errors
/// When it can't be looked at.
pub fn look(path: &Path) -> io::Result<Option<FileFacts>> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kind = match metadata.file_type() {
        kind if kind.is_file() => FileKind::Regular,
        kind if kind.is_symlink() => FileKind::Symlink,
        kind if kind.is_fifo() => FileKind::Fifo,
        kind if kind.is_dir() => FileKind::Folder,
        _ => FileKind::Other,
    };
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Others may write and the sticky bit does not keep them from renaming what is not theirs.
    let folder_world_writable = fs::metadata(folder)?.mode() & 0o1002 == 0o0002;
    Ok(Some(FileFacts {
        kind,
        device: metadata.dev(),
        inode: metadata.ino(),
        links: metadata.nlink(),
        bytes: metadata.len(),
        allocated_bytes: metadata.blocks().saturating_mul(512),
        modified_at: metadata
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.mtime_nsec()),
        folder_world_writable,
    }))
}

/// Renames within one folder; an existing target is an error. Durable when it returns.
///
/// # Errors
/// When the rename or the sync of the folder fails.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?;
    sync_folder_of(to)
}

/// Puts two things in each other's place. Durable when it returns.
///
/// # Errors
/// When the rename or the sync of the folder fails.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?;
    sync_folder_of(other)
}

/// Removes a file; one that is not there is no error. Durable when it returns.
///
/// # Errors
/// When the removal or the sync of the folder fails.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder_of(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the names in the folder of `path` durable.
///
/// # Errors
/// When the folder can't be opened or synced.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Creates a folder and its parents (mode 0700), durably.
///
/// # Errors
/// When one can't be made.
pub fn create_folders(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent()
        && !parent.as_os_str().is_empty()
    {
        create_folders(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => sync_folder_of(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Calls `f` with every regular file below a folder, links not followed; none where there is no folder.
///
/// # Errors
/// When a folder can't be read.
pub fn walk(folder: &Path, f: &mut dyn FnMut(&Path)) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), f)?;
        } else if kind.is_file() {
            f(&entry.path());
        }
    }
    Ok(())
}

/// The texts of files, with their names; of a folder those in it, sorted, but for hidden ones and backups.
/// Bytes that are no UTF-8 are replaced.
///
/// # Errors
/// The first path that can't be read, with the reason.
pub fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, (PathBuf, io::Error)> {
    let mut texts = Vec::new();
    for path in paths {
        let failed = |error| (path.clone(), error);
        let mut files = Vec::new();
        if path.is_dir() {
            for entry in fs::read_dir(path).map_err(failed)? {
                files.push(entry.map_err(failed)?.path());
            }
            files.retain(|file| {
                let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
                let name = name.unwrap_or_default();
                let left = [".bak", "~", ".dpkg-old", ".dpkg-dist", ".dpkg-new", ".disabled"];
                file.is_file()
                    && !name.starts_with('.')
                    && !left.iter().any(|end| name.ends_with(end))
            });
            files.sort();
        } else {
            files.push(path.clone());
        }
        for file in files {
            let bytes = fs::read(&file).map_err(|error| (file.clone(), error))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            texts.push((file.display().to_string(), text));
        }
    }
    Ok(texts)
}

/// The last whole lines of a file, at most `limit` bytes of them.
///
/// # Errors
/// When it can't be read.
pub fn last_lines(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};

    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let from = size.saturating_sub(limit);
    // One byte earlier, to see whether a line begins right there.
    file.seek(SeekFrom::Start(from.saturating_sub(1)))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    let begin = match from {
        0 => 0,
        _ => bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1),
    };
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(begin, |at| at + 1);
    Ok(bytes.get(begin..end.max(begin)).unwrap_or_default().to_vec())
}

/// Opens a regular file for reading without following a link.
///
/// # Errors
/// When it can't be opened so.
pub fn open_no_follow(path: &Path) -> io::Result<File> {
    // NONBLOCK, so that a FIFO put in its place can't hang the agent.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Reads a regular file of at most `limit` bytes, and what it is. It is opened once, so that what was looked at is what is
/// read; a link is followed.
///
/// # Errors
/// When it can't be read, or is something else: nobody waits for who writes into a FIFO.
pub fn read_small(path: &Path, limit: usize) -> io::Result<(Vec<u8>, fs::Metadata)> {
    use std::io::Read;

    let file = open_idle(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > limit {
        true => Err(io::Error::other(format!("has more than {limit} bytes"))),
        false => Ok((bytes, facts)),
    }
}

/// [`read_small`] of a file that has to be below a folder without links when it is open: whoever may change what is there
/// could make it lead elsewhere since it was looked at.
///
/// # Errors
/// Those of [`read_small`], and where it is elsewhere.
pub fn read_below(folder: &Path, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    let file = open_idle(path)?;
    let place = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if !place.starts_with(folder) {
        return Err(io::Error::other("leads elsewhere"));
    }
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > limit {
        true => Err(io::Error::other(format!("has more than {limit} bytes"))),
        false => Ok(bytes),
    }
}

/// Opens a file for reading without waiting for who writes into a FIFO.
fn open_idle(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// What [`replace`] writes begins with that, until it is whole.
pub const REPLACING: &str = ".genesis-new-";

/// Replaces a file's content in one step, keeping its mode and owner; a file that is not there is made. Durable when it
/// returns.
///
/// # Errors
/// When it can't be written: what was there stays.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;

    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::with_prefix_in(REPLACING, folder)?;
    file.write_all(content)?;
    match fs::metadata(path) {
        Ok(old) => {
            file.as_file().set_permissions(old.permissions())?;
            // Only root can give a file away; for others it is theirs already or the folder says who may read it.
            // By the open file: its name may be another's by now, where others may write to the folder.
            let _ = std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder_of(path)
}

/// Device and inode of an open file.
///
/// # Errors
/// When it can't be looked at.
pub fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// What is free for this user on the disk of a folder, or of the one that it will be made in, in bytes.
///
/// # Errors
/// When it can't be looked at.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(existing(folder))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Whether two folders lie on the same disk; false where that can't be told.
pub fn same_disk(one: &Path, other: &Path) -> bool {
    let device = |folder: &Path| fs::metadata(existing(folder)).map(|facts| facts.dev()).ok();
    device(one).is_some() && device(one) == device(other)
}

/// The folder itself, or the nearest above it that is there.
fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"))
}

/// Reserves so many bytes on disk for a file, without making it longer. On a file system that can't, nothing is.
///
/// # Errors
/// When there is no room.
pub fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::io::Errno;

    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes.max(1)) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// sha256 of a file, hexadecimal.
///
/// # Errors
/// When it can't be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    use std::io::Read;

    use sha2::Digest;

    let (mut file, mut hash) = (File::open(path)?, sha2::Sha256::new());
    let mut window = vec![0; 256 << 10];
    loop {
        match file.read(&mut window)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&window[..read]),
        }
    }
}

/// Whether the agent may make and rename files in `folder`.
pub fn may_change(folder: &Path) -> bool {
    rustix::fs::accessat(
        CWD,
        folder,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
        AtFlags::EACCESS,
    )
    .is_ok()
}

/// `*` stays within a folder and does not match hidden files.
const MATCHING: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Whether a glob could match a path, whether or not that exists.
///
/// # Errors
/// The message of what is wrong with the pattern.
pub fn could_match(pattern: &str, path: &Path) -> Result<bool, String> {
    let pattern = glob::Pattern::new(pattern).map_err(|error| error.msg.to_owned())?;
    Ok(pattern.matches_path_with(path, MATCHING))
}

/// What matches a glob, and what could not be looked into.
#[derive(Debug, Default)]
pub struct Matches {
    /// Sorted. A pattern without a wildcard names its own path, whether or not that exists.
    pub paths: Vec<PathBuf>,
    /// Folders that could not be read, with the reason: they may hide files.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Expands a glob.
///
/// # Errors
/// The message of what is wrong with the pattern.
pub fn matching(pattern: &str) -> Result<Matches, String> {
    let mut matches = Matches::default();
    if !pattern.contains(['*', '?', '[']) {
        matches.paths.push(PathBuf::from(pattern));
        return Ok(matches);
    }
    for found in glob::glob_with(pattern, MATCHING).map_err(|error| error.msg.to_owned())? {
        match found {
            Ok(path) => matches.paths.push(path),
            Err(error) => {
                matches.unreadable.push((error.path().to_owned(), error.error().to_string()))
            }
        }
    }
    matches.paths.sort();
    Ok(matches)
}

/// Whether files can be made in `folder`, or it can be made itself.
///
/// # Errors
/// What is in the way, in words.
pub fn writable(folder: &Path) -> Result<(), String> {
    let mut existing = folder;
    while !existing.exists() {
        match existing.parent() {
            Some(parent) => existing = parent,
            None => break,
        }
    }
    if !existing.is_dir() {
        return Err(format!(
            "{} can't be a folder: {} is not one",
            folder.display(),
            existing.display()
        ));
    }
    if may_change(existing) {
        Ok(())
    } else {
        Err(format!(
            "this user may not write to {}; mend its owner or mode, or name another folder",
            existing.display()
        ))
    }
}
