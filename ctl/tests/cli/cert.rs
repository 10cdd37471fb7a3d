//! `cert` where it only looks.

use std::collections::HashMap;

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Code;

use crate::fake::{Certificates, Fake, Script, refusal};
use crate::{at, ctl, folder, squeezed};

const DAY: i64 = 24 * 3600;

pub(crate) fn lasting(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn generation(number: u32) -> CertificateGeneration {
    CertificateGeneration {
        number,
        origin: CertificateOrigin::Acme.into(),
        ca: "letsencrypt".into(),
        identifiers: vec!["api.example.com".into()],
        serial: "03ab".into(),
        fingerprint: "5f3a".into(),
        issuer: "CN=R11".into(),
        not_before: at(0),
        not_after: at(90 * DAY),
        created_at: at(60),
        proven_at: at(120),
        usable: true,
        ..Default::default()
    }
}

/// One that is as it should be.
pub(crate) fn proven() -> Certificate {
    Certificate {
        name: "api".into(),
        domains: vec!["api.example.com".into(), "www.example.com".into()],
        state: CertificateState::Proven.into(),
        summary: "due in 29 days \u{1b}[2J".into(),
        current: Some(CertificateGeneration { current: true, ..generation(4) }),
        left: lasting(59 * DAY + 4 * 3600),
        due_at: at(60 * DAY),
        cas: vec!["letsencrypt".into(), "zerossl".into()],
        challenge: "http-01".into(),
        probe: "api.example.com:443".into(),
        served: Truth::Pass.into(),
        served_evidence: "leaf 5f3a".into(),
        ..Default::default()
    }
}

/// One with all that can be wrong.
fn troubled() -> Certificate {
    Certificate {
        name: "old".into(),
        domains: vec!["old.example.com".into()],
        state: CertificateState::Backoff.into(),
        summary: "next try at 03:00".into(),
        earlier: vec![CertificateGeneration {
            compromised_at: at(200),
            usable: false,
            unusable_why: "its key is known to others".into(),
            ..generation(3)
        }],
        backup: Some(CertificateGeneration {
            number: 0,
            origin: CertificateOrigin::Backup.into(),
            ca: String::new(),
            proven_at: None,
            ..generation(0)
        }),
        left: lasting(-3 * 3600),
        due_by_ca: true,
        due_explanation: "https://ca.example/incident".into(),
        held_until: at(300),
        trouble: CertificateTrouble::Authorization.into(),
        last_error: "no such record".into(),
        last_attempt_at: at(250),
        failures: 2,
        pinned_at: at(100),
        pinned_by: "olga".into(),
        deployments: vec![CertificateDeployment {
            content: "fullchain".into(),
            path: "/etc/nginx/old.pem".into(),
        }],
        served: Truth::Fail.into(),
        served_evidence: "leaf 0000".into(),
        diagnosis: vec![Finding {
            code: "DNS_WRONG".into(),
            subject: "old.example.com".into(),
            message: "set A to 203.0.113.9".into(),
        }],
        run_id: "01J0000000000000000000000A".into(),
        self_signed_since: at(150),
        ..proven()
    }
}

pub(crate) fn listed(certificates: &[Certificate]) -> ListCertificatesResponse {
    ListCertificatesResponse {
        certificates: certificates.to_vec(),
        next_check_at: at(2 * 3600),
        splay: lasting(12 * 60),
    }
}

pub(crate) fn agent(certificates: Certificates) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { certificates, ..Default::default() });
    (folder, fake)
}

fn listing(certificates: &[Certificate]) -> (tempfile::TempDir, Fake) {
    agent(Certificates { listed: listed(certificates), ..Default::default() })
}

#[test]
fn certificates_are_listed_with_what_is_wrong_of_them() {
    let (_folder, fake) = listing(&[proven(), troubled()]);
    let node = fake.node();
    let list = ctl(&["cert", "list", "-n", &node]);
    assert_eq!(list.exit, Exit::Findings, "{}", list.stderr);
    assert_eq!(
        squeezed(list.out()),
        [
            "NAME DOMAINS STATE SERVED LEFT GEN CA DUE NOTE",
            "api api.example.com, www.example.com PROVEN PASS 59d 4h 4 letsencrypt 1970-03-02T00:00:00Z due in 29 \
             days \\x1b[2J",
            "old old.example.com BACKOFF FAIL expired 3h ago 4 letsencrypt 1970-03-02T00:00:00Z another one is \
             served: leaf 0000; pinned; next try at 03:00; run 01J0000000000000000000000A goes on",
            "next check at 1970-01-01T02:00:00Z, 12m after its schedule",
        ]
    );
    let long = ctl(&["cert", "list", "--domain", "api.example.com", "-v", "-n", &node]);
    for shown in ["03ab", "CN=R11", "api.example.com:443", "1970-04-01T00:00:00Z"] {
        assert!(long.out().contains(shown), "lacks {shown}: {}", long.out());
    }
    let json = ctl(&["cert", "list", "-o", "json", "-n", &node]);
    assert_eq!(json.exit, Exit::Findings);
    let json = json.json();
    assert_eq!((&json[0]["ok"], &json[0]["error"]), (&true.into(), &serde_json::Value::Null));
    let two = &json[0]["response"]["certificates"][1];
    assert_eq!(two["state"], "CERTIFICATE_STATE_BACKOFF");
    assert_eq!((&two["left"], &two["served"]), (&"-10800s".into(), &"TRUTH_FAIL".into()));
    assert_eq!(json[0]["response"]["nextCheckAt"], "1970-01-01T02:00:00Z");
    let lines = ctl(&["cert", "list", "-o", "jsonl", "-n", &node]);
    assert_eq!(lines.out().lines().count(), 1);
    assert_eq!(fake.calls()[..2], ["ListCertificates", "ListCertificates api.example.com"]);
    // Several nodes have rows of one table.
    let (_other, other) = listing(&[proven()]);
    let both = ctl(&["cert", "list", "-n", &format!("{node},{}", other.node())]);
    assert_eq!(both.exit, Exit::SomeFailed, "{}", both.stderr);
    assert_eq!(squeezed(both.out()).len(), 4, "{}", both.out());
}

#[test]
fn where_there_is_none_it_is_said() {
    let (_folder, fake) = listing(&[]);
    for command in [&["list"][..], &["show"], &["verify"], &["history"], &["budget"]] {
        let outcome = ctl(&[&["cert"], command, &["-n", &fake.node()]].concat());
        assert_eq!(outcome.exit, Exit::Ok, "{command:?}");
        assert!(outcome.out().is_empty() && !outcome.stderr.is_empty(), "{command:?}");
    }
}

#[test]
fn what_is_wrong_of_a_certificate_decides_the_exit_code() {
    use CertificateState as S;
    let of = |state: S, seconds: i64, served: Truth| Certificate {
        state: state.into(),
        left: lasting(seconds),
        served: served.into(),
        ..proven()
    };
    let marked = |mark: fn(&mut CertificateGeneration)| {
        let mut certificate = proven();
        mark(certificate.current.as_mut().unwrap());
        certificate
    };
    let without = |state: S| Certificate {
        state: state.into(),
        current: None,
        left: None,
        served: Truth::Unknown.into(),
        ..proven()
    };
    for (certificate, exit) in [
        (proven(), Exit::Ok),
        (of(S::Due, DAY, Truth::Pass), Exit::Ok),
        (of(S::Proven, DAY, Truth::Unknown), Exit::Ok),
        (of(S::Deployed, DAY, Truth::Unspecified), Exit::Ok),
        (of(S::Backoff, 8 * DAY, Truth::Pass), Exit::Ok),
        (of(S::Backoff, 7 * DAY - 1, Truth::Pass), Exit::Findings),
        (of(S::Proven, 30 * DAY, Truth::Fail), Exit::Findings),
        (of(S::Due, 0, Truth::Pass), Exit::Findings),
        (of(S::Due, -1, Truth::Pass), Exit::Findings),
        (of(S::DegradedSelfSigned, 90 * DAY, Truth::Pass), Exit::Findings),
        (marked(|current| current.compromised_at = at(1)), Exit::Findings),
        (marked(|current| current.revoked_at = at(1)), Exit::Findings),
        (without(S::Absent), Exit::Findings),
        (without(S::Ordering), Exit::Findings),
        (without(S::Backoff), Exit::Findings),
        (of(S::Unspecified, 30 * DAY, Truth::Fail), Exit::Unknown),
        (Certificate { left: None, ..proven() }, Exit::Unknown),
    ] {
        for command in ["list", "show"] {
            let (_folder, fake) = listing(&[proven(), certificate.clone()]);
            let outcome = ctl(&["cert", command, "-n", &fake.node()]);
            assert_eq!(outcome.exit, exit, "{command} {certificate:?}");
        }
    }
    // What is unknown beats what is wrong, as anywhere.
    let both = [of(S::Unspecified, DAY, Truth::Pass), of(S::Due, -1, Truth::Pass)];
    let (_folder, fake) = listing(&both);
    assert_eq!(ctl(&["cert", "list", "-n", &fake.node()]).exit, Exit::Unknown);
}

#[test]
fn the_time_left_reads_well() {
    for (left, shown) in [
        (lasting(29 * DAY + 4 * 3600), "29d 4h"),
        (lasting(90), "1m 30s"),
        (Some(prost_types::Duration { seconds: 0, nanos: 5 }), "less than 1s"),
        (lasting(0), "expired now"),
        (Some(prost_types::Duration { seconds: 0, nanos: -5 }), "expired now"),
        (lasting(-3 * 3600), "expired 3h ago"),
        (lasting(i64::MIN), "expired 106751991167300d 15h ago"),
    ] {
        let (_folder, fake) = listing(&[Certificate { left, ..proven() }]);
        let outcome = ctl(&["cert", "list", "-n", &fake.node()]);
        assert!(outcome.out().contains(shown), "{shown}: {}", outcome.out());
    }
}

#[test]
fn all_that_is_known_of_one_is_shown() {
    let (_folder, fake) = listing(&[troubled()]);
    let node = fake.node();
    let show = ctl(&["cert", "show", "old.example.com", "-n", &node]);
    assert_eq!(show.exit, Exit::Findings);
    assert_eq!(fake.calls(), ["ListCertificates old.example.com"]);
    assert_eq!(
        squeezed(show.out()),
        [
            "old",
            "domains: old.example.com",
            "state: BACKOFF: next try at 03:00",
            "in force: generation 4, until 1970-04-01T00:00:00Z (left: expired 3h ago)",
            "served: FAIL at api.example.com:443: leaf 0000",
            "due: 1970-03-02T00:00:00Z, as its CA asks: see https://ca.example/incident",
            "last attempt: 1970-01-01T00:04:10Z: it failed, 2 times now, since the CA can't see that the host has \
             the domain: no such record",
            "next attempt: not before 1970-01-01T00:05:00Z",
            "pinned: since 1970-01-01T00:01:40Z by olga: `genesisctl cert unpin` ends it",
            "self-signed: since 1970-01-01T00:02:30Z; clients don't trust it",
            "run: 01J0000000000000000000000A goes on: `genesisctl run watch 01J0000000000000000000000A` follows it",
            "ordered from: letsencrypt, then zerossl, by http-01",
            "what is still allowed: `genesisctl cert budget --domain old`",
            "",
            "old: what was found out about the failure",
            "DNS_WRONG old.example.com: set A to 203.0.113.9",
            "",
            "old: generations",
            "GEN PLACE ORIGIN CA BEGINS ENDS LAST SERVED USABLE",
            "4 in force ordered letsencrypt 1970-01-01T00:00:00Z 1970-04-01T00:00:00Z 1970-01-01T00:02:00Z yes",
            "3 earlier ordered letsencrypt 1970-01-01T00:00:00Z 1970-04-01T00:00:00Z 1970-01-01T00:02:00Z no: \
             compromised since 1970-01-01T00:03:20Z; its key is known to others",
            "- backup by hand - 1970-01-01T00:00:00Z 1970-04-01T00:00:00Z never yes",
            "",
            "old: deployed copies",
            "CONTENT PATH",
            "fullchain /etc/nginx/old.pem",
            "",
            "next check at 1970-01-01T02:00:00Z, 12m after its schedule",
        ]
    );
    let long = ctl(&["cert", "show", "-v", "-n", &node]);
    for shown in ["5f3a", "03ab", "CN=R11", "FINGERPRINT"] {
        assert!(long.out().contains(shown), "lacks {shown}: {}", long.out());
    }
    let json = ctl(&["cert", "show", "old", "-o", "json", "-n", &node]).json();
    let one = &json[0]["response"]["certificates"][0];
    assert_eq!(one["earlier"][0]["unusableWhy"], "its key is known to others");
    // What is not there is not shown.
    let plain = Certificate { probe: String::new(), served: Truth::Unknown.into(), ..proven() };
    let (_folder, fake) = listing(&[plain]);
    let show = ctl(&["cert", "show", "-n", &fake.node()]);
    assert_eq!(show.exit, Exit::Ok, "{}", show.stderr);
    assert!(show.out().contains("served: nobody looks, since no probe is configured"));
    for absent in ["pinned", "self-signed", "attempt", "run:", "copies", "found out"] {
        assert!(!show.out().contains(absent), "has {absent}: {}", show.out());
    }
}

fn verified(checks: &[(&str, Truth)], truth: Truth) -> VerifyCertificatesResponse {
    let check = |(item, truth): &(&str, Truth)| CertificateCheck {
        item: (*item).into(),
        truth: (*truth).into(),
        evidence: format!("{item} was looked at"),
    };
    let checks = checks.iter().map(check).collect();
    let api = VerifiedCertificate { name: "api".into(), truth: truth.into(), checks };
    VerifyCertificatesResponse { certificates: vec![api] }
}

#[test]
fn each_item_is_verified_with_its_evidence() {
    let items = [("key", Truth::Pass), ("chain", Truth::Pass), ("served", Truth::Fail)];
    let verified = verified(&items, Truth::Fail);
    let (_folder, fake) = agent(Certificates { verified, ..Default::default() });
    let node = fake.node();
    let outcome = ctl(&["cert", "verify", "--domain", "api", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Findings, "{}", outcome.stderr);
    assert_eq!(
        squeezed(outcome.out()),
        [
            "api: FAIL (3 items: 2 PASS, 1 FAIL)",
            "NAME ITEM STATE EVIDENCE",
            "api served FAIL served was looked at",
            "api key PASS key was looked at",
            "api chain PASS chain was looked at",
        ]
    );
    assert_eq!(fake.calls(), ["VerifyCertificates api"]);
    let json = ctl(&["cert", "verify", "-o", "json", "-n", &node]);
    assert_eq!(json.exit, Exit::Findings);
    let one = &json.json()[0]["response"]["certificates"][0];
    assert_eq!(
        (&one["truth"], &one["checks"][2]["item"]),
        (&"TRUTH_FAIL".into(), &"served".into())
    );
}

#[test]
fn what_can_not_be_verified_is_no_pass() {
    use Truth::{Fail, Pass, Unknown, Unspecified};
    for (items, truth, exit) in [
        (&[("key", Pass)][..], Pass, Exit::Ok),
        (&[("key", Pass), ("served", Unknown)], Unknown, Exit::Unknown),
        (&[("key", Fail), ("served", Unknown)], Fail, Exit::Unknown),
        (&[("key", Fail)], Fail, Exit::Findings),
        (&[("key", Pass)], Fail, Exit::Findings),
        (&[("key", Pass)], Unspecified, Exit::Unknown),
        (&[], Unspecified, Exit::Unknown),
    ] {
        let verified = verified(items, truth);
        let (_folder, fake) = agent(Certificates { verified, ..Default::default() });
        assert_eq!(ctl(&["cert", "verify", "-n", &fake.node()]).exit, exit, "{items:?} {truth:?}");
    }
}

#[test]
fn what_happened_is_listed() {
    let event = |kind: &str, generation: u32| CertificateEvent {
        at: at(60),
        name: "api".into(),
        kind: kind.into(),
        ca: "letsencrypt".into(),
        generation,
        detail: "as planned".into(),
        actor: "schedule".into(),
    };
    let events = vec![event("proven", 4), event("failed", 0)];
    let (_folder, fake) = agent(Certificates { events, ..Default::default() });
    let node = fake.node();
    let outcome = ctl(&["cert", "history", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        squeezed(outcome.out()),
        [
            "AT NAME WHAT CA GEN ACTOR DETAIL",
            "1970-01-01T00:01:00Z api proven letsencrypt 4 schedule as planned",
            "1970-01-01T00:01:00Z api failed letsencrypt - schedule as planned",
        ]
    );
    let json =
        ctl(&["cert", "history", "--domain", "api", "--limit", "7", "-o", "json", "-n", &node]);
    assert_eq!(json.json()[0]["response"]["events"][1]["kind"], "failed");
    assert_eq!(fake.calls(), ["ListCertificateHistory 50", "ListCertificateHistory api 7"]);
    for limit in ["0", "1001", "x"] {
        assert_eq!(ctl(&["cert", "history", "--limit", limit, "-n", &node]).exit, Exit::Usage);
    }
}

#[test]
fn what_is_still_allowed_is_shown() {
    let budget = |limit: &str, used: u32, next_at| CertificateBudget {
        name: "api".into(),
        ca: "letsencrypt".into(),
        limit: limit.into(),
        subject: "example.com".into(),
        used,
        allowed: 5,
        window: lasting(7 * DAY),
        next_at,
    };
    let budgets = vec![budget("identifier-set", 5, at(DAY)), budget("registered-domain", 1, None)];
    let (_folder, fake) = agent(Certificates { budgets, ..Default::default() });
    let node = fake.node();
    let outcome = ctl(&["cert", "budget", "--domain", "api", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        squeezed(outcome.out()),
        [
            "NAME CA LIMIT SUBJECT USED ALLOWED WITHIN ONE MORE",
            "api letsencrypt identifier-set example.com 5 5 7d at 1970-01-02T00:00:00Z",
            "api letsencrypt registered-domain example.com 1 5 7d now",
        ]
    );
    let json = ctl(&["cert", "budget", "-o", "json", "-n", &node]).json();
    let budgets = &json[0]["response"]["budgets"];
    assert_eq!((&budgets[0]["used"], &budgets[1]["nextAt"]), (&5.into(), &serde_json::Value::Null));
    assert_eq!(fake.calls(), ["GetCertificateBudget api", "GetCertificateBudget"]);
}

#[test]
fn one_that_does_not_exist_is_said_not_to() {
    let methods = [
        "ListCertificates",
        "VerifyCertificates",
        "ListCertificateHistory",
        "GetCertificateBudget",
    ];
    let absent = refusal(Code::NotFound, "CERTIFICATE_NOT_FOUND", "there is no certificate x.y");
    let failing = methods.map(|method| (method, absent.clone())).into_iter().collect();
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { failing, ..Default::default() });
    let node = fake.node();
    for command in [
        &["list", "--domain", "x.y"][..],
        &["show", "x.y"],
        &["verify", "--domain", "x.y"],
        &["history", "--domain", "x.y"],
        &["budget", "--domain", "x.y"],
    ] {
        let outcome = ctl(&[&["cert"], command, &["-n", &node]].concat());
        assert_eq!(outcome.exit, Exit::Failed, "{command:?}");
        for said in ["error[CERTIFICATE_NOT_FOUND]", "`genesisctl cert list`"] {
            assert!(outcome.stderr.contains(said), "{command:?}: {}", outcome.stderr);
        }
    }
    let unknown = HashMap::from([("ListCertificates", tonic::Status::unimplemented(""))]);
    let other = crate::folder();
    let fake = Fake::start(other.path(), Script { failing: unknown, ..Default::default() });
    let outcome = ctl(&["cert", "list", "-n", &fake.node()]);
    assert!(outcome.stderr.contains("genesisctl version"), "{}", outcome.stderr);
}
