//! `emergency`: what must not go on refuses to start, until somebody says so.

use clap::Subcommand;
use genesis_client::v1::{
    ActivateEmergencyRequest, Contacts, Emergency, GetEmergencyRequest, GetEmergencyResponse,
    ReleaseEmergencyRequest,
};

use super::incomplete_answer;
use super::rollback::SERVICE;
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] = &["STATE", "SINCE", "BY", "REASON", "WAITS", "ON CALL"];

const ACTIVATE_EXAMPLES: &str = "\
On one node nothing is asked first. Declaring it again changes nothing, and says since when it is in force.

Examples:
  genesisctl emergency activate --reason 'orders are duplicated'
  genesisctl emergency activate --plan";

const STATUS_EXAMPLES: &str = "\
Exits 3 while an emergency is in force.

Examples:
  genesisctl emergency status
  genesisctl emergency status -n web-1:7443,web-2:7443 -o json";

const RELEASE_EXAMPLES: &str = "\
Needs --reason, and the role of an admin.

Examples:
  genesisctl emergency release --plan
  genesisctl emergency release --reason 'the feed is sound again'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Declare an emergency: what has not been declared to go on refuses to start until it is released.
    #[command(after_help = ACTIVATE_EXAMPLES)]
    Activate,
    /// Show whether an emergency is in force, what waits for its release, and whom to call.
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// End the emergency: what waited starts again.
    #[command(after_help = RELEASE_EXAMPLES)]
    Release,
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Status => None,
            Self::Activate => Some((SERVICE, "ActivateEmergency")),
            Self::Release => Some((SERVICE, "ReleaseEmergency")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Activate => activate(session).await,
        Verb::Status => status(session).await,
        Verb::Release => release(session).await,
    }
}

async fn activate(session: &Session<'_>) -> Result<Exit, Halt> {
    let request = ActivateEmergencyRequest { plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, recovery, plan_activate_emergency);
    }
    consent(session, SERVICE, "ActivateEmergency", "declare an emergency")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().activate_emergency(r).await })
                .await?;
            let json = session.json("ActivateEmergencyResponse", &response)?;
            let emergency =
                response.emergency.ok_or_else(|| incomplete_answer("the emergency"))?;
            let what = match response.was_active {
                true => "was in force already, nothing was changed",
                false => "is in force",
            };
            let (epoch, about) = (emergency.epoch, circumstances(&emergency));
            let mut view = View::line(format!("EMERGENCY {epoch} {what}: {about}"));
            view.lead.push(
                "what waits and whom to call: `genesisctl emergency status`; it ends with `genesisctl \
                 emergency release --reason TEXT`"
                    .to_owned(),
            );
            Ok(Answer::new(json, view))
        })
        .await
}

async fn release(session: &Session<'_>) -> Result<Exit, Halt> {
    let request = ReleaseEmergencyRequest { plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, recovery, plan_release_emergency);
    }
    reason(session, "emergency release", "why may everything start again?")?;
    consent(session, SERVICE, "ReleaseEmergency", "release the emergency")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.recovery().release_emergency(r).await },
                )
                .await?;
            let json = session.json("ReleaseEmergencyResponse", &response)?;
            let emergency = response.emergency.ok_or_else(|| incomplete_answer("the emergency"))?;
            let length = format::between(emergency.since.as_ref(), emergency.released_at.as_ref());
            let at = format::time(emergency.released_at.as_ref());
            Ok(Answer::new(
                json,
                View::line(format!(
                    "emergency {} is over since {at}, after {length}",
                    emergency.epoch
                )),
            ))
        })
        .await
}

async fn status(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let response = client
                .call(
                    GetEmergencyRequest {},
                    |c, r| async move { c.recovery().get_emergency(r).await },
                )
                .await?;
            let json = session.json("GetEmergencyResponse", &response)?;
            let emergency = response
                .emergency
                .as_ref()
                .ok_or_else(|| incomplete_answer("the emergency's state"))?;
            let exit = if emergency.active { Exit::Findings } else { Exit::Ok };
            let view = match session.many() {
                true => row(emergency, &response),
                false => page(emergency, &response),
            };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

/// Since when, by whom, why.
fn circumstances(emergency: &Emergency) -> String {
    let reason = match emergency.reason.as_str() {
        "" => "no reason was given",
        reason => reason,
    };
    let since = format::time(emergency.since.as_ref());
    format!("since {since} by {}: {reason}", format::or_none(&emergency.activated_by))
}

fn page(emergency: &Emergency, response: &GetEmergencyResponse) -> View {
    let mut lead = Vec::new();
    if emergency.active {
        lead.push(format!(
            "EMERGENCY {} is in force {}",
            emergency.epoch,
            circumstances(emergency)
        ));
        lead.push(format!("waits for the release: {}", kinds(response, false)));
        lead.push(format!("goes on: {}", kinds(response, true)));
    } else {
        lead.push("no emergency is in force".to_owned());
        if emergency.epoch > 0 {
            lead.push(format!(
                "the last one, number {}, was {}",
                emergency.epoch,
                circumstances(emergency)
            ));
            let (at, by) = (emergency.released_at.as_ref(), &emergency.released_by);
            lead.push(format!(
                "released {} by {}: {}",
                format::time(at),
                format::or_none(by),
                emergency.release_reason
            ));
        }
        lead.push(format!("would wait in an emergency: {}", kinds(response, false)));
    }
    lead.extend(contact_lines(response.contacts.as_ref()));
    View { lead, ..View::default() }
}

fn contact_lines(contacts: Option<&Contacts>) -> Vec<String> {
    let Some(contacts) = contacts else { return Vec::new() };
    let named = [
        ("on call", &contacts.on_call),
        ("escalation", &contacts.escalation),
        ("security", &contacts.security),
        ("not urgent", &contacts.non_urgent),
    ];
    let set = named.iter().filter(|(_, whom)| !whom.is_empty());
    set.map(|(when, whom)| format!("{when}: {whom}")).collect()
}

fn row(emergency: &Emergency, response: &GetEmergencyResponse) -> View {
    let on_call = response.contacts.as_ref().map_or("", |contacts| contacts.on_call.as_str());
    let cells = match emergency.active {
        false => vec![Cell::alert("none", false)],
        true => vec![
            Cell::alert("EMERGENCY", true),
            Cell::from(format::time(emergency.since.as_ref())),
            Cell::from(format::or_none(&emergency.activated_by)),
            Cell::from(format::or_none(&emergency.reason)),
            Cell::from(kinds(response, false)),
            Cell::from(format::or_none(on_call)),
        ],
    };
    View { columns: COLUMNS, rows: vec![cells], ..View::default() }
}

/// The kinds of jobs and runs that go on, or that wait.
fn kinds(response: &GetEmergencyResponse, go_on: bool) -> String {
    let of_stance = response.stances.iter().filter(|stance| stance.goes_on == go_on);
    let kinds: Vec<_> = of_stance.map(|stance| stance.kind.as_str()).collect();
    if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") }
}
