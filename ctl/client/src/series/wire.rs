//! How values are sent.

use genesis_proto::v1::{PushSeriesRequest, PushSeriesResponse, SeriesColumn};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{BATCH_LIMIT, NAME_LIMIT};
use crate::push::{Wire, is_name};
use crate::{Client, Error, Kind};

/// `SeriesService/PushSeries`.
#[derive(Debug, Clone, Copy)]
pub enum Values {}

impl Wire for Values {
    /// Of when the value is, in nanoseconds since 1970, and the value.
    type Item = (i64, f64);
    type Column = SeriesColumn;
    type Request = PushSeriesRequest;
    type Answer = PushSeriesResponse;
    type Sums = Sums;

    const WHAT: &'static str = "values";
    const MOST: usize = BATCH_LIMIT;

    fn request(producer: String, sequence: u64, columns: Vec<SeriesColumn>) -> PushSeriesRequest {
        PushSeriesRequest { producer, sequence, columns }
    }

    async fn open(
        client: Client,
        batches: ReceiverStream<PushSeriesRequest>,
    ) -> Result<Response<Streaming<PushSeriesResponse>>, Status> {
        client.series().push_series(batches).await
    }

    fn rows(column: &SeriesColumn) -> u64 {
        column.value.len() as u64
    }

    fn sequence(answer: &PushSeriesResponse) -> u64 {
        answer.sequence
    }

    fn had_before(answer: &PushSeriesResponse) -> bool {
        answer.repeated_batch
    }

    fn column(series: &str, items: Vec<(i64, f64)>) -> SeriesColumn {
        let (unix_nanos, value) = items.into_iter().unzip();
        SeriesColumn { series: series.to_owned(), unix_nanos, value }
    }

    fn check(name: &str) -> Result<(), Error> {
        if is_name(name, NAME_LIMIT) {
            return Ok(());
        }
        let message = format!("the series {name:?} is not 1 to 64 of a-z, A-Z, 0-9 and -_.:/");
        Err(Error::invalid("SERIES_INVALID", message, "choose another name for it"))
    }

    fn crowded(name: &str, most: usize) -> Error {
        let message = format!("there are {most} series already, and no room for {name}");
        let next = "name series by what they are of, without times and other values in the name";
        Error::new(Kind::Invalid, "OUT_OF_RANGE", "TOO_MANY_SERIES", message, next)
    }

    fn add(sums: &mut Sums, answer: &PushSeriesResponse) {
        sums.counted += u64::from(answer.counted);
        sums.superseded += u64::from(answer.superseded);
        sums.missing += u64::from(answer.missing);
        sums.late += u64::from(answer.late);
        sums.rejected += u64::from(answer.rejected);
        sums.unknown += u64::from(answer.unknown);
    }
}

/// What the agent says of values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sums {
    /// Those that were the last of their bucket when their batch came.
    pub counted: u64,
    /// Those before the last of their bucket.
    pub superseded: u64,
    /// Those that are no numbers: they are missing.
    pub missing: u64,
    /// Those that are older than the window.
    pub late: u64,
    /// Those that are none: a time in the future, a price that is not above 0.
    pub rejected: u64,
    /// Those of series for which there is no room.
    pub unknown: u64,
}
