use jiff::SignedDuration;

use super::*;
use crate::operations::health::tests::host::{Host, watched};

#[test]
fn the_worst_look_decides_and_what_is_not_known_is_not_good() {
    let look = |id: &str, status| (id.to_owned(), status, "why".to_owned());
    let (ok, unknown) = (look("a", Status::Ok), look("b", Status::Unknown));
    let (warn, crit) = (look("c", Status::Warn), look("d", Status::Crit));
    for (looks, expected, first) in [
        (vec![], Verdict::Unknown, "there is no check"),
        (vec![ok.clone()], Verdict::Good, "1 checks are ok"),
        (vec![ok.clone(), unknown.clone()], Verdict::Unknown, "b unknown: why"),
        (vec![ok.clone(), warn.clone()], Verdict::Good, "c WARN: why"),
        (vec![warn.clone(), unknown.clone()], Verdict::Unknown, "b unknown: why"),
        (vec![warn, crit, unknown, ok], Verdict::Bad, "d CRIT: why"),
    ] {
        let (health, told) = verdict(&looks);
        assert_eq!((health, told[0].as_str()), (expected, first), "{looks:?}");
    }
}

#[test]
fn a_host_does_well_again_once_each_check_was_found_so_since() {
    let look = |minute: u64, status| {
        let at = Duration::from_mins(minute);
        Some((at, ("a".to_owned(), status, String::new())))
    };
    let since = Duration::from_mins(10);
    for (looks, expected) in [
        (vec![], false),
        (vec![look(11, Status::Ok)], true),
        (vec![look(11, Status::Ok), None], false),
        (vec![look(11, Status::Ok), look(9, Status::Ok)], false),
        (vec![look(11, Status::Ok), look(12, Status::Ok)], true),
        (vec![look(11, Status::Ok), look(12, Status::Unknown)], false),
        (vec![look(11, Status::Ok), look(12, Status::Warn)], true),
        (vec![look(11, Status::Ok), look(12, Status::Crit)], false),
    ] {
        let well = well_since(looks.clone().into_iter(), since);
        assert_eq!(well, expected, "{looks:?}");
    }
}

#[test]
fn checks_are_told_by_their_names() {
    for (check, component, expected) in [
        ("connections:orders", "database:orders", true),
        ("connections:orders2", "database:orders", false),
        ("certificate:api", "certificate:api", true),
        ("agent", "state", true),
        ("agent", "config", false),
        ("service:api", "dependencies:api", true),
        ("api", "dependencies:api", true),
        ("api2", "dependencies:api", false),
        ("latency:orders.place", "baseline:orders.place", true),
        ("pnl:mm", "parameter:mm.size", true),
        ("pnl:size", "parameter:mm.size", false),
        ("api", "certificate:api", false),
        ("orders", "database:orders", false),
    ] {
        assert_eq!(looks_at(check, component), expected, "{check} {component}");
    }
}

#[test]
fn an_incident_says_what_came_of_a_rollback_and_is_over_only_where_that_is_well() {
    use RollbackOutcome::{Done, Failed, Staged, Unknown};
    let now = Timestamp::from_second(100).unwrap();
    let what = |component: &str, outcome| RollbackRecord {
        id: "01R".into(),
        component: component.into(),
        from: "live".into(),
        to: "01B".into(),
        by: "olga".into(),
        outcome,
        ..RollbackRecord::default()
    };
    let told =
        |health, undo: &str| Told { seen: "seen".into(), health, found: vec![], undo: undo.into() };
    for (component, outcome, health, title) in [
        ("config", Done, Some(Verdict::Good), "config was rolled back, by olga"),
        ("config", Failed, Some(Verdict::Good), "config was not rolled back: it is as before"),
        ("config", Unknown, Some(Verdict::Bad), "what it is at is not known"),
        ("database:o", Done, Some(Verdict::Good), "restored beside what runs, which is as it"),
        ("state", Staged, None, "state is about to be rolled back, when the agent starts next"),
    ] {
        let well = (outcome == Done).then_some(now);
        let made = documented(None, &what(component, outcome), &told(health, ""), well);
        assert!(made.title.contains(title), "{made:?}");
        assert_eq!(made.over_at, well, "{made:?}");
        assert!(!made.details.iter().any(|it| it.starts_with(UNDO)), "{made:?}");
        assert_eq!((made.id.as_str(), made.subject.as_str()), ("01R", component));
    }
    // Once it has taken effect it goes on in the same one, and is undone otherwise.
    let staged = what("state", Staged);
    let first = documented(None, &staged, &told(None, "withdraw"), None);
    let done = what("state", Done);
    let ill = documented(Some(&first), &done, &told(Some(Verdict::Bad), "go back"), None);
    assert!(ill.open() && ill.severity == "high", "{ill:?}");
    let undo: Vec<_> = ill.details.iter().filter(|it| it.starts_with(UNDO)).collect();
    assert_eq!(undo, ["to undo it: go back"]);
    assert!(ill.details[0].contains("from live to 01B"), "{ill:?}");
    // What a person has ended stays as it was ended.
    let ended = IncidentRecord {
        over_at: Some(Timestamp::from_second(50).unwrap()),
        resolution: "by hand".into(),
        ..first
    };
    let again = documented(Some(&ended), &done, &told(Some(Verdict::Good), ""), Some(now));
    assert_eq!((again.over_at, again.resolution.as_str()), (ended.over_at, "by hand"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_is_over_once_the_host_does_well_whatever_the_wall_clock_does() {
    for step in [0, 1, -1] {
        let host = Host::new(&watched("disk", "")).await;
        host.round().await;
        host.world.set("disk", Some(4.0));
        let (state, clock) = (host.state.clone(), Arc::clone(&host.clock) as Arc<dyn Clock>);
        let after = AfterRollback::new(Arc::clone(&host.health), state, clock);
        let what = RollbackRecord {
            id: "01R".into(),
            component: "config".into(),
            by: "olga".into(),
            outcome: RollbackOutcome::Done,
            at: host.clock.now(),
            ended_at: Some(host.clock.now()),
            ..RollbackRecord::default()
        };
        let made = after.rolled_back(&what, "seen", "").await;
        assert_eq!((made.health, made.over), (Some(Verdict::Bad), false), "{made:?}");
        let now = host.clock.now().checked_add(SignedDuration::from_hours(step)).unwrap();
        host.clock.set(now);
        assert!(!after.is_over(&what).await.unwrap(), "it was well before, and is not");
        host.minutes(1).await;
        assert!(!after.is_over(&what).await.unwrap(), "it is ill");
        host.world.set("disk", Some(50.0));
        host.minutes(1).await;
        assert!(after.is_over(&what).await.unwrap(), "{step} h");
        let incident = after.incident("01R").unwrap().unwrap();
        assert_eq!(incident.resolution, "it is back, and the host does well by now");
    }
}
