//! `genesis-agent pki`: from arguments to files, words and an exit code. Decides nothing about certificates.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::args::{IssueArgs, Output, PkiArgs, PkiCommand};
use super::folder::{self, PRIVATE, PUBLIC};
use super::{
    CaFacts, Crl, Entry, Finding, InitRequest, IssueRequest, Overview, Pki, Reason, Role, Validity,
    context, days_left, names,
};
use crate::config::Places;
use crate::error::{Error, Result};

/// The exit code when something is over or close to its end.
const FINDINGS: u8 = 3;

/// Where a command writes to.
pub struct Terminal<'a> {
    /// Data.
    pub out: &'a mut dyn Write,
    /// Words for people.
    pub err: &'a mut dyn Write,
}

impl Terminal<'_> {
    /// Nobody there to read it is no error.
    fn data(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
    }

    fn say(&mut self, line: &str) {
        let _ = writeln!(self.err, "{line}");
    }
}

/// Does what the arguments say, and returns the exit code.
///
/// # Errors
/// Those of [`Pki`], and for `issue` `PKI_NODE_INVALID`, `PKI_FILE_EXISTS` and `PKI_OUT_INVALID`.
pub fn run(
    args: &PkiArgs,
    state_dir: Option<&Path>,
    now: Timestamp,
    terminal: &mut Terminal<'_>,
) -> Result<u8> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => Places::find(state_dir)?.state.join("pki"),
    };
    if let PkiCommand::Init { fleet, days } = &args.command {
        let request = InitRequest { fleet: fleet.clone(), validity: Validity::Days(*days) };
        return init(&dir, &request, now, terminal).map(|()| 0);
    }
    let pki = Pki::open(&dir)?;
    match &args.command {
        PkiCommand::Init { .. } => Ok(0),
        PkiCommand::Issue(args) => issue(&pki, args, now, terminal).map(|()| 0),
        PkiCommand::Revoke { target, reason, crl_days } => {
            revoke(&pki, target, *reason, *crl_days, now, terminal).map(|()| 0)
        }
        PkiCommand::Crl { crl_days } => {
            let number = pki.sign_crl(*crl_days, now)?;
            say_crl(&pki, number, terminal);
            Ok(0)
        }
        PkiCommand::List { output } => list(&pki, *output, now, terminal),
    }
}

fn init(
    dir: &Path,
    request: &InitRequest,
    now: Timestamp,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let pki = Pki::init(dir, request, now)?;
    let ends = pki.overview(now)?.ca.not_after;
    terminal.say(&format!(
        "the CA of the fleet {} is in {} and ends at {ends}",
        request.fleet,
        pki.dir().display()
    ));
    terminal.say(&format!(
        "keep a backup of {} where nobody else can read it: it can't be made again",
        pki.dir().display()
    ));
    Ok(())
}

/// The files that a certificate is put into.
struct Targets {
    certificate: PathBuf,
    key: PathBuf,
    context: Option<PathBuf>,
}

/// Finds the files to write, and refuses before anything is issued what could not be written.
fn targets(pki: &Pki, args: &IssueArgs) -> Result<Targets> {
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| folder::failed("make sense of", path, error))
    };
    let out = absolute(args.out.as_deref().unwrap_or(Path::new(".")))?;
    let targets = Targets {
        certificate: out.join(format!("{}.pem", args.name)),
        key: out.join(format!("{}.key", args.name)),
        context: args.context.as_deref().map(absolute).transpose()?,
    };
    let paths = [Some(&targets.certificate), Some(&targets.key), targets.context.as_ref()];
    let paths: Vec<&PathBuf> = paths.into_iter().flatten().collect();
    for (index, path) in paths.iter().enumerate() {
        if paths.iter().skip(index + 1).any(|other| other == path) {
            let message =
                format!("{} would be written twice; name another --context", path.display());
            return Err(Error::invalid("PKI_OUT_INVALID", message));
        }
        if let Some(parent) = path.parent() {
            folder::create_folders(parent)?;
            // A certificate called "ca" must never take the place of the CA.
            if same(parent, pki.dir())? {
                let message = format!(
                    "{} is the CA's own folder; name another one with --out",
                    parent.display()
                );
                return Err(Error::invalid("PKI_OUT_INVALID", message));
            }
        }
        if !args.replace && path.symlink_metadata().is_ok() {
            return Err(folder::exists(path));
        }
    }
    Ok(targets)
}

fn same(one: &Path, other: &Path) -> Result<bool> {
    let look = |path: &Path| {
        fs::metadata(path)
            .map(|facts| (facts.dev(), facts.ino()))
            .map_err(|error| folder::failed("look at", path, error))
    };
    Ok(look(one)? == look(other)?)
}

fn issue(pki: &Pki, args: &IssueArgs, now: Timestamp, terminal: &mut Terminal<'_>) -> Result<()> {
    let fleet = pki.fleet()?;
    let context_name = args.context_name.as_deref().unwrap_or(&fleet);
    names::check_name("the name", &args.name)?;
    names::check_name("the context's name", context_name)?;
    args.node.iter().try_for_each(|node| names::check_node(node))?;
    let role = args.role.map_or(Role::Agent, Role::from);
    let request = IssueRequest {
        name: args.name.clone(),
        role,
        hosts: args.host.clone(),
        validity: Validity::Days(args.days),
    };
    pki.check_issue(&request)?;
    let targets = targets(pki, args)?;

    let issued = pki.issue(&request, now)?;
    let write = || -> Result<()> {
        folder::put(&targets.key, issued.key_pem.as_bytes(), PRIVATE, args.replace)?;
        folder::put(&targets.certificate, issued.certificate_pem.as_bytes(), PUBLIC, args.replace)?;
        if let Some(path) = &targets.context {
            let text = context::file(
                context_name,
                &args.node,
                &issued.ca_pem,
                &issued.certificate_pem,
                &issued.key_pem,
            )?;
            folder::put(path, text.as_bytes(), PRIVATE, args.replace)?;
        }
        Ok(())
    };
    if let Err(error) = write() {
        terminal.say(&format!(
            "genesis-agent: certificate {} is in the register but not all of its files could be written; \
             revoke it with `pki revoke {}` and issue another one",
            issued.entry.serial, issued.entry.serial
        ));
        return Err(error);
    }
    terminal.say(&format!(
        "issued {} to {}, {} until {}",
        issued.entry.serial, args.name, issued.entry.uri, issued.entry.not_after
    ));
    if role == Role::Agent {
        terminal.say(&format!("it is valid for {}", issued.entry.hosts.join(", ")));
        terminal.say("put these lines into the agent's configuration, with the paths on its host:");
        let lines = context::agent_lines(&fleet, &targets.certificate, &targets.key, pki.dir());
        terminal.data(&lines);
        return Ok(());
    }
    terminal.data(&format!("{}\n{}\n", targets.certificate.display(), targets.key.display()));
    if let Some(path) = &targets.context {
        terminal.data(&format!("{}\n", path.display()));
        terminal.say(&format!(
            "take the context over with: genesisctl context add {context_name} --from {}",
            path.display()
        ));
    }
    Ok(())
}

fn say_crl(pki: &Pki, number: u64, terminal: &mut Terminal<'_>) {
    terminal.say(&format!(
        "revocation list {number} is signed: copy {} to every host",
        pki.dir().join(super::CRL).display()
    ));
}

fn revoke(
    pki: &Pki,
    target: &str,
    reason: Reason,
    crl_days: u32,
    now: Timestamp,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let outcome = pki.revoke(target, reason, crl_days, now)?;
    for entry in &outcome.revoked {
        terminal.data(&format!("revoked {} {} {}\n", entry.serial, entry.role, entry.name));
    }
    for entry in &outcome.already {
        let Some(revocation) = &entry.revoked else { continue };
        terminal.data(&format!(
            "revoked {} {} {} already, since {}\n",
            entry.serial, entry.role, entry.name, revocation.at
        ));
    }
    if outcome.revoked.len() > 1 {
        terminal.say(&format!(
            "{} certificates have the name {target}; all of them are revoked now",
            outcome.revoked.len()
        ));
    }
    if !outcome.revoked.is_empty() {
        say_crl(pki, outcome.crl_number, terminal);
    }
    Ok(())
}

fn list(pki: &Pki, output: Output, now: Timestamp, terminal: &mut Terminal<'_>) -> Result<u8> {
    let mut behind = false;
    match pki.catch_up(now) {
        Ok(Some(number)) => say_crl(pki, number, terminal),
        Ok(None) => {}
        // What there is can be shown all the same.
        Err(error) => {
            behind = true;
            terminal.say(&format!(
                "genesis-agent: the revocation list is not what the register says, and can't be signed: {} ({})",
                error.chain(),
                error.code
            ));
        }
    }
    let overview = pki.overview(now)?;
    terminal.data(&match output {
        Output::Table => table(&overview, now),
        Output::Json => json(&overview, now)?,
    });
    for finding in &overview.findings {
        terminal.say(&format!("genesis-agent: {}", finding.message));
    }
    Ok(if behind || !overview.findings.is_empty() { FINDINGS } else { 0 })
}

/// Columns as wide as they need to be.
fn table(overview: &Overview, now: Timestamp) -> String {
    let titles = ["SERIAL", "NAME", "ROLE", "NOT AFTER", "DAYS LEFT", "REVOKED"];
    let mut rows = vec![titles.map(str::to_owned)];
    let days = |then| days_left(now, then).to_string();
    let ca = &overview.ca;
    rows.push([
        ca.serial.clone(),
        overview.fleet.clone(),
        "ca".into(),
        ca.not_after.to_string(),
        days(ca.not_after),
        "-".into(),
    ]);
    rows.extend(overview.entries.iter().map(|entry| {
        [
            entry.serial.to_string(),
            entry.name.clone(),
            entry.role.to_string(),
            entry.not_after.to_string(),
            days(entry.not_after),
            entry.revoked.as_ref().map_or("-".into(), |revocation| revocation.at.to_string()),
        ]
    }));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonList<'a> {
    fleet: &'a str,
    ca: &'a CaFacts,
    crl: Option<JsonCrl>,
    certificates: Vec<JsonEntry<'a>>,
    findings: &'a [Finding],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonCrl {
    number: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    revoked: usize,
}

impl From<&Crl> for JsonCrl {
    fn from(crl: &Crl) -> Self {
        Self {
            number: crl.number,
            this_update: crl.this_update,
            next_update: crl.next_update,
            revoked: crl.revoked.len(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonEntry<'a> {
    serial: String,
    name: &'a str,
    role: Role,
    uri: &'a str,
    hosts: &'a [String],
    issued_at: Timestamp,
    not_before: Timestamp,
    not_after: Timestamp,
    days_left: i64,
    sha256: &'a str,
    revoked_at: Option<Timestamp>,
    revocation_reason: Option<Reason>,
}

impl<'a> JsonEntry<'a> {
    fn new(entry: &'a Entry, now: Timestamp) -> Self {
        Self {
            serial: entry.serial.to_string(),
            name: &entry.name,
            role: entry.role,
            uri: &entry.uri,
            hosts: &entry.hosts,
            issued_at: entry.issued_at,
            not_before: entry.not_before,
            not_after: entry.not_after,
            days_left: days_left(now, entry.not_after),
            sha256: &entry.sha256,
            revoked_at: entry.revoked.as_ref().map(|revocation| revocation.at),
            revocation_reason: entry.revoked.as_ref().map(|revocation| revocation.reason),
        }
    }
}

fn json(overview: &Overview, now: Timestamp) -> Result<String> {
    let list = JsonList {
        fleet: &overview.fleet,
        ca: &overview.ca,
        crl: overview.crl.as_ref().map(JsonCrl::from),
        certificates: overview.entries.iter().map(|entry| JsonEntry::new(entry, now)).collect(),
        findings: &overview.findings,
    };
    let mut text = serde_json::to_string_pretty(&list).map_err(|error| {
        Error::internal("PKI_SIGN_FAILED", "can't write the list as JSON").caused_by(error)
    })?;
    text.push('\n');
    Ok(text)
}
