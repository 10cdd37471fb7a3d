//! Tables over the pure parts.

use std::time::Duration;

use crate::alerts::channel::Kind;
use crate::alerts::plan::{self, ROUTES};
use crate::config::{Config as AgentConfig, Places};
use crate::events::Severity;

fn problems(text: &str) -> Vec<String> {
    let places = Places { state: "/s".into(), socket: "/s/agent.sock".into() };
    let checked = AgentConfig::parse(text, "test", &places);
    checked.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn every_severity_has_a_route() {
    let routed: Vec<Severity> = ROUTES.iter().map(|(severity, _)| *severity).collect();
    let mut all = Severity::ALL.to_vec();
    all.reverse();
    assert_eq!(routed, all);
    assert!(ROUTES.iter().all(|(_, channels)| !channels.is_empty()));
}

#[test]
fn the_security_contact_hears_of_what_is_critical_and_vulnerable_alone() {
    use std::collections::{BTreeMap, BTreeSet};

    use genesis_storage::Moment;

    use crate::events::Condition;

    let now = Moment {
        wall: jiff::Timestamp::UNIX_EPOCH,
        boot: "a".to_owned(),
        since_boot: Duration::ZERO,
    };
    let text = "[alerts]\n[alerts.channel.security]\nkind = \"slack\"\nsecret_env = \"A\"\n\
                [alerts.channel.pagerduty]\nkind = \"slack\"\nsecret_env = \"A\"\n";
    let places = Places { state: "/s".into(), socket: "/s/agent.sock".into() };
    let checked = AgentConfig::parse(text, "test", &places);
    let policy = checked.config.unwrap().alerts.policy;
    let channels = ["pagerduty", "security"].map(str::to_owned);
    for (source, severity, expected) in [
        ("dependencies", Severity::Critical, &["pagerduty", "security"][..]),
        ("dependencies", Severity::High, &[]),
        ("health", Severity::Critical, &["pagerduty"]),
    ] {
        let condition = Condition {
            key: format!("{source}/x"),
            subject: "x".to_owned(),
            severity,
            title: "x".to_owned(),
            details: Vec::new(),
            runbook: "x".to_owned(),
            since: now.wall,
            behind: Vec::new(),
        };
        let mut firing = BTreeMap::new();
        let heard = vec![(source.to_owned(), Some(vec![condition]))];
        plan::compare(&mut firing, &mut BTreeMap::new(), heard, &now, || "1".to_owned());
        let alert = firing.values().next().unwrap();
        let route = plan::route(alert, (&policy, &channels), &BTreeSet::new());
        assert_eq!(route, expected, "{source} {severity:?}");
    }
}

#[test]
fn pauses_grow_and_what_a_channel_asks_for_is_obeyed() {
    for (attempts, asked, seconds) in [
        (1, None, 2),
        (2, None, 4),
        (3, None, 8),
        (9, None, 300),
        (60, None, 300),
        (1, Some(17), 17),
        (5, Some(1), 1),
        (1, Some(1_800), 1_800),
    ] {
        let wait = plan::wait(attempts, asked.map(Duration::from_secs));
        assert_eq!(wait, Duration::from_secs(seconds), "{attempts} {asked:?}");
    }
}

#[test]
fn what_is_wrong_with_a_channel_is_said() {
    for (keys, expected) in [
        ("", "kind: is missing"),
        ("kind = \"pager\"", "is not one of pagerduty, sms"),
        ("kind = \"pagerduty\"", "a channel of kind pagerduty needs it"),
        ("kind = \"pagerduty\"\nsecret_file = \"key\"", "absolute path"),
        ("kind = \"slack\"\nsecret_env = \"A\"\nsecret_file = \"/k\"", "not both"),
        (
            "kind = \"slack\"\nsecret_env = \"A\"\nserver = \"a:1\"",
            "is not for a channel of kind slack",
        ),
        ("kind = \"sms\"\nto = [\"+41\"]", "a channel of kind sms needs it"),
        ("kind = \"sms\"\nurl = \"gateway\"\nto = [\"+41\"]", "is no URL"),
        (
            "kind = \"sms\"\nurl = \"http://gateway\"\nto = [\"+41\"]",
            "http:// is for this host only",
        ),
        ("kind = \"sms\"\nurl = \"https://[oops\"\nto = [\"+41\"]", "is no URL"),
        ("kind = \"sms\"\nurl = \"https://g\"\nto = [\"+41\\n\"]", "is no number"),
        ("kind = \"webhook\"", "a channel of kind webhook needs it"),
        ("kind = \"webhook\"\nurl = \"https://u:hunter2@x/\"", "must not hold a user"),
        ("kind = \"email\"\nserver = \"mail\"\nfrom = \"a@b\"\nto = [\"c@d\"]", "is not host:port"),
        ("kind = \"email\"\nserver = \"mail:25\"\nfrom = \"a\"\nto = [\"c@d\"]", "no mail address"),
        (
            "kind = \"email\"\nserver = \"mail:25\"\nfrom = \"a@b.c\"\nto = [\"c@d.e\"]\ntls = \"none\"",
            "on this host only",
        ),
        ("kind = \"command\"", "a channel of kind command needs it"),
        ("kind = \"webhook\"\nurl = \"https://x\"\nurll = \"y\"", "did you mean \"url\"?"),
        ("kind = \"webhook\"\nurl = \"https://x\"\npause = \"2h\"", "is over 60s"),
    ] {
        let found = problems(&format!("[alerts.channel.it]\n{keys}\n"));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{keys}: {found:?}");
        assert!(found.iter().all(|problem| !problem.contains("hunter2")), "{found:?}");
    }
    for (text, expected) in [
        ("[alerts]\ncritical = [\"nobody\"]", "there is no [alerts.channel.nobody]"),
        ("[alerts]\ndigest_at = \"25:00\"", "no time of day"),
        ("[alerts]\nrunbooks = \"wiki\"", "does not begin with https://"),
        ("[alerts.heartbeat]\nchannel = \"x\"", "there is no [alerts.channel.x]"),
        ("[alerts.channel.\"a b\"]\nkind = \"webhook\"\nurl = \"https://x\"", "is no name"),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|problem| problem.contains(expected)), "{text}: {found:?}");
    }
}

#[test]
fn channels_have_the_defaults_of_their_kind() {
    let places = Places { state: "/s".into(), socket: "/s/agent.sock".into() };
    let checked = AgentConfig::parse(super::host::CHANNELS, "test", &places);
    let alerts = checked.config.unwrap().alerts;
    let of = |name: &str| alerts.channels.iter().find(|it| it.name == name).unwrap();
    assert!(matches!(&of("pagerduty").kind, Kind::PagerDuty { url } if url.contains("v2/enqueue")));
    assert_eq!(of("slack-alerts").pause, Duration::from_secs(1));
    assert_eq!(of("sms").pause, Duration::ZERO);
    assert!(of("pagerduty").has_keys() && !of("pagerduty").groups());
    assert_eq!(alerts.digest_at.to_string(), "07:00:00");
    assert_eq!(alerts.policy.repeat, Duration::from_secs(4 * 3_600));
}

#[test]
fn none_overtakes_an_earlier_one_about_the_same_alert_and_what_is_urgent_goes_first() {
    use std::collections::{BTreeMap, BTreeSet};

    use genesis_storage::{Moment, OutboxRecord};

    let at = |seconds: u64| Moment {
        wall: jiff::Timestamp::UNIX_EPOCH,
        boot: "boot".into(),
        since_boot: Duration::from_secs(seconds),
    };
    let entry = |sequence: u64, alert: &str, occasion: &str| {
        let message = sequence.to_string();
        OutboxRecord::new(sequence, message, ("it", occasion), vec![alert.into()], at(0))
    };
    let waiting = |entry: OutboxRecord| OutboxRecord {
        attempts: 1,
        tried: Some(at(95)),
        wait: Duration::from_secs(60),
        ..entry
    };
    let urgent = |entry: OutboxRecord| OutboxRecord { urgent: true, ..entry };
    for (name, outbox, groups, expected) in [
        ("in order", vec![entry(1, "a", "firing"), entry(2, "b", "firing")], false, vec![1]),
        ("together", vec![entry(1, "a", "firing"), entry(2, "b", "firing")], true, vec![1, 2]),
        (
            "its end waits",
            vec![waiting(entry(1, "a", "firing")), entry(2, "a", "resolved")],
            true,
            vec![],
        ),
        (
            "others don't",
            vec![
                waiting(entry(1, "a", "firing")),
                entry(2, "a", "resolved"),
                entry(3, "b", "firing"),
            ],
            true,
            vec![3],
        ),
        (
            "urgent first",
            vec![entry(1, "a", "firing"), urgent(entry(2, "b", "firing"))],
            true,
            vec![2],
        ),
        (
            "other occasions apart",
            vec![entry(1, "a", "resolved"), entry(2, "b", "firing"), entry(3, "c", "resolved")],
            true,
            vec![1, 3],
        ),
        (
            "what was tried goes as it went",
            vec![OutboxRecord { attempts: 1, ..entry(1, "a", "firing") }, entry(2, "b", "firing")],
            true,
            vec![1],
        ),
    ] {
        let outbox: BTreeMap<u64, OutboxRecord> =
            outbox.into_iter().map(|entry| (entry.sequence, entry)).collect();
        let next = plan::next(&outbox, "it", groups, &BTreeSet::new(), &at(100));
        let next: Vec<u64> = next.into_iter().map(|entry| entry.sequence).collect();
        assert_eq!(next, expected, "{name}");
    }
}
