//! Metrics of the schedule. Labels are bounded by the number of jobs and by static words. The label is `name`: `job` is
//! what Prometheus itself calls the agent by.

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::error::{Kind, Result};
use crate::runs::Report;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfJob {
    name: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRun {
    name: &'static str,
    outcome: &'static str,
}

/// How runs of jobs end.
const OUTCOMES: [&str; 5] = ["succeeded", "failed", "refused", "cancelled", "unknown"];

/// Counters and gauges of the schedule.
#[derive(Clone, Default)]
pub struct Metrics {
    runs: Family<OfRun, Counter>,
    last_success: Family<OfJob, Gauge>,
    next: Family<OfJob, Gauge>,
    paused: Family<OfJob, Gauge>,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let own = registry.sub_registry_with_prefix("genesis_schedule");
        own.register("runs", "Runs of jobs that have ended, by how", metrics.runs.clone());
        own.register_with_unit(
            "last_success_timestamp",
            "When a run of the job last went well, in seconds since 1970",
            Unit::Seconds,
            metrics.last_success.clone(),
        );
        own.register_with_unit(
            "next_run_timestamp",
            "When the job is due next, in seconds since 1970",
            Unit::Seconds,
            metrics.next.clone(),
        );
        own.register("paused", "Whether the job is paused", metrics.paused.clone());
        metrics
    }

    /// There is this job: what counts its runs is there before the first.
    pub(super) fn know(&self, name: &'static str) {
        for outcome in OUTCOMES {
            drop(self.runs.get_or_create(&OfRun { name, outcome }));
        }
    }

    /// When the job is due next as the schedule has it, unless it is paused.
    pub(super) fn due(&self, name: &'static str, next: Option<Timestamp>, paused: bool) {
        let of = OfJob { name };
        self.paused.get_or_create(&of).set(i64::from(paused));
        match next.filter(|_| !paused) {
            Some(next) => {
                self.next.get_or_create(&of).set(next.as_second());
            }
            None => {
                self.next.remove(&of);
            }
        }
    }

    /// A run went well then.
    pub(super) fn succeeded(&self, name: &'static str, at: Timestamp) {
        self.last_success.get_or_create(&OfJob { name }).set(at.as_second());
    }

    /// A run begins, whose end is to be counted.
    pub(super) fn begin(&self, name: &'static str) -> Going {
        Going { runs: self.runs.clone(), of: OfRun { name, outcome: "failed" } }
    }
}

/// A run that goes on. One that panics ends as one that failed.
pub(super) struct Going {
    runs: Family<OfRun, Counter>,
    of: OfRun,
}

impl Going {
    /// It has ended; whether it went well.
    pub(super) fn end(mut self, ended: &Result<Report>) -> bool {
        self.of.outcome = match ended {
            Ok(report) if report.proven => "succeeded",
            Ok(_) => "unknown",
            Err(error) => match error.kind {
                Kind::Cancelled => "cancelled",
                Kind::Refused => "refused",
                _ => "failed",
            },
        };
        self.of.outcome == "succeeded"
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.runs.get_or_create(&self.of).inc();
    }
}
