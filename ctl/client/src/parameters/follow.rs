//! Hears of changes from the agent, and connects again when it was away.

use std::sync::Weak;
use std::time::Duration;

use genesis_proto::v1::GetParametersRequest;

use super::Inner;
use crate::{Client, Error, Kind, Node, Options};

/// Pauses before the agent is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Whom to follow.
pub(super) enum Target {
    Connected(Box<Client>),
    Node(Node, Box<Options>),
}

impl Target {
    async fn client(&self) -> Result<Client, Error> {
        match self {
            Self::Connected(client) => Ok((**client).clone()),
            Self::Node(node, options) => Client::connect(node, (**options).clone()).await,
        }
    }
}

pub(super) async fn run(inner: Weak<Inner>, target: Target) {
    let mut pause = PAUSES.0;
    loop {
        let mut heard = false;
        let ended = match target.client().await {
            Ok(client) => follow(&inner, &client, &mut heard).await,
            Err(error) => error,
        };
        let Some(strong) = inner.upgrade() else { return };
        strong.lose(ended);
        drop(strong);
        if heard {
            pause = PAUSES.0;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Until the agent has gone, and how it went. A host that is gone without a word is noticed by the keep-alive of the
/// connection.
async fn follow(inner: &Weak<Inner>, client: &Client, heard: &mut bool) -> Error {
    let gone = || {
        let message = format!("{} ended the stream of parameters", client.node());
        let next = "nothing: it is opened again by itself";
        Error::new(Kind::Unreachable, "UNAVAILABLE", "CONNECTION_BROKEN", message, next)
    };
    let request = match inner.upgrade() {
        Some(inner) => {
            inner.link().opened += 1;
            GetParametersRequest { strategy: inner.strategy.clone(), unit: inner.unit.clone() }
        }
        None => return gone(),
    };
    let send = |c: Client, r: GetParametersRequest| async move {
        c.parameters().watch_parameters(r).await
    };
    let mut stream = match client.call(request, send).await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    loop {
        let response = match client.next(&mut stream).await {
            Ok(Some(response)) => response,
            Ok(None) => return gone(),
            Err(error) => return error,
        };
        let Some(inner) = inner.upgrade() else { return gone() };
        inner.hear(response);
        *heard = true;
    }
}
