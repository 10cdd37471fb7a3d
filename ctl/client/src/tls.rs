//! What secures connections over TCP: who the agents are, and who calls.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::{Error, Node};

/// The TLS side of a connection: the CA that the servers' certificates must come from, and the client's own
/// certificate. It is made once and shared by all connections: a clone is one reference more.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    /// TLS from texts in PEM form: the certificates of one or several CAs, and the client's certificate (its
    /// chain after it) with its key. Without the two the agent may refuse the connection.
    ///
    /// # Errors
    /// `Invalid` with `CONTEXT_PEM_INVALID` for what holds no certificate or key, and with
    /// `CONTEXT_KEY_MISMATCH` for a key that is not the certificate's.
    pub fn new(ca: &[u8], identity: Option<(&[u8], &[u8])>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca", ca)? {
            roots.add(certificate).map_err(|error| bad_pem("ca", &error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| bad_pem("tls", &error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((certificate, key)) => {
                let chain = certificates("certificate", certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| bad_pem("key", &error.to_string()))?;
                builder.with_client_auth_cert(chain, key).map_err(bad_identity)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session is not judged by today's certificates and revocations.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name: None })
    }

    /// The same, but every server must show a certificate for `name` instead of for its node's host.
    ///
    /// # Errors
    /// `Invalid` with `CONTEXT_INVALID` for what is neither a DNS name nor an address.
    pub fn with_server_name(self, name: &str) -> Result<Self, Error> {
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
            Error::invalid(
                "CONTEXT_INVALID",
                format!("the server name {name:?} is neither a DNS name nor an address"),
                "write it as the servers' certificates have it",
            )
        })?;
        Ok(Self { server_name: Some(server_name), ..self })
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// The name that the server at `host` must prove to have.
    pub(crate) fn server_name(
        &self,
        node: &Node,
        host: &str,
    ) -> Result<ServerName<'static>, Error> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(host.to_owned()).map_err(|_| {
                Error::invalid(
                    "NODE_INVALID",
                    format!("the host of {node} is no name that a certificate can have"),
                    "name the node by a DNS name or an address, or set `server_name` in the context",
                )
            }),
        }
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.server_name == other.server_name
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration holds the key.
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(bad_pem(what, "there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(bad_pem(what, &error.to_string())),
    }
}

fn bad_pem(what: &str, why: &str) -> Error {
    Error::invalid(
        "CONTEXT_PEM_INVALID",
        format!("`{what}` can't be used: {why}"),
        "give PEM text: -----BEGIN CERTIFICATE----- or -----BEGIN PRIVATE KEY-----",
    )
}

fn bad_identity(error: rustls::Error) -> Error {
    match error {
        rustls::Error::InconsistentKeys(_) => Error::invalid(
            "CONTEXT_KEY_MISMATCH",
            "the key does not belong to the certificate".to_owned(),
            "give the two that were issued together",
        ),
        other => bad_pem("certificate` or `key", &other.to_string()),
    }
}
