//! The registry of operations: one folder each, the same file names everywhere.

use crate::emergency::Stance;
use crate::scheduler::Job;
use std::sync::Arc;

pub mod backup;
pub mod baselines;
pub mod breaker;
pub mod certificates;
mod config_changes;
pub mod config_component;
pub mod config_history;
pub mod config_rehearsal;
pub mod database;
pub mod dependencies;
pub mod experiments;
pub mod health;
pub mod logs;
pub mod matrices;
pub mod recovery;
pub mod storage;
pub mod vitals;

/// Every operation of this agent. Whoever walks it destructures it without `..`, so that an operation
/// that is not wired up is an error of the compiler.
#[derive(Clone)]
pub struct Operations {
    /// Log archival.
    pub logs: Arc<logs::Logs>,
    /// Checks and remediation.
    pub health: Arc<health::Health>,
    /// Circuit breakers.
    pub breaker: Arc<breaker::Breakers>,
    /// Care of databases.
    pub database: Arc<database::Databases>,
    /// Performance baselines.
    pub baselines: Arc<baselines::Baselines>,
    /// Strategy A/B tests, and parameters.
    pub experiments: Arc<experiments::Experiments>,
    /// Correlation matrices, and series.
    pub matrices: Arc<matrices::Matrices>,
    /// What applications are built of.
    pub dependencies: Arc<dependencies::Dependencies>,
    /// Backups.
    pub backup: Arc<backup::Backup>,
    /// Certificates.
    pub certificates: Arc<certificates::Certificates>,
    /// Emergency and rollback.
    pub recovery: Arc<recovery::Recovery>,
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
        let Self {
            logs,
            health: _,
            breaker: _,
            database,
            baselines,
            experiments,
            matrices,
            dependencies,
            backup,
            certificates,
            recovery,
            storage,
            config: _,
            vitals: _,
        } = self;
        let mut jobs = logs::job::jobs(logs);
        jobs.extend(database::job::jobs(database));
        jobs.extend(baselines::job::jobs(baselines));
        jobs.extend(experiments::job::jobs(experiments));
        jobs.extend(matrices::job::jobs(matrices));
        jobs.extend(dependencies::job::jobs(dependencies));
        jobs.push(Arc::new(backup::job::Due(Arc::clone(backup))));
        jobs.push(Arc::new(certificates::job::Check(Arc::clone(certificates))));
        jobs.push(Arc::new(recovery::drill::DueDrills(Arc::clone(&recovery.drills))));
        jobs.push(Arc::new(storage::Compact::new(Arc::clone(storage))));
        jobs
    }

    /// Each kind of job, run and action by hand, with what it does while an emergency is in force.
    pub fn stances(&self) -> Vec<(&'static str, Stance)> {
        let mut stances: Vec<_> =
            self.jobs().iter().map(|job| (job.name(), job.stance())).collect();
        stances.extend(logs::RUN_KINDS);
        stances.extend(database::RUN_KINDS);
        stances.extend(baselines::job::RUN_KINDS);
        stances.extend(experiments::job::RUN_KINDS);
        stances.extend(matrices::job::RUN_KINDS);
        stances.extend(dependencies::job::RUN_KINDS);
        stances.extend(health::run_kinds());
        stances.extend(backup::RUN_KINDS);
        stances.extend(certificates::RUN_KINDS);
        stances.extend(recovery::BY_HAND);
        stances.extend(recovery::drill::RUN_KINDS);
        stances.sort_unstable_by_key(|(kind, _)| *kind);
        // A job and what people start by hand may be of one kind.
        stances.dedup();
        stances
    }
}
