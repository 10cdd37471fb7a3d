//! What people hear of matrices: one that was rejected, one that was harmful, a rollout that stands, values that can't be
//! kept, and a file that can't be opened.

use async_trait::async_trait;
use genesis_storage::MatrixRecord;
use jiff::Timestamp;

use super::rollout::unmet;
use super::stage::Verdict;
use super::{Matrices, RUNBOOK, plan};
use crate::error::Result;
use crate::events::{Condition, Severity, Source};

/// So long, in seconds, it is told that one was rolled back by itself.
const TOLD: i64 = 86_400;

pub(super) fn condition(
    key: &str,
    severity: Severity,
    title: String,
    details: Vec<String>,
    since: Timestamp,
) -> Condition {
    Condition {
        subject: key.rsplit('/').next().unwrap_or("matrices").to_owned(),
        key: format!("matrices/{key}"),
        severity,
        title,
        details,
        runbook: RUNBOOK.to_owned(),
        since,
        behind: Vec::new(),
    }
}

impl Matrices {
    /// The stage that goes on stands.
    pub(super) fn standing(&self, canary: &MatrixRecord) -> Option<Condition> {
        let version = canary.version;
        let began = canary.stages.last()?.began_at;
        let seconds = self.now().duration_since(began).as_secs();
        let stalled = seconds >= self.config().stalled_after.as_secs() as i64;
        let unjudged = self.live().unjudged.clone().filter(|(of, _)| *of == version);
        let stage = match unjudged {
            Some((_, why)) => Err(crate::error::Error::internal("STORAGE_RECORD_UNREADABLE", why)),
            None => self.stage_of(canary),
        };
        let (verdict, percent, why) = match stage {
            Ok(stage) => {
                let (_, verdict, why) = stage.view();
                (Some(verdict), stage.percent, why)
            }
            Err(error) => (None, canary.stages.last()?.percent, error.message),
        };
        let held = verdict.is_none_or(|it| it != Verdict::Waiting);
        if !held && !stalled {
            return None;
        }
        let title = match verdict {
            None => format!("what was reported of version {version} of the matrix can't be read"),
            Some(Verdict::Held) => {
                format!("the rollout of version {version} of the matrix is held at {percent} %")
            }
            Some(Verdict::Harmful) => {
                format!("version {version} of the matrix is harmful, and its end can't be noted")
            }
            Some(Verdict::Passed) => {
                format!("the rollout of version {version} of the matrix waits at {percent} %")
            }
            Some(Verdict::Waiting) => {
                format!("the rollout of version {version} of the matrix stands at {percent} %")
            }
        };
        let details = vec![
            why,
            "no other matrix is calculated until it ends".to_owned(),
            "genesisctl matrix rollout status".to_owned(),
            "genesisctl matrix rollout advance --reason ... or abort --reason ...".to_owned(),
        ];
        let key = if held { "held" } else { "stalled" };
        let grave = matches!(verdict, None | Some(Verdict::Harmful));
        let severity = if grave { Severity::High } else { Severity::Medium };
        Some(condition(&format!("{key}/version-{version}"), severity, title, details, began))
    }
}

#[async_trait]
impl Source for Matrices {
    fn name(&self) -> &'static str {
        "matrices"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let now = self.now();
        let mut all = Vec::new();
        if let Err((_, why)) = &self.store {
            let title = "the file of values can't be opened: no matrix is calculated".to_owned();
            let details = vec![why.clone(), "what is active stays active".to_owned()];
            all.push(condition("file/values", Severity::High, title, details, self.started_at));
        }
        if let Some((since, why)) = self.trouble() {
            let title = "values of series are not kept".to_owned();
            let details = vec![
                why,
                "programs keep what is not answered, as long as they have room".to_owned(),
            ];
            all.push(condition("failing/values", Severity::High, title, details, since));
        }
        all.extend(self.sharing_told());
        let versions = self.versions();
        for (version, why) in self.live().unreadable.clone() {
            let title = format!("the values of version {version} of the matrix can't be read");
            let details = vec![
                why,
                "consumers keep what they have; who asks anew gets none".to_owned(),
                "genesisctl matrix rollback --reason ... goes to the version before".to_owned(),
            ];
            let key = format!("unreadable/version-{version}");
            all.push(condition(&key, Severity::High, title, details, self.started_at));
        }
        if let Some(canary) = plan::in_state(&versions, plan::CANARY) {
            all.extend(self.standing(canary));
        }
        if let Some(last) = versions.values().next_back().filter(|it| it.state == plan::REJECTED) {
            let version = last.version;
            let title = format!("version {version} of the matrix is rejected");
            let details = vec![
                unmet(last),
                "what was active stays active".to_owned(),
                format!("genesisctl matrix show --version {version}"),
            ];
            // The next one that is rejected is told with it.
            let key = "rejected/update";
            all.push(condition(key, Severity::Medium, title, details, last.calculated_at));
        }
        for record in versions.values().rev().filter(|it| it.state == plan::ROLLED_BACK) {
            let Some(ended) = record.ended_at else { continue };
            let last = record.stages.last();
            // It may have been made active later, and left by hand.
            let harmful =
                last.is_some_and(|it| it.how == plan::HARMFUL && it.ended_at == Some(ended));
            if harmful && now.duration_since(ended).as_secs() < TOLD {
                let version = record.version;
                let title = format!("version {version} of the matrix was rolled back by itself");
                let details = vec![
                    record.ended_reason.clone(),
                    format!("all consumers use version {} again", record.control),
                    format!("genesisctl matrix rollout status --version {version}"),
                ];
                let key = format!("harm/version-{version}");
                all.push(condition(&key, Severity::Medium, title, details, ended));
            }
        }
        if let Some(active) = plan::in_state(&versions, plan::ACTIVE) {
            let age = now.duration_since(active.calculated_at).as_secs();
            let most = self.config().stale_after.as_secs() as i64;
            if age >= most {
                let title = format!("the active matrix is {} days old", age / super::DAY);
                let details = vec![
                    format!(
                        "version {} was calculated at {}",
                        active.version, active.calculated_at
                    ),
                    "genesisctl matrix history".to_owned(),
                ];
                let since = active.calculated_at + jiff::SignedDuration::from_secs(most);
                all.push(condition("stale/active", Severity::Medium, title, details, since));
            }
        }
        Ok(all)
    }
}
