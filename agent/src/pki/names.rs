//! What things may be called: fleets, certificates, hosts, nodes, roles, serial numbers. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest name of a fleet or a certificate, in bytes.
const NAME_LIMIT: usize = 63;

/// What a certificate makes of its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A client that reads.
    Viewer,
    /// A client that runs operations.
    Operator,
    /// A client that may do everything.
    Admin,
    /// A server.
    Agent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Agent => "agent",
        })
    }
}

/// A serial number: a positive integer of 128 bits, in hex of 32 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial([u8; 16]);

impl Serial {
    /// Sixteen random bytes as a serial number; `None` when they are not a positive integer of exactly
    /// sixteen octets in DER, so that its hex form has one spelling.
    pub fn from_random(bytes: [u8; 16]) -> Option<Self> {
        (1..=0x7f).contains(&bytes[0]).then_some(Self(bytes))
    }

    /// Big-endian, as in the certificate.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl FromStr for Serial {
    type Err = String;

    /// Reads hex in either case, with or without colons, as other programs print it.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|letter| *letter != ':').collect();
        let mut bytes = [0; 16];
        hex::decode_to_slice(&digits, &mut bytes)
            .ok()
            .and_then(|()| Self::from_random(bytes))
            .ok_or_else(|| format!("{text:?} is no serial number of 32 hex digits"))
    }
}

impl TryFrom<String> for Serial {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

/// Checks the name of a fleet, a certificate or a context; `what` names it in the refusal.
///
/// # Errors
/// `PKI_NAME_INVALID`.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let sound = name.len() <= NAME_LIMIT
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|byte| plain(byte) || byte == b'.' || byte == b'-');
    if sound {
        return Ok(());
    }
    let message = format!(
        "{what} {name:?} is not allowed: 1 to {NAME_LIMIT} of a-z, 0-9, '.' and '-', beginning with a letter or a digit"
    );
    Err(Error::invalid("PKI_NAME_INVALID", message))
}

/// The identity in a certificate.
pub(super) fn identity(fleet: &str, role: Role, name: &str) -> String {
    format!("genesis://{fleet}/{role}/{name}")
}

/// What a server is reached under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A DNS name, in lower case.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// Reads a host as a TLS client does; `None` for what no client could ask for.
pub(super) fn host(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse() {
        return Some(Host::Ip(address));
    }
    // Clients strip the final dot before they compare, so a name in a certificate must not have one.
    if text.ends_with('.') {
        return None;
    }
    match ServerName::try_from(text) {
        Ok(ServerName::DnsName(name)) => Some(Host::Dns(name.as_ref().to_ascii_lowercase())),
        _ => None,
    }
}

/// The hosts of a server certificate: its own name where that is a host, then the given ones, each once.
///
/// # Errors
/// `PKI_HOST_INVALID` for a host that is neither a DNS name nor an address, or when there would be none.
pub(super) fn server_hosts(name: &str, given: &[String]) -> Result<Vec<Host>> {
    let mut hosts: Vec<Host> = host(name).into_iter().collect();
    for text in given {
        let found = host(text).ok_or_else(|| {
            Error::invalid(
                "PKI_HOST_INVALID",
                format!("--host {text:?} is neither a DNS name nor an IP address"),
            )
        })?;
        if !hosts.contains(&found) {
            hosts.push(found);
        }
    }
    if hosts.is_empty() {
        let message = format!("{name:?} is no DNS name; name what clients connect to with --host");
        return Err(Error::invalid("PKI_HOST_INVALID", message));
    }
    Ok(hosts)
}

/// Checks a node of a context: `host:port`, `address:port` or `[address]:port`.
///
/// # Errors
/// `PKI_NODE_INVALID`.
pub(super) fn check_node(node: &str) -> Result<()> {
    let sound = node.rsplit_once(':').is_some_and(|(name, port)| {
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let known = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !name.contains(':') && host(name).is_some(),
        };
        known && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if sound {
        return Ok(());
    }
    let message = format!("--node {node:?} is not HOST:PORT, such as web-1:7443 or [fd00::1]:7443");
    Err(Error::invalid("PKI_NODE_INVALID", message))
}
