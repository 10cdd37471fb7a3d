//! From arguments to a venue that listens, until a signal.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use super::args::PaperArgs;
use super::faults::Faults;
use super::keep::Keep;
use super::rpc;
use super::venue::PaperVenue;
use crate::error::{Error, Result};
use crate::outside::Clock;

/// The longest path of a socket that the system takes.
const SOCKET_PATH: usize = 107;

/// Where it listens.
#[derive(Debug)]
enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// A place that it listens at.
#[derive(Debug)]
pub(super) enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// A port of this host.
    Tcp(TcpListener),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// `PAPER_LISTEN_INVALID`, `PAPER_BOOK_INVALID`, `PAPER_FAULTS_INVALID`, `PAPER_FILE_FAILED`, `PAPER_BUSY`,
/// `LISTEN_FAILED`, `RUNTIME_FAILED`.
pub fn run(args: &PaperArgs, clock: Arc<dyn Clock>) -> Result<()> {
    let place = place(&args.listen)?;
    // The book and the socket are for who runs it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut faults = Faults::new(args.faults.as_deref());
    faults.refresh().map_err(|why| Error::invalid("PAPER_FAULTS_INVALID", why))?;
    let kept = Keep::open(&args.file, args.book.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| unavailable("RUNTIME_FAILED", "can't start the runtime", error))?;
    let venue = PaperVenue::new(kept, faults, clock);
    let outcome = runtime.block_on(until_signal(place, venue));
    // Calls that hang on purpose do not keep it.
    runtime.shutdown_background();
    outcome
}

fn unavailable(code: &'static str, what: &str, error: io::Error) -> Error {
    Error::unavailable(code, what).caused_by(error)
}

async fn until_signal(place: Place, venue: Arc<PaperVenue>) -> Result<()> {
    let signals = |kind| {
        signal(kind)
            .map_err(|error| unavailable("RUNTIME_FAILED", "can't listen for signals", error))
    };
    let (mut term, mut interrupt) =
        (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    let (listener, shown) = listen(&place).await?;
    // Whoever started it and does not read it has left; that is no error.
    let _ = writeln!(io::stdout(), "{shown}");
    let outcome = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        outcome = rpc::serve(listener, venue) => {
            outcome.map_err(|why| Error::unavailable("LISTEN_FAILED", format!("{shown}: {why}")))
        }
    };
    if let Place::Unix(path) = &place {
        let _ = std::fs::remove_file(path);
    }
    outcome
}

fn place(listen: &str) -> Result<Place> {
    let invalid = |why: &str| {
        let message = format!("--listen {listen}: {why}; it is 127.0.0.1:PORT or unix:/path");
        Error::invalid("PAPER_LISTEN_INVALID", message)
    };
    if let Some(path) = listen.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return match path.starts_with('/') {
            true if path.len() <= SOCKET_PATH => Ok(Place::Unix(path.into())),
            true => Err(invalid("the socket's path has over 107 bytes")),
            false => Err(invalid("the socket's path is not absolute")),
        };
    }
    match listen.parse::<SocketAddr>() {
        // It asks nobody who they are.
        Ok(address) if !address.ip().is_loopback() => {
            Err(invalid("the address is not of this host alone"))
        }
        Ok(address) => Ok(Place::Tcp(address)),
        Err(_) => Err(invalid("that is no address")),
    }
}

/// Listens, and what it is reached by.
async fn listen(place: &Place) -> Result<(Listener, String)> {
    match place {
        Place::Unix(path) => {
            let shown = format!("unix:{}", path.display());
            let bound = bind(path);
            let listener = bound.map_err(|error| {
                unavailable("LISTEN_FAILED", &format!("can't listen on {shown}"), error)
            })?;
            Ok((Listener::Unix(listener), shown))
        }
        Place::Tcp(address) => {
            let failed =
                |error| unavailable("LISTEN_FAILED", &format!("can't listen on {address}"), error);
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            Ok((Listener::Tcp(listener), format!("http://{bound}")))
        }
    }
}

/// Binds a socket; one that nobody listens on any more makes way.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("something else has that name"));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::other("another program listens there")),
            Err(_) => std::fs::remove_file(path)?,
        },
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    UnixListener::bind(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_on_this_host_alone() {
        for listen in ["127.0.0.1:0", "[::1]:7500", "unix:/tmp/p.sock", "unix:///tmp/p.sock"] {
            place(listen).unwrap();
        }
        let long = format!("unix:/{}", "x".repeat(SOCKET_PATH));
        for (listen, why) in [
            ("0.0.0.0:7500", "not of this host"),
            ("localhost", "no address"),
            ("", "no address"),
            ("unix:p.sock", "not absolute"),
            (long.as_str(), "107 bytes"),
        ] {
            let error = place(listen).unwrap_err();
            assert_eq!(error.code, "PAPER_LISTEN_INVALID");
            assert!(error.message.contains(why), "{listen}: {}", error.message);
        }
    }
}
