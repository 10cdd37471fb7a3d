//! When people hear: together, once a day, as a sign of life, and also while the disk is full.

use genesis_tests::alerts::{channel, said};
use genesis_tests::clock::{now, wait_until};
use genesis_tests::health::{Check, Patient};
use genesis_tests::http_script::{HttpScript, says};
use genesis_tests::smtp::Smtp;
use genesis_tests::{Ballast, TestAgent};
use jiff::SignedDuration;

fn hook(server: &HttpScript, more: &str) -> String {
    channel("hook", "webhook", &format!("url = {:?}\n{more}", server.url("/")))
}

#[test]
fn what_belongs_together_is_one_message_and_its_secret_may_be_a_variable() {
    let server = HttpScript::start([], says(200, "ok"));
    let mut agent = TestAgent::new(|_| String::new());
    agent.environment("SLACK_URL", &server.url("/services/hush"));
    let patients = ["a", "b"].map(|id| Patient::new(agent.folder(), id));
    let checks = patients.each_ref().map(|it| it.check().text("severity", "high"));
    let slack = channel("slack", "slack", "secret_env = \"SLACK_URL\"");
    let config = said(&format!("high = [\"slack\"]\n{slack}"), &checks);
    agent.configure(&config.replace("group = \"0s\"", "group = \"4s\""));
    agent.start();
    patients[0].is(1);
    wait_until("the first", || agent.firing("a").is_some());
    patients[1].is(1);
    let heard = server.wait_heard(1)[0].clone();
    assert_eq!(heard.path, "/services/hush");
    let text = heard.json()["text"].as_str().unwrap_or_default().to_owned();
    assert!(text.contains("a: sh says 1") && text.contains("b: sh says 1"), "{text}");
    agent.wait_nothing_waits();
    patients[0].wait_for_looks(30);
    assert_eq!(server.heard().len(), 1, "together: {:#?}", server.heard());
}

#[test]
fn what_is_low_is_mailed_once_a_day_in_one_digest() {
    let server = Smtp::start([], None);
    let mut agent = TestAgent::new(|_| String::new());
    let patients = ["a", "b"].map(|id| Patient::new(agent.folder(), id));
    let checks = patients.each_ref().map(|it| it.check().text("severity", "low"));
    let lines = format!(
        "server = {:?}\ntls = \"none\"\nfrom = \"genesis@h.test\"\nto = [\"ops@h.test\"]",
        server.address()
    );
    // A time of day that is an hour ahead, then one that was just now: the day's digest is due.
    let at = |minutes| {
        let then = now() + SignedDuration::from_mins(minutes);
        format!("digest_at = \"{}\"\n", then.strftime("%H:%M"))
    };
    let alerts = |at: &str| format!("{at}{}", channel("digest", "email", &lines));
    agent.configure(&said(&alerts(&at(60)), &checks));
    agent.start();
    patients.iter().for_each(|patient| patient.is(1));
    wait_until("both", || patients.iter().all(|it| agent.firing(&it.id).is_some()));
    assert!(server.mails().is_empty(), "not before its time");
    agent.configure(&said(&alerts(&at(0)), &checks));
    agent.ctl(&["config", "reload"]).ok();
    let mail = server.wait_mails(1)[0].clone();
    assert_eq!(mail.to, ["ops@h.test"]);
    for patient in &patients {
        let times = mail.text.matches(&format!("{}: ", patient.id)).count();
        assert!(times >= 1, "{}: {}", patient.id, mail.text);
    }
    agent.wait_nothing_waits();
    agent.restart();
    patients[0].wait_for_looks(20);
    assert_eq!(server.mails().len(), 1, "a restart makes no second one");
}

#[test]
fn a_sign_of_life_comes_as_long_as_the_agent_lives() {
    let server = HttpScript::start([], says(200, ""));
    let mut agent = TestAgent::new(|_| String::new());
    let beat = "[alerts.heartbeat]\nchannel = \"hook\"\nevery = \"5s\"\n";
    agent.configure(&format!("{beat}{}", hook(&server, "")));
    agent.start();
    let heard = server.wait_heard(2);
    assert!(heard.iter().all(|it| it.json()["occasion"] == "heartbeat"), "{heard:#?}");
    assert!(heard[1].at - heard[0].at >= std::time::Duration::from_secs(5));
    let (first, second) = (heard[0].json(), heard[1].json());
    assert_ne!(first["message"], second["message"]);
    assert!(first["hostname"].is_string() || first["host"].is_object(), "{first:#}");
}

#[test]
fn on_a_full_disk_people_are_called_and_the_disk_is_one_of_the_things_they_hear_of() {
    let server = HttpScript::start([], says(200, ""));
    let mut agent = TestAgent::with_small_disk(8, |_| String::new());
    let db = Patient::new(agent.folder(), "db");
    let own = Check::new("agent", "agent").text("severity", "critical").text("timeout", "180ms");
    let checks = [db.check().text("severity", "critical"), own];
    let alerts = format!("critical = [\"hook\"]\nhigh = [\"hook\"]\n{}", hook(&server, ""));
    agent.configure(&said(&alerts, &checks));
    agent.start();
    let ballast = Ballast::fill(agent.disk().join("ballast"));
    wait_until("the disk is full", || agent.ctl(&["oplog", "note", "is there room?"]).code == 7);
    db.is(1);
    let told = |subject: &str, occasion: &str| {
        let heard = server.heard();
        let of_it = heard.iter().map(genesis_tests::http_script::Heard::json).filter(|message| {
            let alerts = message["alerts"].as_array().cloned().unwrap_or_default();
            message["occasion"] == occasion && alerts.iter().any(|it| it["subject"] == subject)
        });
        of_it.count()
    };
    wait_until("both to be told", || told("db", "firing") > 0 && told("agent", "firing") > 0);
    agent.ctl(&["alerts", "list"]).ok().says(&["db", "agent"]);
    ballast.release();
    db.is(0);
    wait_until("the end of both", || told("db", "resolved") > 0 && told("agent", "resolved") > 0);
    agent.wait_nothing_waits();
    // It is on record as soon as there is room.
    wait_until("the record", || {
        let history = agent.ctl(&["alerts", "history"]).text();
        ["firing", "resolved", "ACCEPTED"].iter().all(|word| history.contains(word))
    });
    assert_eq!((told("db", "firing"), told("db", "resolved")), (1, 1));
}
