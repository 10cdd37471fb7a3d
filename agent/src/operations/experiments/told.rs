//! What people hear of experiments: one that is held, one that was harmful, trades that can't be kept, and a file that
//! can't be opened.

use async_trait::async_trait;

use super::verbs::{LIST_LIMIT, State, Which};
use super::{Experiments, RUNBOOK, plan};
use crate::error::Result;
use crate::events::{Condition, Severity, Source};

/// What was decided is noted within this, in seconds.
const UNSETTLED: i64 = 10;
/// So long, in seconds, it is told that one was rolled back by itself.
const TOLD: i64 = 86_400;

impl Experiments {
    /// What people hear where no look is taken.
    fn unwatched(&self, why: &str) -> Vec<String> {
        let mut lines = vec![why.to_owned()];
        let live = self.live();
        let running: Vec<String> = live.running().map(|it| plan::id(it.number)).collect();
        lines.push(match running.is_empty() {
            true => "no experiment goes on; the values in force stay in force".to_owned(),
            false => format!(
                "the variants of {} are used on, and nobody looks whether they do harm: `genesisctl experiment conclude --test-id {} --action rollback` takes one back",
                running.join(", "),
                running[0]
            ),
        });
        lines
    }
}

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
                self.unwatched(why),
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
        for (number, why) in self.live().unreadable.clone() {
            let id = plan::id(number);
            let details = vec![
                why,
                "its trades are refused and no look is taken; the others go on".to_owned(),
                format!("genesisctl experiment conclude --test-id {id} --action rollback"),
            ];
            let title = format!("what was tallied of {id} can't be read");
            let since = self.started_at;
            all.push(condition(format!("unreadable/{id}"), Severity::High, title, details, since));
        }
        let decided: Vec<(u64, super::tally::Ended)> = {
            let live = self.live();
            let decided = live
                .running()
                .filter_map(|it| Some((it.number, live.tallies.get(&it.number)?.ended.clone()?)));
            decided.collect()
        };
        for (number, ended) in decided {
            let since = jiff::Timestamp::from_millisecond(ended.at).unwrap_or(now);
            if now.duration_since(since).as_secs() >= UNSETTLED {
                let id = plan::id(number);
                let details = vec![
                    format!("{} by a look; the agent's state takes no change", ended.how),
                    "a rollback is in force all the same, a promotion is not".to_owned(),
                    format!("genesisctl experiment show {id}"),
                ];
                let title = format!("{id} was decided, and its end can't be noted");
                all.push(condition(format!("decided/{id}"), Severity::High, title, details, since));
            }
        }
        for view in self.list("", Which::Running, LIST_LIMIT)? {
            let id = plan::id(view.record.number);
            let readable = !self.live().unreadable.contains_key(&view.record.number);
            if view.state == State::Held && readable {
                let trades = [view.look.control.n, view.look.variant.n];
                let (split, what) = match view.tally.units() {
                    Some(units) => (units, "units"),
                    None => (trades, "trades"),
                };
                let details = vec![
                    format!(
                        "{} {what} of the control, {} of the variant, which should have {} %",
                        split[0],
                        split[1],
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
        all.extend(self.fleet_conditions());
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
