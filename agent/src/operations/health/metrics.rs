//! Health's metrics. Labels are bounded by the configuration and by static tables.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use genesis_storage::{AttemptOutcome, Trigger};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::gates::GATES;
use super::life::Status;

type Number = Gauge<f64, AtomicU64>;
type Whole = Gauge<i64, AtomicI64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCheck {
    check: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAttempt {
    action: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCode {
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTrigger {
    trigger: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoLabels {}

/// What is read when it is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gauged {
    /// Each check with the age of its last result in seconds.
    pub ages: Vec<(String, f64)>,
    /// Open issues by state.
    pub issues: Vec<(&'static str, i64)>,
    /// Whether actions are taken by themselves.
    pub enabled: bool,
    /// Whether the brake is set.
    pub brake: bool,
    /// Whether the checks are doubted.
    pub suspect: bool,
    /// Incidents that go on.
    pub incidents: i64,
    /// How operations and remediations ended over 30 days, by outcome.
    pub operations: Vec<(&'static str, u64)>,
    /// See `operations`.
    pub remediations: Vec<(&'static str, u64)>,
}

/// Counters and gauges of health.
#[derive(Clone, Default)]
pub struct Metrics {
    status: Family<OfCheck, Whole>,
    value: Family<OfCheck, Number>,
    age: Family<OfCheck, Number>,
    took: Family<OfCheck, Number>,
    issues: Family<OfState, Whole>,
    attempts: Family<OfAttempt, Counter>,
    denials: Family<OfCode, Counter>,
    escalations: Family<OfTrigger, Counter>,
    enabled: Whole,
    brake: Whole,
    suspect: Whole,
    incidents: Whole,
    lag: Number,
    operations: Family<OfOutcome, Whole>,
    remediations: Family<OfOutcome, Whole>,
    /// A share of nothing is no share, so each of them is there only once there is something.
    operation_success: Family<NoLabels, Number>,
    remediation_success: Family<NoLabels, Number>,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let health = registry.sub_registry_with_prefix("genesis_health");
        health.register(
            "check_status",
            "What a check found last: 0 OK, 1 WARN, 2 CRITICAL, 3 UNKNOWN",
            metrics.status.clone(),
        );
        health.register(
            "check_value",
            "What a check measured last, in its probe's own unit",
            metrics.value.clone(),
        );
        health.register_with_unit(
            "check_age",
            "How long ago a check was last looked at",
            Unit::Seconds,
            metrics.age.clone(),
        );
        health.register_with_unit(
            "check_took",
            "How long the last look at a check took",
            Unit::Seconds,
            metrics.took.clone(),
        );
        health.register("issues", "Open issues by state", metrics.issues.clone());
        health.register(
            "attempts",
            "Attempts to mend an issue, by how they ended",
            metrics.attempts.clone(),
        );
        health.register(
            "denials",
            "How often a gate began to hold an action back",
            metrics.denials.clone(),
        );
        health.register(
            "escalations",
            "How often people were called, by why",
            metrics.escalations.clone(),
        );
        health.register(
            "remediation_enabled",
            "1 while actions are taken by themselves",
            metrics.enabled.clone(),
        );
        health.register("brake_set", "1 while the brake is set", metrics.brake.clone());
        health.register(
            "checker_suspect",
            "1 while the checks themselves are doubted",
            metrics.suspect.clone(),
        );
        health.register("incidents_open", "Incidents that go on", metrics.incidents.clone());
        health.register_with_unit(
            "loop_lag",
            "How late the last look was begun",
            Unit::Seconds,
            metrics.lag.clone(),
        );
        // A counter that is not there before its first event hides that event from `increase()`.
        for (code, _) in GATES {
            drop(metrics.denials.get_or_create(&OfCode { code: (*code).to_owned() }));
        }
        for trigger in Trigger::OF_HEALTH {
            let trigger = trigger.code();
            drop(metrics.escalations.get_or_create(&OfTrigger { trigger }));
        }
        let genesis = registry.sub_registry_with_prefix("genesis");
        genesis.register(
            "operations_30d",
            "Runs of the last 30 days by how they ended",
            metrics.operations.clone(),
        );
        genesis.register(
            "remediations_30d",
            "Attempts to mend of the last 30 days by how they ended",
            metrics.remediations.clone(),
        );
        genesis.register(
            "operation_success_ratio",
            "Runs that succeeded of those that succeeded or failed, over 30 days",
            metrics.operation_success.clone(),
        );
        genesis.register(
            "remediation_success_ratio",
            "Attempts to mend that helped of those that helped or failed, over 30 days",
            metrics.remediation_success.clone(),
        );
        metrics
    }

    /// A look has ended.
    pub fn looked(&self, check: &str, status: Status, value: Option<f64>, took: Duration) {
        let of = OfCheck { check: check.to_owned() };
        let number = match status {
            Status::Ok => 0,
            Status::Warn => 1,
            Status::Crit => 2,
            Status::Unknown => 3,
        };
        self.status.get_or_create(&of).set(number);
        self.value.get_or_create(&of).set(value.unwrap_or(f64::NAN));
        self.took.get_or_create(&of).set(took.as_secs_f64());
    }

    /// A look was begun so late.
    pub fn late(&self, lag: Duration) {
        self.lag.set(lag.as_secs_f64());
    }

    /// An attempt has ended.
    pub fn attempted(&self, action: &str, outcome: AttemptOutcome) {
        let outcome = match outcome {
            AttemptOutcome::Intent | AttemptOutcome::Done => return,
            AttemptOutcome::Succeeded => "succeeded",
            AttemptOutcome::Failed => "failed",
            AttemptOutcome::NotNeeded => "not_needed",
            AttemptOutcome::DryRun => "dry_run",
            AttemptOutcome::Unknown => "unknown",
        };
        self.attempts.get_or_create(&OfAttempt { action: action.to_owned(), outcome }).inc();
    }

    /// An action is there, and may end in these ways.
    pub fn armed(&self, action: &str) {
        for outcome in ["succeeded", "failed", "not_needed", "dry_run", "unknown"] {
            let of = OfAttempt { action: action.to_owned(), outcome };
            drop(self.attempts.get_or_create(&of));
        }
    }

    /// A gate began to hold an action back.
    pub fn denied(&self, code: &str) {
        self.denials.get_or_create(&OfCode { code: code.to_owned() }).inc();
    }

    /// People were called.
    pub fn escalated(&self, trigger: &'static str) {
        self.escalations.get_or_create(&OfTrigger { trigger }).inc();
    }

    /// Sets what is read when it is asked for.
    pub fn observe(&self, gauged: &Gauged) {
        for (check, age) in &gauged.ages {
            self.age.get_or_create(&OfCheck { check: check.clone() }).set(*age);
        }
        for (state, count) in &gauged.issues {
            self.issues.get_or_create(&OfState { state }).set(*count);
        }
        self.enabled.set(gauged.enabled.into());
        self.brake.set(gauged.brake.into());
        self.suspect.set(gauged.suspect.into());
        self.incidents.set(gauged.incidents);
        for (family, success, counts) in [
            (&self.operations, &self.operation_success, &gauged.operations),
            (&self.remediations, &self.remediation_success, &gauged.remediations),
        ] {
            for (outcome, count) in counts {
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                family.get_or_create(&OfOutcome { outcome }).set(count);
            }
            match super::view::share(counts) {
                Some(share) => drop(success.get_or_create(&NoLabels {}).set(share)),
                None => success.clear(),
            }
        }
    }

    /// Forgets checks that are no more.
    pub fn forget(&self, check: &str) {
        let of = OfCheck { check: check.to_owned() };
        self.status.remove(&of);
        self.value.remove(&of);
        self.age.remove(&of);
        self.took.remove(&of);
    }
}
