//! What the fake agent knows of dependencies.

use std::sync::Mutex;

use genesis_client::v1::dependency_service_server::DependencyService;
use genesis_client::v1::*;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Streaming};

use super::{Answer, Fake, Inner, refusal};

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
}
