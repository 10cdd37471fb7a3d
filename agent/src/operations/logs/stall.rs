//! Why a segment does not move on: it waits for a writer, a step of it failed and is tried again, or a person
//! must mend it. Reported once, in its record and in the oplog, in one commit.

use std::time::Duration;

use genesis_storage::{SegmentRecord, SegmentState, Waiting as Reported};
use jiff::Timestamp;

use super::plan::{self, Hindrance};
use super::{Logs, Waiting};
use crate::error::Unmet;

/// A writer that holds on past the grace is told again this often.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Why a segment does not move on.
#[derive(Debug, Clone)]
pub struct Hindered {
    /// The reason.
    pub why: Unmet,
    /// Of what kind.
    pub hindrance: Hindrance,
    /// When it is tried again.
    pub next_try_at: Timestamp,
}

impl Logs {
    /// Notes why a segment waits, and reports it once it has waited too long. Returns how long it waits.
    pub(super) async fn wait(
        &self,
        segment: &SegmentRecord,
        why: Unmet,
        (first, longest): (Duration, Duration),
    ) -> Duration {
        let key = (segment.log_type.clone(), segment.sequence);
        let now = self.outside.clock.monotonic();
        let grace = self.config().release_grace;
        let hindrance = plan::hindrance(why.code);
        // A held file is reported after its grace, anything else at once.
        let patience = if hindrance == Hindrance::Waiting { grace } else { Duration::ZERO };
        let (delay, report, tell) = {
            let mut live = self.live();
            // What was reported before a restart is not reported anew.
            let known = segment.waiting.as_ref().is_some_and(|known| known.code == why.code);
            let waiting = live.waiting.entry(key.clone()).or_insert_with(|| Waiting {
                why: why.clone(),
                attempt: 0,
                since: now,
                not_before: now,
                reported: known,
                told_at: None,
            });
            if waiting.why.code != why.code {
                (waiting.attempt, waiting.reported, waiting.since) = (0, false, now);
            }
            waiting.why = why.clone();
            let delay = plan::back_off(waiting.attempt, first, longest);
            waiting.attempt = waiting.attempt.saturating_add(1);
            waiting.not_before = now + delay;
            let waited = now.saturating_sub(waiting.since);
            let report = waited >= patience && !waiting.reported;
            let tell = waited >= grace
                && waiting.told_at.is_none_or(|at| now.saturating_sub(at) >= TELL_AGAIN);
            if tell {
                waiting.told_at = Some(now);
            }
            (delay, report, tell && segment.state == SegmentState::Detached)
        };
        if report && self.report(segment, &why, hindrance).await {
            // Otherwise, such as on a full disk, it is reported by a later try.
            if let Some(waiting) = self.live().waiting.get_mut(&key) {
                waiting.reported = true;
            }
        }
        if tell && let Some(source) = self.config().source(&segment.log_type) {
            // What it says is what the waiting says already.
            let _ = self.tell_writer(source).await;
        }
        delay
    }

    /// Puts the reason into the segment's record and into the oplog; false when that can't be written.
    async fn report(&self, segment: &SegmentRecord, why: &Unmet, hindrance: Hindrance) -> bool {
        tracing::warn!(segment = why.subject, code = why.code, "{}", why.message);
        let action = match hindrance {
            Hindrance::Waiting => "logs.segment.waiting",
            Hindrance::Stalled => "logs.segment.stalled",
            Hindrance::Quarantined => "logs.segment.quarantined",
        };
        let intent = self
            .intent("system:logs", action, "")
            .target(why.subject.clone())
            .outcome(why.code)
            .detail(why.message.clone());
        let reason = Reported {
            code: why.code.to_owned(),
            subject: why.subject.clone(),
            message: why.message.clone(),
            since: self.outside.clock.now(),
            quarantined: hindrance == Hindrance::Quarantined,
        };
        let (log_type, sequence) = (segment.log_type.clone(), segment.sequence);
        let written = self
            .state
            .write(intent, move |writing| {
                if let Some(mut segment) = writing.segments().get(&log_type, sequence)? {
                    segment.waiting = Some(reason);
                    writing.segments().put(&segment)?;
                }
                Ok(())
            })
            .await;
        if let Err(error) = &written {
            tracing::error!(
                error = error.chain(),
                "the reason for waiting could not be journalled"
            );
        }
        written.is_ok()
    }

    /// Of what kind a segment's hindrance is, if it has one.
    pub(super) fn hindrance(&self, log_type: &str, sequence: u64) -> Option<Hindrance> {
        let live = self.live();
        let waiting = live.waiting.get(&(log_type.to_owned(), sequence));
        waiting.map(|waiting| plan::hindrance(waiting.why.code))
    }

    /// Why a segment does not move on, if it does not.
    pub fn hindered(&self, log_type: &str, sequence: u64) -> Option<Hindered> {
        let waiting = self.live().waiting.get(&(log_type.to_owned(), sequence)).cloned()?;
        let left = waiting.not_before.saturating_sub(self.outside.clock.monotonic());
        let now = self.outside.clock.now();
        let next_try_at = jiff::SignedDuration::try_from(left)
            .ok()
            .and_then(|left| now.checked_add(left).ok())
            .unwrap_or(now);
        Some(Hindered {
            hindrance: plan::hindrance(waiting.why.code),
            why: waiting.why,
            next_try_at,
        })
    }
}
