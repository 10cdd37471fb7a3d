//! `health check --level diagnostic`: the report of the whole system, for people and as Markdown.

use std::fmt::Write as _;

use genesis_client::v1::{DiagnoseRequest, DiagnoseResponse, ReportLine, ReportSection};

use super::health::Check;
use super::health_check::{self, Tally, detail, worst_first};
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::markdown::{literal, table};
use crate::outfile::OutFile;
use crate::render::{Answer, Cell, Part, View};

const LINE_COLUMNS: &[&str] = &["NAME", "STATE", "FINDING"];

pub(super) async fn diagnose(session: &Session<'_>, arguments: &Check) -> Result<Exit, Halt> {
    let markdown = arguments.format.is_some();
    if markdown {
        session.one_node("health check --format")?;
        if !session.for_people() && arguments.out.is_none() {
            return Err(Halt::Usage(
                "Markdown is no JSON: add --out FILE for the report, or leave -o or --format out"
                    .into(),
            ));
        }
    }
    session
        .each(|client| async move {
            // Refused before the agent is put to work.
            let replace = session.global.yes;
            let file =
                arguments.out.as_deref().map(|path| OutFile::create(path, replace)).transpose()?;
            let report = client
                .call(DiagnoseRequest {}, |c, r| async move { c.health().diagnose(r).await })
                .await?;
            let json = session.json("DiagnoseResponse", &report)?;
            let view = match (file, markdown) {
                (Some(file), _) => written(session, file, &report)?,
                (None, true) => View { text: to_markdown(&report), ..View::default() },
                (None, false) => view(&report),
            };
            Ok(Answer::new(json, view).exit(exit(&report)))
        })
        .await
}

fn written(
    session: &Session<'_>,
    mut file: OutFile,
    report: &DiagnoseResponse,
) -> Result<View, Stop> {
    file.write(to_markdown(report).as_bytes())?;
    file.commit()?;
    if session.for_people() {
        session.note(&headline(report));
    }
    Ok(View::default())
}

/// By the checks and by what else was looked at.
fn exit(report: &DiagnoseResponse) -> Exit {
    let checks = report.checks.iter().map(|check| check.condition());
    let sections = report.sections.iter().map(ReportSection::condition);
    match (report.checks.as_slice(), report.sections.as_slice()) {
        ([], []) => Exit::of_conditions([report.condition()]),
        _ => Exit::of_conditions(checks.chain(sections)),
    }
}

fn headline(report: &DiagnoseResponse) -> String {
    format!(
        "{}: {}, {} in {}",
        format::or_none(&report.hostname),
        format::condition(report.condition()),
        Tally::of(&report.checks),
        format::proto_duration(report.took.as_ref())
    )
}

fn view(report: &DiagnoseResponse) -> View {
    let checks = Part {
        title: "Checks".to_owned(),
        columns: health_check::COLUMNS,
        rows: worst_first(&report.checks).into_iter().map(health_check::row).collect(),
        ..Part::default()
    };
    let row = |line: &ReportLine| {
        vec![
            Cell::from(line.name.as_str()),
            Cell::condition(line.condition()),
            Cell::from(line.text.as_str()),
        ]
    };
    let part = |section: &ReportSection| Part {
        title: format!("{}: {}", section.title, format::condition(section.condition())),
        columns: LINE_COLUMNS,
        rows: section.lines.iter().map(row).collect(),
        ..Part::default()
    };
    View {
        lead: vec![
            headline(report),
            format!(
                "host id {}, genesis {}, at {}",
                format::or_none(&report.host_id),
                format::or_none(&report.version),
                format::time(report.at.as_ref())
            ),
        ],
        parts: std::iter::once(checks).chain(report.sections.iter().map(part)).collect(),
        ..View::default()
    }
}

fn to_markdown(report: &DiagnoseResponse) -> String {
    let mut page = String::new();
    let facts = [
        ("condition", format::condition(report.condition()).to_owned()),
        ("host id", format::or_none(&report.host_id)),
        ("genesis", format::or_none(&report.version)),
        ("at", format::time(report.at.as_ref())),
        ("took", format::proto_duration(report.took.as_ref())),
    ];
    let _ = writeln!(page, "# Health of {}\n", literal(&format::or_none(&report.hostname)));
    for (name, fact) in facts {
        let _ = writeln!(page, "- {name}: {}", literal(&fact));
    }
    let _ = writeln!(page, "\n## Checks\n\n{}\n", literal(&Tally::of(&report.checks).to_string()));
    table(
        &mut page,
        ["state", "check", "detail", "limit", "took"],
        worst_first(&report.checks).into_iter().map(|check| {
            [
                format::condition(check.condition()).to_owned(),
                check.check.clone(),
                detail(check),
                format::or_none(&check.limit),
                format::proto_duration(check.took.as_ref()),
            ]
        }),
    );
    for section in &report.sections {
        let condition = format::condition(section.condition());
        let _ = writeln!(page, "\n## {}: {condition}\n", literal(&section.title));
        table(
            &mut page,
            ["state", "name", "finding"],
            section.lines.iter().map(|line| {
                let condition = format::condition(line.condition()).to_owned();
                [condition, line.name.clone(), line.text.clone()]
            }),
        );
    }
    page
}
