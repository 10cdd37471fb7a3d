mod retention;

use std::path::Path;
use std::time::Duration;

use genesis_storage::{HoldRecord, SegmentRecord, SegmentState, StepRecord, StepState, Verdict};
use jiff::{SignedDuration, Timestamp};

use super::plan::{self, Observed, Step};
use crate::outside::Holders;
use crate::outside::files::{FileFacts, FileKind};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn segment(state: SegmentState) -> SegmentRecord {
    let mut segment = super::new_segment("trading", 7, "/l/x.log".into(), (1, 2));
    segment.state = state;
    segment.last_at = Some(at("2026-01-01T00:00:00Z"));
    segment
}

fn facts(kind: FileKind) -> FileFacts {
    FileFacts {
        kind,
        device: 1,
        inode: 2,
        links: 1,
        bytes: 10,
        allocated_bytes: 512,
        modified_at: 0,
        folder_world_writable: false,
    }
}

#[test]
fn what_may_be_rotated() {
    let path = Path::new("/l/x.log");
    let cases = [
        (facts(FileKind::Regular), None),
        (facts(FileKind::Symlink), Some("LOG_IS_SYMLINK")),
        (facts(FileKind::Fifo), Some("LOG_IS_FIFO")),
        (facts(FileKind::Folder), Some("LOG_IS_FOLDER")),
        (facts(FileKind::Other), Some("LOG_IS_SPECIAL")),
        (FileFacts { links: 2, ..facts(FileKind::Regular) }, Some("LOG_IS_HARD_LINKED")),
        (
            FileFacts { folder_world_writable: true, ..facts(FileKind::Regular) },
            Some("LOG_FOLDER_WORLD_WRITABLE"),
        ),
    ];
    for (facts, code) in cases {
        assert_eq!(plan::admissible(path, &facts).err().map(|unmet| unmet.code), code, "{facts:?}");
    }
    let hostile = plan::admissible(Path::new("/l/x\ny.log"), &facts(FileKind::Regular));
    assert_eq!(hostile.unwrap_err().code, "LOG_NAME_HOSTILE");
}

#[test]
fn next_steps() {
    let seen = |at_source, at_detached, holders: Holders| {
        Some(Observed { at_source, at_detached, holders })
    };
    let unknown = || Holders::Unknown("hidden".into());
    let cases = [
        (SegmentState::Active, seen(true, false, unknown()), "Abandon"),
        (SegmentState::Active, seen(false, true, unknown()), "RecordDetached"),
        (SegmentState::Active, seen(false, false, unknown()), "SEGMENT_SOURCE_VANISHED"),
        (SegmentState::Detached, seen(false, true, Holders::Released), "Seal"),
        (SegmentState::Detached, seen(false, true, Holders::Held(vec![9])), "AwaitRelease([9])"),
        (SegmentState::Detached, seen(false, true, Holders::Held(vec![])), "AwaitRelease([])"),
        (SegmentState::Detached, seen(false, true, unknown()), "SEGMENT_HOLDERS_UNKNOWN"),
        (SegmentState::Detached, seen(true, false, Holders::Released), "SEGMENT_SOURCE_VANISHED"),
        (SegmentState::Sealed, None, "Upload"),
        (SegmentState::Uploaded, None, "Verify"),
        (SegmentState::Verified, None, "Rest"),
        (SegmentState::LocalExpired, None, "Rest"),
        (SegmentState::ArchiveExpired, None, "Rest"),
    ];
    for (state, observed, expected) in cases {
        let step = match plan::next_step(&segment(state), observed.as_ref()) {
            Step::Hold { code, .. } => code.to_owned(),
            step => format!("{step:?}"),
        };
        assert_eq!(step, expected, "{state:?} {observed:?}");
    }
}

#[test]
fn a_piece_is_whole_lines_and_whole_blocks_of_them_go() {
    // archived, length, line end, size, block: from, until, remove.
    let cases = [
        ((0, 20_000, Some(10_100), 10_000, 4096), Some((0, 10_100, 8192))),
        // Nothing whole is there yet, or nothing new.
        ((0, 20_000, None, 10_000, 4096), None),
        ((500, 20_000, Some(500), 1, 4096), None),
        ((500, 500, None, 1, 4096), None),
        // A piece below a block stays, and is passed over from then on.
        ((0, 900, Some(900), 1, 4096), Some((0, 900, 0))),
        ((900, 2_000, Some(2_000), 1, 4096), Some((900, 2_000, 0))),
        ((900, 5_000, Some(5_000), 1, 4096), Some((900, 5_000, 4096))),
        // A range that reaches the end of a file can't be cut out.
        ((0, 8192, Some(8192), 1, 4096), Some((0, 8192, 4096))),
        ((0, 4096, Some(4096), 1, 4096), Some((0, 4096, 0))),
        ((4096, 8192, Some(8192), 1, 4096), Some((4096, 8192, 4096))),
        // A line without an end is cut at four times the size, by hand never.
        ((0, 39_999, None, 10_000, 4096), None),
        ((0, 40_000, None, 10_000, 4096), Some((0, 40_000, 36_864))),
        ((0, 40_000, None, 1, 4096), None),
    ];
    for ((archived, length, line_end, size, block), expected) in cases {
        let piece = plan::piece(archived, length, line_end, size, block);
        let seen = piece.map(|piece| (piece.from, piece.until, piece.remove));
        assert_eq!(seen, expected, "{archived} {length} {line_end:?} {size} {block}");
        if let Some(piece) = piece {
            assert!(piece.remove < length && piece.remove <= piece.until);
            let mark = plan::mark("trading", 7, &piece, &"01ABC");
            assert!(mark.len() as u64 <= piece.until - piece.from);
        }
    }
}

#[test]
fn a_piece_that_was_not_copied_is_given_up_and_one_that_was_is_finished() {
    use genesis_storage::{TakenHow, TakenPhase, TakenRecord};

    for (phase, expected) in [
        (TakenPhase::Copying, Step::Abandon),
        (TakenPhase::Copied, Step::FinishTaking),
        (TakenPhase::Marked, Step::FinishTaking),
    ] {
        let mut segment = segment(SegmentState::Active);
        segment.taken = Some(TakenRecord {
            how: TakenHow::Collapse,
            phase,
            device: 1,
            inode: 2,
            from: 0,
            until: 10,
            remove: 0,
            mark: String::new(),
            starts_mid_line: false,
            vanished_bytes: 0,
        });
        assert_eq!(plan::next_step(&segment, None), expected, "{phase:?}");
    }
}

#[test]
fn a_place_in_the_archive_tells_type_and_number_of_this_hosts_segments_only() {
    let first = at("2024-03-01T12:34:56.789Z");
    for (host, log_type, sequence) in [
        ("web-1", "trading", 7),
        ("h", "t", 1),
        ("a-trading-b", "trading", 123_456_789_012),
        ("host.with.dots", "x-y_z", 99),
        ("ho st/..", "t", 5),
    ] {
        let name = plan::archive_name(host, log_type, first, sequence);
        assert_eq!(plan::parse_archive_name(&name, host), Some((log_type, sequence)), "{name}");
        assert_eq!(plan::parse_archive_name(&name, "other"), None, "{name}");
    }
    for name in [
        "",
        "trading",
        "trading/2024/03/01/web-1-trading-20240301T123456.789Z-7",
        "trading/2024/03/01/web-1-other-20240301T123456.789Z-00000007",
        "trading/2024/web-1-trading-20240301T123456.789Z-00000007",
        "trading/2024/03/01/web-1-trading-yesterday-00000007",
        "trading/2024/03/01/web-1-trading-20240301T123456.789Z-0000000x",
    ] {
        assert_eq!(plan::parse_archive_name(name, "web-1"), None, "{name}");
    }
}

#[test]
fn a_renamed_log_tells_its_number_and_what_it_was() {
    let segment = super::new_segment("trading", 12, "/l/x.log".into(), (1, 2));
    assert_eq!(plan::detached_number(Path::new(&segment.detached_path)), Some(12));
    assert_eq!(plan::source_of_detached(&segment.detached_path), "/l/x.log");
    for path in ["/l/x.log", "/l/x.log.genesis", "/l/x.12.genesis", "/l/x.1234567a.genesis"] {
        assert_eq!(plan::detached_number(Path::new(path)), None, "{path}");
    }
}

#[test]
fn what_is_reserved_follows_what_such_lines_took() {
    let frame = 64 << 10;
    assert_eq!(plan::sealed_bytes(1_000_000, 0, 0), 500_000 + frame);
    assert_eq!(plan::sealed_bytes(1_000_000, 6_000_000, 1_200_000), 250_000 + frame);
    assert_eq!(plan::sealed_bytes(1_000_000, 100, 100), 1_000_000 + frame, "at most what it is");
    assert_eq!(plan::sealed_bytes(0, 100, 1), frame);
}

#[test]
fn only_lost_or_damaged_bytes_are_for_a_person() {
    use plan::Hindrance::{Quarantined, Stalled, Waiting};

    for (code, expected) in [
        ("SEGMENT_HELD_BY_WRITER", Waiting),
        ("SPACE_SHORT", Stalled),
        ("ARCHIVE_UNAVAILABLE", Stalled),
        ("SEGMENT_SOURCE_VANISHED", Quarantined),
        ("SEGMENT_DAMAGED", Quarantined),
    ] {
        assert_eq!(plan::hindrance(code), expected, "{code}");
    }
}

#[test]
fn retention_counts_from_the_last_line_and_never_touches_what_is_not_proven() {
    let day = Duration::from_secs(86_400);
    let last = at("2026-01-01T00:00:00Z");
    let after = |days: i64, seconds: i64| last + SignedDuration::from_secs(days * 86_400 + seconds);
    let local = |state, now, held| plan::local_expired(&segment(state), now, 30 * day, held);
    assert!(
        !local(SegmentState::Verified, after(30, 0), false),
        "at the very second it is still kept"
    );
    assert!(local(SegmentState::Verified, after(30, 1), false));
    assert!(!local(SegmentState::Verified, after(30, 1), true));
    for state in [SegmentState::Detached, SegmentState::Sealed, SegmentState::Uploaded] {
        assert!(!local(state, after(3_000, 0), false), "{state:?} is not proven in the archive");
        assert!(
            !plan::archive_expired(&segment(state), after(3_000, 0), 365 * day, false),
            "{state:?}"
        );
    }
    let archived = |now, hold| {
        plan::archive_expired(&segment(SegmentState::LocalExpired), now, 365 * day, hold)
    };
    assert!(!archived(after(365, 0), false));
    assert!(archived(after(365, 1), false));
    assert!(!archived(after(365, 1), true));
    let mut undated = segment(SegmentState::Verified);
    undated.last_at = None;
    assert!(!plan::local_expired(&undated, after(9_999, 0), 30 * day, false));
}

#[test]
fn a_hold_keeps_whatever_may_have_lines_in_it() {
    let mut held = segment(SegmentState::Verified);
    let hold = |log_type: &str, from: Option<&str>, until: Option<&str>| HoldRecord {
        id: "A".into(),
        log_type: log_type.into(),
        from: from.map(at),
        until: until.map(at),
        by: "olga".into(),
        reason: "audit".into(),
        at: at("2026-02-01T00:00:00Z"),
    };
    held.first_at = Some(at("2026-01-01T00:00:00Z"));
    held.last_at = Some(at("2026-01-02T00:00:00Z"));
    let of = held.log_type.clone();
    for (log_type, from, until, keeps) in [
        ("", None, None, true),
        (of.as_str(), None, None, true),
        ("another", None, None, false),
        ("", Some("2026-01-02T00:00:00Z"), Some("2026-01-03T00:00:00Z"), true),
        ("", Some("2026-01-02T00:00:00.001Z"), Some("2026-01-03T00:00:00Z"), false),
        ("", Some("2025-12-31T00:00:00Z"), Some("2026-01-01T00:00:00Z"), false),
        ("", Some("2025-12-31T00:00:00Z"), Some("2026-01-01T00:00:00.001Z"), true),
        ("", Some("2026-01-01T12:00:00Z"), Some("2026-01-01T13:00:00Z"), true),
    ] {
        assert_eq!(plan::holds(&hold(log_type, from, until), &held), keeps, "{from:?} {until:?}");
    }
    // What is not known is no proof that it lies outside.
    (held.first_at, held.last_at) = (None, None);
    let ranged = hold("", Some("2020-01-01T00:00:00Z"), Some("2020-01-02T00:00:00Z"));
    assert!(plan::holds(&ranged, &held));
}

#[test]
fn names_are_safe_and_sort_by_time() {
    let name = plan::archive_name("../Web 1\n", "trading", at("2026-01-02T03:04:05.678901Z"), 42);
    assert_eq!(name, "trading/2026/01/02/-Web-1--trading-20260102T030405.678Z-00000042");
    assert!(plan::archive_name("...", "t", at("2026-01-02T00:00:00Z"), 1).contains("/host-t-"));
}

#[test]
fn cut_off_rotations() {
    let step = |name: &str, state| StepRecord {
        number: 1,
        name: name.into(),
        target: "/l/x.log".into(),
        state,
        detail: String::new(),
        started_at: at("2026-01-01T00:00:00Z"),
        ended_at: None,
    };
    let cut = || vec![step("cut", StepState::Intent)];
    let cases = [
        (vec![], vec![], Verdict::NothingDone),
        (cut(), vec![], Verdict::Undone),
        (cut(), vec![segment(SegmentState::Verified)], Verdict::Finished),
        (cut(), vec![segment(SegmentState::Detached)], Verdict::Finished),
        (
            cut(),
            vec![segment(SegmentState::Verified), segment(SegmentState::Active)],
            Verdict::Held,
        ),
    ];
    for (steps, segments, expected) in cases {
        let seen = plan::reconcile_rotation(&steps, &segments);
        assert_eq!(seen.verdict, expected, "{}", seen.detail);
    }
}

#[test]
fn plans_are_named_by_what_they_would_delete() {
    let (one, mut other) = (segment(SegmentState::Verified), segment(SegmentState::Verified));
    let hash = |segments: &[SegmentRecord]| plan::plan_hash("cleanup", segments);
    assert_eq!(hash(std::slice::from_ref(&one)), hash(std::slice::from_ref(&other)));
    other.sha256 = "ff".into();
    assert_ne!(hash(std::slice::from_ref(&one)), hash(std::slice::from_ref(&other)));
    assert_ne!(hash(std::slice::from_ref(&one)), hash(&[one.clone(), other]));
}

#[test]
fn waiting_grows_and_is_bounded() {
    let wait = |attempt| {
        plan::back_off(attempt, Duration::from_secs(1), Duration::from_secs(60)).as_secs()
    };
    assert_eq!([wait(0), wait(1), wait(5), wait(6), wait(31), wait(200)], [1, 2, 32, 60, 60, 60]);
}
