//! Between two batches of a change: the nodes of the last one must be as well as they were.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use genesis_client::v1::{Condition, GetStatusRequest, GetStatusResponse};
use genesis_client::{Client, Node, Options};
use tokio::time::{Instant, sleep, sleep_until};

use crate::connect::Session;
use crate::format;

/// So long they have to become well.
const PATIENCE: Duration = Duration::from_secs(60);
/// So often they are asked.
const PACE: Duration = Duration::from_millis(500);
/// So long one of them has to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// So many of those that are not well are told of.
const TOLD: usize = 5;

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It does not answer, and why.
    Away(String),
    /// It answers: each domain with its summary, and whether an emergency is in force.
    There(BTreeMap<String, (Condition, String)>, bool),
}

impl Seen {
    fn of(status: GetStatusResponse) -> Self {
        let emergency = status.emergency;
        let each = status.domains.into_iter().map(|it| {
            let condition = it.condition();
            (it.domain, (condition, it.summary))
        });
        Self::There(each.collect(), emergency)
    }
}

/// Why a node is not as well as it was; `None`: it is. What was ill before is no reason, and what can't be told is none
/// to go on.
pub(crate) fn worse(before: &Seen, now: &Seen) -> Option<String> {
    let rank = |condition: Condition| match condition {
        Condition::Ok | Condition::Warn => 0,
        Condition::Unknown | Condition::Unspecified => 1,
        Condition::Critical => 2,
    };
    match (before, now) {
        (Seen::Away(_), _) => None,
        (_, Seen::Away(why)) => Some(format!("it does not answer any more: {why}")),
        (Seen::There(before, was), Seen::There(now, is)) => {
            if *is && !was {
                return Some("an emergency was declared".to_owned());
            }
            let fallen = now.iter().find(|(domain, (condition, _))| {
                let earlier = before.get(*domain).map_or(0, |(condition, _)| rank(*condition));
                rank(*condition) > earlier
            });
            if let Some((domain, (condition, summary))) = fallen {
                let condition = format::condition(*condition);
                return Some(format!("{domain} is {condition}: {summary}"));
            }
            let gone = before.keys().find(|domain| !now.contains_key(*domain));
            gone.map(|domain| format!("nothing is told of {domain} any more"))
        }
    }
}

fn passed(instant: Instant) -> bool {
    sleep_until(instant).now_or_never().is_some()
}

impl Session<'_> {
    /// How these nodes are.
    pub(crate) async fn seen(&self, nodes: &[Node]) -> Vec<Seen> {
        let options = || Options { timeout: ANSWER, connect_timeout: ANSWER, ..self.options() };
        let each = nodes.iter().map(|node| async move {
            let asking = async {
                let client =
                    Client::connect(node, Options { request_id: None, ..options() }).await?;
                let ask = GetStatusRequest {};
                client.call(ask, |c, r| async move { c.agent().get_status(r).await }).await
            };
            match tokio::time::timeout(ANSWER, asking).await {
                Ok(Ok(status)) => Seen::of(status),
                Ok(Err(error)) => Seen::Away(error.message.clone()),
                Err(_) => Seen::Away(format!("no answer within {} s", ANSWER.as_secs())),
            }
        });
        let most = self.global.max_parallel as usize;
        futures_util::stream::iter(each).buffered(most).collect().await
    }

    /// Waits until these nodes have been as well as `before` for a while; else which are not, and why.
    pub(crate) async fn gate(
        &self,
        (nodes, before): (&[Node], &[Seen]),
        well_for: Duration,
    ) -> Result<(), String> {
        let limit = self.global.timeout.unwrap_or(PATIENCE).saturating_add(well_for);
        let limit = sleep(limit).deadline();
        // When they will have been well for long enough.
        let mut settled = None;
        loop {
            let now = self.seen(nodes).await;
            let each = nodes.iter().zip(before.iter().zip(&now));
            let ill: Vec<String> = each
                .filter_map(|(node, (before, now))| {
                    Some(format!("{node}: {}", worse(before, now)?))
                })
                .collect();
            if ill.is_empty() {
                let settled = settled.get_or_insert_with(|| sleep(well_for).deadline());
                if passed(*settled) {
                    return Ok(());
                }
            } else {
                settled = None;
                if passed(limit) {
                    let more = ill.len().saturating_sub(TOLD);
                    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                    return Err(format!("{}{more}", ill[..ill.len().min(TOLD)].join("; ")));
                }
            }
            sleep(PACE.min(well_for)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_well_must_be_and_what_was_ill_is_no_reason() {
        use Condition::{Critical, Ok, Unknown, Unspecified, Warn};
        let with = |health: Condition, emergency: bool| {
            let domains = [("health".to_owned(), (health, "disk".to_owned()))];
            Seen::There(domains.into(), emergency)
        };
        let there = |health| with(health, false);
        let away = || Seen::Away("refused".to_owned());
        for (before, now, why) in [
            (there(Ok), there(Ok), None),
            (there(Ok), there(Warn), None),
            (there(Critical), there(Critical), None),
            (there(Critical), there(Unknown), None),
            (there(Unknown), there(Unspecified), None),
            (away(), away(), None),
            (away(), there(Critical), None),
            (there(Ok), away(), Some("it does not answer any more: refused")),
            (there(Critical), away(), Some("it does not answer any more: refused")),
            (there(Ok), there(Critical), Some("health is CRITICAL: disk")),
            (there(Warn), there(Unknown), Some("health is UNKNOWN: disk")),
            (there(Unknown), there(Critical), Some("health is CRITICAL: disk")),
            (there(Ok), with(Ok, true), Some("an emergency was declared")),
            (with(Ok, true), with(Ok, true), None),
            (
                there(Ok),
                Seen::There(BTreeMap::new(), false),
                Some("nothing is told of health any more"),
            ),
            (
                Seen::There(BTreeMap::new(), false),
                there(Critical),
                Some("health is CRITICAL: disk"),
            ),
        ] {
            assert_eq!(worse(&before, &now).as_deref(), why, "{before:?} {now:?}");
        }
    }
}
