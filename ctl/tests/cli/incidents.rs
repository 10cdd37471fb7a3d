//! `incident` and `runbook`.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::Health;
use crate::health::agent;
use crate::{at, ctl, ctl_with, squeezed};

fn incidents() -> Health {
    let open = Incident {
        id: "01J8ZV00000000000000000000".into(),
        state: IncidentState::Open.into(),
        opened_at: at(60),
        trigger: "ATTEMPTS_FAILED".into(),
        title: "disk:/ stays low".into(),
        details: vec!["7 % free".into(), "attempt 3: make-room did not help".into()],
        issues: vec!["disk:/#3".into()],
        severity: "HIGH".into(),
        opened_by: "agent".into(),
        runbook: "disk-space".into(),
        ..Default::default()
    };
    let over = Incident {
        id: "01J7AA00000000000000000000".into(),
        state: IncidentState::Over.into(),
        opened_at: at(0),
        over_at: at(3600),
        trigger: "FLAGGED".into(),
        opened_by: "olga".into(),
        reason: "looks odd".into(),
        resolution: "cleared".into(),
        details: vec![],
        issues: vec![],
        runbook: String::new(),
        ..open.clone()
    };
    Health { incidents: vec![open, over], ..Default::default() }
}

#[test]
fn incidents_are_listed_newest_first() {
    let (_folder, fake) = agent(incidents());
    let node = fake.node();
    let outcome = ctl(&["incident", "list", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let expected = [
        "INCIDENT STATE SEVERITY TRIGGER OPENED LASTED ISSUES TITLE",
        "01J8ZV00000000000000000000 OPEN HIGH ATTEMPTS_FAILED 1970-01-01T00:01:00Z - disk:/#3 disk:/ stays low",
        "01J7AA00000000000000000000 OVER HIGH FLAGGED 1970-01-01T00:00:00Z 1h - disk:/ stays low",
    ];
    assert_eq!(squeezed(outcome.out()), expected);
    let open = ctl(&["incident", "list", "--open", "--limit", "7", "-n", &node]);
    assert_eq!(squeezed(open.out()), expected[..2]);
    assert_eq!(fake.calls(), ["ListIncidents false 50", "ListIncidents true 7"]);
    let json = ctl(&["incident", "list", "-o", "json", "-n", &node]).json();
    assert_eq!(json[0]["response"]["incidents"][0]["state"], "INCIDENT_STATE_OPEN");

    let (_folder, fake) = agent(Health::default());
    let outcome = ctl(&["incident", "list", "--open", "-n", &fake.node()]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Ok, ""));
    assert_eq!(outcome.stderr, "no incident is open\n");
}

#[test]
fn one_incident_is_shown_with_where_to_look() {
    let (_folder, fake) = agent(incidents());
    let node = fake.node();
    let outcome = ctl(&["incident", "show", "last", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "incident 01J8ZV00000000000000000000 OPEN: disk:/ stays low\n\
         severity HIGH, trigger ATTEMPTS_FAILED, opened 1970-01-01T00:01:00Z by agent\n\
         \n\
         When it was opened\n\
         7 % free\n\
         attempt 3: make-room did not help\n\
         \n\
         Where to look\n\
         `genesisctl health explain 'disk:/#3'`\n\
         `genesisctl runbook show disk-space`\n"
    );
    let outcome = ctl(&["incident", "show", "01J7", "-n", &node]);
    assert_eq!(
        outcome.out(),
        "incident 01J7AA00000000000000000000 OVER: disk:/ stays low\n\
         severity HIGH, trigger FLAGGED, opened 1970-01-01T00:00:00Z by olga: looks odd\n\
         over 1970-01-01T01:00:00Z, after 1h: cleared\n"
    );
    let json = ctl(&["incident", "show", "01J7", "-o", "json", "-n", &node]).json();
    assert_eq!(json[0]["response"]["incident"]["resolution"], "cleared");
    let outcome = ctl(&["incident", "show", "beef", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert_eq!(
        outcome.stderr,
        "error[INCIDENT_NOT_FOUND]: no such incident: list the incidents with `genesisctl incident list`\n"
    );
}

// The runbook.

#[test]
fn the_runbook_needs_no_agent() {
    // Nothing is looked for that might be missing or damaged.
    let offline = |arguments: &[&str]| {
        ctl_with(arguments, |console| {
            console.env.insert("GENESISCTL_CONTEXT".into(), "absent".into());
            console.env.insert("GENESISCTL_NODES".into(), "no node".into());
        })
    };
    let list = offline(&["runbook", "list"]);
    assert_eq!((list.exit, list.stderr.as_str()), (Exit::Ok, ""));
    let lines = squeezed(list.out());
    assert_eq!(lines[0], "PAGE TITLE");
    let pages = genesis_proto::runbook::PAGES;
    assert_eq!(lines.len(), pages.len() + 1);
    for page in pages {
        assert!(lines.contains(&format!("{} {}", page.name, page.title())), "{lines:?}");
        let shown = offline(&["runbook", "show", page.name]);
        assert_eq!(shown.exit, Exit::Ok);
        assert_eq!(shown.out().trim_end(), page.text.trim_end(), "{}", page.name);
        let json = offline(&["runbook", "show", page.name, "-o", "json"]).json();
        assert_eq!(json[0]["response"]["text"], page.text);
    }
    let json = offline(&["runbook", "list", "-o", "json"]).json();
    assert_eq!(json[0]["response"]["pages"][0]["name"], pages[0].name);
}

#[test]
fn an_unknown_page_is_wrong_usage_with_the_nearest_ones() {
    let outcome = ctl(&["runbook", "show", "dsik-space"]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Usage, ""));
    assert!(
        outcome.stderr.contains("no page \"dsik-space\": did you mean `disk-space`"),
        "{}",
        outcome.stderr
    );
    for page in genesis_proto::runbook::PAGES {
        assert!(outcome.stderr.contains(page.name), "{}", outcome.stderr);
    }
    // A word of a name is enough.
    let outcome = ctl(&["runbook", "show", "disc"]);
    assert!(outcome.stderr.contains("did you mean `disk-space`"), "{}", outcome.stderr);
    let outcome = ctl(&["runbook", "show", "\u{1b}[2J"]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(!outcome.stderr.contains("did you mean") && !outcome.stderr.contains('\u{1b}'));
}
