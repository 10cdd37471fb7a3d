//! Follows the agent's breaker, and connects again when the agent was away.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use genesis_proto::v1;

use super::local::State;
use super::{Gate, Inner, clock, nanoseconds};
use crate::target::Pauses;
use crate::{Client, Error, Node, Options};

/// The agent says every 5 s that it lives; silent for so long, it is away.
const SILENCE: Duration = Duration::from_secs(16);

/// What the agent has said last.
#[derive(Debug)]
pub(super) struct Followed {
    /// It is there.
    pub(super) present: bool,
    /// As the agent has it; of one that is away, only what a person opened until a reset.
    pub(super) state: State,
    /// In state open: until when, unless until a reset.
    pub(super) until: Option<Duration>,
}

impl Default for Followed {
    fn default() -> Self {
        Self { present: false, state: State::Closed, until: None }
    }
}

impl Gate {
    /// The agent says how its breaker is; `None`: it has none of this name.
    pub(super) fn hear(&mut self, breaker: Option<&v1::Breaker>, now: Duration) {
        let state = match breaker.map(v1::Breaker::state) {
            Some(v1::BreakerState::Open) => State::Open,
            Some(v1::BreakerState::HalfOpen) => State::HalfOpen,
            Some(v1::BreakerState::Closed | v1::BreakerState::Unspecified) | None => State::Closed,
        };
        let remaining = breaker.and_then(|breaker| breaker.remaining.as_ref());
        let remaining = remaining.and_then(|remaining| Duration::try_from(*remaining).ok());
        if state != State::HalfOpen {
            self.granted.clear();
            self.wanted = 0;
        }
        self.agent = Followed {
            present: true,
            state,
            until: remaining.map(|remaining| now.saturating_add(remaining)),
        };
    }

    /// The agent has gone: what it had opened for a time goes on by itself.
    pub(super) fn lose(&mut self, now: Duration) {
        self.granted.clear();
        (self.wanted, self.client) = (0, None);
        self.agent.present = false;
        match (self.agent.state, self.agent.until) {
            (State::Open, None) => {}
            (State::Closed, _) => self.agent.until = None,
            (State::Open | State::HalfOpen, until) => {
                self.local.open_until(until.unwrap_or(now));
                self.agent = Followed::default();
            }
        }
    }
}

pub(super) async fn run(inner: Weak<Inner>, node: Node, options: Options) {
    let mut pauses = Pauses::new();
    loop {
        if let Ok(client) = Client::connect(&node, options.clone()).await
            && follow(&inner, &client).await.is_ok_and(|heard| heard)
        {
            pauses.reset();
        }
        let Some(breaker) = inner.upgrade() else { return };
        breaker.change(|gate| gate.lose(clock::monotonic()));
        drop(breaker);
        pauses.rest().await;
    }
}

/// Until the agent has gone. `true`: it had said something.
async fn follow(inner: &Weak<Inner>, client: &Client) -> Result<bool, Error> {
    let Some(name) = inner.upgrade().map(|inner| inner.name.to_string()) else { return Ok(false) };
    let request = v1::WatchBreakersRequest { names: vec![name] };
    let mut stream =
        client.call(request, |c, r| async move { c.breaker().watch_breakers(r).await }).await?;
    let mut heard = false;
    loop {
        let next = tokio::time::timeout(SILENCE, client.next(&mut stream)).await;
        let Ok(Ok(Some(message))) = next else { return Ok(heard) };
        let Some(inner) = inner.upgrade() else { return Ok(heard) };
        let breaker = message.breakers.first();
        let now = clock::monotonic();
        inner.change(|gate| {
            if !heard {
                gate.client = Some(client.clone());
            }
            if breaker.is_some() || !heard {
                gate.hear(breaker, now);
            }
            gate.window = message.window.and_then(|window| Duration::try_from(window).ok());
        });
        heard = true;
        let said = breaker.and_then(|breaker| breaker.slow_after.as_ref());
        let said = said.and_then(|said| Duration::try_from(*said).ok());
        if let (None, Some(said)) = (inner.settings.slow_after, said) {
            inner.slow_after.store(nanoseconds(said), Ordering::Relaxed);
        }
        inner.hurry.notify_one();
    }
}
