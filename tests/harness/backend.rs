//! A real HTTP server on loopback that can be made to fail or to be slow, and counts what it is asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The server. Its threads end with the process.
pub struct Backend {
    address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    asked: AtomicU64,
    /// The status that it answers.
    status: AtomicU64,
    /// Milliseconds before it answers.
    delay: AtomicU64,
}

impl Backend {
    /// One that is well.
    ///
    /// # Panics
    /// When there is no port to be had.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("a bound one");
        let inner = Arc::new(Inner::default());
        inner.status.store(200, Ordering::SeqCst);
        let served = Arc::clone(&inner);
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                std::thread::spawn(move || {
                    let mut request = [0; 1024];
                    let Ok(1..) = connection.read(&mut request) else { return };
                    served.asked.fetch_add(1, Ordering::SeqCst);
                    let status = served.status.load(Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(served.delay.load(Ordering::SeqCst)));
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    );
                    // Who has left needs no answer.
                    let _ = connection.write_all(answer.as_bytes());
                });
            }
        });
        Self { address, inner }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with this status from now on.
    pub fn answers(&self, status: u16) {
        self.inner.status.store(status.into(), Ordering::SeqCst);
    }

    /// Takes so long from now on.
    pub fn takes(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.inner.delay.store(delay, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.inner.asked.load(Ordering::SeqCst)
    }
}
