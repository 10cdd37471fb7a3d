//! Names, validities, findings: tables for the pure parts.

use super::*;
use crate::pki::names::{Host, check_name, check_node, host, server_hosts};
use crate::pki::register::{check_clock, findings};

#[test]
fn names_are_what_fits_into_a_file_name_and_an_identity() {
    let longest = "a".repeat(63);
    for name in ["a", "7", "web-1", "web-1.eu.example.com", "a-", "a..b", &longest] {
        check_name("the name", name).unwrap();
    }
    let long = "a".repeat(64);
    for name in [
        "", ".", "..", ".a", "-a", "A", "Web", "a b", "a/b", "../a", "a_b", "ä", "a\n", "a\0",
        "a:b", "a%2f", "a@b", &long,
    ] {
        let error = check_name("the name", name).unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Invalid, "PKI_NAME_INVALID"), "{name:?}");
    }
}

#[test]
fn names_that_are_refused_leave_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("pki");
    assert_eq!(code(Pki::init(&dir, &init_request("Prod"), now())), "PKI_NAME_INVALID");
    assert!(!dir.exists());
    let pki = Pki::init(&dir, &init_request("prod"), now()).unwrap();
    assert_eq!(code(pki.issue(&client("../olga", Role::Viewer), now())), "PKI_NAME_INVALID");
    let hosted = IssueRequest { hosts: vec!["web-1".into()], ..client("olga", Role::Viewer) };
    assert_eq!(code(pki.issue(&hosted, now())), "PKI_HOST_INVALID");
    assert!(pki.list().unwrap().is_empty());
}

#[test]
fn hosts_are_what_a_client_can_ask_for() {
    let dns = |name: &str| Some(Host::Dns(name.to_owned()));
    for (text, wanted) in [
        ("web-1", dns("web-1")),
        ("WEB.Example.com", dns("web.example.com")),
        ("10.0.0.7", Some(Host::Ip("10.0.0.7".parse().unwrap()))),
        ("fd00::1", Some(Host::Ip("fd00::1".parse().unwrap()))),
        ("web.", None),
        ("a..b", None),
        ("web-1:7443", None),
        ("[fd00::1]", None),
        ("", None),
        ("*.example.com", None),
        ("10.0.0.300", None),
        ("https://web", None),
    ] {
        assert_eq!(host(text), wanted, "{text:?}");
    }
    assert_eq!(server_hosts("a..b", &["b".into()]).unwrap(), [Host::Dns("b".into())]);
    for (name, hosts) in [("a..b", vec![]), ("web-1", vec!["*.example.com".to_owned()])] {
        assert_eq!(code(server_hosts(name, &hosts)), "PKI_HOST_INVALID", "{name} {hosts:?}");
    }
}

#[test]
fn nodes_are_a_host_and_a_port() {
    for node in ["web-1:7443", "10.0.0.7:7443", "[fd00::1]:7443", "web.example.com:1"] {
        check_node(node).unwrap();
    }
    for node in [
        "web-1",
        "web-1:",
        "web-1:0",
        "web-1:65536",
        ":7443",
        "fd00::1:7443",
        "[web]:7443",
        "a b:1",
        "https://web:7443",
        "",
    ] {
        assert_eq!(code(check_node(node)), "PKI_NODE_INVALID", "{node:?}");
    }
}

#[test]
fn serial_numbers_are_read_as_others_print_them() {
    let plain = "1eb002bed638d97d12a87343c03e2673";
    let serial: Serial = plain.parse().unwrap();
    assert_eq!(serial.to_string(), plain);
    let upper = plain.to_ascii_uppercase();
    let colons = "1E:B0:02:BE:D6:38:D9:7D:12:A8:73:43:C0:3E:26:73";
    for text in [upper.as_str(), colons] {
        assert_eq!(text.parse(), Ok(serial), "{text}");
    }
    let high = format!("8{}", &plain[1..]);
    let zero = format!("00{}", &plain[2..]);
    for text in ["", "1e", "olga", &plain[1..], &high, &zero] {
        assert!(text.parse::<Serial>().is_err(), "{text:?}");
    }
}

#[test]
fn days_of_a_validity_have_a_range() {
    for wrong in [0, 36_501, u32::MAX] {
        assert_eq!(code(Validity::Days(wrong).instants(now())), "PKI_VALIDITY_INVALID", "{wrong}");
    }
    let (from, to) = Validity::Days(36_500).instants(now()).unwrap();
    assert_eq!((from, to), (at("2024-03-01T11:55:00Z"), at("2024-03-01T12:00:00Z") + days(36_500)));
    assert_eq!(code(Validity::Days(36_500).instants(Timestamp::MAX)), "PKI_VALIDITY_INVALID");
}

#[test]
fn days_left_are_whole_days() {
    let then = at("2024-03-02T12:00:00Z");
    for (text, left) in [
        ("2024-03-01T12:00:00Z", 1),
        ("2024-03-01T12:00:01Z", 0),
        ("2024-03-02T12:00:00Z", 0),
        ("2024-03-02T12:00:01Z", -1),
        ("2024-03-04T12:00:01Z", -3),
    ] {
        assert_eq!(days_left(at(text), then), left, "{text}");
    }
}

#[test]
fn a_clock_outside_the_cas_time_is_refused() {
    let (from, to) = (at("2024-01-01T00:00:00Z"), at("2025-01-01T00:00:00Z"));
    check_clock(from, from, to).unwrap();
    check_clock(at("2024-12-31T23:59:59Z"), from, to).unwrap();
    for (clock, wanted) in
        [("2023-12-31T23:59:59Z", "PKI_CLOCK_WRONG"), ("2025-01-01T00:00:00Z", "PKI_CA_EXPIRED")]
    {
        let error = check_clock(at(clock), from, to).unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Refused, wanted));
        assert!(error.message.contains(clock), "the clock is shown: {}", error.message);
    }
}

/// An entry that ends so many days from `now()`.
fn entry(number: u8, name: &str, role: Role, ends_in: i64) -> Entry {
    Entry {
        serial: Serial::from_random([number; 16]).unwrap(),
        name: name.into(),
        role,
        uri: names::identity("prod", role, name),
        hosts: Vec::new(),
        issued_at: now(),
        not_before: now() - days(1),
        not_after: now() + days(ends_in),
        sha256: String::new(),
        revoked: None,
    }
}

fn revoked(mut entry: Entry) -> Entry {
    entry.revoked = Some(Revocation { at: now(), reason: Reason::Superseded });
    entry
}

#[test]
fn findings_are_about_what_somebody_still_needs() {
    use Role::{Admin, Agent};
    let cases: [(&str, Vec<Entry>, &[&str]); 9] = [
        ("nothing issued", vec![], &[]),
        ("far from its end", vec![entry(1, "olga", Admin, 31)], &[]),
        ("close to its end", vec![entry(1, "olga", Admin, 30)], &["olga"]),
        ("over", vec![entry(1, "olga", Admin, -1)], &["olga"]),
        ("over, and revoked", vec![revoked(entry(1, "olga", Admin, -1))], &[]),
        ("over, and renewed", vec![entry(1, "olga", Admin, -1), entry(2, "olga", Admin, 300)], &[]),
        (
            "close to its end, its successor revoked",
            vec![entry(1, "olga", Admin, 10), revoked(entry(2, "olga", Admin, 300))],
            &["olga"],
        ),
        (
            "a server is not renewed by a client of its name",
            vec![entry(1, "web", Agent, 5), entry(2, "web", Admin, 300)],
            &["web"],
        ),
        (
            "two that end at once are one",
            vec![entry(1, "olga", Admin, 5), entry(2, "olga", Admin, 5)],
            &["olga"],
        ),
    ];
    for (title, entries, wanted) in cases {
        let found = findings(now(), now() + days(1000), Some(now() + days(20)), &entries);
        let subjects: Vec<&str> = found.iter().map(|finding| finding.subject.as_str()).collect();
        assert_eq!(subjects, wanted, "{title}");
    }
    for (ca, crl, wanted) in [
        (91, Some(8), &[][..]),
        (90, Some(8), &["ca"]),
        (-1, Some(8), &["ca"]),
        (91, Some(7), &["crl"]),
        (91, Some(-1), &["crl"]),
        (91, None, &["crl"]),
    ] {
        let found = findings(now(), now() + days(ca), crl.map(|left| now() + days(left)), &[]);
        let subjects: Vec<&str> = found.iter().map(|finding| finding.subject.as_str()).collect();
        assert_eq!(subjects, wanted, "ca {ca}, crl {crl:?}");
    }
}
