//! What is said to people, whatever the channel.

use jiff::Timestamp;

use crate::events::Severity;

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Occasion {
    /// A condition holds.
    Firing,
    /// It still does, after a long while.
    Repeat,
    /// It is over.
    Resolved,
    /// Somebody takes care of it.
    Acknowledged,
    /// Somebody tries the channel.
    Test,
    /// The agent lives.
    Heartbeat,
    /// What did not press, once a day.
    Digest,
}

impl Occasion {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Repeat => "repeat",
            Self::Resolved => "resolved",
            Self::Acknowledged => "acknowledged",
            Self::Test => "test",
            Self::Heartbeat => "heartbeat",
            Self::Digest => "digest",
        }
    }
}

/// One alert in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its id; the same from its firing to its end, and by which a channel that can tells doubles.
    pub id: String,
    /// Where it comes from: "health".
    pub source: String,
    /// What it is about.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// In one line.
    pub title: String,
    /// What is known of it, and what was tried.
    pub details: Vec<String>,
    /// The name of its runbook page.
    pub runbook: String,
    /// Since when it holds.
    pub since: Timestamp,
    /// When it was over.
    pub resolved: Option<Timestamp>,
}

/// Who says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The host's id.
    pub host_id: String,
    /// Its name.
    pub hostname: String,
    /// The fleet it belongs to; may be empty.
    pub fleet: String,
    /// What a link to a runbook page begins with; empty: the page is named by the command that shows it.
    pub runbooks: String,
    /// Who is on call, as `[contacts]` says; may be empty.
    pub on_call: String,
    /// Who decides when the one on call can't; may be empty.
    pub escalation: String,
}

/// A message to one channel: one alert where the channel keeps alerts apart (PagerDuty), else as many as fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id; the same whenever it is sent again.
    pub id: String,
    /// Why it is sent.
    pub occasion: Occasion,
    /// What it is about; at least one but for a test or a heartbeat.
    pub items: Vec<Item>,
    /// Words of its own, where it has any: which channel is dead, who acknowledged.
    pub note: String,
    /// Who says it.
    pub sender: Sender,
    /// When it was first to be sent.
    pub at: Timestamp,
}
