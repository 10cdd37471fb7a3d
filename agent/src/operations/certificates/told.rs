//! What people should hear of certificates: each warning before an end once for each certificate, what is not served as it
//! should be, a failure that does not pass, and at once and loudly that nobody trusts what is in service.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{BackoffRecord, CertificateOrigin, CertificateTrouble};
use jiff::Timestamp;

use super::failed::FINE;
use super::view::{Life, View, span, trouble};
use super::{Certificates, Standing, due, plan};
use crate::error::{Error, Result};
use crate::events::{self, Condition, Severity};

/// A failure is told once so many attempts in a row have failed, or its certificate is not sound.
const FAILURES: u32 = 3;
/// Looking into a failure takes no longer.
const LOOKED_INTO: Duration = Duration::from_secs(60);

/// Tells people of certificates.
pub struct Told(pub Arc<Certificates>);

#[async_trait]
impl events::Source for Told {
    fn name(&self) -> &'static str {
        "certificate"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let own = Arc::clone(&self.0);
        let found = self.0.asked.run(&(), move || own.told().ok()).await.ok().flatten();
        found.ok_or_else(|| Error::unavailable("STORAGE_FAILED", "the certificates can't be read"))
    }
}

/// The page of what is wrong with a certificate.
fn page(what: &str) -> &'static str {
    let any = |beginnings: &[&str]| beginnings.iter().any(|it| what.starts_with(it));
    if any(&["self-signed", "ended-"]) {
        return "certificate-expired";
    }
    if any(&["ends-", "failed"]) { "certificate-renewal" } else { "certificates" }
}

impl Certificates {
    /// What people should hear of now.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn told(&self) -> Result<Vec<Condition>> {
        let now = self.now();
        let self_signed_for = self.config.load().self_signed_for;
        let mut all = Vec::new();
        let views = self.list("")?;
        // Whatever shows it, it is one clock, and is told once.
        if let Some(why) = views.iter().find_map(|view| self.clock_for(&view.standing)) {
            all.push(Condition {
                key: "certificate/clock".to_owned(),
                subject: "clock".to_owned(),
                severity: Severity::High,
                title: "the clock can't be trusted, so no certificate is ordered".to_owned(),
                details: vec![
                    why,
                    "set it right, and look why time synchronisation did not".to_owned(),
                ],
                runbook: "certificates".to_owned(),
                since: now,
                behind: Vec::new(),
            });
        }
        for view in views {
            all.extend(self.of_one(&view, self_signed_for, now));
            all.extend(self.not_revoked(&view, now)?);
        }
        Ok(all)
    }

    /// Since when a self-signed one is in service, and how long that is. Where nobody noted it, since the first of those
    /// that were made one after the other was.
    fn self_signed_for(&self, standing: &Standing, now: Timestamp) -> (Timestamp, Duration) {
        if let Some(since) = &standing.record.self_signed_since {
            return (since.wall, self.moment().since(since));
        }
        let made = standing.generations.iter();
        let made = made.skip_while(|it| it.number > standing.record.generation);
        let first = made.take_while(|it| it.origin == CertificateOrigin::SelfSigned).last();
        let since = first.map_or(now, |it| it.created_at.min(now));
        (since, Duration::try_from(now.duration_since(since)).unwrap_or_default())
    }

    fn of_one(&self, view: &View, self_signed_for: Duration, now: Timestamp) -> Vec<Condition> {
        let name = &view.certificate.name;
        let record = &view.standing.record;
        let current = view.standing.current();
        let mut all = Vec::new();
        let mut tell = |what: &str,
                        severity,
                        title: String,
                        mut details: Vec<String>,
                        since,
                        behind: &[&str]| {
            details.push(format!("genesisctl cert show {name}"));
            all.push(Condition {
                key: format!("certificate/{name}/{what}"),
                subject: name.clone(),
                severity,
                title,
                details,
                runbook: page(what).to_owned(),
                since,
                behind: behind.iter().map(|other| format!("certificate/{name}/{other}")).collect(),
            });
        };
        let failure: Vec<String> = record
            .backoff
            .iter()
            .map(|it| format!("{}: {}", trouble(it.trouble), it.error))
            .collect();
        let advice = || {
            let each = record.backoff.iter().flat_map(|it| &it.diagnosis);
            let told = each.filter(|(code, _, _)| !FINE.contains(&code.as_str()));
            told.map(|(_, subject, message)| format!("{subject}: {message}")).take(8)
        };
        if view.life == Life::SelfSigned {
            let (since, left) = self.self_signed_for(&view.standing, now);
            let mut details = failure.clone();
            details.extend(advice());
            details.push(format!("orders go on by themselves; renew it by hand within {}: genesisctl cert renew --domain {name} --force", span(self_signed_for)));
            tell(
                "self-signed",
                Severity::Critical,
                format!("{name}: a self-signed certificate is in service, which no client trusts"),
                details,
                since,
                &[],
            );
            if left >= self_signed_for {
                tell(
                    "self-signed-escalated",
                    Severity::Critical,
                    format!(
                        "{name}: self-signed for {}, longer than {}",
                        span(left),
                        span(self_signed_for)
                    ),
                    failure.clone(),
                    plan::plus(since, self_signed_for),
                    &[],
                );
            }
        }
        let sound = current
            .is_some_and(|it| it.origin != CertificateOrigin::SelfSigned && it.not_after > now);
        if let Some(current) = current.filter(|it| it.origin != CertificateOrigin::SelfSigned) {
            let print = &current.fingerprint[..8];
            let left = current.not_after.duration_since(now);
            if left.is_negative() {
                let title =
                    format!("{name}: the certificate in service ended at {}", current.not_after);
                tell(
                    &format!("ended-{print}"),
                    Severity::Critical,
                    title,
                    failure.clone(),
                    current.not_after,
                    &["self-signed"],
                );
            }
            // Each is a condition of its own, so that each is told once, also after restarts.
            for ((level, before), severity) in due::warnings(current).into_iter().zip([
                Severity::Low,
                Severity::High,
                Severity::Critical,
            ]) {
                let from = plan::minus(current.not_after, before);
                if from > now {
                    continue;
                }
                let mut details = failure.clone();
                details.extend(advice());
                if record.pin.is_some() {
                    details.push(format!(
                        "it is pinned, so nothing is ordered: genesisctl cert unpin --domain {name}"
                    ));
                }
                let title =
                    format!("{name} ends at {}, in less than {}", current.not_after, span(before));
                let ended = format!("ended-{print}");
                tell(&format!("ends-{level}-{print}"), severity, title, details, from, &[&ended]);
            }
            if let Some(seen) = &view.served
                && seen.truth(Some(current)) == Some(false)
                && record.deploying.is_none()
            {
                let details = vec![
                    seen.evidence(Some(current)),
                    format!("genesisctl cert verify --domain {name}"),
                ];
                tell(
                    "not-served",
                    Severity::High,
                    format!("{name}: another certificate is served than is in force"),
                    details,
                    seen.at,
                    &[],
                );
            }
        }
        // What to do about it comes with it, so it is waited for.
        let looked_into =
            |it: &&BackoffRecord| !it.diagnosis.is_empty() || plan::plus(it.at, LOOKED_INTO) < now;
        if let Some(backoff) = record.backoff.as_ref().filter(looked_into)
            && (backoff.failures >= FAILURES
                || !sound
                || matches!(
                    backoff.trouble,
                    CertificateTrouble::Policy | CertificateTrouble::Local
                ))
        {
            let mut details = failure;
            details.extend(advice());
            details.push(match backoff.until {
                Some(until) => format!("tried again at {until}"),
                None => "tried again when the configuration is another".to_owned(),
            });
            let title = format!("{name} can't be renewed");
            tell(
                "failed",
                if sound { Severity::Medium } else { Severity::High },
                title,
                details,
                backoff.at,
                &["self-signed"],
            );
        }
        all
    }
}
