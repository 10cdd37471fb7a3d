//! One call after the other: its faults, what it makes of the book, and the book on disk before the answer.

use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;

use super::book::{Book, CallRecord};
use super::desk::{self, Holdings, Manner, Refusal};
use super::faults::{self, Call, Comeback, Effects, Faults, Kind};
use super::keep::Keep;
use crate::outside::{Clock, failpoint};

/// The paper venue. Calls wait for each other only while one is decided and written: a call that a fault puts off or
/// hangs holds nothing.
pub(super) struct PaperVenue {
    book: Mutex<Book>,
    keep: Keep,
    faults: Mutex<Faults>,
    clock: Arc<dyn Clock>,
}

/// A call that came.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The rpc.
    pub(super) call: Call,
    /// The venue that it names.
    pub(super) venue: String,
    /// The emergency that it names.
    pub(super) epoch: Option<u64>,
    /// The orders that it names.
    pub(super) ids: Vec<String>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer<T> {
    /// What is so.
    pub(super) truth: T,
    /// It is to be said so that it makes no sense.
    pub(super) junk: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is replaced whole, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn gone<E>(_: E) -> Refusal {
    Refusal::Broken("the call was cut off".to_owned())
}

impl PaperVenue {
    /// One with this book, kept there.
    pub(super) fn new(
        (keep, book): (Keep, Book),
        faults: Faults,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self { book: Mutex::new(book), keep, faults: Mutex::new(faults), clock })
    }

    /// The time on its clock.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Carries a call out: `act` makes of the book what the call asks for.
    ///
    /// # Errors
    /// Those of `act`, of the faults, and where the book can't be kept: then nothing was done.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        asked: Asked,
        act: impl FnOnce(&mut Book, Manner, Timestamp) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Answer<T>, Refusal> {
        let (own, call, venue) = (Arc::clone(self), asked.call, asked.venue.clone());
        let met = tokio::task::spawn_blocking(move || {
            let mut faults = lock(&own.faults);
            faults.refresh().map(|()| faults.meet(call, &venue, true))
        });
        let effects = met.await.map_err(gone)?.map_err(Refusal::Broken)?;
        self.carry_out(asked, effects, act).await
    }

    /// What a venue holds, or all of them where none is named.
    ///
    /// # Errors
    /// There is no such venue; those of [`PaperVenue::call`].
    pub(super) async fn positions(
        self: &Arc<Self>,
        venue: String,
    ) -> Result<Answer<Holdings>, Refusal> {
        let (own, of) = (Arc::clone(self), venue.clone());
        let met = tokio::task::spawn_blocking(move || own.meet_positions(&of));
        let (mut effects, silent, comebacks) = met.await.map_err(gone)?.map_err(Refusal::Broken)?;
        if !silent.is_empty() {
            effects.named = effects.named.or(Some(Kind::Fail));
        }
        let asked = Asked { call: Call::Positions, venue, epoch: None, ids: Vec::new() };
        let of = asked.venue.clone();
        let act = move |book: &mut Book, _: Manner, _: Timestamp| {
            let came: Vec<Comeback> = comebacks
                .into_iter()
                .filter(|back| of.is_empty() || back.venue == of)
                .filter(|back| !silent.contains(&back.venue))
                .filter(|back| desk::reappear(book, &back.venue, &back.symbol, back.quantity))
                .collect();
            desk::holdings(book, &of, &silent).map(|held| (held, came))
        };
        let Answer { truth: (held, came), junk } = self.carry_out(asked, effects, act).await?;
        let mut faults = lock(&self.faults);
        came.iter().for_each(|back| faults.came_back(back));
        faults.told_flat(&held.flat);
        drop(faults);
        Ok(Answer { truth: held, junk })
    }

    /// Who asks about all venues is not held by one of them: that one has not answered.
    fn meet_positions(&self, venue: &str) -> Result<(Effects, Vec<String>, Vec<Comeback>), String> {
        let venues: Vec<String> = match venue {
            "" => lock(&self.book).venues.keys().cloned().collect(),
            _ => Vec::new(),
        };
        let mut faults = lock(&self.faults);
        faults.refresh()?;
        let mut effects = faults.meet(Call::Positions, venue, true);
        let mut silent = Vec::new();
        for venue in venues {
            let of_it = faults.meet(Call::Positions, &venue, false);
            effects.delay = effects.delay.max(of_it.delay);
            match of_it.end {
                Some(Kind::Junk) => effects.end = effects.end.or(of_it.end),
                Some(_) => silent.push(venue),
                None => {}
            }
        }
        Ok((effects, silent, faults.comebacks()))
    }

    async fn carry_out<T: Send + 'static>(
        self: &Arc<Self>,
        asked: Asked,
        effects: Effects,
        act: impl FnOnce(&mut Book, Manner, Timestamp) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Answer<T>, Refusal> {
        if !effects.delay.is_zero() {
            self.clock.sleep(effects.delay).await;
        }
        let own = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || own.decide(asked, effects, act));
        let truth = done.await.map_err(gone)??;
        match (truth, effects.end) {
            (_, Some(Kind::Hang)) => std::future::pending().await,
            (Some(truth), end) if end != Some(Kind::LoseReply) => {
                Ok(Answer { truth, junk: end == Some(Kind::Junk) })
            }
            (None, _) => Err(Refusal::Away("it is down, by a fault".to_owned())),
            (Some(_), _) => Err(Refusal::Away("the answer is lost, by a fault".to_owned())),
        }
    }

    /// Decides the call and keeps the book; `None` where a fault has nothing done.
    fn decide<T>(
        &self,
        asked: Asked,
        effects: Effects,
        act: impl FnOnce(&mut Book, Manner, Timestamp) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        let resting = lock(&self.faults).resting();
        let mut book = lock(&self.book);
        let now = self.clock.now();
        let settled = || {
            let mut next = book.clone();
            let venues: Vec<String> = next.venues.keys().cloned().collect();
            for venue in venues.iter().filter(|venue| !resting.at(venue)) {
                desk::let_go(&mut next, venue);
            }
            next
        };
        let mut next = settled();
        let answer = match effects.end {
            Some(Kind::Fail | Kind::Hang) => Ok(None),
            // What a refused call has made of the book does not count.
            _ => act(&mut next, effects.manner, now).map(Some).inspect_err(|_| next = settled()),
        };
        let outcome = match (&answer, effects.end) {
            (Err(refusal), _) => refusal.word(),
            (Ok(_), Some(Kind::Fail)) => "unavailable",
            (Ok(_), Some(Kind::Hang)) => "no answer",
            (Ok(_), Some(Kind::LoseReply)) => "answer lost",
            (Ok(_), _) => "ok",
        };
        let Asked { call, venue, epoch, ids } = asked;
        next.note(CallRecord {
            at: now,
            call: format!("{call:?}"),
            // Whoever calls may have named anything.
            venue: venue.chars().take(128).collect(),
            epoch,
            ids: ids.into_iter().take(desk::CALL_LIMIT).filter(|id| id.len() <= 128).collect(),
            fault: effects.named.map(faults::name),
            outcome: outcome.to_owned(),
        });
        failpoint::hit("paper.decided");
        self.keep
            .save(&next)
            .map_err(|error| Refusal::Broken(format!("the book can't be kept: {error}")))?;
        *book = next;
        failpoint::hit("paper.kept");
        answer
    }
}
