//! The speed of a disk.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use crate::outside::{Clock, files};

/// The most that a test of a disk writes, in bytes.
pub const DISK_TEST_LIMIT: u64 = 16 << 20;

/// How fast a disk took and gave back some bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskSpeed {
    /// What was written.
    pub written_bytes: u64,
    /// Until the kernel had them.
    pub write_seconds: f64,
    /// From then on until the disk had them.
    pub fsync_seconds: f64,
    /// What was read back.
    pub read_bytes: u64,
    /// Until they were read; the kernel was asked to forget them before, which it does not on every file system.
    pub read_seconds: f64,
}

/// Writes a file of `bytes`, at most 16 MiB, to the disk of `folder`, and reads it back. The file has no name, so that
/// nothing is left of it whatever happens.
///
/// # Errors
/// Why that failed, in words; also when it would take more than a fraction of the room.
pub fn disk_speed(clock: &dyn Clock, folder: &Path, bytes: u64) -> Result<DiskSpeed, String> {
    if bytes == 0 || bytes > DISK_TEST_LIMIT {
        return Err(format!("{bytes} bytes are not from 1 to {DISK_TEST_LIMIT}"));
    }
    let shown = folder.display();
    let free =
        files::free_bytes(folder).map_err(|error| format!("can't look at {shown}: {error}"))?;
    if free / 16 < bytes {
        return Err(format!(
            "{shown} has only {free} bytes free, and is not written to for a test"
        ));
    }
    try_disk(clock, folder, bytes).map_err(|error| format!("can't measure {shown}: {error}"))
}

fn try_disk(clock: &dyn Clock, folder: &Path, bytes: u64) -> io::Result<DiskSpeed> {
    // Nothing that a file system could compress.
    let mut window = vec![0; 256 << 10];
    blake3::Hasher::new().finalize_xof().fill(&mut window);
    let mut file = tempfile::tempfile_in(folder)?;
    let time = |work: &mut dyn FnMut(&mut File) -> io::Result<u64>, file: &mut File| {
        let began = clock.monotonic();
        let count = work(file)?;
        Ok::<_, io::Error>((count, clock.monotonic().saturating_sub(began).as_secs_f64()))
    };
    let mut write = |file: &mut File| {
        let mut left = bytes;
        while left > 0 {
            let part = window.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&window[..part])?;
            left -= part as u64;
        }
        Ok(bytes)
    };
    let (written_bytes, write_seconds) = time(&mut write, &mut file)?;
    let (_, fsync_seconds) = time(&mut |file| file.sync_all().map(|()| 0), &mut file)?;
    // Where it is not heard, memory is measured; the field says so.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    file.rewind()?;
    let mut read = |file: &mut File| {
        let mut count = 0;
        loop {
            match file.read(&mut window)? {
                0 => return Ok(count),
                part => count += part as u64,
            }
        }
    };
    let (read_bytes, read_seconds) = time(&mut read, &mut file)?;
    if read_bytes != bytes {
        return Err(io::Error::other(format!("{bytes} bytes were written and {read_bytes} read")));
    }
    Ok(DiskSpeed { written_bytes, write_seconds, fsync_seconds, read_bytes, read_seconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::{ManualClock, SystemClock};

    #[test]
    fn a_disk_is_measured_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = (1 << 20) + 1;
        let speed = disk_speed(&SystemClock::new(), folder.path(), bytes).unwrap();
        assert_eq!((speed.written_bytes, speed.read_bytes), (bytes, bytes));
        assert!(speed.write_seconds > 0.0 && speed.read_seconds > 0.0, "{speed:?}");
        let still = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(disk_speed(&still, folder.path(), 1).unwrap().write_seconds, 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        for (bytes, why) in [(0, "are not from 1"), (DISK_TEST_LIMIT + 1, "are not from 1")] {
            assert!(disk_speed(&still, folder.path(), bytes).unwrap_err().contains(why));
        }
        let said = disk_speed(&still, Path::new("/proc"), 1).unwrap_err();
        assert!(said.contains("/proc has only 0 bytes free"), "{said}");
        let gone = folder.path().join("gone");
        assert!(disk_speed(&still, &gone, 1).unwrap_err().contains("can't measure"));
    }
}
