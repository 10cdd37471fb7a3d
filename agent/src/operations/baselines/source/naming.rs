//! Names of operations, made of labels.

use std::borrow::Cow;

/// So many bytes an operation's name may have.
const LONGEST: usize = 128;
/// What a longer one ends with: a hyphen and eight digits, which tell apart those that begin alike.
const MARK: usize = 9;
/// So many bytes a template may have.
const LONGEST_TEMPLATE: usize = 1_024;

/// How operations are named: text with labels in braces, as `orders.{handler}.{method}`.
///
/// `{a|b}` is label `a`, or `b` where there is no `a`. `{a|}` is label `a`, or nothing where there is none; else a series
/// without it has no name. An empty label is none. What a name may not have becomes `_`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Naming {
    template: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Piece {
    Text(String),
    Label { names: Vec<String>, optional: bool },
}

impl Naming {
    /// The naming of this template, or what is wrong with it.
    pub fn parse(template: &str) -> Result<Self, String> {
        if template.is_empty() || template.len() > LONGEST_TEMPLATE {
            return Err(format!("it is not 1 to {LONGEST_TEMPLATE} bytes long"));
        }
        let mut pieces = Vec::new();
        let mut rest = template;
        while !rest.is_empty() {
            let (text, label) = rest.split_once('{').map_or((rest, None), |(a, b)| (a, Some(b)));
            if let Some(wrong) = text.chars().find(|char| !is_allowed(*char)) {
                return Err(format!("{wrong:?} is not of a-z, A-Z, 0-9 and -_.:/"));
            }
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
            let Some(label) = label else { break };
            let Some((label, after)) = label.split_once('}') else {
                return Err("a brace is not closed".to_owned());
            };
            pieces.push(of_label(label)?);
            rest = after;
        }
        Ok(Self { template: template.to_owned(), pieces })
    }

    /// What it was parsed from.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The name for these labels, 1 to 128 of a-z, A-Z, 0-9 and -_.:/; `None` where one is missing.
    ///
    /// A longer name is cut, and ends with a hash of the whole.
    pub fn name<'a>(&self, label: impl Fn(&str) -> Option<Cow<'a, str>>) -> Option<String> {
        let mut name = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Label { names, optional } => {
                    let mut found = names.iter().filter_map(|name| label(name));
                    match found.find(|value| !value.is_empty()) {
                        Some(value) => name.extend(value.chars().map(allowed)),
                        None if *optional => {}
                        None => return None,
                    }
                }
            }
        }
        if name.len() > LONGEST {
            let mark = format!("-{:08x}", hash(&name));
            // Of one byte each.
            name.truncate(LONGEST - MARK);
            name.push_str(&mark);
        }
        (!name.is_empty()).then_some(name)
    }
}

fn of_label(label: &str) -> Result<Piece, String> {
    let (names, optional) = match label.strip_suffix('|') {
        Some(names) => (names, true),
        None => (label, false),
    };
    let names: Vec<String> = names.split('|').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(|name| name.is_empty() || name.contains('{')) {
        return Err(format!("{label:?} is no label"));
    }
    Ok(Piece::Label { names, optional })
}

fn is_allowed(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-_.:/".contains(char)
}

fn allowed(char: char) -> char {
    if is_allowed(char) { char } else { '_' }
}

/// FNV-1a, 32 bits: the same in each version and on each host.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
