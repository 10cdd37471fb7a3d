//! Certificates give back what was put in, and their history keeps what limits count.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::record::{Record, decode, encode};

fn time() -> impl Strategy<Value = Timestamp> {
    (-62_000_000_000i64..250_000_000_000, 0..1_000_000_000)
        .prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).unwrap())
}

fn maybe_time() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of(time())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z/._-]{0,12}", any::<String>()]
}

fn origin() -> impl Strategy<Value = CertificateOrigin> {
    use CertificateOrigin::{Acme, Backup, Imported, SelfSigned};
    prop::sample::select(vec![Acme, Imported, Backup, SelfSigned])
}

fn trouble() -> impl Strategy<Value = CertificateTrouble> {
    use CertificateTrouble::{Authorization, Clock, Local, Policy, RateLimited, Server};
    prop::sample::select(vec![RateLimited, Authorization, Server, Policy, Local, Clock])
}

prop_compose! {
    fn any_backoff()(
        until in maybe_time(), trouble in trouble(), failures in any::<u32>(), texts in prop::array::uniform2(text()),
        waits in prop::collection::vec((text(), maybe_time()), 0..3), diagnosis in prop::collection::vec((text(), text(), text()), 0..3), at in time(), placing in any::<bool>(),
    ) -> BackoffRecord {
        let [error, configuration] = texts;
        BackoffRecord { until, trouble, failures, error, diagnosis, at, configuration, waits, placing }
    }
}

prop_compose! {
    fn any_order()(
        texts in prop::array::uniform2(text()), generation in any::<u32>(), identifiers in prop::collection::vec(text(), 0..3),
        at in time(), forced in any::<bool>(),
    ) -> OrderRecord {
        let [ca, url] = texts;
        OrderRecord { ca, url, generation, identifiers, at, forced }
    }
}

fn pin() -> impl Strategy<Value = Option<PinRecord>> {
    let parts = prop::option::of((time(), text(), text()));
    parts.prop_map(|pin| pin.map(|(at, by, reason)| PinRecord { at, by, reason }))
}

prop_compose! {
    fn any_certificate()(
        name in "[a-z0-9.-]{1,12}", numbers in any::<(u32, u32)>(), times in prop::array::uniform2(maybe_time()),
        waits in prop::collection::vec((text(), time()), 0..3),
        pin in pin(), deploying in prop::option::of((any::<(u32, bool, bool)>(), pin())), orders in prop::collection::vec(any_order(), 0..3), backoff in prop::option::of(any_backoff()),
        renewal in prop::option::of((text(), prop::option::of((time(), time(), time())), time(), text())),
        since in prop::option::of((time(), text(), any::<u32>())),
    ) -> CertificateRecord {
        let [deployed_at, attempted_at] = times;
        CertificateRecord {
            name, generation: numbers.0, greatest: numbers.1, deployed_at, pin, orders, backoff,
            deploying: deploying.map(|((generation, rolled_back, failed), pin)| DeployingRecord { generation, rolled_back, pin, failed }),
            renewal: renewal.map(|(fingerprint, window, ask_at, explanation)| RenewalRecord { fingerprint, window, ask_at, explanation }),
            self_signed_since: since.map(|(wall, boot, seconds)| Moment { wall, boot, since_boot: std::time::Duration::from_secs(seconds.into()) }),
            attempted_at, waits,
        }
    }
}

prop_compose! {
    fn any_generation()(
        texts in prop::array::uniform5(text()), number in any::<u32>(), origin in origin(), identifiers in prop::collection::vec(text(), 0..3),
        times in prop::array::uniform3(time()), maybe in prop::array::uniform3(maybe_time()), forced in any::<bool>(),
    ) -> GenerationRecord {
        let [name, ca, serial, fingerprint, issuer] = texts;
        let ([not_before, not_after, created_at], [proven_at, compromised_at, revoked_at]) = (times, maybe);
        GenerationRecord {
            name, number, origin, ca, identifiers, serial, fingerprint, issuer, not_before, not_after, created_at, forced, proven_at,
            compromised_at, revoked_at,
        }
    }
}

prop_compose! {
    fn any_event()(
        id in "[0-9A-HJKMNP-TV-Z]{1,26}", at in time(), texts in prop::array::uniform5(text()), generation in any::<u32>(),
        identifiers in prop::collection::vec(text(), 0..3), exempt in any::<bool>(),
    ) -> CertificateEventRecord {
        let [name, kind, ca, detail, actor] = texts;
        CertificateEventRecord { id, at, name, kind, ca, generation, identifiers, exempt, detail, actor }
    }
}

fn survives<R: Record + PartialEq + std::fmt::Debug>(record: &R) -> Result<(), TestCaseError> {
    let bytes = encode(&"key", record).unwrap();
    prop_assert_eq!(&decode::<R>(&"key", &bytes).unwrap(), record);
    prop_assert!(decode::<R>(&"key", &bytes[..bytes.len() / 2]).is_err());
    Ok(())
}

proptest! {
    #[test]
    fn records_survive_their_encoding(certificate in any_certificate(), generation in any_generation(), event in any_event()) {
        survives(&certificate)?;
        survives(&generation)?;
        survives(&event)?;
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let bytes = [&[1], bytes.as_slice()].concat();
        let _ = decode::<CertificateRecord>(&"key", &bytes);
        let _ = decode::<GenerationRecord>(&"key", &bytes);
        let _ = decode::<CertificateEventRecord>(&"key", &bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn certificates_come_back_by_name(all in prop::collection::btree_map("[a-z0-9.-]{1,12}", any_certificate(), 0..5), again in any_certificate()) {
        let folder = folder();
        let store = open_in(&folder);
        let mut all: BTreeMap<String, CertificateRecord> =
            all.into_iter().map(|(name, record)| (name.clone(), CertificateRecord { name, ..record })).collect();
        store.write(intent("x"), |w| all.values().rev().try_for_each(|it| w.certificates().put(it))).unwrap();
        prop_assert_eq!(store.read(|r| r.certificates().all()).unwrap(), all.values().cloned().collect::<Vec<_>>());
        store.write(intent("x"), |w| w.certificates().put(&again)).unwrap();
        all.insert(again.name.clone(), again);
        for (name, record) in &all {
            let found = store.read(|r| r.certificates().get(name)).unwrap();
            prop_assert_eq!(found.as_ref(), Some(record));
        }
        prop_assert_eq!(store.read(|r| r.certificates().get("A")).unwrap(), None);
    }

    #[test]
    fn generations_come_back_the_newest_first_and_the_one_for_need_last(
        mut own in prop::collection::btree_map(prop_oneof![Just(0u32), Just(u32::MAX), any::<u32>(), 1u32..8], any_generation(), 0..8), other in any_generation(),
    ) {
        let folder = folder();
        let store = open_in(&folder);
        for (number, record) in &mut own {
            (record.name, record.number) = ("gw".to_owned(), *number);
        }
        // Names beside it have nothing of it.
        let beside: Vec<GenerationRecord> = ["g", "gw.", "gw-2", "gx"].iter().map(|name| GenerationRecord { name: (*name).to_owned(), ..other.clone() }).collect();
        store.write(intent("x"), |w| own.values().chain(&beside).try_for_each(|it| w.certificates().put_generation(it))).unwrap();
        let read = |name: &str| store.read(|r| r.certificates().generations(name)).unwrap();
        prop_assert_eq!(read("gw"), own.values().rev().cloned().collect::<Vec<_>>());
        for record in &beside {
            prop_assert_eq!(read(&record.name), vec![record.clone()]);
        }
        if own.contains_key(&0) {
            prop_assert_eq!(read("gw").last().map(|it| it.number), Some(0));
        }
        for number in own.keys().copied().collect::<Vec<_>>() {
            prop_assert!(store.write(intent("x"), |w| w.certificates().remove_generation("gw", number)).unwrap());
            prop_assert!(!store.write(intent("x"), |w| w.certificates().remove_generation("gw", number)).unwrap());
            own.remove(&number);
            prop_assert_eq!(read("gw").len(), own.len());
        }
    }

    #[test]
    fn events_come_back_and_only_those_go_that_no_limit_counts(
        events in prop::collection::btree_map("[0-9A-HJKMNP-TV-Z]{1,26}", (any_event(), 0i64..100), 1..30), from in 0i64..100, keep in 0usize..8,
    ) {
        let folder = folder();
        let store = open_in(&folder);
        let events: Vec<CertificateEventRecord> = events.into_iter().map(|(id, (event, second))| CertificateEventRecord { id, at: at(second), ..event }).collect();
        for event in &events {
            store.write(intent("x"), |w| w.certificates().put_event(event, at(from), keep)).unwrap();
        }
        // The ids tell their order: of those that count no more the newest are kept.
        let old: BTreeSet<&str> = events.iter().rev().filter(|it| it.at < at(from)).skip(keep).map(|it| it.id.as_str()).collect();
        let expected: Vec<&CertificateEventRecord> = events.iter().rev().filter(|it| !old.contains(it.id.as_str())).collect();
        let found = store.read(|r| r.certificates().events(usize::MAX, |_| true)).unwrap();
        prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        prop_assert!(events.iter().filter(|it| it.at >= at(from)).all(|it| found.contains(it)), "what counts stays");
        let some = store.read(|r| r.certificates().events(2, |it| it.exempt)).unwrap();
        prop_assert_eq!(some, found.iter().filter(|it| it.exempt).take(2).cloned().collect::<Vec<_>>());
    }

    #[test]
    fn asking_again_changes_nothing_else(record in any_certificate(), at in time()) {
        let folder = folder();
        let store = open_in(&folder);
        let renewal = RenewalRecord { fingerprint: "f".to_owned(), window: None, ask_at: at, explanation: String::new() };
        let asked = |name: &str| store.bookkeep(|b| b.certificates().asked(name, renewal.clone())).unwrap();
        asked(&record.name);
        prop_assert_eq!(store.read(|r| r.certificates().all()).unwrap(), vec![], "none is made by it");
        store.write(intent("x"), |w| w.certificates().put(&record)).unwrap();
        asked(&record.name);
        let expected = CertificateRecord { renewal: Some(renewal.clone()), ..record.clone() };
        prop_assert_eq!(store.read(|r| r.certificates().get(&record.name)).unwrap(), Some(expected));
    }
}

#[test]
fn names_that_are_too_long_are_refused() {
    let folder = folder();
    let store = open_in(&folder);
    let long = "n".repeat(MAX_KEY_BYTES + 1);
    let record = CertificateRecord { name: long, ..CertificateRecord::default() };
    let refused = store.write(intent("x"), |w| w.certificates().put(&record));
    assert_eq!(refused.unwrap_err().code(), "STORAGE_TOO_LARGE");
}
