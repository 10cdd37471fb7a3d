//! The operation log over gRPC.

use genesis_proto::v1;
use genesis_proto::v1::oplog_service_server::OplogService;
use genesis_storage::{Intent, StoredEntry};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::plan::{Plan, PlanStep};
use crate::server::caller::caller;
use crate::server::convert::{planned, time};
use crate::server::status::to_status;
use crate::state::State;

/// The longest note in bytes.
const NOTE_LIMIT: usize = 4_096;
/// Entries are read from storage in pages of so many.
const PAGE: usize = 256;

/// The service over the operation log.
pub struct Service {
    /// Where it is.
    pub state: State,
    /// Time for notes.
    pub outside: Outside,
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

fn expected(head: Option<v1::Head>) -> Result<Option<genesis_storage::Head>> {
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
        let limit = match request.limit {
            0 => 50,
            1..=1_000 => request.limit as usize,
            _ => return Err(to_status(Error::invalid("LIMIT_INVALID", "limit must be 1 to 1000"))),
        };
        let before = (request.before > 0).then_some(request.before);
        let entries = self
            .state
            .read(|reading| {
                Ok(reading.oplog().newest(before, limit, |entry| {
                    entry.actor.contains(&request.actor) && entry.action.contains(&request.action)
                })?)
            })
            .map_err(to_status)?;
        Ok(Response::new(v1::ListEntriesResponse {
            entries: entries.into_iter().map(entry).collect(),
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
        let state = self.state.clone();
        let verified = tokio::task::spawn_blocking(move || {
            state.read(|reading| Ok(reading.oplog().verify(expected)?))
        })
        .await;
        let verified = verified
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
        Ok(Response::new(v1::VerifyOplogResponse {
            intact: verified.intact,
            entries: verified.entries,
            head: Some(head(verified.head)),
            findings: verified.findings.into_iter().map(finding).collect(),
        }))
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
        let intent = Intent::new(self.outside.clock.now(), who.identity, "note")
            .reason(who.reason)
            .detail(text);
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
