//! Every rpc of the contract, asked with nothing, with what may mean something, and with noise: each answers, or says by a
//! code that is explained why it does not, and none takes that for a fault of the agent. `GENESIS_LONG=1` asks a hundred times
//! as often.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use genesis_tests::clock::Watch;
use genesis_tests::random::Random;
use genesis_tests::{TestAgent, rpcs};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::load::is_long;

/// No call takes longer, unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(50);

/// Whoever makes a call that nobody has looked at waits so long before the next.
const UNTAKEN: Duration = Duration::from_millis(10);

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A connection of somebody who may do everything.
pub(crate) async fn admin(socket: &str) -> Channel {
    Endpoint::try_from(socket.to_owned()).unwrap().connect().await.unwrap()
}

/// What becomes of calls.
pub(crate) struct Judge {
    /// The codes that docs/errors.md explains.
    explained: BTreeSet<String>,
    pub(crate) answered: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) shed: AtomicU64,
    /// Calls that came while the connection had as many as it may, and that nobody looked at.
    pub(crate) untaken: AtomicU64,
    /// The rpcs that were judged.
    called: Mutex<BTreeSet<String>>,
    faults: Mutex<Vec<String>>,
}

impl Judge {
    pub(crate) fn new() -> Arc<Self> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
        let page = std::fs::read_to_string(page).unwrap();
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let first = rows.filter_map(|row| row.split('|').nth(1));
        let explained = first.flat_map(|cell| cell.split('`').map(str::to_owned)).collect();
        Arc::new(Self {
            explained,
            answered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            untaken: AtomicU64::new(0),
            called: Mutex::default(),
            faults: Mutex::default(),
        })
    }

    /// What is wrong with an answer; when to come back, where the call was shed.
    fn fault(&self, status: &Status) -> Result<Option<Duration>, &'static str> {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        let explained = reason.is_some_and(|reason| self.explained.contains(reason));
        match status.code() {
            Code::Internal | Code::Unknown => Err("a fault of the agent's own"),
            // Of a message that is too long, or a call that takes too long: said below what has codes.
            Code::OutOfRange | Code::DeadlineExceeded | Code::Cancelled => Ok(None),
            _ if !explained => Err("it has no code that is explained"),
            Code::ResourceExhausted => {
                let delay = details.retry_info().and_then(|info| info.retry_delay);
                let delay = delay.filter(|delay| !delay.is_zero());
                delay.map(Some).ok_or("it does not say when to come back")
            }
            _ => Ok(None),
        }
    }

    /// Counts an answer; when to come back, where the call was shed.
    pub(crate) fn count(
        &self,
        called: impl FnOnce() -> String,
        answer: Result<(), Status>,
    ) -> Option<Duration> {
        let Err(status) = answer else {
            self.answered.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        if is_untaken(&status) {
            self.untaken.fetch_add(1, Ordering::Relaxed);
            return Some(UNTAKEN);
        }
        match self.fault(&status) {
            Ok(Some(delay)) => {
                self.shed.fetch_add(1, Ordering::Relaxed);
                return Some(delay);
            }
            Ok(None) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => self.blame(format!(
                "{}: {}: {why}: {status:?}",
                genesis_tests::clock::now(),
                called()
            )),
        }
        None
    }

    /// Takes note of how long a call took: whoever asks gave up only because nothing came.
    pub(crate) fn took(&self, rpc: &str, time: Duration) {
        if time >= PATIENCE {
            self.blame(format!("{rpc}: it was not answered within {PATIENCE:?}"));
        }
    }

    /// Takes note that this rpc was called.
    pub(crate) fn called(&self, path: &str) {
        let mut called = self.called.lock().unwrap();
        if !called.contains(path) {
            called.insert(path.to_owned());
        }
    }

    /// How many rpcs were called.
    pub(crate) fn ever_called(&self) -> usize {
        self.called.lock().unwrap().len()
    }

    fn blame(&self, fault: String) {
        let mut faults = self.faults.lock().unwrap();
        // The first ones say what is wrong.
        if faults.len() < 50 {
            faults.push(fault);
        }
    }

    #[track_caller]
    pub(crate) fn is_content(&self) {
        let faults = self.faults.lock().unwrap();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

/// Whether HTTP/2 says of a call that nobody has looked at it, so that it may be made again (RFC 9113, 8.7): a client counts a
/// call that it has given up as ended before the agent has heard of that, and the connection may have one too many then.
fn is_untaken(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        cause = error.source();
    }
    false
}

#[test]
fn every_rpc_answers_whatever_it_is_asked() {
    let agent = TestAgent::started(|_| String::new());
    let (runtime, judge) = (runtime(), Judge::new());
    let rounds = if is_long() { 300 } else { 3 };
    let socket = agent.node();
    runtime.block_on(async {
        let channel = admin(&socket).await;
        let places = Arc::new(tokio::sync::Semaphore::new(8));
        let mut tasks = JoinSet::new();
        for (number, rpc) in rpcs::all().into_iter().enumerate() {
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            let (channel, judge) = (channel.clone(), Arc::clone(&judge));
            tasks.spawn(async move {
                let _place = place;
                let mut random = Random::new(number as u64);
                let filled: Vec<Bytes> = (0..rounds).map(|_| rpc.filled(&mut random)).collect();
                let noise = (0..rounds).map(|_| rpcs::noise(&mut random));
                let messages = std::iter::once(Bytes::new()).chain(filled).chain(noise);
                for message in messages.collect::<Vec<_>>() {
                    let shown = format!("{} of {message:?}", rpc.path);
                    let watch = Watch::start();
                    let answer = rpc.call(&channel, message, PATIENCE).await;
                    judge.took(&shown, watch.elapsed());
                    judge.count(|| shown.clone(), answer.map(drop));
                    judge.called(&rpc.path);
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
    judge.is_content();
    // With eight calls at a time there is always room for one more.
    assert_eq!(judge.untaken.load(Ordering::Relaxed), 0, "calls that nobody has looked at");
    assert_eq!(judge.ever_called(), rpcs::all().len());
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
    let said = agent.stderr();
    assert!(!said.contains("panicked"), "{said}");
}
