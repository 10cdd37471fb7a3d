//! How the hosts of a fleet are at an experiment that is the whole fleet's.

use genesis_client::v1::{Experiment, FleetExperiment, FleetShare, GetExperimentResponse};

use crate::exit::Exit;
use crate::format::{self, NONE, count};
use crate::render::{Cell, Part};

const COLUMNS: &[&str] = &["HOST", "HERE", "CONTROL", "VARIANT", "LAST TRADE", "TROUBLE"];

/// Whose it is, of an experiment as a host has it; of one that the fleet ended also what this host had counted.
pub(super) fn fact(experiment: &Experiment) -> Vec<String> {
    let id = &experiment.fleet_id;
    if id.is_empty() {
        return Vec::new();
    }
    if *id == experiment.id {
        return vec![match (experiment.here.as_str(), experiment.not_begun.as_str()) {
            ("", "") => "on this host: none".to_owned(),
            ("", why) => format!("on this host: not begun, since {why}"),
            (here, _) => format!("on this host: {here}"),
        }];
    }
    let mut facts = vec![format!("of the whole fleet, where it is {id}")];
    if let Some(ended) = experiment.conclusion.as_ref().filter(|ended| ended.by_fleet) {
        let n = |arm: Option<&genesis_client::v1::ArmTally>| count(arm.map_or(0, |arm| arm.n));
        facts.push(format!(
            "of the trades below this host had {} / {}",
            n(ended.control.as_ref()),
            n(ended.variant.as_ref())
        ));
    }
    facts
}

/// How each host is at it, where that was asked for.
pub(super) fn parts(id: &str, response: &GetExperimentResponse) -> Vec<Part> {
    let Some(fleet) = &response.fleet else { return Vec::new() };
    let title = format!("{id}: hosts of fleet {}", fleet.fleet);
    let rows = fleet.hosts.iter().map(row).collect();
    vec![Part { title, columns: COLUMNS, rows, lines: lines(fleet) }]
}

fn lines(fleet: &FleetExperiment) -> Vec<String> {
    let mut lines = vec![format!(
        "{} count, {} have not begun it, {} have told nothing",
        fleet.counting, fleet.not_begun, fleet.silent
    )];
    lines.push(match fleet.owner.as_str() {
        "" => "no host is known to take the looks now".to_owned(),
        owner => format!("looks are taken by {owner} (token {})", fleet.token),
    });
    if fleet.more {
        lines.push("there are more hosts than are shown".to_owned());
    }
    lines
}

fn row(share: &FleetShare) -> Vec<Cell> {
    let trouble = match share {
        share if share.silent => "has told nothing of it".to_owned(),
        share if !share.not_begun.is_empty() => format!("not begun: {}", share.not_begun),
        share if share.left => "ended on this host alone".to_owned(),
        _ => String::new(),
    };
    let last = match &share.last_trade_at {
        Some(at) => format::time(Some(at)),
        None => NONE.to_owned(),
    };
    vec![
        Cell::from(share.hostname.as_str()),
        Cell::from(format::or_none(&share.here)),
        Cell::number(count(share.control)),
        Cell::number(count(share.variant)),
        Cell::from(last),
        Cell::from(format::or_none(&trouble)),
    ]
}

/// A host that has not begun it is a finding; what one that has told nothing has of it is unknown.
pub(super) fn exit(found: &[GetExperimentResponse], exit: Exit) -> Exit {
    let fleets = || found.iter().filter_map(|one| one.fleet.as_ref());
    match exit {
        _ if fleets().any(|fleet| fleet.silent > 0) => Exit::Unknown,
        Exit::Ok if fleets().any(|fleet| fleet.not_begun > 0) => Exit::Findings,
        other => other,
    }
}
