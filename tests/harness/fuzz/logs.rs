//! What is read of logs: times in lines, manifests, members, and what others rotate logs by.

use std::io::Read;

use flate2::bufread::GzDecoder;
use genesis_agent::config::Config;
use genesis_agent::operations::logs::logrotate::convert;
use genesis_agent::operations::logs::segment::{
    DateRange, Digest, LibdeflateCodec, MEMBER_BYTES, Manifest, Member, SealError, SealRequest,
    Selected, TimestampFormat, TimestampParser, inflate_member, members_for, read_back, seal,
    select_lines,
};

use super::{NOW, first_line, places, text};

/// So many lines of an input are read.
const LINES: usize = 256;
/// So many bytes of an input are sealed, with as many seals as there are members.
const SEALED: usize = 4 << 10;

/// The format that a line names; that of RFC 3339 where it names none.
fn format(line: &[u8]) -> TimestampFormat {
    let named = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
    named.unwrap_or(TimestampFormat::Rfc3339)
}

/// A format in the first line, then lines: each has the same time with its end and without, whatever was read before.
pub fn log_timestamps(data: &[u8]) {
    let (first, lines) = first_line(data);
    let format = format(first);
    let shown = format.to_string();
    let again: TimestampFormat = shown.parse().expect("a format reads as it is shown");
    assert_eq!(again.to_string(), shown);
    let mut remembering = TimestampParser::new(&format);
    let fresh = TimestampParser::new(&again);
    for line in lines.split_inclusive(|byte| *byte == b'\n').take(LINES) {
        let at = remembering.parse(line);
        assert_eq!(at, fresh.clone().parse(line), "{:?}", text(line));
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        assert_eq!(at, remembering.parse(bare), "{:?}", text(line));
    }
}

/// A manifest that is read is written as itself, and bears out no other file.
pub fn log_manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::from_bytes(data) else { return };
    let bytes = manifest.to_bytes();
    let again = Manifest::from_bytes(&bytes).expect("a manifest reads as it is written");
    assert_eq!(again, manifest);
    assert_eq!(again.to_bytes(), bytes);
    let from = manifest.first_at.unwrap_or_default();
    let members = members_for(&manifest, DateRange { from, until: from.saturating_add(1) });
    assert!(members.is_sorted() && members.iter().all(|index| *index < manifest.members.len()));
    assert!(read_back(&mut b"".as_slice(), &manifest).is_err(), "no bytes are no segment");
}

/// A plain length of three bytes, then what may be a member: taken only where another reader of gzip finds one stream of
/// that length, and nothing behind it.
pub fn log_member(data: &[u8]) {
    let Some((claimed, compressed)) = data.split_first_chunk::<3>() else { return };
    let claimed = u64::from(u32::from_le_bytes([claimed[0], claimed[1], claimed[2], 0]));
    let (mut unread, mut plain) = (compressed, Vec::new());
    let limit = MEMBER_BYTES as u64 + 1;
    let read = GzDecoder::new(&mut unread).take(limit).read_to_end(&mut plain);
    let whole = read.is_ok() && unread.is_empty();
    for plain_bytes in [claimed, plain.len() as u64] {
        let member = Member {
            offset: 0,
            compressed_bytes: compressed.len() as u64,
            plain_offset: 0,
            plain_bytes,
            lines: 0,
            first_at: 0,
            last_at: 0,
            initial_at: 0,
            starts_mid_line: false,
            blake3: Digest::blake3(compressed),
        };
        if let Ok(own) = inflate_member(compressed, &member) {
            assert!(whole, "another reader does not take it for one whole stream");
            assert_eq!(own.len() as u64, plain_bytes);
            assert!(own == plain, "another reader finds another text");
        }
    }
}

/// A format in the first line, a byte of flags, and a log: sealed, it comes back byte for byte, whole or as two ranges of
/// time, and no changed byte passes.
pub fn log_segment(data: &[u8]) {
    let (first, rest) = first_line(data);
    let Some((flags, rest)) = rest.split_first() else { return };
    let plain = &rest[..rest.len().min(SEALED)];
    let now = NOW * 1_000_000_000;
    let request = SealRequest {
        host_id: "01HNGXK5V6T2N0000000000000".to_owned(),
        hostname: "trade-1".to_owned(),
        log_type: "orders".to_owned(),
        source_path: "/var/log/orders.log".to_owned(),
        sequence: 7,
        chain_index: 3,
        previous: Some(Digest::sha256(b"before")),
        timestamp_format: format(first),
        initial_at: (flags & 1 == 1).then_some(now),
        fallback_at: now,
        starts_mid_line: flags & 2 == 2,
        sealed_at: now,
        member_bytes: 16 + usize::from(flags >> 2) * 16,
    };
    let mut codec = LibdeflateCodec::standard().expect("the usual level is one");
    let mut file = Vec::new();
    let manifest = match seal(&mut &plain[..], &mut file, &request, &mut codec) {
        Ok(manifest) => manifest,
        Err(SealError::Request(_)) => return,
        Err(error) => panic!("it can't be sealed: {error}"),
    };
    let read = Manifest::from_bytes(&manifest.to_bytes());
    assert_eq!(read.expect("a manifest reads as it is written"), manifest);
    read_back(&mut file.as_slice(), &manifest).expect("what was sealed is whole");

    let split = split_of(&manifest);
    let all = DateRange { from: i64::MIN, until: i64::MAX };
    let (whole, selected) = lines_of(&file, &manifest, &request, all);
    assert!(whole == plain, "the whole log is another");
    assert_eq!(selected.lines, manifest.lines);
    let before = DateRange { from: i64::MIN, until: split };
    let from = DateRange { from: split, until: i64::MAX };
    let halves = [before, from].map(|range| lines_of(&file, &manifest, &request, range));
    let mut sum = halves[0].1;
    sum += halves[1].1;
    assert_eq!(sum, selected, "each line is before or from an instant");
    for (bytes, selected) in &halves {
        assert_eq!(bytes.len() as u64, selected.bytes);
    }

    let at = plain.last().map_or(0, |byte| usize::from(*byte)) % file.len();
    file[at] ^= 1;
    assert!(read_back(&mut file.as_slice(), &manifest).is_err(), "byte {at} has changed");
    file[at] ^= 1;
    let cut = &file[..file.len() - 1];
    assert!(read_back(&mut &cut[..], &manifest).is_err(), "a byte is missing");
}

/// An instant amid those of a segment.
fn split_of(manifest: &Manifest) -> i64 {
    let (first, last) = (manifest.first_at.unwrap_or(0), manifest.last_at.unwrap_or(0));
    first.midpoint(last)
}

/// The lines of a range, and how many there are.
fn lines_of(
    file: &[u8],
    manifest: &Manifest,
    request: &SealRequest,
    range: DateRange,
) -> (Vec<u8>, Selected) {
    let mut parser = TimestampParser::new(&request.timestamp_format);
    let (mut bytes, mut selected) = (Vec::new(), Selected::default());
    for index in members_for(manifest, range) {
        let member = &manifest.members[index];
        let (from, length) = (member.offset as usize, member.compressed_bytes as usize);
        let plain = inflate_member(&file[from..from + length], member).expect("it is whole");
        selected += select_lines(&plain, member, &mut parser, range, &mut |run| {
            bytes.extend_from_slice(run);
        });
    }
    (bytes, selected)
}

/// A configuration of logrotate comes out as one of ours: well formed, without keys that nobody knows, and wrong, if at
/// all, only in what a source says.
pub fn logrotate_conf(data: &[u8]) {
    let conversion = convert(&[("logrotate.conf".to_owned(), text(data).into_owned())]);
    let checked = Config::parse(&conversion.toml, "", &places());
    for problem in &checked.problems {
        let of_source = problem.key.starts_with("logs.source");
        let known = !problem.message.starts_with("is not a known key");
        assert!(of_source && known, "{problem}\n{}", conversion.toml);
    }
    if let Some(config) = checked.config {
        let own = config.logs.sources.iter().filter(|source| source.log_type != "agent");
        assert_eq!(own.count(), conversion.sources, "{}", conversion.toml);
    }
}
