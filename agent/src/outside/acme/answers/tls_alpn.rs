//! tls-alpn-01 (RFC 8737), for addresses as well (RFC 8738).

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::listeners::Entries;

/// The protocol that CAs ask for, and nobody else.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// Finds certificates by the name that is asked for.
struct ByName(Arc<Entries<Arc<CertifiedKey>>>);

impl std::fmt::Debug for ByName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByName").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Whoever does not ask for this protocol must never be shown such a certificate.
        if !hello.alpn()?.any(|protocol| protocol == PROTOCOL) {
            return None;
        }
        self.0.get(&hello.server_name()?.trim_end_matches('.').to_ascii_lowercase())
    }
}

/// Shows the certificate of the name that is asked for; that is all of the protocol.
pub(super) fn serve(
    stream: TcpStream,
    entries: Arc<Entries<Arc<CertifiedKey>>>,
) -> BoxFuture<'static, ()> {
    async move {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let Ok(builder) = builder.with_safe_default_protocol_versions() else { return };
        let resolver = Arc::new(ByName(entries));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.send_tls13_tickets = 0;
        // Who fails the handshake asks again, or is no CA.
        if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            let _ = stream.shutdown().await;
        }
    }
    .boxed()
}

/// The certificate that answers for a name or an address.
///
/// # Errors
/// In words, when it can't be made.
pub(super) fn certificate(
    identifier: &str,
    digest: &[u8; 32],
) -> Result<Arc<CertifiedKey>, String> {
    let failed = |error: rcgen::Error| format!("no certificate for {identifier}: {error}");
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(vec![identifier.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|error| format!("no key for {identifier}: {error}"))?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

/// What is asked for: a name itself, an address by its reverse name.
pub(super) fn asked_as(identifier: &str) -> String {
    match identifier.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(address)) => {
            let mut name = String::with_capacity(72);
            for octet in address.octets().iter().rev() {
                // Writing to a String does not fail.
                let _ = write!(name, "{:x}.{:x}.", octet & 15, octet >> 4);
            }
            name.push_str("ip6.arpa");
            name
        }
        Err(_) => identifier.trim_end_matches('.').to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_for_by_their_reverse_names() {
        for (identifier, name) in [
            ("Example.COM", "example.com"),
            ("192.0.2.7", "7.2.0.192.in-addr.arpa"),
            (
                "2001:db8::1",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ),
        ] {
            assert_eq!(asked_as(identifier), name);
        }
    }

    #[test]
    fn a_certificate_says_the_digest_in_a_critical_extension() {
        for identifier in ["a.example", "192.0.2.7", "::1"] {
            let made = certificate(identifier, &[7; 32]).unwrap();
            let (_, parsed) = x509_parser::parse_x509_certificate(&made.cert[0]).unwrap();
            let mut extensions = parsed.extensions().iter();
            let found = extensions.find(|it| it.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
            let found = found.unwrap();
            assert!(found.critical);
            assert_eq!(found.value[2..], [7; 32]);
        }
    }
}
