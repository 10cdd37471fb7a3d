use std::fmt;

use libdeflater::{CompressionLvl, Compressor};

/// The level of libdeflate that is more than twice as fast as `gzip -6` when sealing. Its output is
/// about as large: smaller or larger by a few per cent with the text.
pub const DEFAULT_LEVEL: i32 = 5;

/// One member in this many is compressed a level higher by [`LibdeflateCodec::standard`].
const THOROUGH_EVERY: u64 = 8;

/// Compresses the members of a segment.
pub trait Codec: Send {
    /// Replaces the content of `out` by one complete gzip member that holds `plain`. A new codec
    /// gives the same output for the same members: the header carries no time and no name.
    ///
    /// # Errors
    /// When the compressor refuses; `out` then holds nothing of use.
    fn compress_member(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError>;
}

/// What a compressor refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No such level.
    #[error("compression level {0} is not between 1 and 12")]
    Level(i32),
    /// The compressed bytes did not fit the bound that the compressor gave itself.
    #[error("compressing {0} bytes overran the compressor's own bound")]
    Overrun(usize),
}

/// Whole-buffer compression by libdeflate. It keeps its tables, about a MiB, from member to member.
pub struct LibdeflateCodec {
    usual: Compressor,
    /// For one member in [`THOROUGH_EVERY`].
    thorough: Option<Compressor>,
    members: u64,
}

impl LibdeflateCodec {
    /// A compressor of `level`, 1 (fast) to 12 (small).
    ///
    /// # Errors
    /// [`CodecError::Level`] for any other level.
    pub fn new(level: i32) -> Result<Self, CodecError> {
        Ok(Self { usual: compressor(level)?, thorough: None, members: 0 })
    }

    /// The compressor to seal with: [`DEFAULT_LEVEL`], and every eighth member, from the first
    /// on, a level higher. The next level is a quarter slower for three per cent, too slow for all
    /// members and worth it for some.
    ///
    /// # Errors
    /// None in practice: both levels are constants.
    pub fn standard() -> Result<Self, CodecError> {
        let thorough = Some(compressor(DEFAULT_LEVEL + 1)?);
        Ok(Self { thorough, ..Self::new(DEFAULT_LEVEL)? })
    }
}

impl Codec for LibdeflateCodec {
    fn compress_member(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
        let compressor = match &mut self.thorough {
            Some(thorough) if self.members.is_multiple_of(THOROUGH_EVERY) => thorough,
            _ => &mut self.usual,
        };
        self.members = self.members.wrapping_add(1);
        out.resize(compressor.gzip_compress_bound(plain.len()), 0);
        let length =
            compressor.gzip_compress(plain, out).map_err(|_| CodecError::Overrun(plain.len()))?;
        out.truncate(length);
        Ok(())
    }
}

fn compressor(level: i32) -> Result<Compressor, CodecError> {
    // Level 0 stores, which is no use here.
    let known = (level > 0).then(|| CompressionLvl::new(level).ok()).flatten();
    Ok(Compressor::new(known.ok_or(CodecError::Level(level))?))
}

impl fmt::Debug for LibdeflateCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LibdeflateCodec").finish_non_exhaustive()
    }
}
