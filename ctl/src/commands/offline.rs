//! `completions` and `man`: what needs no agent, made from the command line's own description.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Console;
use crate::cli::{Cli, Global};
use crate::exit::{Exit, Halt};
use crate::outfile::OutFile;
use crate::render;

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  genesisctl completions bash > /etc/bash_completion.d/genesisctl
  genesisctl completions zsh > ~/.zfunc/_genesisctl
  genesisctl completions fish > ~/.config/fish/completions/genesisctl.fish";

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  genesisctl man | man -l -
  genesisctl man --out /usr/local/share/man/man1";

/// The shells that completions are made for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum For {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write a page for each command into this folder; those that exist are replaced. Without it, the main
    /// page goes to standard output.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn completions(shell: For, console: &mut Console) -> Result<Exit, Halt> {
    let shell = match shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "genesisctl", &mut script);
    render::help(console, &String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

pub(super) fn man(arguments: &Man, global: &Global, console: &mut Console) -> Result<Exit, Halt> {
    let mut root = Cli::command();
    root.build();
    let Some(folder) = &arguments.out else {
        render::help(console, &String::from_utf8_lossy(&page(root)?))?;
        return Ok(Exit::Ok);
    };
    std::fs::create_dir_all(folder).map_err(|error| {
        Halt::Failed(format!("can't create {}: {error}: name another --out", folder.display()))
    })?;
    let mut pages = 0;
    pages_below(root, "genesisctl", folder, &mut pages)?;
    if !global.quiet {
        render::stderr_line(console, &format!("{pages} pages are in {}", folder.display()));
    }
    Ok(Exit::Ok)
}

fn pages_below(
    command: clap::Command,
    name: &str,
    folder: &Path,
    pages: &mut usize,
) -> Result<(), Halt> {
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        pages_below(child.clone(), &format!("{name}-{}", child.get_name()), folder, pages)?;
    }
    let mut file = OutFile::create(&folder.join(format!("{name}.1")), true)?;
    file.write(&page(command)?)?;
    file.commit()?;
    *pages += 1;
    Ok(())
}

fn page(command: clap::Command) -> Result<Vec<u8>, Halt> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Halt::Failed(format!("can't write the man page: {error}")))?;
    Ok(page)
}
