//! Memory in use: of the host, of a control group, of a process.

use std::fs;
use std::path::Path;

use super::{Measured, Outcome, percent, size};

/// Memory of the host that is in use, in percent: what is not MemAvailable, the kernel's own estimate of what can
/// be had without swapping (Documentation/filesystems/proc.rst).
///
/// # Errors
/// Why it can't be told, in words.
pub fn host() -> Outcome {
    of_host(&read(Path::new("/proc/meminfo"))?)
}

fn of_host(meminfo: &str) -> Outcome {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        number.map(|kib| kib.saturating_mul(1_024)).ok_or_else(|| format!("meminfo has no {name}"))
    };
    let (total, available) = (field("MemTotal")?, field("MemAvailable")?);
    let used = total.saturating_sub(available);
    let value = percent(used, total, "the host's memory")?;
    Ok(Measured { value, detail: format!("{} of {} in use", size(used), size(total)) })
}

/// Memory of the control group in the folder `group` that is in use, in percent of its limit; both versions. What
/// the kernel would give up first, its inactive file pages, does not count. A group without a limit is measured
/// against the host's memory.
///
/// # Errors
/// Why it can't be told, in words.
pub fn control_group(group: &Path) -> Outcome {
    let second = group.join("memory.current").exists();
    let (usage, limit, inactive) = match second {
        true => ("memory.current", "memory.max", "inactive_file"),
        false => ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
    };
    let total = read(Path::new("/proc/meminfo")).ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
    });
    let total = total.ok_or("the host's memory can't be told")?;
    let usage = number(&group.join(usage))?;
    let limit = match read(&group.join(limit))?.trim() {
        "max" => total,
        text => parse(text, limit)?.min(total),
    };
    let stat = read(&group.join("memory.stat"))?;
    let inactive = stat
        .lines()
        .find_map(|line| line.strip_prefix(inactive)?.trim().parse::<u64>().ok())
        .unwrap_or(0);
    let used = usage.saturating_sub(inactive);
    let value = percent(used, limit, "the group's limit")?;
    let shown = group.display();
    Ok(Measured { value, detail: format!("{shown}: {} of {} in use", size(used), size(limit)) })
}

/// Resident memory of a process in percent of the host's.
///
/// # Errors
/// Why it can't be told, in words.
pub fn process(pid: u32) -> Outcome {
    let statm = read(Path::new(&format!("/proc/{pid}/statm")))?;
    let pages = statm.split(' ').nth(1).and_then(|text| text.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| format!("the memory of process {pid} can't be told"))?;
    let used = pages.saturating_mul(rustix::param::page_size() as u64);
    let total = rustix::system::sysinfo();
    let total = u64::from(total.mem_unit).saturating_mul(total.totalram as u64);
    let value = percent(used, total, "the host's memory")?;
    Ok(Measured { value, detail: format!("process {pid}: {} of {}", size(used), size(total)) })
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))
}

fn number(path: &Path) -> Result<u64, String> {
    parse(read(path)?.trim(), &path.display().to_string())
}

fn parse(text: &str, what: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{what} holds {text:?}, which is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_memory_is_what_is_not_available() {
        let text = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    250 kB\n";
        let measured = of_host(text).unwrap();
        assert_eq!((measured.value, measured.detail.as_str()), (75.0, "768 kB of 1.0 MB in use"));
        assert_eq!(of_host("MemTotal: 5 kB\n"), Err("meminfo has no MemAvailable".into()));
        assert!(of_host("MemTotal: x kB\nMemAvailable: 1 kB\n").is_err());
        assert!((0.0..=100.0).contains(&host().unwrap().value));
    }

    #[test]
    fn control_groups_of_both_versions_count_what_cannot_be_given_up() {
        for files in [
            [
                ("memory.current", "900000\n"),
                ("memory.max", "1000000\n"),
                ("memory.stat", "anon 5\ninactive_file 300000\nactive_file 7\n"),
            ],
            [
                ("memory.usage_in_bytes", "900000\n"),
                ("memory.limit_in_bytes", "1000000\n"),
                ("memory.stat", "inactive_file 1\ntotal_inactive_file 300000\n"),
            ],
        ] {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in files {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            assert_eq!(control_group(folder.path()).unwrap().value, 60.0);
            // Without a limit the host's memory is the limit.
            let without =
                if files[0].0 == "memory.current" { "max" } else { "9223372036854771712" };
            std::fs::write(folder.path().join(files[1].0), without).unwrap();
            assert!(control_group(folder.path()).unwrap().value < 1.0);
            std::fs::write(folder.path().join(files[1].0), "0").unwrap();
            assert_eq!(control_group(folder.path()), Err("the group's limit is 0".into()));
            std::fs::write(folder.path().join(files[0].0), "much").unwrap();
            assert!(control_group(folder.path()).unwrap_err().contains("no number"));
        }
        assert!(control_group(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn a_process_has_memory_while_it_lives() {
        let measured = process(std::process::id()).unwrap();
        assert!(measured.value > 0.0 && measured.value < 100.0, "{measured:?}");
        assert!(process(u32::MAX).is_err());
    }
}
