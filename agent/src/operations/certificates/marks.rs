//! What people say of generations: that one is to stay in service, that one must never be again.

use std::sync::Arc;

use genesis_storage::{CertificateOrigin, PinRecord};

use super::Certificates;
use super::config::Certificate;
use super::record::{Event, Who};
use super::renew::Wish;
use super::revoke::Revocation;
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep, demand_reason};

/// What came of marking a generation as compromised.
#[derive(Debug)]
pub struct Marked {
    /// The certificate.
    pub name: String,
    /// The generation.
    pub number: u32,
    /// The run that replaces it, where it is in service.
    pub run: Option<String>,
    /// What became of its revocation.
    pub revocation: Revocation,
}

impl Certificates {
    /// What pinning would do.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `GENERATION_NOT_FOUND`, `GENERATION_UNUSABLE`.
    pub fn plan_pin(&self, domain: &str) -> Result<Plan> {
        let certificate = self.named(domain)?;
        let standing = self.standing(&certificate.name)?;
        let Some(current) = standing.current() else {
            return Err(Error::not_found(
                "GENERATION_NOT_FOUND",
                format!("{} has none to pin", certificate.name),
            ));
        };
        if current.origin == CertificateOrigin::SelfSigned {
            let message = format!(
                "generation {} of {} signs itself: it is replaced as soon as another can be had",
                current.number, certificate.name
            );
            return Err(Error::refused("GENERATION_UNUSABLE", message, Vec::new()));
        }
        let why =
            format!("nothing is ordered until it is unpinned; it ends at {}", current.not_after);
        let step =
            PlanStep::new("pin", format!("{}/gen-{}", certificate.name, current.number), why);
        Ok(Plan::new("certificate.pin", &[], vec![step]))
    }

    /// Keeps the generation in force in service.
    ///
    /// # Errors
    /// Those of [`Certificates::plan_pin`], `PLAN_CHANGED`.
    pub async fn pin(
        &self,
        domain: &str,
        plan_hash: &str,
        who: (String, String),
    ) -> Result<(String, u32)> {
        let name = self.named(domain)?.name;
        // What is in service may be changed just now.
        let turn = self.turn(&name);
        let _turn = turn.lock().await;
        self.plan_pin(domain)?.accept(plan_hash)?;
        let number = self.standing(&name)?.record.generation;
        let pin = PinRecord { at: self.now(), by: who.0.clone(), reason: who.1.clone() };
        let event =
            Event { kind: "pinned", generation: number, detail: who.1.clone(), ..Event::default() };
        let who = Who { actor: who.0, reason: who.1, run: String::new() };
        self.change(&name, &who, event, move |record| {
            record.pin.get_or_insert(pin);
            Vec::new()
        })
        .await?;
        Ok((name, number))
    }

    /// What ending a pin would do.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`.
    pub fn plan_unpin(&self, domain: &str) -> Result<Plan> {
        let certificate = self.named(domain)?;
        let standing = self.standing(&certificate.name)?;
        let steps = match &standing.record.pin {
            None => Vec::new(),
            Some(pin) => {
                let why =
                    format!("pinned by {} at {}; the next look does what is due", pin.by, pin.at);
                vec![PlanStep::new("unpin", certificate.name.clone(), why)]
            }
        };
        Ok(Plan::new("certificate.unpin", &[&certificate.name], steps))
    }

    /// Ends a pin; whether there was one.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `PLAN_CHANGED`.
    pub async fn unpin(
        &self,
        domain: &str,
        plan_hash: &str,
        who: (String, String),
    ) -> Result<(String, bool)> {
        let name = self.named(domain)?.name;
        let turn = self.turn(&name);
        let _turn = turn.lock().await;
        self.plan_unpin(domain)?.accept(plan_hash)?;
        let standing = self.standing(&name)?;
        if standing.record.pin.is_none() {
            return Ok((name, false));
        }
        let event =
            Event { kind: "unpinned", generation: standing.record.generation, ..Event::default() };
        let who = Who { actor: who.0, reason: who.1, run: String::new() };
        self.change(&name, &who, event, |record| {
            record.pin = None;
            Vec::new()
        })
        .await?;
        self.wake.notify_one();
        Ok((name, true))
    }

    /// What marking a generation would do; the certificate and the generation's number beside.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_FOUND`, `GENERATION_NOT_FOUND`.
    pub fn plan_mark(&self, domain: &str, number: u32) -> Result<(Certificate, u32, Plan)> {
        let certificate = self.named(domain)?;
        let standing = self.standing(&certificate.name)?;
        let number = if number == 0 { standing.record.generation } else { number };
        let name = &certificate.name;
        let Some(found) = standing.generation(number) else {
            let message = format!("{name} has no generation {number}");
            return Err(Error::not_found("GENERATION_NOT_FOUND", message));
        };
        let mut steps = vec![PlanStep::new(
            "mark compromised",
            format!("{name}/gen-{number}"),
            "it never comes into service again",
        )];
        if found.origin == CertificateOrigin::Acme {
            steps.push(PlanStep::new("revoke", found.serial.clone(), format!("at {}", found.ca)));
        }
        if number == standing.record.generation {
            steps.push(PlanStep::new(
                "replace",
                name.clone(),
                "it is in service: by another generation, or a new one",
            ));
        }
        let plan = Plan::new("certificate.mark", &[&number.to_string()], steps);
        Ok((certificate, number, plan))
    }

    /// Marks a generation as compromised, begins to replace it where it is in service, and has its CA revoke it.
    ///
    /// # Errors
    /// Those of [`Certificates::plan_mark`], `REASON_MISSING`, `PLAN_CHANGED`.
    pub async fn mark(
        self: &Arc<Self>,
        domain: &str,
        (number, plan_hash): (u32, &str),
        (actor, reason): (String, String),
    ) -> Result<Marked> {
        demand_reason(&reason, "how a key became known is said")?;
        let (certificate, number, plan) = self.plan_mark(domain, number)?;
        plan.accept(plan_hash)?;
        let (name, now) = (certificate.name, self.now());
        let event = Event {
            kind: "compromised",
            generation: number,
            detail: reason.clone(),
            ..Event::default()
        };
        let who = Who { actor: actor.clone(), reason: reason.clone(), run: String::new() };
        self.change_generation(&name, number, &who, event, move |record, generation| {
            record.pin.take_if(|_| record.generation == number);
            if let Some(generation) = generation {
                generation.compromised_at.get_or_insert(now);
            }
        })
        .await?;
        let standing = self.standing(&name)?;
        let Some(generation) = standing.generation(number) else {
            let message = format!("{name} has no generation {number} any more");
            return Err(Error::not_found("GENERATION_NOT_FOUND", message));
        };
        // The replacement does not wait for the CA to revoke this one, and is begun by the next look where it can't be here.
        let mut run = None;
        if number == standing.record.generation {
            match self.start(&name, Wish::default(), (actor, reason)).await {
                Ok(started) => run = Some(started.id),
                Err(error) => {
                    tracing::warn!(
                        certificate = name,
                        error = error.chain(),
                        "no run could be begun"
                    );
                    self.wake.notify_one();
                }
            }
        }
        let revocation = self.revoke(&name, generation, &who).await?;
        self.bell.ring();
        Ok(Marked { name, number, run, revocation })
    }
}
