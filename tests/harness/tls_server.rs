//! A stand-in for nginx: a server of TLS that keeps the certificate it has read until it is told to read it again, by a
//! hook as an operator configures one.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustls::crypto::ring;
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::clock::{LIMIT, wait_until};
use crate::http_script::reset;

/// What becomes of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The files are read, and served from then on. The hook fails when they are no use, and what was served still is.
    Works,
    /// The hook exits 0, and what was served still is.
    Ignored,
    /// The hook exits 1, and what was served still is.
    Fails,
    /// The hook never ends.
    Hangs,
}

struct Shared {
    config: Arc<ServerConfig>,
    /// What becomes of the next reloads, one after the other.
    next: VecDeque<Reload>,
    /// What becomes of the others.
    usual: Reload,
    reloads: usize,
    refused: usize,
    /// Hooks that wait for ever.
    held: Vec<TcpStream>,
}

/// The server, until it is dropped.
pub struct TlsServer {
    address: SocketAddr,
    control: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
}

impl TlsServer {
    /// One on a port of its own that serves the certificate in these files.
    ///
    /// # Panics
    /// When they are no use.
    pub fn start(fullchain: &Path, key: &Path) -> Self {
        let config = server_config(fullchain, key).expect("a certificate and its key");
        let shared = Arc::new(Mutex::new(Shared {
            config: Arc::new(config),
            next: VecDeque::new(),
            usual: Reload::Works,
            reloads: 0,
            refused: 0,
            held: Vec::new(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let serving = Arc::clone(&shared);
        let address = listen(&stop, move |stream| serve(stream, &serving));
        let (reloading, files) = (Arc::clone(&shared), (fullchain.to_owned(), key.to_owned()));
        let control = listen(&stop, move |stream| reload(stream, &reloading, &files));
        Self { address, control, shared, stop }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What makes it read its files again: a command that ends when the new certificate is served, and fails when they
    /// are no use. Nothing of the environment is needed.
    pub fn hook_command(&self) -> Vec<String> {
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{} && echo reload >&3 && read -r answer <&3 || exit 1; \
             [ \"$answer\" = ok ] || {{ echo \"$answer\" >&2; exit 1; }}",
            self.control.port()
        );
        ["/bin/bash", "-c", &script].map(str::to_owned).to_vec()
    }

    /// From now on reloads are said to have worked, and change nothing; or work again.
    pub fn ignore_reloads(&self, ignored: bool) {
        self.reloads_are(if ignored { Reload::Ignored } else { Reload::Works });
    }

    /// What becomes of reloads from now on.
    pub fn reloads_are(&self, reload: Reload) {
        let mut shared = lock(&self.shared);
        shared.next.clear();
        shared.usual = reload;
    }

    /// What becomes of so many reloads from now on; after them it is as before.
    pub fn next_reloads_are(&self, count: usize, reload: Reload) {
        lock(&self.shared).next.extend(std::iter::repeat_n(reload, count));
    }

    /// How many reloads were asked for.
    pub fn reloads(&self) -> usize {
        lock(&self.shared).reloads
    }

    /// Waits until so many reloads were asked for.
    ///
    /// # Panics
    /// When they are not.
    #[track_caller]
    pub fn wait_reloads(&self, count: usize) {
        wait_until(&format!("{count} reloads"), || self.reloads() >= count);
    }

    /// Resets the next connections, so many, before anything is said.
    pub fn refuse(&self, count: usize) {
        lock(&self.shared).refused = count;
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listeners, so that they see it.
        let _ = TcpStream::connect(self.address);
        let _ = TcpStream::connect(self.control);
    }
}

/// What serves the certificate in these files.
///
/// # Errors
/// When they don't fit each other, or can't be read.
pub(crate) fn server_config(fullchain: &Path, key: &Path) -> Result<ServerConfig, String> {
    let chain = CertificateDer::pem_file_iter(fullchain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{}: {error}", fullchain.display()))?;
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    builder.with_no_client_auth().with_single_cert(chain, key).map_err(|error| error.to_string())
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("never poisoned")
}

/// Hands each connection to a thread of its own.
fn listen(
    stop: &Arc<AtomicBool>,
    serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    let address = listener.local_addr().expect("a bound port");
    let (stop, serve) = (Arc::clone(stop), Arc::new(serve));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let serve = Arc::clone(&serve);
            // Whoever leaves in the middle is no trouble of the server's.
            std::thread::spawn(move || drop(serve(stream)));
        }
    });
    address
}

/// Answers each request with "ok", as long as the connection is kept: what was begun with one certificate goes on after
/// a reload.
fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) -> io::Result<()> {
    let config = {
        let mut shared = lock(shared);
        if shared.refused > 0 {
            shared.refused -= 1;
            reset(&stream);
            return Ok(());
        }
        Arc::clone(&shared.config)
    };
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut both = BufReader::new(rustls::Stream::new(&mut tls, &mut stream));
    let mut line = String::new();
    while both.read_line(&mut line)? > 0 {
        if line.trim().is_empty() {
            both.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            both.get_mut().flush()?;
        }
        line.clear();
    }
    Ok(())
}

/// One reload, as the hook asks for it: when it has its answer, what it is told holds.
fn reload(stream: TcpStream, shared: &Mutex<Shared>, files: &(PathBuf, PathBuf)) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut asked = String::new();
    BufReader::new((&stream).take(64)).read_line(&mut asked)?;
    if asked.trim() != "reload" {
        return Ok(());
    }
    let mut shared = lock(shared);
    shared.reloads += 1;
    let becomes = shared.next.pop_front().unwrap_or(shared.usual);
    let answer = match becomes {
        Reload::Works => match server_config(&files.0, &files.1) {
            Ok(config) => {
                shared.config = Arc::new(config);
                "ok".to_owned()
            }
            Err(why) => why,
        },
        Reload::Ignored => "ok".to_owned(),
        Reload::Fails => "the configuration test failed".to_owned(),
        Reload::Hangs => {
            shared.held.push(stream);
            return Ok(());
        }
    };
    drop(shared);
    (&stream).write_all(format!("{answer}\n").as_bytes())
}
