//! Everything that can be rolled back, that is practised, and that people hear of, put together.

use std::sync::Arc;

use crate::config::Places;
use crate::events::{Bell, Source};
use crate::fleet::Fleet;
use crate::operations::Operations;
use crate::operations::backup::Backup;
use crate::operations::backup::component::{DatabaseFamily, STATE, StateComponent};
use crate::operations::backup::rehearsal::{RestoreDrill, StateScratch};
use crate::operations::baselines::Baselines;
use crate::operations::baselines::component::BaselineFamily;
use crate::operations::certificates::component::CertificateFamily;
use crate::operations::certificates::{self, Certificates};
use crate::operations::config_component::{CONFIG, ConfigComponent};
use crate::operations::config_history::ConfigHistory;
use crate::operations::config_rehearsal::ConfigScratch;
use crate::operations::dependencies::Dependencies;
use crate::operations::dependencies::update::component::DependencyFamily;
use crate::operations::experiments::Experiments;
use crate::operations::experiments::component::ParameterFamily;
use crate::operations::health::Health;
use crate::operations::matrices::Matrices;
use crate::operations::matrices::component::{Component as Matrix, MATRIX};
use crate::operations::recovery::drill::{Drills, EmergencyDrill, RollbackDrill};
use crate::outside::{Clock, Outside};
use crate::rooms::AfterRollback;
use crate::runs::Runs;
use crate::runs::drill::{Rehearsal, Scratch};
use crate::runs::rollback::{Dispatcher, Family, Single};
use crate::scheduler::Scheduler;
use crate::server::tls::Tls;
use crate::state::State;

/// The rooms that have components.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Arc<ConfigHistory>,
    pub(super) certificates: &'a Arc<Certificates>,
    pub(super) matrices: &'a Arc<Matrices>,
    pub(super) baselines: &'a Arc<Baselines>,
    pub(super) experiments: &'a Arc<Experiments>,
    pub(super) dependencies: &'a Arc<Dependencies>,
    pub(super) backup: &'a Arc<Backup>,
    pub(super) health: &'a Arc<Health>,
    pub(super) places: &'a Places,
    pub(super) outside: &'a Outside,
}

/// Everybody who knows of conditions.
pub(super) fn sources(
    operations: &Operations,
    scheduler: &Scheduler,
    (tls, fleet): (&Option<Arc<Tls>>, &Arc<Fleet>),
) -> Vec<Arc<dyn Source>> {
    let mut sources: Vec<Arc<dyn Source>> = vec![
        Arc::clone(&operations.health) as _,
        Arc::clone(&operations.recovery) as _,
        Arc::clone(&operations.logs) as _,
        Arc::clone(&operations.breaker) as _,
        Arc::clone(&operations.baselines) as _,
        Arc::clone(&operations.experiments) as _,
        Arc::clone(&operations.matrices) as _,
        Arc::clone(&operations.dependencies) as _,
        Arc::clone(&operations.database) as _,
        Arc::clone(&operations.backup) as _,
        Arc::new(certificates::Told(Arc::clone(&operations.certificates))),
        Arc::clone(fleet) as _,
        Arc::new(scheduler.clone()),
    ];
    sources.extend(tls.clone().map(|tls| tls as Arc<dyn Source>));
    sources
}

/// The dispatcher over all of them.
pub(super) fn dispatcher(parts: &Parts<'_>, (state, clock): (State, Arc<dyn Clock>)) -> Dispatcher {
    let Parts { config, certificates, matrices, baselines, experiments, .. } = parts;
    // In the order in which they are listed.
    let families: Vec<Arc<dyn Family>> = vec![
        Arc::new(CertificateFamily(Arc::clone(certificates))),
        Arc::new(Single(MATRIX, Arc::new(Matrix(Arc::clone(matrices))))),
        Arc::new(BaselineFamily(Arc::clone(baselines))),
        Arc::new(ParameterFamily(Arc::clone(experiments))),
        Arc::new(DependencyFamily(Arc::clone(parts.dependencies))),
        Arc::new(Single(CONFIG, Arc::new(ConfigComponent(Arc::clone(config))))),
        Arc::new(DatabaseFamily(Arc::clone(parts.backup))),
        Arc::new(Single(STATE, Arc::new(StateComponent(Arc::clone(parts.backup))))),
    ];
    let after = AfterRollback::new(Arc::clone(parts.health), state.clone(), Arc::clone(&clock));
    let config = Arc::clone(config);
    let settled = Box::new(move || config.current().recovery.known_good_after);
    Dispatcher::new(families, (state, clock), settled, Arc::new(after))
}

/// Everything that is practised.
pub(super) fn drills(
    parts: &Parts<'_>,
    dispatcher: &Dispatcher,
    (state, runs, bell): (&State, &Runs, &Bell),
) -> Arc<Drills> {
    let recovery = parts.config.current().recovery.clone();
    let (outside, home) = (parts.outside, parts.places.drills());
    let wanted = recovery.drills.clone();
    let scratches: Vec<Arc<dyn Scratch>> = vec![
        Arc::new(ConfigScratch(Arc::clone(parts.config))),
        Arc::new(StateScratch(Arc::clone(parts.backup))),
    ];
    let rehearsals: Vec<Arc<dyn Rehearsal>> = vec![
        Arc::new(EmergencyDrill::new(state.clone(), outside.clone(), recovery, home.clone())),
        Arc::new(RestoreDrill(Arc::clone(parts.backup))),
        Arc::new(RollbackDrill::new(
            dispatcher.clone(),
            Arc::clone(&outside.clock),
            scratches,
            home.clone(),
        )),
    ];
    let (state, clock) = (state.clone(), Arc::clone(&outside.clock));
    Drills::new((state, clock, runs.clone(), bell.clone()), wanted, rehearsals, home)
}
