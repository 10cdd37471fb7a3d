//! An HTTP server that answers by a script, and keeps every request: what alerts are sent to. Each request comes over a
//! connection of its own, as the agent makes them.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use crate::clock::{LIMIT, Watch, wait_until};

/// What becomes of a connection.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A status, headers and a body.
    Says(u16, Vec<(&'static str, String)>, String),
    /// The authorization, the path and the body of the request: a server that is careless with secrets.
    Echoes(u16),
    /// The request is taken, and nothing comes back.
    Hangs,
    /// The connection is reset before anything of the request was read.
    Resets,
    /// The request is taken, and the connection reset: nobody knows whether it counts.
    TakesAndResets,
}

/// A status with a body.
pub fn says(status: u16, body: &str) -> Answer {
    Answer::Says(status, Vec::new(), body.to_owned())
}

/// A request.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
    /// How long after the server's start it was taken.
    pub at: Duration,
}

impl Heard {
    /// Its body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// One of its headers; empty when it has none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

struct Shared {
    script: VecDeque<Answer>,
    /// What it answers when the script is used up.
    default: Answer,
    heard: Vec<Heard>,
    /// Connections that were reset unread.
    resets: usize,
    /// Connections that wait for ever.
    held: Vec<TcpStream>,
}

/// The server, until it is dropped.
pub struct HttpScript {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
}

impl HttpScript {
    /// One on a port of its own that answers by `script`, one answer for each connection, and with `default` when it
    /// is used up.
    ///
    /// # Panics
    /// When it can't listen.
    pub fn start(script: impl IntoIterator<Item = Answer>, default: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::new(Mutex::new(Shared {
            script: script.into_iter().collect(),
            default,
            heard: Vec::new(),
            resets: 0,
            held: Vec::new(),
        }));
        let (stop, watch) = (Arc::new(AtomicBool::new(false)), Watch::start());
        let server = Self { address, shared: Arc::clone(&shared), stop: Arc::clone(&stop) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&shared);
                // A client that goes away in the middle is no trouble of the server's.
                std::thread::spawn(move || drop(serve(stream, &shared, watch)));
            }
        });
        server
    }

    /// Where it listens, as a URL with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers like this when the script is used up.
    pub fn always(&self, answer: Answer) {
        lock(&self.shared).default = answer;
    }

    /// The requests so far.
    pub fn heard(&self) -> Vec<Heard> {
        lock(&self.shared).heard.clone()
    }

    /// How many connections were reset unread.
    pub fn resets(&self) -> usize {
        lock(&self.shared).resets
    }

    /// Waits for so many requests.
    ///
    /// # Panics
    /// When there are fewer after a while that is long enough for an alert to be over, too.
    #[track_caller]
    pub fn wait_heard(&self, count: usize) -> Vec<Heard> {
        let what = format!("{count} requests at {}", self.address);
        wait_until(&what, || self.heard().len() >= count);
        self.heard()
    }
}

impl Drop for HttpScript {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, so that it sees it.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("never poisoned")
}

/// Closes a connection in such a way that the other side sees a reset.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

fn serve(stream: TcpStream, shared: &Mutex<Shared>, watch: Watch) -> std::io::Result<()> {
    let next = {
        let mut shared = lock(shared);
        shared.script.pop_front().unwrap_or_else(|| shared.default.clone())
    };
    if matches!(next, Answer::Resets) {
        reset(&stream);
        lock(shared).resets += 1;
        return Ok(());
    }
    stream.set_read_timeout(Some(LIMIT))?;
    let heard = read(&stream, watch)?;
    let (status, headers, body) = match next {
        Answer::Says(status, headers, body) => (status, headers, body),
        Answer::Echoes(status) => {
            let seen = (heard.header("authorization"), &heard.path, &heard.body);
            (status, vec![], format!("{} {} {}", seen.0, seen.1, seen.2))
        }
        Answer::Hangs => {
            let mut shared = lock(shared);
            shared.heard.push(heard);
            shared.held.push(stream);
            return Ok(());
        }
        Answer::Resets | Answer::TakesAndResets => {
            lock(shared).heard.push(heard);
            reset(&stream);
            return Ok(());
        }
    };
    lock(shared).heard.push(heard);
    let mut head = format!("HTTP/1.1 {status} Scripted\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = body.len();
    (&stream).write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes())
}

fn read(stream: &TcpStream, watch: Watch) -> std::io::Result<Heard> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Heard { method, path, headers, body, at: watch.elapsed() })
}
