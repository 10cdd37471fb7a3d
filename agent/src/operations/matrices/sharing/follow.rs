//! Following: what is published is fetched, verified, and put into force as one of this host's own.

use std::sync::Arc;

use genesis_stats::correlation::Correlation;
use genesis_storage::MatrixRecord;

use super::super::Matrices;
use super::acks::{Ack, State};
use super::plan::{Follow, follow};
use super::published::{Pointer, Published, splay, verified};
use super::{AGAIN, Refusal};
use crate::error::{Error, Result};
use crate::outside::tasks;

/// The publisher went back, and gave no reason that came along.
const WENT_BACK: &str = "the publisher went back to it";

/// Who put it into force, as it is told here.
fn by_fleet(by: &str, published: &Published) -> String {
    format!("{by} by the fleet from {}", published.host)
}

impl Matrices {
    /// Takes what is published, if that is due; what this host says then.
    pub(super) async fn follow_once(self: &Arc<Self>) -> Result<Ack> {
        let pointer = match self.pointer() {
            Ok(Some(pointer)) => pointer,
            Ok(None) => return Ok(self.waiting(0, "nothing is published yet")),
            Err(why) => return Ok(self.refuse((0, ""), &super::unreadable(&why).message)),
        };
        let Pointer { current, members, .. } = &pointer;
        let number = current.number;
        let emergency = self.runs.emergency().active();
        let decided = follow(current, pointer.before(), &self.versions(), emergency);
        let who = by_fleet("system:matrices", current);
        let by = (who.as_str(), WENT_BACK);
        let outcome = match decided {
            Follow::Stands(version) => Ok(version),
            Follow::Wait(why) => return Ok(self.waiting(number, &why)),
            Follow::Mark(version) => {
                self.mark(version, number, "matrices.followed").await.map(|()| version)
            }
            Follow::GoBack(to) => match self.go_back_for_fleet(to, number, by).await {
                // What is kept here is damaged; the fleet has it too.
                Err(error) if error.code == "STORAGE_RECORD_UNREADABLE" => {
                    self.fetch_and_take(current).await
                }
                gone => gone.map(|()| to),
            },
            Follow::Leave(harmful) => {
                self.leave_for_fleet(harmful, number, by).await.map(|()| harmful)
            }
            Follow::Fetch => {
                if let Some(why) = self.refused(current) {
                    return Ok(why);
                }
                if !self.may_ask(current, *members) {
                    return Ok(self.waiting(number, "it is fetched in turn with the other hosts"));
                }
                self.fetch_and_take(current).await
            }
        };
        match outcome {
            Ok(version) => {
                self.accept_again();
                Ok(self.of_version(number, version))
            }
            Err(error) if error.code == "FLEET_UNREACHABLE" => Err(error),
            // What goes on here ends, and then it is taken.
            Err(error)
                if matches!(error.code, "ROLLOUT_RUNNING" | "EMERGENCY" | "PLAN_CHANGED") =>
            {
                Ok(self.waiting(number, &error.message))
            }
            Err(error) => Ok(self.refuse((number, &current.hash), &error.message)),
        }
    }

    async fn fetch_and_take(self: &Arc<Self>, current: &Published) -> Result<u64> {
        let (record, matrix) = self.fetch(current).await?;
        let who = by_fleet(&record.by, current);
        let reason = match (record.reason.as_str(), current.back) {
            ("", true) => WENT_BACK.to_owned(),
            (reason, _) => reason.to_owned(),
        };
        let rollout = self.config().rollout.clone();
        let record = MatrixRecord { fleet: current.number, version: 0, rollout, ..record };
        let taken = self.take_over((record, matrix), current.back, (&who, &reason)).await?;
        tracing::info!(
            number = current.number,
            version = taken.version,
            state = taken.state,
            "took a matrix of the fleet"
        );
        Ok(taken.version)
    }

    async fn fetch(&self, current: &Published) -> Result<(MatrixRecord, Correlation)> {
        let damaged = |why: String| {
            let message = format!("version {} of the fleet's matrix: {why}", current.number);
            Error::unavailable("FLEET_MATRIX_DAMAGED", message)
        };
        let mut bytes = Vec::new();
        for part in 0..current.parts {
            let key = self.fleet.keys().matrix_part(current.number, part);
            let entry = self.fleet.get(&key).await?;
            let gone = || damaged(format!("part {part} of {} is not there", current.parts));
            bytes.extend(entry.ok_or_else(gone)?.value);
        }
        let published = current.clone();
        let checked = tasks::aside(move || verified(&published, &bytes)).await;
        let checked = checked.map_err(|error| {
            Error::internal("CALL_PANICKED", "a look at a matrix hit a defect").caused_by(error)
        })?;
        checked.map_err(damaged)
    }

    /// Whether it is this host's turn to ask for a version.
    fn may_ask(&self, current: &Published, members: u64) -> bool {
        let now = self.outside.clock.monotonic();
        let mut shared = self.shared();
        match shared.asks {
            Some((number, at)) if number == current.number => now >= at,
            _ => {
                let me = &self.fleet.me().host_id;
                let wait = splay(current.bytes, members, me, current.number);
                shared.asks = Some((current.number, now + wait));
                wait.is_zero()
            }
        }
    }

    /// What was said of a version that was refused, until it is tried again.
    fn refused(&self, current: &Published) -> Option<Ack> {
        let now = self.outside.clock.monotonic();
        let refusal = self.shared().refusal.clone()?;
        let same = refusal.number == current.number && refusal.hash == current.hash;
        let Refusal { number, why, since, again, .. } = refusal;
        (same && now < again).then(|| self.says(number, State::Refused, (since, why)))
    }

    fn refuse(&self, (number, hash): (u64, &str), why: &str) -> Ack {
        let (now, again) = (self.now(), self.outside.clock.monotonic() + AGAIN);
        let (refusal, other) = {
            let mut shared = self.shared();
            let before = shared.refusal.take().filter(|it| it.number == number && it.why == why);
            let since = before.as_ref().map_or(now, |it| it.since);
            let (hash, why) = (hash.to_owned(), why.to_owned());
            let refusal = Refusal { number, hash, why, since, again };
            shared.refusal = Some(refusal.clone());
            (refusal, before.is_none())
        };
        if other {
            tracing::error!(number, why, "a matrix of the fleet can't be taken");
            self.bell.ring();
        }
        self.says(number, State::Refused, (refusal.since, refusal.why))
    }

    fn accept_again(&self) {
        let refused = {
            let mut shared = self.shared();
            (shared.waits, shared.asks) = (None, None);
            shared.refusal.take().is_some()
        };
        if refused {
            self.bell.ring();
        }
    }
}
