//! Contexts: the file, the nodes and certificates that come from it, and who is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use genesis_client::v1::FleetMember;
use genesisctl::Exit;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::fake::{Fake, Script};
use crate::{Outcome, ctl, ctl_with, folder, well};

/// A CA, and a folder of certificates that it has issued.
struct Pki(CertifiedIssuer<'static, KeyPair>);

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "fleet");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn agent(&self) -> Fake {
        self.agent_with(Script::default())
    }

    fn agent_with(&self, script: Script) -> Fake {
        let (certificate, key) = self.issue(ExtendedKeyUsagePurpose::ServerAuth);
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .client_ca_root(Certificate::from_pem(self.0.pem()));
        Fake::start_tls(Script { status: well(), ..script }, tls)
    }
}

/// A home with the certificates of a client.
struct Home(tempfile::TempDir);

impl Home {
    fn new(pki: &Pki) -> Self {
        let home = Self(folder());
        let (certificate, key) = pki.issue(ExtendedKeyUsagePurpose::ClientAuth);
        home.put("ca.pem", &pki.0.pem(), 0o644);
        home.put("c.pem", &certificate, 0o644);
        home.put("c.key", &key, 0o600);
        home
    }

    fn put(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path(".config/genesis/genesisctl.toml")
    }

    fn ctl(&self, arguments: &[&str]) -> Outcome {
        self.ctl_env(arguments, &[])
    }

    fn ctl_env(&self, arguments: &[&str], env: &[(&str, &str)]) -> Outcome {
        ctl_with(arguments, |console| {
            console.env.insert("HOME".into(), self.0.path().display().to_string());
            for (name, value) in env {
                console.env.insert((*name).into(), (*value).into());
            }
        })
    }

    /// `context add NAME` with all certificates, and more.
    fn add(&self, name: &str, more: &[&str]) -> Outcome {
        let path = |name: &str| self.path(name).display().to_string();
        let (ca, certificate, key) = (path("ca.pem"), path("c.pem"), path("c.key"));
        let files = ["--ca-file", &ca, "--certificate-file", &certificate, "--key-file", &key];
        self.ctl(&[&["context", "add", name], &files[..], more].concat())
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_context_is_added_chosen_listed_shown_and_removed() {
    let home = Home::new(&Pki::new());
    let outcome = home.ctl(&["context", "list"]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Ok, ""));
    assert!(outcome.stderr.contains("no contexts") && outcome.stderr.contains("context add"));
    assert!(home.ctl(&["context", "show"]).out().contains("no context is in use"));

    let outcome = home.add("prod", &["--node", "web-1:7443,web-2:7443", "-n", "web-1:7443"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(outcome.out(), "added context prod: 2 nodes, mTLS\n");
    assert!(outcome.stderr.contains("--context prod"));
    assert_eq!(mode(&home.file()), 0o600);
    let outcome =
        home.ctl(&["context", "add", "lab", "--node", "/lab.sock", "--use", "-o", "json"]);
    let added = &outcome.json()[0]["response"]["context"];
    let expected = serde_json::json!({
        "name": "lab", "current": true, "nodes": ["unix:/lab.sock"], "tls": null
    });
    assert_eq!((added, outcome.stderr.as_str()), (&expected, ""));

    let listed = home.ctl(&["context", "list"]);
    let expected = [
        "CONTEXT SECURED BY NODES",
        "* lab nothing unix:/lab.sock",
        "prod mTLS web-1:7443, web-2:7443",
    ];
    let rows: Vec<_> = listed.out().lines().map(|row| row.split_whitespace()).collect();
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.into_iter().zip(expected) {
        assert_eq!(row.collect::<Vec<_>>().join(" "), expected);
    }
    assert_eq!(home.ctl(&["context", "use", "prod"]).exit, Exit::Ok);
    let listed = home.ctl(&["context", "list", "-o", "jsonl"]).json();
    assert_eq!(listed["response"]["contexts"][1]["name"], "prod");
    assert_eq!(listed["response"]["contexts"][1]["current"], true);
    assert_eq!(listed["ok"], true);

    let shown = home.ctl(&["context", "show"]);
    assert!(shown.out().starts_with("context prod: 2 nodes, mTLS\n"));
    assert!(shown.out().contains("c.key") && shown.out().contains("\nweb-2:7443\n"));
    assert!(home.ctl(&["context", "show", "lab"]).out().starts_with("context lab: 1 node"));
    assert!(home.ctl(&["context", "show", "--context", "lab"]).out().contains("/lab.sock"));

    assert_eq!(home.ctl(&["context", "remove", "prod"]).exit, Exit::Ok);
    assert!(home.ctl(&["context", "show"]).out().contains("no context is in use"));
    let again = home.ctl(&["context", "remove", "prod"]);
    assert_eq!(again.exit, Exit::Usage);
    assert!(again.stderr.starts_with("error[CONTEXT_NOT_FOUND]: "), "{}", again.stderr);
    assert_eq!(home.ctl(&["context", "use", "lab"]).exit, Exit::Ok);
    assert_eq!(home.ctl(&["context", "use", "--none"]).out(), "using no context\n");
    assert!(home.ctl(&["context", "show"]).out().contains("no context is in use"));
}

#[test]
fn what_can_not_be_used_is_not_added() {
    let (pki, home) = (Pki::new(), Home::new(&Pki::new()));
    let (certificate, _) = pki.issue(ExtendedKeyUsagePurpose::ClientAuth);
    let other = home.put("other.pem", &certificate, 0o644);
    let [ca, key] = ["ca.pem", "c.key"].map(|name| home.path(name).display().to_string());
    let files = |certificate, key| {
        ["--ca-file", &ca, "--certificate-file", certificate, "--key-file", key]
            .map(ToOwned::to_owned)
    };
    for (more, words) in [
        (files(&other, &key).to_vec(), "error[CONTEXT_KEY_MISMATCH]"),
        (files(&other, &ca).to_vec(), "error[CONTEXT_FILE_OPEN_TO_OTHERS]"),
        (files("/absent", &key).to_vec(), "error[CONTEXT_PEM_UNREADABLE]"),
        (vec!["--server-name".into(), "x".into()], "--ca-file"),
        (vec!["--key-file".into(), key.clone()], "--certificate-file"),
        (vec!["--node".into(), "web-1".into()], "web-1:7443"),
        (vec!["--from".into(), "/absent".into()], "error[CONTEXT_FILE_UNREADABLE]"),
        (vec![], "--from"),
    ] {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let outcome = home.ctl(&[&["context", "add", "x"], &more[..]].concat());
        assert_eq!(outcome.exit, Exit::Usage, "{more:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{more:?}: {}", outcome.stderr);
    }
    assert_eq!(home.ctl(&["context", "add", "a b", "--node", "/x"]).exit, Exit::Usage);
    assert!(!home.file().exists());

    assert_eq!(home.add("prod", &[]).exit, Exit::Ok);
    let before = fs::read(home.file()).unwrap();
    let outcome = home.ctl(&["context", "add", "prod", "--node", "/x.sock"]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("--yes"));
    assert_eq!(fs::read(home.file()).unwrap(), before);
    assert_eq!(home.ctl(&["context", "add", "prod", "--node", "/x.sock", "--yes"]).exit, Exit::Ok);
    assert!(home.ctl(&["context", "show", "prod"]).out().contains("1 node, nothing"));
}

#[test]
fn a_context_is_taken_over_from_a_file_and_its_key_is_not_lost_unasked() {
    let pki = Pki::new();
    let (home, fake) = (Home::new(&pki), pki.agent());
    let (certificate, key) = pki.issue(ExtendedKeyUsagePurpose::ClientAuth);
    let text = format!(
        "current = \"fleet\"\n[context.fleet]\nnodes = [\"{}\"]\nca_file = \"ca.pem\"\n\
         certificate = \"\"\"\n{certificate}\"\"\"\nkey = \"\"\"\n{key}\"\"\"\n[context.other]\n",
        fake.node()
    );
    let file = home.put("olga.toml", &text, 0o600);
    let outcome = home.ctl(&["context", "add", "prod", "--from", &file, "--use"]);
    assert_eq!(outcome.out(), "added context prod: 1 node, mTLS\n", "{}", outcome.stderr);
    let outcome = home.ctl(&["status"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.out().starts_with("web-1: OK"));
    for command in [&["context", "show"][..], &["context", "list", "-o", "json"], &["status", "-v"]]
    {
        let outcome = home.ctl(command);
        assert!(!outcome.out().contains("PRIVATE") && !outcome.stderr.contains("PRIVATE"));
    }
    home.put("olga.toml", &text, 0o644);
    let outcome = home.ctl(&["context", "add", "again", "--from", &file]);
    assert!(outcome.stderr.contains("chmod 600"), "{}", outcome.stderr);

    let outcome = home.ctl(&["context", "remove", "prod"]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("--yes"));
    let answered = |answer: &'static str| {
        ctl_with(&["context", "remove", "prod"], |console| {
            console.env.insert("HOME".into(), home.0.path().display().to_string());
            (console.stdin_terminal, console.stderr_terminal) = (true, true);
            console.stdin = Box::new(Cursor::new(answer));
        })
    };
    assert_eq!(answered("n\n").exit, Exit::Failed);
    assert!(home.ctl(&["context", "show", "prod"]).exit == Exit::Ok);
    assert_eq!(answered("y\n").exit, Exit::Ok);
    assert_eq!(home.ctl(&["context", "show", "prod"]).exit, Exit::Usage);
}

#[test]
fn nodes_are_those_named_then_those_of_the_environment_then_those_of_the_context() {
    let pki = Pki::new();
    let (home, one, two, three) = (Home::new(&pki), pki.agent(), pki.agent(), pki.agent());
    home.add("prod", &["--node", &one.node(), "--node", &two.node(), "--use"]);
    home.add("bare", &[]);
    let asked = |outcome: &Outcome| {
        let rows = outcome.json();
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| (row["node"].as_str().unwrap().to_owned(), row["ok"] == true))
            .collect::<BTreeMap<_, _>>()
    };
    let ok =
        |fakes: &[&Fake]| fakes.iter().map(|fake| (fake.node(), true)).collect::<BTreeMap<_, _>>();
    let status = ["status", "-o", "json"];
    let with =
        |more: &[&str], env: &[(&str, &str)]| home.ctl_env(&[&status[..], more].concat(), env);
    let listed = [("GENESISCTL_NODES", three.node())];
    let listed: Vec<(&str, &str)> =
        listed.iter().map(|(name, node)| (*name, node.as_str())).collect();

    assert_eq!(asked(&with(&[], &[])), ok(&[&one, &two]), "those of the current context");
    assert_eq!(asked(&with(&[], &listed)), ok(&[&three]), "with the context's certificates");
    assert_eq!(asked(&with(&["-n", &two.node()], &listed)), ok(&[&two]));
    assert_eq!(asked(&with(&["--context", "prod"], &listed)), ok(&[&one, &two]));
    assert_eq!(asked(&with(&["--context", "bare"], &listed)), ok(&[&three]), "it has none");
    let of_both = [listed[0], ("GENESISCTL_CONTEXT", "prod")];
    assert_eq!(asked(&with(&[], &of_both)), ok(&[&three]));
    assert_eq!(asked(&with(&["--all"], &listed)), ok(&[&one, &two]));
    assert_eq!(asked(&with(&["--context", "bare", "-n", &two.node()], &[])), ok(&[&two]));
    assert_eq!(asked(&with(&["-n", &two.node()], &[("GENESISCTL_CONTEXT", "bare")])), ok(&[&two]));

    // A change on all of them needs consent, as on any two.
    let outcome = home.ctl(&["config", "reload", "--all"]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("--yes") && outcome.stderr.contains(&two.node()));
    assert_eq!(home.ctl(&["config", "reload", "--all", "--yes"]).exit, Exit::Ok);
    assert_eq!(two.calls().last().unwrap(), "ReloadConfig");
}

#[test]
fn members_of_the_fleet_are_reached_with_the_certificates_of_the_context() {
    let pki = Pki::new();
    let (home, member) = (Home::new(&pki), pki.agent());
    let known = FleetMember { node: member.node(), host_id: "b".into(), ..Default::default() };
    let script = Script { status: well(), members: vec![known], ..Script::default() };
    // The context's own node needs none.
    let local = Fake::start(home.0.path(), script);
    home.add("prod", &["--node", &local.node(), "--use"]);
    for command in [&["status", "--all"][..], &["fleet", "skew"]] {
        let outcome = home.ctl(command);
        assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
        assert!(outcome.out().contains(&member.node()), "{}", outcome.out());
    }
    assert_eq!(home.ctl(&["fleet", "skew", "-n", &local.node()]).exit, Exit::Ok);
    assert_eq!(home.ctl(&["status"]).out().lines().count(), 3, "only the context's node");
}

#[test]
fn all_and_a_context_that_leads_nowhere_are_wrong_usage() {
    let home = Home::new(&Pki::new());
    let outcome = home.ctl(&["status", "--all"]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("--context") && outcome.stderr.contains("-n"));
    home.add("prod", &["--node", "web-1:7443"]);
    home.add("bare", &[]);
    for (arguments, words) in [
        (&["status", "--all", "-n", "web-1:7443"][..], "cannot be used with"),
        (&["status", "--all", "--context", "bare"], "no nodes"),
        (&["status", "--context", "bare"], "no nodes"),
        (&["status", "--context", "prot"], "did you mean `prod`?"),
    ] {
        let outcome = home.ctl(arguments);
        assert_eq!(outcome.exit, Exit::Usage, "{arguments:?}");
        assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
    }
    let outcome = home.ctl_env(&["status"], &[("GENESISCTL_CONTEXT", "absent")]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("$GENESISCTL_CONTEXT"));
    let outcome = ctl(&["context", "list"]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("HOME"));
}

#[test]
fn a_damaged_file_is_named_and_does_not_keep_from_a_local_agent() {
    let home = Home::new(&Pki::new());
    let script = Script { status: well(), ..Default::default() };
    let local = Fake::start(home.0.path(), script);
    for (text, mode, code) in [
        ("[context.prod]\nnodes = [\n", 0o600, "error[CONTEXT_INVALID]"),
        ("", 0o644, "error[CONTEXT_FILE_OPEN_TO_OTHERS]"),
    ] {
        home.put(".config/genesis/genesisctl.toml", text, mode);
        for arguments in [&["status"][..], &["status", "-n", "127.0.0.1:1"], &["context", "list"]] {
            let outcome = home.ctl(arguments);
            assert_eq!(outcome.exit, Exit::Usage);
            assert!(outcome.stderr.starts_with(code), "{arguments:?}: {}", outcome.stderr);
        }
        let outcome = home.ctl(&["context", "add", "x", "--node", "/x.sock"]);
        assert_eq!(outcome.exit, Exit::Usage, "what can't be read is not written over");
        assert_eq!(fs::read_to_string(home.file()).unwrap(), text);
        assert_eq!(home.ctl(&["status", "-n", &local.node()]).exit, Exit::Ok);
    }
}

#[test]
fn who_is_refused_exits_6_and_who_is_not_there_7() {
    let (pki, other) = (Pki::new(), Pki::new());
    let fake = pki.agent();
    let (own, foreign) = (Home::new(&pki), Home::new(&other));
    let ca_only = own.path("ca.pem").display().to_string();
    own.ctl(&["context", "add", "anonymous", "--ca-file", &ca_only]);
    // Trusts the agent, and is not trusted by it.
    own.put("foreign.pem", &fs::read_to_string(foreign.path("c.pem")).unwrap(), 0o600);
    own.put("foreign.key", &fs::read_to_string(foreign.path("c.key")).unwrap(), 0o600);
    let [certificate, key] =
        ["foreign.pem", "foreign.key"].map(|name| own.path(name).display().to_string());
    let files = ["--ca-file", &ca_only, "--certificate-file", &certificate, "--key-file", &key];
    own.ctl(&[&["context", "add", "stranger"], &files[..]].concat());
    foreign.add("foreign", &[]);
    own.add("own", &[]);

    let node = fake.node();
    for (home, context, code) in [
        (&foreign, &["--context", "foreign"][..], "SERVER_NOT_TRUSTED"),
        (&own, &["--context", "anonymous"], "CERTIFICATE_REFUSED"),
        (&own, &["--context", "stranger"], "CERTIFICATE_REFUSED"),
        (&own, &[], "TLS_REQUIRED"),
    ] {
        for verb in [&["status"][..], &["config", "reload"]] {
            let outcome = home.ctl(&[verb, context, &["-n", &node]].concat());
            assert_eq!(outcome.exit, Exit::NotAllowed, "{context:?}: {}", outcome.stderr);
            assert!(outcome.stderr.starts_with(&format!("error[{code}]: ")), "{}", outcome.stderr);
        }
        let outcome = home.ctl(&[&["status", "-o", "json"], context, &["-n", &node]].concat());
        assert_eq!(outcome.json()[0]["error"]["reason"], code);
        assert_eq!(outcome.json()[0]["error"]["code"], "UNAUTHENTICATED");
    }
    assert!(fake.calls().is_empty());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let absent = closed.to_string();
    let outcome = own.ctl(&["status", "--context", "own", "-n", &absent]);
    assert_eq!(outcome.exit, Exit::Unreachable);
    let both = format!("{node},{absent}");
    assert_eq!(own.ctl(&["status", "--context", "own", "-n", &both]).exit, Exit::SomeFailed);
    assert_eq!(own.ctl(&["status", "--context", "own", "-n", &node]).exit, Exit::Ok);
}
