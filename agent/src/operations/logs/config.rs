//! `[logs]`, `[[logs.source]]`, `[logs.archive]`: the defaults are the procedures' numbers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::segment::TimestampFormat;
use crate::config::Places;
use crate::config::reader::{Inline, Section, quoted};
use crate::config::units::parse_duration;
use crate::outside::archive::folder_of;
use crate::outside::files;
use crate::outside::hooks::Hook;
use crate::outside::process::ReopenSignal;
use crate::scheduler::calendar::Schedule;

/// The agent's own log, which is always a source.
pub const OWN_TYPE: &str = "agent";
/// At most this many sources.
const SOURCE_LIMIT: usize = 256;
const DAY: Duration = Duration::from_secs(86_400);

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
    /// How the writer lets go.
    pub reopen: Reopen,
    /// How a line's time is read.
    pub format: TimestampFormat,
    /// Local copies are kept so long after their last line.
    pub local_retention: Duration,
    /// Archived copies are kept so long after their last line.
    pub archive_retention: Duration,
    /// Nothing of it is ever deleted.
    pub hold: bool,
}

/// Log archival's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Sealed copies are kept here for the local retention.
    pub local_dir: PathBuf,
    /// The agent's state folder: nothing in it is anybody else's log.
    pub state_dir: PathBuf,
    /// Where segments go.
    pub archive_url: String,
    /// The archive's folder.
    pub archive_dir: PathBuf,
    /// A writer that holds a renamed file longer is reported.
    pub release_grace: Duration,
    /// When local copies are looked through.
    pub local_schedule: Schedule,
    /// When the archive is looked through.
    pub archive_schedule: Schedule,
    /// By type; the agent's own log first.
    pub sources: Vec<Source>,
}

impl Config {
    /// The source of a type.
    pub fn source(&self, log_type: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.log_type == log_type)
    }

    /// Reads the sections; problems go to the record behind `root`.
    pub fn read(root: &Section<'_>, places: &Places) -> Self {
        let section = root.table("logs");
        let local_default = places.state.join("logs/sealed").display().to_string();
        let local_dir = section.parsed(
            "local_dir",
            Some(""),
            "Absolute folder for sealed copies while their local retention lasts. Empty: logs/sealed in the state folder.",
            |text| match text {
                "" => Ok(PathBuf::from(&local_default)),
                text if text.starts_with('/') => Ok(PathBuf::from(text)),
                text => Err(format!("{text:?} must be an absolute path")),
            },
        );
        let release_grace = section.duration(
            "release_grace",
            "60s",
            Duration::from_secs(1)..=DAY,
            "A writer that still holds a rotated file after this time is reported. The file is waited for, however long it takes.",
        );
        let rotate_default = "10MB";
        let schedule = |key, default: &'static str, help| {
            section
                .parsed(key, Some(default), help, Schedule::parse)
                .or_else(|| Schedule::parse(default).ok())
        };
        let local_schedule = schedule(
            "local_retention_schedule",
            "01:15",
            "When local copies past their retention are deleted (only those verified in the archive).",
        );
        let archive_schedule = schedule(
            "archive_retention_schedule",
            "01:45",
            "When archived segments past their retention are deleted.",
        );
        let archive = section.table("archive");
        let archive_default = places.state.join("archive");
        let archive_url = archive.parsed(
            "url",
            Some(""),
            "Where sealed segments go: file:///absolute/folder. Empty: archive in the state folder.",
            |text| {
                let url = if text.is_empty() { format!("file://{}", archive_default.display()) } else { text.to_owned() };
                folder_of(&url).map(|folder| (url, folder))
            },
        );
        archive.finish();
        let (archive_url, archive_dir) = archive_url.unwrap_or_default();
        let mut config = Self {
            local_dir: local_dir.unwrap_or_default(),
            state_dir: places.state.clone(),
            archive_url,
            archive_dir,
            release_grace,
            // The fallback strings parse; a test of the defaults proves it.
            local_schedule: local_schedule.unwrap_or_else(daily),
            archive_schedule: archive_schedule.unwrap_or_else(daily),
            sources: vec![own(places)],
        };
        let sections = section.tables("source", SOURCE_LIMIT);
        let mut names = BTreeSet::from([OWN_TYPE.to_owned()]);
        for section in &sections {
            section.entry_header();
            let source = read_source(section, rotate_default, &config, &mut names);
            config.sources.extend(source);
        }
        for section in sections {
            section.finish();
        }
        section.finish();
        config
    }

    /// What the host does not let this configuration do, as key and message.
    pub fn check_host(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for (key, folder) in
            [("logs.archive.url", &self.archive_dir), ("logs.local_dir", &self.local_dir)]
        {
            if let Err(why) = files::writable(folder) {
                problems.push((key.to_owned(), why));
            }
        }
        for source in &self.sources {
            for path in source
                .paths
                .iter()
                .filter_map(|pattern| files::matching(pattern).ok())
                .flat_map(|found| found.paths)
            {
                if let Ok(Some(facts)) = files::look(&path)
                    && let Err(unmet) = super::plan::admissible(&path, &facts)
                {
                    problems.push((format!("logs.source {}", source.log_type), unmet.message));
                }
            }
        }
        problems
    }
}

fn daily() -> Schedule {
    // Parsing a constant; the test of the defaults would fail first.
    #[allow(clippy::expect_used)]
    Schedule::parse("01:15").expect("a constant schedule parses")
}

fn own(places: &Places) -> Source {
    Source {
        log_type: OWN_TYPE.into(),
        paths: vec![places.own_log().display().to_string()],
        rotate_bytes: 10_000_000,
        reopen: Reopen::Own,
        format: TimestampFormat::Json { key: "timestamp".into() },
        local_retention: 30 * DAY,
        archive_retention: 365 * DAY,
        hold: false,
    }
}

fn log_type(text: &str) -> Result<String, String> {
    let ok = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    let starts =
        text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if text == OWN_TYPE {
        Err(format!("{text:?} is the agent's own log, which is always a source"))
    } else if starts && text.len() <= 32 && text.bytes().all(ok) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is no log type; use 1 to 32 of a-z, 0-9, '-' and '_', such as \"trading\""
        ))
    }
}

fn read_source(
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
    let mode = section.parsed(
        "rotate_mode",
        Some("reopen"),
        "How a file is cut. reopen: renamed, then its writer is told to open a new one.",
        |text| {
            if text == "reopen" {
                Ok(())
            } else {
                Err(format!("{text:?} is not a mode this version has; use \"reopen\""))
            }
        },
    );
    let reopen = read_reopen(section);
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
    mode?;
    Some(Source {
        log_type: name?,
        paths,
        rotate_bytes,
        reopen: reopen?,
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
    for folder in [&config.archive_dir, &config.local_dir, &config.state_dir] {
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

fn read_reopen(section: &Section<'_>) -> Option<Reopen> {
    const HELP: &str = "How the writer lets go of a renamed file: { signal = \"HUP\", pidfile = \"/run/x.pid\" }, \
                        { command = [\"argv\", ...], timeout = \"30s\" }, or \"by-itself\" (it notices, or opens the file for each line).";
    let Some(value) = section.inline("reopen", "", HELP) else {
        section.problem(
            "reopen",
            "is missing: say how the writer lets go of a renamed file, such as { signal = \"HUP\", pidfile = \"/run/x.pid\" }, \
             { command = [\"systemctl\", \"reload\", \"x\"] } or \"by-itself\"",
        );
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
                read_command(section, &table)
            } else {
                read_signal(section, &table)
            };
            table.finish();
            reopen
        }
    }
}

fn read_command(section: &Section<'_>, table: &Section<'_>) -> Option<Reopen> {
    let command = table.quiet_list("command");
    let timeout = match table.quiet_text("timeout") {
        None => Duration::from_secs(30),
        Some(text) => match parse_duration(&text) {
            Ok(timeout) if timeout <= Duration::from_secs(600) && !timeout.is_zero() => timeout,
            Ok(_) => {
                table.problem("timeout", "must be over 0 and at most 10m");
                return None;
            }
            Err(why) => {
                table.problem("timeout", why);
                return None;
            }
        },
    };
    if command.is_empty() {
        table.problem("command", "must be a list of strings: the program and its arguments");
        return None;
    }
    let shown: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    section.effective_inline(
        "reopen",
        &format!("{{ command = [{}], timeout = \"{}s\" }}", shown.join(", "), timeout.as_secs()),
    );
    Some(Reopen::Command(Hook { command, timeout }))
}

fn read_signal(section: &Section<'_>, table: &Section<'_>) -> Option<Reopen> {
    let (signal, pidfile) = (table.quiet_text("signal"), table.quiet_text("pidfile"));
    let (Some(signal), Some(pidfile)) = (signal, pidfile) else {
        table.problem("signal", "a reopen table needs signal and pidfile, or command");
        return None;
    };
    if !pidfile.starts_with('/') {
        table.problem("pidfile", format!("{pidfile:?} must be an absolute path"));
        return None;
    }
    match ReopenSignal::parse(&signal) {
        Ok(parsed) => {
            section.effective_inline(
                "reopen",
                &format!("{{ signal = {}, pidfile = {} }}", quoted(&signal), quoted(&pidfile)),
            );
            Some(Reopen::Signal { signal: parsed, pidfile: pidfile.into() })
        }
        Err(why) => {
            table.problem("signal", why);
            None
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
