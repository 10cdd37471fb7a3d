//! What a running agent is asked for by its process: to reload, to end.

use genesis_storage::Intent;

use super::start::process;
use super::{Agent, CLOSE, DRAIN};
use crate::error::{Error, Result};

impl Agent {
    /// Reads the configuration again, as SIGHUP asks.
    pub async fn reload(&self) {
        match self.config.reload("signal:HUP", "", "").await {
            Ok(reloaded) => tracing::warn!(?reloaded, "configuration reloaded"),
            Err(error) => {
                tracing::error!(error = error.chain(), "the configuration was not reloaded");
                for problem in &error.unmet {
                    tracing::error!(at = problem.subject, "{}", problem.message);
                }
            }
        }
    }

    /// Resolves when the server has broken.
    ///
    /// # Errors
    /// Why.
    pub async fn broken(&mut self) -> Result<()> {
        (&mut self.server).await.unwrap_or_else(|error| {
            Err(Error::internal("SERVER_PANICKED", "the server hit a defect").caused_by(error))
        })
    }

    /// Lets runs reach a safe point and calls end, within ten seconds.
    pub async fn drain(mut self) {
        self.runs.drain(DRAIN).await;
        self.stop.cancel();
        let _ = tokio::time::timeout(CLOSE, &mut self.server).await;
        for task in &self.tasks {
            task.abort();
        }
        let intent =
            Intent::new(self.clock.now(), "system:agent", "agent.stopped").target(process());
        if let Err(error) = self.state.note(intent).await {
            tracing::error!(error = error.chain(), "the stop could not be recorded");
        }
        let _ = std::fs::remove_file(&self.socket);
        // The last spans are told from here, which takes a moment.
        let _ = tokio::task::spawn_blocking(move || drop(self.held)).await;
    }
}
