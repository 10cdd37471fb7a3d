//! A certificate with its key, as bytes: read, compared, judged. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use genesis_storage::{CertificateOrigin, GenerationRecord};
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// At most so many certificates are in a chain.
const CHAIN: usize = 10;
/// At most so many bytes has a chain in PEM, and at most so many a key.
pub const PEM_LIMIT: usize = 256 << 10;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// In DER.
    pub der: Vec<u8>,
    /// DNS names in lower case, and addresses; sorted.
    pub identifiers: Vec<String>,
    /// In hexadecimal.
    pub serial: String,
    /// SHA-256, in hexadecimal.
    pub fingerprint: String,
    /// In words.
    pub issuer: String,
    /// From.
    pub not_before: Timestamp,
    /// Until.
    pub not_after: Timestamp,
    /// Where its CA publishes what it has revoked.
    pub revocation_lists: Vec<String>,
}

/// SHA-256 of a certificate in DER, in hexadecimal.
pub fn fingerprint(der: &[u8]) -> String {
    hex::encode(Sha256::digest(der))
}

/// The certificates of a PEM, the leaf first.
///
/// # Errors
/// In words.
pub fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if pem.len() > PEM_LIMIT {
        return Err(format!("it has {} bytes, {PEM_LIMIT} are read", pem.len()));
    }
    let chain = certificates(pem)?;
    match chain.len() {
        0..=CHAIN => Ok(chain),
        more => Err(format!("there are {more} certificates in it, at most {CHAIN} make a chain")),
    }
}

/// The certificates of a PEM, however many; at least one.
///
/// # Errors
/// In words.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| format!("it is no PEM: {error}"))?;
    match read.is_empty() {
        true => Err("there is no certificate in it".to_owned()),
        false => Ok(read),
    }
}

/// Certificates as text, and nothing else: what stood around them in a file, a key perhaps, is not in it.
pub fn text(chain: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut text = String::new();
    for certificate in chain {
        let encoded = STANDARD.encode(certificate);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text.into_bytes()
}

/// The certificates that somebody gives as a chain, as text alone.
///
/// # Errors
/// In words; also where a key is among them: who put it there may not know who reads chains.
pub fn chain_alone(pem: &[u8]) -> Result<Vec<u8>, String> {
    let armour = b"PRIVATE KEY-----";
    if pem.windows(armour.len()).any(|window| window == armour) {
        return Err(
            "there is a private key among the certificates: others read what holds a chain, so give the certificates \
             alone, and have a new one issued with a new key if others had that file"
                .to_owned(),
        );
    }
    chain(pem).map(|chain| text(&chain))
}

/// The key of a PEM.
///
/// # Errors
/// In words, without the key.
pub fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if pem.len() > PEM_LIMIT {
        return Err(format!("it has {} bytes, {PEM_LIMIT} are read", pem.len()));
    }
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| "there is no private key in it (PKCS#8, PKCS#1 or SEC1, not encrypted)".into())
}

/// What a certificate says.
///
/// # Errors
/// In words.
pub fn leaf(der: &CertificateDer<'_>) -> Result<Leaf, String> {
    let (rest, parsed) = X509Certificate::from_der(der.as_ref())
        .map_err(|error| format!("it is no X.509 certificate: {error}"))?;
    if !rest.is_empty() {
        return Err("there is more behind the certificate".to_owned());
    }
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| format!("its names can't be read: {error}"))?;
    let mut identifiers = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => identifiers.push(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => identifiers.extend(address(bytes)),
            _ => {}
        }
    }
    identifiers.sort();
    identifiers.dedup();
    let time = |at: x509_parser::time::ASN1Time| {
        Timestamp::from_second(at.timestamp())
            .map_err(|_| "its validity is out of any range".to_owned())
    };
    let mut revocation_lists = Vec::new();
    for extension in parsed.extensions() {
        let x509_parser::extensions::ParsedExtension::CRLDistributionPoints(points) =
            extension.parsed_extension()
        else {
            continue;
        };
        for point in points.iter() {
            if let Some(x509_parser::extensions::DistributionPointName::FullName(names)) =
                &point.distribution_point
            {
                revocation_lists.extend(names.iter().filter_map(|name| match name {
                    GeneralName::URI(uri) => Some((*uri).to_owned()),
                    _ => None,
                }));
            }
        }
    }
    Ok(Leaf {
        identifiers,
        serial: hex::encode(parsed.raw_serial()),
        fingerprint: fingerprint(der.as_ref()),
        issuer: words(&parsed.issuer().to_string()),
        not_before: time(parsed.validity().not_before)?,
        not_after: time(parsed.validity().not_after)?,
        revocation_lists,
        der: der.as_ref().to_vec(),
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string())
}

/// Without what a terminal takes for more than text, and not too long.
fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Whether the key is that of the certificate.
///
/// # Errors
/// In words, also where it can't be told.
pub fn matches(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<(), String> {
    let signing = rustls::crypto::ring::sign::any_supported_type(key)
        .map_err(|_| "its key is of a kind that is not known".to_owned())?;
    let certified = rustls::sign::CertifiedKey::new(chain.to_vec(), signing);
    certified.keys_match().map_err(|_| "the key is not that of the certificate".to_owned())
}

/// Whether a chain leads to one of the roots, for a server, at a time.
///
/// # Errors
/// In words.
pub fn verifies(
    chain: &[CertificateDer<'static>],
    roots: &rustls::RootCertStore,
    at: Timestamp,
) -> Result<(), String> {
    verified(chain, roots, None, at)
        .map_err(|error| format!("the chain leads to no root that is trusted: {error}"))
}

/// Whether a list (DER) of the CA has revoked the leaf of a chain. The list must be of that CA, and in force.
///
/// # Errors
/// In words, where it says nothing.
pub fn is_revoked(
    chain: &[CertificateDer<'static>],
    roots: &rustls::RootCertStore,
    list: &[u8],
    at: Timestamp,
) -> Result<bool, String> {
    let list = webpki::OwnedCertRevocationList::from_der(list)
        .map_err(|error| format!("it is no revocation list: {error}"))?;
    let lists = [&webpki::CertRevocationList::from(list)];
    let options = webpki::RevocationOptionsBuilder::new(&lists)
        .map_err(|_| "there is no list".to_owned())?
        .with_depth(webpki::RevocationCheckDepth::EndEntity)
        .with_status_policy(webpki::UnknownStatusPolicy::Deny)
        .with_expiration_policy(webpki::ExpirationPolicy::Enforce)
        .build();
    match verified(chain, roots, Some(options), at) {
        Ok(()) => Ok(false),
        Err(webpki::Error::CertRevoked) => Ok(true),
        Err(error) => Err(error.to_string()),
    }
}

fn verified(
    chain: &[CertificateDer<'static>],
    roots: &rustls::RootCertStore,
    revocation: Option<webpki::RevocationOptions<'_>>,
    at: Timestamp,
) -> Result<(), webpki::Error> {
    let (leaf, intermediates) = chain.split_first().ok_or(webpki::Error::BadDer)?;
    let end = webpki::EndEntityCert::try_from(leaf)?;
    let seconds = u64::try_from(at.as_second()).unwrap_or(0);
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let usage = webpki::KeyUsage::server_auth();
    let known = webpki::ALL_VERIFICATION_ALGS;
    end.verify_for_usage(known, &roots.roots, intermediates, at, usage, revocation, None)
        .map(|_| ())
}

/// Whether the certificate is for a name.
pub fn is_for(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(end) = webpki::EndEntityCert::try_from(leaf) else { return false };
    // What stands for many is compared as it is written.
    let probe = name.strip_prefix("*.").map(|zone| format!("any.{zone}"));
    ServerName::try_from(probe.as_deref().unwrap_or(name))
        .is_ok_and(|name| end.verify_is_valid_for_subject_name(&name).is_ok())
}

/// A generation's record from what it is.
pub fn record(
    (name, number): (&str, u32),
    leaf: &Leaf,
    (origin, ca): (CertificateOrigin, &str),
    created_at: Timestamp,
) -> GenerationRecord {
    GenerationRecord {
        name: name.to_owned(),
        number,
        origin,
        ca: ca.to_owned(),
        identifiers: leaf.identifiers.clone(),
        serial: leaf.serial.clone(),
        fingerprint: leaf.fingerprint.clone(),
        issuer: leaf.issuer.clone(),
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        created_at,
        forced: false,
        proven_at: None,
        compromised_at: None,
        revoked_at: None,
    }
}

/// What is looked at before a certificate comes into service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What was looked at.
    pub item: &'static str,
    /// How it is: `Err` says what is wrong.
    pub outcome: Result<String, String>,
}

/// Looks at a certificate before it comes into service. `roots`: `None` where nobody vouches for it, as for one that the
/// agent made itself; `present`: the one in force, which a renewal must outlast.
pub fn preflight(
    (fullchain, key_pem): (&[u8], &[u8]),
    identifiers: &[String],
    roots: Option<&rustls::RootCertStore>,
    present: Option<&GenerationRecord>,
    now: Timestamp,
) -> Result<(Leaf, Vec<Checked>), String> {
    let chain = chain(fullchain)?;
    let leaf = leaf(&chain[0])?;
    let mut checks = vec![Checked {
        item: "key",
        outcome: key(key_pem)
            .and_then(|key| matches(&chain, &key))
            .map(|()| "is that of the certificate".to_owned()),
    }];
    if let Some(roots) = roots {
        let outcome = verifies(&chain, roots, now);
        checks.push(Checked {
            item: "chain",
            outcome: outcome.map(|()| format!("issued by {}", leaf.issuer)),
        });
    }
    let missing: Vec<&str> =
        identifiers.iter().filter(|it| !is_for(&chain[0], it)).map(String::as_str).collect();
    checks.push(Checked {
        item: "names",
        outcome: match missing.is_empty() {
            true => Ok(leaf.identifiers.join(", ")),
            false => Err(format!("it is not for {}", missing.join(", "))),
        },
    });
    checks.push(Checked { item: "expiry", outcome: lasts(&leaf, present, now) });
    Ok((leaf, checks))
}

fn lasts(
    leaf: &Leaf,
    present: Option<&GenerationRecord>,
    now: Timestamp,
) -> Result<String, String> {
    if leaf.not_after <= now {
        return Err(format!("it ended at {}", leaf.not_after));
    }
    // CAs date theirs back an hour; what begins in a while is of a wrong clock.
    if leaf.not_before > super::plan::plus(now, std::time::Duration::from_secs(300)) {
        return Err(format!("it begins at {}, which is still to come", leaf.not_before));
    }
    match present {
        Some(present) if leaf.not_before < present.not_before => {
            Err(format!("it is older than the one in force, which began at {}", present.not_before))
        }
        _ => Ok(format!("until {}", leaf.not_after)),
    }
}

/// A new key, in PEM; on P-256, or on P-384.
///
/// # Errors
/// When none can be made.
pub fn new_key(p384: bool) -> Result<String, rcgen::Error> {
    let algorithm =
        if p384 { &rcgen::PKCS_ECDSA_P384_SHA384 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
    Ok(KeyPair::generate_for(algorithm)?.serialize_pem())
}

/// The signing request for these names with a key in PEM, in DER.
///
/// # Errors
/// In words, without the key.
pub fn signing_request(identifiers: &[String], key: &[u8]) -> Result<Vec<u8>, String> {
    let text = String::from_utf8_lossy(key);
    let key =
        KeyPair::from_pem(&text).map_err(|_| "the key of the order can't be read".to_owned())?;
    let made = || -> Result<_, rcgen::Error> {
        let mut params = CertificateParams::new(identifiers.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(&key)
    };
    made()
        .map(|request| request.der().to_vec())
        .map_err(|error| format!("no request can be made: {error}"))
}
