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
