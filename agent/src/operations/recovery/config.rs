//! `[contacts]`: whom an operator calls.

use crate::config::reader::Section;

/// Whom to call; shown with an emergency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contacts {
    /// Who is on call.
    pub on_call: String,
    /// Who decides when the one on call can't.
    pub escalation: String,
    /// For leaks and intrusions.
    pub security: String,
    /// For what can wait.
    pub non_urgent: String,
}

impl Contacts {
    /// Reads the section.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("contacts");
        let text = |key: &'static str, default: &'static str, doc: &'static str| {
            section.text(key, Some(default), doc)
        };
        let contacts = Self {
            on_call: text("on_call", "the PagerDuty schedule", "Who is on call."),
            escalation: text(
                "escalation",
                "engineering-lead@genesis.trading",
                "Who decides when the one on call can't.",
            ),
            security: text(
                "security",
                "security@genesis.trading",
                "Whom to tell about leaks and intrusions.",
            ),
            non_urgent: text("non_urgent", "#ops-discussion", "Where to put what can wait."),
        };
        section.finish();
        contacts
    }
}
