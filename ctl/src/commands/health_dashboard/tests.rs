//! The state by tables, and what is drawn of it.

mod any;
mod drawn;
mod state;

use std::time::Duration;

use genesis_client::v1::{
    Attempt, AttemptOutcome, Condition, DomainStatus, GetHealthStatusResponse, GetStatusResponse,
    HealthCheck, Issue, IssueState, ListEntriesResponse, Objective, OplogEntry, Severity,
};
use genesis_client::{Error, Kind};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::{App, Effect};
use super::ask::Told;
use super::draw::draw;
use super::looks::Looks;
use super::node::Base;
use super::{answers, tab::Tab};
use crate::console::Moment;

/// What would break a terminal.
pub(super) const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;owned\u{7}\n\r\t\u{9b}31m\u{202e}b";

pub(super) const PLAIN: Looks = Looks { colour: false, unicode: true };
pub(super) const COLOUR: Looks = Looks { colour: true, unicode: true };

/// So many seconds after the beginning.
pub(super) fn at(seconds: u64) -> Moment {
    let wall = 1_764_331_200 + i64::try_from(seconds).unwrap();
    Moment {
        wall: jiff::Timestamp::from_second(wall).unwrap(),
        up: Duration::from_secs(1000 + seconds),
    }
}

pub(super) fn time(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 1_764_331_200 + seconds, nanos: 0 })
}

pub(super) fn check(name: &str, condition: Condition, detail: &str, value: f64) -> HealthCheck {
    HealthCheck {
        check: name.into(),
        condition: condition.into(),
        detail: detail.into(),
        value: Some(value),
        limit: "below 10 %".into(),
        took: Some(prost_types::Duration { seconds: 0, nanos: 3_000_000 }),
        ..Default::default()
    }
}

/// A host that is well.
pub(super) fn well(name: &str) -> Base {
    let checks = vec![
        check("clock", Condition::Ok, "2ms off", 2.0),
        check("disk:/", Condition::Ok, "71 % free", 71.0),
        check("memory", Condition::Ok, "41 % used", 41.0),
    ];
    let objective = |name: &str, goal, succeeded| Objective {
        name: name.into(),
        goal,
        succeeded,
        success: Some(1.0),
        ..Default::default()
    };
    Base {
        health: GetHealthStatusResponse {
            condition: Condition::Ok.into(),
            checks,
            objectives: vec![
                objective("operations", 0.995, 200),
                objective("remediations", 0.9, 3),
            ],
            ..Default::default()
        },
        fleet: None,
        status: GetStatusResponse {
            hostname: name.into(),
            condition: Condition::Ok.into(),
            resident_bytes: 9_300_000,
            domains: vec![DomainStatus {
                domain: "logs".into(),
                condition: Condition::Ok.into(),
                summary: "2 sources".into(),
                findings: vec![],
            }],
            ..Default::default()
        },
    }
}

/// One that is not.
pub(super) fn ill(name: &str) -> Base {
    let mut base = well(name);
    base.health.condition = Condition::Critical.into();
    base.health.checks[1] = check("disk:/", Condition::Critical, "7 % free", 7.0);
    base.health.issues = vec![Issue {
        id: "disk:/#3".into(),
        check: "disk:/".into(),
        state: IssueState::Cooldown.into(),
        severity: Severity::High.into(),
        since: time(-60),
        attempts: 2,
        detail: "7 % free".into(),
        ..Default::default()
    }];
    base.health.attempts = vec![Attempt {
        id: "1".into(),
        check: "disk:/".into(),
        episode: 3,
        number: 2,
        action: "make-room".into(),
        plan: vec!["delete 3 archived logs".into()],
        actor: "agent".into(),
        at: time(-50),
        ended_at: time(-45),
        outcome: AttemptOutcome::Failed.into(),
        detail: "freed 2.0 GB".into(),
        ..Default::default()
    }];
    base
}

pub(super) fn unreachable() -> Error {
    let message = "no agent answers at web-2:7443";
    Error::new(Kind::Unreachable, "UNAVAILABLE", "AGENT_UNREACHABLE", message, "start it")
}

pub(super) fn app(names: &[&str], looks: Looks) -> App {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    App::new(&names, looks, at(0))
}

/// One node that answered.
pub(super) fn told(base: Base) -> App {
    let mut app = app(&["web-1:7443"], PLAIN);
    app.told(0, Ok(base), at(0));
    app.tick(at(0));
    app
}

pub(super) fn entries(count: u64) -> Told {
    let entry = |sequence| OplogEntry {
        sequence,
        at: time(0),
        actor: "olga".into(),
        action: "note".into(),
        outcome: "ok".into(),
        ..Default::default()
    };
    let entries = (1..=count).rev().map(entry).collect();
    vec![answers::oplog(&ListEntriesResponse { entries, searched_to: 0 })].into()
}

pub(super) fn press(app: &mut App, code: KeyCode) -> Option<Effect> {
    let now = app.now;
    app.key(KeyEvent::new(code, KeyModifiers::NONE), now)
}

pub(super) fn text(app: &mut App, keys: &str) {
    for key in keys.chars() {
        press(app, KeyCode::Char(key));
    }
}

pub(super) fn buffer(app: &mut App, size: (u16, u16)) -> Buffer {
    app.resize(size);
    app.tick(app.now);
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    terminal.backend().buffer().clone()
}

/// The lines as they are seen, without what is blank at their ends.
pub(super) fn screen(app: &mut App, size: (u16, u16)) -> Vec<String> {
    let buffer = buffer(app, size);
    let line = |y| {
        let mut line = String::new();
        let mut hidden = 0;
        for x in 0..size.0 {
            let symbol = buffer[(x, y)].symbol();
            if hidden == 0 {
                line.push_str(symbol);
                hidden = super::looks::width(symbol).saturating_sub(1);
            } else {
                // Behind one that is wide.
                hidden -= 1;
            }
        }
        line.trim_end().to_owned()
    };
    (0..size.1).map(line).collect()
}

pub(super) fn open(app: &mut App, tab: Tab) {
    press(app, KeyCode::Char(tab.key()));
}
