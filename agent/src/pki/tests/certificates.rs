//! What is in certificates and revocation lists, read with x509-parser and verified with rustls.

use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

/// Subject alternative names, as text.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().unwrap().expect("there are names");
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => format!("uri {uri}"),
        GeneralName::DNSName(name) => format!("dns {name}"),
        GeneralName::IPAddress(bytes) => format!("ip {bytes:?}"),
        other => panic!("{other:?} has no place here"),
    };
    extension.value.general_names.iter().map(text).collect()
}

fn common_name(certificate: &X509Certificate<'_>) -> String {
    let names: Vec<&str> =
        certificate.subject().iter_common_name().map(|name| name.as_str().unwrap()).collect();
    names.join(" ")
}

#[test]
fn a_client_certificate_holds_its_identity_and_nothing_more() {
    let (_home, pki) = pki();
    let issued = pki.issue(&client("olga", Role::Operator), now()).unwrap();
    let der = der(&issued.certificate_pem);
    let (rest, certificate) = X509Certificate::from_der(&der).unwrap();
    assert!(rest.is_empty());
    assert_eq!(common_name(&certificate), "olga");
    assert_eq!(names(&certificate), ["uri genesis://prod/operator/olga"]);
    assert_eq!(issued.entry.uri, "genesis://prod/operator/olga");

    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth);
    assert!(!usage.server_auth && !usage.any && usage.other.is_empty());
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert_eq!(usage.value.flags, 1, "digitalSignature is the first bit");
    assert!(!certificate.is_ca());

    let validity = certificate.validity();
    assert_eq!(validity.not_before.timestamp(), at("2024-03-01T11:55:00Z").as_second());
    assert_eq!(validity.not_after.timestamp(), at("2025-03-01T12:00:00Z").as_second());
    assert_eq!(issued.entry.not_before, at("2024-03-01T11:55:00Z"));
    assert_eq!(issued.entry.not_after, at("2025-03-01T12:00:00Z"));

    let serial = certificate.raw_serial();
    assert_eq!(serial, issued.entry.serial.as_bytes(), "one form in DER and in the register");
    assert!(serial[0] < 0x80, "positive");
    assert_eq!(certificate.public_key().algorithm.algorithm.to_id_string(), "1.2.840.10045.2.1");
}

#[test]
fn a_server_certificate_holds_its_hosts_and_its_identity() {
    let (_home, pki) = pki();
    let hosts = ["Web.Example.COM", "10.0.0.7", "fd00::1", "web-1"];
    let issued = pki.issue(&server("web-1", &hosts), now()).unwrap();
    let der = der(&issued.certificate_pem);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(common_name(&certificate), "web-1");
    let address = "ip [253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]";
    let wanted = [
        "dns web-1",
        "dns web.example.com",
        "ip [10, 0, 0, 7]",
        address,
        "uri genesis://prod/agent/web-1",
    ];
    assert_eq!(names(&certificate), wanted, "each host once");
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth);
    assert!(!usage.client_auth && !usage.any && usage.other.is_empty());
    assert_eq!(certificate.key_usage().unwrap().unwrap().value.flags, 1);
}

#[test]
fn the_ca_may_sign_certificates_and_lists_and_nothing_else() {
    let (_home, pki) = pki();
    let pem = String::from_utf8(bytes(&pki, CA)).unwrap();
    let der = der(&pem);
    let (_, ca) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(common_name(&ca), "prod");
    let usage = ca.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    let constraints = ca.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca);
    assert_eq!(constraints.path_len_constraint, Some(0));
    let ends = at("2024-03-01T12:00:00Z") + days(3650);
    assert_eq!(ca.validity().not_after.timestamp(), ends.as_second());
    assert_eq!(ca.validity().not_before.timestamp(), at("2024-03-01T11:55:00Z").as_second());
    assert!(
        ca.extensions()
            .iter()
            .all(|entry| !matches!(entry.parsed_extension(), ParsedExtension::ExtendedKeyUsage(_)))
    );
}

#[test]
fn two_cas_of_one_fleet_differ_in_name_so_that_their_lists_are_not_mistaken() {
    let ((_one, first), (_other, second)) = (pki(), pki());
    let subject = |pki: &Pki| pki.overview(now()).unwrap().ca.subject;
    assert_ne!(subject(&first), subject(&second));

    // Both in force, as while one takes the place of the other.
    let mut both = RootCertStore::empty();
    for pki in [&first, &second] {
        both.add(CertificateDer::from_pem_slice(&bytes(pki, CA)).unwrap()).unwrap();
    }
    let lists = [&first, &second].into_iter().flat_map(|pki| crls(pki.dir()));
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(both), provider())
        .with_crls(lists)
        .build()
        .unwrap();
    for pki in [&first, &second] {
        let issued = pki.issue(&client("olga", Role::Viewer), now()).unwrap();
        let chain = der(&issued.certificate_pem);
        verifier.verify_client_cert(&chain, &[], unix(now())).unwrap();
    }
}

#[test]
fn certificates_are_taken_for_what_they_are_and_for_nothing_else() {
    let (_home, pki) = pki();
    let dir = pki.dir();
    let olga = pki.issue(&client("olga", Role::Admin), now()).unwrap().certificate_pem;
    let web = pki.issue(&server("web-1", &["10.0.0.7"]), now()).unwrap().certificate_pem;
    as_client(dir, &olga, now()).unwrap();
    as_server(dir, &web, "web-1", now()).unwrap();
    as_server(dir, &web, "10.0.0.7", now()).unwrap();
    assert!(matches!(
        refused(as_server(dir, &web, "web-2", now())),
        CertificateError::NotValidForNameContext { .. }
    ));
    assert!(matches!(
        refused(as_client(dir, &web, now())),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }
    ));
    assert!(as_server(dir, &olga, "olga", now()).is_err());

    let (_elsewhere, other) = super::pki();
    assert_eq!(refused(as_client(other.dir(), &olga, now())), CertificateError::UnknownIssuer);

    let year = now() + days(366);
    pki.sign_crl(30, year).unwrap();
    assert!(matches!(
        refused(as_client(dir, &olga, year)),
        CertificateError::Expired | CertificateError::ExpiredContext { .. }
    ));
}

#[test]
fn a_host_whose_clock_is_five_minutes_behind_takes_a_new_certificate() {
    let (_home, pki) = pki();
    let olga = pki.issue(&client("olga", Role::Viewer), now()).unwrap().certificate_pem;
    as_client(pki.dir(), &olga, now() - SignedDuration::from_secs(299)).unwrap();
    let early = as_client(pki.dir(), &olga, now() - SignedDuration::from_secs(302));
    assert!(matches!(
        refused(early),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }
    ));
}

#[test]
fn a_revoked_certificate_is_refused_and_others_are_not() {
    let (_home, pki) = pki();
    let dir = pki.dir();
    let olga = pki.issue(&client("olga", Role::Admin), now()).unwrap().certificate_pem;
    let paul = pki.issue(&client("paul", Role::Admin), now()).unwrap().certificate_pem;
    let web = pki.issue(&server("web-1", &[]), now()).unwrap().certificate_pem;
    for (name, reason) in [("olga", Reason::KeyCompromise), ("web-1", Reason::Unspecified)] {
        pki.revoke(name, reason, CRL_DAYS, now()).unwrap();
    }
    assert_eq!(refused(as_client(dir, &olga, now())), CertificateError::Revoked);
    assert_eq!(refused(as_server(dir, &web, "web-1", now())), CertificateError::Revoked);
    as_client(dir, &paul, now()).unwrap();
}

#[test]
fn a_list_is_due_when_it_was_asked_to_be() {
    let (_home, pki) = pki();
    let olga = pki.issue(&client("olga", Role::Admin), now()).unwrap().certificate_pem;
    pki.issue(&client("paul", Role::Admin), now()).unwrap();
    let crl = || pki.overview(now()).unwrap().crl.unwrap();
    assert_eq!((crl().number, crl().revoked.len()), (1, 0), "the first list revokes nothing");
    assert_eq!(crl().next_update, at("2024-03-31T12:00:00Z"));
    pki.revoke("paul", Reason::Cessation, 7, now()).unwrap();
    assert_eq!((crl().number, crl().next_update), (2, at("2024-03-08T12:00:00Z")));

    let late = at("2024-03-09T00:00:00Z");
    assert!(matches!(
        refused(as_client(pki.dir(), &olga, late)),
        CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. }
    ));
    assert_eq!(pki.sign_crl(14, late).unwrap(), 3);
    assert_eq!(crl().next_update, at("2024-03-23T00:00:00Z"));
    as_client(pki.dir(), &olga, late).unwrap();
}

#[test]
fn a_request_may_set_both_ends_of_the_validity() {
    let (_home, pki) = pki();
    let between = |from: &str, to: &str| IssueRequest {
        validity: Validity::Between { not_before: at(from), not_after: at(to) },
        ..client("olga", Role::Viewer)
    };
    let over =
        pki.issue(&between("2023-01-01T00:00:00Z", "2023-02-01T00:00:00.9Z"), now()).unwrap();
    assert_eq!(over.entry.not_before, at("2023-01-01T00:00:00Z"));
    assert_eq!(over.entry.not_after, at("2023-02-01T00:00:00Z"));
    assert!(matches!(
        refused(as_client(pki.dir(), &over.certificate_pem, now())),
        CertificateError::Expired | CertificateError::ExpiredContext { .. }
    ));
    let backwards = between("2023-02-01T00:00:00Z", "2023-01-01T00:00:00Z");
    assert_eq!(code(pki.issue(&backwards, now())), "PKI_VALIDITY_INVALID");
    let beyond = between("2024-01-01T00:00:00Z", "2034-03-01T00:00:00Z");
    assert_eq!(code(pki.issue(&beyond, now())), "PKI_VALIDITY_INVALID", "it outlives the CA");
    assert_eq!(pki.list().unwrap().len(), 1, "what is refused is not on record");
}

#[test]
fn serial_numbers_and_keys_are_never_the_same() {
    let (_home, pki) = pki();
    let issued: Vec<Issued> =
        (0..20).map(|_| pki.issue(&client("olga", Role::Viewer), now()).unwrap()).collect();
    let serials: std::collections::BTreeSet<Serial> =
        issued.iter().map(|issued| issued.entry.serial).collect();
    let keys: std::collections::BTreeSet<&str> =
        issued.iter().map(|issued| issued.key_pem.as_str()).collect();
    assert_eq!((serials.len(), keys.len()), (20, 20));
    // The first halves differ as well: it is not a counter.
    let heads: std::collections::BTreeSet<&[u8]> =
        serials.iter().map(|serial| &serial.as_bytes()[..8]).collect();
    assert_eq!(heads.len(), 20);
}
