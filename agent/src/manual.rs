//! `completions` and `man`: made from the command line's own description, so that they can't be out of date.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, For};

/// The script that completes `genesis-agent` in this shell.
pub(crate) fn completions(shell: For) -> Vec<u8> {
    let shell = match shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "genesis-agent", &mut script);
    script
}

/// The page of `genesis-agent` itself.
pub(crate) fn page() -> io::Result<Vec<u8>> {
    let mut root = Cli::command();
    root.build();
    render(root)
}

/// Writes a page for each command into `folder`; those that exist are replaced. Returns how many.
pub(crate) fn pages(folder: &Path) -> io::Result<usize> {
    std::fs::create_dir_all(folder)?;
    let mut root = Cli::command();
    root.build();
    below(root, "genesis-agent", folder)
}

fn below(command: clap::Command, name: &str, folder: &Path) -> io::Result<usize> {
    let mut pages = 1;
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        pages += below(child.clone(), &format!("{name}-{}", child.get_name()), folder)?;
    }
    std::fs::write(folder.join(format!("{name}.1")), render(command)?)?;
    Ok(pages)
}

fn render(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(page)
}
