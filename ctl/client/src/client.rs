//! A connection to one agent, and calls over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use genesis_proto::v1::agent_service_client::AgentServiceClient;
use genesis_proto::v1::logs_service_client::LogsServiceClient;
use genesis_proto::v1::oplog_service_client::OplogServiceClient;
use genesis_proto::v1::recovery_service_client::RecoveryServiceClient;
use genesis_proto::v1::run_service_client::RunServiceClient;
use genesis_proto::v1::schedule_service_client::ScheduleServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status, Streaming};

use crate::error::is_deadline;
use crate::metadata::{self, Metadata, Transport};
use crate::{Error, Node, REASON_LIMIT};

/// The largest message that is sent or taken, in bytes.
pub const MESSAGE_LIMIT: usize = 16 << 20;

/// How long a call may take where [`Options`] say nothing else.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long connecting may take where [`Options`] say nothing else.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a call that the agent sheds is sent, the first time included.
const ATTEMPTS: u32 = 4;

/// The longest pause before a shed call is sent again, whatever the agent asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a TCP connection may be quiet before the kernel asks whether the other host is still there.
/// Not HTTP/2's own pings: a caller that is held up (by a pager on its output) could not answer those.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How to connect and call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The limit of each call, repeats included. For a stream: until it begins.
    pub timeout: Duration,
    /// The limit for connecting.
    pub connect_timeout: Duration,
    /// Why the caller does what it does; kept in the oplog of the agent. At most [`REASON_LIMIT`] bytes.
    pub reason: String,
    /// The id (a ULID) under which the agent recognises a repeat of a mutating call. `None`: a new one
    /// for each call. Every call, mutating or not, carries some id.
    pub request_id: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            reason: String::new(),
            request_id: None,
        }
    }
}

/// A connection to one agent. Clones share it; it is made again when it breaks.
#[derive(Debug, Clone)]
pub struct Client {
    node: Arc<Node>,
    channel: Channel,
    metadata: Metadata,
}

macro_rules! service {
    ($(#[$doc:meta])* $name:ident, $client:ident) => {
        $(#[$doc])*
        pub fn $name(&self) -> $client<Transport> {
            $client::with_interceptor(self.channel.clone(), self.metadata.clone())
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT)
        }
    };
}

impl Client {
    /// Connects to the agent at `node`.
    ///
    /// # Errors
    /// `Invalid` when the reason or the request id can't be sent, `Unreachable` when nobody answers in
    /// time, `NotAllowed` when the operating system denies the socket.
    pub async fn connect(node: &Node, options: Options) -> Result<Self, Error> {
        let metadata = Metadata {
            reason: reason(&options.reason)?,
            request_id: options.request_id.as_deref().map(request_id).transpose()?,
            attempt_id: None,
            timeout: options.timeout,
            mutated: Arc::new(AtomicBool::new(false)),
        };
        let channel = match tokio::time::timeout(options.connect_timeout, open(node)).await {
            Ok(opened) => opened.map_err(|error| Error::connecting(node, error))?,
            Err(_) => return Err(Error::connect_timeout(node, options.connect_timeout)),
        };
        Ok(Self { node: Arc::new(node.clone()), channel, metadata })
    }

    /// The agent at the other end.
    pub fn node(&self) -> &Node {
        &self.node
    }

    service! {
        /// The agent itself: status, version, identity, configuration.
        agent, AgentServiceClient
    }
    service! {
        /// Log archival.
        logs, LogsServiceClient
    }
    service! {
        /// The operation log.
        oplog, OplogServiceClient
    }
    service! {
        /// Rollback.
        recovery, RecoveryServiceClient
    }
    service! {
        /// Long operations.
        runs, RunServiceClient
    }
    service! {
        /// The scheduler.
        schedule, ScheduleServiceClient
    }

    /// Sends `request` through `send` and returns the answer's message (or stream). A call that the agent
    /// sheds under load is sent again, under the same request id, a few times within the timeout; nothing
    /// else is repeated.
    ///
    /// # Errors
    /// What the agent answered, or how the connection failed, as an [`Error`].
    pub async fn call<R, T, F, S>(&self, request: R, send: F) -> Result<T, Error>
    where
        R: Clone,
        F: Fn(Client, R) -> S,
        S: Future<Output = Result<Response<T>, Status>>,
    {
        let client = self.for_one_call();
        let mutated = || client.metadata.mutated.load(Ordering::Relaxed);
        let limit = self.metadata.timeout;
        let attempts = async {
            let mut attempt = 1;
            loop {
                let status = match send(client.clone(), request.clone()).await {
                    Ok(response) => return Ok(response.into_inner()),
                    Err(status) => status,
                };
                if is_deadline(&status) {
                    return Err(Error::timeout(&self.node, mutated(), limit));
                }
                let error = Error::from_status(&self.node, mutated(), status);
                match error.shed_pause() {
                    Some(pause) if attempt < ATTEMPTS => {
                        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                        attempt += 1;
                    }
                    _ => return Err(error),
                }
            }
        };
        match tokio::time::timeout(limit, attempts).await {
            Ok(result) => result,
            Err(_) => Err(Error::timeout(&self.node, mutated(), limit)),
        }
    }

    /// The next message of a stream that [`Client::call`] returned; `None` at its regular end.
    ///
    /// # Errors
    /// When the agent ends the stream with an error, or the connection breaks.
    pub async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, Error> {
        // No streaming rpc of the contract changes anything.
        stream.message().await.map_err(|status| Error::from_status(&self.node, false, status))
    }

    fn for_one_call(&self) -> Self {
        let metadata = Metadata {
            attempt_id: Some(metadata::fresh_id()),
            mutated: Arc::new(AtomicBool::new(false)),
            ..self.metadata.clone()
        };
        Self { metadata, ..self.clone() }
    }
}

async fn open(node: &Node) -> Result<Channel, tonic::transport::Error> {
    let configured = |endpoint: Endpoint| {
        endpoint
            .tcp_keepalive(Some(KEEP_ALIVE))
            .tcp_keepalive_interval(Some(KEEP_ALIVE / 3))
            .tcp_keepalive_retries(Some(3))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
    };
    match node {
        Node::Tcp { .. } => {
            configured(Endpoint::from_shared(format!("http://{node}"))?).connect().await
        }
        Node::Unix(path) => {
            let path = path.clone();
            // The authority means nothing on a unix socket, but HTTP/2 demands one.
            configured(Endpoint::from_static("http://localhost"))
                .connect_with_connector(tower::service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                }))
                .await
        }
    }
}

fn reason(text: &str) -> Result<Option<MetadataValue<Ascii>>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > REASON_LIMIT {
        return Err(Error::invalid(
            "REASON_TOO_LONG",
            format!("the reason has {} bytes, {REASON_LIMIT} are allowed", text.len()),
            "shorten it; details belong into a note",
        ));
    }
    metadata::reason_value(text).map(Some).ok_or_else(|| {
        Error::invalid("REASON_INVALID", "the reason can't be sent as metadata".into(), "reword it")
    })
}

fn request_id(text: &str) -> Result<MetadataValue<Ascii>, Error> {
    text.parse::<ulid::Ulid>()
        .ok()
        .and_then(|id| MetadataValue::try_from(id.to_string()).ok())
        .ok_or_else(|| {
            Error::invalid(
                "REQUEST_ID_INVALID",
                format!("the request id {text:?} is not a ULID"),
                "give 26 characters of Crockford's base 32, or leave it out",
            )
        })
}
