//! A file that was closed in order is believed at the next opening, one that was touched is not.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::*;

/// A folder on a disk, where files have attributes.
fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A store's file with something in every table, closed in order.
fn closed(folder: &TempDir) -> PathBuf {
    let store = open_in(folder);
    fill(&store);
    let path = store.path().to_owned();
    drop(store);
    path
}

fn proven(path: &Path) -> Result<Store, OpenError> {
    Store::open(path, Options { prove: true, ..Options::default() })
}

/// Changes one byte of a page that is in use.
fn damage(path: &Path) {
    let whole = fs::read(path).unwrap();
    let other = path.with_extension("other");
    // In the middle of a page that redb refuses to miss.
    let at = (1..whole.len() / 4096).map(|page| page * 4096 + 2000).find(|at| {
        let mut image = whole.clone();
        image[*at] ^= 1;
        fs::write(&other, image).unwrap();
        Store::open(&other, Options::default()).is_err()
    });
    fs::remove_file(other).unwrap();
    let at = at.expect("a page in use");
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

/// What a disk does that changes bytes by itself: nobody has written to the file.
fn rot(path: &Path) {
    let before = modified(path);
    damage(path);
    File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
}

#[test]
fn what_was_closed_in_order_is_not_proven_again_and_all_of_it_is_once_a_week() {
    let folder = folder();
    let path = closed(&folder);
    rot(&path);
    let before = fs::read(&path).unwrap();
    assert_eq!(proven(&path).unwrap_err().code(), "STORAGE_CORRUPTED");
    assert!(fs::read(&path).unwrap() == before, "refused, but changed");
    // Opening to prove has left the seal as it was.
    let store = open(&path);
    let error = store.compact().unwrap_err().to_string();
    assert!(error.contains("prove"), "{error}");
}

#[test]
fn what_somebody_has_written_to_is_proven() {
    let folder = folder();
    let path = closed(&folder);
    damage(&path);
    assert_eq!(refusal(&path).code(), "STORAGE_CORRUPTED");
}

#[test]
fn what_is_in_the_place_of_a_sealed_file_is_proven() {
    let folder = folder();
    let path = closed(&folder);
    rot(&path);
    // With its times and attributes.
    let copied = path.with_extension("copy");
    let done = std::process::Command::new("cp").arg("-a").arg(&path).arg(&copied).status();
    assert!(done.unwrap().success());
    assert_eq!(modified(&copied), modified(&path));
    fs::rename(&copied, &path).unwrap();
    assert_eq!(refusal(&path).code(), "STORAGE_CORRUPTED");
}

#[test]
fn what_is_longer_or_shorter_than_it_was_is_proven() {
    let folder = folder();
    let path = closed(&folder);
    let (file, before) = (File::options().write(true).open(&path).unwrap(), modified(&path));
    let length = file.metadata().unwrap().len();
    for (other, sealed) in [(length + 4096, false), (length, true), (length - 4096, false)] {
        file.set_len(other).unwrap();
        file.set_modified(before).unwrap();
        assert_eq!(crate::seal::is_sealed(&File::open(&path).unwrap()), sealed, "{other} bytes");
    }
}

#[test]
fn what_a_crash_has_left_is_proven() {
    let folder = folder();
    let path = closed(&folder);
    let (sealed, before) = (fs::read(&path).unwrap(), modified(&path));
    let store = open(&path);
    // It is open: what is in the file now is what a crash would leave.
    let file = File::options().read(true).write(true).open(store.path()).unwrap();
    assert!(!crate::seal::is_sealed(&file), "the seal of a file that is written to");
    // Also where a clock that was set back has it written at the same time.
    file.set_modified(before).unwrap();
    assert!(!crate::seal::is_sealed(&file), "the seal of a file that is written to");
    assert!(fs::read(&path).unwrap() != sealed);
    drop(store);
    assert!(crate::seal::is_sealed(&file));
}

#[test]
fn a_store_that_failed_leaves_no_seal() {
    let folder = folder();
    let path = closed(&folder);
    rot(&path);
    let store = open(&path);
    store.compact().unwrap_err();
    drop(store);
    assert_eq!(refusal(&path).code(), "STORAGE_CORRUPTED");
}

#[test]
fn who_comes_after_it_was_closed_opens_it_again_and_it_is_sealed_anew_with_what_they_wrote() {
    let folder = folder();
    let path = closed(&folder);
    let store = open(&path);
    let before = head(&store).sequence;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    store.close();
                    store
                        .write(intent("written"), |writing| writing.holds().put(&hold("HOLD")))
                        .unwrap();
                }
            });
        }
    });
    let file = File::open(&path).unwrap();
    assert!(!crate::seal::is_sealed(&file), "it is open, and was written to");
    store.close();
    assert!(crate::seal::is_sealed(&file));
    drop(store);
    assert_eq!(head(&open(&path)).sequence, before + 40);
}
