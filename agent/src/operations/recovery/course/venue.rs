//! One venue, until it is flat or its time is up. What is to be done is decided in `decide`; this asks and tells.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use genesis_storage::{CloseOrderRecord, VenuePhase, VenueRecord};
use jiff::Timestamp;
use tokio::sync::watch;

use super::decide::{self, Seen};
use super::{Course, RETRY, longer};
use crate::outside::control::{BATCH, Book, Means, Order, Told};
use crate::outside::failpoint;

const UNCANCELLED: &str = "its orders are not known to be cancelled";
/// So long between two looks at a venue.
const PACE: Duration = Duration::from_millis(200);
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
    empty_since: Option<Duration>,
    /// Symbols whose last order has ended without a trade, until when they are left alone, and the wait after that.
    idle: BTreeMap<String, (Duration, Duration)>,
}

/// How far the cancelling of a venue's orders is, which goes on beside the rest: a venue that is slow to cancel is not
/// slow to be closed.
struct Cancelling {
    /// All of them are, as far as it was said.
    done: watch::Sender<bool>,
    trouble: watch::Sender<String>,
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
        self.edit_venue(&name, |venue| {
            venue.phase = VenuePhase::Closing;
            venue.why = String::new();
        });
        let cancelling = Cancelling {
            done: watch::Sender::new(false),
            trouble: watch::Sender::new(UNCANCELLED.to_owned()),
        };
        let flat = tokio::select! {
            flat = self.turns(means, (epoch, &name), &cancelling, deadline) => flat,
            () = self.cancel_all(means, (epoch, &name), &cancelling) => false,
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
        let said = format!("{name}: {said}");
        match flat {
            true => self.save(action, &said).await,
            false => self.fail(action, "FLAT_UNPROVEN", &said).await,
        }
        self.bell.ring();
    }

    /// Cancels every order of a venue, and again when there are others.
    async fn cancel_all(&self, means: &Means, (epoch, name): (u64, &str), cancelling: &Cancelling) {
        let mut wait = RETRY;
        let mut done = cancelling.done.subscribe();
        loop {
            let trouble = match self.outside.desk.cancel(means, epoch, name, true).await {
                Ok(0) => String::new(),
                Ok(left) => format!("{left} orders could not be cancelled"),
                Err(why) => format!("orders can't be cancelled: {why}"),
            };
            let well = trouble.is_empty();
            cancelling.trouble.send_replace(trouble);
            if well {
                wait = RETRY;
                cancelling.done.send_replace(true);
                // The sender lives as long as this.
                let _ = done.wait_for(|done| !done).await;
            } else {
                self.outside.clock.sleep(wait).await;
                wait = longer(wait);
            }
        }
    }

    /// Turn after turn; whether it was proven flat before `deadline`.
    async fn turns(
        &self,
        means: &Means,
        (epoch, name): (u64, &str),
        cancelling: &Cancelling,
        deadline: Duration,
    ) -> bool {
        let clock = &self.outside.clock;
        let mut memory = Memory::default();
        let mut wait = RETRY;
        loop {
            let left = deadline.saturating_sub(clock.monotonic());
            if left.is_zero() {
                return false;
            }
            // Without a turn that has ended there is nothing to be lost by leaving it.
            let turn = tokio::select! {
                turn = self.turn(means, (epoch, name), cancelling, &mut memory) => turn,
                () = clock.sleep(left) => Err("its time was up before it had answered".to_owned()),
            };
            let pause = match turn {
                Ok(Turn::Flat) => return true,
                Ok(Turn::Again) => Duration::ZERO,
                Ok(Turn::Wait) => PACE,
                Err(why) => {
                    memory.empty_since = None;
                    self.edit_venue(name, |venue| venue.why = why);
                    wait
                }
            };
            wait = if pause == wait { longer(wait) } else { RETRY };
            clock.sleep(pause.min(deadline.saturating_sub(clock.monotonic()))).await;
        }
    }

    /// Asks what became of our orders, then what is there, and does what follows.
    async fn turn(
        &self,
        means: &Means,
        (epoch, name): (u64, &str),
        cancelling: &Cancelling,
        memory: &mut Memory,
    ) -> Result<Turn, String> {
        let (desk, clock) = (&self.outside.desk, &self.outside.clock);
        let open = decide::unsettled(&self.orders(name));
        for ids in open.chunks(BATCH) {
            let told = desk.query(means, name, ids).await?;
            self.hear(name, &told, memory).await;
        }
        let asked = clock.monotonic();
        let book = desk.book(means, name).await?;
        let (answered, now) = (clock.monotonic(), self.now());
        let odd = book.odd.iter().map(|(_, why)| format!("it was not understood: {why}")).next();
        self.edit_venue(name, |venue| {
            see(venue, name, &book, now);
            venue.why = odd.clone().unwrap_or_else(|| cancelling.trouble.borrow().clone());
        });
        let orders = self.orders(name);
        let ours: BTreeSet<&str> = orders.iter().map(|order| order.id.as_str()).collect();
        if book.orders.iter().any(|order| !ours.contains(order.id.as_str())) {
            cancelling.done.send_if_modified(|done| std::mem::replace(done, false));
        }
        let held = memory.idle.iter().filter(|(_, (until, _))| asked < *until);
        let next = decide::next(&Seen {
            epoch,
            venue: name,
            orders: &orders,
            positions: &book.positions,
            // What was not understood may be a position.
            out: book.orders.len() + book.odd.len(),
            held: &held.map(|(symbol, _)| symbol.clone()).collect(),
            cancelled: *cancelling.done.borrow(),
            empty_since: memory.empty_since,
            now: asked,
            at: now,
        });
        memory.empty_since = next.empty.then(|| memory.empty_since.unwrap_or(answered));
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
        self.about_to("trading.orders-intended", &detail).await;
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
        let at = self.now();
        self.edit_venue(name, |venue| heard = decide::heard(&mut venue.orders, told, at));
        let now = self.outside.clock.monotonic();
        for symbol in heard.idle {
            let before = memory.idle.get(&symbol).map_or(RETRY, |(_, wait)| longer(*wait));
            memory.idle.insert(symbol, (now + before, before));
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
