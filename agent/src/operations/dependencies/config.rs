//! `[dependencies]` and `[[dependencies.project]]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::config::reader::Section;
use crate::scheduler::calendar::Schedule;

pub mod managed;

pub use managed::Managed;

const DAY: Duration = Duration::from_secs(86_400);
/// At most so many projects are configured.
const PROJECTS: usize = 200;
/// Of one, so many manifests, and so many findings that are ignored.
const MANIFESTS: usize = 50;
const IGNORED: usize = 1_000;

/// What the configuration says of dependencies.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Files or folders with advisories in OSV's format.
    pub advisories: Vec<PathBuf>,
    /// The file with the vulnerabilities that use is made of.
    pub kev: Option<PathBuf>,
    /// The file with the likelihoods.
    pub epss: Option<PathBuf>,
    /// A file that is older says nothing any more.
    pub max_age: Duration,
    /// Nor does one whose newest record is.
    pub max_silence: Duration,
    /// When everything is updated.
    pub schedule: Schedule,
    /// What is scanned.
    pub projects: Vec<Project>,
}

/// An application whose dependencies are looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// The folder that it is in.
    pub root: PathBuf,
    /// The files that say what is locked, below the root.
    pub manifests: Vec<PathBuf>,
    /// How it is updated.
    pub managed: Managed,
    /// What nobody wants to hear of for some time.
    pub ignored: Vec<Ignored>,
}

/// A finding that nobody wants to hear of for some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Any of its names.
    pub id: String,
    /// Until then.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub by: String,
}

impl Config {
    /// What the text says.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("dependencies");
        let advisories = section.list(
            "advisories",
            &[],
            false,
            "Files (.zip, .json) and folders with advisories in OSV's format, such as a mirror of the PyPA and RustSec databases. \
             They are imported when they change.",
        );
        let advisories =
            advisories.iter().filter_map(|path| absolute(&section, "advisories", path));
        let advisories = advisories.collect();
        let optional = |key, help| {
            let text = section.text(key, Some(""), help);
            Some(text)
                .filter(|text| !text.is_empty())
                .and_then(|text| absolute(&section, key, &text))
        };
        let kev = optional(
            "kev",
            "CISA's catalogue of known exploited vulnerabilities, a JSON file. Without it nothing is known to be exploited.",
        );
        let epss = optional(
            "epss",
            "FIRST's likelihoods of exploitation (EPSS), a CSV file, plain or with gzip.",
        );
        let max_age = section.duration(
            "advisories_max_age",
            "48h",
            Duration::from_secs(3_600)..=365 * DAY,
            "A file of advisories that is older says nothing any more: a scan comes out unknown. Its age counts from its date.",
        );
        let max_silence = section.duration(
            "advisories_max_silence",
            "30d",
            DAY..=3_650 * DAY,
            "Nor does one whose newest record is older: a mirror may fetch the same old file again and again.",
        );
        let schedule = section.parsed(
            "schedule",
            Some("Mon#1 04:00"),
            "When each project that can be updated is, by its own strategy; UTC.",
            Schedule::parse,
        );
        let mut projects: Vec<Project> = Vec::new();
        for entry in section.tables("project", PROJECTS) {
            if let Some(project) = read_project(&entry) {
                if projects.iter().any(|it| it.name == project.name) {
                    entry.problem("name", "is there twice");
                }
                let places = |it: &Project| it.managed.deploy.as_ref().map(|it| it.places());
                let own = places(&project);
                let shared = projects.iter().filter_map(places).any(|other| {
                    own.as_ref().is_some_and(|own| own.0 == other.0 || own.1 == other.1)
                });
                if shared {
                    entry.problem("deploy", "shares its link or releases_dir with another project");
                }
                projects.push(project);
            }
            entry.finish();
        }
        section.finish();
        let schedule = schedule.unwrap_or_else(|| Schedule::constant("Mon#1 04:00"));
        Self { advisories, kev, epss, max_age, max_silence, schedule, projects }
    }
}

fn absolute(section: &Section<'_>, key: &str, text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    section.problem(key, format!("{text:?} is not an absolute path"));
    None
}

fn read_project(entry: &Section<'_>) -> Option<Project> {
    entry.entry_header();
    let name = entry.parsed("name", None, "What the project is called.", |text| {
        let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let begins = text.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
        match (1..=64).contains(&text.len()) && begins && text.bytes().all(ok) {
            true => Ok(text.to_owned()),
            false => Err(format!("{text:?} is no name; use 1 to 64 of a-z, A-Z, 0-9 and -_.")),
        }
    });
    let root = entry.parsed("root", None, "The folder that it is in.", |text| {
        let path = Path::new(text);
        path.is_absolute()
            .then(|| path.to_owned())
            .ok_or(format!("{text:?} is not an absolute path"))
    });
    let manifests = entry.list(
        "manifests",
        &[],
        true,
        "The files that say which versions are locked, below root: requirements.txt and the like, Cargo.lock. Files that they \
         include are read too.",
    );
    if manifests.len() > MANIFESTS {
        entry.problem("manifests", format!("has more than {MANIFESTS} entries"));
    }
    let mut paths = Vec::new();
    for text in manifests.iter().take(MANIFESTS) {
        let path = Path::new(text);
        let inside = path.components().all(|it| matches!(it, std::path::Component::Normal(_)));
        match inside {
            true => paths.push(path.to_owned()),
            false => entry.problem("manifests", format!("{text:?} is not a path below root")),
        }
    }
    let managed = managed::read(entry);
    let mut ignored = Vec::new();
    for ignore in entry.tables("ignore", IGNORED) {
        ignored.extend(read_ignored(&ignore));
        ignore.finish();
    }
    Some(Project { name: name?, root: root?, manifests: paths, managed, ignored })
}

fn read_ignored(entry: &Section<'_>) -> Option<Ignored> {
    entry.entry_header();
    let given = |text: &str| match text.trim() {
        "" => Err("must not be empty".to_owned()),
        text => Ok(text.to_owned()),
    };
    let id = entry.parsed(
        "id",
        None,
        "A finding that nobody wants to hear of for some time, by any of its names, such as CVE-2024-35195.",
        given,
    );
    let until = entry.parsed(
        "until",
        None,
        "When that ends: a day such as 2027-01-31, up to and with it (UTC), or a time.",
        until,
    );
    let reason = entry.parsed("reason", None, "Why.", given);
    let by = entry.parsed("by", None, "Who says so.", given);
    Some(Ignored { id: id?, until: until?, reason: reason?, by: by? })
}

/// The first moment that a finding is heard of again.
pub fn until(text: &str) -> Result<Timestamp, String> {
    let wrong = |_| format!("{text:?} is neither a day, such as \"2027-01-31\", nor a time");
    match text.parse::<jiff::civil::Date>() {
        Ok(day) => {
            let next = day.tomorrow().map_err(wrong)?;
            jiff::tz::TimeZone::UTC.to_timestamp(next.at(0, 0, 0, 0)).map_err(wrong)
        }
        Err(_) => text.parse::<Timestamp>().map_err(wrong),
    }
}
