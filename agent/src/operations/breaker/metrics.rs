//! Metrics of the breakers. Labels are bounded by the number of breakers and by static words.

use genesis_storage::BreakerState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBreaker {
    breaker: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCause {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

/// Why breakers open.
const CAUSES: [&str; 6] = ["gross", "latency", "errors", "probe", "manual", "baseline"];
/// What becomes of reports.
pub const REPORTS: [&str; 5] = ["counted", "duplicate", "late", "ahead", "dropped"];
const PROBES: [&str; 4] = ["granted", "passed", "failed", "unknown"];
const HOOKS: [&str; 3] = ["succeeded", "failed", "dropped"];

/// Counters and gauges of the breakers.
#[derive(Clone, Default)]
pub struct Metrics {
    state: Family<OfBreaker, Gauge>,
    trips: Family<OfCause, Counter>,
    reports: Family<OfOutcome, Counter>,
    probes: Family<OfOutcome, Counter>,
    hooks: Family<OfOutcome, Counter>,
    rejected: Counter,
    watchers: Gauge,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let breaker = registry.sub_registry_with_prefix("genesis_breaker");
        breaker.register(
            "state",
            "Where a breaker is: 0 CLOSED, 1 HALF_OPEN, 2 OPEN",
            metrics.state.clone(),
        );
        breaker.register("trips", "How often breakers opened, by why", metrics.trips.clone());
        breaker.register(
            "reports",
            "Reports of windows, by what became of them",
            metrics.reports.clone(),
        );
        breaker.register("probes", "Probes of half-open breakers", metrics.probes.clone());
        breaker.register("hooks", "Hooks that were run on a change", metrics.hooks.clone());
        breaker.register(
            "rejected_calls",
            "Calls that clients say a breaker rejected",
            metrics.rejected.clone(),
        );
        breaker.register("watchers", "Clients that follow the breakers", metrics.watchers.clone());
        // A counter that is not there before its first event hides that event from `increase()`.
        for cause in CAUSES {
            drop(metrics.trips.get_or_create(&OfCause { cause }));
        }
        for (family, outcomes) in
            [(&metrics.reports, &REPORTS[..]), (&metrics.probes, &PROBES), (&metrics.hooks, &HOOKS)]
        {
            for outcome in outcomes {
                drop(family.get_or_create(&OfOutcome { outcome }));
            }
        }
        metrics
    }

    /// A breaker is in this state.
    pub fn is(&self, name: &str, state: BreakerState) {
        let number = match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        self.state.get_or_create(&OfBreaker { breaker: name.to_owned() }).set(number);
    }

    /// There is no such breaker any more.
    pub fn forget(&self, name: &str) {
        self.state.remove(&OfBreaker { breaker: name.to_owned() });
    }

    /// A breaker has opened.
    pub fn tripped(&self, cause: &'static str) {
        self.trips.get_or_create(&OfCause { cause }).inc();
    }

    /// A report has come.
    pub fn reported(&self, outcome: &'static str) {
        self.reports.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// So many probes were granted, or one has ended.
    pub fn probed(&self, outcome: &'static str, count: u64) {
        self.probes.get_or_create(&OfOutcome { outcome }).inc_by(count);
    }

    /// A hook was run, or not.
    pub fn hooked(&self, outcome: &'static str) {
        self.hooks.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// Clients have rejected so many calls.
    pub fn rejected(&self, calls: u64) {
        self.rejected.inc_by(calls);
    }

    /// A client begins to follow; it has left when the guard is dropped.
    pub fn watching(&self) -> Watching {
        self.watchers.inc();
        Watching(self.watchers.clone())
    }
}

/// A client that follows.
pub struct Watching(Gauge);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.dec();
    }
}
