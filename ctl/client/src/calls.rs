//! What each rpc of the contract is, as a static table: reading the same from the descriptors would cost
//! every short-lived client their decoding. A test compares the two.

/// What a caller needs to know about one rpc before sending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The service's full name, such as `genesis.v1.LogsService`.
    pub service: &'static str,
    /// The method's name, such as `RotateLogs`.
    pub method: &'static str,
    /// Whether a successful call changes anything.
    pub mutating: bool,
    /// Whether what it changes can't be had back.
    pub destructive: bool,
    /// Whether it answers with a stream.
    pub streaming: bool,
    /// Whether an overloaded agent still serves it, from the lane kept free for emergencies.
    pub urgent: bool,
}

const fn reads(service: &'static str, method: &'static str) -> Call {
    Call { service, method, mutating: false, destructive: false, streaming: false, urgent: false }
}

const fn streams(service: &'static str, method: &'static str) -> Call {
    Call { streaming: true, ..reads(service, method) }
}

const fn changes(service: &'static str, method: &'static str) -> Call {
    Call { mutating: true, ..reads(service, method) }
}

const fn destroys(service: &'static str, method: &'static str) -> Call {
    Call { destructive: true, ..changes(service, method) }
}

const fn urgent(call: Call) -> Call {
    Call { urgent: true, ..call }
}

const AGENT: &str = "genesis.v1.AgentService";
const ALERTS: &str = "genesis.v1.AlertsService";
const BACKUP: &str = "genesis.v1.BackupService";
const BASELINES: &str = "genesis.v1.BaselineService";
const BREAKER: &str = "genesis.v1.BreakerService";
const CERTIFICATES: &str = "genesis.v1.CertificateService";
const DATABASE: &str = "genesis.v1.DatabaseService";
const DEPENDENCIES: &str = "genesis.v1.DependencyService";
const EXPERIMENTS: &str = "genesis.v1.ExperimentService";
const FLEET: &str = "genesis.v1.FleetService";
const HEALTH: &str = "genesis.v1.HealthService";
const LOGS: &str = "genesis.v1.LogsService";
const MATRICES: &str = "genesis.v1.MatrixService";
const OPLOG: &str = "genesis.v1.OplogService";
const PARAMETERS: &str = "genesis.v1.ParameterService";
const RECOVERY: &str = "genesis.v1.RecoveryService";
const RUNS: &str = "genesis.v1.RunService";
const SCHEDULE: &str = "genesis.v1.ScheduleService";
const SERIES: &str = "genesis.v1.SeriesService";

pub(crate) const CALLS: &[Call] = &[
    reads(AGENT, "GetStatus"),
    reads(AGENT, "GetVersion"),
    reads(AGENT, "WhoAmI"),
    reads(AGENT, "GetConfig"),
    reads(AGENT, "CheckConfig"),
    changes(AGENT, "ReloadConfig"),
    reads(AGENT, "PlanReloadConfig"),
    reads(AGENT, "GetPki"),
    reads(AGENT, "ReadOwnLog"),
    urgent(reads(ALERTS, "GetAlertsStatus")),
    urgent(reads(ALERTS, "ListAlerts")),
    urgent(reads(ALERTS, "GetAlert")),
    reads(ALERTS, "ListDeliveries"),
    urgent(changes(ALERTS, "AckAlert")),
    urgent(reads(ALERTS, "PlanAckAlert")),
    changes(ALERTS, "SilenceAlerts"),
    reads(ALERTS, "PlanSilenceAlerts"),
    changes(ALERTS, "EndSilence"),
    reads(ALERTS, "PlanEndSilence"),
    changes(ALERTS, "TestChannel"),
    reads(ALERTS, "PlanTestChannel"),
    reads(BACKUP, "ListBackups"),
    changes(BACKUP, "RunBackup"),
    reads(BACKUP, "PlanRunBackup"),
    changes(BACKUP, "VerifyBackup"),
    reads(BACKUP, "PlanVerifyBackup"),
    changes(BACKUP, "RestoreBackup"),
    reads(BACKUP, "PlanRestoreBackup"),
    streams(BASELINES, "Observe"),
    reads(BASELINES, "ListBaselines"),
    reads(BASELINES, "GetBaseline"),
    changes(BASELINES, "RecalculateBaselines"),
    reads(BASELINES, "PlanRecalculateBaselines"),
    changes(BASELINES, "AcceptBaseline"),
    reads(BASELINES, "PlanAcceptBaseline"),
    reads(BASELINES, "ListBaselineHistory"),
    reads(BASELINES, "ListAnomalies"),
    reads(BASELINES, "ListCalls"),
    streams(BASELINES, "ExportBaselines"),
    reads(BREAKER, "ReportOutcomes"),
    reads(BREAKER, "TakeProbes"),
    reads(BREAKER, "GetBreaker"),
    reads(BREAKER, "ListBreakers"),
    streams(BREAKER, "WatchBreakers"),
    urgent(changes(BREAKER, "TripBreaker")),
    urgent(reads(BREAKER, "PlanTripBreaker")),
    urgent(changes(BREAKER, "ResetBreaker")),
    urgent(reads(BREAKER, "PlanResetBreaker")),
    reads(CERTIFICATES, "ListCertificates"),
    changes(CERTIFICATES, "RenewCertificate"),
    reads(CERTIFICATES, "PlanRenewCertificate"),
    reads(CERTIFICATES, "VerifyCertificates"),
    changes(CERTIFICATES, "RollbackCertificate"),
    reads(CERTIFICATES, "PlanRollbackCertificate"),
    reads(CERTIFICATES, "ListCertificateHistory"),
    reads(CERTIFICATES, "GetCertificateBudget"),
    changes(CERTIFICATES, "InstallBackupCertificate"),
    reads(CERTIFICATES, "PlanInstallBackupCertificate"),
    changes(CERTIFICATES, "ImportCertificate"),
    reads(CERTIFICATES, "PlanImportCertificate"),
    changes(CERTIFICATES, "PinCertificate"),
    reads(CERTIFICATES, "PlanPinCertificate"),
    changes(CERTIFICATES, "UnpinCertificate"),
    reads(CERTIFICATES, "PlanUnpinCertificate"),
    destroys(CERTIFICATES, "MarkCertificateCompromised"),
    reads(CERTIFICATES, "PlanMarkCertificateCompromised"),
    reads(DATABASE, "ListDatabases"),
    reads(DATABASE, "CheckPreflight"),
    changes(DATABASE, "OptimizeDatabase"),
    reads(DATABASE, "PlanOptimizeDatabase"),
    changes(DATABASE, "OptimizeDatabaseDespite"),
    reads(DATABASE, "PlanOptimizeDatabaseDespite"),
    reads(DATABASE, "GetDatabaseHealth"),
    reads(DATABASE, "AnalyzeIndexes"),
    reads(DATABASE, "ListBlockers"),
    destroys(DATABASE, "KillSession"),
    reads(DATABASE, "PlanKillSession"),
    reads(DATABASE, "VerifyDatabase"),
    reads(DATABASE, "ListCare"),
    reads(DEPENDENCIES, "ScanDependencies"),
    reads(DEPENDENCIES, "GetDependencies"),
    reads(DEPENDENCIES, "UploadAdvisories"),
    changes(DEPENDENCIES, "ImportAdvisories"),
    reads(DEPENDENCIES, "PlanImportAdvisories"),
    reads(DEPENDENCIES, "CheckDependencies"),
    destroys(DEPENDENCIES, "UpdateDependencies"),
    reads(DEPENDENCIES, "PlanUpdateDependencies"),
    destroys(DEPENDENCIES, "RollBackDependencies"),
    reads(DEPENDENCIES, "PlanRollBackDependencies"),
    reads(DEPENDENCIES, "ListDependencyUpdates"),
    changes(DEPENDENCIES, "IgnoreFinding"),
    reads(DEPENDENCIES, "PlanIgnoreFinding"),
    changes(DEPENDENCIES, "UnignoreFinding"),
    reads(DEPENDENCIES, "PlanUnignoreFinding"),
    reads(DEPENDENCIES, "ListVulnerabilityClocks"),
    changes(DEPENDENCIES, "ClosePostmortem"),
    reads(DEPENDENCIES, "PlanClosePostmortem"),
    reads(EXPERIMENTS, "ListExperiments"),
    reads(EXPERIMENTS, "GetExperiment"),
    changes(EXPERIMENTS, "CreateExperiment"),
    reads(EXPERIMENTS, "PlanCreateExperiment"),
    changes(EXPERIMENTS, "ConcludeExperiment"),
    reads(EXPERIMENTS, "PlanConcludeExperiment"),
    reads(EXPERIMENTS, "Assign"),
    streams(EXPERIMENTS, "RecordTrades"),
    streams(EXPERIMENTS, "WatchExperiments"),
    reads(FLEET, "GetFleetStatus"),
    reads(FLEET, "ListFleetMembers"),
    reads(FLEET, "ListFleetLocks"),
    changes(FLEET, "ForgetFleetMember"),
    reads(FLEET, "PlanForgetFleetMember"),
    urgent(reads(HEALTH, "GetHealthStatus")),
    urgent(reads(HEALTH, "CheckHealth")),
    reads(HEALTH, "Diagnose"),
    urgent(reads(HEALTH, "ExplainIssue")),
    reads(HEALTH, "ListHealthHistory"),
    reads(HEALTH, "GetRemediation"),
    urgent(changes(HEALTH, "DisableRemediation")),
    urgent(reads(HEALTH, "PlanDisableRemediation")),
    changes(HEALTH, "EnableRemediation"),
    reads(HEALTH, "PlanEnableRemediation"),
    changes(HEALTH, "ReleaseBrake"),
    reads(HEALTH, "PlanReleaseBrake"),
    changes(HEALTH, "FlagIssue"),
    reads(HEALTH, "PlanFlagIssue"),
    changes(HEALTH, "AckIssue"),
    reads(HEALTH, "PlanAckIssue"),
    changes(HEALTH, "ResumeIssue"),
    reads(HEALTH, "PlanResumeIssue"),
    destroys(HEALTH, "RunAction"),
    reads(HEALTH, "PlanRunAction"),
    destroys(HEALTH, "RunActionDespiteTrades"),
    reads(HEALTH, "PlanRunActionDespiteTrades"),
    reads(LOGS, "GetStatus"),
    reads(LOGS, "ListSegments"),
    changes(LOGS, "RebuildCatalog"),
    reads(LOGS, "PlanRebuildCatalog"),
    changes(LOGS, "RotateLogs"),
    streams(LOGS, "RetrieveLogs"),
    destroys(LOGS, "CleanupArchives"),
    reads(LOGS, "PlanRotateLogs"),
    reads(LOGS, "PlanCleanupArchives"),
    destroys(LOGS, "CleanupArchivesEarly"),
    reads(LOGS, "PlanCleanupArchivesEarly"),
    changes(LOGS, "HoldLogs"),
    reads(LOGS, "PlanHoldLogs"),
    changes(LOGS, "ReleaseLogs"),
    reads(LOGS, "PlanReleaseLogs"),
    reads(LOGS, "ListHolds"),
    streams(LOGS, "VerifyArchives"),
    changes(MATRICES, "UpdateMatrix"),
    reads(MATRICES, "PlanUpdateMatrix"),
    reads(MATRICES, "GetMatrix"),
    streams(MATRICES, "WatchMatrix"),
    reads(MATRICES, "GetFleetMatrix"),
    reads(MATRICES, "ListMatrices"),
    changes(MATRICES, "RollbackMatrix"),
    reads(MATRICES, "PlanRollbackMatrix"),
    reads(MATRICES, "GetRollout"),
    changes(MATRICES, "AdvanceRollout"),
    reads(MATRICES, "PlanAdvanceRollout"),
    changes(MATRICES, "AbortRollout"),
    reads(MATRICES, "PlanAbortRollout"),
    streams(MATRICES, "ReportMatrixOutcomes"),
    reads(OPLOG, "GetHead"),
    reads(OPLOG, "ListEntries"),
    streams(OPLOG, "TailEntries"),
    reads(OPLOG, "VerifyOplog"),
    streams(OPLOG, "ExportOplog"),
    destroys(OPLOG, "AcceptHead"),
    reads(OPLOG, "PlanAcceptHead"),
    changes(OPLOG, "AddNote"),
    reads(OPLOG, "PlanAddNote"),
    reads(PARAMETERS, "ListParameters"),
    reads(PARAMETERS, "GetParameters"),
    streams(PARAMETERS, "WatchParameters"),
    changes(PARAMETERS, "SetParameter"),
    reads(PARAMETERS, "PlanSetParameter"),
    reads(PARAMETERS, "ListParameterHistory"),
    changes(PARAMETERS, "RollbackParameter"),
    reads(PARAMETERS, "PlanRollbackParameter"),
    reads(RECOVERY, "ListComponents"),
    reads(RECOVERY, "PlanRollback"),
    changes(RECOVERY, "Rollback"),
    urgent(reads(RECOVERY, "GetEmergency")),
    urgent(changes(RECOVERY, "ActivateEmergency")),
    urgent(reads(RECOVERY, "PlanActivateEmergency")),
    urgent(changes(RECOVERY, "ReleaseEmergency")),
    urgent(reads(RECOVERY, "PlanReleaseEmergency")),
    urgent(destroys(RECOVERY, "CloseAllPositions")),
    urgent(reads(RECOVERY, "PlanCloseAllPositions")),
    urgent(changes(RECOVERY, "ApproveRelease")),
    urgent(reads(RECOVERY, "PlanApproveRelease")),
    urgent(reads(RECOVERY, "RenewTradingLease")),
    reads(RECOVERY, "ListIncidents"),
    reads(RECOVERY, "GetIncident"),
    changes(RECOVERY, "OpenIncident"),
    reads(RECOVERY, "PlanOpenIncident"),
    changes(RECOVERY, "NoteIncident"),
    reads(RECOVERY, "PlanNoteIncident"),
    changes(RECOVERY, "CloseIncident"),
    reads(RECOVERY, "PlanCloseIncident"),
    reads(RECOVERY, "GetOperationsReport"),
    reads(RECOVERY, "GetRemediationReport"),
    changes(RECOVERY, "RunDrill"),
    reads(RECOVERY, "PlanRunDrill"),
    reads(RECOVERY, "ListDrills"),
    reads(RECOVERY, "GetDrillReport"),
    reads(RUNS, "ListRuns"),
    reads(RUNS, "GetRun"),
    streams(RUNS, "WatchRun"),
    changes(RUNS, "CancelRun"),
    reads(RUNS, "PlanCancelRun"),
    reads(SCHEDULE, "ListJobs"),
    changes(SCHEDULE, "RunJob"),
    changes(SCHEDULE, "PauseJob"),
    changes(SCHEDULE, "ResumeJob"),
    reads(SCHEDULE, "PlanRunJob"),
    reads(SCHEDULE, "PlanPauseJob"),
    reads(SCHEDULE, "PlanResumeJob"),
    streams(SERIES, "PushSeries"),
    reads(SERIES, "ListSeries"),
    reads(SERIES, "ListSeriesGaps"),
    streams(SERIES, "ListSeriesBlocks"),
];

/// The rpc `method` of `service` (both as in the `.proto` file), if this contract has it.
pub fn find_call(service: &str, method: &str) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.method == method && call.service == service)
}
