//! `[[logs.source]]`: one type of log, and how it is cut.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::{Config, DAY, OWN_TYPE};
use super::segment::TimestampFormat;
use crate::config::reader::{Inline, Section, quoted};
use crate::config::{Places, means};
use crate::outside::files;
use crate::outside::hooks::Hook;
use crate::outside::process::ReopenSignal;

/// How a log is taken from its writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// It is renamed, and its writer told to open a new one.
    Reopen(Reopen),
    /// Whole blocks are cut out of its front, under writers that only append and never reopen it.
    Collapse {
        /// Processes that hide their open files are taken to append, where they write to it at all.
        assume_append: bool,
    },
    /// The application begins a new file by itself; a file that is done is archived.
    Direct {
        /// Unchanged for so long, and open for writing nowhere, it is done.
        settle: Duration,
    },
    /// It is copied and then cut to nothing. What is written in between is lost, and counted.
    CopyTruncate,
}

impl Mode {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reopen(_) => "reopen",
            Self::Collapse { .. } => "collapse",
            Self::Direct { .. } => "direct",
            Self::CopyTruncate => "copytruncate",
        }
    }
}

/// How a writer is told to let go of a file that was renamed away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reopen {
    /// A signal to the process that a pidfile names.
    Signal {
        /// Which.
        signal: ReopenSignal,
        /// Where its process id stands.
        pidfile: PathBuf,
    },
    /// A command.
    Command(Hook),
    /// The writer notices by itself, or opens the file for each line.
    ByItself,
    /// The agent's own log.
    Own,
}

/// One `[[logs.source]]`.
#[derive(Debug, Clone)]
pub struct Source {
    /// The log type.
    pub log_type: String,
    /// Absolute globs.
    pub paths: Vec<String>,
    /// Cut at this size in bytes.
    pub rotate_bytes: u64,
    /// How it is cut.
    pub mode: Mode,
    /// How a line's time is read.
    pub format: TimestampFormat,
    /// Local copies are kept so long after their last line.
    pub local_retention: Duration,
    /// Archived copies are kept so long after their last line.
    pub archive_retention: Duration,
    /// Nothing of it is ever deleted.
    pub hold: bool,
}

pub(super) fn own(places: &Places) -> Source {
    Source {
        log_type: OWN_TYPE.into(),
        paths: vec![places.own_log().display().to_string()],
        rotate_bytes: 10_000_000,
        mode: Mode::Reopen(Reopen::Own),
        format: TimestampFormat::Json { key: "timestamp".into() },
        local_retention: 30 * DAY,
        archive_retention: 365 * DAY,
        hold: false,
    }
}

/// Whether a log type may have this name; names of files and objects are made of it.
///
/// # Errors
/// Why not.
pub(super) fn named(text: &str) -> Result<(), String> {
    let ok = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    let starts =
        text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if starts && text.len() <= 32 && text.bytes().all(ok) {
        return Ok(());
    }
    Err(format!(
        "{text:?} is no log type; use 1 to 32 of a-z, 0-9, '-' and '_', such as \"trading\""
    ))
}

fn log_type(text: &str) -> Result<String, String> {
    if text == OWN_TYPE {
        return Err(format!("{text:?} is the agent's own log, which is always a source"));
    }
    named(text).map(|()| text.to_owned())
}

pub(super) fn read_source(
    section: &Section<'_>,
    rotate_default: &str,
    config: &Config,
    names: &mut BTreeSet<String>,
) -> Option<Source> {
    let name = section.parsed(
        "type",
        None,
        "The log type: 1 to 32 of a-z, 0-9, '-' and '_'. It names the segments.",
        log_type,
    );
    if let Some(name) = name.as_ref().filter(|name| !names.insert((*name).clone())) {
        section.problem("type", format!("{name:?} is used by another source already"));
    }
    let paths = section.list(
        "paths",
        &[],
        true,
        "Absolute paths or globs of the files that a writer appends to.",
    );
    for pattern in &paths {
        if let Err(why) = check_pattern(pattern, config) {
            section.problem("paths", why);
        }
    }
    let rotate_bytes = section.size(
        "rotate_size",
        rotate_default,
        4096..(1 << 40) + 1,
        "Cut the file once it is at least this big. MB is 10^6 bytes, MiB is 2^20.",
    );
    let mode = read_mode(section);
    let format = read_format(section);
    let retention = Duration::ZERO..=36_500 * DAY;
    let local_retention = section.duration(
        "local_retention",
        "30d",
        retention.clone(),
        "Local copies are deleted so long after their last line, and only once verified in the archive.",
    );
    let archive_retention = section.duration(
        "archive_retention",
        "365d",
        retention,
        "Archived segments are deleted so long after their last line.",
    );
    let hold = section.flag("hold", false, "Delete nothing of this type, whatever its age.");
    if archive_retention < local_retention {
        section.problem(
            "archive_retention",
            "is shorter than local_retention; archived copies must outlive local ones",
        );
    }
    Some(Source {
        log_type: name?,
        paths,
        rotate_bytes,
        mode: mode?,
        format: format?,
        local_retention,
        archive_retention,
        hold,
    })
}

fn check_pattern(pattern: &str, config: &Config) -> Result<(), String> {
    if !pattern.starts_with('/') {
        return Err(format!("{pattern:?} must be an absolute path or glob"));
    }
    if pattern.len() > 1024 || Path::new(pattern).components().any(|part| part.as_os_str() == "..")
    {
        return Err(format!("{pattern:?} must have at most 1024 bytes and no \"..\""));
    }
    let literal = pattern.split(['*', '?', '[']).next().unwrap_or_default();
    for folder in config.own_folders() {
        let within = Path::new(literal).starts_with(folder);
        let sample = folder.join("t/2000/01/01/h-t-20000101T000000.000Z-00000001.log.gz");
        let matches = files::could_match(pattern, &sample)
            .map_err(|why| format!("{pattern:?} is no glob: {why}"))?;
        if within || matches {
            return Err(format!(
                "{pattern:?} matches archived segments in {}; they would be archived again",
                folder.display()
            ));
        }
    }
    Ok(())
}

fn read_mode(section: &Section<'_>) -> Option<Mode> {
    let name = section.parsed(
        "rotate_mode",
        Some("reopen"),
        "How a file is cut. reopen: renamed, then its writer is told to open a new one. collapse: for writers that only append and \
         never reopen, on ext4 and xfs; the front of the file is archived and cut out under them, and nothing is lost. direct: the \
         application begins a new file by itself, as dated ones; those that are done are archived, whatever their size. copytruncate: \
         copied, then cut to nothing; what is written in between is lost.",
        |text| match text {
            "reopen" | "collapse" | "direct" | "copytruncate" => Ok(text.to_owned()),
            _ => Err(format!("{text:?} is not one of reopen, collapse, direct, copytruncate")),
        },
    );
    let lossy = section.flag(
        "allow_lossy",
        false,
        "Allow rotate_mode = \"copytruncate\", which loses what is written between the copy and the cut. What it saw vanish is counted.",
    );
    let assume_append = section.flag(
        "assume_append",
        false,
        "In rotate_mode = \"collapse\": processes that hide their open files from the agent do not write to this log, or only append. \
         Without it collapse is refused while there are any. Those that can be seen are looked at all the same.",
    );
    let settle = section.duration(
        "settle",
        "60s",
        Duration::from_secs(1)..=DAY,
        "In rotate_mode = \"direct\": a file that did not change for so long, and that no process has open for writing, is done.",
    );
    let inline = section.inline("reopen", "", REOPEN_HELP);
    let name = name?;
    if name == "reopen" {
        return read_reopen(section, inline).map(Mode::Reopen);
    }
    if inline.is_some() {
        section.problem("reopen", format!("is of no use with rotate_mode = {name:?}, which leaves the writer its file; take it out"));
        return None;
    }
    match name.as_str() {
        "collapse" => Some(Mode::Collapse { assume_append }),
        "direct" => Some(Mode::Direct { settle }),
        _ if lossy => Some(Mode::CopyTruncate),
        _ => {
            section.problem(
                "rotate_mode",
                "\"copytruncate\" loses what is written between the copy and the cut; use \"collapse\" (ext4, xfs) or \"reopen\", \
                 or say allow_lossy = true",
            );
            None
        }
    }
}

const REOPEN_HELP: &str = "In rotate_mode = \"reopen\", how the writer lets go of a renamed file: { signal = \"HUP\", pidfile = \"/run/x.pid\" }, \
                           { command = [\"argv\", ...], timeout = \"30s\" }, or \"by-itself\" (it notices, or opens the file for each line).";

fn read_reopen(section: &Section<'_>, value: Option<Inline<'_>>) -> Option<Reopen> {
    let Some(value) = value else {
        if !section.has("reopen") {
            section.problem(
                "reopen",
                "is missing: say how the writer lets go of a renamed file, such as { signal = \"HUP\", pidfile = \"/run/x.pid\" }, \
                 { command = [\"systemctl\", \"reload\", \"x\"] } or \"by-itself\"; for a writer that can't, see rotate_mode",
            );
        }
        return None;
    };
    match value {
        Inline::Text(text) if text == "by-itself" => {
            section.effective_inline("reopen", "\"by-itself\"");
            Some(Reopen::ByItself)
        }
        Inline::Text(text) => {
            section.problem(
                "reopen",
                format!("{text:?} is neither \"by-itself\" nor a table with a signal or a command"),
            );
            None
        }
        Inline::Table(table) => {
            let reopen = if table.has("command") {
                means::hook(section, "reopen", &table).map(Reopen::Command)
            } else {
                let told = means::signal(section, "reopen", &table);
                told.map(|(signal, pidfile)| Reopen::Signal { signal, pidfile })
            };
            table.finish();
            reopen
        }
    }
}

fn read_format(section: &Section<'_>) -> Option<TimestampFormat> {
    const HELP: &str = "How a line's time is read: \"rfc3339\" (at its start), { json = \"key\" }, or { regex = \"...\" } whose \
                        first group is an RFC 3339 time. A line without one takes the time of the line before.";
    match section.inline("timestamp", "\"rfc3339\"", HELP) {
        None => {
            section.effective_inline("timestamp", "\"rfc3339\"");
            Some(TimestampFormat::Rfc3339)
        }
        Some(Inline::Text(text)) if text == "rfc3339" => {
            section.effective_inline("timestamp", "\"rfc3339\"");
            Some(TimestampFormat::Rfc3339)
        }
        Some(Inline::Text(text)) => {
            section.problem(
                "timestamp",
                format!(
                    "{text:?} is neither \"rfc3339\" nor {{ json = ... }} nor {{ regex = ... }}"
                ),
            );
            None
        }
        Some(Inline::Table(table)) => {
            let (json, regex) = (table.quiet_text("json"), table.quiet_text("regex"));
            table.finish();
            match (json, regex) {
                (Some(key), None) if !key.is_empty() => {
                    section
                        .effective_inline("timestamp", &format!("{{ json = {} }}", quoted(&key)));
                    Some(TimestampFormat::Json { key })
                }
                (None, Some(pattern)) => {
                    match regex::bytes::RegexBuilder::new(&pattern).size_limit(1 << 20).build() {
                        Ok(regex) if regex.captures_len() >= 2 => {
                            section.effective_inline(
                                "timestamp",
                                &format!("{{ regex = {} }}", quoted(&pattern)),
                            );
                            Some(TimestampFormat::Regex(regex))
                        }
                        Ok(_) => {
                            section.problem(
                                "timestamp",
                                "the regex needs a group around the time, such as ^\\[([^]]+)\\]",
                            );
                            None
                        }
                        Err(error) => {
                            section.problem(
                                "timestamp",
                                format!("the regex can't be used: {error}").replace('\n', " "),
                            );
                            None
                        }
                    }
                }
                _ => {
                    section.problem("timestamp", "needs exactly one of json and regex");
                    None
                }
            }
        }
    }
}
