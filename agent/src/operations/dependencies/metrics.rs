//! Metrics of dependencies. Labels are bounded by the number of projects and by static words.

use genesis_advisories::finding::Kind;
use genesis_storage::UpdateRecord;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::clocks::severity_name;
use super::plan::Verdict;
use super::scan::{ProjectScan, SourceView};
use super::update::ROLLBACK_STRATEGY;
use crate::gauging::Gauging;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSeverity {
    project: String,
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProject {
    project: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSource {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

/// The severities that are counted.
const SEVERITIES: [&str; 6] = ["unknown", "none", "low", "medium", "high", "critical"];
/// How updates end.
const OUTCOMES: [&str; 6] =
    ["succeeded", "rolled-back", "unchanged", "refused", "cancelled", "held"];

/// Counters and gauges of dependencies.
#[derive(Clone, Default)]
pub struct Metrics {
    vulnerabilities: Family<OfSeverity, Gauge>,
    exploited: Family<OfProject, Gauge>,
    verdict: Family<OfProject, Gauge>,
    age: Family<OfSource, Gauge>,
    updates: Family<OfOutcome, Counter>,
    rollbacks: Family<OfOutcome, Counter>,
    gauging: Gauging,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry, gauging: Gauging) -> Self {
        let metrics = Self { gauging, ..Self::default() };
        let own = registry.sub_registry_with_prefix("genesis_dependencies");
        own.register(
            "vulnerabilities",
            "Vulnerabilities that are not ignored, by project and severity",
            metrics.vulnerabilities.clone(),
        );
        own.register(
            "exploited",
            "Vulnerabilities that use is made of and that are not ignored, by project",
            metrics.exploited.clone(),
        );
        own.register(
            "scan_verdict",
            "What the last look at a project came to: 0 pass, 1 findings, 2 unknown",
            metrics.verdict.clone(),
        );
        own.register_with_unit(
            "data_age",
            "Age of the file that data was imported from, by source; -1: it was never imported",
            Unit::Seconds,
            metrics.age.clone(),
        );
        own.register("updates", "Updates, by how they ended", metrics.updates.clone());
        own.register(
            "rollbacks",
            "Rollbacks by hand, by how they ended",
            metrics.rollbacks.clone(),
        );
        // A counter that is not there before its first event hides that event from `increase()`.
        for outcome in OUTCOMES {
            drop(metrics.updates.get_or_create(&OfOutcome { outcome }));
            drop(metrics.rollbacks.get_or_create(&OfOutcome { outcome }));
        }
        metrics
    }

    /// An update, or a rollback, has ended.
    pub fn ended(&self, record: &UpdateRecord) {
        let outcome = record.outcome();
        let rollback = record.strategy == ROLLBACK_STRATEGY;
        let family = if rollback { &self.rollbacks } else { &self.updates };
        family.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// What a look saw. Projects and sources that are there no more go.
    pub fn looked(&self, scans: &[ProjectScan], sources: &[SourceView], now: Timestamp) {
        let _held = self.gauging.hold();
        self.vulnerabilities.clear();
        self.exploited.clear();
        self.verdict.clear();
        self.age.clear();
        for scan in scans {
            let project = &scan.project.name;
            let counted = || {
                scan.findings
                    .iter()
                    .filter(|it| it.finding.kind == Kind::Vulnerability && it.ignored.is_none())
            };
            for severity in SEVERITIES {
                let own = counted()
                    .filter(|it| severity_name(it.finding.severity.rating) == severity)
                    .count();
                self.vulnerabilities
                    .get_or_create(&OfSeverity { project: project.clone(), severity })
                    .set(i64::try_from(own).unwrap_or(i64::MAX));
            }
            let exploited = counted().filter(|it| it.finding.exploited == Some(true)).count();
            let of = || OfProject { project: project.clone() };
            self.exploited.get_or_create(&of()).set(i64::try_from(exploited).unwrap_or(i64::MAX));
            let verdict = match scan.verdict {
                Verdict::Pass => 0,
                Verdict::Findings => 1,
                Verdict::Unknown => 2,
            };
            self.verdict.get_or_create(&of()).set(verdict);
        }
        for view in sources {
            let age = view.source.as_ref().map(|it| now.as_second().saturating_sub(it.file_at));
            self.age.get_or_create(&OfSource { source: view.name.clone() }).set(age.unwrap_or(-1));
        }
    }
}
