//! Points at which a test kills the agent, as a power cut would: no destructor, no flush.
//!
//! `GENESIS_FAILPOINT=name` dies at the first hit, `name:3` at the third. Builds without debug
//! assertions (what is shipped) hold none of it.

/// Dies here with SIGKILL when the environment asks for it.
#[cfg(debug_assertions)]
pub fn hit(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("GENESIS_FAILPOINT").ok()?;
        match text.split_once(':') {
            Some((name, count)) => Some((name.to_owned(), count.parse().unwrap_or(1))),
            None => Some((text, 1)),
        }
    });
    if let Some((wanted, at)) = wanted
        && wanted == name
        && HITS.fetch_add(1, Ordering::SeqCst) + 1 == *at
    {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

/// Nothing, in builds without debug assertions.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn hit(_name: &str) {}

/// Whether what follows is to fail here: while the file is there that `GENESIS_FAULT=name:path` names. For faults that a
/// real disk can't be made to have at one write and not at the one before it.
#[cfg(debug_assertions)]
pub fn fails(name: &str) -> bool {
    let Ok(text) = std::env::var("GENESIS_FAULT") else { return false };
    text.split_once(':')
        .is_some_and(|(wanted, path)| wanted == name && std::path::Path::new(path).exists())
}

/// Never, in builds without debug assertions.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn fails(_name: &str) -> bool {
    false
}

/// Waits here while the file is there that `GENESIS_PAUSE=name:path` names, having made `path.reached`.
#[cfg(debug_assertions)]
pub fn pause(name: &str) {
    let Ok(text) = std::env::var("GENESIS_PAUSE") else { return };
    let Some((_, path)) = text.split_once(':').filter(|(wanted, _)| *wanted == name) else {
        return;
    };
    if std::path::Path::new(path).exists() {
        let _ = std::fs::write(format!("{path}.reached"), "");
    }
    // Others go on meanwhile.
    tokio::task::block_in_place(|| {
        while std::path::Path::new(path).exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
}

/// Nothing, in builds without debug assertions.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn pause(_name: &str) {}
