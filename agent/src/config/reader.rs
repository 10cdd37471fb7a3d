//! Reads TOML key by key, so that every problem is reported at once with its line, unknown keys are
//! refused with the nearest known one, and the keys document themselves.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::units::{parse_duration, parse_size};

/// One thing that is wrong with a configuration text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// From 1; 0 when it concerns the whole text.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// Such as `logs.source[0].rotate_size`.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what())
    }
}

impl Problem {
    /// The key and what is wrong with it.
    pub fn what(&self) -> String {
        let what = format!("{}: {}", self.key.trim_end_matches('.'), self.message);
        let what = what.strip_prefix(": ").unwrap_or(&what);
        // A key may hold what a terminal takes for more than text.
        what.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    }
}

/// A key as documented: every read of a key leaves one behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDoc {
    /// The section, such as `logs` or `[logs.source]` for a list of tables.
    pub section: String,
    /// The key's name.
    pub key: &'static str,
    /// Its default as TOML; empty: it must be given.
    pub default: String,
    /// What it does.
    pub help: &'static str,
}

/// What all sections of one text write down while they are read.
#[derive(Default)]
pub struct Record {
    text: String,
    problems: RefCell<Vec<Problem>>,
    docs: RefCell<Vec<KeyDoc>>,
    effective: RefCell<String>,
}

impl Record {
    /// A record for `text`.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// Adds a problem at a place of the text.
    pub fn problem(&self, span: Option<Range<usize>>, key: &str, message: impl Into<String>) {
        let (line, column) = span.map_or((0, 0), |span| place(&self.text, span.start));
        let problem = Problem { line, column, key: key.to_owned(), message: message.into() };
        self.problems.borrow_mut().push(problem);
    }

    /// The problems in the order of the text, the documentation of the keys, and the text in force.
    pub fn finish(self) -> (Vec<Problem>, Vec<KeyDoc>, String) {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        (problems, self.docs.into_inner(), self.effective.into_inner())
    }
}

/// Line and column (both from 1, the column in characters) of a byte offset.
fn place(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// One table of the text, or its absence.
pub struct Section<'a> {
    record: &'a Record,
    table: Option<&'a DeTable<'a>>,
    span: Option<Range<usize>>,
    /// With indexes: `logs.source[0]`.
    path: String,
    /// Under which heading its keys are documented; `None`: its path without indexes.
    heading: Option<String>,
    seen: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Section<'a> {
    /// The whole text.
    pub fn root(record: &'a Record, table: &'a DeTable<'a>) -> Self {
        Self {
            record,
            table: Some(table),
            span: None,
            path: String::new(),
            heading: None,
            seen: RefCell::default(),
        }
    }

    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.seen.borrow_mut().insert(key);
        let table = self.table?;
        table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// Whether the text has this table at all.
    pub fn is_given(&self) -> bool {
        self.table.is_some()
    }

    /// Adds a problem with `key` of this table, at its place.
    pub fn problem(&self, key: &str, message: impl Into<String>) {
        let value =
            self.table.and_then(|table| table.iter().find(|(name, _)| name.get_ref() == key));
        let span = value.map(|(_, value)| value.span()).or_else(|| self.span.clone());
        self.record.problem(span, &self.key_path(key), message);
    }

    /// Whether the text has this key.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.iter().any(|(name, _)| name.get_ref() == key))
    }

    /// A string of an inline table, which its outer key documents; `None` when absent.
    pub fn quiet_text(&self, key: &'static str) -> Option<String> {
        let value = self.get(key)?.get_ref();
        if value.as_str().is_none() {
            self.problem(key, format!("must be a string, not {}", value.type_str()));
        }
        value.as_str().map(str::to_owned)
    }

    /// A list of strings of an inline table, which its outer key documents; anything else comes out empty.
    pub fn quiet_list(&self, key: &'static str) -> Vec<String> {
        let Some(array) = self.get(key).and_then(|value| value.get_ref().as_array()) else {
            return Vec::new();
        };
        let texts: Option<Vec<String>> =
            array.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
        texts.unwrap_or_default()
    }

    fn document(&self, key: &'static str, default: &str, help: &'static str) {
        let section = self.heading.clone().unwrap_or_else(|| strip_indexes(&self.path));
        let doc = KeyDoc { section, key, default: default.to_owned(), help };
        let mut docs = self.record.docs.borrow_mut();
        if !docs.contains(&doc) {
            docs.push(doc);
        }
    }

    fn effective(&self, key: &str, value: &str) {
        let _ = writeln!(self.record.effective.borrow_mut(), "{key} = {value}");
    }

    /// A value in string form, parsed by `parse`; `default` is such a string, `None` makes the key mandatory.
    pub fn parsed<T>(
        &self,
        key: &'static str,
        default: Option<&str>,
        help: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.document(key, &default.map(quoted).unwrap_or_default(), help);
        let text =
            match self.get(key).map(|value| (value.get_ref().as_str(), value.get_ref().type_str()))
            {
                Some((Some(text), _)) => text,
                Some((None, found)) => {
                    self.problem(key, format!("must be a string, not {found}"));
                    return None;
                }
                None => match default {
                    Some(default) => default,
                    None => {
                        self.problem(key, "is missing");
                        return None;
                    }
                },
            };
        self.effective(key, &quoted(text));
        parse(text).map_err(|why| self.problem(key, why)).ok()
    }

    /// A string; `default` empty means that it may be left out.
    pub fn text(&self, key: &'static str, default: Option<&str>, help: &'static str) -> String {
        self.parsed(key, default, help, |text| Ok(text.to_owned())).unwrap_or_default()
    }

    /// A size in bytes, such as "10MB" (10^6) or "16MiB" (2^20), within `allowed`.
    pub fn size(
        &self,
        key: &'static str,
        default: &str,
        allowed: Range<u64>,
        help: &'static str,
    ) -> u64 {
        let parse = |text: &str| {
            let bytes = parse_size(text)?;
            if allowed.contains(&bytes) {
                Ok(bytes)
            } else {
                Err(format!("{text:?} is outside {} to {} bytes", allowed.start, allowed.end - 1))
            }
        };
        self.parsed(key, Some(default), help, parse)
            .unwrap_or_else(|| parse_size(default).unwrap_or(0))
    }

    /// A time span such as "30d", "250ms", within `allowed`.
    pub fn duration(
        &self,
        key: &'static str,
        default: &str,
        allowed: std::ops::RangeInclusive<Duration>,
        help: &'static str,
    ) -> Duration {
        let parse = |text: &str| {
            let duration = parse_duration(text)?;
            if allowed.contains(&duration) {
                Ok(duration)
            } else {
                Err(format!("{text:?} is outside {:?} to {:?}", allowed.start(), allowed.end()))
            }
        };
        self.parsed(key, Some(default), help, parse)
            .unwrap_or_else(|| parse_duration(default).unwrap_or_default())
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &'static str, default: bool, help: &'static str) -> bool {
        self.document(key, if default { "true" } else { "false" }, help);
        let value = self.get(key).map_or(Some(default), |value| value.get_ref().as_bool());
        if value.is_none() {
            self.problem(key, "must be true or false");
        }
        let value = value.unwrap_or(default);
        self.effective(key, if value { "true" } else { "false" });
        value
    }

    /// A list of strings; an empty `default` with `mandatory` refuses an empty list.
    pub fn list(
        &self,
        key: &'static str,
        default: &[&str],
        mandatory: bool,
        help: &'static str,
    ) -> Vec<String> {
        let shown = list_text(default.iter().copied());
        self.document(key, if mandatory { "" } else { &shown }, help);
        let values = match self.get(key) {
            None => default.iter().map(|text| (*text).to_owned()).collect(),
            Some(value) => match value.get_ref().as_array() {
                None => {
                    self.problem(key, "must be a list of strings, such as [\"a\", \"b\"]");
                    return Vec::new();
                }
                Some(array) => {
                    let mut texts = Vec::new();
                    for item in array {
                        match item.get_ref().as_str() {
                            Some(text) => texts.push(text.to_owned()),
                            None => self.record.problem(
                                Some(item.span()),
                                &self.key_path(key),
                                format!(
                                    "must hold strings only, not {}",
                                    item.get_ref().type_str()
                                ),
                            ),
                        }
                    }
                    texts
                }
            },
        };
        if mandatory && values.is_empty() {
            self.problem(key, "needs at least one entry");
        }
        self.effective(key, &list_text(values.iter().map(String::as_str)));
        values
    }

    /// A table below this one; present or not, it can be read, so that defaults and documentation come of it.
    pub fn table(&self, key: &'static str) -> Section<'a> {
        let path = self.key_path(key);
        let _ = writeln!(self.record.effective.borrow_mut(), "\n[{}]", without_indexes(&path));
        self.child(key, path)
    }

    /// An inline table or a string that stands for one; `None` when the key is absent.
    pub fn inline(
        &self,
        key: &'static str,
        default: &str,
        help: &'static str,
    ) -> Option<Inline<'a>> {
        self.document(key, default, help);
        let value = self.get(key)?;
        Some(match value.get_ref() {
            DeValue::String(text) => Inline::Text(text.to_string()),
            DeValue::Table(_) => Inline::Table(self.child(key, self.key_path(key))),
            other => {
                self.problem(key, format!("must be a string or a table, not {}", other.type_str()));
                return None;
            }
        })
    }

    fn child(&self, key: &'static str, path: String) -> Section<'a> {
        let value = self.get(key);
        let table = value.and_then(|value| value.get_ref().as_table());
        if let (Some(value), None) = (value, table) {
            let message = format!("must be a table, not {}", value.get_ref().type_str());
            self.record.problem(Some(value.span()), &path, message);
        }
        let span = value.map(Spanned::span);
        Section { record: self.record, table, span, path, heading: None, seen: RefCell::default() }
    }

    /// A list of tables below this one (`[[path.key]]`), at most `limit` of them.
    pub fn tables(&self, key: &'static str, limit: usize) -> Vec<Section<'a>> {
        let path = self.key_path(key);
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.record.problem(
                Some(value.span()),
                &path,
                format!("must be written as [[{path}]]"),
            );
            return Vec::new();
        };
        if array.len() > limit {
            self.problem(key, format!("has {} entries, at most {limit} are allowed", array.len()));
        }
        let mut sections = Vec::new();
        for (index, item) in array.iter().enumerate().take(limit) {
            let path = format!("{path}[{index}]");
            match item.get_ref().as_table() {
                Some(table) => sections.push(Section {
                    record: self.record,
                    table: Some(table),
                    span: Some(item.span()),
                    path,
                    heading: None,
                    seen: RefCell::default(),
                }),
                None => self.record.problem(Some(item.span()), &path, "must be a table"),
            }
        }
        sections
    }

    /// The tables below `key` (`[path.key.NAME]`), each with its name, at most `limit` of them. Their keys are
    /// documented once, under `placeholder`.
    pub fn named_tables(
        &self,
        key: &'static str,
        placeholder: &str,
        limit: usize,
    ) -> Vec<(String, Section<'a>)> {
        let path = self.key_path(key);
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            let message = format!("must be written as [{path}.{placeholder}]");
            self.record.problem(Some(value.span()), &path, message);
            return Vec::new();
        };
        if table.len() > limit {
            self.problem(key, format!("has {} entries, at most {limit} are allowed", table.len()));
        }
        let mut sections = Vec::new();
        for (name, item) in table.iter().take(limit) {
            let name = name.get_ref().to_string();
            let path = format!("{path}.{name}");
            let Some(table) = item.get_ref().as_table() else {
                self.record.problem(Some(item.span()), &path, "must be a table");
                continue;
            };
            let section = Section {
                record: self.record,
                table: Some(table),
                span: Some(item.span()),
                path,
                heading: Some(format!("{}.{placeholder}", self.key_path(key))),
                seen: RefCell::default(),
            };
            sections.push((name, section));
        }
        sections
    }

    /// Writes the header of one of [`Section::named_tables`] into the text in force, before its keys are read.
    pub fn header(&self) {
        let _ = writeln!(self.record.effective.borrow_mut(), "\n[{}]", self.path);
    }

    /// Writes the header of one entry of a list of tables into the text in force.
    pub fn entry_header(&self) {
        let _ =
            writeln!(self.record.effective.borrow_mut(), "\n[[{}]]", without_indexes(&self.path));
    }

    /// Writes a line of the text in force for an inline table.
    pub fn effective_inline(&self, key: &str, value: &str) {
        self.effective(key, value);
    }

    /// Refuses every key that was not asked for.
    pub fn finish(self) {
        let Some(table) = self.table else { return };
        let seen = self.seen.borrow();
        for (name, _) in table {
            let key = name.get_ref();
            if seen.contains(key.as_ref()) {
                continue;
            }
            let nearest = seen.iter().min_by_key(|known| strsim::damerau_levenshtein(known, key));
            let hint = match nearest {
                Some(known) if strsim::damerau_levenshtein(known, key) <= 1 + key.len() / 3 => {
                    format!("; did you mean {known:?}?")
                }
                _ => {
                    format!("; known here: {}", seen.iter().copied().collect::<Vec<_>>().join(", "))
                }
            };
            self.record.problem(
                Some(name.span()),
                &self.key_path(key),
                format!("is not a known key{hint}"),
            );
        }
    }
}

/// A value that may be written as one word or as a table.
pub enum Inline<'a> {
    /// One word.
    Text(String),
    /// A table.
    Table(Section<'a>),
}

fn strip_indexes(path: &str) -> String {
    if path.contains('[') { format!("[{}]", without_indexes(path)) } else { path.to_owned() }
}

fn without_indexes(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|character| {
            match character {
                '[' => inside = true,
                ']' => {
                    inside = false;
                    return false;
                }
                _ => {}
            }
            !inside
        })
        .collect()
}

/// A string as TOML.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A list of strings as TOML.
pub fn list_text<'t>(items: impl Iterator<Item = &'t str>) -> String {
    format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", "))
}
