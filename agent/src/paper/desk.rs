//! What each call makes of the book. Pure: the book, the call and the time go in, the changed book and the answer come
//! out. A call that is refused may have changed the book: whoever calls keeps the one before.

use jiff::Timestamp;

use super::book::{Book, Fill, ORDERS, OpenOrder, Order, OrderState, Venue, named};
use super::quantity::Quantity;

/// A call names at most so many orders.
pub(super) const CALL_LIMIT: usize = 1_000;

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The call makes no sense.
    Invalid(String),
    /// It is not the time for it.
    NotNow(String),
    /// There is no such venue.
    NotFound(String),
    /// The venue takes no more orders.
    Full(String),
    /// Nobody answers.
    Away(String),
    /// What the paper venue itself needs is broken.
    Broken(String),
}

impl Refusal {
    /// In a word, for the record.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::NotNow(_) => "not now",
            Self::NotFound(_) => "not found",
            Self::Full(_) => "full",
            Self::Away(_) => "unavailable",
            Self::Broken(_) => "broken",
        }
    }
}

/// An order that is to reduce a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closing {
    /// In what.
    pub(super) symbol: String,
    /// Its id.
    pub(super) id: String,
    /// Negative sells.
    pub(super) quantity: Quantity,
}

/// What becomes of closing orders, and of those that are to be cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Manner {
    /// What the depth allows.
    #[default]
    Depth,
    /// None is taken; none is cancelled.
    Rejected,
    /// Half of each; every other one is cancelled.
    Half,
    /// They stay open.
    Rests {
        /// Once half of each has been filled.
        half: bool,
        /// Until somebody asks for it; else until they are let go.
        until_query: bool,
    },
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Became {
    /// Its id.
    pub(super) id: String,
    /// `None`: the venue has never seen it.
    pub(super) state: Option<OrderState>,
    /// What of it was traded.
    pub(super) filled: Quantity,
    /// Why it ended.
    pub(super) why: String,
}

/// What venues hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    /// Venue, symbol and quantity of each position.
    pub(super) positions: Vec<(String, String, Quantity)>,
    /// Orders that can still trade, with their venues.
    pub(super) orders: Vec<(String, OpenOrder)>,
    /// Those asked for that did not answer.
    pub(super) unreachable: Vec<String>,
    /// Those asked for that answered and hold nothing.
    pub(super) flat: Vec<String>,
    /// All that there are.
    pub(super) venues: Vec<String>,
}

/// Lets no order leave; since when none does.
///
/// # Errors
/// The emergency is older than one that is known.
pub(super) fn halt(book: &mut Book, epoch: u64, now: Timestamp) -> Result<Timestamp, Refusal> {
    not_older(book, epoch)?;
    let since = book.halted_since.filter(|_| book.halted && book.epoch == epoch).unwrap_or(now);
    (book.epoch, book.halted, book.halted_since) = (epoch, true, Some(since));
    Ok(since)
}

/// Lets orders out again.
///
/// # Errors
/// A newer emergency holds them.
pub(super) fn resume(book: &mut Book, epoch: u64) -> Result<(), Refusal> {
    not_older(book, epoch)?;
    (book.epoch, book.resumed_epoch) = (epoch, epoch);
    (book.halted, book.halted_since) = (false, None);
    Ok(())
}

/// Cancels what the trading system has out at a venue; how many orders that were, and how many could not be cancelled.
///
/// # Errors
/// There is no such venue, or the emergency is older than one that is known.
pub(super) fn cancel_all(
    book: &mut Book,
    (epoch, venue): (u64, &str),
    protective_too: bool,
    manner: Manner,
) -> Result<(u64, u64), Refusal> {
    not_older(book, epoch)?;
    let venue = find(book, venue)?;
    let (mut cancelled, mut left) = (0, 0);
    for order in std::mem::take(&mut venue.open_orders) {
        if order.protective && !protective_too {
            venue.open_orders.push(order);
            continue;
        }
        if manner == Manner::Rejected || manner == Manner::Half && left < cancelled {
            left += 1;
            venue.open_orders.push(order);
            continue;
        }
        cancelled += 1;
        let ended = Order {
            symbol: order.symbol,
            quantity: order.quantity,
            filled: order.filled,
            state: OrderState::Cancelled,
            why: "cancelled in an emergency".to_owned(),
            epoch,
            fills: Vec::new(),
            until_query: false,
        };
        venue.orders.insert(order.client_order_id, ended);
    }
    Ok((cancelled, left))
}

/// Sends orders that only reduce. One whose id was seen is not sent again.
///
/// # Errors
/// It is not halted for this emergency, there is no such venue, or the orders make no sense: then none was sent.
pub(super) fn close(
    book: &mut Book,
    (epoch, venue): (u64, &str),
    orders: &[Closing],
    manner: Manner,
) -> Result<Vec<Became>, Refusal> {
    count(orders.len())?;
    for order in orders {
        named("a symbol", &order.symbol).map_err(Refusal::Invalid)?;
        named("an order", &order.id).map_err(Refusal::Invalid)?;
    }
    not_older(book, epoch)?;
    if !book.halted || book.epoch != epoch {
        return Err(Refusal::NotNow(format!("trading is not halted for emergency {epoch}")));
    }
    let venue = find(book, venue)?;
    if venue.orders.len() + orders.len() > ORDERS {
        return Err(Refusal::Full(format!("a venue takes {ORDERS} orders in its life")));
    }
    let mut became = Vec::with_capacity(orders.len());
    for order in orders {
        if seen(venue, &order.id).state.is_none() {
            send(venue, order, epoch, manner);
        }
        became.push(seen(venue, &order.id));
    }
    Ok(became)
}

/// What became of orders. Those that rest until somebody asks trade first.
///
/// # Errors
/// There is no such venue, or too many are asked for.
pub(super) fn query(book: &mut Book, venue: &str, ids: &[String]) -> Result<Vec<Became>, Refusal> {
    count(ids.len())?;
    let venue = find(book, venue)?;
    let ask = |id: &String| {
        if venue.orders.get(id).is_some_and(|order| order.until_query) {
            work(venue, id);
        }
        seen(venue, id)
    };
    Ok(ids.iter().map(ask).collect())
}

/// What a venue holds, or all of them; `silent` ones do not answer.
///
/// # Errors
/// There is no such venue.
pub(super) fn holdings(book: &Book, venue: &str, silent: &[String]) -> Result<Holdings, Refusal> {
    if !venue.is_empty() && !book.venues.contains_key(venue) {
        return Err(unknown(venue));
    }
    let venues = book.venues.keys().cloned().collect();
    let mut held = Holdings { venues, ..Holdings::default() };
    for (name, found) in book.venues.iter().filter(|(name, _)| venue.is_empty() || *name == venue) {
        if silent.contains(name) {
            held.unreachable.push(name.clone());
            continue;
        }
        if found.positions.is_empty() {
            held.flat.push(name.clone());
        }
        let position = |(symbol, held): (&String, &Quantity)| (name.clone(), symbol.clone(), *held);
        held.positions.extend(found.positions.iter().map(position));
        held.orders.extend(found.open_orders.iter().map(|order| (name.clone(), order.clone())));
        held.orders.extend(resting(found).map(|(id, order)| {
            let open = OpenOrder {
                symbol: order.symbol.clone(),
                client_order_id: id.clone(),
                quantity: order.quantity,
                filled: order.filled,
                protective: false,
            };
            (name.clone(), open)
        }));
    }
    Ok(held)
}

/// Lets the orders trade that rest at a venue.
pub(super) fn let_go(book: &mut Book, venue: &str) {
    let Some(venue) = book.venues.get_mut(venue) else { return };
    let ids: Vec<String> = resting(venue).map(|(id, _)| id.clone()).collect();
    for id in ids {
        work(venue, &id);
    }
}

/// A position comes back at a venue that is flat; whether it did.
pub(super) fn reappear(book: &mut Book, venue: &str, symbol: &str, quantity: Quantity) -> bool {
    match book.venues.get_mut(venue) {
        Some(venue) if venue.positions.is_empty() && !quantity.is_zero() => {
            venue.positions.insert(symbol.to_owned(), quantity);
            true
        }
        _ => false,
    }
}

fn count(orders: usize) -> Result<(), Refusal> {
    match orders > CALL_LIMIT {
        true => {
            Err(Refusal::Invalid(format!("{orders} orders are over the limit of {CALL_LIMIT}")))
        }
        false => Ok(()),
    }
}

fn not_older(book: &Book, epoch: u64) -> Result<(), Refusal> {
    match epoch {
        0 => Err(Refusal::Invalid("emergencies count from 1".to_owned())),
        _ if epoch < book.epoch => Err(Refusal::NotNow(format!(
            "emergency {epoch} is older than {}, which is known",
            book.epoch
        ))),
        _ => Ok(()),
    }
}

fn unknown(venue: &str) -> Refusal {
    let shown: String = venue.chars().take(100).collect();
    Refusal::NotFound(format!("there is no venue {shown:?}"))
}

fn find<'a>(book: &'a mut Book, venue: &str) -> Result<&'a mut Venue, Refusal> {
    if venue.is_empty() {
        return Err(Refusal::Invalid("no venue is named".to_owned()));
    }
    book.venues.get_mut(venue).ok_or_else(|| unknown(venue))
}

fn resting(venue: &Venue) -> impl Iterator<Item = (&String, &Order)> {
    venue.orders.iter().filter(|(_, order)| order.state == OrderState::Open)
}

fn seen(venue: &Venue, id: &str) -> Became {
    let id = id.to_owned();
    if let Some(order) = venue.orders.get(&id) {
        let (filled, why) = (order.filled, order.why.clone());
        return Became { id, state: Some(order.state), filled, why };
    }
    let out = venue.open_orders.iter().find(|order| order.client_order_id == id);
    Became {
        id,
        state: out.map(|_| OrderState::Open),
        filled: out.map_or(Quantity::ZERO, |order| order.filled),
        why: String::new(),
    }
}

/// Why an order would do more than reduce what is held.
fn unfit(venue: &Venue, order: &Closing) -> Option<String> {
    let Closing { symbol, quantity, .. } = order;
    let held = venue.positions.get(symbol).copied().unwrap_or_default();
    if quantity.is_zero() {
        return Some("its quantity is nothing".to_owned());
    }
    if held.is_zero() {
        return Some(format!("there is no position in {symbol}"));
    }
    if held.is_negative() == quantity.is_negative() {
        return Some(format!("{quantity} would add to the position of {held} {symbol}"));
    }
    let on_the_way = resting(venue)
        .filter(|(_, open)| open.symbol == *symbol)
        .fold(Quantity::ZERO, |sum, (_, open)| sum.plus(open.quantity.minus(open.filled).abs()));
    if quantity.abs().plus(on_the_way) > held.abs() {
        return Some(match on_the_way.is_zero() {
            true => format!("{quantity} is more than the position of {held} {symbol}"),
            false => format!(
                "{quantity} is more than the position of {held} {symbol}, of which {on_the_way} is on its way"
            ),
        });
    }
    None
}

fn send(venue: &mut Venue, order: &Closing, epoch: u64, manner: Manner) {
    let why = match manner {
        Manner::Rejected => Some("the venue takes no orders".to_owned()),
        _ => unfit(venue, order),
    };
    let state = if why.is_some() { OrderState::Rejected } else { OrderState::Open };
    let mut taken = Order {
        symbol: order.symbol.clone(),
        quantity: order.quantity,
        filled: Quantity::ZERO,
        state,
        why: why.unwrap_or_default(),
        epoch,
        fills: Vec::new(),
        until_query: false,
    };
    if state == OrderState::Open {
        match manner {
            Manner::Half => {
                trade(venue, &mut taken, order.quantity.half());
                end(&mut taken, "the venue filled half of it");
            }
            Manner::Rests { half, until_query } => {
                taken.until_query = until_query;
                if half {
                    trade(venue, &mut taken, order.quantity.half());
                }
            }
            Manner::Depth | Manner::Rejected => {
                trade(venue, &mut taken, order.quantity);
                end(&mut taken, "there was no more to trade with");
            }
        }
    }
    venue.orders.insert(order.id.clone(), taken);
}

/// An open order trades what it can of its rest; then it has ended.
fn work(venue: &mut Venue, id: &str) {
    let Some(mut order) = venue.orders.remove(id) else { return };
    if order.state == OrderState::Open {
        let rest = order.quantity.minus(order.filled);
        trade(venue, &mut order, rest);
        end(&mut order, "there was no more to trade with");
        order.until_query = false;
    }
    venue.orders.insert(id.to_owned(), order);
}

fn end(order: &mut Order, why: &str) {
    if order.filled == order.quantity {
        order.state = OrderState::Filled;
        return;
    }
    order.state = OrderState::Cancelled;
    order.why = format!("{why}: {} of {}", order.filled, order.quantity);
}

/// Trades at most so much of an order against the depth, and never the position through nothing.
fn trade(venue: &mut Venue, order: &mut Order, most: Quantity) {
    let held = venue.positions.get(&order.symbol).copied().unwrap_or_default();
    if held.is_negative() == most.is_negative() {
        return;
    }
    let mut want = most.abs().min(held.abs());
    let mut fills = Vec::new();
    match venue.books.get_mut(&order.symbol) {
        None => fills.push((None, want)),
        Some(depth) => {
            let levels = if most.is_negative() { &mut depth.bids } else { &mut depth.asks };
            for (price, quantity) in levels.iter_mut() {
                let taken = want.min(*quantity);
                want = want.minus(taken);
                fills.push((Some(*price), taken));
                if !depth.refills {
                    *quantity = quantity.minus(taken);
                }
            }
            levels.retain(|(_, quantity)| !quantity.is_zero());
        }
    }
    for (price, quantity) in fills.into_iter().filter(|(_, quantity)| !quantity.is_zero()) {
        let quantity = quantity.signed_as(most);
        order.filled = order.filled.plus(quantity);
        order.fills.push(Fill { price, quantity });
        let left = venue.positions.get(&order.symbol).copied().unwrap_or_default().plus(quantity);
        match left.is_zero() {
            true => venue.positions.remove(&order.symbol),
            false => venue.positions.insert(order.symbol.clone(), left),
        };
    }
}
