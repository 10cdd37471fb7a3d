//! `support bundle`: what a bug report needs, in one archive, redacted.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use genesis_client::v1::*;
use genesis_client::{Client, Error, Kind, Node};
use prost::Message;
use serde_json::{Value, json};

use super::agent::CLIENT_VERSION;
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::outfile::OutFile;
use crate::redact::{Redactor, What};
use crate::render::{Answer, Cell, View};

const RUNS: u32 = 50;
const ENTRIES: u32 = 200;
const HISTORY: u32 = 100;
const OWN_LOG_BYTES: u32 = 1 << 20;

const COLUMNS: &[&str] = &["PART", "SIZE", "STATE"];

const BUNDLE_EXAMPLES: &str = "\
Host names, addresses, names of people, contacts and secrets are replaced by placeholders (host-1, ip-2); look
into the archive before you send it. What could not be had is named in its MANIFEST, exit 5.

Examples:
  genesisctl support bundle
  genesisctl support bundle -n web-1:7443 --out /tmp/report.tar.gz";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Gather state, configuration, runs, operation log and the agent's own log of one node.
    #[command(after_help = BUNDLE_EXAMPLES)]
    Bundle {
        /// Write into this file. One that exists is replaced only with --yes. Without it, a file in the
        /// working folder that is named by the agent's time.
        #[arg(long, value_name = "FILE.tar.gz")]
        out: Option<PathBuf>,
    },
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    let Verb::Bundle { out } = verb;
    session.one_node("support bundle")?;
    session
        .each(|client| async move {
            let work = bundle(session, &client, out.as_deref());
            session.limited(client.node(), work).await
        })
        .await
}

/// A file of the archive before its redaction.
enum Content {
    Json(Value),
    /// A configuration, as TOML.
    Toml(String),
    /// The lines of a log.
    Lines(String),
}

struct Part {
    name: &'static str,
    content: Result<Content, Error>,
    /// Whether being refused it is to be expected, since it takes another role.
    optional: bool,
}

async fn bundle(
    session: &Session<'_>,
    client: &Client,
    out: Option<&Path>,
) -> Result<Answer, Stop> {
    // What exists is refused before anything is gathered.
    let mut file = out.map(|path| create(session, path)).transpose()?;
    let bar = session.bar("gathering");
    let mut parts = Vec::new();
    let mut redactor = Redactor::new()?;
    let status = gather(&mut parts, session, client, &mut redactor).await?;
    drop(bar);
    let path = match out {
        Some(path) => path.to_owned(),
        None => default_name(status.as_ref()),
    };
    let mut file = match file.take() {
        Some(file) => file,
        None => create(session, &path)?,
    };
    let mut files: Vec<(&str, String)> = Vec::new();
    let mut manifest = String::from(MANIFEST_HEAD);
    let (mut rows, mut listed, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for part in &parts {
        let (size, state, error) = match &part.content {
            Ok(content) => {
                let text = redacted(&mut redactor, content)?;
                let size = text.len() as u64;
                files.push((part.name, text));
                (Some(size), "ok".to_owned(), None)
            }
            Err(error) => {
                if !(part.optional && error.kind == Kind::NotAllowed) {
                    missing.push(part.name);
                }
                let code = if error.reason.is_empty() { error.code } else { &error.reason };
                let why = redactor.text(&format!("{code}: {}", error.message));
                (None, format!("missing: {why}"), Some(why))
            }
        };
        let shown = size.map_or_else(|| format::NONE.to_owned(), format::bytes);
        manifest.push_str(&format!("{}\t{shown}\t{}\n", part.name, state.replace('\n', " ")));
        rows.push(vec![Cell::from(part.name), Cell::number(shown), Cell::from(state)]);
        listed.push(json!({ "name": part.name, "bytes": size, "missing": error }));
    }
    files.insert(0, ("MANIFEST", manifest));
    let at = status.and_then(|status| status.now).map_or(0, |now| now.seconds.max(0));
    file.write(&archive(&files, at.unsigned_abs())?)?;
    file.commit()?;
    let view = View {
        columns: COLUMNS,
        rows,
        tail: vec![format!("written: {}; look into it before you send it", path.display())],
        ..View::default()
    };
    let json = json!({ "file": path.display().to_string(), "parts": listed });
    let answer = Answer::new(json, view);
    if missing.is_empty() {
        return Ok(answer);
    }
    let message = format!("the bundle lacks {}", missing.join(", "));
    let next =
        "its MANIFEST says why; send it all the same, or call with a role that may read them";
    let error = Error::new(Kind::Incomplete, "DATA_LOSS", "BUNDLE_INCOMPLETE", message, next);
    Ok(answer.exit(Exit::Unknown).error(error))
}

const MANIFEST_HEAD: &str = "\
GENESIS support bundle. Names of hosts and people, addresses, contacts and secrets are placeholders: the same
placeholder is the same text. Each line: part, size, \"ok\" or why it is missing.

";

fn create(session: &Session<'_>, path: &Path) -> Result<OutFile, Halt> {
    OutFile::create_private(path, session.global.yes)
}

fn default_name(status: Option<&GetStatusResponse>) -> PathBuf {
    let at = format::time(status.and_then(|status| status.now.as_ref()));
    let digits: String = at.chars().filter(char::is_ascii_alphanumeric).collect();
    match digits.as_str() {
        "" => "genesis-support.tar.gz".into(),
        digits => format!("genesis-support-{digits}.tar.gz").into(),
    }
}

/// Asks for everything, and lets the redactor know the names that occur in it.
async fn gather(
    parts: &mut Vec<Part>,
    session: &Session<'_>,
    client: &Client,
    redactor: &mut Redactor,
) -> Result<Option<GetStatusResponse>, Stop> {
    learn_own(session, redactor);
    macro_rules! ask {
        ($name:literal, $service:ident, $method:ident, $request:expr, $message:literal) => {
            ask!($name, $service, $method, $request, $message, false)
        };
        ($name:literal, $service:ident, $method:ident, $request:expr, $message:literal, $optional:literal) => {{
            let answer =
                client.call($request, |c, r| async move { c.$service().$method(r).await }).await;
            let content = answer.clone().and_then(|answer| content($message, &answer));
            parts.push(Part { name: $name, content, optional: $optional });
            answer.ok()
        }};
    }
    let status = ask!("status.json", agent, get_status, GetStatusRequest {}, "GetStatusResponse");
    if let Some(status) = &status {
        redactor.know(What::Host, &status.hostname);
        redactor.know(What::Id, &status.host_id);
    }
    ask!("version.json", agent, get_version, GetVersionRequest {}, "GetVersionResponse");
    let me = ask!("whoami.json", agent, who_am_i, WhoAmIRequest {}, "WhoAmIResponse");
    if let Some(me) = &me {
        redactor.learn(&me.identity);
    }
    let config = client
        .call(GetConfigRequest {}, |c, r| async move { c.agent().get_config(r).await })
        .await
        .map(|config| Content::Toml(config.effective_toml));
    if let Ok(Content::Toml(config)) = &config {
        learn_config(config, redactor);
    }
    parts.push(Part { name: "config.toml", content: config, optional: false });
    let pki = ask!("pki.json", agent, get_pki, GetPkiRequest {}, "GetPkiResponse", true);
    for issued in pki.iter().flat_map(|pki| &pki.issued) {
        let what = if issued.role == "agent" { What::Host } else { What::User };
        redactor.know(what, &issued.name);
    }
    let emergency = ask!(
        "emergency.json",
        recovery,
        get_emergency,
        GetEmergencyRequest {},
        "GetEmergencyResponse"
    );
    if let Some(Contacts { on_call, escalation, security, non_urgent }) =
        emergency.and_then(|emergency| emergency.contacts)
    {
        for contact in [on_call, escalation, security, non_urgent] {
            redactor.know(What::Contact, &contact);
        }
    }
    let jobs = ListJobsRequest { next: 3, ..Default::default() };
    ask!("schedule.json", schedule, list_jobs, jobs, "ListJobsResponse");
    let runs = ListRunsRequest { limit: RUNS, ..Default::default() };
    ask!("runs.json", runs, list_runs, runs, "ListRunsResponse");
    let entries = ListEntriesRequest { limit: ENTRIES, ..Default::default() };
    let oplog = ask!("oplog.json", oplog, list_entries, entries, "ListEntriesResponse");
    for entry in oplog.iter().flat_map(|oplog| &oplog.entries) {
        redactor.keep_hash(&entry.hash);
    }
    ask!("logs.json", logs, get_status, GetLogsStatusRequest {}, "GetLogsStatusResponse");
    let health = GetHealthStatusRequest {};
    ask!("health.json", health, get_health_status, health, "GetHealthStatusResponse");
    let alerts = ListAlertsRequest { all: true, limit: HISTORY };
    ask!("alerts.json", alerts, list_alerts, alerts, "ListAlertsResponse");
    let sent = ListDeliveriesRequest { limit: HISTORY };
    ask!("alerts-sent.json", alerts, list_deliveries, sent, "ListDeliveriesResponse");
    let breakers = ListBreakersRequest { open_only: false };
    ask!("breakers.json", breaker, list_breakers, breakers, "ListBreakersResponse");
    let databases = client
        .call(ListDatabasesRequest {}, |c, r| async move { c.database().list_databases(r).await })
        .await;
    for database in databases.iter().flat_map(|list| &list.databases) {
        learn_place(&database.place, redactor);
    }
    let databases =
        databases.map(without_sessions).and_then(|list| content("ListDatabasesResponse", &list));
    parts.push(Part { name: "databases.json", content: databases, optional: false });
    let backups = ListBackupsRequest { limit: HISTORY, expired_too: true, ..Default::default() };
    let backups = ask!("backups.json", backup, list_backups, backups, "ListBackupsResponse");
    for backup in backups.iter().flat_map(|list| &list.backups) {
        redactor.know(What::Id, &backup.system_identifier);
    }
    let all = ListCertificatesRequest::default();
    let managed =
        ask!("certificates.json", certificates, list_certificates, all, "ListCertificatesResponse");
    for certificate in managed.iter().flat_map(|list| &list.certificates) {
        learn_domains(certificate, redactor);
    }
    let history = ListHealthHistoryRequest { limit: HISTORY, ..Default::default() };
    ask!("health-history.json", health, list_health_history, history, "ListHealthHistoryResponse");
    let own_log = ReadOwnLogRequest { limit_bytes: OWN_LOG_BYTES };
    let own_log = client
        .call(own_log, |c, r| async move { c.agent().read_own_log(r).await })
        .await
        .map(|log| Content::Lines(String::from_utf8_lossy(&log.lines).into_owned()));
    parts.push(Part { name: "own-log.jsonl", content: own_log, optional: false });
    let client_part = Ok(Content::Json(own(session)));
    parts.push(Part { name: "client.json", content: client_part, optional: false });
    // Each part may name people whom another one's identities tell apart from words.
    for part in &*parts {
        match &part.content {
            Ok(Content::Json(value)) => redactor.learn_value(value),
            Ok(Content::Toml(text) | Content::Lines(text)) => redactor.learn(text),
            Err(error) => redactor.learn(&error.message),
        }
    }
    Ok(status)
}

fn content<M: Message>(name: &str, message: &M) -> Result<Content, Error> {
    let unreadable = |error: genesis_proto::JsonError| {
        let next = "compare the versions with `genesisctl version`";
        Error::new(Kind::Internal, "INTERNAL", "ANSWER_UNREADABLE", error.to_string(), next)
    };
    let name = format!("genesis.v1.{name}");
    genesis_proto::to_json(&name, message).map(Content::Json).map_err(unreadable)
}

/// This client: its version, and the flags that decide how it calls.
fn own(session: &Session<'_>) -> Value {
    let global = session.global;
    json!({
        "version": CLIENT_VERSION,
        "nodes": session.nodes().map(ToString::to_string).collect::<Vec<_>>(),
        "output": format!("{:?}", global.output).to_lowercase(),
        "timeout": global.timeout.map(format::duration),
        "maxParallel": global.max_parallel,
        "yes": global.yes,
        "quiet": global.quiet,
        "verbose": global.verbose,
        "reason": global.reason,
    })
}

/// The names that this side knows: the node's, the caller's.
fn learn_own(session: &Session<'_>, redactor: &mut Redactor) {
    for node in session.nodes() {
        if let Node::Tcp { host, .. } = node {
            let address = host.parse::<std::net::IpAddr>();
            match address {
                Ok(address) if address.is_loopback() => {}
                Ok(_) => redactor.know(What::Ip, host),
                Err(_) => redactor.know(What::Host, host),
            }
        }
    }
    let variable = |name: &str| session.console(|console| console.env.get(name).cloned());
    for name in ["USER", "LOGNAME"] {
        redactor.know(What::User, &variable(name).unwrap_or_default());
    }
    redactor.know(What::Host, &variable("HOSTNAME").unwrap_or_default());
    // The last part of the home folder is the user's name, wherever homes are kept.
    if let Some(home) = variable("HOME") {
        let name = Path::new(&home).file_name().map(|name| name.to_string_lossy().into_owned());
        redactor.know(What::User, &name.unwrap_or_default());
    }
}

/// Without what was seen of sessions: it names people and applications, and may have parts of their statements,
/// which nothing tells apart from words.
fn without_sessions(mut list: ListDatabasesResponse) -> ListDatabasesResponse {
    for care in list.databases.iter_mut().filter_map(|database| database.last.as_mut()) {
        for item in care.preflight.iter_mut().chain(&mut care.verification) {
            item.evidence.clear();
        }
    }
    list
}

/// The host of a server, which is often one plain word. Addresses have a form of their own.
fn learn_place(place: &str, redactor: &mut Redactor) {
    let url = place.strip_prefix("postgres://").or_else(|| place.strip_prefix("postgresql://"));
    let authority = url.and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
    let host = authority.rsplit('@').next().and_then(|host| host.split(':').next());
    match host.unwrap_or_default() {
        host if host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() => {}
        host => redactor.know(What::Host, host),
    }
}

/// What a certificate is for and where it is served. Each is a host's name as a whole, of which the first part alone is
/// often a word, such as "api".
fn learn_domains(certificate: &Certificate, redactor: &mut Redactor) {
    let generations = certificate.current.iter().chain(&certificate.earlier);
    let identifiers = generations.chain(&certificate.backup).flat_map(|one| &one.identifiers);
    let probe = certificate.probe.rsplit_once(':').map(|(host, _)| host.to_owned());
    // A certificate is often called by its domain.
    let name = Some(&certificate.name).filter(|name| name.contains('.'));
    let names = certificate.domains.iter().chain(identifiers).chain(name).chain(&probe);
    let is_name =
        |text: &&str| text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    for domain in names.map(|name| name.strip_prefix("*.").unwrap_or(name)).filter(is_name) {
        match domain.contains('.') {
            true => redactor.learn(&format!("https://{domain}/")),
            false => redactor.know(What::Host, domain),
        }
    }
}

/// The contacts of a configuration, should the agent tell them in no other way.
fn learn_config(text: &str, redactor: &mut Redactor) {
    let Ok(config) = toml::from_str::<toml::Table>(text) else { return };
    let contacts = config.get("contacts").and_then(toml::Value::as_table);
    for contact in contacts.into_iter().flat_map(toml::Table::values) {
        if let Some(contact) = contact.as_str() {
            redactor.know(What::Contact, contact);
        }
    }
    // Who is called: numbers and addresses.
    let alerts = config.get("alerts").and_then(|alerts| alerts.get("channel"));
    let channels = alerts.and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values);
    for channel in channels {
        let to = channel.get("to").and_then(toml::Value::as_array).into_iter().flatten();
        for recipient in to.chain(channel.get("from")).filter_map(toml::Value::as_str) {
            redactor.know(What::Contact, recipient);
        }
    }
}

fn redacted(redactor: &mut Redactor, content: &Content) -> Result<String, Halt> {
    let pretty = |value: &Value| {
        serde_json::to_string_pretty(value)
            .map(|text| text + "\n")
            .map_err(|error| Halt::Failed(format!("can't write a part as JSON: {error}")))
    };
    match content {
        Content::Json(value) => pretty(&redactor.value(value)),
        Content::Lines(text) => Ok(redactor.lines(text)),
        Content::Toml(text) => {
            // Value by value where it can be read, so that a name decides about all that stands under it.
            let value = toml::from_str::<toml::Table>(text).ok().and_then(|table| {
                let redacted = redactor.value(&serde_json::to_value(table).ok()?);
                toml::to_string(&redacted).ok()
            });
            Ok(value.unwrap_or_else(|| redactor.text(text)))
        }
    }
}

fn archive(files: &[(&str, String)], at: u64) -> Result<Vec<u8>, Halt> {
    let packed = || -> std::io::Result<Vec<u8>> {
        let compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let mut archive = tar::Builder::new(compressed);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(at);
            header.set_cksum();
            archive.append_data(&mut header, format!("genesis-support/{name}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()
    };
    packed().map_err(|error| Halt::Failed(format!("can't pack the bundle: {error}")))
}
