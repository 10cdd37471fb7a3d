//! Who this host is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, decode, encode};
use crate::schema::{IDENTITY_ROW, META};
use crate::view::{Sink, Source};

/// The host's identity, made once and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// A random id, so that renamed and cloned hosts are noticed.
    pub host_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The host's name at that time, or when it was last noticed to have changed.
    pub hostname: String,
}

impl Record for Identity {
    const TABLE: &'static str = "meta";
    const VERSION: u8 = 1;
}

/// Reads the identity.
#[derive(Clone, Copy)]
pub struct Identities<'t> {
    source: Source<'t>,
}

impl<'t> Identities<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The identity, once it was written.
    pub fn get(&self) -> Result<Option<Identity>, StorageError> {
        let view = self.source.view(META)?;
        let row = view.get(IDENTITY_ROW)?;
        row.map(|row| decode(&IDENTITY_ROW, row.value())).transpose()
    }
}

/// Writes the identity.
#[derive(Clone, Copy)]
pub struct IdentitiesWriting<'t> {
    reading: Identities<'t>,
    sink: Sink<'t>,
}

reads_as!(IdentitiesWriting => Identities, reading);

impl<'t> IdentitiesWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Identities::new(sink.source()), sink }
    }

    /// Writes or replaces the identity.
    pub fn put(&self, identity: &Identity) -> Result<(), StorageError> {
        let bytes = encode(&IDENTITY_ROW, identity)?;
        self.sink.edit(META)?.insert(IDENTITY_ROW, bytes.as_slice())
    }
}
