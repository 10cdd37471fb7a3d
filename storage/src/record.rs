//! Versioned records: one version byte, then JSON.

use std::fmt::{self, Display};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StorageError;

/// The largest record, in bytes.
pub const MAX_RECORD_BYTES: usize = 16 << 20;
/// The longest name that may be part of a key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// A value of a table. A field that is added with `#[serde(default)]` needs no new version; a
/// change that an older build would misread does, and then [`Record::upgrade`] reads the old one.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// The table's name, for errors.
    const TABLE: &'static str;
    /// The version that is written.
    const VERSION: u8;

    /// Reads the JSON of an older version; `None` where that version is not known.
    fn upgrade(version: u8, json: &[u8]) -> Option<Result<Self, serde_json::Error>> {
        let _ = (version, json);
        None
    }
}

pub(crate) fn encode<R: Record>(key: &dyn Display, record: &R) -> Result<Vec<u8>, StorageError> {
    let mut bytes = vec![R::VERSION];
    serde_json::to_writer(&mut bytes, record)
        .map_err(|error| StorageError::record(R::TABLE, key, Box::new(error)))?;
    check_size(R::TABLE, key, bytes.len())?;
    Ok(bytes)
}

pub(crate) fn decode<R: Record>(key: &dyn Display, bytes: &[u8]) -> Result<R, StorageError> {
    let Some((&version, json)) = bytes.split_first() else {
        return Err(StorageError::record(R::TABLE, key, "the record is empty".into()));
    };
    let decoded = if version == R::VERSION {
        Some(serde_json::from_slice(json))
    } else if version < R::VERSION {
        R::upgrade(version, json)
    } else {
        None
    };
    match decoded {
        Some(record) => {
            record.map_err(|error| StorageError::record(R::TABLE, key, Box::new(error)))
        }
        None => Err(StorageError::UnknownVersion {
            table: R::TABLE,
            key: key.to_string(),
            found: version,
            supported: R::VERSION,
        }),
    }
}

/// Refuses a record over [`MAX_RECORD_BYTES`].
pub(crate) fn check_size(
    table: &'static str,
    key: &dyn Display,
    bytes: usize,
) -> Result<(), StorageError> {
    if bytes <= MAX_RECORD_BYTES {
        return Ok(());
    }
    Err(StorageError::TooLarge { table, key: key.to_string(), bytes, limit: MAX_RECORD_BYTES })
}

/// Refuses a name over [`MAX_KEY_BYTES`].
pub(crate) fn check_name(table: &'static str, name: &str) -> Result<(), StorageError> {
    if name.len() <= MAX_KEY_BYTES {
        return Ok(());
    }
    let key = name.chars().take(64).chain("...".chars()).collect();
    Err(StorageError::TooLarge { table, key, bytes: name.len(), limit: MAX_KEY_BYTES })
}

/// The text of a two-part key, for errors.
pub(crate) fn pair(name: &str, number: impl Display) -> impl Display {
    fmt::from_fn(move |f| write!(f, "{name}/{number}"))
}
