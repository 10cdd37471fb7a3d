//! What people hear of, from where it is to where they are; and what they say of it with genesisctl.

use genesis_agent::pki::{Role, Validity};
use genesis_tests::alerts::channel;
use genesis_tests::clock::wait_until;
use genesis_tests::http_script::{HttpScript, says};
use genesis_tests::pki::Authority;
use genesis_tests::{TestAgent, lines, source};
use serde_json::Value;

/// The alerts that a webhook was told of on this occasion.
fn told(server: &HttpScript, occasion: &str) -> Vec<Value> {
    let heard = server.heard();
    let messages = heard.iter().map(genesis_tests::http_script::Heard::json);
    let of_it = messages.filter(|message| message["occasion"] == occasion);
    of_it.flat_map(|message| message["alerts"].as_array().cloned().unwrap_or_default()).collect()
}

fn routes(server: &HttpScript) -> String {
    let hook = channel("hook", "webhook", &format!("url = {:?}", server.url("/in")));
    let every = "critical = [\"hook\"]\nhigh = [\"hook\"]\nmedium = [\"hook\"]";
    format!("[alerts]\ngroup = \"0s\"\n{every}\n{hook}")
}

#[test]
fn an_archive_that_fails_and_an_emergency_are_told_by_how_bad_they_are() {
    let server = HttpScript::start([], says(200, ""));
    let mut agent = TestAgent::new(|_| String::new());
    let log = agent.log("app.log");
    agent.configure(&format!("{}{}", source("app", &log, "1MB"), routes(&server)));
    agent.start();
    std::fs::rename(agent.archive(), agent.folder().join("away")).ok();
    std::fs::write(agent.archive(), "").unwrap();
    std::fs::write(&log, lines::text(1..100)).unwrap();
    agent.ctl(&["logs", "rotate", "--log-type", "app"]).exits(5);
    let of =
        |source: &str| told(&server, "firing").into_iter().find(|alert| alert["source"] == source);
    wait_until("the archive", || of("logs").is_some());
    let logs = of("logs").unwrap();
    assert_eq!((&logs["severity"], &logs["subject"]), (&"medium".into(), &"app".into()), "{logs}");
    agent.ctl(&["emergency", "activate", "--reason", "prices are wrong"]).ok();
    wait_until("the emergency", || of("recovery").is_some());
    let emergency = of("recovery").unwrap();
    assert_eq!(emergency["severity"], "critical");
    assert!(emergency["title"].as_str().unwrap().contains("prices are wrong"), "{emergency}");
    let list = agent.ctl(&["alerts", "list"]).ok();
    list.says(&["EMERGENCY 2", "CRITICAL", "MEDIUM", "hook"]);
    agent.ctl(&["status"]).says(&["alerts", "2 firing", "ALERT_FIRING", "EMERGENCY 2"]);
}

#[test]
fn what_people_say_of_alerts_is_in_force_and_outlives_a_restart() {
    let server = HttpScript::start([], says(200, "taken"));
    let mut agent = TestAgent::new(|_| String::new());
    agent.configure(&routes(&server));
    agent.start();
    agent.ctl(&["alerts", "list"]).ok().says(&["nothing fires"]);
    agent.ctl(&["alerts", "test", "hook"]).ok().says(&["hook accepted the test", "200"]);
    assert_eq!(server.heard()[0].json()["occasion"], "test");
    agent.ctl(&["alerts", "test", "nobody"]).exits(1).says(&["CHANNEL_UNKNOWN", "hook"]);
    agent.ctl(&["alerts", "show", "last"]).exits(1).says(&["ALERT_NOT_FOUND"]);
    let all = ["alerts", "silence", "--subject", "*", "--severity", "critical"];
    agent.ctl(&[&all[..], &["--reason", "a drill"]].concat()).ok().says(&["a drill"]);
    agent.ctl(&["alerts", "silence", "--subject", "x", "--for", "99d", "--reason", "r"]).exits(2);
    agent.ctl(&["alerts", "silence", "--reason", "r"]).exits(2).says(&["SILENCE_INVALID"]);
    agent.restart();
    agent.ctl(&["emergency", "activate", "--reason", "a drill"]).ok();
    wait_until("the alert", || agent.ctl(&["alerts", "list"]).text().contains("EMERGENCY 2"));
    agent.ctl(&["alerts", "show", "last"]).ok().says(&["silenced by", "told: -"]);
    assert_eq!(told(&server, "firing"), [Value::Null; 0], "nobody is told");
    let silences = agent.ctl(&["alerts", "list", "-o", "json"]).response()["silences"].clone();
    let id = silences[0]["id"].as_str().unwrap();
    agent.ctl(&["alerts", "unsilence", id]).ok();
    agent.ctl(&["alerts", "unsilence", id]).exits(1).says(&["SILENCE_NOT_FOUND"]);
    wait_until("the word", || !told(&server, "firing").is_empty());
    agent.ctl(&["alerts", "ack", "last", "--for", "1h", "--reason", "olga is on it"]).ok();
    wait_until("the ack's word", || !told(&server, "acknowledged").is_empty());
    agent.restart();
    agent.ctl(&["alerts", "show", "last"]).ok().says(&["ACKED", "olga is on it", "told: hook"]);
    agent.ctl(&["alerts", "history"]).ok().says(&["acknowledged", "ACCEPTED", "test"]);
    agent.ctl(&["oplog", "list", "--action", "alerts."]).ok().says(&[
        "alerts.silence",
        "alerts.unsilence",
        "alerts.ack",
        "alerts.test",
    ]);
}

#[test]
fn a_job_that_was_cut_off_and_a_certificate_that_ends_are_told() {
    let server = HttpScript::start([], says(200, ""));
    let authority = Authority::new("prod");
    let mut agent = TestAgent::new(|_| String::new());
    let log =
        source("app", &agent.log("app.log"), "1GB").replace("local_retention = \"36500d\"", "");
    agent.configure(&format!("{}{log}{}", authority.config("prod"), routes(&server)));
    agent.start();
    std::fs::write(agent.log("app.log"), lines::text(0..100)).unwrap();
    agent.rotate("app");
    agent.terminate();
    agent.start_with_failpoint("step.delete-local", 1);
    agent.wait_ready();
    agent.ctl(&["schedule", "run", "logs.local-retention", "--detach"]);
    agent.wait_killed();
    agent.start();
    let of = |source: &str, occasion| {
        told(&server, occasion).into_iter().find(|it| it["source"] == source)
    };
    wait_until("the job", || of("schedule", "firing").is_some());
    let job = of("schedule", "firing").unwrap();
    assert_eq!(
        (&job["severity"], &job["subject"]),
        (&"medium".into(), &"logs.local-retention".into())
    );
    assert!(job.to_string().contains("run show"), "{job}");
    assert!(of("pki", "firing").is_none(), "it is good for months");
    let soon = authority.issue("host-1", Role::Agent, Validity::Days(3));
    authority.put("server.key", &soon.key_pem);
    authority.put("server.pem", &soon.certificate_pem);
    agent.ctl(&["config", "reload"]).ok();
    wait_until("the certificate", || of("pki", "firing").is_some());
    let certificate = of("pki", "firing").unwrap();
    assert!(certificate["subject"].as_str().unwrap().ends_with("server.pem"), "{certificate}");
    // Run again, and renewed: both are over.
    agent.ctl(&["schedule", "run", "logs.local-retention"]).ok();
    authority.put_server();
    agent.ctl(&["config", "reload"]).ok();
    let over = |source| of(source, "resolved").is_some();
    wait_until("their end", || over("schedule") && over("pki"));
}
