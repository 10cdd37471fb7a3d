//! How CAs are reached: HTTPS alone, no redirections, everything bounded; and what is heard beside the answers, which
//! instant-acme does not hand on.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use jiff::Timestamp;
use reqwest::Certificate;

use crate::outside::Clock;
use crate::outside::aside::Aside;
use crate::outside::dial::{Failure, Resolver, failure_of};

/// One answer takes no longer.
const ANSWER: Duration = Duration::from_secs(30);
/// A connection is made within this, TLS included.
const CONNECTION: Duration = Duration::from_secs(10);
/// A connection that nobody uses is kept so long: an order is a dozen requests.
const IDLE: Duration = Duration::from_secs(15);
/// An answer is no longer than this, in bytes.
const BODY: usize = 1 << 20;
/// A file of authorities is no longer than this, in bytes.
const ROOTS: u64 = 4 << 20;
/// Nobody is waited for longer because they asked.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Why there is no answer, in words that name the cause first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Transport {
    /// The CA, or the way there.
    #[error("{0}")]
    There(String),
    /// By this host's clock the certificate of the CA's server has ended, or is still to begin.
    #[error("{0}")]
    OutOfTime(String),
    /// This host.
    #[error("{0}")]
    Local(String),
}

impl From<Transport> for instant_acme::Error {
    fn from(transport: Transport) -> Self {
        Self::Other(Box::new(transport))
    }
}

/// What was heard with the last answer of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Its status.
    pub(super) status: Option<u16>,
    /// How long to wait, from when it was sent.
    pub(super) retry_after: Option<Duration>,
    /// The CA's clock.
    pub(super) date: Option<Timestamp>,
    /// Where the thing made is.
    pub(super) location: Option<String>,
}

tokio::task_local! {
    /// Of the call that this task is in: accounts, and with them the client, are shared by many calls.
    static HEARD: Arc<Mutex<Heard>>;
}

/// What a call returns, and what was heard meanwhile.
pub(super) async fn hearing<T>(call: impl Future<Output = T>) -> (T, Heard) {
    let heard = Arc::<Mutex<Heard>>::default();
    let returned = HEARD.scope(Arc::clone(&heard), call).await;
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (returned, heard)
}

fn note(heard: Heard) {
    // Outside of `hearing` nobody listens.
    let _ = HEARD.try_with(|place| *place.lock().unwrap_or_else(PoisonError::into_inner) = heard);
}

/// Hands what was heard on to a call around the one that heard it.
pub(super) fn note_again(heard: Heard) {
    note(heard);
}

/// Reads of an answer's headers what is heard; `now` stands in for a Date that is missing.
fn heard_in(status: u16, headers: &HeaderMap, now: Timestamp) -> Heard {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let date = text("date").and_then(instant);
    let location = text("location").filter(|text| text.len() <= 2_048).map(str::to_owned);
    Heard {
        status: Some(status),
        retry_after: text("retry-after").and_then(|text| retry_after(text, date.unwrap_or(now))),
        date,
        location,
    }
}

/// Seconds, or an instant on the clock of whoever said it (RFC 9110, 10.2.3), which is at `their_now`.
pub(super) fn retry_after(text: &str, their_now: Timestamp) -> Option<Duration> {
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => LONGEST,
        Err(_) => Duration::try_from(instant(text)?.duration_since(their_now)).unwrap_or_default(),
    };
    Some(wait.min(LONGEST))
}

fn instant(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

/// An answer to a plain request.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// Its body, whole.
    pub(super) body: Bytes,
}

/// The client for one CA. Cloning is cheap, and clones share connections.
#[derive(Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    /// An address that was asked already, with its answer: instant-acme fetches directories itself, and for each
    /// account anew.
    known: Option<(String, Bytes)>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

/// Reads files aside: one on a dead mount must cost nobody else their time.
pub(super) type Files = Aside<PathBuf, Result<Vec<u8>, String>>;

impl Http {
    /// A client that trusts the authorities of a file, or of the host.
    ///
    /// # Errors
    /// [`Transport::Local`]: what is wrong with the file.
    pub(super) async fn new(
        roots: Option<&Path>,
        files: &Files,
        resolver: Resolver,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Transport> {
        // The client asks the process which cryptography to use; somebody may have said it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .dns_resolver(resolver)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(4)
            .pool_idle_timeout(IDLE)
            .connect_timeout(CONNECTION)
            .timeout(ANSWER)
            .user_agent(concat!("genesis-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = roots {
            builder = builder.tls_certs_only(certificates(path, files).await?);
        }
        let client = builder
            .build()
            .map_err(|error| Transport::Local(format!("no HTTP client: {}", failure_of(&error))))?;
        Ok(Self { client, clock, known: None })
    }

    /// The same client, which has asked `url` already.
    pub(super) fn knowing(&self, url: &str, answer: Bytes) -> Self {
        Self { known: Some((url.to_owned(), answer)), ..self.clone() }
    }

    /// GETs a URL.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn get(&self, url: &str) -> Result<Answer, Transport> {
        let url = reqwest::Url::parse(url)
            .map_err(|error| Transport::There(format!("no URL: {error}")))?;
        let (status, _, body) = self.send(self.client.get(url)).await?;
        Ok(Answer { status, body })
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(u16, HeaderMap, Bytes), Transport> {
        // What was heard of the answer before is none of this one's.
        note(Heard::default());
        // A kept connection may be gone by now. What only asks is asked once more, of which each call has something at
        // its beginning: a directory, or a nonce.
        let again = request.try_clone().and_then(|request| request.build().ok());
        let again = again.filter(|it| *it.method() != reqwest::Method::POST);
        let mut answer = match (request.send().await, again) {
            (Err(error), Some(again)) if !error.is_timeout() && !error.is_connect() => {
                self.client.execute(again).await.map_err(why)?
            }
            (answer, _) => answer.map_err(why)?,
        };
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        note(heard_in(status, &headers, self.clock.now()));
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(why)? {
            if body.len() + chunk.len() > BODY {
                return Err(Transport::There(format!("its answer has more than {BODY} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, headers, body.into()))
    }

    async fn pass(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Transport> {
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        let url = parts.uri.to_string();
        let respond = |status: u16, headers: HeaderMap, body: Bytes| {
            let mut response = http::Response::new(());
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
            *response.headers_mut() = headers;
            BytesResponse { parts: response.into_parts().0, body: Box::new(body) }
        };
        if let Some((known, answer)) = &self.known
            && parts.method == http::Method::GET
            && *known == url
        {
            return Ok(respond(200, HeaderMap::new(), answer.clone()));
        }
        let url = reqwest::Url::parse(&url)
            .map_err(|error| Transport::There(format!("no URL: {error}")))?;
        let mut request = self.client.request(parts.method, url);
        for (name, value) in &parts.headers {
            // Who we are, our own client says.
            if name != http::header::USER_AGENT {
                request = request.header(name, value);
            }
        }
        if !body.is_empty() {
            request = request.body(body);
        }
        let (status, headers, body) = self.send(request).await?;
        Ok(respond(status, headers, body))
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let http = self.clone();
        Box::pin(async move { Ok(http.pass(request).await?) })
    }
}

/// The authorities in a PEM file.
async fn certificates(path: &Path, files: &Files) -> Result<Vec<Certificate>, Transport> {
    let shown = path.display();
    let pem = read(path, ROOTS, false, files).await.map_err(Transport::Local)?;
    let found = Certificate::from_pem_bundle(&pem)
        .map_err(|_| Transport::Local(format!("{shown} is not PEM")))?;
    if found.is_empty() {
        return Err(Transport::Local(format!("{shown} holds no certificate in PEM")));
    }
    Ok(found)
}

/// Reads a file of at most `limit` bytes; a secret one only if nobody else may read it.
///
/// # Errors
/// Why not, in words that hold nothing of it.
pub(super) async fn read(
    path: &Path,
    limit: u64,
    secret: bool,
    files: &Files,
) -> Result<Vec<u8>, String> {
    let own = path.to_owned();
    files.run(&path.to_owned(), move || read_now(&own, limit, secret)).await?
}

fn read_now(path: &Path, limit: u64, secret: bool) -> Result<Vec<u8>, String> {
    use std::io::Read;

    if secret {
        return crate::outside::secret::read(path, limit);
    }
    let shown = path.display();
    let failed = |error: std::io::Error| format!("can't read {shown}: {error}");
    // Looked at before it is opened: a pipe would never let go.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("{shown} is no file"));
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(format!("{shown} has more than {limit} bytes"));
    }
    Ok(bytes)
}

/// What a failed request means, the cause first, and without the URL: of a download it is as good as a key.
fn why(error: reqwest::Error) -> Transport {
    let error = error.without_url();
    let (timeout, connect, body) =
        (error.is_timeout(), error.is_connect(), error.is_body() || error.is_decode());
    let said = match failure_of(&error) {
        Failure::Down(said) => said,
        // Names that can't be resolved say nothing of the CA, but time may mend that as well.
        Failure::Unknown(said) if said.starts_with("can't resolve") => said,
        Failure::Unknown(said) => return Transport::Local(said),
    };
    if is_out_of_time(&error) {
        return Transport::OutOfTime(format!(
            "its TLS certificate is not trusted by this host's clock ({said})"
        ));
    }
    let lower = said.to_lowercase();
    let cause = if timeout && connect {
        "no connection in time"
    } else if timeout {
        "no answer in time"
    } else if lower.contains("certificate") || lower.contains("unknownissuer") {
        "its TLS certificate is not trusted"
    } else if lower.contains("connection refused") {
        "it refuses connections"
    } else if body
        || ["incomplete", "end of file", "closed", "reset"].iter().any(|it| lower.contains(it))
    {
        "its answer was cut off"
    } else if connect {
        "no connection"
    } else {
        "no answer"
    };
    Transport::There(format!("{cause} ({said})"))
}

/// Whether TLS failed because a certificate has ended or is still to begin.
fn is_out_of_time(error: &(dyn Error + 'static)) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};

    let mut cause = Some(error);
    while let Some(found) = cause {
        // An I/O error hands on the source of what it wraps, and not that itself.
        let wrapped = found.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(wrapped) = wrapped
            && is_out_of_time(wrapped)
        {
            return true;
        }
        if let Some(rustls::Error::InvalidCertificate(why)) = found.downcast_ref() {
            return matches!(
                why,
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
            );
        }
        cause = found.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_wait_is_seconds_or_an_instant_by_the_clock_of_whoever_says_it() {
        let now: Timestamp = "2026-11-26T10:00:00Z".parse().unwrap();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (text, wait) in [
            ("0", seconds(0)),
            ("120", seconds(120)),
            ("Thu, 26 Nov 2026 10:01:00 GMT", seconds(60)),
            ("Thu, 26 Nov 2026 09:01:00 GMT", seconds(0)),
            ("99999999999", Some(LONGEST)),
            ("99999999999999999999999999", Some(LONGEST)),
            ("Wed, 26 Nov 2036 10:01:00 GMT", Some(LONGEST)),
            ("", None),
            ("-5", None),
            ("soon", None),
            ("1.5", None),
        ] {
            assert_eq!(retry_after(text, now), wait, "{text}");
        }
    }

    #[test]
    fn a_date_beside_it_is_what_an_instant_counts_from() {
        let ours: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("date", "Thu, 26 Nov 2026 10:00:00 GMT"),
            ("retry-after", "Thu, 26 Nov 2026 10:00:30 GMT"),
            ("location", "https://ca.example/order/1"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let heard = heard_in(503, &headers, ours);
        assert_eq!(heard.retry_after, Some(Duration::from_secs(30)));
        assert_eq!(heard.date, Some("2026-11-26T10:00:00Z".parse().unwrap()));
        assert_eq!(heard.location.as_deref(), Some("https://ca.example/order/1"));
        headers.remove("date");
        headers.insert("retry-after", "Wed, 01 Jan 2020 00:00:07 GMT".parse().unwrap());
        let heard = heard_in(503, &headers, ours);
        assert_eq!((heard.retry_after, heard.date), (Some(Duration::from_secs(7)), None));
    }

    #[tokio::test]
    async fn a_secret_that_others_may_read_is_none() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let (path, files) = (folder.path().join("key"), Files::default());
        std::fs::write(&path, "hush").unwrap();
        for (mode, open) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = read(&path, 100, true, &files).await;
            assert_eq!(found.is_err(), open, "{mode:o}: {found:?}");
        }
        assert!(read(&path, 100, false, &files).await.is_ok());
        assert!(read(&path, 3, false, &files).await.unwrap_err().contains("more than 3 bytes"));
        assert!(read(folder.path(), 3, false, &files).await.unwrap_err().contains("no file"));
    }
}
