//! The room on a file system.

use std::path::Path;

use super::{Measured, Outcome, percent, size};

/// What statvfs(3) says of the file system that holds `path`.
fn facts(path: &Path) -> Result<rustix::fs::StatVfs, String> {
    rustix::fs::statvfs(path).map_err(|error| format!("can't look at {}: {error}", path.display()))
}

/// Free bytes in percent of what an ordinary user could have: the blocks kept for root count neither as free nor
/// as part of the whole, as in df(1).
///
/// # Errors
/// Why it can't be told, in words.
pub fn free_bytes(path: &Path) -> Outcome {
    let facts = facts(path)?;
    let used = facts.f_blocks.saturating_sub(facts.f_bfree);
    let whole = used.saturating_add(facts.f_bavail);
    let value = percent(facts.f_bavail, whole, "the file system's size")?;
    let bytes = |blocks: u64| size(blocks.saturating_mul(facts.f_frsize));
    let (free, all) = (bytes(facts.f_bavail), bytes(whole));
    Ok(Measured { value, detail: format!("{}: {free} of {all} free", path.display()) })
}

/// Bytes that are free, and all, counted as [`free_bytes`] does.
///
/// # Errors
/// Why it can't be told, in words.
pub fn bytes(path: &Path) -> Result<(u64, u64), String> {
    let facts = facts(path)?;
    let used = facts.f_blocks.saturating_sub(facts.f_bfree);
    let whole = used.saturating_add(facts.f_bavail);
    let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
    Ok((bytes(facts.f_bavail), bytes(whole)))
}

/// Free inodes in percent. A file system that makes them as they are needed has no number of them, and is never
/// short: 100.
///
/// # Errors
/// Why it can't be told, in words.
pub fn free_inodes(path: &Path) -> Outcome {
    let facts = facts(path)?;
    let shown = path.display();
    if facts.f_files == 0 {
        return Ok(Measured { value: 100.0, detail: format!("{shown}: inodes as needed") });
    }
    let value = percent(facts.f_favail, facts.f_files, "the number of inodes")?;
    let detail = format!("{shown}: {} of {} inodes free", facts.f_favail, facts.f_files);
    Ok(Measured { value, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_file_system_has_between_nothing_and_all_of_its_room() {
        for measure in [free_bytes, free_inodes] {
            let measured = measure(Path::new("/proc/self/cwd")).unwrap();
            assert!((0.0..=100.0).contains(&measured.value), "{measured:?}");
            assert!(measured.detail.contains("free") || measured.detail.contains("as needed"));
            let gone = measure(Path::new("/nowhere/at/all")).unwrap_err();
            assert!(gone.contains("/nowhere/at/all"), "{gone}");
        }
    }

    #[test]
    fn a_file_system_without_blocks_is_unknown_and_not_full() {
        // proc has neither blocks nor inodes.
        assert!(free_bytes(Path::new("/proc")).is_err());
        assert_eq!(free_inodes(Path::new("/proc")).unwrap().value, 100.0);
    }
}
