//! The state of the dashboard: what is known, what is looked at, and what keys and answers make of that. It asks
//! nobody and draws nothing, and time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_client::Error;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::ask::Told;
use super::detail::{Detail, help};
use super::keys::{Action, Step, action};
use super::looks::{Looks, hang, wrap};
use super::node::{Base, Failure, NodeState, Page, Standing};
use super::pages::{self, whole};
use super::samples::chart;
use super::section::{More, Row, Section};
use super::tab::Tab;
use crate::console::Moment;
use crate::exit::Exit;
use crate::format;
use crate::render::clean;

/// The smallest terminal that something is drawn on.
pub(super) const SMALLEST: (u16, u16) = (20, 5);
/// Lines above and below a page.
const FRAME: u16 = 4;
/// The longest filter.
const FILTER: usize = 60;
/// The lines of a chart.
const CHART: usize = 4;

/// What somebody who looks after the world must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    Suspend,
    /// Ask everything now.
    Refresh,
    /// Ask this node about an issue.
    Explain(usize, String),
}

/// What stands in place of the page.
#[derive(Debug, Clone)]
pub(super) enum Over {
    Help(usize),
    Detail(Box<Detail>),
}

/// Which page: of which node, or the list of them.
pub(super) type Place = (Option<usize>, Tab);

/// The row that is chosen on a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Among all rows of the page.
    pub(super) index: usize,
    /// How many lines are above the screen.
    pub(super) top: usize,
    key: String,
}

/// A line of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Strip,
    Title(usize),
    Note(String),
    Header(usize),
    /// Of a section.
    Row(usize, usize),
    Blank,
}

#[derive(Debug, Clone)]
pub(super) struct App {
    pub(super) nodes: Vec<NodeState>,
    /// The node that is looked at; `None`: all of them.
    pub(super) opened: Option<usize>,
    pub(super) tab: Tab,
    pub(super) filter: String,
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) merge: bool,
    pub(super) interval: Duration,
    pub(super) looks: Looks,
    pub(super) size: (u16, u16),
    pub(super) now: Moment,
    pub(super) over: Option<Over>,
    /// What is shown of what is known.
    pub(super) page: Vec<Section>,
    pub(super) pieces: Vec<Piece>,
    cursors: BTreeMap<Place, Cursor>,
}

impl App {
    pub(super) fn new(names: &[String], looks: Looks, now: Moment) -> Self {
        let mut app = Self {
            nodes: names.iter().map(|name| NodeState::new(name)).collect(),
            opened: (names.len() == 1).then_some(0),
            tab: Tab::Overview,
            filter: String::new(),
            typing: false,
            paused: false,
            merge: false,
            interval: Duration::from_secs(2),
            looks,
            size: (80, 24),
            now,
            over: None,
            page: Vec::new(),
            pieces: Vec::new(),
            cursors: BTreeMap::new(),
        };
        app.settle();
        app
    }

    /// The oldest that is not yet stale.
    pub(super) fn limit(&self) -> Duration {
        self.interval.saturating_mul(3)
    }

    pub(super) fn place(&self) -> Place {
        (self.opened, self.opened.map_or(Tab::Overview, |_| self.tab))
    }

    pub(super) fn node(&self) -> Option<&NodeState> {
        self.nodes.get(self.opened?)
    }

    pub(super) fn cursor(&self) -> Cursor {
        self.cursors.get(&self.place()).cloned().unwrap_or_default()
    }

    /// How many lines of a page are seen.
    pub(super) fn height(&self) -> usize {
        usize::from(self.size.1.saturating_sub(FRAME))
    }

    /// Whether what is shown of the node is still true.
    pub(super) fn is_fresh(&self) -> bool {
        self.node().is_some_and(|node| {
            let tab = Some(self.tab).filter(|tab| !tab.is_of_base());
            matches!(node.standing(tab, self.limit(), self.now), Standing::Fresh)
        })
    }

    /// The code of what is known of all nodes.
    pub(super) fn exit(&self) -> Exit {
        let each = self.nodes.iter().map(|node| node.exit(self.limit(), self.paused, self.now));
        Exit::of_nodes(&each.collect::<Vec<_>>())
    }

    /// Since when a node does not answer, and why.
    pub(super) fn failure(&self, failure: &Failure) -> String {
        let age = whole(self.now.up.saturating_sub(failure.since.up));
        let since = failure.since.wall.strftime("%H:%M:%SZ");
        let message = clean(&failure.error.message);
        format!("since {since} ({}): {message}", format::duration(age))
    }

    /// The time now; what was told before is shown from now on.
    pub(super) fn tick(&mut self, now: Moment) {
        self.now = now;
        self.settle();
    }

    pub(super) fn resize(&mut self, size: (u16, u16)) {
        if self.size != size {
            self.size = size;
            self.settle();
        }
    }

    /// A node answered, or why it did not. It is shown with the next [`Self::tick`].
    pub(super) fn told(&mut self, node: usize, answer: Result<Base, Error>, now: Moment) {
        self.now = now;
        if let Some(node) = self.nodes.get_mut(node) {
            node.told(answer, now);
        }
    }

    /// A page came.
    pub(super) fn page(&mut self, node: usize, tab: Tab, told: Told, now: Moment) {
        self.now = now;
        if let Some(node) = self.nodes.get_mut(node) {
            if let Some(p95) = told.p95 {
                node.samples.add("p95", p95);
            }
            node.pages.insert(tab, Page { sections: told.sections, at: now });
        }
    }

    /// What a node said about an issue.
    pub(super) fn explained(&mut self, node: usize, issue: &str, said: Result<Vec<String>, Error>) {
        if self.opened == Some(node)
            && let Some(Over::Detail(detail)) = &mut self.over
            && detail.asked.as_deref() == Some(issue)
        {
            let unknown = |error: Error| vec![format!("unknown: {}", clean(&error.message))];
            detail.said = Some(said.unwrap_or_else(unknown));
        }
    }

    pub(super) fn key(&mut self, key: KeyEvent, now: Moment) -> Option<Effect> {
        self.now = now;
        let effect = match self.typing && self.typed(key) {
            true => None,
            false => action(key).and_then(|action| self.act(action)),
        };
        self.settle();
        effect
    }

    /// A key while a filter is typed; whether it was for that.
    fn typed(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return true;
        }
        match key.code {
            KeyCode::Char(_) if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Char(c) if self.filter.chars().count() < FILTER => {
                self.filter.push_str(&clean(c.encode_utf8(&mut [0; 4])));
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Up | KeyCode::Down | KeyCode::PageUp | KeyCode::PageDown => return false,
            _ => {}
        }
        true
    }

    fn act(&mut self, action: Action) -> Option<Effect> {
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::Suspend => return Some(Effect::Suspend),
            Action::Refresh => return Some(Effect::Refresh),
            Action::Pause => self.paused = !self.paused,
            Action::Help => {
                self.over = match self.over {
                    Some(Over::Help(_)) => None,
                    _ => Some(Over::Help(0)),
                };
            }
            Action::Move(step) => self.step(step),
            Action::Back => self.back(),
            Action::Enter if self.over.is_some() => self.over = None,
            Action::Enter => return self.enter(),
            Action::Filter if self.over.is_none() => self.typing = true,
            Action::Filter => {}
            Action::Choose(tab) => self.turn(tab),
            Action::Next => self.turn(self.tab.step(1)),
            Action::Previous => self.turn(self.tab.step(Tab::ALL.len() - 1)),
        }
        None
    }

    fn turn(&mut self, tab: Tab) {
        if self.opened.is_some() {
            self.over = None;
            self.tab = tab;
        }
    }

    fn back(&mut self) {
        if self.over.take().is_some() {
            return;
        }
        if !self.filter.is_empty() {
            self.filter.clear();
        } else if self.nodes.len() > 1 {
            self.opened = None;
        }
    }

    fn enter(&mut self) -> Option<Effect> {
        let index = self.cursor().index;
        let (section, row) = self.rows().nth(index)?;
        if let More::Node(node) = row.more {
            self.opened = Some(node);
            self.filter.clear();
            return None;
        }
        let nobody = NodeState::default();
        let detail = Detail::of(section, row, self.node().unwrap_or(&nobody));
        let asked = detail.asked.clone();
        self.over = Some(Over::Detail(Box::new(detail)));
        Some(Effect::Explain(self.opened?, asked?))
    }

    fn rows(&self) -> impl Iterator<Item = (&Section, &Row)> {
        self.page.iter().flat_map(|section| section.rows.iter().map(move |row| (section, row)))
    }

    fn step(&mut self, step: Step) {
        let page = self.height().saturating_sub(2).max(1);
        let moved = |from: usize, last: usize| match step {
            Step::Up => from.saturating_sub(1),
            Step::Down => from.saturating_add(1),
            Step::PageUp => from.saturating_sub(page),
            Step::PageDown => from.saturating_add(page),
            Step::Home => 0,
            Step::End => last,
        };
        match &mut self.over {
            // Settled below.
            Some(Over::Help(top)) => *top = moved(*top, usize::MAX),
            Some(Over::Detail(detail)) => detail.top = moved(detail.top, usize::MAX),
            None => {
                let last = self.rows().count().saturating_sub(1);
                let place = self.place();
                let pieces = self.pieces.len();
                let cursor = self.cursors.entry(place).or_default();
                if last == 0 {
                    // There is nothing to choose between, but there may be lines to read.
                    cursor.top = moved(cursor.top, pieces);
                }
                cursor.index = moved(cursor.index, last).min(last);
                cursor.key.clear();
            }
        }
    }

    /// Makes the page anew, and keeps what is chosen and seen within it.
    fn settle(&mut self) {
        let mut sections = match self.node() {
            Some(node) => pages::of_node(node, self.tab),
            None => pages::list(self),
        };
        if let Some(node) = self.node().filter(|_| !self.is_fresh()) {
            sections = sections.into_iter().map(Section::former).collect();
            let told = node.told_at(self.tab).map(|at| at.wall.strftime("%H:%M:%SZ"));
            if let (Some(first), Some(told)) = (sections.first_mut(), told) {
                first
                    .notes
                    .insert(0, format!("what was known at {told}, and may not be true now:"));
            }
        }
        if !self.filter.is_empty() {
            let filter = self.filter.as_str();
            sections = sections.into_iter().map(|section| section.filtered(filter)).collect();
            sections.retain(|section| !section.rows.is_empty());
        }
        self.page = sections;
        let strip = self.opened.is_some() && self.tab == Tab::Overview;
        let strip = strip && self.node().is_some_and(|node| node.base.is_some());
        self.pieces = pieces(&self.page, strip, usize::from(self.size.0).saturating_sub(2));
        let keys: Vec<String> = self.rows().map(|(_, row)| row.key.clone()).collect();
        let (place, height) = (self.place(), self.height());
        let mut cursor = self.cursor();
        // Whoever looks at the newest wants to go on doing so.
        if cursor.index > 0
            && !cursor.key.is_empty()
            && let Some(at) = keys.iter().position(|key| *key == cursor.key)
        {
            cursor.index = at;
        }
        cursor.index = cursor.index.min(keys.len().saturating_sub(1));
        cursor.key = keys.get(cursor.index).cloned().unwrap_or_default();
        let furthest = self.pieces.len().saturating_sub(height);
        if keys.len() > 1 {
            cursor.top = self.seen(cursor.index, cursor.top, keys.len() - 1).min(furthest);
        } else {
            cursor.top = cursor.top.min(furthest);
        }
        self.cursors.insert(place, cursor);
        let lines = self.over_lines().len();
        let furthest = lines.saturating_sub(height);
        match &mut self.over {
            Some(Over::Help(top)) => *top = (*top).min(furthest),
            Some(Over::Detail(detail)) => detail.top = detail.top.min(furthest),
            None => {}
        }
    }

    /// How many lines must be above the screen so that a row is on it.
    fn seen(&self, index: usize, top: usize, last: usize) -> usize {
        let rows = self.pieces.iter().enumerate();
        let mut rows = rows.filter(|(_, piece)| matches!(piece, Piece::Row(..)));
        let at = rows.nth(index).map_or(0, |(at, _)| at);
        let height = self.height().max(1);
        match index {
            0 if at < height => 0,
            _ if index == last && self.pieces.len() - at <= height => self.pieces.len(),
            _ if at < top => at,
            _ if at >= top + height => at + 1 - height,
            _ => top,
        }
    }

    /// The lines of what stands in place of the page, as they are broken.
    pub(super) fn over_lines(&self) -> Vec<String> {
        let room = usize::from(self.size.0).saturating_sub(2);
        let lines = match &self.over {
            None => return Vec::new(),
            Some(Over::Help(_)) => help(),
            Some(Over::Detail(detail)) => {
                let ring = self.node().and_then(|node| node.samples.of(&detail.key));
                let drawn = ring.map(|ring| {
                    let mut lines = chart(ring, (room, CHART), self.looks.unicode);
                    let range = super::samples::range(ring.iter().copied());
                    if let Some((low, high)) = range {
                        let latest = ring.back().copied().flatten();
                        let latest = latest.map_or("unknown".to_owned(), format::figure);
                        let (low, high) = (format::figure(low), format::figure(high));
                        lines.insert(0, format!("latest {latest}, lowest {low}, highest {high}"));
                        lines.push(String::new());
                    }
                    lines
                });
                let mut lines = drawn.unwrap_or_default();
                lines.extend(detail.body());
                lines
            }
        };
        lines.iter().flat_map(|line| hang(line, room)).collect()
    }
}

/// The lines of a page.
fn pieces(page: &[Section], strip: bool, room: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if strip {
        pieces.extend([Piece::Strip, Piece::Blank]);
    }
    for (number, section) in page.iter().enumerate() {
        if number > 0 {
            pieces.push(Piece::Blank);
        }
        pieces.push(Piece::Title(number));
        let noted = section.notes.iter().flat_map(|note| wrap(note, room));
        pieces.extend(noted.map(Piece::Note));
        match section.rows.is_empty() {
            true => pieces.extend(wrap(&section.empty, room).into_iter().map(Piece::Note)),
            false => pieces.push(Piece::Header(number)),
        }
        pieces.extend((0..section.rows.len()).map(|row| Piece::Row(number, row)));
    }
    pieces
}
