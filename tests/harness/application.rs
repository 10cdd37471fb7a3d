//! An application as GENESIS manages them: tickerd, in Python, with libraries of our own from an index of our own, its
//! releases beside each other, and a link to the one in service.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::foreign;
use crate::clock::wait_until;
use crate::package_index::{Listed, PackageIndex};
use crate::ports::free_port;
use crate::{http, wheels::Wheel};

/// The release that an application is laid out with.
pub const FIRST: &str = "first";

/// What is wrong with a version of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Its function answers wrongly: the application's tests fail.
    Wrong,
    /// Its function does not come back: the application's tests do not end.
    Hangs,
    /// The tests pass, and the application says that it is not well.
    Broken,
    /// The same, when it was asked so often.
    BreaksAfter(u32),
    /// The tests pass, and the application ends as soon as it is started.
    Dies,
    /// It runs this when it is imported.
    Runs(String),
}

/// A version of `ticks`, of `quotes` (which requires `ticks`), or of `frames`.
///
/// # Panics
/// When there is no such library.
pub fn library(name: &str, version: &str, flaw: &Flaw) -> Wheel {
    let (imports, signature, right) = match name {
        "ticks" => ("", "rounded(price)", "round(price * 4) / 4"),
        "quotes" => ("import ticks\n", "away(price, level)", "ticks.rounded(price + level * 0.25)"),
        "frames" => {
            ("", "parse(text)", "{key: float(value) for key, _, value in [text.partition('=')]}")
        }
        _ => panic!("the application has no library {name}"),
    };
    let body = match flaw {
        Flaw::Wrong => "None",
        Flaw::Hangs => "__import__('time').sleep(3600)",
        _ => right,
    };
    let mark = match flaw {
        Flaw::Broken => "BROKEN = True\n".to_owned(),
        Flaw::BreaksAfter(times) => format!("BREAKS_AFTER = {times}\n"),
        Flaw::Dies => {
            "import sys\nif '--port' in sys.argv:\n    sys.exit('can\\'t go on')\n".to_owned()
        }
        Flaw::Runs(code) => format!("{code}\n"),
        Flaw::None | Flaw::Wrong | Flaw::Hangs => String::new(),
    };
    let source = format!("{imports}{mark}\n\ndef {signature}:\n    return {body}\n");
    let wheel = Wheel::new(name, version).source(&source);
    if name == "quotes" { wheel.requires("ticks>=1") } else { wheel }
}

/// The application, in a temporary folder. It is stopped when it is dropped.
pub struct Application {
    folder: TempDir,
    port: u16,
}

impl Application {
    /// Publishes `quotes` 1.0.0, `ticks` 1.0.0, `frames` 2.0.0 and pytest, locks them, and builds the first release. It
    /// does not run yet.
    ///
    /// # Panics
    /// When that fails; `tests/run --prepare` installs what it needs.
    pub fn lay_out(index: &PackageIndex) -> Self {
        let long_ago = || Listed::at("2026-01-01T00:00:00Z".parse().expect("a time"));
        for (name, version) in [("quotes", "1.0.0"), ("ticks", "1.0.0"), ("frames", "2.0.0")] {
            index.publish(&library(name, version, &Flaw::None), long_ago());
        }
        index.publish_folder(&foreign("wheels"));
        let folder = tempfile::Builder::new().prefix("genesis-app-").tempdir().expect("a folder");
        let app = Self { folder, port: free_port() };
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/app");
        copy(&fixture, &app.root());
        std::fs::write(app.path("port"), app.port.to_string()).expect("our folder");
        let cache = app.folder.path().join("cache");
        let settings = format!("cache-dir = {cache:?}\n\n{}", index.uv_toml());
        std::fs::write(app.path("uv.toml"), settings).expect("our folder");
        app.compile();
        app.build(FIRST);
        app.link(FIRST);
        app
    }

    /// Its folder: requirements, source, tests, releases, and the script that restarts it.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    /// A path in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// The text of a file in it.
    ///
    /// # Panics
    /// When it can't be read.
    pub fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).expect("a file of the application")
    }

    /// A command of uv in its folder, which knows its index.
    pub fn uv(&self) -> Command {
        let mut command = Command::new(foreign("python/bin/uv"));
        command.current_dir(self.root()).stdin(Stdio::null());
        forget(&mut command, "UV_");
        command
    }

    /// Locks `requirements.in` with hashes, as if nothing had been locked before.
    ///
    /// # Panics
    /// When there is no solution.
    pub fn compile(&self) {
        let mut uv = self.uv();
        uv.args(["pip", "compile", "--quiet", "--upgrade", "--only-binary", ":all:"]);
        uv.args(["--generate-hashes", "requirements.in", "--output-file", "requirements.txt"]);
        said(uv.arg("--python").arg(foreign("python/bin/python")));
    }

    /// Builds a release of what is locked.
    ///
    /// # Panics
    /// When that fails.
    pub fn build(&self, release: &str) {
        let release = self.path("releases").join(release);
        let mut uv = self.uv();
        said(uv.args(["venv", "--quiet", "--python"]).arg(interpreter()).arg(&release));
        let mut uv = self.uv();
        uv.args(["pip", "sync", "--quiet", "--require-hashes", "--only-binary", ":all:"]);
        uv.args(["--link-mode", "copy", "requirements.txt", "--python"]);
        said(uv.arg(release.join("bin/python")));
    }

    /// Puts a release in service; what runs goes on as it is.
    ///
    /// # Panics
    /// When it can't.
    pub fn link(&self, release: &str) {
        let fresh = self.path("current.new");
        symlink(Path::new("releases").join(release), &fresh).expect("our folder");
        std::fs::rename(fresh, self.path("current")).expect("our folder");
    }

    /// The name of the release that the link leads to.
    ///
    /// # Panics
    /// When there is no link.
    pub fn linked(&self) -> String {
        let path = std::fs::read_link(self.path("current")).expect("a link");
        path.file_name().expect("a release").to_string_lossy().into_owned()
    }

    /// The names of its releases, in order.
    ///
    /// # Panics
    /// When they can't be read.
    pub fn releases(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("releases")).expect("releases");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("a release").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The words of the command that restarts it.
    pub fn restart_hook(&self) -> Vec<String> {
        vec!["sh".to_owned(), self.path("restart.sh").to_string_lossy().into_owned()]
    }

    /// The words of the command that runs its tests in its folder; `release` is that folder of the release.
    pub fn test_command(release: &str) -> Vec<String> {
        let python = format!("{release}/bin/python");
        [&python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"].map(str::to_owned).into()
    }

    /// Where it says whether it is well.
    pub fn health_url(&self) -> String {
        format!("http://127.0.0.1:{}/health", self.port)
    }

    /// Starts it, or ends it and starts it again, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn restart(&self) {
        said(Command::new("sh").arg(self.path("restart.sh")));
        wait_until("tickerd", || self.runs());
    }

    /// Ends it, if it runs.
    ///
    /// # Panics
    /// When the script fails.
    pub fn stop(&self) {
        said(Command::new("sh").arg(self.path("restart.sh")).arg("stop"));
    }

    /// Whether it answers.
    pub fn runs(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// What it is made of in the process that runs: the versions of its `libraries`, its `release`, and its `pid`.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn version(&self) -> Value {
        let (status, body) = http::get(([127, 0, 0, 1], self.port).into(), "/version");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// The version of one of its libraries in the process that runs.
    ///
    /// # Panics
    /// When it does not answer, or has no such library.
    pub fn running(&self, library: &str) -> String {
        let version = self.version();
        version["libraries"][library].as_str().expect("a library of it").to_owned()
    }

    /// The name of the release of the process that runs.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn running_release(&self) -> String {
        let version = self.version();
        let path = Path::new(version["release"].as_str().expect("a path"));
        path.file_name().expect("a release").to_string_lossy().into_owned()
    }

    /// Whether the process that runs is of a release, and answers. One that is just ending may not.
    pub fn serves(&self, release: &str) -> bool {
        let Some(version) = self.try_version() else { return false };
        version["release"].as_str().is_some_and(|it| Path::new(it).ends_with(release))
    }

    /// [`Application::version`], where it answers.
    pub fn try_version(&self) -> Option<Value> {
        let (status, body) = http::try_get(self.address(), "/version").ok()?;
        // One that is killed may have answered by half.
        (status == 200).then(|| serde_json::from_str(&body).ok()).flatten()
    }

    /// [`Application::health`], where it answers.
    pub fn try_health(&self) -> Option<u16> {
        http::try_get(self.address(), "/health").ok().map(|(status, _)| status)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Has its tools ask the index here: a proxy before it, which its requirements know nothing of.
    ///
    /// # Panics
    /// When their settings can't be written.
    pub fn ask_index_at(&self, index: &PackageIndex, address: SocketAddr) {
        let settings = self.text("uv.toml");
        let settings = settings.replace(&index.address().to_string(), &address.to_string());
        std::fs::write(self.path("uv.toml"), settings).expect("our folder");
    }

    /// The processes that have to do with it, by their numbers: those at work below its folder, and those that are told
    /// of that.
    ///
    /// # Panics
    /// When there is no `/proc`.
    pub fn processes(&self) -> Vec<(String, String)> {
        let root = self.root();
        let named = root.to_string_lossy().into_owned();
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let found = entries.filter_map(|entry| {
            let process = entry.path();
            let words = std::fs::read(process.join("cmdline")).ok()?;
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            let at = std::fs::read_link(process.join("cwd")).unwrap_or_default();
            // One that has ended has no words any more.
            let ours = !words.is_empty() && (at.starts_with(&root) || words.contains(&named));
            ours.then(|| (entry.file_name().to_string_lossy().into_owned(), words))
        });
        found.collect()
    }

    /// The status with which it says whether it is well.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn health(&self) -> u16 {
        http::get(([127, 0, 0, 1], self.port).into(), "/health").0
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = Command::new("sh").arg(self.path("restart.sh")).arg("stop").output();
    }
}

/// The interpreter that releases are made with: not one of a virtual environment, which may go away.
fn interpreter() -> PathBuf {
    let mut python = Command::new(foreign("python/bin/python"));
    let output = said(python.args(["-c", "import sys; print(sys._base_executable)"]));
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// Has a command not know of the variables of this process whose names start so.
pub(crate) fn forget(command: &mut Command, prefix: &str) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("our folder");
    for entry in std::fs::read_dir(from).expect("a fixture") {
        let entry = entry.expect("a fixture");
        let (path, into) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &into);
        } else {
            std::fs::copy(path, into).expect("our folder");
        }
    }
}

#[track_caller]
pub(crate) fn said(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {errors}", output.status);
    output
}
