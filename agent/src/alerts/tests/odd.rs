//! Turns that seldom come together, and must not cost anybody a call.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::SignedDuration;

use super::host::{Host, condition};
use super::stories::told;
use crate::alerts::plan::{OPEN_LIMIT, OVER_LIMIT};
use crate::alerts::verbs::Cover;
use crate::events::Condition;
use crate::events::Severity::{Critical, High, Low, Medium};
use crate::outside::Clock;
use crate::outside::notify::Sent;

const DAY: u64 = 86_400;

fn refused() -> Option<Sent> {
    Some(Sent::later("connection refused"))
}

/// How often a channel got this.
fn times(host: &Host, channel: &str, occasion: &'static str, subject: &str) -> usize {
    host.got().iter().filter(|got| **got == told(channel, occasion, subject)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_another_message_and_is_over_is_not_sent_any_more() {
    let host = Host::new("").await;
    host.hold(vec![condition("h", High)]);
    host.alerts.look().await;
    host.clock.advance(Duration::from_secs(31));
    host.alerts.look().await;
    assert_eq!(host.alerts.overview().waiting, 1);
    host.alerts.live().sending.insert("slack-critical".to_owned());
    host.hold(Vec::new());
    for _ in 0..40 {
        host.alerts.look().await;
        host.clock.advance(Duration::from_secs(1));
    }
    host.alerts.live().sending.clear();
    host.run(60, 1).await;
    assert_eq!(host.got(), [], "who was never told need not hear that it is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_every_channel_is_in_trouble_the_first_to_come_back_calls() {
    let host = Host::new("").await;
    for channel in ["pagerduty", "sms"] {
        host.always(channel, Some(Sent::never("400: no such key")));
    }
    for channel in ["slack-critical", "slack-alerts", "digest"] {
        host.always(channel, refused());
    }
    // They are in trouble before it begins.
    for channel in ["slack-critical", "slack-alerts", "digest"] {
        assert!(host.alerts.test(channel, "", ("me", "")).await.is_err());
    }
    host.hold(vec![condition("c", Critical)]);
    host.run(20, 1).await;
    assert_eq!(host.got(), []);
    host.always("slack-critical", None);
    host.run(300, 1).await;
    assert_eq!(times(&host, "slack-critical", "firing", "c"), 1, "{:?}", host.got());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knew_a_milder_form_is_no_stand_in() {
    let host = Host::new("").await;
    host.hold(vec![condition("c", Medium)]);
    host.run(40, 1).await;
    assert_eq!(times(&host, "slack-alerts", "firing", "c"), 1);
    for channel in ["pagerduty", "sms"] {
        host.always(channel, refused());
    }
    host.hold(vec![condition("c", Critical)]);
    host.run(140, 1).await;
    assert_eq!(times(&host, "slack-critical", "firing", "c"), 1, "{:?}", host.got());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_critical_finds_room_beside_whatever_is_mild() {
    let host = Host::new("").await;
    let mut many: Vec<Condition> =
        (0..OPEN_LIMIT + 5).map(|number| condition(&format!("l{number}"), Low)).collect();
    many.push(condition("c", Critical));
    host.hold(many);
    host.run(35, 5).await;
    assert_eq!(times(&host, "pagerduty", "firing", "c"), 1);
    // That there is no room is said, too.
    assert!(host.got().iter().any(|got| got.0 == "slack-critical" && got.2 == "alerts"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gets_worse_is_news_to_those_who_know_it_and_to_who_took_care_of_it() {
    let routes = "critical = [\"slack-alerts\"]\nhigh = [\"slack-alerts\"]";
    let host = Host::new(&format!("[alerts]\n{routes}\n")).await;
    host.hold(vec![condition("c", Medium)]);
    host.run(40, 1).await;
    let id = host.all()[0].id.clone();
    host.alerts.ack(&id, "8h", "", ("olga", "tomorrow")).await.unwrap();
    assert!(host.alerts.view(host.all()[0].clone()).acked);
    host.always("slack-alerts", refused());
    host.hold(vec![condition("c", High)]);
    host.run(5, 1).await;
    assert!(!host.alerts.view(host.all()[0].clone()).acked, "of that nobody takes care");
    // It waits, and is urgent as soon as it is critical: somebody else is called in time.
    host.hold(vec![condition("c", Critical)]);
    host.run(150, 1).await;
    assert_eq!(times(&host, "digest", "firing", "c") + times(&host, "pagerduty", "firing", "c"), 1);
    host.always("slack-alerts", None);
    host.run(400, 5).await;
    assert!(times(&host, "slack-alerts", "firing", "c") >= 2, "{:?}", host.got());
    // What it was once told as is enough from then on.
    host.forget();
    for severity in [Medium, Critical, High, Critical] {
        host.hold(vec![condition("c", severity)]);
        host.run(40, 1).await;
    }
    assert_eq!(times(&host, "slack-alerts", "firing", "c"), 0, "{:?}", host.got());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_ahead_before_a_reboot_mutes_nobody() {
    let host = Host::new("").await;
    let right = host.clock.now();
    host.clock.set(right.checked_add(SignedDuration::from_hours(24 * 700)).unwrap());
    let cover = Cover { source: "", subject: "s*", severity: "critical" };
    host.alerts.silence(cover, "1h", "", ("me", "work")).await.unwrap();
    for channel in ["pagerduty", "sms"] {
        host.always(channel, refused());
    }
    host.hold(vec![condition("c", Critical), condition("s", Critical), condition("h", High)]);
    host.run(10, 1).await;
    host.clock.set(right);
    host.clock.reboot();
    let host = host.restart(Duration::from_secs(60)).await;
    host.run(40, 1).await;
    assert_eq!(
        times(&host, "slack-critical", "firing", "h"),
        1,
        "its group has waited long enough"
    );
    host.always("pagerduty", None);
    host.run(300, 1).await;
    assert_eq!(times(&host, "pagerduty", "firing", "c"), 1);
    assert_eq!(times(&host, "pagerduty", "firing", "s"), 0);
    host.run(3_700, 10).await;
    assert_eq!(times(&host, "pagerduty", "firing", "s"), 1, "the silence has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_told_hears_of_its_end_however_long_the_channel_is_away_and_so_does_who_reads_digests()
 {
    let host = Host::new("").await;
    host.hold(vec![condition("c", Critical), condition("l", Low)]);
    host.run(10, 1).await;
    assert_eq!(times(&host, "pagerduty", "firing", "c"), 1);
    host.always("pagerduty", refused());
    host.always("digest", refused());
    host.hold(vec![condition("never", Critical), condition("l", Low)]);
    host.run(600, 10).await;
    host.hold(Vec::new());
    host.run(3 * DAY, 300).await;
    host.always("pagerduty", None);
    host.always("digest", None);
    host.run(600, 10).await;
    assert_eq!(times(&host, "pagerduty", "resolved", "c"), 1, "{:?}", host.got());
    assert_eq!(times(&host, "pagerduty", "firing", "never"), 0, "that is old news");
    assert_eq!(times(&host, "digest", "digest", "l"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_that_is_refused_tells_it_the_next_day() {
    let host = Host::new("").await;
    host.hold(vec![condition("l", Low)]);
    host.step().await;
    host.always("digest", Some(Sent::never("552: too big")));
    host.run(DAY, 600).await;
    host.always("digest", None);
    host.run(DAY, 600).await;
    assert_eq!(times(&host, "digest", "digest", "l"), 1, "{:?}", host.got());
    host.run(2 * DAY, 600).await;
    assert_eq!(times(&host, "digest", "digest", "l"), 1, "{:?}", host.got());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_in_the_look_that_makes_the_digest_stays_ended() {
    let host = Host::new("").await;
    host.hold(vec![condition("l", Low)]);
    host.step().await;
    host.hold(Vec::new());
    host.step().await;
    // Down over the hour of the digest: the first look ends it and makes the digest.
    let host = host.restart(Duration::from_secs(DAY)).await;
    host.always("digest", refused());
    host.step().await;
    assert!(host.all().iter().all(|alert| !alert.open()), "{:?}", host.all());
    host.hold(vec![condition("l", Low)]);
    host.step().await;
    let host = host.restart(Duration::from_secs(1)).await;
    assert_eq!(host.all().iter().filter(|alert| alert.open()).count(), 1);
    host.always("digest", None);
    host.run(400, 10).await;
    assert_eq!(times(&host, "digest", "digest", "l"), 1, "{:?}", host.got());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_a_year_ahead_for_a_moment_does_not_end_the_digests() {
    let host = Host::new("").await;
    host.step().await;
    let right = host.clock.now();
    host.clock.set(right.checked_add(SignedDuration::from_hours(24 * 365)).unwrap());
    host.step().await;
    host.clock.set(right);
    host.hold(vec![condition("l", Low)]);
    let host = host.restart(Duration::from_secs(1)).await;
    host.run(2 * DAY, 600).await;
    assert_eq!(times(&host, "digest", "digest", "l"), 1, "{:?}", host.got());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_does_not_pile_up_before_a_channel_that_is_away() {
    let host = Host::new("").await;
    host.always("slack-critical", refused());
    let rounds = 4;
    for round in 0..rounds {
        let many = (0..OVER_LIMIT / 2).map(|number| condition(&format!("{round}-{number}"), High));
        host.hold(many.collect());
        // Some of them are tried, and may be known.
        host.run(60, 10).await;
        for message in host.alerts.live().outbox.values_mut() {
            message.attempts = message.attempts.max(1);
        }
        host.hold(Vec::new());
        host.run(60, 20).await;
    }
    let waiting = host.alerts.overview().waiting;
    assert!((OVER_LIMIT / 2..=OVER_LIMIT).contains(&waiting), "{waiting}");
    let dropped = host.alerts.deliveries(10).unwrap();
    assert!(dropped[0].detail.contains("too much else waits"), "{dropped:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_speaks_of_any_more_is_over() {
    let host = Host::new("").await;
    host.hold(vec![condition("c", Critical)]);
    host.step().await;
    host.alerts.live().firing.values_mut().for_each(|alert| alert.source = "gone".to_owned());
    host.hold(Vec::new());
    host.run(60, 5).await;
    assert_eq!(times(&host, "pagerduty", "resolved", "c"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_is_not_overwritten_by_what_was_to_be_written_before() {
    let host = Host::new("").await;
    host.hold(vec![condition("c", Critical)]);
    host.step().await;
    let alert = host.all()[0].clone();
    host.alerts.live().unwritten.alert(&alert);
    host.alerts.ack(&alert.id, "1h", "", ("olga", "on it")).await.unwrap();
    host.step().await;
    let host = host.restart(Duration::from_secs(1)).await;
    assert!(host.alerts.view(host.all()[0].clone()).acked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defect_in_a_source_ends_nothing() {
    let host = Host::new("").await;
    host.hold(vec![condition("c", Critical)]);
    host.step().await;
    host.world.panics.store(true, Ordering::Relaxed);
    host.run(120, 5).await;
    assert!(host.all()[0].open());
    host.world.panics.store(false, Ordering::Relaxed);
    host.hold(Vec::new());
    host.run(60, 5).await;
    assert_eq!(times(&host, "pagerduty", "resolved", "c"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_refuses_to_hear_of_it_while_its_end_waits_hears_of_neither() {
    let host = Host::new("").await;
    let later = Sent::Later { after: Some(Duration::from_secs(60)), why: "503".to_owned() };
    let says = [later, Sent::never("400: no such key")];
    host.world.says.lock().unwrap().insert("pagerduty".to_owned(), says.into());
    host.hold(vec![condition("c", Critical)]);
    host.run(2, 1).await;
    host.hold(Vec::new());
    host.run(200, 1).await;
    assert!(host.got().iter().all(|got| got.0 != "pagerduty"), "{:?}", host.got());
    assert_eq!(host.alerts.overview().waiting, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_were_left_open_under_one_key_the_newer_one_goes_on() {
    let host = Host::new("").await;
    host.hold(vec![condition("c", Critical)]);
    host.step().await;
    let newer = host.all()[0].clone();
    let id = "01AAAAAAAAAAAAAAAAAAAAAAAA".to_owned();
    let older = genesis_storage::AlertRecord { id: id.clone(), told: Vec::new(), ..newer.clone() };
    host.alerts.live().unwritten.alert(&older);
    host.step().await;
    let host = host.restart(Duration::from_secs(1)).await;
    host.forget();
    host.run(5, 1).await;
    let open: Vec<String> =
        host.all().into_iter().filter(|alert| alert.open()).map(|alert| alert.id).collect();
    assert_eq!(open, [newer.id], "the one that people know");
    assert_eq!(host.got(), [], "nobody is told anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_when_its_first_alert_has_waited_long_enough() {
    let host = Host::new("").await;
    host.hold(vec![condition("a", High)]);
    host.run(20, 1).await;
    host.hold(vec![condition("a", High), condition("b", High)]);
    host.run(60, 1).await;
    assert_eq!(host.got(), [told("slack-critical", "firing", "a,b")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_takes_care_of_or_silences_is_told_to_nobody_else_until_that_ends() {
    for silenced in [false, true] {
        let host = Host::new("").await;
        for channel in ["pagerduty", "sms"] {
            host.always(channel, refused());
        }
        host.hold(vec![condition("c", Critical), condition("other", Critical)]);
        host.run(3, 1).await;
        let id = host.all().into_iter().find(|alert| alert.subject == "c").unwrap().id;
        let cover = Cover { source: "", subject: "c", severity: "critical" };
        match silenced {
            true => drop(host.alerts.silence(cover, "1h", "", ("olga", "known")).await.unwrap()),
            false => drop(host.alerts.ack(&id, "1h", "", ("olga", "on it")).await.unwrap()),
        }
        host.run(300, 1).await;
        for channel in ["pagerduty", "sms"] {
            host.always(channel, None);
        }
        host.run(400, 1).await;
        let about = |host: &Host| host.got().into_iter().filter(|got| got.2 == "c").count();
        assert_eq!(about(&host), 0, "{:?}", host.got());
        assert_eq!(times(&host, "slack-critical", "firing", "other"), 1, "{:?}", host.got());
        assert_eq!(times(&host, "pagerduty", "firing", "other"), 1, "{:?}", host.got());
        // What is still so then is told.
        host.run(3_600, 10).await;
        assert_eq!(times(&host, "pagerduty", "firing", "c"), 1, "{:?}", host.got());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_channel_is_told_to_one_that_is_well() {
    let host = Host::new("").await;
    host.always("slack-critical", Some(Sent::mend("401: mend its secret")));
    assert!(host.alerts.test("slack-critical", "", ("me", "")).await.is_err());
    host.always("pagerduty", refused());
    host.hold(vec![condition("c", Critical)]);
    host.run(200, 1).await;
    for troubled in ["slack-critical", "pagerduty"] {
        let heard = host.got().iter().any(|got| got.0 == "sms" && got.2.contains(troubled));
        assert!(heard, "{troubled}: {:?}", host.got());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_answers_again_gets_at_once_what_waits_for_it() {
    let host = Host::new("").await;
    host.always("sms", Some(Sent::later("451")));
    host.hold(vec![condition("a", Critical)]);
    host.run(700, 1).await;
    let wait = |host: &Host| {
        let live = host.alerts.live();
        live.outbox.values().map(|it| it.wait).max().unwrap_or_default()
    };
    assert_eq!(wait(&host), crate::alerts::plan::BACK_OFF.1);
    // One that is new is tried at once, and finds it well again.
    host.always("sms", None);
    host.forget();
    host.hold(vec![condition("a", Critical), condition("b", Critical)]);
    host.run(5, 1).await;
    let mut got: Vec<_> = host.got().into_iter().filter(|it| it.0 == "sms").collect();
    got.sort();
    assert_eq!(got, ["a", "b"].map(|subject| told("sms", "firing", subject)));
    assert_eq!(wait(&host), Duration::ZERO, "nothing waits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_that_a_channel_does_not_take_is_not_tried_more_often_for_others_that_it_takes()
{
    let host = Host::new("").await;
    *host.world.balks_at.lock().unwrap() = Some(("sms".to_owned(), "a".to_owned()));
    host.hold(vec![condition("a", Critical)]);
    host.step().await;
    for number in 0..20 {
        let more = (0..=number).map(|number| condition(&format!("b{number}"), Critical));
        host.hold(more.chain([condition("a", Critical)]).collect());
        host.run(5, 1).await;
    }
    let got = host.got().into_iter().filter(|it| it.0 == "sms").count();
    assert_eq!(got, 20, "all others");
    let live = host.alerts.live();
    let it = live.outbox.values().find(|it| it.channel == "sms").unwrap();
    assert!(it.attempts <= 7, "after 2, 4, 8 ... 64 s: {}", it.attempts);
}
