//! Updates of a Rust project by a real cargo, from a registry of the tests' own.

use std::fs;

use genesis_tests::TestAgent;
use genesis_tests::cargo_application::{CargoApplication, ours_a, ours_b};
use genesis_tests::cargo_registry::{CargoRegistry, Published};
use genesis_tests::updates::{MEDIUM, vulnerable};
use serde_json::Value;

struct Host {
    agent: TestAgent,
    app: CargoApplication,
    registry: CargoRegistry,
}

fn host() -> Host {
    let registry = CargoRegistry::start();
    let app = CargoApplication::lay_out(&registry);
    let mut agent = TestAgent::new(|folder| {
        format!(
            "[health]\ndefaults = false\n[[dependencies.project]]\nname = \"app\"\nroot = \"{}\"\nmanifests = [\"Cargo.lock\"]\n\
             environment = [\"CARGO_HOME={}\"]\n\
             [dependencies.project.test]\ncommand = [\"cargo\", \"test\", \"--quiet\", \"--locked\", \"--offline\"]\ntimeout = \"5m\"\n\
             [dependencies.project.deploy]\nreleases_dir = \"{}\"\nlink = \"{}\"\nhealth_for = \"1s\"\n\
             restart = {{ command = [\"true\"] }}\nhealth = {{ command = [\"test\", \"-x\", \"{}\"] }}\n",
            app.root().display(),
            app.home().display(),
            folder.join("releases").display(),
            folder.join("current").display(),
            folder.join("current/bin").display(),
        )
    });
    agent.start();
    let host = Host { agent, app, registry };
    host.know(&[]);
    host
}

impl Host {
    fn know(&self, records: &[Value]) {
        let path = self.agent.folder().join("advisories.zip");
        let others = (0..20).map(|it| {
            vulnerable(
                &format!("RUSTSEC-0-{it}"),
                "crates.io",
                &format!("other-{it}"),
                "0",
                "1.0.0",
                MEDIUM,
            )
        });
        let all: Vec<Value> = others.chain(records.iter().cloned()).collect();
        advisories_of_rust(&path, &all);
        self.agent
            .ctl(&["deps", "import-advisories", path.to_str().unwrap(), "--reason", "a test"])
            .ok();
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.app.root().join("Cargo.lock")).unwrap()
    }

    fn newest(&self) -> Value {
        self.agent.ctl(&["deps", "history", "-o", "json"]).ok().response()["updates"][0].clone()
    }

    /// What the program in service says of itself.
    fn says(&self) -> String {
        let bin =
            fs::read_dir(self.agent.folder().join("log/current/bin")).unwrap().next().unwrap();
        let output = std::process::Command::new(bin.unwrap().path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn advisories_of_rust(path: &std::path::Path, records: &[Value]) {
    use std::io::Write as _;

    let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for record in records {
        let mut record = record.clone();
        record["affected"][0]["package"]["ecosystem"] = "crates.io".into();
        record["affected"][0]["ranges"][0]["type"] = "SEMVER".into();
        let name = format!("{}.json", record["id"].as_str().unwrap());
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(record.to_string().as_bytes()).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn a_rust_project_is_updated_built_apart_and_taken_back() {
    let host = host();
    let before = host.lock();
    let b = host.app.locked("ours-b");
    host.registry.publish(&ours_b("1.0.9", true), Published::default());
    host.registry.publish(&ours_b("1.1.0", true), Published::default());
    host.know(&[vulnerable("RUSTSEC-2026-1", "crates.io", "ours-b", "0", "1.0.9", MEDIUM)]);
    host.agent.ctl(&["deps", "scan"]).exits(3).says(&["RUSTSEC-2026-1", "1.0.9"]);
    host.agent.ctl(&["deps", "check"]).ok().says(&["ours-b", "1.0.9", "1.1.0"]);
    assert_eq!(host.lock(), before, "a check changes nothing");
    host.agent.ctl(&["deps", "update", "--yes"]).ok().says(&["SUCCEEDED"]);
    assert_eq!(host.app.locked("ours-b"), ["1.0.9"], "a transitive one too, and within X.Y");
    assert!(host.says().contains("1.0.9"), "{}", host.says());
    assert!(!host.lock().contains("genesis-bounds"));
    host.agent.ctl(&["deps", "scan"]).ok();

    // Moderate may go on; a suite that fails changes nothing.
    let locked = host.lock();
    host.registry.publish(&ours_b("1.2.0", false), Published::default());
    let failed = host.agent.ctl(&["deps", "update", "--strategy", "moderate", "--yes"]);
    failed.exits(1).says(&["TESTS_FAILED"]);
    assert_eq!(host.lock(), locked, "byte for byte");
    assert!(host.says().contains("1.0.9"));
    assert_eq!(host.newest()["failedIn"], "UPDATE_STATE_TEST");
    assert_ne!(b, ["1.0.9"]);
}

#[test]
fn what_only_comes_with_what_is_out_of_bounds_stays_and_the_rest_moves() {
    let host = host();
    // The new ours-a wants an ours-b that is out of bounds; another crate can move.
    host.registry.publish(&ours_a("1.0.9", "^2"), Published::default());
    host.registry.publish(&ours_b("2.0.0", true), Published::default());
    host.registry.publish(&ours_b("1.0.9", true), Published::default());
    let a = host.app.locked("ours-a");
    host.agent.ctl(&["deps", "update", "--yes"]).ok();
    assert_eq!(host.app.locked("ours-b"), ["1.0.9"]);
    assert_eq!(host.app.locked("ours-a"), a);
    let lock = host.lock();
    assert!(!lock.contains("\"2.0.0\""), "{lock}");
}
