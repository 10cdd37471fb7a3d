//! A connection to one agent, and calls over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use genesis_proto::v1::agent_service_client::AgentServiceClient;
use genesis_proto::v1::alerts_service_client::AlertsServiceClient;
use genesis_proto::v1::backup_service_client::BackupServiceClient;
use genesis_proto::v1::baseline_service_client::BaselineServiceClient;
use genesis_proto::v1::breaker_service_client::BreakerServiceClient;
use genesis_proto::v1::certificate_service_client::CertificateServiceClient;
use genesis_proto::v1::database_service_client::DatabaseServiceClient;
use genesis_proto::v1::dependency_service_client::DependencyServiceClient;
use genesis_proto::v1::experiment_service_client::ExperimentServiceClient;
use genesis_proto::v1::fleet_service_client::FleetServiceClient;
use genesis_proto::v1::health_service_client::HealthServiceClient;
use genesis_proto::v1::logs_service_client::LogsServiceClient;
use genesis_proto::v1::matrix_service_client::MatrixServiceClient;
use genesis_proto::v1::oplog_service_client::OplogServiceClient;
use genesis_proto::v1::parameter_service_client::ParameterServiceClient;
use genesis_proto::v1::recovery_service_client::RecoveryServiceClient;
use genesis_proto::v1::run_service_client::RunServiceClient;
use genesis_proto::v1::schedule_service_client::ScheduleServiceClient;
use genesis_proto::v1::series_service_client::SeriesServiceClient;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::dial::{self, Fate};
use crate::error::is_deadline;
use crate::metadata::{self, Metadata, Transport};
use crate::{Context, Error, Kind, Node, REASON_LIMIT, Tls};

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

/// How often a changing call is sent whose connection breaks, the first time included. With the pauses this is
/// over five seconds: time for an agent to be restarted.
const ATTEMPTS_IN_DOUBT: u32 = 7;

/// The pause before a changing call is sent again whose connection broke; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest of these pauses.
const LONGEST_PAUSE_IN_DOUBT: Duration = Duration::from_secs(2);

/// How many nodes of a context are connected to at the same time.
const CONNECT_PARALLEL: usize = 64;

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
    /// The trace that every call belongs to, as [`crate::new_trace`] makes one or a tracer of the program's has it: 32
    /// hex digits. `None`: the agent gives each call one of its own.
    pub trace_id: Option<String>,
    /// What secures connections over TCP. `None`: nothing does, and the agent takes the caller for a viewer at
    /// most. Unix sockets need none.
    pub tls: Option<Tls>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            reason: String::new(),
            request_id: None,
            trace_id: None,
            tls: None,
        }
    }
}

/// A connection to one agent. Clones share it; it is made again when it breaks.
#[derive(Debug, Clone)]
pub struct Client {
    node: Arc<Node>,
    channel: Channel,
    metadata: Metadata,
    fate: Arc<Fate>,
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
    /// time, `NotAllowed` when the operating system denies the socket, `Unauthenticated` when the server is
    /// not to be trusted. An agent that refuses the client's certificate may say so only at the first call.
    pub async fn connect(node: &Node, options: Options) -> Result<Self, Error> {
        let metadata = Metadata {
            reason: reason(&options.reason)?,
            request_id: options.request_id.as_deref().map(request_id).transpose()?,
            attempt_id: None,
            trace_id: options.trace_id.as_deref().map(metadata::trace_id).transpose()?,
            timeout: options.timeout,
            mutated: Arc::new(AtomicBool::new(false)),
        };
        let fate = Arc::new(Fate::default());
        let channel =
            dial::open(node, options.tls.as_ref(), options.connect_timeout, &fate).await?;
        Ok(Self { node: Arc::new(node.clone()), channel, metadata, fate })
    }

    /// Connects to the agent at `node` with what `context` has to secure the connection; it need not be one of
    /// the context's nodes. The certificates are read once and then shared, see [`Context::tls`].
    ///
    /// # Errors
    /// Those of [`Context::tls`] and of [`Client::connect`].
    pub async fn connect_context(
        context: &Context,
        node: &Node,
        options: Options,
    ) -> Result<Self, Error> {
        let tls = context.tls()?;
        Self::connect(node, Options { tls, ..options }).await
    }

    /// Connects to all nodes of `context`, many at a time. Each node has its own result, in the order of the
    /// context.
    ///
    /// # Errors
    /// Those of [`Context::tls`].
    pub async fn connect_all(
        context: &Context,
        options: &Options,
    ) -> Result<Vec<(Node, Result<Self, Error>)>, Error> {
        let options = Options { tls: context.tls()?, ..options.clone() };
        let slots = Arc::new(Semaphore::new(CONNECT_PARALLEL));
        let mut connecting = JoinSet::new();
        for (index, node) in context.nodes().iter().cloned().enumerate() {
            let (slots, options) = (slots.clone(), options.clone());
            connecting.spawn(async move {
                // Nobody closes the semaphore, so waiting for a slot can't fail.
                let _slot = slots.acquire().await;
                let connected = Self::connect(&node, options).await;
                (index, node, connected)
            });
        }
        let mut results = connecting.join_all().await;
        results.sort_by_key(|(index, ..)| *index);
        Ok(results.into_iter().map(|(_, node, connected)| (node, connected)).collect())
    }

    /// The agent at the other end.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The same connection, with another reason for what is done over it.
    ///
    /// # Errors
    /// `Invalid` when the reason can't be sent.
    pub fn with_reason(&self, text: &str) -> Result<Self, Error> {
        let metadata = Metadata { reason: reason(text)?, ..self.metadata.clone() };
        Ok(Self { metadata, ..self.clone() })
    }

    /// The same connection, with another limit for each call: for one that sends more than a message.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { metadata: Metadata { timeout, ..self.metadata.clone() }, ..self.clone() }
    }

    service! {
        /// The agent itself: status, version, identity, configuration.
        agent, AgentServiceClient
    }
    service! {
        /// What people hear of.
        alerts, AlertsServiceClient
    }
    service! {
        /// Backups of the databases and of the agent itself.
        backup, BackupServiceClient
    }
    service! {
        /// Performance baselines, and the observations that they are made of; see [`crate::observe`].
        baselines, BaselineServiceClient
    }
    service! {
        /// Circuit breakers.
        breaker, BreakerServiceClient
    }
    service! {
        /// Certificates: when they end, renewal, earlier generations.
        certificates, CertificateServiceClient
    }
    service! {
        /// Care of databases.
        database, DatabaseServiceClient
    }
    service! {
        /// What applications are built of, and what is known to be wrong with it.
        dependencies, DependencyServiceClient
    }
    service! {
        /// A/B tests of strategies, and the trades that decide them; see [`crate::trades`].
        experiments, ExperimentServiceClient
    }
    service! {
        /// The fleet, and how this host stands to it.
        fleet, FleetServiceClient
    }
    service! {
        /// Checks, issues and remediation.
        health, HealthServiceClient
    }
    service! {
        /// Log archival.
        logs, LogsServiceClient
    }
    service! {
        /// Correlation matrices, and how consumers fare with them; see [`crate::matrices`].
        matrices, MatrixServiceClient
    }
    service! {
        /// The operation log.
        oplog, OplogServiceClient
    }
    service! {
        /// What strategies are to use; see [`crate::parameters`].
        parameters, ParameterServiceClient
    }
    service! {
        /// Rollback, emergencies and incidents.
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
    service! {
        /// Series of values, of which correlation matrices are calculated; see [`crate::series`].
        series, SeriesServiceClient
    }

    /// Sends `request` through `send` and returns the answer's message (or stream).
    ///
    /// Two things are sent again within the timeout, a few times and under the same request id: a call that the
    /// agent sheds under load, and a changing call whose connection broke before the answer came. The agent
    /// answers the latter with what came of it the first time, so it is carried out once. Nothing else is
    /// repeated.
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
        let limit = self.metadata.timeout;
        // Where time runs out over a repeat of what was shed, that is why; not so for a change, which this time may
        // have been carried out.
        let late = |shed: Option<&Error>| match shed {
            Some(shed) if !client.mutated() => shed.clone(),
            _ => client.named(Error::timeout(&self.node, client.mutated(), limit)),
        };
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        // The first attempt that may have been carried out without its answer having come.
        let mut doubt: Option<Error> = None;
        let mut shed: Option<Error> = None;
        let mut attempt = 1;
        loop {
            let answer = tokio::select! {
                answer = send(client.clone(), request.clone()) => answer,
                () = &mut deadline => return Err(doubt.unwrap_or_else(|| late(shed.as_ref()))),
            };
            let error = match answer {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if is_deadline(&status) => late(shed.as_ref()),
                Err(status) => client.named(client.failure(client.mutated(), status)),
            };
            let Some(pause) = pause(&error, doubt.is_some(), attempt) else {
                return Err(match doubt {
                    Some(doubt) if !answers(&error) => doubt,
                    _ => error,
                });
            };
            if error.reason == OUTCOME_UNKNOWN {
                doubt.get_or_insert(error.clone());
            } else {
                shed = Some(error.clone());
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => attempt += 1,
                // What was shed was not carried out: better than to say that time ran out.
                () = &mut deadline => return Err(doubt.unwrap_or(error)),
            }
        }
    }

    /// The next message of a stream that [`Client::call`] returned; `None` at its regular end.
    ///
    /// # Errors
    /// When the agent ends the stream with an error, or the connection breaks.
    pub async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, Error> {
        // No streaming rpc of the contract changes anything.
        stream.message().await.map_err(|status| self.failure(false, status))
    }

    /// What a status means, given what became of the connection.
    fn failure(&self, mutating: bool, status: Status) -> Error {
        Error::from_status(&self.node, mutating, status)
            .or_refused(&self.node, self.fate.refusal().as_ref())
    }

    fn mutated(&self) -> bool {
        self.metadata.mutated.load(Ordering::Relaxed)
    }

    /// An error that names the id of the call, where the id is of use.
    fn named(&self, error: Error) -> Error {
        error.under_id(self.metadata.mutating_id())
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

const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";

/// Whether the agent itself said it, so that it holds for the call, whatever an earlier attempt came to.
fn answers(error: &Error) -> bool {
    error.reason != OUTCOME_UNKNOWN
        && !matches!(
            error.kind,
            Kind::Unreachable | Kind::Unavailable | Kind::Unauthenticated | Kind::NotAllowed
        )
}

/// How long to wait before a call that failed with `error` is sent again; `None`: it is not. `doubt`: an earlier
/// attempt may have been carried out.
pub(crate) fn pause(error: &Error, doubt: bool, attempt: u32) -> Option<Duration> {
    let broken = error.reason == OUTCOME_UNKNOWN && error.code != "DEADLINE_EXCEEDED";
    let out_of_reach = matches!(error.kind, Kind::Unreachable | Kind::Unavailable);
    // What was shed costs the agent next to nothing, and the agent says when: until the deadline.
    if let Some(pause) = error.shed_pause() {
        return Some(pause.min(LONGEST_PAUSE));
    }
    let limit = if doubt || broken { ATTEMPTS_IN_DOUBT } else { ATTEMPTS };
    if attempt >= limit {
        return None;
    }
    (broken || (doubt && out_of_reach))
        .then(|| FIRST_PAUSE.saturating_mul(1 << (attempt - 1).min(8)).min(LONGEST_PAUSE_IN_DOUBT))
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
