//! What is in the folder, as the CA: reading it whole, refusing what can't be used, writing what leads first.

use jiff::Timestamp;

use super::folder::{PRIVATE, PUBLIC};
use super::register::{self, CrlStep, Register, State};
use super::sign::{self, Authority, Crl, Signer};
use super::{CA, CRL, INDEX, KEY, Pki};
use crate::error::{Error, Kind, Result};

/// The folder's contents, read.
pub(super) struct Loaded {
    pub(super) register: Register,
    pub(super) authority: Authority,
    pub(super) crl: Option<Crl>,
}

impl Pki {
    /// Refuses a folder that holds anything but the beginning of a CA from which nothing was issued.
    pub(super) fn check_vacant(&self) -> Result<()> {
        let begun = self.register()?.map(|register| register.state);
        let names = self.folder.names()?;
        let ours = |name: &String| [CA, KEY, CRL, INDEX].contains(&name.as_str());
        let shown = self.dir().display();
        match begun {
            Some(State::Ready) => {
                let message = format!("{shown} holds a CA already; name another folder with --dir");
                Err(Error::new(Kind::Refused, "PKI_EXISTS", message))
            }
            None if names.iter().any(ours) => {
                let message = format!(
                    "{shown} holds {} without the register {INDEX}; restore that from a backup, \
                     or name another folder with --dir",
                    names.join(", ")
                );
                Err(Error::new(Kind::Refused, "PKI_EXISTS", message))
            }
            _ if !names.iter().all(ours) => {
                let message = format!(
                    "{shown} holds other files ({}); name a folder that is empty or not there yet with --dir",
                    names.join(", ")
                );
                Err(Error::new(Kind::Refused, "PKI_FOLDER_NOT_EMPTY", message))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn invalid(&self, name: &str, what: &str) -> Error {
        let path = self.folder.file(name);
        let message = format!(
            "{} can't be used: {what}; nothing was changed; restore it from a backup",
            path.display()
        );
        Error::internal("PKI_FILE_INVALID", message)
    }

    pub(super) fn register(&self) -> Result<Option<Register>> {
        let Some(bytes) = self.folder.read(INDEX)? else { return Ok(None) };
        Register::parse(&bytes).map(Some).map_err(|what| self.invalid(INDEX, &what))
    }

    pub(super) fn authority(&self) -> Result<Authority> {
        let bytes =
            self.folder.read(CA)?.ok_or_else(|| self.invalid(CA, "there is no such file"))?;
        Authority::parse(&bytes).map_err(|what| self.invalid(CA, &what))
    }

    pub(super) fn signer(&self, authority: &Authority) -> Result<Signer> {
        let bytes =
            self.folder.read(KEY)?.ok_or_else(|| self.invalid(KEY, "there is no such file"))?;
        self.folder.check_private(KEY)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| self.invalid(KEY, "it is no text"))?;
        authority.signer(text).map_err(|what| self.invalid(KEY, &what))
    }

    pub(super) fn load(&self) -> Result<Loaded> {
        let shown = self.dir().display();
        let Some(register) = self.register()? else {
            let message = format!(
                "there is no CA in {shown}: make one with `pki init`, or name its folder with --dir"
            );
            return Err(Error::not_found("PKI_MISSING", message));
        };
        if register.state == State::Initialising {
            let message = format!(
                "the making of the CA in {shown} was cut off; nothing was issued: run `pki init` again"
            );
            return Err(Error::new(Kind::Refused, "PKI_INCOMPLETE", message));
        }
        let authority = self.authority()?;
        let crl = self.folder.read(CRL)?.and_then(|bytes| authority.read_crl(&bytes));
        Ok(Loaded { register, authority, crl })
    }

    /// What each change begins with, under the lock: the key, a clock that can be right, and a revocation list
    /// that says what the register says.
    pub(super) fn begin_change(&self, now: Timestamp) -> Result<(Loaded, Signer)> {
        let mut loaded = self.load()?;
        let signer = self.signer(&loaded.authority)?;
        register::check_clock(now, loaded.authority.not_before, loaded.authority.not_after)?;
        match loaded.register.crl_step(loaded.crl.as_ref()) {
            CrlStep::Keep => {}
            CrlStep::Sign(number) => {
                if number != loaded.register.crl.number {
                    loaded.register.crl.number = number;
                    self.write_register(&loaded.register)?;
                }
                self.write_crl(&loaded.register, &signer, now)?;
            }
            CrlStep::RegisterIsOlder(what) => {
                let message = format!(
                    "{INDEX} in {} is older than {CRL}: {what}; restore the newest {INDEX}, or, to go on with \
                     this one, move {CRL} away",
                    self.dir().display()
                );
                return Err(Error::new(Kind::Refused, "PKI_REGISTER_STALE", message));
            }
        }
        Ok((loaded, signer))
    }

    /// Puts a new list on record, then signs it: a crash in between leaves a list that lags, never one that is ahead.
    pub(super) fn renew_crl(
        &self,
        register: &mut Register,
        signer: &Signer,
        days: u32,
        now: Timestamp,
    ) -> Result<()> {
        register.crl.number = register.crl.number.saturating_add(1);
        register.crl.days = days;
        self.write_register(register)?;
        self.write_crl(register, signer, now)
    }

    pub(super) fn write_register(&self, register: &Register) -> Result<()> {
        self.folder.put(INDEX, &register.text()?, PRIVATE)
    }

    pub(super) fn write_crl(
        &self,
        register: &Register,
        signer: &Signer,
        now: Timestamp,
    ) -> Result<()> {
        let out_of_range =
            || Error::invalid("PKI_VALIDITY_INVALID", "the next update is beyond the calendar");
        let next_update = register::later(now, register.crl.days).ok_or_else(out_of_range)?;
        let this_update = now.checked_sub(register::SKEW).unwrap_or(now);
        let pem = sign::make_crl(
            signer,
            register.crl.number,
            this_update,
            next_update,
            &register.entries,
        )?;
        self.folder.put(CRL, pem.as_bytes(), PUBLIC)
    }
}
