//! Incidents as the agent opens them and as people do, note what they did, and close them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{
    EmergencyRecord, INCIDENTS_KEPT, IncidentRecord, IncidentState, Intent, OplogEntry, Trigger,
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::closing::{self, Closing};
use super::timeline::{self, Timeline};
use crate::error::{Error, Result};
use crate::events::{Bell, Severity};
use crate::outside::Clock;
use crate::plan::{Plan, PlanStep};
use crate::runs::system_time;
use crate::state::State;

/// Who ends what a person has not.
const ACTOR: &str = "system:recovery";
/// What could not be written is tried again after so long.
const AGAIN: Duration = Duration::from_secs(5);
/// The emergency is looked at so often, whether it has changed or not.
const LOOK: Duration = Duration::from_secs(600);
/// So much of the log is read for one timeline.
const READ: u64 = 100_000;
/// And so many entries at a time.
const PAGE: usize = 1_000;
/// So many alerts are looked through, and what became of so many messages.
const ALERTS: usize = 5_000;
/// What was not written down for so long is told.
pub const UNDOCUMENTED_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The page of an incident that an emergency has opened.
const EMERGENCY_PAGE: &str = "system-failure";
/// And of one that a person has.
const BY_HAND_PAGE: &str = "incident";

/// An incident to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIncident {
    /// Why.
    pub trigger: Trigger,
    /// What it is about, such as "emergency 3"; empty: nothing that has a name. Of one trigger and subject there is one
    /// that goes on.
    pub subject: String,
    /// In a line.
    pub title: String,
    /// What is known.
    pub details: Vec<String>,
    /// How bad it is.
    pub severity: Severity,
    /// The page of the runbook.
    pub runbook: &'static str,
    /// Who opens it.
    pub by: String,
    /// What they say.
    pub reason: String,
    /// What it is about is over already, and how it ended.
    pub over: Option<String>,
}

/// The incidents of this host.
pub struct Incidents {
    state: State,
    clock: Arc<dyn Clock>,
    /// Whoever opens one looks first whether it is there.
    alone: tokio::sync::Mutex<()>,
}

impl Incidents {
    /// Incidents in this state.
    pub fn new(state: State, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { state, clock, alone: tokio::sync::Mutex::default() })
    }

    /// Opens an incident, unless one of its trigger and subject goes on: then that is returned.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn open(&self, new: NewIncident) -> Result<IncidentRecord> {
        let _alone = self.alone.lock().await;
        if let Some(known) = self.about(new.trigger, &new.subject)?.filter(IncidentRecord::open) {
            return Ok(known);
        }
        self.put_new(new, self.clock.now()).await
    }

    fn about(&self, trigger: Trigger, subject: &str) -> Result<Option<IncidentRecord>> {
        if subject.is_empty() {
            return Ok(None);
        }
        self.state.read(|reading| Ok(reading.incidents().about(trigger, subject)?))
    }

    async fn put_new(&self, new: NewIncident, opened_at: Timestamp) -> Result<IncidentRecord> {
        let now = self.clock.now();
        let id = ulid::Ulid::from_datetime(system_time(now)).to_string();
        let over = new.over.as_ref().map(|_| now);
        let record = IncidentRecord {
            over_at: over,
            details: new.details,
            severity: new.severity.name().to_owned(),
            reason: new.reason,
            resolution: new.over.unwrap_or_default(),
            runbook: new.runbook.to_owned(),
            subject: new.subject,
            ..IncidentRecord::new((id, opened_at), new.trigger, new.title, new.by)
        };
        tracing::warn!(incident = record.id, "{}", record.title);
        let intent = Intent::new(now, record.by.clone(), "incident.opened")
            .target(record.id.clone())
            .reason(record.reason.clone())
            .outcome(record.trigger.code())
            .detail(record.title.clone())
            .correlation_id(record.id.clone());
        self.put(record, intent).await
    }

    async fn put(&self, record: IncidentRecord, intent: Intent) -> Result<IncidentRecord> {
        self.state
            .write(intent, move |writing| {
                writing.incidents().put(&record, INCIDENTS_KEPT)?;
                Ok(record)
            })
            .await
    }

    /// What opening one by hand would do.
    ///
    /// # Errors
    /// `TITLE_INVALID`, `SEVERITY_INVALID`.
    pub fn plan_open(&self, title: &str, severity: &str) -> Result<Plan> {
        let (title, severity) = closing::titled(title, severity)?;
        let step = PlanStep::new("open-incident", title.clone(), "what is done is written down");
        Ok(Plan::new("incident.open", &[&title, severity.name()], vec![step]))
    }

    /// Opens one by hand.
    ///
    /// # Errors
    /// Those of [`Incidents::plan_open`], `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn open_by_hand(
        &self,
        (title, severity): (&str, &str),
        plan_hash: &str,
        (by, reason): (String, String),
    ) -> Result<IncidentRecord> {
        self.plan_open(title, severity)?.accept(plan_hash)?;
        let (title, severity) = closing::titled(title, severity)?;
        self.open(NewIncident {
            trigger: Trigger::ByHand,
            subject: String::new(),
            title,
            details: Vec::new(),
            severity,
            runbook: BY_HAND_PAGE,
            by,
            reason,
            over: None,
        })
        .await
    }

    /// What adding a remark would do.
    ///
    /// # Errors
    /// `NOTE_INVALID`.
    pub fn plan_note(&self, incident: &IncidentRecord, text: &str) -> Result<Plan> {
        let text = closing::noted(text)?;
        let why = format!("a note of {} bytes", text.len());
        let step = PlanStep::new("append", incident.id.clone(), why);
        Ok(Plan::new("incident.note", &[&incident.id, &text], vec![step]))
    }

    /// Adds a remark to an incident's timeline, whatever state it is in.
    ///
    /// # Errors
    /// Those of [`Incidents::plan_note`], `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn note(
        &self,
        incident: &IncidentRecord,
        text: &str,
        plan_hash: &str,
        (by, reason): (String, String),
    ) -> Result<()> {
        self.plan_note(incident, text)?.accept(plan_hash)?;
        let intent = Intent::new(self.clock.now(), by, "incident.noted")
            .target(incident.id.clone())
            .reason(reason)
            .detail(closing::noted(text)?)
            .correlation_id(incident.id.clone());
        self.state.note(intent).await
    }

    /// What closing would do; `pages` are those of the runbook.
    ///
    /// # Errors
    /// `INCIDENT_CLOSED`, `INCIDENT_OPEN`, and those of [`Closing::checked`].
    pub fn plan_close(
        &self,
        incident: &IncidentRecord,
        closing: &Closing,
        pages: &[&str],
    ) -> Result<Plan> {
        closing::may_close(incident)?;
        closing.checked(pages, "", self.clock.now())?;
        Ok(closing::plan_close(incident, closing))
    }

    /// Writes down what came of an incident. One that was opened by hand is over with it.
    ///
    /// # Errors
    /// Those of [`Incidents::plan_close`], `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn close(
        &self,
        incident: &IncidentRecord,
        (closing, pages): (&Closing, &[&str]),
        plan_hash: &str,
        (by, reason): (String, String),
    ) -> Result<IncidentRecord> {
        self.plan_close(incident, closing, pages)?.accept(plan_hash)?;
        let now = self.clock.now();
        let closure = closing.checked(pages, &by, now)?;
        let mend = match closure.runbook.as_str() {
            "" => "no page is to be mended".to_owned(),
            page => format!("to be mended: {page}"),
        };
        let intent = Intent::new(now, by, "incident.closed")
            .target(incident.id.clone())
            .reason(reason)
            .detail(format!("{}; {mend}", closure.resolution))
            .correlation_id(incident.id.clone());
        let id = incident.id.clone();
        self.state
            .write(intent, move |writing| {
                // As it is now: somebody may have been faster, and health may have written more.
                let found = writing.incidents().with_prefix(&id, 1)?.pop();
                let mut record = found.ok_or_else(|| {
                    Error::not_found("INCIDENT_NOT_FOUND", format!("there is no incident {id}"))
                })?;
                closing::may_close(&record)?;
                if record.open() {
                    record.over_at = Some(now);
                }
                record.closed = Some(closure);
                writing.incidents().put(&record, INCIDENTS_KEPT)?;
                Ok(record)
            })
            .await
    }

    /// What happened about an incident.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn timeline(&self, incident: &IncidentRecord) -> Result<Timeline> {
        let (state, incident) = (self.state.clone(), incident.clone());
        // A long log takes longer than async code may wait.
        let read = tokio::task::spawn_blocking(move || {
            state.read(|reading| {
                let log = reading.oplog();
                let first = log.first_since(timeline::begins(&incident))?;
                let (mut next, mut entries): (_, Vec<OplogEntry>) = (first, Vec::new());
                let mut read_until = None;
                loop {
                    let page = log.range(next, PAGE)?;
                    let Some(last) = page.last() else { break };
                    next = last.entry.sequence + 1;
                    let (at, full) = (last.entry.at, page.len() == PAGE);
                    entries.extend(page.into_iter().map(|stored| stored.entry));
                    if !full {
                        break;
                    }
                    if next - first >= READ {
                        read_until = Some(at);
                        break;
                    }
                }
                let alerts = reading.alerts().list(false, ALERTS)?;
                let deliveries = reading.alerts().deliveries(ALERTS)?;
                let told = timeline::timeline(&incident, &entries, &alerts, &deliveries);
                Ok(Timeline { read_until, ..told })
            })
        });
        read.await.map_err(|error| {
            Error::internal("STORAGE_FAILED", "reading the log was cut off").caused_by(error)
        })?
    }

    /// How many there are in each state.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn counts(&self) -> Result<BTreeMap<&'static str, u64>> {
        let mut counts = BTreeMap::from([("open", 0), ("over", 0), ("closed", 0)]);
        for record in
            self.state.read(|reading| Ok(reading.incidents().list(false, usize::MAX)?))?
        {
            *counts.entry(state_name(record.state())).or_default() += 1;
        }
        Ok(counts)
    }

    /// Those that have been over for a week, and nobody has written down what came of them; the oldest first.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn undocumented(&self) -> Result<Vec<IncidentRecord>> {
        let now = self.clock.now();
        let all = self.state.read(|reading| Ok(reading.incidents().list(false, usize::MAX)?))?;
        let long = |record: &IncidentRecord| {
            record.over_at.is_some_and(|at| now.duration_since(at) >= UNDOCUMENTED_AFTER)
        };
        let waiting = |record: &IncidentRecord| record.state() == IncidentState::Over;
        let mut found: Vec<_> = all.into_iter().filter(|it| waiting(it) && long(it)).collect();
        found.sort_by_key(|record| record.over_at);
        Ok(found)
    }

    /// Opens an incident for each emergency and ends it with its release, for ever. People hear of both as soon as they
    /// are there.
    pub async fn follow(
        self: Arc<Self>,
        mut emergency: watch::Receiver<Option<EmergencyRecord>>,
        bell: Bell,
    ) {
        let mut said = false;
        loop {
            let latest = emergency.borrow_and_update().clone();
            let settled = match &latest {
                Some(latest) => self.settle(latest).await,
                None => Ok(()),
            };
            let wait = match &settled {
                Ok(()) => LOOK,
                Err(error) => {
                    if !said {
                        tracing::error!(
                            error = error.chain(),
                            "the incident of an emergency could not be written; it is tried again"
                        );
                    }
                    AGAIN
                }
            };
            said = settled.is_err();
            tokio::select! {
                changed = emergency.changed() => match changed {
                    Ok(()) => bell.ring(),
                    Err(_) => return,
                },
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Brings the incidents of emergencies in line with the latest one.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn settle(&self, emergency: &EmergencyRecord) -> Result<()> {
        let _alone = self.alone.lock().await;
        let subject = closing::subject(emergency.epoch);
        let open = self.state.read(|reading| Ok(reading.incidents().list(true, usize::MAX)?))?;
        let others =
            open.into_iter().filter(|it| it.trigger == Trigger::Emergency && it.subject != subject);
        for other in others {
            self.end(other, emergency.since, "it was released, and another one followed").await?;
        }
        let mut known = self.about(Trigger::Emergency, &subject)?;
        if closing::wants_one(emergency, known.as_ref(), self.clock.now()) {
            let new = NewIncident {
                trigger: Trigger::Emergency,
                subject,
                title: match emergency.reason.trim() {
                    "" => format!("EMERGENCY {}", emergency.epoch),
                    reason => format!("EMERGENCY {}: {reason}", emergency.epoch),
                },
                details: vec![format!(
                    "declared by {} at {:.0}",
                    emergency.activated_by, emergency.since
                )],
                severity: Severity::Critical,
                runbook: EMERGENCY_PAGE,
                by: emergency.activated_by.clone(),
                reason: emergency.reason.clone(),
                over: None,
            };
            known = Some(self.put_new(new, emergency.since).await?);
        }
        if let (Some(record), Some(release)) = (known, &emergency.release)
            && record.open()
        {
            let how = format!("it was released by {}: {}", release.by, release.reason);
            self.end(record, release.at, &how).await?;
        }
        Ok(())
    }

    async fn end(&self, record: IncidentRecord, at: Timestamp, how: &str) -> Result<()> {
        let intent = Intent::new(self.clock.now(), ACTOR, "incident.over")
            .target(record.id.clone())
            .detail(how)
            .correlation_id(record.id.clone());
        let record = IncidentRecord { over_at: Some(at), resolution: how.to_owned(), ..record };
        self.put(record, intent).await.map(drop)
    }
}

/// A state's name.
pub fn state_name(state: IncidentState) -> &'static str {
    match state {
        IncidentState::Open => "open",
        IncidentState::Over => "over",
        IncidentState::Closed => "closed",
    }
}
