//! What an etcd is like.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::netns::Namespace;
use crate::private_ca::{Leaf, PrivateCa};

/// What to change before it is started; as it is, it takes everybody, on loopback.
#[derive(Debug, Clone, Default)]
pub struct EtcdOptions {
    /// How large its data may become; 2 GB unless this is set.
    pub quota_bytes: Option<u64>,
    /// It shows a certificate and demands one of its clients: see [`Etcd::tls`](super::Etcd::tls).
    pub tls: bool,
    /// Clients log in with this name and password. Unless the name is `root`, who has the same password, they may
    /// see and change only what is below `/genesis/`.
    pub auth: Option<(String, String)>,
    /// Where it runs. Of a cluster, see [`EtcdCluster::across`](super::EtcdCluster::across).
    pub namespace: Option<Namespace>,
}

impl EtcdOptions {
    /// With a limit to how large its data may become.
    #[must_use]
    pub fn quota(mut self, bytes: u64) -> Self {
        self.quota_bytes = Some(bytes);
        self
    }

    /// With certificates on both sides.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// With logins.
    #[must_use]
    pub fn auth(mut self, user: &str, password: &str) -> Self {
        self.auth = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// In a network namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &Namespace) -> Self {
        self.namespace = Some(namespace.clone());
        self
    }
}

/// The files (PEM) that a client needs. They stay as long as their etcd.
#[derive(Debug, Clone)]
pub struct EtcdTls {
    /// The CA of the server, and of its clients.
    pub ca: PathBuf,
    /// A client's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    pub(super) server: Leaf,
}

impl EtcdTls {
    pub(super) fn issue(host: &str) -> (PrivateCa, Self) {
        let ca = PrivateCa::new();
        let server = ca.issue("etcd", &[host, "localhost"]);
        // Where logins are on, a client's name would be that of a user.
        let client = ca.issue_to_client("genesis-test-client");
        let (certificate, key) = (client.fullchain, client.key);
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&key, private).expect("ours");
        let tls = Self { ca: ca.roots_file().to_owned(), certificate, key, server };
        (ca, tls)
    }
}
