//! The host: its name, the agent's own footprint, and who holds a file open.

use std::fs;
use std::io;
use std::path::Path;

use crate::outside::files;
use crate::outside::lease::{self, Writers};

/// Whether writers still hold a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holders {
    /// Proven: nobody can write to it any more.
    Released,
    /// Somebody can; the process ids that could be seen, which may be none.
    Held(Vec<u32>),
    /// It could not be found out; the reason says why. Never counts as released.
    Unknown(String),
}

/// The host that the agent runs on.
#[derive(Debug, Default)]
pub struct Host;

impl Host {
    /// The host's name, or "unknown-host".
    pub fn hostname(&self) -> String {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        if name.is_empty() { "unknown-host".into() } else { name }
    }

    /// Resident memory of this process in bytes; 0 where it can't be read.
    pub fn resident_bytes(&self) -> u64 {
        let pages = fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|statm| statm.split(' ').nth(1)?.parse::<u64>().ok())
            .unwrap_or(0);
        pages * rustix::param::page_size() as u64
    }

    /// CPU time used by this process so far, in seconds; 0 where it can't be read.
    pub fn cpu_seconds(&self) -> f64 {
        let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return 0.0 };
        // The second field, the name in parentheses, may hold spaces; count from behind it.
        let Some((_, rest)) = stat.rsplit_once(')') else { return 0.0 };
        let field = |index: usize| {
            rest.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok())
        };
        let ticks = field(11).unwrap_or(0.0) + field(12).unwrap_or(0.0);
        ticks / rustix::param::clock_ticks_per_second() as f64
    }

    /// Who can still write to the file at `path`, which must be the inode `(device, inode)`.
    ///
    /// A lease is the proof; where none is to be had, a complete look through `/proc/*/fd`.
    pub fn writers(&self, path: &Path, device: u64, inode: u64) -> Holders {
        let opened =
            files::open_no_follow(path).and_then(|file| Ok((files::identity(&file)?, file)));
        let verdict = match opened {
            Ok((seen, file)) if seen == (device, inode) => lease::writers_of(&file),
            Ok(_) => return Holders::Unknown(format!("{} is another file by now", path.display())),
            Err(error) => {
                return Holders::Unknown(format!("can't open {}: {error}", path.display()));
            }
        };
        match verdict {
            Writers::None => Holders::Released,
            Writers::Some => Holders::Held(scan(device, inode).0),
            Writers::Unknown => match scan(device, inode) {
                (pids, _) if !pids.is_empty() => Holders::Held(pids),
                (_, 0) if sees_every_process() => Holders::Released,
                (_, hidden) => Holders::Unknown(format!(
                    "no lease to be had on {} and {hidden} processes hide their open files, others may be hidden altogether; \
                     run the agent as the file's owner or give it CAP_LEASE",
                    path.display()
                )),
            },
        }
    }
}

/// Whether `/proc` lists every process of the host: it is the first process namespace's, and not mounted
/// with `hidepid`. Where that can't be told, it does not count as proven.
fn sees_every_process() -> bool {
    // The first process namespace has a fixed inode, PROC_PID_INIT_INO of the kernel's proc_ns.h.
    let first =
        fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    first && lists_all(&mounts)
}

/// Whether the mount of `/proc` in a text like `/proc/self/mounts` hides no process.
fn lists_all(mounts: &str) -> bool {
    // The last mount over a folder is the one that is seen.
    let seen = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some("/proc"));
    let options = seen.and_then(|line| line.split(' ').nth(3));
    options.is_some_and(|options| {
        let hidden = options.split(',').find_map(|option| option.strip_prefix("hidepid="));
        hidden.is_none_or(|value| value == "0" || value == "off")
    })
}

/// The processes that have the inode open for writing, and how many processes could not be looked into.
fn scan(device: u64, inode: u64) -> (Vec<u32>, usize) {
    let (mut pids, mut hidden) = (Vec::new(), 0);
    let Ok(processes) = procfs::process::all_processes() else { return (pids, 1) };
    for process in processes {
        match process {
            Ok(process) => match holds(process.pid, device, inode) {
                Ok(true) => pids.push(process.pid.cast_unsigned()),
                Ok(false) => {}
                Err(error) if ended(&error) => {}
                Err(_) => hidden += 1,
            },
            Err(procfs::ProcError::NotFound(_)) => {}
            Err(_) => hidden += 1,
        }
    }
    (pids, hidden)
}

/// Whether an error only means that a process or its descriptor is gone by now.
fn ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Whether a process has the inode open for writing. Anything that can't be looked at is an error.
fn holds(pid: i32, device: u64, inode: u64) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        match fs::metadata(entry.path()) {
            Ok(target)
                if target.dev() == device && target.ino() == inode && may_write(pid, &entry) =>
            {
                return Ok(true);
            }
            Ok(_) => {}
            // A pipe or a closed descriptor has no file behind it any more.
            Err(error) if ended(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether a descriptor is open for writing; one that can't be read counts as such.
fn may_write(pid: i32, descriptor: &fs::DirEntry) -> bool {
    let info = format!("/proc/{pid}/fdinfo/{}", descriptor.file_name().to_string_lossy());
    let Ok(text) = fs::read_to_string(info) else { return true };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    // The access mode is the last two bits: 0 is read only.
    flags
        .and_then(|flags| i64::from_str_radix(flags.trim(), 8).ok())
        .is_none_or(|flags| flags & 3 != 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_proc_that_hides_processes_proves_nothing() {
        for (options, all) in [
            ("rw,nosuid", true),
            ("rw,hidepid=0", true),
            ("rw,hidepid=off", true),
            ("rw,hidepid=2", false),
            ("rw,hidepid=invisible", false),
            ("rw,hidepid=ptraceable,subset=pid", false),
        ] {
            assert_eq!(
                lists_all(&format!("x / ext4 rw 0 0\nproc /proc proc {options} 0 0\n")),
                all,
                "{options}"
            );
        }
        assert!(!lists_all("x / ext4 rw 0 0\n"), "no mount, no proof");
        assert!(
            !lists_all("proc /proc proc rw 0 0\nproc /proc proc rw,hidepid=2 0 0\n"),
            "the last one counts"
        );
    }

    #[test]
    fn a_writer_is_seen_and_a_reader_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut writer = std::fs::File::create(&path).unwrap();
        writer.write_all(b"x").unwrap();
        let facts = std::fs::metadata(&path).unwrap();
        let look = || Host.writers(&path, facts.dev(), facts.ino());
        assert_eq!(look(), Holders::Held(vec![std::process::id()]));
        assert_eq!(scan(facts.dev(), facts.ino()).0, [std::process::id()]);
        drop(writer);
        let _reader = std::fs::File::open(&path).unwrap();
        assert_eq!(look(), Holders::Released);
        assert!(scan(facts.dev(), facts.ino()).0.is_empty());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(look(), Holders::Unknown(_)));
    }
}
