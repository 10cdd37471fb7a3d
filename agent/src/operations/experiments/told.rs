//! What people hear of experiments: one that is held, one that was harmful, trades that can't be kept, and a file that
//! can't be opened.

use async_trait::async_trait;

use super::verbs::State;
use super::{Experiments, RUNBOOK, plan};
use crate::error::Result;
use crate::events::{Condition, Severity, Source};

/// So long, in seconds, it is told that one was rolled back by itself.
const TOLD: i64 = 86_400;

#[async_trait]
impl Source for Experiments {
    fn name(&self) -> &'static str {
        "experiments"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let now = self.now();
        let condition = |key: String, severity, title: String, details, since| Condition {
            subject: key.rsplit('/').next().unwrap_or("trades").to_owned(),
            key: format!("experiments/{key}"),
            severity,
            title,
            details,
            runbook: RUNBOOK.to_owned(),
            since,
            behind: Vec::new(),
        };
        let mut all = Vec::new();
        if let Err((_, why)) = &self.store {
            all.push(condition(
                "file/trades".to_owned(),
                Severity::High,
                "the file of trades can't be opened: no experiment goes on".to_owned(),
                vec![why.clone(), "the values in force stay in force".to_owned()],
                self.started_at,
            ));
            return Ok(all);
        }
        if let Some((since, why)) = self.trouble() {
            all.push(condition(
                "failing/trades".to_owned(),
                Severity::High,
                "trades of experiments are not kept".to_owned(),
                vec![
                    why,
                    "strategies keep what is not answered, as long as they have room".to_owned(),
                ],
                since,
            ));
        }
        for view in self.list("", true, 0)? {
            let id = plan::id(view.record.number);
            if view.state == State::Held {
                let details = vec![
                    format!(
                        "{} trades of the control, {} of the variant, which should have {} %",
                        view.look.control.n,
                        view.look.variant.n,
                        f64::from(view.record.variant_basis_points) / 100.0
                    ),
                    "nothing is decided as long as that is so; a rollback for harm comes all the same".to_owned(),
                    format!("genesisctl experiment show {id}"),
                ];
                let title = format!(
                    "{id} of {}: units are not split as they should be",
                    view.record.strategy
                );
                let since =
                    view.tally.looked_at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
                let since = since.unwrap_or(now);
                all.push(condition(format!("held/{id}"), Severity::Medium, title, details, since));
            }
        }
        for record in self.known().values() {
            let Some(ended) = &record.conclusion else { continue };
            let lately = now.duration_since(ended.at).as_secs() < TOLD;
            if lately && !ended.forced && ended.how == plan::ROLLED_BACK {
                let id = plan::id(record.number);
                let details = vec![
                    ended.reason.clone(),
                    "the values in force before are used by all units".to_owned(),
                    format!("genesisctl experiment show {id}"),
                ];
                let title = format!("{id} of {} was rolled back by itself", record.strategy);
                all.push(condition(
                    format!("harm/{id}"),
                    Severity::Medium,
                    title,
                    details,
                    ended.at,
                ));
            }
        }
        Ok(all)
    }
}
