//! The reference of every command in docs/genesisctl.md, made from the command line's own description.
//! `UPDATE=1` rewrites it.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};

use crate::cli::Cli;

const PAGE: &str = "../docs/genesisctl.md";
const BEGIN: &str = "<!-- generated:commands -->\n";
const END: &str = "<!-- end:generated -->";

/// The first line of a flag or argument: how it is written.
fn written(arg: &Arg) -> String {
    let values: Vec<_> = arg.get_value_names().unwrap_or_default().iter().collect();
    let value = match (values.first(), arg.get_action().takes_values()) {
        (Some(value), true) => value.to_string(),
        _ => String::new(),
    };
    if arg.is_positional() {
        return match arg.is_required_set() {
            true => format!("<{value}>"),
            false => format!("[{value}]"),
        };
    }
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    let mut names: Vec<_> = short.into_iter().chain(long).collect();
    if let (Some(last), false) = (names.last_mut(), value.is_empty()) {
        let _ = write!(last, " {value}");
    }
    names.join(", ")
}

/// clap takes the full stop off.
fn sentence(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    if text.ends_with('.') { text } else { text + "." }
}

fn explained(arg: &Arg) -> String {
    let mut text = sentence(arg.get_help());
    let possible = arg.get_possible_values();
    if arg.get_action().takes_values() && !possible.is_empty() {
        let names: Vec<_> =
            possible.iter().map(|value| format!("`{}`", value.get_name())).collect();
        let _ = write!(text, " One of {}.", names.join(", "));
    }
    if !arg.is_hide_default_value_set() && arg.get_action().takes_values() {
        for default in arg.get_default_values() {
            let _ = write!(text, " Default: `{}`.", default.to_string_lossy());
        }
    }
    if arg.is_required_set() && !arg.is_positional() {
        text.push_str(" Required.");
    }
    text.replace('|', "\\|")
}

fn table<'a>(page: &mut String, args: impl Iterator<Item = &'a Arg>) {
    let rows: Vec<_> = args.filter(|arg| arg.get_id() != "help").collect();
    if rows.is_empty() {
        return;
    }
    page.push_str("| flag | meaning |\n|---|---|\n");
    for arg in rows {
        let _ = writeln!(page, "| `{}` | {} |", written(arg), explained(arg));
    }
    page.push('\n');
}

fn section(page: &mut String, command: &Command, path: &str) {
    let children: Vec<_> =
        command.get_subcommands().filter(|child| child.get_name() != "help").collect();
    // `rollback` is a command, and has one below it.
    if let Some(notes) = command.get_after_help() {
        let about = sentence(command.get_about());
        let _ = writeln!(page, "### {path}\n\n{about}\n");
        table(page, command.get_arguments().filter(|arg| !arg.is_global_set()));
        let _ = writeln!(page, "```text\n{}\n```\n", notes.to_string().trim_end());
    }
    for child in children {
        section(page, child, &format!("{path} {}", child.get_name()));
    }
}

fn reference() -> String {
    let mut root = Cli::command();
    root.build();
    let mut page = String::from("### Flags of every command\n\n");
    table(&mut page, root.get_arguments().filter(|arg| arg.is_global_set()));
    for child in root.get_subcommands().filter(|child| child.get_name() != "help") {
        section(&mut page, child, child.get_name());
    }
    page.trim_end().to_owned() + "\n"
}

#[test]
fn the_reference_of_the_commands_is_generated() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let wanted = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "docs/genesisctl.md is not up to date; run UPDATE=1 cargo test -p genesisctl --lib reference"
    );
}
