//! Sealing and selecting against a naive reading of the plain text.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use super::*;

const ALL: DateRange = DateRange { from: i64::MIN, until: i64::MAX };

/// The effective timestamp of each line, by the definition.
fn effective(lines: &[Line], request: &SealRequest) -> Vec<i64> {
    let own = |index: usize| match index {
        0 if request.starts_mid_line => None,
        _ => lines[index].own,
    };
    let first = (0..lines.len()).find_map(own);
    let mut at = request.initial_at.or(first).unwrap_or(request.fallback_at);
    let each = (0..lines.len()).map(|index| {
        at = own(index).unwrap_or(at);
        at
    });
    each.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Over any split of time, each line comes back once, whole, in the range of its timestamp.
    #[test]
    fn any_split_of_time_gives_each_line_once(
        (lines, ended) in lines(),
        member_bytes in 64_usize..600,
        initial_at in prop::option::of(-4..5_i64),
        starts_mid_line in any::<bool>(),
        cuts in prop::collection::vec((-4..5_i64, -1..2_i64), 0..6),
    ) {
        let request = SealRequest {
            initial_at: initial_at.map(|step| NOON + step * SECOND),
            starts_mid_line,
            ..request(member_bytes)
        };
        let pieces = pieces(&lines, ended);
        let plain = pieces.concat();
        // An unended last line without text is no line.
        let lines = &lines[..pieces.len()];
        let (file, manifest) = sealed(&plain, &request);
        read_back(&mut file.as_slice(), &manifest).unwrap();
        prop_assert_eq!(&Manifest::from_bytes(&manifest.to_bytes()).unwrap(), &manifest);

        let times = effective(lines, &request);
        prop_assert_eq!(manifest.first_at, times.iter().min().copied());
        prop_assert_eq!(manifest.last_at, times.iter().max().copied());
        if let Some(last) = times.last() {
            prop_assert_eq!(manifest.ended_at, Some(*last));
        }
        let skipped = u64::from(starts_mid_line && !plain.is_empty());
        prop_assert_eq!(manifest.lines, pieces.len() as u64 - skipped);
        prop_assert_eq!(manifest.plain_bytes, plain.len() as u64);
        prop_assert_eq!(manifest.ends_with_newline, plain.ends_with(b"\n"));

        let mut bounds: Vec<i64> =
            cuts.iter().map(|(step, nanos)| NOON + step * SECOND + nanos).collect();
        bounds.extend([i64::MIN, i64::MAX]);
        bounds.sort_unstable();
        for bound in bounds.windows(2) {
            let range = DateRange { from: bound[0], until: bound[1] };
            let within = |index: &usize| (range.from..range.until).contains(&times[*index]);
            let chosen: Vec<usize> = (0..pieces.len()).filter(within).collect();
            let expected: Vec<u8> =
                chosen.iter().flat_map(|index| pieces[*index].clone()).collect();
            let (bytes, selected, _) = select(&file, &manifest, range);
            prop_assert_eq!(bytes, expected);
            let begun = chosen.iter().filter(|index| **index > 0 || !starts_mid_line).count();
            prop_assert_eq!(selected.lines, begun as u64);
            prop_assert_eq!(
                selected.bytes,
                chosen.iter().map(|index| pieces[*index].len() as u64).sum::<u64>()
            );
        }
    }

    /// With members too small for a timestamp, nothing is lost or doubled all the same.
    #[test]
    fn tiny_members_lose_nothing(
        (lines, ended) in lines(),
        member_bytes in 1_usize..64,
        cut in (-4..5_i64).prop_map(|step| NOON + step * SECOND),
    ) {
        let plain = pieces(&lines, ended).concat();
        let (file, manifest) = sealed(&plain, &request(member_bytes));
        read_back(&mut file.as_slice(), &manifest).unwrap();
        let (everything, all, _) = select(&file, &manifest, ALL);
        prop_assert_eq!(everything, plain);
        let (_, before, _) = select(&file, &manifest, DateRange { until: cut, ..ALL });
        let (_, behind, _) = select(&file, &manifest, DateRange { from: cut, ..ALL });
        prop_assert_eq!(before.lines + behind.lines, all.lines);
        prop_assert_eq!(before.bytes + behind.bytes, all.bytes);
    }
}

#[test]
fn a_range_ends_at_midnight_to_the_nanosecond() {
    let lines = [
        "2024-01-31T23:59:59.999999999Z last of January\n",
        "\tand its second line\n",
        "2024-02-01T00:00:00.000000000Z first of February\n",
        "2024-02-01T01:00:00+01:00 the same instant\n",
        "2024-01-31T23:59:60Z a leap second stays in January\n",
    ];
    let (file, manifest) = sealed(lines.concat().as_bytes(), &request(MEMBER_BYTES));
    let january = DateRange::parse("2024-01-01:2024-01-31").unwrap();
    let february = DateRange::parse("2024-02-01:2024-02-29").unwrap();
    let (bytes, selected, _) = select(&file, &manifest, january);
    assert_eq!(bytes, [lines[0], lines[1], lines[4]].concat().into_bytes());
    assert_eq!(selected.lines, 3);
    let (bytes, _, _) = select(&file, &manifest, february);
    assert_eq!(bytes, [lines[2], lines[3]].concat().into_bytes());
}

#[test]
fn neighbouring_lines_are_handed_out_in_one_call() {
    let text: String = (0..300)
        .map(|index| format!("2024-01-31T12:{:02}:{:02}Z line\n", index / 60, index % 60))
        .collect();
    let (file, manifest) = sealed(text.as_bytes(), &request(3000));
    assert_eq!(manifest.members.len(), 3);
    let (_, _, calls) = select(&file, &manifest, ALL);
    assert_eq!(calls, 3);
    let middle = DateRange::parse("2024-01-31T12:01:00Z..2024-01-31T12:04:00Z").unwrap();
    let (_, selected, calls) = select(&file, &manifest, middle);
    assert_eq!((selected.lines, calls), (180, 3));
    let none = DateRange::parse("2024-02-01").unwrap();
    assert_eq!(members_for(&manifest, none), Vec::<usize>::new());
}

#[test]
fn a_line_longer_than_a_member_is_one_line() {
    let long = format!("2024-01-31T12:00:01Z {}\n", "x".repeat(1000));
    let text = ["2024-01-31T12:00:00Z a\n", &long, "2024-01-31T12:00:02Z b\n"].concat();
    let (file, manifest) = sealed(text.as_bytes(), &request(256));
    let continued = manifest.members.iter().filter(|member| member.starts_mid_line).count();
    assert_eq!((manifest.lines, continued), (3, 3));
    let second = DateRange { from: NOON + SECOND, until: NOON + 2 * SECOND };
    let (bytes, selected, _) = select(&file, &manifest, second);
    assert_eq!(bytes, long.as_bytes());
    assert_eq!(selected.lines, 1);
    let others = DateRange { from: NOON + 2 * SECOND, until: i64::MAX };
    assert_eq!(select(&file, &manifest, others).0, b"2024-01-31T12:00:02Z b\n");
}

#[test]
fn a_segment_without_timestamps_has_the_fallback() {
    let (_, manifest) = sealed(b"a\nb\n", &request(2));
    assert_eq!(manifest.members.len(), 2);
    assert_eq!((manifest.first_at, manifest.last_at), (Some(NOON), Some(NOON)));
    assert_eq!((manifest.initial_at, manifest.ended_at), (Some(NOON), Some(NOON)));
}

#[test]
fn an_empty_segment_is_a_gzip_of_nothing() {
    let (file, manifest) = sealed(b"", &request(MEMBER_BYTES));
    read_back(&mut file.as_slice(), &manifest).unwrap();
    assert_eq!((manifest.lines, manifest.first_at, manifest.ended_at), (0, None, None));
    assert_eq!(members_for(&manifest, ALL), Vec::<usize>::new());
    assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).unwrap(), manifest);
    let carried = SealRequest { initial_at: Some(NOON), ..request(MEMBER_BYTES) };
    assert_eq!(sealed(b"", &carried).1.ended_at, Some(NOON));
    assert_eq!(output_of("gzip", &["-dc"], &file), b"");
}

/// A reader that hands out few bytes at a time and is often interrupted.
struct Halting<'a>(&'a [u8], usize);

impl Read for Halting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = buffer.len().min(7);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn the_reader_s_manner_does_not_change_the_file() {
    let text = "2024-01-31T12:00:00Z some text\n".repeat(50);
    let (file, manifest) = sealed(text.as_bytes(), &request(256));
    let mut again = Vec::new();
    let mut codec = LibdeflateCodec::standard().unwrap();
    let mut halting = Halting(text.as_bytes(), 0);
    assert_eq!(seal(&mut halting, &mut again, &request(256), &mut codec).unwrap(), manifest);
    assert_eq!(again, file);
    read_back(&mut Halting(&file, 0), &manifest).unwrap();
}

/// A line without end, of which the most that was asked for at once is kept.
struct Endless {
    left: usize,
    asked: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.asked = self.asked.max(buffer.len());
        let length = buffer.len().min(self.left);
        buffer[..length].fill(b'x');
        self.left -= length;
        Ok(length)
    }
}

#[test]
fn a_line_of_any_length_is_sealed_within_a_member_s_memory() {
    let mut source = Endless { left: 9 * MEMBER_BYTES + 5, asked: 0 };
    let mut codec = LibdeflateCodec::new(1).unwrap();
    // A member size beyond the limit is held to it.
    let request = request(usize::MAX);
    let manifest = seal(&mut source, &mut io::sink(), &request, &mut codec).unwrap();
    assert_eq!(source.asked, MEMBER_BYTES);
    assert_eq!((manifest.lines, manifest.members.len()), (1, 10));
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is gone"))
    }
}

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn errors_say_where_it_failed() {
    let mut codec = LibdeflateCodec::standard().unwrap();
    let mut source = b"2024-01-31T12:00:00Z a\n".chain(Broken);
    let error = seal(&mut source, &mut Vec::new(), &request(64), &mut codec).unwrap_err();
    assert!(matches!(error, SealError::Read { .. }), "{error}");
    let mut source = b"text\n".as_slice();
    let error = seal(&mut source, &mut Broken, &request(64), &mut codec).unwrap_err();
    assert!(matches!(error, SealError::Write { offset: 0, .. }), "{error}");
    // A name that would leave its folder is refused before anything is read.
    let request = SealRequest { log_type: "../orders".to_owned(), ..request(64) };
    let error = seal(&mut Broken, &mut Vec::new(), &request, &mut codec).unwrap_err();
    assert!(matches!(error, SealError::Request(_)), "{error}");
    assert_eq!(LibdeflateCodec::new(0).unwrap_err(), CodecError::Level(0));
    assert_eq!(LibdeflateCodec::new(13).unwrap_err(), CodecError::Level(13));
}

fn output_of(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{program} {arguments:?} ended with {}", output.status);
    output.stdout
}

#[test]
fn other_tools_read_the_file_as_one_gzip() {
    let text: String =
        (0..4000).map(|index| format!("2024-01-31T12:00:00.{index:06}Z order {index}\n")).collect();
    let (file, manifest) = sealed(text.as_bytes(), &request(4096));
    assert!(manifest.members.len() > 10);
    output_of("gzip", &["-t"], &file);
    assert_eq!(output_of("gzip", &["-dc"], &file), text.as_bytes());
    let script =
        "import gzip, sys; sys.stdout.buffer.write(gzip.GzipFile(fileobj=sys.stdin.buffer).read())";
    assert_eq!(output_of("python3", &["-c", script], &file), text.as_bytes());
}
