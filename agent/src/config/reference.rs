//! The keys as a person reads them: the example file and the reference of docs/configuration.md.

use std::fmt::Write as _;

use super::reader::KeyDoc;

/// A configuration file with every key, each commented out at its default.
pub fn example(keys: &[KeyDoc]) -> String {
    let mut text = String::from(
        "# GENESIS agent. Every key is shown with its default; a file may be empty.\n\
         # Check a changed file with: genesis-agent check-config FILE\n",
    );
    let mut section = None;
    for key in keys {
        if section != Some(&key.section) {
            section = Some(&key.section);
            let header = header(&key.section);
            // What there may be several of has no entry by default, so its header is commented out too.
            let several = header.starts_with("[[") || header.ends_with(".NAME]");
            let comment = if several { "# " } else { "" };
            let _ = writeln!(text, "\n{comment}{header}");
        }
        let _ = writeln!(text, "# {}", key.help);
        let default = if key.default.is_empty() { "# must be given" } else { &key.default };
        let _ = writeln!(text, "# {} = {default}", key.key);
    }
    text
}

/// The reference table of one section after the other, as Markdown.
pub fn markdown(keys: &[KeyDoc]) -> String {
    let mut text = String::new();
    let mut section = None;
    for key in keys {
        if section != Some(&key.section) {
            section = Some(&key.section);
            let _ = writeln!(
                text,
                "\n### `{}`\n\n| key | default | what it does |\n|---|---|---|",
                header(&key.section)
            );
        }
        let default = if key.default.is_empty() {
            "must be given".into()
        } else {
            format!("`{}`", key.default)
        };
        let _ = writeln!(text, "| `{}` | {default} | {} |", key.key, key.help.replace('|', "\\|"));
    }
    text
}

fn header(section: &str) -> String {
    format!("[{section}]")
}
