//! Checks whose trouble a test decides, and what genesisctl says of health.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::TestAgent;
use crate::clock::wait_until;

/// A `[[health.check]]`, looked at five times a second.
#[derive(Debug, Clone)]
pub struct Check {
    /// Its name.
    pub id: String,
    lines: Vec<(String, String)>,
}

impl Check {
    /// A check of this probe.
    pub fn new(id: &str, probe: &str) -> Self {
        let check = Self { id: id.to_owned(), lines: Vec::new() };
        // A second attempt soon after the first, and looks that a loaded machine makes in time.
        let check = check.text("id", id).text("probe", probe).text("interval", "200ms");
        check.text("timeout", "190ms").text("cooldown", "200ms")
    }

    /// Sets a key to what is TOML already.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        self.lines.retain(|(known, _)| known != key);
        self.lines.push((key.to_owned(), value.to_string()));
        self
    }

    /// Sets a key to a text.
    #[must_use]
    pub fn text(self, key: &str, text: impl Display) -> Self {
        let text = text.to_string();
        self.set(key, format!("{text:?}"))
    }

    fn toml(&self) -> String {
        let lines = self.lines.iter().map(|(key, value)| format!("{key} = {value}\n"));
        format!("[[health.check]]\n{}", lines.collect::<String>())
    }
}

/// A configuration with these checks and no others, in which actions may begin at once. `more` are lines of
/// `[remediation]`.
pub fn config<'a>(more: &str, checks: impl IntoIterator<Item = &'a Check>) -> String {
    let checks: String = checks.into_iter().map(Check::toml).collect();
    format!("[remediation]\nstartup_grace = \"0s\"\n{more}\n[health]\ndefaults = false\n{checks}")
}

/// Something that is well or ill as a test says, and counts how often it is looked at and treated.
#[derive(Debug, Clone)]
pub struct Patient {
    folder: PathBuf,
    /// Its name, which is that of its check.
    pub id: String,
}

impl Patient {
    /// One that is well, whose files are in `folder`.
    ///
    /// # Panics
    /// When they can't be made.
    pub fn new(folder: &Path, id: &str) -> Self {
        let patient = Self { folder: folder.join(format!("patient-{id}")), id: id.to_owned() };
        std::fs::create_dir(&patient.folder).expect("a folder");
        let look = "printf . >> looks; read value < value || exit 1; echo \"$value\"\n";
        // It may be decided beforehand how it is at the look after this one.
        patient.write("look", &format!("{look}[ ! -e next ] || mv next value\n"));
        patient.is(0);
        patient
    }

    /// Says how it is: over 0 is bad.
    ///
    /// # Panics
    /// When the file can't be written.
    pub fn is(&self, value: u32) {
        // At once, so that no look finds half of it.
        self.write("value.new", &format!("{value}\n"));
        std::fs::rename(self.file("value.new"), self.file("value")).expect("the same folder");
    }

    fn write(&self, name: &str, text: &str) {
        let text = match name {
            "look" | "treat" => format!("cd {:?} || exit 99\n{text}", self.folder),
            _ => text.to_owned(),
        };
        std::fs::write(self.file(name), text).expect("a file of the test's own");
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The check that looks at it.
    pub fn check(&self) -> Check {
        let command = format!("[\"sh\", {:?}]", self.file("look"));
        Check::new(&self.id, "queue-command").set("command", command).text("crit", 0)
    }

    /// An action, as TOML: it notes that it has begun, then does what the shell is told in `script`, in the folder
    /// of the patient: `echo 0 > value` heals, and `echo 1 > next` makes ill again behind the next look.
    pub fn treatment(&self, script: &str) -> String {
        let note = "echo \"$GENESIS_ATTEMPT $$\" >> treatments\n";
        self.write("treat", &format!("{note}{script}\n"));
        format!("{{ command = [\"sh\", {:?}], timeout = \"60s\" }}", self.file("treat"))
    }

    /// How often it was looked at.
    pub fn looks(&self) -> u64 {
        std::fs::metadata(self.file("looks")).map_or(0, |facts| facts.len())
    }

    /// Waits until it has been looked at so many times more.
    ///
    /// # Panics
    /// When it is not.
    pub fn wait_for_looks(&self, more: u64) {
        let before = self.looks();
        wait_until(&format!("{more} looks at {}", self.id), || self.looks() >= before + more);
    }

    /// The attempts that have treated it, in order.
    pub fn treatments(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.file("treatments")).unwrap_or_default();
        text.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// A text of an object, without the beginning that names its enumeration.
pub fn word(object: &Value, name: &str) -> String {
    let text = object[name].as_str().unwrap_or_default();
    let prefixes = ["ISSUE_STATE_", "ATTEMPT_OUTCOME_", "ESCALATION_TRIGGER_", "CONDITION_"];
    let bare = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix));
    bare.unwrap_or(text).to_owned()
}

impl TestAgent {
    /// `health dashboard`.
    pub fn dashboard(&self) -> Value {
        self.ctl(&["health", "dashboard", "-o", "json"]).response()
    }

    /// What the dashboard says of a check.
    ///
    /// # Panics
    /// When it says nothing.
    pub fn seen(&self, check: &str) -> Value {
        let dashboard = self.dashboard();
        let found = list(&dashboard["checks"]).into_iter().find(|seen| seen["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {dashboard}"))
    }

    /// Waits until a check was looked at so often.
    ///
    /// # Panics
    /// When it is not.
    pub fn wait_for_looks(&self, check: &str, times: usize) {
        for _ in 0..times {
            let before = self.seen(check)["checkedAt"].clone();
            let other = || self.seen(check)["checkedAt"] != before;
            wait_until(&format!("another look at {check}"), other);
        }
    }

    /// The open or else latest issue of a check.
    pub fn issue(&self, check: &str) -> Value {
        let output = self.ctl(&["health", "explain", check, "-o", "json"]);
        // There may be none.
        if output.code == 0 { output.response()["issue"].clone() } else { Value::Null }
    }

    /// The state of that issue; empty when there is none.
    pub fn issue_state(&self, check: &str) -> String {
        word(&self.issue(check), "state")
    }

    /// Waits for that state.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait_state(&self, check: &str, state: &str) {
        wait_until(&format!("{check} to be {state}"), || self.issue_state(check) == state);
    }

    /// The codes of the gates that hold actions about a check back.
    pub fn denials(&self, check: &str) -> Vec<String> {
        list(&self.issue(check)["denials"]).iter().map(|denial| word(denial, "code")).collect()
    }

    /// Waits until this gate holds actions about a check back.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_denial(&self, check: &str, code: &str) {
        let what = format!("{code} to hold actions about {check} back");
        wait_until(&what, || self.denials(check).iter().any(|denial| denial == code));
    }

    /// Attempts of a check (of all for ""), oldest first.
    pub fn attempts(&self, check: &str) -> Vec<Value> {
        let all = ["health", "history", "--limit", "1000", "-o", "json"];
        let of = ["--check", check];
        let arguments = [&all[..], if check.is_empty() { &[] } else { &of }].concat();
        let mut attempts = list(&self.ctl(&arguments).response()["attempts"]);
        attempts.reverse();
        attempts
    }

    /// How the attempts of a check ended, oldest first.
    pub fn outcomes(&self, check: &str) -> Vec<String> {
        self.attempts(check).iter().map(|attempt| word(attempt, "outcome")).collect()
    }

    /// Waits until the attempts of a check have ended so, oldest first.
    ///
    /// # Panics
    /// When they do not.
    pub fn wait_outcomes(&self, check: &str, outcomes: &[&str]) {
        let what = format!("attempts of {check} that end {outcomes:?}");
        wait_until(&what, || self.outcomes(check) == outcomes);
    }

    /// The issues of a check, oldest first.
    pub fn issues(&self, check: &str) -> Vec<Value> {
        let history = self.ctl(&["health", "history", "--check", check, "-o", "json"]);
        let mut issues = list(&history.response()["issues"]);
        issues.reverse();
        issues
    }

    /// All incidents, oldest first.
    pub fn incidents(&self) -> Vec<Value> {
        let answer = self.ctl(&["incident", "list", "-o", "json"]).response();
        let mut incidents = list(&answer["incidents"]);
        incidents.reverse();
        incidents
    }

    /// The incidents that go on.
    pub fn open_incidents(&self) -> Vec<Value> {
        list(&self.ctl(&["incident", "list", "--open", "-o", "json"]).response()["incidents"])
    }

    /// What holds all actions back.
    pub fn holds(&self) -> Vec<String> {
        let dashboard = self.dashboard();
        list(&dashboard["holds"]).iter().map(|hold| word(hold, "code")).collect()
    }

    /// What called people, oldest first.
    pub fn triggers(&self) -> Vec<String> {
        self.incidents().iter().map(|incident| word(incident, "trigger")).collect()
    }
}
