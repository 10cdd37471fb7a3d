//! An application in Rust as GENESIS manages them: a program with a library, which has one of its own, from a registry of
//! our own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::application::{copy, forget, said};
use crate::cargo_registry::{CargoRegistry, Crate, Published};

/// A version of `ours-a`, which the program needs, with what it requires of `ours-b`.
pub fn ours_a(version: &str, requirement: &str) -> Crate {
    let source = format!(
        "pub fn versions() -> String {{\n    \
             format!(\"ours-a {version}, ours-b {{}}\", ours_b::VERSION)\n}}\n\n\
         pub fn double(number: u32) -> u32 {{\n    ours_b::double(number)\n}}\n"
    );
    Crate::new("ours-a", version, &source).needs("ours-b", requirement)
}

/// A version of `ours-b`. Where it is not `sound`, the program's tests fail.
pub fn ours_b(version: &str, sound: bool) -> Crate {
    let factor = if sound { 2 } else { 3 };
    let source = format!(
        "pub const VERSION: &str = {version:?};\n\n\
         pub fn double(number: u32) -> u32 {{\n    number * {factor}\n}}\n"
    );
    Crate::new("ours-b", version, &source)
}

/// The application, in a temporary folder.
pub struct CargoApplication {
    folder: TempDir,
}

impl CargoApplication {
    /// Publishes `ours-a` 1.0.0 and `ours-b` 1.0.0, and locks them. Nothing is built yet.
    ///
    /// # Panics
    /// When that fails.
    pub fn lay_out(registry: &CargoRegistry) -> Self {
        let at = Some("2026-01-01T00:00:00Z".parse().expect("a time"));
        registry.publish(&ours_a("1.0.0", "^1"), Published { at, ..Published::default() });
        registry.publish(&ours_b("1.0.0", true), Published { at, ..Published::default() });
        let folder = tempfile::Builder::new().prefix("genesis-app-").tempdir().expect("a folder");
        let app = Self { folder };
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cargo-app"), &app.root());
        registry.configure(&app.root());
        app.run(&["generate-lockfile"]);
        app
    }

    /// Its folder.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    /// The folder that cargo keeps what it has fetched in (`$CARGO_HOME`).
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("cargo")
    }

    /// A command of cargo in its folder, which knows nothing of the cargo that runs the tests.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(self.root()).stdin(Stdio::null());
        // What runs tests sets these for whatever they start.
        forget(&mut command, "CARGO");
        command.env("CARGO_HOME", self.home());
        command
    }

    /// Runs cargo with these arguments; what it says on standard output.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = said(self.cargo().args(arguments));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Builds a release of what is locked; what its program says of itself.
    ///
    /// # Panics
    /// When that fails.
    pub fn build(&self, release: &str) -> String {
        let folder = self.root().join("releases").join(release);
        self.run(&["fetch", "--locked"]);
        said(
            self.cargo()
                .args(["install", "--path", ".", "--locked", "--offline", "--root"])
                .arg(&folder),
        );
        let output = said(&mut Command::new(folder.join("bin/ours-app")));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What `Cargo.lock` has of a crate: its versions, in the order of the file.
    ///
    /// # Panics
    /// When it can't be read.
    pub fn locked(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.root().join("Cargo.lock")).expect("a lock");
        let wanted = format!("name = {name:?}");
        let lines: Vec<&str> = text.lines().collect();
        let found = lines.windows(2).filter(|pair| pair[0] == wanted);
        let versions = found.filter_map(|pair| pair[1].strip_prefix("version = "));
        versions.map(|version| version.trim_matches('"').to_owned()).collect()
    }
}
