//! A certificate whose key others know is revoked at its CA: at once, and again by each daily check until the CA has done
//! it. Until then people hear of it, since whoever has the key can pass for this host.

use std::collections::BTreeSet;
use std::time::Duration;

use genesis_storage::{CertificateOrigin, GenerationRecord};
use jiff::Timestamp;

use super::Certificates;
use super::plan::plus;
use super::record::{Event, Who};
use super::verify::Truth;
use super::view::View;
use crate::error::Result;
use crate::events::{Condition, Severity};

/// A CA gets so long for one.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long nobody hears that it is not revoked yet, unless it has failed.
const UNDER_WAY: Duration = Duration::from_secs(120);
/// It could not be revoked.
pub(super) const FAILED: &str = "revoke-failed";

/// What became of a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whether it is revoked; `None`: there is nothing to revoke.
    pub revoked: Option<Truth>,
    /// In words.
    pub detail: String,
}

/// Whether a generation is to be revoked and is not, as far as is known.
pub(super) fn is_pending(generation: &GenerationRecord, now: Timestamp) -> bool {
    generation.origin == CertificateOrigin::Acme
        && generation.compromised_at.is_some()
        && generation.revoked_at.is_none()
        && generation.not_after > now
}

impl Certificates {
    /// Has the CA of a generation revoke it, and notes what became of that.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) async fn revoke(
        &self,
        name: &str,
        generation: &GenerationRecord,
        who: &Who,
    ) -> Result<Revocation> {
        let revocation = |revoked, detail| Ok(Revocation { revoked, detail });
        if let Some(at) = generation.revoked_at {
            return revocation(
                Some(Truth::Pass),
                format!("its CA has revoked it, as was seen at {at}"),
            );
        }
        if generation.origin == CertificateOrigin::SelfSigned || generation.not_after <= self.now()
        {
            return revocation(None, String::new());
        }
        if generation.origin != CertificateOrigin::Acme {
            let issuer = &generation.issuer;
            return revocation(
                Some(Truth::Unknown),
                format!(
                    "it was not ordered from here: whoever ordered it must have {issuer} revoke it"
                ),
            );
        }
        match self.ask_to_revoke(name, generation).await {
            Ok(()) => {
                let (now, ca) = (self.now(), generation.ca.clone());
                let event = Event {
                    kind: "revoked-at-ca",
                    ca: ca.clone(),
                    generation: generation.number,
                    detail: format!("serial {}", generation.serial),
                    ..Event::default()
                };
                self.change_generation(name, generation.number, who, event, move |_, found| {
                    if let Some(found) = found {
                        found.revoked_at.get_or_insert(now);
                    }
                })
                .await?;
                revocation(Some(Truth::Pass), format!("revoked at {ca}"))
            }
            Err(why) => {
                let event = Event {
                    kind: FAILED,
                    ca: generation.ca.clone(),
                    generation: generation.number,
                    detail: why.clone(),
                    outcome: "CERTIFICATE_NOT_REVOKED",
                    ..Event::default()
                };
                self.change(name, who, event, |_| Vec::new()).await?;
                revocation(Some(Truth::Fail), why)
            }
        }
    }

    async fn ask_to_revoke(&self, name: &str, generation: &GenerationRecord) -> Result<(), String> {
        let (number, named) = (generation.number, &generation.ca);
        let Some(ca) = self.config.load().ca(named).cloned() else {
            let why = format!(
                "{named} is not configured any more, so it can't be told: add it as [[certificates.acme]]"
            );
            return Err(why);
        };
        let Some(leaf) = self.leaf_of(name, number) else {
            return Err(format!("generation {number} of {name} can't be read"));
        };
        let asked = self.outside.acme.revoke(&ca.authority, &leaf);
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(trouble)) => {
                Err(format!("it could not be revoked at {named}: {}", trouble.message))
            }
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                Err(format!("{named} did not revoke it within {seconds} s"))
            }
        }
    }

    /// Has revoked what is compromised and is not revoked yet; what could not be, in words.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) async fn revoke_again(&self, who: &Who) -> Result<Vec<String>> {
        let config = self.config.load_full();
        let (mut failed, mut silent) = (Vec::new(), BTreeSet::new());
        for certificate in &config.certificates {
            let name = &certificate.name;
            for generation in self.standing(name)?.generations {
                if !is_pending(&generation, self.now()) {
                    continue;
                }
                // A CA that is down keeps the check waiting once, not for each.
                let detail = match silent.contains(&generation.ca) {
                    true => format!("{} does not answer", generation.ca),
                    false => {
                        let before = self.outside.clock.monotonic();
                        let revocation = self.revoke(name, &generation, who).await?;
                        if revocation.revoked != Some(Truth::Fail) {
                            continue;
                        }
                        if self.outside.clock.monotonic().saturating_sub(before) >= PATIENCE {
                            silent.insert(generation.ca.clone());
                        }
                        revocation.detail
                    }
                };
                failed.push(format!(
                    "{name}: generation {} is compromised and not revoked: {detail}",
                    generation.number
                ));
            }
        }
        Ok(failed)
    }

    /// What people should hear of what is compromised and not revoked.
    pub(super) fn not_revoked(&self, view: &View, now: Timestamp) -> Result<Vec<Condition>> {
        let name = &view.certificate.name;
        let mut all = Vec::new();
        for generation in view.standing.generations.iter().filter(|it| is_pending(it, now)) {
            let (number, since) = (generation.number, generation.compromised_at.unwrap_or(now));
            let failed = self.state.read(|reading| {
                let failed = reading.certificates().events(1, |event| {
                    event.kind == FAILED && event.name == *name && event.generation == number
                })?;
                Ok(failed.into_iter().next())
            })?;
            if failed.is_none() && now < plus(since, UNDER_WAY) {
                continue;
            }
            let mut details: Vec<String> = failed.into_iter().map(|event| event.detail).collect();
            details.push(format!(
                "whoever has its key can pass for this host until {}, or until it is revoked",
                generation.not_after
            ));
            details.push(format!("the daily check tries again; at once: genesisctl cert mark --compromised --domain {name} --generation {number} --reason TEXT"));
            all.push(Condition {
                key: format!("certificate/{name}/not-revoked-{number}"),
                subject: name.clone(),
                severity: Severity::High,
                title: format!(
                    "{name}: generation {number} is compromised, and its CA has not revoked it"
                ),
                details,
                runbook: "certificates".to_owned(),
                since,
                behind: Vec::new(),
            });
        }
        Ok(all)
    }
}
