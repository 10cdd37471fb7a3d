//! The contexts' file: what it means, who may read it, and what is said about what is wrong with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::pki::Ca;
use super::*;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("genesis/genesisctl.toml")
    }

    /// Puts a file beside the contexts.
    fn put(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join("genesis").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // The one before may not be writable.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn contexts(&self, text: &str) -> Result<Contexts, Error> {
        Contexts::load(&self.put("genesisctl.toml", text, 0o600))
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn no_env(_: &str) -> Option<String> {
    None
}

#[test]
fn the_file_is_found_where_xdg_says() {
    let env = |pairs: &'static [(&str, &str)]| {
        move |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        }
    };
    for (pairs, expected) in [
        (&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")][..], Some("/x/genesis/genesisctl.toml")),
        (&[("HOME", "/h")], Some("/h/.config/genesis/genesisctl.toml")),
        (&[("HOME", "/h"), ("XDG_CONFIG_HOME", "rel")], Some("/h/.config/genesis/genesisctl.toml")),
        (&[], None),
    ] {
        assert_eq!(Contexts::default_path(env(pairs)), expected.map(PathBuf::from));
    }
}

#[test]
fn what_is_saved_is_loaded_again_and_nobody_else_can_read_it() {
    let (home, ca) = (Home::new(), Ca::new("fleet"));
    let client = ca.client();
    let path = home.path();
    let inline = TlsMaterial {
        ca: Pem::Text(ca.pem()),
        identity: Some((Pem::Text(client.certificate), Pem::Text(client.key))),
        server_name: Some("web".into()),
    };
    let below = path.with_file_name("prod").join("ca.pem");
    let by_file = TlsMaterial { ca: Pem::File(below), identity: None, server_name: None };
    let elsewhere = TlsMaterial {
        ca: Pem::File("/etc/ca.pem".into()),
        identity: Some((Pem::File("/etc/c.pem".into()), Pem::File("/etc/c.key".into()))),
        server_name: None,
    };
    let nodes = vec!["web-1:7443".parse().unwrap(), "[::1]:1".parse().unwrap()];
    Contexts::edit(&path, |contexts| {
        assert_eq!(contexts.iter().len(), 0);
        contexts.insert(Context::new("prod", nodes.clone(), Some(inline))?);
        contexts.insert(Context::new("Test.1", vec![], Some(by_file))?);
        contexts.insert(Context::new("far", vec![], Some(elsewhere))?);
        contexts.insert(Context::new("local", vec!["/a.sock".parse()?], None)?);
        contexts.set_current(Some("prod"))
    })
    .unwrap();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing is left beside it: {names:?}");

    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("ca_file = \"prod/ca.pem\""), "relative to the folder: {text}");
    assert!(text.contains("\"\"\"\n-----BEGIN CERTIFICATE-----\n"), "over several lines: {text}");
    let loaded = Contexts::load(&path).unwrap();
    assert_eq!(loaded.current(), Some("prod"));
    assert_eq!(loaded.get("prod").unwrap().nodes(), nodes);
    loaded.get("prod").unwrap().tls().unwrap().unwrap();
    loaded.save().unwrap();
    assert_eq!(Contexts::load(&path).unwrap(), loaded);
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "saving again changes nothing");
    assert!(!format!("{loaded:?}").contains("PRIVATE"), "a key is never shown");
}

#[test]
fn a_change_that_fails_leaves_the_file_alone_and_a_link_stays_one() {
    let home = Home::new();
    home.contexts("[context.a]\n").unwrap();
    let path = home.path();
    let link = home.0.path().join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let failed = Contexts::edit(&link, |contexts| {
        contexts.remove("a")?;
        contexts.get("a").map(|_| ())
    });
    assert!(failed.is_err());
    assert!(Contexts::load(&path).unwrap().get("a").is_ok());
    Contexts::edit(&link, |contexts| contexts.remove("a").map(|_| ())).unwrap();
    assert!(Contexts::load(&path).unwrap().get("a").is_err());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn changes_at_the_same_time_are_all_kept() {
    let home = Home::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = home.path();
            scope.spawn(move || {
                Contexts::edit(&path, |contexts| {
                    contexts.insert(Context::new(&format!("c{number}"), vec![], None)?);
                    Ok::<_, Error>(())
                })
                .unwrap();
            });
        }
    });
    assert_eq!(Contexts::load(&home.path()).unwrap().iter().len(), 8);
}

#[test]
fn a_file_that_others_may_read_is_refused_with_what_to_do() {
    let home = Home::new();
    for mode in [0o640, 0o604, 0o620, 0o660] {
        let path = home.put("genesisctl.toml", "", mode);
        let error = Contexts::load_or_default(&path).unwrap_err();
        assert_eq!(error.reason, "CONTEXT_FILE_OPEN_TO_OTHERS");
        assert!(error.next.contains(&format!("chmod 600 {}", path.display())), "{}", error.next);
    }
    let path = home.put("genesisctl.toml", "", 0o400);
    assert_eq!(Contexts::load(&path).unwrap().iter().len(), 0);
    let error = Contexts::load(&home.path().with_file_name("absent")).unwrap_err();
    assert_eq!(error.reason, "CONTEXT_FILE_UNREADABLE");
    assert_eq!(Contexts::load(home.0.path()).unwrap_err().reason, "CONTEXT_FILE_UNREADABLE");
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place() {
    let home = Home::new();
    for (text, place, words) in [
        ("current = \"a\"\nx = 1\n", ":2:1:", "unknown field `x`"),
        ("[context.a]\nnods = []\n", ":2:1:", "`nods`"),
        ("[context.a]\nnodes = [\"web-1:7443\", \"web-2\"]\n", ":2:9:", "\"web-2\" names no port"),
        ("[context.a]\nnodes = [\n", ":2:", ""),
        ("[context.a]\nnodes = 7\n", ":2:9:", "sequence"),
        ("\n[context.a]\nca = \"x\"\nca_file = \"y\"\n", ":2:", "keep one"),
        ("[context.a]\nca = \"x\"\nkey = \"y\"\n", ":1:", "without its `certificate`"),
        ("[context.a]\ncertificate = \"x\"\n", ":1:", "without its `key`"),
        ("[context.a]\ncertificate = \"x\"\nkey = \"y\"\n", ":1:", "without a `ca`"),
        ("[context.a]\nserver_name = \"x\"\n", ":1:", "without a `ca`"),
        ("[context.\"a b\"]\n", ":1:", "name of a context"),
    ] {
        let error = home.contexts(text).unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (Kind::Invalid, "CONTEXT_INVALID"));
        let place = format!("{}{place}", home.path().display());
        assert!(error.message.contains(&place), "{text:?}: {}", error.message);
        assert!(error.message.contains(words), "{text:?}: {}", error.message);
    }
    fs::write(home.path(), b"[context.a]\n\xff").unwrap();
    assert!(Contexts::load(&home.path()).unwrap_err().message.contains(":2:1: this is no UTF-8"));
}

#[test]
fn a_context_is_chosen_by_name_then_environment_then_current() {
    let home = Home::new();
    let text = "current = \"prod\"\n[context.prod]\n[context.test]\n[context.stage]\n";
    let contexts = home.contexts(text).unwrap();
    let env = |value: &'static str| {
        move |name: &str| (name == "GENESISCTL_CONTEXT").then(|| value.to_owned())
    };
    let chosen = |name, value| {
        contexts.resolve(name, env(value)).map(|context| context.unwrap().name().to_owned())
    };
    assert_eq!(chosen(Some("test"), "stage").unwrap(), "test");
    assert_eq!(chosen(None, "stage").unwrap(), "stage");
    assert_eq!(chosen(None, "").unwrap(), "prod");

    let error = chosen(Some("prd"), "").unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (Kind::NotFound, "CONTEXT_NOT_FOUND"));
    assert!(error.next.contains("`prod`") && !error.next.contains("`test`"), "{}", error.next);
    assert!(chosen(None, "zzz").unwrap_err().message.contains("$GENESISCTL_CONTEXT"));
    let stale = home.contexts("current = \"gone\"\n").unwrap();
    let error = stale.resolve(None, no_env).unwrap_err();
    assert!(error.message.contains("`current`") && error.next.contains("context add"));

    let mut contexts = contexts;
    contexts.remove("prod").unwrap();
    assert_eq!(contexts.resolve(None, no_env).unwrap(), None, "the current one went with it");
    assert!(contexts.set_current(Some("prod")).is_err());
}

#[test]
fn certificates_and_keys_are_checked_when_they_are_read() {
    let (home, ca) = (Home::new(), Ca::new("fleet"));
    let (client, other) = (ca.client(), ca.client());
    home.put("ca.pem", &ca.pem(), 0o644);
    home.put("c.pem", &client.certificate, 0o600);
    home.put("c.key", &client.key, 0o600);
    home.put("open.key", &client.key, 0o640);
    home.put("other.key", &other.key, 0o600);
    home.put("empty", "", 0o600);
    let context = |ca: &str, certificate: &str, key: &str| {
        let text = format!(
            "[context.a]\nca_file = {ca:?}\ncertificate_file = {certificate:?}\nkey_file = {key:?}\n"
        );
        home.contexts(&text).unwrap().get("a").unwrap().tls()
    };
    context("ca.pem", "c.pem", "c.key").unwrap().unwrap();
    for (files, reason, words) in [
        (["absent", "c.pem", "c.key"], "CONTEXT_PEM_UNREADABLE", "ca_file"),
        (["ca.pem", "c.pem", "open.key"], "CONTEXT_FILE_OPEN_TO_OTHERS", "640"),
        (["ca.pem", "c.pem", "other.key"], "CONTEXT_KEY_MISMATCH", "does not belong"),
        (["empty", "c.pem", "c.key"], "CONTEXT_PEM_INVALID", "`ca`"),
        (["ca.pem", "c.key", "c.key"], "CONTEXT_PEM_INVALID", "`certificate`"),
        (["ca.pem", "c.pem", "c.pem"], "CONTEXT_PEM_INVALID", "`key`"),
    ] {
        let error = context(files[0], files[1], files[2]).unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (Kind::Invalid, reason), "{files:?}");
        assert!(error.message.starts_with("context a: "), "{}", error.message);
        assert!(error.message.contains(words), "{}", error.message);
    }
    for base64 in ["!", "AAAA"] {
        let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        assert_eq!(Tls::new(pem.as_bytes(), None).unwrap_err().reason, "CONTEXT_PEM_INVALID");
    }
}

#[test]
fn names_of_contexts_are_plain() {
    for name in ["prod", "eu-west.1", "9", &"x".repeat(CONTEXT_NAME_LIMIT)] {
        assert!(Context::new(name, vec![], None).is_ok(), "{name}");
    }
    for name in ["", "-x", ".x", "a b", "a/b", "ä", "a\n", &"x".repeat(CONTEXT_NAME_LIMIT + 1)] {
        let error = Context::new(name, vec![], None).unwrap_err();
        assert_eq!(error.reason, "CONTEXT_NAME_INVALID", "{name}");
    }
}
