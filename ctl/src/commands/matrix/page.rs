//! A version on a page of its own: what is known of it, what it was held against, and what to do next.

use genesis_client::v1::{
    CriterionVerdict, MatrixCriterion, MatrixRepair, MatrixState, MatrixVersion, PairDrift,
    PairLack, SeriesWeight,
};

use super::map::signed;
use crate::exit::Exit;
use crate::format::{self, count};
use crate::render::{Cell, Part};

const CRITERION_COLUMNS: &[&str] = &["CRITERION", "VERDICT", "FOUND", "LIMIT", "DETAIL"];
const DRIFT_COLUMNS: &[&str] = &["ONE", "OTHER", "WAS", "IS", "MOVED", "z"];
const LACK_COLUMNS: &[&str] = &["ONE", "OTHER", "POINTS", "WHY"];
const WEIGHT_COLUMNS: &[&str] = &["SERIES", "WEIGHT"];

/// Beyond so many standard deviations a move is hardly noise: p = 0.001.
const NO_NOISE: f64 = 3.29;
/// So many pairs that lack points are listed, unless more is asked for.
const LACKING: usize = 10;

/// What stands before the matrix itself. `verbose`: with all that is known of the pairs that lack points.
pub(super) fn parts(about: &MatrixVersion, verbose: bool) -> Vec<Part> {
    let titled = |what: &str| format!("matrix {}: {what}", about.version);
    let mut parts = vec![
        headline(about),
        criteria(titled("criteria"), &about.criteria),
        lacking(titled("pairs that lack points"), about, verbose),
        weights(titled("what makes it indefinite"), &about.indefinite),
    ];
    parts.extend(about.repair.as_ref().map(|one| repaired(titled("repair"), one)));
    parts.push(drift(titled("what moved most"), about));
    parts.retain(|part| !(part.rows.is_empty() && part.lines.is_empty()));
    parts
}

/// 3 of one that was not valid.
pub(super) fn exit(about: &MatrixVersion) -> Exit {
    match about.state() {
        MatrixState::Rejected => Exit::Findings,
        // An agent of another version knows of something else.
        MatrixState::Unspecified => Exit::Unknown,
        _ => Exit::Ok,
    }
}

pub(super) fn state(about: &MatrixVersion) -> &'static str {
    format::short_name(about.state().as_str_name(), "MATRIX_STATE_")
}

/// The criteria that speak against it, such as "points, drift".
pub(super) fn against(about: &MatrixVersion) -> String {
    let failed = about.criteria.iter().filter(|one| one.verdict() == CriterionVerdict::Fail);
    failed.map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The criterion of that name.
pub(super) fn criterion<'a>(about: &'a MatrixVersion, name: &str) -> Option<&'a MatrixCriterion> {
    about.criteria.iter().find(|one| one.name == name)
}

/// What is to be known first, with what speaks against it in its line.
fn headline(about: &MatrixVersion) -> Part {
    let mut line =
        vec![Cell::from(format!("matrix {}: ", about.version)), Cell::matrix_state(about.state())];
    let against = against(about);
    if !against.is_empty() {
        line.push(Cell::from(" by "));
        line.push(Cell::alert(against, true));
    }
    let lines = facts(about).iter().map(|fact| format!("  {fact}")).collect();
    Part { rows: vec![line], lines, ..Part::default() }
}

fn facts(about: &MatrixVersion) -> Vec<String> {
    let because = |reason: &str| match reason {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let mut facts = vec![
        format!(
            "calculated at {} ({}) by {}{}",
            format::time(about.calculated_at.as_ref()),
            format::or_none(&about.cause),
            format::or_none(&about.by),
            because(&about.reason)
        ),
        format!(
            "window: {} until {} ({})",
            format::time(about.window_from.as_ref()),
            format::time(about.window_until.as_ref()),
            format::between(about.window_from.as_ref(), about.window_until.as_ref())
        ),
        format!(
            "{} series, at least {} points a pair",
            count(about.series.into()),
            count(about.fewest_points.into())
        ),
    ];
    if let Some(at) = &about.activated_at {
        let replaced = match about.replaced {
            0 => ", the first one".to_owned(),
            version => format!(", in place of version {version}"),
        };
        facts.push(format!("active from {}{replaced}", format::time(Some(at))));
    }
    if let Some(at) = &about.ended_at {
        facts.push(format!(
            "ended at {} by {}{}",
            format::time(Some(at)),
            format::or_none(&about.ended_by),
            because(&about.ended_reason)
        ));
    }
    if !about.digest.is_empty() {
        facts.push(format!("digest: {}", about.digest));
    }
    facts
}

/// Counts as counts, the rest in digits that say something.
pub(super) fn found(value: Option<f64>) -> String {
    match value {
        None => format::NONE.to_owned(),
        Some(value) if value.fract() == 0.0 && value.abs() < 1e15 => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", count(value.abs() as u64))
        }
        Some(value) if value.abs() < 0.000_95 => format!("{value:.1e}"),
        Some(value) => format!("{value:.4}"),
    }
}

fn criteria(title: String, criteria: &[MatrixCriterion]) -> Part {
    let row = |one: &MatrixCriterion| {
        let bad = one.verdict() == CriterionVerdict::Fail;
        let relation = if one.at_least { ">=" } else { "<=" };
        vec![
            Cell::from(one.name.as_str()),
            Cell::criterion(one.verdict()),
            Cell::measured(found(one.value), bad),
            Cell::number(format!("{relation} {}", found(Some(one.limit)))),
            Cell::from(one.detail.as_str()),
        ]
    };
    let rows = criteria.iter().map(row).collect();
    Part { title, columns: CRITERION_COLUMNS, rows, ..Part::default() }
}

fn lacking(title: String, about: &MatrixVersion, verbose: bool) -> Part {
    let most = if verbose { usize::MAX } else { LACKING };
    let (rows, mut lines) = lacks(&about.lacking, u64::from(about.lacking_total), most);
    if about.carried > 0 {
        lines.push(format!(
            "  {} of these kept the value that was active",
            count(about.carried.into())
        ));
    }
    Part { title, columns: LACK_COLUMNS, rows, lines }
}

/// Rows of pairs that lack points, and that there are more of them.
pub(super) fn lacks(
    lacking: &[PairLack],
    total: u64,
    most: usize,
) -> (Vec<Vec<Cell>>, Vec<String>) {
    let row = |one: &PairLack| {
        vec![
            Cell::from(one.one.as_str()),
            Cell::from(one.other.as_str()),
            Cell::measured(count(one.points.into()), true),
            Cell::from(format::or_none(&one.why)),
        ]
    };
    let rows: Vec<_> = lacking.iter().take(most).map(row).collect();
    let left = total.saturating_sub(rows.len() as u64);
    let lines = match left {
        0 => Vec::new(),
        left if most < lacking.len() => vec![format!("  and {} more: add -v", count(left))],
        left => vec![format!("  and {} more", count(left))],
    };
    (rows, lines)
}

/// The same of what is calculated here.
pub(super) fn lacking_part(title: String, lacking: &[PairLack], verbose: bool) -> Part {
    let most = if verbose { usize::MAX } else { LACKING };
    let (rows, lines) = lacks(lacking, lacking.len() as u64, most);
    Part { title, columns: LACK_COLUMNS, rows, lines }
}

pub(super) fn weights(title: String, weights: &[SeriesWeight]) -> Part {
    let row = |one: &SeriesWeight| {
        vec![Cell::from(one.series.as_str()), Cell::number(format!("{:.3}", one.weight))]
    };
    let rows: Vec<_> = weights.iter().map(row).collect();
    let lines = match rows.is_empty() {
        true => Vec::new(),
        false => vec!["  their parts of the vector of the smallest eigenvalue".to_owned()],
    };
    Part { title, columns: WEIGHT_COLUMNS, rows, lines }
}

fn repaired(title: String, one: &MatrixRepair) -> Part {
    let lines = vec![
        "  it was indefinite, and the nearest one that is not stands in its place (Higham 2002)"
            .to_owned(),
        format!(
            "  the largest change is {} of {} and {}, all together {} (Frobenius), in {}",
            found(Some(one.largest)),
            format::or_none(&one.one),
            format::or_none(&one.other),
            found(Some(one.frobenius)),
            format::plural(one.steps.into(), "step")
        ),
    ];
    Part { title, lines, ..Part::default() }
}

fn drift(title: String, about: &MatrixVersion) -> Part {
    let limit = criterion(about, "drift").map(|one| one.limit);
    let row = |one: &PairDrift| {
        let moved = one.new_value - one.old_value;
        // As the kernel compares it.
        let beyond = limit.is_some_and(|limit| moved.abs() > limit + 1e-12);
        let z = one.z.map_or_else(|| format::NONE.to_owned(), |z| format!("{z:.2}"));
        vec![
            Cell::from(one.one.as_str()),
            Cell::from(one.other.as_str()),
            Cell::number(signed(one.old_value)),
            Cell::number(signed(one.new_value)),
            Cell::measured(format!("{moved:+.4}"), beyond),
            Cell::number(z),
        ]
    };
    let rows: Vec<_> = about.worst.iter().map(row).collect();
    let mut lines = Vec::new();
    if let Some(ratio) = about.frobenius_ratio {
        lines.push(format!(
            "  all pairs together moved by {} of what was active (Frobenius)",
            format::share(ratio)
        ));
    }
    if about.worst.iter().any(|one| one.z.is_some()) {
        lines.push(format!("  z beyond {NO_NOISE} is hardly noise alone (p < 0.001)"));
    }
    Part { title, columns: DRIFT_COLUMNS, rows, lines }
}

/// What somebody who looks at it may want to type.
pub(super) fn next(about: &MatrixVersion) -> Option<Part> {
    let version = about.version;
    let failed = |name: &str| {
        criterion(about, name).is_some_and(|one| one.verdict() == CriterionVerdict::Fail)
    };
    let mut lines: Vec<String> = Vec::new();
    match about.state() {
        MatrixState::Canary => {
            lines.push("`genesisctl matrix rollout status` says how it fares".to_owned());
            lines.push("`genesisctl matrix rollout abort --reason ...` ends it".to_owned());
        }
        MatrixState::Active if about.replaced > 0 => lines.push(format!(
            "`genesisctl matrix rollback --reason ...` goes back to version {}",
            about.replaced
        )),
        MatrixState::Rejected => {
            lines.push("nobody uses it: `genesisctl matrix show` has the one in use".to_owned());
            if failed("points") {
                lines.push("`genesisctl series list` says which series have gaps".to_owned());
                lines.push(
                    "`genesisctl matrix update --carry --plan` lets such pairs keep their values"
                        .to_owned(),
                );
            }
            if failed("drift") || failed("history") {
                lines.push("look for bad values of the pairs that moved most".to_owned());
                lines.push(
                    "if it was the market that moved: the limits are in [matrices]".to_owned(),
                );
            }
        }
        MatrixState::Superseded | MatrixState::RolledBack if about.kept => lines.push(format!(
            "`genesisctl matrix rollback --to {version} --reason ...` makes it active again"
        )),
        _ => {}
    }
    if lines.is_empty() {
        return None;
    }
    let lines = lines.iter().map(|line| format!("  {line}")).collect();
    Some(Part { title: "next".to_owned(), lines, ..Part::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_told_in_digits_that_say_something() {
        for (value, text) in [
            (None, "-"),
            (Some(8_211.0), "8,211"),
            (Some(-3.0), "-3"),
            (Some(0.0), "0"),
            (Some(0.15), "0.1500"),
            (Some(-1.25e-17), "-1.2e-17"),
            (Some(f64::NAN), "NaN"),
        ] {
            assert_eq!(found(value), text);
        }
    }
}
