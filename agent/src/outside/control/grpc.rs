//! The control over gRPC.

use std::path::Path;
use std::time::Duration;

use genesis_proto::trading as wire;
use genesis_proto::trading::trading_control_client::TradingControlClient;
use tonic::Status;
use tonic::transport::Channel;

use super::super::dial::Resolver;
use super::super::probes::channel::{self, Authorities};

/// An answer is at most so long, in bytes.
const ANSWER_LIMIT: usize = 16 << 20;

pub(super) type Client = TradingControlClient<Channel>;

/// Whom the calls go to; each makes a connection of its own, so that one that hangs holds no other.
#[derive(Debug, Default)]
pub(super) struct Caller {
    resolver: Resolver,
    authorities: Authorities,
}

impl Caller {
    pub(super) async fn client(&self, target: &str, ca: Option<&Path>) -> Result<Client, String> {
        let roots = match target.starts_with("https://") {
            true => Some(self.authorities.trusted(ca).await?),
            false => None,
        };
        let connected = channel::connect(&self.resolver, target, roots).await;
        let channel = connected.map_err(|failure| failure.to_string())?;
        Ok(TradingControlClient::new(channel).max_decoding_message_size(ANSWER_LIMIT))
    }
}

/// What a call came to, within its time.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(late(limit)))
}

fn late(limit: Duration) -> String {
    format!("no answer within {limit:?}")
}

/// What went wrong with a call.
pub(super) fn failed(status: &Status) -> String {
    let message: String =
        status.message().chars().filter(|character| !character.is_control()).take(200).collect();
    format!("{:?}: {message}", status.code())
}

/// A request of the contract, with the call that takes it.
pub(super) trait Call: prost::Message + Default {
    /// The name of the call, and so of its messages.
    const NAME: &'static str;
    type Answer: prost::Message + Default;

    /// Sends it.
    fn send(self, client: &mut Client)
    -> impl Future<Output = Result<Self::Answer, Status>> + Send;
}

macro_rules! calls {
    ($($name:literal $request:ident $answer:ident $method:ident)*) => {
        $(impl Call for wire::$request {
            const NAME: &'static str = $name;
            type Answer = wire::$answer;

            async fn send(self, client: &mut Client) -> Result<Self::Answer, Status> {
                Ok(client.$method(self).await?.into_inner())
            }
        })*
    };
}

calls! {
    "Halt" HaltRequest HaltResponse halt
    "CancelAll" CancelAllRequest CancelAllResponse cancel_all
    "ClosePositions" ClosePositionsRequest ClosePositionsResponse close_positions
    "QueryOrders" QueryOrdersRequest QueryOrdersResponse query_orders
    "Positions" PositionsRequest PositionsResponse positions
    "Resume" ResumeRequest ResumeResponse resume
}
