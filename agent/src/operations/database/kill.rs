//! Who holds up whom, and the end of one of them: announced before, read back after.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::Intent;

use super::blockers::{self, Shown};
use super::config::Instance;
use crate::error::{Error, Result, Unmet};
use crate::outside::Outside;
use crate::outside::database::Failure;
use crate::outside::database::directory::Known;
use crate::outside::database::sessions::{self, Backend, Look, Named, Way};
use crate::plan::{Plan, PlanStep, demand_reason};
use crate::runs::remedy::Permission;
use crate::state::State;

/// A statement that was cancelled has ended by then, or does not listen.
const CANCELLED: Duration = Duration::from_secs(5);
/// A session that was terminated has rolled back by then, or takes its time.
const TERMINATED: Duration = Duration::from_secs(10);
/// How often it is looked whether it is over.
const PACE: Duration = Duration::from_millis(200);

/// Who waits for whom in a database.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockersView {
    /// Its name.
    pub database: String,
    /// The roots first, each followed by those that it holds up.
    pub sessions: Vec<Shown>,
    /// True deadlocks that the server itself has ended, since its statistics began.
    pub deadlocks: u64,
    /// The look that it was made of.
    pub look: Look,
}

/// How a session was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed {
    /// By what.
    pub by: Way,
    /// Read back: it does no longer what it did, and nobody waits for it.
    pub cleared: bool,
}

/// What the ending of a session is told to be for.
pub(super) struct Told<'a> {
    pub(super) actor: &'a str,
    pub(super) reason: &'a str,
    /// The run that it belongs to; may be empty.
    pub(super) run: &'a str,
    /// Asked before each signal.
    pub(super) permission: Option<&'a dyn Permission>,
}

/// Looks at the sessions of databases, and ends them.
pub struct Sessions {
    state: State,
    pub(super) outside: Outside,
}

impl Sessions {
    /// Journals in `state`.
    pub fn new(state: State, outside: Outside) -> Self {
        Self { state, outside }
    }

    /// Who waits for whom, and who is at the root.
    ///
    /// # Errors
    /// `DATABASE_NOT_FOUND`, `DATABASE_UNREACHABLE`, `DATABASE_FAILED`.
    pub async fn list(&self, instance: &Instance) -> Result<BlockersView> {
        let known = self.known(&instance.target.name)?;
        let look = self.look(&known).await?;
        Ok(BlockersView {
            database: known.name().to_owned(),
            sessions: blockers::chains(&look, &known.entry.spared_roles),
            deadlocks: look.deadlocks,
            look,
        })
    }

    /// What ending what a session does would be.
    ///
    /// # Errors
    /// Those of [`Sessions::list`], `SESSION_NOT_FOUND`, `SESSION_PROTECTED`.
    pub async fn plan_kill(&self, instance: &Instance, pid: i32) -> Result<Plan> {
        let known = self.known(&instance.target.name)?;
        let (plan, ..) = self.planned(&known, pid).await?;
        Ok(plan)
    }

    async fn planned(&self, known: &Known, pid: i32) -> Result<(Plan, Backend, Named)> {
        let (look, name) = (self.look(known).await?, known.name());
        let backend = look.backend(pid).cloned().ok_or_else(|| {
            let message = format!("database {name} has no session {pid} (any more)");
            Error::not_found("SESSION_NOT_FOUND", message)
        })?;
        if let Some(why) = blockers::protected(&backend, &known.entry.spared_roles) {
            return Err(is_protected(name, pid, why));
        }
        let named = backend.named().ok_or_else(|| {
            is_protected(
                name,
                pid,
                "the agent's role may not see since when it is there".to_owned(),
            )
        })?;
        let held: usize = look.backends.iter().filter(|it| it.waits_for.contains(&pid)).count();
        let what = format!("{}; {held} wait for it", blockers::words(&backend));
        let steps = blockers::ways(&backend).iter().map(|way| match way {
            Way::Cancel => PlanStep::new("cancel", format!("pid {pid}"), what.clone()),
            Way::Terminate => {
                let why = match blockers::ways(&backend) {
                    [Way::Terminate] => what.clone(),
                    _ => format!(
                        "if its statement goes on, or holds on, {} s later",
                        CANCELLED.as_secs()
                    ),
                };
                PlanStep::new("terminate", format!("pid {pid}"), why)
            }
        });
        let moment = |at: Option<jiff::Timestamp>| at.map_or_else(String::new, |at| at.to_string());
        let (begun, since) = (moment(Some(named.backend_start)), moment(named.xact_start));
        let plan = Plan::new("database.kill", &[name, &begun, &since], steps.collect());
        Ok((plan, backend, named))
    }

    /// Ends what a session does, as long as it still does that.
    ///
    /// # Errors
    /// Those of [`Sessions::plan_kill`], `REASON_MISSING`, `PLAN_CHANGED`, `SESSION_CHANGED`, `STORAGE_FAILED` (then
    /// nobody was ended).
    pub async fn kill(
        &self,
        instance: &Instance,
        pid: i32,
        plan_hash: &str,
        (actor, reason): (&str, &str),
    ) -> Result<Killed> {
        demand_reason(reason, "a session is ended with a reason")?;
        let known = self.known(&instance.target.name)?;
        let (plan, backend, named) = self.planned(&known, pid).await?;
        plan.accept(plan_hash)?;
        let told = Told { actor, reason, run: "", permission: None };
        self.end(&known, &backend, &named, &told).await
    }

    /// Ends what `meant` does: announced, done, looked at, and what came of it journalled.
    pub(super) async fn end(
        &self,
        known: &Known,
        backend: &Backend,
        meant: &Named,
        told: &Told<'_>,
    ) -> Result<Killed> {
        let what = format!("{}: {}", blockers::words(backend), backend.query);
        let of = ("database.session.end", format!("{} pid {}", known.name(), meant.pid));
        self.journal(of.clone(), told, ("intent", &what)).await?;
        let ended = self.try_ways(known, meant, blockers::ways(backend), told.permission).await;
        let (outcome, detail) = match &ended {
            Ok(killed) => {
                let by = if killed.by == Way::Cancel { "cancelled" } else { "terminated" };
                let after =
                    if killed.cleared { "nobody waits for it" } else { "it is not over yet" };
                (by, format!("{by}, and {after}: {what}"))
            }
            Err(error) => (error.code, error.chain()),
        };
        if let Err(error) = self.journal(of, told, (outcome, &detail)).await {
            // It is done, whatever can be written about it.
            tracing::error!(
                error = error.chain(),
                detail,
                "the end of a session is not in the operation log"
            );
        }
        ended
    }

    async fn try_ways(
        &self,
        known: &Known,
        meant: &Named,
        ways: &[Way],
        permission: Option<&dyn Permission>,
    ) -> Result<Killed> {
        let (name, mut meant, mut last) = (known.name(), *meant, None);
        for way in ways {
            let permit = match permission {
                Some(permission) => match permission.ask().await {
                    Ok(permit) => Some(permit),
                    // What was done so far counts.
                    Err(error) => return last.map(|by| Killed { by, cleared: false }).ok_or(error),
                },
                None => None,
            };
            let sent = self.signal(known, &meant, *way).await;
            drop(permit);
            match (sent, last) {
                (Ok(true), _) => {}
                // The way before it has helped meanwhile.
                (Ok(false), Some(by)) => {
                    let cleared = !blockers::waited_for(&self.look(known).await?, meant.pid);
                    return Ok(Killed { by, cleared });
                }
                (Ok(false), None) => {
                    let message = format!(
                        "session {} of database {name} does something else by now, or is gone; nobody was ended",
                        meant.pid
                    );
                    return Err(Error::conflict("SESSION_CHANGED", message));
                }
                (Err(Failure::Refused { code, message }), _) if code == "42501" => {
                    return Err(is_protected(name, meant.pid, message));
                }
                (Err(failure), _) => return Err(failure.about(name)),
            }
            last = Some(*way);
            match self.see_it_end(known, &meant, *way).await {
                Ok(None) => return Ok(Killed { by: *way, cleared: true }),
                Ok(Some(look)) => meant = blockers::after_cancel(&look, &meant).unwrap_or(meant),
                // It was sent; what came of it can't be told.
                Err(error) => {
                    tracing::error!(
                        error = error.chain(),
                        "whether a session has ended can't be told"
                    );
                    return Ok(Killed { by: *way, cleared: false });
                }
            }
        }
        Ok(Killed { by: last.unwrap_or(Way::Terminate), cleared: false })
    }

    /// Sends one signal, through the connection that stays open: a server whose slots are all taken has no other.
    pub(super) async fn signal(
        &self,
        known: &Known,
        meant: &Named,
        way: Way,
    ) -> Result<bool, Failure> {
        let mut way_in = known.enter().await?;
        let sent = sessions::end(&mut way_in.session, meant, way).await;
        if !matches!(sent, Err(Failure::Unreachable(_))) {
            way_in.keep();
        }
        sent
    }

    /// Waits until what `meant` did has ended, and nobody waits for it; the last look where that does not come in time.
    async fn see_it_end(&self, known: &Known, meant: &Named, way: Way) -> Result<Option<Look>> {
        let clock = &self.outside.clock;
        let patience = if way == Way::Cancel { CANCELLED } else { TERMINATED };
        let until = clock.monotonic() + patience;
        loop {
            let look = self.look(known).await?;
            let backend = look.backend(meant.pid);
            let goes_on = backend.is_some_and(|backend| match way {
                // A transaction that was cancelled may be there still, and holds nothing any more.
                Way::Cancel => {
                    backend.state == "active"
                        && backend.named().is_some_and(|named| is_same(&named, meant))
                }
                Way::Terminate => backend.backend_start == Some(meant.backend_start),
            });
            if !goes_on && !blockers::waited_for(&look, meant.pid) {
                return Ok(None);
            }
            if clock.monotonic() >= until {
                return Ok(Some(look));
            }
            clock.sleep(PACE).await;
        }
    }

    /// The sessions as they are now.
    pub(super) async fn look(&self, known: &Known) -> Result<Look> {
        let about = |failure: Failure| failure.about(known.name());
        let mut way_in = known.enter().await.map_err(about)?;
        let look = Look::take(&mut way_in.session).await.map_err(about)?;
        way_in.keep();
        Ok(look)
    }

    /// The database of this name.
    pub(super) fn known(&self, name: &str) -> Result<Arc<Known>> {
        self.outside.databases.get(name).map_err(|why| Error::not_found("DATABASE_NOT_FOUND", why))
    }

    /// Journals what is about to be done, or what came of it.
    pub(super) async fn journal(
        &self,
        (action, target): (&str, String),
        told: &Told<'_>,
        (outcome, detail): (&str, &str),
    ) -> Result<()> {
        let intent = Intent::new(self.outside.clock.now(), told.actor, action)
            .target(target)
            .reason(told.reason)
            .outcome(outcome)
            .detail(detail)
            .correlation_id(told.run);
        self.state.note(intent).await
    }
}

/// Whether it is the same session, in the same transaction.
fn is_same(one: &Named, other: &Named) -> bool {
    (one.pid, one.backend_start, one.xact_start)
        == (other.pid, other.backend_start, other.xact_start)
}

fn is_protected(database: &str, pid: i32, why: String) -> Error {
    let message = format!("session {pid} of database {database} is not ended: {why}");
    let unmet = Unmet { code: "SESSION_PROTECTED", subject: format!("pid {pid}"), message: why };
    Error::refused("SESSION_PROTECTED", message, vec![unmet])
}
