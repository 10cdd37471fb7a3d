//! The metrics of alerts. Labels are bounded by the configuration and by static tables.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::events::Severity;
use crate::outside::notify::Sent;

type Whole = Gauge<i64, AtomicI64>;

/// How an attempt ends.
const OUTCOMES: [&str; 3] = ["accepted", "later", "never"];
/// How long until a channel accepts, in seconds.
const WAITED: [f64; 8] = [0.25, 0.5, 1.0, 2.0, 5.0, 30.0, 120.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSeverity {
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAttempt {
    channel: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfChannel {
    channel: String,
}

/// Counters and gauges of alerts.
#[derive(Clone)]
pub struct Metrics {
    opened: Family<OfSeverity, Counter>,
    firing: Family<OfSeverity, Whole>,
    attempts: Family<OfAttempt, Counter>,
    waiting: Whole,
    troubled: Family<OfChannel, Whole>,
    waited: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            opened: Family::default(),
            firing: Family::default(),
            attempts: Family::default(),
            waiting: Whole::default(),
            troubled: Family::default(),
            waited: Histogram::new(WAITED),
        }
    }
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "genesis_alerts_opened",
            "Alerts that began to fire, by severity",
            metrics.opened.clone(),
        );
        registry.register(
            "genesis_alerts_firing",
            "Alerts that fire, by severity",
            metrics.firing.clone(),
        );
        registry.register(
            "genesis_alerts_attempts",
            "Attempts to send a message, by channel and outcome: accepted, later, never",
            metrics.attempts.clone(),
        );
        registry.register(
            "genesis_alerts_outbox_messages",
            "Messages that no channel has accepted yet",
            metrics.waiting.clone(),
        );
        registry.register(
            "genesis_alerts_channel_troubled",
            "1 while a channel does not answer or refuses what it is given",
            metrics.troubled.clone(),
        );
        registry.register_with_unit(
            "genesis_alerts_delivery",
            "From when an alert was put into the outbox until its channel accepted it",
            Unit::Seconds,
            metrics.waited.clone(),
        );
        for severity in Severity::ALL {
            let label = OfSeverity { severity: severity.name() };
            drop(metrics.opened.get_or_create(&label));
            drop(metrics.firing.get_or_create(&label));
        }
        metrics
    }

    pub(super) fn opened(&self, severity: Severity) {
        self.opened.get_or_create(&OfSeverity { severity: severity.name() }).inc();
    }

    pub(super) fn firing(&self, firing: impl Iterator<Item = Severity>) {
        let mut counts = [0_i64; Severity::ALL.len()];
        for severity in firing {
            counts[severity as usize] += 1;
        }
        for (severity, count) in Severity::ALL.into_iter().zip(counts) {
            self.firing.get_or_create(&OfSeverity { severity: severity.name() }).set(count);
        }
    }

    pub(super) fn sent(&self, channel: &str, sent: &Sent) {
        let [accepted, later, never] = OUTCOMES;
        let outcome = match sent {
            Sent::Accepted { .. } => accepted,
            Sent::Later { .. } => later,
            Sent::Mend { .. } | Sent::Never { .. } => never,
        };
        self.attempts.get_or_create(&OfAttempt { channel: channel.to_owned(), outcome }).inc();
    }

    pub(super) fn waited(&self, waited: Duration) {
        self.waited.observe(waited.as_secs_f64());
    }

    /// What is read when it is asked for: how much waits, and each channel with whether it is in trouble.
    pub fn gauge(&self, waiting: usize, channels: &[(String, bool)]) {
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.troubled.clear();
        for (channel, troubled) in channels {
            let label = OfChannel { channel: channel.clone() };
            self.troubled.get_or_create(&label).set(i64::from(*troubled));
            // There from the start, so that a rate over them has a beginning.
            for outcome in OUTCOMES {
                let label = OfAttempt { channel: channel.clone(), outcome };
                drop(self.attempts.get_or_create(&label));
            }
        }
    }
}
