//! The course of an emergency as it goes over the wire.

use genesis_proto::v1;
use genesis_storage::{
    ApprovalRecord, CloseOrderRecord, CloseOrderState, CoursePhase, VenuePhase, VenueRecord,
};

use super::super::Recovery;
use crate::server::convert::{maybe, time};

/// So many orders of all venues are shown, and as many positions: an answer is to fit its message.
const SHOWN: usize = 4_000;

/// The course of the latest emergency.
pub(super) fn course(recovery: &Recovery) -> v1::EmergencyCourse {
    let live = recovery.course.live();
    let emergency = recovery.emergency.current();
    let configured = recovery.course.configured();
    let lease = recovery.course.lease();
    let seconds = lease.lasts.map_or(0.0, |lasts| lasts.as_secs_f64());
    let mut course = v1::EmergencyCourse {
        phase: v1::CoursePhase::Normal.into(),
        configured,
        lease: Some(v1::TradingLease {
            lasts_seconds: seconds,
            holder: lease.holder,
            renewed_at: maybe(lease.renewed_at),
        }),
        sandbox: recovery.course.config().staging,
        approvals_needed: recovery.course.config().approvals,
        ..v1::EmergencyCourse::default()
    };
    // Of an older emergency nothing is told beside the newer one.
    let Some(emergency) = emergency.filter(|it| it.epoch == live.record.epoch) else {
        return course;
    };
    if emergency.active() && configured {
        course.phase = phase(live.record.phase).into();
    }
    course.halted_at = maybe(live.record.halted_at);
    course.halt_trouble = live.halt_trouble;
    if let Some(closing) = live.record.closing {
        course.closing_since = Some(time(closing.at));
        course.closing_by = closing.by;
        course.closing_reason = closing.reason;
        course.ended_at = maybe(closing.ended_at);
    }
    let each = SHOWN / live.record.venues.len().max(1);
    let venues = live.record.venues.into_iter();
    course.venues = venues.map(|(name, it)| venue(name, it, each)).collect();
    course.trouble = live.record.trouble;
    course.approvals = recovery.approvals().into_iter().map(approval).collect();
    course.not_durable = live.not_durable;
    course.resume_trouble = live.resume_trouble;
    course.resumed_at = maybe(live.record.resumed_at);
    course
}

fn phase(phase: CoursePhase) -> v1::CoursePhase {
    match phase {
        CoursePhase::Halting => v1::CoursePhase::Halting,
        CoursePhase::Halted => v1::CoursePhase::Halted,
        CoursePhase::Cancelling => v1::CoursePhase::Cancelling,
        CoursePhase::Closing => v1::CoursePhase::Closing,
        CoursePhase::Flat => v1::CoursePhase::Flat,
        CoursePhase::FlatUnproven => v1::CoursePhase::FlatUnproven,
    }
}

fn venue(name: String, record: VenueRecord, most: usize) -> v1::CourseVenue {
    let state = match record.phase {
        VenuePhase::Waiting => v1::VenueState::Waiting,
        VenuePhase::Cancelling => v1::VenueState::Cancelling,
        VenuePhase::Cancelled => v1::VenueState::Cancelled,
        VenuePhase::Closing => v1::VenueState::Closing,
        VenuePhase::Flat => v1::VenueState::Flat,
        VenuePhase::Unproven => v1::VenueState::Unproven,
    };
    let positions = record.positions.into_iter().take(most);
    let old = record.orders.len().saturating_sub(most);
    v1::CourseVenue {
        name,
        state: state.into(),
        why: record.why,
        positions: positions
            .map(|(symbol, quantity)| v1::VenuePosition { symbol, quantity })
            .collect(),
        open_orders: record.open_orders,
        as_of: maybe(record.as_of),
        orders: record.orders.into_iter().skip(old).map(order).collect(),
    }
}

fn order(record: CloseOrderRecord) -> v1::CloseOrder {
    let state = match record.state {
        CloseOrderState::Intended => "INTENDED",
        CloseOrderState::Unknown => "UNKNOWN",
        CloseOrderState::Open => "OPEN",
        CloseOrderState::Filled => "FILLED",
        CloseOrderState::Cancelled => "CANCELLED",
        CloseOrderState::Rejected => "REJECTED",
    };
    v1::CloseOrder {
        symbol: record.symbol,
        client_order_id: record.id,
        attempt: record.attempt,
        quantity: record.quantity,
        state: state.to_owned(),
        filled: record.filled,
        why: record.why,
    }
}

/// Somebody's consent.
pub(super) fn approval(record: ApprovalRecord) -> v1::ReleaseApproval {
    v1::ReleaseApproval {
        by: record.by,
        at: Some(time(record.at)),
        plan_hash: record.plan,
        reason: record.reason,
    }
}
