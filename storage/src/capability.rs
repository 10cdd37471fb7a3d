//! What a closure may do: [`Reading`] reads, [`Writing`] also makes audited writes,
//! [`Bookkeeping`] also makes the few writes that need no oplog entry. The last two deref to the
//! first, so that code that only reads takes `&Reading` and serves all three.

use std::ops::Deref;
use std::sync::atomic::AtomicBool;

use redb::{ReadTransaction, WriteTransaction};

use crate::tables::alerts::{Alerts, AlertsBookkeeping, AlertsWriting};
use crate::tables::backups::{Backups, BackupsWriting};
use crate::tables::baselines::{Baselines, BaselinesWriting};
use crate::tables::breakers::{Breakers, BreakersBookkeeping, BreakersWriting};
use crate::tables::care::{Care, CareWriting};
use crate::tables::certificates::{Certificates, CertificatesBookkeeping, CertificatesWriting};
use crate::tables::configs::{Configs, ConfigsWriting};
use crate::tables::dependencies::{
    DependencyStates, DependencyStatesBookkeeping, DependencyStatesWriting,
};
use crate::tables::drills::{Drills, DrillsWriting};
use crate::tables::emergency::{Emergencies, EmergenciesWriting};
use crate::tables::emergency_course::{Courses, CoursesWriting};
use crate::tables::experiments::{Experiments, ExperimentsWriting};
use crate::tables::fleet::{Fleets, FleetsWriting};
use crate::tables::gaps::{Gaps, GapsWriting};
use crate::tables::health::{Health, HealthBookkeeping, HealthWriting};
use crate::tables::holds::{Holds, HoldsWriting};
use crate::tables::identity::{Identities, IdentitiesWriting};
use crate::tables::incidents::{Incidents, IncidentsWriting};
use crate::tables::jobs::{Jobs, JobsBookkeeping, JobsWriting};
use crate::tables::matrices::{Matrices, MatricesWriting};
use crate::tables::oplog::Oplog;
use crate::tables::parameters::{Parameters, ParametersWriting};
use crate::tables::requests::{Requests, RequestsBookkeeping};
use crate::tables::rollbacks::{Rollbacks, RollbacksWriting};
use crate::tables::runs::{Runs, RunsBookkeeping, RunsWriting};
use crate::tables::segments::{Segments, SegmentsWriting};
use crate::tables::series::Series;
use crate::tables::sources::{Sources, SourcesWriting};
use crate::tables::tallies::{Tallies, TalliesWriting};
use crate::view::{Sink, Source};

/// Reads of one consistent state.
#[derive(Clone, Copy)]
pub struct Reading<'t> {
    source: Source<'t>,
}

impl<'t> Reading<'t> {
    pub(crate) fn new(transaction: &'t ReadTransaction, failed: &'t AtomicBool) -> Self {
        Self { source: Source::new(transaction, failed) }
    }

    /// Who this host is.
    pub fn identity(&self) -> Identities<'t> {
        Identities::new(self.source)
    }

    /// The emergency flag.
    pub fn emergency(&self) -> Emergencies<'t> {
        Emergencies::new(self.source)
    }

    /// What became of trading in the latest emergency.
    pub fn course(&self) -> Courses<'t> {
        Courses::new(self.source)
    }

    /// Requests by their id.
    pub fn requests(&self) -> Requests<'t> {
        Requests::new(self.source)
    }

    /// The oplog.
    pub fn oplog(&self) -> Oplog<'t> {
        Oplog::new(self.source)
    }

    /// The runs and their steps.
    pub fn runs(&self) -> Runs<'t> {
        Runs::new(self.source)
    }

    /// The jobs' pauses and marks.
    pub fn jobs(&self) -> Jobs<'t> {
        Jobs::new(self.source)
    }

    /// The log segments.
    pub fn segments(&self) -> Segments<'t> {
        Segments::new(self.source)
    }

    /// The log sources.
    pub fn sources(&self) -> Sources<'t> {
        Sources::new(self.source)
    }

    /// The holds on archived logs.
    pub fn holds(&self) -> Holds<'t> {
        Holds::new(self.source)
    }

    /// Checks, issues, attempts, and what holds remediation back.
    pub fn health(&self) -> Health<'t> {
        Health::new(self.source)
    }

    /// What people are told.
    pub fn alerts(&self) -> Alerts<'t> {
        Alerts::new(self.source)
    }

    /// The circuit breakers.
    pub fn breakers(&self) -> Breakers<'t> {
        Breakers::new(self.source)
    }

    /// Backups.
    pub fn backups(&self) -> Backups<'t> {
        Backups::new(self.source)
    }

    /// The managed certificates.
    pub fn certificates(&self) -> Certificates<'t> {
        Certificates::new(self.source)
    }

    /// What was done for dependencies.
    pub fn dependencies(&self) -> DependencyStates<'t> {
        DependencyStates::new(self.source)
    }

    /// What was done for databases.
    pub fn care(&self) -> Care<'t> {
        Care::new(self.source)
    }

    /// What people were called about.
    pub fn incidents(&self) -> Incidents<'t> {
        Incidents::new(self.source)
    }

    /// This host's part in the fleet.
    pub fn fleet(&self) -> Fleets<'t> {
        Fleets::new(self.source)
    }

    /// What this file does not know.
    pub fn gaps(&self) -> Gaps<'t> {
        Gaps::new(self.source)
    }

    /// Rollbacks.
    pub fn rollbacks(&self) -> Rollbacks<'t> {
        Rollbacks::new(self.source)
    }

    /// Drills.
    pub fn drills(&self) -> Drills<'t> {
        Drills::new(self.source)
    }

    /// Tallies by day.
    pub fn tallies(&self) -> Tallies<'t> {
        Tallies::new(self.source)
    }

    /// The configuration's generations.
    pub fn configs(&self) -> Configs<'t> {
        Configs::new(self.source)
    }

    /// Experiments.
    pub fn experiments(&self) -> Experiments<'t> {
        Experiments::new(self.source)
    }

    /// Correlation matrices.
    pub fn matrices(&self) -> Matrices<'t> {
        Matrices::new(self.source)
    }

    /// The parameters of strategies.
    pub fn parameters(&self) -> Parameters<'t> {
        Parameters::new(self.source)
    }

    /// Performance baselines.
    pub fn baselines(&self) -> Baselines<'t> {
        Baselines::new(self.source)
    }

    /// The time series.
    pub fn series(&self) -> Series<'t> {
        Series::new(self.source)
    }
}

/// An audited write transaction, see [`Store::write`](crate::Store::write). It reads its own
/// writes.
pub struct Writing<'t> {
    reading: Reading<'t>,
    sink: Sink<'t>,
}

impl<'t> Writing<'t> {
    pub(crate) fn new(transaction: &'t WriteTransaction, failed: &'t AtomicBool) -> Self {
        let sink = Sink::new(transaction, failed);
        Self { reading: Reading { source: sink.source() }, sink }
    }

    /// Who this host is.
    pub fn identity(&self) -> IdentitiesWriting<'t> {
        IdentitiesWriting::new(self.sink)
    }

    /// The emergency flag.
    pub fn emergency(&self) -> EmergenciesWriting<'t> {
        EmergenciesWriting::new(self.sink)
    }

    /// What becomes of trading in an emergency.
    pub fn course(&self) -> CoursesWriting<'t> {
        CoursesWriting::new(self.sink)
    }

    /// Requests by their id.
    pub fn requests(&self) -> RequestsBookkeeping<'t> {
        RequestsBookkeeping::new(self.sink)
    }

    /// The runs and their steps.
    pub fn runs(&self) -> RunsWriting<'t> {
        RunsWriting::new(self.sink)
    }

    /// The jobs' pauses and marks.
    pub fn jobs(&self) -> JobsWriting<'t> {
        JobsWriting::new(self.sink)
    }

    /// The log segments.
    pub fn segments(&self) -> SegmentsWriting<'t> {
        SegmentsWriting::new(self.sink)
    }

    /// The log sources.
    pub fn sources(&self) -> SourcesWriting<'t> {
        SourcesWriting::new(self.sink)
    }

    /// The holds on archived logs.
    pub fn holds(&self) -> HoldsWriting<'t> {
        HoldsWriting::new(self.sink)
    }

    /// Checks, issues, attempts, and what holds remediation back.
    pub fn health(&self) -> HealthWriting<'t> {
        HealthWriting::new(self.sink)
    }

    /// What people are told.
    pub fn alerts(&self) -> AlertsWriting<'t> {
        AlertsWriting::new(self.sink)
    }

    /// The circuit breakers.
    pub fn breakers(&self) -> BreakersWriting<'t> {
        BreakersWriting::new(self.sink)
    }

    /// Backups.
    pub fn backups(&self) -> BackupsWriting<'t> {
        BackupsWriting::new(self.sink)
    }

    /// The managed certificates.
    pub fn certificates(&self) -> CertificatesWriting<'t> {
        CertificatesWriting::new(self.sink)
    }

    /// What was done for dependencies.
    pub fn dependencies(&self) -> DependencyStatesWriting<'t> {
        DependencyStatesWriting::new(self.sink)
    }

    /// What was done for databases.
    pub fn care(&self) -> CareWriting<'t> {
        CareWriting::new(self.sink)
    }

    /// Experiments.
    pub fn experiments(&self) -> ExperimentsWriting<'t> {
        ExperimentsWriting::new(self.sink)
    }

    /// Correlation matrices.
    pub fn matrices(&self) -> MatricesWriting<'t> {
        MatricesWriting::new(self.sink)
    }

    /// The parameters of strategies.
    pub fn parameters(&self) -> ParametersWriting<'t> {
        ParametersWriting::new(self.sink)
    }

    /// Performance baselines.
    pub fn baselines(&self) -> BaselinesWriting<'t> {
        BaselinesWriting::new(self.sink)
    }

    /// What people were called about.
    pub fn incidents(&self) -> IncidentsWriting<'t> {
        IncidentsWriting::new(self.sink)
    }

    /// This host's part in the fleet.
    pub fn fleet(&self) -> FleetsWriting<'t> {
        FleetsWriting::new(self.sink)
    }

    /// What this file does not know.
    pub fn gaps(&self) -> GapsWriting<'t> {
        GapsWriting::new(self.sink)
    }

    /// Rollbacks.
    pub fn rollbacks(&self) -> RollbacksWriting<'t> {
        RollbacksWriting::new(self.sink)
    }

    /// Drills.
    pub fn drills(&self) -> DrillsWriting<'t> {
        DrillsWriting::new(self.sink)
    }

    /// Tallies by day.
    pub fn count(&self) -> TalliesWriting<'t> {
        TalliesWriting::new(self.sink)
    }

    /// The configuration's generations.
    pub fn configs(&self) -> ConfigsWriting<'t> {
        ConfigsWriting::new(self.sink)
    }
}

impl<'t> Deref for Writing<'t> {
    type Target = Reading<'t>;

    fn deref(&self) -> &Reading<'t> {
        &self.reading
    }
}

/// An unaudited write transaction for a closed list of records: run steps, the request to cancel
/// a run, job marks, request ids, what health checks went through, alerts and their way, what is usual
/// behind breakers, how long vulnerabilities have been known. See [`Store::bookkeep`](crate::Store::bookkeep).
pub struct Bookkeeping<'t> {
    reading: Reading<'t>,
    sink: Sink<'t>,
}

impl<'t> Bookkeeping<'t> {
    pub(crate) fn new(transaction: &'t WriteTransaction, failed: &'t AtomicBool) -> Self {
        let sink = Sink::new(transaction, failed);
        Self { reading: Reading { source: sink.source() }, sink }
    }

    /// The runs and their steps.
    pub fn runs(&self) -> RunsBookkeeping<'t> {
        RunsBookkeeping::new(self.sink)
    }

    /// The jobs' pauses and marks.
    pub fn jobs(&self) -> JobsBookkeeping<'t> {
        JobsBookkeeping::new(self.sink)
    }

    /// Requests by their id.
    pub fn requests(&self) -> RequestsBookkeeping<'t> {
        RequestsBookkeeping::new(self.sink)
    }

    /// What the checks went through, and the issues that came of it.
    pub fn health(&self) -> HealthBookkeeping<'t> {
        HealthBookkeeping::new(self.sink)
    }

    /// What is usual for the operations behind circuit breakers.
    pub fn breakers(&self) -> BreakersBookkeeping<'t> {
        BreakersBookkeeping::new(self.sink)
    }

    /// How long vulnerabilities have been known.
    pub fn dependencies(&self) -> DependencyStatesBookkeeping<'t> {
        DependencyStatesBookkeeping::new(self.sink)
    }

    /// When CAs are asked again.
    pub fn certificates(&self) -> CertificatesBookkeeping<'t> {
        CertificatesBookkeeping::new(self.sink)
    }

    /// Alerts, and what became of their messages.
    pub fn alerts(&self) -> AlertsBookkeeping<'t> {
        AlertsBookkeeping::new(self.sink)
    }
}

impl<'t> Deref for Bookkeeping<'t> {
    type Target = Reading<'t>;

    fn deref(&self) -> &Reading<'t> {
        &self.reading
    }
}
