//! Parse, call, convert: log archival over gRPC.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use genesis_proto::v1::logs_service_server::LogsService;
use genesis_proto::v1::{
    ActiveFile, CleanupArchivesRequest, CleanupArchivesResponse, Condition, Gap,
    GetLogsStatusRequest, GetLogsStatusResponse, Hold, HoldLogsRequest, HoldLogsResponse,
    ListHoldsRequest, ListHoldsResponse, ListSegmentsRequest, ListSegmentsResponse, Plan,
    PlanCleanupArchivesResponse, PlanResponse, PlanStep, RebuildCatalogRequest,
    RebuildCatalogResponse, ReleaseLogsRequest, ReleaseLogsResponse, RetrieveLogsRequest,
    RetrieveLogsResponse, RetrievePlan, RetrieveTrailer, RotateLogsRequest, RotateLogsResponse,
    Segment, SegmentHindrance, SegmentState, SourceStatus, StateCount, VerifyArchivesRequest,
    VerifyArchivesResponse, VerifyDepth, VerifySummary, retrieve_logs_response,
    verify_archives_response,
};
use genesis_storage::{SegmentRecord, SegmentState as Stored};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::elsewhere::Whose;
use super::holds::HoldView;
use super::job::Retained;
use super::plan::Hindrance;
use super::segment::DateRange;
use super::source::can_be;
use super::{Logs, Mode, Reopen, retrieve, status::SourceView, timestamp, verify};
use crate::config::units::parse_duration;
use crate::error::{Error, Result};
use crate::plan::limited;
use crate::server::caller::caller;
use crate::server::convert::{duration, finding, maybe, planned, progress, started, time};
use crate::server::status::to_status;
use crate::server::telling::passed_on;

/// Who takes nothing for so long gives its place to others. It is time enough to read a page of a pager, which takes
/// nothing meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);

/// The service over log archival.
pub struct Service(pub Arc<Logs>);

/// The answer of GetStatus, also for HTTP.
///
/// # Errors
/// `STORAGE_FAILED`.
pub fn status_response(logs: &Logs) -> Result<GetLogsStatusResponse> {
    let views = logs.status()?;
    let sound = views.iter().all(|view| view.findings.is_empty());
    let condition = if sound { Condition::Ok } else { Condition::Warn };
    Ok(GetLogsStatusResponse {
        condition: condition.into(),
        sources: views.into_iter().map(source_status).collect(),
        archive_url: logs.config().archive.url.clone(),
    })
}

fn source_status(view: SourceView) -> SourceStatus {
    let count = |(state, segments)| StateCount { state: state_to_proto(state).into(), segments };
    SourceStatus {
        log_type: view.source.log_type,
        paths: view.source.paths,
        rotate_mode: match &view.source.mode {
            Mode::Reopen(Reopen::Own) => "reopen (own log)",
            Mode::Reopen(Reopen::ByItself) => "reopen (by itself)",
            Mode::Reopen(Reopen::Signal { .. }) => "reopen (signal)",
            Mode::Reopen(Reopen::Command(_)) => "reopen (command)",
            mode => mode.name(),
        }
        .to_owned(),
        rotate_bytes: view.source.rotate_bytes,
        local_retention: Some(duration(view.source.local_retention)),
        archive_retention: Some(duration(view.source.archive_retention)),
        active: view
            .active
            .into_iter()
            .map(|(path, bytes)| ActiveFile { path: path.display().to_string(), bytes })
            .collect(),
        segments: view.segments.into_iter().map(count).collect(),
        archived_plain_bytes: view.plain_bytes,
        archived_compressed_bytes: view.compressed_bytes,
        last_verified_at: maybe(view.last_verified_at),
        stalled_segments: view.stalled,
        quarantined_segments: view.quarantined,
        findings: view.findings.iter().map(finding).collect(),
    }
}

fn state_to_proto(state: Stored) -> SegmentState {
    match state {
        Stored::Active => SegmentState::Active,
        Stored::Detached => SegmentState::Detached,
        Stored::Sealed => SegmentState::Sealed,
        Stored::Uploaded => SegmentState::Uploaded,
        Stored::Verified => SegmentState::Verified,
        Stored::LocalExpired => SegmentState::LocalExpired,
        Stored::ArchiveExpired => SegmentState::ArchiveExpired,
    }
}

fn segment(logs: &Logs, record: SegmentRecord) -> Segment {
    let hindered = logs.hindered(&record.log_type, record.sequence);
    let hindrance = match hindered.as_ref().map(|hindered| hindered.hindrance) {
        None => SegmentHindrance::Unspecified,
        Some(Hindrance::Waiting) => SegmentHindrance::Waiting,
        Some(Hindrance::Stalled) => SegmentHindrance::Stalled,
        Some(Hindrance::Quarantined) => SegmentHindrance::Quarantined,
    };
    Segment {
        state: state_to_proto(record.state).into(),
        first_at: maybe(record.first_at),
        last_at: maybe(record.last_at),
        detached_at: maybe(record.detached_at),
        verified_at: maybe(record.verified_at),
        waiting: hindered.as_ref().map(|hindered| finding(&hindered.why)),
        hindrance: hindrance.into(),
        next_try_at: maybe(hindered.map(|hindered| hindered.next_try_at)),
        hindered_since: maybe(record.waiting.as_ref().map(|waiting| waiting.since)),
        log_type: record.log_type,
        sequence: record.sequence,
        source_path: record.source_path,
        archive_name: record.archive_name,
        lines: record.lines,
        plain_bytes: record.plain_bytes,
        compressed_bytes: record.compressed_bytes,
        sha256: record.sha256,
    }
}

pub(crate) fn older_than(text: &str) -> Result<Duration> {
    parse_duration(text).map_err(|why| Error::invalid("DURATION_INVALID", why))
}

impl Service {
    fn list(&self, request: &ListSegmentsRequest) -> Result<ListSegmentsResponse> {
        let limit = limited(request.limit, 1_000, 10_000)?;
        if !request.log_type.is_empty() {
            self.0.known_type(&request.log_type)?;
        } else if request.after_sequence > 0 {
            return Err(Error::invalid("LIMIT_INVALID", "after_sequence needs log_type"));
        }
        let range = match request.date_range.as_str() {
            "" => None,
            text => Some(Logs::parse_range(text)?),
        };
        let within =
            |record: &SegmentRecord, range: DateRange| match (record.first_at, record.last_at) {
                (Some(first), Some(last)) => {
                    first < timestamp(range.until) && last >= timestamp(range.from)
                }
                _ => true,
            };
        let filter = (!request.log_type.is_empty()).then_some(request.log_type.as_str());
        let (mut segments, mut truncated) = (Vec::new(), false);
        self.0.state.read(|reading| {
            reading.segments().for_each(filter, |record| {
                let behind = record.sequence > request.after_sequence;
                if behind && range.is_none_or(|range| within(&record, range)) {
                    if segments.len() == limit {
                        truncated = true;
                        return std::ops::ControlFlow::Break(());
                    }
                    segments.push(segment(&self.0, record));
                }
                std::ops::ControlFlow::Continue(())
            })?;
            Ok(())
        })?;
        Ok(ListSegmentsResponse { segments, truncated })
    }
}

impl Service {
    async fn cleanup(
        &self,
        request: Request<CleanupArchivesRequest>,
        retention: Retained,
    ) -> Result<Response<CleanupArchivesResponse>, Status> {
        let who = caller(&request)?;
        let CleanupArchivesRequest { older_than: age, log_type, plan_hash } = request.get_ref();
        let age = older_than(age).map_err(to_status)?;
        let who = (who.identity, who.reason);
        let run = self.0.cleanup(age, log_type, retention, plan_hash, who).await;
        let run = run.map_err(to_status)?;
        Ok(Response::new(CleanupArchivesResponse { run: Some(started(run)) }))
    }

    fn plan_cleanup(
        &self,
        request: &CleanupArchivesRequest,
        retention: Retained,
    ) -> Result<Response<PlanCleanupArchivesResponse>> {
        let age = older_than(&request.older_than)?;
        let plan = self.0.plan_cleanup(age, &request.log_type, retention)?;
        let mut by_day: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for segment in &plan.segments {
            let day = segment.archive_name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let entry = by_day.entry(day.to_owned()).or_default();
            entry.0 += 1;
            entry.1 += segment.compressed_bytes;
        }
        let step = |(target, (count, bytes))| PlanStep {
            action: "delete-archived".into(),
            target,
            reason: format!("{count} segment(s), {bytes} bytes, older than {}", request.older_than),
        };
        Ok(Response::new(PlanCleanupArchivesResponse {
            segments: plan.segments.len() as u64,
            compressed_bytes: plan.segments.iter().map(|segment| segment.compressed_bytes).sum(),
            held_segments: plan.held,
            plan: Some(Plan { hash: plan.hash, steps: by_day.into_iter().map(step).collect() }),
        }))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn get_status(
        &self,
        _: Request<GetLogsStatusRequest>,
    ) -> Result<Response<GetLogsStatusResponse>, Status> {
        status_response(&self.0).map(Response::new).map_err(to_status)
    }

    async fn list_segments(
        &self,
        request: Request<ListSegmentsRequest>,
    ) -> Result<Response<ListSegmentsResponse>, Status> {
        self.list(request.get_ref()).map(Response::new).map_err(to_status)
    }

    async fn rotate_logs(
        &self,
        request: Request<RotateLogsRequest>,
    ) -> Result<Response<RotateLogsResponse>, Status> {
        let who = caller(&request)?;
        let run = self
            .0
            .rotate(
                &request.get_ref().log_type,
                &request.get_ref().plan_hash,
                who.identity,
                who.reason,
            )
            .await
            .map_err(to_status)?;
        Ok(Response::new(RotateLogsResponse { run: Some(started(run)) }))
    }

    async fn plan_rotate_logs(
        &self,
        request: Request<RotateLogsRequest>,
    ) -> Result<Response<PlanResponse>, Status> {
        planned(self.0.plan_rotation(&request.get_ref().log_type))
    }

    type RetrieveLogsStream = ReceiverStream<Result<RetrieveLogsResponse, Status>>;

    async fn retrieve_logs(
        &self,
        request: Request<RetrieveLogsRequest>,
    ) -> Result<Response<Self::RetrieveLogsStream>, Status> {
        let request = request.into_inner();
        let whose = Whose::parse(&request.host);
        // Of other hosts it may be one that this one has not.
        if whose == Whose::Own {
            self.0.known_type(&request.log_type).map_err(to_status)?;
        }
        can_be(&request.log_type).map_err(to_status)?;
        let range = Logs::parse_range(&request.date_range).map_err(to_status)?;
        let (sender, parts) = mpsc::channel(retrieve::PIECES_WAITING);
        let logs = Arc::clone(&self.0);
        let errors = sender.clone();
        let place = self.0.reader().map_err(to_status)?;
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) =
                logs.retrieve(&request.log_type, range, (whose, request.plan_only), sender).await
            {
                // Nobody listening any more is no error.
                let _ = errors.send(Err(error)).await;
            }
        });
        let answer = move |part| retrieve_part(part, range);
        Ok(Response::new(passed_on(parts, PATIENCE, answer)))
    }

    async fn cleanup_archives(
        &self,
        request: Request<CleanupArchivesRequest>,
    ) -> Result<Response<CleanupArchivesResponse>, Status> {
        self.cleanup(request, Retained::Respected).await
    }

    async fn plan_cleanup_archives(
        &self,
        request: Request<CleanupArchivesRequest>,
    ) -> Result<Response<PlanCleanupArchivesResponse>, Status> {
        self.plan_cleanup(request.get_ref(), Retained::Respected).map_err(to_status)
    }

    async fn cleanup_archives_early(
        &self,
        request: Request<CleanupArchivesRequest>,
    ) -> Result<Response<CleanupArchivesResponse>, Status> {
        self.cleanup(request, Retained::Overridden).await
    }

    async fn plan_cleanup_archives_early(
        &self,
        request: Request<CleanupArchivesRequest>,
    ) -> Result<Response<PlanCleanupArchivesResponse>, Status> {
        self.plan_cleanup(request.get_ref(), Retained::Overridden).map_err(to_status)
    }

    async fn hold_logs(
        &self,
        request: Request<HoldLogsRequest>,
    ) -> Result<Response<HoldLogsResponse>, Status> {
        let who = caller(&request)?;
        let HoldLogsRequest { log_type, date_range, plan_hash } = request.get_ref();
        let held = self.0.hold(log_type, date_range, plan_hash, who.identity, who.reason).await;
        let (view, was_held) = held.map_err(to_status)?;
        Ok(Response::new(HoldLogsResponse { hold: Some(hold(view)), was_held }))
    }

    async fn plan_hold_logs(
        &self,
        request: Request<HoldLogsRequest>,
    ) -> Result<Response<PlanResponse>, Status> {
        let HoldLogsRequest { log_type, date_range, .. } = request.get_ref();
        planned(self.0.plan_hold(log_type, date_range))
    }

    async fn release_logs(
        &self,
        request: Request<ReleaseLogsRequest>,
    ) -> Result<Response<ReleaseLogsResponse>, Status> {
        let who = caller(&request)?;
        let ReleaseLogsRequest { id, plan_hash } = request.get_ref();
        let released = self.0.release(id, plan_hash, who.identity, who.reason).await;
        let view = released.map_err(to_status)?;
        Ok(Response::new(ReleaseLogsResponse { hold: Some(hold(view)) }))
    }

    async fn plan_release_logs(
        &self,
        request: Request<ReleaseLogsRequest>,
    ) -> Result<Response<PlanResponse>, Status> {
        planned(self.0.plan_release(&request.get_ref().id))
    }

    async fn list_holds(
        &self,
        _: Request<ListHoldsRequest>,
    ) -> Result<Response<ListHoldsResponse>, Status> {
        let views = self.0.holds().map_err(to_status)?;
        Ok(Response::new(ListHoldsResponse { holds: views.into_iter().map(hold).collect() }))
    }

    type VerifyArchivesStream = ReceiverStream<Result<VerifyArchivesResponse, Status>>;

    async fn rebuild_catalog(
        &self,
        request: Request<RebuildCatalogRequest>,
    ) -> Result<Response<RebuildCatalogResponse>, Status> {
        let who = caller(&request)?;
        let RebuildCatalogRequest { log_type, plan_hash } = request.get_ref();
        let run = self.0.rebuild(log_type, plan_hash, (who.identity, who.reason)).await;
        Ok(Response::new(RebuildCatalogResponse { run: Some(started(run.map_err(to_status)?)) }))
    }

    async fn plan_rebuild_catalog(
        &self,
        request: Request<RebuildCatalogRequest>,
    ) -> Result<Response<PlanResponse>, Status> {
        planned(self.0.plan_rebuild(&request.get_ref().log_type).await)
    }

    async fn verify_archives(
        &self,
        request: Request<VerifyArchivesRequest>,
    ) -> Result<Response<Self::VerifyArchivesStream>, Status> {
        let request = request.into_inner();
        if !request.log_type.is_empty() {
            self.0.known_type(&request.log_type).map_err(to_status)?;
        }
        let depth = match request.depth() {
            VerifyDepth::Manifest => verify::Depth::Manifest,
            VerifyDepth::Unspecified | VerifyDepth::Hash => verify::Depth::Hash,
            VerifyDepth::Full => verify::Depth::Full,
        };
        let (sender, parts) = mpsc::channel(8);
        let (logs, errors) = (Arc::clone(&self.0), sender.clone());
        let place = self.0.reader().map_err(to_status)?;
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = logs.verify(&request.log_type, depth, sender).await {
                let _ = errors.send(Err(error)).await;
            }
        });
        Ok(Response::new(passed_on(parts, PATIENCE, verify_part)))
    }
}

fn hold(view: HoldView) -> Hold {
    let HoldView { record, segments, compressed_bytes } = view;
    Hold {
        id: record.id,
        log_type: record.log_type,
        from: maybe(record.from),
        until: maybe(record.until),
        by: record.by,
        reason: record.reason,
        at: Some(time(record.at)),
        segments,
        compressed_bytes,
    }
}

fn retrieve_part(part: retrieve::Part, range: DateRange) -> RetrieveLogsResponse {
    use retrieve_logs_response::Part;

    let part = match part {
        retrieve::Part::Host(name) => Part::Host(name),
        retrieve::Part::Data(bytes) => Part::Data(bytes.to_vec()),
        retrieve::Part::Plan(plan) => Part::Plan(RetrievePlan {
            segments: plan.segments,
            members: plan.members,
            compressed_bytes: plan.compressed_bytes,
            plain_bytes: plan.plain_bytes,
            from: Some(time(timestamp(range.from))),
            until: Some(time(timestamp(range.until))),
        }),
        retrieve::Part::Trailer(trailer) => Part::Trailer(RetrieveTrailer {
            segments: trailer.segments,
            lines: trailer.lines,
            bytes: trailer.bytes,
            gaps: trailer.gaps.into_iter().map(gap).collect(),
            sha256: trailer.sha256,
            active_files_in_range: trailer.active_files_in_range,
            expired_segments: trailer.expired_segments,
            archived_only: trailer.archived_only,
            warnings: trailer.warnings,
        }),
    };
    RetrieveLogsResponse { part: Some(part) }
}

fn gap(gap: retrieve::Gap) -> Gap {
    Gap {
        sequence: gap.sequence,
        archive_name: gap.archive_name,
        first_at: maybe(gap.covers.map(|(first, _)| first)),
        last_at: maybe(gap.covers.map(|(_, last)| last)),
        lines: gap.lines,
        code: gap.code.to_owned(),
        message: gap.message,
    }
}

fn verify_part(part: verify::Part) -> VerifyArchivesResponse {
    use verify_archives_response::Part;

    let part = match part {
        verify::Part::Finding(unmet) => Part::Finding(finding(&unmet)),
        verify::Part::Progress(at) => Part::Progress(progress(&at)),
        verify::Part::Summary(summary) => Part::Summary(VerifySummary {
            segments: summary.segments,
            compressed_bytes: summary.compressed_bytes,
            findings: summary.findings,
            unknown: summary.unknown,
        }),
    };
    VerifyArchivesResponse { part: Some(part) }
}
