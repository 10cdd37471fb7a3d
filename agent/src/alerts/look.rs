//! One look: what holds is compared with what fires, and what people are to hear goes into the outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use genesis_storage::{AlertRecord, DeliveryOutcome, Moment, OutboxRecord};

use super::message::Occasion;
use super::plan::{self, Due, OWN};
use super::record::{Unwritten, delivery};
use super::{Alerts, Live};
use crate::events::{Condition, Severity};

/// A source that has no answer after so long can't tell.
const ASKED: Duration = Duration::from_secs(2);

impl Alerts {
    /// Asks every source, and puts what follows into the outbox.
    pub async fn look(self: &Arc<Self>) {
        let _alone = self.looking.lock().await;
        let asked = self.sources().iter().map(|source| async {
            // A defect in one of them keeps nobody from hearing of the others.
            let asked = AssertUnwindSafe(source.conditions()).catch_unwind();
            let conditions = tokio::select! {
                conditions = asked => conditions.ok().and_then(Result::ok),
                () = self.outside.clock.sleep(ASKED) => None,
            };
            (source.name().to_owned(), conditions)
        });
        let mut heard = join_all(asked).await;
        let now = self.outside.clock.moment();
        heard.push((OWN.to_owned(), Some(self.own_conditions(&now))));
        // One that there is no more, such as TLS that is configured no more, has nothing to say.
        let silent: BTreeSet<String> = {
            let live = self.live();
            let known = |name: &String| heard.iter().any(|(source, _)| source == name);
            let sources = live.firing.values().map(|alert| alert.source.clone());
            sources.filter(|name| !known(name)).collect()
        };
        heard.extend(silent.into_iter().map(|name| (name, Some(Vec::new()))));
        self.take_in(heard, &now);
        self.tell(&now);
        self.digest_when_due(&now);
        self.persist().await;
    }

    /// Compares what was heard with what fires.
    pub(super) fn take_in(&self, heard: Vec<plan::Heard>, now: &Moment) {
        let mut live = self.live();
        let live = &mut *live;
        let compared =
            plan::compare(&mut live.firing, &mut live.recent, heard, now, || self.new_id());
        live.crowded_out = compared.crowded_out;
        for key in &compared.changed {
            if let Some(alert) = live.firing.get(key) {
                if alert.opened == *now {
                    self.metrics.opened(plan::severity(alert));
                }
                hurry(&mut live.outbox, &mut live.unwritten, alert);
                live.unwritten.alert(alert);
            }
        }
        for alert in compared.over {
            self.end(live, alert, now);
        }
        forget_ended(live);
        self.metrics.firing(live.firing.values().map(plan::severity));
    }

    /// An alert is over: whoever heard of it hears of that.
    fn end(&self, live: &mut Live, alert: AlertRecord, now: &Moment) {
        let over = plan::over(&alert, &live.outbox);
        for sequence in over.drop {
            if let Some(message) = live.outbox.remove(&sequence) {
                live.unwritten.no_message(sequence);
                let why = "it was over before anybody was told";
                let dropped = delivery(&message, DeliveryOutcome::Dropped, now.wall, why);
                live.unwritten.delivery(dropped);
            }
        }
        live.unwritten.alert(&alert);
        for channel in over.resolve {
            let due = Due { channel, occasion: Occasion::Resolved };
            self.enqueue(live, &alert, &due, now, String::new());
        }
        live.ended.insert(alert.id.clone(), alert);
    }

    /// Puts into the outbox what is due of what fires.
    pub(super) fn tell(&self, now: &Moment) {
        let config = self.config();
        let channels = config.names();
        let mut live = self.live();
        let live = &mut *live;
        let how = (&config.policy, channels.as_slice());
        let troubled: BTreeSet<String> = live.trouble.keys().cloned().collect();
        for (key, due) in plan::all_due(&live.firing, &live.silences, how, &troubled, now) {
            let Some(alert) = live.firing.get(&key) else { continue };
            let alert = alert.clone();
            for due in &due {
                self.enqueue(live, &alert, due, now, String::new());
            }
            if let Some(alert) = live.firing.get_mut(&key) {
                plan::tell(alert, &due, now);
                live.unwritten.alert(alert);
            }
        }
    }

    /// Puts one message into the outbox.
    pub(super) fn enqueue(
        &self,
        live: &mut Live,
        alert: &AlertRecord,
        due: &Due,
        now: &Moment,
        note: String,
    ) {
        // One of a kind is enough: it is made of what is known when it is sent.
        let same = |message: &OutboxRecord| {
            message.channel == due.channel
                && message.occasion == due.occasion.name()
                && message.attempts == 0
                && message.alerts == [alert.id.as_str()]
        };
        if live.outbox.values().any(same) {
            return;
        }
        let by = (due.channel.as_str(), due.occasion.name());
        let about = vec![alert.id.clone()];
        let mut message = OutboxRecord::new(live.next, self.new_id(), by, about, now.clone());
        message.note = note;
        message.urgent = plan::severity(alert) == Severity::Critical;
        live.next += 1;
        live.unwritten.message(&message);
        live.outbox.insert(message.sequence, message);
    }

    /// What is wrong with alerting itself.
    fn own_conditions(&self, now: &Moment) -> Vec<Condition> {
        let live = self.live();
        let troubled = live.trouble.iter().filter(|(_, trouble)| {
            trouble.refused || now.since(&trouble.since) >= plan::DEAD_AFTER
        });
        let mut found: Vec<Condition> = troubled
            .map(|(name, trouble)| {
                let title = match trouble.refused {
                    true => {
                        format!("alert channel {name} refuses what it is given: {}", trouble.why)
                    }
                    false => format!("alert channel {name} does not answer: {}", trouble.why),
                };
                condition(format!("{OWN}/channel/{name}"), name.clone(), title, trouble.since.wall)
            })
            .collect();
        if live.crowded_out > 0 {
            let title = format!(
                "{} conditions found no room beside {} alerts that fire",
                live.crowded_out,
                plan::OPEN_LIMIT
            );
            found.push(condition(format!("{OWN}/crowded"), "alerts".to_owned(), title, now.wall));
        }
        found
    }
}

/// What has become critical is urgent, also where it waits already.
fn hurry(outbox: &mut BTreeMap<u64, OutboxRecord>, unwritten: &mut Unwritten, alert: &AlertRecord) {
    if plan::severity(alert) < Severity::Critical || alert.told.iter().all(|told| told.accepted) {
        return;
    }
    for message in outbox.values_mut() {
        if !message.urgent && message.alerts == [alert.id.as_str()] {
            message.urgent = true;
            unwritten.message(message);
        }
    }
}

/// What is over is only remembered while a message about it waits.
pub(super) fn forget_ended(live: &mut Live) {
    let wanted: BTreeSet<&String> =
        live.outbox.values().flat_map(|message| &message.alerts).collect();
    live.ended.retain(|id, _| wanted.contains(id));
}

fn condition(key: String, subject: String, title: String, since: jiff::Timestamp) -> Condition {
    Condition {
        key,
        subject,
        severity: Severity::High,
        title,
        details: Vec::new(),
        runbook: "alerts".to_owned(),
        since,
        behind: Vec::new(),
    }
}
