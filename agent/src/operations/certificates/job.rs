//! The daily check: every certificate is looked at, where it is served too, and what is due is renewed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use genesis_storage::{ReconciliationRecord, RunRecord, RunState, StepRecord, Verdict};

use super::record::Who;
use super::renew::Wish;
use super::verify::{NONE, Truth};
use super::{CHECK, Certificates, RENEW};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::runs::{Context, Reconcile, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// So many are renewed at a time.
const AT_ONCE: usize = 4;

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
        let (mut wrong, mut put_right) = (Vec::new(), Vec::new());
        for verified in own.verify("").await? {
            let mut items: Vec<_> =
                verified.items.into_iter().filter(|it| it.truth == Truth::Fail).collect();
            // What was never there is ordered below.
            items.retain(|it| it.item != "current" || it.evidence != NONE);
            if items.iter().any(|it| matches!(it.item, "current" | "deployed" | "served")) {
                let who = Who { run: context.id(), ..Who::system() };
                let certificate = own.named(&verified.name)?;
                match own.deploy_again(&certificate, &who).await {
                    Ok(_) => {
                        items.retain(|it| !matches!(it.item, "current" | "deployed" | "served"));
                        put_right.push(verified.name.clone());
                    }
                    Err(error) => wrong.push(format!("{}: {}", verified.name, error.chain())),
                }
            }
            let bad = items.iter();
            wrong.extend(bad.map(|it| format!("{}: {}: {}", verified.name, it.item, it.evidence)));
        }
        own.look_for_revoked().await?;
        own.ask_when().await?;
        let wanted = own.wanted(true)?;
        let count = wanted.len();
        let each = wanted.into_iter().map(|name| {
            let context = context.clone();
            async move {
                context.safe_point()?;
                let who = (context.actor(), context.reason());
                let wish = Wish { checking: true, ..Wish::default() };
                let started = own.start(&name, wish, who).await?;
                let ended = own.runs.wait(&started.id).await?;
                Ok::<_, Error>((name, ended))
            }
        });
        let ended: Vec<Result<_>> = stream::iter(each).buffer_unordered(AT_ONCE).collect().await;
        let mut renewed = Vec::new();
        for one in ended {
            let (name, ended) = one?;
            match ended.state {
                RunState::Succeeded | RunState::Unknown => renewed.push(name),
                _ => wrong.push(format!("{name}: {}", ended.summary)),
            }
        }
        let mut done = match count {
            0 => "nothing is due".to_owned(),
            _ => format!("{} of {count} that were due: {}", renewed.len(), renewed.join(", ")),
        };
        if !put_right.is_empty() {
            done = format!("{done}; put where they should be: {}", put_right.join(", "));
        }
        match wrong.is_empty() {
            true => Ok(Report::proven(done)),
            false => {
                wrong.truncate(20);
                Err(Error::unavailable(
                    "CERTIFICATES_WRONG",
                    format!("{done}; {}", wrong.join("; ")),
                ))
            }
        }
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
