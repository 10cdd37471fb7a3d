//! What could be updated, asked of the index and changed nowhere.

use genesis_advisories::bounds::Strategy;
use genesis_advisories::finding::Kind;
use genesis_storage::ChangeRecord;

use super::Dependencies;
use super::config::Project;
use super::locked::Unjudged;
use super::scan::Found;
use super::update::{Prospect, Wish};
use crate::error::{Error, Result};

/// What could be updated of a project.
#[derive(Debug)]
pub struct Check {
    /// The project.
    pub project: Project,
    /// By which strategy.
    pub strategy: Strategy,
    /// What came of it.
    pub found: Result<Outlook>,
}

/// What was found out.
#[derive(Debug)]
pub struct Outlook {
    /// What the strategy would do.
    pub prospect: Prospect,
    /// What only "aggressive" would do.
    pub beyond: Vec<ChangeRecord>,
    /// What is not updated.
    pub unmanaged: Vec<Unjudged>,
    /// Vulnerabilities that stay.
    pub remaining: Vec<Found>,
}

impl Dependencies {
    /// What a strategy would do to a project, or to all: those that can't be asked are told with why.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND`.
    pub async fn check(&self, name: &str, strategy: Option<Strategy>) -> Result<Vec<Check>> {
        let projects = match name.is_empty() {
            true => self.config().projects.clone(),
            false => vec![self.project(name, |_| true)?],
        };
        let mut checks = Vec::new();
        for project in projects {
            let strategy = strategy.unwrap_or(project.managed.strategy);
            let found = self.check_one(&project, strategy).await;
            checks.push(Check { project, strategy, found });
        }
        Ok(checks)
    }

    async fn check_one(&self, project: &Project, strategy: Strategy) -> Result<Outlook, Error> {
        let _alone = self.choosing.lock().await;
        let wish = |strategy| Wish { strategy, exploited: false, plan_hash: String::new() };
        let work = self.scratch()?;
        let prospect = self.prospect(project, &wish(strategy), work.path()).await?;
        let beyond = match strategy {
            Strategy::Aggressive => Vec::new(),
            _ => {
                let work = self.scratch()?;
                let all = self.prospect(project, &wish(Strategy::Aggressive), work.path()).await;
                // Which versions there are beyond is worth knowing, and nothing hangs on it.
                let all = all.map(|it| it.changes).unwrap_or_default();
                all.into_iter().filter(|it| !prospect.changes.contains(it)).collect()
            }
        };
        let (scan, unmanaged) = (&prospect.after, prospect.before.unmanaged.clone());
        let remaining = scan
            .findings
            .iter()
            .filter(|it| it.finding.kind == Kind::Vulnerability && it.ignored.is_none())
            .cloned()
            .collect();
        let unmanaged = unmanaged.into_iter().chain(prospect.without.clone()).collect();
        Ok(Outlook { prospect, beyond, unmanaged, remaining })
    }
}
