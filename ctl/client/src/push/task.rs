//! What the pusher does in the background.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use super::Wire;
use super::buffer::Buffer;
use super::stream::BatchStream;
use crate::target::{Pauses, Target};
use crate::{Client, Error};

pub(super) struct Task<W: Wire> {
    pub(super) buffer: Arc<Buffer<W>>,
    pub(super) producer: String,
    pub(super) first_sequence: u64,
    pub(super) window: usize,
    pub(super) linger: Duration,
    /// Told when all that was taken before is answered.
    pub(super) flushes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
}

impl<W: Wire> Task<W> {
    /// Until the pusher is gone.
    pub(super) async fn run(mut self, target: Target) {
        let client = self.connect(&target).await;
        match BatchStream::new(client, &self.producer, self.window) {
            Ok(stream) => self.push(stream).await,
            // The name was looked at before.
            Err(error) => self.buffer.failed(error),
        }
    }

    async fn connect(&self, target: &Target) -> Client {
        let mut pauses = Pauses::new();
        loop {
            match target.client().await {
                Ok(client) => return client,
                Err(error) => self.buffer.failed(error),
            }
            pauses.rest().await;
        }
    }

    async fn push(&mut self, mut stream: BatchStream<W>) {
        let mut sequence = self.first_sequence.max(1);
        // Of each batch that is not answered, its sequence and the last chunk in it.
        let mut sent: VecDeque<(u64, u64)> = VecDeque::new();
        let mut answered = 0;
        let mut waiting: Vec<(u64, oneshot::Sender<()>)> = Vec::new();
        let mut linger: Option<Pin<Box<Sleep>>> = None;
        loop {
            while stream.has_room()
                && let Some(batch) = self.buffer.next_batch()
            {
                self.buffer.sent(&batch.columns);
                if let Err(error) = stream.push(sequence, batch.columns) {
                    // There is room, and the sequence grows.
                    self.buffer.failed(error);
                }
                sent.push_back((sequence, batch.ticket));
                sequence += 1;
            }
            let held = self.buffer.held() > 0;
            if !held {
                linger = None;
            } else if linger.is_none() {
                linger = Some(Box::pin(tokio::time::sleep(self.linger)));
            }
            tokio::select! {
                settled = stream.advance(), if stream.unanswered() > 0 => match settled {
                    Ok(Some(settled)) => self.buffer.settle(&self.producer, settled),
                    Ok(None) => {}
                    Err(error) => self.buffer.failed(error),
                },
                () = self.buffer.wake.notified() => {}
                () = over(&mut linger), if stream.has_room() => {
                    linger = None;
                    self.buffer.sweep();
                }
                flush = self.flushes.recv() => match flush {
                    Some(done) => waiting.push((self.buffer.sweep(), done)),
                    None => return stream.close().await,
                },
            }
            self.buffer.reconnects(stream.reconnects());
            // All below the lowest that is not answered are, and with them their chunks.
            let lowest = stream.lowest_unanswered().unwrap_or(u64::MAX);
            while let Some((_, ticket)) = sent.front().filter(|(sequence, _)| *sequence < lowest) {
                answered = *ticket;
                sent.pop_front();
            }
            let (done, rest) = waiting.into_iter().partition(|(ticket, _)| *ticket <= answered);
            waiting = rest;
            for (_, done) in done {
                // Whoever asked may have given up.
                let _ = done.send(());
            }
        }
    }
}

async fn over(linger: &mut Option<Pin<Box<Sleep>>>) {
    match linger {
        Some(linger) => linger.as_mut().await,
        None => std::future::pending().await,
    }
}

/// What stands in the way of what was not answered in time.
pub(super) fn unanswered<W: Wire>(buffer: &Buffer<W>, limit: Duration) -> Error {
    let stats = buffer.stats();
    let why = stats.last_error.map_or_else(String::new, |error| format!(": {error}"));
    let (held, what) = (stats.buffered, W::WHAT);
    let message = format!("{held} {what} are not acknowledged within {limit:?}{why}");
    let next = "give it more time, or see whether the agent is well with `genesisctl status`";
    Error::new(crate::Kind::Incomplete, "DEADLINE_EXCEEDED", "NOT_ACKNOWLEDGED", message, next)
}
