//! Certificates: how each one stands, its generations, and what happened to it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::moment::Moment;
use crate::record::{Record, check_name, decode, encode};
use crate::schema::{CERTIFICATE_EVENTS, CERTIFICATE_GENERATIONS, CERTIFICATES};
use crate::view::{Sink, Source};

/// Where a generation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateOrigin {
    /// Ordered from a CA.
    Acme,
    /// Taken over from another client.
    Imported,
    /// The one that people installed for need.
    Backup,
    /// Made by the agent itself; no client trusts it.
    SelfSigned,
}

/// Why an attempt failed, by what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateTrouble {
    /// It is too often.
    RateLimited,
    /// The CA could not see that the host has the domain.
    Authorization,
    /// The CA can't be reached, or fails.
    Server,
    /// The CA refuses, and time does not mend that.
    Policy,
    /// Something on this host failed.
    Local,
    /// A clock is wrong.
    Clock,
}

/// An order that was placed and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// The CA's name.
    pub ca: String,
    /// Where it is at the CA.
    pub url: String,
    /// The generation whose key it is for.
    pub generation: u32,
    /// For these.
    pub identifiers: Vec<String>,
    /// When it was placed.
    pub at: Timestamp,
    /// Whether somebody asked for it before it was due.
    pub forced: bool,
}

/// A generation that is being put into service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployingRecord {
    /// Its number.
    pub generation: u32,
    /// Whether somebody goes back to it.
    pub rolled_back: bool,
    /// Who keeps it in service once it is there.
    pub pin: Option<PinRecord>,
    /// Whether it is in place and could not be seen to be served, while there is nothing better. Otherwise somebody is at
    /// it, or was cut off.
    pub failed: bool,
}

/// Why the next attempt waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackoffRecord {
    /// Until then; of a refusal that time does not mend `None`.
    pub until: Option<Timestamp>,
    /// What is done about it.
    pub trouble: CertificateTrouble,
    /// How often in a row.
    pub failures: u32,
    /// What the last attempt failed with.
    pub error: String,
    /// What was found out about it: code, subject, and what to do.
    pub diagnosis: Vec<(String, String, String)>,
    /// When it failed.
    pub at: Timestamp,
    /// The configuration that it failed with: another one is tried at once.
    pub configuration: String,
    /// The CAs that failed, and until when each is not asked again; `None`: until the configuration is another.
    #[serde(default)]
    pub waits: Vec<(String, Option<Timestamp>)>,
    /// Whether it was a generation that could not be brought into service.
    #[serde(default)]
    pub placing: bool,
}

/// When the CA wants a certificate to be renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalRecord {
    /// The certificate that it is about.
    pub fingerprint: String,
    /// The window, and the instant in it that was chosen; `None`: the CA gave none that can be used.
    pub window: Option<(Timestamp, Timestamp, Timestamp)>,
    /// When the CA is asked again.
    pub ask_at: Timestamp,
    /// The page that says why; empty: none.
    pub explanation: String,
}

/// Who keeps a generation in service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRecord {
    /// Since when.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// How a certificate stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// Its name in the configuration.
    pub name: String,
    /// The generation in force; 0: none.
    pub generation: u32,
    /// The greatest number that a generation ever had.
    pub greatest: u32,
    /// A generation that is being put into service: the one before it is in `generation`.
    pub deploying: Option<DeployingRecord>,
    /// When the one in force was deployed.
    pub deployed_at: Option<Timestamp>,
    /// Whether it is kept in service.
    pub pin: Option<PinRecord>,
    /// The orders that have not ended, at most one with each CA, the newest last.
    pub orders: Vec<OrderRecord>,
    /// Why the next attempt waits.
    pub backoff: Option<BackoffRecord>,
    /// When the CA wants it to be renewed.
    pub renewal: Option<RenewalRecord>,
    /// Since when a self-signed one is in service.
    pub self_signed_since: Option<Moment>,
    /// When an attempt was last begun.
    pub attempted_at: Option<Timestamp>,
    /// The CAs that said until when nothing is to be ordered from them.
    #[serde(default)]
    pub waits: Vec<(String, Timestamp)>,
}

impl Record for CertificateRecord {
    const TABLE: &'static str = "certificates";
    const VERSION: u8 = 1;
}

/// A certificate and its key on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// The certificate's name.
    pub name: String,
    /// Its number; that of the one for need is 0.
    pub number: u32,
    /// Where it came from.
    pub origin: CertificateOrigin,
    /// The CA's name in the configuration; empty: none.
    pub ca: String,
    /// What it is for.
    pub identifiers: Vec<String>,
    /// In hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// As X.509 names it.
    pub issuer: String,
    /// From.
    pub not_before: Timestamp,
    /// Until.
    pub not_after: Timestamp,
    /// When it came here.
    pub created_at: Timestamp,
    /// Whether somebody asked for it before it was due.
    pub forced: bool,
    /// When it was last seen to be served.
    pub proven_at: Option<Timestamp>,
    /// When somebody said that its key is known to others.
    pub compromised_at: Option<Timestamp>,
    /// When its CA was found to have revoked it.
    pub revoked_at: Option<Timestamp>,
}

impl Record for GenerationRecord {
    const TABLE: &'static str = "certificate_generations";
    const VERSION: u8 = 1;
}

/// What happened to a certificate. What CAs allow is counted by these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateEventRecord {
    /// A ULID.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// The certificate.
    pub name: String,
    /// Such as "ordered" or "issued".
    pub kind: String,
    /// The CA's name; empty: none.
    pub ca: String,
    /// The generation; 0: none.
    pub generation: u32,
    /// What it was about: sorted, in lower case.
    pub identifiers: Vec<String>,
    /// Whether the CA took it for a replacement, which it does not count.
    pub exempt: bool,
    /// In words.
    pub detail: String,
    /// Who.
    pub actor: String,
}

impl Record for CertificateEventRecord {
    const TABLE: &'static str = "certificate_events";
    const VERSION: u8 = 1;
}

/// Reads certificates.
#[derive(Clone, Copy)]
pub struct Certificates<'t> {
    source: Source<'t>,
}

impl<'t> Certificates<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// How the certificate of this name stands.
    pub fn get(&self, name: &str) -> Result<Option<CertificateRecord>, StorageError> {
        let view = self.source.view(CERTIFICATES)?;
        let row = view.get(name)?;
        row.map(|row| decode(&name, row.value())).transpose()
    }

    /// How the certificate of this name stands; as a new one does, where nothing is known of it.
    pub fn get_or_new(&self, name: &str) -> Result<CertificateRecord, StorageError> {
        let new = || CertificateRecord { name: name.to_owned(), ..CertificateRecord::default() };
        Ok(self.get(name)?.unwrap_or_else(new))
    }

    /// A generation; number 0 is the one for need.
    pub fn generation(
        &self,
        name: &str,
        number: u32,
    ) -> Result<Option<GenerationRecord>, StorageError> {
        let view = self.source.view(CERTIFICATE_GENERATIONS)?;
        let row = view.get((name, number))?;
        row.map(|row| decode(&format!("{name}/{number}"), row.value())).transpose()
    }

    /// All of them, by name.
    pub fn all(&self) -> Result<Vec<CertificateRecord>, StorageError> {
        self.source.view(CERTIFICATES)?.with_prefix("", usize::MAX)
    }

    /// The generations of a certificate, the newest first; the one for need, number 0, last.
    pub fn generations(&self, name: &str) -> Result<Vec<GenerationRecord>, StorageError> {
        let view = self.source.view(CERTIFICATE_GENERATIONS)?;
        let rows = view.range((name, 0)..=(name, u32::MAX))?;
        let read = rows.map(|row| {
            let (key, value) = row?;
            let (name, number) = key.value();
            decode(&format!("{name}/{number}"), value.value())
        });
        let mut read = read.collect::<Result<Vec<_>, _>>()?;
        read.reverse();
        Ok(read)
    }

    /// At most `limit` events, newest first, that `wanted` picks.
    pub fn events(
        &self,
        limit: usize,
        wanted: impl Fn(&CertificateEventRecord) -> bool,
    ) -> Result<Vec<CertificateEventRecord>, StorageError> {
        self.source.view(CERTIFICATE_EVENTS)?.last(limit, wanted)
    }
}

/// Writes certificates.
#[derive(Clone, Copy)]
pub struct CertificatesWriting<'t> {
    reading: Certificates<'t>,
    sink: Sink<'t>,
}

reads_as!(CertificatesWriting => Certificates, reading);

impl<'t> CertificatesWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Certificates::new(sink.source()), sink }
    }

    /// Writes or replaces how a certificate stands.
    pub fn put(&self, record: &CertificateRecord) -> Result<(), StorageError> {
        check_name(CertificateRecord::TABLE, &record.name)?;
        let bytes = encode(&record.name.as_str(), record)?;
        self.sink.edit(CERTIFICATES)?.insert(record.name.as_str(), bytes.as_slice())
    }

    /// Writes or replaces a generation.
    pub fn put_generation(&self, record: &GenerationRecord) -> Result<(), StorageError> {
        check_name(GenerationRecord::TABLE, &record.name)?;
        let bytes = encode(&format!("{}/{}", record.name, record.number), record)?;
        let key = (record.name.as_str(), record.number);
        self.sink.edit(CERTIFICATE_GENERATIONS)?.insert(key, bytes.as_slice())
    }

    /// Forgets a generation that is not on the disk any more.
    pub fn remove_generation(&self, name: &str, number: u32) -> Result<bool, StorageError> {
        self.sink.edit(CERTIFICATE_GENERATIONS)?.remove((name, number))
    }

    /// Writes an event. Of those before `counted_from`, which no limit counts any more, the oldest go where there are more
    /// than `keep`.
    pub fn put_event(
        &self,
        record: &CertificateEventRecord,
        counted_from: Timestamp,
        keep: usize,
    ) -> Result<(), StorageError> {
        check_name(CertificateEventRecord::TABLE, &record.id)?;
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(CERTIFICATE_EVENTS)?.insert(record.id.as_str(), bytes.as_slice())?;
        let old = self.events(usize::MAX, |event| event.at < counted_from)?;
        let mut table = self.sink.edit(CERTIFICATE_EVENTS)?;
        for event in old.iter().skip(keep) {
            table.remove(event.id.as_str())?;
        }
        Ok(())
    }
}

/// Notes what needs no entry in the oplog: when a CA is asked again.
#[derive(Clone, Copy)]
pub struct CertificatesBookkeeping<'t> {
    writing: CertificatesWriting<'t>,
}

impl<'t> CertificatesBookkeeping<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { writing: CertificatesWriting::new(sink) }
    }

    /// A CA was asked when it wants a certificate renewed, and said what it had said before.
    pub fn asked(&self, name: &str, renewal: RenewalRecord) -> Result<(), StorageError> {
        match self.writing.get(name)? {
            Some(record) => {
                self.writing.put(&CertificateRecord { renewal: Some(renewal), ..record })
            }
            None => Ok(()),
        }
    }

    /// Sets a number aside for a generation that somebody is about to make: greater than each that was, and than
    /// `others`. Nobody else gets it, also after a crash.
    pub fn reserve(&self, name: &str, others: u32) -> Result<u32, StorageError> {
        let mut record = self.writing.get_or_new(name)?;
        record.greatest = record.greatest.max(others).saturating_add(1);
        self.writing.put(&record)?;
        Ok(record.greatest)
    }

    /// What was found out about the failure that was noted at this time.
    pub fn diagnosed(
        &self,
        name: &str,
        at: Timestamp,
        diagnosis: Vec<(String, String, String)>,
    ) -> Result<(), StorageError> {
        let mut record = self.writing.get_or_new(name)?;
        match record.backoff.as_mut().filter(|it| it.at == at) {
            Some(backoff) => backoff.diagnosis = diagnosis,
            None => return Ok(()),
        }
        self.writing.put(&record)
    }
}
