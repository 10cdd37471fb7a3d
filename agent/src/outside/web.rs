//! Single requests over HTTP. Each goes over a connection of its own, follows no redirection, knows no cookies and
//! no proxies, and what is read of the answer is bounded.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use reqwest::{Client, Method, Url};

use super::dial::{Failure, Resolver, failure_of};

/// Nothing takes longer, whoever has forgotten to give up waiting.
const LONGEST: Duration = Duration::from_secs(300);

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status, redirections among them.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most as many bytes as were asked for.
    pub body: Vec<u8>,
    /// Whether there was, or may have been, more of it.
    pub cut: bool,
}

/// The client of HTTP. What it needs is made with the first request, so that an agent that sends none pays nothing.
#[derive(Default)]
pub struct Web {
    resolver: Resolver,
    /// For http://, which needs no authorities: a host without any has no use for https:// alone.
    plain: Mutex<Option<Client>>,
    /// For https://, with the authorities that the host trusts.
    secure: Mutex<Option<Client>>,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").finish_non_exhaustive()
    }
}

impl Web {
    /// A client that finds names through `resolver`.
    pub fn new(resolver: Resolver) -> Self {
        Self { resolver, ..Self::default() }
    }

    /// GETs `url`, and reads at most `limit` bytes of the answer's body; none of it is waited for when that is 0.
    ///
    /// # Errors
    /// Why there is no answer. It names neither the URL nor a header, which may hold secrets.
    pub async fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        limit: usize,
    ) -> Result<Answer, Failure> {
        self.send(Method::GET, url, headers, Bytes::new(), limit).await
    }

    /// POSTs `body` to `url`, and reads at most `limit` bytes of the answer's body.
    ///
    /// # Errors
    /// Why there is no answer, as in [`Web::get`]; after [`Failure::Down`] it may have been taken all the same.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
        limit: usize,
    ) -> Result<Answer, Failure> {
        self.send(Method::POST, url, headers, body.into(), limit).await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        limit: usize,
    ) -> Result<Answer, Failure> {
        // What the parser says of it may be shown: it names the fault only.
        let url = Url::parse(url).map_err(|error| Failure::Unknown(format!("no URL: {error}")))?;
        let client = match url.scheme() {
            "http" => kept(&self.plain, || {
                self.build(Client::builder().tls_certs_only(std::iter::empty()))
            }),
            "https" => kept(&self.secure, || self.build(Client::builder())),
            _ => return Err(Failure::Unknown("the URL is neither http:// nor https://".into())),
        };
        let client = client.map_err(|why| Failure::Unknown(format!("no HTTP client: {why}")))?;
        let mut request = client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.body(body);
        }
        let mut answer = request.send().await.map_err(told)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let (mut body, mut cut) = (Vec::new(), limit == 0);
        while !cut && let Some(chunk) = answer.chunk().await.map_err(told)? {
            let room = limit.saturating_sub(body.len());
            cut = chunk.len() > room;
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        Ok(Answer { status, headers, body, cut })
    }

    fn build(&self, builder: reqwest::ClientBuilder) -> Result<Client, String> {
        // The client asks the process which cryptography to use; somebody may have said it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        builder
            .dns_resolver(self.resolver.clone())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(0)
            .timeout(LONGEST)
            .user_agent(concat!("genesis-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| failure_of(&error).to_string())
    }
}

/// Whether something that nobody else may read can be sent to a URL: over TLS, or to this host.
///
/// # Errors
/// What is wrong with it, in words that hold none of it.
pub fn check_url(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password: use secret_file".to_owned());
    }
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => return Err("has no host".to_owned()),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        _ => Err("must begin with https://; http:// is for this host only".to_owned()),
    }
}

/// The client that is there, or else a new one; one that could not be made is tried again the next time.
fn kept(
    place: &Mutex<Option<Client>>,
    build: impl FnOnce() -> Result<Client, String>,
) -> Result<Client, String> {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    match &*place {
        Some(client) => Ok(client.clone()),
        None => Ok(place.insert(build()?).clone()),
    }
}

/// Why there is no answer, without the URL.
fn told(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    if error.is_builder() {
        return Failure::Unknown(failure_of(&error).to_string());
    }
    failure_of(&error)
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;
    use axum::http::StatusCode;
    use axum::routing::{get, post};

    use super::*;

    /// A server on a port of its own.
    async fn serve(router: axum::Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn an_answer_is_told_as_it_is_and_cut_at_the_limit() {
        let router = axum::Router::new()
            .route("/found", get(|| async { (StatusCode::FOUND, [("location", "/text")], "go") }))
            .route("/text", get(|| async { "0123456789" }))
            .route(
                "/echo",
                post(|request: Request| async move {
                    let kind = request.headers()["content-type"].to_str().unwrap().to_owned();
                    let body = axum::body::to_bytes(request.into_body(), 100).await.unwrap();
                    (StatusCode::ACCEPTED, format!("{kind} {}", body.len()))
                }),
            );
        let (base, web) = (serve(router).await, Web::default());
        let found = web.get(&format!("{base}/found"), &[], 100).await.unwrap();
        assert_eq!((found.status, found.body.as_slice()), (302, b"go".as_slice()));
        assert_eq!(found.headers["location"], "/text");
        let text = format!("{base}/text");
        for (limit, body, cut) in [(0, "", true), (4, "0123", true), (10, "0123456789", false)] {
            let answer = web.get(&text, &[], limit).await.unwrap();
            assert_eq!((answer.body.as_slice(), answer.cut), (body.as_bytes(), cut), "{limit}");
        }
        let headers = [("content-type", "a/b")];
        let echo = web.post(&format!("{base}/echo"), &headers, "xyz", 100).await.unwrap();
        assert_eq!((echo.status, echo.body.as_slice()), (202, b"a/b 3".as_slice()));
    }

    #[tokio::test]
    async fn why_there_is_no_answer_is_told_without_the_url() {
        let web = Web::default();
        let free = std::net::SocketAddr::from(([127, 0, 0, 1], crate::outside::ports::free_port()));
        let long = "x".repeat(64);
        for (url, down) in [
            (format!("http://{free}/hush?hush"), true),
            (format!("http://{long}/hush"), false),
            ("hush".to_owned(), false),
            ("ftp://host/hush".to_owned(), false),
            ("http://[hush".to_owned(), false),
        ] {
            let failure = web.get(&url, &[], 10).await.unwrap_err();
            assert_eq!(matches!(failure, Failure::Down(_)), down, "{url}: {failure:?}");
            assert!(!failure.to_string().contains("hush"), "{failure}");
        }
        let url = format!("http://{free}");
        let failure = web.get(&url, &[("a b", "hush")], 10).await.unwrap_err();
        assert!(matches!(&failure, Failure::Unknown(why) if !why.contains("hush")), "{failure:?}");
    }
}
