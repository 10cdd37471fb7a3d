//! Single calls, read back from the raw columns: which were the slowest, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use genesis_stats::column;
use genesis_storage::Observations;

use super::plan::{HOUR, NANOS};
use super::{Baselines, raw};
use crate::error::{Error, Result};

/// Which calls are asked for. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// They ended from here on.
    pub from: i64,
    /// And before there.
    pub until: i64,
    /// They took longer, in nanoseconds.
    pub above: Option<u64>,
    /// Not the slowest.
    pub newest_first: bool,
    /// At most so many.
    pub limit: usize,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// When each ended and how long it took, in nanoseconds; in the order that was asked for.
    pub calls: Vec<(i64, u64)>,
    /// So many are in the range.
    pub in_range: u64,
    /// So many of them took longer.
    pub matched: u64,
    /// When the oldest ended that is kept.
    pub kept_since: Option<i64>,
}

/// Takes calls in, and keeps those that were asked for: memory of `limit` calls, whatever their number.
struct Search<'a> {
    asked: &'a Asked,
    found: Found,
    /// The last in the order that was asked for is on top.
    best: BinaryHeap<Reverse<(i128, i128)>>,
    times: Vec<i64>,
    nanos: Vec<u64>,
}

impl<'a> Search<'a> {
    fn new(asked: &'a Asked) -> Self {
        let (best, found) = (BinaryHeap::new(), Found::default());
        Self { asked, found, best, times: Vec::new(), nanos: Vec::new() }
    }

    /// Chunks of the operation; one that can't be read is left out.
    fn take(&mut self, chunks: &[u8]) {
        for chunk in column::chunks(chunks).map_while(std::result::Result::ok) {
            let Some((oldest, newest)) = chunk.span() else { continue };
            self.found.kept_since = Some(self.found.kept_since.map_or(oldest, |it| it.min(oldest)));
            if newest < self.asked.from || oldest >= self.asked.until {
                continue;
            }
            self.times.clear();
            self.nanos.clear();
            if chunk.decode_into(&mut self.times, &mut self.nanos).is_ok() {
                self.rows();
            }
        }
    }

    fn rows(&mut self) {
        let Asked { from, until, above, newest_first, limit } = *self.asked;
        for (time, nanos) in self.times.iter().zip(&self.nanos) {
            if !(from..until).contains(time) {
                continue;
            }
            self.found.in_range += 1;
            if above.is_some_and(|above| *nanos <= above) {
                continue;
            }
            self.found.matched += 1;
            let (time, nanos) = (i128::from(*time), i128::from(*nanos));
            let key = if newest_first { (time, nanos) } else { (nanos, time) };
            let full = self.best.len() >= limit;
            if full && self.best.peek().is_some_and(|Reverse(worst)| *worst >= key) {
                continue;
            }
            self.best.push(Reverse(key));
            if full {
                self.best.pop();
            }
        }
    }

    fn end(mut self) -> Found {
        let keys = self.best.into_sorted_vec();
        let calls = keys.into_iter().map(|Reverse((first, second))| {
            let (time, nanos) =
                if self.asked.newest_first { (first, second) } else { (second, first) };
            // Both came from such numbers.
            (time as i64, nanos as u64)
        });
        self.found.calls = calls.collect();
        self.found
    }
}

impl Baselines {
    /// Searches the calls of an operation, one search at a time. Some 100 million calls a second are read.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`, `TIME_INVALID`, `OBSERVATIONS_UNAVAILABLE`, `STORAGE_FAILED`.
    pub async fn calls(&self, operation: &str, asked: Asked) -> Result<Found> {
        let number = self.number(operation)?;
        let store = Arc::clone(self.store()?);
        if asked.from >= asked.until {
            let message = "the range is empty: it must begin before it ends";
            return Err(Error::invalid("TIME_INVALID", message));
        }
        let _one = self.searching.lock().await;
        let found = tokio::task::spawn_blocking(move || search(&store, number, &asked));
        found.await.map_err(|error| {
            Error::internal("CALL_PANICKED", "a search hit a defect").caused_by(error)
        })?
    }
}

fn search(store: &Observations, number: u32, asked: &Asked) -> Result<Found> {
    store.read(|reading| {
        let mut search = Search::new(asked);
        for (operation, hour, _) in reading.column_hours()? {
            if operation != number {
                continue;
            }
            let begins = i64::from(hour) * HOUR * NANOS;
            // Of hours that are out of the range only the first is looked into: for when calls are kept since.
            let outside = begins >= asked.until || begins + HOUR * NANOS <= asked.from;
            if outside && search.found.kept_since.is_some() {
                continue;
            }
            for piece in reading.columns(number, hour)? {
                search.take(&piece);
            }
        }
        reading.raw(0, |_, row| {
            for (operation, chunks) in raw::parts(row) {
                if operation == number {
                    search.take(chunks);
                }
            }
            Ok::<_, Error>(true)
        })?;
        Ok(search.end())
    })
}

/// Nanoseconds of an instant, the nearest that there are.
pub fn nanos_at(at: jiff::Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at.as_second() < 0 {
        i64::MIN
    } else {
        i64::MAX
    })
}
