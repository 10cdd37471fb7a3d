//! `cert` where it changes something.

use std::collections::HashMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Code;

use crate::cert::{agent, listed, proven};
use crate::fake::{Certificates, Fake, Script, refusal};
use crate::{Outcome, at, ctl, ctl_with, folder};

const RUN: &str = "01J0000000000000000000000A";

/// Nobody must see it.
const SECRET: &str = "MC4CAQAwBQYDK2VwBCIEIKEY";

fn cert(fake: &Fake, command: &[&str]) -> Outcome {
    ctl(&[&["cert"], command, &["-n", &fake.node()]].concat())
}

fn running(state: RunState, certificates: Certificates) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let run = Run {
        id: RUN.into(),
        kind: "certificates.renew".into(),
        state: state.into(),
        summary: "generation 5 is served".into(),
        ..Default::default()
    };
    let step = PlanStep {
        action: "replace".into(),
        target: "api generation 4".into(),
        reason: "its key is known".into(),
    };
    let script = Script {
        certificates,
        watches: vec![vec![Ok(run)]],
        any_plan: PlanResponse { plan: Some(Plan { hash: "h1".into(), steps: vec![step] }) },
        ..Default::default()
    };
    let fake = Fake::start(folder.path(), script);
    (folder, fake)
}

fn failing(method: &'static str, code: Code, reason: &str) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let failing = HashMap::from([(method, refusal(code, reason, "so it is"))]);
    let fake = Fake::start(folder.path(), Script { failing, ..Default::default() });
    (folder, fake)
}

#[test]
fn a_renewal_is_followed_to_its_end_which_decides_the_exit_code() {
    for (state, exit) in [
        (RunState::Succeeded, Exit::Ok),
        (RunState::Failed, Exit::Failed),
        (RunState::Refused, Exit::Refused),
        (RunState::Interrupted, Exit::Unknown),
    ] {
        let (_folder, fake) = running(state, Certificates::default());
        let outcome = cert(&fake, &["renew", "--domain", "api.example.com", "--force"]);
        assert_eq!(outcome.exit, exit, "{}", outcome.stderr);
        assert!(outcome.out().contains("generation 5 is served"), "{}", outcome.out());
        assert_eq!(
            fake.calls(),
            ["RenewCertificate api.example.com force", &format!("WatchRun {RUN}")]
        );
        for flag in ["--detach", "--no-wait"] {
            let detached = cert(&fake, &["renew", flag]);
            assert_eq!(detached.exit, Exit::Ok, "{}", detached.stderr);
            assert!(detached.out().contains("has started"), "{}", detached.out());
        }
        assert_eq!(fake.calls()[2..], ["RenewCertificate", "RenewCertificate"]);
    }
    let attached = Certificates { attached: true, ..Default::default() };
    let (_folder, fake) = running(RunState::Succeeded, attached);
    let outcome = cert(&fake, &["renew"]);
    assert_eq!(outcome.exit, Exit::Ok);
    assert!(outcome.stderr.contains("was going on already"), "{}", outcome.stderr);
    let lines = cert(&fake, &["renew", "-o", "jsonl"]);
    assert!(lines.out().contains("RUN_STATE_SUCCEEDED"), "{}", lines.out());
}

#[test]
fn what_is_not_due_is_said_to_be_so_and_is_no_failure() {
    let (_folder, fake) = agent(Certificates { due_at: at(90_000), ..Default::default() });
    let outcome = cert(&fake, &["renew", "--domain", "api.example.com"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "api is due at 1970-01-02T01:00:00Z (a third of its life is left then), nothing was ordered: --force orders \
         it now\n"
    );
    let json = cert(&fake, &["renew", "-o", "json"]).json();
    assert_eq!((&json[0]["ok"], &json[0]["response"]["runId"]), (&true.into(), &"".into()));
    assert_eq!(json[0]["response"]["dueAt"], "1970-01-02T01:00:00Z");
    assert_eq!(fake.calls().len(), 2, "there is no run to follow");
}

#[test]
fn what_is_refused_says_what_to_do() {
    for (command, method, code, reason, exit, next) in [
        (
            &["renew"][..],
            "RenewCertificate",
            Code::FailedPrecondition,
            "BUDGET_EXHAUSTED",
            Exit::Refused,
            "cert budget",
        ),
        (
            &["renew"],
            "RenewCertificate",
            Code::FailedPrecondition,
            "CERTIFICATE_PINNED",
            Exit::Refused,
            "cert unpin",
        ),
        (
            &["renew"],
            "RenewCertificate",
            Code::FailedPrecondition,
            "CERTIFICATE_HELD_BACK",
            Exit::Refused,
            "cert show",
        ),
        (
            &["renew"],
            "RenewCertificate",
            Code::FailedPrecondition,
            "CLOCK_SUSPECT",
            Exit::Refused,
            "set the clock",
        ),
        (
            &["renew", "--plan"],
            "PlanRenewCertificate",
            Code::FailedPrecondition,
            "BUDGET_EXHAUSTED",
            Exit::Refused,
            "cert budget",
        ),
        (
            &["rollback"],
            "RollbackCertificate",
            Code::FailedPrecondition,
            "GENERATION_UNUSABLE",
            Exit::Refused,
            "cert show",
        ),
        (
            &["rollback", "--to", "9"],
            "RollbackCertificate",
            Code::NotFound,
            "GENERATION_NOT_FOUND",
            Exit::Failed,
            "cert show",
        ),
        (
            &["import", "--from", "/x"],
            "ImportCertificate",
            Code::Internal,
            "DEPLOY_FAILED",
            Exit::Failed,
            "cert verify",
        ),
        (
            &["import", "--from", "/x"],
            "ImportCertificate",
            Code::FailedPrecondition,
            "CERTIFICATE_UNUSABLE",
            Exit::Refused,
            "what the message names",
        ),
        (
            &["pin"],
            "PinCertificate",
            Code::NotFound,
            "CERTIFICATE_NOT_FOUND",
            Exit::Failed,
            "cert list",
        ),
    ] {
        let (_folder, fake) = failing(method, code, reason);
        let outcome = cert(&fake, command);
        assert_eq!(outcome.exit, exit, "{command:?} {reason}: {}", outcome.stderr);
        for said in [&format!("error[{reason}]: so it is"), next] {
            assert!(outcome.stderr.contains(said), "{command:?}: {}", outcome.stderr);
        }
        let json = cert(&fake, &[command, &["-o", "json"]].concat());
        assert_eq!(json.exit, exit);
        assert_eq!(json.json()[0]["error"]["reason"], reason);
    }
}

/// An agent that finds `served` of what it puts into service, where `probe` is configured.
fn finding(served: Truth, probe: &str) -> (tempfile::TempDir, Fake) {
    let certificate = Certificate { probe: probe.into(), ..proven() };
    agent(Certificates { listed: listed(&[certificate]), served, ..Default::default() })
}

#[test]
fn a_rollback_says_from_where_to_where_and_whether_that_is_served() {
    let (_folder, fake) = finding(Truth::Pass, "api.example.com:443");
    let outcome = cert(&fake, &["rollback", "--domain", "api.example.com", "--to", "2"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "api went back from generation 4 to 2, and is pinned there: `genesisctl cert unpin --domain api` ends that\n\
         served: PASS: leaf 5f3a\n"
    );
    assert_eq!(cert(&fake, &["rollback"]).exit, Exit::Ok);
    assert_eq!(
        fake.calls(),
        ["RollbackCertificate api.example.com 2", "RollbackCertificate"],
        "what is proven needs no further call"
    );
    for to in ["0", "-1", "x"] {
        assert_eq!(cert(&fake, &["rollback", "--to", to]).exit, Exit::Usage);
    }
}

#[test]
fn what_is_put_into_service_and_not_served_is_a_failure() {
    for command in [&["rollback"][..], &["import", "--from", "/etc/letsencrypt/live/api"]] {
        for (served, probe, exit, reason) in [
            (Truth::Fail, "h:443", Exit::Failed, "CERTIFICATE_NOT_SERVED"),
            (Truth::Fail, "", Exit::Failed, "CERTIFICATE_NOT_SERVED"),
            (Truth::Unknown, "h:443", Exit::Unknown, "CERTIFICATE_UNPROVEN"),
            (Truth::Unspecified, "h:443", Exit::Unknown, "CERTIFICATE_UNPROVEN"),
        ] {
            let (_folder, fake) = finding(served, probe);
            let outcome = cert(&fake, command);
            assert_eq!(outcome.exit, exit, "{command:?} {served:?}: {}", outcome.stderr);
            assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
            assert!(outcome.stderr.contains("genesisctl cert verify"), "{}", outcome.stderr);
            assert!(outcome.out().contains("generation"), "what was done is said all the same");
            let json = cert(&fake, &[command, &["-o", "json"]].concat());
            assert_eq!(json.exit, exit);
            let json = json.json();
            assert_eq!(json[0]["ok"], false);
            assert_eq!(json[0]["error"]["reason"], reason);
            assert_eq!(json[0]["response"]["evidence"], "leaf 5f3a");
        }
        // Where nobody is to look, nobody's not looking is no failure.
        let (_folder, fake) = finding(Truth::Unknown, "");
        let outcome = cert(&fake, command);
        assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
        assert!(outcome.out().contains("served: nobody looks"), "{}", outcome.out());
        assert_eq!(fake.calls()[1], "ListCertificates api");
        // Nor is it taken for granted that nobody is to.
        let (_folder, fake) = agent(Certificates::default());
        assert_eq!(cert(&fake, command).exit, Exit::Unknown);
        let folder = folder();
        let unknown = HashMap::from([("ListCertificates", tonic::Status::internal("broken"))]);
        let script = Script { failing: unknown, ..Default::default() };
        let fake = Fake::start(folder.path(), script);
        assert_eq!(cert(&fake, command).exit, Exit::Unknown);
    }
}

#[test]
fn a_folder_to_import_is_one_of_the_agents_host() {
    let (_folder, fake) = finding(Truth::Pass, "");
    for from in ["live/api", "", "./x", "~/x"] {
        let outcome = cert(&fake, &["import", "--from", from]);
        assert_eq!(outcome.exit, Exit::Usage);
        assert!(outcome.stderr.contains("no absolute path"), "{}", outcome.stderr);
    }
    assert_eq!(cert(&fake, &["import"]).exit, Exit::Usage);
    assert!(fake.calls().is_empty());
    let outcome = cert(&fake, &["import", "--domain", "a.b", "--from", "/etc/le"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.out().contains("api was imported as generation 5"), "{}", outcome.out());
    let earlier = ["import", "--from", "/etc/le", "--allow-earlier-end"];
    assert_eq!(cert(&fake, &earlier).exit, Exit::Ok);
    let calls = ["ImportCertificate a.b /etc/le", "ImportCertificate /etc/le earlier"];
    assert_eq!(fake.calls(), calls);
}

#[test]
fn pins_are_set_and_ended() {
    let (_folder, fake) = agent(Certificates::default());
    let pin = cert(&fake, &["pin", "--domain", "a.b", "--reason", "until Friday"]);
    assert_eq!(pin.exit, Exit::Ok, "{}", pin.stderr);
    assert!(pin.out().contains("api is pinned to generation 4"), "{}", pin.out());
    assert!(pin.out().contains("genesisctl cert unpin --domain api"), "{}", pin.out());
    let unpin = cert(&fake, &["unpin"]);
    assert_eq!(
        (unpin.exit, unpin.out()),
        (Exit::Ok, "api is pinned no more: it is renewed when it is due\n")
    );
    assert_eq!(fake.calls(), ["PinCertificate a.b because until Friday", "UnpinCertificate"]);
    let json = cert(&fake, &["pin", "-o", "json"]).json();
    assert_eq!(json[0]["response"]["generation"], 4);
    let (_folder, fake) = agent(Certificates { unpinned: true, ..Default::default() });
    let unpin = cert(&fake, &["unpin"]);
    assert_eq!((unpin.exit, unpin.out()), (Exit::Ok, "api was not pinned\n"));
}

/// Files to install, and their folder.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: folder() };
        files.put("chain.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n", 0o644);
        let key = format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n");
        files.put("key.pem", &key, 0o600);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        // Absolute ones stay.
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn install(&self, fake: &Fake, fullchain: &Path, key: &Path, more: &[&str]) -> Outcome {
        let (fullchain, key) = (fullchain.to_str().unwrap(), key.to_str().unwrap());
        let command = ["install-backup", "--fullchain", fullchain, "--key", key];
        let outcome = cert(fake, &[&command[..], more].concat());
        for text in [outcome.out(), &outcome.stderr] {
            assert!(!text.contains(SECRET) && !text.contains("BEGIN PRIVATE KEY-----\n"), "{text}");
        }
        outcome
    }

    fn both(&self, fake: &Fake, more: &[&str]) -> Outcome {
        self.install(fake, &self.path("chain.pem"), &self.path("key.pem"), more)
    }
}

#[test]
fn a_backup_is_read_here_and_its_key_is_never_shown() {
    let files = Files::new();
    let (_folder, fake) = running(RunState::Succeeded, Certificates::default());
    let outcome = files.both(&fake, &["--domain", "api.example.com"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "the backup of api is installed: for api.example.com, by CN=Other CA, until 1970-01-02T01:00:00Z\n"
    );
    let size = |name: &str| fs::metadata(files.path(name)).unwrap().len();
    let sizes = format!("{}+{}", size("chain.pem"), size("key.pem"));
    assert_eq!(fake.calls(), [format!("InstallBackupCertificate api.example.com {sizes}")]);
    for more in
        [&["-o", "json"][..], &["-o", "yaml"], &["-v"], &["--plan"], &["--plan", "-o", "json"]]
    {
        assert_eq!(files.both(&fake, more).exit, Exit::Ok, "{more:?}");
    }
    let (_folder, fake) =
        failing("InstallBackupCertificate", Code::FailedPrecondition, "CERTIFICATE_UNUSABLE");
    assert_eq!(files.both(&fake, &["-v"]).exit, Exit::Refused);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let files = Files::new();
    let (_folder, fake) = agent(Certificates::default());
    for mode in [0o640, 0o604, 0o644, 0o660, 0o620, 0o601] {
        let key = files.path("key.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        for more in [&[][..], &["--plan"], &["--yes"]] {
            let outcome = files.both(&fake, more);
            assert_eq!(outcome.exit, Exit::Usage, "{mode:o}");
            let said = format!("its mode is {mode:03o}: run `chmod 600 {}`", key.display());
            assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
        }
    }
    assert!(fake.calls().is_empty());
    fs::set_permissions(files.path("key.pem"), fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(files.both(&fake, &[]).exit, Exit::Ok);
}

#[test]
fn what_is_no_certificate_and_no_key_is_not_sent() {
    let files = Files::new();
    let (_folder, fake) = agent(Certificates::default());
    let begin = "-----BEGIN CERTIFICATE-----\n";
    files.put("large.pem", &format!("{begin}{}", "A".repeat(64 << 10)), 0o600);
    files.put("limit.pem", &format!("{begin}{}", "A".repeat((64 << 10) - begin.len())), 0o600);
    files.put("der.pem", "0\u{82}", 0o600);
    files.put("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", 0o600);
    files.put("old.pem", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", 0o600);
    fs::create_dir(files.path("folder")).unwrap();
    for (fullchain, key, said) in [
        ("large.pem", "key.pem", "larger than 64 KiB"),
        ("chain.pem", "large.pem", "larger than 64 KiB"),
        ("der.pem", "key.pem", "has no certificate in PEM form"),
        ("chain.pem", "der.pem", "has no private key in PEM form"),
        ("key.pem", "chain.pem", "has a private key"),
        ("chain.pem", "locked.pem", "is encrypted"),
        ("chain.pem", "old.pem", "is encrypted"),
        ("absent.pem", "key.pem", "can't read --fullchain"),
        ("chain.pem", "absent.pem", "can't read --key"),
        ("chain.pem", "folder", "it is no regular file"),
        ("/dev/zero", "key.pem", "it is no regular file"),
    ] {
        let outcome = files.install(&fake, &files.path(fullchain), &files.path(key), &[]);
        assert_eq!(outcome.exit, Exit::Usage, "{fullchain} {key}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(said), "{fullchain} {key}: {}", outcome.stderr);
    }
    let outcome = files.install(&fake, &files.path("chain.pem"), Path::new("-"), &[]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("--key - is no file"), "{}", outcome.stderr);
    assert!(fake.calls().is_empty());
    let limit = files.install(&fake, &files.path("limit.pem"), &files.path("key.pem"), &[]);
    assert_eq!(limit.exit, Exit::Ok, "{}", limit.stderr);
}

#[test]
fn a_key_is_not_sent_in_plain_text() {
    let files = Files::new();
    let (chain, key) = (files.path("chain.pem"), files.path("key.pem"));
    let (chain, key) = (chain.to_str().unwrap(), key.to_str().unwrap());
    // Nobody listens there, which is not even found out.
    let node = "127.0.0.1:1";
    for flags in [&[][..], &["--plan"], &["--yes"]] {
        let command = ["cert", "install-backup", "--fullchain", chain, "--key", key, "-n", node];
        let outcome = ctl(&[&command[..], flags].concat());
        assert_eq!(outcome.exit, Exit::Usage, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("not sent in plain text"), "{}", outcome.stderr);
    }
}

#[test]
fn a_mark_needs_a_reason_and_is_asked_about() {
    let (_folder, fake) = running(RunState::Succeeded, Certificates::default());
    let node = fake.node();
    let mark = ["cert", "mark", "--compromised", "--domain", "a.b", "-n", &node];
    let with = |more: &[&str]| ctl(&[&mark[..], more].concat());
    for (more, said) in [
        (&["--yes"][..], "`cert mark` needs --reason"),
        (
            &["--reason", "leaked"],
            "mark the generation in force of the certificate of a.b compromised",
        ),
        (&["--reason", "leaked", "--generation", "3"], "mark generation 3 of"),
        (&["--reason", "leaked"], "can't be undone"),
    ] {
        let outcome = with(more);
        assert_eq!(outcome.exit, Exit::Usage, "{more:?}");
        assert!(outcome.stderr.contains(said), "{more:?}: {}", outcome.stderr);
    }
    let outcome = ctl(&["cert", "mark", "--reason", "leaked", "--yes", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Usage, "what it is marked as is said");
    assert!(fake.calls().is_empty());

    let answered = |answer: &'static str| {
        ctl_with(&[&mark[..], &["--reason", "leaked"]].concat(), |console| {
            (console.stdin_terminal, console.stderr_terminal) = (true, true);
            console.stdin = Box::new(Cursor::new(answer));
        })
    };
    for answer in ["n\n", "\n", ""] {
        let outcome = answered(answer);
        assert_eq!(outcome.exit, Exit::Failed);
        for said in [
            "replace api generation 4: its key is known",
            "Mark the generation in force of the certificate of a.b compromised? [y/N]",
            "not confirmed: nothing was marked",
        ] {
            assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        }
    }
    assert!(fake.calls().iter().all(|call| call.starts_with("PlanMarkCertificateCompromised")));
    let outcome = answered("y\n");
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        format!(
            "generation 4 of api is marked compromised, and never comes into service again\ngeneration 3 is in \
             service\nrun {RUN} orders another: `genesisctl run watch {RUN}` follows it\n"
        )
    );
    let calls = fake.calls();
    let last = calls.last().unwrap();
    assert_eq!(last, "MarkCertificateCompromised a.b h1 because leaked", "as was shown");
    let outcome = with(&["--reason", "leaked", "--generation", "3", "--yes", "-o", "json"]);
    assert_eq!(outcome.json()[0]["response"]["generation"], 3);
    let (_folder, fake) = agent(Certificates { irreplaceable: true, ..Default::default() });
    let outcome = cert(&fake, &["mark", "--compromised", "--reason", "r", "--yes"]);
    assert_eq!(outcome.exit, Exit::Ok);
    assert!(!outcome.out().contains("orders another"), "{}", outcome.out());
}

#[test]
fn a_mark_whose_revocation_failed_is_a_failure() {
    for (revoked, exit, reason) in [
        (Truth::Pass, Exit::Ok, ""),
        (Truth::Unspecified, Exit::Ok, ""),
        (Truth::Fail, Exit::Failed, "CERTIFICATE_NOT_REVOKED"),
        (Truth::Unknown, Exit::Unknown, "CERTIFICATE_REVOCATION_UNKNOWN"),
    ] {
        let certificates = || Certificates { revoked, ..Default::default() };
        let (_folder, fake) = agent(certificates());
        let mark = ["mark", "--compromised", "--reason", "leaked", "--yes"];
        let outcome = cert(&fake, &mark);
        assert_eq!(outcome.exit, exit, "{revoked:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
        assert!(outcome.out().contains("is marked compromised"), "{}", outcome.out());
        let json = cert(&fake, &[&mark[..], &["-o", "json"]].concat());
        assert_eq!(json.exit, exit);
        let json = json.json();
        assert_eq!(json[0]["ok"], exit == Exit::Ok);
        assert_eq!(json[0]["response"]["detail"], "generation 3 is in service");
        if exit != Exit::Ok {
            assert_eq!(json[0]["error"]["reason"], reason);
            let message = json[0]["error"]["message"].as_str().unwrap();
            assert!(message.contains("generation 3 is in service"), "{message}");
        }
    }
}

#[test]
fn several_nodes_are_changed_only_with_yes() {
    let files = Files::new();
    let (chain, key) = (files.path("chain.pem"), files.path("key.pem"));
    let (chain, key) = (chain.to_str().unwrap(), key.to_str().unwrap());
    let install = ["install-backup", "--fullchain", chain, "--key", key];
    let agent = || {
        let listed = listed(&[proven()]);
        let certificates = Certificates { listed, served: Truth::Pass, ..Default::default() };
        running(RunState::Succeeded, certificates)
    };
    for command in [
        &["renew"][..],
        &["rollback"],
        &["import", "--from", "/x"],
        &["pin"],
        &["unpin"],
        &["mark", "--compromised", "--reason", "r"],
        &install,
    ] {
        let ((_a, one), (_b, two)) = (agent(), agent());
        let nodes = format!("{},{}", one.node(), two.node());
        let outcome = ctl(&[&["cert"], command, &["-n", &nodes]].concat());
        assert_eq!(outcome.exit, Exit::Usage, "{command:?}");
        assert!(outcome.stderr.contains("Nothing was sent"), "{}", outcome.stderr);
        assert!(one.calls().is_empty() && two.calls().is_empty());
        let outcome = ctl(&[&["cert"], command, &["--yes", "-o", "json", "-n", &nodes]].concat());
        assert_eq!(outcome.exit, Exit::Ok, "{command:?}: {}", outcome.stderr);
        assert_eq!(outcome.json().as_array().unwrap().len(), 2);
        assert!(!one.calls().is_empty() && !two.calls().is_empty());
    }
    // The same number is another key on each of them.
    let ((_a, one), (_b, two)) = (agent(), agent());
    let nodes = format!("{},{}", one.node(), two.node());
    let mark = ["cert", "mark", "--compromised", "--generation", "3", "--reason", "r", "--yes"];
    let outcome = ctl(&[&mark[..], &["-n", &nodes]].concat());
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("takes one node at a time"), "{}", outcome.stderr);
}
