//! Components and rollbacks as messages.

use genesis_proto::v1;
use genesis_storage::RollbackRecord;

use crate::runs::rollback::choose::Known;
use crate::runs::rollback::{Health, Listed, Point, RolledBack};
use crate::server::convert::{maybe, time};

fn health(health: Health) -> i32 {
    let health = match health {
        Health::Good => v1::ComponentHealth::Good,
        Health::Bad => v1::ComponentHealth::Bad,
        Health::Unknown => v1::ComponentHealth::Unknown,
    };
    health.into()
}

/// A point, with what is known of it.
pub(super) fn point(point: &Point, known: Option<&Known>, current: bool) -> v1::RollbackPoint {
    let standing = match known {
        None => v1::PointStanding::Unspecified,
        Some(Known::Good(_)) => v1::PointStanding::Good,
        Some(Known::Bad(_)) => v1::PointStanding::Bad,
        Some(Known::Unknown(_)) => v1::PointStanding::Unknown,
    };
    v1::RollbackPoint {
        id: point.id.clone(),
        at: Some(time(point.at)),
        description: point.description.clone(),
        current,
        standing: standing.into(),
        why: known.map(|known| known.why().to_owned()).unwrap_or_default(),
        by: point.by.clone(),
        digest: point.digest.clone(),
    }
}

fn past(record: RollbackRecord) -> v1::PastRollback {
    let word = match record.health.as_str() {
        "good" => v1::ComponentHealth::Good,
        "bad" => v1::ComponentHealth::Bad,
        "unknown" => v1::ComponentHealth::Unknown,
        _ => v1::ComponentHealth::Unspecified,
    };
    v1::PastRollback {
        id: record.id,
        component: record.component,
        from: record.from,
        to: record.to,
        at: Some(time(record.at)),
        ended_at: maybe(record.ended_at),
        outcome: record.outcome.word().to_owned(),
        detail: record.detail,
        by: record.by,
        reason: record.reason,
        health: word.into(),
        incident_id: record.incident,
    }
}

/// A component as it stands.
pub(super) fn listed(one: Listed) -> v1::Component {
    let Listed { name, brief, points, last, care } = one;
    let current = brief.current.as_ref().map(|it| it.id.clone());
    let (changed_at, changed_by) = brief.changed.unzip();
    v1::Component {
        name,
        points: points
            .iter()
            .map(|(it, known)| point(it, Some(known), current.as_ref() == Some(&it.id)))
            .collect(),
        health: health(brief.health),
        why: brief.why,
        current: brief.current.as_ref().map(|it| point(it, None, true)),
        changed_at: maybe(changed_at),
        changed_by: changed_by.unwrap_or_default(),
        points_total: u32::try_from(brief.points).unwrap_or(u32::MAX),
        last_rollback: last.map(past),
        typed_name: care.typed,
    }
}

/// A rollback that was made, or goes on.
pub(super) fn rolled_back(done: RolledBack) -> v1::RollbackResponse {
    let RolledBack { record, plan, seen, pending, run, aftermath, undo } = done;
    let unspecified = || v1::ComponentHealth::Unspecified.into();
    let (found, details, incident_id) = match aftermath {
        Some(after) => {
            (after.health.map_or_else(unspecified, health), after.details, after.incident)
        }
        None => (unspecified(), Vec::new(), String::new()),
    };
    v1::RollbackResponse {
        from: Some(point(&plan.current, None, false)),
        to: Some(point(&plan.target, Some(&plan.known), pending.is_empty())),
        verified: seen,
        id: record.id,
        pending,
        run_id: run,
        health: found,
        health_details: details,
        incident_id,
        undo,
        already: plan.already,
    }
}
