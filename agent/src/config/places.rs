//! Where the agent keeps its state and its socket.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The longest path that a unix socket can be bound to, in bytes.
const SOCKET_PATH_LIMIT: usize = 107;

/// The agent's places on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Everything that lasts; 0700.
    pub state: PathBuf,
    /// The unix socket.
    pub socket: PathBuf,
}

impl Places {
    /// The places by the rules: `--state-dir` decides for both; else systemd's folders, root's, the user's.
    ///
    /// # Errors
    /// `STATE_DIR_UNKNOWN` without a home, `SOCKET_PATH_TOO_LONG`.
    pub fn find(given: Option<&Path>) -> Result<Self> {
        let variable = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let root = rustix::process::geteuid().is_root();
        let (state, socket) = match given {
            Some(folder) => {
                let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
                (folder.clone(), folder.join("agent.sock"))
            }
            None => {
                let state = variable("STATE_DIRECTORY")
                    .or_else(|| root.then(|| PathBuf::from("/var/lib/genesis")))
                    .or_else(|| variable("XDG_STATE_HOME").map(|folder| folder.join("genesis")))
                    .or_else(|| variable("HOME").map(|home| home.join(".local/state/genesis")))
                    .ok_or_else(|| {
                        let message =
                            "no HOME to keep the state under; name a folder with --state-dir";
                        Error::invalid("STATE_DIR_UNKNOWN", message)
                    })?;
                let socket = match variable("RUNTIME_DIRECTORY") {
                    Some(folder) => folder.join("agent.sock"),
                    None if root => PathBuf::from("/run/genesis/agent.sock"),
                    None => state.join("agent.sock"),
                };
                (state, socket)
            }
        };
        let length = socket.as_os_str().len();
        if length > SOCKET_PATH_LIMIT {
            let message = format!(
                "the socket path {} has {length} bytes, the system's limit is {SOCKET_PATH_LIMIT}; \
                 choose a shorter --state-dir",
                socket.display()
            );
            return Err(Error::invalid("SOCKET_PATH_TOO_LONG", message));
        }
        Ok(Self { state, socket })
    }

    /// The embedded database.
    pub fn database(&self) -> PathBuf {
        self.state.join("state.redb")
    }

    /// The file with the observations.
    pub fn observations(&self) -> PathBuf {
        self.state.join("observations.redb")
    }

    /// The file with the trades of experiments.
    pub fn trades(&self) -> PathBuf {
        self.state.join("trades.redb")
    }

    /// The file with the values of series.
    pub fn series(&self) -> PathBuf {
        self.state.join("series.redb")
    }

    /// The file with what is known of vulnerable packages.
    pub fn advisories(&self) -> PathBuf {
        self.state.join("advisories.redb")
    }

    /// The agent's own log.
    pub fn own_log(&self) -> PathBuf {
        self.state.join("logs/agent.log")
    }

    /// The emergency flag: while this file is there, an emergency is in force.
    pub fn emergency_flag(&self) -> PathBuf {
        self.state.join("EMERGENCY")
    }

    /// Says that positions are to be closed in the emergency that it names.
    pub fn closing_flag(&self) -> PathBuf {
        self.state.join("EMERGENCY-CLOSE")
    }

    /// What `genesis-agent pki` keeps, where it keeps it on this host.
    pub fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// The generations of the managed certificates, with their keys.
    pub fn certificates(&self) -> PathBuf {
        self.state.join("certs")
    }

    /// Where drills have their folders.
    pub fn drills(&self) -> PathBuf {
        self.state.join("drills")
    }

    /// The lock that holds the agent's process id.
    pub fn lock(&self) -> PathBuf {
        self.state.join("agent.lock")
    }
}
