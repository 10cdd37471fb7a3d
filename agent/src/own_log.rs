//! The agent's own log file: JSON lines, reopened when it was rotated away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::error::{Error, Result};
use crate::operations::logs::OwnLog;

/// The file behind the agent's log.
#[derive(Clone)]
pub struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl LogFile {
    /// Opens the log at `path`, creating it (0600).
    ///
    /// # Errors
    /// `OWN_LOG_FAILED`.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = || {
            Error::unavailable(
                "OWN_LOG_FAILED",
                format!("can't write the agent's log {}", path.display()),
            )
        };
        if let Some(folder) = path.parent() {
            crate::outside::files::create_folders(folder)
                .map_err(|error| failed().caused_by(error))?;
        }
        let file = open(path).map_err(|error| failed().caused_by(error))?;
        Ok(Self { path: path.to_owned(), file: Arc::new(Mutex::new(file)) })
    }

    /// Sends tracing to this file and, from `warn` on, to stderr.
    pub fn install(&self, level: &str) {
        let to_file = fmt::layer()
            .json()
            .with_writer(self.clone())
            .with_filter(EnvFilter::new(format!("{level},h2=warn,hyper=warn")));
        let to_stderr = fmt::layer()
            .compact()
            .with_target(false)
            .with_ansi(std::io::IsTerminal::is_terminal(&io::stderr()))
            .with_writer(io::stderr)
            .with_filter(EnvFilter::new("warn"));
        // A second agent in one process (tests) keeps the first one's subscriber.
        let _ = tracing_subscriber::registry().with(to_file).with(to_stderr).try_init();
    }
}

impl OwnLog for LogFile {
    fn reopen(&self) -> io::Result<()> {
        let fresh = open(&self.path)?;
        *self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = fresh;
        Ok(())
    }
}

/// One line's way into the file.
pub struct LineWriter(Arc<Mutex<File>>);

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Under the lock, so that a line is never split over a reopen.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter(Arc::clone(&self.file))
    }
}
