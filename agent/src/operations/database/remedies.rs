//! What is done by itself about a server without free connections, and about sessions that hold others up.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::blockers::{self, Shown, Who};
use super::kill::{Sessions, Told};
use crate::error::{Error, Kind, Result};
use crate::outside::database::directory::Known;
use crate::outside::database::sessions::{Backend, Look, Named, Way};
use crate::plan::PlanStep;
use crate::runs::remedy::{Aim, Permission, Remedy};

/// Who acts.
const ACTOR: &str = "system:health";
/// At most so many steps in one go: clients may come back as fast as they go.
const STEPS: usize = 20;
/// So long the sessions of a step have to be gone.
const GONE: Duration = Duration::from_secs(5);
/// How often it is looked whether they are.
const PACE: Duration = Duration::from_millis(100);
/// A root is one only if it still is after so long: who has just got what others wait for is about to be done with it.
const CONFIRM: Duration = Duration::from_secs(1);
/// So many are named.
const SHOWN: usize = 5;

/// Makes room among the connections of a PostgreSQL server.
pub struct ResetConnections(pub Arc<Sessions>);

#[async_trait]
impl Remedy for ResetConnections {
    fn name(&self) -> &'static str {
        "reset-connections"
    }

    async fn plan(&self, aim: &Aim) -> Result<Vec<PlanStep>> {
        let known = known(&self.0, aim)?;
        let look = self.0.look(&known).await?;
        let some = blockers::resets(&look, &known.entry.spared_roles, aim.goal);
        if some.is_empty() && look.available_percent() < aim.goal {
            return Err(nothing_may_go(&look));
        }
        let step = |backend: &Backend| {
            let idle = look.age(backend.state_change).as_secs();
            let why = format!("{} for {idle} s", blockers::words(backend));
            PlanStep::new("terminate", format!("pid {}", backend.pid), why)
        };
        Ok(some.iter().map(step).collect())
    }

    async fn carry_out(&self, aim: &Aim, permission: &dyn Permission) -> Result<String> {
        let known = known(&self.0, aim)?;
        let before = self.0.look(&known).await?;
        let (mut look, mut ended, mut steps) = (before.clone(), 0, 0);
        while look.available_percent() < aim.goal && steps < STEPS {
            let some = blockers::resets(&look, &known.entry.spared_roles, aim.goal);
            if some.is_empty() {
                break;
            }
            steps += 1;
            let (gone, stopped) = self.step(&known, &some, aim, permission).await;
            ended += gone;
            match stopped {
                Some(error) if ended == 0 => return Err(error),
                // What was done so far counts.
                Some(_) => break,
                None => {}
            }
            look = self.0.look(&known).await?;
        }
        let what = format!(
            "{ended} idle connections ended in {steps} steps; {} of {} are available as measured, {} were before",
            look.available(),
            look.usable(),
            before.available(),
        );
        match ended {
            // Somebody else has made room meanwhile.
            0 if look.available_percent() >= aim.goal => Ok(what),
            0 => Err(nothing_may_go(&look)),
            _ => Ok(what),
        }
    }
}

impl ResetConnections {
    /// Ends these, as long as they idle; how many were told to go, and what stopped it.
    async fn step(
        &self,
        known: &Known,
        some: &[Backend],
        aim: &Aim,
        permission: &dyn Permission,
    ) -> (usize, Option<Error>) {
        let pids: Vec<String> = some.iter().map(|backend| backend.pid.to_string()).collect();
        let told = Told { actor: ACTOR, reason: &aim.reason, run: &aim.run, permission: None };
        let what = format!("connections that idle: pids {}", pids.join(", "));
        let of = || ("database.sessions.reset", known.name().to_owned());
        if let Err(error) = self.0.journal(of(), &told, ("intent", &what)).await {
            return (0, Some(error));
        }
        let (mut sent, mut stopped) = (Vec::new(), None);
        for backend in some {
            let Some(meant) = blockers::while_idle(backend) else { continue };
            let permit = match permission.ask().await {
                Ok(permit) => permit,
                Err(error) => {
                    stopped = Some(error);
                    break;
                }
            };
            let done = self.0.signal(known, &meant, Way::Terminate).await;
            drop(permit);
            match done {
                Ok(true) => sent.push(meant),
                // It has something to do by now.
                Ok(false) => {}
                Err(failure) => {
                    stopped = Some(failure.about(known.name()));
                    break;
                }
            }
        }
        let clock = &self.0.outside.clock;
        let until = clock.monotonic() + GONE;
        while let Ok(look) = self.0.look(known).await {
            let there = |meant: &Named| {
                look.backend(meant.pid)
                    .is_some_and(|it| it.backend_start == Some(meant.backend_start))
            };
            if !sent.iter().any(there) || clock.monotonic() >= until {
                break;
            }
            clock.sleep(PACE).await;
        }
        let detail = match &stopped {
            None => format!("{} of {} ended", sent.len(), some.len()),
            Some(error) => {
                format!("{} of {} ended, then: {}", sent.len(), some.len(), error.chain())
            }
        };
        let outcome = stopped.as_ref().map_or("ok", |error| error.code);
        if let Err(error) = self.0.journal(of(), &told, (outcome, &detail)).await {
            // It is done, whatever can be written about it.
            tracing::error!(error = error.chain(), detail, "a reset is not in the operation log");
        }
        (sent.len(), stopped)
    }
}

/// Ends whoever is at the root of a chain of sessions that wait for each other.
pub struct CancelQuery(pub Arc<Sessions>);

#[async_trait]
impl Remedy for CancelQuery {
    fn name(&self) -> &'static str {
        "cancel-query"
    }

    async fn plan(&self, aim: &Aim) -> Result<Vec<PlanStep>> {
        let known = known(&self.0, aim)?;
        let look = self.0.look(&known).await?;
        let roots = blockers::roots(&look, &known.entry.spared_roles, aim.patience);
        let (free, kept): (Vec<&Shown>, Vec<&Shown>) =
            roots.iter().partition(|root| root.protected.is_none());
        if free.is_empty() && blockers::waiting(&look, aim.patience) > 0 {
            return Err(nobody_may_go(&kept));
        }
        let step = |root: &&Shown| {
            let (pid, how) = match &root.who {
                Who::Session(backend) if blockers::ways(backend).first() == Some(&Way::Cancel) => {
                    (backend.pid, "cancel")
                }
                Who::Session(backend) => (backend.pid, "terminate"),
                Who::Prepared(_) => (0, "report"),
            };
            let why = format!("{} holds up {}", root.words(), root.holds_up);
            PlanStep::new(how, format!("pid {pid}"), why)
        };
        Ok(free.iter().map(step).collect())
    }

    async fn carry_out(&self, aim: &Aim, permission: &dyn Permission) -> Result<String> {
        let known = known(&self.0, aim)?;
        let spared = &known.entry.spared_roles;
        let first = self.0.look(&known).await?;
        let roots = blockers::roots(&first, spared, aim.patience);
        self.0.outside.clock.sleep(CONFIRM).await;
        let second = self.0.look(&known).await?;
        let still = |root: &Shown| {
            // A prepared transaction has no session, and stays.
            root.named().is_none() || roots.iter().any(|before| before.named() == root.named())
        };
        let roots: Vec<Shown> = blockers::roots(&second, spared, aim.patience)
            .into_iter()
            .filter(|root| still(root))
            .collect();
        let told =
            Told { actor: ACTOR, reason: &aim.reason, run: &aim.run, permission: Some(permission) };
        let (mut said, mut done) = (Vec::new(), 0);
        for root in &roots {
            let (None, Who::Session(backend), Some(meant)) =
                (&root.protected, &root.who, root.named())
            else {
                continue;
            };
            match self.0.end(&known, backend, &meant, &told).await {
                Ok(killed) => {
                    done += 1;
                    let how = if killed.by == Way::Cancel { "cancelled" } else { "terminated" };
                    let after =
                        if killed.cleared { "nobody waits for it" } else { "it is not over yet" };
                    said.push(format!(
                        "{}, which held up {}, was {how}: {after}",
                        root.words(),
                        root.holds_up
                    ));
                }
                Err(error) if held_back(&error) && done == 0 => return Err(error),
                Err(error) => {
                    said.push(format!("{} was not ended: {}", root.words(), error.chain()));
                    if held_back(&error) {
                        break;
                    }
                }
            }
        }
        let kept: Vec<&Shown> = roots.iter().filter(|root| root.protected.is_some()).collect();
        match done {
            0 if blockers::waiting(&second, aim.patience) == 0 => {
                Ok("nobody waits any more".to_owned())
            }
            0 if !said.is_empty() => Err(Error::unavailable("ACTION_FAILED", said.join("; "))),
            0 => Err(nobody_may_go(&kept)),
            _ => Ok(said.join("; ")),
        }
    }
}

fn known(sessions: &Sessions, aim: &Aim) -> Result<Arc<Known>> {
    let name = aim.database.as_deref().unwrap_or_default();
    sessions.known(name)
}

/// Whether the leave for what is left was withdrawn.
fn held_back(error: &Error) -> bool {
    error.code == "ACTION_REFUSED" || error.kind == Kind::Cancelled
}

fn nothing_may_go(look: &Look) -> Error {
    let groups = look.groups().into_iter().take(SHOWN);
    let groups: Vec<String> = groups.map(|(what, count)| format!("{count} {what}")).collect();
    let message = format!(
        "{} of {} connections are available, and none that idles may go: {}",
        look.available(),
        look.usable(),
        groups.join(", ")
    );
    Error::unavailable("ACTION_FAILED", message)
}

fn nobody_may_go(kept: &[&Shown]) -> Error {
    let named: Vec<String> = kept
        .iter()
        .take(SHOWN)
        .map(|root| {
            let why = root.protected.as_deref().unwrap_or_default();
            format!("{}, which holds up {}: {why}", root.words(), root.holds_up)
        })
        .collect();
    let message = match named.is_empty() {
        true => "nobody has been at the root of it for long enough to be ended; the server itself breaks rings".to_owned(),
        false => format!("nobody at the root of it may be ended: {}", named.join("; ")),
    };
    Error::unavailable("ACTION_FAILED", message)
}
