//! `health explain` and `health history`: what became of trouble, and what was tried.

use std::cmp::Reverse;

use genesis_client::v1::{
    Attempt, AttemptOutcome, Denial, ExplainIssueRequest, ExplainIssueResponse, Issue,
    ListHealthHistoryRequest, ListHealthHistoryResponse,
};
use prost_types::Timestamp;

use super::health_check::detail;
use super::incomplete_answer;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, Part, View};

/// Those of issues and attempts in one table.
pub(super) const ATTEMPT_COLUMNS: &[&str] = &["AT", "CHECK", "WHAT", "OUTCOME", "BY", "DETAIL"];

const TRIED_COLUMNS: &[&str] =
    &["ATTEMPT", "AT", "ACTION", "OUTCOME", "TOOK", "BY", "BEFORE", "AFTER", "DETAIL"];

pub(super) async fn explain(session: &Session<'_>, issue: &str) -> Result<Exit, Halt> {
    let request = &ExplainIssueRequest { issue: issue.to_owned() };
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.health().explain_issue(r).await })
                .await?;
            let json = session.json("ExplainIssueResponse", &response)?;
            let issue = response.issue.as_ref().ok_or_else(|| incomplete_answer("the issue"))?;
            Ok(Answer::new(json, page(issue, &response, session.global.verbose)))
        })
        .await
}

pub(super) fn page(issue: &Issue, response: &ExplainIssueResponse, verbose: bool) -> View {
    let mut parts = vec![Part {
        title: "What happens next".to_owned(),
        lines: response.explanation.clone(),
        ..Part::default()
    }];
    if !issue.denials.is_empty() {
        parts.push(Part {
            title: "What holds actions back".to_owned(),
            columns: &["CODE", "SINCE", "WHY"],
            rows: issue.denials.iter().map(denial_row).collect(),
            ..Part::default()
        });
    }
    let planned = |attempt: &Attempt| {
        let number = attempt.number;
        attempt.plan.iter().map(move |step| format!("attempt {number} plan: {step}")).collect()
    };
    let none = response.attempts.is_empty().then(|| "nothing".to_owned());
    let plans: Vec<Vec<String>> = match verbose {
        true => response.attempts.iter().map(planned).collect(),
        false => Vec::new(),
    };
    parts.push(Part {
        title: "What was tried".to_owned(),
        columns: TRIED_COLUMNS,
        rows: response.attempts.iter().map(tried_row).collect(),
        lines: none.into_iter().chain(plans.into_iter().flatten()).collect(),
    });
    parts.push(Part {
        title: "What people can do".to_owned(),
        lines: manual(issue, response),
        ..Part::default()
    });
    parts.retain(|part| !part.rows.is_empty() || !part.lines.is_empty());
    View { lead: facts(issue, response), parts, ..View::default() }
}

fn facts(issue: &Issue, response: &ExplainIssueResponse) -> Vec<String> {
    let mut lead = vec![format!(
        "issue {} {} since {}, opened {}, severity {}, {}",
        issue.id,
        format::short_name(issue.state().as_str_name(), "ISSUE_STATE_"),
        format::time(issue.since.as_ref()),
        format::time(issue.opened_at.as_ref()),
        format::severity(issue.severity()),
        format::plural(u64::from(issue.attempts), "attempt"),
    )];
    if let Some(check) = &response.check {
        lead.push(format!(
            "check {} {} at {}: {}; limit: {}",
            check.check,
            format::condition(check.condition()),
            format::time(check.checked_at.as_ref()),
            detail(check),
            format::or_none(&check.limit)
        ));
    }
    if !issue.suppressed_by.is_empty() {
        lead.push(format!("it depends on {}, which fails itself", issue.suppressed_by));
    }
    if issue.escalated_at.is_some() {
        lead.push(format!("people were called {}", called(issue)));
    }
    if issue.acked_at.is_some() {
        let note = match issue.ack_note.as_str() {
            "" => String::new(),
            note => format!(": {note}"),
        };
        let (at, by) = (format::time(issue.acked_at.as_ref()), format::or_none(&issue.acked_by));
        lead.push(format!("acked {at} by {by}{note}"));
    }
    if !issue.resolution.is_empty() {
        lead.push(format!("resolved: {}", issue.resolution));
    }
    lead
}

fn called(issue: &Issue) -> String {
    let trigger = format::short_name(issue.escalated().as_str_name(), "ESCALATION_TRIGGER_");
    format!("{}: {trigger}", format::time(issue.escalated_at.as_ref()))
}

fn manual(issue: &Issue, response: &ExplainIssueResponse) -> Vec<String> {
    let runbook = match issue.runbook.as_str() {
        "" => None,
        page => Some(format!("`genesisctl runbook show {page}`")),
    };
    response.manual.iter().cloned().chain(runbook).collect()
}

fn denial_row(denial: &Denial) -> Vec<Cell> {
    vec![
        Cell::from(denial.code.as_str()),
        Cell::from(format::time(denial.since.as_ref())),
        Cell::from(denial.message.as_str()),
    ]
}

fn tried_row(attempt: &Attempt) -> Vec<Cell> {
    vec![
        Cell::number(attempt.number.to_string()),
        Cell::from(format::time(attempt.at.as_ref())),
        Cell::from(attempt.action.as_str()),
        Cell::attempt_outcome(attempt.outcome()),
        Cell::number(format::between(attempt.at.as_ref(), attempt.ended_at.as_ref())),
        Cell::from(format::or_none(&attempt.actor)),
        Cell::from(format::or_none(&attempt.before)),
        Cell::from(format::or_none(&attempt.after)),
        Cell::from(format::or_none(&attempt.detail)),
    ]
}

pub(super) async fn history(session: &Session<'_>, check: &str, limit: u32) -> Result<Exit, Halt> {
    let request = &ListHealthHistoryRequest { check: check.to_owned(), limit };
    session
        .each_in(ATTEMPT_COLUMNS, |client| async move {
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.health().list_health_history(r).await },
                )
                .await?;
            let json = session.json("ListHealthHistoryResponse", &response)?;
            let view = View {
                columns: ATTEMPT_COLUMNS,
                rows: newest(&response, limit as usize),
                empty: "nothing has happened yet",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

/// Issues and attempts in one order. Each list is as long as was asked for, so what lies behind the newest of both
/// together may be incomplete, and is not shown.
fn newest(history: &ListHealthHistoryResponse, limit: usize) -> Vec<Vec<Cell>> {
    let key = |at: Option<&Timestamp>| at.map(|at| (at.seconds, at.nanos));
    // An attempt of the same instant comes after its issue's beginning, so it stands above.
    let attempts = history.attempts.iter().map(|it| (key(it.at.as_ref()), attempt_row(it)));
    let issues = history.issues.iter().map(|it| (key(it.opened_at.as_ref()), issue_row(it)));
    let mut events: Vec<_> = attempts.chain(issues).collect();
    events.sort_by_key(|(at, _)| Reverse(*at));
    events.into_iter().take(limit).map(|(_, row)| row).collect()
}

pub(super) fn issue_row(issue: &Issue) -> Vec<Cell> {
    let mut detail = vec![match issue.resolution.as_str() {
        "" => issue.detail.clone(),
        resolution => resolution.to_owned(),
    }];
    if issue.escalated_at.is_some() {
        detail.push(format!("people were called {}", called(issue)));
    }
    detail.retain(|text| !text.is_empty());
    vec![
        Cell::from(format::time(issue.opened_at.as_ref())),
        Cell::from(issue.check.as_str()),
        Cell::from(format!("issue #{} opened", issue.episode)),
        Cell::issue_state(issue.state()),
        Cell::from(format::NONE),
        Cell::from(format::or_none(&detail.join("; "))),
    ]
}

pub(super) fn attempt_row(attempt: &Attempt) -> Vec<Cell> {
    let action = &attempt.action;
    let what = match (attempt.outcome(), attempt.episode) {
        (AttemptOutcome::DryRun, _) => format!("dry run of {action}"),
        (_, 0) => format!("{action} by hand"),
        _ => format!("attempt {}: {action}", attempt.number),
    };
    let after = match attempt.after.as_str() {
        "" => String::new(),
        after => format!("then: {after}"),
    };
    let mut detail = vec![attempt.detail.clone(), after];
    detail.retain(|text| !text.is_empty());
    vec![
        Cell::from(format::time(attempt.at.as_ref())),
        Cell::from(attempt.check.as_str()),
        Cell::from(what),
        Cell::attempt_outcome(attempt.outcome()),
        Cell::from(format::or_none(&attempt.actor)),
        Cell::from(format::or_none(&detail.join("; "))),
    ]
}
