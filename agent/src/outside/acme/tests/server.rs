//! Servers, each on ports of its own and gone with the test.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::super::{Authority, ExternalAccount};

/// An address that nobody listens at.
pub(super) fn free() -> SocketAddr {
    ([127, 0, 0, 1], crate::outside::ports::free_port()).into()
}

/// A process that is killed when it is dropped.
pub(super) struct Server(Child);

impl Server {
    /// Starts it, and waits until it listens.
    pub(super) fn start(command: &mut Command, listens: SocketAddr) -> Self {
        let program = command.get_program().to_owned();
        let child = command.stderr(Stdio::null()).spawn();
        let mut server = Self(child.unwrap_or_else(|error| panic!("{program:?}: {error}")));
        while TcpStream::connect(listens).is_err() {
            assert!(server.0.try_wait().unwrap().is_none(), "{program:?} has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A CA of pebble's.
pub(super) struct Pebble {
    pub(super) folder: TempDir,
    /// Where it looks for http-01.
    pub(super) http: SocketAddr,
    /// Where it looks for tls-alpn-01.
    pub(super) tls: SocketAddr,
    /// Where records are set, over HTTP.
    pub(super) management: SocketAddr,
    listens: SocketAddr,
    pub(super) pebble: Option<Server>,
    _names: Server,
}

/// A key of an external account that pebble knows as "kid-1".
pub(super) const EXTERNAL: &str =
    "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

impl Pebble {
    pub(super) fn start(variables: &[(&str, &str)]) -> Self {
        let names = free();
        Self::with(variables, false, names)
    }

    /// One that looks names up at `names`, which is its own name server if nobody listens there yet.
    pub(super) fn with(variables: &[(&str, &str)], external: bool, names: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certify(&folder);
        let (http, tls, listens, management) = (free(), free(), free(), free());
        let own = if TcpStream::connect(names).is_ok() { free() } else { names };
        let config = serde_json::json!({ "pebble": {
            "listenAddress": listens.to_string(),
            "managementListenAddress": free().to_string(),
            "certificate": folder.path().join("cert.pem"),
            "privateKey": folder.path().join("key.pem"),
            "httpPort": http.port(),
            "tlsPort": tls.port(),
            "externalAccountBindingRequired": external,
            "externalAccountMACKeys": { "kid-1": EXTERNAL },
        }});
        std::fs::write(folder.path().join("pebble.json"), config.to_string()).unwrap();
        let mut server = Command::new("pebble-challtestsrv");
        server.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        server.args(["-dns01", &own.to_string(), "-management", &management.to_string()]);
        let own = Server::start(server.stdout(Stdio::null()), own);
        let mut command = Command::new("pebble");
        command.arg("-config").arg(folder.path().join("pebble.json"));
        command.args(["-dnsserver", &names.to_string()]);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        command.env("PEBBLE_AUTHZREUSE", "0").envs(variables.iter().copied());
        let log = std::fs::File::create(folder.path().join("pebble.log")).unwrap();
        let pebble = Some(Server::start(command.stdout(log), listens));
        Self { folder, http, tls, management, listens, pebble, _names: own }
    }

    pub(super) fn ca(&self) -> Authority {
        Authority {
            name: "pebble".into(),
            directory: format!("https://{}/dir", self.listens),
            contact: vec!["mailto:ops@example.com".into()],
            external: None,
            roots_file: Some(self.folder.path().join("ca.pem")),
            accounts: self.accounts(),
        }
    }

    pub(super) fn accounts(&self) -> PathBuf {
        self.folder.path().join("state").join("accounts")
    }

    /// The account of a key, whose file it writes.
    pub(super) fn external(&self, key: &str) -> ExternalAccount {
        let key_file = self.folder.path().join("hmac");
        secret(&key_file, key);
        ExternalAccount { key_id: "kid-1".into(), key_file }
    }
}

/// Writes a file for its owner alone.
pub(super) fn secret(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// An authority, and a certificate by it for this host.
pub(super) fn certify(folder: &TempDir) {
    certify_for(folder, (2020, 4_000));
}

/// The same, from the beginning of one year to that of another.
pub(super) fn certify_for(folder: &TempDir, (from, until): (i32, i32)) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 1, 1));
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
    std::fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
}
