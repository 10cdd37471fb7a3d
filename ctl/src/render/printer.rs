//! The answers of the nodes on standard output, each as it arrives, in every format.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Color, Table, presets};

use super::matrix::picture;
use super::text::{clean, clean_block, is_hostile, json_safe};
use super::{Cell, Part, Row, Tone, View, flush, print};
use crate::Console;
use crate::cli::Format;
use crate::exit::Halt;

/// Prints one row after the other, those of nodes that failed last: at the end of a long table is where they
/// are seen, and whoever reads only the beginning has what is sound. [`Printer::end`] makes it whole.
#[derive(Debug)]
pub(crate) struct Printer {
    format: Format,
    /// Tell the nodes apart.
    many: bool,
    rows: usize,
    /// Of nodes that failed, in the order in which they did.
    failed: Vec<Row>,
    /// What the command will put above its columns, where several nodes are called.
    announced: &'static [&'static str],
    /// What stands above the columns, once it was printed.
    header: Option<&'static [&'static str]>,
    /// Of each column, that of the node's first. They only grow, since rows above can't be changed.
    widths: Vec<usize>,
}

impl Printer {
    /// `columns`: those of the table, if the command has one. `longest`: the width of the longest node's
    /// name.
    pub(crate) fn new(
        format: Format,
        many: bool,
        columns: &'static [&'static str],
        longest: usize,
    ) -> Self {
        let widths = if many { vec![longest] } else { Vec::new() };
        let announced = if many { columns } else { &[] };
        Self { format, many, rows: 0, failed: Vec::new(), announced, header: None, widths }
    }

    /// Prints one row: at once, unless its node failed.
    pub(crate) fn row(&mut self, console: &mut Console, row: Row) -> Result<(), Halt> {
        if row.result.is_err() {
            self.failed.push(row);
            return Ok(());
        }
        self.print(console, &row)
    }

    fn print(&mut self, console: &mut Console, row: &Row) -> Result<(), Halt> {
        let text = match self.format {
            Format::Table => self.table(console, row),
            Format::Json => self.json(row)?,
            Format::Jsonl => json_line(row)?,
            Format::Yaml => yaml(row)?,
        };
        self.rows += 1;
        print(console, &text)?;
        flush(console)
    }

    /// Prints the rows that were held back.
    pub(crate) fn failures(&mut self, console: &mut Console) -> Result<(), Halt> {
        for row in std::mem::take(&mut self.failed) {
            self.print(console, &row)?;
        }
        Ok(())
    }

    /// Prints the rows that were held back, and ends the array, so that it is whole however the command ends.
    pub(crate) fn end(&mut self, console: &mut Console) -> Result<(), Halt> {
        self.failures(console)?;
        match (self.format, self.rows) {
            (Format::Json | Format::Yaml, 0) => print(console, "[]\n"),
            (Format::Json, _) => print(console, "\n]\n"),
            _ => Ok(()),
        }
    }

    fn json(&self, row: &Row) -> Result<String, Halt> {
        let object = serde_json::to_string_pretty(&row.envelope()).map_err(|e| unprintable(&e))?;
        let before = if self.rows == 0 { "[\n  " } else { ",\n  " };
        Ok(format!("{before}{}", json_safe(&object).replace('\n', "\n  ")))
    }

    fn table(&mut self, console: &Console, row: &Row) -> String {
        let mut text = String::new();
        let failure;
        let view = match &row.result {
            Ok(answer) => &answer.view,
            Err(error) if self.many => {
                failure = View { rows: vec![vec![Cell::failure(error)]], ..View::default() };
                &failure
            }
            Err(_) => return text,
        };
        for lead in &view.lead {
            text.push_str(&self.line(row, lead));
        }
        if !view.rows.is_empty() {
            text.push_str(&self.grid(console, row, view));
        }
        for tail in &view.tail {
            text.push_str(&self.line(row, tail));
        }
        if self.many && !(view.parts.is_empty() && view.text.is_empty()) {
            let _ = writeln!(text, "==> {} <==", clean(&row.node));
        }
        for (index, part) in view.parts.iter().enumerate() {
            if !text.is_empty() || index > 0 {
                text.push('\n');
            }
            text.push_str(&part_text(part, console.colour()));
        }
        if !view.text.is_empty() {
            let _ = writeln!(text, "{}", clean_block(view.text.trim_end_matches('\n')));
        }
        text
    }

    fn line(&self, row: &Row, line: &str) -> String {
        match self.many {
            true => format!("{}: {}\n", clean(&row.node), clean(line)),
            false => format!("{}\n", clean(line)),
        }
    }

    /// The lines of one node, aligned with those above; the first ones with their header.
    fn grid(&mut self, console: &Console, row: &Row, view: &View) -> String {
        let colour = console.colour();
        let mut table = bare(colour);
        let header = self.header_for(view);
        // The first line is as wide as what stands above, and is not printed.
        table.add_row(self.widths.iter().map(|width| "x".repeat(*width)));
        if let Some(header) = header {
            let names = self.many.then_some("NODE").into_iter().chain(header.iter().copied());
            table.add_row(names.collect::<Vec<_>>());
        }
        for cells in &view.rows {
            let node = self.many.then(|| Cell::from(row.node.as_str()));
            let cells = node.iter().chain(cells).map(|cell| paint(cell, colour));
            table.add_row(cells.collect::<Vec<_>>());
        }
        self.widths = table.column_max_content_widths().into_iter().map(usize::from).collect();
        lines(&mut table, 1)
    }

    /// The header that must stand above these lines, if it does not stand there yet.
    fn header_for(&mut self, view: &View) -> Option<&'static [&'static str]> {
        let wanted = match (view.columns, self.header) {
            // A failure, which fits below any.
            ([], Some(_)) => return None,
            ([], None) => self.announced,
            (columns, _) => columns,
        };
        if wanted.is_empty() || self.header == Some(wanted) {
            return None;
        }
        if self.header.replace(wanted).is_some() {
            self.widths.truncate(usize::from(self.many));
        }
        Some(wanted)
    }
}

/// A part with its title, its own columns and what is said below them.
pub(super) fn part_text(part: &Part, colour: bool) -> String {
    let mut text = String::new();
    if !part.title.is_empty() {
        let _ = writeln!(text, "{}", clean(&part.title));
    }
    if part.columns.is_empty() {
        for cells in &part.rows {
            let _ = writeln!(text, "{}", picture(cells, colour));
        }
    } else if !part.rows.is_empty() {
        let mut table = bare(colour);
        table.add_row(part.columns.to_vec());
        for cells in &part.rows {
            table.add_row(cells.iter().map(|cell| paint(cell, colour)).collect::<Vec<_>>());
        }
        text.push_str(&lines(&mut table, 0));
    }
    for line in &part.lines {
        let _ = writeln!(text, "{}", clean(line));
    }
    text
}

fn bare(colour: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

fn lines(table: &mut Table, skipped: usize) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().skip(skipped).fold(String::new(), |mut text, line| {
        text.push_str(line.trim_end());
        text.push('\n');
        text
    })
}

/// One row as a line of JSON, at once: a state in between.
pub(crate) fn event(console: &mut Console, row: &Row) -> Result<(), Halt> {
    let line = json_line(row)?;
    print(console, &line)?;
    flush(console)
}

fn json_line(row: &Row) -> Result<String, Halt> {
    let text = serde_json::to_string(&row.envelope()).map_err(|error| unprintable(&error))?;
    Ok(format!("{}\n", json_safe(&text)))
}

/// One row as a sequence of one item; such sequences in a row are one sequence.
fn yaml(row: &Row) -> Result<String, Halt> {
    let unwritable = |error: &dyn std::fmt::Display| {
        Halt::Failed(format!("can't write the answer as YAML: {error}"))
    };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer(&mut text, &[row.envelope()])
        .map_err(|error| unwritable(&error))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if text.chars().any(|c| is_hostile(c) && c != '\n') {
        // Its writer has no escapes for characters that reorder text. JSON has, and is YAML.
        return Ok(format!("- {}", json_line(row)?));
    }
    Ok(text)
}

fn unprintable(error: &serde_json::Error) -> Halt {
    Halt::Failed(format!("can't write the answer as JSON: {error}: use -o table"))
}

fn paint(cell: &Cell, colour: bool) -> comfy_table::Cell {
    let mut painted = comfy_table::Cell::new(clean(&cell.text));
    if cell.right {
        painted = painted.set_alignment(CellAlignment::Right);
    }
    match cell.tone {
        Tone::Good if colour => painted.fg(Color::Green),
        Tone::Warning if colour => painted.fg(Color::Yellow),
        Tone::Bad if colour => painted.fg(Color::Red),
        Tone::Unsure if colour => painted.fg(Color::Magenta),
        _ => painted,
    }
}
