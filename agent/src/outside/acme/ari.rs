//! Renewal information (RFC 9773). Asked for by ourselves: instant-acme takes no answer without Retry-After.

use std::time::Duration;

use instant_acme::CertificateIdentifier;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;

use super::account::Accounts;
use super::client::{Heard, hearing};
use super::trouble::{clean, local, told, trouble};
use super::{Authority, Class, RenewalInfo, Trouble};

/// A page's address is no longer.
const PAGE: usize = 1_024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    suggested_window: Window,
    #[serde(rename = "explanationURL")]
    explanation: Option<String>,
}

#[derive(Deserialize)]
struct Window {
    start: String,
    end: String,
}

/// How the CA knows a certificate; `None` where that can't be said of it, such as of one that nobody signed.
pub(super) fn name_of(leaf: &[u8]) -> Option<CertificateIdentifier<'static>> {
    CertificateIdentifier::try_from(&CertificateDer::from_slice(leaf)).ok()
}

/// When the CA wants this certificate to be renewed.
pub(super) async fn ask(
    accounts: &Accounts,
    ca: &Authority,
    leaf: &[u8],
) -> Result<RenewalInfo, Trouble> {
    let attempted = format!("{}: renewal information", ca.name);
    let (index, http) = accounts.index(ca).await?;
    let Some(base) = index.renewal_info.as_deref() else {
        let message = format!("{attempted}: the CA has none");
        return Err(Trouble { kind: "unsupported".to_owned(), ..told(Class::Policy, message) });
    };
    let Some(name) = name_of(leaf) else {
        return Err(local(format!("{attempted}: the certificate does not say who signed it")));
    };
    let url = format!("{}/{name}", base.trim_end_matches('/'));
    let (answer, heard) = hearing(http.get(&url)).await;
    let answer = answer.map_err(|error| trouble(&attempted, &error.into(), &heard))?;
    if answer.status != 200 {
        let problem = serde_json::from_slice::<instant_acme::Problem>(&answer.body);
        let error = problem.map_or_else(instant_acme::Error::Json, instant_acme::Error::Api);
        return Err(trouble(&attempted, &error, &heard));
    }
    parse(&answer.body, heard.retry_after).map_err(|why| server(&attempted, &why, &heard))
}

fn server(attempted: &str, why: &str, heard: &Heard) -> Trouble {
    let mut found = told(Class::Server, format!("{attempted}: {why}"));
    (found.retry_after, found.date) = (heard.retry_after, heard.date);
    found
}

/// Reads an answer.
///
/// # Errors
/// Why it is none.
fn parse(body: &[u8], ask_again: Option<Duration>) -> Result<RenewalInfo, String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        format!("the answer makes no sense: {}", clean(&error.to_string(), 200))
    })?;
    let instant = |text: &str| {
        text.parse::<Timestamp>().map_err(|_| format!("{:?} is no time", clean(text, 60)))
    };
    let (start, end) =
        (instant(&body.suggested_window.start)?, instant(&body.suggested_window.end)?);
    if end < start {
        return Err(format!("the window ends at {end}, before it starts at {start}"));
    }
    // Shown to people, who may follow it; one that is odd is left out, the window counts all the same.
    let explanation = body.explanation.filter(|page| {
        let known = page.starts_with("https://") || page.starts_with("http://");
        known && page.len() <= PAGE && url::Url::parse(page).is_ok() && clean(page, PAGE) == *page
    });
    Ok(RenewalInfo { start, end, explanation, ask_again })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(start: &str, end: &str, page: &str) -> Result<RenewalInfo, String> {
        let text = serde_json::json!({
            "suggestedWindow": { "start": start, "end": end }, "explanationURL": page,
        });
        parse(text.to_string().as_bytes(), None)
    }

    #[test]
    fn a_window_is_read_and_one_that_ends_before_it_starts_is_none() {
        let (start, end) = ("2026-01-02T04:00:00Z", "2026-01-03T04:00:00.5+01:00");
        let info = of(start, end, "https://ca.example/why").unwrap();
        assert_eq!(info.start, start.parse().unwrap());
        assert_eq!(info.end, "2026-01-03T03:00:00.5Z".parse().unwrap());
        assert_eq!(info.explanation.as_deref(), Some("https://ca.example/why"));
        assert!(of(start, start, "").is_ok());
        let why = of(end, start, "").unwrap_err();
        assert!(why.contains("before it starts"), "{why}");
    }

    #[test]
    fn odd_pages_are_left_out_and_odd_answers_refused() {
        let at = "2026-01-02T04:00:00Z";
        let long = format!("https://ca.example/{}", "x".repeat(PAGE));
        for page in ["javascript:alert(1)", "file:///etc/passwd", "https://a\u{1b}[0m", &long, ""] {
            assert_eq!(of(at, at, page).unwrap().explanation, None, "{page}");
        }
        for (start, end) in
            [("soon", at), (at, ""), ("2026-01-02", at), (at, "2026-13-01T00:00:00Z")]
        {
            assert!(of(start, end, "").is_err(), "{start} {end}");
        }
        let odd = [
            "",
            "{}",
            "[]",
            "null",
            r#"{"suggestedWindow":null}"#,
            r#"{"suggestedWindow":{"start":"2026-01-02T04:00:00Z"}}"#,
            r#"{"suggestedWindow":{"start":1,"end":2}}"#,
            r#"{"suggestedWindow":{"start":"2026-01-02T04:00:00Z","end":"2026-01"#,
        ];
        for body in odd {
            assert!(parse(body.as_bytes(), None).is_err(), "{body}");
        }
    }
}
