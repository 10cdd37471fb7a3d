//! What the trading system answers, taken at its word only where it is clear.

use std::collections::HashSet;

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
    Decimal::from_str_exact(text).map_err(|_| format!("{:?} is no decimal number", short(text)))
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
    let mut seen = HashSet::new();
    let mut positions = Vec::new();
    for position in answer.positions {
        let (venue, symbol) = (asked(&position.venue)?, name("symbol", &position.symbol)?);
        let quantity = decimal(&position.quantity)?;
        if !seen.insert((venue.clone(), symbol.clone())) {
            return Err(format!("it told of {symbol} at {venue} twice"));
        }
        if !quantity.is_zero() {
            positions.push(Position { venue, symbol, quantity });
        }
    }
    let mut orders = Vec::new();
    for order in answer.orders {
        let (venue, id) = (asked(&order.venue)?, name("order", &order.client_order_id)?);
        orders.push(OpenOrder { venue, id, protective: order.protective });
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
    Ok(Book { positions, orders, unreachable, venues })
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
        for (positions, why) in [
            (vec![position("a", "X", "")], "no decimal"),
            (vec![position("a", "X", "1e3x")], "no decimal"),
            (vec![position("a", "X", "NaN")], "no decimal"),
            (vec![position("a", "X", "0.00000000000000000000000000000000001")], "no decimal"),
            (vec![position("a", "", "1")], "can't be a name"),
            (vec![position("a", "X\n", "1")], "can't be a name"),
            (vec![position("b", "X", "1")], "asked about a"),
            (vec![position("a", "X", "1"), position("a", "X", "0")], "twice"),
        ] {
            let said = book(answer(positions), "a").unwrap_err();
            assert!(said.contains(why), "{said}");
        }
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
