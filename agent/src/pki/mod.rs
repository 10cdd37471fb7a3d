//! A small certificate authority for fleets that have none: `genesis-agent pki`.
//!
//! It works offline on one folder: `ca.pem`, `ca.key`, `crl.pem` and the register `index.json`. The register
//! leads. A certificate is in it before anybody gets the certificate, a revocation before the revocation list
//! is signed. Whatever a crash leaves, the next command finds a whole register and signs a list that lags
//! behind it. Each change holds an exclusive lock on the folder and starts from what is on disk.
//!
//! Time is an argument everywhere; only keys and serial numbers are random.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

pub mod args;
pub mod command;
mod context;
mod files;
mod folder;
mod names;
mod register;
mod sign;
#[cfg(test)]
mod tests;

pub use names::{Role, Serial};
pub use register::{Entry, Finding, Reason, Revocation, Validity, days_left};
pub use sign::Crl;

use crate::error::{Error, Result};
use files::Loaded;
use folder::{Folder, PRIVATE, PUBLIC};
use register::{CrlStep, Register, State};
use sign::Contents;

/// The CA's certificate.
const CA: &str = "ca.pem";
/// The CA's key.
pub const KEY: &str = "ca.key";
/// The newest revocation list.
const CRL: &str = "crl.pem";
/// The register.
const INDEX: &str = "index.json";
/// So many days after a revocation list is signed, its successor is due.
pub const CRL_DAYS: u32 = 30;

/// What a new CA is to be.
#[derive(Debug, Clone)]
pub struct InitRequest {
    /// The fleet that it is for.
    pub fleet: String,
    /// How long it is to be valid.
    pub validity: Validity,
}

/// What a new certificate is to be.
#[derive(Debug, Clone)]
pub struct IssueRequest {
    /// Whose it is to be.
    pub name: String,
    /// What it makes of its holder; [`Role::Agent`] is a server's.
    pub role: Role,
    /// For servers: DNS names and addresses beside the name. Empty for clients.
    pub hosts: Vec<String>,
    /// How long it is to be valid. It must not outlive the CA.
    pub validity: Validity,
}

/// A certificate that was just issued.
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key, in PKCS #8; kept nowhere else.
    pub key_pem: String,
    /// The CA's certificate.
    pub ca_pem: String,
    /// What the register says about it.
    pub entry: Entry,
}

/// What a revocation did.
#[derive(Debug, Clone)]
pub struct Revoked {
    /// The certificates that it revoked.
    pub revoked: Vec<Entry>,
    /// Those that were revoked before.
    pub already: Vec<Entry>,
    /// The number of the revocation list in force.
    pub crl_number: u64,
}

/// The CA's certificate in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaFacts {
    /// In hex.
    pub serial: String,
    /// Its subject, which is the issuer of all others.
    pub subject: String,
    /// It is valid from here,
    pub not_before: Timestamp,
    /// and until here.
    pub not_after: Timestamp,
    /// sha256 of its DER, in hex.
    pub sha256: String,
}

/// Everything that the folder says at one instant.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The fleet.
    pub fleet: String,
    /// The CA.
    pub ca: CaFacts,
    /// The revocation list; `None` when it is missing or unreadable.
    pub crl: Option<Crl>,
    /// Every certificate, in the order of issue.
    pub entries: Vec<Entry>,
    /// What is over or close to its end.
    pub findings: Vec<Finding>,
}

/// A CA in its folder.
#[derive(Debug, Clone)]
pub struct Pki {
    folder: Folder,
}

impl Pki {
    /// Makes a CA in a folder that is empty or not there yet.
    ///
    /// # Errors
    /// `PKI_NAME_INVALID`, `PKI_VALIDITY_INVALID`, `PKI_EXISTS`, `PKI_FOLDER_NOT_EMPTY`, `PKI_BUSY`,
    /// `PKI_FILE_FAILED`, `PKI_FILE_INVALID`, `PKI_SIGN_FAILED`.
    pub fn init(dir: &Path, request: &InitRequest, now: Timestamp) -> Result<Self> {
        names::check_name("the fleet's name", &request.fleet)?;
        let (not_before, not_after) = request.validity.instants(now)?;
        let pki = Self { folder: Folder::new(dir) };
        pki.folder.create()?;
        let _lock = pki.folder.lock()?;
        pki.check_vacant()?;
        pki.folder.make_private()?;
        let mut register = Register::new(&request.fleet, CRL_DAYS);
        // The mark comes first: with it, a cut-off beginning can't be mistaken for a CA that lost its register.
        pki.write_register(&register)?;
        let serial = sign::random_serial()?;
        let made = sign::make_authority(&request.fleet, serial, not_before, not_after)?;
        pki.folder.put(KEY, made.key_pem.as_bytes(), PRIVATE)?;
        pki.folder.put(CA, made.certificate_pem.as_bytes(), PUBLIC)?;
        let authority = pki.authority()?;
        let signer = pki.signer(&authority)?;
        pki.write_crl(&register, &signer, now)?;
        register.state = State::Ready;
        pki.write_register(&register)?;
        Ok(pki)
    }

    /// Opens the CA in a folder. The key is not looked at before something is to be signed.
    ///
    /// # Errors
    /// `PKI_MISSING`, `PKI_INCOMPLETE`, `PKI_FILE_INVALID`, `PKI_FILE_FAILED`.
    pub fn open(dir: &Path) -> Result<Self> {
        let pki = Self { folder: Folder::new(dir) };
        pki.load()?;
        Ok(pki)
    }

    /// Every certificate that the PKI in a folder has issued, in the order of issue; empty where there is no PKI.
    /// Takes no lock and changes nothing.
    ///
    /// # Errors
    /// `PKI_FILE_INVALID`, `PKI_FILE_FAILED`.
    pub fn read_register(dir: &Path) -> Result<Vec<Entry>> {
        let pki = Self { folder: Folder::new(dir) };
        Ok(pki.register()?.map(|register| register.entries).unwrap_or_default())
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Issues a certificate with a key of its own. It is in the register, durably, before this returns.
    ///
    /// # Errors
    /// `PKI_NAME_INVALID`, `PKI_HOST_INVALID`, `PKI_VALIDITY_INVALID`, and those of every change:
    /// `PKI_BUSY`, `PKI_MISSING`, `PKI_INCOMPLETE`, `PKI_FILE_INVALID`, `PKI_FILE_FAILED`,
    /// `PKI_KEY_EXPOSED`, `PKI_CLOCK_WRONG`, `PKI_CA_EXPIRED`, `PKI_REGISTER_STALE`, `PKI_SIGN_FAILED`.
    pub fn issue(&self, request: &IssueRequest, now: Timestamp) -> Result<Issued> {
        let hosts = self.check_issue(request)?;
        let _lock = self.folder.lock()?;
        let (mut loaded, signer) = self.begin_change(now)?;
        let (not_before, not_after) = request.validity.instants(now)?;
        let ca_ends = loaded.authority.not_after;
        if not_after > ca_ends {
            let message = format!(
                "the certificate would outlive the CA, which ends at {ca_ends}: ask for at most {} days",
                days_left(now, ca_ends)
            );
            return Err(Error::invalid("PKI_VALIDITY_INVALID", message));
        }
        let serial = loop {
            let serial = sign::random_serial()?;
            if loaded.register.entries.iter().all(|entry| entry.serial != serial) {
                break serial;
            }
        };
        let uri = names::identity(&loaded.register.fleet, request.role, &request.name);
        let contents = Contents {
            serial,
            name: &request.name,
            role: request.role,
            uri: &uri,
            hosts: &hosts,
            not_before,
            not_after,
        };
        let made = sign::make_certificate(&signer, &contents)?;
        let entry = Entry {
            serial,
            name: request.name.clone(),
            role: request.role,
            uri,
            hosts: hosts.iter().map(ToString::to_string).collect(),
            issued_at: register::whole(now).unwrap_or(now),
            not_before,
            not_after,
            sha256: made.sha256,
            revoked: None,
        };
        loaded.register.entries.push(entry.clone());
        self.write_register(&loaded.register)?;
        Ok(Issued {
            certificate_pem: made.certificate_pem,
            key_pem: made.key_pem,
            ca_pem: loaded.authority.pem,
            entry,
        })
    }

    /// Revokes the certificate of a serial number, or every certificate of a name, and signs a new list.
    ///
    /// # Errors
    /// `PKI_NOT_FOUND`, `PKI_VALIDITY_INVALID`, and those of every change (see [`Pki::issue`]).
    pub fn revoke(
        &self,
        target: &str,
        reason: Reason,
        crl_days: u32,
        now: Timestamp,
    ) -> Result<Revoked> {
        Validity::Days(crl_days).instants(now)?;
        let _lock = self.folder.lock()?;
        let (mut loaded, signer) = self.begin_change(now)?;
        let register = &mut loaded.register;
        let (mut revoked, mut already) = (Vec::new(), Vec::new());
        for index in register.find(target)? {
            let Some(entry) = register.entries.get_mut(index) else { continue };
            if entry.revoked.is_some() {
                already.push(entry.clone());
            } else {
                let at = register::whole(now).unwrap_or(now);
                entry.revoked = Some(Revocation { at, reason });
                revoked.push(entry.clone());
            }
        }
        if !revoked.is_empty() {
            self.renew_crl(register, &signer, crl_days, now)?;
        }
        Ok(Revoked { revoked, already, crl_number: register.crl.number })
    }

    /// Signs a new revocation list of the same certificates, and returns its number.
    ///
    /// # Errors
    /// `PKI_VALIDITY_INVALID`, and those of every change (see [`Pki::issue`]).
    pub fn sign_crl(&self, crl_days: u32, now: Timestamp) -> Result<u64> {
        Validity::Days(crl_days).instants(now)?;
        let _lock = self.folder.lock()?;
        let (mut loaded, signer) = self.begin_change(now)?;
        self.renew_crl(&mut loaded.register, &signer, crl_days, now)?;
        Ok(loaded.register.crl.number)
    }

    /// Signs the revocation list anew if it lags behind the register or is missing; returns the number of the
    /// new list.
    ///
    /// # Errors
    /// Those of every change (see [`Pki::issue`]).
    pub fn catch_up(&self, now: Timestamp) -> Result<Option<u64>> {
        // A look without the lock and the key first: most of the time there is nothing to do.
        let loaded = self.load()?;
        if loaded.register.crl_step(loaded.crl.as_ref()) == CrlStep::Keep {
            return Ok(None);
        }
        let _lock = self.folder.lock()?;
        let (loaded, _) = self.begin_change(now)?;
        Ok(Some(loaded.register.crl.number))
    }

    /// Every certificate, in the order of issue.
    ///
    /// # Errors
    /// Those of [`Pki::open`].
    pub fn list(&self) -> Result<Vec<Entry>> {
        Ok(self.load()?.register.entries)
    }

    /// Everything that the folder says, with what is wrong with it at `now`.
    ///
    /// # Errors
    /// Those of [`Pki::open`].
    pub fn overview(&self, now: Timestamp) -> Result<Overview> {
        let Loaded { register, authority, crl } = self.load()?;
        let next_update = crl.as_ref().map(|crl| crl.next_update);
        let findings = register::findings(now, authority.not_after, next_update, &register.entries);
        Ok(Overview {
            fleet: register.fleet,
            ca: CaFacts {
                serial: authority.serial,
                subject: authority.subject,
                not_before: authority.not_before,
                not_after: authority.not_after,
                sha256: authority.sha256,
            },
            crl,
            entries: register.entries,
            findings,
        })
    }

    /// The fleet of the CA.
    ///
    /// # Errors
    /// Those of [`Pki::open`].
    pub fn fleet(&self) -> Result<String> {
        Ok(self.load()?.register.fleet)
    }

    fn check_issue(&self, request: &IssueRequest) -> Result<Vec<names::Host>> {
        names::check_name("the name", &request.name)?;
        if request.role == Role::Agent {
            return names::server_hosts(&request.name, &request.hosts);
        }
        if request.hosts.is_empty() {
            return Ok(Vec::new());
        }
        Err(Error::invalid("PKI_HOST_INVALID", "a client's certificate names no hosts"))
    }
}
