//! What a full-screen program needs of this: what cells say, pages as lines, and bytes that drive the terminal.

use std::io::{self, Write as _};

use super::printer::part_text;
use super::text::clean;
use super::{Cell, Part, Tone, View};
use crate::Console;

impl Cell {
    /// One that says that something is not known.
    pub(crate) fn unsure(text: &str) -> Self {
        Self { tone: Tone::Unsure, ..Self::from(text) }
    }

    /// What is written in it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn tone(&self) -> Tone {
        self.tone
    }

    pub(crate) fn is_number(&self) -> bool {
        self.right
    }

    /// It, unable to drive a terminal, for what is drawn and not printed.
    pub(crate) fn cleaned(self) -> Self {
        Self { text: clean(&self.text).into_owned(), ..self }
    }
}

/// An answer as the lines that would be printed of it, without colour and unable to drive a terminal.
pub(crate) fn page_lines(view: View) -> Vec<String> {
    let View { lead, columns, rows, tail, parts, .. } = view;
    let table = Part { columns, rows, lines: tail, ..Part::default() };
    let all = [Part { lines: lead, ..Part::default() }, table].into_iter().chain(parts);
    let mut lines: Vec<String> = Vec::new();
    for part in all {
        if part.rows.is_empty() && part.lines.is_empty() {
            continue;
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(part_text(&part, false).lines().map(str::to_owned));
    }
    lines
}

/// Bytes of our own making that drive the terminal; what others wrote in them was cleaned before.
pub(crate) fn screen(console: &mut Console, data: &[u8]) -> io::Result<()> {
    console.stdout.write_all(data)
}
