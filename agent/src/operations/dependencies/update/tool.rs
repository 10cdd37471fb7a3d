//! How the tools of a project are run: as its user, bounded, and what runs foreign code in a sandbox.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::config::Project;
use crate::error::{Error, Result};
use crate::outside::hooks::{self, Program, Ran};
use crate::outside::{host, leftovers, trees};

/// A tool may take so long to choose versions, or to fetch and install what was chosen.
pub(super) const LONG: Duration = Duration::from_secs(1_800);
/// So much of what a tool says is read.
const OUTPUT: usize = 4 << 20;
/// So much of it is told.
const TOLD: usize = 2_000;

/// What runs the tools of one project.
#[derive(Debug, Clone)]
pub(super) struct Hands {
    owner: Option<(u32, u32)>,
    environment: Vec<String>,
    sandbox: bool,
    /// The agent's own folder, which nothing in a sandbox sees.
    home: PathBuf,
}

impl Hands {
    /// For a project, by an agent whose state is in `home`.
    ///
    /// # Errors
    /// `PROJECT_UNMANAGED`: the user is not there.
    pub(super) fn of(project: &Project, home: &Path) -> Result<Self> {
        let managed = &project.managed;
        let owner = match &managed.user {
            None => None,
            Some(name) => Some(host::owner(name).ok_or_else(|| {
                let message = format!(
                    "there is no user {name:?}, as which the tools of {} run",
                    project.name
                );
                Error::refused("PROJECT_UNMANAGED", message, Vec::new())
            })?),
        };
        Ok(Self {
            owner,
            environment: managed.environment.clone(),
            sandbox: managed.sandbox,
            home: home.to_owned(),
        })
    }

    /// Where a program is.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`, with what to do.
    pub(super) fn find(&self, name: &str, hint: &str) -> Result<PathBuf> {
        let own = self.environment.iter().rev().find_map(|it| it.strip_prefix("PATH="));
        let path = own.map(Into::into).or_else(|| std::env::var_os("PATH")).unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|it| it.is_file())
            .ok_or_else(|| {
                let message = format!("there is no {name} on this host's PATH: {hint}");
                Error::refused("DEPENDENCY_TOOL_MISSING", message, Vec::new())
            })
    }

    /// Whether sandboxes can be made, where they are wanted.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`.
    pub(super) fn check_sandbox(&self) -> Result<()> {
        match self.sandbox {
            true => self
                .find("bwrap", "apt install bubblewrap, or set sandbox = false for the project")
                .map(drop),
            false => Ok(()),
        }
    }

    /// Gives what the agent has made to the project's user.
    ///
    /// # Errors
    /// `DEPENDENCY_UPDATE_FAILED`.
    pub(super) fn give(&self, folder: &Path) -> Result<()> {
        match self.owner {
            Some(owner) => trees::give(folder, owner).map_err(|error| {
                let message = format!("{} can't be given to the project's user", folder.display());
                Error::unavailable("DEPENDENCY_UPDATE_FAILED", message).caused_by(error)
            }),
            None => Ok(()),
        }
    }

    /// Runs a tool to its end.
    ///
    /// # Errors
    /// `HOOK_FAILED` when it can't be started, or takes too long.
    pub(super) async fn run(
        &self,
        command: Vec<String>,
        environment: &[(&str, String)],
        timeout: Duration,
    ) -> Result<Ran> {
        let mut all: Vec<String> =
            ["NO_COLOR=1", "PYTHONDONTWRITEBYTECODE=1"].map(str::to_owned).into();
        all.push(leftovers::mark(&self.home));
        all.extend(self.environment.iter().cloned());
        all.extend(environment.iter().map(|(name, value)| format!("{name}={value}")));
        let program = Program {
            command,
            environment: all,
            timeout,
            limit: OUTPUT,
            owner: self.owner,
            last_word: "KILL",
        };
        hooks::run_program(&program).await
    }

    /// Runs what may hold foreign code.
    ///
    /// # Errors
    /// Those of [`Hands::run`].
    pub(super) async fn run_apart(
        &self,
        command: &[String],
        view: &View<'_>,
        environment: &[(&str, String)],
        timeout: Duration,
    ) -> Result<Ran> {
        let command = match self.sandbox {
            true => sandboxed(command, view, &self.home),
            false => in_folder(command, view.folder),
        };
        self.run(command, environment, timeout).await
    }
}

/// What is seen in a sandbox of places that are hidden otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// Where it runs.
    pub(super) folder: &'a Path,
    /// What it may read.
    pub(super) readable: &'a [&'a Path],
    /// What it may change.
    pub(super) writable: &'a [&'a Path],
}

/// A command line that runs `command` in a sandbox: no network but a loopback of its own, no other processes, all files
/// read-only, the agent's own and those of running services not to be seen.
pub(super) fn sandboxed(command: &[String], view: &View<'_>, home: &Path) -> Vec<String> {
    let mut all: Vec<String> = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        .map(str::to_owned)
        .into();
    let mut option = |words: &[&str]| all.extend(words.iter().map(|it| (*it).to_owned()));
    let text = |path: &Path| path.display().to_string();
    for hidden in ["/tmp", "/run", "/var/tmp"] {
        option(&["--tmpfs", hidden]);
    }
    // What lies in a hidden place and is worked on is put back there.
    for place in std::iter::once(&view.folder).chain(view.readable) {
        option(&["--ro-bind", &text(place), &text(place)]);
    }
    for place in view.writable {
        option(&["--bind", &text(place), &text(place)]);
    }
    option(&["--tmpfs", &text(home)]);
    option(&["--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]);
    option(&["--cap-drop", "ALL", "--die-with-parent", "--new-session"]);
    option(&["--chdir", &text(view.folder), "--"]);
    all.extend(command.iter().cloned());
    all
}

fn in_folder(command: &[String], folder: &Path) -> Vec<String> {
    let script = "cd \"$1\" && shift && exec \"$@\"";
    let mut all: Vec<String> = ["sh", "-c", script, "sh"].map(str::to_owned).into();
    all.push(folder.display().to_string());
    all.extend(command.iter().cloned());
    all
}

/// What a tool said, without its colours and passwords, its last part where it is long.
pub(super) fn told(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let mut lines = Vec::new();
    let mut bytes = 0;
    for line in text.lines().rev().map(str::trim_end).filter(|line| !line.trim().is_empty()) {
        bytes += line.len() + 1;
        if bytes > TOLD {
            break;
        }
        lines.push(without_password(line));
    }
    lines.reverse();
    let mut all: String = lines.join("\n");
    all.retain(|it| !it.is_control() || it == '\n');
    all
}

/// A line without what stands between `://` and `@`.
fn without_password(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after.find(|it: char| it == '/' || it.is_whitespace()).unwrap_or(after.len());
        let authority = after.get(..end).unwrap_or_default();
        rest = match authority.rfind('@') {
            Some(at) => after.get(at + 1..).unwrap_or_default(),
            None => after,
        };
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tool_says_is_told_without_passwords_and_in_part() {
        let said = b"one\n\n  error: https://me:secret@host/simple and http://x/y a@b\n";
        assert_eq!(told(said), "one\n  error: https://host/simple and http://x/y a@b");
        let long: String = (0..1_000).map(|it| format!("line {it}\n")).collect();
        let shown = told(long.as_bytes());
        assert!(shown.len() <= TOLD && shown.ends_with("line 999"), "{shown}");
        assert_eq!(told(b"\x1b[31mred\x1b[0m \xff"), "[31mred[0m \u{fffd}");
    }

    #[test]
    fn a_sandbox_hides_the_agent_and_the_network() {
        let (folder, home) = (Path::new("/srv/app"), Path::new("/var/lib/genesis"));
        let work = Path::new("/srv/releases/.work");
        let view = View { folder, readable: &[], writable: &[work] };
        let all = sandboxed(&["pytest".to_owned()], &view, home).join(" ");
        for wanted in [
            "--ro-bind / /",
            "--tmpfs /var/lib/genesis",
            "--bind /srv/releases/.work /srv/releases/.work",
            "--unshare-net",
            "--cap-drop ALL",
            "--chdir /srv/app -- pytest",
        ] {
            assert!(all.contains(wanted), "{wanted}: {all}");
        }
    }
}
