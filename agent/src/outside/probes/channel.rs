//! Channels to services that speak gRPC.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::UnixStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri};

use super::text;
use crate::outside::aside::Aside;
use crate::outside::dial::{Failure, Resolver, failure_of};

/// More than any list of authorities.
const CA_LIMIT: u64 = 4 << 20;

/// Reads who may vouch for servers, aside: a configured file may lie on a network mount.
#[derive(Debug, Default)]
pub(in crate::outside) struct Authorities {
    files: Aside<PathBuf, Result<ClientTlsConfig, String>>,
}

impl Authorities {
    /// Those of a file, or of the host.
    pub(in crate::outside) async fn trusted(
        &self,
        ca: Option<&Path>,
    ) -> Result<ClientTlsConfig, String> {
        let Some(path) = ca else { return Ok(ClientTlsConfig::new().with_native_roots()) };
        let path = path.to_owned();
        self.files.run(&path.clone(), move || of_file(&path)).await?
    }
}

fn of_file(path: &Path) -> Result<ClientTlsConfig, String> {
    let pem = text(path, CA_LIMIT)?;
    // Without this look, a file without a certificate would make every server look like an impostor.
    let usable = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    match usable {
        Ok(usable) if !usable.is_empty() => {
            Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
        }
        _ => Err(format!("{} holds no certificate in PEM", path.display())),
    }
}

/// A channel to "http://host:port", "https://host:port" or "unix:/path".
pub(in crate::outside) async fn connect(
    resolver: &Resolver,
    target: &str,
    roots: Option<ClientTlsConfig>,
) -> Result<Channel, Failure> {
    let unknown = |why: &str| Failure::Unknown(why.to_owned());
    let failed = |error: tonic::transport::Error| failure_of(&error);
    if let Some(path) = target.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path).to_owned();
        // Who listens on a socket is not asked by name.
        let endpoint = Endpoint::from_static("http://localhost");
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        return endpoint.connect_with_connector(connector).await.map_err(failed);
    }
    if !target.starts_with("http://") && roots.is_none() {
        return Err(unknown("the target is none of http://, https:// and unix:"));
    }
    let endpoint = Endpoint::from_shared(target.to_owned());
    let endpoint = endpoint.map_err(|_| unknown("the target is no URL"))?;
    let (host, port) = match (endpoint.uri().host(), endpoint.uri().port_u16()) {
        (Some(host), Some(port)) => (host.to_owned(), port),
        _ => return Err(unknown("the target names no port")),
    };
    let endpoint = match roots {
        Some(roots) => endpoint
            .tls_config(roots)
            .map_err(|error| Failure::Unknown(failure_of(&error).to_string()))?,
        None => endpoint,
    };
    let resolver = resolver.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let (resolver, host) = (resolver.clone(), host.clone());
        async move { resolver.connect(&host, port).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.map_err(failed)
}
