//! Tables of what becomes of the fleet's matrix.

use std::sync::Arc;
use std::time::Duration;

use genesis_stats::correlation::Correlation;
use genesis_storage::{MatrixRecord, PeriodRecord, StageRecord};
use jiff::Timestamp;

use crate::operations::matrices::plan::{self, Versions};
use crate::operations::matrices::serving::digest;
use crate::operations::matrices::sharing::acks::State;
use crate::operations::matrices::sharing::plan::{
    Due, Follow, due, follow, next_number, published_at, stands,
};
use crate::operations::matrices::sharing::published::{
    KEPT, PART, PARTS, Pointer, Published, content, hash, splay, verified,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn published(number: u64, digest: &str, back: bool) -> Published {
    let (host_id, parts) = ("a".to_owned(), 1);
    Published { number, digest: digest.into(), back, host_id, parts, at: at(100), ..<_>::default() }
}

fn pointer(number: u64, digest: &str) -> Pointer {
    Pointer { current: published(number, digest, false), ..Pointer::default() }
}

/// A version of a digest; `from`: when it was active.
fn version(version: u64, state: &str, digest: &str, from: &[i64]) -> MatrixRecord {
    let periods = from.iter().map(|from| PeriodRecord { from: at(*from), until: None });
    MatrixRecord {
        version,
        state: state.to_owned(),
        digest: digest.to_owned(),
        kept: true,
        periods: periods.collect(),
        ..MatrixRecord::default()
    }
}

fn of(records: &[MatrixRecord]) -> Versions {
    records.iter().map(|it| (it.version, Arc::new(it.clone()))).collect()
}

#[test]
fn whoever_put_a_matrix_into_force_last_publishes_it() {
    let active = |digest: &str, from: &[i64]| Some(version(7, plan::ACTIVE, digest, from));
    let marked = MatrixRecord { fleet: 3, ..version(7, plan::ACTIVE, "x", &[50]) };
    let publish = |back| Due::Publish { back };
    let table = [
        (None, "a", None, Due::Nothing),
        (Some(pointer(3, "x")), "a", None, Due::Nothing),
        (None, "a", active("x", &[50]), publish(false)),
        // A fleet that has forgotten is no reason to have all hosts take it at once.
        (None, "a", active("x", &[50, 60]), publish(false)),
        (Some(pointer(3, "x")), "a", active("x", &[50]), Due::Mark(3)),
        (Some(pointer(3, "x")), "a", Some(marked), Due::Nothing),
        (Some(pointer(3, "x")), "b", active("x", &[50]), Due::Mark(3)),
        // Its own is what it is about, whatever the clocks say.
        (Some(pointer(3, "x")), "a", active("y", &[50]), publish(false)),
        (Some(pointer(3, "x")), "a", active("y", &[50, 150]), publish(true)),
        // That of another host counts until something new is in force here.
        (Some(pointer(3, "x")), "b", active("y", &[50]), Due::Other),
        (Some(pointer(3, "x")), "b", active("y", &[100]), Due::Other),
        (Some(pointer(3, "x")), "b", active("y", &[101]), publish(false)),
        (Some(pointer(3, "x")), "b", active("y", &[50, 101]), publish(true)),
    ];
    for (pointer, me, active, is) in table {
        assert_eq!(due(pointer.as_ref(), me, active.as_ref()), is, "{me} {active:?}");
    }
}

#[test]
fn two_that_publish_end_with_one_of_theirs_whatever_their_clocks_say() {
    // When each put its matrix into force, and its clock by now.
    for (hosts, wins) in [
        ([(50, 60), (40, 70)], "a"),
        ([(50, 60), (61, 70)], "b"),
        // The clock of the first was set back, or has not caught up.
        ([(50, 10), (40, 45)], "a"),
        ([(50, 10), (40, 70)], "a"),
        ([(50, 10), (55, 20)], "b"),
        ([(50, 60), (50, 60)], "a"),
    ] {
        let (mut pointer, mut published) = (None, Vec::new());
        for turn in 0..6 {
            let (host, (since, now)) = (turn % 2, hosts[turn % 2]);
            let (me, digest) = (["a", "b"][host], ["x", "y"][host]);
            let active = version(7, plan::ACTIVE, digest, &[since]);
            if matches!(due(pointer.as_ref(), me, Some(&active)), Due::Publish { .. }) {
                published.push(me);
                let number = published.len() as u64;
                let at = published_at(&active, at(now));
                let current =
                    Published { host_id: me.into(), at, ..self::published(number, digest, false) };
                pointer = Some(Pointer { current, ..Pointer::default() });
            }
        }
        assert!(published.len() <= 2, "{hosts:?}: {published:?}");
        assert_eq!(published.last(), Some(&wins), "{hosts:?}");
    }
}

#[test]
fn numbers_only_grow() {
    let known = of(&[MatrixRecord { fleet: 9, ..version(1, plan::ACTIVE, "x", &[1]) }]);
    assert_eq!(next_number(None, &Versions::new()), 1);
    assert_eq!(next_number(Some(&pointer(3, "x")), &Versions::new()), 4);
    // An etcd that was wiped, or put back.
    assert_eq!(next_number(None, &known), 10);
    assert_eq!(next_number(Some(&pointer(3, "x")), &known), 10);
    assert_eq!(next_number(Some(&pointer(12, "x")), &known), 13);
}

#[test]
fn what_a_follower_makes_of_what_is_published() {
    let numbered = |it: MatrixRecord, fleet| MatrixRecord { fleet, ..it };
    let stage = |how: &str, ended: Option<i64>| StageRecord {
        how: how.to_owned(),
        ended_at: ended.map(at),
        ..StageRecord::default()
    };
    let harmful = |number, digest: &str| MatrixRecord {
        stages: vec![stage(plan::HARMFUL, Some(70))],
        ended_at: Some(at(70)),
        ..version(number, plan::ROLLED_BACK, digest, &[])
    };
    let canary = |number, digest: &str| MatrixRecord {
        stages: vec![stage("", None)],
        ..version(number, plan::CANARY, digest, &[])
    };
    let (one, left) = (version(1, plan::ACTIVE, "one", &[10]), plan::SUPERSEDED);
    let wait = |text: &str| Follow::Wait(text.to_owned());
    let rolling = "version 2 is being rolled out here";
    let table: Vec<(bool, Vec<MatrixRecord>, bool, Follow)> = vec![
        // Nothing is here yet, or something older.
        (false, vec![], false, Follow::Fetch),
        (false, vec![one.clone()], false, Follow::Fetch),
        // A new matrix reaches into trading; the way back is always open.
        (false, vec![one.clone()], true, wait("an emergency is in force here")),
        (true, vec![one.clone()], true, Follow::Fetch),
        // One at a time, but that the way back ends a rollout.
        (false, vec![one.clone(), canary(2, "two")], false, wait(rolling)),
        (true, vec![one.clone(), canary(2, "two")], false, Follow::Fetch),
        // It was taken: whatever became of it is not done again.
        (
            false,
            vec![numbered(one.clone(), 4), numbered(canary(2, "new"), 5)],
            false,
            Follow::Stands(2),
        ),
        (false, vec![one.clone(), numbered(harmful(2, "new"), 5)], false, Follow::Stands(2)),
        (true, vec![one.clone(), numbered(harmful(2, "new"), 5)], false, Follow::Stands(2)),
        // The very content is here under no number, or under that of another time.
        (false, vec![version(1, plan::ACTIVE, "new", &[10])], true, Follow::Mark(1)),
        (false, vec![numbered(version(1, plan::ACTIVE, "new", &[10]), 4)], false, Follow::Mark(1)),
        (false, vec![one.clone(), numbered(canary(2, "new"), 4)], false, Follow::Mark(2)),
        (false, vec![one.clone(), harmful(2, "new")], false, Follow::Mark(2)),
        // The publisher went back to what is in force here: what is tried ends.
        (
            true,
            vec![version(1, plan::ACTIVE, "new", &[10]), canary(2, "two")],
            true,
            Follow::GoBack(1),
        ),
        // To what was in force here.
        (
            true,
            vec![version(1, left, "new", &[10]), version(2, plan::ACTIVE, "two", &[20])],
            true,
            Follow::GoBack(1),
        ),
        // Its values are not kept any more.
        (
            true,
            vec![
                MatrixRecord { kept: false, ..version(1, left, "new", &[10]) },
                version(2, plan::ACTIVE, "two", &[20]),
            ],
            false,
            Follow::Fetch,
        ),
        // To what did harm here: what the publisher left is left all the same.
        (
            true,
            vec![one.clone(), harmful(2, "new"), version(3, plan::ACTIVE, "two", &[30])],
            false,
            Follow::Leave(2),
        ),
        (true, vec![one.clone(), harmful(2, "new"), canary(3, "two")], false, Follow::Leave(2)),
        (true, vec![one, harmful(2, "new"), canary(3, "six")], false, Follow::Mark(2)),
        // A rejected one is nothing that is here.
        (false, vec![version(1, plan::REJECTED, "new", &[])], false, Follow::Fetch),
    ];
    for (back, records, emergency, is) in table {
        let new = published(5, "new", back);
        let found = follow(&new, Some("two"), &of(&records), emergency);
        assert_eq!(found, is, "{back} {records:?}");
    }
}

#[test]
fn what_a_host_says_of_a_version() {
    let ended = MatrixRecord {
        ended_at: Some(at(70)),
        ended_by: "ada".into(),
        ended_reason: "harm".into(),
        ..version(1, plan::ROLLED_BACK, "x", &[10])
    };
    let rolling = StageRecord { percent: 25, began_at: at(30), ..StageRecord::default() };
    let canary = MatrixRecord { stages: vec![rolling], ..version(1, plan::CANARY, "x", &[]) };
    let why = "ada: harm".to_owned();
    for (record, is) in [
        (version(1, plan::ACTIVE, "x", &[10, 20]), (State::InForce, 0, at(20), String::new())),
        (canary, (State::RollingOut, 25, at(30), String::new())),
        (ended.clone(), (State::RolledBack, 0, at(70), why.clone())),
        (
            MatrixRecord { state: plan::SUPERSEDED.into(), ..ended.clone() },
            (State::RolledBack, 0, at(70), why.clone()),
        ),
        (MatrixRecord { state: plan::REJECTED.into(), ..ended }, (State::Refused, 0, at(70), why)),
    ] {
        assert_eq!(stands(&record), is);
    }
}

#[test]
fn a_pointer_keeps_a_few_versions_and_names_those_that_go() {
    let mut now = None;
    for number in 1..=30 {
        let next = Published { parts: 2, ..published(number, "x", false) };
        now = Some(Pointer::after(now, next, 3));
    }
    let now = now.unwrap();
    let kept: Vec<u64> =
        std::iter::once(&now.current).chain(&now.earlier).map(|it| it.number).collect();
    assert_eq!(kept, [30, 29, 28, 27, 26]);
    assert_eq!(kept.len(), KEPT);
    assert_eq!(now.leaving.first(), Some(&(25, 2)));
    assert_eq!(now.leaving.len(), 20, "also where nobody could delete them");
    let read = Pointer::read(&serde_json::to_vec(&now).unwrap()).unwrap();
    assert_eq!(read, now);
    // What no publisher writes is not followed anywhere.
    let odd = |change: fn(&mut Pointer)| {
        let mut odd = now.clone();
        change(&mut odd);
        Pointer::read(&serde_json::to_vec(&odd).unwrap()).unwrap_err()
    };
    odd(|it| it.current.parts = 0);
    odd(|it| it.current.parts = 1_000_000);
    odd(|it| it.current.bytes = 1 << 40);
    Pointer::read(b"{}").unwrap_err();
}

#[test]
fn a_content_is_what_was_published_or_nothing() {
    let of = |value: f64| Correlation::of(vec!["BTC".into(), "ETH".into()], vec![value]).unwrap();
    let matrix = of(0.25);
    let known = MatrixRecord {
        reason: "new series".into(),
        digest: digest(&matrix),
        state: plan::ACTIVE.into(),
        fleet: 3,
        ..version(7, plan::ACTIVE, "", &[10])
    };
    let known = MatrixRecord { digest: digest(&matrix), ..known };
    let bytes = content(&known, &matrix).unwrap();
    let named = |bytes: &[u8], digest: &str| Published {
        digest: digest.to_owned(),
        hash: hash(bytes),
        bytes: bytes.len() as u64,
        ..Published::default()
    };
    let right = named(&bytes, &known.digest);
    let (record, read) = verified(&right, &bytes).unwrap();
    assert_eq!((record.version, record.reason.as_str(), read), (7, "new series", matrix));
    // What it was on the publisher stays there.
    assert_eq!((record.fleet, record.state.as_str(), record.periods.len()), (0, "", 0));
    for at in [0, 3, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(verified(&right, &damaged).unwrap_err().contains("damaged"));
    }
    assert!(verified(&right, &bytes[1..]).unwrap_err().contains("damaged"));
    // Of somebody who knows how to hash.
    let mut other = bytes;
    let last = other.len() - 2;
    other[last] ^= 1;
    verified(&named(&other, &known.digest), &other).unwrap_err();
    verified(&named(&[], ""), &[]).unwrap_err();
    verified(&named(&[1, 255, 255, 255, 255], ""), &[1, 255, 255, 255, 255]).unwrap_err();
    let three = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let indefinite = Correlation::of(three, vec![0.9, 0.9, -0.9]).unwrap();
    let bad = MatrixRecord { digest: digest(&indefinite), ..known };
    let bytes = content(&bad, &indefinite).unwrap();
    assert_eq!(verified(&named(&bytes, &bad.digest), &bytes).unwrap_err(), "it is indefinite");
}

#[test]
fn hosts_ask_one_after_the_other_where_they_are_many() {
    assert_eq!(splay(300_000, 3, "id", 1), splay(300_000, 3, "id", 1));
    let most = |bytes, members| {
        (0..200).map(|host| splay(bytes, members, &host.to_string(), 1)).max().unwrap()
    };
    assert!(most(300_000, 3) < Duration::from_millis(20));
    // 10,000 hosts that take 4 MB each: 800 s at that rate, of which no host waits more than 600.
    let (many, limit) = (most(4_000_000, 10_000), Duration::from_secs(600));
    assert!(many > Duration::from_secs(500) && many <= limit, "{many:?}");
    assert_ne!(splay(4_000_000, 10_000, "a", 1), splay(4_000_000, 10_000, "a", 2));
    const { assert!(PART < 1 << 20 && PART * PARTS > 8 * 1_000 * 1_000 / 2) };
}
