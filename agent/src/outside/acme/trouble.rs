//! What a failure at a CA means.

use std::time::Duration;

use super::client::{Heard, Transport};
use super::{Class, OUT_OF_TIME, Trouble};

/// What every problem type of ACME begins with.
const PREFIX: &str = "urn:ietf:params:acme:error:";
/// So much of what a CA says is told, in characters.
const SAID: usize = 400;
/// So many subproblems are told.
const SUBPROBLEMS: usize = 10;

/// What a problem type means, whatever the status (RFC 8555, section 6.7; RFC 9773; the profiles draft).
const KINDS: [(&str, Class); 26] = [
    ("accountDoesNotExist", Class::Policy),
    ("alreadyReplaced", Class::Replaces),
    ("alreadyRevoked", Class::Policy),
    ("badCSR", Class::Policy),
    ("badNonce", Class::Server),
    ("badPublicKey", Class::Policy),
    ("badRevocationReason", Class::Policy),
    ("badSignatureAlgorithm", Class::Policy),
    ("caa", Class::Policy),
    ("compound", Class::Policy),
    ("connection", Class::Authorization),
    ("dns", Class::Authorization),
    ("externalAccountRequired", Class::Policy),
    ("incorrectResponse", Class::Authorization),
    ("invalidContact", Class::Policy),
    ("invalidProfile", Class::Policy),
    ("malformed", Class::Policy),
    ("orderNotReady", Class::OrderGone),
    ("rateLimited", Class::RateLimited),
    ("rejectedIdentifier", Class::Policy),
    ("serverInternal", Class::Server),
    ("tls", Class::Authorization),
    ("unauthorized", Class::Authorization),
    ("unsupportedContact", Class::Policy),
    ("unsupportedIdentifier", Class::Policy),
    ("userActionRequired", Class::Policy),
];

/// What to do about a problem of this type (without its prefix; empty: none was given) and HTTP status. What a CA says has a
/// type (RFC 8555, section 6.7): without one it is a proxy's, such as `{"message":"Forbidden"}`, however much it looks
/// like a document.
pub(super) fn classify(kind: &str, status: Option<u16>) -> Class {
    if kind.is_empty() {
        return status.map_or(Class::Server, without_document);
    }
    if let Some((_, class)) = KINDS.iter().find(|(known, _)| *known == kind) {
        return *class;
    }
    match status {
        Some(429) => Class::RateLimited,
        Some(408 | 425) => Class::Server,
        Some(400..=499) => Class::Policy,
        _ => Class::Server,
    }
}

/// What a status alone means. A refusal of the CA comes with a document: whoever sends none is a proxy, or a server that
/// is not well, and time may mend that.
pub(super) fn without_document(status: u16) -> Class {
    if status == 429 { Class::RateLimited } else { Class::Server }
}

/// A problem type without its prefix.
pub(super) fn kind_of(problem: &instant_acme::Problem) -> String {
    // As good as none (RFC 9457, section 4.2.1).
    let kind = problem.r#type.as_deref().filter(|kind| *kind != "about:blank").unwrap_or_default();
    clean(kind.strip_prefix(PREFIX).unwrap_or(kind), 80)
}

/// What a CA says of a problem, with its subproblems.
pub(super) fn said_of(problem: &instant_acme::Problem) -> String {
    let mut text = clean(problem.detail.as_deref().unwrap_or_default(), SAID);
    for each in problem.subproblems.iter().take(SUBPROBLEMS) {
        let name = each.identifier.as_ref().map(|it| it.authorized(false).to_string());
        let said = each.detail.as_deref().unwrap_or_default();
        text = format!(
            "{text}; {}: {}",
            clean(&name.unwrap_or_default(), 253),
            clean(said, SAID / SUBPROBLEMS * 2)
        );
    }
    text
}

/// The identifiers that a problem is about.
fn named_by(problem: &instant_acme::Problem) -> Vec<String> {
    let named = problem.subproblems.iter().filter_map(|each| each.identifier.as_ref());
    named.take(100).map(|it| it.authorized(false).to_string()).collect()
}

/// Text of others, on one line, without what a terminal obeys.
pub(super) fn clean(text: &str, limit: usize) -> String {
    let shown = text.chars().take(limit);
    shown.map(|it| if it.is_control() { ' ' } else { it }).collect::<String>().trim().to_owned()
}

/// A failure in our own words.
pub(super) fn told(class: Class, message: impl Into<String>) -> Trouble {
    Trouble {
        class,
        message: message.into(),
        kind: String::new(),
        retry_after: None,
        identifiers: Vec::new(),
        date: None,
    }
}

/// Something of this host is in the way.
pub(super) fn local(message: impl Into<String>) -> Trouble {
    told(Class::Local, message)
}

/// The trouble of a call that is about no name: there it is our account that may not, or what was sent.
pub(super) fn outright(trouble: Trouble) -> Trouble {
    let class = match trouble.class {
        Class::Authorization | Class::OrderGone | Class::Replaces => Class::Policy,
        class => class,
    };
    Trouble { class, ..trouble }
}

/// What was asked of the CA takes too long.
pub(super) fn late(attempted: &str, after: Duration) -> Trouble {
    told(Class::Server, format!("{attempted}: not done within {} s", after.as_secs_f64()))
}

/// An error of instant-acme, with what was heard of the answer that it is about.
pub(super) fn trouble(attempted: &str, error: &instant_acme::Error, heard: &Heard) -> Trouble {
    use instant_acme::Error;

    let mut trouble = match error {
        Error::Api(problem) => {
            let (kind, said) = (kind_of(problem), said_of(problem));
            let status = heard.status.or(problem.status);
            let shown = match (kind.as_str(), status) {
                ("", Some(status)) => format!("HTTP {status}"),
                ("", None) => "a problem without a type".to_owned(),
                (kind, _) => kind.to_owned(),
            };
            let mut trouble =
                told(classify(&kind, status), format!("{attempted}: {shown}: {said}"));
            trouble.identifiers = named_by(problem);
            trouble.kind = kind;
            trouble
        }
        Error::Json(_) => match heard.status {
            Some(status @ 400..) => {
                let message = format!("{attempted}: HTTP {status} without a problem document");
                told(without_document(status), message)
            }
            _ => told(Class::Server, format!("{attempted}: the answer makes no sense: {error}")),
        },
        Error::Crypto | Error::KeyRejected => {
            local(format!("{attempted}: the account's key can't be used"))
        }
        Error::Unsupported(what) => {
            let message = format!("{attempted}: the CA has no {what}");
            Trouble { kind: "unsupported".to_owned(), ..told(Class::Policy, message) }
        }
        Error::Other(other) if other.is::<Transport>() => {
            let class = match other.downcast_ref::<Transport>() {
                Some(Transport::Local(_)) => Class::Local,
                _ => Class::Server,
            };
            let kind = match other.downcast_ref::<Transport>() {
                Some(Transport::OutOfTime(_)) => OUT_OF_TIME.to_owned(),
                _ => String::new(),
            };
            Trouble { kind, ..told(class, format!("{attempted}: {other}")) }
        }
        other => {
            let status = heard.status.filter(|status| *status >= 400);
            let class = status.map_or(Class::Server, without_document);
            let said = clean(&other.to_string(), SAID);
            let shown = status.map(|status| format!("HTTP {status}: ")).unwrap_or_default();
            told(class, format!("{attempted}: {shown}{said}"))
        }
    };
    trouble.retry_after = heard.retry_after;
    trouble.date = heard.date;
    trouble
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_says_what_a_problem_means_and_else_the_status() {
        for (kind, status, class) in [
            ("rateLimited", Some(429), Class::RateLimited),
            ("rateLimited", Some(503), Class::RateLimited),
            ("", Some(429), Class::RateLimited),
            ("unauthorized", Some(403), Class::Authorization),
            ("connection", Some(400), Class::Authorization),
            ("dns", None, Class::Authorization),
            ("tls", None, Class::Authorization),
            ("incorrectResponse", None, Class::Authorization),
            ("caa", Some(403), Class::Policy),
            ("rejectedIdentifier", Some(400), Class::Policy),
            ("unsupportedIdentifier", Some(400), Class::Policy),
            ("invalidProfile", Some(400), Class::Policy),
            ("externalAccountRequired", Some(403), Class::Policy),
            ("userActionRequired", Some(403), Class::Policy),
            ("badCSR", Some(400), Class::Policy),
            ("badPublicKey", Some(400), Class::Policy),
            ("invalidContact", Some(400), Class::Policy),
            ("unsupportedContact", Some(400), Class::Policy),
            ("accountDoesNotExist", Some(400), Class::Policy),
            ("malformed", Some(400), Class::Policy),
            ("orderNotReady", Some(403), Class::OrderGone),
            ("alreadyReplaced", Some(409), Class::Replaces),
            ("serverInternal", Some(500), Class::Server),
            ("badNonce", Some(400), Class::Server),
            ("", Some(503), Class::Server),
            ("", Some(502), Class::Server),
            ("", Some(404), Class::Server),
            ("", Some(403), Class::Server),
            ("", Some(400), Class::Server),
            ("neverHeardOf", Some(403), Class::Policy),
            ("neverHeardOf", Some(500), Class::Server),
            ("", None, Class::Server),
        ] {
            assert_eq!(classify(kind, status), class, "{kind} {status:?}");
        }
    }

    #[test]
    fn a_document_without_a_type_is_no_refusal_of_the_ca() {
        for body in [
            r#"{"message":"Forbidden"}"#,
            r#"{"type":"about:blank","title":"Forbidden","status":403}"#,
            r#"{"error":"blocked","ray":"8a1"}"#,
        ] {
            let problem = serde_json::from_str::<instant_acme::Problem>(body);
            let error = problem.map_or_else(instant_acme::Error::Json, instant_acme::Error::Api);
            let heard = Heard { status: Some(403), ..Heard::default() };
            let trouble = trouble("order", &error, &heard);
            assert_eq!(trouble.class, Class::Server, "{body}: {trouble}");
            assert!(trouble.message.contains("HTTP 403"), "{trouble}");
        }
    }

    #[test]
    fn what_a_ca_says_is_told_without_what_a_terminal_obeys_and_bounded() {
        let problem: instant_acme::Problem = serde_json::from_value(serde_json::json!({
            "type": "urn:ietf:params:acme:error:rejectedIdentifier",
            "detail": format!("no\u{1b}[31m{}", "x".repeat(10_000)),
            "subproblems": [
                { "identifier": { "type": "dns", "value": "a.example" }, "detail": "never" },
            ],
        }))
        .unwrap();
        let heard = Heard { status: Some(400), ..Heard::default() };
        let trouble = trouble("order", &instant_acme::Error::Api(problem), &heard);
        assert_eq!((trouble.class, trouble.kind.as_str()), (Class::Policy, "rejectedIdentifier"));
        assert_eq!(trouble.identifiers, ["a.example"]);
        assert!(trouble.message.len() < 600 && !trouble.message.contains('\u{1b}'), "{trouble}");
        assert!(trouble.message.contains("a.example: never"), "{trouble}");
    }
}
