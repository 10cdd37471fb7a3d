//! The exit codes, one table for every command, and what ends a command early.

use std::io;
use std::process::ExitCode;

use genesis_client::v1::{Condition, RunState};
use genesis_client::{Error, Kind};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Ok = 0,
    /// It failed; or several nodes failed, each in its own way.
    Failed = 1,
    /// Wrong usage; nothing was sent.
    Usage = 2,
    /// It went well and found something wrong.
    Findings = 3,
    /// Preconditions are not met; nothing was changed.
    Refused = 4,
    /// The answer is not known, or incomplete.
    Unknown = 5,
    /// The caller may not do that.
    NotAllowed = 6,
    /// Nobody answers.
    Unreachable = 7,
    /// Some nodes went well, others did not.
    SomeFailed = 8,
    /// Something else holds what is needed, or the state has moved on.
    Conflict = 9,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The code of a command, from those of its nodes: the common one when all agree, 8 when some went
    /// well, else 1.
    pub fn of_nodes(codes: &[Self]) -> Self {
        match codes {
            [] => Self::Ok,
            [first, rest @ ..] if rest.iter().all(|code| code == first) => *first,
            _ if codes.contains(&Self::Ok) => Self::SomeFailed,
            _ => Self::Failed,
        }
    }

    /// The code of a failed call.
    pub fn of_error(error: &Error) -> Self {
        match (error.kind, error.reason.as_str()) {
            (_, "PLAN_CHANGED") => Self::Conflict,
            // Nobody was called, so nobody was unreachable.
            (_, "NOT_SENT") => Self::Failed,
            // It is how the command was typed that is at fault.
            (_, "CONTEXT_NOT_FOUND") => Self::Usage,
            // The file is at fault, not how the command was typed.
            (_, "CONFIG_INVALID") => Self::Refused,
            (Kind::Unreachable | Kind::Unavailable, _) => Self::Unreachable,
            (Kind::Unauthenticated | Kind::NotAllowed, _) => Self::NotAllowed,
            (Kind::Refused, _) => Self::Refused,
            (Kind::Conflict, _) => Self::Conflict,
            (Kind::Invalid, _) => Self::Usage,
            (Kind::Incomplete, _) => Self::Unknown,
            (Kind::NotFound | Kind::Internal, _) => Self::Failed,
        }
    }

    /// The code of several conditions on one node: unknown beats findings, findings beat ok.
    pub fn of_conditions(conditions: impl IntoIterator<Item = Condition>) -> Self {
        conditions.into_iter().fold(Self::Ok, |worst, condition| match (worst, condition) {
            (Self::Unknown, _) | (_, Condition::Unknown | Condition::Unspecified) => Self::Unknown,
            (_, Condition::Warn | Condition::Critical) => Self::Findings,
            (worst, Condition::Ok) => worst,
        })
    }

    /// The code of a run that was followed to its end.
    pub fn of_run(state: RunState) -> Self {
        match state {
            RunState::Succeeded => Self::Ok,
            RunState::Failed | RunState::Cancelled => Self::Failed,
            RunState::Refused => Self::Refused,
            RunState::Interrupted
            | RunState::Unknown
            | RunState::Running
            | RunState::Unspecified => Self::Unknown,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What ends the whole command at once.
#[derive(Debug)]
pub(crate) enum Halt {
    /// Whoever read standard output has left: nothing is wrong.
    BrokenPipe,
    /// Wrong usage, or a confirmation that is missing.
    Usage(String),
    /// A local failure.
    Failed(String),
    /// Something is wrong with the contexts or with what they name; nothing was sent.
    Error(Error),
}

impl Halt {
    /// An error while writing data.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Failed(format!(
                "can't write to standard output: {error}: free space or redirect it elsewhere"
            )),
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::BrokenPipe => Exit::Ok,
            Self::Usage(_) => Exit::Usage,
            Self::Failed(_) => Exit::Failed,
            Self::Error(error) => Exit::of_error(error),
        }
    }

    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Self::BrokenPipe => None,
            Self::Usage(message) | Self::Failed(message) => Some(message.clone()),
            Self::Error(error) => Some(error.to_string()),
        }
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What ends the work on one node: its own failure, or the end of the whole command.
#[derive(Debug)]
pub(crate) enum Stop {
    Node(Error),
    Halt(Halt),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Node(error)
    }
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Exit::*;

    #[test]
    fn the_codes_are_the_documented_numbers() {
        let table = [
            Ok,
            Failed,
            Usage,
            Findings,
            Refused,
            Unknown,
            NotAllowed,
            Unreachable,
            SomeFailed,
            Conflict,
        ];
        for (number, exit) in (0u8..).zip(table) {
            assert_eq!(exit.code(), number);
        }
    }

    #[test]
    fn several_nodes_agree_or_some_failed_or_all_failed() {
        for (nodes, expected) in [
            (&[][..], Ok),
            (&[Ok, Ok], Ok),
            (&[Findings], Findings),
            (&[Unreachable, Unreachable], Unreachable),
            (&[Ok, Unreachable], SomeFailed),
            (&[Findings, Ok, Findings], SomeFailed),
            (&[Findings, Unreachable], Failed),
            (&[Refused, Unknown, Refused], Failed),
            (&[Refused, Unknown, Ok], SomeFailed),
        ] {
            assert_eq!(Exit::of_nodes(nodes), expected, "{nodes:?}");
        }
    }

    #[test]
    fn within_one_node_unknown_beats_findings() {
        use Condition as C;
        for (conditions, expected) in [
            (&[][..], Ok),
            (&[C::Ok, C::Ok], Ok),
            (&[C::Ok, C::Warn], Findings),
            (&[C::Critical, C::Ok], Findings),
            (&[C::Unknown, C::Critical], Unknown),
            (&[C::Critical, C::Unknown, C::Ok], Unknown),
            (&[C::Unspecified], Unknown),
        ] {
            assert_eq!(Exit::of_conditions(conditions.iter().copied()), expected, "{conditions:?}");
        }
    }

    #[test]
    fn errors_and_runs_have_their_codes() {
        for (kind, reason, expected) in [
            (Kind::Unreachable, "", Unreachable),
            (Kind::Unavailable, "", Unreachable),
            (Kind::Unavailable, "NOT_SENT", Failed),
            (Kind::Unauthenticated, "", NotAllowed),
            (Kind::NotAllowed, "", NotAllowed),
            (Kind::Unauthenticated, "SERVER_NOT_TRUSTED", NotAllowed),
            (Kind::Unauthenticated, "CERTIFICATE_REFUSED", NotAllowed),
            (Kind::NotAllowed, "FLEET_MISMATCH", NotAllowed),
            (Kind::NotFound, "CONTEXT_NOT_FOUND", Usage),
            (Kind::Invalid, "CONTEXT_INVALID", Usage),
            (Kind::Refused, "RETENTION_NOT_REACHED", Refused),
            (Kind::Refused, "PLAN_CHANGED", Conflict),
            (Kind::Invalid, "CONFIG_INVALID", Refused),
            (Kind::Invalid, "RANGE_INVALID", Usage),
            (Kind::NotFound, "LOG_TYPE_UNKNOWN", Failed),
            (Kind::Conflict, "", Conflict),
            (Kind::Incomplete, "", Unknown),
            (Kind::Internal, "", Failed),
        ] {
            let error = Error::new(kind, "X", reason, "m", "n");
            assert_eq!(Exit::of_error(&error), expected, "{kind:?} {reason}");
        }
        for (state, expected) in [
            (RunState::Succeeded, Ok),
            (RunState::Failed, Failed),
            (RunState::Cancelled, Failed),
            (RunState::Refused, Refused),
            (RunState::Interrupted, Unknown),
            (RunState::Unknown, Unknown),
        ] {
            assert_eq!(Exit::of_run(state), expected, "{state:?}");
        }
    }
}
