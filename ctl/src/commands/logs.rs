//! `logs`: the verbs, and the two that only read the catalogue.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use genesis_client::v1::{
    GetLogsStatusRequest, ListSegmentsRequest, Segment, SegmentHindrance, SegmentState,
    SourceStatus, VerifyDepth,
};

use super::{logs_archive, logs_holds, logs_retrieve};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, View, finding};

pub(super) const SERVICE: &str = "genesis.v1.LogsService";

pub(super) const STATUS_COLUMNS: &[&str] = &[
    "TYPE",
    "MODE",
    "ACTIVE",
    "ROTATES AT",
    "WAITING",
    "ARCHIVED",
    "LINES' SIZE",
    "STORED",
    "KEPT LOCALLY",
    "KEPT ARCHIVED",
    "LAST VERIFIED",
];

const LIST_COLUMNS: &[&str] =
    &["TYPE", "SEQ", "STATE", "FIRST", "LAST", "LINES", "SIZE", "STORED", "ARCHIVE NAME"];

const STATUS_EXAMPLES: &str = "\
Exits 3 on a warning, 5 where something is unknown.

Examples:
  genesisctl logs status
  genesisctl logs status -v -n web-1:7443";

const LIST_EXAMPLES: &str = "\
Examples:
  genesisctl logs list --log-type trading
  genesisctl logs list --log-type trading --date-range 2024-01-01:2024-01-31
  genesisctl logs list --log-type trading --after 1000";

const ROTATE_EXAMPLES: &str = "\
Follows the segments until they are verified in the archive. A rotation that is cutting files already
is attached to. The exit code is the run's, as in `genesisctl run watch`.

Examples:
  genesisctl logs rotate
  genesisctl logs rotate --plan
  genesisctl logs rotate --log-type trading --reason 'before the upgrade'
  genesisctl logs rotate --detach";

const RETRIEVE_EXAMPLES: &str = "\
Ranges are UTC: A:B are two dates, both whole days inclusive; A..B takes dates or RFC 3339 instants, an
instant at the end exclusive. Lines go to standard output (escaped on a terminal) or into --out, which gets
its name only when all has come; what is missing is named on standard error, exit 5. Nothing in the range:
exit 0. -o json needs --out, and answers with the trailer.

Hosts that share an archive have each other's lines: any agent answers for --host and --all-hosts. Of other hosts only
what they have archived is found.

Examples:
  genesisctl logs retrieve --log-type trading --date-range 2024-01-01:2024-01-31 --out january.log
  genesisctl logs retrieve --log-type trading --date-range 2024-01-01T09:00:00Z..2024-01-01T09:05:00Z | grep ERROR
  genesisctl logs retrieve --log-type trading --date-range 2024-01-01:2024-01-31 --plan
  genesisctl logs retrieve --log-type trading --date-range 2024-01-01:2024-01-02 --all-hosts --out all.log";

const CLEANUP_EXAMPLES: &str = "\
Asks at a terminal, showing what would go; elsewhere it needs --yes. An age below the configured archive
retention is refused; an admin with a --reason may override that. What is held stays in any case.

Examples:
  genesisctl logs cleanup --older-than 365d --plan
  genesisctl logs cleanup --older-than 365d --plan-hash 3f2a... --yes --reason 'yearly clean-up'
  genesisctl logs cleanup --older-than 90d --log-type debug --override-retention --reason 'holds personal data'";

const HOLD_EXAMPLES: &str = "\
Needs --reason. Until the hold is released nothing with lines in the range is deleted, by retention or by
hand, locally or in the archive. Without --date-range that goes for lines to come, too.

Examples:
  genesisctl logs hold --log-type trading --date-range 2024-01-01:2024-01-31 --reason 'audit 4711'
  genesisctl logs hold --reason 'we are being sued'";

const HOLDS_EXAMPLES: &str = "\
Example:
  genesisctl logs holds -o json";

const RELEASE_EXAMPLES: &str = "\
Needs --reason, and the role of an admin. What is past its retention goes with the next look.

Examples:
  genesisctl logs holds
  genesisctl logs release 01J8ZV --reason 'audit 4711 is closed'";

const REBUILD_EXAMPLES: &str = "\
Reads each segment that is not in the catalogue whole, and compares it with its manifest; what does not match is
entered as not verified, and named by `logs status`. What the catalogue has is not changed. Sealed segments that
never reached the archive, and renamed logs that were never sealed, go on from there.

Examples:
  genesisctl logs rebuild-catalog --plan
  genesisctl logs rebuild-catalog --reason 'the state disk is new'";

const VERIFY_EXAMPLES: &str = "\
Exits 3 when damage is found, 5 where something could not be checked.

Examples:
  genesisctl logs verify
  genesisctl logs verify --log-type trading --depth full";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show every source: what is active, what waits, what is archived.
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// List segments in order of type and sequence number.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only this type.
        #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
        log_type: String,
        /// Only segments with lines in this range, as in `logs retrieve`.
        #[arg(long, value_name = "RANGE", default_value = "", hide_default_value = true)]
        date_range: String,
        /// At most this many.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Go on behind this sequence number.
        #[arg(long, value_name = "SEQUENCE", default_value_t = 0, hide_default_value = true)]
        after: u64,
    },
    /// Cut the active files now, whatever their size, and archive them.
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate {
        /// Only this type.
        #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
        log_type: String,
        /// Don't wait for the run's end.
        #[arg(long)]
        detach: bool,
    },
    /// Fetch archived lines of one type and time range back, in order.
    #[command(after_help = RETRIEVE_EXAMPLES)]
    Retrieve(Retrieve),
    /// Delete archived segments whose last line is older than the given age.
    #[command(after_help = CLEANUP_EXAMPLES)]
    Cleanup(Cleanup),
    /// Keep archived logs from being deleted, until the hold is released.
    #[command(after_help = HOLD_EXAMPLES)]
    Hold {
        /// Only this type.
        #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
        log_type: String,
        /// Only lines in this range, as in `logs retrieve`.
        #[arg(long, value_name = "RANGE", default_value = "", hide_default_value = true)]
        date_range: String,
    },
    /// List the holds, with what each keeps.
    #[command(after_help = HOLDS_EXAMPLES)]
    Holds,
    /// Release a hold: what is past its retention may be deleted again.
    #[command(after_help = RELEASE_EXAMPLES)]
    Release {
        /// The hold's id, or its first characters (four or more).
        id: String,
    },
    /// Enter what the archive holds of this host into the catalogue, after the database was lost.
    #[command(after_help = REBUILD_EXAMPLES)]
    RebuildCatalog {
        /// Only this type.
        #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
        log_type: String,
        /// Don't wait for the run's end.
        #[arg(long)]
        detach: bool,
    },
    /// Check archived segments against their manifests and the chain.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// Only this type.
        #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
        log_type: String,
        /// How deep to look.
        #[arg(long, value_enum, default_value_t = Depth::Hash)]
        depth: Depth,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Retrieve {
    /// The type of log.
    #[arg(long, value_name = "TYPE")]
    pub(super) log_type: String,
    /// The range, such as 2024-01-01:2024-01-31.
    #[arg(long, value_name = "RANGE")]
    pub(super) date_range: String,
    /// Of this host, which archives in the same place as the one that is asked, and may be gone.
    #[arg(long, value_name = "NAME", conflicts_with = "all_hosts")]
    pub(super) host: Option<String>,
    /// Of every host that archives there, one after the other; each line begins with the host's name and a colon.
    #[arg(long)]
    pub(super) all_hosts: bool,
    /// Write into this file. One that exists is replaced only with --yes.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cleanup {
    /// The age, such as 365d.
    #[arg(long, value_name = "AGE")]
    pub(super) older_than: String,
    /// Only this type.
    #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
    pub(super) log_type: String,
    /// Delete before the configured archive retention is over. Needs --reason, and the role of an admin.
    #[arg(long)]
    pub(super) override_retention: bool,
    /// Don't wait for the run's end.
    #[arg(long)]
    pub(super) detach: bool,
}

impl Cleanup {
    /// The rpc by which it deletes.
    pub(super) fn method(&self) -> &'static str {
        if self.override_retention { "CleanupArchivesEarly" } else { "CleanupArchives" }
    }
}

/// How deep a verification looks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Depth {
    /// Manifests present and chained, archived files present with the right size.
    Manifest,
    /// And the sha256 of each archived file.
    Hash,
    /// And everything in it decompressed, counted and hashed.
    Full,
}

impl From<Depth> for VerifyDepth {
    fn from(depth: Depth) -> Self {
        match depth {
            Depth::Manifest => Self::Manifest,
            Depth::Hash => Self::Hash,
            Depth::Full => Self::Full,
        }
    }
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Rotate { .. } => Some((SERVICE, "RotateLogs")),
            Self::RebuildCatalog { .. } => Some((SERVICE, "RebuildCatalog")),
            Self::Cleanup(arguments) => Some((SERVICE, arguments.method())),
            Self::Hold { .. } => Some((SERVICE, "HoldLogs")),
            Self::Release { .. } => Some((SERVICE, "ReleaseLogs")),
            Self::Status
            | Self::List { .. }
            | Self::Retrieve(_)
            | Self::Verify { .. }
            | Self::Holds => None,
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Status => status(session).await,
        Verb::List { log_type, date_range, limit, after } => {
            if *after > 0 && log_type.is_empty() {
                return Err(Halt::Usage(
                    "--after needs --log-type: sequence numbers are per type".into(),
                ));
            }
            let request = ListSegmentsRequest {
                log_type: log_type.clone(),
                date_range: date_range.clone(),
                limit: *limit,
                after_sequence: *after,
            };
            list(session, &request).await
        }
        Verb::Rotate { log_type, detach } => logs_archive::rotate(session, log_type, *detach).await,
        Verb::RebuildCatalog { log_type, detach } => {
            logs_archive::rebuild(session, log_type, *detach).await
        }
        Verb::Retrieve(arguments) => logs_retrieve::retrieve(session, arguments).await,
        Verb::Hold { log_type, date_range } => {
            logs_holds::hold(session, log_type, date_range).await
        }
        Verb::Holds => logs_holds::list(session).await,
        Verb::Release { id } => logs_holds::release(session, id).await,
        Verb::Cleanup(arguments) => logs_archive::cleanup(session, arguments).await,
        Verb::Verify { log_type, depth } => {
            logs_archive::verify(session, log_type, (*depth).into()).await
        }
    }
}

async fn status(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(STATUS_COLUMNS, |client| async move {
            let status = client
                .call(GetLogsStatusRequest {}, |c, r| async move { c.logs().get_status(r).await })
                .await?;
            let json = session.json("GetLogsStatusResponse", &status)?;
            let exit = Exit::of_conditions([status.condition()]);
            let condition = format::condition(status.condition());
            let verbose = session.global.verbose;
            let mut tail: Vec<String> = Vec::new();
            for source in &status.sources {
                let named = |found| format!("{}: {}", source.log_type, finding(found));
                tail.extend(source.findings.iter().map(named));
                if verbose {
                    tail.extend(source.active.iter().map(|file| {
                        format!("{}: {} {}", source.log_type, file.path, format::bytes(file.bytes))
                    }));
                }
            }
            let view = View {
                lead: vec![format!(
                    "{condition}, archive {}",
                    format::or_none(&status.archive_url)
                )],
                columns: STATUS_COLUMNS,
                rows: status.sources.iter().map(source_row).collect(),
                tail,
                empty: "no log sources are configured",
                ..View::default()
            };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

pub(super) fn source_row(source: &SourceStatus) -> Vec<Cell> {
    let count = |wanted: fn(SegmentState) -> bool| {
        let counts = source.segments.iter().filter(|count| wanted(count.state()));
        counts.fold(0u64, |sum, count| sum.saturating_add(count.segments))
    };
    let waiting = count(|state| {
        use SegmentState as S;
        matches!(state, S::Active | S::Detached | S::Sealed | S::Uploaded)
    });
    let archived =
        count(|state| matches!(state, SegmentState::Verified | SegmentState::LocalExpired));
    let active = source.active.iter().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
    vec![
        Cell::from(source.log_type.as_str()),
        Cell::from(source.rotate_mode.as_str()),
        Cell::number(format::bytes(active)),
        Cell::number(format::bytes(source.rotate_bytes)),
        Cell::number(format::count(waiting)),
        Cell::number(format::count(archived)),
        Cell::number(format::bytes(source.archived_plain_bytes)),
        Cell::number(format::bytes(source.archived_compressed_bytes)),
        Cell::number(format::proto_duration(source.local_retention.as_ref())),
        Cell::number(format::proto_duration(source.archive_retention.as_ref())),
        Cell::from(format::time(source.last_verified_at.as_ref())),
    ]
}

async fn list(session: &Session<'_>, request: &ListSegmentsRequest) -> Result<Exit, Halt> {
    session
        .each_in(LIST_COLUMNS, |client| async move {
            let list = client
                .call(request.clone(), |c, r| async move { c.logs().list_segments(r).await })
                .await?;
            let json = session.json("ListSegmentsResponse", &list)?;
            let more = list.segments.last().filter(|_| list.truncated).map(|last| {
                format!(
                    "there are more: go on with --log-type {} --after {}",
                    last.log_type, last.sequence
                )
            });
            if let Some(more) = more.filter(|_| session.for_people()) {
                session.note(&more);
            }
            let view = View {
                columns: LIST_COLUMNS,
                rows: list.segments.iter().map(segment_row).collect(),
                tail: list.segments.iter().filter_map(waiting).collect(),
                empty: "no such segments",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn segment_row(segment: &Segment) -> Vec<Cell> {
    vec![
        Cell::from(segment.log_type.as_str()),
        Cell::number(segment.sequence.to_string()),
        Cell::from(format::short_name(segment.state().as_str_name(), "SEGMENT_STATE_")),
        Cell::from(format::time(segment.first_at.as_ref())),
        Cell::from(format::time(segment.last_at.as_ref())),
        Cell::number(format::count(segment.lines)),
        Cell::number(format::bytes(segment.plain_bytes)),
        Cell::number(format::bytes(segment.compressed_bytes)),
        Cell::from(format::or_none(&segment.archive_name)),
    ]
}

fn waiting(segment: &Segment) -> Option<String> {
    let why = segment.waiting.as_ref()?;
    let (how, next) = match segment.hindrance() {
        SegmentHindrance::Quarantined => ("is QUARANTINED", None),
        SegmentHindrance::Stalled => ("is STALLED", segment.next_try_at.as_ref()),
        SegmentHindrance::Waiting | SegmentHindrance::Unspecified => ("waits", None),
    };
    let next = next.map_or(String::new(), |at| format!(", next try {}", format::time(Some(at))));
    Some(format!("{} {} {how}: {}{next}", segment.log_type, segment.sequence, finding(why)))
}
