//! Folders with all that is in them: measured, made durable, given away, removed. Links are never followed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use super::files;

/// Calls `f` with everything below `folder` and then with itself, those within before those around them.
fn each(
    folder: &Path,
    f: &mut dyn FnMut(&Path, &fs::Metadata) -> io::Result<()>,
) -> io::Result<()> {
    let facts = fs::symlink_metadata(folder)?;
    if facts.is_dir() {
        for entry in fs::read_dir(folder)? {
            each(&entry?.path(), f)?;
        }
    }
    f(folder, &facts)
}

/// What it takes, in bytes of its files.
///
/// # Errors
/// When it can't be looked through.
pub fn bytes(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    each(folder, &mut |_, facts| {
        sum += if facts.is_file() { facts.len() } else { 0 };
        Ok(())
    })?;
    Ok(sum)
}

/// The first thing below it that is neither a file nor a folder: a link leads who follows it somewhere else.
///
/// # Errors
/// When it can't be looked through.
pub fn odd(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut found = None;
    each(folder, &mut |path, facts| {
        if !facts.is_file() && !facts.is_dir() && found.is_none() {
            found = Some(path.to_owned());
        }
        Ok(())
    })?;
    Ok(found)
}

/// Makes everything in it durable, and its name.
///
/// # Errors
/// When a file can't be opened or synced.
pub fn sync(folder: &Path) -> io::Result<()> {
    each(folder, &mut |path, facts| match facts.is_file() || facts.is_dir() {
        true => File::open(path)?.sync_all(),
        false => Ok(()),
    })?;
    files::sync_folder_of(folder)
}

/// Gives everything in it to a user and group.
///
/// # Errors
/// When that is not allowed.
pub fn give(folder: &Path, (user, group): (u32, u32)) -> io::Result<()> {
    each(folder, &mut |path, facts| match (facts.uid(), facts.gid()) == (user, group) {
        true => Ok(()),
        false => lchown(path, Some(user), Some(group)),
    })
}

/// Removes it with all that is in it, or a file; what is not there is no error. Durable when it returns.
///
/// # Errors
/// When something of it can't be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(facts) if facts.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => files::sync_folder_of(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The names in a folder; none where there is no folder.
///
/// # Errors
/// When it can't be read.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The first folder on the way to `path` that a user can't pass through; `path` itself need not be there.
pub fn barred(path: &Path, (user, group): (u32, u32)) -> Option<PathBuf> {
    let there: Vec<&Path> = path.ancestors().filter(|folder| folder.is_dir()).collect();
    let found = there.into_iter().rev().find(|folder| {
        fs::metadata(folder).is_ok_and(|facts| {
            let bit = match () {
                () if facts.uid() == user => 0o100,
                () if facts.gid() == group => 0o010,
                () => 0o001,
            };
            facts.mode() & bit == 0
        })
    });
    found.map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_is_measured_and_removed_without_following_links() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, kept) = (folder.path().join("tree"), folder.path().join("kept"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/c"), "12345").unwrap();
        fs::write(&kept, "1234567").unwrap();
        assert_eq!((bytes(&tree).unwrap(), odd(&tree).unwrap()), (5, None));
        sync(&tree).unwrap();
        symlink(&kept, tree.join("a/link")).unwrap();
        assert_eq!(bytes(&tree).unwrap(), 5);
        assert_eq!(odd(&tree).unwrap(), Some(tree.join("a/link")));
        remove(&tree).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists() && kept.exists());
    }

    #[test]
    fn who_can_not_pass_is_told_where() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("open/inner");
        fs::create_dir_all(&inner).unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(folder.path(), 0o755);
        let nobody = (65_534, 65_534);
        mode(&folder.path().join("open"), 0o700);
        assert_eq!(barred(&inner, nobody), Some(folder.path().join("open")));
        mode(&folder.path().join("open"), 0o711);
        assert_eq!(barred(&inner.join("to be made"), nobody), None);
    }
}
