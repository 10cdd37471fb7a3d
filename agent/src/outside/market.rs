//! The trading system: whether trades are in progress that nothing must disturb.

use std::path::PathBuf;
use std::time::Duration;

use super::hooks::Hook;

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
