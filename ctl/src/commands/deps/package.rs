//! A package that an update changes, in words.

use genesis_client::v1::{PackageChange, UpdateStrategy, VersionChange};

use crate::format;
use crate::render::Cell;

/// So many changes are named where they are told in short.
const NAMED: usize = 2;

/// The columns of [`row`] before it is done.
pub(super) const PLANNED: &[&str] = &["PACKAGE", "LOCKED", "TO", "CHANGE", "FIXES"];
/// And when it was tried.
pub(super) const TRIED: &[&str] = &["PACKAGE", "FROM", "TO", "CHANGE", "FIXES"];

pub(super) fn row(change: &PackageChange) -> Vec<Cell> {
    vec![
        Cell::from(change.package.as_str()),
        Cell::from(format::or_none(&change.from)),
        Cell::from(format::or_none(&change.to)),
        Cell::version_change(change.change()),
        Cell::from(format::or_none(&change.fixes.join(", "))),
    ]
}

/// Such as "requests 2.31.0 -> 2.32.0", "idna 3.7 added", "six 1.16.0 removed".
pub(super) fn step(change: &PackageChange) -> String {
    let PackageChange { package, from, to, .. } = change;
    match (from.as_str(), to.as_str()) {
        ("", to) => format!("{package} {to} added"),
        (from, "") => format!("{package} {from} removed"),
        (from, to) => format!("{package} {from} -> {to}"),
    }
}

/// The first of them by name, and how many more there are; "-": none.
pub(super) fn brief(changes: &[PackageChange]) -> String {
    // One more takes no more room than to say that there is one.
    let named = if changes.len() == NAMED + 1 { changes.len() } else { NAMED };
    let mut text = changes.iter().take(named).map(step).collect::<Vec<_>>().join(", ");
    if changes.len() > named {
        text += &format!(", {} more", format::count((changes.len() - named) as u64));
    }
    format::or_none(&text)
}

/// How many findings they end, each counted once.
pub(super) fn fixes(changes: &[PackageChange]) -> u64 {
    let mut ids: Vec<&str> =
        changes.iter().flat_map(|one| &one.fixes).map(String::as_str).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.len() as u64
}

/// Such as "conservative", as it is typed; `unset` where none is said.
pub(super) fn strategy(strategy: UpdateStrategy, unset: &'static str) -> &'static str {
    match strategy {
        UpdateStrategy::Unspecified => unset,
        UpdateStrategy::Conservative => "conservative",
        UpdateStrategy::Moderate => "moderate",
        UpdateStrategy::Aggressive => "aggressive",
        UpdateStrategy::Security => "security",
    }
}

/// Such as "PATCH"; "-" for one that this program does not know.
pub(super) fn change(change: VersionChange) -> &'static str {
    format::short_name(change.as_str_name(), "VERSION_CHANGE_")
}
