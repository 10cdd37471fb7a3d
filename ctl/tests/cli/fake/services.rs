//! The rpcs of the fake agent.

use genesis_client::v1::agent_service_server::AgentService;
use genesis_client::v1::logs_service_server::LogsService;
use genesis_client::v1::oplog_service_server::OplogService;
use genesis_client::v1::recovery_service_server::RecoveryService;
use genesis_client::v1::run_service_server::RunService;
use genesis_client::v1::schedule_service_server::ScheduleService;
use genesis_client::v1::*;
use tonic::{Request, Response, Status};

use super::{Answer, Inner, Stream, changed, refusal, started, streamed};

#[tonic::async_trait]
impl AgentService for Inner {
    async fn get_status(&self, request: Request<GetStatusRequest>) -> Answer<GetStatusResponse> {
        self.called("GetStatus", "", &request).await?;
        let touched = self.calls.lock().unwrap().iter().any(|call| !call.starts_with("GetStatus"));
        let status = self.script.after.as_ref().filter(|_| touched).unwrap_or(&self.script.status);
        Ok(Response::new(status.clone()))
    }

    async fn get_version(&self, request: Request<GetVersionRequest>) -> Answer<GetVersionResponse> {
        self.called("GetVersion", "", &request).await?;
        let version = self.script.status.version.clone();
        Ok(Response::new(GetVersionResponse { version, schema_version: 1, rustc: "1.95.0".into() }))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Answer<WhoAmIResponse> {
        self.called("WhoAmI", "", &request).await?;
        match &self.script.identity {
            Some(identity) => Ok(Response::new(identity.clone())),
            None => Err(Status::permission_denied("nobody knows you")),
        }
    }

    async fn get_config(&self, request: Request<GetConfigRequest>) -> Answer<GetConfigResponse> {
        self.called("GetConfig", "", &request).await?;
        let effective_toml = match self.script.config.as_str() {
            "" => "[logs]\nx = \"\u{1b}[31m\"\n".into(),
            config => config.to_owned(),
        };
        Ok(Response::new(GetConfigResponse { effective_toml, ..Default::default() }))
    }

    async fn check_config(
        &self,
        request: Request<CheckConfigRequest>,
    ) -> Answer<CheckConfigResponse> {
        let text = format!("{:?}", request.get_ref().toml);
        self.called("CheckConfig", &text, &request).await?;
        Ok(Response::new(self.script.check.clone()))
    }

    async fn reload_config(
        &self,
        request: Request<ReloadConfigRequest>,
    ) -> Answer<ReloadConfigResponse> {
        let hash = request.get_ref().plan_hash.clone();
        self.called("ReloadConfig", &hash, &request).await?;
        changed(&hash)?;
        Ok(Response::new(ReloadConfigResponse { generation: 3, ..Default::default() }))
    }

    async fn plan_reload_config(
        &self,
        request: Request<ReloadConfigRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanReloadConfig", &request).await
    }

    async fn get_pki(&self, request: Request<GetPkiRequest>) -> Answer<GetPkiResponse> {
        self.called("GetPki", "", &request).await?;
        Ok(Response::new(self.script.pki.clone()))
    }

    async fn read_own_log(
        &self,
        request: Request<ReadOwnLogRequest>,
    ) -> Answer<ReadOwnLogResponse> {
        let limit = request.get_ref().limit_bytes.to_string();
        self.called("ReadOwnLog", &limit, &request).await?;
        match self.script.own_log.is_empty() {
            true => Err(Status::unavailable("no log")),
            false => Ok(Response::new(ReadOwnLogResponse { lines: self.script.own_log.clone() })),
        }
    }
}

#[tonic::async_trait]
impl RunService for Inner {
    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Answer<ListRunsResponse> {
        self.called("ListRuns", "", &request).await?;
        Ok(Response::new(ListRunsResponse { runs: self.script.runs.clone() }))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Answer<GetRunResponse> {
        let id = request.get_ref().id.clone();
        self.called("GetRun", &id, &request).await?;
        if id != "last" {
            return Err(Status::not_found(format!("no run {id}")));
        }
        let run = Run { id: "01J0000000000000000000000A".into(), ..Default::default() };
        Ok(Response::new(GetRunResponse { run: Some(run) }))
    }

    type WatchRunStream = Stream<WatchRunResponse>;

    async fn watch_run(&self, request: Request<WatchRunRequest>) -> Answer<Self::WatchRunStream> {
        let id = request.get_ref().id.clone();
        self.called("WatchRun", &id, &request).await?;
        let mut watched = self.watched.lock().unwrap();
        let script = &self.script.watches[(*watched).min(self.script.watches.len() - 1)];
        *watched += 1;
        let items = script.iter().cloned();
        streamed(items.map(|run| run.map(|run| WatchRunResponse { run: Some(run) })).collect())
    }

    async fn cancel_run(&self, request: Request<CancelRunRequest>) -> Answer<CancelRunResponse> {
        let hash = request.get_ref().plan_hash.clone();
        self.called("CancelRun", &hash, &request).await?;
        changed(&hash)?;
        Ok(Response::new(CancelRunResponse::default()))
    }

    async fn plan_cancel_run(&self, request: Request<CancelRunRequest>) -> Answer<PlanResponse> {
        self.planned("PlanCancelRun", &request).await
    }
}

#[tonic::async_trait]
impl LogsService for Inner {
    async fn get_status(
        &self,
        request: Request<GetLogsStatusRequest>,
    ) -> Answer<GetLogsStatusResponse> {
        self.called("GetLogsStatus", "", &request).await?;
        Ok(Response::new(self.script.logs.clone()))
    }

    async fn list_segments(
        &self,
        request: Request<ListSegmentsRequest>,
    ) -> Answer<ListSegmentsResponse> {
        self.called("ListSegments", "", &request).await?;
        let segments = self.script.segments.clone();
        Ok(Response::new(ListSegmentsResponse { segments, truncated: true }))
    }

    async fn rotate_logs(&self, request: Request<RotateLogsRequest>) -> Answer<RotateLogsResponse> {
        let log_type = request.get_ref().log_type.clone();
        let hash = request.get_ref().plan_hash.clone();
        self.called("RotateLogs", format!("{} {hash}", &log_type).trim_end(), &request).await?;
        changed(&hash)?;
        Ok(Response::new(RotateLogsResponse { run: started() }))
    }

    async fn rebuild_catalog(
        &self,
        request: Request<RebuildCatalogRequest>,
    ) -> Answer<RebuildCatalogResponse> {
        let log_type = request.get_ref().log_type.clone();
        let hash = request.get_ref().plan_hash.clone();
        self.called("RebuildCatalog", format!("{} {hash}", &log_type).trim_end(), &request).await?;
        changed(&hash)?;
        Ok(Response::new(RebuildCatalogResponse { run: started() }))
    }

    async fn plan_rebuild_catalog(
        &self,
        request: Request<RebuildCatalogRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanRebuildCatalog", &request).await
    }

    async fn plan_rotate_logs(&self, request: Request<RotateLogsRequest>) -> Answer<PlanResponse> {
        self.planned("PlanRotateLogs", &request).await
    }

    type RetrieveLogsStream = Stream<RetrieveLogsResponse>;

    async fn retrieve_logs(
        &self,
        request: Request<RetrieveLogsRequest>,
    ) -> Answer<Self::RetrieveLogsStream> {
        self.called("RetrieveLogs", "", &request).await?;
        if request.get_ref().log_type == "absent" {
            return Err(refusal(tonic::Code::NotFound, "LOG_TYPE_UNKNOWN", "no log type absent"));
        }
        let items = self.script.retrieve.iter().cloned();
        streamed(
            items.map(|part| part.map(|part| RetrieveLogsResponse { part: Some(part) })).collect(),
        )
    }

    async fn cleanup_archives(
        &self,
        request: Request<CleanupArchivesRequest>,
    ) -> Answer<CleanupArchivesResponse> {
        let hash = request.get_ref().plan_hash.clone();
        self.called("CleanupArchives", &hash, &request).await?;
        changed(&hash)?;
        Ok(Response::new(CleanupArchivesResponse { run: started() }))
    }

    async fn plan_cleanup_archives(
        &self,
        request: Request<CleanupArchivesRequest>,
    ) -> Answer<PlanCleanupArchivesResponse> {
        let age = request.get_ref().older_than.clone();
        self.called("PlanCleanupArchives", &age, &request).await?;
        Ok(Response::new(self.script.plan.clone()))
    }

    async fn cleanup_archives_early(
        &self,
        request: Request<CleanupArchivesRequest>,
    ) -> Answer<CleanupArchivesResponse> {
        let hash = request.get_ref().plan_hash.clone();
        self.called("CleanupArchivesEarly", &hash, &request).await?;
        changed(&hash)?;
        Ok(Response::new(CleanupArchivesResponse { run: started() }))
    }

    async fn plan_cleanup_archives_early(
        &self,
        request: Request<CleanupArchivesRequest>,
    ) -> Answer<PlanCleanupArchivesResponse> {
        self.called("PlanCleanupArchivesEarly", "", &request).await?;
        Ok(Response::new(self.script.plan.clone()))
    }

    async fn hold_logs(&self, request: Request<HoldLogsRequest>) -> Answer<HoldLogsResponse> {
        let HoldLogsRequest { log_type, date_range, plan_hash } = request.get_ref().clone();
        let noted = [log_type, date_range, plan_hash.clone()].join(" ").replace("  ", " ");
        self.called("HoldLogs", noted.trim(), &request).await?;
        changed(&plan_hash)?;
        let hold = self.script.holds.first().cloned();
        Ok(Response::new(HoldLogsResponse { hold, was_held: false }))
    }

    async fn plan_hold_logs(&self, request: Request<HoldLogsRequest>) -> Answer<PlanResponse> {
        self.planned("PlanHoldLogs", &request).await
    }

    async fn release_logs(
        &self,
        request: Request<ReleaseLogsRequest>,
    ) -> Answer<ReleaseLogsResponse> {
        let ReleaseLogsRequest { id, plan_hash } = request.get_ref().clone();
        self.called("ReleaseLogs", format!("{id} {plan_hash}").trim(), &request).await?;
        changed(&plan_hash)?;
        Ok(Response::new(ReleaseLogsResponse { hold: self.script.holds.first().cloned() }))
    }

    async fn plan_release_logs(
        &self,
        request: Request<ReleaseLogsRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanReleaseLogs", &request).await
    }

    async fn list_holds(&self, request: Request<ListHoldsRequest>) -> Answer<ListHoldsResponse> {
        self.called("ListHolds", "", &request).await?;
        Ok(Response::new(ListHoldsResponse { holds: self.script.holds.clone() }))
    }

    type VerifyArchivesStream = Stream<VerifyArchivesResponse>;

    async fn verify_archives(
        &self,
        _: Request<VerifyArchivesRequest>,
    ) -> Answer<Self::VerifyArchivesStream> {
        let parts = self.script.verify.iter().cloned();
        streamed(parts.map(|part| Ok(VerifyArchivesResponse { part: Some(part) })).collect())
    }
}

#[tonic::async_trait]
impl OplogService for Inner {
    async fn get_head(&self, request: Request<GetHeadRequest>) -> Answer<GetHeadResponse> {
        self.called("GetHead", "", &request).await?;
        let last = self.script.export.last();
        let head = last.map(|last| Head { sequence: last.sequence, hash: last.hash.clone() });
        Ok(Response::new(GetHeadResponse { head }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Answer<ListEntriesResponse> {
        self.called("ListEntries", "", &request).await?;
        let (entries, searched_to) = (self.script.entries.clone(), self.script.searched_to);
        Ok(Response::new(ListEntriesResponse { entries, searched_to }))
    }

    type TailEntriesStream = Stream<TailEntriesResponse>;

    async fn tail_entries(
        &self,
        _: Request<TailEntriesRequest>,
    ) -> Answer<Self::TailEntriesStream> {
        let entries = self.script.entries.iter().cloned();
        streamed(entries.map(|entry| Ok(TailEntriesResponse { entry: Some(entry) })).collect())
    }

    async fn verify_oplog(
        &self,
        request: Request<VerifyOplogRequest>,
    ) -> Answer<VerifyOplogResponse> {
        self.called("VerifyOplog", "", &request).await?;
        Ok(Response::new(self.script.verified.clone()))
    }

    async fn accept_head(&self, request: Request<AcceptHeadRequest>) -> Answer<AcceptHeadResponse> {
        self.change("AcceptHead", &[&request.get_ref().plan_hash], &request).await?;
        let head = |sequence| Some(Head { sequence, hash: "ab".repeat(32) });
        Ok(Response::new(AcceptHeadResponse { head: head(7), before: head(12) }))
    }

    async fn plan_accept_head(&self, request: Request<AcceptHeadRequest>) -> Answer<PlanResponse> {
        self.planned("PlanAcceptHead", &request).await
    }

    type ExportOplogStream = Stream<ExportOplogResponse>;

    async fn export_oplog(
        &self,
        _: Request<ExportOplogRequest>,
    ) -> Answer<Self::ExportOplogStream> {
        streamed(self.script.export.iter().cloned().map(Ok).collect())
    }

    async fn add_note(&self, request: Request<AddNoteRequest>) -> Answer<AddNoteResponse> {
        let text = request.get_ref().text.clone();
        let hash = request.get_ref().plan_hash.clone();
        self.called("AddNote", format!("{} {hash}", &text).trim_end(), &request).await?;
        changed(&hash)?;
        let entry = Some(OplogEntry { sequence: 7, ..Default::default() });
        Ok(Response::new(AddNoteResponse { entry }))
    }

    async fn plan_add_note(&self, request: Request<AddNoteRequest>) -> Answer<PlanResponse> {
        self.planned("PlanAddNote", &request).await
    }
}

#[tonic::async_trait]
impl ScheduleService for Inner {
    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Answer<ListJobsResponse> {
        let asked =
            format!("{} {:?}", request.get_ref().next, request.get_ref().at.map(|at| at.seconds));
        self.called("ListJobs", &asked, &request).await?;
        Ok(Response::new(ListJobsResponse { jobs: self.script.jobs.clone() }))
    }

    async fn run_job(&self, request: Request<RunJobRequest>) -> Answer<RunJobResponse> {
        let name = request.get_ref().name.clone();
        let hash = request.get_ref().plan_hash.clone();
        self.called("RunJob", format!("{} {hash}", &name).trim_end(), &request).await?;
        changed(&hash)?;
        let run = started().map(|run| StartedRun { attached: true, ..run });
        Ok(Response::new(RunJobResponse { run }))
    }

    async fn plan_run_job(&self, request: Request<RunJobRequest>) -> Answer<PlanResponse> {
        self.planned("PlanRunJob", &request).await
    }

    async fn pause_job(&self, request: Request<PauseJobRequest>) -> Answer<PauseJobResponse> {
        let name = request.get_ref().name.clone();
        let hash = request.get_ref().plan_hash.clone();
        self.called("PauseJob", format!("{} {hash}", &name).trim_end(), &request).await?;
        changed(&hash)?;
        Ok(Response::new(PauseJobResponse { job: self.script.jobs.first().cloned() }))
    }

    async fn plan_pause_job(&self, request: Request<PauseJobRequest>) -> Answer<PlanResponse> {
        self.planned("PlanPauseJob", &request).await
    }

    async fn resume_job(&self, request: Request<ResumeJobRequest>) -> Answer<ResumeJobResponse> {
        let name = request.get_ref().name.clone();
        let hash = request.get_ref().plan_hash.clone();
        self.called("ResumeJob", format!("{} {hash}", &name).trim_end(), &request).await?;
        changed(&hash)?;
        Ok(Response::new(ResumeJobResponse { job: self.script.jobs.first().cloned() }))
    }

    async fn plan_resume_job(&self, request: Request<ResumeJobRequest>) -> Answer<PlanResponse> {
        self.planned("PlanResumeJob", &request).await
    }
}

#[tonic::async_trait]
impl RecoveryService for Inner {
    async fn list_components(
        &self,
        request: Request<ListComponentsRequest>,
    ) -> Answer<ListComponentsResponse> {
        self.called("ListComponents", "", &request).await?;
        let standing = PointStanding::Good.into();
        let why = "in force for 3 d".into();
        let point =
            RollbackPoint { id: "7".into(), current: true, standing, why, ..Default::default() };
        let component = Component {
            name: "config".into(),
            health: ComponentHealth::Good.into(),
            why: "the file passes every check".into(),
            current: Some(point.clone()),
            changed_by: "olga".into(),
            points_total: 8,
            points: if request.get_ref().component.is_empty() { vec![] } else { vec![point] },
            last_rollback: Some(PastRollback {
                from: "6".into(),
                to: "5".into(),
                by: "olga".into(),
                outcome: "done".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let components = vec![component];
        Ok(Response::new(ListComponentsResponse { components, more: false }))
    }

    async fn plan_rollback(
        &self,
        request: Request<RollbackRequest>,
    ) -> Answer<PlanRollbackResponse> {
        self.called("PlanRollback", "", &request).await?;
        Ok(Response::new(self.script.rollback_plan.clone()))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Answer<RollbackResponse> {
        let RollbackRequest { component, to, plan_hash, into, confirm } = request.get_ref().clone();
        let typed = format!("{component} {to} {plan_hash} {into} {confirm}");
        self.called("Rollback", typed.trim_end(), &request).await?;
        changed(&plan_hash)?;
        let point = |id: &str| Some(RollbackPoint { id: id.into(), ..Default::default() });
        let (from, to) = (point("8"), point("7"));
        Ok(Response::new(RollbackResponse {
            from,
            to,
            verified: "generation 7 is in force".into(),
            ..self.script.rolled_back.clone()
        }))
    }

    async fn get_emergency(
        &self,
        request: Request<GetEmergencyRequest>,
    ) -> Answer<GetEmergencyResponse> {
        self.called("GetEmergency", "", &request).await?;
        Ok(Response::new(self.script.emergency.clone()))
    }

    async fn activate_emergency(
        &self,
        request: Request<ActivateEmergencyRequest>,
    ) -> Answer<ActivateEmergencyResponse> {
        let ActivateEmergencyRequest { plan_hash: hash, fleet } = request.get_ref().clone();
        let asked = if fleet { format!("fleet {hash}") } else { hash.clone() };
        self.called("ActivateEmergency", asked.trim_end(), &request).await?;
        changed(&hash)?;
        let fleet = fleet.then(|| self.script.reach.clone());
        let emergency = self.script.emergency.emergency.clone();
        let was_active = emergency.as_ref().is_some_and(|emergency| emergency.epoch > 1);
        Ok(Response::new(ActivateEmergencyResponse { emergency, was_active, fleet }))
    }

    async fn plan_activate_emergency(
        &self,
        request: Request<ActivateEmergencyRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanActivateEmergency", &request).await
    }

    async fn release_emergency(
        &self,
        request: Request<ReleaseEmergencyRequest>,
    ) -> Answer<ReleaseEmergencyResponse> {
        let ReleaseEmergencyRequest { plan_hash: hash, fleet } = request.get_ref().clone();
        let asked = if fleet { format!("fleet {hash}") } else { hash.clone() };
        self.called("ReleaseEmergency", asked.trim_end(), &request).await?;
        changed(&hash)?;
        let fleet = fleet.then(|| self.script.reach.clone());
        let emergency = self.script.emergency.emergency.clone();
        Ok(Response::new(ReleaseEmergencyResponse { emergency, fleet }))
    }

    async fn plan_release_emergency(
        &self,
        request: Request<ReleaseEmergencyRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanReleaseEmergency", &request).await
    }

    async fn close_all_positions(
        &self,
        request: Request<CloseAllPositionsRequest>,
    ) -> Answer<CloseAllPositionsResponse> {
        let hash = request.get_ref().plan_hash.clone();
        self.called("CloseAllPositions", &hash, &request).await?;
        changed(&hash)?;
        let GetEmergencyResponse { emergency, course, .. } = self.script.emergency.clone();
        Ok(Response::new(CloseAllPositionsResponse { emergency, course, was_closing: false }))
    }

    async fn plan_close_all_positions(
        &self,
        request: Request<CloseAllPositionsRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanCloseAllPositions", &request).await
    }

    async fn approve_release(
        &self,
        request: Request<ApproveReleaseRequest>,
    ) -> Answer<ApproveReleaseResponse> {
        let hash = request.get_ref().plan_hash.clone();
        self.called("ApproveRelease", &hash, &request).await?;
        changed(&hash)?;
        let course = self.script.emergency.course.clone().unwrap_or_default();
        Ok(Response::new(ApproveReleaseResponse {
            approvals: course.approvals,
            needed: course.approvals_needed,
        }))
    }

    async fn plan_approve_release(
        &self,
        request: Request<ApproveReleaseRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanApproveRelease", &request).await
    }

    async fn renew_trading_lease(
        &self,
        request: Request<RenewTradingLeaseRequest>,
    ) -> Answer<RenewTradingLeaseResponse> {
        self.called("RenewTradingLease", "", &request).await?;
        let active = self.script.emergency.emergency.as_ref().is_some_and(|it| it.active);
        Ok(Response::new(RenewTradingLeaseResponse { lasts_seconds: 10.0, emergency: active }))
    }

    async fn list_incidents(
        &self,
        request: Request<ListIncidentsRequest>,
    ) -> Answer<ListIncidentsResponse> {
        let ListIncidentsRequest { open_only, limit } = *request.get_ref();
        self.called("ListIncidents", &format!("{open_only} {limit}"), &request).await?;
        let incidents = self.script.health.incidents.iter();
        let wanted =
            incidents.filter(|incident| !open_only || incident.state() == IncidentState::Open);
        Ok(Response::new(ListIncidentsResponse { incidents: wanted.cloned().collect() }))
    }

    async fn get_incident(
        &self,
        request: Request<GetIncidentRequest>,
    ) -> Answer<GetIncidentResponse> {
        let id = request.get_ref().id.clone();
        self.called("GetIncident", &id, &request).await?;
        let incident = Some(self.incident(&id)?);
        let timeline = self.script.health.timeline.clone();
        let contacts = self.script.emergency.contacts.clone();
        Ok(Response::new(GetIncidentResponse { incident, timeline, contacts }))
    }

    async fn open_incident(
        &self,
        request: Request<OpenIncidentRequest>,
    ) -> Answer<OpenIncidentResponse> {
        let OpenIncidentRequest { title, severity, plan_hash } = request.get_ref();
        self.change("OpenIncident", &[title, severity, plan_hash], &request).await?;
        Ok(Response::new(OpenIncidentResponse { incident: Some(self.incident("last")?) }))
    }

    async fn plan_open_incident(
        &self,
        request: Request<OpenIncidentRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanOpenIncident", &request).await
    }

    async fn note_incident(
        &self,
        request: Request<NoteIncidentRequest>,
    ) -> Answer<NoteIncidentResponse> {
        let NoteIncidentRequest { id, text, plan_hash } = request.get_ref();
        self.change("NoteIncident", &[id, text, plan_hash], &request).await?;
        Ok(Response::new(NoteIncidentResponse { id: self.incident(id)?.id }))
    }

    async fn plan_note_incident(
        &self,
        request: Request<NoteIncidentRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanNoteIncident", &request).await
    }

    async fn close_incident(
        &self,
        request: Request<CloseIncidentRequest>,
    ) -> Answer<CloseIncidentResponse> {
        let asked = request.get_ref();
        let lesson = if asked.no_lesson { "(no lesson)" } else { &asked.lesson };
        let page = if asked.no_runbook_change { "(no page)" } else { &asked.runbook };
        let parts = [&asked.id, &asked.resolution, lesson, page, &asked.plan_hash];
        self.change("CloseIncident", &parts, &request).await?;
        let closure = IncidentClosure { runbook: asked.runbook.clone(), ..Default::default() };
        let incident = Incident { closure: Some(closure), ..self.incident(&asked.id)? };
        Ok(Response::new(CloseIncidentResponse { incident: Some(incident) }))
    }

    async fn plan_close_incident(
        &self,
        request: Request<CloseIncidentRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanCloseIncident", &request).await
    }

    async fn get_operations_report(
        &self,
        request: Request<GetOperationsReportRequest>,
    ) -> Answer<GetOperationsReportResponse> {
        self.called("GetOperationsReport", &request.get_ref().month, &request).await?;
        Ok(Response::new(self.script.health.operations_report.clone()))
    }

    async fn get_remediation_report(
        &self,
        request: Request<GetRemediationReportRequest>,
    ) -> Answer<GetRemediationReportResponse> {
        self.called("GetRemediationReport", &request.get_ref().month, &request).await?;
        Ok(Response::new(self.script.health.remediation_report.clone()))
    }

    async fn run_drill(&self, request: Request<RunDrillRequest>) -> Answer<RunDrillResponse> {
        let RunDrillRequest { name, plan_hash } = request.get_ref();
        self.change("RunDrill", &[name, plan_hash], &request).await?;
        Ok(Response::new(RunDrillResponse { run: started() }))
    }

    async fn plan_run_drill(&self, request: Request<RunDrillRequest>) -> Answer<PlanResponse> {
        self.planned("PlanRunDrill", &request).await
    }

    async fn list_drills(&self, request: Request<ListDrillsRequest>) -> Answer<ListDrillsResponse> {
        self.called("ListDrills", "", &request).await?;
        Ok(Response::new(ListDrillsResponse { drills: self.script.health.drills.clone() }))
    }

    async fn get_drill_report(
        &self,
        request: Request<GetDrillReportRequest>,
    ) -> Answer<GetDrillReportResponse> {
        self.called("GetDrillReport", &request.get_ref().id, &request).await?;
        let report = Some(self.script.health.drill.clone());
        Ok(Response::new(GetDrillReportResponse { report }))
    }
}
