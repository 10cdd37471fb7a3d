//! How a connection to an agent comes about, and what is learnt from one that breaks at once.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ProtocolVersion;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::refusal::Refusal;
use crate::tls::Tls;
use crate::{Error, Node};

type BoxError = Box<dyn StdError + Send + Sync>;

/// How long a TCP connection may be quiet before the kernel asks whether the other host is still there.
/// Not HTTP/2's own pings: a caller that is held up (by a pager on its output) could not answer those.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long one address has before the next one of the same name is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// How often a handshake is begun that the server hangs up on without a word, as one with too many does.
const HANDSHAKES: u32 = 3;

/// The pause after a connection that was turned away for now; it doubles.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a TLS 1.3 server has to say something once the handshake is done, and a broken connection to give
/// away what was still on its way.
const LISTEN: Duration = Duration::from_millis(500);

/// Nothing came about within the limit.
#[derive(Debug, thiserror::Error)]
#[error("not connected within {0:?}")]
pub(crate) struct TooSlow(pub(crate) Duration);

/// What became of the newest connection of a client.
#[derive(Debug, Default)]
pub(crate) struct Fate(Mutex<Option<Refusal>>);

impl Fate {
    /// Why the newest connection broke before anything was heard on it, if the two sides refused each other.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, refusal: Option<Refusal>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }
}

/// Connects, and makes a channel that connects again when it has to; each time within `limit`.
pub(crate) async fn open(
    node: &Node,
    tls: Option<&Tls>,
    limit: Duration,
    fate: &Arc<Fate>,
) -> Result<Channel, Error> {
    let windows = |endpoint: Endpoint| {
        endpoint.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20)
    };
    let fate = fate.clone();
    let opened = match node {
        Node::Unix(path) => {
            // The authority means nothing on a unix socket, but HTTP/2 demands one.
            let endpoint = windows(Endpoint::from_static("http://localhost"));
            let path = path.clone();
            let connector = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                within(limit, async move { Ok(TokioIo::new(unix(&path).await?)) })
            });
            endpoint.connect_with_connector(connector).await
        }
        Node::Tcp { host, port } => {
            let connecting = |error| Error::connecting(node, error);
            // tonic takes an https endpoint for one of its own TLS; the origin is what the agent sees.
            let mut endpoint =
                Endpoint::from_shared(format!("http://{node}")).map_err(connecting)?;
            let secured = match tls {
                Some(tls) => {
                    let origin = format!("https://{node}").parse::<Uri>().map_err(|_| {
                        let message = format!("{node} can't be a URL's authority");
                        Error::invalid("NODE_INVALID", message, "correct the node's address")
                    })?;
                    endpoint = endpoint.origin(origin);
                    Some((TlsConnector::from(tls.config()), tls.server_name(node, host)?))
                }
                None => None,
            };
            let (host, port) = (host.clone(), *port);
            let connector = tower::service_fn(move |_: Uri| {
                let (host, secured, fate) = (host.clone(), secured.clone(), fate.clone());
                within(limit, async move {
                    let stream = tcp(&host, port, secured.as_ref()).await?;
                    Ok(TokioIo::new(Watched { stream, fate, heard: false, listening: None }))
                })
            });
            windows(endpoint).connect_with_connector(connector).await
        }
    };
    opened.map_err(|error| Error::connecting(node, error))
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(TooSlow(limit).into()))
}

/// A unix socket. One whose queue is full says so at once, instead of letting callers wait.
async fn unix(path: &std::path::Path) -> io::Result<UnixStream> {
    let mut pause = PAUSE;
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(STAGGER);
            }
            connected => return connected,
        }
    }
}

async fn tcp(
    host: &str,
    port: u16,
    secured: Option<&(TlsConnector, ServerName<'static>)>,
) -> Result<Stream, BoxError> {
    let mut pause = PAUSE;
    let mut handshake = 1;
    loop {
        let plain = reach(host, port).await?;
        let Some((connector, name)) = secured else { return Ok(Stream::Plain(plain)) };
        let error = match connector.connect(name.clone(), plain).await {
            Ok(stream) if stream.get_ref().1.alpn_protocol() != Some(b"h2") => {
                return Err(Refusal::NotHttp2.into());
            }
            Ok(mut stream) => match greeting(&mut stream).await {
                Ok(()) => return Ok(Stream::Tls(Box::new(stream))),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if let Some(refusal) = Refusal::of_io(&error) {
            return Err(refusal.into());
        }
        let hung_up = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        );
        if !hung_up || handshake == HANDSHAKES {
            return Err(error.into());
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(4);
        handshake += 1;
    }
}

/// Waits for the first words of a TLS 1.3 server, which judges the client's certificate when the handshake is
/// over for the client. They are HTTP/2's settings, or an alert, which could get lost once more is sent. A server
/// may also wait for the client to begin; then [`Watched`] hears what it says later.
async fn greeting(
    stream: &mut tokio_rustls::client::TlsStream<TcpStream>,
) -> Result<(), io::Error> {
    if stream.get_ref().1.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Ok(());
    }
    match tokio::time::timeout(LISTEN, stream.fill_buf()).await {
        Ok(Ok([])) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// The first address of the host that answers. One that is silent holds up the others for a moment only.
async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut addresses = tokio::net::lookup_host((host, port)).await?;
    let mut attempts = JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut next = addresses.next();
    loop {
        if let Some(address) = next.take() {
            attempts.spawn(TcpStream::connect(address));
            next = addresses.next();
        }
        tokio::select! {
            attempt = attempts.join_next() => match attempt {
                Some(Ok(Ok(stream))) => {
                    settle(&stream)?;
                    return Ok(stream);
                }
                Some(Ok(Err(error))) => failed = error,
                Some(Err(cut_off)) => failed = io::Error::other(cut_off),
                None => return Err(failed),
            },
            () = tokio::time::sleep(STAGGER), if next.is_some() => {}
        }
    }
}

fn settle(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE / 3)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

/// A TCP connection, secured or not.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// A connection that remembers how it was refused, where that is the first thing that is read on it: HTTP/2
/// reports no more of it than a broken connection.
#[derive(Debug)]
struct Watched {
    stream: Stream,
    fate: Arc<Fate>,
    /// Something was read, so the server has taken the connection.
    heard: bool,
    /// Until when a connection that can't be written to any more is listened to.
    listening: Option<Pin<Box<Sleep>>>,
}

/// The first byte of a TLS alert. As the first byte of an HTTP/2 connection it would announce a frame far
/// beyond the limit.
const ALERT: u8 = 0x15;

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let (read, plain) = match &mut this.stream {
            Stream::Plain(stream) => (Pin::new(stream).poll_read(cx, buffer), true),
            Stream::Tls(stream) => (Pin::new(stream).poll_read(cx, buffer), false),
        };
        if this.heard {
            return read;
        }
        match &read {
            Poll::Ready(Ok(())) => {
                if let Some(first) = buffer.filled().get(before) {
                    this.heard = true;
                    this.fate.set((plain && *first == ALERT).then_some(Refusal::TlsOnly));
                }
            }
            Poll::Ready(Err(error)) => {
                if let Some(refusal) = Refusal::of_io(error) {
                    this.fate.set(Some(refusal));
                }
            }
            Poll::Pending => {}
        }
        read
    }
}

impl Watched {
    /// After a failed write nobody reads any more, and the refusal may lie there unread or be on its way.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.heard || !matches!(wrote, Poll::Ready(Err(_))) {
            return wrote;
        }
        let mut scratch = [0; 256];
        if Pin::new(&mut *self).poll_read(cx, &mut ReadBuf::new(&mut scratch)).is_ready() {
            return wrote;
        }
        let listening = self.listening.get_or_insert_with(|| Box::pin(tokio::time::sleep(LISTEN)));
        // The write is tried again, and fails again.
        if listening.as_mut().poll(cx).is_pending() { Poll::Pending } else { wrote }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, data),
        };
        this.written(cx, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, data),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, data),
        };
        this.written(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let wrote = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        this.written(cx, wrote)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
