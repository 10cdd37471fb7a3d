//! Measures the queries that care must not make slower.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::config::BenchQuery;
use super::record::{Benchmark, Measured, micros};
use super::{Databases, verify};
use crate::error::Result;
use crate::outside::clock::Clock;
use crate::outside::database::Failure;
use crate::outside::database::postgres::Session;

/// What measures a query once more.
#[async_trait]
pub(super) trait Measuring: Send {
    /// Does so.
    ///
    /// # Errors
    /// When the run it is part of is to end. That the query fails is a measurement, too.
    async fn again(&mut self, query: &BenchQuery) -> Result<Result<Measured, String>>;
}

#[async_trait]
impl Measuring for (&Databases, &mut Session) {
    async fn again(&mut self, query: &BenchQuery) -> Result<Result<Measured, String>> {
        Ok(measure(self.0, self.1, query).await)
    }
}

/// Compares what was measured with what it was before. What seems slower is measured again a moment later, up to
/// [`verify::ROUNDS`] times and `within` so long, and the quickest counts.
///
/// # Errors
/// As [`Measuring::again`].
pub(super) async fn compared(
    clock: &Arc<dyn Clock>,
    bench: &[BenchQuery],
    before: Vec<Option<Measured>>,
    mut after: Vec<Result<Measured, String>>,
    within: Duration,
    mut by: impl Measuring,
) -> Result<Vec<Benchmark>> {
    let until = clock.monotonic().saturating_add(within);
    for _ in 1..verify::ROUNDS {
        let mut paused = false;
        for ((query, before), after) in bench.iter().zip(&before).zip(&mut after) {
            let Ok(slower) = after else { continue };
            let left = until.saturating_sub(clock.monotonic());
            if !verify::worth_another(before.as_ref(), slower, left) {
                continue;
            }
            if !std::mem::replace(&mut paused, true) {
                clock.sleep(verify::PAUSE).await;
            }
            if let Ok(measured) = by.again(query).await?
                && measured.p50_us < slower.p50_us
            {
                *slower = measured;
            }
        }
    }
    let each = bench.iter().zip(before).zip(after);
    Ok(each.map(|((query, before), after)| verify::compare(query, before, after)).collect())
}

/// Runs a query 20 times in transactions that can't write, and reads its plan.
pub(super) async fn measure(
    databases: &Databases,
    session: &mut Session,
    query: &BenchQuery,
) -> Result<Measured, String> {
    let measured = try_measure(databases, session, query).await;
    if measured.is_err() {
        // What failed has left its transaction open, in which nobody is answered.
        let _ = session.run("ROLLBACK").await;
    }
    measured
}

async fn try_measure(
    databases: &Databases,
    session: &mut Session,
    query: &BenchQuery,
) -> Result<Measured, String> {
    let text = |failure: Failure| failure.to_string();
    let explain = format!(
        "BEGIN READ ONLY; EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {}\n; ROLLBACK",
        query.sql
    );
    let plan: Value = session.ask(&explain).await.map_err(text)?;
    let (shape, indexes) = verify::shape(&plan);
    let clock = &databases.outside.clock;
    let mut times = Vec::with_capacity(verify::TIMES);
    // What begins with -- in it ends with its line.
    let sql = format!("BEGIN READ ONLY; {}\n; ROLLBACK", query.sql);
    for _ in 0..verify::TIMES {
        let since = clock.monotonic();
        session.run(&sql).await.map_err(text)?;
        times.push(micros(clock.monotonic().saturating_sub(since)));
    }
    let (p50_us, p95_us) = verify::percentiles(times);
    Ok(Measured { name: query.name.clone(), p50_us, p95_us, shape, indexes })
}
