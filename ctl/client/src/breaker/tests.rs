//! The breaker by its own counts, and what it makes of what the agent says. With an agent it is tested as a scenario.

use std::collections::BTreeMap;
use std::convert::Infallible;

use genesis_proto::v1;
use proptest::prelude::*;
use tower::{Layer, Service, ServiceExt};

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn policy() -> Policy {
    Policy { rounds: 3, ..Policy::default() }
}

/// Lets calls of which these fail go by, one each 100 ms; when it opens.
fn opens(local: &mut Local, calls: impl Iterator<Item = bool>) -> Option<usize> {
    let (mut totals, mut in_a_row) = (Totals::default(), 0);
    for (index, failed) in calls.enumerate() {
        totals.calls += 1;
        in_a_row = if failed { in_a_row + 1 } else { 0 };
        totals.failed += u64::from(failed);
        let now = Duration::from_millis(100 * index as u64);
        if failed && local.failed(totals, in_a_row, now) {
            return Some(index + 1);
        }
    }
    None
}

#[test]
fn failures_in_a_row_or_a_share_of_them_open_it() {
    let pattern = |period: usize, fails: usize| (0..400).map(move |i| i % period < fails);
    for (calls, opened) in [
        (pattern(1, 1), Some(5)),
        (pattern(2, 1), Some(21)),
        (pattern(3, 1), None),
        (pattern(4, 3), Some(21)),
        (pattern(10, 3), None),
        (pattern(10, 5), Some(5)),
    ] {
        let found = opens(&mut Local::new(policy()), calls.clone());
        assert_eq!(found, opened, "{:?}", calls.take(10).collect::<Vec<_>>());
    }
    // A burst in what is busy and well is no share of it.
    let mut local = Local::new(policy());
    for tenth in 0..100 {
        local.mark(Totals { calls: 100 * tenth, failed: 0 }, Duration::from_millis(100 * tenth));
    }
    let burst = (1..60).map(|n| Totals { calls: 10_000 + 2 * n, failed: n });
    burst.for_each(|totals| assert!(!local.failed(totals, 1, seconds(10)), "{totals:?}"));
    // Too few within the window: one failure of two, each 2 s.
    let mut local = Local::new(policy());
    for index in 0..100 {
        let totals = Totals { calls: 2 * index + 1, failed: index + 1 };
        assert!(!local.failed(totals, 1, seconds(2 * index)), "{index}");
    }
}

#[test]
fn it_comes_back_by_1_2_4_probes_and_opens_for_longer_when_one_fails() {
    let mut local = Local::new(policy());
    assert_eq!(opens(&mut local, (0..5).map(|_| true)), Some(5));
    let opened = local.until().unwrap();
    assert_eq!(local.admit(opened - seconds(30)), Admission::Reject(seconds(30)));
    let Admission::Probe(probe) = local.admit(opened) else { panic!("it lets one through") };
    assert_eq!(local.admit(opened), Admission::Reject(SOON));
    local.settle(probe, Some(false), opened);
    assert_eq!(local.until(), Some(opened + seconds(60)));
    let now = opened + seconds(60);
    let mut rounds = Vec::new();
    while local.state() != State::Closed {
        let mut probes = Vec::new();
        while let Admission::Probe(probe) = local.admit(now) {
            probes.push(probe);
        }
        rounds.push(probes.len());
        probes.iter().for_each(|probe| local.settle(*probe, Some(true), now));
    }
    assert_eq!(rounds, [1, 2, 4]);
    assert_eq!(local.admit(now), Admission::Pass);
}

proptest! {
    #[test]
    fn never_more_probes_than_the_round_admits(steps in proptest::collection::vec((0..4_u8, 0..6_usize, 0..4_u64), 0..300)) {
        let mut local = Local::new(policy());
        local.open_until(Duration::ZERO);
        let mut under_way: BTreeMap<u64, Duration> = BTreeMap::new();
        let mut now = Duration::ZERO;
        for (what, which, later) in steps {
            now += seconds(later);
            under_way.retain(|_, until| *until > now);
            if what < 2 {
                match local.admit(now) {
                    Admission::Pass => prop_assert_eq!(local.state(), State::Closed),
                    Admission::Reject(_) => {}
                    Admission::Probe(probe) => {
                        under_way.insert(probe, now + policy().probe_timeout);
                        let (size, passed, open) = local.round();
                        prop_assert_eq!(under_way.len(), open as usize);
                        prop_assert!(passed + open <= size && size <= 4);
                    }
                }
            } else if let Some(probe) = under_way.keys().nth(which).copied() {
                let passed = [None, Some(false), Some(true), Some(true)][(which + what as usize) % 4];
                local.settle(probe, passed, now);
                under_way.remove(&probe);
                if local.state() != State::HalfOpen { under_way.clear(); }
            }
        }
    }
}

fn said(state: v1::BreakerState, remaining: Option<u64>) -> v1::Breaker {
    let remaining = remaining.and_then(|remaining| seconds(remaining).try_into().ok());
    v1::Breaker { state: state.into(), remaining, ..Default::default() }
}

#[test]
fn what_the_agent_says_counts_and_outlives_it() {
    let breaker = Breaker::local(Settings::new("a"));
    let hear = |breaker: &v1::Breaker, now| {
        let said = breaker.clone();
        move |gate: &mut Gate| gate.hear(Some(&said), now)
    };
    let inner = &breaker.inner;
    let now = clock::monotonic();
    inner.change(hear(&said(v1::BreakerState::Open, Some(40)), now));
    let rejected = breaker.enter().unwrap_err();
    assert!(rejected.by_agent && rejected.retry_after > seconds(39), "{rejected:?}");
    assert!(rejected.to_string().contains("the breaker a is open, says the agent"), "{rejected}");
    // Half-open: only what was granted.
    inner.change(hear(&said(v1::BreakerState::HalfOpen, None), now));
    assert_eq!(breaker.enter().unwrap_err().retry_after, SOON);
    assert_eq!(inner.gate().wanted, 1);
    inner.change(|gate| gate.granted = vec![(7, now + seconds(9)), (8, now)]);
    let probe = breaker.enter().unwrap();
    assert_eq!(probe.ticket, Ticket::Granted(7), "what is overdue is none");
    assert!(breaker.enter().is_err());
    probe.finish(true);
    assert_eq!(inner.gate().results, [(7, Some(true))]);
    // Gone while it was open for a time: the breaker comes back by itself, by probes.
    inner.change(hear(&said(v1::BreakerState::Open, Some(0)), now));
    inner.change(|gate| gate.lose(now));
    assert_eq!(breaker.enter().unwrap().ticket, Ticket::Own(1));
    // By a person until a reset: it stays.
    inner.change(hear(&said(v1::BreakerState::Open, None), now));
    inner.change(|gate| gate.lose(now));
    assert!(breaker.enter().unwrap_err().by_agent);
    inner.change(hear(&said(v1::BreakerState::Closed, None), now));
    assert_eq!(breaker.status().state, State::HalfOpen, "what it opened itself runs its course");
}

#[test]
fn while_the_agent_is_there_it_is_the_judge() {
    let breaker = Breaker::local(Settings::new("a"));
    breaker.inner.change(|gate| gate.hear(None, seconds(0)));
    for _ in 0..100 {
        breaker.enter().unwrap().finish(false);
    }
    breaker.inner.change(|gate| gate.lose(seconds(0)));
    breaker.enter().unwrap().finish(false);
    assert_eq!(breaker.status().state, State::Open);
}

#[test]
fn a_call_that_is_given_up_counts_once_it_was_slow() {
    let slow_after = |slow_after| Settings { slow_after, ..Settings::new("a") };
    for (settings, state) in [
        (slow_after(Some(Duration::ZERO)), State::Open),
        (slow_after(Some(seconds(3_600))), State::Closed),
        (slow_after(None), State::Closed),
    ] {
        let breaker = Breaker::local(settings);
        (0..5).for_each(|_| drop(breaker.enter()));
        assert_eq!(breaker.status().state, state);
    }
}

#[tokio::test]
async fn without_an_agent_a_layer_breaks_and_recovers() {
    let short = Duration::from_millis(20);
    let policy = Policy { open_for: short, open_for_max: short, ..policy() };
    let breaker = Breaker::local(Settings { policy, ..Settings::new("orders") });
    let made = AtomicU32::new(0);
    let well = AtomicBool::new(false);
    let service = tower::service_fn(|(): ()| {
        made.fetch_add(1, Ordering::Relaxed);
        let status = if well.load(Ordering::Relaxed) { 200_u16 } else { 503 };
        async move { Ok::<_, Infallible>(status) }
    });
    let layer = breaker.layer().failing_if(|result: &Result<u16, Infallible>| *result != Ok(200));
    let mut service = layer.layer(service);
    let mut call = async || service.ready().await.unwrap().call(()).await;
    for _ in 0..5 {
        assert_eq!(call().await.unwrap(), 503);
    }
    let Err(BreakerError::Rejected(rejected)) = call().await else { panic!("it is open") };
    assert!(!rejected.by_agent && rejected.retry_after <= short);
    assert_eq!(made.load(Ordering::Relaxed), 5, "a rejected call is not made");
    tokio::time::sleep(short).await;
    assert_eq!(call().await.unwrap(), 503, "the probe fails");
    assert!(call().await.is_err());
    well.store(true, Ordering::Relaxed);
    tokio::time::sleep(short).await;
    for _ in 0..7 {
        assert_ne!(breaker.status().state, State::Closed);
        assert_eq!(call().await.unwrap(), 200);
    }
    assert_eq!(breaker.status().state, State::Closed);
    // What had failed before does not count any more.
    well.store(false, Ordering::Relaxed);
    for _ in 0..4 {
        call().await.unwrap();
    }
    assert_eq!(breaker.status().state, State::Closed);
}

#[test]
fn errors_of_the_service_stay_what_they_are() {
    let error: BreakerError<std::io::Error> = BreakerError::Inner(std::io::Error::other("boom"));
    assert_eq!(error.to_string(), "boom");
}
