//! The page for people: its first view made here, without which a browser needs no script, and the files that it loads.

use std::sync::Arc;

use askama::Template;
use axum::body::Bytes;
use axum::extract::{Extension, State as Shared};
use axum::response::{Html, IntoResponse, Response};
use genesis_proto::v1;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

use super::connection::Peer;
use super::gateway::Asked;
use super::http::Site;
use super::pages::{Failure, missing};
use crate::error::Error;

mod overview;

use overview::Overview;

/// A file that the page loads.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($name:literal $from:literal $kind:expr),* $(,)?) => {
        &[$(Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("assets/", $from)) }),*]
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// All of them: what each is asked for by, where it is in the folder, what it is.
const ASSETS: &[Asset] = assets! {
    "icon.svg" "icon.svg" "image/svg+xml",
    "page.css" "page.css" STYLE,
    "page.js" "page.js" SCRIPT,
    "charts.js" "charts.js" SCRIPT,
    "dom.js" "dom.js" SCRIPT,
    "heat.js" "heat.js" SCRIPT,
    "live.js" "live.js" SCRIPT,
    "parts.js" "parts.js" SCRIPT,
    "text.js" "text.js" SCRIPT,
    "theme.js" "theme.js" SCRIPT,
    "view-alerts.js" "view-alerts.js" SCRIPT,
    "view-baselines.js" "view-baselines.js" SCRIPT,
    "view-certificates.js" "view-certificates.js" SCRIPT,
    "view-database.js" "view-database.js" SCRIPT,
    "view-dependencies.js" "view-dependencies.js" SCRIPT,
    "view-experiments.js" "view-experiments.js" SCRIPT,
    "view-fleet.js" "view-fleet.js" SCRIPT,
    "view-health.js" "view-health.js" SCRIPT,
    "view-logs.js" "view-logs.js" SCRIPT,
    "view-matrices.js" "view-matrices.js" SCRIPT,
    "view-recovery.js" "view-recovery.js" SCRIPT,
    "view-work.js" "view-work.js" SCRIPT,
    "uplot.css" "vendor/uplot/uPlot.min.css" STYLE,
    "uplot.js" "vendor/uplot/uPlot.iife.min.js" SCRIPT,
};

/// Nothing but what comes from here, and nothing that is written into a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; font-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Puts what browsers are to hold to beside every answer.
pub(super) async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What is shown is what is, and what was is nobody's on a shared machine.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// `GET /`.
pub(super) async fn page(
    Shared(site): Shared<Arc<Site>>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Failure> {
    shown(gather(&site, peer).await?.render())
}

/// `GET /overview`: the first view alone, which the page's script puts in place of the one before.
pub(super) async fn fragment(
    Shared(site): Shared<Arc<Site>>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Failure> {
    shown(gather(&site, peer).await?.as_overview().render())
}

fn shown(rendered: askama::Result<String>) -> Result<Response, Failure> {
    let text = rendered.map_err(|error| {
        Failure::of(Error::internal("PAGE_FAILED", "the page can't be made").caused_by(error))
    })?;
    Ok(Html(text).into_response())
}

/// What the first view shows. What is of the host itself has to be there; what else can't be had is said in it, so that
/// nothing else is hidden.
async fn gather(site: &Site, peer: Peer) -> Result<Overview, Failure> {
    let (gateway, asked) = (&site.gateway, Asked { peer, trace: None });
    let agent: v1::GetStatusResponse = gateway
        .call("/genesis.v1.AgentService/GetStatus", &v1::GetStatusRequest {}, &asked)
        .await?;
    let health = v1::GetHealthStatusRequest {};
    let health = gateway.call("/genesis.v1.HealthService/GetHealthStatus", &health, &asked).await;
    let alerts = v1::ListAlertsRequest::default();
    let alerts = gateway.call("/genesis.v1.AlertsService/ListAlerts", &alerts, &asked).await;
    let certificates = v1::ListCertificatesRequest::default();
    let certificates = gateway
        .call("/genesis.v1.CertificateService/ListCertificates", &certificates, &asked)
        .await;
    let mut missing = Vec::new();
    let health = had("health", health, &mut missing);
    let alerts = had("alerts", alerts, &mut missing);
    let certificates = had("certificates", certificates, &mut missing);
    Ok(Overview { missing, ..Overview::of(&agent, &health, &alerts, &certificates) })
}

/// What could be had of a part, or nothing and that it is missing.
fn had<T: Default>(part: &str, answer: Result<T, tonic::Status>, missing: &mut Vec<String>) -> T {
    answer.unwrap_or_else(|status| {
        missing.push(format!("{part} can't be had: {}", status.message()));
        T::default()
    })
}

/// `GET /assets/NAME`.
pub(super) async fn asset(uri: Uri, headers: HeaderMap) -> Result<Response, Failure> {
    let name = uri.path().strip_prefix("/assets/").unwrap_or_default();
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return Err(missing(&format!("the page has no file {name:?}")));
    };
    // They change with the program: another one has another tag.
    let tag = format!("\"{}\"", &blake3::hash(asset.bytes).to_hex()[..16]);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|it| it.to_str().ok());
    let common = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))),
    ];
    if known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag)) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let kind = [(header::CONTENT_TYPE, asset.kind)];
    Ok((common, kind, Bytes::from_static(asset.bytes)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_in_the_program_and_all_of_them_are_small() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/page/assets");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            // Those are templates, and what others have made.
            if name.ends_with(".html") || name == "vendor" {
                continue;
            }
            assert!(ASSETS.iter().any(|asset| asset.name == name), "{name} is not served");
        }
        let all: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(all < 280_000, "the page would load {all} bytes");
    }
}
