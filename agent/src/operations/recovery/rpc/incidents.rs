//! Parse, call, convert: what people do with incidents.

use genesis_proto::runbook::PAGES;
use genesis_proto::v1;
use genesis_storage::IncidentRecord;

use super::super::closing::Closing;
use super::super::timeline::{Event, Timeline};
use super::super::{Contacts, Recovery};
use crate::error::Result;
use crate::plan::Plan;
use crate::server::caller::Caller;
use crate::server::convert::{incident, time};

fn pages() -> Vec<&'static str> {
    PAGES.iter().map(|page| page.name).collect()
}

/// Whom to call.
pub(super) fn contacts(contacts: &Contacts) -> v1::Contacts {
    v1::Contacts {
        on_call: contacts.on_call.clone(),
        escalation: contacts.escalation.clone(),
        security: contacts.security.clone(),
        non_urgent: contacts.non_urgent.clone(),
    }
}

fn timeline(timeline: Timeline) -> v1::IncidentTimeline {
    let event = |event: Event| v1::IncidentEvent {
        at: Some(time(event.at)),
        actor: event.actor,
        action: event.action,
        target: event.target,
        outcome: event.outcome,
        text: event.text,
        sequence: event.sequence,
    };
    v1::IncidentTimeline {
        events: timeline.events.into_iter().map(event).collect(),
        left_out: timeline.left_out as u64,
        left_out_after: u32::try_from(timeline.left_out_after).unwrap_or(u32::MAX),
        read_until: timeline.read_until.map(time),
    }
}

pub(super) async fn get(recovery: &Recovery, id: &str) -> Result<v1::GetIncidentResponse> {
    let found = recovery.incident(id)?;
    let told = recovery.book.timeline(&found).await?;
    Ok(v1::GetIncidentResponse {
        incident: Some(incident(found)),
        timeline: Some(timeline(told)),
        contacts: Some(contacts(&recovery.contacts)),
    })
}

pub(super) fn plan_open(recovery: &Recovery, asked: &v1::OpenIncidentRequest) -> Result<Plan> {
    recovery.book.plan_open(&asked.title, &asked.severity)
}

pub(super) async fn open(
    recovery: &Recovery,
    who: Caller,
    asked: &v1::OpenIncidentRequest,
) -> Result<v1::OpenIncidentResponse> {
    let v1::OpenIncidentRequest { title, severity, plan_hash } = asked;
    let opened = recovery
        .book
        .open_by_hand((title, severity), plan_hash, (who.identity, who.reason))
        .await?;
    Ok(v1::OpenIncidentResponse { incident: Some(incident(opened)) })
}

pub(super) fn plan_note(recovery: &Recovery, asked: &v1::NoteIncidentRequest) -> Result<Plan> {
    recovery.book.plan_note(&recovery.incident(&asked.id)?, &asked.text)
}

pub(super) async fn note(
    recovery: &Recovery,
    who: Caller,
    asked: &v1::NoteIncidentRequest,
) -> Result<v1::NoteIncidentResponse> {
    let found = recovery.incident(&asked.id)?;
    let by = (who.identity, who.reason);
    recovery.book.note(&found, &asked.text, &asked.plan_hash, by).await?;
    Ok(v1::NoteIncidentResponse { id: found.id })
}

fn closing(
    recovery: &Recovery,
    asked: &v1::CloseIncidentRequest,
) -> Result<(IncidentRecord, Closing)> {
    let closing = Closing {
        resolution: asked.resolution.clone(),
        lesson: asked.lesson.clone(),
        no_lesson: asked.no_lesson,
        runbook: asked.runbook.clone(),
        no_runbook_change: asked.no_runbook_change,
    };
    Ok((recovery.incident(&asked.id)?, closing))
}

pub(super) fn plan_close(recovery: &Recovery, asked: &v1::CloseIncidentRequest) -> Result<Plan> {
    let (found, closing) = closing(recovery, asked)?;
    recovery.book.plan_close(&found, &closing, &pages())
}

pub(super) async fn close(
    recovery: &Recovery,
    who: Caller,
    asked: &v1::CloseIncidentRequest,
) -> Result<v1::CloseIncidentResponse> {
    let (found, closing) = closing(recovery, asked)?;
    let by = (who.identity, who.reason);
    let closed = recovery.book.close(&found, (&closing, &pages()), &asked.plan_hash, by).await?;
    Ok(v1::CloseIncidentResponse { incident: Some(incident(closed)) })
}
