use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::{MEMBER_BYTES, MEMBER_COMPRESSED_BYTES};

mod json;
mod validate;

/// The version of the manifest's format that is written and read here.
pub const FORMAT_VERSION: u32 = 1;

/// The most bytes of a manifest.
pub const MAX_MANIFEST_BYTES: usize = 64 << 20;

/// The most members of a segment; at 1 MiB each they hold 128 GiB.
pub const MAX_MEMBERS: usize = 128 << 10;

/// What is known about a segment without reading it.
///
/// Instants are nanoseconds since the epoch, written as RFC 3339 in UTC with nine decimals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The random id of the host that wrote the log.
    pub host_id: String,
    /// Its name when the segment was sealed.
    pub hostname: String,
    /// The source's log type.
    pub log_type: String,
    /// The file that the segment was cut from.
    pub source_path: String,
    /// The segment's number within its type.
    pub sequence: u64,
    /// How many manifests stand before this one in its chain.
    pub chain_index: u64,
    /// The sha256 of the manifest before this one in the chain; `None` exactly at index 0.
    pub previous: Option<Digest>,
    /// How timestamps were read, as [`super::TimestampFormat`] displays itself.
    pub timestamp_format: String,
    /// The timestamp in force before the first line. `None` only when the segment is empty.
    #[serde(with = "json::optional_instant")]
    pub initial_at: Option<i64>,
    /// The earliest effective timestamp. `None` only when the segment is empty.
    #[serde(with = "json::optional_instant")]
    pub first_at: Option<i64>,
    /// The latest effective timestamp. `None` only when the segment is empty.
    #[serde(with = "json::optional_instant")]
    pub last_at: Option<i64>,
    /// The timestamp in force behind the last line, the next segment's `initial_at`. `None` only
    /// when the segment is empty.
    #[serde(with = "json::optional_instant")]
    pub ended_at: Option<i64>,
    /// How many lines begin in the segment.
    pub lines: u64,
    /// Its plain length.
    pub plain_bytes: u64,
    /// The compressed file's length.
    pub compressed_bytes: u64,
    /// The sha256 of the compressed file.
    pub sha256: Digest,
    /// The blake3 of the plain bytes.
    pub blake3: Digest,
    /// Whether the last byte is a line end. False for an empty segment.
    pub ends_with_newline: bool,
    /// When the segment was sealed.
    #[serde(with = "json::instant")]
    pub sealed_at: i64,
    /// The gzip members in the order of the file, at least one.
    pub members: Vec<Member>,
}

/// One gzip member of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Where it starts in the compressed file.
    pub offset: u64,
    /// Its compressed length, header and trailer included.
    pub compressed_bytes: u64,
    /// Where its text starts in the plain bytes.
    pub plain_offset: u64,
    /// The length of its text; zero only for the one member of an empty segment.
    pub plain_bytes: u64,
    /// How many lines begin in it.
    pub lines: u64,
    /// The earliest effective timestamp of what lies in it.
    #[serde(with = "json::instant")]
    pub first_at: i64,
    /// The latest.
    #[serde(with = "json::instant")]
    pub last_at: i64,
    /// The timestamp in force at its start. If it starts within a line, it is that line's.
    #[serde(with = "json::instant")]
    pub initial_at: i64,
    /// Whether its first bytes continue a line of the member before.
    pub starts_mid_line: bool,
    /// The blake3 of its compressed bytes.
    pub blake3: Digest,
}

/// Why some bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More than [`MAX_MANIFEST_BYTES`].
    #[error("the manifest has {0} bytes, more than {MAX_MANIFEST_BYTES}")]
    TooLarge(usize),
    /// Not the JSON of a manifest.
    #[error("the manifest is not JSON of the expected shape")]
    Json(#[source] serde_json::Error),
    /// A format that another version of this program wrote.
    #[error("the manifest has format version {0}, and only {FORMAT_VERSION} is known")]
    Version(u32),
    /// A field that contradicts the rest, or cannot be.
    #[error("the manifest's field {field} {reason}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A member that contradicts its neighbours, or cannot be.
    #[error("the manifest's member {index} has a field {field} that {reason}")]
    Member {
        /// The member's place, from 0.
        index: usize,
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Manifest {
    /// The manifest as JSON, one field and one member a line, with one line end at the end. Equal
    /// manifests give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::to_bytes(self)
    }

    /// Reads a manifest of unknown origin. What it returns is consistent in itself: members lie
    /// end to end, sums hold, every size is within the limits of a segment.
    ///
    /// # Errors
    /// Any [`ManifestError`]. Memory stays within a small multiple of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        // A later format may have another shape, so its version is looked at first.
        let json::Version { format_version } =
            serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if format_version != FORMAT_VERSION {
            return Err(ManifestError::Version(format_version));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The hash by which the next manifest of the chain refers to one with these bytes.
    pub fn sha256_of(bytes: &[u8]) -> Digest {
        Digest::sha256(bytes)
    }
}
