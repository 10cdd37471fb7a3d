//! `deps scan --format`: the findings as a file for other programs.

use super::{Scan, project, sarif, scan};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::outfile::OutFile;
use crate::render::{self, Answer, View, json_safe};

pub(super) async fn export(session: &Session<'_>, arguments: &Scan) -> Result<Exit, Halt> {
    session.one_node("deps scan --format")?;
    let out = arguments.out.as_deref();
    if !session.for_people() && out.is_none() {
        return Err(Halt::Usage(
            "SARIF is no answer of -o, which has the findings as well: add --out FILE for it, or leave -o or --format out"
                .into(),
        ));
    }
    session
        .each(|client| async move {
            // Refused before the agent is put to work.
            let replace = session.global.yes;
            let file = out.map(|path| OutFile::create(path, replace)).transpose()?;
            let response = scan::ask(&client, arguments).await?;
            let json = session.json("ScanDependenciesResponse", &response)?;
            if let Some(error) = scan::nothing(&response) {
                // A file without a run would look as if nothing was found.
                return Ok(Answer::new(json, View::default())
                    .exit(Exit::of_error(&error))
                    .error(error));
            }
            // The bytes may end on a terminal.
            let data = json_safe(&sarif::text(&response)?);
            match file {
                Some(mut file) => {
                    file.write(data.as_bytes())?;
                    file.commit()?;
                }
                None => session.console(|console| {
                    render::file(console, data.as_bytes())?;
                    render::flush(console)
                })?,
            }
            if session.for_people() && out.is_some() {
                let findings: usize = response.projects.iter().map(|one| one.findings.len()).sum();
                let projects = format::plural(response.projects.len() as u64, "project");
                let findings = format::plural(findings as u64, "finding");
                session.note(&format!("exported {findings} of {projects}, ignored ones included"));
            }
            Ok(Answer::new(json, View::default()).exit(project::exit_of(&response.projects)))
        })
        .await
}
