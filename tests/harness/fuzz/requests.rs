//! Every request that an rpc takes, and what is to hold of its bytes.

use genesis_agent::error::Kind;
use genesis_agent::server::conversions::convert;
use genesis_proto::{JsonError, from_json, to_json, v1};
use prost::Message;

/// Looks at what may be a request, whose full name it gets.
type Look = fn(&str, &[u8]);

/// A list of requests by their names in `genesis.v1`.
macro_rules! requests {
    ($($request:ident,)*) => {
        /// Each request that an rpc takes, by its name in `genesis.v1`, with what is to hold of its bytes.
        pub const REQUESTS: &[(&str, Look)] =
            &[$((stringify!($request), look::<v1::$request>),)*];
    };
}

requests! {
    AbortRolloutRequest,
    AcceptBaselineRequest,
    AcceptHeadRequest,
    AckAlertRequest,
    AckIssueRequest,
    ActivateEmergencyRequest,
    AddNoteRequest,
    AdvanceRolloutRequest,
    AnalyzeIndexesRequest,
    ApproveReleaseRequest,
    AssignRequest,
    CancelRunRequest,
    CheckConfigRequest,
    CheckDependenciesRequest,
    CheckHealthRequest,
    CheckPreflightRequest,
    CleanupArchivesRequest,
    CloseAllPositionsRequest,
    CloseIncidentRequest,
    ClosePostmortemRequest,
    ConcludeExperimentRequest,
    CreateExperimentRequest,
    DiagnoseRequest,
    DisableRemediationRequest,
    EnableRemediationRequest,
    EndSilenceRequest,
    ExplainIssueRequest,
    ExportBaselinesRequest,
    ExportOplogRequest,
    FlagIssueRequest,
    ForgetFleetMemberRequest,
    GetAlertRequest,
    GetAlertsStatusRequest,
    GetBaselineRequest,
    GetBreakerRequest,
    GetCertificateBudgetRequest,
    GetConfigRequest,
    GetDatabaseHealthRequest,
    GetDependenciesRequest,
    GetDrillReportRequest,
    GetEmergencyRequest,
    GetExperimentRequest,
    GetFleetMatrixRequest,
    GetFleetStatusRequest,
    GetHeadRequest,
    GetHealthStatusRequest,
    GetIncidentRequest,
    GetLogsStatusRequest,
    GetMatrixRequest,
    GetOperationsReportRequest,
    GetParametersRequest,
    GetPkiRequest,
    GetRemediationReportRequest,
    GetRemediationRequest,
    GetRolloutRequest,
    GetRunRequest,
    GetStatusRequest,
    GetVersionRequest,
    HoldLogsRequest,
    IgnoreFindingRequest,
    ImportAdvisoriesRequest,
    ImportCertificateRequest,
    InstallBackupCertificateRequest,
    KillSessionRequest,
    ListAlertsRequest,
    ListAnomaliesRequest,
    ListBackupsRequest,
    ListBaselineHistoryRequest,
    ListBaselinesRequest,
    ListBlockersRequest,
    ListBreakersRequest,
    ListCallsRequest,
    ListCareRequest,
    ListCertificateHistoryRequest,
    ListCertificatesRequest,
    ListComponentsRequest,
    ListDatabasesRequest,
    ListDeliveriesRequest,
    ListDependencyUpdatesRequest,
    ListDrillsRequest,
    ListEntriesRequest,
    ListExperimentsRequest,
    ListFleetLocksRequest,
    ListFleetMembersRequest,
    ListHealthHistoryRequest,
    ListHoldsRequest,
    ListIncidentsRequest,
    ListJobsRequest,
    ListMatricesRequest,
    ListParameterHistoryRequest,
    ListParametersRequest,
    ListRunsRequest,
    ListSegmentsRequest,
    ListSeriesBlocksRequest,
    ListSeriesGapsRequest,
    ListSeriesRequest,
    ListVulnerabilityClocksRequest,
    MarkCertificateCompromisedRequest,
    NoteIncidentRequest,
    ObserveRequest,
    OpenIncidentRequest,
    OptimizeDatabaseDespiteRequest,
    OptimizeDatabaseRequest,
    PauseJobRequest,
    PinCertificateRequest,
    PushSeriesRequest,
    ReadOwnLogRequest,
    RebuildCatalogRequest,
    RecalculateBaselinesRequest,
    RecordTradesRequest,
    ReleaseBrakeRequest,
    ReleaseEmergencyRequest,
    ReleaseLogsRequest,
    ReloadConfigRequest,
    RenewCertificateRequest,
    RenewTradingLeaseRequest,
    ReportMatrixOutcomesRequest,
    ReportOutcomesRequest,
    ResetBreakerRequest,
    RestoreBackupRequest,
    ResumeIssueRequest,
    ResumeJobRequest,
    RetrieveLogsRequest,
    RollBackDependenciesRequest,
    RollbackCertificateRequest,
    RollbackMatrixRequest,
    RollbackParameterRequest,
    RollbackRequest,
    RotateLogsRequest,
    RunActionRequest,
    RunBackupRequest,
    RunDrillRequest,
    RunJobRequest,
    ScanDependenciesRequest,
    SetParameterRequest,
    SilenceAlertsRequest,
    TailEntriesRequest,
    TakeProbesRequest,
    TestChannelRequest,
    TripBreakerRequest,
    UnignoreFindingRequest,
    UnpinCertificateRequest,
    UpdateDependenciesRequest,
    UpdateMatrixRequest,
    UploadAdvisoriesRequest,
    VerifyArchivesRequest,
    VerifyBackupRequest,
    VerifyCertificatesRequest,
    VerifyDatabaseRequest,
    VerifyOplogRequest,
    WatchBreakersRequest,
    WatchExperimentsRequest,
    WatchMatrixRequest,
    WatchRunRequest,
    WhoAmIRequest,
}

/// What is a request is written as it was read, in protobuf and in JSON; and nothing that its service makes of its fields
/// is a fault of the agent's own.
fn look<M: Message + Default>(name: &str, bytes: &[u8]) {
    let converted = convert(name, bytes);
    let Ok(request) = M::decode(bytes) else {
        // What is handed on as it is, nothing is made of.
        assert!(!matches!(converted, Ok(Some(_))), "{name} was read of what is none");
        return;
    };
    if let Some(Err(error)) = converted.expect("it is a request") {
        assert_ne!(error.kind, Kind::Internal, "{}", error.chain());
    }
    let written = request.encode_to_vec();
    let again = M::decode(written.as_slice()).expect("it reads as it is written");
    assert_eq!(again.encode_to_vec(), written, "{name}");
    in_json(&format!("genesis.v1.{name}"), &request);
}

fn in_json<M: Message + Default>(full: &str, request: &M) {
    let json = match to_json(full, request) {
        Ok(json) => json,
        // Such as a time beyond the year 9999, which has no JSON.
        Err(JsonError::Encode(_)) => return,
        Err(error) => panic!("{full}: {error}"),
    };
    let text = json.to_string();
    match from_json::<M>(full, text.as_bytes()) {
        Ok(again) => {
            let again = to_json(full, &again).expect("what was read can be written");
            assert_eq!(again, json, "{full}");
        }
        // The library writes a moment that its nanoseconds carry out of the years 1 to 9999, and does not read it.
        Err(_) if ["\"+10000-", "\"0000-"].iter().any(|year| text.contains(year)) => {}
        Err(error) => panic!("{full}: {error}: {text}"),
    }
}
