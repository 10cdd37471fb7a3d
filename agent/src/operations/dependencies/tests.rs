//! What data is worth, what is locked, and what a feed holds.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use genesis_advisories::finding::{self, Known, Package};
use genesis_advisories::{Ecosystem, osv};

use super::config::{Ignored, Project};
use super::feed::Feed;
use super::locked::{Collected, collect};
use super::plan::{self, Ages, DataState, Source, Verdict};
use crate::config::{Config, Places};

const RECORD: &str = r#"{"id":"PYSEC-1","modified":"2026-03-01T00:00:00Z","aliases":["CVE-2026-0001"],"details":"bad",
  "affected":[{"package":{"ecosystem":"PyPI","name":"Left.Pad"},
  "ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.2"}]}]}]}"#;
const KEV: &str = r#"{"catalogVersion":"2026.03.01","dateReleased":"2026-03-01T00:00:00Z","count":1,
  "vulnerabilities":[{"cveID":"CVE-2026-0001","dateAdded":"2026-02-01","dueDate":"2026-02-21"}]}"#;
const EPSS: &str = "#model_version:v2026,score_date:2026-03-01T00:00:00+0000\ncve,epss,percentile\nCVE-2026-0001,0.5,0.9\n";

fn source(file_at: i64, newest_at: i64, records: u64) -> Source {
    Source {
        records,
        file: "all.zip".to_owned(),
        file_at,
        newest_at: Some(newest_at),
        imported_at: file_at,
        digest: "d".to_owned(),
    }
}

#[test]
fn what_data_is_worth() {
    let (hour, day) = (3_600, 86_400);
    let ages =
        Ages { file: Duration::from_secs(48 * 3_600), newest: Duration::from_secs(30 * 86_400) };
    let now = 1_800_000_000;
    for (file, newest, state) in [
        (now, now, DataState::Checked),
        (now - 48 * hour, now - 30 * day, DataState::Checked),
        (now - 48 * hour - 1, now, DataState::Stale),
        (now, now - 30 * day - 1, DataState::Stale),
        // Older than the question: what is asked as of a time long ago.
        (now + 900 * day, now, DataState::Checked),
    ] {
        let at = jiff::Timestamp::from_second(now).unwrap();
        let (found, why) = plan::judge(Some(&source(file, newest, 1)), ages, at);
        assert_eq!(found, state, "{file} {newest}");
        assert_eq!(why.is_empty(), state == DataState::Checked, "{why}");
    }
    let at = jiff::Timestamp::from_second(now).unwrap();
    assert_eq!(plan::judge(None, ages, at).0, DataState::NotChecked);
}

#[test]
fn half_of_what_was_there_takes_no_place() {
    let before = source(0, 0, 100);
    for (records, good) in [(0, false), (1, false), (50, false), (51, true), (300, true)] {
        assert_eq!(plan::accept("PyPI", Some(&before), records).is_ok(), good, "{records}");
    }
    assert!(plan::accept("PyPI", None, 1).is_ok());
    assert_eq!(plan::accept("PyPI", None, 0).unwrap_err().0, "ADVISORIES_FEWER");
}

#[test]
fn verdicts() {
    let advisories = osv::read("a", RECORD.as_bytes()).unwrap().advisories;
    let of = |version| {
        let package = Package { ecosystem: &Ecosystem::PyPI, name: "left-pad", version };
        finding::findings(package, &advisories, Known::default())
    };
    let (bad, unclear) = (of("1.0"), of("what"));
    assert!(of("1.2").is_empty());
    let verdict = |found: &[finding::Finding], ignored, judged, unjudged| {
        plan::verdict(found.iter().map(|it| (it, ignored)), judged, unjudged)
    };
    assert_eq!(verdict(&[], false, 3, 0), Verdict::Pass);
    assert_eq!(verdict(&bad, false, 3, 0), Verdict::Findings);
    assert_eq!(verdict(&bad, true, 3, 0), Verdict::Pass, "ignored");
    assert_eq!(verdict(&bad, false, 3, 1), Verdict::Unknown, "unknown beats findings");
    assert_eq!(verdict(&unclear, false, 3, 0), Verdict::Unknown);
    assert_eq!(verdict(&[], false, 0, 0), Verdict::Unknown, "nothing was judged");
    let mut unmaintained = bad.clone();
    unmaintained[0].kind = finding::Kind::Unmaintained;
    assert_eq!(verdict(&unmaintained, false, 3, 0), Verdict::Pass);
    let until = "2026-03-02T00:00:00Z".parse().unwrap();
    let entry =
        Ignored { id: "cve-2026-0001".to_owned(), until, reason: "r".into(), by: "b".into() };
    let entries = [entry];
    let at = |text: &str| plan::ignored(&bad[0], &entries, text.parse().unwrap()).is_some();
    assert!(at("2026-03-01T23:59:59Z"), "by any of its names");
    assert!(!at("2026-03-02T00:00:00Z"), "it has ended");
}

fn collected(files: &[(&str, &str)], manifests: &[&str]) -> (tempfile::TempDir, Collected) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("app");
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", root.join("link.txt")).unwrap();
    let project = Project {
        name: "app".to_owned(),
        root,
        manifests: manifests.iter().map(Into::into).collect(),
        managed: super::config::Managed::default(),
        ignored: Vec::new(),
    };
    let found = collect(&project);
    (folder, found)
}

#[test]
fn what_a_project_has_locked() {
    let (_folder, found) = collected(
        &[
            (
                "requirements.txt",
                "-r sub/more.txt\n-c bounds.txt\nFlask==2.0\nbound\nloose>=1\n-e .\n",
            ),
            (
                "sub/more.txt",
                "left_pad==1.0 \\\n    --hash=sha256:00\n-r ../requirements.txt\n-r /etc/hosts\n",
            ),
            ("bounds.txt", "bound==3.1\nnever==9\n"),
        ],
        &["requirements.txt", "gone.txt", "link.txt"],
    );
    let packages: Vec<String> = found
        .packages
        .iter()
        .map(|it| format!("{}=={} {}:{}", it.name, it.version, it.file, it.line))
        .collect();
    assert_eq!(
        packages,
        [
            "left_pad==1.0 sub/more.txt:1",
            "Flask==2.0 requirements.txt:3",
            "bound==3.1 bounds.txt:1"
        ]
    );
    let unjudged: Vec<String> =
        found.unjudged.iter().map(|it| format!("{}: {}", it.what, it.why)).collect();
    let all = unjudged.join("\n");
    assert!(all.contains("loose: no version is locked, only >=1"), "{all}");
    assert!(all.contains("gone.txt: it can't be read"), "{all}");
    assert!(all.contains("link.txt: it is not below"), "{all}");
    assert!(all.contains("/etc/hosts: it is not below"), "{all}");
    assert!(!all.contains("root:"), "nothing of it is shown: {all}");
    assert_eq!(unjudged.len(), 4, "{all}");
    assert_eq!(found.unmanaged.len(), 1);
}

#[test]
fn what_is_a_constraint_here_and_required_there_is_both() {
    let (_folder, found) = collected(
        &[
            ("dev.txt", "-c requirements.txt\npytest==8.0\n"),
            ("requirements.txt", "flask==2.0\n"),
            ("old.txt", "-c both.txt\nnumpy\n"),
            ("both.txt", "numpy==1.21 ; python_version < '3.8'\nnumpy==1.26\nflask==9\n"),
            ("api.txt", "flask\n-r https://example.com/base.txt\n"),
            ("poetry.lock", "[[package]]\nname = \"a\"\nversion = \"1\"\n"),
        ],
        &["dev.txt", "requirements.txt", "old.txt", "api.txt", "poetry.lock"],
    );
    let packages: Vec<String> =
        found.packages.iter().map(|it| format!("{}=={}", it.name, it.version)).collect();
    assert_eq!(packages, ["pytest==8.0", "flask==2.0", "numpy==1.21", "numpy==1.26"]);
    let of = |file: &str| found.unjudged.iter().filter(|it| it.file == file).count();
    // No constraint of another manifest holds, and what is at an address is not known.
    assert_eq!(of("api.txt"), 2, "{:?}", found.unjudged);
    assert!(of("poetry.lock") > 0, "it is no file of pip's");
}

#[test]
fn a_project_without_an_end_is_cut_off_and_that_is_said() {
    let many: String = (0..60_000).map(|at| format!("p{at}==1\n")).collect();
    let (_folder, found) = collected(&[("r.txt", &many)], &["r.txt"]);
    assert_eq!((found.packages.len(), found.unjudged.len()), (50_000, 1));
}

#[test]
fn what_a_crate_has_locked() {
    let lock = "version = 4\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"time\"\nversion = \"0.1.40\"\n\
                source = \"registry+https://github.com/rust-lang/crates.io-index\"\n\n[[package]]\nname = \"forked\"\nversion = \"1.0.0\"\n\
                source = \"git+https://example.com/f#0a\"\n";
    let (_folder, found) = collected(&[("Cargo.lock", lock)], &["Cargo.lock"]);
    assert_eq!(found.packages.len(), 1);
    let (time, forked) = (&found.packages[0], &found.unmanaged[0]);
    assert_eq!((time.name.as_str(), time.version.as_str(), time.line), ("time", "0.1.40", 8));
    assert_eq!((forked.what.as_str(), forked.line), ("forked 1.0.0", 13));
    assert_eq!(found.unmanaged.len(), 1, "the workspace's own is no dependency");
    let (_folder, found) = collected(&[("Cargo.lock", "no")], &["Cargo.lock"]);
    assert_eq!((found.packages.len(), found.unjudged.len()), (0, 1));
}

/// A ZIP of these files.
pub(super) fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn fed(path: &Path) -> crate::error::Result<Feed> {
    let mut feed = Feed::default();
    feed.read(path, "it", Some(77)).map(|()| feed)
}

#[test]
fn a_feed_is_read_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.zip");
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        fed(&path)
    };
    let other = RECORD.replace("PYSEC-1", "PYSEC-2");
    let inner = zipped(&[("PYSEC-1.json", RECORD.as_bytes()), ("PYSEC-2.json", other.as_bytes())]);
    let nested = zipped(&[("PyPI/all.zip", &inner), ("kev.json", KEV.as_bytes()), ("a.txt", b"-")]);
    let feed = read(&nested).unwrap();
    assert_eq!(feed.ecosystems["PyPI"]["left-pad"].len(), 2);
    assert_eq!((feed.sources["PyPI"].records, feed.sources["PyPI"].file_at), (2, 77));
    assert!(feed.kev.unwrap().get("CVE-2026-0001").is_some());
    assert_eq!(read(EPSS.as_bytes()).unwrap().sources["epss"].records, 1);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(EPSS.as_bytes()).unwrap();
    assert_eq!(read(&packed.finish().unwrap()).unwrap().epss.unwrap().len(), 1);
    let mut flipped = nested.clone();
    let middle = flipped.len() / 3;
    flipped[middle] ^= 0xff;
    let deeper = zipped(&[("x.zip", &zipped(&[("y.zip", &inner)]))]);
    let newer = RECORD.replace("\"id\"", "\"schema_version\":\"2.0.0\",\"id\"");
    let one_bad = zipped(&[("1.json", RECORD.as_bytes()), ("2.json", b"{\"id\":\"X\"}")]);
    for (what, bytes) in [
        ("cut off", &nested[..nested.len() - 30]),
        ("cut off early", &nested[..40]),
        ("changed", &flipped),
        ("an archive too deep", &deeper),
        ("of a schema to come", newer.as_bytes()),
        ("with a record that is none", &one_bad),
        ("without a record", &zipped(&[("README.md", b"hello")])),
        ("empty", b""),
        ("something else", b"hello"),
        ("cut JSON", &RECORD.as_bytes()[..50]),
    ] {
        assert_eq!(read(bytes).unwrap_err().code, "ADVISORIES_INVALID", "{what}");
    }
}

#[test]
fn what_only_some_records_name_is_no_source_and_no_date_is_still_to_come() {
    let folder = tempfile::tempdir().unwrap();
    for at in 0..150 {
        let text = RECORD.replace("PYSEC-1\"", &format!("PYSEC-{at}\""));
        fs::write(folder.path().join(format!("{at}.json")), text).unwrap();
    }
    let stray = RECORD
        .replace("PYSEC-1\"", "RUSTSEC-1\"")
        .replace("PyPI", "crates.io")
        .replace("ECOSYSTEM", "SEMVER")
        .replace("2026", "2099");
    fs::write(folder.path().join("stray.json"), stray).unwrap();
    let other = RECORD.replace("PYSEC-1\"", "GO-1\"").replace("PyPI", "Go");
    fs::write(folder.path().join("go.json"), other).unwrap();
    let mut feed = fed(folder.path()).unwrap();
    assert_eq!(feed.sources.keys().collect::<Vec<_>>(), ["PyPI", "crates.io"]);
    feed.tidy(1_000);
    assert_eq!(feed.sources.keys().collect::<Vec<_>>(), ["PyPI"]);
    assert_eq!(feed.ecosystems.len(), 1);
    let source = &feed.sources["PyPI"];
    assert_eq!((source.file_at, source.newest_at), (1_000, Some(1_000)));
}

#[test]
fn by_itself_the_agent_takes_in_what_is_newer() {
    let known = source(100, 50, 10);
    let of = |file_at, newest_at, digest: &str| {
        let it = Source { digest: digest.to_owned(), ..source(file_at, newest_at, 10) };
        super::is_newer(&it, &known)
    };
    assert!(!of(100, 50, "d"), "the same");
    assert!(of(101, 50, "d"), "fetched again");
    assert!(of(90, 51, "e"), "newer records in a file that was kept");
    assert!(!of(90, 50, "e") && !of(200, 40, "e"), "older");
}

#[test]
fn a_folder_is_one_source() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("vulns/deep")).unwrap();
    fs::create_dir_all(folder.path().join(".git")).unwrap();
    fs::write(folder.path().join("vulns/deep/PYSEC-1.json"), RECORD).unwrap();
    fs::write(folder.path().join("vulns/PYSEC-2.json"), RECORD.replace("PYSEC-1", "PYSEC-2"))
        .unwrap();
    fs::write(folder.path().join(".git/x.json"), "no").unwrap();
    fs::write(folder.path().join("README.md"), "no").unwrap();
    let feed = fed(folder.path()).unwrap();
    assert_eq!(feed.sources["PyPI"].records, 2);
    assert!(feed.sources["PyPI"].file_at > 77, "its own date");
}

#[test]
fn what_the_configuration_refuses() {
    let places = Places { state: "/s".into(), socket: "/s/a".into() };
    let problems = |text: &str| {
        let read = Config::parse(&format!("[dependencies]\n{text}"), "", &places);
        let each: Vec<String> = read.problems.iter().map(|it| it.what()).collect();
        each.join("; ")
    };
    let project =
        "[[dependencies.project]]\nname = \"a\"\nroot = \"/srv/a\"\nmanifests = [\"r.txt\"]\n";
    assert_eq!(problems(project), "");
    let ignore = "[[dependencies.project.ignore]]\nid = \"CVE-1\"\nuntil = \"2027-01-31\"\nreason = \"r\"\nby = \"b\"\n";
    assert_eq!(problems(&format!("{project}{ignore}")), "");
    for (text, why) in [
        ("kev = \"kev.json\"\n".to_owned(), "not an absolute path"),
        (project.replace("/srv", "srv"), "not an absolute path"),
        (project.replace("r.txt", "../r.txt"), "not a path below root"),
        (project.replace("[\"r.txt\"]", "[]"), "at least one"),
        (project.replace("\"a\"", "\"a b\""), "is no name"),
        (format!("{project}{project}"), "is there twice"),
        (format!("{project}{}", ignore.replace("until = \"2027-01-31\"\n", "")), "is missing"),
        (format!("{project}{}", ignore.replace("2027-01-31", "soon")), "neither a day"),
        (format!("{project}{}", ignore.replace("\"r\"", "\" \"")), "must not be empty"),
    ] {
        let found = problems(&text);
        assert!(found.contains(why), "{why}: {found}");
    }
}
