//! What is read over HTTP as JSON: each path, the rpc that answers it, and what it is for.

/// A page of JSON below `/api/operations/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Such as "health/status".
    pub path: &'static str,
    /// The service's name in `genesis.v1`.
    pub service: &'static str,
    /// The rpc's name.
    pub rpc: &'static str,
    /// In one line.
    pub about: &'static str,
}

const fn route(
    path: &'static str,
    service: &'static str,
    rpc: &'static str,
    about: &'static str,
) -> Route {
    Route { path, service, rpc, about }
}

/// Every page of JSON. Each is a reading rpc that a viewer may call, and its query has the fields of the request.
pub const ROUTES: &[Route] = &[
    route(
        "agent/status",
        "AgentService",
        "GetStatus",
        "The host at a glance, a line for each domain",
    ),
    route("alerts/status", "AlertsService", "GetAlertsStatus", "Channels, silences, what waits"),
    route(
        "alerts/list",
        "AlertsService",
        "ListAlerts",
        "Alerts that fire; all=true: those that are over, too",
    ),
    route(
        "alerts/deliveries",
        "AlertsService",
        "ListDeliveries",
        "What channels were told, newest first",
    ),
    route(
        "backup/status",
        "BackupService",
        "ListBackups",
        "Sources of backups, and what was proven of them",
    ),
    route(
        "baselines/status",
        "BaselineService",
        "ListBaselines",
        "Operations, what is usual, and how far they are from it",
    ),
    route(
        "baselines/operation",
        "BaselineService",
        "GetBaseline",
        "One operation with its sketch and its latest windows",
    ),
    route(
        "baselines/history",
        "BaselineService",
        "ListBaselineHistory",
        "The baselines that an operation had",
    ),
    route(
        "baselines/anomalies",
        "BaselineService",
        "ListAnomalies",
        "Episodes in which an operation was not as usual",
    ),
    route("baselines/calls", "BaselineService", "ListCalls", "Single calls, the slowest first"),
    route("breaker/status", "BreakerService", "ListBreakers", "Circuit breakers"),
    route(
        "certificates/status",
        "CertificateService",
        "ListCertificates",
        "Certificates, what is served, and how long they last",
    ),
    route(
        "certificates/history",
        "CertificateService",
        "ListCertificateHistory",
        "What was done about certificates",
    ),
    route(
        "certificates/budget",
        "CertificateService",
        "GetCertificateBudget",
        "What is left of the CAs' limits",
    ),
    route("database/status", "DatabaseService", "ListDatabases", "Databases and their care"),
    route("database/history", "DatabaseService", "ListCare", "Cares of databases, newest first"),
    route(
        "dependencies/status",
        "DependencyService",
        "GetDependencies",
        "Projects, their vulnerabilities, the age of the data",
    ),
    route(
        "dependencies/updates",
        "DependencyService",
        "ListDependencyUpdates",
        "Updates and how they ended",
    ),
    route(
        "dependencies/clocks",
        "DependencyService",
        "ListVulnerabilityClocks",
        "By when what is vulnerable must be mended",
    ),
    route("experiments/status", "ExperimentService", "ListExperiments", "Strategy A/B tests"),
    route(
        "experiments/experiment",
        "ExperimentService",
        "GetExperiment",
        "One experiment with the curve of its looks",
    ),
    route(
        "experiments/parameters",
        "ParameterService",
        "ListParameters",
        "Parameters of strategies and their values",
    ),
    route("fleet/status", "FleetService", "GetFleetStatus", "How this host stands to its fleet"),
    route("fleet/members", "FleetService", "ListFleetMembers", "The hosts of the fleet"),
    route(
        "health/status",
        "HealthService",
        "GetHealthStatus",
        "Checks, open issues, what holds remediation back",
    ),
    route(
        "health/history",
        "HealthService",
        "ListHealthHistory",
        "Issues and attempts to mend them, newest first",
    ),
    route(
        "health/issue",
        "HealthService",
        "ExplainIssue",
        "Why an issue is as it is, and what comes next",
    ),
    route(
        "health/remediation",
        "HealthService",
        "GetRemediation",
        "What may be done by itself, and what is left of the budgets",
    ),
    route(
        "logs/status",
        "LogsService",
        "GetStatus",
        "Sources of logs, segments by state, the archive",
    ),
    route("logs/segments", "LogsService", "ListSegments", "Segments of logs, newest first"),
    route("logs/holds", "LogsService", "ListHolds", "What must not be deleted"),
    route("matrices/status", "MatrixService", "ListMatrices", "Versions of the correlation matrix"),
    route(
        "matrices/matrix",
        "MatrixService",
        "GetMatrix",
        "A correlation matrix; version=0: the active one",
    ),
    route(
        "matrices/rollout",
        "MatrixService",
        "GetRollout",
        "How the new matrix fares with those who have it",
    ),
    route(
        "matrices/series",
        "SeriesService",
        "ListSeries",
        "Series of prices, and how complete they are",
    ),
    route("oplog/status", "OplogService", "GetHead", "The newest entry's number and hash"),
    route("oplog/entries", "OplogService", "ListEntries", "Who did what, and why, newest first"),
    route(
        "recovery/status",
        "RecoveryService",
        "GetEmergency",
        "The emergency and how far it has come",
    ),
    route(
        "recovery/components",
        "RecoveryService",
        "ListComponents",
        "What can be rolled back, and to where",
    ),
    route(
        "recovery/drills",
        "RecoveryService",
        "ListDrills",
        "Drills, when they passed and when they are due",
    ),
    route("recovery/incidents", "RecoveryService", "ListIncidents", "Incidents, newest first"),
    route(
        "recovery/report",
        "RecoveryService",
        "GetOperationsReport",
        "The four objectives over a month",
    ),
    route("runs/status", "RunService", "ListRuns", "Runs that go on and that ended, newest first"),
    route(
        "schedule/status",
        "ScheduleService",
        "ListJobs",
        "What happens by itself, when it did and when it will",
    ),
];

/// The route of `path`, such as "health/status".
pub fn find(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == path)
}

impl Route {
    /// The full path of its rpc.
    pub fn method(&self) -> String {
        format!("/genesis.v1.{}/{}", self.service, self.rpc)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use genesis_proto::v1::Role;

    use super::*;

    /// HTTP can do nothing but look, whoever asks.
    #[test]
    fn each_is_an_rpc_that_reads_and_that_a_viewer_may_call() {
        let policies = genesis_proto::method_policies();
        for route in ROUTES {
            let policy = policies.get(&route.method()).expect(route.path);
            assert_eq!(policy.role, Some(Role::Viewer), "{}", route.path);
            assert!(
                !policy.mutating && !policy.streaming && !policy.takes_stream,
                "{}",
                route.path
            );
        }
    }

    #[test]
    fn each_domain_has_a_status_and_no_path_is_there_twice() {
        let all: BTreeSet<_> = ROUTES.iter().map(|it| it.path).collect();
        assert_eq!(all.len(), ROUTES.len());
        let domains: BTreeSet<_> =
            all.iter().filter_map(|it| it.split_once('/')).map(|it| it.0).collect();
        for domain in domains {
            assert!(find(&format!("{domain}/status")).is_some(), "{domain}");
        }
    }
}
