//! Listeners that are open while something is to be seen at them, shared by all orders that name the same address.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// So many connections at a time; CAs look from a handful of places.
const CONNECTIONS: usize = 64;
/// A connection has so long.
const CONNECTION: Duration = Duration::from_secs(5);
/// The socket of whoever has closed last is gone within this.
const REOPENED: Duration = Duration::from_millis(500);
/// What is asked again, is asked so often.
const STEP: Duration = Duration::from_millis(10);

/// What is to be seen, by name, and for how many orders.
type Shown<V> = HashMap<String, (V, usize)>;

/// The entries of one listener.
pub(super) struct Entries<V>(Mutex<Shown<V>>);

impl<V: Clone> Entries<V> {
    /// What is to be seen under a name.
    pub(super) fn get(&self, name: &str) -> Option<V> {
        self.lock().get(name).map(|(value, _)| value.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Shown<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a connection is served.
pub(super) type Serve<V> = fn(TcpStream, Arc<Entries<V>>) -> BoxFuture<'static, ()>;

/// An open listener; it is closed with the last that holds it.
struct Open<V> {
    entries: Arc<Entries<V>>,
    accepting: Option<JoinHandle<()>>,
}

impl<V> Drop for Open<V> {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

/// The listeners of one kind.
pub(super) struct Listeners<V> {
    serve: Serve<V>,
    open: tokio::sync::Mutex<HashMap<SocketAddr, Weak<Open<V>>>>,
}

/// Something that is to be seen until this is dropped.
pub(super) struct Seen<V: Clone> {
    /// Until it is closed.
    open: Option<Arc<Open<V>>>,
    name: String,
}

impl<V: Clone> Seen<V> {
    /// Ends it; where it was the last, the address is free when this returns.
    pub(super) async fn close(mut self) {
        let last = self.hide().and_then(Arc::into_inner);
        if let Some(accepting) = last.and_then(|mut open| open.accepting.take()) {
            accepting.abort();
            // It was told to end, and has ended: what it says of that does not matter.
            let _ = accepting.await;
        }
    }

    fn hide(&mut self) -> Option<Arc<Open<V>>> {
        let open = self.open.take()?;
        let mut entries = open.entries.lock();
        if let Some((_, orders)) = entries.get_mut(&self.name) {
            *orders = orders.saturating_sub(1);
            if *orders == 0 {
                entries.remove(&self.name);
            }
        }
        drop(entries);
        Some(open)
    }
}

impl<V: Clone> Drop for Seen<V> {
    fn drop(&mut self) {
        drop(self.hide());
    }
}

impl<V: Clone + Send + Sync + 'static> Listeners<V> {
    /// None is open.
    pub(super) fn new(serve: Serve<V>) -> Self {
        Self { serve, open: tokio::sync::Mutex::default() }
    }

    /// Lets `value` be seen under `name` at an address.
    ///
    /// # Errors
    /// When it can't be listened at.
    pub(super) async fn show(
        &self,
        address: SocketAddr,
        name: String,
        value: V,
    ) -> io::Result<Seen<V>> {
        let mut all = self.open.lock().await;
        all.retain(|_, open| open.strong_count() > 0);
        let open = match all.get(&address).and_then(Weak::upgrade) {
            Some(open) => open,
            None => {
                let open = Arc::new(self.opened(bound(address).await?));
                all.insert(address, Arc::downgrade(&open));
                open
            }
        };
        {
            let mut entries = open.entries.lock();
            // Two orders with the same name have the same authorization, and with it the same value.
            let entry = entries.entry(name.clone()).or_insert_with(|| (value.clone(), 0));
            (entry.0, entry.1) = (value, entry.1 + 1);
        }
        Ok(Seen { open: Some(open), name })
    }

    fn opened(&self, listener: TcpListener) -> Open<V> {
        let entries = Arc::new(Entries(Mutex::default()));
        let (serve, shared) = (self.serve, Arc::clone(&entries));
        let accepting = tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(CONNECTIONS));
            loop {
                // Who finds no place waits in the kernel's queue, at most as long as another one has.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let served = serve(stream, Arc::clone(&shared));
                        tokio::spawn(async move {
                            let _ = tokio::time::timeout(CONNECTION, served).await;
                            drop(place);
                        });
                    }
                    // Such as no descriptors left: not at once again.
                    Err(_) => tokio::time::sleep(STEP).await,
                }
            }
        });
        Open { entries, accepting: Some(accepting) }
    }
}

/// Binds; the socket that was closed a moment ago may still be there.
async fn bound(address: SocketAddr) -> io::Result<TcpListener> {
    let mut waited = Duration::ZERO;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && waited < REOPENED => {
                tokio::time::sleep(STEP).await;
                waited += STEP;
            }
            bound => return bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Says everything that is to be seen.
    fn all(mut stream: TcpStream, entries: Arc<Entries<u8>>) -> BoxFuture<'static, ()> {
        async move {
            let mut said: Vec<u8> = entries.lock().values().map(|(value, _)| *value).collect();
            said.sort_unstable();
            let _ = stream.write_all(&said).await;
        }
        .boxed()
    }

    async fn said(address: SocketAddr) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.ok()?;
        Some(said)
    }

    #[tokio::test]
    async fn a_listener_is_shared_and_closed_with_the_last_that_is_to_be_seen() {
        let listeners = Listeners::new(all as Serve<u8>);
        let free = SocketAddr::from(([127, 0, 0, 1], crate::outside::ports::free_port()));
        for _ in 0..3 {
            let one = listeners.show(free, "one".into(), 1).await.unwrap();
            let again = listeners.show(free, "one".into(), 1).await.unwrap();
            let two = listeners.show(free, "two".into(), 2).await.unwrap();
            assert_eq!(said(free).await, Some(vec![1, 2]));
            drop(one);
            assert_eq!(said(free).await, Some(vec![1, 2]), "another order needs it");
            drop(again);
            assert_eq!(said(free).await, Some(vec![2]));
            two.close().await;
            assert_eq!(said(free).await, None);
        }
        let taken = std::net::TcpListener::bind(free).unwrap();
        assert!(listeners.show(free, "one".into(), 1).await.is_err());
        drop(taken);
        assert!(listeners.show(free, "one".into(), 1).await.is_ok());
    }
}
