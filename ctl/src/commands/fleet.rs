//! `fleet`: who is in the fleet, how hosts stand to it, and in what they differ.

mod reach;
mod skew;

use clap::Subcommand;
use genesis_client::v1::{
    FleetLock, FleetMember, FleetStanding, ForgetFleetMemberRequest, GetFleetStatusRequest,
    GetFleetStatusResponse, ListFleetLocksRequest, ListFleetMembersRequest,
};

pub(super) use reach::{stands, told};

use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, View};

const SERVICE: &str = "genesis.v1.FleetService";
const COLUMNS: &[&str] = &["FLEET", "STANDING", "SILENT", "ETCD", "EMERGENCY", "TROUBLE"];
const MEMBERS: &[&str] = &["HOST", "NODE", "VERSION", "SINCE", "STATE", "EMERGENCY"];
const MEMBERS_VERBOSE: &[&str] =
    &["HOST", "NODE", "VERSION", "SINCE", "STATE", "EMERGENCY", "IDENTITY"];
const LOCKS: &[&str] = &["LOCK", "TOKEN", "HOST", "RUN", "SINCE"];

const STATUS_EXAMPLES: &str = "\
CONNECTED: etcd answers. STALE: it has not for some seconds, and what is said of the fleet is from before. LOST: it has not
for longer than `[fleet] lease`, so that what this host held has ended. ALONE: no [fleet.etcd] is configured.
Exits 3 while the fleet has an emergency, has not been told of this host's, or takes no changes, and when two hosts have one
identity; exits 5 where it is STALE or LOST.

Examples:
  genesisctl fleet status
  genesisctl fleet status --all";

const MEMBERS_EXAMPLES: &str = "\
EMERGENCY is the number of the fleet's that is in force there. Exits 3 when one is gone, or when two hosts have one
identity; -v shows identities.

Examples:
  genesisctl fleet members
  genesisctl fleet members -v
  genesisctl fleet members -o json";

const LOCKS_EXAMPLES: &str = "\
Example:
  genesisctl fleet locks";

const FORGET_EXAMPLES: &str = "\
Only one whose agent is gone, on one node: the whole fleet forgets it. When it comes back it is a member again.

Examples:
  genesisctl fleet forget gw-7 --plan
  genesisctl fleet forget gw-7 --reason 'sold'";

const SKEW_EXAMPLES: &str = "\
Asks every member. Configurations differ on purpose, so they are shown and are no finding. Clocks differ when they are more
than 500 ms apart beyond what the calls can tell. Exits 3 where versions, clocks, matrices, values of parameters or
emergencies differ, and 5 where one of them is not known.

Example:
  genesisctl fleet skew";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show how hosts stand to their fleet.
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// List the hosts of the fleet, also those that are gone.
    #[command(after_help = MEMBERS_EXAMPLES)]
    Members,
    /// List what one host of the fleet does at this moment for all.
    #[command(after_help = LOCKS_EXAMPLES)]
    Locks,
    /// Show in what the hosts of the fleet differ.
    #[command(after_help = SKEW_EXAMPLES)]
    Skew,
    /// Remember a host no more that is gone.
    #[command(after_help = FORGET_EXAMPLES)]
    Forget {
        /// Its name, or its identity.
        host: String,
    },
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Status | Self::Members | Self::Locks | Self::Skew => None,
            Self::Forget { .. } => Some((SERVICE, "ForgetFleetMember")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Status => status(session).await,
        Verb::Members => members(session).await,
        Verb::Locks => locks(session).await,
        Verb::Skew => skew::show(session).await,
        Verb::Forget { host } => forget(session, host).await,
    }
}

fn standing(standing: FleetStanding) -> &'static str {
    format::short_name(standing.as_str_name(), "FLEET_STANDING_")
}

fn exit_of(status: &GetFleetStatusResponse) -> Exit {
    let emergency = status.emergency.as_ref().is_some_and(|it| it.active);
    let found = emergency || status.emergency_untold || !status.twins.is_empty();
    match status.standing() {
        FleetStanding::Stale | FleetStanding::Lost | FleetStanding::Unspecified => Exit::Unknown,
        // It answers, and takes no changes.
        FleetStanding::Connected if !status.trouble.is_empty() => Exit::Findings,
        FleetStanding::Alone | FleetStanding::Connected if found => Exit::Findings,
        FleetStanding::Alone | FleetStanding::Connected => Exit::Ok,
    }
}

async fn status(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let request = GetFleetStatusRequest {};
            let status = client
                .call(request, |c, r| async move { c.fleet().get_fleet_status(r).await })
                .await?;
            let json = session.json("GetFleetStatusResponse", &status)?;
            let view = View { columns: COLUMNS, rows: vec![row(&status)], ..View::default() };
            let view = View { lead: notes(&status, session.many()), ..view };
            Ok(Answer::new(json, view).exit(exit_of(&status)))
        })
        .await
}

fn row(status: &GetFleetStatusResponse) -> Vec<Cell> {
    let is = status.standing();
    let well = matches!(is, FleetStanding::Alone | FleetStanding::Connected);
    let emergency = match &status.emergency {
        Some(emergency) if emergency.active => emergency.epoch.to_string(),
        _ => format::NONE.to_owned(),
    };
    vec![
        Cell::from(status.fleet.as_str()),
        Cell::alert(standing(is), !well),
        Cell::from(match &status.age {
            Some(age) => format::proto_duration(Some(age)),
            None => format::NONE.to_owned(),
        }),
        Cell::from(format::or_none(&status.endpoint)),
        Cell::alert(&emergency, emergency != format::NONE),
        Cell::from(format::or_none(&status.trouble)),
    ]
}

/// What people should know of it in words; of `many` hosts what is so for all is in their rows.
fn notes(status: &GetFleetStatusResponse, many: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(emergency) = status.emergency.as_ref().filter(|it| it.active && !many) {
        notes.push(format!(
            "EMERGENCY {} of the fleet since {}, by {} on {}: {}",
            emergency.epoch,
            format::time(emergency.since.as_ref()),
            format::or_none(&emergency.activated_by),
            format::or_none(&emergency.host),
            format::or_none(&emergency.reason)
        ));
    }
    if status.emergency_untold {
        notes.push("the fleet has not been told of this host's emergency yet".to_owned());
    }
    if !status.twins.is_empty() {
        notes.push(format!(
            "{} {} the identity {} of {}: see `genesisctl runbook show fleet`",
            status.twins.join(", "),
            if status.twins.len() == 1 { "has" } else { "have" },
            status.host_id,
            status.hostname
        ));
    }
    notes
}

async fn members(session: &Session<'_>) -> Result<Exit, Halt> {
    let verbose = session.global.verbose;
    let columns = if verbose { MEMBERS_VERBOSE } else { MEMBERS };
    session
        .each_in(columns, |client| async move {
            let request = ListFleetMembersRequest {};
            let list = client
                .call(request, |c, r| async move { c.fleet().list_fleet_members(r).await })
                .await?;
            let json = session.json("ListFleetMembersResponse", &list)?;
            let exit = match list.members.as_slice() {
                all if all.iter().any(|it| !it.alive || !it.twins.is_empty()) => Exit::Findings,
                all if all.iter().any(|it| it.unreadable) => Exit::Unknown,
                _ => Exit::Ok,
            };
            let view = View {
                columns,
                rows: list.members.iter().map(|it| member(it, verbose)).collect(),
                empty: "no members",
                ..View::default()
            };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

fn member(member: &FleetMember, verbose: bool) -> Vec<Cell> {
    let state = match (member.alive, member.twins.as_slice()) {
        (false, _) => "gone".to_owned(),
        (true, []) if member.unreadable => "unreadable".to_owned(),
        (true, []) => "up".to_owned(),
        (true, twins) => format!("twice: {}", twins.join(", ")),
    };
    let emergency = match (member.emergency, member.fleet_epoch) {
        (false, _) => format::NONE.to_owned(),
        (true, 0) => "its own".to_owned(),
        (true, epoch) => epoch.to_string(),
    };
    let name = match member.self_ {
        true => format!("{} (this one)", member.hostname),
        false => member.hostname.clone(),
    };
    let bad = state != "up";
    let mut cells = vec![
        Cell::from(name),
        Cell::from(format::or_none(&member.node)),
        Cell::from(format::or_none(&member.version)),
        Cell::from(format::time(member.since.as_ref())),
        Cell::alert(state, bad),
        Cell::alert(&emergency, member.emergency),
    ];
    cells.extend(verbose.then(|| Cell::from(member.host_id.as_str())));
    cells
}

async fn locks(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(LOCKS, |client| async move {
            let request = ListFleetLocksRequest {};
            let list = client
                .call(request, |c, r| async move { c.fleet().list_fleet_locks(r).await })
                .await?;
            let json = session.json("ListFleetLocksResponse", &list)?;
            let view = View {
                columns: LOCKS,
                rows: list.locks.iter().map(lock).collect(),
                empty: "nothing is locked",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn lock(lock: &FleetLock) -> Vec<Cell> {
    vec![
        Cell::from(lock.name.as_str()),
        Cell::number(lock.token.to_string()),
        Cell::from(format::or_none(&lock.hostname)),
        Cell::from(format::or_none(&lock.run)),
        Cell::from(format::time(lock.since.as_ref())),
    ]
}

async fn forget(session: &Session<'_>, host: &str) -> Result<Exit, Halt> {
    // What one of them has forgotten, all have.
    let request =
        ForgetFleetMemberRequest { host: host.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, fleet, plan_forget_fleet_member);
    }
    session.one_node("fleet forget")?;
    consent(session, SERVICE, "ForgetFleetMember", &format!("forget the host {host}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.fleet().forget_fleet_member(r).await })
                .await?;
            let json = session.json("ForgetFleetMemberResponse", &response)?;
            let member = response.member.unwrap_or_default();
            let line = format!("{} ({}) is forgotten", member.hostname, member.host_id);
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}
