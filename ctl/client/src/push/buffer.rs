//! What was taken and not yet sent, and the counts of what became of the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;

use super::{Settled, Stats, Wire};
use crate::{Error, Kind};

/// So many columns a pusher has at most; an agent takes fewer.
const MOST_COLUMNS: usize = 10_000;

/// What is of one name, an operation or an experiment, and not yet in line.
#[derive(Debug)]
pub(super) struct Column<W: Wire> {
    name: Arc<str>,
    open: Mutex<Vec<W::Item>>,
}

/// Items of one column.
type Chunk<W> = (Arc<Column<W>>, Vec<<W as Wire>::Item>);

/// Chunks in the order in which they are sent.
#[derive(Debug)]
struct Line<W: Wire> {
    chunks: VecDeque<Chunk<W>>,
    /// How many were ever put in line.
    tickets: u64,
}

/// A batch to be sent.
pub(super) struct Batch<W: Wire> {
    pub(super) columns: Vec<W::Column>,
    /// The number of the last chunk in it, and of no chunk before it.
    pub(super) ticket: u64,
}

#[derive(Debug)]
pub(super) struct Buffer<W: Wire> {
    batch: usize,
    /// How many items may be held. None once it is closed.
    capacity: AtomicUsize,
    closed: AtomicBool,
    /// How many are: in the columns, in line, sent and not answered.
    held: AtomicUsize,
    dropped: AtomicU64,
    columns: RwLock<HashMap<Arc<str>, Arc<Column<W>>>>,
    /// Locked after a column, never before.
    line: Mutex<Line<W>>,
    /// But for what is held and dropped, which is counted without a lock.
    stats: Mutex<Stats<W::Sums>>,
    /// There is a full chunk, or the first item after none.
    pub(super) wake: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: Wire> Buffer<W> {
    pub(super) fn new(capacity: usize, batch: usize) -> Self {
        Self {
            batch,
            capacity: AtomicUsize::new(capacity),
            closed: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            columns: RwLock::default(),
            line: Mutex::new(Line { chunks: VecDeque::new(), tickets: 0 }),
            stats: Mutex::default(),
            wake: Notify::new(),
        }
    }

    pub(super) fn column(&self, name: &str) -> Result<Arc<Column<W>>, Error> {
        let known = self.columns.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(column) = known.get(name) {
            return Ok(column.clone());
        }
        drop(known);
        W::check(name)?;
        let mut known = self.columns.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_COLUMNS && !known.contains_key(name) {
            return Err(W::crowded(name, MOST_COLUMNS));
        }
        let name: Arc<str> = name.into();
        let made = || Arc::new(Column { name: name.clone(), open: Mutex::default() });
        Ok(known.entry(name.clone()).or_insert_with(made).clone())
    }

    /// Keeps an item; `false`: there is no room.
    pub(super) fn take(&self, column: &Arc<Column<W>>, item: W::Item) -> bool {
        let held = self.held.fetch_add(1, Ordering::Relaxed);
        if held >= self.capacity.load(Ordering::Relaxed) {
            self.held.fetch_sub(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let mut open = lock(&column.open);
        open.push(item);
        if open.len() >= self.batch {
            // With the column still locked, so that a sweep misses nothing that was taken before.
            self.line_up(column, &mut open);
            self.wake.notify_one();
        }
        drop(open);
        if held == 0 {
            self.wake.notify_one();
        }
        true
    }

    /// Counts an item that can't be kept; always `false`.
    pub(super) fn refuse(&self, error: Error) -> bool {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.failed(error);
        false
    }

    fn line_up(&self, column: &Arc<Column<W>>, open: &mut Vec<W::Item>) {
        let mut line = lock(&self.line);
        line.tickets += 1;
        line.chunks.push_back((column.clone(), std::mem::take(open)));
    }

    /// Puts all that was taken in line; the number of its last chunk.
    pub(super) fn sweep(&self) -> u64 {
        let known = self.columns.read().unwrap_or_else(PoisonError::into_inner);
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
    pub(super) fn next_batch(&self) -> Option<Batch<W>> {
        let mut line = lock(&self.line);
        let mut taken: Vec<Chunk<W>> = Vec::new();
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
        let column = |(column, chunk): Chunk<W>| W::column(&column.name, chunk);
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

    pub(super) fn stats(&self) -> Stats<W::Sums> {
        let stats = lock(&self.stats).clone();
        let (buffered, dropped) = (self.held() as u64, self.dropped.load(Ordering::Relaxed));
        Stats { buffered, dropped, ..stats }
    }

    pub(super) fn sent(&self, columns: &[W::Column]) {
        lock(&self.stats).sent += columns.iter().map(W::rows).sum::<u64>();
    }

    pub(super) fn reconnects(&self, reconnects: u64) {
        lock(&self.stats).reconnects = reconnects;
    }

    pub(super) fn failed(&self, error: Error) {
        lock(&self.stats).last_error = Some(error);
    }

    /// Notes what became of a batch.
    pub(super) fn settle(&self, producer: &str, settled: Settled<W::Answer>) {
        let mut stats = lock(&self.stats);
        let rows = match settled {
            Settled::Acknowledged { answer, rows, repeated } => {
                stats.acknowledged += rows;
                if W::had_before(&answer) {
                    stats.had_before += rows;
                    if !repeated {
                        let error = known_before::<W>(producer, W::sequence(&answer));
                        stats.last_error = Some(error);
                    }
                }
                W::add(&mut stats.answered, &answer);
                rows
            }
            Settled::Invalid { rows, error, .. } => {
                stats.invalid += rows;
                stats.last_error = Some(error);
                rows
            }
        };
        drop(stats);
        self.held.fetch_sub(rows as usize, Ordering::Relaxed);
    }
}

fn known_before<W: Wire>(producer: &str, sequence: u64) -> Error {
    let what = W::WHAT;
    let message = format!(
        "the agent had batch {sequence} of producer {producer} before this one sent it: its {what} don't count"
    );
    let next =
        "leave the producer's name to chance, or begin above the last sequence of the one before";
    Error::new(Kind::Conflict, "ALREADY_EXISTS", "SEQUENCE_REPEATED", message, next)
}
