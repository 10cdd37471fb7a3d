//! The life of an issue, as a pure function: what a check's result makes of what is known about it.
//!
//! OK -> SUSPECT -> FAILING -> REMEDIATING -> VERIFYING -> RESOLVED, or COOLDOWN and REMEDIATING again, or
//! ESCALATED. Time comes in as moments, so that neither a restart nor a step of the wall clock ages an issue.

use std::time::Duration;

use genesis_storage::{CheckRecord, IssueRecord, IssueState, Moment, Trigger};

/// So many failed attempts, and people are called.
pub const ATTEMPTS: u32 = 3;
/// Critical for so long, and people are called, where the configuration says nothing else.
pub const ESCALATE_AFTER: Duration = Duration::from_secs(15 * 60);
/// So many good results in a row make an issue resolved.
pub const CLEAR_CYCLES: u32 = 2;
/// So many changes between good and bad within [`Policy::flap_window`] are flapping.
pub const FLAP_TRANSITIONS: usize = 4;
/// So often in a row that a check can't be told, and it is said.
pub const UNKNOWN_LIMIT: u32 = 3;
/// So many of the times in which a check could not be told are remembered.
const UNTOLD_KEPT: usize = 50;
/// The longest pause between two attempts.
pub const LONGEST_COOLDOWN: Duration = Duration::from_secs(3_600);

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Good.
    Ok,
    /// Not bad yet; shown, and nothing else comes of it.
    Warn,
    /// Bad.
    Crit,
    /// It could not be told. Never triggers an action, and never proves one.
    Unknown,
}

/// How a check is to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How often it is made.
    pub interval: Duration,
    /// Bad for so long before it counts,
    pub hold: Duration,
    /// and at so many looks in a row.
    pub looks: u32,
    /// Good for so long before it is over.
    pub clear: Duration,
    /// So long an action may take to show, once it has ended.
    pub settle: Duration,
    /// The pause after the first failed attempt; it doubles with each.
    pub cooldown: Duration,
    /// Critical for so long, and people are called.
    pub escalate_after: Duration,
}

impl Policy {
    /// The longer of ten minutes and eight intervals.
    pub fn flap_window(&self) -> Duration {
        Duration::from_secs(600).max(self.interval * 8)
    }

    /// Whether a span has lasted. Looks are never made to the millisecond, and one that comes a little early must not
    /// cost a whole interval.
    fn lasted(&self, span: Duration, wanted: Duration) -> bool {
        span + self.interval / 10 >= wanted
    }

    /// The pause after so many failed attempts.
    pub fn cooldown_after(&self, attempts: u32) -> Duration {
        let factor = 1_u32 << attempts.saturating_sub(1).min(16);
        self.cooldown.saturating_mul(factor).min(LONGEST_COOLDOWN)
    }
}

/// What happened to an issue: each is told once, when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// The check turned bad.
    Opened,
    /// It was bad for long enough.
    Confirmed,
    /// It was no issue: good again before it was bad for long enough.
    Dropped,
    /// The condition cleared and stayed clear, after the attempt that was being verified.
    Helped,
    /// It cleared and stayed clear by itself, or by somebody's hand.
    Cleared,
    /// The attempt that was being verified did not help.
    DidNotHelp,
    /// Whether the attempt helped can't be told, which never counts as help.
    CouldNotVerify,
    /// People are to be called.
    Escalate(Trigger),
    /// It changes so often that actions are frozen.
    FlappingBegan,
    /// It has been steady again for long enough.
    FlappingEnded,
    /// It could not be told [`UNKNOWN_LIMIT`] times in a row.
    CantTell,
    /// It can be told again.
    CanTell,
}

/// What is known of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What outlives the episodes.
    pub check: CheckRecord,
    /// The open issue.
    pub issue: Option<IssueRecord>,
}

impl Known {
    /// Nothing, of a check that was never made.
    pub fn nothing(check: &str) -> Self {
        let check = CheckRecord { check: check.to_owned(), ..CheckRecord::default() };
        Self { check, issue: None }
    }

    /// Takes one result in. The issue that it ends is left in place, RESOLVED, for the caller to put away; one
    /// that was none is dropped.
    pub fn observe(
        &mut self,
        policy: &Policy,
        status: Status,
        detail: &str,
        now: &Moment,
    ) -> Vec<Happened> {
        let mut happened = Vec::new();
        if self.issue.as_ref().is_some_and(|issue| !issue.open()) {
            self.issue = None;
        }
        self.count(policy, status, now, &mut happened);
        match status {
            Status::Unknown => {
                // Nothing is known to have got better, so what was clear has to begin anew.
                if let Some(issue) = &mut self.issue {
                    issue.clear_streak = 0;
                    issue.clear_since = None;
                    if issue.state == IssueState::Verifying
                        && self.check.unknown_streak >= UNKNOWN_LIMIT
                        && policy.lasted(now.since(&issue.since), policy.settle)
                    {
                        happened.push(Happened::CouldNotVerify);
                        in_vain(issue, policy, now, &mut happened);
                    }
                }
            }
            Status::Crit => self.bad(policy, detail, now, &mut happened),
            Status::Ok | Status::Warn => self.good(policy, detail, now, &mut happened),
        }
        // What was bad and can't be told any more has not got better.
        if matches!(status, Status::Crit | Status::Unknown)
            && let Some(trigger) = self.overdue(policy, now)
            && !happened.iter().any(|what| matches!(what, Happened::Escalate(_)))
        {
            happened.push(Happened::Escalate(trigger));
        }
        happened
    }

    /// What is due without a new result: people are called about what stays critical for too long.
    pub fn overdue(&self, policy: &Policy, now: &Moment) -> Option<Trigger> {
        let issue = self.issue.as_ref().filter(|issue| issue.open())?;
        // What may turn out to be none is no reason to wake people, however long it may take to tell.
        if issue.state == IssueState::Suspect {
            return None;
        }
        let silent = issue.escalated.is_none() && issue.clear_streak == 0;
        (silent && now.since(&issue.opened) >= policy.escalate_after)
            .then_some(Trigger::CriticalTooLong)
    }

    fn count(
        &mut self,
        policy: &Policy,
        status: Status,
        now: &Moment,
        happened: &mut Vec<Happened>,
    ) {
        let check = &mut self.check;
        if status == Status::Unknown {
            check.unknown_streak = check.unknown_streak.saturating_add(1);
            if check.unknown_streak == UNKNOWN_LIMIT {
                check.untold.push((now.wall, None));
                let excess = check.untold.len().saturating_sub(UNTOLD_KEPT);
                check.untold.drain(..excess);
                happened.push(Happened::CantTell);
            }
        } else {
            if check.unknown_streak >= UNKNOWN_LIMIT {
                if let Some((_, until)) = check.untold.last_mut() {
                    until.get_or_insert(now.wall);
                }
                happened.push(Happened::CanTell);
            }
            check.unknown_streak = 0;
            let bad = status == Status::Crit;
            if bad != check.bad {
                check.bad = bad;
                check.transitions.push(now.clone());
            }
        }
        let window = policy.flap_window();
        check.transitions.retain(|at| now.since(at) < window);
        // Only the latest ones tell anything.
        let excess = check.transitions.len().saturating_sub(FLAP_TRANSITIONS);
        check.transitions.drain(..excess);
        let flapping = check.transitions.len() >= FLAP_TRANSITIONS;
        if flapping != check.flapping {
            // It ends only when it has been quiet for the whole window, so that it does not flap itself.
            if flapping {
                check.flapping = true;
                happened.push(Happened::FlappingBegan);
            } else if check.transitions.is_empty() {
                check.flapping = false;
                happened.push(Happened::FlappingEnded);
            }
        }
    }

    fn bad(&mut self, policy: &Policy, detail: &str, now: &Moment, happened: &mut Vec<Happened>) {
        let Some(issue) = &mut self.issue else {
            self.check.episode += 1;
            self.issue = Some(opened(&self.check, detail, now));
            happened.push(Happened::Opened);
            // Without a time to hold it is one at once.
            if policy.hold.is_zero() && policy.looks <= 1 {
                self.bad(policy, detail, now, happened);
            }
            return;
        };
        detail.clone_into(&mut issue.detail);
        issue.bad_streak = issue.bad_streak.saturating_add(1);
        let was_clear = issue.clear_streak > 0;
        issue.clear_streak = 0;
        issue.clear_since = None;
        match issue.state {
            IssueState::Suspect
                if policy.lasted(now.since(&issue.opened), policy.hold)
                    && issue.bad_streak >= policy.looks =>
            {
                enter(issue, IssueState::Failing, now);
                happened.push(Happened::Confirmed);
            }
            // What was clear once and is bad again did not stay clear; else the action has its time to show.
            IssueState::Verifying
                if was_clear || policy.lasted(now.since(&issue.since), policy.settle) =>
            {
                happened.push(Happened::DidNotHelp);
                in_vain(issue, policy, now, happened);
            }
            IssueState::Suspect
            | IssueState::Failing
            | IssueState::Remediating
            | IssueState::Verifying
            | IssueState::Cooldown
            | IssueState::Escalated
            | IssueState::Resolved => {}
        }
    }

    fn good(&mut self, policy: &Policy, detail: &str, now: &Moment, happened: &mut Vec<Happened>) {
        let Some(issue) = &mut self.issue else { return };
        detail.clone_into(&mut issue.detail);
        if issue.state == IssueState::Suspect {
            self.issue = None;
            happened.push(Happened::Dropped);
            return;
        }
        // While an action goes on its end is waited for.
        if issue.state == IssueState::Remediating {
            return;
        }
        issue.bad_streak = 0;
        issue.clear_streak = issue.clear_streak.saturating_add(1);
        let since = issue.clear_since.get_or_insert_with(|| now.clone()).clone();
        if issue.clear_streak >= CLEAR_CYCLES && policy.lasted(now.since(&since), policy.clear) {
            let helped = issue.state == IssueState::Verifying;
            issue.resolution = if helped { "by its action" } else { "by itself or by hand" }.into();
            enter(issue, IssueState::Resolved, now);
            happened.push(if helped { Happened::Helped } else { Happened::Cleared });
        }
    }
}

fn opened(check: &CheckRecord, detail: &str, now: &Moment) -> IssueRecord {
    IssueRecord {
        check: check.check.clone(),
        episode: check.episode,
        state: IssueState::Suspect,
        since: now.clone(),
        opened: now.clone(),
        attempts: 0,
        attempt: String::new(),
        bad_streak: 1,
        clear_streak: 0,
        clear_since: None,
        cooldown: Duration::ZERO,
        escalated: None,
        acked: None,
        denials: Vec::new(),
        detail: detail.to_owned(),
        resolution: String::new(),
    }
}

/// Puts an issue into a state.
pub fn enter(issue: &mut IssueRecord, state: IssueState, now: &Moment) {
    issue.state = state;
    issue.since = now.clone();
}

/// An attempt begins: it counts from here on, however it ends.
pub fn begin_attempt(issue: &mut IssueRecord, id: &str, now: &Moment) {
    issue.attempts = issue.attempts.saturating_add(1);
    id.clone_into(&mut issue.attempt);
    issue.denials.clear();
    issue.clear_streak = 0;
    issue.clear_since = None;
    enter(issue, IssueState::Remediating, now);
}

/// An attempt did not help, or could not be carried out: the next one waits, for longer each time, and after the
/// last one people are called.
pub fn in_vain(
    issue: &mut IssueRecord,
    policy: &Policy,
    now: &Moment,
    happened: &mut Vec<Happened>,
) {
    issue.cooldown = policy.cooldown_after(issue.attempts);
    enter_unless_called(issue, IssueState::Cooldown, now);
    if issue.attempts >= ATTEMPTS {
        happened.push(Happened::Escalate(Trigger::AttemptsFailed));
    }
}

/// An attempt was announced and then held back before it had begun: it does not count.
pub fn withdrawn(issue: &mut IssueRecord, now: &Moment) {
    issue.attempts = issue.attempts.saturating_sub(1);
    enter_unless_called(issue, IssueState::Failing, now);
}

/// Puts an issue into a state in which the next attempt is waited for; where people were called meanwhile and nobody
/// has taken notice yet, it is theirs.
pub fn enter_unless_called(issue: &mut IssueRecord, state: IssueState, now: &Moment) {
    let called = issue.escalated.is_some() && issue.acked.is_none();
    enter(issue, if called { IssueState::Escalated } else { state }, now);
}

/// People are called; automation stops for this issue. What goes on is let finish.
pub fn escalate(issue: &mut IssueRecord, trigger: Trigger, now: &Moment) {
    issue.escalated = Some((trigger, now.wall));
    issue.acked = None;
    if !matches!(issue.state, IssueState::Remediating | IssueState::Verifying) {
        enter(issue, IssueState::Escalated, now);
    }
}

/// Somebody takes notice: automation may go on within the attempts that are left.
pub fn ack(issue: &mut IssueRecord, who: &str, note: &str, now: &Moment) {
    issue.acked = Some((who.to_owned(), now.wall, note.to_owned()));
}

/// Automation may go on with a fresh count of attempts.
pub fn resume(issue: &mut IssueRecord, who: &str, note: &str, now: &Moment) {
    ack(issue, who, note, now);
    issue.attempts = 0;
    issue.cooldown = Duration::ZERO;
    if matches!(issue.state, IssueState::Escalated | IssueState::Cooldown) {
        enter(issue, IssueState::Failing, now);
    }
}

/// Whether an action may be taken about an issue in this state, if nothing else holds it back.
pub fn actionable(issue: &IssueRecord) -> bool {
    matches!(issue.state, IssueState::Failing | IssueState::Cooldown | IssueState::Escalated)
}

/// What a restart finds: an action that was cut off is never repeated blindly. Whether it helped is looked at
/// first, and it counts.
pub fn recover(issue: &mut IssueRecord, now: &Moment) {
    if issue.state == IssueState::Remediating {
        enter(issue, IssueState::Verifying, now);
    }
}
