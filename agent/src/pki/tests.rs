//! Tests of the PKI: what is in the certificates, who takes them, and what the folder holds.

mod certificates;
mod command;
mod crashes;
mod decisions;
mod folders;

use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use tempfile::TempDir;

use super::*;
use crate::error::Kind;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Not a whole second, as real clocks are not.
fn now() -> Timestamp {
    at("2024-03-01T12:00:00.5Z")
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

fn init_request(fleet: &str) -> InitRequest {
    InitRequest { fleet: fleet.into(), validity: Validity::Days(3650) }
}

fn client(name: &str, role: Role) -> IssueRequest {
    IssueRequest { name: name.into(), role, hosts: Vec::new(), validity: Validity::Days(365) }
}

fn server(name: &str, hosts: &[&str]) -> IssueRequest {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    IssueRequest { hosts, ..client(name, Role::Agent) }
}

/// A CA of the fleet "prod", made at `now()`.
fn pki() -> (TempDir, Pki) {
    let home = tempfile::tempdir().unwrap();
    let pki = Pki::init(&home.path().join("pki"), &init_request("prod"), now()).unwrap();
    (home, pki)
}

fn code<T>(result: Result<T>) -> &'static str {
    result.err().expect("it is refused").code
}

fn bytes(pki: &Pki, name: &str) -> Vec<u8> {
    std::fs::read(pki.dir().join(name)).unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn unix(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.as_second().cast_unsigned()))
}

fn roots(dir: &Path) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(dir.join(CA)).unwrap();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    Arc::new(roots)
}

fn crls(dir: &Path) -> Vec<CertificateRevocationListDer<'static>> {
    let pem = std::fs::read(dir.join(CRL)).unwrap();
    CertificateRevocationListDer::pem_slice_iter(&pem).map(Result::unwrap).collect()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What an agent with the folder's CA and revocation list makes of a client's certificate. An expired list counts.
fn as_client(dir: &Path, pem: &str, now: Timestamp) -> Result<(), rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(dir), provider())
        .with_crls(crls(dir))
        .enforce_revocation_expiration()
        .build()
        .unwrap();
    verifier.verify_client_cert(&der(pem), &[], unix(now)).map(|_| ())
}

/// What a client with the folder's CA and revocation list makes of a server's certificate.
fn as_server(dir: &Path, pem: &str, host: &str, now: Timestamp) -> Result<(), rustls::Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(dir), provider())
        .with_crls(crls(dir))
        .build()
        .unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    verifier.verify_server_cert(&der(pem), &[], &host, &[], unix(now)).map(|_| ())
}

fn refused(result: Result<(), rustls::Error>) -> CertificateError {
    match result {
        Err(rustls::Error::InvalidCertificate(error)) => error,
        other => panic!("a certificate error is expected, not {other:?}"),
    }
}
