//! A paper venue within the agent, for drills: its book is in a folder of the drill's, and says what was done.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tokio::net::UnixListener;

use super::faults::Faults;
use super::keep::Keep;
use super::rpc;
use super::serve::Listener;
use super::venue::PaperVenue;
use crate::error::{Error, Result};
use crate::outside::Clock;

/// A paper venue that ends when it is dropped.
pub struct Practice {
    target: String,
    book: PathBuf,
    serving: tokio::task::JoinHandle<()>,
}

impl Practice {
    /// One in `folder`, with two venues: one whose book does not have the whole position at once, with orders out, and one
    /// that is short.
    ///
    /// # Errors
    /// `PAPER_FILE_FAILED`, `LISTEN_FAILED`.
    pub async fn start(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let failed = |what: &str, error: std::io::Error| {
            Error::unavailable("PAPER_FILE_FAILED", format!("can't {what} the drill's venue"))
                .caused_by(error)
        };
        let first = folder.join("first.json");
        let book = folder.join("book.json");
        let text = json!({ "venues": {
            "paper-a": {
                "positions": { "ALPHA": "3", "BETA": "-0.125" },
                "open_orders": [
                    { "symbol": "ALPHA", "client_order_id": "drill-1", "quantity": "1" },
                    { "symbol": "ALPHA", "client_order_id": "drill-stop", "quantity": "-3", "protective": true },
                ],
                "books": { "ALPHA": { "bids": [["100", "2"]], "asks": [] } },
            },
            "paper-b": { "positions": { "GAMMA": "-20" } },
        }});
        let (kept, at) = (book.clone(), first.clone());
        let opened = tokio::task::spawn_blocking(move || {
            std::fs::write(&at, text.to_string()).map_err(|error| failed("write", error))?;
            Keep::open(&kept, Some(&at))
        });
        let opened =
            opened.await.map_err(|error| failed("open", std::io::Error::other(error)))??;
        // A short name: the state folder's may be long, and a socket's is limited.
        let socket = folder.join("s");
        let target = format!("unix:{}", socket.display());
        let listener = UnixListener::bind(&socket).map_err(|error| {
            Error::unavailable("LISTEN_FAILED", format!("can't listen on {target}"))
                .caused_by(error)
        })?;
        let venue = PaperVenue::new(opened, Faults::new(None), clock);
        let serving = tokio::spawn(async move {
            if let Err(why) = rpc::serve(Listener::Unix(listener), venue).await {
                tracing::warn!(why, "the drill's venue has ended");
            }
        });
        Ok(Self { target, book, serving })
    }

    /// What it is reached by.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// What its own book still has: positions and orders, in words; empty: nothing.
    ///
    /// # Errors
    /// Why that can't be told, in words.
    pub async fn left(&self) -> Result<Vec<String>, String> {
        let path = self.book.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let bytes = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let book: super::book::Book =
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let mut left = Vec::new();
        for (name, venue) in &book.venues {
            let positions = venue.positions.iter();
            left.extend(positions.map(|(symbol, held)| format!("{held} of {symbol} at {name}")));
            left.extend(
                venue.open_orders.iter().map(|out| format!("{} at {name}", out.client_order_id)),
            );
        }
        Ok(left)
    }
}

impl Drop for Practice {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
