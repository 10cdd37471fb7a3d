//! The data that projects are held against.

use genesis_client::v1::{DataSource, DataState};

use crate::format;
use crate::render::{Cell, Part};

const COLUMNS: &[&str] = &["SOURCE", "STATE", "RECORDS", "NEWEST", "FILE DATE", "WHY"];
const COLUMNS_LONG: &[&str] =
    &["SOURCE", "STATE", "RECORDS", "NEWEST", "FILE DATE", "IMPORTED", "FILE", "DIGEST", "WHY"];

/// The columns of [`rows`]. `verbose`: with where it came from.
pub(super) fn columns(verbose: bool) -> &'static [&'static str] {
    if verbose { COLUMNS_LONG } else { COLUMNS }
}

pub(super) fn rows(sources: &[DataSource], verbose: bool) -> Vec<Vec<Cell>> {
    sources.iter().map(|source| row(source, verbose)).collect()
}

fn row(source: &DataSource, verbose: bool) -> Vec<Cell> {
    let mut cells = vec![
        Cell::from(source.name.as_str()),
        Cell::data_state(source.state()),
        Cell::number(format::count(source.records)),
        Cell::from(format::time(source.newest_at.as_ref())),
        Cell::from(format::time(source.file_at.as_ref())),
    ];
    if verbose {
        cells.push(Cell::from(format::time(source.imported_at.as_ref())));
        cells.push(Cell::from(format::or_none(&source.file)));
        cells.push(Cell::from(format::or_none(&source.digest)));
    }
    cells.push(Cell::from(format::or_none(&source.why)));
    cells
}

/// A table of them.
pub(super) fn part(sources: &[DataSource], verbose: bool) -> Part {
    let none = "there is none: import some with `genesisctl deps import-advisories`";
    Part {
        title: "Data".to_owned(),
        columns: columns(verbose),
        rows: rows(sources, verbose),
        lines: if sources.is_empty() { vec![none.to_owned()] } else { Vec::new() },
    }
}

/// All of them in a few words, such as "PyPI CHECKED, kev STALE".
pub(super) fn brief(sources: &[DataSource]) -> String {
    let named = |source: &DataSource| {
        let state = format::short_name(source.state().as_str_name(), "DATA_STATE_");
        format!("{} {state}", source.name)
    };
    format::or_none(&sources.iter().map(named).collect::<Vec<_>>().join(", "))
}

/// Whether a scan can't go by it. What makes a finding more urgent may never have been imported: a finding it stays.
pub(super) fn is_lacking(sources: &[DataSource]) -> bool {
    let optional = |source: &DataSource| matches!(source.name.as_str(), "kev" | "epss");
    let lacking = |source: &DataSource| match source.state() {
        DataState::Checked => false,
        DataState::NotChecked => !optional(source),
        DataState::Stale | DataState::Unspecified => true,
    };
    sources.iter().all(optional) || sources.iter().any(lacking)
}
