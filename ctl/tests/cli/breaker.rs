//! `breaker`.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Fake, Script};
use crate::{at, ctl, folder, squeezed};

fn agent() -> (tempfile::TempDir, Fake) {
    let known = BreakerSignal {
        known: true,
        usual_share: 0.0512,
        phi: 1.3,
        sum: 2.25,
        limit: 6.5,
        ..Default::default()
    };
    let unknown = BreakerSignal { learned: 12, needed: 60, limit: 6.5, ..Default::default() };
    let open = Breaker {
        name: "orders-api".into(),
        state: BreakerState::Open.into(),
        since: at(60),
        until: at(90),
        by: "system:breaker".into(),
        reason: "40 of the last 50 calls failed".into(),
        opening: 2,
        failures: 1,
        slow_after: Some(prost_types::Duration { seconds: 0, nanos: 250_000_000 }),
        latency: Some(known),
        errors: Some(unknown),
        reported_at: at(61),
        calls: 1_234,
        failed_calls: 40,
        slow_calls: 7,
        ..Default::default()
    };
    let closed = Breaker {
        name: "\u{1b}[2Jprices".into(),
        state: BreakerState::Closed.into(),
        since: at(0),
        ..Default::default()
    };
    let half_open = Breaker {
        name: "venue-x".into(),
        state: BreakerState::HalfOpen.into(),
        round_size: 4,
        round_passed: 3,
        ..open.clone()
    };
    let folder = folder();
    let breakers = vec![open, closed, half_open];
    let fake = Fake::start(folder.path(), Script { breakers, ..Default::default() });
    (folder, fake)
}

#[test]
fn breakers_are_listed_and_those_that_are_not_closed_are_findings() {
    let (_folder, fake) = agent();
    let node = fake.node();
    let list = ctl(&["breaker", "list", "-n", &node]);
    assert_eq!(list.exit, Exit::Findings, "{}", list.stderr);
    let lines = squeezed(list.out());
    assert_eq!(lines[0], "BREAKER STATE SINCE UNTIL CALLS FAILED SLOW BY REASON");
    assert_eq!(
        lines[1],
        "orders-api OPEN 1970-01-01T00:01:00Z 1970-01-01T00:01:30Z 1,234 40 7 system:breaker 40 of the last 50 calls \
         failed"
    );
    assert!(!list.out().contains('\u{1b}') && lines[2].contains("prices CLOSED"), "{lines:?}");
    assert!(lines[3].contains("HALF_OPEN") && lines[3].contains("probe 3 of 4"), "{lines:?}");
    let open = ctl(&["breaker", "list", "--open", "-o", "json", "-n", &node]).json();
    assert_eq!(open[0]["response"]["breakers"].as_array().unwrap().len(), 2);
    assert_eq!(fake.calls(), ["ListBreakers false", "ListBreakers true"]);
}

#[test]
fn one_breaker_is_shown_with_what_it_knows() {
    let (_folder, fake) = agent();
    let node = fake.node();
    let shown = ctl(&["breaker", "show", "orders-api", "-n", &node]);
    assert_eq!(shown.exit, Exit::Findings, "{}", shown.stderr);
    let lines = squeezed(shown.out());
    let wanted = [
        "orders-api OPEN since 1970-01-01T00:01:00Z until 1970-01-01T00:01:30Z, by system:breaker: 40 of the last 50 \
         calls failed",
        "did not come back 1 time",
        "slow: over 250ms",
        "latest window: 1,234 calls, 40 failed, 7 slow; last report 1970-01-01T00:01:01Z",
        "SIGNAL USUAL PHI CUSUM LIMIT LEARNED",
        "latency 5.120 % 1.30 2.2 6.5 yes",
        "errors unknown unknown 0.0 6.5 12 of 60",
        "`genesisctl runbook show api-degradation`",
    ];
    for line in wanted {
        assert!(lines.iter().any(|found| found == line), "lacks {line:?}: {lines:#?}");
    }
    let absent = ctl(&["breaker", "show", "x", "-n", &node]);
    assert_eq!(absent.exit, Exit::Failed);
    assert!(absent.stderr.contains("error[BREAKER_NOT_FOUND]"), "{}", absent.stderr);
}

#[test]
fn a_watch_prints_each_breaker_that_it_hears_of() {
    let (_folder, fake) = agent();
    let node = fake.node();
    let watch = ctl(&["breaker", "watch", "orders-api", "venue-x", "-n", &node]);
    let lines = squeezed(watch.out());
    assert!(lines[0].starts_with("orders-api OPEN since"), "{lines:?}");
    assert!(lines[2].starts_with("venue-x HALF_OPEN") && lines[2].contains(", probe 3 of 4"));
    assert_eq!(fake.calls(), ["WatchBreakers orders-api venue-x"]);
    let watch = ctl(&["breaker", "watch", "-o", "jsonl", "-n", &node]);
    assert_eq!(watch.out().matches("\"name\":\"orders-api\"").count(), 1, "{}", watch.out());
    let watch = ctl(&["breaker", "watch", "-o", "json", "-n", &node]);
    assert_eq!(watch.exit, Exit::Usage);
}

#[test]
fn opening_and_closing_need_a_reason() {
    let (_folder, fake) = agent();
    let node = fake.node();
    for verb in ["trip", "reset"] {
        let outcome = ctl(&["breaker", verb, "orders-api", "-n", &node]);
        assert_eq!(outcome.exit, Exit::Usage);
        assert!(outcome.stderr.contains("--reason"), "{}", outcome.stderr);
    }
    assert!(fake.calls().is_empty());
    let trip = ["breaker", "trip", "orders-api", "--for", "10m", "--reason", "moving", "-n", &node];
    let outcome = ctl(&trip);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.out().starts_with("orders-api OPEN since"), "{}", outcome.out());
    let outcome = ctl(&["breaker", "reset", "orders-api", "--reason", "moved", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        fake.calls(),
        ["TripBreaker orders-api 10m because moving", "ResetBreaker orders-api because moved"]
    );
}
