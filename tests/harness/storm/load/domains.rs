//! What each domain does.

use std::fmt::Write as _;

use super::practice::{Drills, Rollbacks};
use super::releases::Releases;
use super::{Became, Domain, Fact, Hands, LOG, Service, Watch, World};
use crate::clock::now;

/// A bucket of series, in seconds.
const BUCKET: i64 = 300;
/// So many buckets of a series are filled, the newest first: they lie within the window, whatever day it is.
const BUCKETS: u64 = 300;

/// What is asked of the agent in this world.
pub(super) fn of(world: &World) -> Vec<Box<dyn Domain>> {
    let mut domains: Vec<Box<dyn Domain>> = vec![
        Box::new(Notes),
        Box::new(Observations),
        Box::new(Trades { sent: 0 }),
        Box::new(Values { from: now().as_second() / BUCKET }),
        Box::new(Parameters),
        Box::new(Rotations),
        Box::new(Backups),
        Box::new(Rollbacks),
        Box::new(Drills),
    ];
    let services = world.services();
    let has = |service: Service| services.contains(&service);
    if has(Service::Pager) {
        domains.push(Box::new(Alerts));
    }
    if has(Service::Venue) {
        domains.push(Box::new(Emergencies));
    }
    if has(Service::Postgres) {
        domains.push(Box::new(Cares));
    }
    if has(Service::Pebble) {
        domains.push(Box::new(Certificates));
    }
    if has(Service::Etcd) {
        domains.push(Box::new(FleetParameters));
    }
    domains.extend(world.managed.iter().map(|it| Box::new(Releases::of(it)) as Box<dyn Domain>));
    domains
}

/// Entries of people in the operation log.
struct Notes;

impl Domain for Notes {
    fn name(&self) -> &'static str {
        "oplog"
    }

    fn step(&mut self, hands: &Hands, number: u64) {
        let text = format!("storm note {number}");
        hands.note(Fact::Note(text.clone()), &["oplog", "note", &text]);
    }
}

/// Latencies of calls, all of them half an hour old at least: no window is judged by them while it is open.
struct Observations;

impl Domain for Observations {
    fn name(&self) -> &'static str {
        "baselines"
    }

    fn step(&mut self, hands: &Hands, number: u64) {
        let until = now().as_second() - 1_800;
        let mut text = "operation,timestamp,latency_ms\n".to_owned();
        let count = hands.within(100, 400);
        for row in 0..count {
            let at = until - hands.within(0, 3_600).cast_signed();
            // No two files are alike.
            let _ = writeln!(text, "storm.calls,{at}.{row:06},{}.{number:06}", 10 + row % 20);
        }
        let arguments = ["observe", "--batch-rows", "50"];
        hands.send("observations.csv", &text, &arguments, Fact::Observations(count));
    }
}

/// Trades of an experiment that nothing is decided of.
struct Trades {
    sent: u64,
}

impl Domain for Trades {
    fn name(&self) -> &'static str {
        "experiments"
    }

    fn step(&mut self, hands: &Hands, _: u64) {
        let mut text = "experiment,trade_id,arm,pnl,timestamp\n".to_owned();
        let (at, count) = (now(), hands.within(20, 200));
        let (second, micros) = (at.as_second(), at.subsec_microsecond());
        for trade in self.sent..self.sent + count {
            let arm = if trade % 2 == 0 { "control" } else { "variant" };
            let pnl = trade % 7;
            let _ = writeln!(text, "TEST_1,fill-{trade},{arm},{pnl},{second}.{micros:06}");
        }
        self.sent += count;
        let arguments = ["trades", "push", "--batch-rows", "20"];
        hands.send("trades.csv", &text, &arguments, Fact::Trades(count));
    }
}

/// Prices: each bucket of each series once.
struct Values {
    /// The bucket behind the newest.
    from: i64,
}

impl Domain for Values {
    fn name(&self) -> &'static str {
        "matrices"
    }

    fn step(&mut self, hands: &Hands, number: u64) {
        let (series, bucket) = (number / BUCKETS, (number % BUCKETS).cast_signed());
        let at = (self.from - 12 - bucket) * BUCKET + 1;
        let price = 100 + number % 50;
        let head = format!("timestamp,A{series},B{series},C{series}");
        let text = format!("{head}\n{at},{price},{},{}\n", price + 1, price + 2);
        hands.send("values.csv", &text, &["series", "push"], Fact::Values(3));
    }
}

/// Values of a strategy's parameter, each another one.
struct Parameters;

impl Domain for Parameters {
    fn name(&self) -> &'static str {
        "parameters"
    }

    fn step(&mut self, hands: &Hands, number: u64) {
        let value = format!("v{number}");
        let pair = format!("size={value}");
        let set = ["param", "set", "--strategy", "storm", &pair, "--reason", "load"];
        hands.note(Fact::Parameter(value), &set);
    }
}

/// The same in the whole fleet.
struct FleetParameters;

impl Domain for FleetParameters {
    fn name(&self) -> &'static str {
        "fleet"
    }

    fn step(&mut self, hands: &Hands, number: u64) {
        let value = format!("v{number}");
        let pair = format!("size={value}");
        let set = ["param", "set", "--fleet", "--strategy", "all", &pair, "--reason", "load"];
        hands.note(Fact::FleetParameter(value), &set);
    }
}

/// The log is cut.
struct Rotations;

impl Domain for Rotations {
    fn name(&self) -> &'static str {
        "logs"
    }

    fn step(&mut self, hands: &Hands, _: u64) {
        hands.note(Fact::Rotation, &["logs", "rotate", "--log-type", LOG, "--detach"]);
        hands.rest(10);
    }
}

/// The agent's own state is backed up.
struct Backups;

impl Domain for Backups {
    fn name(&self) -> &'static str {
        "backup"
    }

    fn step(&mut self, hands: &Hands, _: u64) {
        hands.note(Fact::Backup, &["backup", "run", "agent"]);
        hands.rest(20);
    }
}

/// The database is cared for.
struct Cares;

impl Domain for Cares {
    fn name(&self) -> &'static str {
        "database"
    }

    fn step(&mut self, hands: &Hands, _: u64) {
        hands.note(Fact::Care, &["db", "optimize", "--force", "--database", "trades"]);
        hands.rest(30);
    }
}

/// Certificates are renewed.
struct Certificates;

impl Domain for Certificates {
    fn name(&self) -> &'static str {
        "certificates"
    }

    fn step(&mut self, hands: &Hands, _: u64) {
        hands.note(Fact::Certificate, &["cert", "renew", "--force"]);
        hands.rest(50);
    }
}

/// Somebody falls ill, and is well again.
struct Alerts;

impl Domain for Alerts {
    fn name(&self) -> &'static str {
        "alerts"
    }

    fn step(&mut self, hands: &Hands, _: u64) {
        let patient = &hands.shared.patient;
        // What is over counts as that half a minute later; until then it would be the same alert.
        if fires(hands) != Some(false) {
            patient.is(0);
            return hands.rest(10);
        }
        hands.begins_a_deed();
        patient.is(1);
        let watch = Watch::start();
        let told = loop {
            if fires(hands) == Some(true) {
                break true;
            }
            if hands.waits_in_vain(&watch) {
                break false;
            }
        };
        match told {
            true => hands.ledger().note(Fact::Alert, Became::Acknowledged),
            // The next agent may find it, until it is well again.
            false => {
                hands.never_told();
                hands.ledger().note(Fact::Alert, Became::Doubtful);
            }
        }
        patient.is(0);
    }
}

/// Whether people are told of the patient, or were a moment ago; `None`: the agent does not say.
fn fires(hands: &Hands) -> Option<bool> {
    let list = hands.ask(&["alerts", "list", "-o", "json"]);
    let list = matches!(list.code, 0 | 3).then(|| list.response())?;
    let firing = list["firing"].as_array().cloned().unwrap_or_default();
    Some(firing.iter().any(|alert| alert["subject"] == "feed"))
}

/// Trading is halted, and goes on.
struct Emergencies;

impl Domain for Emergencies {
    fn name(&self) -> &'static str {
        "recovery"
    }

    fn step(&mut self, hands: &Hands, _: u64) {
        // What is in force, whatever became of the last one.
        let status = hands.ask(&["emergency", "status", "-o", "json"]);
        if !matches!(status.code, 0 | 3) {
            return;
        }
        if status.response()["emergency"]["active"] == true {
            hands.note(Fact::Release, &["emergency", "release", "--reason", "load"]);
            // Most of the time none is in force: others may not go on in one.
            hands.rest(100);
        } else {
            hands.note(Fact::Halt, &["emergency", "halt", "--no-wait", "--reason", "load"]);
            hands.rest(5);
        }
    }
}
