//! An order: what the CA still allows is asked first, the key is on the disk before the order, the order is in the state
//! before it goes on, and what is issued is looked at before anything else knows of it.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{CertificateOrigin, CertificateTrouble, OrderRecord};

use super::config::{Ca, Certificate};
use super::failed::{Failed, elsewhere};
use super::record::{Event, Who};
use super::renew::{blocking, disk_failed, said, unusable};
use super::{Certificates, budget, material};
use crate::error::{Error, Result, Unmet};
use crate::fleet::locks::Held;
use crate::outside::acme::{Class, Directory, Trouble, Wanted};
use crate::runs::Context;

/// From the order to the certificate a CA gets so long; what takes longer is gone on with in the next attempt.
const PATIENCE: Duration = Duration::from_secs(300);

/// The fleet's lock for orders of these names.
fn lock_of(certificate: &Certificate) -> String {
    let mut names = certificate.identifiers.clone();
    names.sort();
    names.dedup();
    let digest = blake3::hash(names.join("\0").as_bytes()).to_hex();
    let first = names.first().map_or("", String::as_str);
    format!("certificates/{first}-{}", &digest[..12])
}

/// Whether the next step may be made, in a fleet.
async fn in_turn(turn: Option<&Held>, step: &str) -> Result<()> {
    match turn {
        Some(turn) => turn.step(step).await,
        None => Ok(()),
    }
}

impl Certificates {
    /// Orders a certificate while no other host of the fleet orders one for the same names: a CA counts them together.
    pub(super) async fn order(
        self: &Arc<Self>,
        certificate: &Certificate,
        cas: usize,
        (forced, who): (bool, &Who),
        context: &Context,
    ) -> Result<(String, bool)> {
        match self.fleet.take(&lock_of(certificate), &context.id()).await {
            Ok(turn) => {
                let forced = (forced, turn.as_ref());
                let ordered = self.order_in_turn(certificate, cas, (forced, who), context).await;
                if let Some(turn) = turn {
                    turn.give_back().await;
                }
                ordered
            }
            Err(error) => {
                let digest = certificate.digest(&self.config.load_full());
                let failed = Failed::local(Error::new(error.kind, error.code, error.chain()));
                self.hold(certificate, (&digest, &[failed]), (who, context)).await?;
                Err(error)
            }
        }
    }

    /// Orders a certificate from the first of the CAs that issues it, and puts it into service.
    async fn order_in_turn(
        self: &Arc<Self>,
        certificate: &Certificate,
        cas: usize,
        ((forced, turn), who): ((bool, Option<&Held>), &Who),
        context: &Context,
    ) -> Result<(String, bool)> {
        let config = self.config.load_full();
        let digest = certificate.digest(&config);
        let standing = self.standing(&certificate.name)?;
        let situation = standing.situation(certificate, &digest, (None, false), self.now());
        let waits = if forced { Vec::new() } else { situation.waits() };
        let (mut failures, mut silent, mut refused) = (Vec::<Failed>::new(), None, false);
        for (place, ca) in certificate.cas.iter().filter_map(|name| config.ca(name)).enumerate() {
            // One that refuses for good has the next one asked in its place.
            if place >= cas && !refused {
                break;
            }
            if let Some((_, until)) = waits.iter().find(|(name, _)| *name == ca.authority.name) {
                refused = until.is_none();
                continue;
            }
            context.safe_point()?;
            if let Err(waits) = self.may_be_asked(certificate, ca) {
                silent.get_or_insert(waits);
                continue;
            }
            match self.order_from(certificate, ca, ((forced, turn), who), context).await {
                Ok(number) => {
                    let step = context
                        .begin("deploy", &format!("{}/gen-{number}", certificate.name))
                        .await?;
                    return match self.deploy(certificate, number, who).await {
                        Ok(deployed) => {
                            step.done(deployed.evidence.clone()).await?;
                            let (said, seen) = said(number, &deployed);
                            Ok((format!("{} issued it; {said}", ca.authority.name), seen))
                        }
                        Err(error) => {
                            step.failed(error.chain()).await?;
                            if error.code != "CERTIFICATE_PINNED" {
                                let failed =
                                    Failed::placing(Error::internal(error.code, error.chain()));
                                self.hold(certificate, (&digest, &[failed]), (who, context))
                                    .await?;
                            }
                            Err(error)
                        }
                    };
                }
                Err(failed) => {
                    let go_on = elsewhere(&failed);
                    self.note_wait(&certificate.name, ca, (&failed, who)).await?;
                    let code = failed.error.code;
                    tracing::warn!(
                        certificate = certificate.name,
                        ca = ca.authority.name,
                        code,
                        error = failed.error.chain(),
                        "an order came to nothing"
                    );
                    refused = failed.trouble == CertificateTrouble::Policy;
                    failures.push(failed);
                    if !go_on {
                        break;
                    }
                }
            }
        }
        // That one wants no order yet counts where no other could be asked.
        if failures.is_empty() {
            failures.extend(silent);
        }
        if failures.last().is_some_and(|failed| failed.error.code != "CANCELLED") {
            self.hold(certificate, (&digest, &failures), (who, context)).await?;
        }
        match failures.pop() {
            Some(failed) => Err(*failed.error),
            None => {
                Err(Error::refused("CA_NOT_CONFIGURED", "no CA may be asked for it", Vec::new()))
            }
        }
    }

    /// Orders from one CA; the number of the generation that it issued.
    async fn order_from(
        &self,
        certificate: &Certificate,
        ca: &Ca,
        ((forced, turn), who): ((bool, Option<&Held>), &Who),
        context: &Context,
    ) -> Result<u32, Failed> {
        let name = &certificate.name;
        // Without them nothing that is issued could be looked at.
        self.roots(ca).map_err(disk_failed)?;
        let directory = self.directory(ca).await?;
        let standing = self.standing(name)?;
        let situation = standing.situation(certificate, "", (None, false), self.now());
        let mut order = situation.open_order(&ca.authority.name).cloned();
        // Of an order that the CA knows no more, or that has failed there, another is placed, once.
        for again in [true, false] {
            let placed = match order.take() {
                Some(order) => order,
                None => {
                    let wanted = (&directory, forced, turn);
                    self.place_order(certificate, ca, wanted, who, context).await?
                }
            };
            let (folder, number) = (self.folder(name), placed.generation);
            if !blocking(move || folder.has_key(number)).await? {
                self.forget_order(name, &placed, budget::ENDED, (who, &key_gone())).await?;
                continue;
            }
            in_turn(turn, &format!("issue {}", placed.url)).await?;
            let step = context.begin("issue", &placed.url).await?;
            let csr = self.request(certificate, placed.generation).await?;
            let finished = self
                .outside
                .acme
                .finish(&ca.authority, &placed.url, &certificate.answer, &csr, PATIENCE)
                .await;
            match finished {
                Ok(fullchain) => {
                    step.done(format!("{} bytes", fullchain.len())).await?;
                    return self.stage(certificate, ca, (&placed, fullchain), who, context).await;
                }
                Err(trouble) => {
                    step.failed(trouble.message.clone()).await?;
                    let _ = self.heard(trouble.date);
                    // What failed once can't be gone on with; what is only late can.
                    let over = matches!(
                        trouble.class,
                        Class::OrderGone | Class::Authorization | Class::Policy
                    );
                    if over {
                        let kind = match trouble.class {
                            Class::Authorization => budget::UNAUTHORIZED,
                            _ => budget::ENDED,
                        };
                        self.forget_order(name, &placed, kind, (who, &trouble)).await?;
                    }
                    if trouble.class != Class::OrderGone || !again {
                        return Err(Failed::at(ca, trouble));
                    }
                }
            }
        }
        Err(Failed::local(Error::internal("CA_UNAVAILABLE", "two orders in a row are gone")))
    }

    /// What the CA says of itself; the clock is compared with its.
    async fn directory(&self, ca: &Ca) -> Result<Directory, Failed> {
        let directory = match self.outside.acme.directory(&ca.authority).await {
            Ok(directory) => directory,
            Err(trouble) => {
                let _ = self.heard(trouble.date);
                return Err(Failed::at(ca, trouble));
            }
        };
        match self.heard(directory.date) {
            None => Ok(directory),
            Some(why) => Err(Failed {
                trouble: CertificateTrouble::Clock,
                error: Box::new(Error::refused(
                    "CLOCK_SUSPECT",
                    format!("{why}; nothing is ordered"),
                    vec![Unmet {
                        code: "CLOCK_SUSPECT",
                        subject: ca.authority.name.clone(),
                        message: format!(
                            "{why}: set the clock right, and look why time synchronisation did not"
                        ),
                    }],
                )),
                ca: String::new(),
                retry_after: None,
                identifiers: Vec::new(),
                placing: false,
            }),
        }
    }

    async fn place_order(
        &self,
        certificate: &Certificate,
        ca: &Ca,
        (directory, forced, turn): (&Directory, bool, Option<&Held>),
        who: &Who,
        context: &Context,
    ) -> Result<OrderRecord, Failed> {
        let name = certificate.name.clone();
        let standing = self.standing(&name)?;
        // One of the same CA is replaced, where that CA has renewal information; no limit counts it then.
        let replaces = match standing.current() {
            Some(it)
                if directory.renewal_info
                    && it.origin == CertificateOrigin::Acme
                    && it.ca == ca.authority.name =>
            {
                self.leaf_of(&name, it.number)
            }
            _ => None,
        };
        let replacement = replaces.is_some();
        self.check_budget(certificate, ca, replacement && !forced)?;
        in_turn(turn, &format!("order {name} from {}", ca.authority.name)).await?;
        let number = self.reserve(&name).await?;
        let step = context.begin("order", &format!("{} from {}", name, ca.authority.name)).await?;
        let (folder, p384) = (self.folder(&name), certificate.p384);
        blocking(move || {
            let key = material::new_key(p384).map_err(std::io::Error::other)?;
            folder.begin(number, key.as_bytes())
        })
        .await?;
        let mut wanted = Wanted {
            identifiers: certificate.identifiers.clone(),
            profile: ca.profile.clone(),
            replaces,
        };
        let mut placed = self.outside.acme.order(&ca.authority, &wanted).await;
        if placed.as_ref().is_err_and(|trouble| trouble.class == Class::Replaces) {
            // It was replaced already, or the CA thinks so. It counts like any other then.
            self.check_budget(certificate, ca, false)?;
            wanted.replaces = None;
            placed = self.outside.acme.order(&ca.authority, &wanted).await;
        }
        let placed = match placed {
            Ok(placed) => placed,
            Err(trouble) => {
                step.failed(trouble.message.clone()).await?;
                let _ = self.heard(trouble.date);
                return Err(Failed::at(ca, trouble));
            }
        };
        let order = OrderRecord {
            ca: ca.authority.name.clone(),
            url: placed.url.clone(),
            generation: number,
            identifiers: certificate.identifiers.clone(),
            at: self.now(),
            forced,
        };
        let event = Event {
            kind: budget::ORDERED,
            ca: ca.authority.name.clone(),
            generation: number,
            identifiers: certificate.identifiers.clone(),
            exempt: placed.replaces && !forced,
            detail: if placed.replaces { "as a replacement" } else { "" }.to_owned(),
            ..Event::default()
        };
        let noted = order.clone();
        let at = self.now();
        self.change(&name, who, event, move |record| {
            record.orders.retain(|it| it.ca != noted.ca);
            record.orders.push(noted);
            record.attempted_at = Some(at);
            Vec::new()
        })
        .await?;
        step.done(placed.url).await?;
        // What was placed there before for other names, or too long ago, is given up.
        let same = |it: &&OrderRecord| it.ca == order.ca;
        self.remove_keys(&name, standing.record.orders.iter().filter(same)).await?;
        Ok(order)
    }

    /// What the CA allows, by what this host has used.
    ///
    /// # Errors
    /// `BUDGET_EXHAUSTED` with the time at which one more is allowed.
    fn check_budget(
        &self,
        certificate: &Certificate,
        ca: &Ca,
        replacement: bool,
    ) -> Result<(), Failed> {
        match self.budget_refusal(certificate, ca, replacement)? {
            None => Ok(()),
            Some((error, next)) => {
                let wait = next.duration_since(self.now());
                Err(Failed {
                    trouble: CertificateTrouble::RateLimited,
                    error: Box::new(error),
                    ca: ca.authority.name.clone(),
                    retry_after: Some(Duration::try_from(wait).unwrap_or_default()),
                    identifiers: Vec::new(),
                    placing: false,
                })
            }
        }
    }

    /// Why the CA would refuse an order, and when it would not.
    pub(super) fn budget_refusal(
        &self,
        certificate: &Certificate,
        ca: &Ca,
        replacement: bool,
    ) -> Result<Option<(Error, jiff::Timestamp)>> {
        let (config, now) = (self.config.load(), self.now());
        let name = &ca.authority.name;
        let events = self.counted(&config, name)?;
        let used = budget::used(ca.limits, &events, &certificate.identifiers, now);
        let Some(held) = budget::held(&used, replacement) else { return Ok(None) };
        let Some(next) = held.next_at else { return Ok(None) };
        let message = format!(
            "{name} allows {} of {} in {}, {} are used: the next at {next}; nothing was sent",
            held.allowed,
            held.limit,
            super::view::span(held.window),
            held.used,
        );
        let unmet = Unmet {
            code: "BUDGET_EXHAUSTED",
            subject: held.subject.clone(),
            message: message.clone(),
        };
        let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
        let error = Error::refused("BUDGET_EXHAUSTED", message, vec![unmet]).retry_after(wait);
        Ok(Some((error, next)))
    }

    /// The signing request for the key of a generation, in DER.
    async fn request(&self, certificate: &Certificate, number: u32) -> Result<Vec<u8>, Failed> {
        let (folder, identifiers) =
            (self.folder(&certificate.name), certificate.identifiers.clone());
        let made = tokio::task::spawn_blocking(move || {
            let pem = folder.key(number).map_err(disk_failed)?;
            material::signing_request(&identifiers, &pem).map_err(unusable)
        });
        Ok(made.await.map_err(|error| {
            Error::internal("CERTIFICATE_DISK_FAILED", "the work was cut off").caused_by(error)
        })??)
    }
}

/// What a CA would say of an order whose key is not there any more.
fn key_gone() -> Trouble {
    Trouble {
        class: Class::OrderGone,
        message: "its key is not on the disk any more".to_owned(),
        kind: String::new(),
        retry_after: None,
        identifiers: Vec::new(),
        date: None,
    }
}
