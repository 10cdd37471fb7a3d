//! Who writes, what, and why: the price of a write transaction.

use jiff::Timestamp;

/// The oplog entry that a write transaction commits together with its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// When.
    pub at: Timestamp,
    /// Who: a client's identity, or the job that acts by itself.
    pub actor: String,
    /// What is done, as a stable name such as `logs.rotate`.
    pub action: String,
    /// What it is done to, empty where the action says it all.
    pub target: String,
    /// Why, in the words of the actor; may be empty.
    pub reason: String,
    /// How it went: `ok`, or an error's code.
    pub outcome: String,
    /// More about it, for people; may be empty.
    pub detail: String,
    /// The run or request that this entry belongs to; may be empty.
    pub correlation_id: String,
    /// The trace that it belongs to, in 32 hex digits; may be empty.
    pub trace_id: String,
}

impl Intent {
    /// An intent with the outcome `ok` and nothing else said.
    pub fn new(at: Timestamp, actor: impl Into<String>, action: impl Into<String>) -> Self {
        Self {
            at,
            actor: actor.into(),
            action: action.into(),
            target: String::new(),
            reason: String::new(),
            outcome: "ok".to_owned(),
            detail: String::new(),
            correlation_id: String::new(),
            trace_id: String::new(),
        }
    }

    /// Sets what the action is done to.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// Sets why it is done.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Sets how it went.
    #[must_use]
    pub fn outcome(mut self, outcome: impl Into<String>) -> Self {
        self.outcome = outcome.into();
        self
    }

    /// Sets more about it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Sets the run or request that it belongs to.
    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = id.into();
        self
    }

    /// Sets the trace that it belongs to.
    #[must_use]
    pub fn trace_id(mut self, id: impl Into<String>) -> Self {
        self.trace_id = id.into();
        self
    }
}
