//! A client that only wants to see which certificate is served, once or all the time.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

use crate::clock::{LIMIT, wait_until};

/// The SHA-256 of a certificate, in hex.
pub fn fingerprint(der: &[u8]) -> String {
    hex::encode(Sha256::digest(der))
}

/// The certificates of a PEM file, in their order, each in DER.
///
/// # Panics
/// When there are none.
pub fn certificates(pem: &Path) -> Vec<Vec<u8>> {
    let all = CertificateDer::pem_file_iter(pem).expect("a file with certificates");
    let all: Vec<_> = all.map(|one| one.expect("a certificate").to_vec()).collect();
    assert!(!all.is_empty(), "{} has no certificate", pem.display());
    all
}

/// One full handshake; the server's own certificate in DER. Without `roots` any certificate will do.
///
/// # Panics
/// When there is no handshake.
#[track_caller]
pub fn handshake(address: SocketAddr, name: &str, roots: Option<&Path>) -> Vec<u8> {
    let client = TlsClient::new(address, name);
    let client = roots.map_or(client.clone(), |roots| client.trusting(roots));
    client.handshake().unwrap_or_else(|why| panic!("no handshake with {name} at {address}: {why}"))
}

/// Whom to call, and how.
#[derive(Debug, Clone)]
pub struct TlsClient {
    address: SocketAddr,
    name: String,
    roots: Option<PathBuf>,
    identity: Option<(String, String)>,
    asks: Option<&'static str>,
}

impl TlsClient {
    /// A client of this server that asks for `name` and is content with any certificate.
    pub fn new(address: SocketAddr, name: &str) -> Self {
        Self { address, name: name.into(), roots: None, identity: None, asks: None }
    }

    /// It wants a certificate for that name, from one of the roots in this PEM file.
    #[must_use]
    pub fn trusting(mut self, roots: &Path) -> Self {
        self.roots = Some(roots.into());
        self
    }

    /// It shows this certificate (PEM), and has its key (PEM).
    #[must_use]
    pub fn showing(mut self, certificate: &str, key: &str) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// It says this after the handshake, and wants at least a byte in return. In TLS 1.3 a client whose certificate is
    /// refused learns it only then.
    #[must_use]
    pub fn asking(mut self, request: &'static str) -> Self {
        self.asks = Some(request);
        self
    }

    /// One full handshake; the server's own certificate in DER, or why there was none.
    ///
    /// # Errors
    /// With what went wrong.
    ///
    /// # Panics
    /// When the files or the identity are no use.
    pub fn handshake(&self) -> Result<Vec<u8>, String> {
        self.handshake_by(&Arc::new(self.config()))
    }

    /// Does full handshakes in so many threads until it is told to stop.
    pub fn hammer(&self, threads: usize) -> Hammer {
        let config = Arc::new(self.config());
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let one = || {
            let (client, config) = (self.clone(), Arc::clone(&config));
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let got = client.handshake_by(&config);
                    let mut seen: std::sync::MutexGuard<'_, Hammered> = lock(&seen);
                    match got {
                        Ok(leaf) => {
                            seen.handshakes += 1;
                            seen.leaves.insert(fingerprint(&leaf));
                        }
                        Err(why) => seen.failures.push(why),
                    }
                }
            })
        };
        let threads = (0..threads).map(|_| one()).collect();
        Hammer { threads, stop, seen }
    }

    fn config(&self) -> ClientConfig {
        client_config(self.roots.as_deref(), self.identity.as_ref())
    }

    fn handshake_by(&self, config: &Arc<ClientConfig>) -> Result<Vec<u8>, String> {
        let name = ServerName::try_from(self.name.clone()).map_err(|error| error.to_string())?;
        let mut tls =
            ClientConnection::new(Arc::clone(config), name).map_err(|error| error.to_string())?;
        self.talk(&mut tls).map_err(|error| error.to_string())?;
        let leaf = tls.peer_certificates().and_then(<[_]>::first);
        leaf.map(|leaf| leaf.to_vec()).ok_or_else(|| "the server showed no certificate".into())
    }

    fn talk(&self, tls: &mut ClientConnection) -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        let mut both = rustls::Stream::new(tls, &mut stream);
        if let Some(request) = self.asks {
            both.write_all(request.as_bytes())?;
            both.read_exact(&mut [0])?;
        }
        both.conn.send_close_notify();
        // The server may have closed it already.
        let _ = both.flush();
        Ok(())
    }
}

/// What a hammer has seen.
#[derive(Debug, Clone, Default)]
pub struct Hammered {
    /// How many handshakes went well.
    pub handshakes: usize,
    /// The fingerprints of the certificates that were served.
    pub leaves: BTreeSet<String>,
    /// What went wrong with the others.
    pub failures: Vec<String>,
}

/// Handshakes without end, until it is stopped or dropped.
pub struct Hammer {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Hammered>>,
}

impl Hammer {
    /// What it has seen so far.
    pub fn seen(&self) -> Hammered {
        lock(&self.seen).clone()
    }

    /// Waits until so many more handshakes went well.
    ///
    /// # Panics
    /// When they don't.
    #[track_caller]
    pub fn wait_more(&self, count: usize) {
        let wanted = self.seen().handshakes + count;
        wait_until("more handshakes", || self.seen().handshakes >= wanted);
    }

    /// Waits until this certificate was served.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn wait_leaf(&self, fingerprint: &str) {
        wait_until("a certificate to be served", || self.seen().leaves.contains(fingerprint));
    }

    /// Stops; what it has seen.
    ///
    /// # Panics
    /// When one of its threads did.
    pub fn stop(mut self) -> Hammered {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("it only counts");
        }
        self.seen()
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().expect("never poisoned")
}

/// A client of TLS that resumes nothing, since a resumed session shows no certificate.
pub(crate) fn client_config(
    roots: Option<&Path>,
    identity: Option<&(String, String)>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has what they need");
    let builder = match roots {
        Some(file) => {
            let mut store = RootCertStore::empty();
            for der in certificates(file) {
                store.add(der.into()).expect("a root");
            }
            builder.with_root_certificates(store)
        }
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone::default())),
    };
    let mut config = match identity {
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
            let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("its own key")
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct Anyone(CryptoProvider);

impl Default for Anyone {
    fn default() -> Self {
        Self(ring::default_provider())
    }
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
