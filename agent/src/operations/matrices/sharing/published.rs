//! What the fleet has of a version of the matrix: where it is, how it is known again, and what it is made of. Pure.

use std::time::Duration;

use genesis_stats::correlation::{Candidate, Correlation, Definiteness};
use genesis_storage::MatrixRecord;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::serving::digest;

/// A version is cut into parts of so many bytes: etcd takes a request of 1.5 MiB.
pub const PART: usize = 1_000_000;
/// And into at most so many.
pub const PARTS: usize = 64;
/// So many versions are kept, the current one too.
pub const KEPT: usize = 5;
/// So many that are to be deleted are remembered.
const LEAVING: usize = 20;
/// All hosts together ask etcd for at most so many bytes of a version in a second.
const RATE: u64 = 50_000_000;
/// But none waits for longer than so long before it asks.
const LONGEST: Duration = Duration::from_secs(600);
/// Of the form that contents have.
const FORM: u8 = 1;

/// A version that is published. It never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Only grows.
    pub number: u64,
    /// When, by the publisher's clock; not before it was put into force there, also where that clock was set back since.
    pub at: Timestamp,
    /// The host that did it.
    pub host: String,
    /// Its identity.
    pub host_id: String,
    /// The version that it is there.
    pub version: u64,
    /// Names its series and values.
    pub digest: String,
    /// How many series it has.
    pub series: u32,
    /// When it was calculated.
    pub calculated_at: Timestamp,
    /// The publisher went back to it.
    #[serde(default)]
    pub back: bool,
    /// BLAKE3 of all parts, one behind the other, in hex.
    pub hash: String,
    /// How long they are.
    pub bytes: u64,
    /// How many there are.
    pub parts: u32,
}

/// What every member follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The version to use.
    pub current: Published,
    /// How many members there were when it was published.
    pub members: u64,
    /// Those before it that are kept, newest first.
    #[serde(default)]
    pub earlier: Vec<Published>,
    /// Those that are kept no more, by number and parts.
    #[serde(default)]
    pub leaving: Vec<(u64, u32)>,
}

impl Pointer {
    /// From what its key holds.
    ///
    /// # Errors
    /// Why it can't be read.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let pointer: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let parts = usize::try_from(pointer.current.parts).unwrap_or(usize::MAX);
        let most = (parts as u64).saturating_mul(PART as u64);
        if (1..=PARTS).contains(&parts) && pointer.current.bytes <= most {
            return Ok(pointer);
        }
        Err(format!("{} bytes in {parts} parts", pointer.current.bytes))
    }

    /// The one after `before`.
    pub fn after(before: Option<Self>, current: Published, members: u64) -> Self {
        let before = before.unwrap_or_default();
        let numbered = |it: &Published| it.number > 0;
        let mut earlier: Vec<Published> =
            std::iter::once(before.current).filter(numbered).chain(before.earlier).collect();
        let gone = earlier.split_off(earlier.len().min(KEPT - 1));
        let gone = gone.iter().map(|it| (it.number, it.parts));
        let leaving = gone.chain(before.leaving).take(LEAVING).collect();
        Self { current, members, earlier, leaving }
    }

    /// The digest of the version before.
    pub fn before(&self) -> Option<&str> {
        self.earlier.first().map(|it| it.digest.as_str())
    }
}

/// What people are told of a version, as the host that takes it over has it too.
fn about(record: &MatrixRecord) -> MatrixRecord {
    let it = record.clone();
    MatrixRecord {
        version: it.version,
        calculated_at: it.calculated_at,
        by: it.by,
        reason: it.reason,
        window_from: it.window_from,
        window_until: it.window_until,
        series: it.series,
        fewest_points: it.fewest_points,
        criteria: it.criteria,
        worst: it.worst,
        frobenius_ratio: it.frobenius_ratio,
        lacking: it.lacking,
        lacking_total: it.lacking_total,
        carried: it.carried,
        indefinite: it.indefinite,
        repair: it.repair,
        digest: it.digest,
        ..MatrixRecord::default()
    }
}

/// All of a version: a byte for its form, what is known of it as JSON with its length before, the matrix.
///
/// # Errors
/// Where it is too long to be published.
pub fn content(record: &MatrixRecord, matrix: &Correlation) -> Result<Vec<u8>, String> {
    let known = serde_json::to_vec(&about(record)).map_err(|error| error.to_string())?;
    let length = u32::try_from(known.len()).map_err(|error| error.to_string())?;
    let mut bytes = vec![FORM];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&known);
    bytes.extend_from_slice(&matrix.to_bytes());
    match bytes.len() <= PART * PARTS {
        true => Ok(bytes),
        false => Err(format!("{} bytes are more than can be published", bytes.len())),
    }
}

/// The name of a content.
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// What was published, put together from its parts. It is used only if it is, to the bit, what was published, and sound by
/// itself.
///
/// # Errors
/// In words.
pub fn verified(
    published: &Published,
    bytes: &[u8],
) -> Result<(MatrixRecord, Correlation), String> {
    if bytes.len() as u64 != published.bytes || hash(bytes) != published.hash {
        let (found, said) = (bytes.len(), published.bytes);
        return Err(format!(
            "its content is damaged: {found} of {said} bytes, and their hash is not the one that was published"
        ));
    }
    let odd = || "its content is of a form that this agent can't read".to_owned();
    let (form, rest) = bytes.split_first().ok_or_else(odd)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(odd)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| odd())?;
    let (known, matrix) = rest.split_at_checked(length).ok_or_else(odd)?;
    if *form != FORM {
        return Err(odd());
    }
    let record: MatrixRecord =
        serde_json::from_slice(known).map_err(|error| format!("{}: {error}", odd()))?;
    let matrix = Correlation::from_bytes(matrix).map_err(|error| error.to_string())?;
    if digest(&matrix) != published.digest || record.digest != published.digest {
        return Err("its values are not those that its digest names".to_owned());
    }
    let square = Candidate::square(matrix.series().to_vec(), matrix.to_square());
    let square = square.map_err(|error| error.to_string())?;
    match square.definiteness() {
        Definiteness::Definite => Ok((record, matrix)),
        _ => Err("it is indefinite".to_owned()),
    }
}

/// So long a host waits before it asks for a version, so that not all hosts of a fleet do at the same time. A small fleet
/// does not wait.
pub fn splay(bytes: u64, members: u64, host_id: &str, number: u64) -> Duration {
    let all = bytes.saturating_mul(members).saturating_mul(1_000) / RATE;
    let all = Duration::from_millis(all).min(LONGEST);
    let drawn = blake3::hash(format!("{host_id}/{number}").as_bytes());
    let part = u32::from(u16::from_le_bytes([drawn.as_bytes()[0], drawn.as_bytes()[1]]));
    all * part / u32::from(u16::MAX)
}
