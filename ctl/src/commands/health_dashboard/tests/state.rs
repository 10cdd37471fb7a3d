//! What keys, answers and time make of the state.

use KeyCode::{Char, Down, End, Enter, Esc, Home, PageDown, PageUp, Up};

use super::*;
use crate::commands::health_dashboard::app::Over;
use crate::commands::health_dashboard::node::Standing;
use crate::exit::Exit;

#[test]
fn keys_turn_to_tabs() {
    let mut app = told(well("web-1"));
    assert_eq!(app.opened, Some(0), "of one node there is nothing to choose");
    for (key, tab) in [
        (Char('2'), Tab::Health),
        (Char('0'), Tab::Oplog),
        (KeyCode::Tab, Tab::Overview),
        (KeyCode::BackTab, Tab::Oplog),
        (Char('h'), Tab::Stats),
        (KeyCode::Right, Tab::Oplog),
        (Char('l'), Tab::Overview),
        (Esc, Tab::Overview),
    ] {
        press(&mut app, key);
        assert_eq!(app.tab, tab, "{key:?}");
    }
    assert_eq!(press(&mut app, Char('q')), Some(Effect::Quit));
    assert_eq!(press(&mut app, Char('r')), Some(Effect::Refresh));
    let control = |c| KeyEvent::new(Char(c), KeyModifiers::CONTROL);
    assert_eq!(app.key(control('c'), at(0)), Some(Effect::Quit));
    assert_eq!(app.key(control('z'), at(0)), Some(Effect::Suspend));
}

#[test]
fn what_is_chosen_stays_within_the_rows_and_on_the_screen() {
    let mut app = told(well("web-1"));
    app.resize((80, 24));
    open(&mut app, Tab::Oplog);
    app.page(0, Tab::Oplog, entries(50), at(0));
    app.tick(at(0));
    for (key, index) in [
        (Up, 0),
        (Down, 1),
        (Char('j'), 2),
        (Char('k'), 1),
        (PageDown, 19),
        (End, 49),
        (Down, 49),
        (PageUp, 31),
        (Home, 0),
        (Char('G'), 49),
        (Char('g'), 0),
    ] {
        press(&mut app, key);
        assert_eq!(app.cursor().index, index, "{key:?}");
        let screen = screen(&mut app, (80, 24));
        let wanted = format!("{}  11-28", 50 - index);
        let seen = screen.iter().any(|line| line.trim_start().starts_with(&wanted));
        assert!(seen, "{key:?}: {screen:#?}");
    }
}

#[test]
fn the_chosen_row_is_followed_and_so_is_the_newest() {
    let mut app = told(well("web-1"));
    open(&mut app, Tab::Oplog);
    app.page(0, Tab::Oplog, entries(50), at(0));
    app.tick(at(0));
    app.page(0, Tab::Oplog, entries(52), at(1));
    app.tick(at(1));
    assert_eq!(app.cursor().index, 0, "the newest stays chosen");
    press(&mut app, Down);
    app.page(0, Tab::Oplog, entries(55), at(2));
    app.tick(at(2));
    assert_eq!(app.cursor().index, 4, "51 is three further down");
    app.page(0, Tab::Oplog, entries(3), at(3));
    app.tick(at(3));
    assert_eq!(app.cursor().index, 2, "it is gone, and so is what was there");
    app.page(0, Tab::Oplog, entries(0), at(4));
    app.tick(at(4));
    assert_eq!(press(&mut app, Enter), None);
    assert!(app.over.is_none(), "there is nothing to be opened");
}

#[test]
fn a_filter_is_typed_kept_and_taken_back() {
    let mut app = told(ill("web-1"));
    open(&mut app, Tab::Health);
    press(&mut app, Char('/'));
    text(&mut app, "DISq");
    assert_eq!((app.typing, app.filter.as_str()), (true, "DISq"), "q is but a letter");
    press(&mut app, KeyCode::Backspace);
    let rows = |app: &App| app.page.iter().map(|section| section.rows.len()).sum::<usize>();
    assert_eq!(rows(&app), 3, "the issue, the check, the attempt");
    press(&mut app, Enter);
    assert_eq!((app.typing, app.filter.as_str()), (false, "DIS"));
    press(&mut app, Down);
    assert_eq!(app.cursor().index, 1);
    press(&mut app, Esc);
    assert_eq!((app.filter.as_str(), rows(&app)), ("", 5));
    press(&mut app, Char('/'));
    text(&mut app, HOSTILE);
    assert!(!app.filter.chars().any(char::is_control), "{:?}", app.filter);
    let control = KeyEvent::new(Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.key(control, at(0)), Some(Effect::Quit), "also while something is typed");
    press(&mut app, Esc);
    assert_eq!((app.typing, app.filter.as_str()), (false, ""));
}

#[test]
fn details_are_opened_asked_for_and_closed() {
    let mut app = told(ill("web-1"));
    open(&mut app, Tab::Health);
    let asked = press(&mut app, Enter);
    assert_eq!(asked, Some(Effect::Explain(0, "disk:/#3".into())));
    app.explained(0, "another", Ok(vec!["not of this one".into()]));
    app.explained(0, "disk:/#3", Ok(vec!["nothing is done until it is acked".into()]));
    let shown = screen(&mut app, (80, 24)).join("\n");
    assert!(shown.contains("nothing is done until it is acked"), "{shown}");
    assert!(!shown.contains("not of this one"));
    press(&mut app, Esc);
    assert!(app.over.is_none());
    press(&mut app, Enter);
    app.explained(0, "disk:/#3", Err(unreachable()));
    assert!(screen(&mut app, (80, 24)).join("\n").contains("unknown: no agent answers"));
    press(&mut app, Char('?'));
    assert!(matches!(app.over, Some(Over::Help(0))));
    press(&mut app, Char('?'));
    assert!(app.over.is_none());
    open(&mut app, Tab::Overview);
    press(&mut app, End);
    assert_eq!(press(&mut app, Enter), None, "a domain is not asked about");
    assert!(screen(&mut app, (80, 24)).join("\n").contains("SUMMARY    2 sources"));
}

#[test]
fn what_is_old_is_stale_and_what_failed_is_not_known() {
    let mut app = told(well("web-1"));
    assert_eq!(app.exit(), Exit::Ok);
    app.tick(at(6));
    assert!(matches!(app.nodes[0].standing(None, app.limit(), app.now), Standing::Fresh));
    app.tick(at(7));
    assert!(screen(&mut app, (80, 24))[2].contains("STALE   7s old; was OK"));
    assert_eq!(app.exit(), Exit::Unknown);
    app.paused = true;
    assert_eq!(app.exit(), Exit::Ok, "it was wanted not to be asked");
    app.paused = false;
    app.told(0, Err(unreachable()), at(8));
    app.told(0, Err(unreachable()), at(10));
    assert_eq!(app.exit(), Exit::Unreachable);
    let banner = screen(&mut app, (120, 24))[2].clone();
    assert!(banner.contains("UNREACHABLE   since 12:00:08Z (2s): no agent answers"), "{banner}");
    app.told(0, Ok(ill("web-1")), at(12));
    assert_eq!(app.exit(), Exit::Findings);
    let ring = app.nodes[0].samples.of("check disk:/").unwrap();
    assert_eq!(ring, &[Some(71.0), None, None, Some(7.0)]);
}

#[test]
fn a_page_that_is_old_is_stale_though_the_node_is_heard() {
    let mut app = told(well("web-1"));
    open(&mut app, Tab::Oplog);
    app.page(0, Tab::Oplog, entries(3), at(0));
    app.tick(at(0));
    app.told(0, Ok(well("web-1")), at(9));
    assert!(screen(&mut app, (80, 24))[2].contains("STALE   9s old"));
    open(&mut app, Tab::Overview);
    assert!(screen(&mut app, (80, 24))[2].contains(" OK "));
}

#[test]
fn nodes_are_opened_and_left_and_their_codes_are_those_of_the_plain_page() {
    let mut app = app(&["a", "b", "c"], PLAIN);
    assert_eq!((app.opened, app.exit()), (None, Exit::Unknown), "nobody was heard of");
    app.told(0, Ok(well("a")), at(0));
    app.told(1, Ok(ill("b")), at(0));
    app.told(2, Err(unreachable()), at(0));
    app.tick(at(0));
    assert_eq!(app.exit(), Exit::SomeFailed);
    press(&mut app, Char('3'));
    assert_eq!((app.opened, app.tab), (None, Tab::Overview), "there are no tabs of all nodes");
    press(&mut app, Down);
    press(&mut app, Enter);
    assert_eq!(app.opened, Some(1));
    open(&mut app, Tab::Health);
    press(&mut app, Esc);
    assert_eq!((app.opened, app.cursor().index), (None, 1));
    press(&mut app, Enter);
    assert_eq!(app.tab, Tab::Health, "where one was before");
}

#[test]
fn pausing_is_a_switch() {
    let mut app = told(well("web-1"));
    press(&mut app, Char('p'));
    assert!(app.paused);
    assert!(screen(&mut app, (80, 24))[0].contains("PAUSED"));
    press(&mut app, Char('p'));
    assert!(!app.paused);
}
