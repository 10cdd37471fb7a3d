//! Each kind of channel, as the one at its other end sees it.

use genesis_tests::alerts::{channel, host, mode, secret};
use genesis_tests::clock::wait_until;
use genesis_tests::http_script::{Answer, Heard, HttpScript, says};

#[test]
fn pagerduty_hears_a_trigger_and_its_end_under_one_key() {
    let server = HttpScript::start([], says(202, r#"{"status":"success"}"#));
    let (mut agent, db) = host("critical", |folder| {
        let key = secret(folder, "pd", "R0UTINGKEY");
        let lines = format!("url = {:?}\nsecret_file = {key:?}", server.url("/v2/enqueue"));
        format!("critical = [\"pd\"]\n{}", channel("pd", "pagerduty", &lines))
    });
    agent.start();
    db.is(1);
    let trigger = server.wait_heard(1)[0].clone();
    let event = trigger.json();
    assert_eq!((trigger.method.as_str(), trigger.path.as_str()), ("POST", "/v2/enqueue"));
    assert_eq!(
        (&event["event_action"], &event["routing_key"], &event["payload"]["severity"]),
        (&"trigger".into(), &"R0UTINGKEY".into(), &"critical".into()),
        "{event:#}"
    );
    let component = &event["payload"]["component"];
    assert_eq!(component, "db", "{event:#}");
    let told =
        || agent.firing("db").is_some_and(|alert| alert["told"] == serde_json::json!(["pd"]));
    wait_until("the answer to be known", told);
    agent.wait_nothing_waits();
    db.is(0);
    let heard = server.wait_heard(2);
    let end = heard[1].json();
    assert_eq!(
        (&end["event_action"], &end["dedup_key"]),
        (&"resolve".into(), &event["dedup_key"]),
        "{end:#}"
    );
    agent.wait_nothing_waits();
    assert_eq!(server.heard().len(), 2, "nothing more is said: {:#?}", server.heard());
}

#[test]
fn slack_hears_by_its_webhook_and_by_a_bot_who_is_not_believed_before_ok() {
    let hook = HttpScript::start([], says(200, "ok"));
    let limited = says(200, r#"{"ok":false,"error":"ratelimited"}"#);
    let bot = HttpScript::start([limited], says(200, r#"{"ok":true}"#));
    let gone = HttpScript::start([], says(200, r#"{"ok":false,"error":"channel_not_found"}"#));
    let (mut agent, db) = host("high", |folder| {
        let url = secret(folder, "hook", &hook.url("/services/T0/B0/hush"));
        let token = secret(folder, "bot", "xoxb-hush");
        let as_bot = |name: &str, server: &HttpScript| {
            let url = server.url("/api/chat.postMessage");
            let lines = format!("url = {url:?}\nsecret_file = {token:?}\nto = [\"#ops\"]");
            channel(name, "slack", &lines)
        };
        let hook = channel("hook", "slack", &format!("secret_file = {url:?}"));
        let bots = as_bot("bot", &bot) + &as_bot("gone", &gone);
        format!("high = [\"hook\", \"bot\", \"gone\"]\n{hook}{bots}")
    });
    agent.start();
    db.is(1);
    let heard = hook.wait_heard(1)[0].clone();
    assert_eq!(heard.path, "/services/T0/B0/hush");
    let text = heard.json()["text"].as_str().unwrap_or_default().to_owned();
    assert!(text.contains("[HIGH]") && text.contains("db"), "{text}");
    // Not believed before it says so.
    let of_db = || {
        let heard = bot.heard().into_iter();
        heard.filter(|it| it.body.contains("db: ")).map(|it| it.body).collect::<Vec<_>>()
    };
    wait_until("the second attempt", || of_db().len() == 2);
    assert_eq!(of_db()[0], of_db()[1]);
    let heard = bot.heard();
    assert_eq!(heard[0].header("authorization"), "Bearer xoxb-hush");
    assert_eq!(heard[0].json()["channel"], "#ops");
    wait_until("the refusal", || agent.trouble("gone").contains("channel_not_found"));
    wait_until("the bot's word", || agent.trouble("bot").is_empty());
    let told = || agent.firing("db").map(|alert| alert["told"].to_string()).unwrap_or_default();
    wait_until("both to be told", || told() == r#"["hook","bot"]"#);
    let to_db = gone.heard().iter().filter(|it| it.body.contains("db: ")).count();
    assert_eq!(to_db, 1, "what was refused is not tried again: {:#?}", gone.heard());
}

#[test]
fn short_messages_go_as_json_and_as_a_form_to_every_number() {
    let json = HttpScript::start([], says(200, ""));
    let form = HttpScript::start([], says(201, "{}"));
    let (mut agent, db) = host("critical", |folder| {
        let token = secret(folder, "sms", "hush");
        let to = "from = \"GENESIS\"\nto = [\"+491\", \"+492\"]";
        let lines = format!("url = {:?}\nsecret_file = {token:?}\n{to}", json.url("/send"));
        let json = channel("json", "sms", &lines);
        let lines = format!(
            "url = {:?}\nformat = \"form\"\nuser = \"account\"\nsecret_file = {token:?}\n{to}",
            form.url("/Messages.json")
        );
        format!("critical = [\"json\", \"form\"]\n{json}{}", channel("form", "sms", &lines))
    });
    agent.start();
    db.is(1);
    let mut heard = json.wait_heard(2);
    heard.sort_by_key(|it| it.json()["to"].to_string());
    for (heard, number) in heard.iter().zip(["+491", "+492"]) {
        let body = heard.json();
        assert_eq!((&body["to"], &body["from"]), (&number.into(), &"GENESIS".into()));
        assert!(body["text"].as_str().is_some_and(|it| it.starts_with("[CRITICAL]")), "{body}");
        assert_eq!(heard.header("authorization"), "Bearer hush");
    }
    let keys: Vec<&str> = heard.iter().map(|it| it.header("idempotency-key")).collect();
    assert_ne!(keys[0], keys[1], "each number's message is one of its own");
    let mut heard = form.wait_heard(2);
    heard.sort_by_key(|it| it.body.clone());
    assert!(heard[0].body.starts_with("To=%2B491&From=GENESIS&Body=%5BCRITICAL%5D"), "{heard:#?}");
    assert!(heard[1].body.starts_with("To=%2B492&"), "{heard:#?}");
    assert_eq!(heard[0].header("authorization"), "Basic YWNjb3VudDpodXNo");
    assert_eq!(heard[0].header("content-type"), "application/x-www-form-urlencoded");
    agent.wait_nothing_waits();
    assert_eq!((json.heard().len(), form.heard().len()), (2, 2));
}

#[test]
fn a_number_that_is_refused_or_hangs_costs_the_others_nothing() {
    // One is never taken, one is left without an answer at first, two are taken at once.
    let script = [says(400, "no such number"), Answer::Hangs];
    let server = HttpScript::start(script, says(200, ""));
    let (mut agent, db) = host("critical", |_| {
        let lines = format!("url = {:?}\nto = [\"1\", \"2\", \"3\", \"4\"]", server.url("/"));
        format!("critical = [\"sms\"]\n{}", channel("sms", "sms", &lines))
    });
    agent.start();
    db.is(1);
    let about_db = || {
        let heard = server.heard().into_iter().filter(|it| it.body.contains("db: "));
        heard.collect::<Vec<Heard>>()
    };
    wait_until("the first round", || about_db().len() == 4);
    let spread = about_db().iter().map(|it| it.at).max().unwrap() - about_db()[0].at;
    assert!(spread < std::time::Duration::from_secs(2), "none waits for another: {spread:?}");
    wait_until("the second round", || about_db().len() >= 5);
    agent.wait_nothing_waits();
    let mut times = [0; 4];
    for heard in about_db() {
        let number: usize = heard.json()["to"].as_str().unwrap().parse().unwrap();
        times[number - 1] += 1;
    }
    times.sort_unstable();
    // Who was refused is asked again beside the one who hung: a refusal is not remembered.
    assert!(times == [1, 1, 1, 2] || times == [1, 1, 2, 2], "{times:?}");
}

#[test]
fn a_test_of_pagerduty_leaves_nothing_open() {
    let server = HttpScript::start([], says(202, r#"{"status":"success"}"#));
    let (mut agent, _db) = host("critical", |folder| {
        let key = secret(folder, "pd", "R0UTINGKEY");
        let lines = format!("url = {:?}\nsecret_file = {key:?}", server.url("/v2/enqueue"));
        format!("critical = [\"pd\"]\n{}", channel("pd", "pagerduty", &lines))
    });
    agent.start();
    agent.ctl(&["alerts", "test", "pd"]).ok().says(&["pd accepted the test"]);
    let heard: Vec<_> = server.heard().iter().map(Heard::json).collect();
    assert_eq!(
        (&heard[0]["event_action"], &heard[1]["event_action"]),
        (&"trigger".into(), &"resolve".into())
    );
    assert_eq!((&heard[0]["dedup_key"], heard.len()), (&heard[1]["dedup_key"], 2));
}

#[test]
fn a_webhook_gets_its_token_and_a_file_that_others_may_read_is_no_secret() {
    let server = HttpScript::start([], says(200, ""));
    let careless = HttpScript::start([], says(200, ""));
    let (mut agent, db) = host("critical", |folder| {
        let good = secret(folder, "good", "hush");
        let bad = secret(folder, "bad", "hush");
        mode(&bad, 0o640);
        let of = |server: &HttpScript, file| {
            format!("url = {:?}\nsecret_file = {file:?}", server.url("/hook"))
        };
        let channels = channel("good", "webhook", &of(&server, good))
            + &channel("bad", "webhook", &of(&careless, bad));
        format!("critical = [\"good\", \"bad\"]\nhigh = [\"good\"]\n{channels}")
    });
    agent.start();
    let check = agent.ctl(&["config", "check", &agent.config().display().to_string()]).exits(3);
    check.says(&["alerts.channel.bad.secret_file", "chmod 600"]);
    db.is(1);
    wait_until("the trouble", || agent.trouble("bad").contains("chmod 600"));
    let about = server.wait_heard(1)[0].clone();
    let body = about.json();
    assert_eq!(about.header("authorization"), "Bearer hush");
    assert_eq!(body["message"], about.header("idempotency-key"));
    assert_eq!((&body["version"], &body["occasion"]), (&1.into(), &"firing".into()), "{body:#}");
    assert!(careless.heard().is_empty(), "nothing is sent without the secret");
    // Mended, it is told what it has not heard.
    mode(&agent.folder().join("secret-bad"), 0o600);
    careless.wait_heard(1);
    wait_until("no trouble", || agent.trouble("bad").is_empty());
}

#[test]
fn a_command_gets_the_message_and_has_the_time_that_it_is_given() {
    let (mut agent, db) = host("critical", |folder| {
        let script = folder.join("page");
        let (out, tries) = (folder.join("paged"), folder.join("tries"));
        // Longer than any other channel would be waited for.
        let text =
            format!("echo >> {tries:?}; sleep 8; cat > {out:?}.new; mv {out:?}.new {out:?}\n");
        std::fs::write(&script, text).unwrap();
        let lines = format!("command = {{ command = [\"sh\", {script:?}], timeout = \"30s\" }}");
        format!("critical = [\"page\"]\n{}", channel("page", "command", &lines))
    });
    agent.start();
    db.is(1);
    let paged = agent.folder().join("paged");
    wait_until("the command's end", || paged.exists());
    let message: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&paged).unwrap()).unwrap();
    assert_eq!((&message["occasion"], &message["version"]), (&"firing".into(), &1.into()));
    assert_eq!(message["alerts"][0]["subject"], "db", "{message:#}");
    agent.wait_nothing_waits();
    let tries = std::fs::read_to_string(agent.folder().join("tries")).unwrap();
    assert_eq!(tries.lines().count(), 1, "it is run once");
}

#[test]
fn what_is_low_and_what_has_no_channel_is_sent_nowhere() {
    let server = HttpScript::start([], Answer::Hangs);
    let (mut agent, db) = host("low", |_| {
        let lines = format!("url = {:?}", server.url("/"));
        format!("low = [\"hook\"]\nhigh = []\n{}", channel("hook", "webhook", &lines))
    });
    agent.start();
    db.is(1);
    wait_until("it fires", || agent.firing("db").is_some());
    db.wait_for_looks(10);
    assert!(server.heard().is_empty(), "what is low waits for the digest");
    let unheard = agent.alerts()["unheard"].to_string();
    assert!(unheard.contains("CRITICAL") && !unheard.contains("LOW"), "{unheard}");
}
