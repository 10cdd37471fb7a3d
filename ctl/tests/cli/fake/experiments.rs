//! What the fake agent knows of experiments and of the trades that decide them.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use genesis_client::v1::experiment_service_server::ExperimentService;
use genesis_client::v1::*;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};

use super::{Answer, Fake, Inner, Stream, refusal, streamed};

/// What it answers about experiments.
#[derive(Default)]
pub(crate) struct Experiments {
    pub(crate) known: Vec<GetExperimentResponse>,
    /// One stream for each time that they are watched; the last one again and again.
    pub(crate) watches: Vec<Vec<Result<Experiment, Status>>>,
    pub(crate) watched: Mutex<usize>,
    /// What is left out of each batch.
    pub(crate) left_out: RecordTradesResponse,
    /// The first stream breaks after so many answers, once one more batch is durable.
    pub(crate) breaks_after: Option<usize>,
    pub(crate) recorded: Mutex<Recorded>,
}

/// What was recorded.
#[derive(Default)]
pub(crate) struct Recorded {
    streams: usize,
    /// The greatest sequence of each producer.
    durable: HashMap<String, u64>,
    ids: HashSet<String>,
    /// All batches that came.
    pub(crate) batches: Vec<RecordTradesRequest>,
    /// What counts.
    pub(crate) counted: Vec<Counted>,
}

/// Experiment, id, unit, arm, what was earned, when.
pub(crate) type Counted = (String, String, String, i32, f64, i64);

impl Fake {
    /// The batches since the last time.
    pub(crate) fn trade_batches(&self) -> Vec<RecordTradesRequest> {
        std::mem::take(&mut self.inner.script.experiments.recorded.lock().unwrap().batches)
    }

    pub(crate) fn trades(&self) -> Vec<Counted> {
        self.inner.script.experiments.recorded.lock().unwrap().counted.clone()
    }
}

impl Experiments {
    fn keep(&self, batch: RecordTradesRequest) -> RecordTradesResponse {
        let mut recorded = self.recorded.lock().unwrap();
        let sequence = batch.sequence;
        recorded.batches.push(batch.clone());
        let last = recorded.durable.entry(batch.producer.clone()).or_default();
        if sequence <= *last {
            return RecordTradesResponse { sequence, repeated_batch: true, ..Default::default() };
        }
        *last = sequence;
        let (mut counted, mut duplicate) = (0, 0);
        for column in batch.columns {
            for (index, id) in column.trade_id.iter().enumerate() {
                if !recorded.ids.insert(id.clone()) {
                    duplicate += 1;
                    continue;
                }
                counted += 1;
                recorded.counted.push((
                    column.experiment.clone(),
                    id.clone(),
                    column.unit.get(index).cloned().unwrap_or_default(),
                    column.arm.get(index).copied().unwrap_or_default(),
                    column.pnl[index],
                    column.unix_nanos[index],
                ));
            }
        }
        RecordTradesResponse { sequence, counted, duplicate, ..self.left_out.clone() }
    }
}

impl Inner {
    fn experiment(&self, id: &str) -> Result<GetExperimentResponse, Status> {
        let absent =
            || refusal(tonic::Code::NotFound, "EXPERIMENT_NOT_FOUND", "no such experiment");
        let mut known = self.script.experiments.known.iter();
        let named = known.find(|one| one.experiment.as_ref().is_some_and(|one| one.id == id));
        named.cloned().ok_or_else(absent)
    }
}

#[tonic::async_trait]
impl ExperimentService for Inner {
    async fn list_experiments(
        &self,
        request: Request<ListExperimentsRequest>,
    ) -> Answer<ListExperimentsResponse> {
        let ListExperimentsRequest { strategy, running_only, limit, ended_only, fleet } =
            request.get_ref();
        let ended = if *ended_only { " ended" } else { "" };
        let of = if *fleet { " of the fleet" } else { "" };
        let noted = format!("{strategy} {running_only} {limit}{ended}{of}");
        self.called("ListExperiments", noted.trim(), &request).await?;
        let known = self.script.experiments.known.iter().filter_map(|one| one.experiment.clone());
        let mut experiments: Vec<Experiment> = known
            .filter(|one| !running_only || one.conclusion.is_none())
            .filter(|one| !ended_only || one.conclusion.is_some())
            .filter(|one| {
                let of = one.definition.as_ref().map(|one| one.strategy.as_str());
                strategy.is_empty() || of == Some(strategy)
            })
            .collect();
        let at = |one: &Experiment| Some(one.conclusion.as_ref()?.at?.seconds);
        if *ended_only {
            experiments.sort_by_key(|one| std::cmp::Reverse(at(one)));
            experiments.truncate(*limit as usize);
        }
        Ok(Response::new(ListExperimentsResponse { experiments, more: false }))
    }

    async fn get_experiment(
        &self,
        request: Request<GetExperimentRequest>,
    ) -> Answer<GetExperimentResponse> {
        let GetExperimentRequest { id, fleet } = request.get_ref().clone();
        let of = if fleet { " of the fleet" } else { "" };
        self.called("GetExperiment", &format!("{id}{of}"), &request).await?;
        Ok(Response::new(self.experiment(&id)?))
    }

    async fn create_experiment(
        &self,
        request: Request<CreateExperimentRequest>,
    ) -> Answer<CreateExperimentResponse> {
        let CreateExperimentRequest { definition, plan_hash, fleet } = request.get_ref().clone();
        let mut definition = definition.unwrap_or_default();
        let tries: Vec<_> = definition
            .parameters
            .iter()
            .map(|one| format!("{}:{}", one.name, one.variant))
            .collect();
        let split = definition.variant_basis_points.to_string();
        let of = if fleet { "in-the-fleet".to_owned() } else { String::new() };
        let parts = [&definition.strategy, &tries.join("+"), &split, &of, &plan_hash];
        self.change("CreateExperiment", &parts.map(String::as_str), &request).await?;
        definition.hash = "d1".into();
        definition.parameters.iter_mut().for_each(|one| one.control = "0.002".into());
        let experiment = Experiment {
            fleet_id: if fleet { "FLEET_7".into() } else { String::new() },
            id: "TEST_9".into(),
            definition: Some(definition),
            state: ExperimentState::Running.into(),
            ..Default::default()
        };
        Ok(Response::new(CreateExperimentResponse { experiment: Some(experiment) }))
    }

    async fn plan_create_experiment(
        &self,
        request: Request<CreateExperimentRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanCreateExperiment", &request).await
    }

    async fn conclude_experiment(
        &self,
        request: Request<ConcludeExperimentRequest>,
    ) -> Answer<ConcludeExperimentResponse> {
        let ConcludeExperimentRequest { id, plan_hash, fleet, .. } = request.get_ref();
        let of = if *fleet { "in-the-fleet" } else { "" };
        let action = request.get_ref().action();
        let word = action.as_str_name().trim_start_matches("CONCLUSION_ACTION_");
        self.change("ConcludeExperiment", &[id, word, of, plan_hash], &request).await?;
        let mut experiment = self.experiment(id)?.experiment.unwrap();
        experiment.set_state(match action {
            ConclusionAction::Promote => ExperimentState::Promoted,
            _ => ExperimentState::RolledBack,
        });
        experiment.conclusion = Some(Conclusion {
            at: Some(prost_types::Timestamp { seconds: 90, nanos: 0 }),
            forced: true,
            by: "ann".into(),
            reason: "as agreed".into(),
            ..Default::default()
        });
        Ok(Response::new(ConcludeExperimentResponse { experiment: Some(experiment) }))
    }

    async fn plan_conclude_experiment(
        &self,
        request: Request<ConcludeExperimentRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanConcludeExperiment", &request).await
    }

    async fn assign(&self, request: Request<AssignRequest>) -> Answer<AssignResponse> {
        let AssignRequest { experiment, unit } = request.get_ref().clone();
        self.called("Assign", &format!("{experiment} {unit}"), &request).await?;
        self.experiment(&experiment)?;
        let arm = if unit.ends_with('7') { Arm::Variant } else { Arm::Control };
        Ok(Response::new(AssignResponse { arm: arm.into(), bucket: 0.123_456 }))
    }

    type RecordTradesStream = Stream<RecordTradesResponse>;

    async fn record_trades(
        &self,
        request: Request<Streaming<RecordTradesRequest>>,
    ) -> Answer<Self::RecordTradesStream> {
        self.called("RecordTrades", "", &request).await?;
        let inner = self.share();
        let first = {
            let mut recorded = inner.script.experiments.recorded.lock().unwrap();
            recorded.streams += 1;
            recorded.streams == 1
        };
        let mut left = inner.script.experiments.breaks_after.filter(|_| first);
        let (answers, received) = tokio::sync::mpsc::unbounded_channel();
        let mut batches = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(batch)) = batches.next().await {
                let answer = inner.script.experiments.keep(batch);
                if left == Some(0) {
                    let _ = answers.send(Err(Status::unavailable("draining")));
                    return;
                }
                left = left.map(|left| left - 1);
                let _ = answers.send(Ok(answer));
            }
        });
        let answers = tokio_stream::wrappers::UnboundedReceiverStream::new(received);
        Ok(Response::new(Box::pin(answers)))
    }

    type WatchExperimentsStream = Stream<WatchExperimentsResponse>;

    async fn watch_experiments(
        &self,
        request: Request<WatchExperimentsRequest>,
    ) -> Answer<Self::WatchExperimentsStream> {
        self.called("WatchExperiments", &request.get_ref().id, &request).await?;
        let experiments = &self.script.experiments;
        let stream = {
            let mut watched = experiments.watched.lock().unwrap();
            *watched += 1;
            *watched - 1
        };
        let last = experiments.watches.len().saturating_sub(1);
        let items = experiments.watches.get(stream.min(last)).cloned().unwrap_or_default();
        let message = |experiment| WatchExperimentsResponse { experiment: Some(experiment) };
        streamed(items.into_iter().map(|item| item.map(message)).collect())
    }
}
