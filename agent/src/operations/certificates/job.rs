//! The daily check: every certificate is looked at, where it is served too, and what is due is renewed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use genesis_storage::{ReconciliationRecord, RunRecord, RunState, StepRecord, Verdict};

use super::config::Certificate;
use super::record::Who;
use super::renew::Wish;
use super::verify::{Item, NONE, Truth};
use super::watch_loop::Wanted;
use super::{CHECK, Certificates, RENEW};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::runs::{Context, Reconcile, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// So many are renewed at a time.
const AT_ONCE: usize = 4;
/// So many things are told of a check.
const SHOWN: usize = 20;

/// Looks at the certificates once a day.
pub struct Check(pub Arc<Certificates>);

#[async_trait]
impl Job for Check {
    fn name(&self) -> &'static str {
        CHECK
    }

    fn description(&self) -> &'static str {
        "looks at every certificate, where it is served too, and renews what is due"
    }

    fn schedule(&self) -> Schedule {
        self.0.config.load().schedule.clone()
    }

    fn spread(&self) -> Duration {
        self.0.config.load().splay
    }

    fn stance(&self) -> Stance {
        // Who has to get out needs to be let in.
        Stance::GoOn
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        let own = &self.0;
        let who = Who { run: context.id(), ..Who::system() };
        let mut found = Found::default();
        own.put_right(&who, &mut found).await?;
        own.ask_when().await?;
        let mut due = own.renew_all(&context, &mut found).await?;
        found.wrong.extend(own.revoke_again(&who).await?);
        // Last: a list that can't be had keeps nothing from being renewed.
        let looked = own.look_for_revoked(&context).await?;
        if looked.revoked > 0 {
            due += own.renew_all(&context, &mut found).await?;
        }
        own.note_pending(&mut found)?;
        let mut done = match due {
            0 => "nothing is due".to_owned(),
            _ => format!(
                "{} of {due} that were due: {}",
                found.renewed.len(),
                found.renewed.join(", ")
            ),
        };
        if !found.right.is_empty() {
            done = format!("{done}; put where they should be: {}", found.right.join(", "));
        }
        if looked.left > 0 {
            done = format!(
                "{done}; {} revocation lists were not looked at, they are the next ones",
                looked.left
            );
        }
        for list in [&mut found.wrong, &mut found.unknown] {
            list.truncate(SHOWN);
        }
        match (found.wrong.is_empty(), found.unknown.is_empty()) {
            (true, true) => {
                own.metrics.checked(own.now());
                Ok(Report::proven(done))
            }
            (true, false) => {
                Ok(Report::unknown(format!("{done}; not known: {}", found.unknown.join("; "))))
            }
            (false, _) => Err(Error::unavailable(
                "CERTIFICATES_WRONG",
                format!("{done}; {}", found.wrong.join("; ")),
            )),
        }
    }
}

/// What a check has found.
#[derive(Default)]
struct Found {
    /// What is not as it should be.
    wrong: Vec<String>,
    /// What could not be seen.
    unknown: Vec<String>,
    /// Those that were put where they should be.
    right: Vec<String>,
    /// Those that were renewed.
    renewed: Vec<String>,
}

impl Certificates {
    /// Whether it is still configured: a reload may have removed it while the check goes on.
    fn is_there(&self, name: &str) -> Option<Certificate> {
        self.config.load().certificates.iter().find(|it| it.name == name).cloned()
    }

    /// Looks at every certificate, and puts what is in force where it should be.
    async fn put_right(&self, who: &Who, found: &mut Found) -> Result<()> {
        for verified in self.verify("").await? {
            let name = &verified.name;
            let mut items = verified.items;
            // What was never there is ordered later, and what is on its way is looked at again then.
            items.retain(|it| {
                it.truth != Truth::Pass
                    && it.item != "pending"
                    && (it.item != "current" || it.evidence != NONE)
            });
            let placed = |it: &Item| matches!(it.item, "current" | "deployed" | "served");
            if items.iter().any(|it| it.truth == Truth::Fail && placed(it)) {
                let Some(certificate) = self.is_there(name) else { continue };
                match self.deploy_again(&certificate, who).await {
                    Ok(_) => {
                        items.retain(|it| !placed(it));
                        found.right.push(name.clone());
                    }
                    Err(_) if self.is_there(name).is_none() => continue,
                    Err(error) => found.wrong.push(format!("{name}: {}", error.chain())),
                }
            }
            for it in items {
                let list = match it.truth {
                    Truth::Fail => &mut found.wrong,
                    _ => &mut found.unknown,
                };
                list.push(format!("{name}: {}: {}", it.item, it.evidence));
            }
        }
        Ok(())
    }

    /// Renews what is due, and waits for it; how many that were.
    async fn renew_all(self: &Arc<Self>, context: &Context, found: &mut Found) -> Result<usize> {
        let wanted = self.wanted(true)?;
        let count = wanted.len();
        let each = wanted.into_iter().map(|Wanted { name, .. }| {
            let (own, context) = (Arc::clone(self), context.clone());
            async move {
                let ended = async {
                    context.safe_point()?;
                    let who = (context.actor(), context.reason());
                    let wish = Wish { checking: true, ..Wish::default() };
                    let started = own.start(&name, wish, who).await?;
                    own.runs.wait(&started.id).await
                };
                (ended.await, name)
            }
        });
        let ended: Vec<(Result<RunRecord>, String)> =
            stream::iter(each).buffer_unordered(AT_ONCE).collect().await;
        context.safe_point()?;
        for (ended, name) in ended {
            match ended {
                Ok(run) if run.state == RunState::Succeeded => found.renewed.push(name),
                // Nobody asks for it any more.
                _ if self.is_there(&name).is_none() => {}
                Ok(run) if run.state == RunState::Unknown => {
                    found.unknown.push(format!("{name}: {}", run.summary));
                    found.renewed.push(name);
                }
                Ok(run) => found.wrong.push(format!("{name}: {}", run.summary)),
                Err(error) => found.wrong.push(format!("{name}: {}", error.chain())),
            }
        }
        Ok(count)
    }

    /// What is still on its way into service is not known to be served.
    fn note_pending(&self, found: &mut Found) -> Result<()> {
        for certificate in &self.config.load_full().certificates {
            let name = &certificate.name;
            if let Some(deploying) = self.standing(name)?.record.deploying {
                let number = deploying.generation;
                let pending = format!("{name}: generation {number} is on its way into service");
                found.unknown.push(pending);
            }
        }
        Ok(())
    }
}

/// What becomes of a renewal that a crash cut off: the state has what was placed, issued or being deployed, and the first
/// look goes on from there.
pub struct RenewTable;

#[async_trait]
impl Reconcile for RenewTable {
    fn kind(&self) -> &'static str {
        RENEW
    }

    async fn reconcile(&self, _: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord {
        match steps.last() {
            None => ReconciliationRecord {
                verdict: Verdict::NothingDone,
                detail: "it had not begun a step".to_owned(),
            },
            Some(step) => ReconciliationRecord {
                verdict: Verdict::Finished,
                detail: format!(
                    "it was at {} {}; the next run goes on from there",
                    step.name, step.target
                ),
            },
        }
    }
}
