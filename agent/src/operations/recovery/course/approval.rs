//! Who has agreed to a release, and whether that is enough. Pure.

use std::time::Duration;

use genesis_storage::ApprovalRecord;
use jiff::Timestamp;

use crate::error::{Error, Result, Unmet};

/// An approval counts for so long.
pub(super) const LASTS: Duration = Duration::from_secs(15 * 60);

/// The approvals of this plan that count now.
pub(super) fn valid<'r>(
    approvals: &'r [ApprovalRecord],
    plan: &str,
    now: Timestamp,
) -> Vec<&'r ApprovalRecord> {
    // One of the future counts as well: only a step of the clock makes it one.
    let fresh = |approval: &&ApprovalRecord| {
        Duration::try_from(now.duration_since(approval.at)).unwrap_or_default() <= LASTS
    };
    approvals.iter().filter(|approval| approval.plan == plan).filter(fresh).collect()
}

/// Who somebody counts as. Whoever is on the host can be several users there, so the socket is one person.
fn person(identity: &str) -> &str {
    if identity.starts_with("unix:") { "unix:" } else { identity }
}

/// Whether `by` may agree to this plan.
///
/// # Errors
/// `APPROVALS_NOT_NEEDED`, `ALREADY_APPROVED`.
pub(super) fn may_approve(
    approvals: &[ApprovalRecord],
    by: &str,
    plan: &str,
    now: Timestamp,
    needed: u32,
) -> Result<()> {
    if needed < 2 {
        let message = "a release needs one identity here: `genesisctl emergency release` is all there is to do";
        return Err(Error::conflict("APPROVALS_NOT_NEEDED", message));
    }
    if valid(approvals, plan, now).iter().any(|approval| person(&approval.by) == person(by)) {
        let message =
            format!("{by} has approved this release already; another identity has to release");
        return Err(Error::conflict("ALREADY_APPROVED", message));
    }
    Ok(())
}

/// Whether `by` may release by this plan.
///
/// # Errors
/// `APPROVAL_MISSING`, with what became of approvals that don't count.
pub(super) fn may_release(
    approvals: &[ApprovalRecord],
    by: &str,
    plan: &str,
    now: Timestamp,
    needed: u32,
) -> Result<()> {
    let others = valid(approvals, plan, now);
    let others = others.iter().filter(|approval| person(&approval.by) != person(by)).count();
    if others + 1 >= needed as usize {
        return Ok(());
    }
    let before = approvals.iter().rfind(|approval| person(&approval.by) != person(by));
    let why = match before {
        Some(old) if old.plan != plan => format!(
            "; {} approved the plan {}, and it is {plan} now: look at it and approve it again",
            old.by, old.plan
        ),
        Some(old) => format!("; the approval by {} is older than 15 minutes", old.by),
        None => String::new(),
    };
    let message = format!(
        "the release needs {needed} identities within 15 minutes, and nobody but {by} has agreed{why}; another admin \
         runs `genesisctl emergency approve --plan-hash {plan}`"
    );
    let unmet =
        Unmet { code: "APPROVAL_MISSING", subject: "release".to_owned(), message: message.clone() };
    Err(Error::refused("APPROVAL_MISSING", message, vec![unmet]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_people_agree_to_one_plan_within_a_quarter_of_an_hour() {
        let at = |minutes: i64| Timestamp::from_second(minutes * 60).unwrap();
        let approval = |by: &str, plan: &str| ApprovalRecord {
            by: by.to_owned(),
            at: at(0),
            plan: plan.to_owned(),
            reason: String::new(),
        };
        let olga = [approval("olga", "p")];
        let root = [approval("unix:uid=0(root)", "p")];
        let code = |outcome: Result<()>| outcome.err().map(|error| error.code);
        for (approvals, by, plan, minutes, needed, expected) in [
            (&[][..], "olga", "p", 0, 1, None),
            (&[], "olga", "p", 0, 2, Some("APPROVAL_MISSING")),
            (&olga, "olga", "p", 1, 2, Some("APPROVAL_MISSING")),
            (&olga, "ivan", "p", 15, 2, None),
            (&olga, "ivan", "p", 16, 2, Some("APPROVAL_MISSING")),
            (&olga, "ivan", "q", 1, 2, Some("APPROVAL_MISSING")),
            (&olga, "ivan", "p", -5, 2, None),
            (&root, "unix:uid=1001(genesis)", "p", 1, 2, Some("APPROVAL_MISSING")),
            (&root, "ivan", "p", 1, 2, None),
        ] {
            let outcome = may_release(approvals, by, plan, at(minutes), needed);
            assert_eq!(code(outcome), expected, "{by} {plan} {minutes} {needed}");
        }
        for (by, plan, minutes, needed, expected) in [
            ("olga", "p", 1, 2, Some("ALREADY_APPROVED")),
            ("olga", "p", 16, 2, None),
            ("olga", "q", 1, 2, None),
            ("ivan", "p", 1, 2, None),
            ("ivan", "p", 1, 1, Some("APPROVALS_NOT_NEEDED")),
        ] {
            let outcome = may_approve(&olga, by, plan, at(minutes), needed);
            assert_eq!(code(outcome), expected, "{by} {plan} {minutes} {needed}");
        }
        let changed = may_release(&olga, "ivan", "q", at(1), 2).unwrap_err();
        assert!(changed.message.contains("olga approved the plan p"), "{changed}");
    }
}
