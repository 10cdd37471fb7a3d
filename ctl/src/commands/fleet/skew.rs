//! `fleet skew`: in what the hosts of a fleet differ that should be alike.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use genesis_client::v1::{
    FleetStanding, GetConfigRequest, GetFleetStatusRequest, GetStatusRequest, ListParametersRequest,
};
use genesis_client::{Client, Error};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::standing;
use crate::connect::Session;
use crate::console::now;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] =
    &["HOST", "VERSION", "CLOCK", "CONFIG", "PARAMETERS", "EMERGENCY", "STANDING"];
/// Clocks that are further apart than this, beyond what the calls can tell, differ.
const APART: SignedDuration = SignedDuration::from_millis(500);
/// Of so many parameters that differ the names are told.
const NAMED: usize = 10;

/// What a host is like.
#[derive(Debug, Clone, PartialEq)]
struct Facts {
    host: String,
    version: String,
    /// Ahead of this machine's clock, and how far that may be out.
    clock: (SignedDuration, SignedDuration),
    /// The beginning of its configuration's digest.
    config: String,
    parameters: BTreeMap<String, String>,
    emergency: bool,
    standing: FleetStanding,
}

/// In what hosts differ, in words; by node.
fn differences(facts: &BTreeMap<String, Facts>) -> Vec<String> {
    let mut found = Vec::new();
    let by = |value: &dyn Fn(&Facts) -> String| {
        let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for it in facts.values() {
            groups.entry(value(it)).or_default().push(&it.host);
        }
        groups
    };
    let told = |groups: BTreeMap<String, Vec<&str>>| {
        let each: Vec<String> = groups
            .iter()
            .map(|(value, hosts)| format!("{value} on {}", hosts.join(", ")))
            .collect();
        each.join("; ")
    };
    let versions = by(&|it| it.version.clone());
    if versions.len() > 1 {
        found.push(format!("version: {}", told(versions)));
    }
    let emergencies = by(&|it| if it.emergency { "in force" } else { "none" }.to_owned());
    if emergencies.len() > 1 {
        found.push(format!("emergency: {}", told(emergencies)));
    }
    // The earliest and the latest that any clock may be.
    let slowest = facts.values().min_by_key(|it| it.clock.0 + it.clock.1);
    let fastest = facts.values().max_by_key(|it| it.clock.0 - it.clock.1);
    if let (Some(slow), Some(fast)) = (slowest, fastest) {
        let apart = (fast.clock.0 - fast.clock.1) - (slow.clock.0 + slow.clock.1);
        if apart > APART {
            let seconds = apart.as_secs_f64();
            found.push(format!(
                "clock: {} is at least {seconds:.1} s ahead of {}",
                fast.host, slow.host
            ));
        }
    }
    let names: BTreeSet<&String> = facts.values().flat_map(|it| it.parameters.keys()).collect();
    let differing: Vec<&&String> = names
        .iter()
        .filter(|name| {
            let values: BTreeSet<Option<&String>> =
                facts.values().map(|it| it.parameters.get(**name)).collect();
            values.len() > 1
        })
        .collect();
    for name in differing.iter().take(NAMED) {
        let values = by(&|it| match it.parameters.get(**name) {
            Some(value) => format!("{value:?}"),
            None => "not set".to_owned(),
        });
        found.push(format!("parameter {name}: {}", told(values)));
    }
    if differing.len() > NAMED {
        found.push(format!("{} more parameters", differing.len() - NAMED));
    }
    found
}

pub(super) async fn show(session: &Session<'_>) -> Result<Exit, Halt> {
    let gathered: RefCell<BTreeMap<String, Facts>> = RefCell::default();
    let into = &gathered;
    let call = |client: Client| async move {
        let facts = ask(&client).await?;
        let answer = of_node(&facts);
        into.borrow_mut().insert(client.node().to_string(), facts);
        Ok(answer)
    };
    let merge = || {
        let facts = gathered.borrow();
        let found = differences(&facts);
        let missing = session.nodes.len().saturating_sub(facts.len());
        let mut lead = found.clone();
        if lead.is_empty() {
            lead.push(format!("{} alike", format::plural(facts.len() as u64, "host")));
        }
        if missing > 0 {
            lead.push(format!("{} could not be asked", format::plural(missing as u64, "host")));
        }
        let json = json!({ "differences": found, "asked": facts.len(), "missing": missing });
        Ok::<_, Error>(Some(Answer::new(json, View { lead, ..View::default() })))
    };
    let exit = session.each_merged(COLUMNS, call, merge).await?;
    let differ = !differences(&gathered.borrow()).is_empty();
    Ok(if differ && exit == Exit::Ok { Exit::Findings } else { exit })
}

async fn ask(client: &Client) -> Result<Facts, Stop> {
    let before = now();
    let request = GetStatusRequest {};
    let status = client.call(request, |c, r| async move { c.agent().get_status(r).await }).await?;
    let clock = offset(before, status.now.as_ref(), now());
    let request = GetFleetStatusRequest {};
    let fleet =
        client.call(request, |c, r| async move { c.fleet().get_fleet_status(r).await }).await?;
    let request = GetConfigRequest::default();
    let config = client.call(request, |c, r| async move { c.agent().get_config(r).await }).await?;
    let request = ListParametersRequest::default();
    let list =
        client.call(request, |c, r| async move { c.parameters().list_parameters(r).await }).await?;
    let parameters = list.parameters.into_iter();
    Ok(Facts {
        host: status.hostname,
        version: status.version,
        clock,
        config: config.sha256.chars().take(12).collect(),
        parameters: parameters
            .map(|it| (format!("{}/{}", it.strategy, it.name), it.value))
            .collect(),
        emergency: status.emergency,
        standing: fleet.standing(),
    })
}

/// How far a clock is ahead of ours, that was read at some time between two; and how far that may be out.
fn offset(
    before: Timestamp,
    read: Option<&prost_types::Timestamp>,
    after: Timestamp,
) -> (SignedDuration, SignedDuration) {
    let half = after.duration_since(before) / 2;
    let read = read.and_then(|it| Timestamp::new(it.seconds, it.nanos).ok()).unwrap_or(before);
    (read.duration_since(before) - half, half)
}

fn of_node(facts: &Facts) -> Answer {
    let (ahead, out) = (facts.clock.0.as_millis(), facts.clock.1.as_millis());
    let row = vec![
        Cell::from(facts.host.as_str()),
        Cell::from(facts.version.as_str()),
        Cell::number(format!("{ahead:+} ms ± {out}")),
        Cell::from(facts.config.as_str()),
        Cell::number(format::count(facts.parameters.len() as u64)),
        Cell::alert(if facts.emergency { "in force" } else { format::NONE }, facts.emergency),
        Cell::from(standing(facts.standing)),
    ];
    let json = json!({
        "host": facts.host,
        "version": facts.version,
        "clockAheadMs": i64::try_from(ahead).unwrap_or(i64::MAX),
        "clockUncertaintyMs": i64::try_from(out).unwrap_or(i64::MAX),
        "config": facts.config,
        "parameters": facts.parameters,
        "emergency": facts.emergency,
        "standing": standing(facts.standing),
    });
    Answer::new(json, View { columns: COLUMNS, rows: vec![row], ..View::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(host: &str) -> Facts {
        let ms = SignedDuration::from_millis;
        Facts {
            host: host.into(),
            version: "1.0".into(),
            clock: (ms(3), ms(10)),
            config: "abc".into(),
            parameters: [("s/p".to_owned(), "1".to_owned())].into(),
            emergency: false,
            standing: FleetStanding::Connected,
        }
    }

    #[test]
    fn what_should_be_alike_and_is_not_is_told() {
        let ms = SignedDuration::from_millis;
        let found = |change: &dyn Fn(&mut Facts)| {
            let mut b = facts("b");
            change(&mut b);
            differences(&[("a".to_owned(), facts("a")), ("b".to_owned(), b)].into())
        };
        assert!(found(&|_| {}).is_empty());
        // Hosts are configured apart, and a slow call says little of a clock.
        assert!(found(&|it| it.config = "def".into()).is_empty());
        assert!(found(&|it| it.clock = (ms(2_000), ms(1_900))).is_empty());
        assert!(found(&|it| it.clock = (ms(-480), ms(10))).is_empty());
        assert_eq!(found(&|it| it.version = "1.1".into()), ["version: 1.0 on a; 1.1 on b"]);
        assert_eq!(found(&|it| it.emergency = true), ["emergency: in force on b; none on a"]);
        assert_eq!(
            found(&|it| it.clock = (ms(2_023), ms(10))),
            ["clock: b is at least 2.0 s ahead of a"]
        );
        assert_eq!(
            found(&|it| it.clock = (ms(-2_017), ms(10))),
            ["clock: a is at least 2.0 s ahead of b"]
        );
        assert_eq!(
            found(&|it| drop(it.parameters.insert("s/p".into(), "2".into()))),
            ["parameter s/p: \"1\" on a; \"2\" on b"]
        );
        let many = found(&|it| {
            it.parameters = (0..12).map(|number| (format!("q/{number}"), "1".to_owned())).collect();
        });
        assert_eq!(many.len(), 11, "{many:?}");
        assert!(many[0].contains("not set on a") && many[10] == "3 more parameters", "{many:?}");
    }

    #[test]
    fn a_clock_is_read_between_two_times_of_ours() {
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        let read = prost_types::Timestamp { seconds: 10, nanos: 0 };
        let (ahead, out) = offset(at(1_000), Some(&read), at(1_200));
        assert_eq!((ahead.as_millis(), out.as_millis()), (8_900, 100));
    }
}
