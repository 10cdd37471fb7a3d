//! What names a thing: domains, addresses, paths, permissions.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::config::reader::Section;

/// The name of a CA or a certificate: it becomes a folder or a file.
pub(super) fn entry_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match (1..=64).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with(['.', '-'])
    {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{text:?} is no name: 1 to 64 of letters, digits, '.', '-', '_', beginning with a letter or digit"
        )),
    }
}

/// A DNS name, a wildcard, or an address; in lower case.
pub(super) fn domain(text: &str) -> Result<String, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match name.len() <= 253 && name.contains('.') && name.split('.').all(label) {
        true => Ok(lower),
        false => Err(format!(
            "{text:?} is neither a DNS name such as \"gw.example.com\" (others than ASCII as \"xn--...\"), nor an address"
        )),
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address and port, such as \"192.0.2.1:53\""))
}

pub(super) fn url(text: &str) -> Result<String, String> {
    match url::Url::parse(text) {
        Ok(url)
            if url.scheme() == "https" && url.username().is_empty() && url.password().is_none() =>
        {
            Ok(text.to_owned())
        }
        // It may hold a password.
        Ok(url) => Err(format!(
            "the URL at {:?} must begin with https:// and hold no user or password",
            url.host_str().unwrap_or_default()
        )),
        Err(why) => Err(format!("{text:?} is no URL: {why}")),
    }
}

pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err(format!("{text:?} must be an absolute path")),
    }
}

pub(super) fn optional(text: &str) -> Result<Option<PathBuf>, String> {
    if text.is_empty() { Ok(None) } else { absolute(text).map(Some) }
}

/// "host:port", or nothing.
pub(super) fn probe(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("{text:?} is no \"host:port\"");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    match !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) {
        true => Ok(Some(text.to_owned())),
        false => Err(wrong()),
    }
}

/// The name that is asked for in a handshake, or nothing.
pub(super) fn server_name(text: &str) -> Result<Option<String>, String> {
    match rustls_pki_types::ServerName::try_from(text) {
        _ if text.is_empty() => Ok(None),
        Ok(_) => Ok(Some(text.to_owned())),
        Err(_) => Err(format!(
            "{text:?} is no name that TLS can ask for: a DNS name without wildcard, or an address"
        )),
    }
}

/// Permissions in octal: what others may do is at most reading.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o644 == 0 && mode & 0o400 != 0 => Ok(mode),
        _ => Err(format!("{text:?} is not a mode from \"0400\" to \"0644\"")),
    }
}

/// What of a list can be read; the rest is reported.
pub(super) fn name_list<T>(
    entry: &Section<'_>,
    key: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    texts
        .iter()
        .filter_map(|text| parse(text).map_err(|why| entry.problem(key, why)).ok())
        .collect()
}
