//! The file under redb. Until an opened file is accepted, what redb would write to it (a repair,
//! its open mark) is held in memory, so that a file that is refused stays byte for byte as it was.

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

// Parts of redb's header: the flags, whose lowest bit chooses one of two commit slots; in a slot,
// the format's version (its first byte) and the number of the commit.
const HEADER: usize = 320;
const FLAGS: usize = 9;
const SLOTS: [usize; 2] = [64, 192];
const FORMAT: u8 = 3;
const COMMIT_ID: usize = 104;

/// The file; clones share it.
#[derive(Clone)]
pub(crate) struct HeldFile(Arc<Inner>);

struct Inner {
    file: FileBackend,
    go_forward: bool,
    unfinished_commit: AtomicBool,
    accepted: AtomicBool,
    held: Mutex<Vec<Operation>>,
    #[cfg(test)]
    path: std::path::PathBuf,
}

/// What redb did, in its order: replayed, it has the same crash safety.
#[cfg_attr(test, derive(Clone, Debug))]
pub(crate) enum Operation {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
    Sync,
}

impl HeldFile {
    /// With `go_forward`, redb is shown an unfinished commit as if it were finished. The path is for
    /// the tests' faults.
    pub(crate) fn new(file: FileBackend, go_forward: bool, path: &std::path::Path) -> Self {
        #[cfg(not(test))]
        let _ = path;
        Self(Arc::new(Inner {
            file,
            go_forward,
            unfinished_commit: AtomicBool::new(false),
            accepted: AtomicBool::new(false),
            held: Mutex::new(Vec::new()),
            #[cfg(test)]
            path: path.to_owned(),
        }))
    }

    /// Carries out what was held back, and from now on everything at once.
    pub(crate) fn accept(&self) -> io::Result<()> {
        let mut held = self.held();
        for operation in held.drain(..) {
            #[cfg(test)]
            self.before(operation.clone())?;
            match operation {
                Operation::Write { offset, data } => self.file().write(offset, &data)?,
                Operation::SetLen(length) => self.file().set_len(length)?,
                Operation::Sync => self.file().sync_data()?,
            }
        }
        self.0.accepted.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether the header holds a newer commit than the one that it points at, as seen when the
    /// file was locked.
    ///
    /// A commit is flushed before the header's flag is turned to it. So either a crash came in
    /// between, or the flag itself, which no checksum covers, is damaged: then the older commit
    /// would silently undo the newer one, perhaps an acknowledged one. Going forward is right in
    /// both cases, if the newer commit is whole.
    pub(crate) fn has_unfinished_commit(&self) -> bool {
        self.0.unfinished_commit.load(Ordering::Acquire)
    }

    fn look_for_unfinished_commit(&self) -> io::Result<()> {
        let mut header = [0; HEADER];
        if self.file().len()? < header.len() as u64 {
            return Ok(());
        }
        self.file().read(0, &mut header)?;
        let commit = |slot: usize| {
            let id: [u8; 8] = header[slot + COMMIT_ID..][..8].try_into().ok()?;
            (header[slot] == FORMAT).then_some(u64::from_le_bytes(id))
        };
        let flags = header[FLAGS];
        if let (Some(first), Some(second)) = (commit(SLOTS[0]), commit(SLOTS[1])) {
            let (chosen, other) = if flags & 1 == 0 { (first, second) } else { (second, first) };
            if other > chosen {
                self.0.unfinished_commit.store(true, Ordering::Release);
                if self.0.go_forward {
                    let data = vec![flags ^ 1];
                    self.hold(Operation::Write { offset: FLAGS as u64, data });
                }
            }
        }
        Ok(())
    }

    fn file(&self) -> &FileBackend {
        &self.0.file
    }

    fn is_accepted(&self) -> bool {
        self.0.accepted.load(Ordering::Acquire)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Operation>> {
        // Each change of the list is one push, so a panic leaves it whole.
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, operation: Operation) {
        self.held().push(operation);
    }

    /// Lets a test record the change, or make it fail.
    #[cfg(test)]
    fn before(&self, operation: Operation) -> io::Result<()> {
        crate::tests::faults::before(&self.0.path, operation)
    }
}

impl fmt::Debug for HeldFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.file.fmt(f)
    }
}

impl StorageBackend for HeldFile {
    fn len(&self) -> io::Result<u64> {
        let length = self.file().len()?;
        if self.is_accepted() {
            return Ok(length);
        }
        Ok(self.held().iter().fold(length, |length, operation| match operation {
            Operation::Write { offset, data } => length.max(offset + data.len() as u64),
            Operation::SetLen(length) => *length,
            Operation::Sync => length,
        }))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.is_accepted() || self.held().is_empty() {
            return self.file().read(offset, out);
        }
        let end = offset.saturating_add(out.len() as u64);
        if end > self.len()? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        out.fill(0);
        let (in_file, _) = split(out, offset, self.file().len()?);
        self.file().read(offset, in_file)?;
        for operation in self.held().iter() {
            match operation {
                Operation::Write { offset: at, data } => overlay(out, offset, data, *at),
                Operation::SetLen(length) => split(out, offset, *length).1.fill(0),
                Operation::Sync => {}
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if self.is_accepted() {
            #[cfg(test)]
            self.before(Operation::SetLen(length))?;
            return self.file().set_len(length);
        }
        self.hold(Operation::SetLen(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_accepted() {
            #[cfg(test)]
            self.before(Operation::Sync)?;
            return self.file().sync_data();
        }
        self.hold(Operation::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.is_accepted() {
            #[cfg(test)]
            self.before(Operation::Write { offset, data: data.to_owned() })?;
            return self.file().write(offset, data);
        }
        self.hold(Operation::Write { offset, data: data.to_owned() });
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file().close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        let locked = self.file().try_lock_range(start, end)?;
        // redb locks before it reads; only now can no other process change the header.
        if locked && !self.is_accepted() && !self.has_unfinished_commit() {
            self.look_for_unfinished_commit().map_err(BackendError::Io)?;
        }
        Ok(locked)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file().try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file().lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file().lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file().unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file().query_lock_range(start, end)
    }
}

/// Splits a buffer that stands for a file's bytes from `offset` on at the file position `at`.
fn split(buffer: &mut [u8], offset: u64, at: u64) -> (&mut [u8], &mut [u8]) {
    let middle = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
    let middle = middle.min(buffer.len());
    buffer.split_at_mut(middle)
}

/// Copies the part of `data`, which belongs at file position `at`, that falls into the buffer.
fn overlay(buffer: &mut [u8], offset: u64, data: &[u8], at: u64) {
    let (before, from) = split(buffer, offset, at);
    // One of the two is empty: either the buffer begins before the data, or the other way round.
    let skipped = if before.is_empty() { offset.saturating_sub(at) } else { 0 };
    let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(data.len());
    let data = &data[skipped..];
    let length = data.len().min(from.len());
    from[..length].copy_from_slice(&data[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let write = (0u64..60, prop::collection::vec(1u8.., 0..20))
            .prop_map(|(offset, data)| Step::Write(offset, data));
        prop::collection::vec(prop_oneof![write, (0u64..80).prop_map(Step::SetLen)], 0..12)
    }

    proptest! {
        /// Held or carried out, redb sees the same bytes, and the file changes only at the end.
        #[test]
        fn held_operations_read_like_done_ones(start in prop::collection::vec(1u8.., 0..50), steps in steps()) {
            let folder = crate::tests::folder();
            let (held_path, done_path) = (folder.path().join("held"), folder.path().join("done"));
            std::fs::write(&held_path, &start).unwrap();
            std::fs::write(&done_path, &start).unwrap();
            let open = |path: &std::path::Path| {
                let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
                HeldFile::new(FileBackend::new(file).unwrap(), false, path)
            };
            let (held, done) = (open(&held_path), open(&done_path));
            done.accept().unwrap();
            for step in &steps {
                for file in [&held, &done] {
                    match step {
                        Step::Write(offset, data) if data.is_empty() => {
                            file.read(*offset, &mut []).ok();
                        }
                        Step::Write(offset, data) => file.write(*offset, data).unwrap(),
                        Step::SetLen(length) => file.set_len(*length).unwrap(),
                    }
                }
                prop_assert_eq!(held.len().unwrap(), done.len().unwrap());
                for offset in (0..held.len().unwrap()).step_by(7) {
                    for length in [1, 5, 33] {
                        let (mut a, mut b) = (vec![9; length], vec![9; length]);
                        let outcome = held.read(offset, &mut a).is_ok();
                        prop_assert_eq!(outcome, done.read(offset, &mut b).is_ok());
                        prop_assert!(!outcome || a == b, "{:?} {:?}", a, b);
                    }
                }
            }
            prop_assert_eq!(std::fs::read(&held_path).unwrap(), start);
            held.accept().unwrap();
            prop_assert_eq!(std::fs::read(&held_path).unwrap(), std::fs::read(&done_path).unwrap());
        }
    }
}
