//! Requests by their id, so that a repeat of one gets its answer instead of being carried out again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, check_name, decode, encode};
use crate::schema::{REQUESTS, REQUESTS_BY_TIME};
use crate::view::{Sink, Source};

/// What is known about a request id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Of the call's path, its caller and its body, in hex: a repeat has the same.
    pub digest: String,
    /// When it came.
    pub at: Timestamp,
    /// The answer's bytes in hex; `None`: it was begun, and its end is not known.
    pub answer: Option<String>,
}

impl Record for RequestRecord {
    const TABLE: &'static str = "requests";
    const VERSION: u8 = 1;
}

/// Reads requests.
#[derive(Clone, Copy)]
pub struct Requests<'t> {
    source: Source<'t>,
}

impl<'t> Requests<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The request of this id.
    pub fn get(&self, id: &str) -> Result<Option<RequestRecord>, StorageError> {
        let view = self.source.view(REQUESTS)?;
        let row = view.get(id)?;
        row.map(|row| decode(&id, row.value())).transpose()
    }

    /// How many are kept.
    pub fn count(&self) -> Result<u64, StorageError> {
        self.source.view(REQUESTS)?.len()
    }

    /// The oldest ones, at most `limit`: when each came, and its id.
    fn oldest(&self, limit: usize) -> Result<Vec<(i64, String)>, StorageError> {
        let view = self.source.view(REQUESTS_BY_TIME)?;
        let rows = view.all()?.take(limit);
        rows.map(|row| {
            let (key, ()) = row.map(|(key, unit)| (key, unit.value()))?;
            let (at, id) = key.value();
            Ok((at, id.to_owned()))
        })
        .collect()
    }
}

/// Writes requests.
#[derive(Clone, Copy)]
pub struct RequestsBookkeeping<'t> {
    reading: Requests<'t>,
    sink: Sink<'t>,
}

reads_as!(RequestsBookkeeping => Requests, reading);

impl<'t> RequestsBookkeeping<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Requests::new(sink.source()), sink }
    }

    /// Writes or replaces the request of this id.
    pub fn put(&self, id: &str, record: &RequestRecord) -> Result<(), StorageError> {
        check_name(RequestRecord::TABLE, id)?;
        self.remove(id)?;
        let bytes = encode(&id, record)?;
        self.sink.edit(REQUESTS)?.insert(id, bytes.as_slice())?;
        self.sink.edit(REQUESTS_BY_TIME)?.insert((record.at.as_millisecond(), id), ())
    }

    /// Forgets a request; false if it was not known.
    pub fn remove(&self, id: &str) -> Result<bool, StorageError> {
        let Some(old) = self.reading.get(id)? else { return Ok(false) };
        self.sink.edit(REQUESTS_BY_TIME)?.remove((old.at.as_millisecond(), id))?;
        self.sink.edit(REQUESTS)?.remove(id)
    }

    /// Forgets some of the requests that came before `before`, and some of those beyond the newest `kept`.
    /// A few at a time: called with each request, it keeps up.
    pub fn prune(&self, before: Timestamp, kept: u64) -> Result<u64, StorageError> {
        const AT_A_TIME: usize = 8;
        let mut surplus = self.reading.count()?.saturating_sub(kept);
        let mut removed = 0;
        for (at, id) in self.reading.oldest(AT_A_TIME)? {
            if at >= before.as_millisecond() && surplus == 0 {
                break;
            }
            surplus = surplus.saturating_sub(1);
            removed += u64::from(self.remove(&id)?);
        }
        Ok(removed)
    }
}
