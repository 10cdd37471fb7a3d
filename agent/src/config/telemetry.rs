//! `[tracing]`: where spans are told.

use std::path::{Path, PathBuf};

use super::reader::Section;

/// `[tracing]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Where a collector takes OTLP over gRPC; empty: nowhere, and nothing is made for it.
    pub endpoint: String,
    /// The CAs that may vouch for the collector; `None`: those of the host.
    pub ca_file: Option<PathBuf>,
    /// A file with headers that each request carries.
    pub headers_file: Option<PathBuf>,
    /// The share of traces that begin here and are told.
    pub sample: f64,
}

impl Telemetry {
    /// Reads it.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("tracing");
        let endpoint = section.parsed(
            "otlp_endpoint",
            Some(""),
            "Where a collector of OpenTelemetry takes spans by OTLP over gRPC, such as \"http://127.0.0.1:4317\" or \
             \"https://otel.example.com:4317\". Empty: spans are told to nobody.",
            |text| match text.parse::<url::Url>() {
                _ if text.is_empty() => Ok(String::new()),
                Ok(url) if url.password().is_some() || !url.username().is_empty() => {
                    Err("a user or password does not belong here: see otlp_headers_file".to_owned())
                }
                Ok(url) if url.path() != "/" || url.query().is_some() || url.fragment().is_some() => {
                    Err("OTLP over gRPC has no path: name the address alone".to_owned())
                }
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(text.to_owned()),
                _ => Err(format!("{text:?} is no URL such as \"http://127.0.0.1:4317\"")),
            },
        );
        let path = |key: &'static str, help: &'static str| -> Option<PathBuf> {
            let parsed = section.parsed(key, Some(""), help, |text| match Path::new(text) {
                path if text.is_empty() || path.is_absolute() => Ok(path.to_owned()),
                _ => Err(format!("{text:?} is not an absolute path")),
            });
            parsed.filter(|path| !path.as_os_str().is_empty())
        };
        let ca_file = path(
            "otlp_ca_file",
            "CAs that may vouch for the collector's certificate, PEM. Empty: those of the host.",
        );
        let headers_file = path(
            "otlp_headers_file",
            "A file (0600) with headers that each request to the collector carries, one \"name: value\" a line. Empty: none.",
        );
        let sample = section.parsed(
            "sample",
            Some("1.0"),
            "The share of traces that begin in this agent and are told, from \"0\" to \"1.0\". What a caller traces is told \
             as the caller says.",
            |text| match text.parse::<f64>() {
                Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
                _ => Err(format!("{text:?} is not a number from 0 to 1, as text")),
            },
        );
        section.finish();
        Self {
            endpoint: endpoint.unwrap_or_default(),
            ca_file,
            headers_file,
            sample: sample.unwrap_or(1.0),
        }
    }
}
