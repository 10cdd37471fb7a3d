//! Consent before something is changed.

use std::io::{BufRead, Read};

use genesis_client::v1::Plan;
use genesis_client::{Error, Kind, find_call};

use crate::Console;
use crate::connect::Session;
use crate::exit::{Halt, Stop};

/// Whether a call may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Send it.
    Given,
    /// Ask the person at the terminal first.
    Ask,
}

/// Checks whether the rpc may be sent: one that changes several nodes needs `--yes`, one that destroys
/// needs it where nobody can be asked. `what` names the change, such as "delete archived logs".
pub(crate) fn consent(
    session: &Session<'_>,
    service: &str,
    method: &str,
    what: &str,
) -> Result<Consent, Halt> {
    consent_since(session, (service, method), what, "which can't be undone")
}

/// [`consent`] where an rpc that destroys can be undone, and yet is nothing to do by accident: `why` says how so.
pub(crate) fn consent_since(
    session: &Session<'_>,
    (service, method): (&str, &str),
    what: &str,
    why: &str,
) -> Result<Consent, Halt> {
    // What is not in the table counts as the worst.
    let call = find_call(service, method);
    let (mutating, destructive) =
        call.map_or((true, true), |call| (call.mutating, call.destructive));
    session.changing.set(mutating);
    // An emergency waits for nobody's health.
    session.gated.set(mutating && !call.is_some_and(|call| call.urgent));
    if session.global.yes || !mutating {
        return Ok(Consent::Given);
    }
    if session.many() {
        let listed = |node| match session.of_fleet.get(node) {
            Some(host) => format!("\n  {node} ({host})"),
            None => format!("\n  {node}"),
        };
        let nodes: String = session.nodes().map(listed).collect();
        return Err(Halt::Usage(format!(
            "this would {what} on several nodes:{nodes}\nNothing was sent: add --yes to go ahead on all \
             of them, or name one with -n"
        )));
    }
    if !destructive {
        return Ok(Consent::Given);
    }
    if session.interactive() {
        return Ok(Consent::Ask);
    }
    Err(Halt::Usage(format!(
        "this would {what}, {why}, and there is no terminal to ask at. Nothing was sent: look at what it would \
         do with --plan, then add --yes"
    )))
}

/// Demands `--reason`, before anything is sent.
pub(crate) fn reason(session: &Session<'_>, command: &str, question: &str) -> Result<(), Halt> {
    match session.global.reason.trim() {
        "" => Err(Halt::Usage(format!("`{command}` needs --reason: {question}"))),
        _ => Ok(()),
    }
}

/// Shows the plan and asks; returns the hash of what was agreed to. `undone` says what a no means, such as
/// "nothing was deleted".
pub(crate) fn agreed(
    session: &Session<'_>,
    plan: Option<&Plan>,
    question: &str,
    undone: &str,
) -> Result<String, Stop> {
    let found = shown(session, plan)?;
    if ask(session, question) {
        return Ok(found);
    }
    Err(Halt::Failed(format!("not confirmed: {undone}")).into())
}

/// [`agreed`], where a yes is typed too easily: `name` is to be typed.
pub(crate) fn typed(
    session: &Session<'_>,
    plan: Option<&Plan>,
    name: &str,
    undone: &str,
) -> Result<String, Stop> {
    let found = shown(session, plan)?;
    let question = format!("Type its name ({name}) to go ahead: ");
    let answer = session.console(|console| answered(console, &question));
    if answer.as_deref() == Some(name) {
        return Ok(found);
    }
    Err(Halt::Failed(format!("not confirmed: {undone}")).into())
}

/// Demands `--confirm` where nobody can be asked to type the name, before anything is sent.
pub(crate) fn name_needed(
    session: &Session<'_>,
    confirm: Option<&str>,
    command: &str,
    whose: &str,
) -> Result<(), Halt> {
    if confirm.is_some() || session.interactive() {
        return Ok(());
    }
    Err(Halt::Usage(format!(
        "`{command}` needs --confirm {whose}, and there is no terminal to ask at. Nothing was sent: look at what it \
         would do with --plan first"
    )))
}

/// Shows the plan, and returns its hash if it is the one that was wanted.
fn shown(session: &Session<'_>, plan: Option<&Plan>) -> Result<String, Stop> {
    let found = plan.map(|plan| plan.hash.clone()).unwrap_or_default();
    let wanted = session.plan_hash();
    if !wanted.is_empty() && wanted != found {
        let message = format!("the plan is now {found}, not {wanted}");
        let next = "look at the new plan with `--plan`, then pass its hash";
        return Err(Error::new(Kind::Conflict, "ABORTED", "PLAN_CHANGED", message, next).into());
    }
    for step in plan.iter().flat_map(|plan| &plan.steps).take(20) {
        session.warn(&format!("  {} {}: {}", step.action, step.target, step.reason));
    }
    Ok(found)
}

/// Puts the question and reads the answer; anything but yes is no.
pub(crate) fn ask(session: &Session<'_>, question: &str) -> bool {
    session.console(|console| ask_at(console, question))
}

/// [`ask`], where there is no session.
pub(crate) fn ask_at(console: &mut Console, question: &str) -> bool {
    let answer = answered(console, &format!("{question} [y/N] "));
    answer.is_some_and(|answer| matches!(answer.to_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a line of text; `None`: it can't be read.
pub(crate) fn line(session: &Session<'_>, question: &str) -> Option<String> {
    session.console(|console| answered(console, question))
}

/// The line that was typed, without the space around it.
fn answered(console: &mut Console, question: &str) -> Option<String> {
    crate::render::prompt(console, question);
    let mut answer = String::new();
    // Nobody types more than this.
    let read = (&mut console.stdin).take(4_096).read_line(&mut answer);
    read.is_ok().then(|| answer.trim().to_owned())
}
