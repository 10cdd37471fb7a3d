//! What the operator's own programs are reached by: a command, a signal. Read alike wherever a key takes one.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Section, list_text, quoted};
use super::units::parse_duration;
use crate::outside::hooks::Hook;
use crate::outside::process::ReopenSignal;

/// The longest that a command may take.
const LONGEST: Duration = Duration::from_secs(600);

/// The time that the table gives under `timeout`; 30 s without it. A problem is reported, and is `None`.
pub fn timeout(table: &Section<'_>) -> Option<Duration> {
    let Some(text) = table.quiet_text("timeout") else { return Some(Duration::from_secs(30)) };
    match parse_duration(&text) {
        Ok(timeout) if timeout <= LONGEST && !timeout.is_zero() => Some(timeout),
        Ok(_) => {
            table.problem("timeout", "must be over 0 and at most 10m");
            None
        }
        Err(why) => {
            table.problem("timeout", why);
            None
        }
    }
}

/// `{ command = ["argv", ...], timeout = "30s" }`, the value of `key` in `section`.
pub fn hook(section: &Section<'_>, key: &str, table: &Section<'_>) -> Option<Hook> {
    let command = table.quiet_list("command");
    let timeout = timeout(table)?;
    if command.is_empty() {
        table.problem("command", "must be a list of strings: the program and its arguments");
        return None;
    }
    let shown = list_text(command.iter().map(String::as_str));
    let milliseconds = timeout.as_millis();
    section
        .effective_inline(key, &format!("{{ command = {shown}, timeout = \"{milliseconds}ms\" }}"));
    Some(Hook { command, timeout })
}

/// A service that speaks gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    /// "http://host:port", "https://host:port" or "unix:/path".
    pub target: String,
    /// PEM file of the authorities that may vouch for it; `None` for those of the host.
    pub ca: Option<PathBuf>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// `{ grpc = "http://127.0.0.1:9000", timeout = "2s", ca_file = "/path" }`, the value of `key` in `section`. An answer
/// takes `usual` where the table says nothing of that.
pub fn grpc(
    section: &Section<'_>,
    key: &str,
    table: &Section<'_>,
    usual: Duration,
) -> Option<Grpc> {
    let target = table.quiet_text("grpc")?;
    let (ca, timeout) = (table.quiet_text("ca_file"), table.quiet_text("timeout"));
    let known = ["http://", "https://", "unix:/"];
    if !known.iter().any(|start| target.starts_with(start)) {
        table.problem("grpc", format!("{target:?} must begin with http://, https:// or unix:/"));
        return None;
    }
    let timeout = match timeout.as_deref().map_or(Ok(usual), parse_duration) {
        Ok(timeout) if !timeout.is_zero() && timeout <= Duration::from_secs(60) => timeout,
        Ok(_) => {
            table.problem("timeout", "must be over 0 and at most 1m");
            return None;
        }
        Err(why) => {
            table.problem("timeout", why);
            return None;
        }
    };
    let shown = ca.as_deref().map_or_else(String::new, |ca| format!(", ca_file = {}", quoted(ca)));
    let milliseconds = timeout.as_millis();
    section.effective_inline(
        key,
        &format!("{{ grpc = {}, timeout = \"{milliseconds}ms\"{shown} }}", quoted(&target)),
    );
    Some(Grpc { target, ca: ca.map(PathBuf::from), timeout })
}

/// `{ signal = "HUP", pidfile = "/run/x.pid" }`, the value of `key` in `section`.
pub fn signal(
    section: &Section<'_>,
    key: &str,
    table: &Section<'_>,
) -> Option<(ReopenSignal, PathBuf)> {
    let (signal, pidfile) = (table.quiet_text("signal"), table.quiet_text("pidfile"));
    let (Some(signal), Some(pidfile)) = (signal, pidfile) else {
        table.problem("signal", format!("{key} needs signal and pidfile, or a command"));
        return None;
    };
    if !pidfile.starts_with('/') {
        table.problem("pidfile", format!("{pidfile:?} must be an absolute path"));
        return None;
    }
    match ReopenSignal::parse(&signal) {
        Ok(parsed) => {
            let shown =
                format!("{{ signal = {}, pidfile = {} }}", quoted(&signal), quoted(&pidfile));
            section.effective_inline(key, &shown);
            Some((parsed, pidfile.into()))
        }
        Err(why) => {
            table.problem("signal", why);
            None
        }
    }
}
