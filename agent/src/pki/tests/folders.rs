//! What the folder holds, who may read it, and what is refused rather than overwritten.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every file of the folder with its contents.
fn contents(dir: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    fs::read_dir(dir).unwrap().map(read).collect()
}

#[test]
fn only_the_owner_may_read_keys_and_register() {
    let (_home, pki) = pki();
    pki.issue(&client("olga", Role::Viewer), now()).unwrap();
    assert_eq!(mode(pki.dir()), 0o700);
    for (name, wanted) in [(KEY, 0o600), (INDEX, 0o600), (CA, 0o644), (CRL, 0o644)] {
        assert_eq!(mode(&pki.dir().join(name)), wanted, "{name}");
    }
    assert_eq!(contents(pki.dir()).len(), 4, "nothing else is left in the folder");
}

#[test]
fn what_root_does_in_the_folder_of_another_user_is_that_users() {
    use std::os::unix::fs::{MetadataExt, chown};

    let (_home, pki) = pki();
    // Only root may give files away; for others the folder is their own.
    let owner = if rustix::process::geteuid().is_root() {
        chown(pki.dir(), Some(12_345), Some(23_456)).unwrap();
        (12_345, 23_456)
    } else {
        let folder = fs::metadata(pki.dir()).unwrap();
        (folder.uid(), folder.gid())
    };
    pki.issue(&client("olga", Role::Viewer), now()).unwrap();
    pki.sign_crl(CRL_DAYS, now()).unwrap();
    for name in [INDEX, CRL] {
        let file = fs::metadata(pki.dir().join(name)).unwrap();
        assert_eq!((file.uid(), file.gid()), owner, "{name}");
    }
    assert_eq!(mode(&pki.dir().join(INDEX)), 0o600);
}

#[test]
fn a_second_ca_in_one_folder_is_refused() {
    let (_home, pki) = pki();
    let before = contents(pki.dir());
    let again = Pki::init(pki.dir(), &init_request("test"), now());
    let error = again.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Refused, "PKI_EXISTS"));
    assert_eq!(contents(pki.dir()), before);
    // Without its register it is a CA all the same.
    fs::remove_file(pki.dir().join(INDEX)).unwrap();
    let before = contents(pki.dir());
    assert_eq!(code(Pki::init(pki.dir(), &init_request("test"), now())), "PKI_EXISTS");
    assert_eq!(contents(pki.dir()), before);
}

#[test]
fn an_empty_folder_is_taken_and_one_with_other_files_is_not() {
    let home = tempfile::tempdir().unwrap();
    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::set_permissions(&empty, Permissions::from_mode(0o755)).unwrap();
    Pki::init(&empty, &init_request("prod"), now()).unwrap();
    assert_eq!(mode(&empty), 0o700);

    let full = home.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::set_permissions(&full, Permissions::from_mode(0o755)).unwrap();
    fs::write(full.join("letter.txt"), "x").unwrap();
    assert_eq!(code(Pki::init(&full, &init_request("prod"), now())), "PKI_FOLDER_NOT_EMPTY");
    assert_eq!(mode(&full), 0o755);
    assert_eq!(contents(&full).len(), 1);
}

#[test]
fn a_folder_without_a_ca_is_said_to_be_one() {
    let home = tempfile::tempdir().unwrap();
    let error = Pki::open(&home.path().join("pki")).unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::NotFound, "PKI_MISSING"));
    assert!(Pki::read_register(&home.path().join("pki")).unwrap().is_empty());
    assert!(Pki::read_register(home.path()).unwrap().is_empty());
    assert!(!home.path().join("pki").exists());
}

#[test]
fn a_file_that_appears_in_the_meantime_is_not_written_over() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("olga.key");
    fs::write(&path, "mine").unwrap();
    let put = |replace| folder::put(&path, b"new", PRIVATE, replace);
    assert_eq!(code(put(false)), "PKI_FILE_EXISTS");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    put(true).unwrap();
    assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"new".to_vec(), 0o600));
    assert_eq!(contents(home.path()).len(), 1, "no temporary file is left");
}

#[test]
fn junk_is_named_and_never_overwritten() {
    let (_elsewhere, other) = pki();
    let other_key = bytes(&other, KEY);
    let two_blocks = [bytes(&other, CA), bytes(&other, CA)].concat();
    let cases: [(&str, &[u8]); 10] = [
        (KEY, b""),
        (KEY, b"junk"),
        (KEY, b"\xff\xfe"),
        (KEY, &other_key),
        (CA, b"junk"),
        (CA, &two_blocks),
        (CA, &other_key),
        (INDEX, b""),
        (INDEX, b"{\"version\": 1}"),
        (INDEX, b"{\"version\": 2}"),
    ];
    for (name, junk) in cases {
        let (_home, pki) = pki();
        pki.issue(&client("olga", Role::Viewer), now()).unwrap();
        fs::write(pki.dir().join(name), junk).unwrap();
        let before = contents(pki.dir());
        for error in [
            pki.issue(&client("paul", Role::Viewer), now()).err(),
            pki.revoke("olga", Reason::Unspecified, CRL_DAYS, now()).err(),
            pki.sign_crl(CRL_DAYS, now()).err(),
        ] {
            let error = error.expect("it is refused");
            let shown = String::from_utf8_lossy(junk).into_owned();
            assert_eq!(error.code, "PKI_FILE_INVALID", "{name}: {shown}");
            let path = pki.dir().join(name).display().to_string();
            assert!(error.chain().contains(&path), "{path} is named: {}", error.chain());
            assert!(!error.chain().contains("PRIVATE KEY"), "no key is shown");
        }
        assert_eq!(contents(pki.dir()), before, "{name}");
        if name == INDEX {
            assert_eq!(code(Pki::init(pki.dir(), &init_request("x"), now())), "PKI_FILE_INVALID");
            assert_eq!(code(Pki::read_register(pki.dir())), "PKI_FILE_INVALID");
        }
    }
}

#[test]
fn an_error_of_the_ca_does_not_quote_its_key() {
    let (_home, pki) = pki();
    let key = String::from_utf8(bytes(&pki, KEY)).unwrap();
    let secret = key.lines().nth(1).unwrap().to_owned();
    fs::write(pki.dir().join(KEY), key.replace(&secret[..8], "AAAAAAAA")).unwrap();
    let error = pki.sign_crl(CRL_DAYS, now()).unwrap_err();
    assert!(
        !error.chain().contains(&secret[8..32]) && !format!("{error:?}").contains(&secret[8..32])
    );
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let (_home, pki) = pki();
    let key = pki.dir().join(KEY);
    for exposed in [0o640, 0o604, 0o660] {
        fs::set_permissions(&key, Permissions::from_mode(exposed)).unwrap();
        let error = pki.issue(&client("olga", Role::Viewer), now()).err().unwrap();
        assert_eq!((error.kind, error.code), (Kind::Refused, "PKI_KEY_EXPOSED"), "{exposed:o}");
    }
    fs::set_permissions(&key, Permissions::from_mode(0o400)).unwrap();
    pki.issue(&client("olga", Role::Viewer), now()).unwrap();
}

#[test]
fn looking_needs_no_key() {
    let (_home, pki) = pki();
    pki.issue(&client("olga", Role::Viewer), now()).unwrap();
    fs::remove_file(pki.dir().join(KEY)).unwrap();
    assert_eq!(Pki::open(pki.dir()).unwrap().list().unwrap().len(), 1);
    assert_eq!(pki.catch_up(now()).unwrap(), None);
    assert_eq!(Pki::read_register(pki.dir()).unwrap().len(), 1);
}

#[test]
fn a_change_waits_for_another_one_and_then_gives_up() {
    let (_home, pki) = pki();
    let held = pki.folder.lock().unwrap();
    let second = Folder::new(pki.dir());
    let error = second.lock_within(Duration::ZERO).err().unwrap();
    assert_eq!((error.kind, error.code), (Kind::Conflict, "PKI_BUSY"));
    // Looking takes no lock.
    assert!(pki.list().unwrap().is_empty());
    let waiting = std::thread::spawn(move || second.lock_within(Duration::from_secs(60)).is_ok());
    drop(held);
    assert!(waiting.join().unwrap());
}

#[test]
fn changes_at_once_are_all_on_record() {
    let (_home, pki) = pki();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let pki = &pki;
            scope.spawn(move || {
                for turn in 0..5 {
                    let name = format!("w{worker}-{turn}");
                    pki.issue(&client(&name, Role::Viewer), now()).unwrap();
                }
            });
        }
    });
    let names: std::collections::BTreeSet<String> =
        pki.list().unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), 20);
}

#[test]
fn a_wrong_clock_is_refused_and_changes_nothing() {
    let (_home, pki) = pki();
    pki.issue(&client("olga", Role::Viewer), now()).unwrap();
    let before = contents(pki.dir());
    for (clock, wanted) in
        [(now() - days(1), "PKI_CLOCK_WRONG"), (now() + days(3650), "PKI_CA_EXPIRED")]
    {
        assert_eq!(code(pki.issue(&client("paul", Role::Viewer), clock)), wanted);
        assert_eq!(code(pki.revoke("olga", Reason::Unspecified, CRL_DAYS, clock)), wanted);
        assert_eq!(code(pki.sign_crl(CRL_DAYS, clock)), wanted);
        assert_eq!(pki.overview(clock).unwrap().entries.len(), 1, "looking still works");
    }
    assert_eq!(contents(pki.dir()), before);
}

#[test]
fn a_register_from_an_old_backup_does_not_undo_a_revocation() {
    let (_home, pki) = pki();
    let olga = pki.issue(&client("olga", Role::Viewer), now()).unwrap();
    let old = bytes(&pki, INDEX);
    pki.revoke("olga", Reason::KeyCompromise, CRL_DAYS, now()).unwrap();
    fs::write(pki.dir().join(INDEX), old).unwrap();
    let error = pki.sign_crl(CRL_DAYS, now()).unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Refused, "PKI_REGISTER_STALE"));
    assert!(error.message.contains(&olga.entry.serial.to_string()));
    assert_eq!(
        refused(as_client(pki.dir(), &olga.certificate_pem, now())),
        CertificateError::Revoked
    );
}

#[test]
fn revoking_a_name_revokes_all_of_it_and_a_serial_number_only_one() {
    let (_home, pki) = pki();
    let first = pki.issue(&client("olga", Role::Viewer), now()).unwrap().entry.serial;
    let second = pki.issue(&client("olga", Role::Admin), now()).unwrap().entry.serial;
    let third = pki.issue(&client("olga", Role::Admin), now()).unwrap().entry.serial;
    pki.issue(&client("paul", Role::Viewer), now()).unwrap();
    assert_eq!(code(pki.revoke("anna", Reason::Unspecified, CRL_DAYS, now())), "PKI_NOT_FOUND");

    let serials =
        |entries: &[Entry]| -> Vec<Serial> { entries.iter().map(|entry| entry.serial).collect() };
    let one = second.to_string().to_ascii_uppercase();
    let done = pki.revoke(&one, Reason::KeyCompromise, CRL_DAYS, now()).unwrap();
    assert_eq!((serials(&done.revoked), done.already.len(), done.crl_number), (vec![second], 0, 2));

    let later = now() + days(1);
    let done = pki.revoke("olga", Reason::Superseded, CRL_DAYS, later).unwrap();
    assert_eq!(serials(&done.revoked), [first, third]);
    assert_eq!(serials(&done.already), [second]);
    assert_eq!(done.crl_number, 3);

    // Once more changes nothing: neither since when, nor why, nor the list.
    let before = contents(pki.dir());
    let done = pki.revoke("olga", Reason::Unspecified, CRL_DAYS, later + days(1)).unwrap();
    assert_eq!((done.revoked.len(), done.already.len(), done.crl_number), (0, 3, 3));
    let kept = done.already.iter().find(|entry| entry.serial == second).unwrap();
    let wanted = Revocation { at: at("2024-03-01T12:00:00Z"), reason: Reason::KeyCompromise };
    assert_eq!(kept.revoked, Some(wanted));
    assert_eq!(contents(pki.dir()), before);
}
