//! `schedule`: the jobs that the agent starts by itself.

use clap::Subcommand;
use genesis_client::v1::{
    Job, ListJobsRequest, PauseJobRequest, ResumeJobRequest, RunJobRequest, RunState,
};
use jiff::Timestamp;

use super::run;
use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, View};

const SERVICE: &str = "genesis.v1.ScheduleService";

pub(super) const COLUMNS: &[&str] =
    &["JOB", "SCHEDULE", "STATE", "NEXT", "LAST DUE", "LAST RUN", "NOTE"];

const LIST_EXAMPLES: &str = "\
Examples:
  genesisctl schedule list
  genesisctl schedule list --next 5 --at 2024-02-29
  genesisctl schedule list -v --at 2024-03-31T01:30:00Z";

const RUN_EXAMPLES: &str = "\
A job that already runs is attached to. The exit code is the run's, as in `genesisctl run watch`.

Example:
  genesisctl schedule run logs.archive-retention --reason 'disk is filling up'";

const PAUSE_EXAMPLES: &str = "\
Examples:
  genesisctl schedule pause logs.archive-retention --plan
  genesisctl schedule pause logs.archive-retention --reason 'audit until Friday'";

const RESUME_EXAMPLES: &str = "\
Example:
  genesisctl schedule resume logs.archive-retention";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the jobs with their next times, this host's delay included. All times are UTC.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// How many next times to show for each job.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
        next: u32,
        /// Preview as if it were this instant: RFC 3339, or a date in UTC.
        #[arg(long, value_name = "INSTANT", value_parser = format::parse_instant)]
        at: Option<Timestamp>,
    },
    /// Run a job now, as its schedule would, and wait for its end.
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        /// The job's name.
        job: String,
        /// Don't wait for the run's end.
        #[arg(long)]
        detach: bool,
    },
    /// Keep a job from starting by itself until it is resumed; it survives restarts.
    #[command(after_help = PAUSE_EXAMPLES)]
    Pause {
        /// The job's name.
        job: String,
    },
    /// Let a paused job start by itself again; what was missed meanwhile is skipped.
    #[command(after_help = RESUME_EXAMPLES)]
    Resume {
        /// The job's name.
        job: String,
    },
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List { next, at } => list(session, *next, *at).await,
        Verb::Run { job, detach } => {
            let request = RunJobRequest { name: job.clone(), plan_hash: session.plan_hash() };
            if session.global.plan {
                return plan::ask!(session, request, schedule, plan_run_job);
            }
            consent(session, SERVICE, "RunJob", &format!("run {job}"))?;
            let request = &request;
            session
                .each(|client| async move {
                    let response = client
                        .call(request.clone(), |c, r| async move { c.schedule().run_job(r).await })
                        .await?;
                    let json = session.json("RunJobResponse", &response)?;
                    run::started(session, &client, response.run.as_ref(), json, *detach).await
                })
                .await
        }
        Verb::Pause { job } => {
            let request = PauseJobRequest { name: job.clone(), plan_hash: session.plan_hash() };
            if session.global.plan {
                return plan::ask!(session, request, schedule, plan_pause_job);
            }
            consent(session, SERVICE, "PauseJob", &format!("pause {job}"))?;
            let request = &request;
            session
                .each(|client| async move {
                    let response = client
                        .call(
                            request.clone(),
                            |c, r| async move { c.schedule().pause_job(r).await },
                        )
                        .await?;
                    let json = session.json("PauseJobResponse", &response)?;
                    let line =
                        format!("{job} is paused: `genesisctl schedule resume {job}` ends that");
                    Ok(Answer::new(json, View::line(line)))
                })
                .await
        }
        Verb::Resume { job } => {
            let request = ResumeJobRequest { name: job.clone(), plan_hash: session.plan_hash() };
            if session.global.plan {
                return plan::ask!(session, request, schedule, plan_resume_job);
            }
            consent(session, SERVICE, "ResumeJob", &format!("resume {job}"))?;
            let request = &request;
            session
                .each(|client| async move {
                    let response = client
                        .call(
                            request.clone(),
                            |c, r| async move { c.schedule().resume_job(r).await },
                        )
                        .await?;
                    let json = session.json("ResumeJobResponse", &response)?;
                    let next = response.job.as_ref().and_then(|job| job.next_at.first());
                    let line = format!("{job} is resumed, next at {}", format::time(next));
                    Ok(Answer::new(json, View::line(line)))
                })
                .await
        }
    }
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::List { .. } => None,
            Self::Run { .. } => Some((SERVICE, "RunJob")),
            Self::Pause { .. } => Some((SERVICE, "PauseJob")),
            Self::Resume { .. } => Some((SERVICE, "ResumeJob")),
        }
    }
}

async fn list(session: &Session<'_>, next: u32, at: Option<Timestamp>) -> Result<Exit, Halt> {
    let at = at.map(|at| prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    });
    session
        .each_in(COLUMNS, |client| async move {
            let request = ListJobsRequest { next, at };
            let list =
                client.call(request, |c, r| async move { c.schedule().list_jobs(r).await }).await?;
            let json = session.json("ListJobsResponse", &list)?;
            let verbose = session.global.verbose;
            let view = View {
                columns: COLUMNS,
                rows: list.jobs.iter().flat_map(|job| rows(job, verbose)).collect(),
                empty: "no jobs",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

/// One row for the job and its next time, then one for each further time.
pub(super) fn rows(job: &Job, verbose: bool) -> Vec<Vec<Cell>> {
    let state = match (job.running, job.paused) {
        (true, _) => "running",
        (false, true) => "paused",
        (false, false) => "waiting",
    };
    let mut note = Vec::new();
    if job.paused {
        let reason = if job.paused_reason.is_empty() {
            String::new()
        } else {
            format!(": {}", job.paused_reason)
        };
        note.push(format!("paused by {}{reason}", format::or_none(&job.paused_by)));
    }
    if !job.last_skip.is_empty() {
        note.push(format!("skipped: {}", job.last_skip));
    }
    if verbose {
        note.push(job.description.clone());
        let stance = if job.goes_on_in_emergency { "goes on" } else { "waits" };
        note.push(format!("{stance} in an emergency"));
        note.push(format!(
            "grace {}, splay {}, last run {}",
            format::proto_duration(job.grace.as_ref()),
            format::proto_duration(job.splay.as_ref()),
            format::or_none(&job.last_run_id)
        ));
    }
    let last = match job.last_state() {
        RunState::Unspecified => Cell::from(format::NONE),
        state => Cell::run_state(state),
    };
    let first = vec![
        Cell::from(job.name.as_str()),
        Cell::from(job.schedule.as_str()),
        Cell::from(state),
        Cell::from(format::time(job.next_at.first())),
        Cell::from(format::time(job.last_due_at.as_ref())),
        last,
        Cell::from(note.join("; ")),
    ];
    let further = job.next_at.iter().skip(1).map(|at| {
        vec![Cell::from(""), Cell::from(""), Cell::from(""), Cell::from(format::time(Some(at)))]
    });
    std::iter::once(first).chain(further).collect()
}
