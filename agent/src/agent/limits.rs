//! How many connections an agent has room for.

/// So many open files are kept for the agent's own: its database, logs, archive, and the work on them.
const OWN_FILES: usize = 64;

/// How many files the process may open.
fn open_files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// At most `wanted` connections, and at most this part of the files that the process may open beside its own.
pub(super) fn room(wanted: usize, part: usize) -> usize {
    (open_files().saturating_sub(OWN_FILES) / part).clamp(1, wanted)
}
