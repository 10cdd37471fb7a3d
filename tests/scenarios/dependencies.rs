//! What applications are built of, held against what is known of it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;
use serde_json::Value;

/// Records of the databases, as the reader of them is held to.
const RECORDS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/advisories/tests/fixtures/osv");
/// When these were recent.
const THEN: &str = "2026-03-01T00:00:00Z";

/// A ZIP of the records whose names begin like this.
fn archive(agent: &TestAgent, name: &str, prefix: &str) -> PathBuf {
    let path = agent.folder().join(name);
    let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let mut names: Vec<PathBuf> =
        fs::read_dir(RECORDS).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let wanted = |path: &&PathBuf| {
        path.file_name().unwrap().to_str().unwrap().starts_with(prefix)
            && path.extension().is_some_and(|it| it == "json")
    };
    for record in names.iter().filter(wanted) {
        let inside = record.file_name().unwrap().to_str().unwrap();
        archive.start_file(inside, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&fs::read(record).unwrap()).unwrap();
    }
    archive.finish().unwrap();
    path
}

/// An application below the agent's folder, and the configuration of it.
fn configured(folder: &Path, more: &str) -> String {
    let root = folder.join("app");
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("requirements.txt"), "# the strategies\npyyaml==5.3.1\nsix==1.16.0\n")
        .unwrap();
    let lock = "version = 4\n\n[[package]]\nname = \"actix-codec\"\nversion = \"0.2.0\"\n\
                source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
    fs::write(root.join("Cargo.lock"), lock).unwrap();
    format!(
        "[health]\ndefaults = false\n[dependencies]\nadvisories_max_silence = \"3650d\"\n{more}\n[[dependencies.project]]\nname = \"app\"\n\
         root = \"{}\"\nmanifests = [\"requirements.txt\", \"Cargo.lock\"]\n",
        root.display()
    )
}

fn scan(agent: &TestAgent, code: u8) -> Value {
    let scanned = agent.ctl(&["deps", "scan", "-o", "json"]);
    scanned.exits(code).response()["projects"][0].clone()
}

#[test]
fn what_is_vulnerable_is_found_without_the_network() {
    let mut agent = TestAgent::started(|folder| configured(folder, ""));
    // Without advisories nothing is known, and that is said.
    let unknown = scan(&agent, 5);
    assert_eq!(unknown["verdict"], "SCAN_VERDICT_UNKNOWN");
    assert_eq!(unknown["judged"], 3);
    agent.ctl(&["deps", "status"]).exits(5).says(&["PyPI", "never imported"]);
    wait_until("it has looked", || agent.ctl(&["status"]).text().contains("ADVISORIES_STALE"));
    agent.ctl(&["status"]).exits(5).says(&["dependencies", "never imported"]);
    let python = archive(&agent, "PyPI.zip", "PYSEC");
    let rust = archive(&agent, "crates.zip", "RUSTSEC");
    let (python, rust) = (python.to_str().unwrap(), rust.to_str().unwrap());
    agent.ctl(&["deps", "import-advisories", python, "--plan"]).ok().says(&["import-advisories"]);
    assert_eq!(scan(&agent, 5)["verdict"], "SCAN_VERDICT_UNKNOWN", "a plan changes nothing");
    agent.ctl(&["deps", "import-advisories", python, rust, "--reason", "the first"]).ok();
    let found = scan(&agent, 3);
    assert_eq!(found["verdict"], "SCAN_VERDICT_FINDINGS", "{found}");
    let findings = found["findings"].as_array().unwrap();
    let of = |package: &str| findings.iter().filter(|it| it["package"] == package).count();
    assert!(of("actix-codec") == 1 && of("six") == 0, "{found}");
    let codec = findings.iter().find(|it| it["package"] == "actix-codec").unwrap();
    assert_eq!((&codec["file"], &codec["line"]), (&"Cargo.lock".into(), &4.into()));
    agent.ctl(&["deps", "scan"]).exits(3).says(&["actix-codec", "0.2.0"]);
    let sarif = agent.ctl(&["deps", "scan", "--format", "sarif"]).exits(3).json();
    assert_eq!(sarif["version"], "2.1.0");
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), findings.len());
    // As of a time when the files are too old, nothing is known again.
    agent.ctl(&["deps", "scan", "--as-of", "2040-01-01T00:00:00Z"]).exits(5);
    agent.ctl(&["deps", "scan", "--as-of", THEN]).exits(3);
    // It survives a restart, and half of it takes no place.
    agent.restart();
    assert_eq!(scan(&agent, 3)["findings"], found["findings"]);
    let fewer = archive(&agent, "fewer.zip", "PYSEC-2024");
    let refused = agent.ctl(&["deps", "import-advisories", fewer.to_str().unwrap()]);
    refused.exits(4).says(&["ADVISORIES_FEWER"]);
    let whole = fs::read(python).unwrap();
    let cut = agent.folder().join("cut.zip");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    agent.ctl(&["deps", "import-advisories", cut.to_str().unwrap()]).exits(2);
    assert_eq!(scan(&agent, 3)["findings"], found["findings"]);
    agent.ctl(&["deps", "scan", "--project", "other"]).exits(1).says(&["PROJECT_NOT_FOUND"]);
    let update = agent.ctl(&["deps", "update", "--yes"]).exits(4);
    update.says(&["PROJECT_UNMANAGED", "app can't be updated"]);
    agent.ctl(&["oplog", "list"]).ok().says(&["dependencies.import"]);
}

#[test]
fn configured_files_are_imported_and_what_is_ignored_ends() {
    let mut agent = TestAgent::new(|_| String::new());
    let (python, rust) =
        (archive(&agent, "PyPI.zip", "PYSEC"), archive(&agent, "crates.zip", "RUSTSEC"));
    let files = format!("advisories = [\"{}\", \"{}\"]", python.display(), rust.display());
    let plain = configured(agent.folder(), &files);
    agent.configure(&plain);
    agent.start();
    agent.ctl(&["schedule", "run", "dependencies.import"]).ok();
    let found = scan(&agent, 3);
    let mut text = plain;
    for finding in found["findings"].as_array().unwrap() {
        let id = finding["ids"].as_array().unwrap().last().unwrap().as_str().unwrap();
        text += &format!(
            "[[dependencies.project.ignore]]\nid = \"{id}\"\nuntil = \"2099-12-31\"\nreason = \"not reached\"\nby = \"ada\"\n"
        );
    }
    agent.configure(&text);
    agent.ctl(&["config", "reload"]).ok();
    let ignored = scan(&agent, 0);
    assert_eq!(
        ignored["findings"].as_array().unwrap().len(),
        found["findings"].as_array().unwrap().len()
    );
    assert_eq!(ignored["findings"][0]["ignored"]["by"], "ada");
    fs::write(&rust, b"not any more").unwrap();
    let failed = agent.ctl(&["deps", "import-advisories"]);
    failed.exits(2).says(&["ADVISORIES_INVALID"]);
    assert_eq!(scan(&agent, 0)["verdict"], "SCAN_VERDICT_PASS", "what was there stays");
}

#[test]
fn killed_around_an_import_there_is_the_old_or_the_new() {
    for (point, known) in
        [("dependencies.before-import", false), ("dependencies.after-import", true)]
    {
        let mut agent = TestAgent::new(|folder| configured(folder, ""));
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        let rust = archive(&agent, "crates.zip", "RUSTSEC");
        let rust = rust.to_str().unwrap();
        let mut asked = agent.ctl_command(&["deps", "import-advisories", rust]).spawn().unwrap();
        agent.wait_killed();
        agent.start();
        let _ = asked.wait();
        let sources = agent.ctl(&["deps", "status", "-o", "json"]).exits(5).response();
        let listed = sources["sources"].as_array().unwrap();
        let crates = listed.iter().find(|it| it["name"] == "crates.io").unwrap();
        assert_eq!(crates["records"] != "0", known, "{point}: {crates}");
        agent.ctl(&["deps", "import-advisories", rust]).ok();
    }
}

#[test]
fn a_scan_opens_no_socket() {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    let agent = TestAgent::new(|folder| configured(folder, ""));
    let (trace, real) = (agent.folder().join("trace"), agent.command());
    let mut traced = Command::new("strace")
        .args(["-f", "-qq", "-s", "300", "-e", "trace=socket,connect,openat,open", "-o"])
        .arg(&trace)
        .arg(real.get_program())
        .args(real.get_args())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("strace is needed by this test; tests/run installs it");
    wait_until("the traced agent", || agent.ctl(&["status"]).code != 7);
    let rust = archive(&agent, "crates.zip", "RUSTSEC");
    agent.ctl(&["deps", "import-advisories", rust.to_str().unwrap(), "--reason", "the first"]).ok();
    let text = || fs::read_to_string(&trace).unwrap_or_default();
    let before = text().len();
    for _ in 0..3 {
        scan(&agent, 5);
    }
    let seen = text().split_off(before);
    let group = rustix::process::Pid::from_raw(traced.id().cast_signed()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    traced.wait().unwrap();
    assert!(seen.contains("requirements.txt"), "what is locked is read: {seen}");
    assert!(!seen.contains("socket(") && !seen.contains("connect("), "{seen}");
}
