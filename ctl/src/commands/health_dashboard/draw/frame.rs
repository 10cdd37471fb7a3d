//! What is around a page: the head with the node, the tabs and how it is; the foot with the keys.

use ratatui::style::{Modifier, Style};

use super::Sheet;
use crate::commands::health_dashboard::app::{App, Over};
use crate::commands::health_dashboard::node::{NodeState, Standing};
use crate::commands::health_dashboard::pages::{tally, whole};
use crate::commands::health_dashboard::tab::Tab;
use crate::format;
use crate::render::{Cell, Tone, clean, failed};

pub(super) fn head(sheet: &mut Sheet<'_>, app: &App) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let all = usize::from(sheet.area.width);
    let time = app.now.wall.strftime("%H:%M:%SZ").to_string();
    let pace = format::duration(app.interval);
    let right = match app.paused {
        true => format!("PAUSED  {time}"),
        false if all < 60 => time,
        false => format!("every {pace}  {time}"),
    };
    let style =
        if app.paused { app.looks.tone(Tone::Warning).patch(bold) } else { app.looks.faint() };
    let end = sheet.put_last(0, &right, style).saturating_sub(1);
    let x = sheet.put((1, 0), "GENESIS", end.saturating_sub(1), bold);
    let (name, place) = match app.node() {
        None => (format::plural(app.nodes.len() as u64, "node"), String::new()),
        Some(node) => {
            let hostname = node.base.as_ref().map_or("", |(base, _)| &base.status.hostname);
            match hostname {
                "" => (node.name.clone(), String::new()),
                hostname => (clean(hostname).into_owned(), node.name.clone()),
            }
        }
    };
    let x = sheet.put((x + 2, 0), &name, end.saturating_sub(x + 2), bold);
    sheet.put((x + 2, 0), &place, end.saturating_sub(x + 2), app.looks.faint());
    match app.node() {
        Some(node) => {
            tabs(sheet, app);
            banner(sheet, app, node);
        }
        None => nodes(sheet, app),
    }
}

/// How a tab is written, and how much is between two.
type Form = (fn(Tab) -> String, usize);

/// All tabs by their names, as short as they must be.
fn tabs(sheet: &mut Sheet<'_>, app: &App) {
    let room = usize::from(sheet.area.width);
    let forms: [Form; 3] = [
        (|tab| format!(" {} {} ", tab.key(), tab.name()), 0),
        (|tab| format!("{}{}", tab.key(), tab.name()), 1),
        (|tab| format!("{}{}", tab.key(), &tab.name()[..2]), 1),
    ];
    let length =
        |(form, gap): &Form| Tab::ALL.iter().map(|tab| form(*tab).len() + gap).sum::<usize>();
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let Some((form, gap)) = forms.iter().find(|form| length(form) <= room) else {
        let (tab, all) = (app.tab, Tab::ALL.len());
        let name = format!(" {} {} ", tab.key(), tab.name());
        let x = sheet.put((0, 1), &name, room, app.looks.chosen().patch(bold));
        let of = format!("{}/{all}", tab.index() + 1);
        sheet.put((x + 1, 1), &of, room, app.looks.faint());
        return;
    };
    let mut x = 0;
    for tab in Tab::ALL {
        let style = if tab == app.tab { app.looks.chosen().patch(bold) } else { Style::new() };
        x = sheet.put((x, 1), &form(tab), room, style) + gap;
    }
}

/// How a node is, and whether that is still true.
fn banner(sheet: &mut Sheet<'_>, app: &App, node: &NodeState) {
    let tab = (!app.tab.is_of_base()).then_some(app.tab);
    let told = node.base.as_ref().map(|(base, _)| tally(base));
    let condition = Cell::condition(node.condition());
    let (word, tone, text) = match node.standing(tab, app.limit(), app.now) {
        Standing::Awaited => ("ASKED".to_owned(), Tone::Unsure, "no answer yet".to_owned()),
        Standing::Fresh => {
            (condition.text().to_owned(), condition.tone(), told.unwrap_or_default())
        }
        Standing::Stale(age) => {
            let age = format::duration(whole(age));
            let text = format!("{age} old; was {}: {}", condition.text(), told.unwrap_or_default());
            ("STALE".to_owned(), Tone::Unsure, text)
        }
        Standing::Failed(failure) => {
            (failed(&failure.error).to_uppercase(), Tone::Bad, app.failure(failure))
        }
    };
    let style = app.looks.tone(tone).add_modifier(Modifier::BOLD | Modifier::REVERSED);
    let mut x = sheet.put((1, 2), &format!(" {word} "), usize::MAX, style);
    // On every page, and before what may be cut off.
    if node.base.as_ref().is_some_and(|(base, _)| base.status.emergency) {
        let style = app.looks.tone(Tone::Bad).add_modifier(Modifier::BOLD | Modifier::REVERSED);
        x = sheet.put((x + 1, 2), " EMERGENCY ", usize::MAX, style);
    }
    let room = usize::from(sheet.area.width).saturating_sub(x + 3);
    sheet.put((x + 2, 2), &text, room, Style::new());
}

/// How many nodes are how.
fn nodes(sheet: &mut Sheet<'_>, app: &App) {
    let bold = app.looks.chosen().add_modifier(Modifier::BOLD);
    let x = sheet.put((0, 1), " Nodes ", usize::MAX, bold);
    let chosen = app.nodes.get(app.cursor().index).filter(|_| app.filter.is_empty());
    if let Some((node, failure)) = chosen.and_then(|node| Some((node, node.failure.as_ref()?))) {
        let text = format!("{}: {}", node.name, app.failure(failure));
        sheet.put((x + 1, 1), &text, usize::MAX, app.looks.tone(Tone::Bad));
    }
    let mut counts: Vec<(String, Tone, usize)> = Vec::new();
    for node in &app.nodes {
        let condition = Cell::condition(node.condition());
        let (word, tone) = match node.standing(None, app.limit(), app.now) {
            Standing::Awaited => ("ASKED".to_owned(), Tone::Unsure),
            Standing::Fresh => (condition.text().to_owned(), condition.tone()),
            Standing::Stale(_) => ("STALE".to_owned(), Tone::Unsure),
            Standing::Failed(failure) => (failed(&failure.error).to_uppercase(), Tone::Bad),
        };
        match counts.iter_mut().find(|(known, ..)| *known == word) {
            Some((.., count)) => *count += 1,
            None => counts.push((word, tone, 1)),
        }
    }
    counts.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    let mut x = 1;
    for (word, tone, count) in counts {
        x = sheet.put((x, 2), &format!("{count} {word}"), usize::MAX, app.looks.tone(tone)) + 3;
    }
}

pub(super) fn foot(sheet: &mut Sheet<'_>, app: &App) {
    let y = usize::from(sheet.area.height).saturating_sub(1);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let all: usize = app.page.iter().map(|section| section.rows.len()).sum();
    let (top, lines) = match &app.over {
        Some(Over::Help(top)) => (*top, app.over_lines().len()),
        Some(Over::Detail(detail)) => (detail.top, app.over_lines().len()),
        None => (0, 0),
    };
    let at = match app.over {
        Some(_) if lines > app.height() => {
            format!("{}-{} of {lines}", top + 1, (top + app.height()).min(lines))
        }
        Some(_) => String::new(),
        None if all == 0 => String::new(),
        None => format!("{} of {all}", app.cursor().index + 1),
    };
    let end = sheet.put_last(y, &at, app.looks.faint()).saturating_sub(2);
    let (text, style) = match (&app.over, app.typing, app.filter.as_str()) {
        (Some(Over::Help(_)), ..) => ("Help: Esc goes back".to_owned(), bold),
        (Some(Over::Detail(detail)), ..) => (format!("{}: Esc goes back", detail.title), bold),
        (None, true, filter) => (format!("/{filter}_"), bold),
        (None, false, "") => (hints(app, end), app.looks.faint()),
        (None, false, filter) => (format!("only what holds {filter:?}: Esc shows all"), bold),
    };
    sheet.put((1, y), &text, end, style);
}

/// As many of the keys as there is room for.
fn hints(app: &App, room: usize) -> String {
    let enter = if app.opened.is_some() { "Enter details" } else { "Enter opens" };
    let mut hints = vec!["? help", "q quit", enter, "/ filter", "p pause", "r now"];
    if app.opened.is_some() && app.nodes.len() > 1 {
        hints.insert(2, "Esc nodes");
    }
    while hints.join("  ").len() > room && hints.len() > 1 {
        hints.pop();
    }
    hints.join("  ")
}
