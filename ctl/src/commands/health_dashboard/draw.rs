//! Draws the state, and nothing else.

mod frame;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::app::{App, Over, Piece, SMALLEST};
use super::looks::{Looks, cut, cut_within, width};
use super::node::NodeState;
use super::pages::MERGED;
use super::samples::spark;
use super::section::{More, Row, Section, short_time};
use super::table::{Place, places};
use crate::format;

/// Where is drawn, how, and how wide that is.
pub(super) struct Sheet<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    looks: Looks,
}

impl Sheet<'_> {
    /// Writes a text, cut to `most` cells and to what is left of the line; where it ends.
    pub(super) fn put(
        &mut self,
        (x, y): (usize, usize),
        text: &str,
        most: usize,
        style: Style,
    ) -> usize {
        let room = usize::from(self.area.width).saturating_sub(x).min(most);
        if room == 0 || y >= usize::from(self.area.height) {
            return x;
        }
        let cut = cut(text, room);
        let text = self.looks.text(&cut);
        // Both are within the area, whose sides are 16 bits wide.
        let (column, line) = (self.area.x + x as u16, self.area.y + y as u16);
        self.buffer.set_stringn(column, line, &text, room, style);
        x + width(&text)
    }

    /// The same at the end of the line; where it begins.
    pub(super) fn put_last(&mut self, y: usize, text: &str, style: Style) -> usize {
        let all = usize::from(self.area.width);
        let x = all.saturating_sub(width(text) + 1);
        self.put((x, y), text, all, style);
        x
    }

    pub(super) fn style(&mut self, (x, y): (usize, usize), width: usize, style: Style) {
        let room = usize::from(self.area.width).saturating_sub(x).min(width);
        if room > 0 && y < usize::from(self.area.height) {
            let (x, y) = (self.area.x + x as u16, self.area.y + y as u16);
            self.buffer.set_style(Rect::new(x, y, room as u16, 1), style);
        }
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let mut sheet = Sheet { buffer: frame.buffer_mut(), area, looks: app.looks };
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        sheet.put((0, 0), "too small", usize::from(area.width), Style::new());
        let wanted = format!("{}x{} needed", SMALLEST.0, SMALLEST.1);
        sheet.put((0, 1), &wanted, usize::from(area.width), Style::new());
        return;
    }
    frame::head(&mut sheet, app);
    frame::foot(&mut sheet, app);
    match app.over {
        Some(_) => over(&mut sheet, app),
        None => page(&mut sheet, app),
    }
}

/// The first line below the frame's head.
const TOP: usize = 3;

fn over(sheet: &mut Sheet<'_>, app: &App) {
    let top = match &app.over {
        Some(Over::Help(top)) => *top,
        Some(Over::Detail(detail)) => detail.top,
        None => 0,
    };
    let room = usize::from(sheet.area.width).saturating_sub(2);
    let lines = app.over_lines();
    for (y, line) in lines.iter().skip(top).take(app.height()).enumerate() {
        sheet.put((1, TOP + y), line, room, Style::new());
    }
}

fn page(sheet: &mut Sheet<'_>, app: &App) {
    let room = usize::from(sheet.area.width).saturating_sub(2);
    let cursor = app.cursor();
    let columns: Vec<Vec<Place>> = app.page.iter().map(|section| places(section, room)).collect();
    let before = |section: usize| -> usize {
        app.page.iter().take(section).map(|section| section.rows.len()).sum()
    };
    if app.page.is_empty() && app.pieces.is_empty() {
        let awaited = match app.node() {
            _ if !app.filter.is_empty() => "nothing holds that",
            Some(node) if node.failure.is_some() => "nothing is known of it",
            _ => "no answer yet",
        };
        sheet.put((1, TOP), awaited, room, app.looks.faint());
    }
    let seen = app.pieces.iter().skip(cursor.top).take(app.height());
    for (y, piece) in seen.enumerate() {
        let y = TOP + y;
        match piece {
            Piece::Blank => {}
            Piece::Strip => strip(sheet, app, y),
            Piece::Title(number) => title(sheet, app, &app.page[*number], y),
            Piece::Note(note) => {
                sheet.put((1, y), note, room, Style::new());
            }
            Piece::Header(number) => {
                for place in &columns[*number] {
                    let name = cut(place.name, place.width);
                    let aside = if place.right { place.width - width(&name) } else { 0 };
                    let at = (1 + place.at + aside, y);
                    sheet.put(at, &name, place.width, app.looks.faint());
                }
            }
            Piece::Row(number, row) => {
                let section = &app.page[*number];
                self::row(sheet, app, &columns[*number], &section.rows[*row], y);
                if before(*number) + row == cursor.index {
                    sheet.style((0, y), usize::MAX, app.looks.chosen());
                }
            }
        }
    }
}

fn title(sheet: &mut Sheet<'_>, app: &App, section: &Section, y: usize) {
    let room = usize::from(sheet.area.width).saturating_sub(2);
    let x = sheet.put((1, y), section.title, room, app.looks.title());
    let sums = section.rows.iter().filter(|row| row.key == MERGED).count();
    let (shown, all) = (section.rows.len() - sums, section.all - sums);
    let count = match shown == all {
        true if all == 0 => return,
        true => all.to_string(),
        false => format!("{shown} of {all}"),
    };
    sheet.put((x + 2, y), &count, room, app.looks.faint());
}

fn row(sheet: &mut Sheet<'_>, app: &App, columns: &[Place], row: &Row, y: usize) {
    for place in columns {
        let x = 1 + place.at;
        let Some(index) = place.index else {
            let node = match row.more {
                More::Node(node) => app.nodes.get(node).map(|node| (node, "node issues")),
                _ => app.node().map(|node| (node, row.key.as_str())),
            };
            if let Some((node, key)) = node {
                trend(sheet, node, key, (x, y), place.width);
            }
            continue;
        };
        let Some(cell) = row.cells.get(index) else { continue };
        let short = short_time(cell.text());
        let text = short.as_deref().unwrap_or(cell.text());
        let text = match row.more {
            // Of addresses both ends tell them apart.
            More::Node(_) if index == 0 => cut_within(text, place.width),
            _ => cut(text, place.width),
        };
        let aside = if place.right { place.width - width(&text) } else { 0 };
        sheet.put((x + aside, y), &text, place.width - aside, app.looks.tone(cell.tone()));
    }
}

/// The latest values, the newest at the right; where it ends.
fn trend(
    sheet: &mut Sheet<'_>,
    node: &NodeState,
    key: &str,
    (x, y): (usize, usize),
    width: usize,
) -> usize {
    if let Some(ring) = node.samples.of(key) {
        let line = spark(ring, width, sheet.looks.unicode);
        let aside = width - line.chars().count().min(width);
        let style = sheet.looks.trend();
        sheet.put((x + aside, y), &line, width, style);
    }
    x + width
}

/// How a node has been, in a line.
fn strip(sheet: &mut Sheet<'_>, app: &App, y: usize) {
    let Some(node) = app.node() else { return };
    let Some((base, _)) = &node.base else { return };
    let length = if sheet.area.width < 100 { 12 } else { 24 };
    let memory = format::bytes(base.status.resident_bytes);
    let mut x = 1;
    for (name, value, key) in [
        ("issues", base.health.issues.len().to_string(), "node issues"),
        ("runs", base.health.runs_active.to_string(), "node runs"),
        ("memory", memory, "node memory"),
    ] {
        let end = x + name.len() + 1 + length + 1 + value.len();
        if end >= usize::from(sheet.area.width) {
            break;
        }
        x = sheet.put((x, y), name, usize::MAX, app.looks.faint()) + 1;
        x = trend(sheet, node, key, (x, y), length) + 1;
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let value = if app.is_fresh() { value } else { "?".to_owned() };
        x = sheet.put((x, y), &value, usize::MAX, bold) + 3;
    }
}
