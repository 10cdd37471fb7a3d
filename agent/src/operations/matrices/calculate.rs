//! A matrix calculated from the sums of the window's days, and held against each criterion. Nothing is changed but what is
//! kept of the sums.

use std::collections::BTreeMap;
use std::sync::Arc;

use genesis_stats::correlation::{
    Acceptance, Candidate, Correlation, Definiteness, Estimate, Part, RepairRules, Repaired,
    Window, repair, validate,
};
use genesis_storage::MatrixRecord;
use jiff::Timestamp;

use super::days::{self, DaySums};
use super::{DAY, Matrices, found, plan};
use crate::error::{Error, Result};

/// What came of a calculation.
pub struct Made {
    /// What is known of it, without a version.
    pub record: MatrixRecord,
    /// The matrix, if it is valid.
    pub matrix: Option<Correlation>,
    /// Days of the window that have values.
    pub days: usize,
    /// Of these, those whose sums were made anew.
    pub fresh: usize,
}

impl Matrices {
    /// The sums of each day of the window.
    ///
    /// # Errors
    /// `SERIES_UNAVAILABLE`, `STORAGE_FAILED`.
    pub fn sums(&self) -> Result<Vec<DaySums>> {
        let config = self.config();
        let store = self.store()?;
        let mut all = Vec::new();
        for day in self.days() {
            // A transaction for each, so that a writer's pages are not held for long.
            let sums = store.read(|reading| {
                let names = reading.names()?.into_iter().map(|(name, number)| (number, name));
                days::sums(reading, day, &names.collect::<BTreeMap<_, _>>(), &config)
            })?;
            all.extend(sums);
        }
        Ok(all)
    }

    /// Calculates a matrix. `carry`: pairs without enough rows keep what is active. `keep`: sums that are fresh are kept.
    ///
    /// # Errors
    /// `SERIES_UNAVAILABLE`, `SERIES_MISSING`, `STORAGE_FAILED`.
    pub fn make(&self, carry: bool, keep: bool) -> Result<Made> {
        let config = self.config();
        let now = self.now();
        let sums = self.sums()?;
        if keep {
            days::keep(self.store()?, &sums, &config)?;
        }
        let parts: Vec<Part<'_>> = sums
            .iter()
            .map(|it| Part {
                host: self.host(),
                span: i64::from(it.day),
                series: &it.series,
                block: &it.block,
            })
            .collect();
        let broken = |error: &dyn std::fmt::Display| {
            Error::internal("MATRIX_BROKEN", format!("a matrix can't be made: {error}"))
        };
        let window = Window::of(&parts).map_err(|error| broken(&error))?;
        if window.series().len() < 2 {
            let message = format!(
                "{} series have values within the window, and a matrix needs two; push some with `genesisctl series push`",
                window.series().len()
            );
            return Err(Error::refused("SERIES_MISSING", message, Vec::new()));
        }
        let (names, block) = window.into_parts();
        let estimate = Estimate::of(&block);
        drop(block);
        let active = self.serving().active().cloned();
        let active = active.as_deref().map(|it| &it.matrix);
        let month_ago = self.month_ago(now)?;
        let least = config.limits.min_points;
        let candidate = Candidate::of(&estimate, names, least, active.filter(|_| carry));
        let candidate = candidate.map_err(|error| broken(&error))?;
        let (candidate, repaired) = mend(candidate, config.max_repair);
        let validation = validate(&candidate, active, month_ago.as_ref(), &config.limits);
        let mut record = MatrixRecord {
            calculated_at: now,
            window_from: midnight(*self.days().start(), now),
            window_until: now,
            rollout: config.rollout.clone(),
            ..MatrixRecord::default()
        };
        found::describe(&mut record, &candidate, &validation, repaired.as_ref());
        let matrix = match validation.acceptance() {
            Acceptance::Refused { .. } => None,
            Acceptance::Accepted | Acceptance::First { .. } => {
                Some(candidate.accept().map_err(|error| broken(&error))?)
            }
        };
        if let Some(matrix) = &matrix {
            record.digest = super::serving::digest(matrix);
        }
        let fresh = sums.iter().filter(|it| it.fresh).count();
        Ok(Made { record, matrix, days: sums.len(), fresh })
    }

    /// The matrix that was active a month ago, where its values are kept.
    fn month_ago(&self, now: Timestamp) -> Result<Option<Correlation>> {
        let at = now - jiff::SignedDuration::from_secs(plan::MONTH);
        let versions = self.versions();
        let Some(version) = plan::active_at(&versions, at).map(|it| it.version) else {
            return Ok(None);
        };
        let bytes = self.state.read(|it| Ok(it.matrices().values(version)?))?;
        Ok(bytes.and_then(|bytes| Correlation::from_bytes(&bytes).ok()))
    }

    /// [`Self::make`] on a thread of its own.
    ///
    /// # Errors
    /// Its own.
    pub(super) async fn making(self: &Arc<Self>, carry: bool, keep: bool) -> Result<Made> {
        let own = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || own.make(carry, keep)).await;
        made.map_err(|error| {
            Error::internal("CALL_PANICKED", "a calculation hit a defect").caused_by(error)
        })?
    }
}

/// The nearest definite matrix, where one is near enough.
fn mend(candidate: Candidate, most: f64) -> (Candidate, Option<Repaired>) {
    let indefinite = most > 0.0
        && candidate.unsettled().is_empty()
        && matches!(candidate.definiteness(), Definiteness::Indefinite { .. });
    if !indefinite {
        return (candidate, None);
    }
    match repair(&candidate, &RepairRules { most, ..RepairRules::default() }) {
        Ok(repaired) => (repaired.candidate.clone(), Some(repaired)),
        Err(error) => {
            tracing::warn!(error = error.to_string(), "an indefinite matrix was not repaired");
            (candidate, None)
        }
    }
}

fn midnight(day: u32, or: Timestamp) -> Timestamp {
    Timestamp::from_second(i64::from(day) * DAY).unwrap_or(or)
}
