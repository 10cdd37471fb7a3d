//! What alerts hear of health.

use std::sync::atomic::Ordering;

use super::host::{Host, check, watched};
use crate::events::{Condition, Severity, Source};

async fn told(host: &Host) -> Vec<Condition> {
    host.health.conditions().await.unwrap()
}

fn of<'a>(told: &'a [Condition], key: &str) -> Option<&'a Condition> {
    told.iter().find(|condition| condition.key.starts_with(key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_tried_first_wakes_nobody_before_it_was_in_vain() {
    let host = Host::new(&check("disk", "severity = \"critical\"\ncooldown = \"1s\"")).await;
    host.world.helps.store(false, Ordering::SeqCst);
    host.world.set("disk", Some(4.0));
    host.round().await;
    assert_eq!(told(&host).await, [], "a suspicion is nothing to tell");
    host.clock.advance(std::time::Duration::from_secs(30));
    host.minutes(1).await;
    let before = told(&host).await;
    let issue = of(&before, "health/issue/disk").unwrap();
    assert_eq!((issue.severity, issue.behind.len()), (Severity::High, 0));
    assert!(issue.details[0].contains("tried"), "{:?}", issue.details);
    while host.calls().is_empty() {
        host.minutes(1).await;
    }
    let after = told(&host).await;
    let incident = of(&after, "health/incident/").unwrap();
    assert_eq!((incident.severity, incident.subject.as_str()), (Severity::Critical, "disk"));
    assert!(incident.details.iter().any(|line| line.contains("attempt 3")), "what was tried");
    let issue = of(&after, "health/issue/disk").unwrap();
    assert_eq!(issue.behind, std::slice::from_ref(&incident.key), "one cause is one call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_critical_and_left_to_people_is_told_at_once_and_not_again_when_it_lasts() {
    let host = Host::new(&watched("disk", "severity = \"critical\"")).await;
    host.world.set("disk", Some(4.0));
    host.minutes(1).await;
    let at_once = told(&host).await;
    assert_eq!(of(&at_once, "health/issue/disk").unwrap().severity, Severity::Critical);
    host.minutes(20).await;
    assert_eq!(host.calls(), ["CRITICAL_TOO_LONG"]);
    let later = told(&host).await;
    let incident = of(&later, "health/incident/").unwrap();
    assert_eq!(incident.behind, ["health/issue/disk"]);
    assert_eq!(of(&later, "health/issue/disk").unwrap().behind, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependents_are_behind_their_root_and_what_cannot_be_told_is_said() {
    let checks = [watched("db", ""), watched("api", "depends_on = [\"db\"]"), watched("dim", "")];
    let host = Host::new(&checks.concat()).await;
    host.world.set("db", Some(4.0));
    host.world.set("api", Some(4.0));
    host.world.set("dim", None);
    host.minutes(2).await;
    let found = told(&host).await;
    let api = of(&found, "health/issue/api").unwrap();
    assert!(api.behind.contains(&"health/issue/db".to_owned()), "{:?}", api.behind);
    let unknown = of(&found, "health/unknown/dim").unwrap();
    assert!(unknown.title.contains("nobody knows"), "{}", unknown.title);
}
