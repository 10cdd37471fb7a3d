//! What people ask of series and matrices, and the views that they see.

use std::collections::BTreeMap;
use std::sync::Arc;

use genesis_storage::MatrixRecord;
use glob::Pattern;
use jiff::Timestamp;
use serde_json::json;

use super::calculate::Made;
use super::gaps::{Gap, Walk};
use super::hours::Hour;
use super::plan;
use super::prepare::is_name;
use super::rollout::unmet;
use super::serving::Served;
use super::{Matrices, UPDATE};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep};
use crate::runs::{Request, SecondCaller, Started};

/// The most of a list.
pub const LIST_LIMIT: u32 = 1_000;

/// A series as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesView {
    /// Its name.
    pub name: String,
    /// Whether it has prices.
    pub prices: bool,
    /// Whether matrices are made of it.
    pub used: bool,
    /// How complete it is within the window.
    pub walk: Walk,
}

impl Matrices {
    /// The series that are known, with their numbers.
    ///
    /// # Errors
    /// `SERIES_UNAVAILABLE`, `STORAGE_FAILED`.
    pub fn names(&self) -> Result<Vec<(String, u32)>> {
        self.store()?.read(|reading| Ok(reading.names()?))
    }

    /// The series whose names match a pattern; empty: all.
    ///
    /// # Errors
    /// `PATTERN_INVALID`, `LIMIT_INVALID`, `SERIES_UNAVAILABLE`, `STORAGE_FAILED`.
    pub fn list_series(&self, pattern: &str, limit: u32) -> Result<Vec<SeriesView>> {
        let limit = if limit == 0 { usize::MAX } else { limited(limit)? };
        let pattern = match pattern {
            "" => None,
            text => Some(Pattern::new(text).map_err(|error| {
                let message = format!("{text:?} is no pattern such as \"BTC*\": {error}");
                Error::invalid("PATTERN_INVALID", message)
            })?),
        };
        let names = self.names()?;
        let wanted = names
            .into_iter()
            .filter(|(name, _)| pattern.as_ref().is_none_or(|it| it.matches(name)))
            .take(limit);
        self.walk(wanted.collect(), 0)
    }

    /// One series with its longest gaps.
    ///
    /// # Errors
    /// `SERIES_NOT_FOUND`, `LIMIT_INVALID`, `SERIES_UNAVAILABLE`, `STORAGE_FAILED`.
    pub fn gaps(&self, series: &str, limit: u32) -> Result<(SeriesView, Vec<Gap>)> {
        let limit = limited(limit)?;
        let found = self.names()?.into_iter().find(|(name, _)| name == series);
        let missing = || {
            let shown: String = series.chars().take(64).collect();
            let message = format!(
                "there is no series {shown:?}; `genesisctl series list` shows those that there are"
            );
            Error::not_found("SERIES_NOT_FOUND", message)
        };
        let views = self.walk(vec![found.ok_or_else(missing)?], limit)?;
        let view = views.into_iter().next().ok_or_else(missing)?;
        let gaps = view.walk.longest.clone();
        Ok((view, gaps))
    }

    fn walk(&self, wanted: Vec<(String, u32)>, gaps: usize) -> Result<Vec<SeriesView>> {
        let (config, days) = (self.config(), self.days());
        let hours = days.start().saturating_mul(24)..=days.end().saturating_mul(24) + 23;
        if let [(name, number)] = wanted.as_slice() {
            let mut walk = Walk::new(config.bucket, gaps);
            self.store()?.read(|reading| {
                for hour in hours {
                    let bytes = reading.hour(hour, *number)?;
                    if let Some(values) = bytes.and_then(|bytes| Hour::from_bytes(&bytes)) {
                        walk.take(hour, &values);
                    }
                }
                Ok::<_, Error>(())
            })?;
            let (prices, used) = (config.has_prices(name), config.uses(name));
            return Ok(vec![SeriesView { name: name.clone(), prices, used, walk }]);
        }
        let mut walks: BTreeMap<u32, Walk> =
            wanted.iter().map(|(_, number)| (*number, Walk::new(config.bucket, gaps))).collect();
        self.store()?.read(|reading| {
            reading.hours(hours, |hour, series, bytes| {
                if let Some(walk) = walks.get_mut(&series)
                    && let Some(values) = Hour::from_bytes(bytes)
                {
                    walk.take(hour, &values);
                }
                Ok::<_, Error>(())
            })
        })?;
        let view = |(name, number): (String, u32)| SeriesView {
            prices: config.has_prices(&name),
            used: config.uses(&name),
            walk: walks.remove(&number).unwrap_or_else(|| Walk::new(config.bucket, gaps)),
            name,
        };
        Ok(wanted.into_iter().map(view).collect())
    }

    /// The versions, the newest first.
    ///
    /// # Errors
    /// `LIMIT_INVALID`.
    pub fn history(&self, limit: u32) -> Result<Vec<Arc<MatrixRecord>>> {
        let limit = limited(limit)?;
        Ok(self.versions().values().rev().take(limit).cloned().collect())
    }

    /// What is known of a version.
    ///
    /// # Errors
    /// `MATRIX_NOT_FOUND`.
    pub fn version(&self, version: u64) -> Result<Arc<MatrixRecord>> {
        self.live().versions.get(&version).cloned().ok_or_else(|| {
            let message = format!(
                "there is no version {version}; `genesisctl matrix history` shows those that there are"
            );
            Error::not_found("MATRIX_NOT_FOUND", message)
        })
    }

    /// The version that a consumer is to use; nobody's is the active one.
    ///
    /// # Errors
    /// `MATRIX_NOT_FOUND`, `CONSUMER_INVALID`.
    pub fn of_consumer(&self, consumer: &str) -> Result<Arc<Served>> {
        check_consumer(consumer)?;
        let serving = self.serving();
        let (served, _) = serving.of(consumer);
        served.cloned().ok_or_else(|| {
            let unreadable = self.live().unreadable.clone();
            match unreadable.first() {
                Some((version, why)) => {
                    let message = format!("version {version} can't be read: {why}");
                    Error::internal("STORAGE_RECORD_UNREADABLE", message)
                }
                None => {
                    let message =
                        "there is no active matrix; `genesisctl matrix update` calculates the first";
                    Error::not_found("MATRIX_NOT_FOUND", message)
                }
            }
        })
    }

    /// The values of a version.
    ///
    /// # Errors
    /// `MATRIX_NOT_FOUND`, `STORAGE_RECORD_UNREADABLE`, `STORAGE_FAILED`.
    pub fn values_of(&self, record: &MatrixRecord) -> Result<Arc<Served>> {
        let version = record.version;
        if let Some(served) = self.serving().version(version) {
            return Ok(Arc::clone(served));
        }
        let bytes = self.state.read(|it| Ok(it.matrices().values(version)?))?;
        let bytes = bytes.ok_or_else(|| {
            let message = match record.state == plan::REJECTED {
                true => format!("version {version} was rejected, so that it has no values"),
                false => format!("the values of version {version} are not kept any more"),
            };
            Error::not_found("MATRIX_NOT_FOUND", message)
        })?;
        let matrix =
            genesis_stats::correlation::Correlation::from_bytes(&bytes).map_err(|error| {
                let message = format!("the values of version {version} can't be read: {error}");
                Error::internal("STORAGE_RECORD_UNREADABLE", message)
            })?;
        Ok(Arc::new(Served { version, matrix, digest: record.digest.clone() }))
    }

    /// When the next matrix is calculated.
    pub fn next_update(&self) -> Option<Timestamp> {
        self.config().schedule.next_after(self.now())
    }

    /// The version whose rollout is asked for; 0: the one that goes on, else the last one. `None`: there was none.
    ///
    /// # Errors
    /// `MATRIX_NOT_FOUND`.
    pub fn rollout_of(&self, version: u64) -> Result<Option<Arc<MatrixRecord>>> {
        if version > 0 {
            return self.version(version).map(|it| Some(it).filter(|it| !it.stages.is_empty()));
        }
        let versions = self.versions();
        Ok(versions.values().rev().find(|it| !it.stages.is_empty()).cloned())
    }

    /// What an update would do: the matrix is calculated, and not kept.
    ///
    /// # Errors
    /// `MATRIX_FOLLOWED`, `ROLLOUT_RUNNING`, `SERIES_UNAVAILABLE`, `SERIES_MISSING`, `STORAGE_FAILED`.
    pub async fn plan_update(self: &Arc<Self>, carry: bool) -> Result<Plan> {
        self.calculates()?;
        self.no_rollout()?;
        let carry = carry || self.config().carry;
        let Made { record, matrix, days, .. } = self.making(carry, false).await?;
        let mut steps = vec![PlanStep::new(
            "calculate",
            format!("{} series", record.series),
            format!("{days} day(s), from {} until {}", record.window_from, record.window_until),
        )];
        for it in &record.criteria {
            let limit = if it.at_least { "at least" } else { "at most" };
            let value = it.value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
            let mut reason = format!("{value}, {limit} {:.4}: {}", it.limit, it.verdict);
            if !it.detail.is_empty() {
                reason = format!("{reason}; {}", it.detail);
            }
            steps.push(PlanStep::new("check", it.name.clone(), reason));
        }
        let active = self.serving().active().map_or(0, |it| it.version);
        let first = record.rollout.percents.first().copied().unwrap_or(100);
        steps.push(match (matrix.is_some(), active, first) {
            (false, ..) => PlanStep::new("reject", "the new version", unmet(&record)),
            (true, 0, _) => PlanStep::new("activate", "the new version", "it is the first"),
            (true, _, 100) => {
                PlanStep::new("activate", "the new version", "there are no stages before")
            }
            (true, active, percent) => PlanStep::new(
                "begin-stage",
                "the new version",
                format!("{percent} % of the consumers use it, instead of version {active}"),
            ),
        });
        let valid = if matrix.is_some() { "valid" } else { "rejected" };
        let of = [active.to_string(), carry.to_string()];
        Ok(Plan::new("matrices.update", &[&of[0], &of[1], valid], steps))
    }

    /// Begins an update by hand.
    ///
    /// # Errors
    /// `MATRIX_FOLLOWED`, `ROLLOUT_RUNNING`, `SERIES_UNAVAILABLE`, `SERIES_MISSING`, `PLAN_CHANGED`, those of runs.
    pub async fn update(
        self: &Arc<Self>,
        carry: bool,
        plan_hash: &str,
        (actor, reason): (String, String),
    ) -> Result<Started> {
        self.calculates()?;
        self.no_rollout()?;
        self.store()?;
        if !plan_hash.is_empty() {
            self.plan_update(carry).await?.accept(plan_hash)?;
        }
        let carry = carry || self.config().carry;
        let request = Request {
            kind: UPDATE,
            actor,
            reason,
            parameters: json!({ "carry": carry }),
            key: UPDATE.to_owned(),
            second: SecondCaller::Attach,
            stance: Stance::Refuse,
        };
        let own = Arc::clone(self);
        let body = move |context: crate::runs::Context| async move {
            own.update_in(&context, carry, "by hand").await
        };
        self.runs.start(request, body).await
    }
}

/// Whether somebody may be a consumer; empty is nobody.
///
/// # Errors
/// `CONSUMER_INVALID`.
pub fn check_consumer(consumer: &str) -> Result<()> {
    if consumer.is_empty() || is_name(consumer) {
        return Ok(());
    }
    let shown: String = consumer.chars().take(64).collect();
    let message = format!("{shown:?} is no consumer; use 1 to 64 of a-z, A-Z, 0-9 and -_.:/");
    Err(Error::invalid("CONSUMER_INVALID", message))
}

/// How many rows are asked for.
///
/// # Errors
/// `LIMIT_INVALID`.
pub fn limited(limit: u32) -> Result<usize> {
    crate::plan::limited(limit, 50, LIST_LIMIT)
}
