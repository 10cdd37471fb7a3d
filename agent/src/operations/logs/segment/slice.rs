use std::ops::AddAssign;

use super::lines;
use super::manifest::{Manifest, Member};
use super::range::DateRange;
use super::readback::{Damage, Inflater};
use super::timestamp::TimestampParser;

/// What was selected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Selected {
    /// Lines; one that goes on in later members is counted where it begins.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
}

impl AddAssign for Selected {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
    }
}

/// The members that may hold lines in `range`, as indices into [`Manifest::members`], ascending.
pub fn members_for(manifest: &Manifest, range: DateRange) -> Vec<usize> {
    let members = manifest.members.iter().enumerate();
    members
        .filter(|(_, member)| {
            member.plain_bytes > 0 && range.overlaps(member.first_at, member.last_at)
        })
        .map(|(index, _)| index)
        .collect()
}

/// The text of one member, given exactly its compressed bytes.
///
/// # Errors
/// [`Damage::Member`] when the bytes are not the member's: another length, another blake3, no
/// gzip, a wrong checksum, another plain length.
pub fn inflate_member(compressed: &[u8], member: &Member) -> Result<Vec<u8>, Damage> {
    let mut inflater = Inflater::new();
    match inflater.inflate(compressed, member) {
        Ok(_) => Ok(inflater.into_plain(member)),
        Err(fault) => Err(Damage::Member { offset: member.offset, fault }),
    }
}

/// Hands to `emit` the lines of a member whose effective timestamps are in `range`, byte for byte
/// and in order, each run of neighbouring lines in one call. A line that goes on over several
/// members is in or out as a whole.
///
/// `plain` is what [`inflate_member`] returned for `member`, and `parser` has the format with
/// which the segment was sealed.
pub fn select_lines(
    plain: &[u8],
    member: &Member,
    parser: &mut TimestampParser,
    range: DateRange,
    emit: &mut dyn FnMut(&[u8]),
) -> Selected {
    if plain.is_empty() || !range.overlaps(member.first_at, member.last_at) {
        return Selected::default();
    }
    if range.covers(member.first_at, member.last_at) {
        emit(plain);
        return Selected { lines: member.lines, bytes: plain.len() as u64 };
    }
    let mut selected = Selected::default();
    let mut run = 0..0;
    lines::walk(plain, member.starts_mid_line, Some(member.initial_at), parser, |piece| {
        if !piece.effective.is_some_and(|at| range.contains(at)) {
            return;
        }
        selected.lines += u64::from(piece.begins);
        selected.bytes += piece.at.len() as u64;
        if run.end != piece.at.start {
            if !run.is_empty() {
                emit(&plain[run.clone()]);
            }
            run.start = piece.at.start;
        }
        run.end = piece.at.end;
    });
    if !run.is_empty() {
        emit(&plain[run]);
    }
    selected
}
