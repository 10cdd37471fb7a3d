//! Taking the head off a file that its writers keep open: copying it, and cutting it out under them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom as Whence};
use rustix::io::Errno;

/// How much is held in memory while a file is read through, in bytes.
const WINDOW: usize = 256 << 10;
/// The magic numbers of the file systems that can collapse, from Linux's magic.h.
const EXT4: i64 = 0xEF53;
const XFS: i64 = 0x5846_5342;

/// Opens a log for reading and for cutting its head off, without following a link.
///
/// # Errors
/// When it can't be opened so.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Whether blocks can be cut out of the front of the file at `path`, or of one that is made there.
///
/// # Errors
/// Why not, in words, with what to do instead.
pub fn can_collapse(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let refused = |why: String| {
        Err(format!(
            "{shown} can't be rotated by collapse: {why}; put it on ext4 or xfs, or use rotate_mode = \"reopen\""
        ))
    };
    match open(path) {
        Ok(file) => match probe(&file) {
            Ok(()) => Ok(()),
            Err(why) => refused(why),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut folder = path.parent();
            while let Some(missing) = folder.filter(|folder| !folder.exists()) {
                folder = missing.parent();
            }
            match rustix::fs::statfs(folder.unwrap_or(Path::new("/"))) {
                Ok(found) if [EXT4, XFS].contains(&found.f_type) => Ok(()),
                Ok(_) => refused("its file system can't cut blocks out of a file".into()),
                Err(error) => refused(format!("its folder can't be looked at ({error})")),
            }
        }
        Err(error) => refused(format!("it can't be opened for writing ({error})")),
    }
}

/// Asks the kernel to collapse a range that no file system accepts, since it is no whole block: one that can
/// collapse says so (EINVAL, before it looks at anything else), one that can't says EOPNOTSUPP.
///
/// # Errors
/// Why not, in words.
pub fn probe(file: &File) -> Result<(), String> {
    match rustix::fs::fallocate(file, FallocateFlags::COLLAPSE_RANGE, 0, 1) {
        Err(Errno::INVAL) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            Err("its file system can't cut blocks out of a file".into())
        }
        Err(Errno::PERM) => Err("it has the attribute append-only or immutable (lsattr)".into()),
        Err(error) => Err(format!("the kernel says {error}")),
        Ok(()) => Err("the kernel took a range that it should have refused".into()),
    }
}

/// The size in bytes that a collapsed range must be a multiple of.
///
/// # Errors
/// When the file system can't be looked at.
pub fn block_bytes(file: &File) -> io::Result<u64> {
    let found = rustix::fs::fstatfs(file)?;
    u64::try_from(found.f_bsize)
        .ok()
        .filter(|bytes| bytes.is_power_of_two())
        .ok_or_else(|| io::Error::other("the file system names no block size"))
}

/// Cuts `bytes` out of the front of the file, durably. They must be whole blocks and not reach its end.
///
/// # Errors
/// What the kernel says; nothing was cut out then.
pub fn collapse(file: &File, bytes: u64) -> io::Result<()> {
    rustix::fs::fallocate(file, FallocateFlags::COLLAPSE_RANGE, 0, bytes)?;
    file.sync_all()
}

/// Where the data of a sparse file begins: behind the hole that a truncation leaves under a writer that does
/// not append. The length of the file where there is none.
///
/// # Errors
/// When it can't be read.
pub fn data_begins(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut at = match rustix::fs::seek(file, Whence::Data(0)) {
        Ok(at) => at,
        Err(Errno::NXIO) => return Ok(length),
        // A file system without holes.
        Err(Errno::INVAL) => 0,
        Err(error) => return Err(error.into()),
    };
    if at == 0 {
        // It begins with what somebody has written, were it NULs.
        return Ok(0);
    }
    let mut window = vec![0; WINDOW];
    loop {
        let read = file.read_at(&mut window, at)?;
        if read == 0 {
            return Ok(length);
        }
        if let Some(first) = window[..read].iter().position(|byte| *byte != 0) {
            return Ok(at + first as u64);
        }
        at += read as u64;
    }
}

/// The first line end at or behind `at`, as the offset behind it.
///
/// # Errors
/// When it can't be read.
pub fn line_end_from(file: &File, at: u64) -> io::Result<Option<u64>> {
    let (mut at, mut window) = (at, vec![0; WINDOW]);
    loop {
        let read = file.read_at(&mut window, at)?;
        if read == 0 {
            return Ok(None);
        }
        if let Some(found) = memchr::memchr(b'\n', &window[..read]) {
            return Ok(Some(at + found as u64 + 1));
        }
        at += read as u64;
    }
}

/// The last line end within `from..until`, as the offset behind it.
///
/// # Errors
/// When it can't be read.
pub fn line_end_before(file: &File, from: u64, until: u64) -> io::Result<Option<u64>> {
    let mut end = until;
    while end > from {
        let begin = from.max(end.saturating_sub(WINDOW as u64));
        // At most WINDOW.
        let mut window = vec![0; usize::try_from(end - begin).map_err(io::Error::other)?];
        file.read_exact_at(&mut window, begin)?;
        if let Some(found) = memchr::memrchr(b'\n', &window) {
            return Ok(Some(begin + found as u64 + 1));
        }
        end = begin;
    }
    Ok(None)
}

/// blake3 of a part of a file, hexadecimal; `None` where the file is shorter.
///
/// # Errors
/// When it can't be read.
pub fn hash(file: &File, from: u64, until: u64) -> io::Result<Option<String>> {
    let mut hasher = blake3::Hasher::new();
    let whole = read_through(file, from, until, |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    Ok(whole.then(|| hasher.finalize().to_hex().to_string()))
}

/// Copies a part of a file to a new one at `to` (mode 0600), durably; false where the file is shorter.
///
/// # Errors
/// When one can't be read or the other not be written.
pub fn copy(file: &File, from: u64, until: u64, to: &Path) -> io::Result<bool> {
    let mut copy =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(to)?;
    let whole = read_through(file, from, until, |bytes| copy.write_all(bytes))?;
    copy.sync_all()?;
    super::files::sync_folder_of(to)?;
    Ok(whole)
}

/// Appends what a file holds from `from` on to the copy at `to`, durably; returns where it ended.
///
/// # Errors
/// When one can't be read or the other not be written.
pub fn copy_tail(file: &File, from: u64, to: &Path) -> io::Result<u64> {
    let mut copy = OpenOptions::new().append(true).open(to)?;
    let (mut at, mut window) = (from, vec![0; WINDOW]);
    loop {
        let read = file.read_at(&mut window, at)?;
        if read == 0 {
            break;
        }
        copy.write_all(&window[..read])?;
        at += read as u64;
    }
    copy.sync_all()?;
    Ok(at)
}

/// Calls `f` with the bytes of `from..until`; false when the file ends before.
fn read_through(
    file: &File,
    from: u64,
    until: u64,
    mut f: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    let (mut at, mut window) = (from, vec![0; WINDOW]);
    while at < until {
        let want = usize::try_from(until - at).map_or(WINDOW, |left| left.min(WINDOW));
        let read = file.read_at(&mut window[..want], at)?;
        if read == 0 {
            return Ok(false);
        }
        f(&window[..read])?;
        at += read as u64;
    }
    Ok(true)
}

/// Whether the bytes of `file` from `from` on are those of the whole copy, but where `mark`, an offset in the
/// file and bytes, stands over them in part or whole.
///
/// # Errors
/// When one can't be read.
pub fn is_copied(file: &File, from: u64, mark: (u64, &[u8]), copy: &mut File) -> io::Result<bool> {
    copy.seek(SeekFrom::Start(0))?;
    let (mut at, mut theirs, mut ours) = (from, vec![0; WINDOW], vec![0; WINDOW]);
    let marked = |at: u64| {
        let index = usize::try_from(at.checked_sub(mark.0)?).ok()?;
        mark.1.get(index).copied()
    };
    loop {
        let read = copy.read(&mut ours)?;
        if read == 0 {
            return Ok(true);
        }
        match file.read_exact_at(&mut theirs[..read], at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        if theirs[..read] != ours[..read] {
            let pairs = (at..).zip(theirs[..read].iter().zip(&ours[..read]));
            for (at, (their, our)) in pairs {
                if their != our && marked(at) != Some(*their) {
                    return Ok(false);
                }
            }
        }
        at += read as u64;
    }
}

/// Writes the mark over the bytes at `at`, durably. They must be in a copy that is durable.
///
/// # Errors
/// When it can't be written; part of it may be.
pub fn mark(file: &File, at: u64, mark: &str) -> io::Result<()> {
    file.write_all_at(mark.as_bytes(), at)?;
    file.sync_all()
}

/// Whether the mark stands at `at`.
///
/// # Errors
/// When it can't be read.
pub fn is_marked(file: &File, at: u64, mark: &str) -> io::Result<bool> {
    let mut seen = vec![0; mark.len()];
    match file.read_exact_at(&mut seen, at) {
        Ok(()) => Ok(seen == mark.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(bytes: &[u8]) -> (tempfile::TempDir, File) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        std::fs::write(&path, bytes).unwrap();
        let file = open(&path).unwrap();
        (folder, file)
    }

    #[test]
    fn line_ends_are_found_across_windows() {
        let mut bytes = vec![b'x'; 3 * WINDOW];
        bytes[10] = b'\n';
        bytes[2 * WINDOW + 5] = b'\n';
        let (_folder, file) = file_with(&bytes);
        assert_eq!(line_end_from(&file, 0).unwrap(), Some(11));
        assert_eq!(line_end_from(&file, 10).unwrap(), Some(11));
        assert_eq!(line_end_from(&file, 11).unwrap(), Some(2 * WINDOW as u64 + 6));
        assert_eq!(line_end_from(&file, 2 * WINDOW as u64 + 6).unwrap(), None);
        let all = bytes.len() as u64;
        assert_eq!(line_end_before(&file, 0, all).unwrap(), Some(2 * WINDOW as u64 + 6));
        assert_eq!(line_end_before(&file, 0, 2 * WINDOW as u64).unwrap(), Some(11));
        assert_eq!(line_end_before(&file, 11, 2 * WINDOW as u64).unwrap(), None);
        assert_eq!(line_end_before(&file, 5, 5).unwrap(), None);
    }

    #[test]
    fn a_hole_at_the_front_is_passed_over_and_written_nuls_are_not() {
        let (_folder, file) = file_with(b"");
        assert_eq!(data_begins(&file).unwrap(), 0);
        file.write_all_at(b"line\n", 1 << 20).unwrap();
        assert_eq!(data_begins(&file).unwrap(), 1 << 20);
        let (_folder, file) = file_with(b"\0\0line\n");
        assert_eq!(data_begins(&file).unwrap(), 0);
    }

    #[test]
    fn a_copy_is_compared_and_extended() {
        let (folder, file) = file_with(b"one\ntwo\nthree\n");
        let to = folder.path().join("copy");
        assert!(copy(&file, 4, 8, &to).unwrap());
        assert!(!copy(&file, 4, 80, &folder.path().join("short")).unwrap());
        let same =
            |from, mark| is_copied(&file, from, mark, &mut File::open(&to).unwrap()).unwrap();
        assert!(same(4, (0, b"")));
        assert!(!same(0, (0, b"")));
        assert!(!same(13, (0, b"")), "it ends before");
        assert!(same(0, (0, b"one\n")), "all of it is the mark");
        assert!(same(0, (0, b"one\nMARK")), "and a mark that is longer");
        assert!(!same(0, (0, b"on")), "but for one byte");
        assert_eq!(copy_tail(&file, 8, &to).unwrap(), 14);
        assert_eq!(std::fs::read(&to).unwrap(), b"two\nthree\n");
        assert_eq!(hash(&file, 0, 99).unwrap(), None);
        assert_eq!(
            hash(&file, 4, 8).unwrap().unwrap(),
            blake3::hash(b"two\n").to_hex().to_string()
        );
        mark(&file, 4, "MARK").unwrap();
        assert!(is_marked(&file, 4, "MARK").unwrap());
        assert!(!is_marked(&file, 0, "MARK").unwrap());
        assert!(!is_marked(&file, 13, "MARK").unwrap());
    }
}
