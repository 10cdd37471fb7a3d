//! What is to be done next about trading, decided from what was seen. Pure.
//!
//! An order that closes is named by what it is for, so that whoever sends it again, after a lost reply or a crash, sends
//! the same one. The next attempt on a symbol is made only when the venue has said that the one before will never trade
//! again, and its quantity is the position as it was read after that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use genesis_storage::{
    CloseOrderRecord, CloseOrderState, CoursePhase, CourseRecord, VenuePhase, VenueRecord,
};
use rust_decimal::Decimal;
use sha2::{Digest, Sha256};

use crate::outside::control::{Order, Position, Told};

/// A venue is flat when it was seen empty twice, so far apart.
pub(super) const APART: Duration = Duration::from_secs(2);
/// So long a venue's positions may be behind its orders.
const BEHIND: Duration = Duration::from_secs(5);
/// So many orders of a venue are kept, beside the latest of each symbol.
const KEPT: usize = 2_000;

/// The name of an order: 32 characters, which every venue takes.
pub(super) fn order_id(epoch: u64, venue: &str, symbol: &str, attempt: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(epoch.to_le_bytes());
    // With their lengths, so that no two pairs of names look the same.
    for name in [venue, symbol] {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
    }
    hash.update(attempt.to_le_bytes());
    format!("gen{}", &hex::encode(hash.finalize())[..29])
}

/// What is known of a venue at one moment: its orders as they were asked about, then its positions.
#[derive(Debug, Clone)]
pub(super) struct Seen<'s> {
    pub(super) epoch: u64,
    pub(super) venue: &'s str,
    /// Ours, in the order in which they were made.
    pub(super) orders: &'s [CloseOrderRecord],
    /// Read after what is said of the orders.
    pub(super) positions: &'s [Position],
    /// Orders that are out there, whoever has sent them.
    pub(super) out: usize,
    /// Symbols that are left alone for a moment, since the venue has just refused an order.
    pub(super) held: &'s BTreeSet<String>,
    /// Orders that may be cancelled are.
    pub(super) cancelled: bool,
    /// When it was first seen empty, of looks without a break: when that answer came.
    pub(super) empty_since: Option<Duration>,
    /// When this look was asked for, on the same clock.
    pub(super) now: Duration,
    /// The same by the wall clock.
    pub(super) at: Timestamp,
}

/// What is to be done about a venue.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Next {
    /// Orders to be written down, and asked about before they are sent.
    pub(super) intend: Vec<CloseOrderRecord>,
    /// Orders to be sent: written down, and never seen by the venue.
    pub(super) send: Vec<Order>,
    /// There is neither a position nor an order.
    pub(super) empty: bool,
    /// That was so for long enough.
    pub(super) flat: bool,
}

/// Decides what is to be done next.
pub(super) fn next(seen: &Seen<'_>) -> Next {
    let latest = latest(seen.orders);
    let mut next = Next::default();
    for position in seen.positions {
        let symbol = position.symbol.as_str();
        if seen.held.contains(symbol) {
            continue;
        }
        match latest.get(symbol) {
            None => next.intend.push(intended(seen, position, 1)),
            // The position has not followed what the order has traded: selling by it would sell twice.
            Some(order) if behind(order, position, seen.at) => {}
            Some(order) if order.state.terminal() => {
                next.intend.push(intended(seen, position, order.attempt.saturating_add(1)));
            }
            // It was never seen there, so the position may have become another meanwhile.
            Some(order) if order.state == CloseOrderState::Unknown => next.send.push(Order {
                symbol: symbol.to_owned(),
                id: order.id.clone(),
                quantity: -position.quantity,
            }),
            // It may still trade, or nobody has said what became of it.
            Some(_) => {}
        }
    }
    let moving = latest
        .values()
        .any(|order| matches!(order.state, CloseOrderState::Open | CloseOrderState::Intended));
    next.empty = seen.positions.is_empty() && seen.out == 0 && !moving && seen.cancelled;
    let long = seen.empty_since.is_some_and(|since| seen.now.saturating_sub(since) >= APART);
    next.flat = next.empty && long;
    next
}

/// Whether the position is not yet what it was before the order, and what that has traded: for so long only that it may
/// be behind.
fn behind(order: &CloseOrderRecord, position: &Position, now: Timestamp) -> bool {
    let ended =
        order.ended_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
    if ended.is_none_or(|age| age >= BEHIND) {
        return false;
    }
    let number = |text: &str| Decimal::from_str_exact(text).unwrap_or_default();
    let (wanted, traded) = (number(&order.quantity), number(&order.filled));
    !traded.is_zero() && position.quantity != traded - wanted
}

fn intended(seen: &Seen<'_>, position: &Position, attempt: u32) -> CloseOrderRecord {
    CloseOrderRecord {
        symbol: position.symbol.clone(),
        attempt,
        id: order_id(seen.epoch, seen.venue, &position.symbol, attempt),
        quantity: (-position.quantity).to_string(),
        state: CloseOrderState::Intended,
        filled: Decimal::ZERO.to_string(),
        why: String::new(),
        ended_at: None,
    }
}

/// The latest order of each symbol.
fn latest(orders: &[CloseOrderRecord]) -> BTreeMap<&str, &CloseOrderRecord> {
    orders.iter().map(|order| (order.symbol.as_str(), order)).collect()
}

/// The orders of which it is not known that they will never trade again.
pub(super) fn unsettled(orders: &[CloseOrderRecord]) -> Vec<String> {
    let open = orders.iter().filter(|order| !order.state.terminal());
    open.map(|order| order.id.clone()).collect()
}

/// What follows from what a venue has said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) changed: bool,
    /// Symbols of which an order has just ended without having traded: refused, or nobody was there to trade with.
    pub(super) idle: Vec<String>,
}

/// Takes over what a venue has said.
pub(super) fn heard(orders: &mut [CloseOrderRecord], told: &[Told], now: Timestamp) -> Heard {
    let mut places: HashMap<&str, &Told> = told.iter().map(|one| (one.id.as_str(), one)).collect();
    let mut heard = Heard::default();
    for order in orders {
        let Some(said) = places.remove(order.id.as_str()) else { continue };
        // What is over stays over, whatever a venue says later.
        if order.state.terminal() {
            continue;
        }
        let after = CloseOrderRecord {
            state: said.state,
            filled: said.filled.to_string(),
            why: said.why.clone(),
            ended_at: said.state.terminal().then_some(now),
            ..order.clone()
        };
        if after.state.terminal() && said.filled.is_zero() {
            heard.idle.push(after.symbol.clone());
        }
        heard.changed |= after != *order;
        *order = after;
    }
    heard
}

/// Forgets the oldest orders where there are too many; the latest of each symbol stays.
pub(super) fn prune(orders: &mut Vec<CloseOrderRecord>) {
    let Some(excess) = orders.len().checked_sub(KEPT).filter(|excess| *excess > 0) else { return };
    let keep: BTreeSet<String> = latest(orders).values().map(|order| order.id.clone()).collect();
    let mut left = excess;
    orders.retain(|order| {
        let goes = left > 0 && order.state.terminal() && !keep.contains(&order.id);
        left -= usize::from(goes);
        !goes
    });
}

/// The record of this emergency, made of what is known of the one before. Of another emergency only orders are carried
/// over that may still trade: no second one is sent beside them.
pub(super) fn adopted(before: CourseRecord, epoch: u64) -> CourseRecord {
    if before.epoch == epoch {
        return match before.resumed_at {
            // In force again: what was told to go on is to be halted anew.
            Some(_) => {
                CourseRecord { resumed_at: None, halted_at: None, cancelled: false, ..before }
            }
            None => before,
        };
    }
    let mut venues = BTreeMap::new();
    for (name, venue) in before.venues {
        let mut orders = venue.orders;
        orders.retain(|order| {
            matches!(order.state, CloseOrderState::Open | CloseOrderState::Intended)
        });
        if !orders.is_empty() {
            venues.insert(name, VenueRecord { orders, ..VenueRecord::default() });
        }
    }
    CourseRecord { epoch, venues, ..CourseRecord::default() }
}

/// What comes next for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Positions are to be closed.
    Close,
    /// Orders that don't protect a position are to be cancelled.
    Cancel,
    /// Nothing but a look from time to time.
    Look,
}

/// Decides what comes next for the whole.
pub(super) fn due(record: &CourseRecord) -> Due {
    match &record.closing {
        Some(closing) if closing.ended_at.is_none() => Due::Close,
        Some(_) => Due::Look,
        None if record.cancelled => Due::Look,
        None => Due::Cancel,
    }
}

/// How closing has ended: flat only where each venue was proven to be, there is one at all, and no order leaves any more
/// (`halted`, by the last that the trading system said).
pub(super) fn overall(record: &CourseRecord, halted: bool) -> CoursePhase {
    let flat = record.venues.values().all(|venue| venue.phase == VenuePhase::Flat);
    match flat && !record.venues.is_empty() && halted && record.trouble.is_empty() {
        true => CoursePhase::Flat,
        false => CoursePhase::FlatUnproven,
    }
}

/// What is there again after everything was flat, in words; `None`: nothing is.
pub(super) fn reappeared(phase: CoursePhase, positions: &[Position], out: usize) -> Option<String> {
    match (phase, positions.is_empty(), out) {
        (CoursePhase::Flat, true, 1..) => return Some(format!("{out} orders are out again")),
        (CoursePhase::Flat, false, _) => {}
        _ => return None,
    }
    let mut named: Vec<String> = positions
        .iter()
        .take(5)
        .map(|one| format!("{} of {} at {}", one.quantity, one.symbol, one.venue))
        .collect();
    if positions.len() > named.len() {
        named.push(format!("{} more", positions.len() - named.len()));
    }
    Some(format!("positions are there again: {}", named.join(", ")))
}
