//! One venue, until it is flat or its time is up. What is to be done is decided in `decide`; this asks and tells.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use genesis_storage::{CloseOrderRecord, VenuePhase, VenueRecord};
use jiff::Timestamp;

use super::decide::{self, Seen};
use super::{Course, RETRY, longer};
use crate::outside::control::{BATCH, Book, Means, Order, Told};
use crate::outside::failpoint;

/// So long between two looks at a venue.
const PACE: Duration = Duration::from_millis(200);
/// So long a venue's positions may be behind its orders.
const BEHIND: Duration = Duration::from_secs(5);
/// So many positions of a venue are kept in the record.
const KEPT: usize = 1_000;
/// So many orders are named in an entry of the operation log.
const NAMED: usize = 20;

/// What one turn has come to.
enum Turn {
    Flat,
    /// There is more to do at once.
    Again,
    /// It is up to the venue.
    Wait,
}

/// What is remembered from turn to turn.
#[derive(Default)]
struct Memory {
    cancelled: bool,
    empty_since: Option<Duration>,
    /// Symbols whose last order was refused, until when they are left alone, and the wait after that.
    refused: BTreeMap<String, (Duration, Duration)>,
    /// Symbols that have just traded, until when their position is given time to follow.
    traded: BTreeMap<String, Duration>,
}

/// Takes over what a venue has.
pub(super) fn see(venue: &mut VenueRecord, name: &str, book: &Book, now: Timestamp) {
    let here = book.positions.iter().filter(|position| position.venue == name);
    let shown = here.map(|position| (position.symbol.clone(), position.quantity.to_string()));
    venue.positions = shown.take(KEPT).collect();
    let out = book.orders.iter().filter(|order| order.venue == name).count();
    venue.open_orders = u32::try_from(out).unwrap_or(u32::MAX);
    venue.as_of = Some(now);
}

impl Course {
    /// Closes what a venue has, until it is proven flat or `deadline` has come.
    pub(super) async fn close_venue(
        &self,
        means: &Means,
        epoch: u64,
        name: String,
        deadline: Duration,
    ) {
        let clock = &self.outside.clock;
        self.edit_venue(&name, |venue| {
            venue.phase = VenuePhase::Closing;
            venue.why = String::new();
        });
        let mut memory = Memory::default();
        let mut wait = RETRY;
        let flat = loop {
            let left = deadline.saturating_sub(clock.monotonic());
            if left.is_zero() {
                break false;
            }
            // Without a turn that has ended there is nothing to be lost by leaving it.
            let turn = tokio::select! {
                turn = self.turn(means, epoch, &name, &mut memory) => turn,
                () = clock.sleep(left) => Err("its time was up before it had answered".to_owned()),
            };
            let pause = match turn {
                Ok(Turn::Flat) => break true,
                Ok(Turn::Again) => Duration::ZERO,
                Ok(Turn::Wait) => PACE,
                Err(why) => {
                    memory.empty_since = None;
                    self.edit_venue(&name, |venue| venue.why = why);
                    wait
                }
            };
            wait = if pause == wait { longer(wait) } else { RETRY };
            clock.sleep(pause.min(deadline.saturating_sub(clock.monotonic()))).await;
        };
        self.edit_venue(&name, |venue| {
            venue.phase = if flat { VenuePhase::Flat } else { VenuePhase::Unproven };
            venue.why = match (flat, venue.why.is_empty()) {
                (true, _) => String::new(),
                (false, false) => std::mem::take(&mut venue.why),
                (false, true) => left_over(venue),
            };
        });
        let (action, said) = match flat {
            true => ("trading.venue-flat", "seen empty twice".to_owned()),
            false => {
                let live = self.live.borrow();
                let why = live.record.venues.get(&name).map(|venue| venue.why.clone());
                ("trading.venue-unproven", why.unwrap_or_default())
            }
        };
        self.save(action, &format!("{name}: {said}")).await;
        self.bell.ring();
    }

    /// Asks what became of our orders, then what is there, and does what follows.
    async fn turn(
        &self,
        means: &Means,
        epoch: u64,
        name: &str,
        memory: &mut Memory,
    ) -> Result<Turn, String> {
        let (desk, clock) = (&self.outside.desk, &self.outside.clock);
        let mut trouble = String::new();
        if !memory.cancelled {
            // What can't be cancelled keeps nothing from being closed; it keeps the venue from counting as flat.
            match desk.cancel(means, epoch, name, true).await {
                Ok(0) => memory.cancelled = true,
                Ok(left) => trouble = format!("{left} orders could not be cancelled"),
                Err(why) => trouble = format!("orders can't be cancelled: {why}"),
            }
        }
        let open = decide::unsettled(&self.orders(name));
        for ids in open.chunks(BATCH) {
            let told = desk.query(means, name, ids).await?;
            self.hear(name, &told, memory).await;
        }
        let book = desk.book(means, name).await?;
        let now = self.now();
        self.edit_venue(name, |venue| {
            see(venue, name, &book, now);
            venue.why = trouble;
        });
        let orders = self.orders(name);
        let ours: BTreeSet<&str> = orders.iter().map(|order| order.id.as_str()).collect();
        if book.orders.iter().any(|order| !ours.contains(order.id.as_str())) {
            memory.cancelled = false;
        }
        let moment = clock.monotonic();
        let held = memory.refused.iter().filter(|(_, (until, _))| moment < *until);
        let traded = memory.traded.iter().filter(|(_, until)| moment < **until);
        let next = decide::next(&Seen {
            epoch,
            venue: name,
            orders: &orders,
            positions: &book.positions,
            out: book.orders.len(),
            held: &held.map(|(symbol, _)| symbol.clone()).collect(),
            traded: &traded.map(|(symbol, _)| symbol.clone()).collect(),
            empty_since: memory.empty_since,
            now: moment,
        });
        memory.empty_since = next.empty.then(|| memory.empty_since.unwrap_or(moment));
        if next.flat {
            return Ok(Turn::Flat);
        }
        if !next.intend.is_empty() {
            self.intend(name, next.intend).await;
            return Ok(Turn::Again);
        }
        for orders in next.send.chunks(BATCH) {
            self.about_to_send(name, orders);
            let told = desk.close(means, epoch, name, orders).await?;
            failpoint::hit("emergency.sent");
            self.hear(name, &told, memory).await;
        }
        Ok(Turn::Wait)
    }

    fn orders(&self, name: &str) -> Vec<CloseOrderRecord> {
        let live = self.live.borrow();
        live.record.venues.get(name).map(|venue| venue.orders.clone()).unwrap_or_default()
    }

    /// Writes orders down, before anybody is asked about them.
    async fn intend(&self, name: &str, orders: Vec<CloseOrderRecord>) {
        let shown = orders.iter().map(|it| {
            let CloseOrderRecord { symbol, attempt, id, quantity, .. } = it;
            format!("{quantity} of {symbol} as {id} (attempt {attempt})")
        });
        let detail = format!("{name}: {}", listed(shown));
        self.edit_venue(name, |venue| {
            venue.orders.extend(orders);
            decide::prune(&mut venue.orders);
        });
        self.save("trading.orders-intended", &detail).await;
    }

    /// Keeps the quantity that is sent: one that was never seen is sent for what the position is now.
    fn about_to_send(&self, name: &str, orders: &[Order]) {
        self.edit_venue(name, |venue| {
            for order in orders {
                let kept = venue.orders.iter_mut().find(|kept| kept.id == order.id);
                if let Some(kept) = kept {
                    kept.quantity = order.quantity.to_string();
                }
            }
        });
    }

    /// Takes over what a venue has said of our orders.
    async fn hear(&self, name: &str, told: &[Told], memory: &mut Memory) {
        let mut heard = decide::Heard::default();
        self.edit_venue(name, |venue| heard = decide::heard(&mut venue.orders, told));
        let now = self.outside.clock.monotonic();
        memory.traded.extend(heard.traded.into_iter().map(|symbol| (symbol, now + BEHIND)));
        for symbol in heard.refused {
            let before = memory.refused.get(&symbol).map_or(RETRY, |(_, wait)| longer(*wait));
            memory.refused.insert(symbol, (now + before, before));
        }
        if heard.changed {
            let shown = told.iter().map(|it| {
                let why = if it.why.is_empty() { String::new() } else { format!(" ({})", it.why) };
                format!("{} {:?} {}{why}", it.id, it.state, it.filled)
            });
            self.save("trading.orders", &format!("{name}: {}", listed(shown))).await;
        }
    }
}

fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let all = names.len();
    let mut named: Vec<String> = names.take(NAMED).collect();
    if all > named.len() {
        named.push(format!("{} more", all - named.len()));
    }
    named.join(", ")
}

/// Why a venue that has answered is not flat.
fn left_over(venue: &VenueRecord) -> String {
    let quantity = |(symbol, quantity): &(String, String)| format!("{quantity} of {symbol}");
    match (venue.positions.len(), venue.open_orders) {
        (0, 0) => "it was not seen empty for long enough".to_owned(),
        (0, out) => format!("{out} orders are out"),
        (_, _) => format!("it still has {}", listed(venue.positions.iter().map(quantity))),
    }
}
