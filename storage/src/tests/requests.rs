//! Request ids: found again, replaced, and forgotten from the oldest on.

use super::*;

fn request(second: i64) -> RequestRecord {
    RequestRecord {
        digest: format!("d{second}"),
        at: Timestamp::from_second(second).unwrap(),
        answer: None,
    }
}

#[test]
fn a_request_is_found_again_with_its_latest_answer() {
    let folder = folder();
    let store = open_in(&folder);
    let begun = request(10);
    let done = RequestRecord { answer: Some("00".into()), ..begun.clone() };
    store.bookkeep(|b| b.requests().put("R", &begun)).unwrap();
    store.write(intent("call"), |w| w.requests().put("R", &done)).unwrap();
    drop(store);
    let store = open_in(&folder);
    let (found, count) = store
        .read(|r| Ok::<_, StorageError>((r.requests().get("R")?, r.requests().count()?)))
        .unwrap();
    assert_eq!((found, count), (Some(done), 1));
}

#[test]
fn old_requests_and_surplus_ones_are_forgotten_and_no_others() {
    let store = open_in(&folder());
    store
        .bookkeep(|b| {
            (0..20)
                .try_for_each(|second| b.requests().put(&format!("R{second:02}"), &request(second)))
        })
        .unwrap();
    // Put again later, it is no longer among the oldest.
    store.bookkeep(|b| b.requests().put("R00", &request(30))).unwrap();
    let before = Timestamp::from_second(5).unwrap();
    let left = |store: &Store| store.read(|r| r.requests().count()).unwrap();
    assert_eq!(store.bookkeep(|b| b.requests().prune(before, 100)).unwrap(), 4);
    assert_eq!(left(&store), 16);
    assert_eq!(store.bookkeep(|b| b.requests().prune(before, 100)).unwrap(), 0);
    assert_eq!(store.bookkeep(|b| b.requests().prune(before, 13)).unwrap(), 3);
    let known = |id: &str| store.read(|r| r.requests().get(id)).unwrap().is_some();
    assert!(!known("R07") && known("R08") && known("R19") && known("R00"));
    assert_eq!(store.bookkeep(|b| b.requests().remove("R08").map(u64::from)).unwrap(), 1);
    assert_eq!(left(&store), 12);
}
