//! Connections to other services: names, and what it means that there is no connection.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::aside::Aside;

/// Of what a name stands for, so many addresses are tried.
const ADDRESSES: usize = 8;
/// A name is looked up no longer than this.
const NAMES: Duration = Duration::from_secs(2);

/// Why a service did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It is there and refuses, or nobody is: the reason, in words.
    #[error("{0}")]
    Down(String),
    /// It was not asked, for a reason on this side that says nothing of the service; in words.
    #[error("{0}")]
    Unknown(String),
}

/// What an error of a connection means: the one that was found at the bottom of it.
pub fn failure_of(error: &(dyn Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(found) = cause {
        if let Some(failure) = found.downcast_ref::<Failure>() {
            return failure.clone();
        }
        if let Some(error) = found.downcast_ref::<io::Error>() {
            // An I/O error may only wrap what was found before.
            if let Some(inner) = error.get_ref().map(|inner| inner as &(dyn Error + 'static))
                && let Some(failure) = inner.downcast_ref::<Failure>()
            {
                return failure.clone();
            }
            if ours(error) {
                return Failure::Unknown(error.to_string());
            }
        }
        cause = found.source();
    }
    Failure::Down(chain(error))
}

/// Whether an error of connect(2) is about this process: too many open files, no memory, not allowed to.
fn ours(error: &io::Error) -> bool {
    use rustix::io::Errno;

    const OURS: [Errno; 7] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::ACCESS,
        Errno::PERM,
        Errno::ADDRNOTAVAIL,
    ];
    error.raw_os_error().is_some_and(|code| OURS.iter().any(|ours| ours.raw_os_error() == code))
}

/// An error and each of its causes on one line, what is said twice only once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = source.source();
    }
    text
}

/// Finds the addresses of names, on threads of its own: the C library's resolver can't be stopped, and waits long for
/// a name server that is gone.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    names: Arc<Aside<String, Result<Vec<IpAddr>, String>>>,
}

impl Resolver {
    /// The addresses of a host, at most eight; an address stands for itself.
    ///
    /// # Errors
    /// [`Failure::Unknown`] when the name has none, or that can't be told.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let name = host.to_owned();
        let look = move || {
            let found = (name.as_str(), 0).to_socket_addrs().map_err(|error| error.to_string())?;
            let mut addresses = Vec::new();
            for address in found.map(|found| found.ip()) {
                if addresses.len() < ADDRESSES && !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            if addresses.is_empty() { Err("no addresses".to_owned()) } else { Ok(addresses) }
        };
        // Less than a look has time: a name server that is gone must not make a service look as if it were down.
        let asked = tokio::time::timeout(NAMES, self.names.run(&host.to_owned(), look)).await;
        let found = match asked {
            Ok(found) => found.and_then(|found| found),
            Err(_) => Err(format!("no answer within {} s", NAMES.as_secs())),
        };
        found.map_err(|why| Failure::Unknown(format!("can't resolve {host:?}: {why}")))
    }

    /// A connection to a port of a host, at the first of its addresses that takes one.
    ///
    /// # Errors
    /// The name has no address, or why none of them took a connection.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Failure> {
        let (mut down, mut unknown) = (None, None);
        for address in self.addresses(host).await? {
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) if ours(&error) => unknown = Some(error.to_string()),
                Err(error) => down = Some(error.to_string()),
            }
        }
        // One address that tells something counts more than another one that this host has no use for.
        Err(match (down, unknown) {
            (Some(why), _) => Failure::Down(why),
            (None, why) => Failure::Unknown(why.unwrap_or_else(|| "no addresses".to_owned())),
        })
    }
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.addresses(name.as_str()).await?;
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn names_and_addresses_lead_to_a_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let resolver = Resolver::default();
        for host in ["127.0.0.1", "localhost"] {
            resolver.connect(host, port).await.unwrap();
        }
        let loopback: IpAddr = "::1".parse().unwrap();
        assert_eq!(resolver.addresses("[::1]").await, Ok(vec![loopback]));
        drop(listener);
        assert!(matches!(resolver.connect("127.0.0.1", port).await, Err(Failure::Down(_))));
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_unknown() {
        // No name has a part this long, so that nobody needs to be asked.
        let name = "x".repeat(64);
        let failure = Resolver::default().connect(&name, 1).await.unwrap_err();
        assert!(matches!(&failure, Failure::Unknown(why) if why.contains(&name)), "{failure:?}");
    }

    #[test]
    fn what_is_at_the_bottom_of_an_error_tells_what_it_means() {
        let os = |errno: rustix::io::Errno| io::Error::from(errno);
        assert!(matches!(failure_of(&os(rustix::io::Errno::CONNREFUSED)), Failure::Down(_)));
        assert!(matches!(failure_of(&os(rustix::io::Errno::MFILE)), Failure::Unknown(_)));
        let unknown = Failure::Unknown("x".into());
        assert_eq!(failure_of(&io::Error::other(unknown.clone())), unknown);
        assert_eq!(failure_of(&io::Error::other("bad")), Failure::Down("bad".into()));
    }
}
