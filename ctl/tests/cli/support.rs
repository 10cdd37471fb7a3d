//! `support bundle`: what is in it, what is not, and how it is written.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use genesis_client::v1::*;
use genesis_proto::prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use genesisctl::Exit;
use prost::Message;
use tonic::Status;

use crate::fake::{Alerts, Backups, Certificates, Databases, Fake, Health, Script};
use crate::{Outcome, ctl, ctl_with, folder, well};

const PARTS: [&str; 21] = [
    "MANIFEST",
    "alerts-sent.json",
    "alerts.json",
    "backups.json",
    "breakers.json",
    "certificates.json",
    "client.json",
    "config.toml",
    "databases.json",
    "emergency.json",
    "health-history.json",
    "health.json",
    "logs.json",
    "oplog.json",
    "own-log.jsonl",
    "pki.json",
    "runs.json",
    "schedule.json",
    "status.json",
    "version.json",
    "whoami.json",
];

/// What must not leave the house.
const SECRETS: [&str; 38] = [
    "trade-gw7.corp.example",
    "trade-gw7",
    "corp.example",
    "5d1c7a90-77aa-4bbb-8ccc-0123456789ab",
    "db-master",
    "kafka3",
    "wiki9",
    "navy.example",
    "10.20.30.40",
    "203.0.113.9",
    "2001:db8:85a3::8a2e:370:7334",
    "fe80::1ff:fe23:4567:890a",
    "02:42:ac:11:00:02",
    "grace.hopper",
    "olga",
    "adalovelace",
    "linus",
    "samwise",
    "beatrix",
    "PagerDuty: Night Shift",
    "Night Shift",
    "555-0100",
    "@ops-nights",
    "/home/linus",
    "hunter2",
    "s3cr3t-pw",
    "p4ss phrase",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "AKIAABCDEFGHIJKLMNOP",
    "eyJhbGciOiJIUzI1NiJ9",
    "abc.def.ghi",
    "MC4CAQAwBQYDK2VwBCIEIKEYKEYKEYKEYKEYKEY",
    "0123456789abcdef0123456789abcdef01234567",
    "c2Vzc2lvbi1zZWNyZXQ",
    "wJalrXUtnFEMI",
    "x-api-9f8e7d",
    "fedcba98765432",
    "t0k3n-in-flag",
];

/// By which a server of PostgreSQL is known.
const SYSTEM: &str = "7301234567890123456";

/// Texts as agents, systems and people write them, with all that in them.
const PHRASES: [&str; 19] = [
    "TRADE-GW7 and trade-gw7.corp.example lost 10.20.30.40:7443, then [2001:db8:85a3::8a2e:370:7334]:7443",
    "dial tcp 203.0.113.9: no route from fe80::1ff:fe23:4567:890a%eth0, 02:42:ac:11:00:02",
    "olga asked (genesis://prod/operator/olga), unix:uid=1000(adalovelace) did it; adalovelace left",
    "mail grace.hopper@navy.example or <Grace.Hopper@Navy.Example>",
    "open /home/linus/.ssh/id_ed25519: denied to linus",
    "postgres://samwise:s3cr3t-pw@db-master.internal:5432/x?sslmode=require failed for samwise",
    "put https://wiki9.intra/a?X-Amz-Signature=fedcba98765432&token=hunter2 answered 403",
    "password=hunter2 and \"passphrase\": \"p4ss phrase\", secret: 'p4ss phrase'",
    "{\"api_key\":\"x-api-9f8e7d\",\"nested\":{\"Authorization\":\"Bearer abc.def.ghi\"}}",
    "Authorization: Bearer abc.def.ghi\r\nCookie: session=c2Vzc2lvbi1zZWNyZXQ",
    "git clone with ghp_abcdefghijklmnopqrstuvwxyz0123456789 and AKIAABCDEFGHIJKLMNOP",
    "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2Vzc2lvbi1zZWNyZXQ",
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIKEYKEYKEYKEYKEYKEY\n-----END PRIVATE KEY-----\n",
    "cut -----BEGIN EC PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIKEYKEYKEYKEYKEYKEY",
    "digest 0123456789abcdef0123456789abcdef01234567, aws_secret_access_key = wJalrXUtnFEMI/K7MDENG",
    "call PagerDuty: Night Shift or +1 555-0100, else @ops-nights",
    "subject CN=beatrix,O=prod; beatrix signed",
    "kafka3:9092 refused, host=kafka3 peer: \"wiki9\"",
    "exec [\"curl\", \"--token\", \"t0k3n-in-flag\"] and curl --token t0k3n-in-flag",
];

/// A message each of whose texts is `text`, lists with one item each.
fn filled<M: Message + Default>(name: &str, text: &str) -> M {
    let name = format!("genesis.v1.{name}");
    let descriptor = genesis_proto::pool().get_message_by_name(&name).unwrap();
    M::decode(fill(&descriptor, text, 6).encode_to_vec().as_slice()).unwrap()
}

fn fill(descriptor: &MessageDescriptor, text: &str, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    if depth == 0 || descriptor.full_name().starts_with("google.") {
        return message;
    }
    let value = |field: &FieldDescriptor| match field.kind() {
        Kind::String => Some(Value::String(text.to_owned())),
        Kind::Message(message) => Some(Value::Message(fill(&message, text, depth - 1))),
        _ => None,
    };
    for field in descriptor.fields() {
        match value(&field) {
            Some(value) if field.is_list() => message.set_field(&field, Value::List(vec![value])),
            Some(value) => message.set_field(&field, value),
            None => {}
        }
    }
    message
}

/// An agent each of whose answers says `text` wherever it says something. Who and where it is stays as it is.
fn saying(text: &str) -> Script {
    let quoted = toml::Value::String(text.to_owned());
    let line =
        serde_json::json!({ "level": "WARN", "message": text, "fields": { "detail": [text] } });
    let mut status: GetStatusResponse = filled("GetStatusResponse", text);
    (status.hostname, status.host_id) =
        ("trade-gw7.corp.example".into(), "5d1c7a90-77aa-4bbb-8ccc-0123456789ab".into());
    let mut emergency: GetEmergencyResponse = filled("GetEmergencyResponse", text);
    emergency.contacts = Some(Contacts {
        on_call: "PagerDuty: Night Shift".into(),
        escalation: "grace.hopper@navy.example".into(),
        security: "+1 555-0100".into(),
        non_urgent: "@ops-nights".into(),
    });
    let mut pki: GetPkiResponse = filled("GetPkiResponse", text);
    pki.issued[0].name = "olga".into();
    pki.issued[0].role = "operator".into();
    pki.items[0].subject = "genesis://prod/agent/trade-gw7".into();
    let mut database: Database = filled("Database", text);
    database.place = "postgres://olga@ledgerbox:5432/orders".into();
    for item in &mut database.last.as_mut().unwrap().preflight {
        item.evidence = "rosalind runs UPDATE positions SET owner = 'Marie'".into();
    }
    let mut backups: ListBackupsResponse = filled("ListBackupsResponse", text);
    backups.backups[0].system_identifier = SYSTEM.into();
    backups.backups[0].detail = format!("{text}; made of {SYSTEM} at ledgerbox");
    let mut certificates: ListCertificatesResponse = filled("ListCertificatesResponse", text);
    let certificate = &mut certificates.certificates[0];
    certificate.name = "orders.tradehouse.capital".into();
    certificate.domains = vec!["*.tradehouse.capital".into(), "mercury".into()];
    certificate.probe = "edge7.tradehouse.capital:443".into();
    certificate.summary = format!("{text}; mercury and orders.tradehouse.capital are served");
    Script {
        status,
        emergency,
        pki,
        identity: Some(WhoAmIResponse {
            identity: "genesis://prod/operator/olga".into(),
            ..filled("WhoAmIResponse", text)
        }),
        config: format!(
            "# {}\n[contacts]\non_call = \"PagerDuty: Night Shift\"\n[x]\na = {quoted}\nb = [{quoted}]\n",
            text.replace(['\n', '\r'], " ")
        ),
        alerts: Alerts {
            alert: filled("Alert", text),
            deliveries: vec![filled("Delivery", text)],
            ..Alerts::default()
        },
        breakers: vec![filled("Breaker", text)],
        databases: Databases { databases: vec![database], ..Databases::default() },
        backups: Backups { listed: backups, ..Backups::default() },
        certificates: Certificates { listed: certificates, ..Certificates::default() },
        jobs: vec![filled("Job", text)],
        runs: vec![filled("Run", text)],
        entries: vec![filled("OplogEntry", text)],
        logs: filled("GetLogsStatusResponse", text),
        health: Health {
            status: filled("GetHealthStatusResponse", text),
            history: filled("ListHealthHistoryResponse", text),
            ..Health::default()
        },
        own_log: format!("{line}\nplain: {text}\n{line}\n").into_bytes(),
        ..Default::default()
    }
}

/// The files of an archive by their names, without the folder that all of them are in.
fn unpacked(archive: &Path) -> BTreeMap<String, String> {
    let file = fs::File::open(archive).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        let name = entry.path().unwrap().into_owned();
        let name = name.strip_prefix("genesis-support").unwrap().to_str().unwrap().to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name, text);
    }
    files
}

struct Bundle {
    outcome: Outcome,
    path: PathBuf,
    fake: Fake,
    _folder: tempfile::TempDir,
}

impl Bundle {
    fn of(script: Script, flags: &[&str]) -> Self {
        let folder = folder();
        let fake = Fake::start(folder.path(), script);
        let path = folder.path().join("x.tar.gz");
        let node = fake.node();
        let bundle = ["support", "bundle", "--out", path.to_str().unwrap(), "-n", &node];
        let outcome = ctl_with(&[&bundle[..], flags].concat(), |console| {
            let variables = [("USER", "linus"), ("HOME", "/home/linus"), ("HOSTNAME", "wiki9")];
            console.env.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        });
        Self { outcome, path, fake, _folder: folder }
    }

    fn files(&self) -> BTreeMap<String, String> {
        unpacked(&self.path)
    }
}

fn assert_clean(files: &BTreeMap<String, String>, about: &str) {
    for (name, text) in files {
        let lower = text.to_lowercase();
        for secret in SECRETS {
            assert!(
                !lower.contains(&secret.to_lowercase()),
                "{about:?}: {name} has {secret}:\n{text}"
            );
        }
    }
}

#[test]
fn everything_that_a_report_needs_is_in_one_private_archive() {
    let bundle = Bundle::of(saying("a plain text"), &[]);
    assert_eq!(bundle.outcome.exit, Exit::Ok, "{}", bundle.outcome.stderr);
    assert_eq!(fs::metadata(&bundle.path).unwrap().permissions().mode() & 0o7777, 0o600);
    let files = bundle.files();
    assert_eq!(files.keys().collect::<Vec<_>>(), PARTS);
    for part in &PARTS[1..] {
        let line = files["MANIFEST"].lines().find(|line| line.starts_with(part)).unwrap();
        assert!(line.ends_with("\tok"), "{line}");
        assert!(bundle.outcome.out().contains(part), "{}", bundle.outcome.out());
        let text = &files[*part];
        let known = [("client.json", "\"version\""), ("version.json", "\"schemaVersion\"")];
        let wanted =
            known.iter().find(|(name, _)| name == part).map_or("a plain text", |known| known.1);
        assert!(text.contains(wanted), "{part} lacks {wanted}: {text}");
        if part.ends_with(".json") {
            serde_json::from_str::<serde_json::Value>(text).unwrap();
        }
    }
    toml::from_str::<toml::Table>(&files["config.toml"]).unwrap();
    for line in files["own-log.jsonl"].lines().filter(|line| !line.starts_with("plain")) {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    let calls = bundle.fake.calls();
    for call in ["ReadOwnLog 1048576", "GetConfig", "GetPki", "ListEntries", "GetLogsStatus"] {
        assert!(calls.contains(&call.to_owned()), "{calls:?}");
    }
    let (_, left) = bundle.outcome.out().split_once("written: ").unwrap();
    assert!(left.starts_with(bundle.path.to_str().unwrap()), "{left}");
}

#[test]
fn whom_a_channel_calls_is_replaced_wherever_it_is_told() {
    let mut script = saying("sms to +41790000001 failed");
    script.config = "[alerts.channel.sms]\nto = [\"+41790000001\"]\n".to_owned();
    let files = Bundle::of(script, &[]).files();
    for (name, text) in files {
        assert!(!text.contains("790000001"), "{name}: {text}");
    }
}

#[test]
fn no_name_and_no_secret_is_in_any_part() {
    let all = PHRASES.join("\n");
    // All that is planted is planted somewhere.
    for secret in SECRETS {
        let planted = format!("{all} trade-gw7.corp.example 5d1c7a90-77aa-4bbb-8ccc-0123456789ab");
        assert!(planted.to_lowercase().contains(&secret.to_lowercase()), "{secret}");
    }
    for text in PHRASES.iter().copied().chain([all.as_str()]) {
        // All of it would be too long a reason.
        let reason = if text.len() < 500 { format!("--reason={text}") } else { "-v".to_owned() };
        let bundle = Bundle::of(saying(text), &[&reason]);
        assert_eq!(bundle.outcome.exit, Exit::Ok, "{text:?}: {}", bundle.outcome.stderr);
        let files = bundle.files();
        assert_eq!(files.len(), PARTS.len());
        assert_clean(&files, text);
    }
}

#[test]
fn what_can_not_be_read_as_what_it_should_be_is_redacted_all_the_same() {
    for text in PHRASES {
        let config = format!("this is no TOML = = \"{text}\"\n{text}\n");
        let own_log = [text.as_bytes(), b"\xff\xfe", text.as_bytes()].concat();
        let bundle = Bundle::of(Script { config, own_log, ..saying(text) }, &[]);
        assert_eq!(bundle.outcome.exit, Exit::Ok, "{}", bundle.outcome.stderr);
        assert_clean(&bundle.files(), text);
    }
}

#[test]
fn what_is_missing_is_named_with_its_reason_and_without_secrets() {
    let methods = [
        "GetStatus",
        "GetVersion",
        "WhoAmI",
        "GetConfig",
        "GetPki",
        "GetEmergency",
        "ListJobs",
        "ListRuns",
        "ListEntries",
        "GetLogsStatus",
        "GetHealthStatus",
        "ListAlerts",
        "ListDeliveries",
        "ListBreakers",
        "ListDatabases",
        "ListBackups",
        "ListCertificates",
        "ListHealthHistory",
        "ReadOwnLog",
    ];
    for text in PHRASES {
        // Status and identity are told, for they are what names are known by.
        let failing: HashMap<_, _> = methods[3..]
            .iter()
            .filter(|method| **method != "GetEmergency")
            .map(|method| (*method, Status::internal(text)))
            .collect();
        let bundle = Bundle::of(Script { failing, ..saying(text) }, &[]);
        assert_eq!(bundle.outcome.exit, Exit::Unknown, "{}", bundle.outcome.stderr);
        let files = bundle.files();
        assert_clean(&files, text);
        let missing = files["MANIFEST"].lines().filter(|line| line.contains("\tmissing: ")).count();
        assert_eq!(missing, 15, "{}", files["MANIFEST"]);
        assert_eq!(files.len(), PARTS.len() - 15);
        assert!(
            bundle.outcome.stderr.contains("error[BUNDLE_INCOMPLETE]"),
            "{}",
            bundle.outcome.stderr
        );
    }
    // Nothing at all is told: there is still an archive that says so.
    let failing = methods.map(|method| (method, Status::internal("broken"))).into();
    let bundle = Bundle::of(Script { failing, ..saying("x") }, &["-o", "json"]);
    assert_eq!(bundle.outcome.exit, Exit::Unknown);
    assert_eq!(bundle.files().keys().collect::<Vec<_>>(), ["MANIFEST", "client.json"]);
    let json = bundle.outcome.json();
    assert_eq!(
        (&json[0]["ok"], &json[0]["error"]["reason"]),
        (&false.into(), &"BUNDLE_INCOMPLETE".into())
    );
    let parts = json[0]["response"]["parts"].as_array().unwrap();
    assert_eq!(parts.len(), PARTS.len() - 1);
    assert!(
        parts.iter().all(|part| part["bytes"].is_null() != part["missing"].is_null()),
        "{parts:?}"
    );
}

#[test]
fn certificates_need_another_role_and_may_be_missing() {
    let denied = Status::permission_denied("this takes an admin");
    let failing = HashMap::from([("GetPki", denied.clone())]);
    let bundle = Bundle::of(Script { failing, ..saying("x") }, &[]);
    assert_eq!(bundle.outcome.exit, Exit::Ok, "{}", bundle.outcome.stderr);
    assert!(!bundle.files().contains_key("pki.json"));
    let manifest = &bundle.files()["MANIFEST"];
    assert!(manifest.contains("pki.json\t-\tmissing: "), "{manifest}");
    // Nor may they be missing for another reason, nor anything else for this one.
    let failing = HashMap::from([("GetPki", Status::internal("broken"))]);
    let bundle = Bundle::of(Script { failing, ..saying("x") }, &[]);
    assert_eq!(bundle.outcome.exit, Exit::Unknown);
    let failing = HashMap::from([("GetConfig", denied)]);
    let bundle = Bundle::of(Script { failing, ..saying("x") }, &[]);
    assert_eq!(bundle.outcome.exit, Exit::Unknown);
}

#[test]
fn what_is_the_same_has_the_same_placeholder_in_every_part() {
    let text =
        "from 10.20.30.40 by olga on trade-gw7 to grace.hopper@navy.example with password=hunter2";
    let bundle = Bundle::of(saying(text), &[]);
    let files = bundle.files();
    let status: serde_json::Value = serde_json::from_str(&files["status.json"]).unwrap();
    let told = status["domains"][0]["summary"].as_str().unwrap().to_owned();
    let words: Vec<_> = told.split([' ', '=']).collect();
    let ["from", ip, "by", user, "on", host, "to", mail, "with", "password", secret] = words[..]
    else {
        panic!("{told}");
    };
    for (placeholder, kind) in
        [(ip, "ip-"), (user, "user-"), (host, "host-"), (mail, "contact-"), (secret, "secret-")]
    {
        let number = placeholder.strip_prefix(kind).unwrap_or_else(|| panic!("{told}"));
        assert!(number.parse::<u32>().is_ok(), "{told}");
    }
    assert_eq!(status["hostname"], host, "its short name and its long one are one host");
    let mut parts = 0;
    for (name, text) in &files {
        if text.contains("from ip-") {
            assert!(text.contains(&told), "{name} tells it in another way: {text}");
            parts += 1;
        }
    }
    assert_eq!(parts, PARTS.len() - 2, "all but MANIFEST and client.json");
    let me: serde_json::Value = serde_json::from_str(&files["whoami.json"]).unwrap();
    assert_eq!(me["identity"], format!("genesis://prod/operator/{user}"));
    let pki: serde_json::Value = serde_json::from_str(&files["pki.json"]).unwrap();
    assert_eq!(pki["issued"][0]["name"], user);
    assert_eq!(pki["items"][0]["subject"], format!("genesis://prod/agent/{host}"));
    let emergency: serde_json::Value = serde_json::from_str(&files["emergency.json"]).unwrap();
    assert_eq!(emergency["contacts"]["escalation"], mail);
}

#[test]
fn of_databases_neither_hosts_nor_sessions_nor_statements_are_told() {
    let files = Bundle::of(saying("a plain text"), &[]).files();
    for (name, text) in &files {
        for secret in ["ledgerbox", "rosalind", "Marie", SYSTEM] {
            assert!(!text.contains(secret), "{name} has {secret}: {text}");
        }
    }
    let databases: serde_json::Value = serde_json::from_str(&files["databases.json"]).unwrap();
    let database = &databases["databases"][0];
    let item = &database["last"]["preflight"][0];
    assert_eq!((&item["name"], &item["evidence"]), (&"a plain text".into(), &"".into()));
    let place = database["place"].as_str().unwrap();
    assert!(place.starts_with("postgres://user-") && place.ends_with("/orders"), "{place}");
    let backups: serde_json::Value = serde_json::from_str(&files["backups.json"]).unwrap();
    let backup = &backups["backups"][0];
    let system = backup["systemIdentifier"].as_str().unwrap();
    assert!(system.starts_with("id-"), "{system}");
    assert!(backup["detail"].as_str().unwrap().contains(system), "{backup}");
}

#[test]
fn of_certificates_no_domain_is_told_and_no_word_is_taken_for_one() {
    let files = Bundle::of(saying("the orders are late"), &[]).files();
    for (name, text) in &files {
        for secret in ["tradehouse", "mercury", "edge7"] {
            assert!(!text.contains(secret), "{name} has {secret}: {text}");
        }
    }
    let list: serde_json::Value = serde_json::from_str(&files["certificates.json"]).unwrap();
    let one = &list["certificates"][0];
    let (name, other) = (one["name"].as_str().unwrap(), one["domains"][1].as_str().unwrap());
    assert!(name.starts_with("host-") && other.starts_with("host-"), "{one}");
    assert_eq!(one["summary"], format!("the orders are late; {other} and {name} are served"));
}

#[test]
fn hashes_of_the_operation_log_stay_to_be_checked() {
    let (hash, other) = ("ab".repeat(32), "cd".repeat(32));
    let mut script = saying(&format!("see {other}"));
    script.entries[0].hash = hash.clone();
    let files = Bundle::of(script, &[]).files();
    assert!(files["oplog.json"].contains(&hash));
    assert!(files.values().all(|text| !text.contains(&other)));
}

#[test]
fn a_file_that_exists_is_replaced_only_with_yes() {
    let folder = folder();
    let fake = Fake::start(folder.path(), saying("x"));
    let path = folder.path().join("x.tar.gz");
    fs::write(&path, "precious").unwrap();
    let node = fake.node();
    let bundle = ["support", "bundle", "--out", path.to_str().unwrap(), "-n", &node];
    let outcome = ctl(&bundle);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("--yes"), "{}", outcome.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert!(fake.calls().is_empty(), "it was refused before anything was gathered");
    let outcome = ctl(&[&bundle[..], &["--yes"]].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(unpacked(&path).len(), PARTS.len());
    // One that others could read before is the owner's alone now.
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let names = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 2, "the archive and the socket, and nothing half-written");
}

#[test]
fn a_bundle_is_of_one_node_and_of_one_that_answers() {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { status: well(), ..Default::default() });
    let path = folder.path().join("x.tar.gz");
    let out = ["support", "bundle", "--out", path.to_str().unwrap(), "-n"];
    let two = format!("{},/absent.sock", fake.node());
    let outcome = ctl(&[&out[..], &[&two]].concat());
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("one node"), "{}", outcome.stderr);
    assert!(fake.calls().is_empty());
    let outcome = ctl(&[&out[..], &["/absent.sock"]].concat());
    assert_eq!(outcome.exit, Exit::Unreachable);
    assert!(!path.exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the socket");
}
