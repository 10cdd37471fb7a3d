//! Where the programs under test are.

use std::path::{Path, PathBuf};

/// The agent's program: `$GENESIS_AGENT_BIN`, or the one that was built beside this test.
///
/// # Panics
/// With what to do when it is not there.
pub fn agent() -> PathBuf {
    find("GENESIS_AGENT_BIN", "genesis-agent")
}

/// The agent's program of the folder that `$GENESIS_PROGRAMS` names, such as one with release builds; else that of the other
/// tests. A relative folder is below the workspace's.
///
/// # Panics
/// When it is not there.
pub fn measured_agent() -> PathBuf {
    let Some(folder) = std::env::var_os("GENESIS_PROGRAMS") else { return agent() };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join(folder).join("genesis-agent");
    assert!(path.is_file(), "{} is not there", path.display());
    path
}

/// The client's program: `$GENESISCTL_BIN`, or the one that was built beside this test.
///
/// # Panics
/// With what to do when it is not there.
pub fn client() -> PathBuf {
    find("GENESISCTL_BIN", "genesisctl")
}

fn find(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    // target/<profile>/deps/scenarios-<hash> lies two below the folder of the programs.
    let test = std::env::current_exe().expect("a test knows its own path");
    let path = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>").join(name);
    assert!(
        path.is_file(),
        "{} is not there. Build the programs first: `cargo build --workspace --bins --examples` (tests/run does), \
         or name one in ${variable}",
        path.display()
    );
    path
}

/// An example of the client library.
///
/// # Panics
/// With what to do when it is not there.
pub fn example(name: &str) -> PathBuf {
    find("GENESIS_EXAMPLE_BIN", &format!("examples/{name}"))
}

/// A path below `target/foreign`, where `tests/run` puts what other languages need.
///
/// # Panics
/// With what to do when it is not there.
pub fn foreign(path: &str) -> PathBuf {
    let folder = std::env::var_os("GENESIS_FOREIGN").map_or_else(
        || {
            let test = std::env::current_exe().expect("a test knows its own path");
            test.ancestors().nth(3).expect("target").join("foreign")
        },
        PathBuf::from,
    );
    let path = folder.join(path);
    assert!(path.exists(), "{} is not there: run `tests/run --prepare` once", path.display());
    path
}

/// Runs a program of the system and returns its standard output.
///
/// # Panics
/// When it can't be started or fails.
pub fn tool(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed by this test: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
