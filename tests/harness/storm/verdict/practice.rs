//! What must hold of rollbacks and of drills.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Found, NEWEST, Violation, Wrong, ask, each_once, entries, list, times};
use crate::storm::ledger::{Became, Fact, Ledger};
use crate::storm::world::{World, digest};

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// The entries of the operation log of actions that begin so.
fn told(world: &World, action: &str) -> Result<Vec<Value>, Violation> {
    Ok(list(&ask(world, &["oplog", "list", "--action", action, "--limit", "1000"])?, "entries"))
}

/// Each rollback was announced once and has one end, each that was acknowledged is documented, and the configuration is
/// the one that it went to.
pub(super) fn rollbacks(world: &World, ledger: &Ledger) -> Found {
    let facts = ledger.newest(NEWEST, |fact| match fact {
        Fact::Rollback { reason, to } => Some((reason.clone(), to.clone())),
        _ => None,
    });
    let mut found = in_force(world, &facts);
    let entries = told(world, "rollback")?;
    let own = entries.iter().filter(|it| it["action"] == "rollback" && it["target"] == "config");
    // By its reason: how often it was announced, and how it ended.
    let mut known = BTreeMap::<String, (u64, Vec<String>, String)>::new();
    for entry in own {
        let (announced, ends, id) = known.entry(text(entry, "reason")).or_default();
        *id = text(entry, "correlationId");
        match text(entry, "outcome") {
            it if it == "intent" => *announced += 1,
            end => ends.push(end),
        }
    }
    let went_well = known.iter().flat_map(|(reason, (_, ends, _))| {
        ends.iter().filter(|end| *end == "ok").map(|_| reason.clone())
    });
    let went_well = times(went_well);
    let reasons = facts.iter().map(|((reason, _), became)| (reason.clone(), *became)).collect();
    found.extend(each_once("the rollback", reasons, &went_well));
    for ((reason, _), _) in &facts {
        let Some((announced, ends, _)) = known.get(reason) else { continue };
        if *announced > 1 {
            let what = format!("{reason:?} was announced {announced} times");
            found.push(Violation { wrong: Wrong::Doubled, count: announced - 1, what });
        }
        if ends.len() != 1 {
            found.push(Violation::broken(format!("{reason:?} has these ends: {ends:?}")));
        }
    }
    let incidents = list(&ask(world, &["incident", "list", "--limit", "1000"])?, "incidents");
    let ids = times(incidents.iter().map(|it| text(it, "id")));
    for ((reason, _), became) in facts.iter().take(10) {
        let Some((_, _, id)) = known.get(reason) else { continue };
        let documented = ids.get(id).copied().unwrap_or(0);
        if documented > 1 || *became == Became::Acknowledged && documented == 0 {
            let what = format!("{reason:?} ({id}) has {documented} incidents");
            found.push(Violation::broken(what));
        }
        let open = incidents
            .iter()
            .find(|it| text(it, "id") == *id && it["state"] == "INCIDENT_STATE_OPEN");
        // What failed, or is not known, is for people to end.
        if let (Some(open), Became::Acknowledged) = (open, became) {
            found.push(Violation::broken(format!("the incident of {reason:?} goes on: {open}")));
        }
    }
    Ok(found)
}

/// The file is as it was acknowledged last, or as one that is doubtful and came later left it.
fn in_force(world: &World, newest_first: &[((String, String), Became)]) -> Vec<Violation> {
    let last = newest_first.iter().position(|(_, became)| *became == Became::Acknowledged);
    let Some(last) = last else { return Vec::new() };
    let there = std::fs::read(world.agent.config()).map(|text| digest(&text)).unwrap_or_default();
    if newest_first[..=last].iter().any(|((_, to), _)| *to == there) {
        return Vec::new();
    }
    let what = format!("the configuration is {there} after {:?}", newest_first[last].0);
    vec![Violation { wrong: Wrong::Lost, count: 1, what }]
}

/// Each drill has one end, and nothing is left of it.
pub(super) fn drills(world: &World, ledger: &Ledger) -> Found {
    let facts = ledger.newest(NEWEST, |fact| match fact {
        Fact::Drill(reason) => Some(reason.clone()),
        _ => None,
    });
    let entries_of = told(world, "drill.")?;
    let ends = |wanted: &dyn Fn(&Value) -> bool| {
        let ended =
            |it: &&Value| it["action"] == "drill.done" || it["action"] == "drill.interrupted";
        let ended = entries_of.iter().filter(ended).filter(|it| wanted(it));
        times(ended.map(|it| text(it, "reason")).filter(|reason| !reason.is_empty()))
    };
    let mut found = Vec::new();
    for (reason, count) in ends(&|_| true) {
        if count > 1 && reason.starts_with("storm ") {
            let what = format!("{reason:?} has ended {count} times");
            found.push(Violation { wrong: Wrong::Doubled, count: count - 1, what });
        }
    }
    let passed = ends(&|it| it["action"] == "drill.done" && it["outcome"] == "ok");
    found.extend(each_once("the drill", facts, &passed));
    for path in entries(&world.agent.state().join("drills")) {
        found.push(Violation::broken(format!("{} is left", path.display())));
    }
    for path in entries(&world.temporary()) {
        found.push(Violation::broken(format!("{} is left", path.display())));
    }
    Ok(found)
}
