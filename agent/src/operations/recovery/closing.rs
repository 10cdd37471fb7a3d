//! What is decided of incidents: whether one may be closed and by what, and what an emergency makes of its own. Pure.

use genesis_storage::{EmergencyRecord, IncidentClosure, IncidentRecord, IncidentState, Trigger};
use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Result, Unmet};
use crate::events::Severity;
use crate::plan::{Plan, PlanStep};

/// So long a text may be, in bytes.
pub const TEXT_LIMIT: usize = 4_096;
/// And a title.
pub const TITLE_LIMIT: usize = 300;
/// A page must be so much alike to be suggested.
const NEAR: f64 = 0.7;
/// What was over for longer when it was first heard of is history.
const HISTORY: SignedDuration = SignedDuration::from_hours(24);

/// What a person says at an incident's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closing {
    /// How it was resolved.
    pub resolution: String,
    /// What is to be learned.
    pub lesson: String,
    /// There is nothing to be learned.
    pub no_lesson: bool,
    /// The page to mend.
    pub runbook: String,
    /// None is to be mended.
    pub no_runbook_change: bool,
}

fn bounded(text: &str, what: &str) -> Result<String> {
    match text.trim() {
        text if text.len() <= TEXT_LIMIT => Ok(text.to_owned()),
        text => {
            let message = format!("{what} has at most {TEXT_LIMIT} bytes, this one {}", text.len());
            Err(Error::invalid("TEXT_TOO_LONG", message))
        }
    }
}

impl Closing {
    /// What is written down, or what is missing of it; `pages` are those of the runbook.
    ///
    /// # Errors
    /// `RESOLUTION_MISSING`, `LESSON_MISSING`, `RUNBOOK_MISSING`, `RUNBOOK_UNKNOWN`, `TEXT_TOO_LONG`.
    pub fn checked(&self, pages: &[&str], by: &str, at: Timestamp) -> Result<IncidentClosure> {
        let resolution = bounded(&self.resolution, "a resolution")?;
        let lesson = bounded(&self.lesson, "a lesson")?;
        let runbook = self.runbook.trim().to_owned();
        if resolution.is_empty() {
            let message = "an incident is closed with how it was resolved: pass --resolution";
            return Err(Error::invalid("RESOLUTION_MISSING", message));
        }
        if lesson.is_empty() != self.no_lesson {
            let message = match self.no_lesson {
                false => {
                    "say what is to be learned from it with --lesson, or that nothing is with --no-lesson"
                }
                true => {
                    "there is a lesson or there is none, not both: leave --lesson or --no-lesson out"
                }
            };
            return Err(Error::invalid("LESSON_MISSING", message));
        }
        if runbook.is_empty() != self.no_runbook_change {
            let message = match self.no_runbook_change {
                false => {
                    "name the runbook page that is to be mended with --runbook, or say that none is with \
                     --no-runbook-change"
                }
                true => {
                    "a page is to be mended or none is, not both: leave --runbook or --no-runbook-change out"
                }
            };
            return Err(Error::invalid("RUNBOOK_MISSING", message));
        }
        if !runbook.is_empty() && !pages.contains(&runbook.as_str()) {
            return Err(unknown_page(&runbook, pages));
        }
        Ok(IncidentClosure { at, by: by.to_owned(), resolution, lesson, runbook })
    }
}

fn unknown_page(name: &str, pages: &[&str]) -> Error {
    let nearness = |page: &str| {
        let words = std::iter::once(page).chain(page.split('-'));
        words.map(|word| strsim::jaro_winkler(word, name)).fold(0.0, f64::max)
    };
    let mut near: Vec<_> = pages.iter().map(|page| (nearness(page), *page)).collect();
    near.retain(|(nearness, _)| *nearness > NEAR);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<&str> = near.iter().take(3).map(|(_, page)| *page).collect();
    let hint = match near.is_empty() {
        true => "`genesisctl runbook list` has its pages".to_owned(),
        false => format!("did you mean {}?", near.join(" or ")),
    };
    Error::invalid("RUNBOOK_UNKNOWN", format!("the runbook has no page {name:?}: {hint}"))
}

/// Refuses to close what is closed, or goes on.
///
/// # Errors
/// `INCIDENT_CLOSED`, `INCIDENT_OPEN`.
pub fn may_close(incident: &IncidentRecord) -> Result<()> {
    if let Some(closed) = &incident.closed {
        let message = format!(
            "incident {} was closed by {} at {:.0}; a remark can be added with `genesisctl incident note`",
            incident.id, closed.by, closed.at
        );
        return Err(Error::conflict("INCIDENT_CLOSED", message));
    }
    // Of what a person has opened nobody else sees the end.
    // The end of these is seen by nobody but people.
    let by_people = matches!(incident.trigger, Trigger::ByHand | Trigger::Rollback);
    if incident.state() == IncidentState::Open && !by_people {
        let until = match incident.trigger {
            Trigger::Emergency => "until the emergency is released",
            Trigger::Storm => "until the brake is released and its issues are over",
            Trigger::CheckerSuspect => "until the checks are trusted again",
            _ => "until its condition clears and stays clear",
        };
        let message = format!(
            "incident {} goes on {until}; until then add to it with `genesisctl incident note`",
            incident.id
        );
        let unmet =
            Unmet { code: "INCIDENT_OPEN", subject: incident.id.clone(), message: message.clone() };
        return Err(Error::refused("INCIDENT_OPEN", message, vec![unmet]));
    }
    Ok(())
}

/// What closing would do.
pub fn plan_close(incident: &IncidentRecord, closing: &Closing) -> Plan {
    let mut steps = Vec::new();
    if incident.open() {
        steps.push(PlanStep::new("end", incident.id.clone(), "nobody else sees its end"));
    }
    steps.push(PlanStep::new("close", incident.id.clone(), "what came of it is written down"));
    let Closing { resolution, lesson, no_lesson, runbook, no_runbook_change } = closing;
    let situation = [
        incident.id.as_str(),
        resolution.as_str(),
        lesson.as_str(),
        if *no_lesson { "no lesson" } else { "" },
        runbook.as_str(),
        if *no_runbook_change { "no page" } else { "" },
    ];
    Plan::new("incident.close", &situation, steps)
}

/// A title and a severity as they are written down.
///
/// # Errors
/// `TITLE_INVALID`, `SEVERITY_INVALID`.
pub fn titled(title: &str, severity: &str) -> Result<(String, Severity)> {
    let title = title.trim();
    if title.is_empty() || title.len() > TITLE_LIMIT {
        let message = format!("a title has 1 to {TITLE_LIMIT} bytes, this one has {}", title.len());
        return Err(Error::invalid("TITLE_INVALID", message));
    }
    let severity = match severity {
        "" => Severity::High,
        text => Severity::parse(text).map_err(|why| Error::invalid("SEVERITY_INVALID", why))?,
    };
    Ok((title.to_owned(), severity))
}

/// A remark as it is written down.
///
/// # Errors
/// `NOTE_INVALID`.
pub fn noted(text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.len() > TEXT_LIMIT {
        let message = format!("a note has 1 to {TEXT_LIMIT} bytes, this one has {}", text.len());
        return Err(Error::invalid("NOTE_INVALID", message));
    }
    Ok(text.to_owned())
}

/// Whether the latest emergency, of which `known` is the incident, wants one.
pub fn wants_one(
    emergency: &EmergencyRecord,
    known: Option<&IncidentRecord>,
    now: Timestamp,
) -> bool {
    known.is_none()
        && match &emergency.release {
            None => true,
            // Declared and released before anybody looked.
            Some(release) => now.duration_since(release.at) < HISTORY,
        }
}

/// The subject of an emergency's incident.
pub fn subject(epoch: u64) -> String {
    format!("emergency {epoch}")
}
