//! The operation log over gRPC.

use std::sync::Arc;

use genesis_proto::v1;
use genesis_proto::v1::oplog_service_server::OplogService;
use genesis_storage::{Intent, StoredEntry};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::fleet::heads::{Accepted, Compared, Kept, Told};
use crate::outside::Clock;
use crate::plan::{Plan, PlanStep, limited};
use crate::server::caller::caller;
use crate::server::convert::{planned, time};
use crate::server::status::to_status;
use crate::state::State;
use crate::trace::Trace;

/// The longest note in bytes.
const NOTE_LIMIT: usize = 4_096;
/// Entries are read from storage in pages of so many.
const PAGE: usize = 256;

/// The service over the operation log.
pub struct Service {
    /// Where it is.
    pub state: State,
    /// Time for notes.
    pub clock: Arc<dyn Clock>,
    /// What keeps its head.
    pub fleet: Arc<Fleet>,
}

impl Service {
    /// Over these.
    pub fn new(state: &State, clock: &Arc<dyn Clock>, fleet: &Arc<Fleet>) -> Self {
        Self { state: state.clone(), clock: Arc::clone(clock), fleet: Arc::clone(fleet) }
    }
}

fn entry(stored: StoredEntry) -> v1::OplogEntry {
    let hash = hex::encode(stored.hash);
    let entry = stored.entry;
    v1::OplogEntry {
        sequence: entry.sequence,
        at: Some(time(entry.at)),
        actor: entry.actor,
        action: entry.action,
        target: entry.target,
        reason: entry.reason,
        outcome: entry.outcome,
        detail: entry.detail,
        correlation_id: entry.correlation_id,
        trace_id: entry.trace_id,
        hash,
    }
}

fn head(head: genesis_storage::Head) -> v1::Head {
    v1::Head { sequence: head.sequence, hash: hex::encode(head.hash) }
}

/// The answer of GetHead, also for HTTP.
///
/// # Errors
/// `STORAGE_FAILED`.
pub fn head_response(state: &State) -> Result<v1::GetHeadResponse> {
    let newest = state.read(|reading| Ok(reading.oplog().head()?))?;
    Ok(v1::GetHeadResponse { head: Some(head(newest)) })
}

pub(crate) fn expected(head: Option<v1::Head>) -> Result<Option<genesis_storage::Head>> {
    let Some(head) = head else { return Ok(None) };
    let invalid = || {
        Error::invalid(
            "HEAD_INVALID",
            "a head is a sequence number and a hash of 64 hex digits, as `oplog export` gives it",
        )
    };
    let mut hash = [0; 32];
    hex::decode_to_slice(&head.hash, &mut hash).map_err(|error| invalid().caused_by(error))?;
    Ok(Some(genesis_storage::Head { sequence: head.sequence, hash }))
}

/// What the fleet has of the log, and what that finds. Without an answer of the fleet nothing is known.
fn of_fleet(
    kept: Option<&Kept>,
    compared: &Result<Compared, String>,
) -> (v1::FleetHead, Option<v1::Finding>) {
    let told = kept.and_then(|it| it.told.as_ref());
    let (state, why, finding) = match compared {
        Ok(Compared::Agrees) => (v1::FleetHeadState::Agreed, String::new(), None),
        Ok(Compared::Absent) => {
            let why = "the fleet has no head of this log yet; it gets one within seconds";
            (v1::FleetHeadState::Unknown, why.to_owned(), None)
        }
        Err(why) => (v1::FleetHeadState::Unknown, why.clone(), None),
        Ok(wrong) => {
            let code = match wrong {
                Compared::Short { .. } => "OPLOG_TRUNCATED",
                _ => "OPLOG_HEAD_MISMATCH",
            };
            let message = wrong.wrong().unwrap_or_default();
            let subject = told.map(|it| it.sequence.to_string()).unwrap_or_default();
            let finding = v1::Finding { code: code.to_owned(), subject, message: message.clone() };
            (v1::FleetHeadState::Disagrees, message, Some(finding))
        }
    };
    let accepted = told.map(|it| it.accepted.as_slice()).unwrap_or_default();
    let head = v1::FleetHead {
        state: state.into(),
        head: told.and_then(Told::head).map(head),
        told_at: told.map(|it| time(it.at)),
        why,
        accepted: accepted.iter().map(given_up).collect(),
    };
    (head, finding)
}

fn given_up(it: &Accepted) -> v1::AcceptedHead {
    v1::AcceptedHead {
        head: Some(v1::Head { sequence: it.sequence, hash: it.hash.clone() }),
        at: Some(time(it.at)),
        by: it.by.clone(),
        reason: it.reason.clone(),
    }
}

#[tonic::async_trait]
impl OplogService for Service {
    async fn get_head(
        &self,
        _: Request<v1::GetHeadRequest>,
    ) -> Result<Response<v1::GetHeadResponse>, Status> {
        head_response(&self.state).map(Response::new).map_err(to_status)
    }

    async fn list_entries(
        &self,
        request: Request<v1::ListEntriesRequest>,
    ) -> Result<Response<v1::ListEntriesResponse>, Status> {
        let request = request.into_inner();
        if !request.trace_id.is_empty() && Trace::of(&request.trace_id).is_none() {
            let message =
                format!("{:?} is no trace: 32 hex digits in lower case", request.trace_id);
            return Err(to_status(Error::invalid("TRACE_INVALID", message)));
        }
        let limit = limited(request.limit, 50, 1_000).map_err(to_status)?;
        let before = (request.before > 0).then_some(request.before);
        let searched = self
            .state
            .read(|reading| {
                Ok(reading.oplog().search(before, limit, |entry| {
                    entry.actor.contains(&request.actor)
                        && entry.action.contains(&request.action)
                        && (request.trace_id.is_empty() || entry.trace_id == request.trace_id)
                })?)
            })
            .map_err(to_status)?;
        Ok(Response::new(v1::ListEntriesResponse {
            entries: searched.found.into_iter().map(entry).collect(),
            searched_to: searched.stopped_at.unwrap_or_default(),
        }))
    }

    type TailEntriesStream = ReceiverStream<Result<v1::TailEntriesResponse, Status>>;

    async fn tail_entries(
        &self,
        request: Request<v1::TailEntriesRequest>,
    ) -> Result<Response<Self::TailEntriesStream>, Status> {
        let request = request.into_inner();
        if request.last > 1_000 {
            return Err(to_status(Error::invalid("LIMIT_INVALID", "last must be at most 1000")));
        }
        let (sender, stream) = mpsc::channel(16);
        let state = self.state.clone();
        tokio::spawn(async move {
            let mut newest = state.newest_entry();
            let mut next = match state.read(|reading| Ok(reading.oplog().head()?)) {
                Ok(head) => (head.sequence + 1).saturating_sub(u64::from(request.last)).max(1),
                Err(error) => {
                    let _ = sender.send(Err(to_status(error))).await;
                    return;
                }
            };
            loop {
                newest.borrow_and_update();
                let page = match state.read(|reading| Ok(reading.oplog().range(next, PAGE)?)) {
                    Ok(page) => page,
                    Err(error) => {
                        let _ = sender.send(Err(to_status(error))).await;
                        return;
                    }
                };
                let full = page.len() == PAGE;
                for stored in page {
                    next = stored.entry.sequence + 1;
                    if sender
                        .send(Ok(v1::TailEntriesResponse { entry: Some(entry(stored)) }))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
                if full {
                    continue;
                }
                if !request.follow {
                    return;
                }
                tokio::select! {
                    changed = newest.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn verify_oplog(
        &self,
        request: Request<v1::VerifyOplogRequest>,
    ) -> Result<Response<v1::VerifyOplogResponse>, Status> {
        let expected = expected(request.into_inner().expected).map_err(to_status)?;
        // Asked before the log is read, which has gone on since if anything.
        let kept = match self.fleet.is_configured() {
            true => Some(self.fleet.kept_head().await),
            false => None,
        };
        let state = self.state.clone();
        let verified = tokio::task::spawn_blocking(move || {
            state.read(|reading| {
                let verified = reading.oplog().verify(expected)?;
                let kept = kept.map(|kept| match kept {
                    Ok(kept) => kept.compare(reading).map(|(_, it)| of_fleet(Some(&kept), &Ok(it))),
                    Err(error) => Ok(of_fleet(None, &Err(error.message))),
                });
                Ok((verified, kept.transpose()?))
            })
        })
        .await;
        let (verified, fleet) = verified
            .map_err(|error| {
                Error::internal("STORAGE_FAILED", "the verification was cut off").caused_by(error)
            })
            .and_then(|outcome| outcome)
            .map_err(to_status)?;
        let finding = |finding: genesis_storage::ChainFinding| v1::Finding {
            code: finding.code.to_owned(),
            subject: finding.sequence.to_string(),
            message: finding.message,
        };
        let mut findings: Vec<v1::Finding> = verified.findings.into_iter().map(finding).collect();
        let (fleet, wrong) = fleet.unzip();
        let wrong = wrong.flatten();
        let intact = verified.intact && wrong.is_none();
        findings.extend(wrong);
        Ok(Response::new(v1::VerifyOplogResponse {
            intact,
            entries: verified.entries,
            head: Some(head(verified.head)),
            findings,
            fleet,
        }))
    }

    async fn accept_head(
        &self,
        request: Request<v1::AcceptHeadRequest>,
    ) -> Result<Response<v1::AcceptHeadResponse>, Status> {
        let who = caller(&request)?;
        let by = (who.identity.as_str(), who.reason.as_str());
        let hash = request.into_inner().plan_hash;
        let accepted = self.fleet.accept_head(&self.state, &hash, by).await;
        let (now, before) = accepted.map_err(to_status)?;
        let before = before.as_ref().and_then(Told::head).map(head);
        Ok(Response::new(v1::AcceptHeadResponse { head: Some(head(now)), before }))
    }

    async fn plan_accept_head(
        &self,
        _: Request<v1::AcceptHeadRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.fleet.plan_accept_head(&self.state).await)
    }

    type ExportOplogStream = ReceiverStream<Result<v1::ExportOplogResponse, Status>>;

    async fn export_oplog(
        &self,
        request: Request<v1::ExportOplogRequest>,
    ) -> Result<Response<Self::ExportOplogStream>, Status> {
        let mut next = request.into_inner().from.max(1);
        let (sender, stream) = mpsc::channel(16);
        let state = self.state.clone();
        tokio::spawn(async move {
            loop {
                match state.read(|reading| Ok(reading.oplog().range(next, PAGE)?)) {
                    Ok(page) if page.is_empty() => return,
                    Ok(page) => {
                        for stored in page {
                            next = stored.entry.sequence + 1;
                            let line = v1::ExportOplogResponse {
                                sequence: stored.entry.sequence,
                                json: stored.json,
                                hash: hex::encode(stored.hash),
                            };
                            if sender.send(Ok(line)).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(error) => {
                        let _ = sender.send(Err(to_status(error))).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn add_note(
        &self,
        request: Request<v1::AddNoteRequest>,
    ) -> Result<Response<v1::AddNoteResponse>, Status> {
        let who = caller(&request)?;
        let v1::AddNoteRequest { text, plan_hash } = request.into_inner();
        plan_note(&text).and_then(|plan| plan.accept(&plan_hash)).map_err(to_status)?;
        let (identity, wanted) = (who.identity.clone(), text.clone());
        let intent =
            Intent::new(self.clock.now(), who.identity, "note").reason(who.reason).detail(text);
        self.state.note(intent).await.map_err(to_status)?;
        let written = self
            .state
            .read(|reading| {
                Ok(reading.oplog().newest(None, 1, |entry| {
                    entry.action == "note" && entry.detail == wanted && entry.actor == identity
                })?)
            })
            .map_err(to_status)?;
        Ok(Response::new(v1::AddNoteResponse { entry: written.into_iter().next().map(entry) }))
    }

    async fn plan_add_note(
        &self,
        request: Request<v1::AddNoteRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(plan_note(&request.get_ref().text))
    }
}

/// What writing a note would do.
fn plan_note(text: &str) -> crate::error::Result<Plan> {
    if text.trim().is_empty() || text.len() > NOTE_LIMIT {
        let message = format!("a note has 1 to {NOTE_LIMIT} bytes, this one has {}", text.len());
        return Err(Error::invalid("NOTE_INVALID", message));
    }
    let step = PlanStep::new("append", "oplog", format!("a note of {} bytes", text.len()));
    Ok(Plan::new("oplog.note", &[text], vec![step]))
}
