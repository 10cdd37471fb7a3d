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

/// Whether whoever can write to a file can only append to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appending {
    /// Every process that has it open for writing appends (O_APPEND), or none has.
    All,
    /// These have it open for writing at a place of their own.
    Not(Vec<u32>),
    /// Not every process could be looked into. Never counts as appending.
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

    /// How busy the host is now, a line each: load, memory, and room on the root's file system.
    pub fn busy(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Ok(text) = std::fs::read_to_string("/proc/loadavg") {
            let load: Vec<&str> = text.split(' ').take(3).collect();
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            lines.push(format!("load {} on {cores} core(s)", load.join(" ")));
        }
        if let Ok(text) = std::fs::read_to_string("/proc/meminfo") {
            let of = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().trim_end_matches(" kB").parse::<u64>().ok()
            };
            if let (Some(free), Some(all)) = (of("MemAvailable:"), of("MemTotal:")) {
                let (free, all) = (free >> 10, all >> 10);
                lines.push(format!("memory {free} of {all} MiB available"));
            }
        }
        if let Ok(found) = rustix::fs::statvfs("/") {
            let of = |blocks: u64| blocks.saturating_mul(found.f_frsize) >> 20;
            let (free, all) = (of(found.f_bavail), of(found.f_blocks));
            lines.push(format!("disk / {free} of {all} MiB free"));
        }
        lines
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

    /// How those who have the inode open for writing write to it, but for the agent itself.
    pub fn appending(&self, device: u64, inode: u64) -> Appending {
        let own = std::process::id();
        let (pids, hidden) = scan(device, inode, &|descriptor| descriptor.at_its_own_place());
        let pids: Vec<u32> = pids.into_iter().filter(|pid| *pid != own).collect();
        appending(pids, &hidden, sees_every_process())
    }

    /// The processes that have the inode open, but for the agent itself, and whether these are all. It opens nothing:
    /// closing a file would drop the locks that this process holds on it by other ways.
    pub fn openers(&self, device: u64, inode: u64) -> (Vec<u32>, bool) {
        let own = std::process::id();
        let (mut pids, hidden) = scan(device, inode, &|_| true);
        pids.retain(|pid| *pid != own);
        (pids, hidden.count == 0 && sees_every_process())
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
            Writers::Some => Holders::Held(scan(device, inode, &Descriptor::may_write).0),
            Writers::Unknown => match scan(device, inode, &Descriptor::may_write) {
                (pids, _) if !pids.is_empty() => Holders::Held(pids),
                (_, hidden) if hidden.count == 0 && sees_every_process() => Holders::Released,
                (_, hidden) => Holders::Unknown(format!(
                    "no lease to be had on {}, and {hidden}; \
                     run the agent as the file's owner or give it CAP_LEASE",
                    path.display()
                )),
            },
        }
    }
}

fn appending(at_their_own_place: Vec<u32>, hidden: &Hidden, sees_every_process: bool) -> Appending {
    match (at_their_own_place.as_slice(), hidden.count) {
        ([], 0) if sees_every_process => Appending::All,
        ([], _) => Appending::Unknown(format!(
            "who writes to it can't be told: {hidden}; run the agent as root or with CAP_SYS_PTRACE, outside of containers"
        )),
        _ => Appending::Not(at_their_own_place),
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

/// Processes that hide their open files.
#[derive(Default)]
struct Hidden {
    count: usize,
    first: String,
}

impl Hidden {
    fn add(&mut self, which: String) {
        self.count += 1;
        if self.count == 1 {
            self.first = which;
        }
    }
}

impl std::fmt::Display for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.count {
            0 => f.write_str("some processes may be hidden altogether"),
            1 => write!(f, "{} hides its open files", self.first),
            count => write!(f, "{} and {} more hide their open files", self.first, count - 1),
        }
    }
}

/// How a process has a file open, as `/proc/PID/fdinfo` has it.
struct Descriptor {
    /// The flags of open(2); `None` where they can't be read.
    flags: Option<i64>,
}

impl Descriptor {
    fn read(pid: i32, descriptor: &fs::DirEntry) -> Self {
        let info = format!("/proc/{pid}/fdinfo/{}", descriptor.file_name().to_string_lossy());
        let text = fs::read_to_string(info).unwrap_or_default();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
        Self { flags: flags.and_then(|flags| i64::from_str_radix(flags.trim(), 8).ok()) }
    }

    /// Open for writing; one that can't be read counts as such.
    fn may_write(&self) -> bool {
        // The access mode is the last two bits: 0 is read only.
        self.flags.is_none_or(|flags| flags & 3 != 0)
    }

    /// Open for writing, and not for appending; one that can't be read counts as such.
    fn at_its_own_place(&self) -> bool {
        self.may_write() && self.flags.is_none_or(|flags| flags & i64::from(libc::O_APPEND) == 0)
    }
}

/// The processes that have the inode open as `wanted` says, and those that could not be looked into, in words.
fn scan(device: u64, inode: u64, wanted: &dyn Fn(&Descriptor) -> bool) -> (Vec<u32>, Hidden) {
    let (mut pids, mut hidden) = (Vec::new(), Hidden::default());
    let processes = match procfs::process::all_processes() {
        Ok(processes) => processes,
        Err(error) => {
            hidden.add(format!("no process ({error})"));
            return (pids, hidden);
        }
    };
    for process in processes {
        match process {
            Ok(process) => match holds(process.pid, device, inode, wanted) {
                Ok(true) => pids.push(process.pid.cast_unsigned()),
                Ok(false) => {}
                Err(error) if ended(&error) => {}
                Err(error) => hidden.add(format!("process {} ({error})", process.pid)),
            },
            Err(procfs::ProcError::NotFound(_)) => {}
            Err(error) => hidden.add(format!("a process ({error})")),
        }
    }
    (pids, hidden)
}

/// Whether an error only means that a process or its descriptor is gone by now.
fn ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Whether a process has the inode open as `wanted` says. Anything that can't be looked at is an error.
fn holds(
    pid: i32,
    device: u64,
    inode: u64,
    wanted: &dyn Fn(&Descriptor) -> bool,
) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        match fs::metadata(entry.path()) {
            Ok(target)
                if target.dev() == device
                    && target.ino() == inode
                    && wanted(&Descriptor::read(pid, &entry)) =>
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

/// The addresses of this host's interfaces, as the kernel lists them in /proc; those that can't be read are not there.
pub fn addresses() -> Vec<std::net::IpAddr> {
    let mut found: Vec<std::net::IpAddr> = Vec::new();
    // "|-- 192.0.2.1" and below it "/32 host LOCAL".
    let text = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut last = None;
    for line in text.lines() {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.trim().parse::<std::net::Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last.map(std::net::IpAddr::from));
        }
    }
    let text = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let six = text.lines().filter_map(|line| u128::from_str_radix(line.get(..32)?, 16).ok());
    found.extend(six.map(|bits| std::net::IpAddr::from(std::net::Ipv6Addr::from(bits))));
    found.sort();
    found.dedup();
    found
}

/// The id of the user of this name, as /etc/passwd has it.
pub fn user_id(name: &str) -> Option<u32> {
    third_field("/etc/passwd", name)
}

/// The home folder of the user of this name, as /etc/passwd has it.
pub fn home_of(name: &str) -> Option<std::path::PathBuf> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(5).filter(|it| !it.is_empty()).map(Into::into)
}

/// The user and group of this name, as /etc/passwd has them.
pub fn owner(name: &str) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [user, _, id, group, ..] = fields.as_slice() else { return None };
        (*user == name).then(|| Some((id.parse().ok()?, group.parse().ok()?))).flatten()
    })
}

/// The id of the group of this name, as /etc/group has it.
pub fn group_id(name: &str) -> Option<u32> {
    third_field("/etc/group", name)
}

fn third_field(file: &str, name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn users_are_found_with_their_groups() {
        assert_eq!(owner("root"), Some((0, 0)));
        assert_eq!(owner("no such user"), None);
    }

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
        assert_eq!(scan(facts.dev(), facts.ino(), &Descriptor::may_write).0, [std::process::id()]);
        drop(writer);
        let _reader = std::fs::File::open(&path).unwrap();
        assert_eq!(look(), Holders::Released);
        assert!(scan(facts.dev(), facts.ino(), &Descriptor::may_write).0.is_empty());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(look(), Holders::Unknown(_)));
    }

    #[test]
    fn a_writer_that_appends_is_told_from_one_that_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        std::fs::write(&path, "x").unwrap();
        let facts = std::fs::metadata(&path).unwrap();
        // This process is the agent here, so the writers are others.
        let writer = |redirection: &str| {
            let mut child = std::process::Command::new("sh")
                .args(["-c", &format!("exec 3{redirection}\"$0\"; echo; exec sleep 60")])
                .arg(&path)
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut ready = [0];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
            child
        };
        let look = || Host.appending(facts.dev(), facts.ino());
        // A process that hides its open files is not this test's to rule out.
        let none = |seen| !matches!(seen, Appending::Not(_));
        assert!(none(look()), "nobody");
        let mut appends = writer(">>");
        assert!(none(look()), "{:?}", look());
        let mut overwrites = writer("<>");
        assert_eq!(look(), Appending::Not(vec![overwrites.id()]));
        for child in [&mut appends, &mut overwrites] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn who_hides_is_never_taken_to_append() {
        let hidden = |count| {
            let mut hidden = Hidden::default();
            (0..count).for_each(|_| hidden.add("process 1 (x)".into()));
            hidden
        };
        assert_eq!(appending(vec![], &hidden(0), true), Appending::All);
        assert_eq!(appending(vec![9], &hidden(1), true), Appending::Not(vec![9]));
        for (count, all) in [(1, true), (2, true), (0, false), (3, false)] {
            let seen = appending(vec![], &hidden(count), all);
            assert!(matches!(seen, Appending::Unknown(_)), "{count} {all}: {seen:?}");
        }
    }
}
