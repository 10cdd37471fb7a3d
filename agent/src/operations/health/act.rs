//! Carries actions out, by whatever means they have, and asks for leave before each side effect.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::poll;
use genesis_storage::Control;
use serde_json::json;

use super::Health;
use super::check::{Check, Deed, Means};
use crate::error::{Error, Result, Unmet};
use crate::outside::hooks::{self, Hook};
use crate::outside::probes::Probe;
use crate::outside::process;
use crate::plan::PlanStep;
use crate::runs::Context;
use crate::runs::remedy::{Aim, Permission, Permit, Remedy, Room};

/// What the agent does by itself takes no longer; a command has its own time.
const LONGEST: Duration = Duration::from_secs(600);

impl Health {
    fn aim(&self, check: &Check, reason: String, run: String) -> Aim {
        let goal = check.limits.clear.or(check.limits.crit).unwrap_or_default();
        let room = match check.probe {
            Probe::DiskInodes { .. } => Room::Inodes,
            _ => Room::Bytes,
        };
        let (database, patience) = match &check.probe {
            Probe::DatabaseBlocked { database, patience } => (Some(database.clone()), *patience),
            probe => (probe.database().map(str::to_owned), Duration::ZERO),
        };
        let (check, path) = (check.id.clone(), check.path().cloned());
        Aim { check, path, room, database, patience, goal, reason, run }
    }

    /// What a deed would do, in words.
    ///
    /// # Errors
    /// Why it can do nothing.
    pub(super) async fn plan_deed(&self, check: &Check, deed: &Deed) -> Result<Vec<PlanStep>> {
        match &deed.means {
            Means::BuiltIn(name) => {
                self.remedy(name)?.plan(&self.aim(check, String::new(), String::new())).await
            }
            means => {
                let step = PlanStep::new(deed.action.name, &check.id, means.words());
                Ok(vec![step])
            }
        }
    }

    fn remedy(&self, name: &str) -> Result<&Arc<dyn Remedy>> {
        self.remedies.iter().find(|remedy| remedy.name() == name).ok_or_else(|| {
            Error::internal("ACTION_UNKNOWN", format!("nothing here knows how to {name}"))
        })
    }

    /// Carries a deed out, by whatever means it has, and says what came of it.
    pub(super) async fn carry_out(
        &self,
        check: &Check,
        deed: &Deed,
        leave: &Leave,
        reason: &str,
        (run, attempt): (&str, u32),
    ) -> Result<String> {
        match &deed.means {
            Means::BuiltIn(name) => {
                let aim = self.aim(check, reason.to_owned(), run.to_owned());
                let acting = self.remedy(name)?.carry_out(&aim, leave);
                match tokio::time::timeout(LONGEST, acting).await {
                    Ok(done) => done,
                    // What was begun is not known to be undone: the check tells.
                    Err(_) => Ok(format!("given up after {} minutes", LONGEST.as_secs() / 60)),
                }
            }
            Means::Hook(hook) => {
                let detail = {
                    let live = self.live();
                    let last = live.seen.get(&check.id).and_then(|seen| seen.last.as_ref());
                    last.map_or_else(String::new, |look| look.detail.clone())
                };
                let running = {
                    let _permit = leave.ask().await?;
                    spawn(hook, check, deed, (reason, &detail), attempt)
                        .map_err(|error| failed(&error))?
                };
                let output = running.finish().await.map_err(|error| failed(&error))?;
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let last =
                    said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("exit 0");
                Ok(format!(
                    "the command ended well: {}",
                    last.chars().take(200).collect::<String>()
                ))
            }
            Means::Signal { signal, pidfile } => {
                let _permit = leave.ask().await?;
                process::signal(pidfile, *signal)
                    .map_err(|why| Error::unavailable("ACTION_FAILED", why))?;
                Ok(format!("{signal:?} was sent to the process of {}", pidfile.display()))
            }
            Means::Http { url, timeout } => {
                let body =
                    json!({ "check": check.id, "action": deed.action.name, "reason": reason });
                let headers = [("content-type", "application/json")];
                let post = self.outside.web.post(url, &headers, body.to_string(), 0);
                let mut request = Box::pin(tokio::time::timeout(*timeout, post));
                let permit = leave.ask().await?;
                // Once it is under way it has begun.
                let begun = poll!(&mut request);
                drop(permit);
                let answer = match begun {
                    std::task::Poll::Ready(answer) => answer,
                    std::task::Poll::Pending => request.await,
                };
                let failed = |why: String| Error::unavailable("ACTION_FAILED", why);
                let answer = answer
                    .map_err(|_| failed(format!("the service did not answer within {timeout:?}")))?
                    .map_err(|why| failed(format!("the service was not reached: {why}")))?;
                match answer.status {
                    status @ 200..=299 => Ok(format!("the service answered {status}")),
                    status => Err(failed(format!("the service answered {status}"))),
                }
            }
        }
    }
}

/// To whoever asked for the action it is all one by what means it was to be carried out.
fn failed(error: &Error) -> Error {
    Error::unavailable("ACTION_FAILED", error.chain())
}

fn spawn(
    hook: &Hook,
    check: &Check,
    deed: &Deed,
    (reason, detail): (&str, &str),
    attempt: u32,
) -> Result<hooks::Running> {
    let target = check.target();
    let input = json!({
        "action": deed.action.name,
        "check": check.id,
        "row": check.row.name,
        "target": target,
        "attempt": attempt,
        "detail": detail,
        "reason": reason,
    });
    let variables = [
        ("ACTION", deed.action.name.to_owned()),
        ("CHECK", check.id.clone()),
        ("TARGET", target),
        ("ATTEMPT", attempt.to_string()),
    ];
    hooks::spawn(hook, &input, &variables)
}

/// The turn of one action: there is one at a time. It ends when this is dropped, however that comes about.
pub(super) struct Turn {
    health: Arc<Health>,
    number: u64,
}

impl Turn {
    /// A turn for this action, unless another one goes on.
    pub(super) fn take(health: &Arc<Health>, what: String) -> Option<Self> {
        let mut live = health.live();
        if live.busy.is_some() {
            return None;
        }
        live.turns += 1;
        let number = live.turns;
        live.busy = Some((number, what));
        drop(live);
        Some(Self { health: Arc::clone(health), number })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut live = self.health.live();
        if live.busy.as_ref().is_some_and(|(number, _)| *number == self.number) {
            live.busy = None;
        }
    }
}

/// Leave for the side effects of one deed.
pub(super) struct Leave {
    pub(super) health: Arc<Health>,
    pub(super) check: Arc<Check>,
    pub(super) deed: Deed,
    /// The run that it is done in.
    pub(super) context: Context,
    /// A person asked for it; whether trades in progress don't hold it back either.
    pub(super) by_hand: Option<bool>,
}

impl Leave {
    /// Trades in progress hold it back.
    fn guarded(&self) -> bool {
        self.deed.action.trade_touching && self.by_hand != Some(true)
    }

    /// What withdraws the leave.
    fn withdrawn(&self) -> Option<Unmet> {
        let health = &self.health;
        let now = health.outside.clock.moment();
        let unmet = |code: &'static str, message: &str| {
            Some(Unmet {
                code,
                subject: self.deed.action.name.to_owned(),
                message: message.to_owned(),
            })
        };
        if health.runs.emergency().active() && !self.deed.action.goes_on {
            return unmet("EMERGENCY", "an emergency is in force");
        }
        if self.guarded()
            && let Some(why) = super::guard::denial(&health.trades.latest())
        {
            return unmet("GUARD", &why);
        }
        if self.by_hand.is_some() {
            return None;
        }
        let config = health.config();
        let same = health.check(&self.check.id).and_then(|check| check.action.clone());
        let live = health.live();
        let issue = live.seen.get(&self.check.id).and_then(super::Seen::open);
        let left_to_people = issue.is_some_and(|i| i.escalated.is_some() && i.acked.is_none());
        let holds =
            |control: Control| live.controls.get(&control).filter(|record| record.holds(&now));
        let disabled = holds(Control::Disabled).is_some() || !config.remediation;
        match () {
            () if config.dry_run => unmet("DRY_RUN", "actions are only planned"),
            () if same.as_ref() != Some(&self.deed) => {
                unmet(super::decide::NO_ACTION, "its check has another action now, or none")
            }
            () if left_to_people => unmet("ESCALATED", "people were called meanwhile"),
            () if disabled => unmet("DISABLED", "remediation is switched off"),
            () if holds(Control::Brake).is_some() => unmet("STORM", "the brake is set"),
            () if holds(Control::CheckerSuspect).is_some() => {
                unmet("CHECKER_SUSPECT", "the checks are doubted")
            }
            () => None,
        }
    }
}

#[async_trait]
impl Permission for Leave {
    async fn ask(&self) -> Result<Permit> {
        // Anew for each side effect, and before anybody else is kept waiting.
        if self.guarded() {
            self.health.trades.look_all().await;
        }
        let guard = Arc::clone(&self.health.deciding).lock_owned().await;
        self.context.safe_point()?;
        match self.withdrawn() {
            None => Ok(Permit::new(guard)),
            Some(unmet) => {
                let message = format!("held back before it began: {}", unmet.message);
                Err(Error::refused("ACTION_REFUSED", message, vec![unmet]))
            }
        }
    }
}
