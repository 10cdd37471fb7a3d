//! Recovery: the emergency flag as people use it, rollback of whatever keeps generations, and incidents.

use std::sync::Arc;

use genesis_storage::IncidentRecord;

use crate::emergency::{Emergency, Stance};
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::outside::Clock;
use crate::runs::rollback::Dispatcher;
use crate::state::State;

pub mod closing;
pub mod config;
pub mod course;
pub mod drill;
pub mod incidents;
pub mod metrics;
pub mod report;
pub mod reports;
pub mod rpc;
pub mod timeline;
mod told;
mod verbs;

pub use config::{Config, Contacts};
use course::Course;
use drill::Drills;
pub use incidents::{Incidents, NewIncident};
pub use metrics::Metrics;
pub use reports::Reports;

/// Rollback, and config reload: what people do by hand during an emergency is part of ending it.
pub const BY_HAND: [(&str, Stance); 2] =
    [("config.reload", Stance::GoOn), ("rollback", Stance::GoOn)];

/// Recovery of this host.
pub struct Recovery {
    /// Everything that can be rolled back.
    pub dispatcher: Dispatcher,
    /// The flag.
    pub emergency: Emergency,
    /// The fleet, whose emergency is this host's too.
    pub fleet: Arc<Fleet>,
    /// What becomes of trading while it is up.
    pub course: Arc<Course>,
    /// Whom to call.
    pub contacts: Contacts,
    /// Time for the oplog.
    pub clock: Arc<dyn Clock>,
    /// Where incidents are.
    pub state: State,
    /// Incidents as they are opened, noted and closed.
    pub book: Arc<Incidents>,
    /// How the host stands, and what was done to mend it.
    pub reports: Reports,
    /// What is practised.
    pub drills: Arc<Drills>,
    /// Incidents, and what becomes of trading, as numbers.
    pub metrics: Metrics,
}

impl Recovery {
    /// Incidents, newest first; with `open_only` those that go on.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn incidents(&self, open_only: bool, limit: usize) -> Result<Vec<IncidentRecord>> {
        self.state.read(|reading| Ok(reading.incidents().list(open_only, limit)?))
    }

    /// An incident by its id, the beginning of it, or "last".
    ///
    /// # Errors
    /// `INCIDENT_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn incident(&self, id: &str) -> Result<IncidentRecord> {
        let not_found = |why: String| Error::not_found("INCIDENT_NOT_FOUND", why);
        if id == "last" {
            let newest = self.incidents(false, 1)?.pop();
            return newest.ok_or_else(|| not_found("there has been no incident yet".to_owned()));
        }
        let wanted = id.to_ascii_uppercase();
        if !(4..=26).contains(&wanted.len()) {
            let why = format!("{id:?} is no incident's id nor its first four characters or more");
            return Err(not_found(why));
        }
        let found =
            self.state.read(|reading| Ok(reading.incidents().with_prefix(&wanted, 2)?))?;
        match <[IncidentRecord; 1]>::try_from(found) {
            Ok([incident]) => Ok(incident),
            Err(found) if found.is_empty() => Err(not_found(format!("there is no incident {id}"))),
            Err(_) => Err(not_found(format!("{id} is the beginning of several incidents' ids"))),
        }
    }

    /// Opens an incident, unless one of its trigger and subject goes on: then that is returned.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn open_incident(&self, new: NewIncident) -> Result<IncidentRecord> {
        self.book.open(new).await
    }

    /// Sets the gauges.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn gauge(&self) -> Result<()> {
        self.metrics.incidents(&self.book.counts()?);
        self.metrics.drills(self.drills.gauges()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
