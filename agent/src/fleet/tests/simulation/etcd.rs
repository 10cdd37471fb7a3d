//! A model of etcd: revisions, leases that end by themselves, watches, compaction, and what an operator does to it. What it is
//! told is written into the book, which knows what may be told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::book::Book;
use super::sim::{Sim, lock};
use crate::fleet::keys::Keys;
use crate::outside::coordinator::{Act, Change, Committed, Entry, Guard, Listed, Seen, Trouble};

/// Leases are looked at so often, as etcd does.
const LOOK: Duration = Duration::from_millis(500);
/// Longer values are told by their hash.
const SHOWN: usize = 400;

/// A lease.
#[derive(Clone)]
struct Lease {
    lasts: Duration,
    ends: Duration,
}

/// What a backup of it has.
#[derive(Clone)]
pub(super) struct Kept {
    entries: BTreeMap<String, Entry>,
    revision: i64,
    cluster: u64,
    /// Oldest first.
    history: Vec<(i64, Change)>,
    compacted: i64,
    leases: BTreeMap<i64, Lease>,
}

struct Store {
    kept: Kept,
    /// Grows each time that it is put back, or wiped.
    timeline: usize,
    granted: i64,
    full: bool,
}

/// All members of it, which have a leader.
pub(super) struct Etcd {
    sim: Sim,
    keys: Keys,
    store: Mutex<Store>,
    book: Arc<Mutex<Book>>,
    moved: watch::Sender<u64>,
}

impl Etcd {
    /// An empty one.
    pub(super) fn new(sim: &Sim, book: &Arc<Mutex<Book>>) -> Arc<Self> {
        let kept = Kept {
            entries: BTreeMap::new(),
            revision: 1,
            cluster: 7,
            history: Vec::new(),
            compacted: 0,
            leases: BTreeMap::new(),
        };
        lock(book).common(0, kept.revision, Vec::new());
        let store = Store { kept, timeline: 0, granted: 1_000, full: false };
        Arc::new(Self {
            sim: sim.clone(),
            keys: Keys::of("prod"),
            store: Mutex::new(store),
            book: Arc::clone(book),
            moved: watch::Sender::new(0),
        })
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    fn tell(&self) {
        self.moved.send_modify(|times| *times += 1);
    }

    /// Follows changes.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Which cluster it is.
    pub(super) fn cluster(&self) -> u64 {
        self.store().kept.cluster
    }

    /// All keys that begin so. Whoever looks at the emergency knows of it.
    pub(super) fn list(&self, host: usize, prefix: &str) -> Listed {
        let store = self.store();
        let found = store.kept.entries.values().filter(|entry| entry.key.starts_with(prefix));
        let listed = Listed { entries: found.cloned().collect(), revision: store.kept.revision };
        if prefix == self.keys.emergency() {
            lock(&self.book).looked(host, self.sim.now(), listed.entries.first());
        }
        listed
    }

    /// The keys that begin so, as an operator sees them.
    pub(super) fn under(&self, prefix: &str) -> Vec<Entry> {
        let store = self.store();
        let found = store.kept.entries.values().filter(|entry| entry.key.starts_with(prefix));
        found.cloned().collect()
    }

    /// Makes a change if all guards hold.
    pub(super) fn commit(
        &self,
        host: usize,
        guards: &[Guard],
        acts: &[Act],
    ) -> Result<Committed, Trouble> {
        let committed = {
            let mut store = self.store();
            let done = guards.iter().all(|guard| store.kept.holds(guard));
            let puts = acts.iter().any(|act| matches!(act, Act::Put { .. }));
            if store.full && puts {
                return Err(Trouble::Full("database space exceeded".to_owned()));
            }
            if done {
                let ended = acts.iter().any(|act| match act {
                    Act::Put { lease, .. } => *lease != 0 && !store.kept.leases.contains_key(lease),
                    Act::Delete(_) => false,
                });
                if ended {
                    return Err(Trouble::NoLease);
                }
                self.make(&mut store, Some(host), acts);
            }
            Committed { done, revision: store.kept.revision }
        };
        self.tell();
        Ok(committed)
    }

    /// A new lease.
    pub(super) fn grant(&self, lasts: Duration) -> Result<i64, Trouble> {
        let mut store = self.store();
        if store.full {
            return Err(Trouble::Full("database space exceeded".to_owned()));
        }
        store.granted += 1;
        let (lease, ends) = (store.granted, self.sim.now() + lasts);
        store.kept.leases.insert(lease, Lease { lasts, ends });
        Ok(lease)
    }

    /// Keeps a lease.
    pub(super) fn keep(&self, lease: i64) -> Result<(), Trouble> {
        let now = self.sim.now();
        let mut store = self.store();
        let known = store.kept.leases.get_mut(&lease).ok_or(Trouble::NoLease)?;
        known.ends = now + known.lasts;
        Ok(())
    }

    /// Ends a lease.
    pub(super) fn revoke(&self, lease: i64) {
        {
            let mut store = self.store();
            store.kept.leases.remove(&lease);
            let of = store.kept.entries.values().filter(|entry| entry.lease == lease);
            let gone: Vec<Act> = of.map(|entry| Act::Delete(entry.key.clone())).collect();
            self.make(&mut store, None, &gone);
        }
        self.tell();
    }

    /// What happened from a revision on to keys that begin so, and up to where that is all.
    pub(super) fn since(&self, prefix: &str, from: i64) -> Result<(Vec<Seen>, i64), Trouble> {
        let store = self.store();
        if from <= store.kept.compacted {
            return Err(Trouble::Compacted(from));
        }
        let mut seen: Vec<Seen> = Vec::new();
        for (revision, change) in store.kept.history.iter().filter(|(at, _)| *at >= from) {
            let key = match change {
                Change::Put(entry) => &entry.key,
                Change::Gone { key, .. } => key,
            };
            if !key.starts_with(prefix) {
                continue;
            }
            match seen.last_mut().filter(|last| last.revision == *revision) {
                Some(last) => last.changes.push(change.clone()),
                None => seen.push(Seen { revision: *revision, changes: vec![change.clone()] }),
            }
        }
        Ok((seen, store.kept.revision))
    }

    /// Ends leases that nobody keeps, for ever.
    pub(super) async fn age(self: Arc<Self>) {
        loop {
            self.sim.sleep(LOOK).await;
            let now = self.sim.now();
            let over: Vec<i64> = {
                let store = self.store();
                let leases = store.kept.leases.iter();
                leases.filter(|(_, lease)| lease.ends < now).map(|(id, _)| *id).collect()
            };
            for lease in over {
                self.sim.note(&format!("lease {lease} ends"));
                self.revoke(lease);
            }
        }
    }

    fn make(&self, store: &mut Store, by: Option<usize>, acts: &[Act]) {
        let there = |act: &Act| match act {
            Act::Put { .. } => true,
            Act::Delete(key) => store.kept.entries.contains_key(key),
        };
        if !acts.iter().any(there) {
            return;
        }
        let now = self.sim.now();
        store.kept.revision += 1;
        let revision = store.kept.revision;
        let mut common = false;
        for act in acts {
            let key = match act {
                Act::Put { key, .. } | Act::Delete(key) => key,
            };
            let before = store.kept.entries.get(key).cloned();
            let change = match act {
                Act::Put { key, value, lease } => {
                    let entry = Entry {
                        key: key.clone(),
                        value: value.clone(),
                        created: before.as_ref().map_or(revision, |entry| entry.created),
                        modified: revision,
                        lease: *lease,
                    };
                    store.kept.entries.insert(key.clone(), entry.clone());
                    Change::Put(entry)
                }
                Act::Delete(key) => match store.kept.entries.remove(key) {
                    Some(_) => Change::Gone { key: key.clone(), revision },
                    None => continue,
                },
            };
            self.sim.note(&shown(revision, by, &change));
            let entries = &store.kept.entries;
            lock(&self.book).change((now, by), before.as_ref(), &change, entries);
            common |= key.starts_with(&self.keys.common());
            store.kept.history.push((revision, change));
        }
        if common {
            self.remember(store);
        }
    }

    /// What all hosts have in common is this at this revision.
    fn remember(&self, store: &Store) {
        let common = self.keys.common();
        let of = store.kept.entries.values().filter(|entry| entry.key.starts_with(&common));
        let of: Vec<Entry> = of.cloned().collect();
        lock(&self.book).common(store.timeline, store.kept.revision, of);
    }

    /// Somebody who is no host sets a key.
    pub(super) fn put(&self, key: &str, value: &[u8]) {
        let put = Act::Put { key: key.to_owned(), value: value.to_vec(), lease: 0 };
        self.make(&mut self.store(), None, &[put]);
        self.tell();
    }

    /// Somebody who is no host takes a key away.
    pub(super) fn delete(&self, key: &str) {
        self.make(&mut self.store(), None, &[Act::Delete(key.to_owned())]);
        self.tell();
    }

    /// What happened before some revision is not kept any more.
    pub(super) fn compact(&self) {
        let behind = i64::try_from(self.sim.within(0, 12)).unwrap();
        let mut store = self.store();
        let upto = (store.kept.revision - behind).max(store.kept.compacted);
        store.kept.compacted = upto;
        store.kept.history.retain(|(revision, _)| *revision > upto);
    }

    /// It takes no changes, or takes them again.
    pub(super) fn fill(&self, full: bool) {
        self.store().full = full;
    }

    /// Another member leads: no lease ends before it could be kept.
    pub(super) fn lead(&self) {
        let now = self.sim.now();
        self.store().kept.leases.values_mut().for_each(|lease| lease.ends = now + lease.lasts);
    }

    /// All that it holds.
    pub(super) fn backup(&self) -> Kept {
        self.store().kept.clone()
    }

    /// It is put back to a backup, or, without one, to nothing under another name. Each connection is broken by that.
    pub(super) fn restore(&self, backup: Option<Kept>) {
        let now = self.sim.now();
        let mut store = self.store();
        let cluster = store.kept.cluster;
        store.kept = backup.unwrap_or_else(|| Kept {
            entries: BTreeMap::new(),
            revision: 1,
            cluster: cluster + 1,
            history: Vec::new(),
            compacted: 0,
            leases: BTreeMap::new(),
        });
        store.kept.leases.values_mut().for_each(|lease| lease.ends = now + lease.lasts);
        store.timeline += 1;
        self.remember(&store);
    }
}

impl Kept {
    fn holds(&self, guard: &Guard) -> bool {
        let entry = |key: &String| self.entries.get(key);
        match guard {
            Guard::Absent(key) => entry(key).is_none(),
            Guard::Created(key, at) => entry(key).is_some_and(|entry| entry.created == *at),
            Guard::Modified(key, at) => entry(key).is_some_and(|entry| entry.modified == *at),
            Guard::Leased(key, lease) => entry(key).is_some_and(|entry| entry.lease == *lease),
        }
    }
}

fn shown(revision: i64, by: Option<usize>, change: &Change) -> String {
    let who = by.map_or_else(|| "-".to_owned(), |host| format!("host {host}"));
    match change {
        Change::Put(entry) => {
            let value = match std::str::from_utf8(&entry.value) {
                Ok(text) if text.len() <= SHOWN => text.to_owned(),
                _ => blake3::hash(&entry.value).to_hex().to_string(),
            };
            format!("{revision} {who} puts {} ({}) {value}", entry.key, entry.lease)
        }
        Change::Gone { key, .. } => format!("{revision} {who} takes {key} away"),
    }
}
