//! The name server that comes with Pebble (`pebble-challtestsrv`): it answers what a test tells it to.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::http::post;
use crate::ports::free_port;

/// The name server, until it is dropped. Every name is 127.0.0.1, and has no IPv6, unless a test says otherwise.
pub struct Challtestsrv {
    _daemon: Daemon,
    _folder: TempDir,
    dns: SocketAddr,
    management: SocketAddr,
}

impl Challtestsrv {
    /// Starts one on ports of its own. It answers no challenges itself, unless it is given the port for http-01.
    ///
    /// # Panics
    /// When it is missing (`tests/run` installs it), or does not start.
    pub fn start(http_port: Option<u16>) -> Self {
        let folder = tempfile::Builder::new().prefix("genesis-dns-").tempdir().expect("a folder");
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (dns, management) = (at(free_port()), at(free_port()));
        let http = http_port.map_or(String::new(), |port| at(port).to_string());
        let mut command = Command::new("/usr/bin/pebble-challtestsrv");
        command.env_clear().args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        command.args(["-https01", "", "-tlsalpn01", "", "-http01", &http]);
        command.args(["-dns01", &dns.to_string(), "-management", &management.to_string()]);
        let mut daemon = Daemon::spawn(&mut command, &folder.path().join("log"));
        let mut wanted = vec![dns, management];
        wanted.extend(http_port.map(at));
        let ready = daemon.wait_ready("pebble-challtestsrv", || {
            wanted.iter().all(|address| TcpStream::connect(address).is_ok())
        });
        // It goes on without those of its ports that somebody else has.
        assert!(ready && !daemon.log().contains("already in use"), "{}", daemon.log());
        Self { _daemon: daemon, _folder: folder, dns, management }
    }

    /// Where it answers questions about names, by UDP and TCP.
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// Where it is told what to answer, by HTTP.
    pub fn management(&self) -> SocketAddr {
        self.management
    }

    /// The address (A, or AAAA) of a name, in place of what it had.
    pub fn set_a(&self, host: &str, ip: IpAddr) {
        let kind = if ip.is_ipv4() { "a" } else { "aaaa" };
        self.tell(&format!("clear-{kind}"), &json!({"host": fqdn(host)}));
        let record = json!({"host": fqdn(host), "addresses": [ip.to_string()]});
        self.tell(&format!("add-{kind}"), &record);
    }

    /// The CAA records of a name, such as `("issue", "letsencrypt.org")`, in place of what it had.
    pub fn set_caa(&self, host: &str, policies: &[(&str, &str)]) {
        self.tell("clear-caa", &json!({"host": fqdn(host)}));
        if policies.is_empty() {
            return;
        }
        let policy = |(tag, value): &(&str, &str)| json!({"tag": tag, "value": value});
        let policies: Vec<_> = policies.iter().map(policy).collect();
        self.tell("add-caa", &json!({"host": fqdn(host), "policies": policies}));
    }

    /// Every question about a name is answered by SERVFAIL.
    pub fn set_servfail(&self, host: &str) {
        self.tell("set-servfail", &json!({"host": fqdn(host)}));
    }

    /// A name is answered again.
    pub fn clear_servfail(&self, host: &str) {
        self.tell("clear-servfail", &json!({"host": fqdn(host)}));
    }

    /// One more TXT record of a name.
    pub fn set_txt(&self, name: &str, value: &str) {
        self.tell("set-txt", &json!({"host": fqdn(name), "value": value}));
    }

    /// A name has no TXT record any more.
    pub fn clear_txt(&self, name: &str) {
        self.tell("clear-txt", &json!({"host": fqdn(name)}));
    }

    /// The answer to an http-01 challenge, if it was started for these.
    pub fn set_http01(&self, token: &str, key_authorization: &str) {
        self.tell("add-http01", &json!({"token": token, "content": key_authorization}));
    }

    #[track_caller]
    fn tell(&self, what: &str, body: &Value) {
        let (status, answer) = post(self.management, &format!("/{what}"), &body.to_string());
        assert_eq!(status, 200, "{what} {body}: {answer}");
    }
}

/// A name with its dot at the end; without it no question would be the same.
pub(super) fn fqdn(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}
