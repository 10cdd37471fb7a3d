//! A file on its way to an agent, in pieces.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use genesis_client::v1::{UploadAdvisoriesRequest, UploadAdvisoriesResponse};
use genesis_client::{Client, Error, Kind};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::connect::Session;
use crate::exit::{Halt, Stop};
use crate::progress::Bar;

const PIECE: usize = 256 << 10;

/// An upload that takes longer is gone before it is imported.
const LIMIT: Duration = Duration::from_secs(3600);

/// A file as it was when it was opened. Several agents are sent it at the same time, each from its beginning.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    file: Arc<File>,
    path: PathBuf,
    opened: Seen,
}

/// By which a change of a file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    size: u64,
    modified: (i64, i64),
}

impl Seen {
    fn of(found: &Metadata) -> Self {
        Self { size: found.size(), modified: (found.mtime(), found.mtime_nsec()) }
    }
}

impl Upload {
    pub(super) fn open(path: &Path) -> Result<Self, Halt> {
        let shown = path.display();
        // A pipe would be waited for, so it is looked at before it is opened.
        let found = std::fs::metadata(path).map_err(|error| cannot("look at", path, &error))?;
        if found.is_dir() {
            return Err(Halt::Usage(format!(
                "{shown} is a folder: zip it (`zip -r advisories.zip {shown}`) and give the .zip; or put it on the \
                 agent's host, name it in the agent's configuration (advisories in [dependencies]), and leave \
                 FILE out"
            )));
        }
        if !found.is_file() {
            return Err(Halt::Usage(format!(
                "{shown} is no regular file: write what it has to one, and give that"
            )));
        }
        let file = File::open(path).map_err(|error| cannot("open", path, &error))?;
        let found = file.metadata().map_err(|error| cannot("look at", path, &error))?;
        if found.len() == 0 {
            return Err(Halt::Usage(format!("{shown} is empty: get the file anew")));
        }
        Ok(Self { file: Arc::new(file), path: path.to_owned(), opened: Seen::of(&found) })
    }

    /// What the agent knows it by: where it is here is nobody else's business.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) async fn send(
        &self,
        session: &Session<'_>,
        client: &Client,
    ) -> Result<UploadAdvisoriesResponse, Stop> {
        // A call has 30 seconds where nothing is said, and this one takes as long as the way is slow.
        let client = match session.global.timeout {
            Some(_) => client.clone(),
            None => client.with_timeout(LIMIT),
        };
        let bar = Arc::new(session.bar(&format!("sending {}", self.name())));
        let (trouble, mut troubles) = unbounded_channel();
        let sending = client.call(self.clone(), |client, upload| {
            let pieces = upload.pieces(bar.clone(), trouble.clone());
            async move { client.dependencies().upload_advisories(pieces).await }
        });
        tokio::select! {
            biased;
            Some(halt) = troubles.recv() => Err(match halt {
                // A file that was changed is a failure of this node's like any other.
                Halt::Error(error) => Stop::Node(error),
                halt => Stop::Halt(halt),
            }),
            answer = sending => Ok(answer?),
        }
    }

    /// All of it. What can't be read is told to `trouble`, and then no more comes: an end would look like that of the file.
    fn pieces(
        self,
        bar: Arc<Bar>,
        trouble: UnboundedSender<Halt>,
    ) -> impl Stream<Item = UploadAdvisoriesRequest> + Send + 'static {
        stream::unfold((self, 0_u64, bar, trouble), |(upload, done, bar, trouble)| async move {
            match upload.piece(done) {
                Ok(Some(piece)) => {
                    let done = done + piece.data.len() as u64;
                    bar.bytes(done, upload.opened.size);
                    Some((piece, (upload, done, bar, trouble)))
                }
                Ok(None) => None,
                Err(halt) => {
                    let _ = trouble.send(halt);
                    std::future::pending().await
                }
            }
        })
    }

    /// The piece that begins at `done`; `None`: that was all.
    fn piece(&self, done: u64) -> Result<Option<UploadAdvisoriesRequest>, Halt> {
        let left = self.opened.size - done;
        let mut data = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        match self.file.read_exact_at(&mut data, done) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.changed().into());
            }
            read => read.map_err(|error| cannot("read", &self.path, &error))?,
        }
        let found = self.file.metadata();
        let found = found.map_err(|error| cannot("look at", &self.path, &error))?;
        if Seen::of(&found) != self.opened {
            return Err(self.changed().into());
        }
        if left == 0 {
            return Ok(None);
        }
        let piece = UploadAdvisoriesRequest { data, ..Default::default() };
        if done > 0 {
            return Ok(Some(piece));
        }
        let (seconds, nanos) = self.opened.modified;
        let nanos = i32::try_from(nanos).unwrap_or_default();
        let file_at = Some(prost_types::Timestamp { seconds, nanos });
        Ok(Some(UploadAdvisoriesRequest { file: self.name(), file_at, ..piece }))
    }

    fn changed(&self) -> Error {
        let message = format!("{} was changed while it was sent", self.path.display());
        let next = "wait until it is written, then give it again";
        Error::new(Kind::Conflict, "ABORTED", "FILE_CHANGED", message, next)
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Halt {
    Halt::Failed(format!("can't {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_sent_is_not_taken_for_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        std::fs::write(&path, vec![b'x'; PIECE + 7]).unwrap();
        let upload = Upload::open(&path).unwrap();
        let first = upload.piece(0).unwrap().unwrap();
        assert_eq!((first.file.as_str(), first.data.len()), ("x.csv", PIECE));
        let second = upload.piece(PIECE as u64).unwrap().unwrap();
        assert_eq!((second.file.as_str(), second.file_at, second.data.len()), ("", None, 7));
        assert!(upload.piece(PIECE as u64 + 7).unwrap().is_none());
        for length in [3, PIECE + 8] {
            std::fs::write(&path, vec![b'y'; length]).unwrap();
            for done in [0, PIECE as u64, PIECE as u64 + 7] {
                let refused = upload.piece(done).unwrap_err().message().unwrap();
                assert!(refused.contains("was changed"), "{length} {done}: {refused}");
            }
        }
    }
}
