//! The network between a host and the members of etcd: it delays, it loses, and it is cut.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use super::etcd::Etcd;
use super::sim::{Sim, lock};
use crate::outside::coordinator::{
    Act, Committed, Coordinator, Guard, Link, Listed, Place, Seen, Trouble,
};

/// The members of etcd.
pub(super) const ENDPOINTS: [&str; 3] =
    ["http://etcd-1:2379", "http://etcd-2:2379", "http://etcd-3:2379"];
/// What a watch has seen waits for its reader, up to so many answers.
const UNREAD: usize = 16;

/// What gets through to a member of etcd, and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Everything.
    No,
    /// Nothing gets there.
    There,
    /// What is asked is done, and nobody hears of it.
    Back,
    /// Nothing gets through.
    Both,
}

struct Wires {
    cut: [Cut; ENDPOINTS.len()],
    /// Since when nothing gets through to any of them.
    cut_off: Option<Duration>,
    /// So many connections to each were broken.
    broken: [u64; ENDPOINTS.len()],
    /// Everything takes longer, by up to so much.
    slow: Duration,
    /// The answers to the next so many changes are lost.
    deaf: u32,
}

/// What is between one host and etcd.
pub(super) struct Network {
    sim: Sim,
    etcd: Arc<Etcd>,
    host: usize,
    wires: Mutex<Wires>,
    changed: watch::Sender<u64>,
}

impl Network {
    /// That of a host, through which everything gets.
    pub(super) fn new(sim: &Sim, etcd: &Arc<Etcd>, host: usize) -> Arc<Self> {
        let wires = Wires {
            cut: [Cut::No; ENDPOINTS.len()],
            cut_off: None,
            broken: [0; ENDPOINTS.len()],
            slow: Duration::ZERO,
            deaf: 0,
        };
        Arc::new(Self {
            sim: sim.clone(),
            etcd: Arc::clone(etcd),
            host,
            wires: Mutex::new(wires),
            changed: watch::Sender::new(0),
        })
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        lock(&self.wires)
    }

    fn tell(&self) {
        self.changed.send_modify(|times| *times += 1);
    }

    /// Cuts the way to a member, or mends it.
    pub(super) fn cut(&self, at: usize, cut: Cut) {
        {
            let mut wires = self.wires();
            wires.cut[at] = cut;
            let whole = wires.cut.iter().all(|cut| *cut == Cut::Both);
            wires.cut_off = match whole {
                true => wires.cut_off.or(Some(self.sim.now())),
                false => None,
            };
        }
        self.tell();
    }

    /// Breaks the connection to a member where the way there is cut: somebody has noticed.
    pub(super) fn notice(&self, at: usize) {
        if self.wires().cut[at] != Cut::No {
            self.reset(at);
        }
    }

    /// Breaks the connection to a member.
    pub(super) fn reset(&self, at: usize) {
        self.wires().broken[at] += 1;
        self.tell();
    }

    /// Breaks all connections.
    pub(super) fn reset_all(&self) {
        (0..ENDPOINTS.len()).for_each(|at| self.reset(at));
    }

    /// Everything takes longer.
    pub(super) fn slow_down(&self, by: Duration) {
        self.wires().slow = by;
    }

    /// Changes are made whose answers are lost.
    pub(super) fn lose_answers(&self, changes: u32) {
        self.wires().deaf = changes;
    }

    /// All is well again.
    pub(super) fn mend(&self) {
        (0..ENDPOINTS.len()).for_each(|at| self.cut(at, Cut::No));
        let mut wires = self.wires();
        (wires.slow, wires.deaf) = (Duration::ZERO, 0);
    }

    /// Since when nothing gets through.
    pub(super) fn cut_off(&self) -> Option<Duration> {
        self.wires().cut_off
    }

    fn delay(&self) -> Duration {
        let slow = u64::try_from(self.wires().slow.as_micros()).unwrap();
        self.sim.micros(100, 3_000 + slow)
    }

    fn passes(&self, at: usize, way: Cut) -> bool {
        let cut = self.wires().cut[at];
        cut == Cut::No || (cut != Cut::Both && cut != way)
    }

    /// Whether the answer to a change is lost.
    fn loses(&self) -> bool {
        let mut wires = self.wires();
        let loses = wires.deaf > 0;
        wires.deaf = wires.deaf.saturating_sub(1);
        loses
    }
}

/// A host's way to etcd.
pub(super) struct Way(pub(super) Arc<Network>);

#[async_trait]
impl Coordinator for Way {
    async fn connect(
        &self,
        place: &Place,
        endpoint: &str,
        limit: Duration,
    ) -> Result<Arc<dyn Link>, Trouble> {
        let at = place.endpoints.iter().position(|it| it == endpoint).unwrap();
        let network = Arc::clone(&self.0);
        let broken = network.wires().broken[at];
        let line = Line { network, at, broken, limit, cluster: 0 };
        let cluster = line.call("connecting", false, |etcd, _| Ok(etcd.cluster())).await?;
        Ok(Arc::new(Line { cluster, ..line }))
    }
}

/// A connection to a member.
#[derive(Clone)]
struct Line {
    network: Arc<Network>,
    at: usize,
    /// How often a connection there was broken when this one was made.
    broken: u64,
    limit: Duration,
    cluster: u64,
}

fn away(what: &str, why: &str) -> Trouble {
    Trouble::Away(format!("{what}: {why}"))
}

impl Line {
    fn is_broken(&self) -> bool {
        self.network.wires().broken[self.at] != self.broken
    }

    async fn breaks(&self) {
        let mut changed = self.network.changed.subscribe();
        let _ = changed.wait_for(|_| self.is_broken()).await;
    }

    /// Asks etcd for something, which is done there whatever becomes of this host; of a `change` the answer may be lost.
    async fn call<T: Send + 'static>(
        &self,
        what: &str,
        change: bool,
        serve: impl FnOnce(&Etcd, usize) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        if self.is_broken() {
            return Err(away(what, "the connection is broken"));
        }
        let (tell, told) = oneshot::channel();
        let (there, back) = (self.network.delay(), self.network.delay());
        let (network, at) = (Arc::clone(&self.network), self.at);
        self.network.sim.begin_for(None, async move {
            network.sim.sleep(there).await;
            if !network.passes(at, Cut::There) {
                return;
            }
            let answer = serve(&network.etcd, network.host);
            network.sim.sleep(back).await;
            if network.passes(at, Cut::Back) && !(change && network.loses()) {
                // Who asked may have left.
                let _ = tell.send(answer);
            }
        });
        let answered = async move {
            match told.await {
                Ok(answer) => answer,
                // Nobody hears that something was lost.
                Err(_) => pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answered => answer,
            () = self.breaks() => Err(away(what, "the connection broke")),
            () = self.network.sim.sleep(self.limit) => Err(away(what, "no answer in time")),
        }
    }

    /// Hands over what a watch has seen, once it gets through; whether somebody is there still.
    async fn hands(&self, tell: &mpsc::Sender<Result<Seen, Trouble>>, seen: Seen) -> bool {
        self.network.sim.sleep(self.network.delay()).await;
        let mut changed = self.network.changed.subscribe();
        let through = |_: &u64| self.is_broken() || self.network.passes(self.at, Cut::Back);
        let _ = changed.wait_for(through).await;
        if self.is_broken() {
            let _ = tell.send(Err(away("a watch", "the connection broke"))).await;
            return false;
        }
        tell.send(Ok(seen)).await.is_ok()
    }

    /// Tells what happens, for as long as somebody listens.
    async fn tells(self, prefix: String, from: i64, tell: mpsc::Sender<Result<Seen, Trouble>>) {
        let (etcd, sim) = (&self.network.etcd, &self.network.sim);
        let (mut from, mut moved) = (from, etcd.follow());
        loop {
            moved.mark_unchanged();
            let (news, upto) = match etcd.since(&prefix, from) {
                Ok(news) => news,
                Err(trouble) => {
                    let _ = tell.send(Err(trouble)).await;
                    return;
                }
            };
            from = from.max(upto + 1);
            for seen in news {
                if !self.hands(&tell, seen).await {
                    return;
                }
            }
            let quiet = sim.millis(2_000, 9_000);
            let silent = tokio::select! {
                biased;
                () = tell.closed() => return,
                () = self.breaks() => {
                    let _ = tell.send(Err(away("a watch", "the connection broke"))).await;
                    return;
                }
                _ = moved.changed() => false,
                () = sim.sleep(quiet) => true,
            };
            // Now and then it says how far it has looked.
            let far = Seen { revision: upto, changes: Vec::new() };
            if silent && !self.hands(&tell, far).await {
                return;
            }
        }
    }
}

#[async_trait]
impl Link for Line {
    fn cluster(&self) -> u64 {
        self.cluster
    }

    async fn list(&self, prefix: &str) -> Result<Listed, Trouble> {
        let prefix = prefix.to_owned();
        self.call("a listing", false, move |etcd, host| Ok(etcd.list(host, &prefix))).await
    }

    async fn names(&self, prefix: &str) -> Result<Listed, Trouble> {
        let mut listed = self.list(prefix).await?;
        listed.entries.iter_mut().for_each(|entry| entry.value.clear());
        Ok(listed)
    }

    async fn commit(&self, guards: &[Guard], acts: &[Act]) -> Result<Committed, Trouble> {
        let (guards, acts) = (guards.to_vec(), acts.to_vec());
        self.call("a change", true, move |etcd, host| etcd.commit(host, &guards, &acts)).await
    }

    async fn grant(&self, lasts: Duration) -> Result<i64, Trouble> {
        self.call("a lease", true, move |etcd, _| etcd.grant(lasts)).await
    }

    async fn keep(&self, lease: i64) -> Result<(), Trouble> {
        self.call("keeping a lease", false, move |etcd, _| etcd.keep(lease)).await
    }

    async fn revoke(&self, lease: i64) -> Result<(), Trouble> {
        self.call("ending a lease", true, move |etcd, _| {
            etcd.revoke(lease);
            Ok(())
        })
        .await
    }

    async fn watch(
        &self,
        prefix: &str,
        from: i64,
    ) -> Result<mpsc::Receiver<Result<Seen, Trouble>>, Trouble> {
        self.call("a watch", false, |_, _| Ok(())).await?;
        let (tell, told) = mpsc::channel(UNREAD);
        self.network.sim.begin_for(None, self.clone().tells(prefix.to_owned(), from, tell));
        Ok(told)
    }
}
