//! The archive: create-only objects in a folder or in an S3-compatible bucket, through `object_store`.

use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::failpoint;
use crate::error::{Error, Result};

mod address;
mod bucket;

pub use address::{Address, Bucket, Encryption, Place};

/// Above this size in bytes an object is streamed in parts instead of being held in memory.
const WHOLE_LIMIT: u64 = 8 << 20;
/// How much is held in memory while streaming to a folder, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// The same for a bucket: S3 wants 5 MiB at least, and takes 10,000 parts.
const PART_BYTES: usize = 8 << 20;
/// At most this many staged files of one object are looked for; each crash leaves one at most.
const STAGED_LIMIT: u32 = 100;

/// Where segments are kept for their retention.
#[derive(Clone)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    url: String,
    /// Before each name, ended by a slash, or empty.
    prefix: String,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Folder(PathBuf),
    Bucket(Arc<dyn MultipartStore>),
}

/// What an upload found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is new.
    Created,
    /// There was one of this name already; whether it is the same is the caller's to verify.
    Existed,
}

/// Remembers the upload in parts that goes on, so that one that was cut off is aborted instead of being stored,
/// unseen, for ever.
#[async_trait]
pub trait Uploads: Send + Sync {
    /// The upload that an earlier attempt may have left.
    fn left(&self) -> Option<String>;

    /// Remembers an upload before its first part is sent.
    async fn begun(&self, upload: String) -> Result<()>;

    /// Forgets it: it is an object by now.
    async fn ended(&self) -> Result<()>;
}

impl Archive {
    /// Opens the archive; the folder of a local one is made. A bucket is first called when it is used.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE` when the folder can't be made, `ARCHIVE_CREDENTIALS_INVALID`.
    pub fn open(address: &Address) -> Result<Self> {
        let url = address.url.clone();
        match &address.place {
            Place::Folder(folder) => {
                crate::outside::files::create_folders(folder).map_err(|error| {
                    unavailable(&format!("make the archive folder {}", folder.display()))
                        .caused_by(error)
                })?;
                let store = LocalFileSystem::new_with_prefix(folder)
                    .map_err(|error| {
                        unavailable(&format!("open the archive {url}")).caused_by(error)
                    })?
                    .with_fsync(true);
                let kind = Kind::Folder(folder.clone());
                Ok(Self { store: Arc::new(store), url, prefix: String::new(), kind })
            }
            Place::Bucket(bucket) => {
                let store = Arc::new(bucket::connect(bucket, &url)?);
                let kind = Kind::Bucket(Arc::clone(&store) as Arc<dyn MultipartStore>);
                Ok(Self { store, url, prefix: bucket.prefix.clone(), kind })
            }
        }
    }

    /// Its configured address.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn path(&self, name: &str) -> Result<Path> {
        object_path(&format!("{}{name}", self.prefix))
    }

    /// Puts the file at `source` under `name`, never over an existing object. Durable when it returns.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE` when reading or writing fails; a partial object is not left under the name.
    pub async fn put_file(
        &self,
        name: &str,
        source: &FilePath,
        uploads: &dyn Uploads,
    ) -> Result<Put> {
        let fault = || unavailable(&format!("archive {name} at {}", self.url));
        if let Kind::Folder(folder) = &self.kind {
            remove_staged(folder, name).await.map_err(|error| fault().caused_by(error))?;
        }
        let mut file =
            tokio::fs::File::open(source).await.map_err(|error| fault().caused_by(error))?;
        let size = file.metadata().await.map_err(|error| fault().caused_by(error))?.len();
        if size <= WHOLE_LIMIT {
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            file.read_to_end(&mut bytes).await.map_err(|error| fault().caused_by(error))?;
            return self.put(name, bytes.into()).await;
        }
        match &self.kind {
            Kind::Folder(_) => self.put_staged(name, &mut file).await,
            Kind::Bucket(parts) => self.put_parts(parts.as_ref(), name, &mut file, uploads).await,
        }
    }

    /// A put in parts to a folder has no create-only mode, so the parts go to a name of their own first.
    async fn put_staged(&self, name: &str, file: &mut tokio::fs::File) -> Result<Put> {
        let fault = || unavailable(&format!("archive {name} at {}", self.url));
        if self.size(name).await?.is_some() {
            return Ok(Put::Existed);
        }
        let (path, staging) = (self.path(name)?, self.path(&format!("{name}.uploading"))?);
        let mut upload =
            self.store.put_multipart(&staging).await.map_err(|error| fault().caused_by(error))?;
        let sent = async {
            while let Some(part) =
                next_part(file, PIECE_BYTES).await.map_err(|error| fault().caused_by(error))?
            {
                let sending = upload.put_part(PutPayload::from(part));
                sending.await.map_err(|error| fault().caused_by(error))?;
            }
            upload.complete().await.map_err(|error| fault().caused_by(error))?;
            Ok::<(), Error>(())
        }
        .await;
        if let Err(error) = sent {
            // The upload's own failure is what the caller must know; a second one adds nothing.
            let _ = upload.abort().await;
            return Err(error);
        }
        match self.store.rename_if_not_exists(&staging, &path).await {
            Ok(()) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. }) => {
                let _ = self.store.delete(&staging).await;
                Ok(Put::Existed)
            }
            Err(error) => Err(fault().caused_by(error)),
        }
    }

    /// The parts of an object in a bucket are nothing that anybody sees until they are completed. One host
    /// writes one name, so that looking first is enough.
    async fn put_parts(
        &self,
        store: &dyn MultipartStore,
        name: &str,
        file: &mut tokio::fs::File,
        uploads: &dyn Uploads,
    ) -> Result<Put> {
        let fault = || unavailable(&format!("archive {name} at {}", self.url));
        let path = self.path(name)?;
        let exists = self.size(name).await?.is_some();
        if let Some(left) = uploads.left() {
            match store.abort_multipart(&path, &left).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                // Some servers have other words for an upload that was completed.
                Err(_) if exists => {}
                Err(error) => {
                    let attempted = format!(
                        "abort the upload of {name} to {} that was cut off before",
                        self.url
                    );
                    return Err(unavailable(&attempted).caused_by(error));
                }
            }
            uploads.ended().await?;
        }
        if exists {
            return Ok(Put::Existed);
        }
        let id = store.create_multipart(&path).await.map_err(|error| fault().caused_by(error))?;
        let sent = async {
            uploads.begun(id.clone()).await?;
            failpoint::hit("logs.upload-begun");
            let mut parts = Vec::new();
            while let Some(part) =
                next_part(file, PART_BYTES).await.map_err(|error| fault().caused_by(error))?
            {
                let sending = store.put_part(&path, &id, parts.len(), PutPayload::from(part));
                parts.push(sending.await.map_err(|error| fault().caused_by(error))?);
            }
            failpoint::hit("logs.parts-sent");
            let completing = store.complete_multipart(&path, &id, parts);
            completing.await.map_err(|error| fault().caused_by(error))?;
            failpoint::hit("logs.parts-completed");
            uploads.ended().await?;
            Ok(Put::Created)
        }
        .await;
        if sent.is_err() {
            // What can't be aborted now is aborted by the next attempt, which knows its id.
            let _ = store.abort_multipart(&path, &id).await;
        }
        sent
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<Put> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path(name)?, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::Existed),
            Err(error) => {
                Err(unavailable(&format!("archive {name} at {}", self.url)).caused_by(error))
            }
        }
    }

    /// The object's size in bytes; `None` when there is none.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE` when that can't be found out.
    pub async fn size(&self, name: &str) -> Result<Option<u64>> {
        match self.store.head(&self.path(name)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => {
                Err(unavailable(&format!("look at {name} in {}", self.url)).caused_by(error))
            }
        }
    }

    /// Reads a small object whole; `None` when there is none.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE`, or `ARCHIVE_OBJECT_TOO_LARGE` when it is over `limit` bytes.
    pub async fn read_small(&self, name: &str, limit: u64) -> Result<Option<Bytes>> {
        let result = match self.store.get(&self.path(name)?).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => {
                return Err(unavailable(&format!("read {name} from {}", self.url)).caused_by(error));
            }
        };
        if result.meta.size > limit {
            let message =
                format!("{name} has {} bytes, over the limit of {limit}", result.meta.size);
            return Err(Error::internal("ARCHIVE_OBJECT_TOO_LARGE", message));
        }
        let bytes = result.bytes().await;
        bytes.map(Some).map_err(|error| {
            unavailable(&format!("read {name} from {}", self.url)).caused_by(error)
        })
    }

    /// Reads a part of an object.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE` when it can't be read, `SEGMENT_MISSING` when there is none, `SEGMENT_DAMAGED` when it
    /// is shorter than asked.
    pub async fn read_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let what = format!("bytes {}..{} of {name} from {}", range.start, range.end, self.url);
        match self.store.get_range(&self.path(name)?, range.clone()).await {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => Ok(bytes),
            Ok(_) => Err(Error::internal(
                "SEGMENT_DAMAGED",
                format!("can't read {what}: it ends before"),
            )),
            Err(object_store::Error::NotFound { .. }) => {
                Err(Error::not_found("SEGMENT_MISSING", format!("can't read {what}: it is gone")))
            }
            Err(error) => Err(unavailable(&format!("read {what}")).caused_by(error)),
        }
    }

    /// Size and sha256 (hex) of an object, read through once; `None` when there is none.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE` when it can't be read.
    pub async fn hash(&self, name: &str) -> Result<Option<(u64, String)>> {
        let fault = || unavailable(&format!("read {name} from {}", self.url));
        let result = match self.store.get(&self.path(name)?).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(fault().caused_by(error)),
        };
        let (mut stream, mut hash, mut size) = (result.into_stream(), Sha256::new(), 0);
        while let Some(part) = stream.next().await {
            let part = part.map_err(|error| fault().caused_by(error))?;
            size += part.len() as u64;
            hash.update(&part);
        }
        Ok(Some((size, hex::encode(hash.finalize()))))
    }

    /// Deletes an object; one that is not there is no error.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE` when it can't be deleted.
    pub async fn delete(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.path(name)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => {
                Err(unavailable(&format!("delete {name} from {}", self.url)).caused_by(error))
            }
        }
    }

    /// Calls `f` with every object's name and size below `prefix`, until it fails.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE` when the archive can't be listed.
    pub async fn names(
        &self,
        prefix: &str,
        mut f: impl FnMut(&str, u64) -> Result<()>,
    ) -> Result<()> {
        let below = (!prefix.is_empty() || !self.prefix.is_empty())
            .then(|| self.path(prefix.trim_end_matches('/')))
            .transpose()?;
        let mut listed = self.store.list(below.as_ref());
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|error| {
                unavailable(&format!("list {prefix} in {}", self.url)).caused_by(error)
            })?;
            let location = meta.location.as_ref();
            f(location.strip_prefix(&self.prefix).unwrap_or(location), meta.size)?;
        }
        Ok(())
    }
}

/// The next part of a file; `None` at its end.
async fn next_part(file: &mut tokio::fs::File, bytes: usize) -> std::io::Result<Option<Bytes>> {
    let mut part = BytesMut::with_capacity(bytes);
    while part.len() < bytes && file.read_buf(&mut part).await? > 0 {}
    Ok(Some(part.freeze()).filter(|part| !part.is_empty()))
}

/// Removes what a put of `name` left that a crash cut off. The local store stages under `name#1` and so on, and
/// uses none of these again.
async fn remove_staged(folder: &FilePath, name: &str) -> std::io::Result<()> {
    for staged in [name.to_owned(), format!("{name}.uploading")] {
        for number in 1..=STAGED_LIMIT {
            match tokio::fs::remove_file(folder.join(format!("{staged}#{number}"))).await {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn object_path(name: &str) -> Result<Path> {
    Path::parse(name).map_err(|error| {
        Error::internal("ARCHIVE_NAME_INVALID", format!("{name:?} can't be an object's name"))
            .caused_by(error)
    })
}

fn unavailable(attempted: &str) -> Error {
    Error::unavailable("ARCHIVE_UNAVAILABLE", format!("can't {attempted}"))
}
