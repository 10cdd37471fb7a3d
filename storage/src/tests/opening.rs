//! What is opened, what is refused, and that a refused file keeps every byte.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::schema::{META, SCHEMA_ROW};

/// A file with something in every table, as a clean shutdown leaves it and as a crash does, with
/// its contents as text and its oplog's head.
struct Images {
    clean: Vec<u8>,
    crashed: Vec<u8>,
    contents: String,
    head: Head,
}

fn images() -> Images {
    let folder = folder();
    let store = open_in(&folder);
    fill(&store);
    let (contents, head) = (dump(&store).unwrap(), head(&store));
    // The last commit is durable, so what a crash leaves is what is in the file now.
    let crashed = fs::read(store.path()).unwrap();
    let path = store.path().to_owned();
    drop(store);
    Images { clean: fs::read(path).unwrap(), crashed, contents, head }
}

fn write(folder: &TempDir, image: &[u8]) -> PathBuf {
    let path = folder.path().join("image.redb");
    fs::write(&path, image).unwrap();
    path
}

/// Opens the image, which must be refused and left alone, or be what it was before the damage; or
/// the oplog's verification tells.
fn damaged(folder: &TempDir, image: &[u8], whole: &Images, what: &str) -> Option<OpenError> {
    let path = write(folder, image);
    match Store::open(&path, Options::default()) {
        Err(error) => {
            assert!(fs::read(&path).unwrap() == image, "{what}: refused, but changed");
            Some(error)
        }
        Ok(store) => {
            let same = dump(&store).is_ok_and(|contents| contents == whole.contents);
            let found = !verify(&store, Some(whole.head)).intact;
            assert!(same || found, "{what}: other contents, and nothing found");
            None
        }
    }
}

#[test]
fn a_new_file_is_private_and_opens_again() {
    let folder = folder();
    let path = folder.path().join("state.redb");
    let store = open(&path);
    assert_eq!(store.path(), path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(store.file_bytes(), fs::metadata(&path).unwrap().len());
    fill(&store);
    let contents = dump(&store).unwrap();
    drop(store);
    assert_eq!(dump(&open(&path)).unwrap(), contents);
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["state.redb"], "nothing else is left in the folder");
}

#[test]
fn a_missing_folder_is_an_io_error() {
    let folder = folder();
    let error = refusal(&folder.path().join("nowhere/state.redb"));
    assert_eq!(error.code(), "STORAGE_IO");
    assert!(!folder.path().join("nowhere").exists());
}

#[test]
fn files_of_others_are_refused_and_left_alone() {
    let folder = folder();
    let text = "Not a database, but longer than a page. ".repeat(300);
    let path = write(&folder, text.as_bytes());
    assert_eq!(refusal(&path).code(), "STORAGE_NOT_OURS");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    let other = folder.path().join("other.redb");
    {
        let database = redb::Database::create(&other).unwrap();
        let transaction = database.begin_write().unwrap();
        let table: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
        transaction.open_table(table).unwrap().insert("x", 1).unwrap();
        transaction.commit().unwrap();
    }
    let before = fs::read(&other).unwrap();
    assert_eq!(refusal(&other).code(), "STORAGE_NOT_OURS");
    assert!(fs::read(&other).unwrap() == before);

    let link = folder.path().join("loose");
    std::os::unix::fs::symlink(folder.path().join("gone"), &link).unwrap();
    assert_eq!(refusal(&link).code(), "STORAGE_IO");
    assert!(link.is_symlink(), "a dangling link is not replaced");
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let whole = images();
    for image in [&whole.clean, &whole.crashed] {
        let folder = folder();
        let path = write(&folder, image);
        tamper(&path, |tx| put_raw(tx, META, SCHEMA_ROW, &7u32.to_le_bytes()));
        let before = fs::read(&path).unwrap();
        let error = refusal(&path);
        assert!(matches!(error, OpenError::NewerSchema { found: 7, supported: 1, .. }), "{error}");
        assert!(error.to_string().contains("start the version that wrote it"), "{error}");
        assert!(fs::read(&path).unwrap() == before);
    }
}

#[test]
fn tables_of_a_later_build_of_the_schema_are_added() {
    let folder = folder();
    let store = open_in(&folder);
    let path = store.path().to_owned();
    drop(store);
    tamper(&path, |tx| assert!(tx.delete_table(crate::schema::SERIES).unwrap()));
    let store = open(&path);
    store.ingest(intent("stream")).unwrap().append("cpu", &[(at(0), 1.0)]).unwrap();
    let points = store.read(|r| r.series().range("cpu", at(0), at(1), 9)).unwrap();
    assert_eq!(points, [(at(0), 1.0)]);
}

#[test]
fn a_cut_file_is_refused_and_left_alone() {
    let whole = images();
    let folder = folder();
    for image in [&whole.clean, &whole.crashed] {
        let full = image.len();
        let mut lengths: Vec<usize> = (0..full).step_by(full / 150).collect();
        lengths.extend([1, 8, 9, 64, 319, 320, 512, 4095, 4096, 4097, 8192, full - 4096, full - 1]);
        for length in lengths {
            let path = write(&folder, &image[..length]);
            let error = refusal(&path);
            assert!(
                matches!(error, OpenError::Cut { bytes, .. } if bytes == length as u64),
                "cut to {length} of {full}: {error}"
            );
            assert!(fs::read(&path).unwrap() == image[..length], "cut to {length}: changed");
        }
    }
}

#[test]
fn a_flipped_bit_in_the_header_is_noticed_or_harmless() {
    let whole = images();
    let folder = folder();
    let mut refused = 0;
    for (name, image) in [("clean", &whole.clean), ("crashed", &whole.crashed)] {
        for offset in 0..320 {
            for mask in [1, 2, 4, 8, 0x80, 0xff] {
                let mut flipped = image.clone();
                flipped[offset] ^= mask;
                let what = format!("{name} file, byte {offset} ^ {mask:#x}");
                refused += usize::from(damaged(&folder, &flipped, &whole, &what).is_some());
            }
        }
    }
    assert!(refused > 500, "{refused} refused");
}

#[test]
fn a_flipped_bit_in_a_page_is_noticed_or_harmless() {
    let whole = images();
    let folder = folder();
    // A fixed walk over the file; pages in use are few among the free ones, so it is dense.
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut refused = 0;
    for (name, image) in [("clean", &whole.clean), ("crashed", &whole.crashed)] {
        for page in 1..image.len() / 4096 {
            if image[page * 4096..][..4096].iter().all(|byte| *byte == 0) {
                continue;
            }
            for _ in 0..6 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Pages fill from both ends.
                let within = (random >> 33) as usize % 4096;
                let offset = page * 4096 + if random & 64 == 0 { within % 64 } else { within };
                let mut flipped = image.clone();
                flipped[offset] ^= 1 << ((random >> 20) & 7);
                let what = format!("{name} file, byte {offset}");
                if let Some(error) = damaged(&folder, &flipped, &whole, &what) {
                    assert_eq!(error.code(), "STORAGE_CORRUPTED", "{what}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 50, "{refused} refused");
}

#[test]
fn zeroed_and_random_pages_do_not_panic() {
    let whole = images();
    let folder = folder();
    for image in [&whole.clean, &whole.crashed] {
        for fill in [0x00, 0xff, 0xa5] {
            for page in (0..image.len() / 4096).filter(|page| *page < 40 || page % 16 == 0) {
                let mut broken = image.clone();
                // The first page keeps its magic number, or redb is not asked at all.
                let from = if page == 0 { 9 } else { page * 4096 };
                broken[from..(page + 1) * 4096].fill(fill);
                damaged(&folder, &broken, &whole, &format!("page {page} filled with {fill:#x}"));
            }
        }
    }
}

#[test]
fn after_a_crash_every_commit_is_there() {
    let whole = images();
    let folder = folder();
    let store = open(&write(&folder, &whole.crashed));
    assert_eq!(dump(&store).unwrap(), whole.contents);
    assert!(verify(&store, Some(whole.head)).intact);
}

#[test]
fn a_second_open_is_refused_while_the_first_lives() {
    let folder = folder();
    let store = open_in(&folder);
    let path = store.path().to_owned();
    assert_eq!(refusal(&path).code(), "STORAGE_IN_USE");
    assert_eq!(in_another_process(&path), "STORAGE_IN_USE");
    store.write(intent("still usable"), |_| Ok::<_, StorageError>(())).unwrap();
    drop(store);
    assert_eq!(in_another_process(&path), "opened");
    open(&path);
}

/// Runs `opens_the_file_named_by_the_parent` in a process of its own.
fn in_another_process(path: &Path) -> String {
    let answer = folder();
    let answer = answer.path().join("answer");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::opening::opens_the_file_named_by_the_parent"])
        .env("STORAGE_TEST_OPEN", path)
        .env("STORAGE_TEST_ANSWER", &answer)
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    fs::read_to_string(answer).unwrap()
}

/// The other process of the test above; without its variables there is nothing to do.
#[test]
fn opens_the_file_named_by_the_parent() {
    let Some(path) = std::env::var_os("STORAGE_TEST_OPEN") else { return };
    let answer = match Store::open(Path::new(&path), Options::default()) {
        Ok(_) => "opened",
        Err(error) => error.code(),
    };
    fs::write(std::env::var_os("STORAGE_TEST_ANSWER").unwrap(), answer).unwrap();
}
