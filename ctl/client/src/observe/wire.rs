//! How observations are sent.

use genesis_proto::v1::{ObservationColumn, ObserveRequest, ObserveResponse};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::BATCH_LIMIT;
use crate::push::{Wire, is_name};
use crate::{Client, Error, Kind};

/// `BaselineService/Observe`.
#[derive(Debug, Clone, Copy)]
pub enum Observations {}

impl Wire for Observations {
    /// When the call ended, in nanoseconds since 1970, and how long it took, in seconds.
    type Item = (i64, f64);
    type Column = ObservationColumn;
    type Request = ObserveRequest;
    type Answer = ObserveResponse;
    type Sums = Sums;

    const WHAT: &'static str = "observations";
    const MOST: usize = BATCH_LIMIT;

    fn request(producer: String, sequence: u64, columns: Vec<ObservationColumn>) -> ObserveRequest {
        ObserveRequest { producer, sequence, columns }
    }

    async fn open(
        client: Client,
        batches: ReceiverStream<ObserveRequest>,
    ) -> Result<Response<Streaming<ObserveResponse>>, Status> {
        client.baselines().observe(batches).await
    }

    fn rows(column: &ObservationColumn) -> u64 {
        column.seconds.len() as u64
    }

    fn sequence(answer: &ObserveResponse) -> u64 {
        answer.sequence
    }

    fn had_before(answer: &ObserveResponse) -> bool {
        answer.duplicate
    }

    fn column(operation: &str, items: Vec<(i64, f64)>) -> ObservationColumn {
        ObservationColumn {
            operation: operation.to_owned(),
            unix_nanos: items.iter().map(|(at, _)| *at).collect(),
            seconds: items.iter().map(|(_, seconds)| *seconds).collect(),
        }
    }

    fn check(name: &str) -> Result<(), Error> {
        if is_name(name, 128) {
            return Ok(());
        }
        let message = format!("the operation {name:?} is not 1 to 128 of a-z, A-Z, 0-9 and -_.:/");
        Err(Error::invalid("OPERATION_INVALID", message, "choose another name for it"))
    }

    fn crowded(name: &str, most: usize) -> Error {
        let message = format!("there are {most} operations already, and no room for {name}");
        let next = "name operations by what they do, without ids and other values in the name";
        Error::new(Kind::Invalid, "OUT_OF_RANGE", "TOO_MANY_OPERATIONS", message, next)
    }

    fn add(sums: &mut Sums, answer: &ObserveResponse) {
        sums.counted += u64::from(answer.counted);
        sums.rejected += u64::from(answer.rejected);
        sums.late += u64::from(answer.late);
        sums.ahead += u64::from(answer.ahead);
        sums.crowded_out += u64::from(answer.crowded_out);
    }
}

/// What the agent says of observations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sums {
    /// Those that count.
    pub counted: u64,
    /// Those whose value is none: negative, infinite, no number.
    pub rejected: u64,
    /// Those that were older than what the agent keeps.
    pub late: u64,
    /// Those that lay in the future, by the agent's clock.
    pub ahead: u64,
    /// Those of new operations for which the agent has no room.
    pub crowded_out: u64,
}
