//! Memory in use: of the host, of a control group, of a process.

use std::path::Path;

use super::{Measured, Outcome, ProcessRef, percent, processes, size, text};

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

/// Resident memory of a process, or of all of a name together, in percent of `of` bytes; of the host's memory where
/// that is `None`. What the processes share counts for each of them.
///
/// # Errors
/// Why it can't be told, in words; nobody has no memory that could be told.
pub fn process(process: &ProcessRef, of: Option<u64>) -> Outcome {
    let pids = processes::living(process)?;
    let (mut used, mut count, mut gone) = (0_u64, 0_usize, None);
    for pid in pids {
        match resident(pid) {
            Ok(bytes) => (used, count) = (used.saturating_add(bytes), count + 1),
            // It may have ended meanwhile.
            Err(why) => gone = Some(why),
        }
    }
    if let (0, Some(why)) = (count, gone) {
        return Err(why);
    }
    let (total, what) = match of {
        Some(bytes) => (bytes, "what it may take"),
        None => (host_bytes(), "the host's memory"),
    };
    let value = percent(used, total, what)?;
    let several = if count == 1 { String::new() } else { format!(" ({count} of them)") };
    let detail = format!("process {process}{several}: {} of {} in use", size(used), size(total));
    Ok(Measured { value, detail })
}

/// Resident memory in bytes.
fn resident(pid: i32) -> Result<u64, String> {
    let statm = read(Path::new(&format!("/proc/{pid}/statm")))?;
    let pages = statm.split(' ').nth(1).and_then(|text| text.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| format!("the memory of process {pid} can't be told"))?;
    Ok(pages.saturating_mul(rustix::param::page_size() as u64))
}

/// The host's memory in bytes.
fn host_bytes() -> u64 {
    let facts = rustix::system::sysinfo();
    u64::from(facts.mem_unit).saturating_mul(facts.totalram)
}

fn read(path: &Path) -> Result<String, String> {
    // The longest, memory.stat, has a few kB.
    text(path, 1 << 20)
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
        let folder = tempfile::tempdir().unwrap();
        let pidfile = folder.path().join("pid");
        std::fs::write(&pidfile, std::process::id().to_string()).unwrap();
        let own = ProcessRef::Pidfile(pidfile.clone());
        let measured = process(&own, None).unwrap();
        assert!(measured.value > 0.0 && measured.value < 100.0, "{measured:?}");
        // This process takes more than a kB, and less than all that can be addressed.
        assert!(process(&own, Some(1_000)).unwrap().value > 100.0);
        assert!(process(&own, Some(u64::MAX)).unwrap().value < 1.0);
        assert_eq!(process(&own, Some(0)), Err("what it may take is 0".into()));
        std::fs::remove_file(pidfile).unwrap();
        assert!(process(&own, None).is_err());
        assert!(resident(i32::MAX).is_err());
    }

    #[test]
    fn the_memory_of_a_name_is_that_of_all_who_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("probe-memory");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let name = ProcessRef::Name("probe-memory".to_owned());
        assert!(process(&name, None).unwrap_err().contains("probe-memory"));
        let start = || std::process::Command::new(&program).arg("60").spawn().unwrap();
        let mut children = [start(), start()];
        let measured = process(&name, Some(1 << 20)).unwrap();
        assert!(measured.value > 0.0, "{measured:?}");
        assert!(measured.detail.contains("(2 of them)"), "{measured:?}");
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
