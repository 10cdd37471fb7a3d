use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress, Status};
use sha2::Digest as _;

use super::digest::Digest;
use super::lines;
use super::manifest::{Manifest, Member};
use super::{MEMBER_BYTES, MEMBER_COMPRESSED_BYTES};

/// Why a segment is not what its manifest says.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The file could not be read, so that nothing is known about it. Not proof of damage.
    #[error("cannot read the segment at byte {offset}")]
    Read {
        /// Where in the compressed file.
        offset: u64,
        /// What the reader said.
        source: io::Error,
    },
    /// One member is damaged; those before it are whole.
    #[error("the member at byte {offset} of the segment {fault}")]
    Member {
        /// Where the member starts in the compressed file.
        offset: u64,
        /// What is wrong with it.
        fault: MemberFault,
    },
    /// Bytes follow the last member.
    #[error("the segment goes on behind byte {offset}, where its last member ends")]
    Trailing {
        /// The length it should have.
        offset: u64,
    },
    /// Every member is whole, and yet the whole differs from the manifest.
    #[error("the segment's {what} differs from its manifest: {found} instead of {expected}")]
    Whole {
        /// Which field.
        what: &'static str,
        /// As the manifest has it.
        expected: String,
        /// As the file has it.
        found: String,
    },
}

/// What is wrong with a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemberFault {
    /// The file ends within it, or fewer bytes were handed in than it has.
    #[error("has {found} bytes instead of {expected}")]
    Length {
        /// As the manifest has it.
        expected: u64,
        /// As it was found.
        found: u64,
    },
    /// Its compressed bytes are not those that were written.
    #[error("has changed: its blake3 is {found} instead of {expected}")]
    Hash {
        /// As the manifest has it.
        expected: Digest,
        /// As it was found.
        found: Digest,
    },
    /// It is no gzip, or its own checksum is wrong.
    #[error("cannot be decompressed")]
    Gzip,
    /// It is one gzip member with another length than the manifest says.
    #[error("does not decompress to {expected} bytes")]
    PlainLength {
        /// As the manifest has it.
        expected: u64,
    },
    /// Another number of lines begins in it.
    #[error("has {found} lines instead of {expected}")]
    Lines {
        /// As the manifest has it.
        expected: u64,
        /// As it was found.
        found: u64,
    },
    /// It starts within a line where the manifest says it does not, or the reverse.
    #[error("starts within a line contrary to its manifest, or not")]
    LineStart,
    /// The manifest gives it a size that no member has.
    #[error("is said to have {0} bytes, more than any member")]
    Oversized(u64),
}

/// Reads a whole segment again and compares it with its manifest: lengths, the sha256 of the
/// file, each member's blake3 and gzip checksum, lines, line starts, and the blake3 of the text.
/// The decompressor is not the compressor's own. Memory stays within a few MiB.
///
/// # Errors
/// The first [`Damage`] in the order of the file, or [`Damage::Read`].
pub fn read_back(file: &mut impl Read, manifest: &Manifest) -> Result<(), Damage> {
    let mut inflater = Inflater::new();
    let mut compressed = Vec::new();
    let mut sha256 = sha2::Sha256::new();
    let mut blake3 = blake3::Hasher::new();
    let mut offset = 0;
    // Whether the text so far ends within a line; how the first member starts is the writer's word.
    let mut mid_line = manifest.members.first().is_some_and(|member| member.starts_mid_line);
    for member in &manifest.members {
        let damaged = |fault| Damage::Member { offset, fault };
        let length = member_size(member.compressed_bytes).map_err(damaged)?;
        compressed.resize(length, 0);
        let found =
            fill(file, &mut compressed).map_err(|source| Damage::Read { offset, source })?;
        if found < length {
            let (expected, found) = (length as u64, found as u64);
            return Err(damaged(MemberFault::Length { expected, found }));
        }
        sha256.update(&compressed);
        let plain = inflater.inflate(&compressed, member).map_err(damaged)?;
        blake3.update(plain);
        if member.starts_mid_line != mid_line {
            return Err(damaged(MemberFault::LineStart));
        }
        check_lines(plain, member).map_err(damaged)?;
        mid_line = !plain.ends_with(b"\n");
        offset += member.compressed_bytes;
    }
    if fill(file, &mut [0]).map_err(|source| Damage::Read { offset, source })? > 0 {
        return Err(Damage::Trailing { offset });
    }
    same("sha256", &manifest.sha256, &Digest(sha256.finalize().into()))?;
    same("blake3", &manifest.blake3, &Digest(blake3.finalize().into()))?;
    same("compressed_bytes", &manifest.compressed_bytes, &offset)?;
    same("plain_bytes", &manifest.plain_bytes, &blake3.count())?;
    let lines: u64 = manifest.members.iter().map(|member| member.lines).sum();
    same("lines", &manifest.lines, &lines)?;
    let ends_with_newline = manifest.plain_bytes > 0 && !mid_line;
    same("ends_with_newline", &manifest.ends_with_newline, &ends_with_newline)
}

/// Decompresses members one by one with the same buffers.
pub(super) struct Inflater {
    state: Decompress,
    plain: Vec<u8>,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { state: Decompress::new_gzip(15), plain: Vec::new() }
    }

    /// The text of one member, once its bytes have proven to be those of the manifest.
    pub(super) fn inflate(
        &mut self,
        compressed: &[u8],
        member: &Member,
    ) -> Result<&[u8], MemberFault> {
        let (expected, found) = (member.compressed_bytes, compressed.len() as u64);
        if expected != found {
            return Err(MemberFault::Length { expected, found });
        }
        let (expected, found) = (member.blake3, Digest::blake3(compressed));
        if expected != found {
            return Err(MemberFault::Hash { expected, found });
        }
        let expected = member.plain_bytes;
        if expected > MEMBER_BYTES as u64 {
            return Err(MemberFault::Oversized(expected));
        }
        self.state.reset(true);
        // The whole member goes through one call, so that no window is copied. A byte more than
        // expected shows a member that is longer.
        self.plain.resize(expected as usize + 1, 0);
        let status = self
            .state
            .decompress(compressed, &mut self.plain, FlushDecompress::Finish)
            .map_err(|_| MemberFault::Gzip)?;
        if self.state.total_out() != expected {
            return Err(MemberFault::PlainLength { expected });
        }
        // A second gzip member within the bytes of this one would be read by other tools.
        if status != Status::StreamEnd || self.state.total_in() != compressed.len() as u64 {
            return Err(MemberFault::Gzip);
        }
        Ok(&self.plain[..expected as usize])
    }

    pub(super) fn into_plain(mut self, member: &Member) -> Vec<u8> {
        self.plain.truncate(member.plain_bytes as usize);
        self.plain
    }
}

/// Reads until `buffer` is full or the reader at its end, and returns how many bytes it read.
pub(super) fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn member_size(bytes: u64) -> Result<usize, MemberFault> {
    match usize::try_from(bytes) {
        Ok(size) if size <= MEMBER_COMPRESSED_BYTES => Ok(size),
        _ => Err(MemberFault::Oversized(bytes)),
    }
}

fn check_lines(plain: &[u8], member: &Member) -> Result<(), MemberFault> {
    let (expected, found) = (member.lines, lines::count(plain, member.starts_mid_line));
    if expected == found { Ok(()) } else { Err(MemberFault::Lines { expected, found }) }
}

fn same<T: PartialEq + ToString>(
    what: &'static str,
    expected: &T,
    found: &T,
) -> Result<(), Damage> {
    if expected == found {
        return Ok(());
    }
    Err(Damage::Whole { what, expected: expected.to_string(), found: found.to_string() })
}
