//! CPU time, which the other tenants of a machine disturb less than wall time.

use std::fs;
use std::io;

/// The kernel gives times to user space in hundredths of a second on every Linux architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds, user and system, since the process started.
pub(crate) struct Cpu {
    /// Of this process.
    pub(crate) own: f64,
    /// Of its children that have ended and were waited for.
    pub(crate) children: f64,
}

impl Cpu {
    pub(crate) fn now() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        // The command's name, in brackets, may hold blanks; the state is the field behind it.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let ticks: Vec<f64> =
            fields.split(' ').skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
        let [user, system, children_user, children_system] = ticks[..] else {
            return Err(io::Error::other("/proc/self/stat lacks its CPU times"));
        };
        Ok(Self {
            own: (user + system) / TICKS_PER_SECOND,
            children: (children_user + children_system) / TICKS_PER_SECOND,
        })
    }
}

/// The most memory that this process has had resident.
pub(crate) fn peak_resident_kib() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("/proc/self/status lacks VmHWM"))
}
