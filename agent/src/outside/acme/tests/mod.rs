//! Against Debian's pebble, with its name server, and a real BIND.

mod dns;
mod fake;
mod orders;
mod server;
mod trouble;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::server::{Pebble, free};
use super::*;
use crate::outside::SystemClock;

/// More than any order takes here.
const PATIENCE: Duration = Duration::from_secs(20);

fn acme() -> RealAcme {
    RealAcme::new(Arc::new(SystemClock::new()))
}

fn wanted(names: &[&str]) -> Wanted {
    Wanted {
        identifiers: names.iter().map(|&name| name.to_owned()).collect(),
        profile: None,
        replaces: None,
    }
}

/// A request for names, with a new key.
fn csr(names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let key = rcgen::KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().der().to_vec()
}

fn leaf(pem: &str) -> Vec<u8> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    CertificateDer::pem_slice_iter(pem.as_bytes()).next().unwrap().unwrap().to_vec()
}

fn names_of(pem: &str) -> Vec<String> {
    let der = leaf(pem);
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    names.value.general_names.iter().map(ToString::to_string).collect()
}

/// Orders and finishes.
async fn issued(acme: &RealAcme, ca: &Authority, names: &[&str], answer: &Answer) -> String {
    let order = acme.order(ca, &wanted(names)).await.unwrap();
    acme.finish(ca, &order.url, answer, &csr(names), PATIENCE).await.unwrap()
}

fn nobody_listens(address: SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
