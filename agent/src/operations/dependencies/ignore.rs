//! What people want not to hear of for some time, said beside the configuration.

use std::collections::BTreeSet;

use genesis_storage::{IgnoredFindingRecord, Intent};
use jiff::{SignedDuration, Timestamp};

use super::Dependencies;
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep, demand_reason};

/// Nothing is ignored for longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);
/// A project has so many at most.
const MOST: usize = 1_000;
/// A name has so many characters at most.
const NAME: usize = 128;

impl Dependencies {
    /// What is ignored of a project by hand, whether or not it still holds.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn ignored(&self, project: &str) -> Result<Vec<IgnoredFindingRecord>> {
        self.state.read(|reading| Ok(reading.dependencies().ignored(Some(project))?))
    }

    fn planned(
        &self,
        project: &str,
        id: &str,
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<(Plan, IgnoredFindingRecord)> {
        let project = self.project(project, |_| true)?.name;
        demand_reason(reason, "a finding is ignored for a reason")?;
        let invalid = |why: String| Error::invalid("IGNORE_INVALID", why);
        let plain = |it: char| it.is_ascii_alphanumeric() || "-_.:".contains(it);
        if id.is_empty() || id.len() > NAME || !id.chars().all(plain) {
            return Err(invalid(format!(
                "{:?} names no finding",
                id.chars().take(64).collect::<String>()
            )));
        }
        let now = self.outside.clock.now();
        let until = until
            .ok_or_else(|| invalid("say until when: nothing is ignored for ever".to_owned()))?;
        if until <= now {
            return Err(invalid(format!("{until} is over")));
        }
        if until.duration_since(now) > LONGEST {
            return Err(invalid(format!("{until} is too far: at most a year from now")));
        }
        let known = self.ignored(&project)?;
        if known.len() >= MOST && !known.iter().any(|it| it.id == id) {
            return Err(invalid(format!("{project} has {MOST} of them already")));
        }
        let before = known.iter().find(|it| it.id == id);
        let was = before.map_or_else(
            || "it is heard of now".to_owned(),
            |it| format!("was until {}", it.until),
        );
        let step = PlanStep::new("ignore", format!("{project}/{id} until {until}"), was);
        let situation = before.map(|it| it.until.to_string()).unwrap_or_default();
        let plan = Plan::new("dependencies.ignore", &[&situation], vec![step]);
        let record = IgnoredFindingRecord {
            project,
            id: id.to_owned(),
            until,
            reason: reason.to_owned(),
            by: String::new(),
            at: now,
        };
        Ok((plan, record))
    }

    /// What ignoring would do.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND`, `IGNORE_INVALID`, `REASON_MISSING`.
    pub fn plan_ignore(
        &self,
        project: &str,
        id: &str,
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<Plan> {
        self.planned(project, id, until, reason).map(|(plan, _)| plan)
    }

    /// Ignores a finding until a time.
    ///
    /// # Errors
    /// Those of [`Dependencies::plan_ignore`], `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn ignore(
        &self,
        project: &str,
        id: &str,
        (until, hash): (Option<Timestamp>, &str),
        (actor, reason): (&str, &str),
    ) -> Result<IgnoredFindingRecord> {
        let (plan, record) = self.planned(project, id, until, reason)?;
        plan.accept(hash)?;
        let record = IgnoredFindingRecord { by: actor.to_owned(), ..record };
        let intent = Intent::new(record.at, actor, "dependencies.ignore")
            .target(format!("{}/{}", record.project, record.id))
            .reason(reason)
            .detail(format!("until {}", record.until));
        let written = record.clone();
        self.state
            .write(intent, move |writing| Ok(writing.dependencies().put_ignored(&written)?))
            .await?;
        self.look_soon();
        Ok(record)
    }

    /// All names of a finding, as far as the last look knows them; the one that was given is one of them.
    fn names(&self, project: &str, id: &str) -> BTreeSet<String> {
        let looked = self.looked.load();
        let findings = looked.scans.get(project).into_iter().flat_map(|it| &it.findings);
        let own = findings.filter(|it| it.finding.ids.iter().any(|known| known == id));
        let all = own.flat_map(|it| it.finding.ids.iter().cloned());
        all.chain([id.to_owned()]).collect()
    }

    /// What hearing of it again would do.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND`, `IGNORE_NOT_FOUND`.
    pub fn plan_unignore(&self, project: &str, id: &str) -> Result<Plan> {
        let project = self.project(project, |_| true)?.name;
        let known = self.ignored(&project)?;
        let Some(record) = known.iter().find(|it| self.names(&project, id).contains(&it.id)) else {
            let all: Vec<&str> = known.iter().map(|it| it.id.as_str()).collect();
            let all = match all.is_empty() {
                true => "nothing is ignored by hand".to_owned(),
                false => format!("there are: {}", all.join(", ")),
            };
            let shown: String = id.chars().take(64).collect();
            let message = format!("{shown:?} is not ignored in {project} by hand; {all}");
            return Err(Error::not_found("IGNORE_NOT_FOUND", message));
        };
        let step = PlanStep::new(
            "hear",
            format!("{project}/{}", record.id),
            format!("it is ignored until {}", record.until),
        );
        Ok(Plan::new("dependencies.unignore", &[&record.until.to_string()], vec![step]))
    }

    /// Hears of it again.
    ///
    /// # Errors
    /// Those of [`Dependencies::plan_unignore`], `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn unignore(
        &self,
        project: &str,
        id: &str,
        hash: &str,
        (actor, reason): (&str, &str),
    ) -> Result<()> {
        self.plan_unignore(project, id)?.accept(hash)?;
        let project = self.project(project, |_| true)?.name;
        let intent = Intent::new(self.outside.clock.now(), actor, "dependencies.unignore")
            .target(format!("{project}/{id}"))
            .reason(reason);
        let names = self.names(&project, id);
        self.state
            .write(intent, move |writing| {
                for name in names {
                    writing.dependencies().remove_ignored(&project, &name)?;
                }
                Ok(())
            })
            .await?;
        self.look_soon();
        Ok(())
    }
}
