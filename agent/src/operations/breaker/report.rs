//! Reports in, and probes: what services call often, so it is cheap. Nothing waits for the disk unless a state changes.

use std::time::Duration;

use genesis_storage::{BreakerState, Moment};

use super::judge::{COUNT_LIMIT, Report, Taken};
use super::life::{self, Cause, Ended, Step};
use super::{ACTOR, Breakers, Entry, Live, absent, metrics, plan};
use crate::error::{Error, Result};

/// So many reports come in one call at most.
const REPORTS: usize = 256;
/// So many results of probes one report has at most.
const RESULTS: usize = 65_536;
/// So many probes are asked for at a time.
const PROBES: u32 = 1_024;

/// What one reporter says of one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome<'a> {
    /// The breaker.
    pub operation: &'a str,
    /// Its calls.
    pub report: Report<'a>,
    /// How long its window was.
    pub length: Duration,
    /// Calls that were rejected.
    pub rejected: u64,
    /// Probes that have ended.
    pub probes: Vec<(u64, Ended)>,
}

/// How many reports came to what, in the order of [`metrics::REPORTS`].
pub type Tally = [u32; 5];

impl Breakers {
    /// Takes reports in. `now` is the same for all of them.
    ///
    /// # Errors
    /// `REPORT_INVALID`, `TOO_MANY_REPORTS`, `BREAKERS_FULL`: then none of them counts.
    pub async fn report(&self, outcomes: &[Outcome<'_>]) -> Result<Tally> {
        if outcomes.len() > REPORTS {
            let message = format!("{} reports in one call, {REPORTS} are allowed", outcomes.len());
            return Err(Error::invalid("TOO_MANY_REPORTS", message));
        }
        for outcome in outcomes {
            self.check(outcome)?;
        }
        let now = self.outside.clock.moment();
        let mut tally = Tally::default();
        let changed = {
            let mut live = self.live();
            for outcome in outcomes {
                self.make(&mut live, outcome.operation, &now)?;
            }
            for outcome in outcomes {
                tally[self.take(&mut live, outcome, &now)] += 1;
            }
            !live.pending.is_empty()
        };
        if changed {
            self.settle().await;
        }
        Ok(tally)
    }

    fn check(&self, outcome: &Outcome<'_>) -> Result<()> {
        let invalid = |why: String| {
            let shown: String = outcome.operation.chars().take(64).collect();
            Err(Error::invalid("REPORT_INVALID", format!("the report of {shown:?}: {why}")))
        };
        let Report { reporter, calls, failed, slow, .. } = outcome.report;
        if let Err(why) = super::config::parse_name(outcome.operation) {
            return invalid(why);
        }
        if reporter.is_empty() || reporter.len() > 64 {
            return invalid("reporter must have 1 to 64 characters".into());
        }
        if calls > COUNT_LIMIT || failed > calls || slow > calls || outcome.rejected > COUNT_LIMIT {
            return invalid(format!(
                "{failed} failed and {slow} slow of {calls} calls, {} rejected: more than there are, or over {COUNT_LIMIT}",
                outcome.rejected
            ));
        }
        if outcome.length > self.config.load().window() {
            let window = self.config.load().window();
            return invalid(format!("its window has {:?}, {window:?} are allowed", outcome.length));
        }
        if outcome.probes.len() > RESULTS {
            return invalid(format!("{} probes, {RESULTS} are allowed", outcome.probes.len()));
        }
        Ok(())
    }

    /// Where it stands in the tally.
    fn take(&self, live: &mut Live, outcome: &Outcome<'_>, now: &Moment) -> usize {
        let Some(entry) = live.breakers.get_mut(outcome.operation) else { return 4 };
        let closed = entry.record.state == BreakerState::Closed;
        let taken = entry.judge.take(&outcome.report, closed, now.wall);
        let place = match taken {
            Taken::Counted => 0,
            Taken::Duplicate => 1,
            Taken::Late => 2,
            Taken::Ahead => 3,
            Taken::Dropped => 4,
        };
        self.metrics.reported(metrics::REPORTS[place]);
        if taken == Taken::Counted {
            entry.reported_at = Some(now.wall);
            self.metrics.rejected(outcome.rejected);
        }
        let trip = entry.judge.gross().filter(|_| closed && taken == Taken::Counted);
        if let Some(trip) = trip {
            self.trip_by_itself(live, outcome.operation, trip.word(), &trip.words(), now);
        }
        // Each probe has a number of its own, so it counts once whatever becomes of the window.
        self.settle_probes(live, outcome, now);
        place
    }

    pub(super) fn trip_by_itself(
        &self,
        live: &mut Live,
        name: &str,
        cause: &'static str,
        reason: &str,
        now: &Moment,
    ) {
        let Some(entry) = live.breakers.get(name) else { return };
        let pace = self.config.load().pace(name);
        let record = life::tripped(&entry.record, Cause { by: ACTOR, reason }, now, &pace);
        self.metrics.tripped(cause);
        self.turn(live, record, now);
    }

    fn settle_probes(&self, live: &mut Live, outcome: &Outcome<'_>, now: &Moment) {
        let monotonic = self.outside.clock.monotonic();
        for (id, ended) in &outcome.probes {
            let entry = live.breakers.get_mut(outcome.operation);
            let Some(Entry { record, probing: Some(probing), .. }) = entry else { return };
            let step = probing.settle(*id, *ended, monotonic);
            if step == Step::Ignored {
                continue;
            }
            let word = match ended {
                Ended::Passed => "passed",
                Ended::Failed => "failed",
                Ended::Unknown => "unknown",
            };
            self.metrics.probed(word, 1);
            match step {
                Step::Close => {
                    let cause = Cause { by: ACTOR, reason: "its probes went well" };
                    let record = life::closed(record, cause, false, now);
                    self.turn(live, record, now);
                }
                Step::Reopen => {
                    self.trip_by_itself(live, outcome.operation, "probe", "a probe failed", now);
                }
                Step::GoesOn | Step::Ignored => {}
            }
        }
    }

    /// A baseline has judged a minute of the operation: `left` says how its latency left what is usual, if it did. Whether
    /// its breaker opened by that. Who knows the hours of the week knows more than the breaker's own sum of slow calls,
    /// which counts for nothing meanwhile, so that two of one kind don't trip twice as often.
    pub async fn observed(&self, name: &str, left: Option<&str>) -> bool {
        let now = self.outside.clock.moment();
        let tripped = {
            let mut live = self.live();
            let Some(entry) = live.breakers.get_mut(name) else { return false };
            entry.observed = Some(self.outside.clock.monotonic());
            match left.filter(|_| entry.record.state == BreakerState::Closed) {
                Some(reason) => {
                    self.trip_by_itself(&mut live, name, "baseline", reason, &now);
                    true
                }
                None => false,
            }
        };
        if tripped {
            self.settle().await;
        }
        tripped
    }

    /// Grants probes of a half-open breaker; none of any other.
    ///
    /// # Errors
    /// `BREAKER_NOT_FOUND`.
    pub fn take_probes(&self, name: &str, wanted: u32) -> Result<(Vec<u64>, Duration)> {
        let name = plan::named(name)?;
        let monotonic = self.outside.clock.monotonic();
        let pace = self.config.load().pace(&name);
        let mut live = self.live();
        let entry = live.breakers.get_mut(&name).ok_or_else(|| absent(&name))?;
        let Some(probing) = &mut entry.probing else { return Ok((Vec::new(), pace.probe_timeout)) };
        let granted = probing.grant(wanted.min(PROBES), monotonic, &pace);
        self.metrics.probed("granted", granted.len() as u64);
        Ok((granted, pace.probe_timeout))
    }
}
