//! What is shown in place of a page: the help, and all that is known of a row.

use genesis_client::v1::Attempt;

use super::super::health_check::circumstances;
use super::super::{alerts, run};
use super::keys::HELP;
use super::node::NodeState;
use super::section::{More, Row, Section, TREND};
use super::tab::Tab;
use crate::format;
use crate::render::{clean, page_lines};

/// All that is known of a row, as it was when it was opened.
#[derive(Debug, Clone, Default)]
pub(super) struct Detail {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    /// Of which samples the chart is, if there are any.
    pub(super) key: String,
    /// The issue or check that the agent is asked about.
    pub(super) asked: Option<String>,
    /// What it said.
    pub(super) said: Option<Vec<String>>,
    /// How many lines are above the screen.
    pub(super) top: usize,
}

impl Detail {
    pub(super) fn of(section: &Section, row: &Row, node: &NodeState) -> Self {
        let first = row.cells.first().map_or("", |cell| cell.text());
        let title = format!("{}: {first}", section.title);
        let (lines, asked) = match &row.more {
            More::Run(run) => (page_lines(run::page(run)), None),
            More::Alert(alert) => (page_lines(alerts::page(alert)), None),
            More::Attempt(attempt) => {
                let mut lines = pairs(section, row);
                lines.extend(steps(attempt));
                (lines, None)
            }
            More::Check(check) => {
                let known = node.base.as_ref().map(|(base, _)| &base.health.checks);
                let known = known.and_then(|all| all.iter().find(|one| one.check == *check));
                let mut lines = pairs(section, row);
                if let Some(known) = known {
                    let at = format::time(known.checked_at.as_ref());
                    lines.push(String::new());
                    lines.push(clean(&circumstances(known)).into_owned());
                    lines.push(format!("looked at {at}"));
                }
                (lines, Some(check.clone()))
            }
            More::Node(_) | More::Nothing => (pairs(section, row), None),
        };
        // An issue is about the value of its check.
        let check = row.key.strip_prefix("issue ").and_then(|issue| issue.rsplit_once('#'));
        let key = check.map_or_else(|| row.key.clone(), |(check, _)| format!("check {check}"));
        Self { title, lines, key, asked, ..Self::default() }
    }

    /// Its lines without the chart, in the room that there is.
    pub(super) fn body(&self) -> Vec<String> {
        let mut lines = self.lines.clone();
        match (&self.asked, &self.said) {
            (None, _) => {}
            (Some(_), None) => lines.extend([String::new(), "the agent is asked".to_owned()]),
            (Some(_), Some(said)) => {
                lines.push(String::new());
                lines.extend(said.iter().cloned());
            }
        }
        lines
    }
}

/// The cells with their columns' names, in full.
fn pairs(section: &Section, row: &Row) -> Vec<String> {
    let longest = section.columns.iter().map(|name| name.len()).max().unwrap_or(0);
    let named = section.columns.iter().zip(&row.cells).filter(|(name, _)| **name != TREND);
    let said = named.filter(|(_, cell)| !cell.text().is_empty());
    said.map(|(name, cell)| format!("{name:longest$}  {}", cell.text())).collect()
}

fn steps(attempt: &Attempt) -> Vec<String> {
    let facts = [
        ("before", attempt.before.as_str()),
        ("after", attempt.after.as_str()),
        ("said", attempt.detail.as_str()),
    ];
    let told = facts.iter().filter(|(_, text)| !text.is_empty());
    let told = told.map(|(name, text)| format!("{name}: {}", clean(text)));
    let plan = attempt.plan.iter().map(|step| format!("plan: {}", clean(step)));
    let took = format::between(attempt.at.as_ref(), attempt.ended_at.as_ref());
    [String::new(), format!("took {took}")].into_iter().chain(told).chain(plan).collect()
}

/// The keys, and what is on the tabs.
pub(super) fn help() -> Vec<String> {
    let mut lines = vec!["Nothing here changes anything.".to_owned(), String::new()];
    lines.extend(HELP.iter().map(|(keys, what)| format!("{keys:12}{what}")));
    lines.push(String::new());
    lines.extend(Tab::ALL.iter().map(|tab| {
        let name = format!("{} {}", tab.key(), tab.name());
        format!("{name:12}{}", tab.holds())
    }));
    lines.extend([
        String::new(),
        "STALE: no answer for three intervals. UNREACHABLE: the node does not answer.".to_owned(),
        "What is shown then is what was known before, and no news of what is.".to_owned(),
        "TREND: the latest values, each between the lowest and the highest of them.".to_owned(),
    ]);
    lines
}
