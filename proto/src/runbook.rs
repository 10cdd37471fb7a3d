//! The runbook, embedded: the same pages for the agent, which points to them, and for the client, which shows
//! them where no network is left.

/// A page of the runbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Its name, such as "disk-space".
    pub name: &'static str,
    /// Markdown.
    pub text: &'static str,
}

impl Page {
    /// Its first heading.
    pub fn title(&self) -> &'static str {
        let heading = self.text.lines().find_map(|line| line.strip_prefix("# "));
        heading.unwrap_or(self.name)
    }
}

macro_rules! pages {
    ($($name:literal)*) => {
        /// Every page, by name.
        pub const PAGES: &[Page] = &[
            $(Page { name: $name, text: include_str!(concat!("../../docs/runbook/", $name, ".md")) },)*
        ];
    };
}

pages! {
    "alerts"
    "api-degradation"
    "backup"
    "baselines"
    "cascade"
    "certificate-expired"
    "certificate-renewal"
    "certificates"
    "checker-suspect"
    "clock"
    "connection-pool"
    "database"
    "database-lock"
    "dependencies"
    "disk-space"
    "drills"
    "emergency"
    "experiments"
    "fleet"
    "health"
    "incident"
    "logs"
    "matrices"
    "memory-leak"
    "on-call"
    "performance-degradation"
    "rollback"
    "secrets"
    "service-down"
    "storm"
    "system-failure"
    "vulnerability"
}

/// The page of this name.
pub fn page(name: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.name == name)
}
