//! What was observed and not yet sent, and the counts of what became of the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use genesis_proto::v1::{ObservationColumn, ObserveResponse};
use tokio::sync::Notify;

use super::{Settled, Stats, is_name};
use crate::{Error, Kind};

/// So many operations a pusher knows at most; an agent takes fewer.
const MOST_OPERATIONS: usize = 10_000;

/// Observations of one operation that are not yet in line.
#[derive(Debug)]
pub(super) struct Column {
    name: Arc<str>,
    open: Mutex<Chunk>,
}

/// When each call ended, in nanoseconds since 1970, and how long it took, in seconds.
type Chunk = Vec<(i64, f64)>;

/// Chunks in the order in which they are sent.
#[derive(Debug, Default)]
struct Line {
    chunks: VecDeque<(Arc<Column>, Chunk)>,
    /// How many were ever put in line.
    tickets: u64,
}

/// A batch to be sent.
pub(super) struct Batch {
    pub(super) columns: Vec<ObservationColumn>,
    /// The number of the last chunk in it, and of no chunk before it.
    pub(super) ticket: u64,
}

#[derive(Debug)]
pub(super) struct Buffer {
    batch: usize,
    /// How many observations may be held. None once it is closed.
    capacity: AtomicUsize,
    closed: AtomicBool,
    /// How many are: in the columns, in line, sent and not answered.
    held: AtomicUsize,
    dropped: AtomicU64,
    operations: RwLock<HashMap<Arc<str>, Arc<Column>>>,
    /// Locked after a column, never before.
    line: Mutex<Line>,
    counts: Mutex<Stats>,
    /// There is a full chunk, or the first observation after none.
    pub(super) wake: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Buffer {
    pub(super) fn new(capacity: usize, batch: usize) -> Self {
        Self {
            batch,
            capacity: AtomicUsize::new(capacity),
            closed: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            operations: RwLock::default(),
            line: Mutex::default(),
            counts: Mutex::default(),
            wake: Notify::new(),
        }
    }

    pub(super) fn column(&self, name: &str) -> Result<Arc<Column>, Error> {
        let known = self.operations.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(column) = known.get(name) {
            return Ok(column.clone());
        }
        drop(known);
        if !is_name(name, 128) {
            let message =
                format!("the operation {name:?} is not 1 to 128 of a-z, A-Z, 0-9 and -_.:/");
            return Err(Error::invalid("OPERATION_INVALID", message, "choose another name for it"));
        }
        let mut known = self.operations.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_OPERATIONS && !known.contains_key(name) {
            let message =
                format!("there are {MOST_OPERATIONS} operations already, and no room for {name}");
            let next = "name operations by what they do, without ids and other values in the name";
            return Err(Error::new(
                Kind::Invalid,
                "OUT_OF_RANGE",
                "TOO_MANY_OPERATIONS",
                message,
                next,
            ));
        }
        let name: Arc<str> = name.into();
        let made = || Arc::new(Column { name: name.clone(), open: Mutex::default() });
        Ok(known.entry(name.clone()).or_insert_with(made).clone())
    }

    /// Keeps an observation; `false`: there is no room.
    pub(super) fn observe(&self, column: &Arc<Column>, unix_nanos: i64, seconds: f64) -> bool {
        let held = self.held.fetch_add(1, Ordering::Relaxed);
        if held >= self.capacity.load(Ordering::Relaxed) {
            self.held.fetch_sub(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let mut open = lock(&column.open);
        open.push((unix_nanos, seconds));
        if open.len() >= self.batch {
            // With the column still locked, so that a sweep misses nothing that was observed before.
            self.line_up(column, &mut open);
            self.wake.notify_one();
        }
        drop(open);
        if held == 0 {
            self.wake.notify_one();
        }
        true
    }

    /// Counts an observation that can't be kept.
    pub(super) fn refuse(&self, error: Error) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.failed(error);
    }

    fn line_up(&self, column: &Arc<Column>, open: &mut Chunk) {
        let mut line = lock(&self.line);
        line.tickets += 1;
        line.chunks.push_back((column.clone(), std::mem::take(open)));
    }

    /// Puts all that was observed in line; the number of its last chunk.
    pub(super) fn sweep(&self) -> u64 {
        let known = self.operations.read().unwrap_or_else(PoisonError::into_inner);
        let columns: Vec<_> = known.values().cloned().collect();
        drop(known);
        for column in &columns {
            let mut open = lock(&column.open);
            if !open.is_empty() {
                self.line_up(column, &mut open);
            }
        }
        lock(&self.line).tickets
    }

    /// As many chunks from the front of the line as fit into a batch.
    pub(super) fn next_batch(&self) -> Option<Batch> {
        let mut line = lock(&self.line);
        let mut taken: Vec<(Arc<Column>, Chunk)> = Vec::new();
        let mut total = 0;
        while let Some((_, chunk)) = line.chunks.front() {
            if total > 0 && total + chunk.len() > self.batch {
                break;
            }
            total += chunk.len();
            let Some((column, mut chunk)) = line.chunks.pop_front() else { break };
            match taken.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &column)) {
                Some((_, known)) => known.append(&mut chunk),
                None => taken.push((column, chunk)),
            }
        }
        let ticket = line.tickets - line.chunks.len() as u64;
        drop(line);
        let column = |(column, chunk): (Arc<Column>, Chunk)| ObservationColumn {
            operation: column.name.to_string(),
            unix_nanos: chunk.iter().map(|(at, _)| *at).collect(),
            seconds: chunk.iter().map(|(_, seconds)| *seconds).collect(),
        };
        (total > 0).then(|| Batch { columns: taken.into_iter().map(column).collect(), ticket })
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.capacity.store(0, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn stats(&self) -> Stats {
        let buffered = self.held() as u64;
        let dropped = self.dropped.load(Ordering::Relaxed);
        Stats { buffered, dropped, ..lock(&self.counts).clone() }
    }

    pub(super) fn sent(&self, columns: &[ObservationColumn]) {
        let observations: usize = columns.iter().map(|column| column.seconds.len()).sum();
        lock(&self.counts).sent += observations as u64;
    }

    pub(super) fn reconnects(&self, reconnects: u64) {
        lock(&self.counts).reconnects = reconnects;
    }

    pub(super) fn failed(&self, error: Error) {
        lock(&self.counts).last_error = Some(error);
    }

    /// Notes what became of a batch.
    pub(super) fn settle(&self, producer: &str, settled: Settled) {
        let mut counts = lock(&self.counts);
        let observations = match settled {
            Settled::Acknowledged { answer, observations, repeated } => {
                counts.acknowledged += observations;
                if answer.duplicate && !repeated {
                    counts.last_error = Some(known_before(producer, answer.sequence));
                }
                counts.add(&answer, observations);
                observations
            }
            Settled::Invalid { observations, error, .. } => {
                counts.invalid += observations;
                counts.last_error = Some(error);
                observations
            }
        };
        drop(counts);
        self.held.fetch_sub(observations as usize, Ordering::Relaxed);
    }
}

impl Stats {
    fn add(&mut self, answer: &ObserveResponse, observations: u64) {
        if answer.duplicate {
            self.duplicate += observations;
        }
        self.counted += u64::from(answer.counted);
        self.rejected += u64::from(answer.rejected);
        self.late += u64::from(answer.late);
        self.ahead += u64::from(answer.ahead);
        self.crowded_out += u64::from(answer.crowded_out);
    }
}

fn known_before(producer: &str, sequence: u64) -> Error {
    let message = format!(
        "the agent had batch {sequence} of producer {producer} before this one sent it: its observations don't count"
    );
    let next =
        "leave the producer's name to chance, or begin above the last sequence of the one before";
    Error::new(Kind::Conflict, "ALREADY_EXISTS", "SEQUENCE_REPEATED", message, next)
}
