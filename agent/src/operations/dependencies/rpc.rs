//! Parse, call, convert: dependencies over gRPC.

use std::sync::Arc;

use genesis_advisories::finding::Kind;
use genesis_advisories::severity::Rating;
use genesis_proto::v1;
use genesis_proto::v1::dependency_service_server::DependencyService;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tonic::{Request, Response, Status, Streaming};

use super::locked::Unjudged;
use super::plan::{DataState, Verdict};
use super::scan::{Found, ProjectScan, SourceView};
use super::{Dependencies, feed, no_room};
use crate::error::{Error, Result};
use crate::plan::limited;
use crate::server::caller::caller;
use crate::server::convert::{planned, time};
use crate::server::status::to_status;

pub(crate) mod convert;
mod status;

/// So many updates are listed where nobody says how many.
const USUAL: usize = 50;
/// At most so many are listed.
const LIMIT: u32 = 1_000;

/// The service over the dependencies.
pub struct Service(pub Arc<Dependencies>);

pub(crate) fn moment(at: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>> {
    let Some(at) = at else { return Ok(None) };
    let read = Timestamp::new(at.seconds, at.nanos)
        .map_err(|error| Error::invalid("TIME_INVALID", "as_of is no time").caused_by(error))?;
    Ok(Some(read))
}

fn second(at: i64) -> Option<prost_types::Timestamp> {
    Timestamp::from_second(at).ok().map(time)
}

fn source(view: SourceView) -> v1::DataSource {
    let state = match view.state {
        DataState::Checked => v1::DataState::Checked,
        DataState::Stale => v1::DataState::Stale,
        DataState::NotChecked => v1::DataState::NotChecked,
    };
    let known = view.source;
    let of = |at: Option<i64>| at.filter(|at| *at != 0).and_then(second);
    v1::DataSource {
        name: view.name,
        state: state.into(),
        records: known.as_ref().map_or(0, |it| it.records),
        file_at: of(known.as_ref().map(|it| it.file_at)),
        newest_at: of(known.as_ref().and_then(|it| it.newest_at)),
        imported_at: of(known.as_ref().map(|it| it.imported_at)),
        file: known.as_ref().map(|it| it.file.clone()).unwrap_or_default(),
        digest: known.map(|it| it.digest).unwrap_or_default(),
        why: view.why,
    }
}

fn unjudged(it: Unjudged) -> v1::Unjudged {
    v1::Unjudged { what: it.what, why: it.why, file: it.file, line: it.line }
}

fn severity(rating: Rating) -> v1::VulnerabilitySeverity {
    match rating {
        Rating::Unknown => v1::VulnerabilitySeverity::Unknown,
        Rating::None => v1::VulnerabilitySeverity::None,
        Rating::Low => v1::VulnerabilitySeverity::Low,
        Rating::Medium => v1::VulnerabilitySeverity::Medium,
        Rating::High => v1::VulnerabilitySeverity::High,
        Rating::Critical => v1::VulnerabilitySeverity::Critical,
    }
}

fn finding(found: Found) -> v1::DependencyFinding {
    let (it, file, line) = (found.finding, found.file, found.line);
    let kind = match it.kind {
        Kind::Vulnerability => v1::FindingKind::Vulnerability,
        Kind::Unsound => v1::FindingKind::Unsound,
        Kind::Unmaintained => v1::FindingKind::Unmaintained,
        Kind::Notice => v1::FindingKind::Notice,
    };
    let ignored = found.ignored.map(|ignored| v1::Ignored {
        until: Some(time(ignored.until)),
        reason: ignored.reason,
        by: ignored.by,
    });
    v1::DependencyFinding {
        id: it.id,
        ids: it.ids,
        kind: kind.into(),
        ecosystem: it.ecosystem.to_string(),
        package: it.package,
        installed: it.version,
        fixed_in: it.fixed_in.unwrap_or_default(),
        severity: severity(it.severity.rating).into(),
        score: it.severity.score,
        vector: it.severity.vector.map(|vector| vector.text().to_owned()).unwrap_or_default(),
        exploited: it.exploited,
        likelihood: it.likelihood.map(|it| f64::from(it.probability)),
        why: it.why.join("; "),
        certain: it.certain,
        summary: it.summary,
        references: it.references,
        file,
        line,
        ignored,
        published_at: it.published.and_then(second),
    }
}

fn project(scan: ProjectScan) -> v1::ProjectScan {
    let verdict = match scan.verdict {
        Verdict::Pass => v1::ScanVerdict::Pass,
        Verdict::Findings => v1::ScanVerdict::Findings,
        Verdict::Unknown => v1::ScanVerdict::Unknown,
    };
    v1::ProjectScan {
        project: scan.project.name,
        verdict: verdict.into(),
        findings: scan.findings.into_iter().map(finding).collect(),
        judged: u32::try_from(scan.judged).unwrap_or(u32::MAX),
        unjudged: scan.unjudged.into_iter().map(unjudged).collect(),
        unmanaged: scan.unmanaged.into_iter().map(unjudged).collect(),
        root: scan.project.root.display().to_string(),
    }
}

impl Service {
    async fn scanned(
        &self,
        request: v1::ScanDependenciesRequest,
    ) -> Result<v1::ScanDependenciesResponse> {
        let as_of = moment(request.as_of)?;
        let scan = self.0.scan(&request.project, as_of).await?;
        Ok(v1::ScanDependenciesResponse {
            projects: scan.projects.into_iter().map(project).collect(),
            sources: scan.sources.into_iter().map(source).collect(),
            as_of: Some(time(scan.as_of)),
        })
    }

    /// Writes what comes to a file, and takes that.
    async fn take(
        &self,
        mut pieces: Streaming<v1::UploadAdvisoriesRequest>,
    ) -> Result<v1::UploadAdvisoriesResponse, Status> {
        let (upload, path) = self.0.upload().await.map_err(to_status)?;
        // Whatever ends it early leaves nothing.
        let gone = Gone(path.clone());
        let mut whole =
            tokio::fs::File::create(&path).await.map_err(|it| to_status(no_room(&it)))?;
        let (mut called, mut bytes) = (None, 0_u64);
        while let Some(piece) = pieces.message().await? {
            called.get_or_insert_with(|| {
                let file: String =
                    piece.file.chars().filter(|it| !it.is_control()).take(200).collect();
                let at = piece.file_at.map(|at| at.seconds);
                (file, at.unwrap_or_else(|| self.0.outside.clock.now().as_second()))
            });
            bytes += piece.data.len() as u64;
            if bytes > feed::FILE {
                let message = format!("an upload has at most {} bytes", feed::FILE);
                return Err(to_status(Error::refused("ADVISORIES_TOO_LARGE", message, Vec::new())));
            }
            whole.write_all(&piece.data).await.map_err(|it| to_status(no_room(&it)))?;
        }
        whole.sync_all().await.map_err(|it| to_status(no_room(&it)))?;
        let called = called.unwrap_or_default();
        let sources = self.0.uploaded(&upload, path, called).await.map_err(to_status)?;
        std::mem::forget(gone);
        let sources = sources.into_iter().map(source).collect();
        Ok(v1::UploadAdvisoriesResponse { upload, sources })
    }
}

/// A file that is removed unless it is forgotten.
struct Gone(std::path::PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        // What can't be removed now is removed when the agent starts.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tonic::async_trait]
impl DependencyService for Service {
    async fn scan_dependencies(
        &self,
        request: Request<v1::ScanDependenciesRequest>,
    ) -> Result<Response<v1::ScanDependenciesResponse>, Status> {
        self.scanned(request.into_inner()).await.map(Response::new).map_err(to_status)
    }

    async fn get_dependencies(
        &self,
        _: Request<v1::GetDependenciesRequest>,
    ) -> Result<Response<v1::GetDependenciesResponse>, Status> {
        overview(&self.0).map(Response::new).map_err(to_status)
    }

    async fn upload_advisories(
        &self,
        request: Request<Streaming<v1::UploadAdvisoriesRequest>>,
    ) -> Result<Response<v1::UploadAdvisoriesResponse>, Status> {
        self.take(request.into_inner()).await.map(Response::new)
    }

    async fn import_advisories(
        &self,
        request: Request<v1::ImportAdvisoriesRequest>,
    ) -> Result<Response<v1::ImportAdvisoriesResponse>, Status> {
        let who = caller(&request)?;
        let v1::ImportAdvisoriesRequest { upload, plan_hash } = request.into_inner();
        let by = (who.identity.as_str(), who.reason.as_str());
        let sources = self.0.import(&upload, &plan_hash, by).await.map_err(to_status)?;
        let sources = sources.into_iter().map(source).collect();
        Ok(Response::new(v1::ImportAdvisoriesResponse { sources }))
    }

    async fn plan_import_advisories(
        &self,
        request: Request<v1::ImportAdvisoriesRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_import(&request.into_inner().upload).await)
    }

    async fn check_dependencies(
        &self,
        request: Request<v1::CheckDependenciesRequest>,
    ) -> Result<Response<v1::CheckDependenciesResponse>, Status> {
        let v1::CheckDependenciesRequest { project, strategy } = request.get_ref();
        let strategy = convert::strategy(*strategy).map_err(to_status)?;
        let found = self.0.check(project, strategy).await.map_err(to_status)?;
        let projects = found.into_iter().map(convert::check).collect();
        Ok(Response::new(v1::CheckDependenciesResponse { projects }))
    }

    async fn update_dependencies(
        &self,
        request: Request<v1::UpdateDependenciesRequest>,
    ) -> Result<Response<v1::UpdateDependenciesResponse>, Status> {
        let who = caller(&request)?;
        let v1::UpdateDependenciesRequest { project, strategy, plan_hash } = request.get_ref();
        let strategy = convert::strategy(*strategy).map_err(to_status)?;
        let by = (who.identity, who.reason);
        let started = self.0.update(project, strategy, (plan_hash, false), by).await;
        let run_id = started.map_err(to_status)?.id;
        Ok(Response::new(v1::UpdateDependenciesResponse { run_id }))
    }

    async fn plan_update_dependencies(
        &self,
        request: Request<v1::UpdateDependenciesRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::UpdateDependenciesRequest { project, strategy, .. } = request.get_ref();
        let strategy = convert::strategy(*strategy).map_err(to_status)?;
        planned(self.0.plan_update(project, strategy).await)
    }

    async fn roll_back_dependencies(
        &self,
        request: Request<v1::RollBackDependenciesRequest>,
    ) -> Result<Response<v1::RollBackDependenciesResponse>, Status> {
        let who = caller(&request)?;
        let v1::RollBackDependenciesRequest { project, generation, plan_hash } = request.get_ref();
        let by = (who.identity, who.reason);
        let started = self.0.roll_back(project, *generation, plan_hash, by).await;
        let run_id = started.map_err(to_status)?.id;
        Ok(Response::new(v1::RollBackDependenciesResponse { run_id }))
    }

    async fn plan_roll_back_dependencies(
        &self,
        request: Request<v1::RollBackDependenciesRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::RollBackDependenciesRequest { project, generation, .. } = request.get_ref();
        planned(self.0.plan_rollback(project, *generation))
    }

    async fn list_dependency_updates(
        &self,
        request: Request<v1::ListDependencyUpdatesRequest>,
    ) -> Result<Response<v1::ListDependencyUpdatesResponse>, Status> {
        let v1::ListDependencyUpdatesRequest { project, limit } = request.get_ref();
        let limit = limited(*limit, USUAL, LIMIT).map_err(to_status)?;
        let (found, config) = (self.0.updates(project, limit).map_err(to_status)?, self.0.config());
        let updates = found.into_iter().map(|it| convert::updated(it, &config)).collect();
        Ok(Response::new(v1::ListDependencyUpdatesResponse { updates }))
    }

    async fn ignore_finding(
        &self,
        request: Request<v1::IgnoreFindingRequest>,
    ) -> Result<Response<v1::IgnoreFindingResponse>, Status> {
        let who = caller(&request)?;
        let v1::IgnoreFindingRequest { project, id, until, plan_hash } = request.into_inner();
        let until = moment(until).map_err(to_status)?;
        let by = (who.identity.as_str(), who.reason.as_str());
        let record =
            self.0.ignore(&project, &id, (until, &plan_hash), by).await.map_err(to_status)?;
        let ignored = Some(convert::ignored(record, self.0.outside.clock.now()));
        Ok(Response::new(v1::IgnoreFindingResponse { ignored }))
    }

    async fn plan_ignore_finding(
        &self,
        request: Request<v1::IgnoreFindingRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let who = caller(&request)?;
        let v1::IgnoreFindingRequest { project, id, until, .. } = request.into_inner();
        let until = moment(until).map_err(to_status)?;
        planned(self.0.plan_ignore(&project, &id, until, &who.reason))
    }

    async fn unignore_finding(
        &self,
        request: Request<v1::UnignoreFindingRequest>,
    ) -> Result<Response<v1::UnignoreFindingResponse>, Status> {
        let who = caller(&request)?;
        let v1::UnignoreFindingRequest { project, id, plan_hash } = request.into_inner();
        let by = (who.identity.as_str(), who.reason.as_str());
        self.0.unignore(&project, &id, &plan_hash, by).await.map_err(to_status)?;
        Ok(Response::new(v1::UnignoreFindingResponse {}))
    }

    async fn plan_unignore_finding(
        &self,
        request: Request<v1::UnignoreFindingRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::UnignoreFindingRequest { project, id, .. } = request.get_ref();
        planned(self.0.plan_unignore(project, id))
    }

    async fn list_vulnerability_clocks(
        &self,
        request: Request<v1::ListVulnerabilityClocksRequest>,
    ) -> Result<Response<v1::ListVulnerabilityClocksResponse>, Status> {
        let v1::ListVulnerabilityClocksRequest { project, closed_too } = request.get_ref();
        let found = self.0.clocks(project, *closed_too).map_err(to_status)?;
        let clocks = found.into_iter().map(convert::clock).collect();
        Ok(Response::new(v1::ListVulnerabilityClocksResponse { clocks }))
    }

    async fn close_postmortem(
        &self,
        request: Request<v1::ClosePostmortemRequest>,
    ) -> Result<Response<v1::ClosePostmortemResponse>, Status> {
        let who = caller(&request)?;
        let v1::ClosePostmortemRequest { project, id, note, plan_hash } = request.into_inner();
        let by = (who.identity.as_str(), who.reason.as_str());
        let view = self.0.close(&project, &id, (&note, &plan_hash), by).await.map_err(to_status)?;
        Ok(Response::new(v1::ClosePostmortemResponse { clock: Some(convert::clock(view)) }))
    }

    async fn plan_close_postmortem(
        &self,
        request: Request<v1::ClosePostmortemRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::ClosePostmortemRequest { project, id, note, .. } = request.get_ref();
        planned(self.0.plan_close(project, id, note))
    }
}

/// The dependencies in a line, for the agent's page; `None` where no project is configured.
///
/// # Errors
/// `STORAGE_FAILED`.
pub fn domain_status(dependencies: &Dependencies) -> Result<Option<v1::DomainStatus>> {
    status::domain(dependencies)
}

/// The answer of GetDependencies, also for HTTP.
///
/// # Errors
/// `ADVISORIES_UNAVAILABLE`.
pub fn overview(dependencies: &Dependencies) -> Result<v1::GetDependenciesResponse> {
    let sources = dependencies.sources()?;
    let config = dependencies.config();
    let looked = dependencies.looked.load();
    let projects = config.projects.iter().map(|it| convert::project(dependencies, it, &looked));
    Ok(v1::GetDependenciesResponse {
        projects: projects.collect::<Result<_>>()?,
        sources: sources.into_iter().map(source).collect(),
    })
}
