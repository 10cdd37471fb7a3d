//! The registry of operations: one folder each, the same file names everywhere.

use crate::scheduler::Job;
use std::sync::Arc;

pub mod config_history;
pub mod logs;
pub mod storage;
pub mod vitals;

/// Every operation of this agent. Whoever walks it destructures it without `..`, so that an operation
/// that is not wired up is an error of the compiler.
#[derive(Clone)]
pub struct Operations {
    /// Log archival.
    pub logs: Arc<logs::Logs>,
    /// Care of the embedded database.
    pub storage: Arc<storage::StorageCare>,
    /// The generations of the configuration.
    pub config: Arc<config_history::ConfigHistory>,
    /// The agent's own footprint.
    pub vitals: Arc<vitals::Vitals>,
}

impl Operations {
    /// What runs by itself at set times.
    pub fn jobs(&self) -> Vec<Arc<dyn Job>> {
        let Self { logs, storage, config: _, vitals: _ } = self;
        let mut jobs = logs::job::jobs(logs);
        jobs.push(Arc::new(storage::Compact::new(Arc::clone(storage))));
        jobs
    }
}
