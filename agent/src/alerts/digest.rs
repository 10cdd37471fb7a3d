//! The digest: what is low is told once a day, each alert in exactly one of them.

use std::sync::Arc;

use genesis_storage::{AlertRecord, Moment, OutboxRecord};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::message::Occasion;
use super::{Alerts, Live, plan};
use crate::events::Severity;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The latest instant at or before `now` at which a digest was due; `at` is a time of day in UTC.
pub(super) fn due(now: Timestamp, at: Time) -> Option<Timestamp> {
    let today = TimeZone::UTC.to_datetime(now).date();
    let instant = TimeZone::UTC.to_timestamp(today.to_datetime(at)).ok()?;
    match instant <= now {
        true => Some(instant),
        false => instant.checked_sub(DAY).ok(),
    }
}

impl Alerts {
    /// Makes the digest once its time has come, also where the agent was down at that time. A clock that was set
    /// back makes none twice.
    pub(super) fn digest_when_due(self: &Arc<Self>, now: &Moment) {
        let config = self.config();
        let Some(instant) = due(now.wall, config.digest_at) else { return };
        let last = self.live().digest;
        // A day ahead: a clock that was wrong has written that down. Nothing is told twice all the same.
        let ahead = last.is_some_and(|last| last.duration_since(now.wall) > DAY);
        if last.is_some_and(|last| last >= instant) && !ahead {
            return;
        }
        // The first start of all: what comes now is for the next one.
        if last.is_none() || ahead {
            self.digest_was(instant);
            return;
        }
        let channels = config.names();
        let routes = config.policy.routes.get(&Severity::Low);
        let route: Vec<&String> =
            routes.into_iter().flatten().filter(|name| channels.contains(name)).collect();
        if route.is_empty() {
            self.digest_was(instant);
            return;
        }
        // Where they can't be read, the next look tries again.
        let Ok(mut wanted) = self.low_and_untold() else { return };
        self.digest_was(instant);
        let mut live = self.live();
        let live = &mut *live;
        wanted.retain(|alert| {
            let covered = live
                .silences
                .iter()
                .any(|silence| plan::in_force(silence, now) && plan::covers(silence, alert));
            !covered || !alert.open()
        });
        for group in wanted.chunks(plan::DIGEST) {
            for channel in &route {
                let by = (channel.as_str(), Occasion::Digest.name());
                let about = group.iter().map(|alert| alert.id.clone()).collect();
                let message = OutboxRecord::new(live.next, self.new_id(), by, about, now.clone());
                live.next += 1;
                live.unwritten.message(&message);
                live.outbox.insert(message.sequence, message);
            }
            for alert in group {
                let digested = AlertRecord { digested: true, ..alert.clone() };
                live.unwritten.alert(&digested);
                match live.firing.get_mut(&alert.key).filter(|known| known.id == alert.id) {
                    Some(known) => known.digested = true,
                    None => drop(live.ended.insert(alert.id.clone(), digested)),
                }
            }
        }
    }

    fn digest_was(&self, instant: Timestamp) {
        let mut live = self.live();
        live.digest = Some(instant);
        live.unwritten.digest(instant);
    }

    /// A digest was refused: what it told is for the next one. Where others got it as well, they would hear it twice.
    pub(super) fn not_digested(&self, live: &mut Live, message: &OutboxRecord) {
        let config = self.config();
        let route = config.policy.routes.get(&Severity::Low);
        let channels = config.names();
        let others = route
            .into_iter()
            .flatten()
            .filter(|name| channels.contains(name) && **name != message.channel);
        if others.count() > 0 {
            return;
        }
        let known = live.firing.values_mut().chain(live.ended.values_mut());
        for alert in known.filter(|alert| message.alerts.contains(&alert.id)) {
            alert.digested = false;
            live.unwritten.alert(alert);
        }
    }

    /// What is low and was in no digest yet, oldest first. One that was told when it was worse is no news.
    fn low_and_untold(&self) -> crate::error::Result<Vec<AlertRecord>> {
        let mut found = self.list(false, usize::MAX)?;
        found.retain(|alert| {
            plan::severity(alert) == Severity::Low && !alert.digested && alert.told.is_empty()
        });
        found.reverse();
        Ok(found)
    }
}
