//! What to do next about a failure, in words.

use tonic::Code;
use tonic_types::ErrorDetails;

use super::{Kind, LOOK_FIRST, START_OR_NAME};

/// What the agent says; else what is known of the reason, or of the kind.
pub(super) fn next(kind: Kind, reason: &str, code: Code, details: &ErrorDetails) -> String {
    let told = details.error_info().and_then(|info| info.metadata.get("next")).cloned();
    let link = || details.help().and_then(|help| help.links.first()).map(|l| l.description.clone());
    if let Some(next) = told.or_else(link).filter(|next| !next.is_empty()) {
        return next;
    }
    let next = match (kind, reason) {
        (_, "LOG_TYPE_UNKNOWN") => "list the configured types with `genesisctl logs status`",
        (_, "RUN_NOT_FOUND") => "list the runs with `genesisctl run list`",
        (_, "HOLD_NOT_FOUND") => "list the holds with `genesisctl logs holds`",
        (_, "JOB_NOT_FOUND") => "list the jobs with `genesisctl schedule list`",
        (_, "CHECK_UNKNOWN") => "list the checks with `genesisctl health dashboard -v`",
        (_, "ISSUE_NOT_FOUND") => "list the issues with `genesisctl health history`",
        (_, "ISSUE_NOT_ESCALATED") => {
            "nobody was called about it, so automation goes on: see `genesisctl health explain`"
        }
        (_, "ALERT_NOT_FOUND") => "list the alerts with `genesisctl alerts list --resolved`",
        (_, "SILENCE_NOT_FOUND" | "CHANNEL_UNKNOWN") => {
            "see silences and channels with `genesisctl alerts list`"
        }
        (_, "ALERT_OVER") => "nothing: it is over; see `genesisctl alerts show` for what was sent",
        (_, "CHANNEL_FAILED") => "see what else it said with `genesisctl alerts history`",
        (_, "INCIDENT_NOT_FOUND") => "list the incidents with `genesisctl incident list`",
        (_, "INCIDENT_OPEN" | "INCIDENT_CLOSED") => "see it with `genesisctl incident show`",
        (_, "RUNBOOK_UNKNOWN") => "list the pages with `genesisctl runbook list`",
        (_, "BRAKE_NOT_SET") => {
            "see what else holds it back with `genesisctl health remediation status`"
        }
        (_, "ACTION_UNKNOWN" | "ACTION_AMBIGUOUS") => {
            "list what can be run, and of which check, with `genesisctl health remediation status`"
        }
        (_, "COMPONENT_NOT_FOUND") => {
            "list what can be rolled back with `genesisctl rollback components`"
        }
        (_, "POINT_NOT_FOUND" | "NO_EARLIER_POINT" | "POINT_NOT_NAMED") => {
            "list the points with `genesisctl rollback points --component NAME`, and name one with --to"
        }
        (_, "ARGUMENT_NOT_TAKEN") => "leave the argument out",
        (_, "ROLLBACK_HELD") => {
            "see how far it is with `genesisctl rollback points --component NAME`, and wait for its end"
        }
        (_, "NAME_NOT_CONFIRMED") => {
            "look at what it would do with --plan, then pass --confirm NAME"
        }
        (_, "DATABASE_NOT_FOUND") => "list the configured databases with `genesisctl db list`",
        (_, "DATABASE_UNREACHABLE") => {
            "see where it should be with `genesisctl db list`, and whether it runs there and lets the agent in"
        }
        (_, "DATABASE_HELD") => {
            "another agent works on it: see who with `genesisctl db preflight`, and wait for its end"
        }
        (_, "PREFLIGHT_BLOCKED") => {
            "meet the conditions listed (`genesisctl db preflight` measures them), then try again; an admin may \
             leave one out with --override"
        }
        (_, "OVERRIDE_INVALID") => "name the items as `genesisctl db preflight` does",
        (_, "SESSION_NOT_FOUND" | "SESSION_CHANGED") => {
            "nobody was ended: look again with `genesisctl db blockers`"
        }
        (_, "SESSION_PROTECTED") => "see what protects it with `genesisctl db blockers`",
        (_, "BACKUP_NOT_FOUND" | "BACKUP_SOURCE_NOT_FOUND") => {
            "list backups and their sources with `genesisctl backup list`"
        }
        (_, "CERTIFICATE_NOT_FOUND") => "list the certificates with `genesisctl cert list`",
        (_, "CERTIFICATE_PINNED") => {
            "end the pin with `genesisctl cert unpin` once nothing speaks against a new one"
        }
        (_, "BUDGET_EXHAUSTED") => "see when one more is allowed with `genesisctl cert budget`",
        (_, "CERTIFICATE_HELD_BACK") => {
            "see what failed, and until when it waits, with `genesisctl cert show`; --force does not wait"
        }
        (_, "CERTIFICATE_UNUSABLE") => "correct what the message names, and give it again",
        (_, "GENERATION_NOT_FOUND" | "GENERATION_UNUSABLE") => {
            "list the generations, and which may be used, with `genesisctl cert show`"
        }
        (_, "DEPLOY_FAILED") => {
            "see what is in service now with `genesisctl cert verify`, and mend what the message names"
        }
        (_, "PROJECT_NOT_FOUND") => "list the configured projects with `genesisctl deps status`",
        (_, "ADVISORIES_UNAVAILABLE") => {
            "see which data there is with `genesisctl deps status`; `genesisctl deps import-advisories` gets more"
        }
        (_, "ADVISORIES_INVALID") => "get the file anew, whole; what was there before stays in use",
        (_, "ADVISORIES_TOO_LARGE") => {
            "give the file of one ecosystem (such as PyPI/all.zip), not that of all"
        }
        (_, "ADVISORIES_FEWER") => {
            "get the whole file anew; what was there before stays in use, and has more"
        }
        (_, "UPLOAD_NOT_FOUND") => "it is gone after an hour: give the file again",
        (_, "PROJECT_UNMANAGED") => {
            "see what it lacks with `genesisctl deps status -v`, and name that in [[dependencies.project]]"
        }
        (_, "DEPENDENCY_TOOL_MISSING") => {
            "install it on the agent's host, where the agent's user finds it"
        }
        (_, "RESOLUTION_FAILED") => {
            "see what contradicts what in the message, or whether the index can be reached; nothing was changed"
        }
        (_, "RESOLUTION_OUT_OF_BOUNDS") => {
            "take a strategy that allows it (`genesisctl deps check` shows each); nothing was changed"
        }
        (_, "UPDATE_VULNERABLE") => {
            "wait for a release that mends it, or have it ignored with `genesisctl deps ignore`; nothing was changed"
        }
        (_, "UPDATE_UNJUDGED") => {
            "see what it could not be held against with `genesisctl deps status`; nothing was changed"
        }
        (_, "RELEASE_NOT_FOUND") => {
            "list the releases that can be gone back to with `genesisctl deps status -v`"
        }
        (_, "IGNORE_NOT_FOUND") => {
            "list what is ignored with `genesisctl deps status`; what the configuration ignores ends there"
        }
        (_, "IGNORE_INVALID") => {
            "name the finding as `genesisctl deps scan` does, and an end to come"
        }
        (_, "CLOCK_NOT_FOUND") => {
            "list the clocks with `genesisctl deps postmortem list --closed-too`"
        }
        (_, "POSTMORTEM_NOT_DUE") => {
            "mend the vulnerability first: see `genesisctl deps check --strategy security`"
        }
        (_, "CLOCK_SUSPECT") => "set the clock of the agent's host right, then try again",
        (_, "PLAN_CHANGED") => "look at the new plan with `--plan`, then pass its hash",
        (_, "CONFIG_INVALID") => "list every problem with `genesisctl config check`",
        (_, "RUN_ENDED") => "look at how it ended with `genesisctl run show`",
        (_, "REQUEST_ID_REUSED") => {
            "take a new request id, or none: this one belongs to another call"
        }
        (_, "REQUEST_INTERRUPTED") => {
            "look at `genesisctl oplog list` and `genesisctl run list`, for a rollback at \
             `genesisctl rollback points --component NAME`, for how far it came, then call anew under a new request id"
        }
        (_, "OVERLOADED") => "try again in a moment; the agent sheds calls while it has too many",
        (_, "EMERGENCY") => {
            "see `genesisctl emergency status`; an admin ends it with `genesisctl emergency release`"
        }
        (_, "NO_EMERGENCY") => "see the last one with `genesisctl emergency status`",
        (_, "FLEET_MISMATCH") => {
            "call with a certificate of the agent's fleet: see `genesisctl context list`, then --context"
        }
        (_, "RETENTION_NOT_REACHED") => {
            "name an age at or above the configured archive retention (`genesisctl logs status`)"
        }
        _ if code == Code::Unimplemented => {
            "compare the versions with `genesisctl version`: the agent does not know this call"
        }
        (Kind::Unreachable, _) => START_OR_NAME,
        (Kind::Unauthenticated, _) => {
            "connect over the agent's unix socket, or as a known identity"
        }
        (Kind::NotAllowed, _) => {
            "see who you are with `genesisctl whoami`; ask for the role that the message names"
        }
        (Kind::Refused, _) => "meet the conditions listed, then try again",
        (Kind::NotFound, _) => "check the name",
        (Kind::Conflict, _) => "see what is going on with `genesisctl run list`, then try again",
        (Kind::Invalid, _) => "correct the request; `--help` has examples",
        (Kind::Unavailable, _) => "try again in a moment",
        (Kind::Incomplete, _) => LOOK_FIRST,
        (Kind::Internal, _) => "look at the agent's log; if it happens again, report it as a bug",
    };
    next.to_owned()
}
