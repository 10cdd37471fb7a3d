//! What the tests share: segments made in memory, and text whose timestamps are known.

mod damage;
mod manifests;
mod ranges;
mod segments;
mod timestamps;

use proptest::prelude::*;

use super::*;

/// 2024-01-31T12:00:00Z.
const NOON: i64 = 1_706_702_400_000_000_000;
const SECOND: i64 = 1_000_000_000;

fn request(member_bytes: usize) -> SealRequest {
    SealRequest {
        host_id: "01HNGXK5V6T2N0000000000000".to_owned(),
        hostname: "trade-1".to_owned(),
        log_type: "orders".to_owned(),
        source_path: "/var/log/orders.log".to_owned(),
        sequence: 7,
        chain_index: 3,
        previous: Some(Digest::sha256(b"before")),
        timestamp_format: TimestampFormat::Rfc3339,
        initial_at: None,
        fallback_at: NOON,
        starts_mid_line: false,
        sealed_at: NOON + 60 * SECOND,
        member_bytes,
    }
}

fn sealed(mut plain: &[u8], request: &SealRequest) -> (Vec<u8>, Manifest) {
    let mut file = Vec::new();
    let mut codec = LibdeflateCodec::standard().unwrap();
    let manifest = seal(&mut plain, &mut file, request, &mut codec).unwrap();
    (file, manifest)
}

/// The compressed bytes of one member.
fn slice_of<'a>(file: &'a [u8], member: &Member) -> &'a [u8] {
    &file[member.offset as usize..][..member.compressed_bytes as usize]
}

/// What a range selects from a segment, with the number of calls that handed it out.
fn select(file: &[u8], manifest: &Manifest, range: DateRange) -> (Vec<u8>, Selected, usize) {
    let mut parser = TimestampParser::new(&TimestampFormat::Rfc3339);
    let (mut bytes, mut selected, mut calls) = (Vec::new(), Selected::default(), 0);
    for index in members_for(manifest, range) {
        let member = &manifest.members[index];
        let plain = inflate_member(slice_of(file, member), member).unwrap();
        selected += select_lines(&plain, member, &mut parser, range, &mut |run| {
            calls += 1;
            bytes.extend_from_slice(run);
        });
    }
    (bytes, selected, calls)
}

/// A line without its end, and the timestamp that it was given.
#[derive(Debug, Clone)]
struct Line {
    text: Vec<u8>,
    own: Option<i64>,
}

fn line() -> impl Strategy<Value = Line> {
    // Few distinct instants, in any order, some of them a nanosecond from a split.
    let own = (-3..4_i64, -1..2_i64).prop_map(|(step, nanos)| NOON + step * SECOND + nanos);
    let tail = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(Just(0), 0..40),
        1 => prop::collection::vec(any::<u8>(), 200..900),
    ];
    let dated = (own, tail.clone(), any::<bool>()).prop_map(|(at, tail, bracket)| {
        let stamp = jiff::Timestamp::from_nanosecond(i128::from(at)).unwrap();
        let open = if bracket { "[" } else { "" };
        let mut text = format!("{open}{stamp:.9} ").into_bytes();
        text.extend(tail);
        Line { text, own: Some(at) }
    });
    let undated = tail.prop_map(|tail| {
        let text = if tail.is_empty() { tail } else { [b"\t".as_slice(), &tail].concat() };
        Line { text, own: None }
    });
    (prop_oneof![3 => dated, 2 => undated], any::<bool>()).prop_map(|(mut line, crlf)| {
        line.text.retain(|byte| *byte != b'\n');
        if crlf {
            line.text.push(b'\r');
        }
        line
    })
}

/// Lines, and whether the last one is ended.
fn lines() -> impl Strategy<Value = (Vec<Line>, bool)> {
    (prop::collection::vec(line(), 0..60), any::<bool>())
}

/// The lines as a log holds them.
fn pieces(lines: &[Line], ended: bool) -> Vec<Vec<u8>> {
    let last = lines.len().saturating_sub(1);
    let ends = |index| if ended || index < last { b"\n".as_slice() } else { b"" };
    let pieces =
        lines.iter().enumerate().map(|(at, line)| [line.text.as_slice(), ends(at)].concat());
    pieces.filter(|piece| !piece.is_empty()).collect()
}
