//! The archive: create-only objects in a folder (or, later, a bucket), through `object_store`.

use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::error::{Error, Result};

/// Above this size in bytes an object is streamed in parts instead of being held in memory.
const WHOLE_LIMIT: u64 = 8 << 20;
/// How much is held in memory while streaming, in bytes.
const PART_BYTES: usize = 4 << 20;
/// At most this many staged files of one object are looked for; each crash leaves one at most.
const STAGED_LIMIT: u32 = 100;

/// Where segments are kept for their retention.
#[derive(Clone)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    url: String,
    folder: PathBuf,
}

/// What an upload found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is new.
    Created,
    /// There was one of this name already; whether it is the same is the caller's to verify.
    Existed,
}

impl Archive {
    /// Opens the archive at `url` (`file:///folder`), creating the folder.
    ///
    /// # Errors
    /// `ARCHIVE_URL_INVALID`, or `ARCHIVE_UNAVAILABLE` when the folder can't be made.
    pub fn open(url: &str) -> Result<Self> {
        let folder = folder_of(url).map_err(|why| Error::invalid("ARCHIVE_URL_INVALID", why))?;
        crate::outside::files::create_folders(&folder).map_err(|error| {
            unavailable(&format!("make the archive folder {}", folder.display())).caused_by(error)
        })?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|error| unavailable(&format!("open the archive {url}")).caused_by(error))?
            .with_fsync(true);
        Ok(Self { store: Arc::new(store), url: url.to_owned(), folder })
    }

    /// Its configured address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts the file at `source` under `name`, never over an existing object. Durable when it returns.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE` when reading or writing fails; a partial object is not left under the name.
    pub async fn put_file(&self, name: &str, source: &FilePath) -> Result<Put> {
        let fault = || unavailable(&format!("archive {name} at {}", self.url));
        self.remove_staged(name).await.map_err(|error| fault().caused_by(error))?;
        let mut file =
            tokio::fs::File::open(source).await.map_err(|error| fault().caused_by(error))?;
        let size = file.metadata().await.map_err(|error| fault().caused_by(error))?.len();
        let path = object_path(name)?;
        if size <= WHOLE_LIMIT {
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            file.read_to_end(&mut bytes).await.map_err(|error| fault().caused_by(error))?;
            return self.put(&path, bytes.into()).await;
        }
        if self.size(name).await?.is_some() {
            return Ok(Put::Existed);
        }
        // A multipart put has no create-only mode, so the parts go to a name of their own first.
        let staging = object_path(&format!("{name}.uploading"))?;
        let mut upload =
            self.store.put_multipart(&staging).await.map_err(|error| fault().caused_by(error))?;
        let sent = async {
            loop {
                let mut part = BytesMut::with_capacity(PART_BYTES);
                while part.len() < PART_BYTES
                    && file.read_buf(&mut part).await.map_err(|error| fault().caused_by(error))? > 0
                {
                }
                if part.is_empty() {
                    break;
                }
                upload
                    .put_part(PutPayload::from(part.freeze()))
                    .await
                    .map_err(|error| fault().caused_by(error))?;
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

    /// Removes what a put of `name` left that a crash cut off. The local store stages under `name#1` and so
    /// on, and uses none of these again.
    async fn remove_staged(&self, name: &str) -> std::io::Result<()> {
        for staged in [name.to_owned(), format!("{name}.uploading")] {
            for number in 1..=STAGED_LIMIT {
                match tokio::fs::remove_file(self.folder.join(format!("{staged}#{number}"))).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn put(&self, path: &Path, bytes: Bytes) -> Result<Put> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(path, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::Existed),
            Err(error) => {
                Err(unavailable(&format!("archive {path} at {}", self.url)).caused_by(error))
            }
        }
    }

    /// The object's size in bytes; `None` when there is none.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE` when that can't be found out.
    pub async fn size(&self, name: &str) -> Result<Option<u64>> {
        match self.store.head(&object_path(name)?).await {
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
        let result = match self.store.get(&object_path(name)?).await {
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
    /// `ARCHIVE_UNAVAILABLE` when it can't be read, is absent, or is shorter than asked.
    pub async fn read_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.end - range.start;
        let fault = || {
            unavailable(&format!(
                "read bytes {}..{} of {name} from {}",
                range.start, range.end, self.url
            ))
        };
        let bytes = self
            .store
            .get_range(&object_path(name)?, range.clone())
            .await
            .map_err(|error| fault().caused_by(error))?;
        if bytes.len() as u64 == wanted { Ok(bytes) } else { Err(fault()) }
    }

    /// Size and sha256 (hex) of an object, read through once; `None` when there is none.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE` when it can't be read.
    pub async fn hash(&self, name: &str) -> Result<Option<(u64, String)>> {
        let fault = || unavailable(&format!("read {name} from {}", self.url));
        let result = match self.store.get(&object_path(name)?).await {
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
        match self.store.delete(&object_path(name)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => {
                Err(unavailable(&format!("delete {name} from {}", self.url)).caused_by(error))
            }
        }
    }

    /// Every object's name below `prefix`.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE` when the archive can't be listed.
    pub async fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = object_path(prefix)?;
        let listed = self.store.list(Some(&prefix)).map_ok(|meta| meta.location.to_string());
        listed.try_collect().await.map_err(|error| {
            unavailable(&format!("list {prefix} in {}", self.url)).caused_by(error)
        })
    }
}

/// The folder of a `file://` address.
///
/// # Errors
/// What is wrong with the address, in words.
pub fn folder_of(url: &str) -> Result<PathBuf, String> {
    match url.strip_prefix("file://") {
        Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
        Some(_) => Err(format!("{url:?} needs an absolute path: file:///folder")),
        None => {
            Err(format!("{url:?} is no archive address this version knows; use file:///folder"))
        }
    }
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
