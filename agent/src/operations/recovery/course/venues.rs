//! All venues together: cancelled, closed, looked at.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use genesis_storage::{CoursePhase, VenuePhase};

use super::{Course, RETRY, decide, longer, venue};
use crate::outside::control::{Means, VENUES};
use crate::outside::failpoint;

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
        let mut venues = self.known_venues();
        let told = self.discover(means, deadline).await;
        self.live.send_modify(|live| {
            live.record.phase = CoursePhase::Cancelling;
            live.record.trouble = match &told {
                Ok(_) => String::new(),
                Err(why) => format!("which venues there are can't be told: {why}"),
            };
        });
        let whole = told.is_ok();
        venues.extend(told.unwrap_or_default().into_iter().take(VENUES));
        for name in &venues {
            self.edit_venue(name, |venue| venue.phase = VenuePhase::Cancelling);
        }
        self.save("trading.cancel", "orders that don't protect a position").await;
        failpoint::hit("emergency.cancelling");
        let each = venues.iter().map(|name| async move {
            let left = self.outside.desk.cancel(means, epoch, name, false).await;
            let why = match left {
                Ok(0) => String::new(),
                Ok(left) => format!("{left} orders could not be cancelled"),
                Err(why) => why,
            };
            let done = why.is_empty();
            self.edit_venue(name, |venue| {
                venue.phase = if done { VenuePhase::Cancelled } else { VenuePhase::Cancelling };
                venue.why = why;
            });
            done
        });
        let done = futures_util::future::join_all(each).await.into_iter().all(|done| done) && whole;
        self.live.send_modify(|live| {
            live.record.cancelled = done;
            live.record.phase = match live.record.halted_at {
                Some(_) => CoursePhase::Halted,
                None => CoursePhase::Halting,
            };
        });
        let said = if done { "orders are cancelled" } else { "orders are left" };
        self.save("trading.cancelled", said).await;
        self.bell.ring();
        done
    }

    /// Closes every position, and says how that has ended.
    pub(super) async fn close(&self, means: &Means, epoch: u64) {
        let deadline = self.outside.clock.monotonic() + self.config.close_within;
        let mut known = self.known_venues();
        self.live.send_modify(|live| {
            live.record.phase = CoursePhase::Closing;
            live.record.trouble = String::new();
        });
        self.save("trading.close", "positions are being closed").await;
        failpoint::hit("emergency.closing");
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
                    match names {
                        Ok(names) => {
                            for name in names {
                                if known.len() < VENUES && known.insert(name.clone()) {
                                    venues.push(self.close_venue(means, epoch, name, deadline));
                                }
                            }
                        }
                        Err(why) => self.live.send_modify(|live| {
                            live.record.trouble = format!("which venues there are can't be told: {why}");
                        }),
                    }
                }
                Some(()) = venues.next() => {}
                else => break,
            }
        }
        let now = self.now();
        let mut phase = CoursePhase::FlatUnproven;
        self.live.send_modify(|live| {
            phase = decide::overall(&live.record);
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
        self.save(action, said).await;
        failpoint::hit("emergency.flat");
        self.bell.ring();
    }

    /// Looks at what the venues have, and notices what is there again.
    pub(super) async fn look(&self, means: &Means) {
        let book = match self.outside.desk.book(means, "").await {
            Ok(book) => book,
            Err(why) => {
                tracing::warn!(why, "the venues can't be looked at");
                return;
            }
        };
        let now = self.now();
        let phase = self.live.borrow().record.phase;
        let again = decide::reappeared(phase, &book.positions);
        for name in self.known_venues().into_iter().chain(book.venues.iter().cloned()) {
            if book.unreachable.contains(&name) || !book.venues.contains(&name) {
                continue;
            }
            self.edit_venue(&name, |venue| venue::see(venue, &name, &book, now));
        }
        let undone = !self.live.borrow().not_durable.is_empty();
        if let Some(again) = &again {
            tracing::error!(again, "trading is not flat any more");
            self.live.send_modify(|live| {
                live.record.phase = CoursePhase::FlatUnproven;
                live.record.trouble = again.clone();
                for venue in live.record.venues.values_mut().filter(|it| !it.positions.is_empty()) {
                    venue.phase = VenuePhase::Unproven;
                }
            });
        }
        match again {
            Some(again) => {
                self.save("trading.reappeared", &again).await;
                self.bell.ring();
            }
            None if undone => self.save("emergency.course", "as it stands").await,
            None => {}
        }
    }
}
