//! One request over HTTPS.

use std::path::Path;

use http::HeaderMap;
use serde_json::Value;

use crate::clock::LIMIT;
use crate::tls_client::client_config;

/// An answer.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

impl Fetched {
    /// Its body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// One of its headers; empty when it has none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// GETs a URL of a server that one of these roots (PEM) vouches for.
///
/// # Errors
/// With why there is no whole answer.
///
/// # Panics
/// When the roots are no use.
pub fn get(url: &str, roots: &Path) -> Result<Fetched, String> {
    let fetch = async {
        let answer = client(roots).get(url).send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Fetched { status, headers, body: answer.text().await? })
    };
    // On a thread of its own, so that a test that is async itself may ask, too.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(fetch)
        });
        thread.join().expect("it only fetches")
    })
    .map_err(|error: reqwest::Error| format!("{error:?}"))
}

/// A client of servers that one of these roots (PEM) vouches for. It has a new connection for each request, so that it
/// never takes one of a server that was started anew since.
///
/// # Panics
/// When the roots are no use.
pub fn client(roots: &Path) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(client_config(Some(roots), None))
        .no_proxy()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(LIMIT)
        .build()
        .expect("a client")
}
