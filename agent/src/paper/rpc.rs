//! The contract: from messages to calls and back.

use std::sync::Arc;

use genesis_proto::trading::trading_control_server::{TradingControl, TradingControlServer};
use genesis_proto::trading::{
    self as wire, CancelAllRequest, CancelAllResponse, ClosePositionsRequest,
    ClosePositionsResponse, CriticalTradesRequest, CriticalTradesResponse, HaltRequest,
    HaltResponse, PositionsRequest, PositionsResponse, QueryOrdersRequest, QueryOrdersResponse,
    ResumeRequest, ResumeResponse,
};
use jiff::Timestamp;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{Request, Response, Status};

use super::book::{Critical, OpenOrder, OrderState};
use super::desk::{self, Became, Closing, Holdings, Refusal};
use super::faults::Call;
use super::serve::Listener;
use super::venue::{Answer, Asked, PaperVenue};

mod junk;

/// A request of a thousand orders with the longest names has less.
const REQUEST_LIMIT: usize = 1 << 20;
/// The answer about all venues at most.
const ANSWER_LIMIT: usize = 16 << 20;
/// So many trades are listed.
const LISTED: usize = 100;

/// Serves until its listener breaks.
///
/// # Errors
/// Why it broke.
pub(super) async fn serve(listener: Listener, venue: Arc<PaperVenue>) -> Result<(), String> {
    let service = TradingControlServer::new(Service(venue))
        .max_decoding_message_size(REQUEST_LIMIT)
        .max_encoding_message_size(ANSWER_LIMIT);
    let server = tonic::transport::Server::builder().add_service(service);
    let outcome = match listener {
        Listener::Unix(unix) => server.serve_with_incoming(UnixListenerStream::new(unix)).await,
        Listener::Tcp(tcp) => server.serve_with_incoming(TcpListenerStream::new(tcp)).await,
    };
    outcome.map_err(|error| error.to_string())
}

struct Service(Arc<PaperVenue>);

fn status(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Invalid(why) => Status::invalid_argument(why),
        Refusal::NotNow(why) => Status::failed_precondition(why),
        Refusal::NotFound(why) => Status::not_found(why),
        Refusal::Full(why) => Status::resource_exhausted(why),
        Refusal::Away(why) => Status::unavailable(why),
        Refusal::Broken(why) => Status::internal(why),
    }
}

/// The answer in the words of the contract, or in words that make no sense.
fn told<T, M>(
    answer: Result<Answer<T>, Refusal>,
    say: impl FnOnce(T) -> M,
    spoil: impl FnOnce(&mut M),
) -> Result<Response<M>, Status> {
    let Answer { truth, junk } = answer.map_err(status)?;
    let mut message = say(truth);
    if junk {
        spoil(&mut message);
    }
    Ok(Response::new(message))
}

fn asked(call: Call, venue: &str, epoch: Option<u64>, ids: Vec<String>) -> Asked {
    Asked { call, venue: venue.to_owned(), epoch, ids }
}

fn instant(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

fn state(state: Option<OrderState>) -> wire::OrderState {
    match state {
        None => wire::OrderState::Unknown,
        Some(OrderState::Open) => wire::OrderState::Open,
        Some(OrderState::Filled) => wire::OrderState::Filled,
        Some(OrderState::Cancelled) => wire::OrderState::Cancelled,
        Some(OrderState::Rejected) => wire::OrderState::Rejected,
    }
}

fn statuses(became: Vec<Became>) -> Vec<wire::OrderStatus> {
    let say = |order: Became| wire::OrderStatus {
        client_order_id: order.id,
        state: state(order.state).into(),
        filled: order.filled.to_string(),
        why: order.why,
    };
    became.into_iter().map(say).collect()
}

fn critical(trade: &Critical) -> wire::CriticalTrade {
    wire::CriticalTrade {
        id: trade.id.clone(),
        venue: trade.venue.clone(),
        symbol: trade.symbol.clone(),
        reason: trade.reason.clone(),
        since: trade.since.map(instant),
    }
}

fn open((venue, order): (String, OpenOrder)) -> wire::OpenOrder {
    wire::OpenOrder {
        venue,
        symbol: order.symbol,
        client_order_id: order.client_order_id,
        quantity: order.quantity.to_string(),
        filled: order.filled.to_string(),
        protective: order.protective,
    }
}

fn positions(held: Holdings, as_of: Timestamp) -> PositionsResponse {
    let position = |(venue, symbol, quantity): (String, String, super::quantity::Quantity)| {
        wire::Position { venue, symbol, quantity: quantity.to_string() }
    };
    PositionsResponse {
        positions: held.positions.into_iter().map(position).collect(),
        orders: held.orders.into_iter().map(open).collect(),
        unreachable: held.unreachable,
        as_of: Some(instant(as_of)),
        venues: held.venues,
    }
}

#[tonic::async_trait]
impl TradingControl for Service {
    async fn critical_trades(
        &self,
        _: Request<CriticalTradesRequest>,
    ) -> Result<Response<CriticalTradesResponse>, Status> {
        let asked = asked(Call::CriticalTrades, "", None, Vec::new());
        let answer = self.0.call(asked, |book, _, _| Ok(book.critical.clone())).await;
        let say = |trades: Vec<Critical>| CriticalTradesResponse {
            count: trades.len() as u64,
            trades: trades.iter().take(LISTED).map(critical).collect(),
        };
        told(answer, say, junk::critical_trades)
    }

    async fn halt(&self, request: Request<HaltRequest>) -> Result<Response<HaltResponse>, Status> {
        let HaltRequest { epoch, .. } = request.into_inner();
        let asked = asked(Call::Halt, "", Some(epoch), Vec::new());
        let answer = self.0.call(asked, move |book, _, now| desk::halt(book, epoch, now)).await;
        let say = |since| HaltResponse { halted: true, since: Some(instant(since)) };
        told(answer, say, junk::halt)
    }

    async fn cancel_all(
        &self,
        request: Request<CancelAllRequest>,
    ) -> Result<Response<CancelAllResponse>, Status> {
        let CancelAllRequest { epoch, venue, protective_too } = request.into_inner();
        let asked = asked(Call::CancelAll, &venue, Some(epoch), Vec::new());
        let answer = self.0.call(asked, move |book, manner, _| {
            desk::cancel_all(book, (epoch, &venue), protective_too, manner)
        });
        let say = |(cancelled, left)| CancelAllResponse { cancelled, left };
        told(answer.await, say, junk::cancel_all)
    }

    async fn close_positions(
        &self,
        request: Request<ClosePositionsRequest>,
    ) -> Result<Response<ClosePositionsResponse>, Status> {
        let ClosePositionsRequest { epoch, venue, orders } = request.into_inner();
        let ids = orders.iter().map(|order| order.client_order_id.clone()).collect();
        let asked = asked(Call::ClosePositions, &venue, Some(epoch), ids);
        let answer = self.0.call(asked, move |book, manner, _| {
            let read = |order: wire::ClosingOrder| {
                let quantity = order.quantity.parse();
                let quantity = quantity.map_err(|why: super::quantity::NoQuantity| {
                    Refusal::Invalid(format!("order {}: {why}", order.client_order_id))
                })?;
                Ok(Closing { symbol: order.symbol, id: order.client_order_id, quantity })
            };
            let orders: Vec<Closing> = orders.into_iter().map(read).collect::<Result<_, _>>()?;
            desk::close(book, (epoch, &venue), &orders, manner)
        });
        let say = |became| ClosePositionsResponse { orders: statuses(became) };
        told(answer.await, say, |answer| junk::statuses(&mut answer.orders))
    }

    async fn query_orders(
        &self,
        request: Request<QueryOrdersRequest>,
    ) -> Result<Response<QueryOrdersResponse>, Status> {
        let QueryOrdersRequest { venue, client_order_ids: ids } = request.into_inner();
        let asked = asked(Call::QueryOrders, &venue, None, ids.clone());
        let answer = self.0.call(asked, move |book, _, _| desk::query(book, &venue, &ids)).await;
        let say = |became| QueryOrdersResponse { orders: statuses(became) };
        told(answer, say, |answer| junk::statuses(&mut answer.orders))
    }

    async fn positions(
        &self,
        request: Request<PositionsRequest>,
    ) -> Result<Response<PositionsResponse>, Status> {
        let answer = self.0.positions(request.into_inner().venue).await;
        let now = self.0.now();
        told(answer, |held| positions(held, now), junk::positions)
    }

    async fn resume(
        &self,
        request: Request<ResumeRequest>,
    ) -> Result<Response<ResumeResponse>, Status> {
        let ResumeRequest { epoch, .. } = request.into_inner();
        let asked = asked(Call::Resume, "", Some(epoch), Vec::new());
        let answer = self.0.call(asked, move |book, _, _| desk::resume(book, epoch)).await;
        told(answer, |()| ResumeResponse { trading: true }, junk::resume)
    }
}
