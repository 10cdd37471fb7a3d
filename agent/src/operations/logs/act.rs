//! Carries out the steps of a segment's life; decides nothing. Each side effect is idempotent and comes
//! between the commit that announces it and the one that records it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use genesis_storage::SegmentRecord;
use jiff::Timestamp;

use super::plan;
use super::segment::{LibdeflateCodec, MEMBER_BYTES, Manifest, SealRequest, read_back, seal};
use crate::error::{Error, Result};
use crate::outside::archive::Uploads;
use crate::outside::{Archive, failpoint, files};

/// A sealed segment on the local disk.
#[derive(Debug)]
pub struct SealedFile {
    /// What is in it.
    pub manifest: Manifest,
    /// Its place in the archive, without `.log.gz`.
    pub archive_name: String,
    /// sha256 of the manifest's bytes, hex.
    pub manifest_sha256: String,
}

/// The file of a sealed segment below `root`.
pub fn segment_file(root: &Path, archive_name: &str) -> PathBuf {
    root.join(format!("{archive_name}.log.gz"))
}

/// The manifest of a sealed segment below `root`.
pub fn manifest_file(root: &Path, archive_name: &str) -> PathBuf {
    root.join(format!("{archive_name}.manifest.json"))
}

/// What a rename turned out to have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// The file that was looked at has its new name.
    AsPlanned,
    /// Another file stood at the path by then; it has its name back.
    PutBack,
    /// Another file stood at the path by then and could not be put back: device and inode of what is detached now.
    Another(u64, u64),
}

/// Renames the log away from its writer. Durable when it returns.
///
/// # Errors
/// `CUT_FAILED`; the rename may have happened all the same, so the world must be looked at.
pub fn detach(source: &Path, detached: &Path, device: u64, inode: u64) -> Result<Detached> {
    failpoint::hit("logs.before-rename");
    failpoint::pause("logs.before-rename");
    let failed = || {
        let message = format!("can't rename {} to {}", source.display(), detached.display());
        Error::unavailable("CUT_FAILED", message)
    };
    files::rename_new(source, detached).map_err(|error| failed().caused_by(error))?;
    failpoint::hit("logs.after-rename");
    let seen = files::look(detached).map_err(|error| failed().caused_by(error))?;
    match seen.map(|facts| (facts.device, facts.inode)) {
        Some(seen) if seen == (device, inode) => Ok(Detached::AsPlanned),
        // Somebody else rotated at the same moment: what was renamed is not what was looked at.
        Some((device, inode)) => match files::rename_new(detached, source) {
            Ok(()) => Ok(Detached::PutBack),
            Err(_) => Ok(Detached::Another(device, inode)),
        },
        None => Err(failed()),
    }
}

/// Compresses a detached file into `root`, reads it back, and makes it durable. The source is not touched.
///
/// # Errors
/// `SPACE_SHORT` when the disk is full, or `SEAL_FAILED` with what the disk or the file said; nothing is left
/// under a final name then.
pub fn seal_file(
    detached: &Path,
    identity: (u64, u64),
    root: &Path,
    request: SealRequest,
    reserve: u64,
) -> Result<SealedFile> {
    seal_at(detached, identity, root, request, reserve).map_err(|error| {
        // Whoever has met the end of the disk: it is one reason to people, and it passes by itself.
        let full = std::iter::successors(std::error::Error::source(&error), |cause| cause.source())
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|cause| cause.kind() == std::io::ErrorKind::StorageFull);
        if full {
            Error::unavailable("SPACE_SHORT", format!("the disk of {} is full", root.display()))
                .caused_by(error)
        } else {
            error
        }
    })
}

fn seal_at(
    detached: &Path,
    identity: (u64, u64),
    root: &Path,
    mut request: SealRequest,
    reserve: u64,
) -> Result<SealedFile> {
    let failed = |what: String| Error::unavailable("SEAL_FAILED", what);
    let reading = || failed(format!("can't read {}", detached.display()));
    let mut source = files::open_no_follow(detached).map_err(|error| reading().caused_by(error))?;
    let seen = files::identity(&source).map_err(|error| reading().caused_by(error))?;
    if seen != identity {
        return Err(failed(format!("{} is not the file that was detached", detached.display())));
    }
    let before = source.metadata().map_err(|error| reading().caused_by(error))?;
    request.member_bytes = MEMBER_BYTES;
    let folder = root.join(&request.log_type);
    let temporary = folder.join(format!(".{:08}.sealing", request.sequence));
    let writing = || failed(format!("can't write {}", temporary.display()));
    files::create_folders(&folder).map_err(|error| writing().caused_by(error))?;
    let outcome = (|| {
        let mut output = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|error| writing().caused_by(error))?;
        files::reserve(&output, reserve).map_err(|error| writing().caused_by(error))?;
        let mut codec = LibdeflateCodec::standard()
            .map_err(|error| failed("can't set up the compressor".into()).caused_by(error))?;
        let manifest = seal(&mut source, &mut output, &request, &mut codec).map_err(|error| {
            failed(format!("can't compress {}", detached.display())).caused_by(error)
        })?;
        // Gives back what was reserved and not needed.
        output.set_len(manifest.compressed_bytes).map_err(|error| writing().caused_by(error))?;
        output.sync_all().map_err(|error| writing().caused_by(error))?;
        failpoint::hit("logs.after-compress");
        let mut written = BufReader::with_capacity(
            256 << 10,
            File::open(&temporary).map_err(|error| writing().caused_by(error))?,
        );
        read_back(&mut written, &manifest).map_err(|error| {
            failed(format!("{} does not read back as it was written", temporary.display()))
                .caused_by(error)
        })?;
        // Nobody could write to it, so this can't have changed; looked at all the same before it is deleted.
        let after = source.metadata().map_err(|error| reading().caused_by(error))?;
        if after.len() != before.len() || manifest.plain_bytes != before.len() {
            return Err(failed(format!("{} changed while it was read", detached.display())));
        }
        Ok(manifest)
    })();
    let manifest = outcome.inspect_err(|_| {
        // Frees the space again; the next try truncates it anyway.
        let _ = fs::remove_file(&temporary);
    })?;
    let first = manifest
        .first_at
        .and_then(|at| Timestamp::from_nanosecond(at.into()).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let archive_name =
        plan::archive_name(&manifest.hostname, &manifest.log_type, first, manifest.sequence);
    let (file, beside) = (segment_file(root, &archive_name), manifest_file(root, &archive_name));
    let bytes = manifest.to_bytes();
    let place = || failed(format!("can't put {} in its place", file.display()));
    let folder = file.parent().unwrap_or(root);
    files::create_folders(folder).map_err(|error| place().caused_by(error))?;
    write_durably(&beside, &bytes).map_err(|error| place().caused_by(error))?;
    failpoint::hit("logs.after-manifest");
    fs::rename(&temporary, &file).map_err(|error| place().caused_by(error))?;
    files::sync_folder_of(&file).map_err(|error| place().caused_by(error))?;
    failpoint::hit("logs.after-seal");
    Ok(SealedFile {
        manifest_sha256: Manifest::sha256_of(&bytes).to_string(),
        manifest,
        archive_name,
    })
}

fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".writing");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    files::sync_folder_of(path)
}

/// Puts a sealed segment and then its manifest into the archive.
///
/// # Errors
/// `ARCHIVE_UNAVAILABLE`.
pub async fn upload(
    archive: &Archive,
    root: &Path,
    archive_name: &str,
    uploads: &dyn Uploads,
) -> Result<()> {
    let name = format!("{archive_name}.log.gz");
    archive.put_file(&name, &segment_file(root, archive_name), uploads).await?;
    failpoint::hit("logs.after-upload");
    archive
        .put_file(
            &format!("{archive_name}.manifest.json"),
            &manifest_file(root, archive_name),
            uploads,
        )
        .await?;
    failpoint::hit("logs.after-manifest-upload");
    Ok(())
}

/// What the archive must hold for a segment.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// Its place, without `.log.gz`.
    pub archive_name: &'a str,
    /// Size of the compressed file.
    pub bytes: u64,
    /// sha256 of the compressed file, hex.
    pub sha256: &'a str,
    /// sha256 of the manifest, hex.
    pub manifest_sha256: &'a str,
}

impl<'a> Expected<'a> {
    /// What was recorded when the segment was sealed.
    pub fn of(segment: &'a SegmentRecord) -> Self {
        Self {
            archive_name: &segment.archive_name,
            bytes: segment.compressed_bytes,
            sha256: &segment.sha256,
            manifest_sha256: &segment.manifest_sha256,
        }
    }
}

/// Reads a segment back from the archive and compares size and hashes.
///
/// # Errors
/// `ARCHIVE_MISMATCH` when the archive holds something else, `ARCHIVE_UNAVAILABLE` when it can't be read.
pub async fn verify(archive: &Archive, expected: &Expected<'_>) -> Result<()> {
    let mismatch = |name: &str, what: String| {
        let message =
            format!("{name} in {} {what}; move it away, and it is archived again", archive.url());
        Err(Error::internal("ARCHIVE_MISMATCH", message))
    };
    let objects = [
        (format!("{}.log.gz", expected.archive_name), Some(expected.bytes), expected.sha256),
        (format!("{}.manifest.json", expected.archive_name), None, expected.manifest_sha256),
    ];
    for (name, bytes, sha256) in objects {
        match archive.hash(&name).await? {
            None => return mismatch(&name, "is not there".into()),
            Some((size, _)) if bytes.is_some_and(|bytes| bytes != size) => {
                return mismatch(&name, format!("has {size} bytes instead of {}", expected.bytes));
            }
            Some((_, seen)) if seen != sha256 => {
                return mismatch(&name, format!("has sha256 {seen} instead of {sha256}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Checks that the local copy of a segment is what was sealed.
///
/// # Errors
/// `SEGMENT_MISSING`, `SEGMENT_DAMAGED`, or `LOCAL_READ_FAILED` when it can't be read.
pub fn check_local(root: &Path, expected: &Expected<'_>) -> Result<()> {
    let copies = [
        (segment_file(root, expected.archive_name), expected.sha256),
        (manifest_file(root, expected.archive_name), expected.manifest_sha256),
    ];
    for (path, sha256) in copies {
        let shown = path.display();
        match files::sha256(&path) {
            Ok(seen) if seen == sha256 => {}
            Ok(_) => {
                let message = format!(
                    "{shown} is not what was sealed, and the archive does not have it; restore it from a backup"
                );
                return Err(Error::internal("SEGMENT_DAMAGED", message));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!(
                    "{shown} is gone, and the archive does not have it; move it back where it was"
                );
                return Err(Error::not_found("SEGMENT_MISSING", message));
            }
            Err(error) => {
                let failed = format!("can't read {shown}");
                return Err(Error::unavailable("LOCAL_READ_FAILED", failed).caused_by(error));
            }
        }
    }
    Ok(())
}

/// Deletes the local copy of a segment. Idempotent.
///
/// # Errors
/// `LOCAL_DELETE_FAILED`.
pub fn delete_local(root: &Path, archive_name: &str) -> Result<()> {
    for path in [segment_file(root, archive_name), manifest_file(root, archive_name)] {
        // Its folder may be gone already, and then so is the file.
        if path.parent().is_some_and(Path::exists) {
            files::remove(&path).map_err(|error| {
                Error::unavailable(
                    "LOCAL_DELETE_FAILED",
                    format!("can't delete {}", path.display()),
                )
                .caused_by(error)
            })?;
        }
    }
    prune_empty_folders(root, archive_name);
    Ok(())
}

/// Removes the day, month and year folders that became empty.
fn prune_empty_folders(root: &Path, archive_name: &str) {
    let mut folder = Path::new(archive_name).parent();
    while let Some(part) = folder.filter(|part| part.components().count() > 1) {
        // One that is not empty refuses, which is what stops this.
        if fs::remove_dir(root.join(part)).is_err() {
            break;
        }
        folder = part.parent();
    }
}

/// Deletes a segment and its manifest from the archive. Idempotent.
///
/// # Errors
/// `ARCHIVE_UNAVAILABLE`.
pub async fn delete_archived(archive: &Archive, archive_name: &str) -> Result<()> {
    archive.delete(&format!("{archive_name}.log.gz")).await?;
    failpoint::hit("logs.after-archive-delete");
    archive.delete(&format!("{archive_name}.manifest.json")).await
}
