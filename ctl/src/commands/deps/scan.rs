//! `deps scan`.

use genesis_client::v1::ScanDependenciesResponse;
use genesis_client::{Client, Error, Kind};

use super::{Scan, data, project};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, View};

/// Where several nodes answer.
const COLUMNS: &[&str] = &[
    "PROJECT",
    "VERDICT",
    "JUDGED",
    "FINDINGS",
    "WORST",
    "EXPLOITED",
    "IGNORED",
    "NOT JUDGED",
    "DATA",
];

pub(super) async fn scan(session: &Session<'_>, arguments: &Scan) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let response = ask(&client, arguments).await?;
            let json = session.json("ScanDependenciesResponse", &response)?;
            let view = view(&response, arguments, session.many(), session.global.verbose);
            let answer = Answer::new(json, view).exit(project::exit_of(&response.projects));
            Ok(match nothing(&response) {
                Some(error) => answer.exit(Exit::of_error(&error)).error(error),
                None => answer,
            })
        })
        .await
}

pub(super) async fn ask(
    client: &Client,
    arguments: &Scan,
) -> Result<ScanDependenciesResponse, Error> {
    client
        .call(
            arguments.request(),
            |c, r| async move { c.dependencies().scan_dependencies(r).await },
        )
        .await
}

/// Without a project there is nothing to find, and whoever only looks at the exit code would take that for a pass. So it
/// is what a node with an incomplete answer has: 5.
pub(super) fn nothing(response: &ScanDependenciesResponse) -> Option<Error> {
    response.projects.is_empty().then(|| {
        Error::new(
            Kind::Incomplete,
            "FAILED_PRECONDITION",
            "NOTHING_SCANNED",
            "no project is configured, so nothing was scanned",
            "name what is to be scanned in [[dependencies.project]] of the agent's configuration, then \
             `genesisctl config reload`",
        )
    })
}

fn view(response: &ScanDependenciesResponse, arguments: &Scan, many: bool, verbose: bool) -> View {
    if response.projects.is_empty() {
        return View::default();
    }
    let mut parts = Vec::new();
    // Between the rows of several nodes only if it is asked for.
    if !many || verbose {
        parts.extend(response.projects.iter().map(|scan| project::part(scan, verbose)));
        parts.push(data::part(&response.sources, verbose));
        if arguments.as_of.is_some()
            && let Some(data) = parts.last_mut()
        {
            data.title = format!("Data, as of {}", format::time(response.as_of.as_ref()));
        }
    }
    let data = data::brief(&response.sources);
    let rows = response.projects.iter().map(|scan| project::row(scan, &data));
    let rows = if many { rows.collect() } else { Vec::new() };
    View { columns: if many { COLUMNS } else { &[] }, rows, parts, ..View::default() }
}
