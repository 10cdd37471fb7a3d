//! A coordinator in memory, for tests: with revisions, leases that only a test ends, and watches. Each host has a door of its
//! own to it, which a test shuts.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::{Act, Change, Committed, Entry, Guard, Seen, Trouble};

mod door;

pub use door::Door;

/// All keys as they are, and what has happened.
#[derive(Clone)]
struct Store {
    entries: BTreeMap<String, Entry>,
    revision: i64,
    cluster: u64,
    /// Oldest first.
    history: Vec<(i64, Change)>,
    /// What happened before this is not kept any more.
    compacted: i64,
    leases: BTreeMap<i64, Duration>,
    /// Why it takes no changes.
    full: Option<String>,
}

struct Shared {
    store: Mutex<Store>,
    moved: watch::Sender<i64>,
    leases: AtomicUsize,
}

/// The coordinator; a clone is the same one.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

/// All that a coordinator held at a time.
pub struct Snapshot(Store);

impl Default for Memory {
    fn default() -> Self {
        let store = Store {
            entries: BTreeMap::new(),
            // As etcd begins.
            revision: 1,
            cluster: 7,
            history: Vec::new(),
            compacted: 0,
            leases: BTreeMap::new(),
            full: None,
        };
        let shared = Shared {
            store: Mutex::new(store),
            moved: watch::Sender::new(1),
            leases: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Memory {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.shared.store.lock().unwrap()
    }

    fn tell(&self) {
        let revision = self.store().revision;
        self.shared.moved.send_replace(revision);
    }

    /// A way in, for one host.
    pub fn door(&self) -> Arc<Door> {
        Arc::new(Door::to(self.clone()))
    }

    /// The keys that begin so, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let store = self.store();
        store.entries.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// A key.
    pub fn get(&self, key: &str) -> Option<Entry> {
        self.store().entries.get(key).cloned()
    }

    /// Of the whole store.
    pub fn revision(&self) -> i64 {
        self.store().revision
    }

    /// Sets a key, as somebody does who is no host.
    pub fn put(&self, key: &str, value: impl AsRef<[u8]>) {
        let put = Act::Put { key: key.to_owned(), value: value.as_ref().to_vec(), lease: 0 };
        self.store().make(&[put]);
        self.tell();
    }

    /// Takes a key away.
    pub fn delete(&self, key: &str) {
        self.store().make(&[Act::Delete(key.to_owned())]);
        self.tell();
    }

    /// Ends the lease of a key, as where its holder was not heard of for too long: all keys of it are gone at once.
    pub fn end_lease_of(&self, key: &str) {
        let lease = self.get(key).map(|entry| entry.lease).filter(|lease| *lease != 0);
        self.end_lease(lease.unwrap_or_else(|| panic!("{key} has no lease")));
    }

    fn end_lease(&self, lease: i64) {
        {
            let mut store = self.store();
            store.leases.remove(&lease);
            let of = store.entries.values().filter(|entry| entry.lease == lease);
            let gone: Vec<Act> = of.map(|entry| Act::Delete(entry.key.clone())).collect();
            store.make(&gone);
        }
        self.tell();
    }

    /// Makes a change if all guards hold.
    fn commit(&self, guards: &[Guard], acts: &[Act]) -> Result<Committed, Trouble> {
        let committed = {
            let mut store = self.store();
            if let Some(why) = &store.full {
                return Err(Trouble::Full(why.clone()));
            }
            let done = guards.iter().all(|guard| store.holds(guard));
            if done {
                let lost = acts.iter().any(|act| match act {
                    Act::Put { lease, .. } => *lease != 0 && !store.leases.contains_key(lease),
                    Act::Delete(_) => false,
                });
                if lost {
                    return Err(Trouble::NoLease);
                }
                store.make(acts);
            }
            Committed { done, revision: store.revision }
        };
        self.tell();
        Ok(committed)
    }

    /// What happened until now is not kept any more.
    pub fn compact(&self) {
        let mut store = self.store();
        store.compacted = store.revision;
        store.history.clear();
    }

    /// It takes no changes for this reason, or takes them again.
    pub fn fill(&self, why: Option<&str>) {
        self.store().full = why.map(str::to_owned);
    }

    /// All that it holds.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.store().clone())
    }

    /// It is put back to a snapshot. Doors have to be shut and opened for anybody to notice, as with a server that is
    /// started anew.
    pub fn restore(&self, snapshot: &Snapshot) {
        *self.store() = snapshot.0.clone();
        self.tell();
    }
}

impl Store {
    fn holds(&self, guard: &Guard) -> bool {
        let entry = |key: &String| self.entries.get(key);
        match guard {
            Guard::Absent(key) => entry(key).is_none(),
            Guard::Created(key, at) => entry(key).is_some_and(|entry| entry.created == *at),
            Guard::Modified(key, at) => entry(key).is_some_and(|entry| entry.modified == *at),
            Guard::Leased(key, lease) => entry(key).is_some_and(|entry| entry.lease == *lease),
        }
    }

    /// Makes a change whole, by one revision.
    fn make(&mut self, acts: &[Act]) {
        let there = |act: &Act| match act {
            Act::Put { .. } => true,
            Act::Delete(key) => self.entries.contains_key(key),
        };
        if !acts.iter().any(there) {
            return;
        }
        self.revision += 1;
        let revision = self.revision;
        for act in acts {
            let change = match act {
                Act::Put { key, value, lease } => {
                    let created = self.entries.get(key).map_or(revision, |entry| entry.created);
                    let entry = Entry {
                        key: key.clone(),
                        value: value.clone(),
                        created,
                        modified: revision,
                        lease: *lease,
                    };
                    self.entries.insert(key.clone(), entry.clone());
                    Change::Put(entry)
                }
                Act::Delete(key) if self.entries.remove(key).is_some() => {
                    Change::Gone { key: key.clone(), revision }
                }
                Act::Delete(_) => continue,
            };
            self.history.push((revision, change));
        }
    }

    /// What happened from a revision on to keys that begin so, one answer for each revision.
    fn since(&self, prefix: &str, from: i64) -> Vec<Seen> {
        let mut seen: Vec<Seen> = Vec::new();
        for (revision, change) in self.history.iter().filter(|(at, _)| *at >= from) {
            let key = match change {
                Change::Put(entry) => &entry.key,
                Change::Gone { key, .. } => key,
            };
            if !key.starts_with(prefix) {
                continue;
            }
            match seen.last_mut().filter(|last| last.revision == *revision) {
                Some(last) => last.changes.push(change.clone()),
                None => {
                    let changes = vec![change.clone()];
                    seen.push(Seen { revision: *revision, changes });
                }
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Coordinator, Link, Place};
    use super::door::away;
    use super::*;

    fn put(key: &str, value: &str, lease: i64) -> Act {
        Act::Put { key: key.into(), value: value.into(), lease }
    }

    async fn connected(door: &Door) -> Arc<dyn Link> {
        let place = Place {
            endpoints: Vec::new(),
            ca: None,
            certificate: None,
            user: None,
            root: String::new(),
        };
        door.connect(&place, "", Duration::from_secs(2)).await.unwrap()
    }

    #[tokio::test]
    async fn a_change_is_made_whole_if_its_guards_hold() {
        let memory = Memory::default();
        let link = connected(&memory.door()).await;
        let absent = [Guard::Absent("a".into())];
        let made = link.commit(&absent, &[put("a", "1", 0), put("b", "1", 0)]).await.unwrap();
        assert_eq!((made.done, made.revision), (true, 2));
        let again = link.commit(&absent, &[put("a", "2", 0)]).await.unwrap();
        assert_eq!((again.done, again.revision), (false, 2));
        let newer = [Guard::Modified("a".into(), 2), Guard::Created("b".into(), 2)];
        assert!(link.commit(&newer, &[put("a", "2", 0)]).await.unwrap().done);
        assert!(!link.commit(&newer, &[Act::Delete("b".into())]).await.unwrap().done);
        let a = memory.get("a").unwrap();
        assert_eq!((a.value.as_slice(), a.created, a.modified), (&b"2"[..], 2, 3));
        assert_eq!(link.list("").await.unwrap().revision, 3);
    }

    #[tokio::test]
    async fn keys_end_with_their_lease_and_watches_tell() {
        let memory = Memory::default();
        let (door, other) = (memory.door(), memory.door());
        let (link, watching) = (connected(&door).await, connected(&other).await);
        let lease = link.grant(Duration::from_secs(15)).await.unwrap();
        let mut watch = watching.watch("x/", 2).await.unwrap();
        link.commit(&[], &[put("x/a", "1", lease), put("y", "1", lease)]).await.unwrap();
        let seen = watch.recv().await.unwrap().unwrap();
        assert!(matches!(&seen.changes[..], [Change::Put(entry)] if entry.key == "x/a"));
        memory.end_lease_of("x/a");
        let seen = watch.recv().await.unwrap().unwrap();
        assert_eq!(seen.changes, [Change::Gone { key: "x/a".into(), revision: 3 }]);
        assert_eq!(memory.keys(""), Vec::<String>::new());
        assert_eq!(link.keep(lease).await, Err(Trouble::NoLease));
        let late = link.commit(&[], &[put("y", "1", lease)]).await;
        assert_eq!(late, Err(Trouble::NoLease));
        // A watch goes on where another one ended, and not where that is not kept any more.
        let mut again = watching.watch("x/", 3).await.unwrap();
        assert_eq!(again.recv().await.unwrap().unwrap().revision, 3);
        memory.compact();
        let mut lost = watching.watch("x/", 2).await.unwrap();
        assert_eq!(lost.recv().await.unwrap(), Err(Trouble::Compacted(2)));
    }

    #[tokio::test]
    async fn a_door_that_was_shut_needs_another_connection() {
        let memory = Memory::default();
        let door = memory.door();
        let link = connected(&door).await;
        door.lose_answers(1);
        link.commit(&[], &[put("a", "1", 0)]).await.unwrap_err();
        assert!(memory.get("a").is_some(), "made all the same");
        let mut watch = link.watch("", 1).await.unwrap();
        watch.recv().await.unwrap().unwrap();
        door.shut();
        assert_eq!(watch.recv().await, Some(Err(away())));
        door.open();
        assert_eq!(link.list("").await, Err(away()));
        assert_eq!(connected(&door).await.list("").await.unwrap().entries.len(), 1);
    }
}
