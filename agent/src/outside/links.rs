//! Symbolic links that say what is in service, moved in one step.

use std::io;
use std::path::{Path, PathBuf};

use super::files;

/// Where a link leads, as it is written; `None` where there is none.
///
/// # Errors
/// When it can't be looked at, or something else stands there.
pub fn target(link: &Path) -> io::Result<Option<PathBuf>> {
    match std::fs::read_link(link) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Err(io::Error::other("it is no symbolic link"))
        }
        Err(error) => Err(error),
    }
}

/// The place that [`point`] prepares a link in: beside it.
pub fn prepared(link: &Path) -> PathBuf {
    let mut name = link.to_owned().into_os_string();
    name.push(".genesis-new");
    name.into()
}

/// Makes a link lead to `target`, or removes it where there is none. Whoever looks sees the old one or the new one; durable
/// when it returns.
///
/// # Errors
/// When it can't be made, moved or synced. It leads where it led before, unless the last failed.
pub fn point(link: &Path, target: Option<&Path>) -> io::Result<()> {
    let beside = prepared(link);
    files::remove(&beside)?;
    match target {
        Some(target) => {
            std::os::unix::fs::symlink(target, &beside)?;
            std::fs::rename(&beside, link)?;
            files::sync_folder_of(link)
        }
        None => files::remove(link),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_moved_and_taken_away_and_nothing_else_is_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let (link, other) = (folder.path().join("current"), folder.path().join("file"));
        assert_eq!(target(&link).unwrap(), None);
        point(&link, Some(Path::new("releases/1"))).unwrap();
        // What a crash has left beside it is in nobody's way.
        std::os::unix::fs::symlink("elsewhere", prepared(&link)).unwrap();
        point(&link, Some(Path::new("releases/2"))).unwrap();
        assert_eq!(target(&link).unwrap(), Some("releases/2".into()));
        assert!(!prepared(&link).is_symlink());
        point(&link, None).unwrap();
        assert_eq!(target(&link).unwrap(), None);
        std::fs::write(&other, "x").unwrap();
        assert!(target(&other).unwrap_err().to_string().contains("no symbolic link"));
    }
}
