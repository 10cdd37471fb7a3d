//! The hosts of a fleet, each with the agent's own rooms: its state, its emergency, its part in the fleet, parameters and
//! matrices. They live in one process, on clocks of their own; they die, and what they have written stays.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use genesis_storage::{EmergencyRecord, FleetRecord, Intent, Options, Store};
use jiff::SignedDuration;
use tempfile::TempDir;
use tokio::sync::watch;

use super::book::Book;
use super::etcd::Etcd;
use super::link::{ENDPOINTS, Network, Way};
use super::sim::{HostClock, Sim, lock};
use crate::emergency::Emergency;
use crate::error::Result;
use crate::events::Bell;
use crate::fleet::keys::Keys;
use crate::fleet::metrics::Metrics;
use crate::fleet::{Config, Fleet, Me};
use crate::operations::experiments::{self, Experiments};
use crate::operations::matrices::sharing::Sharing;
use crate::operations::matrices::{self, Matrices};
use crate::outside::coordinator::{Coordinator, Entry, Place};
use crate::outside::{Clock, Outside, files};
use crate::runs::Runs;
use crate::state::State;

/// What a host holds in the fleet ends so long after it was last heard of.
pub(super) const LEASE: Duration = Duration::from_secs(6);
/// So many hosts publish matrices; the others follow.
const PUBLISHERS: usize = 2;
/// Hosts live in memory where there is so much of it, in bytes.
const ROOM: u64 = 256 << 20;

/// What an agent is made of.
#[derive(Clone)]
pub(super) struct Agent {
    pub(super) fleet: Arc<Fleet>,
    pub(super) emergency: Emergency,
    pub(super) experiments: Arc<Experiments>,
    pub(super) matrices: Arc<Matrices>,
}

/// What changes of a host.
#[derive(Default)]
pub(super) struct Seen {
    starts: u32,
    pub(super) agent: Option<Agent>,
    store: Weak<Store>,
    /// The revision up to which it knew everything when it was looked at last.
    pub(super) revision: i64,
    /// Its emergency then.
    pub(super) emergency: Option<EmergencyRecord>,
    /// Since when it knows of an emergency of the fleet that is not in force there.
    pub(super) behind: Option<Duration>,
    /// When it stood still last.
    pub(super) still: Duration,
}

/// A host.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) folder: TempDir,
    pub(super) clock: Arc<HostClock>,
    pub(super) network: Arc<Network>,
    seen: Mutex<Seen>,
}

impl Host {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// The file of its emergency.
    pub(super) fn flag(&self) -> PathBuf {
        self.folder.path().join("emergency")
    }

    /// Its identity.
    pub(super) fn id(&self) -> String {
        format!("id-of-{}", self.name)
    }

    /// The session of the agent that lives there, or lived last.
    pub(super) fn session(&self) -> String {
        format!("{}-{}", self.name, self.seen().starts)
    }
}

/// All of it.
pub(super) struct World {
    pub(super) sim: Sim,
    pub(super) etcd: Arc<Etcd>,
    pub(super) keys: Keys,
    pub(super) hosts: Vec<Host>,
    book: Arc<Mutex<Book>>,
    outside: Outside,
    experiments: experiments::Config,
    matrices: matrices::Config,
}

/// The file of a state in which nothing is.
fn blank() -> &'static [u8] {
    static BLANK: OnceLock<Vec<u8>> = OnceLock::new();
    BLANK.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.redb");
        drop(Store::open(&file, Options::default()).unwrap());
        std::fs::read(file).unwrap()
    })
}

fn folder() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let roomy = memory.is_dir() && files::free_bytes(memory).is_ok_and(|free| free > ROOM);
    match roomy {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

impl World {
    /// So many hosts, whose clocks are wrong by minutes; none is up.
    pub(super) fn new(sim: &Sim, hosts: usize) -> Arc<Self> {
        let book = Arc::new(Mutex::new(Book::default()));
        let etcd = Etcd::new(sim, &book);
        let hosts = (0..hosts).map(|host| {
            let wrong = i64::try_from(sim.within(0, 600)).unwrap() - 300;
            let up = Duration::from_secs(sim.within(0, 1_000_000));
            Host {
                name: format!("host-{host}"),
                folder: folder(),
                clock: Arc::new(HostClock::new(sim, up, SignedDuration::from_secs(wrong))),
                network: Network::new(sim, &etcd, host),
                seen: Mutex::default(),
            }
        });
        let places = crate::config::Places { state: "/s".into(), socket: "/s/a".into() };
        let config = crate::config::Config::parse("", "", &places).config.unwrap();
        Arc::new(Self {
            hosts: hosts.collect(),
            sim: sim.clone(),
            etcd,
            keys: Keys::of("prod"),
            book,
            outside: Outside::real(),
            experiments: config.experiments,
            matrices: config.matrices,
        })
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// Starts the agent of a host.
    pub(super) fn start(self: &Arc<Self>, host: usize) {
        if self.sim.alive(host).is_some() {
            return;
        }
        let start = {
            let mut seen = self.hosts[host].seen();
            seen.starts += 1;
            seen.starts
        };
        self.sim.note(&format!("host {host} starts"));
        self.sim.bring_up(host, start);
        let world = Arc::clone(self);
        self.sim.begin_for(Some((host, start)), async move { world.begin(host, start).await });
    }

    async fn begin(self: Arc<Self>, host: usize, start: u32) {
        let at = &self.hosts[host];
        assert!(at.seen().store.upgrade().is_none(), "a host that is no more holds its store");
        let file = at.folder.path().join("state.redb");
        if !file.exists() {
            std::fs::write(&file, blank()).unwrap();
        }
        let store = Arc::new(Store::open(&file, Options::default()).unwrap());
        at.seen().store = Arc::downgrade(&store);
        let state = State::new(store, watch::channel(0).1);
        let clock = Arc::clone(&at.clock) as Arc<dyn Clock>;
        let emergency =
            Emergency::open(state.clone(), Arc::clone(&clock), at.flag()).await.unwrap();
        let current = emergency.current();
        self.book().restarted(host, current.as_ref());
        at.seen().emergency = current;
        let way = Arc::new(Way(Arc::clone(&at.network))) as Arc<dyn Coordinator>;
        let seam = Arc::clone(&clock);
        let outside = Outside { clock: seam, coordinator: way, ..self.outside.clone() };
        let me = member(at, &state, start).await;
        let about = (emergency.clone(), Bell::default(), Metrics::default());
        let fleet = Fleet::new(config(), me, &outside, about);
        // What is no file can't be opened as one: so nobody writes trades or values, by a thread that no seed decides.
        let none = at.folder.path().to_owned();
        let experiments = Experiments::open(
            (state.clone(), outside.clone()),
            (self.experiments.clone(), none.clone()),
            Arc::new(promotes),
            (experiments::Metrics::default(), Bell::default(), Arc::clone(&fleet)),
        );
        let experiments = experiments.unwrap();
        let runs = Runs::new(state.clone(), clock, emergency.clone());
        let matrices = Matrices::open(
            (state.clone(), outside, runs, at.id()),
            (self.sharing(host), none),
            (matrices::Metrics::default(), Bell::default(), Arc::clone(&fleet)),
        );
        let matrices = matrices.unwrap();
        let owner = Some((host, start));
        self.sim.begin_for(owner, emergency.clone().serve());
        self.sim.begin_for(owner, Arc::clone(&fleet).watch_standing());
        self.sim.begin_for(owner, Arc::clone(&fleet).keep_head(state));
        self.sim.begin_for(owner, Arc::clone(&fleet).serve());
        self.sim.begin_for(owner, Arc::clone(&experiments).serve());
        self.sim.begin_for(owner, Arc::clone(&matrices).serve());
        let mut seen = at.seen();
        (seen.revision, seen.still) = (0, self.sim.now());
        seen.agent = Some(Agent { fleet, emergency, experiments, matrices });
    }

    /// What a host has to do with the fleet's matrix. A version is in force at once where it comes.
    fn sharing(&self, host: usize) -> matrices::Config {
        let mut config = self.matrices.clone();
        config.rollout.percents = vec![100];
        config.sharing = match host < PUBLISHERS {
            true => Sharing::Publish,
            false => Sharing::Follow,
        };
        config
    }

    /// The agent of a host is killed.
    pub(super) fn kill(&self, host: usize) {
        let at = &self.hosts[host];
        let leaving = at.seen().agent.as_ref().is_some_and(|agent| {
            // What can't be read may have been one that is over.
            agent.fleet.known_emergency().map_or(true, |it| it.is_some_and(|it| !it.active()))
        });
        self.sim.note(&format!("host {host} is killed"));
        self.book().killed(host, leaving);
        self.sim.kill(host, || {
            let mut seen = at.seen();
            let agent = seen.agent.take();
            (seen.emergency, seen.behind) = (None, None);
            drop(seen);
            drop(agent);
        });
    }

    /// Has something done on a host that is up, as by a call to its agent.
    pub(super) fn call<F>(self: &Arc<Self>, host: usize, work: impl FnOnce(Arc<Self>, Agent) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let agent = self.hosts[host].seen().agent.clone();
        let (Some(agent), Some(start)) = (agent, self.sim.alive(host)) else { return };
        let call = work(Arc::clone(self), agent);
        self.sim.begin_for(Some((host, start)), call);
    }

    /// What all hosts have in common.
    pub(super) fn common(&self) -> Vec<Entry> {
        self.etcd.under(&self.keys.common())
    }

    /// Lets time pass up to an instant; what must be so at each moment is looked at.
    pub(super) fn go(self: &Arc<Self>, until: Duration) {
        while self.sim.step(until) {
            self.check();
        }
    }

    /// The same for so long.
    pub(super) fn pass(self: &Arc<Self>, long: Duration) {
        self.go(self.sim.now() + long);
    }
}

/// A variant may become the value of all units at any time.
fn promotes() -> Result<()> {
    Ok(())
}

/// Who the agent of a host is; the next one will know of it.
async fn member(host: &Host, state: &State, start: u32) -> Me {
    let now = host.clock.now();
    let before = state.read(|reading| Ok(reading.fleet().get()?)).unwrap().unwrap_or_default();
    let session = format!("{}-{start}", host.name);
    let record = FleetRecord { session: session.clone() };
    let intent = Intent::new(now, "system:agent", "fleet.joined").target("prod");
    let written = state.write(intent, move |writing| Ok(writing.fleet().put(&record)?)).await;
    written.unwrap();
    Me {
        host_id: host.id(),
        host: host.name.clone(),
        session,
        before: before.session,
        version: "1".to_owned(),
        node: format!("{}:7443", host.name),
        since: now,
    }
}

fn config() -> Config {
    let endpoints = ENDPOINTS.map(str::to_owned).to_vec();
    let root = Keys::of("prod").root();
    let place = Place { endpoints, ca: None, certificate: None, user: None, root };
    Config { etcd: Some(place), lease: LEASE, ..Config::alone("prod") }
}
