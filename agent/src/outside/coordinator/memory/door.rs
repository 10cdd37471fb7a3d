//! Ways to the coordinator in memory, each of which a test shuts, delays or makes deaf.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::super::{Act, Committed, Coordinator, Guard, Link, Listed, Place, Seen, Trouble};
use super::Memory;

/// One host's way to the coordinator.
pub struct Door {
    memory: Memory,
    shut: AtomicBool,
    /// Counts how often it was shut.
    open: watch::Sender<u64>,
    /// So many changes are made whose answers are lost.
    deaf: Arc<AtomicUsize>,
    late: Arc<Mutex<Late>>,
}

/// Changes that are on their way for as long as a test likes.
#[derive(Default)]
struct Late {
    /// The next one that sets a key which begins so will be.
    prefix: Option<String>,
    waiting: Vec<(Vec<Guard>, Vec<Act>)>,
}

impl Door {
    pub(super) fn to(memory: Memory) -> Self {
        let open = watch::Sender::new(0);
        let (shut, deaf) = (AtomicBool::new(false), Arc::default());
        Self { memory, shut, open, deaf, late: Arc::default() }
    }

    /// Nothing gets through any more, and each connection is broken.
    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
        self.open.send_modify(|times| *times += 1);
    }

    /// Connections can be made again.
    pub fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }

    /// The next change that sets a key which begins so is late: whoever asked hears nothing until it gives up.
    pub fn delay(&self, prefix: &str) {
        self.late.lock().unwrap().prefix = Some(prefix.to_owned());
    }

    /// How many are late.
    pub fn delayed(&self) -> usize {
        self.late.lock().unwrap().waiting.len()
    }

    /// What was late arrives, also where it was given up.
    pub fn deliver(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for (guards, acts) in late.waiting {
            // Nobody hears what became of it.
            let _ = self.memory.commit(&guards, &acts);
        }
    }

    /// The next so many changes are made, and their answers lost.
    pub fn lose_answers(&self, changes: usize) {
        self.deaf.store(changes, Ordering::SeqCst);
    }
}

pub(super) fn away() -> Trouble {
    Trouble::Away("nothing gets through".to_owned())
}

#[async_trait]
impl Coordinator for Door {
    async fn connect(&self, _: &Place, _: &str, _: Duration) -> Result<Arc<dyn Link>, Trouble> {
        if self.shut.load(Ordering::SeqCst) {
            return Err(away());
        }
        let cluster = self.memory.store().cluster;
        let link = MemoryLink {
            memory: self.memory.clone(),
            open: self.open.subscribe(),
            times: *self.open.borrow(),
            cluster,
            deaf: Arc::clone(&self.deaf),
            late: Arc::clone(&self.late),
        };
        Ok(Arc::new(link))
    }
}

struct MemoryLink {
    memory: Memory,
    open: watch::Receiver<u64>,
    /// What that was when it was made.
    times: u64,
    cluster: u64,
    deaf: Arc<AtomicUsize>,
    late: Arc<Mutex<Late>>,
}

impl MemoryLink {
    /// Whether a change is late; it waits then.
    fn is_late(&self, guards: &[Guard], acts: &[Act]) -> bool {
        let mut late = self.late.lock().unwrap();
        let of = |act: &Act| match (act, &late.prefix) {
            (Act::Put { key, .. }, Some(prefix)) => key.starts_with(prefix),
            _ => false,
        };
        let is_late = acts.iter().any(of);
        if is_late {
            late.prefix = None;
            late.waiting.push((guards.to_vec(), acts.to_vec()));
        }
        is_late
    }

    fn through(&self) -> Result<(), Trouble> {
        if *self.open.borrow() == self.times { Ok(()) } else { Err(away()) }
    }
}

#[async_trait]
impl Link for MemoryLink {
    fn cluster(&self) -> u64 {
        self.cluster
    }

    async fn list(&self, prefix: &str) -> Result<Listed, Trouble> {
        self.through()?;
        let store = self.memory.store();
        let found = store.entries.values().filter(|entry| entry.key.starts_with(prefix));
        Ok(Listed { entries: found.cloned().collect(), revision: store.revision })
    }

    async fn names(&self, prefix: &str) -> Result<Listed, Trouble> {
        let mut listed = self.list(prefix).await?;
        listed.entries.iter_mut().for_each(|entry| entry.value.clear());
        Ok(listed)
    }

    async fn commit(&self, guards: &[Guard], acts: &[Act]) -> Result<Committed, Trouble> {
        self.through()?;
        if self.is_late(guards, acts) {
            let mut open = self.open.clone();
            let _ = open.wait_for(|times| *times != self.times).await;
            return Err(away());
        }
        let committed = self.memory.commit(guards, acts)?;
        let deaf = self.deaf.load(Ordering::SeqCst);
        if deaf > 0 {
            self.deaf.store(deaf - 1, Ordering::SeqCst);
            return Err(Trouble::Away("the answer was lost".to_owned()));
        }
        Ok(committed)
    }

    async fn grant(&self, lasts: Duration) -> Result<i64, Trouble> {
        self.through()?;
        let lease = self.memory.shared.leases.fetch_add(1, Ordering::SeqCst) + 1_000;
        let lease = i64::try_from(lease).unwrap();
        self.memory.store().leases.insert(lease, lasts);
        Ok(lease)
    }

    async fn keep(&self, lease: i64) -> Result<(), Trouble> {
        self.through()?;
        let known = self.memory.store().leases.contains_key(&lease);
        if known { Ok(()) } else { Err(Trouble::NoLease) }
    }

    async fn revoke(&self, lease: i64) -> Result<(), Trouble> {
        self.through()?;
        self.memory.end_lease(lease);
        Ok(())
    }

    async fn watch(
        &self,
        prefix: &str,
        from: i64,
    ) -> Result<mpsc::Receiver<Result<Seen, Trouble>>, Trouble> {
        self.through()?;
        let (tell, told) = mpsc::channel(16);
        let (memory, prefix) = (self.memory.clone(), prefix.to_owned());
        let (mut open, times) = (self.open.clone(), self.times);
        let mut moved = memory.shared.moved.subscribe();
        tokio::spawn(async move {
            let mut from = from;
            loop {
                moved.mark_unchanged();
                let (news, upto) = {
                    let store = memory.store();
                    let lost = from <= store.compacted && from <= store.revision;
                    let news = if lost {
                        vec![Err(Trouble::Compacted(from))]
                    } else {
                        store.since(&prefix, from).into_iter().map(Ok).collect()
                    };
                    (news, store.revision)
                };
                from = from.max(upto + 1);
                for seen in news {
                    let over = seen.is_err();
                    if tell.send(seen).await.is_err() || over {
                        return;
                    }
                }
                tokio::select! {
                    () = tell.closed() => return,
                    changed = moved.changed() => if changed.is_err() { return },
                    _ = open.changed() => {}
                }
                if *open.borrow() != times {
                    // Whoever listened may have left.
                    let _ = tell.send(Err(away())).await;
                    return;
                }
            }
        });
        Ok(told)
    }
}
