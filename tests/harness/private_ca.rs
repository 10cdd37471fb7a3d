//! A CA of a test for servers of TLS: what vouches for an ACME server's own listener, and for certificates that a test
//! puts somewhere by hand.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

use crate::clock::now;

/// A certificate and its key, in files that stay as long as their CA.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The certificate, and after it that of its CA.
    pub fullchain: PathBuf,
    /// The key, in PKCS #8.
    pub key: PathBuf,
}

/// The CA.
pub struct PrivateCa {
    folder: TempDir,
    roots: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl PrivateCa {
    /// A new one, with a root of its own.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("genesis-ca-").tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "genesis test root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("a root").pem();
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, &pem).expect("a file");
        Self { folder, roots, pem, issuer: Issuer::new(params, key) }
    }

    /// The file with its root.
    pub fn roots_file(&self) -> &Path {
        &self.roots
    }

    /// A certificate for these names and addresses that is good for a day before and ninety after now.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn issue(&self, file: &str, names: &[&str]) -> Leaf {
        self.issue_within(file, names, days_from_now(-1), days_from_now(90))
    }

    /// A certificate that is good from one moment until another. `file` is what its files are called.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn issue_within(&self, file: &str, names: &[&str], from: Timestamp, to: Timestamp) -> Leaf {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        params
            .distinguished_name
            .push(DnType::CommonName, names.first().cloned().unwrap_or_default());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, params, from, to)
    }

    /// A client's certificate, good as those of [`PrivateCa::issue`]; its files are called by its name.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn issue_to_client(&self, name: &str) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(name, params, days_from_now(-1), days_from_now(90))
    }

    fn sign(
        &self,
        file: &str,
        mut params: CertificateParams,
        from: Timestamp,
        to: Timestamp,
    ) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        params.use_authority_key_identifier_extension = true;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let date = |at: Timestamp| epoch + at.duration_since(Timestamp::UNIX_EPOCH).unsigned_abs();
        (params.not_before, params.not_after) = (date(from), date(to));
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |end: &str| self.folder.path().join(format!("{file}{end}"));
        let issued = Leaf { fullchain: path(".pem"), key: path(".key") };
        std::fs::write(&issued.fullchain, leaf.pem() + &self.pem).expect("a file");
        std::fs::write(&issued.key, key.serialize_pem()).expect("a file");
        std::fs::set_permissions(&issued.key, std::fs::Permissions::from_mode(0o600))
            .expect("ours");
        issued
    }
}

impl Default for PrivateCa {
    fn default() -> Self {
        Self::new()
    }
}

fn days_from_now(days: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_secs(days * 86_400)
}
