//! What a measurement says for docs/performance.md: where the environment variable GENESIS_FIGURES names a file, each
//! figure becomes a line of JSON at its end. Whether a goal is met is not decided here but where the page is made.

use std::fs::OpenOptions;
use std::io::{self, Write};

use serde_json::{Value, json};

/// One number that was measured, and what it is held against.
///
/// A ratio is always the value divided by the peer's, whichever way is the better one.
#[must_use = "it is not said yet"]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    peer: Value,
    goal: Value,
    unjudged: Value,
}

impl Figure {
    /// The name tells it apart from the others of its bench, and from run to run.
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let (name, peer, goal, unjudged) = (name.into(), Value::Null, Value::Null, Value::Null);
        Self { name, value, unit, peer, goal, unjudged }
    }

    /// What the peer came to in the same run, in the same unit; `None` where it could not be had.
    pub(crate) fn beside(mut self, peer: &str, value: impl Into<Option<f64>>) -> Self {
        self.peer = json!({ "name": peer, "value": value.into() });
        self
    }

    pub(crate) fn at_most(self, limit: f64) -> Self {
        self.goal("value", "at most", limit)
    }

    pub(crate) fn at_least(self, limit: f64) -> Self {
        self.goal("value", "at least", limit)
    }

    pub(crate) fn ratio_at_most(self, limit: f64) -> Self {
        self.goal("ratio", "at most", limit)
    }

    pub(crate) fn ratio_at_least(self, limit: f64) -> Self {
        self.goal("ratio", "at least", limit)
    }

    /// The machine lets nobody judge it now, and why.
    pub(crate) fn unjudged(mut self, why: impl Into<String>) -> Self {
        self.unjudged = Value::String(why.into());
        self
    }

    /// Appends it. A figure that is no number is written as null, which meets no goal.
    pub(crate) fn say(self) -> io::Result<()> {
        let Some(path) = std::env::var_os("GENESIS_FIGURES") else { return Ok(()) };
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        // In one write, so that no line is torn.
        file.write_all(format!("{}\n", self.line()).as_bytes())
    }

    fn goal(mut self, of: &str, bound: &str, limit: f64) -> Self {
        self.goal = json!({ "of": of, "bound": bound, "limit": limit });
        self
    }

    fn line(&self) -> Value {
        let mut line = json!({
            // The support is compiled into each bench, which is the crate.
            "bench": env!("CARGO_CRATE_NAME"),
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
        });
        for (key, value) in
            [("peer", &self.peer), ("goal", &self.goal), ("unjudged", &self.unjudged)]
        {
            if !value.is_null() {
                line[key] = value.clone();
            }
        }
        line
    }
}
