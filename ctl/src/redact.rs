//! Text without what identifies a host or a person, and without secrets, for bug reports.
//!
//! What is taken out is replaced by a placeholder such as `host-1`. Within one [`Redactor`] the same text gets
//! the same placeholder, so that lines still correlate. When in doubt it is taken out: a report with a word
//! too few can be asked about, a leaked secret can't be called back.

mod names;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use regex::Regex;
use serde_json::Value;

use crate::exit::Halt;
use names::is_common;
use rules::Rules;

/// From this length on, what may be base64 or hex is taken for a secret.
const SECRET_LENGTH: usize = 40;

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Host,
    Id,
    Ip,
    Mac,
    User,
    Email,
    Contact,
    Secret,
    Pem,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Id => "id",
            Self::Ip => "ip",
            Self::Mac => "mac",
            Self::User => "user",
            Self::Email => "email",
            Self::Contact => "contact",
            Self::Secret => "secret",
            Self::Pem => "pem",
        }
    }
}

/// Takes out what must not leave the house.
#[derive(Debug)]
pub(crate) struct Redactor {
    rules: &'static Rules,
    /// The placeholder of each text, in lower case.
    placeholders: HashMap<String, String>,
    counts: HashMap<What, usize>,
    /// What is replaced wherever it stands alone, in lower case.
    names: HashSet<String>,
    /// What is replaced where it is all of a text, in lower case.
    short_names: HashSet<String>,
    /// Built of `names`, the longest first, when it is first needed.
    name_rule: Option<Regex>,
    /// Long hexadecimal texts that stay.
    kept: HashSet<String>,
}

impl Redactor {
    pub(crate) fn new() -> Result<Self, Halt> {
        let rules = Rules::shared()
            .ok_or_else(|| Halt::Failed("can't prepare the redaction: report this".into()))?;
        Ok(Self {
            rules,
            placeholders: HashMap::new(),
            counts: HashMap::new(),
            names: HashSet::new(),
            short_names: HashSet::new(),
            name_rule: None,
            kept: HashSet::new(),
        })
    }

    /// Lets a hash of the operation log's chain stay: it is what the chain is checked by, and no secret.
    pub(crate) fn keep_hash(&mut self, hash: &str) {
        if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            self.kept.insert(hash.to_owned());
        }
    }

    /// `value` with each of its strings and names redacted; what stands under the name of a secret is
    /// replaced as a whole.
    pub(crate) fn value(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => {
                // In a command, what follows --token is one.
                let before = std::iter::once(None).chain(items.iter().map(Value::as_str));
                let redacted = items.iter().zip(before).map(|(item, before)| {
                    let flag = before.and_then(|before| before.strip_prefix('-'));
                    match flag.is_some_and(|flag| self.rules.names_a_secret(flag)) {
                        true => self.blotted(item),
                        false => self.value(item),
                    }
                });
                redacted.collect()
            }
            Value::Object(fields) => {
                let redacted = fields.iter().map(|(name, field)| {
                    let field = match (self.rules.names_a_secret(name), field) {
                        (true, field) => self.blotted(field),
                        // Any argument of a command may be one.
                        (false, Value::Array(items)) if name == "command" => {
                            let mut items = items.iter();
                            let program = items.next().map(|program| self.value(program));
                            let rest = items.map(|item| self.blotted(item)).collect::<Vec<_>>();
                            program.into_iter().chain(rest).collect()
                        }
                        (false, field) => self.value(field),
                    };
                    (self.text(name), field)
                });
                Value::Object(redacted.collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// Takes out what stands behind the program in commands.
    fn arguments(&mut self, text: &str, command: &Regex) -> String {
        let argument = |text: &str| text.trim_matches(|c: char| c == '\\' || c == '"').to_owned();
        let mut out = String::with_capacity(text.len());
        let mut last = 0;
        for found in command.captures_iter(text) {
            let Some(list) = found.get(2) else { continue };
            out.push_str(&text[last..list.start()]);
            for item in list.as_str().split_inclusive(',') {
                let (kept, comma) = match item.strip_suffix(',') {
                    Some(kept) => (kept, ","),
                    None => (item, ""),
                };
                let inner = argument(kept.trim());
                match inner.is_empty() {
                    true => out.push_str(kept),
                    false => {
                        let placeholder = self.placeholder(What::Secret, &inner);
                        out.push_str(&kept.replace(&inner, &placeholder));
                    }
                }
                out.push_str(comma);
            }
            last = list.end();
        }
        out.push_str(&text[last..]);
        out
    }

    fn blotted(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) if text.is_empty() => Value::String(String::new()),
            Value::String(text) => Value::String(self.placeholder(What::Secret, text)),
            Value::Array(items) => items.iter().map(|item| self.blotted(item)).collect(),
            Value::Object(fields) => {
                let blotted =
                    fields.iter().map(|(name, field)| (self.text(name), self.blotted(field)));
                Value::Object(blotted.collect())
            }
            Value::Number(number) => {
                Value::String(self.placeholder(What::Secret, &number.to_string()))
            }
            Value::Null | Value::Bool(_) => value.clone(),
        }
    }

    /// Lines of JSON, each redacted as a value; lines that are none, as text.
    pub(crate) fn lines(&mut self, text: &str) -> String {
        // A secret may go over several lines that are no JSON, so those in a row are one text.
        let mut redacted = String::with_capacity(text.len());
        let mut plain = String::new();
        for line in text.lines() {
            match serde_json::from_str::<Value>(line) {
                Ok(value @ (Value::Object(_) | Value::Array(_))) => {
                    redacted.push_str(&self.text(&std::mem::take(&mut plain)));
                    redacted.push_str(&self.value(&value).to_string());
                    redacted.push('\n');
                }
                _ => {
                    plain.push_str(line);
                    plain.push('\n');
                }
            }
        }
        redacted.push_str(&self.text(&plain));
        redacted
    }

    /// `text`, redacted. The order of the rules matters: each sees what those before it left.
    pub(crate) fn text(&mut self, text: &str) -> String {
        if self.short_names.contains(&text.to_lowercase()) {
            return self.placeholder(What::Host, text);
        }
        let rules = self.rules;
        let text = self.replaced(text, &rules.pem, 0, What::Pem);
        let text = self.replaced(&text, &rules.token, 0, What::Secret);
        let text = self.userinfo(&text, &rules.userinfo);
        let text = self.replaced(&text, &rules.header, 2, What::Secret);
        let text = self.replaced(&text, &rules.bearer, 2, What::Secret);
        let text = self.assignments(&text, rules);
        let text = self.arguments(&text, &rules.command);
        let text = self.replaced(&text, &rules.flag, 2, What::Secret);
        let text = self.replaced(&text, &rules.unix_identity, 2, What::User);
        let text = self.tls_identities(&text, &rules.tls_identity);
        let text = self.replaced(&text, &rules.subject, 2, What::User);
        let text = self.emails(&text, rules);
        let text = self.replaced(&text, &rules.home, 2, What::User);
        let text = self.known_names(&text);
        let text = self.replaced(&text, &rules.mac, 0, What::Mac);
        let text = self.addresses(&text, rules);
        let text = self.replaced(&text, &rules.url_host, 2, What::Host);
        let text = self.replaced(&text, &rules.domain, 0, What::Host);
        let text = self.replaced(&text, &rules.host_field, 2, What::Host);
        let text = self.replaced(&text, &rules.host_port, 1, What::Host);
        self.blobs(&text, &rules.blob)
    }

    fn placeholder(&mut self, what: What, text: &str) -> String {
        // What is a placeholder already keeps its number.
        if self.rules.placeholder.is_match(text) {
            return text.to_owned();
        }
        let key = text.to_lowercase();
        if is_common(&key) && what != What::Secret {
            return text.to_owned();
        }
        if let Some(known) = self.placeholders.get(&key) {
            return known.clone();
        }
        let count = self.counts.entry(what).or_default();
        *count += 1;
        let placeholder = format!("{}-{count}", what.name());
        self.placeholders.insert(key, placeholder.clone());
        placeholder
    }

    /// Replaces group `group` of each match.
    fn replaced(&mut self, text: &str, rule: &Regex, group: usize, what: What) -> String {
        rule.replace_all(text, |captures: &regex::Captures<'_>| {
            let (all, part) = (captures.get(0), captures.get(group));
            let (Some(all), Some(part)) = (all, part) else { return String::new() };
            let before = &text[all.start()..part.start()];
            let after = &text[part.end()..all.end()];
            format!("{before}{}{after}", self.placeholder(what, part.as_str()))
        })
        .into_owned()
    }

    /// `scheme://user:password@`.
    fn userinfo(&mut self, text: &str, rule: &Regex) -> String {
        rule.replace_all(text, |captures: &regex::Captures<'_>| {
            let user = self.placeholder(What::User, &captures[2]);
            let password = captures.get(3).map_or_else(String::new, |password| {
                format!(":{}", self.placeholder(What::Secret, password.as_str()))
            });
            format!("{}{user}{password}@", &captures[1])
        })
        .into_owned()
    }

    /// What stands before the host of a URL and was replaced already is no mailbox.
    fn emails(&mut self, text: &str, rules: &Rules) -> String {
        rules
            .email
            .replace_all(text, |captures: &regex::Captures<'_>| match captures[0].split_once('@') {
                Some((mailbox, _)) if rules.placeholder.is_match(mailbox) => captures[0].to_owned(),
                _ => self.placeholder(What::Email, &captures[0]),
            })
            .into_owned()
    }

    /// `name = value` and `"name": "value"` where the name is that of a secret.
    fn assignments(&mut self, text: &str, rules: &Rules) -> String {
        rules
            .assignment
            .replace_all(text, |captures: &regex::Captures<'_>| {
                let name = &captures[1];
                let value = (3..=6).find_map(|group| captures.get(group));
                let Some(value) = value.filter(|_| rules.names_a_secret(name)) else {
                    return captures[0].to_owned();
                };
                let quote = match (captures.get(3), captures.get(4), captures.get(5)) {
                    (Some(_), _, _) => "\\\"",
                    (_, Some(_), _) => "\"",
                    (_, _, Some(_)) => "'",
                    _ => "",
                };
                let secret = match value.as_str() {
                    "" => String::new(),
                    value => self.placeholder(What::Secret, value),
                };
                format!("{name}{}{quote}{secret}{quote}", &captures[2])
            })
            .into_owned()
    }

    /// `genesis://fleet/role/name`.
    fn tls_identities(&mut self, text: &str, rule: &Regex) -> String {
        rule.replace_all(text, |captures: &regex::Captures<'_>| {
            let what = if &captures[2] == "agent" { What::Host } else { What::User };
            format!("{}{}/{}", &captures[1], &captures[2], self.placeholder(what, &captures[3]))
        })
        .into_owned()
    }

    /// IPv6, then IPv4. Those that every host has stay.
    fn addresses(&mut self, text: &str, rules: &Rules) -> String {
        let whole = text;
        let text = rules.ipv6.replace_all(text, |captures: &regex::Captures<'_>| {
            let all = &captures[0];
            let address = all.trim_end_matches([':', '.']);
            let start = captures.get(0).map_or(0, |found| found.start());
            match address.parse::<std::net::Ipv6Addr>() {
                Ok(ip) if ip.is_loopback() || ip.is_unspecified() => all.to_owned(),
                Ok(_) if is_part_of_path(whole, start, address) => all.to_owned(),
                Ok(_) => {
                    format!("{}{}", self.placeholder(What::Ip, address), &all[address.len()..])
                }
                Err(_) => all.to_owned(),
            }
        });
        let rule = &rules.ipv4;
        rule.replace_all(&text, |captures: &regex::Captures<'_>| {
            let address = &captures[0];
            match address.parse::<std::net::Ipv4Addr>() {
                Ok(ip) if ip.is_loopback() || ip.is_unspecified() => address.to_owned(),
                _ => self.placeholder(What::Ip, address),
            }
        })
        .into_owned()
    }

    /// Long base64 and hex.
    fn blobs(&mut self, text: &str, rule: &Regex) -> String {
        rule.replace_all(text, |captures: &regex::Captures<'_>| {
            let blob = &captures[0];
            if self.kept.contains(blob) || is_path(blob) {
                return blob.to_owned();
            }
            self.placeholder(What::Secret, blob)
        })
        .into_owned()
    }
}

/// Whether what could be an address is part of a path such as `agent::emergency`: it goes on in letters, and
/// has no digit.
fn is_part_of_path(text: &str, start: usize, address: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let before = text[..start].chars().next_back();
    let after = text[start + address.len()..].chars().next();
    (inside(before) || inside(after)) && !address.bytes().any(|byte| byte.is_ascii_digit())
}

/// Whether a long run of letters, digits and slashes is a path rather than base64: none of its parts is long
/// itself, or has capitals, small letters and digits at once.
fn is_path(blob: &str) -> bool {
    blob.contains('/')
        && blob.split('/').all(|part| {
            let has = |kind: fn(&u8) -> bool| part.as_bytes().iter().any(kind);
            let mixed = has(u8::is_ascii_uppercase)
                && has(u8::is_ascii_lowercase)
                && has(u8::is_ascii_digit);
            part.len() < SECRET_LENGTH && !mixed
        })
}
