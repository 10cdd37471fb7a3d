//! `drill`: what one hopes never to need, practised against sandboxes.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use genesis_client::v1::{
    Drill, DrillReport, DrillStanding, GetDrillReportRequest, ListDrillsRequest, RunDrillRequest,
    Truth,
};

use super::incident::FileType;
use super::rollback::SERVICE;
use super::{incomplete_answer, run};
use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::markdown::{self, literal, table};
use crate::plan;
use crate::render::{Answer, Cell, Part, View};

const COLUMNS: &[&str] = &["DRILL", "STANDING", "LAST", "OUTCOME", "RTO", "OVERDUE AT"];
const STEPS: &[&str] = &["STEP", "OUTCOME", "TOOK", "DETAIL"];

const RUN_EXAMPLES: &str = "\
Nothing that is in use is touched: an emergency goes to a sandbox, a restore into a scratch instance, a rollback is planned
and carried out on a copy. Where there can be none it is only planned, which proves nothing. Exits 1 where something went wrong, 5 where something could not be seen.

Examples:
  genesisctl drill run emergency
  genesisctl drill run restore:orders --detach
  genesisctl drill run rollback:config --plan";

const LIST_EXAMPLES: &str = "\
CURRENT: it passed not long ago. DUE: it is to be done, which the agent does by itself. OVERDUE: it has not passed in time.
N/A: there is nothing yet that it could practise, such as a configuration to go back to; below the table it says why.
Exits 3 where one is OVERDUE. RTO: how long it took in the last one that passed until all was well again.

Examples:
  genesisctl drill list
  genesisctl drill list --all";

const REPORT_EXAMPLES: &str = "\
Examples:
  genesisctl drill report
  genesisctl drill report 01J9ZK --format markdown --out drill.md";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Practise an emergency, a restore or a rollback, and show how long it took and what deviated.
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        /// "emergency", "restore", "restore:SOURCE" or "rollback:COMPONENT".
        name: String,
        /// Do not follow the run.
        #[arg(long)]
        detach: bool,
    },
    /// List the drills that are due from time to time, and those that were done beside them.
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Show what a drill has shown: its steps, what deviated, and the time to recover.
    #[command(after_help = REPORT_EXAMPLES)]
    Report {
        /// The drill's id, its unique beginning of at least four characters, or "last".
        #[arg(default_value = "last")]
        id: String,
        /// Print it as a file of this type.
        #[arg(long, value_enum, value_name = "TYPE")]
        format: Option<FileType>,
        /// Write it into this file. One that exists is replaced only with --yes.
        #[arg(long, value_name = "FILE", requires = "format")]
        out: Option<PathBuf>,
    },
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Run { .. } => Some((SERVICE, "RunDrill")),
            Self::List | Self::Report { .. } => None,
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Run { name, detach } => practise(session, name, *detach).await,
        Verb::List => list(session).await,
        Verb::Report { id, format, out } => report(session, id, (*format, out)).await,
    }
}

async fn practise(session: &Session<'_>, name: &str, detach: bool) -> Result<Exit, Halt> {
    let request = RunDrillRequest { name: name.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, recovery, plan_run_drill);
    }
    consent(session, SERVICE, "RunDrill", &format!("practise {name}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().run_drill(r).await })
                .await?;
            let json = session.json("RunDrillResponse", &response)?;
            let mut answer =
                run::started(session, &client, response.run.as_ref(), json, detach).await?;
            if !detach {
                let hint = "its steps: `genesisctl drill report last`";
                answer.view.tail.push(hint.to_owned());
            }
            Ok(answer)
        })
        .await
}

async fn list(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let list = client
                .call(ListDrillsRequest {}, |c, r| async move { c.recovery().list_drills(r).await })
                .await?;
            let json = session.json("ListDrillsResponse", &list)?;
            let overdue = list.drills.iter().any(|it| it.standing() == DrillStanding::Overdue);
            let view = View {
                columns: COLUMNS,
                rows: list.drills.iter().map(row).collect(),
                empty: "no drill is due from time to time, and none was done",
                tail: list
                    .drills
                    .iter()
                    .filter(|it| !it.not_applicable.is_empty())
                    .map(idle)
                    .collect(),
                ..View::default()
            };
            let exit = if overdue { Exit::Findings } else { Exit::Ok };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

/// Why a drill is not applicable.
fn idle(drill: &Drill) -> String {
    format!("{}: {}", drill.name, drill.not_applicable)
}

fn row(drill: &Drill) -> Vec<Cell> {
    let last = drill.last.as_ref();
    let rto = drill.last_passed.as_ref().and_then(|it| it.rto.as_ref());
    vec![
        Cell::from(drill.name.as_str()),
        Cell::drill_standing(drill.standing()),
        Cell::from(format::time(last.and_then(|it| it.ended_at.as_ref()))),
        last.map_or_else(|| Cell::from("-"), |it| Cell::truth(it.outcome(), false)),
        Cell::number(format::latency(rto)),
        Cell::from(format::time(drill.overdue_at.as_ref())),
    ]
}

async fn report(
    session: &Session<'_>,
    id: &str,
    (format, out): (Option<FileType>, &Option<PathBuf>),
) -> Result<Exit, Halt> {
    if format.is_some() {
        markdown::check(session, "drill report --format", out.as_deref())?;
    }
    let request = &GetDrillReportRequest { id: id.to_owned() };
    session
        .each(|client| async move {
            let sink = markdown::Sink::open(session, out.as_deref())?;
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().get_drill_report(r).await })
                .await?;
            let json = session.json("GetDrillReportResponse", &response)?;
            let report = response.report.ok_or_else(|| incomplete_answer("the report"))?;
            let view = match format {
                Some(FileType::Markdown) => {
                    let page = to_markdown(&report, &client.node().to_string());
                    sink.put(session, page, &headline(&report))?
                }
                None => page(&report),
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn headline(report: &DrillReport) -> String {
    let outcome = match report.outcome() {
        Truth::Pass => "PASSED",
        Truth::Fail => "FAILED",
        Truth::Unknown | Truth::Unspecified => "UNKNOWN: nothing is proven",
    };
    format!("drill {} {}: {outcome}", report.id, report.drill)
}

/// Who did it when, and the time to recover.
fn facts(report: &DrillReport) -> Vec<String> {
    let reason = match report.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let rto = match &report.rto {
        Some(rto) => format::latency(Some(rto)),
        None => "none, for not all was well again".to_owned(),
    };
    let rpo = report.rpo.as_ref().map(|rpo| {
        let age = format::latency(Some(rpo));
        format!("would have been lost (RPO): the last {age}, by the age of the backup")
    });
    let facts = [
        format!(
            "{} to {}, by {}{reason}",
            format::time(report.started_at.as_ref()),
            format::time(report.ended_at.as_ref()),
            format::or_none(&report.by)
        ),
        format!("time to recover (RTO): {rto}"),
    ];
    facts.into_iter().chain(rpo).collect()
}

fn page(report: &DrillReport) -> View {
    let steps = report.steps.iter().map(|step| {
        vec![
            Cell::from(step.name.as_str()),
            Cell::truth(step.outcome(), false),
            Cell::number(format::latency(step.took.as_ref())),
            Cell::from(step.detail.as_str()),
        ]
    });
    let steps = Part {
        title: "Steps".to_owned(),
        columns: STEPS,
        rows: steps.collect(),
        ..Part::default()
    };
    let deviations = Part {
        title: "What deviated".to_owned(),
        lines: report.deviations.clone(),
        ..Part::default()
    };
    let mut lead = vec![headline(report)];
    lead.extend(facts(report));
    if report.deviations.is_empty() {
        lead.push("nothing deviated".to_owned());
    }
    let parts = [steps, deviations].into_iter();
    let parts = parts.filter(|part| !part.rows.is_empty() || !part.lines.is_empty());
    View { lead, parts: parts.collect(), ..View::default() }
}

fn to_markdown(report: &DrillReport, node: &str) -> String {
    let mut page = format!("# {}\n\n- agent: {}\n", literal(&headline(report)), literal(node));
    for fact in facts(report) {
        let _ = writeln!(page, "- {}", literal(&fact));
    }
    let _ = writeln!(page, "\n## Steps\n");
    let steps = report.steps.iter().map(|step| {
        let outcome = format::truth(step.outcome()).to_owned();
        let took = format::latency(step.took.as_ref());
        [step.name.clone(), outcome, took, step.detail.clone()]
    });
    table(&mut page, ["step", "outcome", "took", "detail"], steps);
    let _ = writeln!(page, "\n## What deviated\n");
    if report.deviations.is_empty() {
        let _ = writeln!(page, "Nothing.");
    }
    for deviation in &report.deviations {
        let _ = writeln!(page, "- {}", literal(deviation));
    }
    page
}
