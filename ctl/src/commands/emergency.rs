//! `emergency`: the flag that keeps everything from starting that must not go on.

use clap::Subcommand;
use genesis_client::v1::{
    ActivateEmergencyRequest, Emergency, GetEmergencyRequest, GetEmergencyResponse, PlanResponse,
    ReleaseEmergencyRequest,
};

use super::incomplete_answer;
use super::rollback::plan_view;
use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, View};

const ACTIVATE_EXAMPLES: &str = "\
It is durable when this returns, survives restarts, and asks nothing. Calling it again changes nothing.

Examples:
  genesisctl emergency activate --reason 'prices are wrong'
  genesisctl emergency activate -n web-1:7443,web-2:7443 --yes";

const STATUS_EXAMPLES: &str = "\
Exits 3 while an emergency is in force.

Example:
  genesisctl emergency status";

const RELEASE_EXAMPLES: &str = "\
Examples:
  genesisctl emergency release --plan
  genesisctl emergency release --reason 'prices are right again'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Declare an emergency: whatever is not declared to go on refuses to start until the release.
    #[command(after_help = ACTIVATE_EXAMPLES)]
    Activate(Planned),
    /// Show whether an emergency is in force, what waits for its release, and whom to call.
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// End the emergency. Needs --reason.
    #[command(after_help = RELEASE_EXAMPLES)]
    Release(Planned),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Planned {
    /// Show what would be done, and do nothing.
    #[arg(long, conflicts_with = "plan_hash")]
    plan: bool,
    /// Carry out only the plan with this hash.
    #[arg(long, value_name = "HASH", default_value = "", hide_default_value = true)]
    plan_hash: String,
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Activate(planned) => activate(session, planned).await,
        Verb::Status => status(session).await,
        Verb::Release(planned) => release(session, planned).await,
    }
}

async fn activate(session: &Session<'_>, planned: &Planned) -> Result<Exit, Halt> {
    let request = &ActivateEmergencyRequest { plan_hash: planned.plan_hash.clone() };
    if !planned.plan {
        let what = "declare an emergency";
        consent(session, "genesis.v1.RecoveryService", "ActivateEmergency", what)?;
    }
    session
        .each(|client| async move {
            if planned.plan {
                let plan = client
                    .call(request.clone(), |c, r| async move {
                        c.recovery().plan_activate_emergency(r).await
                    })
                    .await?;
                return Ok(plan_answer(session, &plan)?);
            }
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.recovery().activate_emergency(r).await },
                )
                .await?;
            let json = session.json("ActivateEmergencyResponse", &response)?;
            let emergency = response.emergency.ok_or_else(|| incomplete_answer("the emergency"))?;
            let line = match response.was_active {
                true => format!("{}; it was in force already", in_force(&emergency)),
                false => in_force(&emergency),
            };
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}

async fn release(session: &Session<'_>, planned: &Planned) -> Result<Exit, Halt> {
    let request = &ReleaseEmergencyRequest { plan_hash: planned.plan_hash.clone() };
    if !planned.plan {
        if session.global.reason.trim().is_empty() {
            let message = "an emergency is released with a reason: add --reason TEXT";
            return Err(Halt::Usage(message.into()));
        }
        let what = "release the emergency";
        consent(session, "genesis.v1.RecoveryService", "ReleaseEmergency", what)?;
    }
    session
        .each(|client| async move {
            if planned.plan {
                let plan = client
                    .call(request.clone(), |c, r| async move {
                        c.recovery().plan_release_emergency(r).await
                    })
                    .await?;
                return Ok(plan_answer(session, &plan)?);
            }
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.recovery().release_emergency(r).await },
                )
                .await?;
            let json = session.json("ReleaseEmergencyResponse", &response)?;
            let epoch = response.emergency.map_or(0, |emergency| emergency.epoch);
            let line = format!("emergency {epoch} is released; what waited may start again");
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}

async fn status(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each(|client| async move {
            let response = client
                .call(
                    GetEmergencyRequest {},
                    |c, r| async move { c.recovery().get_emergency(r).await },
                )
                .await?;
            let json = session.json("GetEmergencyResponse", &response)?;
            let active = response.emergency.as_ref().is_some_and(|emergency| emergency.active);
            let exit = if active { Exit::Findings } else { Exit::Ok };
            Ok(Answer::new(json, status_view(&response)).exit(exit))
        })
        .await
}

fn plan_answer(
    session: &Session<'_>,
    plan: &PlanResponse,
) -> Result<Answer, genesis_client::Error> {
    Ok(Answer::new(session.json("PlanResponse", plan)?, plan_view(plan.plan.as_ref())))
}

fn in_force(emergency: &Emergency) -> String {
    let reason = match emergency.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    format!(
        "EMERGENCY {} is in force since {}, by {}{reason}",
        emergency.epoch,
        format::time(emergency.since.as_ref()),
        emergency.activated_by
    )
}

fn status_view(response: &GetEmergencyResponse) -> View {
    let mut lead = match &response.emergency {
        Some(emergency) if emergency.active => vec![in_force(emergency)],
        Some(emergency) if emergency.epoch > 0 => vec![format!(
            "no emergency; number {} was released at {} by {}: {}",
            emergency.epoch,
            format::time(emergency.released_at.as_ref()),
            emergency.released_by,
            emergency.release_reason
        )],
        _ => vec!["no emergency, and there has been none".to_owned()],
    };
    if let Some(contacts) = &response.contacts {
        lead.push(format!(
            "call {}; then {}; security: {}; what can wait: {}",
            contacts.on_call, contacts.escalation, contacts.security, contacts.non_urgent
        ));
    }
    let row = |stance: &genesis_client::v1::EmergencyStance| {
        let does = if stance.goes_on { "goes on" } else { "waits" };
        vec![Cell::from(stance.kind.as_str()), Cell::from(does)]
    };
    View {
        lead,
        columns: &["KIND", "IN AN EMERGENCY"],
        rows: response.stances.iter().map(row).collect(),
        ..View::default()
    }
}
