//! `fleet skew`: in what the hosts of a fleet differ that should be alike.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use genesis_client::v1::{
    FleetStanding, GetConfigRequest, GetFleetStatusRequest, GetStatusRequest, ListMatricesRequest,
    ListMatricesResponse, ListParametersRequest,
};
use genesis_client::{Client, Error};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::standing;
use crate::connect::Session;
use crate::console::now;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] =
    &["HOST", "VERSION", "CLOCK", "CONFIG", "MATRIX", "PARAMETERS", "EMERGENCY", "STANDING"];
/// Clocks that are further apart than this, beyond what the calls can tell, differ.
const APART: SignedDuration = SignedDuration::from_millis(500);
/// Of so many parameters that differ the names are told.
const NAMED: usize = 10;
/// So much of a value is shown.
const VALUE: usize = 40;

/// A parameter that is in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Parameter {
    value: String,
    /// Each host counts its own, so that equal values may have other numbers.
    version: u64,
}

/// Where no matrix is in force.
const NO_MATRIX: &str = "none";
/// Among so many versions the one in force is looked for: an agent keeps no more.
const VERSIONS: u32 = 100;

/// What a host is like; `None`: that is not known.
#[derive(Debug, Clone, PartialEq)]
struct Facts {
    host: String,
    version: String,
    /// Ahead of this machine's clock, and how far that may be out.
    clock: Option<(SignedDuration, SignedDuration)>,
    /// The beginning of its configuration's digest.
    config: String,
    /// The content of the matrix in force, by its digest; "none" where there is none. Each host has numbers of its own.
    matrix: Option<String>,
    parameters: Option<BTreeMap<String, Parameter>>,
    emergency: bool,
    standing: Option<FleetStanding>,
}

/// Something in which hosts differ.
#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    /// Such as "version".
    what: &'static str,
    detail: String,
}

/// In what hosts differ; by node.
fn differences(facts: &BTreeMap<String, Facts>) -> Vec<Difference> {
    let mut found = Vec::new();
    // Hosts by what each of them says; those that say nothing are in none.
    let by = |value: &dyn Fn(&Facts) -> Option<String>| {
        let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for it in facts.values() {
            if let Some(value) = value(it) {
                groups.entry(value).or_default().push(&it.host);
            }
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
    let mut alike = |what, groups: BTreeMap<String, Vec<&str>>| {
        if groups.len() > 1 {
            found.push(Difference { what, detail: told(groups) });
        }
    };
    alike("version", by(&|it| Some(it.version.clone())));
    alike("emergency", by(&|it| Some(if it.emergency { "in force" } else { "none" }.to_owned())));
    alike("matrix", by(&|it| it.matrix.clone()));
    // The earliest and the latest that any clock may be.
    let clocks = || facts.values().filter_map(|it| Some((&it.host, it.clock?)));
    let slowest = clocks().min_by_key(|(_, (ahead, out))| *ahead + *out);
    let fastest = clocks().max_by_key(|(_, (ahead, out))| *ahead - *out);
    if let (Some((slow, latest)), Some((fast, earliest))) = (slowest, fastest) {
        let apart = (earliest.0 - earliest.1) - (latest.0 + latest.1);
        if apart > APART {
            let seconds = apart.as_secs_f64();
            let detail = format!("{fast} is at least {seconds:.1} s ahead of {slow}");
            found.push(Difference { what: "clock", detail });
        }
    }
    let known = || facts.values().filter_map(|it| it.parameters.as_ref());
    let names: BTreeSet<&String> = known().flat_map(BTreeMap::keys).collect();
    let value_on = |parameters: &BTreeMap<String, Parameter>, name: &str| {
        parameters.get(name).map(|it| it.value.clone())
    };
    let differing = names.into_iter().filter(|name| {
        let values: BTreeSet<_> = known().map(|parameters| value_on(parameters, name)).collect();
        values.len() > 1
    });
    let differing: Vec<&String> = differing.collect();
    for name in differing.iter().take(NAMED) {
        let values = by(&|it| {
            Some(match value_on(it.parameters.as_ref()?, name) {
                Some(value) => shortened(&value),
                None => "not set".to_owned(),
            })
        });
        let detail = format!("{name}: {}", told(values));
        found.push(Difference { what: "parameter", detail });
    }
    if differing.len() > NAMED {
        let detail = format!("and {} more", differing.len() - NAMED);
        found.push(Difference { what: "parameter", detail });
    }
    found
}

/// What is not known of hosts that have answered.
fn unknowns(facts: &BTreeMap<String, Facts>) -> Vec<String> {
    let each = facts.values().flat_map(|it| {
        [
            (it.clock.is_none(), "clock"),
            (it.matrix.is_none(), "matrix"),
            (it.parameters.is_none(), "parameters"),
            (it.standing.is_none(), "standing to its fleet"),
        ]
        .into_iter()
        .filter(|(unknown, _)| *unknown)
        .map(|(_, what)| format!("{what} of {}", it.host))
    });
    each.collect()
}

/// A value as it is shown; one that is cut has its length, so that two are not taken for one.
fn shortened(value: &str) -> String {
    match value.char_indices().nth(VALUE) {
        None => format!("{value:?}"),
        Some((end, _)) => {
            format!("{:?}... ({} bytes, {:08x})", &value[..end], value.len(), sum(value))
        }
    }
}

/// Tells long values apart that begin alike.
fn sum(value: &str) -> u32 {
    value.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn matrix(list: &ListMatricesResponse) -> Option<String> {
    if list.active == 0 {
        return Some(NO_MATRIX.to_owned());
    }
    let active = list.versions.iter().find(|it| it.version == list.active)?;
    let digest: String = active.digest.chars().take(12).collect();
    Some(digest).filter(|digest| !digest.is_empty())
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
        let (found, unknown) = (differences(&facts), unknowns(&facts));
        let missing = session.nodes.len().saturating_sub(facts.len());
        let mut lead: Vec<String> =
            found.iter().map(|it| format!("{}: {}", it.what, it.detail)).collect();
        if lead.is_empty() {
            lead.push(format!("{} alike", format::plural(facts.len() as u64, "host")));
        }
        if !unknown.is_empty() {
            lead.push(format!("not known: {}", unknown.join(", ")));
        }
        if missing > 0 {
            lead.push(format!("{} could not be asked", format::plural(missing as u64, "host")));
        }
        let json = json!({
            "differences": found, "unknown": unknown, "asked": facts.len(), "missing": missing
        });
        Ok::<_, Error>(Some(Answer::new(json, View { lead, ..View::default() })))
    };
    let exit = session.each_merged(COLUMNS, call, merge).await?;
    let facts = gathered.borrow();
    Ok(match exit {
        Exit::Ok if !unknowns(&facts).is_empty() => Exit::Unknown,
        Exit::Ok if !differences(&facts).is_empty() => Exit::Findings,
        exit => exit,
    })
}

/// What an agent answers, if it is new enough to have been asked.
fn if_known<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code == "UNIMPLEMENTED" => Ok(None),
        Err(error) => Err(error),
    }
}

async fn ask(client: &Client) -> Result<Facts, Stop> {
    // Nothing else goes on meanwhile, which would make the clock less certain.
    let before = now();
    let request = GetStatusRequest {};
    let status = client.call(request, |c, r| async move { c.agent().get_status(r).await }).await?;
    let clock = status.now.as_ref().and_then(|read| offset(before, read, now()));
    let (fleet, config, matrices, list) = tokio::join!(
        client.call(
            GetFleetStatusRequest {},
            |c, r| async move { c.fleet().get_fleet_status(r).await }
        ),
        client.call(GetConfigRequest {}, |c, r| async move { c.agent().get_config(r).await }),
        client.call(ListMatricesRequest { limit: VERSIONS }, |c, r| async move {
            c.matrices().list_matrices(r).await
        }),
        client.call(ListParametersRequest::default(), |c, r| async move {
            c.parameters().list_parameters(r).await
        }),
    );
    // One that is not listed may be another one there.
    let list = if_known(list)?.filter(|list| !list.more);
    let parameters = list.map(|list| {
        let each = list.parameters.into_iter().map(|it| {
            let parameter = Parameter { value: it.value, version: it.version };
            (format!("{}/{}", it.strategy, it.name), parameter)
        });
        each.collect()
    });
    let fleet = if_known(fleet)?.map(|fleet| fleet.standing());
    Ok(Facts {
        host: status.hostname,
        version: status.version,
        clock,
        config: config?.sha256.chars().take(12).collect(),
        matrix: if_known(matrices)?.as_ref().and_then(matrix),
        parameters,
        emergency: status.emergency,
        standing: fleet.filter(|is| *is != FleetStanding::Unspecified),
    })
}

/// How far a clock is ahead of ours, that was read at some time between two; and how far that may be out. `None`: what
/// was read is no time, or ours was set meanwhile.
fn offset(
    before: Timestamp,
    read: &prost_types::Timestamp,
    after: Timestamp,
) -> Option<(SignedDuration, SignedDuration)> {
    let half = after.duration_since(before) / 2;
    let read = Timestamp::new(read.seconds, read.nanos).ok()?;
    (!half.is_negative()).then(|| (read.duration_since(before) - half, half))
}

fn of_node(facts: &Facts) -> Answer {
    const UNKNOWN: &str = "unknown";
    let ms = |duration: SignedDuration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let clock = facts.clock.map(|(ahead, out)| (ms(ahead), ms(out)));
    let is = facts.standing.map(standing);
    let row = vec![
        Cell::from(facts.host.as_str()),
        Cell::from(facts.version.as_str()),
        Cell::number(
            clock.map_or(UNKNOWN.to_owned(), |(ahead, out)| format!("{ahead:+} ms ± {out}")),
        ),
        Cell::from(format::or_none(&facts.config)),
        Cell::from(facts.matrix.as_deref().unwrap_or(UNKNOWN)),
        Cell::number(match &facts.parameters {
            Some(parameters) => format::count(parameters.len() as u64),
            None => UNKNOWN.to_owned(),
        }),
        Cell::alert(if facts.emergency { "in force" } else { format::NONE }, facts.emergency),
        Cell::from(is.unwrap_or(UNKNOWN)),
    ];
    let json: Value = json!({
        "host": facts.host,
        "version": facts.version,
        "clockAheadMs": clock.map(|(ahead, _)| ahead),
        "clockUncertaintyMs": clock.map(|(_, out)| out),
        "config": facts.config,
        "matrix": facts.matrix,
        "parameters": facts.parameters,
        "emergency": facts.emergency,
        "standing": is,
    });
    Answer::new(json, View { columns: COLUMNS, rows: vec![row], ..View::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: i64) -> SignedDuration {
        SignedDuration::from_millis(ms)
    }

    fn parameter(value: &str, version: u64) -> Parameter {
        Parameter { value: value.into(), version }
    }

    fn facts(host: &str) -> Facts {
        Facts {
            host: host.into(),
            version: "1.0".into(),
            clock: Some((ms(3), ms(10))),
            config: "abc".into(),
            matrix: Some("d7".into()),
            parameters: Some([("s/p".to_owned(), parameter("1", 1))].into()),
            emergency: false,
            standing: Some(FleetStanding::Connected),
        }
    }

    /// What is found of a host beside another one.
    fn found(change: &dyn Fn(&mut Facts)) -> Vec<String> {
        let mut b = facts("b");
        change(&mut b);
        let both = [("a".to_owned(), facts("a")), ("b".to_owned(), b)].into();
        differences(&both).into_iter().map(|it| format!("{}: {}", it.what, it.detail)).collect()
    }

    fn set(facts: &mut Facts, name: &str, value: Parameter) {
        drop(facts.parameters.as_mut().unwrap().insert(name.into(), value));
    }

    #[test]
    fn what_should_be_alike_and_is_not_is_told() {
        let none: [&str; 0] = [];
        assert_eq!(found(&|_| {}), none);
        // Hosts are configured apart, and a slow call says little of a clock.
        assert_eq!(found(&|it| it.config = "def".into()), none);
        assert_eq!(found(&|it| it.clock = Some((ms(2_000), ms(1_900)))), none);
        assert_eq!(found(&|it| it.clock = Some((ms(-480), ms(10)))), none);
        // Each host counts its own versions.
        assert_eq!(found(&|it| set(it, "s/p", parameter("1", 9))), none);
        // How it stands is no difference of what it does.
        assert_eq!(found(&|it| it.standing = Some(FleetStanding::Lost)), none);
        assert_eq!(found(&|it| it.version = "1.1".into()), ["version: 1.0 on a; 1.1 on b"]);
        assert_eq!(found(&|it| it.emergency = true), ["emergency: in force on b; none on a"]);
        assert_eq!(found(&|it| it.matrix = Some("none".into())), ["matrix: d7 on a; none on b"]);
        assert_eq!(
            found(&|it| it.clock = Some((ms(2_023), ms(10)))),
            ["clock: b is at least 2.0 s ahead of a"]
        );
        assert_eq!(
            found(&|it| it.clock = Some((ms(-2_017), ms(10)))),
            ["clock: a is at least 2.0 s ahead of b"]
        );
        assert_eq!(
            found(&|it| set(it, "s/p", parameter("2", 1))),
            ["parameter: s/p: \"1\" on a; \"2\" on b"]
        );
        let many = found(&|it| {
            let each = (0..12).map(|number| (format!("q/{number}"), parameter("1", 1)));
            it.parameters = Some(each.collect());
        });
        assert_eq!(many.len(), 11, "{many:?}");
        assert!(
            many[0].contains("not set on a") && many[10] == "parameter: and 3 more",
            "{many:?}"
        );
    }

    #[test]
    fn just_what_is_beyond_the_uncertainty_of_both_counts() {
        // a may be as late as 13 ms ahead; b at the earliest as much as it says less its own uncertainty.
        assert_eq!(found(&|it| it.clock = Some((ms(523), ms(10)))).len(), 0);
        assert_eq!(found(&|it| it.clock = Some((ms(524), ms(10)))).len(), 1);
    }

    #[test]
    fn long_values_that_begin_alike_are_told_apart() {
        let long = |end: char| parameter(&format!("{}{end}", "é".repeat(500)), 1);
        let told = found(&|it| {
            set(it, "s/p", long('x'));
        });
        assert!(told[0].len() < 250, "{told:?}");
        assert_ne!(shortened(&long('x').value), shortened(&long('y').value));
    }

    #[test]
    fn what_a_host_did_not_tell_is_neither_alike_nor_different() {
        let mut b = facts("b");
        (b.clock, b.matrix, b.parameters, b.standing) = (None, None, None, None);
        let both = [("a".to_owned(), facts("a")), ("b".to_owned(), b)].into();
        assert_eq!(differences(&both), []);
        assert_eq!(
            unknowns(&both),
            ["clock of b", "matrix of b", "parameters of b", "standing to its fleet of b"]
        );
    }

    #[test]
    fn a_clock_is_read_between_two_times_of_ours() {
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        let read = prost_types::Timestamp { seconds: 10, nanos: 0 };
        let told = offset(at(1_000), &read, at(1_200)).unwrap();
        assert_eq!((told.0.as_millis(), told.1.as_millis()), (8_900, 100));
        assert_eq!(offset(at(1_200), &read, at(1_000)), None, "ours was set back meanwhile");
        let odd = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(offset(at(0), &odd, at(0)), None);
    }

    #[test]
    fn a_matrix_is_known_by_its_content() {
        let version = |version, digest: &str| genesis_client::v1::MatrixVersion {
            version,
            digest: digest.into(),
            ..Default::default()
        };
        let list =
            |active, versions| ListMatricesResponse { active, versions, ..Default::default() };
        assert_eq!(matrix(&list(0, vec![])).as_deref(), Some("none"));
        let both = vec![version(8, "bbbb"), version(7, "aaaaaaaaaaaaaaaa")];
        assert_eq!(matrix(&list(7, both.clone())).as_deref(), Some("aaaaaaaaaaaa"));
        // One that is not listed may be any.
        assert_eq!(matrix(&list(6, both)), None);
    }
}
