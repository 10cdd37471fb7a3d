//! What GENESIS itself is built of, judged by GENESIS.

use std::fs;
use std::path::{Path, PathBuf};

use genesis_tests::TestAgent;
use serde_json::Value;

/// The day after the newest of the advisories in `tests/fixtures`.
const AS_OF: &str = "2026-08-22T00:00:00Z";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// An agent that knows the advisories and watches a project with this lock.
fn watching(lock: &str) -> TestAgent {
    let agent = TestAgent::started(|folder| {
        let project = folder.join("project");
        fs::create_dir(&project).unwrap();
        fs::write(project.join("Cargo.lock"), lock).unwrap();
        format!(
            "[health]\ndefaults = false\n\n[[dependencies.project]]\nname = \"genesis\"\nroot = \"{}\"\n\
             manifests = [\"Cargo.lock\"]\n",
            project.display()
        )
    });
    let advisories: PathBuf = root().join("tests/fixtures/advisories/crates.io.zip");
    agent.ctl(&["deps", "import-advisories", advisories.to_str().unwrap()]).ok();
    agent
}

fn scanned(agent: &TestAgent, code: u8) -> Value {
    let said = agent.ctl(&["deps", "scan", "--as-of", AS_OF, "-o", "json"]).exits(code);
    said.response()["projects"][0].clone()
}

#[test]
fn nothing_is_known_to_be_wrong_with_what_it_is_built_of() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let agent = watching(&lock);
    let project = scanned(&agent, 0);
    assert_eq!(project["verdict"], "SCAN_VERDICT_PASS", "{project}");
    // Every package of a registry was judged.
    let packages = lock.lines().filter(|line| line.starts_with("source = \"registry+")).count();
    assert!(packages > 400, "{packages}");
    assert_eq!(project["judged"], packages, "{project}");
}

#[test]
fn what_is_wrong_with_one_of_them_would_be_found() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    // A version of a crate that is in it, as it was before it was mended (RUSTSEC-2021-0124).
    let (before, after) = lock.split_once("name = \"tokio\"\nversion = \"").unwrap();
    let (_, after) = after.split_once('"').unwrap();
    let agent = watching(&format!("{before}name = \"tokio\"\nversion = \"1.8.0\"{after}"));
    let project = scanned(&agent, 3);
    let findings = project["findings"].as_array().unwrap();
    let ids: Vec<&Value> = findings.iter().flat_map(|it| it["ids"].as_array().unwrap()).collect();
    assert!(findings.iter().all(|it| it["package"] == "tokio"), "{project}");
    assert!(ids.contains(&&Value::from("RUSTSEC-2021-0124")), "{ids:?}");
}
