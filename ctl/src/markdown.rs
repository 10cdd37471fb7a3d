//! Markdown of what comes from elsewhere: shown as it is, whatever it is.

use std::fmt::Write as _;
use std::path::Path;

use crate::connect::Session;
use crate::exit::{Halt, Stop};
use crate::outfile::OutFile;
use crate::render::{View, clean};

/// A table, with a line under its head.
pub(crate) fn table<const N: usize>(
    page: &mut String,
    columns: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let _ = writeln!(page, "| {} |\n|{}", columns.join(" | "), "---|".repeat(N));
    for row in rows {
        let _ = writeln!(page, "| {} |", row.map(|cell| literal(&cell)).join(" | "));
    }
}

/// Text in one line that is shown as it is: no markup, no links, no end of a cell.
pub(crate) fn literal(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 8);
    for c in clean(text).chars() {
        if "\\`*_[]<>|~&#$".contains(c) {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}

/// The file that is named; "-" is standard output, as ever.
fn named(out: Option<&Path>) -> Option<&Path> {
    out.filter(|path| path.as_os_str() != "-")
}

/// Refuses what can't go into one file, before anything is asked.
pub(crate) fn check(session: &Session<'_>, command: &str, out: Option<&Path>) -> Result<(), Halt> {
    session.one_node(command)?;
    if !session.for_people() && named(out).is_none() {
        return Err(Halt::Usage(
            "Markdown is no JSON: add --out FILE for it, or leave -o or --format out".into(),
        ));
    }
    Ok(())
}

/// A page on its way into a file, or to standard output where none is named. The file is opened before the agent is
/// put to work.
pub(crate) struct Sink(Option<OutFile>);

impl Sink {
    pub(crate) fn open(session: &Session<'_>, out: Option<&Path>) -> Result<Self, Halt> {
        let replace = session.global.yes;
        named(out).map(|path| OutFile::create(path, replace)).transpose().map(Self)
    }

    /// Writes the page; what is left to show. `headline` says what was written.
    pub(crate) fn put(
        self,
        session: &Session<'_>,
        page: String,
        headline: &str,
    ) -> Result<View, Stop> {
        let Some(mut file) = self.0 else { return Ok(View { text: page, ..View::default() }) };
        file.write(page.as_bytes())?;
        file.commit()?;
        if session.for_people() {
            session.note(headline);
        }
        Ok(View::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_markdown_stays_text() {
        for (text, shown) in [
            ("7 % free (below 10 %), 3.1 MB/s", "7 % free (below 10 %), 3.1 MB/s"),
            ("a|b", "a\\|b"),
            ("`rm -rf`", "\\`rm -rf\\`"),
            ("a\r\n| b |\u{1b}[2J", "a\\\\r\\\\n\\| b \\|\\\\x1b\\[2J"),
            ("![x](http://x) <img src=x>", "!\\[x\\](http://x) \\<img src=x\\>"),
            ("\\|", "\\\\\\|"),
        ] {
            assert_eq!(literal(text), shown);
        }
    }
}
