//! A Python with the packages of a peer.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Outcome;

/// Its program, in a virtual environment beside the benchmark's own; `None` where it can't be had.
pub(crate) fn with(packages: &[&str]) -> Outcome<Option<PathBuf>> {
    within("peers", packages)
}

/// That of a virtual environment of this name.
pub(crate) fn within(name: &str, packages: &[&str]) -> Outcome<Option<PathBuf>> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).ok_or("no target folder")?;
    let folder = target.join("foreign").join(name);
    let (program, mark) = (folder.join("bin/python"), folder.join("packages.txt"));
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(Some(program));
    }
    let made = run(Path::new("python3"), &["-m", "venv", "--clear", &folder.to_string_lossy()])
        && run(&program, &[&["-m", "pip", "install", "-q"], packages].concat());
    if !made {
        return Ok(None);
    }
    std::fs::write(mark, wanted)?;
    Ok(Some(program))
}

fn run(program: &Path, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
}
