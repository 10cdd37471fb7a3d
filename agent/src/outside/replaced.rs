//! Processes that still run what was replaced on the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use procfs::process::{MMapPath, Process};

/// The clock of process starts is that coarse.
const COARSE: Duration = Duration::from_secs(1);
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
}

/// Looks at all processes. Blocking.
///
/// # Errors
/// When processes can't be listed, or the link can't be looked at.
pub fn look(place: &Place) -> io::Result<Seen> {
    let moved = std::fs::symlink_metadata(&place.link)?.modified()?;
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

fn judge(process: &Process, program: &Path, place: &Place, moved: SystemTime) -> Verdict {
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
        let Ok(below) = path.strip_prefix(&place.releases) else { continue };
        ours = true;
        if !path.starts_with(&place.current) {
            let release = below.components().next();
            let release = release.map(|it| it.as_os_str().to_string_lossy().into_owned());
            return Verdict::Stale(format!("it runs {}", release.unwrap_or_default()));
        }
    }
    if program.starts_with(&place.link)
        && let Some(started) = started(process)
        && started + COARSE < moved
    {
        return Verdict::Stale("it was started before the link was moved".to_owned());
    }
    match (ours, readable) {
        (false, _) => Verdict::Other,
        (true, false) => Verdict::Unreadable,
        (true, true) => Verdict::Current,
    }
}

fn started(process: &Process) -> Option<SystemTime> {
    let since_boot = process.stat().ok()?.starttime / procfs::ticks_per_second();
    let boot = procfs::boot_time_secs().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(boot.checked_add(since_boot)?))
}
