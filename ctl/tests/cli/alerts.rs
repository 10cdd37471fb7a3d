//! `alerts`.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Alerts, Fake, Script};
use crate::{at, ctl, folder};

fn alert() -> Alert {
    Alert {
        id: "01M8AAAA".into(),
        state: AlertState::Firing.into(),
        severity: Severity::Critical.into(),
        source: "health".into(),
        subject: "orders-db".into(),
        title: "orders-db: no answer".into(),
        details: vec!["its action was tried 3 time(s)".into()],
        runbook: "service-down".into(),
        since: at(0),
        told: vec!["pagerduty".into()],
        telling: vec!["sms".into()],
        flapping: true,
        ..Default::default()
    }
}

fn fake() -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let delivery = Delivery {
        at: at(5),
        channel: "sms".into(),
        occasion: "firing".into(),
        outcome: DeliveryOutcome::Refused.into(),
        attempts: 1,
        alerts: vec!["01M8AAAA".into()],
        detail: "401: mend its secret".into(),
        ..Default::default()
    };
    let silence = Silence {
        id: "01M8SSSS".into(),
        subject: "disk:*".into(),
        severity: Severity::High.into(),
        by: "olga".into(),
        reason: "new disk".into(),
        until: at(3_600),
        ..Default::default()
    };
    let channel = AlertChannel {
        name: "sms".into(),
        kind: "sms".into(),
        trouble: "401".into(),
        trouble_since: at(5),
        ..Default::default()
    };
    let alerts = Alerts {
        status: GetAlertsStatusResponse {
            firing: vec![alert()],
            channels: vec![channel],
            silences: vec![silence.clone()],
            unheard: vec![Severity::Low.into()],
            waiting: 2,
            ..Default::default()
        },
        alert: alert(),
        silence,
        deliveries: vec![delivery],
    };
    let fake = Fake::start(folder.path(), Script { alerts, ..Default::default() });
    (folder, fake)
}

#[test]
fn what_fires_is_listed_with_what_is_wrong_with_the_telling() {
    let (_folder, fake) = fake();
    let list = ctl(&["alerts", "list", "-n", &fake.node()]);
    assert_eq!(list.exit, Exit::Ok, "{}", list.stderr);
    for shown in [
        "01M8AAAA",
        "CRITICAL",
        "FIRING, flapping",
        "orders-db: no answer",
        "pagerduty",
        "channel sms (sms) is in trouble since",
        "nobody would hear of what is LOW",
        "silence 01M8SSSS",
        "2 messages to be sent",
    ] {
        assert!(list.out().contains(shown), "{shown} in {}", list.out());
    }
    let shown = ctl(&["alerts", "show", "last", "-n", &fake.node()]);
    for part in [
        "its action was tried 3 time(s)",
        "genesisctl runbook show service-down",
        "REFUSED",
        "mend its secret",
        "trying: sms",
    ] {
        assert!(shown.out().contains(part), "{part} in {}", shown.out());
    }
    let history = ctl(&["alerts", "history", "-n", &fake.node()]);
    assert!(history.out().contains("401: mend its secret"), "{}", history.out());
    let all = ctl(&["alerts", "list", "--resolved", "-n", &fake.node()]);
    assert!(all.out().contains("01M8AAAA") && !all.out().contains("in trouble"));
}

#[test]
fn what_people_say_is_sent_as_they_say_it() {
    let (_folder, fake) = fake();
    let node = fake.node();
    let silence = ["alerts", "silence", "--subject", "disk:*", "--for", "1h", "-n", &node];
    let unreasoned = ctl(&silence);
    assert_eq!(unreasoned.exit, Exit::Usage, "{}", unreasoned.stderr);
    let silenced = ctl(&[&silence[..], &["--reason", "new disk"]].concat());
    assert_eq!(silenced.exit, Exit::Ok, "{}", silenced.stderr);
    assert!(silenced.out().contains("until"), "{}", silenced.out());
    let tested = ctl(&["alerts", "test", "sms", "-n", &node]);
    assert!(tested.out().contains("sms accepted the test: 202"), "{}", tested.out());
    let acked = ctl(&["alerts", "ack", "last", "--for", "2h", "-n", &node]);
    assert!(acked.out().contains("takes care of alert 01M8AAAA"), "{}", acked.out());
    let calls = fake.calls();
    assert_eq!(
        calls,
        [
            "SilenceAlerts disk:* SEVERITY_HIGH 1h because new disk",
            "TestChannel sms",
            "AckAlert last 2h"
        ]
    );
}
