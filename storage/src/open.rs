//! Opening and creating the file.
//!
//! Opening verifies the checksum of every page in use (hundreds of megabytes a second), clean
//! shutdown or not: redb trusts the pages of a file that was shut down cleanly and may panic on
//! damaged ones later, and the rebuild that an unclean shutdown needs costs the same. Only a file
//! that was proven before, and that nobody has written to since it was closed, is believed: see
//! `seal.rs`.

use std::any::Any;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, TableError};

use crate::backend::HeldFile;
use crate::error::{BoxError, OpenError};
use crate::schema::{SCHEMA_ROW, Schema};
use crate::seal;

/// redb's page size, and the length of its header.
const PAGE_BYTES: u64 = 4096;
/// What redb's files begin with.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// Opens the file; creates it where there is none.
pub(crate) fn open_or_create(
    path: &Path,
    cache_bytes: usize,
    schema: &Schema,
    seals: bool,
) -> Result<Held, OpenError> {
    match open(path, cache_bytes, schema, seals) {
        Err(OpenError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            create(path, cache_bytes, schema)?;
            open(path, cache_bytes, schema, seals)
        }
        outcome => outcome,
    }
}

/// Opens the file, which must exist. With `seals`, one that is sealed is believed.
pub(crate) fn open(
    path: &Path,
    cache_bytes: usize,
    schema: &Schema,
    seals: bool,
) -> Result<Held, OpenError> {
    let io_error = |source| io_error("open", path, source);
    let file = File::options().read(true).write(true).open(path).map_err(io_error)?;
    let metadata = file.metadata().map_err(io_error)?;
    if !metadata.is_file() {
        return Err(OpenError::NotOurs { path: path.to_owned() });
    }
    if metadata.len() < PAGE_BYTES {
        return Err(OpenError::Cut { path: path.to_owned(), bytes: metadata.len() });
    }
    let mut magic = [0; MAGIC.len()];
    file.read_exact_at(&mut magic, 0).map_err(io_error)?;
    if magic != MAGIC {
        return Err(OpenError::NotOurs { path: path.to_owned() });
    }
    let manner = Manner { cache_bytes, schema, prove: !(seals && seal::is_sealed(&file)) };
    let mut outcome = attempt(path, &file, manner, false);
    if outcome.as_ref().is_ok_and(|opened| opened.held.has_unfinished_commit()) {
        // Closes it first.
        drop(outcome);
        outcome = attempt(path, &file, manner, true);
        if let Err(OpenError::Corrupted { .. }) = outcome {
            // The newer commit had not reached the disk as a whole: the one before it counts.
            outcome = attempt(path, &file, manner, false);
        }
    }
    if let Err(OpenError::InUse { .. } | OpenError::Io { .. }) = outcome {
        return outcome.map(|opened| Held { database: opened.database, file });
    }
    // After the attempt, because only then is it known that no other process is changing the file.
    if let Some(bytes) = cut_to(&file).map_err(io_error)? {
        return Err(OpenError::Cut { path: path.to_owned(), bytes });
    }
    let Opened { database, held, complete } = outcome?;
    held.accept().map_err(|source| self::io_error("write to", path, source))?;
    if !complete {
        add_tables(&database, schema).map_err(|error| corrupted_or_io(path, error))?;
    }
    Ok(Held { database, file })
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) database: Database,
    /// The file itself, whatever its path names meanwhile. After the database, so that it is closed last.
    pub(crate) file: File,
}

#[derive(Clone, Copy)]
struct Manner<'a> {
    cache_bytes: usize,
    schema: &'a Schema,
    /// Verify every page.
    prove: bool,
}

struct Opened {
    database: Database,
    held: HeldFile,
    /// Whether it has all tables.
    complete: bool,
}

/// Opens the file without changing it.
fn attempt(
    path: &Path,
    file: &File,
    Manner { cache_bytes, schema, prove }: Manner<'_>,
    go_forward: bool,
) -> Result<Opened, OpenError> {
    let backend = file.try_clone().map_err(DatabaseError::from).and_then(FileBackend::new);
    let held = HeldFile::new(backend.map_err(|e| classify(path, e))?, go_forward, path);
    // redb asserts what it takes for granted in a file that it wrote, so that a damaged one may
    // panic before or while its checksums are verified. Unwinding drops all that the closure made,
    // and nothing was written yet: no half-changed state is seen afterwards. This needs
    // `panic = "unwind"`, the default of all profiles.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let database = engine(cache_bytes, prove).create_with_backend(held.clone());
        let database = database.map_err(|error| classify(path, error))?;
        let complete = check_schema(path, &database, schema)?;
        Ok((database, complete))
    }));
    let outcome = outcome.unwrap_or_else(|panic| Err(corrupted(path, panic_text(panic.as_ref()))));
    outcome.map(|(database, complete)| Opened { database, held, complete })
}

/// Creates the file under a temporary name beside it and moves it into place when all of it is on
/// the disk. A file that appeared meanwhile is left alone.
fn create(path: &Path, cache_bytes: usize, schema: &Schema) -> Result<(), OpenError> {
    let io_error = |source| io_error("create", path, source);
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Its mode is 0600, and it is deleted when dropped.
    let temporary = tempfile::Builder::new()
        .prefix(&format!(".{name}.creating-"))
        .tempfile_in(folder)
        .map_err(io_error)?;
    let file = temporary.reopen().map_err(io_error)?;
    let filled = FileBackend::new(file)
        .and_then(|backend| engine(cache_bytes, true).create_with_backend(backend))
        .map_err(redb::Error::from)
        .and_then(|database| {
            let transaction = database.begin_write()?;
            (schema.create_tables)(&transaction)?;
            {
                let mut meta = transaction.open_table(schema.meta)?;
                meta.insert(SCHEMA_ROW, schema.version.to_le_bytes().as_slice())?;
            }
            transaction.commit()?;
            database.close()?;
            Ok(())
        });
    filled.map_err(|error| match error {
        redb::Error::Io(source) => io_error(source),
        error => corrupted(path, error),
    })?;
    temporary.as_file().sync_all().map_err(io_error)?;
    match temporary.persist_noclobber(path) {
        Ok(_) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_error(error.error)),
    }
}

fn engine(cache_bytes: usize, prove: bool) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes).set_check_integrity_on_open(prove);
    builder
}

/// Whether the file is ours and not newer; true if it also has all tables.
fn check_schema(path: &Path, database: &Database, schema: &Schema) -> Result<bool, OpenError> {
    let not_ours = || OpenError::NotOurs { path: path.to_owned() };
    let transaction = database.begin_read().map_err(|error| corrupted_or_io(path, error.into()))?;
    let meta = transaction.open_table(schema.meta).map_err(|error| match error {
        TableError::Storage(error) => corrupted_or_io(path, error.into()),
        _ => not_ours(),
    })?;
    let row = meta.get(SCHEMA_ROW).map_err(|error| corrupted_or_io(path, error.into()))?;
    let row = row.ok_or_else(not_ours)?;
    let found = match <[u8; 4]>::try_from(row.value()) {
        Ok(bytes) => u32::from_le_bytes(bytes),
        Err(error) => return Err(corrupted(path, error)),
    };
    match found {
        version if version == schema.version => {
            (schema.has_tables)(&transaction).map_err(|error| corrupted_or_io(path, error.into()))
        }
        0 => Err(corrupted(path, "the schema version is 0")),
        _ => {
            Err(OpenError::NewerSchema { path: path.to_owned(), found, supported: schema.version })
        }
    }
}

/// Creates the tables that an earlier build of the same schema did not have.
fn add_tables(database: &Database, schema: &Schema) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    (schema.create_tables)(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// The file's length, if it is less than its header says. redb lengthens a file before its header
/// says so and shortens it afterwards, so that no crash leads to this.
fn cut_to(file: &File) -> io::Result<Option<u64>> {
    let mut header = [0; 32];
    let length = file.metadata()?.len();
    if length < PAGE_BYTES {
        return Ok(Some(length));
    }
    file.read_exact_at(&mut header, 0)?;
    let field = |at: usize| -> u64 {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u32::from_le_bytes(bytes).into()
    };
    // redb's header: page size, pages of a region's header and data, full regions, and the data
    // pages of the last, partial region.
    let (page, head, data, full, last) = (field(12), field(16), field(20), field(24), field(28));
    if page != PAGE_BYTES {
        // Damaged rather than cut; redb says so.
        return Ok(None);
    }
    let partial = if last > 0 { head + last } else { 0 };
    let pages = full.saturating_mul(head + data).saturating_add(partial).saturating_add(1);
    Ok((length < pages.saturating_mul(page)).then_some(length))
}

/// The error for a file that is gone.
pub(crate) fn missing(path: &Path) -> OpenError {
    io_error("open", path, ErrorKind::NotFound.into())
}

fn classify(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse { path: path.to_owned() }
        }
        error => corrupted_or_io(path, error.into()),
    }
}

fn corrupted_or_io(path: &Path, error: redb::Error) -> OpenError {
    match error {
        // A page number that points behind the end, or a header that isn't one.
        redb::Error::Io(source)
            if matches!(source.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) =>
        {
            corrupted(path, source)
        }
        redb::Error::Io(source) => io_error("open", path, source),
        error => corrupted(path, error),
    }
}

fn corrupted(path: &Path, source: impl Into<BoxError>) -> OpenError {
    OpenError::Corrupted { path: path.to_owned(), source: source.into() }
}

fn io_error(attempted: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { attempted, path: path.to_owned(), source }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the database engine gave up on it".to_owned())
}
