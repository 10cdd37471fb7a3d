//! A host with a strategy, trades that a seed makes, and crashes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use genesis_storage::{Options, Store};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::batches::Stream;
use crate::config::{Config, Follower, Places};
use crate::emergency::Emergency;
use crate::error::{Error, Result};
use crate::events::Bell;
use crate::fleet::Fleet;
use crate::operations::experiments::parameters::Wanted;
use crate::operations::experiments::plan::Asked;
use crate::operations::experiments::prepare::{Batch, Column};
use crate::operations::experiments::tally::Arm;
use crate::operations::experiments::{Answer, Experiments, Metrics};
use crate::outside::coordinator::Coordinator;
use crate::outside::coordinator::memory::{Door, Memory};
use crate::outside::{Clock, ManualClock, Outside};
use crate::state::State;

pub(super) const START: &str = "2026-03-02T00:00:00Z";
const WHO: (&str, &str) = ("unix:uid=1000(ada)", "a test");

/// A trade: its arm, what it earned.
pub(super) type Trade = (Arm, f64);

/// Lets others go on.
pub(super) async fn moment() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The host.
pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) state: State,
    own: Option<Arc<Experiments>>,
    /// Whether one is in force.
    pub(super) emergency: Arc<AtomicBool>,
    pub(super) fleet: Arc<Fleet>,
    /// Its way to what holds its fleet together.
    pub(super) door: Arc<Door>,
    /// Holds the connection.
    serving: tokio::task::JoinHandle<()>,
    pub(super) sequence: u64,
    trades: u64,
    random: u64,
}

impl World {
    /// With the parameter threshold = 0.002 of the strategy mm.
    pub(super) async fn new() -> Self {
        Self::made("host-1", None).await
    }

    /// As [`World::new`], in the fleet that a coordinator holds together.
    pub(super) async fn in_fleet(host: &str, memory: &Memory) -> Self {
        let world = Self::made(host, Some(memory)).await;
        world.connected().await;
        world
    }

    /// Waits until it is connected.
    pub(super) async fn connected(&self) {
        for _ in 0..1_000 {
            if self.fleet.is_open() {
                return;
            }
            moment().await;
            self.clock.advance(Duration::from_millis(500));
        }
        panic!("it is not connected");
    }

    /// Waits until the connection is broken, and made anew.
    pub(super) async fn reconnects(&self) {
        let (_, _, before) = self.fleet.connection();
        for _ in 0..1_000 {
            if self.fleet.connection().2 > before {
                return;
            }
            moment().await;
            self.clock.advance(Duration::from_millis(500));
        }
        panic!("it is not connected anew");
    }

    /// Waits until it knows of all that its fleet has in common.
    pub(super) async fn hears(&self, memory: &Memory) {
        const COMMON: &str = "/genesis/prod/common/";
        for _ in 0..5_000 {
            let mut known = Vec::new();
            self.fleet.each_common(COMMON, |entry| known.push((entry.key.clone(), entry.modified)));
            let keys = memory.keys(COMMON).into_iter();
            let there: Option<Vec<(String, i64)>> =
                keys.map(|key| Some((key.clone(), memory.get(&key)?.modified))).collect();
            if there.as_ref() == Some(&known) {
                return;
            }
            moment().await;
        }
        panic!("it does not hear of everything");
    }

    async fn made(host: &str, memory: Option<&Memory>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.redb"), Options::default()).unwrap();
        let state = State::new(Arc::new(store), watch::channel(0).1);
        let clock = Arc::new(ManualClock::new(START.parse().unwrap()));
        let seam: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let flag = folder.path().join("emergency");
        let emergency = Emergency::open(state.clone(), Arc::clone(&seam), flag).await.unwrap();
        let door = memory.cloned().unwrap_or_default().door();
        let coordinator = Arc::clone(&door) as Arc<dyn Coordinator>;
        let outside = Outside { clock: seam, coordinator, ..Outside::real() };
        let fleet = match memory {
            Some(_) => Fleet::member(&outside, emergency, host),
            None => Fleet::alone(&outside, emergency),
        };
        let serving = tokio::spawn(Arc::clone(&fleet).serve());
        let mut world = Self {
            folder,
            clock,
            fleet,
            door,
            serving,
            state,
            own: None,
            emergency: Arc::default(),
            sequence: 0,
            trades: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        };
        world.open();
        world.set("threshold", "0.002").await.unwrap();
        world
    }

    fn open(&mut self) {
        let places = Places { state: "/s".into(), socket: "/s/a".into() };
        let config = Config::parse("", "", &places).config.unwrap().experiments;
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let outside = Outside { clock, ..Outside::real() };
        let own = Experiments::open(
            (self.state.clone(), outside),
            (config, self.folder.path().join("trades.redb")),
            {
                let emergency = Arc::clone(&self.emergency);
                Arc::new(move || match emergency.load(Ordering::Relaxed) {
                    true => Err(Error::refused("EMERGENCY", "not now", Vec::new())),
                    false => Ok(()),
                })
            },
            (Metrics::default(), Bell::default(), Arc::clone(&self.fleet)),
        );
        self.own = Some(own.unwrap());
    }

    /// As after a crash: what was in memory only is gone.
    pub(super) fn restart(&mut self) {
        let own = self.own.take().unwrap();
        let store = Arc::clone(own.store().unwrap());
        drop(own);
        while Arc::strong_count(&store) > 1 {
            std::thread::yield_now();
        }
        drop(store);
        self.open();
    }

    /// The agent's state is gone, the file of trades is there.
    pub(super) async fn lose_state(&mut self) {
        let store = Store::open(&self.folder.path().join("other.redb"), Options::default());
        self.state = State::new(Arc::new(store.unwrap()), watch::channel(0).1);
        self.restart();
        self.set("threshold", "0.002").await.unwrap();
    }

    /// The file of trades can't be opened any more.
    pub(super) fn spoil_trades(&mut self) {
        drop(self.own.take());
        std::fs::write(self.folder.path().join("trades.redb"), vec![7; 8_192]).unwrap();
        self.open();
    }

    pub(super) async fn configure(&self, text: &str) {
        let places = Places { state: "/s".into(), socket: "/s/a".into() };
        let read = Config::parse(text, "", &places);
        self.own().follow(&read.config.expect("it is good")).await;
    }

    pub(super) fn own(&self) -> &Arc<Experiments> {
        self.own.as_ref().unwrap()
    }

    pub(super) async fn set(&self, name: &str, value: &str) -> Result<u64> {
        let wanted = Wanted {
            strategy: "mm".to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
            expected: 0,
        };
        Ok(self.own().set(&wanted, "", WHO).await?.version)
    }

    pub(super) fn asked(&self) -> Asked {
        Asked {
            strategy: "mm".to_owned(),
            trials: vec![("threshold".to_owned(), "0.003".to_owned())],
            variant_basis_points: 5_000,
            ..Asked::default()
        }
    }

    pub(super) async fn create(&self, asked: &Asked) -> Result<String> {
        let view = self.own().create(asked, "", WHO).await?;
        Ok(crate::operations::experiments::plan::id(view.record.number))
    }

    pub(super) async fn conclude(&self, id: &str, promote: bool) -> Result<()> {
        self.own().conclude(id, promote, "", WHO).await.map(drop)
    }

    /// Between 0 and 1, never either.
    pub(super) fn uniform(&mut self) -> f64 {
        // xorshift64*, Vigna 2016.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 12;
        (bits as f64 + 0.5) / (1_u64 << 52) as f64
    }

    /// Normal around a mean, with a standard deviation of 1.
    pub(super) fn normal(&mut self, mean: f64) -> f64 {
        let (one, other) = (self.uniform(), self.uniform());
        mean + (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
    }

    /// So many trades in turn of control and variant.
    pub(super) fn trades(&mut self, pairs: usize, control: f64, variant: f64) -> Vec<Trade> {
        (0..pairs)
            .flat_map(|_| {
                [(Arm::Control, self.normal(control)), (Arm::Variant, self.normal(variant))]
            })
            .collect()
    }

    /// A column of trades that end one second after the other.
    pub(super) fn column(&mut self, id: &str, trades: &[Trade]) -> Column {
        let mut column = Column { experiment: id.to_owned(), ..Column::default() };
        for (arm, pnl) in trades {
            self.trades += 1;
            column.ids.push(format!("t-{}", self.trades));
            let at = self.clock.now().as_nanosecond() as i64 + self.trades as i64 * 1_000;
            column.times.push(at);
            column.pnl.push(*pnl);
            column.arms.push(Some(*arm));
        }
        column
    }

    /// Sends trades as one batch.
    pub(super) async fn send(&mut self, id: &str, trades: &[Trade]) -> Answer {
        let column = self.column(id, trades);
        self.sequence += 1;
        self.send_as(self.sequence, vec![column]).await
    }

    pub(super) async fn send_as(&self, sequence: u64, columns: Vec<Column>) -> Answer {
        let batch = Batch { producer: "p".to_owned(), sequence, columns };
        self.own().take(batch, &Stream::default()).await.unwrap().await.unwrap().unwrap()
    }

    /// The value that a unit is to use.
    pub(super) fn value(&self, unit: &str) -> String {
        let used = self.own().uses("mm", unit).unwrap().0;
        used.iter().find(|it| it.name == "threshold").unwrap().value.clone()
    }

    /// A unit that is in this arm.
    pub(super) fn unit(&self, id: &str, wanted: Arm) -> String {
        let units = (0..).map(|number| format!("account-{number}"));
        units.into_iter().find(|unit| self.own().assign(id, unit).unwrap().0 == wanted).unwrap()
    }

    /// So many runs of ids of an experiment are on the disk.
    pub(super) fn runs(&self, number: u64) -> usize {
        let mut runs = 0;
        let read = self.own().store().unwrap().read(|it| {
            it.ids(number, |_, _| {
                runs += 1;
                Ok::<_, genesis_storage::StorageError>(())
            })
        });
        read.unwrap();
        runs
    }

    pub(super) fn actions(&self, action: &str) -> Vec<(String, String)> {
        let entries = self.state.read(|reading| Ok(reading.oplog().range(1, 100_000)?)).unwrap();
        let of = entries.into_iter().filter(|it| it.entry.action == action);
        of.map(|it| (it.entry.outcome, it.entry.actor)).collect()
    }
}
