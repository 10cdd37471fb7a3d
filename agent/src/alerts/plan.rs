//! What people are told, and when: pure functions over what holds, what they were told, and the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use genesis_storage::{AlertRecord, AlertTold, Moment, OutboxRecord, SilenceRecord};

use super::message::Occasion;
use crate::events::{Condition, Severity};

/// By which channels people are told, where the configuration says nothing else.
pub const ROUTES: [(Severity, &[&str]); 4] = [
    (Severity::Critical, &["pagerduty", "sms"]),
    (Severity::High, &["slack-critical"]),
    (Severity::Medium, &["slack-alerts"]),
    (Severity::Low, &["digest"]),
];

/// By which channels the security contact is told, where the configuration says nothing else.
pub const SECURITY: [&str; 1] = ["security"];

/// So many alerts fire at most; what comes on top is counted. As much room again is for what is critical, and for
/// alerting itself.
pub const OPEN_LIMIT: usize = 5_000;
/// So many messages about what is over wait for one channel at most.
pub const OVER_LIMIT: usize = 2_000;
/// A condition that comes and goes so often within [`FLAP_WINDOW`] is waited for longer.
pub const FLAPS: usize = 4;
/// See [`FLAPS`].
pub const FLAP_WINDOW: Duration = Duration::from_secs(600);
/// What is gone for so long is over.
pub const HOLD: Duration = Duration::from_secs(30);
/// A channel that fails for so long is dead: another one is given what is critical.
pub const DEAD_AFTER: Duration = Duration::from_secs(120);
/// A message is not given to another channel sooner, also where its own has been dead for long.
pub const CHANCE: Duration = Duration::from_secs(15);
/// The first and the longest pause before a message is tried again.
pub const BACK_OFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// A channel that has to be mended is tried again after so long.
pub const MENDED_AFTER: Duration = Duration::from_secs(300);
/// What has been waiting for so long is given up, once its alerts are over.
pub const OLD: Duration = Duration::from_secs(86_400);
/// So many alerts share one message at most.
pub const GROUP: usize = 20;
/// So many alerts are told in one digest; more go into a second one.
pub const DIGEST: usize = 200;

/// How people want to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What is not critical waits for so long, so that what belongs together is told together.
    pub group: Duration,
    /// They are told again after so long.
    pub repeat: Duration,
    /// So often at most.
    pub repeat_limit: u32,
    /// The channels of each severity.
    pub routes: BTreeMap<Severity, Vec<String>>,
    /// Those that hear of critical vulnerabilities as well.
    pub security: Vec<String>,
}

/// How bad an alert is. One that this build does not know is not taken lightly.
pub fn severity(alert: &AlertRecord) -> Severity {
    severity_of(&alert.severity)
}

fn severity_of(name: &str) -> Severity {
    Severity::parse(name).unwrap_or(Severity::Critical)
}

/// The source whose critical alerts the security contact hears of.
const VULNERABILITIES: &str = "dependencies";
/// The name of alerting as a source.
pub const OWN: &str = "alerts";

/// What one source said: the conditions that hold, or `None` when it could not tell.
pub type Heard = (String, Option<Vec<Condition>>);

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// The alerts that changed and still fire, by key.
    pub changed: BTreeSet<String>,
    /// Those that are over, taken out of what fires.
    pub over: Vec<AlertRecord>,
    /// So many conditions found no room.
    pub crowded_out: usize,
}

/// Compares what holds with what fires (by key). A source that can't tell ends nothing. What is gone is over only
/// after [`HOLD`], and after [`FLAP_WINDOW`] where it has come and gone too often, so that what flaps is one alert.
///
/// `recent` keeps when that which is over came and went, lest what flaps slowly begins anew each time.
pub fn compare(
    firing: &mut BTreeMap<String, AlertRecord>,
    recent: &mut BTreeMap<String, Vec<Moment>>,
    heard: Vec<Heard>,
    now: &Moment,
    mut new_id: impl FnMut() -> String,
) -> Compared {
    let mut found = Compared::default();
    recent.retain(|_, changes| {
        changes.retain(|change| now.since(change) <= FLAP_WINDOW);
        !changes.is_empty()
    });
    for (source, conditions) in heard {
        let Some(conditions) = conditions else { continue };
        let mut holding = BTreeSet::new();
        for condition in conditions {
            if !holding.insert(condition.key.clone()) {
                continue;
            }
            let key = condition.key.clone();
            if let Some(alert) = firing.get_mut(&key) {
                if refresh(alert, condition, now) {
                    found.changed.insert(key);
                }
            } else if firing.len() >= room(&source, &condition) {
                found.crowded_out += 1;
            } else {
                let mut alert = opened(&source, condition, now, new_id());
                alert.changes = recent.remove(&key).unwrap_or_default();
                came_or_went(&mut alert, now);
                firing.insert(key.clone(), alert);
                found.changed.insert(key);
            }
        }
        let absent: Vec<String> = firing
            .values()
            .filter(|alert| alert.source == source && !holding.contains(&alert.key))
            .map(|alert| alert.key.clone())
            .collect();
        for key in absent {
            let Some(alert) = firing.get_mut(&key) else { continue };
            match &alert.gone {
                None => {
                    alert.gone = Some(now.clone());
                    came_or_went(alert, now);
                    found.changed.insert(key);
                }
                Some(gone) if now.since(gone) >= hold(alert, now) => {
                    alert.resolved_at = Some(now.wall);
                    recent.insert(key.clone(), alert.changes.clone());
                    found.changed.remove(&key);
                    found.over.extend(firing.remove(&key));
                }
                Some(_) => {}
            }
        }
    }
    found
}

fn room(source: &str, condition: &Condition) -> usize {
    match condition.severity == Severity::Critical || source == OWN {
        true => 2 * OPEN_LIMIT,
        false => OPEN_LIMIT,
    }
}

fn opened(source: &str, condition: Condition, now: &Moment, id: String) -> AlertRecord {
    AlertRecord {
        id,
        key: condition.key,
        source: source.to_owned(),
        subject: condition.subject,
        severity: condition.severity.name().to_owned(),
        title: condition.title,
        details: condition.details,
        runbook: condition.runbook,
        behind: condition.behind,
        since: condition.since,
        opened: now.clone(),
        gone: None,
        resolved_at: None,
        changes: Vec::new(),
        told: Vec::new(),
        told_at: None,
        repeats: 0,
        digested: false,
        ack: None,
    }
}

/// Takes over what is known of it now; since when it holds stays what was first said. Whether something changed.
fn refresh(alert: &mut AlertRecord, condition: Condition, now: &Moment) -> bool {
    let before = alert.clone();
    alert.severity = condition.severity.name().to_owned();
    alert.title = condition.title;
    alert.details = condition.details;
    alert.runbook = condition.runbook;
    alert.behind = condition.behind;
    if alert.gone.take().is_some() {
        came_or_went(alert, now);
    }
    *alert != before
}

fn came_or_went(alert: &mut AlertRecord, now: &Moment) {
    alert.changes.push(now.clone());
    let excess = alert.changes.len().saturating_sub(FLAPS);
    alert.changes.drain(..excess);
}

/// Whether it comes and goes too often.
pub fn flapping(alert: &AlertRecord, now: &Moment) -> bool {
    alert.changes.len() >= FLAPS
        && alert.changes.first().is_some_and(|first| now.since(first) <= FLAP_WINDOW + HOLD)
}

/// How long it must be gone to be over.
fn hold(alert: &AlertRecord, now: &Moment) -> Duration {
    let often = alert.changes.len() >= FLAPS && {
        let (first, last) = (&alert.changes[0], alert.gone.as_ref().unwrap_or(now));
        last.since(first) <= FLAP_WINDOW
    };
    if often { FLAP_WINDOW } else { HOLD }
}

/// Whether somebody takes care of it, as bad as it is now.
pub fn acked(alert: &AlertRecord, now: &Moment) -> bool {
    alert.ack.as_ref().is_some_and(|ack| {
        now.since(&ack.since) < ack.lasts && severity(alert) <= severity_of(&ack.severity)
    })
}

/// Whether a silence is in force.
pub fn in_force(silence: &SilenceRecord, now: &Moment) -> bool {
    silence.ended.is_none() && now.since(&silence.since) < silence.lasts
}

/// Whether a silence is about an alert, in force or not.
pub fn covers(silence: &SilenceRecord, alert: &AlertRecord) -> bool {
    // The pattern last: it costs the most.
    (silence.source.is_empty() || silence.source == alert.source)
        && Severity::parse(&silence.severity).is_ok_and(|worst| severity(alert) <= worst)
        && (silence.subject.is_empty()
            || silence.subject == alert.subject
            || glob::Pattern::new(&silence.subject)
                .is_ok_and(|pattern| pattern.matches(&alert.subject)))
}

/// Why nobody is told of an alert now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quiet {
    /// A silence, by its id.
    Silenced(String),
    /// Another alert explains it, by its key.
    Behind(String),
    /// It is gone, and may be over.
    Gone,
}

/// Why nobody is told of an alert; `None`: people are.
pub fn quiet(
    alert: &AlertRecord,
    firing: &BTreeMap<String, AlertRecord>,
    silences: &[SilenceRecord],
    now: &Moment,
) -> Option<Quiet> {
    if alert.gone.is_some() {
        return Some(Quiet::Gone);
    }
    let silence = silences.iter().find(|silence| in_force(silence, now) && covers(silence, alert));
    if let Some(silence) = silence {
        return Some(Quiet::Silenced(silence.id.clone()));
    }
    let behind = alert.behind.iter().find(|key| {
        // One that is quiet for the sake of this one explains nothing.
        firing.get(*key).is_some_and(|other| !other.behind.contains(&alert.key))
    });
    behind.map(|key| Quiet::Behind(key.clone()))
}

/// Something to be sent about one alert to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The channel.
    pub channel: String,
    /// Why.
    pub occasion: Occasion,
}

/// The channels that an alert is for. What is wrong with a channel is told to channels that are well; where none of
/// its route is, to any.
pub fn route(
    alert: &AlertRecord,
    (policy, channels): (&Policy, &[String]),
    troubled: &BTreeSet<String>,
) -> Vec<String> {
    let route = policy.routes.get(&severity(alert)).into_iter().flatten();
    let grave = alert.source == VULNERABILITIES && severity(alert) == Severity::Critical;
    let security = policy.security.iter().filter(|it| grave && !route.clone().any(|at| at == *it));
    let there = route.clone().chain(security).filter(|name| channels.contains(*name));
    let Some(itself) = alert.key.strip_prefix("alerts/channel/") else {
        return there.cloned().collect();
    };
    let well = |name: &&String| name.as_str() != itself && !troubled.contains(*name);
    let found: Vec<String> = there.filter(well).cloned().collect();
    if !found.is_empty() {
        return found;
    }
    let not: Vec<&str> = troubled.iter().map(String::as_str).chain([itself]).collect();
    let any = || next_channel(policy, channels, &[itself]);
    next_channel(policy, channels, &not).or_else(any).into_iter().collect()
}

/// Everything that is to be sent about what fires, by key. A group begins with its first alert: when that has waited
/// long enough, whatever else is for the same channel goes with it.
pub fn all_due(
    firing: &BTreeMap<String, AlertRecord>,
    silences: &[SilenceRecord],
    how: (&Policy, &[String]),
    troubled: &BTreeSet<String>,
    now: &Moment,
) -> Vec<(String, Vec<Due>)> {
    let loud: Vec<(&String, &AlertRecord)> =
        firing.iter().filter(|(_, alert)| quiet(alert, firing, silences, now).is_none()).collect();
    let mild = loud.iter().filter(|(_, alert)| severity(alert) < Severity::Critical);
    let told = mild.flat_map(|(_, alert)| due(alert, how, (&BTreeSet::new(), troubled), now));
    let ripe: BTreeSet<String> =
        told.filter(|due| due.occasion == Occasion::Firing).map(|due| due.channel).collect();
    let all =
        loud.into_iter().map(|(key, alert)| (key.clone(), due(alert, how, (&ripe, troubled), now)));
    all.filter(|(_, due)| !due.is_empty()).collect()
}

/// What is to be sent about an alert that people are told of. What is low is for the digest. What has not waited long
/// enough goes to the channels of `ripe` only.
fn due(
    alert: &AlertRecord,
    (policy, channels): (&Policy, &[String]),
    (ripe, troubled): (&BTreeSet<String>, &BTreeSet<String>),
    now: &Moment,
) -> Vec<Due> {
    let severity = severity(alert);
    if severity == Severity::Low || acked(alert, now) {
        return Vec::new();
    }
    // What has got worse is news, also where the milder form is known.
    let told = |name: &String| {
        let known =
            |told: &AlertTold| told.channel == *name && severity <= severity_of(&told.severity);
        alert.told.iter().any(known)
    };
    let waits = severity < Severity::Critical && now.since(&alert.opened) < policy.group;
    let mut due = Vec::new();
    let goes = |name: &String| !told(name) && (!waits || ripe.contains(name));
    for channel in route(alert, (policy, channels), troubled).into_iter().filter(goes) {
        due.push(Due { channel, occasion: Occasion::Firing });
    }
    let again = alert.told_at.as_ref().is_some_and(|at| now.since(at) >= policy.repeat);
    if again && alert.repeats < policy.repeat_limit {
        let known = alert.told.iter();
        let known = known.filter(|told| told.accepted && channels.contains(&told.channel));
        due.extend(
            known.map(|told| Due { channel: told.channel.clone(), occasion: Occasion::Repeat }),
        );
    }
    due
}

/// Writes down that people are told, or told again.
pub fn tell(alert: &mut AlertRecord, due: &[Due], now: &Moment) {
    for due in due.iter().filter(|due| due.occasion == Occasion::Firing) {
        let severity = alert.severity.clone();
        match alert.told.iter_mut().find(|told| told.channel == due.channel) {
            Some(known) => known.severity = severity,
            None => alert.told.push(AlertTold {
                channel: due.channel.clone(),
                accepted: false,
                severity,
                stands_in: false,
            }),
        }
    }
    if due.iter().any(|due| due.occasion == Occasion::Repeat) {
        alert.repeats = alert.repeats.saturating_add(1);
    }
    if !due.is_empty() {
        alert.told_at = Some(now.clone());
    }
}

/// What becomes of the outbox when an alert is over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// The channels that must hear that it is over.
    pub resolve: Vec<String>,
    /// The messages that nobody needs any more, by sequence.
    pub drop: Vec<u64>,
}

/// What people hear of an alert that is over: each channel that was told, or that may have been. What was not even
/// tried yet, and is not critical, is not told at all.
pub fn over(alert: &AlertRecord, outbox: &BTreeMap<u64, OutboxRecord>) -> Over {
    let mut over = Over::default();
    for told in &alert.told {
        let waiting: Vec<&OutboxRecord> = outbox
            .values()
            .filter(|entry| entry.channel == told.channel && entry.alerts.contains(&alert.id))
            .collect();
        let firing = waiting.iter().any(|entry| entry.occasion == Occasion::Firing.name());
        let untried = |entry: &&&OutboxRecord| {
            entry.attempts == 0 && entry.alerts.len() == 1 && severity(alert) < Severity::Critical
        };
        let dropped: Vec<u64> =
            waiting.iter().filter(untried).map(|entry| entry.sequence).collect();
        let only_untried = dropped.len() == waiting.len();
        over.drop.extend(&dropped);
        // Accepted, or on its way; else it was refused, or never left.
        if told.accepted || (firing && !only_untried) {
            over.resolve.push(told.channel.clone());
        }
    }
    over
}

/// The next message of a channel that may be sent now: the urgent ones first, then the oldest; none overtakes an
/// earlier one about the same alert. What tells of nothing but alerts of `hushed` waits. With it those that fit into
/// the same message.
pub fn next<'a>(
    outbox: &'a BTreeMap<u64, OutboxRecord>,
    channel: &str,
    groups: bool,
    hushed: &BTreeSet<String>,
    now: &Moment,
) -> Vec<&'a OutboxRecord> {
    let mut blocked: BTreeSet<&str> = BTreeSet::new();
    let mut ready: Vec<&OutboxRecord> = Vec::new();
    for entry in outbox.values().filter(|entry| entry.channel == channel) {
        let waits = entry.tried.as_ref().is_some_and(|tried| now.since(tried) < entry.wait)
            || (tells(entry) && entry.alerts.iter().all(|alert| hushed.contains(alert)));
        let behind = entry.alerts.iter().any(|alert| blocked.contains(alert.as_str()));
        if !waits && !behind {
            ready.push(entry);
        }
        blocked.extend(entry.alerts.iter().map(String::as_str));
    }
    let Some(first) = ready.iter().min_by_key(|entry| (!entry.urgent, entry.sequence)).copied()
    else {
        return Vec::new();
    };
    // What was tried goes again as it went, so that a channel may know it again.
    let alone = !groups || first.attempts > 0 || first.urgent || first.alerts.len() > 1;
    let fits = |entry: &&&OutboxRecord| {
        entry.sequence == first.sequence
            || (!alone
                && entry.attempts == 0
                && !entry.urgent
                && entry.alerts.len() == 1
                && entry.note.is_empty()
                && entry.occasion == first.occasion)
    };
    ready.iter().filter(fits).take(GROUP).copied().collect()
}

/// How long to wait before the next attempt: what the channel asks for, else longer each time.
pub fn wait(attempts: u32, asked: Option<Duration>) -> Duration {
    let factor = 1_u32.checked_shl(attempts.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
    let own = BACK_OFF.0.saturating_mul(factor).min(BACK_OFF.1);
    asked.unwrap_or(own).max(Duration::from_millis(100))
}

/// Whether a message says that something holds.
fn tells(entry: &OutboxRecord) -> bool {
    [Occasion::Firing.name(), Occasion::Repeat.name()].contains(&entry.occasion.as_str())
}

/// The alerts, by id, of which people are not to hear just now: somebody takes care of them, or they are quiet. What
/// waits to be told of them goes on waiting.
pub fn hushed(
    firing: &BTreeMap<String, AlertRecord>,
    silences: &[SilenceRecord],
    now: &Moment,
) -> BTreeSet<String> {
    let hushed = firing
        .values()
        .filter(|alert| acked(alert, now) || quiet(alert, firing, silences, now).is_some());
    hushed.map(|alert| alert.id.clone()).collect()
}

/// Whether a message is to be given to another channel as well: its own is in trouble `since` then, and has had its
/// chance. Whether this very message was tried says nothing: others may keep a channel that hangs busy.
pub fn hands_over(entry: &OutboxRecord, since: &Moment, now: &Moment) -> bool {
    entry.urgent
        && !entry.handed_over
        && tells(entry)
        && now.since(since) >= DEAD_AFTER
        && now.since(&entry.queued) >= CHANCE
}

/// The channel that stands in for others: the first that is not among `not`, those of what is critical first.
pub fn next_channel(policy: &Policy, channels: &[String], not: &[&str]) -> Option<String> {
    let by_severity = policy.routes.iter().rev().flat_map(|(_, names)| names);
    let mut candidates = by_severity.chain(channels);
    candidates.find(|name| channels.contains(name) && !not.contains(&name.as_str())).cloned()
}
