//! Certificates, keys and revocation lists: made with rcgen, read with x509-parser. No files, no clock.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, RevocationReason, RevokedCertParams, SanType,
    SerialNumber,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::pem::Pem;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::names::{Host, Role, Serial};
use super::register::{Entry, Reason};
use crate::error::{Error, Result};

/// The CA's certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) pem: String,
    pub(super) serial: String,
    pub(super) subject: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) sha256: String,
    subject_der: Vec<u8>,
    public_key: Vec<u8>,
}

/// A key that signs as the CA.
pub(super) type Signer = Issuer<'static, KeyPair>;

/// A certificate and its key, just made.
pub(super) struct Made {
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
    pub(super) sha256: String,
}

/// A revocation list, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crl {
    /// Grows with each list.
    pub number: u64,
    /// When it was signed.
    pub this_update: Timestamp,
    /// When its successor is due.
    pub next_update: Timestamp,
    /// The serial numbers that it revokes.
    pub revoked: BTreeSet<Serial>,
}

fn failed(what: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let message = format!("can't make {what}");
    move |error| Error::internal("PKI_SIGN_FAILED", message).caused_by(error)
}

fn date(at: Timestamp) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|error| {
        let message = format!("a certificate can't hold the date {at}");
        Error::invalid("PKI_VALIDITY_INVALID", message).caused_by(error)
    })
}

/// A random serial number.
///
/// # Errors
/// `PKI_SIGN_FAILED` when the system has no randomness.
pub(super) fn random_serial() -> Result<Serial> {
    let random = rustls::crypto::ring::default_provider().secure_random;
    loop {
        let mut bytes = [0; 16];
        random.fill(&mut bytes).map_err(|_| {
            Error::internal("PKI_SIGN_FAILED", "the system has no random numbers to give")
        })?;
        if let Some(serial) = Serial::from_random(bytes) {
            return Ok(serial);
        }
    }
}

fn generate_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed("a key"))
}

/// Makes a CA that signs for itself.
pub(super) fn make_authority(
    fleet: &str,
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<Made> {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "GENESIS");
    // Revocation lists are matched to a CA by its name: two CAs of one fleet must not share it.
    let id = hex::encode(&serial.as_bytes()[..4]);
    name.push(DnType::OrganizationalUnitName, format!("CA {id}"));
    name.push(DnType::CommonName, fleet);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.not_before = date(not_before)?;
    params.not_after = date(not_after)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = generate_key()?;
    let certificate = params.self_signed(&key).map_err(failed("the CA's certificate"))?;
    Ok(Made {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        sha256: hex::encode(Sha256::digest(certificate.der())),
    })
}

/// What goes into a certificate.
pub(super) struct Contents<'a> {
    pub(super) serial: Serial,
    pub(super) name: &'a str,
    pub(super) role: Role,
    pub(super) uri: &'a str,
    pub(super) hosts: &'a [Host],
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

/// Makes a certificate with a key of its own.
pub(super) fn make_certificate(signer: &Signer, contents: &Contents<'_>) -> Result<Made> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, contents.name);
    params.serial_number = Some(SerialNumber::from_slice(contents.serial.as_bytes()));
    params.not_before = date(contents.not_before)?;
    params.not_after = date(contents.not_after)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match contents.role {
        Role::Agent => ExtendedKeyUsagePurpose::ServerAuth,
        Role::Viewer | Role::Operator | Role::Admin => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    for host in contents.hosts {
        params.subject_alt_names.push(match host {
            Host::Dns(name) => {
                SanType::DnsName(name.as_str().try_into().map_err(failed("a DNS name"))?)
            }
            Host::Ip(address) => SanType::IpAddress(*address),
        });
    }
    let uri = contents.uri.try_into().map_err(failed("the identity"))?;
    params.subject_alt_names.push(SanType::URI(uri));
    let key = generate_key()?;
    let certificate = params.signed_by(&key, signer).map_err(failed("the certificate"))?;
    Ok(Made {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        sha256: hex::encode(Sha256::digest(certificate.der())),
    })
}

/// Makes the revocation list of every revoked entry.
pub(super) fn make_crl(
    signer: &Signer,
    number: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    entries: &[Entry],
) -> Result<String> {
    let mut revoked_certs = Vec::new();
    for entry in entries {
        let Some(revocation) = &entry.revoked else { continue };
        revoked_certs.push(RevokedCertParams {
            serial_number: SerialNumber::from_slice(entry.serial.as_bytes()),
            revocation_time: date(revocation.at)?,
            reason_code: match revocation.reason {
                // RFC 5280, 5.3.1: left out rather than said to be unspecified.
                Reason::Unspecified => None,
                Reason::KeyCompromise => Some(RevocationReason::KeyCompromise),
                Reason::Superseded => Some(RevocationReason::Superseded),
                Reason::Cessation => Some(RevocationReason::CessationOfOperation),
            },
            invalidity_date: None,
        });
    }
    let params = CertificateRevocationListParams {
        this_update: date(this_update)?,
        next_update: date(next_update)?,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = params.signed_by(signer).map_err(failed("the revocation list"))?;
    list.pem().map_err(failed("the revocation list"))
}

/// The one PEM block in `bytes`, which must have this label; the error says what is wrong.
fn pem_block(bytes: &[u8], label: &str) -> Result<Vec<u8>, String> {
    let mut blocks = Pem::iter_from_buffer(bytes);
    let wrong = || format!("it holds no PEM block {label}");
    let block = blocks.next().ok_or_else(wrong)?.map_err(|_| wrong())?;
    if block.label != label {
        return Err(wrong());
    }
    if blocks.next().is_some() {
        return Err("it holds more than one PEM block".into());
    }
    Ok(block.contents)
}

fn instant(seconds: i64) -> Result<Timestamp, String> {
    Timestamp::from_second(seconds).map_err(|_| "it has a date out of range".to_owned())
}

impl Authority {
    /// Reads ca.pem; the error says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let der = pem_block(bytes, "CERTIFICATE")?;
        let (rest, certificate) = X509Certificate::from_der(&der)
            .map_err(|_| "its PEM block is no certificate".to_owned())?;
        if !rest.is_empty() {
            return Err("its PEM block holds more than a certificate".into());
        }
        if !certificate.is_ca() {
            return Err("its certificate is not that of a CA".into());
        }
        Ok(Self {
            pem: String::from_utf8(bytes.to_vec()).map_err(|_| "it is no text".to_owned())?,
            serial: hex::encode(certificate.serial.to_bytes_be()),
            subject: certificate.subject().to_string(),
            not_before: instant(certificate.validity().not_before.timestamp())?,
            not_after: instant(certificate.validity().not_after.timestamp())?,
            sha256: hex::encode(Sha256::digest(&der)),
            subject_der: certificate.subject().as_raw().to_vec(),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }

    /// Takes the text of ca.key; the error says what is wrong with it, and nothing of it.
    pub(super) fn signer(&self, key: &str) -> Result<Signer, String> {
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(key, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| "it holds no ECDSA P-256 key in PKCS #8 PEM".to_owned())?;
        if key.subject_public_key_info() != self.public_key {
            return Err("its key is not that of ca.pem".into());
        }
        Issuer::from_ca_cert_pem(&self.pem, key)
            .map_err(|_| "ca.pem can't be used as an issuer".to_owned())
    }

    /// Reads a revocation list of this CA; `None` for anything else.
    pub(super) fn read_crl(&self, bytes: &[u8]) -> Option<Crl> {
        let der = pem_block(bytes, "X509 CRL").ok()?;
        let (rest, list) = CertificateRevocationList::from_der(&der).ok()?;
        if !rest.is_empty() || list.issuer().as_raw() != self.subject_der {
            return None;
        }
        let mut revoked = BTreeSet::new();
        for entry in list.iter_revoked_certificates() {
            let digits = entry.user_certificate.to_bytes_be();
            revoked.insert(Serial::from_random(digits.try_into().ok()?)?);
        }
        Some(Crl {
            number: list.crl_number()?.try_into().ok()?,
            this_update: instant(list.last_update().timestamp()).ok()?,
            next_update: instant(list.next_update()?.timestamp()).ok()?,
            revoked,
        })
    }
}
