//! Answers that make no sense. Each is one that a hasty reader could take for good news.

use genesis_proto::trading::{
    CancelAllResponse, CriticalTradesResponse, HaltResponse, OpenOrder, OrderStatus, Position,
    PositionsResponse, ResumeResponse,
};

/// Texts that are no quantities.
const NO_QUANTITIES: [&str; 4] = ["", "NaN", "0x10", "1e999"];

fn no_quantity(index: usize) -> String {
    NO_QUANTITIES.get(index % NO_QUANTITIES.len()).copied().unwrap_or_default().to_owned()
}

/// None, and some that are listed without a name.
pub(super) fn critical_trades(answer: &mut CriticalTradesResponse) {
    answer.count = 0;
    answer.trades = vec![Default::default()];
}

/// Not halted, at no time that there is.
pub(super) fn halt(answer: &mut HaltResponse) {
    answer.halted = false;
    answer.since = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 });
}

/// More than there could be.
pub(super) fn cancel_all(answer: &mut CancelAllResponse) {
    (answer.cancelled, answer.left) = (u64::MAX, u64::MAX);
}

/// In states that there are none of, with fills that are no numbers, one under an id that nobody asked for, and one
/// missing.
pub(super) fn statuses(orders: &mut Vec<OrderStatus>) {
    orders.pop();
    for (index, order) in orders.iter_mut().enumerate() {
        order.state = if index % 2 == 0 { 0 } else { 99 };
        order.filled = no_quantity(index);
    }
    orders.push(OrderStatus {
        client_order_id: "nobody-asked-for-this".to_owned(),
        state: 3,
        filled: "1".to_owned(),
        why: String::new(),
    });
}

/// Quantities that are no numbers, at a venue that nobody has heard of, and no venue named.
pub(super) fn positions(answer: &mut PositionsResponse) {
    for (index, position) in answer.positions.iter_mut().enumerate() {
        position.quantity = no_quantity(index);
    }
    for (index, order) in answer.orders.iter_mut().enumerate() {
        (order.quantity, order.filled) = (no_quantity(index), no_quantity(index + 1));
    }
    answer.positions.push(Position {
        venue: "nowhere".to_owned(),
        symbol: String::new(),
        quantity: no_quantity(1),
    });
    answer.orders.push(OpenOrder { venue: "nowhere".to_owned(), ..OpenOrder::default() });
    answer.venues.clear();
    answer.as_of = None;
}

/// Not trading.
pub(super) fn resume(answer: &mut ResumeResponse) {
    answer.trading = false;
}
