//! A look at the certificate that somebody serves: a TLS handshake that trusts whatever it is shown, and is closed then.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::dial::Resolver;

/// The leaf, in DER, that is shown at `address` ("host:port") to who asks for `server_name`.
///
/// # Errors
/// Why none is, in words. It takes no longer than `patience`.
pub async fn shown(
    resolver: &Resolver,
    address: &str,
    server_name: &str,
    patience: Duration,
) -> Result<Vec<u8>, String> {
    let looked = tokio::time::timeout(patience, look(resolver, address, server_name)).await;
    looked.unwrap_or_else(|_| {
        Err(format!("{address} does not finish a TLS handshake within {} s", patience.as_secs()))
    })
}

async fn look(resolver: &Resolver, address: &str, server_name: &str) -> Result<Vec<u8>, String> {
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| format!("{server_name:?} is no name to ask for"))?;
    let (host, port) = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .ok_or_else(|| format!("{address:?} is no \"host:port\""))?;
    let stream = resolver
        .connect(host, port)
        .await
        .map_err(|error| format!("{address} can't be reached: {error}"))?;
    let provider = Arc::new(ring::default_provider());
    let seen = Arc::new(Whatever { provider: Arc::clone(&provider), leaf: Mutex::default() });
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as _)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let shaken = connector.connect(name, stream).await.map(|_| ());
    let leaf = seen.leaf.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    // A server that wants a certificate of ours, and ends it for that, has shown its own by then.
    match (leaf, shaken) {
        (Some(leaf), _) => Ok(leaf),
        (None, Ok(())) => Err(format!("{address} shows no certificate")),
        (None, Err(error)) => Err(format!("{address} fails the TLS handshake: {error}")),
    }
}

/// Takes every certificate: what is asked is which one it is.
#[derive(Debug)]
struct Whatever {
    provider: Arc<CryptoProvider>,
    /// What was shown, by whoever has proven to have its key.
    leaf: Mutex<Option<Vec<u8>>>,
}

impl Whatever {
    fn proven(&self, certificate: &CertificateDer<'_>) {
        let leaf = Some(certificate.as_ref().to_vec());
        *self.leaf.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = leaf;
    }
}

impl ServerCertVerifier for Whatever {
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

    // Who shows it must have its key all the same.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let valid =
            rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)?;
        self.proven(certificate);
        Ok(valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let valid =
            rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)?;
        self.proven(certificate);
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
