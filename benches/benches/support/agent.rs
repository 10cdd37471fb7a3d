//! A release agent on a folder of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Outcome, program};

/// An agent that ends with this, however the benchmark ends.
pub(crate) struct Agent {
    child: Child,
    state: PathBuf,
    /// Its page and /metrics.
    pub(crate) http: SocketAddr,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    /// Starts one on `folder` and waits until it is ready.
    pub(crate) fn start(folder: &Path, config: &str) -> Outcome<Self> {
        let (file, state) = (folder.join("agent.toml"), folder.join("state"));
        fs::write(&file, format!("[listen]\nhttp = \"127.0.0.1:0\"\n{config}"))?;
        let mut child = Command::new(program("genesis-agent")?)
            .arg("--config")
            .arg(&file)
            .arg("--state-dir")
            .arg(&state)
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or("no stderr")?;
        let mut agent = Self { child, state, http: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut lines = BufReader::new(stderr).lines();
        let mut said = String::new();
        loop {
            let Some(line) = lines.next() else { return Err(said.into()) };
            let line = line?;
            if line.starts_with("try: ") {
                break;
            }
            let address = line.split_once(", http ").and_then(|(_, rest)| rest.split(',').next());
            if let Some(address) = address {
                agent.http = address.parse()?;
            }
            said.push_str(&line);
        }
        // Whatever else it says goes nowhere, and must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(agent)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.state.join("agent.sock")
    }

    /// Runs genesisctl on it, and returns what it writes.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Outcome<Vec<u8>> {
        let node = format!("unix:{}", self.socket().display());
        let output =
            Command::new(program("genesisctl")?).args(["-n", &node]).args(arguments).output()?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("genesisctl {}: {said}", arguments.join(" ")).into())
        }
    }

    /// A field of `/proc/PID/status`, in KiB.
    pub(crate) fn status_kib(&self, field: &str) -> Outcome<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).ok_or("no such field")?;
        Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
    }

    /// Bytes that it has asked the kernel to read so far, from files and sockets.
    pub(crate) fn bytes_read(&self) -> Outcome<u64> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("rchar: ")).ok_or("no rchar")?;
        Ok(line.parse()?)
    }
}
