//! Channels that fail: nothing is lost, nothing is repeated that was refused, and somebody else hears of it.

use std::time::Duration;

use genesis_tests::alerts::{channel, host, secret};
use genesis_tests::clock::wait_until;
use genesis_tests::http_script::{Answer, Heard, HttpScript, says};
use genesis_tests::{Signal, TestAgent};

fn webhook(name: &str, server: &HttpScript) -> String {
    channel(name, "webhook", &format!("url = {:?}", server.url("/")))
}

/// What was heard of the patient, and not of the channels themselves.
fn of_db(server: &HttpScript) -> Vec<Heard> {
    server.heard().into_iter().filter(|it| it.json()["alerts"][0]["subject"] == "db").collect()
}

fn told(agent: &TestAgent, channel: &str) -> bool {
    let list = |alert: serde_json::Value| alert["told"].as_array().cloned().unwrap_or_default();
    agent.firing("db").is_some_and(|alert| list(alert).contains(&channel.into()))
}

#[test]
fn whatever_fails_for_a_while_is_tried_again_under_the_same_key() {
    let faults = [says(500, "oops"), Answer::Hangs, Answer::Resets, Answer::TakesAndResets];
    let server = HttpScript::start(faults, says(202, "{}"));
    let (mut agent, db) = host("critical", |folder| {
        let key = secret(folder, "pd", "key");
        let lines = format!("url = {:?}\nsecret_file = {key:?}", server.url("/"));
        let lines = channel("pd", "pagerduty", &lines).replace("\"2s\"", "\"300ms\"");
        format!("critical = [\"pd\"]\n{lines}")
    });
    agent.start();
    db.is(1);
    server.wait_heard(1);
    wait_until("the trouble to be shown", || agent.trouble("pd").contains("500"));
    let heard = server.wait_heard(4);
    wait_until("the word of it", || told(&agent, "pd") && agent.trouble("pd").is_empty());
    assert_eq!(server.resets(), 1);
    let keys: Vec<_> = heard.iter().map(|it| it.json()["dedup_key"].clone()).collect();
    assert!(keys.iter().all(|key| *key == keys[0] && key.is_string()), "{keys:?}");
    // What is known of it may have grown meanwhile; it is the same word all the same.
    let summary = |it: &Heard| it.json()["payload"]["summary"].clone();
    assert!(heard.iter().all(|it| summary(it) == summary(&heard[0])), "{heard:#?}");
    agent.wait_nothing_waits();
    assert_eq!(server.heard().len(), 4, "and not once more");
    let log = agent.stderr();
    assert_eq!(log.matches("an alert channel does not take").count(), 1, "said once: {log}");
}

#[test]
fn who_asks_to_be_left_alone_is_left_alone_by_every_message() {
    let later = Answer::Says(429, vec![("retry-after", "5".to_owned())], "slowly".to_owned());
    let server = HttpScript::start([later], says(200, ""));
    let (mut agent, db) =
        host("critical", |_| format!("critical = [\"hook\"]\n{}", webhook("hook", &server)));
    agent.start();
    db.is(1);
    server.wait_heard(1);
    // Something else is wrong meanwhile, which is for the same channel.
    agent.ctl(&["emergency", "activate", "--yes", "--reason", "a test"]).ok();
    let heard = server.wait_heard(3);
    let pause = heard[1].at - heard[0].at;
    assert!(pause >= Duration::from_millis(4_900), "after {pause:?}: {heard:#?}");
    let message = |heard: &Heard| heard.json()["message"].clone();
    assert!(heard[1..].iter().any(|it| message(it) == message(&heard[0])), "{heard:#?}");
    agent.wait_nothing_waits();
}

#[test]
fn a_slow_refusal_does_not_count_as_the_pause_before_the_next_attempt() {
    // Both attempts are cut off after 3 s; the pause of 2 s begins then.
    let server = HttpScript::start([Answer::Hangs], says(200, ""));
    let (mut agent, db) = host("critical", |_| {
        let hook = webhook("hook", &server).replace("\"2s\"", "\"3s\"");
        format!("critical = [\"hook\"]\n{hook}")
    });
    agent.start();
    db.is(1);
    let heard = server.wait_heard(2);
    let between = heard[1].at - heard[0].at;
    assert!(between >= Duration::from_millis(4_900), "{between:?}");
}

#[test]
fn what_is_refused_is_given_to_the_next_channel_which_says_so() {
    let refusing = HttpScript::start([], says(400, "no such routing key"));
    let next = HttpScript::start([], says(200, ""));
    let (mut agent, db) = host("critical", |_| {
        let channels = webhook("first", &refusing) + &webhook("next", &next);
        format!("critical = [\"first\"]\nhigh = [\"next\"]\n{channels}")
    });
    agent.start();
    db.is(1);
    wait_until("both alerts", || {
        let subjects = next.heard().into_iter().map(|it| it.json()["alerts"][0]["subject"].clone());
        let subjects: Vec<_> = subjects.collect();
        subjects.contains(&"db".into()) && subjects.contains(&"first".into())
    });
    let page = of_db(&next)[0].json();
    assert_eq!(page["alerts"][0]["severity"], "critical", "{page:#}");
    let note = page["note"].as_str().unwrap_or_default();
    assert!(note.contains("for first, which refuses it: 400"), "{page:#}");
    wait_until("the trouble to be shown", || {
        agent.trouble("first").contains("no such routing key")
    });
    let about = agent.firing("first").unwrap();
    assert_eq!((&about["source"], &about["severity"]), (&"alerts".into(), &"SEVERITY_HIGH".into()));
    agent.wait_nothing_waits();
    db.wait_for_looks(15);
    assert_eq!(refusing.heard().len(), 1, "what was refused is not tried again");
    // Who refused to hear of it does not hear that it is over; who heard of it does.
    db.is(0);
    wait_until("it is over", || agent.firing("db").is_none());
    agent.wait_nothing_waits();
    let occasions: Vec<_> = of_db(&next).iter().map(|it| it.json()["occasion"].clone()).collect();
    assert_eq!(occasions, ["firing", "resolved"]);
    assert_eq!(refusing.heard().len(), 1);
}

#[test]
fn after_a_restart_a_channel_that_was_mended_meanwhile_hears_what_it_has_missed() {
    let server = HttpScript::start([], says(401, "who are you"));
    let (mut agent, db) =
        host("critical", |_| format!("critical = [\"hook\"]\n{}", webhook("hook", &server)));
    agent.start();
    db.is(1);
    wait_until("the refusal", || agent.trouble("hook").contains("401"));
    agent.terminate();
    server.always(says(200, ""));
    agent.start();
    wait_until("the word of it", || told(&agent, "hook"));
    wait_until("no trouble", || agent.trouble("hook").is_empty());
}

#[test]
fn a_dead_channel_that_is_configured_no_more_is_no_trouble_any_more() {
    let dead = HttpScript::start([], says(503, "gone"));
    let other = HttpScript::start([], says(200, ""));
    let alerts = |with: bool| {
        let first = if with { webhook("dead", &dead) } else { String::new() };
        let route = if with { "[\"dead\"]" } else { "[\"other\"]" };
        format!("critical = {route}\n{first}{}", webhook("other", &other))
    };
    for by_restart in [false, true] {
        let (mut agent, db) = host("critical", |_| alerts(true));
        agent.start();
        db.is(1);
        wait_until("the trouble", || agent.trouble("dead").contains("503"));
        let without = std::fs::read_to_string(agent.config()).unwrap();
        let without = without.replace(&alerts(true), &alerts(false));
        std::fs::write(agent.config(), without).unwrap();
        let before = other.heard().len();
        if by_restart {
            agent.restart();
        } else {
            agent.signal(Signal::HUP);
        }
        // Whom the message was for is gone, so that it is for whoever is there now.
        wait_until("the other to be told", || {
            other.heard().len() > before && told(&agent, "other")
        });
        agent.wait_nothing_waits();
        let (_, metrics) = genesis_tests::http::get(agent.http(), "/metrics");
        assert!(!metrics.contains("channel=\"dead\"} 1"), "{metrics}");
    }
}

#[test]
fn one_that_hangs_keeps_no_other_waiting() {
    let hangs = HttpScript::start([], Answer::Hangs);
    let works = HttpScript::start([], says(200, ""));
    let (mut agent, db) = host("critical", |_| {
        let channels = webhook("hangs", &hangs).replace("\"2s\"", "\"60s\"");
        format!("critical = [\"hangs\", \"works\"]\n{channels}{}", webhook("works", &works))
    });
    agent.start();
    db.is(1);
    hangs.wait_heard(1);
    wait_until("the other to be told", || told(&agent, "works"));
    assert!(!told(&agent, "hangs"));
    // Nor does it keep the agent from its end.
    let (ended, took) = agent.terminate();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}
