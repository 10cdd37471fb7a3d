//! CPU time, which the other tenants of a machine disturb less than wall time, and memory.

use std::fs;
use std::io;

/// The kernel gives times to user space in hundredths of a second on every Linux architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds, user and system, since a process started.
pub(crate) struct Cpu {
    /// Of the process.
    pub(crate) own: f64,
    /// Of its children that have ended and were waited for.
    pub(crate) children: f64,
}

impl Cpu {
    /// Of this process.
    pub(crate) fn now() -> io::Result<Self> {
        Self::of("self")
    }

    /// Of another process.
    pub(crate) fn of_process(pid: u32) -> io::Result<Self> {
        Self::of(&pid.to_string())
    }

    /// With the children that have ended.
    pub(crate) fn all(&self) -> f64 {
        self.own + self.children
    }

    fn of(process: &str) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The command's name, in brackets, may hold blanks; the state is the field behind it.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let ticks: Vec<f64> =
            fields.split(' ').skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
        let [user, system, children_user, children_system] = ticks[..] else {
            return Err(io::Error::other("stat lacks its CPU times"));
        };
        Ok(Self {
            own: (user + system) / TICKS_PER_SECOND,
            children: (children_user + children_system) / TICKS_PER_SECOND,
        })
    }
}

/// The most memory that this process has had resident.
pub(crate) fn peak_resident_kib() -> io::Result<u64> {
    status_kib("self", "VmHWM:")
}

/// Bytes that a process has resident.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<f64> {
    Ok(status_kib(&pid.to_string(), "VmRSS:")? as f64 * 1024.0)
}

fn status_kib(process: &str, field: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("status lacks {field}")))
}
