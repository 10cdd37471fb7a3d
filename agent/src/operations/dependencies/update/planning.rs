//! What an update, or going back, would do: as steps that people read.

use genesis_advisories::bounds::Strategy;

use super::super::Dependencies;
use super::super::config::managed::strategy_name;
use super::{
    Prospect, ROLLBACK, Target, UPDATE, Wish, digest, failed, fit, prepare, read_manifest,
};
use crate::config::units::human;
use crate::emergency::Stance;
use crate::error::Result;
use crate::outside::links;
use crate::plan::{Plan, PlanStep};

impl Dependencies {
    /// The plan of an update, for what was chosen.
    pub(super) fn plan_of(
        &self,
        target: &Target,
        wish: &Wish,
        prospect: &Prospect,
    ) -> Result<Plan> {
        let Target { project, deploy, test } = target;
        let mut steps = Vec::new();
        let link = links::target(&deploy.link).map_err(|error| failed(&deploy.link, error))?;
        if prospect.changes.is_empty() && link.is_some() {
            let why = format!("nothing newer is within {}", strategy_name(wish.strategy));
            steps.push(PlanStep::new("keep", project.name.clone(), why));
        } else {
            for it in &prospect.changes {
                let fixes = match it.fixes.is_empty() {
                    true => String::new(),
                    false => format!("mends {}", it.fixes.join(", ")),
                };
                let (action, what) = match (&it.from, &it.to) {
                    (Some(from), Some(to)) => ("update", format!("{} {from} -> {to}", it.package)),
                    (None, Some(to)) => ("add", format!("{} {to}", it.package)),
                    (Some(from), None) => ("remove", format!("{} {from}", it.package)),
                    (None, None) => continue,
                };
                steps.push(PlanStep::new(action, what, fixes));
            }
            let generation = self.next_generation(project, deploy)?;
            let place = deploy.releases.join(generation.to_string()).display().to_string();
            let limit = human(test.timeout);
            steps.push(PlanStep::new("build", place, "beside what is in service"));
            steps.push(PlanStep::new("test", test.command.join(" "), format!("within {limit}")));
            let was = link.map_or_else(|| "nothing".to_owned(), |it| it.display().to_string());
            let shown = deploy.link.display().to_string();
            steps.push(PlanStep::new("deploy", shown, format!("it leads to {was} now")));
            let restart = deploy.restart.command.first().cloned().unwrap_or_default();
            steps.push(PlanStep::new("restart", restart, "with the new release"));
            let watched =
                format!("has to do well for {}, or is taken back", human(deploy.health_for));
            steps.push(PlanStep::new("watch", project.name.clone(), watched));
        }
        let now: Result<Vec<String>> = project
            .manifests
            .iter()
            .map(|it| read_manifest(&project.root, it).map(|text| digest(&text)))
            .collect();
        let mut situation = now?;
        situation.push(strategy_name(wish.strategy).to_owned());
        situation.push(digest(&prospect.resolved.lock));
        let situation: Vec<&str> = situation.iter().map(String::as_str).collect();
        Ok(Plan::new(UPDATE, &situation, steps))
    }

    /// What an update would do; it chooses versions for that.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND`, `PROJECT_UNMANAGED`, `EMERGENCY`, `UPDATE_VULNERABLE`, `UPDATE_UNJUDGED`, and those of choosing.
    pub async fn plan_update(&self, name: &str, strategy: Option<Strategy>) -> Result<Plan> {
        let target = self.target(name)?;
        fit::check_places(&target)?;
        self.runs.emergency().check(UPDATE, Stance::Refuse)?;
        let strategy = strategy.unwrap_or(target.project.managed.strategy);
        let wish = Wish { strategy, exploited: false, plan_hash: String::new() };
        let work = self.scratch()?;
        let _alone = self.choosing.lock().await;
        let prospect = self.prospect(&target.project, &wish, work.path()).await?;
        prepare::accept(&target.project, &prospect)?;
        self.plan_of(&target, &wish, &prospect)
    }

    /// What going back would do; generation 0: to the release before the current one.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND`, `PROJECT_UNMANAGED`, `RELEASE_NOT_FOUND`, `EMERGENCY`.
    pub fn plan_rollback(&self, name: &str, generation: u64) -> Result<Plan> {
        let target = self.target(name)?;
        self.runs.emergency().check(ROLLBACK, Stance::GoOn)?;
        let (current, release) = self.way_back(&target, generation)?;
        let Target { deploy, project, .. } = &target;
        let manifests: Vec<String> =
            project.manifests.iter().map(|it| it.display().to_string()).collect();
        let restart = deploy.restart.command.first().cloned().unwrap_or_default();
        let steps = vec![
            PlanStep::new(
                "deploy",
                deploy.link.display().to_string(),
                format!("to {}", release.folder),
            ),
            PlanStep::new("restart", restart, format!("with generation {}", release.generation)),
            PlanStep::new(
                "watch",
                project.name.clone(),
                format!("has to do well for {}", human(deploy.health_for)),
            ),
            PlanStep::new("write", manifests.join(", "), "as they were with that release"),
        ];
        let (from, to) = (current.to_string(), release.generation.to_string());
        Ok(Plan::new(ROLLBACK, &[&project.name, &from, &to, &release.digest], steps))
    }
}
