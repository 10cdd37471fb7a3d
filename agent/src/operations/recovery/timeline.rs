//! What happened about an incident, from what the operation log and the alerts have. Pure.

use std::collections::BTreeSet;

use genesis_storage::{AlertRecord, DeliveryRecord, IncidentRecord, OplogEntry, Trigger};
use jiff::{SignedDuration, Timestamp};

/// What set it off often came before anybody noticed.
const BEFORE: SignedDuration = SignedDuration::from_mins(15);
/// So much of it is shown.
pub const SHOWN: usize = 500;
/// And so much of that is from the beginning, where there is more.
const FROM_THE_BEGINNING: usize = 150;
/// What changes the whole host, whoever did it: part of every incident that it falls into.
const EVERYWHERE: [&str; 7] = [
    "emergency.",
    "rollback",
    "config.",
    "note",
    "health.remediation.",
    "health.brake.",
    "health.checker-suspect",
];
/// What takes something back, wherever it belongs.
const TAKEN_BACK: [&str; 2] = ["rollback", "restore"];

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub target: String,
    /// "ok", or a code.
    pub outcome: String,
    /// Why, and more.
    pub text: String,
    /// Its place in the operation log; 0: it is from elsewhere.
    pub sequence: u64,
}

/// Events, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Those that are shown.
    pub events: Vec<Event>,
    /// So many are not.
    pub left_out: usize,
    /// And they would come after so many of those that are.
    pub left_out_after: usize,
    /// The log was read up to here only.
    pub read_until: Option<Timestamp>,
}

/// When what may belong to an incident begins.
pub fn begins(incident: &IncidentRecord) -> Timestamp {
    incident.opened_at.saturating_sub(BEFORE).unwrap_or(incident.opened_at)
}

/// When what may belong to it ends; `None`: it goes on.
fn ends(incident: &IncidentRecord) -> Option<Timestamp> {
    incident.over_at
}

/// Whether an actor is a person, or a program of somebody's, and not the agent by itself.
fn somebody(actor: &str) -> bool {
    !["system:", "schedule", "health", "flag file"].iter().any(|own| actor.starts_with(own))
}

/// The alerts that an incident is told by.
pub fn alerts_about<'a>(
    incident: &IncidentRecord,
    alerts: impl IntoIterator<Item = &'a AlertRecord>,
) -> Vec<&'a AlertRecord> {
    let own = format!("health/incident/{}", incident.id);
    let issues: BTreeSet<String> =
        incident.issues.iter().map(|(check, _)| format!("health/issue/{check}")).collect();
    let epoch = incident.subject.strip_prefix("emergency ").map(|epoch| format!("/{epoch}"));
    let (begins, ends) = (begins(incident), ends(incident));
    let meets = |alert: &AlertRecord| {
        ends.is_none_or(|end| alert.since <= end)
            && alert.resolved_at.is_none_or(|resolved| resolved >= begins)
    };
    let about = |alert: &AlertRecord| {
        alert.key == own
            || issues.contains(&alert.key) && meets(alert)
            || incident.trigger == Trigger::Emergency
                && alert.key.starts_with("recovery/")
                && epoch.as_ref().is_some_and(|epoch| alert.key.ends_with(epoch.as_str()))
    };
    alerts.into_iter().filter(|alert| about(alert)).collect()
}

/// What is looked for in the log.
struct Wanted<'a> {
    incident: &'a IncidentRecord,
    /// "disk:/" and "disk:/#3".
    issues: BTreeSet<String>,
    alerts: BTreeSet<&'a str>,
    runs: BTreeSet<String>,
}

impl Wanted<'_> {
    /// What names the incident itself belongs to it whenever it was written.
    fn names_it(&self, entry: &OplogEntry) -> bool {
        let id = self.incident.id.as_str();
        entry.target == id
            || entry.correlation_id == id
            // What becomes of trading is written under the emergency's number, which there is once.
            || self.incident.trigger == Trigger::Emergency && entry.target == self.incident.subject
            || entry.reason.contains(id)
            || entry.detail.contains(id)
    }

    /// What is another incident's own, or another emergency's, is none of this one's, however near it was.
    fn of_another(&self, entry: &OplogEntry) -> bool {
        let subject = self.incident.subject.as_str();
        let another_epoch = self.incident.trigger == Trigger::Emergency
            && entry.target.starts_with("emergency ")
            && entry.target != subject;
        another_epoch || entry.action.starts_with("incident.")
    }

    fn falls_into(&self, entry: &OplogEntry) -> bool {
        entry.at >= begins(self.incident) && ends(self.incident).is_none_or(|end| entry.at <= end)
    }

    /// Whether it is about one of its issues.
    fn of_issue(&self, entry: &OplogEntry) -> bool {
        self.issues.contains(&entry.target)
            || !entry.correlation_id.is_empty() && self.runs.contains(&entry.correlation_id)
    }

    fn relates(&self, entry: &OplogEntry) -> bool {
        // Of each call there is an entry beside that of what it did.
        if entry.action.starts_with("call ") {
            return false;
        }
        if self.names_it(entry) {
            return true;
        }
        if self.of_another(entry) || !self.falls_into(entry) {
            return false;
        }
        let action = entry.action.as_str();
        self.of_issue(entry)
            || EVERYWHERE.iter().any(|beginning| action.starts_with(beginning))
            || TAKEN_BACK.iter().any(|word| action.contains(word))
            || action == "alerts.ack" && self.alerts.contains(entry.target.as_str())
            // What services push is no intervention.
            || somebody(&entry.actor) && !action.ends_with(".stream") && !action.starts_with("alerts.")
    }
}

/// What happened about an incident: `entries` of the log, oldest first, from [`begins`] on, `alerts` and what became of
/// their messages.
pub fn timeline(
    incident: &IncidentRecord,
    entries: &[OplogEntry],
    alerts: &[AlertRecord],
    deliveries: &[DeliveryRecord],
) -> Timeline {
    let alerts = alerts_about(incident, alerts);
    let names = |(check, episode): &(String, u64)| [check.clone(), format!("{check}#{episode}")];
    let mut wanted = Wanted {
        incident,
        issues: incident.issues.iter().flat_map(names).collect(),
        alerts: alerts.iter().map(|alert| alert.id.as_str()).collect(),
        runs: BTreeSet::new(),
    };
    let of_issue =
        entries.iter().filter(|entry| wanted.falls_into(entry) && wanted.of_issue(entry));
    let runs: BTreeSet<String> = of_issue
        .filter(|entry| !entry.correlation_id.is_empty())
        .map(|entry| entry.correlation_id.clone())
        .collect();
    wanted.runs = runs;
    let logged = entries.iter().filter(|entry| wanted.relates(entry)).map(event);
    let told = deliveries.iter().flat_map(|delivery| {
        let about = alerts.iter().filter(|alert| delivery.alerts.contains(&alert.id));
        about.map(|alert| told(alert, delivery))
    });
    let mut events: Vec<Event> = logged.chain(told).collect();
    events.sort_by_key(|event| (event.at, event.sequence));
    bounded(events)
}

fn event(entry: &OplogEntry) -> Event {
    let text = match (entry.reason.as_str(), entry.detail.as_str()) {
        (reason, "") => reason.to_owned(),
        ("", detail) => detail.to_owned(),
        (reason, detail) => format!("{detail} ({reason})"),
    };
    Event {
        at: entry.at,
        actor: entry.actor.clone(),
        action: entry.action.clone(),
        target: entry.target.clone(),
        outcome: entry.outcome.clone(),
        text,
        sequence: entry.sequence,
    }
}

fn told(alert: &AlertRecord, delivery: &DeliveryRecord) -> Event {
    use genesis_storage::DeliveryOutcome as Outcome;
    let outcome = match delivery.outcome {
        Outcome::Accepted => "ok",
        Outcome::Refused => "refused",
        Outcome::HandedOver => "handed over",
        Outcome::Dropped => "dropped",
    };
    Event {
        at: delivery.at,
        actor: "system:alerts".to_owned(),
        action: format!("alert.{}", delivery.occasion),
        target: delivery.channel.clone(),
        outcome: outcome.to_owned(),
        text: match delivery.detail.as_str() {
            "" => alert.title.clone(),
            detail => format!("{}: {detail}", alert.title),
        },
        sequence: 0,
    }
}

/// The beginning and the end of it, where it is too long: what set it off, and how it ended.
fn bounded(mut events: Vec<Event>) -> Timeline {
    let left_out = events.len().saturating_sub(SHOWN);
    if left_out == 0 {
        return Timeline { events, ..Timeline::default() };
    }
    events.drain(FROM_THE_BEGINNING..FROM_THE_BEGINNING + left_out);
    Timeline { events, left_out, left_out_after: FROM_THE_BEGINNING, read_until: None }
}
