//! Files that hold secrets. One that others can get at is no secret, and is not used: whoever wrote it that way hears of
//! it while it can still be replaced.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether others than the owner of a file of this mode can get at it.
pub fn is_open(mode: u32) -> bool {
    mode & 0o077 != 0
}

/// Reads a file of at most so many bytes, which nobody but its owner can get at.
///
/// # Errors
/// Why it can't be used, in words that hold nothing of it.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("can't read {shown}: {error}");
    let fits = |facts: &Metadata| match facts {
        facts if !facts.is_file() => Err(format!("{shown} is no file")),
        facts if is_open(facts.mode()) => {
            let mode = facts.mode() & 0o7777;
            Err(format!("{shown} is open to others (mode {mode:04o}): chmod 600 it"))
        }
        _ => Ok(()),
    };
    // Looked at before it is opened as well: a pipe would never let go.
    fits(&std::fs::metadata(path).map_err(failed)?)?;
    let file = File::open(path).map_err(failed)?;
    fits(&file.metadata().map_err(failed)?)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(format!("{shown} has more than {limit} bytes"));
    }
    Ok(bytes)
}

/// Reads such a file of text.
///
/// # Errors
/// As [`read`].
pub fn text(path: &Path, limit: u64) -> Result<String, String> {
    String::from_utf8(read(path, limit)?).map_err(|_| format!("{} is no text", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_read_while_its_owner_alone_can_get_at_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "hush").unwrap();
        let chmod = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for mode in [0o600, 0o400, 0o700] {
            chmod(mode);
            assert_eq!(text(&path, 4).as_deref(), Ok("hush"), "{mode:o}");
        }
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601] {
            chmod(mode);
            let why = read(&path, 4).unwrap_err();
            assert!(why.contains(&format!("(mode {mode:04o}): chmod 600 it")), "{why}");
            assert!(!why.contains("hush"), "{why}");
        }
        chmod(0o600);
        assert!(read(&path, 3).unwrap_err().contains("more than 3 bytes"));
        std::fs::write(&path, b"hu\xffsh").unwrap();
        assert!(text(&path, 9).unwrap_err().ends_with("is no text"));
        assert!(read(folder.path(), 9).unwrap_err().contains("is no file"));
        assert!(read(&folder.path().join("none"), 9).unwrap_err().contains("can't read"));
    }
}
