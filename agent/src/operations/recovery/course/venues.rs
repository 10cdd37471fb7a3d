//! All venues together: cancelled, closed, looked at.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use genesis_storage::{CoursePhase, VenuePhase, VenueRecord};
use jiff::Timestamp;

use super::keep::on_disk;
use super::{Course, RETRY, decide, file, longer, venue};
use crate::outside::control::{Means, VENUES};
use crate::outside::failpoint;

/// So long all venues together have to answer once more.
const LAST: Duration = Duration::from_secs(10);

/// So often a trading system is asked at the end whether it is halted.
const ASKED: usize = 3;

impl Course {
    /// Every venue that is known of: those of the configuration, those that were seen before.
    fn known_venues(&self) -> BTreeSet<String> {
        let live = self.live.borrow();
        self.config.venues.iter().chain(live.record.venues.keys()).cloned().collect()
    }

    /// Every venue that there is, by the trading system; a few attempts until `deadline`.
    async fn discover(
        &self,
        means: &Means,
        deadline: Duration,
    ) -> Result<BTreeSet<String>, String> {
        let clock = &self.outside.clock;
        let mut wait = RETRY;
        loop {
            let left = deadline.saturating_sub(clock.monotonic());
            let asked = tokio::select! {
                asked = self.outside.desk.book(means, "") => asked,
                () = clock.sleep(left) => Err("no answer in time".to_owned()),
            };
            match asked {
                Ok(book) => {
                    let of_positions = book.positions.into_iter().map(|position| position.venue);
                    let of_orders = book.orders.into_iter().map(|order| order.venue);
                    let named = book.venues.into_iter().chain(book.unreachable);
                    return Ok(named.chain(of_positions).chain(of_orders).collect());
                }
                Err(why) if clock.monotonic() + wait >= deadline => return Err(why),
                Err(_) => clock.sleep(wait).await,
            }
            wait = longer(wait);
        }
    }

    /// Cancels what does not protect a position, once at each venue; whether nothing is left.
    pub(super) async fn cancel(&self, means: &Means, epoch: u64) -> bool {
        let deadline = self.outside.clock.monotonic() + self.config.close_within;
        let before = self.live.borrow().record.clone();
        self.live.send_modify(|live| live.record.phase = CoursePhase::Cancelling);
        let mut known = self.known_venues();
        for name in &known {
            self.edit_venue(name, |venue| venue.phase = VenuePhase::Cancelling);
        }
        if before.phase != CoursePhase::Cancelling && before.trouble.is_empty() {
            self.about_to("trading.cancel", "orders that don't protect a position").await;
        }
        failpoint::hit("emergency.cancelling");
        let mut venues: FuturesUnordered<_> =
            known.iter().map(|name| self.cancel_once(means, epoch, name.clone())).collect();
        // Those that are known wait for nobody who can't say which there are.
        let mut told = std::pin::pin!(self.discover(means, deadline));
        let (mut wait_for_names, mut done) = (true, true);
        loop {
            tokio::select! {
                names = &mut told, if wait_for_names => {
                    wait_for_names = false;
                    done &= names.is_ok();
                    for name in self.added(&mut known, names) {
                        venues.push(self.cancel_once(means, epoch, name));
                    }
                }
                Some(cancelled) = venues.next() => done &= cancelled,
                else => break,
            }
        }
        self.live.send_modify(|live| {
            live.record.cancelled = done;
            live.record.phase = match live.record.halted_at {
                Some(_) => CoursePhase::Halted,
                None => CoursePhase::Halting,
            };
        });
        // One that goes wrong in the same way each time is written down once.
        if self.live.borrow().record != before {
            match done {
                true => self.save("trading.cancelled", "orders are cancelled").await,
                false => self.fail("trading.cancel", "ORDERS_LEFT", "orders are left").await,
            }
            self.bell.ring();
        }
        done
    }

    async fn cancel_once(&self, means: &Means, epoch: u64, name: String) -> bool {
        let why = match self.outside.desk.cancel(means, epoch, &name, false).await {
            Ok(0) => String::new(),
            Ok(left) => format!("{left} orders could not be cancelled"),
            Err(why) => why,
        };
        let done = why.is_empty();
        self.edit_venue(&name, |venue| {
            venue.phase = if done { VenuePhase::Cancelled } else { VenuePhase::Cancelling };
            venue.why = why;
        });
        done
    }

    /// Takes over which venues there are; those that were not known. What can't be told, or is too much, is said.
    fn added(
        &self,
        known: &mut BTreeSet<String>,
        names: Result<BTreeSet<String>, String>,
    ) -> Vec<String> {
        let mut trouble = String::new();
        let mut added = Vec::new();
        match names {
            Ok(names) => {
                for name in names {
                    if known.contains(&name) {
                        continue;
                    }
                    if known.len() >= VENUES {
                        trouble =
                            format!("there are more than {VENUES} venues; {name} is not seen");
                        break;
                    }
                    known.insert(name.clone());
                    added.push(name);
                }
            }
            Err(why) => trouble = format!("which venues there are can't be told: {why}"),
        }
        self.live.send_modify(|live| live.record.trouble = trouble);
        added
    }

    /// Closes every position, and says how that has ended.
    pub(super) async fn close(&self, means: &Means, epoch: u64) {
        self.live.send_modify(|live| {
            // What was named once, and never seen, is not looked for for ever.
            let wanted = &self.config.venues;
            live.record.venues.retain(|name, venue| {
                wanted.contains(name) || venue.as_of.is_some() || !venue.orders.is_empty()
            });
            live.record.phase = CoursePhase::Closing;
            live.record.trouble = String::new();
            live.unseen = None;
        });
        self.about_to("trading.close", "positions are being closed").await;
        failpoint::hit("emergency.closing");
        let deadline = self.outside.clock.monotonic() + self.config.close_within;
        let mut known = self.known_venues();
        let mut venues: FuturesUnordered<_> = known
            .iter()
            .map(|name| self.close_venue(means, epoch, name.clone(), deadline))
            .collect();
        let mut told = std::pin::pin!(self.discover(means, deadline));
        let mut wait_for_names = true;
        loop {
            tokio::select! {
                names = &mut told, if wait_for_names => {
                    wait_for_names = false;
                    for name in self.added(&mut known, names) {
                        venues.push(self.close_venue(means, epoch, name, deadline));
                    }
                }
                Some(()) = venues.next() => {}
                else => break,
            }
        }
        self.look_once_more(means).await;
        let halted = self.halted_to_the_end(means).await;
        let now = self.now();
        let mut phase = CoursePhase::FlatUnproven;
        self.live.send_modify(|live| {
            phase = decide::overall(&live.record, halted.is_ok());
            if let (Err(why), true) = (&halted, live.record.trouble.is_empty()) {
                live.record.trouble = format!("trading is not known to be halted: {why}");
            }
            live.record.phase = phase;
            if let Some(closing) = &mut live.record.closing {
                closing.ended_at = Some(now);
            }
        });
        failpoint::hit("emergency.phase");
        let (action, said) = match phase {
            CoursePhase::Flat => ("trading.flat", "every venue was seen empty twice"),
            _ => ("trading.flat-unproven", "not every venue was seen empty"),
        };
        tracing::warn!(action, said, "closing has ended");
        match phase {
            CoursePhase::Flat => self.save(action, said).await,
            _ => self.fail(action, "FLAT_UNPROVEN", said).await,
        }
        // Whatever the record says after a crash: what has ended does not begin again by itself.
        let path = Arc::clone(&self.file);
        if let Err(error) = on_disk(move || file::remove(&path)).await {
            tracing::warn!(%error, file = %self.file.display(), "it can't be removed");
        }
        failpoint::hit("emergency.flat");
        self.bell.ring();
    }

    /// Whether trading is halted, asked after the last look: what was seen holds only as long as no order leaves.
    async fn halted_to_the_end(&self, means: &Means) -> Result<(), String> {
        let Some(emergency) = self.emergency.current() else {
            return Err("there is no emergency".to_owned());
        };
        let mut last = Ok(());
        for _ in 0..ASKED {
            last = self.halt(means, &emergency).await;
            if last.is_ok() {
                break;
            }
            self.outside.clock.sleep(RETRY).await;
        }
        last
    }

    /// Looks at all venues together, once each of them was flat: the first may have been for a while.
    async fn look_once_more(&self, means: &Means) {
        let proven = |phase: VenuePhase| phase == VenuePhase::Flat;
        if !self.live.borrow().record.venues.values().all(|venue| proven(venue.phase)) {
            return;
        }
        let clock = &self.outside.clock;
        let asked = tokio::select! {
            asked = self.outside.desk.book(means, "") => asked,
            () = clock.sleep(LAST) => Err(format!("no answer within {LAST:?}")),
        };
        let now = self.now();
        let trouble = match &asked {
            Err(why) => format!("the venues could not be looked at once more: {why}"),
            Ok(book) => {
                let known = self.known_venues();
                let away = known
                    .iter()
                    .find(|name| book.unreachable.contains(name) || !book.venues.contains(name));
                let new = book.venues.iter().find(|name| !known.contains(*name));
                let odd = book.odd.first().map(|(name, why)| format!("{name}: {why}"));
                decide::reappeared(CoursePhase::Flat, &book.positions, book.orders.len())
                    .or(odd)
                    .or(away.map(|name| format!("{name} could not be looked at once more")))
                    .or(new.map(|name| format!("{name} is there, and was not looked at")))
                    .unwrap_or_default()
            }
        };
        if let Ok(book) = asked {
            for name in self.known_venues().iter().filter(|name| book.venues.contains(name)) {
                self.edit_venue(name, |venue| venue::see(venue, name, &book, now));
            }
        }
        if !trouble.is_empty() {
            self.live.send_modify(|live| live.record.trouble = trouble);
        }
    }

    /// Looks at what the venues have, and notices what is there again.
    pub(super) async fn look(&self, means: &Means) {
        let asked = self.outside.desk.book(means, "").await;
        let (now, phase) = (self.now(), self.live.borrow().record.phase);
        let unseen = match &asked {
            Err(why) => Some(why.clone()),
            Ok(book) => self
                .known_venues()
                .into_iter()
                .find(|name| book.unreachable.contains(name) || !book.venues.contains(name))
                .map(|name| format!("{name} can't be looked at")),
        };
        self.unseen(unseen.filter(|_| phase == CoursePhase::Flat), now);
        let Ok(book) = asked else { return };
        let again = decide::reappeared(phase, &book.positions, book.orders.len());
        for name in self.known_venues().into_iter().chain(book.venues.iter().cloned()) {
            let known = self.live.borrow().record.venues.len();
            let seen = book.venues.contains(&name) && !book.unreachable.contains(&name);
            if seen && (known < VENUES || self.known_venues().contains(&name)) {
                self.edit_venue(&name, |venue| venue::see(venue, &name, &book, now));
            }
        }
        let undone = !self.live.borrow().not_durable.is_empty();
        if let Some(again) = &again {
            tracing::error!(again, "trading is not flat any more");
            self.live.send_modify(|live| {
                live.record.phase = CoursePhase::FlatUnproven;
                live.record.trouble.clone_from(again);
                let open = |it: &&mut VenueRecord| !it.positions.is_empty() || it.open_orders > 0;
                for venue in live.record.venues.values_mut().filter(open) {
                    venue.phase = VenuePhase::Unproven;
                }
            });
        }
        match again {
            Some(again) => {
                self.fail("trading.reappeared", "FLAT_UNPROVEN", &again).await;
                self.bell.ring();
            }
            None if undone => self.save("emergency.course", "as it stands").await,
            None => {}
        }
    }

    /// Keeps since when what was flat can't be looked at; `None`: it can.
    fn unseen(&self, why: Option<String>, now: Timestamp) {
        let before = self.live.borrow().unseen.clone();
        let after = why.map(|why| (before.as_ref().map_or(now, |(since, _)| *since), why));
        if before == after {
            return;
        }
        if let Some((_, why)) = &after {
            tracing::warn!(why, "the venues can't be looked at");
        }
        self.live.send_modify(|live| live.unseen = after);
        self.bell.ring();
    }
}
