//! What holds actions back over hours and days, in simulated time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::host::{Host, check, watched};

const MINUTE: Duration = Duration::from_secs(60);

/// Makes a check fail and looks until it was acted on and has recovered; whether it was acted on.
async fn fails_once(host: &Host, id: &str) -> bool {
    let before = host.world.acts();
    host.world.set(id, Some(4.0));
    host.minutes(1).await;
    host.world.set(id, Some(50.0));
    host.minutes(2).await;
    host.world.acts() > before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_action_may_be_taken_ten_times_a_day_however_often_it_helps() {
    let host = Host::new(&check("disk", "")).await;
    for time in 1..=10 {
        assert!(fails_once(&host, "disk").await, "time {time}");
        host.clock.advance(27 * MINUTE);
    }
    host.world.set("disk", Some(4.0));
    host.minutes(2).await;
    assert_eq!((host.world.acts(), host.denied("disk")), (10, vec!["BUDGET".to_owned()]));
    let (_, issue) = host.health.open_issue("disk").unwrap();
    assert!(issue.denials[0].message.contains("10 attempts of it within a day"));
    // A day after the first one there is room for another.
    host.world.set("disk", Some(50.0));
    host.minutes(2).await;
    host.clock.advance(20 * 60 * MINUTE);
    assert!(fails_once(&host, "disk").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_has_twenty_actions_a_day_however_many_checks_ask() {
    let ids: Vec<String> = (0..7).map(|number| format!("disk-{number}")).collect();
    let checks: String = ids.iter().map(|id| check(id, "")).collect();
    let host = Host::new(&checks).await;
    for time in 0..20 {
        assert!(fails_once(&host, &ids[time % 7]).await, "time {time}");
        host.clock.advance(10 * MINUTE);
    }
    host.world.set("disk-6", Some(4.0));
    host.minutes(2).await;
    assert_eq!((host.world.acts(), host.denied("disk-6")), (20, vec!["BUDGET".to_owned()]));
    let (_, issue) = host.health.open_issue("disk-6").unwrap();
    assert!(issue.denials[0].message.contains("20 attempts on this host within a day"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_back_is_done_once_in_a_quarter_of_an_hour() {
    let checks = ["a", "b"].map(|id| check(id, "destructive = \"yes\""));
    let host = Host::new(&(checks.concat() + &check("c", ""))).await;
    assert!(fails_once(&host, "a").await);
    host.world.set("b", Some(4.0));
    host.minutes(8).await;
    assert_eq!((host.world.acts(), host.denied("b")), (1, vec!["BUDGET".to_owned()]));
    // What can be taken back is not held up by that.
    assert!(fails_once(&host, "c").await);
    host.minutes(5).await;
    assert_eq!(host.world.acts(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_done_about_what_was_found_long_ago() {
    let host = Host::new(&check("disk", "")).await;
    host.world.set("disk", Some(4.0));
    host.round().await;
    let check = host.health.known_check("disk").unwrap();
    let look = host.health.look(&check).await;
    // Whatever kept it: it says how things were more than two intervals ago.
    host.clock.advance(Duration::from_secs(61));
    host.health.take_in(vec![(Arc::clone(&check), look)]).await;
    host.idle().await;
    assert_eq!((host.world.acts(), host.denied("disk")), (0, vec!["STALE_SIGNAL".to_owned()]));
    host.round().await;
    assert_eq!(host.world.acts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_people_were_called_they_are_waited_for() {
    let host = Host::new(&check("disk", "cooldown = \"1s\"")).await;
    host.world.helps.store(false, Ordering::SeqCst);
    host.world.set("disk", Some(4.0));
    while host.attempts("disk").is_empty() {
        host.minutes(1).await;
    }
    host.health.flag("disk", "", ("me", "look at that")).await.unwrap();
    host.minutes(20).await;
    assert_eq!((host.world.acts(), host.denied("disk")), (1, vec!["ESCALATED".to_owned()]));
    host.health.ack("disk", false, "", ("me", "I am on it")).await.unwrap();
    host.minutes(2).await;
    assert!(host.world.acts() > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_checks_are_doubted_nobody_is_called_about_one_of_them() {
    let ids = ["a", "b", "c", "d", "e", "f", "g"];
    let host = Host::new(&ids.map(|id| watched(id, "")).concat()).await;
    host.round().await;
    for id in ids {
        host.world.set(id, Some(4.0));
    }
    // Longer than it takes to be critical for too long.
    host.minutes(20).await;
    assert_eq!(host.calls(), ["CHECKER_SUSPECT"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_doubt_is_over_what_is_left_is_looked_at_once_more_before_people_are_called() {
    let ids = ["a", "b", "c", "d", "e", "f", "g"];
    let host = Host::new(&ids.map(|id| watched(id, "")).concat()).await;
    host.round().await;
    for id in ids {
        host.world.set(id, Some(4.0));
    }
    host.minutes(2).await;
    for id in &ids[..4] {
        host.world.set(id, Some(50.0));
    }
    host.round().await;
    assert!(host.health.holds().is_empty());
    assert_eq!(host.calls(), ["CHECKER_SUSPECT"], "the others may be about to recover as well");
    host.minutes(2).await;
    assert_eq!(host.calls(), ["CHECKER_SUSPECT", "CASCADE"]);
}
