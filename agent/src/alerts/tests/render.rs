//! What is said, with input that somebody else chose.

use proptest::prelude::*;

use crate::alerts::message::{Item, Message, Occasion, Sender};
use crate::alerts::render::{clean, headline, json, mail, pagerduty, runbook, short, slack};
use crate::events::Severity;

fn message(occasion: Occasion, titles: &[&str]) -> Message {
    let item = |(number, title): (usize, &&str)| Item {
        id: format!("01A{number}"),
        source: "health".into(),
        subject: "disk:/".into(),
        severity: Severity::High,
        title: (*title).to_owned(),
        details: vec!["line <one> & two".into(), "x".repeat(100_000)],
        runbook: "disk-space".into(),
        since: "2026-03-02T08:00:00Z".parse().unwrap(),
        resolved: None,
    };
    Message {
        id: "01M".into(),
        occasion,
        items: titles.iter().enumerate().map(item).collect(),
        note: String::new(),
        sender: Sender {
            host_id: "abc".into(),
            hostname: "web-1".into(),
            fleet: "prod".into(),
            runbooks: String::new(),
            on_call: "the night desk".into(),
            escalation: "lead@example.test".into(),
        },
        at: "2026-03-02T08:00:05Z".parse().unwrap(),
    }
}

#[test]
fn text_is_one_line_without_surprises() {
    for (text, expected) in [
        ("a\r\nBcc: x@y\tb", "a  Bcc: x@y b"),
        ("\u{202e}evil\u{202c} \u{200b}x", "evil x"),
        ("\u{1b}[31mred\u{7}", "[31mred"),
        ("  x  ", "x"),
        ("abcdefghijkl", "abcdefghi…"),
    ] {
        assert_eq!(clean(text, if text.len() > 12 { 40 } else { 10 }), expected, "{text:?}");
    }
}

#[test]
fn pagerduty_gets_trigger_and_resolve_under_one_key() {
    let mut firing = message(Occasion::Firing, &["4 % free"]);
    let trigger = pagerduty(&firing, "key");
    assert_eq!(trigger["event_action"], "trigger");
    assert_eq!(trigger["dedup_key"], "abc/01A0");
    assert_eq!(trigger["payload"]["severity"], "error");
    assert_eq!(
        trigger["payload"]["custom_details"]["runbook"],
        "genesisctl runbook show disk-space"
    );
    assert!(trigger.to_string().len() < 20_000, "bounded");
    firing.occasion = Occasion::Resolved;
    let resolve = pagerduty(&firing, "key");
    assert_eq!(
        (&resolve["event_action"], &resolve["dedup_key"]),
        (&"resolve".into(), &trigger["dedup_key"])
    );
    firing.sender.runbooks = "https://wiki/rb/".into();
    firing.occasion = Occasion::Firing;
    assert_eq!(pagerduty(&firing, "key")["links"][0]["href"], "https://wiki/rb/disk-space.md");
    assert_eq!(runbook(&firing, &firing.items[0]), "https://wiki/rb/disk-space.md");
}

#[test]
fn what_is_critical_says_whom_to_call_and_the_rest_does_not() {
    let mut told = message(Occasion::Firing, &["4 % free"]);
    let texts = |told: &Message| {
        [slack(told), mail(told).1, pagerduty(told, "key").to_string(), json(told).to_string()]
    };
    assert!(texts(&told).iter().all(|text| !text.contains("the night desk")));
    told.items[0].severity = Severity::Critical;
    for text in texts(&told) {
        assert!(text.contains("the night desk") && text.contains("lead@example.test"), "{text}");
    }
    told.sender.on_call = "<!channel> *x*\r\n".into();
    assert!(slack(&told).contains("&lt;!channel&gt;") && !slack(&told).contains("<!"));
    told.occasion = Occasion::Resolved;
    assert!(texts(&told).iter().all(|text| !text.contains("lead@example.test")), "it is over");
    told.occasion = Occasion::Firing;
    (told.sender.on_call, told.sender.escalation) = (String::new(), String::new());
    assert!(texts(&told).iter().all(|text| !text.contains("call:")));
}

#[test]
fn slack_is_escaped_and_says_where_the_rest_is() {
    let one = slack(&message(Occasion::Firing, &["<!channel> & *bold*"]));
    assert!(one.contains("&lt;!channel&gt; &amp;") && !one.contains("<!"), "{one}");
    assert!(one.contains("runbook: genesisctl runbook show disk-space"));
    let many: Vec<String> = (0..200).map(|number| format!("title {number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let text = slack(&message(Occasion::Firing, &many));
    assert!(text.chars().count() < 4_000 && text.contains("genesisctl alerts list"));
}

#[test]
fn headlines_say_what_where_and_how_bad() {
    for (occasion, titles, expected) in [
        (Occasion::Firing, &["full"][..], "[HIGH] web-1: full"),
        (Occasion::Repeat, &["full"][..], "[STILL HIGH] web-1: full"),
        (Occasion::Resolved, &["full"][..], "[RESOLVED] web-1: full"),
        (Occasion::Firing, &["full", "slow"][..], "[HIGH] web-1: 2 alerts: slow"),
        (Occasion::Digest, &["a", "b"][..], "[DIGEST] web-1: 2 low alert(s)"),
        (Occasion::Test, &[][..], "[TEST] web-1: this channel works"),
    ] {
        assert_eq!(headline(&message(occasion, titles)), expected);
    }
    assert!(short(&message(Occasion::Firing, &[&"x".repeat(1_000)])).chars().count() <= 320);
}

proptest! {
    #[test]
    fn no_text_breaks_out_of_its_line(title in "\\PC*|[\\x00-\\xff]{0,300}", note in "(\\r\\n|.){0,50}") {
        let mut message = message(Occasion::Firing, &[&title]);
        message.note = note;
        let (subject, body) = mail(&message);
        prop_assert!(!subject.contains(['\r', '\n']));
        prop_assert!(!body.contains('\r'));
        prop_assert!(!short(&message).contains(['\r', '\n']));
        prop_assert!(json(&message)["headline"].as_str().is_some());
        prop_assert!(slack(&message).chars().count() < 4_000);
    }
}
