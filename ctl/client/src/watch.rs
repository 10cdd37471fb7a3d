//! Following a run to its end, over broken connections.

use std::ops::ControlFlow;
use std::time::Duration;

use genesis_proto::v1::{Run, RunState, WatchRunRequest};

use crate::{Client, Error, Kind};

/// How often in a row a broken stream is opened again without anything new being heard. With the pauses
/// this is over half a minute: time for an agent to be restarted.
const RESUMES: u32 = 20;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Whether a run in this state is over.
pub fn has_ended(state: RunState) -> bool {
    !matches!(state, RunState::Unspecified | RunState::Running)
}

impl Client {
    /// Follows the run with this id until it has ended, and returns it as it ended. `on_change` sees each
    /// state; when it breaks off, the run is returned as it was last seen. A broken stream is resumed for
    /// about half a minute, so that a restart of the agent is survived.
    ///
    /// # Errors
    /// What the agent answered (such as `NotFound`); `Incomplete` when the run's end could not be learnt.
    pub async fn watch_run(
        &self,
        id: &str,
        mut on_change: impl FnMut(&Run) -> ControlFlow<()>,
    ) -> Result<Run, Error> {
        let mut last: Option<Run> = None;
        let mut resumes = 0;
        loop {
            let before = last.clone();
            let broken = match self.follow(id, &mut last, &mut on_change).await {
                Ok(Some(run)) => return Ok(run),
                Ok(None) => None,
                Err(error) if breaks_only(&error) => Some(error),
                Err(error) => return Err(error),
            };
            resumes = if before == last { resumes + 1 } else { 1 };
            if resumes > RESUMES {
                return Err(Error::lost_run(self.node(), id, broken));
            }
            tokio::time::sleep(pause(resumes)).await;
        }
    }

    /// One stream. `None`: it ended before the run did.
    async fn follow(
        &self,
        id: &str,
        last: &mut Option<Run>,
        on_change: &mut impl FnMut(&Run) -> ControlFlow<()>,
    ) -> Result<Option<Run>, Error> {
        let request = WatchRunRequest { id: id.to_owned() };
        let mut stream =
            self.call(request, |c, r| async move { c.runs().watch_run(r).await }).await?;
        while let Some(response) = self.next(&mut stream).await? {
            let Some(run) = response.run else { continue };
            // After a resume the first message often repeats what is known.
            let stop = last.as_ref() != Some(&run) && on_change(&run).is_break();
            let ended = has_ended(run.state());
            *last = Some(run.clone());
            if stop || ended {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }
}

fn breaks_only(error: &Error) -> bool {
    matches!(error.kind, Kind::Unreachable | Kind::Unavailable) || error.code == "CANCELLED"
}

fn pause(resumes: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << resumes.saturating_sub(1).min(8)).min(LONGEST_PAUSE)
}
