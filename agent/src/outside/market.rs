//! The trading system: whether trades are in progress that nothing must disturb.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use genesis_proto::trading::CriticalTradesRequest;
use genesis_proto::trading::trading_control_client::TradingControlClient;

use super::database::{Target, figures};
use super::dial::Resolver;
use super::hooks::{self, Hook};
use super::probes::channel::{self, Authorities};

/// An answer holds at most a hundred trades.
const ANSWER_LIMIT: usize = 1 << 20;
/// A query may take so long.
const QUERY: Duration = Duration::from_secs(5);

/// By what critical trades are told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TradesProbe {
    /// The configuration says that there are none by nature.
    Nobody,
    /// The one number that a query answers in the database it belongs to.
    Sql(String),
    /// The number that a command prints as its last line.
    Command(Hook),
    /// `genesis.trading.v1.TradingControl/CriticalTrades`.
    Grpc {
        /// "http://host:port", "https://host:port" or "unix:/path".
        target: String,
        /// PEM file of the authorities that may vouch for the server; `None` for those of the host.
        ca: Option<PathBuf>,
        /// How long the answer may take.
        timeout: Duration,
    },
}

/// What tells of trades; tests put a fake here.
#[async_trait]
pub trait Market: Send + Sync {
    /// How many critical trades are in progress, by this probe of the database. It takes no longer than the probe's own
    /// time.
    ///
    /// # Errors
    /// Why it can't be told, in words. Whatever is not clearly a number from 0 on is one of the reasons.
    async fn critical_trades(&self, probe: &TradesProbe, of: &Target) -> Result<f64, String>;
}

/// Asks whom the probe names.
#[derive(Debug, Default)]
pub struct RealMarket {
    resolver: Resolver,
    authorities: Authorities,
}

#[async_trait]
impl Market for RealMarket {
    async fn critical_trades(&self, probe: &TradesProbe, of: &Target) -> Result<f64, String> {
        let late = |limit: &Duration| format!("no answer within {limit:?}");
        match probe {
            TradesProbe::Nobody => Ok(0.0),
            TradesProbe::Sql(sql) => {
                let asked = figures::number(&of.engine, "trades", sql);
                tokio::time::timeout(QUERY, asked).await.map_err(|_| late(&QUERY))?
            }
            TradesProbe::Command(hook) => {
                let input = serde_json::json!({ "database": of.name });
                let output = hooks::run(hook, &input, &[]).await.map_err(|error| error.chain())?;
                let text = String::from_utf8_lossy(&output.stdout);
                if output.stdout.len() >= hooks::OUTPUT_LIMIT {
                    return Err("it prints too much for its last line to be seen".to_owned());
                }
                let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
                figures::parse(last.unwrap_or_default())
            }
            TradesProbe::Grpc { target, ca, timeout } => {
                let asked = self.ask(target, ca.as_deref());
                tokio::time::timeout(*timeout, asked).await.map_err(|_| late(timeout))?
            }
        }
    }
}

impl RealMarket {
    async fn ask(&self, target: &str, ca: Option<&Path>) -> Result<f64, String> {
        let roots = match target.starts_with("https://") {
            true => Some(self.authorities.trusted(ca).await?),
            false => None,
        };
        let connected = channel::connect(&self.resolver, target, roots).await;
        let channel = connected.map_err(|failure| failure.to_string())?;
        let mut client = TradingControlClient::new(channel).max_decoding_message_size(ANSWER_LIMIT);
        let answer = client.critical_trades(CriticalTradesRequest {}).await;
        let answer = answer
            .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?
            .into_inner();
        // Who names trades has some, whatever they count.
        Ok((answer.count as f64).max(answer.trades.len() as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::database::Engine;

    #[tokio::test]
    async fn a_command_that_says_no_clear_number_says_nothing() {
        let of = Target { name: "main".to_owned(), engine: Engine::Sqlite("/nowhere.db".into()) };
        let market = RealMarket::default();
        let ask = async |script: &str, timeout: u64| {
            let command = ["sh", "-c", script].map(str::to_owned).to_vec();
            let hook = Hook { command, timeout: Duration::from_millis(timeout) };
            market.critical_trades(&TradesProbe::Command(hook), &of).await
        };
        assert_eq!(ask("echo looking; echo 0; echo", 60_000).await, Ok(0.0));
        assert_eq!(ask("grep -q '\"database\":\"main\"' && echo 3", 60_000).await, Ok(3.0));
        for (script, timeout, why) in [
            ("true", 60_000, "no number"),
            ("echo none", 60_000, "no number"),
            ("echo -1", 60_000, "no number"),
            ("echo 0; exit 1", 60_000, "exit status: 1"),
            ("echo 0; sleep 300", 50, "was killed"),
            ("head -c 100000 /dev/zero; echo; echo 0", 60_000, "too much"),
        ] {
            let said = ask(script, timeout).await.unwrap_err();
            assert!(said.contains(why), "{script}: {said}");
        }
        assert_eq!(market.critical_trades(&TradesProbe::Nobody, &of).await, Ok(0.0));
        let sql = TradesProbe::Sql("SELECT 0".to_owned());
        let said = market.critical_trades(&sql, &of).await.unwrap_err();
        assert!(said.contains("unable to open"), "{said}");
        let grpc = |target: &str| TradesProbe::Grpc {
            target: target.to_owned(),
            ca: None,
            timeout: Duration::from_secs(5),
        };
        for target in ["unix:/nowhere.sock", "http://127.0.0.1:1"] {
            assert!(market.critical_trades(&grpc(target), &of).await.is_err(), "{target}");
        }
    }
}
