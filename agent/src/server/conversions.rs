//! What the services make of the fields of a request before they ask anything of the agent: for tests that give them any
//! bytes. It is meant for nobody else. What a service hands on as it is, is not here.

use std::collections::BTreeMap;
use std::sync::Arc;

use genesis_proto::v1;
use genesis_storage::{ExperimentRecord, ParameterRecord};
use jiff::Timestamp;
use prost::{DecodeError, Message};

use super::batches::Taker;
use super::convert::stored_state;
use super::gateway;
use super::pages::pairs;
use super::routes::find;
use crate::config::{Config, Places};
use crate::error::{Error, Result};
use crate::operations::baselines::{self, Baselines};
use crate::operations::certificates::material;
use crate::operations::experiments::{self, Experiments};
use crate::operations::logs::Logs;
use crate::operations::{backup, breaker, dependencies, logs, matrices, recovery};
use crate::oplog;
use crate::plan::{lasting, limited};

/// 2026-11-23T00:00:00Z, in seconds since 1970.
const NOW: i64 = 1_795_392_000;
/// So far back batches count, in seconds.
const KEPT: i64 = 86_400;

/// What becomes of the bytes of a request, whose type has this name in `genesis.v1`. `None`: nothing is made of them but
/// the message.
///
/// # Errors
/// Where they are no such message.
pub fn convert(name: &str, bytes: &[u8]) -> Result<Option<Result<()>>, DecodeError> {
    let outcome = match name {
        "CheckConfigRequest" => with(bytes, check_config),
        "AckAlertRequest" => with(bytes, |it: v1::AckAlertRequest| lasts(&it.lasts)),
        "SilenceAlertsRequest" => with(bytes, |it: v1::SilenceAlertsRequest| {
            let _ = it.severity();
            lasts(&it.lasts)
        }),
        "DisableRemediationRequest" => {
            with(bytes, |it: v1::DisableRemediationRequest| lasts(&it.lasts))
        }
        "VerifyBackupRequest" => {
            with(bytes, |it: v1::VerifyBackupRequest| backup::rpc::wanted_level(it.level).map(drop))
        }
        "ObserveRequest" => with(bytes, observe),
        "ListCallsRequest" => with(bytes, |it: v1::ListCallsRequest| {
            limited(it.limit, 50, 1_000)?;
            dependencies::rpc::moment(it.from)?;
            dependencies::rpc::moment(it.until).map(drop)
        }),
        "AcceptBaselineRequest" => with(bytes, |it: v1::AcceptBaselineRequest| {
            dependencies::rpc::moment(it.since).map(drop)
        }),
        "ReportOutcomesRequest" => with(bytes, |it: v1::ReportOutcomesRequest| {
            it.reports.iter().try_for_each(|report| breaker::rpc::outcome(report).map(drop))
        }),
        "TripBreakerRequest" => with(bytes, |it: v1::TripBreakerRequest| {
            breaker::plan::named(&it.name)?;
            breaker::plan::lasting(&it.lasts).map(drop)
        }),
        "InstallBackupCertificateRequest" => with(bytes, install),
        "ScanDependenciesRequest" => with(bytes, |it: v1::ScanDependenciesRequest| {
            dependencies::rpc::moment(it.as_of).map(drop)
        }),
        "IgnoreFindingRequest" => with(bytes, |it: v1::IgnoreFindingRequest| {
            dependencies::rpc::moment(it.until).map(drop)
        }),
        "CheckDependenciesRequest" => with(bytes, |it: v1::CheckDependenciesRequest| {
            dependencies::rpc::convert::strategy(it.strategy).map(drop)
        }),
        "UpdateDependenciesRequest" => with(bytes, |it: v1::UpdateDependenciesRequest| {
            dependencies::rpc::convert::strategy(it.strategy).map(drop)
        }),
        "CreateExperimentRequest" => with(bytes, create),
        "ConcludeExperimentRequest" => with(bytes, |it: v1::ConcludeExperimentRequest| {
            let _ = experiments::plan::number(&it.id);
            experiments::rpc::promotes(it.action).map(drop)
        }),
        "AssignRequest" => with(bytes, |it: v1::AssignRequest| unit(&it.unit)),
        "GetParametersRequest" => with(bytes, |it: v1::GetParametersRequest| unit(&it.unit)),
        "SetParameterRequest" => with(bytes, |it: v1::SetParameterRequest| {
            experiments::plan::wrong_parameter(&it.strategy, &it.name, &it.value)
        }),
        "RecordTradesRequest" => with(bytes, trades),
        "ListSegmentsRequest" => with(bytes, |it: v1::ListSegmentsRequest| {
            limited(it.limit, 1_000, 10_000)?;
            Logs::parse_range(&it.date_range).map(drop)
        }),
        "RetrieveLogsRequest" => with(bytes, |it: v1::RetrieveLogsRequest| {
            let _ = logs::plan::host_part(&it.host);
            Logs::parse_range(&it.date_range).map(drop)
        }),
        "HoldLogsRequest" => {
            with(bytes, |it: v1::HoldLogsRequest| Logs::parse_range(&it.date_range).map(drop))
        }
        "CleanupArchivesRequest" => with(bytes, |it: v1::CleanupArchivesRequest| {
            logs::rpc::older_than(&it.older_than).map(drop)
        }),
        "WatchMatrixRequest" => {
            with(bytes, |it: v1::WatchMatrixRequest| matrices::verbs::check_consumer(&it.consumer))
        }
        "PushSeriesRequest" => {
            with(bytes, |it: v1::PushSeriesRequest| series(matrices::rpc::values(it)))
        }
        "ReportMatrixOutcomesRequest" => {
            with(bytes, |it: v1::ReportMatrixOutcomesRequest| series(matrices::rpc::outcomes(it)))
        }
        "VerifyOplogRequest" => {
            with(bytes, |it: v1::VerifyOplogRequest| oplog::rpc::expected(it.expected).map(drop))
        }
        "GetOperationsReportRequest" => {
            with(bytes, |it: v1::GetOperationsReportRequest| month(&it.month))
        }
        "GetRemediationReportRequest" => {
            with(bytes, |it: v1::GetRemediationReportRequest| month(&it.month))
        }
        "ListRunsRequest" => with(bytes, |it: v1::ListRunsRequest| {
            let _ = stored_state(it.state());
            limited(it.limit, 50, 1_000).map(drop)
        }),
        _ => return Ok(None),
    };
    outcome.map(Some)
}

/// The request of a page of JSON, as a message: `path` as in [`super::routes::ROUTES`]. `None`: there is no such page.
pub fn query(path: &str, query: &str) -> Option<Result<Vec<u8>>> {
    let (input, _) = gateway::messages(find(path)?)?;
    Some(gateway::request(&input, &pairs(Some(query))).map(|message| message.encode_to_vec()))
}

fn with<M: Message + Default>(
    bytes: &[u8],
    of: impl FnOnce(M) -> Result<()>,
) -> Result<Result<()>, DecodeError> {
    M::decode(bytes).map(of)
}

fn lasts(text: &str) -> Result<()> {
    lasting(text, 30).map(drop)
}

fn unit(unit: &str) -> Result<()> {
    let wrong = experiments::plan::wrong_unit(unit);
    wrong.map_or(Ok(()), |why| Err(Error::invalid("UNIT_INVALID", why)))
}

fn month(month: &str) -> Result<()> {
    let now = Timestamp::from_second(NOW).unwrap_or_default();
    recovery::report::period(month, now, Timestamp::UNIX_EPOCH).map(drop)
}

fn check_config(request: v1::CheckConfigRequest) -> Result<()> {
    let places = Places { state: "/srv/state".into(), socket: "/srv/agent.sock".into() };
    let checked = Config::parse(&request.toml.unwrap_or_default(), "", &places);
    match checked.problems.first() {
        Some(problem) => Err(Error::invalid("CONFIG_INVALID", problem.what())),
        None => Ok(()),
    }
}

#[allow(clippy::needless_pass_by_value)] // As messages are decoded.
fn install(request: v1::InstallBackupCertificateRequest) -> Result<()> {
    let unusable = |why: String| Error::refused("CERTIFICATE_UNUSABLE", why, Vec::new());
    let chain = material::chain_alone(&request.fullchain).map_err(unusable)?;
    let now = Timestamp::from_second(NOW).unwrap_or_default();
    let names = ["localhost".to_owned(), "*.example.com".to_owned()];
    material::preflight((&chain, &request.key), &names, None, None, now).map(drop).map_err(unusable)
}

/// That nothing of a batch gets lost on the way to the writer, or what is wrong with it.
fn observe(request: v1::ObserveRequest) -> Result<()> {
    let batch = <Baselines as Taker>::batch(request);
    whole(<Baselines as Taker>::wrong(&batch))?;
    let rows: usize = batch.columns.iter().map(|column| column.times.len()).sum();
    let horizon = baselines::prepare::Horizon { now: NOW, oldest: NOW - KEPT, open: NOW - 300 };
    let prepared = baselines::prepare::prepare(batch, &horizon);
    let kept = prepared.shares.iter().map(|share| share.counted + share.rejected).sum::<u32>();
    told(rows, kept + prepared.late + prepared.ahead)
}

fn trades(request: v1::RecordTradesRequest) -> Result<()> {
    let batch = <Experiments as Taker>::batch(request);
    whole(<Experiments as Taker>::wrong(&batch))?;
    let rows: usize = batch.columns.iter().map(|column| column.ids.len()).sum();
    let record = ExperimentRecord {
        number: 1,
        variant_basis_points: 5_000,
        seed: "TEST_1".to_owned(),
        ..ExperimentRecord::default()
    };
    let known = BTreeMap::from([(1, Arc::new(record))]);
    let horizon = experiments::prepare::Horizon::at(NOW, KEPT);
    let prepared = experiments::prepare::prepare(batch, &known, horizon);
    let shares = prepared.shares.values();
    let kept: usize = shares.map(|it| it.rows.len() + it.late.len() + it.rejected as usize).sum();
    told(rows, prepared.unknown + u32::try_from(kept).unwrap_or(u32::MAX))
}

fn series(batch: matrices::prepare::Batch) -> Result<()> {
    use matrices::prepare::{Horizon, Sent, sift, wrong};

    whole(wrong(&batch))?;
    let Sent::Values(columns) = batch.sent else { return Ok(()) };
    let rows: usize = columns.iter().map(|column| column.times.len()).sum();
    let first_day = u32::try_from((NOW - KEPT) / 86_400).unwrap_or_default();
    let (kept, left) = sift(columns, Horizon::of(first_day, NOW), |name| name.starts_with('P'));
    let kept: usize = kept.iter().map(|(_, rows)| rows.len()).sum();
    let kept = u32::try_from(kept).unwrap_or(u32::MAX);
    told(rows, kept + left.missing + left.late + left.rejected)
}

fn whole(wrong: Option<String>) -> Result<()> {
    wrong.map_or(Ok(()), |why| Err(Error::invalid("BATCH_INVALID", why)))
}

/// Each row of a batch is answered for.
fn told(rows: usize, told: u32) -> Result<()> {
    match usize::try_from(told) == Ok(rows) {
        true => Ok(()),
        false => Err(Error::internal("BATCH_INVALID", format!("of {rows} rows {told} are told"))),
    }
}

/// Whatever is asked for is there with another value, so that a definition is looked at to its end.
fn create(request: v1::CreateExperimentRequest) -> Result<()> {
    let asked = experiments::rpc::asked(request.definition)?;
    let parameter = |name: &String| {
        let key = (asked.strategy.clone(), name.clone());
        let record = ParameterRecord {
            strategy: asked.strategy.clone(),
            name: name.clone(),
            version: 1,
            value: "another".to_owned(),
            ..ParameterRecord::default()
        };
        (key, record)
    };
    let parameters = asked.trials.iter().map(|(name, _)| parameter(name)).collect();
    let defined = experiments::plan::define(&asked, &parameters, std::iter::empty());
    let record = defined.map_err(|(code, why)| Error::invalid(code, why))?;
    let _ = experiments::plan::hash(&record);
    experiments::tally::Tally::new(&record)
        .map(drop)
        .map_err(|why| Error::internal("EXPERIMENT_INVALID", why))
}
