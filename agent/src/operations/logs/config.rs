//! `[logs]`, `[[logs.source]]`, `[logs.archive]`: the defaults are the procedures' numbers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::source::{Mode, Source, own, read_source};
use crate::config::Places;
use crate::config::reader::Section;
use crate::outside::archive::folder_of;
use crate::outside::files;
use crate::outside::heads;
use crate::scheduler::calendar::Schedule;

/// The agent's own log, which is always a source.
pub const OWN_TYPE: &str = "agent";
/// At most this many sources.
const SOURCE_LIMIT: usize = 256;
pub(super) const DAY: Duration = Duration::from_secs(86_400);

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
            let key = format!("logs.source {}", source.log_type);
            let patterns = source.paths.iter().filter_map(|pattern| files::matching(pattern).ok());
            for path in patterns.flat_map(|found| found.paths) {
                let facts = files::look(&path).ok().flatten();
                if let Some(facts) = &facts
                    && let Err(unmet) = super::plan::admissible(&path, facts)
                {
                    problems.push((key.clone(), unmet.message));
                } else if matches!(source.mode, Mode::Collapse { .. })
                    && let Err(why) = heads::can_collapse(&path)
                {
                    problems.push((key.clone(), why));
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
