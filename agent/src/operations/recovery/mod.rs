//! Recovery: the emergency flag as people use it, and rollback of whatever keeps generations.

use std::sync::Arc;

use crate::emergency::{Emergency, Stance};
use crate::outside::Clock;
use crate::runs::rollback::Dispatcher;

pub mod config;
pub mod rpc;

pub use config::Contacts;

/// Rollback, and config reload: what people do by hand during an emergency is part of ending it.
pub const BY_HAND: [(&str, Stance); 2] =
    [("config.reload", Stance::GoOn), ("rollback", Stance::GoOn)];

/// Recovery of this host.
pub struct Recovery {
    /// Everything that can be rolled back.
    pub dispatcher: Dispatcher,
    /// The flag.
    pub emergency: Emergency,
    /// Whom to call.
    pub contacts: Contacts,
    /// Time for the oplog.
    pub clock: Arc<dyn Clock>,
}
