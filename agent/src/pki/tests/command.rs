//! The command line: files, words and exit codes, from arguments to the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};
use crate::pki::command::Terminal;
use crate::pki::folder::interrupt;

/// A folder to work in, with a CA's folder in it.
struct Desk {
    home: TempDir,
}

/// What a command did.
struct Done {
    result: Result<u8>,
    out: String,
    err: String,
}

impl Done {
    fn ok(self) -> Self {
        assert_eq!(self.result.as_ref().map_err(ToString::to_string), Ok(&0), "{}", self.err);
        self
    }

    fn refused(self) -> &'static str {
        code(self.result)
    }
}

impl Desk {
    fn new() -> Self {
        let desk = Self { home: tempfile::tempdir().unwrap() };
        desk.run("init --fleet prod").ok();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs `pki LINE` at `now()`; `@` stands for the desk's folder.
    fn run(&self, line: &str) -> Done {
        self.run_at(line, now())
    }

    fn run_at(&self, line: &str, now: Timestamp) -> Done {
        let home = self.home.path().to_str().unwrap();
        let line = line.replace('@', home);
        let mut words = vec!["genesis-agent", "--state-dir", home, "pki"];
        words.extend(line.split(' '));
        let cli = Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{error}"));
        let Some(Command::Pki(args)) = cli.command else { panic!("pki is asked for") };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut terminal = Terminal { out: &mut out, err: &mut err };
        let result =
            crate::pki::command::run(&args, cli.places.state_dir.as_deref(), now, &mut terminal);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { result, out: text(out), err: text(err) }
    }
}

fn private(path: &Path) -> bool {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777 == 0o600
}

#[test]
fn a_client_gets_certificate_key_and_context() {
    let desk = Desk::new();
    let done = desk
        .run("issue --name olga --role admin --out @/olga --context @/olga.toml --node web-1:7443 web-2:7443")
        .ok();
    let (certificate, key) = (desk.path("olga/olga.pem"), desk.path("olga/olga.key"));
    let context = desk.path("olga.toml");
    let shown: Vec<PathBuf> = done.out.lines().map(PathBuf::from).collect();
    assert_eq!(shown, [certificate.clone(), key.clone(), context.clone()]);
    assert!(private(&key) && private(&context));
    assert!(!done.out.contains("PRIVATE") && !done.err.contains("PRIVATE"));

    let read = |path: &Path| fs::read_to_string(path).unwrap();
    as_client(&desk.path("pki"), &read(&certificate), now()).unwrap();
    let table: toml::Table = read(&context).parse().unwrap();
    assert_eq!(table["current"].as_str(), Some("prod"));
    let contexts = table["context"].as_table().unwrap();
    assert_eq!(contexts.len(), 1);
    let own = &contexts["prod"];
    let nodes: Vec<&str> =
        own["nodes"].as_array().unwrap().iter().map(|node| node.as_str().unwrap()).collect();
    assert_eq!(nodes, ["web-1:7443", "web-2:7443"]);
    assert_eq!(own["certificate"].as_str(), Some(read(&certificate).as_str()));
    assert_eq!(own["key"].as_str(), Some(read(&key).as_str()));
    assert_eq!(own["ca"].as_str(), Some(read(&desk.path("pki/ca.pem")).as_str()));
}

#[test]
fn a_context_may_have_a_name_with_a_dot() {
    let desk = Desk::new();
    desk.run("issue --name olga --role viewer --out @/o --context @/c --context-name prod.eu --node a:1,b:2")
        .ok();
    let table: toml::Table = fs::read_to_string(desk.path("c")).unwrap().parse().unwrap();
    assert_eq!(table["current"].as_str(), Some("prod.eu"));
    assert_eq!(table["context"]["prod.eu"]["nodes"].as_array().unwrap().len(), 2);
    for (wrong, wanted) in
        [("--context-name Prod --node a:1", "PKI_NAME_INVALID"), ("--node a", "PKI_NODE_INVALID")]
    {
        let line = format!("issue --name paul --role viewer --out @/p --context @/d {wrong}");
        assert_eq!(desk.run(&line).refused(), wanted);
    }
    assert!(!desk.path("p").exists() && !desk.path("d").exists());
}

#[test]
fn a_key_fits_its_certificate() {
    let desk = Desk::new();
    desk.run("issue --name olga --role viewer --out @/o").ok();
    let read = |name: &str| fs::read(desk.path(name)).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&read("o/olga.pem")).unwrap()];
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(&read("o/olga.key")).unwrap();
    rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&desk.path("pki")))
        .with_client_auth_cert(chain, key)
        .unwrap();
}

#[test]
fn a_server_gets_the_lines_of_its_configuration() {
    let desk = Desk::new();
    let done = desk.run("issue --server --name web-1 --host 10.0.0.7 --out @/tls").ok();
    let table: toml::Table = done.out.parse().expect("standard output is TOML and nothing else");
    assert_eq!(table["listen"]["grpc"].as_str(), Some("0.0.0.0:7443"));
    assert_eq!(table["fleet"]["name"].as_str(), Some("prod"));
    for (key, file) in [
        ("certificate", "tls/web-1.pem"),
        ("key", "tls/web-1.key"),
        ("client_ca", "pki/ca.pem"),
        ("revocation_list", "pki/crl.pem"),
    ] {
        let path = table["tls"][key].as_str().unwrap();
        assert_eq!(Path::new(path), desk.path(file), "{key}");
        assert!(Path::new(path).is_file(), "{key}");
    }
    assert_eq!(table["tls"].as_table().unwrap().len(), 4);
    let pem = fs::read_to_string(desk.path("tls/web-1.pem")).unwrap();
    as_server(&desk.path("pki"), &pem, "10.0.0.7", now()).unwrap();
}

#[test]
fn files_that_are_there_are_only_replaced_when_it_is_said() {
    let desk = Desk::new();
    let issue = "issue --name olga --role viewer --out @/o --context @/c --node a:1";
    desk.run(issue).ok();
    let register = || Pki::read_register(&desk.path("pki")).unwrap().len();
    for kept in ["o/olga.pem", "o/olga.key", "c"] {
        for name in ["o/olga.pem", "o/olga.key", "c"] {
            let _ = fs::remove_file(desk.path(name));
        }
        fs::write(desk.path(kept), "mine").unwrap();
        assert_eq!(desk.run(issue).refused(), "PKI_FILE_EXISTS", "{kept}");
        assert_eq!(fs::read(desk.path(kept)).unwrap(), b"mine");
        assert_eq!(register(), 1, "nothing was issued");
    }
    desk.run(&format!("{issue} --replace")).ok();
    assert_eq!(register(), 2);
    assert!(private(&desk.path("c")), "whatever its mode was");
}

#[test]
fn a_certificate_never_takes_the_place_of_the_ca() {
    let desk = Desk::new();
    let before = fs::read(desk.path("pki/ca.key")).unwrap();
    for line in [
        "issue --name ca --role viewer --replace --out @/pki",
        "issue --name ca --role viewer --replace --out @/o/../pki",
        "issue --name olga --role viewer --replace --out @/o --context @/pki/crl.pem --node a:1",
        "issue --name olga --role viewer --replace --out @/o --context @/o/olga.key --node a:1",
    ] {
        assert_eq!(desk.run(line).refused(), "PKI_OUT_INVALID", "{line}");
    }
    assert_eq!(fs::read(desk.path("pki/ca.key")).unwrap(), before);
    assert!(Pki::read_register(&desk.path("pki")).unwrap().is_empty());
}

#[test]
fn a_certificate_whose_files_were_cut_off_can_be_revoked() {
    let desk = Desk::new();
    // The register is written, then the key; the certificate is not.
    interrupt::after(Some(2));
    let done = desk.run("issue --name olga --role viewer --out @/o");
    interrupt::after(None);
    let entries = Pki::read_register(&desk.path("pki")).unwrap();
    let serial = entries[0].serial.to_string();
    assert!(done.err.contains(&format!("pki revoke {serial}")), "{}", done.err);
    assert_eq!(done.refused(), "PKI_FILE_FAILED");
    desk.run(&format!("revoke {serial}")).ok();
}

#[test]
fn revoking_says_what_and_since_when() {
    let desk = Desk::new();
    desk.run("issue --name olga --role viewer --out @/1").ok();
    desk.run("issue --name olga --role admin --out @/2").ok();
    let done = desk.run("revoke olga --reason key-compromise").ok();
    assert_eq!(done.out.lines().count(), 2);
    assert!(done.err.contains("2 certificates have the name olga"), "{}", done.err);
    assert!(done.err.contains("crl.pem"), "{}", done.err);
    let again = desk.run_at("revoke olga", now() + days(1)).ok();
    assert_eq!(
        again.out.matches("already, since 2024-03-01T12:00:00Z").count(),
        2,
        "{}",
        again.out
    );
    let crl = |done: &Done| done.err.contains("copy ");
    assert!(!crl(&again));
    assert!(crl(&desk.run("crl").ok()));
    assert_eq!(desk.run("revoke anna").refused(), "PKI_NOT_FOUND");
}

#[test]
fn the_list_shows_everything_and_what_is_due() {
    let desk = Desk::new();
    desk.run("issue --name olga --role viewer --out @/1").ok();
    desk.run("issue --server --name web-1 --days 31 --out @/2").ok();
    desk.run("revoke olga").ok();
    let done = desk.run("list").ok();
    let rows: Vec<Vec<&str>> =
        done.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 4, "{}", done.out);
    assert_eq!(rows[1][1..], ["prod", "ca", "2034-02-27T12:00:00Z", "3650", "-"]);
    let revoked = "2024-03-01T12:00:00Z";
    assert_eq!(rows[2][1..], ["olga", "viewer", "2025-03-01T12:00:00Z", "365", revoked]);
    assert_eq!(rows[3][1..], ["web-1", "agent", "2024-04-01T12:00:00Z", "31", "-"]);

    // Two days later the server's certificate is due.
    let done = desk.run_at("list -o json", now() + days(2));
    assert_eq!(done.result.as_ref().ok(), Some(&3));
    assert!(done.err.contains("web-1"), "{}", done.err);
    let shown: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(shown["fleet"], "prod");
    assert_eq!(shown["ca"]["notAfter"], "2034-02-27T12:00:00Z");
    assert_eq!((&shown["crl"]["number"], &shown["crl"]["revoked"]), (&2.into(), &1.into()));
    let [olga, web] = &shown["certificates"].as_array().unwrap()[..] else { panic!("two") };
    assert_eq!((&olga["name"], &olga["revokedAt"]), (&"olga".into(), &revoked.into()));
    assert_eq!(web["uri"], "genesis://prod/agent/web-1");
    assert_eq!((&web["daysLeft"], &web["revokedAt"]), (&29.into(), &serde_json::Value::Null));
    assert_eq!(shown["findings"][0]["subject"], "web-1");
    assert!(!done.out.contains("PRIVATE"));
}

#[test]
fn the_list_signs_what_lags_and_shows_what_it_can_when_it_may_not() {
    let desk = Desk::new();
    desk.run("issue --name olga --role viewer --out @/1").ok();
    interrupt::after(Some(1));
    assert_eq!(desk.run("revoke olga").refused(), "PKI_FILE_FAILED");
    interrupt::after(None);
    let key = desk.path("pki/ca.key");
    let secret = fs::read(&key).unwrap();
    fs::write(&key, "junk").unwrap();
    let done = desk.run("list");
    assert_eq!(done.result.as_ref().ok(), Some(&3));
    assert!(done.err.contains("PKI_FILE_INVALID") && done.out.contains("olga"), "{}", done.err);
    fs::write(&key, secret).unwrap();
    let done = desk.run("list").ok();
    assert!(done.err.contains("revocation list 2 is signed"), "{}", done.err);
    let pem = fs::read_to_string(desk.path("1/olga.pem")).unwrap();
    assert_eq!(refused(as_client(&desk.path("pki"), &pem, now())), CertificateError::Revoked);
}

#[test]
fn arguments_that_make_no_sense_are_wrong_usage() {
    for line in [
        "init",
        "init --fleet prod --days 0",
        "init --fleet prod --days 36501",
        "issue --name olga",
        "issue --name olga --role agent",
        "issue --name olga --role viewer --server",
        "issue --name olga --role viewer --host web-1",
        "issue --name olga --role viewer --context c",
        "issue --name olga --role viewer --node a:1",
        "issue --server --name web-1 --context c --node a:1",
        "issue --server",
        "revoke",
        "revoke olga --reason boredom",
        "revoke olga --crl-days 0",
        "list -o xml",
    ] {
        let words = ["genesis-agent", "pki"].into_iter().chain(line.split(' '));
        let error = Cli::try_parse_from(words).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}
