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

use super::config::Config;
use super::days::{self, DaySums};
use super::serving::Served;
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
    /// The version that it was held against; 0: none.
    pub against: u64,
}

impl Matrices {
    /// The sums of a day; `None`: it has no values.
    ///
    /// # Errors
    /// `SERIES_UNAVAILABLE`, `STORAGE_FAILED`.
    pub fn sums(&self, day: u32, config: &Config) -> Result<Option<DaySums>> {
        // A transaction for each day, so that a writer's pages are not held for long.
        self.store()?.read(|reading| {
            let names = reading.names()?.into_iter().map(|(name, number)| (number, name));
            days::sums(reading, day, &names.collect::<BTreeMap<_, _>>(), config)
        })
    }

    /// Calculates a matrix. `carry`: pairs without enough rows keep what is active. `keep`: sums that are fresh are kept.
    ///
    /// # Errors
    /// `SERIES_UNAVAILABLE`, `SERIES_MISSING`, `STORAGE_FAILED`.
    pub fn make(&self, carry: bool, keep: bool) -> Result<Made> {
        let config = self.config();
        let (now, days) = (self.now(), self.days());
        let mut sums = Vec::new();
        for day in days.clone() {
            sums.extend(self.sums(day, &config)?);
        }
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
        let active = self.active()?;
        let against = active.as_ref().map_or(0, |it| it.version);
        let active = active.as_deref().map(|it| &it.matrix);
        let month_ago = self.month_ago(now)?;
        let least = config.limits.min_points;
        let candidate = Candidate::of(&estimate, names, least, active.filter(|_| carry));
        let candidate = candidate.map_err(|error| broken(&error))?;
        let (candidate, repaired) = mend(candidate, config.max_repair);
        let validation = validate(&candidate, active, month_ago.as_ref(), &config.limits);
        let mut record = MatrixRecord {
            calculated_at: now,
            window_from: midnight(*days.start(), now),
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
        Ok(Made { record, matrix, days: sums.len(), fresh, against })
    }

    /// What is active. One that is there and can't be read is not none: nothing can be held against it.
    fn active(&self) -> Result<Option<Arc<Served>>> {
        let versions = self.versions();
        let Some(record) = plan::in_state(&versions, plan::ACTIVE) else { return Ok(None) };
        self.values_of(record).map(Some)
    }

    /// The matrix that was active a month ago, at the end of the day before. It is kept, or was never there.
    fn month_ago(&self, now: Timestamp) -> Result<Option<Correlation>> {
        let versions = self.versions();
        let found = plan::end_of_day(now.as_second() - plan::MONTH - DAY);
        let found = found.and_then(|at| plan::active_at(&versions, at)).filter(|it| it.kept);
        found.map(|record| Ok(self.values_of(record)?.matrix.clone())).transpose()
    }

    /// [`Self::make`] on a thread of its own.
    ///
    /// # Errors
    /// Its own.
    pub(super) async fn making(self: &Arc<Self>, carry: bool, keep: bool) -> Result<Made> {
        // Closed never.
        let _alone = self.making.acquire().await;
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
