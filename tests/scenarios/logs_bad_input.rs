//! What can't be right: each a clear error with its code, and nothing changed.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use genesis_tests::binaries::tool;
use genesis_tests::clock::{wait_for, wait_until};
use genesis_tests::{TestAgent, lines, source};

/// What `check-config` says about a file, and its exit code.
fn check(agent: &TestAgent) -> (i32, String) {
    let output = agent.command().arg("check-config").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn every_problem_of_a_configuration_is_named_at_once_with_its_place() {
    let mut agent = TestAgent::new(|_| String::new());
    agent.configure(
        "[listen]\n\
         http = \"0.0.0.0:7480\"\n\
         [agent]\n\
         log_levl = \"info\"\n\
         [logs]\n\
         release_grace = \"0s\"\n\
         [[logs.source]]\n\
         type = \"trading\"\n\
         paths = [\"relative.log\"]\n\
         rotate_size = \"1EB\"\n\
         reopen = \"by-itself\"\n\
         [[logs.source]]\n\
         type = \"trading\"\n\
         paths = [\"/var/log/x.log\"]\n\
         rotate_size = \"1B\"\n\
         reopen = { signal = \"KILL\", pidfile = \"/run/x.pid\" }\n\
         [[logs.source]]\n\
         type = \"../etc\"\n\
         paths = [\"/var/log/y.log\"]\n\
         reopen = \"by-itself\"\n\
         local_retention = \"2y\"\n",
    );
    let (code, said) = check(&agent);
    assert_eq!(code, 3, "{said}");
    // Line and column of each, and the nearest key for one that is not known.
    for word in [
        "2:8:",
        "loopback",
        "4:1:",
        "log_levl",
        "log_level",
        "6:17:",
        "9:",
        "relative.log",
        "10:15:",
        "13:",
        "used by another source",
        "15:15:",
        "16:",
        "KILL",
        "18:8:",
        "../etc",
        "21:",
    ] {
        assert!(said.contains(word), "{word:?} is not said:\n{said}");
    }
    // The agent refuses to start with it, says the same, and has made nothing.
    let ended = agent.try_start().expect_err("a bad configuration");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("CONFIG_INVALID"), "{}", ended.stderr);
    assert!(ended.stderr.contains("log_level") && ended.stderr.contains("10:15:"));
    assert!(!agent.database().exists(), "nothing was made");
}

#[test]
fn a_text_that_is_no_toml_and_a_file_that_is_not_there() {
    let mut agent = TestAgent::new(|_| String::new());
    std::fs::write(agent.config(), "[listen\nhttp = \n").unwrap();
    let (code, said) = check(&agent);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("1:8:") || said.contains("1:"), "{said}");
    std::fs::remove_file(agent.config()).unwrap();
    let ended = agent.try_start().expect_err("no file");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("CONFIG_UNREADABLE"), "{}", ended.stderr);
    // A file so big that it can't be one.
    std::fs::write(agent.config(), "#".repeat(2 << 20)).unwrap();
    let ended = agent.try_start().expect_err("too big");
    assert!(ended.stderr.contains("CONFIG_UNREADABLE"), "{}", ended.stderr);
}

#[test]
fn a_glob_that_matches_the_archive_itself_is_refused() {
    let agent = TestAgent::new(|_| String::new());
    let (archive, sealed) = (agent.archive(), agent.sealed());
    for pattern in [
        archive.join("trading/*/*/*/*.gz"),
        archive.join("**/*"),
        sealed.join("**/*.gz"),
        agent.folder().join("**/*"),
        agent.state().join("*/*/*/*/*/*.log.gz"),
        archive.join("x.log"),
    ] {
        agent.configure(&source("trading", &pattern, "1MB"));
        let (code, said) = check(&agent);
        assert_eq!(code, 3, "{}: {said}", pattern.display());
        assert!(said.contains("archived again"), "{}: {said}", pattern.display());
    }
    agent.configure(&source("trading", &agent.log("*.log"), "1MB"));
    assert_eq!(check(&agent).0, 0, "{}", check(&agent).1);
}

#[test]
fn what_is_no_plain_file_is_reported_and_left_alone() {
    let mut agent = TestAgent::new(|_| String::new());
    let bait = agent.folder().join("bait.log");
    std::fs::write(&bait, lines::text(0..10)).unwrap();
    let folder = agent.log("");
    let path = |name: &str| folder.join(name).join("x.log");
    for name in ["link", "fifo", "hard", "open", "folder"] {
        std::fs::create_dir(agent.log(name)).unwrap();
    }
    std::os::unix::fs::symlink(&bait, path("link")).unwrap();
    tool("mkfifo", &[&path("fifo").display().to_string()]);
    std::fs::write(path("hard"), lines::text(0..10)).unwrap();
    std::fs::hard_link(path("hard"), agent.folder().join("other.log")).unwrap();
    std::fs::write(path("open"), lines::text(0..10)).unwrap();
    std::fs::set_permissions(agent.log("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::create_dir(path("folder")).unwrap();

    let cases = [
        ("link", "LOG_IS_SYMLINK"),
        ("fifo", "LOG_IS_FIFO"),
        ("hard", "LOG_IS_HARD_LINKED"),
        ("open", "LOG_FOLDER_WORLD_WRITABLE"),
        ("folder", "LOG_IS_FOLDER"),
    ];
    let config: String = cases.iter().map(|(name, _)| source(name, &path(name), "4KiB")).collect();
    agent.configure(&config);
    agent.start();
    let seen = |path: &Path| {
        let facts = std::fs::symlink_metadata(path).unwrap();
        (facts.ino(), facts.mode(), facts.nlink(), facts.len())
    };
    let before: Vec<_> = cases.iter().map(|(name, _)| seen(&path(name))).collect();
    for (name, code) in cases {
        let message = agent.wait_finding(name, code);
        assert!(message.contains(&path(name).display().to_string()), "{message}");
        // By hand it is refused, with the same words.
        agent.ctl(&["logs", "rotate", "--log-type", name]).exits(4).says(&[&message]);
        assert!(agent.segments(name).is_empty());
    }
    agent.ctl(&["logs", "status"]).exits(3);
    let after: Vec<_> = cases.iter().map(|(name, _)| seen(&path(name))).collect();
    assert_eq!(before, after, "untouched");
    assert_eq!(std::fs::read_to_string(&bait).unwrap(), lines::text(0..10));
    // The check of the configuration warns of them beforehand.
    let (code, said) = check(&agent);
    assert_eq!(code, 3, "{said}");
    for (name, _) in cases {
        assert!(said.contains(&path(name).display().to_string()), "{name}: {said}");
    }
    // Mended, it goes its way.
    std::fs::set_permissions(agent.log("open"), std::fs::Permissions::from_mode(0o755)).unwrap();
    agent.rotate("open");
    agent.assert_holds("open", 10);
    wait_until("the finding to go", || agent.findings("open").is_empty());
}

/// An agent whose archive can't be made: below a file that is in the way.
fn unwritable() -> (TestAgent, PathBuf) {
    let mut agent = TestAgent::new(|log| {
        let folder = log.parent().unwrap().join("file/archive").display().to_string();
        let source = source("trading", &log.join("t.log"), "1GB");
        format!("[logs.archive]\nurl = \"file://{folder}\"\n{source}")
    });
    let obstacle = agent.folder().join("file");
    std::fs::write(&obstacle, "in the way").unwrap();
    let (code, said) = check(&agent);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("logs.archive.url"), "{said}");
    agent.start();
    (agent, obstacle)
}

#[test]
fn an_archive_that_cannot_be_written_keeps_segments_local_until_it_can() {
    let (mut agent, obstacle) = unwritable();
    std::fs::write(agent.log("t.log"), lines::text(0..200)).unwrap();
    let rotate = agent.ctl(&["logs", "rotate", "--log-type", "trading"]).exits(5);
    rotate.says(&["not in the archive yet"]);
    let message = agent.wait_finding("trading", "ARCHIVE_UNAVAILABLE");
    assert!(message.contains(&obstacle.display().to_string()), "{message}");
    agent.ctl(&["logs", "status"]).exits(3).says(&["ARCHIVE_UNAVAILABLE"]);
    let segment = agent.segments("trading").remove(0);
    assert_eq!(segment.state, "SEALED");
    assert!(segment.file(&agent.sealed()).exists());
    // Not a line is lost meanwhile, nor over a crash.
    agent.assert_holds("trading", 200);
    agent.kill();
    agent.start();
    agent.assert_holds("trading", 200);
    assert_eq!(std::fs::read(&obstacle).unwrap(), b"in the way");

    // Repaired, it goes on by itself.
    std::fs::remove_file(&obstacle).unwrap();
    agent.wait_verified("trading", 1);
    wait_until("the finding to go", || agent.findings("trading").is_empty());
    agent.ctl(&["logs", "status"]).ok();
    agent.ctl(&["logs", "verify", "--depth", "full"]).ok();
    assert!(segment.file(&obstacle.join("archive")).exists());
    agent.assert_holds("trading", 200);
}

#[test]
fn a_foreign_object_in_the_archive_is_never_overwritten_nor_taken_for_ours() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    std::fs::write(agent.log("t.log"), lines::text(0..100)).unwrap();
    agent.rotate("trading");
    let first = agent.segments("trading").remove(0);
    // Something stands where the second segment will go: its name follows from the first one's.
    let mut second = first.clone();
    second.archive_name =
        first.archive_name.replace("T000000.000Z", "T000000.002Z").replace("00000001", "00000002");
    let path = second.file(&agent.archive());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "somebody else's").unwrap();
    std::fs::write(agent.log("t.log"), lines::text(100..200)).unwrap();
    agent.ctl(&["logs", "rotate", "--log-type", "trading"]).exits(5);
    agent.wait_finding("trading", "ARCHIVE_MISMATCH");
    assert_eq!(agent.segments("trading")[1].archive_name, second.archive_name, "as foreseen");
    assert_ne!(agent.segments("trading")[1].state, "VERIFIED");
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody else's");
    agent.assert_holds("trading", 200);
    // Moved away, as the finding advises, the right one takes its place.
    std::fs::rename(&path, agent.folder().join("moved")).unwrap();
    agent.wait_verified("trading", 2);
    agent.ctl(&["logs", "verify", "--depth", "full"]).ok();
}

#[test]
fn a_due_log_whose_writer_cannot_be_told_is_reported_once_and_left_alone() {
    let mut agent = TestAgent::new(|log| {
        let reopen = format!("reopen = {{ signal = \"HUP\", pidfile = {:?} }}", log.join("pid"));
        source("trading", &log.join("t.log"), "4KiB").replace("reopen = \"by-itself\"", &reopen)
    });
    let text = lines::text(0..100);
    std::fs::write(agent.log("t.log"), &text).unwrap();
    agent.start();
    for (pid, word) in [(None, "can't read"), (Some("nonsense"), "no process id"), (Some("1"), "1")]
    {
        if let Some(pid) = pid {
            std::fs::write(agent.log("pid"), pid).unwrap();
        }
        wait_until("the finding", || {
            agent.wait_finding("trading", "REOPEN_TARGET_MISSING").contains(word)
        });
    }
    agent.ctl(&["logs", "status"]).exits(3).says(&["REOPEN_TARGET_MISSING"]);
    assert_eq!(std::fs::read_to_string(agent.log("t.log")).unwrap(), text);
    assert!(agent.segments("trading").is_empty());
    let told = agent.stderr().matches("log not rotated").count();
    assert_eq!(told, 1, "it is looked at several times a second: {}", agent.stderr());
    // A writer that is there, and lets go at the signal by ending.
    let mut writer = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::write(agent.log("pid"), writer.id().to_string()).unwrap();
    let ended = writer.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(1), "it got SIGHUP");
    agent.wait_verified("trading", 1);
    assert!(agent.findings("trading").is_empty());
    agent.assert_holds("trading", 100);
}

#[test]
fn a_disk_that_garbles_what_was_written_is_noticed_before_the_log_goes() {
    const COUNT: u64 = 200_000;

    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    let text = lines::text(0..COUNT);
    // A machine that is too busy may be done with the compression before this test gets its turn.
    let in_time = (1..=5).find(|round| {
        std::fs::write(agent.log("t.log"), &text).unwrap();
        agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
        let temporary = agent.sealed().join(format!("trading/.{round:08}.sealing"));
        let open = || std::fs::File::options().write(true).open(&temporary).ok();
        let sealed = || agent.segments("trading").last().is_some_and(|last| last.lines > 0);
        let file =
            wait_for("the compressor", || open().map(Some).or_else(|| sealed().then_some(None)));
        // A few bytes of what is written already, while the rest is still being compressed.
        let written = |file: &std::fs::File| file.metadata().unwrap().len();
        file.is_some_and(|file| {
            wait_until("some compressed bytes", || written(&file) > 100_000);
            file.write_all_at(b"garbled", 50_000).unwrap();
            temporary.exists()
        })
    });
    let round = in_time.expect("one of five in time");
    let message = agent.wait_finding("trading", "SEAL_FAILED");
    assert!(message.contains("does not read back"), "{message}");
    // It is compressed anew, and right this time.
    let segments = agent.wait_verified("trading", round);
    assert!(segments.iter().all(|segment| segment.lines == COUNT), "{segments:#?}");
    agent.ctl(&["logs", "verify", "--depth", "full"]).ok();
}

#[test]
fn a_link_that_leads_into_the_archive_does_not_make_it_a_log() {
    let agent = TestAgent::started(|log| {
        // The glob's text shows nothing of it: the folder is a link to where the archive will be.
        let linked = log.join("linked");
        std::os::unix::fs::symlink(log.parent().unwrap().join("state/archive"), &linked).unwrap();
        source("trading", &log.join("t.log"), "1GB")
            + &source("other", &linked.join("*/*/*/*/*.gz"), "4KiB")
    });
    std::fs::write(agent.log("t.log"), lines::text(0..100)).unwrap();
    agent.rotate("trading");
    let segment = agent.wait_verified("trading", 1).remove(0);

    assert!(agent.wait_finding("other", "LOG_IS_OURS").contains("mend the glob"));
    agent.ctl(&["logs", "rotate"]).ok();

    assert!(segment.file(&agent.archive()).exists(), "the archive is as it was");
    agent.assert_holds("trading", 100);
}

#[test]
fn a_configuration_of_logrotate_becomes_one_of_ours_and_what_is_left_out_is_said() {
    let agent = TestAgent::new(|_| String::new());
    let folder = agent.folder().join("logrotate.d");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("app"),
        format!(
            "{} {{\n  size 1M\n  copytruncate\n  maxage 7\n}}\n",
            agent.log("app.log").display()
        ),
    )
    .unwrap();
    std::fs::write(folder.join("old.bak"), "/var/log/old {\n}\n").unwrap();
    let convert = |path: &Path| {
        let mut command = std::process::Command::new(genesis_tests::binaries::agent());
        let output = command.arg("convert-logrotate").arg(path).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, toml, said) = convert(&folder);
    assert_eq!(code, Some(0), "{said}");
    assert!(toml.contains("rotate_mode = \"collapse\"") && !toml.contains("old"), "{toml}");
    assert!(said.contains("1 source(s) from 1 file(s), 0 thing(s) left out"), "{said}");
    agent.configure(&toml);
    assert_eq!(check(&agent).0, 0, "{:?}", check(&agent));
    std::fs::write(folder.join("more"), "/var/log/more.log {\n  daily\n  shred\n}\n").unwrap();
    let (code, toml, said) = convert(&folder);
    assert_eq!(code, Some(3), "{said}");
    for text in [&toml, &said] {
        assert!(text.contains("shred: files are deleted, not overwritten"), "{text}");
    }
    let (code, _, said) = convert(&agent.folder().join("nowhere"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("nowhere"), "{said}");
}
