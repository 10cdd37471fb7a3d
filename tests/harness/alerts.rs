//! Hosts that tell people of what is wrong, and what they say of it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::clock::wait_until;
use crate::health::{Check, Patient, config};
use crate::{TestAgent, http};

/// An agent that is not started yet, and its patient, about whom nothing is done by itself: people hear of it at once
/// when `severity` is critical. `alerts` is what `[alerts]` says, and its channels.
pub fn host(severity: &str, alerts: impl FnOnce(&Path) -> String) -> (TestAgent, Patient) {
    let agent = TestAgent::new(|_| String::new());
    let db = Patient::new(agent.folder(), "db");
    let alerts = alerts(agent.folder());
    agent.configure(&said(&alerts, [&db.check().text("severity", severity)]));
    (agent, db)
}

/// A configuration with these alerts and these checks.
pub fn said<'a>(alerts: &str, checks: impl IntoIterator<Item = &'a Check>) -> String {
    format!("[alerts]\ngroup = \"0s\"\n{alerts}\n{}", config("", checks))
}

/// An `[alerts.channel.NAME]` with these lines.
pub fn channel(name: &str, kind: &str, lines: &str) -> String {
    format!("[alerts.channel.{name}]\nkind = {kind:?}\ntimeout = \"2s\"\npause = \"0s\"\n{lines}\n")
}

/// A file with a secret that only its owner may read.
///
/// # Panics
/// When it can't be written.
pub fn secret(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(format!("secret-{name}"));
    std::fs::write(&file, format!("{text}\n")).expect("a secret can be written");
    mode(&file, 0o600);
    file
}

/// Lets a file be read by whom `mode` says.
///
/// # Panics
/// When it can't be changed.
pub fn mode(file: &Path, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).expect("our own file");
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

impl TestAgent {
    /// What the agent says of its alerts over HTTP.
    ///
    /// # Panics
    /// When it says nothing.
    pub fn alerts(&self) -> Value {
        let (status, body) = http::get(self.http(), "/api/operations/alerts/status");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// What fires about this subject.
    pub fn firing(&self, subject: &str) -> Option<Value> {
        list(&self.alerts()["firing"]).into_iter().find(|alert| alert["subject"] == subject)
    }

    /// What is wrong with a channel; empty when nothing is.
    pub fn trouble(&self, channel: &str) -> String {
        let alerts = self.alerts();
        let found = list(&alerts["channels"]).into_iter().find(|it| it["name"] == channel);
        let trouble = found.map(|it| it["trouble"].clone()).unwrap_or_default();
        trouble.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until every message has gone its way.
    ///
    /// # Panics
    /// When one waits.
    pub fn wait_nothing_waits(&self) {
        wait_until("an empty outbox", || {
            let waiting = &self.alerts()["waiting"];
            waiting.is_null() || *waiting == 0
        });
    }
}
