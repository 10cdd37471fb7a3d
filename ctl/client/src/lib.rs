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

mod calls;
mod client;
mod context;
mod dial;
mod error;
mod metadata;
mod node;
mod refusal;
mod tls;
mod watch;

pub use calls::{Call, find_call};
pub use client::{Client, DEFAULT_CONNECT_TIMEOUT, DEFAULT_TIMEOUT, MESSAGE_LIMIT, Options};
pub use context::{CONTEXT_NAME_LIMIT, Context, Contexts, Pem, TlsMaterial};
pub use error::{Error, Failure, Kind, Violation};
pub use metadata::{Metadata, REASON_KEY, REASON_LIMIT, REQUEST_ID_KEY, Transport};
pub use node::{Node, NodeError, SOCKET_PATH_LIMIT, discover, local_sockets};
pub use tls::Tls;
pub use watch::has_ended;

pub use genesis_proto::v1;

#[cfg(test)]
mod tests;
