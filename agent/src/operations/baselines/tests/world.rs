//! A host that observes, with a clock that the test moves and traffic that a seed makes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{Options, Store, StoredEntry};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::batches::Stream;
use crate::config::{Config, Places};
use crate::emergency::Emergency;
use crate::events::Bell;
use crate::operations::baselines::calculate::{Calculated, Cause};
use crate::operations::baselines::look::Reached;
use crate::operations::baselines::prepare::{Batch, Column};
use crate::operations::baselines::{Answer, Baselines, Metrics, Neighbours};
use crate::outside::{Clock, ManualClock, Outside};
use crate::runs::Runs;
use crate::state::State;

/// 2026-03-02 was a Monday.
pub(super) const START: &str = "2026-03-02T00:00:00Z";

/// What other rooms were told.
#[derive(Default)]
pub(super) struct Around(pub(super) Mutex<Vec<(String, bool)>>);

#[async_trait]
impl Neighbours for Around {
    async fn minute(&self, operation: &str, left: Option<&str>) -> bool {
        self.0.lock().unwrap().push((operation.to_owned(), left.is_some()));
        left.is_some()
    }

    async fn surroundings(&self) -> Vec<String> {
        vec!["load ok: 0.5".to_owned()]
    }

    async fn queries(&self) -> Vec<String> {
        vec!["trades: 12.0 ms each, 7 calls: SELECT $1".to_owned()]
    }

    async fn rollbacks(&self, changes: &[StoredEntry]) -> Vec<String> {
        crate::operations::baselines::episodes::components(changes.iter().map(|it| &it.entry))
    }
}

/// The host.
pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) state: State,
    pub(super) around: Arc<Around>,
    pub(super) baselines: Option<Arc<Baselines>>,
    pub(super) reached: Option<Reached>,
    pub(super) text: String,
    pub(super) sequence: u64,
    random: u64,
}

impl World {
    pub(super) async fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.redb"), Options::default()).unwrap();
        let state = State::new(Arc::new(store), watch::channel(0).1);
        let clock = Arc::new(ManualClock::new(START.parse().unwrap()));
        let mut world = Self {
            folder,
            clock,
            state,
            around: Arc::default(),
            baselines: None,
            reached: None,
            text: text.to_owned(),
            sequence: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        };
        world.open().await;
        world
    }

    async fn open(&mut self) {
        let places = Places { state: "/s".into(), socket: "/s/a".into() };
        let config = Config::parse(&self.text, "", &places).config.unwrap().baselines;
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let outside = Outside { clock: Arc::clone(&clock), ..Outside::real() };
        let flag = self.folder.path().join("EMERGENCY");
        let emergency =
            Emergency::open(self.state.clone(), Arc::clone(&clock), flag).await.unwrap();
        let runs = Runs::new(self.state.clone(), clock, emergency);
        let baselines = Baselines::open(
            (self.state.clone(), outside, runs),
            (config, self.folder.path().join("observations.redb")),
            (Metrics::default(), Bell::default()),
            Arc::clone(&self.around) as Arc<dyn Neighbours>,
        );
        let baselines = baselines.unwrap();
        self.reached = baselines.store().ok().map(|store| baselines.reached(store));
        self.baselines = Some(baselines);
    }

    /// As after a crash: what was in memory only is gone.
    pub(super) async fn restart(&mut self) {
        let baselines = self.baselines.take().unwrap();
        let store = Arc::clone(baselines.store().unwrap());
        drop(baselines);
        while Arc::strong_count(&store) > 1 {
            std::thread::yield_now();
        }
        drop(store);
        self.open().await;
    }

    pub(super) fn own(&self) -> &Arc<Baselines> {
        self.baselines.as_ref().unwrap()
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now().as_second()
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

    /// Lognormal, median 20 ms times `scale`, sigma 0.5.
    pub(super) fn latency(&mut self, scale: f64) -> f64 {
        let (one, other) = (self.uniform(), self.uniform());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
        0.02 * scale * (0.5 * normal).exp()
    }

    pub(super) async fn send(&mut self, columns: Vec<Column>) -> Answer {
        self.sequence += 1;
        self.send_as(self.sequence, columns).await
    }

    pub(super) async fn send_as(&self, sequence: u64, columns: Vec<Column>) -> Answer {
        let batch = Batch { producer: "p".to_owned(), sequence, columns };
        self.own().take(batch, &Stream::default()).await.unwrap().await.unwrap().unwrap()
    }

    /// So many calls spread over the seconds from `from` on.
    pub(super) fn column(
        &mut self,
        operation: &str,
        from: i64,
        seconds: i64,
        calls: usize,
        scale: f64,
    ) -> Column {
        let span = seconds as f64 * 1e9;
        let mut times: Vec<i64> =
            (0..calls).map(|_| from * 1_000_000_000 + (self.uniform() * span) as i64).collect();
        times.sort_unstable();
        let seconds = (0..calls).map(|_| self.latency(scale)).collect();
        Column { operation: operation.to_owned(), times, seconds }
    }

    /// History that came some time ago: so many calls in each of the hours before now.
    pub(super) async fn history(&mut self, operation: &str, hours: i64, calls: usize, scale: f64) {
        for hour in (1..=hours).rev() {
            let from = self.now() - hour * 3_600;
            let column = self.column(operation, from, 3_600, calls, scale);
            self.send(vec![column]).await;
        }
    }

    pub(super) async fn calculate(&self, operation: &str) -> Calculated {
        let cause = Cause { why: "by hand", by: "ada".to_owned(), reason: "test".to_owned() };
        self.own().calculate(operation, None, cause).await.unwrap()
    }

    /// A window passes in which each operation has calls of this scale, and is looked at once it is over.
    pub(super) async fn window(&mut self, calls: usize, scale: f64) {
        let from = self.now();
        let columns = vec![self.column("a", from, 300, calls, scale)];
        // They come while it goes on.
        self.clock.advance(Duration::from_secs(300));
        self.send(columns).await;
        self.look().await;
    }

    /// Looks once what is over may be judged.
    pub(super) async fn look(&mut self) {
        let ahead = self.clock.now();
        self.clock.set(ahead + jiff::SignedDuration::from_secs(61));
        let own = Arc::clone(self.own());
        let store = Arc::clone(own.store().unwrap());
        own.look(&store, self.reached.as_mut().unwrap()).await.unwrap();
        self.clock.set(ahead);
    }

    pub(super) fn actions(&self, action: &str) -> Vec<String> {
        let entries = self.state.read(|reading| Ok(reading.oplog().range(1, 100_000)?)).unwrap();
        let of = entries.into_iter().filter(|it| it.entry.action == action);
        of.map(|it| format!("{}: {}", it.entry.outcome, it.entry.detail)).collect()
    }
}
