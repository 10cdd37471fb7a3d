//! Logs that agree with the fleet's head of them, and logs that don't.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use genesis_storage::{DEFAULT_CACHE_BYTES, Options, Store, carry_forward};
use tokio::sync::watch;

use super::*;
use crate::emergency::Emergency;
use crate::events::Source;
use crate::outside::coordinator::memory::Memory;
use crate::outside::{Clock, ManualClock, Outside};

const KEY: &str = "/genesis/prod/heads/id-of-a";

fn head(sequence: u64, hash: u8) -> Head {
    Head { sequence, hash: [hash; 32] }
}

#[test]
fn a_log_agrees_only_if_it_has_the_very_entry() {
    use Compared::{Absent, Agrees, Missing, Other, Short, Unreadable};

    let log = head(9, 9);
    let table = [
        (None, log, None, Absent),
        (Some(None), log, None, Unreadable),
        // Where it was told of an empty log.
        (Some(Some(head(0, 0))), log, None, Agrees),
        (Some(Some(head(9, 9))), log, Some([9; 32]), Agrees),
        // It has gone on since.
        (Some(Some(head(5, 5))), log, Some([5; 32]), Agrees),
        // Rewritten, also where it is longer by now than what was known.
        (Some(Some(head(5, 5))), log, Some([6; 32]), Other(5)),
        (Some(Some(head(9, 9))), log, Some([6; 32]), Other(9)),
        (Some(Some(head(10, 1))), log, None, Short { fleet: 10, log: 9 }),
        (Some(Some(head(1, 1))), head(0, 0), None, Short { fleet: 1, log: 0 }),
        // Taken out, while later ones stand.
        (Some(Some(head(5, 5))), log, None, Missing(5)),
    ];
    for (fleet, log, there, is) in table {
        let found = compare(fleet, log, there);
        assert_eq!(found, is, "{fleet:?} {there:?}");
        assert_eq!(found.wrong().is_none(), matches!(is, Absent | Agrees));
    }
}

/// An agent of host a, from its start to its end.
struct Agent {
    fleet: Arc<Fleet>,
    state: State,
    serving: tokio::task::JoinHandle<()>,
}

impl Agent {
    async fn start(file: &Path, memory: &Memory) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let store = Store::open(file, Options::default()).unwrap();
        let state = State::new(Arc::new(store), watch::channel(0).1);
        let outside = Outside {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            coordinator: memory.door(),
            ..Outside::real()
        };
        let flag = file.with_extension("emergency");
        let emergency = Emergency::open(state.clone(), clock, flag).await.unwrap();
        let fleet = Fleet::member(&outside, emergency, "a");
        let serving = tokio::spawn(Arc::clone(&fleet).serve());
        let mut changed = fleet.follow();
        while !fleet.is_open() {
            changed.changed().await.unwrap();
        }
        Self { fleet, state, serving }
    }

    async fn note(&self, times: usize) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..times {
            // No two are alike, as no two moments are.
            let own = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
            let intent = Intent::new(Timestamp::UNIX_EPOCH, "ada", "note").detail(own);
            self.state.note(intent).await.unwrap();
        }
    }

    async fn tell(&self) -> Option<u64> {
        self.fleet.tell_head(&self.state).await.unwrap()
    }

    async fn told(&self) -> Vec<String> {
        self.fleet.conditions().await.unwrap().into_iter().map(|it| it.key).collect()
    }

    /// Its files are nobody's then.
    async fn stop(self) {
        self.serving.abort();
        let _ = self.serving.await;
        drop(self.fleet);
        assert_eq!(Arc::strong_count(self.state.store()), 1);
    }
}

fn kept(memory: &Memory) -> Told {
    serde_json::from_slice(&memory.get(KEY).unwrap().value).unwrap()
}

#[tokio::test]
async fn a_state_that_was_put_back_never_takes_the_fleets_head_with_it() {
    let (folder, memory) = (tempfile::tempdir().unwrap(), Memory::default());
    let (live, copy) = (folder.path().join("state.redb"), folder.path().join("copy.redb"));
    let agent = Agent::start(&live, &memory).await;
    agent.note(3).await;
    assert_eq!(agent.tell().await, Some(3));
    agent.stop().await;
    std::fs::copy(&live, &copy).unwrap();
    let agent = Agent::start(&live, &memory).await;
    agent.note(5).await;
    assert_eq!(agent.tell().await, Some(8), "it goes on with the log");
    assert_eq!(
        agent.fleet.accept_head(&agent.state, "", ("ada", "x")).await.unwrap_err().code,
        "HEAD_AGREES"
    );
    let known = kept(&memory);
    agent.stop().await;

    // Somebody puts the older one back.
    std::fs::copy(&copy, &live).unwrap();
    let agent = Agent::start(&live, &memory).await;
    assert_eq!(agent.tell().await, None);
    assert_eq!(agent.told().await, ["fleet/head"]);
    // Also when it has become longer than what the fleet knows.
    agent.note(9).await;
    assert_eq!(agent.tell().await, None);
    assert_eq!(kept(&memory), known, "what the fleet knows stays");
    let status = agent.fleet.domain_status().unwrap();
    assert_eq!(status.findings[0].code, "FLEET_HEAD");
    agent.stop().await;
    let agent = Agent::start(&live, &memory).await;
    assert_eq!(agent.tell().await, None, "a restart is no excuse");

    // Until somebody who knows why says so.
    let accept = |hash: String, reason: &'static str| {
        let (fleet, state) = (Arc::clone(&agent.fleet), agent.state.clone());
        async move { fleet.accept_head(&state, &hash, ("ada", reason)).await }
    };
    assert_eq!(accept(String::new(), " ").await.unwrap_err().code, "REASON_MISSING");
    let plan = agent.fleet.plan_accept_head(&agent.state).await.unwrap();
    assert!(plan.steps[0].target.contains(&format!("8:{}", known.hash)), "{:?}", plan.steps);
    assert_eq!(accept("other".into(), "restored").await.unwrap_err().code, "PLAN_CHANGED");
    agent.note(1).await;
    let (now, before) = accept(plan.hash, "restored").await.unwrap();
    assert_eq!((now.sequence, before.unwrap().sequence), (14, 8));
    assert!(agent.told().await.is_empty());
    let told = kept(&memory);
    let given_up = &told.accepted[0];
    assert_eq!((given_up.sequence, given_up.hash.as_str()), (8, known.hash.as_str()));
    assert_eq!((given_up.by.as_str(), given_up.reason.as_str()), ("ada", "restored"));
    // The head that is kept has the entry that tells of it.
    let newest = agent.state.read(|it| Ok(it.oplog().newest(None, 1, |_| true)?)).unwrap();
    assert_eq!(newest[0].entry.action, "oplog.head-accepted");
    assert!(newest[0].entry.detail.contains("the fleet had 8:"), "{}", newest[0].entry.detail);
    agent.note(1).await;
    assert_eq!(agent.tell().await, Some(15));
    assert_eq!(kept(&memory).accepted.len(), 1, "that is not forgotten");
}

#[tokio::test]
async fn a_rollback_of_the_state_by_the_agent_carries_the_log_forward() {
    let (folder, memory) = (tempfile::tempdir().unwrap(), Memory::default());
    let (live, copy) = (folder.path().join("state.redb"), folder.path().join("copy.redb"));
    let agent = Agent::start(&live, &memory).await;
    agent.note(3).await;
    agent.tell().await;
    agent.stop().await;
    std::fs::copy(&live, &copy).unwrap();
    let agent = Agent::start(&live, &memory).await;
    agent.note(5).await;
    agent.tell().await;
    agent.stop().await;
    let intent = Intent::new(Timestamp::UNIX_EPOCH, "system:agent", "state.restored");
    let carried = carry_forward(&live, &copy, DEFAULT_CACHE_BYTES, intent).unwrap();
    assert_eq!((carried.entries_then, carried.entries_now), (3, 9));
    let agent = Agent::start(&copy, &memory).await;
    assert_eq!(agent.tell().await, Some(9));
    assert!(agent.told().await.is_empty());
}

#[tokio::test]
async fn what_somebody_did_to_the_fleets_head_is_told_or_made_good() {
    let (folder, memory) = (tempfile::tempdir().unwrap(), Memory::default());
    let agent = Agent::start(&folder.path().join("state.redb"), &memory).await;
    agent.note(3).await;
    agent.tell().await;
    // Nothing is known then, so that there is nothing to be contradicted.
    memory.delete(KEY);
    assert_eq!(agent.tell().await, Some(3));
    memory.put(KEY, "{");
    assert_eq!(agent.tell().await, None);
    assert_eq!(agent.told().await, ["fleet/head"]);
    let (_, before) = agent.fleet.accept_head(&agent.state, "", ("ada", "x")).await.unwrap();
    assert_eq!(before, None);
    assert_eq!((kept(&memory).sequence, kept(&memory).accepted[0].sequence), (4, 0));
    // Of another log, as a copied host has it.
    let told = Told { hash: "ab".repeat(32), sequence: 2, ..kept(&memory) };
    memory.put(KEY, serde_json::to_vec(&told).unwrap());
    assert_eq!(agent.tell().await, None);
    let wrong = agent.fleet.head_wrong().unwrap().0;
    assert!(wrong.starts_with("entry 2 "), "{wrong}");
}
