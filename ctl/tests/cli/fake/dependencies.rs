//! What the fake agent knows of dependencies.

use std::sync::Mutex;

use genesis_client::v1::dependency_service_server::DependencyService;
use genesis_client::v1::*;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Streaming};

use super::{Answer, Fake, Inner, refusal, started};

/// What it answers about dependencies.
#[derive(Default)]
pub(crate) struct Dependencies {
    pub(crate) scan: ScanDependenciesResponse,
    pub(crate) known: GetDependenciesResponse,
    /// What is found in each file that is sent, by its name.
    pub(crate) content: Vec<(&'static str, DataSource)>,
    /// What an import from the configured files has.
    pub(crate) imported: Vec<DataSource>,
    /// Files of these names are not imported.
    pub(crate) refused: Vec<&'static str>,
    pub(crate) uploads: Mutex<Vec<Uploaded>>,
    pub(crate) checked: CheckDependenciesResponse,
    pub(crate) updates: ListDependencyUpdatesResponse,
    pub(crate) clocks: ListVulnerabilityClocksResponse,
}

fn run_id() -> String {
    started().map(|run| run.run_id).unwrap_or_default()
}

/// Such as "SECURITY"; nothing where none is named.
fn strategy(strategy: UpdateStrategy) -> &'static str {
    match strategy {
        UpdateStrategy::Unspecified => "",
        strategy => strategy.as_str_name().trim_start_matches("UPDATE_STRATEGY_"),
    }
}

fn noted(words: &[&str]) -> String {
    words.iter().copied().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A file that came.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Uploaded {
    pub(crate) file: String,
    pub(crate) file_at: Option<prost_types::Timestamp>,
    pub(crate) data: Vec<u8>,
    /// How long each piece was.
    pub(crate) pieces: Vec<usize>,
}

impl Fake {
    pub(crate) fn uploads(&self) -> Vec<Uploaded> {
        self.inner.script.dependencies.uploads.lock().unwrap().clone()
    }
}

impl Dependencies {
    /// What was in the upload of this name, which has its number in the order in which they came.
    fn uploaded(&self, upload: &str) -> Option<Uploaded> {
        let number: usize = upload.strip_prefix("upload-")?.parse().ok()?;
        self.uploads.lock().unwrap().get(number).cloned()
    }

    fn content(&self, file: &str) -> Vec<DataSource> {
        let of = self.content.iter().filter(|(name, _)| *name == file);
        of.map(|(_, source)| source.clone()).collect()
    }
}

#[tonic::async_trait]
impl DependencyService for Inner {
    async fn scan_dependencies(
        &self,
        request: Request<ScanDependenciesRequest>,
    ) -> Answer<ScanDependenciesResponse> {
        let ScanDependenciesRequest { project, as_of } = request.get_ref();
        let at = as_of.as_ref().map(|at| at.seconds.to_string()).unwrap_or_default();
        self.called("ScanDependencies", format!("{project} {at}").trim(), &request).await?;
        let mut scan = self.script.dependencies.scan.clone();
        scan.projects.retain(|one| project.is_empty() || one.project == *project);
        if let Some(at) = as_of {
            scan.as_of = Some(*at);
        }
        if !project.is_empty() && scan.projects.is_empty() {
            let why = format!("no project is called {project}");
            return Err(refusal(tonic::Code::NotFound, "PROJECT_NOT_FOUND", &why));
        }
        Ok(Response::new(scan))
    }

    async fn get_dependencies(
        &self,
        request: Request<GetDependenciesRequest>,
    ) -> Answer<GetDependenciesResponse> {
        self.called("GetDependencies", "", &request).await?;
        Ok(Response::new(self.script.dependencies.known.clone()))
    }

    async fn upload_advisories(
        &self,
        request: Request<Streaming<UploadAdvisoriesRequest>>,
    ) -> Answer<UploadAdvisoriesResponse> {
        self.called("UploadAdvisories", "", &request).await?;
        let mut pieces = request.into_inner();
        let mut uploaded = Uploaded::default();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if uploaded.pieces.is_empty() {
                uploaded.file = piece.file;
                uploaded.file_at = piece.file_at;
            } else {
                assert_eq!((piece.file.as_str(), piece.file_at), ("", None));
            }
            uploaded.pieces.push(piece.data.len());
            uploaded.data.extend(piece.data);
        }
        let dependencies = &self.script.dependencies;
        let sources = dependencies.content(&uploaded.file);
        let mut uploads = dependencies.uploads.lock().unwrap();
        uploads.push(uploaded);
        let upload = format!("upload-{}", uploads.len() - 1);
        Ok(Response::new(UploadAdvisoriesResponse { upload, sources }))
    }

    async fn import_advisories(
        &self,
        request: Request<ImportAdvisoriesRequest>,
    ) -> Answer<ImportAdvisoriesResponse> {
        let ImportAdvisoriesRequest { upload, plan_hash } = request.get_ref();
        self.change("ImportAdvisories", &[upload, plan_hash], &request).await?;
        let dependencies = &self.script.dependencies;
        if upload.is_empty() {
            let sources = dependencies.imported.clone();
            return Ok(Response::new(ImportAdvisoriesResponse { sources }));
        }
        let gone = || refusal(tonic::Code::NotFound, "UPLOAD_NOT_FOUND", "there is no such upload");
        let file = dependencies.uploaded(upload).ok_or_else(gone)?.file;
        if dependencies.refused.contains(&file.as_str()) {
            let why = format!("{file} has 12 records of PyPI, and there are 2,661");
            return Err(refusal(tonic::Code::FailedPrecondition, "ADVISORIES_FEWER", &why));
        }
        let sources = dependencies.content(&file);
        Ok(Response::new(ImportAdvisoriesResponse { sources }))
    }

    async fn plan_import_advisories(
        &self,
        request: Request<ImportAdvisoriesRequest>,
    ) -> Answer<PlanResponse> {
        let upload = request.get_ref().upload.clone();
        self.called("PlanImportAdvisories", &upload, &request).await?;
        Ok(Response::new(self.script.any_plan.clone()))
    }

    async fn check_dependencies(
        &self,
        request: Request<CheckDependenciesRequest>,
    ) -> Answer<CheckDependenciesResponse> {
        let asked = request.get_ref();
        let what = noted(&[&asked.project, strategy(asked.strategy())]);
        self.called("CheckDependencies", &what, &request).await?;
        Ok(Response::new(self.script.dependencies.checked.clone()))
    }

    async fn update_dependencies(
        &self,
        request: Request<UpdateDependenciesRequest>,
    ) -> Answer<UpdateDependenciesResponse> {
        let asked = request.get_ref();
        let parts = [&asked.project, strategy(asked.strategy()), &asked.plan_hash];
        self.change("UpdateDependencies", &parts, &request).await?;
        Ok(Response::new(UpdateDependenciesResponse { run_id: run_id() }))
    }

    async fn plan_update_dependencies(
        &self,
        request: Request<UpdateDependenciesRequest>,
    ) -> Answer<PlanResponse> {
        let asked = request.get_ref();
        let what = noted(&[&asked.project, strategy(asked.strategy()), &asked.plan_hash]);
        self.called("PlanUpdateDependencies", &what, &request).await?;
        Ok(Response::new(self.script.any_plan.clone()))
    }

    async fn roll_back_dependencies(
        &self,
        request: Request<RollBackDependenciesRequest>,
    ) -> Answer<RollBackDependenciesResponse> {
        let RollBackDependenciesRequest { project, generation, plan_hash } = request.get_ref();
        let to = if *generation == 0 { String::new() } else { generation.to_string() };
        self.change("RollBackDependencies", &[project, &to, plan_hash], &request).await?;
        Ok(Response::new(RollBackDependenciesResponse { run_id: run_id() }))
    }

    async fn plan_roll_back_dependencies(
        &self,
        request: Request<RollBackDependenciesRequest>,
    ) -> Answer<PlanResponse> {
        let RollBackDependenciesRequest { project, generation, .. } = request.get_ref();
        self.called("PlanRollBackDependencies", &format!("{project} {generation}"), &request)
            .await?;
        Ok(Response::new(self.script.any_plan.clone()))
    }

    async fn list_dependency_updates(
        &self,
        request: Request<ListDependencyUpdatesRequest>,
    ) -> Answer<ListDependencyUpdatesResponse> {
        let ListDependencyUpdatesRequest { project, limit } = request.get_ref();
        self.called("ListDependencyUpdates", format!("{project} {limit}").trim(), &request).await?;
        Ok(Response::new(self.script.dependencies.updates.clone()))
    }

    async fn ignore_finding(
        &self,
        request: Request<IgnoreFindingRequest>,
    ) -> Answer<IgnoreFindingResponse> {
        let IgnoreFindingRequest { project, id, until, plan_hash } = request.get_ref();
        let at = until.as_ref().map(|at| at.seconds.to_string()).unwrap_or_default();
        self.change("IgnoreFinding", &[id, project, &at, plan_hash], &request).await?;
        let reason = request.metadata().get("genesis-reason").map(|text| text.to_str().unwrap());
        let ignored =
            Ignored { until: *until, reason: reason.unwrap_or_default().into(), by: "ada".into() };
        let ignored = IgnoredFinding { id: id.clone(), ignored: Some(ignored), in_force: true };
        Ok(Response::new(IgnoreFindingResponse { ignored: Some(ignored) }))
    }

    async fn plan_ignore_finding(
        &self,
        request: Request<IgnoreFindingRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanIgnoreFinding", &request).await
    }

    async fn unignore_finding(
        &self,
        request: Request<UnignoreFindingRequest>,
    ) -> Answer<UnignoreFindingResponse> {
        let UnignoreFindingRequest { project, id, plan_hash } = request.get_ref();
        self.change("UnignoreFinding", &[id, project, plan_hash], &request).await?;
        Ok(Response::new(UnignoreFindingResponse {}))
    }

    async fn plan_unignore_finding(
        &self,
        request: Request<UnignoreFindingRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanUnignoreFinding", &request).await
    }

    async fn list_vulnerability_clocks(
        &self,
        request: Request<ListVulnerabilityClocksRequest>,
    ) -> Answer<ListVulnerabilityClocksResponse> {
        let ListVulnerabilityClocksRequest { project, closed_too } = request.get_ref();
        let closed = if *closed_too { "closed" } else { "" };
        self.called("ListVulnerabilityClocks", &noted(&[project, closed]), &request).await?;
        Ok(Response::new(self.script.dependencies.clocks.clone()))
    }

    async fn close_postmortem(
        &self,
        request: Request<ClosePostmortemRequest>,
    ) -> Answer<ClosePostmortemResponse> {
        let ClosePostmortemRequest { project, id, note, plan_hash } = request.get_ref();
        self.change("ClosePostmortem", &[id, project, note, plan_hash], &request).await?;
        let clock = VulnerabilityClock {
            project: project.clone(),
            id: id.clone(),
            package: "requests".into(),
            note: note.clone(),
            in_time: Truth::Pass.into(),
            state: ClockState::Closed.into(),
            ..Default::default()
        };
        Ok(Response::new(ClosePostmortemResponse { clock: Some(clock) }))
    }

    async fn plan_close_postmortem(
        &self,
        request: Request<ClosePostmortemRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanClosePostmortem", &request).await
    }
}
