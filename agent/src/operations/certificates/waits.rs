//! A CA that says until when it wants no order is not asked before.

use std::time::Duration;

use genesis_storage::CertificateTrouble;
use jiff::Timestamp;

use super::config::{Ca, Certificate};
use super::failed::Failed;
use super::record::{Event, Who};
use super::{Certificates, backoff};
use crate::error::{Error, Unmet};

impl Certificates {
    /// What a CA said of when to come again holds also after a restart, and for whoever is in a hurry.
    pub(super) fn may_be_asked(&self, certificate: &Certificate, ca: &Ca) -> Result<(), Failed> {
        let standing = self.standing(&certificate.name)?;
        let now = self.now();
        let situation = standing.situation(certificate, "", (None, false), now);
        let Some(until) = situation.asked_to_wait(&ca.authority.name) else { return Ok(()) };
        Err(Failed {
            trouble: CertificateTrouble::RateLimited,
            ca: ca.authority.name.clone(),
            error: Box::new(held_by_ca(ca, until, now)),
            retry_after: Duration::try_from(until.duration_since(now)).ok(),
            identifiers: Vec::new(),
            placing: false,
        })
    }

    /// Notes until when a CA wants no order.
    pub(super) async fn note_wait(
        &self,
        name: &str,
        ca: &Ca,
        (failed, who): (&Failed, &Who),
    ) -> Result<(), Error> {
        let asked = failed.retry_after.filter(|_| failed.error.code == "CA_RATE_LIMITED");
        let Some(asked) = asked else { return Ok(()) };
        let (ca, now) = (ca.authority.name.clone(), self.now());
        let until = backoff::asked_for(now, asked);
        let event = Event {
            kind: "rate-limited",
            ca: ca.clone(),
            detail: format!("nothing is ordered from {ca} before {until}"),
            outcome: "CA_RATE_LIMITED",
            ..Event::default()
        };
        self.change(name, who, event, move |record| {
            record.waits.retain(|(other, until)| *other != ca && *until > now);
            record.waits.push((ca, until));
            Vec::new()
        })
        .await
    }
}

/// A CA wants no order before a time that it has named.
pub(super) fn held_by_ca(ca: &Ca, until: Timestamp, now: Timestamp) -> Error {
    let name = &ca.authority.name;
    let message =
        format!("{name} has said that it takes no order before {until}; nothing was sent");
    let unmet = Unmet {
        code: "CERTIFICATE_HELD_BACK",
        subject: name.clone(),
        message: format!("{name} limits how often it is asked: wait until {until}"),
    };
    let error = Error::refused("CERTIFICATE_HELD_BACK", message, vec![unmet]);
    error.retry_after(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}
