//! What the domain name system says of a name, for a diagnosis: it is asked directly, so that neither the host's own file
//! of names nor a cache answers in its place.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};

/// One question may take so long, all its attempts together.
const QUESTION: Duration = Duration::from_secs(4);

/// Who may issue for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The name whose records say so: the name itself, or one above it.
    pub at: String,
    /// The CAs, as they name themselves; for a wildcard those of `issuewild`, where there are any.
    pub issuers: Vec<String>,
}

/// Asks name servers.
pub struct Names(TokioResolver);

impl Names {
    /// Asks these servers; without any, those of the host.
    ///
    /// # Errors
    /// In words, where the host's can't be found out.
    pub fn asking(servers: &[SocketAddr]) -> Result<Self, String> {
        let builder = match servers.is_empty() {
            true => Resolver::builder_tokio().map_err(|error| error.to_string())?,
            false => {
                let each = servers.iter().map(|server| {
                    let at = |mut connection: ConnectionConfig| {
                        connection.port = server.port();
                        connection
                    };
                    let connections =
                        vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
                    NameServerConfig::new(server.ip(), true, connections)
                });
                let config = ResolverConfig::from_name_servers(each.collect());
                Resolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let mut builder = builder;
        let options = builder.options_mut();
        options.timeout = QUESTION / 2;
        options.attempts = 1;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        builder.build().map(Self).map_err(|error| error.to_string())
    }

    async fn ask(&self, name: &str, sort: RecordType) -> Result<Vec<RData>, String> {
        // With its dot: no search list is gone through.
        let asked = self.0.lookup(format!("{}.", name.trim_end_matches('.')), sort);
        match tokio::time::timeout(QUESTION, asked).await {
            Err(_) => Err(format!("no answer about {name} within {} s", QUESTION.as_secs())),
            Ok(Ok(found)) => Ok(found.answers().iter().map(|record| record.data.clone()).collect()),
            Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => Ok(Vec::new()),
            Ok(Err(error)) => Err(format!("{name}: {error}")),
        }
    }

    /// The addresses of a name.
    ///
    /// # Errors
    /// In words, where they can't be had; that there are none is an empty list.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let (four, six) =
            tokio::join!(self.ask(name, RecordType::A), self.ask(name, RecordType::AAAA));
        let found = four?.into_iter().chain(six?).filter_map(|data| match data {
            RData::A(address) => Some(IpAddr::from(address.0)),
            RData::AAAA(address) => Some(IpAddr::from(address.0)),
            _ => None,
        });
        Ok(found.collect())
    }

    /// The values of the text records of a name.
    ///
    /// # Errors
    /// In words, where they can't be had.
    pub async fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let found =
            self.ask(name, RecordType::TXT).await?.into_iter().filter_map(|data| match data {
                RData::TXT(text) => {
                    let parts = text.txt_data.iter().map(|part| String::from_utf8_lossy(part));
                    Some(parts.collect::<String>())
                }
                _ => None,
            });
        Ok(found.collect())
    }

    /// Which CAs may issue for a name (RFC 8659): the records of the name, or of the nearest one above it that has any, up to
    /// its top-level domain; `None` where nobody says anything, so that all may.
    ///
    /// # Errors
    /// In words, where it can't be had: a CA refuses then.
    pub async fn allowed(&self, name: &str, wildcard: bool) -> Result<Option<Allowed>, String> {
        let mut at = name.trim_end_matches('.');
        loop {
            let records = self.ask(at, RecordType::CAA).await?;
            let (mut issue, mut wild, mut any) = (Vec::new(), Vec::new(), false);
            for data in records {
                let RData::CAA(record) = data else { continue };
                any = true;
                let issuer = || {
                    let (name, _) = record.value_as_issue().ok()?;
                    Some(name.map(|name| name.to_ascii().trim_end_matches('.').to_lowercase()))
                };
                match record.tag.to_ascii_lowercase().as_str() {
                    "issue" => issue.extend(issuer()),
                    "issuewild" => wild.extend(issuer()),
                    _ => {}
                }
            }
            if any {
                let which = if wildcard && !wild.is_empty() { wild } else { issue };
                // What has records of other kinds only restricts nobody.
                return Ok((!which.is_empty()).then(|| Allowed {
                    at: at.to_owned(),
                    issuers: which.into_iter().flatten().collect(),
                }));
            }
            match at.split_once('.') {
                Some((_, above)) if !above.is_empty() => at = above,
                _ => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server that has a CAA record at this name alone.
    async fn server(at: &'static str) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut packet = [0; 1_024];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let query = &packet[..length];
                let (mut end, mut labels) = (12, Vec::new());
                while query[end] != 0 {
                    let label = &query[end + 1..=end + usize::from(query[end])];
                    labels.push(String::from_utf8_lossy(label).to_lowercase());
                    end += label.len() + 1;
                }
                let found = labels.join(".") == at;
                let mut answer = query[..2].to_vec();
                answer.extend([0x81, 0x80, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
                answer.extend(&query[12..end + 5]);
                if found {
                    // The name of the question, CAA, IN, a minute, 17 bytes.
                    answer.extend([0xc0, 12, 1, 1, 0, 1, 0, 0, 0, 60, 0, 17, 0, 5]);
                    answer.extend(b"issueca.example");
                }
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn whoever_may_issue_is_looked_for_up_to_the_top_level_domain() {
        for (at, name, expected) in [
            ("gw.fund.test", "gw.fund.test", Some("gw.fund.test")),
            ("fund.test", "gw.fund.test", Some("fund.test")),
            ("test", "gw.fund.test", Some("test")),
            ("test", "fund.test.", Some("test")),
            ("other.test", "gw.fund.test", None),
            ("", "gw.fund.test", None),
        ] {
            let names = Names::asking(&[server(at).await]).unwrap();
            let allowed = names.allowed(name, false).await.unwrap();
            let found = allowed.as_ref().map(|it| (it.at.as_str(), it.issuers.join(", ")));
            assert_eq!(found, expected.map(|at| (at, "ca.example".to_owned())), "{at} {name}");
        }
    }
}
