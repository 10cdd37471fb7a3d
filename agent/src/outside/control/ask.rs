//! The real desk: each call over gRPC or by the command, and its answer taken strictly.

use async_trait::async_trait;
use genesis_proto::trading as wire;

use super::answers;
use super::grpc::{Call, Caller, failed, within};
use super::{Book, Desk, Means, Order, Told};
use crate::outside::hooks::{self, Hook};

/// What a command may print, in bytes.
const OUTPUT_LIMIT: usize = 16 << 20;

/// Asks whom the means name.
#[derive(Debug, Default)]
pub struct RealDesk {
    caller: Caller,
}

impl RealDesk {
    async fn ask<C: Call + Send>(&self, by: &Means, request: C) -> Result<C::Answer, String> {
        match by {
            Means::Grpc { target, ca, timeout } => {
                let asked = async {
                    let mut client = self.caller.client(target, ca.as_deref()).await?;
                    request.send(&mut client).await.map_err(|status| failed(&status))
                };
                within(*timeout, asked).await
            }
            Means::Command(hook) => by_command(hook, &request).await,
        }
    }
}

async fn by_command<C: Call>(hook: &Hook, request: &C) -> Result<C::Answer, String> {
    let full = |suffix: &str| format!("genesis.trading.v1.{}{suffix}", C::NAME);
    let request =
        genesis_proto::to_json(&full("Request"), request).map_err(|error| error.to_string())?;
    let input = serde_json::json!({ "call": C::NAME, "request": request });
    let variables = [("CALL", C::NAME.to_owned())];
    let output = hooks::run_for_long_answers(hook, &input, &variables, OUTPUT_LIMIT).await;
    let output = output.map_err(|error| error.chain())?;
    if output.stdout.len() >= OUTPUT_LIMIT {
        return Err("it prints too much".to_owned());
    }
    genesis_proto::from_json(&full("Response"), &output.stdout)
        .map_err(|error| format!("its answer is no {}Response: {error}", C::NAME))
}

/// What a venue has by what a command prints: for tests that have it print anything.
///
/// # Errors
/// As [`Desk::book`].
pub fn book_printed(printed: &[u8], venue: &str) -> Result<Book, String> {
    let answer = genesis_proto::from_json("genesis.trading.v1.PositionsResponse", printed);
    answers::book(answer.map_err(|error| error.to_string())?, venue)
}

/// What became of orders by what a command prints: for tests that have it print anything.
///
/// # Errors
/// As [`Desk::query`].
pub fn orders_printed(printed: &[u8], ids: &[&str]) -> Result<Vec<Told>, String> {
    let answer: wire::QueryOrdersResponse =
        genesis_proto::from_json("genesis.trading.v1.QueryOrdersResponse", printed)
            .map_err(|error| error.to_string())?;
    answers::told(answer.orders, ids)
}

#[async_trait]
impl Desk for RealDesk {
    async fn halt(&self, by: &Means, epoch: u64, reason: &str) -> Result<(), String> {
        let answer = self.ask(by, wire::HaltRequest { epoch, reason: reason.to_owned() }).await?;
        match answer.halted {
            true => Ok(()),
            false => Err("it says that orders may still leave".to_owned()),
        }
    }

    async fn cancel(
        &self,
        by: &Means,
        epoch: u64,
        venue: &str,
        protective_too: bool,
    ) -> Result<u64, String> {
        let request = wire::CancelAllRequest { epoch, venue: venue.to_owned(), protective_too };
        Ok(self.ask(by, request).await?.left)
    }

    async fn close(
        &self,
        by: &Means,
        epoch: u64,
        venue: &str,
        orders: &[Order],
    ) -> Result<Vec<Told>, String> {
        let order = |order: &Order| wire::ClosingOrder {
            symbol: order.symbol.clone(),
            client_order_id: order.id.clone(),
            quantity: order.quantity.to_string(),
        };
        let request = wire::ClosePositionsRequest {
            epoch,
            venue: venue.to_owned(),
            orders: orders.iter().map(order).collect(),
        };
        let ids: Vec<&str> = orders.iter().map(|order| order.id.as_str()).collect();
        answers::told(self.ask(by, request).await?.orders, &ids)
    }

    async fn query(&self, by: &Means, venue: &str, ids: &[String]) -> Result<Vec<Told>, String> {
        let request =
            wire::QueryOrdersRequest { venue: venue.to_owned(), client_order_ids: ids.to_vec() };
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        answers::told(self.ask(by, request).await?.orders, &ids)
    }

    async fn book(&self, by: &Means, venue: &str) -> Result<Book, String> {
        let request = wire::PositionsRequest { venue: venue.to_owned() };
        answers::book(self.ask(by, request).await?, venue)
    }

    async fn resume(&self, by: &Means, epoch: u64, reason: &str) -> Result<(), String> {
        let request = wire::ResumeRequest { epoch, reason: reason.to_owned() };
        match self.ask(by, request).await?.trading {
            true => Ok(()),
            false => Err("it says that it does not trade".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_command_is_given_the_request_and_prints_the_answer() {
        let desk = RealDesk::default();
        let by = |script: &str, timeout: u64| {
            let command = ["sh", "-c", script].map(str::to_owned).to_vec();
            Means::Command(Hook { command, timeout: Duration::from_millis(timeout) })
        };
        let halted = r#"grep -q '"call":"Halt".*"epoch":"7"' && echo '{"halted": true}'"#;
        assert_eq!(desk.halt(&by(halted, 60_000), 7, "why").await, Ok(()));
        let by_name = r#"test $GENESIS_CALL = CancelAll && echo '{"cancelled": "2", "left": 1}'"#;
        assert_eq!(desk.cancel(&by(by_name, 60_000), 7, "a", true).await, Ok(1));
        let book = r#"echo '{"venues": ["a"], "positions":
            [{"venue": "a", "symbol": "X", "quantity": "-0.5"}]}'"#;
        let book = desk.book(&by(book, 60_000), "a").await.unwrap();
        assert_eq!(book.positions[0].quantity.to_string(), "-0.5");
        for (script, timeout, why) in [
            ("echo '{}'", 60_000, "may still leave"),
            ("true", 60_000, "no HaltResponse"),
            ("echo halted", 60_000, "no HaltResponse"),
            (r#"echo '{"halted": true}'; exit 1"#, 60_000, "exit status: 1"),
            (r#"echo '{"halted": true, "odd": 1}'"#, 60_000, "no HaltResponse"),
            (r#"echo '{"halted": true}{"halted": true}'"#, 60_000, "no HaltResponse"),
            ("sleep 300", 50, "was killed"),
        ] {
            let said = desk.halt(&by(script, timeout), 7, "why").await.unwrap_err();
            assert!(said.contains(why), "{script}: {said}");
        }
        let nowhere = Means::Grpc {
            target: "unix:/nowhere.sock".to_owned(),
            ca: None,
            timeout: Duration::from_secs(5),
        };
        assert!(desk.halt(&nowhere, 7, "why").await.is_err());
    }
}
