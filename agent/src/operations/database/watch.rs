//! While care goes on, somebody watches: nobody waits long for us, and everything ends when it must.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::outside::Clock;
use crate::outside::database::Postgres;
use crate::outside::database::postgres::{Limits, Session};
use crate::outside::database::upkeep;
use crate::runs::Context;

/// So often it is looked whether somebody waits.
const PACE: Duration = Duration::from_millis(100);
/// Nobody waits longer than that, however long lock_timeout is.
const PATIENCE: Duration = Duration::from_secs(1);

/// The agent's own sessions at work, and why each was cut short.
#[derive(Debug, Default)]
pub struct Watched {
    /// By process: what it works on.
    sessions: Mutex<BTreeMap<i32, String>>,
    cut: Mutex<HashMap<i32, String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Watched {
    /// Watches a session for as long as the value lives.
    pub fn watch(self: &Arc<Self>, pid: i32, what: &str) -> Watching {
        lock(&self.cut).remove(&pid);
        lock(&self.sessions).insert(pid, what.to_owned());
        Watching { watched: Arc::clone(self), pid }
    }

    fn pids(&self) -> Vec<i32> {
        lock(&self.sessions).keys().copied().collect()
    }
}

/// See [`Watched::watch`].
#[derive(Debug)]
pub struct Watching {
    watched: Arc<Watched>,
    pid: i32,
}

impl Watching {
    /// Why it was cut short, if it was.
    pub fn cut(&self) -> Option<String> {
        lock(&self.watched.cut).remove(&self.pid)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        lock(&self.watched.sessions).remove(&self.pid);
    }
}

/// Watches until it is dropped. `ends` is when everything must have ended, by the monotonic clock.
pub async fn serve(
    watched: Arc<Watched>,
    target: Postgres,
    clock: Arc<dyn Clock>,
    context: Context,
    (lock_timeout, ends): (Duration, Duration),
) {
    let patience = (lock_timeout / 2).min(PATIENCE);
    let mut session = None;
    loop {
        let over = clock.monotonic() >= ends;
        let cancelled = context.safe_point().is_err();
        if let Err(failure) =
            look(&mut session, &target, &watched, patience, (over, cancelled)).await
        {
            tracing::warn!(%failure, "nobody can see who waits for the care of this database");
            session = None;
        }
        tokio::select! {
            () = clock.sleep(PACE) => {}
            // Once cancelled this resolves at once; the pace above is then what it is asked at.
            () = context.cancelled(), if !cancelled => {}
        }
    }
}

async fn look(
    session: &mut Option<Session>,
    target: &Postgres,
    watched: &Watched,
    patience: Duration,
    (over, cancelled): (bool, bool),
) -> Result<(), crate::outside::database::Failure> {
    let pids = watched.pids();
    if pids.is_empty() {
        return Ok(());
    }
    let session = match session {
        Some(session) => session,
        None => session.insert(Session::open(target, "watch", Limits::LOOK).await?),
    };
    let reason = match (cancelled, over) {
        (true, _) => Some("the run was cancelled"),
        (false, true) => Some("its window is over"),
        (false, false) => None,
    };
    if let Some(reason) = reason {
        for pid in pids {
            lock(&watched.cut).insert(pid, reason.to_owned());
            upkeep::cancel(session, pid).await?;
        }
        return Ok(());
    }
    for waited in upkeep::waiting_for(session, &pids).await? {
        if u128::from(waited.for_ms.unsigned_abs()) < patience.as_millis() {
            continue;
        }
        let reason = format!("it gave way to pid {}, which waited for it", waited.waiter);
        lock(&watched.cut).insert(waited.ours, reason);
        upkeep::cancel(session, waited.ours).await?;
    }
    Ok(())
}
