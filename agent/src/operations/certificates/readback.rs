//! What is on the disk is read back and looked at before anybody believes it, and by roots that are read now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use genesis_storage::{CertificateOrigin, GenerationRecord};
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use super::config::{Ca, Certificate, Config};
use super::verify::Truth;
use super::{Certificates, lock, material, plan};
use crate::error::{Error, Result};
use crate::outside::files;

/// The roots of the host are good for so long once they were read: there are more than a hundred of them, and a check
/// looks at a thousand certificates.
const FRESH: Duration = Duration::from_secs(60);
/// No file of roots has more bytes.
const ROOTS_LIMIT: usize = 4 << 20;

/// The roots that certificates lead to.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Those of the host, and when they were read on the monotonic clock.
    host: Mutex<Option<(Duration, Arc<RootCertStore>)>>,
}

impl Roots {
    /// Those that what a CA issues must lead to.
    ///
    /// # Errors
    /// In words.
    pub(super) fn of(&self, ca: &Ca, now: Duration) -> Result<Arc<RootCertStore>, String> {
        let roots = match &ca.issuer_roots {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                read_roots(path, &mut roots)?;
                Arc::new(roots)
            }
            None => self.of_the_host(now),
        };
        match roots.is_empty() {
            true => Err("there are no roots that it could lead to".to_owned()),
            false => Ok(roots),
        }
    }

    /// Those that what people give may lead to: of the host, of every CA that is configured, and further ones.
    pub(super) fn of_all(&self, config: &Config, now: Duration) -> Vouching {
        let mut found =
            Vouching { roots: RootCertStore::clone(&self.of_the_host(now)), unread: Vec::new() };
        let of_cas = config.authorities.iter().filter_map(|ca| ca.issuer_roots.as_ref());
        let files: BTreeSet<&PathBuf> = of_cas.chain(&config.extra_roots).collect();
        for path in files {
            found.unread.extend(read_roots(path, &mut found.roots).err());
        }
        found
    }

    fn of_the_host(&self, now: Duration) -> Arc<RootCertStore> {
        let mut known = lock(&self.host);
        if let Some((at, roots)) = known.as_ref()
            && now.saturating_sub(*at) < FRESH
        {
            return Arc::clone(roots);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let roots = Arc::new(roots);
        *known = Some((now, Arc::clone(&roots)));
        roots
    }
}

/// Who may vouch for what people give.
#[derive(Debug)]
pub(super) struct Vouching {
    roots: RootCertStore,
    /// Why some of them could not be read.
    unread: Vec<String>,
}

impl Vouching {
    /// Whether a chain leads to one of them; `Unknown` where it may lead to one that could not be read.
    pub(super) fn judge(
        &self,
        chain: &[CertificateDer<'static>],
        now: Timestamp,
    ) -> (Truth, String) {
        match material::verifies(chain, &self.roots, now) {
            Ok(()) => (Truth::Pass, String::new()),
            Err(why) if self.unread.is_empty() => (
                Truth::Fail,
                format!(
                    "{why}; give all of its intermediates, or for a private CA name its root in [certificates] \
                     extra_roots_file"
                ),
            ),
            Err(why) => (Truth::Unknown, format!("{why}; not read: {}", self.unread.join("; "))),
        }
    }
}

fn read_roots(path: &Path, roots: &mut RootCertStore) -> Result<(), String> {
    let failed = |why: String| format!("{}: {why}", path.display());
    let (text, _) =
        files::read_small(path, ROOTS_LIMIT).map_err(|error| failed(error.to_string()))?;
    let read = material::certificates(&text).map_err(failed)?;
    roots.add_parsable_certificates(read);
    Ok(())
}

impl Certificates {
    /// What is on the disk of a generation, once it was looked at.
    pub(super) fn read_back(
        &self,
        certificate: &Certificate,
        generation: &GenerationRecord,
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        let name = &certificate.name;
        let unusable = |why: String| {
            Error::refused(
                "GENERATION_UNUSABLE",
                format!("generation {} of {name} can't be in service: {why}", generation.number),
                Vec::new(),
            )
        };
        plan::usable(generation, &certificate.identifiers, self.now()).map_err(unusable)?;
        let (fullchain, key) = self.folder(name).read(generation.number).map_err(unusable)?;
        let ca = self.config.load().ca(&generation.ca).cloned();
        let roots = match (generation.origin, ca) {
            (CertificateOrigin::Acme, Some(ca)) => Some(self.roots(&ca).map_err(unusable)?),
            _ => None,
        };
        let (leaf, checks) = material::preflight(
            (&fullchain, &key),
            &certificate.identifiers,
            roots.as_deref(),
            None,
            self.now(),
        )
        .map_err(unusable)?;
        let wrong: Vec<String> = checks.into_iter().filter_map(|it| it.outcome.err()).collect();
        if !wrong.is_empty() {
            return Err(unusable(wrong.join("; ")));
        }
        if leaf.fingerprint != generation.fingerprint {
            return Err(unusable("the certificate on the disk is another one".to_owned()));
        }
        Ok((fullchain, key))
    }

    /// The roots that what a CA issues must lead to.
    pub(super) fn roots(&self, ca: &Ca) -> Result<Arc<RootCertStore>, String> {
        self.looks.roots.of(ca, self.outside.clock.monotonic())
    }
}
