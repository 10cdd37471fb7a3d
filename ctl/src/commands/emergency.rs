//! `emergency`: what must not go on refuses to start, until somebody says so.

use clap::Subcommand;
use genesis_client::v1::{
    ActivateEmergencyRequest, Contacts, Emergency, GetEmergencyRequest, GetEmergencyResponse,
    ReleaseEmergencyRequest,
};

use super::fleet::{stands, told};
use super::rollback::SERVICE;
use super::{emergency_course, incomplete_answer};
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] = &["STATE", "TRADING", "SINCE", "BY", "REASON", "WAITS", "ON CALL"];

const ACTIVATE_EXAMPLES: &str = "\
On one node nothing is asked first. Declaring it again changes nothing, and says since when it is in force.

It answers as soon as the emergency is durable; trading is told to halt from then on, and orders that don't protect a
position are cancelled. `emergency halt` does the same and waits until trading is known to be halted.

With --fleet it is in force on the node at once, and the others are waited for two seconds. Exits 5 unless all that live have
said that it is in force there.

Examples:
  genesisctl emergency activate --reason 'orders are duplicated'
  genesisctl emergency activate --fleet --reason 'the feed is wrong everywhere'
  genesisctl emergency activate --close-positions --yes --reason 'the book is wrong'
  genesisctl emergency activate --plan";

const HALT_EXAMPLES: &str = "\
Declares an emergency where none is in force. Exits 5 when the trading system has not said within 30 s that no order
leaves any more, and when none is configured. With --fleet the others are told before it waits; whether trading is halted
there is said by `genesisctl emergency status --all`.

Examples:
  genesisctl emergency halt --reason 'orders are duplicated'
  genesisctl emergency halt --fleet --reason 'the feed is wrong everywhere'
  genesisctl emergency halt --no-wait";

const CLOSE_EXAMPLES: &str = "\
Declares an emergency where none is in force. Every order is cancelled, protective ones too, and orders are sent that only
reduce. Exits 0 when every venue was seen empty twice (FLAT), and 5 when that could not be seen (FLAT_UNPROVEN): say it
again to go on with the same orders.

Examples:
  genesisctl emergency close-positions --plan
  genesisctl emergency close-positions --yes --reason 'the book is wrong'";

const LEASE_EXAMPLES: &str = "\
For the trading system, or a script beside it, every few seconds: once it has been called, an emergency is declared when
nobody calls for longer than `[trading] lease`, and trading is halted. It needs the role of an operator. Exits 3 while an
emergency is in force: no order may leave.

Examples:
  genesisctl emergency renew-lease
  genesisctl emergency renew-lease --give-up";

const APPROVE_EXAMPLES: &str = "\
Only where `release_approvals` is \"2\". It counts for 15 minutes, and only for the plan as it is now. Needs --reason, and
the role of an admin.

Examples:
  genesisctl emergency approve --plan
  genesisctl emergency approve --plan-hash 3f2a... --reason 'the feed is sound again'";

const STATUS_EXAMPLES: &str = "\
Exits 3 while an emergency is in force.

Examples:
  genesisctl emergency status
  genesisctl emergency status -n web-1:7443,web-2:7443 -o json";

const RELEASE_EXAMPLES: &str = "\
Needs --reason, and the role of an admin. With --fleet it is called on one node, and ends on every member.

Examples:
  genesisctl emergency release --plan
  genesisctl emergency release --reason 'the feed is sound again'
  genesisctl emergency release --fleet --reason 'the feed is sound again'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Declare an emergency: what has not been declared to go on refuses to start until it is released.
    #[command(after_help = ACTIVATE_EXAMPLES)]
    Activate {
        /// Have all positions closed as well, as `emergency close-positions` does.
        #[arg(long)]
        close_positions: bool,
        /// With --close-positions: don't wait for how it ends.
        #[arg(long, requires = "close_positions")]
        no_wait: bool,
        /// In the whole fleet; on the node itself in any case.
        #[arg(long, conflicts_with = "close_positions")]
        fleet: bool,
    },
    /// Stop automated trading: declare an emergency and wait until no order leaves any more.
    #[command(after_help = HALT_EXAMPLES)]
    Halt {
        /// Don't wait for the trading system.
        #[arg(long)]
        no_wait: bool,
        /// In the whole fleet; on the node itself in any case.
        #[arg(long)]
        fleet: bool,
    },
    /// Close all positions at every venue, and prove that none is left.
    #[command(after_help = CLOSE_EXAMPLES)]
    ClosePositions {
        /// Don't wait for how it ends.
        #[arg(long)]
        no_wait: bool,
    },
    /// Say that the trading system is well, for as long as its lease lasts.
    #[command(after_help = LEASE_EXAMPLES)]
    RenewLease {
        /// It ends on purpose: whoever renewed the lease last has not to renew it any more.
        #[arg(long)]
        give_up: bool,
    },
    /// Agree to the release, where it needs two people.
    #[command(after_help = APPROVE_EXAMPLES)]
    Approve,
    /// Show whether an emergency is in force, what waits for its release, and whom to call.
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// End the emergency: what waited starts again.
    #[command(after_help = RELEASE_EXAMPLES)]
    Release {
        /// In the whole fleet, but for hosts that have one of their own.
        #[arg(long)]
        fleet: bool,
    },
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Status | Self::RenewLease { .. } => None,
            Self::Activate { close_positions: false, .. } | Self::Halt { .. } => {
                Some((SERVICE, "ActivateEmergency"))
            }
            Self::Activate { close_positions: true, .. } | Self::ClosePositions { .. } => {
                Some((SERVICE, "CloseAllPositions"))
            }
            Self::Approve => Some((SERVICE, "ApproveRelease")),
            Self::Release { .. } => Some((SERVICE, "ReleaseEmergency")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Activate { close_positions: false, fleet, .. } => activate(session, *fleet).await,
        Verb::Activate { close_positions: true, no_wait, .. }
        | Verb::ClosePositions { no_wait } => emergency_course::close(session, *no_wait).await,
        Verb::Halt { no_wait, fleet } => emergency_course::halt(session, *no_wait, *fleet).await,
        Verb::RenewLease { give_up } => emergency_course::renew_lease(session, *give_up).await,
        Verb::Approve => emergency_course::approve(session).await,
        Verb::Status => status(session).await,
        Verb::Release { fleet } => release(session, *fleet).await,
    }
}

async fn activate(session: &Session<'_>, fleet: bool) -> Result<Exit, Halt> {
    let request = ActivateEmergencyRequest { plan_hash: session.plan_hash(), fleet };
    if session.global.plan {
        return plan::ask!(session, request, recovery, plan_activate_emergency);
    }
    let what =
        if fleet { "declare an emergency in the whole fleet" } else { "declare an emergency" };
    consent(session, SERVICE, "ActivateEmergency", what)?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.recovery().activate_emergency(r).await },
                )
                .await?;
            let json = session.json("ActivateEmergencyResponse", &response)?;
            let emergency = response.emergency.ok_or_else(|| incomplete_answer("the emergency"))?;
            let what = match response.was_active {
                true => "was in force already, nothing was changed",
                false => "is in force",
            };
            let (epoch, about) = (emergency.epoch, circumstances(&emergency));
            let mut view = View::line(format!("EMERGENCY {epoch} {what}: {about}"));
            let end = match fleet || emergency.fleet_told {
                true => "`genesisctl emergency release --fleet --reason TEXT`",
                false => "`genesisctl emergency release --reason TEXT`",
            };
            view.lead.push(format!(
                "what waits and whom to call: `genesisctl emergency status`; it ends with {end}"
            ));
            let exit = told(&mut view, (fleet, response.fleet.as_ref()), true);
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

async fn release(session: &Session<'_>, fleet: bool) -> Result<Exit, Halt> {
    let request = ReleaseEmergencyRequest { plan_hash: session.plan_hash(), fleet };
    if session.global.plan {
        return plan::ask!(session, request, recovery, plan_release_emergency);
    }
    if fleet {
        // What one of them has released, all have.
        session.one_node("emergency release --fleet")?;
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
            let line = format!("emergency {} is over since {at}, after {length}", emergency.epoch);
            let mut view = View::line(line);
            let exit = told(&mut view, (fleet, response.fleet.as_ref()), false);
            Ok(Answer::new(json, view).exit(exit))
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
    lead.extend(response.course.as_ref().and_then(emergency_course::staging_line));
    if emergency.active {
        lead.push(format!(
            "EMERGENCY {} is in force {}",
            emergency.epoch,
            circumstances(emergency)
        ));
        lead.extend(stands(emergency).map(|(_, line)| line));
        if let Some(course) = &response.course {
            lead.extend(emergency_course::lines(course));
        }
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
        if let Some(course) = &response.course {
            lead.extend(emergency_course::resume_line(course));
            lead.extend(emergency_course::lease_line(course));
        }
        lead.push(format!("would wait in an emergency: {}", kinds(response, false)));
    }
    lead.extend(contact_lines(response.contacts.as_ref()));
    let course = response.course.as_ref().filter(|_| emergency.epoch > 0);
    View { lead, parts: course.map(emergency_course::parts).unwrap_or_default(), ..View::default() }
}

/// Whom to call, in lines.
pub(super) fn contact_lines(contacts: Option<&Contacts>) -> Vec<String> {
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
    let trading = response.course.as_ref();
    let trading = trading.and_then(|it| emergency_course::cell(it, emergency.active));
    let state = match stands(emergency) {
        Some((word, _)) => format!("EMERGENCY ({word})"),
        None => "EMERGENCY".to_owned(),
    };
    let cells = match emergency.active {
        false => [Some(Cell::alert("none", false)), trading].into_iter().flatten().collect(),
        true => vec![
            Cell::alert(state, true),
            trading.unwrap_or_else(|| Cell::from(format::or_none(""))),
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
