//! A CA of a test, and the certificates of those who call.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use genesis_agent::pki::{InitRequest, IssueRequest, Issued, Pki, Reason, Role, Validity};
use tempfile::TempDir;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::clock::now;

/// A CA with a folder of its own.
pub struct Authority {
    folder: TempDir,
    pki: Pki,
}

impl Authority {
    /// A new CA of this fleet.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn new(fleet: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let request = InitRequest { fleet: fleet.into(), validity: Validity::Days(3_650) };
        let pki = Pki::init(&folder.path().join("pki"), &request, now()).expect("a CA");
        Self { folder, pki }
    }

    /// A certificate.
    ///
    /// # Panics
    /// When it can't be issued.
    pub fn issue(&self, name: &str, role: Role, validity: Validity) -> Issued {
        let hosts = match role {
            Role::Agent => vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            _ => Vec::new(),
        };
        let request = IssueRequest { name: name.into(), role, hosts, validity };
        self.pki.issue(&request, now()).expect("a certificate")
    }

    /// A client's certificate, good for a year.
    pub fn client(&self, role: Role) -> Issued {
        self.issue(&format!("{role}-1"), role, Validity::Days(365))
    }

    /// Revokes what was issued to this name; the agents learn it from [`Authority::revocation_list`].
    ///
    /// # Panics
    /// When there is nothing of that name.
    pub fn revoke(&self, name: &str) {
        self.pki.revoke(name, Reason::KeyCompromise, 30, now()).expect("it is revoked");
    }

    /// The CA's own folder.
    pub fn dir(&self) -> &Path {
        self.pki.dir()
    }

    /// The file of the newest revocation list.
    pub fn revocation_list(&self) -> PathBuf {
        self.pki.dir().join("crl.pem")
    }

    /// The CA's certificate.
    ///
    /// # Panics
    /// When it can't be read.
    pub fn ca(&self) -> String {
        std::fs::read_to_string(self.pki.dir().join("ca.pem")).expect("the CA's certificate")
    }

    /// Puts a new server certificate and its key where [`Authority::config`] names them: each by a rename.
    ///
    /// # Panics
    /// When they can't be written.
    pub fn put_server(&self) {
        let server = self.issue("host-1", Role::Agent, Validity::Days(90));
        self.put("server.key", &server.key_pem);
        self.put("server.pem", &server.certificate_pem);
    }

    /// Puts a file (0600) into the folder that [`Authority::config`] names.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn put(&self, name: &str, text: &str) {
        let (path, new) = (self.path(name), self.path(&format!("{name}.new")));
        std::fs::write(&new, text).expect("a file");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        std::fs::rename(&new, &path).expect("its name");
    }

    /// A file that [`Authority::config`] names.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What an agent of this fleet has in its configuration; issues its certificate.
    pub fn config(&self, fleet: &str) -> String {
        self.put_server();
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        format!(
            "[listen]\nhttp = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\n[fleet]\nname = {fleet:?}\n[tls]\n\
             certificate = {}\nkey = {}\nclient_ca = {}\nrevocation_list = {}\n",
            quoted(&self.path("server.pem")),
            quoted(&self.path("server.key")),
            quoted(&self.pki.dir().join("ca.pem")),
            quoted(&self.revocation_list()),
        )
    }

    /// What a foreign client trusts this CA's servers with, showing `identity` if there is one.
    pub fn tls(&self, identity: Option<&Issued>) -> ClientTlsConfig {
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.ca()));
        match identity {
            Some(issued) => {
                config.identity(Identity::from_pem(&issued.certificate_pem, &issued.key_pem))
            }
            None => config,
        }
    }
}
