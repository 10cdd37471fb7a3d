//! The listeners: bound before anything is said to be ready, then accepting, each connection with its limits.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::LazyConfigAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Connections, GREETING, Slot, Stream, Who};
use super::tls::{Tls, identity};
use crate::error::{Error, Result};
use crate::outside::host;

/// Who has not said hello by then is sent away.
const HELLO: Duration = Duration::from_secs(3);
/// Accepted connections that the server has not taken over yet.
const WAITING: usize = 64;
/// How long accepting pauses when the host has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Where to listen.
pub struct Addresses<'a> {
    /// The unix socket.
    pub socket: &'a Path,
    /// The group that may use it; empty: none.
    pub group: &'a str,
    /// Plaintext gRPC for viewers.
    pub plaintext: Option<SocketAddr>,
    /// gRPC over TLS.
    pub tls: Option<SocketAddr>,
    /// HTTP.
    pub http: SocketAddr,
    /// HTTP over TLS.
    pub https: Option<SocketAddr>,
}

/// Accepted connections, as tonic takes them.
pub type Incoming = ReceiverStream<io::Result<Connection>>;

/// The listeners, bound before anything is said to be ready.
pub struct Listeners {
    pub(super) unix: UnixListener,
    pub(super) plaintext: Option<TcpListener>,
    pub(super) tls: Option<TcpListener>,
    pub(super) http: TcpListener,
    pub(super) https: Option<TcpListener>,
}

impl Listeners {
    /// Binds the socket (0600, or 0660 for a group) and the loopback addresses.
    ///
    /// # Errors
    /// `LISTEN_FAILED` with the address and, for a taken port, what to do.
    pub async fn bind(addresses: Addresses<'_>) -> Result<Self> {
        let Addresses { socket, group, plaintext, tls, http, https } = addresses;
        let failed = |what: String, error: std::io::Error| {
            let hint = if error.kind() == std::io::ErrorKind::AddrInUse {
                "; another program has it: stop that, or name another address in [listen]"
            } else {
                ""
            };
            Error::unavailable("LISTEN_FAILED", format!("can't listen on {what}{hint}"))
                .caused_by(error)
        };
        let http_listener =
            TcpListener::bind(http).await.map_err(|error| failed(format!("http {http}"), error))?;
        let port = async |address: Option<SocketAddr>| match address {
            Some(address) => TcpListener::bind(address)
                .await
                .map(Some)
                .map_err(|error| failed(format!("grpc {address}"), error)),
            None => Ok(None),
        };
        let (plaintext, tls) = (port(plaintext).await?, port(tls).await?);
        let https = match https {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|error| failed(format!("https {address}"), error))?,
            ),
            None => None,
        };
        let unix = bind_socket(socket, group)
            .map_err(|error| failed(format!("unix:{}", socket.display()), error))?;
        Ok(Self { unix, plaintext, tls, http: http_listener, https })
    }

    /// The address of HTTP, its port chosen.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// The address of HTTP over TLS, its port chosen.
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.https.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// The address of gRPC over TLS, its port chosen.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// The address of plaintext gRPC, its port chosen.
    pub fn plaintext_address(&self) -> Option<SocketAddr> {
        self.plaintext.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

fn bind_socket(socket: &Path, group: &str) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;

    if let Some(folder) = socket.parent()
        && !folder.exists()
    {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    }
    // The caller holds the agent's lock, so a socket that is there belongs to an agent that is gone.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Bound under a name of its own and renamed when its mode is right, so that it is never open to all.
    let temporary = socket.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)?;
    let mode = match host::group_id(group) {
        Some(gid) => {
            std::os::unix::fs::chown(&temporary, None, Some(gid))?;
            0o660
        }
        None => 0o600,
    };
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&temporary, socket)?;
    Ok(listener)
}

/// Accepts from the unix socket.
pub fn unix(listener: UnixListener, places: Arc<Connections>, stop: CancellationToken) -> Incoming {
    let (sender, incoming) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // Without a place it is dropped, which its caller sees at once.
            let Some(slot) = places.admit() else { continue };
            let peer = stream.peer_cred().ok().map(|peer| (peer.uid(), peer.gid()));
            let greeting = Box::pin(tokio::time::sleep(GREETING));
            let connection = Connection::new(Stream::Unix(stream), Who::Unix(peer), slot, greeting);
            if sender.send(Ok(connection)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(incoming)
}

/// Accepts from a TCP port, with TLS where `tls` is given.
pub fn tcp(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    places: Arc<Connections>,
    stop: CancellationToken,
) -> Incoming {
    let (sender, incoming) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, address)) = accepted else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let Some(slot) = places.admit() else { continue };
            // Small answers go out at once; failing that, they are only later.
            let _ = stream.set_nodelay(true);
            let greeting = Box::pin(tokio::time::sleep(GREETING));
            let Some(tls) = tls.clone() else {
                let who = Who::Plaintext(address);
                let connection = Connection::new(Stream::Tcp(stream), who, slot, greeting);
                if sender.send(Ok(connection)).await.is_err() {
                    return;
                }
                continue;
            };
            let sender = sender.clone();
            tokio::spawn(async move {
                let (deadline, cut) = (greeting.deadline(), slot.cut());
                let shaken = shake(stream, address, (&tls, false), slot, greeting);
                let outcome = tokio::select! {
                    // Its place was given to another.
                    () = cut.cancelled() => return,
                    outcome = tokio::time::timeout_at(deadline, shaken) => outcome,
                };
                match outcome {
                    Ok(Ok(connection)) => {
                        let _ = sender.send(Ok(connection)).await;
                    }
                    Ok(Err(error)) => tracing::info!(%address, %error, "a TLS client was refused"),
                    Err(_) => {
                        tracing::info!(%address, "a client did not finish its TLS handshake in time")
                    }
                }
            });
        }
    });
    ReceiverStream::new(incoming)
}

/// The TLS handshake of a client, who has a certificate that is good now.
///
/// # Errors
/// Why there is no connection.
pub(super) async fn shake(
    stream: TcpStream,
    address: SocketAddr,
    (tls, http): (&Tls, bool),
    slot: Slot,
    greeting: Pin<Box<Sleep>>,
) -> io::Result<Connection> {
    // Nothing is worked out, nor held but the place, for who says nothing.
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let hello = tokio::time::timeout(HELLO, hello)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it said nothing"))??;
    let config = if http { tls.http_config() } else { tls.server_config() };
    let config = config.ok_or_else(|| io::Error::other("there is no usable certificate"))?;
    let stream = hello.into_stream(config).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let identity = match chain.first() {
        Some(certificate) => identity::read(certificate),
        None => Err("the client showed no certificate".into()),
    };
    slot.remember(chain.clone());
    // The files may have changed while the handshake went on; from here on a change finds the connection.
    tls.verify(&chain).map_err(io::Error::other)?;
    let who = Who::Certificate(address, identity);
    Ok(Connection::new(Stream::Tls(Box::new(stream)), who, slot, greeting))
}
