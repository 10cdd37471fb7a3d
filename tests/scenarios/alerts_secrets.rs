//! Secrets of channels are sent where they belong, and seen nowhere else, whoever repeats them.

use genesis_tests::alerts::{channel, host, secret};
use genesis_tests::clock::wait_until;
use genesis_tests::http;
use genesis_tests::http_script::{Answer, HttpScript};

/// Part of every secret here.
const MARK: &str = "hush-hush-0815";

#[test]
fn a_server_that_repeats_a_secret_makes_it_no_public_word() {
    for status in [202, 400, 500] {
        let server = HttpScript::start([], Answer::Echoes(status));
        let (mut agent, db) = host("critical", |folder| {
            let key = secret(folder, "key", MARK);
            let url = secret(folder, "url", &server.url(&format!("/services/{MARK}")));
            let to = "from = \"GENESIS\"\nto = [\"+491\"]";
            let of =
                |more: &str| format!("url = {:?}\nsecret_file = {key:?}\n{more}", server.url("/"));
            let channels = channel("pd", "pagerduty", &of(""))
                + &channel("bot", "slack", &of("to = [\"#ops\"]"))
                + &channel("hook", "slack", &format!("secret_file = {url:?}"))
                + &channel("form", "sms", &of(&format!("format = \"form\"\nuser = \"me\"\n{to}")))
                + &channel("json", "sms", &of(to))
                + &channel("web", "webhook", &of(""));
            let names = ["pd", "bot", "hook", "form", "json", "web"];
            // Nor is one in what is only written down for those who look for a fault.
            format!("critical = {names:?}\n{channels}[agent]\nlog_level = \"trace\"\n")
        });
        agent.start();
        db.is(1);
        let paths = || {
            let heard = server.heard().into_iter();
            heard.filter(|it| it.body.contains("db")).count()
        };
        wait_until("each channel", || paths() >= 6);
        // A bot that says nothing of ok is waited for; the others have had their answer.
        wait_until("the answers", || {
            let alerts = agent.alerts();
            let channels = alerts["channels"].as_array().cloned().unwrap_or_default();
            let quiet = channels.iter().filter(|it| it["trouble"] == "").count();
            if status == 202 {
                agent
                    .firing("db")
                    .is_some_and(|it| it["told"].to_string().matches(',').count() == 4)
            } else {
                quiet == 0
            }
        });
        let mut seen = vec![agent.alerts().to_string()];
        let pages = ["/metrics", "/api/operations/agent/status", "/api/operations/health/status"];
        seen.extend(pages.map(|page| http::get(agent.http(), page).1));
        seen.push(agent.ctl(&["oplog", "list", "-o", "json"]).text());
        seen.push(agent.ctl(&["config", "show"]).text());
        agent.terminate();
        seen.push(agent.stderr());
        // The agent's own log, and what is kept of deliveries.
        for file in [agent.state().join("logs/agent.log"), agent.database()] {
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.is_empty(), "{}", file.display());
            seen.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        let basic = "bWU6aHVzaC1odXNo";
        for text in seen {
            for mark in [MARK, &MARK[..8], basic] {
                let excerpt = text.find(mark).map(|at| {
                    text[..at]
                        .chars()
                        .rev()
                        .take(300)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .rev()
                        .collect::<String>()
                });
                assert_eq!(excerpt, None, "{mark} is seen after an answer with {status}");
            }
        }
    }
}
