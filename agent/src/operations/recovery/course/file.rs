//! The file that says that positions are to be closed: it is written before the record, so that a full disk or a broken
//! database can't make the agent forget that after a crash.

use std::io::Read;
use std::path::Path;

use crate::outside::files;

/// The most that is read of it, in bytes.
const LIMIT: u64 = 4_096;

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// The emergency's.
    pub(super) epoch: u64,
    pub(super) by: String,
    pub(super) reason: String,
}

/// Writes it, durably.
pub(super) fn write(path: &Path, asked: &Asked) -> std::io::Result<()> {
    let one_line =
        |text: &str| text.replace(['\n', '\r'], " ").chars().take(1_000).collect::<String>();
    let text = format!(
        "epoch={}\nby={}\nreason={}\n",
        asked.epoch,
        one_line(&asked.by),
        one_line(&asked.reason)
    );
    files::replace(path, text.as_bytes())
}

/// Reads it; `None`: there is none, or it says nothing. Nothing is sold because of a file that can't be read.
pub(super) fn read(path: &Path) -> Option<Asked> {
    let mut text = String::new();
    let file = files::open_no_follow(path).ok()?;
    file.take(LIMIT).read_to_string(&mut text).ok()?;
    let of = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
    };
    Some(Asked { epoch: of("epoch")?.parse().ok()?, by: of("by")?, reason: of("reason")? })
}

/// Takes it away.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    files::remove(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_written_and_nothing_else_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("EMERGENCY-CLOSE");
        assert_eq!(read(&path), None);
        let asked = Asked { epoch: 7, by: "olga".into(), reason: "one\ntwo".into() };
        write(&path, &asked).unwrap();
        assert_eq!(read(&path), Some(Asked { reason: "one two".into(), ..asked }));
        for text in ["", "epoch=x\nby=a\nreason=b\n", "by=a\nreason=b\n", "epoch=7\n", "\u{0}"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path), None, "{text:?}");
        }
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
