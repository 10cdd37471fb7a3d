//! A generation comes into service: the link, the copies, whoever serves it, and a look at what is served. What can't be
//! seen to be served is taken back.

use std::time::Duration;

use genesis_storage::{CertificateOrigin, DeployingRecord, GenerationRecord, PinRecord};
use serde_json::json;

use super::config::Certificate;
use super::record::{Event, Who};
use super::renew::disk_failed;
use super::revoke::is_pending;
use super::verify::Served;
use super::{Certificates, copies, disk, lock, material, plan};
use crate::error::{Error, Result};
use crate::outside::{failpoint, handshake, hooks};

/// Whoever serves it is asked so often to take it.
const ASKED: usize = 3;
/// After each time it is looked so long whether it did: a server that begins anew is not there at once.
const LOOKS: Duration = Duration::from_secs(3);
/// The pause between two looks, at first; it doubles.
const PAUSE: Duration = Duration::from_millis(5);
/// A look may take so long.
const LOOK: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// Whether it is served; `None`: nobody looks.
    pub seen: Option<bool>,
    /// In words.
    pub evidence: String,
}

impl Certificates {
    /// Puts a generation into service, unless the one in force is pinned.
    ///
    /// # Errors
    /// `CERTIFICATE_PINNED`, `GENERATION_UNUSABLE`, `DEPLOY_FAILED` when what was in service is in service again.
    pub(super) async fn deploy(
        &self,
        certificate: &Certificate,
        number: u32,
        who: &Who,
    ) -> Result<Deployed> {
        let turn = self.turn(&certificate.name);
        let _turn = turn.lock().await;
        let standing = self.standing(&certificate.name)?;
        let cut_off = standing.record.deploying.clone().filter(|it| it.generation == number);
        if let Some(deploying) = cut_off {
            return self.place_in_turn(certificate, who, deploying).await;
        }
        // One that signs itself is replaced, whoever wanted to keep it.
        let sound = standing.current().is_some_and(|it| {
            it.origin != CertificateOrigin::SelfSigned && plan::good(it, self.now()).is_ok()
        });
        if standing.record.pin.is_some() && sound {
            let message = format!(
                "generation {} of {} is pinned; `genesisctl cert unpin` ends that",
                standing.record.generation, certificate.name
            );
            return Err(Error::refused("CERTIFICATE_PINNED", message, Vec::new()));
        }
        self.place_in_turn(certificate, who, on_its_way(number, None)).await
    }

    /// Puts the one in force where it should be, or the one on its way to be: a copy was added, or somebody has changed
    /// one.
    ///
    /// # Errors
    /// As [`Certificates::deploy`].
    pub(super) async fn deploy_again(
        &self,
        certificate: &Certificate,
        who: &Who,
    ) -> Result<Deployed> {
        let turn = self.turn(&certificate.name);
        let _turn = turn.lock().await;
        let record = self.standing(&certificate.name)?.record;
        let deploying =
            record.deploying.unwrap_or_else(|| on_its_way(record.generation, record.pin));
        self.place_in_turn(certificate, who, deploying).await
    }

    /// Puts a generation into service; the caller has the turn.
    pub(super) async fn place_in_turn(
        &self,
        certificate: &Certificate,
        who: &Who,
        deploying: DeployingRecord,
    ) -> Result<Deployed> {
        let (name, number) = (certificate.name.clone(), deploying.generation);
        let standing = self.standing(&name)?;
        let Some(generation) = standing.generation(number).cloned() else {
            return Err(Error::not_found(
                "GENERATION_NOT_FOUND",
                format!("{name} has no generation {number}"),
            ));
        };
        let material = self.read_back(certificate, &generation)?;
        let before = standing.record.generation;
        // From here on a crash is gone on from, and what was wanted of it holds.
        let event = Event {
            kind: "deploying",
            ca: generation.ca.clone(),
            generation: number,
            detail: format!("in place of generation {before}"),
            ..Event::default()
        };
        let noted = DeployingRecord { failed: false, ..deploying.clone() };
        self.change(&name, who, event, move |record| {
            record.deploying = Some(noted);
            Vec::new()
        })
        .await?;
        failpoint::hit("certificates.deploying");
        let placed = self.serve_files(certificate, number, &material).await;
        let outcome = match placed {
            Ok(()) => self.make_them_take_it(certificate, &generation).await,
            Err(why) => Err(why),
        };
        failpoint::hit("certificates.placed");
        // That may take a while, and somebody may have barred it meanwhile.
        let standing = self.standing(&name)?;
        let barred = standing.generation(number).map(|it| plan::good(it, self.now()));
        match outcome.and_then(|deployed| barred.unwrap_or(Ok(())).map(|()| deployed)) {
            Ok(deployed) => {
                self.note_deployed(certificate, generation, &deployed, (who, deploying)).await?;
                Ok(deployed)
            }
            Err(why) => self.take_back(certificate, (before, deploying), why, who).await,
        }
    }

    /// The link and the copies.
    async fn serve_files(
        &self,
        certificate: &Certificate,
        number: u32,
        (fullchain, key): &(Vec<u8>, Vec<u8>),
    ) -> Result<(), String> {
        let (folder, copies) = (self.folder(&certificate.name), certificate.deployments.clone());
        let (fullchain, key) = (fullchain.clone(), key.clone());
        let placed = tokio::task::spawn_blocking(move || {
            folder.switch(number).map_err(|error| format!("the link can't be set: {error}"))?;
            failpoint::hit("certificates.switched");
            for copy in &copies {
                copies::deploy(copy, (&fullchain, &key), folder.state())?;
                failpoint::hit("certificates.copied");
            }
            Ok(())
        });
        let placed = placed.await.unwrap_or_else(|_| Err("the work was cut off".to_owned()));
        // Also after a failure: the link may have been set.
        self.changed.send_modify(|changes| *changes += 1);
        placed
    }

    /// Asks whoever serves it to take it, until it is seen.
    async fn make_them_take_it(
        &self,
        certificate: &Certificate,
        generation: &GenerationRecord,
    ) -> Result<Deployed, String> {
        let mut why = String::new();
        for _ in 0..ASKED {
            if let Some(hook) = &certificate.hook {
                let input = hook_input(certificate, generation, &self.folder(&certificate.name));
                let variables = [
                    ("CERTIFICATE", certificate.name.clone()),
                    ("GENERATION", generation.number.to_string()),
                ];
                if let Err(error) = hooks::run(hook, &input, &variables).await {
                    why = error.chain();
                    continue;
                }
            }
            match self.wait_until_served(certificate, generation).await {
                Ok(evidence) => return Ok(evidence),
                Err(seen) => why = seen,
            }
            if certificate.hook.is_none() {
                break;
            }
        }
        Err(why)
    }

    async fn wait_until_served(
        &self,
        certificate: &Certificate,
        generation: &GenerationRecord,
    ) -> Result<Deployed, String> {
        if self.probe(certificate).is_none() {
            let evidence = "nothing is configured by which to see what is served".to_owned();
            return Ok(Deployed { seen: None, evidence });
        }
        let (begun, mut pause) = (self.outside.clock.monotonic(), PAUSE);
        loop {
            let served = self.look_at(certificate).await;
            let right = served.is_current(Some(generation));
            let evidence = served.evidence(Some(generation));
            lock(&self.served).insert(certificate.name.clone(), served);
            if right {
                return Ok(Deployed { seen: Some(true), evidence });
            }
            if self.outside.clock.monotonic().saturating_sub(begun) >= LOOKS {
                return Err(evidence);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Looks at what is served.
    pub(super) async fn look_at(&self, certificate: &Certificate) -> Served {
        let at = self.now();
        let Some(probe) = self.probe(certificate) else { return Served { at, shown: None } };
        let resolver = crate::outside::dial::Resolver::default();
        let seen = handshake::shown(&resolver, &probe.address, &probe.server_name, LOOK).await;
        let shown = seen.map(|der| material::fingerprint(&der));
        Served { at, shown: Some(shown) }
    }

    async fn note_deployed(
        &self,
        certificate: &Certificate,
        generation: GenerationRecord,
        deployed: &Deployed,
        (who, deploying): (&Who, DeployingRecord),
    ) -> Result<()> {
        let (now, moment, number) = (self.now(), self.moment(), generation.number);
        let event = Event {
            kind: if deploying.rolled_back { "rolled-back" } else { "deployed" },
            ca: generation.ca.clone(),
            generation: number,
            identifiers: generation.identifiers.clone(),
            detail: deployed.evidence.clone(),
            ..Event::default()
        };
        let (proven, name) = (deployed.seen == Some(true), &certificate.name);
        self.change_generation(name, number, who, event, move |record, found| {
            let another = record.generation != number;
            record.generation = number;
            record.deploying = None;
            record.deployed_at = Some(now);
            record.pin = deploying.pin;
            let Some(generation) = found else { return };
            if proven {
                generation.proven_at = Some(now);
            }
            record.self_signed_since = match generation.origin {
                CertificateOrigin::SelfSigned => record.self_signed_since.take().or(Some(moment)),
                _ => None,
            };
            // What a CA has refused it refuses still: that something is put right, or stands in, is no reason to ask again.
            let instead = another
                && !deploying.rolled_back
                && generation.origin == CertificateOrigin::Imported;
            record.backoff.take_if(|it| it.placing || instead);
        })
        .await?;
        self.metrics.deployed(name);
        if let Err(error) = self.tidy(certificate).await {
            // It is in service all the same.
            let error = error.chain();
            tracing::warn!(certificate = name, error, "old generations can't be removed");
        }
        Ok(())
    }

    /// Puts what was in service before back, since what was to be is not served.
    async fn take_back(
        &self,
        certificate: &Certificate,
        (before, mut deploying): (u32, DeployingRecord),
        why: String,
        who: &Who,
    ) -> Result<Deployed> {
        let (name, number) = (certificate.name.clone(), deploying.generation);
        let standing = self.standing(&name)?;
        let signs_itself = |it: &GenerationRecord| it.origin == CertificateOrigin::SelfSigned;
        let itself = standing.generation(number).is_some_and(signs_itself);
        // Nobody trusts one that signs itself: it is not put in the place of one that a CA has issued.
        let good = |it: &&GenerationRecord| {
            plan::good(it, self.now()).is_ok() && (itself || !signs_itself(it))
        };
        let other = (before != number).then_some(before);
        let previous = other.and_then(|it| standing.generation(it)).filter(good).cloned();
        let (back, still) = match &previous {
            // There is nothing that could be better.
            None => {
                (format!("generation {number} stays in place, there is no other"), Some(number))
            }
            Some(previous) => {
                let material = self.folder(&name).read(before).map_err(disk_failed)?;
                let placed = self.serve_files(certificate, before, &material).await;
                let seen = match placed {
                    Ok(()) => {
                        self.make_them_take_it(certificate, previous).await.map(|it| it.evidence)
                    }
                    Err(why) => Err(why),
                };
                let how = match seen {
                    Ok(evidence) => format!("generation {before} is in service again: {evidence}"),
                    Err(why) => format!("generation {before} is in place again, but {why}"),
                };
                (how, None)
            }
        };
        let event = Event {
            kind: "deploy-failed",
            generation: number,
            detail: format!("{why}; {back}"),
            outcome: "DEPLOY_FAILED",
            ..Event::default()
        };
        self.metrics.taken_back(&name);
        let moment = self.moment();
        self.change(&name, who, event, move |record| {
            // What stays in place is in force.
            record.generation = still.unwrap_or(record.generation);
            if itself && still.is_some() {
                record.self_signed_since.get_or_insert(moment);
            }
            deploying.failed = true;
            record.deploying = still.map(|_| deploying);
            Vec::new()
        })
        .await?;
        Err(Error::internal(
            "DEPLOY_FAILED",
            format!("generation {number} of {name} is not served: {why}; {back}"),
        ))
    }

    /// Removes generations that are not needed any more.
    async fn tidy(&self, certificate: &Certificate) -> Result<()> {
        let (keep, name) = (self.config.load().keep, certificate.name.clone());
        let standing = self.standing(&name)?;
        let now = self.now();
        for number in plan::surplus(&standing.record, &standing.generations, keep) {
            // What its CA is still to revoke is needed for that.
            if standing.generation(number).is_some_and(|it| is_pending(it, now)) {
                continue;
            }
            let folder = self.folder(&name);
            super::renew::blocking(move || folder.remove(number)).await?;
            let intent = genesis_storage::Intent::new(
                self.now(),
                "system:certificates",
                "certificate.removed",
            )
            .target(format!("{name}/gen-{number}"));
            let name = name.clone();
            self.state
                .write(intent, move |writing| {
                    writing.certificates().remove_generation(&name, number)?;
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }
}

/// What is to be noted of a generation that is put into service.
pub(super) fn on_its_way(generation: u32, pin: Option<PinRecord>) -> DeployingRecord {
    DeployingRecord { generation, rolled_back: false, pin, failed: false }
}

/// What a hook gets on its standard input: paths, and nothing secret.
fn hook_input(
    certificate: &Certificate,
    generation: &GenerationRecord,
    folder: &disk::Folder,
) -> serde_json::Value {
    let place = folder.generation(generation.number);
    json!({
        "certificate": certificate.name, "generation": generation.number, "identifiers": generation.identifiers,
        "notAfter": generation.not_after.to_string(), "sha256": generation.fingerprint,
        "fullchain": place.join("fullchain.pem"), "key": place.join("key.pem"),
        "deployed": certificate.deployments.iter().map(|copy| json!({ "content": copy.content.name(), "path": copy.path })).collect::<Vec<_>>(),
    })
}
