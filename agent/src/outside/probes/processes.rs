//! Processes and load.

use std::fs;
use std::path::Path;

use super::{Measured, Outcome, ProcessRef, text};

/// What a pidfile leads to.
enum Of {
    /// A process that lives.
    Living(i32),
    /// None, in words.
    Nobody(String),
}

/// 1 when the process of a pidfile lives, also another user's, else 0: no pidfile, no process.
///
/// # Errors
/// Why it can't be told, in words: a pidfile that can't be read, or holds no process id.
pub fn of_pidfile(pidfile: &Path) -> Outcome {
    let (value, detail) = match follow(pidfile)? {
        Of::Living(pid) => (1.0, format!("process {pid} lives")),
        Of::Nobody(why) => (0.0, why),
    };
    Ok(Measured { value, detail })
}

fn follow(pidfile: &Path) -> Result<Of, String> {
    let shown = pidfile.display();
    let found = match text(pidfile, 4_096) {
        Ok(found) => found,
        Err(_) if matches!(pidfile.try_exists(), Ok(false)) => {
            return Ok(Of::Nobody(format!("no pidfile {shown}")));
        }
        Err(why) => return Err(why),
    };
    let pid = found.trim().parse::<i32>().ok().filter(|pid| *pid > 0);
    let pid = pid.ok_or_else(|| format!("{shown} holds no process id"))?;
    let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
    match stat {
        Ok(stat) if !ended(stat.state) => Ok(Of::Living(pid)),
        Ok(_) | Err(procfs::ProcError::NotFound(_)) => {
            Ok(Of::Nobody(format!("process {pid} of {shown} is gone")))
        }
        Err(error) => Err(format!("process {pid} can't be looked at: {error}")),
    }
}

/// The ids of the processes that live, in order; at least one.
///
/// # Errors
/// Why it can't be told, in words, or that there is none.
pub fn living(process: &ProcessRef) -> Result<Vec<i32>, String> {
    match process {
        ProcessRef::Pidfile(pidfile) => match follow(pidfile)? {
            Of::Living(pid) => Ok(vec![pid]),
            Of::Nobody(why) => Err(why),
        },
        ProcessRef::Name(name) => match named(name)? {
            pids if pids.is_empty() => Err(format!("no process is named {name:?}")),
            pids => Ok(pids),
        },
    }
}

/// Whether a process in this state only waits to be waited for.
fn ended(state: char) -> bool {
    matches!(state, 'Z' | 'X')
}

/// How many processes have the name `name`, as the kernel keeps it: the first 15 bytes of the program's. Those that
/// have ended and are not waited for yet do not count.
///
/// # Errors
/// Why it can't be told, in words.
pub fn of_name(name: &str) -> Outcome {
    let pids = named(name)?;
    let shown: Vec<String> = pids.iter().take(5).map(i32::to_string).collect();
    let detail = match pids.len() {
        0 => format!("no process is named {name:?}"),
        count => format!("{count} named {name:?}: {}", shown.join(", ")),
    };
    Ok(Measured { value: pids.len() as f64, detail })
}

fn named(name: &str) -> Result<Vec<i32>, String> {
    let known: &[u8] = &name.as_bytes()[..name.len().min(15)];
    let all = procfs::process::all_processes().map_err(|error| format!("can't list: {error}"))?;
    let mut pids = Vec::new();
    for process in all.filter_map(Result::ok) {
        // One that ends meanwhile is not there.
        if let Ok(stat) = process.stat()
            && stat.comm.as_bytes() == known
            && !ended(stat.state)
        {
            pids.push(process.pid);
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

/// The load of the last five minutes in percent of the processors.
///
/// # Errors
/// Why it can't be told, in words.
pub fn load() -> Outcome {
    let text = fs::read_to_string("/proc/loadavg").map_err(|error| error.to_string())?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    of_load(&text, processors)
}

fn of_load(loadavg: &str, processors: usize) -> Outcome {
    let load = loadavg.split(' ').nth(1).and_then(|text| text.parse::<f64>().ok());
    let load = load.filter(|load| load.is_finite() && *load >= 0.0);
    let load = load.ok_or_else(|| format!("loadavg holds {loadavg:?}"))?;
    let value = load * 100.0 / processors.max(1) as f64;
    Ok(Measured { value, detail: format!("load {load:.2} on {processors} processor(s)") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_told_by_processors() {
        assert_eq!(of_load("9.00 3.00 1.00 1/100 5\n", 2).unwrap().value, 150.0);
        for odd in ["", "1.0", "x y z", "1 NaN 1", "1 -3 1"] {
            assert!(of_load(odd, 2).is_err(), "{odd}");
        }
        assert!(load().is_ok());
    }

    #[test]
    fn a_process_is_found_by_its_pidfile_and_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let pidfile = folder.path().join("pid");
        assert_eq!(of_pidfile(&pidfile).unwrap().value, 0.0, "no pidfile, no process");
        // A name of its own, longer than the kernel keeps.
        let program = folder.path().join("genesis-probe-sleeper");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let count = || of_name("genesis-probe-sleeper").unwrap();
        assert_eq!(count().value, 0.0);
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        fs::write(&pidfile, format!("{}\n", child.id())).unwrap();
        assert_eq!(of_pidfile(&pidfile).unwrap().value, 1.0);
        assert_eq!(count().value, 1.0);
        assert!(count().detail.contains(&child.id().to_string()));
        let name = ProcessRef::Name("genesis-probe-sleeper".to_owned());
        let both = [ProcessRef::Pidfile(pidfile.clone()), name];
        for process in &both {
            assert_eq!(living(process), Ok(vec![child.id().cast_signed()]));
        }
        child.kill().unwrap();
        // Ended, but not waited for: the name is there, the process is not.
        let stat = format!("/proc/{}/stat", child.id());
        while fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
            std::thread::yield_now();
        }
        assert_eq!(count().value, 0.0);
        assert_eq!(of_pidfile(&pidfile).unwrap().value, 0.0);
        child.wait().unwrap();
        for process in &both {
            assert!(living(process).is_err());
        }
        assert_eq!(of_pidfile(&pidfile).unwrap().value, 0.0);
        for odd in ["", "x", "-1", "0"] {
            fs::write(&pidfile, odd).unwrap();
            assert!(of_pidfile(&pidfile).is_err(), "{odd:?} tells nothing");
        }
    }
}
