//! A titled table of a page, made of the rows that the plain commands print.

use std::rc::Rc;

use genesis_client::Error;
use genesis_client::v1::{Alert, Attempt, Run};

use crate::render::{Cell, Tone, clean};

/// The column that a trend is drawn in.
pub(super) const TREND: &str = "TREND";

/// A column that is shown, by the name that the plain command has for it, and how soon it makes way where there is
/// not enough room: 0 never, the highest first. The last one takes the room that is left.
pub(super) type Shown = (&'static str, u8);

#[derive(Debug, Clone, Default)]
pub(super) struct Section {
    pub(super) title: &'static str,
    /// Of the cells of each row.
    pub(super) columns: &'static [&'static str],
    pub(super) shown: &'static [Shown],
    pub(super) rows: Vec<Row>,
    /// How many rows there are without a filter.
    pub(super) all: usize,
    /// Above the rows.
    pub(super) notes: Vec<String>,
    /// In their place.
    pub(super) empty: String,
}

/// What Enter shows of a row beside its cells.
#[derive(Debug, Clone, Default)]
pub(super) enum More {
    #[default]
    Nothing,
    /// It is the row of a node.
    Node(usize),
    /// What the agent says about this check's trouble.
    Check(String),
    Attempt(Rc<Attempt>),
    Alert(Rc<Alert>),
    Run(Rc<Run>),
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    /// By which it is found again when the data have changed.
    pub(super) key: String,
    pub(super) cells: Vec<Cell>,
    pub(super) more: More,
}

impl Row {
    pub(super) fn new(key: impl Into<String>, cells: Vec<Cell>, more: More) -> Self {
        let cells = cells.into_iter().map(Cell::cleaned).collect();
        Self { key: key.into(), cells, more }
    }

    pub(super) fn holds(&self, wanted: &str) -> bool {
        self.cells.iter().any(|cell| cell.text().to_lowercase().contains(wanted))
    }
}

impl Section {
    pub(super) fn new(
        title: &'static str,
        (columns, shown): (&'static [&'static str], &'static [Shown]),
        rows: Vec<Row>,
        empty: &str,
    ) -> Self {
        let all = rows.len();
        Self { title, columns, shown, rows, all, notes: Vec::new(), empty: empty.to_owned() }
    }

    pub(super) fn notes(self, notes: impl IntoIterator<Item = String>) -> Self {
        let notes = notes.into_iter().map(|note| clean(&note).into_owned()).collect();
        Self { notes, ..self }
    }

    /// One whose rows could not be had: nothing is known of them.
    pub(super) fn unknown(title: &'static str, error: &Error) -> Self {
        let why = match error.code {
            "UNIMPLEMENTED" => "unknown: the agent is too old to tell".to_owned(),
            _ => format!("unknown: {}: {}", error.message, error.next),
        };
        Self { title, empty: clean(&why).into_owned(), ..Self::default() }
    }

    /// Only the rows that hold a text, whatever its case.
    pub(super) fn filtered(mut self, wanted: &str) -> Self {
        let wanted = wanted.to_lowercase();
        self.rows.retain(|row| row.holds(&wanted));
        self
    }

    /// As it was before: what was well then is not said to be.
    pub(super) fn former(mut self) -> Self {
        for cell in self.rows.iter_mut().flat_map(|row| &mut row.cells) {
            if cell.tone() == Tone::Good {
                *cell = Cell::unsure(&format!("({})", cell.text()));
            }
        }
        self
    }

    /// Where the cells of a column are.
    pub(super) fn index(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|name| *name == column)
    }
}

/// A time in full, as the plain commands print it, in less room: "03-31 09:30:00".
pub(super) fn short_time(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is = |at: usize, what: u8| bytes.get(at) == Some(&what);
    let marks = is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':');
    let digits = [0, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18].into_iter().all(digit);
    let whole = text.is_ascii() && text.ends_with('Z') && matches!(text.len(), 20 | 24);
    (marks && digits && whole).then(|| format!("{} {}", &text[5..10], &text[11..19]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_other_texts_stay() {
        for (text, short) in [
            ("2026-03-31T09:30:00Z", Some("03-31 09:30:00")),
            ("2026-03-31T09:30:00.123Z", Some("03-31 09:30:00")),
            ("-", None),
            ("", None),
            ("2026-03-31T09:30:00Zé", None),
            ("2026-03-31 09:30:00Z", None),
            ("20260-3-31T09:30:00Z", None),
        ] {
            assert_eq!(short_time(text).as_deref(), short, "{text}");
        }
    }

    #[test]
    fn a_filter_keeps_what_holds_its_text() {
        let row = |text: &str| Row::new(text, vec![Cell::from(text)], More::Nothing);
        let section = || {
            let rows = vec![row("Disk:/"), row("memory")];
            Section::new("Checks", (&["CHECK"], &[("CHECK", 0)]), rows, "none")
        };
        assert_eq!(section().filtered("disk").rows.len(), 1);
        assert_eq!(section().filtered("").rows.len(), 2);
        let none = section().filtered("absent");
        assert_eq!((none.rows.len(), none.all), (0, 2));
    }
}
