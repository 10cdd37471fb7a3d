//! Monit, the peer of the agent's checks. Needs `apt-get install monit`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Outcome;

/// A Monit in the foreground that ends with this, however the benchmark ends.
pub(crate) struct Monit {
    child: Child,
    log: PathBuf,
}

impl Drop for Monit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Monit {
    /// Starts one on `folder` with `services`, which pauses so many seconds after each round.
    pub(crate) fn start(folder: &Path, pause: u32, services: &str) -> Outcome<Self> {
        let (control, log) = (folder.join("monitrc"), folder.join("monit.log"));
        let place = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "set daemon {pause}\nset log {}\nset pidfile {}\nset idfile {}\nset statefile {}\n{services}",
            log.display(),
            place("monit.pid"),
            place("monit.id"),
            place("monit.state"),
        );
        fs::write(&control, text)?;
        // It reads no control file that others may read.
        fs::set_permissions(&control, fs::Permissions::from_mode(0o600))?;
        let run = |option: &str| {
            let mut command = Command::new("monit");
            command.arg("-c").arg(&control).arg(option);
            command
        };
        let said = run("-t").output().map_err(|_| "no monit here: apt-get install monit")?;
        if !said.status.success() {
            return Err(String::from_utf8_lossy(&said.stderr).into_owned().into());
        }
        let child = run("-I").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it complained about, which is nothing when all of its checks are well.
    pub(crate) fn complaints(&self) -> Outcome<String> {
        let log = fs::read_to_string(&self.log)?;
        let lines = log.lines().filter(|line| line.contains(" error "));
        Ok(lines.take(5).collect::<Vec<_>>().join("\n"))
    }
}
