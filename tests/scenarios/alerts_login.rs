//! A real mail server that wants TLS and a login, and what becomes of mail when one of them is wrong.

use genesis_tests::TestAgent;
use genesis_tests::alerts::{channel, host, secret};
use genesis_tests::clock::wait_until;
use genesis_tests::health::Patient;
use genesis_tests::http_script::{HttpScript, says};
use genesis_tests::mail_server::MailServer;
use genesis_tests::pki::Authority;
use genesis_tests::smtp::Smtp;

const USER: &str = "genesis";

/// An agent that tells what is critical by mail, with the password in `secret-mail`, and by `hook` of what is high.
fn by_mail(way: &str, address: &str, password: &str, hook: &HttpScript) -> (TestAgent, Patient) {
    host("critical", |folder| {
        let file = secret(folder, "mail", password);
        let lines = format!(
            "server = {address:?}\ntls = {way:?}\nfrom = \"genesis@h.test\"\nto = [\"a@h.test\"]\n\
             user = {USER:?}\nsecret_file = {file:?}"
        );
        let hook = channel("hook", "webhook", &format!("url = {:?}", hook.url("/")));
        let mail = channel("mail", "email", &lines);
        format!("critical = [\"mail\"]\nhigh = [\"hook\"]\n{mail}{hook}")
    })
}

#[test]
fn mail_is_encrypted_and_logged_in_and_a_wrong_password_can_be_mended() {
    let authority = Authority::new("mail");
    for way in ["starttls", "tls"] {
        let server = MailServer::start(way, &authority, (USER, "right"));
        let hook = HttpScript::start([], says(200, ""));
        let (mut agent, db) = by_mail(way, &server.address(), "wrong", &hook);
        let ca = agent.folder().join("ca.pem");
        std::fs::write(&ca, authority.ca()).unwrap();
        agent.environment("SSL_CERT_FILE", &ca.display().to_string());
        agent.start();
        db.is(1);
        wait_until("the refusal", || agent.trouble("mail").contains("535"));
        let trouble = agent.trouble("mail");
        assert!(trouble.contains("secret-mail") && !trouble.contains("wrong"), "{trouble}");
        // Who does hear is told of the alert and of the channel.
        let told = |subject: &str| {
            let about = |heard: &genesis_tests::http_script::Heard| heard.body.contains(subject);
            hook.heard().iter().any(about)
        };
        wait_until("the stand-in", || told("\"subject\":\"db\"") && told("\"subject\":\"mail\""));
        assert!(server.mails().is_empty());
        secret(agent.folder(), "mail", "right");
        agent.ctl(&["alerts", "test", "mail"]).ok().says(&["mail accepted the test"]);
        let mails = server.wait_mails(2);
        let about_db = mails.iter().filter(|it| it["text"].as_str().unwrap().contains("db"));
        let about_db: Vec<_> = about_db.collect();
        assert_eq!(about_db.len(), 1, "what waited is sent once: {mails:#?}");
        assert_eq!((&about_db[0]["tls"], &about_db[0]["login"]), (&true.into(), &true.into()));
        wait_until("no trouble", || agent.trouble("mail").is_empty());
        agent.wait_nothing_waits();
    }
}

#[test]
fn a_server_that_is_not_trusted_or_does_not_encrypt_gets_neither_mail_nor_password() {
    let authority = Authority::new("mail");
    let hook = HttpScript::start([], says(200, ""));
    let stranger = MailServer::start("starttls", &authority, (USER, "right"));
    let (mut agent, db) = by_mail("starttls", &stranger.address(), "right", &hook);
    agent.start();
    db.is(1);
    wait_until("the trouble", || agent.trouble("mail").to_lowercase().contains("cert"));
    assert!(stranger.mails().is_empty());
    let plain = Smtp::start([], None);
    let (mut agent, db) = by_mail("starttls", &plain.address(), "right", &hook);
    agent.start();
    db.is(1);
    wait_until("the trouble", || !agent.trouble("mail").is_empty());
    assert!(plain.connections() > 0 && plain.mails().is_empty());
    assert!(plain.said().iter().all(|line| !line.starts_with("AUTH")), "{:?}", plain.said());
}
