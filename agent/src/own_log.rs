//! The agent's own log file: JSON lines, reopened when it was rotated away.
//!
//! Lines are written by threads of their own. Who has something to say never waits for a disk, nor for whoever reads
//! standard error: one that stands still would stop everything else.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::operations::logs::OwnLog;
use crate::outside::telemetry::Exporter;

/// So many lines wait for a disk; those that come then are counted, and left out.
const WAITING: usize = 2_048;

/// Writes what waits, and ends, when it is dropped; neither a disk nor a collector that does not answer is waited for.
#[must_use]
pub struct Writers {
    // First, since it may have something to say.
    exporter: Option<Exporter>,
    _guards: [WorkerGuard; 2],
    left_out: LeftOut,
}

impl Writers {
    /// Has `registry` export what was left out.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.left_out.clone()));
        if let Some(exporter) = &self.exporter {
            registry.register_collector(Box::new(exporter.counts()));
        }
    }
}

/// Lines that were left out, of the file and of standard error.
#[derive(Debug, Clone)]
struct LeftOut([ErrorCounter; 2]);

impl Collector for LeftOut {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let lines: usize = self.0.iter().map(ErrorCounter::dropped_lines).sum();
        let counter = ConstCounter::new(lines as u64);
        let help = "Lines of the agent's own log that were left out while a disk stood still";
        let name = "genesis_agent_log_lines_left_out";
        let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
        counter.encode(metric)
    }
}

/// Opens the log at `path` and sends tracing there, and spans to the collector if there is one.
///
/// # Errors
/// `OWN_LOG_FAILED`, `TRACING_INVALID`.
pub fn begin(path: &Path, config: &Config, hostname: &str) -> Result<(LogFile, Writers)> {
    let file = LogFile::open(path)?;
    let exporter = Exporter::begin(&config.tracing, hostname)?;
    let writers = file.install(&config.agent.log_level, exporter);
    Ok((file, writers))
}

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
    fn open(path: &Path) -> Result<Self> {
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

    /// Sends tracing to this file and, from `warn` on, to stderr, as long as the writers live.
    fn install(&self, level: &str, exporter: Option<Exporter>) -> Writers {
        let (file, of_file) = waiting("log-file", self.clone());
        let (stderr, of_stderr) = waiting("log-stderr", io::stderr());
        let left_out = LeftOut([file.error_counter(), stderr.error_counter()]);
        let to_file = fmt::layer()
            .json()
            // The innermost span has the trace, as the others have.
            .with_span_list(false)
            .with_writer(file)
            .with_filter(EnvFilter::new(format!("{level},h2=warn,hyper=warn")));
        let to_stderr = fmt::layer()
            .compact()
            .with_target(false)
            .with_ansi(std::io::IsTerminal::is_terminal(&io::stderr()))
            .with_writer(stderr)
            // What people read needs no trace.
            .with_filter(filter_fn(|it| it.is_event() && *it.level() <= Level::WARN));
        let spans = |it: &Metadata<'_>| it.is_span() && it.target().starts_with("genesis_agent");
        let to_collector = exporter.as_ref().map(|it| it.layer().with_filter(filter_fn(spans)));
        // A second agent in one process (tests) keeps the first one's subscriber.
        let subscriber = tracing_subscriber::registry().with(to_collector);
        let _ = subscriber.with(to_file).with(to_stderr).try_init();
        Writers { exporter, _guards: [of_file, of_stderr], left_out }
    }
}

fn waiting(name: &str, writer: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().buffered_lines_limit(WAITING).thread_name(name).finish(writer)
}

impl OwnLog for LogFile {
    fn reopen(&self) -> io::Result<()> {
        let fresh = open(&self.path)?;
        *self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = fresh;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Under the lock, so that a line is never split over a reopen.
        self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
