//! Whom work in the background talks to, and how long it waits where that one is away.

use std::time::Duration;

use crate::{Client, Error, Node, Options};

/// Whom to talk to.
pub(crate) enum Target {
    /// Who is connected to already.
    Connected(Box<Client>),
    /// Who need not be there yet.
    Node(Node, Box<Options>),
}

impl Target {
    pub(crate) async fn client(&self) -> Result<Client, Error> {
        match self {
            Self::Connected(client) => Ok((**client).clone()),
            Self::Node(node, options) => Client::connect(node, (**options).clone()).await,
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pauses before an agent that is away is asked again: each twice as long as the one before.
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// It was there: the next pause is the first again.
    pub(crate) fn reset(&mut self) {
        self.0 = FIRST_PAUSE;
    }

    pub(crate) async fn rest(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}
