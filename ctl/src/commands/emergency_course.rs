//! What becomes of trading in an emergency: halted, closed, proven; and who has agreed to its end.

use std::time::Duration;

use genesis_client::v1::{
    ActivateEmergencyRequest, ApproveReleaseRequest, CloseAllPositionsRequest, CloseOrder,
    CoursePhase, CourseVenue, EmergencyCourse, GetEmergencyRequest, GetEmergencyResponse,
    RenewTradingLeaseRequest, VenueState,
};
use genesis_client::{Client, Error, Kind};
use serde_json::Value;

use super::fleet::told as told_to;
use super::incomplete_answer;
use super::rollback::SERVICE;
use crate::confirm::{Consent, agreed, consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, Part, View};

/// So often one looks how far it is.
const PACE: Duration = Duration::from_millis(250);
/// So long trading has to halt.
const HALT: Duration = Duration::from_secs(30);
/// So long an agent that does not answer is waited for: it may have been restarted.
const AWAY: Duration = Duration::from_secs(60);
const VENUES: &[&str] = &["VENUE", "STATE", "POSITIONS", "ORDERS OUT", "SEEN", "WHY"];
const ORDERS: &[&str] =
    &["VENUE", "SYMBOL", "ATTEMPT", "QUANTITY", "STATE", "FILLED", "ORDER", "WHY"];
/// So many orders are shown.
const SHOWN: usize = 50;

/// Declares an emergency, and waits until trading is known to be halted.
pub(super) async fn halt(session: &Session<'_>, no_wait: bool, fleet: bool) -> Result<Exit, Halt> {
    let request = ActivateEmergencyRequest { plan_hash: session.plan_hash(), fleet };
    if session.global.plan {
        return plan::ask!(session, request, recovery, plan_activate_emergency);
    }
    let what = if fleet { "halt trading in the whole fleet" } else { "halt trading" };
    consent(session, SERVICE, "ActivateEmergency", what)?;
    let request = &request;
    session
        .each(|client| async move {
            let declared = client
                .call(
                    request.clone(),
                    |c, r| async move { c.recovery().activate_emergency(r).await },
                )
                .await?;
            let mut others = View::default();
            let told = told_to(&mut others, (fleet, declared.fleet.as_ref()), true);
            if no_wait {
                let json = session.json("ActivateEmergencyResponse", &declared)?;
                let line =
                    "trading is told to halt; `genesisctl emergency status` shows what it says";
                others.lead.insert(0, line.to_owned());
                return Ok(Answer::new(json, others).exit(told));
            }
            // They are not in the answer that is waited for.
            if !session.for_people() && told != Exit::Ok {
                others.lead.iter().for_each(|line| session.warn(line));
            }
            if !session.many() {
                let most = HALT.as_secs();
                session
                    .note(&format!("declared; waiting at most {most} s for trading to be halted"));
            }
            let over = |response: &GetEmergencyResponse| {
                let course = response.course.clone().unwrap_or_default();
                let halted = course.halted_at.is_some() && course.halt_trouble.is_empty();
                !course.configured || halted
            };
            let (json, response) = wait(session, &client, Some(HALT), over).await?;
            let course = response.course.as_ref().ok_or_else(|| incomplete_answer("the course"))?;
            let halted = course.halted_at.is_some() && course.halt_trouble.is_empty();
            let exit = if halted { told } else { Exit::Unknown };
            let emergency = response.emergency.as_ref().filter(|it| it.active);
            let emergency = emergency.map(|it| format!("EMERGENCY {} is in force", it.epoch));
            let lead = staging_line(course).into_iter().chain(emergency).chain([halt_line(course)]);
            let lead = lead.chain(others.lead).collect();
            let view = View { lead, parts: others.parts, ..View::default() };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

/// Has all positions closed, and waits until it is known how that ended.
pub(super) async fn close(session: &Session<'_>, no_wait: bool) -> Result<Exit, Halt> {
    let request = CloseAllPositionsRequest { plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, recovery, plan_close_all_positions);
    }
    let consent =
        consent(session, SERVICE, "CloseAllPositions", "close all positions at every venue")?;
    let request = &request;
    session
        .each(|client| async move {
            let mut request = request.clone();
            if consent == Consent::Ask {
                let unsent = CloseAllPositionsRequest { plan_hash: String::new() };
                let planned = client
                    .call(
                        unsent,
                        |c, r| async move { c.recovery().plan_close_all_positions(r).await },
                    )
                    .await?;
                let question = "Close all positions?";
                request.plan_hash =
                    agreed(session, planned.plan.as_ref(), question, "nothing was closed")?;
            }
            let response = client
                .call(request, |c, r| async move { c.recovery().close_all_positions(r).await })
                .await?;
            let json = session.json("CloseAllPositionsResponse", &response)?;
            let course = response.course.unwrap_or_default();
            if no_wait {
                let what = if response.was_closing {
                    "are being closed already"
                } else {
                    "are being closed"
                };
                let mut view = View::line(format!(
                    "positions {what}; `genesisctl emergency status` shows how far it is"
                ));
                view.lead.extend(trouble_lines(&course));
                return Ok(Answer::new(json, view));
            }
            let epoch = response.emergency.as_ref().map(|emergency| emergency.epoch);
            // One that was released has no end of its own any more.
            let over = |response: &GetEmergencyResponse| {
                let ours = response.emergency.as_ref();
                let ours = ours.is_some_and(|it| it.active && Some(it.epoch) == epoch);
                let ended = response.course.as_ref().is_some_and(|it| it.ended_at.is_some());
                ended || !ours
            };
            let (json, response) = wait(session, &client, None, over).await?;
            let course = response.course.as_ref().ok_or_else(|| incomplete_answer("the course"))?;
            let exit = match course.phase() {
                CoursePhase::Flat => Exit::Ok,
                _ => Exit::Unknown,
            };
            let view = View { lead: lines(course), parts: parts(course), ..View::default() };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

/// Agrees to the release as it is planned.
pub(super) async fn approve(session: &Session<'_>) -> Result<Exit, Halt> {
    let request = ApproveReleaseRequest { plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, recovery, plan_approve_release);
    }
    reason(session, "emergency approve", "why may everything start again?")?;
    consent(session, SERVICE, "ApproveRelease", "approve the release of the emergency")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().approve_release(r).await })
                .await?;
            let json = session.json("ApproveReleaseResponse", &response)?;
            let by: Vec<&str> = response.approvals.iter().map(|one| one.by.as_str()).collect();
            let mut view = View::line(format!("the release is approved by {}", by.join(", ")));
            view.lead.push(format!(
                "it needs {} identities within 15 minutes: another admin runs `genesisctl emergency release --reason TEXT`",
                response.needed
            ));
            Ok(Answer::new(json, view))
        })
        .await
}

/// Renews the lease of the trading system, or gives it up.
pub(super) async fn renew_lease(session: &Session<'_>, give_up: bool) -> Result<Exit, Halt> {
    session
        .each(|client| async move {
            let response = client
                .call(
                    RenewTradingLeaseRequest { give_up },
                    |c, r| async move { c.recovery().renew_trading_lease(r).await },
                )
                .await?;
            let json = session.json("RenewTradingLeaseResponse", &response)?;
            let lasts = response.lasts_seconds;
            let mut view = View::line(match give_up {
                true => "the lease is given up, where it was yours: silence halts nothing".to_owned(),
                false => format!(
                    "the lease is renewed: an emergency is declared when nobody renews it within {lasts} s"
                ),
            });
            if response.emergency {
                view.lead.insert(0, "EMERGENCY: no order may leave".to_owned());
            }
            let exit = if response.emergency { Exit::Findings } else { Exit::Ok };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

async fn look(
    session: &Session<'_>,
    client: &Client,
) -> Result<(Value, GetEmergencyResponse), Error> {
    let response = client
        .call(GetEmergencyRequest {}, |c, r| async move { c.recovery().get_emergency(r).await })
        .await?;
    Ok((session.json("GetEmergencyResponse", &response)?, response))
}

/// Looks until `over` holds, or `limit` has passed; the last that was seen. An agent that is away for a moment does not
/// end it: it goes on with what it had begun.
async fn wait(
    session: &Session<'_>,
    client: &Client,
    limit: Option<Duration>,
    over: impl Fn(&GetEmergencyResponse) -> bool,
) -> Result<(Value, GetEmergencyResponse), Stop> {
    let looking = async {
        let mut said = String::new();
        let (mut waited, mut away) = (Duration::ZERO, Duration::ZERO);
        loop {
            match look(session, client).await {
                Ok((json, response)) => {
                    away = Duration::ZERO;
                    let course = response.course.clone().unwrap_or_default();
                    if over(&response) || limit.is_some_and(|limit| waited >= limit) {
                        return Ok((json, response));
                    }
                    let line = progress(&course);
                    if line != said && !session.many() {
                        session.note(&line);
                        said = line;
                    }
                }
                Err(error) if may_pass(&error) && away < AWAY => away += PACE,
                Err(error) => return Err(Stop::Node(error)),
            }
            waited += PACE;
            tokio::time::sleep(PACE).await;
        }
    };
    session.limited(client.node(), looking).await
}

fn may_pass(error: &Error) -> bool {
    matches!(error.kind, Kind::Unreachable | Kind::Unavailable)
}

/// How far it is, in a line.
fn progress(course: &EmergencyCourse) -> String {
    let done = course.venues.iter().filter(|venue| venue.state() == VenueState::Flat).count();
    let left: usize = course.venues.iter().map(|venue| venue.positions.len()).sum();
    let phase = phase_name(course.phase());
    match course.phase() {
        CoursePhase::Closing => {
            let unseen = course.venues.iter().filter(|venue| venue.as_of.is_none()).count();
            let all = course.venues.len();
            let unseen = match unseen {
                0 => String::new(),
                unseen => format!(", {unseen} not looked at yet"),
            };
            format!("{phase}: {done} of {all} venues flat, {left} positions last seen{unseen}")
        }
        _ if !course.halt_trouble.is_empty() => format!("{phase}: {}", course.halt_trouble),
        _ => phase.to_owned(),
    }
}

fn phase_name(phase: CoursePhase) -> &'static str {
    phase.as_str_name().strip_prefix("COURSE_PHASE_").unwrap_or("UNKNOWN")
}

/// That nothing reaches the trading system.
pub(super) fn staging_line(course: &EmergencyCourse) -> Option<String> {
    let line = "STAGING: what is halted and closed is the sandbox, never the trading system";
    course.sandbox.then(|| line.to_owned())
}

/// What became of trading, for a row of one node; `None`: there is nothing to say.
pub(super) fn cell(course: &EmergencyCourse, in_force: bool) -> Option<Cell> {
    let halted = course.halted_at.is_some() && course.halt_trouble.is_empty();
    let of_phase = match course.phase() {
        CoursePhase::Closing | CoursePhase::Flat | CoursePhase::FlatUnproven => {
            Some(phase_name(course.phase()))
        }
        _ => None,
    };
    let mut words = Vec::new();
    words.extend(course.sandbox.then_some("STAGING"));
    let mut alert = !course.not_durable.is_empty();
    if !course.resume_trouble.is_empty() {
        words.push("NOT told to go on");
        alert = true;
    } else if in_force && !course.configured {
        words.push("no trading system");
    } else if in_force {
        words.push(if halted { "halted" } else { "NOT halted" });
        words.extend(of_phase);
        alert |= !halted || course.phase() == CoursePhase::FlatUnproven;
    }
    words.extend((!course.not_durable.is_empty()).then_some("NOT DURABLE"));
    (!words.is_empty()).then(|| Cell::alert(words.join(", "), alert))
}

fn halt_line(course: &EmergencyCourse) -> String {
    if !course.configured {
        return "no trading system is configured: the agent has halted nothing; stop it by hand"
            .to_owned();
    }
    match (&course.halted_at, course.halt_trouble.as_str()) {
        (Some(at), "") => format!("trading is halted since {}", format::time(Some(at))),
        (Some(at), why) => format!(
            "trading was halted {}; whether it still is can't be told: {why}",
            format::time(Some(at))
        ),
        (None, "") => "trading is NOT halted yet".to_owned(),
        (None, why) => format!("trading is NOT halted: {why}; it is tried again, stop it by hand"),
    }
}

/// What stands in the way of trusting the rest.
fn trouble_lines(course: &EmergencyCourse) -> Vec<String> {
    let mut lines = Vec::new();
    if !course.trouble.is_empty() {
        lines.push(course.trouble.clone());
    }
    if !course.not_durable.is_empty() {
        lines.push(format!(
            "NOT DURABLE: the course can't be written down ({}); it goes on all the same",
            course.not_durable
        ));
    }
    lines
}

/// What became of trading, in lines; nothing where there is no trading system.
pub(super) fn lines(course: &EmergencyCourse) -> Vec<String> {
    let mut lines = vec![halt_line(course)];
    if !course.configured {
        return lines;
    }
    if let Some(since) = &course.closing_since {
        let by = format::or_none(&course.closing_by);
        let asked = format!("asked for {} by {by}", format::time(Some(since)));
        let phase = phase_name(course.phase());
        lines.push(match course.phase() {
            CoursePhase::Flat => format!("{phase}: every venue was seen empty twice ({asked})"),
            CoursePhase::FlatUnproven => format!(
                "{phase}: positions may be open ({asked}); `genesisctl emergency close-positions --yes` goes on with \
                 the same orders"
            ),
            _ => format!("positions are being closed ({asked})"),
        });
    }
    lines.extend(trouble_lines(course));
    if course.approvals_needed > 1 {
        let by: Vec<&str> = course.approvals.iter().map(|one| one.by.as_str()).collect();
        let by = if by.is_empty() { "nobody".to_owned() } else { by.join(", ") };
        lines.push(format!(
            "the release needs {} identities; approved by {by}",
            course.approvals_needed
        ));
    }
    lines.extend(lease_line(course));
    lines
}

/// Who renews the lease of the trading system.
pub(super) fn lease_line(course: &EmergencyCourse) -> Option<String> {
    let lease = course.lease.as_ref().filter(|lease| lease.lasts_seconds > 0.0)?;
    Some(match lease.holder.as_str() {
        "" => "nobody renews the trading system's lease: its silence halts nothing".to_owned(),
        holder => format!(
            "{holder} renews the trading system's lease of {} s, last {}",
            lease.lasts_seconds,
            format::time(lease.renewed_at.as_ref())
        ),
    })
}

/// What was told of trading after the release.
pub(super) fn resume_line(course: &EmergencyCourse) -> Option<String> {
    match (course.resume_trouble.as_str(), &course.resumed_at) {
        ("", None) => None,
        ("", Some(at)) => Some(format!("orders leave again since {}", format::time(Some(at)))),
        (why, _) => Some(format!("trading has NOT been told to go on: {why}; it is tried again")),
    }
}

/// The venues, and the orders that closed positions there.
pub(super) fn parts(course: &EmergencyCourse) -> Vec<Part> {
    let venues = Part {
        title: "Venues".to_owned(),
        columns: VENUES,
        rows: course.venues.iter().map(venue_row).collect(),
        ..Part::default()
    };
    let orders: Vec<(&CourseVenue, &CloseOrder)> = course
        .venues
        .iter()
        .flat_map(|venue| venue.orders.iter().map(move |order| (venue, order)))
        .collect();
    let older = orders.len().saturating_sub(SHOWN);
    let more = (older > 0)
        .then(|| format!("{older} older orders are left out; the operation log has them"));
    let orders = Part {
        title: "Orders".to_owned(),
        columns: ORDERS,
        rows: orders.iter().skip(older).map(|(venue, order)| order_row(venue, order)).collect(),
        lines: more.into_iter().collect(),
    };
    [venues, orders].into_iter().filter(|part| !part.rows.is_empty()).collect()
}

fn venue_row(venue: &CourseVenue) -> Vec<Cell> {
    let mut named: Vec<String> = venue
        .positions
        .iter()
        .take(3)
        .map(|position| format!("{} {}", position.quantity, position.symbol))
        .collect();
    if venue.positions.len() > named.len() {
        named.push(format!("{} more", venue.positions.len() - named.len()));
    }
    let state = venue.state().as_str_name();
    vec![
        Cell::from(venue.name.as_str()),
        Cell::venue_state(venue.state(), state.strip_prefix("VENUE_STATE_").unwrap_or(state)),
        Cell::from(format::or_none(&named.join(", "))),
        Cell::number(venue.open_orders.to_string()),
        Cell::from(format::time(venue.as_of.as_ref())),
        Cell::from(format::or_none(&venue.why)),
    ]
}

fn order_row(venue: &CourseVenue, order: &CloseOrder) -> Vec<Cell> {
    vec![
        Cell::from(venue.name.as_str()),
        Cell::from(order.symbol.as_str()),
        Cell::number(order.attempt.to_string()),
        Cell::number(order.quantity.as_str()),
        Cell::from(order.state.as_str()),
        Cell::number(order.filled.as_str()),
        Cell::from(order.client_order_id.as_str()),
        Cell::from(format::or_none(&order.why)),
    ]
}
