//! The one walk over the lines of a member, shared by sealing and selecting.

use std::ops::Range;

use super::timestamp::TimestampParser;

/// A line, or the part of one that lies in this member, with its line end.
pub(super) struct Piece {
    /// Where it lies in the member's plain bytes.
    pub(super) at: Range<usize>,
    /// Whether the line starts here, and not in an earlier member.
    pub(super) begins: bool,
    /// Its effective timestamp; `None` while no line had one and none was in force.
    pub(super) effective: Option<i64>,
}

/// Hands out each piece of `plain` in order and returns the timestamp in force behind the last.
///
/// `in_force` is the one in force before the first piece. A line's own timestamp is what the parser
/// finds in the part of it that lies in the member where it begins.
pub(super) fn walk(
    plain: &[u8],
    starts_mid_line: bool,
    mut in_force: Option<i64>,
    parser: &mut TimestampParser,
    mut each: impl FnMut(Piece),
) -> Option<i64> {
    let mut start = 0;
    let mut begins = !starts_mid_line;
    let unended = (!plain.ends_with(b"\n")).then_some(plain.len());
    for end in memchr::memchr_iter(b'\n', plain).map(|at| at + 1).chain(unended) {
        if start == end {
            break;
        }
        if begins {
            in_force = parser.parse(&plain[start..end]).or(in_force);
        }
        each(Piece { at: start..end, begins, effective: in_force });
        start = end;
        begins = true;
    }
    in_force
}

/// How many lines begin in a member, counted without looking at them.
pub(super) fn count(plain: &[u8], starts_mid_line: bool) -> u64 {
    let ends = memchr::memchr_iter(b'\n', plain).count();
    let pieces = ends + usize::from(!plain.is_empty() && !plain.ends_with(b"\n"));
    (pieces as u64).saturating_sub(u64::from(starts_mid_line))
}
