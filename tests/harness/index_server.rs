//! A small HTTP server that answers GETs by a function, and the ways in which it goes wrong: what the indexes of packages
//! and of crates stand on. Each request comes over a connection of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::{LIMIT, wait_until};
use crate::http_script::reset;

/// How an index goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outage {
    /// Not at all.
    #[default]
    None,
    /// It answers 503.
    Errs,
    /// Connections are reset.
    Resets,
    /// It takes requests, and never answers.
    Hangs,
    /// It says how long each answer is, and sends half of it.
    Truncates,
    /// So it does with archives; its pages are right.
    TruncatesFiles,
}

/// What an answer is made of.
pub(crate) struct Asked {
    /// The path, without the query.
    pub(crate) path: String,
    /// The kinds of content that are wanted.
    pub(crate) accept: String,
    /// What the server was called.
    pub(crate) host: String,
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn found(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, kind, body: body.into() }
    }

    pub(crate) fn not_found() -> Self {
        Self { status: 404, kind: "text/plain", body: b"not here\n".to_vec() }
    }
}

#[derive(Default)]
struct Shared {
    outage: Outage,
    heard: Vec<String>,
    /// Connections that wait for ever.
    held: Vec<TcpStream>,
}

/// The server, until it is dropped.
pub(crate) struct IndexServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
}

impl IndexServer {
    /// One on a port of its own.
    ///
    /// # Panics
    /// When it can't listen.
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::<Mutex<Shared>>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let server = Self { address, shared: Arc::clone(&shared), stop: Arc::clone(&stop) };
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (shared, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                // A client that goes away in the middle is no trouble of the server's.
                std::thread::spawn(move || drop(serve(stream, &shared, &*answer)));
            }
        });
        server
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a URL with this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on it goes wrong like this.
    pub(crate) fn fail(&self, outage: Outage) {
        let mut shared = lock(&self.shared);
        shared.outage = outage;
        shared.held.clear();
    }

    /// The paths of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        lock(&self.shared).heard.clone()
    }

    /// Waits for so many requests.
    ///
    /// # Panics
    /// When there are fewer.
    #[track_caller]
    pub(crate) fn wait_requests(&self, count: usize) {
        let what = format!("{count} requests at {}", self.address);
        wait_until(&what, || lock(&self.shared).heard.len() >= count);
    }
}

impl Drop for IndexServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        lock(&self.shared).held.clear();
        // Wakes the listener, so that it sees it.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("never poisoned")
}

fn serve(
    stream: TcpStream,
    shared: &Mutex<Shared>,
    answer: &dyn Fn(&Asked) -> Reply,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut lines = BufReader::new(&stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(()) };
    let target = first.split_whitespace().nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let (mut accept, mut host) = (String::new(), String::new());
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "accept" => value.trim().clone_into(&mut accept),
            "host" => value.trim().clone_into(&mut host),
            _ => {}
        }
    }
    let outage = {
        let mut shared = lock(shared);
        shared.heard.push(path.clone());
        if shared.outage == Outage::Hangs {
            shared.held.push(stream);
            return Ok(());
        }
        shared.outage
    };
    let file = !path.starts_with("/simple/") && !path.starts_with("/index/");
    let reply = match outage {
        Outage::Resets => {
            reset(&stream);
            return Ok(());
        }
        Outage::Errs => Reply { status: 503, kind: "text/plain", body: b"down\n".to_vec() },
        _ => answer(&Asked { path, accept, host }),
    };
    let halves = outage == Outage::Truncates || outage == Outage::TruncatesFiles && file;
    // What is published next is to be seen at once.
    let head = format!(
        "HTTP/1.1 {} Answered\r\nconnection: close\r\ncache-control: no-cache\r\n\
         content-type: {}\r\ncontent-length: {}\r\n\r\n",
        reply.status,
        reply.kind,
        reply.body.len()
    );
    let sent = if halves { reply.body.len() / 2 } else { reply.body.len() };
    (&stream).write_all(head.as_bytes())?;
    if !first.starts_with("HEAD ") {
        (&stream).write_all(&reply.body[..sent])?;
    }
    Ok(())
}
