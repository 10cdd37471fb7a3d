//! From files to what TLS works with: read, check, and only then take over.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::paths;
use crate::config::TlsFiles;
use crate::error::{Error, Result, Unmet};

/// No file of the set is larger, in bytes.
const FILE_LIMIT: u64 = 4 << 20;

/// A set of files in force.
pub struct Material {
    /// What new connections are accepted with.
    pub config: Arc<ServerConfig>,
    /// And those of HTTP.
    pub http: Arc<ServerConfig>,
    /// What clients are checked by.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// What it was made from.
    pub items: Vec<Item>,
    /// When it was taken over.
    pub loaded_at: Timestamp,
}

/// The sort of an [`Item`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// The agent's own certificate.
    ServerCertificate,
    /// A CA of clients.
    ClientCa,
    /// A CA's revocation list.
    RevocationList,
}

/// One certificate or revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// The file it came from.
    pub path: String,
    /// The subject; a revocation list's issuer.
    pub subject: String,
    /// From when on it is good.
    pub not_before: Option<Timestamp>,
    /// Until when; a revocation list's next update.
    pub not_after: Option<Timestamp>,
    /// sha256 of its DER, in hex.
    pub sha256: String,
    /// How many certificates a revocation list revokes.
    pub revoked: usize,
    /// Of a revocation list: whose key signed it, and its number, both big-endian bytes.
    pub number: Option<(Vec<u8>, Vec<u8>)>,
    /// It is on one of the revocation lists itself.
    pub is_revoked: bool,
}

/// The bytes of a set of files.
pub struct Raw(Vec<Vec<u8>>);

impl Raw {
    /// Reads the files.
    ///
    /// # Errors
    /// `TLS_FILE_UNREADABLE`, `TLS_KEY_OPEN_TO_OTHERS`.
    pub fn read(files: &TlsFiles) -> Result<Self> {
        // A managed certificate is reached by a link: the key and the chain are read of one generation.
        let folder = files.managed.as_ref().and(files.key.parent());
        let resolved = folder.and_then(|folder| std::fs::canonicalize(folder).ok());
        let read_one = |path: &PathBuf| {
            let inside =
                folder.zip(resolved.as_ref()).filter(|(folder, _)| path.starts_with(folder));
            let place = match (inside, path.file_name()) {
                (Some((_, resolved)), Some(name)) => resolved.join(name),
                _ => path.clone(),
            };
            read(&place, *path == files.key)
        };
        paths(files).iter().map(read_one).collect::<Result<_>>().map(Self)
    }

    /// Tells sets apart.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for bytes in &self.0 {
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        }
        digest.finalize().into()
    }

    /// Checks everything and makes what TLS works with.
    ///
    /// # Errors
    /// `TLS_FILE_INVALID`, `TLS_KEY_MISMATCH`, `TLS_CERTIFICATE_EXPIRED`.
    pub fn load(&self, files: &TlsFiles, now: Timestamp) -> Result<Material> {
        let [certificate, key, client_ca, lists @ ..] = self.0.as_slice() else {
            return Err(Error::internal("TLS_FILE_INVALID", "a set of TLS files is incomplete"));
        };
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(certificate, &files.certificate)?;
        let own = chain[0].clone();
        let mut items = vec![item(ItemKind::ServerCertificate, &chain[0], &files.certificate)?];
        if items[0].not_after.is_some_and(|until| until <= now) {
            let message = format!(
                "the certificate in {} has expired: issue a new one",
                files.certificate.display()
            );
            return Err(at(
                &files.certificate,
                Error::unavailable("TLS_CERTIFICATE_EXPIRED", message),
            ));
        }
        let key = private_key(chain, key, files, &provider)?;
        let mut roots = RootCertStore::empty();
        for ca in certificates(client_ca, &files.client_ca)? {
            items.push(item(ItemKind::ClientCa, &ca, &files.client_ca)?);
            roots.add(ca).map_err(|error| {
                invalid(&files.client_ca, "holds what is no CA certificate").caused_by(error)
            })?;
        }
        let mut verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .only_check_end_entity_revocation();
        if let (Some(bytes), Some(path)) = (lists.first(), &files.revocation_list) {
            let lists = revocation_lists(bytes, path)?;
            for list in &lists {
                items.push(list_item(list, path)?);
                items[0].is_revoked |= revokes(list, &own);
            }
            verifier = verifier.with_crls(lists);
        }
        let verifier = verifier.build().map_err(|error| {
            let path = files.revocation_list.as_ref().unwrap_or(&files.client_ca);
            invalid(path, "can't be used to check clients").caused_by(error)
        })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                Error::internal("TLS_FILE_INVALID", "no TLS version is left").caused_by(error)
            })?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session skips the check of the client's certificate, so none is ever resumed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let mut http = config.clone();
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (config, http) = (Arc::new(config), Arc::new(http));
        Ok(Material { config, http, verifier, items, loaded_at: now })
    }
}

fn read(path: &Path, secret: bool) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| {
        let message = format!("can't read {}", path.display());
        at(path, Error::unavailable("TLS_FILE_UNREADABLE", message)).caused_by(error)
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if secret && crate::outside::secret::is_open(mode) {
        let message = format!(
            "{} is a private key and open to others (mode {:o}): chmod 600 it, and replace it if others may have read it",
            path.display(),
            mode & 0o777
        );
        return Err(at(path, Error::unavailable("TLS_KEY_OPEN_TO_OTHERS", message)));
    }
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(invalid(path, "is larger than any certificate or key"));
    }
    Ok(bytes)
}

/// The error with the file it concerns.
fn at(path: &Path, error: Error) -> Error {
    let unmet = Unmet {
        code: error.code,
        subject: path.display().to_string(),
        message: error.message.clone(),
    };
    error.with_unmet(vec![unmet])
}

fn invalid(path: &Path, why: &str) -> Error {
    at(path, Error::unavailable("TLS_FILE_INVALID", format!("{} {why}", path.display())))
}

fn certificates(bytes: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(path, "is no PEM").caused_by(error))?;
    if chain.is_empty() {
        return Err(invalid(path, "holds no certificate in PEM"));
    }
    Ok(chain)
}

fn revocation_lists(
    bytes: &[u8],
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(path, "is no PEM").caused_by(error))?;
    if lists.is_empty() {
        return Err(invalid(path, "holds no revocation list in PEM"));
    }
    Ok(lists)
}

fn private_key(
    chain: Vec<CertificateDer<'static>>,
    bytes: &[u8],
    files: &TlsFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey> {
    let path = &files.key;
    let key = PrivateKeyDer::from_pem_slice(bytes)
        .map_err(|error| invalid(path, "holds no private key in PEM").caused_by(error))?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| {
        invalid(path, "holds a key of a kind that is not supported").caused_by(error)
    })?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| {
        let message =
            format!("{} is not the key of {}", path.display(), files.certificate.display());
        at(path, Error::unavailable("TLS_KEY_MISMATCH", message)).caused_by(error)
    })?;
    Ok(certified)
}

fn instant(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok()
}

fn item(kind: ItemKind, der: &CertificateDer<'_>, path: &Path) -> Result<Item> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|error| invalid(path, "holds what is no certificate").caused_by(error))?;
    Ok(Item {
        kind,
        path: path.display().to_string(),
        subject: certificate.subject().to_string(),
        not_before: instant(certificate.validity().not_before.timestamp()),
        not_after: instant(certificate.validity().not_after.timestamp()),
        sha256: hex::encode(Sha256::digest(der)),
        revoked: 0,
        number: None,
        is_revoked: false,
    })
}

fn list_item(der: &CertificateRevocationListDer<'_>, path: &Path) -> Result<Item> {
    let (_, list) = CertificateRevocationList::from_der(der)
        .map_err(|error| invalid(path, "holds what is no revocation list").caused_by(error))?;
    Ok(Item {
        kind: ItemKind::RevocationList,
        path: path.display().to_string(),
        subject: list.issuer().to_string(),
        not_before: instant(list.last_update().timestamp()),
        not_after: list.next_update().and_then(|at| instant(at.timestamp())),
        sha256: hex::encode(Sha256::digest(der)),
        revoked: list.iter_revoked_certificates().count(),
        number: number(&list),
        is_revoked: false,
    })
}

/// Whose key signed a list, and its number; `None` where it does not say.
fn number(list: &CertificateRevocationList<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    use x509_parser::extensions::ParsedExtension;

    let key = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(found) => {
            found.key_identifier.as_ref().map(|key| key.0.to_vec())
        }
        _ => None,
    });
    Some((key?, list.crl_number()?.to_bytes_be()))
}

/// Whether a list has the certificate on it.
fn revokes(list: &CertificateRevocationListDer<'_>, certificate: &CertificateDer<'_>) -> bool {
    let (Ok((_, list)), Ok((_, certificate))) =
        (CertificateRevocationList::from_der(list), X509Certificate::from_der(certificate))
    else {
        return false;
    };
    list.issuer() == certificate.issuer()
        && list
            .iter_revoked_certificates()
            .any(|entry| entry.raw_serial() == certificate.raw_serial())
}

impl Material {
    /// The revocation list of these that is older than one of the same CA in `before`.
    pub fn older_list(&self, before: &Self) -> Option<&Item> {
        let shorter = |a: &[u8], b: &[u8]| (a.len(), a) < (b.len(), b);
        self.items.iter().find(|item| {
            let Some((key, number)) = &item.number else { return false };
            let known = before.items.iter().filter_map(|known| known.number.as_ref());
            known.into_iter().any(|(of, latest)| of == key && shorter(number, latest))
        })
    }
}
