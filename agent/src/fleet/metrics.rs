//! What is counted of the fleet.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Standing;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// The fleet's metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    standing: Family<State, Gauge>,
    silent: Gauge<f64, std::sync::atomic::AtomicU64>,
    connections: Counter,
    failures: Counter,
    changes: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "genesis_fleet_standing",
            "How this host stands to its fleet: 1 for what it is",
            metrics.standing.clone(),
        );
        registry.register(
            "genesis_fleet_silent_seconds",
            "Since when etcd was not heard of; 0 while it answers",
            metrics.silent.clone(),
        );
        registry.register(
            "genesis_fleet_connections",
            "Connections to etcd that were made",
            metrics.connections.clone(),
        );
        registry.register(
            "genesis_fleet_connection_failures",
            "Connections to etcd that could not be made, or broke",
            metrics.failures.clone(),
        );
        registry.register(
            "genesis_fleet_changes",
            "Keys of the fleet that were seen to change",
            metrics.changes.clone(),
        );
        metrics
    }

    /// Shows how it stands.
    pub fn show(&self, standing: Standing) {
        for state in ["ALONE", "CONNECTED", "STALE", "LOST"] {
            let is = i64::from(state == standing.name());
            self.standing.get_or_create(&State { state }).set(is);
        }
        self.silent.set(standing.age().unwrap_or_default().as_secs_f64());
    }

    pub(super) fn connected(&self) {
        self.connections.inc();
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    pub(super) fn seen(&self, changes: usize) {
        self.changes.inc_by(changes as u64);
    }
}
