//! Archives in an S3-compatible bucket, on a real server and on one that goes wrong.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use genesis_tests::clock::wait_until;
use genesis_tests::random::mix;
use genesis_tests::s3::{Fault, S3};
use genesis_tests::{TestAgent, lines, source};

fn on(s3: &S3, timeout: &str) -> TestAgent {
    let archive = s3.config("fleet/eu", timeout);
    TestAgent::new(|log| archive + &source("trading", &log.join("t.log"), "1GB"))
}

fn append(agent: &TestAgent, text: &str) {
    let path = agent.log("t.log");
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Lines that come to more than is put in one piece.
fn long() -> String {
    let part = |line: u64| {
        (0..16).map(|word| format!("{:016x}", mix(line * 16 + word))).collect::<String>()
    };
    (0..75_000).map(|line| format!("2024-03-02T00:00:00Z {}\n", part(line))).collect()
}

fn objects(s3: &S3) -> Vec<PathBuf> {
    fn below(folder: &std::path::Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { below(&path, into) } else { into.push(path) }
        }
    }
    let mut found = Vec::new();
    below(&s3.objects(), &mut found);
    found
}

#[test]
fn a_segments_life_in_a_bucket() {
    let s3 = S3::start();
    let mut agent = on(&s3, "5s");
    agent.start();
    append(&agent, &lines::text(0..5_000));
    agent.rotate("trading");
    append(&agent, &lines::text(5_000..6_000));
    agent.rotate("trading");
    agent.assert_holds("trading", 6_000);
    let segments = agent.wait_verified("trading", 2);
    let root = s3.objects().join("fleet/eu");
    assert!(segments[0].file(&root).exists() && segments[0].manifest(&root).exists());
    agent.ctl(&["logs", "verify", "--log-type", "trading", "--depth", "full"]).ok();
    // From the bucket alone.
    std::fs::remove_dir_all(agent.sealed()).unwrap();
    agent.assert_holds("trading", 6_000);
    // What lies there is not overwritten, and goes with its retention.
    let early = ["logs", "cleanup", "--older-than", "1s", "--log-type", "trading"];
    let options = ["--override-retention", "--yes", "--reason", "test"];
    agent.ctl(&[&early[..], &options[..]].concat()).ok();
    assert_eq!(objects(&s3), Vec::<PathBuf>::new());
    // The secret is nowhere to be seen.
    let said = agent.stderr()
        + &std::fs::read_to_string(agent.state().join("logs/agent.log")).unwrap()
        + &agent.ctl(&["config", "show"]).ok().text();
    assert!(!said.contains(s3.secret()));
    agent.ctl(&["logs", "status"]).ok().says(&["s3://logs/fleet/eu"]);
}

#[test]
fn each_object_asks_for_the_encryption_that_is_configured() {
    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1";
    let kms = format!("encryption = \"aws:kms\"\nkms_key = {KEY:?}\n");
    for (lines, way, key) in [
        (kms.as_str(), Some("aws:kms"), Some(KEY)),
        ("encryption = \"AES256\"\n", Some("AES256"), None),
        ("", None, None),
    ] {
        let s3 = S3::start();
        let archive = s3.config("fleet/eu", "10s") + lines;
        let mut agent =
            TestAgent::new(|log| archive + &source("trading", &log.join("t.log"), "1GB"));
        agent.start();
        append(&agent, &lines::text(0..1_000));
        agent.rotate("trading");
        let in_parts = key.is_some();
        if in_parts {
            append(&agent, &long());
            agent.rotate("trading");
        }
        agent.wait_verified("trading", 1 + usize::from(in_parts));
        let asked = s3.asked();
        assert_eq!(asked.iter().any(|it| it.in_parts), in_parts, "{asked:?}");
        assert!(asked.iter().any(|it| it.path.ends_with(".json")), "{asked:?}");
        for it in asked {
            assert_eq!((it.way.as_deref(), it.key.as_deref()), (way, key), "{it:?}");
        }
    }
}

#[test]
fn the_check_of_the_configuration_looks_at_the_credentials() {
    use std::os::unix::fs::PermissionsExt;

    let s3 = S3::start();
    let agent = on(&s3, "5s");
    let check = || {
        let mut command = std::process::Command::new(genesis_tests::binaries::agent());
        let output = command.arg("check-config").arg(agent.config()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check().0, Some(0), "{:?}", check());
    let file = s3.credentials();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let (code, said) = check();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("chmod 600") && !said.contains(s3.secret()), "{said}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(check().0, Some(3));
    assert_eq!(s3.requests(), 0, "nothing is sent");
}

#[test]
fn a_server_that_says_what_is_not_so_is_never_believed() {
    for fault in [Fault::Truncates, Fault::Garbles] {
        let s3 = S3::start();
        let mut agent = on(&s3, "5s");
        agent.start();
        append(&agent, &lines::text(0..5_000));
        s3.fail(fault);
        agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
        agent.wait_finding("trading", "ARCHIVE_MISMATCH");
        let segments = agent.segments("trading");
        assert_eq!(segments[0].state, "UPLOADED", "{fault:?}");
        let local = segments[0].file(&agent.sealed());
        assert!(local.exists());
        // Retention by hand does not take the only sound copy either.
        agent.ctl(&["schedule", "run", "logs.local-retention"]).ok();
        assert!(local.exists());
        agent.assert_holds("trading", 5_000);
        // Once what lies there is moved away, the right one takes its place.
        s3.fail(Fault::None);
        for path in objects(&s3) {
            std::fs::remove_file(path).unwrap();
        }
        agent.wait_verified("trading", 1);
        std::fs::remove_dir_all(agent.sealed()).unwrap();
        agent.assert_holds("trading", 5_000);
    }
}

#[test]
fn a_server_that_errs_or_hangs_is_waited_for() {
    for fault in [Fault::Errs, Fault::ErrsAfterwards, Fault::Hangs] {
        let s3 = S3::start();
        let mut agent = on(&s3, "1s");
        agent.start();
        append(&agent, &lines::text(0..1_000));
        s3.fail(fault);
        agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
        if fault == Fault::ErrsAfterwards {
            // What was stored all the same is found, read back and right.
            agent.wait_verified("trading", 1);
        } else {
            let message = agent.wait_finding("trading", "ARCHIVE_UNAVAILABLE");
            assert!(message.contains("s3://logs/fleet/eu"), "{message}");
            assert_eq!(agent.segments("trading")[0].state, "SEALED", "{fault:?}");
            // The lines are to be had meanwhile, from here.
            agent.assert_holds("trading", 1_000);
        }
        s3.fail(Fault::None);
        agent.wait_verified("trading", 1);
        assert_eq!(s3.orphans(), Vec::<String>::new());
        wait_until("no finding", || agent.findings("trading").is_empty());
    }
}

#[test]
fn a_server_that_hangs_keeps_no_log_from_being_sealed() {
    let s3 = S3::start();
    // Longer than this test waits for anything.
    let archive = s3.config("fleet/eu", "600s");
    let mut agent = TestAgent::new(|log| archive + &source("trading", &log.join("*.log"), "64KiB"));
    agent.start();
    append(&agent, &lines::text(0..10));
    agent.rotate("trading");
    let before = s3.requests();
    s3.fail(Fault::Hangs);
    append(&agent, &lines::text(10..2_000));
    wait_until("an upload that hangs", || s3.requests() > before);
    append(&agent, &lines::text(2_000..4_000));
    wait_until("the next one sealed", || {
        let segments = agent.segments("trading");
        segments.len() == 3 && segments[2].state == "SEALED"
    });
    agent.assert_holds("trading", 4_000);
}

#[test]
fn an_upload_in_parts_that_is_cut_off_leaves_nothing_behind() {
    let s3 = S3::start();
    let mut agent = on(&s3, "5s");
    let text = long();
    append(&agent, &text);
    // The agent dies in the middle of it, and at its end.
    for point in ["logs.upload-begun", "logs.parts-sent", "logs.parts-completed"] {
        agent.start_with_failpoint(point, 1);
        if point == "logs.upload-begun" {
            agent.wait_ready();
            agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]);
        }
        agent.wait_killed();
        assert_eq!(s3.orphans().is_empty(), point == "logs.parts-completed", "{point}");
    }
    agent.start();
    agent.wait_verified("trading", 1);
    assert_eq!(s3.orphans(), Vec::<String>::new());
    agent.ctl(&["run", "watch", "last"]);
    append(&agent, &text);
    // Parts get lost, and so does every attempt to abort.
    s3.fail(Fault::LosesParts);
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    agent.wait_finding("trading", "ARCHIVE_UNAVAILABLE");
    assert!(!s3.orphans().is_empty(), "it could not be aborted yet");
    s3.fail(Fault::None);
    let segments = agent.wait_verified("trading", 2);
    assert_eq!(s3.orphans(), Vec::<String>::new());
    let size = segments[0].file(&s3.objects().join("fleet/eu")).metadata().unwrap().len();
    assert!(size > 8 << 20, "{size} bytes are put in one piece");
    for fault in [Fault::Truncates, Fault::Errs] {
        // A rotation that goes on would take the next one in.
        agent.ctl(&["run", "watch", "last"]);
        append(&agent, &text);
        s3.fail(fault);
        agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
        wait_until("a finding", || !agent.findings("trading").is_empty());
        let last = agent.segments("trading").pop().unwrap();
        assert!(last.state == "SEALED" || last.state == "UPLOADED", "{last:?}");
        s3.fail(Fault::None);
        if fault == Fault::Truncates {
            let root = s3.objects().join("fleet/eu");
            std::fs::remove_file(last.file(&root)).unwrap();
            std::fs::remove_file(last.manifest(&root)).unwrap();
        }
        agent.wait_verified("trading", 2);
        assert_eq!(s3.orphans(), Vec::<String>::new(), "{fault:?}");
    }
    std::fs::remove_dir_all(agent.sealed()).unwrap();
    let all = agent.retrieve("trading", "2024-03-02:2024-03-02").ok();
    assert_eq!(all.stdout.len(), 4 * text.len());
    assert_eq!(all.stdout, text.repeat(4).into_bytes());
}
