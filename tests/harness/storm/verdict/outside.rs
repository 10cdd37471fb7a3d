//! What the services around the agent know of it.

use std::collections::BTreeSet;

use super::{Found, Violation, Wrong, ask, held_against, in_force, list};
use crate::storm::ledger::{Became, Count, Fact, Ledger};
use crate::storm::world::World;

/// Nothing of a rebuild is left in the database, and no care goes on.
pub(super) fn database(world: &World, ledger: &Ledger) -> Found {
    let Some(server) = &world.postgres else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (what, sql) in [
        ("invalid indexes", "SELECT count(*) FROM pg_index WHERE NOT indisvalid"),
        ("leftovers", "SELECT count(*) FROM pg_class WHERE relname ~ '_cc(new|old)[0-9]*$'"),
        (
            "sessions of care",
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'genesis-agent/%' \
             AND query ~ '^(VACUUM|REINDEX)' AND state = 'active'",
        ),
    ] {
        let there = server.sql("trades", sql);
        if there != "0" {
            found.push(Violation::broken(format!("{there} {what} are left in the database")));
        }
    }
    if !found.is_empty() && world.etcd.is_some() {
        // In a fleet it is done in a host's turn: the next care begins with it.
        ledger.note(Fact::Care, Became::Doubtful);
        world.agent.ctl(&["db", "optimize", "--force", "--database", "trades"]);
    }
    let care = list(&ask(world, &["db", "history", "--limit", "1000"])?, "care");
    if care.iter().any(|it| it["outcome"] == "CARE_OUTCOME_RUNNING") {
        found.push(Violation::broken("a care goes on"));
    }
    // What was blocked was no run.
    let ran = care.iter().filter(|it| it["outcome"] != "CARE_OUTCOME_BLOCKED");
    let runs: Vec<&str> = ran.filter_map(|it| it["runId"].as_str()).collect();
    let different: BTreeSet<&str> = runs.iter().copied().collect();
    if different.len() < runs.len() {
        found.push(Violation::broken("a care is told twice"));
    }
    let count = ledger.times(&Fact::Care);
    // Only so many are kept.
    if count.acknowledged + count.doubtful < 400 {
        found.extend(held_against("cares", runs.len() as u64, count));
    }
    Ok(found)
}

/// Each order came to a certificate, there is no order that nobody asked for, and one is in service.
pub(super) fn certificates(world: &World, ledger: &Ledger) -> Found {
    let Some(pebble) = &world.pebble else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let stands = list(&ask(world, &["cert", "list", "--domain", "gw"])?, "certificates");
    let stands = stands.into_iter().next().unwrap_or_default();
    if !stands["current"].is_object() {
        let what = format!("no certificate is in service: {stands}");
        found.push(Violation { wrong: Wrong::Lost, count: 1, what });
    }
    let count = ledger.times(&Fact::Certificate);
    let (orders, issued) = (pebble.orders() as u64, pebble.issued().len() as u64);
    // The first one is the agent's own. Who asked while another order went on was told of that one.
    let most = 1 + count.acknowledged + count.doubtful;
    let allowed = Count { acknowledged: 1, doubtful: most - 1 };
    found.extend(held_against("orders of certificates", orders, allowed));
    if issued > orders {
        let what = format!("{issued} certificates of {orders} orders");
        found.push(Violation { wrong: Wrong::Doubled, count: issued - orders, what });
    }
    Ok(found)
}

/// People have heard of each alert, and of each as one.
pub(super) fn alerts(world: &World, ledger: &Ledger) -> Found {
    let Some(pager) = &world.pager else { return Ok(Vec::new()) };
    let status = ask(world, &["alerts", "list"])?;
    let mut found = Vec::new();
    let waiting = &status["waiting"];
    if !(waiting.is_null() || *waiting == 0) {
        let history = ask(world, &["alerts", "history", "--limit", "1000"])?;
        let mut under_way = list(&history, "deliveries");
        under_way.retain(|it| it["outcome"] == "DELIVERY_OUTCOME_WAITING");
        found.push(Violation::broken(format!("{waiting} messages wait: {under_way:?}")));
    }
    let count = ledger.times(&Fact::Alert);
    let heard = pager.heard();
    let about = heard.iter().filter(|it| it.body.contains("feed"));
    let triggers = about.filter(|it| it.json()["event_action"] == "trigger");
    let keys: BTreeSet<String> = triggers.map(|it| it.json()["dedup_key"].to_string()).collect();
    found.extend(held_against("calls about the patient", keys.len() as u64, count));
    if let Some(mail) = &world.mail {
        let mails = mail.mails();
        let about = mails.iter().filter(|it| it.accepted && it.text.contains("feed"));
        let ids: BTreeSet<&str> = about.map(|it| it.header("message-id")).collect();
        // One when it fires and one when it is over; one that was cut off is the same mail again.
        let doubtful = count.acknowledged + 2 * count.doubtful;
        let allowed = Count { acknowledged: count.acknowledged, doubtful };
        found.extend(held_against("mails about the patient", ids.len() as u64, allowed));
    }
    Ok(found)
}

/// An emergency is in force or not as it was acknowledged last, and the trading system obeys it.
pub(super) fn emergency(world: &World, ledger: &Ledger) -> Found {
    let Some(venue) = &world.venue else { return Ok(Vec::new()) };
    let facts = ledger.newest(40, |fact| match fact {
        Fact::Halt => Some(true),
        Fact::Release => Some(false),
        _ => None,
    });
    let active = ask(world, &["emergency", "status"])?["emergency"]["active"] == true;
    let last = facts.iter().position(|(_, became)| *became == Became::Acknowledged);
    let mut found = Vec::new();
    if let Some(last) = last
        && !facts[..=last].iter().any(|(halted, _)| *halted == active)
    {
        let what = format!("an emergency is in force: {active}, against what was acknowledged");
        found.push(Violation { wrong: Wrong::Lost, count: 1, what });
    }
    let halted = venue.book()["halted"] == true;
    if halted != active {
        let what = format!("trading is halted: {halted}, an emergency is in force: {active}");
        found.push(Violation::broken(what));
    }
    if !venue.calls("ClosePositions").is_empty() {
        let what = "positions were closed, and nobody asked for it".to_owned();
        found.push(Violation { wrong: Wrong::Doubled, count: 1, what });
    }
    Ok(found)
}

/// Each segment is in the archive once, with its manifest, and no upload is left in the middle.
pub(super) fn archive(world: &World, _: &Ledger) -> Found {
    let Some(s3) = &world.s3 else { return Ok(Vec::new()) };
    let root = s3.objects().join("storm");
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for segment in world.agent.segments(crate::storm::world::LOG) {
        for path in [segment.file(&root), segment.manifest(&root)] {
            if segment.state == "VERIFIED" && !path.exists() {
                let what = format!("{} is verified and not there", path.display());
                found.push(Violation { wrong: Wrong::Lost, count: 1, what });
            }
        }
        if !names.insert(segment.archive_name.clone()) && !segment.archive_name.is_empty() {
            let what = format!("{} is two segments", segment.archive_name);
            found.push(Violation { wrong: Wrong::Doubled, count: 1, what });
        }
    }
    for orphan in s3.orphans() {
        found.push(Violation::broken(format!("an upload was left: {orphan}")));
    }
    Ok(found)
}

/// The host is of its fleet again, and uses what the fleet does.
pub(super) fn fleet(world: &World, ledger: &Ledger) -> Found {
    if world.etcd.is_none() {
        return Ok(Vec::new());
    }
    let said = world.agent.ctl(&["fleet", "status"]);
    if !said.text().contains("CONNECTED") {
        return Err(Violation::broken(format!("it is not of its fleet: {}", said.text())));
    }
    let facts = ledger.newest(40, |fact| match fact {
        Fact::FleetParameter(value) => Some(value.clone()),
        _ => None,
    });
    Ok(in_force(world, "all", &facts))
}
