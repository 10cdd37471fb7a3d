//! What a running agent is asked for by its process: to reload, to end.

use std::time::Duration;

use genesis_storage::Intent;

use super::start::process;
use super::{Agent, CLOSE, DRAIN};
use crate::error::{Error, Result};
use crate::server::agent_rpc::AgentView;

/// What closing the files may take, after everything else.
const FILES: Duration = Duration::from_secs(1);

impl Agent {
    /// Reads the configuration again, as SIGHUP asks.
    pub async fn reload(&self) {
        match self.view.config.reload("signal:HUP", "", "").await {
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
        self.view.runs.drain(DRAIN).await;
        self.stop.cancel();
        let _ = tokio::time::timeout(CLOSE, &mut self.server).await;
        for task in &self.tasks {
            task.abort();
        }
        let now = self.view.outside.clock.now();
        let intent = Intent::new(now, "system:agent", "agent.stopped").target(process());
        if let Err(error) = self.view.state.note(intent).await {
            tracing::error!(error = error.chain(), "the stop could not be recorded");
        }
        let _ = std::fs::remove_file(&self.socket);
        // A disk that stands still does not keep the process: then the next start proves them.
        let closed = tokio::task::spawn_blocking(move || close(&self.view));
        let _ = tokio::time::timeout(FILES, closed).await;
        // The last spans are told from here, which takes a moment.
        let _ = tokio::task::spawn_blocking(move || drop(self.held)).await;
    }
}

/// Closes what is embedded, whoever still has it in hand, so that the next start need not prove it.
fn close(view: &AgentView) {
    if let Ok(observations) = view.baselines.store() {
        observations.close();
    }
    if let Ok(trades) = view.experiments.store() {
        trades.close();
    }
    if let Ok(values) = view.matrices.store() {
        values.close();
    }
    if let Ok(advisories) = view.dependencies.file() {
        advisories.close();
    }
    view.state.store().close();
}
