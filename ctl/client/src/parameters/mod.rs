//! The values that one unit of a strategy is to use, ready whenever they are asked for.
//!
//! A [`Follower`] hears of each change from the agent and keeps the latest values. Reading them never waits: some 20 ns,
//! and no lock that a change could hold. While the agent is away the last values stay, and [`Follower::status`] says for
//! how long they have been without anybody who would know of a change.
//!
//! ```no_run
//! # async fn example() -> Result<(), genesis_client::Error> {
//! use std::time::Duration;
//! use genesis_client::Options;
//! use genesis_client::parameters::Follower;
//!
//! let node = "unix:/run/genesis/agent.sock".parse()?;
//! let parameters = Follower::follow(node, Options::default(), "spread_capture", "account-7")?;
//! parameters.ready(Duration::from_secs(5)).await?;
//! let threshold = parameters.get("threshold").and_then(|value| value.parse().ok()).unwrap_or(0.002);
//! assert!(threshold > 0.0);
//! if parameters.status().stale_for.is_some_and(|stale| stale > Duration::from_secs(60)) {
//!     // The agent is away: whoever must not go on with old values stops here.
//! }
//! # Ok(())
//! # }
//! ```

mod follow;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use genesis_proto::v1::{GetParametersResponse, ParameterValue};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::trades::UNIT_LIMIT;
use crate::{Client, Error, Kind, Node, Options, clock};
use follow::Target;

/// The longest name of a strategy, in bytes.
const STRATEGY_LIMIT: usize = 64;

/// A value that is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The value, as text.
    pub text: Arc<str>,
    /// The version of the value in force.
    pub version: u64,
    /// The experiment that gives it; empty: none does.
    pub experiment: Arc<str>,
    /// The arm of the unit in that experiment: "control" or "variant"; empty without one.
    pub arm: Arc<str>,
}

/// All values as they were at one time: what changes together is seen together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    revision: u64,
    by_name: BTreeMap<Arc<str>, Value>,
}

impl Values {
    /// Greater with each change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The value of the parameter `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.by_name.iter().map(|(name, value)| (&**name, value))
    }

    fn of(response: GetParametersResponse) -> Self {
        let value = |one: ParameterValue| {
            let value = Value {
                text: one.value.into(),
                version: one.version,
                experiment: one.experiment.into(),
                arm: one.arm.into(),
            };
            (one.name.into(), value)
        };
        let by_name = response.values.into_iter().map(value).collect();
        Self { revision: response.revision, by_name }
    }
}

/// How following goes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The revision of the values. `None`: there are none yet.
    pub revision: Option<u64>,
    /// For how long nobody has been there who would tell of a change; from the beginning on, where nobody ever was.
    /// `None`: the agent is there.
    pub stale_for: Option<Duration>,
    /// How often the stream was opened again.
    pub reconnects: u64,
    /// What went wrong last, even if it is over.
    pub last_error: Option<Error>,
}

/// Follows the parameters of one unit of a strategy. Clones are the same one; the work in the background ends with the
/// last of them.
#[derive(Debug, Clone)]
pub struct Follower {
    inner: Arc<Inner>,
    /// Ends the work in the background.
    _task: Arc<Ends>,
}

#[derive(Debug)]
struct Inner {
    strategy: String,
    unit: String,
    values: ArcSwap<Values>,
    link: Mutex<Link>,
    /// The revision, for those that wait for one.
    heard: watch::Sender<Option<u64>>,
}

/// What is looked at only by those who ask how following goes.
#[derive(Debug)]
struct Link {
    /// On the clock of [`clock::monotonic`].
    stale_since: Option<Duration>,
    opened: u64,
    last_error: Option<Error>,
}

#[derive(Debug)]
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Follower {
    /// Follows the agent at `node`, as soon as and as long as it is there. `unit`: whose values (an account, a session);
    /// empty: those that are in force, whatever is being tried. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` when the strategy or the unit can't be named.
    pub fn follow(node: Node, options: Options, strategy: &str, unit: &str) -> Result<Self, Error> {
        Self::spawn(Target::Node(node, Box::new(options)), strategy, unit)
    }

    /// Follows over the connection of `client`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` when the strategy or the unit can't be named.
    pub fn start(client: Client, strategy: &str, unit: &str) -> Result<Self, Error> {
        Self::spawn(Target::Connected(Box::new(client)), strategy, unit)
    }

    fn spawn(target: Target, strategy: &str, unit: &str) -> Result<Self, Error> {
        check(strategy, unit)?;
        let link = Link { stale_since: Some(clock::monotonic()), opened: 0, last_error: None };
        let inner = Arc::new(Inner {
            strategy: strategy.to_owned(),
            unit: unit.to_owned(),
            values: ArcSwap::default(),
            link: Mutex::new(link),
            heard: watch::Sender::new(None),
        });
        let task = tokio::spawn(follow::run(Arc::downgrade(&inner), target)).abort_handle();
        Ok(Self { inner, _task: Arc::new(Ends(task)) })
    }

    /// The value of the parameter `name`, as it was last heard of. `None`: it has none, or nothing was heard yet. Never
    /// waits.
    pub fn get(&self, name: &str) -> Option<Arc<str>> {
        self.inner.values.load().get(name).map(|value| value.text.clone())
    }

    /// All values as they were at one time. Never waits.
    pub fn values(&self) -> Arc<Values> {
        self.inner.values.load_full()
    }

    /// How following goes.
    pub fn status(&self) -> Status {
        let revision = *self.inner.heard.borrow();
        let link = self.inner.link();
        Status {
            revision,
            stale_for: link.stale_since.map(|since| clock::monotonic().saturating_sub(since)),
            reconnects: link.opened.saturating_sub(1),
            last_error: link.last_error.clone(),
        }
    }

    /// Waits for the first values.
    ///
    /// # Errors
    /// `Unavailable` when none have come within `timeout`, with what stands in the way. Following goes on.
    pub async fn ready(&self, timeout: Duration) -> Result<(), Error> {
        let mut heard = self.inner.heard.subscribe();
        let first = heard.wait_for(Option::is_some);
        match tokio::time::timeout(timeout, first).await {
            // The sender lives as long as this follower.
            Ok(_) => Ok(()),
            Err(_) => Err(self.not_ready(timeout)),
        }
    }

    /// Waits for values of another revision than `seen`, and returns them.
    pub async fn changed(&self, seen: u64) -> Arc<Values> {
        let mut heard = self.inner.heard.subscribe();
        // The sender lives as long as this follower.
        let _ = heard.wait_for(|now| now.is_some_and(|now| now != seen)).await;
        self.values()
    }

    fn not_ready(&self, timeout: Duration) -> Error {
        let why = self
            .inner
            .link()
            .last_error
            .as_ref()
            .map_or_else(String::new, |error| format!(": {error}"));
        let strategy = &self.inner.strategy;
        let message = format!("no parameters of {strategy} have come within {timeout:?}{why}");
        let next = "see whether the agent is well with `genesisctl status`";
        Error::new(Kind::Unavailable, "DEADLINE_EXCEEDED", "PARAMETERS_MISSING", message, next)
    }
}

impl Inner {
    fn link(&self) -> MutexGuard<'_, Link> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, response: GetParametersResponse) {
        let values = Values::of(response);
        let revision = values.revision;
        // Before anybody is told of the revision.
        self.values.store(Arc::new(values));
        self.link().stale_since = None;
        self.heard.send_replace(Some(revision));
    }

    fn lose(&self, error: Error) {
        let mut link = self.link();
        link.stale_since.get_or_insert_with(clock::monotonic);
        link.last_error = Some(error);
    }
}

/// Whether `text` can name a strategy or a parameter: 1 to 64 of a-z, A-Z, 0-9 and -_.
pub fn is_name(text: &str) -> bool {
    (1..=STRATEGY_LIMIT).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn check(strategy: &str, unit: &str) -> Result<(), Error> {
    if !is_name(strategy) {
        let message = format!("the strategy {strategy:?} is not 1 to 64 of a-z, A-Z, 0-9 and -_");
        return Err(Error::invalid("PARAMETER_INVALID", message, "correct the name"));
    }
    if unit.len() > UNIT_LIMIT {
        let message = format!("the unit has {} bytes, {UNIT_LIMIT} are allowed", unit.len());
        return Err(Error::invalid("UNIT_INVALID", message, "name it by a shorter id"));
    }
    Ok(())
}
