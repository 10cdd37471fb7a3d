//! Certificates and keys as bytes.

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, SignatureAlgorithm,
};
use time::OffsetDateTime;

use super::super::material::{self, Checked, PEM_LIMIT, chain, is_for, key, leaf, preflight};
use super::host::root;
use super::*;

fn time_of(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at(second).as_second()).unwrap()
}

/// A chain with its root, and the key, in PEM.
struct Made {
    fullchain: Vec<u8>,
    key: Vec<u8>,
    roots: rustls::RootCertStore,
    root: String,
}

fn made(names: &[&str], (from, until): (i64, i64), sort: &'static SignatureAlgorithm) -> Made {
    let (issuer, pem) = root(at(4_000 * DAY));
    let mut params =
        CertificateParams::new(names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
            .unwrap();
    (params.not_before, params.not_after) = (time_of(from), time_of(until));
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate_for(sort).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(chain(pem.as_bytes()).unwrap());
    Made {
        fullchain: certificate.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
        roots,
        root: pem,
    }
}

fn usual() -> Made {
    made(&["gw.example.com"], (0, 90 * DAY), &PKCS_ECDSA_P256_SHA256)
}

/// One that people install for need, and its root.
pub(super) fn backup(names: &[&str], life: i64) -> ((Vec<u8>, Vec<u8>), String) {
    let made = made(names, (0, life * DAY), &PKCS_ECDSA_P256_SHA256);
    ((made.fullchain, made.key), made.root)
}

fn looked_at(
    made: &Made,
    names: &[&str],
    present: Option<&GenerationRecord>,
    now: i64,
) -> Vec<Checked> {
    let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
    let given = (made.fullchain.as_slice(), made.key.as_slice());
    preflight(given, &names, Some(&made.roots), present, at(now)).unwrap().1
}

/// The items that are wrong.
fn wrong(checks: &[Checked]) -> Vec<&'static str> {
    checks.iter().filter(|it| it.outcome.is_err()).map(|it| it.item).collect()
}

#[test]
fn what_is_right_passes_with_every_kind_of_key() {
    for sort in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let made = made(&["gw.example.com", "192.0.2.1", "2001:db8::1"], (0, 90 * DAY), sort);
        let names = ["gw.example.com", "192.0.2.1", "2001:db8::1"];
        assert_eq!(wrong(&looked_at(&made, &names, None, DAY)), [""; 0]);
        let leaf = leaf(&chain(&made.fullchain).unwrap()[0]).unwrap();
        assert_eq!(leaf.identifiers, ["192.0.2.1", "2001:db8::1", "gw.example.com"]);
        assert_eq!((leaf.not_before, leaf.not_after), (at(0), at(90 * DAY)));
        assert_eq!(leaf.fingerprint, material::fingerprint(&leaf.der));
        assert!(leaf.issuer.contains("the CA of a test"));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let gw: &[&str] = &["gw.example.com"];
    let life = |from, until| made(gw, (from, until), &PKCS_ECDSA_P256_SHA256);
    let present = generation(1, DAY, 90 * DAY);
    for (what, made, names, present, now, expected) in [
        ("right", usual(), gw, None, DAY, vec![]),
        ("another key", Made { key: usual().key, ..usual() }, gw, None, DAY, vec!["key"]),
        ("another root", Made { roots: usual().roots, ..usual() }, gw, None, DAY, vec!["chain"]),
        (
            "a key in its place",
            Made { key: usual().fullchain, ..usual() },
            gw,
            None,
            DAY,
            vec!["key"],
        ),
        ("for another name", usual(), &["x.example.com"][..], None, DAY, vec!["names"]),
        ("for one of two", usual(), &["gw.example.com", "x.example.com"], None, DAY, vec!["names"]),
        ("not for a wildcard", usual(), &["*.example.com"], None, DAY, vec!["names"]),
        ("ended", life(0, DAY), gw, None, DAY + 1, vec!["chain", "expiry"]),
        ("begins later", life(2 * DAY, 9 * DAY), gw, None, DAY, vec!["chain", "expiry"]),
        ("older than the one in force", usual(), gw, Some(&present), 2 * DAY, vec!["expiry"]),
        ("as old", life(DAY, 9 * DAY), gw, Some(&present), 2 * DAY, vec![]),
    ] {
        assert_eq!(wrong(&looked_at(&made, names, present, now)), expected, "{what}");
    }
    // Where nobody vouches for it, nobody is asked.
    let made = Made { roots: usual().roots, ..usual() };
    let names = ["gw.example.com".to_owned()];
    let (_, checks) = preflight((&made.fullchain, &made.key), &names, None, None, at(DAY)).unwrap();
    assert_eq!(wrong(&checks), [""; 0]);
}

#[test]
fn a_wildcard_is_for_one_label_and_for_itself() {
    let made = made(&["*.example.com"], (0, DAY), &PKCS_ECDSA_P256_SHA256);
    let leaf = &chain(&made.fullchain).unwrap()[0];
    for (name, expected) in [
        ("*.example.com", true),
        ("a.example.com", true),
        ("A.EXAMPLE.com", true),
        ("a.b.example.com", false),
        ("example.com", false),
        ("*.b.example.com", false),
        ("192.0.2.1", false),
        ("not a name", false),
        ("", false),
    ] {
        assert_eq!(is_for(leaf, name), expected, "{name}");
    }
}

#[test]
fn what_is_no_chain_is_refused_in_words() {
    let one = String::from_utf8(usual().fullchain).unwrap();
    let ten = one.repeat(10);
    assert_eq!(chain(ten.as_bytes()).map(|it| it.len()), Ok(10));
    assert_eq!(chain(one.replace('\n', "\r\n").as_bytes()).map(|it| it.len()), Ok(1));
    let huge = format!("{one}{}", "#\n".repeat(PEM_LIMIT / 2));
    for (text, part) in [
        ("", "there is no certificate in it"),
        ("garbage", "there is no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "no PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "no PEM"),
        (&one.repeat(11), "11 certificates"),
        (&huge, "bytes"),
    ] {
        let why = chain(text.as_bytes()).unwrap_err();
        assert!(why.contains(part), "{why}");
    }
    // What is in PEM and no certificate.
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let why = leaf(&chain(text.as_bytes()).unwrap()[0]).unwrap_err();
    assert!(why.contains("no X.509"), "{why}");
}

#[test]
fn certificates_are_written_as_openssl_writes_them_and_a_key_among_them_is_refused() {
    let made = usual();
    let alone = material::chain_alone(&made.fullchain).unwrap();
    let lines = |text: &[u8]| -> Vec<String> {
        String::from_utf8(text.to_vec()).unwrap().lines().map(str::to_owned).collect()
    };
    assert_eq!(lines(&alone), lines(&made.fullchain));
    assert!(lines(&alone).iter().all(|line| line.len() <= 64));
    assert_eq!(chain(&alone), chain(&made.fullchain));
    let kinds = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];
    for kind in kinds {
        let key = format!("-----BEGIN {kind}-----\nc2VjcmV0\n-----END {kind}-----\n");
        for both in [
            [made.fullchain.as_slice(), key.as_bytes()].concat(),
            [key.as_bytes(), made.fullchain.as_slice()].concat(),
        ] {
            let why = material::chain_alone(&both).unwrap_err();
            assert!(why.contains("private key") && !why.contains("c2Vj"), "{why}");
        }
    }
}

#[test]
fn what_is_no_key_is_refused_without_a_word_of_it() {
    let secret = "c2VjcmV0c2VjcmV0";
    let texts = [
        String::new(),
        secret.to_owned(),
        format!(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{secret}\n-----END ENCRYPTED PRIVATE KEY-----\n"
        ),
        format!("-----BEGIN PRIVATE KEY-----\n{secret}!\n-----END PRIVATE KEY-----\n"),
        secret.repeat(PEM_LIMIT),
    ];
    for text in &texts {
        let why = key(text.as_bytes()).unwrap_err();
        assert!(!why.contains(&secret[..6]), "{why}");
    }
    // A key in PEM that is none.
    let text = format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n");
    let parsed = key(text.as_bytes()).unwrap();
    let why = material::matches(&chain(&usual().fullchain).unwrap(), &parsed).unwrap_err();
    assert_eq!(why, "its key is of a kind that is not known");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reading_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), cut in 0usize..2_000, flip in 0usize..2_000) {
        let _ = chain(&bytes);
        let _ = key(&bytes);
        let mut pem = SAMPLE.fullchain.clone();
        let flip = flip % pem.len();
        pem[flip] ^= 1;
        pem.truncate(pem.len() - cut % pem.len());
        let names = ["gw.example.com".to_owned()];
        let _ = preflight((&pem, &SAMPLE.key), &names, Some(&SAMPLE.roots), None, at(DAY));
    }
}

static SAMPLE: std::sync::LazyLock<Made> = std::sync::LazyLock::new(usual);
