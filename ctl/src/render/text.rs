//! Text that can't drive a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character could make a terminal do anything but show it: control characters (C1 too, which
/// UTF-8 terminals obey), line separators, and those that reorder text.
pub(super) fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `text` in one line that can't drive a terminal.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    escaped(text, is_hostile)
}

/// `text` with its line ends and tabs, and nothing else that could drive a terminal.
pub(crate) fn clean_block(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hostile(c) && !matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, hostile: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&hostile) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !hostile(c) => safe.push(c),
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if u32::from(c) < 0x100 => {
                let _ = write!(safe, "\\x{:02x}", u32::from(c));
            }
            c => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(safe)
}

/// JSON text with the characters escaped that JSON allows in strings and terminals obey. Outside of
/// strings JSON has none of them, so the value stays the same.
pub(crate) fn json_safe(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hostile(c) && c != '\n' {
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(clean("plain ünïcode 日本"), "plain ünïcode 日本");
        assert_eq!(
            clean("a\u{1b}[2Jb\r\n\tc\u{7f}\u{9b}31m\u{202e}d"),
            "a\\x1b[2Jb\\r\\n\\tc\\x7f\\x9b31m\\u{202e}d"
        );
        assert_eq!(clean_block("a\n\tb\u{7}\r"), "a\n\tb\\x07\\r");
    }

    proptest! {
        #[test]
        fn nothing_hostile_survives_and_json_keeps_its_value(text in any::<String>()) {
            prop_assert!(!clean(&text).chars().any(is_hostile));
            prop_assert!(!clean_block(&text).chars().any(|c| is_hostile(c) && c != '\n' && c != '\t'));
            let value = serde_json::json!({ "x": text });
            let safe = json_safe(&serde_json::to_string_pretty(&value).unwrap());
            prop_assert!(!safe.chars().any(|c| is_hostile(c) && c != '\n'));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        }
    }
}
