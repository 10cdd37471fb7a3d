//! Why an attempt came to nothing, and until when the next one waits.

use std::time::Duration;

use genesis_storage::{BackoffRecord, CertificateOrigin, CertificateTrouble};

use super::config::{Ca, Certificate};
use super::record::{Event, Who};
use super::{Certificates, backoff, plan};
use crate::error::{Error, Kind, Result};
use crate::outside::acme::{Class, Trouble};
use crate::runs::Context;

/// A CA that limits how often it is asked is left alone for so long at least; it doubles.
const SOON: Duration = Duration::from_secs(5);

/// Why an attempt came to nothing.
pub(super) struct Failed {
    pub(super) trouble: CertificateTrouble,
    pub(super) error: Box<Error>,
    /// At this CA; empty: at none.
    pub(super) ca: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) identifiers: Vec<String>,
    /// Whether it was a generation that could not be brought into service.
    pub(super) placing: bool,
}

impl Failed {
    pub(super) fn local(error: Error) -> Self {
        Self {
            trouble: CertificateTrouble::Local,
            error: Box::new(error),
            ca: String::new(),
            retry_after: None,
            identifiers: Vec::new(),
            placing: false,
        }
    }

    /// What was issued could not be brought into service.
    pub(super) fn placing(error: Error) -> Self {
        Self { placing: true, ..Self::local(error) }
    }

    /// A CA that wants to be left alone for a moment, again and again, is asked ever less all the same. The agent's own
    /// counts name the very time.
    fn least(&self, failures: u32) -> Duration {
        match self.error.code {
            "CA_RATE_LIMITED" => SOON.saturating_mul(1 << failures.saturating_sub(1).min(8)),
            _ => Duration::ZERO,
        }
    }

    pub(super) fn at(ca: &Ca, trouble: Trouble) -> Self {
        let (sort, code) = match trouble.class {
            Class::RateLimited => (CertificateTrouble::RateLimited, "CA_RATE_LIMITED"),
            Class::Authorization => (CertificateTrouble::Authorization, "CA_NOT_AUTHORIZED"),
            Class::Policy | Class::Replaces => (CertificateTrouble::Policy, "CA_REFUSED"),
            Class::Server | Class::OrderGone => (CertificateTrouble::Server, "CA_UNAVAILABLE"),
            Class::Local => (CertificateTrouble::Local, "CERTIFICATE_ANSWER_FAILED"),
        };
        let named = format!("{}: ", ca.authority.name);
        let message = match trouble.message.starts_with(&named) {
            true => trouble.message,
            false => named + &trouble.message,
        };
        Self {
            trouble: sort,
            error: Box::new(Error::unavailable(code, message)),
            ca: ca.authority.name.clone(),
            retry_after: trouble.retry_after,
            identifiers: trouble.identifiers,
            placing: false,
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::local(error)
    }
}

/// What a diagnosis says of what is as it should be.
pub(super) const FINE: [&str; 2] = ["CA_REACHABLE", "DNS_FITS"];

impl Certificates {
    /// Notes that an attempt failed, at each of the CAs that were asked, and until when the next waits. `configuration` is what
    /// it failed with: another one may be in force by now.
    pub(super) async fn hold(
        &self,
        certificate: &Certificate,
        (configuration, each): (&str, &[Failed]),
        (who, context): (&Who, &Context),
    ) -> Result<()> {
        let Some(failed) = each.last() else { return Ok(()) };
        let (now, name) = (self.now(), certificate.name.clone());
        let standing = self.standing(&name)?;
        // Failures in a row are of one sort: a CA that was down says nothing of a hook. Where neither gets anywhere, each
        // after the other, they are.
        let both = standing.record.deploying.as_ref().is_some_and(|it| it.failed);
        let before = standing.record.backoff.as_ref().filter(|it| {
            it.configuration == configuration && (both || it.trouble == failed.trouble)
        });
        let failures = before.map_or(0, |it| it.failures) + 1;
        let urgent = standing.current().is_none_or(|it| {
            it.origin == CertificateOrigin::SelfSigned
                || it.not_after < plan::plus(now, Duration::from_secs(86_400))
        });
        // Until the new diagnosis is there the one of the same failure before stands, lest the alert goes and comes.
        let diagnosis = before.filter(|it| it.trouble == failed.trouble);
        let diagnosis = diagnosis.map(|it| it.diagnosis.clone()).unwrap_or_default();
        let seed = format!("{}/{name}", self.host.host_id);
        let wait = |failed: &Failed| {
            let asked = failed.retry_after.map(|it| it.max(failed.least(failures)));
            backoff::wait_until(failed.trouble, failures, asked, (urgent, &seed), now)
        };
        let situation = standing.situation(certificate, configuration, (None, false), now);
        let mut waits = situation.waits();
        waits.retain(|(name, _)| each.iter().all(|failed| failed.ca != *name));
        let asked = each.iter().filter(|failed| !failed.ca.is_empty());
        waits.extend(asked.map(|failed| (failed.ca.clone(), wait(failed))));
        // Then the first of them may be asked again.
        let until = match failed.ca.is_empty() {
            true => wait(failed),
            false => waits.iter().filter_map(|(_, until)| *until).min(),
        };
        let error = failed.error.chain();
        let backoff = BackoffRecord {
            until,
            trouble: failed.trouble,
            failures,
            error: error.clone(),
            diagnosis,
            at: now,
            configuration: configuration.to_owned(),
            waits,
            placing: failed.placing,
        };
        let ca = failed.ca.clone();
        let event = Event {
            kind: "failed",
            ca,
            identifiers: failed.identifiers.clone(),
            detail: match until {
                Some(until) => format!("{error}; tried again at {until}"),
                None => error,
            },
            outcome: failed.error.code,
            ..Event::default()
        };
        self.metrics.failed(&name, failed.trouble);
        self.change(&name, who, event, move |record| {
            record.backoff = Some(backoff);
            Vec::new()
        })
        .await?;
        // That takes a while, and the wait is there already when something cuts it off.
        let diagnosis = self.diagnose(certificate, failed).await;
        let wrong = |code: &str| !FINE.contains(&code) && code != "BACKUP_CERTIFICATE";
        let advice = diagnosis.iter().filter(|(code, _, _)| wrong(code) && !failed.placing);
        let advice: Vec<_> = advice.cloned().collect();
        let noted = self.state.bookkeep(move |books| {
            books.certificates().diagnosed(&name, now, diagnosis)?;
            Ok(())
        });
        noted.await?;
        self.bell.ring();
        // Whoever waits for the run gets it with the answer.
        for (code, subject, message) in advice {
            let step = context.begin("diagnose", &subject).await?;
            step.failed(format!("{code}: {message}")).await?;
        }
        Ok(())
    }
}

/// Whether another CA may help.
pub(super) fn elsewhere(failed: &Failed) -> bool {
    use CertificateTrouble::{Clock, Local};
    !matches!(failed.trouble, Clock | Local) && failed.error.kind != Kind::Cancelled
}
