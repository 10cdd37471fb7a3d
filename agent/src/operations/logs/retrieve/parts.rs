//! What a retrieval sends, and how.

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::error::Result;

/// Lines are sent in pieces of about this size, in bytes.
const PIECE: usize = 256 << 10;

/// One part of a retrieval.
#[derive(Debug)]
pub enum Part {
    /// What will be read; first.
    Plan(ReadPlan),
    /// What follows is of this host; only where several are read.
    Host(String),
    /// Whole lines.
    Data(Bytes),
    /// How it ended; last.
    Trailer(Trailer),
}

/// What a retrieval reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadPlan {
    /// Segments that are touched.
    pub segments: u64,
    /// Members that are touched.
    pub members: u64,
    /// Compressed bytes that are read.
    pub compressed_bytes: u64,
    /// Plain bytes that they hold.
    pub plain_bytes: u64,
}

/// How a retrieval ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trailer {
    /// Segments that gave lines.
    pub segments: u64,
    /// Lines sent.
    pub lines: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// What is missing.
    pub gaps: Vec<Gap>,
    /// sha256 of all data, hex.
    pub sha256: String,
    /// Lines of the range may still be in files that are being written.
    pub active_files_in_range: bool,
    /// Segments of the range that retention has deleted.
    pub expired_segments: u64,
    /// Hosts that were looked for in the archive only: what they have not archived yet is not here.
    pub archived_only: u64,
    /// Why one may be mistaken about who wrote what.
    pub warnings: Vec<String>,
}

/// Lines that are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The segment.
    pub sequence: u64,
    /// Its place in the archive; empty before it was sealed.
    pub archive_name: String,
    /// The time it covers, where known.
    pub covers: Option<(Timestamp, Timestamp)>,
    /// At most so many lines are missing.
    pub lines: u64,
    /// Stable code.
    pub code: &'static str,
    /// Why.
    pub message: String,
}

/// Gathers lines into pieces for the stream, and counts and hashes them.
pub(super) struct Sender {
    to: mpsc::Sender<Result<Part>>,
    hash: Sha256,
    piece: Vec<u8>,
    pub(super) lines: u64,
    pub(super) bytes: u64,
    /// Nobody listens any more.
    pub(super) gone: bool,
}

impl Sender {
    pub(super) fn new(to: mpsc::Sender<Result<Part>>) -> Self {
        Self { to, hash: Sha256::new(), piece: Vec::new(), lines: 0, bytes: 0, gone: false }
    }

    /// Sends how it ended.
    pub(super) async fn end(self, mut trailer: Trailer) {
        trailer.lines = self.lines;
        trailer.bytes = self.bytes;
        trailer.sha256 = hex::encode(self.hash.finalize());
        // Nobody listening any more is no error.
        let _ = self.to.send(Ok(Part::Trailer(trailer))).await;
    }

    pub(super) async fn send(&mut self, bytes: &[u8], lines: u64) {
        self.lines += lines;
        for chunk in bytes.chunks(PIECE) {
            self.piece.extend_from_slice(chunk);
            if self.piece.len() >= PIECE {
                self.flush().await;
            }
        }
    }

    /// What follows is of another host.
    pub(super) async fn begin(&mut self, host: String) {
        self.flush().await;
        self.gone = self.gone || self.to.send(Ok(Part::Host(host))).await.is_err();
    }

    pub(super) async fn flush(&mut self) {
        if self.piece.is_empty() || self.gone {
            return;
        }
        let piece = std::mem::take(&mut self.piece);
        self.hash.update(&piece);
        self.bytes += piece.len() as u64;
        self.gone = self.to.send(Ok(Part::Data(Bytes::from(piece)))).await.is_err();
    }
}
