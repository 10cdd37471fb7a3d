//! Log lines that come back, and everything that can be missing from them.

use genesis_client::v1::retrieve_logs_response::Part;
use genesis_client::v1::*;
use genesisctl::Exit;
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::fake::{Fake, Script};
use crate::{Outcome, at, ctl, ctl_with, folder};

// The parts of the stream cut the euro sign in two.
const LINES: &[u8] = b"one\ntw\xe2\x82\xac\xff\x00\x1b[2J\nthree";

fn trailer() -> RetrieveTrailer {
    RetrieveTrailer {
        segments: 2,
        lines: 3,
        bytes: LINES.len() as u64,
        sha256: hex::encode(Sha256::digest(LINES)),
        ..Default::default()
    }
}

fn stream(end: Option<RetrieveTrailer>) -> Vec<Result<Part, Status>> {
    let plan = RetrievePlan { segments: 2, plain_bytes: 1_000_000, ..Default::default() };
    let mut parts = vec![Ok(Part::Plan(plan))];
    parts.extend(LINES.chunks(4).map(|chunk| Ok(Part::Data(chunk.to_vec()))));
    parts.extend(end.map(|end| Ok(Part::Trailer(end))));
    parts
}

fn serve(retrieve: Vec<Result<Part, Status>>) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { retrieve, ..Default::default() });
    (folder, fake)
}

fn retrieve(fake: &Fake, more: &[&str]) -> Outcome {
    let node = fake.node();
    let base = [
        "logs",
        "retrieve",
        "--log-type",
        "app",
        "--date-range",
        "2024-01-01:2024-01-02",
        "-n",
        &node,
    ];
    ctl(&[&base[..], more].concat())
}

#[test]
fn lines_come_back_byte_for_byte_with_a_trailer_on_stderr() {
    let (folder, fake) = serve(stream(Some(trailer())));
    let outcome = retrieve(&fake, &[]);
    assert_eq!(outcome.exit, Exit::Ok);
    assert_eq!(outcome.stdout, LINES);
    let expected =
        format!("3 lines, 21 B from 2 segments, complete, sha256 {}\n", trailer().sha256);
    assert_eq!(outcome.stderr, expected);
    assert_eq!(retrieve(&fake, &["-q"]).stderr, "");

    let node = fake.node();
    let arguments = [
        "logs",
        "retrieve",
        "--log-type",
        "app",
        "--date-range",
        "2024-01-01:2024-01-02",
        "-n",
        &node,
    ];
    let shown = ctl_with(&arguments, |console| console.stdout_terminal = true);
    assert_eq!(shown.out().replace('\u{fffd}', "?"), "one\ntw€?\\x00\\x1b[2J\nthree");

    let file = folder.path().join("x.log");
    let path = file.to_str().unwrap();
    let outcome = retrieve(&fake, &["--out", path, "-o", "json"]);
    assert_eq!(outcome.exit, Exit::Ok);
    assert_eq!(std::fs::read(&file).unwrap(), LINES);
    assert_eq!(outcome.json()[0]["response"]["lines"], "3");
    let outcome = retrieve(&fake, &["--out", path]);
    assert!(outcome.exit == Exit::Usage && outcome.stderr.contains("--yes"), "{}", outcome.stderr);
    assert_eq!(retrieve(&fake, &["--out", path, "--yes"]).exit, Exit::Ok);
    assert_eq!(retrieve(&fake, &["-o", "json"]).exit, Exit::Usage);
    assert_eq!(retrieve(&fake, &["-n", "/other.sock"]).exit, Exit::Usage, "one node at a time");
}

#[test]
fn a_trailer_that_does_not_fit_the_data_is_found_out() {
    let short = RetrieveTrailer { bytes: 3, ..trailer() };
    let other = RetrieveTrailer { sha256: hex::encode([7; 32]), ..trailer() };
    for wrong in [short, other] {
        let (folder, fake) = serve(stream(Some(wrong)));
        let file = folder.path().join("x.log");
        let outcome = retrieve(&fake, &["--out", file.to_str().unwrap()]);
        assert_eq!(outcome.exit, Exit::Unknown);
        assert!(outcome.stderr.contains("RETRIEVE_MISMATCH"), "{}", outcome.stderr);
        assert!(!file.exists(), "the name promises the whole");
        assert!(outcome.stderr.contains(".partial"));
    }
    let mut behind = stream(Some(trailer()));
    behind.push(Ok(Part::Data(b"more\n".to_vec())));
    let (_folder, fake) = serve(behind);
    assert_eq!(retrieve(&fake, &[]).exit, Exit::Unknown);
}

#[test]
fn a_stream_without_its_trailer_is_incomplete() {
    let mut broken = stream(None);
    broken.push(Err(Status::unavailable("draining")));
    for cut in [stream(None), broken] {
        let (_folder, fake) = serve(cut);
        let outcome = retrieve(&fake, &[]);
        assert_eq!(outcome.exit, Exit::Unknown);
        assert_eq!(outcome.stdout, LINES);
        assert!(
            outcome.stderr.contains("RETRIEVE_CUT")
                && outcome.stderr.contains("21 B of at most 1.0 MB")
        );
        assert!(outcome.stderr.contains("missing"));
    }
}

#[test]
fn gaps_are_named_one_by_one() {
    let gap = |sequence| Gap {
        sequence,
        archive_name: "app/\u{1b}x.log.gz".into(),
        first_at: at(0),
        last_at: at(60),
        lines: 10,
        code: "SEGMENT_CORRUPT".into(),
        message: "sha256 differs".into(),
    };
    let (folder, fake) =
        serve(stream(Some(RetrieveTrailer { gaps: vec![gap(4), gap(5)], ..trailer() })));
    let file = folder.path().join("x.log");
    let outcome = retrieve(&fake, &["--out", file.to_str().unwrap()]);
    assert_eq!(outcome.exit, Exit::Unknown);
    assert_eq!(std::fs::read(&file).unwrap(), LINES, "what is there is all there is");
    let lines: Vec<_> = outcome.stderr.lines().collect();
    assert_eq!(
        lines[0],
        "gap: segment 4 app/\\x1bx.log.gz from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z, at most 10 \
         lines: SEGMENT_CORRUPT: sha256 differs"
    );
    assert!(lines[1].starts_with("gap: segment 5"));
    assert!(lines[2].contains("incomplete (2 gaps)"));
    assert!(lines[3].starts_with("error[RETRIEVE_GAPS]: 2 gaps: at most 20 lines are missing: "));
}

#[test]
fn nothing_in_the_range_is_no_error_but_said() {
    let empty = RetrieveTrailer {
        sha256: hex::encode(Sha256::digest(b"")),
        active_files_in_range: true,
        expired_segments: 3,
        ..Default::default()
    };
    let (_folder, fake) =
        serve(vec![Ok(Part::Plan(RetrievePlan::default())), Ok(Part::Trailer(empty))]);
    let outcome = retrieve(&fake, &[]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Ok, ""));
    assert!(outcome.stderr.contains("no archived lines of app in 2024-01-01:2024-01-02"));
    assert!(outcome.stderr.contains("genesisctl logs rotate --log-type app"));
    assert!(outcome.stderr.contains("retention has deleted 3 segments of the range"));
}

#[test]
fn an_unknown_type_is_an_error_and_leaves_no_file() {
    let (folder, fake) = serve(vec![]);
    let out = folder.path().join("x.log");
    let node = fake.node();
    let outcome = ctl(&[
        "logs",
        "retrieve",
        "--log-type",
        "absent",
        "--date-range",
        "x",
        "--out",
        out.to_str().unwrap(),
        "-n",
        &node,
    ]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert_eq!(
        outcome.stderr,
        "error[LOG_TYPE_UNKNOWN]: no log type absent: list the configured types with `genesisctl logs \
         status`\n"
    );
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["agent.sock"]);
}

#[test]
fn a_verification_exits_by_what_it_found() {
    use verify_archives_response::Part;
    let finding =
        Finding { code: "SHA256_DIFFERS".into(), subject: "a.gz".into(), message: "m".into() };
    let summary = |findings, unknown| {
        Part::Summary(VerifySummary { segments: 2, compressed_bytes: 5, findings, unknown })
    };
    for (parts, exit, said) in [
        (vec![summary(0, 0)], Exit::Ok, "2 segments checked, 5 B: all good"),
        (
            vec![Part::Finding(finding.clone()), summary(1, 0)],
            Exit::Findings,
            "SHA256_DIFFERS a.gz: m",
        ),
        (
            vec![Part::Finding(finding.clone()), summary(1, 1)],
            Exit::Unknown,
            "1 could not be checked",
        ),
        (vec![Part::Finding(finding)], Exit::Unknown, "SHA256_DIFFERS"),
    ] {
        let folder = folder();
        let fake = Fake::start(folder.path(), Script { verify: parts, ..Default::default() });
        let outcome = ctl(&["logs", "verify", "-n", &fake.node()]);
        assert_eq!(outcome.exit, exit, "{said}");
        assert!(outcome.out().contains(said), "{}", outcome.out());
        let json = ctl(&["logs", "verify", "-o", "json", "-n", &fake.node()]).json();
        assert!(json[0]["response"]["findings"].is_array());
    }
}
