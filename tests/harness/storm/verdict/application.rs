//! What must hold of the application that is updated.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{Found, NEWEST, Violation, Wrong, ask, each_once, entries, list, number, times};
use crate::application::FIRST;
use crate::storm::ledger::{Became, Fact, Ledger};
use crate::storm::world::{Managed, World};

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn history(world: &World) -> Result<Vec<Value>, Violation> {
    Ok(list(&ask(world, &["deps", "history", "--limit", "1000"])?, "updates"))
}

fn came_into_service(update: &Value) -> bool {
    update["state"] == "UPDATE_STATE_SUCCEEDED"
}

/// Each update and each way back has ended, was made once, and as it was acknowledged.
pub(super) fn updates(world: &World, ledger: &Ledger) -> Found {
    let Some(managed) = &world.managed else { return Ok(Vec::new()) };
    let updates = history(world)?;
    let mut found = Vec::new();
    for update in &updates {
        let about = format!("the update {} ({})", update["id"], text(update, "reason"));
        if !["SUCCEEDED", "ROLLED_BACK", "UNCHANGED"]
            .iter()
            .any(|end| text(update, "state").strip_prefix("UPDATE_STATE_") == Some(*end))
        {
            found.push(Violation::broken(format!("{about} is {}", update["state"])));
        }
        if update["restartOwed"] == true {
            found.push(Violation::broken(format!("{about} owes a restart")));
        }
    }
    if !found.is_empty() {
        // It tries again every five minutes, and when there is something new.
        managed.tell(&world.agent);
    }
    let reasons = |all: &dyn Fn(&Value) -> bool| {
        let wanted = updates.iter().filter(|it| all(it));
        times(wanted.map(|it| text(it, "reason").to_owned()))
    };
    for (reason, count) in reasons(&|_| true) {
        if count > 1 {
            let what = format!("{reason:?} was begun {count} times");
            found.push(Violation { wrong: Wrong::Doubled, count: count - 1, what });
        }
    }
    let facts = ledger.newest(NEWEST, |fact| match fact {
        Fact::Update(reason) | Fact::WayBack(reason) => Some(reason.clone()),
        _ => None,
    });
    let there = reasons(&came_into_service);
    found.extend(each_once("in service after", facts, &there));
    let flawed = ledger.newest(NEWEST, |fact| match fact {
        Fact::Flawed(reason) => Some(reason.clone()),
        _ => None,
    });
    for (reason, _) in flawed.iter().filter(|(reason, _)| there.contains_key(reason)) {
        found.push(Violation::broken(format!("{reason:?} came into service")));
    }
    Ok(found)
}

/// One release is in service, it was proven there, and it is the one of the newest update or way back that went well.
pub(super) fn release(world: &World, ledger: &Ledger) -> Found {
    let Some(managed) = &world.managed else { return Ok(Vec::new()) };
    let app = &managed.app;
    let project = ask(world, &["deps", "status"])?["projects"][0].clone();
    let (current, linked) = (&project["current"], app.linked());
    let mut found = Vec::new();
    let mut wrong = |what: String| found.push(Violation::broken(what));
    let facts = ledger.newest(NEWEST, |fact| match fact {
        Fact::Update(reason) | Fact::Flawed(reason) | Fact::WayBack(reason) => Some(reason.clone()),
        _ => None,
    });
    let updates = history(world)?;
    let ended_well = |reason: &str| {
        updates.iter().find(|it| text(it, "reason") == reason && came_into_service(it))
    };
    // The first update registers what was there before.
    if facts.iter().any(|(_, became)| *became == Became::Acknowledged) {
        if current["proven"] != true {
            wrong(format!("what is in service was not proven: {current}"));
        }
        if Path::new(text(current, "folder")).file_name().is_none_or(|it| it != linked.as_str()) {
            wrong(format!("{linked} is in service, and not what the agent says: {current}"));
        }
    }
    if let Some(newest) = facts.iter().find_map(|(reason, _)| ended_well(reason))
        && number(&newest["toGeneration"]) != number(&current["generation"])
    {
        let what = format!("in service is {current}, and not what {newest} came to");
        wrong(what);
    }
    if !app.serves(&linked) || app.try_health() != Some(200) {
        wrong(format!("what runs is not {linked}, or does not do well"));
    }
    let runs = app.try_version().map(|it| it["libraries"]["frames"].clone()).unwrap_or_default();
    let locked = locked(managed, "frames");
    if runs != locked.as_str() {
        wrong(format!("frames {locked} is locked, and {runs} runs"));
    }
    let (services, others): (Vec<_>, Vec<_>) =
        app.processes().into_iter().partition(|(_, words)| words.contains(" -m tickerd "));
    if services.len() != 1 {
        wrong(format!("it runs {} times: {services:?}", services.len()));
    }
    for other in others {
        wrong(format!("a process is left: {other:?}"));
    }
    Ok(found)
}

/// What is locked of a package.
fn locked(managed: &Managed, package: &str) -> String {
    let text = managed.app.text("requirements.txt");
    let line = text.lines().find_map(|line| line.strip_prefix(package)?.strip_prefix("=="));
    line.and_then(|it| it.split_whitespace().next()).unwrap_or_default().to_owned()
}

/// There is no release but those that the agent knows of, and nothing that was begun beside its place.
pub(super) fn litter(world: &World, _: &Ledger) -> Found {
    let Some(managed) = &world.managed else { return Ok(Vec::new()) };
    let project = ask(world, &["deps", "status"])?["projects"][0].clone();
    let known: BTreeSet<String> =
        list(&project, "releases").iter().map(|it| number(&it["generation"]).to_string()).collect();
    let mut found = Vec::new();
    let kept = world.agent.state().join("dependencies/app");
    // The first one was there before the agent; in 0 is what there was when the last update began.
    let places = [(managed.app.path("releases"), FIRST), (kept, "0")];
    for (place, beside) in places {
        for path in entries(&place) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name != beside && !known.contains(&name) {
                found.push(Violation::broken(format!("{} is left", path.display())));
            }
        }
    }
    for path in entries(&managed.app.root()) {
        if path.to_string_lossy().contains("genesis-new") {
            found.push(Violation::broken(format!("{} is left", path.display())));
        }
    }
    Ok(found)
}
