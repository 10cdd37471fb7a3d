use std::io::{self, Read, Write};

use sha2::Digest as _;

use super::codec::{Codec, CodecError};
use super::digest::Digest;
use super::lines;
use super::manifest::{FORMAT_VERSION, MAX_MEMBERS, Manifest, ManifestError, Member};
use super::readback::fill;
use super::timestamp::{TimestampFormat, TimestampParser};
use super::{MEMBER_BYTES, MEMBER_COMPRESSED_BYTES};

/// What is known about a segment before its bytes are read.
#[derive(Debug, Clone)]
pub struct SealRequest {
    /// As [`Manifest::host_id`].
    pub host_id: String,
    /// As [`Manifest::hostname`].
    pub hostname: String,
    /// As [`Manifest::log_type`].
    pub log_type: String,
    /// As [`Manifest::source_path`].
    pub source_path: String,
    /// As [`Manifest::sequence`].
    pub sequence: u64,
    /// As [`Manifest::chain_index`].
    pub chain_index: u64,
    /// As [`Manifest::previous`].
    pub previous: Option<Digest>,
    /// Where the lines carry their timestamps.
    pub timestamp_format: TimestampFormat,
    /// The timestamp in force before the first line: the previous segment's
    /// [`Manifest::ended_at`]. If `None`, lines before the first timestamp of the segment take
    /// that one.
    pub initial_at: Option<i64>,
    /// The timestamp of every line when there is none at all, nanoseconds since the epoch.
    pub fallback_at: i64,
    /// Whether the first bytes continue the last line of the previous segment. That line is then
    /// not counted here, and its timestamp is the one in force.
    pub starts_mid_line: bool,
    /// As [`Manifest::sealed_at`].
    pub sealed_at: i64,
    /// The most plain bytes of a member, held to 1 and [`MEMBER_BYTES`]: less is of use in tests.
    pub member_bytes: usize,
}

/// Why a segment was not sealed. What has been written to the output is then of no use.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The request would make a manifest that is none; nothing was read.
    #[error("cannot seal: the request makes no valid manifest")]
    Request(#[source] ManifestError),
    /// The source could not be read.
    #[error("cannot read the source at byte {offset}")]
    Read {
        /// Where in the plain bytes.
        offset: u64,
        /// What the reader said.
        source: io::Error,
    },
    /// A member could not be compressed.
    #[error("cannot compress the member at byte {offset} of the source")]
    Compress {
        /// Where in the plain bytes.
        offset: u64,
        /// What the codec said.
        source: CodecError,
    },
    /// A codec made a member that no reader accepts.
    #[error("the member at byte {offset} of the source came to {bytes} compressed bytes")]
    Oversized {
        /// Where in the plain bytes.
        offset: u64,
        /// The length it came to.
        bytes: usize,
    },
    /// The output could not be written.
    #[error("cannot write the segment at byte {offset}")]
    Write {
        /// Where in the compressed file.
        offset: u64,
        /// What the writer said.
        source: io::Error,
    },
    /// The source does not fit [`MAX_MEMBERS`] members.
    #[error("the source is too long for one segment: over {MAX_MEMBERS} members")]
    TooLong,
}

/// Compresses `source` to its end into `output` as gzip members, and returns their manifest.
///
/// A member ends at the last line end that fits it; a longer line is cut. Memory stays within a
/// few MiB, and 200 bytes for each member, whatever the source. The output is flushed, not synced.
///
/// # Errors
/// [`SealError`]; the source is untouched but for having been read.
pub fn seal(
    source: &mut impl Read,
    output: &mut impl Write,
    request: &SealRequest,
    codec: &mut dyn Codec,
) -> Result<Manifest, SealError> {
    let mut sealer = Sealer::new(request)?;
    let mut window = vec![0; request.member_bytes.clamp(1, MEMBER_BYTES)];
    let mut held = 0;
    loop {
        let offset = sealer.manifest.plain_bytes + held as u64;
        held += fill(source, &mut window[held..])
            .map_err(|source| SealError::Read { offset, source })?;
        let at_end = held < window.len();
        let cut = if at_end {
            held
        } else {
            memchr::memrchr(b'\n', &window).map_or(window.len(), |at| at + 1)
        };
        if cut > 0 || sealer.manifest.members.is_empty() {
            sealer.member(&window[..cut], output, codec)?;
        }
        if at_end {
            break;
        }
        window.copy_within(cut.., 0);
        held -= cut;
    }
    let offset = sealer.manifest.compressed_bytes;
    output.flush().map_err(|source| SealError::Write { offset, source })?;
    Ok(sealer.finish(request))
}

/// A manifest in the making.
struct Sealer {
    manifest: Manifest,
    parser: TimestampParser,
    sha256: sha2::Sha256,
    blake3: blake3::Hasher,
    compressed: Vec<u8>,
    /// The timestamp in force; `None` until one is known.
    in_force: Option<i64>,
    /// The first one that a line carried.
    found: Option<i64>,
    /// How many members started before one was known.
    unsettled: usize,
    mid_line: bool,
}

impl Sealer {
    fn new(request: &SealRequest) -> Result<Self, SealError> {
        let none = Digest([0; 32]);
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            host_id: request.host_id.clone(),
            hostname: request.hostname.clone(),
            log_type: request.log_type.clone(),
            source_path: request.source_path.clone(),
            sequence: request.sequence,
            chain_index: request.chain_index,
            previous: request.previous,
            timestamp_format: request.timestamp_format.to_string(),
            initial_at: request.initial_at,
            first_at: None,
            last_at: None,
            ended_at: request.initial_at,
            lines: 0,
            plain_bytes: 0,
            compressed_bytes: 0,
            sha256: none,
            blake3: none,
            ends_with_newline: false,
            sealed_at: request.sealed_at,
            members: Vec::new(),
        };
        manifest.validate_identity().map_err(SealError::Request)?;
        Ok(Self {
            manifest,
            parser: TimestampParser::new(&request.timestamp_format),
            sha256: sha2::Sha256::new(),
            blake3: blake3::Hasher::new(),
            compressed: Vec::new(),
            in_force: request.initial_at,
            found: None,
            unsettled: 0,
            mid_line: request.starts_mid_line,
        })
    }

    fn member(
        &mut self,
        plain: &[u8],
        output: &mut impl Write,
        codec: &mut dyn Codec,
    ) -> Result<(), SealError> {
        let manifest = &mut self.manifest;
        let (offset, plain_offset) = (manifest.compressed_bytes, manifest.plain_bytes);
        if manifest.members.len() == MAX_MEMBERS {
            return Err(SealError::TooLong);
        }
        codec
            .compress_member(plain, &mut self.compressed)
            .map_err(|source| SealError::Compress { offset: plain_offset, source })?;
        let bytes = self.compressed.len();
        if bytes > MEMBER_COMPRESSED_BYTES {
            return Err(SealError::Oversized { offset: plain_offset, bytes });
        }
        output.write_all(&self.compressed).map_err(|source| SealError::Write { offset, source })?;
        self.sha256.update(&self.compressed);
        self.blake3.update(plain);

        let initial = self.in_force;
        // While no timestamp is known the bounds are inside out, so that `finish` can widen them.
        let (mut first_at, mut last_at, mut lines) = (i64::MAX, i64::MIN, 0);
        let found = &mut self.found;
        self.in_force = lines::walk(plain, self.mid_line, initial, &mut self.parser, |piece| {
            lines += u64::from(piece.begins);
            if let Some(at) = piece.effective {
                first_at = first_at.min(at);
                last_at = last_at.max(at);
                found.get_or_insert(at);
            }
        });
        self.unsettled += usize::from(initial.is_none());
        manifest.members.push(Member {
            offset,
            compressed_bytes: bytes as u64,
            plain_offset,
            plain_bytes: plain.len() as u64,
            lines,
            first_at,
            last_at,
            initial_at: initial.unwrap_or_default(),
            starts_mid_line: self.mid_line,
            blake3: Digest::blake3(&self.compressed),
        });
        manifest.lines += lines;
        manifest.plain_bytes += plain.len() as u64;
        manifest.compressed_bytes += bytes as u64;
        manifest.ends_with_newline = plain.ends_with(b"\n");
        self.mid_line = !manifest.ends_with_newline;
        Ok(())
    }

    fn finish(self, request: &SealRequest) -> Manifest {
        let mut manifest = self.manifest;
        // With `initial_at` given this is never used: every member was settled at its start.
        let start = request.initial_at.or(self.found).unwrap_or(request.fallback_at);
        for member in &mut manifest.members[..self.unsettled] {
            member.initial_at = start;
            member.first_at = member.first_at.min(start);
            member.last_at = member.last_at.max(start);
        }
        if manifest.plain_bytes > 0 {
            manifest.initial_at = Some(start);
            manifest.first_at = manifest.members.iter().map(|member| member.first_at).min();
            manifest.last_at = manifest.members.iter().map(|member| member.last_at).max();
            manifest.ended_at = Some(self.in_force.unwrap_or(start));
        } else {
            for member in &mut manifest.members {
                (member.initial_at, member.first_at, member.last_at) = (start, start, start);
            }
        }
        manifest.sha256 = Digest(self.sha256.finalize().into());
        manifest.blake3 = Digest(self.blake3.finalize().into());
        manifest
    }
}
