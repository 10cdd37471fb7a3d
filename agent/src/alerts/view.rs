//! Alerts as people look at them.

use genesis_storage::{AlertRecord, DeliveryRecord, OutboxRecord, SilenceRecord};
use jiff::{SignedDuration, Timestamp};

use super::plan::{self, Quiet};
use super::{Alerts, digest};
use crate::error::Result;
use crate::events::Severity;

/// An alert with why nobody is told of it.
#[derive(Debug, Clone)]
pub struct AlertView {
    /// The alert.
    pub record: AlertRecord,
    /// Why nobody is told; empty: people are.
    pub quiet: String,
    /// It comes and goes too often.
    pub flapping: bool,
    /// Somebody takes care of it.
    pub acked: bool,
}

/// A channel with what is wrong with it.
#[derive(Debug, Clone)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// The severities that go to it.
    pub severities: Vec<Severity>,
    /// What is wrong with it, and since when.
    pub trouble: Option<(String, Timestamp)>,
    /// Messages that wait for it.
    pub waiting: usize,
}

/// Everything at a glance.
#[derive(Debug, Clone)]
pub struct Overview {
    /// What fires, the worst first, of those the oldest.
    pub firing: Vec<AlertView>,
    /// Every channel.
    pub channels: Vec<ChannelView>,
    /// The silences in force.
    pub silences: Vec<SilenceRecord>,
    /// Messages that no channel has accepted yet.
    pub waiting: usize,
    /// Severities of which nobody would hear.
    pub unheard: Vec<Severity>,
    /// When the next digest is due; `None` where there is no channel for it.
    pub next_digest: Option<Timestamp>,
}

impl Alerts {
    /// An alert with why nobody is told of it.
    pub fn view(&self, record: AlertRecord) -> AlertView {
        let now = self.outside.clock.moment();
        let live = self.live();
        let quiet = match plan::quiet(&record, &live.firing, &live.silences, &now) {
            _ if !record.open() => String::new(),
            None => String::new(),
            Some(Quiet::Silenced(id)) => format!("silenced by {id}"),
            Some(Quiet::Behind(key)) => format!("behind {key}"),
            Some(Quiet::Gone) => "gone, and may be over".to_owned(),
        };
        let flapping = record.open() && plan::flapping(&record, &now);
        AlertView { acked: plan::acked(&record, &now), quiet, flapping, record }
    }

    /// Everything at a glance.
    pub fn overview(&self) -> Overview {
        let config = self.config();
        let names = config.names();
        let mut firing: Vec<AlertRecord> = self.live().firing.values().cloned().collect();
        firing.sort_by_key(|alert| (std::cmp::Reverse(plan::severity(alert)), alert.since));
        let firing = firing.into_iter().map(|alert| self.view(alert)).collect();
        let silences = self.silences(false);
        let live = self.live();
        let channels = config.channels.iter().map(|channel| ChannelView {
            name: channel.name.clone(),
            kind: channel.kind_name(),
            severities: Severity::ALL
                .into_iter()
                .filter(|severity| {
                    config.policy.routes.get(severity).is_some_and(|it| it.contains(&channel.name))
                })
                .collect(),
            trouble: live.trouble.get(&channel.name).map(|it| (it.why.clone(), it.since.wall)),
            waiting: live.outbox.values().filter(|it| it.channel == channel.name).count(),
        });
        let heard = |severity: &Severity| {
            let route = config.policy.routes.get(severity);
            route.is_some_and(|route| route.iter().any(|name| names.contains(name)))
        };
        let next = digest::due(self.outside.clock.now(), config.digest_at);
        Overview {
            firing,
            channels: channels.collect(),
            silences,
            waiting: live.outbox.len(),
            unheard: Severity::ALL.into_iter().filter(|severity| !heard(severity)).collect(),
            next_digest: next
                .filter(|_| heard(&Severity::Low))
                .and_then(|last| last.checked_add(SignedDuration::from_hours(24)).ok()),
        }
    }

    /// What became of an alert's messages, newest first.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn deliveries_of(&self, alert: &str) -> Result<Vec<DeliveryRecord>> {
        let limit = usize::try_from(super::record::DELIVERIES_KEPT).unwrap_or(usize::MAX);
        let mut found = self.deliveries(limit)?;
        found.retain(|delivery| delivery.alerts.iter().any(|id| id == alert));
        found.truncate(100);
        Ok(found)
    }

    /// The messages that no channel has accepted yet and that are `wanted`, newest first, each with when it is tried
    /// again.
    pub fn waiting(
        &self,
        wanted: impl Fn(&OutboxRecord) -> bool,
    ) -> Vec<(OutboxRecord, Option<Timestamp>)> {
        let live = self.live();
        let found = live.outbox.values().rev().filter(|message| wanted(message)).take(1_000);
        let again = |message: &OutboxRecord| {
            let tried = message.tried.as_ref()?;
            tried.wall.checked_add(SignedDuration::try_from(message.wait).ok()?).ok()
        };
        found.map(|message| (message.clone(), again(message))).collect()
    }

    /// Brings the gauges up to date.
    pub fn gauge(&self) {
        let overview = self.overview();
        let channels: Vec<(String, bool)> = overview
            .channels
            .into_iter()
            .map(|channel| (channel.name, channel.trouble.is_some()))
            .collect();
        self.metrics.gauge(overview.waiting, &channels);
    }
}
