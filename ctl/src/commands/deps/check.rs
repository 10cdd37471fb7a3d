//! `deps check`.

use std::time::Duration;

use genesis_client::v1::{
    CheckDependenciesRequest, CheckDependenciesResponse, DependencyFinding, PackageChange,
    ProjectCheck, UpdateStrategy, VersionChange,
};

use super::{finding, package, project, waiting};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, Part, View};

/// Where several nodes answer.
const COLUMNS: &[&str] =
    &["PROJECT", "STRATEGY", "CHANGES", "FIXES", "BEYOND", "VULNERABLE", "UNMANAGED", "ERROR"];

pub(super) async fn check(
    session: &Session<'_>,
    project: &str,
    strategy: UpdateStrategy,
) -> Result<Exit, Halt> {
    let request =
        &CheckDependenciesRequest { project: project.to_owned(), strategy: strategy.into() };
    session
        .each_in(COLUMNS, |client| async move {
            let bar = session.bar("asking the index");
            let checked = waiting(session, &client)
                .call(request.clone(), |c, r| async move {
                    c.dependencies().check_dependencies(r).await
                })
                .await?;
            drop(bar);
            let json = session.json("CheckDependenciesResponse", &checked)?;
            let view = view(&checked, session.many(), session.global.verbose);
            Ok(Answer::new(json, view).exit(exit(&checked)))
        })
        .await
}

/// That there is something newer is no finding. What could not be found out is not known.
fn exit(checked: &CheckDependenciesResponse) -> Exit {
    let unknown = |one: &ProjectCheck| failure(one).is_some() || !one.unjudged.is_empty();
    match checked.projects.iter().any(unknown) {
        true => Exit::Unknown,
        false => Exit::Ok,
    }
}

/// Such as "error[RESOLUTION_FAILED]: a needs b<2, c needs b>=2", where it could not be found out.
fn failure(check: &ProjectCheck) -> Option<String> {
    match (check.error_code.as_str(), check.error.as_str()) {
        ("", "") => None,
        ("", error) => Some(format!("error: {error}")),
        (code, "") => Some(format!("error[{code}]")),
        (code, error) => Some(format!("error[{code}]: {error}")),
    }
}

fn view(checked: &CheckDependenciesResponse, many: bool, verbose: bool) -> View {
    let mut parts = Vec::new();
    // Between the rows of several nodes only if it is asked for.
    if !many || verbose {
        parts.extend(checked.projects.iter().map(|check| part(check, verbose)));
    }
    View {
        columns: if many { COLUMNS } else { &[] },
        rows: if many { checked.projects.iter().map(row).collect() } else { Vec::new() },
        parts,
        empty: match checked.projects.is_empty() {
            true => "no project can be updated: `genesisctl deps status` says why",
            false => "",
        },
        ..View::default()
    }
}

fn row(check: &ProjectCheck) -> Vec<Cell> {
    let number = |number: usize| Cell::number(format::count(number as u64));
    vec![
        Cell::from(check.project.as_str()),
        Cell::from(package::strategy(check.strategy(), format::NONE)),
        number(check.changes.len()),
        Cell::number(format::count(package::fixes(&check.changes))),
        number(check.beyond.len()),
        number(check.remaining.len()),
        number(check.unmanaged.len()),
        failure(check).map_or_else(|| Cell::from(format::NONE), |why| Cell::alert(why, true)),
    ]
}

fn part(check: &ProjectCheck, verbose: bool) -> Part {
    let strategy = package::strategy(check.strategy(), "strategy unknown");
    if let Some(why) = failure(check) {
        let title = format!("{}, {strategy}: it could not be found out", check.project);
        return Part { title, lines: vec![why], ..Part::default() };
    }
    let mut lines = Vec::new();
    for (what, said) in [
        ("beyond", check.beyond.iter().map(beyond).collect::<Vec<_>>()),
        ("stays vulnerable", check.remaining.iter().map(remaining).collect()),
        ("unmanaged", check.unmanaged.iter().map(|one| project::line("unmanaged", one)).collect()),
    ] {
        lines.extend(project::shortened(what, said, verbose));
    }
    if !check.unjudged.is_empty() {
        lines.push(format!("not judged: {}: what stays vulnerable is not known", check.unjudged));
    }
    lines.push(age(check));
    lines.push(next(check));
    Part {
        title: title(check, strategy),
        columns: package::PLANNED,
        rows: check.changes.iter().map(package::row).collect(),
        lines,
    }
}

/// Such as "api, conservative: 3 packages to change, which ends 2 findings; 1 stays vulnerable".
fn title(check: &ProjectCheck, strategy: &str) -> String {
    let mut text = match check.changes.len() as u64 {
        0 => format!("{}, {strategy}: nothing to change", check.project),
        changes => format!(
            "{}, {strategy}: {} to change",
            check.project,
            format::plural(changes, "package")
        ),
    };
    match package::fixes(&check.changes) {
        0 => {}
        fixes => text += &format!(", which ends {}", format::plural(fixes, "finding")),
    }
    match check.remaining.len() as u64 {
        0 => {}
        stay => {
            text += &format!("; {} stay{}", vulnerabilities(stay), if stay == 1 { "s" } else { "" })
        }
    }
    text
}

fn vulnerabilities(number: u64) -> String {
    match number {
        1 => "1 vulnerability".to_owned(),
        number => format!("{} vulnerabilities", format::count(number)),
    }
}

/// Such as "beyond: numpy 1.26.4 -> 2.1.0 (MAJOR), by --strategy aggressive; it would end CVE-2024-1".
fn beyond(change: &PackageChange) -> String {
    // The narrowest that goes so far.
    let strategy = match change.change() {
        VersionChange::Patch => "conservative",
        VersionChange::Minor => "moderate",
        _ => "aggressive",
    };
    let mut text = format!(
        "beyond: {} ({}), by --strategy {strategy}",
        package::step(change),
        package::change(change.change())
    );
    if !change.fixes.is_empty() {
        text += &format!("; it would end {}", change.fixes.join(", "));
    }
    text
}

/// Such as "stays vulnerable: jinja2 3.0.1 has CVE-2024-5, HIGH 7.5, exploited, fixed in 3.1.4".
fn remaining(found: &DependencyFinding) -> String {
    let exploited = if found.exploited == Some(true) { ", exploited" } else { "" };
    let fixed = match found.fixed_in.as_str() {
        "" => "there is no fixed version yet".to_owned(),
        version => format!("fixed in {version}"),
    };
    format!(
        "stays vulnerable: {} {} has {}, {}{exploited}, {fixed}",
        found.package,
        found.installed,
        found.id,
        finding::severity(found)
    )
}

/// How old versions must be, and whether that could be held to.
fn age(check: &ProjectCheck) -> String {
    let known = check.min_release_age.and_then(|age| Duration::try_from(age).ok());
    match known.filter(|age| !age.is_zero()) {
        None => "age of releases: any is taken, however new".to_owned(),
        Some(age) if check.age_checked => {
            format!("age of releases: none is taken before it is out for {}", format::duration(age))
        }
        Some(age) => format!(
            "age of releases: {} are wanted, but the tool could not hold to that, so that some may be newer",
            format::duration(age)
        ),
    }
}

/// What to run now.
fn next(check: &ProjectCheck) -> String {
    let project = &check.project;
    let strategy = match check.strategy() {
        UpdateStrategy::Unspecified => String::new(),
        strategy => format!(" --strategy {}", package::strategy(strategy, "")),
    };
    let mendable = check.remaining.iter().any(|found| !found.fixed_in.is_empty());
    if !check.changes.is_empty() {
        return format!(
            "next: `genesisctl deps update --project {project}{strategy} --plan` shows what an update does, without \
             --plan it is done"
        );
    }
    if mendable && check.strategy() != UpdateStrategy::Security {
        return format!(
            "next: `genesisctl deps check --project {project} --strategy security` shows what ends \
             vulnerabilities"
        );
    }
    match check.beyond.is_empty() {
        true => "next: nothing to do".to_owned(),
        false => format!(
            "next: `genesisctl deps check --project {project} --strategy aggressive` shows all that is newer"
        ),
    }
}
