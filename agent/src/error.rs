//! The one error that crosses the agent's rooms: few kinds, by what the caller should do about it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use genesis_storage::StorageError;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Mend the request.
    Invalid,
    /// Meet the unmet conditions first.
    Refused,
    /// Name something that exists.
    NotFound,
    /// Look at the state again: it is not what the request assumed.
    Conflict,
    /// Try again later.
    Unavailable,
    /// The identity lacks the role.
    NotAllowed,
    /// Look what came of it: it was begun, and its end is not known.
    Incomplete,
    /// Stopped because somebody asked for it.
    Cancelled,
    /// A fault of ours or of the host; the journal has the details.
    Internal,
}

/// One unmet condition of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Stable UPPER_SNAKE code.
    pub code: &'static str,
    /// What it concerns.
    pub subject: String,
    /// What is unmet, and how to meet it.
    pub message: String,
}

/// An error with a stable code (docs/errors.md lists each) and what it concerns.
#[derive(Debug)]
pub struct Error {
    /// What to do about it.
    pub kind: Kind,
    /// Stable UPPER_SNAKE code.
    pub code: &'static str,
    /// What was attempted, on what, and what to do next.
    pub message: String,
    /// For refusals: one entry for each unmet condition.
    pub unmet: Vec<Unmet>,
    /// How long to wait before another try, where known.
    pub retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind with its code and message.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
            unmet: Vec::new(),
            retry_after: None,
            source: None,
        }
    }

    /// The request is wrong in itself.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, code, message)
    }

    /// No such thing.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, code, message)
    }

    /// The state is not what the request assumed.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, code, message)
    }

    /// Something that is needed can't be had now.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, code, message)
    }

    /// A fault of ours or of the host.
    pub fn internal(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, code, message)
    }

    /// Conditions are unmet; nothing was changed.
    pub fn refused(code: &'static str, message: impl Into<String>, unmet: Vec<Unmet>) -> Self {
        Self { unmet, ..Self::new(Kind::Refused, code, message) }
    }

    /// Somebody asked it to stop.
    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "CANCELLED", "stopped at a safe point because it was cancelled")
    }

    /// The same error with these unmet conditions.
    #[must_use]
    pub fn with_unmet(mut self, unmet: Vec<Unmet>) -> Self {
        self.unmet = unmet;
        self
    }

    /// The same error with what caused it; kept out of `Display`, shown by [`Error::chain`].
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The same error with a hint when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The message followed by each cause, on one line.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = StdError::source(self);
        while let Some(source) = cause {
            text.push_str(": ");
            text.push_str(&source.to_string());
            cause = source.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<StorageError> for Error {
    fn from(source: StorageError) -> Self {
        let kind = match source {
            StorageError::OutOfSpace { .. } | StorageError::NeedsRestart { .. } => {
                Kind::Unavailable
            }
            _ => Kind::Internal,
        };
        Self::new(kind, source.code(), "the embedded database failed").caused_by(source)
    }
}

/// What the agent's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
