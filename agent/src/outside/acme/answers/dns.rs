//! dns-01 by dynamic update (RFC 2136), signed (RFC 8945).

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};

use super::super::DnsUpdate;
use super::super::account::decoded;
use super::super::client::{Files, read};
use super::wire;
use crate::outside::Clock;

/// How long others may remember the record, in seconds.
const TTL: u32 = 60;
/// What the clocks may differ by, in seconds.
const FUDGE: u16 = 300;
/// A file of a key is no longer than this, in bytes.
const KEY: u64 = 8 << 10;
/// The first pause before a server is asked again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A record that is set, or about to be.
#[derive(Clone)]
pub(super) struct Set {
    update: DnsUpdate,
    signer: TSigner,
    zone: Name,
    name: Name,
    value: String,
    clock: Arc<dyn Clock>,
}

/// Finds out where the record goes; nothing is changed yet.
///
/// # Errors
/// In words.
pub(super) async fn prepared(
    update: &DnsUpdate,
    domain: &str,
    value: &str,
    files: &Files,
    clock: Arc<dyn Clock>,
) -> Result<Set, String> {
    let signer = signer(update, files).await?;
    let asked = wire::name(&format!("_acme-challenge.{domain}"))?;
    // Somebody may have delegated it to a zone that is made for updates.
    let name = target(update, &asked).await?;
    let zone = match &update.zone {
        Some(zone) => wire::name(zone)?,
        None => zone_of(update, &name).await?,
    };
    if !zone.zone_of(&name) {
        return Err(format!("{name} is not in the zone {zone}"));
    }
    Ok(Set { update: update.clone(), signer, zone, name, value: value.to_owned(), clock })
}

impl Set {
    /// What makes it another record than others.
    pub(super) fn place(&self) -> String {
        format!("{} {} {}", self.zone, self.name, self.value)
    }

    /// Whether it has this value.
    pub(super) fn is_for(&self, value: &str) -> bool {
        self.value == value
    }

    /// Adds the value to those that the name has.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn present(&self) -> Result<(), String> {
        self.change(DNSClass::IN, TTL).await
    }

    /// Takes that very value away again; one that is gone is no error.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn remove(&self) -> Result<(), String> {
        // RFC 2136, 2.5.4.
        self.change(DNSClass::NONE, 0).await
    }

    /// Waits until the server answers with it.
    ///
    /// # Errors
    /// In words, when it does not in the time it has.
    pub(super) async fn seen(&self) -> Result<(), String> {
        let (mut pause, longest) = PAUSES;
        let look = async {
            loop {
                let asked = wire::ask(self.update.server, &self.name, RecordType::TXT).await;
                if asked.is_ok_and(|answer| wire::holds(&answer, &self.value)) {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        };
        let wait = self.update.wait;
        tokio::time::timeout(wait, look).await.map_err(|_| {
            let seconds = wait.as_secs_f64();
            format!("{} does not answer with {} within {seconds} s", self.update.server, self.name)
        })
    }

    async fn change(&self, class: DNSClass, ttl: u32) -> Result<(), String> {
        let data = RData::TXT(TXT::new(vec![self.value.clone()]));
        let mut record = Record::from_rdata(self.name.clone(), ttl, data);
        record.dns_class = class;
        let mut message = wire::update_of(&self.zone);
        // The section of updates is where other messages have authorities.
        message.add_authority(record);
        let now = u64::try_from(self.clock.now().as_second()).unwrap_or(0);
        let done = wire::update(self.update.server, message, &self.signer, now).await;
        done.map_err(|why| format!("{} in {}: {why}", self.name, self.zone))
    }
}

async fn signer(update: &DnsUpdate, files: &Files) -> Result<TSigner, String> {
    let algorithm = algorithm(&update.algorithm)?;
    let bytes = read(&update.key_file, KEY, true, files).await?;
    let key = decoded(&bytes)
        .ok_or_else(|| format!("{} is no key in base64", update.key_file.display()))?;
    let name = wire::name(&update.key_name)?;
    TSigner::new(key, algorithm, name, FUDGE).map_err(|_| "this key can't be used".to_owned())
}

fn algorithm(name: &str) -> Result<TsigAlgorithm, String> {
    match name {
        "hmac-sha256" => Ok(TsigAlgorithm::HmacSha256),
        "hmac-sha384" => Ok(TsigAlgorithm::HmacSha384),
        "hmac-sha512" => Ok(TsigAlgorithm::HmacSha512),
        other => Err(format!("{other:?} is no algorithm; use hmac-sha256, -sha384 or -sha512")),
    }
}

/// Where a name leads to, as its server says.
async fn target(update: &DnsUpdate, asked: &Name) -> Result<Name, String> {
    let mut name = asked.clone();
    for _ in 0..wire::ALIASES {
        let answer = wire::ask(update.server, &name, RecordType::CNAME).await?;
        let next = wire::followed(&answer.answers, &name);
        if next == name {
            return Ok(name);
        }
        name = next;
    }
    Err(format!("{asked} leads through too many aliases"))
}

/// The zone that a name is in, as its server says: asked at each of its labels, from below.
async fn zone_of(update: &DnsUpdate, name: &Name) -> Result<Name, String> {
    let mut at = name.clone();
    while at.num_labels() >= 1 {
        if let Ok(answer) = wire::ask(update.server, &at, RecordType::SOA).await
            && let Some(zone) = wire::zone_in(&answer, name)
        {
            return Ok(zone);
        }
        at = at.base_name();
    }
    Err(format!("{} has no zone for {name}", update.server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_algorithms_are_known() {
        for name in ["hmac-sha256", "hmac-sha384", "hmac-sha512"] {
            assert!(algorithm(name).is_ok_and(|it| it.supported()), "{name}");
        }
        for name in ["hmac-md5", "hmac-sha1", "HMAC-SHA256", ""] {
            assert!(algorithm(name).is_err(), "{name}");
        }
    }
}
