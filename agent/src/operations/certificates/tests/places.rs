//! Generations and copies on the disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::super::config::{Content, Deployment};
use super::super::disk::{Folder, compare, content, deploy};
use super::*;

fn home() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|it| it.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_generation_is_begun_completed_switched_to_and_removed() {
    let home = home();
    let folder = Folder::of(&home.path().join("certs"), "gw");
    assert_eq!(numbers(&folder), [0u32; 0]);
    assert_eq!(folder.current(), Ok(None));
    folder.begin(1, b"key").unwrap();
    folder.begin(1, b"another").unwrap();
    assert_eq!(folder.key(1).unwrap(), b"key", "an order may have been placed for it");
    assert!(folder.read(1).is_err(), "not whole yet");
    folder.complete(b"chain", &generation(1, 0, DAY)).unwrap();
    assert_eq!(folder.read(1).unwrap(), (b"chain".to_vec(), b"key".to_vec()));
    let place = folder.generation(1);
    assert_eq!(names(&place), ["fullchain.pem", "key.pem", "meta.json"]);
    assert_eq!((mode(&place), mode(&place.join("key.pem"))), (0o700, 0o600));
    let meta: serde_json::Value =
        serde_json::from_slice(&fs::read(place.join("meta.json")).unwrap()).unwrap();
    assert_eq!((&meta["generation"], &meta["name"]), (&1.into(), &"gw".into()));
    folder.switch(1).unwrap();
    assert_eq!(folder.current(), Ok(Some(1)));
    folder.install((b"chain 2", b"key 2"), &generation(2, 0, DAY)).unwrap();
    folder.switch(2).unwrap();
    folder.switch(2).unwrap();
    assert_eq!(folder.current(), Ok(Some(2)));
    assert_eq!(fs::read(folder.0.join("current/key.pem")).unwrap(), b"key 2");
    folder.remove(1).unwrap();
    folder.remove(1).unwrap();
    assert_eq!(numbers(&folder), [2]);
    assert_eq!(names(&folder.0), ["current", "gen-2"]);
}

#[test]
fn what_is_installed_takes_the_place_of_what_was_there() {
    let home = home();
    let folder = Folder::of(home.path(), "gw");
    // What a crash left beside it.
    fs::create_dir_all(folder.0.join(".new-0/backup")).unwrap();
    fs::write(folder.0.join(".new-0/backup/key.pem"), "old").unwrap();
    for round in ["a", "b"] {
        folder.install((round.as_bytes(), round.as_bytes()), &generation(0, 0, DAY)).unwrap();
        assert_eq!(folder.read(0).unwrap(), (round.into(), round.into()));
    }
    assert_eq!(names(&folder.0), ["backup"]);
    assert_eq!(numbers(&folder), [0u32; 0], "the one for need is none of them");
}

#[test]
fn a_link_that_leads_elsewhere_is_said() {
    let home = home();
    let folder = Folder::of(home.path(), "gw");
    folder.begin(1, b"key").unwrap();
    for to in ["/etc", "gen-", "gen-x", "backup"] {
        symlink(to, folder.0.join("current")).unwrap();
        assert!(folder.current().unwrap_err().contains("leads to"), "{to}");
        folder.switch(1).unwrap();
        assert_eq!(folder.current(), Ok(Some(1)));
        fs::remove_file(folder.0.join("current")).unwrap();
    }
    fs::write(folder.0.join("current"), "a file").unwrap();
    assert!(folder.current().is_err());
}

#[test]
fn what_others_could_read_is_named() {
    let home = home();
    let folder = Folder::of(home.path(), "gw");
    folder.begin(1, b"key").unwrap();
    assert_eq!(folder.open_to_others(1), [""; 0]);
    let key = folder.generation(1).join("key.pem");
    for (path, wide) in [(key, 0o640), (folder.generation(1), 0o750), (folder.0.clone(), 0o701)] {
        let before = mode(&path);
        fs::set_permissions(&path, Permissions::from_mode(wide)).unwrap();
        let found = folder.open_to_others(1);
        assert_eq!(found, [format!("{} has mode {wide:04o}", path.display())]);
        fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
    }
    assert_eq!(folder.open_to_others(7), [""; 0], "what is not there is not open");
}

#[test]
fn each_copy_holds_what_it_should_and_ends_in_one_newline() {
    let one = |n| format!("-----BEGIN CERTIFICATE-----\n{n}\n-----END CERTIFICATE-----");
    let key = "-----BEGIN PRIVATE KEY-----\nK\n-----END PRIVATE KEY-----";
    let (leaf, rest) = (one(1), format!("{}\n{}", one(2), one(3)));
    let crlf = |text: String| text.replace('\n', "\r\n");
    for (what, chain, key, expected_leaf, expected_rest) in [
        (
            "as it should be",
            format!("{leaf}\n{rest}\n"),
            format!("{key}\n"),
            leaf.clone(),
            rest.clone(),
        ),
        (
            "without its last newline",
            format!("{leaf}\n{rest}"),
            key.to_owned(),
            leaf.clone(),
            rest.clone(),
        ),
        (
            "with more",
            format!("{leaf}\n\n{rest}\n\n\n"),
            format!("{key}\n\n"),
            leaf.clone(),
            rest.clone(),
        ),
        (
            "with carriage returns",
            crlf(format!("{leaf}\n{rest}\n")),
            format!("{key}\r\n"),
            crlf(leaf.clone()),
            crlf(rest),
        ),
        ("the leaf alone", format!("{leaf}\n"), format!("{key}\n"), leaf, String::new()),
    ] {
        let of = |sort| String::from_utf8(content(sort, chain.as_bytes(), key.as_bytes())).unwrap();
        let line = |text: &str| if text.is_empty() { String::new() } else { format!("{text}\n") };
        assert_eq!(of(Content::Leaf), line(&expected_leaf), "{what}");
        assert_eq!(of(Content::Chain), line(&expected_rest), "{what}");
        assert_eq!(of(Content::Fullchain), line(chain.trim()), "{what}");
        assert_eq!(of(Content::Key), line(key.trim()), "{what}");
        let combined = format!("{}{}", line(key.trim()), line(chain.trim()));
        assert_eq!(of(Content::Combined), combined, "{what}");
    }
}

fn copy(path: PathBuf, content: Content, mode: u32) -> Deployment {
    Deployment { content, path, owner: String::new(), group: String::new(), mode }
}

#[test]
fn a_copy_gets_its_mode_and_owner_and_nothing_is_left_beside_it() {
    let home = home();
    let path = home.path().join("gw.pem");
    for mode_wanted in [0o400, 0o600, 0o640, 0o644] {
        deploy(&copy(path.clone(), Content::Fullchain, mode_wanted), b"chain", b"key").unwrap();
        assert_eq!(mode(&path), mode_wanted);
        assert_eq!(names(home.path()), ["gw.pem"]);
    }
    // Who writes it may give it to itself, whoever it is.
    let uid = rustix::process::geteuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let own = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    if let Some(name) = own.and_then(|line| line.split(':').next()) {
        let owned =
            Deployment { owner: name.to_owned(), ..copy(path.clone(), Content::Key, 0o600) };
        deploy(&owned, b"chain", b"key").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().uid()),
            (b"key\n".to_vec(), uid)
        );
    }
    let nobody =
        Deployment { owner: "no-such-user".to_owned(), ..copy(path.clone(), Content::Key, 0o600) };
    let why = deploy(&nobody, b"chain", b"key").unwrap_err();
    assert!(why.contains("no user \"no-such-user\""), "{why}");
    let nobody =
        Deployment { group: "no-such-group".to_owned(), ..copy(path, Content::Key, 0o600) };
    assert!(deploy(&nobody, b"chain", b"key").unwrap_err().contains("no group"));
    // A folder is in its place.
    let taken = home.path().join("taken");
    fs::create_dir(&taken).unwrap();
    assert!(deploy(&copy(taken, Content::Key, 0o600), b"chain", b"key").is_err());
    assert_eq!(names(home.path()), ["gw.pem", "taken"]);
    let missing = copy(home.path().join("no/gw.pem"), Content::Key, 0o600);
    assert!(deploy(&missing, b"chain", b"key").unwrap_err().contains("no/gw.pem"));
    assert_eq!(names(home.path()), ["gw.pem", "taken"]);
}

#[test]
fn a_copy_goes_where_a_link_leads() {
    let home = home();
    let (elsewhere, link) = (home.path().join("elsewhere"), home.path().join("gw.pem"));
    fs::create_dir(&elsewhere).unwrap();
    let target = elsewhere.join("real.pem");
    fs::write(&target, "old").unwrap();
    symlink(&target, &link).unwrap();
    deploy(&copy(link.clone(), Content::Key, 0o600), b"chain", b"key").unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"key\n");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "the link stays");
    assert_eq!(names(&elsewhere), ["real.pem"]);
    // Also where nothing is there yet.
    fs::remove_file(&target).unwrap();
    deploy(&copy(link.clone(), Content::Key, 0o600), b"chain", b"key").unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"key\n");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn what_is_wrong_with_a_copy_is_said() {
    let home = home();
    let wanted = copy(home.path().join("gw.pem"), Content::Key, 0o600);
    let compared = || compare(&wanted, b"chain", b"key");
    assert!(compared().is_err());
    deploy(&wanted, b"chain", b"key").unwrap();
    assert_eq!(compared(), Ok(()));
    fs::set_permissions(&wanted.path, Permissions::from_mode(0o640)).unwrap();
    assert!(compared().unwrap_err().contains("has mode 0640, 0600 is configured"));
    fs::set_permissions(&wanted.path, Permissions::from_mode(0o400)).unwrap();
    assert_eq!(compared(), Ok(()), "fewer may read it");
    assert!(compare(&wanted, b"chain", b"other").unwrap_err().contains("something else"));
}
