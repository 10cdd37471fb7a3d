//! `deps status`.

use genesis_client::v1::{DependencyProject, GetDependenciesRequest, GetDependenciesResponse};

use super::data;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] = &["PROJECT", "ROOT", "MANIFESTS"];
/// Where several nodes answer.
const COLUMNS_MANY: &[&str] = &["PROJECT", "ROOT", "MANIFESTS", "DATA"];

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

/// What a scan would come to at best. Where nothing is to be scanned, nobody needs the data.
fn exit(response: &GetDependenciesResponse) -> Exit {
    match !response.projects.is_empty() && data::is_lacking(&response.sources) {
        true => Exit::Unknown,
        false => Exit::Ok,
    }
}

fn view(response: &GetDependenciesResponse, many: bool, verbose: bool) -> View {
    let data = data::brief(&response.sources);
    let row = |project: &DependencyProject| {
        let mut cells = vec![
            Cell::from(project.name.as_str()),
            Cell::from(project.root.as_str()),
            Cell::from(format::or_none(&project.manifests.join(", "))),
        ];
        if many {
            cells.push(Cell::from(data.as_str()));
        }
        cells
    };
    let shown = !many || verbose;
    View {
        columns: if many { COLUMNS_MANY } else { COLUMNS },
        rows: response.projects.iter().map(row).collect(),
        parts: shown.then(|| data::part(&response.sources, verbose)).into_iter().collect(),
        empty: "no project is configured: name some in [[dependencies.project]] of the agent's configuration",
        ..View::default()
    }
}
