//! `oplog`: who did what, why, and what came of it.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use genesis_client::Client;
use genesis_client::v1::{
    AcceptHeadRequest, AddNoteRequest, FleetHead, FleetHeadState, Head, ListEntriesRequest,
    ListEntriesResponse, OplogEntry, TailEntriesRequest, TailEntriesResponse, VerifyOplogRequest,
    VerifyOplogResponse,
};
use serde_json::json;

use super::{export_file, oplog_export};
use crate::cli::Format;
use crate::confirm::{Consent, agreed, consent, consent_since, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::plan;
use crate::render::{self, Answer, Cell, Printer, Row, View, finding};

const SERVICE: &str = "genesis.v1.OplogService";

pub(super) const COLUMNS: &[&str] =
    &["SEQ", "AT", "ACTOR", "ACTION", "TARGET", "OUTCOME", "REASON", "DETAIL"];

const LIST_EXAMPLES: &str = "\
Examples:
  genesisctl oplog list
  genesisctl oplog list --action logs. --limit 20
  genesisctl oplog list --actor schedule: --before 1200";

const TAIL_EXAMPLES: &str = "\
Examples:
  genesisctl oplog tail
  genesisctl oplog tail -f --last 0
  genesisctl oplog tail -f -n web-1:7443,web-2:7443 -o jsonl";

const VERIFY_EXAMPLES: &str = "\
Exits 3 when the log is not intact. A head that was kept elsewhere also shows a log that was cut off or
rewritten as a whole. In a fleet there is one: etcd keeps the head of each host's log, and the log is held
against it each time. Where etcd can't be asked the exit code is 5, for then nobody knows. With --file
nothing is asked of any agent.

Examples:
  genesisctl oplog verify
  genesisctl oplog verify --head 1200:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  genesisctl oplog verify --file oplog.jsonl";

const EXPORT_EXAMPLES: &str = "\
One JSON object a line: {\"sequence\", \"hash\", \"json\"}, json byte for byte as it was hashed; last
{\"head\": {\"sequence\", \"hash\"}}. hash = sha256(previous hash as 32 bytes, zeros at first, then json).

Examples:
  genesisctl oplog export --out oplog.jsonl
  genesisctl oplog export | tail -n 1";

const ACCEPT_EXAMPLES: &str = "\
Needs --reason, and --yes where nobody can be asked. Only where `genesisctl oplog verify` says that the fleet's
head DISAGREES, after it was found out why: an older state was put back by hand, a disk was restored. The fleet
goes on with the head of the log as it is, and remembers the one that was given up.

Examples:
  genesisctl oplog accept-head --plan
  genesisctl oplog accept-head --reason 'the disk was restored from the snapshot of Monday, ticket 4711'";

const NOTE_EXAMPLES: &str = "\
Example:
  genesisctl oplog note 'replaced the disk of web-1'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List entries, newest first.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Only entries before this sequence number.
        #[arg(long, value_name = "SEQUENCE", default_value_t = 0, hide_default_value = true)]
        before: u64,
        /// Only entries whose actor holds this text.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        actor: String,
        /// Only entries whose action holds this text.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        action: String,
        /// Only entries of this trace, as errors, `run show` and `-o json` have it.
        #[arg(long, value_name = "TRACE", default_value = "", hide_default_value = true)]
        trace: String,
    },
    /// Print the last entries, oldest first, and with -f each new one as it is written.
    #[command(after_help = TAIL_EXAMPLES)]
    Tail {
        /// Stay and print new entries.
        #[arg(short, long)]
        follow: bool,
        /// How many old entries first.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
        last: u32,
    },
    /// Recompute the whole chain of hashes: finds an edited, deleted or reordered entry.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// A head that was exported before.
        #[arg(long, value_name = "SEQ:HASH", value_parser = parse_head)]
        head: Option<Head>,
        /// Verify this exported file instead of an agent's log.
        #[arg(long, value_name = "EXPORT.jsonl")]
        file: Option<PathBuf>,
    },
    /// Have the fleet go on with a log that is not what it knew, for it was put back on purpose.
    #[command(after_help = ACCEPT_EXAMPLES)]
    AcceptHead,
    /// Write all entries out, exactly as they were hashed, and the head.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export {
        /// Write into this file. One that exists is replaced only with --yes.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// From this sequence number.
        #[arg(long, value_name = "SEQUENCE", default_value_t = 0, hide_default_value = true)]
        from: u64,
    },
    /// Write a remark into the log.
    #[command(after_help = NOTE_EXAMPLES)]
    Note {
        /// The remark, 1 to 4096 bytes.
        text: String,
    },
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List { limit, before, actor, action, trace } => {
            let request = ListEntriesRequest {
                limit: *limit,
                before: *before,
                actor: actor.clone(),
                action: action.clone(),
                trace_id: trace.clone(),
            };
            list(session, &request).await
        }
        Verb::Tail { follow, last } => tail(session, *follow, *last).await,
        Verb::Verify { head, file: Some(file) } => verify_file(session, file, head.clone()),
        Verb::Verify { head, file: None } => verify(session, head.as_ref()).await,
        Verb::AcceptHead => accept_head(session).await,
        Verb::Export { out, from } => oplog_export::export(session, out.as_deref(), *from).await,
        Verb::Note { text } => note(session, text).await,
    }
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::List { .. } | Self::Tail { .. } | Self::Verify { .. } | Self::Export { .. } => {
                None
            }
            Self::AcceptHead => Some((SERVICE, "AcceptHead")),
            Self::Note { .. } => Some((SERVICE, "AddNote")),
        }
    }
}

/// "SEQ:HASH", as `oplog verify` shows it.
fn parse_head(text: &str) -> Result<Head, String> {
    let hint = "write SEQ:HASH as `oplog verify` shows it, the hash in 64 hex digits";
    let (sequence, hash) = text.trim().split_once(':').ok_or(hint)?;
    let sequence = sequence.parse().map_err(|_| hint)?;
    let hash = hash.to_ascii_lowercase();
    match hex::decode(&hash) {
        Ok(bytes) if bytes.len() == 32 => Ok(Head { sequence, hash }),
        _ => Err(hint.to_owned()),
    }
}

async fn list(session: &Session<'_>, request: &ListEntriesRequest) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let list = client
                .call(request.clone(), |c, r| async move { c.oplog().list_entries(r).await })
                .await?;
            let json = session.json("ListEntriesResponse", &list)?;
            let view = View {
                columns: COLUMNS,
                rows: list.entries.iter().map(row).collect(),
                tail: unsearched(&list).into_iter().collect(),
                empty: "no such entries",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

/// That older entries were not looked at.
fn unsearched(list: &ListEntriesResponse) -> Option<String> {
    let from = list.searched_to;
    (from > 0).then(|| format!("entries before {from} were not searched: --before {from} goes on"))
}

pub(super) fn row(entry: &OplogEntry) -> Vec<Cell> {
    vec![
        Cell::number(entry.sequence.to_string()),
        Cell::from(format::time(entry.at.as_ref())),
        Cell::from(entry.actor.as_str()),
        Cell::from(entry.action.as_str()),
        Cell::from(format::or_none(&entry.target)),
        Cell::from(entry.outcome.as_str()),
        Cell::from(entry.reason.as_str()),
        Cell::from(entry.detail.as_str()),
    ]
}

async fn tail(session: &Session<'_>, follow: bool, last: u32) -> Result<Exit, Halt> {
    if follow && session.format().is_one_value() {
        return Err(Halt::Usage("an array would never end: use -o jsonl with --follow".into()));
    }
    session
        .each(|client| async move {
            let mut entries = Vec::new();
            let work =
                print_tail(session, &client, TailEntriesRequest { last, follow }, &mut entries);
            match session.limited(client.node(), work).await {
                // Following has no other end than the limit.
                Err(Stop::Node(error)) if follow && error.reason == "NOT_FINISHED" => {}
                ended => ended?,
            }
            // In the other formats each entry was printed as it came.
            let printed = !session.format().is_one_value();
            let json = json!({ "entries": entries });
            Ok(Answer { printed, ..Answer::new(json, View::default()) })
        })
        .await
}

async fn print_tail(
    session: &Session<'_>,
    client: &Client,
    request: TailEntriesRequest,
    entries: &mut Vec<serde_json::Value>,
) -> Result<(), Stop> {
    let mut stream =
        client.call(request, |c, r| async move { c.oplog().tail_entries(r).await }).await?;
    while let Some(response) = client.next(&mut stream).await? {
        let Some(entry) = response.entry else { continue };
        match session.format() {
            Format::Table => {
                let node =
                    if session.many() { format!("{} ", client.node()) } else { String::new() };
                let line = format!("{node}{}", entry_line(&entry, session.global.verbose));
                session.console(|console| render::live_line(console, &line))?;
            }
            Format::Json | Format::Yaml => entries.push(session.json("OplogEntry", &entry)?),
            Format::Jsonl => {
                let response = TailEntriesResponse { entry: Some(entry) };
                session.event(client.node(), session.json("TailEntriesResponse", &response)?)?;
            }
        }
    }
    Ok(())
}

fn entry_line(entry: &OplogEntry, verbose: bool) -> String {
    let mut line = format!(
        "{} {} {} {} {} {}",
        entry.sequence,
        format::time(entry.at.as_ref()),
        format::or_none(&entry.actor),
        entry.action,
        format::or_none(&entry.target),
        entry.outcome,
    );
    for (name, text) in [("reason", &entry.reason), ("detail", &entry.detail)] {
        if !text.is_empty() {
            line.push_str(&format!(" {name}={text:?}"));
        }
    }
    if verbose && !entry.trace_id.is_empty() {
        line.push_str(&format!(" trace={}", entry.trace_id));
    }
    line
}

async fn verify(session: &Session<'_>, head: Option<&Head>) -> Result<Exit, Halt> {
    session
        .each(|client| async move {
            let request = VerifyOplogRequest { expected: head.cloned() };
            let response =
                client.call(request, |c, r| async move { c.oplog().verify_oplog(r).await }).await?;
            Ok(verification(session, &response)?)
        })
        .await
}

fn verification(
    session: &Session<'_>,
    response: &VerifyOplogResponse,
) -> Result<Answer, genesis_client::Error> {
    let json = session.json("VerifyOplogResponse", response)?;
    let good = response.intact && response.findings.is_empty();
    let entries = match response.entries {
        1 => "1 entry".to_owned(),
        entries => format!("{} entries", format::count(entries)),
    };
    let head = response.head.clone().unwrap_or_default();
    let verdict = if good { "intact" } else { "NOT INTACT" };
    let mut lead = vec![format!("{verdict}: {entries}, head {}:{}", head.sequence, head.hash)];
    lead.extend(response.fleet.iter().map(of_fleet));
    let mut tail: Vec<String> = response.findings.iter().map(finding).collect();
    let most = if session.global.verbose { usize::MAX } else { 1 };
    let accepted = response.fleet.iter().flat_map(|fleet| &fleet.accepted).take(most);
    tail.extend(accepted.map(|it| {
        format!(
            "entry {} was given up at {} by {}: {}",
            it.head.as_ref().map_or(0, |head| head.sequence),
            format::time(it.at.as_ref()),
            it.by,
            it.reason
        )
    }));
    let view = View { lead, tail, ..View::default() };
    let asked = response.fleet.as_ref();
    let exit = match asked.map(FleetHead::state) {
        // What the fleet would say is not known, which is no pass.
        Some(FleetHeadState::Unknown | FleetHeadState::Unspecified) => Exit::Unknown,
        _ if good => Exit::Ok,
        _ => Exit::Findings,
    };
    Ok(Answer::new(json, view).exit(exit))
}

/// What the fleet has of the log, in a line.
fn of_fleet(fleet: &FleetHead) -> String {
    let head = fleet.head.clone().unwrap_or_default();
    let told = format::time(fleet.told_at.as_ref());
    match fleet.state() {
        FleetHeadState::Agreed => {
            format!("the fleet agrees: it has entry {}, told at {told}", head.sequence)
        }
        FleetHeadState::Disagrees if fleet.head.is_some() => {
            format!("the fleet DISAGREES: it has {}:{}, told at {told}", head.sequence, head.hash)
        }
        FleetHeadState::Disagrees => "the fleet DISAGREES".to_owned(),
        FleetHeadState::Unknown | FleetHeadState::Unspecified => {
            format!("UNKNOWN to the fleet: {}", fleet.why)
        }
    }
}

async fn accept_head(session: &Session<'_>) -> Result<Exit, Halt> {
    let request = AcceptHeadRequest { plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, oplog, plan_accept_head);
    }
    reason(session, "oplog accept-head", "why is the log not what the fleet knew?")?;
    let what = "have the fleet give up the head that it has of the oplog";
    let why = "after which nothing tells of what is missing but that it was given up";
    let consent = consent_since(session, (SERVICE, "AcceptHead"), what, why)?;
    let request = &request;
    session
        .each(|client| async move {
            let mut request = request.clone();
            if consent == Consent::Ask {
                let unsent = AcceptHeadRequest { plan_hash: String::new() };
                let planned = client
                    .call(unsent, |c, r| async move { c.oplog().plan_accept_head(r).await })
                    .await?;
                let question = "Have the fleet give up its head of this log?";
                request.plan_hash = agreed(
                    session,
                    planned.plan.as_ref(),
                    question,
                    "the fleet keeps what it has",
                )?;
            }
            let response =
                client.call(request, |c, r| async move { c.oplog().accept_head(r).await }).await?;
            let json = session.json("AcceptHeadResponse", &response)?;
            let head = response.head.unwrap_or_default();
            let before = response.before.map_or_else(
                || "one that could not be read".to_owned(),
                |before| format!("{}:{}", before.sequence, before.hash),
            );
            let line = format!(
                "the fleet has {}:{} by now, in place of {before}",
                head.sequence, head.hash
            );
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}

fn verify_file(session: &Session<'_>, file: &Path, head: Option<Head>) -> Result<Exit, Halt> {
    let response = export_file::verify(file, head).map_err(|error| {
        Halt::Usage(format!(
            "can't read {}: {error}: name a file that `oplog export` wrote",
            file.display()
        ))
    })?;
    let result = verification(session, &response);
    let row = Row { node: format!("file:{}", file.display()), result };
    let exit = row.exit();
    let mut printer = Printer::new(session.format(), false, &[], 0);
    session.console(|console| {
        printer.row(console, row)?;
        printer.end(console)
    })?;
    Ok(exit)
}

async fn note(session: &Session<'_>, text: &str) -> Result<Exit, Halt> {
    if text.trim().is_empty() || text.len() > 4096 {
        return Err(Halt::Usage("a note has 1 to 4096 bytes".into()));
    }
    let request = AddNoteRequest { text: text.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, oplog, plan_add_note);
    }
    consent(session, SERVICE, "AddNote", "write a note into the oplog")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.oplog().add_note(r).await })
                .await?;
            let json = session.json("AddNoteResponse", &response)?;
            let sequence = response.entry.map(|entry| entry.sequence).unwrap_or_default();
            Ok(Answer::new(json, View::line(format!("noted as entry {sequence}"))))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_parsed() {
        let hash = "ab".repeat(32);
        let head = parse_head(&format!("12:{}", hash.to_uppercase())).unwrap();
        assert_eq!(head, Head { sequence: 12, hash });
        for text in ["", "12", "12:ab", "x:00", ":", &format!("-1:{}", "ab".repeat(32))] {
            assert!(parse_head(text).unwrap_err().contains("SEQ:HASH"), "{text}");
        }
    }
}
