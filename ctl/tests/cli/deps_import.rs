//! `deps import-advisories`.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Code;

use crate::deps::{agent, on, source};
use crate::fake::{Dependencies, Fake, REQUEST_ID, Script, refusal};
use crate::{Outcome, ctl, folder, squeezed};

const PIECE: usize = 256 << 10;

fn content() -> Vec<(&'static str, DataSource)> {
    let pypi = source("PyPI", DataState::Checked);
    let crates =
        DataSource { records: 1, newest_at: None, ..source("crates.io", DataState::Stale) };
    let kev = DataSource { records: 1_400, ..source("kev", DataState::Checked) };
    vec![("all.zip", pypi), ("all.zip", crates), ("kev.json", kev)]
}

fn known() -> Dependencies {
    Dependencies { content: content(), ..Default::default() }
}

fn script(dependencies: Dependencies) -> Script {
    let step = PlanStep {
        action: "replace".into(),
        target: "PyPI".into(),
        reason: "2,661 records in the place of 2,600".into(),
    };
    let any_plan = PlanResponse { plan: Some(Plan { hash: "h1".into(), steps: vec![step] }) };
    Script { dependencies, any_plan, ..Default::default() }
}

fn planning(dependencies: Dependencies) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), script(dependencies));
    (folder, fake)
}

/// Bytes of which no two pieces are the same.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7 % 251) as u8).collect()
}

/// A file of this name and length, of the second 1,000,000,000.
fn file(folder: &Path, name: &str, length: usize) -> String {
    let path = folder.join(name);
    fs::write(&path, bytes(length)).unwrap();
    let modified = UNIX_EPOCH + Duration::new(1_000_000_000, 5_000_000);
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    path.display().to_string()
}

fn import(fake: &Fake, words: &[&str]) -> Outcome {
    on(fake, &[&["import-advisories"], words].concat())
}

#[test]
fn a_file_arrives_whole_and_in_order() {
    for length in [1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 77] {
        let (folder, fake) = planning(known());
        let path = file(folder.path(), "all.zip", length);
        let imported = import(&fake, &[&path, "--reason", "monthly"]);
        assert_eq!(imported.exit, Exit::Ok, "{}", imported.stderr);
        let uploads = fake.uploads();
        assert_eq!(uploads.len(), 1);
        let upload = &uploads[0];
        assert_eq!(upload.file, "all.zip", "without its folder");
        let file_at = prost_types::Timestamp { seconds: 1_000_000_000, nanos: 5_000_000 };
        assert_eq!(upload.file_at, Some(file_at));
        assert!(upload.data == bytes(length), "{length}");
        let (last, others) = upload.pieces.split_last().unwrap();
        assert!(others.iter().all(|piece| *piece == PIECE) && (1..=PIECE).contains(last));
        assert_eq!(
            fake.calls(),
            [
                "UploadAdvisories because monthly",
                "PlanImportAdvisories upload-0 because monthly",
                "ImportAdvisories upload-0 h1 because monthly",
            ]
        );
    }
}

#[test]
fn what_is_in_it_and_what_would_be_done_is_told_before_it_is_done() {
    let (folder, fake) = planning(known());
    let path = file(folder.path(), "all.zip", 9);
    let imported = import(&fake, &[&path]);
    assert_eq!(
        imported.stderr,
        "all.zip has PyPI: 2,661 records, the newest of 2026-11-02T02:00:00Z\n\
         all.zip has crates.io: 1 record\n  \
         replace PyPI: 2,661 records in the place of 2,600\n"
    );
    assert_eq!(
        squeezed(imported.out()),
        [
            "SOURCE STATE RECORDS NEWEST FILE DATE WHY",
            "PyPI CHECKED 2,661 2026-11-02T02:00:00Z 2026-11-02T03:00:00Z -",
            "crates.io STALE 1 - 2026-11-02T03:00:00Z -",
        ]
    );
    assert_eq!(import(&fake, &[&path, "-q"]).stderr, "");
    let long = import(&fake, &[&path, "-v"]);
    assert!(long.out().contains("DIGEST"), "{}", long.out());
    let json = import(&fake, &[&path, "-o", "json"]);
    assert_eq!((json.exit, json.stderr.as_str()), (Exit::Ok, ""));
    assert_eq!(json.json()[0]["response"]["sources"][1]["name"], "crates.io");
    // An agent that knows nothing of it says so at the import; until then it is told what there is.
    let other = file(folder.path(), "other.json", 9);
    assert!(import(&fake, &[&other]).stderr.starts_with("other.json has nothing that is known"));
}

#[test]
fn a_plan_is_shown_of_a_file_and_nothing_imported() {
    let (folder, fake) = planning(known());
    let path = file(folder.path(), "all.zip", 9);
    let planned = import(&fake, &[&path, "--plan"]);
    assert_eq!(planned.exit, Exit::Ok, "{}", planned.stderr);
    assert_eq!(
        squeezed(planned.out()),
        [
            "ACTION TARGET REASON",
            "replace PyPI 2,661 records in the place of 2,600",
            "plan hash: h1",
        ]
    );
    assert!(planned.stderr.starts_with("all.zip has PyPI: 2,661 records"), "{}", planned.stderr);
    let json = import(&fake, &[&path, "--plan", "-o", "json"]).json();
    assert_eq!(json[0]["response"]["plan"]["hash"], "h1");
    assert!(!fake.calls().iter().any(|call| call.starts_with("ImportAdvisories")));
    // The plan that was agreed to is the one that counts, whatever it is by now.
    let stale = import(&fake, &[&path, "--plan-hash", "old"]);
    assert_eq!(stale.exit, Exit::Conflict, "{}", stale.stderr);
    assert!(stale.stderr.contains("error[PLAN_CHANGED]"), "{}", stale.stderr);
    let same = import(&fake, &[&path, "--plan-hash", "h1", "--request-id", REQUEST_ID]);
    assert_eq!(same.exit, Exit::Ok, "{}", same.stderr);
    let last = fake.calls().pop().unwrap();
    assert_eq!(last, format!("ImportAdvisories upload-3 h1 as {REQUEST_ID}"));
}

#[test]
fn the_configured_files_are_imported_where_none_is_named() {
    let imported = vec![source("PyPI", DataState::Checked)];
    let (_folder, fake) = planning(Dependencies { imported, ..Default::default() });
    let done = import(&fake, &[]);
    assert_eq!((done.exit, done.stderr.as_str()), (Exit::Ok, ""));
    assert!(squeezed(done.out())[1].starts_with("PyPI CHECKED 2,661"), "{}", done.out());
    assert_eq!(fake.calls(), ["ImportAdvisories"]);
    let (_folder, none) = agent(Dependencies::default());
    let done = import(&none, &[]);
    assert_eq!((done.exit, done.stderr.as_str()), (Exit::Ok, "nothing was imported\n"));
}

#[test]
fn files_are_imported_one_after_the_other() {
    let (folder, fake) = planning(known());
    let (zip, kev) = (file(folder.path(), "all.zip", 9), file(folder.path(), "kev.json", 7));
    let both = import(&fake, &[&zip, &kev]);
    assert_eq!(both.exit, Exit::Ok, "{}", both.stderr);
    let names: Vec<_> = squeezed(both.out())
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["SOURCE", "PyPI", "crates.io", "kev"]);
    let files: Vec<_> = fake.uploads().into_iter().map(|upload| upload.file).collect();
    assert_eq!(files, ["all.zip", "kev.json"]);
    for flag in [&["--plan"][..], &["--plan-hash", "h1"], &["--request-id", REQUEST_ID]] {
        let refused = import(&fake, &[&[zip.as_str(), &kev], flag].concat());
        assert_eq!(refused.exit, Exit::Usage, "{flag:?}");
        assert!(refused.stderr.contains("one FILE at a time"), "{}", refused.stderr);
    }
    assert_eq!(fake.calls().len(), 6);

    // What came in before is told beside what did not.
    let refused = vec!["kev.json"];
    let (folder, fake) = planning(Dependencies { refused, ..known() });
    let (zip, kev) = (file(folder.path(), "all.zip", 9), file(folder.path(), "kev.json", 7));
    let half = import(&fake, &[&zip, &kev]);
    assert_eq!(half.exit, Exit::Refused);
    assert!(half.out().contains("crates.io"), "{}", half.out());
    assert!(
        half.stderr.ends_with(
            "error[ADVISORIES_FEWER]: kev.json has 12 records of PyPI, and there are 2,661: get the whole file anew; \
             what was there before stays in use, and has more; 1 file before it came in, so give only what is left\n"
        ),
        "{}",
        half.stderr
    );
    let json = import(&fake, &[&zip, &kev, "-o", "json"]);
    assert_eq!(json.exit, Exit::Refused);
    let json = json.json();
    assert_eq!(
        (&json[0]["ok"], &json[0]["error"]["reason"]),
        (&false.into(), &"ADVISORIES_FEWER".into())
    );
    assert_eq!(json[0]["response"]["sources"][0]["name"], "PyPI");
}

#[test]
fn several_nodes_are_sent_the_file_each() {
    let ((folder, one), (_b, two)) = (planning(known()), planning(known()));
    let path = file(folder.path(), "all.zip", 3 * PIECE + 1);
    let nodes = format!("{},{}", one.node(), two.node());
    let command = ["deps", "import-advisories", &path, "-n", &nodes];
    let refused = ctl(&command);
    assert_eq!(refused.exit, Exit::Usage);
    assert!(
        refused.stderr.contains("this would import all.zip on several nodes"),
        "{}",
        refused.stderr
    );
    assert!(one.calls().is_empty() && two.calls().is_empty());
    let done = ctl(&[&command[..], &["--yes"]].concat());
    assert_eq!(done.exit, Exit::Ok, "{}", done.stderr);
    for fake in [&one, &two] {
        assert!(fake.uploads()[0].data == bytes(3 * PIECE + 1));
        assert!(done.out().contains(&format!("{}  PyPI", fake.node())), "{}", done.out());
        let told = format!("{}: all.zip has PyPI: 2,661 records", fake.node());
        assert!(done.stderr.contains(&told), "{}", done.stderr);
    }
    let planned = ctl(&[&command[..], &["--plan"]].concat());
    assert_eq!(planned.exit, Exit::Ok, "{}", planned.stderr);
    assert_eq!(planned.out().matches("plan hash: h1").count(), 2);
}

#[test]
fn what_is_no_file_to_send_is_refused_before_anything_is_sent() {
    let (folder, fake) = planning(known());
    let good = file(folder.path(), "all.zip", 9);
    let empty = file(folder.path(), "empty.json", 0);
    let osv = folder.path().join("osv");
    fs::create_dir(&osv).unwrap();
    let osv = osv.display().to_string();
    for (path, exit, told) in [
        (
            osv.as_str(),
            Exit::Usage,
            format!(
                "error: {osv} is a folder: zip it (`zip -r advisories.zip {osv}`) and give the .zip; or put it on"
            ),
        ),
        (&empty, Exit::Usage, format!("error: {empty} is empty: get the file anew")),
        (
            "/dev/null",
            Exit::Usage,
            "error: /dev/null is no regular file: write what it has to".into(),
        ),
        (
            "/nowhere/x.zip",
            Exit::Failed,
            "error: can't look at /nowhere/x.zip: No such file".into(),
        ),
    ] {
        let refused = import(&fake, &[&good, path]);
        assert_eq!(refused.exit, exit, "{path}");
        assert!(refused.stderr.starts_with(&told), "{told}: {}", refused.stderr);
    }
    assert!(fake.calls().is_empty());
}

#[test]
fn what_the_agent_does_not_take_says_what_to_do() {
    for (method, code, reason, exit, next) in [
        (
            "UploadAdvisories",
            Code::InvalidArgument,
            "ADVISORIES_INVALID",
            Exit::Usage,
            "get the file anew, whole",
        ),
        (
            "UploadAdvisories",
            Code::FailedPrecondition,
            "ADVISORIES_TOO_LARGE",
            Exit::Refused,
            "file of one ecosystem",
        ),
        (
            "PlanImportAdvisories",
            Code::NotFound,
            "UPLOAD_NOT_FOUND",
            Exit::Failed,
            "give the file again",
        ),
        ("ImportAdvisories", Code::Aborted, "PLAN_CHANGED", Exit::Conflict, "look at the new plan"),
    ] {
        let folder = folder();
        let failing = [(method, refusal(code, reason, "it is so"))].into();
        let fake = Fake::start(folder.path(), Script { failing, ..script(known()) });
        // More than is under way at once, so that it is refused in the middle.
        let path = file(folder.path(), "all.zip", 40 * PIECE);
        let refused = import(&fake, &[&path]);
        assert_eq!(refused.exit, exit, "{reason}: {}", refused.stderr);
        let told = format!("error[{reason}]: it is so: ");
        assert!(
            refused.stderr.contains(&told) && refused.stderr.contains(next),
            "{}",
            refused.stderr
        );
        assert_eq!(refused.out(), "");
    }
}

#[test]
fn an_upload_ends_with_the_time_that_is_given() {
    let folder = folder();
    let delay = Duration::from_secs(20);
    let fake = Fake::start(folder.path(), Script { delay, ..script(known()) });
    let path = file(folder.path(), "all.zip", 9);
    let late = import(&fake, &[&path, "--timeout", "200ms"]);
    assert!([Exit::Unreachable, Exit::Unknown].contains(&late.exit), "{}", late.stderr);
    assert!(fake.uploads().is_empty());
}
