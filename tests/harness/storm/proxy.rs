//! A proxy for TCP before a server, in user space, that goes wrong as networks and servers do while it runs.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use crate::ports::free_port;

/// What becomes of what is sent through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It arrives.
    Pass,
    /// Nobody listens, and connections that there are end: a server that is gone.
    Refuse,
    /// Connections stay and are taken, and nothing gets through, either way, until this ends: a network that is cut.
    Drop,
    /// Each piece takes so much longer, either way.
    Delay(Duration),
    /// What the server answers does not arrive, and its side is closed: whether it did what it was asked nobody knows.
    HalfClose,
    /// What a client asks arrives a second time, over a connection of its own whose answer nobody gets, as when a
    /// balancer tries again. Only for protocols in which a request stands alone, as in HTTP/1.1 without TLS.
    Repeat,
}

/// Where the server is.
#[derive(Debug, Clone)]
enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Upstream {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream: Box<dyn Stream> = match self {
            Self::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        Ok(stream)
    }
}

/// The proxy, until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    counts: Arc<Counts>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    repeated: AtomicU64,
}

impl Proxy {
    /// One on a port of its own before this server, which passes everything on. The server may come later.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(server: SocketAddr) -> Self {
        Self::before(Upstream::Tcp(server))
    }

    /// The same before a server on a unix socket.
    ///
    /// # Panics
    /// As [`Proxy::start`].
    pub fn start_unix(server: PathBuf) -> Self {
        Self::before(Upstream::Unix(server))
    }

    fn before(upstream: Upstream) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        // It has to come back on the same one.
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listener = runtime.block_on(TcpListener::bind(address)).expect("a free port");
        let (mode, modes) = watch::channel(Mode::Pass);
        let counts = Arc::new(Counts::default());
        let way = Way { upstream, modes, counts: Arc::clone(&counts) };
        runtime.spawn(way.serve(address, listener));
        Self { address, mode, counts, _runtime: runtime }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this becomes of what is sent, also over connections that there are.
    pub fn turn(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// What becomes of it now.
    pub fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    /// How many connections it has taken.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// How many requests have arrived a second time.
    pub fn repeated(&self) -> u64 {
        self.counts.repeated.load(Ordering::SeqCst)
    }
}

/// What all connections of a proxy have in common.
#[derive(Clone)]
struct Way {
    upstream: Upstream,
    modes: watch::Receiver<Mode>,
    counts: Arc<Counts>,
}

/// What a client has asked since it was last answered; `None`: more than is repeated.
type Asked = Arc<Mutex<Option<Vec<u8>>>>;

/// Longer requests are not repeated.
const LONGEST: usize = 4 << 20;
/// So long the answer to a repeated request is waited for.
const ANSWER: Duration = Duration::from_secs(2);

fn remember(asked: &Asked, bytes: &[u8]) {
    let mut asked = asked.lock().expect("never poisoned");
    let fits = asked.as_ref().is_some_and(|known| known.len() + bytes.len() <= LONGEST);
    if !fits {
        *asked = None;
    } else if let Some(known) = asked.as_mut() {
        known.extend_from_slice(bytes);
    }
}

impl Way {
    /// Listens unless it is to refuse. Ends with the proxy.
    async fn serve(mut self, address: SocketAddr, listener: TcpListener) {
        let mut listener = Some(listener);
        loop {
            if *self.modes.borrow_and_update() == Mode::Refuse {
                listener = None;
                if self.modes.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let open = match listener.take() {
                Some(open) => open,
                // Connections that have just ended may hold the port for a moment.
                None => match TcpListener::bind(address).await {
                    Ok(open) => open,
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    }
                },
            };
            tokio::select! {
                accepted = open.accept() => {
                    if let Ok((client, _)) = accepted {
                        self.counts.connections.fetch_add(1, Ordering::SeqCst);
                        tokio::spawn(self.clone().carry(client));
                    }
                }
                // What it is now is looked at above.
                changed = self.modes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            listener = Some(open);
        }
    }

    /// One connection, until either side ends it or the server is gone.
    async fn carry(mut self, client: TcpStream) {
        if !self.is_open().await {
            return;
        }
        let Ok(server) = self.upstream.connect().await else { return };
        let (from_client, to_client) = split(client);
        let (from_server, to_server) = split(server);
        let asked: Asked = Arc::new(Mutex::new(Some(Vec::new())));
        let mut modes = self.modes.clone();
        let up = self.clone().ask(from_client, to_server, Arc::clone(&asked));
        let down = self.clone().answer(from_server, to_client, asked);
        tokio::select! {
            _ = async { tokio::join!(up, down) } => {}
            // A server that is gone leaves nothing behind.
            _ = modes.wait_for(|mode| *mode == Mode::Refuse) => {}
        }
    }

    /// Waits while nothing gets through; `false`: there is nothing to wait for any more.
    async fn is_open(&mut self) -> bool {
        let mode = self.modes.wait_for(|mode| *mode != Mode::Drop).await;
        mode.is_ok_and(|mode| *mode != Mode::Refuse)
    }

    /// [`Way::is_open`], and what a slow network takes.
    async fn lets_through(&mut self) -> bool {
        if !self.is_open().await {
            return false;
        }
        let mode = *self.modes.borrow();
        if let Mode::Delay(by) = mode {
            tokio::time::sleep(by).await;
        }
        true
    }

    /// From the client to the server.
    async fn ask(
        mut self,
        mut client: ReadHalf<TcpStream>,
        mut server: WriteHalf<Box<dyn Stream>>,
        asked: Asked,
    ) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length @ 1..) = client.read(&mut buffer).await {
            // Before it is sent: the answer may come at once.
            remember(&asked, &buffer[..length]);
            if !self.lets_through().await || server.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
        let _ = server.shutdown().await;
    }

    /// From the server to the client.
    async fn answer(
        mut self,
        mut server: ReadHalf<Box<dyn Stream>>,
        mut client: WriteHalf<TcpStream>,
        asked: Asked,
    ) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length @ 1..) = server.read(&mut buffer).await {
            // It answers: what was asked is whole.
            let request = asked.lock().expect("never poisoned").replace(Vec::new());
            let mode = *self.modes.borrow();
            match mode {
                Mode::HalfClose => break,
                Mode::Repeat => {
                    if let Some(request) = request.filter(|request| !request.is_empty()) {
                        tokio::spawn(self.clone().repeat(request));
                    }
                }
                _ => {}
            }
            if !self.lets_through().await || client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
        let _ = client.shutdown().await;
    }

    /// Sends a request once more; its answer is for nobody.
    async fn repeat(self, request: Vec<u8>) {
        let Ok(mut server) = self.upstream.connect().await else { return };
        if server.write_all(&request).await.is_err() {
            return;
        }
        let mut buffer = vec![0; 16 << 10];
        // An answer says that it was carried out; its end is that of the connection, or of our patience.
        let answered = tokio::time::timeout(ANSWER, server.read(&mut buffer)).await;
        if let Ok(Ok(1..)) = answered {
            self.counts.repeated.fetch_add(1, Ordering::SeqCst);
        }
        while let Ok(Ok(1..)) = tokio::time::timeout(ANSWER, server.read(&mut buffer)).await {}
    }
}
