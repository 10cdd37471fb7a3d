//! Mail, and a server that goes wrong at each step of it.

use genesis_tests::alerts::{channel, host};
use genesis_tests::clock::wait_until;
use genesis_tests::http_script::{HttpScript, says};
use genesis_tests::smtp::{Fault, Smtp, Step};

const STEPS: [Step; 6] =
    [Step::Greeting, Step::Hello, Step::From, Step::Recipient, Step::Data, Step::Mail];

/// A channel of mail to these recipients.
fn mail(name: &str, server: &Smtp, to: &[&str]) -> String {
    let lines = format!(
        "server = {:?}\ntls = \"none\"\nfrom = \"genesis@h.test\"\nto = {to:?}",
        server.address()
    );
    channel(name, "email", &lines)
}

/// A channel for each server, by the name of its place, all for what is critical.
fn mails(servers: &[Smtp]) -> String {
    let names: Vec<String> = (0..servers.len()).map(|at| format!("m{at}")).collect();
    let channels = names.iter().zip(servers).map(|(name, it)| mail(name, it, &["a@h.test"]));
    format!("critical = {names:?}\n{}", channels.collect::<String>())
}

#[test]
fn at_whatever_step_it_fails_for_once_the_mail_arrives() {
    let faults = [Fault::Says(421), Fault::Says(450), Fault::Hangs, Fault::Resets];
    let all: Vec<(Step, Fault)> =
        STEPS.into_iter().flat_map(|step| faults.map(|fault| (step, fault))).collect();
    let servers: Vec<Smtp> = all.iter().map(|fault| Smtp::start([Some(*fault)], None)).collect();
    let (mut agent, db) = host("critical", |_| mails(&servers));
    agent.start();
    db.is(1);
    for (server, fault) in servers.iter().zip(&all) {
        wait_until(&format!("the mail after {fault:?}"), || {
            server.mails().iter().any(|mail| mail.accepted)
        });
        let mails = server.mails();
        let first = &mails[0];
        assert!(mails.iter().all(|mail| mail.text == first.text), "{fault:?}: {mails:#?}");
    }
    agent.wait_nothing_waits();
    for (server, fault) in servers.iter().zip(&all) {
        let taken = server.mails().iter().filter(|mail| mail.accepted).count();
        assert_eq!(taken, 1, "{fault:?}");
    }
}

#[test]
fn at_whatever_step_it_is_refused_it_is_not_tried_again() {
    let servers = STEPS.map(|step| Smtp::start([], Some((step, Fault::Says(550)))));
    let (mut agent, db) = host("critical", |_| format!("high = []\n{}", mails(&servers)));
    agent.start();
    db.is(1);
    for (at, step) in STEPS.iter().enumerate() {
        let trouble = || agent.trouble(&format!("m{at}"));
        wait_until(&format!("the refusal at {step:?}"), || trouble().contains("550"));
    }
    // What is wrong with each of them is told to others, which refuse that as well; then all is quiet.
    wait_until("the alerts", || {
        (0..STEPS.len()).all(|at| agent.firing(&format!("m{at}")).is_some())
    });
    agent.wait_nothing_waits();
    let before: Vec<usize> = servers.iter().map(Smtp::connections).collect();
    db.wait_for_looks(15);
    assert_eq!(servers.iter().map(Smtp::connections).collect::<Vec<_>>(), before);
    assert!(servers.iter().all(|server| server.mails().is_empty()));
}

#[test]
fn mail_is_sent_again_as_the_same_mail_until_it_is_taken() {
    let faults = [
        (Step::Greeting, Fault::Says(421)),
        (Step::From, Fault::Says(450)),
        (Step::Mail, Fault::Resets),
    ];
    let server = Smtp::start(faults.map(Some), None);
    let (mut agent, db) = host("critical", |_| {
        format!("critical = [\"mail\"]\n{}", mail("mail", &server, &["a@h.test"]))
    });
    agent.start();
    db.is(1);
    let mails = server.wait_mails(2);
    assert_eq!((mails[0].accepted, mails[1].accepted), (false, true), "{mails:#?}");
    let id = mails[0].header("message-id");
    assert!(id.starts_with('<') && id.ends_with(".genesis>"), "{mails:#?}");
    assert_eq!((id, &mails[0].text), (mails[1].header("message-id"), &mails[1].text));
    assert_eq!((mails[1].from.as_str(), mails[1].to.len()), ("genesis@h.test", 1));
    assert!(mails[1].header("subject").contains("[CRITICAL]"), "{mails:#?}");
    assert_eq!(mails[1].header("auto-submitted"), "auto-generated");
    agent.wait_nothing_waits();
    assert_eq!((server.connections(), server.mails().len()), (4, 2));
}

#[test]
fn mail_that_is_refused_is_not_sent_again_and_another_channel_says_so() {
    let server = Smtp::start([], Some((Step::Recipient, Fault::Says(550))));
    let hook = HttpScript::start([], says(200, ""));
    let (mut agent, db) = host("medium", |_| {
        let channels = mail("mail", &server, &["a@h.test"])
            + &channel("hook", "webhook", &format!("url = {:?}", hook.url("/")));
        format!("medium = [\"mail\"]\nhigh = [\"hook\"]\n{channels}")
    });
    agent.start();
    db.is(1);
    let heard = hook.wait_heard(1)[0].json();
    assert_eq!(heard["alerts"][0]["subject"], "mail", "{heard:#}");
    assert!(agent.trouble("mail").contains("550"), "{}", agent.trouble("mail"));
    agent.wait_nothing_waits();
    db.wait_for_looks(10);
    assert_eq!((server.connections(), server.mails().len()), (1, 0));
}

#[test]
fn a_recipient_who_is_refused_keeps_the_mail_from_nobody_else() {
    let server = Smtp::start([Some((Step::Recipient, Fault::Says(550)))], None);
    let (mut agent, db) = host("critical", |_| {
        format!("critical = [\"mail\"]\n{}", mail("mail", &server, &["a@h.test", "b@h.test"]))
    });
    agent.start();
    db.is(1);
    let to = server.wait_mails(1)[0].to.join(",");
    assert!(["a@h.test", "b@h.test"].contains(&to.as_str()), "{to}");
    agent.wait_nothing_waits();
    assert_eq!((server.connections(), server.mails().len()), (2, 1));
}
