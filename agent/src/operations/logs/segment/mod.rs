//! The pure kernel of log segments: plain text in, an indexed gzip file with its manifest out, and
//! a time range of it back.
//!
//! A segment is cut into members, each a complete gzip stream of at most [`MEMBER_BYTES`] of
//! plain text, so that `zcat` reads the file as one and a slice needs only the members it
//! touches. The [`Manifest`] beside the file says where each member lies, which time it covers and
//! what its bytes hash to. Nothing here knows a path, a clock or a runtime: readers, writers and
//! instants are arguments. Instants are nanoseconds since 1970-01-01T00:00:00Z as `i64`.
//!
//! Each line has an effective timestamp: its own, or else that of the line before, across members
//! and segments. [`seal()`] and [`select_lines`] walk lines by the same code, so that what is in
//! the index and what is selected cannot disagree.

mod codec;
mod digest;
mod epoch;
mod lines;
mod manifest;
mod range;
mod readback;
mod rfc3339;
mod seal;
mod slice;
mod timestamp;

#[cfg(test)]
mod tests;

pub use codec::{Codec, CodecError, DEFAULT_LEVEL, LibdeflateCodec};
pub use digest::{Digest, DigestError};
pub use manifest::{
    FORMAT_VERSION, MAX_MANIFEST_BYTES, MAX_MEMBERS, Manifest, ManifestError, Member,
};
pub use range::{DateRange, RangeError};
pub use readback::{Damage, MemberFault, read_back};
pub use seal::{SealError, SealRequest, seal};
pub use slice::{Selected, inflate_member, members_for, select_lines};
pub use timestamp::{TIMESTAMP_WINDOW, TimestampFormat, TimestampParser};

/// The most plain bytes of one member.
pub const MEMBER_BYTES: usize = 1 << 20;

/// The most compressed bytes of one member: incompressible text, block headers and the gzip frame.
pub const MEMBER_COMPRESSED_BYTES: usize = MEMBER_BYTES + (64 << 10);
