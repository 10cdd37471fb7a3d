//! Where an agent listens.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest path that a unix socket can have on Linux, in bytes.
pub const SOCKET_PATH_LIMIT: usize = 107;

/// The socket of an agent that runs as a service.
const SYSTEM_SOCKET: &str = "/run/genesis/agent.sock";

/// The address of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    /// A unix socket, by its absolute path.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// A name or an address; an IPv6 address without its brackets.
        host: String,
        /// From 1.
        port: u16,
    },
}

/// Why a text does not name an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Nothing was given.
    #[error("an empty node: write host:port or unix:/path/agent.sock")]
    Empty,
    /// A unix socket by a path that depends on the working folder.
    #[error("node {0:?}: the socket's path must be absolute, such as unix:/run/genesis/agent.sock")]
    Relative(String),
    /// The kernel takes no such path.
    #[error(
        "node {path:?}: a socket path has at most {SOCKET_PATH_LIMIT} bytes, this one has {bytes}: \
         use a shorter state folder, or a short symbolic link to it"
    )]
    TooLong {
        /// The path as given.
        path: String,
        /// Its length.
        bytes: usize,
    },
    /// A host without a port.
    #[error("node {0:?} names no port: write host:port, such as {0}:7443")]
    NoPort(String),
    /// The port is no number from 1 to 65535.
    #[error("node {0:?}: the port must be a number from 1 to 65535")]
    Port(String),
    /// The host part holds what no host name or address does.
    #[error("node {0:?}: not a host name or address: write host:port, or [address]:port for IPv6")]
    Host(String),
}

impl Node {
    /// The unix socket at `path`.
    ///
    /// # Errors
    /// When the path is relative, holds a NUL, or has more than [`SOCKET_PATH_LIMIT`] bytes.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, NodeError> {
        let path = path.into();
        let bytes = path.as_os_str().as_bytes();
        if !path.is_absolute() || bytes.contains(&0) {
            return Err(NodeError::Relative(path.display().to_string()));
        }
        if bytes.len() > SOCKET_PATH_LIMIT {
            return Err(NodeError::TooLong {
                path: path.display().to_string(),
                bytes: bytes.len(),
            });
        }
        Ok(Self::Unix(path))
    }
}

impl FromStr for Node {
    type Err = NodeError;

    fn from_str(text: &str) -> Result<Self, NodeError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(NodeError::Empty);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///run/x` is how URLs write `unix:/run/x`.
            let bare = path.strip_prefix("//").filter(|bare| bare.starts_with('/'));
            return Self::unix(bare.unwrap_or(path));
        }
        if text.starts_with(['/', '.']) {
            return Self::unix(text);
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(|| NodeError::Host(text.into()))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(NodeError::Host(text.into()));
            }
            (host, port.strip_prefix(':').ok_or_else(|| NodeError::NoPort(text.into()))?)
        } else {
            let (host, port) =
                text.rsplit_once(':').ok_or_else(|| NodeError::NoPort(text.into()))?;
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
                return Err(NodeError::Host(text.into()));
            }
            (host, port)
        };
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(port) if digits && port > 0 => Ok(Self::Tcp { host: host.into(), port }),
            _ => Err(NodeError::Port(text.into())),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// The sockets at which a local agent may listen, in the order in which they are tried: the service's,
/// then the user's (`$XDG_STATE_HOME/genesis/agent.sock`, else `~/.local/state/genesis/agent.sock`).
///
/// `env` looks up an environment variable.
///
/// # Errors
/// When the user's socket path is too long to exist; the message says what to do.
pub fn local_sockets(env: impl Fn(&str) -> Option<String>) -> Result<Vec<Node>, NodeError> {
    let mut nodes = vec![Node::unix(SYSTEM_SOCKET)?];
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    if let Some(state) = state {
        nodes.push(Node::unix(state.join("genesis/agent.sock"))?);
    }
    Ok(nodes)
}

/// The agents to talk to where the caller named none: `GENESISCTL_NODES` (comma-separated), else the first
/// of [`local_sockets`] that accepts a connection, else the first that exists, else the first.
///
/// # Errors
/// When `GENESISCTL_NODES` holds what is not a node, or a path is too long.
pub fn discover(env: impl Fn(&str) -> Option<String>) -> Result<Vec<Node>, NodeError> {
    if let Some(list) = env("GENESISCTL_NODES").filter(|list| !list.trim().is_empty()) {
        return list.split(',').map(str::parse).collect();
    }
    let sockets = local_sockets(env)?;
    let paths = || sockets.iter().filter_map(socket_path);
    let existing = paths().filter(|path| path.exists()).count();
    // Only a choice between several needs a trial connection.
    let chosen = match existing {
        0 => None,
        1 => paths().position(Path::exists),
        _ => paths()
            .position(|path| std::os::unix::net::UnixStream::connect(path).is_ok())
            .or_else(|| paths().position(Path::exists)),
    };
    Ok(sockets.into_iter().skip(chosen.unwrap_or(0)).take(1).collect())
}

fn socket_path(node: &Node) -> Option<&Path> {
    match node {
        Node::Unix(path) => Some(path),
        Node::Tcp { .. } => None,
    }
}
