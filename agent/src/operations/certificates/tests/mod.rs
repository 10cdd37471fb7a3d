//! Tables of the decisions, and stories of whole certificates under a clock that the test moves.

mod budget;
mod clock;
mod clocks;
mod config;
mod diagnose;
mod due;
mod host;
mod job;
mod material;
mod orders;
mod outages;
mod places;
mod plan;
mod revoke;
mod revoked;
mod seasons;
mod watch;

use std::time::Duration;

use genesis_storage::{CertificateOrigin, CertificateRecord, GenerationRecord};
use jiff::Timestamp;

use super::plan::Situation;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// So many seconds after 2026-03-02T00:00:00Z.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_772_409_600 + second).unwrap()
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap())
}

fn days(days: i64) -> Duration {
    seconds(days * DAY)
}

/// One that came at its beginning and lives so many seconds.
fn generation(number: u32, from: i64, life: i64) -> GenerationRecord {
    GenerationRecord {
        name: "gw".to_owned(),
        number,
        origin: CertificateOrigin::Acme,
        ca: "ca".to_owned(),
        identifiers: vec!["gw.example.com".to_owned()],
        serial: format!("{number:02x}"),
        fingerprint: format!("{number:064x}"),
        issuer: "CN=ca".to_owned(),
        not_before: at(from),
        not_after: at(from + life),
        created_at: at(from),
        forced: false,
        proven_at: None,
        compromised_at: None,
        revoked_at: None,
    }
}

fn of(origin: CertificateOrigin, generation: GenerationRecord) -> GenerationRecord {
    GenerationRecord { origin, ..generation }
}

/// How a certificate for gw.example.com stands, for the plan.
struct Case {
    identifiers: Vec<String>,
    record: CertificateRecord,
    generations: Vec<GenerationRecord>,
    backup: Option<GenerationRecord>,
    cas: Vec<String>,
    clock: Option<&'static str>,
    checking: bool,
}

impl Case {
    /// These generations, the newest first, of which the first is in force.
    fn new(generations: Vec<GenerationRecord>) -> Self {
        let number = generations.first().map_or(0, |it| it.number);
        Self {
            identifiers: vec!["gw.example.com".to_owned()],
            record: CertificateRecord {
                name: "gw".to_owned(),
                generation: number,
                greatest: number,
                ..CertificateRecord::default()
            },
            generations,
            backup: None,
            cas: vec!["ca".to_owned(), "second".to_owned()],
            clock: None,
            checking: false,
        }
    }

    fn situation(&self, now: i64) -> Situation<'_> {
        Situation {
            identifiers: &self.identifiers,
            renew_before: days(30),
            cas: &self.cas,
            record: &self.record,
            generations: &self.generations,
            backup: self.backup.as_ref(),
            configuration: "one",
            clock: self.clock,
            checking: self.checking,
            now: at(now),
        }
    }
}

/// The numbers of the generations whose folders are there.
fn numbers(folder: &super::disk::Folder) -> Vec<u32> {
    let names = crate::outside::trees::names(&folder.0).unwrap_or_default();
    let mut numbers: Vec<u32> =
        names.iter().filter_map(|name| name.strip_prefix("gen-")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}
