//! What keys mean.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::tab::Tab;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Suspend,
    Help,
    /// By so many rows.
    Move(Step),
    Choose(Tab),
    Next,
    Previous,
    Enter,
    Back,
    Refresh,
    Pause,
    Filter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// What a key means while nothing is typed.
pub(super) fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return Some(match key.code {
            KeyCode::Char('c' | 'd') => Action::Quit,
            KeyCode::Char('z') => Action::Suspend,
            KeyCode::Char('l') => Action::Refresh,
            KeyCode::Char('b') => Action::Move(Step::PageUp),
            KeyCode::Char('f') => Action::Move(Step::PageDown),
            _ => return None,
        });
    }
    Some(match key.code {
        KeyCode::Char('q' | 'Q') => Action::Quit,
        KeyCode::Char('?') | KeyCode::F(1) => Action::Help,
        KeyCode::Up | KeyCode::Char('k') => Action::Move(Step::Up),
        KeyCode::Down | KeyCode::Char('j') => Action::Move(Step::Down),
        KeyCode::PageUp => Action::Move(Step::PageUp),
        KeyCode::PageDown | KeyCode::Char(' ') => Action::Move(Step::PageDown),
        KeyCode::Home | KeyCode::Char('g') => Action::Move(Step::Home),
        KeyCode::End | KeyCode::Char('G') => Action::Move(Step::End),
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => Action::Next,
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => Action::Previous,
        KeyCode::Enter => Action::Enter,
        KeyCode::Esc | KeyCode::Backspace => Action::Back,
        KeyCode::Char('r') => Action::Refresh,
        KeyCode::Char('p') => Action::Pause,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char(digit) => Action::Choose(Tab::of_key(digit)?),
        _ => return None,
    })
}

/// The keys, for the help: what to press, and what that does.
pub(super) const HELP: &[(&str, &str)] = &[
    ("1-9 0", "the tabs; Tab and Shift-Tab, left and right, h and l: the next, the previous"),
    ("up down j k", "the row below, above; PgUp and PgDn, Home and End (g, G)"),
    ("Enter", "all that is known of the row; of the list of nodes: the node"),
    ("Esc", "back: from a row, a filter, a node"),
    ("/", "show only rows that hold a text"),
    ("r", "ask now"),
    ("p", "pause: ask no more until p or r"),
    ("Ctrl-Z", "leave the terminal to the shell for a while"),
    ("q Ctrl-C", "leave; the exit code is that of the last answers"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        let plain = |code| action(KeyEvent::new(code, KeyModifiers::NONE));
        for (code, wanted) in [
            (KeyCode::Char('q'), Some(Action::Quit)),
            (KeyCode::Char('0'), Some(Action::Choose(Tab::Oplog))),
            (KeyCode::Char('1'), Some(Action::Choose(Tab::Overview))),
            (KeyCode::Tab, Some(Action::Next)),
            (KeyCode::BackTab, Some(Action::Previous)),
            (KeyCode::Char('h'), Some(Action::Previous)),
            (KeyCode::Char('G'), Some(Action::Move(Step::End))),
            (KeyCode::Char('/'), Some(Action::Filter)),
            (KeyCode::Char('x'), None),
            (KeyCode::F(5), None),
        ] {
            assert_eq!(plain(code), wanted, "{code:?}");
        }
        let control = |c| action(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
        assert_eq!((control('c'), control('z')), (Some(Action::Quit), Some(Action::Suspend)));
        assert_eq!(control('q'), None);
        let mut released = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        released.kind = KeyEventKind::Release;
        assert_eq!(action(released), None);
    }
}
