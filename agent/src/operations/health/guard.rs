//! Critical trades: asked about as soon as an action waits that reaches into trading, and never in the way of other
//! checks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Health;
use super::check::Check;
use super::view::Explanation;
use crate::error::Result;
use crate::trading::{Critical, Reading};

/// A reading that is younger is good enough to decide whether an action may be prepared. Before it begins, and before
/// each of its side effects, there is a new one.
const FRESH: Duration = Duration::from_secs(2);

/// Why a reading holds back what reaches into trading; `None`: it does not.
pub(super) fn denial(reading: &Reading) -> Option<String> {
    let evidence = &reading.evidence;
    match reading.critical {
        Critical::None => None,
        Critical::InProgress => Some(format!("critical trades are in progress: {evidence}")),
        Critical::Unknown => {
            Some(format!("whether critical trades are in progress can't be told: {evidence}"))
        }
    }
}

/// As long as this is there, somebody is asked, and nobody else is.
struct Asking(Arc<Health>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.asking_about_trades.store(false, Ordering::SeqCst);
    }
}

impl Health {
    /// Has somebody asked, aside, where one of these checks waits for an action that reaches into trading and the last
    /// reading is not fresh; then it is decided again.
    pub(super) fn ask_about_trades<'c>(
        self: &Arc<Self>,
        mut waiting: impl Iterator<Item = &'c Check>,
    ) {
        let touching = waiting
            .any(|check| check.action.as_ref().is_some_and(|deed| deed.action.trade_touching));
        if !touching || !self.stale() || self.asking_about_trades.swap(true, Ordering::SeqCst) {
            return;
        }
        let health = Arc::clone(self);
        tokio::spawn(async move {
            // Until it was decided, lest an answer that takes long is asked for over and over.
            let asking = Asking(health);
            let health = &asking.0;
            health.trades.look_all().await;
            let _alone = health.deciding.lock().await;
            health.decide(&health.outside.clock.moment());
            health.persist().await;
        });
    }

    fn stale(&self) -> bool {
        self.trades.can_ask() && self.trades.age().is_none_or(|age| age > FRESH)
    }

    /// [`Health::explain`], after asking about trades where they may be what holds it back.
    ///
    /// # Errors
    /// Those of it.
    pub async fn explain_now(&self, name: &str) -> Result<Explanation> {
        let (id, _) = self.parse_issue(name);
        let check = self.known_check(id)?;
        let touching = check.action.as_ref().is_some_and(|deed| deed.action.trade_touching);
        if touching && self.stale() && self.open_issue(id).is_ok() {
            self.trades.look_all().await;
        }
        self.explain(name)
    }
}
