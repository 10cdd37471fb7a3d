//! Connections: how many there may be, who is at the other end, and how one is cut.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
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
/// One that has not said the preface within this may have to make room.
const RUDE: Duration = Duration::from_secs(1);
/// One that is quiet for this long and has no call open may have to make room, after those.
const IDLE: Duration = Duration::from_secs(60);

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
    /// The HTTP/2 preface has come, behind TLS where there is TLS.
    greeted: AtomicBool,
    chain: OnceLock<Vec<CertificateDer<'static>>>,
}

/// All connections of one listener.
pub struct Connections {
    limit: usize,
    clock: Arc<dyn Clock>,
    next: AtomicU64,
    /// The last one of which the chain was looked at.
    looked_at: AtomicU64,
    entries: Mutex<HashMap<u64, Arc<Entry>>>,
}

impl Connections {
    /// Room for `limit` connections.
    pub fn new(limit: usize, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (next, looked_at) = (AtomicU64::new(1), AtomicU64::new(0));
        Arc::new(Self { limit, clock, next, looked_at, entries: Mutex::default() })
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

    /// A place for a new connection. When all are taken, one that has not greeted in time is cut and makes room,
    /// else the one that is idle the longest; `None` when there is neither.
    pub fn admit(self: &Arc<Self>) -> Option<Slot> {
        let now = self.now();
        let mut entries = self.entries();
        if entries.len() >= self.limit {
            let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            let (rude, idle) = (millis(RUDE), millis(IDLE));
            let oldest = entries
                .iter()
                .filter_map(|(id, entry)| {
                    let active_at = entry.active_at.load(Ordering::Relaxed);
                    let greeted = entry.greeted.load(Ordering::Relaxed);
                    let patience = if greeted { idle } else { rude };
                    let busy = entry.calls.load(Ordering::Relaxed) > 0;
                    let spared = busy || active_at.saturating_add(patience) > now;
                    (!spared).then_some((greeted, active_at, *id))
                })
                .min()?;
            if let Some(entry) = entries.remove(&oldest.2) {
                entry.cut.cancel();
            }
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry { active_at: AtomicU64::new(now), ..Entry::default() });
        entries.insert(id, Arc::clone(&entry));
        Some(Slot { connections: Arc::clone(self), id, entry })
    }

    /// Cuts the connections with a client certificate for which `refused` holds; returns how many.
    /// Looks at `most` of them, and at the others the next times.
    pub fn cut_where(
        &self,
        most: usize,
        refused: impl Fn(&[CertificateDer<'static>]) -> bool,
    ) -> usize {
        let from = self.looked_at.load(Ordering::Relaxed);
        let mut all: Vec<(u64, Arc<Entry>)> =
            self.entries().iter().map(|(id, entry)| (*id, Arc::clone(entry))).collect();
        all.retain(|(_, entry)| !entry.cut.is_cancelled() && entry.chain.get().is_some());
        // Those behind the last one that was looked at come first.
        all.sort_unstable_by_key(|(id, _)| (*id <= from, *id));
        all.truncate(most);
        if let Some((last, _)) = all.last() {
            self.looked_at.store(*last, Ordering::Relaxed);
        }
        all.iter()
            .filter(|(_, entry)| entry.chain.get().is_some_and(|chain| refused(chain)))
            .map(|(_, entry)| entry.cut.cancel())
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
    /// Resolves when the place is given to another.
    pub fn cut(&self) -> CancellationToken {
        self.entry.cut.clone()
    }

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
                this.slot.entry.greeted.store(true, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::ManualClock;

    #[test]
    fn chains_are_looked_at_in_turn() {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let places = Connections::new(9, clock);
        let slots: Vec<Slot> = (0..5).map(|_| places.admit().unwrap()).collect();
        // The first one has not shown any yet.
        for (number, slot) in (0_u8..).zip(&slots).skip(1) {
            slot.entry.chain.set(vec![CertificateDer::from(vec![number])]).unwrap();
        }
        let look = |most| {
            let seen = Mutex::new(Vec::new());
            let cut = places.cut_where(most, |chain| {
                seen.lock().unwrap().push(chain[0][0]);
                chain[0][0] == 3
            });
            (seen.into_inner().unwrap(), cut)
        };
        assert_eq!(look(2), (vec![1, 2], 0));
        assert_eq!(look(2), (vec![3, 4], 1));
        assert!(slots[3].entry.cut.is_cancelled());
        assert_eq!(look(2), (vec![1, 2], 0));
        assert_eq!(look(usize::MAX), (vec![4, 1, 2], 0));
    }

    #[test]
    fn who_has_to_make_room() {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let places = Connections::new(3, Arc::clone(&clock) as Arc<dyn Clock>);
        let [calls, idle, rude] = std::array::from_fn(|_| places.admit().unwrap());
        for slot in [&calls, &idle] {
            slot.entry.greeted.store(true, Ordering::Relaxed);
        }
        let who = Who::Unix(None);
        let _call = Peer { who, entry: Arc::clone(&calls.entry) }.call();
        let cut = |slot: &Slot| slot.entry.cut.is_cancelled();
        assert!(places.admit().is_none(), "everybody is new");
        clock.advance(RUDE);
        let next = places.admit().unwrap();
        assert!(cut(&rude) && !cut(&idle) && !cut(&calls));
        next.entry.greeted.store(true, Ordering::Relaxed);
        assert!(places.admit().is_none(), "nobody is idle for long");
        clock.advance(IDLE);
        let _last = places.admit().unwrap();
        assert!(cut(&idle) && !cut(&next) && !cut(&calls));
        assert_eq!(places.count(), 3);
        drop(next);
        assert_eq!(places.count(), 2, "a place that is given back is free");
    }
}
