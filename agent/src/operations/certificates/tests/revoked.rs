//! What a CA has revoked never comes into service again, and is replaced where it is.

use axum::Router;
use axum::routing::get;
use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpListener;

use super::super::material::{chain, is_revoked, leaf};
use super::host::{Host, list_of, root};
use super::*;

#[test]
fn only_a_list_of_its_ca_that_is_in_force_says_anything() {
    let (issuer, pem) = root(at(4_000 * DAY));
    let params = CertificateParams::new(vec!["gw.example.com".to_owned()]).unwrap();
    let certificate = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    let made = chain(certificate.pem().as_bytes()).unwrap();
    let serial = leaf(&made[0]).unwrap().serial;
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(chain(pem.as_bytes()).unwrap());
    let says = |list: &[u8], now| is_revoked(&made, &roots, list, at(now)).ok();
    assert_eq!(says(&list_of(&issuer, &[], at(0)), 60), Some(false));
    assert_eq!(says(&list_of(&issuer, &["0102", &serial], at(0)), 60), Some(true));
    assert_eq!(says(&list_of(&issuer, &["0102"], at(0)), 60), Some(false));
    // Of another CA, of last week, no list at all.
    let (other, _) = root(at(4_000 * DAY));
    assert_eq!(says(&list_of(&other, &[&serial], at(0)), 60), None);
    assert_eq!(says(&list_of(&issuer, &[&serial], at(0)), 7 * DAY), None);
    for garbage in [&b""[..], b"-----BEGIN X509 CRL-----", &[0x30; 64]] {
        assert_eq!(says(garbage, 60), None);
    }
}

#[tokio::test]
async fn the_daily_check_replaces_what_its_ca_has_revoked() {
    let host = Host::new(days(90)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/list", listener.local_addr().unwrap());
    host.ca.set(|mood| mood.list = Some(url));
    host.look().await;
    let serial = host.standing().generations[0].serial.clone();
    let list: std::sync::Arc<std::sync::Mutex<Vec<u8>>> = std::sync::Arc::default();
    *list.lock().unwrap() = host.ca.list(&["0102"], host.ca.now());
    let shown = std::sync::Arc::clone(&list);
    let pages =
        Router::new().route("/list", get(move || async move { shown.lock().unwrap().clone() }));
    let server = tokio::spawn(async move { axum::serve(listener, pages).await });
    host.check().await;
    assert_eq!(host.ca.ordered(), 1, "another one was revoked");
    *list.lock().unwrap() = host.ca.list(&[&serial], host.ca.now());
    host.check().await;
    server.abort();
    let standing = host.standing();
    assert_eq!(standing.record.generation, 2);
    assert!(standing.generation(1).unwrap().revoked_at.is_some());
    assert_eq!((host.ca.ordered(), host.events("revoked").len()), (2, 1));
}

#[tokio::test]
async fn what_only_lacks_a_new_name_stays_until_one_with_all_of_them_is_there() {
    let host = Host::new(days(90)).await;
    host.look().await;
    host.ca.set(|mood| mood.down = true);
    let config = host.certificates.config.load_full();
    let mut wider = super::super::Config::clone(&config);
    wider.certificates[0].identifiers.push("new.example.com".to_owned());
    wider.certificates[0].identifiers.sort();
    host.certificates.config.store(std::sync::Arc::new(wider));
    host.look().await;
    let origin = |host: &Host| host.standing().current().map(|it| (it.number, it.origin));
    assert_eq!(origin(&host), Some((1, CertificateOrigin::Acme)), "it is as good as before");
    host.ca.set(|mood| mood.down = false);
    host.on(2 * HOUR).await;
    host.look().await;
    assert_eq!(origin(&host), Some((2, CertificateOrigin::Acme)));
    assert_eq!(host.standing().generations[0].identifiers.len(), 2);
    assert_eq!(host.events("self-signed").len(), 0);
}
