//! The file that the book is kept in: one process at a time, and each change durable before anybody hears of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::book::Book;
use crate::error::{Error, Result};
use crate::outside::files;

/// More than any book has, in bytes.
const LIMIT: usize = 128 << 20;

/// The file, held until this is dropped; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub(super) struct Keep {
    path: PathBuf,
    _lock: File,
}

fn failed(attempt: &str, path: &Path, error: io::Error) -> Error {
    Error::unavailable("PAPER_FILE_FAILED", format!("can't {attempt} {}", path.display()))
        .caused_by(error)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

impl Keep {
    /// Opens the file; where it is not there yet, it begins with the first book.
    ///
    /// # Errors
    /// `PAPER_BUSY`, `PAPER_BOOK_INVALID`, `PAPER_FILE_FAILED`.
    pub(super) fn open(path: &Path, first: Option<&Path>) -> Result<(Self, Book)> {
        let path = std::path::absolute(path).map_err(|error| failed("find", path, error))?;
        let lock = beside(&path, ".lock");
        let file = File::options().create(true).truncate(false).write(true).open(&lock);
        let file = file.map_err(|error| failed("open", &lock, error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let message = format!(
                    "another paper venue keeps its book in {}; stop that one, or name another --file",
                    path.display()
                );
                return Err(Error::conflict("PAPER_BUSY", message));
            }
            Err(error) => return Err(failed("lock", &lock, error.into())),
        }
        let keep = Self { path, _lock: file };
        if let Some(book) = read(&keep.path)? {
            return Ok((keep, book));
        }
        let Some(first) = first else {
            let message = format!(
                "there is no book in {}; name the one to begin with as --book",
                keep.path.display()
            );
            return Err(Error::invalid("PAPER_BOOK_INVALID", message));
        };
        let Some(book) = read(first)? else {
            let message = format!("there is no book in {}", first.display());
            return Err(Error::invalid("PAPER_BOOK_INVALID", message));
        };
        keep.save(&book).map_err(|error| failed("write", &keep.path, error))?;
        Ok((keep, book))
    }

    /// Writes the book. Durable when it returns.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn save(&self, book: &Book) -> io::Result<()> {
        // Whoever holds the lock is the only one who writes this name, so that a crash leaves one file at most.
        let new = beside(&self.path, ".new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(book)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        files::sync_folder_of(&self.path)
    }
}

fn read(path: &Path) -> Result<Option<Book>> {
    let bytes = match files::read_small(path, LIMIT) {
        Ok((bytes, _)) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path, error)),
    };
    let book = Book::parse(&bytes).map_err(|why| {
        Error::invalid("PAPER_BOOK_INVALID", format!("{} is no book: {why}", path.display()))
    })?;
    Ok(Some(book))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_begins_once_and_is_one_process_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (file, first) = (folder.path().join("kept.json"), folder.path().join("first.json"));
        let code = |first: Option<&Path>| Keep::open(&file, first).unwrap_err().code;
        assert_eq!(code(None), "PAPER_BOOK_INVALID");
        assert_eq!(code(Some(&first)), "PAPER_BOOK_INVALID");
        fs::write(&first, r#"{"venues": {"a": {"positions": {"X": "1.50"}}}}"#).unwrap();
        let (keep, mut book) = Keep::open(&file, Some(&first)).unwrap();
        assert_eq!(code(Some(&first)), "PAPER_BUSY");
        book.epoch = 7;
        keep.save(&book).unwrap();
        drop(keep);
        let (_keep, again) = Keep::open(&file, Some(&first)).unwrap();
        assert_eq!(again, book, "the first book counts only once");
        assert!(!beside(&file, ".new").exists());
    }
}
