//! Imports the configured files when they change.

use std::sync::Arc;

use async_trait::async_trait;

use super::Dependencies;
use crate::emergency::Stance;
use crate::error::Result;
use crate::runs::{Context, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// The kind of its runs.
pub const IMPORT: &str = "dependencies.import";

/// In an emergency one wants to know what is vulnerable, too.
pub const RUN_KINDS: [(&str, Stance); 1] = [(IMPORT, Stance::GoOn)];

/// Jobs of dependencies.
pub fn jobs(dependencies: &Arc<Dependencies>) -> Vec<Arc<dyn Job>> {
    vec![Arc::new(Import(Arc::clone(dependencies)))]
}

struct Import(Arc<Dependencies>);

#[async_trait]
impl Job for Import {
    fn name(&self) -> &'static str {
        IMPORT
    }

    fn description(&self) -> &'static str {
        "imports the configured files of advisories, of exploited vulnerabilities and of likelihoods when they change"
    }

    fn schedule(&self) -> Schedule {
        Schedule::constant("23 * * * *")
    }

    fn stance(&self) -> Stance {
        Stance::GoOn
    }

    async fn run(self: Arc<Self>, _: Context) -> Result<Report> {
        let Some(imported) = self.0.import_if_changed().await? else {
            return Ok(Report::proven("no file is configured"));
        };
        if imported.is_empty() {
            return Ok(Report::proven("nothing has changed"));
        }
        let each: Vec<String> = imported
            .iter()
            .map(|it| {
                let records = it.source.as_ref().map_or(0, |source| source.records);
                format!("{} ({records})", it.name)
            })
            .collect();
        Ok(Report::proven(format!("imported: {}", each.join(", "))))
    }
}
