//! What people say: acknowledge an alert, silence what they know of, end a silence, try a channel. Each with its plan.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{
    AlertAck, AlertRecord, DeliveryOutcome, Intent, Moment, OutboxRecord, SilenceRecord,
};

use super::channel::Channel;
use super::message::{Message, Occasion};
use super::plan::{self, Due};
use super::record::{delivery, forget_refusals};
use super::{Alerts, Live};
use crate::config::units::human;
use crate::error::{Error, Result};
use crate::events::Severity;
use crate::outside::notify::Sent;
use crate::plan::{Plan, PlanStep, demand_reason, lasting};

/// How long an acknowledgement holds when nothing is said.
const ACK_FOR: &str = "8h";
/// How long a silence holds when nothing is said.
const SILENCE_FOR: &str = "2h";
/// The longest of either.
const AT_MOST: u64 = 30;
/// So many silences are kept.
const SILENCES_KEPT: usize = 500;
/// So many are in force at once.
const SILENCES_LIMIT: usize = 200;

/// What a silence covers.
#[derive(Debug, Clone, Copy)]
pub struct Cover<'a> {
    /// Alerts of this source; empty: of any.
    pub source: &'a str,
    /// Alerts whose subject matches this glob; empty: any.
    pub subject: &'a str,
    /// Alerts no worse than this; empty: high.
    pub severity: &'a str,
}

/// A test has failed that takes longer.
const TEST_PATIENCE: Duration = Duration::from_secs(20);

fn lasts_or(text: &str, default: &str) -> Result<Duration> {
    lasting(if text.is_empty() { default } else { text }, AT_MOST)
}

impl Alerts {
    fn firing(&self, id: &str) -> Result<AlertRecord> {
        let alert = self.find(id)?;
        if !alert.open() {
            let message = format!("alert {} is over", alert.id);
            return Err(Error::conflict("ALERT_OVER", message));
        }
        Ok(alert)
    }

    /// What an acknowledgement would do.
    ///
    /// # Errors
    /// `ALERT_NOT_FOUND`, `ALERT_OVER`, `DURATION_INVALID`.
    pub fn plan_ack(&self, id: &str, lasts: &str) -> Result<Plan> {
        let lasts = lasts_or(lasts, ACK_FOR)?;
        let alert = self.firing(id)?;
        let known = alert.ack.as_ref().map_or_else(String::new, |ack| ack.since.wall.to_string());
        let mut why = format!("nobody is told of {:?} for {}", alert.title, human(lasts));
        if let Some(ack) = &alert.ack {
            let by = &ack.by;
            why.push_str(&format!(
                "; instead of {by}, who takes care of it for {}",
                human(ack.lasts)
            ));
        }
        let step = PlanStep::new("ack", &alert.id, why);
        Ok(Plan::new("alerts.ack", &[&known], vec![step]))
    }

    /// Somebody takes care of an alert: it is not repeated for a while, and channels that take it hear of that.
    ///
    /// # Errors
    /// `ALERT_NOT_FOUND`, `ALERT_OVER`, `DURATION_INVALID`, `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn ack(
        self: &Arc<Self>,
        id: &str,
        lasts: &str,
        plan_hash: &str,
        (actor, note): (&str, &str),
    ) -> Result<AlertRecord> {
        let _alone = self.looking.lock().await;
        self.plan_ack(id, lasts)?.accept(plan_hash)?;
        let mut alert = self.firing(id)?;
        let now = self.outside.clock.moment();
        alert.ack = Some(AlertAck {
            by: actor.to_owned(),
            since: now.clone(),
            lasts: lasts_or(lasts, ACK_FOR)?,
            note: note.to_owned(),
            severity: alert.severity.clone(),
        });
        let intent = self.intent(actor, "alerts.ack").target(&*alert.id).reason(note);
        let kept = alert.clone();
        let detail = alert.title.clone();
        self.state
            .write(intent.detail(detail), move |writing| {
                writing.alerts().put(&kept)?;
                Ok::<_, Error>(())
            })
            .await?;
        {
            let mut live = self.live();
            let live = &mut *live;
            if let Some(known) = live.firing.get_mut(&alert.key) {
                known.ack.clone_from(&alert.ack);
                // Over what else of it is still to be written, without the ack.
                live.unwritten.alert(known);
            }
            let config = self.config();
            let takes = |name: &str| {
                config.channels.iter().any(|channel| channel.name == name && channel.takes_acks())
            };
            for told in alert.told.iter().filter(|told| takes(&told.channel)) {
                let due = Due { channel: told.channel.clone(), occasion: Occasion::Acknowledged };
                self.enqueue(live, &alert, &due, &now, format!("{actor} takes care of it: {note}"));
            }
        }
        self.bell.ring();
        Ok(alert)
    }

    /// What a silence would do.
    ///
    /// # Errors
    /// `SILENCE_INVALID`, `DURATION_INVALID`.
    pub fn plan_silence(&self, cover: Cover<'_>, lasts: &str) -> Result<Plan> {
        let now = self.outside.clock.moment();
        let silence = self.silence_of(cover, lasts, &now)?;
        let live = self.live();
        let covered = live.firing.values().filter(|alert| plan::covers(&silence, alert)).count();
        let what = described(&silence);
        let why =
            format!("of it {covered} alert(s) fire now; nobody is told of them until it ends");
        let step = PlanStep::new("silence", what, why);
        Ok(Plan::new("alerts.silence", &[], vec![step]))
    }

    /// How many of the alerts that fire a silence covers.
    pub fn covered(&self, silence: &SilenceRecord) -> usize {
        self.live().firing.values().filter(|alert| plan::covers(silence, alert)).count()
    }

    /// Keeps people from hearing of what the silence covers, until it ends by itself.
    ///
    /// # Errors
    /// `SILENCE_INVALID`, `DURATION_INVALID`, `REASON_MISSING`, `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn silence(
        &self,
        cover: Cover<'_>,
        lasts: &str,
        plan_hash: &str,
        (actor, reason): (&str, &str),
    ) -> Result<SilenceRecord> {
        let _alone = self.looking.lock().await;
        demand_reason(reason, "a silence needs a reason")?;
        self.plan_silence(cover, lasts)?.accept(plan_hash)?;
        let now = self.outside.clock.moment();
        let mut silence = self.silence_of(cover, lasts, &now)?;
        actor.clone_into(&mut silence.by);
        reason.clone_into(&mut silence.reason);
        if self.silences(false).len() >= SILENCES_LIMIT {
            let message = format!("{SILENCES_LIMIT} silences are in force; end some of them");
            return Err(Error::conflict("SILENCES_TOO_MANY", message));
        }
        self.keep_silence(&silence, "alerts.silence", (actor, reason), &now).await?;
        self.live().silences.push(silence.clone());
        Ok(silence)
    }

    fn silence_of(&self, cover: Cover<'_>, lasts: &str, now: &Moment) -> Result<SilenceRecord> {
        let invalid = |why: String| Error::invalid("SILENCE_INVALID", why);
        let severity = if cover.severity.is_empty() { "high" } else { cover.severity };
        Severity::parse(severity).map_err(invalid)?;
        if cover.source.is_empty() && cover.subject.is_empty() {
            let why = "say what is silenced: --subject GLOB or --source NAME";
            return Err(invalid(why.to_owned()));
        }
        // TLS speaks only where it is configured.
        let known = self.sources().iter().map(|source| source.name()).chain(["pki", plan::OWN]);
        let known: BTreeSet<&str> = known.collect();
        if !cover.source.is_empty() && !known.contains(&cover.source) {
            let why =
                format!("{:?} is not one of {}", cover.source, Vec::from_iter(known).join(", "));
            return Err(invalid(why));
        }
        if cover.subject.len() > 256 || glob::Pattern::new(cover.subject).is_err() {
            return Err(invalid(format!("{:?} is no glob", cover.subject)));
        }
        Ok(SilenceRecord {
            id: self.new_id(),
            source: cover.source.to_owned(),
            subject: cover.subject.to_owned(),
            severity: severity.to_owned(),
            by: String::new(),
            reason: String::new(),
            since: now.clone(),
            lasts: lasts_or(lasts, SILENCE_FOR)?,
            ended: None,
        })
    }

    async fn keep_silence(
        &self,
        silence: &SilenceRecord,
        action: &str,
        (actor, reason): (&str, &str),
        now: &Moment,
    ) -> Result<()> {
        let intent = self.intent(actor, action).target(&*silence.id).reason(reason);
        let (kept, now) = (silence.clone(), now.clone());
        self.state
            .write(intent.detail(described(silence)), move |writing| {
                let in_force = |silence: &SilenceRecord| plan::in_force(silence, &now);
                writing.alerts().put_silence(&kept, SILENCES_KEPT, in_force)?;
                Ok::<_, Error>(())
            })
            .await
    }

    fn silence_in_force(&self, id: &str) -> Result<SilenceRecord> {
        let fits = |silence: &&SilenceRecord| id.len() >= 4 && silence.id.starts_with(id);
        let in_force = self.silences(false);
        let mut found = in_force.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some(silence), None) => Ok(silence.clone()),
            _ => {
                let message = format!("no silence in force has the id {id:?}, or several have");
                Err(Error::not_found("SILENCE_NOT_FOUND", message))
            }
        }
    }

    /// What ending a silence would do.
    ///
    /// # Errors
    /// `SILENCE_NOT_FOUND`.
    pub fn plan_unsilence(&self, id: &str) -> Result<Plan> {
        let silence = self.silence_in_force(id)?;
        let why = format!("{} silenced {}", silence.by, described(&silence));
        Ok(Plan::new("alerts.unsilence", &[], vec![PlanStep::new("unsilence", &silence.id, why)]))
    }

    /// Ends a silence: people hear of what still fires.
    ///
    /// # Errors
    /// `SILENCE_NOT_FOUND`, `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn unsilence(
        &self,
        id: &str,
        plan_hash: &str,
        (actor, reason): (&str, &str),
    ) -> Result<SilenceRecord> {
        let _alone = self.looking.lock().await;
        self.plan_unsilence(id)?.accept(plan_hash)?;
        let mut silence = self.silence_in_force(id)?;
        let now = self.outside.clock.moment();
        silence.ended = Some(now.wall);
        self.keep_silence(&silence, "alerts.unsilence", (actor, reason), &now).await?;
        let mut live = self.live();
        if let Some(known) = live.silences.iter_mut().find(|known| known.id == silence.id) {
            known.ended = silence.ended;
        }
        drop(live);
        self.bell.ring();
        Ok(silence)
    }

    fn channel(&self, name: &str) -> Result<Channel> {
        let config = self.config();
        let found = config.channels.iter().find(|channel| channel.name == name).cloned();
        found.ok_or_else(|| {
            let names = config.names();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let message = format!("there is no channel {name:?}; configured: {known}");
            Error::not_found("CHANNEL_UNKNOWN", message)
        })
    }

    /// What a test of a channel would do.
    ///
    /// # Errors
    /// `CHANNEL_UNKNOWN`.
    pub fn plan_test(&self, name: &str) -> Result<Plan> {
        let channel = self.channel(name)?;
        let why = format!("a message that says it is a test, by {}", channel.kind_name());
        let step = PlanStep::new("send", format!("a test to {name}"), why);
        Ok(Plan::new("alerts.test", &[], vec![step]))
    }

    /// Sends a test through a channel, now, and says what the channel says.
    ///
    /// # Errors
    /// `CHANNEL_UNKNOWN`, `PLAN_CHANGED`, `STORAGE_FAILED`; `CHANNEL_FAILED` when it was not accepted.
    pub async fn test(
        self: &Arc<Self>,
        name: &str,
        plan_hash: &str,
        (actor, reason): (&str, &str),
    ) -> Result<String> {
        self.plan_test(name)?.accept(plan_hash)?;
        let channel = self.channel(name)?;
        let now = self.outside.clock.moment();
        let message = Message {
            id: self.new_id(),
            occasion: Occasion::Test,
            items: Vec::new(),
            note: format!("{actor} tries this channel. {reason}").trim().to_owned(),
            sender: self.sender.clone(),
            at: now.wall,
        };
        let intent = self.intent(actor, "alerts.test").target(name).reason(reason);
        self.state.write(intent, |_| Ok::<_, Error>(())).await?;
        // Whoever asks waits for the answer, and not for ever.
        let patience = channel.patience().min(TEST_PATIENCE);
        let sent = tokio::select! {
            sent = self.outside.notifier.send(&channel, &message) => sent,
            () = self.outside.clock.sleep(patience) => {
                Sent::later(format!("no answer within {patience:?}"))
            }
        };
        let now = self.outside.clock.moment();
        self.metrics.sent(name, &sent);
        let (outcome, detail) = match &sent {
            Sent::Accepted { detail } => (DeliveryOutcome::Accepted, detail.clone()),
            Sent::Later { why, .. } => (DeliveryOutcome::Dropped, why.clone()),
            Sent::Mend { why } | Sent::Never { why } => (DeliveryOutcome::Refused, why.clone()),
        };
        {
            let mut live = self.live();
            self.judge(&mut live, name, &sent, &now);
            if matches!(sent, Sent::Accepted { .. }) {
                mended(&mut live, name);
            }
            record_test(&mut live, &message, name, outcome, &detail, &now);
        }
        self.persist().await;
        self.bell.ring();
        match sent {
            Sent::Accepted { detail } => Ok(detail),
            Sent::Later { why, .. } | Sent::Mend { why } | Sent::Never { why } => {
                let message = format!("channel {name} did not accept the test: {why}");
                Err(Error::unavailable("CHANNEL_FAILED", message))
            }
        }
    }

    fn intent(&self, actor: &str, action: &str) -> Intent {
        Intent::new(self.outside.clock.now(), actor, action)
    }
}

/// A channel works as somebody has just seen: what it was not given before, it is given now.
fn mended(live: &mut Live, channel: &str) {
    live.held.remove(channel);
    for message in live.outbox.values_mut().filter(|it| it.channel == channel) {
        message.tried = None;
        live.unwritten.message(message);
    }
    forget_refusals(live, |told| told.channel == channel);
}

fn record_test(
    live: &mut Live,
    message: &Message,
    channel: &str,
    outcome: DeliveryOutcome,
    detail: &str,
    now: &Moment,
) {
    let by = (channel, message.occasion.name());
    let mut sent = OutboxRecord::new(0, message.id.clone(), by, Vec::new(), now.clone());
    sent.attempts = 1;
    live.unwritten.delivery(delivery(&sent, outcome, now.wall, detail));
}

/// What a silence covers, in words.
pub(super) fn described(silence: &SilenceRecord) -> String {
    let source = match silence.source.as_str() {
        "" => "alerts".to_owned(),
        source => format!("alerts of {source}"),
    };
    let subject = match silence.subject.as_str() {
        "" => String::new(),
        subject => format!(" about {subject:?}"),
    };
    format!("{source}{subject}, {} at worst, for {}", silence.severity, human(silence.lasts))
}
