//! What becomes of an order: what was issued is looked at and written to the disk before anything else knows of it, what
//! came to nothing is forgotten.

use genesis_storage::{CertificateOrigin, GenerationRecord, OrderRecord};

use super::config::{Ca, Certificate};
use super::failed::Failed;
use super::record::{Event, Who};
use super::renew::{blocking, disk_failed, issued};
use super::{Certificates, Standing, budget, material};
use crate::error::Result;
use crate::outside::acme::{Class, Trouble};
use crate::runs::Context;

impl Certificates {
    /// Of an order that came to nothing nothing is expected any more.
    pub(super) async fn forget_order(
        &self,
        name: &str,
        order: &OrderRecord,
        kind: &'static str,
        (who, trouble): (&Who, &Trouble),
    ) -> Result<()> {
        // A CA that does not say which names it means may mean any of them.
        let identifiers = match trouble.identifiers.is_empty() {
            true => order.identifiers.clone(),
            false => trouble.identifiers.clone(),
        };
        let event = Event {
            kind,
            ca: order.ca.clone(),
            generation: order.generation,
            identifiers,
            exempt: kind == budget::UNUSABLE && self.was_exempt(name, order.generation)?,
            detail: trouble.message.clone(),
            outcome: "CA_REFUSED",
        };
        let url = order.url.clone();
        self.change(name, who, event, move |record| {
            record.orders.retain(|order| order.url != url);
            Vec::new()
        })
        .await?;
        // The next order has a key of its own.
        self.remove_keys(name, [order]).await
    }

    /// Removes the keys of orders that are waited for no more, unless something was issued for them.
    pub(super) async fn remove_keys(
        &self,
        name: &str,
        orders: impl IntoIterator<Item = &OrderRecord>,
    ) -> Result<()> {
        let standing = self.standing(name)?;
        let unused = orders.into_iter().map(|order| order.generation);
        let unused: Vec<u32> = unused.filter(|it| standing.generation(*it).is_none()).collect();
        let folder = self.folder(name);
        blocking(move || unused.into_iter().try_for_each(|number| folder.remove(number))).await
    }

    /// Looks at what was issued, writes it to the disk, and notes it.
    pub(super) async fn stage(
        &self,
        certificate: &Certificate,
        ca: &Ca,
        (order, fullchain): (&OrderRecord, String),
        who: &Who,
        context: &Context,
    ) -> Result<u32, Failed> {
        let (name, number) = (certificate.name.clone(), order.generation);
        let step = context.begin("stage", &format!("{name}/gen-{number}")).await?;
        let standing = self.standing(&name)?;
        // What can't be read now may be a moment later: the CA has it still.
        let key = self.folder(&name).key(number).map_err(disk_failed)?;
        let roots = self.roots(ca).map_err(disk_failed)?;
        let with = (key.as_slice(), &*roots);
        let staged =
            self.check_issued(certificate, ca, (&standing, number), with, fullchain.as_bytes());
        let record = match staged {
            Ok(record) => issued(record, order.forced),
            Err(why) => {
                step.failed(why.clone()).await?;
                let trouble = Trouble {
                    class: Class::Policy,
                    message: format!("what was issued can't be used: {why}"),
                    kind: String::new(),
                    retry_after: None,
                    identifiers: Vec::new(),
                    date: None,
                };
                // It was issued all the same, and counts.
                self.forget_order(&name, order, budget::UNUSABLE, (who, &trouble)).await?;
                return Err(Failed::at(ca, trouble));
            }
        };
        let (folder, written) = (self.folder(&name), record.clone());
        blocking(move || folder.complete(fullchain.as_bytes(), &written)).await?;
        let event = Event {
            kind: budget::ISSUED,
            ca: ca.authority.name.clone(),
            generation: number,
            identifiers: certificate.identifiers.clone(),
            exempt: self.was_exempt(&name, number)?,
            detail: format!("until {}, sha256 {}", record.not_after, &record.fingerprint[..16]),
            ..Event::default()
        };
        let detail = event.detail.clone();
        self.change(&name, who, event, move |standing| {
            // One is what was wanted, whoever gave it.
            standing.orders.clear();
            standing.backoff = None;
            vec![record]
        })
        .await?;
        self.metrics.issued(&name);
        self.remove_keys(&name, &standing.record.orders).await?;
        step.done(detail).await?;
        Ok(number)
    }

    /// Whether the order of a generation was taken for a replacement.
    fn was_exempt(&self, name: &str, number: u32) -> Result<bool> {
        let of = |event: &genesis_storage::CertificateEventRecord| {
            event.name == name && event.generation == number && event.kind == budget::ORDERED
        };
        let events = self.state.read(|reading| Ok(reading.certificates().events(1, of)?))?;
        Ok(events.first().is_some_and(|event| event.exempt))
    }

    fn check_issued(
        &self,
        certificate: &Certificate,
        ca: &Ca,
        (standing, number): (&Standing, u32),
        (key, roots): (&[u8], &rustls::RootCertStore),
        fullchain: &[u8],
    ) -> Result<GenerationRecord, String> {
        let current = standing.current().filter(|it| it.origin == CertificateOrigin::Acme);
        let now = self.now();
        let (leaf, checks) = material::preflight(
            (fullchain, key),
            &certificate.identifiers,
            Some(roots),
            current,
            now,
        )?;
        let wrong: Vec<String> = checks.into_iter().filter_map(|it| it.outcome.err()).collect();
        match wrong.is_empty() {
            true => {
                let from = (CertificateOrigin::Acme, ca.authority.name.as_str());
                let mut record = material::record((&certificate.name, number), &leaf, from, now);
                // As it is configured, so that the same set is known again.
                record.identifiers.clone_from(&certificate.identifiers);
                Ok(record)
            }
            false => Err(wrong.join("; ")),
        }
    }

    /// The leaf of a generation, in DER.
    pub(super) fn leaf_of(&self, name: &str, number: u32) -> Option<Vec<u8>> {
        let (fullchain, _) = self.folder(name).read(number).ok()?;
        let chain = material::chain(&fullchain).ok()?;
        chain.first().map(|leaf| leaf.as_ref().to_vec())
    }
}
