//! One producer's way to an agent: batches in order, so many unanswered at most, sent again after a break.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Settled, Wire, named};
use crate::{Client, Error, Kind};

/// How many batches may be unanswered, where nothing else is said.
pub const DEFAULT_WINDOW: usize = 8;

/// How often in a row a broken stream is opened again without an answer in between. With the pauses this is over half a
/// minute: time for an agent to be restarted.
const RESUMES: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause where the agent is out of reach, and where it refuses.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE_REFUSED: Duration = Duration::from_secs(60);
/// How long the agent has to end its side of the stream.
const GOODBYE: Duration = Duration::from_secs(2);

/// Batches on their way to an agent.
///
/// A batch is kept until the agent has answered it. After a break the stream is opened again, and those that were not
/// answered are sent once more under the same producer and sequence, by which the agent knows those it has.
pub struct BatchStream<W: Wire> {
    client: Client,
    producer: String,
    window: usize,
    /// Ascending.
    unanswered: VecDeque<Unanswered<W>>,
    /// So many of them were handed to the connection.
    handed: usize,
    link: Link<W>,
    last_sequence: u64,
    /// One of the batches up to this one is invalid: until it is known which, they are sent one by one.
    suspect: Option<u64>,
    breaks: u32,
    opened: u64,
}

struct Unanswered<W: Wire> {
    sequence: u64,
    request: W::Request,
    rows: u64,
    sent: u32,
}

type Opened<W> = (mpsc::Sender<<W as Wire>::Request>, Streaming<<W as Wire>::Answer>);
type Opening<W> = dyn Future<Output = Result<Opened<W>, Error>> + Send;

enum Link<W: Wire> {
    Down,
    Resting(Pin<Box<Sleep>>),
    Opening(Pin<Box<Opening<W>>>),
    Up(mpsc::Sender<W::Request>, Box<Streaming<W::Answer>>),
}

impl<W: Wire> BatchStream<W> {
    /// One of `producer` that leaves at most `window` batches unanswered. Connects with the first batch.
    ///
    /// # Errors
    /// `Invalid` when `producer` is not 1 to 64 of a-z, A-Z, 0-9 and -_.:/
    pub fn new(client: Client, producer: &str, window: usize) -> Result<Self, Error> {
        Ok(Self {
            client,
            producer: named(producer.to_owned())?,
            window: window.max(1),
            unanswered: VecDeque::new(),
            handed: 0,
            link: Link::Down,
            last_sequence: 0,
            suspect: None,
            breaks: 0,
            opened: 0,
        })
    }

    /// Who sends.
    pub fn producer(&self) -> &str {
        &self.producer
    }

    /// Whether one more batch is taken without an answer to another.
    pub fn has_room(&self) -> bool {
        self.unanswered.len() < self.window
    }

    /// How many batches were taken and not answered.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// The lowest sequence that was not answered.
    pub fn lowest_unanswered(&self) -> Option<u64> {
        self.unanswered.front().map(|one| one.sequence)
    }

    /// How often the stream was opened again.
    pub fn reconnects(&self) -> u64 {
        self.opened.saturating_sub(1)
    }

    /// Takes a batch. It is on its way with the next call of [`Self::next`] or [`Self::advance`].
    ///
    /// # Errors
    /// `Unavailable` where there is no room, see [`Self::has_room`]; `Invalid` where `sequence` is not above that of the
    /// batch before.
    pub fn push(&mut self, sequence: u64, columns: Vec<W::Column>) -> Result<(), Error> {
        if !self.has_room() {
            let message = format!("{} batches are unanswered already", self.unanswered.len());
            let next = "wait for an answer first";
            return Err(Error::new(
                Kind::Unavailable,
                "RESOURCE_EXHAUSTED",
                "WINDOW_FULL",
                message,
                next,
            ));
        }
        if sequence <= self.last_sequence {
            let message = format!("batch {sequence} comes after batch {}", self.last_sequence);
            return Err(Error::invalid("SEQUENCE_INVALID", message, "count upwards, from 1"));
        }
        self.last_sequence = sequence;
        let rows = columns.iter().map(W::rows).sum();
        let request = W::request(self.producer.clone(), sequence, columns);
        self.unanswered.push_back(Unanswered { sequence, request, rows, sent: 0 });
        self.hand();
        Ok(())
    }

    /// Waits until it is known what became of a batch; `None`: all are answered. Connects, and after a break connects
    /// again, for about half a minute without an answer. May be dropped and called again at any time.
    ///
    /// # Errors
    /// What the agent refuses all batches with, or how the connection failed. The batches are kept: another call tries
    /// again.
    pub async fn next(&mut self) -> Result<Option<Settled<W::Answer>>, Error> {
        loop {
            match self.advance().await {
                Err(error) if passes(&error) && self.breaks <= RESUMES => {}
                ended => return ended,
            }
        }
    }

    /// [`Self::next`] that tells of each break, whatever it is. Another call waits for a while, longer from break to
    /// break, and tries again.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn advance(&mut self) -> Result<Option<Settled<W::Answer>>, Error> {
        loop {
            if self.unanswered.is_empty() {
                return Ok(None);
            }
            let broken = match &mut self.link {
                Link::Down => {
                    self.open();
                    continue;
                }
                Link::Resting(pause) => {
                    pause.as_mut().await;
                    self.link = Link::Down;
                    continue;
                }
                Link::Opening(opening) => match opening.as_mut().await {
                    Ok((requests, answers)) => {
                        self.link = Link::Up(requests, Box::new(answers));
                        self.hand();
                        continue;
                    }
                    Err(error) => error,
                },
                Link::Up(_, answers) => match self.client.next(answers).await {
                    Ok(Some(answer)) => match self.answered(answer) {
                        Some(settled) => return Ok(Some(settled)),
                        None => continue,
                    },
                    Ok(None) => ended(&self.client),
                    Err(error) => error,
                },
            };
            if let Some(settled) = self.broke(broken)? {
                return Ok(Some(settled));
            }
        }
    }

    /// Ends the stream, so that the agent sees that no more will come. What was not answered is given up.
    pub async fn close(self) {
        let Link::Up(requests, mut answers) = self.link else { return };
        drop(requests);
        let rest = async { while let Ok(Some(_)) = answers.message().await {} };
        // One that does not end it has all the same what it has answered.
        let _ = tokio::time::timeout(GOODBYE, rest).await;
    }

    /// How many batches the connection may hold.
    fn most(&self) -> usize {
        if self.suspect.is_some() { 1 } else { self.window }
    }

    fn open(&mut self) {
        self.opened += 1;
        self.handed = self.unanswered.len().min(self.most());
        let mut first = Vec::with_capacity(self.handed);
        for one in self.unanswered.iter_mut().take(self.handed) {
            one.sent = one.sent.saturating_add(1);
            first.push(one.request.clone());
        }
        let (client, window) = (self.client.clone(), self.window);
        self.link = Link::Opening(Box::pin(async move {
            let latest = Arc::new(Mutex::new(None));
            let slot = latest.clone();
            let answers = client
                .call(first, move |client, batches| {
                    let (requests, outgoing) = mpsc::channel(window);
                    for batch in batches {
                        // There is room for the whole window.
                        let _ = requests.try_send(batch);
                    }
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(requests);
                    W::open(client, ReceiverStream::new(outgoing))
                })
                .await?;
            let requests = latest.lock().unwrap_or_else(PoisonError::into_inner).take();
            requests.map(|requests| (requests, answers)).ok_or_else(|| ended(&client))
        }));
    }

    /// Hands the connection what it may hold.
    fn hand(&mut self) {
        let most = self.most();
        let Link::Up(requests, _) = &self.link else { return };
        while self.handed < most {
            let Some(one) = self.unanswered.get_mut(self.handed) else { break };
            // Where it is closed the answers end, too, and say why.
            if requests.try_send(one.request.clone()).is_err() {
                break;
            }
            one.sent = one.sent.saturating_add(1);
            self.handed += 1;
        }
    }

    fn answered(&mut self, answer: W::Answer) -> Option<Settled<W::Answer>> {
        let sequence = W::sequence(&answer);
        let mut known = self.unanswered.iter().take(self.handed);
        // What was not asked is not answered.
        let index = known.position(|one| one.sequence == sequence)?;
        let one = self.unanswered.remove(index)?;
        self.breaks = 0;
        self.settled();
        Some(Settled::Acknowledged { answer, rows: one.rows, repeated: one.sent > 1 })
    }

    /// One that was handed over is gone, so there may be room for others.
    fn settled(&mut self) {
        self.handed = self.handed.saturating_sub(1);
        let lowest = self.lowest_unanswered().unwrap_or(u64::MAX);
        self.suspect = self.suspect.filter(|last| lowest <= *last);
        self.hand();
    }

    /// The stream has ended. All that was not answered is sent again once it is open.
    fn broke(&mut self, error: Error) -> Result<Option<Settled<W::Answer>>, Error> {
        self.link = Link::Down;
        let handed = std::mem::take(&mut self.handed);
        if error.reason == "BATCH_INVALID" && handed > 0 {
            if handed > 1 {
                self.suspect = self.unanswered.get(handed - 1).map(|one| one.sequence);
                return Ok(None);
            }
            let Some(one) = self.unanswered.pop_front() else { return Err(error) };
            self.settled();
            return Ok(Some(Settled::Invalid { sequence: one.sequence, rows: one.rows, error }));
        }
        self.breaks = self.breaks.saturating_add(1);
        self.link = Link::Resting(Box::pin(tokio::time::sleep(pause(&error, self.breaks))));
        Err(error)
    }
}

fn ended(client: &Client) -> Error {
    let message = format!("{} ended the stream before it had answered all of it", client.node());
    let next = "try again; if it happens again, look at the agent's log";
    Error::new(Kind::Unreachable, "UNAVAILABLE", "CONNECTION_BROKEN", message, next)
}

/// Whether it is likely to be over soon: the agent is restarted, or busy.
fn passes(error: &Error) -> bool {
    let persists = [
        "TOO_MANY_PRODUCERS",
        "OBSERVATIONS_UNAVAILABLE",
        "EXPERIMENTS_UNAVAILABLE",
        "SERIES_UNAVAILABLE",
        "STORAGE_FAILED",
        "STORAGE_NEEDS_RESTART",
        "STORAGE_RECORD_UNREADABLE",
        "TOO_MANY_TRADES",
    ];
    !persists.contains(&&*error.reason)
        && (matches!(error.kind, Kind::Unreachable | Kind::Unavailable)
            || error.code == "CANCELLED")
}

/// How long to wait before the stream is opened again after so many breaks.
fn pause(error: &Error, breaks: u32) -> Duration {
    let longest = if passes(error) { LONGEST_PAUSE } else { LONGEST_PAUSE_REFUSED };
    let doubled = FIRST_PAUSE.saturating_mul(1 << breaks.saturating_sub(1).min(10));
    doubled.max(error.retry_after.unwrap_or_default()).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_where_the_agent_refuses() {
        let refused = Error::new(Kind::NotAllowed, "PERMISSION_DENIED", "ROLE_TOO_LOW", "m", "n");
        let away = Error::new(Kind::Unreachable, "UNAVAILABLE", "AGENT_UNREACHABLE", "m", "n");
        let millis = |error, breaks| pause(error, breaks).as_millis();
        assert_eq!([1, 2, 3, 11].map(|n| millis(&refused, n)), [100, 200, 400, 60_000]);
        assert_eq!(
            [1, 2, 5, 6, u32::MAX].map(|n| millis(&away, n)),
            [100, 200, 1_600, 2_000, 2_000]
        );
        let full = Error::new(Kind::Unavailable, "UNAVAILABLE", "TOO_MANY_TRADES", "m", "n");
        assert_eq!([1, 11].map(|n| millis(&full, n)), [100, 60_000]);
    }
}
