use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::book::{Book, OrderState};
use super::desk::{self, Became, Closing, Manner, Refusal};
use super::quantity::Quantity;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn of(text: &str) -> Quantity {
    text.parse().unwrap()
}

fn book(venue: &serde_json::Value) -> Book {
    let json = json!({ "epoch": 1, "halted": true, "venues": { "v": venue } });
    Book::parse(json.to_string().as_bytes()).unwrap()
}

fn closing(symbol: &str, id: &str, quantity: &str) -> Closing {
    Closing { symbol: symbol.into(), id: id.into(), quantity: of(quantity) }
}

fn close(book: &mut Book, orders: &[Closing], manner: Manner) -> Vec<Became> {
    desk::close(book, (1, "v"), orders, manner).unwrap()
}

fn held(book: &Book, symbol: &str) -> String {
    book.venues["v"].positions.get(symbol).copied().unwrap_or_default().to_string()
}

#[test]
fn a_closing_order_trades_what_is_there_and_never_more_than_is_held() {
    use OrderState::{Cancelled, Filled, Rejected};

    let venue = json!({
        "positions": { "LONG": "3", "SHORT": "-2.5", "FREE": "7" },
        "books": {
            "LONG": { "bids": [["101", "1"], ["100", "1.25"]], "asks": [["102", "50"]] },
            "SHORT": { "asks": [["10", "2"], ["11", "9"]] },
        },
    });
    for (symbol, quantity, state, filled, left, fills, why) in [
        ("LONG", "-3", Cancelled, "-2.25", "0.75", 2, "no more to trade with: -2.25 of -3"),
        ("LONG", "-1", Filled, "-1", "2", 1, ""),
        ("LONG", "1", Rejected, "0", "3", 0, "1 would add to the position of 3 LONG"),
        ("LONG", "-3.000000000000000001", Rejected, "0", "3", 0, "is more than the position"),
        ("LONG", "0", Rejected, "0", "3", 0, "its quantity is nothing"),
        ("SHORT", "2.5", Filled, "2.5", "0", 2, ""),
        ("SHORT", "-1", Rejected, "0", "-2.5", 0, "would add"),
        ("SHORT", "2.6", Rejected, "0", "-2.5", 0, "more than the position"),
        ("FREE", "-7", Filled, "-7", "0", 1, ""),
        ("NONE", "-1", Rejected, "0", "0", 0, "there is no position in NONE"),
    ] {
        let mut book = book(&venue);
        let became = close(&mut book, &[closing(symbol, "id", quantity)], Manner::Depth);
        let case = format!("{quantity} {symbol}: {became:?}");
        assert_eq!(became.len(), 1);
        assert_eq!(became[0].state, Some(state), "{case}");
        assert_eq!(became[0].filled, of(filled), "{case}");
        assert!(became[0].why.contains(why), "{case}");
        assert_eq!(held(&book, symbol), left, "{case}");
        assert_eq!(book.venues["v"].orders["id"].fills.len(), fills, "{case}");
        // It is the same book when it has been on disk.
        let kept = serde_json::to_vec(&book).unwrap();
        assert_eq!(Book::parse(&kept).unwrap(), book);
    }
}

#[test]
fn the_best_price_is_taken_first_and_comes_back_unless_the_book_says_otherwise() {
    let venue = |refills: bool| {
        json!({
            "positions": { "X": "10" },
            "books": { "X": { "bids": [["9", "2"], ["8", "1"]], "refills": refills } },
        })
    };
    let orders = [closing("X", "a", "-2.5"), closing("X", "b", "-2.5")];
    let book_of = |refills: bool| {
        let mut book = book(&venue(refills));
        close(&mut book, &orders, Manner::Depth);
        book
    };
    let again = book_of(true);
    assert_eq!(held(&again, "X"), "5");
    let prices: Vec<String> = again.venues["v"].orders["a"]
        .fills
        .iter()
        .map(|fill| format!("{}@{}", fill.quantity, fill.price.unwrap()))
        .collect();
    assert_eq!(prices, ["-2@9", "-0.5@8"]);
    let gone = book_of(false);
    assert_eq!(held(&gone, "X"), "7");
    assert_eq!(gone.venues["v"].orders["b"].filled, of("-0.5"));
    assert!(gone.venues["v"].books["X"].bids.is_empty());
}

#[test]
fn an_id_that_was_seen_is_answered_and_not_sent_again() {
    let mut book = book(&json!({
        "positions": { "X": "10" },
        "open_orders": [{ "symbol": "X", "client_order_id": "old", "quantity": "4", "filled": "1" }],
    }));
    let first = close(&mut book, &[closing("X", "a", "-4")], Manner::Depth);
    assert_eq!(close(&mut book, &[closing("X", "a", "-4")], Manner::Depth), first);
    // Whatever else is asked under it, and in the same call too.
    let orders = [closing("X", "b", "-1"), closing("X", "b", "-1"), closing("X", "old", "-1")];
    let became = close(&mut book, &orders, Manner::Depth);
    assert_eq!(became[0], became[1]);
    assert_eq!((became[2].state, became[2].filled), (Some(OrderState::Open), of("1")));
    assert_eq!(held(&book, "X"), "5");
    // One that was not taken is not taken later.
    close(&mut book, &[closing("X", "c", "-6")], Manner::Depth);
    book.venues.get_mut("v").unwrap().positions.insert("X".into(), of("6"));
    let became = close(&mut book, &[closing("X", "c", "-6")], Manner::Depth);
    assert_eq!(became[0].state, Some(OrderState::Rejected));
}

#[test]
fn epochs_only_grow_and_nothing_is_closed_before_it_is_halted() {
    let invalid = |result: Result<(), Refusal>| matches!(result, Err(Refusal::Invalid(_)));
    let not_now = |result: Result<(), Refusal>| matches!(result, Err(Refusal::NotNow(_)));
    let mut book = Book::parse(br#"{"venues": {"v": {}}}"#).unwrap();
    let later = NOW + jiff::SignedDuration::from_secs(5);
    let close =
        |book: &mut Book, epoch| desk::close(book, (epoch, "v"), &[], Manner::Depth).map(drop);
    assert!(not_now(close(&mut book, 1)));
    assert!(invalid(desk::halt(&mut book, 0, NOW).map(drop)));
    assert_eq!(desk::halt(&mut book, 3, NOW), Ok(NOW));
    assert_eq!(desk::halt(&mut book, 3, later), Ok(NOW), "it says since when");
    assert!(not_now(desk::halt(&mut book, 2, NOW).map(drop)));
    assert!(not_now(close(&mut book, 2)));
    assert!(not_now(close(&mut book, 4)), "it is not halted for that one");
    assert!(close(&mut book, 3).is_ok());
    assert!(not_now(desk::cancel_all(&mut book, (2, "v"), true, Manner::Depth).map(drop)));
    assert!(not_now(desk::resume(&mut book, 2)), "a newer emergency holds it");
    assert_eq!(desk::halt(&mut book, 5, later), Ok(later));
    assert!(not_now(desk::resume(&mut book, 3)));
    assert_eq!(desk::resume(&mut book, 5), Ok(()));
    assert_eq!(desk::resume(&mut book, 5), Ok(()), "it trades already");
    assert_eq!((book.halted, book.resumed_epoch, book.epoch), (false, 5, 5));
    assert!(not_now(close(&mut book, 5)));
    // Halting is never refused for an emergency that is not older.
    assert_eq!(desk::halt(&mut book, 5, later), Ok(later));
    // An emergency that was not heard of is over, and so are those before it.
    assert_eq!(desk::resume(&mut book, 8), Ok(()));
    assert!(not_now(desk::halt(&mut book, 7, NOW).map(drop)));
}

#[test]
fn what_is_out_is_cancelled_but_not_what_protects_or_closes() {
    let venue = json!({
        "positions": { "X": "10" },
        "open_orders": [
            { "symbol": "X", "client_order_id": "buy", "quantity": "4", "filled": "1" },
            { "symbol": "X", "client_order_id": "sell", "quantity": "-4" },
            { "symbol": "X", "client_order_id": "stop", "quantity": "-10", "protective": true },
        ],
    });
    for (protective_too, manner, expected, out) in [
        (false, Manner::Depth, (2, 0), vec!["stop"]),
        (true, Manner::Depth, (3, 0), vec![]),
        (true, Manner::Rejected, (0, 3), vec!["buy", "sell", "stop"]),
        (true, Manner::Half, (2, 1), vec!["sell"]),
    ] {
        let mut book = book(&venue);
        let rests = Manner::Rests { half: false, until_query: false };
        close(&mut book, &[closing("X", "closes", "-3")], rests);
        let did = desk::cancel_all(&mut book, (1, "v"), protective_too, manner);
        assert_eq!(did, Ok(expected));
        let held = desk::holdings(&book, "v", &[]).unwrap();
        let ids: Vec<&str> =
            held.orders.iter().map(|(_, order)| order.client_order_id.as_str()).collect();
        assert_eq!(ids, [out, vec!["closes"]].concat());
        let became = desk::query(&mut book, "v", &["buy".to_owned()]).unwrap();
        assert_eq!(became[0].filled, of("1"), "what it had traded is not forgotten");
        assert!(Book::parse(&serde_json::to_vec(&book).unwrap()).is_ok());
    }
}

#[test]
fn orders_rest_until_they_are_let_go_and_count_as_on_their_way() {
    let venue = json!({ "positions": { "X": "10" } });
    let ask =
        |book: &mut Book, id: &str| desk::query(book, "v", &[id.to_owned()]).unwrap().remove(0);
    let mut book = book(&venue);
    let rests = Manner::Rests { half: true, until_query: false };
    let became = close(&mut book, &[closing("X", "a", "-6")], rests);
    assert_eq!((became[0].state, became[0].filled), (Some(OrderState::Open), of("-3")));
    assert_eq!(held(&book, "X"), "7");
    assert_eq!(ask(&mut book, "a").state, Some(OrderState::Open), "asking is not enough");
    // Seven are held, and three are on their way.
    let refused = close(&mut book, &[closing("X", "b", "-5")], Manner::Depth).remove(0);
    assert!(refused.why.contains("of which 3 is on its way"), "{refused:?}");
    close(&mut book, &[closing("X", "c", "-4")], Manner::Depth);
    desk::let_go(&mut book, "v");
    assert_eq!(ask(&mut book, "a").state, Some(OrderState::Filled));
    assert_eq!(held(&book, "X"), "0");

    let mut book = self::book(&venue);
    let rests = Manner::Rests { half: false, until_query: true };
    let became = close(&mut book, &[closing("X", "a", "-6")], rests);
    assert_eq!((became[0].state, became[0].filled), (Some(OrderState::Open), of("0")));
    assert_eq!(ask(&mut book, "other").state, None);
    assert_eq!(held(&book, "X"), "10");
    assert_eq!(ask(&mut book, "a").state, Some(OrderState::Filled));
    assert_eq!(held(&book, "X"), "4");
}

#[test]
fn half_of_an_order_is_filled_where_a_fault_says_so_and_none_where_it_is_not_taken() {
    let venue = json!({ "positions": { "X": "10" } });
    for (manner, state, filled, left) in [
        (Manner::Half, OrderState::Cancelled, "-2.5", "7.5"),
        (Manner::Rejected, OrderState::Rejected, "0", "10"),
    ] {
        let mut book = book(&venue);
        let became = close(&mut book, &[closing("X", "a", "-5")], manner);
        assert_eq!((became[0].state, became[0].filled), (Some(state), of(filled)));
        assert_eq!(held(&book, "X"), left);
    }
}

#[test]
fn a_call_that_makes_no_sense_changes_nothing() {
    let mut book = book(&json!({ "positions": { "X": "10" } }));
    let many: Vec<Closing> = (0..=1_000).map(|n| closing("X", &n.to_string(), "-0.001")).collect();
    let before = book.clone();
    for (venue, orders) in [
        ("v", many.as_slice()),
        ("v", &[closing("X", "a", "-1"), closing("X", "", "-1")]),
        ("v", &[closing("X", "a", "-1"), closing("", "b", "-1")]),
        ("v", &[closing("X", "a\n", "-1")]),
        ("", &[closing("X", "a", "-1")]),
    ] {
        let refused = desk::close(&mut book, (1, venue), orders, Manner::Depth);
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
        assert_eq!(book, before);
    }
    let refused = desk::close(&mut book, (1, "w"), &[], Manner::Depth);
    assert!(matches!(refused, Err(Refusal::NotFound(_))));
    let ids = vec!["a".to_owned(); 1_001];
    assert!(matches!(desk::query(&mut book, "v", &ids), Err(Refusal::Invalid(_))));
    assert!(matches!(desk::holdings(&book, "w", &[]), Err(Refusal::NotFound(_))));
    assert_eq!(close(&mut book, many.get(..1_000).unwrap(), Manner::Depth).len(), 1_000);
    assert_eq!(held(&book, "X"), "9");
}

#[test]
fn a_book_with_a_mistake_says_which() {
    for (venue, why) in [
        (json!({ "positions": { "X": 1 } }), "invalid type: integer"),
        (json!({ "positions": { "X": "1e3" } }), "no decimal number"),
        (json!({ "positions": { "": "1" } }), "a symbol is called \"\""),
        (json!({ "position": {} }), "unknown field `position`"),
        (json!({ "books": { "X": { "bids": [["1", "1"], ["2", "1"]] } } }), "the highest price"),
        (json!({ "books": { "X": { "asks": [["2", "1"], ["1", "1"]] } } }), "the lowest price"),
        (json!({ "books": { "X": { "asks": [["2", "0"]] } } }), "not above nothing"),
        (
            json!({ "open_orders": [{ "symbol": "X", "client_order_id": "a", "quantity": "0" }] }),
            "order a is of nothing",
        ),
        (
            json!({ "open_orders": [
                { "symbol": "X", "client_order_id": "a", "quantity": "2", "filled": "-1" } ] }),
            "-1 of 2 can't have been filled",
        ),
        (
            json!({ "open_orders": [
                { "symbol": "X", "client_order_id": "a", "quantity": "2" },
                { "symbol": "X", "client_order_id": "a", "quantity": "3" } ] }),
            "order a is there twice",
        ),
    ] {
        let json = json!({ "venues": { "v": venue } }).to_string();
        let said = Book::parse(json.as_bytes()).unwrap_err();
        assert!(said.contains(why), "{json}: {said}");
    }
}

#[test]
fn calls_and_their_ids_are_bounded() {
    let mut book = Book::default();
    let call = |ids: usize| super::book::CallRecord {
        at: NOW,
        call: "QueryOrders".into(),
        venue: String::new(),
        epoch: None,
        ids: vec!["x".to_owned(); ids],
        fault: None,
        outcome: "ok".into(),
    };
    for _ in 0..10_010 {
        book.note(call(0));
    }
    assert_eq!(book.calls.len(), 10_000);
    for _ in 0..60 {
        book.note(call(1_000));
    }
    assert_eq!(book.calls.iter().map(|call| call.ids.len()).sum::<usize>(), 50_000);
}

#[derive(Debug, Clone)]
enum Step {
    Close { symbol: usize, id: u8, units: i64, manner: Manner },
    LetGo,
    Query(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let manner = prop_oneof![
        4 => Just(Manner::Depth),
        1 => Just(Manner::Half),
        1 => Just(Manner::Rejected),
        2 => (any::<bool>(), any::<bool>())
            .prop_map(|(half, until_query)| Manner::Rests { half, until_query }),
    ];
    prop_oneof![
        8 => (0..3usize, 0..24u8, -40..=40i64, manner)
            .prop_map(|(symbol, id, units, manner)| Step::Close { symbol, id, units, manner }),
        1 => Just(Step::LetGo),
        2 => (0..24u8).prop_map(Step::Query),
    ]
}

/// Thousandths as text.
fn thousandths(units: i64) -> String {
    let sign = if units < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", units.abs() / 1_000, units.abs() % 1_000)
}

proptest! {
    /// Positions go towards nothing and never through it, they add up with what orders have traded, and what an order
    /// has traded is only ever more of what it was first sent for.
    #[test]
    fn whatever_is_sent_only_reduces_and_adds_up(
        begins in prop::array::uniform3(-90..=90i64),
        levels in prop::collection::vec(1..=30i64, 0..4),
        refills in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let symbols = ["A", "B", "C"];
        let side: Vec<_> = levels.iter().map(|units| ("5", thousandths(*units))).collect();
        let positions: BTreeMap<_, _> =
            symbols.iter().zip(begins).map(|(symbol, units)| (*symbol, thousandths(units))).collect();
        let depth = json!({ "bids": side, "asks": side, "refills": refills });
        let mut book = book(&json!({ "positions": positions, "books": { "A": depth, "B": depth } }));
        let mut before: BTreeMap<String, Quantity> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Close { symbol, id, units, manner } => {
                    let order = closing(symbols[symbol], &id.to_string(), &thousandths(units));
                    let became = close(&mut book, &[order], manner);
                    prop_assert_eq!(became.len(), 1);
                }
                Step::LetGo => desk::let_go(&mut book, "v"),
                Step::Query(id) => drop(desk::query(&mut book, "v", &[id.to_string()]).unwrap()),
            }
            let venue = &book.venues["v"];
            for (symbol, begin) in symbols.iter().zip(begins) {
                let begin = of(&thousandths(begin));
                let now = of(&held(&book, symbol));
                prop_assert_eq!(now.signed_as(begin), now, "through nothing: {} {}", begin, now);
                prop_assert!(now.abs() <= begin.abs());
                let orders = venue.orders.values().filter(|order| order.symbol == *symbol);
                let traded = orders.fold(Quantity::ZERO, |sum, order| sum.plus(order.filled));
                prop_assert_eq!(begin.plus(traded), now);
            }
            for (id, order) in &venue.orders {
                let fills = order.fills.iter();
                let sum = fills.fold(Quantity::ZERO, |sum, fill| sum.plus(fill.quantity));
                prop_assert_eq!(sum, order.filled);
                prop_assert!(order.filled.abs() <= order.quantity.abs());
                let earlier = before.insert(id.clone(), order.filled).unwrap_or_default();
                prop_assert!(order.filled.abs() >= earlier.abs());
            }
        }
        let kept = serde_json::to_vec(&book).unwrap();
        prop_assert_eq!(Book::parse(&kept).unwrap(), book);
    }
}
