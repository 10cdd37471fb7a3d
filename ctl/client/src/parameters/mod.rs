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

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use genesis_proto::v1::{GetParametersRequest, GetParametersResponse, ParameterValue};
use tonic::{Response, Streaming};

use crate::follow::{Follow, Subject};
use crate::target::Target;
use crate::trades::UNIT_LIMIT;
use crate::{Client, Error, Kind, Node, Options};

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
    follow: Arc<Follow<Unit>>,
}

/// Whose parameters are followed.
#[derive(Debug)]
struct Unit {
    strategy: String,
    unit: String,
}

impl Subject for Unit {
    type Request = GetParametersRequest;
    type Response = GetParametersResponse;
    type Value = Values;

    const WHAT: &'static str = "parameters";

    fn request(&self) -> GetParametersRequest {
        GetParametersRequest { strategy: self.strategy.clone(), unit: self.unit.clone() }
    }

    async fn open(
        client: Client,
        request: GetParametersRequest,
    ) -> Result<Response<Streaming<GetParametersResponse>>, tonic::Status> {
        client.parameters().watch_parameters(request).await
    }

    fn read(response: GetParametersResponse) -> Result<Option<Values>, Error> {
        Ok(Some(Values::of(response)))
    }

    fn number(values: &Values) -> u64 {
        values.revision
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
        let unit = Unit { strategy: strategy.to_owned(), unit: unit.to_owned() };
        Ok(Self { follow: Arc::new(Follow::spawn(target, unit)) })
    }

    /// The value of the parameter `name`, as it was last heard of. `None`: it has none, or nothing was heard yet. Never
    /// waits.
    pub fn get(&self, name: &str) -> Option<Arc<str>> {
        self.follow.look(|values| values.get(name).map(|value| value.text.clone()))
    }

    /// All values as they were at one time. Never waits.
    pub fn values(&self) -> Arc<Values> {
        self.follow.latest().unwrap_or_default()
    }

    /// How following goes.
    pub fn status(&self) -> Status {
        let standing = self.follow.standing();
        Status {
            revision: standing.number,
            stale_for: standing.stale_for,
            reconnects: standing.reconnects,
            last_error: standing.last_error,
        }
    }

    /// Waits for the first values.
    ///
    /// # Errors
    /// `Unavailable` when none have come within `timeout`, with what stands in the way. Following goes on.
    pub async fn ready(&self, timeout: Duration) -> Result<(), Error> {
        if self.follow.ready(timeout).await {
            return Ok(());
        }
        let why = self.status().last_error;
        let why = why.map_or_else(String::new, |error| format!(": {error}"));
        let strategy = &self.follow.subject().strategy;
        let message = format!("no parameters of {strategy} have come within {timeout:?}{why}");
        let next = "see whether the agent is well with `genesisctl status`";
        Err(Error::new(Kind::Unavailable, "DEADLINE_EXCEEDED", "PARAMETERS_MISSING", message, next))
    }

    /// Waits for values of another revision than `seen`, and returns them.
    pub async fn changed(&self, seen: u64) -> Arc<Values> {
        self.follow.changed(seen).await
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
