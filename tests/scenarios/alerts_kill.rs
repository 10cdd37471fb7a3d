//! `kill -9` around the sending of a message: it is sent all the same, and again only where nobody could know.

use genesis_tests::TestAgent;
use genesis_tests::alerts::{channel, host, secret};
use genesis_tests::clock::wait_until;
use genesis_tests::health::Patient;
use genesis_tests::http_script::{Heard, HttpScript, says};
use genesis_tests::smtp::Smtp;

fn pager(server: &HttpScript) -> (TestAgent, Patient) {
    host("critical", |folder| {
        let key = secret(folder, "pd", "key");
        let lines = format!("url = {:?}\nsecret_file = {key:?}", server.url("/"));
        format!("critical = [\"pd\"]\n{}", channel("pd", "pagerduty", &lines))
    })
}

fn events(heard: &[Heard]) -> Vec<String> {
    let action = |it: &Heard| it.json()["event_action"].as_str().unwrap_or_default().to_owned();
    heard.iter().map(action).collect()
}

fn one_key(heard: &[Heard]) -> bool {
    let keys: Vec<_> = heard.iter().map(|it| it.json()["dedup_key"].clone()).collect();
    keys.iter().all(|key| key.is_string() && *key == keys[0])
}

#[test]
fn killed_before_or_after_it_is_sent_pagerduty_has_one_incident() {
    for (point, sent) in [("alerts.before-send", 0), ("alerts.sent", 1)] {
        let server = HttpScript::start([], says(202, "{}"));
        let (mut agent, db) = pager(&server);
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        db.is(1);
        agent.wait_killed();
        assert_eq!(server.heard().len(), sent, "{point}");
        agent.start();
        let heard = server.wait_heard(sent + 1);
        agent.wait_nothing_waits();
        assert_eq!(server.heard().len(), sent + 1, "{point}: no more than needed");
        assert!(one_key(&heard), "{point}: {heard:#?}");
        assert!(events(&heard).iter().all(|event| event == "trigger"), "{heard:#?}");
        let told = agent.firing("db").unwrap()["told"].clone();
        assert_eq!(told, serde_json::json!(["pd"]), "{point}");
    }
}

#[test]
fn killed_before_or_after_it_is_sent_channels_without_keys_have_it_at_least_once() {
    for (point, sent) in [("alerts.before-send", 0), ("alerts.sent", 1)] {
        let (hook, mail) = (HttpScript::start([], says(200, "")), Smtp::start([], None));
        let (mut agent, db) = host("critical", |_| {
            let url = format!("url = {:?}", hook.url("/"));
            let lines = format!(
                "server = {:?}\ntls = \"none\"\nfrom = \"g@h.test\"\nto = [\"a@h.test\"]",
                mail.address()
            );
            let channels = channel("hook", "webhook", &url) + &channel("mail", "email", &lines);
            format!("critical = [\"hook\", \"mail\"]\n{channels}")
        });
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        db.is(1);
        agent.wait_killed();
        let before = hook.heard().len() + mail.mails().len();
        assert!(before >= sent, "{point}: {before}");
        agent.start();
        agent.wait_nothing_waits();
        wait_until("both to be told", || {
            agent
                .firing("db")
                .is_some_and(|it| it["told"].as_array().is_some_and(|it| it.len() == 2))
        });
        let (heard, mails) = (hook.heard(), mail.mails());
        // Whoever looks sees that it is the same message.
        let ids: Vec<_> = heard.iter().map(|it| it.header("idempotency-key").to_owned()).collect();
        assert!((1..=2).contains(&ids.len()) && ids.iter().all(|id| *id == ids[0]), "{heard:#?}");
        let ids: Vec<_> = mails.iter().map(|it| it.header("message-id").to_owned()).collect();
        assert!((1..=2).contains(&ids.len()) && ids.iter().all(|id| *id == ids[0]), "{mails:#?}");
    }
}

/// `sent` events have reached the server when the agent dies at the second hit of `point`.
fn killed_around_the_word_of_its_end(point: &str, sent: usize) {
    let server = HttpScript::start([], says(202, "{}"));
    let (mut agent, db) = pager(&server);
    agent.start_with_failpoint(point, 2);
    agent.wait_ready();
    db.is(1);
    server.wait_heard(1);
    db.is(0);
    // It takes half a minute until it counts as over.
    server.wait_heard(sent);
    agent.wait_killed();
    assert_eq!(server.heard().len(), sent, "{point}");
    agent.start();
    let heard = server.wait_heard(sent + 1);
    agent.wait_nothing_waits();
    assert_eq!(events(&heard).last().map(String::as_str), Some("resolve"), "{point}");
    assert_eq!(events(&heard).iter().filter(|it| *it == "trigger").count(), 1, "{point}");
    assert!(one_key(&heard), "{heard:#?}");
    assert_eq!(server.heard().len(), sent + 1, "{point}: no more than needed");
    assert!(agent.firing("db").is_none());
}

#[test]
fn killed_between_the_end_of_it_and_the_word_of_that_the_word_is_sent() {
    killed_around_the_word_of_its_end("alerts.before-send", 1);
}

#[test]
fn killed_before_the_answer_to_the_word_of_its_end_that_is_said_again() {
    killed_around_the_word_of_its_end("alerts.sent", 2);
}

#[test]
fn killed_while_it_fires_it_is_not_told_anew() {
    let server = HttpScript::start([], says(202, "{}"));
    let (mut agent, db) = pager(&server);
    agent.start();
    db.is(1);
    server.wait_heard(1);
    agent.wait_nothing_waits();
    for _ in 0..3 {
        agent.kill();
        agent.start();
        db.wait_for_looks(5);
        wait_until("it fires", || agent.firing("db").is_some());
    }
    // Well while no agent lived, which the next one finds out.
    agent.kill();
    db.is(0);
    agent.start();
    let heard = server.wait_heard(2);
    assert_eq!(events(&heard), ["trigger", "resolve"]);
    assert!(one_key(&heard), "{heard:#?}");
}
