//! An operator's laptop: a home with a context in it, taken over from the file that `genesis-agent pki issue`
//! wrote.

use std::path::PathBuf;
use std::process::Command;

use genesis_agent::pki::Role;
use tempfile::TempDir;

use crate::binaries;
use crate::client::{Output, ctl_env};
use crate::pki::Authority;

/// A home folder with the context `prod` in use.
pub struct Laptop {
    home: TempDir,
}

impl Laptop {
    /// Has a certificate issued by `genesis-agent pki issue`, and takes its context over.
    ///
    /// # Panics
    /// When either fails.
    pub fn new(authority: &Authority, role: Role, nodes: &[String]) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("from-the-host.toml");
        let mut issue = Command::new(binaries::agent());
        issue.args(["pki", "--dir"]).arg(authority.dir());
        issue.args(["issue", "--name", &format!("olga-{role}"), "--role", &role.to_string()]);
        issue.arg("--out").arg(home.path()).arg("--context").arg(&file);
        for node in nodes {
            issue.args(["--node", node]);
        }
        let output = issue.output().expect("the agent's program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let laptop = Self { home };
        let file = file.display().to_string();
        laptop.ctl(&["context", "add", "prod", "--from", &file, "--use"]).ok();
        laptop
    }

    /// genesisctl in this process, with this home.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        let home = self.home.path().display().to_string();
        ctl_env(arguments, &[("HOME", &home)])
    }

    /// genesisctl as a process of its own, with this home.
    pub fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binaries::client());
        command.args(arguments).env_clear().env("HOME", self.home.path());
        command
    }

    /// The file of its contexts.
    pub fn contexts(&self) -> PathBuf {
        self.home.path().join(".config/genesis/genesisctl.toml")
    }
}
