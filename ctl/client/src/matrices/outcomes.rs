//! How outcomes are sent.

use genesis_proto::v1::{OutcomeColumn, ReportMatrixOutcomesRequest, ReportMatrixOutcomesResponse};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::check;
use crate::push::{self, PusherOptions, UnixNanos, Wire};
use crate::{Client, Error, Kind, clock};

/// The most outcomes of a batch.
pub const BATCH_LIMIT: usize = 100_000;

/// Batches of outcomes on their way to an agent.
pub type OutcomeStream = push::BatchStream<Outcomes>;

/// Sends outcomes in the background, as long as it lives. What is still kept when it is dropped is lost:
/// [`close`](push::Pusher::close) waits for it. To be started with [`options`]: its producer is the consumer.
pub type OutcomePusher = push::Pusher<Outcomes>;

/// What reports, for an [`OutcomePusher`].
pub type OutcomeRecorder = push::Recorder<Outcomes>;

/// A version of the matrix, outcomes with which are reported.
pub type VersionOutcomes = push::Named<Outcomes>;

/// What became of a batch.
pub type Settled = push::Settled<ReportMatrixOutcomesResponse>;

/// What became of the outcomes so far.
pub type OutcomeStats = push::Stats<Sums>;

/// How an [`OutcomePusher`] of this consumer works, unless it is told otherwise: as one of observations, but under the
/// consumer's id, and keeps at most 100,000 outcomes.
///
/// The id is the same over restarts, and batches of one producer count in the order of their sequence. So that those of a
/// program that was restarted count, sequences begin with the nanoseconds since 1970. Where the clock was put back, or where
/// two programs have one id, the agent takes batches for such that it had: they are told in
/// [`had_before`](push::Stats::had_before), with the error `SEQUENCE_REPEATED`.
///
/// # Errors
/// `Invalid` when `consumer` is not 1 to 64 of a-z, A-Z, 0-9 and -_.:/
pub fn options(consumer: &str) -> Result<PusherOptions, Error> {
    check(consumer)?;
    let now = clock::wall();
    let nanos = i128::from(now.seconds) * 1_000_000_000 + i128::from(now.nanos);
    Ok(PusherOptions {
        producer: Some(consumer.to_owned()),
        first_sequence: u64::try_from(nanos).unwrap_or(1).max(1),
        capacity: 100_000,
        ..PusherOptions::default()
    })
}

impl OutcomeRecorder {
    /// A version of the matrix, to report outcomes with it without a look-up.
    ///
    /// # Errors
    /// `Invalid` when `version` is 0, or the versions are more than 10,000.
    pub fn version(&self, version: u64) -> Result<VersionOutcomes, Error> {
        self.named(&version.to_string())
    }

    /// Reports what came `at` a time of using the matrix `version`; the more the better. `false`: it was dropped, because
    /// there is no room, `value` is no number, or the version is 0; it is counted.
    pub fn report(&self, version: u64, at: impl Into<UnixNanos>, value: f64) -> bool {
        match finite(value) {
            Ok(value) => self.take(&version.to_string(), (at.into().0, value)),
            Err(error) => self.refuse(error),
        }
    }
}

impl VersionOutcomes {
    /// Reports what came `at` a time of using the matrix; the more the better. `false`: it was dropped, because there is
    /// no room, or `value` is no number; it is counted.
    pub fn report(&self, at: impl Into<UnixNanos>, value: f64) -> bool {
        match finite(value) {
            Ok(value) => self.take((at.into().0, value)),
            Err(error) => self.refuse(error),
        }
    }
}

fn finite(value: f64) -> Result<f64, Error> {
    if value.is_finite() {
        return Ok(value);
    }
    let message = format!("the outcome {value} is no number");
    Err(Error::invalid("OUTCOME_INVALID", message, "mend the program that reports it"))
}

/// `MatrixService/ReportMatrixOutcomes`. A column has the version as its name, in decimal.
#[derive(Debug, Clone, Copy)]
pub enum Outcomes {}

impl Wire for Outcomes {
    /// When it was, in nanoseconds since 1970, and how it went.
    type Item = (i64, f64);
    type Column = OutcomeColumn;
    type Request = ReportMatrixOutcomesRequest;
    type Answer = ReportMatrixOutcomesResponse;
    type Sums = Sums;

    const WHAT: &'static str = "outcomes";
    const MOST: usize = BATCH_LIMIT;

    fn request(
        producer: String,
        sequence: u64,
        columns: Vec<OutcomeColumn>,
    ) -> ReportMatrixOutcomesRequest {
        ReportMatrixOutcomesRequest { producer, sequence, columns }
    }

    async fn open(
        client: Client,
        batches: ReceiverStream<ReportMatrixOutcomesRequest>,
    ) -> Result<Response<Streaming<ReportMatrixOutcomesResponse>>, Status> {
        client.matrices().report_matrix_outcomes(batches).await
    }

    fn rows(column: &OutcomeColumn) -> u64 {
        column.value.len() as u64
    }

    fn sequence(answer: &ReportMatrixOutcomesResponse) -> u64 {
        answer.sequence
    }

    fn had_before(answer: &ReportMatrixOutcomesResponse) -> bool {
        answer.repeated_batch
    }

    fn column(version: &str, items: Vec<(i64, f64)>) -> OutcomeColumn {
        let (unix_nanos, value) = items.into_iter().unzip();
        // It was looked at when the column was made.
        OutcomeColumn { version: number(version).unwrap_or_default(), unix_nanos, value }
    }

    fn check(version: &str) -> Result<(), Error> {
        if number(version).is_some() {
            return Ok(());
        }
        let message = format!("no matrix has the version {version}");
        let next = "report by the version of the matrix that was used";
        Err(Error::invalid("OUTCOME_INVALID", message, next))
    }

    fn crowded(version: &str, most: usize) -> Error {
        let message = format!("outcomes with {most} versions were reported, {version} is one more");
        let next = "start the program again";
        Error::new(Kind::Invalid, "OUT_OF_RANGE", "TOO_MANY_VERSIONS", message, next)
    }

    fn add(sums: &mut Sums, answer: &ReportMatrixOutcomesResponse) {
        sums.counted += u64::from(answer.counted);
        sums.late += u64::from(answer.late);
        sums.other_version += u64::from(answer.other_version);
        sums.rejected += u64::from(answer.rejected);
    }
}

fn number(version: &str) -> Option<u64> {
    version.parse().ok().filter(|version| *version > 0)
}

/// What the agent says of outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sums {
    /// Those that the stage of a rollout is judged by.
    pub counted: u64,
    /// Those from before the stage.
    pub late: u64,
    /// Those of versions that are not on trial; all, while no rollout goes on.
    pub other_version: u64,
    /// Those that are none.
    pub rejected: u64,
}
