//! Getting lines back: only the members that the range needs, from whichever copy is sound, with a
//! trailer that names what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use genesis_storage::{SegmentRecord, SegmentState};
use tokio::sync::mpsc;

use super::elsewhere::{Whose, doubtful};
use super::segment::{
    DateRange, MAX_MANIFEST_BYTES, Manifest, Member, TimestampFormat, TimestampParser,
    inflate_member, members_for, select_lines,
};
use super::{Logs, act, blocking, plan, timestamp};
use crate::error::{Error, Result};

mod parts;

use parts::Sender;
pub use parts::{Gap, Part, ReadPlan, Trailer};

/// At most so many compressed bytes are read at once.
const READ_BYTES: u64 = 2 << 20;
/// So many pieces may wait for a slow reader.
pub const PIECES_WAITING: usize = 4;

/// A segment that lines are read of.
struct Readable {
    segment: SegmentRecord,
    /// Which members; `None` where all of it lies in the range.
    members: Option<Vec<usize>>,
}

impl Logs {
    /// Parses a date range.
    ///
    /// # Errors
    /// `RANGE_INVALID`.
    pub fn parse_range(text: &str) -> Result<DateRange> {
        DateRange::parse(text).map_err(|error| Error::invalid("RANGE_INVALID", error.to_string()))
    }

    /// Sends the lines of a type within a range to `to`, ended by a trailer. It stops when nobody listens. Those of
    /// several hosts come one host after the other.
    ///
    /// # Errors
    /// `STORAGE_FAILED`; of other hosts `LOG_TYPE_UNKNOWN`, `HOST_UNKNOWN`, `ARCHIVE_UNAVAILABLE`; what can't be read of the
    /// archive is a gap, not an error.
    pub async fn retrieve(
        self: Arc<Self>,
        log_type: &str,
        range: DateRange,
        (whose, plan_only): (Whose, bool),
        to: mpsc::Sender<Result<Part>>,
    ) -> Result<()> {
        let mut trailer = Trailer::default();
        let mut plan = ReadPlan::default();
        let own_name = plan::host_part(&self.host.name);
        let own = match &whose {
            Whose::Own | Whose::All => true,
            Whose::Host(name) => *name == own_name,
        };
        // Looked at before and after: a file may be cut in between.
        trailer.active_files_in_range = own && self.active_in_range(log_type, range);
        let mut sections: Vec<(String, Vec<(Readable, TimestampFormat)>)> = Vec::new();
        if own {
            let format = self
                .config()
                .source(log_type)
                .map_or(TimestampFormat::Rfc3339, |source| source.format.clone());
            let segments = self.segments_in(log_type, range, &mut trailer)?;
            let segments = segments.into_iter().map(|segment| (segment, format.clone())).collect();
            sections
                .push((own_name, self.readable(segments, range, &mut plan, &mut trailer).await));
        }
        if whose != Whose::Own {
            let mut strangers = None;
            let mut identities: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            if own {
                let own_id = [self.host.id.clone()].into();
                identities.insert(plan::host_part(&self.host.name), own_id);
            }
            for (host, found) in
                self.elsewhere(log_type, range, (&whose, &|| to.is_closed())).await?
            {
                if own && host == plan::host_part(&self.host.name) {
                    let count = found.segments.len() + found.unknown.len();
                    strangers = (count > 0).then(|| {
                        format!(
                            "{count} segments under the name {host} are not in its catalogue; `genesisctl logs \
                             rebuild-catalog` on it adopts those that are its own"
                        )
                    });
                } else {
                    trailer.archived_only += 1;
                }
                identities.entry(host.clone()).or_default().extend(found.identities);
                trailer.gaps.extend(found.unknown.into_iter().map(|(sequence, name, error)| Gap {
                    sequence,
                    archive_name: name,
                    covers: None,
                    lines: 0,
                    code: error.code,
                    message: error.chain(),
                }));
                let readable = self.readable(found.segments, range, &mut plan, &mut trailer).await;
                sections.push((host, readable));
            }
            trailer.warnings = doubtful(&identities);
            trailer.warnings.extend(strangers);
        }
        sections.sort_by(|one, other| one.0.cmp(&other.0));
        if to.send(Ok(Part::Plan(plan))).await.is_err() {
            return Ok(());
        }
        let mut sender = Sender::new(to);
        for (host, entries) in sections.into_iter().filter(|_| !plan_only) {
            if whose == Whose::All {
                sender.begin(host).await;
            }
            for (entry, format) in entries {
                let before = sender.lines;
                self.send_segment(&entry, range, &format, &mut sender, &mut trailer).await?;
                trailer.segments += u64::from(sender.lines > before);
                if sender.gone {
                    return Ok(());
                }
            }
        }
        sender.flush().await;
        trailer.active_files_in_range |= own && self.active_in_range(log_type, range);
        trailer.gaps.sort_by_key(|gap| gap.sequence);
        sender.end(trailer).await;
        Ok(())
    }

    /// Which members of these segments are read; what can't be told is a gap.
    async fn readable(
        &self,
        segments: Vec<(SegmentRecord, TimestampFormat)>,
        range: DateRange,
        plan: &mut ReadPlan,
        trailer: &mut Trailer,
    ) -> Vec<(Readable, TimestampFormat)> {
        let mut readable = Vec::new();
        for (segment, format) in segments {
            // The catalogue says enough of a segment that lies in the range with all its lines; the index of the
            // others is read now for the plan, and again when its turn comes, since that of a long one is large.
            if segment.members > 0 && covers(range, &segment) {
                plan.segments += 1;
                plan.members += segment.members;
                plan.compressed_bytes += segment.compressed_bytes;
                plan.plain_bytes += segment.plain_bytes;
                readable.push((Readable { segment, members: None }, format));
                continue;
            }
            match self.manifest(&segment).await {
                Ok(manifest) => {
                    let members = members_for(&manifest, range);
                    if members.is_empty() {
                        continue;
                    }
                    plan.segments += 1;
                    plan.members += members.len() as u64;
                    for member in members.iter().filter_map(|index| manifest.members.get(*index)) {
                        plan.compressed_bytes += member.compressed_bytes;
                        plan.plain_bytes += member.plain_bytes;
                    }
                    readable.push((Readable { segment, members: Some(members) }, format));
                }
                Err(error) => {
                    trailer.gaps.push(gap(&segment, segment.lines, error.code, error.chain()))
                }
            }
        }
        readable
    }

    /// The segments whose lines may be in the range, in order; what can't be among them goes to the trailer.
    fn segments_in(
        &self,
        log_type: &str,
        range: DateRange,
        trailer: &mut Trailer,
    ) -> Result<Vec<SegmentRecord>> {
        let (from, until) = (timestamp(range.from), timestamp(range.until));
        let mut found = Vec::new();
        let segments = self
            .state
            .read(|reading| Ok(reading.segments().within(log_type, range.from, range.until)?))?;
        for segment in segments {
            match (segment.state, segment.first_at, segment.last_at) {
                // Its times are not known before it is sealed. It can't reach behind the range, as far as its
                // writer's clock goes, when it was cut before the range began.
                (SegmentState::Active | SegmentState::Detached, ..)
                    if segment.detached_at.is_none_or(|at| at >= from) =>
                {
                    let message = "not sealed yet; ask again when its writer has let go".to_owned();
                    trailer.gaps.push(gap(&segment, 0, "SEGMENT_NOT_SEALED", message));
                }
                (state, Some(first), Some(last)) if first < until && last >= from => {
                    if state == SegmentState::ArchiveExpired {
                        trailer.expired_segments += 1;
                    } else {
                        found.push(segment);
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Whether lines of the range may be in files that are being written, or that can't be looked into.
    fn active_in_range(&self, log_type: &str, range: DateRange) -> bool {
        let source =
            self.state.read(|reading| Ok(reading.sources().get(log_type)?)).unwrap_or(None);
        let sealed_until = |path: &std::path::Path| {
            let streams = source.as_ref().map(|source| &source.streams);
            streams.and_then(|streams| streams.get(&path.display().to_string())?.last_at)
        };
        let live = self.live();
        // Lines in an active file are younger than the last sealed one of that file.
        let written = live.active.iter().any(|((owner, path), bytes)| {
            owner == log_type
                && *bytes > 0
                && sealed_until(path).is_none_or(|at| timestamp(range.until) > at)
        });
        written || live.refused.keys().any(|(owner, _)| owner == log_type)
    }

    /// The segment's index, from the local copy or else from the archive, whichever is what was recorded.
    async fn manifest(&self, segment: &SegmentRecord) -> Result<Manifest> {
        let damaged = |what: String| Error::internal("MANIFEST_DAMAGED", what);
        let check = |bytes: &[u8], place: &str| {
            if Manifest::sha256_of(bytes).to_string() != segment.manifest_sha256 {
                return Err(damaged(format!(
                    "the manifest of {} in {place} is not the one that was recorded",
                    segment.archive_name
                )));
            }
            Manifest::from_bytes(bytes).map_err(|error| {
                damaged(format!("the manifest of {} can't be used", segment.archive_name))
                    .caused_by(error)
            })
        };
        if segment.state < SegmentState::LocalExpired {
            let path = act::manifest_file(&self.config().local_dir, &segment.archive_name);
            if let Ok(bytes) = tokio::fs::read(&path).await
                && let Ok(manifest) = check(&bytes, "the local copy")
            {
                return Ok(manifest);
            }
        }
        let name = format!("{}.manifest.json", segment.archive_name);
        let archive = self.archive()?;
        match archive.read_small(&name, MAX_MANIFEST_BYTES as u64).await? {
            Some(bytes) => check(&bytes, archive.url()),
            None => Err(Error::not_found(
                "MANIFEST_MISSING",
                format!("{name} is not in {}", archive.url()),
            )),
        }
    }

    async fn send_segment(
        &self,
        entry: &Readable,
        range: DateRange,
        format: &TimestampFormat,
        sender: &mut Sender,
        trailer: &mut Trailer,
    ) -> Result<()> {
        let manifest = match self.manifest(&entry.segment).await {
            Ok(manifest) => manifest,
            Err(error) => {
                let lines = entry.segment.lines;
                trailer.gaps.push(gap(&entry.segment, lines, error.code, error.chain()));
                return Ok(());
            }
        };
        let wanted: Vec<&Member> = match &entry.members {
            Some(members) => {
                members.iter().filter_map(|index| manifest.members.get(*index)).collect()
            }
            None => manifest.members.iter().collect(),
        };
        for group in groups(&wanted) {
            // One read for all of them, which matters where each one is a request; if it fails, one by one.
            let together = self.members(&entry.segment, group).await.unwrap_or_default();
            for (index, member) in group.iter().enumerate() {
                let plain = match together.get(index) {
                    Some(bytes) => {
                        let (bytes, member) = (bytes.clone(), (*member).clone());
                        blocking(move || inflate(&bytes, &member)).await
                    }
                    None => Err(Error::unavailable("ARCHIVE_UNAVAILABLE", "not read yet")),
                };
                let plain = match plain {
                    Ok(plain) => Ok(plain),
                    Err(_) => self.member(&entry.segment, member).await,
                };
                self.send_member(&entry.segment, member, plain, range, format, sender, trailer)
                    .await?;
                if sender.gone {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // The state of one stream; a struct for it would be used here only.
    async fn send_member(
        &self,
        segment: &SegmentRecord,
        member: &Member,
        plain: Result<Vec<u8>>,
        range: DateRange,
        format: &TimestampFormat,
        sender: &mut Sender,
        trailer: &mut Trailer,
    ) -> Result<()> {
        match plain {
            Ok(plain) => {
                let (format, member) = (format.clone(), member.clone());
                let (selected, lines) = blocking(move || {
                    let mut selected = Vec::new();
                    let mut parser = TimestampParser::new(&format);
                    let counted = select_lines(&plain, &member, &mut parser, range, &mut |run| {
                        selected.extend_from_slice(run)
                    });
                    Ok((selected, counted.lines))
                })
                .await?;
                sender.send(&selected, lines).await;
            }
            Err(error) => {
                let covers = Some((timestamp(member.first_at), timestamp(member.last_at)));
                trailer
                    .gaps
                    .push(Gap { covers, ..gap(segment, member.lines, error.code, error.chain()) });
            }
        }
        Ok(())
    }

    /// The compressed bytes of members that lie end to end, from the local copy or else from the archive.
    async fn members(&self, segment: &SegmentRecord, group: &[&Member]) -> Result<Vec<Bytes>> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(Vec::new());
        };
        let range = first.offset..last.offset + last.compressed_bytes;
        let bytes = match self.local_bytes(segment, &range).await {
            Some(bytes) => bytes,
            None => {
                let name = format!("{}.log.gz", segment.archive_name);
                self.archive()?.read_range(&name, range.clone()).await?
            }
        };
        let slice = |member: &&Member| {
            // Within a few MiB, as the group is.
            let begin = usize::try_from(member.offset - range.start).unwrap_or(usize::MAX);
            let end = begin.saturating_add(usize::try_from(member.compressed_bytes).unwrap_or(0));
            (end <= bytes.len()).then(|| bytes.slice(begin..end))
        };
        Ok(group.iter().filter_map(slice).collect())
    }

    async fn local_bytes(&self, segment: &SegmentRecord, range: &Range<u64>) -> Option<Bytes> {
        if segment.state >= SegmentState::LocalExpired {
            return None;
        }
        let path = act::segment_file(&self.config().local_dir, &segment.archive_name);
        let range = range.clone();
        let read = tokio::task::spawn_blocking(move || read_part(&path, &range)).await;
        read.ok()?.ok().map(Bytes::from)
    }

    /// One member's plain bytes: from the local copy if that is sound, else from the archive.
    async fn member(&self, segment: &SegmentRecord, member: &Member) -> Result<Vec<u8>> {
        let range = member.offset..member.offset + member.compressed_bytes;
        if let Some(bytes) = self.local_bytes(segment, &range).await {
            let wanted = member.clone();
            let local = blocking(move || inflate(&bytes, &wanted)).await;
            if local.is_ok() {
                return local;
            }
        }
        let name = format!("{}.log.gz", segment.archive_name);
        let bytes = self.archive()?.read_range(&name, range).await?;
        let wanted = member.clone();
        blocking(move || inflate(&bytes, &wanted)).await
    }
}

/// Whether every line of a segment lies in the range.
fn covers(range: DateRange, segment: &SegmentRecord) -> bool {
    let (from, until) = (timestamp(range.from), timestamp(range.until));
    segment.first_at.zip(segment.last_at).is_some_and(|(first, last)| from <= first && last < until)
}

/// Splits members into runs that lie end to end and come to no more than [`READ_BYTES`].
fn groups<'m, 'g>(members: &'g [&'m Member]) -> Vec<&'g [&'m Member]> {
    let (mut groups, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (index, member) in members.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| members.get(before));
        let follows =
            before.is_some_and(|before| before.offset + before.compressed_bytes == member.offset);
        if index > begin && (!follows || bytes + member.compressed_bytes > READ_BYTES) {
            groups.push(&members[begin..index]);
            (begin, bytes) = (index, 0);
        }
        bytes += member.compressed_bytes;
    }
    if begin < members.len() {
        groups.push(&members[begin..]);
    }
    groups
}

fn inflate(bytes: &[u8], member: &Member) -> Result<Vec<u8>> {
    inflate_member(bytes, member).map_err(|error| {
        Error::internal("SEGMENT_DAMAGED", "the archived bytes are not what was sealed")
            .caused_by(error)
    })
}

fn read_part(path: &std::path::Path, range: &Range<u64>) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;

    let file = std::fs::File::open(path)?;
    let size = usize::try_from(range.end - range.start).map_err(std::io::Error::other)?;
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

fn gap(segment: &SegmentRecord, lines: u64, code: &'static str, message: String) -> Gap {
    Gap {
        sequence: segment.sequence,
        archive_name: segment.archive_name.clone(),
        covers: segment.first_at.zip(segment.last_at),
        lines,
        code,
        message,
    }
}
