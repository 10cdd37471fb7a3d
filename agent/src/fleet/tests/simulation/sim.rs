//! A scheduler of one thread. Tasks are polled one at a time, in an order that a seed decides, and time passes only when
//! nobody has anything to do: so that all of it happens once more, to the bit, where the seed is the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::Moment;
use jiff::{SignedDuration, Timestamp};

use super::EVENTS;
use super::random::Random;
use crate::outside::Clock;
use crate::outside::tasks::simulated::{Simulated, Task};

/// Whose a task is: a host's, of so many starts of it; or of none: the network's, etcd's, people's.
pub(super) type Owner = Option<(usize, u32)>;

/// Nothing that is asked of a host polls so often before it waits.
const RESTLESS: usize = 100_000;

/// Locks. A test that has failed shows why, and not that it has failed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Entry {
    owner: Owner,
    /// Away while it is polled.
    task: Option<Task>,
    waker: Waker,
}

struct Inner {
    now: Duration,
    random: Random,
    tasks: BTreeMap<u64, Entry>,
    /// By when they are due, and by when they were set.
    timers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
    /// Whose task is polled now.
    running: Owner,
    /// The hosts that live, and their starts.
    alive: BTreeMap<usize, u32>,
    /// The hosts that stand still.
    frozen: BTreeSet<usize>,
    events: u64,
    hash: blake3::Hasher,
    /// The last lines of what happened.
    lines: VecDeque<String>,
    kept: usize,
}

/// The scheduler; a clone is the same one.
#[derive(Clone)]
pub(super) struct Sim {
    inner: Arc<Mutex<Inner>>,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

struct Flag {
    id: u64,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        lock(&self.ready).insert(self.id);
    }
}

impl Sim {
    /// Decided by a seed. So many lines of what happened are kept.
    pub(super) fn new(seed: u64, kept: usize) -> Self {
        let inner = Inner {
            now: Duration::ZERO,
            random: Random::new(seed),
            tasks: BTreeMap::new(),
            timers: BTreeMap::new(),
            next: 0,
            running: None,
            alive: BTreeMap::new(),
            frozen: BTreeSet::new(),
            events: 0,
            hash: blake3::Hasher::new(),
            lines: VecDeque::new(),
            kept,
        };
        Self { inner: Arc::new(Mutex::new(inner)), ready: Arc::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.inner().now
    }

    /// From one number up to, not including, another.
    pub(super) fn within(&self, from: u64, until: u64) -> u64 {
        self.inner().random.within(from, until)
    }

    /// So often in a hundred.
    pub(super) fn chance(&self, percent: u64) -> bool {
        self.within(0, 100) < percent
    }

    /// Between so many microseconds.
    pub(super) fn micros(&self, from: u64, until: u64) -> Duration {
        Duration::from_micros(self.within(from, until))
    }

    /// Between so many milliseconds.
    pub(super) fn millis(&self, from: u64, until: u64) -> Duration {
        self.micros(from * 1_000, until * 1_000)
    }

    /// Writes down what happened.
    pub(super) fn note(&self, what: &str) {
        let mut inner = self.inner();
        let line = format!("{:>12} {what}", inner.now.as_nanos() / 1_000);
        inner.hash.update(line.as_bytes());
        inner.hash.update(b"\n");
        if inner.lines.len() >= inner.kept {
            inner.lines.pop_front();
        }
        inner.lines.push_back(line);
    }

    /// The last lines of what happened, with the microsecond of each.
    pub(super) fn story(&self) -> String {
        self.inner().lines.iter().fold(String::new(), |story, line| story + line + "\n")
    }

    /// Names all that happened.
    pub(super) fn hash(&self) -> String {
        self.inner().hash.finalize().to_hex().to_string()
    }

    /// Begins a task.
    pub(super) fn begin_for(&self, owner: Owner, task: impl Future<Output = ()> + Send + 'static) {
        self.add(owner, Box::pin(task));
    }

    fn add(&self, owner: Owner, task: Task) {
        let mut inner = self.inner();
        if owner.is_some_and(|(host, start)| inner.alive.get(&host) != Some(&start)) {
            drop(inner);
            // What a dead host begins is nothing.
            drop(task);
            return;
        }
        inner.next += 1;
        let id = inner.next;
        let waker = Waker::from(Arc::new(Flag { id, ready: Arc::clone(&self.ready) }));
        inner.tasks.insert(id, Entry { owner, task: Some(task), waker });
        drop(inner);
        lock(&self.ready).insert(id);
    }

    /// One of the tasks that may go on; `None`: there is none.
    fn pick(&self) -> Option<u64> {
        let mut inner = self.inner();
        let mut ready = lock(&self.ready);
        ready.retain(|id| inner.tasks.contains_key(id));
        let rests = |id: &u64| {
            let owner = inner.tasks.get(id).and_then(|it| it.owner);
            owner.is_some_and(|(host, _)| inner.frozen.contains(&host))
        };
        let may: Vec<u64> = ready.iter().copied().filter(|id| !rests(id)).collect();
        let at = match may.len() {
            0 => return None,
            1 => 0,
            several => usize::try_from(inner.random.within(0, several as u64)).unwrap(),
        };
        ready.remove(&may[at]);
        Some(may[at])
    }

    fn poll(&self, id: u64) {
        let (mut task, waker) = {
            let mut inner = self.inner();
            let Some(entry) = inner.tasks.get_mut(&id) else { return };
            let Some(task) = entry.task.take() else { return };
            let (waker, owner) = (entry.waker.clone(), entry.owner);
            inner.running = owner;
            (task, waker)
        };
        let over = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut task = Some(task);
        {
            let mut inner = self.inner();
            if over {
                inner.tasks.remove(&id);
            } else if let Some(entry) = inner.tasks.get_mut(&id) {
                entry.task = task.take();
            }
        }
        // In the name of its host, and without the lock.
        drop(task);
        self.inner().running = None;
    }

    fn settle(&self) {
        for _ in 0..RESTLESS {
            let Some(id) = self.pick() else { return };
            self.poll(id);
        }
        panic!("somebody has something to do for ever");
    }

    /// Has everything done that can be done, and then lets time pass until the next that somebody waits for; whether that
    /// is by then.
    pub(super) fn step(&self, until: Duration) -> bool {
        self.settle();
        let waker = {
            let mut inner = self.inner();
            let due = inner.timers.keys().next().copied().filter(|(at, _)| *at <= until);
            let Some(key) = due else {
                inner.now = inner.now.max(until);
                return false;
            };
            inner.now = inner.now.max(key.0);
            inner.events += 1;
            assert!(inner.events < EVENTS, "somebody asks for ever");
            inner.timers.remove(&key)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        self.settle();
        true
    }

    /// Waits.
    pub(super) fn sleep(&self, duration: Duration) -> Sleep {
        Sleep { sim: self.clone(), until: self.now() + duration, key: None }
    }

    /// A host lives, in so many starts.
    pub(super) fn bring_up(&self, host: usize, start: u32) {
        self.inner().alive.insert(host, start);
    }

    /// Which start of a host lives.
    pub(super) fn alive(&self, host: usize) -> Option<u32> {
        self.inner().alive.get(&host).copied()
    }

    /// A host is no more, from one instant to the next: its tasks, and what `rest` drops, end in its name.
    pub(super) fn kill(&self, host: usize, rest: impl FnOnce()) {
        let (dead, before) = {
            let mut inner = self.inner();
            let Some(start) = inner.alive.remove(&host) else { return };
            inner.frozen.remove(&host);
            let owner = Some((host, start));
            let ids = inner.tasks.iter().filter(|(_, it)| it.owner == owner).map(|(id, _)| *id);
            let ids: Vec<u64> = ids.collect();
            let dead: Vec<Entry> = ids.iter().filter_map(|id| inner.tasks.remove(id)).collect();
            (dead, std::mem::replace(&mut inner.running, owner))
        };
        drop(dead);
        rest();
        self.inner().running = before;
    }

    /// A host stands still, as one that is stopped; or goes on.
    pub(super) fn freeze(&self, host: usize, still: bool) {
        let mut inner = self.inner();
        match still {
            true => inner.frozen.insert(host),
            false => inner.frozen.remove(&host),
        };
    }

    /// Whether a host stands still.
    pub(super) fn is_frozen(&self, host: usize) -> bool {
        self.inner().frozen.contains(&host)
    }

    /// Ends everything. Tasks hold the scheduler, which holds them.
    pub(super) fn end(&self) {
        loop {
            let (tasks, timers) = {
                let mut inner = self.inner();
                inner.alive.clear();
                // Nobody's host, so that what is begun now is nothing.
                inner.running = Some((usize::MAX, 0));
                (std::mem::take(&mut inner.tasks), std::mem::take(&mut inner.timers))
            };
            if tasks.is_empty() && timers.is_empty() {
                return;
            }
            drop((tasks, timers));
        }
    }
}

impl Simulated for Sim {
    fn begin(&self, task: Task) {
        let owner = self.inner().running;
        self.add(owner, task);
    }

    fn disk(&self) -> Task {
        // Now and then it is slow.
        let wait = match self.chance(2) {
            true => self.millis(50, 800),
            false => self.micros(20, 4_000),
        };
        let sim = self.clone();
        Box::pin(async move { sim.sleep(wait).await })
    }
}

/// See [`Sim::sleep`].
pub(super) struct Sleep {
    sim: Sim,
    until: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut inner = lock(&this.sim.inner);
        if inner.now >= this.until {
            return Poll::Ready(());
        }
        let key = match this.key {
            Some(key) => key,
            None => {
                inner.next += 1;
                (this.until, inner.next)
            }
        };
        this.key = Some(key);
        inner.timers.insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.sim.inner().timers.remove(&key);
        }
    }
}

/// The clock of a host, whose wall clock may be wrong and may be set.
pub(super) struct HostClock {
    sim: Sim,
    /// How long the host had been up at the beginning.
    up: Duration,
    /// When the beginning was, by its wall clock.
    beginning: Mutex<Timestamp>,
}

impl HostClock {
    /// Of a host that is up for so long, and whose wall clock is wrong by so much.
    pub(super) fn new(sim: &Sim, up: Duration, wrong: SignedDuration) -> Self {
        let right: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
        Self { sim: sim.clone(), up, beginning: Mutex::new(right + wrong) }
    }

    /// Sets the wall clock forward, or back.
    pub(super) fn set(&self, by: SignedDuration) {
        let mut beginning = lock(&self.beginning);
        *beginning += by;
    }
}

#[async_trait]
impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.sim.now()).unwrap();
        *lock(&self.beginning) + passed
    }

    fn monotonic(&self) -> Duration {
        self.up + self.sim.now()
    }

    fn moment(&self) -> Moment {
        Moment { wall: self.now(), boot: "this boot".to_owned(), since_boot: self.monotonic() }
    }

    async fn sleep(&self, duration: Duration) {
        self.sim.sleep(duration).await;
    }
}
