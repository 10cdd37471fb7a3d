//! Whether secrets are their owner's alone.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Measured, Outcome};
use crate::outside::secret;

/// So many are told by name.
const SHOWN: usize = 5;

/// How many of `files` others than their owner can read or write, or replace because their folder is open to all.
/// A link counts as what it leads to. Those that are not there do not count.
///
/// # Errors
/// Why it can't be told, in words: one can't be looked at, and no other one is open.
pub fn open_to_others(files: &[PathBuf]) -> Outcome {
    let (mut open, mut hidden) = (Vec::new(), None);
    for file in files {
        match fault(file) {
            Ok(None) => {}
            Ok(Some(why)) => open.push(why),
            Err(error) => hidden = Some(format!("can't look at {}: {error}", file.display())),
        }
    }
    match (open.len(), hidden) {
        (0, Some(why)) => Err(why),
        (0, None) => Ok(Measured { value: 0.0, detail: "open to their owner alone".to_owned() }),
        (count, hidden) => {
            open.truncate(SHOWN);
            if count > SHOWN {
                open.push(format!("and {} more", count - SHOWN));
            }
            open.extend(hidden);
            Ok(Measured { value: count as f64, detail: open.join("; ") })
        }
    }
}

/// What is wrong with the permissions of a file, and how to mend it; `None` when nothing is.
fn fault(file: &Path) -> io::Result<Option<String>> {
    let facts = match fs::metadata(file) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (shown, mode) = (file.display(), facts.mode() & 0o7777);
    if secret::is_open(mode) {
        let private = if facts.is_dir() { 700 } else { 600 };
        return Ok(Some(format!("{shown} has mode {mode:04o}: chmod {private} it")));
    }
    // Where a link leads to may be replaced as well as the link.
    for path in [file.to_owned(), fs::canonicalize(file)?] {
        let Some(folder) = path.parent() else { continue };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mode = fs::metadata(folder)?.mode() & 0o7777;
        // The sticky bit keeps others from replacing what is not theirs.
        if mode & 0o1002 == 0o0002 {
            let folder = folder.display();
            return Ok(Some(format!(
                "{shown} can be replaced, its folder {folder} has mode {mode:04o}: chmod o-w that"
            )));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn files_that_others_can_get_at_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let count = |files: &[&Path]| {
            let files: Vec<PathBuf> = files.iter().map(|&path| path.to_owned()).collect();
            open_to_others(&files).unwrap()
        };
        let gone = folder.path().join("gone");
        assert_eq!(count(&[&file, &gone]).value, 0.0, "nothing there");
        fs::write(&file, "x").unwrap();
        for (mode, open) in
            [(0o600, 0.0), (0o400, 0.0), (0o640, 1.0), (0o604, 1.0), (0o602, 1.0), (0o620, 1.0)]
        {
            chmod(&file, mode);
            let measured = count(&[&file, &gone]);
            assert_eq!(measured.value, open, "{mode:o}");
            if open > 0.0 {
                let said = format!("key has mode {mode:04o}: chmod 600 it");
                assert!(measured.detail.contains(&said), "{measured:?}");
            }
        }
        // A folder of secrets.
        chmod(folder.path(), 0o750);
        assert!(count(&[folder.path()]).detail.contains("chmod 700"));
    }

    #[test]
    fn a_folder_where_others_can_replace_the_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (shared, own) = (folder.path().join("shared"), folder.path().join("own"));
        for each in [&shared, &own] {
            fs::create_dir(each).unwrap();
        }
        let (file, link) = (shared.join("key"), own.join("link"));
        fs::write(&file, "x").unwrap();
        chmod(&file, 0o600);
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for (mode, open) in [(0o755, 0.0), (0o1777, 0.0), (0o777, 2.0)] {
            chmod(&shared, mode);
            let measured = open_to_others(&[file.clone(), link.clone()]).unwrap();
            assert_eq!(measured.value, open, "{mode:o}: {measured:?}");
        }
    }

    #[test]
    fn five_are_named_and_what_can_t_be_looked_at_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut files: Vec<PathBuf> =
            (0..7).map(|each| folder.path().join(format!("key{each}"))).collect();
        for file in &files {
            fs::write(file, "x").unwrap();
            chmod(file, 0o644);
        }
        // Nothing can be in a file.
        let odd = files[0].join("below");
        files.push(odd.clone());
        let measured = open_to_others(&files).unwrap();
        assert_eq!(measured.value, 7.0);
        assert_eq!(measured.detail.matches("chmod 600").count(), 5, "{measured:?}");
        assert!(measured.detail.contains("and 2 more; can't look at"), "{measured:?}");
        assert!(open_to_others(&[odd]).unwrap_err().contains("below"));
    }
}
