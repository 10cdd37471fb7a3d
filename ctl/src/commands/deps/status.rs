//! `deps status`.

use genesis_client::v1::{
    Condition, DependencyProject, GetDependenciesRequest, GetDependenciesResponse,
};

use super::{data, known};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] =
    &["PROJECT", "RELEASE", "IN MEMORY", "VULNERABLE", "LOOKED AT", "UPDATES", "ROOT", "MANIFESTS"];
/// Where several nodes answer.
const COLUMNS_MANY: &[&str] = &[
    "PROJECT",
    "RELEASE",
    "IN MEMORY",
    "VULNERABLE",
    "LOOKED AT",
    "UPDATES",
    "ROOT",
    "MANIFESTS",
    "DATA",
];

pub(super) async fn status(session: &Session<'_>) -> Result<Exit, Halt> {
    let columns = if session.many() { COLUMNS_MANY } else { COLUMNS };
    session
        .each_in(columns, |client| async move {
            let response = client
                .call(GetDependenciesRequest {}, |c, r| async move {
                    c.dependencies().get_dependencies(r).await
                })
                .await?;
            let json = session.json("GetDependenciesResponse", &response)?;
            let view = view(&response, session.many(), session.global.verbose);
            Ok(Answer::new(json, view).exit(exit(&response)))
        })
        .await
}

/// What a scan would come to at best, and whether what was updated is what runs: unknown beats what is not. Where nothing is
/// to be scanned, nobody needs the data.
fn exit(response: &GetDependenciesResponse) -> Exit {
    let lacking = !response.projects.is_empty() && data::is_lacking(&response.sources);
    let data = if lacking { Condition::Unknown } else { Condition::Ok };
    Exit::of_conditions(response.projects.iter().map(known::condition).chain([data]))
}

fn view(response: &GetDependenciesResponse, many: bool, verbose: bool) -> View {
    let data = data::brief(&response.sources);
    let row = |project: &DependencyProject| {
        let mut cells = vec![Cell::from(project.name.as_str())];
        cells.extend(known::cells(project));
        cells.push(Cell::from(project.root.as_str()));
        cells.push(Cell::from(format::or_none(&project.manifests.join(", "))));
        if many {
            cells.push(Cell::from(data.as_str()));
        }
        cells
    };
    // Between the rows of several nodes only if it is asked for.
    let mut parts = Vec::new();
    if !many || verbose {
        parts.extend(response.projects.iter().filter_map(|one| known::part(one, verbose)));
        parts.push(data::part(&response.sources, verbose));
    }
    View {
        columns: if many { COLUMNS_MANY } else { COLUMNS },
        rows: response.projects.iter().map(row).collect(),
        parts,
        empty: "no project is configured: name some in [[dependencies.project]] of the agent's configuration",
        ..View::default()
    }
}
