//! What is written beside a file that was closed, so that the next opening need not prove it again: every page was proven
//! when it was opened or has been written since, and nobody has written to it afterwards.
//!
//! The seal is an extended attribute of the file itself. It goes where the file goes, and one that was copied, cut,
//! restored or written to by anybody else is another file or has another time, so that its seal does not fit and all of
//! its pages are proven. So they are after a crash, for the engine's header then differs. What a seal can't tell is a
//! disk that has changed bytes by itself while no agent ran; [`crate::Store::compact`] proves every page each week.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

const ATTRIBUTE: &str = "user.genesis.proven";
/// redb's header with both of its commit slots.
const HEADER: usize = 320;
/// Five numbers before it.
const BYTES: usize = 5 * 8 + HEADER;

/// Says of a file that was proven and is closed now that all of it is as it was written.
///
/// Where the file system knows no such attributes the next opening proves the file.
pub(crate) fn seal(file: &File) -> io::Result<()> {
    Ok(fsetxattr(file, ATTRIBUTE, &seen(file)?, XattrFlags::empty())?)
}

/// Whether nobody has written to the file since it was sealed.
pub(crate) fn is_sealed(file: &File) -> bool {
    let mut kept = [0; BYTES];
    let read = fgetxattr(file, ATTRIBUTE, &mut kept[..]);
    read.is_ok_and(|length| length == BYTES) && seen(file).is_ok_and(|seen| seen == kept)
}

/// What tells this file from any other, and from itself at another time. Not the time of its last change of status:
/// sealing is one.
fn seen(file: &File) -> io::Result<[u8; BYTES]> {
    let metadata = file.metadata()?;
    let mut seen = [0; BYTES];
    let numbers = [
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        metadata.mtime().cast_unsigned(),
        metadata.mtime_nsec().cast_unsigned(),
    ];
    for (place, number) in seen.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    file.read_exact_at(&mut seen[BYTES - HEADER..], 0)?;
    Ok(seen)
}
