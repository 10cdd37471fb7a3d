//! The last reading before an action: whether it is needed still, whether it is this check's to act on, and whether
//! the checks can be trusted.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use genesis_storage::{AttemptOutcome, Moment};

use super::check::{Check, Deed};
use super::gates::{self, Denied};
use super::life::Status;
use super::record::{Pending, issue_id};
use super::{ACTOR, Health, Look};

/// A check that has no answer after so long counts as one that can't tell.
const HEARING: Duration = Duration::from_secs(10);

impl Health {
    /// Reads the condition again, and all that could make the action wrong. The look, or `None`: nothing is to be
    /// done, and why is on record.
    pub(super) async fn needed(&self, check: &Check, deed: &Deed) -> Option<Look> {
        let look = self.look(check).await;
        match look.status {
            Status::Crit => {}
            Status::Unknown => {
                let message =
                    format!("just before the action it could not be told: {}", look.detail);
                self.held_back(check, Denied { code: "STALE_SIGNAL", message }).await;
                return None;
            }
            Status::Ok | Status::Warn => {
                self.not_needed(check, deed, &look).await;
                return None;
            }
        }
        if let Some(root) = self.bad_below(check).await {
            let message = format!("it depends on {root}, which is bad itself");
            self.held_back(check, Denied { code: "DEPENDENCY_ROOT", message }).await;
            return None;
        }
        if deed.action.trade_touching
            && let Some(message) = super::guard::denial(&self.trades.look_all().await)
        {
            self.held_back(check, Denied { code: "GUARD", message }).await;
            return None;
        }
        self.hear_the_others(check).await;
        Some(look)
    }

    async fn held_back(&self, check: &Check, denied: Denied) {
        let _alone = self.deciding.lock().await;
        tracing::info!(check = check.id, code = denied.code, "{}", denied.message);
        self.remember(&check.id, &[denied], &self.outside.clock.moment());
    }

    /// Records once for each episode that the condition was gone before anything was done.
    async fn not_needed(&self, check: &Check, deed: &Deed, look: &Look) {
        let _alone = self.deciding.lock().await;
        let Some(mut record) = self.announced(check, deed, &Ok(Vec::new())) else { return };
        if let Some(seen) = self.live().seen.get_mut(&check.id) {
            if seen.unneeded == record.episode {
                return;
            }
            seen.unneeded = record.episode;
        }
        record.outcome = AttemptOutcome::NotNeeded;
        record.number = 0;
        record.ended_at = Some(record.at.wall);
        record.after.clone_from(&look.detail);
        record.detail = "the condition was gone when it was looked at again".to_owned();
        let intent = self
            .intent(ACTOR, "health.attempt.verified")
            .target(issue_id(&check.id, record.episode))
            .outcome("not-needed")
            .detail(format!("{}: {}; {}", record.action, record.detail, look.detail))
            .correlation_id(record.id.clone());
        self.metrics.attempted(&record.action, AttemptOutcome::NotNeeded);
        self.later(Pending { attempt: Some(record), ..Pending::new(intent) });
        self.persist().await;
    }

    /// A check that this one depends on, through others too, and that is bad when it is looked at now: at its own pace
    /// it may not have been looked at since this one turned bad.
    async fn bad_below(&self, check: &Check) -> Option<String> {
        let checks = self.checks();
        let dependencies = super::incidents::dependencies(&checks);
        for name in gates::all_below(&check.id, &dependencies) {
            if let Some(below) = checks.get(name)
                && self.look(below).await.status == Status::Crit
            {
                return Some(name.to_owned());
            }
        }
        None
    }

    /// Looks at every check that has not been looked at since this one turned bad, as slower ones have not: what they
    /// say may be that rather the checks are at fault. It changes nothing else about them; each has its own pace.
    async fn hear_the_others(&self, check: &Check) {
        let silent = self.silent_since(check);
        if silent.is_empty() {
            return;
        }
        let clock = &self.outside.clock;
        let looks = join_all(silent.iter().map(|other| async move {
            tokio::select! {
                look = self.look(other) => (other, look.status, look.at),
                () = clock.sleep(HEARING) => (other, Status::Unknown, clock.moment()),
            }
        }));
        let looks = looks.await;
        let _alone = self.deciding.lock().await;
        let now = clock.moment();
        {
            let mut live = self.live();
            for (other, status, at) in looks {
                let Some(seen) = live.seen.get_mut(&other.id) else { continue };
                // Meanwhile its own look may have come.
                if seen.last.as_ref().is_some_and(|last| now.since(&last.at) < now.since(&at)) {
                    continue;
                }
                match status {
                    Status::Ok | Status::Warn => seen.bad_since = None,
                    Status::Crit | Status::Unknown => {
                        seen.bad_since.get_or_insert(at);
                    }
                }
            }
        }
        self.look_at_the_whole(&now);
        self.persist().await;
    }

    /// The other checks that have had no say since this one turned bad; none where there are too few to be doubted.
    fn silent_since(&self, check: &Check) -> Vec<Arc<Check>> {
        let checks = self.checks();
        if checks.len() < gates::SUSPECT_LEAST {
            return Vec::new();
        }
        let now = self.outside.clock.moment();
        let live = self.live();
        let since = live.seen.get(&check.id).and_then(|seen| seen.bad_since.as_ref());
        let heard = |last: &Moment| since.is_some_and(|since| now.since(last) <= now.since(since));
        let silent = checks.values().filter(|other| other.id != check.id).filter(|other| {
            let seen = live.seen.get(&other.id);
            let last = seen.and_then(|seen| seen.last.as_ref());
            !last.is_some_and(|look| heard(&look.at))
        });
        silent.cloned().collect()
    }
}
