//! How trades are sent.

use genesis_proto::v1::{Arm, RecordTradesRequest, RecordTradesResponse, TradeColumn};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::Trade;
use crate::push::{Wire, is_name};
use crate::{Client, Error, Kind};

/// `ExperimentService/RecordTrades`.
#[derive(Debug, Clone, Copy)]
pub enum Trades {}

impl Wire for Trades {
    type Item = Trade;
    type Column = TradeColumn;
    type Request = RecordTradesRequest;
    type Answer = RecordTradesResponse;
    type Sums = Sums;

    const WHAT: &'static str = "trades";
    /// With the longest ids and units these are some 3.5 MB, of the 4 MiB that a message has at most.
    const MOST: usize = 8_000;

    fn request(producer: String, sequence: u64, columns: Vec<TradeColumn>) -> RecordTradesRequest {
        RecordTradesRequest { producer, sequence, columns }
    }

    async fn open(
        client: Client,
        batches: ReceiverStream<RecordTradesRequest>,
    ) -> Result<Response<Streaming<RecordTradesResponse>>, Status> {
        client.experiments().record_trades(batches).await
    }

    fn rows(column: &TradeColumn) -> u64 {
        column.trade_id.len() as u64
    }

    fn sequence(answer: &RecordTradesResponse) -> u64 {
        answer.sequence
    }

    fn had_before(answer: &RecordTradesResponse) -> bool {
        answer.repeated_batch
    }

    fn column(experiment: &str, trades: Vec<Trade>) -> TradeColumn {
        let mut column = TradeColumn { experiment: experiment.to_owned(), ..Default::default() };
        // A column that says nothing of any trade is left out.
        let units = trades.iter().any(|trade| !trade.unit.is_empty());
        let arms = trades.iter().any(|trade| trade.arm != Arm::Unspecified);
        for trade in trades {
            column.trade_id.push(trade.id);
            column.unix_nanos.push(trade.at.0);
            column.pnl.push(trade.pnl);
            if units {
                column.unit.push(trade.unit);
            }
            if arms {
                column.arm.push(trade.arm.into());
            }
        }
        column
    }

    fn check(name: &str) -> Result<(), Error> {
        if is_name(name, 128) {
            return Ok(());
        }
        let message = format!("the experiment {name:?} is not 1 to 128 of a-z, A-Z, 0-9 and -_.:/");
        let next = "name one that `genesisctl experiment list` shows";
        Err(Error::invalid("EXPERIMENT_INVALID", message, next))
    }

    fn crowded(name: &str, most: usize) -> Error {
        let message = format!("there are {most} experiments already, and no room for {name}");
        let next = "report trades of experiments that `genesisctl experiment list` shows";
        Error::new(Kind::Invalid, "OUT_OF_RANGE", "TOO_MANY_EXPERIMENTS", message, next)
    }

    fn add(sums: &mut Sums, answer: &RecordTradesResponse) {
        sums.counted += u64::from(answer.counted);
        sums.duplicate += u64::from(answer.duplicate);
        sums.late += u64::from(answer.late);
        sums.rejected += u64::from(answer.rejected);
        sums.after_end += u64::from(answer.after_end);
        sums.unknown += u64::from(answer.unknown);
    }
}

/// What the agent says of trades.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sums {
    /// Those that count.
    pub counted: u64,
    /// Those whose id was there before.
    pub duplicate: u64,
    /// Those that are older than what ids are kept of, or than the experiment.
    pub late: u64,
    /// Those that are none for the agent.
    pub rejected: u64,
    /// Those of experiments that have ended.
    pub after_end: u64,
    /// Those of experiments that the agent does not know.
    pub unknown: u64,
}
