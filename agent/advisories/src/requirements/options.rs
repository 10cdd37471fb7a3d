//! Lines of options, and the options behind a requirement.

use std::ops::Range;

use super::{Included, Item, Unmanaged};
use crate::text::{cut, without_secrets};

/// Options for all of the file: short name, long name, whether a value follows.
const SETTINGS: [(&str, &str, bool); 20] = [
    ("-i", "--index-url", true),
    ("", "--pypi-url", true),
    ("", "--extra-index-url", true),
    ("", "--no-index", false),
    ("-f", "--find-links", true),
    ("", "--trusted-host", true),
    ("", "--no-binary", true),
    ("", "--only-binary", true),
    ("", "--prefer-binary", false),
    ("", "--require-hashes", false),
    ("", "--pre", false),
    ("", "--use-feature", true),
    ("", "--always-unzip", false),
    ("-Z", "--always-unzip", false),
    ("-r", "--requirement", true),
    ("-c", "--constraint", true),
    ("-e", "--editable", true),
    ("", "--no-build-isolation", false),
    ("", "--uploaded-prior-to", true),
    ("", "--all-releases", true),
];

/// Options behind a requirement, other than hashes; each has a value.
const OF_REQUIREMENT: [&str; 5] =
    ["--global-option", "--install-option", "--config-settings", "--config-setting", "-C"];

/// The words of a text, in which quoted blanks don't part, with their places.
pub(super) fn words(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    let mut quote = None;
    for (at, letter) in text.char_indices() {
        if quote == Some(letter) {
            quote = None;
        } else if quote.is_none() && (letter == '"' || letter == '\'') {
            quote = Some(letter);
        }
        if letter.is_whitespace() && quote.is_none() {
            found.extend(start.take().map(|start| start..at));
        } else if start.is_none() {
            start = Some(at);
        }
    }
    found.extend(start.map(|start| start..text.len()));
    found
}

/// What a line of options says.
pub(super) fn settings(text: &str) -> Vec<Item> {
    let mut found = Vec::new();
    let mut words = words(text).into_iter().map(|place| &text[place]);
    while let Some(word) = words.next() {
        let Some((name, takes, own)) = known(word) else {
            // Never the value, which may be anything.
            let name = word.split('=').next().unwrap_or_default();
            let name =
                if name.starts_with('-') { without_secrets(name) } else { "a value".to_owned() };
            found.push(Item::Problem {
                problem: format!("`{name}` is no option of a requirements file"),
            });
            continue;
        };
        // `-e` may go on with blanks and a comment-like fragment, but a value is one word.
        let value = if takes { own.or_else(|| words.next()) } else { None };
        let Some(value) = value.map(unquoted).or((!takes).then_some("")) else {
            found.push(Item::Problem { problem: format!("`{name}` has no value") });
            continue;
        };
        found.push(setting(name, value));
    }
    found
}

fn setting(name: &str, value: &str) -> Item {
    let kind = match name {
        "--requirement" => Included::Requirements,
        "--constraint" => Included::Constraints,
        "--editable" => {
            return Item::Unmanaged { what: without_secrets(value), why: Unmanaged::Editable };
        }
        _ => return Item::Setting { name: name.to_owned() },
    };
    if value.contains("://") {
        return Item::Unmanaged { what: without_secrets(value), why: Unmanaged::RemoteFile };
    }
    Item::Include { kind, path: value.to_owned() }
}

/// The long name of an option, whether it takes a value, and the value if it is in the same word.
fn known(word: &str) -> Option<(&'static str, bool, Option<&str>)> {
    SETTINGS.iter().find_map(|(short, long, takes)| {
        if let Some(rest) = word.strip_prefix(long) {
            if rest.is_empty() {
                return Some((*long, *takes, None));
            }
            return rest.strip_prefix('=').filter(|_| *takes).map(|own| (*long, true, Some(own)));
        }
        let rest =
            word.strip_prefix(short).filter(|_| !short.is_empty() && !word.starts_with("--"))?;
        if rest.is_empty() {
            return Some((*long, *takes, None));
        }
        takes.then(|| (*long, true, Some(rest.strip_prefix('=').unwrap_or(rest))))
    })
}

fn unquoted(value: &str) -> &str {
    let bare = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    bare('"').or_else(|| bare('\'')).unwrap_or(value)
}

/// The hashes behind a requirement, each with its place from the end of what is before it.
pub(super) fn hashes(text: &str, from: usize) -> Result<(Vec<String>, Vec<Range<usize>>), String> {
    let (mut hashes, mut places) = (Vec::new(), Vec::new());
    let rest = &text[from..];
    let mut before = text[..from].trim_end().len();
    let all: Vec<Range<usize>> =
        words(rest).into_iter().map(|word| word.start + from..word.end + from).collect();
    let mut words = all.into_iter();
    while let Some(place) = words.next() {
        let word = &text[place.clone()];
        let (name, own) = match word.split_once('=') {
            Some((name, value)) => (name, Some((value, place.end))),
            None => (word, None),
        };
        let mut value = || own.or_else(|| words.next().map(|next| (&text[next.clone()], next.end)));
        if name == "--hash" {
            let (value, end) = value().ok_or("`--hash` has no value")?;
            let value = unquoted(value);
            if !is_hash(value) {
                return Err(format!("`{}` is no hash", cut(value)));
            }
            hashes.push(value.to_owned());
            places.push(before..end);
            before = end;
        } else if OF_REQUIREMENT.contains(&name) {
            let (_, end) = value().ok_or_else(|| format!("`{name}` has no value"))?;
            before = end;
        } else {
            return Err(format!("`{}` is no option of a requirement", without_secrets(name)));
        }
    }
    Ok((hashes, places))
}

fn is_hash(value: &str) -> bool {
    let known = ["sha256:", "sha384:", "sha512:"];
    let digest = known.iter().find_map(|prefix| value.strip_prefix(prefix));
    digest.is_some_and(|hex| !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
