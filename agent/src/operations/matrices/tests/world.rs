//! A host with series that a seed makes, consumers that report, and crashes.

use std::sync::Arc;

use genesis_storage::{Intent, MatrixRecord, Options, Store};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::batches::Stream;
use crate::config::{Config, Follower, Places};
use crate::emergency::Emergency;
use crate::error::Result;
use crate::events::Bell;
use crate::fleet::Fleet;
use crate::operations::matrices::calculate::Made;
use crate::operations::matrices::prepare::{Batch, Column, Fared, Sent};
use crate::operations::matrices::{Answer, Matrices, Metrics};
use crate::outside::coordinator::memory::{Door, Memory};
use crate::outside::{Clock, ManualClock, Outside};
use crate::runs::Runs;
use crate::state::State;

/// A Monday.
pub(super) const START: &str = "2026-03-02T00:17:00Z";
pub(super) const WHO: (&str, &str) = ("unix:uid=1000(ada)", "a test");
pub(super) const NANOS: i64 = 1_000_000_000;
pub(super) const BUCKET: i64 = 300;

/// The host.
pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) state: State,
    own: Option<Arc<Matrices>>,
    fleet: Option<Arc<Fleet>>,
    serving: Option<tokio::task::JoinHandle<()>>,
    /// Its name, and its way to the fleet.
    member: Option<(String, Arc<Door>)>,
    text: String,
    sequence: u64,
    random: u64,
}

impl World {
    pub(super) async fn new(text: &str) -> Self {
        Self::opened(text, None).await
    }

    /// A host of a fleet.
    pub(super) async fn member(name: &str, text: &str, fleet: &Memory) -> Self {
        let text = format!("{text}\n[fleet.etcd]\nendpoints = [\"http://etcd:1\"]");
        let world = Self::opened(&text, Some((name.to_owned(), fleet.door()))).await;
        let fleet = world.fleet.as_ref().unwrap();
        let mut changed = fleet.follow();
        while !fleet.is_open() {
            changed.changed().await.unwrap();
        }
        world
    }

    async fn opened(text: &str, member: Option<(String, Arc<Door>)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.redb"), Options::default()).unwrap();
        let state = State::new(Arc::new(store), watch::channel(0).1);
        let clock = Arc::new(ManualClock::new(START.parse().unwrap()));
        let text = text.to_owned();
        let mut world = Self {
            folder,
            clock,
            state,
            own: None,
            fleet: None,
            serving: None,
            member,
            text,
            sequence: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        };
        world.open().await;
        world
    }

    async fn open(&mut self) {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let mut outside = Outside { clock: Arc::clone(&clock), ..Outside::real() };
        let flag = self.folder.path().join("EMERGENCY");
        let emergency =
            Emergency::open(self.state.clone(), Arc::clone(&clock), flag).await.unwrap();
        let config = parse(&self.text);
        let fleet = match &self.member {
            None => Fleet::alone(&outside, emergency.clone()),
            Some((name, door)) => {
                outside.coordinator = Arc::clone(door) as _;
                let fleet = Fleet::member(&outside, emergency.clone(), name);
                self.serving = Some(tokio::spawn(Arc::clone(&fleet).serve()));
                fleet
            }
        };
        self.fleet = Some(Arc::clone(&fleet));
        let runs = Runs::new(self.state.clone(), clock, emergency);
        let own = Matrices::open(
            (self.state.clone(), outside, runs, "host-1".to_owned()),
            (config.matrices, self.folder.path().join("series.redb")),
            (Metrics::default(), Bell::default(), fleet),
        );
        self.own = Some(own.unwrap());
    }

    /// As after a crash: what was in memory only is gone.
    pub(super) async fn restart(&mut self) {
        let own = self.own.take().unwrap();
        let store = Arc::clone(own.store().unwrap());
        drop(own);
        while Arc::strong_count(&store) > 1 {
            std::thread::yield_now();
        }
        drop(store);
        self.open().await;
    }

    pub(super) async fn spoil(&mut self) {
        drop(self.own.take());
        std::fs::write(self.folder.path().join("series.redb"), vec![7; 8_192]).unwrap();
        self.open().await;
    }

    pub(super) async fn configure(&mut self, text: &str) {
        self.text = text.to_owned();
        self.own().follow(&parse(text)).await;
    }

    pub(super) fn own(&self) -> &Arc<Matrices> {
        self.own.as_ref().unwrap()
    }

    /// Its way to the fleet.
    pub(super) fn door(&self) -> &Arc<Door> {
        &self.member.as_ref().unwrap().1
    }

    pub(super) fn fleet(&self) -> &Arc<Fleet> {
        self.fleet.as_ref().unwrap()
    }

    pub(super) fn now(&self) -> i64 {
        self.own().now().as_second()
    }

    pub(super) fn days(&self, days: i64) {
        self.clock.set(self.clock.now() + jiff::SignedDuration::from_secs(86_400 * days));
    }

    /// From 0 to below 1.
    pub(super) fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn normal(&mut self) -> f64 {
        let place = (self.random() + 1e-12).min(1.0 - 1e-12);
        genesis_stats::normal_quantile(place).unwrap()
    }

    pub(super) async fn send(&mut self, batch: Batch) -> Result<Answer> {
        self.own().take(batch, &Stream::default()).await?.await.unwrap()
    }

    pub(super) async fn values(&mut self, columns: Vec<Column>) -> Result<Answer> {
        self.sequence += 1;
        let sequence = self.sequence;
        let sent = Sent::Values(columns);
        self.send(Batch { producer: "feed".to_owned(), sequence, sent }).await
    }

    /// Reports one outcome of each consumer with the version that it is to use.
    pub(super) async fn outcomes(&mut self, consumers: usize, of: impl Fn(u64, f64) -> f64) {
        for at in 0..consumers {
            let consumer = format!("consumer-{at}");
            let version = self.own().of_consumer(&consumer).unwrap().version;
            let value = of(version, self.normal());
            let fared = Fared { version, times: vec![self.now() * NANOS], values: vec![value] };
            self.sequence += 1;
            let sequence = self.sequence;
            let sent = Sent::Outcomes(vec![fared]);
            self.send(Batch { producer: consumer, sequence, sent }).await.unwrap();
        }
    }

    /// Prices of so many buckets up to now, made of one factor with these loadings. Their returns.
    pub(super) async fn prices(
        &mut self,
        buckets: i64,
        names: &[&str],
        loadings: &[f64],
    ) -> Vec<Vec<f64>> {
        let last = self.now().div_euclid(BUCKET) - 1;
        let mut columns: Vec<Column> = names.iter().map(|name| column(name)).collect();
        let mut prices = vec![100.0_f64; names.len()];
        let mut returns = vec![Vec::new(); names.len()];
        for at in last - buckets..=last {
            let factor = self.normal();
            for (i, loading) in loadings.iter().enumerate() {
                let noise = (1.0 - loading * loading).sqrt() * self.normal();
                let before = prices[i];
                prices[i] *= (0.001 * (loading * factor + noise)).exp();
                if at > last - buckets {
                    returns[i].push((prices[i] / before).ln());
                }
                columns[i].times.push(at * BUCKET * NANOS + 7);
                columns[i].values.push(prices[i]);
            }
            if columns[0].times.len() >= 5_000 || at == last {
                let batch = std::mem::take(&mut columns);
                columns = names.iter().map(|name| column(name)).collect();
                self.values(batch).await.unwrap();
            }
        }
        returns
    }

    /// Calculates a matrix and takes it in.
    pub(super) async fn update(&self) -> Result<Arc<MatrixRecord>> {
        let carry = self.own().config().carry;
        let made = self.own().making(carry, true).await?;
        self.own().admit(made, "by hand", WHO).await
    }

    pub(super) async fn made(&self) -> Made {
        self.own().making(false, true).await.unwrap()
    }

    pub(super) fn state_of(&self, version: u64) -> String {
        self.own().version(version).unwrap().state.clone()
    }

    /// What is kept of the values of a version is another one.
    pub(super) async fn spoil_values(&self, version: u64) {
        let intent = Intent::new(self.own().now(), "a test", "test.spoiled");
        let written =
            self.state.write(intent, move |it| Ok(it.matrices().put_values(version, &[1, 2])?));
        written.await.unwrap();
    }

    pub(super) async fn told(&self) -> Vec<String> {
        use crate::events::Source;
        let conditions = self.own().conditions().await.unwrap();
        conditions.into_iter().map(|it| it.key).collect()
    }
}

pub(super) fn column(name: &str) -> Column {
    Column { series: name.to_owned(), ..Column::default() }
}

pub(super) fn parse(text: &str) -> Config {
    let places = Places { state: "/s".into(), socket: "/s/a".into() };
    let read = Config::parse(text, "", &places);
    let problems: Vec<String> = read.problems.iter().map(|it| it.what()).collect();
    read.config.unwrap_or_else(|| panic!("{problems:?}"))
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}
