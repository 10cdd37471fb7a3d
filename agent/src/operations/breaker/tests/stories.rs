//! The breakers of a host, under a clock that the test moves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use genesis_storage::{BreakerState, Options, Store};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::config::{Config, Places};
use crate::events::{Bell, Severity, Source};
use crate::operations::breaker::judge::Report;
use crate::operations::breaker::life::Ended;
use crate::operations::breaker::report::Outcome;
use crate::operations::breaker::{Breakers, LIMIT, Metrics};
use crate::outside::{Clock, ManualClock, Outside};
use crate::state::State;

struct Host {
    _folder: TempDir,
    clock: Arc<ManualClock>,
    state: State,
    bell: Bell,
    breakers: Arc<Breakers>,
    sequence: u64,
}

const WHO: (&str, &str) = ("ada", "because");

fn open(state: &State, clock: &Arc<ManualClock>, bell: &Bell) -> Arc<Breakers> {
    let places = Places { state: "/s".into(), socket: "/s/a".into() };
    let config = Config::parse("[breaker]\nlearn_from = \"10\"\nrounds = \"3\"", "", &places);
    let outside = Outside { clock: Arc::clone(clock) as Arc<dyn Clock>, ..Outside::real() };
    let config = config.config.unwrap().breaker;
    Breakers::open(state.clone(), outside, config, Metrics::default(), bell.clone()).unwrap()
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.redb"), Options::default()).unwrap();
        let state = State::new(Arc::new(store), watch::channel(0).1);
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let bell = Bell::default();
        let breakers = open(&state, &clock, &bell);
        Self { _folder: folder, clock, state, bell, breakers, sequence: 0 }
    }

    /// As after a crash: what was in memory only is gone.
    fn restart(&mut self) {
        self.breakers = open(&self.state, &self.clock, &self.bell);
    }

    fn outcome(&self, operation: &'static str, calls: u64, failed: u64) -> Outcome<'static> {
        let (start, slow_after) = (self.clock.now(), Some(Duration::from_millis(100)));
        let report = Report {
            reporter: "r",
            sequence: self.sequence,
            start,
            calls,
            failed,
            slow: calls / 20,
            slow_after,
        };
        Outcome { operation, report, length: Duration::from_secs(1), rejected: 0, probes: vec![] }
    }

    async fn report(&mut self, operation: &'static str, calls: u64, failed: u64) {
        self.sequence += 1;
        self.breakers.report(&[self.outcome(operation, calls, failed)]).await.unwrap();
    }

    async fn ended(&mut self, operation: &'static str, probe: u64, ended: Ended) {
        self.sequence += 1;
        let outcome = Outcome { probes: vec![(probe, ended)], ..self.outcome(operation, 0, 0) };
        self.breakers.report(&[outcome]).await.unwrap();
    }

    async fn after(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        if self.breakers.look() {
            self.breakers.settle().await;
        }
    }

    fn is(&self, name: &str) -> BreakerState {
        self.breakers.get(name).unwrap().record.state
    }

    fn probes(&self, name: &str, wanted: u32) -> Vec<u64> {
        self.breakers.take_probes(name, wanted).unwrap().0
    }

    fn actions(&self) -> Vec<String> {
        let entries = self.state.read(|reading| Ok(reading.oplog().range(1, 10_000)?)).unwrap();
        entries.into_iter().map(|stored| stored.entry.action).collect()
    }
}

#[tokio::test]
async fn a_breaker_lives_through_failure_and_comes_back_by_probes_that_callers_share() {
    let mut host = Host::new();
    host.report("a", 100, 0).await;
    assert!(host.actions().is_empty(), "a report alone leaves no entry");
    assert!(host.probes("a", 5).is_empty(), "closed, it grants none");
    host.report("a", 100, 100).await;
    assert_eq!(host.is("a"), BreakerState::Open);
    let conditions = host.breakers.conditions().await.unwrap();
    let [condition] = &conditions[..] else { panic!("{conditions:?}") };
    assert_eq!((condition.key.as_str(), condition.severity), ("breaker/a", Severity::High));
    assert_eq!(condition.runbook, "api-degradation");
    assert!(host.bell.rung().now_or_never().is_some());
    host.after(29).await;
    assert_eq!((host.is("a"), host.probes("a", 1).len()), (BreakerState::Open, 0));
    host.after(1).await;
    assert_eq!(host.is("a"), BreakerState::HalfOpen);
    // Two callers ask for all they can get.
    let mut rounds = Vec::new();
    while host.is("a") == BreakerState::HalfOpen {
        let probes = [host.probes("a", 9), host.probes("a", 9)].concat();
        rounds.push(probes.len());
        for probe in probes {
            host.ended("a", probe, Ended::Passed).await;
        }
    }
    assert_eq!(rounds, [1, 2, 4]);
    let back = host.breakers.get("a").unwrap();
    assert_eq!(back.failed.sum, back.failed.limit / 2.0, "it is watched more closely");
    assert!(host.breakers.conditions().await.unwrap().is_empty());
    assert_eq!(host.actions(), ["breaker.opened", "breaker.half-opened", "breaker.closed"]);
}

#[tokio::test]
async fn a_failed_probe_opens_it_for_longer_under_the_same_condition() {
    let mut host = Host::new();
    host.report("a", 100, 100).await;
    for (seconds, key) in [(30, "breaker/a"), (60, "breaker/a"), (120, "breaker/a")] {
        host.after(seconds - 1).await;
        assert_eq!(host.is("a"), BreakerState::Open);
        host.after(1).await;
        assert_eq!(host.breakers.conditions().await.unwrap()[0].key, key);
        let probe = host.probes("a", 1)[0];
        host.ended("a", probe, Ended::Failed).await;
        assert_eq!(host.is("a"), BreakerState::Open);
        // Once more, of a probe that is done with: nothing.
        host.ended("a", probe, Ended::Passed).await;
        assert_eq!(host.is("a"), BreakerState::Open);
    }
}

#[tokio::test]
async fn a_report_that_comes_twice_or_while_it_is_open_counts_for_nothing() {
    let mut host = Host::new();
    host.sequence = 1;
    let outcome = host.outcome("a", 19, 19);
    for tally in [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0]] {
        assert_eq!(host.breakers.report(std::slice::from_ref(&outcome)).await.unwrap(), tally);
    }
    assert_eq!(host.is("a"), BreakerState::Closed, "19 failures, however often they are told");
    host.breakers.trip("a", "10s", "", WHO).await.unwrap();
    host.report("a", 1_000, 1_000).await;
    let (_, was_closed) = host.breakers.reset("a", false, "", WHO).await.unwrap();
    assert!(!was_closed);
    host.report("a", 19, 19).await;
    assert_eq!(host.is("a"), BreakerState::Closed, "it begins anew");
}

#[tokio::test]
async fn what_was_open_and_what_was_learned_outlive_the_agent() {
    let mut host = Host::new();
    for _ in 0..12 {
        host.report("a", 1_000, 10).await;
        host.after(60).await;
    }
    host.after(60).await;
    let usual = host.breakers.get("a").unwrap().slow.usual.unwrap();
    assert!((0.05..0.06).contains(&usual.share), "{usual:?}");
    host.breakers.trip("a", "", "", WHO).await.unwrap();
    host.breakers.trip("b", "1h", "", WHO).await.unwrap();
    host.restart();
    let view = host.breakers.get("a").unwrap();
    assert_eq!((view.record.state, view.record.by.as_str()), (BreakerState::Open, "ada"));
    assert_eq!((view.slow.usual, view.slow_after), (Some(usual), Some(Duration::from_millis(100))));
    host.after(3_599).await;
    assert_eq!(host.is("b"), BreakerState::Open);
    host.restart();
    host.after(1).await;
    assert_eq!((host.is("b"), host.is("a")), (BreakerState::HalfOpen, BreakerState::Open));
    // Half-open over a restart: the rounds begin anew, and old probes say nothing.
    let probe = host.probes("b", 1)[0];
    host.clock.advance(Duration::from_millis(1));
    host.restart();
    assert_eq!(host.probes("b", 1).len(), 1, "the new agent has a first probe of its own");
    host.ended("b", probe, Ended::Failed).await;
    assert_eq!(host.is("b"), BreakerState::HalfOpen);
    // Learned anew, it is unknown, also after a restart.
    host.breakers.reset("a", true, "", WHO).await.unwrap();
    host.restart();
    assert_eq!(host.breakers.get("a").unwrap().slow.usual, None);
}

#[tokio::test]
async fn there_is_room_for_a_thousand_and_only_the_silent_make_way() {
    let host = Host::new();
    let names: Vec<String> = (0..LIMIT).map(|number| format!("op-{number}")).collect();
    for names in names.chunks(250) {
        let outcomes: Vec<Outcome<'_>> = names
            .iter()
            .map(|name| Outcome { operation: name, ..host.outcome("x", 1, 0) })
            .collect();
        host.breakers.report(&outcomes).await.unwrap();
    }
    let more = [host.outcome("more", 1, 0)];
    let refused = host.breakers.report(&more).await.unwrap_err();
    assert_eq!(refused.code, "BREAKERS_FULL");
    host.breakers.trip("op-0", "", "", WHO).await.unwrap();
    host.clock.advance(Duration::from_secs(86_400));
    let heard: Vec<Outcome<'_>> = (1..200)
        .map(|number| Outcome { operation: &names[number], ..host.outcome("x", 1, 0) })
        .collect();
    host.breakers.report(&heard).await.unwrap();
    host.breakers.report(&[host.outcome("more", 1, 0)]).await.unwrap();
    let left: BTreeSet<String> =
        host.breakers.list().into_iter().map(|view| view.record.name).collect();
    assert_eq!(left.len(), LIMIT);
    assert!(left.contains("more") && left.contains("op-0") && left.contains("op-199"));
    assert!(host.actions().contains(&"breaker.forgotten".to_owned()));
}

#[tokio::test]
async fn of_reports_that_contradict_themselves_none_counts() {
    let host = Host::new();
    let good = host.outcome("good", 10, 1);
    let with = |change: fn(&mut Outcome<'_>)| {
        let mut outcome = host.outcome("bad", 10, 1);
        change(&mut outcome);
        outcome
    };
    for bad in [
        with(|it| it.operation = "a b"),
        with(|it| it.report.failed = 11),
        with(|it| it.report.slow = 11),
        with(|it| it.report.calls = u64::MAX),
        with(|it| it.rejected = u64::MAX),
        with(|it| it.report.reporter = ""),
        with(|it| it.length = Duration::from_secs(61)),
        with(|it| it.probes = vec![(1, Ended::Passed); 65_537]),
    ] {
        let error = host.breakers.report(&[good.clone(), bad]).await.unwrap_err();
        assert_eq!(error.code, "REPORT_INVALID");
    }
    let many = vec![good; 257];
    assert_eq!(host.breakers.report(&many).await.unwrap_err().code, "TOO_MANY_REPORTS");
    assert!(host.breakers.list().is_empty());
}

#[tokio::test]
async fn who_follows_hears_of_what_changed_and_of_nothing_else() {
    let host = Host::new();
    let changes = host.breakers.changes();
    host.breakers.report(&[host.outcome("a", 1, 0), host.outcome("b", 1, 0)]).await.unwrap();
    let all = BTreeSet::new();
    let (version, views) = host.breakers.since(0, &all);
    assert_eq!(views.len(), 2);
    assert!(host.breakers.since(version, &all).1.is_empty());
    host.breakers.trip("b", "", "", WHO).await.unwrap();
    host.breakers.reset("b", false, "", WHO).await.unwrap();
    host.breakers.trip("b", "1m", "", WHO).await.unwrap();
    assert!(changes.has_changed().unwrap());
    // Three changes between two looks are one, the latest.
    let (version, views) = host.breakers.since(version, &all);
    let [view] = &views[..] else { panic!("{views:?}") };
    assert_eq!((view.record.name.as_str(), view.record.opening), ("b", 2));
    assert!(host.breakers.since(version, &all).1.is_empty());
    let only = BTreeSet::from(["a".to_owned()]);
    assert_eq!(host.breakers.since(0, &only).1.len(), 1);
}
