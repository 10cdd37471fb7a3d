//! How ends of runs are counted.

use genesis_storage::{RunRecord, RunState};

/// The name under which the end of a run is counted, for the objective over a month.
pub(super) fn tally(record: &RunRecord) -> Option<&'static str> {
    // What remediation does by itself has an objective of its own, and is no operation that somebody asked for.
    if record.kind.starts_with("health.") && record.actor.starts_with("system:") {
        return None;
    }
    match record.state {
        RunState::Running => None,
        RunState::Succeeded => Some("succeeded"),
        RunState::Failed => Some("failed"),
        RunState::Refused => Some("refused"),
        RunState::Cancelled => Some("cancelled"),
        RunState::Interrupted | RunState::Unknown => Some("unknown"),
    }
}
