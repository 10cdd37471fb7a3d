//! What people do with certificates, beside renewing them.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{CertificateOrigin, DeployingRecord, GenerationRecord, PinRecord};
use jiff::Timestamp;

use super::budget::{self, Used};
use super::config::Certificate;
use super::deploy::Deployed;
use super::plan::{self, Decision};
use super::record::Who;
use super::renew::Wish;
use super::view::View;
use super::waits::held_by_ca;
use super::{Certificates, Standing};
use crate::error::{Error, Result, Unmet};
use crate::plan::{Plan, PlanStep};
use crate::runs::Started;

/// What came of a wish to renew.
#[derive(Debug)]
pub enum Renewed {
    /// A run was begun, or goes on.
    Run(Started),
    /// It is not due.
    NotDue {
        /// When it is.
        at: Timestamp,
        /// Why then.
        why: String,
    },
}

/// What came of putting a generation into service.
#[derive(Debug)]
pub struct Moved {
    /// The certificate.
    pub name: String,
    /// From this one.
    pub from: u32,
    /// To this one.
    pub to: u32,
    /// How it went.
    pub deployed: Deployed,
}

/// So many generations are told why they may not be in service.
const REASONS: usize = 5;

impl Certificates {
    /// The certificates that a name or a domain stands for; empty: all.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn list(&self, domain: &str) -> Result<Vec<View>> {
        self.those(domain)?.iter().map(|certificate| self.view(certificate)).collect()
    }

    /// The state of the daily check: when it is next, and how much later this host makes it.
    pub fn check_times(&self) -> (Option<Timestamp>, Duration) {
        self.next_check()
    }

    /// What renewing would do; `None`: it is not due.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `CERTIFICATE_PINNED`, `CLOCK_SUSPECT`, `BUDGET_EXHAUSTED`, `CERTIFICATE_HELD_BACK`,
    /// `CA_NOT_CONFIGURED`.
    fn renewing(&self, domain: &str, force: bool) -> Result<(Certificate, View, Option<Plan>)> {
        let certificate = self.named(domain)?;
        let view = self.view(&certificate)?;
        let name = certificate.name.clone();
        if let Some(run) = &view.run {
            let step = PlanStep::new("attach", run.clone(), "a run of it goes on already");
            return Ok((
                certificate,
                view,
                Some(Plan::new("certificate.renew", &[&name], vec![step])),
            ));
        }
        if view.standing.record.pin.is_some() {
            let message =
                format!("{name} is pinned; `genesisctl cert unpin --domain {name}` ends that");
            return Err(Error::refused("CERTIFICATE_PINNED", message, Vec::new()));
        }
        if let Some(why) = self.clock_for(&view.standing) {
            let unmet = Unmet {
                code: "CLOCK_SUSPECT",
                subject: name,
                message: format!("{why}: set the clock right first"),
            };
            return Err(Error::refused(
                "CLOCK_SUSPECT",
                format!("{why}; nothing is ordered"),
                vec![unmet],
            ));
        }
        let config = self.config.load_full();
        let digest = certificate.digest(&config);
        let situation = view.standing.situation(&certificate, &digest, (None, true), self.now());
        let decision = self.by_hand(&certificate, &situation, force);
        let situation = [name.as_str(), &view.standing.record.generation.to_string()];
        let plan = |steps| Some(Plan::new("certificate.renew", &situation, steps));
        let steps = match decision {
            Decision::Nothing => {
                if certificate.cas.is_empty() && view.due.at <= self.now() {
                    let message = format!(
                        "{name} is due, and no CA is configured for it: add a [[certificates.acme]]"
                    );
                    return Err(Error::refused("CA_NOT_CONFIGURED", message, Vec::new()));
                }
                if let Some(until) = view.held.filter(|_| view.due.at <= self.now()) {
                    return Err(held_back(&view, until, self.now()));
                }
                return Ok((certificate, view, None));
            }
            Decision::Deploy(number) => vec![PlanStep::new(
                "deploy",
                format!("{name}/gen-{number}"),
                "it is on the disk and not in service",
            )],
            Decision::DeployBackup => {
                vec![PlanStep::new(
                    "deploy",
                    format!("{name}/backup"),
                    "no generation may be in service",
                )]
            }
            Decision::SelfSign => {
                vec![PlanStep::new("self-sign", name.clone(), "no other may be in service")]
            }
            Decision::Order { cas } => self.order_steps(&certificate, &view, (cas, force))?,
        };
        Ok((certificate, view, plan(steps)))
    }

    /// The steps of an order, or why no CA would take one.
    fn order_steps(
        &self,
        certificate: &Certificate,
        view: &View,
        (cas, force): (usize, bool),
    ) -> Result<Vec<PlanStep>> {
        let config = self.config.load_full();
        let (name, now) = (&certificate.name, self.now());
        let situation = view.standing.situation(certificate, "", (None, false), now);
        let mut refusal = None;
        for ca in certificate.cas.iter().take(cas).filter_map(|name| config.ca(name)) {
            if let Some(order) = situation.open_order(&ca.authority.name)
                && situation.asked_to_wait(&order.ca).is_none()
            {
                let why = format!("it was placed with {} at {}", order.ca, order.at);
                return Ok(vec![PlanStep::new("go on with the order", order.url.clone(), why)]);
            }
            if let Some(until) = situation.asked_to_wait(&ca.authority.name) {
                if refusal.as_ref().is_none_or(|(_, earlier)| until < *earlier) {
                    refusal = Some((held_by_ca(ca, until, now), until));
                }
                continue;
            }
            let current = view.standing.current();
            let replacement = !force && current.is_some_and(|it| it.ca == ca.authority.name);
            match self.budget_refusal(certificate, ca, replacement)? {
                None => {
                    let number = view.standing.record.greatest + 1;
                    let why = if force { "it is forced" } else { view.due.why.as_str() };
                    let mut steps = vec![PlanStep::new(
                        "order",
                        format!(
                            "{} from {}",
                            certificate.identifiers.join(", "),
                            ca.authority.name
                        ),
                        why,
                    )];
                    steps.push(PlanStep::new(
                        "deploy",
                        format!("{name}/gen-{number}"),
                        "once it is issued and looked at",
                    ));
                    return Ok(steps);
                }
                Some((error, next)) => {
                    if refusal.as_ref().is_none_or(|(_, earlier)| next < *earlier) {
                        refusal = Some((error, next));
                    }
                }
            }
        }
        Err(match refusal {
            Some((error, _)) => error,
            None => Error::refused(
                "CA_NOT_CONFIGURED",
                format!("no CA is configured for {name}: add a [[certificates.acme]]"),
                Vec::new(),
            ),
        })
    }

    /// What renewing would do.
    ///
    /// # Errors
    /// As [`Certificates::renew`].
    pub fn plan_renew(&self, domain: &str, force: bool) -> Result<Plan> {
        let (certificate, _, plan) = self.renewing(domain, force)?;
        Ok(plan.unwrap_or_else(|| Plan::new("certificate.renew", &[&certificate.name], Vec::new())))
    }

    /// Begins to renew what is due, or with `force` whatever it is; says when it is due otherwise.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `CERTIFICATE_PINNED`, `CLOCK_SUSPECT`, `BUDGET_EXHAUSTED`, `CERTIFICATE_HELD_BACK`,
    /// `CA_NOT_CONFIGURED`, `PLAN_CHANGED`, and those of starting a run.
    pub async fn renew(
        self: &Arc<Self>,
        domain: &str,
        (force, plan_hash): (bool, &str),
        (actor, reason): (String, String),
    ) -> Result<(String, Renewed)> {
        let (certificate, view, plan) = self.renewing(domain, force)?;
        let name = certificate.name;
        let Some(plan) = plan else {
            Plan::new("certificate.renew", &[&name], Vec::new()).accept(plan_hash)?;
            return Ok((name, Renewed::NotDue { at: view.due.at, why: view.due.why }));
        };
        plan.accept(plan_hash)?;
        let wish = Wish { force, checking: true, by_hand: true, ..Wish::default() };
        let started = self.start(&name, wish, (actor, reason)).await?;
        Ok((name, Renewed::Run(started)))
    }

    /// Whether somebody may go back to a generation; otherwise why not.
    pub(super) fn may_serve(
        &self,
        certificate: &Certificate,
        generation: &GenerationRecord,
    ) -> Result<(), String> {
        plan::usable(generation, &certificate.identifiers, self.now())?;
        // Where a CA is asked, one that signs itself only stands in: it is no place to stay.
        let itself = generation.origin == CertificateOrigin::SelfSigned;
        match itself && !certificate.cas.is_empty() {
            true => Err("it signs itself".to_owned()),
            false => Ok(()),
        }
    }

    /// The generation that a rollback goes to.
    fn target(&self, certificate: &Certificate, standing: &Standing, to: u32) -> Result<u32> {
        let name = &certificate.name;
        let may_be = |it: &GenerationRecord| self.may_serve(certificate, it);
        let may =
            |it: &&GenerationRecord| it.number != standing.record.generation && may_be(it).is_ok();
        let others = standing.generations.iter();
        let others = others.filter(|it| it.number != standing.record.generation);
        let (mut candidates, mut reasons) = (Vec::new(), Vec::new());
        for it in others {
            match may_be(it) {
                Ok(()) => candidates.push(it.number.to_string()),
                Err(why) => reasons.push(format!("{} ({why})", it.number)),
            }
        }
        let there = match (candidates.is_empty(), reasons.is_empty()) {
            (false, _) => format!("those that may be: {}", candidates.join(", ")),
            (true, true) => "there is no other".to_owned(),
            (true, false) => {
                reasons.truncate(REASONS);
                format!("none of the others may be: {}", reasons.join(", "))
            }
        };
        if to == 0 {
            let before = |it: &&GenerationRecord| it.number < standing.record.generation && may(it);
            let found = standing.generations.iter().find(before);
            let found = found.map(|it| it.number);
            return found.ok_or_else(|| {
                let message =
                    format!("{name} has no earlier generation that may be in service; {there}");
                Error::refused("GENERATION_UNUSABLE", message, Vec::new())
            });
        }
        let Some(wanted) = standing.generation(to) else {
            let numbers: Vec<String> =
                standing.generations.iter().map(|it| it.number.to_string()).collect();
            let message =
                format!("{name} has no generation {to}; there are: {}", numbers.join(", "));
            return Err(Error::not_found("GENERATION_NOT_FOUND", message));
        };
        match may_be(wanted) {
            Ok(()) => Ok(to),
            Err(why) => {
                let message =
                    format!("generation {to} of {name} can't be in service: {why}; {there}");
                Err(Error::refused("GENERATION_UNUSABLE", message, Vec::new()))
            }
        }
    }

    /// What a rollback would do.
    ///
    /// # Errors
    /// As [`Certificates::roll_back`].
    pub fn plan_rollback(&self, domain: &str, to: u32) -> Result<Plan> {
        let certificate = self.named(domain)?;
        let standing = self.standing(&certificate.name)?;
        let to = self.target(&certificate, &standing, to)?;
        let (name, from) = (&certificate.name, standing.record.generation);
        let steps = vec![
            PlanStep::new(
                "deploy",
                format!("{name}/gen-{to}"),
                format!("in place of generation {from}"),
            ),
            PlanStep::new(
                "pin",
                format!("{name}/gen-{to}"),
                "so that the next check does not undo it",
            ),
        ];
        Ok(Plan::new("certificate.rollback", &[name, &from.to_string()], steps))
    }

    /// Puts an earlier generation back into service, and keeps it there.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `GENERATION_NOT_FOUND`, `GENERATION_UNUSABLE`, `PLAN_CHANGED`, `DEPLOY_FAILED`.
    pub async fn roll_back(
        &self,
        domain: &str,
        (to, plan_hash): (u32, &str),
        (actor, reason): (String, String),
    ) -> Result<Moved> {
        let certificate = self.named(domain)?;
        let turn = self.turn(&certificate.name);
        let _turn = turn.lock().await;
        self.plan_rollback(domain, to)?.accept(plan_hash)?;
        let standing = self.standing(&certificate.name)?;
        let to = self.target(&certificate, &standing, to)?;
        let pin = PinRecord { at: self.now(), by: actor.clone(), reason: reason.clone() };
        let who = Who { actor, reason, run: String::new() };
        let deploying =
            DeployingRecord { generation: to, rolled_back: true, pin: Some(pin), failed: false };
        let deployed = self.place_in_turn(&certificate, &who, deploying).await?;
        Ok(Moved { name: certificate.name, from: standing.record.generation, to, deployed })
    }

    /// What happened, newest first.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn history(
        &self,
        domain: &str,
        limit: usize,
    ) -> Result<Vec<genesis_storage::CertificateEventRecord>> {
        let name = match domain {
            "" => None,
            domain => Some(self.named(domain)?.name),
        };
        self.state.read(|reading| {
            let wanted = |event: &genesis_storage::CertificateEventRecord| {
                name.as_ref().is_none_or(|name| event.name == *name)
            };
            Ok(reading.certificates().events(limit, wanted)?)
        })
    }

    /// What the CAs still allow: the certificate, the CA, and its limits.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn budget(&self, domain: &str) -> Result<Vec<(String, String, Used)>> {
        let (config, now) = (self.config.load_full(), self.now());
        let mut found = Vec::new();
        for certificate in self.those(domain)? {
            for ca in certificate.cas.iter().filter_map(|name| config.ca(name)) {
                let events = self.counted(&config, &ca.authority.name)?;
                let used = budget::used(ca.limits, &events, &certificate.identifiers, now);
                found.extend(
                    used.into_iter()
                        .map(|used| (certificate.name.clone(), ca.authority.name.clone(), used)),
                );
            }
        }
        Ok(found)
    }
}

fn held_back(view: &View, until: Option<Timestamp>, now: Timestamp) -> Error {
    let backoff = view.standing.record.backoff.as_ref();
    let why = backoff.map(|it| it.error.clone()).unwrap_or_default();
    let then = match until {
        Some(until) => format!("it is tried again at {until}"),
        None => "it is tried again when the configuration is another".to_owned(),
    };
    let asked = view.standing.record.waits.iter().any(|(_, until)| *until > now);
    let forced = if asked { "" } else { ", or at once with --force" };
    let mut unmet = vec![Unmet {
        code: "CERTIFICATE_HELD_BACK",
        subject: view.certificate.name.clone(),
        message: why.clone(),
    }];
    unmet.extend(backoff.iter().flat_map(|it| &it.diagnosis).map(|(_, subject, message)| Unmet {
        code: "CERTIFICATE_HELD_BACK",
        subject: subject.clone(),
        message: message.clone(),
    }));
    let message = format!("the last attempt failed: {why}; {then}{forced}");
    let error = Error::refused("CERTIFICATE_HELD_BACK", message, unmet);
    match until.and_then(|until| Duration::try_from(until.duration_since(now)).ok()) {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}
