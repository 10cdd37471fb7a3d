//! How the tools of a project are run: as its user, bounded, and what runs foreign code in a sandbox.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::config::Project;
use super::failed;
use crate::error::{Error, Result};
use crate::outside::hooks::{self, Program, Ran};
use crate::outside::{host, leftovers, trees};

/// A tool may take so long to choose versions, or to fetch and install what was chosen.
pub(super) const LONG: Duration = Duration::from_secs(1_800);
/// So much of what a tool says is read.
const OUTPUT: usize = 16 << 20;
/// So much of it is told.
const TOLD: usize = 2_000;
/// What of the agent's own environment tools get: it may hold secrets of others.
const HANDED_ON: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];
/// And what begins with that, but for what runs foreign code.
const OF_TOOLS: [&str; 4] = ["UV_", "PIP_", "CARGO_", "RUSTUP_"];
/// What a sandbox does not show, where it is there.
const HIDDEN: [&str; 8] =
    ["/tmp", "/run", "/var/tmp", "/root", "/home", "/etc/genesis", "/etc/ssh", "/etc/ssl/private"];
/// Files that it does not show.
const HIDDEN_FILES: [&str; 4] = ["/etc/shadow", "/etc/gshadow", "/etc/shadow-", "/etc/gshadow-"];

/// What runs the tools of one project.
#[derive(Debug, Clone)]
pub(super) struct Hands {
    owner: Option<(u32, u32)>,
    /// What the project's user is at home in.
    account: Vec<String>,
    environment: Vec<String>,
    sandbox: bool,
    /// The agent's own folder, which nothing in a sandbox sees.
    home: PathBuf,
}

impl Hands {
    /// For a project, by an agent whose state is in `home`.
    ///
    /// # Errors
    /// `PROJECT_UNMANAGED`: the user is not there, or the agent can't become it.
    pub(super) fn of(project: &Project, home: &Path) -> Result<Self> {
        let managed = &project.managed;
        let (mut owner, mut account) = (None, Vec::new());
        if let Some(name) = &managed.user {
            let refused = |why: &str| {
                let message = format!("the tools of {} can't run as {name:?}: {why}", project.name);
                Error::refused("PROJECT_UNMANAGED", message, Vec::new())
            };
            let found = host::owner(name).ok_or_else(|| refused("there is no such user"))?;
            if !rustix::process::geteuid().is_root() {
                return Err(refused("the agent is not root"));
            }
            owner = Some(found);
            account = vec![format!("USER={name}"), format!("LOGNAME={name}")];
            account.extend(host::home_of(name).map(|it| format!("HOME={}", it.display())));
        }
        Ok(Self {
            owner,
            account,
            environment: managed.environment.clone(),
            sandbox: managed.sandbox,
            home: home.to_owned(),
        })
    }

    /// The value of a variable, as tools see it.
    fn variable(&self, name: &str) -> Option<std::ffi::OsString> {
        let start = format!("{name}=");
        let own = self.environment.iter().rev().chain(&self.account);
        let own = own.into_iter().find_map(|it| it.strip_prefix(&start)).map(Into::into);
        own.or_else(|| std::env::var_os(name))
    }

    /// The folders that programs are looked for in.
    pub(super) fn path(&self) -> String {
        self.variable("PATH").unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Where a program is.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`, with what to do.
    pub(super) fn find(&self, name: &str, hint: &str) -> Result<PathBuf> {
        let path = self.variable("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join(name));
        found
            .into_iter()
            .find(|it| it.is_absolute() && it.is_file())
            .ok_or_else(|| missing(name, hint))
    }

    /// The folders of what cargo has fetched, and of toolchains, with the variables that say so: a sandbox hides some
    /// places, and they are looked for in HOME otherwise.
    pub(super) fn homes(&self) -> Vec<(&'static str, PathBuf)> {
        let home = self.variable("HOME").map(PathBuf::from);
        [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")]
            .into_iter()
            .filter_map(|(name, usual)| {
                let own = self.variable(name).map(PathBuf::from);
                let folder = own.or_else(|| Some(home.as_ref()?.join(usual)))?;
                folder.is_dir().then_some((name, folder))
            })
            .collect()
    }

    /// Whether sandboxes can be made, where they are wanted.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`.
    pub(super) fn check_sandbox(&self) -> Result<()> {
        match self.sandbox && hooks::find("bwrap").is_none() {
            true => Err(missing(
                "bwrap",
                "apt install bubblewrap, or set sandbox = false for the project",
            )),
            false => Ok(()),
        }
    }

    /// Gives what the agent has made to the project's user.
    ///
    /// # Errors
    /// `DEPENDENCY_UPDATE_FAILED`.
    pub(super) fn give(&self, folder: &Path) -> Result<()> {
        match self.owner {
            Some(owner) => give(folder, owner),
            None => Ok(()),
        }
    }

    /// Takes what the project's user has made: nobody changes it any more.
    ///
    /// # Errors
    /// `DEPENDENCY_UPDATE_FAILED`.
    pub(super) fn take(&self, folder: &Path) -> Result<()> {
        match self.owner {
            Some(_) => give(folder, (0, 0)),
            None => Ok(()),
        }
    }

    /// Reads a file that a tool has written, as the project's user: a link that it put there leads the agent nowhere.
    ///
    /// # Errors
    /// `DEPENDENCY_UPDATE_FAILED`.
    pub(super) async fn read(&self, path: &Path) -> Result<String> {
        let shown = path.display().to_string();
        let command = vec![own_program("cat")?, "--".to_owned(), shown.clone()];
        let ran = self.run(command, &[], LONG).await?;
        let text = String::from_utf8(ran.stdout).ok().filter(|it| it.len() < OUTPUT);
        text.filter(|_| ran.succeeded).ok_or_else(|| {
            let message = format!("{shown} can't be read: {}", told_in_line(&ran.stderr));
            Error::unavailable("DEPENDENCY_UPDATE_FAILED", message)
        })
    }

    /// Copies a file of the agent's to where a tool wants it, as the project's user.
    ///
    /// # Errors
    /// `DEPENDENCY_UPDATE_FAILED`.
    pub(super) async fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let script = "mkdir -p -- \"$(dirname -- \"$2\")\" && cp -- \"$1\" \"$2\"".to_owned();
        let mut command = vec![own_program("sh")?, "-c".to_owned(), script, "sh".to_owned()];
        command.extend([from, to].map(|it| it.display().to_string()));
        let ran = self.run(command, &[], LONG).await?;
        match ran.succeeded {
            true => Ok(()),
            false => {
                let message =
                    format!("{} can't be written: {}", to.display(), told_in_line(&ran.stderr));
                Err(Error::unavailable("DEPENDENCY_UPDATE_FAILED", message))
            }
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
        self.start(command, (true, environment), timeout).await
    }

    async fn start(
        &self,
        command: Vec<String>,
        (tool, more): (bool, &[(&str, String)]),
        timeout: Duration,
    ) -> Result<Ran> {
        let handed_on = std::env::vars().filter(|(name, _)| {
            HANDED_ON
                .iter()
                .any(|it| name.eq_ignore_ascii_case(it) && (*it != "PATH" || name == "PATH"))
                || (tool && OF_TOOLS.iter().any(|it| name.starts_with(it)))
        });
        let mut all: Vec<String> =
            handed_on.map(|(name, value)| format!("{name}={value}")).collect();
        all.extend(["NO_COLOR=1", "PYTHONDONTWRITEBYTECODE=1"].map(str::to_owned));
        all.push(leftovers::mark(&self.home));
        all.extend(self.account.iter().chain(&self.environment).cloned());
        all.extend(more.iter().map(|(name, value)| format!("{name}={value}")));
        let program = Program {
            command,
            environment: all,
            clean: true,
            timeout,
            limit: OUTPUT,
            owner: self.owner,
            last_word: "KILL",
        };
        hooks::run_program(&program).await
    }

    /// Runs what may hold foreign code. `path` is where its programs are looked for.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`, and those of [`Hands::run`].
    pub(super) async fn run_apart(
        &self,
        command: &[String],
        (view, path): (&View<'_>, &str),
        environment: &[(&str, String)],
        timeout: Duration,
    ) -> Result<Ran> {
        let command = match self.sandbox {
            true => sandboxed(&own_program("bwrap")?, command, (view, path), &self.home),
            false => in_folder(&own_program("sh")?, command, (view.folder, path)),
        };
        self.start(command, (false, environment), timeout).await
    }
}

/// A program of the host's own, whatever the project's PATH is.
///
/// # Errors
/// `DEPENDENCY_TOOL_MISSING`.
pub(super) fn own_program(name: &str) -> Result<String> {
    let found = hooks::find(name).ok_or_else(|| missing(name, "install it"))?;
    Ok(found.display().to_string())
}

/// Writes what a tool is to read: the project's user may, though files of the agent's are its own.
///
/// # Errors
/// `DEPENDENCY_UPDATE_FAILED`.
pub(super) fn offer(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(path);
        std::fs::create_dir_all(folder)?;
        std::fs::write(path, text)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
    };
    write().map_err(|error| failed(path, error))
}

fn missing(name: &str, hint: &str) -> Error {
    let message = format!("there is no {name} on this host's PATH: {hint}");
    Error::refused("DEPENDENCY_TOOL_MISSING", message, Vec::new())
}

fn give(folder: &Path, owner: (u32, u32)) -> Result<()> {
    trees::give(folder, owner).map_err(|error| {
        let message = format!("{} can't be given away, or taken back", folder.display());
        Error::unavailable("DEPENDENCY_UPDATE_FAILED", message).caused_by(error)
    })
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
/// read-only, the agent's own, homes, secrets of the host and what running services share not to be seen.
pub(super) fn sandboxed(
    bwrap: &str,
    command: &[String],
    (view, path): (&View<'_>, &str),
    home: &Path,
) -> Vec<String> {
    let mut all: Vec<String> = [bwrap, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        .map(str::to_owned)
        .into();
    let mut option = |words: &[&str]| all.extend(words.iter().map(|it| (*it).to_owned()));
    let text = |path: &Path| path.display().to_string();
    for hidden in HIDDEN.iter().filter(|it| Path::new(it).is_dir() && !Path::new(it).is_symlink()) {
        option(&["--tmpfs", hidden]);
    }
    for hidden in HIDDEN_FILES.iter().filter(|it| Path::new(it).is_file()) {
        option(&["--ro-bind", "/dev/null", hidden]);
    }
    // What lies in a hidden place and is worked on is put back there.
    for place in std::iter::once(&view.folder).chain(view.readable) {
        option(&["--ro-bind", &text(place), &text(place)]);
    }
    // Where programs are looked for, a home may be among it.
    let folders = std::env::split_paths(path)
        .filter(|folder| folder.is_dir() && HIDDEN.iter().any(|it| folder.starts_with(it)));
    for folder in folders {
        option(&["--ro-bind", &text(&folder), &text(&folder)]);
    }
    for place in view.writable {
        option(&["--bind", &text(place), &text(place)]);
    }
    // Where it is hidden already, there is nothing to put over.
    let seen = |folder: &Path| {
        let shown = std::iter::once(&view.folder).chain(view.readable).chain(view.writable);
        let hidden = HIDDEN.iter().any(|it| folder.starts_with(it));
        !hidden || shown.into_iter().any(|it| folder.starts_with(it))
    };
    if seen(home) {
        option(&["--tmpfs", &text(home)]);
    }
    option(&["--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]);
    option(&["--cap-drop", "ALL", "--die-with-parent", "--new-session"]);
    // The sandbox itself must not be looked for where its content says.
    option(&["--setenv", "PATH", path]);
    option(&["--chdir", &text(view.folder), "--"]);
    all.extend(command.iter().cloned());
    all
}

fn in_folder(sh: &str, command: &[String], (folder, path): (&Path, &str)) -> Vec<String> {
    let script = "cd \"$1\" && PATH=$2 && export PATH && shift 2 && exec \"$@\"";
    let mut all: Vec<String> = [sh, "-c", script, "sh"].map(str::to_owned).into();
    all.push(folder.display().to_string());
    all.push(path.to_owned());
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

/// The same in one line, for an error.
pub(super) fn told_in_line(output: &[u8]) -> String {
    told(output).lines().map(str::trim).collect::<Vec<_>>().join("; ")
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
        let own = sandboxed("/usr/bin/bwrap", &["pytest".to_owned()], (&view, "/srv/bin"), home);
        let all = own.join(" ");
        for wanted in [
            "--ro-bind / /",
            "--tmpfs /var/lib/genesis",
            "--bind /srv/releases/.work /srv/releases/.work",
            "--unshare-net",
            "--cap-drop ALL",
            "--tmpfs /root",
            "--setenv PATH /srv/bin",
            "--chdir /srv/app -- pytest",
        ] {
            assert!(all.contains(wanted), "{wanted}: {all}");
        }
    }
}
