//! What people should hear of. Whoever watches something tells the conditions that hold now; alerts compares that
//! with what people were told, so that neither a crash nor a lost message can lose one.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::error::Result;

/// How bad it is for the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// For the digest.
    Low,
    /// For working hours.
    Medium,
    /// Soon.
    High,
    /// At once.
    Critical,
}

impl Severity {
    /// Each of them, the mildest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// The names that are known.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|severity| severity.name() == text)
            .ok_or_else(|| format!("{text:?} is not one of low, medium, high, critical"))
    }
}

/// Something that people should hear of for as long as it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Names it as long as it lasts, and always the same where it comes back: "health/issue/disk:/", "emergency". Of
    /// two with one key the first counts.
    pub key: String,
    /// What it is about, for people and for silences: a check, a type of log.
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
    /// Keys of conditions that explain this one: while one of those holds, nobody is told of this one.
    pub behind: Vec<String>,
}

/// The key of an operation's episode, which explains what else is found of its latency.
pub fn episode_key(operation: &str) -> String {
    format!("baselines/episode/{operation}")
}

/// Somebody who knows of conditions.
#[async_trait]
pub trait Source: Send + Sync {
    /// Its name, by which all its keys begin: "health".
    fn name(&self) -> &'static str;

    /// Every condition that holds now; what is not among them is over.
    ///
    /// # Errors
    /// When it can't be told, so that nothing is taken for over.
    async fn conditions(&self) -> Result<Vec<Condition>>;
}

/// Rung by whoever has a new condition, or has lost one, lest it is only found at the next look.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Rings: the sources are asked soon.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits until somebody rings; who rang before is heard.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}
