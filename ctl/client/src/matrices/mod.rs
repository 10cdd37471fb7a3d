//! The correlation matrix that a consumer is to use, ready whenever it is asked for, and how the consumer fares with it.
//!
//! A new matrix is tried by a share of the consumers first, and it is judged by what they report. A [`Consumer`] does both:
//! it keeps the matrix that is meant for its id, and sends the outcomes with it in the background.
//!
//! ```no_run
//! # async fn example() -> Result<(), genesis_client::Error> {
//! use std::time::{Duration, SystemTime};
//! use genesis_client::Options;
//! use genesis_client::matrices::Consumer;
//!
//! let node = "unix:/run/genesis/agent.sock".parse()?;
//! let consumer = Consumer::follow(node, Options::default(), "risk-1")?;
//! consumer.follower().ready(Duration::from_secs(5)).await?;
//! if let Some(matrix) = consumer.current() {
//!     // For as long as it is held it is this one, whatever comes meanwhile.
//!     let rho = matrix.between("BTC", "ETH").unwrap_or(1.0);
//!     assert!((-1.0..=1.0).contains(&rho));
//!     // What was earned with it, or less what it was wrong by: the more the better.
//!     consumer.report(&matrix, SystemTime::now(), 12.5);
//! }
//! if consumer.follower().status().stale_for.is_some_and(|stale| stale > Duration::from_secs(60)) {
//!     // The agent is away: whoever must not go on with an old matrix stops here.
//! }
//! let stats = consumer.close(Duration::from_secs(5)).await;
//! assert_eq!(stats.dropped, 0);
//! # Ok(())
//! # }
//! ```
//!
//! Reading never waits, and no change can hold it: a [`Matrix`] is whole, all of one version, and stays as it is for as
//! long as somebody holds it. While the agent is away the last one stays. [`Follower`] and [`OutcomePusher`] are the two
//! halves, for programs that need only one.

mod matrix;
mod outcomes;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use genesis_proto::v1::{WatchMatrixRequest, WatchMatrixResponse};
use tonic::{Response, Streaming};

use crate::follow::{Follow, Subject};
use crate::push::is_name;
pub use crate::push::{PusherOptions, UnixNanos};
use crate::target::Target;
use crate::{Client, Error, Kind, Node, Options};
pub use matrix::Matrix;
pub use outcomes::{
    BATCH_LIMIT, OutcomePusher, OutcomeRecorder, OutcomeStats, OutcomeStream, Outcomes, Settled,
    Sums, VersionOutcomes, options,
};

/// The longest id of a consumer, in bytes.
pub const CONSUMER_LIMIT: usize = 64;

/// How following goes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The version of the matrix. `None`: there is none.
    pub version: Option<u64>,
    /// For how long the matrix has not been known to be the one to use: the agent is away, or told of one that can't be
    /// used; from the beginning on, where nothing was heard yet. `None`: it is the one.
    pub stale_for: Option<Duration>,
    /// How often the stream was opened again.
    pub reconnects: u64,
    /// What went wrong last, even if it is over.
    pub last_error: Option<Error>,
}

/// Follows the matrix that one consumer is to use. Clones are the same one; the work in the background ends with the last
/// of them.
#[derive(Debug, Clone)]
pub struct Follower {
    follow: Arc<Follow<Id>>,
}

/// Whose matrix is followed. Empty: the active one.
#[derive(Debug)]
struct Id(String);

impl Subject for Id {
    type Request = WatchMatrixRequest;
    type Response = WatchMatrixResponse;
    type Value = Matrix;

    const WHAT: &'static str = "matrices";

    fn request(&self) -> WatchMatrixRequest {
        WatchMatrixRequest { consumer: self.0.clone() }
    }

    async fn open(
        client: Client,
        request: WatchMatrixRequest,
    ) -> Result<Response<Streaming<WatchMatrixResponse>>, tonic::Status> {
        client.matrices().watch_matrix(request).await
    }

    fn read(response: WatchMatrixResponse) -> Result<Option<Matrix>, Error> {
        let canary = response.canary;
        response.matrix.map(|matrix| Matrix::of(matrix, canary)).transpose()
    }

    fn number(matrix: &Matrix) -> u64 {
        matrix.version()
    }
}

impl Follower {
    /// Follows the agent at `node`, as soon as and as long as it is there. `consumer`: for whom (a strategy on a host);
    /// empty: the active matrix, whatever is being tried. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` when `consumer` is neither empty nor 1 to 64 of a-z, A-Z, 0-9 and -_.:/
    pub fn follow(node: Node, options: Options, consumer: &str) -> Result<Self, Error> {
        Self::spawn(Target::Node(node, Box::new(options)), consumer)
    }

    /// Follows over the connection of `client`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`Self::follow`].
    pub fn start(client: Client, consumer: &str) -> Result<Self, Error> {
        Self::spawn(Target::Connected(Box::new(client)), consumer)
    }

    fn spawn(target: Target, consumer: &str) -> Result<Self, Error> {
        if !consumer.is_empty() {
            check(consumer)?;
        }
        Ok(Self { follow: Arc::new(Follow::spawn(target, Id(consumer.to_owned()))) })
    }

    /// The matrix to use, as it was last heard of. `None`: there is none, or nothing was heard yet. Never waits.
    pub fn current(&self) -> Option<Arc<Matrix>> {
        self.follow.latest()
    }

    /// How following goes.
    pub fn status(&self) -> Status {
        let standing = self.follow.standing();
        Status {
            version: standing.number,
            stale_for: standing.stale_for,
            reconnects: standing.reconnects,
            last_error: standing.last_error,
        }
    }

    /// Waits for the first matrix.
    ///
    /// # Errors
    /// `Unavailable` when none has come within `timeout`, with what stands in the way. Following goes on.
    pub async fn ready(&self, timeout: Duration) -> Result<(), Error> {
        if self.follow.ready(timeout).await {
            return Ok(());
        }
        let Status { stale_for, last_error, .. } = self.status();
        let (message, next) = match (stale_for, last_error) {
            (None, _) => (
                format!("the agent has had no matrix within {timeout:?}"),
                "see with `genesisctl series list` whether values come in, then calculate one with `genesisctl matrix update`",
            ),
            (Some(_), why) => {
                let why = why.map_or_else(String::new, |error| format!(": {error}"));
                let message = format!("no matrix has come within {timeout:?}{why}");
                (message, "see whether the agent is well with `genesisctl status`")
            }
        };
        Err(Error::new(Kind::Unavailable, "DEADLINE_EXCEEDED", "MATRIX_MISSING", message, next))
    }

    /// Waits for a matrix of another version than `seen`, and returns it. 0: for the first.
    pub async fn changed(&self, seen: u64) -> Arc<Matrix> {
        self.follow.changed(seen).await
    }
}

/// A consumer of matrices: follows the one that it is to use, and reports how it fares with it. What is not yet reported
/// when it is dropped is lost: [`Self::close`] waits for it.
#[derive(Debug)]
pub struct Consumer {
    follower: Follower,
    outcomes: OutcomePusher,
    recorder: OutcomeRecorder,
}

impl Consumer {
    /// A consumer of the agent at `node`, which need not be there yet. `consumer`: its id, the same over restarts, and of
    /// no other program: by it the agent chooses the matrix and counts the outcomes. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` when `consumer` is not 1 to 64 of a-z, A-Z, 0-9 and -_.:/
    pub fn follow(node: Node, client: Options, consumer: &str) -> Result<Self, Error> {
        let outcomes = OutcomePusher::follow(node.clone(), client.clone(), options(consumer)?)?;
        Ok(Self::of(Follower::follow(node, client, consumer)?, outcomes))
    }

    /// A consumer over the connection of `client`, as [`Self::follow`] has it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`Self::follow`].
    pub fn start(client: Client, consumer: &str) -> Result<Self, Error> {
        let outcomes = OutcomePusher::start(client.clone(), options(consumer)?)?;
        Ok(Self::of(Follower::start(client, consumer)?, outcomes))
    }

    fn of(follower: Follower, outcomes: OutcomePusher) -> Self {
        Self { follower, recorder: outcomes.handle(), outcomes }
    }

    /// The matrix to use. `None`: there is none, or nothing was heard yet. Never waits.
    pub fn current(&self) -> Option<Arc<Matrix>> {
        self.follower.current()
    }

    /// Reports what came `at` a time of using `matrix`: what it earned, or less what it was wrong by; the more the better.
    /// Name the matrix that was used, which need not be the current one any more. Never waits. `false`: it was dropped,
    /// because there is no room or `value` is no number; it is counted.
    pub fn report(&self, matrix: &Matrix, at: impl Into<UnixNanos>, value: f64) -> bool {
        self.recorder.report(matrix.version(), at, value)
    }

    /// What follows the matrix, to wait for it, and to see how following goes.
    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    /// What sends the outcomes, to wait until they are acknowledged, and to see what became of them.
    pub fn outcomes(&self) -> &OutcomePusher {
        &self.outcomes
    }

    /// Takes no more outcomes, and waits until those that were taken are acknowledged, at most for `timeout`. What is told
    /// as buffered then is lost.
    pub async fn close(self, timeout: Duration) -> OutcomeStats {
        self.outcomes.close(timeout).await
    }
}

fn check(consumer: &str) -> Result<(), Error> {
    if is_name(consumer, CONSUMER_LIMIT) {
        return Ok(());
    }
    let message = format!("the consumer {consumer:?} is not 1 to 64 of a-z, A-Z, 0-9 and -_.:/");
    Err(Error::invalid("CONSUMER_INVALID", message, "choose another id for it"))
}
