//! The book of the paper venue as it is kept in a file: venues with positions, orders and depth, and every call.
//! Plain data; what calls make of it is in `desk`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::quantity::Quantity;

/// So many of the last calls are kept,
const CALLS: usize = 10_000;
/// with so many ids in all of them.
const IDS: usize = 50_000;
/// A venue takes so many orders in its life: none is ever forgotten, lest its id trade twice.
pub(super) const ORDERS: usize = 100_000;
/// There are at most so many venues,
const VENUES: usize = 100;
/// with so many positions, open orders and books each,
const SYMBOLS: usize = 10_000;
/// and so many levels on each side of a book.
const LEVELS: usize = 1_000;
/// Names and ids have at most so many bytes.
const NAME: usize = 128;

/// Everything that the paper venue knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Book {
    /// The newest emergency that it has heard of.
    #[serde(default)]
    pub(super) epoch: u64,
    /// No order leaves any more.
    #[serde(default)]
    pub(super) halted: bool,
    /// Since when.
    #[serde(default)]
    pub(super) halted_since: Option<Timestamp>,
    /// The newest emergency after which trading was resumed.
    #[serde(default)]
    pub(super) resumed_epoch: u64,
    /// The trades that nothing must disturb.
    #[serde(default)]
    pub(super) critical: Vec<Critical>,
    /// By name.
    pub(super) venues: BTreeMap<String, Venue>,
    /// The last calls, the newest at the end.
    #[serde(default)]
    pub(super) calls: VecDeque<CallRecord>,
}

/// A trade that nothing must disturb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Critical {
    /// As the trading system names it.
    pub(super) id: String,
    /// Where.
    #[serde(default)]
    pub(super) venue: String,
    /// In what.
    #[serde(default)]
    pub(super) symbol: String,
    /// Why it is critical.
    #[serde(default)]
    pub(super) reason: String,
    /// Since when.
    #[serde(default)]
    pub(super) since: Option<Timestamp>,
}

/// One venue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Venue {
    /// What is held of each symbol; one that is flat is not here.
    #[serde(default)]
    pub(super) positions: BTreeMap<String, Quantity>,
    /// What the trading system has out.
    #[serde(default)]
    pub(super) open_orders: Vec<OpenOrder>,
    /// What became of orders, by their ids.
    #[serde(default)]
    pub(super) orders: BTreeMap<String, Order>,
    /// What is bid and asked. A symbol that is not here trades whatever is sent.
    #[serde(default)]
    pub(super) books: BTreeMap<String, Depth>,
}

/// An order of the trading system that is out. It does not trade by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenOrder {
    /// In what.
    pub(super) symbol: String,
    /// Its name.
    pub(super) client_order_id: String,
    /// Negative sells.
    pub(super) quantity: Quantity,
    /// What of it was traded.
    #[serde(default)]
    pub(super) filled: Quantity,
    /// It only protects a position.
    #[serde(default)]
    pub(super) protective: bool,
}

/// An order that a call was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// In what.
    pub(super) symbol: String,
    /// Negative sells.
    pub(super) quantity: Quantity,
    /// What of it was traded.
    pub(super) filled: Quantity,
    /// How far it is.
    pub(super) state: OrderState,
    /// Why it was not taken, or ended.
    #[serde(default)]
    pub(super) why: String,
    /// The emergency.
    #[serde(default)]
    pub(super) epoch: u64,
    /// What it traded, piece by piece.
    #[serde(default)]
    pub(super) fills: Vec<Fill>,
    /// It is open until somebody asks for it; else until the fault that made it rest is taken away.
    #[serde(default)]
    pub(super) until_query: bool,
}

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OrderState {
    /// It can still trade.
    Open,
    /// All of it was traded.
    Filled,
    /// It trades no more.
    Cancelled,
    /// It was not taken.
    Rejected,
}

/// A piece of an order that was traded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fill {
    /// `None` where the symbol has no book.
    pub(super) price: Option<Quantity>,
    /// Negative: sold.
    pub(super) quantity: Quantity,
}

/// What can be traded in a symbol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Depth {
    /// What others buy: price and quantity, the highest price first.
    #[serde(default)]
    pub(super) bids: Vec<(Quantity, Quantity)>,
    /// What others sell, the lowest price first.
    #[serde(default)]
    pub(super) asks: Vec<(Quantity, Quantity)>,
    /// Each order finds all of it again; else what was taken is gone.
    #[serde(default = "yes")]
    pub(super) refills: bool,
}

fn yes() -> bool {
    true
}

/// A call that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallRecord {
    /// When it was done, or would have been.
    pub(super) at: Timestamp,
    /// The rpc.
    pub(super) call: String,
    /// The venue that it named.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) venue: String,
    /// The emergency that it named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<u64>,
    /// The orders that it named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ids: Vec<String>,
    /// The fault that decided its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fault: Option<String>,
    /// "ok", or why it was refused.
    pub(super) outcome: String,
}

impl Book {
    /// Reads a book.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let mut book: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        book.check()?;
        for venue in book.venues.values_mut() {
            venue.positions.retain(|_, quantity| !quantity.is_zero());
        }
        Ok(book)
    }

    /// Notes a call, and forgets the oldest ones where there are too many.
    pub(super) fn note(&mut self, call: CallRecord) {
        self.calls.push_back(call);
        let mut ids: usize = self.calls.iter().map(|call| call.ids.len()).sum();
        while self.calls.len() > CALLS || (ids > IDS && self.calls.len() > 1) {
            ids -= self.calls.pop_front().map_or(0, |call| call.ids.len());
        }
    }

    fn check(&self) -> Result<(), String> {
        bounded("venues", self.venues.len(), VENUES)?;
        bounded("calls", self.calls.len(), CALLS)?;
        if self.resumed_epoch > self.epoch {
            return Err("resumed_epoch is newer than epoch".to_owned());
        }
        for (name, venue) in &self.venues {
            named("a venue", name)?;
            venue.check().map_err(|why| format!("venue {name}: {why}"))?;
        }
        Ok(())
    }
}

impl Venue {
    fn check(&self) -> Result<(), String> {
        bounded("positions", self.positions.len(), SYMBOLS)?;
        bounded("open orders", self.open_orders.len(), SYMBOLS)?;
        bounded("books", self.books.len(), SYMBOLS)?;
        bounded("orders", self.orders.len(), ORDERS)?;
        for symbol in self.positions.keys().chain(self.books.keys()) {
            named("a symbol", symbol)?;
        }
        let mut ids: BTreeSet<&str> = BTreeSet::new();
        for order in &self.open_orders {
            let id = order.client_order_id.as_str();
            named("an order", id)?;
            named("a symbol", &order.symbol)?;
            sound(id, order.quantity, order.filled)?;
            if order.filled == order.quantity {
                return Err(format!("order {id} is filled, and so it is not open"));
            }
            if !ids.insert(id) || self.orders.contains_key(id) {
                return Err(format!("order {id} is there twice"));
            }
        }
        for (id, order) in &self.orders {
            named("an order", id)?;
            named("a symbol", &order.symbol)?;
            // Nobody takes an order of nothing, which may be why it was rejected.
            if order.state != OrderState::Rejected {
                sound(id, order.quantity, order.filled)?;
            }
            if (order.state == OrderState::Filled) != (order.filled == order.quantity)
                && order.state != OrderState::Rejected
            {
                return Err(format!(
                    "order {id}: its state and what is filled contradict each other"
                ));
            }
        }
        for (symbol, depth) in &self.books {
            depth.check().map_err(|why| format!("the book of {symbol}: {why}"))?;
        }
        Ok(())
    }
}

impl Depth {
    fn check(&self) -> Result<(), String> {
        for (side, levels) in [("bids", &self.bids), ("asks", &self.asks)] {
            bounded(side, levels.len(), LEVELS)?;
            if levels.iter().any(|(_, quantity)| *quantity <= Quantity::ZERO) {
                return Err(format!("{side}: a quantity is not above nothing"));
            }
        }
        if !self.bids.is_sorted_by(|one, next| one.0 >= next.0) {
            return Err("bids: the highest price comes first".to_owned());
        }
        if !self.asks.is_sorted_by(|one, next| one.0 <= next.0) {
            return Err("asks: the lowest price comes first".to_owned());
        }
        Ok(())
    }
}

/// A name, an id or a symbol as it may come from outside.
///
/// # Errors
/// What is wrong with it.
pub(super) fn named(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME || name.chars().any(char::is_control) {
        let shown: String = name.chars().take(40).collect();
        return Err(format!(
            "{what} is called {shown:?}: a name has 1 to {NAME} bytes, and no control characters"
        ));
    }
    Ok(())
}

fn bounded(what: &str, count: usize, most: usize) -> Result<(), String> {
    match count > most {
        true => Err(format!("there are {count} {what}, and at most {most} are taken")),
        false => Ok(()),
    }
}

fn sound(id: &str, quantity: Quantity, filled: Quantity) -> Result<(), String> {
    if quantity.is_zero() {
        return Err(format!("order {id} is of nothing"));
    }
    if filled.signed_as(quantity) != filled || filled.abs() > quantity.abs() {
        return Err(format!("order {id}: {filled} of {quantity} can't have been filled"));
    }
    Ok(())
}
