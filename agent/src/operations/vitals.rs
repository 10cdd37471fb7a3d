//! The agent's own footprint, sampled once a minute into the embedded database.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{Intent, StorageError};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::outside::Outside;
use crate::state::State;

/// The series of resident memory in bytes.
const RESIDENT: &str = "agent.resident_bytes";
/// How often a sample is taken.
const EVERY: Duration = Duration::from_secs(60);
/// So many samples are committed at a time: one fsync a quarter of an hour.
const BATCH: usize = 15;
/// Samples are kept so long.
const KEEP: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Samples and remembers the agent's footprint.
pub struct Vitals {
    state: State,
    outside: Outside,
}

impl Vitals {
    /// Vitals kept in this state.
    pub fn new(state: State, outside: Outside) -> Self {
        Self { state, outside }
    }

    /// Samples for ever.
    pub async fn serve(self: Arc<Self>) {
        let (sender, batches) = mpsc::channel(2);
        let recorder = Arc::clone(&self);
        tokio::task::spawn_blocking(move || recorder.record(batches));
        let mut waiting: Vec<(Timestamp, f64)> = Vec::new();
        loop {
            waiting.push((self.outside.clock.now(), self.outside.host.resident_bytes() as f64));
            // A full queue means that the disk has stood still for half an hour; these samples are the least of it.
            if waiting.len() >= BATCH {
                let _ = sender.try_send(std::mem::take(&mut waiting));
            }
            self.outside.clock.tick(EVERY).await;
        }
    }

    /// Commits batches as one stream, so that the oplog holds one entry for all of them.
    fn record(&self, mut batches: mpsc::Receiver<Vec<(Timestamp, f64)>>) {
        let now = self.outside.clock.now();
        let intent = Intent::new(now, "system:vitals", "vitals.stream").target(RESIDENT);
        let warn = |error: StorageError| {
            tracing::warn!(
                error = Error::from(error).chain(),
                "the agent's footprint could not be recorded"
            );
        };
        let mut stream = match self.state.store().ingest(intent) {
            Ok(stream) => stream,
            Err(error) => return warn(error),
        };
        while let Some(points) = batches.blocking_recv() {
            let before = points
                .first()
                .and_then(|(at, _)| at.checked_sub(KEEP).ok())
                .unwrap_or(Timestamp::MIN);
            if let Err(error) = stream
                .append(RESIDENT, &points)
                .and_then(|()| stream.trim(RESIDENT, before).map(drop))
            {
                warn(error);
            }
        }
    }

    /// The largest resident memory of the last 24 hours, in bytes, the present one included.
    pub fn resident_max(&self) -> u64 {
        let now = self.outside.clock.now();
        let from = now.checked_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
        let recorded =
            self.state.read(|reading| Ok(reading.series().range(RESIDENT, from, now, 2_000)?));
        let largest =
            recorded.unwrap_or_default().into_iter().map(|(_, bytes)| bytes).fold(0.0, f64::max);
        self.outside.host.resident_bytes().max(largest as u64)
    }
}
