//! How things look: colours where there may be any, ASCII where there is nothing else, and text in cells.

use std::borrow::Cow;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use crate::render::Tone;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looks {
    pub(super) colour: bool,
    pub(super) unicode: bool,
}

impl Looks {
    /// Without colours words say what is bad, and bold makes it stand out.
    pub(super) fn tone(self, tone: Tone) -> Style {
        let (colour, bold) = match tone {
            Tone::Good => (Color::Green, false),
            Tone::Warning => (Color::Yellow, false),
            Tone::Bad => (Color::Red, true),
            Tone::Unsure => (Color::Magenta, true),
            Tone::Plain | Tone::Shade(..) => return Style::new(),
        };
        let style = if self.colour { Style::new().fg(colour) } else { Style::new() };
        if bold { style.add_modifier(Modifier::BOLD) } else { style }
    }

    pub(super) fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Of what only accompanies: headers, hints.
    pub(super) fn faint(self) -> Style {
        // A grey would be the background of some palettes.
        if self.colour { Style::new().add_modifier(Modifier::DIM) } else { Style::new() }
    }

    pub(super) fn trend(self) -> Style {
        if self.colour { Style::new().fg(Color::Cyan) } else { Style::new() }
    }

    pub(super) fn chosen(self) -> Style {
        // In one colour: a patchwork would be hard to read.
        let style = if self.colour { Style::new().fg(Color::Reset) } else { Style::new() };
        style.add_modifier(Modifier::REVERSED).remove_modifier(Modifier::DIM)
    }

    /// What this terminal can show of a text.
    pub(super) fn text(self, text: &str) -> Cow<'_, str> {
        if self.unicode || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let plain = |c: char| match c {
            c if c.is_ascii() => c,
            '…' => '~',
            '·' | '—' | '–' => '-',
            '│' => '|',
            _ => '?',
        };
        Cow::Owned(text.chars().map(plain).collect())
    }
}

/// How many cells a text takes.
pub(super) fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { graphemes(text).map(|(_, width)| width).sum() }
}

fn graphemes(text: &str) -> impl Iterator<Item = (String, usize)> {
    let span = Span::raw(text);
    let all: Vec<_> = span
        .styled_graphemes(Style::new())
        .map(|one| (one.symbol.to_owned(), Span::raw(one.symbol).width()))
        .collect();
    all.into_iter()
}

/// As much of a text as fits into so many cells, with a mark where some is left out.
pub(super) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if width(text) <= most {
        return Cow::Borrowed(text);
    }
    let Some(room) = most.checked_sub(1) else { return Cow::Borrowed("") };
    let (mut kept, mut used) = (String::new(), 0);
    for (symbol, width) in graphemes(text) {
        if used + width > room {
            break;
        }
        used += width;
        kept.push_str(&symbol);
    }
    kept.push('…');
    Cow::Owned(kept)
}

/// The same, with what is left out in the middle.
pub(super) fn cut_within(text: &str, most: usize) -> Cow<'_, str> {
    let all = width(text);
    if all <= most || most < 4 {
        return cut(text, most);
    }
    let first = cut(text, most / 2);
    let room = most - width(&first);
    // The longest end that fits.
    let mut left = all;
    let mut end = String::new();
    for (symbol, width) in graphemes(text) {
        if left <= room {
            end.push_str(&symbol);
        }
        left = left.saturating_sub(width);
    }
    Cow::Owned(format!("{first}{end}"))
}

/// In lines of at most so many cells, broken between words where there are any.
pub(super) fn wrap(text: &str, most: usize) -> Vec<String> {
    let most = most.max(1);
    if width(text) <= most {
        return vec![text.to_owned()];
    }
    let mut lines = Vec::new();
    let (mut line, mut used) = (String::new(), 0);
    // Where the last word of the line begins, in bytes and in cells.
    let mut word: Option<(usize, usize)> = None;
    for (symbol, width) in graphemes(text) {
        if used + width > most && !line.is_empty() {
            let (at, cells) = word.take().unwrap_or((line.len(), used));
            let rest = line.split_off(at);
            lines.push(line.trim_end().to_owned());
            used -= cells;
            line = rest;
        }
        line.push_str(&symbol);
        used += width;
        if symbol == " " {
            word = Some((line.len(), used));
        }
    }
    lines.push(line);
    lines
}

/// As [`wrap`]; further lines begin below what follows a name and two spaces.
pub(super) fn hang(text: &str, most: usize) -> Vec<String> {
    let named = text.split_once("  ").map(|(name, rest)| (name, rest.trim_start()));
    let Some((_, rest)) = named.filter(|(name, rest)| !name.is_empty() && !rest.is_empty()) else {
        return wrap(text, most);
    };
    let indent = width(&text[..text.len() - rest.len()]);
    // Nothing is gained where a name takes half of the line.
    if width(text) <= most || indent * 2 > most {
        return wrap(text, most);
    }
    let mut lines = wrap(rest, most - indent).into_iter();
    let first = lines.next().map(|line| format!("{}{line}", &text[..text.len() - rest.len()]));
    first.into_iter().chain(lines.map(|line| format!("{:indent$}{line}", ""))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_cut_and_wrapped_by_cells() {
        assert_eq!(cut("disk:/", 6), "disk:/");
        assert_eq!(cut("disk:/var", 6), "disk:…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!((cut("ab", 1).as_ref(), cut("ab", 0).as_ref()), ("…", ""));
        assert_eq!(cut_within("unix:/run/agent.sock", 11), "unix…t.sock");
        assert_eq!(cut_within("web-1:7443", 10), "web-1:7443");
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(hang("key  one two three", 14), ["key  one two", "     three"]);
        assert_eq!(hang("a long name  one two", 14), ["a long name", "one two"]);
        let ascii = Looks { colour: false, unicode: false };
        assert_eq!(ascii.text("7 % é 日… · x"), "7 % ? ?~ - x");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_allowed(text in any::<String>(), most in 0usize..40) {
            let text = crate::render::clean(&text);
            prop_assert!(width(&cut(&text, most)) <= most);
            prop_assert!(width(&cut_within(&text, most)) <= most);
            // What can't be broken may be wider than a line.
            let widest = graphemes(&text).map(|(_, width)| width).max().unwrap_or(0);
            for line in wrap(&text, most) {
                prop_assert!(width(&line) <= most.max(widest).max(1), "{line:?}");
            }
            for line in hang(&text, most) {
                prop_assert!(width(&line) <= most + widest.max(1), "{line:?}");
            }
        }
    }
}
