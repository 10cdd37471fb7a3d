//! Metrics of certificates. Labels are bounded by how many are configured and by static words.

use genesis_storage::CertificateTrouble;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::view::Life;
use super::{Certificates, plan};
use crate::error::Result;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfName {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

/// What becomes of attempts.
const OUTCOMES: [&str; 9] = [
    "issued",
    "deployed",
    "taken-back",
    "rate-limited",
    "unauthorized",
    "ca-failed",
    "refused",
    "local",
    "clock",
];

/// Counters and gauges of certificates.
#[derive(Clone, Default)]
pub struct Metrics {
    expiry: Family<OfName, Gauge>,
    lifetime: Family<OfName, Gauge>,
    last_check: Family<[(&'static str, &'static str); 0], Gauge>,
    generation: Family<OfName, Gauge>,
    outcome: Family<OfName, Gauge>,
    served: Family<OfName, Gauge>,
    self_signed: Family<OfName, Gauge>,
    attempts: Family<OfOutcome, Counter>,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let own = registry.sub_registry_with_prefix("genesis_certificates");
        own.register_with_unit(
            "expiry",
            "Time left until a certificate ends, by name; negative once it has",
            Unit::Seconds,
            metrics.expiry.clone(),
        );
        own.register_with_unit(
            "lifetime",
            "How long the certificate in force lives in all, by name",
            Unit::Seconds,
            metrics.lifetime.clone(),
        );
        own.register_with_unit(
            "last_check_timestamp",
            "When the last daily check ended that found everything as it should be",
            Unit::Seconds,
            metrics.last_check.clone(),
        );
        own.register(
            "generation",
            "The generation in force, by name; 0: none",
            metrics.generation.clone(),
        );
        own.register(
            "last_outcome",
            "How the last attempt ended, by name: 1 well, 0 not",
            metrics.outcome.clone(),
        );
        own.register(
            "served",
            "Whether what is served is what is in force, by name: 1 yes, 0 no, -1 not known",
            metrics.served.clone(),
        );
        own.register(
            "self_signed",
            "Whether a self-signed certificate is in service, by name",
            metrics.self_signed.clone(),
        );
        own.register("attempts", "What became of attempts", metrics.attempts.clone());
        // A counter that is not there before its first event hides that event from `increase()`.
        for outcome in OUTCOMES {
            drop(metrics.attempts.get_or_create(&OfOutcome { outcome }));
        }
        metrics
    }

    fn count(&self, outcome: &'static str) {
        self.attempts.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// A check has found everything as it should be. Before the first one there is no such time.
    pub fn checked(&self, at: Timestamp) {
        self.last_check.get_or_create(&[]).set(at.as_second());
    }

    /// One was issued.
    pub fn issued(&self, _name: &str) {
        self.count("issued");
    }

    /// One came into service.
    pub fn deployed(&self, _name: &str) {
        self.count("deployed");
    }

    /// One was taken back.
    pub fn taken_back(&self, _name: &str) {
        self.count("taken-back");
    }

    /// An attempt failed.
    pub fn failed(&self, _name: &str, trouble: CertificateTrouble) {
        self.count(match trouble {
            CertificateTrouble::RateLimited => "rate-limited",
            CertificateTrouble::Authorization => "unauthorized",
            CertificateTrouble::Server => "ca-failed",
            CertificateTrouble::Policy => "refused",
            CertificateTrouble::Local => "local",
            CertificateTrouble::Clock => "clock",
        });
    }
}

impl Certificates {
    /// Sets the gauges, which are read when they are asked for.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn gauge(&self) -> Result<()> {
        let metrics = &self.metrics;
        // A certificate that is gone has none.
        for family in [
            &metrics.expiry,
            &metrics.lifetime,
            &metrics.generation,
            &metrics.outcome,
            &metrics.served,
            &metrics.self_signed,
        ] {
            family.clear();
        }
        for view in self.list("")? {
            let of = OfName { name: view.certificate.name.clone() };
            if let Some(left) = view.left {
                metrics.expiry.get_or_create(&of).set(left.as_secs());
            }
            if let Some(current) = view.standing.current() {
                let life = i64::try_from(plan::lifetime(current).as_secs()).unwrap_or(i64::MAX);
                metrics.lifetime.get_or_create(&of).set(life);
            }
            let record = &view.standing.record;
            metrics.generation.get_or_create(&of).set(i64::from(record.generation));
            metrics.outcome.get_or_create(&of).set(i64::from(record.backoff.is_none()));
            let served = view.served.as_ref().and_then(|seen| seen.truth(view.standing.current()));
            metrics.served.get_or_create(&of).set(served.map_or(-1, i64::from));
            metrics.self_signed.get_or_create(&of).set(i64::from(view.life == Life::SelfSigned));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_check_is_there_once_one_has_gone_well() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let line = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let name = "genesis_certificates_last_check_timestamp_seconds";
            text.lines().find(|line| line.starts_with(name)).map(str::to_owned)
        };
        assert_eq!(line(), None);
        metrics.checked(Timestamp::from_second(107).unwrap());
        assert!(line().is_some_and(|line| line.ends_with(" 107")));
    }
}
