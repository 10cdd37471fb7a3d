//! What the trading system answers, taken at its word only where it is clear.

use std::collections::{HashMap, HashSet};

use genesis_proto::trading as wire;
use genesis_storage::CloseOrderState;
use rust_decimal::Decimal;

use super::{Book, LISTED, OpenOrder, Position, Told, VENUES};

/// The longest name of a venue, a symbol or an order.
const NAME: usize = 128;
/// The longest that is kept of what a venue says.
const WHY: usize = 200;

/// A decimal number as it is meant; nothing else.
pub(super) fn decimal(text: &str) -> Result<Decimal, String> {
    // Before an exponent, digits for which there is no room would be rounded away, and with them a small position.
    let scientific = || {
        let (digits, _) = text.split_once(['e', 'E'])?;
        Decimal::from_str_exact(digits).ok()?;
        Decimal::from_scientific(text).ok()
    };
    let read = Decimal::from_str_exact(text).ok().or_else(scientific);
    read.ok_or_else(|| format!("{:?} is no decimal number", short(text)))
}

fn short(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(WHY).collect()
}

fn name(what: &str, text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NAME || text.chars().any(char::is_control) {
        return Err(format!("{what} {:?} can't be a name", short(text)));
    }
    Ok(text.to_owned())
}

fn few(what: &str, count: usize, limit: usize) -> Result<(), String> {
    match count <= limit {
        true => Ok(()),
        false => Err(format!("{count} {what} are more than the {limit} that can be handled")),
    }
}

/// What the venues have. An answer about one venue tells of that one only.
pub(super) fn book(answer: wire::PositionsResponse, venue: &str) -> Result<Book, String> {
    few("venues", answer.venues.len(), VENUES)?;
    few("unreachable venues", answer.unreachable.len(), VENUES)?;
    few("positions", answer.positions.len(), LISTED)?;
    few("orders", answer.orders.len(), LISTED)?;
    let names = |names: &[String]| -> Result<Vec<String>, String> {
        names.iter().map(|text| name("venue", text)).collect()
    };
    let asked = |of: &str| match venue.is_empty() || of == venue {
        true => name("venue", of),
        false => Err(format!("asked about {venue}, it told of {:?}", short(of))),
    };
    // Two rows of one symbol, long and short, can't be closed by one order that only reduces.
    let mut rows: HashMap<(String, String), usize> = HashMap::new();
    for position in &answer.positions {
        *rows.entry((position.venue.clone(), position.symbol.clone())).or_default() += 1;
    }
    let (mut positions, mut odd) = (Vec::new(), Vec::new());
    for position in answer.positions {
        let place = asked(&position.venue)?;
        let twice = rows.get(&(position.venue.clone(), position.symbol.clone())) > Some(&1);
        let read = match twice {
            true => Err(format!("it has {:?} in several rows", short(&position.symbol))),
            false => name("symbol", &position.symbol)
                .and_then(|symbol| Ok((symbol, decimal(&position.quantity)?))),
        };
        match read {
            Ok((_, quantity)) if quantity.is_zero() => {}
            Ok((symbol, quantity)) => positions.push(Position { venue: place, symbol, quantity }),
            // One row that can't be read keeps no other from being closed.
            Err(why) => odd.push((place, why)),
        }
    }
    let mut orders = Vec::new();
    for order in answer.orders {
        let place = asked(&order.venue)?;
        let id = name("order", &order.client_order_id).unwrap_or_default();
        orders.push(OpenOrder { venue: place, id, protective: order.protective });
    }
    let (unreachable, venues) = (names(&answer.unreachable)?, names(&answer.venues)?);
    if !venue.is_empty() {
        if unreachable.iter().any(|one| one == venue) {
            return Err("the trading system does not reach it".to_owned());
        }
        if !venues.iter().any(|one| one == venue) {
            return Err("the trading system does not know it".to_owned());
        }
    }
    Ok(Book { positions, orders, unreachable, venues, odd })
}

/// What became of each of `ids`, and of nothing else.
pub(super) fn told(answer: Vec<wire::OrderStatus>, ids: &[&str]) -> Result<Vec<Told>, String> {
    let wanted: HashSet<&str> = ids.iter().copied().collect();
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for status in answer {
        let id = status.client_order_id.as_str();
        if !wanted.contains(id) {
            return Err(format!("it told of an order {:?} that nobody asked about", short(id)));
        }
        if !seen.insert(id.to_owned()) {
            return Err(format!("it told of order {id} twice"));
        }
        let state = match status.state() {
            wire::OrderState::Unknown => CloseOrderState::Unknown,
            wire::OrderState::Open => CloseOrderState::Open,
            wire::OrderState::Filled => CloseOrderState::Filled,
            wire::OrderState::Cancelled => CloseOrderState::Cancelled,
            wire::OrderState::Rejected => CloseOrderState::Rejected,
            wire::OrderState::Unspecified => {
                return Err(format!("it told no state of order {id}"));
            }
        };
        let filled = match status.filled.as_str() {
            "" => Decimal::ZERO,
            text => decimal(text)?,
        };
        all.push(Told { id: id.to_owned(), state, filled, why: short(&status.why) });
    }
    match ids.iter().find(|id| !seen.contains(**id)) {
        Some(missing) => Err(format!("it told nothing of order {missing}")),
        None => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(venue: &str, symbol: &str, quantity: &str) -> wire::Position {
        let [venue, symbol, quantity] = [venue, symbol, quantity].map(str::to_owned);
        wire::Position { venue, symbol, quantity }
    }

    fn answer(positions: Vec<wire::Position>) -> wire::PositionsResponse {
        let venues = vec!["a".to_owned(), "b".to_owned()];
        wire::PositionsResponse { positions, venues, ..Default::default() }
    }

    #[test]
    fn a_book_is_believed_only_where_it_is_clear() {
        let whole = book(answer(vec![position("a", "X", "-1.50"), position("b", "X", "0")]), "");
        let whole = whole.unwrap();
        assert_eq!(whole.positions.len(), 1, "nothing is no position");
        assert_eq!(whole.positions[0].quantity, Decimal::new(-15, 1));
        for (quantity, symbol, why) in [
            ("", "X", "no decimal"),
            ("1e3x", "X", "no decimal"),
            ("NaN", "X", "no decimal"),
            ("0.00000000000000000000000000000000001", "X", "no decimal"),
            ("0.00000000000000000000000000000000001e2", "X", "no decimal"),
            ("1", "", "can't be a name"),
            ("1", "X\n", "can't be a name"),
        ] {
            let rows = vec![position("a", symbol, quantity), position("a", "Y", "1e-2")];
            let seen = book(answer(rows), "a").unwrap();
            assert!(seen.odd[0].1.contains(why), "{seen:?}");
            assert_eq!(seen.positions[0].quantity, Decimal::new(1, 2), "the other is read");
        }
        let both = book(answer(vec![position("a", "X", "1"), position("a", "X", "-1")]), "a");
        let both = both.unwrap();
        assert_eq!((both.positions.len(), both.odd.len()), (0, 2), "long and short at once");
        let elsewhere = book(answer(vec![position("b", "X", "1")]), "a").unwrap_err();
        assert!(elsewhere.contains("asked about a"), "{elsewhere}");
        let by_hand = wire::OpenOrder { venue: "a".into(), ..Default::default() };
        let by_hand = wire::PositionsResponse { orders: vec![by_hand], ..answer(vec![]) };
        assert_eq!(book(by_hand, "a").unwrap().orders[0].id, "", "it is an order all the same");
        assert!(book(answer(vec![]), "c").unwrap_err().contains("does not know"));
        let away = wire::PositionsResponse { unreachable: vec!["a".into()], ..answer(vec![]) };
        assert!(book(away.clone(), "a").unwrap_err().contains("does not reach"));
        assert_eq!(book(away, "").unwrap().unreachable, ["a"]);
        let many = (0..=LISTED).map(|index| position("a", &index.to_string(), "1")).collect();
        assert!(book(answer(many), "").unwrap_err().contains("more than"));
    }

    #[test]
    fn of_every_order_that_was_asked_about_something_is_told() {
        let status = |id: &str, state: wire::OrderState, filled: &str| wire::OrderStatus {
            client_order_id: id.to_owned(),
            state: state.into(),
            filled: filled.to_owned(),
            why: String::new(),
        };
        let filled = || status("1", wire::OrderState::Filled, "2");
        let open = || status("2", wire::OrderState::Open, "");
        assert_eq!(told(vec![open(), filled()], &["1", "2"]).unwrap().len(), 2);
        for (answer, why) in [
            (vec![filled()], "nothing of order 2"),
            (vec![filled(), open(), open()], "twice"),
            (vec![filled(), status("3", wire::OrderState::Open, "")], "nobody asked"),
            (vec![filled(), status("2", wire::OrderState::Unspecified, "")], "no state"),
            (vec![filled(), status("2", wire::OrderState::Open, "many")], "no decimal"),
        ] {
            let said = told(answer, &["1", "2"]).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
