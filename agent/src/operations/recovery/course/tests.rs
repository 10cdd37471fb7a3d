use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use genesis_storage::{
    CloseOrderRecord, CloseOrderState, CoursePhase, CourseRecord, VenuePhase, VenueRecord,
};
use jiff::Timestamp;
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::decide::{self, Next, Seen};
use crate::outside::control::{Order, Position, Told};

const EPOCH: u64 = 7;
const VENUE: &str = "a";

fn position(symbol: &str, quantity: i64) -> Position {
    Position { venue: VENUE.to_owned(), symbol: symbol.to_owned(), quantity: quantity.into() }
}

fn order(symbol: &str, attempt: u32, quantity: i64, state: CloseOrderState) -> CloseOrderRecord {
    CloseOrderRecord {
        symbol: symbol.to_owned(),
        attempt,
        id: decide::order_id(EPOCH, VENUE, symbol, attempt),
        quantity: quantity.to_string(),
        state,
        filled: "0".to_owned(),
        why: String::new(),
        ended_at: None,
    }
}

/// What is decided of these orders and positions; `out` orders are at the venue.
fn next(orders: &[CloseOrderRecord], positions: &[Position], out: usize) -> Next {
    decide_at(orders, positions, out, &[], (None, 5_000))
}

fn decide_at(
    orders: &[CloseOrderRecord],
    positions: &[Position],
    out: usize,
    held: &[&str],
    (empty_since, now): (Option<u64>, u64),
) -> Next {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    decide::next(&Seen {
        epoch: EPOCH,
        venue: VENUE,
        orders,
        positions,
        out,
        held: &set(held),
        cancelled: true,
        empty_since: empty_since.map(Duration::from_millis),
        now: Duration::from_millis(now),
        at: at(now),
    })
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millisecond(i64::try_from(milliseconds).unwrap()).unwrap()
}

#[test]
fn an_order_is_named_by_what_it_is_for() {
    let id = decide::order_id(1, "a", "bc", 1);
    assert_eq!(id.len(), 32);
    assert_eq!(id, decide::order_id(1, "a", "bc", 1));
    let others = [(2, "a", "bc", 1), (1, "ab", "c", 1), (1, "a", "bc", 2), (1, "b", "bc", 1)];
    for (epoch, venue, symbol, attempt) in others {
        assert_ne!(id, decide::order_id(epoch, venue, symbol, attempt));
    }
}

#[test]
fn the_next_attempt_is_made_only_when_the_one_before_will_never_trade_again() {
    use CloseOrderState::{Cancelled, Filled, Intended, Open, Rejected, Unknown};

    let long = [position("X", 5)];
    let first = next(&[], &long, 0);
    assert_eq!((first.intend.len(), first.send.len()), (1, 0), "asked about before it is sent");
    assert_eq!((first.intend[0].attempt, first.intend[0].quantity.as_str()), (1, "-5"));
    let short = next(&[], &[position("X", -3)], 0);
    assert_eq!(short.intend[0].quantity, "3");
    for (state, attempt) in [
        (Filled, Some(2)),
        (Cancelled, Some(2)),
        (Rejected, Some(2)),
        (Open, None),
        (Intended, None),
    ] {
        let decided = next(&[order("X", 1, -9, state)], &long, 0);
        let made = decided.intend.first().map(|order| order.attempt);
        assert_eq!((made, decided.send.len()), (attempt, 0), "{state:?}");
    }
    // Never seen by the venue: the same one again, for what the position is now.
    let again = next(&[order("X", 1, -9, Unknown)], &long, 0);
    assert!(again.intend.is_empty());
    let id = decide::order_id(EPOCH, VENUE, "X", 1);
    assert_eq!(again.send, [Order { symbol: "X".into(), id, quantity: (-5).into() }]);
    // Just refused: left alone for now.
    let held = decide_at(&[order("X", 1, -5, Rejected)], &long, 0, &["X"], (None, 0));
    assert_eq!(held, Next::default());
    // Just traded: nothing is sold by a position that has not followed, or not whole; for five seconds.
    let ended = |filled: &str, state| CloseOrderRecord {
        filled: filled.to_owned(),
        ended_at: Some(at(1_000)),
        ..order("X", 1, -9, state)
    };
    for (position_now, filled, state, now, next) in [
        (9, "-9", Filled, 2_000, None),
        (5, "-9", Filled, 2_000, None),
        (5, "-4", Cancelled, 2_000, Some("-5")),
        (9, "-4", Cancelled, 2_000, None),
        (9, "0", Cancelled, 2_000, Some("-9")),
        (9, "-4", Cancelled, 5_999, None),
        (9, "-4", Cancelled, 6_000, Some("-9")),
        // A clock that went back is no reason to wait for ever, nor to hurry.
        (9, "-4", Cancelled, 0, None),
    ] {
        let orders = [ended(filled, state)];
        let decided = decide_at(&orders, &[position("X", position_now)], 0, &[], (None, now));
        let made = decided.intend.first().map(|order| order.quantity.as_str());
        assert_eq!(made, next, "{position_now} {filled} {now}");
    }
}

#[test]
fn only_what_was_empty_for_two_seconds_is_flat() {
    use CloseOrderState::{Filled, Intended, Open, Unknown};

    let flat = |orders: &[CloseOrderRecord], positions: &[Position], out, since, now| {
        let next = decide_at(orders, positions, out, &[], (since, now));
        (next.empty, next.flat)
    };
    assert_eq!(flat(&[], &[], 0, None, 5_000), (true, false), "the first look");
    assert_eq!(flat(&[], &[], 0, Some(3_001), 5_000), (true, false));
    assert_eq!(flat(&[], &[], 0, Some(3_000), 5_000), (true, true));
    assert_eq!(flat(&[], &[position("X", 1)], 0, Some(0), 5_000), (false, false));
    assert_eq!(flat(&[], &[], 1, Some(0), 5_000), (false, false), "an order is out");
    for (state, expected) in [(Open, false), (Intended, false), (Unknown, true), (Filled, true)] {
        assert_eq!(
            flat(&[order("X", 1, -1, state)], &[], 0, Some(0), 5_000).1,
            expected,
            "{state:?}"
        );
    }
}

#[test]
fn what_is_over_stays_over_whatever_a_venue_says() {
    let mut orders = vec![order("X", 1, -5, CloseOrderState::Cancelled)];
    let hear =
        |orders: &mut Vec<CloseOrderRecord>, told: &[Told]| decide::heard(orders, told, at(7));
    let told = |state, filled: i64| {
        let id = decide::order_id(EPOCH, VENUE, "X", 1);
        [Told { id, state, filled: filled.into(), why: String::new() }]
    };
    assert!(!hear(&mut orders, &told(CloseOrderState::Open, 0)).changed);
    assert_eq!(orders[0].state, CloseOrderState::Cancelled);
    orders[0].state = CloseOrderState::Open;
    let heard = hear(&mut orders, &told(CloseOrderState::Filled, -5));
    assert!(heard.changed && heard.idle.is_empty());
    assert_eq!((orders[0].filled.as_str(), orders[0].ended_at), ("-5", Some(at(7))));
    for (state, filled, idle) in [
        (CloseOrderState::Rejected, 0, true),
        (CloseOrderState::Cancelled, 0, true),
        (CloseOrderState::Cancelled, -2, false),
        (CloseOrderState::Open, 0, false),
    ] {
        orders[0].state = CloseOrderState::Unknown;
        let heard = hear(&mut orders, &told(state, filled));
        assert_eq!(heard.idle == ["X"], idle, "{state:?} {filled}");
    }
}

#[test]
fn orders_are_forgotten_but_for_the_latest_of_each_symbol() {
    let of = |symbol: &str, attempt| order(symbol, attempt, -1, CloseOrderState::Rejected);
    let mut orders = vec![of("rare", 1)];
    orders.extend((1..=5_000).map(|attempt| of("X", attempt)));
    decide::prune(&mut orders);
    assert_eq!(orders.len(), 2_000);
    assert_eq!((orders[0].symbol.as_str(), orders[1_999].attempt), ("rare", 5_000));
}

#[test]
fn the_whole_is_flat_only_when_each_part_of_it_is_proven() {
    use VenuePhase::{Closing, Flat, Unproven, Waiting};

    let record = |venues: &[VenuePhase], trouble: &str| CourseRecord {
        halted_at: Some(at(0)),
        trouble: trouble.to_owned(),
        venues: venues
            .iter()
            .enumerate()
            .map(|(index, phase)| {
                (index.to_string(), VenueRecord { phase: *phase, ..VenueRecord::default() })
            })
            .collect(),
        ..CourseRecord::default()
    };
    for (record, halted, flat) in [
        (record(&[Flat, Flat], ""), true, true),
        (record(&[], ""), true, false),
        (record(&[Flat], ""), false, false),
        (record(&[Flat], "which venues there are can't be told"), true, false),
        (record(&[Flat, Unproven], ""), true, false),
        (record(&[Flat, Waiting], ""), true, false),
        (record(&[Closing], ""), true, false),
    ] {
        let expected = if flat { CoursePhase::Flat } else { CoursePhase::FlatUnproven };
        assert_eq!(decide::overall(&record, halted), expected, "{record:?}");
    }
    let there = [position("X", 5)];
    assert_eq!(decide::reappeared(CoursePhase::Flat, &[], 0), None);
    assert_eq!(decide::reappeared(CoursePhase::Closing, &there, 1), None);
    let said = decide::reappeared(CoursePhase::Flat, &there, 0).unwrap();
    assert!(said.ends_with("5 of X at a"), "{said}");
    let said = decide::reappeared(CoursePhase::Flat, &[], 2).unwrap();
    assert!(said.contains("2 orders are out"), "{said}");
}

#[test]
fn of_another_emergency_only_orders_count_that_may_still_trade() {
    use CloseOrderState::{Filled, Intended, Open, Unknown};

    let venue = |states: &[CloseOrderState]| VenueRecord {
        phase: VenuePhase::Unproven,
        positions: vec![("X".to_owned(), "5".to_owned())],
        orders: states.iter().map(|state| order("X", 1, -5, *state)).collect(),
        ..VenueRecord::default()
    };
    let before = CourseRecord {
        epoch: 3,
        phase: CoursePhase::FlatUnproven,
        halted_at: Some(at(0)),
        cancelled: true,
        venues: [("a", venue(&[Filled, Unknown, Open])), ("b", venue(&[Filled, Unknown]))]
            .map(|(name, venue)| (name.to_owned(), venue))
            .into(),
        ..CourseRecord::default()
    };
    assert_eq!(decide::adopted(before.clone(), 3), before);
    let next = decide::adopted(before.clone(), 4);
    assert_eq!((next.epoch, next.phase, next.halted_at), (4, CoursePhase::Halting, None));
    let kept: Vec<&String> = next.venues.keys().collect();
    assert_eq!(kept, ["a"]);
    assert_eq!((next.venues["a"].orders.len(), next.venues["a"].positions.len()), (1, 0));
    let intended =
        CourseRecord { venues: [("a".to_owned(), venue(&[Intended]))].into(), ..before.clone() };
    assert_eq!(decide::adopted(intended, 4).venues.len(), 1);
    // In force again after it was released: halted anew.
    let again = CourseRecord { resumed_at: Some(at(9)), ..before };
    let again = decide::adopted(again, 3);
    assert_eq!((again.halted_at, again.resumed_at, again.cancelled), (None, None, false));
}

/// A venue that does what a venue may do at its worst, and holds to nothing but the names of orders. It would sell beyond
/// nothing if it were asked to.
#[derive(Default)]
struct Worst {
    positions: BTreeMap<String, i64>,
    /// What its positions were when they were last true to those who ask.
    shown: BTreeMap<String, i64>,
    orders: HashMap<String, (CloseOrderState, i64)>,
    traded: i64,
}

#[derive(Debug, Clone, Copy)]
enum Manner {
    Whole,
    Part,
    Refuse,
    /// It never arrives.
    Lost,
    /// It arrives, and nobody hears of it.
    Silent,
    Rest,
}

impl Worst {
    fn send(&mut self, order: &Order, manner: Manner) -> Option<Told> {
        if let Some((state, filled)) = self.orders.get(&order.id) {
            return Some(told(&order.id, *state, *filled));
        }
        let wanted = i64::try_from(order.quantity).unwrap();
        let (state, filled) = match manner {
            Manner::Lost => return None,
            Manner::Whole | Manner::Silent => (CloseOrderState::Filled, wanted),
            Manner::Part => (CloseOrderState::Cancelled, wanted / 2),
            Manner::Refuse => (CloseOrderState::Rejected, 0),
            Manner::Rest => (CloseOrderState::Open, 0),
        };
        *self.positions.entry(order.symbol.clone()).or_default() += filled;
        self.traded += filled.abs();
        self.orders.insert(order.id.clone(), (state, filled));
        (!matches!(manner, Manner::Silent)).then(|| told(&order.id, state, filled))
    }

    fn query(&self, id: &str) -> Told {
        let (state, filled) = self.orders.get(id).copied().unwrap_or((CloseOrderState::Unknown, 0));
        told(id, state, filled)
    }

    /// What rests is cancelled, some day.
    fn settle(&mut self) {
        for (state, _) in self.orders.values_mut() {
            if *state == CloseOrderState::Open {
                *state = CloseOrderState::Cancelled;
            }
        }
    }
}

fn told(id: &str, state: CloseOrderState, filled: i64) -> Told {
    Told { id: id.to_owned(), state, filled: Decimal::from(filled), why: String::new() }
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        Just(Manner::Whole),
        Just(Manner::Part),
        Just(Manner::Refuse),
        Just(Manner::Lost),
        Just(Manner::Silent),
        Just(Manner::Rest),
    ]
}

proptest! {
    /// Whatever becomes of orders and answers, and wherever the agent is cut off: no position goes through nothing, and
    /// no more is traded than there was.
    #[test]
    fn nothing_is_sold_twice(
        start in prop::collection::btree_map("[a-c]", -50_i64..50, 1..4),
        turns in prop::collection::vec((manner(), any::<bool>(), 0..4_u8, any::<bool>()), 1..60),
    ) {
        let most: i64 = start.values().map(|quantity| quantity.abs()).sum();
        let mut venue = Worst { positions: start.clone(), shown: start.clone(), ..Worst::default() };
        let mut orders: Vec<CloseOrderRecord> = Vec::new();
        for (manner, asked, crash, behind) in turns {
            if !behind {
                venue.settle();
            }
            // What was asked about, and answered.
            if asked {
                let ids = decide::unsettled(&orders);
                let said: Vec<Told> = ids.iter().map(|id| venue.query(id)).collect();
                decide::heard(&mut orders, &said, at(1_000));
            }
            if !behind {
                venue.shown = venue.positions.clone();
            }
            let positions: Vec<Position> = venue
                .shown
                .iter()
                .filter(|(_, quantity)| **quantity != 0)
                .map(|(symbol, quantity)| position(symbol, *quantity))
                .collect();
            let next = decide::next(&Seen {
                epoch: EPOCH,
                venue: VENUE,
                orders: &orders,
                positions: &positions,
                out: 0,
                held: &BTreeSet::new(),
                cancelled: true,
                empty_since: None,
                now: Duration::ZERO,
                // Positions follow within their time.
                at: at(2_000),
            });
            for order in &next.send {
                if let Some(kept) = orders.iter_mut().find(|kept| kept.id == order.id) {
                    kept.quantity = order.quantity.to_string();
                }
                let said = venue.send(order, manner);
                decide::heard(&mut orders, said.as_slice(), at(1_000));
            }
            orders.extend(next.intend);
            // Cut off, and nothing was written down since the beginning: a disk that was full.
            if crash == 0 {
                orders.clear();
                venue.shown = venue.positions.clone();
            }
            for (symbol, quantity) in &venue.positions {
                let before = start[symbol];
                prop_assert!(quantity.signum() * before.signum() >= 0, "{symbol}: {before} became {quantity}");
                prop_assert!(quantity.abs() <= before.abs());
            }
            prop_assert!(venue.traded <= most, "traded {} of {most}", venue.traded);
        }
    }
}
