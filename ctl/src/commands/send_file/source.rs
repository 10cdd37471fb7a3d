//! Where lines are read from, and under whose name they are sent.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use genesis_client::observe::random_producer;
use genesis_client::{Error, Kind};
use sha2::{Digest, Sha256};

use super::lines::{self, Line};
use super::{FileArguments, FileFormat};
use crate::connect::Session;
use crate::exit::Halt;

const BUFFER: usize = 256 << 10;

/// What is read.
pub(super) struct Source {
    input: Input,
    path: PathBuf,
    /// A regular file as it was when it was opened.
    opened: Option<Seen>,
    pub(super) producer: String,
    /// The same content has the same producer.
    pub(super) repeatable: bool,
    pub(super) format: FileFormat,
    /// In bytes, where that is known.
    pub(super) size: u64,
    pub(super) read: u64,
}

enum Input {
    File(BufReader<File>),
    Stdin,
}

/// By which a change of a file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    size: u64,
    modified: (i64, i64),
}

impl Seen {
    fn of(found: &Metadata) -> Self {
        Self { size: found.size(), modified: (found.mtime(), found.mtime_nsec()) }
    }
}

impl Source {
    /// Opens what is named; a regular file is read once for its producer, which is another one with another `salt`.
    pub(super) fn open(
        session: &Session<'_>,
        arguments: &FileArguments,
        salt: &str,
    ) -> Result<Self, Halt> {
        let path = arguments.file.clone();
        let named = arguments.batch_id.clone();
        let repeatable = named.is_some();
        let mut source = Self {
            input: Input::Stdin,
            opened: None,
            producer: named.map_or_else(random_producer, Ok)?,
            repeatable,
            format: arguments.format,
            size: 0,
            read: 0,
            path,
        };
        if source.path != Path::new("-") {
            let file = File::open(&source.path).map_err(|error| source.cannot("open", &error))?;
            let found = file.metadata().map_err(|error| source.cannot("look at", &error))?;
            if found.is_dir() {
                let shown = source.path.display();
                return Err(Halt::Usage(format!("{shown} is a folder: name a file with --file")));
            }
            if found.is_file() {
                source.opened = Some(Seen::of(&found));
                source.size = found.size();
            }
            source.input = Input::File(BufReader::with_capacity(BUFFER, file));
            if found.is_file() && !repeatable && !arguments.again {
                source.producer = source.of_content(session, salt)?;
                source.repeatable = true;
            }
        }
        if source.format == FileFormat::Auto {
            source.format = source.guess(session)?;
        }
        Ok(source)
    }

    /// The producer that stands for what is in the file.
    fn of_content(&mut self, session: &Session<'_>, salt: &str) -> Result<String, Halt> {
        let bar = session.bar("looking whether it was there before");
        let (mut hash, mut done, size) = (Sha256::new(), 0, self.size);
        let Input::File(file) = &mut self.input else { return Ok(random_producer()?) };
        let mut hashed = || -> io::Result<()> {
            loop {
                let data = file.fill_buf()?;
                if data.is_empty() {
                    return file.rewind();
                }
                hash.update(data);
                let length = data.len();
                file.consume(length);
                done += length as u64;
                bar.bytes(done, size);
            }
        };
        let read = hashed();
        read.map_err(|error| self.cannot("read", &error))?;
        self.unchanged()?;
        hash.update(salt);
        Ok(format!("file-{}", &hex::encode(hash.finalize())[..32]))
    }

    /// By its name, else by its first character.
    fn guess(&mut self, session: &Session<'_>) -> Result<FileFormat, Halt> {
        let extension = self.path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str() {
            Some("csv") => return Ok(FileFormat::Csv),
            Some("ndjson" | "jsonl" | "json") => return Ok(FileFormat::Ndjson),
            _ => {}
        }
        let first = |input: &mut dyn BufRead| {
            let data = input.fill_buf()?;
            let data = data.strip_prefix(BOM).unwrap_or(data);
            Ok(data.iter().copied().find(|byte| !byte.is_ascii_whitespace()))
        };
        let first = match &mut self.input {
            Input::File(file) => first(file),
            Input::Stdin => session.console(|console| first(&mut console.stdin)),
        };
        let first = first.map_err(|error: io::Error| self.cannot("read", &error))?;
        Ok(if first == Some(b'{') { FileFormat::Ndjson } else { FileFormat::Csv })
    }

    /// Reads the next line.
    pub(super) fn line(&mut self, session: &Session<'_>, line: &mut Vec<u8>) -> Result<Line, Halt> {
        let found = match &mut self.input {
            Input::File(file) => lines::next(file, line),
            Input::Stdin => session.console(|console| lines::next(&mut console.stdin, line)),
        };
        let (found, taken) = found.map_err(|error| self.cannot("read", &error))?;
        if self.read == 0 && line.starts_with(BOM) {
            line.drain(..BOM.len());
        }
        self.read += taken;
        Ok(found)
    }

    /// Refuses a file that is not what it was when it was opened: what its producer stands for would not be sent.
    pub(super) fn unchanged(&self) -> Result<(), Halt> {
        let (Input::File(file), Some(opened)) = (&self.input, self.opened) else { return Ok(()) };
        let found = file.get_ref().metadata().map_err(|error| self.cannot("look at", &error))?;
        if Seen::of(&found) == opened {
            return Ok(());
        }
        let message = format!("{} was changed while it was read", self.path.display());
        let next = "wait until it is written, or send a copy of it";
        Err(Error::new(Kind::Conflict, "ABORTED", "FILE_CHANGED", message, next).into())
    }

    /// What is read, in words.
    pub(super) fn name(&self) -> String {
        match self.input {
            Input::File(_) => self.path.display().to_string(),
            Input::Stdin => "standard input".to_owned(),
        }
    }

    fn cannot(&self, what: &str, error: &io::Error) -> Halt {
        let name = match self.path.to_str() {
            Some("-") => "standard input".to_owned(),
            _ => self.path.display().to_string(),
        };
        Halt::Failed(format!("can't {what} {name}: {error}"))
    }
}

/// What some programs put before the first line.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";
