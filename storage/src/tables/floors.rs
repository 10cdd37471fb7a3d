//! The greatest numbers that were given out of what went back with an earlier state, so that none is given twice: others
//! know it by them.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::error::StorageError;
use crate::schema::{BASELINES, EXPERIMENTS, FLOORS, MATRICES, PARAMETERS};
use crate::view::Source;

/// Of matrices.
pub(crate) const MATRIX: &str = "matrix";
/// Of experiments.
pub(crate) const EXPERIMENT: &str = "experiment";

/// Of the versions of one parameter; `key` is as in its table.
pub(crate) fn of_parameter(key: &str) -> String {
    format!("parameter/{key}")
}

/// Of the generations of one baseline.
pub(crate) fn of_baseline(operation: &str) -> String {
    format!("baseline/{operation}")
}

/// The next number after the last that is there: none that was given before.
pub(crate) fn next(source: Source<'_>, what: &str, last: Option<u64>) -> Result<u64, StorageError> {
    let given = source.view(FLOORS)?.get(what)?.map_or(0, |row| row.value());
    Ok(last.unwrap_or(0).max(given).saturating_add(1))
}

macro_rules! given {
    ($transaction:expr) => {{
        let mut given = BTreeMap::<String, u64>::new();
        let mut is = |what: String, number: u64| {
            let known = given.entry(what).or_default();
            *known = number.max(*known);
        };
        for row in $transaction.open_table(FLOORS)?.iter()? {
            let (what, number) = row?;
            is(what.value().to_owned(), number.value());
        }
        for row in $transaction.open_table(PARAMETERS)?.iter()? {
            let (key, _) = row?;
            is(of_parameter(key.value().0), key.value().1);
        }
        for row in $transaction.open_table(BASELINES)?.iter()? {
            let (key, _) = row?;
            is(of_baseline(key.value().0), key.value().1.into());
        }
        for row in $transaction.open_table(MATRICES)?.iter()? {
            is(MATRIX.to_owned(), row?.0.value());
        }
        for row in $transaction.open_table(EXPERIMENTS)?.iter()? {
            is(EXPERIMENT.to_owned(), row?.0.value());
        }
        given
    }};
}

/// Notes in an earlier state what `from` has given beyond what that one has; how many.
pub(crate) fn raise(from: &ReadTransaction, to: &WriteTransaction) -> Result<u64, redb::Error> {
    let (given, known) = (given!(from), given!(to));
    let mut floors = to.open_table(FLOORS)?;
    let mut raised = 0;
    for (what, number) in given {
        if known.get(&what).is_none_or(|known| number > *known) {
            floors.insert(what.as_str(), number)?;
            raised += 1;
        }
    }
    Ok(raised)
}
