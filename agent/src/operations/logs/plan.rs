//! What to do about logs: pure decisions over plain data.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use genesis_storage::{
    HoldRecord, ReconciliationRecord, SegmentRecord, SegmentState, StepRecord, StepState,
    TakenPhase, Verdict,
};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::error::Unmet;
use crate::outside::Holders;
use crate::outside::files::{FileFacts, FileKind};

/// The suffix of files that were renamed away from their writer.
pub const DETACHED_SUFFIX: &str = ".genesis";

/// Whether a path may be rotated at all.
///
/// # Errors
/// What is in the way, and what to do about it.
pub fn admissible(path: &Path, facts: &FileFacts) -> Result<(), Unmet> {
    let shown = path.display();
    let unmet = |code, message| Err(Unmet { code, subject: path.display().to_string(), message });
    match facts.kind {
        FileKind::Regular => {}
        FileKind::Symlink => {
            return unmet(
                "LOG_IS_SYMLINK",
                format!("{shown} is a symbolic link; configure the file it points to"),
            );
        }
        FileKind::Fifo => {
            return unmet(
                "LOG_IS_FIFO",
                format!("{shown} is a named pipe, which can't be rotated"),
            );
        }
        FileKind::Folder => {
            return unmet(
                "LOG_IS_FOLDER",
                format!("{shown} is a folder; configure the files in it, such as {shown}/*.log"),
            );
        }
        FileKind::Other => {
            return unmet(
                "LOG_IS_SPECIAL",
                format!("{shown} is a socket or device, which can't be rotated"),
            );
        }
    }
    if facts.links > 1 {
        let message = format!(
            "{shown} has {} hard links; a rename would not take the others along",
            facts.links
        );
        return unmet("LOG_IS_HARD_LINKED", message);
    }
    if facts.folder_world_writable {
        let message = format!(
            "everybody may rename files in the folder of {shown}; take that right away (chmod o-w)"
        );
        return unmet("LOG_FOLDER_WORLD_WRITABLE", message);
    }
    if path.to_str().is_none_or(|text| text.chars().any(char::is_control)) {
        return unmet(
            "LOG_NAME_HOSTILE",
            format!("{path:?} holds control characters or is not UTF-8; rename it"),
        );
    }
    Ok(())
}

/// Whether a path is something that the agent itself has put beside a log.
pub fn is_ours(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.ends_with(DETACHED_SUFFIX))
}

/// A piece of a log that stays in place. Offsets and sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub until: u64,
    /// So much goes from the front of the log.
    pub remove: u64,
    /// It continues a line.
    pub starts_mid_line: bool,
}

/// What to take of a log of `length` bytes by collapse, of which the first `archived` are archived already, with
/// the line end that was looked for: whole lines, and whole blocks of them cut out. What is left of the last
/// block stays, since a range that reaches the end of a file can't be collapsed. A line of four times `size` is
/// cut where it ends by now; by hand (`size` 1) it is waited for.
pub fn piece(
    archived: u64,
    length: u64,
    line_end: Option<u64>,
    size: u64,
    block: u64,
) -> Option<Piece> {
    let endless = size > 1 && length.saturating_sub(archived) >= size.saturating_mul(4);
    let until = line_end.or(endless.then_some(length)).filter(|until| *until > archived)?;
    let mut remove = until / block * block;
    if remove >= length {
        remove = remove.saturating_sub(block);
    }
    Some(Piece { from: archived, until, remove, starts_mid_line: false })
}

/// What is written over the front of a piece before it goes: nothing else is ever equal to it. No longer than
/// the piece.
pub fn mark(log_type: &str, sequence: u64, piece: &Piece, nonce: &dyn Display) -> String {
    let mut mark = format!(
        "{nonce} genesis-agent has archived this as {log_type}/{sequence} and cuts it out\n"
    );
    mark.truncate(usize::try_from(piece.until - piece.from).unwrap_or(usize::MAX));
    mark
}

/// What is seen of a segment's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The file with the segment's inode still has its own name.
    pub at_source: bool,
    /// The file with the segment's inode has the name it is detached to.
    pub at_detached: bool,
    /// Who can still write to it.
    pub holders: Holders,
}

/// The next step of a segment's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take the intent to cut back: nothing happened.
    Abandon,
    /// Lead the taking of a log's head on from where it was cut off.
    FinishTaking,
    /// Record that the rename happened.
    RecordDetached,
    /// Wait until nobody can write to it any more.
    AwaitRelease(Vec<u32>),
    /// Compress it.
    Seal,
    /// Put it into the archive.
    Upload,
    /// Read it back from the archive.
    Verify,
    /// Nothing can be done without a person.
    Hold {
        /// Stable code.
        code: &'static str,
        /// Why, and what to do.
        message: String,
    },
    /// Nothing is left to do.
    Rest,
}

/// Decides the next step. `observed` is `None` where the state alone decides.
pub fn next_step(segment: &SegmentRecord, observed: Option<&Observed>) -> Step {
    let vanished = || Step::Hold {
        code: "SEGMENT_SOURCE_VANISHED",
        message: format!(
            "neither {} nor {} is the file that was to be archived; somebody moved or deleted it",
            segment.source_path, segment.detached_path
        ),
    };
    if let (SegmentState::Active, Some(taken)) = (segment.state, &segment.taken) {
        return match taken.phase {
            TakenPhase::Copying => Step::Abandon,
            TakenPhase::Copied | TakenPhase::Marked | TakenPhase::Removed => Step::FinishTaking,
        };
    }
    match (segment.state, observed) {
        (SegmentState::Active, Some(seen)) if seen.at_detached => Step::RecordDetached,
        (SegmentState::Active, Some(seen)) if seen.at_source => Step::Abandon,
        (SegmentState::Active, _) => vanished(),
        (SegmentState::Detached, Some(seen)) if seen.at_detached => match &seen.holders {
            Holders::Released => Step::Seal,
            Holders::Held(pids) => Step::AwaitRelease(pids.clone()),
            Holders::Unknown(why) => {
                Step::Hold { code: "SEGMENT_HOLDERS_UNKNOWN", message: why.clone() }
            }
        },
        (SegmentState::Detached, _) => vanished(),
        (SegmentState::Sealed, _) => Step::Upload,
        (SegmentState::Uploaded, _) => Step::Verify,
        (SegmentState::Verified | SegmentState::LocalExpired | SegmentState::ArchiveExpired, _) => {
            Step::Rest
        }
    }
}

/// What a cut-off rotation amounts to, from the states its segments have now.
///
/// | step cut off | segments seen | verdict |
/// |---|---|---|
/// | none begun | - | nothing done |
/// | any | none recorded | undone: the intent to cut was taken back |
/// | any | all verified | finished |
/// | any | some on their way | finished: the segments go on by themselves |
/// | any | one without its file | held |
pub fn reconcile_rotation(
    steps: &[StepRecord],
    segments: &[SegmentRecord],
) -> ReconciliationRecord {
    let verdict = |verdict, detail: String| ReconciliationRecord { verdict, detail };
    if steps.is_empty() {
        return verdict(Verdict::NothingDone, "no file had been cut".into());
    }
    let begun = steps.iter().filter(|step| step.name == "cut").count();
    let cut_off = steps.iter().find(|step| step.state == StepState::Intent);
    let stopped = cut_off
        .map_or(String::new(), |step| format!(" (cut off in step {} {})", step.name, step.target));
    if segments.is_empty() {
        return verdict(
            Verdict::Undone,
            format!("{begun} cut(s) begun, none had happened{stopped}"),
        );
    }
    let lost: Vec<String> = segments
        .iter()
        .filter(|segment| segment.state == SegmentState::Active)
        .map(|segment| format!("{}/{}", segment.log_type, segment.sequence))
        .collect();
    if !lost.is_empty() {
        return verdict(
            Verdict::Held,
            format!("segments {} have lost their file{stopped}", lost.join(", ")),
        );
    }
    let verified =
        segments.iter().filter(|segment| segment.state >= SegmentState::Verified).count();
    let detail = format!(
        "{verified} of {} segments verified, the others go on by themselves{stopped}",
        segments.len()
    );
    verdict(Verdict::Finished, detail)
}

/// How a host's name stands in the names of its segments.
pub fn host_part(hostname: &str) -> String {
    let host: String =
        hostname
            .chars()
            .take(64)
            .map(|character| {
                if character.is_ascii_alphanumeric() || character == '.' { character } else { '-' }
            })
            .collect();
    let host = host.trim_start_matches('.');
    if host.is_empty() { "host".to_owned() } else { host.to_owned() }
}

/// The segment's place in the archive, without its `.log.gz`.
pub fn archive_name(hostname: &str, log_type: &str, first_at: Timestamp, sequence: u64) -> String {
    let host = host_part(hostname);
    format!(
        "{log_type}/{}/{host}-{log_type}-{}-{sequence:08}",
        first_at.strftime("%Y/%m/%d"),
        first_at.strftime("%Y%m%dT%H%M%S.%3fZ"),
    )
}

/// Type and number of this host's segment at a place in the archive; `None` for anything else.
pub fn parse_archive_name<'n>(name: &'n str, hostname: &str) -> Option<(&'n str, u64)> {
    let log_type = name.split('/').next()?;
    let file = name.rsplit('/').next()?;
    let sequence = file.rsplit('-').next()?.parse::<u64>().ok()?;
    // Built anew, but for the time, which is the part between.
    let sample = archive_name(hostname, log_type, Timestamp::UNIX_EPOCH, sequence);
    let (_, sample) = sample.rsplit_once('/')?;
    let head = sample.get(..sample.len() - sample.rsplit('-').next()?.len() - 1)?;
    let head = head.get(..head.rfind('-')? + 1)?;
    let time = file.strip_prefix(head)?.strip_suffix(&format!("-{sequence:08}"))?;
    let is_time = time.len() == "20240101T000000.000Z".len()
        && time.bytes().all(|byte| byte.is_ascii_digit() || [b'T', b'.', b'Z'].contains(&byte));
    (is_time && name.split('/').count() == 5).then_some((log_type, sequence))
}

/// What the name of an archived segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'n> {
    /// Its host, as [`host_part`] writes it.
    pub host: &'n str,
    /// Its type.
    pub log_type: &'n str,
    /// When its first line was written.
    pub first_at: Timestamp,
    /// Its number.
    pub sequence: u64,
}

/// What the place of a segment in the archive says, whichever host's it is; `None`: it is none.
pub fn parse_any_archive_name(name: &str) -> Option<Named<'_>> {
    let (log_type, rest) = name.split_once('/')?;
    let (_, file) = rest.rsplit_once('/')?;
    let (file, sequence) = file.rsplit_once('-')?;
    let (file, time) = file.rsplit_once('-')?;
    let host = file.strip_suffix(log_type)?.strip_suffix('-')?;
    let first_at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.fZ", time).ok()?;
    let first_at = jiff::tz::TimeZone::UTC.to_timestamp(first_at).ok()?;
    let sequence = sequence.parse().ok()?;
    // Built anew, it has the same name.
    let same = archive_name(host, log_type, first_at, sequence) == name;
    same.then_some(Named { host, log_type, first_at, sequence })
}

/// The number in the name of a log that was renamed away from its writer.
pub fn detached_number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(DETACHED_SUFFIX)?;
    let number = name.rsplit('.').next()?;
    number.parse().ok().filter(|_| number.len() >= 8)
}

/// The log that a renamed one was.
pub fn source_of_detached(path: &str) -> String {
    let without = path.strip_suffix(DETACHED_SUFFIX).unwrap_or(path);
    without.rsplit_once('.').map_or(without, |(source, _)| source).to_owned()
}

/// How long a source's segments are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Locally.
    pub local: Duration,
    /// In the archive.
    pub archive: Duration,
    /// Nothing is deleted.
    pub hold: bool,
}

/// Whether everything in the segment is older than `age`, counted from its last line.
fn past(segment: &SegmentRecord, now: Timestamp, age: Duration) -> bool {
    let Some(last) = segment.last_at else { return false };
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    now.checked_sub(age).is_ok_and(|limit| last < limit)
}

/// Whether a segment has lines within a hold. One whose times are not known may have.
pub fn holds(hold: &HoldRecord, segment: &SegmentRecord) -> bool {
    let of_type = hold.log_type.is_empty() || hold.log_type == segment.log_type;
    let before = hold.until.zip(segment.first_at).is_some_and(|(until, first)| until <= first);
    let behind = hold.from.zip(segment.last_at).is_some_and(|(from, last)| last < from);
    of_type && !before && !behind
}

/// Whether the local copy may go: proven in the archive, past its retention, and not held.
pub fn local_expired(
    segment: &SegmentRecord,
    now: Timestamp,
    retention: Duration,
    held: bool,
) -> bool {
    segment.state == SegmentState::Verified && !held && past(segment, now, retention)
}

/// Whether the archived copy may go at this age. One that was never verified is never deleted.
pub fn archive_expired(
    segment: &SegmentRecord,
    now: Timestamp,
    older_than: Duration,
    held: bool,
) -> bool {
    segment.is_archived() && !held && past(segment, now, older_than)
}

/// Names a set of segments in the state they are in, so that a plan can be carried out or refused as one.
pub fn plan_hash(verb: &str, segments: &[SegmentRecord]) -> String {
    let mut hash = Sha256::new();
    hash.update(verb);
    for segment in segments {
        hash.update(format!("\0{}\0{}\0{}", segment.log_type, segment.sequence, segment.sha256));
    }
    hex::encode(hash.finalize())[..16].to_owned()
}

/// Of what kind a reason is for which a segment does not move on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// Its writer still holds it, which is no failure.
    Waiting,
    /// A step failed; it is tried again by itself.
    Stalled,
    /// Its bytes are not where or what they were. A person must mend it, and those behind it go on meanwhile.
    Quarantined,
}

/// Of what kind the reason with this code is.
pub fn hindrance(code: &str) -> Hindrance {
    match code {
        "SEGMENT_HELD_BY_WRITER" | "SEGMENT_REOPENED" => Hindrance::Waiting,
        "SEGMENT_SOURCE_VANISHED" | "SEGMENT_DAMAGED" | "SEGMENT_MISSING" => Hindrance::Quarantined,
        _ => Hindrance::Stalled,
    }
}

/// At most so many bytes a segment of `plain` bytes takes when it is sealed, manifest included, by what the
/// archived ones of its type took and a quarter more. Without any, half of what it is now. Text that compresses
/// worse meets the end of its reservation, and then perhaps that of the disk, which loses nothing either.
pub fn sealed_bytes(plain: u64, archived_plain: u64, archived_compressed: u64) -> u64 {
    let ratio = if archived_plain == 0 {
        0.5
    } else {
        (1.25 * archived_compressed as f64 / archived_plain as f64).clamp(0.01, 1.0)
    };
    (plain as f64 * ratio) as u64 + (64 << 10)
}

/// How long to wait before the next try: doubling from `first`, at most `longest`.
pub fn back_off(attempt: u32, first: Duration, longest: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(longest)
}
