//! Generations and copies on the disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use super::super::config::{Content, Deployment};
use super::super::copies::{compare, content};
use super::super::disk::Folder;
use super::super::{copies, material};
use super::*;

fn home() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A chain, as far as the disk is concerned.
fn chain(n: u8) -> Vec<u8> {
    material::text(&[vec![n; 100].into(), vec![n; 3].into()])
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
    folder.complete(&chain(1), &generation(1, 0, DAY)).unwrap();
    assert_eq!(folder.read(1).unwrap(), (chain(1), b"key".to_vec()));
    let place = folder.generation(1);
    assert_eq!(names(&place), ["fullchain.pem", "key.pem", "meta.json"]);
    assert_eq!((mode(&place), mode(&place.join("key.pem"))), (0o700, 0o600));
    let meta: serde_json::Value =
        serde_json::from_slice(&fs::read(place.join("meta.json")).unwrap()).unwrap();
    assert_eq!((&meta["generation"], &meta["name"]), (&1.into(), &"gw".into()));
    folder.switch(1).unwrap();
    assert_eq!(folder.current(), Ok(Some(1)));
    folder.install((&chain(2), b"key 2"), &generation(2, 0, DAY)).unwrap();
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
    for round in [1, 2] {
        folder.install((&chain(round), &[round]), &generation(0, 0, DAY)).unwrap();
        assert_eq!(folder.read(0).unwrap(), (chain(round), vec![round]));
    }
    folder.clear_away(&[]).unwrap();
    assert_eq!(names(&folder.0), ["backup"]);
    assert_eq!(numbers(&folder), [0u32; 0], "the one for need is none of them");
}

/// A key that goes with the chain of the same number.
fn pair(folder: &Folder) -> (u8, u8) {
    let (fullchain, key) = folder.read(0).unwrap();
    (material::chain(&fullchain).unwrap()[0][0], key[0])
}

#[test]
fn the_one_for_need_is_there_and_of_one_piece_while_it_is_replaced() {
    let home = home();
    let folder = Folder::of(home.path(), "gw");
    let install = |n: u8| folder.install((&chain(n), &[n]), &generation(0, 0, DAY)).unwrap();
    install(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (place, mut looks) = (folder.generation(0), 0);
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                assert!(place.join("meta.json").exists(), "neither the old nor the new one");
                looks += 1;
            }
            looks
        });
        let writers = [1, 2].map(|n| scope.spawn(move || (0..100).for_each(|_| install(n))));
        let ended = writers.map(|writer| writer.join().is_ok());
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(ended, [true; 2], "each is written beside the other");
        assert!(watch.join().unwrap() > 0);
    });
    let (of_chain, of_key) = pair(&folder);
    assert_eq!(of_chain, of_key);
    assert_eq!(names(&folder.0), ["backup"]);
}

#[test]
fn a_replacement_that_a_crash_cut_off_is_ended_or_taken_back() {
    for (what, left, expected) in [
        ("beside its place", &["backup=1", ".new-0-7/backup=2"][..], 1),
        ("exchanged", &["backup=2", ".new-0-7/backup=1"], 2),
        ("the old one is gone from its place", &[".new-0-7/before=1", ".new-0-7/backup=2"], 2),
        ("the new one is in its place", &[".new-0-7/before=1", "backup=2"], 2),
        ("the new one is not whole", &[".new-0-7/before=1", ".new-0-7/backup=half"], 1),
    ] {
        let home = home();
        let folder = Folder::of(home.path(), "gw");
        for (place, n) in left.iter().filter_map(|it| it.split_once('=')) {
            let place = folder.0.join(place);
            fs::create_dir_all(&place).unwrap();
            let n = n.parse().unwrap_or(9);
            fs::write(place.join("key.pem"), [n]).unwrap();
            if n < 9 {
                fs::write(place.join("fullchain.pem"), chain(n)).unwrap();
                fs::write(place.join("meta.json"), "{}").unwrap();
            }
        }
        folder.clear_away(&[]).unwrap();
        assert_eq!(pair(&folder), (expected, expected), "{what}");
        assert_eq!(names(&folder.0), ["backup"], "{what}");
    }
}

#[test]
fn of_a_chain_only_the_certificates_are_kept_in_one_form() {
    let home = home();
    let folder = Folder::of(home.path(), "gw");
    let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    let text = String::from_utf8(chain(1)).unwrap();
    let split = text.find("-----END").unwrap() + "-----END CERTIFICATE-----\n".len();
    let (leaf, rest) = text.split_at(split);
    for (what, given) in [
        ("a key before them", format!("{key}{text}")),
        ("a key between them", format!("{leaf}{key}{rest}")),
        ("a key behind them", format!("{text}{key}")),
        ("words around them", format!("Bag Attributes\n{leaf}subject=CN = x\n{rest}end\n")),
        ("carriage returns", text.replace('\n', "\r\n")),
        ("without its last newline", text.trim_end().to_owned()),
    ] {
        folder.install((given.as_bytes(), b"key"), &generation(1, 0, DAY)).unwrap();
        assert_eq!(String::from_utf8(folder.read(1).unwrap().0).unwrap(), text, "{what}");
    }
    assert!(folder.install((key.as_bytes(), b"key"), &generation(1, 0, DAY)).is_err());
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

fn deploy(deployment: &Deployment) -> Result<(), String> {
    copies::deploy(deployment, (b"chain", b"key"), Path::new("/var/lib/genesis"))
}

fn copy(path: PathBuf, content: Content, mode: u32) -> Deployment {
    Deployment { content, path, owner: String::new(), group: String::new(), mode }
}

#[test]
fn a_copy_gets_its_mode_and_owner_and_nothing_is_left_beside_it() {
    let home = home();
    let path = home.path().join("gw.pem");
    for mode_wanted in [0o400, 0o600, 0o640, 0o644] {
        deploy(&copy(path.clone(), Content::Fullchain, mode_wanted)).unwrap();
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
        deploy(&owned).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().uid()),
            (b"key\n".to_vec(), uid)
        );
    }
    let nobody =
        Deployment { owner: "no-such-user".to_owned(), ..copy(path.clone(), Content::Key, 0o600) };
    let why = deploy(&nobody).unwrap_err();
    assert!(why.contains("no user \"no-such-user\""), "{why}");
    let nobody =
        Deployment { group: "no-such-group".to_owned(), ..copy(path, Content::Key, 0o600) };
    assert!(deploy(&nobody).unwrap_err().contains("no group"));
    // A folder is in its place.
    let taken = home.path().join("taken");
    fs::create_dir(&taken).unwrap();
    assert!(deploy(&copy(taken, Content::Key, 0o600)).is_err());
    assert_eq!(names(home.path()), ["gw.pem", "taken"]);
    let missing = copy(home.path().join("no/gw.pem"), Content::Key, 0o600);
    assert!(deploy(&missing).unwrap_err().contains("no/gw.pem"));
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
    deploy(&copy(link.clone(), Content::Key, 0o600)).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"key\n");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "the link stays");
    assert_eq!(names(&elsewhere), ["real.pem"]);
    // Also where nothing is there yet.
    fs::remove_file(&target).unwrap();
    deploy(&copy(link.clone(), Content::Key, 0o600)).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"key\n");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_link_that_others_could_have_put_there_is_not_followed() {
    let home = home();
    let (theirs, elsewhere) = (home.path().join("theirs"), home.path().join("elsewhere"));
    for folder in [&theirs, &elsewhere] {
        fs::create_dir(folder).unwrap();
    }
    let (target, link) = (elsewhere.join("shadow"), theirs.join("gw.pem"));
    fs::write(&target, "theirs not").unwrap();
    symlink(&target, &link).unwrap();
    let refused = |wanted: &Deployment, word: &str| {
        for why in [deploy(wanted).unwrap_err(), compare(wanted, b"chain", b"key").unwrap_err()] {
            assert!(why.contains(word), "{why}");
        }
        assert_eq!(fs::read(&target).unwrap(), b"theirs not");
        assert_eq!(names(&elsewhere), ["shadow"]);
    };
    let wanted = copy(link.clone(), Content::Key, 0o600);
    for open in [0o777, 0o770, 0o1777] {
        fs::set_permissions(&theirs, Permissions::from_mode(open)).unwrap();
        refused(&wanted, "chmod go-w");
    }
    fs::set_permissions(&theirs, Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        lchown(&link, Some(1), None).unwrap();
        refused(&wanted, "chown -h root");
        lchown(&link, Some(0), None).unwrap();
        lchown(&theirs, Some(1), None).unwrap();
        refused(&wanted, "chown root");
        lchown(&theirs, Some(0), None).unwrap();
    }
    // A folder on the way that is a link is one too, and a link may lead to another.
    let (way, open) = (home.path().join("way"), home.path().join("open"));
    fs::create_dir(&open).unwrap();
    symlink(&theirs, open.join("link")).unwrap();
    symlink("open/link", &way).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    refused(&copy(way.join("gw.pem"), Content::Key, 0o600), "chmod go-w");
    fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    // All of them are ours now.
    deploy(&copy(way.join("../theirs/gw.pem"), Content::Key, 0o600)).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"key\n");
    symlink("round", theirs.join("round")).unwrap();
    let round = copy(theirs.join("round"), Content::Key, 0o600);
    assert!(deploy(&round).unwrap_err().contains("more than 16 links"));
}

#[test]
fn a_copy_never_goes_into_the_agents_own_folder() {
    let home = home();
    fs::create_dir(home.path().join("state")).unwrap();
    let folder = Folder::of(&home.path().join("state/certs"), "gw");
    folder.begin(1, b"key").unwrap();
    let database = folder.state().join("agent.redb");
    fs::write(&database, "state").unwrap();
    let link = home.path().join("gw.pem");
    symlink("state/agent.redb", &link).unwrap();
    for path in [link, database.clone(), home.path().join("state/certs/gw/gen-1/key.pem")] {
        let wanted = copy(path, Content::Key, 0o600);
        let why = copies::deploy(&wanted, (b"chain", b"key"), folder.state()).unwrap_err();
        assert!(why.contains("the agent's own folder"), "{why}");
    }
    assert_eq!(
        (fs::read(&database).unwrap(), folder.key(1).unwrap()),
        (b"state".to_vec(), b"key".to_vec())
    );
}

#[test]
fn what_is_wrong_with_a_copy_is_said() {
    let home = home();
    let wanted = copy(home.path().join("gw.pem"), Content::Key, 0o600);
    let compared = || compare(&wanted, b"chain", b"key");
    assert!(compared().is_err());
    deploy(&wanted).unwrap();
    assert_eq!(compared(), Ok(()));
    fs::set_permissions(&wanted.path, Permissions::from_mode(0o640)).unwrap();
    assert!(compared().unwrap_err().contains("has mode 0640, 0600 is configured"));
    fs::set_permissions(&wanted.path, Permissions::from_mode(0o400)).unwrap();
    let why = compared().unwrap_err();
    assert!(why.contains("has mode 0400, 0600 is configured"), "its own user may not do: {why}");
    fs::set_permissions(&wanted.path, Permissions::from_mode(0o600)).unwrap();
    let owned = |owner: &str, group: &str| Deployment {
        owner: owner.to_owned(),
        group: group.to_owned(),
        ..wanted.clone()
    };
    // Whoever these tests run as, it is not both of them.
    let (uid, facts) = (rustix::process::geteuid(), fs::metadata(&wanted.path).unwrap());
    let other = if uid.is_root() { "daemon" } else { "root" };
    let why = compare(&owned(other, ""), b"chain", b"key").unwrap_err();
    assert!(why.contains(&format!("is of user {}, {other:?}", facts.uid())), "{why}");
    let other = if facts.gid() == 0 { "daemon" } else { "root" };
    let why = compare(&owned("", other), b"chain", b"key").unwrap_err();
    assert!(why.contains(&format!("is of group {}, {other:?}", facts.gid())), "{why}");
    let why = compare(&owned("", "no-such-group"), b"chain", b"key").unwrap_err();
    assert!(why.contains("no group"), "{why}");
    assert_eq!(compared(), Ok(()));
    assert!(compare(&wanted, b"chain", b"other").unwrap_err().contains("something else"));
}
