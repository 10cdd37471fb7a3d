//! A host whose agent manages certificates, with a real CA and a server that serves them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::TestAgent;
use crate::acme::{Bind9, FaultProxy, Pebble};
use crate::clock::wait_for;
use crate::private_ca::PrivateCa;
use crate::tls_server::TlsServer;

/// `[[certificates.acme]]` of a CA.
pub fn ca(name: &str, directory: &str, roots: &Path, issuer_roots: &Path, more: &str) -> String {
    format!(
        "[[certificates.acme]]\nname = {name:?}\ndirectory = {directory:?}\nterms_agreed = true\nroots_file = {:?}\n\
         issuer_roots_file = {:?}\n{more}\n",
        roots.display().to_string(),
        issuer_roots.display().to_string()
    )
}

/// Pebble as a CA named "pebble".
pub fn pebble(pebble: &Pebble, more: &str) -> String {
    ca("pebble", &pebble.directory(), pebble.roots_file(), pebble.issuer_roots_file(), more)
}

/// Pebble behind the proxy as a CA named "pebble".
pub fn proxied(pebble: &Pebble, proxy: &FaultProxy, more: &str) -> String {
    ca("pebble", &proxy.directory(), proxy.roots_file(), pebble.issuer_roots_file(), more)
}

/// `[[certificates.certificate]]` that answers http-01 on the port where Pebble asks.
pub fn certificate(pebble: &Pebble, name: &str, domains: &[&str], more: &str) -> String {
    let listen = format!("127.0.0.1:{}", pebble.http_port());
    format!(
        "[[certificates.certificate]]\nname = {name:?}\ndomains = {domains:?}\nlisten = {listen:?}\n{more}\n"
    )
}

/// What a `[[certificates.certificate]]` says that answers dns-01 by signed updates of this name server.
pub fn by_updates(bind: &Bind9) -> String {
    format!(
        "challenge = \"dns-01\"\ndns_server = {:?}\ndns_key_name = {:?}\ndns_key_file = {:?}\n",
        bind.server().to_string(),
        bind.key_name(),
        bind.key_file()
    )
}

/// Where a service of the test finds its copies.
pub struct Served {
    /// The chain.
    pub fullchain: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Served {
    /// Copies in a folder, which a service has had before the agent came.
    pub fn in_folder(folder: &Path, domains: &[&str]) -> Self {
        let served = Self { fullchain: folder.join("served.pem"), key: folder.join("served.key") };
        let ca = PrivateCa::new();
        let before = ca.issue("before", domains);
        std::fs::copy(before.fullchain, &served.fullchain).expect("a chain");
        std::fs::copy(before.key, &served.key).expect("a key");
        served
    }

    /// A server that serves them.
    pub fn server(&self) -> TlsServer {
        TlsServer::start(&self.fullchain, &self.key)
    }

    /// What a `[[certificates.certificate]]` says to deploy there, to have `server` take it, and to look at it.
    pub fn deployed_to(&self, server: Option<&TlsServer>) -> String {
        let hook = match server {
            None => String::new(),
            Some(server) => format!(
                "hook = {{ command = {:?}, timeout = \"10s\" }}\nprobe = {:?}\n",
                server.hook_command(),
                server.address().to_string()
            ),
        };
        format!(
            "{hook}[[certificates.certificate.deploy]]\ncontent = \"fullchain\"\npath = {:?}\nmode = \"0644\"\n\
             [[certificates.certificate.deploy]]\ncontent = \"key\"\npath = {:?}\n",
            self.fullchain.display().to_string(),
            self.key.display().to_string()
        )
    }
}

impl TestAgent {
    /// How a certificate stands.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn certificate(&self, name: &str) -> Value {
        let listed = self.ctl(&["cert", "list", "--domain", name, "-o", "json"]).response();
        listed["certificates"][0].clone()
    }

    /// Waits until a certificate is in this state, such as "PROVEN", and nothing is being done about it; how it stands then.
    ///
    /// # Panics
    /// When it does not get there in time.
    pub fn wait_certificate(&self, name: &str, state: &str) -> Value {
        wait_for(&format!("{name} to be {state}"), || {
            let found = self.certificate(name);
            let idle = found["runId"].as_str().unwrap_or_default().is_empty();
            (idle && found["state"] == format!("CERTIFICATE_STATE_{state}")).then_some(found)
        })
    }

    /// The folder of a certificate.
    pub fn certificate_folder(&self, name: &str) -> PathBuf {
        self.state().join("certs").join(name)
    }

    /// What happened to a certificate, the oldest first, as its kinds.
    pub fn certificate_events(&self, name: &str) -> Vec<String> {
        let history = self
            .ctl(&["cert", "history", "--domain", name, "--limit", "1000", "-o", "json"])
            .response();
        let events = history["events"].as_array().cloned().unwrap_or_default();
        let kinds =
            events.iter().rev().map(|event| event["kind"].as_str().unwrap_or("").to_owned());
        kinds.collect()
    }
}
