//! Connections: how many there may be, who is at the other end, and how one is cut.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::tls::identity::CertificateIdentity;
use crate::outside::Clock;

/// What a connection may take until it has said the HTTP/2 preface, TLS included.
pub const GREETING: Duration = Duration::from_secs(10);
/// The client's HTTP/2 preface, in bytes.
const PREFACE: usize = 24;
/// A connection that is quiet for this long and has no call open may have to make room.
const IDLE: Duration = Duration::from_secs(5);

/// Who is at the other end.
#[derive(Debug, Clone)]
pub enum Who {
    /// A process on this host, by its user and group; `None` where the system does not say.
    Unix(Option<(u32, u32)>),
    /// Anybody on this host.
    Plaintext(SocketAddr),
    /// A client whose certificate TLS has checked, or why that names no identity.
    Certificate(SocketAddr, Result<CertificateIdentity, String>),
}

/// What each request of a connection carries.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Who it is.
    pub who: Who,
    entry: Arc<Entry>,
}

impl Peer {
    /// Whether the connection has been cut.
    pub fn is_cut(&self) -> bool {
        self.entry.cut.is_cancelled()
    }

    /// Counts a call of this connection until the guard is dropped.
    pub fn call(&self) -> OpenCall {
        self.entry.calls.fetch_add(1, Ordering::Relaxed);
        OpenCall(Arc::clone(&self.entry))
    }
}

/// A call that goes on.
pub struct OpenCall(Arc<Entry>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Entry {
    cut: CancellationToken,
    /// When something was last read, in milliseconds of the monotonic clock.
    active_at: AtomicU64,
    calls: AtomicUsize,
    chain: OnceLock<Vec<CertificateDer<'static>>>,
}

/// All connections of one listener.
pub struct Connections {
    limit: usize,
    clock: Arc<dyn Clock>,
    next: AtomicU64,
    entries: Mutex<HashMap<u64, Arc<Entry>>>,
}

impl Connections {
    /// Room for `limit` connections.
    pub fn new(limit: usize, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { limit, clock, next: AtomicU64::new(0), entries: Mutex::default() })
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        // Never left half changed, so a panic elsewhere does not spoil it.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.entries().len()
    }

    /// A place for a new connection. When all are taken, the one that is idle the longest is cut and makes
    /// room; `None` when all are at work.
    pub fn admit(self: &Arc<Self>) -> Option<Slot> {
        let now = self.now();
        let mut entries = self.entries();
        if entries.len() >= self.limit {
            let idle = u64::try_from(IDLE.as_millis()).unwrap_or(u64::MAX);
            let oldest = entries
                .iter()
                .filter(|(_, entry)| entry.calls.load(Ordering::Relaxed) == 0)
                .map(|(id, entry)| (entry.active_at.load(Ordering::Relaxed), *id))
                .min()
                .filter(|(active_at, _)| active_at.saturating_add(idle) <= now)?;
            if let Some(entry) = entries.remove(&oldest.1) {
                entry.cut.cancel();
            }
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry { active_at: AtomicU64::new(now), ..Entry::default() });
        entries.insert(id, Arc::clone(&entry));
        Some(Slot { connections: Arc::clone(self), id, entry })
    }

    /// Cuts the connections with a client certificate for which `refused` holds; returns how many.
    pub fn cut_where(&self, refused: impl Fn(&[CertificateDer<'static>]) -> bool) -> usize {
        let all: Vec<Arc<Entry>> = self.entries().values().cloned().collect();
        let with_chain = all.iter().filter(|entry| !entry.cut.is_cancelled());
        with_chain
            .filter(|entry| entry.chain.get().is_some_and(|chain| refused(chain)))
            .map(|entry| entry.cut.cancel())
            .count()
    }
}

/// A connection's place; given back when it is dropped.
pub struct Slot {
    connections: Arc<Connections>,
    id: u64,
    entry: Arc<Entry>,
}

impl Slot {
    /// Remembers the client's certificates, so that the connection can be cut when they are no good any more.
    pub fn remember(&self, chain: Vec<CertificateDer<'static>>) {
        // Set once, after the one handshake of the connection.
        let _ = self.entry.chain.set(chain);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.entries().remove(&self.id);
    }
}

/// The bytes of a connection.
pub enum Stream {
    /// A unix socket.
    Unix(UnixStream),
    /// Plaintext.
    Tcp(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection as tonic serves it.
pub struct Connection {
    stream: Stream,
    who: Who,
    slot: Slot,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs until the preface is complete.
    greeting: Option<Pin<Box<Sleep>>>,
    read: usize,
}

impl Connection {
    /// A connection whose preface is due when `greeting` ends.
    pub fn new(stream: Stream, who: Who, slot: Slot, greeting: Pin<Box<Sleep>>) -> Self {
        let cut = Box::pin(slot.entry.cut.clone().cancelled_owned());
        Self { stream, who, slot, cut, greeting: Some(greeting), read: 0 }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer { who: self.who.clone(), entry: Arc::clone(&self.slot.entry) }
    }
}

macro_rules! on_stream {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Unix($inner) => $call,
            Stream::Tcp($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut")
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(was_cut()));
        }
        if let Some(greeting) = &mut this.greeting
            && greeting.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(on_stream!(&mut this.stream, inner => Pin::new(inner).poll_read(context, buffer)))?;
        this.slot.entry.active_at.store(this.slot.connections.now(), Ordering::Relaxed);
        if this.greeting.is_some() {
            this.read += buffer.filled().len() - before;
            if this.read >= PREFACE {
                this.greeting = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.slot.entry.cut.is_cancelled() {
            return Poll::Ready(Err(was_cut()));
        }
        on_stream!(&mut this.stream, inner => Pin::new(inner).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut self.get_mut().stream, inner => Pin::new(inner).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut self.get_mut().stream, inner => Pin::new(inner).poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.slot.entry.cut.is_cancelled() {
            return Poll::Ready(Err(was_cut()));
        }
        on_stream!(&mut this.stream, inner => Pin::new(inner).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        on_stream!(&self.stream, inner => inner.is_write_vectored())
    }
}
