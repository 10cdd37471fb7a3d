//! Metrics that OpenTelemetry's exporters push over HTTP. Off unless a token is configured, which they must show.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Mutex, MutexGuard};

use flate2::read::MultiGzDecoder;
use genesis_stats::Sketch;
use prost::Message;
use sha2::{Digest, Sha256};

use super::otlp::Receiver;
use super::otlp::wire::Request;
use super::plan::NANOS;
use super::{Baselines, prepare};
use crate::error::{Error, Result};
use crate::outside::notify::check_secret;

/// So many bytes a request has at most, also once it is unpacked.
pub const LIMIT: usize = 4 << 20;
/// So many series that are counted since their start are told apart.
const SERIES: usize = 10_000;
/// So many operations and seconds wait for the disk at most.
const PENDING: usize = 20_000;
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// What is known of those who push.
pub struct Pushed {
    receiver: Receiver,
    /// What is not durable yet, by operation and second since 1970.
    pending: BTreeMap<(String, i64), Sketch>,
    sequence: u64,
}

impl Default for Pushed {
    fn default() -> Self {
        let receiver = Receiver::new(Receiver::usual(), SERIES);
        Self { receiver, pending: BTreeMap::new(), sequence: 0 }
    }
}

/// A request as it came.
pub struct Asked<'a> {
    /// Its header Authorization.
    pub authorization: &'a str,
    /// Its header Content-Type.
    pub kind: &'a str,
    /// Its header Content-Encoding.
    pub encoding: &'a str,
    /// Its body.
    pub body: &'a [u8],
}

impl Baselines {
    fn pushed(&self) -> MutexGuard<'_, Pushed> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.pushed.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes a request of OTLP/HTTP in; the type of the answer, and the answer, once all of it is durable.
    ///
    /// # Errors
    /// `OTLP_OFF`, `OTLP_DENIED`, `OTLP_INVALID`, `OBSERVATIONS_UNAVAILABLE`, `STORAGE_FAILED`; after the last two the same
    /// request may be sent again.
    pub async fn push(&self, asked: Asked<'_>) -> Result<(&'static str, Vec<u8>)> {
        self.admit(asked.authorization)?;
        self.store()?;
        let invalid = |why: String| Error::invalid("OTLP_INVALID", why);
        let body = unpacked(asked.encoding, asked.body).map_err(invalid)?;
        let kind = asked.kind.split(';').next().unwrap_or_default().trim();
        let (kind, request) = match kind {
            JSON => (JSON, Request::from_json(&body)),
            PROTOBUF => (PROTOBUF, Request::from_protobuf(&body)),
            other => return Err(invalid(format!("{other:?} is neither {PROTOBUF} nor {JSON}"))),
        };
        let request = request.map_err(invalid)?;
        let now = i64::try_from(self.outside.clock.now().as_nanosecond()).unwrap_or(i64::MAX);
        let _alone = self.pushing.lock().await;
        let (response, prepared, count) = {
            let mut pushed = self.pushed();
            if pushed.pending.len() >= PENDING {
                let message = "what came before could not be kept yet";
                return Err(Error::unavailable("STORAGE_FAILED", message));
            }
            let taken = pushed.receiver.take(&request, now);
            let response = taken.response();
            for item in taken.items {
                let key = (item.operation, item.unix_nanos.div_euclid(NANOS));
                pushed.pending.entry(key).or_default().merge(&item.sketch);
            }
            pushed.sequence += 1;
            let producer = format!("otlp-{}", self.started_at.as_millisecond().max(0));
            let items = pushed.pending.iter().map(|((name, at), it)| (name.as_str(), *at, it));
            let prepared = prepare::sketches(items, &self.horizon(), (producer, pushed.sequence));
            (response, prepared, pushed.pending.len())
        };
        if count > 0 {
            self.keep_sketches(prepared).await?;
            self.pushed().pending.clear();
        }
        let bytes = match kind {
            JSON => response.to_json().into_bytes(),
            _ => response.encode_to_vec(),
        };
        Ok((kind, bytes))
    }

    fn admit(&self, authorization: &str) -> Result<()> {
        let config = self.config.load();
        let Some(file) = &config.otlp_token_file else {
            let message = "metrics are not taken here: [baselines] otlp_token_file turns it on";
            return Err(Error::not_found("OTLP_OFF", message));
        };
        let token = check_secret(file)
            .and_then(|()| std::fs::read_to_string(file).map_err(|error| error.to_string()));
        let token = token.map_err(|why| {
            Error::unavailable("OTLP_OFF", format!("the token's file can't be used: {why}"))
        })?;
        let token = token.trim();
        let shown = authorization.strip_prefix("Bearer ").unwrap_or_default().trim();
        // Digests take the same time to compare, wherever the tokens differ.
        let same = Sha256::digest(token) == Sha256::digest(shown);
        match !token.is_empty() && same {
            true => Ok(()),
            false => {
                let message = "the header Authorization does not have the token: Bearer TOKEN";
                Err(Error::new(crate::error::Kind::NotAllowed, "OTLP_DENIED", message))
            }
        }
    }
}

fn unpacked(encoding: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    match encoding {
        "" | "identity" => Ok(body.to_vec()),
        "gzip" => {
            let mut out = Vec::new();
            let mut reader = MultiGzDecoder::new(body).take(LIMIT as u64 + 1);
            reader
                .read_to_end(&mut out)
                .map_err(|error| format!("it can't be unpacked: {error}"))?;
            match out.len() > LIMIT {
                true => Err(format!("unpacked it has more than {} MiB", LIMIT >> 20)),
                false => Ok(out),
            }
        }
        other => Err(format!("the encoding {other:?} is neither gzip nor none")),
    }
}

/// What those who push left.
pub type Held = Mutex<Pushed>;
