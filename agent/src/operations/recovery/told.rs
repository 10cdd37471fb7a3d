//! What people should hear of recovery: an emergency at once, whatever of trading it could not bring to rest, and that the
//! state was lost; what is not documented, and what is not practised.

use async_trait::async_trait;
use genesis_storage::{CoursePhase, EmergencyRecord, GapRecord, IncidentRecord, VenuePhase};

use super::Recovery;
use super::course::Live;
use super::incidents::UNDOCUMENTED_AFTER;
use crate::error::Result;
use crate::events::{Condition, Severity, Source};

/// The page of the runbook.
const PAGE: &str = "emergency";

#[async_trait]
impl Source for Recovery {
    fn name(&self) -> &'static str {
        "recovery"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let mut all = Vec::new();
        if let Some(emergency) = self.emergency.current() {
            all = conditions(&emergency, &self.course.live(), self.course.configured());
        }
        let gap = self.state.read(|reading| Ok(reading.gaps().get()?))?;
        all.extend(gap.filter(|gap| gap.is_told(self.clock.now())).map(gone));
        all.extend(self.undocumented()?);
        all.extend(self.drills.conditions()?);
        Ok(all)
    }
}

/// What is told of a gap in the state.
fn gone(gap: GapRecord) -> Condition {
    Condition {
        key: format!("recovery/state-gap/{}", gap.at.as_millisecond()),
        subject: "state".to_owned(),
        severity: Severity::Critical,
        title: match gap.lost {
            true => format!("the agent's state was lost before {:.0}", gap.at),
            false => {
                format!("the agent's state went back at {:.0}, and nothing went forward", gap.at)
            }
        },
        details: vec![
            gap.detail,
            "`genesisctl rollback points --component state` lists what it can go back to"
                .to_owned(),
        ],
        runbook: "rollback".to_owned(),
        since: gap.at,
        behind: Vec::new(),
    }
}

/// What holds of an emergency. Pure.
fn conditions(emergency: &EmergencyRecord, live: &Live, configured: bool) -> Vec<Condition> {
    let epoch = emergency.epoch;
    let condition =
        |kind: &str, severity: Severity, title: String, details: Vec<String>| Condition {
            key: format!("recovery/{kind}/{epoch}"),
            subject: format!("emergency {epoch}"),
            severity,
            title,
            details,
            runbook: PAGE.to_owned(),
            since: emergency.since,
            behind: Vec::new(),
        };
    let ours = live.record.epoch == epoch;
    let mut all = Vec::new();
    if !emergency.active() {
        if ours && !live.resume_trouble.is_empty() {
            let title = format!("trading has not been told to go on: {}", live.resume_trouble);
            all.push(condition("resume", Severity::High, title, Vec::new()));
        }
        return all;
    }
    let (by, reason) = (&emergency.activated_by, &emergency.reason);
    let mut details = vec!["what has not been declared to go on waits for its release".to_owned()];
    if !configured {
        details.push("no trading system is configured: the agent has halted nothing".to_owned());
    }
    details.push(
        "genesisctl emergency status; it ends with genesisctl emergency release --reason TEXT"
            .to_owned(),
    );
    let title = format!("EMERGENCY {epoch} declared by {by}: {reason}");
    all.push(condition("emergency", Severity::Critical, title, details));
    if !ours {
        return all;
    }
    if live.halt_tried && !live.halt_trouble.is_empty() {
        let title = match live.record.halted_at {
            None => format!("trading is NOT halted: {}", live.halt_trouble),
            Some(at) => {
                format!(
                    "trading was halted at {at:.0}; whether it still is can't be told: {}",
                    live.halt_trouble
                )
            }
        };
        let details = vec!["stop the trading system by hand".to_owned()];
        all.push(condition("halt", Severity::Critical, title, details));
    }
    if live.record.phase == CoursePhase::FlatUnproven {
        let mut details: Vec<String> = Vec::new();
        if !live.record.trouble.is_empty() {
            details.push(live.record.trouble.clone());
        }
        let unproven =
            live.record.venues.iter().filter(|(_, venue)| venue.phase != VenuePhase::Flat);
        details.extend(unproven.map(|(name, venue)| format!("{name}: {}", venue.why)).take(20));
        details
            .push("genesisctl emergency close-positions goes on with the same orders".to_owned());
        let title = "FLAT_UNPROVEN: positions may be open".to_owned();
        all.push(condition("flat", Severity::Critical, title, details));
    }
    if let Some((since, why)) = live.unseen.as_ref().filter(|_| live.halt_tried) {
        let title =
            format!("FLAT was seen, and the venues can't be looked at since {since:.0}: {why}");
        all.push(condition("unseen", Severity::High, title, Vec::new()));
    }
    if !live.not_durable.is_empty() {
        let title = format!("the emergency's course can't be written down: {}", live.not_durable);
        let details = vec!["it goes on; free space on the disk of the state folder".to_owned()];
        all.push(condition("durable", Severity::Critical, title, details));
    }
    all
}

/// So many of them are named.
const NAMED: usize = 10;

impl Recovery {
    /// Incidents that have been over for long, and that nobody has documented: one condition for all of them.
    fn undocumented(&self) -> Result<Option<Condition>> {
        let waiting = self.book.undocumented()?;
        let Some(oldest) = waiting.first() else { return Ok(None) };
        let title = match waiting.len() {
            1 => {
                "an incident has been over for a week, and nobody has written down what came of it"
                    .to_owned()
            }
            several => format!(
                "{several} incidents have been over for a week, and nobody has written down what came of them"
            ),
        };
        let line =
            |it: &IncidentRecord| format!("genesisctl incident close {}: {}", it.id, it.title);
        let mut details: Vec<String> = waiting.iter().take(NAMED).map(line).collect();
        if waiting.len() > NAMED {
            details.push(format!("and {} more: genesisctl incident list", waiting.len() - NAMED));
        }
        let over = oldest.over_at.unwrap_or(oldest.opened_at);
        Ok(Some(Condition {
            key: "recovery/undocumented".to_owned(),
            subject: "incidents".to_owned(),
            severity: Severity::Low,
            title,
            details,
            runbook: "incident".to_owned(),
            since: over.saturating_add(UNDOCUMENTED_AFTER).unwrap_or(over),
            behind: Vec::new(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use genesis_storage::{CourseRecord, EmergencyRelease};
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_trading_has_not_come_to_is_told_beside_the_emergency() {
        let emergency = |released: bool| EmergencyRecord {
            epoch: 3,
            since: Timestamp::UNIX_EPOCH,
            activated_by: "olga".into(),
            reason: "prices".into(),
            release: released.then(|| EmergencyRelease {
                at: Timestamp::UNIX_EPOCH,
                by: "olga".into(),
                reason: "over".into(),
            }),
            fleet: None,
        };
        let live = |phase: CoursePhase, epoch: u64| Live {
            record: CourseRecord { epoch, phase, ..CourseRecord::default() },
            ..Live::default()
        };
        let halting = Live {
            halt_trouble: "no answer".into(),
            halt_tried: true,
            ..live(CoursePhase::Halting, 3)
        };
        let unseen = Live {
            unseen: Some((Timestamp::UNIX_EPOCH, "away".into())),
            halt_tried: true,
            ..live(CoursePhase::Flat, 3)
        };
        let full = Live { not_durable: "full".into(), ..live(CoursePhase::Halted, 3) };
        let stuck = Live { resume_trouble: "away".into(), ..live(CoursePhase::Flat, 3) };
        for (released, live, expected) in [
            (false, live(CoursePhase::Halted, 3), vec!["emergency"]),
            (false, halting.clone(), vec!["emergency", "halt"]),
            (false, live(CoursePhase::Flat, 3), vec!["emergency"]),
            (false, unseen, vec!["emergency", "unseen"]),
            (false, live(CoursePhase::FlatUnproven, 3), vec!["emergency", "flat"]),
            (false, live(CoursePhase::FlatUnproven, 2), vec!["emergency"]),
            (false, full, vec!["emergency", "durable"]),
            (true, stuck, vec!["resume"]),
            (true, halting, vec![]),
        ] {
            let told = conditions(&emergency(released), &live, true);
            let kinds: Vec<&str> = told.iter().filter_map(|it| it.key.split('/').nth(1)).collect();
            assert_eq!(kinds, expected, "{live:?}");
        }
    }
}
