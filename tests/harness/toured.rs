//! A host on which every operation has left something: what `genesis-agent demo` leaves behind.

use std::process::Command;

use crate::{TestAgent, binaries};

/// A host with an agent that is ready, as [`host`] has it.
///
/// # Panics
/// When the demo fails, with what it says.
pub fn toured(more: &str) -> TestAgent {
    let mut agent = host(more);
    agent.start();
    agent
}

/// A host without an agent, with the state and the configuration of the demo, which take some ten seconds to make;
/// `more` is added to that configuration.
///
/// # Panics
/// When the demo fails, with what it says.
pub fn host(more: &str) -> TestAgent {
    let agent = TestAgent::new(|_| String::new());
    let folder = agent.folder().join("tour");
    std::fs::create_dir(&folder).expect("a folder");
    let output = Command::new(binaries::agent())
        .args(["demo", "--keep", "--genesisctl"])
        .arg(binaries::client())
        .env("TMPDIR", &folder)
        .output()
        .expect("the demo can be started");
    let shown = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{shown}");
    let kept = std::fs::read_dir(&folder)
        .expect("its folder")
        .next()
        .expect("the demo keeps its folder")
        .expect("its name")
        .path();
    std::fs::rename(kept.join("state"), agent.state()).expect("its state");
    let config = std::fs::read_to_string(kept.join("agent.toml")).expect("its configuration");
    agent.configure(&format!("{config}\n{more}"));
    agent
}
