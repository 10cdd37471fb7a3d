//! Incidents have a life: an emergency opens one, once, whatever becomes of the agent; people note, close and export
//! them; and the reports say how the host stands.

use genesis_tests::TestAgent;
use genesis_tests::clock::{wait_for, wait_until, wait_until_within};
use genesis_tests::health::{Patient, config};
use serde_json::Value;

use genesis_tests::wall_clock::WallClock;

/// The incidents of a trigger: each its id and state.
fn of(agent: &TestAgent, trigger: &str) -> Vec<(String, String)> {
    let all = agent.incidents();
    let own = all.iter().filter(|it| it["trigger"] == trigger);
    own.map(|it| {
        let state = it["state"].as_str().unwrap().trim_start_matches("INCIDENT_STATE_");
        (it["id"].as_str().unwrap().to_owned(), state.to_owned())
    })
    .collect()
}

/// Waits until the incidents of a trigger are in these states, oldest first; their ids.
#[track_caller]
fn wait_of(agent: &TestAgent, trigger: &str, states: &[&str]) -> Vec<String> {
    wait_for(&format!("incidents {trigger} {states:?}"), || {
        let found = of(agent, trigger);
        let same = found.iter().map(|(_, state)| state.as_str()).eq(states.iter().copied());
        same.then(|| found.into_iter().map(|(id, _)| id).collect())
    })
}

fn release(agent: &TestAgent) {
    agent.ctl(&["emergency", "release", "--reason", "prices are right again"]).ok();
}

/// What happened, as "action target".
fn timeline(agent: &TestAgent, id: &str) -> Vec<String> {
    let shown = agent.ctl(&["incident", "show", id, "-o", "json"]).ok().response();
    let events = shown["timeline"]["events"].as_array().unwrap();
    events
        .iter()
        .map(|it| format!("{} {}", it["action"].as_str().unwrap(), it["target"].as_str().unwrap()))
        .collect()
}

fn close<'a>(id: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["incident", "close", id], more].concat()
}

const WHOLE: [&str; 6] =
    ["--resolution", "the feed was changed", "--lesson", "watch the feed", "--runbook", "health"];

#[test]
fn an_emergency_opens_one_incident_whatever_becomes_of_the_agent() {
    let mut agent = TestAgent::new(|_| String::new());
    // Killed before the record is written: the file alone brings it back.
    agent.start_with_failpoint("emergency.filed", 1);
    agent.wait_ready();
    agent.ctl(&["emergency", "activate", "--reason", "prices are wrong"]);
    agent.wait_killed();
    agent.start();
    let [id] = wait_of(&agent, "EMERGENCY", &["OPEN"]).try_into().unwrap();
    for _ in 0..2 {
        agent.kill();
        agent.start();
        agent.ctl(&["emergency", "activate", "--reason", "again"]).ok();
        assert_eq!(of(&agent, "EMERGENCY"), [(id.clone(), "OPEN".to_owned())]);
    }
    agent.restart();
    agent.ctl(&["incident", "show", &id]).ok().says(&["prices are wrong", "on call:"]);
    agent
        .ctl(&close(&id, &WHOLE))
        .exits(4)
        .says(&["INCIDENT_OPEN", "until the emergency is released"]);
    release(&agent);
    wait_of(&agent, "EMERGENCY", &["OVER"]);
    agent.kill();
    agent.start();
    assert_eq!(of(&agent, "EMERGENCY").len(), 1, "it is not opened anew");
    // By a file that somebody made.
    std::fs::write(agent.state().join("EMERGENCY"), "by hand").unwrap();
    let [_, second] = wait_of(&agent, "EMERGENCY", &["OVER", "OPEN"]).try_into().unwrap();
    agent.ctl(&["incident", "show", &second]).ok().says(&["flag file"]);
    release(&agent);
    wait_of(&agent, "EMERGENCY", &["OVER", "OVER"]);
}

#[test]
fn an_incident_is_noted_closed_once_and_exported() {
    let agent = TestAgent::started(|_| "[contacts]\non_call = \"the night desk\"\n".to_owned());
    agent.ctl(&["emergency", "activate", "--reason", "prices are wrong"]).ok();
    let [id] = wait_of(&agent, "EMERGENCY", &["OPEN"]).try_into().unwrap();
    // At a glance all that go on are shown, whoever opened them.
    let dashboard = agent.ctl(&["health", "dashboard"]).text();
    assert!(dashboard.contains(&id) && dashboard.contains("EMERGENCY"), "{dashboard}");
    agent.ctl(&["incident", "note", "last", "restarted the | feed <by> hand"]).ok();
    agent.ctl(&["incident", "note", "last", " "]).exits(2).says(&["NOTE_INVALID"]);
    agent.ctl(&["incident", "note", "ZZZZ", "x"]).exits(1).says(&["INCIDENT_NOT_FOUND"]);
    release(&agent);
    wait_of(&agent, "EMERGENCY", &["OVER"]);
    let status = agent.ctl(&["emergency", "status", "-o", "json"]).ok().response();
    let emergency = format!("emergency {}", status["emergency"]["epoch"].as_str().unwrap());
    agent.ctl(&["incident", "list"]).ok().says(&["OVER", &emergency]);

    // Without a terminal it says what it lacks.
    agent.ctl(&close(&id, &["--resolution", "x"])).exits(2).says(&["--lesson", "--runbook"]);
    let misspelt = close(&id, &["--resolution", "x", "--no-lesson", "--runbook", "helth"]);
    agent.ctl(&misspelt).exits(2).says(&["RUNBOOK_UNKNOWN", "did you mean health"]);
    let plan = agent.ctl(&close(&id, &[&WHOLE[..], &["--plan", "-o", "json"]].concat())).ok();
    let hash = plan.response()["plan"]["hash"].as_str().unwrap().to_owned();
    let other = close(&id, &["--resolution", "y", "--no-lesson", "--no-runbook-change"]);
    agent.ctl(&[&other[..], &["--plan-hash", &hash]].concat()).exits(9).says(&["PLAN_CHANGED"]);
    assert_eq!(of(&agent, "EMERGENCY")[0].1, "OVER", "planning and refusing change nothing");
    let held = close(&id, &[&WHOLE[..], &["--plan-hash", &hash]].concat()).into_iter();
    agent.ctl(&held.collect::<Vec<_>>()).ok().says(&["docs/runbook/health.md"]);
    agent.ctl(&close(&id, &WHOLE)).exits(9).says(&["INCIDENT_CLOSED", "unix:uid="]);

    let happened = timeline(&agent, &id);
    for wanted in [
        format!("emergency.activated {emergency}"),
        format!("incident.opened {id}"),
        format!("incident.noted {id}"),
        format!("emergency.released {emergency}"),
        format!("incident.over {id}"),
        format!("incident.closed {id}"),
    ] {
        assert!(happened.contains(&wanted), "{wanted}: {happened:#?}");
    }
    let order = |action: &str| happened.iter().position(|it| it.starts_with(action)).unwrap();
    assert!(order("emergency.activated") < order("incident.noted"), "{happened:#?}");
    assert!(order("incident.noted") < order("incident.closed"), "{happened:#?}");
    agent.ctl(&["incident", "show", &id]).ok().says(&[
        "CLOSED",
        "lesson: watch the feed",
        "on call: the night desk",
        "restarted the | feed <by> hand",
    ]);

    let file = agent.folder().join("post-mortem.md");
    agent.ctl(&["incident", "export", &id, "--out", file.to_str().unwrap()]).ok();
    let page = std::fs::read_to_string(&file).unwrap();
    let printed = agent.ctl(&["incident", "export", &id, "--out", "-"]).ok();
    assert!(printed.text().contains("restarted the \\| feed"), "{}", printed.text());
    assert!(page.contains("restarted the \\| feed \\<by\\> hand"), "{page}");
    for wanted in ["the night desk", "watch the feed", "the feed was changed", "## What happened"] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 6, "{page}");
    for row in rows {
        assert_eq!(row.replace("\\|", "").matches('|').count(), 7, "{row}");
    }
    let metrics = genesis_tests::http::get(agent.http(), "/metrics").1;
    assert!(metrics.contains("genesis_recovery_incidents{state=\"closed\"} 1"), "{metrics}");
}

#[test]
fn what_a_person_opens_is_over_when_it_is_closed_also_after_a_crash() {
    let mut agent = TestAgent::new(|_| String::new());
    agent.start();
    let title = "the | switch\n# <b>";
    agent.ctl(&["incident", "open", "--title", title, "--severity", "low"]).ok();
    agent.ctl(&["incident", "open", "--title", " "]).exits(2).says(&["TITLE_INVALID"]);
    agent.kill();
    agent.start();
    let [id] = wait_of(&agent, "BY_HAND", &["OPEN"]).try_into().unwrap();
    let page = String::from_utf8(agent.ctl(&["incident", "export", "last"]).ok().stdout).unwrap();
    assert!(page.starts_with(&format!("# Incident {id}: the \\| switch")), "{page}");
    assert!(!page.contains("<b>") || page.contains("\\<b\\>"), "{page}");
    agent.ctl(&close(&id, &["--resolution", "done", "--no-lesson", "--no-runbook-change"])).ok();
    assert_eq!(of(&agent, "BY_HAND"), [(id, "CLOSED".to_owned())]);
}

#[test]
fn an_escalation_is_closed_when_its_condition_is_over() {
    let mut agent = TestAgent::new(|_| String::new());
    let db = Patient::new(agent.folder(), "db");
    agent.configure(&config("", [&db.check().set("action", db.treatment("exit 1"))]));
    agent.start();
    db.is(1);
    let [id] = wait_of(&agent, "ATTEMPTS_FAILED", &["OPEN"]).try_into().unwrap();
    agent.ctl(&close(&id, &WHOLE)).exits(4).says(&["INCIDENT_OPEN"]);
    let happened = timeline(&agent, &id);
    let attempts = happened.iter().filter(|it| it.starts_with("health.attempt.intent db#1"));
    assert_eq!(attempts.count(), 3, "{happened:#?}");
    assert!(happened.iter().any(|it| it.starts_with("health.escalated")), "{happened:#?}");
    // Its end is health's: what health remembers must not undo what people wrote.
    db.is(0);
    wait_of(&agent, "ATTEMPTS_FAILED", &["OVER"]);
    agent.ctl(&close(&id, &WHOLE)).ok();
    agent.restart();
    assert_eq!(of(&agent, "ATTEMPTS_FAILED"), [(id, "CLOSED".to_owned())]);

    // The monthly review has it.
    let review = agent.ctl(&["report", "remediation", "-o", "json"]).exits(3).response();
    assert_eq!(review["objective"]["state"], "TRUTH_FAIL", "{review:#}");
    let pattern = &review["patterns"][0];
    assert_eq!(
        (&pattern["check"], &pattern["failed"], &pattern["escalated"]),
        (&"db".into(), &"3".into(), &"1".into()),
        "{review:#}"
    );
    let findings = review["findings"].to_string();
    assert!(findings.contains("never helped, 3 time(s) in vain"), "{findings}");
    assert_eq!(review["incidents"][0]["name"], "ATTEMPTS_FAILED", "{review:#}");
}

fn objective<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["objectives"].as_array().unwrap();
    all.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

#[test]
fn the_report_counts_what_was_run_and_takes_nothing_for_good() {
    let mut agent = TestAgent::new(|_| String::new());
    let db = Patient::new(agent.folder(), "db");
    agent.configure(&config("", [&db.check().set("action", db.treatment("exit 1"))]));
    agent.start();
    let report = |exit| agent.ctl(&["report", "operations", "-o", "json"]).exits(exit).response();
    agent.ctl(&["schedule", "run", "storage.compact"]).ok();
    wait_until("the run to be counted", || {
        let report = agent.ctl(&["report", "operations", "-o", "json"]).response();
        objective(&report, "operations")["denominator"] != "0"
    });
    let first = report(5);
    assert_eq!(objective(&first, "operations")["state"], "TRUTH_PASS", "{first:#}");
    // Nothing was updated, nothing mended, and there is no certificate.
    for name in ["remediations", "updates", "certificates"] {
        assert_eq!(objective(&first, name)["state"], "TRUTH_UNKNOWN", "{first:#}");
    }
    assert_eq!(first["period"]["dataMissing"], true, "the host is younger than a month");
    // What somebody asks for and fails is an operation that failed.
    let mend = ["health", "run", "mend", "--check", "db", "--reason", "to be seen", "--yes"];
    agent.ctl(&mend).exits(1);
    let second = report(5);
    let operations = objective(&second, "operations");
    assert_eq!(operations["state"], "TRUTH_FAIL", "{second:#}");
    assert!(operations["offenders"].to_string().contains("health.mend"), "{second:#}");
    agent.ctl(&["report", "operations"]).exits(5).says(&["FAIL", "UNKNOWN", "reaches back to"]);
    agent.ctl(&["report", "operations", "--month", "2026-13"]).exits(2).says(&["MONTH_INVALID"]);
    agent.ctl(&["report", "operations", "--month", "2999-01"]).exits(2).says(&["has not begun"]);
    let before = agent.ctl(&["report", "operations", "--month", "2024-02", "-o", "json"]).exits(5);
    let before = before.response();
    assert_eq!(objective(&before, "operations")["state"], "TRUTH_UNKNOWN", "{before:#}");
    assert_eq!(before["period"]["until"], "2024-03-01T00:00:00Z");
    let file = agent.folder().join("report.md");
    let write = ["report", "operations", "--format", "markdown", "--out", file.to_str().unwrap()];
    agent.ctl(&write).exits(5);
    assert!(std::fs::read_to_string(file).unwrap().contains("## The worst"));
}

#[test]
fn what_nobody_has_documented_for_a_week_is_told_until_somebody_does() {
    let mut agent = TestAgent::new(|_| String::new());
    let clock = WallClock::of(&mut agent);
    agent.start();
    agent.ctl(&["emergency", "activate", "--reason", "prices are wrong"]).ok();
    let [id] = wait_of(&agent, "EMERGENCY", &["OPEN"]).try_into().unwrap();
    release(&agent);
    wait_of(&agent, "EMERGENCY", &["OVER"]);
    let told = || {
        let shown = agent.ctl(&["alerts", "list", "-o", "json"]).ok().response();
        let all = shown["firing"].as_array().unwrap().clone();
        all.into_iter().find(|it| it["subject"] == "incidents")
    };
    let hour = jiff::SignedDuration::from_hours(1);
    clock.ahead(hour * (7 * 24 - 1));
    // Another alert of this moment shows that the conditions were looked at with the clock as it is.
    agent.ctl(&["emergency", "activate", "--reason", "again"]).ok();
    wait_for("the next emergency is told", || {
        agent.ctl(&["alerts", "list"]).text().contains("again").then_some(())
    });
    assert_eq!(told(), None, "not within the week");
    clock.ahead(hour * (7 * 24 + 1));
    let alert = wait_for("it is told", told);
    assert_eq!(alert["severity"], "SEVERITY_LOW", "{alert}");
    assert!(alert["title"].as_str().unwrap().contains("over for a week"), "{alert}");
    assert!(alert.to_string().contains(&id), "{alert}");
    agent.ctl(&close(&id, &WHOLE)).ok();
    wait_until_within(std::time::Duration::from_secs(90), "nobody is told any more", || {
        told().is_none()
    });
}
