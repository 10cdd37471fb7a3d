//! Parse, call, convert: experiments over gRPC.

mod convert;
mod parameters;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_proto::v1;
use genesis_proto::v1::experiment_service_server::ExperimentService;
use genesis_storage::RulesRecord;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub use self::parameters::Parameters;
use super::plan::{self, Asked};
use super::prepare::{self, Batch, Column};
use super::tally::Arm;
use super::verbs::{LIST_LIMIT, State, View, Which};
use super::{Answer, Experiments};
use crate::batches::Stream as OfStream;
use crate::error::{Error, Result};
use crate::server::batches::{self, Taker};
use crate::server::caller::caller;
use crate::server::convert::planned;
use crate::server::status::to_status;
use crate::server::telling::{Telling, fitting, tell};

/// Changes that come within so long are told as one.
const TOGETHER: Duration = Duration::from_millis(20);

/// The service over the experiments.
pub struct Service(pub Arc<Experiments>);

pub(crate) fn asked(definition: Option<v1::ExperimentDefinition>) -> Result<Asked> {
    let definition = definition.unwrap_or_default();
    let rules = definition.rules.unwrap_or_default();
    let design = convert::design_name(definition.design).ok_or_else(|| {
        Error::invalid("EXPERIMENT_INVALID", format!("there is no design {}", definition.design))
    })?;
    Ok(Asked {
        strategy: definition.strategy,
        trials: definition.parameters.into_iter().map(|it| (it.name, it.variant)).collect(),
        variant_basis_points: definition.variant_basis_points,
        design: design.to_owned(),
        rules: RulesRecord {
            least: rules.least_trades,
            planned: rules.planned_trades,
            most: rules.most_trades,
            promote_lift: rules.promote_lift,
            rollback_lift: rules.rollback_lift,
            least_effect: rules.least_effect,
            alpha: rules.alpha,
            guarded: rules.guarded_rollback,
        },
        seed: definition.seed,
        owner: definition.owner,
    })
}

/// Whether to promote.
pub(crate) fn promotes(action: i32) -> Result<bool> {
    match v1::ConclusionAction::try_from(action) {
        Ok(v1::ConclusionAction::Promote) => Ok(true),
        Ok(v1::ConclusionAction::Rollback) => Ok(false),
        _ => {
            let message = "the action is promote or rollback";
            Err(Error::invalid("EXPERIMENT_INVALID", message))
        }
    }
}

/// The answer of ListExperiments, also for HTTP.
///
/// # Errors
/// `LIMIT_INVALID`, `EXPERIMENTS_UNAVAILABLE`.
pub fn list_response(
    experiments: &Experiments,
    strategy: &str,
    which: Which,
    limit: u32,
) -> Result<v1::ListExperimentsResponse> {
    let views = experiments.list(strategy, which, limit)?;
    let (experiments, more) = fitting(views.iter().map(convert::experiment));
    Ok(v1::ListExperimentsResponse { experiments, more })
}

/// The experiments in a line, for the agent's page; `None` where nobody has any.
pub fn domain_status(experiments: &Experiments) -> Option<v1::DomainStatus> {
    let unavailable = experiments.store().err();
    let trouble = experiments.trouble();
    let views = experiments.list("", Which::Running, LIST_LIMIT).unwrap_or_default();
    let ended = experiments.ended();
    let of_fleet = experiments.fleet_troubles();
    let quiet = unavailable.is_none() && trouble.is_none() && of_fleet.is_empty();
    if views.is_empty() && ended == 0 && quiet {
        return None;
    }
    let finding = |code: &str, subject: &str, message: String| v1::Finding {
        code: code.to_owned(),
        subject: subject.to_owned(),
        message,
    };
    let mut findings: Vec<v1::Finding> = views
        .iter()
        .filter(|view| view.state == State::Held)
        .map(|view| {
            let id = plan::id(view.record.number);
            let message = format!(
                "its units are not split as they should be; `genesisctl experiment show {id}` has the details"
            );
            finding("EXPERIMENT_HELD", &id, message)
        })
        .collect();
    let mut condition = match findings.is_empty() {
        true => v1::Condition::Ok,
        false => v1::Condition::Warn,
    };
    if !of_fleet.is_empty() {
        condition = v1::Condition::Warn;
    }
    let of_fleet = of_fleet.into_iter().map(|it| finding(it.code, &it.subject, it.message));
    findings.extend(of_fleet);
    if let Some(error) = unavailable {
        condition = v1::Condition::Critical;
        findings.push(finding(error.code, "trades", error.message));
    }
    if let Some((since, why)) = trouble {
        condition = v1::Condition::Critical;
        findings.push(finding("TRADES_FAILING", "trades", format!("since {since}: {why}")));
    }
    Some(v1::DomainStatus {
        domain: "experiments".to_owned(),
        condition: condition.into(),
        summary: format!("{} experiment(s) go on, {ended} ended", views.len()),
        findings,
    })
}

#[async_trait]
impl Taker for Experiments {
    type Request = v1::RecordTradesRequest;
    type Response = v1::RecordTradesResponse;
    type Batch = Batch;
    type Answer = Answer;

    fn batch(request: v1::RecordTradesRequest) -> Batch {
        let arm = |arm: i32| match v1::Arm::try_from(arm) {
            Ok(v1::Arm::Control) => Some(Arm::Control),
            Ok(v1::Arm::Variant) => Some(Arm::Variant),
            _ => None,
        };
        let column = |it: v1::TradeColumn| Column {
            experiment: it.experiment,
            ids: it.trade_id,
            times: it.unix_nanos,
            pnl: it.pnl,
            units: it.unit,
            arms: it.arm.into_iter().map(arm).collect(),
        };
        Batch {
            producer: request.producer,
            sequence: request.sequence,
            columns: request.columns.into_iter().map(column).collect(),
        }
    }

    fn sender(batch: &Batch) -> (&str, u64) {
        (&batch.producer, batch.sequence)
    }

    fn wrong(batch: &Batch) -> Option<String> {
        prepare::wrong(batch)
    }

    async fn begin(&self, producer: &str, who: (&str, &str)) -> Result<()> {
        Experiments::begin(self, producer, who).await
    }

    async fn take(
        &self,
        batch: Batch,
        stream: &OfStream,
    ) -> Result<oneshot::Receiver<Result<Answer>>> {
        Experiments::take(self, batch, stream).await
    }

    fn response(answer: Answer) -> v1::RecordTradesResponse {
        let Answer {
            sequence,
            repeated,
            counted,
            duplicate,
            late,
            rejected,
            after_end,
            unknown,
            ended,
        } = answer;
        v1::RecordTradesResponse {
            sequence,
            repeated_batch: repeated,
            counted,
            duplicate,
            late,
            rejected,
            after_end,
            unknown,
            ended: ended.into_iter().map(plan::id).collect(),
        }
    }
}

/// What of a view is news: how it stands, by which line, and whether it has ended.
fn news(view: &View) -> (State, u8, Option<String>) {
    let ended = view.record.conclusion.as_ref().map(|ended| ended.how.clone());
    (view.state, view.look.decision.row.number, ended)
}

/// Tells experiments, and again whenever there is news of one.
async fn watch(
    experiments: Arc<Experiments>,
    id: String,
    sender: mpsc::Sender<Result<v1::WatchExperimentsResponse, Status>>,
) {
    let (mut revisions, mut tallies) = (experiments.revisions(), experiments.tallies());
    let mut told: BTreeMap<u64, (State, u8, Option<String>)> = BTreeMap::new();
    loop {
        revisions.mark_unchanged();
        tallies.mark_unchanged();
        let views = match (id.as_str(), told.is_empty()) {
            // First what there is; from then on what goes on, and the end of each.
            ("", true) => experiments.list("", Which::All, LIST_LIMIT),
            ("", false) => experiments.lately(|number| {
                told.get(&number).is_some_and(|(state, _, _)| *state == State::Ended)
            }),
            (id, _) => experiments.get(id).map(|view| vec![view]),
        };
        let views = match views {
            Ok(views) => views,
            Err(error) => {
                // Whoever asked may have left.
                let _ = sender.try_send(Err(to_status(error)));
                return;
            }
        };
        for view in views {
            let now = news(&view);
            if told.get(&view.record.number) == Some(&now) {
                continue;
            }
            told.insert(view.record.number, now);
            let experiment = Some(convert::experiment(&view));
            if !tell(&sender, v1::WatchExperimentsResponse { experiment }).await {
                return;
            }
        }
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            changed = tallies.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
        tokio::time::sleep(TOGETHER).await;
    }
}

#[tonic::async_trait]
impl ExperimentService for Service {
    type RecordTradesStream = Telling<v1::RecordTradesResponse>;
    type WatchExperimentsStream = Telling<v1::WatchExperimentsResponse>;

    async fn record_trades(
        &self,
        request: Request<Streaming<v1::RecordTradesRequest>>,
    ) -> Result<Response<Self::RecordTradesStream>, Status> {
        let caller = caller(&request)?;
        self.0.store().map_err(to_status)?;
        Ok(Response::new(batches::serve(Arc::clone(&self.0), request.into_inner(), caller)))
    }

    async fn list_experiments(
        &self,
        request: Request<v1::ListExperimentsRequest>,
    ) -> Result<Response<v1::ListExperimentsResponse>, Status> {
        let v1::ListExperimentsRequest { strategy, running_only, limit, ended_only, fleet } =
            request.get_ref();
        let which = match (running_only, ended_only) {
            (true, _) => Which::Running,
            (false, true) => Which::Ended,
            (false, false) => Which::All,
        };
        let listed = match fleet {
            false => list_response(&self.0, strategy, which, *limit),
            true => self.0.list_fleet(strategy, which, *limit).await.map(|views| {
                let (experiments, more) = fitting(views.iter().map(convert::of_fleet));
                v1::ListExperimentsResponse { experiments, more }
            }),
        };
        listed.map(Response::new).map_err(to_status)
    }

    async fn get_experiment(
        &self,
        request: Request<v1::GetExperimentRequest>,
    ) -> Result<Response<v1::GetExperimentResponse>, Status> {
        let v1::GetExperimentRequest { id, fleet } = request.get_ref();
        let (experiment, view, fleet) = match fleet {
            false => {
                let view = self.0.get(id).map_err(to_status)?;
                (convert::experiment(&view), view, None)
            }
            true => {
                let found = self.0.get_of_fleet(id).await.map_err(to_status)?;
                let details = convert::details(&found);
                (convert::of_fleet(&found.of), found.of.view, Some(details))
            }
        };
        Ok(Response::new(v1::GetExperimentResponse {
            experiment: Some(experiment),
            curve: view.curve().iter().map(convert::point).collect(),
            table: convert::table(&view),
            fleet,
        }))
    }

    async fn create_experiment(
        &self,
        request: Request<v1::CreateExperimentRequest>,
    ) -> Result<Response<v1::CreateExperimentResponse>, Status> {
        let who = caller(&request)?;
        let v1::CreateExperimentRequest { definition, plan_hash, fleet } = request.into_inner();
        let asked = asked(definition).map_err(to_status)?;
        let by = (who.identity.as_str(), who.reason.as_str());
        let created = match fleet {
            false => self.0.create(&asked, &plan_hash, by).await,
            true => self.0.create_in_fleet(&asked, &plan_hash, by).await,
        };
        let experiment = Some(convert::experiment(&created.map_err(to_status)?));
        Ok(Response::new(v1::CreateExperimentResponse { experiment }))
    }

    async fn plan_create_experiment(
        &self,
        request: Request<v1::CreateExperimentRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::CreateExperimentRequest { definition, fleet, .. } = request.into_inner();
        let asked = asked(definition).map_err(to_status)?;
        planned(match fleet {
            false => self.0.plan_creation(&asked),
            true => self.0.plan_fleet_creation(&asked).await,
        })
    }

    async fn conclude_experiment(
        &self,
        request: Request<v1::ConcludeExperimentRequest>,
    ) -> Result<Response<v1::ConcludeExperimentResponse>, Status> {
        let who = caller(&request)?;
        let v1::ConcludeExperimentRequest { id, action, plan_hash, fleet } = request.get_ref();
        let promote = promotes(*action).map_err(to_status)?;
        let by = (who.identity.as_str(), who.reason.as_str());
        let experiment = match fleet {
            false => {
                self.0.conclude(id, promote, plan_hash, by).await.map_err(to_status)?;
                self.0.get(id).map(|view| convert::experiment(&view))
            }
            true => {
                let ended = self.0.conclude_in_fleet(id, promote, plan_hash, by).await;
                ended.map(|view| convert::of_fleet(&view))
            }
        };
        let experiment = Some(experiment.map_err(to_status)?);
        Ok(Response::new(v1::ConcludeExperimentResponse { experiment }))
    }

    async fn plan_conclude_experiment(
        &self,
        request: Request<v1::ConcludeExperimentRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::ConcludeExperimentRequest { id, action, fleet, .. } = request.get_ref();
        let promote = promotes(*action).map_err(to_status)?;
        planned(match fleet {
            false => self.0.plan_conclusion(id, promote),
            true => self.0.plan_fleet_conclusion(id, promote).await,
        })
    }

    async fn assign(
        &self,
        request: Request<v1::AssignRequest>,
    ) -> Result<Response<v1::AssignResponse>, Status> {
        let v1::AssignRequest { experiment, unit } = request.get_ref();
        let (arm, bucket) = self.0.assign(experiment, unit).map_err(to_status)?;
        Ok(Response::new(v1::AssignResponse { arm: convert::arm(arm).into(), bucket }))
    }

    async fn watch_experiments(
        &self,
        request: Request<v1::WatchExperimentsRequest>,
    ) -> Result<Response<Self::WatchExperimentsStream>, Status> {
        let id = request.into_inner().id;
        self.0.store().map_err(to_status)?;
        if !id.is_empty() {
            self.0.one(&id).map_err(to_status)?;
        }
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(watch(Arc::clone(&self.0), id, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
