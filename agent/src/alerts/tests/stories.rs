//! What people hear, and what they don't.

use std::time::Duration;

use genesis_storage::DeliveryOutcome;
use jiff::SignedDuration;

use super::host::{Host, condition};
use crate::alerts::verbs::Cover;
use crate::events::Severity::{Critical, High, Low, Medium};
use crate::outside::Clock;
use crate::outside::notify::Sent;

const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn told(
    channel: &str,
    occasion: &'static str,
    subjects: &str,
) -> (String, &'static str, String) {
    (channel.to_owned(), occasion, subjects.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_severity_goes_its_way_and_only_what_is_critical_goes_at_once() {
    let host = Host::new("").await;
    host.hold(vec![
        condition("c", Critical),
        condition("h1", High),
        condition("h2", High),
        condition("m", Medium),
        condition("l", Low),
    ]);
    host.step().await;
    let mut at_once = host.got();
    at_once.sort();
    assert_eq!(at_once, [told("pagerduty", "firing", "c"), told("sms", "firing", "c")]);
    host.forget();
    host.run(60, 5).await;
    let mut later = host.got();
    later.sort();
    assert_eq!(
        later,
        [told("slack-alerts", "firing", "m"), told("slack-critical", "firing", "h1,h2")],
        "what belongs together is one message, and what is low waits for the digest"
    );
    host.forget();
    host.hold(Vec::new());
    host.run(60, 5).await;
    let mut over = host.got();
    over.sort();
    assert_eq!(
        over,
        [
            told("pagerduty", "resolved", "c"),
            told("slack-alerts", "resolved", "m"),
            told("slack-critical", "resolved", "h1,h2"),
            told("sms", "resolved", "c"),
        ]
    );
    assert!(host.all().iter().all(|alert| !alert.open()));
    assert_eq!(host.alerts.overview().waiting, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_days_of_firing_are_told_within_the_cap_and_say_since_when() {
    let host = Host::new("").await;
    host.hold(vec![condition("c", Critical)]);
    host.run(6 * 86_400, 600).await;
    let repeats = host.got().iter().filter(|got| **got == told("pagerduty", "repeat", "c")).count();
    assert_eq!(repeats, 6, "the cap");
    let alerts = host.all();
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].since.to_string(), "2026-03-02T07:59:00Z");
    assert_eq!(
        host.got().iter().filter(|got| got.1 == "firing").count(),
        2,
        "one for each channel"
    );
    let times: Vec<u64> = {
        let got = host.world.got.lock().unwrap();
        let repeats = got.iter().filter(|got| got.channel == "sms");
        repeats.map(|got| got.at.as_secs()).collect()
    };
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 4 * 3_600), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_flaps_is_one_open_alert_fast_or_slow() {
    for pace in [20_u64, 90] {
        let host = Host::new("").await;
        let mut records = 0;
        for turn in 0..1_800 / pace {
            let holds = if turn % 2 == 0 { vec![condition("c", Critical)] } else { Vec::new() };
            host.hold(holds);
            host.run(pace, 5).await;
            records = records.max(host.all().iter().filter(|alert| alert.open()).count());
        }
        assert_eq!(records, 1);
        let firings = host.got().iter().filter(|got| **got == told("sms", "firing", "c")).count();
        // Slow flapping is only known once it has come and gone twice.
        assert!(firings <= 2, "pace {pace}: {firings} calls");
        host.hold(Vec::new());
        host.run(700, 5).await;
        let over = host.got().iter().filter(|got| **got == told("sms", "resolved", "c")).count();
        assert_eq!(over, firings, "pace {pace}: each that was told is told to be over");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_cannot_tell_ends_nothing() {
    let host = Host::new("").await;
    host.hold(vec![condition("c", Critical)]);
    host.step().await;
    *host.world.holds.lock().unwrap() = None;
    host.run(3_600, 60).await;
    assert!(host.all()[0].open());
    assert!(host.got().iter().all(|got| got.1 == "firing"), "{:?}", host.got());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silences_and_acks_outlive_restarts_and_end_on_time() {
    let host = Host::new("").await;
    let cover = Cover { source: "", subject: "c*", severity: "critical" };
    let me = ("me", "I know");
    assert!(host.alerts.silence(cover, "1h", "", ("me", "")).await.is_err(), "needs a reason");
    let high = Cover { severity: "", ..cover };
    host.alerts.silence(high, "10h", "", me).await.unwrap();
    host.alerts.silence(cover, "1h", "", me).await.unwrap();
    host.hold(vec![condition("c1", Critical), condition("other", Critical)]);
    host.run(1_800, 60).await;
    assert!(host.got().iter().all(|got| got.2 == "other"), "{:?}", host.got());
    let host = host.restart(Duration::from_secs(1_200)).await;
    host.run(540, 60).await;
    assert!(host.got().iter().all(|got| got.2 == "other"), "still silenced");
    host.run(120, 60).await;
    assert!(
        host.got().contains(&told("sms", "firing", "c1")),
        "its time is over; what is critical is not covered by the other"
    );
    // Somebody takes care of it.
    let id = host.all().iter().find(|alert| alert.subject == "c1").unwrap().id.clone();
    host.forget();
    host.alerts.ack(&id, "6h", "", me).await.unwrap();
    host.step().await;
    assert_eq!(host.got(), [told("pagerduty", "acknowledged", "c1")]);
    let host = host.restart(Duration::from_secs(60)).await;
    host.forget();
    host.run(5 * 3_600 + 1_800, 300).await;
    assert!(host.got().iter().all(|got| got.2 == "other"), "{:?}", host.got());
    host.run(3_600, 300).await;
    assert!(host.got().contains(&told("sms", "repeat", "c1")), "the ack has ended by itself");
    // What is silenced after it was told is told to be over all the same.
    host.alerts.silence(cover, "10h", "", me).await.unwrap();
    host.forget();
    host.hold(Vec::new());
    host.run(60, 5).await;
    assert!(host.got().contains(&told("pagerduty", "resolved", "c1")));
    // A silence that is ended is over at once.
    let silence = host.alerts.silences(false).pop().unwrap();
    host.alerts.unsilence(&silence.id, "", me).await.unwrap();
    host.forget();
    host.hold(vec![condition("c1", Critical)]);
    host.step().await;
    assert!(host.got().contains(&told("sms", "firing", "c1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_alert_explains_is_told_only_when_that_is_over() {
    let host = Host::new("").await;
    let behind = |key: &str| crate::events::Condition {
        behind: vec![key.to_owned()],
        ..condition("api", Critical)
    };
    host.hold(vec![condition("db", Critical), behind("world/db")]);
    host.run(60, 5).await;
    assert!(host.got().iter().all(|got| got.2 == "db"));
    host.hold(vec![behind("world/db")]);
    host.run(60, 5).await;
    assert!(host.got().contains(&told("sms", "firing", "api")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_dead_for_two_minutes_hands_over_what_is_critical_and_says_so() {
    let host = Host::new("").await;
    host.always("pagerduty", Some(Sent::later("connection refused")));
    host.always("sms", Some(Sent::later("connection refused")));
    host.hold(vec![condition("c", Critical)]);
    host.run(115, 1).await;
    assert_eq!(host.got(), []);
    host.run(10, 1).await;
    let first = host.world.got.lock().unwrap()[0].clone();
    assert_eq!(
        (first.channel.as_str(), first.subjects.as_slice()),
        ("slack-critical", ["c".to_owned()].as_slice())
    );
    assert!(first.note.contains("which has not answered since"), "{}", first.note);
    host.run(120, 1).await;
    let handed = host.got().iter().filter(|got| got.1 == "firing" && got.2 == "c").count();
    assert_eq!(handed, 1, "one stands in for both: {:?}", host.got());
    let kinds = host.alerts.deliveries(100).unwrap();
    assert_eq!(kinds.iter().filter(|it| it.outcome == DeliveryOutcome::HandedOver).count(), 1);
    // That the channels are dead is an alert of its own, for others.
    assert!(
        host.got().iter().any(|got| got.0 == "slack-critical" && got.2.contains("pagerduty")),
        "{:?}",
        host.got()
    );
    // It lives again: what waited is delivered, once, and in order.
    host.always("pagerduty", None);
    host.forget();
    host.hold(Vec::new());
    host.run(400, 5).await;
    let pagerduty: Vec<_> = host.got().into_iter().filter(|got| got.0 == "pagerduty").collect();
    assert_eq!(pagerduty, [told("pagerduty", "firing", "c"), told("pagerduty", "resolved", "c")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_to_be_left_alone_is_and_what_is_critical_does_not_wait_for_that() {
    let host = Host::new("").await;
    let after = Some(HOUR);
    for channel in ["pagerduty", "sms"] {
        host.always(channel, Some(Sent::Later { after, why: "429".to_owned() }));
    }
    host.hold(vec![condition("a", Critical)]);
    host.step().await;
    host.hold(vec![condition("a", Critical), condition("b", Critical)]);
    host.run(115, 1).await;
    assert_eq!(host.got(), []);
    host.run(10, 1).await;
    let got = host.got();
    for subject in ["a", "b"] {
        assert!(got.contains(&told("slack-critical", "firing", subject)), "{got:?}");
    }
    let untried = |live: &crate::alerts::Live| {
        live.outbox.values().filter(|message| message.attempts == 0).count()
    };
    assert_eq!(untried(&host.alerts.live()), 2, "the second was not even tried");
    for channel in ["pagerduty", "sms"] {
        host.always(channel, None);
    }
    host.forget();
    host.run(3_600, 10).await;
    let got = host.got();
    for channel in ["pagerduty", "sms"] {
        for subject in ["a", "b"] {
            let times = got.iter().filter(|it| **it == told(channel, "firing", subject)).count();
            assert_eq!(times, 1, "{channel} {subject}: {got:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_channel_refuses_is_never_tried_again_goes_to_another_and_is_said() {
    let host = Host::new("").await;
    host.always("pagerduty", Some(Sent::never("400: invalid routing key")));
    host.hold(vec![condition("c", Critical)]);
    host.run(60, 1).await;
    assert!(host.got().contains(&told("slack-critical", "firing", "c")), "{:?}", host.got());
    assert!(host.got().contains(&told("slack-critical", "firing", "pagerduty")));
    let refused = host.alerts.deliveries(100).unwrap();
    assert_eq!(refused.iter().filter(|it| it.outcome == DeliveryOutcome::Refused).count(), 1);
    assert!(host.alerts.overview().channels[1].trouble.is_some(), "also in sight");
    let host = host.restart(Duration::from_secs(60)).await;
    host.run(60, 1).await;
    assert!(host.alerts.overview().firing.iter().any(|it| it.record.subject == "pagerduty"));
    assert!(host.alerts.test("pagerduty", "", ("me", "")).await.is_err());
    // A test that is accepted says that it is mended.
    host.always("pagerduty", None);
    host.alerts.test("pagerduty", "", ("me", "mended")).await.unwrap();
    host.run(2, 1).await;
    host.hold(Vec::new());
    host.run(60, 1).await;
    assert!(host.all().iter().all(|alert| !alert.open()), "{:?}", host.all());
    let pagerduty: Vec<_> = host.got().into_iter().filter(|got| got.0 == "pagerduty").collect();
    let wanted = [("test", ""), ("firing", "c"), ("resolved", "c")];
    assert_eq!(pagerduty, wanted.map(|(occasion, subject)| told("pagerduty", occasion, subject)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_has_to_be_mended_gets_what_it_missed_once_it_is() {
    for by_test in [false, true] {
        let host = Host::new("").await;
        host.always("pagerduty", Some(Sent::mend("401: mend its secret")));
        host.hold(vec![condition("c", Critical), condition("d", Critical)]);
        host.run(10, 1).await;
        assert!(host.got().contains(&told("slack-critical", "firing", "c")), "{:?}", host.got());
        host.run(3_600, 5).await;
        let overview = host.alerts.overview();
        let trouble = overview.channels.iter().find(|it| it.name == "pagerduty").unwrap();
        let trouble = trouble.trouble.clone().unwrap_or_default();
        assert!(trouble.0.contains("401: mend its secret"), "{trouble:?}");
        let attempts: u32 = host.alerts.live().outbox.values().map(|it| it.attempts).sum();
        assert!((10..=14).contains(&attempts), "one for all every five minutes: {attempts}");
        // It is known over a restart, which tries at once.
        let host = host.restart(Duration::from_secs(1)).await;
        host.run(3, 1).await;
        let firing = host.alerts.overview().firing;
        assert!(firing.iter().any(|it| it.record.subject == "pagerduty"), "{firing:?}");
        host.always("pagerduty", None);
        host.forget();
        if by_test {
            host.alerts.test("pagerduty", "", ("me", "mended")).await.unwrap();
            host.run(5, 1).await;
        } else {
            host.run(305, 5).await;
        }
        let got = host.got();
        for subject in ["c", "d"] {
            let times = got.iter().filter(|it| **it == told("pagerduty", "firing", subject));
            assert_eq!(times.count(), 1, "{got:?}");
        }
        host.run(60, 1).await;
        assert!(!host.all().iter().any(|it| it.open() && it.subject == "pagerduty"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_digest_holds_each_low_alert_exactly_once() {
    let host = Host::new("").await;
    // Sixty a day that come and go, one that stays.
    let mut expected = vec!["stays".to_owned()];
    for hour in 0..72 {
        let mut holds = vec![condition("stays", Low)];
        for number in 0..3 {
            let subject = format!("h{hour:02}-{number}");
            expected.push(subject.clone());
            holds.push(condition(&subject, Low));
        }
        host.hold(holds);
        host.run(3_600, 300).await;
    }
    let host = host.restart(Duration::from_secs(600)).await;
    // A clock that is set back makes no digest twice.
    host.clock.set(host.clock.now().checked_sub(SignedDuration::from_hours(30)).unwrap());
    host.hold(Vec::new());
    host.run(3 * 86_400, 1_800).await;
    let mut told: Vec<String> = Vec::new();
    for (channel, occasion, subjects) in host.got() {
        assert_eq!((channel.as_str(), occasion), ("digest", "digest"));
        told.extend(subjects.split(',').map(str::to_owned));
    }
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_wait_for_slack_and_what_is_critical_goes_at_once() {
    let host = Host::new("[alerts]\ncritical = [\"pagerduty\", \"slack-critical\"]\n").await;
    let many: Vec<_> = (0..1_000).map(|number| condition(&format!("h{number}"), High)).collect();
    host.hold(many.clone());
    host.step().await;
    host.clock.advance(Duration::from_secs(31));
    host.step().await;
    let mut all = many;
    all.push(condition("c", Critical));
    host.hold(all);
    for _ in 0..1_000 {
        host.clock.advance(Duration::from_millis(100));
        host.step().await;
        if host.alerts.overview().waiting == 0 {
            break;
        }
    }
    let got = host.world.got.lock().unwrap();
    let slack: Vec<_> = got.iter().filter(|got| got.channel == "slack-critical").collect();
    let paces = slack.windows(2).map(|pair| pair[1].at - pair[0].at);
    assert!(paces.min().unwrap() >= Duration::from_secs(1), "Slack's pace is kept");
    let told: usize = slack.iter().map(|got| got.subjects.len()).sum();
    assert_eq!(told, 1_001, "nobody is lost, nobody comes twice");
    let place = slack.iter().position(|got| got.subjects == ["c"]).unwrap();
    assert!(place <= 1, "not behind a thousand: {place}");
    let called = got.iter().find(|got| got.channel == "pagerduty").unwrap();
    assert!(called.at <= slack[1].at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_of_one_second_are_one_alert_for_each_key() {
    let host = Host::new("").await;
    let many = (0..10_000).map(|number| condition(&format!("k{}", number % 100), Critical));
    host.hold(many.collect());
    host.step().await;
    assert_eq!(host.all().len(), 100);
    assert_eq!(host.got().iter().filter(|got| got.0 == "pagerduty").count(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_a_send_and_its_record_sends_the_same_message_again() {
    let host = Host::new("").await;
    host.hold(vec![condition("c", Critical)]);
    host.alerts.look().await;
    host.alerts.dispatch().await;
    for _ in 0..100_000 {
        if host.got().len() == 2 {
            break;
        }
        tokio::task::yield_now().await;
    }
    // Both channels have it, and nobody has written that down.
    let host = host.restart(Duration::from_secs(5)).await;
    host.run(10, 1).await;
    let got = host.world.got.lock().unwrap().clone();
    for channel in ["pagerduty", "sms"] {
        let ids: Vec<_> =
            got.iter().filter(|got| got.channel == channel).map(|got| &got.message).collect();
        assert_eq!((ids.len(), ids[0] == ids[1]), (2, true), "{channel}: the same one again");
    }
    assert_eq!(host.all().len(), 1, "and it is the same alert");
    // It was over while the agent was down: whoever may have heard of it hears of that.
    host.hold(Vec::new());
    let host = host.restart(HOUR).await;
    host.run(60, 5).await;
    assert!(host.got().contains(&told("pagerduty", "resolved", "c")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_before_anybody_was_told_bothers_nobody_unless_it_was_critical() {
    let host = Host::new("").await;
    for channel in ["pagerduty", "sms", "slack-critical"] {
        host.always(channel, Some(Sent::later("down")));
    }
    host.hold(vec![condition("c", Critical), condition("h", High)]);
    host.run(10, 1).await;
    host.hold(Vec::new());
    host.run(60, 1).await;
    for channel in ["pagerduty", "sms", "slack-critical"] {
        host.always(channel, None);
    }
    host.run(100, 5).await;
    let mut got = host.got();
    got.sort();
    assert_eq!(
        got,
        [
            told("pagerduty", "firing", "c"),
            told("pagerduty", "resolved", "c"),
            told("sms", "firing", "c"),
            told("sms", "resolved", "c"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gets_worse_is_told_by_the_way_of_what_it_is_now() {
    let host = Host::new("").await;
    host.hold(vec![condition("x", High)]);
    host.run(60, 5).await;
    assert_eq!(host.got(), [told("slack-critical", "firing", "x")]);
    host.hold(vec![condition("x", Critical)]);
    host.step().await;
    assert!(host.got().contains(&told("pagerduty", "firing", "x")));
    assert_eq!(host.all().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_of_life_is_sent_as_long_as_the_agent_goes_round() {
    let host = Host::new("[alerts.heartbeat]\nchannel = \"sms\"\nevery = \"1m\"\n").await;
    host.run(600, 5).await;
    let beats = host.got();
    assert!((10..=11).contains(&beats.len()), "{beats:?}");
    assert!(beats.iter().all(|beat| *beat == told("sms", "heartbeat", "")));
    host.always("sms", Some(Sent::later("down")));
    host.run(200, 5).await;
    assert!(host.alerts.overview().firing.iter().any(|it| it.record.subject == "sms"));
}
