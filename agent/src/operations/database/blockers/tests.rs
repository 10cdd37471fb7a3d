//! Who is at the root, who may be ended, and in which order.

use jiff::{SignedDuration, Timestamp};

use super::*;

fn now() -> Timestamp {
    "2026-03-02T08:00:00.000001Z".parse().unwrap()
}

fn ago(seconds: i64) -> Option<Timestamp> {
    now().checked_sub(SignedDuration::from_secs(seconds)).ok()
}

fn session(pid: i32, state: &str, seconds: i64) -> Backend {
    Backend {
        pid,
        backend_start: ago(10_000),
        xact_start: (state != "idle").then(|| ago(seconds)).flatten(),
        state_change: ago(seconds),
        user: "app".to_owned(),
        database: "trades".to_owned(),
        application: "desk".to_owned(),
        client: String::new(),
        kind: "client backend".to_owned(),
        state: state.to_owned(),
        query: "UPDATE t".to_owned(),
        marked: false,
        replicates: false,
        may_end: true,
        waits_for: Vec::new(),
        waiting_since: None,
        prepared: Vec::new(),
    }
}

fn waits(pid: i32, whom: &[i32], seconds: i64) -> Backend {
    let waiting_since = ago(seconds);
    Backend { waits_for: whom.to_vec(), waiting_since, ..session(pid, "active", seconds) }
}

fn look(backends: Vec<Backend>) -> Look {
    Look { now: now(), max: 20, reserved: 0, deadlocks: 0, backends, prepared: Vec::new() }
}

fn pids(shown: &[Shown]) -> Vec<i32> {
    let pid = |one: &Shown| match &one.who {
        Who::Session(backend) => backend.pid,
        Who::Prepared(_) => 0,
    };
    shown.iter().map(pid).collect()
}

#[test]
fn only_the_root_of_a_chain_is_one() {
    const S: Duration = Duration::from_secs(1);
    let idle = |pid: i32| session(pid, "idle in transaction", 60);
    let chain = || vec![waits(3, &[2], 20), waits(2, &[1], 30), idle(1)];
    for (name, backends, all, roots_of_10, waiting_10) in [
        ("nobody", vec![idle(1), session(2, "active", 5)], vec![], vec![], 0),
        ("a chain", chain(), vec![1, 2, 3], vec![1], 2),
        (
            "one that waits for several",
            vec![idle(1), idle(2), waits(3, &[1, 2, 1], 20)],
            vec![1, 3, 2],
            vec![1, 2],
            1,
        ),
        (
            "who holds up most comes first",
            [chain(), vec![idle(5), waits(6, &[5], 15)]].concat(),
            vec![1, 2, 3, 5, 6],
            vec![1, 5],
            3,
        ),
        ("not for long", vec![idle(1), waits(2, &[1], 9)], vec![1, 2], vec![], 0),
        (
            "the wait behind counts",
            vec![idle(1), waits(2, &[1], 1), waits(3, &[2], 20)],
            vec![1, 3, 2],
            vec![1],
            1,
        ),
        ("a ring", vec![waits(1, &[2], 20), waits(2, &[1], 20)], vec![1, 2], vec![], 2),
        (
            "behind a ring",
            vec![waits(1, &[2], 20), waits(2, &[1], 20), waits(3, &[2], 20)],
            vec![1, 2, 3],
            vec![],
            3,
        ),
        ("it is gone by now", vec![waits(2, &[1], 20)], vec![], vec![], 0),
        ("itself", vec![waits(1, &[1], 20)], vec![], vec![], 0),
    ] {
        let look = look(backends);
        assert_eq!(pids(&chains(&look, &[])), all, "{name}");
        assert_eq!(pids(&roots(&look, &[], 10 * S)), roots_of_10, "{name}");
        assert_eq!(waiting(&look, 10 * S), waiting_10, "{name}");
    }
    let look = look(chain());
    let shown = chains(&look, &[]);
    assert_eq!((shown[0].holds_up, shown[1].holds_up, shown[2].holds_up), (2, 1, 0));
    assert_eq!((shown[0].longest, shown[1].waiting), (30 * S, 30 * S));
    assert!(waited_for(&look, 1) && waited_for(&look, 2) && !waited_for(&look, 3));
}

#[test]
fn a_prepared_transaction_is_told_and_never_ended() {
    let waiter = Backend { prepared: vec!["two".to_owned()], ..waits(4, &[0], 20) };
    let mut look = look(vec![waiter, waits(5, &[4], 12)]);
    for name in ["one", "two"] {
        let (owner, database) = ("app".to_owned(), "trades".to_owned());
        look.prepared.push(Prepared { name: name.to_owned(), owner, database, since: now() });
    }
    let roots = roots(&look, &[], Duration::from_secs(10));
    assert_eq!((pids(&roots), roots[0].holds_up, roots[0].named()), (vec![0], 2, None));
    assert!(roots[0].words().contains("\"two\"") && roots[0].protected.is_some());
    assert_eq!(chains(&look, &[])[1].waits_for, [0]);
}

#[test]
fn who_is_never_ended_and_why() {
    type Change = fn(&mut Backend);
    let cases: [(Change, &str); 12] = [
        (|it| it.kind = "walsender".into(), "walsender"),
        (|it| it.kind = "logical replication worker".into(), "logical replication worker"),
        (|it| it.kind = "parallel worker".into(), "parallel worker"),
        (|it| it.kind = String::new(), "pg_monitor"),
        (
            |it| {
                it.kind = "autovacuum worker".into();
                it.query = "autovacuum: VACUUM public.t (to prevent wraparound)".into();
            },
            "wraparound",
        ),
        (|it| it.application = "genesis-agent/care".into(), "agent's own"),
        (|it| it.marked = true, "genesis:no-kill"),
        (|it| it.user = "settlement".into(), "spared_roles"),
        (|it| it.replicates = true, "replication"),
        (|it| it.may_end = false, "pg_signal_backend"),
        (|it| it.backend_start = None, "since when"),
        (
            |it| {
                it.kind = "autovacuum worker".into();
                it.may_end = false;
            },
            "does not let",
        ),
    ];
    let spared = ["settlement".to_owned()];
    for (change, why) in cases {
        let mut backend = session(1, "active", 60);
        assert_eq!(protected(&backend, &spared), None);
        change(&mut backend);
        let said = protected(&backend, &spared).unwrap();
        assert!(said.contains(why), "{why}: {said}");
    }
    let vacuum = Backend { kind: "autovacuum worker".into(), ..session(1, "active", 60) };
    assert_eq!(protected(&vacuum, &spared), None, "it comes again");
    // Who only sounds like the agent.
    let other = Backend { application: "genesis-agents".into(), ..session(1, "active", 60) };
    assert_eq!(protected(&other, &spared), None);
}

#[test]
fn what_has_no_statement_is_terminated_at_once() {
    for (state, expected) in [
        ("active", &[Way::Cancel, Way::Terminate][..]),
        ("idle in transaction", &[Way::Terminate]),
        ("idle in transaction (aborted)", &[Way::Terminate]),
        ("idle", &[Way::Terminate]),
    ] {
        assert_eq!(ways(&session(1, state, 5)), expected, "{state}");
    }
}

#[test]
fn what_was_cancelled_is_meant_again_only_while_it_idles_and_holds_others_up() {
    let meant = session(1, "active", 60).named().unwrap();
    let aborted = Backend { xact_start: None, ..session(1, "idle in transaction (aborted)", 3) };
    let waiter = waits(2, &[1], 30);
    let again = after_cancel(&look(vec![aborted.clone(), waiter.clone()]), &meant).unwrap();
    assert_eq!((again.pid, again.xact_start, again.still_since), (1, None, ago(3)));
    let active = session(1, "active", 1);
    let other = Backend { backend_start: ago(5), ..aborted.clone() };
    for backends in
        [vec![aborted], vec![active, waiter.clone()], vec![other, waiter.clone()], vec![waiter]]
    {
        assert_eq!(after_cancel(&look(backends), &meant), None);
    }
}

#[test]
fn room_is_made_by_the_longest_idle_first_and_a_quarter_at_a_time() {
    let resets = |look: &Look, goal: f64| -> Vec<i32> {
        resets(look, &["settlement".to_owned()], goal).iter().map(|backend| backend.pid).collect()
    };
    let mut backends: Vec<Backend> = (1..=12)
        .map(|pid| session(pid, "idle", 100 - i64::from(pid)))
        .chain((13..=17).map(|pid| session(pid, "idle in transaction", i64::from(pid))))
        .chain([session(18, "active", 500), session(19, "active", 500)])
        .collect();
    let full = look(backends.clone());
    assert_eq!((full.used(), full.available(), full.available_percent()), (19, 1, 5.0));
    assert_eq!(resets(&full, 20.0), [1, 2, 3], "no more than are missing");
    assert_eq!(resets(&full, 80.0), [1, 2, 3, 4], "a quarter of those that are taken");
    assert_eq!(resets(&full, 5.0), [0; 0]);
    backends.retain(|backend| backend.pid > 10);
    backends[0].user = "settlement".into();
    backends[1].state_change = ago(0);
    let few = Look { max: 10, ..look(backends) };
    assert_eq!(resets(&few, 100.0), [17, 16], "those in a transaction come last, the oldest first");
    let nobody = look(vec![session(1, "active", 9)]);
    assert_eq!(resets(&nobody, 100.0), [0; 0]);
    let (named, idle) = (while_idle(&few.backends[2]).unwrap(), &few.backends[2]);
    assert_eq!((named.pid, named.still_since), (idle.pid, idle.state_change));
    assert_eq!(Look { max: 3, reserved: 3, ..few }.available_percent(), 0.0);
}
