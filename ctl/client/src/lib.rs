//! The GENESIS client library for programs: name an agent, connect, call, understand what went wrong.
//!
//! ```no_run
//! # async fn example() -> Result<(), genesis_client::Error> {
//! use genesis_client::{Client, Node, Options, v1};
//!
//! let node: Node = "unix:/run/genesis/agent.sock".parse()?;
//! let client = Client::connect(&node, Options::default()).await?;
//! let status =
//!     client.call(v1::GetStatusRequest {}, |c, r| async move { c.agent().get_status(r).await }).await?;
//! assert!(!status.version.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is cheap to clone; all clones share one connection, which is made again when it breaks.
//!
//! # Contexts and TLS
//!
//! Over TCP agents are spoken to with mTLS. Where the agents are and which certificate to show them is kept under
//! a name in the file that `genesisctl context` manages:
//!
//! ```no_run
//! # async fn example() -> Result<(), genesis_client::Error> {
//! use genesis_client::{Client, Contexts, Options};
//!
//! let env = |name: &str| std::env::var(name).ok();
//! let path = Contexts::default_path(env).expect("there is a home");
//! let contexts = Contexts::load(&path)?;
//! if let Some(context) = contexts.resolve(Some("prod"), env)? {
//!     for (node, client) in Client::connect_all(context, &Options::default()).await? {
//!         match client {
//!             Ok(client) => assert_eq!(client.node(), &node),
//!             Err(error) => eprintln!("{error}: {}", error.next),
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! An [`Error`] has a [`Kind`] by what the caller should do, a stable reason such as `PLAN_CHANGED`, the unmet
//! conditions, and in words what to do next. A certificate that is refused, on either side, is
//! [`Kind::Unauthenticated`] with the reason `SERVER_NOT_TRUSTED` or `CERTIFICATE_REFUSED`, never
//! [`Kind::Unreachable`].
//!
//! # Sending again
//!
//! [`Client::call`] sends again what an overloaded agent sheds, after the pause that it asks for, and a changing
//! call whose connection broke, under the same request id, so that the agent carries it out once. An outcome that
//! stays unknown is [`Kind::Incomplete`] with the reason `OUTCOME_UNKNOWN` and names the request id to ask with.
//!
//! # Circuit breakers
//!
//! [`breaker`] keeps a program from calling what is slow or fails: a tower layer that follows the agent's breakers,
//! and works by its own counts while there is no agent.
//!
//! # Observations
//!
//! [`observe`] tells the agent how long operations took, of which it makes performance baselines: a pusher that never
//! makes a call wait, keeps what the agent has not answered, and sends it again when a connection broke.
//!
//! # Experiments
//!
//! [`parameters`] keeps the values that a strategy is to use ready, without waiting, also while the agent is away.
//! [`trades`] tells the agent what each trade earned, by which A/B tests of strategies are decided.
//!
//! # Correlation matrices
//!
//! [`series`] tells the agent values, such as prices, of which it calculates correlation matrices. [`matrices`] keeps the
//! matrix that a program is to use ready, whole and without waiting, and reports how the program fares with it.
//!
//! `examples/status.rs` is a whole program: it asks all nodes of a context at once.

pub mod breaker;
mod calls;
mod client;
mod clock;
mod context;
mod dial;
mod error;
mod follow;
pub mod matrices;
mod metadata;
mod node;
pub mod observe;
pub mod parameters;
pub mod push;
mod refusal;
pub mod series;
mod target;
mod tls;
pub mod trades;
mod watch;

pub use calls::{Call, find_call};
pub use client::{Client, DEFAULT_CONNECT_TIMEOUT, DEFAULT_TIMEOUT, MESSAGE_LIMIT, Options};
pub use context::{CONTEXT_NAME_LIMIT, Context, Contexts, Pem, TlsMaterial};
pub use error::{Error, Failure, Kind, Violation};
pub use metadata::{Metadata, REASON_KEY, REASON_LIMIT, REQUEST_ID_KEY, Transport, new_trace};
pub use node::{Node, NodeError, SOCKET_PATH_LIMIT, discover, local_sockets};
pub use tls::Tls;
pub use watch::has_ended;

pub use genesis_proto::v1;

#[cfg(test)]
mod tests;
