//! Processes that still run what was replaced on the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use procfs::process::{MMapPath, Process};

/// A process that is older than the link by less than that may have been started just after it was moved.
const COARSE: Duration = Duration::from_millis(200);
/// So many are told.
const MOST: usize = 100;

/// A process that runs what was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// Its id.
    pub pid: u32,
    /// Its program and arguments, cut.
    pub command: String,
    /// How one can tell.
    pub why: String,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Who runs what was replaced.
    pub stale: Vec<Stale>,
    /// So many run what is in service.
    pub current: usize,
    /// So many are of the project and can't be looked at.
    pub unreadable: usize,
}

/// Where releases are, and which is in service.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder with the releases.
    pub releases: PathBuf,
    /// The link to the one in service.
    pub link: PathBuf,
    /// Where it leads.
    pub current: PathBuf,
    /// Releases that are elsewhere.
    pub others: Vec<PathBuf>,
}

/// Looks at all processes. Blocking.
///
/// # Errors
/// When processes can't be listed, or the link can't be looked at.
pub fn look(place: &Place, now: Timestamp) -> io::Result<Seen> {
    let moved = std::fs::symlink_metadata(&place.link)?.modified()?;
    // A time that was set back since says nothing.
    let moved = SystemTime::try_from(now).ok().and_then(|now| now.duration_since(moved).ok());
    let own = std::process::id();
    let mut seen = Seen::default();
    for process in procfs::process::all_processes().map_err(io::Error::other)?.flatten() {
        let pid = process.pid().cast_unsigned();
        if pid == own {
            continue;
        }
        let Ok(command) = process.cmdline() else { continue };
        // A kernel thread, or one that has ended.
        let Some(program) = command.first().map(PathBuf::from) else { continue };
        let program = match program.components().count() {
            // It was started from a folder.
            2.. if program.is_relative() => process.cwd().unwrap_or_default().join(program),
            _ => program,
        };
        match judge(&process, &program, place, moved) {
            Verdict::Other => {}
            Verdict::Current => seen.current += 1,
            Verdict::Unreadable => seen.unreadable += 1,
            Verdict::Stale(why) if seen.stale.len() < MOST => {
                let command: String = command.join(" ").chars().take(200).collect();
                seen.stale.push(Stale { pid, command, why });
            }
            Verdict::Stale(_) => {}
        }
    }
    Ok(seen)
}

enum Verdict {
    Other,
    Current,
    Unreadable,
    Stale(String),
}

fn judge(process: &Process, program: &Path, place: &Place, moved: Option<Duration>) -> Verdict {
    let named = program.starts_with(&place.link) || program.starts_with(&place.releases);
    let mut paths = vec![program.to_owned()];
    let mapped = process.maps().map(|maps| {
        maps.into_iter()
            .filter_map(
                |map| if let MMapPath::Path(path) = map.pathname { Some(path) } else { None },
            )
            .collect::<Vec<_>>()
    });
    let readable = mapped.is_ok();
    paths.extend(mapped.unwrap_or_default());
    paths.extend(process.exe().ok());
    let mut ours = named;
    for path in &paths {
        if path.starts_with(&place.current) {
            ours = true;
            continue;
        }
        if let Some(other) = place.others.iter().find(|other| path.starts_with(other)) {
            return Verdict::Stale(format!("it runs {}", other.display()));
        }
        let Ok(below) = path.strip_prefix(&place.releases) else { continue };
        let release = below.components().next();
        let release = release.map(|it| it.as_os_str().to_string_lossy().into_owned());
        return Verdict::Stale(format!("it runs {}", release.unwrap_or_default()));
    }
    if program.starts_with(&place.link)
        && let (Some(age), Some(moved)) = (age(process), moved)
        && age > moved + COARSE
    {
        return Verdict::Stale("it was started before the link was moved".to_owned());
    }
    match (ours, readable) {
        (false, _) => Verdict::Other,
        (true, false) => Verdict::Unreadable,
        (true, true) => Verdict::Current,
    }
}

/// How long ago a process was started, by the clock that counts from the boot.
fn age(process: &Process) -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};

    let started = process.stat().ok()?.starttime as f64 / procfs::ticks_per_second() as f64;
    let now = clock_gettime(ClockId::Boottime);
    let now = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
    Duration::try_from_secs_f64(now - started).ok()
}
